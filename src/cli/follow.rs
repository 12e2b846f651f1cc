//! `dirsync log`: the lines that are asked for, and with `-f` those that come, until interrupted.
//!
//! May import `client` and `io::control`'s views. Deliberately not here: how a line reads (`show`).

use super::{Failure, printable, put, say, show};
use crate::client::Client;
use crate::views::status::LogView;
use std::time::Duration;

/// Between two questions for new lines.
const EVERY: Duration = Duration::from_millis(300);
/// Lines without `-n`: few for who looks, all of them for who says since when.
const LINES: usize = 50;
const ALL_LINES: usize = 10_000;

/// Which lines.
pub(super) struct LineFilter {
    pub n: Option<usize>,
    /// A file, or a folder with all that is in it.
    pub path: Option<String>,
    pub since_ns: Option<u64>,
}

impl LineFilter {
    fn query(&self, n: usize, after: Option<u64>) -> Vec<(&'static str, String)> {
        let mut query = vec![("n", n.to_string())];
        query.extend(self.path.clone().map(|path| ("path", path)));
        query.extend(self.since_ns.map(|since| ("since_ns", since.to_string())));
        query.extend(after.map(|after| ("after", after.to_string())));
        query
    }
}

pub(super) async fn log(client: &mut Client, json: bool, wanted: &LineFilter, follow: bool) -> Result<(), Failure> {
    let n = wanted.n.unwrap_or(if wanted.since_ns.is_some() { ALL_LINES } else { LINES });
    let mut view: LogView = client.get("/v1/log", &wanted.query(n, None)).await?;
    if !follow {
        return say(json, &view, show::log);
    }
    // With no line of that path yet, what comes is still later than all there is.
    let newest: LogView = client.get("/v1/log", &[("n", "1".to_owned())]).await?;
    let mut last = newest.lines.last().map_or(0, |line| line.id);
    last = view.lines.last().map_or(last, |line| line.id);
    loop {
        for line in &view.lines {
            put(json, line, |line| printable(&show::log_line(line)))?;
        }
        last = view.lines.last().map_or(last, |line| line.id.max(last));
        tokio::time::sleep(EVERY).await;
        view = client.get("/v1/log", &wanted.query(ALL_LINES, Some(last))).await?;
    }
}
