//! What of the network reaches this machine: its own ports, and the broadcasts of the others.
//!
//! Anyone can send such a datagram: what it says is shown, and nothing follows from it.

use crate::humanize::duration;
use crate::io::net::challenge::own_addresses;
use crate::model::{DeviceId, text};
use crate::views::doctor::FindingView;
use crate::views::status::StatusView;
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

/// A daemon announces itself every 3 s.
const LISTENED_FOR: Duration = Duration::from_secs(4);
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
const DATAGRAM_BYTES: usize = 1024;
/// More machines are not named.
const MOST_NAMED: usize = 64;

/// That something takes connections where the daemon says that it does.
pub(super) async fn port(status: &StatusView) -> FindingView {
    let (check, port) = ("TCP port", status.listen_port);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match timeout(CONNECTED_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => FindingView::fine(check, format!("{port} takes connections of this machine")),
        Ok(Err(why)) => {
            let text = format!("nothing is let through to {port} on this very machine: {why}");
            FindingView::fault(check, text, format!("allow TCP port {port} in this machine's firewall"))
        }
        Err(_) => {
            let text = format!("what is sent to {port} on this very machine is dropped");
            FindingView::fault(check, text, format!("allow TCP port {port} in this machine's firewall"))
        }
    }
}

/// A machine that announced itself.
#[derive(Deserialize)]
struct AnnouncedMachine {
    device: DeviceId,
    name: String,
}

/// Which broadcasts come here, the daemon's own among them.
pub(super) async fn announcements(status: &StatusView) -> FindingView {
    let (check, port) = ("broadcasts", status.broadcast_port);
    let announced = match listen(port, status).await {
        Ok(announced) => announced,
        Err(why) => {
            let text = format!("UDP port {port} cannot be listened on beside the daemon: {why}");
            return FindingView::notice(check, text, "run this as the daemon's user");
        }
    };
    judge(status, &announced)
}

fn judge(status: &StatusView, announced: &BTreeMap<DeviceId, (String, IpAddr)>) -> FindingView {
    let (check, port) = ("broadcasts", status.broadcast_port);
    let comes_back = announced.contains_key(&status.device);
    let others: Vec<_> = announced.iter().filter(|(device, _)| **device != status.device).collect();
    let names: Vec<_> = others
        .iter()
        .map(|(device, (name, from))| {
            let note = if is_known(status, device) { "" } else { ", not linked: of another group, or kept out" };
            format!("{} ({from}{note})", text::escape(name.as_bytes()))
        })
        .collect();
    if !comes_back {
        let text = format!("this machine's own broadcast to UDP port {port} does not come back to it");
        let remedy = format!(
            "see whether an interface is up ('ip addr') and the firewall lets UDP port {port} in; where broadcasts do \
             not go, name the machines with --peer"
        );
        return FindingView::fault(check, text, remedy);
    }
    if names.is_empty() {
        let text =
            format!("this machine's own comes back; no other machine announced itself in {}", seconds(LISTENED_FOR));
        if !status.peers.is_empty() {
            return FindingView::notice(check, text, "the machines are linked all the same, by --peer or from before");
        }
        let remedy = format!(
            "on the others, see that the daemon runs, and that UDP port {port} and TCP port {} are let in there and \
             here; where broadcasts do not go, name them with --peer",
            status.listen_port
        );
        return FindingView::notice(check, text, remedy);
    }
    FindingView::fine(check, format!("this machine's own comes back; so do those of {}", names.join(", ")))
}

fn is_known(status: &StatusView, device: &DeviceId) -> bool {
    status.peers.iter().any(|peer| peer.device == *device) || status.devices.iter().any(|one| one.device == *device)
}

fn seconds(time: Duration) -> String {
    duration(time.as_nanos() as u64)
}

/// All that is announced on this port for some seconds.
async fn listen(port: u16, status: &StatusView) -> io::Result<BTreeMap<DeviceId, (String, IpAddr)>> {
    let socket = bind(port)?;
    let (mut announced, mut datagram) = (BTreeMap::new(), [0; DATAGRAM_BYTES]);
    let own = own_addresses();
    let is_own = |from: IpAddr| matches!(from, IpAddr::V4(from) if own.contains(&from));
    let until = Instant::now() + LISTENED_FOR;
    while let Ok(received) = timeout_at(until, socket.recv_from(&mut datagram)).await {
        let (length, from) = received?;
        let Some(machine) = machine(&datagram[..length]) else { continue };
        // Anyone can say our name, and so many others that none of ours is left.
        let is_ours = machine.device == status.device;
        let is_meant = if is_ours { is_own(from.ip()) } else { is_known(status, &machine.device) };
        if is_meant || (!is_ours && announced.len() < MOST_NAMED) {
            announced.insert(machine.device, (machine.name, from.ip()));
        }
    }
    Ok(announced)
}

/// What follows the first line, which proves something to its group alone.
fn machine(datagram: &[u8]) -> Option<AnnouncedMachine> {
    let at = datagram.iter().position(|&byte| byte == b'\n')?;
    serde_json::from_slice(&datagram[at + 1..]).ok()
}

/// Broadcasts go to all that have bound a port so.
fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// The links, their clocks and versions, and what was named and leads nowhere.
pub(super) fn machines(status: &StatusView) -> Vec<FindingView> {
    let mut found = Vec::new();
    let linked: Vec<_> = status.peers.iter().map(|peer| peer.name.as_str()).collect();
    found.push(if linked.is_empty() {
        let remedy = "see 'broadcasts' above; 'dirsync invite' lets another machine in";
        FindingView::notice("links", "no other machine is linked", remedy)
    } else {
        FindingView::fine("links", format!("linked with {}", linked.join(", ")))
    });
    for unreached in &status.peers_not_reached {
        let text = format!("--peer {} {}", unreached.address, unreached.text);
        found.push(FindingView::fault("links", text, "see whether the address is right and its daemon runs"));
    }
    let off: Vec<_> = status.peers.iter().filter_map(clock).collect();
    found.push(if off.is_empty() {
        FindingView::fine("clocks", "none of the linked machines' is off")
    } else {
        FindingView::fault("clocks", off.join(", "), "turn on time synchronisation: timedatectl set-ntp true")
    });
    let own = format!("dirsyncd {}", status.version);
    for peer in status.peers.iter().filter(|peer| !peer.software.is_empty() && peer.software != own) {
        let text = format!("{} runs {}, this machine {own}", peer.name, peer.software);
        found.push(FindingView::notice("versions", text, "install the same version on all machines"));
    }
    found
}

fn clock(peer: &crate::views::status::PeerView) -> Option<String> {
    let ahead: i64 = peer.clock_ahead_ns.as_deref()?.parse().ok()?;
    let way = if ahead > 0 { "ahead" } else { "behind" };
    Some(format!("{}'s is {} {way}", peer.name, duration(ahead.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_names_its_machine_and_junk_names_none() {
        let device = "ab".repeat(32);
        let said = format!("{}\n{{\"device\":\"{device}\",\"name\":\"nas\",\"port\":1}}", "0".repeat(64));
        assert_eq!(machine(said.as_bytes()).unwrap().name, "nas");
        for junk in ["", "\n", "\n{}", "no line", "x\n{\"device\":\"00\",\"name\":\"a\"}"] {
            assert!(machine(junk.as_bytes()).is_none(), "{junk:?}");
        }
    }
}
