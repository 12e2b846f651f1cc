//! Members that break the protocol: what is taken of them, and who is named.

use super::machine::{Machine, OnDisk, SOON, logged, member, noise, state};
use bytes::Bytes;
use dirsyncd::engine::{Action, Event, FetchId, RangeId};
use dirsyncd::io::net::greeting::Greeted;
use dirsyncd::model::{ContentId, SyncPath};
use dirsyncd::wire::frame::{self, Packet};
use dirsyncd::wire::message::Message;
use dirsyncd::wire::packet::{Ending, PIECE_BYTES, Part};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Of librsync's MD4 signatures.
const SIGNATURE_MAGIC: u32 = 0x7273_0136;

/// A frame whose body inflates to 16 MiB, and announces 4 KiB.
fn bomb() -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&vec![0; 16 << 20]).unwrap();
    let (head, body) = (br#"{"kind":"piece","stream":1,"offset":0,"inflated":4096}"#, zlib.finish().unwrap());
    let lengths = [head.len(), body.len()].map(|length| (length as u32).to_be_bytes()).concat();
    [&lengths[..], head, &body].concat()
}

/// The packets that came, up to one that `is_last`.
async fn heard_until(greeted: &mut Greeted, is_last: impl Fn(&Packet) -> bool) -> Packet {
    loop {
        let mut lengths = [0; frame::LENGTHS_BYTES];
        greeted.stream.read_exact(&mut lengths).await.unwrap();
        let (head, body) = frame::decode_lengths(lengths, frame::MAX_HEAD_BYTES, frame::MAX_BODY_BYTES).unwrap();
        let mut bytes = vec![0; head + body];
        greeted.stream.read_exact(&mut bytes).await.unwrap();
        let packet = frame::decode(&bytes[..head], Bytes::copy_from_slice(&bytes[head..])).unwrap();
        if is_last(&packet) {
            return packet;
        }
    }
}

async fn say(greeted: &mut Greeted, packet: Packet) {
    greeted.stream.write_all(&frame::encode(&packet).to_vec()).await.unwrap();
    greeted.stream.flush().await.unwrap();
}

#[tokio::test]
async fn of_a_member_s_signature_exactly_what_is_due_is_taken() {
    let machine = Machine::start("server9", |_| {});
    let file = machine.put("big", &noise(1 << 20));
    let mut greeted = member(&machine, |me| me.name = "odd9".to_owned()).await.unwrap();
    let link = machine.linked();
    let (path, base, base_size) = (file.path.clone(), ContentId([1; 32]), 1 << 20);
    // 512 blocks of 2 KiB: magic, block size, hash length, entries.
    let signature = |header: [u32; 3], entries: usize| {
        let mut bytes = header.map(u32::to_be_bytes).concat();
        bytes.resize(12 + entries * 20, 0);
        bytes
    };
    let rows = [
        ("block size 0", signature([SIGNATURE_MAGIC, 0, 16], 512)),
        ("hash length 0", signature([SIGNATURE_MAGIC, 2048, 0], 512)),
        ("hash length over 16", signature([SIGNATURE_MAGIC, 2048, 17], 512)),
        ("too few entries, and then no more", signature([SIGNATURE_MAGIC, 2048, 16], 511)),
        ("an entry too many", signature([SIGNATURE_MAGIC, 2048, 16], 513)),
    ];
    for ((what, bytes), stream) in rows.into_iter().zip(1..) {
        let (path, content, size) = (path.clone(), file.content, file.size);
        say(&mut greeted, Packet::Delta { stream, path, content, size, base, base_size }).await;
        machine.wait(|event| matches!(event, Event::DeltaAsked { .. }).then_some(()));
        let file = Some(file.clone());
        machine.run(Action::ServeDelta { to: link, stream: FetchId(stream), file, base, base_size });
        heard_until(&mut greeted, |packet| matches!(packet, Packet::Sign { .. })).await;
        let length = bytes.len();
        say(&mut greeted, Packet::Signature { stream, bytes: bytes.into() }).await;
        if length > 12 + 512 * 20 {
            continue;
        }
        if length < 12 + 512 * 20 {
            say(&mut greeted, Packet::Cancel { stream }).await;
        }
        let end = heard_until(&mut greeted, |packet| matches!(packet, Packet::End { .. })).await;
        assert_eq!(end, Packet::End { stream, how: Ending::NoDelta }, "{what}");
    }
    machine.down(link);
    logged(&["the link with odd9", "a signature that is longer than its file's size says"]);
    logged(&["no delta of 'big' is made for odd9: a signature is not of the agreed kind"]);
}

