//! A large folder: pages of its files, its events, and a page that is open while nothing happens.

use crate::client::{Connection, WebAddress, answer_of, serve, serve_bytes};
use crate::common::{Group, Machine, eventually, setting};
use crate::table::{self, NO_LIMIT, median, mib, ms, spread};
use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

/// Files in each folder of the tree.
const IN_EACH: u64 = 1000;
const TIMES: usize = 50;
const REPLAYS: usize = 20;
/// Files that are made while a reader follows.
const FLOOD: u64 = 20_000;
/// As often an idle page asks for all that it shows.
const PAGE_LOOKS_EVERY: Duration = Duration::from_secs(30);
const PAGE_ASKS: [&str; 5] =
    ["/api/v1/status", "/api/v1/peers?all=true", "/api/v1/held", "/api/v1/conflicts", "/api/v1/log?n=60&after=0"];
/// What follows a scan is over by then.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// Of the times in `/proc` (`man 5 proc`).
const TICKS_A_SECOND: f64 = 100.0;
/// How long a folder of a million files may take until it is known.
const KNOWN_WITHIN: Duration = Duration::from_mins(30);

pub fn measure() {
    let files = setting("DIRSYNC_API_FILES", 100_000);
    let mut machine = Group::new().machine("a");
    machine.options = vec!["--http".to_owned(), "0".to_owned()];
    for n in 0..files {
        let dir = machine.dir.join(format!("folder-{:04}", n / IN_EACH));
        if n % IN_EACH == 0 {
            fs::create_dir_all(&dir).expect("a folder below our own");
        }
        fs::write(dir.join(format!("file-{:04}.txt", n % IN_EACH)), format!("{n}\n")).expect("a file below our own");
    }
    let began = Instant::now();
    machine.start();
    wait_known(&machine, files);
    table::note(&format!("{files} files are known after {:.1} s", began.elapsed().as_secs_f64()));
    let web = WebAddress::of(&machine);
    pages(&web, files);
    replay(&web);
    memory(&machine);
    idle(&machine, &web);
    live(&machine, &web, files);
    memory(&machine);
    machine.stop();
}

fn wait_known(machine: &Machine, files: u64) {
    eventually("all files are known", KNOWN_WITHIN, || {
        let status = machine.json(&["status"])?;
        let is_known = status["idle"] == true && status["files"] == files;
        is_known.then_some(()).ok_or_else(|| format!("{} files, idle: {}", status["files"], status["idle"]))
    });
}

fn memory(machine: &Machine) {
    let figure = format!("{}, {}", mib(machine.resident_bytes()), mib(machine.peak_bytes()));
    table::row("resident memory now, and at most until now", &figure, "-", NO_LIMIT);
}

fn pages(web: &WebAddress, files: u64) {
    let middle = format!("folder-{:04}/file-0500.txt", files / IN_EACH / 2);
    let requests = [
        ("ls, the first 1,000", "/api/v1/ls?limit=1000".to_owned(), "20"),
        ("ls, 1,000 from the middle", format!("/api/v1/ls?limit=1000&after={middle}"), "20"),
        ("ls?children=true of the root", "/api/v1/ls?children=true".to_owned(), "200"),
        ("ls?children=true of a folder of 1,000", "/api/v1/ls?children=true&path=folder-0000".to_owned(), "200"),
    ];
    for (what, path, goal) in requests {
        let mut ours = web.connect();
        let body = ours.get(&path);
        let mut bare = Connection::tcp(serve_bytes(answer_of(&body)), "");
        let figures = times(&mut ours, &path);
        let limit = format!("{:.2}", median(times(&mut bare, &path)));
        let what = format!("{what}, of {files} files over TCP, {} KiB: ms", body.len() >> 10);
        table::row(&what, &spread(&figures, 1), goal, (&limit, "the same bytes, fixed"));
    }
}

fn times(connection: &mut Connection, path: &str) -> Vec<f64> {
    let time = |_| {
        let began = Instant::now();
        connection.get(path);
        ms(began.elapsed())
    };
    (0..TIMES).map(time).collect()
}

/// One reader of `/api/v1/events`. It counts lines, of which each event has four: JSON has no line
/// breaks but in what it escapes.
struct EventReader {
    connection: Connection,
    lines: u64,
    bytes: u64,
    tail: Vec<u8>,
}

impl EventReader {
    fn open(mut connection: Connection, lines: &str) -> Self {
        connection.send("GET", "/api/v1/events", lines);
        let head = connection.answer();
        assert_eq!((head.code, head.length), (200, None), "{}", head.text);
        Self { connection, lines: 0, bytes: 0, tail: Vec::new() }
    }

    fn next(&mut self) {
        let Self { connection, lines, bytes, tail } = self;
        connection.chunk(|part| {
            *lines += part.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            *bytes += part.len() as u64;
            tail.extend_from_slice(&part[part.len().saturating_sub(1024)..]);
            tail.drain(..tail.len().saturating_sub(1024));
        });
    }

    fn events(&self) -> u64 {
        self.lines / 4
    }

