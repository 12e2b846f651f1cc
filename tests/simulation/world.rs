//! The world: time, what happens next, and machines that live and die.
//!
//! A queue of happenings in order of time; everything else is chance from the seed. The parts that
//! act on the world are its `impl`s in `shell` (an engine's actions), `network` (links) and
//! `oracle` (what must hold).

use super::boundary::Boundary;
use super::bugs::Bug;
use super::disk::PathChange;
use super::ledger::{Ledger, NodeId, claims};
use super::membership::Outcast;
use super::merging;
use super::network::{Network, Parcel};
use super::node::Node;
use super::obstacles;
use super::plan::{self, MS, Plan};
use super::rhythms::Beat;
use super::rng::Rng;
use super::shell::Step;
use super::trace::{Kept, Trace};
use super::tree::{Data, Ino, Value};
use super::users::{self, Op};
use dirsyncd::engine::{Action, CHUNKED_BYTES, Event, LinkId, OnConflict, Report, Trust};
use dirsyncd::model::{ContentId, SyncPath, SyncRole};
use dirsyncd::wire::conflict::ConflictKey;
use std::collections::{BTreeMap, BTreeSet};

/// More than any seed needs: past it, machines chatter without end.
const MOST_HAPPENINGS: u64 = 400_000;

pub enum Happening {
    /// Of one life of a machine; void in the next.
    Local(NodeId, u32, Box<Step>),
    Arrives {
        link: usize,
        side: usize,
        parcel: Parcel,
    },
    Breaks {
        link: usize,
        side: usize,
    },
    Connect {
        pair: usize,
    },
    CutLink {
        pair: usize,
    },
    Part {
        pair: usize,
        parted: bool,
    },
    User(NodeId),
    /// A program writes a file that was written a moment ago once more, often within one tick of
    /// the disk's clock.
    Again {
        node: NodeId,
        path: SyncPath,
    },
    /// A program goes on writing the file that it opened.
    Fill {
        node: NodeId,
        ino: Ino,
        path: SyncPath,
        data: Data,
    },
    Start(NodeId),
    /// The folder as it is now is put aside, and comes back at `Restore`.
    Backup(NodeId),
    Restore(NodeId),
    /// The whole machine as it was then, index and all.
    RollBack(NodeId),
    /// Its engine ended to go on as another device.
    Renew(NodeId),
    Rekey(NodeId),
    /// Its user replaces the group's secret, and removes a machine with it.
    Rotate(NodeId),
    RemovedTries,
    RemovedLeaves {
        node: NodeId,
        life: u32,
        link: LinkId,
    },
    /// It crashes, and its index is gone.
    LoseIndex(NodeId),
    ClockJumps(NodeId),
    /// Somebody decides a conflict.
    Decide(NodeId),
    /// Somebody at regular work does the next thing.
    Beat(NodeId, Beat),
    /// What machines say is compared with what is true.
    Ask,
    Pause {
        node: NodeId,
        paused: bool,
    },
    Marker {
        node: NodeId,
        lost: bool,
    },
    /// Its user changes what is ignored.
    Patterns(NodeId),
    /// Its user gives it another role, or decides what its role keeps apart.
    /// A reader announces something.
    Lie,
    Role(NodeId),
    /// Its user takes back what was held or let through, and nothing was.
    Undo(NodeId),
    /// Some file's bytes change on the disk.
    Rot(NodeId),
    /// Somebody has everything hashed again.
    Verify(NodeId),
    /// Its daemon is stopped for so long, or the whole machine.
    Sleep {
        node: NodeId,
        span_ns: u64,
        whole: bool,
    },
    Full {
        node: NodeId,
        is_full: bool,
    },
    Hang {
        node: NodeId,
        hangs: bool,
    },
    Crash {
        node: NodeId,
        power: bool,
    },
}

