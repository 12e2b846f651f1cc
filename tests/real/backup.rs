//! A membership as a file: exported, and imported where the machine goes on as a new device.

use crate::common::disk::path_text;
use crate::common::machine::{find_line, text_of, wait_linked};
use crate::common::{Group, Machine, PATIENCE, converge, eventually, read, write};
use dirsyncd::io::identity::{ExportedMember, sealed};
use dirsyncd::io::net::device_key::META_FORMER_KEYS;
use dirsyncd::io::net::succession::former_ids;
use dirsyncd::io::store::index::SqliteIndex;
use dirsyncd::model::DeviceId;
use dirsyncd::model::text::{from_hex, hex};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const PASSPHRASE: &str = "correct horse battery staple";

/// With its secret in its state directory.
fn machine(group: &Group, name: &str) -> Machine {
    let mut machine = group.machine(name);
    machine.names_secret = false;
    machine
}

/// Runs `dirsync ARGS --passphrase-stdin` with that passphrase.
fn with_passphrase(machine: &Machine, args: &[&str], passphrase: &str) -> Output {
    let mut command = Command::new(&machine.client);
    command.args(args).arg("--passphrase-stdin");
    fed(command, &format!("{passphrase}\n"))
}

fn fed(mut command: Command, text: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it can be started");
    // What refuses before it reads is gone already.
    let _ = child.stdin.take().expect("its standard input").write_all(text.as_bytes());
    child.wait_with_output().expect("our child")
}

fn export(machine: &Machine, file: &Path) -> Output {
    with_passphrase(machine, &["-C", path_text(&machine.dir), "identity", "export", path_text(file)], PASSPHRASE)
}

fn import_args<'a>(machine: &'a Machine, file: &'a Path) -> [&'a str; 6] {
    let (dir, state) = (path_text(&machine.dir), path_text(&machine.state));
    ["identity", "import", path_text(file), dir, "--state-dir", state]
}

fn import(machine: &Machine, file: &Path) -> Output {
    with_passphrase(machine, &import_args(machine, file), PASSPHRASE)
}

fn device(machine: &Machine) -> String {
    machine.json(&["status"]).expect("a status")["device"].as_str().expect("an id").to_owned()
}

/// Of the device that was exported.
fn private_key(file: &Path) -> Vec<u8> {
    let text = sealed::open(&read(file), PASSPHRASE).expect("an export");
    let key = ExportedMember::of_bytes(&text).expect("a member").key.to_bytes();
    // The number that comes after the version of an ECPrivateKey, as 32 bytes.
    let before = [2, 1, 1, 4, 32];
    let at = key.windows(before.len()).position(|bytes| bytes == before).expect("a key of P-256") + before.len();
    key[at..at + 32].to_vec()
}

/// Killed when dropped.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Exit code, and a sentence with these words.
fn says(out: &Output, code: i32, words: &[&str]) {
    let text = text_of(out);
    assert_eq!(out.status.code(), Some(code), "{text}");
    assert!(find_line(&text, words).is_some(), "no line with {words:?} in: {text}");
}

#[test]
fn a_machine_goes_on_from_its_export_on_new_hardware_and_the_old_one_beside_it() {
    let group = Group::new();
    let (first, mut old) = (machine(&group, "first"), machine(&group, "old"));
    first.start();
    let code = first.json(&["invite"]).expect("an invitation")["code"].as_str().expect("a code").to_owned();
    old.options = ["--join", &code, "--log-level", "trace"].map(str::to_owned).into();
    write(old.at("f"), "of the group");
    old.start();
    wait_linked(&[&first, &old]);
    converge(&[&first, &old]);
    let file = old.home.join("old.age");
    says(&export(&old, &file), 0, &["exported the membership of old", "old.age"]);
    assert_eq!(fs::metadata(&file).expect("the export").permissions().mode() & 0o7777, 0o600);
    let secret = String::from_utf8(read(old.state.join("secret"))).expect("digits");
    let key = private_key(&file);
    for text in [secret.trim(), &hex(&key), &format!("{key:?}")] {
        assert!(!old.log().contains(text), "the log tells no secret, whatever is logged");
    }

    let new = machine(&group, "new");
    says(&import(&new, &file), 0, &["has the membership of old", "as a new device", "dirsyncd --state-dir"]);
    new.start();
    let all = [&first, &old, &new];
    wait_linked(&all);
    let id = device(&new);
    assert_ne!(id, device(&old));
    write(old.at("by-the-old"), "it runs on");
    write(new.at("f"), "by the new one");
    let tree = converge(&all);
    assert!(tree.has("by-the-old"));
    assert_eq!((read(first.at("f")), read(old.at("f"))), (b"by the new one".to_vec(), b"by the new one".to_vec()));
    for machine in [&old, &new] {
        machine.restart();
    }
    wait_linked(&all);
    write(old.at("f"), "by the old one");
    converge(&all);
    assert_eq!(device(&new), id, "it stays that device");
    for machine in all {
        assert_eq!(find_line(&machine.log(), &["new device id"]), None, "nobody is a clone, nor set back");
    }
    new.stop();
    let chain =
        SqliteIndex::glance(&new.state.join("index"), META_FORMER_KEYS).expect("an index").meta.expect("a chain");
    let former = former_ids(&chain, DeviceId(from_hex(&id).expect("an id")));
    assert_eq!(former.iter().map(ToString::to_string).collect::<Vec<_>>(), [device(&old)]);
}