    /// The run, and the number of the event that was read last.
    fn latest(&self) -> Option<(String, u64)> {
        let text = String::from_utf8_lossy(&self.tail);
        let (run, number) = text.lines().rev().find_map(|line| line.strip_prefix("id: ")?.split_once('-'))?;
        Some((run.to_owned(), number.parse().ok()?))
    }

    /// 0: none was read.
    fn number(&self) -> u64 {
        self.latest().map_or(0, |(_, number)| number)
    }

    fn read_until(&mut self, number: u64) {
        while self.number() < number {
            self.next();
        }
    }
}

/// All events that are kept, again and again.
fn replay(web: &WebAddress) {
    let mut last = EventReader::open(web.connect(), "");
    last.next();
    let (run, latest) = last.latest().expect("where the stream begins");
    let after_none = format!("last-event-id: {run}-0\r\n");
    let read = |connection: Connection| {
        let began = Instant::now();
        let mut reader = EventReader::open(connection, &after_none);
        reader.read_until(latest);
        (reader.events() as f64 / began.elapsed().as_secs_f64(), reader)
    };
    let (_, reader) = read(web.connect());
    let (events, bytes) = (reader.events(), reader.bytes);
    let line = format!("\nid: {run}-{latest}\n\n\n");
    let bare = serve(move |stream| write_chunks(stream, bytes, events, &line));
    let rates = |connect: &dyn Fn() -> Connection| (0..REPLAYS).map(|_| read(connect()).0).collect::<Vec<_>>();
    let (ours, limit) = (rates(&|| web.connect()), rates(&|| Connection::tcp(bare, "")));
    let what = format!("events that are kept, read again ({events}, {} KiB): a second", bytes >> 10);
    table::row(&what, &spread(&ours, 0), "100,000", (&spread(&limit, 0), "as many bytes and lines, fixed"));
}

/// As much as the events are, in pieces as the daemon makes them.
fn write_chunks(stream: &mut std::net::TcpStream, bytes: u64, events: u64, last: &str) -> std::io::Result<()> {
    let mut text = vec![b'x'; bytes as usize - last.len()];
    let lines = 4 * events as usize - last.lines().count();
    let step = text.len() / lines;
    for n in 0..lines {
        text[n * step] = b'\n';
    }
    text.extend_from_slice(last.as_bytes());
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let piece = bytes as usize * 1024 / events as usize;
    for part in text.chunks(piece) {
        answer.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        answer.extend_from_slice(part);
        answer.extend_from_slice(b"\r\n");
    }
    stream.write_all(&answer)
}

/// Files are made as fast as the disk takes them, and the daemon hashes and commits them: once
/// while nobody follows, once while one reader does.
fn live(machine: &Machine, web: &WebAddress, files: u64) {
    let alone = flood(machine, "unseen", files + FLOOD);
    let mut reader = EventReader::open(web.connect(), "");
    reader.next();
    let before = reader.number();
    let following = thread::spawn(move || {
        // The folder is an event as well.
        reader.read_until(before + FLOOD + 1);
        reader
    });
    let seconds = flood(machine, "followed", files + 2 * FLOOD);
    let reader = following.join().expect("a thread of ours");
    let rate = |seconds: f64| format!("{:.0}", FLOOD as f64 / seconds);
    let what = format!("{FLOOD} files made while one reader follows: known a second");
    table::row(&what, &rate(seconds), "-", (&rate(alone), "without a reader"));
    table::note(&format!("{} of {} events were read", reader.events(), reader.number() - before));
}

/// How long it takes until all are known (s).
fn flood(machine: &Machine, folder: &str, files: u64) -> f64 {
    let dir = machine.dir.join(folder);
    fs::create_dir(&dir).expect("a folder below our own");
    let began = Instant::now();
    for n in 0..FLOOD {
        fs::write(dir.join(format!("file-{n}.txt")), format!("{folder} {n}\n")).expect("a file below our own");
    }
    wait_known(machine, files);
    began.elapsed().as_secs_f64()
}

/// CPU time, alone and with a page that is open.
fn idle(machine: &Machine, web: &WebAddress) {
    let seconds = setting("DIRSYNC_API_IDLE_SECONDS", 60);
    let spent = |page: &mut dyn FnMut()| {
        let (before, until) = (cpu_seconds(machine), Instant::now() + Duration::from_secs(seconds));
        while Instant::now() < until {
            page();
            thread::sleep(PAGE_LOOKS_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
        100.0 * (cpu_seconds(machine) - before) / seconds as f64
    };
    thread::sleep(SETTLED_AFTER);
    let alone = format!("{:.2} %", spent(&mut || ()));
    let mut reader = EventReader::open(web.connect(), "");
    reader.next();
    let with_page = format!("{:.2} %", spent(&mut || PAGE_ASKS.iter().for_each(|path| drop(web.connect().get(path)))));
    let what = format!("CPU of a core over {seconds} s, one page open, nothing happens");
    table::row(&what, &with_page, "0.1 %", (&alone, "without the page"));
}

/// That the daemon spent since its start.
fn cpu_seconds(machine: &Machine) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", machine.pid())).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks = |n: usize| fields.split(' ').nth(n).and_then(|number| number.parse::<f64>().ok()).expect("a number");
    (ticks(11) + ticks(12)) / TICKS_A_SECOND
}
