//! Who is listed, who is believed about it, and what a removal and a hand-over bring about.

use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::{Config, Event, FreshSecret, NotHanded, OnConflict};
use crate::model::{Entry, FileTime, Keyring, Kind, Mode, SyncPath, Version, VersionVector};
use crate::wire::confirmation::{Confirmation, KEY_BYTES, Seal};
use crate::wire::features::Features;
use crate::wire::members::HandedKeys;
use crate::wire::message::Change;
use crate::wire::packet::HandedSecret;

const OWN: DeviceId = DeviceId([9; 32]);
const FRIEND: DeviceId = DeviceId([1; 32]);
const LOST: DeviceId = DeviceId([2; 32]);
const NEW_ID: DeviceId = DeviceId([3; 32]);
const FRIENDS_LINK: LinkId = LinkId(1);
const LOST_LINK: LinkId = LinkId(2);

fn now() -> Now {
    Now { wall: 1_800_000_000_000_000_000, mono: 1 }
}

/// A machine of a group with this secret, linked with a friend and with one that will be lost.
fn machine(secret: u8) -> Engine<MapIndex> {
    let mut index = MapIndex::new();
    GroupState::settle(&mut index, &HandedSecret::Writer([secret; 32]), None);
    let config = Config { device: OWN, name: "own".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, index);
    engine.start(now(), crate::engine::Trust::Known);
    for (link, device, name) in [(FRIENDS_LINK, FRIEND, "friend"), (LOST_LINK, LOST, "lost")] {
        let (name, features, capability) = (name.to_owned(), Features::ours(), Capability::Write);
        engine.handle(now(), Event::LinkUp { link, device, name, dialler: true, features, capability });
        says(&mut engine, link, Message::Known { counter: 0 });
    }
    engine
}

fn says(engine: &mut Engine<MapIndex>, link: LinkId, message: Message) -> Vec<Action> {
    let mut actions = engine.handle(now(), Event::Message { link, message, wire_bytes: 1 });
    actions.extend(engine.handle(now(), Event::Tick));
    actions
}

fn listed(engine: &Engine<MapIndex>) -> Vec<DeviceId> {
    engine.peers.group().roster().members.into_iter().map(|member| member.device).collect()
}

fn row(device: DeviceId, added_by: DeviceId, invited: bool) -> ListedMember {
    let (name, capability) = ("m".to_owned(), Capability::Write);
    ListedMember { device, name, capability, added_by, added_ns: 1, invited }
}

fn removal(device: DeviceId, counter: u64) -> Removal {
    Removal { device, name: "m".into(), removed_by: FRIEND, removed_ns: 1, left: false, counter }
}

/// A folder that a device made as its n-th change.
fn folder(name: &str, author: DeviceId, counter: u64) -> Message {
    let seen = VersionVector::default().with(author, counter);
    let version = Version { stamp: 5, author, seen };
    let entry = Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version };
    let changes = vec![Change { path: SyncPath::new(name).unwrap(), entry, body: None }];
    Message::Changes { changes, relayed_to: Vec::new() }
}

fn has(engine: &Engine<MapIndex>, name: &str) -> bool {
    engine.index().get(&SyncPath::new(name).unwrap()).is_some()
}

fn rotate(engine: &mut Engine<MapIndex>, remove: Option<DeviceId>, fresh: u8) -> Vec<Action> {
    engine.handle(now(), Event::Rotate { remove, fresh: FreshSecret([fresh; 32]) })
}

#[test]
fn a_removal_replaces_the_secret_durably_and_ends_the_run() {
    let mut engine = machine(1);
    says(&mut engine, LOST_LINK, folder("before", LOST, 3));
    let actions = rotate(&mut engine, Some(LOST), 7);
    assert!(actions.contains(&Action::Rekey));
    let group = GroupState::load(engine.index());
    assert_eq!(group.secret(), Some(HandedSecret::Writer([7; 32])));
    assert_eq!(group.removal(&LOST).map(|removal| removal.counter), Some(3));
    assert_eq!(listed(&engine), [FRIEND, OWN]);
    // Its file still has the old one at the next start.
    let mut index = engine.into_index();
    let in_force = GroupState::settle(&mut index, &HandedSecret::Writer([1; 32]), None);
    assert_eq!(in_force, HandedSecret::Writer([7; 32]));
}

