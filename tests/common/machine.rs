//! One machine of a test: a folder, a state directory, a log, and a daemon that can be stopped,
//! killed and frozen.
//!
//! Children are killed when dropped; when a test fails, each machine's log is shown.

use super::disk::{chmod, path_text, write};
use super::ports::free_udp_port;
use super::tree::Tree;
use super::{PATIENCE, eventually};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Machines that share a secret and a broadcast port; everything of them is in one temporary
/// folder.
#[derive(Clone)]
pub struct Group {
    home: Arc<TempDir>,
    pub secret: String,
    pub broadcast_port: u16,
}

impl Group {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("dirsync-test-").tempdir().expect("a temporary folder");
        // Daemons of an unprivileged user must get through to their own folders.
        chmod(home.path(), 0o755);
        Self { home: Arc::new(home), secret: random_secret(), broadcast_port: free_udp_port() }
    }

    /// A machine that is not started yet, with an empty folder.
    pub fn machine(&self, name: &str) -> Machine {
        Machine::new(self.clone(), name)
    }

    /// Machines `a` and `b`, running and linked, with empty folders.
    pub fn pair(&self) -> (Machine, Machine) {
        let (a, b) = (self.machine("a"), self.machine("b"));
        a.start();
        b.start();
        wait_linked(&[&a, &b]);
        (a, b)
    }

    /// Another secret on the same broadcast port.
    pub fn stranger(&self) -> Self {
        Self { secret: random_secret(), ..self.clone() }
    }

    /// Another broadcast port with this group's secret: the same group, out of hearing.
    pub fn out_of_hearing(&self) -> Self {
        Self { secret: self.secret.clone(), ..Self::new() }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }
}

/// Starts them one after the other; does not wait for links.
pub fn start_all(machines: &[&Machine]) {
    for machine in machines {
        machine.start();
    }
}

/// Waits until each of these has a link to each other one.
pub fn wait_linked(machines: &[&Machine]) {
    for one in machines {
        for other in machines.iter().filter(|other| other.name != one.name) {
            eventually(&format!("{} is linked to {}", one.name, other.name), PATIENCE, || {
                let peers = one.linked_peers()?;
                peers.contains(&other.name).then_some(()).ok_or(format!("its peers: {peers:?}"))
            });
        }
    }
}

pub struct Machine {
    pub name: String,
    /// The synced folder.
    pub dir: PathBuf,
    pub state: PathBuf,
    pub home: PathBuf,
    pub group: Group,
    pub binary: PathBuf,
    /// The `dirsync` that asks it.
    pub client: PathBuf,
    /// What the daemon is started through, such as `nsenter --net=...`; it must exec.
    pub through: Vec<String>,
    pub options: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Without it the daemon looks for `secret` in its state directory, and makes one.
    pub names_secret: bool,
    /// Without it the daemon is called as its host.
    pub names_itself: bool,
    child: Mutex<Option<Child>>,
    /// Where in the log the last start begins.
    log_start: AtomicU64,
}

impl Machine {
    fn new(group: Group, name: &str) -> Self {
        let home = group.path().join(name);
        let (dir, state) = (home.join("data"), home.join("state"));
        fs::create_dir_all(&dir).expect("a folder below our own");
        fs::create_dir_all(&state).expect("a folder below our own");
        chmod(&state, 0o700);
        let secret = home.join("secret");
        write(&secret, format!("{}\n", group.secret));
        chmod(&secret, 0o600);
        Self {
            name: name.to_owned(),
            dir,
            state,
            home,
            group,
            binary: PathBuf::from(env!("CARGO_BIN_EXE_dirsyncd")),
            client: PathBuf::from(env!("CARGO_BIN_EXE_dirsync")),
            through: Vec::new(),
            options: Vec::new(),
            environment: Vec::new(),
            names_secret: true,
            names_itself: true,
            child: Mutex::new(None),
            log_start: AtomicU64::new(0),
        }
    }

