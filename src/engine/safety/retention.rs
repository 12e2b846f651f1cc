//! What of history goes, and when remote changes must wait for it: a plain function of what is kept
//! and the time.
//!
//! Old things go first, losers of conflicts and what was suspect last. What stood a day ago and was
//! replaced since stays for a day, however much came after it: a machine gone mad, or a peer that
//! floods, does not push out what was good yesterday (P8).

use crate::engine::api::action::RetainReason;
use crate::engine::limits::{
    DAY_NS, HOUR_NS, KEEP_CONFLICT_NS, KEEP_DELETED_NS, KEEP_LARGEST_SHARE, KEEP_REPLACED_NS, KEEP_YOUNG_NS,
};

/// Something kept. `path`: whatever tells paths apart.
#[derive(Debug, Clone, Copy)]
pub struct Retained<'a> {
    pub path: &'a [u8],
    /// When it was replaced or deleted, by the steady clock (ns): no step of the wall clock ages
    /// it.
    pub at_ns: u64,
    pub reason: RetainReason,
    /// What it takes on the disk, not how long it is (bytes).
    pub used_bytes: u64,
    pub inodes: u64,
    /// Since when this machine had held that content then, by the steady clock (ns); 0 is long ago.
    /// An mtime would say what its author, or a hostile peer, wants it to.
    pub since_ns: u64,
}

/// How much of its file system history may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub bytes: u64,
    pub inodes: u64,
}

/// What is held, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub bytes: u64,
    pub inodes: u64,
}

impl Load {
    fn add(self, bytes: u64, inodes: u64) -> Self {
        Self { bytes: self.bytes.saturating_add(bytes), inodes: self.inodes.saturating_add(inodes) }
    }

    pub fn exceeds(self, quota: Quota) -> bool {
        self.bytes > quota.bytes || self.inodes > quota.inodes
    }
}

/// What is to be done about history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// Indices of what goes, ascending.
    pub goes: Vec<usize>,
    /// What stays.
    pub left: Load,
    /// Of what stays, what may not be pushed out, as it counts against the quota.
    pub guarded: Load,
}

