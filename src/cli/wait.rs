//! `dirsync wait`: until this machine and its linked ones agree and rest.
//!
//! May import `client` and `io::control`'s views. Deliberately not here: what "in sync" means (the
//! engine's affair).

use super::{Failure, show};
use crate::client::absent::{Absence, AbsenceKind};
use crate::client::{Client, ClientError, Folder};
use crate::humanize::{counted, listed};
use crate::views::condition;
use crate::views::status::StatusView;
use std::time::{Duration, Instant};

/// Between two looks: short at first, for those who wait for one file.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// `30` and `30s` are seconds, `2m` minutes, `1h` hours.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds such as 30 or 30s, or minutes such as 2m".to_owned();
    let units = [('s', 1.0), ('m', 60.0), ('h', 3600.0)];
    let unit = units.into_iter().find(|(unit, _)| text.ends_with(*unit));
    let (number, unit) = unit.map_or((text, 1.0), |(_, seconds)| (&text[..text.len() - 1], seconds));
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

/// A daemon that is starting is waited for as well.
pub(super) async fn connect(folder: &Folder, timeout: Option<Duration>) -> Result<Client, ClientError> {
    let began = Instant::now();
    loop {
        match folder.connect().await {
            Err(ClientError::NoDaemon(Absence { kind: AbsenceKind::StartsOrStops { .. }, .. }))
                if timeout.is_none_or(|timeout| began.elapsed() < timeout) =>
            {
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// `began`: when the person began to wait.
pub(super) async fn wait(
    client: &mut Client,
    began: Instant,
    timeout: Option<Duration>,
    all: bool,
) -> Result<StatusView, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let status: StatusView = client.get("/v1/status", &[]).await?;
        let behind = behind(&status, all);
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
fn behind(status: &StatusView, all: bool) -> Vec<String> {
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
    // What was said already is not said again; what is still to come is what keeps it busy.
    let said = ["stopped", "paused", "scanning"];
    let is_new = |word: &String| out.is_empty() || !said.iter().any(|said| word.starts_with(said));
    let words: Vec<_> = condition::words(&status.condition).into_iter().filter(is_new).collect();
    out.extend(words.into_iter().map(|word| format!("this machine: {word}")));
    let late: Vec<_> = status.peers.iter().filter(|peer| !peer.in_sync).collect();
    if !late.is_empty() {
        let names: Vec<_> = late.iter().map(|peer| format!("{} ({})", peer.name, peer.state)).collect();
        out.push(format!("not in sync: {}", listed(&names)));
    }
    let away = status.devices.iter().filter(|device| !device.linked);
    let away: Vec<_> = away.map(|device| format!("{} ({})", device.name, show::last_seen(device))).collect();
    if !away.is_empty() && (all || status.peers.is_empty()) {
        let none = if status.peers.is_empty() { "no machine is linked" } else { "not linked" };
        out.push(format!("{none}: {}", listed(&away)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_written() {
        for (text, seconds) in [("30", 30.0), ("30s", 30.0), ("2m", 120.0), ("0.5", 0.5), ("1.5h", 5400.0), ("0", 0.0)]
        {
            assert_eq!(span(text).map(|span| span.as_secs_f64()), Ok(seconds), "{text}");
        }
        for bad in ["", "s", "-1", "2d", "soon", "nan", "1e400", "2 m"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