    /// The path of a name in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn secret_file(&self) -> PathBuf {
        self.home.join("secret")
    }

    pub fn history_dir(&self) -> PathBuf {
        self.dir.join(".dirsync/history")
    }

    /// The daemon's command line as the other methods run it.
    pub fn command(&self) -> Command {
        let mut words: Vec<&str> = self.through.iter().map(String::as_str).collect();
        let port = self.group.broadcast_port.to_string();
        let secret = self.secret_file();
        words.push(path_text(&self.binary));
        words.extend(["-b", &port, "--state-dir", path_text(&self.state)]);
        if self.names_itself {
            words.extend(["--name", &self.name]);
        }
        if self.names_secret {
            words.extend(["--secret-file", path_text(&secret)]);
        }
        if !self.options.iter().any(|o| o == "-l") {
            words.extend(["-l", "0"]);
        }
        words.extend(self.options.iter().map(String::as_str));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.dir);
        command.envs(self.environment.iter().map(|(k, v)| (k, v))).env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers on its control socket.
    pub fn start(&self) {
        self.spawn();
        self.wait_up();
    }

    /// Until then SIGTERM ends it as it ends any process.
    pub fn wait_up(&self) {
        eventually(&format!("{} answers", self.name), PATIENCE, || {
            if let Some(status) = self.exit_status() {
                return Err(format!("it ended: {status}"));
            }
            self.json(&["status"]).map(|_| ())
        });
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&self) {
        let mut child = self.child.lock().expect("no panic while it is held");
        assert!(child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log file");
        self.log_start.store(log.metadata().expect("its size").len(), Ordering::SeqCst);
        let errors = log.try_clone().expect("a second descriptor");
        let mut command = self.command();
        *child = Some(command.stdout(log).stderr(errors).spawn().expect("dirsyncd can be started"));
    }

    /// Runs the daemon to its own end, for what it must refuse.
    pub fn run_to_end(&self) -> Refusal {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while child.try_wait().expect("our child").is_none() {
            if std::time::Instant::now() > deadline {
                let _ = child.kill();
                let out = child.wait_with_output().expect("our child");
                panic!("it went on instead of refusing:\n{}", text_of(&out));
            }
            super::pace(5);
        }
        let out = child.wait_with_output().expect("our child");
        Refusal { code: out.status.code(), text: text_of(&out) }
    }

    /// SIGTERM; ends cleanly within 5 s.
    pub fn stop(&self) {
        let Some(mut child) = self.take_child() else { return };
        signal(&child, Signal::TERM);
        let status = wait_for(&mut child, Duration::from_secs(10));
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{} did not end cleanly after SIGTERM", self.name);
    }

    /// kill -9.
    pub fn kill(&self) {
        if let Some(mut child) = self.take_child() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    /// SIGSTOP: the machine hangs.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().expect("no panic while it is held").as_ref().expect("it runs").id()
    }

    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("no panic while it is held");
        child.as_mut()?.try_wait().expect("our child")
    }

    /// Resident bytes of the daemon now.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that were ever resident since the start.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a line of that name");
        1024 * line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
    }

    pub fn log_file(&self) -> PathBuf {
        self.home.join("log")
    }

    /// What the daemon said since its last start.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        let from = (self.log_start.load(Ordering::SeqCst) as usize).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// Waits for a line of the log, since the last start, that holds all of `words` in any case.
    pub fn wait_log(&self, words: &[&str]) -> String {
        eventually(&format!("the log of {} has a line with {words:?}", self.name), PATIENCE, || {
            find_line(&self.log(), words).ok_or_else(|| "there is none".to_owned())
        })
    }

    pub fn tree(&self) -> Result<Tree, String> {
        Tree::read(&self.dir).map_err(|e| format!("{}: {e}", self.name))
    }

    /// Runs `dirsync -C DIR ARGS`.
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.client);
        command.arg("-C").arg(&self.dir).args(args).stdin(Stdio::null());
        command.output().expect("dirsync can be started")
    }

    /// Runs `dirsync -C DIR ARGS --json` and reads its answer.
    pub fn json(&self, args: &[&str]) -> Result<Value, String> {
        let out = self.cli(&[args, &["--json"]].concat());
        if !out.status.success() {
            return Err(format!("dirsync {args:?}: {}", text_of(&out).trim()));
        }
        serde_json::from_slice(&out.stdout).map_err(|e| format!("dirsync {args:?}: {e}: {}", text_of(&out)))
    }

    /// `dirsync wait`: this machine and its linked peers agree and are idle.
    pub fn wait_idle(&self) {
        let out = self.cli(&["wait", "--timeout", "60"]);
        assert!(out.status.success(), "dirsync wait at {}: {}", self.name, text_of(&out));
    }

    /// Idle by its own account, whatever its peers say.
    pub fn wait_own_idle(&self) {
        eventually(&format!("{} is idle", self.name), PATIENCE, || {
            let status = self.json(&["status"])?;
            (status["idle"] == true).then_some(()).ok_or(status.to_string())
        });
    }

    /// The names of the machines that this one has a link to.
    pub fn linked_peers(&self) -> Result<Vec<String>, String> {
        let status = self.json(&["status"])?;
        let peers = status["peers"].as_array().ok_or_else(|| format!("no peers in {status}"))?;
        Ok(peers.iter().filter_map(|peer| peer["name"].as_str().map(str::to_owned)).collect())
    }

    /// Bytes sent and received over all links since the start.
    pub fn wire_bytes(&self) -> (u64, u64) {
        let answer = self.json(&["peers"]).unwrap_or_else(|e| panic!("{e}"));
        let peers = answer.as_array().or_else(|| answer["peers"].as_array()).expect("a list of peers");
        let sum = |field: &str| {
            peers.iter().map(|p| p[field].as_u64().unwrap_or_else(|| panic!("no {field} in {p}"))).sum::<u64>()
        };
        (sum("sent_bytes"), sum("received_bytes"))
    }

    /// The contents of all files in this machine's history.
    pub fn history(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        collect_files(&self.history_dir(), &mut found);
        found
    }

    fn signal(&self, which: Signal) {
        signal(self.child.lock().expect("no panic while it is held").as_ref().expect("it runs"), which);
    }

    fn take_child(&self) -> Option<Child> {
        self.child.lock().expect("no panic while it is held").take()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(200)..];
            eprintln!("--- log of {} ({} lines, the last {})", self.name, lines.len(), shown.len());
            eprintln!("{}", shown.join("\n"));
        }
    }
}

