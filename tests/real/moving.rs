//! Folders that are moved, copied, put beside another one or inside it.

use crate::common::disk::{copy_tree, path_text};
use crate::common::lan::Lan;
use crate::common::machine::{Refusal, text_of};
use crate::common::{Group, PATIENCE, eventually, is_root, rename, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A daemon that finds its state by itself, below one home of a user.
struct Daemon {
    child: Child,
    folder: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn start(group: &Group, home: &Path, folder: &Path, more: &[&str]) -> Self {
        Self::spawn(command(group, home, folder, more), home, folder)
    }

    fn spawn(mut command: Command, home: &Path, folder: &Path) -> Self {
        let log = home.join(format!("log-{}", folder.file_name().unwrap().to_str().unwrap()));
        let file = fs::File::create(&log).unwrap();
        let child = command.stderr(file).spawn().unwrap();
        let daemon = Self { child, folder: folder.to_owned(), log };
        eventually("the daemon answers", PATIENCE, || daemon.status().map(|_| ()));
        daemon
    }

    fn status(&self) -> Result<serde_json::Value, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsync"));
        let out = command.arg("-C").arg(&self.folder).args(["status", "--json"]).output().unwrap();
        if !out.status.success() {
            return Err(text_of(&out));
        }
        let status: serde_json::Value = serde_json::from_slice(&out.stdout).map_err(|why| why.to_string())?;
        // Until it listens, the daemon of a folder above answers.
        let is_its = status["directory"].as_str().is_some_and(|dir| Path::new(dir).ends_with(self.name()));
        if is_its { Ok(status) } else { Err(status.to_string()) }
    }

    fn name(&self) -> &Path {
        Path::new(self.folder.file_name().unwrap())
    }

    fn device(&self) -> String {
        self.status().unwrap()["device"].as_str().unwrap().to_owned()
    }

    fn port(&self) -> u64 {
        self.status().unwrap()["listen_port"].as_u64().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(group: &Group, home: &Path, folder: &Path, more: &[&str]) -> Command {
    command_in(&[], group, home, folder, more)
}

/// The same in a network of its own.
fn command_in(through: &[String], group: &Group, home: &Path, folder: &Path, more: &[&str]) -> Command {
    let mut words = through.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_dirsyncd")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command.env_clear().env("HOME", home).args(["-b", &group.broadcast_port.to_string(), "--name", "me"]);
    command.args(more).arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn refused(group: &Group, home: &Path, folder: &Path, more: &[&str]) -> Refusal {
    let out = command(group, home, folder, more).stderr(Stdio::piped()).output().unwrap();
    Refusal { code: out.status.code(), text: text_of(&out) }
}

fn folder(group: &Group, name: &str) -> PathBuf {
    let folder = group.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    write(folder.join("f"), "content");
    folder
}

#[test]
fn a_renamed_folder_goes_on_as_the_same_machine_and_a_copy_is_another() {
    let group = Group::new();
    let (home, data) = (group.path().to_owned(), folder(&group, "data"));
    let first = Daemon::start(&group, &home, &data, &["-l", "0"]);
    let device = first.device();
    first.stop();
    let moved = group.path().join("moved");
    rename(&data, &moved);
    let second = Daemon::start(&group, &home, &moved, &["-l", "0"]);
    assert_eq!(second.device(), device, "{}", second.log());
    assert!(!second.log().contains("there is no index"), "{}", second.log());
    second.stop();

    let copy = group.path().join("copy");
    copy_tree(&moved, &copy);
    let third = Daemon::start(&group, &home, &copy, &["-l", "0"]);
    assert_ne!(third.device(), device, "a copy has an id of its own");
    third.stop();
    let refusal = refused(&group, &home, &copy, &["--moved-from", path_text(&moved)]);
    refusal.says(2, "--moved-from", &["still there"]);
    fs::remove_dir_all(&moved).unwrap();
    let fourth = Daemon::start(&group, &home, &copy, &["-l", "0", "--moved-from", path_text(&moved)]);
    assert_eq!(fourth.device(), device, "a person says that it was moved: {}", fourth.log());
}

#[test]
fn a_second_folder_keeps_the_port_that_was_chosen_for_it() {
    if !is_root("a_second_folder_keeps_the_port_that_was_chosen_for_it") {
        return;
    }
    let (group, lan) = (Group::new(), Lan::new(1));
    let home = group.path().to_owned();
    // The usual port of a network of our own.
    let mut taken = lan.machine(&group.stranger(), "usual", 1);
    taken.options = vec!["-l".to_owned(), "6000".to_owned()];
    taken.start();
    let data = folder(&group, "second");
    let start = || Daemon::spawn(command_in(&taken.through, &group, &home, &data, &[]), &home, &data);
    let first = start();
    let port = first.port();
    assert_ne!(port, 6000);
    assert!(first.log().contains(&format!("port {port} from now on")), "{}", first.log());
    first.stop();
    taken.stop();
    let again = start();
    assert_eq!(again.port(), port, "also when the usual port is free: {}", again.log());
}

#[test]
fn a_folder_inside_a_synced_one_is_refused_unless_it_is_ignored_there() {
    let group = Group::new();
    let (home, outer) = (group.path().to_owned(), folder(&group, "outer"));
    let inner = folder(&group, "outer/a/inner");
    let running = Daemon::start(&group, &home, &outer, &["-l", "0"]);
    let refusal = refused(&group, &home, &inner, &["-l", "0"]);
    refusal.says(1, "lies inside the synced folder", &["/a/inner/"]);
    assert!(!inner.join(".dirsync").exists(), "nothing was begun");
    write(outer.join(".dirsyncignore"), "/a/inner/\n");
    let inside = Daemon::start(&group.stranger(), &home, &inner, &["-l", "0"]);
    assert_ne!(inside.device(), running.device());
}

#[test]
fn a_folder_around_a_synced_one_is_refused_unless_it_ignores_that() {
    let group = Group::new();
    let (home, outer) = (group.path().to_owned(), folder(&group, "outer"));
    let inner = folder(&group, "outer/a/inner");
    let running = Daemon::start(&group, &home, &inner, &["-l", "0"]);
    let refusal = refused(&group, &home, &outer, &["-l", "0"]);
    refusal.says(1, "lies inside", &["/a/inner/"]);
    assert!(!outer.join(".dirsync").exists(), "nothing was begun");
    write(outer.join(".dirsyncignore"), "/a/inner/\n");
    let around = Daemon::start(&group.stranger(), &home, &outer, &["-l", "0"]);
    assert_ne!(around.device(), running.device());
}
