//! The list of machines: what this one adds to it, tells of it and takes of it, and what follows
//! from a removal.
//!
//! A machine is listed by who invited it, and else by whoever sees first that it knows the secret.
//! Links tell each other all of the list when they come up, and then what is news; writers alone
//! are believed. What a removed machine changed is taken up to the counter that its removal names:
//! each machine raises that to what it had taken before it heard, so that all trees become equal.
//!
//! A new secret ends the run: nothing of a link that was proved with another goes on. Deliberately
//! not here: the value (`api/group.rs`), and the proofs of links (`io/net/greeting.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::group::{GroupState, is_invited_by};
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::MEMBERS_CAP;
use crate::engine::peers::Peers;
use crate::model::version::COUNTER_LIMIT;
use crate::model::{Capability, DeviceId, SecretBytes};
use crate::wire::features::MEMBERS;
use crate::wire::members::{HandOver, ListedMember, Removal, Roster};
use crate::wire::message::Message;

/// The list, and what of it is still to be told.
#[derive(Default)]
pub(in crate::engine) struct Membership {
    group: GroupState,
    /// Who told of it is not told again.
    news: Vec<(Option<LinkId>, Roster)>,
    /// It is to be stored, and the shell is to hear of it.
    changed: bool,
}

impl Membership {
    pub fn load(index: &impl Index) -> Self {
        Self { group: GroupState::load(index), changed: true, ..Self::default() }
    }

    fn note(&mut self, source: Option<LinkId>, mut news: Roster) {
        self.changed = true;
        let fits = |roster: &Roster| roster.members.len().max(roster.removals.len()) < MEMBERS_CAP;
        match self.news.last_mut().filter(|(last, roster)| *last == source && fits(roster)) {
            Some((_, roster)) => {
                roster.members.append(&mut news.members);
                roster.removals.append(&mut news.removals);
            }
            None => self.news.push((source, news)),
        }
    }
}

impl Peers {
    pub(in crate::engine) fn group(&self) -> &GroupState {
        &self.membership.group
    }

    fn list(&mut self, source: Option<LinkId>, member: &ListedMember) {
        if self.membership.group.list(member.clone()) {
            let members = self.membership.group.member(&member.device).cloned().into_iter().collect();
            self.membership.note(source, Roster { members, ..Roster::default() });
        }
    }

    /// This machine's own row, with its name as it is now.
    pub(in crate::engine) fn list_self<I: Index>(&mut self, core: &Core<I>, now: Now) {
        let (device, name) = (core.config.device, core.config.name.clone());
        if self.membership.group.member(&device).is_some() {
            self.membership.changed |= self.membership.group.rename(&device, &name);
            return;
        }
        let capability = if self.announces_nothing() { Capability::ReadOnly } else { Capability::Write };
        let added_ns = now.wall;
        self.list(None, &ListedMember { device, name, capability, added_by: device, added_ns, invited: false });
    }

    /// It proved on a link that it is a member.
    pub(super) fn list_seen<I: Index>(&mut self, core: &Core<I>, now: Now, link: LinkId) {
        let Some(session) = self.sessions.get(&link) else { return };
        let (device, name) = (session.device, session.name.clone());
        self.membership.changed |= self.membership.group.rename(&device, &name);
        let capability = if self.is_reader(link) { Capability::ReadOnly } else { Capability::Write };
        // What it has shown once, it can show again.
        if self.membership.group.member(&device).is_some_and(|known| known.capability <= capability) {
            return;
        }
        let (added_by, added_ns) = (core.config.device, now.wall);
        self.list(None, &ListedMember { device, name, capability, added_by, added_ns, invited: false });
    }

    /// Whether a change of a machine that was removed came after its removal.
    pub(super) fn is_of_removed(&self, author: &DeviceId, counter: u64) -> bool {
        self.membership.group.removal(author).is_some_and(|removal| counter > removal.counter)
    }

    /// Takes a machine off the list. Its link ends with this run, as all do.
    fn unlist<I: Index>(&mut self, core: &mut Core<I>, now: Now, source: Option<LinkId>, mut removal: Removal) {
        let device = removal.device;
        let is_new = self.membership.group.removal(&device).is_none();
        if is_new {
            removal.counter = removal.counter.max(self.counter_taken(core, &device)).min(COUNTER_LIMIT - 1);
        }
        if !self.membership.group.unlist(removal) {
            return;
        }
        let Some(removal) = self.membership.group.removal(&device).cloned() else { return };
        if is_new {
            self.forget_name(now, device);
            let (name, by) = (removal.name.clone(), self.name_of(core, &removal.removed_by));
            if !removal.left {
                core.out.push(Action::Report(Report::Removed { device: name, by }));
            }
        }
        self.membership.note(source, Roster { removals: vec![removal], ..Roster::default() });
    }

    /// Where there is no secret, it is listed anew if it comes back. With one it would be shut out
    /// of the next, by anyone's word and unseen: that is what a removal is for.
    pub(super) fn unlist_where_all_may_come_back(&mut self, device: DeviceId) {
        if self.membership.group.keys().is_none() {
            self.membership.changed |= self.membership.group.forget(&device);
        }
    }