/// How a daemon ended that refused to run.
pub struct Refusal {
    pub code: Option<i32>,
    pub text: String,
}

impl Refusal {
    /// The exit code, no panic, and one line that says it: it holds `subject` and one of `reasons`.
    pub fn says(&self, code: i32, subject: &str, reasons: &[&str]) {
        let (text, lines) = (&self.text, self.text.lines().filter(|line| line.contains(subject)).collect::<Vec<_>>());
        assert_eq!(self.code, Some(code), "exit code: {text}");
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
        assert_eq!(lines.len(), 1, "one line names {subject}: {text}");
        let line = lines[0].to_lowercase();
        assert!(reasons.iter().any(|reason| line.contains(reason)), "none of {reasons:?} in: {text}");
    }
}

/// The first line that holds all of `words`, in any case.
pub fn find_line(text: &str, words: &[&str]) -> Option<String> {
    let fits = |line: &str| words.iter().all(|word| line.to_lowercase().contains(&word.to_lowercase()));
    text.lines().find(|line| fits(line)).map(str::to_owned)
}

pub fn text_of(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn random_secret() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel's randomness");
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}

fn signal(child: &Child, which: Signal) {
    let pid = Pid::from_child(child);
    rustix::process::kill_process(pid, which).expect("our child lives");
}

fn wait_for(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = std::time::Instant::now() + within;
    while std::time::Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        super::pace(5);
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn collect_files(dir: &Path, into: &mut Vec<Vec<u8>>) {
    let Ok(list) = fs::read_dir(dir) else { return };
    for child in list.flatten() {
        match child.file_type() {
            Ok(kind) if kind.is_dir() => collect_files(&child.path(), into),
            Ok(kind) if kind.is_file() => into.extend(fs::read(child.path())),
            _ => {}
        }
    }
}
