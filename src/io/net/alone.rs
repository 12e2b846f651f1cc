//! What a machine that is linked with nobody says about that: once, and then hourly.
//!
//! Deliberately not here: who is heard (`presence`), and who is dialled (`dial`).

use crate::humanize::{counted, listed};
use crate::io::net::hub::{Hub, Links};
use std::sync::Arc;

/// Says for ever how it is while nobody is linked who could tell of a change.
pub async fn say_so(hub: Arc<Hub>, broadcast_port: u16) {
    let is_alone = |links: &Links| !links.up.values().any(|link| link.capability.writes());
    loop {
        hub.until(is_alone).await;
        let linked = hub.until(|links| !is_alone(links));
        if tokio::time::timeout(hub.times().alone, linked).await.is_err() {
            let readers: Vec<_> = hub.lock().up.values().map(|link| link.name.clone()).collect();
            let said = match readers[..] {
                [] => line(hub.members.heard_now(), &hub.foreign.names(), broadcast_port),
                _ => format!(
                    "all that is linked may only read ({}): no change of another machine comes through them",
                    listed(&readers)
                ),
            };
            tracing::info!(kind = "alone", "{said}");
            tokio::time::sleep(hub.times().alone_again).await;
        }
    }
}

fn line(members: usize, foreign: &[String], broadcast_port: u16) -> String {
    if members > 0 {
        return format!(
            "{} heard, and none can be linked: is the TCP port of each open in its firewall?",
            counted(members as u64, "machine of this group is", "machines of this group are")
        );
    }
    if !foreign.is_empty() {
        let there = counted(foreign.len() as u64, "machine of another group is", "machines of another group are");
        return format!(
            "{there} here: {}. To join, run 'dirsync invite' there and start this one with \
             --join; or the other way round",
            listed(foreign)
        );
    }
    format!(
        "no other machine is heard on UDP port {broadcast_port}: does dirsyncd run there, with \
         the same --broadcast-port, and are that port and its TCP port open in both firewalls? To \
         add a machine, run 'dirsync invite' here; where no broadcast reaches it, name it with \
         --peer HOST:PORT"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_machine_says_what_it_hears_and_what_to_do() {
        let names = ["alpha".to_owned(), "beta".to_owned()];
        let foreign = line(0, &names, 5000);
        assert!(
            foreign.starts_with("2 machines of another group are here: alpha and beta. To join, run 'dirsync invite'")
        );
        assert!(line(0, &names[..1], 5000).starts_with("1 machine of another group is here: alpha."));
        assert!(line(0, &[], 5001).starts_with("no other machine is heard on UDP port 5001"));
        assert!(line(1, &names, 5000).starts_with("1 machine of this group is heard, and none can be linked"));
    }
}
