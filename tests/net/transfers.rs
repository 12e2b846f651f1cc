//! Contents that come whole, packed, or as deltas: verified, in turn, and once.

use super::machine::{Machine, logged, message, noise, pair, state};
use dirsyncd::engine::{Action, Event, FetchError, FetchId, LinkId, ServedFile};
use dirsyncd::model::{ContentId, SyncPath};
use dirsyncd::wire::message::Message;

#[test]
fn a_large_content_arrives_verified() {
    let ([asker, server], links) = pair(["asker", "server"]);
    let bytes = noise(20 << 20);
    let file = server.put("big", &bytes);
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::Fetch { fetch: FetchId(9), from: links[0], path: path.clone(), content, size });
    let asked = server.wait(|event| match event {
        Event::FetchAsked { link, stream, path, content, size } => Some((link, stream, path, content, size)),
        _ => None,
    });
    assert_eq!(asked, (links[1], FetchId(9), path, content, size));
    server.run(Action::Serve { to: links[1], stream: FetchId(9), file: Some(file) });
    let (staged, wire_bytes) = asker.wait(|event| match event {
        Event::Fetched { fetch: FetchId(9), staged, wire_bytes } => Some((staged, wire_bytes)),
        Event::FetchFailed { why, .. } => panic!("{why:?}"),
        _ => None,
    });
    assert!(asker.memory.staged.lock().unwrap()[&staged] == bytes);
    assert!(wire_bytes > size && wire_bytes < size + size / 100);
    logged(&["uploaded 'big' to asker (20.0 MiB, "]);
}

#[test]
fn a_content_that_is_gone_wrong_or_changing_is_a_failed_fetch() {
    let ([asker, server], links) = pair(["asker2", "server2"]);
    let content = ContentId::of(b"other");
    let good = server.put("good", &noise(300_000));
    let mut stale = server.put("stale", &noise(300_000));
    stale.stat.ino += 1;
    let cases = [
        (None, FetchError::NotHere),
        (Some(ServedFile { path: SyncPath::new("absent").unwrap(), ..good.clone() }), FetchError::NotHere),
        (Some(good), FetchError::Corrupt),
        (Some(stale), FetchError::NotHere),
    ];
    for (fetch, (file, due)) in cases.into_iter().enumerate() {
        let fetch = FetchId(fetch as u32);
        let path = SyncPath::new("good").unwrap();
        asker.run(Action::Fetch { fetch, from: links[0], path, content, size: 300_000 });
        server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
        server.run(Action::Serve { to: links[1], stream: fetch, file });
        let failed = asker.wait(|event| match event {
            Event::FetchFailed { fetch, why } => Some((fetch, why)),
            Event::Fetched { .. } => panic!("fetched"),
            _ => None,
        });
        assert_eq!(failed, (fetch, due));
    }
}

/// Has `asker` make 'big' of what it has and what differs at `server`, which keeps no signatures;
/// how that ended.
fn fetch_delta(machines: &[Machine; 2], links: [LinkId; 2], fetch: u32, base: ServedFile, file: ServedFile) -> Event {
    let ([asker, server], fetch) = (machines, FetchId(fetch));
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::FetchDelta { fetch, from: links[0], path, content, size, base });
    let (base, base_size) = server.wait(|event| match event {
        Event::DeltaAsked { base, base_size, .. } => Some((base, base_size)),
        _ => None,
    });
    server.run(Action::ServeDelta { to: links[1], stream: fetch, file: Some(file), base, base_size });
    asker.wait(|event| matches!(event, Event::Fetched { .. } | Event::FetchFailed { .. }).then_some(event))
}

#[test]
fn a_delta_is_made_of_the_asker_s_signature_and_verified_by_the_asker() {
    let (machines, links) = pair(["asker8", "server8"]);
    let old = noise(5 << 20);
    let (mut new, mut other) = (old.clone(), old.clone());
    new.splice(1000..1000, *b"some words more");
    other.splice(2000..2010, *b"less");
    let [asker, server] = &machines;
    let (base, file) = (asker.put("big", &old), server.put("big", &new));
    let ended = fetch_delta(&machines, links, 1, base.clone(), file.clone());
    let Event::Fetched { staged, wire_bytes, .. } = ended else { panic!("{ended:?}") };
    let staged = asker.folder.path().join(".dirsync/staging").join(format!("{:016x}", staged.0));
    assert!(std::fs::read(staged).unwrap() == new);
    assert!(wire_bytes < 20_000, "{wire_bytes}");
    logged(&["uploaded 'big' to asker8 as a delta (5.0 MiB, "]);

    let is_no_delta = |event: &Event| matches!(event, Event::FetchFailed { why: FetchError::NoDelta, .. });
    let not_that = ServedFile { content: ContentId::of(&other), ..file.clone() };
    assert!(is_no_delta(&fetch_delta(&machines, links, 2, base.clone(), not_that)));
    logged(&["server8's delta for 'big' is of no use: what it makes is not the announced content"]);
    let unrelated = server.put("unrelated", &noise(6 << 20)[5 << 20..].repeat(5));
    assert!(is_no_delta(&fetch_delta(&machines, links, 3, base.clone(), unrelated)));
    let edited = asker.put("big", &other);
    let (stale, _) = (base, edited);
    assert!(is_no_delta(&fetch_delta(&machines, links, 4, stale, file)));
}

