//! Machines that come by invitations, secrets that are replaced while cables are cut and machines
//! crash, and one that is removed and does not accept it.
//!
//! A link comes up between two machines whose secrets in force are the same; where one has the
//! other's as a former one, each hands over what it has, by the rules of the daemon
//! (`io/net/known_group.rs`). The removed machine has a copy of all that it knew. It shows its own
//! id and new ones, makes secrets of its own, and hands them to whoever has not heard of its
//! removal. Deliberately not here: proofs and packets (`tests/real/removing.rs`, `tests/hostile/`).

use super::ledger::NodeId;
use super::network::Network;
use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::world::{Happening, World};
use dirsyncd::engine::{Event, FreshSecret, GroupState, LinkId};
use dirsyncd::io::net::known_group::KnownGroup;
use dirsyncd::io::store::keys::reader_secret;
use dirsyncd::io::store::secret::Secret;
use dirsyncd::model::{
    Capability, DeviceId, Entry, FileTime, Keyring, Kind, Mode, SecretBytes, SyncPath, Version, VersionVector,
};
use dirsyncd::wire::features::{Features, MEMBERS};
use dirsyncd::wire::members::{HandOver, HandedKeys, ListedMember, Roster};
use dirsyncd::wire::message::{Change, Message};
use dirsyncd::wire::packet::HandedSecret;
use std::collections::BTreeSet;

/// Links with the removed machine are none of the network's.
const FIRST_OF_REMOVED: u64 = 1 << 40;
const REMOVED_DEVICE: DeviceId = DeviceId([0xdd; 32]);

/// What a machine has of its membership beside its index.
#[derive(Default)]
pub struct Standing {
    /// The file with the secret.
    pub file: Option<HandedSecret>,
    /// Who invited it, until its index says so.
    pub inviter: Option<ListedMember>,
    pub known: KnownGroup,
    pub group: GroupState,
    /// The ids that it had before.
    pub former: Vec<DeviceId>,
}

/// The machine that is removed: what it knew, and what it makes of that.
#[derive(Default)]
pub struct Outcast {
    keyring: Option<Keyring>,
    is_out: bool,
    counter: u64,
    links: u64,
}

impl Plan {
    /// Machines that lose no index, in any topology. In some seeds those at its ends may only read,
    /// and lie.
    pub fn with_membership(rng: &mut Rng) -> Self {
        let mut plan = if rng.chance(350) { Self::with_readers(rng) } else { Self::random(rng) };
        (plan.restores, plan.rollbacks, plan.lost_indexes) = (0, 0, 0);
        (plan.rots, plan.verifies, plan.undos, plan.decisions, plan.pattern_edits) = (0, 0, 0, 0, 0);
        (plan.rhythms, plan.modeless, plan.questions) = (Vec::new(), None, 0);
        plan.active_ns = plan.active_ns.max(10 * SECOND);
        plan.rotations = rng.between(1, 6);
        plan.removed_tries = if rng.chance(700) { rng.between(5, 60) } else { 0 };
        plan
    }
}

/// The readers' form of every secret that a machine knows: what a link can be proved with.
fn proofs(group: &GroupState) -> BTreeSet<SecretBytes> {
    match group.keys() {
        Some(HandedKeys::Writer(keyring)) => keyring.former().chain([&keyring.secret()]).map(reader_secret).collect(),
        Some(HandedKeys::Reader(keys)) => keys.former.iter().map(|(secret, _)| *secret).chain([keys.secret]).collect(),
        None => BTreeSet::new(),
    }
}

/// The secret in force, as a reader has it.
fn in_force(group: &GroupState) -> Option<SecretBytes> {
    match group.secret()? {
        HandedSecret::Writer(secret) => Some(reader_secret(&secret)),
        HandedSecret::Reader { secret, .. } => Some(secret),
    }
}

fn keyring(group: &GroupState) -> Option<&Keyring> {
    if let Some(HandedKeys::Writer(keyring)) = group.keys() { Some(keyring) } else { None }
}

impl World {
    pub fn has_membership(&self) -> bool {
        self.plan.rotations > 0
    }

    /// What the machines of this world name on links.
    pub fn features(&self) -> Features {
        let ours = Features::ours().names().into_iter();
        let named = ours.filter(|name| name != MEMBERS || self.has_membership()).collect();
        Features::checked(named).expect("a part of ours")
    }

    pub fn plan_membership(&mut self) {
        let active = self.plan.active_ns;
        for _ in 0..self.plan.rotations {
            let node = self.own.index(self.nodes.len());
            let at = self.own.below(active + 1);
            self.after(at, Happening::Rotate(node));
        }
        for _ in 0..self.plan.removed_tries {
            let at = self.own.below(active + 1);
            self.after(at, Happening::RemovedTries);
        }
    }

