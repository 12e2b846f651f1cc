//! What happened, in order: its hash always, its lines when asked for (`DIRSYNC_TRACE=1`).

use std::fmt::{Arguments, Write};

pub struct Trace {
    hasher: blake3::Hasher,
    line: String,
    shown: bool,
}

impl Trace {
    pub fn new(shown: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), line: String::new(), shown }
    }

    pub fn note(&mut self, now: u64, what: Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{:>12.3} {what}", now as f64 / 1e6).expect("writing to memory does not fail");
        self.hasher.update(self.line.as_bytes());
        if self.shown {
            print!("{}", self.line);
        }
    }

    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}
