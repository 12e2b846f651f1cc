//! The pages and the program say the same: options, commands, crates, paths, and the tests behind
//! each promise. Links lead somewhere, lines end at 100 columns, and two pages stay short.
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

/// Every page of the repository.
fn pages() -> Vec<PathBuf> {
    let list = fs::read_dir(top()).expect("the repository");
    let mut pages: Vec<PathBuf> = list.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|path| path.is_file() && path.extension().is_some_and(|e| e == "md"));
    for folder in ["docs", "src", "tests", "benches", "fuzz", "systemd"] {
        pages.extend(files_below(&top().join(folder), "md"));
    }
    pages
}

/// The lines of a page that are not in a code block, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().zip(1..).map(|(line, number)| (number, line)).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What stands between backquotes on a page, outside of code blocks.
fn quoted(text: &str) -> Vec<&str> {
    prose(text).flat_map(|(_, line)| line.split('`').skip(1).step_by(2)).collect()
}

/// A heading as links name it: lower case, without punctuation, hyphens for spaces.
fn slug(heading: &str) -> String {
    let lower = heading.trim().to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The sections of a page, as links name them. A heading that comes again is counted.
fn sections(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let name = slug(line.trim_start_matches('#'));
        let mut numbered = (1..).map(|n| format!("{name}-{n}"));
        let is_new = found.insert(name.clone());
        if !is_new && let Some(free) = numbered.find(|name| !found.contains(name)) {
            found.insert(free);
        }
    }
    found
}

/// Whether the line has no place before the 100th column at which it could end: it is one long word
/// or one long piece of code, behind its list mark or its indentation.
fn is_one_word(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches(['-', '*']).trim_start();
    let indent = line.chars().count() - text.chars().count();
    let mut is_code = false;
    !text.chars().take(100 - indent.min(100)).any(|c| {
        is_code ^= c == '`';
        c == ' ' && !is_code
    })
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

/// What `cargo deny` checks with more care: here without it, and without a network.
#[test]
fn each_crate_has_a_licence_that_the_rules_for_packages_allow() {
    let rules = page("packaging/deny.toml");
    let words: BTreeSet<&str> =
        rules.lines().filter(|line| !line.starts_with('#')).flat_map(|l| l.split('"')).collect();
    let target = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let mut cargo = Command::new(env!("CARGO"));
    let cargo = cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]).args(target);
    let out = cargo.current_dir(top()).output().expect("cargo");
    let known: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo metadata");
    let used: BTreeSet<&str> =
        known["resolve"]["nodes"].as_array().expect("nodes").iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = known["packages"].as_array().expect("packages");
    let packages = packages.iter().filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id)));
    let mut met = 0;
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        let is_free = |one: &str| one.split(" AND ").all(|word| words.contains(word.trim_matches(['(', ')', ' '])));
        // "MIT/Apache-2.0" is how it was written before.
        assert!(licence.replace('/', " OR ").split(" OR ").any(is_free), "{}: {licence}", package["name"]);
        met += 1;
    }
    assert!(met > 200, "{met} crates");
}

#[test]
fn every_path_that_a_page_names_exists() {
    let ours = ["src/", "tests/", "docs/", "systemd/", "packaging/", "benches/", "fuzz/", ".ci/"];
    for page in pages() {
        let text = fs::read_to_string(&page).expect("readable");
        for word in quoted(&text) {
            let is_path = ours.iter().any(|start| word.starts_with(start)) && !word.contains([' ', '*', '{', '<']);
            let file = word.split([':', '#']).next().unwrap_or(word);
            assert!(!is_path || top().join(file).exists(), "{} names {word}", page.display());
        }
    }
}

/// `Event::Hint`, `Engine::handle`: the file that defines the type has the name.
#[test]
fn every_part_of_a_type_that_a_page_names_exists() {
    let code: Vec<String> =
        files_below(&top().join("src"), "rs").iter().map(|file| fs::read_to_string(file).expect("readable")).collect();
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("readable");
        for word in quoted(&text).into_iter().filter(|word| word.starts_with(char::is_uppercase)) {
            let Some((kind, part)) = word.split_once("::") else { continue };
            let part: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let defines = |code: &&String| {
                ["enum", "struct", "trait"].iter().any(|what| {
                    let line = format!("{what} {kind}");
                    code.match_indices(&line).any(|(at, _)| !code[at + line.len()..].starts_with(char::is_alphanumeric))
                })
            };
            let is_there = code.iter().filter(defines).any(|code| has_identifier(code, &part));
            assert!(is_there, "{} names {word}", page.display());
            named += 1;
        }
    }
    assert!(named > 0, "pages name parts of types");
}

