//! What needs a person, in words: what is so, and what to do.
//!
//! Deliberately not here: what counts as a problem (the engine).

use crate::engine::{Problem, RenewalCause, SuspectCause};
use crate::model::path::{IGNORE_FILE, MAX_COMPONENTS};
use crate::model::text::escape;

/// One sentence, of which the path, or the folder, is the subject; escaped.
pub fn problem_sentence(problem: &Problem) -> String {
    match problem {
        Problem::Trouble(text) => text.clone(),
        Problem::Mount => format!(
            "another file system is mounted on it, and what is in it is not synced; unmount it, or name it in \
             {IGNORE_FILE}"
        ),
        Problem::Subvolume => format!(
            "it is a Btrfs subvolume, and what is in it is not synced; move what is in it into a \
             plain folder, sync it as a folder of its own, or name it in {IGNORE_FILE}"
        ),
        Problem::TooDeep => format!(
            "it lies more than {MAX_COMPONENTS} folders deep, and neither it nor what is in it is \
             synced: move it up"
        ),
        Problem::TooLong { name } => format!(
            "'{}' in it is not synced, as its path is over 4,095 bytes long: shorten the path, or move it up",
            escape(name)
        ),
        Problem::KeptForIgnored { ignored, by } => {
            let by = by.as_ref().map(|covering| {
                format!(" with '{}' in line {}", escape(covering.pattern.trim_end().as_bytes()), covering.line)
            });
            format!(
                "it was deleted at another machine and stays here, as it holds '{ignored}', which \
                 {IGNORE_FILE} covers{}; delete that too, or move it elsewhere",
                by.unwrap_or_default()
            )
        }
        Problem::KeptForSpecial { special, what } => format!(
            "it was deleted at another machine and stays here, as it holds '{special}', a {what}, \
             which is left alone; delete that too, or move it elsewhere"
        ),
        Problem::SpecialBelow { special, what } => format!(
            "another machine has something else in place of this folder, which holds '{special}', \
             a {what}: the {what} is left alone, and theirs waits; move the {what} away"
        ),
        Problem::SpecialThere { what } => format!(
            "it is a {what} here, and another machine has something to sync there: the {what} is \
             left alone, and theirs waits; move the {what} away, or rename what is at another \
             machine"
        ),
        Problem::NameTaken { holder } => format!(
            "'{holder}' is here, and this folder's file system takes both for one name; rename \
             one of them on a machine that has both"
        ),
        Problem::NameRefused => "something is here by another spelling of its name, and this folder's file system \
                                 takes both for one; rename one of them"
            .to_owned(),
        Problem::TornNow { bytes, of, was_deleted } => {
            let then = match was_deleted {
                true => "it was deleted at another machine",
                false => "its last whole version is fetched from a machine that has it",
            };
            format!("it was being written when the power went, and holds {bytes} bytes in place of {of}; {then}")
        }
        Problem::Torn { nobody_has: true } => {
            "it was being written when the power went, and no linked machine has its last whole \
             version; write it again or delete it, or link the machine that has it"
                .to_owned()
        }
        Problem::Torn { nobody_has: false } => "it was being written when the power went, and is not whole; its last \
                                                whole version is fetched from a machine that has it"
            .to_owned(),
        Problem::Suspect(cause) => suspect_sentence(*cause).to_owned(),
        Problem::DatedAhead { by } => format!(
            "{} dates its change more than 5 years ahead; see 'dirsync held', and 'dirsync \
             confirm' if it is meant",
            escape(by.as_bytes())
        ),
        Problem::FalseHistory { by } => {
            format!("what {} sent from its history is not what it said it would be", escape(by.as_bytes()))
        }
        Problem::NoPatterns { why, nothing_known } => {
            let meanwhile = match nothing_known {
                true => "nothing in this folder is synced",
                false => "the patterns that were in force stay so",
            };
            format!("{why}; until then {meanwhile}")
        }
        Problem::BadPattern { line, why } => format!("{IGNORE_FILE}, line {line}: {}", escape(why.as_bytes())),
    }
}

/// What a suspect file waits for.
pub fn suspect_sentence(cause: SuspectCause) -> &'static str {
    match cause {
        SuspectCause::Healing => "suspect: it is fetched again from a machine that has it, once one is linked",
        SuspectCause::Keeping => "suspect: what is there now becomes a new version",
        SuspectCause::Unreadable => {
            "suspect: the disk cannot read it; look after the disk, and fetch it again with \
             'dirsync verify --heal PATH'"
        }
        SuspectCause::Changed => {
            "suspect: its bytes changed and its times did not, so it rotted, or a program wrote \
             through a mapping; it is announced to nobody until you say 'dirsync verify --heal \
             PATH' (fetch it again) or 'dirsync verify --keep PATH' (it is right as it is)"
        }
    }
}

/// Why this machine takes a new device id; escaped.
pub(super) fn renewal_sentence(why: &RenewalCause) -> String {
    match why {
        RenewalCause::SetBack { known_to } => format!(
            "{} knows changes of this machine's that it does not know itself: it was set back to \
             an older state, as from a backup or an image",
            escape(known_to.as_bytes())
        ),
        RenewalCause::CounterRaised => {
            "a peer had raised this machine's own counter beyond what others take".to_owned()
        }
        RenewalCause::Twin => {
            "another machine, started earlier, runs with a copy of this one's state directory (or the \
                               other way round)"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SyncPath;
    use rstest::rstest;

    fn path() -> SyncPath {
        SyncPath::new(b"d/a\x0ab").unwrap()
    }

    #[rstest]
    #[case::what_the_shell_said(Problem::Trouble("no".into()), "no")]
    #[case::a_name_is_escaped(Problem::TooLong { name: b"a\nb".to_vec() }, "'a\\x0ab' in it is not synced")]
    #[case::a_path_is_escaped(
        Problem::KeptForSpecial { special: path(), what: "fifo" },
        "it was deleted at another machine and stays here, as it holds 'd/a\\x0ab', a fifo"
    )]
    #[case::without_a_pattern(
        Problem::KeptForIgnored { ignored: path(), by: None },
        "it was deleted at another machine and stays here, as it holds 'd/a\\x0ab', which \
         .dirsyncignore covers; delete"
    )]
    #[case::a_machine_s_name_is_escaped(Problem::FalseHistory { by: "a\nb".into() }, "what a\\x0ab sent")]
    #[case::also_where_it_dates_ahead(Problem::DatedAhead { by: "a\nb".into() }, "a\\x0ab dates")]
    #[case::a_pattern_s_fault_is_escaped(
        Problem::BadPattern { line: 3, why: "a\nb".into() },
        ".dirsyncignore, line 3: a\\x0ab"
    )]
    fn a_sentence_names_its_subject_and_shows_no_raw_text(#[case] problem: Problem, #[case] begins: &str) {
        let sentence = problem_sentence(&problem);
        assert!(sentence.starts_with(begins), "{sentence}");
    }
}
