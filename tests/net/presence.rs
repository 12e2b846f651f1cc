//! What strangers do with presence, and how soon members find each other in spite of it.

use super::machine::{Machine, logged, logged_often};
use super::ports::free_udp_port;
use dirsyncd::io::store::secret::Secret;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

/// What a stranger hears on the broadcast port, which all share.
fn eavesdropper(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// The announcement of a member that has gone again, and the port where it took links.
fn captured(port: u16) -> (Vec<u8>, u16) {
    let ear = eavesdropper(port);
    let gone = Machine::start("gone", |config| config.broadcast_port = port);
    let mut buffer = [0; 1024];
    let length = ear.recv(&mut buffer).unwrap();
    (buffer[..length].to_vec(), gone.net.port())
}

/// Where a stranger takes connections: the one who listened there may still be leaving.
fn door(ip: Ipv4Addr, port: u16) -> TcpListener {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind((ip, port)) {
            Ok(door) => return door,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Replays it from `source` 600 times a second for two seconds; how many connections that brought
/// to `door`.
fn dialled_by_replays(announcement: &[u8], source: [u8; 4], port: u16, door: &TcpListener) -> usize {
    let mouth = UdpSocket::bind(SocketAddr::from((source, 0))).unwrap();
    mouth.set_broadcast(true).unwrap();
    door.set_nonblocking(true).unwrap();
    let (start, mut dials) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        mouth.send_to(announcement, ("127.255.255.255", port)).unwrap();
        dials += usize::from(door.accept().is_ok());
        std::thread::sleep(Duration::from_micros(1600));
    }
    dials
}

#[test]
fn a_replay_from_an_address_that_is_not_its_sender_s_makes_nobody_dial() {
    let port = free_udp_port();
    let (announcement, links) = captured(port);
    let _member = Machine::start("replayed-to", |config| config.broadcast_port = port);
    let door = door(Ipv4Addr::new(127, 0, 0, 66), links);
    assert_eq!(dialled_by_replays(&announcement, [127, 0, 0, 66], port, &door), 0);
}

#[test]
fn replays_from_the_sender_s_own_address_make_a_member_dial_ever_more_rarely() {
    let port = free_udp_port();
    let (announcement, links) = captured(port);
    let _member = Machine::start("flooded", |config| config.broadcast_port = port);
    let door = door(Ipv4Addr::LOCALHOST, links);
    let dials = dialled_by_replays(&announcement, [127, 0, 0, 1], port, &door);
    assert!((1..=10).contains(&dials), "{dials}");
}

#[test]
fn two_members_link_while_a_stranger_replays_what_both_said() {
    let port = free_udp_port();
    let ear = eavesdropper(port);
    let one = Machine::start("one-apart", |config| config.broadcast_port = port);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mouth = UdpSocket::bind("127.0.0.66:0").unwrap();
            mouth.set_broadcast(true).unwrap();
            ear.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((length, from)) = ear.recv_from(&mut buffer)
                    && from.ip() != Ipv4Addr::new(127, 0, 0, 66)
                {
                    heard.push(buffer[..length].to_vec());
                }
                for datagram in &heard {
                    let _ = mouth.send_to(datagram, ("127.255.255.255", port));
                }
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let two = Machine::start("two-apart", |config| config.broadcast_port = port);
        one.linked();
        two.linked();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn machines_of_two_groups_name_each_other() {
    let (port, dir) = (free_udp_port(), tempfile::tempdir().unwrap());
    let (other, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
    let ours = |name| Machine::start(name, |config| config.broadcast_port = port);
    let linked = [ours("of-our-group"), ours("of-our-group-too")];
    linked[0].linked();
    let _theirs = Machine::start("of-their-group", |config| {
        config.broadcast_port = port;
        config.keys = other.keys();
        config.times.alone = Duration::from_millis(500);
        config.times.alone_again = Duration::from_millis(500);
    });
    logged(&["(of-their-group) is here with another secret", "'dirsync invite'"]);
    logged(&["2 machines of another group are here: of-our-group and of-our-group-too", "'dirsync invite' there"]);
}

#[test]
fn a_machine_that_hears_nobody_says_so_again_and_again() {
    let port = free_udp_port();
    let _alone = Machine::start("hermit", |config| {
        config.broadcast_port = port;
        config.times.alone = Duration::from_millis(50);
        config.times.alone_again = Duration::from_millis(50);
    });
    let line = format!("no other machine is heard on UDP port {port}");
    logged_often(&[&line, "--broadcast-port", "firewalls"], 3);
}

/// The median of nine; a busy machine has three tries.
#[test]
fn from_start_to_link_takes_less_than_50_ms() {
    let took = |n: usize| {
        let port = free_udp_port();
        let first = Machine::start(&format!("early{n}"), |config| config.broadcast_port = port);
        // It has said its first words.
        std::thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        let second = Machine::start(&format!("late{n}"), |config| config.broadcast_port = port);
        first.linked();
        second.linked();
        start.elapsed()
    };
    let mut medians = Vec::new();
    for _ in 0..3 {
        let mut times: Vec<_> = (0..9).map(took).collect();
        times.sort();
        medians.push(times[4]);
        if times[4] < Duration::from_millis(50) {
            println!("median {:?}, from {:?} to {:?}", times[4], times[0], times[8]);
            return;
        }
    }
    panic!("{medians:?}");
}
