//! `dirsync status --watch`: the status once a second, until interrupted.
//!
//! May import `client` and `io::control`'s views. Deliberately not here: how a status reads
//! (`show`).

use super::{Failure, printable, put, show};
use crate::client::Client;
use crate::views::status::StatusView;
use std::io::IsTerminal;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);
/// To the corner; each line's rest and what is below the last one are cleared, so that nothing
/// flickers.
const TO_CORNER: &str = "\x1b[H";
const CLEAR_REST: &str = "\x1b[J";

pub(super) async fn watch(client: &mut Client, json: bool) -> Result<(), Failure> {
    let redraws = !json && std::io::stdout().is_terminal();
    loop {
        let status: StatusView = client.get("/v1/status", &[]).await?;
        put(json, &status, |status| frame(&show::status(status), redraws))?;
        tokio::time::sleep(EVERY).await;
    }
}

/// On a terminal one takes the place of the other; elsewhere they are parted by an empty line.
fn frame(text: &str, redraws: bool) -> String {
    let text = printable(text);
    if redraws {
        return format!("{TO_CORNER}{}{CLEAR_REST}", text.replace('\n', "\x1b[K\n"));
    }
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_terminal_a_status_takes_the_place_of_the_one_before() {
        assert_eq!(frame("a\nb\n", true), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(frame("a\n", false), "a\n\n");
        assert_eq!(frame("\u{1b}[2Ja\n", true), "\x1b[H\u{fffd}[2Ja\x1b[K\n\x1b[J", "only our own commands reach it");
    }
}
