//! A LAN on one host: a namespace a machine, joined by one bridge, with cables that can be cut.
//! Needs root.
//!
//! Everything is named after this process, and taken down when dropped.

use super::disk::run;
use super::{Group, Machine};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Lan {
    prefix: String,
    hosts: u32,
}

impl Lan {
    /// A bridge and `hosts` namespaces, 10.77.0.1 and so on.
    pub fn new(hosts: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // An interface's name has at most 15 bytes.
        let prefix = format!("d{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lan = Self { prefix, hosts };
        run("ip", &["link", "add", &lan.bridge(), "type", "bridge"]);
        run("ip", &["link", "set", &lan.bridge(), "up"]);
        for host in 1..=hosts {
            lan.add(host);
        }
        lan
    }

    /// A machine of the group on host `host` (from 1).
    pub fn machine(&self, group: &Group, name: &str, host: u32) -> Machine {
        let mut machine = group.machine(name);
        // nsenter changes nothing but the network; `ip netns exec` would give it mounts of its own.
        machine.through = vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.space(host))];
        machine
    }

    /// Unplugs the cable.
    pub fn cut(&self, host: u32) {
        run("ip", &["link", "set", &self.cable(host), "down"]);
    }

    pub fn mend(&self, host: u32) {
        run("ip", &["link", "set", &self.cable(host), "up"]);
    }

    /// `one` and `other` no longer hear each other; both still reach the rest.
    pub fn part(&self, one: u32, other: u32) {
        for (here, there) in [(one, other), (other, one)] {
            let rule = format!(
                "add table inet part; add chain inet part in {{ type filter hook input priority 0; }}; \
                 add rule inet part in ip saddr 10.77.0.{there} drop"
            );
            run("nsenter", &[&format!("--net=/run/netns/{}", self.space(here)), "nft", &rule]);
        }
    }

    fn add(&self, host: u32) {
        let (space, cable) = (self.space(host), self.cable(host));
        run("ip", &["netns", "add", &space]);
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &space]);
        run("ip", &["link", "set", &cable, "master", &self.bridge(), "up"]);
        run("ip", &["-n", &space, "addr", "add", &format!("10.77.0.{host}/24"), "brd", "+", "dev", "eth0"]);
        run("ip", &["-n", &space, "link", "set", "eth0", "up"]);
        run("ip", &["-n", &space, "link", "set", "lo", "up"]);
    }

    fn bridge(&self) -> String {
        format!("{}b", self.prefix)
    }

    fn cable(&self, host: u32) -> String {
        format!("{}v{host}", self.prefix)
    }

    fn space(&self, host: u32) -> String {
        format!("{}h{host}", self.prefix)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let quietly = |args: &[&str]| {
            let _ = Command::new("ip").args(args).output();
        };
        for host in 1..=self.hosts {
            quietly(&["link", "del", &self.cable(host)]);
            quietly(&["netns", "del", &self.space(host)]);
        }
        quietly(&["link", "del", &self.bridge()]);
    }
}
