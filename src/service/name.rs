//! The name of a folder's unit: the path as systemd writes it into the name of an instance.
//!
//! Deliberately not here: which units there are.

use crate::model::text;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The template's name.
pub const TEMPLATE: &str = "dirsyncd@.service";

/// The unit of a folder: `dirsyncd@srv-shared.service`.
pub fn unit(folder: &Path) -> String {
    format!("dirsyncd@{}.service", instance(folder))
}

/// As `systemd-escape --path` writes an absolute path without `..`; a unit reads it back as `%f`.
pub fn instance(folder: &Path) -> String {
    let named = |part| if let Component::Normal(name) = part { Some(name) } else { None };
    let parts: Vec<&OsStr> = folder.components().filter_map(named).collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let escaped = parts.iter().enumerate().map(|(n, part)| escape(part.as_bytes(), n == 0));
    escaped.collect::<Vec<_>>().join("-")
}

fn escape(part: &[u8], is_first: bool) -> String {
    part.iter().enumerate().fold(String::new(), |mut out, (n, &b)| {
        match b {
            b'.' if n == 0 && is_first => out.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.') => out.push(char::from(b)),
            b => {
                out.push_str("\\x");
                out.push_str(&text::hex(&[b]));
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::process::Command;

    #[rstest]
    #[case("/", "-")]
    #[case("/a", "a")]
    #[case("/srv/shared", "srv-shared")]
    #[case("/a/b.c", "a-b.c")]
    #[case("/.x/y.z", r"\x2ex-y.z")]
    #[case("/a/.b", "a-.b")]
    #[case("/srv/my-files/a b", r"srv-my\x2dfiles-a\x20b")]
    #[case("/\u{e4}", r"\xc3\xa4")]
    #[case(r"/a\b", r"a\x5cb")]
    #[case("/a:b_c", "a:b_c")]
    #[case("//a//b/", "a-b")]
    #[case("/a/./b", "a-b")]
    #[case("/x@y", r"x\x40y")]
    #[case("/-a", r"\x2da")]
    fn a_path_is_escaped_as_systemd_escapes_it(#[case] path: &str, #[case] due: &str) {
        assert_eq!(instance(Path::new(path)), due);
        if let Some(theirs) = systemd_escape(path) {
            assert_eq!(theirs, due);
        }
    }

    /// Where systemd is; `.ci/run` installs it.
    fn systemd_escape(path: &str) -> Option<String> {
        let out = Command::new("systemd-escape").arg("--path").arg("--").arg(path).output().ok()?;
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap().trim_end().to_owned())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_path_has_the_instance_that_systemd_gives_it(path in "(/[ -.0-~\u{e4}\u{4e2d}]{1,8}){1,4}") {
            let is_plain = !Path::new(&path).components().any(|part| part == Component::ParentDir);
            if let Some(theirs) = systemd_escape(&path).filter(|_| is_plain) {
                prop_assert_eq!(instance(Path::new(&path)), theirs);
            }
        }
    }

    #[test]
    fn a_unit_is_an_instance_of_the_template() {
        assert_eq!(unit(Path::new("/srv/my-files")), r"dirsyncd@srv-my\x2dfiles.service");
    }
}
