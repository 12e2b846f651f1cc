//! Real programs that write many files in their own ways: rsync, tar, git. Each machine has folders
//! of its own for them.

use crate::common::disk::{path_text, run};
use crate::common::{Machine, Tree};
use crate::hands::{Hands, numbered};
use crate::ledger::{Ledger, Taken};
use std::fs;

/// Files that such a program writes at once.
const FILES: u64 = 8;

/// Whether a path is no value of the ledger's: git keeps account of its own.
pub fn is_foreign(path: &str) -> bool {
    path.starts_with("git-")
}

impl Hands {
    /// `rsync -a` replaces each file by a temporary one.
    pub fn rsync(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        let name = format!("rsync-{}", self.who);
        let source = self.renew(&name, bytes, ledger);
        let target = self.at(&name);
        // By content: of two files of one size that were written in one second it would leave the
        // older there.
        run("rsync", &["-ac", &format!("{source}/"), path_text(&target)]);
    }

    /// `tar -x` removes each file, makes it anew, and gives it the old mtime that the archive has.
    pub fn tar(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        let name = format!("tar-{}", self.who);
        let source = self.renew(&name, bytes, ledger);
        let archive = self.scratch.join("archive.tar");
        run("tar", &["-c", "--mtime=@1000000000", "-f", path_text(&archive), "-C", &source, "."]);
        fs::create_dir_all(self.at(&name)).expect("a folder of our own");
        run("tar", &["-x", "-f", path_text(&archive), "-C", path_text(&self.at(&name))]);
    }

    /// New values for every third file of a folder that only this user writes; those that it had
    /// are done away with.
    fn renew(&self, name: &str, bytes: &[u8], ledger: &mut Ledger) -> String {
        let source = self.scratch.join(name);
        let rest = bytes.len() as u64 % 3;
        for n in (0..FILES).filter(|n| n % 3 == rest) {
            let (path, bytes) = (format!("s{}/f{n}", n % 2), numbered(bytes, n));
            fs::create_dir_all(source.join(format!("s{}", n % 2))).expect("our own scratch");
            if let Ok(old) = fs::read(source.join(&path)) {
                ledger.did_away(&old, &format!("{name}/{path}"), Taken::Replaced);
            }
            fs::write(source.join(&path), &bytes).expect("our own scratch");
            ledger.wrote(&bytes, &format!("{name}/{path}"), &self.who);
        }
        path_text(&source).to_owned()
    }

    pub fn git(&mut self, bytes: &[u8]) {
        let folder = self.at(&format!("git-{}", self.who));
        if !folder.exists() {
            fs::create_dir_all(&folder).expect("a folder of our own");
            git(path_text(&folder), &["init", "-q"]);
        }
        for n in 0..FILES {
            fs::write(folder.join(format!("f{n}")), numbered(bytes, n)).expect("a folder of our own");
        }
        git(path_text(&folder), &["add", "-A"]);
        git(path_text(&folder), &["commit", "-q", "-m", "work"]);
    }
}

/// Every machine holds each repository whole, and at the same commit.
pub fn check_repositories(tree: &Tree, machines: &[Machine]) {
    for owner in machines.iter().map(|machine| format!("git-{}", machine.name)) {
        if !tree.has(&owner) {
            continue;
        }
        for machine in machines {
            let folder = machine.at(&owner);
            git(path_text(&folder), &["fsck", "--strict"]);
            let status = git(path_text(&folder), &["status", "--porcelain"]);
            assert_eq!(status, "", "{owner} at {}", machine.name);
        }
    }
}

fn git(folder: &str, args: &[&str]) -> String {
    let fixed = ["-c", "user.name=u", "-c", "user.email=u@h", "-c", "gc.auto=0", "-c", "safe.directory=*"];
    run("git", &[&["-C", folder], &fixed[..], args].concat())
}
