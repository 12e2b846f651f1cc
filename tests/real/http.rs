//! The API over TCP: who is answered, who is not, and whom it keeps waiting.

use crate::common::disk::path_text;
use crate::common::machine::text_of;
use crate::common::tls::with_anyone;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, read, remove, start_all, write};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A machine that also answers over TCP, at a port of its own.
struct Web {
    machine: Machine,
    address: SocketAddr,
    token: String,
    read_only: String,
    fingerprint: Option<String>,
}

impl Web {
    fn start(options: &[&str]) -> Self {
        let mut machine = Group::new().machine("a");
        machine.options = options.iter().map(|&option| option.to_owned()).collect();
        machine.start();
        Self::of(machine)
    }

    fn of(machine: Machine) -> Self {
        let (whole, read_only) = (said(&machine, &["web"]), said(&machine, &["web", "--read-only"]));
        let (url, token) = whole["url"].as_str().and_then(|url| url.split_once("/#token=")).expect("with a token");
        let (_, address) = url.split_once("://").expect("a scheme");
        let (_, reads) = read_only["url"].as_str().and_then(|url| url.split_once("/#token=")).expect("with a token");
        assert_ne!(token, reads);
        Self {
            address: address.parse().expect("an address and a port"),
            token: token.to_owned(),
            read_only: reads.to_owned(),
            fingerprint: whole["fingerprint"].as_str().map(str::to_owned),
            machine,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_with(method, path, headers, "")
    }

    /// `HOST`, `WHOLE` and `READ` stand for what they are here.
    fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        Answer::of(self.connect(), &self.request(method, path, headers, body))
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let host = [("host", "HOST")];
        let has_host = headers.iter().any(|(name, _)| *name == "host");
        let headers = headers.iter().chain(if has_host { &[][..] } else { &host });
        let lines: Vec<_> = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat().replace("HOST", &self.address.to_string());
        let lines = lines.replace("WHOLE", &self.token).replace("READ", &self.read_only);
        let end = format!("content-type: application/json\r\nconnection: close\r\ncontent-length: {}", body.len());
        format!("{method} {path} HTTP/1.1\r\n{lines}{end}\r\n\r\n{body}")
    }
}

fn said(machine: &Machine, words: &[&str]) -> Value {
    machine.json(words).unwrap_or_else(|why| panic!("{why}"))
}

#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(mut stream: impl Read + Write, request: &str) -> Self {
        stream.write_all(request.as_bytes()).expect("it is taken");
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        // What ends a TLS connection without a word has answered all the same.
        assert!(read.is_ok() || !bytes.is_empty(), "{read:?}");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
        Self { code, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// A refusal with this code, as a problem that says these words.
    fn refuses(&self, code: u16, says: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{problem}");
        assert_eq!(problem["status"], code);
    }
}

/// The most of a body that is read.
const BODY_BYTES: usize = 2 << 20;
const KEY: (&str, &str) = ("x-api-key", "WHOLE");
const STATUS: &str = "/api/v1/status";

