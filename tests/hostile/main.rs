//! Members who lie about large contents, linked with real daemons: what they send never gets into a
//! folder, the log names them, and everyone else goes on (P1, P9).
//!
//! Strangers, who do not know the secret, are in `tests/real/hostile_peer.rs`; what breaks the
//! protocol, and so the link, in `tests/net/`.

#[path = "../common/mod.rs"]
mod common;
mod member;

use common::machine::{find_line, text_of, wait_linked};
use common::ports::free_tcp_port;
use common::requests::ask;
use common::{Group, Machine, PATIENCE, eventually, noise, pace, read, wait_equal, write};
use dirsyncd::engine::api::digest::entry_hash;
use dirsyncd::io::net::seal::Sealer;
use dirsyncd::io::net::tls::DeviceKey;
use dirsyncd::model::{
    Chunks, ContentId, DeviceId, Entry, FileTime, Kind, Mode, RetainReason, SyncPath, Version, VersionVector,
};
use dirsyncd::wire::confirmation::Confirmation;
use dirsyncd::wire::conflict::{ConflictNews, Decided, Sides};
use dirsyncd::wire::frame::Packet;
use dirsyncd::wire::message::{Change, HOLDS, HeldBack, HeldSums, Message, Past, PastWhat, Place, WantedContent};
use dirsyncd::wire::packet::{Ending, Part};
use member::{entry_of, is_handed, join, join_as, join_deaf, join_to_read, news, now, pieces, with_key};
use std::collections::BTreeSet;

/// As much as a stream's first credit.
const SIZE: usize = 4 << 20;

/// Two machines; `b` runs and listens where the liars know, `a` is to come.
struct Lab {
    a: Machine,
    b: Machine,
    port: u16,
}

impl Lab {
    fn new() -> Self {
        let (group, port) = (Group::new(), free_tcp_port());
        let (a, mut b) = (group.machine("a"), group.machine("b"));
        b.options = vec!["-l".to_owned(), port.to_string()];
        b.start();
        // At the end of its first scan it compares anew, and forgets whom it has named until then.
        b.wait_own_idle();
        Self { a, b, port }
    }

    /// `a` comes, and the two go on as if nothing had happened.
    fn goes_on(&self) {
        self.a.start();
        wait_linked(&[&self.a, &self.b]);
        write(self.a.at("small"), "of a");
        write(self.b.at("large"), noise(99, 6 << 20));
        wait_equal(&[&self.a, &self.b], PATIENCE);
        assert!(self.b.exit_status().is_none());
    }
}

/// Says that it holds all of every content, and answers for lists with `list`, and for chunks with
/// what `chunks` says, if it does.
fn boaster(
    list: Vec<u8>,
    chunks: impl Fn(usize, usize) -> Option<Vec<u8>> + Send + 'static,
) -> impl FnMut(&Packet) -> Vec<Packet> + Send + 'static {
    move |packet| match packet {
        Packet::Message(Message::Seek { content, size, .. }) => {
            let chunks = vec![(0, Chunks::of(*size).count())];
            vec![Packet::Message(Message::Have { content: *content, chunks })]
        }
        Packet::Fetch { stream, part: Part::List, .. } => pieces(*stream, 0, &list),
        Packet::Fetch { stream, part: Part::Chunks { first, count }, size, .. } => {
            let (from, length) = Chunks::of(*size).span(*first, *count).expect("a daemon asks for what there is");
            let bytes = chunks(from as usize, length as usize);
            bytes.map_or_else(Vec::new, |bytes| pieces(*stream, from, &bytes))
        }
        Packet::Fetch { stream, .. } => vec![Packet::End { stream: *stream, how: Ending::NotHere }],
        _ => Vec::new(),
    }
}

fn list_of(bytes: &[u8]) -> Vec<u8> {
    let chunks = Chunks::of(bytes.len() as u64);
    let of = |chunk| &bytes[chunks.offset(chunk) as usize..][..chunks.len(chunk) as usize];
    (0..chunks.count()).flat_map(|chunk| chunks.hash(chunk, of(chunk))).collect()
}