    /// The linked machine has left the group, as it says itself.
    pub(super) fn list_without<I: Index>(&mut self, core: &mut Core<I>, now: Now, device: DeviceId) {
        let Some(member) = self.membership.group.member(&device).cloned() else { return };
        let (removed_by, removed_ns) = (device, now.wall);
        self.unlist(
            core,
            now,
            None,
            Removal { device, name: member.name, removed_by, removed_ns, left: true, counter: 0 },
        );
    }

    /// All of the list, to a link that just came up.
    pub(super) fn greet_with_members<I: Index>(&mut self, core: &mut Core<I>, link: LinkId) {
        if self.has_feature(link, MEMBERS) {
            self.send(core, vec![link], Message::Members(self.membership.group.roster()));
        }
    }

    /// Once a group of events, before the changes: a change may be one that is taken only because
    /// of what this says.
    pub(in crate::engine) fn send_members<I: Index>(&mut self, core: &mut Core<I>) {
        for (source, news) in std::mem::take(&mut self.membership.news) {
            let is_meant = |link: &LinkId| Some(*link) != source && self.has_feature(*link, MEMBERS);
            let to: Vec<_> = self.links().filter(is_meant).collect();
            if !to.is_empty() {
                self.send(core, to, Message::Members(news));
            }
        }
    }

    /// Once a group of events.
    pub(in crate::engine) fn store_members<I: Index>(&mut self, core: &mut Core<I>) {
        if std::mem::take(&mut self.membership.changed) {
            self.membership.group.store(&mut core.index);
            core.act(Action::Group(Box::new(self.membership.group.clone())));
        }
    }

    fn end_with_another_secret<I: Index>(&mut self, core: &mut Core<I>) {
        // What waits for the next tick would be lost.
        self.membership.changed = true;
        self.store_members(core);
        self.store_devices(core);
        core.act(Action::Rekey);
    }

    /// This machine let another in by an invitation.
    pub(in crate::engine) fn invited<I: Index>(
        &mut self,
        core: &Core<I>,
        now: Now,
        (device, name): (DeviceId, String),
        capability: Capability,
    ) {
        let added_by = core.config.device;
        self.list(None, &ListedMember { device, name, capability, added_by, added_ns: now.wall, invited: true });
    }

    /// A listed machine took another id, as its former key has signed.
    pub(in crate::engine) fn succeeded(&mut self, former: DeviceId, device: DeviceId) {
        if let Some(member) = self.membership.group.member(&former).cloned() {
            self.list(None, &ListedMember { device, ..member });
        }
    }

    pub(super) fn roster_came<I: Index>(&mut self, core: &mut Core<I>, now: Now, link: LinkId, roster: Roster) {
        let own = core.config.device;
        for removal in roster.removals {
            if removal.device == own {
                self.refuse_claim(core, now, link, "that this machine was removed, on a link that says otherwise");
            } else {
                self.unlist(core, now, Some(link), removal);
            }
        }
        for member in roster.members {
            // Whom this machine invited it knows itself.
            let known = self.membership.group.member(&member.device);
            if is_invited_by(&member, own) && !known.is_some_and(|known| is_invited_by(known, own)) {
                self.refuse_claim(core, now, link, "that this machine invited one that it did not");
                continue;
            }
            self.list(Some(link), &member);
        }
    }
}

impl<I: Index> Engine<I> {
    /// A person wants a new secret for the group, and a machine to be shut out by it.
    pub(in crate::engine) fn rotate(&mut self, now: Now, remove: Option<DeviceId>, fresh: SecretBytes) {
        let own = self.core.config.device;
        if remove == Some(own) {
            return;
        }
        let can_rotate = self.peers.membership.group.rotate(fresh);
        if let Some(device) = remove {
            self.forget_or_remove(now, device, can_rotate);
        }
        if can_rotate {
            self.core.out.push(Action::Report(Report::Rotated));
            self.peers.end_with_another_secret(&mut self.core);
        }
    }

    /// Where there is no secret to shut it out by, it is forgotten, and may come back.
    fn forget_or_remove(&mut self, now: Now, device: DeviceId, can_rotate: bool) {
        if !can_rotate {
            return self.peers.forget_device(&mut self.core, now, device);
        }
        let listed = self.peers.membership.group.member(&device).map(|member| member.name.clone());
        let name = listed.unwrap_or_else(|| self.peers.name_of(&self.core, &device));
        let removed_by = self.core.config.device;
        let removal = Removal { device, name, removed_by, removed_ns: now.wall, left: false, counter: 0 };
        self.peers.unlist(&mut self.core, now, None, removal);
    }

    /// A member handed its secret over, on a link that proved a former one.
    pub(in crate::engine) fn handed_over(&mut self, now: Now, from: String, given: &HandOver) {
        let own = self.core.config.device;
        let Some(mut next) = self.peers.membership.group.handed(own, given) else { return };
        let is_new = |removal: &&Removal| self.peers.membership.group.removal(&removal.device).is_none();
        let new: Vec<_> = given.roster.removals.iter().filter(is_new).map(|removal| removal.device).collect();
        for device in &new {
            let counter = self.peers.counter_taken(&self.core, device);
            if let Some(known) = next.removal(device).filter(|known| known.counter < counter).cloned() {
                next.unlist(Removal { counter, ..known });
            }
            self.peers.forget_name(now, *device);
        }
        self.peers.membership.group = next;
        self.core.out.push(Action::Report(Report::HandedOver { from }));
        self.peers.end_with_another_secret(&mut self.core);
    }
}

#[cfg(test)]
mod tests;
