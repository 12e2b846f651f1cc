//! One manual page: of `dirsync`, of a command of it, or of `dirsyncd`.
//!
//! What the definitions say comes from them. Deliberately not here: what they do not say
//! (`prose.rs`).

use super::prose::{self, ProseLines};
use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Which sections beside those of its definition a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Daemon,
    Tool,
    ToolCommand,
}

#[derive(Debug)]
pub(super) struct Page {
    command: Command,
    kind: PageKind,
}

impl Page {
    pub(super) fn of_daemon(mut command: Command) -> Self {
        command.build();
        Self { command, kind: PageKind::Daemon }
    }

    /// `command`: built, so that it knows the options of what it belongs to.
    pub(super) fn of_tool(command: Command) -> Self {
        let kind = if command.get_name() == "dirsync" { PageKind::Tool } else { PageKind::ToolCommand };
        Self { command, kind }
    }

    /// `dirsync-conflicts-keep`
    pub(super) fn name(&self) -> &str {
        self.command.get_display_name().unwrap_or_else(|| self.command.get_name())
    }

    fn section(&self) -> &'static str {
        if self.kind == PageKind::Daemon { "8" } else { "1" }
    }

    /// Below a folder of manual pages.
    pub(super) fn file(&self) -> String {
        format!("man{0}/{1}.{0}", self.section(), self.name())
    }

    pub(super) fn text(&self) -> String {
        let version = format!("dirsyncd {}", env!("CARGO_PKG_VERSION"));
        let man = Man::new(self.command.clone());
        let man = man.title(self.name()).section(self.section()).source(version).manual("dirsyncd");
        let parts = [
            written(|out| man.render_title(out)),
            written(|out| man.render_name_section(out)),
            self.synopsis().render(),
            written(|out| man.render_description_section(out)),
            written(|out| man.render_options_section(out)),
            self.commands().render(),
            self.rest().render(),
        ];
        // Each part brings the lines along that define an apostrophe.
        let preamble = Roff::new().render();
        let body = parts.iter().map(|part| part.strip_prefix(&preamble).unwrap_or(part)).collect::<String>();
        preamble + &body
    }

    fn synopsis(&self) -> Roff {
        let mut roff = Roff::new();
        let mut line = vec![bold(self.command.get_bin_name().unwrap_or(self.name()))];
        let shown = || self.command.get_arguments().filter(|arg| !arg.is_hide_set());
        let is_common = |arg: &&Arg| matches!(arg.get_id().as_str(), "help" | "version");
        for arg in shown().filter(|arg| !arg.is_positional()).filter(|arg| !is_common(arg)) {
            bracketed(&mut line, arg, option(arg));
        }
        for arg in shown().filter(|arg| arg.is_positional()) {
            bracketed(&mut line, arg, vec![italic(value(arg))]);
        }
        if self.command.has_subcommands() {
            let name = self.command.get_subcommand_value_name().unwrap_or("COMMAND");
            let (before, after) = if self.command.is_subcommand_required_set() { (" ", "") } else { (" [", "]") };
            line.extend([roman(before), italic(name), roman(after)]);
        }
        roff.control("SH", ["SYNOPSIS"]).text(line);
        roff
    }

    fn commands(&self) -> Roff {
        let mut roff = Roff::new();
        let mut commands = self.command.get_subcommands().filter(|sub| !sub.is_hide_set()).peekable();
        if commands.peek().is_some() {
            roff.control("SH", ["COMMANDS"]);
        }
        for sub in commands {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let page = sub.get_display_name().unwrap_or_else(|| sub.get_name());
            roff.control("TP", []).text([bold(sub.get_name())]);
            roff.text([roman(format!("{about} (")), bold(page), roman("(1))")]);
        }
        roff
    }

    fn rest(&self) -> Roff {
        let mut roff = Roff::new();
        let (exit, environment, files) = match self.kind {
            PageKind::Daemon => (prose::DAEMON_EXIT, prose::DAEMON_ENVIRONMENT, prose::DAEMON_FILES),
            PageKind::Tool => (prose::TOOL_EXIT, prose::TOOL_ENVIRONMENT, prose::TOOL_FILES),
            PageKind::ToolCommand => (prose::TOOL_EXIT, &[][..], &[][..]),
        };
        list(&mut roff, "EXIT STATUS", exit);
        if self.kind == PageKind::Daemon {
            list(&mut roff, "SIGNALS", prose::DAEMON_SIGNALS);
        }
        if self.kind == PageKind::ToolCommand {
            roff.control("SH", ["ENVIRONMENT AND FILES"]);
            roff.text([roman("As "), bold("dirsync"), roman("(1) has them.")]);
        } else {
            list(&mut roff, "ENVIRONMENT", environment);
        }
        if self.kind == PageKind::Daemon {
            let options = self.command.get_arguments().filter_map(|arg| Some((arg.get_env()?.to_str()?, arg)));
            for (name, arg) in options {
                let stands_for = arg.get_long().map_or("DIRECTORY".to_owned(), |long| format!("--{long}"));
                roff.control("TP", []).text([bold(name)]).text([roman(format!("Stands for {stands_for}."))]);
            }
        }
        list(&mut roff, "FILES", files);
        let examples = prose::examples(self.name());
        if !examples.is_empty() {
            roff.control("SH", ["EXAMPLES"]);
        }
        for (typed, means) in examples {
            roff.control("TP", []).text([bold(*typed)]).text([roman(*means)]);
        }
        roff.control("SH", ["SEE ALSO"]).text(self.see_also());
        roff
    }

    fn see_also(&self) -> Vec<Inline> {
        let sub = self.command.get_subcommands().filter_map(Command::get_display_name).map(|name| (name, "(1)"));
        let up = self.name().rsplit_once('-').map(|(up, _)| (up, "(1)"));
        let programs = [("dirsync", "(1)"), ("dirsyncd", "(8)")];
        let mut named: Vec<_> = up.into_iter().chain(programs).filter(|(name, _)| *name != self.name()).collect();
        named.dedup();
        let last = if self.kind == PageKind::ToolCommand { Vec::new() } else { vec![("systemctl", "(1)")] };
        let all = named.into_iter().chain(sub.filter(|_| self.kind == PageKind::ToolCommand)).chain(last);
        let words = all.map(|(name, section)| vec![bold(name), roman(section)]);
        words.collect::<Vec<_>>().join(&roman(", "))
    }
}

/// Writing into memory does not fail.
fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    let done = write(&mut out);
    debug_assert!(done.is_ok());
    String::from_utf8_lossy(&out).into_owned()
}

fn bracketed(line: &mut Vec<Inline>, arg: &Arg, inside: Vec<Inline>) {
    let (before, after) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
    let is_repeated =
        matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > 1);
    line.push(roman(before));
    line.extend(inside);
    line.push(roman(if is_repeated { format!("{after}...") } else { after.to_owned() }));
}

fn option(arg: &Arg) -> Vec<Inline> {
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let mut inside = vec![bold([short, long].into_iter().flatten().collect::<Vec<_>>().join("|"))];
    if arg.get_action().takes_values() {
        inside.extend([roman(" "), italic(value(arg))]);
    }
    inside
}

fn value(arg: &Arg) -> String {
    match arg.get_value_names() {
        Some(names) => names.join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

fn list(roff: &mut Roff, heading: &str, lines: ProseLines) {
    if lines.is_empty() {
        return;
    }
    roff.control("SH", [heading]);
    for (head, text) in lines {
        roff.control("TP", []).text([bold(*head)]).text([roman(*text)]);
    }
}
