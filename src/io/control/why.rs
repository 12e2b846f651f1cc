//! The route of `dirsync why`: how one path stands, in words that a page can show as well.
//!
//! May import `engine` and `model`. Deliberately not here: what is known of a path (`engine::why`).

use super::Request;
use super::answer::{Answer, ApiState, Queried, Refusal};
use crate::engine::api::index::Row;
use crate::engine::{Holders, LocalKind, StatKind, WaitsFor, Why};
use crate::humanize::{bytes, counted, listed};
use crate::io::journal::problem_sentence;
use crate::model::path::IGNORE_FILE;
use crate::model::{Kind, SyncPath, text};
use crate::views::status::EntryView;
use crate::views::why::{IgnoredView, WhyView};
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
pub(super) struct WhyQuery {
    path: SyncPath,
}

pub(super) async fn why(State(shared): State<ApiState>, query: Queried<WhyQuery>) -> Answer<WhyView> {
    let Query(WhyQuery { path }) = query?;
    let there = shared.world.kind_at(&path);
    let is_dir = there == Some(StatKind::Directory);
    let asked = shared.handle.ask(|answer| Request::Why { path: path.clone(), is_dir, answer }).await;
    Ok(Json(view(&path, asked.ok_or_else(Refusal::busy)?, there)))
}

fn view(path: &SyncPath, why: Why, there: Option<StatKind>) -> WhyView {
    let mut view = WhyView {
        path: path.to_text(),
        state: String::new(),
        text: String::new(),
        entry: None,
        machine: None,
        holders: Vec::new(),
        unknown: Vec::new(),
        waits_for: None,
        blocked: false,
        ignored: None,
    };
    let special = match there {
        Some(StatKind::Other) => Some("a socket, fifo or device: it is left alone, and is not synced"),
        Some(StatKind::Mount) => Some("another file system is mounted there: it is left alone, and is not synced"),
        _ => None,
    };
    let (state, text) = match why {
        Why::Ignored(covering) => {
            view.ignored = Some(ignored(&covering));
            ("ignored", format!("ignored: {}", rule(&covering, path)))
        }
        Why::NewlyUnignored(covering) => {
            view.ignored = Some(ignored(&covering));
            let rule = rule(&covering, path);
            let held = "another machine took that line away; it is synced after 'dirsync confirm' here";
            ("ignored", format!("ignored: {rule} until now; {held}"))
        }
        Why::Problem { row, problem } => {
            view.set_entry(path, row.as_ref(), None);
            ("problem", format!("needs attention: {}", problem_sentence(&problem)))
        }
        _ if special.is_some() => ("special", special.unwrap_or_default().to_owned()),
        Why::Pending { row, author, waits_for } => {
            view.set_entry(path, row.as_ref(), Some(&author));
            view.blocked = is_blocked(&waits_for);
            let what = row.as_ref().map(|row| format!("{}; ", version(row, &author))).unwrap_or_default();
            let waits_for = waiting(&waits_for);
            let text = format!("pending: {what}it waits for {waits_for}");
            view.waits_for = Some(waits_for);
            ("pending", text)
        }
        Why::Local { row, author, kind } => {
            view.set_entry(path, Some(&row), Some(&author));
            let what = match kind {
                LocalKind::New => "new here",
                LocalKind::Edited => "edited here",
                LocalKind::Attributes => "has other permissions or another time here",
                LocalKind::Deleted => "deleted here",
            };
            let group = of_the_group(&row, &author);
            let ways = "'dirsync promote' announces it, 'dirsync revert' takes the group's state back";
            ("local", format!("local change: {what}, announced to nobody; {group}; {ways}"))
        }
        Why::NotInstalled { row, author, kind } => {
            view.set_entry(path, Some(&row), Some(&author));
            let what = match kind {
                LocalKind::New => "deleted by others, and still here",
                LocalKind::Edited => "changed by others",
                LocalKind::Attributes => "given other permissions or another time by others",
                LocalKind::Deleted => "made by others, and not here",
            };
            let group = of_the_group(&row, &author);
            let ways = "this machine is send-only; 'dirsync override' makes what is here the group's newest version";
            ("not_installed", format!("not installed: {what}; {group}; {ways}"))
        }
        Why::Synced { row, author, holders } => {
            view.set_entry(path, Some(&row), Some(&author));
            let text = format!("synced: {}; {}", version(&row, &author), held(&holders));
            (view.holders, view.unknown) = (names(&holders.whole), names(&holders.unknown));
            ("synced", text)
        }
        Why::Deleted { .. } | Why::Unknown if there.is_some() => {
            let waits_for = "an inspection of the disk, which has not come by it yet".to_owned();
            let text = format!("pending: it waits for {waits_for}");
            view.waits_for = Some(waits_for);
            ("pending", text)
        }
        Why::Deleted { row, author } => {
            view.set_entry(path, Some(&row), Some(&author));
            let hint = "'dirsync history' shows what is kept of it";
            ("not_there", format!("not there: {}; {hint}", version(&row, &author)))
        }
        Why::Unknown => ("not_there", "not there, and nothing is known of it".to_owned()),
    };
    view.state = state.to_owned();
    view.text = text;
    view
}