    /// Whether it has a secret to begin with; the first machine makes one, the others are invited.
    pub fn is_member(&mut self, node: NodeId) -> bool {
        if !self.has_membership() || self.nodes[node].standing.file.is_some() {
            return true;
        }
        if node == 0 {
            self.nodes[0].standing.file = Some(HandedSecret::Writer([1; 32]));
            return true;
        }
        let pairs = self.net.pairs_of(node);
        let others = pairs.into_iter().flat_map(|pair| self.net.ends_of_pair(pair)).filter(|other| *other != node);
        let capability = self.capability_of(node);
        // A reader can let in readers alone.
        let others = others.filter(|other| self.capability_of(*other) <= capability);
        let inviters: Vec<_> = others.filter(|other| self.nodes[*other].is_up() && !self.is_asleep(*other)).collect();
        let Some(inviter) = inviters.first().copied() else {
            self.after(SECOND, Happening::Start(node));
            return false;
        };
        let (device, name) = (self.nodes[node].device, format!("n{node}"));
        let group = &self.nodes[inviter].standing.group;
        let Some(secret) = group.secret().filter(|_| group.member(&device).is_some()) else {
            // The inviter hands the secret over once the list with the joiner is durable.
            self.tell(inviter, Event::Invited { device, name, capability });
            self.after(SECOND, Happening::Start(node));
            return false;
        };
        let secret = Secret::from_member(&secret).to_joiner(capability).expect("as much as the inviter has");
        self.trace.note(self.now, format_args!("n{inviter} invites n{node}"));
        let device = self.nodes[inviter].device;
        let (name, now) = (format!("n{inviter}"), self.nodes[node].wall(self.now));
        let of_inviter = self.capability_of(inviter);
        let standing = &mut self.nodes[node].standing;
        standing.file = Some(secret);
        standing.inviter = Some(ListedMember {
            device,
            name,

            capability: of_inviter,
            added_by: device,
            added_ns: now,
            invited: false,
        });
        true
    }

    pub fn group_known(&mut self, node: NodeId, group: GroupState) {
        self.removed.is_out |= group.removal(&REMOVED_DEVICE).is_some();
        let standing = &mut self.nodes[node].standing;
        standing.known.set(group.clone());
        standing.group = group;
    }

    /// The daemon begins anew with what its index says.
    pub fn rekey(&mut self, node: NodeId) {
        if self.nodes[node].is_up() {
            self.crash(node, false);
            self.start(node);
        }
    }

    pub fn rotate(&mut self, node: NodeId) {
        if !self.nodes[node].is_up() || self.is_reader(node) {
            return;
        }
        let fresh = std::array::from_fn(|_| self.own.below(256) as u8);
        let remove = (self.removed.keyring.is_some() && self.own.chance(600)).then_some(REMOVED_DEVICE);
        self.tell(node, Event::Rotate { remove, fresh: FreshSecret(fresh) });
    }

    /// Whether a link may come up between the ends of a pair; if not, they hand over what they have
    /// if they may, and try again.
    pub fn meets(&mut self, pair: usize, [a, b]: [NodeId; 2]) -> bool {
        if !self.has_membership() {
            return true;
        }
        let [one, other] = [a, b].map(|node| &self.nodes[node].standing);
        let [one_device, other_device] = [a, b].map(|node| self.nodes[node].device);
        if in_force(&one.group).is_some() && in_force(&one.group) == in_force(&other.group) {
            return !one.known.is_removed(&other_device) && !other.known.is_removed(&one_device);
        }
        let is_proved = !proofs(&one.group).is_disjoint(&proofs(&other.group));
        let is_listed = one.known.listed_as(other_device, &other.former).is_ok()
            && other.known.listed_as(one_device, &one.former).is_ok();
        let given = [other.known.hand_over(self.capability_of(a)), one.known.hand_over(self.capability_of(b))];
        self.after(SECOND, Happening::Connect { pair });
        if !is_proved || !is_listed {
            return false;
        }
        for ((node, from), given) in [(a, b), (b, a)].into_iter().zip(given) {
            // Now and then the cable is cut between the two.
            if let Some(given) = given.filter(|_| !self.own.chance(200)) {
                self.tell(
                    node,
                    Event::HandedOver {
                        from: format!("n{from}"),
                        capability: self.capability_of(from),
                        given: Box::new(given),
                    },
                );
            }
        }
        false
    }

    // The removed machine.

    pub fn is_with_removed(link: LinkId) -> bool {
        link.0 >= FIRST_OF_REMOVED
    }

    /// It tries to reach some machine, by whatever it knows.
    pub fn removed_tries(&mut self) {
        let up: Vec<_> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let node = *self.own.pick(&up);
        let Some(theirs) = keyring(&self.nodes[node].standing.group).cloned() else { return };
        if self.removed.keyring.is_none() && !self.removed.is_out {
            self.removed.keyring = Some(theirs.clone());
        }
        let Some(mut ours) = self.removed.keyring.clone() else { return };
        if self.own.chance(200) && self.removed.is_out {
            ours.rotate(std::array::from_fn(|_| self.own.below(256) as u8));
        }
        // Until it is removed it is a member like any.
        let ids = if self.removed.is_out { 4 } else { 1 };
        let mut device = REMOVED_DEVICE;
        device.0[1] -= self.own.index(ids) as u8;
        let known = &self.nodes[node].standing.known;
        if theirs.secret() == ours.secret() {
            if !known.is_removed(&device) {
                self.removed_links(node, device);
            }
        } else if theirs.former().chain([&theirs.secret()]).any(|secret| ours.knows(secret)) {
            // It has not heard, or took a list of the removed machine's before it heard.
            if known.listed_as(device, &[]).is_ok() {
                let given = Box::new(HandOver { keys: HandedKeys::Writer(ours.clone()), roster: self.lies_of(node) });
                self.tell(node, Event::HandedOver { from: "removed".into(), capability: Capability::Write, given });
                ours = ours.join(&theirs).unwrap_or(ours);
            }
        }
        self.removed.keyring = Some(ours);
    }

