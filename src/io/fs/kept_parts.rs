//! Parts of large contents that an earlier run left in staging.

use crate::engine::StageId;
use crate::io::fs::beneath;
use crate::io::fs::part_log::Log;
use crate::io::fs::staging::{content_of, log_name, name, part_name};
use crate::model::ContentId;
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};

/// What is kept, and when its log was written last; `None` where one of the two files is not there.
pub fn kept(staging: impl AsFd) -> io::Result<BTreeMap<ContentId, Option<SystemTime>>> {
    let mut kept = BTreeMap::new();
    for item in rustix::fs::Dir::read_from(&staging)? {
        let item = item?;
        let Some(content) = item.file_name().to_str().ok().and_then(content_of) else { continue };
        let both = beneath::stat_at(&staging, part_name(&content).as_bytes())?.is_some();
        let log = beneath::stat_at(&staging, log_name(&content).as_bytes())?.filter(|_| both);
        let touched = log.map(|log| SystemTime::UNIX_EPOCH + Duration::from_secs(log.mtime.secs.max(0) as u64));
        kept.insert(content, touched);
    }
    Ok(kept)
}

/// Before staging is cleared at the start: what was whole and not yet installed gets its name back.
pub fn take_back(staging: impl AsFd) -> io::Result<()> {
    for content in kept(&staging)?.into_keys() {
        let Ok(log) = beneath::open(&staging, log_name(&content).as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW) else {
            continue;
        };
        if let Some(id) = Log::moved_to(File::from(log), content) {
            let (from, to) = (name(StageId(id)), part_name(&content));
            let _ = rustix::fs::renameat_with(&staging, from, &staging, to, rustix::fs::RenameFlags::NOREPLACE);
        }
    }
    Ok(())
}
