//! The ignore patterns by the API: read, tried, and written as any change of a file.

use crate::common::disk::peek;
use crate::common::requests::{Reply, ask, reply, send, socket, wait_known};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, write};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::TcpStream;

const FILE: &str = ".dirsyncignore";

fn order(machine: &Machine, method: &str, target: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let body = body.to_string();
    let length = body.len().to_string();
    let more = [("content-type", "application/json"), ("content-length", &*length)];
    let mut stream = socket(machine);
    send(&mut *stream, method, target, &[headers, &more].concat());
    stream.write_all(body.as_bytes()).expect("it is taken");
    reply(&mut *stream)
}

fn show(machine: &Machine) -> (Value, String) {
    let answer = ask(machine, "GET", "ignores", &[]);
    assert_eq!(answer.code, 200, "{}", answer.text());
    (answer.json(), answer.header("etag").expect("a tag").to_owned())
}

fn put(machine: &Machine, text: &str, headers: &[(&str, &str)]) -> Reply {
    order(machine, "PUT", "ignores", &json!({ "text": text }), headers)
}

#[test]
fn patterns_are_written_as_a_change_of_their_file_unless_it_has_changed() {
    let (a, b) = Group::new().pair();
    let (none, tag) = show(&a);
    assert_eq!((&none["exists"], &none["text"], &none["machine"]), (&json!(false), &json!(""), &Value::Null));
    let answer = put(&a, "*.tmp\n", &[("if-match", &tag)]);
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(answer.header("etag"), Some(&*show(&a).1));
    converge(&[&a, &b]);
    assert_eq!(peek(b.at(FILE)).as_deref(), Some(&b"*.tmp\n"[..]));
    let (there, first) = show(&b);
    assert_eq!((&there["text"], &there["machine"]), (&json!("*.tmp\n"), &json!("a")));
    assert_eq!(ask(&b, "GET", "ignores", &[("if-none-match", &first)]).code, 304);
    write(a.at("x.tmp"), "ignored");
    write(a.at("y"), "synced");
    eventually("what is not ignored is there", PATIENCE, || {
        (peek(b.at("y")).as_deref() == Some(b"synced")).then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(peek(b.at("x.tmp")), None);
    fs::remove_file(a.at("x.tmp")).expect("it is there");

    write(a.at(FILE), "*.bak\n");
    wait_known(&a, FILE);
    put(&a, "*.old\n", &[("if-match", &first)]).refuses(412, "was changed meanwhile");
    put(&a, "*.old\n", &[("if-match", &tag)]).refuses(412, "was changed meanwhile");
    put(&a, "*.old\n", &[("if-none-match", "*")]).refuses(412, "was changed meanwhile");
    assert_eq!(peek(a.at(FILE)).as_deref(), Some(&b"*.bak\n"[..]));
    let (_, second) = show(&a);
    assert_eq!(put(&a, "*.old\n", &[("if-match", &second)]).code, 200);
    assert_eq!(peek(a.at(FILE)).as_deref(), Some(&b"*.old\n"[..]));
    assert!(a.history().contains(&b"*.bak\n".to_vec()), "what was replaced");
}

#[test]
fn what_is_no_pattern_is_refused_and_named_and_what_is_no_text_is_left_to_its_user() {
    let a = Group::new().machine("a");
    a.start();
    put(&a, "*.tmp\n[z-a]\n{a\n", &[]).refuses(400, "line 2 ('[z-a]')");
    put(&a, &"x".repeat((1 << 20) + 1), &[]).refuses(413, "1 MiB");
    assert_eq!(peek(a.at(FILE)), None);
    write(a.at(FILE), b"\xff\n");
    ask(&a, "GET", "ignores", &[]).refuses(409, "no UTF-8 text");
    fs::remove_file(a.at(FILE)).expect("it is there");
    fs::create_dir(a.at(FILE)).expect("a folder");
    ask(&a, "GET", "ignores", &[]).refuses(409, "no regular file");
    put(&a, "*.tmp\n", &[]).refuses(409, "");
}

#[test]
fn who_may_only_read_reads_patterns_and_neither_tries_nor_writes_any() {
    let mut a = Group::new().machine("a");
    a.options = vec!["--http".to_owned(), "0".to_owned()];
    a.start();
    let web = a.json(&["web", "--read-only"]).expect("an address");
    let (url, token) = web["url"].as_str().and_then(|url| url.split_once("/#token=")).expect("with a token");
    let address = url.strip_prefix("http://").expect("an address");
    for (method, target, code) in [("GET", "ignores", 200), ("PUT", "ignores", 403), ("POST", "ignores/preview", 403)] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let headers = [("host", address), ("x-api-key", token), ("content-type", "application/json")];
        send(&mut stream, method, target, &[&headers[..], &[("content-length", "0")]].concat());
        assert_eq!(reply(&mut stream).code, code, "{method} {target}");
    }
    assert_eq!(peek(a.at(FILE)), None);
}

#[test]
fn a_preview_says_what_would_change_and_changes_nothing() {
    let a = Group::new().machine("a");
    for n in 0..1200 {
        write(a.at(&format!("build/f{n}")), "12345");
    }
    write(a.at("keep.log"), "123");
    write(a.at("z"), "1");
    a.start();
    a.wait_own_idle();
    let preview = |text: &str| {
        let answer = order(&a, "POST", "ignores/preview", &json!({ "text": text }), &[]);
        assert_eq!(answer.code, 200, "{}", answer.text());
        answer.json()
    };
    let due = json!({ "paths": 1201, "bytes": 6000, "examples": ["build"] });
    let nothing = json!({ "paths": 0, "bytes": 0, "examples": [] });
    let said = preview("build/\n[z-a]\n");
    assert_eq!((&said["newly_ignored"], &said["newly_synced"]), (&due, &nothing), "{said}");
    assert_eq!((&said["seen"], &said["cut"], &said["bad"][0]["line"]), (&json!(1203), &json!(false), &json!(2)));
    assert_eq!(peek(a.at(FILE)), None);

    assert_eq!(put(&a, "build/\n", &[]).code, 200);
    a.wait_own_idle();
    let said = preview("*.log\n");
    assert_eq!(said["newly_synced"], due, "{said}");
    assert_eq!(said["newly_ignored"], json!({ "paths": 1, "bytes": 3, "examples": ["keep.log"] }));
}
