//! A client that does little itself, and a server that answers the same bytes each time: what
//! this machine can do at most.
//!
//! Deliberately not here: anything that looks into an answer.

use crate::common::requests::Wire;
use crate::common::{Machine, PATIENCE};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Read at once.
pub const PART_BYTES: usize = 256 << 10;

/// Where a machine answers over TCP, and with which token.
pub struct WebAddress {
    pub address: SocketAddr,
    pub token: String,
}

impl WebAddress {
    /// Of one that was started with `--http`.
    pub fn of(machine: &Machine) -> Self {
        let said = machine.json(&["web"]).unwrap_or_else(|why| panic!("{why}"));
        let (url, token) = said["url"].as_str().and_then(|url| url.split_once("/#token=")).expect("with a token");
        let address = url.trim_start_matches("http://").parse().expect("an address and a port");
        Self { address, token: token.to_owned() }
    }

    pub fn connect(&self) -> Connection {
        Connection::tcp(self.address, &self.token)
    }
}

/// A connection that is kept, and asked again and again.
pub struct Connection {
    stream: BufReader<Box<dyn Wire>>,
    /// What each request has in its head.
    head: String,
}

/// An answer whose body is still to be read.
pub struct AnswerHead {
    pub code: u16,
    /// `None`: it comes in chunks.
    pub length: Option<u64>,
    pub text: String,
}

impl Connection {
    pub fn tcp(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self::new(Box::new(stream), format!("host: {address}\r\nx-api-key: {token}\r\n"))
    }

    pub fn unix(machine: &Machine) -> Self {
        Self::new(crate::common::requests::socket(machine), "host: dirsyncd\r\n".to_owned())
    }

    fn new(stream: Box<dyn Wire>, head: String) -> Self {
        Self { stream: BufReader::with_capacity(PART_BYTES, stream), head }
    }

    pub fn send(&mut self, method: &str, path: &str, lines: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\n{}{lines}\r\n", self.head);
        self.stream.get_mut().write_all(request.as_bytes()).expect("it is taken");
    }

    /// What follows a head that was sent.
    pub fn send_body(&mut self, part: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(part)
    }

    pub fn answer(&mut self) -> AnswerHead {
        let mut text = String::new();
        while self.stream.read_line(&mut text).expect("an answer") > 2 {}
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        let length = |line: &str| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
        AnswerHead { code, length: text.lines().find_map(length), text }
    }

    /// Takes the body off in parts.
    pub fn body(&mut self, length: u64, mut part: impl FnMut(&[u8])) {
        let mut left = length;
        while left > 0 {
            let here = self.stream.fill_buf().expect("the rest of it");
            assert!(!here.is_empty(), "the answer broke off");
            let taken = here.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            part(&here[..taken]);
            self.stream.consume(taken);
            left -= taken as u64;
        }
    }

    /// Asks, and takes the whole answer off; its body.
    pub fn get(&mut self, path: &str) -> Vec<u8> {
        self.send("GET", path, "");
        let head = self.answer();
        assert_eq!(head.code, 200, "{path}: {}", head.text);
        let mut body = Vec::new();
        self.body(head.length.expect("its length"), |part| body.extend_from_slice(part));
        body
    }

    /// The next chunk of an answer that does not end.
    pub fn chunk(&mut self, part: impl FnMut(&[u8])) {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a chunk");
        let length = u64::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no length: {line:?}"));
        assert!(length > 0, "the stream ended");
        self.body(length, part);
        self.body(2, |_| ());
    }
}

/// Answers whatever is asked with these very bytes, one thread a connection, until the process
/// ends.
pub fn serve_bytes(answer: Vec<u8>) -> SocketAddr {
    let answer = Arc::new(answer);
    serve(move |stream| stream.write_all(&answer))
}

/// One thread a connection, until the process ends.
pub fn serve(answer: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("its own");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            // Whoever asked is gone: that is the end of a connection.
            thread::spawn(move || stream.and_then(|stream| answer_all(stream, &*answer)));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream, answer: &dyn Fn(&mut TcpStream) -> io::Result<()>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut asked, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        asked.extend_from_slice(&part[..read]);
        if asked.ends_with(b"\r\n\r\n") {
            asked.clear();
            answer(&mut stream)?;
        }
    }
}

/// An answer as the daemon has it.
pub fn answer_of(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
