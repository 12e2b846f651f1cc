//! Contents by the API: downloaded whole and in part, now and from any machine's history.

use crate::common::disk::peek;
use crate::common::machine::wait_linked;
use crate::common::requests::{Reply, Wire, ask, reply, send, socket, wait_known};
use crate::common::{Group, Machine, PATIENCE, converge, noise, remove, write};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, symlink};

type Listener<'a> = &'a dyn Fn(&str, &[(&str, &str)]) -> Reply;

#[test]
fn a_content_is_answered_on_both_listeners_whole_in_part_and_by_its_tag() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options = vec!["--http".to_owned(), "0".to_owned()];
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    let bytes = noise(7, 700_000);
    write(a.at("d/na\u{ef}ve x"), &bytes);
    converge(&[&a, &b]);
    let path = "content/d/na%C3%AFve%20x";
    let web = a.json(&["web", "--read-only"]).expect("an address");
    let (url, token) = web["url"].as_str().and_then(|url| url.split_once("/#token=")).expect("with a token");
    let address = url.strip_prefix("http://").expect("an address");
    let (host, key) = (("host", address), ("x-api-key", token));
    let over_tcp = |method: &str, headers: &[(&str, &str)]| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        send(&mut stream, method, path, &[headers, &[host, key]].concat());
        reply(&mut stream)
    };
    let over_the_socket = |method: &str, headers: &[(&str, &str)]| ask(&a, method, path, headers);
    let tag = ask(&b, "HEAD", path, &[]).header("etag").expect("a tag").to_owned();
    assert_eq!(tag, format!("\"{}\"", blake3::hash(&bytes)), "the other machine says the same");
    for asked in [&over_the_socket as Listener, &over_tcp as Listener] {
        let whole = asked("GET", &[]);
        assert_eq!((whole.code, whole.header("etag")), (200, Some(&*tag)), "{}", whole.text());
        assert!(whole.body == bytes);
        for (name, value) in [
            ("content-disposition", "attachment; filename*=UTF-8''na%c3%afve%20x"),
            ("content-security-policy", "sandbox; default-src 'none'"),
            ("x-content-type-options", "nosniff"),
            ("content-length", "700000"),
        ] {
            assert_eq!(whole.header(name), Some(value), "{}", whole.text());
        }
        let head = asked("HEAD", &[]);
        assert_eq!((head.code, head.header("content-length"), head.body.len()), (200, Some("700000"), 0));
        let part = asked("GET", &[("range", "bytes=300000-")]);
        assert_eq!((part.code, part.header("content-range")), (206, Some("bytes 300000-699999/700000")));
        assert!(part.body == bytes[300_000..]);
        let none = asked("GET", &[("range", "bytes=700000-")]);
        assert_eq!(none.header("content-range"), Some("bytes */700000"));
        none.refuses(416, "700000 bytes");
        let known = asked("GET", &[("if-none-match", &tag)]);
        assert_eq!((known.code, known.body.len()), (304, 0));
        asked("GET", &[("if-match", "\"another\"")]).refuses(412, "If-Match");
        let other = asked("GET", &[("range", "bytes=1-2"), ("if-range", "\"another\"")]);
        assert_eq!((other.code, other.body.len()), (200, 700_000), "what the part is of is another content");
    }
}

