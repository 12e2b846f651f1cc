//! The routes of conflicts: what there is, how two versions differ, and what a person decides.
//!
//! Deciding is a normal new version, or nothing but a note that the winner is fine. May import
//! `engine` and `model`. Deliberately not here: who wins (`engine`).

use super::answer::{Answer, ApiState, Ordered, Queried, Refusal, blocking};
use super::elsewhere::{bring_back, everywhere, identify, kept};
use super::side::{Side, ours};
use super::{KeptFacts, Request};
use crate::engine::Event;
use crate::engine::api::index::{Conflict, ConflictFilter, Row};
use crate::engine::merge::label;
use crate::io::merge3;
use crate::model::{ContentId, DeviceId, Entry, SyncPath, text};
use crate::views::conflicts::{ConflictView, ConflictsView, DecidedView, DiffLine, DiffView, SideView};
use crate::wire::conflict::Sides;
use crate::wire::message::{PastWhat, SURVEY_PATHS};
use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

const PAGE: usize = 1000;

#[derive(Deserialize, IntoParams)]
pub(super) struct ConflictsQuery {
    path: Option<SyncPath>,
    #[serde(default)]
    all: bool,
    after: Option<i64>,
}

pub(super) async fn list(State(shared): State<ApiState>, query: Queried<ConflictsQuery>) -> Answer<ConflictsView> {
    let Query(ConflictsQuery { path, all, after }) = query?;
    let wanted = ConflictFilter { path, below: true, settled: all, after: after.unwrap_or(0), limit: PAGE };
    let (us, conflicts) = ask(&shared, wanted).await?;
    let more = conflicts.len() == PAGE;
    Ok(Json(ConflictsView {
        conflicts: conflicts.iter().map(|conflict| ConflictView::new(conflict, us)).collect(),
        more,
    }))
}

async fn ask(shared: &ApiState, wanted: ConflictFilter) -> Result<(DeviceId, Vec<Conflict>), Refusal> {
    shared.handle.ask(|answer| Request::Conflicts { wanted, answer }).await.ok_or_else(Refusal::busy)
}

/// Those of a path, the latest last; decided ones only where there is no other. And this machine's
/// device.
async fn of_path(shared: &ApiState, path: &SyncPath) -> Result<(DeviceId, Vec<Conflict>), Refusal> {
    for settled in [false, true] {
        let wanted =
            ConflictFilter { path: Some(path.clone()), settled, limit: usize::MAX, ..ConflictFilter::default() };
        let (us, conflicts) = ask(shared, wanted).await?;
        if !conflicts.is_empty() {
            return Ok((us, conflicts));
        }
    }
    Err(Refusal::unknown(format!("there is no conflict at '{path}'; `dirsync conflicts` lists those there are")))
}

async fn row(shared: &ApiState, path: &SyncPath) -> Result<Option<Row>, Refusal> {
    shared.handle.ask(|answer| Request::Row { path: path.clone(), answer }).await.ok_or_else(Refusal::busy)
}

#[derive(Deserialize, IntoParams)]
pub(super) struct DiffQuery {
    path: SyncPath,
    /// The loser's; the latest one where missing.
    version: Option<String>,
}

pub(super) async fn diff(State(shared): State<ApiState>, query: Queried<DiffQuery>) -> Answer<DiffView> {
    let Query(DiffQuery { path, version }) = query?;
    let (us, conflicts) = of_path(&shared, &path).await?;
    let is_meant =
        |conflict: &&Conflict| version.as_ref().is_none_or(|version| label(&conflict.sides.loser.version) == *version);
    let Some(conflict) = conflicts.iter().rev().find(is_meant) else {
        return Err(unknown_version(&path, &version.unwrap_or_default(), &conflicts, us));
    };
    let theirs = row(&shared, &path).await?.map_or_else(|| conflict.sides.winner.clone(), |row| row.head);
    let name =
        if label(&theirs.version) == label(&conflict.sides.winner.version) { &*conflict.sides.winner_name } else { "" };
    let (note, lines) = compare(&shared, conflict, &path).await?;
    let ours = SideView::new(&conflict.sides.loser, &conflict.sides.loser_name);
    Ok(Json(DiffView { path: path.to_text(), ours, theirs: SideView::new(&theirs, name), note, lines }))
}

