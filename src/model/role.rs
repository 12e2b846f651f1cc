//! What a machine does with changes: its own, and those of others.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncRole {
    /// It announces none of its own.
    ReceiveOnly,
    /// It installs none of others.
    SendOnly,
    /// It announces its own, and installs those of others. A role that a newer version names
    /// counts as this one.
    #[default]
    #[serde(other)]
    Both,
}

impl SyncRole {
    pub const ALL: [Self; 3] = [Self::Both, Self::ReceiveOnly, Self::SendOnly];

    /// What a user changes here is a version of the group.
    pub fn announces(self) -> bool {
        self != Self::ReceiveOnly
    }

    /// What others change comes to this disk.
    pub fn installs(self) -> bool {
        self != Self::SendOnly
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::ReceiveOnly => "receive-only",
            Self::SendOnly => "send-only",
        }
    }

    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    pub fn is_both(&self) -> bool {
        *self == Self::Both
    }
}

impl FromStr for SyncRole {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::of(word).ok_or_else(|| "give both, receive-only or send-only".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_by_its_word_and_one_of_a_newer_version_counts_as_both() {
        for role in SyncRole::ALL {
            assert_eq!(SyncRole::of(role.word()), Some(role));
            let text = format!("\"{}\"", role.word());
            assert_eq!(serde_json::to_string(&role).unwrap(), text);
            assert_eq!(serde_json::from_str::<SyncRole>(&text).unwrap(), role);
        }
        assert_eq!(serde_json::from_str::<SyncRole>("\"hub\"").unwrap(), SyncRole::Both);
        assert_eq!(SyncRole::of("hub"), None);
    }
}
