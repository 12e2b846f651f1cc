//! How fast the API of a real daemon answers, each figure beside what this machine can do in the
//! same run.
//!
//! `cargo bench --bench api`, or with the names of some parts behind `--`: `requests`, `folder`,
//! `contents`. `DIRSYNC_API_FILES` sets the size of the folder that is listed, `DIRSYNC_API_MIB`
//! that of the content that is sent and fetched, `DIRSYNC_API_IDLE_SECONDS` how long an idle page
//! is watched, and `TMPDIR` the disk. Deliberately not here: the first paint of the page, which a
//! browser has to show.

#[path = "../../tests/common/mod.rs"]
mod common;

mod client;
mod contents;
mod folder;
mod requests;
mod table;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs it as well, and has no use for figures.
    if !words.iter().any(|word| word == "--bench") {
        eprintln!("this measures by 'cargo bench --bench api' alone");
        return;
    }
    let parts: [(&str, fn()); 3] =
        [("requests", requests::measure), ("folder", folder::measure), ("contents", contents::measure)];
    let is_wanted = |name: &str| words.iter().any(|word| word == name);
    let is_all = !parts.iter().any(|(name, _)| is_wanted(name));
    table::begin();
    for (name, measure) in parts {
        if is_all || is_wanted(name) {
            measure();
        }
    }
}
