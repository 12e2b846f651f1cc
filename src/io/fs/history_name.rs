//! Names in history: `{time_ns:020}.{reason}-{at}-{since}.{path}`, the path with `%XX` for '%', '/'
//! and whatever is not printable.
//!
//! The time is the wall clock's, for people. `at` and `since` are the steady clock's, in seconds
//! and hexadecimal: when it came, and since when this machine had held that content (`retention`).
//! Names of earlier versions have neither.
//!
//! A name over 200 bytes is cut and ends in `~` and 16 digits of BLAKE3(path); the whole path is
//! then beside it in `{name}.path`. May import `engine`'s values and `model`. Deliberately not
//! here: the files.

use crate::engine::RetainReason;
use crate::io::clock::wall_ns;
use crate::model::text;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

pub(in crate::io::fs) const NAME_BYTES: usize = 200;
/// Digits of the time.
const TIME_BYTES: usize = 20;
pub(in crate::io::fs) const SIDECAR: &str = ".path";

const SECOND_NS: u64 = 1_000_000_000;

/// When something came to history and since when its content had been here, by the steady clock
/// (ns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::io) struct Stood {
    pub at_ns: u64,
    /// 0: long ago.
    pub since_ns: u64,
}

pub(in crate::io) struct UniqueName {
    pub name: String,
    pub is_cut: bool,
}

/// A name that this process has not used before, later than all that it has used.
pub(in crate::io) fn unique_name(reason: RetainReason, path: &[u8], stood: Option<Stood>) -> UniqueName {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = wall_ns();
    let later = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
    name_at(later(last.unwrap_or_default()), reason, path, stood)
}

pub(in crate::io::fs) fn name_at(time_ns: u64, reason: RetainReason, path: &[u8], stood: Option<Stood>) -> UniqueName {
    let mut name = format!("{time_ns:020}.{}", reason.word());
    if let Some(Stood { at_ns, since_ns }) = stood {
        // Of what has been here for ever, 0; a second that has begun is not over.
        let _ = write!(name, "-{:x}-{:x}", at_ns / SECOND_NS, since_ns.div_ceil(SECOND_NS));
    }
    name.push('.');
    escape_into(&mut name, path);
    let is_cut = name.len() > NAME_BYTES;
    if is_cut {
        name.truncate(name.floor_char_boundary(NAME_BYTES));
        name.push('~');
        name.push_str(&text::hex(&blake3::hash(path).as_bytes()[..8]));
    }
    UniqueName { name, is_cut }
}

pub(in crate::io::fs) fn sidecar(name: &str) -> String {
    format!("{name}{SIDECAR}")
}

pub(in crate::io::fs) struct Parsed<'a> {
    pub time_ns: u64,
    pub reason: RetainReason,
    pub stood: Option<Stood>,
    pub path: &'a str,
}

pub(in crate::io::fs) fn parse(name: &str) -> Option<Parsed<'_>> {
    if name.len() > NAME_BYTES && name.ends_with(SIDECAR) {
        return None;
    }
    let mut parts = name.splitn(3, '.');
    let time_ns = parts.next().filter(|digits| digits.len() == TIME_BYTES)?.parse().ok()?;
    let (reason, stood) = parse_reason(parts.next()?)?;
    Some(Parsed { time_ns, reason, stood, path: parts.next()? })
}

fn parse_reason(text: &str) -> Option<(RetainReason, Option<Stood>)> {
    let mut parts = text.split('-');
    let word = parts.next()?;
    let all = [RetainReason::Replaced, RetainReason::Deleted, RetainReason::Conflict, RetainReason::Suspect];
    let reason = all.into_iter().find(|reason| reason.word() == word)?;
    let seconds = |digits: &str| u64::from_str_radix(digits, 16).ok()?.checked_mul(SECOND_NS);
    let stood = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => None,
        (Some(at), Some(since), None) => Some(Stood { at_ns: seconds(at)?, since_ns: seconds(since)? }),
        _ => return None,
    };
    Some((reason, stood))
}

/// The same thing under another reason. A name that was cut may get longer or shorter by that.
pub(in crate::io::fs) fn renamed(name: &str, reason: RetainReason) -> Option<String> {
    let old = parse(name)?.reason.word();
    let rest = name.get(TIME_BYTES + 1..)?.strip_prefix(old)?;
    Some(format!("{}.{}{rest}", &name[..TIME_BYTES], reason.word()))
}

/// Printable text but '%' and '/' as it is, the rest as `%XX`.
fn escape_into(out: &mut String, path: &[u8]) {
    let push_hex = |out: &mut String, bytes: &[u8]| {
        for &b in bytes {
            out.push('%');
            out.push_str(&text::hex(&[b]));
        }
    };
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            let plain = c.is_ascii_graphic() && !matches!(c, '%' | '/');
            let printable = !c.is_ascii() && !text::escape(c.encode_utf8(&mut [0; 4]).as_bytes()).starts_with('\\');
            if plain || printable || c == ' ' {
                out.push(c);
            } else {
                push_hex(out, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        push_hex(out, chunk.invalid());
    }
}

pub(in crate::io::fs) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    out.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let [byte] = text::from_hex::<1>(part.get(..2)?)?;
        out.push(byte);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_says_when_why_and_which_path(
            bytes in proptest::collection::vec(any::<u8>(), 1..60),
            time_ns: u64,
            stood in proptest::option::of((any::<u32>(), any::<u32>())),
        ) {
            let ns = |seconds: u32| u64::from(seconds) * SECOND_NS;
            let stood = stood.map(|(at, since)| Stood { at_ns: ns(at), since_ns: ns(since) });
            let UniqueName { name, is_cut } = name_at(time_ns, RetainReason::Deleted, &bytes, stood);
            let parsed = parse(&name).unwrap();
            prop_assert_eq!((parsed.time_ns, parsed.reason, parsed.stood), (time_ns, RetainReason::Deleted, stood));
            let renamed = renamed(&name, RetainReason::Conflict).unwrap();
            let again = parse(&renamed).unwrap();
            prop_assert_eq!((again.time_ns, again.reason, again.stood), (time_ns, RetainReason::Conflict, stood));
            prop_assert_eq!(again.path, parsed.path);
            prop_assert!(!name.contains('/') && !name.contains('\0'));
            prop_assert!(is_cut || unescape(parsed.path) == Some(bytes));
        }
    }

    #[test]
    fn names_made_in_one_instant_differ() {
        let names: std::collections::BTreeSet<_> =
            (0..1000).map(|_| unique_name(RetainReason::Replaced, b"a", None).name).collect();
        assert_eq!(names.len(), 1000);
    }
}
