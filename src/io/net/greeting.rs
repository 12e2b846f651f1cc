//! How a TCP connection becomes a link: TLS, then both prove the group's secret, then they say who
//! they are.
//!
//! The dialler proves first, so that whoever merely listens on a port learns nothing (P6). Until
//! the other end's proof, at most 4 KiB are read from it. The time limit is the caller's.

use crate::engine::NotHanded;
use crate::io::net::invitations::CodeRefusal;
use crate::io::net::known_group::{GroupTag, KnownGroup};
use crate::io::net::metered::{Meter, Metered};
use crate::io::net::tls::{self, Tls};
use crate::io::store::secret::SecretKeys;
use crate::io::store::writer_key::{WRITER_SIGNATURE_BYTES, is_writers};
use crate::model::{Capability, DeviceId, text};
use crate::wire::features::{Features, PREVIEW, PREVIEWS};
use crate::wire::frame::{self, FrameError, LENGTHS_BYTES, Packet};
use crate::wire::packet::PROTOCOL;
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Also the cap of one frame's head, and of its body, before the proof.
const STRANGER_BYTES: usize = 4096;
/// An address of a LAN answers within this, or other addresses are better.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const NOTSENT_LOWAT_BYTES: u32 = 128 * 1024;
const EXPORTER_LABEL: &[u8] = b"EXPORTER-dirsyncd-link-v1";
const SIGNED_BY_WRITERS: &[u8] = b"dirsyncd writer 1\0";
/// Why a proof was refused, as the refused side is told.
const ANOTHER_SECRET: &str = "another secret";

/// TLS over TCP. TLS reads a record of 16 KiB at a time; the buffer below it takes more from the
/// socket at once.
pub type Stream = TlsStream<BufReader<Metered>>;
/// What TLS encrypts at once, at most.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Dialler,
    Listener,
}

/// Who this machine is.
pub struct Identity {
    pub device: DeviceId,
    pub name: String,
    pub tls: Tls,
    pub keys: SecretKeys,
    pub protocol: u32,
    pub boot: u64,
    /// When it was started, by its clock (ns since 1970).
    pub started: u64,
    /// What this end understands, or that it only looks.
    pub features: Features,
    pub group: Arc<KnownGroup>,
    /// Which devices this one was before, signed by their keys; empty: none.
    pub former_keys: Bytes,
}

/// Why a connection did not become a link; each a sentence's end after the peer's address.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    #[error("does not speak dirsyncd's protocol: {0}")]
    NotTls(String),
    #[error(
        "is here with another secret: to bring it into this group, run 'dirsync invite' here and \
         start it with --join; to join its group, the other way round"
    )]
    WrongSecret,
    #[error("is this daemon itself; leave that address out of --peer")]
    Itself,
    #[error(
        "has this machine's own device key: one of the two runs with a copy of the other's state \
         directory; the one that was started later takes a new device id"
    )]
    Twin { boot: u64, started: u64 },
    #[error("speaks protocol {0}, this machine {PROTOCOL}: install the same version of dirsyncd on both")]
    OtherProtocol(u32),
    #[error("sent garbage: {0}")]
    Garbage(#[from] FrameError),
    #[error("sent a '{0}' where a greeting was due")]
    OutOfTurn(&'static str),
    #[error("sent more than 4 KiB before proving that it is a member")]
    TooMuch,
    #[error("wanted to join: {}", match .0 {
        CodeRefusal::Unknown => "the code is none that was made here",
        CodeRefusal::Blocked => "its address has tried too many wrong codes",
        CodeRefusal::Expired => "its code has expired",
        CodeRefusal::Used => "another machine has used its code",
    })]
    BadCode(CodeRefusal),
    #[error("runs an older version, which shows no preview: install this one there")]
    NoPreview(String),
    #[error("was silent, or too slow, in greeting")]
    TooSlow,
    #[error("refused this machine: {0}")]
    Refused(String),
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("cannot be reached: its name is not found ({0})")]
    NoName(io::Error),
    #[error("closed the connection while greeting: {0}")]
    Lost(io::Error),
    #[error("is refused: {0}")]
    NotHanded(NotHanded),
    #[error("is refused: it was removed from the group")]
    Removed,
    /// Nothing is wrong: one of both had a former secret, and both have proved it.
    #[error("was met with a former secret")]
    Former(Box<MetWithFormer>),
    /// And what is in force was handed over.
    #[error("was met with a former secret")]
    Handed,
    /// Nothing is wrong: there is a link already, or one is being made.
    #[error("is linked already")]
    NotNeeded(DeviceId),
    #[error(
        "wanted to join, and could not be put on the list of machines: is that full, or the disk of the index busy?"
    )]
    NotListed,
    #[error("has more links with this machine than it may, or this machine has all that it may")]
    TooMany,
    #[error(
        "is denied by this machine: its service's IPAddressAllow= does not name that address \
         (systemctl edit the unit and add it), or a firewall here forbids it"
    )]
    Denied,
}