#[test]
fn what_a_removed_machine_changed_is_taken_up_to_the_counter_that_anyone_had_taken() {
    let mut engine = machine(1);
    let removals = vec![removal(LOST, 4)];
    says(&mut engine, FRIENDS_LINK, Message::Members(Roster { removals, ..Roster::default() }));
    says(&mut engine, FRIENDS_LINK, folder("fourth", LOST, 4));
    says(&mut engine, FRIENDS_LINK, folder("fifth", LOST, 5));
    assert!(has(&engine, "fourth") && !has(&engine, "fifth"));
    let removals = vec![removal(LOST, 5)];
    let answers = says(&mut engine, FRIENDS_LINK, Message::Members(Roster { removals, ..Roster::default() }));
    says(&mut engine, FRIENDS_LINK, folder("fifth", LOST, 5));
    assert!(has(&engine, "fifth"), "another machine had taken it");
    let tells = |action: &Action| matches!(action, Action::Send { to, message: Message::Members(_) } if to.contains(&FRIENDS_LINK));
    assert!(!answers.iter().any(tells), "who told of it is not told again");
}

#[test]
fn nobody_is_believed_about_this_machine_s_removal_or_its_invitations() {
    let mut engine = machine(1);
    let members = vec![row(NEW_ID, OWN, true)];
    says(&mut engine, FRIENDS_LINK, Message::Members(Roster { members, removals: vec![removal(OWN, 9)] }));
    assert_eq!(listed(&engine), [FRIEND, LOST, OWN]);
    assert_eq!(engine.peers.group().removal(&OWN), None);
    let members = vec![row(NEW_ID, FRIEND, true)];
    says(&mut engine, FRIENDS_LINK, Message::Members(Roster { members, ..Roster::default() }));
    assert_eq!(listed(&engine), [FRIEND, LOST, NEW_ID, OWN], "a member speaks of its own");
}

#[test]
fn a_reader_says_nothing_of_members() {
    let mut engine = machine(1);
    let (name, features, capability) = ("reader".to_owned(), Features::ours(), Capability::ReadOnly);
    let (link, device) = (LinkId(5), DeviceId([5; 32]));
    engine.handle(now(), Event::LinkUp { link, device, name, dialler: true, features, capability });
    let members = vec![row(NEW_ID, device, true)];
    says(&mut engine, link, Message::Members(Roster { members, removals: vec![removal(FRIEND, 1)] }));
    assert_eq!(listed(&engine), [FRIEND, LOST, device, OWN]);
}

/// What comes of a hand-over of a keyring with this list to a machine that invited one itself.
fn handed(keyring: &Keyring, members: Vec<ListedMember>, removals: Vec<Removal>) -> Engine<MapIndex> {
    let mut engine = machine(1);
    let invited = DeviceId([6; 32]);
    let name = "invited".to_owned();
    engine.handle(now(), Event::Invited { device: invited, name, capability: Capability::Write });
    let given = HandOver { keys: HandedKeys::Writer(keyring.clone()), roster: Roster { members, removals } };
    engine.handle(
        now(),
        Event::HandedOver { from: "friend".into(), capability: Capability::Write, given: Box::new(given) },
    );
    engine
}

#[test]
fn one_that_slept_takes_the_list_of_the_rotation_and_adds_whom_it_invited() {
    let mut keyring = Keyring::new([1; 32]);
    keyring.rotate([2; 32]);
    let members = vec![row(FRIEND, FRIEND, false), row(NEW_ID, OWN, true)];
    let engine = handed(&keyring, members, vec![removal(LOST, 0)]);
    assert_eq!(GroupState::load(engine.index()).secret(), Some(HandedSecret::Writer([2; 32])));
    assert_eq!(listed(&engine), [FRIEND, NEW_ID, DeviceId([6; 32]), OWN]);
    let new = engine.peers.group().member(&NEW_ID).cloned().unwrap();
    assert!(!new.invited, "that this machine invited it says another");
}

