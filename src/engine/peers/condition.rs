//! Whether a machine is done, and what keeps it from that: what it says of itself, and what peers
//! say of themselves.
//!
//! Two machines are in sync where their trees are equal and neither has anything left that it
//! should do or cannot do (`docs/promises.md`, P3). Deliberately not here: how states travel
//! (`session.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{Halt, LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::merge::ObservationSource;
use crate::engine::peers::Peers;
use crate::engine::peers::session::Session;
use crate::model::SyncPath;
use crate::wire::condition::{Condition, StopCause};
use crate::wire::message::Digest;

/// Whether what is in the folder is known, as far as a watch may have missed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) enum FolderKnowledge {
    /// No whole walk has passed since.
    #[default]
    No,
    /// One has, and what it found to have changed is still inspected.
    Walked,
    Yes,
}

/// What of a condition may change without a row that is written; cheap to make.
type Mark = (Option<StopCause>, bool, bool, [usize; 5]);

/// Whether this machine is done, and what was said of that.
#[derive(Default)]
pub(in crate::engine) struct Standing {
    known: FolderKnowledge,
    mark: Mark,
    /// Inspections under way that are no second hash: most of them find something new.
    pub open_inspections: usize,
}

impl Peers {
    /// Something in the folder may have changed unseen.
    pub(in crate::engine) fn may_have_missed(&mut self) {
        self.standing.known = FolderKnowledge::No;
    }

    /// Whether a peer and this machine, which stands so, hold the same and are done.
    pub(super) fn is_in_sync(session: &Session, root: Digest, ours: &Condition) -> bool {
        // An older version does not say how it stands.
        let theirs_is_clear = session.standing.condition.is_none_or(|theirs| theirs.is_clear());
        session.is_equal_to(root) && session.pending() == 0 && theirs_is_clear && ours.is_clear()
    }

    /// Names in the log what a peer says of itself, when that is news.
    pub(super) fn name_condition<I: Index>(&mut self, core: &mut Core<I>, now: Now, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let Some(condition) = session.standing.condition else { return };
        if let Some(condition) = session.standing.said.next(now.mono, condition.trouble()) {
            let peer = session.name.clone();
            core.out.push(Action::Report(Report::PeerStands { peer, condition }));
        }
    }

    /// Those whose condition is still to be named.
    pub(super) fn name_conditions_due<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let is_due = |session: &Session| session.standing.said.due.is_some_and(|due| due <= now.mono);
        let links: Vec<_> = self.sessions.iter().filter(|(_, s)| is_due(s)).map(|(link, _)| *link).collect();
        for link in links {
            self.name_condition(core, now, link);
        }
    }

    /// When a peer's condition is to be named.
    pub(super) fn next_naming(&self) -> Option<u64> {
        self.sessions.values().filter_map(|session| session.standing.said.due).min()
    }
}

impl<I: Index> Engine<I> {
    /// A whole walk has passed, and no other one is to follow.
    pub(in crate::engine) fn note_walked_all(&mut self) {
        if self.peers.standing.known == FolderKnowledge::No && !self.is_stopped() {
            self.peers.standing.known = FolderKnowledge::Walked;
        }
    }

    /// After each event: what changed without a row is announced to peers too.
    pub(in crate::engine) fn note_standing(&mut self, now: Now) {
        if self.peers.standing.known == FolderKnowledge::Walked && !self.observe.has_inspections() {
            self.peers.standing.known = FolderKnowledge::Yes;
        }
        let [missing, by_peers, unignored] = self.safety.held_lengths();
        let lengths = [missing, by_peers, unignored, self.problem_count(), self.missing()];
        let mark = (self.stop_cause(), self.core.paused, self.is_scanning(), lengths);
        if std::mem::replace(&mut self.peers.standing.mark, mark) != mark {
            self.state_changed(now);
        }
    }

    fn is_scanning(&self) -> bool {
        // What is being hashed is most often an edit that nobody was told of yet. A second hash
        // finds none, as a rule.
        self.peers.standing.known != FolderKnowledge::Yes
            || self.reconcile.has_local_to_announce()
            || self.observe.finds() != ObservationSource::Walked
            || self.peers.standing.open_inspections > 0
    }

    fn stop_cause(&self) -> Option<StopCause> {
        let patterns = self.safety.awaits_patterns().then_some(StopCause::Patterns);
        self.core.halted.as_ref().map(|halt: &Halt| halt.cause).or(patterns)
    }

    /// How this machine stands.
    pub(in crate::engine) fn condition(&self) -> Condition {
        let (held_deletions, held_reverts, held_unignored) = self.safety.held_counts();
        let (counts, wants) = (self.core.index.counts(), self.transfer.want_count() as u64);
        Condition {
            stopped: self.stop_cause(),
            paused: self.core.paused,
            scanning: self.is_scanning(),
            held_deletions,
            held_reverts,
            held_unignored,
            problems: self.problem_count() as u64,
            missing: self.missing() as u64,
            role: self.core.role,
            local: counts.local,
            not_installed: if self.core.role.installs() { 0 } else { counts.pending.saturating_sub(wants) },
        }
    }

