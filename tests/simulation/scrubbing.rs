//! How the simulated shell hashes a file once more, and keeps the bytes of a suspect one.
//!
//! Deliberately not here: bytes that rot, and people who decide (`rot`).

use super::bugs::Bug;
use super::ledger::NodeId;
use super::shell::Step;
use super::tree::{Body, Inode};
use super::world::World;
use dirsyncd::engine::{Cause, Event, Scrubbed, Stat, Trouble};
use dirsyncd::model::{ContentId, SyncPath};

impl World {
    pub fn scrub(&mut self, node: NodeId, path: SyncPath, known: Stat) {
        let tell = |world: &mut Self, path, outcome| {
            world.tell(node, Event::Scrubbed { path, stat: known, outcome });
        };
        if self.rng.chance(self.plan.blind_permille) {
            let trouble = Trouble { cause: Cause::Other, text: "it cannot be opened".to_owned() };
            return tell(self, path, Scrubbed::Failed(trouble));
        }
        let here = &mut self.nodes[node];
        let found = here.disk.live.get(&path).filter(|(ino, inode)| inode.stat(*ino) == known);
        let Some((ino, Body::File(data))) = found.map(|(ino, inode)| (ino, &inode.body)) else {
            return tell(self, path, Scrubbed::Moved);
        };
        let content = data.content();
        let claimed = here.durable.rows.get(&path).and_then(|row| row.disk.as_ref()).and_then(|disk| disk.entry.file());
        let is_right = claimed.is_some_and(|(claimed, _)| claimed == content);
        match self.bug {
            Some(Bug::TakesRotForAnEdit) if !is_right => {
                let now = self.nodes[node].file_time(self.now);
                self.nodes[node].disk.change(|tree| {
                    let inode = tree.edit(ino);
                    (inode.mtime, inode.ctime) = (now, now);
                });
                return tell(self, path, Scrubbed::Moved);
            }
            Some(Bug::ScrubsTheCache) => {
                let content = claimed.map_or(content, |(claimed, _)| claimed);
                return self.step_soon(node, self.plan.disk_ns, Step::ScrubEnd { path, known, content });
            }
            _ => {}
        }
        let content = if self.rng.chance(self.plan.misread_permille) { ContentId::of(b"misread") } else { content };
        self.step_soon(node, self.plan.disk_ns, Step::ScrubEnd { path, known, content });
    }

    pub fn scrub_end(&mut self, node: NodeId, path: SyncPath, known: Stat, content: ContentId) {
        let is_same = self.nodes[node].disk.live.stat(&path) == Some(known);
        let outcome = if is_same { Scrubbed::Read(content) } else { Scrubbed::Moved };
        self.tell(node, Event::Scrubbed { path, stat: known, outcome });
    }

    pub fn keep_suspect(&mut self, node: NodeId, path: &SyncPath, stat: Stat) {
        let now = self.now;
        let disk = &mut self.nodes[node].disk;
        let Some((ino, inode)) = disk.live.get(path).map(|(ino, inode)| (ino, Inode::clone(inode))) else { return };
        if inode.stat(ino) == stat {
            let copy = disk.change(|tree| {
                let copy = tree.add(inode);
                tree.history.insert(format!("{path}@suspect-{now}"), copy);
                copy
            });
            disk.flush(copy.0);
        }
    }
}
