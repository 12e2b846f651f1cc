//! Contents that programs send by the API: in parts, cut off anywhere, onto each other, and onto a
//! full disk.

use crate::common::disk::peek;
use crate::common::requests::{Reply, Wire, ask, reply, send, socket, wait_known};
use crate::common::volume::Small;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, set_mtime, write};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

fn target(path: &str, content: &[u8]) -> String {
    format!("content/{path}?blake3={}", blake3::hash(content))
}

/// What begins a request with a body of so many bytes.
fn begin(machine: &Machine, target: &str, length: usize, headers: &[(&str, &str)]) -> Box<dyn Wire> {
    let length = length.to_string();
    let mut stream = socket(machine);
    send(&mut *stream, "PUT", target, &[headers, &[("content-length", &*length)]].concat());
    stream
}

fn put(machine: &Machine, target: &str, bytes: &[u8], headers: &[(&str, &str)]) -> Reply {
    let mut stream = begin(machine, target, bytes.len(), headers);
    // What refuses before it reads all may be gone already.
    let _ = stream.write_all(bytes);
    reply(&mut *stream)
}

/// How much has come.
fn received(machine: &Machine, target: &str, size: usize) -> usize {
    let answer = put(machine, target, b"", &[("content-range", &format!("bytes */{size}"))]);
    assert_eq!(answer.code, 202, "{}", answer.text());
    answer.json()["received"].as_u64().expect("a number") as usize
}

/// Sends the rest.
fn go_on(machine: &Machine, target: &str, content: &[u8], from: usize) -> Reply {
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    put(machine, target, &content[from..], &[("content-range", &range)])
}

fn staged(machine: &Machine) -> Vec<u64> {
    let list = fs::read_dir(machine.dir.join(".dirsync/staging")).expect("a folder");
    list.map(|entry| entry.expect("an entry").metadata().map_or(0, |facts| facts.len())).collect()
}

#[test]
fn what_a_program_sends_is_installed_and_goes_everywhere() {
    let (a, b) = Group::new().pair();
    let content = noise(1, 700_000);
    let answer = put(&a, &target("new/f", &content), &content, &[("if-none-match", "*")]);
    assert_eq!((answer.code, answer.json()["received"].as_u64()), (201, Some(700_000)), "{}", answer.text());
    let tag = format!("\"{}\"", blake3::hash(&content));
    assert_eq!(answer.header("etag"), Some(&*tag));
    converge(&[&a, &b]);
    assert!(peek(b.at("new/f")) == Some(content.clone()));
    // By SHA-256, as sha256sum says it.
    let by_sha256 = "content/new/f?sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(put(&a, by_sha256, b"abc", &[]).code, 200);
    converge(&[&a, &b]);
    assert_eq!(peek(b.at("new/f")).as_deref(), Some(&b"abc"[..]));
    assert!(a.history().contains(&content), "what was replaced, unlike what a user replaces");
    assert_eq!(put(&a, &target("empty", b""), b"", &[]).code, 201);
    converge(&[&a, &b]);
    assert_eq!(peek(b.at("empty")).as_deref(), Some(&b""[..]));
    assert_eq!(staged(&a), [0; 0]);
}

#[test]
fn what_is_larger_than_any_other_body_is_taken_over_tcp_from_who_may_write() {
    let mut a = Group::new().machine("a");
    a.options = vec!["--http".to_owned(), "0".to_owned()];
    a.start();
    let content = noise(8, 5 << 20);
    for (words, code) in [(&["web", "--read-only"][..], 403), (&["web"], 201)] {
        let web = a.json(words).expect("an address");
        let (url, token) = web["url"].as_str().and_then(|url| url.split_once("/#token=")).expect("with a token");
        let address = url.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let length = content.len().to_string();
        let headers = [("host", address), ("x-api-key", token), ("content-length", &length)];
        send(&mut stream, "PUT", &target("f", &content), &headers);
        if code == 201 {
            stream.write_all(&content).expect("it is taken");
        }
        let answer = reply(&mut stream);
        assert_eq!(answer.code, code, "{}", answer.text());
    }
    assert!(peek(a.at("f")) == Some(content));
}

