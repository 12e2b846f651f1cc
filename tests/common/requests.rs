//! Requests to a machine's API, with bodies of bytes.

use super::machine::Machine;
use super::{PATIENCE, eventually};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// An answer with a body of bytes.
pub struct Reply {
    pub code: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        format!("{}\n{}", self.head, String::from_utf8_lossy(&self.body[..self.body.len().min(500)]))
    }

    /// A refusal with this code, as a problem that says these words.
    pub fn refuses(&self, code: u16, says: &str) {
        assert_eq!(self.code, code, "{}", self.text());
        assert!(self.json()["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{}", self.text());
    }
}

pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// The Unix socket.
pub fn socket(machine: &Machine) -> Box<dyn Wire> {
    let stream = UnixStream::connect(machine.dir.join(".dirsync/control")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    Box::new(stream)
}

/// What begins a request, and its answer, over the socket.
pub fn ask(machine: &Machine, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut stream = socket(machine);
    send(&mut *stream, method, path, headers);
    reply(&mut *stream)
}

pub fn send(stream: &mut dyn Wire, method: &str, path: &str, headers: &[(&str, &str)]) {
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let lines = lines.concat();
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: dirsyncd\r\n" };
    let request = format!("{method} /api/v1/{path} HTTP/1.1\r\n{host}connection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
}

pub fn reply(stream: &mut dyn Wire) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    Reply { code, head, body: bytes.split_off(end + 4) }
}

/// Once the index knows it.
pub fn wait_known(machine: &Machine, path: &str) {
    eventually("it is hashed", PATIENCE, || {
        let answer = ask(machine, "HEAD", &format!("content/{path}"), &[]);
        (answer.code == 200).then_some(()).ok_or_else(|| answer.text())
    });
}
