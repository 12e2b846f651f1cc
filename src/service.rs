//! systemd units for folders: how they are named, what they say, and the steps that install one or
//! take it back.
//!
//! May import `model`, `options` and `io`. Deliberately not here: arguments and output (`cli/`),
//! and what a daemon makes of its options.

pub mod installed;
pub mod name;
pub mod plan;
pub mod steps;
pub mod text;

pub use crate::io::fs::nested::{NestedError, refuse as refuse_nested};
use installed::Scope;
use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where a user's manager listens.
fn runtime_dir() -> PathBuf {
    let named = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())))
}

/// Whether systemd runs here, and for a user a manager of his.
pub fn runs(scope: Scope) -> bool {
    match scope {
        Scope::System => Path::new("/run/systemd/system").is_dir(),
        Scope::User => runtime_dir().join("systemd/private").exists(),
    }
}

/// Whether a user's manager is there from boot on.
pub fn lingers() -> bool {
    let user = env::var_os("USER").or_else(|| env::var_os("LOGNAME"));
    user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user).exists())
}

/// Whether root alone can change what is run at this path.
pub fn is_roots_alone(program: &Path) -> bool {
    let is_closed = |path: &Path| {
        // In a sticky folder, nobody renames what is root's.
        let is_sticky = |facts: &fs::Metadata| facts.is_dir() && facts.permissions().mode() & 0o1000 != 0;
        let facts = fs::metadata(path);
        facts.is_ok_and(|facts| facts.uid() == 0 && (facts.permissions().mode() & 0o022 == 0 || is_sticky(&facts)))
    };
    program.canonicalize().is_ok_and(|real| real.ancestors().all(is_closed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn what_others_can_change_is_not_roots_alone() {
        assert!(is_roots_alone(Path::new("/bin/sh")) && !is_roots_alone(Path::new("/nowhere/sh")));
        let home = TempDir::new().unwrap();
        let program = home.path().join("dirsyncd");
        fs::write(&program, "").unwrap();
        let with_mode = |mode| {
            fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
            is_roots_alone(&program)
        };
        assert_eq!(with_mode(0o755), rustix::process::geteuid().is_root());
        assert!(!with_mode(0o777) && !with_mode(0o775));
    }
}
