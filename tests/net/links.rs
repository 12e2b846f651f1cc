//! Who is let in, by which link, and what ends it.

use super::machine::{Machine, SOON, logged, member, message, pair, state};
use super::ports::{free_tcp_port, free_udp_port};
use dirsyncd::engine::{Action, Event};
use dirsyncd::io::net::greeting::GreetError;
use dirsyncd::io::net::mesh::Listen;
use dirsyncd::io::store::secret::{Secret, SecretKeys};
use dirsyncd::model::Capability;
use dirsyncd::wire::packet::PROTOCOL;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[test]
fn two_that_hear_each_other_link_once_and_talk() {
    let broadcast_port = free_udp_port();
    let junk = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    junk.set_broadcast(true).unwrap();
    let one = Machine::start("one", |config| config.broadcast_port = broadcast_port);
    for datagram in [&b"junk"[..], &[0xff; 1024], b"{}", &[b'0'; 65]] {
        junk.send_to(datagram, ("127.255.255.255", broadcast_port)).unwrap();
    }
    let start = Instant::now();
    let two = Machine::start("two", |config| config.broadcast_port = broadcast_port);
    let links = [one.linked(), two.linked()];
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    for (from, link, to, pending) in [(&one, links[0], &two, 1), (&two, links[1], &one, 2)] {
        from.run(Action::Send { to: vec![link], message: state(pending) });
        assert_eq!(to.wait(message), state(pending));
    }
    let info = &two.net.links()[0];
    assert_eq!((info.device, info.name.as_str()), (one.device, "one"));
    assert!(info.sent_bytes > 0 && info.received_bytes > 0);
    assert_eq!(two.net.links().len(), 1);
}

#[test]
fn another_secret_is_refused_at_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (other, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
    let first = Machine::start("first", |_| {});
    let _second = Machine::start("second", |config| {
        config.keys = other.keys();
        config.peers = vec![first.address()];
    });
    logged(&["--peer", &first.address(), "is here with another secret", "'dirsync invite'"]);
    logged(&["WARN", "127.0.0.1 is here with another secret"]);
    assert!(first.events.try_recv().is_err(), "no link came up");
}

#[tokio::test]
async fn another_protocol_is_refused_with_a_line() {
    let machine = Machine::start("modern", |_| {});
    let refused = member(&machine, |me| me.protocol = 999).await;
    assert!(matches!(refused, Err(GreetError::OtherProtocol(PROTOCOL))));
    logged(&["speaks protocol 999, this machine 1: install the same version"]);
    assert!(machine.events.try_recv().is_err());
}

#[tokio::test]
async fn garbage_instead_of_a_greeting_is_refused_and_others_are_served() {
    let machine = Machine::start("public", |_| {});
    let mut tcp = TcpStream::connect(machine.address()).await.unwrap();
    let from = tcp.local_addr().unwrap().to_string();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let _ = tcp.read_to_end(&mut Vec::new()).await;
    logged(&[&from, "does not speak dirsyncd's protocol"]);

    let mut tcp = TcpStream::connect(machine.address()).await.unwrap();
    let from = tcp.local_addr().unwrap().to_string();
    let mut endless = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff];
    endless.resize(20_000, 0);
    let _ = tcp.write_all(&endless).await;
    let _ = tcp.read_to_end(&mut Vec::new()).await;
    logged(&[&from, "sent more than 4 KiB before proving"]);

    member(&machine, |_| {}).await.unwrap();
    machine.linked();
}

#[tokio::test]
async fn a_silent_member_is_gone() {
    let machine = Machine::start("listener", |config| config.times.silence = Duration::from_millis(300));
    let _greeted = member(&machine, |me| me.name = "mute".to_owned()).await.unwrap();
    let link = machine.linked();
    machine.down(link);
    logged(&["the link with mute", "it was silent for 0.3 s"]);
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_dropped() {
    let machine = Machine::start("patient", |config| config.times.greet = Duration::from_millis(200));
    let mut tcp = TcpStream::connect(machine.address()).await.unwrap();
    let from = tcp.local_addr().unwrap().to_string();
    assert_eq!(tcp.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    logged(&[&from, "was silent, or too slow"]);
}

#[test]
fn when_both_dial_one_and_the_same_link_stays() {
    for _ in 0..5 {
        let ports = [free_tcp_port(), free_tcp_port()];
        let start = |own: usize| {
            Machine::start("both", |config| {
                config.listen = Listen::Exactly(ports[own]);
                config.peers = vec![format!("127.0.0.1:{}", ports[1 - own])];
            })
        };
        let machines = [start(0), start(1)];
        // Links may come and go until both ends hold the same one; then it carries a message.
        let until = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < until, "no link stayed");
            let links = machines.each_ref().map(|machine| machine.net.links());
            let [[here], [there]] = links.each_ref().map(Vec::as_slice) else { continue };
            if here.dialled == there.dialled {
                continue;
            }
            machines[0].run(Action::Send { to: vec![here.link], message: state(3) });
            let arrived = std::iter::from_fn(|| machines[1].events.recv_timeout(Duration::from_millis(500)).ok());
            if arrived.filter_map(message).any(|message| message == state(3)) {
                break;
            }
        }
        let links = machines.each_ref().map(|machine| machine.net.links());
        assert!(links.iter().all(|links| links.len() == 1), "{links:?}");
    }
}

