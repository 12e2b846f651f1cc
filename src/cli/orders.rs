//! `dirsync pause`, `resume`, `scan` and `limit`: plain orders.
//!
//! Deliberately not here: what follows (the engine decides).

use super::{Failure, place, say, verify};
use crate::client::Client;
use crate::humanize::bytes;
use crate::views::status::LimitView;
use clap::Subcommand;
use serde_json::{Value, json};
use std::ffi::OsString;

#[derive(Subcommand, Debug)]
pub(super) enum OrderCommand {
    /// Stop sending and receiving, until 'resume'
    Pause,
    /// Go on after 'pause'
    Resume,
    /// Look at the whole folder now, or at what is in one: for changes that the kernel did not
    /// announce
    ///
    /// The kernel announces changes to the daemon, which also looks at all of them now and then.
    /// 'dirsync wait' waits until it has.
    Scan {
        /// A folder with what is in it, or a file [default: all]
        path: Option<OsString>,
    },
    /// How much is sent a second to each machine and to all together: show it, or set it
    ///
    /// It holds until another is set, here or by --limit at a start. Small edits are counted, and
    /// do not wait.
    Limit {
        /// Bytes a second, as 20M (K, M, G: 1,024 of the one before; at least 64K), or 'off'
        /// [default: show the present one]
        #[arg(value_name = "RATE|off", value_parser = wanted)]
        rate: Option<WantedRate>,
    },
}

/// `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WantedRate(Option<u64>);

fn wanted(text: &str) -> Result<WantedRate, String> {
    if text == "off" {
        return Ok(WantedRate(None));
    }
    verify::rate(text).map(|rate| WantedRate(Some(rate))).map_err(|why| format!("{why}; or 'off' for no limit"))
}

pub(super) async fn run(
    client: &mut Client,
    place: &place::CliPlace,
    json: bool,
    command: OrderCommand,
) -> Result<(), Failure> {
    match command {
        OrderCommand::Pause => order(client, json, ("pause", json!({})), "paused; go on with 'dirsync resume'").await,
        OrderCommand::Resume => order(client, json, ("resume", json!({})), "syncing goes on").await,
        OrderCommand::Scan { path } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            let said = "scanning; 'dirsync wait' waits until it is done";
            order(client, json, ("scan", json!({ "path": path })), said).await
        }
        OrderCommand::Limit { rate } => {
            let limit: LimitView = match rate {
                None => client.get("/v1/limit", &[]).await?,
                Some(WantedRate(rate)) => client.post("/v1/limit", &json!({ "bytes_a_second": rate })).await?,
            };
            say(json, &limit, shown)
        }
    }
}

fn shown(limit: &LimitView) -> String {
    match limit.bytes_a_second {
        Some(rate) => format!("at most {} a second is sent to each machine and to all together\n", bytes(rate)),
        None => "no limit\n".to_owned(),
    }
}

async fn order(client: &mut Client, json: bool, (order, body): (&str, Value), done: &str) -> Result<(), Failure> {
    let answer: Value = client.post(&format!("/v1/{order}"), &body).await?;
    say(json, &answer, |_| format!("{done}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_rate_or_off() {
        assert_eq!(wanted("off"), Ok(WantedRate(None)));
        assert_eq!(wanted("20M"), Ok(WantedRate(Some(20 << 20))));
        assert!(wanted("1K").unwrap_err().contains("64K"));
        assert!(wanted("fast").unwrap_err().contains("off"));
        assert_eq!(shown(&LimitView { bytes_a_second: Some(20 << 20) }).lines().count(), 1);
        assert_eq!(shown(&LimitView { bytes_a_second: None }), "no limit\n");
    }
}
