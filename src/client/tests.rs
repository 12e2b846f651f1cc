//! The socket, the routes and the client together, with a loop and a world made for the test.

mod socket;

use super::{ClientError, Folder};
use crate::engine::api::index::{Conflict, Counts, Index, Row, Settled};
use crate::engine::api::map_index::MapIndex;
use crate::engine::{
    AskPast, DeviceStatus, DifferingPaths, Event, HeldPath, HeldPaths, HeldWhy, MachinePasts, NeededPage, PeerStatus,
    Problem, Run, StageId, Stat, StatKind, Status, SuspectCause, SuspectStatus, Undone, Verification, Verify, Why,
};
use crate::io::Events;
use crate::io::control::http::HttpState;
use crate::io::control::{About, Api, Control, Handle, KeptFacts, LinkFacts, Request, SecretPlace, World};
use crate::io::fs::install::RestoreError;
use crate::io::journal::ReportCounts;
use crate::io::store::index::JournalLine;
use crate::model::{
    ContentId, DeviceId, Entry, FileTime, Kind, Mode as Bits, RetainReason, SyncPath, Version, VersionVector,
};
use crate::views::conflicts::{ConflictsView, DecidedView, DiffView};
use crate::views::held::{HeldPathView, HeldView};
use crate::views::history::{HistoryView, RestoredView};
use crate::views::status::{ListView, LogView, PeerView, StatusView};
use crate::views::verify::VerifyView;
use crate::wire::conflict::Sides;
use crate::wire::message::{Past, PastWhat};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use tempfile::TempDir;

fn path(text: &str) -> SyncPath {
    SyncPath::new(text).unwrap()
}

fn row(n: u64) -> Row {
    let version = Version { stamp: 1 << 60, author: DeviceId([1; 32]), seen: VersionVector::default() };
    let kind = Kind::File { size: n, content: ContentId::of(b"x") };
    let mtime = FileTime { secs: 1_700_000_000, nanos: 123_456_789 };
    Row { head: Entry { kind, mode: Bits(0o640), mtime, version }, disk: None, installing: None, since: 0 }
}

#[derive(Default)]
struct FakeWorld(Mutex<Vec<String>>);

impl World for FakeWorld {
    fn links(&self) -> Vec<LinkFacts> {
        let (device, address) = (DeviceId([2; 32]), "127.0.0.1:6000".to_owned());
        vec![LinkFacts {
            device,
            name: "beta".into(),
            address,
            capability: crate::model::Capability::Write,
            sent_bytes: 5,
            received_bytes: 7,
            uploads: Vec::new(),
            software: "dirsyncd 9".into(),
            round_trip_ms: Some(0.25),
        }]
    }

    fn history(&self, asked: Option<&SyncPath>) -> io::Result<Vec<KeptFacts>> {
        let kept = |name: &str, time| KeptFacts {
            name: format!("{time}-{name}"),
            path: path(name),
            time,
            reason: "replaced",
            size: 3,
            mtime: 0,
            mode: Bits(0o644),
            elsewhere: Vec::new(),
        };
        let all = [kept("f", 20), kept("f", 10), kept("g", 5)];
        Ok(all.into_iter().filter(|kept| asked.is_none_or(|asked| *asked == kept.path)).collect())
    }

    fn restore(&self, kept: &KeptFacts) -> io::Result<()> {
        if kept.path == path("g") {
            return Err(io::Error::other("there is no room for it"));
        }
        self.0.lock().unwrap().push(kept.name.clone());
        Ok(())
    }

    fn restore_staged(&self, staged: StageId, path: &SyncPath, mode: Bits) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{path} of {mode:?} from {}", staged.0));
        Ok(())
    }

    fn restore_link(&self, target: &[u8], path: &SyncPath) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{path} -> {}", String::from_utf8_lossy(target)));
        Ok(())
    }

    fn content_of_kept(&self, name: &str) -> io::Result<Option<ContentId>> {
        Ok(Some(ContentId::of(name.as_bytes())))
    }

    fn kept_bytes(&self, name: &str, _: u64) -> io::Result<Option<Vec<u8>>> {
        Ok((name == "20-f").then(|| b"same\nours\x1b\n".to_vec()))
    }

    fn bytes_at(&self, _: &SyncPath, _: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(Some(b"same\ntheirs\n".to_vec()))
    }

    fn stat_at(&self, _: &SyncPath) -> io::Result<Option<Stat>> {
        Ok(None)
    }

    fn delete(&self, path: &SyncPath, _: &Stat) -> Result<(), RestoreError> {
        Err(RestoreError::Busy(path.clone()))
    }

    fn move_path(&self, path: &SyncPath, _: &SyncPath, _: &Stat) -> Result<(), RestoreError> {
        Err(RestoreError::Busy(path.clone()))
    }

    fn kind_at(&self, _: &SyncPath) -> Option<StatKind> {
        None
    }

    fn is_there(&self, path: &SyncPath) -> bool {
        path.to_text() == "f.copy"
    }
}

