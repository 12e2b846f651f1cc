//! `dirsync web`: where a browser asks the daemon.
//!
//! Deliberately not here: the page, and what is answered there (`io/control/http.rs`).

use super::{Failure, say};
use crate::client::Client;
use crate::client::web::{address, open};
use crate::views::status::{HttpView, StatusView};
use serde_json::json;
use std::fmt::Write;
use std::io::{self, IsTerminal};

pub(super) async fn web(client: &mut Client, json: bool, read_only: bool) -> Result<(), Failure> {
    let status: StatusView = client.get("/v1/status", &[]).await?;
    let url = address(&status, read_only).map_err(|why| Failure::Nothing(why.to_string()))?;
    let fingerprint = status.http.and_then(|HttpView { fingerprint, .. }| fingerprint);
    let is_open = !json && io::stdout().is_terminal() && open(&url);
    let answer = json!({ "url": url, "read_only": read_only, "fingerprint": fingerprint });
    say(json, &answer, |_| text(&url, fingerprint.as_deref(), is_open))
}

fn text(url: &str, fingerprint: Option<&str>, is_open: bool) -> String {
    let mut out = format!("{url}\n");
    if let Some(print) = fingerprint {
        let pairs: Vec<_> = print.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
        let _ = writeln!(
            out,
            "The browser does not know its certificate. It is this one, by SHA-256:\n  {}",
            pairs.join(":")
        );
    }
    if is_open {
        out.push_str("opening it in your browser\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_shown_as_browsers_show_it() {
        assert_eq!(text("http://127.0.0.1:1/#token=00", None, false), "http://127.0.0.1:1/#token=00\n");
        let shown = text("https://127.0.0.1:1/#token=00", Some("0aff"), true);
        assert!(shown.contains("\n  0a:ff\n") && shown.ends_with("browser\n"), "{shown}");
    }
}
