//! What units say: the templates, which are part of this program, and a folder's options beside
//! them.
//!
//! Deliberately not here: where they are written.

use super::installed::Scope;
use crate::model::text;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SYSTEM: &str = include_str!("../../systemd/dirsyncd@.service");
const USER: &str = include_str!("../../systemd/user/dirsyncd@.service");
/// The daemon, as the templates name it.
const BINARY: &str = "/usr/local/bin/dirsyncd";
const EXEC: &str = "ExecStart=";

/// An option of the daemon, by its name in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

/// What cannot stand in a unit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' cannot stand in a unit; {1}")]
pub struct Unwritable(String, &'static str);

impl Setting {
    pub fn new(name: &str, value: &[u8]) -> Result<Self, Unwritable> {
        Ok(Self { name: name.to_owned(), value: plain(value)?.to_owned() })
    }
}

/// systemd reads UTF-8, line by line.
fn plain(value: &[u8]) -> Result<&str, Unwritable> {
    let unwritable = || Unwritable(text::escape(value), "it must be text without control characters");
    str::from_utf8(value).ok().filter(|text| !text.chars().any(char::is_control)).ok_or_else(unwritable)
}

/// The template unit, for a daemon at this path.
pub fn template(scope: Scope, binary: &Path) -> Result<String, Unwritable> {
    let path = plain(binary.as_os_str().as_bytes())?;
    if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b)) {
        return Err(Unwritable(path.to_owned(), "put dirsyncd where the path is made of A-Z a-z 0-9 . _ + -"));
    }
    let text = if scope == Scope::System { SYSTEM } else { USER };
    Ok(text.replace(BINARY, path))
}

/// Whether a template is this version's, wherever its daemon is.
pub fn is_template(scope: Scope, text: &str) -> bool {
    let ours = if scope == Scope::System { SYSTEM } else { USER };
    let rest = |text: &str| text.lines().filter(|line| !line.starts_with(EXEC)).map(str::to_owned).collect::<Vec<_>>();
    rest(ours) == rest(text)
}

/// The daemon that a template starts.
pub fn binary(template: &str) -> Option<&Path> {
    let line = template.lines().find_map(|line| line.strip_prefix(EXEC))?;
    line.trim_start_matches(':').split(' ').next().map(Path::new)
}

/// A folder's own options, beside the template. `writable`: folders outside of it that its daemon
/// writes into. `sees_tmp`: it must see the machine's /tmp and /var/tmp. Nothing to be said:
/// `None`.
pub fn options(unit: &str, settings: &[Setting], writable: &[Setting], sees_tmp: bool) -> Option<String> {
    if settings.is_empty() && writable.is_empty() && !sees_tmp {
        return None;
    }
    let mut lines = vec![
        format!("# Options of 'dirsync install'. What is to be added goes beside it: systemctl edit '{unit}'"),
        "[Service]".to_owned(),
    ];
    let set = settings.iter().map(|Setting { name, value }| ("Environment", format!("{name}={value}")));
    let set = set.chain(writable.iter().map(|path| ("ReadWritePaths", path.value.clone())));
    lines.extend(set.map(|(key, value)| format!("{key}={}", quoted(&value))));
    // A word in quotes is no boolean.
    lines.extend(sees_tmp.then(|| "PrivateTmp=no".to_owned()));
    Some(lines.join("\n") + "\n")
}

/// As one word of a unit that means itself.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_start_the_daemon_that_is_here_with_the_path_that_the_instance_names() {
        for scope in [Scope::System, Scope::User] {
            let text = template(scope, Path::new("/opt/d-1/dirsyncd")).unwrap();
            assert!(text.contains("\nExecStart=:/opt/d-1/dirsyncd -- %f\n") && !text.contains(BINARY), "{text}");
            assert!(text.contains("\nStateDirectory=dirsyncd/%i\n"));
            assert_eq!(binary(&text), Some(Path::new("/opt/d-1/dirsyncd")));
            assert!(is_template(scope, &text) && !is_template(scope, &text.replace("2G", "4G")));
            for bad in ["/a b/dirsyncd", "/a\n/dirsyncd", "/100%/dirsyncd"] {
                assert!(template(scope, Path::new(bad)).is_err(), "{bad:?}");
            }
        }
        assert!(!is_template(Scope::User, SYSTEM));
    }

    #[test]
    fn options_are_words_that_mean_themselves() {
        let set = |name: &str, value: &str| Setting::new(name, value.as_bytes()).unwrap();
        let settings = [set("DIRSYNCD_NAME", "nas"), set("DIRSYNCD_LOG_LEVEL", r#"a "b" %h \x $c"#)];
        let text = options("dirsyncd@x", &settings, &[set("", "/var/lib/a b")], true).unwrap();
        let due = [
            "[Service]",
            r#"Environment="DIRSYNCD_NAME=nas""#,
            r#"Environment="DIRSYNCD_LOG_LEVEL=a \"b\" %%h \\x $c""#,
            r#"ReadWritePaths="/var/lib/a b""#,
            "PrivateTmp=no",
        ];
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), due);
        assert_eq!(options("dirsyncd@x", &[], &[], false), None);
        for bad in [&b"a\nExecStart=/bin/sh"[..], b"\xff", b"\x1b"] {
            let why = Setting::new("DIRSYNCD_NAME", bad).unwrap_err().to_string();
            assert!(why.contains("cannot stand in a unit") && !why.contains('\n'), "{why}");
        }
    }
}
