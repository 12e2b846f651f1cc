//! The route of metrics: what a monitor asks for again and again, in the text form of OpenMetrics.
//!
//! Each answer is made of what the status says at that moment and of what was counted since the
//! start. Labels are machines, of which there is a bound, and words of this file: no path is one
//! (P9). `docs/metrics.md` explains each metric, and a test holds the two to each other.
//! Deliberately not here: the form (`metrics/samples.rs`).

mod samples;

use super::Request;
use super::answer::{ApiState, Refusal, blocking};
use super::status::status;
use crate::io::clock::wall_ns;
use crate::io::journal::ReportCounts;
use crate::io::net::traffic::Traffic;
use crate::model::DeviceId;
use crate::views::status::{PeerView, StatusView};
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::{Registry, Unit};
use samples::{Samples, Title};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What the answer is.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Of so many machines are there samples: those that are linked, then those that were linked last.
const MACHINES: usize = 256;
/// What SQLite has of the index, in the state directory.
const INDEX_FILES: [&str; 3] = ["index", "index-wal", "index-shm"];
const SECOND_NS: f64 = 1e9;

pub(super) async fn metrics(State(shared): State<ApiState>) -> Result<Response, Refusal> {
    let counts = shared.handle.ask(Request::Counted).await.ok_or_else(Refusal::busy)?;
    let (traffic, uptime) = (shared.world.traffic(), shared.started.elapsed());
    let state_dir = shared.about.state_dir.clone();
    let index_bytes = blocking(move || Ok(index_bytes(&state_dir))).await?;
    let Json(status) = status(State(shared)).await?;
    let snapshot = Snapshot { status, counts, traffic, index_bytes, uptime };
    let text = snapshot.text().map_err(|_| Refusal::failed("the metrics cannot be written; see the status"))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

fn index_bytes(state_dir: &Path) -> u64 {
    INDEX_FILES.iter().filter_map(|name| state_dir.join(name).metadata().ok()).map(|facts| facts.len()).sum()
}

/// All that is said, at one moment.
#[derive(Debug)]
struct Snapshot {
    status: StatusView,
    counts: ReportCounts,
    traffic: BTreeMap<DeviceId, Traffic>,
    index_bytes: u64,
    uptime: Duration,
}

/// A machine other than this one. Its name is escaped, and may be another's too: the device tells
/// them apart.
struct KnownMachine<'a> {
    device: DeviceId,
    name: &'a str,
    link: Option<&'a PeerView>,
    seen_ns: Option<u64>,
}

impl KnownMachine<'_> {
    fn labels(&self) -> samples::Labels<2> {
        [("device", self.device.to_string()), ("peer", self.name.to_owned())]
    }
}

