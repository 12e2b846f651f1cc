//! Two texts made from one: merged where their edits do not meet, or shown beside each other.
//!
//! Lines are the unit. Every line that either side changed is in the result as that side left it;
//! where both changed the same lines or lines that touch, there is no result, unless they did the
//! very same. Bounded in size and in time (P9). Imports nothing of this crate. Deliberately not
//! here: files, and when to merge (`engine::conflict`).

use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices_deadline};
use std::iter::Peekable;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Longer texts are not compared (bytes).
pub const TEXT_BYTES: usize = 1 << 20;
/// For one comparison. What is not compared by then counts as changed, so a merge is then refused.
const PATIENCE: Duration = Duration::from_millis(500);
/// Unchanged lines shown around a change.
const CONTEXT_LINES: usize = 3;

/// A text: UTF-8 without NUL, and not too long.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let is_text = bytes.len() <= TEXT_BYTES && !bytes.contains(&0);
    std::str::from_utf8(bytes).ok().filter(|_| is_text)
}

/// What both made of `base`; `None` where their edits meet.
pub fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let base: Vec<&str> = base.split_inclusive('\n').collect();
    let (ours, theirs) = (edits(&base, ours), edits(&base, theirs));
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    let (mut merged, mut at) = (String::new(), 0);
    while let Some(Edit { lines, text }) = next(&mut ours, &mut theirs).ok()? {
        merged.extend(base[at..lines.start].iter().copied());
        merged.push_str(&text);
        at = lines.end;
    }
    merged.extend(base[at..].iter().copied());
    Some(merged)
}

/// These lines of the base became that text.
#[derive(PartialEq, Eq)]
struct Edit {
    lines: Range<usize>,
    text: String,
}

/// Both sides changed the same lines, or lines that touch.
struct Overlap;

/// The next edit of either side, or of both if it is the same.
fn next(
    ours: &mut Peekable<impl Iterator<Item = Edit>>,
    theirs: &mut Peekable<impl Iterator<Item = Edit>>,
) -> Result<Option<Edit>, Overlap> {
    let (Some(a), Some(b)) = (ours.peek(), theirs.peek()) else { return Ok(ours.next().or_else(|| theirs.next())) };
    if a == b {
        theirs.next();
        return Ok(ours.next());
    }
    // Edits that only touch meet too: what stands between them is nothing that holds them apart.
    if a.lines.start <= b.lines.end && b.lines.start <= a.lines.end {
        return Err(Overlap);
    }
    Ok(if a.lines.start < b.lines.start { ours.next() } else { theirs.next() })
}

fn edits(base: &[&str], changed: &str) -> Vec<Edit> {
    let changed: Vec<&str> = changed.split_inclusive('\n').collect();
    let ops = capture_diff_slices_deadline(Algorithm::Myers, base, &changed, Some(Instant::now() + PATIENCE));
    let mut edits: Vec<Edit> = Vec::new();
    for op in ops.iter().filter(|op| !matches!(op, DiffOp::Equal { .. })) {
        let (lines, text) = (op.old_range(), changed[op.new_range()].concat());
        match edits.last_mut() {
            // A deletion and an insertion side by side are one edit.
            Some(last) if last.lines.end == lines.start => {
                last.lines.end = lines.end;
                last.text.push_str(&text);
            }
            _ => edits.push(Edit { lines, text }),
        }
    }
    edits
}

