//! `dirsync peers`: the list of machines with how each stands, this one and the linked ones first.
//!
//! Deliberately not here: the shorter lines of `status` (`show.rs`).

use super::show::{clock_off, day, last_seen_for, standing, table};
use crate::humanize::bytes;
use crate::views::status::PeerView;
use std::fmt::Write;

/// As the daemon calls its own row.
const THIS_MACHINE: &str = "this machine";
/// Foreign text may be long.
const SOFTWARE_CHARS: usize = 40;

pub(super) fn known(peers: &[PeerView]) -> String {
    let of = |is_so: fn(&PeerView) -> bool| peers.iter().filter(|peer| is_so(peer)).collect::<Vec<_>>();
    let linked = of(|peer| peer.linked);
    let away = of(|peer| peer.state == "not linked");
    let gone = of(|peer| !peer.linked && peer.state != "not linked" && peer.state != THIS_MACHINE);
    let mut out = rows(&of(|peer| peer.state == THIS_MACHINE), of_this);
    out.push_str(&rows(&linked, of_linked));
    if linked.is_empty() {
        out.push_str("no machine is linked now\n");
    }
    for peer in &linked {
        if let Some(clock) = clock_off(peer) {
            let _ = writeln!(out, "{clock}");
        }
    }
    for (title, peers, of) in
        [("not linked", away, of_away as fn(&PeerView) -> _), ("not in the group any more", gone, of_gone)]
    {
        if !peers.is_empty() {
            let _ = writeln!(out, "\n{title}:");
            out.push_str(&rows(&peers, of));
        }
    }
    out
}

fn rows(peers: &[&PeerView], of: fn(&PeerView) -> Vec<String>) -> String {
    table(&peers.iter().map(|peer| of(peer)).collect::<Vec<_>>())
}

fn of_this(peer: &PeerView) -> Vec<String> {
    vec![peer.name.clone(), peer.device.short(), peer.state.clone(), listed(peer)]
}

fn of_linked(peer: &PeerView) -> Vec<String> {
    // A role of its own is part of the state.
    let traffic = format!("sent {}, received {}", bytes(peer.sent_bytes), bytes(peer.received_bytes));
    let round_trip = peer.round_trip_ms.map_or(String::new(), |ms| format!("{ms:.1} ms"));
    let software = peer.software.chars().take(SOFTWARE_CHARS).collect();
    let (name, device, address) = (peer.name.clone(), peer.device.short(), peer.address.clone());
    vec![name, device, standing(peer), address, software, round_trip, traffic, listed(peer)]
}

fn of_away(peer: &PeerView) -> Vec<String> {
    let equal = peer.equal_ns.as_deref();
    let equal = equal.map_or("never compared equal".to_owned(), |ns| format!("equal on {}", day(ns)));
    vec![peer.name.clone(), peer.device.short(), last_seen_for(peer.away_s), equal, listed(peer)]
}

fn of_gone(peer: &PeerView) -> Vec<String> {
    vec![peer.name.clone(), peer.device.short(), peer.state.clone()]
}

/// Its row of the list of machines, which is the same on all of them.
fn listed(peer: &PeerView) -> String {
    let Some(listed) = &peer.listed else { return String::new() };
    // Of a linked one its state says it.
    let may = if listed.capability == "write" || peer.linked { "" } else { "may only read, " };
    let day = day(&listed.added_ns);
    if listed.invited {
        format!("{may}invited by {} on {day}", listed.added_by)
    } else if listed.added_by == peer.name {
        format!("{may}here since {day}")
    } else {
        format!("{may}seen first by {} on {day}", listed.added_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::tests::peer;
    use crate::model::DeviceId;

    #[test]
    fn those_that_are_linked_come_first_and_then_since_when_the_others_are_away() {
        let ahead = Some("3600000000000".to_owned());
        let mut peers = vec![
            peer("beta", "in sync"),
            PeerView {
                software: "x".repeat(255),
                clock_ahead_ns: ahead,
                round_trip_ms: None,
                ..peer("gamma", "in sync, receive-only, 3 local")
            },
        ];
        for (n, away_s, equal_ns) in [(1, Some(3 * 3600), Some("1767225600000000000")), (2, None, None)] {
            peers.push(PeerView {
                device: DeviceId([n; 32]),
                linked: false,
                away_s,
                equal_ns: equal_ns.map(str::to_owned),
                ..peer(&format!("away-{n}"), "not linked")
            });
        }
        let equal_day = day("1767225600000000000");
        let shown = known(&peers).replace(&equal_day, "DAY");
        insta::assert_snapshot!(shown, @r"
        beta   abababab  in sync                         10.0.0.2:6000  dirsyncd 1.2.0                            0.4 ms  sent 2.0 KiB, received 1 B
        gamma  abababab  in sync, receive-only, 3 local  10.0.0.2:6000  xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx          sent 2.0 KiB, received 1 B
        the clock of gamma is 1 h 0 min ahead; set the wrong one

        not linked:
        away-1  01010101  last seen 3 h 0 min ago                  equal on DAY
        away-2  02020202  not seen since this machine keeps count  never compared equal
        ");
        assert!(known(&[]).starts_with("no machine is linked now"));
    }
}