#[test]
fn what_has_no_content_or_none_that_may_be_asked_for_is_refused_with_its_reason() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    write(a.at(".dirsyncignore"), "*.tmp\n");
    write(a.at("d/f"), "of d");
    write(a.at("d/f.tmp"), "ignored");
    symlink("f", a.at("d/link")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        a.at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a fifo");
    converge(&[&a]);
    wait_known(&a, "d/f");
    for (path, code, says) in [
        ("d", 409, "a folder"),
        ("d/link", 409, "a link"),
        ("d/link/x", 404, "no 'd/link/x'"),
        ("fifo", 409, "no regular file"),
        ("d/f.tmp", 409, "ignored, by the pattern '*.tmp'"),
        ("d/none", 404, "dirsync history"),
        ("d/../d/f", 400, "path"),
        ("%2e%2e/etc/passwd", 400, "path"),
        ("/etc/passwd", 400, "path"),
        (".dirsync/marker", 40, ""),
        ("d/f?machine=b", 400, "machine is of a version"),
        ("d/f?version=soon", 400, "version is no number"),
        ("d/f?version=7", 404, "no version of 'd/f' of that time"),
    ] {
        let answer = ask(&a, "GET", &format!("content/{path}"), &[]);
        if code == 40 {
            assert!((400..500).contains(&answer.code), "{}", answer.text());
        } else {
            answer.refuses(code, says);
        }
    }
    assert_eq!(ask(&a, "POST", "content/d/f", &[("content-length", "0")]).code, 405);
}

#[test]
fn what_was_replaced_is_answered_from_the_history_of_whoever_keeps_it() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), "the first");
    converge(&[&a, &b]);
    write(a.at("f"), "the second one");
    converge(&[&a, &b]);
    // A user's own save replaced it here: only the other machine has the first one.
    let kept = a.json(&["history", "f"]).expect("a history")["kept"][0].clone();
    let time = kept["time_ns"].as_str().expect("a time");
    assert_eq!(kept["machines"][0], "b", "{kept}");
    for (machine, query) in
        [(&a, format!("version={time}")), (&a, format!("version={time}&machine=b")), (&b, format!("version={time}"))]
    {
        let answer = ask(machine, "GET", &format!("content/f?{query}"), &[]);
        assert_eq!((answer.code, &*answer.body), (200, &b"the first"[..]), "{}", answer.text());
        assert_eq!(answer.header("etag"), Some(&*format!("\"{}\"", blake3::hash(b"the first"))));
        let part = ask(machine, "GET", &format!("content/f?{query}"), &[("range", "bytes=4-")]);
        assert_eq!((part.code, &*part.body), (206, &b"first"[..]));
    }
    ask(&a, "GET", &format!("content/f?version={time}&machine=a"), &[]).refuses(404, "history of 'a'");
    let staged = fs::read_dir(a.dir.join(".dirsync/staging")).expect("a folder").count();
    assert_eq!(staged, 0, "nothing of it is left");
    remove(a.at("f"));
    converge(&[&a, &b]);
    ask(&a, "GET", "content/f", &[]).refuses(404, "dirsync history");
}

#[test]
fn a_file_that_is_written_while_it_is_sent_breaks_off_and_one_that_is_replaced_is_sent_as_it_was() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    // Far more than sockets keep.
    let bytes = noise(3, 48 << 20);
    for name in ["written", "replaced"] {
        write(a.at(name), &bytes);
        wait_known(&a, name);
    }
    let begun = |name: &str| {
        let mut stream = socket(&a);
        send(&mut *stream, "GET", &format!("content/{name}"), &[]);
        let mut first = vec![0; 1000];
        stream.read_exact(&mut first).expect("it begins");
        (stream, first)
    };
    let rest = |(mut stream, mut read): (Box<dyn Wire>, Vec<u8>)| {
        // A connection may end by an error then.
        let _ = stream.read_to_end(&mut read);
        let end = read.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        read.split_off(end + 4)
    };
    let sent = begun("written");
    OpenOptions::new().write(true).open(a.at("written")).expect("a file").write_all_at(b"x", 40 << 20).expect("a byte");
    assert!(rest(sent).len() < bytes.len(), "nobody takes it for whole");
    let sent = begun("replaced");
    write(a.at("new"), "new");
    fs::rename(a.at("new"), a.at("replaced")).expect("a rename");
    assert!(rest(sent) == bytes);
}

/// What the folder holds there once both agree.
fn agreed(machines: &[&Machine], name: &str) -> Option<Vec<u8>> {
    converge(machines);
    peek(machines[1].at(name))
}

