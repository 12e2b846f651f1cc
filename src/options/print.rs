//! `--print-config`: the options as they are given, and where each value is from, as a file that
//! `--config` takes.
//!
//! What nobody gave is a comment: read back, it is a default again. Deliberately not here: finding
//! out (`given.rs`).

use super::config::{is_list, is_path, name_of, of_files};
use super::given::{Given, Origin};
use super::{Args, Options, SecretSource, shown};
use clap::{Arg, CommandFactory};
use std::path::{Path, PathBuf};
use toml::Value;

/// Behind which the origins stand in one column; longer values push them out.
const COLUMN: usize = 48;

impl Given {
    /// `options`: what was made of it.
    pub fn print(&self, options: &Options) -> String {
        let mut command = Args::command();
        command.build();
        let version = env!("CARGO_PKG_VERSION");
        let head = format!(
            "# dirsyncd {version}: the options as they are given, and where each is from. A file for --config.\n"
        );
        of_files(&command).fold(head, |text, arg| text + &self.line(arg, options) + "\n")
    }

    fn line(&self, arg: &Arg, options: &Options) -> String {
        let name = name_of(arg);
        let value = self.value(arg, options);
        let origin = self.origin(arg.get_id().as_str());
        let from = match (&origin, &self.file) {
            (Origin::File(line), Some((file, _))) => format!("{}, line {line}", shown(file)),
            (Origin::CommandLine, _) => "command line".to_owned(),
            (Origin::Environment, _) => {
                arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            _ => "default".to_owned(),
        };
        let set = match (value, &origin) {
            (Ok(Some(value)), Origin::Default) => format!("# {name} = {value}"),
            (Ok(Some(value)), _) => format!("{name} = {value}"),
            (Ok(None), _) => format!("# {name} ="),
            (Err(path), _) => format!("# {name} is not UTF-8, and cannot stand here: '{path}'"),
        };
        format!("{set:COLUMN$} # {from}")
    }

    /// `None`: it has none. An error: the path that is no text.
    fn value(&self, arg: &Arg, options: &Options) -> Result<Option<Value>, String> {
        let id = arg.get_id().as_str();
        if !arg.get_action().takes_values() {
            return Ok(Some(Value::Boolean(self.matches.get_flag(id))));
        }
        if is_path(arg) {
            let path = resolved(id, options);
            let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| shown(path));
            return path.as_deref().map(text).transpose().map(|path| path.map(Value::String));
        }
        let raw = self.matches.get_raw(id).into_iter().flatten();
        let mut raw = raw.map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty());
        if is_list(arg) {
            let given: Vec<_> = raw.map(Value::String).collect();
            return Ok((!given.is_empty()).then_some(Value::Array(given)));
        }
        let by_itself = || match id {
            "name" => Some(options.name.clone()),
            "listen_port" => Some(super::DEFAULT_LISTEN_PORT.to_string()),
            _ => None,
        };
        let is_number = id.ends_with("_port");
        let number = |text: &str| text.parse().ok().filter(|_| is_number).map(Value::Integer);
        Ok(raw.next().or_else(by_itself).map(|text| number(&text).unwrap_or(Value::String(text))))
    }
}

/// Paths as they are taken, wherever they were written.
fn resolved(id: &str, options: &Options) -> Option<PathBuf> {
    match id {
        "directory" => Some(options.directory.clone()),
        "state_dir" => Some(options.state_dir.clone()),
        "signature_dir" => Some(options.signature_dir.clone()),
        "secret_file" => match &options.secret {
            SecretSource::Named(file) | SecretSource::Own(file) => Some(file.clone()),
            SecretSource::Open => None,
        },
        _ => None,
    }
}
