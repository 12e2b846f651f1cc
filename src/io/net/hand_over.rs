//! How a machine that has a former secret gets the one in force, from any that has it.
//!
//! Both ends have proved a secret that one of them, or both, have replaced since. It opens nothing
//! but this:
//! 1. the dialler, then the listener, sends `former`: which devices it was before, signed by their
//!    keys;
//! 2. each looks whether the other is on its list, and not removed; if not, it hangs up saying so;
//! 3. the dialler, then the listener, sends `hand_over`: its keyring and its list, and a reader's
//!    form of them to a reader;
//! 4. both hang up. What came is put together with what is there by the engine, stored, and the run
//!    begins anew (`engine/peers/membership.rs`).
//!
//! The engine takes nothing of an end that proved only to be a reader. Deliberately not here: the
//! proofs (`greeting`), and who is listed (`known_group`).

use crate::io::net::greeting::{GreetError, Identity, MetWithFormer, Role, Secured};
use crate::io::net::succession::former_ids;
use crate::model::{Capability, DeviceId};
use crate::wire::members::HandOver;
use crate::wire::packet::Packet;

/// What came of it.
#[derive(Debug)]
pub struct Handed {
    pub device: DeviceId,
    /// What it is called on the list.
    pub name: String,
    /// What it has proved.
    pub capability: Capability,
    /// The listed device that it was before.
    pub succeeds: Option<DeviceId>,
    pub given: Option<HandOver>,
}

/// With an end that has proved a former secret.
pub async fn exchange(met: MetWithFormer, me: &Identity) -> Result<Handed, GreetError> {
    let MetWithFormer { mut secured, capability } = met;
    let ours = Packet::Former { chain: me.former_keys.clone() };
    let chain = match swap(&mut secured, ours).await? {
        Packet::Former { chain } => chain,
        other => return Err(GreetError::OutOfTurn(other.kind())),
    };
    let device = secured.device;
    let listed = match me.group.listed_as(device, &former_ids(&chain, device)) {
        Ok(listed) => listed,
        Err(why) => {
            secured.dismiss(&why.to_string()).await;
            return Err(GreetError::NotHanded(why));
        }
    };
    let ours = Packet::HandOver(me.group.hand_over(capability));
    let given = match swap(&mut secured, ours).await? {
        Packet::HandOver(given) => given,
        other => return Err(GreetError::OutOfTurn(other.kind())),
    };
    let name = me.group.name_of(&listed);
    Ok(Handed { device, name, capability, succeeds: (listed != device).then_some(listed), given })
}

/// The dialler speaks first, so that neither waits for the other to read.
async fn swap(secured: &mut Secured, ours: Packet) -> Result<Packet, GreetError> {
    if secured.role() == Role::Dialler {
        secured.send(&ours).await?;
        secured.receive_long().await
    } else {
        let theirs = secured.receive_long().await?;
        secured.send(&ours).await?;
        Ok(theirs)
    }
}
