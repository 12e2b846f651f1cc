//! What happened, in order: its hash or its lines, when asked for. Most seeds need neither, and a
//! line takes longer than what it tells of.

use std::fmt::{Arguments, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    Hash,
    /// And every line is shown.
    Lines,
}

pub struct Trace {
    hasher: blake3::Hasher,
    line: String,
    kept: Kept,
}

impl Trace {
    pub fn new(kept: Kept) -> Self {
        Self { hasher: blake3::Hasher::new(), line: String::new(), kept }
    }

    pub fn note(&mut self, now: u64, what: Arguments<'_>) {
        if self.kept == Kept::Nothing {
            return;
        }
        self.line.clear();
        writeln!(self.line, "{:>12.3} {what}", now as f64 / 1e6).expect("writing to memory does not fail");
        self.hasher.update(self.line.as_bytes());
        if self.kept == Kept::Lines {
            print!("{}", self.line);
        }
    }

    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}
