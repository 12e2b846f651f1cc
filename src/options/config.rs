//! The configuration file: TOML, with the long options for names.
//!
//! A file becomes words of a command line, each checked as one. Deliberately not here: what wins
//! where an option is also given elsewhere (`given.rs`).

use super::{Args, shown};
use crate::model::text;
use clap::builder::Resettable;
use clap::{Arg, ArgAction, Command, CommandFactory, Id, ValueHint};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// What is for one start alone, by the names of the fields: neither files nor units have it.
pub const FOR_ONE_START: [&str; 6] = ["moved_from", "join", "preview", "json", "config", "print_config"];
/// Far above any file that a person writes.
const MOST_BYTES: u64 = 1 << 20;
/// How alike two names are, from 0 to 1, for one to be taken for the other: as clap has it.
const ALIKE: f64 = 0.7;

#[derive(clap::Args, Debug, Clone)]
pub struct ConfigArgs {
    /// Read options from this file, too: TOML, with the names of the long options, such as 'limit =
    /// "20M"'. The command line wins over the environment, and that over the file
    #[arg(long, value_name = "FILE", env = "DIRSYNCD_CONFIG")]
    pub config: Option<PathBuf>,

    /// Only print the options as they are given, and where each is from, as a file for --config
    #[arg(long, env = "DIRSYNCD_PRINT_CONFIG", value_parser = super::switch)]
    pub print_config: bool,
}

/// Why a configuration file is not taken: one line, with what to do.
#[derive(Debug, thiserror::Error)]
#[error("--config '{file}': {}{why}", line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct ConfigError {
    file: String,
    line: Option<usize>,
    why: String,
}

/// An option as a file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileOption {
    pub(super) id: Id,
    pub(super) line: usize,
    /// As they are typed behind the program's name; none of a switch that is off.
    pub(super) words: Vec<OsString>,
}

/// How an option is called in a file.
pub(super) fn name_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// The options that a file may have.
pub(super) fn of_files(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_here = |arg: &&Arg| arg.get_env().is_some() && !FOR_ONE_START.contains(&arg.get_id().as_str());
    command.get_arguments().filter(is_here)
}

pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

pub(super) fn is_path(arg: &Arg) -> bool {
    arg.get_value_hint() == ValueHint::AnyPath
}

pub(super) fn read(file: &Path) -> Result<Vec<FileOption>, ConfigError> {
    let failed = |line, why| ConfigError { file: shown(file), line, why };
    let text = contents(file).map_err(|why| failed(None, why.to_string()))?;
    let folder = std::path::absolute(file).map_err(|why| failed(None, why.to_string()))?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    options(&text, folder).map_err(|(line, why)| failed(Some(line), why))
}

fn contents(file: &Path) -> io::Result<String> {
    // A fifo would wait for whoever writes into it.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(file)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it has more than 1 MiB, which is no configuration"));
    }
    Ok(text)
}

/// `folder`: from where relative paths are meant. An error has its line.
fn options(text: &str, folder: &Path) -> Result<Vec<FileOption>, (usize, String)> {
    let line_at = |at: usize| text.as_bytes().iter().take(at).filter(|&&b| b == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|why| {
        let line = why.span().map_or(1, |span| line_at(span.start));
        (line, escape(why.message()))
    })?;
    let mut command = Args::command();
    command.build();
    let mut found = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_at(key.span().start);
        let arg = known(&command, key.get_ref()).map_err(|why| (line, why))?;
        let words = words(arg, value.get_ref(), folder).map_err(|why| (line, why))?;
        check(&words, arg).map_err(|why| (line, why))?;
        found.push(FileOption { id: arg.get_id().clone(), line, words });
    }
    // The first line that is wrong is named first; and so the tables' order does not matter.
    found.sort_by_key(|option| option.line);
    Ok(found)
}

fn known<'a>(command: &'a Command, key: &str) -> Result<&'a Arg, String> {
    if let Some(arg) = of_files(command).find(|arg| name_of(arg) == key) {
        return Ok(arg);
    }
    if command.get_arguments().any(|arg| arg.get_env().is_some() && name_of(arg) == key) {
        return Err(format!("'{key}' is for one start alone; give --{key} on the command line"));
    }
    let alike = of_files(command).map(|arg| (strsim::jaro(name_of(arg), &key.replace('_', "-")), name_of(arg)));
    let nearest = alike.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    let key = escape(key);
    Err(match nearest {
        Some((_, name)) => format!("there is no option '{key}'; '{name}' is near"),
        None => format!("there is no option '{key}'; 'dirsyncd --help' lists them"),
    })
}

fn words(arg: &Arg, value: &DeValue, folder: &Path) -> Result<Vec<OsString>, String> {
    let name = name_of(arg);
    if !arg.get_action().takes_values() {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{name}").into()]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            _ => Err(format!("'{name}' is true or false")),
        };
    }
    let single = |value: &DeValue| match value {
        DeValue::String(text) => Ok(text.as_ref().to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().replace('_', "")),
        _ if is_list(arg) => Err(format!("'{name}' is a list of texts, such as [\"nas:6000\"]")),
        _ => Err(format!("'{name}' is a text in quotes, or a number")),
    };
    let values = match value {
        DeValue::Array(values) if is_list(arg) => {
            values.iter().map(|value| single(value.get_ref())).collect::<Result<Vec<_>, _>>()?
        }
        value => vec![single(value)?],
    };
    let word = |value: String| {
        let value = if is_path(arg) { folder.join(value).into_os_string() } else { value.into() };
        let mut word = arg.get_long().map_or(OsString::new(), |long| format!("--{long}=").into());
        word.push(value);
        word
    };
    Ok(values.into_iter().map(word).collect())
}

