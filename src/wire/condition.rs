//! What keeps a machine from being done: it tells its peers, beside the root of its tree.
//!
//! All of it is optional on the wire, so that either end may be older. Deliberately not here: the
//! words for it (`io/journal/condition.rs`).

use crate::model::SyncRole;
use serde::{Deserialize, Serialize};

/// Why a machine looks at nothing and installs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The folder has no marker.
    MarkerLost,
    /// The folder has another marker than the one written last.
    OtherMarker,
    /// Nothing is at the folder's path.
    FolderGone,
    /// Another folder or file system is at the folder's path.
    OtherFolder,
    /// The ignore file cannot be read, and no patterns were ever in force.
    Patterns,
    /// Its own log says what it is; also whatever a newer version names.
    #[serde(other)]
    Other,
}

/// What is left to be done, or cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Condition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StopCause>,
    pub paused: bool,
    /// What is in the folder is not wholly known yet.
    pub scanning: bool,
    /// What waits for a confirmation: deletions, returns to older contents, paths that patterns
    /// covered.
    pub held_deletions: u64,
    pub held_reverts: u64,
    /// Named on the wire as protocol 1 began with.
    #[serde(rename = "held_uncovered")]
    pub held_unignored: u64,
    /// Paths that need a person: they cannot be read, or cannot be put there.
    pub problems: u64,
    /// Paths that are not on disk as the group has them.
    pub missing: u64,
    /// What it does with changes. From here on, nothing keeps it from being done.
    #[serde(skip_serializing_if = "SyncRole::is_both")]
    #[schema(value_type = String)]
    pub role: SyncRole,
    /// Changes that were made there, and are announced to nobody.
    #[serde(skip_serializing_if = "is_none")]
    pub local: u64,
    /// Changes of others that are known there, and stay off its disk.
    #[serde(skip_serializing_if = "is_none")]
    pub not_installed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Condition {
    /// Nothing keeps it from being done.
    pub fn is_clear(&self) -> bool {
        self.what_hinders() == Self::default()
    }

    /// Without what is meant to be so.
    fn what_hinders(self) -> Self {
        Self { role: SyncRole::default(), local: 0, not_installed: 0, ..self }
    }

    /// Without what ends by itself.
    #[must_use]
    pub fn trouble(self) -> Self {
        Self { scanning: false, missing: 0, ..self.what_hinders() }
    }

    /// Whether both name the same things, whatever their numbers.
    pub fn is_alike(&self, other: &Self) -> bool {
        let kinds = |of: &Self| {
            let counts = [of.held_deletions, of.held_reverts, of.held_unignored, of.problems];
            (of.stopped, of.paused, counts.map(|count| count > 0))
        };
        kinds(self) == kinds(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_version_says_is_read_as_far_as_it_is_known() {
        let newer = r#"{"stopped":"moon_is_full","paused":true,"orbiting":3}"#;
        let read: Condition = serde_json::from_str(newer).unwrap();
        assert_eq!(read, Condition { stopped: Some(StopCause::Other), paused: true, ..Condition::default() });
        assert!(serde_json::from_str::<Condition>(r#"{"problems":-1}"#).is_err());
    }

    #[test]
    fn a_role_and_what_it_leaves_undone_keep_nobody_from_being_done() {
        let condition = Condition { role: SyncRole::SendOnly, local: 1, not_installed: 3, ..Condition::default() };
        assert!(condition.is_clear() && condition.trouble().is_clear());
        let text = serde_json::to_string(&condition).unwrap();
        assert_eq!(serde_json::from_str::<Condition>(&text).unwrap(), condition);
        let ordinary = serde_json::to_string(&Condition::default()).unwrap();
        assert!(["role", "local", "not_installed"].iter().all(|name| !ordinary.contains(name)), "{ordinary}");
    }

    #[test]
    fn more_of_the_same_is_alike_and_something_else_is_not() {
        let held = |held_deletions| Condition { held_deletions, missing: held_deletions, ..Condition::default() };
        assert!(held(1).is_alike(&held(200)) && !held(1).is_alike(&held(0)));
        assert!(!held(1).is_alike(&Condition { paused: true, ..held(1) }));
        assert!(held(0).trouble().is_clear() && !held(1).trouble().is_clear());
        assert!(Condition { scanning: true, missing: 4, ..Condition::default() }.trouble().is_clear());
    }
}
