//! The pages and the program say the same: options, commands, crates, paths, and the tests behind each promise.
//!
//! Deliberately not here: judging the prose.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(top().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Every file below `dir` with this ending.
fn files_below(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let list = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found = Vec::new();
    for path in list.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found
}

/// What stands between backquotes on a page, outside of code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The lines of a page from this heading to the next.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no '{heading}'"));
    rest.split("\n## ").next().unwrap_or(rest)
}

fn help(binary: &str) -> String {
    let out = Command::new(binary).arg("--help").output().expect("it starts");
    assert!(out.status.success(), "{binary} --help fails");
    String::from_utf8(out.stdout).expect("plain text")
}

/// The words of a text that begin with `--`.
fn long_options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    let begins = |(at, _): &(usize, &str)| !text[..*at].ends_with(is_part);
    text.match_indices("--")
        .filter(begins)
        .map(|(at, _)| text[at..].chars().take_while(|&c| is_part(c)).collect::<String>())
        .filter(|word| word.len() > 3)
        .collect()
}

#[test]
fn the_page_of_options_names_every_option_of_dirsyncd_and_no_other() {
    // Only the first word of a help line is an option; its explanation may name others.
    let help = help(env!("CARGO_BIN_EXE_dirsyncd"));
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let heads: Vec<&str> = lines.map(|line| line.split("  ").next().unwrap_or(line)).collect();
    let mut real = long_options(&heads.join("\n"));
    real.remove("--help");
    real.remove("--version");
    let page = page("docs/operating.md");
    let rows = section(&page, "## Options").lines().filter(|line| line.starts_with("| `-"));
    let firsts: Vec<&str> = rows.map(|row| row.split('|').nth(1).unwrap_or_default()).collect();
    assert_eq!(long_options(&firsts.join("\n")), real);
}

#[test]
fn the_page_of_commands_names_every_command_of_dirsync_and_no_other() {
    let help = help(env!("CARGO_BIN_EXE_dirsync"));
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let commands = commands.lines().take_while(|line| line.starts_with("  "));
    // Deeper lines go on with an explanation.
    let real: BTreeSet<&str> = commands
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|&name| name != "help")
        .collect();
    let page = page("docs/usage.md");
    let rows = section(&page, "## Commands").lines().filter(|line| line.starts_with("| `"));
    let firsts = rows.filter_map(|row| row.split('|').nth(1));
    let named: BTreeSet<&str> = firsts.flat_map(quoted).filter(|&name| name != "dirsync").collect();
    assert_eq!(named, real);
}

#[test]
fn the_page_of_dependencies_names_every_crate_and_no_other() {
    let manifest = page("Cargo.toml");
    let mut crates = BTreeSet::new();
    let mut here = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            here = matches!(line, "[dependencies]" | "[dev-dependencies]" | "[build-dependencies]");
        } else if let (true, Some((name, _))) = (here, line.split_once(" = ")) {
            crates.insert(name.to_owned());
        }
    }
    let page = page("docs/dependencies.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let named: BTreeSet<String> = rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    assert_eq!(named, crates);
}

#[test]
fn every_path_that_a_page_names_exists() {
    let ours = ["src/", "tests/", "docs/", "systemd/", "benches/", "fuzz/", ".ci/"];
    let mut pages = files_below(&top().join("docs"), "md");
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| top().join(name)));
    for page in pages {
        let text = fs::read_to_string(&page).expect("readable");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let local = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        for link in local {
            let target = page.parent().expect("a folder").join(link.split('#').next().unwrap_or(link));
            assert!(target.exists(), "{} links to {link}", page.display());
        }
        for word in quoted(&text) {
            let is_path = ours.iter().any(|start| word.starts_with(start)) && !word.contains([' ', '*', '{', '<']);
            let file = word.split("::").next().unwrap_or(word);
            assert!(!is_path || top().join(file).exists(), "{} names {word}", page.display());
        }
    }
}

#[test]
fn each_promise_names_tests_that_exist() {
    let mut sources = files_below(&top().join("src"), "rs");
    sources.extend(files_below(&top().join("tests"), "rs"));
    let code: Vec<String> = sources.iter().map(|path| fs::read_to_string(path).expect("readable")).collect();
    let text = page("docs/promises.md");
    for number in 1..=9 {
        let promise = text.split("\n## ").find(|part| part.starts_with(&format!("P{number} ")));
        let promise = promise.unwrap_or_else(|| panic!("P{number} is not there"));
        let rows = promise.lines().filter_map(|line| line.strip_prefix("- `"));
        let tests: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        assert!(!tests.is_empty(), "P{number} names no test");
        for test in tests {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap_or(test));
            assert!(code.iter().any(|file| file.contains(&function)), "P{number} names {test}");
        }
    }
}

#[test]
fn the_two_licences_of_the_manifest_are_here() {
    assert!(page("Cargo.toml").contains("MIT OR Apache-2.0"));
    assert!(page("LICENSE-MIT").starts_with("MIT License"));
    assert!(page("LICENSE-APACHE").contains("Apache License"));
}
