//! One visit of the page: a browser, and what it shows.
//!
//! The browser is asked by WebDriver (W3C), of which this takes six commands.

use crate::common::ports::free_tcp_port;
use crate::common::{Machine, PATIENCE, eventually, skipped};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Under which the standard has the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Whether the programs are here; else the test says that it was skipped.
pub fn page_is_tried(test: &str) -> bool {
    let is_here = ["chromium", "chromedriver"].iter().all(|program| {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    });
    if !is_here {
        skipped("chromium and chromium-driver", test);
    }
    is_here
}

/// The address that `dirsync web` shows.
pub fn address(machine: &Machine) -> String {
    let said = machine.json(&["web"]).unwrap_or_else(|why| panic!("{why}"));
    said["url"].as_str().unwrap_or_else(|| panic!("no address: {said}")).to_owned()
}

pub struct Visit {
    driver: Child,
    port: u16,
    session: String,
}

impl Visit {
    pub fn of(machine: &Machine) -> Self {
        Self::at(&address(machine))
    }

    /// The page with a script that runs ahead of its own.
    pub fn with(address: &str, script: &str) -> Self {
        let visit = Self::at("about:blank");
        visit.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
        visit.command("/url", &json!({ "url": address }));
        visit
    }

    pub fn at(address: &str) -> Self {
        let port = free_tcp_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = command.spawn().expect("chromedriver");
        let mut visit = Self { driver, port, session: String::new() };
        let options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"];
        let wanted = json!({ "goog:loggingPrefs": { "browser": "ALL" }, "goog:chromeOptions": { "args": options } });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let made = eventually("a browser", PATIENCE, || visit.ask("POST", "/session", &wanted));
        made["sessionId"].as_str().expect("a session").clone_into(&mut visit.session);
        visit.command("/url", &json!({ "url": address }));
        visit
    }

    /// Waits until the element of this id is shown with these words.
    pub fn until(&self, id: &str, words: &str) {
        let script =
            format!("const one = document.getElementById('{id}'); return one?.checkVisibility() ? one.innerText : ''");
        eventually(&format!("'{words}' in #{id}"), PATIENCE, || {
            let shown = self.run(&script, &[]);
            let has_words = shown.as_str().is_some_and(|text| text.contains(words));
            has_words.then_some(()).ok_or_else(|| format!("{shown}; {:?}", self.log()))
        });
    }

    /// What is read only once someone comes by.
    pub fn look_at(&self, id: &str) {
        self.run("document.getElementById(arguments[0]).scrollIntoView({ behavior: 'instant' })", &[json!(id)]);
    }

    /// The text that a script returns.
    pub fn text_of(&self, script: &str) -> String {
        let value = self.run(script, &[]);
        value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
    }

    /// Clicks the first of these elements whose text begins with these words, once there is one
    /// that can be clicked.
    pub fn click(&self, css: &str, words: &str) {
        // Away from the header, which stays at the top.
        let script = "const found = [...document.querySelectorAll(arguments[0])].find((one) => \
                      one.innerText.trim().startsWith(arguments[1])); \
                      found?.scrollIntoView({ block: 'center', behavior: 'instant' }); return found";
        eventually(&format!("'{words}' to click at {css}"), PATIENCE, || {
            let found = self.run(script, &[json!(css), json!(words)]);
            let id = found[ELEMENT].as_str().ok_or_else(|| self.text_of("return document.body.innerText"))?;
            // One that was drawn anew since is looked for again.
            self.ask("POST", &format!("/session/{}/element/{id}/click", self.session), &json!({})).map(drop)
        });
    }

    /// What a person types, in place of what is there.
    pub fn enter(&self, id: &str, text: &str) {
        let script = "const one = document.getElementById(arguments[0]); one.value = arguments[1]; \
                      one.dispatchEvent(new InputEvent('input', { bubbles: true }))";
        self.run(script, &[json!(id), json!(text)]);
    }

    /// As a person has set their browser: `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Makes the window so large, and goes to the top of the page. How high that is.
    pub fn resize(&self, width: u32, height: u32) -> u32 {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setScrollbarsHidden", &json!({ "hidden": true }));
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let script = "document.activeElement?.blur(); window.scrollTo({ top: 0, behavior: 'instant' }); \
                      return String(document.documentElement.scrollHeight)";
        self.text_of(script).parse().expect("a number")
    }

    /// Writes a picture of what is shown.
    pub fn picture(&self, file: &Path) {
        let taken = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        let mut decoding = Command::new("base64");
        decoding.arg("-d").stdin(Stdio::piped()).stdout(File::create(file).expect("a picture"));
        let mut decoding = decoding.spawn().expect("base64");
        let picture = taken["data"].as_str().expect("a picture").as_bytes();
        decoding.stdin.take().expect("it reads").write_all(picture).expect("it reads");
        assert!(decoding.wait().expect("it ends").success());
    }

    /// What axe-core finds that keeps people out: the rule, and where.
    pub fn faults(&self, axe: &str) -> Vec<String> {
        if self.text_of("return typeof axe") == "undefined" {
            self.run(&format!("{axe}\nwindow.axe = axe"), &[]);
        }
        let script = "const done = arguments[arguments.length - 1]; \
                      axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations \
                      .filter((one) => ['serious', 'critical'].includes(one.impact)).flatMap((one) => \
                      one.nodes.map((node) => `${one.id}: ${node.html}: ${node.failureSummary}`))), (why) => done([String(why)]))";
        let found = self.command("/execute/async", &json!({ "script": script, "args": [] }));
        let found = found.as_array().unwrap_or_else(|| panic!("no list: {found}"));
        found.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Drops a file on the list of files.
    pub fn drop_file(&self, name: &str, content: &str) {
        let script = "const data = new DataTransfer(); data.items.add(new File([arguments[1]], arguments[0])); \
                      document.getElementById('files').dispatchEvent(new DragEvent('drop', \
                      { dataTransfer: data, bubbles: true, cancelable: true }))";
        self.run(script, &[json!(name), json!(content)]);
    }

    /// Ends the visit. Nothing broke the page's policy, and no script failed.
    pub fn leave(self) {
        let mut faults = self.log();
        // That a daemon is away while it starts anew, or refuses, is no fault of the page.
        faults.retain(|line| !line.contains("net::ERR_") && !line.contains("Failed to load resource"));
        assert!(faults.is_empty(), "{faults:?}");
    }

    /// What the browser's console has said since it was asked last.
    fn log(&self) -> Vec<String> {
        let lines = self.command("/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().expect("lines");
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.ask("POST", &path, body).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close");
        let head = format!("{head}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|why| why.to_string())?;
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).map_err(|why| why.to_string())?;
        let (head, said) = answer(stream).map_err(|why| why.to_string())?;
        let said: Value = serde_json::from_slice(&said).map_err(|why| why.to_string())?;
        if head.contains(" 200 ") { Ok(said["value"].clone()) } else { Err(said["value"]["message"].to_string()) }
    }
}

/// The head of an answer, and its body: the driver may leave the connection open.
fn answer(stream: TcpStream) -> io::Result<(String, Vec<u8>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while stream.read_line(&mut head)? > 2 {}
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

impl Drop for Visit {
    fn drop(&mut self) {
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
