//! What of history goes, and when remote changes must wait for it: a plain function of what is kept and the time.
//!
//! Old things go first, losers of conflicts and what was suspect last. What stood a day ago and was replaced since stays for a day, however much came
//! after it: a machine gone mad, or a peer that floods, does not push out what was good yesterday (P8).

use super::action::Keep;

const HOUR_NS: u64 = 3600 * 1_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;
const CONFLICT_NS: u64 = 30 * DAY_NS;
const DELETED_NS: u64 = 30 * DAY_NS;
const REPLACED_NS: u64 = 7 * DAY_NS;
/// What has only just come is looked at once more before anything is concluded about it.
const YOUNG_NS: u64 = 10 * 1_000_000_000;
/// A single thing counts for at most this part of the quota, so that one large file alone makes nobody wait.
const LARGEST_SHARE: u64 = 4;

/// Something kept. `path`: whatever tells paths apart.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    pub path: &'a [u8],
    /// When it was replaced or deleted, nanoseconds since 1970.
    pub time_ns: u64,
    pub reason: Keep,
    pub size_bytes: u64,
    /// Its own mtime, nanoseconds since 1970.
    pub mtime_ns: u64,
}

/// What is to be done about history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// Indices of what goes, ascending.
    pub goes: Vec<usize>,
    /// Of what stays (bytes).
    pub left_bytes: u64,
    /// Of what may not be pushed out, as it counts against the quota (bytes).
    pub guarded_bytes: u64,
}