impl GreetError {
    /// Nothing that a person must know: machines come and go.
    pub fn is_ordinary(&self) -> bool {
        let is_met = matches!(self, Self::NotNeeded(_) | Self::Former(_) | Self::Handed);
        is_met || matches!(self, Self::Unreachable(_) | Self::NoName(_) | Self::Lost(_))
    }

    /// What stays so until a person changes something, and is said once and then hourly.
    pub fn is_lasting(&self) -> bool {
        Self::is_lasting_kind(self.kind())
    }

    pub fn is_lasting_kind(kind: &str) -> bool {
        matches!(kind, "secret" | "protocol" | "denied" | "removed" | "unlisted")
    }

    /// What a program may tell apart of an address that a person named.
    pub fn reason(&self) -> &'static str {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
        match self {
            Self::NoName(_) => "name not found",
            Self::Unreachable(why) if why.kind() == ConnectionRefused => "refused",
            Self::Unreachable(why) if matches!(why.kind(), HostUnreachable | NetworkUnreachable) => "no route",
            Self::Unreachable(why) if why.kind() == TimedOut => "timeout",
            Self::TooSlow => "timeout",
            Self::WrongSecret => "another secret",
            Self::OtherProtocol(_) => "another protocol",
            Self::Denied => "denied",
            _ => "other",
        }
    }

    /// A short name, for holding back repeated lines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotTls(_) => "tls",
            Self::WrongSecret => "secret",
            Self::Itself => "itself",
            Self::Twin { .. } => "twin",
            Self::OtherProtocol(_) => "protocol",
            Self::Garbage(_) | Self::OutOfTurn(_) => "garbage",
            Self::TooMuch => "flood",
            Self::BadCode(_) => "code",
            Self::NoPreview(_) => "preview",
            Self::TooSlow => "slow",
            Self::Refused(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::NoName(_) => "name",
            Self::Lost(_) => "lost",
            Self::Removed | Self::NotHanded(NotHanded::Removed) => "removed",
            Self::NotHanded(NotHanded::Unlisted) => "unlisted",
            Self::Former(_) | Self::Handed => "former",
            Self::NotNeeded(_) => "linked",
            Self::NotListed => "list",
            Self::TooMany => "crowd",
            Self::Denied => "denied",
        }
    }
}

/// A connection whose other end holds the key of `device`, and is not yet known to be a member.
pub struct Secured {
    stream: Stream,
    meter: Arc<Meter>,
    role: Role,
    pub device: DeviceId,
}

/// A connection whose both ends have proved a secret that one of them has replaced.
pub struct MetWithFormer {
    pub(super) secured: Secured,
    /// What the other end has shown itself to be.
    pub(super) capability: Capability,
}

impl fmt::Debug for MetWithFormer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.secured.device)
    }
}

/// What an end says of its membership, for one connection.
pub(super) struct LinkProof {
    mac: [u8; 32],
    member: Option<[u8; 32]>,
    writer: Option<[u8; WRITER_SIGNATURE_BYTES]>,
    current: Option<GroupTag>,
    with: Option<GroupTag>,
}

/// Which secret a connection is proved with.
enum Proving {
    /// The one in force at both ends.
    Current,
    /// One that is replaced at one of them, or at both.
    Former(GroupTag, Box<SecretKeys>),
}

/// What a connection begins with.
pub(super) enum Opening {
    /// A member proves the group's secret.
    Member(LinkProof),
    /// A machine proves an invitation code.
    Joiner { mac: [u8; 32], name: String },
}

/// A connection to a member.
pub struct Greeted {
    pub stream: Stream,
    pub meter: Arc<Meter>,
    pub role: Role,
    pub device: DeviceId,
    pub name: String,
    pub boot: u64,
    pub features: Features,
    /// What it says that it runs.
    pub software: String,
    pub capability: Capability,
}

/// To an address where a member may be.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, GreetError> {
    let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
    let connected = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => GreetError::Denied,
        _ => GreetError::Unreachable(error),
    })
}

