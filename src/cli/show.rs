//! Answers as text for people: short, aligned, everything foreign escaped already.
//!
//! May import `io::control`'s views and `io::humanize`. Deliberately not here: colours, and
//! anything for programs (`--json`).

use super::list::StandingEntry;
use crate::humanize::{bytes, count, counted, duration, listed};
use crate::views::condition;
use crate::views::conflicts::{ConflictView, DecidedView, DiffView, SideView};
use crate::views::history::{HistoryView, KeptView, RestoredView};
use crate::views::need::TransfersView;
use crate::views::roles::LocalPathView;
use crate::views::status::{DeviceView, EntryView, LogLine, LogView, PathNote, PeerView, StatusView};
use jiff::tz::TimeZone;
use std::fmt::Write;

/// Problems shown before "and N more".
const NOTES: usize = 10;

pub(super) fn status(status: &StatusView) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<10} {text}");
    };
    line("folder", status.directory.clone());
    line("machine", format!("{} ({})", status.name, &status.device.short()));
    line("state", state(status));
    if !matches!(status.role.as_str(), "" | "both") {
        line("role", status.role.clone());
    }
    line("holds", holds(status));
    if status.pending > 0 {
        line("to come", counted(status.pending, "path", "paths"));
    }
    for held in held_back(status) {
        line("held back", held);
    }
    for apart in apart(status) {
        line("local", apart);
    }
    if status.open_conflicts > 0 {
        let open = counted(status.open_conflicts, "conflict waits", "conflicts wait");
        line("conflicts", format!("{open} for a decision (dirsync conflicts)"));
    }
    let left_alone = left_alone(status);
    if !left_alone.is_empty() {
        line("left alone", listed(&left_alone));
    }
    if status.peers.is_empty() {
        line("peers", "none linked now".to_owned());
    }
    let peer_lines = peers(&status.peers);
    for (n, peer) in peer_lines.lines().filter(|_| !status.peers.is_empty()).enumerate() {
        line(if n == 0 { "peers" } else { "" }, peer.to_owned());
    }
    for device in status.devices.iter().filter(|known| !known.linked) {
        line("away", away(device));
    }
    for clock in wrong_clocks(&status.peers) {
        line("problems", clock);
    }
    for unreached in &status.peers_not_reached {
        line("not linked", format!("--peer {} {}", unreached.address, unreached.text));
    }
    if let Some(why) = &status.http_trouble {
        line("problems", why.clone());
    }
    if status.history_bytes > 0 {
        let most = status.history_limit_bytes.map_or(String::new(), |limit| format!(" of at most {}", bytes(limit)));
        line("history", format!("{}{most}", bytes(status.history_bytes)));
    }
    if status.watches.partial {
        let most = status.watches.most.map_or(String::new(), |most| format!(" of at most {}", count(most)));
        let text =
            format!("{} folders are watched{most}; the others are walked every 60 s", count(status.watches.folders));
        line("watches", format!("{text} (sysctl fs.inotify.max_user_watches)"));
    }
    if let Some(rate) = status.limit_bytes_a_second {
        line("sends", format!("at most {} a second ('dirsync limit')", bytes(rate)));
    }
    for lack in &status.lacks {
        line("disk", format!("its file system has {lack}"));
    }
    if let Some(seconds) = status.disk_stalled_s {
        line("problems", format!("the disk has had something to make durable for {seconds} s; dmesg may say why"));
    }
    let view = TransfersView {
        incoming: status.transfers.clone(),
        outgoing: status.uploads.clone(),
        queued_files: status.queued_files,
        queued_bytes: status.queued_bytes,
        under_way: Vec::new(),
    };
    transfers(&mut out, &view);
    notes(&mut out, "under way", &under_way(status));
    notes(&mut out, "problems", &status.problems);
    out
}

/// What this machine's role keeps apart, with the first of it.
fn apart(status: &StatusView) -> Vec<String> {
    let some = |changes: &[LocalPathView], of: u64| {
        let names = changes.iter().map(|change| format!("'{}'", change.path)).collect::<Vec<_>>().join(", ");
        if of > changes.len() as u64 { format!("{names}, ...") } else { names }
    };
    let (local, not_installed) = (status.condition.local, status.condition.not_installed);
    let mut apart = Vec::new();
    if local > 0 {
        let changes = counted(local, "change", "changes");
        apart.push(format!("{changes} announced to nobody: {} (dirsync local)", some(&status.local, local)));
    }
    if not_installed > 0 {
        let (changes, some) = (counted(not_installed, "change", "changes"), some(&status.not_installed, not_installed));
        apart.push(format!("{changes} of others not installed: {some} (dirsync local)"));
    }
    apart
}

