//! Which secret is in force when a run begins, and that the file holds it.
//!
//! A rotation is durable in the index first. The file follows at the start of the next run, so that
//! a machine that loses its index is still a member. Deliberately not here: rotations
//! (`engine/peers/membership.rs`).

use super::DaemonError;
use crate::engine::GroupState;
use crate::io::clock::wall_ns;
use crate::io::fail::{self, Point};
use crate::io::net::join::Inviter;
use crate::io::net::known_group::KnownGroup;
use crate::io::store::index::SqliteIndex;
use crate::io::store::secret::Secret;
use crate::io::store::state_folder::StateDir;
use crate::model::Capability;
use crate::options::{Options, SecretSource};
use crate::wire::members::ListedMember;
use crate::wire::packet::clean_name;
use std::sync::Arc;

/// The machine that let this one in is listed from the start.
fn listed(Inviter { device, name, .. }: &Inviter) -> ListedMember {
    let (name, added_by, added_ns) = (clean_name(name), *device, wall_ns());
    let capability = Capability::ReadOnly;
    ListedMember { device: *device, name, capability, added_by, added_ns, invited: false }
}

/// What the network begins with; the engine tells it of changes.
pub(super) fn known(index: &SqliteIndex) -> Arc<KnownGroup> {
    Arc::new(KnownGroup::new(GroupState::load(index)))
}

/// The secret to work with, of a machine that was given this one.
pub(super) fn in_force(
    given: Secret,
    inviter: Option<&Inviter>,
    options: &Options,
    (state, index): (&StateDir, &mut SqliteIndex),
) -> Result<Secret, DaemonError> {
    if options.secret == SecretSource::Open {
        GroupState::settle_open(index);
        index.commit()?;
        return Ok(given);
    }
    let secret = Secret::from_member(&GroupState::settle(index, given.handed(), inviter.map(listed)));
    index.commit()?;
    if secret == given {
        return Ok(secret);
    }
    match &options.secret {
        SecretSource::Own(file) => {
            if let Some((code, _)) = state.joined_with() {
                StateDir::note_joining(state.path(), code, secret.keys().members.group_tag)?;
            }
            fail::after(Point::RotateFile);
            secret.renew(file)?;
            fail::after(Point::RotateFiled);
        }
        SecretSource::Named(file) => tracing::info!(
            "the group has another secret than '{}' holds: this machine goes on with the one that \
             it was handed, which is in its index",
            super::shown(file)
        ),
        SecretSource::Open => {}
    }
    Ok(secret)
}
