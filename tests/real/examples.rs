//! The examples in docs/api.md do what the page says of them.

use crate::common::{Group, Machine};
use std::process::Command;

/// The first block of that language in the section of examples.
fn example(language: &str) -> String {
    let page = include_str!("../../docs/api.md");
    let (_, section) = page.split_once("## Examples\n").expect("the section");
    let (_, block) = section.split_once(&format!("```{language}\n")).expect("an example");
    block.split_once("```\n").expect("its end").0.to_owned()
}

fn run(machine: &Machine, program: &str, flag: &str, text: &str) -> String {
    let out = Command::new(program)
        .args([flag, text])
        .env("DIRECTORY", machine.at(""))
        .current_dir(&machine.home)
        .output()
        .unwrap_or_else(|why| panic!("{program}: {why}"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn the_shell_example_sends_a_file_twice_and_reads_both_versions() {
    let machine = Group::new().machine("a");
    machine.start();
    let out = run(&machine, "bash", "-euc", &example("sh"));
    assert!(out.ends_with("second\nfirst\n"), "{out}");
}

#[test]
fn the_python_example_follows_events_until_its_file_is_there() {
    let machine = Group::new().machine("a");
    machine.start();
    machine.wait_own_idle();
    let out = run(&machine, "python3", "-c", &example("python"));
    assert_eq!(out, "a has 0 files\ninbox/hello of 5 bytes is there\n");
}