fn held_back(status: &StatusView) -> Vec<String> {
    let answer = "see 'dirsync held'; if they are meant, run 'dirsync confirm', else 'dirsync undo'";
    let mut held = Vec::new();
    if status.held_deletions > 0 {
        held.push(format!("{}; {answer}", counted(status.held_deletions, "deletion", "deletions")));
    }
    if status.held_reverts > 0 {
        held.push(format!("{} to older contents; {answer}", counted(status.held_reverts, "return", "returns")));
    }
    if status.held_unignored > 0 {
        let paths = counted(status.held_unignored, "path", "paths");
        held.push(format!("{paths} that .dirsyncignore covered; if they may be synced, run 'dirsync confirm'"));
    }
    held
}

fn left_alone(status: &StatusView) -> Vec<String> {
    let specials = counted(status.left_alone, "socket, fifo or device", "sockets, fifos and devices");
    let ignored = counted(status.ignored, "ignored path", "ignored paths");
    let parts = [(status.left_alone, specials), (status.ignored, ignored)];
    parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect()
}

/// A machine that is known and not linked.
fn away(device: &DeviceView) -> String {
    let equal = device.equal_ns.as_deref();
    let since = equal.map_or("never in sync".to_owned(), |ns| format!("last in sync {}", day(ns)));
    format!("{} ({}), {}, {since}", device.name, device.device.short(), last_seen(device))
}

fn wrong_clocks(peers: &[PeerView]) -> impl Iterator<Item = String> {
    peers.iter().filter_map(clock_off)
}

/// Of a peer whose clock is off.
pub(super) fn clock_off(peer: &PeerView) -> Option<String> {
    let ahead = peer.clock_ahead_ns.as_deref().and_then(|ns| ns.parse::<i64>().ok())?;
    let (by, way) = (duration(ahead.unsigned_abs()), if ahead > 0 { "ahead" } else { "behind" });
    Some(format!("the clock of {} is {by} {way}; set the wrong one", peer.name))
}

/// `last seen 12 s ago`.
pub(super) fn last_seen(device: &DeviceView) -> String {
    last_seen_for(device.away_s)
}

pub(super) fn last_seen_for(away_s: Option<u64>) -> String {
    match away_s {
        Some(away) => format!("last seen {} ago", duration(away.saturating_mul(1_000_000_000))),
        None => "not seen since this machine keeps count".to_owned(),
    }
}

/// What needs a person, for `status --check`.
pub(super) fn attention(status: &StatusView) -> Vec<String> {
    let mut out = condition::words(&status.condition.trouble());
    if status.open_conflicts > 0 {
        out.push(counted(status.open_conflicts, "open conflict", "open conflicts"));
    }
    if status.kept_folders > 0 {
        let folders = counted(status.kept_folders, "deleted folder stays", "deleted folders stay");
        out.push(format!("{folders} for what is ignored in them"));
    }
    if status.disk_stalled_s.is_some() {
        out.push("the disk does not answer".to_owned());
    }
    if status.http_trouble.is_some() {
        out.push("the API does not answer over TCP".to_owned());
    }
    for peer in &status.peers {
        let words = peer.condition.map(|theirs| condition::words(&theirs.trouble())).unwrap_or_default();
        out.extend(words.into_iter().map(|word| format!("{}: {word}", peer.name)));
        out.extend(peer.clock_ahead_ns.as_ref().map(|_| format!("the clock of {} is off", peer.name)));
    }
    // Who is off or out of reach comes back by itself.
    let ends_by_itself = |reason: &str| matches!(reason, "refused" | "no route" | "timeout" | "other");
    let lasting = status.peers_not_reached.iter().filter(|peer| !ends_by_itself(&peer.reason));
    out.extend(lasting.map(|peer| format!("--peer {} {}", peer.address, peer.text)));
    out
}