#[test]
fn over_tcp_who_has_a_token_is_answered_and_nobody_else() {
    let web = Web::start(&["--http", "0"]);
    let answer = web.ask("GET", STATUS, &[("authorization", "Bearer WHOLE")]);
    assert_eq!((answer.code, &answer.json()["name"]), (200, &Value::from("a")));
    assert!(!answer.head.contains("access-control"), "{answer:?}");
    for part in [
        "content-security-policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(answer.head.contains(part), "{part}: {answer:?}");
    }
    assert_eq!(web.ask("GET", STATUS, &[KEY]).code, 200);
    assert_eq!(web.ask("GET", "/v1/status", &[KEY]).code, 200);
    assert!(web.ask("GET", "/api/openapi.json", &[KEY]).json()["paths"][STATUS].is_object());

    web.ask("GET", STATUS, &[]).refuses(401, "'dirsync web' shows it");
    assert!(web.ask("GET", STATUS, &[]).head.contains("www-authenticate: bearer"));
    web.ask("GET", STATUS, &[("x-api-key", &"0".repeat(64))]).refuses(401, "not one of this daemon");
    web.ask("GET", "/api/openapi.json", &[]).refuses(401, "token");
    web.ask("GET", "/none", &[]).refuses(401, "token");
    web.ask("GET", "/none", &[KEY]).refuses(404, "no such request");
    web.ask("PATCH", STATUS, &[KEY]).refuses(405, "another method");
    // What is for the owner's own socket alone holds the secret.
    web.ask("POST", "/internal/identity/export", &[KEY]).refuses(404, "no such request");
    // A page of somewhere, with and without a name that leads here, even if it knew the token.
    let port = web.address.port();
    for host in ["evil.example", &format!("evil.example:{port}"), &format!("127.0.0.1:{}", port ^ 1), "127.0.0.1"] {
        web.ask("GET", STATUS, &[("host", host), KEY]).refuses(421, &web.address.to_string());
        web.ask("GET", "/", &[("host", host)]).refuses(421, &web.address.to_string());
    }
    for origin in ["http://evil.example", "null", "https://HOST", &format!("http://localhost:{port}")] {
        web.ask("POST", "/api/v1/pause", &[("origin", origin), KEY]).refuses(403, "another origin");
        let preflight = web.ask("OPTIONS", STATUS, &[("origin", origin), ("access-control-request-method", "GET")]);
        assert!(preflight.code == 403 && !preflight.head.contains("access-control"), "{preflight:?}");
    }
    assert_eq!(web.ask("GET", STATUS, &[("origin", "http://HOST"), KEY]).code, 200);
    let localhost = format!("localhost:{port}");
    assert_eq!(web.ask("GET", STATUS, &[("host", &localhost), KEY]).code, 200);
    assert_eq!(said(&web.machine, &["status"])["paused"], false);
    // What needs no token.
    assert_eq!(web.ask("GET", "/api/v1/healthz", &[]).json(), serde_json::json!({ "ok": true }));
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let page = web.ask("GET", path, &[]);
        assert!(page.code == 200 && page.head.contains(&format!("content-type: {kind}")), "{page:?}");
        let policy = page.head.lines().find_map(|line| line.strip_prefix("content-security-policy: "));
        let policy = policy.expect("a policy");
        let strict = ["default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"];
        assert!(strict.iter().all(|rule| policy.contains(rule)) && !policy.contains("unsafe"), "{policy}");
        assert!(!page.body.contains(&web.token) && !page.body.contains(path_text(&web.machine.dir)), "{page:?}");
    }
}

