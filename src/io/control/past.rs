//! The routes of history: what is kept of a path, of a folder, as of a time; and bringing it back.
//!
//! May import `engine` and `model`. Deliberately not here: what goes from history
//! (`engine::retention`).

use super::answer::{Answer, ApiState, Ordered, Queried, Refusal, blocking};
use super::elsewhere::{bring_back, everywhere};
use super::{KeptFacts, Request};
use crate::model::SyncPath;
use crate::views::history::{HistoryView, RestoredView};
use crate::views::status::PathNote;
use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// The times of files are compared to the second.
const SECOND_NS: u64 = 1_000_000_000;
/// The times of versions are shown to the millisecond.
const MS_NS: u64 = 1_000_000;

#[derive(Deserialize, IntoParams)]
pub(super) struct HistoryQuery {
    path: Option<SyncPath>,
    at_ns: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// Without `at_ns`, all that is kept; with it, of each path what was there then and is not there
/// now.
pub(super) async fn history(State(shared): State<ApiState>, query: Queried<HistoryQuery>) -> Answer<HistoryView> {
    let Query(HistoryQuery { path, at_ns, after, limit }) = query?;
    let (at, after) = (number(at_ns)?, after.as_deref().map(PageEnd::parse).transpose()?);
    let (mut kept, silent) = everywhere(&shared, path).await?;
    if let Some(at) = at {
        kept.retain(is_sound);
        kept = as_of(&kept, at);
    }
    if let Some(after) = after {
        kept.retain(|kept| after.is_before(kept, at.is_some()));
    }
    let next = limit.map(|limit| limit.max(1)).filter(|limit| kept.len() > *limit).map(|limit| {
        kept.truncate(limit);
        PageEnd::of(&kept[limit - 1]).text()
    });
    Ok(Json(HistoryView { kept: kept.iter().map(Into::into).collect(), next, silent }))
}

/// The last of a page.
struct PageEnd {
    time: u64,
    path: SyncPath,
}

impl PageEnd {
    fn of(kept: &KeptFacts) -> Self {
        Self { time: kept.time, path: kept.path.clone() }
    }

    fn text(&self) -> String {
        format!("{}/{}", self.time, self.path.to_text())
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = || Refusal::malformed("'after' is what an answer has as 'next'");
        let (time, path) = text.split_once('/').ok_or_else(wrong)?;
        let path = SyncPath::from_text(path).map_err(|_| wrong())?;
        Ok(Self { time: time.parse().map_err(|_| wrong())?, path })
    }

    /// By path, or the newest first.
    fn is_before(&self, kept: &KeptFacts, is_by_path: bool) -> bool {
        let is_later = kept.time < self.time || (kept.time == self.time && kept.path > self.path);
        if is_by_path { kept.path > self.path } else { is_later }
    }
}

fn number(at_ns: Option<String>) -> Result<Option<u64>, Refusal> {
    at_ns.map(|at| at.parse().map_err(|_| Refusal::malformed("at_ns is no number"))).transpose()
}

/// `path`: a file or a folder; missing, the whole folder. `at_ns`: bring back what was there at
/// that time; without it, of a file what was replaced or deleted last, of a folder all that was
/// deleted in it and is not there. What was suspect is left out, but for a file's copy whose very
/// time is named.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct RestoreQuery {
    pub path: Option<SyncPath>,
    pub at_ns: Option<String>,
    /// Only say what would come back.
    #[serde(default)]
    pub dry_run: bool,
}

pub(super) async fn restore(State(shared): State<ApiState>, query: Ordered<RestoreQuery>) -> Answer<RestoredView> {
    let Json(RestoreQuery { path, at_ns, dry_run }) = query?;
    let at = number(at_ns)?;
    let (kept, silent) = everywhere(&shared, path.clone()).await?;
    let chosen = match path.as_ref().filter(|path| !is_folder(path, &kept)) {
        Some(path) if !is_directory(&shared, path).await? || kept.is_empty() => vec![of_one(&kept, path, at)?],
        _ => of_folder(&shared, path.as_ref(), &kept, at).await?,
    };
    let mut view = RestoredView { restored: Vec::new(), failed: Vec::new(), dry_run, silent };
    if dry_run {
        view.restored = chosen.iter().map(Into::into).collect();
        return Ok(Json(view));
    }
    for (kept, end) in chosen.iter().zip(bring_back(&shared, &chosen).await?) {
        match end {
            Ok(()) => view.restored.push(kept.into()),
            Err(why) if chosen.len() == 1 => return Err(Refusal::failed(why)),
            Err(text) => view.failed.push(PathNote { path: kept.path.to_text(), text }),
        }
    }
    Ok(Json(view))
}

