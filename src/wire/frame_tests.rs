//! Frames as they are written, and as hostile peers write them.

use super::super::features::Features;
use super::*;
use crate::model::{
    Capability, DeviceId, Entry, FileTime, Keyring, Kind, Mode, RetainReason, SyncRole, Version, VersionVector,
};
use crate::wire::condition::StopCause;
use crate::wire::confirmation::{CONFIRMED_AT_ONCE, Confirmation, KEY_BYTES, Seal};
use crate::wire::conflict::{ConflictNews, Decided, Sides};
use crate::wire::members::{HandOver, HandedKeys, ListedMember, ReaderKeys, Removal, Roster};
use crate::wire::message::{
    Change, HeldBack, HeldSums, MESSAGE_BYTES, Past, PastWhat, PathContent, Place, SURVEY_PATHS, Sought, WantedContent,
};
use crate::wire::split::split;
use proptest::prelude::*;

fn round_trip(packet: &Packet) -> Packet {
    let (decoded, taken) = decode_first(&encode(packet).to_vec().into()).unwrap();
    assert_eq!(taken, encode(packet).len());
    decoded
}

fn device() -> impl Strategy<Value = DeviceId> {
    any::<[u8; 32]>().prop_map(DeviceId)
}

fn condition() -> impl Strategy<Value = Condition> {
    let cause = prop_oneof![Just(StopCause::MarkerLost), Just(StopCause::Patterns), Just(StopCause::Other)];
    let role = prop_oneof![Just(SyncRole::Both), Just(SyncRole::ReceiveOnly), Just(SyncRole::SendOnly)];
    let made = (prop::option::of(cause), any::<[bool; 2]>(), any::<[u64; 7]>(), role);
    made.prop_map(|(stopped, flags, counts, role)| Condition {
        stopped,
        paused: flags[0],
        scanning: flags[1],
        held_deletions: counts[0],
        held_reverts: counts[1],
        held_unignored: counts[2],
        problems: counts[3],
        missing: counts[4],
        role,
        local: counts[5],
        not_installed: counts[6],
    })
}

fn path() -> impl Strategy<Value = SyncPath> {
    prop::collection::vec(any::<u8>(), 1..60).prop_filter_map("no path", |bytes| SyncPath::new(bytes).ok())
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0..1u64 << 62).prop_map(|at| Kind::Deleted { at }),
        Just(Kind::Directory),
        prop::collection::vec(1..=255u8, 1..40).prop_map(|target| Kind::Symlink { target }),
        (0..1u64 << 63, any::<[u8; 32]>()).prop_map(|(size, hash)| Kind::File { size, content: ContentId(hash) }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let seen = prop::collection::vec((device(), 0..1u64 << 63), 0..4);
    (kind(), 0..=0o777u16, any::<i64>(), 0..1_000_000_000u32, 0..1u64 << 62, device(), seen).prop_map(
        |(kind, mode, secs, nanos, stamp, author, seen)| {
            let seen =
                seen.into_iter().fold(VersionVector::default(), |seen, (device, counter)| seen.with(device, counter));
            Entry { kind, mode: Mode(mode), mtime: FileTime { secs, nanos }, version: Version { stamp, author, seen } }
        },
    )
}

fn file_entry(size: u64) -> Entry {
    let version = Version { stamp: 1, author: DeviceId([1; 32]), seen: VersionVector::default() };
    let kind = Kind::File { size, content: ContentId([2; 32]) };
    Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
}

fn change() -> impl Strategy<Value = Change> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    prop_oneof![
        (path(), entry()).prop_map(|(path, entry)| Change { path, entry, body: None }),
        (path(), bytes()).prop_map(|(path, bytes)| Change {
            path,
            entry: file_entry(bytes.len() as u64),
            body: Some(bytes),
        }),
    ]
}

