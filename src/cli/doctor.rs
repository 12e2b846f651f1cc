//! `dirsync doctor`: what the syncing of this folder needs, and what to do where it lacks that.
//!
//! Deliberately not here: what is looked at (`client/doctor.rs`).

use super::{Failure, place, say};
use crate::client::doctor::examine;
use crate::views::doctor::{DoctorView, Health};
use std::fmt::Write;
use std::path::PathBuf;

pub(super) async fn run(directory: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let place = place::CliPlace::find(directory)?;
    let found = examine(&place.folder).await;
    say(json, &found, shown)?;
    let faults = found.findings.iter().filter(|one| one.health == Health::Fault);
    let faults: Vec<_> = faults.map(|one| one.check.as_str()).collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failure::Attention(format!("not as it should be: {}", faults.join(", "))))
    }
}

fn shown(found: &DoctorView) -> String {
    let wide = found.findings.iter().map(|one| one.check.len()).max().unwrap_or_default();
    let mut out = String::new();
    for one in &found.findings {
        let mark = match one.health {
            Health::Fine => "fine",
            Health::Notice => "note",
            Health::Fault => "FAULT",
        };
        let _ = writeln!(out, "{mark:5}  {:wide$}  {}", one.check, one.text);
        if let Some(remedy) = &one.remedy {
            let _ = writeln!(out, "{:5}  {:wide$}  -> {remedy}", "", "");
        }
    }
    out
}