    /// A list that has its new ids on it, as if others had invited them.
    fn lies_of(&self, node: NodeId) -> Roster {
        let mut roster = self.nodes[node].standing.group.roster();
        for n in (0..4_u8).filter(|_| self.removed.is_out) {
            let mut device = REMOVED_DEVICE;
            device.0[1] -= n;
            let (name, added_by) = (format!("removed-{n}"), self.nodes[node].device);
            let (added_ns, capability) = (1, Capability::Write);
            roster.members.push(ListedMember { device, name, capability, added_by, added_ns, invited: true });
        }
        roster
    }

    fn removed_links(&mut self, node: NodeId, device: DeviceId) {
        self.removed.links += 1;
        let link = LinkId(FIRST_OF_REMOVED + self.removed.links);
        self.trace.note(self.now, format_args!("the removed machine links with n{node} as {device:?}"));
        let (name, features) = ("removed".to_owned(), self.features());
        self.tell(node, Event::LinkUp { link, device, name, dialler: true, features, capability: Capability::Write });
        let say = |world: &mut Self, message| {
            world.tell(node, Event::Message { link, message, wire_bytes: 1 });
        };
        say(self, Message::Known { counter: 0 });
        if self.removed.is_out {
            let lies = self.lies_of(node);
            say(self, Message::Members(lies));
        }
        self.removed.counter += 1;
        let seen = VersionVector::default().with(device, self.removed.counter);
        let version = Version { stamp: self.nodes[node].wall(self.now), author: device, seen };
        let entry = Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version };
        let path = SyncPath::new(format!("removed-{}", self.own.below(4))).expect("a plain name");
        let changes = vec![Change { path, entry, body: None }];
        say(self, Message::Changes { changes, relayed_to: Vec::new() });
        let delay = self.own.between(MS, 2 * SECOND);
        let life = self.nodes[node].life;
        self.after(delay, Happening::RemovedLeaves { node, life, link });
    }

    pub fn removed_leaves(&mut self, node: NodeId, life: u32, link: LinkId) {
        if self.nodes[node].is_up() && self.nodes[node].life == life {
            self.tell(node, Event::LinkDown { link });
        }
    }

    // In the end.

    /// All have one secret, which the removed machine does not know, one list of removals, and a
    /// link where one can be.
    pub fn check_membership(&self) -> Result<(), String> {
        if !self.has_membership() {
            return Ok(());
        }
        let groups: Vec<&GroupState> = self.nodes.iter().map(|node| &node.standing.group).collect();
        let secret = groups[0].secret();
        for (node, group) in groups.iter().enumerate() {
            if in_force(group) != in_force(groups[0]) {
                return Err(format!("n{node} has another secret than n0: {:?}, {:?}", group.keys(), groups[0].keys()));
            }
            if group.roster().removals != groups[0].roster().removals {
                return Err(format!("n{node} and n0 know other removals"));
            }
            if self.removed.is_out && group.removal(&REMOVED_DEVICE).is_none() {
                return Err(format!("n{node} has not heard of the removal"));
            }
            let counter = group.removal(&REMOVED_DEVICE).map_or(u64::MAX, |removal| removal.counter);
            let rows = self.nodes[node].durable.rows.values().map(|row| &row.head.version);
            if rows.into_iter().any(|version| version.author == REMOVED_DEVICE && version.counter() > counter) {
                return Err(format!("n{node} took what the removed machine changed after its removal"));
            }
            for other in &self.nodes {
                if group.member(&other.device).is_none() {
                    return Err(format!("n{node} has not listed {}", other.device));
                }
            }
        }
        let knows = |keyring: &Keyring| matches!(secret, Some(HandedSecret::Writer(secret)) if keyring.knows(&secret));
        if self.removed.is_out && self.removed.keyring.as_ref().is_some_and(knows) {
            return Err("the removed machine knows the secret".to_owned());
        }
        match self.net.pair_without_link() {
            Some(ends) => Err(format!("{ends:?} are not linked")),
            None => Ok(()),
        }
    }
}

impl Network {
    pub fn ends_of_pair(&self, pair: usize) -> [NodeId; 2] {
        self.pairs[pair].ends
    }

    fn pair_without_link(&self) -> Option<[NodeId; 2]> {
        self.pairs.iter().find(|pair| pair.link.is_none()).map(|pair| pair.ends)
    }
}
