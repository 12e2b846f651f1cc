//! A peer whose disk hangs while its link lives, and another one that answers.

use super::*;
use crate::engine::limits::SECOND;
use bytes::Bytes;

const HUNG: LinkId = LINK;
const OTHER: LinkId = LinkId(2);
const LARGE: usize = 1 << 20;

fn pair() -> Engine<MapIndex> {
    let mut engine = engine(&[], Trust::Known);
    engine.handle(at(0), Event::IgnoreRead(None));
    let (device, features) = (DeviceId([3; 32]), Features::ours());
    engine.handle(
        at(0),
        Event::LinkUp {
            link: OTHER,
            device,
            name: "c".into(),
            dialler: false,
            features,
            capability: crate::model::Capability::Write,
        },
    );
    engine
}

fn content(name: &str, size: usize) -> Bytes {
    Bytes::from(name.bytes().cycle().take(size).collect::<Vec<_>>())
}

/// The peer tells of files of this size, each of a content of its own.
fn receive(engine: &mut Engine<MapIndex>, link: LinkId, mono: u64, names: &[String], size: usize) -> Vec<Action> {
    let change = |name: &String| {
        let kind = Kind::File { size: size as u64, content: ContentId::of(&content(name, size)) };
        Change { path: path(name), entry: Entry { kind, ..entry(name, WALL, 0o644) }, body: None }
    };
    let message = Message::Changes { changes: names.iter().map(change).collect(), relayed_to: Vec::new() };
    let mut actions = engine.handle(at(mono), Event::Message { link, message, wire_bytes: 1 });
    actions.extend(engine.handle(at(mono), Event::Tick));
    actions
}

fn names(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n:04}")).collect()
}

/// What is asked of a peer by `Get`: the id and the path.
fn asked(actions: &[Action], of: LinkId) -> Vec<(u32, String)> {
    let gets = actions.iter().filter_map(|action| match action {
        Action::Send { to, message: Message::Get { wants } } if *to == [of] => Some(wants),
        _ => None,
    });
    gets.flatten().map(|want| (want.id, want.path.to_text())).collect()
}

fn fetches(actions: &[Action], of: LinkId) -> Vec<(FetchId, String)> {
    let fetch = |action: &Action| match action {
        Action::Fetch { fetch, from, path, .. } if *from == of => Some((*fetch, path.to_text())),
        _ => None,
    };
    actions.iter().filter_map(fetch).collect()
}

/// The peer answers: with contents of this size, or (0) that it has none of them.
fn answers(
    engine: &mut Engine<MapIndex>,
    link: LinkId,
    mono: u64,
    asked: &[(u32, String)],
    size: usize,
) -> Vec<Action> {
    let body = |name: &String| (size > 0).then(|| content(name, size));
    let contents = asked.iter().map(|(id, name)| (*id, body(name))).collect();
    let mut actions =
        engine.handle(at(mono), Event::Message { link, message: Message::Contents { contents }, wire_bytes: 1 });
    actions.extend(engine.handle(at(mono), Event::Tick));
    actions
}

fn installed(engine: &mut Engine<MapIndex>, mono: u64, actions: &[Action]) -> Vec<String> {
    let jobs = actions.iter().filter_map(|action| match action {
        Action::Install(job) => Some(job),
        _ => None,
    });
    let done = jobs.map(|job| {
        let outcome = Outcome::Done { stat: Some(stat(&job.entry, 1)), kept: None };
        engine.handle(at(mono), Event::Installed { job: job.id, outcome });
        job.path.to_text()
    });
    done.collect()
}

fn tick(engine: &mut Engine<MapIndex>, mono: u64) -> Vec<Action> {
    engine.handle(at(mono), Event::Tick)
}

fn window(engine: &Engine<MapIndex>) -> (usize, u64, usize) {
    engine.transfer.window()
}

fn says_silent(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Report(Report::Silent { peer, .. }) if peer == "b"))
}

#[test]
fn what_a_hanging_disk_was_asked_for_keeps_no_window_from_another_peer_and_is_taken_late() {
    let mut engine = pair();
    let of_hung = names("hung", 8192);
    let asked_of_hung = asked(&receive(&mut engine, HUNG, 0, &of_hung, 10), HUNG);
    assert_eq!(asked_of_hung.len(), 8192, "the window is full");
    let actions = receive(&mut engine, OTHER, SECOND, &names("new", 1), 10);
    assert_eq!(asked(&actions, OTHER), [], "and the other waits");
    assert!(engine.wake_at().is_some_and(|due| due <= 10 * SECOND));
    assert!(!says_silent(&tick(&mut engine, 10 * SECOND - 1)));

    let actions = tick(&mut engine, 10 * SECOND);
    assert!(says_silent(&actions));
    let of_other = asked(&actions, OTHER);
    assert!(of_other.iter().any(|(_, name)| name == "new0000"), "{} of {of_other:?}", of_other.len());
    assert_eq!(asked(&actions, HUNG), []);
    let (new, rest): (Vec<_>, Vec<_>) = of_other.into_iter().partition(|(_, name)| name.starts_with("new"));
    let actions = answers(&mut engine, OTHER, 11 * SECOND, &new, 10);
    assert_eq!(installed(&mut engine, 11 * SECOND, &actions), ["new0000"]);

    // The other has none of the rest: that waits for who has it, and is asked of nobody for ever.
    let mut actions = answers(&mut engine, OTHER, 12 * SECOND, &rest, 0);
    while let more = asked(&actions, OTHER)
        && !more.is_empty()
    {
        actions = answers(&mut engine, OTHER, 12 * SECOND, &more, 0);
    }
    assert_eq!(window(&engine), (0, 0, 0));
    assert_eq!(asked(&tick(&mut engine, 13 * SECOND), HUNG), []);

    // The disk comes back: the rest counts again until it is here, and nothing is asked for twice.
    let (first, others) = asked_of_hung.split_first().unwrap();
    let actions = answers(&mut engine, HUNG, 40 * SECOND, std::slice::from_ref(first), 10);
    assert_eq!(asked(&actions, HUNG), []);
    assert_eq!((installed(&mut engine, 40 * SECOND, &actions).len(), window(&engine).2), (1, 8191));
    let actions = answers(&mut engine, HUNG, 41 * SECOND, others, 10);
    assert_eq!(installed(&mut engine, 41 * SECOND, &actions).len(), 8191);
    assert_eq!(window(&engine), (0, 0, 0));
}

