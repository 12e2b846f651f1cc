//! Users who edit `.dirsyncignore`, and what that covers: neither told, nor replaced, nor deleted
//! by peers.
//!
//! Deliberately not here: what patterns mean (`engine::ignore`), and when they are believed
//! (`engine::safety::unignored`).

use super::bugs::Bug;
use super::ledger::NodeId;
use super::node::Node;
use super::plan::SECOND;
use super::rng::Rng;
use super::tree::{Body, Data};
use super::users::{Op, path};
use super::world::World;
use dirsyncd::engine::api::ignore::Ignore;
use dirsyncd::engine::{Action, Event};
use dirsyncd::model::SyncPath;
use dirsyncd::model::path::IGNORE_FILE;

/// Whole names in the root, so that no folder holds both what is covered and what is not.
const PATTERNS: [&str; 4] = ["/b", "/c", "/e", "/f"];
/// Until everything is fetched, and news has been told (ns).
const LONG_ENOUGH_NS: u64 = 60 * SECOND;
const ROUNDS: usize = 3;

/// Other patterns than before, or none any more.
fn edit(rng: &mut Rng, fresh: &Data) -> Op {
    let path = path(IGNORE_FILE);
    if rng.chance(200) {
        return Op::Remove { path };
    }
    let mut text = [b"# ", &fresh.text[..], b"\n"].concat();
    for pattern in PATTERNS {
        if rng.chance(400) {
            text.extend([pattern.as_bytes(), b"\n"].concat());
        }
    }
    let data = Data::small(text);
    if rng.chance(300) { Op::Write { path, data } } else { Op::Save { path, data, mtime: None } }
}

impl Node {
    /// What the file says now.
    pub fn patterns_text(&self) -> Option<Vec<u8>> {
        let (_, inode) = self.disk.live.get(&path(IGNORE_FILE))?;
        let Body::File(data) = &inode.body else { return None };
        // What stands for the padding is what it counts as in the content id: the text is told
        // apart from others as the file is.
        let padding = if data.padding > 0 { data.padding.to_be_bytes().to_vec() } else { Vec::new() };
        Some([&data.text[..], &padding].concat())
    }

    /// Whether the patterns cover a path that were read last, by this run or the one before, and
    /// those that are there now.
    pub fn is_covered(&self, path: &SyncPath, is_torn: bool) -> bool {
        let now = || Ignore::parse(&self.patterns_text().unwrap_or_default()).0;
        self.in_force.ignores(path, true) && (is_torn || now().ignores(path, true))
    }
}

impl World {
    pub fn edit_patterns(&mut self, node: NodeId) {
        if self.nodes[node].is_restored || self.now < self.nodes[node].dark_until {
            return;
        }
        let fresh = self.fresh(node);
        let op = edit(&mut self.rng, &fresh);
        self.user_does(node, &op);
    }

    /// The bytes of the patterns' file, for the engine.
    pub fn read_patterns(&mut self, node: NodeId) -> Option<Vec<u8>> {
        let now = self.nodes[node].patterns_text();
        if self.has(Bug::ReadsPatternsOnce) {
            return Some(self.nodes[node].first_patterns.get_or_insert(now.unwrap_or_default()).clone());
        }
        now
    }

    /// The engine was told of the patterns: the walker goes by them from its next folder on.
    pub fn patterns_were_read(&mut self, node: NodeId) {
        let is_torn = self.is_torn(node);
        let stays = self.has(Bug::WalksByOldPatterns) && self.nodes[node].was_walked;
        let here = &mut self.nodes[node];
        let Some(engine) = &here.engine else { return };
        if !stays {
            here.ignored = engine.ignore().clone();
        }
        here.was_walked = true;
        // What a power cut left of the file is nobody's patterns.
        if !is_torn {
            here.in_force = engine.ignore().clone();
        }
        let in_force = here.in_force.clone();
        self.ledger.unignored(node, |path| !in_force.ignores(path, true));
    }

    fn is_torn(&self, node: NodeId) -> bool {
        self.ledger.torn.contains_key(&(node, path(IGNORE_FILE)))
    }

    /// Whether what a user does there is none of anyone's.
    pub fn is_covered(&self, node: NodeId, path: &SyncPath) -> bool {
        self.plan.pattern_edits > 0 && self.nodes[node].is_covered(path, self.is_torn(node))
    }

    /// What is covered is neither replaced nor deleted.
    pub fn check_unignored(&mut self, node: NodeId, actions: &[Action]) {
        if self.plan.pattern_edits == 0 {
            return;
        }
        let install = |action: &Action| if let Action::Install(job) = action { Some(job.path.clone()) } else { None };
        let covered = actions.iter().filter_map(install).find(|path| self.is_covered(node, path));
        if let Some(path) = covered {
            self.fail(format!("n{node} installs {path:?}, which is covered"));
        }
    }

    /// Somebody at each machine says that what a peer uncovered may be synced.
    pub fn settle_patterns(&mut self) {
        for _ in 0..ROUNDS {
            self.run_for(LONG_ENOUGH_NS);
            let mut confirmed = 0;
            for node in 0..self.nodes.len() {
                let engine = self.nodes[node].engine.as_mut();
                if engine.is_some_and(|engine| engine.status().held_unignored > 0) {
                    self.tell(node, Event::Confirm);
                    confirmed += 1;
                }
            }
            if self.broken.is_some() || confirmed == 0 {
                return;
            }
        }
    }

    /// The patterns in force are those of the file.
    pub fn check_patterns(&self, node: NodeId) -> Result<(), String> {
        let here = &self.nodes[node];
        let (said, _) = Ignore::parse(&here.patterns_text().unwrap_or_default());
        let differs = |pattern: &&&str| {
            let path = path(pattern.trim_start_matches('/'));
            here.engine
                .as_ref()
                .is_some_and(|engine| engine.ignore().ignores(&path, false) != said.ignores(&path, false))
        };
        match PATTERNS.iter().find(differs) {
            Some(pattern) => Err(format!("n{node} does not go by what {IGNORE_FILE} says of {pattern}")),
            None => Ok(()),
        }
    }
}