pub struct World {
    pub now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    happened: u64,
    pub rng: Rng,
    /// For what is no part of a seed's course.
    pub own: Rng,
    pub plan: Plan,
    pub nodes: Vec<Node>,
    pub net: Network,
    pub ledger: Ledger,
    pub trace: Trace,
    pub boundary: Boundary,
    /// The last time that anything but a greeting of peers was done.
    pub last_work: u64,
    /// Contents that were sent to a peer, whole or in part.
    pub contents_sent: u64,
    /// The first promise broken.
    pub broken: Option<String>,
    /// Some folder came back from a backup, or some index was lost.
    pub was_restored: bool,
    /// A path may have to wait for what is in its way at one machine.
    pub has_obstacles: bool,
    /// Conflicts that somebody decided.
    pub decided: BTreeSet<ConflictKey>,
    pub bug: Option<Bug>,
    /// Conflicts that were told.
    pub conflicts: u64,
    /// What was held where a hold ended by itself, since so much was back.
    pub holds_ended: BTreeSet<(NodeId, SyncPath)>,
    /// What users were told that nobody has, and stays away.
    pub stays_away: BTreeSet<SyncPath>,
    /// Orders that brought something back.
    pub undone: u64,
    pub removed: Outcast,
    values: u64,
}

impl World {
    pub fn new(seed: u64, plan: Plan, kept: Kept) -> Self {
        let mut nodes: Vec<_> =
            (0..plan.nodes).map(|id| Node::new(id, plan.skew_ns[id], plan.tick_ns, plan.on_conflict)).collect();
        if let Some(modeless) = plan.modeless {
            nodes[modeless].disk.keeps_modes = false;
        }
        if let Some(folding) = plan.folding {
            nodes[folding].disk.fold();
        }
        for (node, role) in nodes.iter_mut().zip(&plan.roles) {
            (node.role, node.first_role) = (*role, Some(*role));
            node.reads_only = plan.lies > 0 && *role == SyncRole::ReceiveOnly;
        }
        let mut world = Self {
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            happened: 0,
            rng: Rng::new(seed),
            own: Rng::new(!seed),
            nodes,
            net: Network::new(&plan.pairs),
            ledger: Ledger::default(),
            trace: Trace::new(kept),
            boundary: Boundary::new(kept),
            last_work: 0,
            contents_sent: 0,
            broken: None,
            was_restored: false,
            has_obstacles: plan.folding.is_some() || plan.special.is_some(),
            decided: BTreeSet::new(),
            bug: None,
            conflicts: 0,
            holds_ended: BTreeSet::new(),
            stays_away: BTreeSet::new(),
            undone: 0,
            removed: Outcast::default(),
            values: 0,
            plan,
        };
        let late_boots = world.plan.late_boots;
        world.nodes.iter_mut().for_each(|node| node.late_boots = late_boots);
        (0..world.nodes.len()).for_each(|node| world.lay_anchor(node));
        world.lay_work();
        world
    }

    /// A file that is there from the start, the same everywhere.
    fn lay_anchor(&mut self, node: NodeId) {
        let data = Data::small("anchor");
        let mtime = Some(dirsyncd::model::FileTime { secs: 1_600_000_000, nanos: 0 });
        self.user_does(node, &Op::Save { path: users::path(users::ANCHOR), data, mtime });
        self.nodes[node].disk.sync_all();
    }