#[test]
fn who_let_a_machine_in_is_not_forgotten_by_it_for_a_rotation_that_knows_nothing_of_that_one() {
    let mut index = MapIndex::new();
    GroupState::settle(&mut index, &HandedSecret::Writer([1; 32]), Some(row(FRIEND, FRIEND, false)));
    let mut keyring = Keyring::new([1; 32]);
    keyring.rotate([2; 32]);
    let members = vec![row(NEW_ID, NEW_ID, false), row(OWN, NEW_ID, true)];
    let given = HandOver { keys: HandedKeys::Writer(keyring), roster: Roster { members, removals: Vec::new() } };
    let next = GroupState::load(&index).handed(OWN, &given).unwrap();
    assert!([FRIEND, NEW_ID, OWN].iter().all(|device| next.member(device).is_some()), "{next:?}");
}

#[test]
fn of_two_that_rotated_apart_only_whom_both_knew_stays() {
    let mut engine = machine(1);
    rotate(&mut engine, Some(FRIEND), 7);
    let mut theirs = Keyring::new([1; 32]);
    theirs.rotate([8; 32]);
    let members = vec![row(LOST, LOST, false), row(NEW_ID, LOST, true), row(FRIEND, LOST, false)];
    let given = HandOver { keys: HandedKeys::Writer(theirs), roster: Roster { members, removals: Vec::new() } };
    engine.handle(
        now(),
        Event::HandedOver { from: "lost".into(), capability: Capability::Write, given: Box::new(given) },
    );
    assert_eq!(listed(&engine), [LOST, OWN]);
    let secret = GroupState::load(engine.index()).secret();
    assert!([[1; 32], [7; 32], [8; 32]].iter().all(|known| secret != Some(HandedSecret::Writer(*known))));
}

#[test]
fn a_hand_over_of_what_is_older_or_that_removes_this_machine_changes_nothing() {
    let mut engine = machine(1);
    rotate(&mut engine, None, 7);
    let before = engine.peers.group().clone();
    let mut newer = Keyring::new([7; 32]);
    newer.rotate([8; 32]);
    for (keyring, removals) in [(Keyring::new([1; 32]), Vec::new()), (newer, vec![removal(OWN, 1)])] {
        let given = HandOver { keys: HandedKeys::Writer(keyring), roster: Roster { removals, ..Roster::default() } };
        let actions = engine.handle(
            now(),
            Event::HandedOver { from: "friend".into(), capability: Capability::Write, given: Box::new(given) },
        );
        assert!(!actions.contains(&Action::Rekey), "{actions:?}");
        assert_eq!(*engine.peers.group(), before);
    }
}

#[test]
fn nobody_is_believed_about_the_name_of_a_machine_that_is_known() {
    let mut engine = machine(1);
    let renamed = |device| ListedMember { name: "liar-s".into(), ..row(device, device, false) };
    let members = vec![renamed(OWN), renamed(LOST)];
    let answers = says(&mut engine, FRIENDS_LINK, Message::Members(Roster { members, ..Roster::default() }));
    let name = |engine: &Engine<MapIndex>, device| engine.peers.group().member(&device).unwrap().name.clone();
    assert_eq!((name(&engine, OWN), name(&engine, LOST)), ("own".to_owned(), "lost".to_owned()));
    for action in &answers {
        if let Action::Send { message: Message::Members(roster), .. } = action {
            assert_eq!(roster.check(), Ok(()), "what this machine tells, others take");
        }
    }
    let (link, name_now, features) = (LinkId(7), "lost-2".to_owned(), Features::ours());
    let capability = Capability::Write;
    engine.handle(now(), Event::LinkDown { link: LOST_LINK });
    engine.handle(now(), Event::LinkUp { link, device: LOST, name: name_now, dialler: true, features, capability });
    assert_eq!(name(&engine, LOST), "lost-2", "itself it is");
}

