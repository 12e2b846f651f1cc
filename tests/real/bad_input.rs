//! Bad input: each refused with one clear line that says what to do, and an exit code: 2 for a
//! wrong command line, 1 for what is wrong with the machine.

use crate::common::disk::{chmod, copy_program, give_to, path_text, run};
use crate::common::machine::{Refusal, wait_linked};
use crate::common::ports::free_tcp_port;
use crate::common::{Group, Machine, converge, is_root, noise, pace, read, write};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine `a` with these options, run to its end.
fn refused(options: &[&str]) -> Refusal {
    let mut machine = Group::new().machine("a");
    machine.options = options.iter().map(|&o| o.to_owned()).collect();
    machine.run_to_end()
}

/// `a`, as an unprivileged user where the tests run as root.
fn unprivileged(group: &Group, test: &str) -> Machine {
    let mut machine = group.machine("a");
    if is_root(test) {
        let copy = machine.home.join("dirsyncd");
        copy_program(&machine.binary, &copy);
        chmod(&copy, 0o755);
        machine.binary = copy;
        machine.through = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
        give_to(&machine.home, 65_534, 65_534);
    }
    machine
}

/// The SQLite file in a state directory.
fn index_of(machine: &Machine) -> PathBuf {
    let is_index = |path: &PathBuf| {
        // One that was set aside keeps that in its name.
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains("corrupt")) {
            return false;
        }
        let mut magic = [0; 15];
        let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        read.is_ok() && magic == *b"SQLite format 3"
    };
    let list = fs::read_dir(&machine.state).expect("a state directory");
    list.flatten().map(|entry| entry.path()).find(is_index).expect("an index in it")
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let machine = Group::new().machine("a");
    fs::remove_dir(&machine.dir).expect("rmdir");
    machine.run_to_end().says(2, path_text(&machine.dir), &["does not exist", "no such", "missing", "not there"]);
    assert!(!machine.dir.exists(), "it was made");
}

#[test]
fn a_directory_that_is_a_file_is_named() {
    let machine = Group::new().machine("a");
    fs::remove_dir(&machine.dir).expect("rmdir");
    write(&machine.dir, "a file");
    machine.run_to_end().says(2, path_text(&machine.dir), &["not a directory", "no directory", "not a folder"]);
}

#[test]
fn a_directory_that_is_not_writable_is_named() {
    let machine = unprivileged(&Group::new(), "a_directory_that_is_not_writable_is_named");
    chmod(&machine.dir, 0o555);
    machine.run_to_end().says(1, path_text(&machine.dir), &["writ", "permission"]);
}

#[test]
fn a_command_line_without_a_directory_or_with_an_unknown_option_is_wrong_usage() {
    for args in [&[][..], &["--no-such-option", "/tmp"], &["-l", "65536", "/tmp"], &["-b", "word", "/tmp"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_dirsyncd")).args(args).output().expect("it starts");
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(text.contains("--help") && !text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_tcp_port_in_use_is_named_with_its_option() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let refusal = refused(&["-l", &port]);
    refusal.says(1, &port, &["in use"]);
    assert!(refusal.text.contains("--listen-port") || refusal.text.contains("-l "), "{}", refusal.text);
}

#[test]
fn a_udp_port_in_use_is_named_with_its_option() {
    let group = Group::new();
    // Without SO_REUSEADDR and SO_REUSEPORT it cannot be shared.
    let _taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.broadcast_port)).expect("the port");
    let refusal = group.machine("a").run_to_end();
    refusal.says(1, &group.broadcast_port.to_string(), &["in use"]);
    assert!(refusal.text.contains("--broadcast-port") || refusal.text.contains("-b "), "{}", refusal.text);
}

#[test]
fn a_malformed_secret_file_is_named() {
    for contents in ["", "too short", &"g".repeat(64), &"a".repeat(65)] {
        let machine = Group::new().machine("a");
        write(machine.secret_file(), contents);
        machine.run_to_end().says(1, path_text(&machine.secret_file()), &["64 hex"]);
    }
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    for mode in [0o640, 0o604] {
        let machine = Group::new().machine("a");
        chmod(machine.secret_file(), mode);
        machine.run_to_end().says(1, path_text(&machine.secret_file()), &["chmod", "600"]);
    }
}

#[test]
fn a_secret_file_that_was_named_and_is_missing_is_not_made() {
    let machine = Group::new().machine("a");
    fs::remove_file(machine.secret_file()).expect("rm");
    machine.run_to_end().says(1, path_text(&machine.secret_file()), &["cannot be read"]);
    assert!(!machine.secret_file().exists(), "it was made");
}

#[test]
fn a_secret_file_that_is_a_folder_is_refused() {
    let machine = Group::new().machine("a");
    fs::remove_file(machine.secret_file()).expect("rm");
    fs::create_dir(machine.secret_file()).expect("mkdir");
    machine.run_to_end().says(1, path_text(&machine.secret_file()), &["regular file"]);
}

#[test]
fn a_state_directory_inside_the_folder_is_refused() {
    let mut machine = Group::new().machine("a");
    machine.state = machine.at("state");
    machine.run_to_end().says(2, path_text(&machine.state), &["inside", "within", "below"]);
    assert!(!machine.state.exists(), "it was made");
}

#[test]
fn a_daemon_of_another_user_that_lets_anyone_in_is_not_asked() {
    let test = "a_daemon_of_another_user_that_lets_anyone_in_is_not_asked";
    if !is_root(test) {
        return;
    }
    let machine = unprivileged(&Group::new(), test);
    machine.start();
    chmod(machine.at(".dirsync"), 0o755);
    chmod(machine.at(".dirsync/control"), 0o777);
    let tool = machine.home.join("dirsync");
    // By another process: a child that another test starts meanwhile would hold this one's open for
    // writing.
    run("cp", &[env!("CARGO_BIN_EXE_dirsync"), path_text(&tool)]);
    chmod(&tool, 0o755);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65533", "--regid=65533", "--clear-groups", path_text(&tool), "-C"]);
    let out = command.arg(&machine.dir).arg("status").output().expect("setpriv can be started");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("another user (uid 65534)"), "{said}");
    machine.json(&["status"]).expect("root may ask every user's daemon");
}

