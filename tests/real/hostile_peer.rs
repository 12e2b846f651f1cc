//! Whoever reaches the TCP port without the secret: garbage, oversize, silence, crowds. Members go
//! on, memory stays (P6, P9).

use crate::common::machine::wait_linked;
use crate::common::ports::free_tcp_port;
use crate::common::tls::with_anyone;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, noise, wait_equal, write};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Two members, one of them on a port that the stranger knows.
struct Besieged {
    a: Machine,
    b: Machine,
    port: u16,
}

impl Besieged {
    fn new() -> Self {
        let (group, port) = (Group::new(), free_tcp_port());
        let (mut a, b) = (group.machine("a"), group.machine("b"));
        a.options = vec!["-l".to_owned(), port.to_string()];
        a.start();
        b.start();
        wait_linked(&[&a, &b]);
        write(a.at("private-name"), "private contents");
        converge(&[&a, &b]);
        Self { a, b, port }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the port is open");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    }

    /// As one who speaks TLS, with a certificate, but does not know the secret.
    fn dial_tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("dirsyncd").expect("a name");
        let connection = ClientConnection::new(Arc::new(client_config()), name).expect("a client");
        let mut stream = StreamOwned::new(connection, self.dial());
        stream.flush().expect("the handshake begins");
        stream
    }

    /// The members sync as before, and the daemon has not grown.
    fn goes_on(&self, round: &str) {
        write(self.a.at("from-a"), round);
        write(self.b.at("from-b"), round);
        wait_equal(&[&self.a, &self.b], PATIENCE);
        let resident = self.a.resident_bytes();
        assert!(resident < 200 << 20, "{} MiB resident after: {round}", resident >> 20);
    }
}

/// Reads until the other end closes; fails when it does not within `within`. Returns what it said.
fn closed_within(stream: &mut impl Read, within: Duration) -> Vec<u8> {
    let (start, mut said, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("it is still open after {:?}", start.elapsed())
            }
            // A reset, or an end without TLS's goodbye: closed all the same.
            Err(_) => break,
        }
        assert!(start.elapsed() < within, "it is still talking after {:?}", start.elapsed());
    }
    assert!(start.elapsed() < within, "closed only after {:?}", start.elapsed());
    said
}

#[test]
fn garbage_on_the_tcp_port_is_hung_up_on_and_members_go_on() {
    let siege = Besieged::new();
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    // A TLS record that announces the longest body, and one frame length of 4 GiB.
    let records = [noise(1, 10_000), http, [&[22, 3, 1, 255, 255][..], &noise(2, 70_000)].concat(), vec![255; 100_000]];
    for (round, garbage) in records.iter().cycle().take(40).enumerate() {
        let mut stream = siege.dial();
        // It may hang up before all is written.
        let _ = stream.write_all(garbage);
        closed_within(&mut stream, Duration::from_secs(20));
        if round % 10 == 9 {
            siege.goes_on(&format!("garbage {round}"));
        }
    }
}

#[test]
fn silence_is_hung_up_on_after_ten_seconds() {
    let siege = Besieged::new();
    let (mut mute, mut mute_in_tls) = (siege.dial(), siege.dial_tls());
    std::thread::scope(|scope| {
        scope.spawn(|| closed_within(&mut mute, Duration::from_secs(20)));
        scope.spawn(|| closed_within(&mut mute_in_tls, Duration::from_secs(20)));
        siege.goes_on("two are silent");
    });
}

#[test]
fn a_crowd_of_half_open_links_keeps_no_member_out() {
    let siege = Besieged::new();
    let crowd: Vec<TcpStream> = (0..300).map(|_| siege.dial()).collect();
    siege.b.restart();
    wait_linked(&[&siege.a, &siege.b]);
    siege.goes_on("a crowd stands at the door");
    drop(crowd);
}

#[test]
fn a_stranger_who_speaks_tls_learns_nothing_and_cannot_send_anything() {
    let siege = Besieged::new();
    let huge_head = [u32::MAX.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    let huge_body = [2_u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
    let state = frame(r#"{"kind":"state","root":"00000000000000000000000000000000","pending":0}"#, b"");
    let other_version = frame(r#"{"kind":"hello","protocol":4000000000,"name":"x","software":"x","boot":1}"#, b"");
    let attacks: [(&str, Vec<u8>); 6] = [
        ("noise", noise(4, 4000)),
        ("a head of 4 GiB", huge_head),
        ("a body of 4 GiB", huge_body),
        ("a message before the proof", state),
        ("another version of the protocol", other_version),
        ("a head that is no JSON", frame("\u{0}{{{{", b"body")),
    ];
    for (attack, bytes) in attacks {
        let mut stream = siege.dial_tls();
        let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
        let said = closed_within(&mut stream, Duration::from_secs(20));
        let text = String::from_utf8_lossy(&said);
        assert!(!text.contains("private"), "{attack}: a stranger was told {text}");
        assert!(said.len() < 4096, "{attack}: a stranger was told {} bytes", said.len());
        siege.goes_on(attack);
    }
    assert!(siege.a.exit_status().is_none(), "the daemon ended");
}

#[test]
fn strangers_do_not_fill_the_log() {
    let siege = Besieged::new();
    let before = siege.a.log().len();
    for _ in 0..200 {
        let _ = siege.dial().write_all(b"x");
    }
    siege.goes_on("200 knocked");
    eventually("the log rests", PATIENCE, || {
        let grown = siege.a.log().len() - before;
        (grown < 60_000).then_some(()).ok_or(format!("{grown} bytes of log for 200 knocks"))
    });
}

/// A frame as the protocol has it: two lengths, a head, a body.
fn frame(head: &str, body: &[u8]) -> Vec<u8> {
    let lengths = [(head.len() as u32).to_be_bytes(), (body.len() as u32).to_be_bytes()].concat();
    [&lengths, head.as_bytes(), body].concat()
}

fn client_config() -> ClientConfig {
    let made = rcgen::generate_simple_self_signed(["stranger".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    with_anyone().with_client_auth_cert(vec![made.cert.der().clone()], key).expect("a key")
}