/// By what is kept: things below it, and nothing of its own.
fn is_folder(path: &SyncPath, kept: &[KeptFacts]) -> bool {
    !kept.is_empty() && kept.iter().all(|kept| kept.path != *path)
}

async fn is_directory(shared: &ApiState, path: &SyncPath) -> Result<bool, Refusal> {
    let row = shared.handle.ask(|answer| Request::Row { path: path.clone(), answer }).await;
    Ok(row.ok_or_else(Refusal::busy)?.is_some_and(|row| row.head.is_directory()))
}

/// Of a file that was suspect since `at`, what took its place is not what it held then, unless its
/// mtime says so.
fn of_one(kept: &[KeptFacts], path: &SyncPath, at: Option<u64>) -> Result<KeptFacts, Refusal> {
    let own = kept.iter().filter(|kept| kept.path == *path).cloned();
    let (own, suspect): (Vec<_>, Vec<_>) = own.partition(|kept| is_sound(kept) || is_named(kept.time, at));
    let chosen = choose(&own, at);
    let was_suspect =
        choose(&suspect, at).is_some_and(|suspect| chosen.is_none_or(|chosen| suspect.time < chosen.time));
    let is_it = |kept: &&KeptFacts| !was_suspect || at.is_none_or(|at| was_there(kept, at));
    chosen.filter(is_it).cloned().ok_or_else(|| {
        let since = if at.is_some() { " since then" } else { "" };
        Refusal::unknown(match (at, own.is_empty()) {
            _ if was_suspect => format!(
                "of '{path}' history has{since} only what was suspect and may have rotted; to bring that back, name its time as \
                 'dirsync history' shows it"
            ),
            (Some(_), false) => {
                format!("'{path}' was not replaced or deleted since then: what it held then is still there")
            }
            _ => format!("nothing of '{path}' is in history"),
        })
    })
}

/// Whether it may come back without being asked for: what a scrub found rotten would go everywhere
/// as an edit (P8).
fn is_sound(kept: &KeptFacts) -> bool {
    kept.reason != "suspect"
}

/// Whether a time is named: to the nanosecond, to the millisecond as it is shown, or to
/// the second as the log shows it.
pub(super) fn is_named(time: u64, at: Option<u64>) -> bool {
    at.is_some_and(|at| [1, MS_NS, SECOND_NS].iter().any(|unit| at == time - time % unit))
}

async fn of_folder(
    shared: &ApiState,
    path: Option<&SyncPath>,
    kept: &[KeptFacts],
    at: Option<u64>,
) -> Result<Vec<KeptFacts>, Refusal> {
    let kept: Vec<_> = kept.iter().filter(|kept| is_sound(kept)).cloned().collect();
    let chosen = if let Some(at) = at {
        as_of(&kept, at)
    } else {
        let (world, latest) = (shared.world.clone(), as_of_each(&kept, |list| choose(list, None)));
        let is_gone = move |kept: &KeptFacts| !world.is_there(&kept.path);
        blocking(move || Ok(latest.into_iter().filter(is_gone).collect())).await?
    };
    if chosen.is_empty() {
        let folder = path.map_or_else(|| "the folder".to_owned(), |path| format!("'{path}'"));
        let why = if at.is_some() { "that was there then and is not there now" } else { "that is not there now" };
        return Err(Refusal::unknown(format!("history holds nothing of {folder} {why}")));
    }
    Ok(chosen)
}

/// What each path held at `at`, of what was replaced or deleted since. What was made later than
/// that was not there.
fn as_of(kept: &[KeptFacts], at: u64) -> Vec<KeptFacts> {
    as_of_each(kept, |list| choose(list, Some(at)).filter(|kept| was_there(kept, at)))
}

/// By its mtime, unless that says that it was made after it was replaced.
fn was_there(kept: &KeptFacts, at: u64) -> bool {
    kept.mtime < at.saturating_add(SECOND_NS) || kept.mtime > kept.time
}

/// One of the things kept of each path, in the order of paths.
fn as_of_each<'a>(kept: &'a [KeptFacts], choose: impl Fn(&[KeptFacts]) -> Option<&KeptFacts>) -> Vec<KeptFacts> {
    let mut by_path: BTreeMap<&'a SyncPath, Vec<KeptFacts>> = BTreeMap::new();
    for kept in kept {
        by_path.entry(&kept.path).or_default().push(kept.clone());
    }
    by_path.values().filter_map(|list| choose(list).cloned()).collect()
}

