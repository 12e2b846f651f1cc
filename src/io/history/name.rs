//! Names in history: `{time_ns:020}.{reason}.{path}`, the path with `%XX` for '%', '/' and whatever is not printable.
//!
//! A name over 200 bytes is cut and ends in `~` and 16 digits of BLAKE3(path); the whole path is then beside it in
//! `{name}.path`. May import `engine`'s values and `model`. Deliberately not here: the files.

use crate::engine::Keep;
use crate::io::clock::wall_ns;
use crate::model::text;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const NAME_BYTES: usize = 200;
pub(super) const SIDECAR: &str = ".path";

pub(in crate::io) struct UniqueName {
    pub name: String,
    pub is_cut: bool,
}

/// A name that this process has not used before, later than all that it has used.
pub(in crate::io) fn unique_name(reason: Keep, path: &[u8]) -> UniqueName {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = wall_ns();
    let later = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
    name_at(later(last.unwrap_or_default()), reason, path)
}

pub(super) fn name_at(time_ns: u64, reason: Keep, path: &[u8]) -> UniqueName {
    let mut name = format!("{time_ns:020}.{}.", word(reason));
    escape_into(&mut name, path);
    let is_cut = name.len() > NAME_BYTES;
    if is_cut {
        name.truncate(name.floor_char_boundary(NAME_BYTES));
        name.push('~');
        name.push_str(&text::hex(&blake3::hash(path).as_bytes()[..8]));
    }
    UniqueName { name, is_cut }
}

pub(super) fn sidecar(name: &str) -> String {
    format!("{name}{SIDECAR}")
}

pub(super) struct Parsed<'a> {
    pub time_ns: u64,
    pub reason: Keep,
    pub path: &'a str,
}

pub(super) fn parse(name: &str) -> Option<Parsed<'_>> {
    if name.len() > NAME_BYTES && name.ends_with(SIDECAR) {
        return None;
    }
    let mut parts = name.splitn(3, '.');
    let time_ns = parts.next().filter(|digits| digits.len() == 20)?.parse().ok()?;
    let reason = match parts.next()? {
        "replaced" => Keep::Replaced,
        "deleted" => Keep::Deleted,
        "conflict" => Keep::Conflict,
        "suspect" => Keep::Suspect,
        _ => return None,
    };
    Some(Parsed { time_ns, reason, path: parts.next()? })
}

pub(super) fn word(reason: Keep) -> &'static str {
    match reason {
        Keep::Replaced => "replaced",
        Keep::Deleted => "deleted",
        Keep::Conflict => "conflict",
        Keep::Suspect => "suspect",
    }
}

/// The same thing under another reason. A name that was cut may get longer or shorter by that.
pub(super) fn renamed(name: &str, reason: Keep) -> Option<String> {
    let Parsed { time_ns, path, .. } = parse(name)?;
    Some(format!("{time_ns:020}.{}.{path}", word(reason)))
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

pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
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
        fn a_name_says_when_why_and_which_path(bytes in proptest::collection::vec(any::<u8>(), 1..60), time_ns: u64) {
            let UniqueName { name, is_cut } = name_at(time_ns, Keep::Deleted, &bytes);
            let parsed = parse(&name).unwrap();
            prop_assert_eq!((parsed.time_ns, parsed.reason), (time_ns, Keep::Deleted));
            prop_assert!(!name.contains('/') && !name.contains('\0'));
            prop_assert!(is_cut || unescape(parsed.path) == Some(bytes));
        }
    }

    #[test]
    fn names_made_in_one_instant_differ() {
        let names: std::collections::BTreeSet<_> = (0..1000).map(|_| unique_name(Keep::Replaced, b"a").name).collect();
        assert_eq!(names.len(), 1000);
    }
}