impl Snapshot {
    fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("dirsyncd");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    fn machines(&self) -> Vec<KnownMachine<'_>> {
        let link_of = |device| self.status.peers.iter().find(|peer| peer.device == device);
        let parsed = |seen: &Option<String>| seen.as_ref().and_then(|seen| seen.parse().ok());
        let mut all: Vec<KnownMachine<'_>> = self
            .status
            .devices
            .iter()
            .map(|known| {
                let (link, seen_ns) = (link_of(known.device), parsed(&known.seen_ns));
                KnownMachine { device: known.device, name: &known.name, link, seen_ns }
            })
            .collect();
        // Who was linked between the two lists is in the first.
        let new =
            self.status.peers.iter().filter(|peer| self.status.devices.iter().all(|known| known.device != peer.device));
        all.extend(new.map(|peer| KnownMachine {
            device: peer.device,
            name: &peer.name,
            link: Some(peer),
            seen_ns: None,
        }));
        all.sort_by_key(|machine| (machine.link.is_none(), std::cmp::Reverse(machine.seen_ns), machine.device));
        all.truncate(MACHINES);
        all
    }

    fn about_itself(&self, out: &mut Samples<'_>) -> fmt::Result {
        let StatusView { version, idle, scanning, paused, halted, disk_stalled_s, http_trouble, .. } = &self.status;
        let labels = vec![("version", version.clone()), ("name", self.status.name.clone())];
        out.info(Title("build", None, "The version of the daemon, and how this machine is called"), labels)?;
        out.gauge(seconds("uptime", "Since this run of the daemon began"), self.uptime.as_secs_f64())?;
        out.gauge(plain("idle", "1: nothing to look at, fetch, install or tell"), is(*idle))?;
        out.gauge(plain("scanning", "1: the whole folder is being walked"), is(*scanning))?;
        out.gauge(plain("paused", "1: a person paused syncing"), is(*paused))?;
        out.gauge(plain("halted", "1: syncing is stopped, and the status says why"), is(halted.is_some()))?;
        let stalled = disk_stalled_s.unwrap_or(0);
        out.gauge(seconds("disk_stalled", "For so long the disk has not answered, from 30 s on"), number(stalled))?;
        let says = "1: --http is given, and the API is not answered there";
        out.gauge(plain("http_failing", says), is(http_trouble.is_some()))
    }

    fn folder(&self, out: &mut Samples<'_>) -> fmt::Result {
        let StatusView { files, directories, symlinks, deleted, bytes, pending, condition, .. } = &self.status;
        let kinds = [("file", files), ("directory", directories), ("symlink", symlinks), ("deleted", deleted)];
        let rows = kinds.map(|(kind, count)| ([("kind", kind.to_owned())], *count as f64));
        out.gauges(plain("paths", "Paths of the group's newest state, by kind"), rows)?;
        out.gauge(bytes_of("files", "Of the files of the group's newest state"), number(*bytes))?;
        out.gauge(plain("pending_paths", "Paths whose newest version is to come to this disk"), number(*pending))?;
        let StatusView { transfers, queued_files, queued_bytes, .. } = &self.status;
        let left: u64 = transfers.iter().map(|transfer| transfer.size.saturating_sub(transfer.bytes)).sum();
        let says = "Contents to be fetched: those that wait, and large ones under way";
        out.gauge(plain("needed_files", says), number(queued_files + transfers.len() as u64))?;
        out.gauge(bytes_of("needed", "What is missing of these"), number(queued_bytes + left))?;
        out.gauge(plain("local_paths", "Local changes, which are announced to nobody"), number(condition.local))?;
        let says = "Changes of others that stay off this disk by its role";
        out.gauge(plain("not_installed_paths", says), number(condition.not_installed))?;
        out.gauge(
            plain("ignored_paths", "What patterns cover; of a folder, the folder alone"),
            number(self.status.ignored),
        )?;
        out.gauge(bytes_of("history", "What history takes on the disk"), number(self.status.history_bytes))?;
        let limit = self.status.history_limit_bytes.map(|limit| limit as f64);
        out.gauge(bytes_of("history_limit", "What history may take"), limit)?;
        out.gauge(bytes_of("index", "What the index takes on the disk"), number(self.index_bytes))
    }

    fn attention(&self, out: &mut Samples<'_>) -> fmt::Result {
        let StatusView { held_deletions, held_reverts, held_unignored, condition, .. } = &self.status;
        let held = [("deletion", held_deletions), ("revert", held_reverts), ("unignored", held_unignored)];
        let rows = held.map(|(reason, count)| ([("reason", reason.to_owned())], *count as f64));
        out.gauges(plain("held_paths", "What waits for 'dirsync confirm' or 'dirsync undo'"), rows)?;
        out.gauge(plain("problem_paths", "Paths that need a person"), number(condition.problems))?;
        out.gauge(plain("open_conflicts", "Conflicts that nobody has decided"), number(self.status.open_conflicts))?;
        let says = "Folders that were deleted elsewhere and stay for what is ignored in them";
        out.gauge(plain("kept_folders", says), number(self.status.kept_folders))
    }

    fn counted(&self, out: &mut Samples<'_>) -> fmt::Result {
        let ReportCounts { received, received_bytes, sent, conflicts, merges, problems, holds, .. } = self.counts;
        let ReportCounts { halts, suspects, walks, walks_ns, last_walk_ns, walked_paths, .. } = self.counts;
        out.counter(plain("changes_installed", "Changes of other machines that were installed here"), received as f64)?;
        let says = "What came over the network of their contents";
        out.counter(bytes_of("changes_installed_content", says), received_bytes as f64)?;
        out.counter(plain("changes_sent", "Changes of this machine that others have, or know of"), sent as f64)?;
        out.counter(plain("conflicts", "Conflicts that were found here"), conflicts as f64)?;
        out.counter(plain("merges", "Conflicts that were resolved by merging"), merges as f64)?;
        out.counter(plain("problems", "Paths that began to need a person"), problems as f64)?;
        out.counter(plain("holds", "Times that something began to wait for a person"), holds as f64)?;
        out.counter(plain("halts", "Times that syncing was stopped"), halts as f64)?;
        out.counter(plain("suspects", "Files whose bytes changed while their stat did not"), suspects as f64)?;
        out.counter(plain("scans", "Walks of the whole folder"), walks as f64)?;
        out.counter(seconds("scan_duration", "What they took"), walks_ns as f64 / SECOND_NS)?;
        let last = (walks > 0).then_some(last_walk_ns as f64 / SECOND_NS);
        out.gauge(seconds("last_scan_duration", "What the last one took"), last)?;
        out.gauge(plain("last_scan_paths", "How many paths it met"), (walks > 0).then_some(walked_paths as f64))
    }

    fn peers(&self, out: &mut Samples<'_>) -> fmt::Result {
        let machines = self.machines();
        let StatusView { peers, devices, peers_not_reached, .. } = &self.status;
        let away = devices.iter().filter(|known| peers.iter().all(|peer| peer.device != known.device)).count();
        let states = [("linked", peers.len()), ("away", away)];
        let rows = states.map(|(state, count)| ([("state", state.to_owned())], count as f64));
        out.gauges(plain("peers", "The other machines of the group that are known"), rows)?;
        let says = "Addresses of --peer that lead to no member now";
        out.gauge(plain("peers_not_reached", says), number(peers_not_reached.len() as u64))?;

        let of_all = |value: fn(&KnownMachine<'_>) -> f64| machines.iter().map(move |one| (one.labels(), value(one)));
        let of_linked = |value: fn(&PeerView) -> Option<f64>| {
            machines.iter().filter_map(move |one| Some((one.labels(), value(one.link?)?)))
        };
        let linked = |one: &KnownMachine<'_>| is(one.link.is_some());
        out.gauges(plain("peer_linked", "1: it is linked now"), of_all(linked))?;
        let says = "When it was linked last, since 1970; of one that is linked, now";
        let now = wall_ns() as f64;
        let seen = machines.iter().filter_map(|one| {
            let at = if one.link.is_some() { Some(now) } else { one.seen_ns.map(|at| at as f64) };
            Some((one.labels(), at? / SECOND_NS))
        });
        out.gauges(seconds("peer_last_seen_timestamp", says), seen)?;
        let in_sync = |peer: &PeerView| Some(is(peer.in_sync));
        let says = "1: both trees are equal, and neither machine has anything left to do";
        out.gauges(plain("peer_in_sync", says), of_linked(in_sync))?;
        let says = "Paths still to be installed there, as it said last";
        out.gauges(plain("peer_pending_paths", says), of_linked(|peer| Some(peer.pending as f64)))?;
        let round_trip = |peer: &PeerView| peer.round_trip_ms.map(|ms| ms / 1000.0);
        out.gauges(seconds("peer_round_trip", "Of the last ping"), of_linked(round_trip))?;
        let ahead = |peer: &PeerView| Some(peer.clock_ahead_ns.as_ref()?.parse::<f64>().ok()? / SECOND_NS);
        let says = "How far its clock is ahead, while it is more than 2 s off";
        out.gauges(seconds("peer_clock_ahead", says), of_linked(ahead))?;

        let traffic = |value: fn(&Traffic) -> u64| {
            let of = move |one: &KnownMachine<'_>| Some((one.labels(), value(self.traffic.get(&one.device)?) as f64));
            machines.iter().filter_map(of)
        };
        out.counters(bytes_of("peer_sent", "On the wire, to it"), traffic(|sum| sum.sent_bytes))?;
        out.counters(bytes_of("peer_received", "On the wire, from it"), traffic(|sum| sum.received_bytes))
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Samples(encoder);
        self.about_itself(&mut out)?;
        self.folder(&mut out)?;
        self.attention(&mut out)?;
        self.counted(&mut out)?;
        self.peers(&mut out)
    }
}

fn plain(name: &'static str, says: &'static str) -> Title<'static> {
    Title(name, None, says)
}

fn bytes_of(name: &'static str, says: &'static str) -> Title<'static> {
    Title(name, Some(&Unit::Bytes), says)
}

fn seconds(name: &'static str, says: &'static str) -> Title<'static> {
    Title(name, Some(&Unit::Seconds), says)
}

fn number(count: u64) -> f64 {
    count as f64
}

fn is(so: bool) -> f64 {
    f64::from(u8::from(so))
}

#[cfg(test)]
mod tests;
