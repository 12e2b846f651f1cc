//! How editors save, by their system calls.

use crate::hands::Hands;
use crate::ledger::Ledger;
use std::fs::{self, OpenOptions};
use std::io::Write as _;

impl Hands {
    /// Vim with `backupcopy=no`: the old file becomes the backup, the new one is written under its
    /// name, the backup goes.
    pub fn vim(&mut self, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        let backup = format!("{path}~");
        self.delete(&backup, ledger);
        self.move_file(path, &backup, ledger);
        self.create(path, bytes, ledger);
        self.delete(&backup, ledger);
    }

    /// Emacs: a lock that is a dangling link, an autosaved file beside it; the first save makes a
    /// backup, which stays.
    pub fn emacs(&mut self, path: &str, bytes: &[u8], id: u64, ledger: &mut Ledger) {
        let (folder, name) = path.split_once('/').expect("it is in a folder");
        let (lock, saved) = (format!("{folder}/.#{name}.{id}"), format!("{folder}/#{name}.{id}#"));
        self.make_parent(path);
        ledger.fleeting(&lock);
        ledger.fleeting(&saved);
        let _ = std::os::unix::fs::symlink("user@host.123:1700000000", self.at(&lock));
        let _ = fs::write(self.at(&saved), &bytes[..bytes.len() / 2]);
        if fs::symlink_metadata(self.at(&format!("{path}~"))).is_err() {
            self.move_file(path, &format!("{path}~"), ledger);
            self.create(path, bytes, ledger);
        } else {
            self.in_place(path, bytes, ledger);
        }
        let _ = fs::remove_file(self.at(&saved));
        let _ = fs::remove_file(self.at(&lock));
    }

    /// LibreOffice: a lock file, a temporary file, which then takes the document's place.
    pub fn office(&mut self, path: &str, bytes: &[u8], id: u64, ledger: &mut Ledger) {
        let (folder, name) = path.split_once('/').expect("it is in a folder");
        let (lock, next) = (format!("{folder}/.~lock.{name}.{id}#"), format!("{folder}/lu{id}.tmp"));
        self.make_parent(path);
        ledger.fleeting(&lock);
        ledger.fleeting(&next);
        let _ = fs::write(self.at(&lock), "user,host");
        if fs::write(self.at(&next), bytes).is_ok() {
            self.put_within(&next, path, bytes, ledger);
        }
        let _ = fs::remove_file(self.at(&lock));
    }

    /// A name in the folder takes another's place there.
    fn put_within(&mut self, next: &str, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        let out = self.scratch.join("document");
        // Another machine may have removed the folder meanwhile.
        if fs::rename(self.at(next), &out).is_ok() {
            self.put(&out, path, bytes, ledger);
        }
    }

    /// A new file, or the one that someone put there at this moment.
    fn create(&mut self, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        self.make_parent(path);
        let Ok(mut file) = OpenOptions::new().write(true).create_new(true).open(self.at(path)) else {
            return self.in_place(path, bytes, ledger);
        };
        let half = bytes.len() / 2;
        ledger.passed(&bytes[..half]);
        ledger.passed(b"");
        let written = file.write_all(&bytes[..half]).and_then(|()| file.write_all(&bytes[half..]));
        written.and_then(|()| file.sync_all()).expect("an open file");
        ledger.wrote(bytes, path, &self.who);
    }
}
