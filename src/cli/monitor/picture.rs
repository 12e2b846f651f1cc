//! How the monitor looks: what was seen, on a terminal of any size.
//!
//! Deliberately not here: how it is found out (`monitor.rs`).

use crate::cli::printable;
use crate::cli::show::{self, attention};
use crate::humanize::bytes;
use crate::views::status::{LogLine, PeerView, StatusView};
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, List, ListItem, ListState, Paragraph, RenderDirection, Row, Sparkline, Table};
use std::collections::{BTreeMap, VecDeque};

const KEYS: &str = "q end  p pause  c confirm  u undo  ↑↓ choose  r restore it";
/// Below this height, what is least needed is left out.
const SMALL: u16 = 20;
/// Addresses are shown from this width on.
const WIDE: u16 = 100;
const MOST_MACHINES: u16 = 8;
const MOST_TRANSFERS: u16 = 5;
const MOST_REASONS: u16 = 4;

#[derive(Default)]
pub(super) struct Picture {
    pub status: Option<StatusView>,
    /// The latest first.
    pub lines: Vec<LogLine>,
    pub chosen: ListState,
    /// By device: sent and received, bytes a second.
    pub rates: BTreeMap<String, (u64, u64)>,
    /// In each second, the latest last.
    pub sent: VecDeque<u64>,
    pub received: VecDeque<u64>,
    /// Of the daemon on this machine.
    pub cpu_percent: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub question: Option<String>,
    /// What the last order did.
    pub said: Option<String>,
    /// Why the daemon did not answer.
    pub trouble: Option<String>,
    /// How times are shown; `None`: as this machine has them.
    pub zone: Option<TimeZone>,
}

impl Picture {
    pub(super) fn chosen_path(&self) -> Option<String> {
        self.lines.get(self.chosen.selected()?)?.path.clone()
    }

    pub(super) fn choose(&mut self, by: isize) {
        let last = self.lines.len().saturating_sub(1);
        let next = match self.chosen.selected() {
            None => 0,
            Some(at) => at.saturating_add_signed(by).min(last),
        };
        self.chosen.select((!self.lines.is_empty()).then_some(next));
    }
}

pub(super) fn draw(frame: &mut Frame, picture: &mut Picture) {
    let area = frame.area();
    let Some(status) = picture.status.take() else { return };
    let reasons = reasons(&status, picture.trouble.as_deref());
    let is_small = area.height < SMALL;
    let rows = |count: usize, most: u16| if count == 0 { 0 } else { (count as u16).min(most) + 2 };
    let heights = [
        1,
        rows(reasons.len(), MOST_REASONS),
        rows(status.peers.len().max(1), MOST_MACHINES),
        if is_small { 0 } else { 4 },
        rows(status.transfers.len() + status.uploads.len(), MOST_TRANSFERS),
    ];
    let constraints = heights.map(Constraint::Length).into_iter().chain([Constraint::Min(3), Constraint::Length(1)]);
    let [head, attention, machines, rates, transfers, changes, foot] =
        <[Rect; 7]>::try_from(Layout::vertical(constraints).split(area).to_vec()).expect("seven were asked for");
    frame.render_widget(heading(&status), head);
    if heights[1] > 0 {
        let items = reasons.into_iter().map(ListItem::new);
        frame.render_widget(List::new(items).block(titled("Needs attention")), attention);
    }
    draw_machines(frame, machines, &status, picture);
    if heights[3] > 0 {
        draw_rates(frame, rates, picture);
    }
    if heights[4] > 0 {
        draw_transfers(frame, transfers, &status);
    }
    draw_changes(frame, changes, picture);
    frame.render_widget(footer(picture), foot);
    picture.status = Some(status);
}

fn titled(title: &str) -> Block<'_> {
    Block::bordered().title(title).border_style(Style::new().add_modifier(Modifier::DIM))
}

fn bold(text: String) -> Span<'static> {
    Span::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn heading(status: &StatusView) -> Line<'static> {
    let name = clean(&status.name);
    Line::from(vec![bold(name), Span::raw(format!(": {}  {}", clean(&show::state(status)), clean(&status.directory)))])
}