impl WhyView {
    fn set_entry(&mut self, path: &SyncPath, row: Option<&Row>, author: Option<&str>) {
        self.entry = row.map(|row| EntryView::new(path, row));
        self.machine = author.filter(|name| !name.is_empty()).map(escaped);
    }
}

fn ignored(covering: &crate::engine::api::ignore::Covering) -> IgnoredView {
    IgnoredView {
        file: IGNORE_FILE.to_owned(),
        line: covering.line,
        pattern: text::escape(covering.pattern.as_bytes()),
        matched: covering.matched.to_text(),
    }
}

fn rule(covering: &crate::engine::api::ignore::Covering, path: &SyncPath) -> String {
    let IgnoredView { file, line, pattern, matched } = ignored(covering);
    let what = if covering.matched == *path { String::new() } else { format!("its folder '{matched}' ") };
    format!("{what}is covered by '{pattern}' ({file}, line {line})")
}

fn of_the_group(row: &Row, author: &str) -> String {
    if row.is_unheard() {
        return "the group has nothing there".to_owned();
    }
    format!("the group has {}", version(row, author))
}

/// `the file of beta (2.0 KiB), changed ...`, or who deleted it.
fn version(row: &Row, author: &str) -> String {
    let entry = &row.head;
    let author = escaped(author);
    let at = |ns: u64| match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(time) => format!(" {}", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
        Err(_) => String::new(),
    };
    match &entry.kind {
        Kind::File { size, .. } => {
            format!("a file of {}, changed by {author}{}", bytes(*size), at(entry.version.stamp))
        }
        Kind::Directory => format!("a folder, made by {author}"),
        Kind::Symlink { target } => format!("a link to '{}', made by {author}", text::escape(target)),
        Kind::Deleted { at: deleted } => format!("deleted by {author}{}", at(*deleted)),
    }
}

fn held(holders: &Holders) -> String {
    let (whole, unknown) = (names(&holders.whole), names(&holders.unknown));
    let verb = |names: &[String], one: &'static str, many: &'static str| if names.len() == 1 { one } else { many };
    match (&whole[..], &unknown[..]) {
        ([], []) => "it is here; no other machine is linked now".to_owned(),
        (whole, []) => format!("it is here and on {}", listed(whole)),
        ([], unknown) => {
            let is = verb(unknown, "is", "are");
            format!("it is here; {} {is} not in sync yet, so it is not known there", listed(unknown))
        }
        (whole, unknown) => {
            let is = verb(unknown, "is", "are");
            format!(
                "it is here and on {}; {} {is} not in sync yet, so it is not known there",
                listed(whole),
                listed(unknown)
            )
        }
    }
}

/// Whether nothing goes on by itself, for all that this machine knows.
fn is_blocked(waits_for: &WaitsFor) -> bool {
    match waits_for {
        WaitsFor::Paused
        | WaitsFor::Halted(_)
        | WaitsFor::Person
        | WaitsFor::Machine
        | WaitsFor::Emptying
        | WaitsFor::Room => true,
        WaitsFor::Inspection
        | WaitsFor::Folder(_)
        | WaitsFor::Turn(_)
        | WaitsFor::Transfer { .. }
        | WaitsFor::Install
        | WaitsFor::NextTry(_) => false,
    }
}