fn conflict((path, winner, loser, relayed): (SyncPath, Entry, Entry, bool)) -> ConflictNews {
    let (winner_name, loser_name, beside) = ("a".to_owned(), "b".to_owned(), relayed.then(|| path.clone()));
    let decided = relayed.then(|| Decided { how: "merged".to_owned(), age_s: 7 });
    let sides = Sides { winner, winner_name, loser, loser_name, beside };
    ConflictNews { path, found_ns: 1, decided, relayed, sides }
}

fn roster() -> impl Strategy<Value = Roster> {
    prop::collection::vec((any::<u8>(), "[A-Za-z0-9._-]{1,63}", 0..1u64 << 63, any::<bool>()), 0..5).prop_map(|list| {
        let device = DeviceId([3; 32]);
        let member = |(n, name, time, invited): (u8, String, u64, bool)| ListedMember {
            device: DeviceId([n; 32]),
            name,
            capability: if invited { Capability::Write } else { Capability::ReadOnly },
            added_by: device,
            added_ns: time,
            invited,
        };
        let removal = Removal { device, name: "b".into(), removed_by: device, removed_ns: 1, left: true, counter: 2 };
        Roster { members: list.into_iter().map(member).collect(), removals: vec![removal] }
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let entries = || prop::collection::vec((path(), entry()), 0..8);
    let digests = || prop::collection::vec(any::<Digest>(), 256);
    let bytes = prop::option::of(prop::collection::vec(any::<u8>(), 0..400).prop_map(Bytes::from));
    let want = (any::<u32>(), path(), any::<[u8; 32]>(), 0..1u64 << 63);
    prop_oneof![
        any::<u64>().prop_map(|counter| Message::Known { counter }),
        (prop::collection::btree_set(any::<Digest>(), 1..9), prop::collection::vec(any::<u8>(), 0..73)).prop_map(
            |(digests, signature)| {
                let seal = Seal { signature, ..Seal::default() };
                Message::Confirm(Confirmation { seal, digests: digests.into_iter().collect() })
            }
        ),
        any::<u8>().prop_map(|n| Message::Forget { device: DeviceId([n; 32]) }),
        roster().prop_map(Message::Members),
        any::<u8>().prop_map(|n| Message::Undo { relayed_to: vec![DeviceId([n; 32]); usize::from(n % 4)] }),
        (any::<u32>(), prop::collection::vec(path(), 0..9)).prop_map(|(id, paths)| Message::Survey { id, paths }),
        (any::<u32>(), prop::collection::vec((prop::option::of(any::<[u8; 32]>()), any::<u32>()), 0..9)).prop_map(
            |(id, list)| {
                let held = |(hash, day): (Option<_>, _)| PathContent { content: hash.map(ContentId), day };
                Message::Holdings { id, held: list.into_iter().map(held).collect() }
            }
        ),
        (any::<u32>(), prop::option::of(path()), prop::collection::vec((path(), 0..1u64 << 63), 0..5))
            .prop_map(|(id, path, named)| Message::History { id, path, named }),
        (any::<u32>(), prop::collection::vec((path(), any::<[u8; 32]>(), 0..1u64 << 63), 0..5)).prop_map(
            |(id, list)| {
                let mtime = FileTime { secs: -5, nanos: 7 };
                let sought = |(path, hash, size)| Sought { path, content: ContentId(hash), size, mtime };
                Message::Locate { id, sought: list.into_iter().map(sought).collect() }
            }
        ),
        (any::<u32>(), prop::collection::vec(0..3u8, 0..9)).prop_map(|(id, list)| {
            let place = |n| [Place::Nowhere, Place::History, Place::Disk][usize::from(n)];
            Message::Located { id, places: list.into_iter().map(place).collect() }
        }),
        (any::<u32>(), any::<bool>()).prop_map(|(id, pending)| Message::Holds { id, pending }),
        (any::<u32>(), any::<u64>(), prop::collection::vec((path(), any::<u8>()), 0..5)).prop_map(|(id, n, list)| {
            let pending = (n % 2 == 0).then_some(n);
            let sums = HeldSums { deletions: n, reverts: 1, dated_ahead: 2, unignored: 3, pending };
            let held = |(path, why)| HeldBack { path, why, by: "a".to_owned() };
            Message::Holding { id, sums, held: list.into_iter().map(held).collect() }
        }),
        (prop::option::of(any::<Digest>()), prop::collection::vec((path(), entry(), entry(), any::<bool>()), 0..5))
            .prop_map(|(digest, list)| Message::Conflicts { digest, news: list.into_iter().map(conflict).collect() }),
        (any::<u32>(), prop::collection::vec((path(), 0..1u64 << 63, 0..4u8), 0..5), any::<bool>()).prop_map(
            |(id, list, more)| {
                let what = |n| match n {
                    0 => PastWhat::Unidentified,
                    1 => PastWhat::File(ContentId([n; 32])),
                    2 => PastWhat::Link(b"target".to_vec()),
                    _ => PastWhat::Gone,
                };
                let past = |(path, time_ns, n)| Past {
                    path,
                    time_ns,
                    reason: RetainReason::Deleted,
                    size: time_ns / 2,
                    mode: Mode(0o644),
                    mtime: FileTime { secs: -5, nanos: 7 },
                    what: what(n),
                };
                Message::Pasts { id, pasts: list.into_iter().map(past).collect(), more }
            }
        ),
        (any::<Digest>(), any::<u64>(), prop::option::of(condition()))
            .prop_map(|(root, pending, condition)| Message::State { root, pending, condition }),
        digests().prop_map(|groups| Message::Groups { groups }),
        prop::collection::vec((any::<u8>(), digests()), 0..3).prop_map(|groups| Message::Buckets { groups }),
        (prop::collection::vec(any::<u16>(), 0..50), entries(), any::<bool>())
            .prop_map(|(buckets, entries, more)| Message::Offer { buckets, entries, more }),
        (entries(), any::<bool>()).prop_map(|(entries, more)| Message::Answer { entries, more }),
        (prop::collection::vec(change(), 0..6), prop::collection::vec(device(), 0..4))
            .prop_map(|(changes, relayed_to)| Message::Changes { changes, relayed_to }),
        prop::collection::vec(want, 0..9).prop_map(|wants| {
            let want = |(id, path, hash, size)| WantedContent { id, path, content: ContentId(hash), size };
            Message::Get { wants: wants.into_iter().map(want).collect() }
        }),
        prop::collection::vec((path(), any::<u64>()), 0..9).prop_map(|placed| Message::Acks { placed }),
        prop::collection::vec((any::<u32>(), bytes), 0..9).prop_map(|contents| Message::Contents { contents }),
        prop::collection::vec((any::<u32>(), any::<u32>()), 0..9)
            .prop_map(|chunks| Message::Have { content: ContentId([3; 32]), chunks }),
    ]
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let ending = prop_oneof![
        Just(Ending::Whole),
        Just(Ending::NotHere),
        Just(Ending::Changed),
        Just(Ending::Unreadable),
        Just(Ending::NoDelta)
    ];
    prop_oneof![
        8 => any_message().prop_map(Packet::Message),
        1 => (any::<u32>(), "[A-Za-z0-9._-]{1,63}", "[a-z0-9. /]{0,40}", any::<u64>())
            .prop_map(|(protocol, name, software, boot)| {
                let features = Features::checked(vec!["history".to_owned(), "later".to_owned()]).unwrap();
                Packet::Hello { protocol, name, software, boot, started: boot / 2, features }
            }),
        1 => (any::<[u8; 32]>(), any::<Option<[u8; 32]>>(), any::<bool>()).prop_map(|(mac, member, writes)| {
            let (current, with) = (Some([1; 16]), writes.then_some([2; 16]));
            Packet::Proof { mac, member, writer: writes.then_some([7; 64]), current, with }
        }),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|chain| Packet::Former { chain: chain.into() }),
        1 => (any::<[u8; 32]>(), roster(), 0..3u8).prop_map(|(secret, roster, what)| {
            let former = vec![([1; 32], [2; 32])];
            let keys = match what {
                0 => return Packet::HandOver(None),
                1 => HandedKeys::Writer(Keyring::new(secret)),
                _ => HandedKeys::Reader(ReaderKeys { secret, writers_public: secret, former }),
            };
            Packet::HandOver(Some(HandOver { keys, roster }))
        }),
        1 => any::<[u8; 32]>().prop_map(|mac| Packet::Join { mac, name: "nas".to_owned() }),
        1 => any::<[u8; 32]>().prop_map(|mac| Packet::Invited { mac, name: "nas".to_owned() }),
        1 => any::<bool>().prop_map(|preview| Packet::Accept { preview }),
        1 => any::<[u8; 32]>().prop_map(|secret| Packet::Secret { secret: HandedSecret::Writer(secret) }),
        1 => any::<[u8; 32]>().prop_map(|secret| {
            Packet::Secret { secret: HandedSecret::Reader { secret, writers_public: secret } }
        }),
        1 => Just(Packet::Joined),
        1 => any::<u64>().prop_map(|at| Packet::Ping { at }),
        1 => any::<(u64, u64)>().prop_map(|(at, wall)| Packet::Pong { at, wall }),
        1 => (any::<u32>(), path(), any::<[u8; 32]>(), 0..1u64 << 63).prop_map(|(stream, path, hash, size)| {
            Packet::Fetch { stream, path, content: ContentId(hash), size, part: Part::Chunks { first: stream, count: 7 } }
        }),
        1 => (any::<u32>(), path(), any::<[u8; 32]>(), 0..1u64 << 63, 0..1u64 << 63)
            .prop_map(|(stream, path, hash, size, base_size)| {
                let (content, base) = (ContentId(hash), ContentId(hash));
                Packet::Delta { stream, path, content, size, base, base_size }
            }),
        1 => any::<u32>().prop_map(|stream| Packet::Sign { stream }),
        1 => (any::<u32>(), prop::collection::vec(any::<u8>(), 1..3000))
            .prop_map(|(stream, bytes)| Packet::Signature { stream, bytes: bytes.into() }),
        1 => (any::<u32>(), 0..1u64 << 63, prop::collection::vec(any::<u8>(), 1..3000))
            .prop_map(|(stream, offset, bytes)| Packet::Piece { stream, offset, bytes: bytes.into() }),
        1 => (any::<u32>(), any::<u64>()).prop_map(|(stream, bytes)| Packet::Credit { stream, bytes }),
        1 => (any::<u32>(), ending).prop_map(|(stream, how)| Packet::End { stream, how }),
        1 => any::<u32>().prop_map(|stream| Packet::Cancel { stream }),
        1 => "[^\"]{0,60}".prop_map(|reason| Packet::Bye { reason }),
    ]
}

proptest! {
    #[test]
    fn every_packet_round_trips(packet in any_packet()) {
        prop_assert_eq!(round_trip(&packet), packet);
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, head: Vec<u8>) {
        let _ = decode_first(&bytes.clone().into());
        let _ = decode(&head, bytes.into());
    }

    #[test]
    fn a_flipped_or_missing_byte_never_panics(packet in any_packet(), at: prop::sample::Index, bit in 0..8u8) {
        let whole = encode(&packet).to_vec();
        let mut flipped = whole.clone();
        flipped[at.index(whole.len())] ^= 1 << bit;
        let _ = decode_first(&flipped.into());
        let cut = Bytes::from(whole).slice(..at.index(encode(&packet).len()));
        prop_assert_eq!(decode_first(&cut), Err(FrameError::Truncated));
    }

    #[test]
    fn hostile_bodies_of_every_kind_never_panic(kind in 0..6usize, body: Vec<u8>) {
        let kind = ["groups", "buckets", "offer", "changes", "get", "contents"][kind];
        let head = format!(r#"{{"kind":"{kind}","more":false}}"#);
        let _ = decode(head.as_bytes(), body.into());
    }
}

#[test]
fn a_body_that_shrinks_travels_as_zlib_and_one_that_does_not_travels_raw() {
    let piece = |bytes: Vec<u8>| Packet::Piece { stream: 1, offset: 0, bytes: bytes.into() };
    let text = piece(b"the same line\n".repeat(9000));
    let frame = encode(&text);
    assert!(frame.zlib && frame.body.len() < 9000, "{}", frame.body.len());
    assert_eq!(round_trip(&text), text);
    assert!(!encode_as(&text, Squeeze::Never).zlib);

    let mut noise = vec![0; PIECE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let frame = encode(&piece(noise.clone()));
    assert!(!frame.zlib);
    assert_eq!(frame.body, noise);
    assert!(!encode(&piece(vec![0; 512])).zlib, "too short to be worth it");
}

#[test]
fn a_length_over_its_cap_is_refused_before_anything_is_read() {
    let lengths = |head: u32, body: u32| {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&head.to_be_bytes());
        bytes[4..].copy_from_slice(&body.to_be_bytes());
        decode_lengths(bytes, MAX_HEAD_BYTES, MAX_BODY_BYTES)
    };
    assert_eq!(lengths(65_536, 2_097_152), Ok((65_536, 2_097_152)));
    assert!(matches!(lengths(65_537, 0), Err(FrameError::TooLong { head: 65_537, .. })));
    assert!(matches!(lengths(0, u32::MAX), Err(FrameError::TooLong { .. })));
}

#[test]
fn inflating_stops_at_what_was_announced() {
    let packet = Packet::Piece { stream: 1, offset: 0, bytes: vec![0; 100_000].into() };
    let frame = encode(&packet);
    let head = String::from_utf8(frame.head[LENGTHS_BYTES..].to_vec()).unwrap();
    for announced in ["99999", "100001", "0", "2097153", "4294967295"] {
        let lying = head.replace("100000", announced);
        let refused = decode(lying.as_bytes(), frame.body.clone());
        assert_eq!(refused, Err(FrameError::Inflate(announced.parse().unwrap())), "{announced}");
    }
    let mut trailing = frame.body.to_vec();
    trailing.push(0);
    assert!(matches!(decode(head.as_bytes(), trailing.into()), Err(FrameError::Inflate(_))));
}

#[test]
fn a_body_with_bytes_left_over_or_a_false_count_is_refused() {
    let answer = encode(&Packet::Message(Message::Answer { entries: Vec::new(), more: false }));
    let head = &answer.head[LENGTHS_BYTES..];
    assert!(decode(head, answer.body.clone()).is_ok());
    assert_eq!(decode(head, Bytes::from_static(&[0, 0])), Err(FrameError::Body("bytes after its end")));
    let count_of_a_billion = Bytes::from_static(&[0x80, 0x94, 0xeb, 0xdc, 0x03, 1]);
    assert_eq!(decode(head, count_of_a_billion), Err(FrameError::Body("a count that it cannot hold")));
    assert!(decode(br#"{"kind":"ping","at":1}"#, Bytes::from_static(b"x")).is_err());
}

#[test]
fn a_content_that_is_not_its_entry_s_is_refused() {
    let path = SyncPath::new("a").unwrap();
    let changes = vec![Change { path, entry: file_entry(5), body: Some(Bytes::from_static(b"1234")) }];
    let frame = encode(&Packet::Message(Message::Changes { changes, relayed_to: Vec::new() }));
    let refused = decode(&frame.head[LENGTHS_BYTES..], frame.body);
    assert_eq!(refused, Err(FrameError::Body("a content that is not its entry's")));
}

/// They are the engine's to check: one bad entry costs that entry, not the link.
#[test]
fn an_entry_out_of_range_is_decoded_as_it_is() {
    let mut entry = file_entry(5);
    entry.mode = Mode(0o4755);
    let answer = Message::Answer { entries: vec![(SyncPath::new("a").unwrap(), entry)], more: false };
    let frame = encode(&Packet::Message(answer.clone()));
    assert_eq!(decode(&frame.head[LENGTHS_BYTES..], frame.body), Ok(Packet::Message(answer)));
}

/// Older versions confirm whatever a device did up to a counter: that names no change.
#[test]
fn counters_that_an_older_version_confirms_mean_nothing() {
    let body = postcard::to_stdvec(&[(DeviceId([1; 32]), 7_u64), (DeviceId([2; 32]), 1 << 62)].as_slice()).unwrap();
    let head = br#"{"kind":"known","counter":9}"#;
    assert_eq!(decode(head, body.clone().into()), Ok(Packet::Message(Message::Known { counter: 9 })));
    assert!(decode(head, body[..40].to_vec().into()).is_err());
}

#[test]
fn a_confirmation_names_each_change_once_in_order_and_not_too_many() {
    let frame = |digests: Vec<Digest>| {
        let frame = encode(&Packet::Message(Message::Confirm(Confirmation::unsigned(digests))));
        decode(&frame.head[LENGTHS_BYTES..], frame.body)
    };
    let digest = |n: usize| std::array::from_fn(|at| if at < 8 { (n as u64).to_be_bytes()[at] } else { 0 });
    let most: Vec<Digest> = (0..CONFIRMED_AT_ONCE).map(digest).collect();
    assert!(frame(most.clone()).is_ok());
    let too_many = [most, vec![digest(CONFIRMED_AT_ONCE)]].concat();
    for bad in [Vec::new(), vec![digest(1), digest(1)], vec![digest(2), digest(1)], too_many] {
        assert!(matches!(frame(bad), Err(FrameError::Body(_))));
    }
    let mut body = vec![0; KEY_BYTES];
    body.push(73);
    body.extend([0; 73 + 16]);
    assert_eq!(decode(br#"{"kind":"confirm"}"#, body.into()), Err(FrameError::Body("a signature of over 72 bytes")));
}

#[test]
fn a_path_that_would_leave_the_folder_is_refused() {
    for bad in ["../etc/passwd", "/etc", "a/.dirsync/b"] {
        let head = format!(r#"{{"kind":"fetch","stream":1,"path":"{bad}","content":"{}","size":1}}"#, "0".repeat(64));
        assert!(matches!(decode(head.as_bytes(), Bytes::new()), Err(FrameError::Head(_))), "{bad}");
    }
}

#[test]
fn the_error_about_a_head_carries_no_control_characters() {
    let head = "{\"kind\":\"\\u001b[31m\\u202e\"}";
    let FrameError::Head(message) = decode(head.as_bytes(), Bytes::new()).unwrap_err() else { panic!("wrong error") };
    assert!(!message.contains(['\u{1b}', '\u{202e}']), "{message}");
}

#[test]
fn the_longest_path_fits_a_head() {
    let long = vec![vec![1; 255]; 16].join(&b'/');
    let packet = Packet::Fetch {
        stream: 1,
        path: SyncPath::new(&long[..4095]).unwrap(),
        content: ContentId([0; 32]),
        size: 1,
        part: Part::Whole,
    };
    assert_eq!(round_trip(&packet), packet);
}

#[test]
fn a_large_message_is_split_below_the_caps_and_says_the_same() {
    let entry = |n: usize| (SyncPath::new(format!("folder/file {n}")).unwrap(), file_entry(n as u64));
    let entries: Vec<_> = (0..40_000).map(entry).collect();
    let buckets: Vec<u16> = (0..=u16::MAX).collect();
    for last in [false, true] {
        let parts = split(Message::Offer { buckets: buckets.clone(), entries: entries.clone(), more: last });
        assert!(parts.len() > 2);
        let mut joined = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            assert!(encode_as(&Packet::Message(part.clone()), Squeeze::Never).len() <= MESSAGE_BYTES + 1000);
            let Message::Offer { buckets: named, entries, more } = part else { panic!("another kind") };
            assert_eq!(named, &buckets);
            assert_eq!(*more, at + 1 < parts.len() || last);
            joined.extend(entries.iter().cloned());
        }
        assert_eq!(joined, entries);
    }
    let nothing = Message::Answer { entries: Vec::new(), more: false };
    assert_eq!(split(nothing.clone()), [nothing]);
}

#[test]
fn contents_are_split_between_files_and_each_arrives() {
    let contents: Vec<_> =
        (0..100).map(|id| (id, (id % 7 != 0).then(|| Bytes::from(vec![id as u8; 100_000])))).collect();
    let parts = split(Message::Contents { contents: contents.clone() });
    assert_eq!(parts.len(), 9);
    let mut joined = Vec::new();
    for part in parts {
        let Packet::Message(Message::Contents { contents }) = round_trip(&Packet::Message(part)) else { panic!() };
        joined.extend(contents);
    }
    assert_eq!(joined, contents);
}

#[test]
fn all_buckets_of_all_groups_fit_one_frame() {
    let groups = (0..=255).map(|group| (group, vec![[group; 16]; 256])).collect();
    let packet = Packet::Message(Message::Buckets { groups });
    assert_eq!(round_trip(&packet), packet);
}

#[test]
fn a_survey_of_too_many_paths_is_refused() {
    let survey = |paths: usize| {
        let path = SyncPath::new("f").unwrap();
        encode(&Packet::Message(Message::Survey { id: 1, paths: vec![path; paths] })).to_vec().into()
    };
    assert!(decode_first(&survey(SURVEY_PATHS)).is_ok());
    assert_eq!(decode_first(&survey(SURVEY_PATHS + 1)), Err(FrameError::Body("a count that it cannot hold")));
}

#[test]
fn history_that_passes_its_limits_is_refused() {
    let fine = Past {
        path: SyncPath::new("f").unwrap(),
        time_ns: 1,
        reason: RetainReason::Replaced,
        size: 1,
        mode: Mode(0o644),
        mtime: FileTime::default(),
        what: PastWhat::Unidentified,
    };
    let decoded = |past: Past| {
        decode_first(
            &encode(&Packet::Message(Message::Pasts { id: 1, pasts: vec![past], more: false })).to_vec().into(),
        )
    };
    assert!(decoded(fine.clone()).is_ok());
    for wrong in [
        Past { time_ns: 1 << 63, ..fine.clone() },
        Past { size: 1 << 63, ..fine.clone() },
        Past { mode: Mode(0o4755), ..fine.clone() },
        Past { mtime: FileTime { secs: 0, nanos: 1_000_000_000 }, ..fine.clone() },
        Past { what: PastWhat::Link(vec![]), ..fine.clone() },
        Past { what: PastWhat::Link(vec![b'a', 0]), ..fine.clone() },
        Past { what: PastWhat::Link(vec![b'a'; 4096]), ..fine.clone() },
    ] {
        assert!(matches!(decoded(wrong.clone()), Err(FrameError::Entry(_))), "{wrong:?}");
    }
    let named = vec![(fine.path.clone(), 1); SURVEY_PATHS + 1];
    let asked = encode(&Packet::Message(Message::History { id: 1, path: None, named })).to_vec();
    assert_eq!(decode_first(&asked.into()), Err(FrameError::Body("a count that it cannot hold")));
}

#[test]
fn a_state_without_a_condition_is_an_older_version_s_and_one_with_more_is_a_newer_one_s() {
    let state = |rest: &str| {
        let head = format!(r#"{{"kind":"state","root":"{}","pending":1{rest}}}"#, "0".repeat(32));
        decode(head.as_bytes(), Bytes::new())
    };
    let state_with = |condition| Ok(Packet::Message(Message::State { root: [0; 16], pending: 1, condition }));
    assert_eq!(state(""), state_with(None));
    let paused = Condition { paused: true, ..Condition::default() };
    assert_eq!(state(r#","condition":{"paused":true,"new":[1]},"other":{}"#), state_with(Some(paused)));
    for bad in [r#"{"problems":-1}"#, r#"{"problems":99999999999999999999}"#, r#"{"paused":"yes"}"#, "7"] {
        assert!(matches!(state(&format!(r#","condition":{bad}"#)), Err(FrameError::Head(_))), "{bad}");
    }
}