#[test]
fn an_upload_that_is_cut_off_at_any_byte_goes_on_there() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    let content = noise(2, 600_000);
    for cut in [1, 65_537, 262_144, 300_001, 599_999] {
        let path = target(&format!("f{cut}"), &content);
        let mut stream = begin(&a, &path, content.len(), &[]);
        stream.write_all(&content[..cut]).expect("it is taken");
        drop(stream);
        eventually("all that was sent has come", PATIENCE, || {
            // Until its end was seen, it is still under way.
            let asked = put(&a, &path, b"", &[("content-range", "bytes */600000")]);
            let has_come = asked.code == 202 && asked.json()["received"] == cut;
            has_come.then_some(()).ok_or_else(|| asked.text())
        });
        assert!(!a.at(&format!("f{cut}")).exists());
        go_on(&a, &path, &content, cut - 1).refuses(409, "go on from there");
        // In two parts.
        let middle = usize::midpoint(cut, content.len());
        let range = format!("bytes {cut}-{middle}/{}", content.len());
        let part = put(&a, &path, &content[cut..=middle], &[("content-range", &range)]);
        if middle + 1 < content.len() {
            assert_eq!((part.code, part.json()["content"].is_null()), (202, true), "{}", part.text());
            assert_eq!(go_on(&a, &path, &content, middle + 1).code, 201);
        } else {
            assert_eq!(part.code, 201);
        }
        assert!(peek(a.at(&format!("f{cut}"))) == Some(content.clone()), "{cut}");
    }
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    let content = noise(3, 4 << 20);
    let path = target("f", &content);
    let mut stream = begin(&a, &path, content.len(), &[]);
    stream.write_all(&content[..3 << 20]).expect("it is taken");
    eventually("much of it has come", PATIENCE, || {
        let staged = staged(&a);
        staged.iter().any(|size| *size >= 2 << 20).then_some(()).ok_or(format!("{staged:?}"))
    });
    a.kill();
    a.start();
    let come = received(&a, &path, content.len());
    assert!((2 << 20..=3 << 20).contains(&come), "{come}");
    assert!(!a.at("f").exists());
    assert_eq!(go_on(&a, &path, &content, come).code, 201);
    assert!(peek(a.at("f")) == Some(content));
}

#[test]
fn two_uploads_to_one_path_do_not_mix_and_the_same_one_is_not_sent_twice_at_once() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    let (one, two) = (noise(4, 500_000), noise(5, 500_000));
    let (path_one, path_two) = (target("f", &one), target("f", &two));
    let mut first = begin(&a, &path_one, one.len(), &[]);
    let mut second = begin(&a, &path_two, two.len(), &[]);
    first.write_all(&one[..400_000]).expect("it is taken");
    second.write_all(&two[..300_000]).expect("it is taken");
    eventually("both are under way", PATIENCE, || {
        let staged = staged(&a);
        (staged.len() == 2 && staged.iter().all(|size| *size > 0)).then_some(()).ok_or(format!("{staged:?}"))
    });
    put(&a, &path_one, &one, &[]).refuses(409, "under way by another request");
    second.write_all(&two[300_000..]).expect("it is taken");
    assert_eq!(reply(&mut *second).code, 201);
    assert!(peek(a.at("f")) == Some(two.clone()));
    first.write_all(&one[400_000..]).expect("it is taken");
    assert_eq!(reply(&mut *first).code, 200);
    assert!(peek(a.at("f")) == Some(one));
    assert!(a.history().contains(&two));
}

#[test]
fn of_many_who_replace_one_content_at_once_exactly_one_does() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    write(a.at("f"), "the first");
    wait_known(&a, "f");
    let tag = ask(&a, "HEAD", "content/f", &[]).header("etag").expect("a tag").to_owned();
    let contents: Vec<_> = (0..8).map(|n| noise(20 + n, 100_000)).collect();
    let one = |content: &Vec<u8>| put(&a, &target("f", content), content, &[("if-match", &tag)]).code;
    let codes: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = contents.iter().map(|content| scope.spawn(|| one(content))).collect();
        all.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let winner = codes.iter().position(|code| *code == 200).expect("one of them");
    assert_eq!(codes.iter().filter(|code| **code == 412).count(), 7, "{codes:?}");
    assert!(peek(a.at("f")).as_ref() == Some(&contents[winner]));
    assert_eq!(a.history(), [b"the first".to_vec()]);
}

