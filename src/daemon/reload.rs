//! What SIGHUP changes while the daemon runs: the log level, the limit and the peers.
//!
//! Only what has changed: a limit that `dirsync limit` set since then stays
//! where the options say the same as at the start. Deliberately not here: reading the options,
//! which the caller of `run` does, and the signal (`hangup.rs`).

use super::hangup::Hangups;
use super::limit;
use super::shell::Shell;
use crate::humanize::bytes;
use crate::io::store::index::SqliteIndex;
use crate::options::Options;

/// Options, and the log level as it was given.
pub type ReadOptions = (Options, Option<String>);

/// How the options are read again.
pub struct Reload {
    in_force: ReadOptions,
    read: fn() -> Result<ReadOptions, String>,
    set_level: fn(Option<&str>) -> Result<(), String>,
}

impl Reload {
    /// `in_force`: as they were read for the start.
    pub fn new(
        in_force: ReadOptions,
        read: fn() -> Result<ReadOptions, String>,
        set_level: fn(Option<&str>) -> Result<(), String>,
    ) -> Self {
        Self { in_force, read, set_level }
    }

    /// What is refused changes nothing.
    pub(super) fn run_if_asked(&mut self, hangups: &Hangups, shell: &Shell, index: &SqliteIndex) {
        if !hangups.take() {
            return;
        }
        let read = (self.read)().and_then(|read| {
            if read.1 != self.in_force.1 {
                (self.set_level)(read.1.as_deref())?;
            }
            Ok(read)
        });
        match read {
            Err(why) => tracing::warn!("SIGHUP: the options are not taken, and all stays as it was: {why}"),
            Ok(read) => {
                let changed = self.apply(&read, shell, index);
                tracing::info!(kind = "reloaded", "SIGHUP: the options were read again; {changed}");
                self.in_force = (kept_till_restart(&self.in_force.0, read.0), read.1);
            }
        }
    }

    /// In words.
    fn apply(&self, (new, level): &ReadOptions, shell: &Shell, index: &SqliteIndex) -> String {
        let (old, old_level) = &self.in_force;
        let mut changed = Vec::new();
        if level != old_level {
            changed.push(match level {
                Some(level) => format!("--log-level is {}", level.escape_debug()),
                None => "--log-level is not given any more".to_owned(),
            });
        }
        if new.limit != old.limit {
            let rate = new.limit.or_else(|| limit::kept(index));
            shell.with_net(|net| net.set_limit(rate));
            changed
                .push(rate.map_or("no limit any more".to_owned(), |rate| format!("at most {} a second", bytes(rate))));
        }
        if new.peers != old.peers {
            let peers: Vec<_> = new.peers.iter().map(ToString::to_string).collect();
            changed.push(if peers.is_empty() {
                "no --peer any more".to_owned()
            } else {
                format!("--peer {}", peers.join(","))
            });
            shell.with_net(|net| net.set_peers(&peers));
        }
        let fixed = only_at_start(old, new);
        if !fixed.is_empty() {
            changed.push(format!("{} needs a restart", fixed.join(", ")));
        }
        if changed.is_empty() { "no option has changed".to_owned() } else { changed.join("; ") }
    }
}

/// Options that have changed, and hold from the next start on.
fn only_at_start(old: &Options, new: &Options) -> Vec<&'static str> {
    let differs = [
        (old.directory != new.directory, "DIRECTORY"),
        (old.broadcast_port != new.broadcast_port, "--broadcast-port"),
        (old.listen_port != new.listen_port, "--listen-port"),
        (old.state_dir != new.state_dir, "--state-dir"),
        (old.signature_dir != new.signature_dir, "--signature-dir"),
        (old.secret != new.secret, "--secret-file or --open"),
        (old.name != new.name, "--name"),
        (old.http != new.http, "--http"),
        (old.socket_group != new.socket_group, "--socket-group"),
        (old.allow_mass_delete != new.allow_mass_delete, "--allow-mass-delete"),
        (old.on_conflict != new.on_conflict, "--on-conflict"),
        (old.role != new.role, "--role"),
        (old.no_scrub != new.no_scrub, "--no-scrub"),
    ];
    differs.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}

/// The next signal says again what still waits for a restart.
fn kept_till_restart(old: &Options, new: Options) -> Options {
    Options { limit: new.limit, peers: new.peers, ..old.clone() }
}
