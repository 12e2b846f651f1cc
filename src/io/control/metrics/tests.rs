//! The metrics as a monitor reads them, and the page, the dashboard and the alerts beside them.

use super::super::http::HttpState;
use super::super::{About, LinkFacts, SecretPlace};
use super::*;
use crate::engine::api::map_index::MapIndex;
use crate::engine::{Config, DeviceStatus, Engine, OnConflict, PeerStatus, Status};
use crate::model::Capability;
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../../docs/grafana.json");
const ALERTS: &str = include_str!("../../../../docs/alerts.yml");

fn peer(device: DeviceId, name: &str) -> PeerStatus {
    PeerStatus {
        device,
        name: name.to_owned(),
        in_sync: true,
        equal: true,
        condition: None,
        pending: 3,
        clock_ahead_ns: Some(-2_500_000_000),
        invalid: None,
    }
}

fn known(device: DeviceId, name: &str, seen_ns: Option<u64>) -> DeviceStatus {
    DeviceStatus {
        device,
        name: name.to_owned(),
        linked: seen_ns.is_none(),
        seen_ns,
        equal_ns: None,
        member: None,
        follows_rotations: true,
    }
}

fn link(device: DeviceId, name: &str) -> LinkFacts {
    LinkFacts {
        device,
        name: name.to_owned(),
        address: String::new(),
        capability: Capability::Write,
        sent_bytes: 1,
        received_bytes: 2,
        uploads: Vec::new(),
        software: String::new(),
        round_trip_ms: Some(1.5),
    }
}

/// A machine with one that is linked, by this name, and one that is away; with a sample of each
/// metric.
fn snapshot(linked: &str) -> Snapshot {
    let [us, there, away] = [1, 2, 3].map(|n| DeviceId([n; 32]));
    let config = Config { device: us, name: "alpha".into(), on_conflict: OnConflict::Newest };
    let status = Status {
        peers: vec![peer(there, linked)],
        devices: vec![known(there, linked, None), known(away, "gamma", Some(5_000_000_000))],
        ..Engine::new(config, MapIndex::new()).status()
    };
    let about = About {
        directory: "/d".into(),
        state_dir: "/s".into(),
        listen_port: 1,
        broadcast_port: 2,
        http: HttpState::default(),
        name_is_given: false,
        secret: SecretPlace::Own,
        capability: Capability::Write,
    };
    let mut status = StatusView::new(&about, status, &[link(there, linked)], None);
    (status.history_bytes, status.history_limit_bytes) = (10, Some(20));
    Snapshot {
        status,
        counts: ReportCounts { walks: 2, walks_ns: 3_000_000_000, last_walk_ns: 1_000_000_000, ..Default::default() },
        traffic: BTreeMap::from([(there, Traffic { sent_bytes: 100, received_bytes: 200 })]),
        index_bytes: 4096,
        uptime: Duration::from_millis(1500),
    }
}

/// One line of an answer that is no comment.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Reads as a monitor does; fails on what one would refuse.
fn samples(text: &str) -> Vec<Sample> {
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    text.lines().filter(|line| !line.starts_with("# ")).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c| !is_name(c)).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (key, quoted) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(key.chars().all(is_name), "{line}");
        let (mut value, mut chars) = (String::new(), quoted.chars());
        loop {
            match chars.next().unwrap_or_else(|| panic!("no end of a label: {line}")) {
                '"' => break,
                '\\' => match chars.next() {
                    Some(c @ ('\\' | '"')) => value.push(c),
                    Some('n') => value.push('\n'),
                    other => panic!("no escape: {other:?} in {line}"),
                },
                c => value.push(c),
            }
        }
        labels.push((key.to_owned(), value));
        rest = chars.as_str();
    }
    let value = rest.strip_prefix('}').unwrap_or(rest).strip_prefix(' ').and_then(|value| value.parse().ok());
    Sample { name: name.to_owned(), labels, value: value.unwrap_or_else(|| panic!("no value: {line}")) }
}

/// Name, type and labels, as a row of the page has them.
fn described(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let all = samples(text);
    let row = |(name, kind): (&str, &str)| {
        let ending = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("{name}{ending}");
        let sample = all.iter().find(|sample| sample.name == name);
        let sample = sample.unwrap_or_else(|| panic!("the test has no sample of {name}"));
        let labels: Vec<_> = sample.labels.iter().map(|(key, _)| format!("`{key}`")).collect();
        format!("| `{name}` | {kind} | {} |", labels.join(", ")).replace("|  |", "| |")
    };
    types.map(row).collect()
}

