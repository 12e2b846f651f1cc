//! The two commands from outside: what they refuse, in one line each, and with which exit code.
//!
//! Nothing here needs a second machine. Deliberately not here: syncing.

use assert_cmd::Command;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Plain, Stdio};
use tempfile::TempDir;

#[path = "common/ports.rs"]
mod ports;

use ports::free_udp_port;

const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Bench {
    home: TempDir,
}

impl Bench {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("data")).unwrap();
        fs::write(home.path().join("secret"), DIGITS).unwrap();
        fs::set_permissions(home.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = more.iter().map(|word| word.replace("{home}", &self.path(""))).collect();
        for (option, value) in [("--state-dir", "state"), ("--secret-file", "secret")] {
            if !more.contains(&option) {
                words.extend([option.to_owned(), self.path(value)]);
            }
        }
        words
    }

    /// Its exit code, and its only line.
    fn refused(&self, more: &[&str], directory: &str) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsyncd"));
        let out = command.args(self.words(more)).arg(self.path(directory)).env_clear().output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        (out.status.code().unwrap(), text)
    }

    /// A running daemon that has said its first line. Two tests have two ports, or their daemons
    /// would link.
    fn start(&self, broadcast_port: &str) -> Daemon {
        let mut command = Plain::new(env!("CARGO_BIN_EXE_dirsyncd"));
        command.args(self.words(&["-l", "0", "-b", broadcast_port, "--name", "alpha"])).arg(self.path("data"));
        let mut child = command.stderr(Stdio::piped()).env_clear().spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        // Read on, so that the daemon never waits for us.
        std::thread::spawn(move || lines.count());
        Daemon { child, first }
    }

    fn dirsync(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsync"));
        let out = command.arg("-C").arg(self.path("data")).args(words).env_clear().output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }
}

struct Daemon {
    child: Child,
    first: String,
}

impl Daemon {
    fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wrong_usage_has_one_line_and_code_2() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "").unwrap();
    for (words, directory, says) in [
        (&["--name", "a"][..], "none", "mkdir -p"),
        (&["--name", "a"], "file", "is not a directory"),
        (&["--name", "a/b"], "data", "1 to 63"),
        (&["--peer", "nas"], "data", "no HOST:PORT"),
        (&["--state-dir", "{home}/data/state"], "data", "lies inside the synced folder"),
        (&["--log-level", "loud"], "data", "'loud' is not understood"),
    ] {
        let (code, line) = bench.refused(words, directory);
        assert!(code == 2 && line.contains(says), "{code}: {line}");
    }
    assert!(!Path::new(&bench.path("data/.dirsync")).exists(), "nothing was begun");
}

#[test]
fn what_is_in_the_way_has_one_line_and_code_1() {
    let bench = Bench::new();
    fs::write(bench.path("short"), "1234").unwrap();
    fs::write(bench.path("loose"), DIGITS).unwrap();
    fs::set_permissions(bench.path("short"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(bench.path("loose"), fs::Permissions::from_mode(0o644)).unwrap();
    for (file, says) in [("short", "64 hexadecimal digits"), ("loose", "chmod 600"), ("none", "cannot be read")] {
        let (code, line) = bench.refused(&["--secret-file", &bench.path(file)], "data");
        assert!(code == 1 && line.contains(says), "{code}: {line}");
    }
    let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, line) = bench.refused(&["-l", &port], "data");
    assert!(code == 1 && line.contains(&port) && line.contains("--listen-port"), "{code}: {line}");
}

#[test]
fn the_environment_sets_options_too() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dirsyncd"));
    command.env_clear().env("DIRSYNCD_PEER", "nas").env("DIRSYNCD_DIRECTORY", bench.path("data"));
    let out = command.env("HOME", bench.path("")).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--peer 'nas' is no HOST:PORT"));
}

#[test]
fn what_takes_no_value_is_a_yes_or_a_no_in_the_environment() {
    let bench = Bench::new();
    for (value, is_open) in
        [("1", true), ("true", true), ("Yes", true), ("on", true), ("0", false), ("false", false), ("", false)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsyncd"));
        command.env_clear().env("DIRSYNCD_OPEN", value).env("DIRSYNCD_ALLOW_MASS_DELETE", value);
        // An open group and a secret exclude each other; a wrong peer ends the others.
        command.args(bench.words(&["--peer", "nas"])).arg(bench.path("data")).env("DIRSYNCD_NO_SCRUB", value);
        let out = command.output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        let says = if is_open { "give one of the two" } else { "--peer 'nas' is no HOST:PORT" };
        assert!(out.status.code() == Some(2) && text.contains(says), "'{value}': {text}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_dirsyncd"));
    command.env_clear().env("DIRSYNCD_OPEN", "maybe").args(bench.words(&[])).arg(bench.path("data"));
    let out = command.output().unwrap();
    assert!(out.status.code() == Some(2) && String::from_utf8_lossy(&out.stderr).contains("write 1 or 0"));
}

