//! The event stream of the API: what it says, to whom, and from where it goes on.

use crate::common::machine::wait_linked;
use crate::common::{Group, Machine, PATIENCE, converge, noise, read, remove, rename, start_all, write};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A stream that is open.
struct Stream {
    lines: std::io::Lines<BufReader<UnixStream>>,
    /// Of the last event.
    id: String,
}

impl Stream {
    fn open(machine: &Machine, query: &str, headers: &str) -> Self {
        let mut stream = UnixStream::connect(machine.at(".dirsync/control")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let request = format!("GET /api/v1/events{query} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it is taken");
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().expect("an answer").expect("text");
        assert!(first.contains("200 OK"), "{first}");
        let head = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
        assert!(head.map(|line| line.to_lowercase()).any(|line| line == "content-type: text/event-stream"));
        Self { lines, id: String::new() }
    }

    /// The next event: its name and what it says.
    fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // Between them are the lengths of what was sent at once.
            let line = self.lines.next().expect("it goes on").expect("an event within the time");
            if let Some(value) = line.strip_prefix("event: ") {
                value.clone_into(&mut name);
            } else if let Some(value) = line.strip_prefix("id: ") {
                value.clone_into(&mut self.id);
            } else if let Some(value) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(value).expect("JSON"));
            }
        }
        panic!("nothing happens");
    }

    /// Reads on until an event of this name speaks of `path`.
    fn until(&mut self, name: &str, path: &str) -> Value {
        let began = Instant::now();
        let mut all = Vec::new();
        while began.elapsed() < PATIENCE {
            let (said, data) = self.next();
            if said == name && data["path"] == path {
                return data;
            }
            all.push(format!("{said} {}", data["path"]));
        }
        panic!("no {name} of {path}: {all:?}");
    }
}

#[test]
fn who_follows_along_hears_of_every_change_of_both_machines_and_goes_on_where_it_was() {
    let (a, b) = Group::new().pair();
    let mut here = Stream::open(&a, "", "");
    let mut there = Stream::open(&b, "?types=file_added,file_renamed,file_deleted,linked&prefix=d", "");
    let (name, begin) = here.next();
    assert_eq!((name.as_str(), &begin["name"]), ("begin", &Value::from("a")));
    assert_eq!(there.next().0, "begin");
    std::fs::create_dir(a.at("d")).expect("a folder");
    write(a.at("d/f"), "hello");
    write(a.at("e"), "elsewhere");
    assert_eq!(here.until("file_added", "d/f")["size"], 5);
    // Nothing of 'e', which is not below the prefix, and nothing of what is only on its way.
    assert_eq!(there.next().1["path"], "d");
    let (name, added) = there.next();
    assert_eq!((name.as_str(), &added["path"]), ("file_added", &"d/f".into()));
    assert_eq!((&added["kind"], &added["author"]), (&"file".into(), &begin["device"]));
    let last = there.id.clone();
    rename(b.at("d/f"), b.at("d/g"));
    assert_eq!(there.until("file_renamed", "d/g")["from"], "d/f");
    drop(there);
    remove(b.at("d/g"));
    here.until("file_deleted", "d/g");
    b.wait_idle();
    // What came while nobody listened, and nothing of 'e', which is not below the prefix.
    let mut again = Stream::open(&b, "?prefix=d", &format!("last-event-id: {last}\r\n"));
    assert_eq!(again.next().0, "begin");
    assert_eq!(again.next().0, "file_renamed");
    again.until("file_deleted", "d/g");
    let last = again.id.clone();
    b.restart();
    b.wait_idle();
    let mut anew = Stream::open(&b, &format!("?after={last}"), "");
    assert_eq!(anew.next().0, "begin");
    assert_eq!(anew.next(), ("reset".to_owned(), serde_json::json!({ "missed": null })));
    write(a.at("after"), "the restart");
    anew.until("file_added", "after");
    assert_eq!(read(b.at("after")), b"the restart");
}

#[test]
fn who_follows_along_hears_what_two_machines_are_at_and_the_log_does_not_keep_it() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options.extend(["--limit".to_owned(), "4M".to_owned()]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    let types = "?types=sync_comparing,sync_transferring,sync_applying,sync_done";
    let mut streams = [(Stream::open(&a, types, ""), "b"), (Stream::open(&b, types, ""), "a")];
    write(a.at("large"), noise(1, 12 << 20));
    for (stream, peer) in &mut streams {
        assert_eq!(stream.next().0, "begin");
        let mut said = Vec::new();
        while said.last().is_none_or(|name| name != "sync_done") || !said.contains(&"sync_transferring".to_owned()) {
            let (name, data) = stream.next();
            assert_eq!(&data["peer"], peer);
            said.push(name);
        }
    }
    converge(&[&a, &b]);
    let log = b.json(&["log"]).expect("an answer").to_string();
    assert!(log.contains("large") && !log.contains("sync_"), "{log}");
}

#[test]
fn a_reader_that_stops_reading_is_told_what_it_missed_and_holds_up_nobody() {
    let machine = Group::new().machine("a");
    machine.start();
    let mut slow = Stream::open(&machine, "?types=file_added", "");
    let mut quick = Stream::open(&machine, "?types=file_added", "");
    assert_eq!((slow.next().0.as_str(), quick.next().0.as_str()), ("begin", "begin"));
    let count = 40_000;
    std::fs::create_dir(machine.at("d")).expect("a folder");
    for n in 0..count {
        write(machine.at(&format!("d/{n}")), "");
    }
    machine.wait_own_idle();
    write(machine.at("last"), "");
    let heard = |stream: &mut Stream| {
        let (mut said, mut missed) = (0, 0);
        loop {
            match stream.next() {
                (name, data) if name == "reset" => missed += data["missed"].as_u64().expect("a number"),
                (_, data) if data["path"] == "last" => return (said, missed),
                _ => said += 1,
            }
        }
    };
    let (said, missed) = heard(&mut slow);
    assert!(missed > 0 && said > 0, "{said} said, {missed} missed");
    let told = heard(&mut quick);
    assert!(told.0 + told.1 >= count, "{told:?}");
    assert!(said + missed >= count, "{said} said, {missed} missed");
}

#[test]
fn an_unknown_event_or_id_is_refused() {
    let machine = Group::new().machine("a");
    machine.start();
    for (query, says) in [("?types=file_added,files", "no events 'files'"), ("?after=x", "the id of no event")] {
        let mut stream = UnixStream::connect(machine.at(".dirsync/control")).expect("it listens");
        let request = format!("GET /api/v1/events{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is taken");
        let answer = std::io::read_to_string(stream).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(says), "{answer}");
    }
}