#[test]
fn the_token_for_reading_changes_nothing_and_both_are_the_owner_s_alone() {
    let web = Web::start(&["--http", "0"]);
    let reads = ("x-api-key", "READ");
    assert_eq!(web.ask("GET", STATUS, &[reads]).code, 200);
    assert_eq!(web.ask("HEAD", STATUS, &[reads]).code, 200);
    for path in ["/api/v1/pause", "/v1/pause", "/api/v1/confirm", "/api/v1/invite", "/"] {
        web.ask_with("POST", path, &[reads], "{}").refuses(403, "may only read");
    }
    assert_eq!(said(&web.machine, &["status"])["paused"], false);
    assert_eq!(web.ask_with("POST", "/api/v1/pause", &[KEY], "{}").code, 200);
    assert_eq!(said(&web.machine, &["status"])["paused"], true);
    let files = ["http-token", "http-token-read-only"].map(|name| web.machine.state.join(name));
    for (file, token) in files.iter().zip([&web.token, &web.read_only]) {
        assert_eq!(read(file), format!("{token}\n").as_bytes());
        let mode = std::fs::metadata(file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", path_text(file));
    }
    // They outlive the daemon, and are gone for good once they are removed.
    let old = web.token.clone();
    web.machine.restart();
    let web = Web::of(web.machine);
    assert_eq!(web.token, old);
    web.machine.stop();
    remove(&files[0]);
    web.machine.start();
    let web = Web::of(web.machine);
    web.ask("GET", STATUS, &[("x-api-key", &old)]).refuses(401, "not one of this daemon");
    assert_eq!(web.ask("GET", STATUS, &[KEY]).code, 200);
}

#[test]
fn clients_that_are_slow_or_send_too_much_keep_nobody_out_and_no_memory() {
    let web = Web::start(&["--http", "0"]);
    web.machine.wait_own_idle();
    let before = web.machine.resident_bytes();
    let begun = Instant::now();
    // Far more than may be open; the first ones are closed for the others.
    let mut slow: Vec<TcpStream> = (0..400).map(|_| web.connect()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: ");
    }
    assert_eq!(web.ask("GET", STATUS, &[KEY]).code, 200);
    assert_eq!(said(&web.machine, &["status"])["name"], "a");
    // A head without an end; one of many small headers.
    for part in [&[b'a'; 4096][..], &b"a: b\r\n".repeat(700)] {
        let mut flood = web.connect();
        flood.write_all(b"GET / HTTP/1.1\r\n").expect("a first line");
        let sent = (0..1 << 10).take_while(|_| flood.write_all(part).is_ok()).count();
        assert!(sent * part.len() < 4 << 20, "it is read to the end: {sent} times {}", part.len());
    }
    // A body that is never sent is waited for only where there is a token, and a large one never.
    let declared = |key: &str| format!("POST /api/v1/pause HTTP/1.1\r\nhost: {}\r\nx-api-key: {key}\r\n", web.address);
    let answer = Answer::of(web.connect(), &format!("{}content-length: 1000\r\n\r\n", declared("00")));
    answer.refuses(401, "token");
    let body = BODY_BYTES + 1;
    let large = Answer::of(web.connect(), &format!("{}content-length: {body}\r\n\r\n", declared(&web.token)));
    large.refuses(413, "name fewer paths");
    // Who does not say how much comes is refused at the first byte too many, and not before.
    let chunks = format!("{}transfer-encoding: chunked\r\n\r\n{body:x}\r\n", declared(&web.token));
    Answer::of(web.connect(), &(chunks + &"x".repeat(body))).refuses(413, "name fewer paths");
    // The body of what only asks is read by nobody.
    for method in ["GET", "HEAD"] {
        let request = web.request(method, STATUS, &[KEY], "").replace("content-length: 0", "content-length: 1000");
        assert_eq!(Answer::of(web.connect(), &request).code, 200, "{method}");
    }
    assert!(web.machine.resident_bytes() < before + (48 << 20), "{before} {}", web.machine.resident_bytes());
    // Whoever never comes to an end is ended.
    let mut last = slow.pop().expect("the newest");
    let mut rest = Vec::new();
    let _ = last.read_to_end(&mut rest);
    assert!(begun.elapsed() < Duration::from_secs(50), "it waits for a head without an end");
    assert_eq!(web.ask("GET", "/api/v1/healthz", &[]).code, 200);
}

fn over_tls(stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let config = with_anyone().with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream)
}

#[test]
fn over_tls_the_certificate_is_the_one_that_dirsync_shows() {
    let web = Web::start(&["--http", "127.0.0.1:0", "--http-tls"]);
    let mut stream = over_tls(web.connect());
    let answer = Answer::of(&mut stream, &web.request("GET", STATUS, &[KEY, ("origin", "https://HOST")], ""));
    assert_eq!((answer.code, &answer.json()["name"]), (200, &Value::from("a")));
    let certificate = stream.conn.peer_certificates().expect("a certificate")[0].clone();
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().expect("it is one of 1.3");
    let sha256 = suite.common.hash_provider.hash(&certificate);
    let sha256: Vec<_> = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(web.fingerprint, Some(sha256.concat()));
    Answer::of(over_tls(web.connect()), &web.request("GET", STATUS, &[], "")).refuses(401, "token");
    // One that says nothing, or speaks no TLS, is in nobody's way.
    let _silent: Vec<TcpStream> = (0..100).map(|_| web.connect()).collect();
    let mut plain = web.connect();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("it is taken");
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(Answer::of(over_tls(web.connect()), &web.request("GET", STATUS, &[KEY], "")).code, 200);
    assert_eq!(said(&web.machine, &["status"])["name"], "a");
}