/// Whatever listens there: each caller is given this answer.
fn answers(socket: &Path, status: &str, body: &str) {
    let listener = UnixListener::bind(socket).unwrap();
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn an_answer_full_of_control_characters_commands_no_terminal() {
    let bench = Bench::new();
    fs::create_dir(bench.path("data/.dirsync")).unwrap();
    let socket = PathBuf::from(bench.path("data/.dirsync/control"));
    let line = r#"{"time_ns":"0","kind":"sent","path":null,"peer":null,"text":"a\u001b[2J\u009bb\u0007"}"#;
    answers(&socket, "200 OK", &format!(r#"{{"lines":[{line}]}}"#));
    let (code, said, _) = bench.dirsync(&["log"]);
    assert!(code == 0 && said.ends_with("  a\u{fffd}[2J\u{fffd}b\u{fffd}\n"), "{said:?}");
    fs::remove_file(&socket).unwrap();
    answers(&socket, "404 Not Found", r#"{"error":"gone\u001b]0;x\u0007"}"#);
    let (code, _, why) = bench.dirsync(&["log"]);
    assert_eq!((code, why.as_str()), (1, "dirsync: gone\u{fffd}]0;x\u{fffd}\n"));
}

#[test]
fn an_option_before_a_subcommand_of_conflicts_is_an_option() {
    let bench = Bench::new();
    let (code, _, why) = bench.dirsync(&["conflicts", "--json", "keep", "f", "ours"]);
    assert!(code == 1 && why.contains("not in a synced folder"), "{why}");
    let (code, _, why) = bench.dirsync(&["conflicts", "--all", "keep", "f", "ours"]);
    assert!(code == 2 && why.contains("--all"), "{why}");
}

#[test]
fn a_daemon_answers_refuses_a_second_one_and_stops_as_asked() {
    let bench = Bench::new();
    fs::write(bench.path("data/f"), "content").unwrap();
    let port = &free_udp_port().to_string();
    let daemon = bench.start(port);
    for part in ["dirsyncd 0.", &bench.path("data"), "device ", "'alpha'", "TCP port ", port, &bench.path("state")] {
        assert!(daemon.first.contains(part), "{part}: {}", daemon.first);
    }
    let pid = daemon.child.id().to_string();
    let (code, line) = bench.refused(&[], "data");
    assert!(code == 1 && line.contains(&pid) && line.contains("--state-dir"), "{code}: {line}");
    let (code, line) = bench.refused(&["--state-dir", &bench.path("other")], "data");
    assert!(code == 1 && line.contains(&pid), "{code}: {line}");

    let (code, _, why) = bench.dirsync(&["wait", "--timeout", "20"]);
    assert_eq!((code, why.as_str()), (0, ""));
    let (_, status, _) = bench.dirsync(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["files"], &status["name"], &status["idle"]), (&1.into(), &"alpha".into(), &true.into()));
    assert!(bench.dirsync(&["ls"]).1.trim_end().ends_with("  f"));
    assert!(bench.dirsync(&["log"]).1.contains("scanned"));
    assert_eq!(bench.dirsync(&["pause"]).1, "paused; go on with 'dirsync resume'\n");
    let (code, _, why) = bench.dirsync(&["wait", "--timeout", "0.05"]);
    assert!(code == 1 && why.contains("paused"), "{why}");
    assert_eq!(bench.dirsync(&["resume"]).0, 0);
    let (code, _, why) = bench.dirsync(&["restore", "f"]);
    assert!(code == 1 && why.contains("nothing of 'f' is in history"), "{why}");
    assert_eq!(bench.dirsync(&["restore", "../x"]).0, 2);
    assert_eq!(daemon.stop(), Some(0));

    let (code, _, why) = bench.dirsync(&["status"]);
    assert!(code == 1 && why.contains("no daemon is running") && why.lines().count() == 1, "{why}");
}

#[test]
fn a_name_is_taken_as_it_is_printed_and_a_path_says_why_it_is_as_it_is() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let odd = Path::new(&bench.path("data")).join(std::ffi::OsStr::from_bytes(b"latin-\xe9.txt"));
    fs::write(odd, "content").unwrap();
    fs::write(bench.path("data/.dirsyncignore"), "*.o\n").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.path("data/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let daemon = bench.start(&free_udp_port().to_string());
    assert_eq!(bench.dirsync(&["wait", "--timeout", "20"]).0, 0);
    let printed = bench
        .dirsync(&["ls"])
        .1
        .lines()
        .find_map(|line| line.split("  ").find(|w| w.contains("latin")).map(str::to_owned));
    assert_eq!(printed.as_deref(), Some(r"latin-\xe9.txt"));
    assert!(bench.dirsync(&["ls", r"latin-\xe9.txt"]).1.contains("latin"));
    for (path, says) in [
        (r"latin-\xe9.txt", r"'latin-\xe9.txt' synced: a file of 7 B, changed by alpha"),
        ("pipe", "'pipe' a socket, fifo or device"),
        ("a.o", "'a.o' ignored: is covered by '*.o' (.dirsyncignore, line 1)"),
        ("none", "'none' not there"),
    ] {
        let (code, said, why) = bench.dirsync(&["why", path]);
        assert!(code == 0 && said.starts_with(says), "{said}{why}");
    }
    assert_eq!(bench.dirsync(&["why", "."]).0, 2, "the whole folder is no path to ask about");
    assert!(bench.dirsync(&["log", "pipe"]).1.contains("'pipe'"));
    let (code, _, why) = bench.dirsync(&["verify", "--rate", "1"]);
    assert!(code == 2 && why.contains("at least 64K"), "{why}");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn outside_a_synced_folder_the_tool_says_so() {
    let (code, _, why) = Bench::new().dirsync(&["status"]);
    assert!(code == 1 && why.contains("not in a synced folder") && why.contains("-C DIR"), "{why}");
}

#[test]
fn a_folder_whose_daemon_does_not_run_is_listed_with_the_command_that_starts_it() {
    let bench = Bench::new();
    let name = bench.path("data\u{1b}[2J");
    fs::create_dir(&name).unwrap();
    let real = fs::canonicalize(&name).unwrap().to_str().unwrap().replace('\u{1b}', "\\x1b");
    let of_it = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsync"));
        let out = command.args(words).env_clear().env("HOME", bench.path("")).current_dir("/").output().unwrap();
        let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let lines = text.lines().filter(|line| line.contains(&*real)).map(str::to_owned).collect::<Vec<_>>();
        (out.status.code(), lines)
    };
    let mut daemon = Plain::new(env!("CARGO_BIN_EXE_dirsyncd"));
    let daemon = daemon.args(["-l", "0", "-b", "25020", &name]).env_clear().env("HOME", bench.path(""));
    let mut daemon = Daemon { child: daemon.stderr(Stdio::null()).spawn().unwrap(), first: String::new() };
    let begun = std::time::Instant::now();
    while !of_it(&["folders"]).1.iter().any(|line| line.contains("port ") && line.ends_with("idle, no machine linked"))
    {
        assert!(
            begun.elapsed().as_secs() < 60 && daemon.child.try_wait().unwrap().is_none(),
            "{:?}",
            of_it(&["folders"])
        );
    }
    assert_eq!(daemon.stop(), Some(0));
    let (code, lines) = of_it(&["folders"]);
    let says = format!("not running; start it with: dirsyncd $'{real}'");
    assert!(code == Some(0) && lines.len() == 1 && lines[0].ends_with(&says), "{lines:?}");
    fs::rename(&name, bench.path("moved")).unwrap();
    assert_eq!(of_it(&["folders"]).1.len(), 0, "it is not there");
    assert!(of_it(&["folders", "--all"]).1[0].ends_with("only its state is kept"));
}

/// A user with a service manager that notes what it is asked, and does what makes links.
struct Manager {
    bench: Bench,
}

impl Manager {
    fn new() -> Self {
        let bench = Bench::new();
        for dir in ["bin", "run/systemd"] {
            fs::create_dir_all(bench.path(dir)).unwrap();
        }
        fs::write(bench.path("run/systemd/private"), "").unwrap();
        let script = r#"#!/bin/sh
            echo "$*" >>"$HOME/asked"
            for unit; do :; done
            wants=$HOME/.config/systemd/user/default.target.wants
            case "$2" in
                is-active) test -e "$HOME/active" ;;
                enable) mkdir -p "$wants" && ln -sf x "$wants/$unit" ;;
                disable) rm "$wants/$unit" ;;
            esac"#;
        fs::write(bench.path("bin/systemctl"), script).unwrap();
        fs::set_permissions(bench.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { bench }
    }

    /// Exit code, what it said, and what `systemctl` was asked.
    fn run(&self, words: &[&str]) -> (i32, String, Vec<String>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirsync"));
        command.env_clear().env("HOME", self.bench.path("")).env("XDG_RUNTIME_DIR", self.bench.path("run"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.bench.path("bin")));
        let out = command.args(words).current_dir(self.bench.home.path()).output().unwrap();
        let asked = fs::read_to_string(self.bench.path("asked")).unwrap_or_default();
        let _ = fs::remove_file(self.bench.path("asked"));
        let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        (out.status.code().unwrap(), text, asked.lines().map(str::to_owned).collect())
    }

    fn units(&self, name: &str) -> PathBuf {
        Path::new(&self.bench.path(".config/systemd/user")).join(name)
    }

    /// The unit of `data`.
    fn unit(&self) -> String {
        let real = fs::canonicalize(self.bench.path("data")).unwrap();
        let name = real.to_str().unwrap().trim_start_matches('/').replace('-', "\\x2d").replace('/', "-");
        format!("dirsyncd@{name}.service")
    }
}

#[test]
fn a_unit_is_installed_for_a_folder_and_taken_back() {
    let manager = Manager::new();
    let unit = manager.unit();
    let (code, said, asked) = manager.run(&["install", "--user", "--dry-run", "data", "--name", "nas"]);
    assert!(code == 0 && said.contains("would write") && said.contains("Environment=\"DIRSYNCD_NAME=nas\""), "{said}");
    assert!(asked == [format!("--user is-active --quiet {unit}")] && !manager.units("").exists(), "nothing was done");

    let (code, said, asked) = manager.run(&["install", "--user", "data", "--name", "nas"]);
    assert!(code == 0 && said.contains("from each login on") && said.contains("loginctl enable-linger"), "{said}");
    assert_eq!(asked[1..], ["--user daemon-reload".to_owned(), format!("--user enable --now {unit}")]);
    let template = fs::read_to_string(manager.units("dirsyncd@.service")).unwrap();
    assert!(template.contains(&format!("\nExecStart=:{} -- %f\n", env!("CARGO_BIN_EXE_dirsyncd"))), "{template}");
    let options = manager.units(&format!("{unit}.d/options.conf"));
    assert!(fs::read_to_string(&options).unwrap().contains("\nEnvironment=\"DIRSYNCD_NAME=nas\"\n"));

    // What it says is not changed unasked.
    let (code, said, _) = manager.run(&["install", "--user", "data", "--name", "box"]);
    assert!(code == 1 && said.contains("options.conf' is there already") && said.contains("--force"), "{said}");
    fs::write(manager.bench.path("active"), "").unwrap();
    let (code, said, asked) = manager.run(&["install", "--user", "--force", "data", "--name", "box", "--json"]);
    assert_eq!(asked[2..], [format!("--user enable {unit}"), format!("--user restart {unit}")]);
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && answer["unit"] == unit.as_str() && answer["steps"][0]["write"].is_string(), "{said}");

    let (code, said, asked) = manager.run(&["uninstall", "--user", "data"]);
    assert!(code == 0 && said.contains("its state are as they were"), "{said}");
    assert!(asked.contains(&format!("--user disable --now {unit}")), "{asked:?}");
    assert!(!options.exists() && !manager.units("dirsyncd@.service").exists());
    fs::remove_file(manager.bench.path("active")).unwrap();
    let (code, said, _) = manager.run(&["uninstall", "--user", "data"]);
    assert!(code == 1 && said.contains("no unit of yours is installed for"), "{said}");
}