#[test]
fn wrong_chunks_of_a_liar_are_refused_and_the_file_comes_from_another() {
    let lab = Lab::new();
    let (good, bad) = (noise(1, SIZE), noise(2, SIZE));
    let first = vec![news("file", ContentId::of(&good), SIZE as u64)];
    let wrong = move |from: usize, length: usize| Some(bad[from..from + length].to_vec());
    let _liar = join(&lab.b, lab.port, "liar", first, boaster(list_of(&good), wrong));
    lab.b.wait_log(&["what liar sent of 'file' is not what it should be"]);
    assert!(!lab.b.at("file").exists());
    write(lab.a.at("file"), &good);
    lab.goes_on();
    assert!(read(lab.b.at("file")) == good);
}

#[test]
fn a_list_that_is_not_the_content_s_costs_its_sender_that_content() {
    let lab = Lab::new();
    let good = noise(3, SIZE);
    let first = vec![news("file", ContentId::of(&good), SIZE as u64)];
    let mut swapped = list_of(&good);
    swapped[..64].rotate_left(32);
    let _one = join(&lab.b, lab.port, "swapper", first, boaster(swapped, |_, _| None));
    let _two = join(&lab.b, lab.port, "inventor", Vec::new(), boaster(vec![7; 4 * 32], |_, _| None));
    lab.b.wait_log(&["what swapper sent of 'file' is not what it should be"]);
    write(lab.a.at("file"), &good);
    lab.goes_on();
    assert!(read(lab.b.at("file")) == good);
}

#[test]
fn a_file_that_no_disk_holds_is_a_trouble_of_that_path_alone() {
    let lab = Lab::new();
    let huge = (1 << 63) - 1;
    let first = vec![news("huge", ContentId([5; 32]), huge)];
    let _boaster = join(&lab.b, lab.port, "boaster", first, boaster(Vec::new(), |_, _| None));
    lab.b.wait_log(&["'huge'", "cannot"]);
    lab.goes_on();
    assert!(!lab.b.at("huge").exists());
}

#[test]
fn a_liar_about_its_history_puts_nothing_wrong_into_the_folder() {
    let lab = Lab::new();
    let (promised, sent) = (b"what was deleted".to_vec(), b"what is not that".to_vec());
    let content = ContentId::of(&promised);
    let past = move |path: SyncPath, time_ns: u64, what: PastWhat| Past {
        path,
        time_ns,
        reason: RetainReason::Deleted,
        size: 16,
        mode: Mode(0o644),
        mtime: FileTime { secs: 1_700_000_000, nanos: 0 },
        what,
    };
    let answer = move |packet: &Packet| match packet {
        Packet::Message(Message::History { id, named, .. }) => {
            let path = SyncPath::new("lost").expect("a path");
            let pasts = match named.first() {
                Some((path, time)) => vec![past(path.clone(), *time, PastWhat::File(content))],
                None => vec![past(path, 5_000_000_000, PastWhat::Unidentified)],
            };
            vec![Packet::Message(Message::Pasts { id: *id, pasts, more: false })]
        }
        Packet::Fetch { stream, .. } => pieces(*stream, 0, &sent),
        _ => Vec::new(),
    };
    let _liar = join(&lab.b, lab.port, "liar", Vec::new(), answer);
    lab.b.wait_log(&["linked with liar"]);
    let out = lab.b.cli(&["restore", "lost"]);
    let said = text_of(&out);
    assert!(!out.status.success() && said.contains("what liar sent is not what it said"), "{said}");
    assert!(!lab.b.at("lost").exists());
    lab.goes_on();
}

