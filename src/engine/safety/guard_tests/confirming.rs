//! Confirmations: each names what was held, and lets nothing else go.

use super::*;
use crate::engine::api::digest::entry_hash;
use crate::engine::limits::SECOND;
use crate::wire::confirmation::{Confirmation, Seal};
use crate::wire::message::Digest;

const THIRD: LinkId = LinkId(3);

/// What it told peers that was meant.
fn announced(machine: &Machine) -> BTreeSet<Digest> {
    let lists = machine.said.iter().filter_map(|action| match action {
        Action::Send { message: Message::Confirm(confirmation), .. } => Some(&confirmation.digests),
        _ => None,
    });
    lists.flatten().copied().collect()
}

fn deletions(machine: &Machine, files: std::ops::Range<u64>) -> Vec<Digest> {
    let digests: BTreeSet<Digest> = files
        .map(|n| {
            let (path, entry) = machine.by_peer(n, n + 1, None);
            entry_hash(&path, &entry)
        })
        .collect();
    digests.into_iter().collect()
}

fn confirmed(digests: Vec<Digest>) -> Message {
    let seal = Seal { signature: vec![1], ..Seal::default() };
    Message::Confirm(Confirmation { seal, digests })
}

fn counts(machine: &mut Machine) -> (u64, u64) {
    (machine.installs(), machine.engine.status().held_deletions)
}

fn link(machine: &mut Machine, link: LinkId, features: Features) {
    let device = DeviceId([link.0 as u8; 32]);
    machine.handle(Event::LinkUp {
        link,
        device,
        name: "another".into(),
        dialler: false,
        features,
        capability: Capability::Write,
    });
    machine.handle(Event::Message { link, message: Message::Known { counter: 0 }, wire_bytes: 1 });
}

/// A machine that holds 150 deletions by its peer, which would all be named.
fn holding() -> (Machine, Vec<Digest>) {
    let mut machine = Machine::with_files(200).linked();
    let named = deletions(&machine, 0..150);
    machine.peer_changes(0..150, None);
    assert_eq!(counts(&mut machine), (0, 150));
    machine.said.clear();
    (machine, named)
}

#[test]
fn a_confirmation_lets_deletions_go_and_names_each_to_the_peers_before_it_is_told() {
    let mut machine = Machine::with_files(200).linked();
    machine.remove_live(0..150);
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (200, 150));
    machine.said.clear();
    machine.handle(Event::Confirm);
    machine.scan(&(150..200).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
    assert_eq!((machine.live(), machine.engine.status().held_deletions), (50, 0));
    let gone: BTreeSet<Digest> = (0..150)
        .map(|n| {
            let path = file(n, 0).0;
            entry_hash(&path, &machine.engine.index().get(&path).unwrap().head)
        })
        .collect();
    assert_eq!(announced(&machine), gone);
    let sent = |is_it: fn(&Message) -> bool| {
        machine.said.iter().position(|action| matches!(action, Action::Send { message, .. } if is_it(message)))
    };
    let confirmed = sent(|message| matches!(message, Message::Confirm(_)));
    assert!(confirmed.is_some() && confirmed < sent(|message| matches!(message, Message::Changes { .. })));
}

#[test]
fn a_confirmation_here_or_elsewhere_releases_what_peers_deleted() {
    for elsewhere in [false, true] {
        let (mut machine, named) = holding();
        link(&mut machine, THIRD, Features::ours());
        if elsewhere {
            machine.receive(confirmed(named.clone()));
            assert!(machine.has_said(|report| matches!(report, Report::ConfirmedBy { paths: 150, .. })));
        } else {
            machine.handle(Event::Confirm);
        }
        machine.wait(SECOND);
        assert_eq!(counts(&mut machine), (150, 0));
        assert_eq!(announced(&machine), named.into_iter().collect(), "and the others are told");
    }
}

#[test]
fn what_was_confirmed_before_it_is_heard_is_not_held() {
    let mut machine = Machine::with_files(200).linked();
    let named = deletions(&machine, 0..120);
    machine.receive(confirmed(named));
    machine.peer_changes(0..120, None);
    assert_eq!(counts(&mut machine), (120, 0));
    assert!(!machine.holds());
}

#[test]
fn a_confirmation_lets_nothing_go_but_what_it_names() {
    let (mut machine, named) = holding();
    let (path_of, entry) = machine.by_peer(0, 1, None);
    let (_, later) = machine.by_peer(0, 2, None);
    let other = [entry_hash(&path_of, &later), entry_hash(&file(1, 0).0, &entry)];
    let mut other = other.to_vec();
    other.sort_unstable();
    machine.receive(confirmed(other));
    machine.wait(SECOND);
    assert_eq!(counts(&mut machine), (0, 150), "another version, or another path");
    machine.receive(confirmed(named[..10].to_vec()));
    machine.wait(SECOND);
    assert_eq!(counts(&mut machine), (10, 140));
    // What the same device deletes later is not meant by that.
    let mut later = Machine::with_files(200).linked();
    let early = deletions(&later, 0..5);
    later.receive(confirmed(early));
    later.peer_changes(0..150, None);
    assert_eq!(counts(&mut later), (5, 145));
}

