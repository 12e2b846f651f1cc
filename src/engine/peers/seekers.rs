//! Who seeks which content, and which of its chunks have come here.
//!
//! Deliberately not here: what is asked of whom (`transfer/chunks.rs`).

use crate::engine::api::event::LinkId;
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{CHUNKED_BYTES, SOUGHT_CONTENTS};
use crate::engine::peers::Peers;
use crate::model::{Chunks, ContentId, DeviceId};
use crate::wire::message::Message;

impl Peers {
    /// A peer seeks chunks of a content.
    pub(in crate::engine) fn begin_seek(&mut self, link: LinkId, content: ContentId) {
        self.end_seek(link, content);
        if let Some(session) = self.sessions.get_mut(&link) {
            session.seeks.push_back(content);
            if session.seeks.len() > SOUGHT_CONTENTS {
                session.seeks.pop_front();
            }
        }
    }

    fn end_seek(&mut self, link: LinkId, content: ContentId) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.seeks.retain(|sought| *sought != content);
        }
    }

    pub(in crate::engine) fn seekers(&self, content: &ContentId) -> Vec<LinkId> {
        self.links_where(|session| session.seeks.contains(content))
    }

    /// Which of how many machines that seek it this one is, by device: all that are linked with
    /// each other agree.
    pub(in crate::engine) fn turn<I: Index>(&self, core: &Core<I>, content: &ContentId) -> (u32, u32) {
        let seekers = self.seekers(content);
        let devices: Vec<DeviceId> = seekers.iter().filter_map(|link| self.device_of(*link)).collect();
        let before = devices.iter().filter(|device| **device < core.config.device).count();
        (before as u32, 1 + devices.len() as u32)
    }

    pub(in crate::engine) fn names_of(&self, links: &[LinkId]) -> Vec<String> {
        links.iter().filter_map(|link| self.name_of_link(*link)).collect()
    }

    /// A content is in the folder now.
    pub(in crate::engine) fn announce_whole<I: Index>(&mut self, core: &mut Core<I>, content: ContentId, size: u64) {
        if size < CHUNKED_BYTES {
            return;
        }
        let to = self.seekers(&content);
        for link in &to {
            self.end_seek(*link, content);
        }
        if !to.is_empty() {
            self.send(core, to, Message::Have { content, chunks: vec![(0, Chunks::of(size).count())] });
        }
    }
}
