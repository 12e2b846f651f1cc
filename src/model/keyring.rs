//! The secrets of a group: the one in force, and those before it.
//!
//! A rotation draws a new secret that takes the place of all before it. Two parts of a group that
//! each rotated apart have two secrets of which neither takes the place of the other. When they
//! meet, the secret in force is made of both: so what only one part drew opens nothing any more,
//! also not to whoever made the other part rotate. Joining two keyrings gives the same, whoever
//! does it and in whatever order. Deliberately not here: who may be handed one, and files.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

pub const SECRET_BYTES: usize = 32;
/// The secret of a group, or what a reader has of it.
pub type SecretBytes = [u8; SECRET_BYTES];

/// Parts of a group that rotated apart and have not all met yet, at most.
const IN_FORCE_CAP: usize = 16;
/// Secrets before the one in force that are kept, at most: a machine that slept through more
/// rotations than this has to be invited again.
const FORMER_CAP: usize = 1024;
const JOINED_CONTEXT: &str = "dirsyncd 2026 secret of parts that rotated apart v1";

/// What every writer has. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// Drawn by rotations, and not replaced by another: one, but where parts rotated apart.
    drawn: BTreeSet<SecretBytes>,
    /// Those that are replaced, the newest first.
    former: Vec<SecretBytes>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} in force, {} former)", self.drawn.len(), self.former.len())
    }
}

impl Keyring {
    pub fn new(secret: SecretBytes) -> Self {
        Self { drawn: BTreeSet::from([secret]), former: Vec::new() }
    }

    /// The secret in force.
    pub fn secret(&self) -> SecretBytes {
        if let (1, Some(only)) = (self.drawn.len(), self.drawn.first()) {
            return *only;
        }
        let all: Vec<u8> = self.drawn.iter().flatten().copied().collect();
        blake3::derive_key(JOINED_CONTEXT, &all)
    }

    /// Those before it, the newest first, and those that others brought last. Of several that were
    /// drawn apart, each was in force in one part.
    pub fn former(&self) -> impl Iterator<Item = &SecretBytes> {
        let apart = self.drawn.iter().filter(|_| self.drawn.len() > 1);
        apart.chain(&self.former)
    }

    /// Whether it is in force here, or was.
    pub fn knows(&self, secret: &SecretBytes) -> bool {
        self.secret() == *secret || self.former().any(|former| former == secret)
    }

    /// A new secret takes the place of all before it.
    pub fn rotate(&mut self, fresh: SecretBytes) {
        let before = std::mem::take(&mut self.drawn);
        let in_force = Self { drawn: before.clone(), former: Vec::new() }.secret();
        self.drawn.insert(fresh);
        self.replace(before.into_iter().chain([in_force]));
    }

    /// The keyring of both. `None`: they cannot be one, since more parts rotated apart than are
    /// kept, or each says that the other's secret was replaced.
    pub fn join(&self, other: &Self) -> Option<Self> {
        let mut joined = self.clone();
        joined.drawn.extend(&other.drawn);
        // Behind our own: whatever comes in, no former secret of ours makes room for it.
        for secret in &other.former {
            if !joined.former.contains(secret) {
                joined.former.push(*secret);
            }
        }
        joined.former.truncate(FORMER_CAP);
        // A secret made of several stands for them: who was invited while it was in force has it
        // alone.
        for part in [self, other].into_iter().filter(|part| part.drawn.len() > 1) {
            joined.replace([part.secret()]);
        }
        let former: BTreeSet<_> = joined.former.iter().collect();
        joined.drawn.retain(|secret| !former.contains(secret));
        let in_force = joined.secret();
        joined.replace([self.secret(), other.secret()].into_iter().filter(|secret| *secret != in_force));
        let still: BTreeSet<_> = joined.drawn.clone();
        joined.former.retain(|secret| !still.contains(secret) && *secret != in_force);
        (1..=IN_FORCE_CAP).contains(&joined.drawn.len()).then_some(joined)
    }

    /// Whether this one has all that the other has.
    pub fn includes(&self, other: &Self) -> bool {
        self.join(other).is_some_and(|joined| joined.drawn == self.drawn)
    }

    /// Whether the counts are what a keyring may have.
    pub fn is_sound(&self) -> bool {
        (1..=IN_FORCE_CAP).contains(&self.drawn.len()) && self.former.len() <= FORMER_CAP
    }

