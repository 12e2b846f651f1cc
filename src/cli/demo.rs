//! `dirsync demo`: three daemons on this machine, in a folder of their own, and a tour of what they
//! do. All of it is gone afterwards, also when it is interrupted.
//!
//! Deliberately not here: anything that is not done with the real programs.

use super::{Failure, show, wait};
use crate::client::{Client, ClientError, Folder, shown};
use crate::humanize::duration;
use crate::views::history::RestoredView;
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Go on at once instead of leaving time to read
    #[arg(long)]
    quick: bool,
}

/// Between two steps, for who reads on a terminal.
const TO_READ: Duration = Duration::from_secs(8);
/// No step takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two edits of one file, so that one is seen to be the later.
const APART: Duration = Duration::from_millis(300);
const LOOKED_EVERY: Duration = Duration::from_millis(1);
/// Long enough to be on its way for a moment (bytes).
const LARGE: usize = 128 << 20;
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

pub(super) async fn run(wanted: &DemoArgs) -> Result<(), Failure> {
    let to_read = if wanted.quick || !io::stdout().is_terminal() { Duration::ZERO } else { TO_READ };
    let home = tempfile::Builder::new().prefix("dirsync-demo-").tempdir()?;
    let mut tour = Tour { machines: Vec::new(), step: 0, to_read, home, port: free_port()? };
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
    let [Ok(terminate), Ok(hangup), Ok(interrupt)] = &mut ends else {
        return Err(Failure::Nothing("no signal can be waited for here".to_owned()));
    };
    let ended = tokio::select! {
        ended = tour.all() => ended,
        _ = terminate.recv() => say("\ninterrupted"),
        _ = hangup.recv() => say("\ninterrupted"),
        _ = interrupt.recv() => say("\ninterrupted"),
    };
    let ended = ended.map_err(|why| tour.explained(why));
    let home = shown(tour.home.path());
    tour.end()?;
    ended?;
    say(&format!("All of it is gone: the three daemons have ended, and {home} is removed."))
}

/// The daemons end before their folders go.
struct Tour {
    machines: Vec<DemoMachine>,
    step: u32,
    to_read: Duration,
    home: TempDir,
    port: u16,
}

/// Ended with the tour, however that ends.
struct DemoMachine {
    dir: PathBuf,
    state: PathBuf,
    child: Child,
}

impl Drop for DemoMachine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tour {
    async fn all(&mut self) -> Result<(), Failure> {
        self.begin().await?;
        self.edit().await?;
        self.conflict().await?;
        self.kill().await?;
        self.restore().await
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        say(&format!(
            "Three machines, each a daemon with a folder of its own below {}. On a LAN they would be three\n\
             computers; here they find each other by broadcasts of this one.",
            shown(self.home.path())
        ))?;
        self.title("They find each other")?;
        for name in NAMES {
            let machine = self.start(name)?;
            self.machines.push(machine);
            // The first makes the group's secret, which the others are given.
            let secret = self.machines[0].state.join("secret");
            self.until("the first daemon has made a secret", || secret.exists()).await?;
        }
        let began = Instant::now();
        for n in 0..NAMES.len() {
            self.wait_linked(n, NAMES.len() - 1).await?;
        }
        say(&format!("All three are linked after {}, encrypted, without a server or an account.", took(began)))?;
        self.show_command(0, "status")?;
        self.pause().await
    }

    async fn edit(&mut self) -> Result<(), Failure> {
        self.title("An edit is everywhere at once")?;
        command("echo 'buy milk' > alpha/notes.txt")?;
        let began = Instant::now();
        fs::write(self.at(0, "notes.txt"), "buy milk\n")?;
        let there = [self.at(1, "notes.txt"), self.at(2, "notes.txt")];
        self.until("it is on the others", || there.iter().all(|path| holds(path, "buy milk\n"))).await?;
        say(&format!("beta and gamma had it after {}, written to their disks for good.", took(began)))?;
        self.pause().await
    }