/// Each with how far it is; then what waits for its turn.
fn transfers(out: &mut String, view: &TransfersView) {
    let rows = view.incoming.iter().map(|transfer| {
        let percent = u128::from(transfer.bytes) * 100 / u128::from(transfer.size.max(1));
        let left = transfer.seconds_left.map_or("stalled".to_owned(), |left| format!("{} left", seconds(left)));
        let from = if transfer.from.is_empty() { "nobody yet".to_owned() } else { transfer.from.join(", ") };
        let rate = format!("{}/s", bytes(transfer.bytes_a_second));
        let done = format!("{} of {} ({percent} %)", bytes(transfer.bytes), bytes(transfer.size));
        vec![transfer.path.clone(), done, rate, left, format!("from {from}")]
    });
    for (n, row) in table(&rows.collect::<Vec<_>>()).lines().enumerate() {
        let _ = writeln!(out, "{:<10} {row}", if n == 0 { "fetching" } else { "" });
    }
    let rows = view.outgoing.iter().map(|upload| {
        let percent = u128::from(upload.bytes) * 100 / u128::from(upload.size.max(1));
        let done = format!("{} of {} ({percent} %)", bytes(upload.bytes), bytes(upload.size));
        vec![upload.path.clone(), done, format!("to {}", upload.to)]
    });
    for (n, row) in table(&rows.collect::<Vec<_>>()).lines().enumerate() {
        let _ = writeln!(out, "{:<10} {row}", if n == 0 { "sending" } else { "" });
    }
    if view.queued_files > 0 {
        let (files, bytes) = (counted(view.queued_files, "file", "files"), bytes(view.queued_bytes));
        let _ = writeln!(out, "{:<10} {files} ({bytes})", "queued");
    }
}

/// `dirsync transfers`.
pub(super) fn on_their_way(view: &TransfersView) -> String {
    let mut out = String::new();
    transfers(&mut out, view);
    let is_shown = |note: &&PathNote| !view.incoming.iter().any(|transfer| transfer.path == note.path);
    let rest: Vec<_> = view.under_way.iter().filter(is_shown).cloned().collect();
    notes(&mut out, "under way", &rest);
    if out.is_empty() { "nothing is on its way\n".to_owned() } else { out }
}

/// But for what `transfers` says more of.
fn under_way(status: &StatusView) -> Vec<PathNote> {
    let is_shown = |note: &&PathNote| !status.transfers.iter().any(|transfer| transfer.path == note.path);
    status.under_way.iter().filter(is_shown).cloned().collect()
}

fn seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60),
    }
}

pub(super) fn state(status: &StatusView) -> String {
    match &status.halted {
        Some(why) => format!("stopped: {why}"),
        None if status.paused => "paused (dirsync resume)".to_owned(),
        None if status.scanning => "scanning".to_owned(),
        None if status.idle => "idle".to_owned(),
        None => "syncing".to_owned(),
    }
}

fn holds(status: &StatusView) -> String {
    let files = counted(status.files, "file", "files");
    let folders = counted(status.directories, "folder", "folders");
    let links = match status.symlinks {
        0 => String::new(),
        links => format!(", {}", counted(links, "link", "links")),
    };
    format!("{files} ({}), {folders}{links}", bytes(status.bytes))
}

fn notes(out: &mut String, title: &str, notes: &[PathNote]) {
    for (n, note) in notes.iter().take(NOTES).enumerate() {
        let title = if n == 0 { title } else { "" };
        let _ = writeln!(out, "{title:<10} {}: {}", note.path, note.text);
    }
    if notes.len() > NOTES {
        let _ = writeln!(out, "{:<10} and {} more (--json shows them)", "", count((notes.len() - NOTES) as u64));
    }
}

/// How a linked machine stands, and whether it may write.
pub(super) fn standing(peer: &PeerView) -> String {
    match peer.capability.as_str() {
        "read-only" => format!("{}, may only read", peer.state),
        _ => peer.state.clone(),
    }
}

pub(super) fn peers(peers: &[PeerView]) -> String {
    if peers.is_empty() {
        return "no machine is linked now\n".to_owned();
    }
    let rows = peers.iter().map(|peer| {
        let traffic = format!("sent {}, received {}", bytes(peer.sent_bytes), bytes(peer.received_bytes));
        vec![peer.name.clone(), peer.device.short(), standing(peer), peer.address.clone(), traffic]
    });
    table(&rows.collect::<Vec<_>>())
}

