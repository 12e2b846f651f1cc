//! The two sides of a conflict, and which of them is this machine's.

use crate::engine::api::index::Conflict;
use crate::model::DeviceId;
use crate::wire::conflict::Sides;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Winner,
    Loser,
}

impl Side {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Winner => "winner",
            Self::Loser => "loser",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Winner => Self::Loser,
            Self::Loser => Self::Winner,
        }
    }
}

/// Which side is this machine's: the loser where that was on disk here, else the one that it made;
/// `None` if it made neither, or both.
pub(super) fn ours(conflict: &Conflict, us: DeviceId) -> Option<Side> {
    let Sides { winner, loser, .. } = &conflict.sides;
    match (conflict.source, winner.version.author == us, loser.version.author == us) {
        (None, ..) | (_, false, true) => Some(Side::Loser),
        (_, true, false) => Some(Side::Winner),
        _ => None,
    }
}