/// Judges all that is kept; `items` in the order of their times, `now_ns` by the same clock.
pub fn judge(items: &[Retained<'_>], now_ns: u64, quota: Quota) -> Retention {
    let guarded = guarded(items, now_ns);
    let thinned = thinned(items, now_ns);
    let is_young = |item: &Retained| item.at_ns > now_ns.saturating_sub(KEEP_YOUNG_NS);
    let is_over = |item: &Retained| item.at_ns.saturating_add(lifetime_ns(item.reason)) < now_ns;
    let mut goes: Vec<bool> =
        (0..items.len()).map(|n| is_over(&items[n]) || (thinned[n] && !guarded[n] && !is_young(&items[n]))).collect();
    let stay = items.iter().zip(&goes).filter(|(_, goes)| !**goes);
    let mut left = stay.fold(Load::default(), |load, (item, _)| load.add(item.used_bytes, item.inodes));
    let mut order: Vec<usize> = (0..items.len()).filter(|&n| !goes[n] && !guarded[n] && !is_young(&items[n])).collect();
    order.sort_by_key(|&n| (matches!(items[n].reason, RetainReason::Conflict | RetainReason::Suspect), n));
    for n in order {
        if !left.exceeds(quota) {
            break;
        }
        goes[n] = true;
        left.bytes = left.bytes.saturating_sub(items[n].used_bytes);
        left.inodes = left.inodes.saturating_sub(items[n].inodes);
    }
    let stays = (0..items.len()).filter(|&n| guarded[n] && !goes[n]).map(|n| &items[n]);
    let largest_bytes = quota.bytes / KEEP_LARGEST_SHARE;
    let guarded = stays.fold(Load::default(), |load, item| load.add(item.used_bytes.min(largest_bytes), item.inodes));
    Retention { goes: (0..items.len()).filter(|&n| goes[n]).collect(), left, guarded }
}

/// Whether nothing more may be replaced or deleted: history is full of what may not be pushed out.
pub fn is_full(guarded: Load, quota: Quota) -> bool {
    guarded.bytes >= quota.bytes || guarded.inodes >= quota.inodes
}

/// What stood a day ago: of each path the first such content that was replaced since, and what had
/// always stood. What a person confirmed counts so.
fn guarded(items: &[Retained<'_>], now_ns: u64) -> Vec<bool> {
    let day_ago = now_ns.saturating_sub(DAY_NS);
    let mut met = std::collections::BTreeSet::new();
    let mut is_met = |item: &Retained| !met.insert(item.path.to_vec());
    let stood = |item: &Retained| item.at_ns >= day_ago && item.since_ns <= day_ago;
    let is_guarded = |item: &Retained| stood(item) && (!is_met(item) || item.since_ns == 0);
    items.iter().map(is_guarded).collect()
}

/// Replaced versions: all of the last hour stay, of the last day the first of each hour, before
/// that the first of each day. The first is what stood before a burst of changes.
fn thinned(items: &[Retained<'_>], now_ns: u64) -> Vec<bool> {
    let mut met = std::collections::BTreeSet::new();
    let is_thinned = |item: &Retained| {
        let span = match now_ns.saturating_sub(item.at_ns) {
            _ if item.reason != RetainReason::Replaced => return false,
            age if age <= HOUR_NS => return false,
            age if age <= DAY_NS => HOUR_NS,
            _ => DAY_NS,
        };
        !met.insert((item.path.to_vec(), span, item.at_ns / span))
    };
    items.iter().map(is_thinned).collect()
}

fn lifetime_ns(reason: RetainReason) -> u64 {
    match reason {
        RetainReason::Replaced => KEEP_REPLACED_NS,
        RetainReason::Deleted => KEEP_DELETED_NS,
        RetainReason::Conflict | RetainReason::Suspect => KEEP_CONFLICT_NS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: u64 = 1000 * DAY_NS + HOUR_NS / 2;

    /// Replaced so many minutes ago, when it was already so many minutes old.
    fn held(path: &str, minutes_ago: u64, reason: RetainReason, stood_minutes: u64) -> Retained<'_> {
        let minute = HOUR_NS / 60;
        let at_ns = NOW - minutes_ago * minute;
        let since_ns = at_ns - stood_minutes * minute;
        Retained { path: path.as_bytes(), at_ns, reason, used_bytes: 10, inodes: 1, since_ns }
    }

    const WEEK: u64 = 7 * 24 * 60;

    #[rstest]
    #[case::nothing(&[], 100, &[])]
    #[case::within_its_time(&[held("b", 29 * 24 * 60, RetainReason::Deleted, 1), held("a", 6 * 24 * 60, RetainReason::Replaced, 1)], 100, &[])]
    #[case::too_old(
        &[
            held("b", 31 * 24 * 60, RetainReason::Deleted, 1),
            held("c", 31 * 24 * 60, RetainReason::Conflict, 1),
            held("a", 8 * 24 * 60, RetainReason::Replaced, 1)
        ],
        100,
        &[0, 1, 2]
    )]
    #[case::the_oldest_over_the_quota(&[held("a", 30, RetainReason::Replaced, 1), held("b", 20, RetainReason::Deleted, 1)], 15, &[0])]
    #[case::losers_go_last(&[held("a", 300, RetainReason::Conflict, 1), held("b", 20, RetainReason::Deleted, 1)], 15, &[1])]
    #[case::and_go_when_there_is_nothing_else(&[held("a", 30, RetainReason::Conflict, 1), held("b", 20, RetainReason::Conflict, 1)], 15, &[0])]
    #[case::what_just_came_is_looked_at_first(&[held("a", 0, RetainReason::Replaced, 1)], 0, &[])]
    #[case::what_stood_a_day_ago_is_not_pushed_out(
        &[held("a", 600, RetainReason::Replaced, WEEK), held("a", 500, RetainReason::Conflict, 1), held("b", 20, RetainReason::Conflict, 1)],
        10,
        &[1, 2]
    )]
    #[case::but_for_a_day_only(&[held("a", 25 * 60, RetainReason::Replaced, WEEK), held("b", 20, RetainReason::Deleted, 1)], 10, &[0])]
    #[case::what_stood_elsewhere_a_day_ago_is_not_pushed_out_by_what_was_at_its_path_before(
        &[held("a", 600, RetainReason::Replaced, 1), held("a", 500, RetainReason::Replaced, WEEK), held("a", 400, RetainReason::Replaced, WEEK)],
        0,
        &[0, 2]
    )]
    #[case::all_of_the_last_hour_stay(&[held("a", 50, RetainReason::Replaced, 1), held("a", 49, RetainReason::Replaced, 1)], 100, &[])]
    #[case::one_an_hour_before_that(
        &[held("a", 119, RetainReason::Replaced, 1), held("a", 118, RetainReason::Replaced, 1), held("b", 118, RetainReason::Replaced, 1)],
        100,
        &[1]
    )]
    #[case::one_a_day_before_that(
        &[held("a", 3000, RetainReason::Replaced, 1), held("a", 2990, RetainReason::Replaced, 1), held("a", 2980, RetainReason::Conflict, 1)],
        100,
        &[1]
    )]
    fn of_history_goes(#[case] items: &[Retained<'_>], #[case] quota: u64, #[case] goes: &[usize]) {
        assert!(items.is_sorted_by_key(|item| item.at_ns), "the table names the oldest first");
        let left = (items.len() - goes.len()) as u64;
        // The same by bytes as by inodes, of which each has one for ten bytes.
        for quota in [Quota { bytes: quota, inodes: 1000 }, Quota { bytes: 1000, inodes: quota / 10 }] {
            let verdict = judge(items, NOW, quota);
            assert_eq!(verdict.goes, goes, "{quota:?}");
            assert_eq!(verdict.left, Load { bytes: 10 * left, inodes: left });
        }
    }

    #[test]
    fn what_a_confirmation_let_go_is_not_pushed_out_for_a_day_also_after_another_content_of_its_path() {
        let confirmed = |minutes_ago| Retained { since_ns: 0, ..held("a", minutes_ago, RetainReason::Deleted, 1) };
        let goes = |items: &[Retained]| judge(items, NOW, Quota { bytes: 0, inodes: 0 }).goes;
        assert!(goes(&[held("a", 600, RetainReason::Replaced, WEEK), confirmed(500), confirmed(400)]).is_empty());
        assert_eq!(goes(&[confirmed(25 * 60), held("a", 600, RetainReason::Deleted, 1)]), [0, 1]);
    }

    #[test]
    fn what_may_not_be_pushed_out_is_counted_and_one_large_file_is_not_all() {
        let old = [held("a", 600, RetainReason::Replaced, WEEK), held("b", 500, RetainReason::Deleted, WEEK)];
        let guarded = |items: &[Retained], bytes| judge(items, NOW, Quota { bytes, inodes: 1000 }).guarded;
        assert_eq!(guarded(&old, 1000), Load { bytes: 20, inodes: 2 });
        assert_eq!(guarded(&old, 20), Load { bytes: 10, inodes: 2 });
        assert!(is_full(guarded(&old, 1000), Quota { bytes: 1000, inodes: 2 }), "inodes run out as bytes do");
        let young = [held("a", 600, RetainReason::Replaced, 30)];
        assert_eq!(guarded(&young, 1000), Load::default());
    }
}
