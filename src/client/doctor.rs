//! Looks at everything that a folder's syncing needs of its machine, and says of each thing that it
//! is fine, or what to do. It changes nothing, and works without a daemon as far as it can.
//!
//! Deliberately not here: words in a table (`cli/doctor.rs`).

mod machine;
mod network;

use super::{Client, Folder};
use crate::humanize::{bytes, count, counted};
use crate::io::fs::{probe, stage};
use crate::views::doctor::{DoctorView, FindingView};
use crate::views::status::StatusView;
use rustix::fs::{Mode, OFlags};
use std::path::Path;

/// Of the inodes of a disk, so few are soon used up (%).
const FEW_PERCENT: u64 = 5;

/// Takes about as long as it listens: 4 s.
pub async fn examine(folder: &Folder) -> DoctorView {
    let mut findings = Vec::new();
    let answer = ask(folder).await;
    match &answer {
        Ok((pid, status)) => {
            findings.push(version(status));
            findings.push(standing(status));
            findings.push(network::port(status).await);
            findings.push(network::announcements(status).await);
            findings.extend(network::machines(status));
            findings.push(machine::watches(status));
            findings.extend(pid.and_then(machine::descriptors));
            findings.push(machine::state_folder(Path::new(&status.state_dir)));
            findings.push(machine::secret(Path::new(&status.state_dir)));
            findings.extend(lacks(status));
        }
        Err(why) => {
            findings.push(FindingView::fault("daemon", why, "start it, and run this again: more is looked at then"));
            findings.extend(machine::most_watches());
        }
    }
    findings.extend(abilities(folder));
    findings.extend(room(folder));
    findings.push(machine::unit(&folder.path));
    DoctorView::new(findings)
}

async fn ask(folder: &Folder) -> Result<(Option<i32>, StatusView), String> {
    let asked = async {
        let mut client: Client = folder.connect().await?;
        let status = client.get("/v1/status", &[]).await?;
        Ok::<_, super::ClientError>((client.pid, status))
    };
    asked.await.map_err(|why| why.to_string())
}

fn version(status: &StatusView) -> FindingView {
    let (ours, its) = (env!("CARGO_PKG_VERSION"), &status.version);
    if its == ours {
        return FindingView::fine("daemon", format!("runs, version {its}"));
    }
    let text = format!("runs, version {its}; this is dirsync {ours}");
    FindingView::notice("daemon", text, "restart the daemon, so that both are of one version")
}

fn standing(status: &StatusView) -> FindingView {
    let condition = &status.condition;
    let held = condition.held_deletions + condition.held_reverts + condition.held_unignored;
    if let Some(why) = &status.halted {
        return FindingView::fault("folder", format!("syncing is stopped: {why}"), "'dirsync status' says more");
    }
    if held > 0 {
        let text = format!("{} held back", counted(held, "change is", "changes are"));
        return FindingView::notice("folder", text, "'dirsync held' shows them; 'confirm' and 'undo' decide");
    }
    if condition.problems > 0 {
        let text = format!("{} a person", counted(condition.problems, "path needs", "paths need"));
        return FindingView::notice("folder", text, "'dirsync status' names them");
    }
    if status.paused {
        return FindingView::notice("folder", "syncing is paused", "'dirsync resume' goes on");
    }
    FindingView::fine("folder", format!("{} files in {} folders", count(status.files), count(status.directories)))
}

fn lacks(status: &StatusView) -> Option<FindingView> {
    let said = status.lacks.join(", ");
    (!said.is_empty()).then(|| {
        let text = format!("the folder's has {said}");
        FindingView::notice(
            "file system",
            text,
            "what it lacks is kept on the other machines; ext4, XFS and Btrfs have all",
        )
    })
}

/// What makes replacing and copying cheap and whole, tried with files of our own.
fn abilities(folder: &Folder) -> Option<FindingView> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let staging = rustix::fs::openat(folder.private.as_ref()?, "staging", flags, Mode::empty()).ok()?;
    let found = match probe::abilities(&staging) {
        Ok(found) => found,
        Err(why) => {
            let text = format!("could not be tried: {why}");
            return Some(FindingView::notice("replacing", text, "run this as the daemon's user"));
        }
    };
    let words = [
        ("exchange names in one step", found.exchange),
        ("make files without a name", found.nameless),
        ("share equal blocks (reflinks)", found.reflink),
    ];
    let said = |wanted: bool| {
        let those = words.iter().filter(|(_, has)| *has == wanted).map(|(word, _)| *word);
        those.collect::<Vec<_>>().join(", ")
    };
    Some(if found.exchange {
        let without = said(false);
        let note =
            if without.is_empty() { String::new() } else { format!("; it cannot {without}, which costs time alone") };
        FindingView::fine("replacing", format!("the file system can {}{note}", said(true)))
    } else {
        let text = "the file system does not exchange two names in one step: who reads a file while it is replaced may \
                    find it missing for a moment";
        FindingView::notice("replacing", text, "keep the folder on ext4, XFS, Btrfs or tmpfs")
    })
}

fn room(folder: &Folder) -> Option<FindingView> {
    let disk = rustix::fs::fstatvfs(&folder.dir).ok().filter(|disk| disk.f_blocks > 0)?;
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let reserve = stage::reserve_bytes(all);
    let few_inodes = disk.f_files > 0 && disk.f_favail < disk.f_files / 100 * FEW_PERCENT;
    let text = format!("{} of {} are free", bytes(free), bytes(all));
    Some(if few_inodes {
        let left = format!("{text}, and {} of {} inodes", count(disk.f_favail), count(disk.f_files));
        FindingView::notice("disk", left, "remove files, or make the file system anew with more inodes")
    } else if free < reserve {
        let left = format!("{text}: nothing more is fetched until {} are", bytes(reserve));
        FindingView::fault("disk", left, "free some space")
    } else if free < 2 * reserve {
        FindingView::notice("disk", text, format!("free some space: nothing is fetched below {}", bytes(reserve)))
    } else {
        FindingView::fine("disk", text)
    })
}