/// TLS. Whether our own key is at the other end is seen after the greeting, which says who was
/// there first.
pub async fn secure(tcp: TcpStream, role: Role, tls: &Tls) -> Result<Secured, GreetError> {
    let socket = socket2::SockRef::from(&tcp);
    socket.set_tcp_nodelay(true).map_err(GreetError::Lost)?;
    // Else the socket's buffer is the queue, and a small edit waits behind all of it.
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES).map_err(GreetError::Lost)?;
    let (metered, meter) = Metered::new(tcp, STRANGER_BYTES as u64);
    let metered = BufReader::with_capacity(READ_BUFFER_BYTES, metered);
    let stream = match role {
        Role::Dialler => {
            TlsConnector::from(Arc::clone(&tls.client)).connect(Tls::server_name(), metered).await.map(Into::into)
        }
        Role::Listener => TlsAcceptor::from(Arc::clone(&tls.server)).accept(metered).await.map(Into::into),
    };
    let mut stream: Stream = stream.map_err(|error| tls_failed(&meter, error))?;
    // A piece is encrypted and handed to the socket in one go.
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(WRITE_BUFFER_BYTES)),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(WRITE_BUFFER_BYTES)),
    }
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(<[_]>::first).ok_or(GreetError::NotTls("no certificate".to_owned()))?;
    let device = tls::device_of(certificate).map_err(|error| GreetError::NotTls(error.to_string()))?;
    Ok(Secured { stream, meter, role, device })
}

fn tls_failed(meter: &Meter, error: io::Error) -> GreetError {
    match error.kind() {
        _ if meter.is_exhausted() => GreetError::TooMuch,
        io::ErrorKind::InvalidData => GreetError::NotTls(text::escape(error.to_string().as_bytes())),
        _ => GreetError::Lost(error),
    }
}

impl Secured {
    /// Both proofs, then both hellos, with a member.
    pub async fn greet(mut self, me: &Identity) -> Result<Greeted, GreetError> {
        if self.role == Role::Dialler {
            self.send_proof(me, &Proving::Current).await?;
        }
        match self.opening().await? {
            Opening::Member(said) => self.greet_member(me, &said).await,
            Opening::Joiner { .. } => Err(GreetError::OutOfTurn("join")),
        }
    }

    /// Both proofs with a former secret, then the hand-over. The dialler's half.
    pub(super) async fn greet_with(mut self, me: &Identity, tag: GroupTag) -> Result<Greeted, GreetError> {
        let Some(keys) = me.group.former(&tag) else { return Err(GreetError::WrongSecret) };
        let proving = Proving::Former(tag, Box::new(keys));
        self.send_proof(me, &proving).await?;
        match self.opening().await? {
            Opening::Member(said) => self.meet_with_former(me, &said, proving).await,
            Opening::Joiner { .. } => Err(GreetError::OutOfTurn("join")),
        }
    }

    /// The other end's proof, and the hand-over.
    async fn meet_with_former(
        mut self,
        me: &Identity,
        said: &LinkProof,
        proving: Proving,
    ) -> Result<Greeted, GreetError> {
        let Proving::Former(_, keys) = &proving else { return Err(GreetError::WrongSecret) };
        let capability = self.check_proof(me, keys, said).await?;
        self.meter.trust();
        if self.role == Role::Listener {
            self.send_proof(me, &proving).await?;
        }
        if self.device == me.device {
            return Err(GreetError::Itself);
        }
        Err(GreetError::Former(Box::new(MetWithFormer { secured: self, capability })))
    }

    /// Which secret the other end's proof is made with; the dialler knows by what it sent.
    fn proving(me: &Identity, said: &LinkProof) -> Proving {
        let ours = me.keys.members.group_tag;
        let meant = said.with.or(said.current.filter(|current| *current != ours));
        match meant {
            Some(tag) if tag == ours => Proving::Former(ours, Box::new(me.keys.clone())),
            Some(tag) => me.group.former(&tag).map_or(Proving::Current, |keys| Proving::Former(tag, Box::new(keys))),
            None => Proving::Current,
        }
    }

    /// What whoever opened this connection begins with.
    pub(super) async fn opening(&mut self) -> Result<Opening, GreetError> {
        match self.receive().await? {
            Packet::Proof { mac, member, writer, current, with } => {
                Ok(Opening::Member(LinkProof { mac, member, writer, current, with }))
            }
            Packet::Join { mac, name } => Ok(Opening::Joiner { mac, name }),
            other => Err(GreetError::OutOfTurn(other.kind())),
        }
    }

