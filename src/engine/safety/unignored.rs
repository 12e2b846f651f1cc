//! What a peer's change of the ignore file newly uncovers here waits for a person.
//!
//! The patterns that were in force here go on covering until it is known that nothing here would be
//! announced to others that was not before, or until someone confirms. A change that was made here
//! is its user's own will. Deliberately not here: what patterns mean (`ignore.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::Now;
use crate::engine::api::ignore::Ignore;
use crate::engine::api::index::{Index, Row};
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::limits::{IGNORE_FILE_BYTES, PATTERNS_AGAIN_NS};
use crate::engine::safety::Safety;
use crate::model::path::IGNORE_FILE;
use crate::model::{ContentId, Entry, SyncPath};

/// The text of the patterns that are wholly in force here.
pub const META_BELIEVED: &str = "ignore.believed";

#[derive(Default)]
pub(in crate::engine) struct NewlyUnignored {
    /// The text that was read last.
    text: Vec<u8>,
    /// What was in force before, and is so still.
    pub before: Option<Ignore>,
    /// Walks that began earlier do not tell what is uncovered.
    first_walk: u64,
    /// Paths here that the last walk found to be covered by those alone.
    pub paths: u64,
    unread: Option<UnreadPatterns>,
    /// It was asked for, and has not come yet.
    pub is_reading: bool,
}

/// The file is there and gave no patterns.
struct UnreadPatterns {
    problem: Problem,
    /// When it is read again, by `Now::mono`.
    due: u64,
    /// None were ever in force here, as far as the index knows.
    is_first: bool,
}

impl NewlyUnignored {
    pub fn next_reading(&self) -> Option<u64> {
        self.unread.as_ref().map(|unread| unread.due)
    }

    /// Whether it is not known what is covered.
    pub fn awaits_patterns(&self) -> bool {
        self.unread.as_ref().is_some_and(|unread| unread.is_first)
    }
}

impl Safety {
    pub(in crate::engine) fn read_patterns<I: Index>(&mut self, core: &mut Core<I>) {
        self.unignored.is_reading = true;
        core.act(Action::ReadIgnore);
    }

    /// There is a file that cannot be used, whatever it says.
    pub(in crate::engine) fn patterns_are_unread<I: Index>(&mut self, core: &mut Core<I>, now: Now, why: &str) {
        let is_first = core.index.meta(META_BELIEVED).is_none();
        let problem = Problem::NoPatterns { why: why.to_owned(), nothing_known: is_first };
        if self.unignored.unread.as_ref().is_none_or(|known| known.problem != problem) {
            let path = SyncPath::new(IGNORE_FILE).ok();
            core.out.push(Action::Report(Report::Problem { path, problem: problem.clone() }));
        }
        self.unignored.unread = Some(UnreadPatterns { problem, due: now.mono + PATTERNS_AGAIN_NS, is_first });
    }

    pub(in crate::engine) fn patterns_are_read<I: Index>(&mut self, core: &mut Core<I>) {
        if self.unignored.unread.take().is_some() {
            core.out.push(Action::Report(Report::Solved { path: SyncPath::new(IGNORE_FILE).ok() }));
        }
    }

    pub(in crate::engine) fn reread_patterns<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        if let Some(unread) = &mut self.unignored.unread
            && unread.due <= now.mono
        {
            unread.due = now.mono + PATTERNS_AGAIN_NS;
            self.read_patterns(core);
        }
    }

    /// For the status.
    pub(in crate::engine) fn unread_patterns(&self) -> impl Iterator<Item = (SyncPath, Problem)> {
        let path = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
        self.unignored.unread.iter().map(move |unread| (path.clone(), unread.problem.clone()))
    }

    /// The ignore file is not there, and the index never knew it to be: patterns that were read are
    /// those of nobody any more.
    pub(in crate::engine) fn patterns_are_gone<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
        let is_known = || core.index.get(path).is_some_and(|row| row.live_on_disk().is_some());
        if path.as_bytes() == IGNORE_FILE.as_bytes() && !self.unignored.text.is_empty() && !is_known() {
            self.read_patterns(core);
        }
    }

    /// All patterns are as the file says.
    fn believe_patterns<I: Index>(&mut self, core: &mut Core<I>) {
        self.unignored.before = None;
        self.unignored.paths = 0;
        let text = std::mem::take(&mut self.unignored.text);
        core.index.set_meta(META_BELIEVED, &text);
        self.unignored.text = text;
    }
}

impl<I: Index> Core<I> {
    /// What the last run went by.
    pub(in crate::engine) fn believed_patterns(&self) -> Ignore {
        self.index.meta(META_BELIEVED).map(|text| Ignore::parse(&text).0).unwrap_or_default()
    }
}