#[test]
fn what_is_not_as_it_was_said_changes_nothing() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    write(a.at(".dirsyncignore"), "*.tmp\n");
    write(a.at("f"), "here");
    write(a.at("d/g"), "here");
    converge(&[&a]);
    wait_known(&a, "f");
    let tag = ask(&a, "HEAD", "content/f", &[]).header("etag").expect("a tag").to_owned();
    let new = b"new content";
    let path = target("f", new);
    put(&a, &path, b"other bytes", &[]).refuses(422, "another hash");
    put(&a, &path, new, &[("if-match", "\"another\"")]).refuses(412, "does not hold");
    put(&a, &path, new, &[("if-none-match", "*")]).refuses(412, "something is at 'f'");
    put(&a, &target("none", new), new, &[("if-match", "*")]).refuses(412, "does not hold");
    put(&a, "content/f", new, &[]).refuses(400, "announce the hash");
    put(&a, &format!("{path}&sha256={}", "0".repeat(64)), new, &[]).refuses(400, "announce the hash");
    put(&a, "content/f?blake3=12", new, &[]).refuses(400, "64 hexadecimal digits");
    put(&a, &path, new, &[("content-range", "bytes 0-99/11")]).refuses(400, "Content-Range");
    put(&a, &target("d", new), new, &[]).refuses(409, "no regular file");
    put(&a, &target("x.tmp", new), new, &[]).refuses(409, "ignored");
    put(&a, &target("f/below", new), new, &[]).refuses(409, "a folder of 'f/below'");
    put(&a, &target(".dirsync/marker", new), new, &[]).refuses(400, "path");
    assert_eq!(peek(a.at("f")).as_deref(), Some(&b"here"[..]));
    // What is saved while it comes is not what the tag says.
    let before = staged(&a).len();
    let mut stream = begin(&a, &path, new.len(), &[("if-match", &tag)]);
    stream.write_all(&new[..5]).expect("it is taken");
    eventually("it is under way", PATIENCE, || (staged(&a).len() == before + 1).then_some(()).ok_or(String::new()));
    write(a.at("f"), "of a user");
    stream.write_all(&new[5..]).expect("it is taken");
    reply(&mut *stream).refuses(412, "does not hold");
    assert_eq!(peek(a.at("f")).as_deref(), Some(&b"of a user"[..]));
    // It is all here still, and may be installed without that condition.
    let done = put(&a, &path, b"", &[("content-range", "bytes */11")]);
    assert_eq!(done.code, 200, "{}", done.text());
    assert_eq!(peek(a.at("f")).as_deref(), Some(&new[..]));
    assert!(a.history().contains(&b"of a user".to_vec()));
}

#[test]
fn a_history_that_may_take_no_more_is_said_and_nothing_is_lost() {
    if !is_root("a_history_that_may_take_no_more_is_said_and_nothing_is_lost") {
        return;
    }
    let group = Group::new();
    let a = group.machine("a");
    let _disk = Small::new(&a.dir, 32 << 10);
    // What is older than a day is kept for a day.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let old = since_1970.as_secs().cast_signed() - 48 * 3600;
    let (names, content) = ((0..16).map(|n| format!("f{n}")).collect::<Vec<_>>(), noise(8, 300 << 10));
    for name in &names {
        write(a.at(name), &content);
        set_mtime(a.at(name), old, 0);
    }
    a.start();
    a.wait_own_idle();
    let delete = |name: &String| ask(&a, "DELETE", &format!("content/{name}"), &[]);
    let (refused, deleted) = names.split_last().expect("16");
    for name in deleted {
        // As soon as history is judged, no more of them go.
        let code = delete(name).code;
        assert!(code == 200 || code == 507, "{code}");
    }
    // At its start a daemon judges it.
    a.stop();
    a.start();
    a.wait_own_idle();
    delete(refused).refuses(507, "history is full");
    let new = noise(9, 1000);
    put(&a, &target(refused, &new), &new, &[]).refuses(507, "history is full");
    assert!(peek(a.at(refused)) == Some(content));
}

#[test]
fn a_full_disk_is_said_before_anything_is_sent_or_when_it_comes_and_nothing_stays_of_it() {
    if !is_root("a_full_disk_is_said_before_anything_is_sent_or_when_it_comes_and_nothing_stays_of_it") {
        return;
    }
    let group = Group::new();
    let a = group.machine("a");
    let _disk = Small::new(&a.dir, 12 << 10);
    a.start();
    let (large, small) = (noise(6, 20 << 20), noise(7, 4 << 20));
    let mut stream = begin(&a, &target("large", &large), large.len(), &[]);
    reply(&mut *stream).refuses(507, "no room for 'large'");
    let mut stream = begin(&a, &target("small", &small), small.len(), &[]);
    stream.write_all(&small[..1 << 20]).expect("it is taken");
    eventually("it is under way", PATIENCE, || {
        staged(&a).iter().any(|size| *size > 0).then_some(()).ok_or_else(|| format!("{:?}", staged(&a)))
    });
    // Somebody else fills it.
    let filler = a.dir.join(".dirsync/filler");
    let mut file = fs::File::create(&filler).expect("a file");
    let zeros = vec![0; 64 << 10];
    while file.write_all(&zeros).is_ok() {}
    let _ = stream.write_all(&small[1 << 20..]);
    reply(&mut *stream).refuses(507, "small");
    assert_eq!(staged(&a), [0; 0], "nothing stays of it");
    assert!(!a.at("small").exists());
    // A program that is started at this moment may hold the file for a while.
    file.set_len(0).expect("a file");
    drop(file);
    fs::remove_file(filler).expect("a file");
    let answer = put(&a, &target("small", &small), &small, &[]);
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert!(peek(a.at("small")) == Some(small));
}
