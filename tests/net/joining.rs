//! Who is let in by an invitation code, and what strangers, impostors and machines in the middle
//! get out of it.

use super::machine::{Machine, logged};
use super::ports::free_udp_port;
use dirsyncd::engine::api::map_index::MapIndex;
use dirsyncd::engine::{Event, GroupState};
use dirsyncd::io::net::greeting::{self, GreetError, Role, Secured};
use dirsyncd::io::net::join::{Inviter, JoinConfig, JoinError, Store, join};
use dirsyncd::io::net::known_group::KnownGroup;
use dirsyncd::io::net::mesh::NetConfig;
use dirsyncd::io::net::tls::{DeviceKey, Tls};
use dirsyncd::io::store::secret::Secret;
use dirsyncd::io::{Events, Inbox};
use dirsyncd::model::{Capability, InvitationCode};
use dirsyncd::wire::members::ListedMember;
use dirsyncd::wire::packet::{HandedSecret, Packet};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const MINUTE: Duration = Duration::from_mins(1);

fn wrong_code() -> InvitationCode {
    "0123-4567-89AB-CDEF".parse().unwrap()
}

/// Lists who is invited, as the engine does, for as long as the machine's network lives.
fn lists(events: &Inbox, secret: &HandedSecret, group: &KnownGroup) {
    loop {
        match events.recv_timeout(MINUTE) {
            Ok(Event::Invited { device, name, capability }) => {
                let (added_by, added_ns, invited) = (device, 1, true);
                let row = ListedMember { device, name, capability, added_by, added_ns, invited };
                let mut index = MapIndex::new();
                GroupState::settle(&mut index, secret, Some(row));
                group.set(GroupState::load(&index));
            }
            Err(RecvTimeoutError::Disconnected) => return,
            _ => {}
        }
    }
}