#[test]
fn a_machine_that_dials_itself_is_refused() {
    let port = free_tcp_port();
    let machine = Machine::start("lonely", |config| {
        config.listen = Listen::Exactly(port);
        config.peers = vec![format!("127.0.0.1:{port}")];
    });
    logged(&[&format!("--peer 127.0.0.1:{port}"), "is this daemon itself"]);
    assert!(machine.events.try_recv().is_err());
}

#[test]
fn a_link_that_was_cut_comes_back() {
    let ([first, second], links) = pair(["first7", "second7"]);
    first.run(Action::Close { link: links[0], why: "a test".to_owned() });
    first.down(links[0]);
    second.down(links[1]);
    assert_ne!(first.linked(), links[0]);
    logged(&["the link with second7", "broke the protocol: a test"]);
}

#[test]
fn a_port_in_use_is_refused_or_gives_way() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = Machine::try_start("a", |config| config.listen = Listen::Exactly(port)).err().unwrap().to_string();
    assert!(refused.contains(&port.to_string()) && refused.contains("--listen-port"), "{refused}");
    let other = Machine::start("b", |config| config.listen = Listen::Default(port));
    assert_ne!(other.net.port(), port);
}

#[test]
fn a_bad_peer_is_refused_by_name() {
    for bad in ["nas", ":6000", "nas:", "nas:0", "nas:65536", "a b:1", "http://nas:6000", "::1:6000", "na\u{1b}s:1"] {
        let refused = Machine::try_start("a", |config| config.peers = vec![bad.to_owned()]).err().unwrap().to_string();
        assert!(
            refused.contains("--peer") && refused.contains("HOST:PORT") && !refused.contains('\u{1b}'),
            "{refused}"
        );
    }
    Machine::start("a", |config| config.peers = vec!["[::1]:1".to_owned(), "nas.local:6000".to_owned()]);
}

/// A member whose secret is what readers get of the one of `--open`.
fn readers_secret() -> Secret {
    Secret::from_member(&Secret::open_to_all().to_joiner(Capability::ReadOnly).unwrap())
}

fn capability(machine: &Machine) -> Capability {
    machine.wait(|event| if let Event::LinkUp { capability, .. } = event { Some(capability) } else { None })
}

#[test]
fn each_end_of_a_link_shows_by_its_proof_whether_it_may_write() {
    let reader = |name: &str, peer: String| {
        Machine::start(name, |config| {
            config.keys = readers_secret().keys();
            config.peers = vec![peer];
            config.times.alone = Duration::from_millis(50);
        })
    };
    let writer = Machine::start("writer", |config| config.times.alone = Duration::from_millis(50));
    let first = reader("reader", writer.address());
    assert_eq!((capability(&writer), capability(&first)), (Capability::ReadOnly, Capability::Write));
    let second = reader("reader-too", first.address());
    assert_eq!((capability(&first), capability(&second)), (Capability::ReadOnly, Capability::ReadOnly));
    logged(&["all that is linked may only read (reader)"]);
    let _other_writer = Machine::start("writer-too", |config| config.peers = vec![writer.address()]);
    assert_eq!(capability(&writer), Capability::Write);
}

#[test]
fn readers_and_writers_find_each_other_by_broadcast() {
    let broadcast_port = free_udp_port();
    let writer = Machine::start("announced", |config| config.broadcast_port = broadcast_port);
    let reader = Machine::start("announced-to", |config| {
        config.broadcast_port = broadcast_port;
        config.keys = readers_secret().keys();
    });
    assert_eq!((capability(&writer), capability(&reader)), (Capability::ReadOnly, Capability::Write));
}

#[tokio::test]
async fn a_reader_of_another_group_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (other, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
    let other = Secret::from_member(&other.to_joiner(Capability::ReadOnly).unwrap());
    let machine = Machine::start("choosy", |_| {});
    let refused = member(&machine, |me| me.keys = other.keys()).await;
    assert!(matches!(refused, Err(GreetError::WrongSecret)));
    // Nor does a wrong public key make a reader take anyone for a writer.
    let mixed = SecretKeys { writers_public: other.keys().writers_public, ..readers_secret().keys() };
    let fooled = member(&machine, |me| me.keys = mixed).await.unwrap();
    assert_eq!(fooled.capability, Capability::ReadOnly);
}