#[test]
fn what_cannot_be_installed_is_refused_before_anything_is_written() {
    let manager = Manager::new();
    fs::create_dir_all(manager.bench.path("outer/inner")).unwrap();
    fs::create_dir(manager.bench.path("outer/.dirsync")).unwrap();
    fs::write(manager.bench.path("outer/.dirsync/marker"), "m").unwrap();
    for (words, code, says) in [
        (&["data", "--name", "a/b"][..], 2, "1 to 63"),
        (&["data", "--peer", "nas"], 2, "no HOST:PORT"),
        (&["data", "--log-level", "loud"], 2, "'loud' is not understood"),
        (&["none"], 2, "mkdir -p"),
        (&[], 2, "dirsync install DIR"),
        (&["outer/inner"], 1, "lies inside the synced folder"),
        (&["outer"], 1, "was synced before, and this user keeps no state of it"),
    ] {
        let (found, said, _) = manager.run(&[&["install", "--user"], words].concat());
        assert!(found == code && said.contains(says), "{words:?}: {found}: {said}");
    }
    fs::remove_file(manager.bench.path("run/systemd/private")).unwrap();
    let (code, said, _) = manager.run(&["install", "--user", "data", "--name", "nas"]);
    let instead = format!("dirsyncd --name=nas '{}'", fs::canonicalize(manager.bench.path("data")).unwrap().display());
    assert!(code == 1 && said.contains(&instead), "{said}");
    assert!(!manager.units("").exists());
}