fn has_identifier(code: &str, name: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

/// Files that only name what is in a room.
const ROOMS: [&str; 10] = [
    "fs.rs",
    "net.rs",
    "store.rs",
    "mod.rs",
    "api.rs",
    "observe.rs",
    "reconcile.rs",
    "peers.rs",
    "transfer.rs",
    "safety.rs",
];

#[test]
fn the_code_map_names_each_file_of_the_engine_and_of_io_and_no_other() {
    let page = page("docs/architecture.md");
    let maps =
        [("## Code map: the engine", "src/engine"), ("## Code map: io", "src/io"), ("## Code map: the rest", "src")];
    for (heading, folder) in maps {
        let rows = section(&page, heading).lines().filter(|line| line.starts_with("| `"));
        let named: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).flat_map(quoted).collect();
        for name in &named {
            assert!(top().join(folder).join(name).exists(), "the code map names {folder}/{name}");
        }
        let folder = top().join(folder);
        for path in files_below(&folder, "rs") {
            let below = path.strip_prefix(&folder).expect("it is in there").to_string_lossy().into_owned();
            // What is in `x/` goes with `x.rs`.
            let is_named = |name: &&str| {
                let folder = format!("{}/", name.trim_end_matches(".rs").trim_end_matches('/'));
                *name == below || below.starts_with(&folder)
            };
            let is_elsewhere = below.contains("tests") || folder.ends_with("src");
            let is_room = ROOMS.contains(&&*below);
            assert!(is_elsewhere || is_room || named.iter().any(is_named), "the code map lacks {below}");
        }
    }
}

#[test]
fn each_section_of_the_design_names_the_files_that_hold_its_rules() {
    let text = page("docs/design.md");
    let mut met = 0;
    for part in text.split("\n## ").skip(1) {
        let title = part.lines().next().unwrap_or_default();
        let (_, code) = part.split_once("\nCode: ").unwrap_or_else(|| panic!("'{title}' names no code"));
        assert!(quoted(code).iter().any(|word| word.starts_with("src/")), "'{title}' names no file");
        met += 1;
    }
    assert!(met > 15, "{met} sections");
}

#[test]
fn a_decision_says_what_led_to_it_and_what_follows_and_is_listed() {
    let list = page("docs/decisions/README.md");
    for path in files_below(&top().join("docs/decisions"), "md") {
        let name = path.file_name().expect("a name").to_string_lossy();
        if name == "README.md" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        for heading in ["## Context", "## Decision", "## Consequences"] {
            assert!(!section(&text, heading).trim().is_empty(), "{name} has no '{heading}'");
        }
        assert!(list.contains(&format!("({name})")), "docs/decisions/README.md does not list {name}");
    }
}

