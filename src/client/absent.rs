//! Why no daemon answers for a folder, and how one is started: by the unit, if one is installed.
//!
//! Deliberately not here: asking a daemon that answers.

use super::shown;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::env;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The template's name.
const UNIT: &str = "dirsyncd@.service";
const SYSTEM: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const USER: [&str; 3] = ["/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"];
/// Of the lock file (bytes).
const LOCK_BYTES: u64 = 4096;

/// A sentence for a person who asked a daemon that does not listen.
pub(super) fn explain(folder: &Path, private: Option<&OwnedFd>) -> String {
    let name = shown(folder);
    match private.and_then(held_lock) {
        Some((pid, Some(why))) => format!("the daemon of '{name}' (pid {pid}) waits and will start anew: {why}"),
        Some((pid, None)) => {
            format!(
                "the daemon of '{name}' (pid {pid}) is starting or stopping, and does not answer yet; ask again in a moment"
            )
        }
        None => format!("no daemon is running for '{name}'; start it with: {}", start(folder, &Installed::here())),
    }
}

/// The pid and the reason in the lock file, if a daemon holds it.
fn held_lock(private: impl AsFd) -> Option<(String, Option<String>)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(private, "lock", flags, Mode::empty()).ok()?);
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    (&mut file).take(LOCK_BYTES).read_to_string(&mut text).ok()?;
    let (pid, why) = text.split_once('\n').unwrap_or((&text, ""));
    let is_pid = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    let why = Some(why.trim()).filter(|why| !why.is_empty()).map(ToOwned::to_owned);
    Some((if is_pid { pid.to_owned() } else { "unknown".to_owned() }, why))
}

/// Where a unit is installed.
struct Installed {
    system: bool,
    user: bool,
}

impl Installed {
    fn here() -> Self {
        let has = |dirs: &[PathBuf]| dirs.iter().any(|dir| dir.join(UNIT).is_file());
        let system: Vec<_> = SYSTEM.iter().map(PathBuf::from).collect();
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let own = config.or_else(home).map(|config| config.join("systemd/user"));
        let user: Vec<_> = USER.iter().map(PathBuf::from).chain(own).collect();
        Self { system: has(&system), user: has(&user) }
    }
}

fn start(folder: &Path, installed: &Installed) -> String {
    let instance = systemd_escape(folder);
    match installed {
        Installed { user: true, .. } => format!("systemctl --user start 'dirsyncd@{instance}'"),
        Installed { system: true, .. } => format!("systemctl start 'dirsyncd@{instance}'"),
        _ => format!("dirsyncd '{}'", shown(folder)),
    }
}

/// As `systemd-escape --path` does.
fn systemd_escape(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let trimmed = bytes.strip_prefix(b"/").unwrap_or(bytes);
    if trimmed.is_empty() {
        return "-".to_owned();
    }
    trimmed.iter().enumerate().fold(String::new(), |mut out, (n, &b)| {
        match b {
            b'/' => out.push('-'),
            b'.' if n == 0 => out.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.') => out.push(char::from(b)),
            b => {
                out.push_str("\\x");
                out.push_str(&crate::model::text::hex(&[b]));
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use tempfile::TempDir;

    #[test]
    fn a_unit_that_is_installed_is_what_starts_a_daemon() {
        let folder = Path::new("/srv/my-files/a b");
        for (user, system, expected) in [
            (false, false, "dirsyncd '/srv/my-files/a b'"),
            (false, true, r"systemctl start 'dirsyncd@srv-my\x2dfiles-a\x20b'"),
            (true, true, r"systemctl --user start 'dirsyncd@srv-my\x2dfiles-a\x20b'"),
        ] {
            assert_eq!(start(folder, &Installed { system, user }), expected);
        }
        assert_eq!(systemd_escape(Path::new("/")), "-");
        assert_eq!(systemd_escape(Path::new("/.x/y.z")), r"\x2ex-y.z");
    }

    #[test]
    fn a_daemon_that_holds_the_lock_is_starting_or_waits_for_what_it_says() {
        let home = TempDir::new().unwrap();
        let private = rustix::fs::openat(CWD, home.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(explain(home.path(), Some(&private)).contains("no daemon is running"));
        std::fs::write(home.path().join("lock"), "12\n").unwrap();
        assert!(explain(home.path(), Some(&private)).contains("no daemon is running"), "nobody holds it");
        let lock = File::open(home.path().join("lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(explain(home.path(), Some(&private)).contains("(pid 12) is starting or stopping"));
        std::fs::write(home.path().join("lock"), "12\nthe disk is full\n").unwrap();
        assert!(explain(home.path(), Some(&private)).contains("(pid 12) waits and will start anew: the disk is full"));
    }
}
