//! `dirsync monitor`: a folder's machines, transfers and changes as they happen, on a whole
//! terminal.
//!
//! Asks the daemon once a second, as `status --watch` does. Deliberately not here: how it looks
//! (`monitor/picture.rs`).

mod picture;

use super::{Failure, place, show};
use crate::client::Client;
use crate::views::held::{HeldView, UndoView};
use crate::views::history::RestoredView;
use crate::views::status::{LogLine, LogView, StatusView};
use picture::Picture;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const EVERY: Duration = Duration::from_secs(1);
const LINES: usize = 200;
/// Of the rates (s).
const RATES_KEPT: usize = 120;

/// What waits for `y` or another key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MonitorOrder {
    Confirm,
    Undo,
    Restore(String),
}

impl MonitorOrder {
    fn question(&self) -> String {
        match self {
            Self::Confirm => "let what is held back go ahead on all machines?".to_owned(),
            Self::Undo => "take back what is held back, and what of it had gone through?".to_owned(),
            Self::Restore(path) => format!("bring back what was last replaced or deleted at '{path}'?"),
        }
    }
}

pub(super) async fn run(mut client: Client, place: &place::CliPlace) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::Usage("monitor needs a terminal; 'dirsync status --watch' needs none".to_owned()));
    }
    let mut seen = MonitorState::default();
    seen.look(&mut client).await?;
    let mut terminal = ratatui::try_init()?;
    let ended = follow(&mut terminal, client, place, seen).await;
    ratatui::restore();
    ended
}

async fn follow(
    terminal: &mut DefaultTerminal,
    mut client: Client,
    place: &place::CliPlace,
    mut seen: MonitorState,
) -> Result<(), Failure> {
    let mut keys = keys();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        terminal.draw(|frame| picture::draw(frame, &mut seen.picture))?;
        let key = tokio::select! {
            _ = ticks.tick() => None,
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => Some(key),
                Some(_) => continue,
                None => return Ok(()),
            },
        };
        let Some(key) = key else {
            if let Err(why) = seen.look(&mut client).await {
                seen.picture.trouble = Some(why.to_string());
                // It may be starting anew.
                if let Ok(again) = place.folder.connect().await {
                    client = again;
                }
            }
            continue;
        };
        match seen.pressed(key) {
            Pressed::Nothing => {}
            Pressed::End => return Ok(()),
            Pressed::Pause(paused) => {
                let done = client.post::<Value>(if paused { "/v1/pause" } else { "/v1/resume" }, &json!({})).await;
                seen.said(done.map(|_| if paused { "paused" } else { "syncing goes on" }.to_owned()));
                seen.look(&mut client).await?;
            }
            Pressed::Do(order) => {
                let done = carry_out(&mut client, order).await;
                seen.said(done);
            }
        }
    }
}

async fn carry_out(client: &mut Client, order: MonitorOrder) -> Result<String, crate::client::ClientError> {
    let text = match order {
        MonitorOrder::Confirm => {
            let held: HeldView = client.post("/v1/confirm", &json!({})).await?;
            if held.is_empty() { "nothing is held back".to_owned() } else { super::held::confirmed(&held) }
        }
        MonitorOrder::Undo => {
            let undone: UndoView = client.post("/v1/undo", &json!({ "dry_run": false })).await?;
            super::held::undone(&undone)
        }
        MonitorOrder::Restore(path) => {
            let query = json!({ "path": path, "at_ns": null, "dry_run": false });
            let restored: RestoredView = client.post("/v1/restore", &query).await?;
            show::restored(&restored)
        }
    };
    // One line is there for it.
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Keys block a thread; it ends with the process.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// What was seen so far.
#[derive(Default)]
struct MonitorState {
    picture: Picture,
    /// By machine: bytes sent and received.
    traffic: BTreeMap<String, (u64, u64)>,
    at: Option<Instant>,
    last_line: u64,
    /// Ticks of the processor by then.
    cpu: Option<(Instant, u64)>,
    asked: Option<MonitorOrder>,
}

#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Nothing,
    End,
    Pause(bool),
    Do(MonitorOrder),
}

