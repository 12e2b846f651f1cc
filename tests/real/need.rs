//! What is still to come, here and to a linked machine, as the API says it.

use crate::common::disk::{path_text, run};
use crate::common::machine::{start_all, wait_linked};
use crate::common::requests::ask;
use crate::common::{Group, Machine, PATIENCE, converge, eventually, is_root, noise, remove, write};
use serde_json::{Value, json};

fn get(machine: &Machine, path: &str) -> Result<Value, String> {
    let reply = ask(machine, "GET", path, &[]);
    if reply.code == 200 { Ok(reply.json()) } else { Err(reply.text()) }
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry["path"].as_str()).collect()
}

/// The answer, once it is so.
fn once(machine: &Machine, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{path} of {} is as it is to be", machine.name), PATIENCE, || {
        let answer = get(machine, path)?;
        if is_so(&answer) { Ok(answer) } else { Err(answer.to_string()) }
    })
}

#[test]
fn both_machines_say_what_one_of_them_still_needs() {
    if !is_root("both_machines_say_what_one_of_them_still_needs") {
        return;
    }
    let (a, b) = Group::new().pair();
    write(a.at("d/gone"), "1");
    converge(&[&a, &b]);
    run("chattr", &["+i", path_text(&b.at("d"))]);
    write(a.at("d/new"), "cannot come");
    write(a.at("d/other"), "neither can this");
    remove(a.at("d/gone"));
    let need = once(&b, "need", |need| paths(&need["entries"]).len() == 3);
    assert_eq!(paths(&need["entries"]), ["d/gone", "d/new", "d/other"]);
    assert_eq!((&need["paths"], &need["machine"], &need["next"]), (&3.into(), &"b".into(), &Value::Null));
    let kinds = |need: &Value| {
        let entries = need["entries"].as_array().into_iter().flatten();
        entries.map(|entry| (entry["kind"].to_string(), entry["here"].to_string())).collect::<Vec<_>>()
    };
    let (gone, file) = (r#""deleted""#.to_owned(), r#""file""#.to_owned());
    let no = "false".to_owned();
    assert_eq!(kinds(&need), [(gone.clone(), no.clone()), (file.clone(), no.clone()), (file.clone(), no)]);

    let there = get(&a, "need?peer=b").expect("it answers");
    assert_eq!(paths(&there["entries"]), paths(&need["entries"]));
    let yes = "true".to_owned();
    assert_eq!(kinds(&there), [(gone, yes.clone()), (file.clone(), yes.clone()), (file, yes)], "a has them");
    assert_eq!((&there["machine"], &there["paths"], &there["device"]), (&"b".into(), &3.into(), &need["device"]));

    let of_a = get(&a, "diff?peer=b").expect("it answers");
    assert_eq!((paths(&of_a["upload"]), paths(&of_a["delete_there"])), (vec!["d/new", "d/other"], vec!["d/gone"]));
    assert_eq!((&of_a["paths_here"], &of_a["paths_there"], &of_a["in_sync"]), (&0.into(), &3.into(), &false.into()));
    let of_b = get(&b, "diff?peer=a").expect("it answers");
    assert_eq!((paths(&of_b["download"]), paths(&of_b["delete_here"])), (vec!["d/new", "d/other"], vec!["d/gone"]));
    assert!(paths(&of_b["upload"]).is_empty() && paths(&of_b["delete_there"]).is_empty(), "{of_b}");

    // A page at a time.
    let first = once(&b, "problems?limit=2", |page| page["problems"].as_array().is_some_and(|all| all.len() == 2));
    let next = first["next"].as_str().expect("there is more").to_owned();
    let last = get(&b, &format!("problems?limit=2&after={next}")).expect("it answers");
    assert_eq!([paths(&first["problems"]), paths(&last["problems"])].concat(), ["d/gone", "d/new", "d/other"]);
    assert_eq!(last["next"], Value::Null);
    let first = get(&b, "need?limit=2").expect("it answers");
    let next = first["next"].as_str().expect("there is more").to_owned();
    let last = get(&b, &format!("need?limit=2&after={next}")).expect("it answers");
    assert_eq!([paths(&first["entries"]), paths(&last["entries"])].concat(), ["d/gone", "d/new", "d/other"]);

    run("chattr", &["-i", path_text(&b.at("d"))]);
    converge(&[&a, &b]);
    for (machine, path) in [(&a, "need?peer=b"), (&b, "need"), (&b, "need?peer=a")] {
        once(machine, path, |need| need["paths"] == 0 && paths(&need["entries"]).is_empty());
    }
    assert!(get(&a, "need?peer=nobody").unwrap_err().contains("dirsync peers"));
    assert!(get(&a, "need?peer=b&after=d").unwrap_err().contains("leave 'after' out"));
}

#[test]
fn a_large_file_on_its_way_is_a_transfer_at_both_ends() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options.extend(["--limit".to_owned(), "1M".to_owned()]);
    start_all(&[&a, &b]);
    wait_linked(&[&a, &b]);
    write(a.at("large"), noise(3, 64 << 20));
    let comes = |transfers: &Value| {
        paths(&transfers["incoming"]) == ["large"] && transfers["incoming"][0]["from"] == json!(["a"])
    };
    let incoming = once(&b, "transfers", comes);
    assert!(paths(&incoming["outgoing"]).is_empty());
    let outgoing = once(&a, "transfers", |transfers| paths(&transfers["outgoing"]) == ["large"]);
    assert_eq!(outgoing["outgoing"][0]["to"], "b");
    assert!(a.cli(&["limit", "off"]).status.success());
    converge(&[&a, &b]);
    once(&b, "transfers", |transfers| paths(&transfers["incoming"]).is_empty());
}