    async fn conflict(&mut self) -> Result<(), Failure> {
        self.title("Two people edit one file at once")?;
        say("gamma is cut off for a while, and both alpha and gamma edit the file:")?;
        self.order(2, "pause").await?;
        command(
            "dirsync -C gamma pause; echo 'buy milk and bread' > alpha/notes.txt; echo 'buy tea' > gamma/notes.txt",
        )?;
        fs::write(self.at(0, "notes.txt"), "buy milk and bread\n")?;
        tokio::time::sleep(APART).await;
        fs::write(self.at(2, "notes.txt"), "buy tea\n")?;
        tokio::time::sleep(APART).await;
        command("dirsync -C gamma resume")?;
        self.order(2, "resume").await?;
        let all: Vec<_> = (0..3).map(|n| self.at(n, "notes.txt")).collect();
        self.until("all hold the later edit", || all.iter().all(|path| holds(path, "buy tea\n"))).await?;
        say("The later edit is in all three folders. The other one is not lost:")?;
        self.show_command(0, "conflicts")?;
        say("'dirsync conflicts diff' compares the two, and 'dirsync conflicts keep' decides.")?;
        self.pause().await
    }

    async fn kill(&mut self) -> Result<(), Failure> {
        self.title("A machine dies in the middle of a transfer")?;
        command("head -c 128M /dev/urandom > alpha/video; kill -9 $(pidof beta)")?;
        let mut noise = vec![0; LARGE];
        blake3::Hasher::new().update(self.home.path().as_os_str().as_encoded_bytes()).finalize_xof().fill(&mut noise);
        fs::write(self.at(0, "video"), &noise)?;
        let (staged, whole) = (self.at(1, ".dirsync/staging"), self.at(1, "video"));
        self.until("something of it has come", || bytes_below(&staged) > 0 || whole.exists()).await?;
        self.machines[1].child.kill()?;
        self.machines[1].child.wait()?;
        let half = if whole.exists() { "had all of it" } else { "had a part of it, and no half file" };
        say(&format!("beta was killed when it {half}. It is started again:"))?;
        let again = self.start(NAMES[1])?;
        let began = Instant::now();
        self.machines[1] = again;
        let (path, due) = (self.at(1, "video"), blake3::hash(&noise));
        self.until("it is whole", || fs::read(&path).is_ok_and(|bytes| blake3::hash(&bytes) == due)).await?;
        say(&format!("After {} it holds the file, byte for byte.", took(began)))?;
        self.pause().await
    }

