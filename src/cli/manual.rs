//! `dirsync man` and `dirsync completions`: manual pages and completions of both programs, made
//! from the definitions of their command lines.
//!
//! May import `options`, for what `dirsyncd` takes. Deliberately not here: prose that no definition
//! has (`manual/prose.rs`), and how a page is written (`manual/page.rs`).

mod page;
mod prose;

use super::{CliArgs, Failure, say};
use crate::options::Args;
use clap::{CommandFactory, Subcommand, ValueEnum, ValueHint};
use clap_complete::aot::Shell;
use page::Page;
use serde_json::json;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Subcommand, Debug)]
pub(super) enum ManualCommand {
    /// What a shell needs to complete the commands and options of these programs
    ///
    /// Packages have it in place already. Else, for bash, write 'dirsync completions bash' into
    /// ~/.local/share/bash-completion/completions/dirsync; for fish, 'dirsync completions fish'
    /// into ~/.config/fish/completions/dirsync.fish; for zsh, 'dirsync completions zsh' into
    /// _dirsync in a folder of $fpath. The same goes for dirsyncd. Paths are completed as the shell
    /// does: what is not on this disk is not offered.
    Completions {
        shell: CompletedShell,
        /// Which of the two programs is completed
        #[arg(value_enum, default_value_t = Program::Dirsync)]
        program: Program,
    },
    /// Manual pages: of dirsync, of one of its commands, or of dirsyncd
    ///
    /// On a terminal it is shown by 'man'; elsewhere it is written as it is, for 'man -l -'.
    Man {
        /// A command, such as 'restore' or 'conflicts keep', or 'dirsyncd' [default: dirsync
        /// itself]
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
        /// Write all pages into DIR/man1 and DIR/man8, which a package has in /usr/share/man
        #[arg(long, value_name = "DIR", conflicts_with = "words")]
        dir: Option<PathBuf>,
    },
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Dirsync,
    Dirsyncd,
}

pub(super) fn run(json: bool, command: ManualCommand) -> Result<(), Failure> {
    match command {
        ManualCommand::Completions { shell, program } => {
            let script = completions(shell, program);
            say(json, &json!({ "script": script }), |_| script.clone())
        }
        ManualCommand::Man { dir: Some(dir), .. } => {
            let files = write_all(&dir)?;
            let said = format!("{} pages are in '{}'\n", files.len(), crate::client::shown(&dir));
            say(json, &json!({ "files": files }), |_| said)
        }
        ManualCommand::Man { words, dir: None } => {
            let page = find(&words)?;
            if !json && io::stdout().is_terminal() {
                return show(&page);
            }
            let text = page.text();
            say(json, &json!({ "page": text }), |_| text.clone())
        }
    }
}

fn completions(shell: CompletedShell, program: Program) -> String {
    let (mut command, name, folder) = match program {
        Program::Dirsync => (CliArgs::command(), "dirsync", "directory"),
        Program::Dirsyncd => (Args::command(), "dirsyncd", "directory"),
    };
    command = command.mut_arg(folder, |arg| arg.value_hint(ValueHint::DirPath));
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Every page: of both programs, and of each command of `dirsync`.
fn pages() -> Vec<Page> {
    let mut root = CliArgs::command().disable_help_subcommand(true);
    root.build();
    let mut found = vec![Page::of_daemon(Args::command())];
    let mut left = vec![root];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned());
        found.push(Page::of_tool(command));
    }
    found.sort_by(|a, b| a.name().cmp(b.name()));
    found
}

fn find(words: &[String]) -> Result<Page, Failure> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let name = match words[..] {
        ["dirsyncd"] => "dirsyncd".to_owned(),
        ["dirsync", ..] => words.join("-"),
        _ => [&["dirsync"][..], &words].concat().join("-"),
    };
    let page = pages().into_iter().find(|page| page.name() == name);
    let escaped = words.join(" ").escape_debug().to_string();
    page.ok_or_else(|| Failure::Usage(format!("there is no command '{escaped}'; 'dirsync help' lists them")))
}

/// The files that were written, below `dir`.
fn write_all(dir: &Path) -> Result<Vec<String>, Failure> {
    let failed = |path: &Path, why: io::Error| {
        Failure::Output(io::Error::new(why.kind(), format!("'{}': {why}", crate::client::shown(path))))
    };
    let mut written = Vec::new();
    for page in pages() {
        let file = page.file();
        let path = dir.join(&file);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(|why| failed(folder, why))?;
        fs::write(&path, page.text()).map_err(|why| failed(&path, why))?;
        written.push(file);
    }
    Ok(written)
}

fn show(page: &Page) -> Result<(), Failure> {
    let no_man = |why: io::Error| {
        let help = page.name().replace('-', " ") + " --help";
        Failure::Service(format!("the program 'man' cannot be run ({why}); '{help}' says the same in short"))
    };
    let mut man = Command::new("man").args(["-l", "-"]).stdin(Stdio::piped()).spawn().map_err(no_man)?;
    if let Some(mut input) = man.stdin.take() {
        // Who leaves the pager early has seen enough.
        let _ = input.write_all(page.text().as_bytes());
    }
    man.wait().map(drop).map_err(no_man)
}

#[cfg(test)]
mod tests;
