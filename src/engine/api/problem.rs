//! What needs a person, as a value: the engine compares it, and the journal puts it into words.
//!
//! Deliberately not here: the words (`io/journal/problem.rs`).

use crate::engine::api::ignore::Covering;
use crate::model::SyncPath;

/// Why a path, or the whole folder, needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The shell could not read or write it, in its words, escaped.
    Trouble(String),
    /// Another file system is mounted on it.
    Mount,
    /// It is a Btrfs subvolume.
    Subvolume,
    /// It lies below more folders than a path may have.
    TooDeep,
    /// A name in it makes a path that is too long. Its bytes.
    TooLong { name: Vec<u8> },
    /// It was deleted at another machine, and stays for a path that patterns ignore.
    KeptForIgnored { ignored: SyncPath, by: Option<Covering> },
    /// It was deleted at another machine, and stays for a special file.
    KeptForSpecial { special: SyncPath, what: &'static str },
    /// It is to make room for something else, and holds a special file.
    SpecialBelow { special: SyncPath, what: &'static str },
    /// A special file is where something else is to be.
    SpecialThere { what: &'static str },
    /// Another path has its name here, as this file system takes both for one.
    NameTaken { holder: SyncPath },
    /// Something that nobody knows has its name here, by another spelling.
    NameRefused,
    /// A power cut tore it just now (bytes there, and bytes it had).
    TornNow { bytes: u64, of: u64, was_deleted: bool },
    /// A power cut tore it.
    Torn { nobody_has: bool },
    /// Its content is not what it was, and nobody wrote it.
    Suspect(SuspectCause),
    /// A machine dates its change too far ahead.
    DatedAhead { by: String },
    /// What a machine sent from its history is not what it said.
    FalseHistory { by: String },
    /// The ignore file gives no patterns. `nothing_known`: and there were none before.
    NoPatterns { why: String, nothing_known: bool },
    /// A line of the ignore file is no pattern.
    BadPattern { line: usize, why: String },
}

/// What a suspect file waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuspectCause {
    /// A person wants it to be fetched again.
    Healing,
    /// A person wants it as it is.
    Keeping,
    /// The disk cannot read it.
    Unreadable,
    /// Its bytes changed, and its times did not.
    Changed,
}

/// Why this machine takes a new device id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewalCause {
    /// A machine knows changes of this one that it does not know itself.
    SetBack { known_to: String },
    /// A peer had raised this machine's counter beyond what others take.
    CounterRaised,
    /// Another machine runs with a copy of this one's state.
    Twin,
}
