//! Large contents: sending one beside `cp` and `fsync`, fetching one beside `cat`, in turns.
//!
//! The file that is sent is in the page cache, for both. What was written is made durable before
//! the next turn, so that no turn pays for another.

use crate::client::{AnswerHead, Connection, PART_BYTES, WebAddress, serve};
use crate::common::disk::{path_text, remove, run};
use crate::common::{Group, Machine, setting, write};
use crate::table::{self, median, mib, spread};
use rustix::fs::Advice;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const RUNS: usize = 5;

pub fn measure() {
    let size = setting("DIRSYNC_API_MIB", 1024) << 20;
    let group = Group::new();
    let mut machine = group.machine("a");
    machine.options = vec!["--http".to_owned(), "0".to_owned()];
    machine.start();
    let web = WebAddress::of(&machine);
    let source = group.path().join("source");
    let blake3 = make(&source, size);
    let sha256 = run("sha256sum", &[path_text(&source)]);
    let blake3 = format!("blake3={blake3}");
    let sha256 = format!("sha256={}", sha256.split(' ').next().expect("a hash"));
    let over_tcp = || web.connect();
    let over_socket = || Connection::unix(&machine);
    let ways: [(&str, &str, &dyn Fn() -> Connection); 3] = [
        ("the socket, by BLAKE3", &blake3, &over_socket),
        ("the socket, by SHA-256", &sha256, &over_socket),
        ("TCP, by BLAKE3", &blake3, &over_tcp),
    ];
    for (what, hash, connect) in ways {
        sending(&machine, (&source, size), (what, hash), connect);
    }
    write(machine.at("content"), b"");
    put(&mut over_socket(), (&source, size), &blake3);
    machine.wait_own_idle();
    for (what, is_cold, connect) in [
        ("the socket, cached", false, &over_socket as &dyn Fn() -> Connection),
        ("TCP, cached", false, &over_tcp),
        ("the socket, from the disk", true, &over_socket),
    ] {
        fetching(&machine, size, (what, is_cold), connect);
    }
    machine.stop();
}

/// Noise, and its hash.
fn make(path: &Path, size: u64) -> String {
    let mut file = File::create(path).expect("a file below our own");
    let (mut noise, mut hasher) = (blake3::Hasher::new().finalize_xof(), blake3::Hasher::new());
    let mut part = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        noise.fill(&mut part);
        hasher.update(&part);
        file.write_all(&part).expect("there is room");
    }
    file.sync_all().expect("a disk");
    hasher.finalize().to_hex().to_string()
}

fn sending(machine: &Machine, source: (&Path, u64), (what, hash): (&str, &str), connect: &dyn Fn() -> Connection) {
    let copy = machine.home.join("copy");
    let [mut ours, mut bare, mut shares] = [Vec::new(), Vec::new(), Vec::new()];
    forget_peak(machine);
    for _ in 0..RUNS {
        let began = Instant::now();
        run("cp", &["--reflink=never", path_text(source.0), path_text(&copy)]);
        File::open(&copy).and_then(|file| file.sync_all()).expect("a disk");
        bare.push(rate(source.1, began));
        remove(&copy);
        run("sync", &["-f", path_text(&machine.dir)]);
        let mut connection = connect();
        let began = Instant::now();
        put(&mut connection, source, hash);
        ours.push(rate(source.1, began));
        shares.push(ours[ours.len() - 1] / bare[bare.len() - 1]);
        // It is looked at once more, as each file that changed is.
        machine.wait_own_idle();
        remove(machine.at("content"));
        machine.wait_own_idle();
        run("sync", &["-f", path_text(&machine.dir)]);
    }
    let limit = (&*spread(&bare, 0), "cp --reflink=never, fsync");
    table::row(&format!("PUT of {} over {what}: MiB a second", mib(source.1)), &spread(&ours, 0), "0.8", limit);
    said(machine, &shares);
}

fn said(machine: &Machine, shares: &[f64]) {
    let peak = mib(machine.peak_bytes());
    table::note(&format!(
        "{:.2} of the limit, the median of {RUNS}; the daemon's peak: {peak}",
        median(shares.to_vec())
    ));
}

fn put(connection: &mut Connection, (source, size): (&Path, u64), hash: &str) {
    let mut file = File::open(source).expect("our own");
    connection.send("PUT", &format!("/api/v1/content/content?{hash}"), &format!("content-length: {size}\r\n"));
    let mut part = vec![0; PART_BYTES];
    let mut left = size;
    while left > 0 {
        let read = file.read(&mut part).expect("our own");
        connection.send_body(&part[..read]).expect("it is taken");
        left -= read as u64;
    }
    let AnswerHead { code, length, text } = connection.answer();
    assert!(code == 200 || code == 201, "{text}");
    connection.body(length.expect("its length"), |_| ());
}

fn fetching(machine: &Machine, size: u64, (what, is_cold): (&str, bool), connect: &dyn Fn() -> Connection) {
    let path = machine.at("content");
    let read = path.clone();
    let served = serve(move |stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n")?;
        copy(&read, stream)
    });
    let [mut ours, mut bare, mut piped, mut shares] = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    forget_peak(machine);
    let prepare = || {
        if is_cold {
            forget_cached(&path);
        }
    };
    for _ in 0..RUNS {
        prepare();
        let began = Instant::now();
        fetch(&mut Connection::tcp(served, ""), size);
        bare.push(rate(size, began));
        prepare();
        let began = Instant::now();
        cat(&path, size);
        piped.push(rate(size, began));
        prepare();
        let mut connection = connect();
        let began = Instant::now();
        fetch(&mut connection, size);
        ours.push(rate(size, began));
        shares.push(ours[ours.len() - 1] / piped[piped.len() - 1]);
    }
    let limit = (&*spread(&piped, 0), "cat into a pipe, the same reader");
    table::row(&format!("GET of {} over {what}: MiB a second", mib(size)), &spread(&ours, 0), "0.8", limit);
    said(machine, &shares);
    table::note(&format!("read and written to a TCP socket by a thread: {}", spread(&bare, 0)));
}

fn copy(from: &PathBuf, to: &mut impl Write) -> std::io::Result<()> {
    let (mut file, mut part) = (File::open(from)?, vec![0; PART_BYTES]);
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&part[..read])?;
    }
}

fn fetch(connection: &mut Connection, size: u64) {
    connection.send("GET", "/api/v1/content/content", "");
    let head = connection.answer();
    assert_eq!((head.code, head.length), (200, Some(size)), "{}", head.text);
    connection.body(size, |_| ());
}

fn cat(path: &Path, size: u64) {
    let mut cat = Command::new("cat").arg(path).stdout(Stdio::piped()).spawn().expect("cat");
    let mut out = cat.stdout.take().expect("it is piped");
    let (mut part, mut left) = (vec![0; PART_BYTES], size);
    while left > 0 {
        let read = out.read(&mut part).expect("a pipe");
        assert!(read > 0, "cat broke off");
        left -= read as u64;
    }
    cat.wait().expect("our child");
}

fn forget_cached(path: &Path) {
    let file = File::open(path).expect("our own");
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("a file");
}

/// The peak counts from now on (`man 5 proc`).
fn forget_peak(machine: &Machine) {
    fs::write(format!("/proc/{}/clear_refs", machine.pid()), "5").expect("a daemon of ours");
}

/// MiB a second.
fn rate(size: u64, began: Instant) -> f64 {
    (size >> 20) as f64 / began.elapsed().as_secs_f64()
}
