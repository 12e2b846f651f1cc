//! What `dirsync peers` says of the machines that are known.

use crate::common::machine::text_of;
use crate::common::{Group, PATIENCE, converge, eventually};
use serde_json::json;

#[test]
fn a_machine_that_is_off_is_among_the_peers_with_when_it_was_linked_and_equal_last() {
    let (a, b) = Group::new().pair();
    converge(&[&a, &b]);
    let linked = eventually("the round trip is known", PATIENCE, || {
        let peers = a.json(&["peers"])?;
        if peers[0]["round_trip_ms"].is_f64() { Ok(peers) } else { Err(peers.to_string()) }
    });
    assert!(linked[0]["linked"] == true && linked[0]["equal_ns"].is_string(), "{linked}");
    let software = linked[0]["software"].as_str().expect("what it runs").to_owned();
    assert!(software.starts_with("dirsyncd ") && text_of(&a.cli(&["peers"])).contains(&software));
    b.stop();
    eventually("b is away", PATIENCE, || {
        let text = text_of(&a.cli(&["peers"]));
        let is_away = text.contains("no machine is linked now") && text.contains("last seen");
        if is_away && text.contains("equal on 2") { Ok(()) } else { Err(text) }
    });
    assert_eq!(a.json(&["peers"]).expect("a list"), json!([]), "programs ask for all");
    let all = a.json(&["peers", "--all"]).expect("a list");
    assert!(all[0]["name"] == "b" && all[0]["linked"] == false && all[0]["in_sync"] == false, "{all}");
}
