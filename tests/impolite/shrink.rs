//! A failing script made shorter, as long as it still fails: parts are left out, large ones first
//! (Zeller's delta debugging).

use crate::common::setting;
use crate::script::Script;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Prints the script that failed, as short as it could be made, and how to play it.
pub fn report(script: &Script, seed: u64) {
    let end = Instant::now() + Duration::from_secs(setting("DIRSYNC_SHRINK_SECONDS", 240));
    let file = std::env::temp_dir().join(format!("dirsync-impolite-{seed}.script"));
    let fails = |script: &Script| -> bool {
        std::fs::write(&file, script.to_string()).expect("a temporary file");
        let test = std::env::current_exe().expect("our own binary");
        let mut command = Command::new(test);
        command.args(["--exact", "nothing_that_impolite_users_wrote_is_lost"]).env("DIRSYNC_SCRIPT", &file);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| !status.success())
    };
    let short = shrink(script, end, fails);
    std::fs::write(&file, short.to_string()).expect("a temporary file");
    show(&short, script, &file);
}

fn show(short: &Script, script: &Script, file: &Path) {
    let (now, before) = (short.steps.len(), script.steps.len());
    let how = if now == before { "it may need luck to fail again" } else { "it failed again so" };
    println!("{now} of {before} steps ({how}); play them by");
    println!("DIRSYNC_SCRIPT={} cargo test --test impolite", file.display());
    println!("{short}");
}

fn shrink(script: &Script, end: Instant, fails: impl Fn(&Script) -> bool) -> Script {
    let mut short = script.clone();
    let mut part = short.steps.len() / 2;
    while part > 0 {
        let mut from = 0;
        while from < short.steps.len() {
            if Instant::now() >= end {
                return short;
            }
            let mut candidate = short.clone();
            candidate.steps.drain(from..(from + part).min(short.steps.len()));
            if fails(&candidate) {
                short = candidate;
            } else {
                from += part;
            }
        }
        part /= 2;
    }
    short
}

#[test]
fn only_the_steps_that_matter_stay() {
    let script = Script::random(7);
    let (first, second) = (script.steps[11].clone(), script.steps[200].clone());
    let fails = |script: &Script| script.steps.contains(&first) && script.steps.contains(&second);
    let short = shrink(&script, Instant::now() + Duration::from_mins(1), fails);
    assert!(fails(&short) && short.steps.len() <= 2, "{short}");
}
