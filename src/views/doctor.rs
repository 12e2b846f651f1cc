//! What `dirsync doctor` finds: of this machine, its network and its folder.
//!
//! Deliberately not here: how it is found (`client/doctor.rs`).

use serde::{Deserialize, Serialize};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    Fine,
    /// It works, or cannot be told, and somebody should know.
    Notice,
    /// It does not work.
    Fault,
}

/// One thing that was looked at. All of it is safe to print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// What was looked at, in a word or two; stable.
    pub check: String,
    pub health: Health,
    pub text: String,
    /// What to do, where it is not fine.
    pub remedy: Option<String>,
}

impl FindingView {
    pub fn fine(check: &str, text: impl Into<String>) -> Self {
        Self { check: check.to_owned(), health: Health::Fine, text: text.into(), remedy: None }
    }

    pub fn notice(check: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { health: Health::Notice, remedy: Some(remedy.into()), ..Self::fine(check, text) }
    }

    pub fn fault(check: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { health: Health::Fault, remedy: Some(remedy.into()), ..Self::fine(check, text) }
    }
}

/// `dirsync doctor --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DoctorView {
    /// The worst of all findings.
    pub health: Health,
    pub findings: Vec<FindingView>,
}

impl DoctorView {
    pub fn new(findings: Vec<FindingView>) -> Self {
        Self { health: findings.iter().map(|one| one.health).max().unwrap_or(Health::Fine), findings }
    }
}