/// Judges all that is kept; `items` in the order of their times.
pub fn judge(items: &[Held<'_>], now_ns: u64, quota_bytes: u64) -> Retention {
    let guarded = guarded(items, now_ns);
    let thinned = thinned(items, now_ns);
    let is_young = |item: &Held| item.time_ns > now_ns.saturating_sub(YOUNG_NS);
    let is_over = |item: &Held| item.time_ns.saturating_add(lifetime_ns(item.reason)) < now_ns;
    let mut goes: Vec<bool> =
        (0..items.len()).map(|n| is_over(&items[n]) || (thinned[n] && !guarded[n] && !is_young(&items[n]))).collect();
    let stay = items.iter().zip(&goes).filter(|(_, goes)| !**goes);
    let mut left_bytes = stay.map(|(item, _)| item.size_bytes).fold(0, u64::saturating_add);
    let mut order: Vec<usize> = (0..items.len()).filter(|&n| !goes[n] && !guarded[n] && !is_young(&items[n])).collect();
    order.sort_by_key(|&n| (matches!(items[n].reason, Keep::Conflict | Keep::Suspect), n));
    for n in order {
        if left_bytes <= quota_bytes {
            break;
        }
        goes[n] = true;
        left_bytes -= items[n].size_bytes;
    }
    let counts = |n: usize| items[n].size_bytes.min(quota_bytes / LARGEST_SHARE);
    let guarded_bytes = (0..items.len()).filter(|&n| guarded[n] && !goes[n]).map(counts).fold(0, u64::saturating_add);
    Retention { goes: (0..items.len()).filter(|&n| goes[n]).collect(), left_bytes, guarded_bytes }
}

/// Whether nothing more may be replaced or deleted: history is full of what may not be pushed out.
pub fn is_full(guarded_bytes: u64, quota_bytes: u64) -> bool {
    guarded_bytes >= quota_bytes
}

/// What stood a day ago: of each path the first that was replaced since, unless it was younger than that.
fn guarded(items: &[Held<'_>], now_ns: u64) -> Vec<bool> {
    let day_ago = now_ns.saturating_sub(DAY_NS);
    let mut met = std::collections::BTreeSet::new();
    let is_guarded = |item: &Held| {
        let is_first = item.time_ns >= day_ago && met.insert(item.path.to_vec());
        // An mtime after the replacing says nothing about how long it stood.
        is_first && (item.mtime_ns <= day_ago || item.mtime_ns > item.time_ns)
    };
    items.iter().map(is_guarded).collect()
}

/// Replaced versions: all of the last hour stay, of the last day the first of each hour, before that the first of each day.
/// The first is what stood before a burst of changes.
fn thinned(items: &[Held<'_>], now_ns: u64) -> Vec<bool> {
    let mut met = std::collections::BTreeSet::new();
    let is_thinned = |item: &Held| {
        let span = match now_ns.saturating_sub(item.time_ns) {
            _ if item.reason != Keep::Replaced => return false,
            age if age <= HOUR_NS => return false,
            age if age <= DAY_NS => HOUR_NS,
            _ => DAY_NS,
        };
        !met.insert((item.path.to_vec(), span, item.time_ns / span))
    };
    items.iter().map(is_thinned).collect()
}

fn lifetime_ns(reason: Keep) -> u64 {
    match reason {
        Keep::Replaced => REPLACED_NS,
        Keep::Deleted => DELETED_NS,
        Keep::Conflict | Keep::Suspect => CONFLICT_NS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: u64 = 1000 * DAY_NS + HOUR_NS / 2;

    /// Replaced so many minutes ago, when it was already so many minutes old.
    fn held(path: &str, minutes_ago: u64, reason: Keep, stood_minutes: u64) -> Held<'_> {
        let minute = HOUR_NS / 60;
        let time_ns = NOW - minutes_ago * minute;
        Held { path: path.as_bytes(), time_ns, reason, size_bytes: 10, mtime_ns: time_ns - stood_minutes * minute }
    }

    const WEEK: u64 = 7 * 24 * 60;

    #[rstest]
    #[case::nothing(&[], 100, &[])]
    #[case::within_its_time(&[held("b", 29 * 24 * 60, Keep::Deleted, 1), held("a", 6 * 24 * 60, Keep::Replaced, 1)], 100, &[])]
    #[case::too_old(
        &[
            held("b", 31 * 24 * 60, Keep::Deleted, 1),
            held("c", 31 * 24 * 60, Keep::Conflict, 1),
            held("a", 8 * 24 * 60, Keep::Replaced, 1)
        ],
        100,
        &[0, 1, 2]
    )]
    #[case::the_oldest_over_the_quota(&[held("a", 30, Keep::Replaced, 1), held("b", 20, Keep::Deleted, 1)], 15, &[0])]
    #[case::losers_go_last(&[held("a", 300, Keep::Conflict, 1), held("b", 20, Keep::Deleted, 1)], 15, &[1])]
    #[case::and_go_when_there_is_nothing_else(&[held("a", 30, Keep::Conflict, 1), held("b", 20, Keep::Conflict, 1)], 15, &[0])]
    #[case::what_just_came_is_looked_at_first(&[held("a", 0, Keep::Replaced, 1)], 0, &[])]
    #[case::what_stood_a_day_ago_is_not_pushed_out(
        &[held("a", 600, Keep::Replaced, WEEK), held("a", 500, Keep::Conflict, 1), held("b", 20, Keep::Conflict, 1)],
        10,
        &[1, 2]
    )]
    #[case::but_for_a_day_only(&[held("a", 25 * 60, Keep::Replaced, WEEK), held("b", 20, Keep::Deleted, 1)], 10, &[0])]
    #[case::the_second_version_of_that_day_did_not_stand(
        &[held("a", 600, Keep::Replaced, 1), held("a", 500, Keep::Replaced, WEEK)],
        0,
        &[0, 1]
    )]
    #[case::all_of_the_last_hour_stay(&[held("a", 50, Keep::Replaced, 1), held("a", 49, Keep::Replaced, 1)], 100, &[])]
    #[case::one_an_hour_before_that(
        &[held("a", 119, Keep::Replaced, 1), held("a", 118, Keep::Replaced, 1), held("b", 118, Keep::Replaced, 1)],
        100,
        &[1]
    )]
    #[case::one_a_day_before_that(
        &[held("a", 3000, Keep::Replaced, 1), held("a", 2990, Keep::Replaced, 1), held("a", 2980, Keep::Conflict, 1)],
        100,
        &[1]
    )]
    fn of_history_goes(#[case] items: &[Held<'_>], #[case] quota: u64, #[case] goes: &[usize]) {
        assert!(items.is_sorted_by_key(|item| item.time_ns), "the table names the oldest first");
        let verdict = judge(items, NOW, quota);
        assert_eq!(verdict.goes, goes);
        assert_eq!(verdict.left_bytes, 10 * (items.len() - goes.len()) as u64);
    }

    #[test]
    fn what_may_not_be_pushed_out_is_counted_and_one_large_file_is_not_all() {
        let old = [held("a", 600, Keep::Replaced, WEEK), held("b", 500, Keep::Deleted, WEEK)];
        assert_eq!(judge(&old, NOW, 1000).guarded_bytes, 20);
        assert_eq!(judge(&old, NOW, 20).guarded_bytes, 10);
        let young = [held("a", 600, Keep::Replaced, 30)];
        assert_eq!(judge(&young, NOW, 1000).guarded_bytes, 0);
    }
}