/// A machine whose secret nobody else has.
fn inviter(name: &str, change: impl FnOnce(&mut NetConfig)) -> (Machine, HandedSecret) {
    let dir = tempfile::tempdir().unwrap();
    let (secret, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
    let handed = secret.to_joiner(Capability::Write).unwrap();
    let group = Arc::<KnownGroup>::default();
    let mut machine = Machine::start(name, |config| {
        config.group = Arc::clone(&group);
        config.keys = secret.keys();
        config.secret = Some(secret.clone());
        change(config);
    });
    let events = std::mem::replace(&mut machine.events, Events::channel().1);
    let known = handed.clone();
    std::thread::spawn(move || lists(&events, &known, &group));
    (machine, handed)
}

fn invite(machine: &Machine, uses: u32) -> InvitationCode {
    machine.net.invitations().invite(uses, MINUTE, Capability::Write).unwrap()
}

/// A joiner that is led to `peer`.
fn joiner(peer: String, code: &InvitationCode) -> JoinConfig {
    JoinConfig {
        key: DeviceKey::generate().unwrap(),
        name: "joiner".to_owned(),
        broadcast_port: free_udp_port(),
        peers: vec![peer],
        code: code.clone(),
        patience: Duration::from_secs(20),
        others_within: Duration::ZERO,
        goes_on: || {},
    }
}

fn stores(kept: &Arc<Mutex<Vec<HandedSecret>>>) -> Store {
    let kept = Arc::clone(kept);
    Box::new(move |secret| {
        kept.lock().unwrap().push(secret.clone());
        Ok(())
    })
}

fn joined(machine: &Machine, code: &InvitationCode) -> Result<Inviter, JoinError> {
    join(&joiner(machine.address(), code), Some(stores(&Arc::default())))
}

/// A connection of a stranger, who speaks TLS and may say what it likes.
async fn stranger(address: &str) -> Secured {
    let tls = Tls::new(&DeviceKey::generate().unwrap()).unwrap();
    greeting::secure(TcpStream::connect(address).await.unwrap(), Role::Dialler, &tls).await.unwrap()
}

async fn refusal(secured: &mut Secured) -> String {
    match secured.receive().await {
        Err(GreetError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

/// A TLS end in the middle, which waits for one connection.
async fn middle() -> (TcpListener, String, Tls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address, Tls::new(&DeviceKey::generate().unwrap()).unwrap())
}

#[test]
fn a_machine_that_is_announced_hands_its_secret_to_one_that_knows_the_code() {
    let port = free_udp_port();
    let (machine, secret) = inviter("inviter", |config| config.broadcast_port = port);
    let code = invite(&machine, 1);
    let kept = Arc::default();
    let config = JoinConfig { broadcast_port: port, peers: Vec::new(), ..joiner(String::new(), &code) };
    let found = join(&config, Some(stores(&kept))).unwrap();
    assert_eq!((found.secret, found.name.as_str()), (secret.clone(), "inviter"));
    assert_eq!(*kept.lock().unwrap(), [secret]);
    logged(&["joiner", "has joined by an invitation"]);
}

#[test]
fn a_code_that_was_used_or_has_expired_or_never_was_has_its_own_line() {
    let (machine, _) = inviter("strict", |_| {});
    let code = invite(&machine, 1);
    joined(&machine, &code).unwrap();
    assert!(matches!(joined(&machine, &code), Err(JoinError::Used { .. })));
    let cancelled = invite(&machine, 1);
    machine.net.invitations().cancel();
    assert!(matches!(joined(&machine, &cancelled), Err(JoinError::Expired { .. })));
    let unknown = joined(&machine, &wrong_code()).unwrap_err().to_string();
    assert!(unknown.contains("knows no open invitation with that code") && unknown.contains("'dirsync invite'"));
}

#[test]
fn of_many_joiners_with_one_code_one_comes_in() {
    let (machine, _) = inviter("popular", |_| {});
    let code = invite(&machine, 1);
    let let_in = std::thread::scope(|scope| {
        let configs = (0..4).map(|_| joiner(machine.address(), &code));
        let joiners: Vec<_> =
            configs.map(|config| scope.spawn(move || join(&config, Some(stores(&Arc::default()))))).collect();
        joiners.into_iter().flat_map(|joiner| joiner.join().unwrap()).count()
    });
    assert_eq!(let_in, 1);
}

#[test]
fn a_preview_stores_nothing_and_keeps_the_code_for_its_device() {
    let (machine, secret) = inviter("previewed", |_| {});
    let code = invite(&machine, 1);
    let key = DeviceKey::generate().unwrap();
    let with_key = || JoinConfig { key: key.clone(), ..joiner(machine.address(), &code) };
    assert_eq!(join(&with_key(), None).unwrap().secret, secret);
    assert!(matches!(joined(&machine, &code), Err(JoinError::Used { .. })), "another device");
    let kept = Arc::default();
    join(&with_key(), Some(stores(&kept))).unwrap();
    assert_eq!(kept.lock().unwrap().len(), 1);
}

#[test]
fn a_secret_that_cannot_be_stored_leaves_the_code_for_the_next_try() {
    let (machine, _) = inviter("patient-inviter", |_| {});
    let code = invite(&machine, 1);
    let key = DeviceKey::generate().unwrap();
    let with_key = || JoinConfig { key: key.clone(), ..joiner(machine.address(), &code) };
    let full: Store = Box::new(|_| Err("no space left on device".to_owned()));
    assert!(join(&with_key(), Some(full)).unwrap_err().to_string().contains("no space left"));
    join(&with_key(), Some(stores(&Arc::default()))).unwrap();
}

#[test]
fn five_wrong_codes_block_the_address_and_not_the_invitation() {
    let (machine, _) = inviter("guessed-at", |_| {});
    let code = invite(&machine, 1);
    for _ in 0..5 {
        assert!(matches!(joined(&machine, &wrong_code()), Err(JoinError::Unknown { .. })));
    }
    let blocked = joined(&machine, &code).unwrap_err().to_string();
    assert!(blocked.contains("five wrong ones"), "{blocked}");
    assert_eq!(machine.net.invitations().list()[0].uses_left, 1);
}

#[test]
fn nobody_is_let_in_where_everyone_knows_the_secret() {
    let machine = Machine::start("open", |config| config.secret = None);
    let refused = machine.net.invitations().invite(1, MINUTE, Capability::Write).unwrap_err().to_string();
    assert!(refused.contains("--open"), "{refused}");
    let config = JoinConfig { patience: Duration::from_millis(500), ..joiner(machine.address(), &wrong_code()) };
    assert!(matches!(join(&config, Some(stores(&Arc::default()))), Err(JoinError::NotFound { .. })));
}

#[tokio::test]
async fn a_recorded_proof_opens_nothing_on_another_connection() {
    let (machine, _) = inviter("replayed", |_| {});
    let code = invite(&machine, 1);
    // The joiner is led to a machine in the middle, which hands on its very words.
    let (listener, address, tls) = middle().await;
    let joining = tokio::task::spawn_blocking(move || {
        join(&JoinConfig { patience: Duration::from_secs(2), ..joiner(address, &code) }, Some(stores(&Arc::default())))
    });
    let (tcp, _) = listener.accept().await.unwrap();
    let mut to_joiner = greeting::secure(tcp, Role::Listener, &tls).await.unwrap();
    let said = to_joiner.receive().await.unwrap();
    assert!(matches!(said, Packet::Join { .. }));
    for _ in 0..2 {
        let mut to_inviter = stranger(&machine.address()).await;
        to_inviter.send(&said).await.unwrap();
        assert_eq!(refusal(&mut to_inviter).await, "unknown code");
    }
    drop(to_joiner);
    drop(listener);
    assert!(matches!(joining.await.unwrap(), Err(JoinError::NotFound { .. })));
    assert_eq!(machine.net.invitations().list()[0].uses_left, 1, "the code is still good");
}

#[tokio::test]
async fn a_machine_in_the_middle_with_its_own_certificate_gets_no_secret_and_gives_none() {
    let (machine, _) = inviter("far-end", |_| {});
    let code = invite(&machine, 1);
    let (listener, address, tls) = middle().await;
    let kept = Arc::default();
    let (stored, kept_by_joiner) = (stores(&kept), Arc::clone(&kept));
    let joining = tokio::task::spawn_blocking(move || {
        join(&JoinConfig { patience: Duration::from_secs(2), ..joiner(address, &code) }, Some(stored))
    });
    let (tcp, _) = listener.accept().await.unwrap();
    let mut to_joiner = greeting::secure(tcp, Role::Listener, &tls).await.unwrap();
    let Packet::Join { mac, name } = to_joiner.receive().await.unwrap() else { panic!("no join") };
    // It reflects the joiner's proof, and offers a secret of its own.
    to_joiner.send(&Packet::Invited { mac, name: name.clone() }).await.unwrap();
    to_joiner.send(&Packet::Secret { secret: HandedSecret::Writer([6; 32]) }).await.unwrap();
    // And it pretends to be the joiner.
    let mut to_inviter = stranger(&machine.address()).await;
    to_inviter.send(&Packet::Join { mac, name }).await.unwrap();
    assert_eq!(refusal(&mut to_inviter).await, "unknown code");
    assert!(joining.await.unwrap().is_err());
    assert!(kept_by_joiner.lock().unwrap().is_empty(), "nothing of an impostor is stored");
    logged(&["claims to have an invitation open, and does not know the code"]);
}

#[tokio::test]
async fn a_stranger_that_skips_the_proof_gets_nothing() {
    let (machine, _) = inviter("orderly", |_| {});
    invite(&machine, 1);
    for out_of_turn in
        [Packet::Accept { preview: false }, Packet::Joined, Packet::Secret { secret: HandedSecret::Writer([0; 32]) }]
    {
        let mut stranger = stranger(&machine.address()).await;
        stranger.send(&out_of_turn).await.unwrap();
        assert!(stranger.receive().await.is_err());
    }
    assert_eq!(machine.net.invitations().list()[0].uses_left, 1);
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_exchange_leaves_the_code_to_its_device() {
    let (machine, secret) = inviter("cut-off", |_| {});
    let code = invite(&machine, 1);
    let (listener, address, _) = middle().await;
    let to = machine.address();
    // Two connections are cut, after so many bytes of the inviter's; the third goes through.
    let cable = tokio::spawn(async move {
        for limit in [1500_u64, 2200, u64::MAX] {
            let (joiner, _) = listener.accept().await.unwrap();
            let inviter = TcpStream::connect(&to).await.unwrap();
            let ((mut from_joiner, mut to_joiner), (from_inviter, mut to_inviter)) =
                (joiner.into_split(), inviter.into_split());
            let mut cut = tokio::io::AsyncReadExt::take(from_inviter, limit);
            tokio::select! {
                _ = tokio::io::copy(&mut from_joiner, &mut to_inviter) => {}
                _ = tokio::io::copy(&mut cut, &mut to_joiner) => {}
            }
        }
    });
    let joining = tokio::task::spawn_blocking(move || join(&joiner(address, &code), Some(stores(&Arc::default()))));
    assert_eq!(joining.await.unwrap().unwrap().secret, secret);
    cable.abort();
}

#[test]
fn whoever_announces_many_invitations_or_refuses_in_another_s_name_keeps_no_joiner_out() {
    let port = free_udp_port();
    // A machine that says of every code that it was used, and announces itself at a hundred ports.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refuser = runtime.block_on(async {
        let (listener, address, tls) = middle().await;
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(mut secured) = greeting::secure(tcp, Role::Listener, &tls).await {
                    let _ = secured.receive().await;
                    let _ = secured.send(&Packet::Bye { reason: "already used".to_owned() }).await;
                }
            }
        });
        address.parse::<std::net::SocketAddr>().unwrap().port()
    });
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_broadcast(true).unwrap();
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for n in 0..100_u16 {
                    let said = serde_json::json!({
                        "protocol": 1, "group": "00".repeat(16), "device": format!("{n:02x}").repeat(32), "name": "nas",
                        "port": if n == 0 { refuser } else { 20_000 + n }, "boot": 1, "inviting": true,
                    });
                    let datagram = format!("{}\n{said}", "0".repeat(64));
                    let _ = socket.send_to(datagram.as_bytes(), ("127.255.255.255", port));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let (machine, secret) = inviter("among-liars", |config| config.broadcast_port = port);
    let code = invite(&machine, 1);
    let config = JoinConfig { broadcast_port: port, peers: Vec::new(), ..joiner(String::new(), &code) };
    let found = join(&config, Some(stores(&Arc::default())));
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
    assert_eq!(found.unwrap().secret, secret);
}

#[test]
fn a_secret_that_comes_over_two_addresses_of_one_machine_is_stored_once() {
    let (machine, secret) = inviter("of-two-addresses", |_| {});
    let code = invite(&machine, 1);
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| format!("{ip}:{}", machine.net.port()));
    let kept = Arc::default();
    let config = JoinConfig { peers: addresses.to_vec(), ..joiner(String::new(), &code) };
    join(&config, Some(stores(&kept))).unwrap();
    assert_eq!(*kept.lock().unwrap(), [secret]);
}

#[test]
fn who_cannot_be_listed_gets_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
    // Nobody answers for its list, as where the disk of the index hangs.
    let machine = Machine::start("stalled", |config| {
        config.keys = secret.keys();
        config.secret = Some(secret.clone());
    });
    let code = invite(&machine, 1);
    let (kept, config) = (Arc::default(), joiner(machine.address(), &code));
    let refused = join(&JoinConfig { patience: Duration::from_secs(7), ..config }, Some(stores(&kept)));
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("it could not be put on the list of machines"), "{why}");
    assert!(kept.lock().unwrap().is_empty());
}
