//! Makes the views of the local API of what the engine and the world say.
//!
//! Paths and foreign text are escaped here. Deliberately not here: the views themselves
//! (`src/views/`), and how they are fetched or shown.

mod held;

pub use held::name_elsewhere;

use super::http::HttpStanding;
use super::{About, KeptFacts, LinkFacts, roles};
use crate::engine::api::index::{Conflict, Counts, Row};
use crate::engine::merge::label;
use crate::engine::{DeviceStatus, PeerStatus, Status, TransferStatus};
use crate::humanize::counted;
use crate::io::clock::wall_ns;
use crate::io::journal::problem_sentence;
use crate::io::net::link::Upload;
use crate::io::net::members::Unreached;
use crate::io::store::index::JournalLine;
use crate::model::{Capability, DeviceId, Entry, Kind, SyncPath, text};
use crate::views::condition;
use crate::views::conflicts::{ConflictView, SideView};
use crate::views::history::KeptView;
use crate::views::membership::RemovedView;
use crate::views::status::{
    DeviceView, EntryView, HttpView, ListedView, LogLine, PathNote, PeerView, StatusView, TransferView, UnreachedView,
    UploadView, WatchesView,
};
use crate::wire::condition::Condition;
use crate::wire::conflict::Sides;
use crate::wire::members::{ListedMember, Removal};
use std::path::Path;
use std::time::Duration;

impl TransferView {
    fn of(transfer: TransferStatus) -> Self {
        let TransferStatus { path, from, bytes, size, bytes_a_second } = transfer;
        let seconds_left = size.saturating_sub(bytes).checked_div(bytes_a_second);
        let from = from.iter().map(|name| text::escape(name.as_bytes())).collect();
        Self { path: path.to_text(), from, bytes, size, bytes_a_second, seconds_left }
    }
}

impl From<Unreached> for UnreachedView {
    fn from(unreached: Unreached) -> Self {
        let [address, text] = [&unreached.address, &unreached.text].map(|text| text::escape(text.as_bytes()));
        Self { address, reason: unreached.reason.to_owned(), text }
    }
}

fn uploads(links: &[LinkFacts]) -> Vec<UploadView> {
    let of_link = |link: &LinkFacts| {
        let to = link.name.clone();
        let view = move |upload: &Upload| UploadView {
            path: upload.path.to_text(),
            to: to.clone(),
            bytes: upload.bytes,
            size: upload.size,
        };
        link.uploads.iter().map(view).collect::<Vec<_>>()
    };
    links.iter().flat_map(of_link).collect()
}

impl StatusView {
    pub(super) fn new(about: &About, status: Status, links: &[LinkFacts], stalled: Option<Duration>) -> Self {
        let Counts { files, directories, symlinks, deleted, bytes, pending, local: _ } = status.counts;
        let peers = status.peers.iter().map(|peer| PeerView::new(peer, &status, links)).collect();
        let devices = status.devices.iter().map(|known| DeviceView::of(&status, known)).collect();
        let removed = status.removals.iter().map(|removal| removed_view(&status, removal)).collect();
        let this_machine = Some(PeerView::this(&status, about.capability));
        let problems = status.problems.iter().map(|(path, problem)| (path, problem_sentence(problem)));
        let under_way = status.under_way.into_iter();
        let (http, http_trouble) = match about.http.now() {
            HttpStanding::NotWanted => (None, None),
            HttpStanding::Answers(facts) => (Some(HttpView { url: facts.url(), fingerprint: facts.fingerprint }), None),
            HttpStanding::Fails(why) => (None, Some(why)),
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: shown(&about.directory),
            state_dir: shown(&about.state_dir),
            device: status.device,
            name: status.name,
            listen_port: about.listen_port,
            broadcast_port: about.broadcast_port,
            http,
            http_trouble,
            idle: status.idle,
            scanning: status.scanning,
            paused: status.paused,
            halted: status.halted,
            condition: status.condition,
            role: status.condition.role.word().to_owned(),
            local: roles::named(&status.differing.local),
            not_installed: roles::named(&status.differing.not_installed),
            held_deletions: status.held_deletions,
            held_reverts: status.held_reverts,
            held_unignored: status.held_unignored,
            files,
            directories,
            symlinks,
            deleted,
            bytes,
            // What is not installed by this machine's role does not come.
            pending: pending.saturating_sub(status.condition.not_installed),
            peers,
            uploads: uploads(links),
            peers_not_reached: Vec::new(),
            lacks: status.lacks,
            problems: problems.map(|(path, text)| PathNote { path: path.to_text(), text }).collect(),
            history_bytes: 0,
            history_limit_bytes: None,
            watches: WatchesView::default(),
            limit_bytes_a_second: None,
            disk_stalled_s: stalled.map(|waited| waited.as_secs()),
            transfers: status.transfers.into_iter().map(TransferView::of).collect(),
            queued_files: status.queued_files,
            queued_bytes: status.queued_bytes,
            under_way: under_way.map(|(path, text)| PathNote { path: path.to_text(), text }).collect(),
            open_conflicts: status.open_conflicts,
            kept_folders: status.kept_folders,
            left_alone: status.left_alone,
            ignored: status.ignored,
            devices,
            removed,
            this_machine,
        }
    }
}