/// How `new` differs from `old`, in the unified form: each line by its sign and its text, without
/// its end.
pub fn compare(old: &str, new: &str) -> Vec<(char, String)> {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(CONTEXT_LINES) {
        let range = |r: Range<usize>| format!("{},{}", if r.is_empty() { r.start } else { r.start + 1 }, r.len());
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            let old = first.old_range().start..last.old_range().end;
            let new = first.new_range().start..last.new_range().end;
            lines.push(('@', format!("@ -{} +{} @@", range(old), range(new))));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            lines.push((sign, change.value().trim_end_matches('\n').to_owned()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::one_side_only("a\nb\nc\n", "a\nB\nc\n", "a\nb\nc\n", Some("a\nB\nc\n"))]
    #[case::far_apart("a\nb\nc\nd\n", "A\nb\nc\nd\n", "a\nb\nc\nD\n", Some("A\nb\nc\nD\n"))]
    #[case::one_line_between("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", Some("A\nb\nC\n"))]
    #[case::the_same_edit("a\nb\nc\n", "a\nX\nc\n", "a\nX\nc\n", Some("a\nX\nc\n"))]
    #[case::the_same_and_another("a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "A\nb\nc\nd\nE\n", Some("A\nb\nc\nd\nE\n"))]
    #[case::one_line_two_ways("a\nb\nc\n", "a\nX\nc\n", "a\nY\nc\n", None)]
    #[case::lines_that_touch("a\nb\nc\n", "a\nX\nc\n", "a\nb\nY\n", None)]
    #[case::edited_here_deleted_there("a\nb\nc\n", "a\nX\nc\n", "a\nc\n", None)]
    #[case::two_insertions_at_one_place("a\nb\n", "a\nX\nb\n", "a\nY\nb\n", None)]
    #[case::two_appended("a\n", "a\nX\n", "a\nY\n", None)]
    #[case::the_same_line_appended("a\n", "a\nX\n", "a\nX\n", Some("a\nX\n"))]
    #[case::insertions_apart("a\nb\nc\n", "X\na\nb\nc\n", "a\nb\nc\nY\n", Some("X\na\nb\nc\nY\n"))]
    #[case::deleted_whole_and_edited("a\nb\n", "", "a\nB\n", None)]
    #[case::no_end_of_line("a\nb\nc", "A\nb\nc", "a\nb\nc\n", Some("A\nb\nc\n"))]
    #[case::line_ends_of_windows("a\r\nb\r\nc\r\n", "A\r\nb\r\nc\r\n", "a\r\nb\r\nC\r\n", Some("A\r\nb\r\nC\r\n"))]
    fn merging(#[case] base: &str, #[case] ours: &str, #[case] theirs: &str, #[case] merged: Option<&str>) {
        assert_eq!(merge(base, ours, theirs).as_deref(), merged);
        assert_eq!(merge(base, theirs, ours).as_deref(), merged, "the same from the other side");
    }

    /// Few different lines, so that they repeat.
    fn lines() -> impl Strategy<Value = String> {
        proptest::collection::vec("[abc]{0,1}", 0..12)
            .prop_map(|lines| lines.iter().flat_map(|line| [line, "\n"]).collect())
    }

    proptest! {
        #[test]
        fn nothing_changed_on_one_side_is_the_other_side(base in lines(), ours in lines()) {
            prop_assert_eq!(merge(&base, &ours, &base), Some(ours.clone()));
            prop_assert_eq!(merge(&base, &base, &ours), Some(ours.clone()));
            prop_assert_eq!(merge(&base, &ours, &ours), Some(ours));
        }

        #[test]
        fn either_side_may_ask(base in lines(), ours in lines(), theirs in lines()) {
            prop_assert_eq!(merge(&base, &ours, &theirs), merge(&base, &theirs, &ours));
        }

        #[test]
        fn edits_with_an_untouched_line_between_them_are_both_in_it(
            head in lines(), tail in lines(), ours in "[x-z]{1,5}", theirs in "[X-Z]{1,5}"
        ) {
            let text = |first: &str, last: &str| format!("{head}{first}\nbetween\n{last}\n{tail}");
            let merged = merge(&text("1", "2"), &text(&ours, "2"), &text("1", &theirs));
            prop_assert_eq!(merged, Some(text(&ours, &theirs)));
        }
    }

    #[test]
    fn what_is_made_to_take_long_is_refused_in_time() {
        // Every line occurs often, in an order that is different everywhere.
        let text = |seed: u64| -> String {
            let mut state = seed;
            let mut line = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                format!("{}\n", state >> 61)
            };
            (0..400_000).map(|_| line()).collect()
        };
        let (base, ours, theirs) = (text(1), text(2), text(3));
        let began = Instant::now();
        assert_eq!(merge(&base, &ours, &theirs), None);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn a_comparison_shows_what_changed_and_a_little_around_it() {
        let old = (0..20).fold(String::new(), |text, n| text + &format!("{n}\n"));
        let shown = compare(&old, &old.replace("10\n", "ten\n"));
        let text: Vec<_> = shown.iter().map(|(sign, line)| format!("{sign}{line}")).collect();
        assert_eq!(text, ["@@ -8,7 +8,7 @@", " 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13"]);
        assert!(compare(&old, &old).is_empty());
    }

    #[test]
    fn what_is_no_text_is_told() {
        assert_eq!(text("é\n".as_bytes()), Some("é\n"));
        for bytes in [&b"a\0b"[..], &[0xff], &vec![b'a'; TEXT_BYTES + 1]] {
            assert_eq!(text(bytes), None);
        }
    }
}