impl MonitorState {
    async fn look(&mut self, client: &mut Client) -> Result<(), crate::client::ClientError> {
        let status: StatusView = client.get("/v1/status", &[]).await?;
        let query = [("n", LINES.to_string()), ("after", self.last_line.to_string())];
        let log: LogView = client.get("/v1/log", &query).await?;
        self.measure(&status, client.pid, Instant::now());
        self.add(log.lines);
        self.picture.trouble = None;
        self.picture.status = Some(status);
        Ok(())
    }

    fn add(&mut self, lines: Vec<LogLine>) {
        self.last_line = lines.iter().map(|line| line.id).fold(self.last_line, u64::max);
        let new = lines.len();
        self.picture.lines.splice(0..0, lines.into_iter().rev());
        self.picture.lines.truncate(LINES);
        // Who looks at an older line goes on looking at that one.
        let chosen = self.picture.chosen.selected();
        self.picture.chosen.select(chosen.map(|at| (at + new).min(self.picture.lines.len().saturating_sub(1))));
    }

    /// Rates since it was looked at last.
    fn measure(&mut self, status: &StatusView, pid: Option<i32>, now: Instant) {
        let seconds = self.at.map(|at| now.duration_since(at).as_secs_f64());
        let mut rates = BTreeMap::new();
        let (mut sent, mut received) = (0, 0);
        for peer in &status.peers {
            let total = (peer.sent_bytes, peer.received_bytes);
            let before = self.traffic.insert(peer.device.to_string(), total).unwrap_or(total);
            let a_second = |now: u64, before: u64| {
                seconds.map_or(0, |seconds| (now.saturating_sub(before) as f64 / seconds.max(0.001)) as u64)
            };
            let rate = (a_second(total.0, before.0), a_second(total.1, before.1));
            (sent, received) = (sent + rate.0, received + rate.1);
            rates.insert(peer.device.to_string(), rate);
        }
        self.picture.rates = rates;
        if seconds.is_some() {
            for (kept, rate) in [(&mut self.picture.sent, sent), (&mut self.picture.received, received)] {
                kept.push_back(rate);
                if kept.len() > RATES_KEPT {
                    kept.pop_front();
                }
            }
        }
        self.at = Some(now);
        let used = pid.and_then(process);
        self.picture.memory_bytes = used.map(|(_, bytes)| bytes);
        self.picture.cpu_percent = used.zip(self.cpu).map(|((ticks, _), (at, before))| {
            let seconds = now.duration_since(at).as_secs_f64().max(0.001);
            ticks.saturating_sub(before) as f64 / rustix::param::clock_ticks_per_second() as f64 / seconds * 100.0
        });
        self.cpu = used.map(|(ticks, _)| (now, ticks));
    }

    fn said(&mut self, done: Result<String, crate::client::ClientError>) {
        self.picture.said = Some(done.unwrap_or_else(|why| why.to_string()));
    }

    fn pressed(&mut self, key: KeyEvent) -> Pressed {
        let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if is_interrupt {
            return Pressed::End;
        }
        if let Some(order) = self.asked.take() {
            self.picture.question = None;
            return if key.code == KeyCode::Char('y') { Pressed::Do(order) } else { Pressed::Nothing };
        }
        self.picture.said = None;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::End,
            KeyCode::Char('p') => {
                return self.picture.status.as_ref().map_or(Pressed::Nothing, |status| Pressed::Pause(!status.paused));
            }
            KeyCode::Char('c') => self.ask(MonitorOrder::Confirm),
            KeyCode::Char('u') => self.ask(MonitorOrder::Undo),
            KeyCode::Char('r') => match self.picture.chosen_path() {
                Some(path) => self.ask(MonitorOrder::Restore(path)),
                None => self.picture.said = Some("choose a change of a file first, with the arrow keys".to_owned()),
            },
            KeyCode::Down | KeyCode::Char('j') => self.picture.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.picture.choose(-1),
            KeyCode::PageDown => self.picture.choose(10),
            KeyCode::PageUp => self.picture.choose(-10),
            _ => {}
        }
        Pressed::Nothing
    }

    fn ask(&mut self, order: MonitorOrder) {
        self.picture.question = Some(order.question());
        self.asked = Some(order);
    }
}