impl PeerView {
    fn new(peer: &PeerStatus, ours: &Status, links: &[LinkFacts]) -> Self {
        let known = ours.devices.iter().find(|known| known.device == peer.device);
        let link = links.iter().find(|link| link.device == peer.device);
        Self {
            device: peer.device,
            name: text::escape(peer.name.as_bytes()),
            in_sync: peer.in_sync,
            state: state(peer, &ours.condition),
            role: peer.condition.map(|condition| condition.role).unwrap_or_default().word().to_owned(),
            condition: peer.condition,
            pending: peer.pending,
            capability: link.map(|link| link.capability.word().to_owned()).unwrap_or_default(),
            address: link.map(|link| link.address.clone()).unwrap_or_default(),
            sent_bytes: link.map_or(0, |link| link.sent_bytes),
            received_bytes: link.map_or(0, |link| link.received_bytes),
            clock_ahead_ns: peer.clock_ahead_ns.map(|ahead| ahead.to_string()),
            invalid: peer.invalid.clone(),
            linked: true,
            software: link.map(|link| link.software.clone()).unwrap_or_default(),
            round_trip_ms: link.and_then(|link| link.round_trip_ms),
            seen_ns: None,
            away_s: None,
            equal_ns: known.and_then(|known| known.equal_ns).map(|at| at.to_string()),
            listed: known.and_then(|known| Some(listed(ours, known.member.as_ref()?))),
        }
    }

    /// This machine itself.
    fn this(status: &Status, capability: Capability) -> Self {
        let role = status.condition.role.word().to_owned();
        let known = DeviceView {
            device: status.device,
            name: status.name.clone(),
            linked: false,
            seen_ns: None,
            away_s: None,
            equal_ns: None,
            listed: status.own.as_ref().map(|own| listed(status, own)),
        };
        let (capability, state) = (capability.word().to_owned(), "this machine".to_owned());
        Self { role, capability, state, condition: Some(status.condition), ..Self::away(&known) }
    }

    /// A machine that does not belong to the group any more.
    pub(super) fn removed(removed: &RemovedView) -> Self {
        let state = if removed.left { "left".to_owned() } else { format!("removed by {}", removed.removed_by) };
        let known = DeviceView {
            device: removed.device,
            name: removed.name.clone(),
            linked: false,
            seen_ns: None,
            away_s: None,
            equal_ns: None,
            listed: None,
        };
        Self { state, ..Self::away(&known) }
    }