/// At `f`: a file of 20 bytes won over one of 10, which is in history as `20-f`.
fn conflict() -> Conflict {
    let (winner, loser) = (row(20).head, row(10).head);
    let loser = Entry { version: Version { stamp: 7, ..loser.version }, ..loser };
    let (winner_name, loser_name) = ("be\u{1b}ta".into(), "alpha".into());
    let sides = Sides { winner, winner_name, loser, loser_name, beside: Some(path("f.copy")) };
    Conflict { id: 9, at: 1, path: path("f"), kept: Some("20-f".into()), settled: None, sides, source: None }
}

/// At `many/0007`, where what won was edited since; and at `many/0008`, where moreover it was
/// decided.
fn moved_on() -> [Conflict; 2] {
    let open = Conflict { id: 10, path: path("many/0007"), kept: None, ..conflict() };
    let decided = Conflict {
        id: 11,
        path: path("many/0008"),
        settled: Some(Settled { how: "kept ours".into(), at: 1 }),
        ..open.clone()
    };
    [open, decided]
}

fn held() -> HeldPaths {
    let held = |name: &str, why, by: &str| HeldPath { path: path(name), why, by: by.into() };
    let paths = vec![held("gone", HeldWhy::Deleted, "be\nta"), held("old", HeldWhy::Reverted, "alpha")];
    HeldPaths { paths, deletions: 2, reverts: 1, unignored: 3, ..HeldPaths::default() }
}

/// Answers as the daemon's loop does, until nobody asks any more.
fn fake_loop(requests: &mpsc::Receiver<Request>, done: &Mutex<Vec<String>>) {
    let (mut index, mut paused, mut run) = (MapIndex::new(), false, None);
    let mut asked: Option<AskPast> = None;
    for n in 0..1500 {
        index.put(&path(&format!("many/{n:04}")), &row(n));
    }
    index.put(&path("odd\n\u{202e}"), &row(1));
    while let Ok(request) = requests.recv() {
        match request {
            Request::Status(answer) => drop(answer.send(Status { paused, ..status(index.counts()) })),
            Request::Counted(answer) => drop(answer.send(ReportCounts::default())),
            Request::Held { answer, .. } => drop(answer.send(held())),
            Request::Differing { answer, .. } => drop(answer.send(DifferingPaths::default())),
            Request::Holding { answer, .. } => drop(answer.send(Some(Vec::new()))),
            Request::Undone { answer, .. } => drop(answer.send(Some(Undone::default()))),
            Request::Verification(answer) => drop(answer.send(Verification { run: run.clone(), ..verification() })),
            Request::Row { path, answer } => drop(answer.send(index.get(&path))),
            Request::Rows { dir, after, limit, answer, .. } => {
                drop(answer.send(index.below(dir.as_ref(), after.as_ref(), limit)));
            }
            Request::Log { wanted, answer } => {
                let line = |at| JournalLine { at, kind: "sent".into(), text: "line".into(), ..JournalLine::default() };
                drop(answer.send((0..wanted.limit as u64).map(line).collect()));
            }
            Request::Why { answer, .. } => drop(answer.send(Why::Unknown)),
            Request::Conflicts { wanted, answer } => {
                let is_wanted = |c: &Conflict| {
                    wanted.path.as_ref().is_none_or(|path| *path == c.path) && (wanted.settled || c.settled.is_none())
                };
                let all = [conflict()].into_iter().chain(moved_on());
                drop(answer.send((DeviceId([99; 32]), all.filter(is_wanted).collect())));
            }
            Request::Pasts { ticket, answer } => {
                let ask = asked.take().filter(|ask| ask.ticket == ticket);
                drop(answer.send(ask.map(|ask| vec![histories(&ask)])));
            }
            Request::Fetched { answer, .. } => drop(answer.send(Some(Ok(StageId(77))))),
            Request::Rename { answer, .. } | Request::KeepLimit { answer, .. } => drop(answer.send(())),
            Request::RowsAt { paths, answer } => drop(answer.send(vec![None; paths.len()])),
            Request::Needed { answer, .. } => drop(answer.send(NeededPage::default())),
            Request::Problems { answer, .. } => drop(answer.send(Vec::new())),
            Request::Meta { answer, .. } => drop(answer.send(Vec::new())),
            Request::Leave(answer) => drop(answer.send(Ok(()))),
            Request::Do { event, answer } => {
                match &event {
                    Event::AskPast(ask) => {
                        asked = Some(ask.clone());
                        let _ = answer.send(());
                        continue;
                    }
                    Event::Settle { path, last, how } => {
                        done.lock().unwrap().push(format!("{path} {last} {how}"));
                        let _ = answer.send(());
                        continue;
                    }
                    Event::Pause(now) => paused = *now,
                    Event::Verify(wanted) => run = Some(under_way(wanted)),
                    Event::StopVerifying => run = None,
                    _ => {}
                }
                done.lock().unwrap().push(format!("{event:?}"));
                let _ = answer.send(());
            }
        }
    }
}