/// Ticks of the processor that a process has used, and its resident memory (bytes).
fn process(pid: i32) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Fields 14, 15 and 24 of `man 5 proc`; the third is the first here.
    Some((number(11)? + number(12)?, number(21)? * rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::tests::idle;
    use crate::model::DeviceId;

    fn press(seen: &mut MonitorState, code: KeyCode) -> Pressed {
        seen.pressed(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn line(id: u64, path: Option<&str>) -> LogLine {
        LogLine {
            id,
            time_ns: "0".to_owned(),
            kind: "received".to_owned(),
            path: path.map(ToOwned::to_owned),
            peer: None,
            size: None,
            paths: None,
            text: format!("line {id}"),
        }
    }

    #[test]
    fn what_changes_much_is_asked_before_it_is_done() {
        let mut seen = MonitorState::default();
        for (key, order) in [('c', MonitorOrder::Confirm), ('u', MonitorOrder::Undo)] {
            assert_eq!(press(&mut seen, KeyCode::Char(key)), Pressed::Nothing);
            assert!(seen.picture.question.is_some());
            assert_eq!(press(&mut seen, KeyCode::Char('n')), Pressed::Nothing);
            assert_eq!(seen.picture.question, None);
            press(&mut seen, KeyCode::Char(key));
            assert_eq!(press(&mut seen, KeyCode::Char('y')), Pressed::Do(order));
        }
        assert_eq!(press(&mut seen, KeyCode::Char('y')), Pressed::Nothing, "nothing was asked");
        assert_eq!(press(&mut seen, KeyCode::Char('q')), Pressed::End);
    }

    #[test]
    fn the_chosen_line_names_what_is_restored_and_stays_chosen_as_others_come() {
        let mut seen = MonitorState::default();
        press(&mut seen, KeyCode::Char('r'));
        assert!(seen.picture.question.is_none() && seen.picture.said.is_some());
        seen.add(vec![line(1, Some("a")), line(2, Some("b")), line(3, None)]);
        press(&mut seen, KeyCode::Down);
        press(&mut seen, KeyCode::Down);
        assert_eq!(seen.picture.chosen_path(), Some("b".to_owned()));
        seen.add(vec![line(4, Some("c"))]);
        assert_eq!((seen.picture.chosen_path(), seen.last_line), (Some("b".to_owned()), 4));
        press(&mut seen, KeyCode::Char('r'));
        assert_eq!(press(&mut seen, KeyCode::Char('y')), Pressed::Do(MonitorOrder::Restore("b".to_owned())));
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let (mut seen, mut now) = (MonitorState::default(), idle());
        now.peers[1].device = DeviceId([2; 32]);
        let began = Instant::now();
        seen.measure(&now, None, began);
        assert!(seen.picture.sent.is_empty(), "there is nothing to compare with");
        now.peers[0].sent_bytes += 3000;
        now.peers[1].received_bytes += 500;
        seen.measure(&now, None, began + Duration::from_secs(2));
        assert_eq!((seen.picture.sent.back(), seen.picture.received.back()), (Some(&1500), Some(&250)));
        assert_eq!(seen.picture.rates[&now.peers[0].device.to_string()], (1500, 0));
        // After a new start of the daemon it counts anew.
        now.peers[0].sent_bytes = 0;
        seen.measure(&now, None, began + Duration::from_secs(3));
        assert_eq!(seen.picture.sent.back(), Some(&0));
    }

    #[test]
    fn this_process_has_used_the_processor_and_memory() {
        let (_, bytes) = process(std::process::id().cast_signed()).unwrap();
        assert!(bytes > 100_000);
        assert_eq!(process(-1), None);
    }
}