#[test]
fn a_folder_that_was_synced_by_hand_goes_on_with_its_state_in_a_unit() {
    let manager = Manager::new();
    let mut daemon = Plain::new(env!("CARGO_BIN_EXE_dirsyncd"));
    let daemon = daemon.args(["-l", "0", "-b", "25021", &manager.bench.path("data")]).env_clear();
    let daemon = daemon.env("HOME", manager.bench.path("")).stderr(Stdio::null());
    let daemon = Daemon { child: daemon.spawn().unwrap(), first: String::new() };
    let states = manager.bench.path(".local/state/dirsyncd");
    let begun = std::time::Instant::now();
    while manager.bench.dirsync(&["wait", "--timeout", "1"]).0 != 0 {
        assert!(begun.elapsed().as_secs() < 60);
    }
    let (code, said, _) = manager.run(&["install", "--user", "data"]);
    assert!(code == 1 && said.contains("stop that one first") && !manager.units("").exists(), "{said}");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(manager.run(&["install", "--user", "data"]).0, 0);
    let options = fs::read_to_string(manager.units(&format!("{}.d/options.conf", manager.unit()))).unwrap();
    let state = fs::read_dir(&states).unwrap().next().unwrap().unwrap().path();
    let state = state.canonicalize().unwrap();
    let line = format!("Environment=\"DIRSYNCD_STATE_DIR={}\"", state.display());
    assert!(options.lines().any(|found| found == line), "{options}");
    // One that was stopped before it knew its folder.
    fs::remove_file(state.join("folder")).unwrap();
    fs::remove_file(manager.bench.path("data/.dirsync/marker")).unwrap();
    let (_, said, _) = manager.run(&["install", "--user", "--dry-run", "--force", "data"]);
    assert!(!said.contains("options.conf"), "nothing of it changes: {said}");
}