/// Beta keeps `h`, which was deleted, and a link `l`.
fn histories(ask: &AskPast) -> MachinePasts {
    let past = |name: &str, what: PastWhat| Past {
        path: path(name),
        time_ns: 30,
        reason: RetainReason::Deleted,
        size: 3,
        mode: Bits(0o600),
        mtime: FileTime::default(),
        what: if ask.named.is_empty() { PastWhat::Unidentified } else { what },
    };
    let all = [past("h", PastWhat::File(ContentId([4; 32]))), past("l", PastWhat::Link(b"to".to_vec()))];
    let device = DeviceId([2; 32]);
    let is_meant = |past: &Past| {
        let named = ask.named.get(&device).into_iter().flatten();
        named.chain(ask.path.clone().map(|path| (path, 30)).iter()).any(|(path, _)| *path == past.path)
    };
    MachinePasts {
        device,
        name: "be\u{1b}ta".into(),
        pasts: all.into_iter().filter(is_meant).collect(),
        is_whole: true,
    }
}

fn under_way(wanted: &Verify) -> Run {
    Run {
        below: wanted.below.clone(),
        began_ns: 1,
        is_over: false,
        is_stopped: false,
        asks_peers: wanted.peers,
        files: 0,
        files_of: 1,
        bytes: 0,
        bytes_of: 1,
        found: 0,
        passed_over: 0,
        in_use: Vec::new(),
        peers: None,
    }
}

/// One suspect file at `odd\n`, and nothing was asked for.
fn verification() -> Verification {
    let path = path("odd\n");
    let suspect =
        SuspectStatus { path, found_ns: 7, unreadable: false, decision: None, cause: SuspectCause::Unreadable };
    Verification {
        run: None,
        suspects: vec![suspect],
        monthly_began_ns: 1,
        monthly_files: 2,
        monthly_bytes: 3,
        last_ns: None,
    }
}

fn status(counts: Counts) -> Status {
    let peer = PeerStatus {
        device: DeviceId([2; 32]),
        name: "be\u{1b}ta".into(),
        in_sync: true,
        equal: true,
        condition: None,
        pending: 0,
        clock_ahead_ns: None,
        invalid: None,
    };
    Status {
        device: DeviceId([1; 32]),
        name: "alpha".into(),
        counts,
        peers: vec![peer],
        idle: true,
        scanning: false,
        paused: false,
        halted: None,
        condition: crate::wire::condition::Condition::default(),
        differing: DifferingPaths::default(),
        held_deletions: 0,
        held_reverts: 0,
        held_unignored: 0,
        kept_folders: 0,
        left_alone: 0,
        ignored: 0,
        open_conflicts: 0,
        devices: vec![DeviceStatus {
            device: DeviceId([7; 32]),
            name: "old\x1b".into(),
            linked: false,
            seen_ns: Some(1),
            equal_ns: None,
            member: None,
            follows_rotations: true,
        }],
        own: None,
        removals: Vec::new(),
        lacks: vec!["no permission bits".into()],
        problems: vec![(path("p"), Problem::Suspect(SuspectCause::Unreadable))],
        transfers: Vec::new(),
        queued_files: 0,
        queued_bytes: 0,
        under_way: Vec::new(),
    }
}

