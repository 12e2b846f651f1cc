//! How a machine stands, in words: for log lines, and for what `dirsync` shows of it.
//!
//! May import `wire`. Deliberately not here: what it means for being in sync (the engine says).

use crate::humanize::{count, counted};
use crate::wire::condition::{Condition, StopCause};

/// What keeps a machine from being done, the gravest first; nothing of a machine that is done.
pub fn words(condition: &Condition) -> Vec<String> {
    let Condition {
        stopped, paused, scanning, held_deletions, held_reverts, held_unignored, problems, missing, ..
    } = *condition;
    let mut words = Vec::new();
    words.extend(stopped.map(|cause| format!("stopped, {}", why(cause))));
    words.extend(paused.then(|| "paused".to_owned()));
    let mut number = |number: u64, one: &str, many: &str, text: &dyn Fn(String) -> String| {
        if number > 0 {
            words.push(text(counted(number, one, many)));
        }
    };
    let held = |what: String| format!("holds {what}");
    number(held_deletions, "deletion", "deletions", &held);
    number(held_reverts, "return to older contents", "returns to older contents", &held);
    number(held_unignored, "path that patterns covered", "paths that patterns covered", &held);
    let has = if problems == 1 { "has a problem" } else { "have problems" };
    number(problems, "file", "files", &|files| format!("{files} {has}"));
    // Who looks at nothing knows not all of its folder: that needs no word.
    if scanning && stopped.is_none() && !paused {
        words.push("scanning".to_owned());
    }
    // What is held or has a problem is most often the same.
    if words.is_empty() && missing > 0 {
        words.push(format!("{} to come", counted(missing, "path", "paths")));
    }
    words
}

/// What a machine's role keeps apart; nothing of one that does both.
pub fn apart(condition: &Condition) -> Option<String> {
    let Condition { role, local, not_installed, .. } = *condition;
    let role = (!role.is_both()).then(|| role.word().to_owned());
    let local = (local > 0).then(|| format!("{} local", count(local)));
    let not_installed = (not_installed > 0).then(|| format!("{} not installed", count(not_installed)));
    let parts: Vec<_> = [role, local, not_installed].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn why(cause: StopCause) -> &'static str {
    match cause {
        StopCause::MarkerLost => "its folder lost its marker",
        StopCause::OtherMarker => "its folder has another marker",
        StopCause::FolderGone => "its folder is gone",
        StopCause::OtherFolder => "another folder is in the place of its own",
        StopCause::Patterns => "its .dirsyncignore cannot be read",
        StopCause::Other => "its log says why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SyncRole;

    #[test]
    fn a_role_is_named_with_what_it_keeps_apart() {
        let clear = Condition::default();
        assert_eq!(apart(&clear), None);
        let sends = Condition { role: SyncRole::SendOnly, not_installed: 1200, ..clear };
        assert_eq!(apart(&sends).as_deref(), Some("send-only, 1,200 not installed"));
        assert_eq!(apart(&Condition { local: 2, ..clear }).as_deref(), Some("2 local"));
        assert!(words(&sends).is_empty());
    }

    #[test]
    fn a_condition_names_the_gravest_first_and_paths_to_come_only_alone() {
        let clear = Condition::default();
        assert!(words(&clear).is_empty());
        let missing = Condition { missing: 3, ..clear };
        assert_eq!(words(&missing), ["3 paths to come"]);
        let all = Condition {
            stopped: Some(StopCause::MarkerLost),
            paused: true,
            scanning: true,
            held_deletions: 200,
            held_reverts: 1,
            held_unignored: 2,
            problems: 3,
            ..missing
        };
        assert_eq!(
            words(&all),
            [
                "stopped, its folder lost its marker",
                "paused",
                "holds 200 deletions",
                "holds 1 return to older contents",
                "holds 2 paths that patterns covered",
                "3 files have problems"
            ]
        );
        assert_eq!(words(&Condition { scanning: true, ..missing }), ["scanning"]);
        assert_eq!(words(&Condition { problems: 1, ..clear }), ["1 file has a problem"]);
    }
}
