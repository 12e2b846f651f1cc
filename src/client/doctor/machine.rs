//! What the machine allows the daemon: watches, descriptors, its own files, and a start at boot.

use crate::client::shown;
use crate::humanize::{count, counted};
use crate::io::fs::rlimits;
use crate::model::text::shell_word;
use crate::service::installed::{Scope, UnitDirs};
use crate::service::name;
use crate::views::doctor::FindingView;
use crate::views::status::{StatusView, WatchesView};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Of a limit, from here on it is soon reached.
const NEAR_PERCENT: u64 = 80;
/// Enough for a million folders.
const MANY_WATCHES: u64 = 1_048_576;

pub(super) fn watches(status: &StatusView) -> FindingView {
    let WatchesView { folders, most, partial } = status.watches;
    let of = most.map_or(String::new(), |most| format!(" of at most {}", count(most)));
    let text = format!("{} watched{of}", counted(folders, "folder is", "folders are"));
    let is_near = most.is_some_and(|most| folders >= most / 100 * NEAR_PERCENT);
    let remedy = || raise(most.unwrap_or_default());
    if partial {
        FindingView::fault("watches", format!("{text}; the others are walked every 60 s"), remedy())
    } else if is_near {
        FindingView::notice("watches", text, remedy())
    } else {
        FindingView::fine("watches", text)
    }
}

fn raise(most: u64) -> String {
    let wanted = MANY_WATCHES.max(most.saturating_mul(2));
    format!(
        "echo fs.inotify.max_user_watches={wanted} | sudo tee /etc/sysctl.d/90-dirsyncd.conf && sudo sysctl --system"
    )
}

/// Where no daemon says how many it uses.
pub(super) fn most_watches() -> Option<FindingView> {
    let most = rlimits::most_watches()?;
    Some(FindingView::fine("watches", format!("at most {} folders can be watched", count(most))))
}

/// Of the daemon: how many are open, and how many may be.
pub(super) fn descriptors(pid: i32) -> Option<FindingView> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let most: u64 = line.split_whitespace().next()?.parse().ok()?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let text = format!("{} of {} are open", count(open), count(most));
    Some(if open >= most / 100 * NEAR_PERCENT {
        FindingView::notice(
            "descriptors",
            text,
            "set LimitNOFILE=65536 in the unit, or 'ulimit -n 65536' before a start",
        )
    } else {
        FindingView::fine("descriptors", text)
    })
}

pub(super) fn state_folder(path: &Path) -> FindingView {
    let check = "state";
    match path.metadata() {
        Err(why) => {
            let text = format!("'{}' cannot be looked at: {why}", shown(path));
            FindingView::notice(check, text, "run this as the daemon's user, or as root")
        }
        Ok(is) if is.mode() & 0o022 != 0 => {
            let text = format!("others may write into '{}'", shown(path));
            FindingView::fault(check, text, format!("chmod 0700 {}", shell_word(path.as_os_str().as_bytes())))
        }
        Ok(_) => FindingView::fine(check, format!("'{}'", shown(path))),
    }
}

/// The one in the state directory; another one is checked by the daemon at its start.
pub(super) fn secret(state: &Path) -> FindingView {
    let (check, path) = ("secret", state.join("secret"));
    match path.symlink_metadata() {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            FindingView::fine(check, "in a file of its own (--secret-file), or none (--open)")
        }
        Err(why) => {
            let text = format!("'{}' cannot be looked at: {why}", shown(&path));
            FindingView::notice(check, text, "run this as the daemon's user, or as root")
        }
        Ok(is) if is.mode() & 0o077 != 0 => {
            let text = format!("others may read '{}' (mode {:04o})", shown(&path), is.mode() & 0o7777);
            let remedy = format!(
                "chmod 0600 {}, and 'dirsync rotate' if somebody may have read it",
                shell_word(path.as_os_str().as_bytes())
            );
            FindingView::fault(check, text, remedy)
        }
        Ok(is) => FindingView::fine(check, format!("mode {:04o}, for its owner alone", is.mode() & 0o7777)),
    }
}

/// Whether something starts it after a restart of the machine.
pub(super) fn unit(folder: &Path) -> FindingView {
    let (check, unit) = ("unit", name::unit(folder));
    let scopes = [(Scope::System, "at boot"), (Scope::User, "at login")];
    let enabled = scopes.into_iter().find(|(scope, _)| UnitDirs::here(*scope).is_enabled(&unit));
    if let Some((_, when)) = enabled {
        return FindingView::fine(check, format!("'{unit}' starts it {when}"));
    }
    let text = "no systemd unit starts the daemon of this folder after a restart of the machine";
    FindingView::notice(
        check,
        text,
        format!("sudo dirsync install {}, or with --user as yourself", shell_word(folder.as_os_str().as_bytes())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::doctor::Health;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_that_others_may_read_is_a_fault_with_the_command_that_mends_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(secret(home.path()).health, Health::Fine, "there is none");
        let path = home.path().join("secret");
        fs::write(&path, "00").unwrap();
        for (mode, health) in [(0o600, Health::Fine), (0o640, Health::Fault), (0o604, Health::Fault)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = secret(home.path());
            assert_eq!(found.health, health, "{mode:o}");
            assert_eq!(found.remedy.is_some_and(|what| what.contains("chmod 0600")), health == Health::Fault);
        }
    }

    #[test]
    fn a_state_directory_that_others_may_write_into_is_a_fault() {
        let home = tempfile::tempdir().unwrap();
        for (mode, health) in [(0o700, Health::Fine), (0o755, Health::Fine), (0o770, Health::Fault)] {
            fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(state_folder(home.path()).health, health, "{mode:o}");
        }
        assert_eq!(state_folder(&home.path().join("none")).health, Health::Notice);
    }

    #[test]
    fn this_process_has_descriptors_and_may_have_more() {
        let found = descriptors(std::process::id().cast_signed()).unwrap();
        assert!(found.text.ends_with("are open"), "{}", found.text);
        assert_eq!(descriptors(-1), None);
    }
}
