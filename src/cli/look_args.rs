//! `dirsync show`, `diff`, `need`, `transfers`, `problems`, `events`, `du` and `analyze`: what they
//! take.
//!
//! Deliberately not here: what they say (`facts.rs`, `standing.rs`, `events.rs`, `usage.rs`,
//! `analyze.rs`).

use clap::{Subcommand, ValueEnum};
use std::ffi::OsString;

#[derive(Subcommand, Debug)]
pub(super) enum LookCommand {
    /// All that is known of a path: its version, who holds it, what is kept of it, its conflicts
    Show {
        path: OsString,
        /// The form; --json is the second one
        #[arg(long, value_enum, default_value = "yaml")]
        format: FactsFormat,
    },
    /// What this machine and a linked one still have to do to hold the same
    Diff {
        /// By its name or the first digits of its id
        #[arg(value_name = "MACHINE")]
        peer: String,
    },
    /// What is still to come to this machine's disk, or to that of a linked one
    Need {
        /// Of this one instead, by its name or the first digits of its id; it names 1,024 at most
        #[arg(long, value_name = "MACHINE")]
        peer: Option<String>,
    },
    /// Large contents on their way, here and to linked machines, and what waits for its turn
    Transfers,
    /// Every path that needs attention, and why
    Problems,
    /// What happens, as it happens, until interrupted; with --json, one object a line
    ///
    /// It goes on where it was when the daemon starts anew, and says so where events were missed.
    Events {
        /// Only these, separated by commas, such as file_added,conflict (docs/api.md lists them)
        #[arg(long, value_name = "TYPES")]
        types: Option<String>,
        /// Only what speaks of this path or of what is below it
        #[arg(long, value_name = "PATH")]
        prefix: Option<OsString>,
    },
    /// How much is in a folder and in those below it, the largest first
    Du {
        /// [default: the current directory]
        path: Option<OsString>,
        /// Folders so deep below it
        #[arg(short, long, value_name = "N", default_value_t = 1)]
        depth: usize,
    },
    /// What the folder is made of: duplicates, how many machines hold each file, the largest files
    /// and folders, and when they changed
    ///
    /// It reads the whole list of files, a page at a time, and no content.
    Analyze {
        /// Of what is in this folder [default: of all]
        path: Option<OsString>,
    },
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FactsFormat {
    Yaml,
    Json,
}
