//! What is due by the clock, whatever happens: the marker, history, systemd's watchdog.
//!
//! Deliberately not here: the engine's own timers (`Engine::wake_at`).

use super::last_run;
use super::marker::{self, MarkerError};
use super::shell::Shell;
use crate::engine::api::index::Index;
use crate::engine::{Engine, Now, RootState, Trust};
use crate::io::fs::root::Root;
use crate::io::net::join::SAY_EVERY;
use crate::io::store::index::{IndexError, SqliteIndex};
use crate::io::store::state_folder::StateDir;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

const SIZED_EVERY_NS: u64 = 60 * 1_000_000_000;
const HOUR_NS: u64 = 3600 * 1_000_000_000;

pub(super) struct Chores {
    root: Arc<Root>,
    state: StateDir,
    shell: Arc<Shell>,
    hourly: u64,
    /// When the size of all is told to those who keep a share of it.
    sized: u64,
    /// The marker was renewed since the start.
    marked: bool,
    watchdog: Option<Watchdog>,
}

/// systemd kills us if it hears nothing for twice this long.
struct Watchdog {
    every: u64,
    next: u64,
}

impl Chores {
    /// Tells systemd that the daemon is ready. `marked`: the marker was renewed.
    pub(super) fn start(root: &Arc<Root>, state: StateDir, shell: &Arc<Shell>, marked: bool) -> Self {
        notify(NotifyState::Ready);
        let half = |limit: Duration| limit.as_nanos() as u64 / 2;
        let watchdog = sd_notify::watchdog_enabled().map(|limit| Watchdog { every: half(limit), next: 0 });
        // The first hour's pruning is done at once: the last run may have ended days ago.
        Self { root: Arc::clone(root), state, shell: Arc::clone(shell), hourly: 0, sized: 0, marked, watchdog }
    }

    pub(super) fn state(&self) -> &StateDir {
        &self.state
    }

    /// Does what is due; when the next chore is, by `Now::mono`. The marker of a folder that came
    /// back from a backup stays as it is until the folder was scanned: after a crash before that,
    /// it must not count as the index's (P8).
    pub(super) fn run(&mut self, now: Now, engine: &mut Engine<SqliteIndex>) -> Result<u64, IndexError> {
        self.shell.disk.history().set_clock(engine.steady(now));
        let (trust, has_scanned_all) = (engine.trust(), engine.has_scanned_all());
        let index = engine.index_mut();
        let is_hour = self.hourly <= now.mono;
        if trust == Trust::Known && ((is_hour && self.hourly > 0) || !self.marked) {
            self.renew_marker(index)?;
            self.marked = true;
        }
        if is_hour {
            if self.hourly > 0 && has_scanned_all {
                last_run::is_over(index);
            }
            self.prune_history(now);
            self.hourly = now.mono + HOUR_NS;
        }
        if self.sized <= now.mono {
            self.shell.disk.set_synced(index.counts().bytes);
            self.sized = now.mono + SIZED_EVERY_NS;
        }
        let mut due = self.hourly.min(self.sized);
        if let Some(watchdog) = &mut self.watchdog {
            if watchdog.next <= now.mono {
                notify(NotifyState::Watchdog);
                watchdog.next = now.mono + watchdog.every;
            }
            due = due.min(watchdog.next);
        }
        Ok(due)
    }

    /// Only into a folder that is the right one; the engine learns of a wrong one by its own
    /// checks.
    fn renew_marker(&self, index: &mut SqliteIndex) -> Result<(), IndexError> {
        if self.root.check() != RootState::Fine {
            return Ok(());
        }
        match marker::renew(&self.root, index) {
            Err(MarkerError::Index(why)) => Err(why),
            Err(why) => {
                tracing::warn!("{why}; it is tried again in an hour");
                Ok(())
            }
            Ok(()) => {
                super::remember(&self.state, &self.root, index);
                Ok(())
            }
        }
    }

    /// On a thread of its own: thousands of files may go.
    fn prune_history(&self, now: Now) {
        let history = self.shell.disk.history();
        let prune = move || match history.prune(now.wall) {
            Ok(0) => {}
            Ok(gone) => tracing::info!("history: {gone} kept files were too old or too many and are gone"),
            Err(why) => tracing::warn!("history cannot be pruned: {why}"),
        };
        if let Err(why) = std::thread::Builder::new().name("prune".to_owned()).spawn(prune) {
            tracing::warn!("history cannot be pruned: {why}");
        }
    }
}

pub(super) fn say_stopping() {
    notify(NotifyState::Stopping);
}

/// The start takes longer, since a person has to act first. systemd would end it after 90 s.
pub(super) fn extend_start() {
    notify(NotifyState::ExtendTimeoutUsec((2 * SAY_EVERY).as_micros() as u32));
}

/// Without systemd it does nothing.
fn notify(state: NotifyState) {
    if let Err(why) = sd_notify::notify(&[state]) {
        tracing::debug!("systemd was not told: {why}");
    }
}
