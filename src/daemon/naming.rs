//! How this machine is called: as the options say, else as a person renamed it, else as its host.
//!
//! The name is in every presence and every greeting, so a rename ends the run, and the process
//! begins anew as the same device. Deliberately not here: which names there may be (`wire`).

use crate::engine::api::index::Index;
use crate::io::identity::META_NAME;
use crate::io::store::index::SqliteIndex;
use crate::options::Options;
use crate::wire::packet::is_clean_name;

/// The options with the name that the index keeps, if they give none.
pub(super) fn named(options: &Options, index: &SqliteIndex) -> Options {
    let kept = index.meta(META_NAME).and_then(|name| String::from_utf8(name).ok());
    let name = kept.filter(|name| !options.name_is_given && is_clean_name(name));
    Options { name: name.unwrap_or_else(|| options.name.clone()), ..options.clone() }
}

/// From the next start on.
pub(super) fn keep(index: &mut SqliteIndex, name: &str) {
    index.set_meta(META_NAME, name.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Args;
    use clap::Parser;
    use tempfile::TempDir;

    #[test]
    fn a_name_that_is_given_goes_before_one_that_is_kept_and_that_before_the_hosts() {
        let home = TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let state = home.path().join("state").to_str().unwrap().to_owned();
        let options = |more: &[&str]| {
            let folder = home.path().join("data");
            std::fs::create_dir_all(&folder).unwrap();
            let words = ["dirsyncd", "--state-dir", &state, folder.to_str().unwrap()];
            Options::new(Args::try_parse_from(words.iter().chain(more)).unwrap()).unwrap()
        };
        let host = options(&[]).name;
        assert_eq!(named(&options(&[]), &index).name, host);
        keep(&mut index, "nas");
        assert_eq!(named(&options(&[]), &index).name, "nas");
        assert_eq!(named(&options(&["--name", "box"]), &index).name, "box");
        keep(&mut index, "a\x1bb");
        assert_eq!(named(&options(&[]), &index).name, host, "nobody may be called so");
    }
}
