//! Tests of `cli.rs`.

use super::*;
use crate::views::status::PathNote;

#[test]
fn the_definitions_are_sound() {
    use clap::CommandFactory;
    CliArgs::command().debug_assert();
}

#[test]
fn json_and_the_folder_may_stand_before_or_after_the_command() {
    for words in [["dirsync", "-C", "/x", "--json", "status"], ["dirsync", "status", "--json", "-C", "/x"]] {
        let args = CliArgs::try_parse_from(words).unwrap();
        assert!(args.json && args.directory.is_some());
    }
}

fn of_folder(args: CliArgs) -> Command {
    let CliCommand::OfFolder(command) = args.command else { panic!("{args:?}") };
    command
}

#[test]
fn options_may_stand_before_what_is_done_about_a_conflict() {
    let parsed = |words: &str| CliArgs::try_parse_from(format!("dirsync {words}").split(' '));
    for words in [
        "conflicts --json -C /x keep f ours",
        "conflicts keep f ours --json -C /x",
        "conflicts --json keep -C /x f ours",
        "--json conflicts -C /x keep f ours",
    ] {
        let args = parsed(words).unwrap();
        assert!(args.json && args.directory == Some("/x".into()), "{words}");
        let command = of_folder(args);
        let Command::Conflicts { act: Some(Conflicts::Keep { path, choice, .. }), path: None, .. } = &command else {
            panic!("{words}: {command:?}")
        };
        assert!(path == "f" && choice.as_deref() == Some("ours") && contradiction(&command).is_ok(), "{words}");
    }
    let every = parsed("conflicts keep --all winner").unwrap();
    assert!(
        matches!(of_folder(every), Command::Conflicts { act: Some(Conflicts::Keep { path, choice: None, every: true }), .. } if path == "winner")
    );
    for words in ["conflicts keep --all f winner", "conflicts --json keep", "conflicts keep f", "conflicts -C /x diff"]
    {
        assert!(parsed(words).is_err(), "{words}");
    }
    for words in ["conflicts d keep f ours", "conflicts --all diff f"] {
        assert!(matches!(contradiction(&of_folder(parsed(words).unwrap())), Err(Failure::Usage(_))), "{words}");
    }
    let listed = parsed("conflicts --all ./keep").unwrap();
    assert!(matches!(of_folder(listed), Command::Conflicts { act: None, path: Some(_), all: true }));
}

#[test]
fn what_was_not_restored_is_no_success() {
    let note = PathNote { path: "f".into(), text: "no room".into() };
    let (restored, failed, silent) = (Vec::new(), vec![note], Vec::new());
    let view = RestoredView { restored, failed, dry_run: false, silent };
    assert_eq!(all_restored(&view).unwrap_err().to_string(), "1 of 1 path not restored");
    assert!(all_restored(&RestoredView { failed: Vec::new(), ..view }).is_ok());
}

#[test]
fn what_a_daemon_says_commands_no_terminal() {
    assert_eq!(printable("a\tb\n\u{1b}[2J\r\u{9b}c\u{7f}"), "a\tb\n\u{fffd}[2J\u{fffd}\u{fffd}c\u{fffd}");
    let why = with_hint(ClientError::Refused { code: 404, text: "nothing of that".into() }, Some("or that".into()));
    assert_eq!(why.to_string(), "nothing of that (or that)");
}
