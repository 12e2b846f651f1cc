//! What `dirsync status` names: uploads, addresses that lead nowhere, history's size.

use crate::common::machine::{text_of, wait_linked};
use crate::common::ports::free_tcp_port;
use crate::common::{Group, PATIENCE, converge, eventually, noise, write};

#[test]
fn a_large_file_that_is_sent_is_named_with_how_far_it_is() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.options = vec!["--limit".to_owned(), "2M".to_owned()];
    a.start();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
    assert_eq!(a.json(&["status"]).expect("status")["uploads"], serde_json::json!([]));
    for (name, size) in [("in parts", 200 << 20), ("whole", 3 << 20)] {
        write(a.at(name), noise(size as u64, size));
        eventually("a names what it sends", PATIENCE, || {
            let status = a.json(&["status"])?;
            let uploads = status["uploads"].as_array().ok_or("none")?;
            let it = uploads.iter().find(|upload| upload["path"] == name && upload["bytes"].as_u64() > Some(0));
            let it = it.ok_or(status["uploads"].to_string())?;
            assert_eq!((&it["to"], it["size"].as_u64()), (&"b".into(), Some(size as u64)));
            assert!(it["bytes"].as_u64() <= Some(size as u64), "{it}");
            Ok(())
        });
    }
    let said = text_of(&a.cli(&["status"]));
    assert!(said.lines().any(|line| line.starts_with("sending") && line.ends_with("to b")), "{said}");
    assert_eq!(b.json(&["status"]).expect("status")["uploads"], serde_json::json!([]), "b only receives");
}

#[test]
fn an_address_that_leads_nowhere_is_named_with_the_reason_until_it_leads_somewhere() {
    let group = Group::new();
    let [port, strangers_port] = [free_tcp_port(), free_tcp_port()];
    let mut stranger = group.stranger().out_of_hearing().machine("stranger");
    stranger.group.secret = group.stranger().secret;
    stranger.options = vec!["-l".to_owned(), strangers_port.to_string()];
    stranger.start();
    let mut a = group.machine("a");
    let unknown = format!("{}.invalid:6000", "x".repeat(70));
    let [later, strangers] = [port, strangers_port].map(|port| format!("127.0.0.1:{port}"));
    a.options =
        [&later, &strangers, &unknown].into_iter().flat_map(|peer| ["--peer".to_owned(), peer.clone()]).collect();
    a.start();
    let reasons = || {
        let status = a.json(&["status"])?;
        let list = status["peers_not_reached"].as_array().ok_or("none")?;
        let reason = |peer: &serde_json::Value| format!("{} {}", peer["address"], peer["reason"]).replace('"', "");
        Ok::<_, String>(list.iter().map(reason).collect::<Vec<_>>())
    };
    let wait_reasons = |expected: &[String]| {
        let mut expected = expected.to_vec();
        expected.sort();
        eventually("each is named with its reason", PATIENCE, || {
            let mut named = reasons()?;
            named.sort();
            (named == expected).then_some(()).ok_or(format!("{named:?}"))
        });
    };
    let lasting = [format!("{strangers} another secret"), format!("{unknown} name not found")];
    wait_reasons(&[&lasting[..], &[format!("{later} refused")]].concat());
    let said = text_of(&a.cli(&["status"]));
    assert!(said.contains(&format!("--peer {later} cannot be reached")), "{said}");
    let check = text_of(&a.cli(&["status", "--check"]));
    let attention = check.lines().find(|line| line.contains("needs attention")).unwrap_or_default();
    assert!(attention.contains("is here with another secret") && attention.contains(&unknown), "{check}");
    assert!(!attention.contains(&later), "who is off comes back by itself: {check}");
    // Out of hearing: it is reached by its address alone.
    let mut b = group.out_of_hearing().machine("b");
    b.options = vec!["-l".to_owned(), port.to_string()];
    b.start();
    wait_linked(&[&a, &b]);
    wait_reasons(&lasting);
    b.stop();
    wait_reasons(&[&lasting[..], &[format!("{later} refused")]].concat());
}

