//! How a machine is let into a group by an invitation code: both halves of the exchange.
//!
//! After TLS, before any link:
//! 1. the joiner sends `join`: that it knows the code, for this connection;
//! 2. the inviter spends the code and sends `invited`: that it knows it as well (and, if it is used
//!    or has expired, hangs up saying so);
//! 3. the joiner, who has checked that, sends `accept`;
//! 4. the inviter puts the joiner on the list of machines, durably, and sends `secret`;
//! 5. the joiner stores it, durably, and sends `joined`.
//!
//! A proof is over the ids of both ends and the exporter of this very connection, so that somebody
//! in the middle, who has two connections, can pass none on (`docs/threat-model.md`). Deliberately
//! not here: which codes are open (`invitations`), and how the inviter is found (`join`).

use crate::engine::NotHanded;
use crate::io::net::greeting::{GreetError, Identity, Role, Secured};
use crate::io::net::invitations::{CodeRefusal, Invitations};
use crate::model::{Capability, DeviceId, InvitationCode};
use crate::wire::packet::{HandedSecret, Packet};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// Other than that of links: a proof of one is none of the other.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-dirsyncd-invitation-v1";
/// To a joiner, where no secret is kept from anyone.
const OPEN_TO_ALL: &str = "open to all";

const NOT_LISTED: &str = "it could not be put on the list of machines; the log there says why";

/// Keeps the secret, durably, or says why not.
pub type StoreSecret = dyn FnMut(&HandedSecret) -> Result<(), String> + Send;

/// A machine that was let in.
#[derive(Debug)]
pub struct Invitee {
    pub device: DeviceId,
    pub name: String,
    /// It only looks at what joining would do.
    pub previews: bool,
    pub capability: Capability,
}

/// What a joiner was given, and by whom.
#[derive(Debug)]
pub struct Invited {
    pub secret: HandedSecret,
    pub device: DeviceId,
    /// The inviter's name.
    pub name: String,
}

/// Why a joiner was not let in by this machine.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    #[error("{0}")]
    Code(CodeRefusal),
    /// It claimed to have an invitation, and does not know the code.
    #[error("does not know the code either")]
    Impostor,
    /// The secret came and could not be kept.
    #[error("the secret cannot be stored: {0}")]
    NotStored(String),
    #[error("{0}")]
    Greeting(GreetError),
}

impl From<GreetError> for JoinRefusal {
    fn from(why: GreetError) -> Self {
        let code = match &why {
            GreetError::Refused(reason) => CodeRefusal::ALL.into_iter().find(|code| code.to_string() == *reason),
            _ => None,
        };
        code.map_or(Self::Greeting(why), Self::Code)
    }
}

/// A refusal before the other end has proved the code: anyone can say that it was used.
fn unproved(why: GreetError) -> JoinRefusal {
    match JoinRefusal::from(why) {
        JoinRefusal::Code(code @ (CodeRefusal::Used | CodeRefusal::Expired)) => {
            JoinRefusal::Greeting(GreetError::Refused(code.to_string()))
        }
        other => other,
    }
}

/// The inviter's half, after the `join` with this proof and name. `list` puts the joiner on the
/// list of machines.
pub(super) async fn let_in(
    mut secured: Secured,
    me: &Identity,
    invitations: &Invitations,
    address: IpAddr,
    (mac, name): ([u8; 32], String),
    list: impl FnOnce(&str, Capability),
) -> Result<Invitee, GreetError> {
    if invitations.secret(Capability::ReadOnly).is_none() {
        secured.dismiss(OPEN_TO_ALL).await;
        return Err(GreetError::OutOfTurn("join"));
    }
    let (device, binding) = (secured.device, secured.binding(me.device, EXPORTER_LABEL)?);
    let spent = invitations.spend(address, device, |key| mac.ct_eq(&binding.proof(key, Role::Dialler)).into());
    let (key, spent) = match spent {
        Ok((key, capability)) => (Some(key), Ok(capability)),
        Err((why, key)) => (key, Err(why)),
    };
    // That a code is used or has expired says only one who knows it, as the joiner sees.
    if let Some(key) = key {
        let ours = binding.proof(&key, Role::Listener);
        secured.send(&Packet::Invited { mac: ours, name: me.name.clone() }).await?;
    }
    let capability = match spent {
        Ok(capability) => capability,
        Err(why) => {
            secured.dismiss(&why.to_string()).await;
            return Err(GreetError::BadCode(why));
        }
    };
    let previews = match secured.receive().await? {
        Packet::Accept { preview } => preview,
        other => return Err(GreetError::OutOfTurn(other.kind())),
    };
    let secret = invitations.secret(capability).ok_or(GreetError::OutOfTurn("join"))?;
    if !previews {
        if me.group.is_removed(&device) {
            secured.dismiss(&NotHanded::Removed.to_string()).await;
            return Err(GreetError::Removed);
        }
        // Else it would be on no list, if this machine ended now.
        list(&name, capability);
        if !me.group.is_listed_soon(&device).await {
            secured.dismiss(NOT_LISTED).await;
            return Err(GreetError::NotListed);
        }
    }
    secured.send(&Packet::Secret { secret }).await?;
    if !previews {
        match secured.receive().await? {
            Packet::Joined => invitations.note_joined(device),
            other => return Err(GreetError::OutOfTurn(other.kind())),
        }
    }
    Ok(Invitee { device, name, previews, capability })
}

/// The joiner's half. `store` keeps the secret durably before the inviter hears that this machine
/// has joined; with a `preview` it is not called.
pub(super) async fn ask(
    mut secured: Secured,
    (own, own_name): (DeviceId, &str),
    code: &InvitationCode,
    store: Option<&mut StoreSecret>,
) -> Result<Invited, JoinRefusal> {
    let key = code.proof_key();
    let binding = secured.binding(own, EXPORTER_LABEL)?;
    let mac = binding.proof(&key, Role::Dialler);
    secured.send(&Packet::Join { mac, name: own_name.to_owned() }).await?;
    let name = match secured.receive().await.map_err(unproved)? {
        Packet::Invited { mac, name } if bool::from(mac.ct_eq(&binding.proof(&key, Role::Listener))) => name,
        Packet::Invited { .. } => return Err(JoinRefusal::Impostor),
        other => return Err(GreetError::OutOfTurn(other.kind()).into()),
    };
    secured.send(&Packet::Accept { preview: store.is_none() }).await?;
    let secret = match secured.receive().await? {
        Packet::Secret { secret } => secret,
        other => return Err(GreetError::OutOfTurn(other.kind()).into()),
    };
    if let Some(store) = store {
        store(&secret).map_err(JoinRefusal::NotStored)?;
        // It is stored: whether the inviter hears of that changes nothing here.
        let _ = secured.send(&Packet::Joined).await;
    }
    Ok(Invited { secret, device: secured.device, name })
}
