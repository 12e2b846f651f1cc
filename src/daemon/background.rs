//! Threads beside the loop, for what waits: the control socket and the signals.
//!
//! Deliberately not here: what a request or a signal leads to; both only nudge the loop.

use super::hangup::{Hangup, Hangups};
use crate::engine::Event;
use crate::io::Events;
use crate::io::control::{Api, Control};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether somebody asked the daemon to stop.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts the thread; it ends with the process. Signals are caught from the moment this returns.
pub(super) fn start(control: Control, api: Api, events: Events, (stop, hangups): (&Stop, &Hangups)) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    drop(inside);
    let asked = (stop.clone(), hangups.clone());
    let work = move || {
        runtime.block_on(async move {
            tokio::spawn(signals.run(asked, events));
            if let Err(why) = control.serve(api).await {
                tracing::error!(
                    "the control socket has failed: {why}; dirsync cannot ask until the daemon is restarted"
                );
            }
            std::future::pending::<()>().await;
        });
    };
    std::thread::Builder::new().name("control".to_owned()).spawn(work)?;
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Ends with the signal that stops the daemon.
    async fn run(mut self, (stop, hangups): (Stop, Hangups), events: Events) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => match hangups.understand().await {
                    Hangup::TerminalGone => break,
                    Hangup::ReadAgain => events.send(Event::Tick),
                },
            };
        }
        stop.0.store(true, Ordering::Relaxed);
        events.send(Event::Tick);
    }
}