/// Runs a line of the shell on a terminal of its own, at which somebody answers each prompt.
fn at_a_terminal(line: &str, typed: &[&str], state_home: &Path) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "script", "-qec", line, "/dev/null"]).env("XDG_STATE_HOME", state_home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it can be started");
    let (mut keys, mut screen) = (child.stdin.take().expect("keys"), child.stdout.take().expect("a screen"));
    let mut stdout = Vec::new();
    for answer in typed {
        let (shown, mut byte) = (stdout.len(), [0]);
        while !stdout[shown..].ends_with(b": ") && screen.read(&mut byte).expect("the screen") > 0 {
            stdout.extend(byte);
        }
        keys.write_all(answer.as_bytes()).expect("it still asks");
    }
    screen.read_to_end(&mut stdout).expect("the screen");
    drop(keys);
    Output { status: child.wait().expect("our child"), stdout, stderr: Vec::new() }
}

#[test]
fn a_person_is_asked_for_the_passphrase_and_the_program_age_opens_and_makes_such_files() {
    let group = Group::new();
    let (old, new) = (machine(&group, "old"), machine(&group, "new"));
    old.start();
    let (tool, file, home) = (path_text(&old.client), old.home.join("old.age"), new.home.join("states"));
    let export = format!("{tool} -C {} identity export {}", path_text(&old.dir), path_text(&file));
    says(&at_a_terminal(&export, &["one two\n", "one three\n"], &home), 1, &["the two passphrases differ"]);
    let interrupted = format!("trap : INT; {export}; echo rc $?; stty -a");
    let out = at_a_terminal(&interrupted, &["one\x03"], &home);
    assert!(text_of(&out).contains("rc 1") && text_of(&out).contains(" echo "), "{}", text_of(&out));
    assert!(!file.exists());
    let out = at_a_terminal(&export, &["one two\n", "one two\n"], &home);
    says(&out, 0, &["exported the membership of old"]);

    let plain = old.home.join("plain");
    let open = format!("age -d -o {} {}", path_text(&plain), path_text(&file));
    says(&at_a_terminal(&open, &["one two\n"], &home), 0, &["passphrase"]);
    let text = String::from_utf8(read(&plain)).expect("JSON");
    assert!(text.contains(String::from_utf8(read(old.state.join("secret"))).expect("digits").trim()), "{text}");
    let again = old.home.join("again.age");
    let seal = format!("age -p -o {} {}", path_text(&again), path_text(&plain));
    says(&at_a_terminal(&seal, &["another\n", "another\n"], &home), 0, &["passphrase"]);

    let import = format!("{tool} identity import {} {} --json", path_text(&again), path_text(&new.dir));
    let out = at_a_terminal(&import, &["another\n"], &home);
    let said = find_line(&text_of(&out), &["state_dir"]).expect("an answer");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&said["name"], said["command"].as_str()),
        (&"old".into(), Some(&*format!("dirsyncd '{}'", path_text(&new.dir))))
    );

    // Started as it says, it finds what was imported.
    let port = group.broadcast_port.to_string();
    let mut daemon = Command::new(&new.binary);
    daemon.args(["-b", &port, "-l", "0", path_text(&new.dir)]).env("XDG_STATE_HOME", &home);
    let daemon = Guarded(daemon.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    let status = eventually("both are linked", PATIENCE, || {
        let status = new.json(&["status"])?;
        let is_linked = status["peers"][0]["name"] == "old";
        is_linked.then_some(status.clone()).ok_or(status.to_string())
    });
    drop(daemon);
    for field in ["device", "name", "state_dir"] {
        assert_eq!(status[field], said[field], "{field}");
    }
}

