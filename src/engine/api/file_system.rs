//! What a file system keeps of what it is given.
//!
//! Deliberately not here: how that is found out (`io/fs/probe.rs`).

/// What a file system keeps of what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one property of the file system, and all go together")]
pub struct Keeps {
    pub modes: bool,
    pub symlinks: bool,
    pub sockets: bool,
    pub names: Names,
    /// The step of its mtimes (ns).
    pub mtime_step_ns: u32,
    /// It tells the watcher of changes that other machines make to it.
    pub remote_events: bool,
}

impl Default for Keeps {
    fn default() -> Self {
        Self { modes: true, symlinks: true, sockets: true, names: Names::Exact, mtime_step_ns: 1, remote_events: true }
    }
}

impl Keeps {
    /// What it does not keep or do, for people.
    pub fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        let mut say = |keeps: bool, what: &str| {
            if !keeps {
                lacks.push(what.to_owned());
            }
        };
        say(self.modes, "no permission bits");
        say(self.symlinks, "no symbolic links");
        say(self.sockets, "no sockets");
        say(self.names == Names::Exact, "no two names that differ in case alone");
        say(self.remote_events, "no notice of changes made behind it (it is walked every minute)");
        // Steps below a microsecond harm nobody.
        if self.mtime_step_ns >= 1000 {
            lacks.push(format!("times in steps of {}", step(self.mtime_step_ns)));
        }
        lacks
    }
}

/// Which names a file system tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All that differ in a byte.
    Exact,
    /// Not those that differ in case or in their Unicode form alone; it shows them as they were
    /// made.
    Folded,
    /// Nor does it show them as they were made.
    Respelled,
}

fn step(ns: u32) -> String {
    match ns {
        0..1_000_000 => format!("{} us", ns / 1000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}
