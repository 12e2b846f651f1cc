//! The feature list of `hello`: what an end of a link understands beyond the first form of protocol
//! 1.
//!
//! A packet kind that is newer than protocol 1 is sent only to an end that names its feature, since
//! older versions refuse unknown kinds. New fields in the head of an old kind need no feature:
//! older versions skip them.

use std::collections::BTreeSet;

/// What this version understands.
const OURS: [&str; 9] = [ACKS, HISTORY, CONFLICTS, UNDO, CONFIRM, LOCATE, HOLDS, PREVIEW, MEMBERS];
/// `acks`.
pub const ACKS: &str = "acks";
/// `history` and `pasts`, and contents in history by `fetch`.
pub const HISTORY: &str = "history";
/// `conflicts`.
pub const CONFLICTS: &str = "conflicts";
/// `undo`.
pub const UNDO: &str = "undo";
/// `confirm`.
pub const CONFIRM: &str = "confirm";
/// `locate` and `located`.
pub const LOCATE: &str = "locate";
/// `holds` and `holding`.
pub const HOLDS: &str = "holds";
/// `members`.
pub const MEMBERS: &str = "members";
/// Links that only look.
pub const PREVIEW: &str = "preview";
/// This link only looks: named by who opens it, and by nobody else.
pub const PREVIEWS: &str = "previews";
/// A `hello` names at most this many features, each of 1 to [`NAME_BYTES`] bytes of `[a-z0-9-]`.
const LIMIT: usize = 64;
const NAME_BYTES: usize = 32;

/// The features that one end of a link named. Names that this version does not know are kept and
/// mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features(BTreeSet<String>);

impl Features {
    pub fn ours() -> Self {
        Self(OURS.into_iter().map(str::to_owned).collect())
    }

    /// Of an end that only looks.
    pub fn to_preview() -> Self {
        Self([PREVIEWS.to_owned()].into())
    }

    /// The list of a `hello`; `None` if it is longer than allowed or a name is malformed.
    pub fn checked(names: Vec<String>) -> Option<Self> {
        let is_name = |name: &String| {
            (1..=NAME_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        (names.len() <= LIMIT && names.iter().all(is_name)).then(|| Self(names.into_iter().collect()))
    }

    pub fn has(&self, feature: &str) -> bool {
        self.0.contains(feature)
    }

    pub fn names(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_short_and_of_plain_names() {
        let list = |names: &[&str]| Features::checked(names.iter().map(|name| (*name).to_owned()).collect());
        assert!(list(&["history", "x-1"]).is_some_and(|features| features.has("history") && !features.has("x")));
        assert!(list(&[]).is_some());
        for malformed in ["", "History", "a b", "\u{1b}", &"x".repeat(NAME_BYTES + 1)] {
            assert_eq!(list(&[malformed]), None, "{malformed:?}");
        }
        assert_eq!(list(&["x"; LIMIT + 1]), None);
    }
}