fn private(folder: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, folder.join(".dirsync"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

struct Daemon {
    _home: TempDir,
    folder: PathBuf,
    world: Arc<FakeWorld>,
    done: Arc<Mutex<Vec<String>>>,
}

/// A daemon whose folder's name is far longer than a socket's address may be.
fn daemon() -> Daemon {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("x".repeat(200));
    fs::create_dir_all(folder.join(".dirsync")).unwrap();
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    let (events, _keep) = Events::channel();
    let (handle, requests) = Handle::new(events);
    let (world, done) = (Arc::new(FakeWorld::default()), Arc::default());
    let about = About {
        directory: folder.clone(),
        state_dir: "/state".into(),
        listen_port: 6000,
        broadcast_port: 5000,
        http: HttpState::default(),
        name_is_given: true,
        secret: SecretPlace::Own,
        capability: crate::model::Capability::Write,
    };
    let control = Control::bind(private(&folder).as_fd(), home.path()).unwrap();
    let open = fs::File::open(&folder).unwrap();
    let control = control.also_by_inode(open.as_fd());
    tokio::spawn(control.serve(Api::new(handle, world.clone(), about)));
    let state = Arc::clone(&done);
    std::thread::spawn(move || {
        fake_loop(&requests, &state);
        // As a daemon holds it: until nobody listens any more, no other folder gets its inode.
        drop(open);
    });
    Daemon { _home: home, folder, world, done }
}

#[tokio::test]
async fn what_is_asked_is_answered_from_anywhere_in_the_folder() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder.join("deep/er")).unwrap().connect().await.unwrap();
    let status: StatusView = client.get("/v1/status", &[]).await.unwrap();
    assert_eq!((status.files, status.idle, status.name.as_str()), (1501, true, "alpha"));
    let problem = &status.problems[0];
    assert!(problem.path == "p" && problem.text.contains("the disk cannot read it"), "{problem:?}");
    let peers: Vec<PeerView> = client.get("/v1/peers", &[]).await.unwrap();
    assert_eq!((peers[0].name.as_str(), peers[0].sent_bytes, peers[0].received_bytes), ("be\\x1bta", 5, 7));
    assert!(peers.len() == 1 && peers[0].linked && peers[0].software == "dirsyncd 9", "{peers:?}");
    let all: Vec<PeerView> = client.get("/v1/peers", &[("all", "true".into())]).await.unwrap();
    let away: Vec<_> = all.iter().filter(|peer| peer.state == "not linked").map(|peer| peer.name.as_str()).collect();
    assert_eq!(away, ["old\\x1b"]);
    assert!(all.iter().any(|peer| peer.name == "alpha" && peer.state == "this machine"), "{all:?}");
    let log: LogView = client.get("/v1/log", &[("n", "3".into())]).await.unwrap();
    assert_eq!((log.lines.len(), log.lines[2].time_ns.as_str()), (3, "2"));
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let first: ListView = client.get("/v1/ls", &[]).await.unwrap();
    assert_eq!((first.entries.len(), first.more), (1000, true));
    let after = first.entries[999].path.clone();
    let rest: ListView = client.get("/v1/ls", &[("after", after)]).await.unwrap();
    assert_eq!((rest.entries.len(), rest.more), (501, false));
    let odd = &rest.entries[500];
    assert_eq!(odd.path, "odd\\x0a\\xe2\\x80\\xae");
    assert_eq!((odd.mtime_ns.as_str(), odd.mode.as_str(), odd.here), ("1700000000123456789", "0640", false));
    let one: ListView = client.get("/v1/ls", &[("path", odd.path.clone())]).await.unwrap();
    assert_eq!(one.entries.len(), 1);
    let why = client.get::<ListView>("/v1/ls", &[("path", "none".into())]).await.unwrap_err();
    assert!(
        matches!(&why, ClientError::Refused { code: 400.., text } if text.contains("'none' is not known here")),
        "{why}"
    );
}

#[tokio::test]
async fn the_version_of_a_time_is_restored() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let all: HistoryView = client.get("/v1/history", &[]).await.unwrap();
    assert_eq!(all.kept.len(), 3);
    let restored: RestoredView = client.post("/v1/restore", &json!({"path": "f", "at_ns": "7"})).await.unwrap();
    assert_eq!((restored.restored[0].time_ns.as_str(), restored.failed.len()), ("10", 0));
    client.post::<RestoredView>("/v1/restore", &json!({"path": "f"})).await.unwrap();
    assert_eq!(*daemon.world.0.lock().unwrap(), ["10-f", "20-f"]);
    for (query, says) in [
        (json!({"path": "none"}), "nothing of 'none' is in history"),
        (json!({"path": "f", "at_ns": "99"}), "still there"),
        (json!({"path": "f", "at_ns": "soon"}), "no number"),
        (json!({"path": "../f"}), "'..' component"),
        (json!({"path": "g"}), "no room"),
    ] {
        let why = client.post::<RestoredView>("/v1/restore", &query).await.unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test]