#[test]
fn small_contents_come_packed_and_those_that_changed_come_as_not_here() {
    let ([asker, server], links) = pair(["asker3", "server3"]);
    let mut files = Vec::new();
    for id in 0..300_u32 {
        files.push((id, Some(server.put(&format!("f{id}"), &noise(10_000 + id as usize)))));
    }
    files[5].1.as_mut().unwrap().stat.mtime.secs -= 1;
    files[6].1 = None;
    server.run(Action::SendContents { to: links[1], files });
    let mut here = 0;
    let mut answered = 0;
    let mut messages = 0;
    while answered < 300 {
        let Message::Contents { contents } = asker.wait(message) else { continue };
        messages += 1;
        for (id, bytes) in contents {
            answered += 1;
            assert_eq!(bytes.is_none(), id == 5 || id == 6, "{id}");
            here += usize::from(bytes.is_some_and(|bytes| bytes == noise(10_000 + id as usize)));
        }
    }
    assert_eq!((here, messages), (298, 3));
}

#[test]
fn a_small_message_overtakes_a_large_content() {
    let ([asker, server], links) = pair(["asker4", "server4"]);
    let file = server.put("big", &noise(12 << 20));
    asker.memory.hold(true);
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::Fetch { fetch: FetchId(1), from: links[0], path, content, size });
    server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    server.run(Action::Serve { to: links[1], stream: FetchId(1), file: Some(file) });
    // The disk takes nothing, the stream is out of credit, and yet messages pass.
    for pending in 0..100 {
        server.run(Action::Send { to: vec![links[1]], message: state(pending) });
        assert_eq!(asker.wait(message), state(pending));
    }
    asker.memory.hold(false);
    asker.wait(|event| matches!(event, Event::Fetched { .. }).then_some(()));
}

#[test]
fn a_fetch_ends_with_its_link_and_nothing_comes_after_that() {
    let ([asker, server], links) = pair(["asker5", "server5"]);
    let content = ContentId::of(b"x");
    let path = SyncPath::new("x").unwrap();
    asker.run(Action::Fetch { fetch: FetchId(1), from: links[0], path: path.clone(), content, size: 1 << 40 });
    server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    server.net.shutdown();
    let failed = asker.wait(|event| if let Event::FetchFailed { why, .. } = event { Some(why) } else { None });
    assert_eq!(failed, FetchError::LinkLost);
    let next = asker.wait(Some);
    assert!(matches!(next, Event::LinkDown { link } if link == links[0]), "{next:?}");
    logged(&["the link with server5", "ended: it said goodbye: it stops"]);
    asker.run(Action::Fetch { fetch: FetchId(2), from: links[0], path, content, size: 1 << 40 });
    let next = asker.wait(Some);
    assert!(matches!(next, Event::FetchFailed { fetch: FetchId(2), why: FetchError::LinkLost }), "{next:?}");
}

#[test]
fn a_cancelled_fetch_is_answered_once_and_its_late_pieces_are_no_fault() {
    let ([asker, server], links) = pair(["asker6", "server6"]);
    let file = server.put("big", &noise(12 << 20));
    asker.memory.hold(true);
    let (path, content, size) = (file.path.clone(), file.content, file.size);
    asker.run(Action::Fetch { fetch: FetchId(1), from: links[0], path: path.clone(), content, size });
    server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
    server.run(Action::Serve { to: links[1], stream: FetchId(1), file: Some(file.clone()) });
    asker.run(Action::CancelFetch { fetch: FetchId(1) });
    asker.wait(|event| matches!(event, Event::FetchFailed { .. }).then_some(()));
    asker.memory.hold(false);
    // The link goes on, and the next content arrives.
    asker.run(Action::Fetch { fetch: FetchId(2), from: links[0], path, content, size });
    server.wait(|event| matches!(event, Event::FetchAsked { stream: FetchId(2), .. }).then_some(()));
    server.run(Action::Serve { to: links[1], stream: FetchId(2), file: Some(file) });
    asker.wait(|event| match event {
        Event::Fetched { fetch: FetchId(2), .. } => Some(()),
        Event::Fetched { .. } | Event::FetchFailed { .. } | Event::LinkDown { .. } => panic!("{event:?}"),
        _ => None,
    });
}
