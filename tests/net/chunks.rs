//! Contents that come in chunks, from one who has all of them or a part.

use super::machine::{Machine, OnDisk, noise, served_file};
use dirsyncd::engine::{Action, Event, FetchError, FetchId, LinkId, RangeId, ServedFile};
use dirsyncd::io::net::mesh::NetConfig;
use dirsyncd::model::ContentId;
use dirsyncd::wire::packet::Part;
use std::sync::Arc;

/// One that fetches in chunks from another.
struct Chunked {
    asker: Machine,
    server: Machine,
    links: [LinkId; 2],
    staging: Arc<OnDisk>,
    _folder: tempfile::TempDir,
}

impl Chunked {
    fn new(names: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let staging = OnDisk::new(folder.path());
        let server = Machine::start(names[0], |_| {});
        let dialling = |config: &mut NetConfig| config.peers = vec![server.address()];
        let asker = Machine::start_with(names[1], dialling, |_| Arc::clone(&staging) as _).unwrap();
        let links = [asker.linked(), server.linked()];
        Self { asker, server, links, staging, _folder: folder }
    }

    /// Asks for a part, and has it served from `file`.
    fn fetch(&self, id: u32, of: &ServedFile, part: Part, file: Option<ServedFile>) -> Vec<Event> {
        let (path, content, size) = (of.path.clone(), of.content, of.size);
        self.asker.run(Action::FetchPart { range: RangeId(id), from: self.links[0], path, content, size, part });
        self.server.wait(|event| matches!(event, Event::FetchAsked { .. }).then_some(()));
        self.server.run(Action::Serve { to: self.links[1], stream: FetchId(id), file });
        let mut events = Vec::new();
        self.asker.wait(|event| {
            let ended = matches!(event, Event::RangeEnded { .. });
            events.push(event);
            ended.then_some(())
        });
        events
    }
}

fn how(events: &[Event]) -> &Result<(), FetchError> {
    match events.last() {
        Some(Event::RangeEnded { how, .. }) => how,
        other => panic!("{other:?}"),
    }
}

#[test]
fn chunks_and_their_list_arrive_verified_and_a_wrong_one_never_counts() {
    let lab = Chunked::new(["chunk-server", "chunk-asker"]);
    let bytes = noise((6 << 20) + 5);
    let good = lab.server.put("good", &bytes);
    let partial = lab.staging.1.open(good.content, good.size).unwrap();
    let mut wrong = bytes.clone();
    wrong[(5 << 20) + 1] ^= 1;
    let wrong = ServedFile { content: good.content, ..lab.server.put("wrong", &wrong) };

    let events = lab.fetch(1, &good, Part::List, Some(wrong.clone()));
    assert_eq!(how(&events), &Err(FetchError::NotHere), "a server that is honest knows that its file is another");
    let events = lab.fetch(2, &good, Part::List, Some(good.clone()));
    assert!(matches!(&events[0], Event::ListCame { range: RangeId(2), bad } if bad.is_empty()), "{events:?}");
    let events = lab.fetch(3, &good, Part::Chunks { first: 4, count: 3 }, Some(wrong));
    assert!(matches!(events[0], Event::ChunkCame { range: RangeId(3), chunk: 4, .. }), "{events:?}");
    assert_eq!((events.len(), how(&events)), (2, &Err(FetchError::Corrupt)));
    assert_eq!(partial.here().0, [(4, 1)]);
    for (id, first, count) in [(4, 0, 4), (5, 5, 2)] {
        let events = lab.fetch(id, &good, Part::Chunks { first, count }, Some(good.clone()));
        assert_eq!((events.len(), how(&events)), (count as usize + 1, &Ok(())));
    }
    assert!(lab.staging.1.finish(&good.content).is_ok());
}

#[test]
fn a_content_on_its_way_is_served_as_far_as_it_is_verified() {
    let lab = Chunked::new(["part-server", "part-asker"]);
    let bytes = noise(5 << 20);
    let good = lab.server.put("good", &bytes);
    let partial = lab.staging.1.open(good.content, good.size).unwrap();
    let whole = Part::Chunks { first: 0, count: 2 };
    lab.fetch(1, &good, whole, Some(good.clone()));
    assert!(!partial.may_serve(0, 2), "without a list");
    lab.fetch(2, &good, Part::List, Some(good.clone()));
    assert!(partial.may_serve(0, 2) && !partial.may_serve(1, 2));
    // Now the one that asked is asked.
    let (path, content, size) = (good.path.clone(), good.content, good.size);
    let ask = |range, part| Action::FetchPart {
        range: RangeId(range),
        from: lab.links[1],
        path: path.clone(),
        content,
        size,
        part,
    };
    lab.server.run(ask(7, whole));
    let ended = lab.server.wait(|event| if let Event::RangeEnded { how, .. } = event { Some(how) } else { None });
    assert_eq!(ended, Err(FetchError::NotHere), "it has no place for it");
}

#[test]
fn what_is_asked_beyond_64_things_waits_and_arrives_on_the_same_link() {
    let lab = Chunked::new(["full-server", "full-asker"]);
    let folder = lab.server.folder.path();
    std::fs::File::create(folder.join("big")).unwrap().set_len(150 << 20).unwrap();
    let big = served_file(folder, "big", ContentId([7; 32]));
    let partial = lab.staging.1.open(big.content, big.size).unwrap();
    for chunk in 0..150 {
        let (path, content, size) = (big.path.clone(), big.content, big.size);
        let part = Part::Chunks { first: chunk, count: 1 };
        lab.asker.run(Action::FetchPart { range: RangeId(chunk), from: lab.links[0], path, content, size, part });
    }
    // One that waits is given up: it is never asked for.
    lab.asker.run(Action::CancelPart { range: RangeId(149) });
    let asked = || {
        lab.server.wait(|event| match event {
            Event::FetchAsked { stream, .. } => Some(stream),
            Event::LinkDown { .. } => panic!("it was hung up on"),
            _ => None,
        })
    };
    let serve = |stream| lab.server.run(Action::Serve { to: lab.links[1], stream, file: Some(big.clone()) });
    let first: Vec<FetchId> = std::iter::repeat_with(asked).take(64).collect();
    first.into_iter().for_each(serve);
    std::iter::repeat_with(asked).take(149 - 64).for_each(serve);
    let mut ended = 0;
    lab.asker.wait(|event| {
        match event {
            Event::RangeEnded { how, .. } => {
                assert_eq!(how, Ok(()));
                ended += 1;
            }
            Event::LinkDown { .. } => panic!("the link is gone"),
            _ => {}
        }
        (ended == 149).then_some(())
    });
    assert_eq!(partial.here().0, [(0, 149)]);
}
