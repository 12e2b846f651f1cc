//! What programs do to a tree in everyday work, with the real ones: nothing of it is held back, and
//! nobody has to answer (P8).
//!
//! `git` is in `mass.rs`. Deliberately not here: what the guard decides by itself
//! (`engine/guard_tests/rhythms.rs`).

use crate::common::disk::{path_text, run};
use crate::common::machine::{find_line, text_of};
use crate::common::{Machine, Tree, converge, noise, set_mtime, write};
use crate::mass::old_pair_with;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: u64 = 300;
const PACKAGES: u64 = 100;
const FILES_A_PACKAGE: u64 = 15;
/// As old as the release that an archive was made of.
const RELEASED: i64 = 1_700_000_000;

/// Both hold the same and call that "in sync", without a conflict, and nothing was held at either
/// at any time.
fn in_sync_and_never_held(machines: [&Machine; 2]) -> Tree {
    let tree = in_sync(machines);
    for machine in machines {
        assert_eq!(find_line(&machine.log(), &["held back:"]), None, "{}", machine.name);
    }
    tree
}

fn in_sync(machines: [&Machine; 2]) -> Tree {
    let tree = converge(&machines);
    for machine in machines {
        let held = machine.json(&["held"]).expect("a list");
        assert!(held["held"].as_array().is_some_and(Vec::is_empty), "{}: {held}", machine.name);
        let conflicts = machine.cli(&["conflicts"]);
        assert!(text_of(&conflicts).contains("no conflict waits"), "{}: {}", machine.name, text_of(&conflicts));
        let status = machine.cli(&["status", "--check"]);
        assert!(status.status.success(), "{}: {}", machine.name, text_of(&status));
        let peers = machine.json(&["peers"]).expect("a list");
        assert_eq!(peers[0]["state"], "in sync", "{}", machine.name);
    }
    tree
}

fn source(n: u64) -> String {
    format!("src/module{}/part{n}.c", n % 20)
}

/// A release of a source tree: its number says what the files of `changed` hold.
fn unpacked(dir: &Path, release: u64, changed: impl Fn(u64) -> bool) {
    for n in 0..FILES {
        let seed = if changed(n) { release * 10_000 + n } else { n };
        let file = dir.join(source(n));
        write(&file, noise(seed, 500 + 37 * n as usize));
        set_mtime(&file, RELEASED + release as i64 * 100_000, 0);
    }
}

/// An archive that real `tar` made of such a tree.
fn packed(machine: &Machine, name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let (tree, archive) = (machine.home.join(name), machine.home.join(format!("{name}.tar.gz")));
    fill(&tree);
    run("tar", &["-C", path_text(&tree), "-czf", path_text(&archive), "."]);
    archive
}

fn unpack(archive: &Path, into: &Path) {
    run("tar", &["-C", path_text(into), "-xzf", path_text(archive)]);
}

#[test]
fn an_archive_of_an_older_release_that_tar_unpacks_over_the_tree_needs_nobody() {
    let (a, b) = old_pair_with(|a| {
        unpacked(&a.dir, 2, |n| n % 3 == 0);
        write(a.at("src/only-in-2.c"), "new");
    });
    let older = packed(&a, "release-1", |tree| {
        unpacked(tree, 1, |n| n % 3 == 0);
        (0..15).for_each(|n| write(tree.join(format!("old/f{n}")), noise(900 + n, 700)));
    });
    unpack(&older, &a.dir);
    let tree = in_sync_and_never_held([&a, &b]);
    assert_eq!(tree.files() as u64, FILES + 1 + 15);
    assert_eq!(fs::read(b.at(&source(3))).expect("it is there"), noise(10_003, 500 + 37 * 3));
}