#[test]
fn the_page_and_the_metrics_name_the_same() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `dirsyncd_"));
    let columns = |row: &str| row.match_indices('|').nth(3).map(|(at, _)| row[..=at].to_owned());
    let page: BTreeSet<String> = rows.map(|row| columns(row).unwrap_or_else(|| panic!("{row}"))).collect();
    assert_eq!(page, described(&snapshot("beta").text().unwrap()));
}

#[test]
fn the_dashboard_and_the_alerts_name_only_metrics_that_exist() {
    let known = samples(&snapshot("beta").text().unwrap()).into_iter().map(|sample| sample.name).collect();
    for (file, text) in [("grafana.json", DASHBOARD), ("alerts.yml", ALERTS), ("metrics.md", PAGE)] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<String> = words.filter(|word| word.starts_with("dirsyncd_")).map(str::to_owned).collect();
        assert!(named.len() > 5, "{file}: {named:?}");
        assert!(named.is_subset(&known), "{file}: {:?}", named.difference(&known));
    }
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 5));
}

#[test]
fn values_are_those_of_the_status_in_seconds_and_bytes() {
    let text = snapshot("beta").text().unwrap();
    let all = samples(&text);
    let value = |name: &str, label: &str| {
        let is_it =
            |one: &&Sample| one.name == name && (label.is_empty() || one.labels.iter().any(|(_, v)| v == label));
        let found: Vec<_> = all.iter().filter(is_it).map(|one| one.value).collect();
        assert_eq!(found.len(), 1, "{name} {label}: {found:?}\n{text}");
        found[0]
    };
    for (name, label, due) in [
        ("dirsyncd_uptime_seconds", "", 1.5),
        ("dirsyncd_index_bytes", "", 4096.0),
        ("dirsyncd_history_limit_bytes", "", 20.0),
        ("dirsyncd_scans_total", "", 2.0),
        ("dirsyncd_scan_duration_seconds_total", "", 3.0),
        ("dirsyncd_last_scan_duration_seconds", "", 1.0),
        ("dirsyncd_peers", "linked", 1.0),
        ("dirsyncd_peers", "away", 1.0),
        ("dirsyncd_peer_linked", "beta", 1.0),
        ("dirsyncd_peer_linked", "gamma", 0.0),
        ("dirsyncd_peer_last_seen_timestamp_seconds", "gamma", 5.0),
        ("dirsyncd_peer_round_trip_seconds", "beta", 0.0015),
        ("dirsyncd_peer_clock_ahead_seconds", "beta", -2.5),
        ("dirsyncd_peer_pending_paths", "beta", 3.0),
        ("dirsyncd_peer_sent_bytes_total", "beta", 100.0),
        ("dirsyncd_peer_received_bytes_total", "beta", 200.0),
    ] {
        assert!((value(name, label) - due).abs() < 1e-9, "{name} {label}: {}", value(name, label));
    }
    assert!(text.contains("# UNIT dirsyncd_index_bytes bytes\n"), "{text}");
}

#[test]
fn a_hostile_name_stays_within_its_label() {
    let name = "\"} 1\ndirsyncd_halted 1\n# EOF\n\\\u{9b}31m,x=\"";
    let text = snapshot(name).text().unwrap();
    let plain = snapshot("beta").text().unwrap();
    assert_eq!(text.lines().count(), plain.lines().count());
    assert_eq!(text.lines().filter(|line| *line == "# EOF").count(), 1, "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    let shown: BTreeSet<String> =
        samples(&text).into_iter().flat_map(|one| one.labels).map(|(_, value)| value).collect();
    assert!(shown.contains(&crate::model::text::escape(name.as_bytes())), "{shown:?}");
    assert_eq!(described(&text), described(&plain));
}

#[test]
fn of_many_machines_those_that_are_linked_and_then_the_latest_are_named() {
    let mut snapshot = snapshot("beta");
    let away = snapshot.status.devices[1].clone();
    for n in 0..2 * MACHINES as u64 {
        let mut id = [9; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let seen_ns = Some((10_000_000_000 + n * 1_000_000_000).to_string());
        snapshot.status.devices.push(crate::views::status::DeviceView {
            device: DeviceId(id),
            seen_ns,
            ..away.clone()
        });
    }
    let all = samples(&snapshot.text().unwrap());
    let of = |name: &str| all.iter().filter(|one| one.name == name).collect::<Vec<_>>();
    assert_eq!(of("dirsyncd_peer_linked").len(), MACHINES);
    assert!((of("dirsyncd_peer_linked")[0].value - 1.0).abs() < 1e-9, "the linked one is the first");
    let seen = of("dirsyncd_peer_last_seen_timestamp_seconds");
    let oldest = seen.iter().map(|one| one.value).fold(f64::MAX, f64::min);
    assert!(oldest > (10 + MACHINES) as f64, "{oldest}");
    assert!((of("dirsyncd_peers")[1].value - (2 * MACHINES + 1) as f64).abs() < 1e-9, "all are counted");
}
