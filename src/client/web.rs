//! The address of a daemon for a browser, and how a browser is led there.
//!
//! The token is read where the daemon keeps it, so that no request answers it. May import `io` and
//! `views`. Deliberately not here: what is printed (`cli/web.rs`).

use crate::io::store::api_tokens::ApiToken;
use crate::model::text;
use crate::views::status::StatusView;
use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const OPENER: &str = "xdg-open";
const DETOUR: &str = "dirsync-web.html";

/// Why there is no address. One sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoAddress {
    #[error(
        "the daemon of '{0}' was started without --http, and no browser can ask it; start it with '--http 8080' \
         (its unit with: dirsync install --force --http 8080)"
    )]
    NotOverTcp(String),
    #[error("the daemon of '{0}' does not answer over TCP: {1}")]
    Failing(String, String),
    #[error("{0}")]
    NoToken(String),
}

/// The address with the token in its fragment, which no browser sends.
pub fn address(status: &StatusView, read_only: bool) -> Result<String, NoAddress> {
    let Some(http) = &status.http else {
        let directory = status.directory.clone();
        // Who holds the port in its place must not be shown the token.
        return Err(match &status.http_trouble {
            Some(why) => NoAddress::Failing(directory, why.clone()),
            None => NoAddress::NotOverTcp(directory),
        });
    };
    let state_dir = text::unescape(&status.state_dir).map(|path| PathBuf::from(OsString::from_vec(path)));
    let token = ApiToken::read(&state_dir.unwrap_or_default(), read_only);
    let token = token.map_err(|why| NoAddress::NoToken(why.to_string()))?;
    Ok(format!("{}#token={}", http.url, token.digits()))
}

/// Leads the browser of this desktop there, if there is one. Anyone on this machine can see with
/// which words a program was started: so it is given a file of ours that leads on, and not the
/// token.
pub fn open(address: &str) -> bool {
    let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
    let Some(home) = env::var_os("XDG_RUNTIME_DIR").filter(|home| has_desktop && !home.is_empty()) else {
        return false;
    };
    let file = Path::new(&home).join(DETOUR);
    if rustix::process::geteuid().is_root() || write_detour(&file, address).is_err() {
        return false;
    }
    let opener =
        Command::new(OPENER).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    opener.is_ok()
}

/// Nobody else may read it; it is replaced by the next one, and gone with the session.
fn write_detour(file: &Path, address: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let quoted = address.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    write!(opened, "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0; url={quoted}\">")?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    #[test]
    fn the_file_that_leads_on_is_ours_alone_and_breaks_out_of_nothing() {
        let home = TempDir::new().unwrap();
        let file = home.path().join(DETOUR);
        for address in ["http://127.0.0.1:1/#token=00", "\"><b>"] {
            write_detour(&file, address).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.ends_with("url=&quot;>&lt;b>\">"), "{text}");
    }
}