#[test]
fn manual_pages_and_completions_need_no_folder_and_no_daemon() {
    let bench = Bench::new();
    let run = |words: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_dirsync")).args(words).current_dir("/").output().unwrap();
        (out.status.code().unwrap(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    let (code, said) = run(&["man", "--dir", &bench.path("man")]);
    assert!(code == 0 && said.contains(" pages are in "), "{said}");
    let page = fs::read_to_string(bench.path("man/man8/dirsyncd.8")).unwrap();
    assert_eq!(run(&["man", "dirsyncd"]), (0, page));
    assert!(Path::new(&bench.path("man/man1/dirsync-conflicts-keep.1")).exists());
    let (code, said) = run(&["man", "nothing"]);
    assert!(code == 2 && said.contains("there is no command 'nothing'"), "{said}");
    let (code, said) = run(&["man", "--dir", "/proc/none"]);
    assert!(code == 1 && said.starts_with("dirsync: '/proc/none"), "{said}");
    let (code, said) = run(&["completions", "bash", "dirsyncd"]);
    assert!(code == 0 && said.contains("complete -F _dirsyncd"), "{said}");
}

#[test]
fn the_drop_in_of_inotify_sets_limits_that_the_kernel_has() {
    let text = include_str!("../systemd/sysctl.d/10-dirsyncd.conf");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let set: Vec<_> = lines.map(|line| line.split_once(" = ").expect("a name and a value")).collect();
    assert_eq!(set.len(), 2);
    for (name, value) in set {
        assert!(value.parse::<u64>().is_ok(), "{name} = {value}");
        assert!(Path::new("/proc/sys").join(name.replace('.', "/")).is_file(), "{name}");
    }
}

/// Building one takes minutes: CONTRIBUTING.md has the commands.
#[test]
fn a_debian_package_is_installed_upgraded_removed_and_purged() {
    let Ok(package) = std::env::var("DIRSYNC_DEB") else { return };
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/check-deb");
    let out = Command::new(check).arg(package).output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success() && said.ends_with("installed, upgraded, removed and purged\n"), "{said}");
}

#[test]
fn both_explain_themselves() {
    for (binary, parts) in [
        (
            env!("CARGO_BIN_EXE_dirsyncd"),
            &["--broadcast-port", "DIRSYNCD_STATE_DIR", "Exit codes", "One secret is one folder"][..],
        ),
        (env!("CARGO_BIN_EXE_dirsync"), &["restore", "--json", "Exit codes"]),
    ] {
        let out = Command::new(binary).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