    /// A machine that is known and not linked.
    pub(super) fn away(known: &DeviceView) -> Self {
        Self {
            device: known.device,
            name: known.name.clone(),
            in_sync: false,
            state: "not linked".to_owned(),
            role: String::new(),
            condition: None,
            pending: 0,
            capability: known.listed.as_ref().map(|listed| listed.capability.clone()).unwrap_or_default(),
            address: String::new(),
            sent_bytes: 0,
            received_bytes: 0,
            clock_ahead_ns: None,
            invalid: None,
            linked: false,
            software: String::new(),
            round_trip_ms: None,
            seen_ns: known.seen_ns.clone(),
            away_s: known.away_s,
            equal_ns: known.equal_ns.clone(),
            listed: known.listed.clone(),
        }
    }
}

/// How a peer and this machine stand to each other: what keeps the peer from being done, else what
/// keeps this one.
pub(super) fn state(peer: &PeerStatus, ours: &Condition) -> String {
    if let Some(first) = &peer.invalid {
        return format!("announces invalid entries ({first})");
    }
    let apart = peer.condition.as_ref().and_then(condition::apart);
    if peer.in_sync {
        return apart.map_or("in sync".to_owned(), |apart| format!("in sync, {apart}"));
    }
    let theirs = peer.condition.as_ref().map(condition::words).unwrap_or_default();
    if !theirs.is_empty() {
        return theirs.join("; ");
    }
    match (peer.pending, peer.equal) {
        (0, false) => "comparing".to_owned(),
        (0, true) => {
            let ours: Vec<_> = condition::words(ours).iter().map(|word| format!("{word} here")).collect();
            if ours.is_empty() { "comparing".to_owned() } else { ours.join("; ") }
        }
        (pending, _) => format!("{} to come", counted(pending, "path", "paths")),
    }
}

/// A row of the list, with the name of who added it.
fn listed(status: &Status, member: &ListedMember) -> ListedView {
    ListedView {
        capability: member.capability.word().to_owned(),
        added_by: name_of(status, member.added_by),
        invited: member.invited,
        added_ns: member.added_ns.to_string(),
    }
}

fn name_of(status: &Status, device: DeviceId) -> String {
    let known = status.devices.iter().find(|known| known.device == device).map(|known| &known.name);
    let removed = status.removals.iter().find(|removed| removed.device == device).map(|removed| &removed.name);
    let own = (device == status.device).then_some(&status.name);
    own.or(known).or(removed).map_or_else(|| device.short(), |name| text::escape(name.as_bytes()))
}

fn removed_view(status: &Status, removal: &Removal) -> RemovedView {
    RemovedView {
        device: removal.device,
        name: text::escape(removal.name.as_bytes()),
        removed_by: name_of(status, removal.removed_by),
        removed_ns: removal.removed_ns.to_string(),
        left: removal.left,
    }
}

impl DeviceView {
    fn of(status: &Status, known: &DeviceStatus) -> Self {
        let DeviceStatus { device, name, linked, seen_ns, equal_ns, member, .. } = known.clone();
        let listed = member.map(|member| listed(status, &member));
        let name = text::escape(name.as_bytes());
        let seen_ns = seen_ns.filter(|_| !linked);
        let away_s = seen_ns.map(|at| wall_ns().saturating_sub(at) / 1_000_000_000);
        let [seen_ns, equal_ns] = [seen_ns, equal_ns].map(|at| at.map(|at| at.to_string()));
        Self { device, name, linked, seen_ns, away_s, equal_ns, listed }
    }
}

impl EntryView {
    pub(super) fn new(path: &SyncPath, row: &Row) -> Self {
        let entry = &row.head;
        let (kind, size, content, target) = facts(entry);
        let mtime_ns = i128::from(entry.mtime.secs) * 1_000_000_000 + i128::from(entry.mtime.nanos);
        Self {
            path: path.to_text(),
            kind: kind.to_owned(),
            size,
            mode: format!("{:04o}", entry.mode.0),
            mtime_ns: mtime_ns.to_string(),
            stamp_ns: entry.version.stamp.to_string(),
            author: entry.version.author,
            content,
            target,
            here: row.is_settled(),
            local: row.is_local(),
            not_installed: false,
        }
    }
}