#[tokio::test]
async fn of_40_mb_of_signature_no_more_is_taken_than_is_due() {
    let machine = Machine::start("server10", |_| {});
    let file = machine.put("big", &noise(1 << 20));
    let mut greeted = member(&machine, |me| me.name = "odd10".to_owned()).await.unwrap();
    let link = machine.linked();
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    let (stream, base, base_size) = (1, ContentId([1; 32]), 1 << 20);
    say(&mut greeted, Packet::Delta { stream, path, content, size, base, base_size }).await;
    machine.wait(|event| matches!(event, Event::DeltaAsked { .. }).then_some(()));
    machine.run(Action::ServeDelta { to: link, stream: FetchId(stream), file: Some(file), base, base_size });
    heard_until(&mut greeted, |packet| matches!(packet, Packet::Sign { .. })).await;
    let part = frame::encode(&Packet::Signature { stream, bytes: noise(PIECE_BYTES).into() }).to_vec();
    let mut took = 0;
    while took < 40_000_000 && greeted.stream.write_all(&part).await.is_ok() && greeted.stream.flush().await.is_ok() {
        took += part.len();
    }
    assert!(took < 40_000_000, "it took all of it");
    machine.down(link);
    logged(&["the link with odd10", "a signature that is longer than its file's size says"]);
}

#[tokio::test]
async fn a_member_that_breaks_the_protocol_loses_its_link_and_is_named() {
    let machine = Machine::start("strict", |_| {});
    let piece = Packet::Piece { stream: 5, offset: 0, bytes: Bytes::from_static(b"x") };
    let (path, content) = (SyncPath::new("f").unwrap(), ContentId([1; 32]));
    let delta = |stream| {
        let (path, size, base_size) = (path.clone(), 1 << 20, 1 << 62);
        frame::encode(&Packet::Delta { stream, path, content, size, base: content, base_size }).to_vec()
    };
    let seek = Packet::Message(Message::Seek { path: path.clone(), content, size: 1 << 63 });
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("seeker", frame::encode(&seek).to_vec(), "a size of 2^63 or more"),
        ("bomber", bomb(), "a frame's body does not inflate to the 4096 bytes announced"),
        (
            "oversize",
            [0u32, 0x0020_0001].map(u32::to_be_bytes).concat(),
            "a frame announces a head of 0 and a body of 2097153",
        ),
        ("junk", [&[0, 0, 0, 4, 0, 0, 0, 0][..], b"!\x1b[m"].concat(), "a frame's head is malformed"),
        ("pusher", frame::encode(&piece).to_vec(), "a piece that nobody asked for"),
        ("signer", frame::encode(&Packet::Sign { stream: 1 }).to_vec(), "a signature asked for on no stream"),
        ("repeater", [delta(1), delta(1)].concat(), "a stream's number used twice"),
        ("hoarder", (0..65).flat_map(delta).collect(), "over 64 contents asked for at once"),
        (
            "greeter",
            frame::encode(&Packet::Proof { mac: [0; 32], member: None, writer: None, current: None, with: None })
                .to_vec(),
            "a 'proof' after the greeting",
        ),
    ];
    for (name, bytes, line) in cases {
        let mut greeted = member(&machine, |me| me.name = name.to_owned()).await.unwrap();
        let link = machine.linked();
        greeted.stream.write_all(&bytes).await.unwrap();
        greeted.stream.flush().await.unwrap();
        machine.down(link);
        let said = logged(&["WARN", &format!("the link with {name}"), line]);
        assert!(!said.contains('\u{1b}'));
    }
}

/// A member that is asked for a part of a content of 8 MiB, answers with what `answers` makes of
/// it, and is hung up on.
fn lying_member(machine: &Machine, name: &str, part: Part, answers: impl FnOnce(u32) -> Vec<Packet>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut greeted = member(machine, |me| name.clone_into(&mut me.name)).await.unwrap();
        let link = machine.linked();
        let (path, content) = (SyncPath::new("big").unwrap(), ContentId([9; 32]));
        machine.run(Action::FetchPart { range: RangeId(5), from: link, path, content, size: 8 << 20, part });
        for packet in answers(5) {
            greeted.stream.write_all(&frame::encode(&packet).to_vec()).await.unwrap();
        }
        greeted.stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(SOON, greeted.stream.read_to_end(&mut rest)).await.expect("it is hung up on");
    });
}