/// As the command line would take it; the error without its frame.
fn check(words: &[OsString], arg: &Arg) -> Result<(), String> {
    let command = Args::command().mut_args(|arg| arg.env(Resettable::Reset));
    let folder = arg.get_long().map(|_| OsString::from("/"));
    let all = [OsString::from("dirsyncd")].into_iter().chain(folder).chain(words.iter().cloned());
    let Err(why) = command.try_get_matches_from(all) else { return Ok(()) };
    let why = why.to_string();
    let said: Vec<_> = why.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let said = said.join(" ");
    Err(escape(said.strip_prefix("error: ").unwrap_or(&said)))
}

fn escape(words: &str) -> String {
    text::escape(words.replace('\n', " ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn taken(text: &str) -> Vec<String> {
        let found = options(text, Path::new("/etc/d")).unwrap();
        found.into_iter().flat_map(|option| option.words).map(|word| word.into_string().unwrap()).collect()
    }

    #[rstest]
    #[case("", &[])]
    #[case("# nothing\n", &[])]
    #[case("listen-port = 6_001", &["--listen-port=6001"])]
    #[case("listen-port = \"6001\"", &["--listen-port=6001"])]
    #[case("open = true\nno-scrub = false", &["--open"])]
    #[case("peer = [\"a:1\", \"b:2\"]", &["--peer=a:1", "--peer=b:2"])]
    #[case("peer = \"a:1\"", &["--peer=a:1"])]
    #[case("limit = \"20M\"", &["--limit=20M"])]
    #[case("limit = 1000000", &["--limit=1000000"])]
    #[case("on-conflict = 'keep-both'", &["--on-conflict=keep-both"])]
    #[case("state-dir = \"s\"", &["--state-dir=/etc/d/s"])]
    #[case("state-dir = \"/s\"", &["--state-dir=/s"])]
    #[case("directory = \"../data\"", &["/etc/d/../data"])]
    #[case("name = \"-x\"", &["--name=-x"])]
    fn a_file_is_words_of_a_command_line(#[case] text: &str, #[case] due: &[&str]) {
        assert_eq!(taken(text), due);
    }

    #[rstest]
    #[case("name = \"a\"\nlimt = \"20M\"", 2, "there is no option 'limt'; 'limit' is near")]
    #[case("listen_port = 1", 1, "'listen-port' is near")]
    #[case("qqq = 1", 1, "there is no option 'qqq'; 'dirsyncd --help' lists them")]
    #[case("\"a\\u001bb\" = 1", 1, r"no option 'a\x1bb'")]
    #[case("\n\nlisten-port = 65536", 3, "invalid value '65536' for '--listen-port <PORT>'")]
    #[case("listen-port = true", 1, "is a text in quotes, or a number")]
    #[case("listen-port = 1.5", 1, "is a text in quotes, or a number")]
    #[case("listen-port = 0x10", 1, "is a text in quotes, or a number")]
    #[case("open = 1", 1, "'open' is true or false")]
    #[case("peer = [[\"a:1\"]]", 1, "'peer' is a list of texts")]
    #[case("name = [\"a\"]", 1, "is a text in quotes")]
    #[case("on-conflict = \"oldest\"", 1, "[possible values: newest, keep-both, merge]")]
    #[case("limit = \"1K\"", 1, "at least 64K")]
    #[case("join = \"0123-4567-89AB-CDEF\"", 1, "'join' is for one start alone")]
    #[case("config = \"other\"", 1, "'config' is for one start alone")]
    #[case("print-config = true", 1, "for one start alone")]
    #[case("[daemon]\nname = \"a\"", 1, "there is no option 'daemon'")]
    #[case("[peer]\n", 1, "'peer' is a list")]
    #[case("name = \"a\"\nname = \"b\"", 2, "duplicate key")]
    #[case("name = \"a\"\n\nname", 3, "")]
    #[case("name = 'a\u{1b}'", 1, "")]
    fn what_is_wrong_in_a_file_is_named_with_its_line(#[case] text: &str, #[case] line: usize, #[case] says: &str) {
        let (at, why) = options(text, Path::new("/")).unwrap_err();
        assert!(at == line && why.contains(says), "line {at}: {why}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
    }

    #[test]
    fn only_a_regular_file_of_a_reasonable_size_is_read() {
        let home = tempfile::TempDir::new().unwrap();
        let read = |path: &Path| read(path).unwrap_err().to_string();
        assert!(read(home.path()).ends_with("it is no regular file"));
        assert!(read(&home.path().join("none")).starts_with("--config '"));
        std::fs::write(home.path().join("large"), "#".repeat((1 << 20) + 1)).unwrap();
        assert!(read(&home.path().join("large")).contains("more than 1 MiB"));
        std::fs::write(home.path().join("bytes"), b"name = \"\xff\"").unwrap();
        assert!(read(&home.path().join("bytes")).contains("UTF-8"));
        std::fs::write(home.path().join("wrong"), "\nx=1").unwrap();
        assert!(read(&home.path().join("wrong")).contains("wrong': line 2: there is no option"));
    }
}