fn reasons(status: &StatusView, trouble: Option<&str>) -> Vec<String> {
    let away = trouble.map(|why| format!("the daemon does not answer: {why}"));
    away.into_iter().chain(attention(status)).map(|text| clean(&text)).collect()
}

fn draw_machines(frame: &mut Frame, area: Rect, status: &StatusView, picture: &Picture) {
    let row = |peer: &PeerView| {
        let (sent, received) = picture.rates.get(&peer.device.to_string()).copied().unwrap_or_default();
        let trip = peer.round_trip_ms.map_or(String::new(), |ms| format!("{ms:.1} ms"));
        [clean(&peer.name), clean(&peer.state), clean(&peer.address), trip, rate(sent), rate(received)]
    };
    let rows: Vec<_> = status.peers.iter().map(row).collect();
    let title = format!(
        "Machines; this daemon: {} of a core, {}",
        picture.cpu_percent.map_or("?".to_owned(), |percent| format!("{percent:.0} %")),
        picture.memory_bytes.map_or("?".to_owned(), bytes),
    );
    if rows.is_empty() {
        let text = "no other machine is linked; 'dirsync doctor' may say why";
        frame.render_widget(Paragraph::new(text).block(titled(&title)), area);
        return;
    }
    let has_room = area.width >= WIDE;
    let address = if has_room { Constraint::Length(21) } else { Constraint::Length(0) };
    let numbers = [Constraint::Length(9), Constraint::Length(11), Constraint::Length(11)];
    let widths = [Constraint::Fill(2), Constraint::Fill(3), address].into_iter().chain(numbers);
    frame.render_widget(Table::new(rows.into_iter().map(Row::new), widths).block(titled(&title)), area);
}

/// To a machine and from it, where anything goes.
fn rate(bytes_a_second: u64) -> String {
    if bytes_a_second == 0 { "-".to_owned() } else { format!("{}/s", bytes(bytes_a_second)) }
}

fn draw_rates(frame: &mut Frame, area: Rect, picture: &Picture) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    for (area, word, rates) in [(left, "Sent", &picture.sent), (right, "Received", &picture.received)] {
        let width = usize::from(area.width.saturating_sub(2));
        // The latest at the right end.
        let shown: Vec<u64> = rates.iter().rev().take(width).copied().collect();
        let title = format!("{word}: {}", rate(rates.back().copied().unwrap_or_default()));
        frame.render_widget(
            Sparkline::default().direction(RenderDirection::RightToLeft).data(&shown).block(titled(&title)),
            area,
        );
    }
}

fn draw_transfers(frame: &mut Frame, area: Rect, status: &StatusView) {
    let part = |bytes: u64, size: u64| format!("{:3} %", bytes.saturating_mul(100).checked_div(size).unwrap_or(100));
    let coming = status.transfers.iter().map(|one| {
        let from = format!("from {}", clean(&one.from.join(", ")));
        [part(one.bytes, one.size), clean(&one.path), bytes(one.size), from, rate(one.bytes_a_second)]
    });
    let going = status.uploads.iter().map(|one| {
        let to = format!("to {}", clean(&one.to));
        [part(one.bytes, one.size), clean(&one.path), bytes(one.size), to, String::new()]
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Fill(3),
        Constraint::Length(10),
        Constraint::Fill(1),
        Constraint::Length(12),
    ];
    let rows = coming.chain(going).map(Row::new);
    frame.render_widget(Table::new(rows, widths).block(titled("Transfers")), area);
}

fn draw_changes(frame: &mut Frame, area: Rect, picture: &mut Picture) {
    let items = picture.lines.iter().map(|line| ListItem::new(change(line, picture.zone.as_ref())));
    let list =
        List::new(items).block(titled("Recent changes")).highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(list, area, &mut picture.chosen);
}

fn change(line: &LogLine, zone: Option<&TimeZone>) -> String {
    let time = line.time_ns.parse::<i128>().ok().and_then(|ns| jiff::Timestamp::from_nanosecond(ns).ok());
    let zone = zone.cloned().unwrap_or_else(TimeZone::system);
    let time = time.map_or(String::new(), |time| time.to_zoned(zone).strftime("%H:%M:%S").to_string());
    format!("{time} {}", clean(&line.text))
}

fn footer(picture: &Picture) -> Line<'static> {
    match (&picture.question, &picture.said) {
        (Some(question), _) => Line::from(vec![bold(clean(question)), Span::raw(" y: yes, another key: no")]),
        (None, Some(said)) => Line::from(clean(said)),
        (None, None) => Line::from(KEYS),
    }
}

