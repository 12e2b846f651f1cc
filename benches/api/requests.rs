//! Small answers: `healthz` and `status` by `wrk`, beside a server that knows one answer, and
//! beside Syncthing's like calls where it is installed.

use crate::client::{WebAddress, answer_of, serve_bytes};
use crate::common::disk::path_text;
use crate::common::ports::free_tcp_port;
use crate::common::{Group, PATIENCE, eventually, write};
use crate::table::{self, NO_LIMIT, mib, spread};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// As many as the folder of the row in docs/benchmarks.md.
const FILES: usize = 200;
const RUNS: usize = 3;
const KEY: &str = "0123456789abcdef";

pub fn measure() {
    if !is_installed("wrk", "-v") {
        table::note("no requests: wrk is not installed (apt-get install wrk)");
        return;
    }
    let mut machine = Group::new().machine("a");
    machine.options = vec!["--http".to_owned(), "0".to_owned()];
    fill(&machine.dir);
    machine.start();
    machine.wait_own_idle();
    let web = WebAddress::of(&machine);
    for (name, goal) in [("healthz", "26,000"), ("status", "5,000")] {
        let path = format!("/api/v1/{name}");
        let limit = serve_bytes(answer_of(&web.connect().get(&path)));
        let [mut ours, mut bare] = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            ours.push(wrk(&format!("http://{}{path}", web.address), &web.token));
            bare.push(wrk(&format!("http://{limit}/"), &web.token));
        }
        let what = format!("{name} of {FILES} files over TCP, 16 connections: a second");
        table::row(&what, &spread(&ours, 0), goal, (&spread(&bare, 0), "one fixed answer"));
    }
    table::row("its peak resident memory", &mib(machine.peak_bytes()), "-", NO_LIMIT);
    machine.stop();
    beside_syncthing();
}

fn fill(dir: &Path) {
    for n in 0..FILES {
        write(dir.join(format!("f{n}")), format!("{n}\n"));
    }
}

fn is_installed(program: &str, shows: &str) -> bool {
    Command::new(program).arg(shows).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Answers a second.
fn wrk(address: &str, token: &str) -> f64 {
    let key = format!("X-API-Key: {token}");
    let said = crate::common::disk::run("wrk", &["-t1", "-c16", "-d5", "-H", &key, address]);
    assert!(!said.contains("Non-2xx"), "{address}: {said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.unwrap_or_else(|| panic!("no rate: {said}"))
}

/// A daemon that is ended with this.
struct Syncthing(Child);

impl Drop for Syncthing {
    fn drop(&mut self) {
        // It passes this on to the process that does the work; to be killed it could not.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn beside_syncthing() {
    if !is_installed("syncthing", "--version") {
        table::note("nothing of Syncthing: it is not installed (apt-get install syncthing)");
        return;
    }
    let home = tempfile::Builder::new().prefix("dirsync-bench-").tempdir().expect("a temporary folder");
    let (config, dir, port) = (home.path().join("config"), home.path().join("data"), free_tcp_port());
    fill(&dir);
    std::fs::create_dir_all(dir.join(".stfolder")).expect("a folder below our own");
    write(config.join("config.xml"), configuration(&dir, port));
    let mut command = Command::new("syncthing");
    command.args(["serve", "--no-browser", "--no-restart", "--home", path_text(&config)]);
    command.env("STNOUPGRADE", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Syncthing(command.spawn().expect("syncthing can be started"));
    eventually("Syncthing has looked through its folder", PATIENCE, || {
        let said = ask(port, "/rest/db/status?folder=f").map_err(|why| why.to_string())?;
        let is_done = said.contains("\"state\": \"idle\"") && said.contains(&format!("\"localFiles\": {FILES}"));
        is_done.then_some(()).ok_or(said)
    });
    for path in ["/rest/system/ping", "/rest/system/status", "/rest/db/status?folder=f"] {
        let rates: Vec<_> = (0..RUNS).map(|_| wrk(&format!("http://127.0.0.1:{port}{path}"), KEY)).collect();
        table::row(&format!("Syncthing's {path}: a second"), &spread(&rates, 0), "-", NO_LIMIT);
    }
}

/// One folder, and nobody on the network.
fn configuration(dir: &Path, port: u16) -> String {
    let off = ["globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled", "natEnabled", "startBrowser"];
    let options = off.map(|name| format!("<{name}>false</{name}>")).concat();
    let listen = free_tcp_port();
    format!(
        "<configuration version=\"35\"><folder id=\"f\" label=\"f\" path=\"{}\" type=\"sendreceive\"></folder>\
         <gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:{port}</address><apikey>{KEY}</apikey></gui>\
         <options>{options}<urAccepted>-1</urAccepted><listenAddress>tcp://127.0.0.1:{listen}</listenAddress>\
         <autoUpgradeIntervalH>0</autoUpgradeIntervalH></options></configuration>",
        dir.display()
    )
}

fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let head = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nX-API-Key: {KEY}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}
