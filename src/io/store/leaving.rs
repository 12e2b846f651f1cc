//! Leaving a group, in the state directory: decided in one step, and then carried out.
//!
//! The decision is a file. Before it is there the machine is a member, with all that belongs to it;
//! after that every start first removes what is left of it. So no end of the process, nor of the
//! power, leaves half a member. Deliberately not here: the goodbye to the others.

use super::secret::UNFINISHED;
use super::state_folder::{JOINED_WITH, JOINING_KEY, StateDir, sync_folder};
use crate::io::fail::{self, Point};
use std::fs::{self, File};
use std::io::{self, ErrorKind};

const DECIDED: &str = "leaving";
/// For the next start, which says it.
const DONE: &str = "left";

/// What makes this machine a member, the secrets first. The device key is in the index.
const FORGOTTEN: [&str; 8] =
    ["secret", "secret.before-join", JOINED_WITH, JOINING_KEY, "index-wal", "index-shm", "index-journal", "index"];

/// From the moment this returns, this machine is no member any more.
pub fn decide(state: &StateDir) -> io::Result<()> {
    fail::at(Point::LeaveDecide)?;
    File::create(state.path().join(DECIDED))?.sync_all()?;
    sync_folder(state.path())?;
    fail::after(Point::LeaveDecided);
    Ok(())
}

/// Removes all that belongs to the group that was left, if one was. The index must not be open.
pub fn finish(state: &StateDir) -> io::Result<()> {
    let decided = state.path().join(DECIDED);
    if !decided.try_exists()? {
        return Ok(());
    }
    // A kill in the midst of storing a secret left it under a name of its own.
    for entry in fs::read_dir(state.path())? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in FORGOTTEN {
        fail::at(Point::LeaveForget)?;
        match fs::remove_file(state.path().join(name)) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
            _ => {}
        }
    }
    sync_folder(state.path())?;
    fail::after(Point::LeaveForgotten);
    fs::rename(decided, state.path().join(DONE))?;
    sync_folder(state.path())
}

/// Whether the last run left a group; said once.
pub fn take_note(state: &StateDir) -> bool {
    fs::remove_file(state.path().join(DONE)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::state_folder::tests::{names, state_dir};
    use tempfile::TempDir;

    fn member() -> (TempDir, StateDir) {
        let (home, state) = state_dir();
        for name in FORGOTTEN.iter().chain(&["port", "folder"]) {
            fs::write(state.path().join(name), name).unwrap();
        }
        (home, state)
    }

    #[test]
    fn a_machine_that_has_not_decided_to_leave_loses_nothing_at_its_start() {
        let (_home, state) = member();
        let before = names(&state);
        finish(&state).unwrap();
        assert_eq!(names(&state), before);
        assert!(!take_note(&state));
    }

    #[test]
    fn what_a_kill_left_of_a_membership_is_removed_by_the_next_start_wherever_it_came() {
        for gone in 0..=FORGOTTEN.len() {
            let (_home, state) = member();
            decide(&state).unwrap();
            fs::write(state.path().join(".secretA1b2C3"), "a secret half stored").unwrap();
            for name in &FORGOTTEN[..gone] {
                fs::remove_file(state.path().join(name)).unwrap();
            }
            finish(&state).unwrap();
            assert_eq!(names(&state), ["folder", "left", "lock", "port"]);
            assert!(take_note(&state) && !take_note(&state), "it is said once");
            fs::write(state.path().join("secret"), "of another group").unwrap();
            finish(&state).unwrap();
            assert!(names(&state).contains(&"secret".to_owned()), "a start after that forgets nothing");
        }
    }
}
