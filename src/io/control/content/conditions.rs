//! What a request for a content asks of it (RFC 9110): which part, and only if it is or is not one
//! that is known.
//!
//! Deliberately not here: what is sent (`body.rs`).

use super::super::etag;
use crate::model::ContentId;
use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use std::ops::Range;

/// A strong one: the same content has it, on every machine.
pub(in super::super) fn tag(content: &ContentId) -> String {
    format!("\"{content}\"")
}

/// What comes of the conditions of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Precondition {
    Met,
    /// The asker has it (304).
    NotModified,
    /// It is another one (412).
    Failed,
}

/// Which part of a content is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WantedPart {
    Whole,
    Part(Range<u64>),
    /// None of it is in the range (416).
    Nothing,
}

pub(in super::super) struct Conditions<'a> {
    headers: &'a HeaderMap,
    /// A range means nothing to any other method.
    is_get: bool,
}

impl<'a> Conditions<'a> {
    pub(in super::super) fn of(headers: &'a HeaderMap, is_get: bool) -> Self {
        Self { headers, is_get }
    }

    pub(in super::super) fn check(&self, tag: &str) -> Precondition {
        if if_match(self.headers).is_some_and(|tags| !tags.allow(tag)) {
            Precondition::Failed
        } else if etag::knows(self.headers, tag) {
            Precondition::NotModified
        } else {
            Precondition::Met
        }
    }

    /// Several ranges, and what is no range of bytes, are as if nothing was said.
    pub(super) fn wanted(&self, tag: &str, size: u64) -> WantedPart {
        let same = self.text(&IF_RANGE).is_none_or(|known| known == tag);
        let Some(range) = self.text(&RANGE).filter(|_| self.is_get && same) else { return WantedPart::Whole };
        let bytes = range.split_once('=').filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
        let Some((first, last)) = bytes.and_then(|(_, range)| range.trim().split_once('-')) else {
            return WantedPart::Whole;
        };
        let range = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(last)) if first.is_empty() => size.saturating_sub(last)..size,
            _ => return WantedPart::Whole,
        };
        if range.start < range.end { WantedPart::Part(range) } else { WantedPart::Nothing }
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// Digits alone.
pub(super) fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The tags of `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Tags {
    /// `*`: whatever is there.
    Any,
    These(Vec<String>),
}

impl Tags {
    pub(in super::super) fn allow(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|known| known == tag),
        }
    }
}

/// What a request that changes something says of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Expected {
    /// It says nothing of it.
    Anything,
    /// One of these.
    Tags(Tags),
    /// There is nothing (`If-None-Match: *`).
    Nothing,
}

/// `If-Match` is the stronger one.
pub(in super::super) fn expected(headers: &HeaderMap) -> Expected {
    let is_to_be_new = headers.get(IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == b"*");
    match if_match(headers) {
        Some(tags) => Expected::Tags(tags),
        None if is_to_be_new => Expected::Nothing,
        None => Expected::Anything,
    }
}

/// `None`: there is no such condition. A weak tag matches nothing.
pub(super) fn if_match(headers: &HeaderMap) -> Option<Tags> {
    let lists: Vec<_> = headers.get_all(IF_MATCH).iter().map(|list| list.to_str().unwrap_or_default()).collect();
    if lists.is_empty() {
        return None;
    }
    let tags: Vec<_> = lists.iter().flat_map(|list| list.split(',')).map(|tag| tag.trim().to_owned()).collect();
    Some(if tags.iter().any(|tag| tag == "*") { Tags::Any } else { Tags::These(tags) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TAG: &str = "\"aa\"";

    fn with(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[rstest]
    #[case::first("bytes=0-0", WantedPart::Part(0..1))]
    #[case::some("bytes=2-5", WantedPart::Part(2..6))]
    #[case::to_the_end("bytes=2-", WantedPart::Part(2..10))]
    #[case::beyond_the_end("bytes=8-99", WantedPart::Part(8..10))]
    #[case::up_to_the_largest_number("bytes=8-18446744073709551615", WantedPart::Part(8..10))]
    #[case::beyond_the_largest_number("bytes=8-99999999999999999999", WantedPart::Part(8..10))]
    #[case::the_last("bytes=-3", WantedPart::Part(7..10))]
    #[case::the_last_and_more("bytes=-30", WantedPart::Part(0..10))]
    #[case::other_letters("Bytes=1-1", WantedPart::Part(1..2))]
    #[case::behind_the_end("bytes=10-", WantedPart::Nothing)]
    #[case::behind_the_end_too("bytes=10-12", WantedPart::Nothing)]
    #[case::the_last_none("bytes=-0", WantedPart::Nothing)]
    #[case::backwards("bytes=5-2", WantedPart::Whole)]
    #[case::two("bytes=0-1,4-5", WantedPart::Whole)]
    #[case::nothing("bytes=-", WantedPart::Whole)]
    #[case::signed("bytes=+1-2", WantedPart::Whole)]
    #[case::another_unit("lines=0-1", WantedPart::Whole)]
    #[case::no_range("whatever", WantedPart::Whole)]
    fn a_range_is_one_of_ten_bytes_or_as_if_it_was_not_there(#[case] range: &str, #[case] due: WantedPart) {
        let headers = with(&[(RANGE, range)]);
        assert_eq!(Conditions::of(&headers, true).wanted(TAG, 10), due);
        assert_eq!(Conditions::of(&headers, false).wanted(TAG, 10), WantedPart::Whole, "of HEAD");
    }

    #[test]
    fn nothing_of_an_empty_content_is_in_a_range() {
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(Conditions::of(&with(&[(RANGE, range)]), true).wanted(TAG, 0), WantedPart::Nothing, "{range}");
        }
    }

    #[rstest]
    #[case("\"aa\"", true)]
    #[case("\"bb\"", false)]
    #[case("W/\"aa\"", false)]
    #[case("Sun, 29 Nov 2026 12:00:00 GMT", false)]
    fn a_part_is_sent_only_of_the_content_that_the_rest_is_of(#[case] known: &str, #[case] part: bool) {
        let headers = with(&[(RANGE, "bytes=2-5"), (IF_RANGE, known)]);
        let wanted = Conditions::of(&headers, true).wanted(TAG, 10);
        assert_eq!(wanted, if part { WantedPart::Part(2..6) } else { WantedPart::Whole });
    }

    #[rstest]
    #[case(&[], Precondition::Met)]
    #[case(&[(IF_NONE_MATCH, "\"aa\"")], Precondition::NotModified)]
    #[case(&[(IF_NONE_MATCH, "\"bb\"")], Precondition::Met)]
    #[case(&[(IF_MATCH, "\"aa\"")], Precondition::Met)]
    #[case(&[(IF_MATCH, "\"bb\", \"aa\"")], Precondition::Met)]
    #[case(&[(IF_MATCH, "*")], Precondition::Met)]
    #[case(&[(IF_MATCH, "\"bb\"")], Precondition::Failed)]
    #[case(&[(IF_MATCH, "W/\"aa\"")], Precondition::Failed)]
    #[case(&[(IF_MATCH, "")], Precondition::Failed)]
    #[case(&[(IF_MATCH, "\"bb\""), (IF_NONE_MATCH, "\"aa\"")], Precondition::Failed)]
    fn what_a_request_knows_decides_whether_it_is_answered(
        #[case] lines: &[(HeaderName, &str)],
        #[case] due: Precondition,
    ) {
        assert_eq!(Conditions::of(&with(lines), true).check(TAG), due);
    }
}
