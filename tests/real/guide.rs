//! The guides in docs/guide: each of their commands is run, on machines of the names that they use.
//!
//! A block of `sh` begins with the name of its machine, and is run there by a shell with a home of
//! its own. `ssh MACHINE` runs a command at another one. Daemons find each other on this host.

use crate::common::ports::free_udp_port;
use crate::common::{PATIENCE, eventually};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In which each guide finds the machines as the ones before left them.
const IN_ORDER: [&str; 8] = [
    "three-machines",
    "conflicts-and-history",
    "networks",
    "coming-from",
    "a-million-files",
    "troubleshooting",
    "upgrading",
    "backup-and-restore",
];
const MACHINES: [&str; 4] = ["laptop", "nas", "desktop", "spare"];
/// A block that takes longer hangs.
const PATIENCE_S: &str = "180";

/// Homes below one folder, and programs in front of all others.
struct GuideLab {
    home: tempfile::TempDir,
    broadcast_port: u16,
}

impl GuideLab {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("dirsync-guide-").tempdir().expect("a temporary folder");
        let bin = home.path().join("bin");
        fs::create_dir(&bin).expect("our own folder");
        for (name, program) in
            [("dirsync", env!("CARGO_BIN_EXE_dirsync")), ("dirsyncd", env!("CARGO_BIN_EXE_dirsyncd"))]
        {
            std::os::unix::fs::symlink(program, bin.join(name)).expect("our own folder");
        }
        let lab = Self { home, broadcast_port: free_udp_port() };
        let ssh = format!(
            "#!/bin/sh\nmachine=$1; shift\ncd '{root}'/$machine\nHOME='{root}'/$machine DIRSYNCD_NAME=$machine exec bash -c \"$*\"\n",
            root = lab.home.path().display()
        );
        fs::write(bin.join("ssh"), ssh).expect("our own folder");
        fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).expect("our own file");
        for machine in MACHINES {
            fs::create_dir(lab.at(machine)).expect("our own folder");
        }
        lab
    }

    fn at(&self, machine: &str) -> PathBuf {
        self.home.path().join(machine)
    }

    /// What a shell at this machine says of these lines, which all do what they are meant to.
    fn run(&self, machine: &str, lines: &str) {
        let log = self.home.path().join("log");
        let out = fs::File::options().create(true).append(true).open(&log).expect("our own file");
        // `~laptop` is another user's home elsewhere; here, another machine's.
        let lines = lines.replace("~laptop", path_text(&self.at("laptop")));
        let path = format!("{}:{}", self.home.path().join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let status = Command::new("timeout")
            .args([PATIENCE_S, "bash", "-euo", "pipefail", "-c", &lines])
            .current_dir(self.at(machine))
            .env("HOME", self.at(machine))
            .env("PATH", path)
            .env("DIRSYNCD_NAME", machine)
            .env("DIRSYNCD_LISTEN_PORT", "0")
            .env("DIRSYNCD_BROADCAST_PORT", self.broadcast_port.to_string())
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("our own file"))
            .stderr(out)
            .status()
            .expect("a shell");
        let log = || fs::read_to_string(&log).unwrap_or_default();
        assert!(status.success(), "at {machine}: {status}\n{lines}\n--- the log\n{}", log());
    }
}

impl GuideLab {
    /// A person goes on once a daemon has said that it runs.
    fn wait_started(&self, lines: &str) {
        // One that is started over ssh makes its folder first.
        let is_meant = |machine: &&str| lines.contains(&format!("ssh {machine}"));
        let folder = |machine: &str| self.at(machine).join("shared");
        let is_there = |machine: &&str| is_meant(machine) || folder(machine).exists();
        let machines: Vec<_> = MACHINES.into_iter().filter(is_there).map(folder).collect();
        eventually("all daemons answer", PATIENCE, || {
            let is_silent = |folder: &&PathBuf| {
                let asked = Command::new(env!("CARGO_BIN_EXE_dirsync")).arg("-C").arg(folder).arg("status").output();
                !asked.expect("dirsync can be started").status.success()
            };
            machines.iter().find(is_silent).map_or(Ok(()), |folder| Err(format!("{} is silent", folder.display())))
        });
    }
}

impl Drop for GuideLab {
    /// Its daemons are those whose command or home is below this folder.
    fn drop(&mut self) {
        let home = self.home.path().as_os_str().as_encoded_bytes();
        let holds = |file: &Path| fs::read(file).is_ok_and(|bytes| bytes.windows(home.len()).any(|part| part == home));
        let all = || {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            let ours = processes.filter(|process| holds(&process.path().join("environ")));
            let pids = ours.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
            pids.filter(|pid| *pid != std::process::id()).collect::<Vec<_>>()
        };
        // One that has ended has no environment any more.
        for pid in std::iter::repeat_with(all).take_while(|pids| !pids.is_empty()).flatten() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

fn guides() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide")
}

/// The blocks of a page that are run: the machine, and the lines.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let (block, after) = after.split_once("```\n").expect("a block ends");
        let (first, lines) = block.split_once('\n').expect("a machine and lines");
        let machine = first.strip_prefix("# ").unwrap_or_else(|| panic!("no machine: {block}"));
        found.push((machine.to_owned(), lines.to_owned()));
        rest = after;
    }
    found
}

#[test]
fn every_command_of_the_guides_does_what_it_says_on_machines_of_their_names() {
    let pages = fs::read_dir(guides()).expect("the guides").flatten().map(|page| page.file_name());
    let mut pages: Vec<_> = pages.filter(|name| name != "README.md").collect();
    pages.sort();
    let mut known: Vec<_> = IN_ORDER.iter().map(|name| OsString::from(format!("{name}.md"))).collect();
    known.sort();
    assert_eq!(pages, known, "each guide has its place in the order");
    let lab = GuideLab::new();
    for name in IN_ORDER {
        let page = fs::read_to_string(guides().join(format!("{name}.md"))).expect("a guide");
        let blocks = blocks(&page);
        assert!(!blocks.is_empty(), "{name} has commands");
        for (machine, lines) in blocks {
            lab.run(&machine, &lines);
            if lines.contains(" &\n") {
                lab.wait_started(&lines);
            }
        }
    }
}