    /// The other end has sent this proof.
    pub(super) async fn greet_member(mut self, me: &Identity, said: &LinkProof) -> Result<Greeted, GreetError> {
        let proving = Self::proving(me, said);
        if let Proving::Former(..) = &proving {
            return self.meet_with_former(me, said, proving).await;
        }
        let capability = self.check_proof(me, &me.keys, said).await?;
        if me.group.is_removed(&self.device) {
            self.dismiss(&NotHanded::Removed.to_string()).await;
            return Err(GreetError::Removed);
        }
        self.meter.trust();
        if self.role == Role::Listener {
            self.send_proof(me, &proving).await?;
        }
        let software = concat!("dirsyncd ", env!("CARGO_PKG_VERSION")).to_owned();
        let (protocol, started) = (me.protocol, me.started);
        let hello = Packet::Hello {
            protocol,
            name: me.name.clone(),
            software,
            boot: me.boot,
            started,
            features: me.features.clone(),
        };
        // One that only looks says so to nobody who would take it for a member.
        let previews = me.features.has(PREVIEWS);
        if !previews {
            self.send(&hello).await?;
        }
        let (name, boot, started, features, software) = match self.receive().await? {
            Packet::Hello { name, features, .. } if previews && !features.has(PREVIEW) => {
                return Err(GreetError::NoPreview(name));
            }
            Packet::Hello { protocol, name, boot, started, features, software } if protocol == me.protocol => {
                (name, boot, started, features, software)
            }
            Packet::Hello { protocol, .. } => return Err(GreetError::OtherProtocol(protocol)),
            other => return Err(GreetError::OutOfTurn(other.kind())),
        };
        if previews {
            self.send(&hello).await?;
        }
        if self.device == me.device {
            return Err(if boot == me.boot { GreetError::Itself } else { GreetError::Twin { boot, started } });
        }
        let Self { stream, meter, role, device } = self;
        Ok(Greeted { stream, meter, role, device, name, boot, features, software, capability })
    }

    async fn send_proof(&mut self, me: &Identity, proving: &Proving) -> Result<(), GreetError> {
        let (keys, with) = match proving {
            Proving::Current => (&me.keys, None),
            Proving::Former(tag, keys) => (keys.as_ref(), Some(*tag)),
        };
        let binding = self.binding(me.device, EXPORTER_LABEL)?;
        let member = Some(binding.proof(&keys.members.link, self.role));
        let writers = keys.writers.as_ref();
        let mac = writers.map_or([0; 32], |writers| binding.proof(&writers.channel.link, self.role));
        let writer = writers.and_then(|writers| writers.signature.sign(&binding.signed_bytes(self.role)));
        let current = Some(me.keys.members.group_tag);
        self.send(&Packet::Proof { mac, member, writer, current, with }).await
    }

    /// What the other end has shown itself to be.
    async fn check_proof(
        &mut self,
        me: &Identity,
        keys: &SecretKeys,
        said: &LinkProof,
    ) -> Result<Capability, GreetError> {
        let their_role = if self.role == Role::Dialler { Role::Listener } else { Role::Dialler };
        let binding = self.binding(me.device, EXPORTER_LABEL)?;
        let proves = |mac: &[u8; 32], key: &[u8; 32]| bool::from(mac.ct_eq(&binding.proof(key, their_role)));
        let is_member = said.member.is_some_and(|mac| proves(&mac, &keys.members.link));
        let is_writer = match &keys.writers {
            // Versions before this one prove nothing else.
            Some(writers) => proves(&said.mac, &writers.channel.link),
            None => said.writer.is_some_and(|signature| {
                is_writers(&keys.writers_public, &binding.signed_bytes(their_role), &signature)
            }),
        };
        match (is_member, is_writer) {
            (_, true) if keys.writers.is_some() => Ok(Capability::Write),
            (true, true) => Ok(Capability::Write),
            (true, false) => Ok(Capability::ReadOnly),
            (false, _) => {
                self.dismiss(ANOTHER_SECRET).await;
                Err(GreetError::WrongSecret)
            }
        }
    }

    /// Says why there is no link, and hangs up.
    pub(super) async fn dismiss(&mut self, reason: &str) {
        let _ = self.send(&Packet::Bye { reason: reason.to_owned() }).await;
        let _ = self.stream.shutdown().await;
    }

    /// What proofs on this connection are over.
    pub(super) fn binding(&self, own: DeviceId, label: &[u8]) -> Result<Binding, GreetError> {
        let mut exported = [0; 32];
        export(&self.stream, label, &mut exported)?;
        let (dialler, listener) = match self.role {
            Role::Dialler => (own, self.device),
            Role::Listener => (self.device, own),
        };
        Ok(Binding { dialler, listener, exported })
    }