#[test]
fn what_is_deleted_by_the_api_goes_everywhere_and_to_the_history_here() {
    let (a, b) = Group::new().pair();
    write(a.at("d/f"), "first");
    converge(&[&a, &b]);
    wait_known(&a, "d/f");
    let tag = ask(&a, "HEAD", "content/d/f", &[]).header("etag").expect("a tag").to_owned();
    ask(&a, "DELETE", "content/d/f", &[("if-match", "\"another\"")]).refuses(412, "does not hold");
    ask(&a, "DELETE", "content/d", &[]).refuses(409, "holds something");
    // A save that was not hashed yet is not what the tag says either.
    write(a.at("d/f"), "a second one");
    ask(&a, "DELETE", "content/d/f", &[("if-match", &tag)]).refuses(412, "does not hold");
    assert_eq!(agreed(&[&a, &b], "d/f").as_deref(), Some(&b"a second one"[..]));
    wait_known(&a, "d/f");
    let tag = ask(&a, "HEAD", "content/d/f", &[]).header("etag").expect("a tag").to_owned();
    let done = ask(&a, "DELETE", "content/d/f", &[("if-match", &tag)]);
    assert_eq!((done.code, done.json()["done"].as_bool()), (200, Some(true)));
    assert_eq!(agreed(&[&a, &b], "d/f"), None);
    assert!(a.history().contains(&b"a second one".to_vec()), "unlike what a user deletes");
    ask(&a, "DELETE", "content/d/f", &[]).refuses(404, "no 'd/f'");
    ask(&a, "DELETE", "content/d/f", &[("if-match", "*")]).refuses(412, "no 'd/f'");
    assert_eq!(ask(&a, "DELETE", "content/d", &[]).code, 200);
    converge(&[&a, &b]);
    assert!(!b.at("d").exists());
}

#[test]
fn what_is_moved_by_the_api_is_moved_everywhere_and_replaces_nothing() {
    let (a, b) = Group::new().pair();
    write(a.at(".dirsyncignore"), "*.tmp\n");
    write(a.at("d/f"), "content");
    write(a.at("g"), "stays");
    converge(&[&a, &b]);
    wait_known(&a, "d/f");
    let moved = |body: Value| {
        let body = body.to_string();
        let mut stream = socket(&a);
        let length = body.len().to_string();
        send(&mut *stream, "POST", "move", &[("content-type", "application/json"), ("content-length", &length)]);
        stream.write_all(body.as_bytes()).expect("it is taken");
        reply(&mut *stream)
    };
    for (body, code, says) in [
        (json!({ "from": "d/f", "to": "g" }), 409, "something is at 'g'"),
        (json!({ "from": "d/f", "to": "f.tmp" }), 409, "ignored"),
        (json!({ "from": "d/x.tmp", "to": "x" }), 409, "ignored"),
        (json!({ "from": "d", "to": "d/e" }), 409, "into itself"),
        (json!({ "from": "none", "to": "x" }), 404, "no 'none'"),
        (json!({ "from": "d/f", "to": "../x" }), 400, "path"),
        (json!({ "from": "d/f", "to": "x", "content": "00".repeat(32) }), 412, "does not hold"),
    ] {
        moved(body).refuses(code, says);
    }
    let content = blake3::hash(b"content").to_string();
    assert_eq!(moved(json!({ "from": "d/f", "to": "new/f", "content": content })).code, 200);
    assert_eq!(agreed(&[&a, &b], "new/f").as_deref(), Some(&b"content"[..]));
    assert_eq!(moved(json!({ "from": "d", "to": "new/d" })).code, 200);
    converge(&[&a, &b]);
    assert!(!b.at("d").exists() && b.at("new/d").is_dir());
    assert_eq!(peek(b.at("g")).as_deref(), Some(&b"stays"[..]));
}