    async fn restore(&mut self) -> Result<(), Failure> {
        self.title("Somebody deletes a file")?;
        command("rm alpha/notes.txt")?;
        self.wait_idle(0).await?;
        fs::remove_file(self.at(0, "notes.txt"))?;
        let there: Vec<_> = (0..3).map(|n| self.at(n, "notes.txt")).collect();
        self.until("it is deleted everywhere", || there.iter().all(|path| !path.exists())).await?;
        say("It is gone on all three. Any of them brings it back:")?;
        command("dirsync -C beta restore notes.txt")?;
        let mut client = self.client(1).await?;
        let began = Instant::now();
        let restored: RestoredView = loop {
            match client.post("/v1/restore", &json!({ "path": "notes.txt", "at_ns": null, "dry_run": false })).await {
                Ok(done) => break done,
                Err(ClientError::Refused { code: 503, .. }) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(LOOKED_EVERY).await;
                }
                Err(why) => return Err(why.into()),
            }
        };
        say(&indented(&show::restored(&restored)))?;
        self.until("it is back everywhere", || there.iter().all(|path| holds(path, "buy tea\n"))).await?;
        say("\nThat was the tour. 'dirsyncd DIR' on this machine and 'dirsync invite' begin with your own folder.")?;
        self.pause().await
    }

    /// Looks until it is so, as long as all daemons run.
    async fn until(&mut self, what: &str, is_so: impl Fn() -> bool) -> Result<(), Failure> {
        let began = Instant::now();
        while !is_so() {
            let has_ended = |machine: &mut DemoMachine| machine.child.try_wait().is_ok_and(|ended| ended.is_some());
            if began.elapsed() > PATIENCE || self.machines.iter_mut().any(has_ended) {
                return Err(stuck(what));
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        Ok(())
    }

    fn start(&self, name: &str) -> Result<DemoMachine, Failure> {
        let (dir, state) = (self.home.path().join(name), self.home.path().join(format!("{name}-state")));
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(&state)?;
        let mut command = Command::new(program());
        command.arg(&dir).arg("--state-dir").arg(&state).args(["--name", name, "--listen-port", "0"]);
        command.args(["--broadcast-port", &self.port.to_string()]);
        // What is meant for the user's own daemons.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"DIRSYNCD_")) {
            command.env_remove(name);
        }
        if let Some(first) = self.machines.first().filter(|first| first.dir != dir) {
            command.arg("--secret-file").arg(first.state.join("secret"));
        }
        let log = fs::File::options().create(true).append(true).open(self.home.path().join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(|why| {
            Failure::Nothing(format!(
                "'{}' cannot be started ({why}); install dirsyncd beside dirsync",
                shown(&program())
            ))
        })?;
        Ok(DemoMachine { dir, state, child })
    }

    fn at(&self, machine: usize, path: &str) -> PathBuf {
        self.machines[machine].dir.join(path)
    }

    async fn client(&self, machine: usize) -> Result<Client, Failure> {
        let folder = Folder::find(&self.machines[machine].dir)?;
        Ok(wait::connect(&folder, Some(PATIENCE)).await?)
    }

    async fn order(&self, machine: usize, order: &str) -> Result<(), Failure> {
        let _: Value = self.client(machine).await?.post(&format!("/v1/{order}"), &json!({})).await?;
        Ok(())
    }

    async fn wait_linked(&self, machine: usize, others: usize) -> Result<(), Failure> {
        self.wait_status(machine, |status| status.peers.len() == others && status.peers.iter().all(|peer| peer.in_sync))
            .await
    }

    async fn wait_idle(&self, machine: usize) -> Result<(), Failure> {
        self.wait_status(machine, |status| status.idle).await
    }

    async fn wait_status(
        &self,
        machine: usize,
        is_so: impl Fn(&crate::views::status::StatusView) -> bool,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let dir = &self.machines[machine].dir;
        // It listens once it has opened its folder.
        while !dir.join(".dirsync").exists() || !is_so(&self.client(machine).await?.get("/v1/status", &[]).await?) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if began.elapsed() > PATIENCE {
                return Err(stuck("the daemons are linked and idle"));
            }
        }
        Ok(())
    }

    /// The command, and what it prints.
    fn show_command(&self, machine: usize, which: &str) -> Result<(), Failure> {
        command(&format!("dirsync -C {} {which}", NAMES[machine]))?;
        let dir = &self.machines[machine].dir;
        let own = std::env::current_exe()?;
        let out = Command::new(own).arg("-C").arg(dir).arg(which).output()?;
        say(&indented(&String::from_utf8_lossy(&out.stdout)))
    }

    fn title(&mut self, text: &str) -> Result<(), Failure> {
        self.step += 1;
        say(&format!("\n{}. {text}\n", self.step))
    }

    async fn pause(&self) -> Result<(), Failure> {
        tokio::time::sleep(self.to_read).await;
        Ok(())
    }

    /// With what a daemon said last, if one has ended.
    fn explained(&mut self, why: Failure) -> Failure {
        let has_ended = |machine: &mut DemoMachine| machine.child.try_wait().is_ok_and(|ended| ended.is_some());
        let Some(n) = self.machines.iter_mut().position(has_ended) else { return why };
        let log = fs::read_to_string(self.home.path().join(format!("{}.log", NAMES[n]))).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default();
        Failure::Nothing(format!("the daemon of {} has ended: {last}", NAMES[n]))
    }

    fn end(mut self) -> io::Result<()> {
        self.machines.clear();
        self.home.close()
    }
}

/// The daemon that was installed with this very program, else the one that a shell would find.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("dirsyncd"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("dirsyncd"))
}

fn free_port() -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

fn stuck(what: &str) -> Failure {
    Failure::Nothing(format!("waited in vain until {what}; 'dirsync doctor' in a folder of yours may say why"))
}

fn holds(path: &Path, content: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text == content)
}

fn bytes_below(dir: &Path) -> u64 {
    let list = fs::read_dir(dir).into_iter().flatten().flatten();
    list.filter_map(|child| child.metadata().ok()).map(|is| is.len()).sum()
}

fn took(began: Instant) -> String {
    duration(began.elapsed().as_nanos() as u64)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn command(text: &str) -> Result<(), Failure> {
    say(&format!("  $ {text}"))
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