async fn compare(
    shared: &ApiState,
    conflict: &Conflict,
    path: &SyncPath,
) -> Result<(Option<String>, Vec<DiffLine>), Refusal> {
    let limit = merge3::TEXT_BYTES as u64 + 1;
    let (world, path) = (shared.world.clone(), path.clone());
    let (name, beside) = (conflict.kept.clone(), conflict.sides.beside.clone());
    Ok(blocking(move || {
        let kept = name.map(|name| world.kept_bytes(&name, limit)).transpose()?.flatten();
        let ours = match (kept, beside) {
            (None, Some(beside)) => world.bytes_at(&beside, limit)?,
            (kept, _) => kept,
        };
        let note = |text: &str| (Some(text.to_owned()), Vec::new());
        let (Some(ours), theirs) = (ours, world.bytes_at(&path, limit)?.unwrap_or_default()) else {
            return Ok(note(
                "the loser is no file, or this machine does not keep it; see 'dirsync history PATH' for who does",
            ));
        };
        let (Some(ours), Some(theirs)) = (merge3::text(&ours), merge3::text(&theirs)) else {
            return Ok(note("they are no texts of at most 1 MiB, and are not compared"));
        };
        let lines = merge3::compare(ours, theirs);
        let shown = |(sign, line): (char, String)| DiffLine { sign, text: shown(&line) };
        Ok((lines.is_empty().then(|| "they are the same".to_owned()), lines.into_iter().map(shown).collect()))
    })
    .await?)
}

/// A line of a file, safe to print. Unlike a name it need not be read back: tabs and backslashes
/// stay.
fn shown(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\t' | '\\' => out.push(c),
            c => out.push_str(&text::escape(c.encode_utf8(&mut [0; 4]).as_bytes())),
        }
    }
    out
}

/// `choice`: `winner`, `loser`, `ours` or `theirs` where one of the two is this machine's, the name
/// of a machine that made one of the two, or a version.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct KeepQuery {
    pub path: SyncPath,
    pub choice: String,
}

pub(super) async fn keep(State(shared): State<ApiState>, query: Ordered<KeepQuery>) -> Answer<DecidedView> {
    let Json(KeepQuery { path, choice }) = query?;
    let (us, conflicts) = of_path(&shared, &path).await?;
    let Some(chosen) = choose(&conflicts, &choice, us) else {
        return Err(unknown_version(&path, &choice, &conflicts, us));
    };
    let row = row(&shared, &path).await?;
    let there = row
        .as_ref()
        .map(|row| &row.head)
        .filter(|there| is_meant(there, &conflicts, side_of(&conflicts, &choice, us), chosen.0));
    let (version, is_there) = (label(&there.unwrap_or(chosen.0).version), there.is_some());
    if !is_there {
        let Some(found) = find(&shared, &path, chosen).await? else {
            return Err(Refusal::unknown(format!(
                "version {version} of '{path}' is in no history that can be asked; is the machine linked that made it?"
            )));
        };
        let ends = bring_back(&shared, &[found]).await?;
        ends.into_iter().collect::<Result<(), String>>().map_err(Refusal::failed)?;
    }
    let last = conflicts.last().map_or(0, |conflict| conflict.id);
    let how = format!("kept {version}");
    let event = Event::Settle { path: path.clone(), last, how };
    let settled = shared.handle.ask(|answer| Request::Do { event, answer }).await;
    settled.ok_or_else(Refusal::busy)?;
    let world = shared.world.clone();
    let beside: Vec<SyncPath> = conflicts.iter().filter_map(|conflict| conflict.sides.beside.clone()).collect();
    let beside =
        blocking(move || Ok(beside.into_iter().filter(|path| world.is_there(path)).collect::<Vec<_>>())).await?;
    let beside = beside.iter().map(SyncPath::to_text).collect();
    Ok(Json(DecidedView { path: path.to_text(), version, restored: !is_there, beside }))
}

/// The entry that is meant, and where history keeps it if that is known.
fn choose<'a>(conflicts: &'a [Conflict], choice: &str, us: DeviceId) -> Option<(&'a Entry, Option<&'a str>)> {
    let latest = conflicts.last()?;
    let loser = |conflict: &'a Conflict| (&conflict.sides.loser, conflict.kept.as_deref());
    let sides = conflicts.iter().rev().flat_map(|conflict| [loser(conflict), (&conflict.sides.winner, None)]);
    match side(latest, choice, us) {
        Some(Side::Loser) => Some(loser(latest)),
        Some(Side::Winner) => Some((&latest.sides.winner, None)),
        None => sides.into_iter().find(|(entry, _)| label(&entry.version) == choice),
    }
}

