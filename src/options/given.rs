//! What was given, and where: on the command line, in the environment, or in a configuration file,
//! the first of which wins.
//!
//! Deliberately not here: whether it makes sense (`Options`), and showing it (`print.rs`).

use super::Args;
use super::config::{self, ConfigError, FileOption};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::PathBuf;

/// Raw arguments, and where each is from.
#[derive(Debug)]
pub struct Given {
    pub args: Args,
    pub(super) matches: ArgMatches,
    pub(super) file: Option<(PathBuf, Vec<FileOption>)>,
}

/// Why the arguments are not taken.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// Also the help and the version that were asked for.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    #[error(transparent)]
    File(#[from] ConfigError),
}

/// Where the value of an option is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    CommandLine,
    Environment,
    /// With its line.
    File(usize),
    Default,
}

impl Given {
    /// `words`: with the program's name.
    pub fn new(words: impl IntoIterator<Item = OsString>) -> Result<Self, GivenError> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        let lenient = Args::command().mut_arg("directory", |arg| arg.required(false));
        let first = lenient.try_get_matches_from(&words)?;
        let file = match first.get_one::<PathBuf>("config") {
            None => None,
            Some(path) => {
                let mut options = config::read(path)?;
                options.retain(|option| !is_given(&first, option.id.as_str()));
                Some((path.clone(), options))
            }
        };
        let of_file = file.iter().flat_map(|(_, options)| options).flat_map(|option| option.words.clone());
        let after_the_name = words.len().min(1);
        words.splice(after_the_name..after_the_name, of_file);
        let matches = Args::command().try_get_matches_from(words)?;
        Ok(Self { args: Args::from_arg_matches(&matches)?, matches, file })
    }

    pub(super) fn origin(&self, id: &str) -> Origin {
        let options = self.file.iter().flat_map(|(_, options)| options);
        if let Some(option) = options.into_iter().find(|option| option.id.as_str() == id) {
            return Origin::File(option.line);
        }
        match self.matches.value_source(id) {
            Some(ValueSource::CommandLine) => Origin::CommandLine,
            Some(ValueSource::EnvVariable) => Origin::Environment,
            _ => Origin::Default,
        }
    }
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::builder::Resettable;
    use std::fs;
    use tempfile::TempDir;

    fn given(file: &str, words: &[&str]) -> Result<Given, GivenError> {
        let home = TempDir::new().unwrap();
        let path = home.path().join("file.toml");
        fs::write(&path, file).unwrap();
        let config = ["dirsyncd", "--config", path.to_str().unwrap()];
        Given::new(config.iter().chain(words).map(OsString::from))
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = "directory = \"/a\"\nname = \"file\"\npeer = [\"a:1\", \"b:1\"]\nopen = true\nlimit = \"1M\"";
        let of_file = given(file, &[]).unwrap();
        assert_eq!(of_file.args.directory, PathBuf::from("/a"));
        assert_eq!((of_file.args.name.as_deref(), of_file.args.limit), (Some("file"), Some(1 << 20)));
        assert!(of_file.args.peers == ["a:1", "b:1"] && of_file.args.open);
        assert_eq!((of_file.origin("name"), of_file.origin("log_format")), (Origin::File(2), Origin::Default));
        let both = given(file, &["/b", "--name", "word", "--peer", "c:1"]).unwrap();
        assert_eq!((both.args.directory, both.args.name.as_deref()), (PathBuf::from("/b"), Some("word")));
        assert_eq!(both.args.peers, ["c:1"], "a list is taken from one place");
        assert_eq!(both.args.limit, Some(1 << 20));
    }

    #[test]
    fn what_contradicts_itself_across_both_is_refused() {
        let why = given("directory = \"/a\"\nstate-dir = \"/s\"", &["--moved-from", "/old"]).unwrap_err();
        assert!(matches!(&why, GivenError::Arguments(why) if why.to_string().contains("cannot be used with")), "{why}");
        assert!(matches!(given("", &[]), Err(GivenError::Arguments(_))), "no folder at all");
        assert!(matches!(given("x = 1", &["/a"]), Err(GivenError::File(_))));
    }

    /// What clap says of the command line is said without the environment of whoever tests.
    #[test]
    fn a_file_may_have_every_option_but_those_for_one_start() {
        let command = Args::command().mut_args(|arg| arg.env(Resettable::Reset));
        let all = Args::command();
        let of_files: Vec<_> = config::of_files(&all).map(|arg| arg.get_id().as_str()).collect();
        for arg in command.get_arguments().map(|arg| arg.get_id().as_str()) {
            let is_for_one_start = config::FOR_ONE_START.contains(&arg);
            assert!(of_files.contains(&arg) != is_for_one_start, "{arg}");
        }
        assert!(config::FOR_ONE_START.iter().all(|id| command.get_arguments().any(|arg| arg.get_id() == id)));
    }
}