pub(super) fn list(entries: &[EntryView]) -> String {
    let rows: Vec<_> = entries.iter().map(listed_entry).collect();
    table(&rows)
}

/// With how each stands and which machines hold it; of those with a question mark it is not known.
pub(super) fn long_list(entries: &[StandingEntry]) -> String {
    let rows = entries.iter().map(|StandingEntry { entry, state, holders, unknown }| {
        let here = entry.here.then(|| "here".to_owned());
        let unknown = unknown.iter().map(|name| format!("{name}?"));
        let holders: Vec<_> = here.into_iter().chain(holders.iter().cloned()).chain(unknown).collect();
        let mut row = listed_entry(entry);
        row.splice(3..3, [state.clone(), holders.join(",")]);
        row
    });
    table(&rows.collect::<Vec<_>>())
}

fn listed_entry(entry: &EntryView) -> Vec<String> {
    let size = if entry.kind == "file" { bytes(entry.size) } else { String::new() };
    let name = match (entry.kind.as_str(), &entry.target) {
        ("directory", _) => format!("{}/", entry.path),
        (_, Some(target)) => format!("{} -> {target}", entry.path),
        _ => entry.path.clone(),
    };
    let here = match entry {
        EntryView { here: true, .. } => "",
        EntryView { local: true, .. } => "  (changed here)",
        EntryView { not_installed: true, .. } => "  (not installed)",
        _ => "  (still to come)",
    };
    let time = if entry.kind == "file" { time(&entry.mtime_ns) } else { String::new() };
    vec![entry.mode.clone(), format!("{size:>10}"), format!("{time:<19}"), format!("{name}{here}")]
}

pub(super) fn log(log: &LogView) -> String {
    log.lines.iter().map(log_line).collect()
}

pub(super) fn log_line(line: &LogLine) -> String {
    format!("{}  {}\n", time(&line.time_ns), line.text)
}

/// `hidden`: so many more, older ones are not shown.
pub(super) fn history(history: &HistoryView, hidden: usize) -> String {
    if history.kept.is_empty() {
        return format!("history holds nothing of that\n{}", silent(&history.silent));
    }
    let rows = history.kept.iter().map(|kept| {
        let (time, size) = (exact_time(kept, &history.kept), format!("{:>10}", bytes(kept.size)));
        vec![time, kept.reason.clone(), size, holders(kept), kept.path.clone()]
    });
    let mut out = table(&rows.collect::<Vec<_>>());
    if hidden > 0 {
        let _ = writeln!(out, "and {} more", count(hidden as u64));
    }
    out + &silent(&history.silent)
}

/// The machines that keep it.
fn holders(kept: &KeptView) -> String {
    let here = (!kept.name.is_empty()).then(|| "here".to_owned());
    here.into_iter().chain(kept.machines.iter().cloned()).collect::<Vec<_>>().join(", ")
}

/// Who may hold more.
fn silent(machines: &[String]) -> String {
    match machines {
        [] => String::new(),
        [one] => format!("{one} did not say what it keeps; it is busy, or older than this version\n"),
        several => {
            format!("{} did not say what they keep; they are busy, or older than this version\n", listed(several))
        }
    }
}

pub(super) fn restored(view: &RestoredView) -> String {
    let mut out = String::new();
    for kept in &view.restored {
        let (size, time) = (bytes(kept.size), exact_time(kept, &[]));
        let done = if view.dry_run { "would restore" } else { "restored" };
        let from = if kept.name.is_empty() { format!(", from {}", holders(kept)) } else { String::new() };
        let _ = writeln!(out, "{done} '{}' ({size}) as it was when {} at {time}{from}", kept.path, way(&kept.reason));
    }
    for PathNote { path, text } in &view.failed {
        let _ = writeln!(out, "'{path}' was not restored: {text}");
    }
    out + &silent(&view.silent)
}