/// The side that a choice names, if it names one; a machine that made both names neither.
fn side(conflict: &Conflict, choice: &str, us: DeviceId) -> Option<Side> {
    let Sides { winner_name, loser_name, .. } = &conflict.sides;
    match choice {
        "winner" => Some(Side::Winner),
        "loser" => Some(Side::Loser),
        "ours" => ours(conflict, us),
        "theirs" => ours(conflict, us).map(Side::other),
        _ if winner_name == loser_name => None,
        machine if machine == winner_name => Some(Side::Winner),
        machine if machine == loser_name => Some(Side::Loser),
        _ => None,
    }
}

/// The same of the latest one.
fn side_of(conflicts: &[Conflict], choice: &str, us: DeviceId) -> Option<Side> {
    side(conflicts.last()?, choice, us)
}

/// Whether what is at the path now is what is to be kept. While nobody has decided, the winner is
/// whatever won and was made of it since, as `diff` shows it: to bring back what won then would
/// undo later edits everywhere.
fn is_meant(there: &Entry, conflicts: &[Conflict], side: Option<Side>, chosen: &Entry) -> bool {
    let is_open = |conflict: &Conflict| conflict.settled.is_none() && !there.same_content(&conflict.sides.loser);
    let is_winner = |conflict: &Conflict| side == Some(Side::Winner) && is_open(conflict);
    there.same_content(chosen) || conflicts.last().is_some_and(is_winner)
}