#[test]
fn an_interrupt_ends_the_command_while_the_passphrase_is_worked_on() {
    let group = Group::new();
    let new = machine(&group, "new");
    let file = new.home.join("slow.age");
    // One that demands four times the work of ours, so that there is time.
    let ours = sealed::seal(b"{}", PASSPHRASE).expect("a file of age");
    let at = ours.windows(4).position(|four| four == b" 18\n").expect("its work");
    write(&file, [&ours[..at], b" 20\n", &ours[at + 4..]].concat());
    let mut command = Command::new(&new.client);
    command.args(import_args(&new, &file)).arg("--passphrase-stdin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Guarded(command.spawn().expect("it can be started"));
    let mut line = child.0.stdin.take().expect("its standard input");
    line.write_all(format!("{PASSPHRASE}\n").as_bytes()).expect("it reads");
    let status = format!("/proc/{}/status", child.0.id());
    eventually("it works in memory", PATIENCE, || {
        let status = fs::read_to_string(&status).map_err(|why| why.to_string())?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        kib.is_some_and(|kib: u64| kib > 64 << 10).then_some(()).ok_or(status)
    });
    let pid = Pid::from_child(&child.0);
    rustix::process::kill_process(pid, Signal::INT).expect("our child");
    assert_eq!(child.0.wait().expect("our child").code(), Some(1));
    let mut said = String::new();
    child.0.stderr.take().expect("its words").read_to_string(&mut said).expect("text");
    assert!(said.contains("interrupted; nothing was done"), "{said}");
    assert_eq!(fs::read_dir(&new.state).expect("a folder").count(), 0);
}

#[test]
fn what_is_kept_of_a_machine_is_exported_where_no_daemon_runs() {
    let group = Group::new();
    let mut old = group.machine("old");
    let home = old.home.join("xdg");
    old.state = home.join("dirsyncd/of-old");
    old.names_itself = false;
    old.options = vec!["--role".to_owned(), "receive-only".to_owned()];
    old.start();
    old.json(&["rename", "attic"]).expect("it is renamed");
    converge(&[&old]);
    let file = old.home.join("old.age");
    let state = path_text(&old.state);
    let by_state = ["identity", "export", path_text(&file), "--state-dir", state];
    says(&with_passphrase(&old, &by_state, PASSPHRASE), 1, &["in use by the daemon"]);
    old.stop();
    says(&with_passphrase(&old, &by_state, PASSPHRASE), 1, &["secret file", "--secret-file"]);
    let secret = old.secret_file();
    let named = [&by_state[..], &["--secret-file", path_text(&secret)]].concat();
    let inside = old.at("old.age");
    let inside = ["identity", "export", path_text(&inside), "--state-dir", state, "--secret-file", path_text(&secret)];
    says(&with_passphrase(&old, &inside, PASSPHRASE), 1, &["lies in the synced folder", "a place outside"]);
    says(&with_passphrase(&old, &named, PASSPHRASE), 0, &["exported the membership of attic"]);
    // The state of the folder is found where a daemon has it by itself.
    let from_folder = |home: &Path| {
        let mut command = Command::new(&old.client);
        command.arg("-C").arg(&old.dir).args(["identity", "export", "-", "--passphrase-stdin"]);
        command.args(["--secret-file", path_text(&secret)]).env("XDG_STATE_HOME", home);
        fed(command, &format!("{PASSPHRASE}\n"))
    };
    says(&from_folder(&old.home.join("none")), 1, &["no daemon is running", "--state-dir"]);
    let stray = ["identity", "export", "-", "--state-dir", path_text(&old.dir)];
    says(&with_passphrase(&old, &stray, PASSPHRASE), 1, &["holds no membership"]);
    assert!(!old.at("lock").exists());
    let out = from_folder(&home);
    assert!(out.status.success(), "{}", text_of(&out));

    // What went to standard output is as good.
    write(&file, &out.stdout);
    let mut new = machine(&group, "new");
    new.names_itself = false;
    says(&import(&new, &file), 0, &["has the membership of attic"]);
    new.start();
    eventually("it has the name and the role", PATIENCE, || {
        let status = new.json(&["status"])?;
        let is_so = status["name"] == "attic" && status["condition"]["role"] == "receive-only";
        is_so.then_some(()).ok_or(status.to_string())
    });
}

#[test]
fn what_cannot_be_exported_or_imported_is_refused_with_the_way_out_and_changes_nothing() {
    let group = Group::new();
    let (old, new) = (machine(&group, "old"), machine(&group, "new"));
    old.start();
    let file = old.home.join("old.age");
    says(
        &with_passphrase(&old, &["-C", path_text(&old.dir), "identity", "export", path_text(&file)], ""),
        2,
        &["empty"],
    );
    let long = "x".repeat(4097);
    let args = ["-C", path_text(&old.dir), "identity", "export", path_text(&file)];
    says(&with_passphrase(&old, &args, &long), 2, &["at most 4096 bytes"]);
    assert!(!file.exists());
    says(&export(&old, &file), 0, &["exported"]);
    says(&export(&old, &file), 1, &["old.age' exists", "--force"]);
    says(&export(&old, &old.home.join("none/old.age")), 1, &["cannot be written"]);
    says(&export(&old, &old.home), 1, &["no regular file"]);
    says(&export(&old, &old.at("old.age")), 1, &["lies in the synced folder", "a place outside"]);
    // As if started there.
    says(&export(&old, Path::new("old.age")), 1, &["lies in the synced folder"]);
    let mut open = machine(&group, "open");
    open.options = vec!["--open".to_owned()];
    open.start();
    says(&export(&open, &open.home.join("open.age")), 1, &["--open", "no membership to export"]);

    let wrong = with_passphrase(&new, &import_args(&new, &file), "correct horse battery stapler");
    says(&wrong, 1, &["old.age' cannot be opened", "passphrase is wrong"]);
    let cut = old.home.join("cut.age");
    let whole = read(&file);
    write(&cut, &whole[..whole.len() - 20]);
    says(&import(&new, &cut), 1, &["cut.age", "cut off or damaged"]);
    write(&cut, "a letter");
    says(&import(&new, &cut), 1, &["cut.age", "no export of dirsync"]);
    says(&import(&new, &old.home.join("missing")), 1, &["missing' cannot be read"]);
    let mut lost = machine(&group, "lost");
    lost.dir = lost.home.join("lost");
    says(&import(&lost, &file), 2, &["lost' does not exist", "mkdir"]);
    says(&with_passphrase(&new, &import_args(&new, Path::new("-")), PASSPHRASE), 2, &["--passphrase-stdin"]);
    let mut unasked = Command::new("setsid");
    unasked.arg(&new.client).args(import_args(&new, &file));
    says(&fed(unasked, "\n"), 2, &["no terminal", "--passphrase-stdin"]);
    assert_eq!(fs::read_dir(&new.state).expect("a folder").count(), 0, "none of that left anything");

    says(&import(&old, &file), 1, &["in use by the daemon"]);
    let secret = read(old.state.join("secret"));
    old.stop();
    says(&import(&old, &file), 1, &["holds a membership already", "dirsync leave", "--state-dir"]);
    assert_eq!(read(old.state.join("secret")), secret);
    old.start();
}

#[test]
fn an_export_from_before_a_rotation_still_leads_into_the_group() {
    let group = Group::new();
    let (first, mut old) = (machine(&group, "first"), machine(&group, "old"));
    first.start();
    let code = first.json(&["invite"]).expect("an invitation")["code"].as_str().expect("a code").to_owned();
    old.options = ["--join", &code].map(str::to_owned).into();
    old.start();
    wait_linked(&[&first, &old]);
    write(first.at("f"), "of the group");
    converge(&[&first, &old]);
    let file = old.home.join("old.age");
    says(&export(&old, &file), 0, &["exported the membership of old"]);
    let before = read(first.state.join("secret"));
    old.stop();
    assert!(first.cli(&["rotate", "--yes"]).status.success());
    let new = machine(&group, "new");
    says(&import(&new, &file), 0, &["as a new device"]);
    new.start();
    new.wait_log(&["first handed over the group's new secret"]);
    wait_linked(&[&first, &new]);
    converge(&[&first, &new]);
    assert_eq!(read(new.state.join("secret")), read(first.state.join("secret")));
    assert_ne!(read(new.state.join("secret")), before);
    // The old one is lost for good, and that is no reason to lose the new one.
    let id = device(&new);
    let lost = first.json(&["peers", "--all"]).expect("a list");
    let rows = lost.as_array().expect("rows").iter().map(|row| row["device"].as_str().expect("an id").to_owned());
    let old_id = rows.into_iter().find(|row| *row != id && *row != device(&first)).expect("the old one");
    assert!(first.cli(&["remove", &old_id, "--yes"]).status.success());
    eventually("the new one has the secret that follows", PATIENCE, || {
        let [ours, theirs] = [&first, &new].map(|machine| read(machine.state.join("secret")));
        (ours == theirs && device(&new) == id).then_some(()).ok_or("not yet".to_owned())
    });
    write(first.at("f"), "after the removal");
    wait_linked(&[&first, &new]);
    converge(&[&first, &new]);
}