#[test]
fn a_bad_peer_is_wrong_usage() {
    for peer in ["", "host", "host:", ":1", "host:0", "host:65536", "host:port", "[::1", "a b:1"] {
        let refusal = refused(&["--peer", peer]);
        assert_eq!(refusal.code, Some(2), "--peer '{peer}': {}", refusal.text);
        assert!(refusal.text.contains("--peer"), "{}", refusal.text);
    }
}

#[test]
fn open_beside_a_secret_is_wrong_usage() {
    let refusal = refused(&["--open"]);
    assert_eq!(refusal.code, Some(2), "{}", refusal.text);
    assert!(refusal.text.contains("--open") && refusal.text.contains("secret"), "{}", refusal.text);
}

#[test]
fn a_second_daemon_on_the_folder_or_the_state_directory_is_refused_with_the_firsts_pid() {
    let group = Group::new();
    let (first, mut second) = (group.machine("a"), group.machine("b"));
    first.start();
    let pid = first.pid().to_string();
    second.dir.clone_from(&first.dir);
    second.run_to_end().says(1, &pid, &["already", "locked", "in use", "running"]);
    let mut third = group.machine("c");
    third.state.clone_from(&first.state);
    third.run_to_end().says(1, &pid, &["already", "locked", "in use", "running"]);
    // The first one goes on, and its lock ends with it, also by kill -9.
    first.wait_idle();
    first.kill();
    first.start();
}

#[test]
fn an_index_from_a_newer_version_is_refused_and_not_touched() {
    let machine = Group::new().machine("a");
    write(machine.at("f"), "f");
    machine.start();
    machine.wait_idle();
    machine.stop();
    let index = index_of(&machine);
    let db = rusqlite::Connection::open(&index).expect("opens");
    db.pragma_update(None, "user_version", 9999).expect("writes");
    db.close().expect("closes");
    let before = read(&index);
    let refusal = machine.run_to_end();
    refusal.says(1, path_text(&index), &["newer"]);
    assert_eq!(read(&index), before, "it was touched");
    assert_eq!(read(machine.at("f")), b"f");
}

/// What makes an index useless.
fn damage(index: &Path, how: &str) {
    let mut bytes = read(index);
    match how {
        "its middle is overwritten" => {
            let middle = bytes.len() / 2;
            let end = bytes.len().min(middle + 20_000);
            bytes[1000..2000].copy_from_slice(&noise(1, 1000));
            let len = end - middle;
            bytes[middle..end].copy_from_slice(&noise(2, len));
        }
        "it is cut short" => bytes.truncate(5000),
        "it is no database" => bytes = noise(3, 50_000),
        _ => bytes.clear(),
    }
    fs::write(index, bytes).expect("writes");
}

#[test]
fn a_corrupt_index_is_set_aside_and_made_anew_and_nothing_is_lost() {
    let (a, b) = Group::new().pair();
    for n in 0..200 {
        write(a.at(&format!("d/f{n}")), noise(n, 1000));
    }
    let before = converge(&[&a, &b]);
    for how in ["its middle is overwritten", "it is cut short", "it is no database", "it is empty"] {
        // A clean stop folds the log into the file, so that it is the file which counts; after a
        // kill it is checked.
        a.restart();
        a.kill();
        damage(&index_of(&a), how);
        a.start();
        wait_linked(&[&a, &b]);
        assert_eq!(converge(&[&a, &b]), before, "{how}");
        if how != "it is empty" {
            a.wait_log(&["index", "aside"]);
        }
    }
}

#[test]
fn junk_on_the_broadcast_port_stops_nobody() {
    let group = Group::new();
    let a = group.machine("a");
    a.start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_broadcast(true).expect("broadcasts");
    for round in 0..2000_u64 {
        let datagram = match round % 4 {
            0 => noise(round, (round % 1400) as usize),
            1 => noise(round, 60_000),
            2 => br#"{"version":1,"group":"00","device":"x","port":99999,"mac":""}"#.to_vec(),
            _ => [b"{".repeat(900), b"[".repeat(100)].concat(),
        };
        let _ = socket.send_to(&datagram, ("127.0.0.1", group.broadcast_port));
        if round % 50 == 0 {
            pace(1);
        }
    }
    let b = group.machine("b");
    b.start();
    wait_linked(&[&a, &b]);
    write(a.at("f"), "f");
    converge(&[&a, &b]);
    // One line a sender at most, or none: not one a datagram.
    assert!(a.log().lines().count() < 100, "{} lines of log", a.log().lines().count());
}

#[test]
fn a_peer_that_nobody_listens_at_is_tried_again_and_stops_nobody() {
    let group = Group::new();
    let mut a = group.machine("a");
    let port = free_tcp_port();
    a.options = vec!["--peer".to_owned(), format!("127.0.0.1:{port}")];
    a.start();
    let mut b = group.out_of_hearing().machine("b");
    b.options = vec!["-l".to_owned(), port.to_string()];
    write(a.at("f"), "f");
    a.wait_idle();
    b.start();
    wait_linked(&[&a, &b]);
    converge(&[&a, &b]);
}