#[test]
fn an_address_that_other_machines_reach_is_warned_of_and_what_is_none_is_refused() {
    let web = Web::start(&["--http", "0.0.0.0:0"]);
    web.machine.wait_log(&["WARN", "--http 0.0.0.0:", "--http-tls"]);
    assert_eq!(web.address.ip().to_string(), "127.0.0.1", "from here it is asked here");
    assert_eq!(web.ask("GET", STATUS, &[KEY]).code, 200);

    let mut machine = Group::new().machine("b");
    machine.options = vec!["--http".to_owned(), "nas:8080".to_owned()];
    machine.run_to_end().says(2, "--http 'nas:8080'", &["no address"]);
    machine.options = Vec::new();
    machine.start();
    let out = machine.cli(&["web"]);
    let text = text_of(&out);
    assert!(out.status.code() == Some(1) && text.contains("without --http") && text.contains("--http 8080"), "{text}");
    assert!(!machine.state.join("http-token").exists(), "there is none to steal where none is needed");
}

#[test]
fn a_port_that_is_taken_keeps_nothing_from_syncing_and_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options = vec!["--http".to_owned(), port.to_string()];
    a.names_itself = false;
    start_all(&[&a, &b]);
    a.wait_log(&["WARN", &format!("--http 127.0.0.1:{port}"), "in use", "Syncing goes on without it"]);
    write(a.at("f"), "of a machine that nobody asks over TCP");
    converge(&[&a, &b]);
    // Whoever holds the port is shown no token.
    let out = a.cli(&["web"]);
    let text = text_of(&out);
    assert!(out.status.code() == Some(1) && text.contains("in use") && !text.contains("token="), "{text}");
    let status = said(&a, &["status"]);
    assert!(status["http"].is_null() && status["http_trouble"].as_str().is_some_and(|why| why.contains("in use")));
    let check = a.cli(&["status", "--check"]);
    assert!(check.status.code() == Some(1) && text_of(&check).contains("over TCP"), "{}", text_of(&check));
    // So does a start of the daemon's own, which nobody is there to see.
    assert!(a.cli(&["rename", "renamed"]).status.success());
    eventually("it is called so", PATIENCE, || match said(&b, &["peers"])[0]["name"].as_str() {
        Some("renamed") => Ok(()),
        name => Err(format!("{name:?}")),
    });
    write(a.at("g"), "after that");
    converge(&[&a, &b]);
    drop(taken);
    a.wait_log(&["INFO", &format!("the API also answers at http://127.0.0.1:{port}/")]);
    let web = Web::of(a);
    assert_eq!(web.ask("GET", STATUS, &[KEY]).json()["http_trouble"], Value::Null);
}

/// The value of the only sample of this name, or the sum of all.
fn metric(web: &Web, name: &str) -> f64 {
    let answer = web.ask("GET", "/api/v1/metrics", &[("x-api-key", "READ")]);
    assert_eq!(answer.code, 200, "{answer:?}");
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = answer.body.lines().filter(is_it).map(|line| line.rsplit(' ').next().expect("a value"));
    values.map(|value| value.parse::<f64>().unwrap_or_else(|why| panic!("{why}: {value}"))).sum()
}

