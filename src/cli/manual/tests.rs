//! Tests of `manual.rs`.

use super::*;
use clap::Parser;
use std::collections::BTreeSet;

/// The words of a command line, without what a shell does with its output.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').take_while(|word| !word.starts_with('>')).collect()
}

#[test]
fn each_command_has_a_page_with_every_option_and_the_sections_that_a_reader_looks_for() {
    let pages = pages();
    let names: BTreeSet<&str> = pages.iter().map(Page::name).collect();
    assert_eq!(names.len(), pages.len());
    for due in ["dirsync", "dirsyncd", "dirsync-status", "dirsync-conflicts-keep", "dirsync-identity-import"] {
        assert!(names.contains(due), "{due}: {names:?}");
    }
    let mut tool = CliArgs::command();
    tool.build();
    let mut left = vec![("dirsync".to_owned(), tool), ("dirsyncd".to_owned(), Args::command())];
    while let Some((name, command)) = left.pop() {
        let page = pages.iter().find(|page| page.name() == name).unwrap_or_else(|| panic!("{name} has no page")).text();
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"] {
            let line = if heading.contains(' ') { format!(".SH \"{heading}\"") } else { format!(".SH {heading}") };
            assert!(page.lines().any(|found| found == line), "{name}: {heading}");
        }
        let (_, options) = page.split_once(".SH OPTIONS").unwrap();
        for arg in command.get_arguments() {
            let shown = match (arg.get_long(), arg.get_short()) {
                (Some(long), _) => format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-")),
                (None, Some(short)) => format!("\\fB\\-{short}\\fR"),
                (None, None) => {
                    format!(
                        "\\fI{}\\fR",
                        arg.get_value_names().map_or(arg.get_id().as_str().into(), |n| n.join(" ")).replace('-', "\\-")
                    )
                }
            };
            assert!(options.contains(&shown), "{name} lacks {shown}: {options}");
        }
        for env in command.get_arguments().filter_map(|arg| arg.get_env()) {
            assert!(page.contains(&format!("\\fB{}\\fR", env.to_str().unwrap())), "{name} lacks {env:?}");
        }
        let subs = command.get_subcommands().filter(|sub| sub.get_name() != "help");
        left.extend(subs.map(|sub| (format!("{name}-{}", sub.get_name()), sub.clone())));
    }
}

#[test]
fn each_example_is_a_command_line_that_is_taken_and_has_a_page() {
    let pages = pages();
    let mut met = 0;
    for (name, lines) in prose::EXAMPLES {
        assert!(pages.iter().any(|page| page.name() == *name), "{name} is no page");
        for (line, _) in *lines {
            for part in line.split(" | ").map(|part| part.strip_prefix("ssh nas ").unwrap_or(part)) {
                let words = words(part);
                let refused = match words[0] {
                    "dirsyncd" => Args::try_parse_from(&words).err(),
                    _ => CliArgs::try_parse_from(&words).err(),
                };
                assert!(refused.is_none(), "{part}: {refused:?}");
                met += 1;
            }
            let is_of_it = line.replace(' ', "-").starts_with(name) || *name == "dirsync";
            assert!(is_of_it, "'{line}' is no example of {name}");
        }
    }
    assert!(met > 40, "{met}");
}

#[test]
fn a_page_is_found_by_the_words_of_its_command() {
    let found = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        find(&words).map(|page| page.file()).map_err(|why| why.to_string())
    };
    assert_eq!(found(&[]).unwrap(), "man1/dirsync.1");
    assert_eq!(found(&["dirsyncd"]).unwrap(), "man8/dirsyncd.8");
    assert_eq!(found(&["conflicts", "keep"]).unwrap(), "man1/dirsync-conflicts-keep.1");
    assert_eq!(found(&["dirsync", "status"]).unwrap(), "man1/dirsync-status.1");
    assert!(found(&["no\u{1b}ne"]).unwrap_err().contains(r"no command 'no\u{1b}ne'"));
}

/// Where `man` is; a page that groff complains of is shown wrong.
#[test]
fn the_formatter_has_nothing_to_say_against_a_page() {
    let home = tempfile::TempDir::new().unwrap();
    let files = write_all(home.path()).unwrap();
    assert!(files.len() > 30 && files.contains(&"man8/dirsyncd.8".to_owned()), "{files:?}");
    for file in files {
        let shown = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(home.path().join(&file))
            .env("MANPAGER", "cat")
            .env("MANWIDTH", "80")
            .output();
        let Ok(shown) = shown else { return };
        let complaints = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && complaints.is_empty(), "{file}: {complaints}");
        assert!(String::from_utf8_lossy(&shown.stdout).contains("SEE ALSO"), "{file}");
    }
}

#[test]
fn bash_completes_commands_and_options_of_both() {
    for (program, line, due) in [
        (Program::Dirsync, "dirsync sta", "status"),
        (Program::Dirsync, "dirsync conflicts ke", "keep"),
        (Program::Dirsync, "dirsync install --on-conflict ke", "keep-both"),
        (Program::Dirsyncd, "dirsyncd --broad", "--broadcast-port"),
    ] {
        let script = completions(CompletedShell::Bash, program);
        let words: Vec<&str> = line.split(' ').collect();
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let ask = format!(
            "{script}\nCOMP_WORDS=({line}); COMP_CWORD={}; _{} {} {last} {before}; echo \"${{COMPREPLY[*]}}\"",
            words.len() - 1,
            words[0],
            words[0]
        );
        let out = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), due, "{line}: {out:?}");
    }
}

/// Where they are; bash is everywhere.
#[test]
fn each_shell_can_read_its_script() {
    let shells = [(CompletedShell::Bash, "bash"), (CompletedShell::Zsh, "zsh"), (CompletedShell::Fish, "fish")];
    for (shell, name) in shells {
        for (program, command) in [(Program::Dirsync, "dirsync"), (Program::Dirsyncd, "dirsyncd")] {
            let script = completions(shell, program);
            assert!(script.contains(command) && script.contains("help"), "{name}: {script}");
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &script).unwrap();
            if let Ok(out) = Command::new(name).arg("-n").arg(file.path()).output() {
                assert!(out.status.success() && out.stderr.is_empty(), "{name}: {out:?}");
            }
        }
    }
}