fn waiting(waits_for: &WaitsFor) -> String {
    match waits_for {
        WaitsFor::Inspection => "an inspection of the disk: it changed there".to_owned(),
        WaitsFor::Paused => "'dirsync resume': syncing is paused".to_owned(),
        WaitsFor::Halted(why) => format!("syncing to go on, which is stopped: {why}"),
        WaitsFor::Person => "'dirsync confirm': it is held back".to_owned(),
        WaitsFor::Machine => "a machine that has it: none is linked now".to_owned(),
        WaitsFor::Folder(dir) => format!("its folder '{dir}', which is not here yet"),
        WaitsFor::Emptying => "what is still in the folder at its place".to_owned(),
        WaitsFor::Room => "room: the disk is full".to_owned(),
        WaitsFor::Turn(0) => "its turn: it is the next".to_owned(),
        WaitsFor::Turn(before) => format!("its turn: {} before it", counted(*before, "file is", "files are")),
        WaitsFor::Transfer { from, came } => {
            let from = if from.is_empty() { "a machine".to_owned() } else { listed(&names(from)) };
            let came = came.map(|(came, size)| format!(": {} of {} are here", bytes(came), bytes(size)));
            format!("its content, which is on its way from {from}{}", came.unwrap_or_default())
        }
        WaitsFor::Install => "the disk: it is being put in place".to_owned(),
        WaitsFor::NextTry(0) => "the next step, which is due".to_owned(),
        WaitsFor::NextTry(tries) => {
            format!("the next try: {} so far", counted(u64::from(*tries), "has failed", "have failed"))
        }
    }
}

fn names(names: &[String]) -> Vec<String> {
    names.iter().map(|name| escaped(name)).collect()
}

fn escaped(name: &str) -> String {
    text::escape(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Problem;
    use crate::engine::api::ignore::Covering;
    use crate::model::{DeviceId, Entry, FileTime, Mode, Version, VersionVector};

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn row(kind: Kind) -> Row {
        let version =
            Version { stamp: 1_700_000_000_000_000_000, author: DeviceId([1; 32]), seen: VersionVector::default() };
        let winner = Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version };
        Row { head: winner, disk: None, installing: None, since: 0 }
    }

    #[test]
    fn each_state_of_a_path_has_its_words() {
        let author = || "be\u{9b}ta".to_owned();
        let link = || row(Kind::Symlink { target: b"x".to_vec() });
        let holders = |whole: &[&str], unknown: &[&str]| Holders {
            whole: whole.iter().map(ToString::to_string).collect(),
            unknown: unknown.iter().map(ToString::to_string).collect(),
        };
        let covering = Covering { line: 3, pattern: "tmp/".into(), matched: path("d/tmp") };
        let synced = |holders| Why::Synced { row: link(), author: author(), holders };
        let pending = |waits_for| Why::Pending { row: Some(link()), author: author(), waits_for };
        let file = Some(StatKind::File);
        for (why, there, state, text) in [
            (synced(holders(&[], &[])), file, "synced", "it is here; no other machine is linked now"),
            (
                synced(holders(&["b", "c"], &[])),
                file,
                "synced",
                "a link to 'x', made by be\\xc2\\x9bta; it is here and on b and c",
            ),
            (synced(holders(&["b"], &["c"])), file, "synced", "on b; c is not in sync yet"),
            (pending(WaitsFor::Paused), None, "pending", "it waits for 'dirsync resume': syncing is paused"),
            (pending(WaitsFor::Folder(path("d"))), None, "pending", "it waits for its folder 'd'"),
            (
                pending(WaitsFor::Transfer { from: vec!["b".into()], came: Some((1024, 2048)) }),
                None,
                "pending",
                "on its way from b: 1.0 KiB of 2.0 KiB are here",
            ),
            (pending(WaitsFor::Turn(7)), None, "pending", "its turn: 7 files are before it"),
            (
                Why::Ignored(covering.clone()),
                file,
                "ignored",
                "its folder 'd/tmp' is covered by 'tmp/' (.dirsyncignore, line 3)",
            ),
            (Why::NewlyUnignored(covering), file, "ignored", "after 'dirsync confirm' here"),
            (
                Why::Problem { row: None, problem: Problem::TooDeep },
                None,
                "problem",
                "needs attention: it lies more than 256 folders deep",
            ),
            (Why::Unknown, Some(StatKind::Other), "special", "a socket, fifo or device"),
            (Why::Unknown, Some(StatKind::Mount), "special", "another file system is mounted there"),
            (Why::Unknown, file, "pending", "an inspection of the disk"),
            (Why::Unknown, None, "not_there", "nothing is known of it"),
            (
                Why::Deleted { row: row(Kind::Deleted { at: 1_700_000_000_000_000_000 }), author: "b".into() },
                None,
                "not_there",
                "not there: deleted by b 2023-11-14T22:13:20Z; 'dirsync history'",
            ),
        ] {
            let view = view(&path("d/tmp/f"), why, there);
            assert_eq!(view.state, state, "{view:?}");
            assert!(view.text.contains(text), "{}", view.text);
            assert_eq!(view.ignored.is_some(), state == "ignored");
            assert_eq!(view.waits_for.is_some(), state == "pending");
        }
    }
}