impl From<JournalLine> for LogLine {
    fn from(line: JournalLine) -> Self {
        let JournalLine { seq, at, kind, path, peer, size, paths, text } = line;
        let path = path.map(|path| text::escape(&path));
        Self { id: seq, time_ns: at.to_string(), kind, path, peer, size, paths, text }
    }
}

impl ConflictView {
    /// `us`: this machine's device.
    pub(super) fn new(conflict: &Conflict, us: DeviceId) -> Self {
        let Sides { winner, winner_name, loser, loser_name, beside } = &conflict.sides;
        Self {
            id: conflict.id,
            path: conflict.path.to_text(),
            time_ns: conflict.at.to_string(),
            winner: SideView::new(winner, winner_name),
            loser: SideView::new(loser, loser_name),
            ours: super::side::ours(conflict, us).map(|side| side.word().to_owned()),
            kept: conflict.kept.as_ref().map(|name| text::escape(name.as_bytes())),
            beside: beside.as_ref().map(SyncPath::to_text),
            settled: conflict.settled.as_ref().map(|settled| text::escape(settled.how.as_bytes())),
        }
    }
}

impl SideView {
    pub(super) fn new(entry: &Entry, name: &str) -> Self {
        let (kind, size, content, _) = facts(entry);
        Self {
            version: label(&entry.version),
            kind: kind.to_owned(),
            size,
            stamp_ns: entry.version.stamp.to_string(),
            author: entry.version.author,
            machine: text::escape(name.as_bytes()),
            content,
        }
    }
}

/// Kind, size, content and target.
fn facts(entry: &Entry) -> (&'static str, u64, Option<String>, Option<String>) {
    match &entry.kind {
        Kind::File { size, content } => ("file", *size, Some(content.to_string()), None),
        Kind::Directory => ("directory", 0, None, None),
        Kind::Symlink { target } => ("symlink", 0, None, Some(text::escape(target))),
        Kind::Deleted { .. } => ("deleted", 0, None, None),
    }
}

impl From<&KeptFacts> for KeptView {
    fn from(kept: &KeptFacts) -> Self {
        Self {
            path: kept.path.to_text(),
            time_ns: kept.time.to_string(),
            reason: kept.reason.to_owned(),
            size: kept.size,
            name: text::escape(kept.name.as_bytes()),
            machines: kept.elsewhere.iter().map(|place| place.machine.clone()).collect(),
        }
    }
}

fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SyncRole;
    use crate::wire::condition::StopCause;

    #[test]
    fn a_peer_s_state_names_what_keeps_it_or_this_machine_from_being_done() {
        let clear = Condition::default();
        let peer = |condition, pending, equal| PeerStatus {
            device: DeviceId([1; 32]),
            name: "b".into(),
            in_sync: false,
            equal,
            condition,
            pending,
            clock_ahead_ns: None,
            invalid: None,
        };
        let stopped = Condition { stopped: Some(StopCause::MarkerLost), ..clear };
        let paused = Condition { paused: true, ..clear };
        assert_eq!(state(&peer(Some(stopped), 0, true), &paused), "stopped, its folder lost its marker");
        assert_eq!(state(&peer(Some(clear), 0, true), &paused), "paused here");
        assert_eq!(state(&peer(Some(clear), 3, true), &paused), "3 paths to come");
        assert_eq!(state(&peer(None, 0, false), &clear), "comparing");
        let liar = PeerStatus { invalid: Some("counter".into()), ..peer(Some(clear), 0, false) };
        assert_eq!(state(&liar, &clear), "announces invalid entries (counter)");
        let in_sync = |condition| state(&PeerStatus { in_sync: true, ..peer(condition, 0, true) }, &clear);
        assert_eq!(in_sync(None), "in sync");
        assert_eq!(
            in_sync(Some(Condition { role: SyncRole::ReceiveOnly, local: 3, ..clear })),
            "in sync, receive-only, 3 local"
        );
    }
}