/// Answers what it holds with these many paths of one name, held for this reason.
fn holder(path: &'static [u8], why: u8, count: usize) -> impl FnMut(&Packet) -> Vec<Packet> + Send + 'static {
    move |packet| match packet {
        Packet::Message(Message::Holds { id, .. }) => {
            let path = SyncPath::new(path).expect("a path");
            let held = vec![HeldBack { path, why, by: "somebody".to_owned() }; count];
            let sums = HeldSums { deletions: u64::MAX, reverts: u64::MAX, ..HeldSums::default() };
            vec![Packet::Message(Message::Holding { id: *id, sums, held })]
        }
        _ => Vec::new(),
    }
}

#[test]
fn what_members_say_that_they_hold_is_capped_escaped_and_waited_for_no_longer_than_its_time() {
    let lab = Lab::new();
    let _flood = join(&lab.b, lab.port, "flood", Vec::new(), holder(b"x", 0, HOLDS + 1));
    let _painter = join(&lab.b, lab.port, "painter", Vec::new(), holder(b"\x1b[31mred\xff", 0, 1));
    let _newer = join(&lab.b, lab.port, "newer", Vec::new(), holder(b"unheard-of", 77, 1));
    let _mute = join(&lab.b, lab.port, "mute", Vec::new(), |_| Vec::new());
    for name in ["flood", "painter", "newer", "mute"] {
        lab.b.wait_log(&["linked with", name]);
    }
    let held = lab.b.json(&["held"]).expect("an answer");
    let silent = held["silent"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
    assert_eq!(silent.collect::<BTreeSet<_>>(), BTreeSet::from(["flood", "mute"]), "{held}");
    let of = |name: &str| held["elsewhere"].as_array().and_then(|all| all.iter().find(|one| one["machine"] == name));
    let paths = |name: &str| of(name).map(|one| one["held"].clone()).unwrap_or_default();
    let painted = serde_json::json!([{"path": "\\x1b[31mred\\xff", "reason": "deleted", "by": "somebody"}]);
    assert_eq!((paths("painter"), paths("newer")), (painted, serde_json::json!([])));
    let shown = text_of(&lab.b.cli(&["held"]));
    assert!(shown.contains("painter: \\x1b[31mred\\xff  (deleted, by somebody)"), "{shown}");
    assert!(!shown.contains('\x1b') && !shown.contains("unheard-of"), "{shown}");
    // None of them says what it needs, as an older version does not.
    for name in ["painter", "newer", "mute"] {
        ask(&lab.b, "GET", &format!("need?peer={name}"), &[]).refuses(409, "did not say what it needs");
    }
    lab.goes_on();
}

#[test]
fn a_liar_about_what_it_has_costs_only_its_own_link() {
    let lab = Lab::new();
    for n in 0..3 {
        write(lab.b.at(&format!("f{n}")), noise(n, 100));
    }
    lab.a.start();
    wait_linked(&[&lab.a, &lab.b]);
    wait_equal(&[&lab.a, &lab.b], PATIENCE);
    lab.a.stop();
    lab.b.stop();
    for n in 0..3 {
        std::fs::remove_file(lab.b.at(&format!("f{n}"))).expect("it is there");
    }
    lab.b.start();
    let holds = |n: u64| {
        eventually("b holds them", PATIENCE, || {
            let status = lab.b.json(&["status"])?;
            (status["held_deletions"] == n).then_some(()).ok_or(status.to_string())
        });
    };
    holds(3);
    let too_many = |packet: &Packet| match packet {
        Packet::Message(Message::Locate { id, sought }) => {
            vec![Packet::Message(Message::Located { id: *id, places: vec![Place::Disk; sought.len() + 1] })]
        }
        _ => Vec::new(),
    };
    let liar = join(&lab.b, lab.port, "liar", Vec::new(), too_many);
    lab.b.wait_log(&["linked with liar"]);
    let out = lab.b.cli(&["undo"]);
    let said = text_of(&out);
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("f0  (on no disk and in no history that can be asked") && said.contains("liar"), "{said}");
    holds(3);
    drop(liar);
    // A machine that has them comes.
    lab.a.start();
    wait_linked(&[&lab.a, &lab.b]);
    wait_equal(&[&lab.a, &lab.b], PATIENCE);
    assert!((0..3).all(|n| read(lab.b.at(&format!("f{n}"))) == noise(n, 100)));
    holds(0);
}

#[test]
fn a_member_gets_nothing_of_history_that_it_was_not_told_of() {
    let lab = Lab::new();
    write(lab.b.at("secret"), "kept");
    lab.a.start();
    wait_linked(&[&lab.a, &lab.b]);
    wait_equal(&[&lab.a, &lab.b], PATIENCE);
    std::fs::remove_file(lab.a.at("secret")).expect("it is there");
    wait_equal(&[&lab.a, &lab.b], PATIENCE);
    assert_eq!(lab.b.history(), [b"kept".to_vec()]);
    lab.a.stop();
    let (told, heard) = std::sync::mpsc::channel();
    let path = SyncPath::new("secret").expect("a path");
    let (content, size) = (ContentId::of(b"kept"), 4);
    let fetch = Packet::Fetch { stream: 1, path: path.clone(), content, size, part: Part::Whole };
    let again = Packet::Fetch { stream: 2, path: path.clone(), content, size, part: Part::Whole };
    let answer = move |packet: &Packet| match packet {
        Packet::End { stream: 1, how } => {
            told.send(format!("{how:?}")).expect("the test waits");
            vec![Packet::Message(Message::History { id: 1, path: Some(path.clone()), named: Vec::new() })]
        }
        Packet::Message(Message::Pasts { id: 1, pasts, .. }) => {
            let named = pasts.iter().map(|past| (past.path.clone(), past.time_ns)).collect();
            vec![Packet::Message(Message::History { id: 2, path: None, named })]
        }
        Packet::Message(Message::Pasts { .. }) => vec![again.clone()],
        Packet::End { stream: 2, how } => {
            told.send(format!("{how:?}")).expect("the test waits");
            Vec::new()
        }
        _ => Vec::new(),
    };
    let _member = join(&lab.b, lab.port, "member", vec![fetch], answer);
    let next = || heard.recv_timeout(PATIENCE).expect("it answers");
    assert_eq!([next(), next()], ["NotHere", "Whole"], "only once it was told what there is");
    lab.goes_on();
}

#[test]
fn a_flood_of_made_up_conflicts_fills_the_room_of_its_sender_alone_and_shows_nothing_raw() {
    const ROOM: u64 = 16_384;
    let lab = Lab::new();
    let entry = |n: u64| {
        let author = DeviceId([0x66; 32]);
        let version = Version { stamp: 7, author, seen: VersionVector::default().with(author, n + 1) };
        let kind = Kind::File { size: 1, content: ContentId([n as u8; 32]) };
        Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
    };
    let row = move |n: u64, name: &str| {
        let (winner_name, loser_name, beside) = ("liar".to_owned(), name.to_owned(), None);
        let sides = Sides { winner: entry(n), winner_name, loser: entry(n), loser_name, beside };
        let path = SyncPath::new(format!("made up \u{1b}[31m {n}")).expect("a path");
        let decided = (n % 2 == 1).then(|| Decided { how: "\u{1b}]0;kept\u{7}".to_owned(), age_s: 0 });
        ConflictNews { path, found_ns: 5, decided, relayed: false, sides }
    };
    let tell = |news| Packet::Message(Message::Conflicts { digest: Some([9; 16]), news });
    let odd: Vec<_> = (0..10).map(|n| row(1 << 40 | n, "\u{1b}[2J")).collect();
    let flood = (0..20).map(|part| tell((0..1000).map(|n| row(1000 * part + n, "liar")).collect()));
    let first = [tell(odd)].into_iter().chain(flood).collect();
    let _liar = join(&lab.b, lab.port, "liar", first, |_| Vec::new());
    let open = |machine: &Machine| machine.json(&["status"])?["open_conflicts"].as_u64().ok_or("none".to_owned());
    eventually("its room is full", PATIENCE, || {
        let open = open(&lab.b)?;
        (open == ROOM / 2).then_some(()).ok_or(format!("{open}"))
    });
    let listed = text_of(&lab.b.cli(&["conflicts", "--all"]));
    assert!(listed.contains("decided: \\x1b]0;kept\\x07") && !listed.contains('\u{1b}'), "safe to print");
    // A conflict of the others is listed at both all the same.
    write(lab.b.at("real"), "base");
    lab.goes_on();
    lab.a.stop();
    write(lab.a.at("real"), "by a");
    pace(20);
    write(lab.b.at("real"), "by b");
    lab.a.start();
    wait_linked(&[&lab.a, &lab.b]);
    for machine in [&lab.a, &lab.b] {
        eventually("the conflict is listed", PATIENCE, || {
            let listed = machine.json(&["conflicts", "real"])?;
            let count = listed["conflicts"].as_array().map_or(0, Vec::len);
            (count == 1).then_some(()).ok_or(listed.to_string())
        });
    }
}

/// Their bytes are well-formed; what they say is not so.
#[test]
fn invalid_entries_cost_those_entries_alone_and_their_sender_is_named() {
    let lab = Lab::new();
    let content = ContentId::of(b"x");
    let bad = [
        entry_of("counter", content, 1, |entry| {
            entry.version.seen = entry.version.seen.with(entry.version.author, (1 << 63) - 1);
        }),
        entry_of("stamp", content, 1, |entry| entry.version.stamp = (1 << 62) - 1),
        entry_of("mode", content, 1, |entry| entry.mode = Mode(0o4755)),
        entry_of("size", content, 1 << 63, |_| ()),
        entry_of(&["d"; 257].join("/"), content, 1, |_| ()),
    ];
    let _liar = join(&lab.b, lab.port, "liar", bad.to_vec(), |_| Vec::new());
    lab.b.wait_log(&["liar announces invalid entries"]);
    lab.goes_on();
    let peers = text_of(&lab.b.cli(&["peers"]));
    assert!(find_line(&peers, &["liar", "announces invalid entries"]).is_some(), "{peers}");
    assert_eq!(lab.a.tree(), lab.b.tree());
    let log = lab.b.log();
    assert_eq!(log.matches("announces invalid entries").count(), 1, "{log}");
}

/// What a machine's state takes on the disk, and how long its daemon has computed (bytes, seconds).
fn cost(machine: &Machine) -> (u64, f64) {
    let du = std::process::Command::new("du").args(["-sb", "--"]).arg(machine.dir.with_file_name("state")).output();
    let said = text_of(&du.expect("du can be started"));
    let bytes = said.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("du says a number");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", machine.pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    (bytes, ticks as f64 / 100.0)
}

/// One change a packet would not be deflated: these go as one message.
fn changes(of: impl Iterator<Item = (String, Entry)>) -> Packet {
    let change = |(path, entry)| Change { path: SyncPath::new(path).expect("a path"), entry, body: None };
    Packet::Message(Message::Changes { changes: of.map(change).collect(), relayed_to: Vec::new() })
}

/// The entry of a liar's file of one byte.
fn a_file() -> Entry {
    match entry_of("f", ContentId::of(b"x"), 1, |_| ()) {
        Packet::Message(Message::Changes { mut changes, .. }) => changes.remove(0).entry,
        _ => unreachable!("news is a change"),
    }
}

#[test]
fn deep_paths_cost_no_more_than_their_sender_may_spend() {
    let lab = Lab::new();
    let deep = |n: usize| format!("{n:03}{}", "/dir0123456789".repeat(255));
    let deep = changes((0..80).map(|n| (deep(n), a_file())));
    let wire = dirsyncd::wire::frame::encode(&deep).to_vec().len();
    let before = cost(&lab.b);
    let _deep = join(&lab.b, lab.port, "deep", vec![deep], |_| Vec::new());
    lab.b.wait_log(&["deep announces invalid entries", "more folders to be derived"]);
    let after = cost(&lab.b);
    let (bytes, seconds) = (after.0 - before.0, after.1 - before.1);
    println!("{wire} B on the wire: {bytes} B of state, {seconds:.1} s");
    assert!(bytes < 64 << 20, "{wire} B on the wire made {bytes} B of state");
}

#[test]
fn tombstones_of_what_never_was_here_cost_no_more_than_their_sender_may_spend() {
    let lab = Lab::new();
    let long = |n: usize| format!("{n:06}{}/{}", "a".repeat(240), "b".repeat(240));
    let gone = |n: usize| (long(n), Entry { kind: Kind::Deleted { at: 1_790_000_000_000_000_000 }, ..a_file() });
    let gone: Vec<Packet> = (0..40).map(|part| changes((part * 500..(part + 1) * 500).map(gone))).collect();
    let wire: usize = gone.iter().map(|packet| dirsyncd::wire::frame::encode(packet).to_vec().len()).sum();
    let before = cost(&lab.b);
    let _gone = join(&lab.b, lab.port, "gone", gone, |_| Vec::new());
    lab.b.wait_log(&["linked with gone"]);
    lab.goes_on();
    let after = cost(&lab.b);
    let resident = lab.b.resident_bytes();
    println!(
        "{wire} B on the wire: {} B of state, {:.1} s, {resident} B resident",
        after.0 - before.0,
        after.1 - before.1
    );
}

/// Each asks for 64 MiB, and the machine could hold all of it for each.
#[test]
fn members_who_ask_for_much_and_read_nothing_cost_a_bounded_room() {
    let lab = Lab::new();
    let bytes = noise(7, 128 << 10);
    let content = ContentId::of(&bytes);
    write(lab.b.at("f"), &bytes);
    lab.b.wait_own_idle();
    let before = lab.b.resident_bytes();
    let path = SyncPath::new("f").expect("a path");
    let want = |id| WantedContent { id, path: path.clone(), content, size: 128 << 10 };
    let asks = Packet::Message(Message::Get { wants: (0..512).map(want).collect() });
    let deaf = |n: u32| {
        let member = join_deaf(&lab.b, lab.port, &format!("deaf{n:02}"), vec![asks.clone()]);
        // More than four at a time that have not proved themselves yet are not let in.
        lab.b.wait_log(&[&format!("linked with deaf{n:02}")]);
        member
    };
    let members: Vec<_> = (0..24).map(deaf).collect();
    lab.goes_on();
    let peak = lab.b.peak_bytes();
    println!("{before} B before, {peak} B at most");
    assert!(peak < before + (352 << 20), "24 links that read nothing: {peak} B, {before} before");
    drop(members);
}

/// Deletions of 120 of the 150 files that are at `b` from its start on, and how each is named.
fn mass_deletion() -> Vec<(String, Entry)> {
    let at = now();
    let gone = |n: u64| {
        let author = DeviceId([0x66; 32]);
        let version = Version { stamp: at, author, seen: VersionVector::default().with(author, n + 1) };
        let entry = Entry { kind: Kind::Deleted { at }, mode: Mode::NONE, mtime: FileTime::default(), version };
        (format!("f{n}"), entry)
    };
    (0..120).map(gone).collect()
}

fn confirmation(of: &[(String, Entry)]) -> Confirmation {
    let digest = |(path, entry): &(String, Entry)| entry_hash(&SyncPath::new(path.as_str()).expect("a path"), entry);
    let mut digests: Vec<_> = of.iter().map(digest).collect();
    digests.sort_unstable();
    let mut confirmation = Confirmation::unsigned(digests);
    let key = DeviceKey::generate().expect("a key");
    Sealer::new(&key).expect("a sealer").seal(&mut confirmation).expect("a signature");
    confirmation
}

fn say(confirmation: Confirmation) -> Packet {
    Packet::Message(Message::Confirm(confirmation))
}

impl Lab {
    /// With 150 files that `b` had before it was started.
    fn with_files() -> Self {
        let (group, port) = (Group::new(), free_tcp_port());
        let (a, mut b) = (group.machine("a"), group.machine("b"));
        b.options = vec!["-l".to_owned(), port.to_string()];
        (0..150).for_each(|n| write(b.at(&format!("f{n}")), noise(n, 300)));
        b.start();
        b.wait_own_idle();
        Self { a, b, port }
    }

    fn wait_held(&self, held: u64) {
        eventually(&format!("{held} deletions are held"), PATIENCE, || {
            let status = self.b.json(&["status"])?;
            (status["held_deletions"] == held).then_some(()).ok_or(status.to_string())
        });
    }

    fn files(&self) -> usize {
        (0..150).filter(|n| self.b.at(&format!("f{n}")).exists()).count()
    }
}

#[test]
fn deletions_that_a_member_confirms_before_it_makes_them_are_held_unless_each_was_named() {
    let lab = Lab::with_files();
    let gone = mass_deletion();
    // It names some, and of the others the changes that it would have made before and after those.
    let mut guessed = gone[..10].to_vec();
    for (path, entry) in &gone[10..] {
        for counter in [1, 500, 1 << 40] {
            let mut entry = entry.clone();
            entry.version.seen = VersionVector::default().with(entry.version.author, counter + 1000);
            guessed.push((path.clone(), entry));
        }
    }
    let first = vec![say(confirmation(&guessed)), changes(gone.into_iter())];
    let _liar = join(&lab.b, lab.port, "liar", first, |_| Vec::new());
    lab.wait_held(110);
    eventually("what was named goes", PATIENCE, || {
        let files = lab.files();
        (files == 140).then_some(()).ok_or(files.to_string())
    });
    assert!(lab.b.cli(&["undo"]).status.success());
    lab.wait_held(0);
    lab.goes_on();
    assert!(lab.files() >= 140);
}

#[test]
fn a_confirmation_with_a_forged_signature_lets_nothing_go_and_a_genuine_one_does_whoever_brings_it() {
    let lab = Lab::with_files();
    let gone = mass_deletion();
    let genuine = confirmation(&gone);
    let mut other_list = confirmation(&gone[..100]);
    other_list.digests.clone_from(&genuine.digests);
    let mut other_key = genuine.clone();
    other_key.seal.key = confirmation(&gone).seal.key;
    let mut unsigned = genuine.clone();
    unsigned.seal.signature.clear();
    let _liar = join(&lab.b, lab.port, "liar", vec![changes(gone.into_iter())], |_| Vec::new());
    lab.wait_held(120);
    for (n, forged) in [other_list, other_key, unsigned].into_iter().enumerate() {
        let name = format!("forger{n}");
        let _forger = join(&lab.b, lab.port, &name, vec![say(forged)], |_| Vec::new());
        lab.b.wait_log(&[&name, "a confirmation that its device did not sign"]);
    }
    lab.wait_held(120);
    assert_eq!(lab.files(), 150);
    let _bearer = join(&lab.b, lab.port, "bearer", vec![say(genuine)], |_| Vec::new());
    lab.b.wait_log(&["confirmed at", "120 changes"]);
    eventually("what was confirmed goes", PATIENCE, || {
        let files = lab.files();
        (files == 30).then_some(()).ok_or(files.to_string())
    });
    assert_eq!(lab.b.history().len(), 120);
    lab.goes_on();
}

#[test]
fn a_reader_that_forges_authors_confirmations_and_counters_changes_nothing() {
    let lab = Lab::new();
    write(lab.b.at("kept"), "by a writer");
    let status = |field: &str| lab.b.json(&["status"]).expect("a status")[field].clone();
    eventually("it is in the index", PATIENCE, || {
        (status("files") == 1).then_some(()).ok_or(status("files").to_string())
    });
    let device = status("device");
    let victim = DeviceId(dirsyncd::model::text::from_hex(device.as_str().expect("an id")).expect("digits"));
    let deletion = mass_deletion().remove(0).1;
    let forged = |author: DeviceId| {
        let version = Version { stamp: now(), author, seen: VersionVector::default().with(author, 1 << 40) };
        [
            ("forged".to_owned(), Entry { version: version.clone(), ..a_file() }),
            ("kept".to_owned(), Entry { version, ..deletion.clone() }),
        ]
    };
    let claims = [victim, DeviceId([3; 32])].into_iter().flat_map(forged);
    let first = vec![
        changes(claims),
        Packet::Message(Message::Known { counter: 1 << 50 }),
        Packet::Message(Message::Forget { device: victim }),
        Packet::Message(Message::Undo { relayed_to: Vec::new() }),
    ];
    // And whatever it is asked for, it offers the same.
    let answers = move |packet: &Packet| match packet {
        Packet::Message(Message::Offer { .. }) => {
            let entries = vec![(SyncPath::new("answered").expect("a path"), a_file())];
            vec![Packet::Message(Message::Answer { entries, more: false })]
        }
        _ => Vec::new(),
    };
    let _reader = join_to_read(&lab.b, lab.port, "reader", first, answers);
    lab.b.wait_log(&["reader", "changes, though it may only read"]);
    lab.goes_on();
    assert_eq!(read(lab.b.at("kept")), b"by a writer");
    for made_up in ["forged", "answered"] {
        assert!(!lab.b.at(made_up).exists() && !lab.a.at(made_up).exists(), "{made_up}");
    }
    assert_eq!(status("device"), device, "it did not give way to a claim about its counters");
}

#[test]
fn a_removed_member_gets_no_secret_back_under_its_own_or_any_new_id() {
    let lab = Lab::new();
    lab.a.start();
    wait_linked(&[&lab.a, &lab.b]);
    let key = DeviceKey::generate().expect("a key");
    let lost = join_as(with_key(&lab.b, "lost", &key), lab.port, Vec::new(), |_| Vec::new());
    lab.b.wait_log(&["linked with lost"]);
    let device = lab.b.json(&["status"]).expect("a status")["device"].clone();
    let giver = DeviceId(dirsyncd::model::text::from_hex(device.as_str().expect("an id")).expect("digits"));
    let out = lab.b.cli(&["remove", "lost", "--yes"]);
    assert!(out.status.success(), "{}", text_of(&out));
    drop(lost);
    let refused = |key: &DeviceKey, words: &str| {
        eventually(&format!("it is refused: {words}"), PATIENCE, || match is_handed(&lab.b, key, giver, lab.port) {
            Err(why) if why.to_string().contains(words) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    refused(&key, "was removed from the group");
    for _ in 0..3 {
        refused(&DeviceKey::generate().expect("a key"), "is not on the list");
    }
    lab.b.wait_up();
    wait_linked(&[&lab.a, &lab.b]);
    write(lab.a.at("small"), "of a");
    wait_equal(&[&lab.a, &lab.b], PATIENCE);
}