/// Of one line; what others wrote does nothing to the terminal.
fn clean(text: &str) -> String {
    printable(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::tests::idle;
    use crate::views::status::TransferView;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn picture() -> Picture {
        let line = |id: u64, text: &str| LogLine {
            id,
            time_ns: (id * 1_000_000_000).to_string(),
            kind: "received".to_owned(),
            path: Some(format!("f{id}")),
            peer: None,
            size: None,
            paths: None,
            text: text.to_owned(),
        };
        let mut status = idle();
        status.transfers = vec![TransferView {
            path: "video\u{1b}[2J.mp4".to_owned(),
            from: vec!["beta".to_owned()],
            bytes: 30 << 20,
            size: 120 << 20,
            bytes_a_second: 11 << 20,
            seconds_left: Some(8),
        }];
        Picture {
            status: Some(status),
            lines: vec![line(2, "received 'f2' from beta (7 B)"), line(1, "sent 'f1' to beta (5 B)")],
            sent: [0, 1000, 2000, 4000].into(),
            received: [0, 11 << 20].into(),
            cpu_percent: Some(12.4),
            memory_bytes: Some(38 << 20),
            zone: Some(TimeZone::UTC),
            ..Picture::default()
        }
    }

    fn drawn(picture: &mut Picture, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, picture)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn it_fits_on_80_by_24() {
        insta::assert_snapshot!(drawn(&mut picture(), 80, 24), @r"
        alpha: idle  /srv/shared
        ┌Machines; this daemon: 12 % of a core, 38.0 MiB───────────────────────────────┐
        │beta              in sync                    0.4 ms    -           -          │
        │long-name         12 paths to come           0.4 ms    -           -          │
        └──────────────────────────────────────────────────────────────────────────────┘
        ┌Sent: 3.9 KiB/s───────────────────────┐┌Received: 11.0 MiB/s──────────────────┐
        │                                     █││                                     █│
        │                                   ▄██││                                     █│
        └──────────────────────────────────────┘└──────────────────────────────────────┘
        ┌Transfers─────────────────────────────────────────────────────────────────────┐
        │ 25 % video�[2J.mp4                       120.0 MiB  from beta    11.0 MiB/s  │
        └──────────────────────────────────────────────────────────────────────────────┘
        ┌Recent changes────────────────────────────────────────────────────────────────┐
        │00:00:02 received 'f2' from beta (7 B)                                        │
        │00:00:01 sent 'f1' to beta (5 B)                                              │
        │                                                                              │
        │                                                                              │
        │                                                                              │
        │                                                                              │
        │                                                                              │
        │                                                                              │
        │                                                                              │
        └──────────────────────────────────────────────────────────────────────────────┘
        q end  p pause  c confirm  u undo  ↑↓ choose  r restore it
        ");
    }

    #[test]
    fn a_question_takes_the_place_of_the_keys_and_any_size_is_drawn() {
        let mut picture = picture();
        picture.question = Some("really?".to_owned());
        picture.choose(1);
        assert_eq!(picture.chosen_path(), Some("f2".to_owned()));
        for (width, height) in [(80, 24), (40, 10), (200, 60), (10, 3), (1, 1)] {
            let text = drawn(&mut picture, width, height);
            assert!(!text.contains('\u{1b}'), "{text}");
            assert!(width < 40 || text.contains("really?"), "{width} x {height}: {text}");
        }
    }
}