    pub fn after(&mut self, delay_ns: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now + delay_ns, self.order), what);
    }

    pub fn soon(&mut self, most_ns: u64, what: Happening) {
        let delay = self.rng.between(most_ns / 20, most_ns);
        self.after(delay, what);
    }

    pub fn step_soon(&mut self, node: NodeId, most_ns: u64, step: Step) {
        let life = self.nodes[node].life;
        self.soon(most_ns, Happening::Local(node, life, Box::new(step)));
    }

    pub fn fail(&mut self, what: String) {
        self.trace.note(self.now, format_args!("BROKEN {what}"));
        self.broken.get_or_insert(what);
    }

    /// Runs until `time` or the first broken promise.
    pub fn run_until(&mut self, time: u64) {
        while self.broken.is_none() {
            let Some(next) = self.queue.first_entry() else { break };
            if next.key().0 > time {
                break;
            }
            let ((now, _), what) = next.remove_entry();
            self.now = now;
            self.happened += 1;
            if self.happened > MOST_HAPPENINGS {
                self.fail(format!("no rest after {MOST_HAPPENINGS} happenings"));
            }
            self.happen(what);
        }
        self.now = self.now.max(time);
    }

    pub fn run_for(&mut self, span_ns: u64) {
        self.run_until(self.now + span_ns);
    }

    fn happen(&mut self, what: Happening) {
        self.happen_now(what);
        for node in 0..self.nodes.len() {
            let changed = self.nodes[node].disk.take_changed();
            self.boundary.disk(self.now, node, &changed);
        }
    }

    fn happen_now(&mut self, what: Happening) {
        let Some(what) = self.put_off(what) else { return };
        match what {
            Happening::Local(node, life, step) => {
                if self.nodes[node].is_up() && self.nodes[node].life == life {
                    self.step(node, *step);
                }
            }
            Happening::Arrives { link, side, parcel } => self.arrives(link, side, parcel),
            Happening::Breaks { link, side } => self.breaks(link, side),
            Happening::Connect { pair } => self.connect(pair),
            Happening::CutLink { pair } => self.cut_pair(pair),
            Happening::Part { pair, parted } => self.part(pair, parted),
            Happening::User(node) if self.now >= self.nodes[node].dark_until => self.random_user(node),
            Happening::Again { node, path } if self.now >= self.nodes[node].dark_until => {
                let data = self.fresh(node);
                self.user_does(node, &Op::Overwrite { path, data });
            }
            Happening::User(_) | Happening::Again { .. } => {}
            Happening::Fill { node, ino, path, data } => self.fill(node, ino, &path, data),
            Happening::Start(node) => self.start(node),
            Happening::Backup(node) => self.back_up(node),
            Happening::Restore(node) => self.restore(node, false),
            Happening::Renew(node) => self.renew(node),
            Happening::Rekey(node) => self.rekey(node),
            Happening::Rotate(node) => self.rotate(node),
            Happening::RemovedTries => self.removed_tries(),
            Happening::RemovedLeaves { node, life, link } => self.removed_leaves(node, life, link),
            Happening::RollBack(node) => self.restore(node, true),
            Happening::LoseIndex(node) => self.lose_index(node),
            Happening::ClockJumps(node) => {
                self.nodes[node].skew_ns = plan::some_skew(&mut self.rng);
                self.trace.note(self.now, format_args!("n{node}'s clock jumps"));
            }
            Happening::Decide(node) if self.nodes[node].is_up() => self.decide(node),
            Happening::Decide(_) => {}
            Happening::Beat(node, beat) => self.beat(node, beat),
            Happening::Ask => self.check_claims(),
            Happening::Pause { node, paused } => self.pause(node, paused),
            Happening::Marker { node, lost } => {
                self.trace.note(self.now, format_args!("n{node}'s marker is lost: {lost}"));
                self.nodes[node].lost_marker = lost;
            }
            Happening::Patterns(node) => self.edit_patterns(node),
            Happening::Role(node) => self.change_role(node),
            Happening::Lie => self.lies(),
            Happening::Undo(node) if self.nodes[node].is_up() => {
                self.tell(node, Event::Undo { ticket: 2, dry_run: false });
            }
            Happening::Undo(_) => {}
            Happening::Rot(node) => self.rot(node),
            Happening::Verify(node) => self.verify(node),
            Happening::Sleep { node, span_ns, whole } => self.sleep(node, span_ns, whole),
            Happening::Full { node, is_full } => self.nodes[node].is_full = is_full,
            Happening::Hang { node, hangs } => self.hang(node, hangs),
            Happening::Crash { node, power } => self.crash(node, power),
        }
    }

    // Users.

    /// Bytes that nobody wrote before; now and then too many to travel with their entry.
    pub fn fresh(&mut self, node: NodeId) -> Data {
        self.values += 1;
        let padding = if self.rng.chance(40) { *self.rng.pick(&[200_000, CHUNKED_BYTES, 40 << 20]) } else { 0 };
        // Some fill more than a block.
        let long = if self.plan.power_cuts > 0 && self.rng.chance(150) { ".".repeat(700) } else { String::new() };
        Data { text: format!("n{node}:{:05}{long};", self.values).into(), padding }
    }

    pub fn random_user(&mut self, node: NodeId) {
        if self.nodes[node].is_restored {
            return; // what is missing there is not taken for deleted, whoever deleted it
        }
        let data = self.fresh(node);
        let now = self.nodes[node].file_time(self.now);
        let tree = &self.nodes[node].disk.live;
        let edits_text = self.plan.on_conflict == OnConflict::Merge && self.rng.chance(600);
        let edit = if edits_text { merging::edit_text(&mut self.rng, tree, &data) } else { None };
        let mut op = edit.unwrap_or_else(|| users::choose(&mut self.rng, tree, data, now));
        if self.has_obstacles {
            let (folds, specials) = (self.plan.folding.is_some(), self.plan.special == Some(node));
            op = obstacles::instead(&mut self.rng, op, folds, specials);
        }
        self.user_does(node, &op);
        if let Some(path) = op.edited().filter(|_| self.rng.chance(250)) {
            let (path, delay) = (path.clone(), self.rng.between(MS, 20 * MS));
            self.after(delay, Happening::Again { node, path });
        }
    }

    pub fn user_does(&mut self, node: NodeId, op: &Op) {
        self.trace.note(self.now, format_args!("n{node} user {op:?}"));
        self.boundary.user(self.now, node, op);
        let now = self.nodes[node].file_time(self.now);
        let (open, changes) = self.nodes[node].disk.change(|tree| users::apply(op, tree, now));
        self.tell_ledger(node, &changes);
        if !self.nodes[node].is_up() {
            self.forget_void(node);
        }
        self.give_hints(node, &changes, open.is_none());
        if let (Some(ino), Op::Write { path, data }) = (open, op) {
            let (path, data) = (path.clone(), data.clone());
            self.soon(20 * MS, Happening::Fill { node, ino, path, data });
        }
    }

    fn tell_ledger(&mut self, node: NodeId, changes: &[PathChange]) {
        let paths = changes.iter().map(|change| change.path.clone());
        let covered: BTreeSet<_> = paths.filter(|path| self.is_covered(node, path)).collect();
        self.ledger.user_did(node, changes, |path| covered.contains(path));
        self.nodes[node].touched_at = self.now;
    }

    fn fill(&mut self, node: NodeId, ino: Ino, path: &SyncPath, data: Data) {
        let now = self.nodes[node].file_time(self.now);
        let value = Value::File(data.clone());
        let over = self.nodes[node].disk.live.inodes.get(&ino).and_then(|inode| inode.value());
        let (done, changes) = self.nodes[node].disk.change(|tree| users::fill(tree, ino, data, now));
        self.trace.note(self.now, format_args!("n{node} user closes {path:?} {done}"));
        self.tell_ledger(node, &changes);
        if done {
            self.ledger.wrote(node, path, value, over);
        }
        if !self.nodes[node].is_up() {
            self.forget_void(node);
        }
        self.give_hints(node, &changes, true);
    }

    // Life and death.

    pub fn start(&mut self, node: NodeId) {
        if self.nodes[node].is_up() || !self.is_member(node) {
            return;
        }
        // The marker is the index's again once the folder was scanned.
        let is_restored = self.nodes[node].is_restored && !self.has(Bug::TrustsAnyFolder);
        let trust = if is_restored { Trust::Restored } else { Trust::Known };
        self.trace.note(self.now, format_args!("n{node} starts, {trust:?}"));
        let (now, bug, cut) = (self.now, self.bug, self.cut_before(node));
        let here = &mut self.nodes[node];
        here.boot(now, bug);
        here.busy = true;
        let clock = here.clock(now);
        let is_missing = here.lost_marker && !here.durable.rows.is_empty();
        let root = self.root(node);
        let engine = self.nodes[node].engine.as_mut().expect("it was just made");
        if let Some(cut) = cut {
            engine.cut_short(cut, trust);
        }
        let mut actions = if is_missing { engine.handle(clock, Event::Root(root)) } else { Vec::new() };
        actions.extend(engine.start(clock, trust));
        self.step_soon(node, MS, Step::Commit(actions));
        self.connect_all_of(node);
    }

    pub fn crash(&mut self, node: NodeId, power: bool) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.trace.note(self.now, format_args!("n{node} crashes, power cut: {power}"));
        self.lose_links_of(node);
        self.nodes[node].stop();
        if self.has(Bug::ActsBeforeTheCommit) {
            self.nodes[node].durable = self.nodes[node].before_commit.clone();
        }
        if power {
            self.nodes[node].boots += 1;
            self.check_power_cut(node);
            self.note_cut(node);
            self.tear_bases(node);
            // Programs die with the machine.
            self.queue.retain(|_, what| !matches!(what, Happening::Fill { node: n, .. } if *n == node));
        }
        self.forget_void(node);
        let here = &self.nodes[node];
        let values = here.disk.live.listing().into_iter();
        let values = values.filter_map(|(path, (_, inode))| inode.value().map(|value| (path, value)));
        let unknown = values.filter(|(path, value)| !claims(here.durable.rows.get(path), value));
        self.ledger.left_unknown(node, unknown);
        self.trace_tree(node);
    }

    pub fn back_up(&mut self, node: NodeId) {
        self.trace.note(self.now, format_args!("n{node} is backed up"));
        let here = &mut self.nodes[node];
        here.backup = Some((here.disk.live.clone(), here.durable.clone()));
    }

    /// The machine stops, its folder and history are those of the backup, its index is not, unless
    /// it is `whole`; it starts again. Not done where something is then nowhere that it should be:
    /// nobody could bring that back.
    pub fn restore(&mut self, node: NodeId, whole: bool) {
        let Some((backup, index)) = self.nodes[node].backup.clone() else { return };
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let mut elsewhere: BTreeSet<Value> = others.flat_map(|(_, other)| other.disk.live.shown()).collect();
        elsewhere.extend(backup.shown());
        let contents: BTreeSet<ContentId> = elsewhere.iter().filter_map(Value::content).collect();
        let here = &self.nodes[node];
        let mut winners = here.durable.rows.values().filter_map(|row| row.head.file());
        let all_there = here.disk.live.shown().is_subset(&elsewhere);
        if !all_there || winners.any(|(content, size)| size > 0 && !contents.contains(&content)) {
            return;
        }
        self.crash(node, false);
        self.trace.note(self.now, format_args!("n{node} is restored, with its index: {whole}"));
        let kept = self.nodes[node].disk.live.kept().collect::<Vec<_>>();
        let changes = self.nodes[node].disk.replace(backup);
        self.nodes[node].is_restored |= !whole;
        self.ledger.restored(node, &changes);
        if whole {
            self.ledger.rolled_back(node, self.nodes[node].disk.live.listing().keys().chain(index.rows.keys()));
            self.nodes[node].durable = index;
        }
        self.was_restored = true;
        let left: BTreeSet<Value> = self.nodes.iter().flat_map(|node| node.disk.live.values()).collect();
        self.ledger.excused.extend(kept.into_iter().filter(|value| !left.contains(value)));
        self.start(node);
    }

    fn lose_index(&mut self, node: NodeId) {
        self.crash(node, false);
        self.trace.note(self.now, format_args!("n{node}'s index is lost"));
        self.nodes[node].lose_index();
        self.was_restored = true;
        self.ledger.found_anew(node, &self.nodes[node].disk.live.listing());
        self.start(node);
    }

    /// The engine found that its device is not what it was, and starts anew as another one.
    fn renew(&mut self, node: NodeId) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.crash(node, false);
        self.trace.note(self.now, format_args!("n{node} is a new device"));
        self.nodes[node].renew();
        self.nodes[node].is_restored = true;
        self.was_restored = true;
        self.ledger.found_anew(node, &self.nodes[node].disk.live.listing());
        self.start(node);
    }

    fn forget_void(&mut self, node: NodeId) {
        let here = &self.nodes[node];
        self.ledger.crashed(
            node,
            |path| here.durable.rows.get(path),
            |path, value| here.disk.live.get(path).and_then(|(_, inode)| inode.value()).as_ref() == Some(value),
        );
    }

    pub fn trace_tree(&mut self, node: NodeId) {
        for (path, (ino, inode)) in self.nodes[node].disk.live.listing() {
            self.trace.note(self.now, format_args!("n{node}   {path:?} {ino} {inode:?}"));
        }
    }

    // Turns of an engine.

    pub fn tell(&mut self, node: NodeId, event: Event) {
        let here = &mut self.nodes[node];
        here.inbox.push_back(event);
        if !here.busy {
            here.busy = true;
            self.step_soon(node, MS / 5, Step::Turn);
        }
    }

    /// The daemon's loop: some events, one commit, then their actions.
    pub fn turn(&mut self, node: NodeId) {
        let most = 1 + self.rng.index(16);
        let here = &mut self.nodes[node];
        let clock = here.clock(self.now);
        let mut actions = Vec::new();
        for event in here.inbox.drain(..most.min(here.inbox.len())).collect::<Vec<_>>() {
            self.trace.note(self.now, format_args!("n{node} < {event:?}"));
            let patterns_come = matches!(event, Event::IgnoreRead(_) | Event::IgnoreUnread(_));
            let engine = self.nodes[node].engine.as_mut().expect("only engines that run have turns");
            // Nothing else ends a hold by itself.
            let held = if matches!(event, Event::Tick) { engine.held(usize::MAX).paths } else { Vec::new() };
            let follows = engine.handle(clock, event);
            if follows.contains(&Action::Report(Report::HoldEnded)) {
                let engine = self.nodes[node].engine.as_ref().expect("it had a turn");
                let still: BTreeSet<_> = engine.held(usize::MAX).paths.into_iter().map(|held| held.path).collect();
                let ended = held.into_iter().map(|held| held.path).filter(|path| !still.contains(path));
                self.holds_ended.extend(ended.map(|path| (node, path)));
            }
            if patterns_come {
                self.patterns_were_read(node);
            }
            self.check_unignored(node, &follows);
            actions.extend(follows);
        }
        self.step_soon(node, 2 * MS, Step::Commit(actions));
    }

    pub fn commit(&mut self, node: NodeId, actions: Vec<Action>) {
        let here = &mut self.nodes[node];
        let index = here.engine.as_mut().expect("only engines that run commit").index_mut();
        if self.bug == Some(Bug::ActsBeforeTheCommit) {
            here.before_commit = here.durable.clone();
        }
        let written = index.commit(&mut here.durable);
        here.last_commit = here.clock(self.now).wall;
        // The marker is renewed when the scan is over.
        here.is_restored &= here.engine.as_ref().is_some_and(|engine| engine.trust() == Trust::Restored);
        self.boundary.committed(self.now, node, &written, &self.nodes[node].durable);
        self.check_commit(node, &written.rows);
        self.note_decisions(node);
        let reports =
            actions.iter().filter_map(|action| if let Action::Report(report) = action { Some(report) } else { None });
        self.boundary.reports(self.now, node, reports);
        for action in actions {
            self.trace.note(self.now, format_args!("n{node} > {action:?}"));
            self.act(node, action);
        }
        self.nodes[node].busy = false;
        self.plan_tick(node);
        if !self.nodes[node].inbox.is_empty() {
            self.nodes[node].busy = true;
            self.step_soon(node, MS / 5, Step::Turn);
        }
    }

    // A whole seed.
}