#[test]
fn a_confirmation_that_comes_again_lets_nothing_new_go() {
    let (mut machine, named) = holding();
    machine.receive(confirmed(named[..50].to_vec()));
    machine.wait(SECOND);
    link(&mut machine, THIRD, Features::ours());
    machine.said.clear();
    for _ in 0..3 {
        machine.receive(confirmed(named[..50].to_vec()));
        machine.wait(SECOND);
    }
    assert_eq!(counts(&mut machine), (0, 100), "what it named went before");
    assert!(announced(&machine).is_empty(), "nor is it passed on again");
}

#[test]
fn what_was_let_through_before_the_rest_was_held_is_named_too() {
    let mut machine = Machine::with_files(200).linked();
    machine.peer_changes(0..90, None);
    // As if they were installed.
    let job = |action: &Action| if let Action::Install(job) = action { Some(job.id) } else { None };
    let jobs: Vec<_> = machine.said.iter().filter_map(job).collect();
    for job in jobs {
        machine.handle(Event::Installed { job, outcome: Outcome::Done { stat: None, kept: None } });
    }
    let named = deletions(&Machine::with_files(200), 0..150);
    machine.peer_changes(90..150, None);
    assert_eq!(machine.engine.status().held_deletions, 60);
    machine.said.clear();
    machine.handle(Event::Confirm);
    assert_eq!(announced(&machine).len(), named.len(), "a machine that heard all at once holds all");
}

#[test]
fn a_machine_that_is_linked_later_or_holds_something_is_told_what_was_confirmed_and_an_older_one_is_not() {
    let (mut machine, named) = holding();
    machine.handle(Event::Confirm);
    let all: BTreeSet<Digest> = named.into_iter().collect();
    let index = machine.engine.into_index();
    let mut again = Machine::new(index);
    again.said.clear();
    link(&mut again, LinkId(4), Features::default());
    assert!(announced(&again).is_empty());
    link(&mut again, THIRD, Features::ours());
    assert_eq!(announced(&again), all, "over a restart, too");
    again.said.clear();
    let holds = Message::State {
        root: [1; 16],
        pending: 0,
        condition: Some(crate::wire::condition::Condition { held_deletions: 1, ..Default::default() }),
    };
    again.handle(Event::Message { link: THIRD, message: holds.clone(), wire_bytes: 1 });
    assert!(announced(&again).is_empty(), "it was told just now");
    again.wait(400 * SECOND);
    again.said.clear();
    again.handle(Event::Message { link: THIRD, message: holds, wire_bytes: 1 });
    assert_eq!(announced(&again), all);
}

#[test]
fn what_a_confirmation_let_go_is_so_still_after_a_restart() {
    let (mut machine, named) = holding();
    machine.receive(confirmed(named));
    let mut again = Machine::new(machine.engine.into_index());
    again.scan(&(0..200).map(|n| file(n, 1_000_000)).collect::<Vec<_>>());
    assert_eq!(counts(&mut again), (150, 0));
}

#[test]
fn history_is_told_to_guard_what_a_confirmation_removes_unless_it_came_within_the_hour() {
    let mut machine = Machine::with_files(200).linked();
    machine.wait(2 * 3600 * SECOND);
    // Two files that are not as old as the index: one of two hours, one of a minute.
    let change = |machine: &mut Machine, n: u64| {
        machine.handle(Event::Hint { path: file(n, 0).0, hint: Hint::Closed });
        machine.wait(SECOND);
        machine.inspect(&[file(n, 1_100_000 + n as i64)]);
    };
    change(&mut machine, 0);
    machine.wait(2 * 3600 * SECOND);
    change(&mut machine, 1);
    let since = |machine: &Machine, n: u64| machine.engine.index().get(&file(n, 0).0).unwrap().since;
    let (old, young) = (since(&machine, 0), since(&machine, 1));
    assert!(old > 0 && young > old);
    machine.said.clear();
    machine.peer_changes(0..150, None);
    machine.handle(Event::Confirm);
    machine.wait(SECOND);
    let sent = |n: u64| {
        machine.said.iter().find_map(|action| match action {
            Action::Install(job) if job.path == file(n, 0).0 => Some(job.since_ns),
            _ => None,
        })
    };
    assert_eq!([0, 1, 2].map(sent), [Some(0), Some(young), Some(0)]);
    // Nobody confirmed a single deletion.
    let mut one = Machine::with_files(200).linked();
    change(&mut one, 0);
    one.wait(2 * 3600 * SECOND);
    one.said.clear();
    one.peer_changes(0..1, None);
    let job = one.said.iter().find_map(|action| if let Action::Install(job) = action { Some(job) } else { None });
    assert_eq!(job.map(|job| job.since_ns), Some(since(&one, 0)));
}

#[test]
fn confirmations_of_1024_invented_devices_do_not_keep_a_person_from_confirming() {
    let (mut machine, named) = holding();
    for n in 0..1024_u64 {
        let digest: Digest = blake3::hash(&n.to_be_bytes()).as_bytes()[..16].try_into().unwrap();
        let seal = Seal { key: vec![n as u8; 65], signature: vec![1] };
        machine.receive(Message::Confirm(Confirmation { seal, digests: vec![digest] }));
    }
    assert_eq!(counts(&mut machine), (0, 150));
    machine.said.clear();
    machine.handle(Event::Confirm);
    machine.wait(SECOND);
    assert_eq!(counts(&mut machine), (150, 0));
    machine.said.clear();
    link(&mut machine, THIRD, Features::ours());
    assert!(announced(&machine).is_superset(&named.into_iter().collect()));
}