/// Why it is hung up on, what it was asked for, and what it sends on a stream of that number.
type Case = (&'static str, Part, Box<dyn FnOnce(u32) -> Vec<Packet>>);

#[test]
fn a_peer_that_sends_what_no_range_holds_is_named_and_hung_up_on() {
    let zeros = |offset, count| move |stream| vec![Packet::Zeros { stream, offset, count }];
    let (mib, chunks) = (1 << 20, Part::Chunks { first: 1, count: 2 });
    // Of 8 chunks.
    let list = |hashes: usize| {
        move |stream| {
            let (bytes, how) = (vec![7; hashes * 32].into(), Ending::Whole);
            vec![Packet::Piece { stream, offset: 0, bytes }, Packet::End { stream, how }]
        }
    };
    let cases: [Case; 7] = [
        ("a piece at a wrong offset", chunks, Box::new(zeros(0, 1))),
        ("more bytes than the content has", chunks, Box::new(zeros(mib, 2 * mib + 1))),
        ("more bytes than the content has", chunks, Box::new(zeros(mib, (1 << 63) - 1))),
        ("before the content's last byte", chunks, Box::new(|stream| vec![Packet::End { stream, how: Ending::Whole }])),
        ("zeros that nobody asked for", chunks, Box::new(|_| vec![Packet::Zeros { stream: 6, offset: 0, count: 1 }])),
        ("before the content's last byte", Part::List, Box::new(list(7))),
        ("more bytes than the content has", Part::List, Box::new(list(9))),
    ];
    for (number, (why, part, answers)) in cases.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let staging = OnDisk::new(folder.path());
        staging.1.open(ContentId([9; 32]), 8 << 20).unwrap();
        let machine = Machine::start_with("careful", |_| {}, |_| Arc::clone(&staging) as _).unwrap();
        lying_member(&machine, &format!("liar{number}"), part, answers);
        logged(&[&format!("the link with liar{number}"), why]);
    }
}

#[test]
fn a_peer_that_asks_for_chunks_which_no_content_has_is_named_and_hung_up_on() {
    let machine = Machine::start("asked", |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut greeted = member(&machine, |_| {}).await.unwrap();
        let part = Part::Chunks { first: u32::MAX, count: 2 };
        let (path, content) = (SyncPath::new("big").unwrap(), ContentId([9; 32]));
        let packet = Packet::Fetch { stream: 1, path, content, size: 8 << 20, part };
        greeted.stream.write_all(&frame::encode(&packet).to_vec()).await.unwrap();
        greeted.stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(SOON, greeted.stream.read_to_end(&mut rest)).await.expect("it is hung up on");
    });
    logged(&["odd", "it asks for chunks that the content has not"]);
}

#[tokio::test]
async fn a_member_that_pings_and_reads_nothing_is_hung_up_on() {
    let machine = Machine::start("pinged", |_| {});
    let mut greeted = member(&machine, |me| me.name = "pinger".to_owned()).await.unwrap();
    let link = machine.linked();
    let pings = frame::encode(&Packet::Ping { at: 1 }).to_vec().repeat(4096);
    // So many answers that what the sockets hold, and what may wait, is far less.
    for _ in 0..256 {
        if greeted.stream.write_all(&pings).await.is_err() || greeted.stream.flush().await.is_err() {
            break;
        }
    }
    machine.down(link);
    logged(&["WARN", "the link with pinger", "it does not keep up: over 64 MiB of messages wait for it"]);
}

#[tokio::test]
async fn a_member_that_asks_for_more_small_contents_than_may_wait_is_hung_up_on() {
    let machine = Machine::start("wanted", |_| {});
    let _greeted = member(&machine, |me| me.name = "wanter".to_owned()).await.unwrap();
    let link = machine.linked();
    machine.run(Action::SendContents { to: link, files: vec![(1, None); (2 << 16) + 1] });
    machine.down(link);
    logged(&["WARN", "the link with wanter", "over 131072 small contents asked for at once"]);
}