#[test]
fn a_path_that_is_too_long_to_be_synced_is_a_problem_of_its_folder_until_it_is_gone() {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
    let (a, b) = Group::new().pair();
    let mut folder = openat(CWD, &a.dir, OFlags::PATH, Mode::empty()).expect("the folder");
    for _ in 0..16 {
        let name = "d".repeat(250);
        mkdirat(&folder, &*name, Mode::RWXU).expect("a folder");
        folder = openat(&folder, &*name, OFlags::PATH, Mode::empty()).expect("it is there");
    }
    let name = "f".repeat(200);
    let problems = || Ok::<_, String>(a.json(&["status"])?["problems"].as_array().cloned().unwrap_or_default());
    // Found as it is made, and by a walk after a restart.
    for is_restarted in [false, true] {
        drop(openat(&folder, &*name, OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).expect("a file"));
        if is_restarted {
            a.restart();
            wait_linked(&[&a, &b]);
        }
        eventually("it is a problem", PATIENCE, || {
            let problems = problems()?;
            let one = problems.first().map(ToString::to_string).unwrap_or_default();
            let is_it = problems.len() == 1 && one.contains(&name) && one.contains("over 4,095 bytes");
            is_it.then_some(()).ok_or(format!("{problems:?}"))
        });
        eventually("b says so of a", PATIENCE, || {
            let peers = b.json(&["peers"])?;
            let state = peers[0]["state"].as_str().unwrap_or_default();
            (state == "1 file has a problem").then_some(()).ok_or(peers.to_string())
        });
        assert_eq!(a.cli(&["status", "--check"]).status.code(), Some(1));
        unlinkat(&folder, &*name, AtFlags::empty()).expect("it is there");
        eventually("nothing is wrong any more", PATIENCE, || {
            let problems = problems()?;
            problems.is_empty().then_some(()).ok_or(format!("{problems:?}"))
        });
        a.wait_idle();
    }
}

#[test]
fn what_history_takes_and_may_take_is_named() {
    let (a, b) = Group::new().pair();
    write(a.at("f"), noise(1, 300_000));
    converge(&[&a, &b]);
    std::fs::remove_file(a.at("f")).expect("it is there");
    converge(&[&a, &b]);
    let status = b.json(&["status"]).expect("status");
    assert!(status["history_bytes"].as_u64() >= Some(300_000), "{status}");
    let said = text_of(&b.cli(&["status"]));
    assert!(said.lines().any(|line| line.starts_with("history") && line.contains("of at most")), "{said}");
}

#[test]
fn a_machine_is_renamed_for_all_and_stays_so() {
    let group = Group::new();
    let (mut a, b) = (group.machine("a"), group.machine("b"));
    a.names_itself = false;
    a.start();
    b.start();
    write(b.at("f"), "of b");
    eventually("they are linked", PATIENCE, || {
        let peers = b.linked_peers()?;
        (peers.len() == 1).then_some(()).ok_or(format!("{peers:?}"))
    });
    let (pid, device) = (a.pid(), a.json(&["status"]).expect("status")["device"].clone());
    let out = a.cli(&["rename", "kitchen.nas"]);
    assert!(out.status.success() && text_of(&out) == "this machine is kitchen.nas now\n", "{}", text_of(&out));
    let status = a.json(&["status"]).expect("status");
    assert_eq!((&status["name"], &status["device"], a.pid()), (&"kitchen.nas".into(), &device, pid));
    let known_as = |name: &str| {
        eventually(&format!("b knows it as {name}"), PATIENCE, || {
            let peers = b.linked_peers()?;
            (peers == [name]).then_some(()).ok_or(format!("{peers:?}"))
        });
    };
    known_as("kitchen.nas");
    let devices = b.json(&["status"]).expect("status")["devices"].clone();
    assert!(devices.as_array().is_some_and(|all| all.len() == 1 && all[0]["name"] == "kitchen.nas"), "{devices}");
    a.restart();
    known_as("kitchen.nas");
    converge(&[&a, &b]);
    for (machine, name, says) in [(&a, "a/b", "1 to 63"), (&b, "x", "change it there")] {
        let out = machine.cli(&["rename", name]);
        assert!(!out.status.success() && text_of(&out).contains(says), "{}", text_of(&out));
    }
    // What is given at a start goes first.
    a.stop();
    a.names_itself = true;
    a.start();
    known_as("a");
}