    fn replace(&mut self, secrets: impl IntoIterator<Item = SecretBytes>) {
        for secret in secrets {
            if !self.former.contains(&secret) {
                self.former.insert(0, secret);
            }
        }
        self.former.truncate(FORMER_CAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rotated(mut keyring: Keyring, fresh: &[u8]) -> Keyring {
        for n in fresh {
            keyring.rotate([*n; 32]);
        }
        keyring
    }

    fn joined(one: &Keyring, other: &Keyring) -> Keyring {
        one.join(other).unwrap()
    }

    #[test]
    fn a_machine_that_slept_through_rotations_gets_the_newest_secret_and_gives_none() {
        let old = Keyring::new([1; 32]);
        let new = rotated(old.clone(), &[2, 3, 4]);
        assert_eq!(joined(&old, &new).secret(), [4; 32]);
        assert_eq!(joined(&new, &old), new);
        assert!(new.includes(&old) && !old.includes(&new));
        assert!(new.former().eq(&[[3; 32], [2; 32], [1; 32]]));
    }

    #[test]
    fn two_that_rotated_apart_get_a_secret_that_neither_had() {
        let old = Keyring::new([1; 32]);
        let (one, other) = (rotated(old.clone(), &[2]), rotated(old, &[3]));
        let both = joined(&one, &other);
        assert_eq!(both.secret(), joined(&other, &one).secret());
        assert!([[1; 32], [2; 32], [3; 32]].iter().all(|known| both.secret() != *known && both.knows(known)));
        assert!(both.includes(&one) && both.includes(&other) && !one.includes(&both));
        let next = rotated(both.clone(), &[4]);
        assert_eq!(joined(&next, &both).secret(), [4; 32]);
        assert_eq!(joined(&one, &next).secret(), [4; 32]);
    }

    #[test]
    fn who_was_invited_while_parts_were_joined_follows_them() {
        let old = Keyring::new([1; 32]);
        let both = joined(&rotated(old.clone(), &[2]), &rotated(old.clone(), &[3]));
        let invited = Keyring::new(both.secret());
        assert_eq!(joined(&invited, &both).secret(), both.secret());
        assert_eq!(joined(&both, &invited).secret(), both.secret());
        let third = rotated(old, &[4]);
        let all = joined(&both, &third);
        assert_eq!(joined(&joined(&invited, &third), &both).secret(), all.secret());
        assert_eq!(joined(&invited, &rotated(both, &[5])).secret(), [5; 32]);
    }

    #[test]
    fn a_keyring_full_of_made_up_secrets_pushes_no_former_secret_out() {
        let ours = rotated(Keyring::new([1; 32]), &[2]);
        let made_up = (0..FORMER_CAP as u32).map(|n| blake3::derive_key("made up", &n.to_be_bytes())).collect();
        let joined = joined(&ours, &Keyring { drawn: [[9; 32]].into(), former: made_up });
        assert!(joined.knows(&[1; 32]) && joined.knows(&[2; 32]) && joined.is_sound());
    }

    #[test]
    fn keyrings_that_replace_each_other_are_not_joined() {
        let crossed = |drawn: u8, former: u8| Keyring { drawn: [[drawn; 32]].into(), former: vec![[former; 32]] };
        assert_eq!(crossed(1, 2).join(&crossed(2, 1)), None);
    }

    #[test]
    fn a_keyring_does_not_show_its_secrets_when_it_is_printed() {
        assert_eq!(format!("{:?}", rotated(Keyring::new([1; 32]), &[2])), "Keyring(1 in force, 1 former)");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Rotate(usize),
        Meet(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rotate = (0..4_usize).prop_map(Step::Rotate);
        let meet = (0..4_usize, 0..4_usize).prop_map(|(one, other)| Step::Meet(one, other));
        proptest::collection::vec(prop_oneof![1 => rotate, 2 => meet], 0..24)
    }

    proptest! {
        #[test]
        fn whoever_meets_in_whatever_order_all_end_with_one_secret(steps in steps()) {
            let mut machines = vec![Keyring::new([0; 32]); 4];
            let meet = |machines: &mut Vec<Keyring>, one: usize, other: usize| {
                let both = (joined(&machines[one], &machines[other]), joined(&machines[other], &machines[one]));
                (machines[one], machines[other]) = both;
            };
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Rotate(at) => machines[at].rotate([n as u8 + 1; 32]),
                    Step::Meet(one, other) => meet(&mut machines, one, other),
                }
            }
            for at in [1, 2, 3, 2, 1] {
                meet(&mut machines, 0, at);
            }
            for machine in &machines {
                prop_assert_eq!(machine.secret(), machines[0].secret());
                prop_assert!(machine.is_sound());
            }
        }
    }
}