#[test]
fn each_row_of_the_history_of_benchmarks_is_whole() {
    let table = page("docs/benchmarks-history.csv");
    let fields = |line: &str| line.split(',').count();
    let mut lines = table.lines();
    let columns = lines.next().map(fields);
    assert!(table.lines().count() > 400 && columns == Some(10));
    for row in lines {
        let value: Option<f64> = row.split(',').nth(7).and_then(|value| value.parse().ok());
        assert!(Some(fields(row)) == columns && value.is_some(), "{row}");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_section_that_exist() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("readable");
        let lines: Vec<&str> = prose(&text).map(|(_, line)| line).collect();
        let text = lines.join("\n");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, name)| (file, Some(name)));
            let target = match file {
                "" => page.clone(),
                _ => page.parent().expect("a folder").join(file),
            };
            let is_section = |name| fs::read_to_string(&target).is_ok_and(|text| sections(&text).contains(name));
            if !target.exists() || !anchor.is_none_or(is_section) {
                dead.push(format!("{} links to {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Code, tables, links, and what has no place to break are as long as they are.
#[test]
fn prose_ends_at_100_columns() {
    let mut long = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("readable");
        for (number, line) in prose(&text).filter(|(_, line)| line.chars().count() > 100) {
            let is_link = line.contains("](") || line.contains("://");
            if !line.starts_with('|') && !is_link && !is_one_word(line) {
                long.push(format!("{}:{number}: {line}", page.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_first_pages_that_people_read_are_short() {
    for name in ["README.md", "docs/architecture.md"] {
        let lines = page(name).lines().count();
        assert!(lines <= 150, "{name} has {lines} lines; what is more belongs on a page of its own");
    }
}

/// What is wrong with a comment that cites the pages, if anything.
fn wrong_citation(comment: &str) -> Option<String> {
    let cited = comment.split(|c: char| c.is_whitespace() || "`(),;'\"".contains(c));
    let is_page = |word: &&str| word.starts_with("docs/") && word.contains(".md");
    let pages: Vec<&str> = cited.map(|word| word.trim_end_matches(['.', ':'])).filter(is_page).collect();
    for cited in &pages {
        let (file, anchor) = cited.split_once('#').map_or((*cited, None), |(file, name)| (file, Some(name)));
        let Ok(text) = fs::read_to_string(top().join(file)) else {
            return Some(format!("cites {file}, which is not there"));
        };
        if let Some(name) = anchor.filter(|name| !sections(&text).contains(*name)) {
            return Some(format!("cites section {name} of {file}, which has none"));
        }
    }
    for (at, _) in comment.match_indices("section ") {
        let rest = &comment[at + "section ".len()..];
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Some("cites a section by its number; the pages have names for theirs".to_owned());
        }
        let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
        let has = |file: &&str| fs::read_to_string(top().join(file)).is_ok_and(|t| sections(&t).contains(&slug(name)));
        if !pages.iter().any(has) {
            return Some(format!("cites the section \"{name}\" of no page that has one"));
        }
    }
    if comment.contains("of the design") && pages.is_empty() {
        return Some("cites the design and no page; name docs/design.md and the section".to_owned());
    }
    let promises = comment.match_indices("(P").filter_map(|(at, _)| comment[at + 2..].split([')', ',', ' ']).next());
    let mut numbers = promises.filter_map(|digits| digits.parse::<u32>().ok());
    numbers.find(|number| !(1..=9).contains(number)).map(|number| format!("cites P{number}, which nobody promised"))
}

#[test]
fn comments_cite_pages_and_sections_that_exist() {
    let folders = ["src", "tests", "benches", "fuzz/fuzz_targets"];
    let mut wrong = Vec::new();
    for path in folders.iter().flat_map(|folder| files_below(&top().join(folder), "rs")) {
        let text = fs::read_to_string(&path).expect("readable");
        for (number, line) in text.lines().zip(1..).map(|(line, number)| (number, line.trim_start())) {
            let cites = line.strip_prefix("//").and_then(wrong_citation);
            wrong.extend(cites.map(|what| format!("{}:{number} {what}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_citation_is_found() {
    for wrong in [
        "See section 2 of the design.",
        "As the rest of the design has it.",
        "See `docs/nowhere.md`.",
        "See docs/promises.md#p11-nothing.",
        "The table of `docs/promises.md`, section \"Nothing\".",
        "No reader sees that (P10).",
    ] {
        assert!(wrong_citation(wrong).is_some(), "{wrong}");
    }
    for right in [
        "See `docs/promises.md`, P3.",
        "(`docs/promises.md#p1-whole`)",
        "`docs/promises.md`, section \"Known gaps\"",
        "An index section (P5)",
        "On P-256 (PKCS8).",
    ] {
        assert_eq!(wrong_citation(right), None, "{right}");
    }
}

#[test]
fn each_promise_names_tests_that_exist() {
    let sources: Vec<_> = ["src", "tests"].map(sources_in).into_iter().flatten().collect();
    let text = page("docs/promises.md");
    for number in 1..=9 {
        let promise = text.split("\n## ").find(|part| part.starts_with(&format!("P{number} ")));
        let promise = promise.unwrap_or_else(|| panic!("P{number} is not there"));
        let rows = promise.lines().filter_map(|line| line.strip_prefix("- `"));
        let tests: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        assert!(!tests.is_empty(), "P{number} names no test");
        for test in tests {
            assert!(sources.iter().any(|(module, code)| has_test(module, code, test)), "P{number} names {test}");
        }
    }
}

#[test]
fn a_test_is_found_by_its_whole_name_alone() {
    let code = "mod tests {\n fn one() {}\n}";
    assert!(has_test("io::fs::root", code, "io::fs::root::tests::one"));
    assert!(has_test("io::fs::root_tests", "fn one() {}", "io::fs::root::tests::one"));
    for wrong in ["io::root::tests::one", "io::fs::root::one::tests", "io::fs::root::tests::two"] {
        assert!(!has_test("io::fs::root", code, wrong), "{wrong}");
    }
}

/// Each file below a folder of the project: its module, and what is in it.
fn sources_in(folder: &str) -> Vec<(String, String)> {
    let folder = top().join(folder);
    let module = |path: &Path| {
        let below = path.strip_prefix(&folder).expect("it is in there").with_extension("");
        let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
        names.into_iter().filter(|name| !["mod", "main", "lib"].contains(&&**name)).collect::<Vec<_>>().join("::")
    };
    let files = files_below(&folder, "rs").into_iter();
    files.map(|path| (module(&path), fs::read_to_string(&path).expect("readable"))).collect()
}

/// Whether a file has the test of that name. The tests of `x.rs` may be in `x_tests.rs`.
fn has_test(module: &str, code: &str, test: &str) -> bool {
    let modules = [module.to_owned(), module.replace("_tests", "::tests")];
    let in_file = modules.iter().find_map(|module| test.strip_prefix(module.as_str())?.strip_prefix("::"));
    let Some(in_file) = in_file else { return false };
    let (inner, function) = in_file.rsplit_once("::").unwrap_or(("", in_file));
    let has_module = |name: &str| name.is_empty() || code.contains(&format!("mod {name} {{"));
    inner.split("::").all(has_module) && code.contains(&format!("fn {function}("))
}

#[test]
fn the_two_licences_of_the_manifest_are_here() {
    assert!(page("Cargo.toml").contains("MIT OR Apache-2.0"));
    assert!(page("LICENSE-MIT").starts_with("MIT License"));
    assert!(page("LICENSE-APACHE").contains("Apache License"));
}