async fn what_another_machine_keeps_is_listed_and_restored_from_there() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let list: HistoryView = client.get("/v1/history", &[("path", "h".into())]).await.unwrap();
    assert_eq!((list.kept[0].machines.as_slice(), list.kept[0].name.as_str()), (&["be\\x1bta".to_owned()][..], ""));
    let dry: RestoredView = client.post("/v1/restore", &json!({"path": "h", "dry_run": true})).await.unwrap();
    assert!(dry.dry_run && dry.restored.len() == 1 && daemon.world.0.lock().unwrap().is_empty());
    for name in ["h", "l"] {
        let view: RestoredView = client.post("/v1/restore", &json!({"path": name})).await.unwrap();
        assert_eq!((view.restored.len(), view.failed.len()), (1, 0));
    }
    assert_eq!(*daemon.world.0.lock().unwrap(), ["h of Mode(384) from 77", "l -> to"]);
}

#[tokio::test]
async fn a_folder_is_restored_as_it_was_and_what_fails_is_told() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let then: HistoryView = client.get("/v1/history", &[("at_ns", "4".into())]).await.unwrap();
    let then: Vec<_> = then.kept.iter().map(|kept| kept.name.as_str()).collect();
    assert_eq!(then, ["10-f", "5-g"]);
    let view: RestoredView = client.post("/v1/restore", &json!({"at_ns": "4"})).await.unwrap();
    assert_eq!((view.restored.len(), view.restored[0].name.as_str()), (1, "10-f"));
    assert_eq!((view.failed[0].path.as_str(), view.failed[0].text.as_str()), ("g", "there is no room for it"));
    let view: RestoredView = client.post("/v1/restore", &json!({})).await.unwrap();
    assert_eq!(view.restored[0].name, "20-f", "the last version of what is not there");
}

#[tokio::test]
async fn a_conflict_is_listed_compared_and_decided() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let list: ConflictsView = client.get("/v1/conflicts", &[]).await.unwrap();
    let one = &list.conflicts[0];
    assert_eq!((one.path.as_str(), one.winner.size, one.loser.size, list.more), ("f", 20, 10, false));
    assert_eq!((one.winner.machine.as_str(), one.loser.machine.as_str()), ("be\\x1bta", "alpha"));
    assert_eq!(one.loser.version, "19700101-000000-000000007-01010101");
    let diff: DiffView = client.get("/v1/conflicts/diff", &[("path", "f".into())]).await.unwrap();
    let lines: Vec<_> = diff.lines.iter().map(|line| format!("{}{}", line.sign, line.text)).collect();
    assert_eq!(lines, ["@@ -1,2 +1,2 @@", " same", "-ours\\x1b", "+theirs"]);
    let ours = json!({"path": "f", "choice": "ours"});
    let decided: DecidedView = client.post("/v1/conflicts/keep", &ours).await.unwrap();
    assert_eq!((decided.restored, decided.version.as_str()), (true, one.loser.version.as_str()));
    assert_eq!(decided.beside, ["f.copy"]);
    assert_eq!(*daemon.world.0.lock().unwrap(), ["20-f"]);
    assert_eq!(*daemon.done.lock().unwrap(), ["f 9 kept 19700101-000000-000000007-01010101"]);
    for (query, says) in [
        (json!({"path": "g", "choice": "ours"}), "no conflict at 'g'"),
        (
            json!({"path": "f", "choice": "mine\u{1b}"}),
            "no conflict at 'f' has a version 'mine\\x1b'; say winner, loser",
        ),
        (json!({"path": "f", "choice": "theirs"}), "in no history that can be asked"),
    ] {
        let why = client.post::<DecidedView>("/v1/conflicts/keep", &query).await.unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test]
