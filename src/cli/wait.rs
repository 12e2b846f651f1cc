//! `dirsync wait`: until this machine and its linked ones agree and rest.
//!
//! May import `client` and `io::control`'s views. Deliberately not here: what "in sync" means (the engine's affair).

use super::Failure;
use crate::client::Client;
use crate::io::control::view::StatusView;
use crate::io::words::{counted, listed};
use std::time::{Duration, Instant};

/// Between two looks: short at first, for those who wait for one file.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn wait(client: &mut Client, timeout_seconds: Option<f64>) -> Result<StatusView, Failure> {
    let timeout = timeout_seconds.map(Duration::try_from_secs_f64).transpose();
    let timeout = timeout.map_err(|_| Failure::Usage("--timeout must be a number of seconds".to_owned()))?;
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let status: StatusView = client.get("/v1/status", &[]).await?;
        let behind = behind(&status);
        if behind.is_empty() {
            return Ok(status);
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        if left == Some(Duration::ZERO) {
            let waited = timeout.unwrap_or_default().as_secs_f64();
            return Err(Failure::Behind(format!("after {waited} s: {}", behind.join("; "))));
        }
        tokio::time::sleep(left.unwrap_or(pause).min(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What is still to be waited for.
fn behind(status: &StatusView) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(why) = &status.halted {
        out.push(format!("this machine has stopped syncing: {why}"));
    } else if status.paused {
        out.push("this machine is paused (dirsync resume)".to_owned());
    } else if status.scanning {
        out.push("this machine is scanning its folder".to_owned());
    } else if !status.idle {
        out.push(format!("this machine is busy ({} to install)", counted(status.pending, "path", "paths")));
    }
    let late: Vec<_> = status.peers.iter().filter(|peer| !peer.in_sync).collect();
    if !late.is_empty() {
        let names: Vec<_> = late
            .iter()
            .map(|peer| match peer.pending {
                0 => peer.name.clone(),
                pending => format!("{} ({} to install)", peer.name, counted(pending, "path", "paths")),
            })
            .collect();
        out.push(format!("not in sync: {}", listed(&names)));
    }
    out
}