#[test]
fn a_crash_that_forgot_a_counter_lets_a_removal_refuse_nothing_that_was_taken() {
    let mut engine = machine(1);
    says(&mut engine, LOST_LINK, folder("third", LOST, 3));
    // As after a start, with counters of a minute ago.
    let mut index = engine.into_index();
    index.set_meta("heard", &[]);
    let config = Config { device: OWN, name: "own".into(), on_conflict: OnConflict::Newest };
    let mut engine = Engine::new(config, index);
    engine.start(now(), crate::engine::Trust::Known);
    rotate(&mut engine, Some(LOST), 7);
    assert_eq!(engine.peers.group().removal(&LOST).map(|removal| removal.counter), Some(3));
}

#[test]
fn what_one_message_brings_is_passed_on_as_one() {
    let mut engine = machine(1);
    let members = (100..200).map(|n| row(DeviceId([n; 32]), LOST, true)).collect();
    let answers = says(&mut engine, LOST_LINK, Message::Members(Roster { members, ..Roster::default() }));
    let sent: Vec<_> =
        answers.iter().filter(|action| matches!(action, Action::Send { message: Message::Members(_), .. })).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
}

#[test]
fn what_a_removed_machine_confirmed_is_no_word_of_a_member_whoever_brings_it() {
    let seal = Seal { key: vec![4; KEY_BYTES], ..Seal::default() };
    let (signer, kept) = (seal.device(), |engine: &Engine<MapIndex>| engine.index().meta("confirmations"));
    let brought = || Message::Confirm(Confirmation { seal: seal.clone(), digests: vec![[7; 16]] });
    let mut engine = machine(1);
    let before = kept(&engine);
    let removals = vec![removal(signer, 1)];
    says(&mut engine, FRIENDS_LINK, Message::Members(Roster { removals, ..Roster::default() }));
    says(&mut engine, FRIENDS_LINK, brought());
    assert_eq!(kept(&engine), before);
    let mut other = machine(1);
    says(&mut other, FRIENDS_LINK, brought());
    assert_ne!(kept(&other), before, "a member's is kept");
}

#[test]
fn who_says_that_a_machine_will_not_come_back_takes_it_off_no_list() {
    let mut engine = machine(1);
    engine.handle(now(), Event::LinkDown { link: LOST_LINK });
    says(&mut engine, FRIENDS_LINK, Message::Forget { device: LOST });
    assert_eq!(listed(&engine), [FRIEND, LOST, OWN], "it would be shut out of the next secret");
}

#[test]
fn a_reader_hands_no_secret_over() {
    let mut engine = machine(1);
    let mut keyring = Keyring::new([1; 32]);
    keyring.rotate([2; 32]);
    let given = Box::new(HandOver { keys: HandedKeys::Writer(keyring), roster: Roster::default() });
    let before = engine.peers.group().clone();
    engine.handle(now(), Event::HandedOver { from: "reader".into(), capability: Capability::ReadOnly, given });
    assert_eq!(*engine.peers.group(), before);
}

#[test]
fn a_device_that_is_listed_is_not_out_for_what_it_was_before() {
    let mut engine = machine(1);
    rotate(&mut engine, Some(LOST), 7);
    let group = engine.peers.group();
    assert_eq!(group.listed_as(FRIEND, &[LOST]), Ok(FRIEND));
    assert_eq!(group.listed_as(NEW_ID, &[LOST]), Err(NotHanded::Removed));
    assert_eq!(group.listed_as(NEW_ID, &[FRIEND, LOST]), Err(NotHanded::Removed));
    assert_eq!(group.listed_as(NEW_ID, &[FRIEND]), Ok(FRIEND));
    assert_eq!(group.listed_as(LOST, &[FRIEND]), Err(NotHanded::Removed));
    assert_eq!(group.listed_as(NEW_ID, &[]), Err(NotHanded::Unlisted));
}