/// As `restore` takes it: to the millisecond, and further where another version of the path went in
/// the same one.
fn exact_time(kept: &KeptView, all: &[KeptView]) -> String {
    let millisecond = |kept: &KeptView| kept.time_ns.len().checked_sub(6).map(|end| kept.time_ns[..end].to_owned());
    let is_twin = |other: &&KeptView| other.path == kept.path && millisecond(other) == millisecond(kept);
    let is_alone = all.iter().filter(is_twin).count() <= 1;
    time_as(&kept.time_ns, if is_alone { "%Y-%m-%d %H:%M:%S.%3f" } else { "%Y-%m-%d %H:%M:%S.%9f" })
}

/// How it came to history.
fn way(reason: &str) -> &str {
    match reason {
        "conflict" => "it lost a conflict",
        "suspect" => "it was suspect",
        reason => reason,
    }
}

pub(super) fn conflicts(conflicts: &[ConflictView]) -> String {
    if conflicts.is_empty() {
        return "no conflict waits for a decision\n".to_owned();
    }
    let mut out = String::new();
    for conflict in conflicts {
        let ConflictView { path, winner, loser, ours, kept, beside, settled, .. } = conflict;
        let _ = writeln!(out, "{path}  ({})", time(&conflict.time_ns));
        let kept = kept.as_ref().map(|_| "in history".to_owned());
        let places: Vec<_> = kept.into_iter().chain(beside.as_ref().map(|beside| format!("as '{beside}'"))).collect();
        let side = |what: &str, side: &SideView, place: String| {
            let size = if side.kind == "file" { bytes(side.size) } else { String::new() };
            vec![format!("  {what}"), side.version.clone(), side.machine.clone(), side.kind.clone(), size, place]
        };
        let place = if places.is_empty() { String::new() } else { format!("kept {}", listed(&places)) };
        let (won, lost) = match ours.as_deref() {
            Some("loser") => ("theirs won", "ours lost"),
            Some("winner") => ("ours won", "theirs lost"),
            _ => ("won", "lost"),
        };
        out += &table(&[side(won, winner, String::new()), side(lost, loser, place)]);
        if let Some(how) = settled {
            let _ = writeln!(out, "  decided: {how}");
        }
    }
    out.push_str("compare them with 'dirsync conflicts diff PATH', decide with 'dirsync conflicts keep PATH winner|loser|MACHINE|VERSION'\n");
    out
}

pub(super) fn diff(diff: &DiffView) -> String {
    let name = |side: &SideView| format!("{} {}", side.version, side.machine);
    let mut out = format!("--- ours {}\n+++ theirs {}\n", name(&diff.ours).trim_end(), name(&diff.theirs).trim_end());
    for line in &diff.lines {
        let _ = writeln!(out, "{}{}", line.sign, line.text);
    }
    if let Some(note) = &diff.note {
        let _ = writeln!(out, "{note}");
    }
    out
}

pub(super) fn decided(decided: &DecidedView) -> String {
    let DecidedView { path, version, restored, beside } = decided;
    let how = if *restored { "brought back as a new version" } else { "it was there already" };
    let mut out = format!("'{path}' is {version} ({how})\n");
    for copy in beside {
        let _ = writeln!(out, "the copy '{copy}' is still there; delete it when you do not need it any more");
    }
    out
}

pub(super) fn all_decided(decided: &[DecidedView], failed: &[PathNote]) -> String {
    if decided.is_empty() && failed.is_empty() {
        return "no conflict waits for a decision\n".to_owned();
    }
    let mut out: String = decided.iter().map(self::decided).collect();
    for PathNote { path, text } in failed {
        let _ = writeln!(out, "'{path}' was not decided: {text}");
    }
    out
}

/// Columns two spaces apart; the last one is not padded.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> =
        (0..columns).map(|n| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max()).collect();
    rows.iter().fold(String::new(), |mut out, row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<0$}", width.unwrap_or(0)));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
        out
    })
}

/// The local date.
pub(super) fn day(ns: &str) -> String {
    time(ns).chars().take(10).collect()
}

/// Local time, to the second, as `restore PATH@TIME` takes it.
pub(super) fn time(ns: &str) -> String {
    time_as(ns, "%Y-%m-%d %H:%M:%S")
}

fn time_as(ns: &str, format: &str) -> String {
    let time = ns.parse().ok().and_then(|ns| jiff::Timestamp::from_nanosecond(ns).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.to_zoned(TimeZone::system()).strftime(format).to_string())
}

#[cfg(test)]
pub(super) mod tests;
