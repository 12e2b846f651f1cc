//! Which units are installed: the template, and what a folder has of its own.
//!
//! Reads and changes nothing. Deliberately not here: what is in them.

use super::name::{self, TEMPLATE};
use crate::model::text;
use std::env;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where units lie, the first taken first.
const SYSTEM: [&str; 4] =
    ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
const USER: [&str; 3] = ["etc/systemd/user", "usr/local/lib/systemd/user", "usr/lib/systemd/user"];

/// Whose service manager runs a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The machine's: from boot on, as root.
    System,
    /// The user's own: from login on.
    User,
}

impl Scope {
    /// How its manager is called.
    pub fn systemctl(self) -> &'static str {
        match self {
            Self::System => "systemctl",
            Self::User => "systemctl --user",
        }
    }

    /// As `[Install]` of the templates says.
    fn wanted_by(self) -> &'static str {
        match self {
            Self::System => "multi-user.target.wants",
            Self::User => "default.target.wants",
        }
    }
}

/// The folders that a manager reads units from.
#[derive(Debug, Clone)]
pub struct UnitDirs {
    pub scope: Scope,
    dirs: Vec<PathBuf>,
}

impl UnitDirs {
    /// The manager's own below `/`; for a user also the one in his home, if he has one.
    pub fn here(scope: Scope) -> Self {
        let config = env::var_os("XDG_CONFIG_HOME").filter(|config| !config.is_empty()).map(PathBuf::from);
        let home = || env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".config"));
        Self::below(scope, Path::new("/"), config.or_else(home).as_deref())
    }

    pub fn below(scope: Scope, root: &Path, config_home: Option<&Path>) -> Self {
        let shared: &[&str] = if scope == Scope::System { &SYSTEM } else { &USER };
        let own = config_home.filter(|_| scope == Scope::User).map(|config| config.join("systemd/user"));
        Self { scope, dirs: own.into_iter().chain(shared.iter().map(|dir| root.join(dir))).collect() }
    }

    /// Where an administrator's units go.
    pub fn own(&self) -> &Path {
        self.dirs.first().map_or(Path::new("/"), PathBuf::as_path)
    }

    /// The template that the manager takes.
    pub fn template(&self) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(TEMPLATE)).find(|file| file.is_file())
    }

    /// Whether the manager starts this unit by itself.
    pub fn is_enabled(&self, unit: &str) -> bool {
        self.dirs.iter().any(|dir| dir.join(self.scope.wanted_by()).join(unit).symlink_metadata().is_ok())
    }

    /// Where `dirsync install` writes a unit's options.
    pub fn options_file(&self, unit: &str) -> PathBuf {
        self.own().join(format!("{unit}.d")).join("options.conf")
    }

    /// Whether the template is used for anything but this unit.
    pub fn has_others(&self, unit: &str) -> bool {
        let is_other = |name: &str| name.starts_with("dirsyncd@") && ![unit, TEMPLATE].contains(&name);
        let holds = |dir: &Path, ending: &str| {
            let list = fs::read_dir(dir).into_iter().flatten().flatten().map(|child| child.file_name());
            list.into_iter().any(|name| name.to_str().and_then(|name| name.strip_suffix(ending)).is_some_and(is_other))
        };
        holds(self.own(), ".d") || holds(&self.own().join(self.scope.wanted_by()), "")
    }
}

/// How a daemon of this folder is started. `state`: the state directory that is kept of it, if one
/// is known.
pub fn start(folder: &Path, state: Option<&Path>) -> String {
    command(folder, state, &[UnitDirs::here(Scope::User), UnitDirs::here(Scope::System)])
}

fn command(folder: &Path, state: Option<&Path>, managers: &[UnitDirs]) -> String {
    let (unit, instance) = (name::unit(folder), name::instance(folder));
    // A unit that nobody enabled would begin anew beside the state of one who ran it by hand.
    let is_units = |manager: &&UnitDirs| {
        let is_of_system = state.is_some_and(|state| state.starts_with("/var/lib"));
        match state {
            _ if manager.template().is_none() => false,
            _ if manager.is_enabled(&unit) => true,
            None => true,
            Some(state) => {
                state.file_name().is_some_and(|name| name == &*instance)
                    && is_of_system == (manager.scope == Scope::System)
            }
        }
    };
    match managers.iter().find(is_units) {
        Some(manager) => format!("{} start '{}'", manager.scope.systemctl(), unit.trim_end_matches(".service")),
        None => format!("dirsyncd {}", text::shell_word(folder.as_os_str().as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Two managers below a folder, with their templates.
    fn managers(home: &TempDir, user: bool, system: bool) -> [UnitDirs; 2] {
        let here = |scope| UnitDirs::below(scope, home.path(), Some(&home.path().join("config")));
        let managers = [here(Scope::User), here(Scope::System)];
        for (manager, has) in managers.iter().zip([user, system]) {
            if has {
                fs::create_dir_all(manager.own()).unwrap();
                fs::write(manager.own().join(TEMPLATE), "").unwrap();
            }
        }
        managers
    }

    #[test]
    fn a_unit_that_is_installed_is_what_starts_a_daemon() {
        let folder = Path::new("/srv/my-files/a b");
        for (user, system, expected) in [
            (false, false, "dirsyncd '/srv/my-files/a b'"),
            (false, true, r"systemctl start 'dirsyncd@srv-my\x2dfiles-a\x20b'"),
            (true, true, r"systemctl --user start 'dirsyncd@srv-my\x2dfiles-a\x20b'"),
        ] {
            let home = TempDir::new().unwrap();
            assert_eq!(command(folder, None, &managers(&home, user, system)), expected);
        }
    }

    #[test]
    fn who_ran_it_by_hand_is_not_told_to_start_a_unit_that_knows_another_state() {
        let home = TempDir::new().unwrap();
        let managers = managers(&home, true, true);
        let start = |state: &str| command(Path::new("/srv/x"), Some(Path::new(state)), &managers);
        assert_eq!(start("/root/.local/state/dirsyncd/x-0123456789abcdef"), "dirsyncd '/srv/x'");
        assert_eq!(start("/var/lib/dirsyncd/srv-x"), "systemctl start 'dirsyncd@srv-x'");
        assert_eq!(start("/home/u/.local/state/dirsyncd/srv-x"), "systemctl --user start 'dirsyncd@srv-x'");
        let wants = managers[0].own().join("default.target.wants");
        fs::create_dir_all(&wants).unwrap();
        assert!(!managers[0].is_enabled("dirsyncd@srv-x.service") && !managers[0].has_others("dirsyncd@y.service"));
        std::os::unix::fs::symlink("nowhere", wants.join("dirsyncd@srv-x.service")).unwrap();
        assert_eq!(start("/root/.local/state/dirsyncd/x-0123456789abcdef"), "systemctl --user start 'dirsyncd@srv-x'");
        assert!(managers[0].has_others("dirsyncd@y.service") && !managers[0].has_others("dirsyncd@srv-x.service"));
        fs::create_dir_all(managers[0].options_file("dirsyncd@z.service").parent().unwrap()).unwrap();
        assert!(managers[0].has_others("dirsyncd@srv-x.service"), "options are kept of another");
    }
}