impl<I: Index> Engine<I> {
    /// Whether the path is not synced.
    pub(in crate::engine) fn ignores(&self, path: &SyncPath, is_dir: bool) -> bool {
        self.observe.patterns().ignores(path, is_dir) || self.is_newly_unignored(path, is_dir)
    }

    /// Whether a user is writing the patterns, or they are being read: what appears meanwhile may
    /// be covered.
    pub(in crate::engine) fn patterns_change(&self) -> bool {
        let path = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
        self.safety.unignored.is_reading || self.observe.is_unsettled(&path)
    }

    /// Whether only patterns cover it that a peer took away.
    pub(in crate::engine) fn is_newly_unignored(&self, path: &SyncPath, is_dir: bool) -> bool {
        self.safety
            .unignored
            .before
            .as_ref()
            .is_some_and(|before| before.ignores(path, is_dir) && !self.observe.patterns().ignores(path, is_dir))
    }

    /// What peers have under a name that they uncovered may come where nothing is known to be here:
    /// it tells nobody anything.
    pub(in crate::engine) fn may_come(&self, path: &SyncPath, is_dir: bool, row: &Row) -> bool {
        self.is_newly_unignored(path, is_dir) && row.live_on_disk().is_none() && self.patterns_are_whole()
    }

    /// Whether what was read is what somebody wrote: a power cut may have left this of it, which
    /// takes nothing away (P5).
    pub(in crate::engine) fn patterns_are_whole(&self) -> bool {
        let path = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
        let Some(row) = self.core.index.get(&path) else { return true };
        let is_winner = match row.head.file() {
            Some((_, size)) if size > IGNORE_FILE_BYTES => row.is_settled(),
            Some((content, _)) => content == ContentId::of(&self.safety.unignored.text),
            None => self.safety.unignored.text.is_empty(),
        };
        !self.observe.is_torn(&path) && (!self.observe.is_after_power_cut() || is_winner)
    }

    /// The ignore file was read, and a whole walk follows.
    pub(in crate::engine) fn patterns_came(&mut self, text: &[u8]) {
        text.clone_into(&mut self.safety.unignored.text);
        self.safety.unignored.first_walk = self.observe.next_walk_id();
        let believed = self.core.index.meta(META_BELIEVED);
        match believed {
            Some(before) if before != text && self.core.role.announces() && !self.is_own_patterns(text) => {
                self.safety.unignored.before = Some(Ignore::parse(&before).0);
            }
            _ => self.safety.believe_patterns(&mut self.core),
        }
    }

    /// Whether a user of this machine wrote them, as far as the index knows.
    fn is_own_patterns(&self, text: &[u8]) -> bool {
        let path = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
        if self.transfer.is_busy(&path) {
            return false;
        }
        let Some(row) = self.core.index.get(&path).filter(|row| !row.is_local()) else { return true };
        if self.observe.is_after_power_cut()
            && row.head.file().is_none_or(|(content, _)| content != ContentId::of(text))
        {
            // A power cut may have left this of it: the inspection that comes knows (P5).
            return false;
        }
        let is_peers = |entry: &Entry| entry.version.author != self.core.config.device;
        if text.is_empty() && row.live_on_disk().is_none() {
            return !is_peers(&row.head);
        }
        let content = ContentId::of(text);
        let known = [Some(&row.head), row.disk.as_ref().map(|disk| &disk.entry), row.installing.as_ref()];
        !known.into_iter().flatten().any(|entry| entry.file().is_some_and(|(c, _)| c == content) && is_peers(entry))
    }

    /// A whole walk came by so many paths that are uncovered, and were not synced before.
    pub(in crate::engine) fn unignored_found(&mut self, now: Now, walk: u64, paths: u64) {
        if self.safety.unignored.before.is_none()
            || walk < self.safety.unignored.first_walk
            || !self.patterns_are_whole()
        {
            return;
        }
        if paths == 0 {
            // Nothing of this machine's comes to light: what peers have under these names may come.
            // What users did to what was synced once, and covered since, was passed by.
            self.safety.believe_patterns(&mut self.core);
            self.observe.wake_rehashes(now);
            self.want_unsettled(now);
            return self.walk_all(now);
        }
        if self.safety.unignored.paths != paths {
            self.safety.unignored.paths = paths;
            self.core.out.push(Action::Report(Report::HeldUnignored { paths }));
        }
    }

    /// A person says that they may be synced; a whole walk follows.
    pub(super) fn confirm_patterns(&mut self, now: Now) {
        if self.safety.unignored.before.is_some() {
            self.safety.believe_patterns(&mut self.core);
            self.observe.wake_rehashes(now);
            self.want_unsettled(now);
        }
    }
}