/// What a history keeps of the chosen version: here by its name, else by its content, here or on a
/// linked machine.
async fn find(
    shared: &ApiState,
    path: &SyncPath,
    (entry, name): (&Entry, Option<&str>),
) -> Result<Option<KeptFacts>, Refusal> {
    let mut all = kept(shared, Some(path.clone())).await?;
    all.retain(|kept| kept.path == *path);
    if let Some(at) = all.iter().position(|kept| Some(kept.name.as_str()) == name) {
        return Ok(Some(all.swap_remove(at)));
    }
    let Some((content, size)) = entry.file() else { return Ok(None) };
    all.retain(|kept| kept.size == size);
    let world = shared.world.clone();
    let found = blocking(move || {
        for kept in all {
            if world.content_of_kept(&kept.name)? == Some(content) {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    });
    match found.await? {
        Some(found) => Ok(Some(found)),
        None => find_elsewhere(shared, path, content, size).await,
    }
}

async fn find_elsewhere(
    shared: &ApiState,
    path: &SyncPath,
    content: ContentId,
    size: u64,
) -> Result<Option<KeptFacts>, Refusal> {
    let (mut all, _) = everywhere(shared, Some(path.clone())).await?;
    all.retain(|kept| kept.path == *path && kept.size == size && kept.name.is_empty());
    let places: Vec<_> = all.iter().flat_map(|kept| kept.elsewhere.iter().map(move |place| (kept, place))).collect();
    for part in places.chunks(SURVEY_PATHS) {
        let whats = identify(shared, part).await?;
        let found = part.iter().zip(whats).find(|(_, what)| *what == PastWhat::File(content));
        if let Some(((kept, place), _)) = found {
            return Ok(Some(KeptFacts { elsewhere: vec![(*place).clone()], ..(*kept).clone() }));
        }
    }
    Ok(None)
}

fn unknown_version(path: &SyncPath, version: &str, conflicts: &[Conflict], us: DeviceId) -> Refusal {
    let labels: Vec<_> = conflicts.iter().map(|conflict| label(&conflict.sides.loser.version)).collect();
    let has_ours = conflicts.last().is_some_and(|latest| ours(latest, us).is_some());
    if matches!(version, "ours" | "theirs") && !has_ours {
        return Refusal::unknown(format!(
            "neither version at '{path}' is this machine's alone; say winner, loser, a machine's name, or one of: {}",
            labels.join(", ")
        ));
    }
    let (version, labels) = (text::escape(version.as_bytes()), labels.join(", "));
    Refusal::unknown(format!(
        "no conflict at '{path}' has a version '{version}'; say winner, loser, a machine's name, or one of: {labels}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::index::{ConflictSource, Settled};
    use crate::model::{FileTime, Kind, Mode, Version, VersionVector};

    const US: DeviceId = DeviceId([99; 32]);

    fn entry(n: u8) -> Entry {
        let version = Version { stamp: u64::from(n), author: DeviceId([n; 32]), seen: VersionVector::default() };
        let kind = Kind::File { size: 1, content: ContentId([n; 32]) };
        Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
    }

    fn conflict(id: i64, winner: u8, loser: u8) -> Conflict {
        let sides = Sides {
            winner: entry(winner),
            winner_name: "b".into(),
            loser: entry(loser),
            loser_name: "a".into(),
            beside: None,
        };
        let (path, kept) = (SyncPath::new("f").unwrap(), Some(format!("kept{loser}")));
        Conflict { id, at: 1, path, kept, settled: None, sides, source: None }
    }

    #[test]
    fn a_choice_names_a_side_of_the_latest_conflict_or_any_version() {
        let conflicts = [conflict(1, 3, 1), conflict(2, 4, 2)];
        let chosen = |choice: &str| choose(&conflicts, choice, US).map(|(entry, kept)| (entry.version.stamp, kept));
        assert_eq!(chosen("ours"), Some((2, Some("kept2"))));
        assert_eq!(chosen("theirs"), Some((4, None)));
        for (same, as_this) in [("loser", "ours"), ("winner", "theirs"), ("a", "ours"), ("b", "theirs")] {
            assert_eq!(chosen(same), chosen(as_this), "{same}");
        }
        let mut by_one = conflict(1, 3, 1);
        by_one.sides.winner_name = "a".into();
        assert_eq!(side(&by_one, "a", US), None, "it made both");
        assert_eq!(chosen(&label(&entry(1).version)), Some((1, Some("kept1"))));
        assert_eq!(chosen(&label(&entry(3).version)), Some((3, None)));
        assert_eq!(chosen("mine"), None);
        assert!(unknown_version(&conflicts[0].path, "\u{1b}", &conflicts, US).text().contains("\\x1b"));
    }

    #[test]
    fn ours_is_what_lost_here_or_was_made_here_and_means_nothing_elsewhere() {
        let source = Some(ConflictSource { device: DeviceId([5; 32]), relayed: false });
        let known = Conflict { source, ..conflict(1, 3, 1) };
        for (us, expected) in [(3, Some(Side::Winner)), (1, Some(Side::Loser)), (2, None)] {
            assert_eq!(side(&known, "ours", DeviceId([us; 32])), expected, "{us}");
            assert_eq!(side(&known, "theirs", DeviceId([us; 32])), expected.map(Side::other), "{us}");
        }
        assert_eq!(side(&conflict(1, 3, 1), "ours", US), Some(Side::Loser), "it was on disk here");
        let refused = unknown_version(&known.path, "ours", std::slice::from_ref(&known), US);
        assert!(refused.text().contains("this machine's alone"), "{}", refused.text());
    }

    #[test]
    fn theirs_is_what_won_and_was_made_of_it_since_until_someone_has_decided() {
        let open = conflict(1, 3, 1);
        let decided = Conflict { settled: Some(Settled { how: "kept ours".into(), at: 1 }), ..open.clone() };
        for (case, there, conflict, choice, meant) in [
            ("what won is there", 3, &open, "theirs", true),
            ("it was edited since", 4, &open, "theirs", true),
            ("it was edited since", 4, &open, "winner", true),
            ("it was edited since", 4, &open, "b", true),
            ("ours was brought back by hand", 1, &open, "theirs", false),
            ("a version is named", 4, &open, "3", false),
            ("ours", 4, &open, "ours", false),
            ("it was decided", 4, &decided, "theirs", false),
        ] {
            let chosen = if choice == "ours" { &conflict.sides.loser } else { &conflict.sides.winner };
            let side = side(conflict, choice, US);
            assert_eq!(is_meant(&entry(there), std::slice::from_ref(conflict), side, chosen), meant, "{case}");
        }
    }

    #[test]
    fn lines_of_files_are_safe_to_print() {
        assert_eq!(shown("\tif a \\ b { \u{1b}[31m }\u{202e}"), "\tif a \\ b { \\x1b[31m }\\xe2\\x80\\xae");
    }
}