/// What was there at `at` is what was first replaced at that time or after it.
fn choose(kept: &[KeptFacts], at: Option<u64>) -> Option<&KeptFacts> {
    match at {
        None => kept.iter().max_by_key(|kept| kept.time),
        Some(at) => kept.iter().filter(|kept| kept.time >= at).min_by_key(|kept| kept.time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &str, time: u64, mtime: u64) -> KeptFacts {
        let path = SyncPath::new(path).unwrap();
        let (name, mode, elsewhere) = (format!("{time}"), crate::model::Mode(0o644), Vec::new());
        KeptFacts { name, path, time, reason: "replaced", size: 0, mtime, mode, elsewhere }
    }

    #[test]
    fn a_time_names_what_was_there_then() {
        let list = [kept("f", 30, 0), kept("f", 20, 0), kept("f", 10, 0)];
        let chosen = |at| choose(&list, at).map(|kept| kept.time);
        assert_eq!(chosen(None), Some(30));
        assert_eq!(chosen(Some(5)), Some(10));
        assert_eq!(chosen(Some(20)), Some(20), "the time that history shows names that version");
        assert_eq!(chosen(Some(21)), Some(30));
        assert_eq!(chosen(Some(31)), None, "since then nothing was replaced");
        assert_eq!(choose(&[], None), None);
    }

    #[test]
    fn a_page_goes_on_after_the_last_of_the_one_before() {
        let all = [kept("a/b", 30, 0), kept("c", 30, 0), kept("a", 20, 0), kept("z", 10, 0)];
        for (n, last) in all.iter().enumerate() {
            let end = PageEnd::parse(&PageEnd::of(last).text()).ok().unwrap();
            let rest: Vec<_> = all.iter().filter(|kept| end.is_before(kept, false)).map(|kept| kept.time).collect();
            assert_eq!(rest, all[n + 1..].iter().map(|kept| kept.time).collect::<Vec<_>>());
        }
        let end = PageEnd::parse("30/a/b").ok().unwrap();
        let by_path: Vec<_> = all.iter().filter(|kept| end.is_before(kept, true)).map(|kept| kept.time).collect();
        assert_eq!(by_path, [30, 10], "only those whose path is later");
        for wrong in ["", "30", "x/a", "30/../a", "30/"] {
            assert!(PageEnd::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_suspect_comes_back_only_where_its_very_time_is_named() {
        let s = SECOND_NS;
        let suspect = |path, time| KeptFacts { reason: "suspect", ..kept(path, time, 0) };
        let path = SyncPath::new("f").unwrap();
        let one =
            |list: &[KeptFacts], at| of_one(list, &path, at).map(|kept| kept.time).map_err(|why| why.text().to_owned());
        let list = [suspect("f", 40 * s + 7), kept("f", 30 * s, 0), suspect("f", 20 * s + 7), kept("f", 10 * s, 0)];
        assert_eq!(one(&list, None), Ok(30 * s));
        assert_eq!(one(&list, Some(15 * s)), Ok(30 * s), "it was healed: that is what it held");
        for named in [20 * s, 20 * s + 7] {
            assert_eq!(one(&list, Some(named)), Ok(20 * s + 7));
        }
        for (list, at) in [(&list[..], Some(35 * s)), (&list[..1], None), (&list[..1], Some(35 * s))] {
            assert!(one(list, at).unwrap_err().contains("suspect"), "{at:?}");
        }
        // What replaced it was made later, and is not what it held.
        let list = [kept("f", 30 * s, 25 * s), suspect("f", 20 * s)];
        assert!(one(&list, Some(15 * s)).unwrap_err().contains("suspect"));
        assert_eq!(one(&list, Some(25 * s)), Ok(30 * s));
        let list = [suspect("f", 40 * s), kept("f", 30 * s, 25 * s)];
        assert_eq!(one(&list, Some(15 * s)), Ok(30 * s), "it was suspect later");
    }

    #[test]
    fn a_folder_as_of_a_time_has_one_version_of_each_path_that_was_there() {
        let s = SECOND_NS;
        let list = [
            kept("d/later", 90 * s, 80 * s),
            kept("d/ahead", 90 * s, 99 * s),
            kept("d/f", 60 * s, 50 * s),
            kept("d/f", 40 * s, 10 * s),
            kept("d/before", 20 * s, 10 * s),
        ];
        let chosen: Vec<_> = as_of(&list, 30 * s).iter().map(|kept| (kept.path.to_text(), kept.time / s)).collect();
        assert_eq!(chosen, [("d/ahead".to_owned(), 90), ("d/f".to_owned(), 40)]);
    }
}