#[test]
fn an_archive_of_nearly_the_same_tree_that_tar_unpacks_over_it_sends_what_differs_alone() {
    let (a, b) = old_pair_with(|a| unpacked(&a.dir, 1, |_| false));
    let newer = packed(&a, "release-2", |tree| unpacked(tree, 2, |n| n % 25 == 0));
    let before = a.wire_bytes();
    // At the one, and once more at the other: each file is made anew, and most hold what they held.
    for machine in [&a, &b] {
        unpack(&newer, &machine.dir);
        let tree = in_sync_and_never_held([&a, &b]);
        assert_eq!(tree.files() as u64, FILES);
    }
    assert_eq!(fs::read(b.at(&source(25))).expect("it is there"), noise(20_025, 500 + 37 * 25));
    let contents: u64 = (0..FILES).map(|n| 500 + 37 * n).sum();
    let sent = a.wire_bytes().0 - before.0;
    assert!(sent < contents / 2, "{sent} bytes for a twenty-fifth of {contents}");
}

/// What `npm install` does, as far as the folder sees it: packages are unpacked into a folder of
/// their own in `node_modules` and renamed into their places, links to their programs are made, and
/// two lists are written. A script does it, for `npm` itself would need a registry.
const INSTALL: &str = r#"
set -e
cd "$1"
rm -rf node_modules
mkdir -p node_modules/.staging node_modules/.bin
tar -xzf "$2" -C node_modules/.staging
for package in node_modules/.staging/*; do
  name=${package##*/}
  mv "$package" "node_modules/$name"
  ln -s "../$name/cli.js" "node_modules/.bin/$name"
done
rmdir node_modules/.staging
ls node_modules > node_modules/.package-lock.json
ls node_modules > package-lock.json.tmp
mv package-lock.json.tmp package-lock.json
"#;

fn npm_install(machine: &Machine, packages: &Path) {
    run("sh", &["-c", INSTALL, "npm", path_text(&machine.dir), path_text(packages)]);
}

/// Packages as a registry has them; every `every`th is of this version.
fn registry(machine: &Machine, version: u64, every: u64) -> PathBuf {
    packed(machine, &format!("registry-{version}"), |tree| {
        for package in 0..PACKAGES {
            let dir = tree.join(format!("package{package}"));
            let version = if package % every == 0 { version } else { 0 };
            for n in 0..FILES_A_PACKAGE - 1 {
                let seed = (version * PACKAGES + package) * FILES_A_PACKAGE + n;
                write(dir.join(format!("lib/f{n}.js")), noise(seed, 300 + 50 * n as usize));
            }
            write(dir.join("cli.js"), format!("#!/usr/bin/env node\n// {package} {version}\n"));
            crate::common::disk::chmod(dir.join("cli.js"), 0o755);
        }
    })
}

/// Installs the same packages again, and then some newer ones.
fn installs_again(a: &Machine) -> [PathBuf; 2] {
    [registry(a, 1, 1), registry(a, 2, 10)]
}

#[test]
fn node_modules_that_are_removed_and_installed_anew_beside_larger_sources_are_never_held() {
    let (a, b) = old_pair_with(|a| {
        (0..100).for_each(|n| write(a.at(&source(n)), noise(n, 40_000)));
        npm_install(a, &registry(a, 1, 1));
    });
    for packages in installs_again(&a) {
        npm_install(&a, &packages);
        let tree = in_sync_and_never_held([&a, &b]);
        assert_eq!(tree.files() as u64, 100 + PACKAGES * FILES_A_PACKAGE + 2);
        assert!(tree.has("node_modules/.bin/package7") && !tree.has("node_modules/.staging"));
    }
}

#[test]
fn node_modules_that_are_nearly_all_there_is_are_removed_and_installed_anew_without_an_answer() {
    let (a, b) = old_pair_with(|a| {
        write(a.at("index.js"), "require('package7')");
        npm_install(a, &registry(a, 1, 1));
    });
    for packages in installs_again(&a) {
        npm_install(&a, &packages);
        // While most of the folder is gone that may be a disaster; what came back ends it, and the
        // other machine never held.
        let tree = in_sync([&a, &b]);
        assert_eq!(tree.files() as u64, 1 + PACKAGES * FILES_A_PACKAGE + 2);
        assert_eq!(find_line(&b.log(), &["held back:"]), None, "b");
    }
}
