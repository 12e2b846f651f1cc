//! The architecture, as a test: imports point down, the engine is pure, files say what they are for and stay short.
//!
//! It reads the sources as text. See `docs/architecture.md` for why.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer with what it may import of this crate, besides itself.
const LAYERS: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("wire", &["model"]),
    ("delta", &["model"]),
    ("engine", &["model", "wire"]),
    ("io", &["model", "wire", "delta", "engine"]),
    ("options", &["model"]),
    ("logging", &["options"]),
    ("daemon", &["model", "wire", "engine", "delta", "io", "options"]),
    ("client", &["model", "io"]),
    ("cli", &["model", "io", "client"]),
    ("bin", &["options", "logging", "daemon", "cli"]),
];

/// What a function of state, event and time has no use for.
const IMPURE: [&str; 12] = [
    "tokio",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "HashMap",
    "HashSet",
    "rand",
];

const MAX_LINES: usize = 700;

#[test]
fn imports_point_down() {
    for (path, text) in sources_but_tests() {
        let layer = layer_of(&path);
        // Tests may speak to both ends.
        if layer == "lib" || path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let (_, allowed) =
            LAYERS.iter().find(|(name, _)| *name == layer).unwrap_or_else(|| panic!("no layer: {path:?}"));
        for (number, line) in code_lines(&text) {
            for imported in imports(line) {
                let fine = imported == layer || allowed.contains(&imported) || !is_layer(imported);
                assert!(fine, "{}:{number}: '{layer}' may not import '{imported}': {line}", path.display());
            }
        }
    }
}

#[test]
fn the_engine_and_the_values_are_pure() {
    for (path, text) in sources_but_tests() {
        if !["model", "engine", "wire"].contains(&layer_of(&path).as_str()) {
            continue;
        }
        // The bytes of the protocol may be read and written with `std::io`'s traits.
        let impure = IMPURE.iter().filter(|word| !(layer_of(&path) == "wire" && **word == "std::io"));
        for word in impure {
            for (number, line) in code_lines(&text) {
                assert!(!has_word(line, word), "{}:{number}: '{word}' has no place here: {line}", path.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not begin with what it is for (//!)", path.display());
        let lines = text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines, more than {MAX_LINES}: give one of its ideas a file",
            path.display()
        );
    }
}

#[test]
fn the_words_that_this_test_looks_for_are_found() {
    assert_eq!(imports("use crate::engine::{Action, Event};").collect::<Vec<_>>(), ["engine"]);
    assert_eq!(imports("    crate::io::x(crate::wire::y)").collect::<Vec<_>>(), ["io", "wire"]);
    assert_eq!(imports("use dirsyncd::cli::run;").collect::<Vec<_>>(), ["cli"]);
    assert_eq!(imports("use crate::{io, model};").collect::<Vec<_>>(), ["io", "model"]);
    assert!(has_word("let now = Instant::now();", "Instant") && !has_word("Instantly", "Instant"));
    assert!(!has_word("let operand = 1;", "rand"));
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    assert!(found.len() > 20, "the sources are where this test looks");
    found
}

/// Tests may reach up: one of the socket needs the client, one of the engine a clock.
fn sources_but_tests() -> impl Iterator<Item = (PathBuf, String)> {
    let is_tests = |path: &Path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    sources().into_iter().filter(move |(path, _)| !is_tests(path))
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for child in fs::read_dir(dir).expect("tests run in the crate's folder") {
        let path = child.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            found.push((path, text));
        }
    }
}

/// The first component below `src`, without its ending.
fn layer_of(path: &Path) -> String {
    let name = path.components().nth(1).expect("below src").as_os_str().to_string_lossy().into_owned();
    name.trim_end_matches(".rs").to_owned()
}

fn is_layer(name: &str) -> bool {
    LAYERS.iter().any(|(layer, _)| *layer == name)
}

/// Lines of code that is not in a test module or a comment, with their numbers. Tests stand at the end of a file, or
/// in files of their own.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"));
    lines.map(|(n, line)| (n + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The modules of this crate that a line names.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let after = line.match_indices("crate::").map(|(at, word)| &line[at + word.len()..]);
    let after = after.chain(line.trim_start().strip_prefix("use dirsyncd::"));
    after
        .flat_map(|rest| {
            let group = rest.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or(rest));
            group.unwrap_or(rest).split(", ").take(if group.is_some() { usize::MAX } else { 1 })
        })
        .map(|name| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next()))
}