#[test]
fn a_monitor_sees_changes_come_and_machines_go_and_counters_never_shrink() {
    const RECEIVED: &str = "dirsyncd_peer_received_bytes_total";
    let (mut a, b) = {
        let group = Group::new();
        (group.machine("a"), group.machine("b"))
    };
    a.options = vec!["--http".to_owned(), "0".to_owned()];
    start_all(&[&a, &b]);
    let web = Web::of(a);
    write(b.at("f"), noise(1, 300_000));
    converge(&[&web.machine, &b]);
    let answer = web.ask("HEAD", "/api/v1/metrics", &[("x-api-key", "READ")]);
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer:?}");
    web.ask("GET", "/api/v1/metrics", &[]).refuses(401, "token");
    assert!(metric(&web, "dirsyncd_changes_installed_total") >= 1.0);
    assert!(metric(&web, "dirsyncd_changes_installed_content_bytes_total") >= 300_000.0);
    assert!(metric(&web, "dirsyncd_files_bytes") >= 300_000.0 && metric(&web, "dirsyncd_index_bytes") > 0.0);
    assert!(metric(&web, "dirsyncd_peer_linked") > 0.5 && metric(&web, "dirsyncd_scans_total") >= 1.0);
    let received = metric(&web, RECEIVED);
    assert!(received > 300_000.0, "{received}");
    b.stop();
    eventually("b is away", PATIENCE, || {
        let linked = metric(&web, "dirsyncd_peer_linked");
        if linked < 0.5 { Ok(()) } else { Err(format!("{linked}")) }
    });
    assert!(metric(&web, RECEIVED) >= received, "of a link that has ended");
    b.start();
    converge(&[&web.machine, &b]);
    assert!(metric(&web, RECEIVED) > received, "of both links");
}

/// A user who is nobody but a member of these groups, on a thread of its own.
fn as_member(groups: &[u32], socket: &Path, request: &str) -> std::io::Result<Answer> {
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (nobody, nogroup) = (Uid::from_raw(65534), Gid::from_raw(65534));
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            set_thread_groups(&groups)?;
            set_thread_res_gid(nogroup, nogroup, nogroup)?;
            set_thread_res_uid(nobody, nobody, nobody)?;
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Answer::of(stream, request))
        });
        asks.join().expect("it does not panic")
    })
}

#[test]
fn a_group_reads_at_its_socket_and_changes_nothing_and_nobody_else_gets_in() {
    const GROUP: u32 = 4242;
    if !is_root("a_group_reads_at_its_socket_and_changes_nothing_and_nobody_else_gets_in") {
        return;
    }
    // The folders of the harness let nobody else in.
    let run = tempfile::TempDir::new().expect("a folder");
    std::fs::set_permissions(run.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let socket = run.path().join("api");
    let mut machine = Group::new().machine("a");
    machine.through = vec!["env".to_owned(), format!("RUNTIME_DIRECTORY={}", path_text(run.path()))];
    machine.options = vec!["--socket-group".to_owned(), GROUP.to_string()];
    machine.start();
    machine.wait_log(&["INFO", "answers what reads", path_text(&socket)]);
    let request = |method: &str, path: &str| {
        let head = "host: dirsyncd\r\nconnection: close\r\ncontent-length: 2\r\ncontent-type: application/json";
        format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n{{}}")
    };
    let asked = |groups: &[u32], method: &str, path: &str| as_member(groups, &socket, &request(method, path));
    let status = asked(&[7, GROUP], "GET", STATUS).expect("a member is let in");
    assert_eq!((status.code, &status.json()["name"]), (200, &Value::from("a")));
    assert_eq!(asked(&[GROUP], "HEAD", "/v1/peers").expect("a member is let in").code, 200);
    for path in ["/api/v1/pause", "/v1/invite", "/internal/identity/export"] {
        asked(&[GROUP], "POST", path).expect("a member is let in").refuses(403, "only answers what reads");
    }
    asked(&[GROUP], "GET", "/internal/identity/export").expect("a member is let in").refuses(404, "no such request");
    assert_eq!(said(&machine, &["status"])["paused"], false);
    let denied = asked(&[7], "GET", STATUS).expect_err("nobody else is let in");
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    machine.restart();
    assert_eq!(asked(&[GROUP], "GET", STATUS).expect("after a restart").code, 200);
    machine.stop();
    // What cannot be had keeps nothing from syncing.
    machine.options = vec!["--socket-group".to_owned(), "no-such-group".to_owned()];
    machine.start();
    machine.wait_log(&["WARN", "--socket-group no-such-group", "no such group", "Syncing goes on without it"]);
    assert_eq!(said(&machine, &["status"])["name"], "a");
}