    pub async fn send(&mut self, packet: &Packet) -> Result<(), GreetError> {
        let frame = frame::encode(packet).to_vec();
        self.stream.write_all(&frame).await.map_err(GreetError::Lost)?;
        self.stream.flush().await.map_err(GreetError::Lost)
    }

    pub async fn receive(&mut self) -> Result<Packet, GreetError> {
        self.receive_up_to(STRANGER_BYTES).await
    }

    /// Of an end that has proved a secret.
    pub(super) async fn receive_long(&mut self) -> Result<Packet, GreetError> {
        self.receive_up_to(frame::MAX_BODY_BYTES).await
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    async fn receive_up_to(&mut self, body: usize) -> Result<Packet, GreetError> {
        match read_packet(&mut self.stream, STRANGER_BYTES, body).await {
            Ok((Packet::Bye { reason }, _)) if reason == ANOTHER_SECRET => Err(GreetError::WrongSecret),
            Ok((Packet::Bye { reason }, _)) => Err(GreetError::Refused(text::escape(reason.as_bytes()))),
            Ok((packet, _)) => Ok(packet),
            Err(ReadError::Frame(error)) => Err(error.into()),
            Err(ReadError::Io(error)) => Err(tls_failed(&self.meter, error)),
        }
    }
}

/// The exporter binds a proof to its connection, the ids to both certificates, the role stops a
/// reflection.
pub(super) struct Binding {
    dialler: DeviceId,
    listener: DeviceId,
    exported: [u8; 32],
}

impl Binding {
    /// What the end in this role says to show that it knows the key.
    pub(super) fn proof(&self, key: &[u8; 32], role: Role) -> [u8; 32] {
        let said = if role == Role::Dialler { b'd' } else { b'l' };
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&[said]).update(&self.dialler.0).update(&self.listener.0).update(&self.exported);
        *hasher.finalize().as_bytes()
    }

    /// What a writer signs, to show itself to one that could not check a keyed hash.
    fn signed_bytes(&self, role: Role) -> Vec<u8> {
        let said = if role == Role::Dialler { b'd' } else { b'l' };
        [SIGNED_BY_WRITERS, &[said], &self.dialler.0, &self.listener.0, &self.exported].concat()
    }
}

fn export(stream: &Stream, label: &[u8], into: &mut [u8; 32]) -> Result<(), GreetError> {
    let exported = match stream {
        TlsStream::Client(client) => client.get_ref().1.export_keying_material(into, label, None),
        TlsStream::Server(server) => server.get_ref().1.export_keying_material(into, label, None),
    };
    exported.map(|_| ()).map_err(|error| GreetError::NotTls(error.to_string()))
}

/// Why no packet could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The next packet, and how many bytes it took. The caps hold before anything is allocated.
pub async fn read_packet<R: AsyncRead + Unpin>(
    from: &mut R,
    max_head: usize,
    max_body: usize,
) -> Result<(Packet, u64), ReadError> {
    let mut lengths = [0; LENGTHS_BYTES];
    from.read_exact(&mut lengths).await?;
    let (head, body) = frame::decode_lengths(lengths, max_head, max_body)?;
    let head = read_bytes(from, head).await?;
    let body = read_bytes(from, body).await?;
    let taken = (LENGTHS_BYTES + head.len() + body.len()) as u64;
    Ok((frame::decode(&head, body)?, taken))
}

async fn read_bytes<R: AsyncRead + Unpin>(from: &mut R, count: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(count);
    let mut rest = from.take(count as u64);
    while bytes.len() < count {
        if rest.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn why_an_address_leads_nowhere_has_a_word_that_programs_can_tell_apart() {
        let unreachable = |kind: ErrorKind| GreetError::Unreachable(kind.into()).reason();
        assert_eq!(unreachable(ErrorKind::ConnectionRefused), "refused");
        assert_eq!(unreachable(ErrorKind::HostUnreachable), "no route");
        assert_eq!(unreachable(ErrorKind::NetworkUnreachable), "no route");
        assert_eq!(unreachable(ErrorKind::TimedOut), "timeout");
        assert_eq!(unreachable(ErrorKind::AddrNotAvailable), "other");
        assert_eq!(GreetError::NoName(ErrorKind::NotFound.into()).reason(), "name not found");
        assert_eq!(GreetError::WrongSecret.reason(), "another secret");
        assert_eq!(GreetError::OtherProtocol(2).reason(), "another protocol");
    }
}