async fn theirs_undoes_no_edit_that_was_made_since_it_won() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let theirs = json!({"path": "many/0007", "choice": "theirs"});
    let kept: DecidedView = client.post("/v1/conflicts/keep", &theirs).await.unwrap();
    let now = crate::engine::merge::label(&row(7).head.version);
    assert_eq!((kept.restored, &kept.version), (false, &now));
    assert_eq!(*daemon.done.lock().unwrap(), [format!("many/0007 10 kept {now}")]);
    let decided = json!({"path": "many/0008", "choice": "theirs"});
    let why = client.post::<DecidedView>("/v1/conflicts/keep", &decided).await.unwrap_err().to_string();
    assert!(why.contains("in no history that can be asked"), "what is decided is changed by bringing it back: {why}");
}

#[tokio::test]
async fn orders_reach_the_engine_as_events() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let confirmed: HeldView = client.post("/v1/confirm", &json!({})).await.unwrap();
    let named = |held: &HeldPathView| (held.path.clone(), held.reason.clone(), held.by.clone());
    let expected = [("gone", "deleted", "be\\x0ata"), ("old", "older", "alpha")];
    let expected = expected.map(|(path, why, by)| (path.to_owned(), why.to_owned(), by.to_owned()));
    assert_eq!(confirmed.held.iter().map(named).collect::<Vec<_>>(), expected);
    assert_eq!((confirmed.deletions, confirmed.reverts, confirmed.unignored), (2, 1, 3));
    for order in ["/v1/pause", "/v1/resume"] {
        assert_eq!(client.post::<Value>(order, &json!({})).await.unwrap(), json!({"done": true}));
    }
    assert_eq!(*daemon.done.lock().unwrap(), ["Confirm", "Pause(true)", "Pause(false)"]);
    let why = client.get::<Value>("/v2/status", &[]).await.unwrap_err().to_string();
    assert!(why.contains("no such request"), "{why}");
}

#[tokio::test]
async fn what_is_suspect_is_listed_and_decided() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let view: VerifyView = client.post("/v1/verify", &json!({"path": "many/0007", "peers": true})).await.unwrap();
    assert_eq!((view.suspects[0].path.as_str(), view.suspects[0].found_ns.as_str()), ("odd\\x0a", "7"));
    let heal = json!({"path": "odd\\x0a", "choice": "heal"});
    client.post::<VerifyView>("/v1/verify/decide", &heal).await.unwrap();
    client.post::<VerifyView>("/v1/verify/stop", &json!({})).await.unwrap();
    let below = "below: Some(\"many/0007\"), bytes_a_second: 524288000, peers: true";
    let done = daemon.done.lock().unwrap().clone();
    assert_eq!(
        done,
        [&format!("Verify(Verify {{ {below} }})"), "Decide { path: \"odd\\\\x0a\", decision: Heal }", "StopVerifying"]
    );
    for (to, query, says) in [
        ("/v1/verify", json!({"path": "nothing"}), "not known here"),
        ("/v1/verify", json!({"path": "../f"}), "'..' component"),
        ("/v1/verify/decide", json!({"path": "f", "choice": "heal"}), "'f' is not suspect"),
        ("/v1/verify/decide", json!({"path": "f", "choice": "burn"}), "unknown variant"),
    ] {
        let why = client.post::<VerifyView>(to, &query).await.unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test]
async fn a_verification_is_joined_only_by_who_asks_for_the_same_and_not_while_nothing_is_read() {
    let daemon = daemon();
    let mut client = Folder::find(&daemon.folder).unwrap().connect().await.unwrap();
    let ask = async |client: &mut super::Client, query: Value| {
        client.post::<VerifyView>("/v1/verify", &query).await.map(drop).map_err(|why| why.to_string())
    };
    assert_eq!(ask(&mut client, json!({})).await, Ok(()));
    assert_eq!(ask(&mut client, json!({"peers": false})).await, Ok(()), "it is the same");
    for (query, says) in [
        (json!({"peers": true}), "everything is being verified without --peers now"),
        (json!({"path": "many"}), "everything is being verified now"),
    ] {
        let why = ask(&mut client, query).await.unwrap_err();
        assert!(why.contains(says) && why.contains("--stop"), "{why}");
    }
    client.post::<VerifyView>("/v1/verify/stop", &json!({})).await.unwrap();
    client.post::<Value>("/v1/pause", &json!({})).await.unwrap();
    let why = ask(&mut client, json!({})).await.unwrap_err();
    assert!(why.contains("paused") && why.contains("dirsync resume"), "{why}");
    client.post::<Value>("/v1/resume", &json!({})).await.unwrap();
    assert_eq!(ask(&mut client, json!({"peers": true})).await, Ok(()));
    assert!(ask(&mut client, json!({})).await.unwrap_err().contains("with --peers"));
}