    /// Paths that need attention, and why.
    pub(in crate::engine) fn all_problems(&self) -> impl Iterator<Item = (SyncPath, Problem)> {
        let safety = self.suspected().chain(self.torn()).chain(self.safety.unread_patterns());
        safety.chain(self.observe.problems(&self.core))
    }

    fn problem_count(&self) -> usize {
        let safety = self.suspected().count() + self.torn().count() + self.safety.unread_patterns().count();
        safety + self.observe.problem_count(&self.core)
    }

    /// Wants that will get on by themselves.
    pub(in crate::engine) fn active_wants(&self) -> u64 {
        let wants = self.transfer.wants().filter(|(path, want)| !want.is_stuck() && !self.observe.is_kept_folder(path));
        wants.count() as u64
    }

    /// Paths that are not on disk as the group has them. A folder that stays for what is ignored in
    /// it is none: that is left alone.
    pub(super) fn missing(&self) -> usize {
        self.transfer.want_count() - self.observe.kept_folders_in_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::limits::{SAY_OTHER_NS, SECOND};
    use crate::engine::{Config, Event, Hint, OnConflict, RootState, Trust, WalkId};
    use crate::model::{DeviceId, SyncRole};
    use crate::wire::features::Features;
    use crate::wire::message::Message;

    const LINK: LinkId = LinkId(1);

    fn at(mono: u64) -> Now {
        Now { wall: 1_700_000_000_000_000_000 + mono, mono }
    }

    /// An empty folder that was walked, and a peer that holds the same.
    fn linked() -> Engine<MapIndex> {
        let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        engine.start(at(0), Trust::Known);
        let (name, device, features) = ("b".to_owned(), DeviceId([2; 32]), Features::ours());
        engine.handle(
            at(0),
            Event::LinkUp {
                link: LINK,
                device,
                name,
                dialler: true,
                features,
                capability: crate::model::Capability::Write,
            },
        );
        walk(&mut engine, 0, Event::IgnoreRead(None));
        engine
    }

    /// The walk that `cause` brings about finds nothing.
    fn walk(engine: &mut Engine<MapIndex>, mono: u64, cause: Event) {
        let actions = engine.handle(at(mono), cause);
        let walks: Vec<WalkId> = actions
            .iter()
            .filter_map(|action| if let Action::Walk { walk, .. } = action { Some(*walk) } else { None })
            .collect();
        for walk in walks {
            engine.handle(at(mono), Event::Walked { walk, unread: Vec::new() });
            engine.handle(at(mono), Event::Root(RootState::Fine));
        }
    }

    fn receive(engine: &mut Engine<MapIndex>, mono: u64, condition: Option<Condition>) -> Vec<Report> {
        let root = engine.index_mut().root_digest();
        let message = Message::State { root, pending: 0, condition };
        reports(engine.handle(at(mono), Event::Message { link: LINK, message, wire_bytes: 1 }))
    }

    fn reports(actions: Vec<Action>) -> Vec<Report> {
        let report = |action| if let Action::Report(report) = action { Some(report) } else { None };
        actions.into_iter().filter_map(report).collect()
    }

    /// What it tells its peer once it has rested.
    fn announced(engine: &mut Engine<MapIndex>, mono: u64) -> Option<Condition> {
        let actions = engine.handle(at(mono), Event::Tick);
        actions.into_iter().find_map(|action| match action {
            Action::Send { message: Message::State { condition, .. }, .. } => condition,
            _ => None,
        })
    }

    fn is_in_sync(engine: &mut Engine<MapIndex>) -> bool {
        engine.status().peers[0].in_sync
    }

    fn stands(condition: Condition) -> Report {
        Report::PeerStands { peer: "b".into(), condition }
    }

    const PAUSED: Condition = Condition {
        stopped: None,
        paused: true,
        scanning: false,
        held_deletions: 0,
        held_reverts: 0,
        held_unignored: 0,
        problems: 0,
        missing: 0,
        role: SyncRole::Both,
        local: 0,
        not_installed: 0,
    };

    #[test]
    fn equal_trees_are_in_sync_only_while_neither_machine_has_anything_left_to_do() {
        let clear = Condition::default();
        let mut engine = linked();
        assert_eq!(receive(&mut engine, 1, Some(clear)), [Report::InSync { peer: "b".into(), paths: 0 }]);
        assert!(is_in_sync(&mut engine));
        for condition in [
            PAUSED,
            Condition { stopped: Some(StopCause::MarkerLost), ..clear },
            Condition { held_deletions: 1, ..clear },
            Condition { held_reverts: 1, ..clear },
            Condition { held_unignored: 1, ..clear },
            Condition { problems: 1, ..clear },
            Condition { missing: 1, ..clear },
            Condition { scanning: true, ..clear },
        ] {
            receive(&mut engine, 2, Some(condition));
            assert!(!is_in_sync(&mut engine), "{condition:?}");
        }
        // An older version says nothing of that.
        receive(&mut engine, 3, None);
        assert!(is_in_sync(&mut engine));
    }

    #[test]
    fn what_keeps_this_machine_from_being_done_is_told_once_it_has_rested() {
        let mut engine = linked();
        assert_eq!(announced(&mut engine, SECOND), Some(Condition::default()));
        receive(&mut engine, SECOND, Some(Condition::default()));
        engine.handle(at(2 * SECOND), Event::Pause(true));
        assert!(!is_in_sync(&mut engine));
        assert!(engine.wake_at().is_some_and(|at| at < 3 * SECOND), "nobody waits 30 s to hear of it");
        assert_eq!(announced(&mut engine, 3 * SECOND).map(|condition| condition.paused), Some(true));
        let gone = Halt { cause: StopCause::FolderGone, text: "it is gone".into() };
        engine.handle(at(4 * SECOND), Event::Root(RootState::Wrong(gone)));
        assert_eq!(
            announced(&mut engine, 5 * SECOND).and_then(|condition| condition.stopped),
            Some(StopCause::FolderGone)
        );
    }

    #[test]
    fn after_a_pause_and_after_lost_hints_nothing_is_in_sync_before_a_whole_walk_and_its_looks() {
        let mut engine = linked();
        receive(&mut engine, 1, Some(Condition::default()));
        engine.handle(at(2), Event::Pause(true));
        let resumed = engine.handle(at(3), Event::Pause(false));
        assert!(!is_in_sync(&mut engine) && engine.condition().scanning);
        let walk = resumed.iter().find_map(|a| if let Action::Walk { walk, .. } = a { Some(*walk) } else { None });
        let walk = walk.expect("it walks at once");
        engine.handle(at(3), Event::Hint { path: SyncPath::new("new").unwrap(), hint: Hint::Closed });
        engine.handle(at(4 + SECOND), Event::Tick);
        assert!(engine.observe.has_inspections());
        engine.handle(at(4 + SECOND), Event::Walked { walk, unread: Vec::new() });
        engine.handle(at(4 + SECOND), Event::Root(RootState::Fine));
        assert!(engine.condition().scanning, "something is still looked at");
        let path = SyncPath::new("new").unwrap();
        engine.handle(at(5 + SECOND), Event::Inspected { path, observed: crate::engine::Observed::Absent });
        assert!(is_in_sync(&mut engine));
        engine.handle(at(6 + SECOND), Event::Overflow);
        assert!(!is_in_sync(&mut engine));
    }

    #[test]
    fn while_a_new_file_is_hashed_nothing_is_in_sync_and_the_peers_are_told() {
        let mut engine = linked();
        announced(&mut engine, SECOND);
        receive(&mut engine, SECOND, Some(Condition::default()));
        assert!(is_in_sync(&mut engine));
        let path = SyncPath::new("large").unwrap();
        engine.handle(at(2 * SECOND), Event::Hint { path: path.clone(), hint: Hint::Closed });
        engine.handle(at(3 * SECOND), Event::Tick);
        assert!(engine.observe.has_inspections() && !is_in_sync(&mut engine));
        assert!(engine.wake_at().is_some_and(|at| at < 4 * SECOND), "nobody waits 30 s to hear of it");
        assert_eq!(announced(&mut engine, 4 * SECOND).map(|condition| condition.scanning), Some(true));
        engine.handle(at(60 * SECOND), Event::Inspected { path, observed: crate::engine::Observed::Absent });
        assert_eq!(announced(&mut engine, 61 * SECOND).map(|condition| condition.scanning), Some(false));
        assert!(is_in_sync(&mut engine));
    }

    #[test]
    fn a_machine_that_is_told_to_go_on_and_was_not_paused_stays_in_sync() {
        let mut engine = linked();
        receive(&mut engine, 1, Some(Condition::default()));
        assert_eq!(reports(engine.handle(at(2), Event::Pause(false))), []);
        assert!(is_in_sync(&mut engine) && !engine.condition().scanning);
    }

    #[test]
    fn a_peer_s_trouble_is_named_once_and_one_that_flaps_is_not_named_each_time() {
        let mut engine = linked();
        let clear = Condition::default();
        let held = |held_deletions| Condition { held_deletions, ..clear };
        assert_eq!(receive(&mut engine, 1, Some(held(7))), [stands(held(7))]);
        assert_eq!(receive(&mut engine, SECOND, Some(held(7))), []);
        assert_eq!(receive(&mut engine, 2 * SECOND, Some(held(9))), [], "more of the same");
        assert_eq!(receive(&mut engine, 3 * SECOND, Some(PAUSED)), [], "too soon");
        assert_eq!(engine.peers.next_naming(), Some(1 + SAY_OTHER_NS));
        assert_eq!(reports(engine.handle(at(1 + SAY_OTHER_NS), Event::Tick)), [stands(PAUSED)]);
        let goes_on = receive(&mut engine, 2 + 2 * SAY_OTHER_NS, Some(Condition { missing: 4, ..clear }));
        assert_eq!(goes_on, [stands(clear)]);
        let in_sync = Report::InSync { peer: "b".into(), paths: 0 };
        assert_eq!(receive(&mut engine, 3 + 2 * SAY_OTHER_NS, Some(clear)), [in_sync], "again, after the trouble");
    }
}
