//! Imports point down only: model < wire < engine < io < daemon < the binaries. The layers below `io` touch no clock,
//! no file system, no socket and no randomness, so that the simulator can replay them.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. The command lines stand above `io`: the daemon's, and the client's with its answers.
const LAYERS: [&str; 8] = ["model", "wire", "engine", "io", "options", "client", "cli", "daemon"];
/// What the three lowest layers may not name.
const WORLDLY: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime",
    "HashMap",
    "HashSet",
    "tokio",
    "rustix",
    "getrandom",
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).expect("a folder of sources").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// The file's layer, by its first component below `src`; `None` for the binaries and `lib.rs`, which may import all.
fn layer_of(path: &Path) -> Option<usize> {
    let below = path.strip_prefix(src()).expect("a file below src");
    let first = below.components().next().expect("a name").as_os_str().to_str().expect("plain text");
    LAYERS.iter().position(|&layer| layer == first.trim_end_matches(".rs"))
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The lines that are compiled into the program: no comments, and nothing from the tests on.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("a readable source");
    let lines = text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
    let uncommented = lines.map(|(number, line)| (number + 1, line.split("//").next().unwrap_or(line).to_owned()));
    uncommented.collect()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

#[test]
fn imports_point_down_only() {
    for path in sources(&src()).iter().filter(|path| !is_test(path)) {
        let Some(layer) = layer_of(path) else { continue };
        for (number, line) in code(path) {
            for above in &LAYERS[layer + 1..] {
                let imports = line.contains(&format!("crate::{above}"));
                assert!(!imports, "{}:{number}: {} may not import {above}", path.display(), LAYERS[layer]);
            }
        }
    }
}

#[test]
fn what_decides_touches_nothing_of_the_world() {
    let engine = LAYERS.iter().position(|&layer| layer == "engine").expect("a layer");
    let decides = |path: &&PathBuf| layer_of(path).is_some_and(|layer| layer <= engine) && !is_test(path);
    for path in sources(&src()).iter().filter(decides) {
        for (number, line) in code(path) {
            let named = WORLDLY.iter().find(|word| line.contains(**word));
            assert_eq!(named, None, "{}:{number}: {}", path.display(), line.trim());
        }
    }
}

#[test]
fn every_source_says_what_it_is_for() {
    for path in sources(&src()).iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).expect("a readable source");
        assert!(text.starts_with("//! "), "{} begins without //!", path.display());
    }
}
