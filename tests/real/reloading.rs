//! SIGHUP: what it changes in a running daemon, and when it ends one.

use crate::common::machine::{find_line, wait_linked};
use crate::common::{Group, Machine, PATIENCE, eventually, write};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Command, Stdio};

fn hang_up(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).expect("a process"), Signal::HUP).expect("it runs");
}

fn wait_limit(machine: &Machine, due: Option<u64>) {
    eventually(&format!("the limit is {due:?}"), PATIENCE, || {
        let said = machine.json(&["limit"])?;
        if said["bytes_a_second"].as_u64() == due { Ok(()) } else { Err(said.to_string()) }
    });
}

#[test]
fn the_file_is_read_again_and_what_can_change_does() {
    let group = Group::new();
    let b = group.out_of_hearing().machine("b");
    b.start();
    let port = b.json(&["status"]).unwrap()["listen_port"].to_string();
    let mut a = group.machine("a");
    let file = a.home.join("a.toml");
    a.options = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
    let hang_up_with = |text: &str| {
        write(&file, text);
        hang_up(a.pid());
    };
    write(&file, "log-level = \"warn\"\n");
    a.start();
    assert!(!a.log().contains("INFO"), "{}", a.log());

    hang_up_with(&format!(
        "log-level = \"info\"\nlimit = \"5M\"\npeer = [\"127.0.0.1:{port}\"]\non-conflict = \"merge\"\n"
    ));
    let peer = format!("--peer 127.0.0.1:{port}");
    a.wait_log(&["SIGHUP", "--log-level is info; at most 5.0 MiB a second", &peer, "--on-conflict needs a restart"]);
    wait_linked(&[&a, &b]);
    wait_limit(&a, Some(5 << 20));

    // What is wrong changes nothing.
    hang_up_with("limit = \"1M\"\nlimt = \"2M\"\n");
    a.wait_log(&["all stays as it was", "line 2: there is no option 'limt'"]);
    wait_limit(&a, Some(5 << 20));

    // What was set since then stays, where the file says the same.
    hang_up_with("log-level = \"info\"\nlimit = \"5M\"\npeer = [\"x.invalid:1\"]\n");
    a.wait_log(&["SIGHUP", "again; --peer x.invalid:1"]);
    eventually("the address is tried", PATIENCE, || {
        let status = a.json(&["status"])?;
        let named = status["peers_not_reached"][0]["address"] == "x.invalid:1";
        if named { Ok(()) } else { Err(status["peers_not_reached"].to_string()) }
    });
    a.json(&["limit", "2M"]).unwrap();
    hang_up_with("log-level = \"info\"\nlimit = \"5M\"\n");
    a.wait_log(&["SIGHUP", "again; no --peer any more"]);
    wait_limit(&a, Some(2 << 20));
    assert_eq!(a.json(&["status"]).unwrap()["peers_not_reached"].as_array().map(Vec::len), Some(0));
    wait_linked(&[&a, &b]);

    hang_up_with("log-level = \"error\"\nlimit = \"6M\"\n");
    wait_limit(&a, Some(6 << 20));
    assert!(find_line(&a.log(), &["at most 6.0 MiB"]).is_none(), "{}", a.log());
    a.stop();
}

/// The daemon in a session of its own with a terminal, which goes when the returned child does.
fn on_a_terminal(machine: &Machine, before: &str) -> std::process::Child {
    let command = machine.command();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let (pid, log) = (machine.home.join("pid"), machine.log_file());
    // Whoever runs these tests may be started by `nohup`, and the daemon would inherit that.
    let run = format!("exec env --default-signal=HUP {before} {}", words.join(" "));
    let line = format!("echo $$ >{} && {run} >{} 2>&1", pid.display(), log.display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = script.spawn().expect("script is here");
    eventually("it answers", PATIENCE, || machine.json(&["status"]).map(|_| ()));
    child
}

#[test]
fn who_closes_the_terminal_ends_the_daemon_that_was_started_on_it_but_by_nohup() {
    for (before, ends) in [("", true), ("nohup", false)] {
        let machine = Group::new().machine("a");
        let mut terminal = on_a_terminal(&machine, before);
        let pid = fs::read_to_string(machine.home.join("pid")).unwrap().trim().parse().unwrap();
        hang_up(pid);
        machine.wait_log(&["SIGHUP", "no option has changed"]);
        if !ends {
            // A new start of the same process goes on as it began.
            assert!(machine.cli(&["rotate", "--yes"]).status.success());
            eventually("it has begun anew", PATIENCE, || {
                let starts = machine.log().matches(" keeps '").count();
                if starts == 2 { machine.json(&["status"]).map(drop) } else { Err(machine.log()) }
            });
        }
        terminal.kill().unwrap();
        terminal.wait().unwrap();
        if ends {
            machine.wait_log(&["stopped"]);
            continue;
        }
        eventually("the hang-up is an order like any other", PATIENCE, || {
            let times = machine.log().matches("SIGHUP").count();
            if times == 2 { Ok(()) } else { Err(machine.log()) }
        });
        machine.json(&["status"]).unwrap();
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::TERM).unwrap();
        machine.wait_log(&["stopped"]);
    }
}