#[test]
fn what_was_asked_of_another_meanwhile_is_taken_from_who_sends_it_first() {
    let mut engine = pair();
    let both = names("f", 2);
    let of_hung = asked(&receive(&mut engine, HUNG, 0, &both, 10), HUNG);
    let of_other = asked(&tick(&mut engine, 10 * SECOND), OTHER);
    assert_eq!((of_hung.len(), of_other.len()), (2, 2));
    // One by the one, one by the other; then each brings what is there already.
    let mut actions = answers(&mut engine, HUNG, 12 * SECOND, &of_hung[..1], 10);
    actions.extend(answers(&mut engine, OTHER, 13 * SECOND, &of_other[1..], 10));
    assert_eq!(installed(&mut engine, 13 * SECOND, &actions), both);
    let mut actions = answers(&mut engine, HUNG, 14 * SECOND, &of_hung[1..], 10);
    actions.extend(answers(&mut engine, OTHER, 14 * SECOND, &of_other[..1], 10));
    assert_eq!(installed(&mut engine, 14 * SECOND, &actions), [""; 0]);
    assert_eq!(window(&engine), (0, 0, 0));
    assert_eq!(*engine.transfer.body_bytes(), 0);
}

#[test]
fn a_slow_disk_is_waited_for_twice_as_long_as_it_took() {
    let mut engine = pair();
    let of_hung = asked(&receive(&mut engine, HUNG, 0, &names("f", 2), 10), HUNG);
    assert!(says_silent(&tick(&mut engine, 10 * SECOND)));
    let of_other = asked(&tick(&mut engine, 10 * SECOND), OTHER);
    answers(&mut engine, OTHER, 11 * SECOND, &of_other, 0);
    answers(&mut engine, HUNG, 30 * SECOND, &of_hung[..1], 10);
    assert!(!says_silent(&tick(&mut engine, 89 * SECOND)));
    assert!(says_silent(&tick(&mut engine, 90 * SECOND)));
}

#[test]
fn when_the_link_of_a_silent_peer_ends_what_waits_for_it_is_asked_of_others() {
    let mut engine = pair();
    let of_hung = asked(&receive(&mut engine, HUNG, 0, &names("f", 3), 10), HUNG);
    assert_eq!(of_hung.len(), 3);
    let of_other = asked(&tick(&mut engine, 10 * SECOND), OTHER);
    answers(&mut engine, OTHER, 11 * SECOND, &of_other, 0);
    assert_eq!(asked(&tick(&mut engine, 12 * SECOND), OTHER), [], "parked for the silent one");
    engine.handle(at(13 * SECOND), Event::LinkDown { link: HUNG });
    let mut mono = 13 * SECOND;
    let mut again = Vec::new();
    while again.is_empty() && mono < 60 * SECOND {
        again = asked(&tick(&mut engine, mono), OTHER);
        mono += SECOND;
    }
    assert!(!again.is_empty(), "nobody is asked any more");
    let actions = answers(&mut engine, OTHER, mono, &again, 10);
    assert_eq!(installed(&mut engine, mono, &actions).len(), again.len());
    assert_eq!(window(&engine), (0, 0, 0));
}

#[test]
fn large_contents_that_do_not_get_on_leave_their_window_and_no_more_is_asked_of_that_peer() {
    let mut engine = pair();
    let of_hung = fetches(&receive(&mut engine, HUNG, 0, &names("hung", 6), LARGE), HUNG);
    assert_eq!(of_hung.len(), 4);
    let actions = receive(&mut engine, OTHER, SECOND, &names("new", 2), LARGE);
    assert_eq!(fetches(&actions, OTHER), []);
    assert_eq!(fetches(&tick(&mut engine, 10 * SECOND - 1), OTHER), []);
    // What is left of the silent one's is asked of the other, which has none of it.
    let mut actions = tick(&mut engine, 10 * SECOND);
    let mut new = Vec::new();
    for mono in 11..20 {
        assert_eq!(fetches(&actions, HUNG), []);
        let asked = fetches(&actions, OTHER);
        new.extend(asked.iter().filter(|(_, name)| name.starts_with("new")).map(|(_, name)| name.clone()));
        for (fetch, name) in asked {
            if name.starts_with("hung") {
                engine.handle(at(mono * SECOND), Event::FetchFailed { fetch, why: FetchError::NotHere });
            }
        }
        actions = tick(&mut engine, mono * SECOND);
    }
    assert_eq!(new, names("new", 2));
    // When one comes after all, the next is asked of it.
    let (fetch, _) = of_hung[0].clone();
    engine.handle(at(30 * SECOND), Event::Fetched { fetch, staged: StageId(1), wire_bytes: 1 });
    assert_eq!(fetches(&tick(&mut engine, 30 * SECOND), HUNG).len(), 1);
}
