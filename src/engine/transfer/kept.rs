//! Wanted contents that this machine's own history may have.
//!
//! Deliberately not here: what other machines keep (`past.rs`), and the files (`io/history`).

use crate::engine::Engine;
use crate::engine::api::action::Source;
use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::transfer::Transfer;
use crate::engine::transfer::wants::{Holder, KeptHere, Want};
use crate::model::{ContentId, SyncPath};
use crate::wire::message::Sought;

impl Transfer {
    /// History was asked.
    pub(in crate::engine) fn kept_found(&mut self, found: Vec<(Sought, Option<(String, Stat)>)>) {
        for (Sought { path, content, size, .. }, place) in found {
            let is_it = |want: &&mut Box<Want>| want.content == Some((content, size)) && want.kept == KeptHere::Asked;
            if let Some(want) = self.wants.by_path.get_mut(&path).filter(is_it) {
                want.kept = place.map_or(KeptHere::No, |(name, stat)| KeptHere::As(name, Box::new(stat)));
                self.wants.make_ready(&path);
            }
        }
    }
}

impl<I: Index> Engine<I> {
    /// What was at this very path within the last hour is in history here, unless it was this
    /// machine's user who did away with it; and so is what a peer was told to be there.
    pub(super) fn may_be_kept(&self, path: &SyncPath, row: &Row) -> KeptHere {
        let Some((content, _)) = row.head.file() else { return KeptHere::No };
        if let Some(located) = self.safety.promised(path, content) {
            return KeptHere::As(located.kept.clone(), Box::new(located.stat));
        }
        let was_here = self.safety.was_lately(path, &row.head.kind);
        match was_here {
            true => KeptHere::Perhaps,
            false if self.transfer.wants.loading => KeptHere::AtLast,
            false => KeptHere::No,
        }
    }

    /// Whether history here has a wanted content, or is asked for it first.
    pub(super) fn takes_from_history(
        &mut self,
        now: Now,
        path: &SyncPath,
        row: &Row,
        content: ContentId,
        size: u64,
    ) -> bool {
        let Some(want) = self.transfer.wants.by_path.get_mut(path) else { return false };
        match want.kept.clone() {
            KeptHere::No | KeptHere::AtLast => return false,
            KeptHere::As(name, _) if want.attempts.failed_copies.contains(&Holder::Kept(name.clone())) => {
                want.kept = KeptHere::No;
                return false;
            }
            KeptHere::As(kept, stat) => self.install(path, row, Source::Kept { kept, stat: *stat }),
            KeptHere::Perhaps => {
                want.kept = KeptHere::Asked;
                let mtime = row.head.mtime;
                self.transfer.wants.to_find.push(Sought { path: path.clone(), content, size, mtime });
                self.transfer.wait(now, path, None);
            }
            KeptHere::Asked => self.transfer.wait(now, path, None),
        }
        true
    }
}