#[tokio::test]
async fn a_pong_counts_once_for_each_ping() {
    let machine = Machine::start("timed", |_| {});
    let mut greeted = member(&machine, |me| me.name = "ponger".to_owned()).await.unwrap();
    machine.linked();
    let Packet::Ping { at } = heard_until(&mut greeted, |packet| matches!(packet, Packet::Ping { .. })).await else {
        panic!("no ping");
    };
    let hour = 3600 * 1_000_000_000;
    let pongs = [(1 << 60, 1), (1 << 60, hour), (at, hour), (at, 2 * hour), (1 << 60, 3 * hour), (at, 4 * hour)];
    for (at, wall) in pongs {
        say(&mut greeted, Packet::Pong { at, wall }).await;
    }
    say(&mut greeted, Packet::Message(state(5))).await;
    let mut clocks = 0;
    machine.wait(|event| {
        clocks += usize::from(matches!(event, Event::Clock { .. }));
        matches!(event, Event::Message { .. }).then_some(())
    });
    assert_eq!(clocks, 1);
}

/// What is not here is answered by no thread of its own, and stays open until there is room for the
/// answer.
#[tokio::test]
async fn a_member_that_reads_nothing_has_no_more_than_its_streams_open() {
    let machine = Machine::start("asked-much", |_| {});
    let file = machine.put("big", &noise(4 << 20));
    let mut greeted = member(&machine, |me| me.name = "deaf".to_owned()).await.unwrap();
    let link = machine.linked();
    let ask = |stream| {
        let (path, content, size) = (file.path.clone(), file.content, file.size);
        Packet::Fetch { stream, path, content, size, part: Part::Whole }
    };
    for stream in 0..16 {
        say(&mut greeted, ask(stream)).await;
        machine.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
        machine.run(Action::Serve { to: link, stream: FetchId(stream), file: Some(file.clone()) });
    }
    // Until nothing more goes out: what the sockets hold is less than 16 contents.
    let sent = || machine.net.links()[0].sent_bytes;
    let mut before = 0;
    while std::mem::replace(&mut before, sent()) != before {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for stream in 16..200 {
        let mut asked = false;
        if greeted.stream.write_all(&frame::encode(&ask(stream)).to_vec()).await.is_ok() {
            let _ = greeted.stream.flush().await;
            machine.wait(|event| {
                asked = matches!(event, Event::FetchAsked { .. });
                (asked || matches!(event, Event::LinkDown { .. })).then_some(())
            });
        }
        if !asked {
            logged(&["WARN", "the link with deaf", "over 64 contents asked for at once"]);
            return;
        }
        machine.run(Action::Serve { to: link, stream: FetchId(stream), file: None });
    }
    panic!("it takes more and more");
}

#[tokio::test]
async fn a_33rd_link_with_one_address_is_refused_and_the_others_stay() {
    let machine = Machine::start("crowded", |_| {});
    let mut crowd = Vec::new();
    for n in 0..32 {
        crowd.push(member(&machine, |me| me.name = format!("key{n}")).await.unwrap());
        machine.linked();
    }
    let mut last = member(&machine, |me| me.name = "key32".to_owned()).await.unwrap();
    let bye = heard_until(&mut last, |packet| matches!(packet, Packet::Bye { .. })).await;
    assert!(matches!(bye, Packet::Bye { reason } if reason.contains("too many links")));
    assert_eq!(machine.net.links().len(), 32);
}

/// 512 streams that nobody reads used to take every thread that serves and takes contents.
#[tokio::test]
async fn eight_keys_that_read_nothing_of_64_contents_each_keep_no_other_member_waiting() {
    let machine = Machine::start("asked-by-eight", |_| {});
    let file = machine.put("big", &noise(4 << 20));
    let ask = |stream| {
        let (path, content, size) = (file.path.clone(), file.content, file.size);
        Packet::Fetch { stream, path, content, size, part: Part::Whole }
    };
    let mut deaf = Vec::new();
    for n in 0..8 {
        let mut greeted = member(&machine, |me| me.name = format!("deaf{n}")).await.unwrap();
        let link = machine.linked();
        for stream in 0..64 {
            say(&mut greeted, ask(stream)).await;
            machine.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
            machine.run(Action::Serve { to: link, stream: FetchId(stream), file: Some(file.clone()) });
        }
        deaf.push(greeted);
    }
    let mut honest = member(&machine, |me| me.name = "honest".to_owned()).await.unwrap();
    let link = machine.linked();
    say(&mut honest, ask(1)).await;
    machine.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    machine.run(Action::Serve { to: link, stream: FetchId(1), file: Some(file.clone()) });
    let end = heard_until(&mut honest, |packet| matches!(packet, Packet::End { .. }));
    let end = tokio::time::timeout(SOON, end).await.expect("it is served");
    assert_eq!(end, Packet::End { stream: 1, how: Ending::Whole });
}
