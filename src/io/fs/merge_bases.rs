//! `.dirsync/bases`: what texts once were, so that two edits of one can be merged; and the thread
//! that merges.
//!
//! A flat folder of zlib-compressed copies, each named by path, version and content. It holds
//! nothing that is not somewhere else too and may be deleted at any time: without a base there is
//! no merge, and the newest wins. Bounded in bytes, age and versions a path (P9). May import
//! `engine`'s values and `model`. Deliberately not here: which conflicts are merged, and what
//! becomes of a merge (`engine::conflict`).

use crate::engine::{Event, Merge, Stat, common_ancestor};
use crate::io::fs::beneath;
use crate::io::fs::history::History;
use crate::io::fs::queue::Queue;
use crate::io::fs::root::Root;
use crate::io::fs::stage::Stage;
use crate::io::{Events, merge3};
use crate::model::{ContentId, DeviceId, Entry, SyncPath, Version, text};
use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::AtFlags;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

const FOLDER: &str = "bases";
/// All bases together: this share of the file system.
const QUOTA_PERCENT: u64 = 1;
/// Of one path.
const VERSIONS: usize = 6;
/// Tidied after so many came.
const TIDY_EVERY: u32 = 5000;
/// Waiting to be copied, at most; what comes on top is forgotten.
const WAITING: usize = 65_536;

enum MergeBaseTask {
    Keep { path: SyncPath, entry: Entry, stat: Stat },
    Merge { path: SyncPath, ours: Entry, kept: String, theirs: Entry, stat: Stat },
}

/// The queue, and the thread's work.
pub struct Bases {
    root: Arc<Root>,
    stage: Arc<Stage>,
    history: Arc<History>,
    events: Events,
    queue: Queue<MergeBaseTask>,
}

/// A copy that is there.
struct Base {
    name: String,
    stamp: u64,
    author: DeviceId,
    counter: u64,
    content: ContentId,
}

impl Bases {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>, history: Arc<History>, events: Events) -> Self {
        Self { root, stage, history, events, queue: Queue::default() }
    }

    pub fn keep(&self, path: SyncPath, entry: Entry, stat: Stat) {
        self.queue.with(|tasks| {
            if tasks.len() < WAITING {
                tasks.push_back(MergeBaseTask::Keep { path, entry, stat });
            }
        });
    }

    pub fn merge(&self, path: SyncPath, ours: Entry, kept: String, theirs: Entry, stat: Stat) {
        // Somebody waits for it: before the copies.
        self.queue.with(|tasks| tasks.push_front(MergeBaseTask::Merge { path, ours, kept, theirs, stat }));
    }

    pub fn stop(&self) {
        self.queue.stop();
    }

    /// The thread: works until it is stopped.
    pub fn run(&self) {
        let mut dir = None;
        let mut since_tidied = 0;
        while let Some(task) = self.queue.wait(VecDeque::pop_front).flatten() {
            let opened = match &dir {
                Some(_) => Ok(()),
                None => self.root.own_folder(FOLDER).map(|folder| dir = Some(folder)),
            };
            let failed = match (&dir, task) {
                (Some(dir), MergeBaseTask::Keep { path, entry, stat }) => self.keep_one(dir, &path, &entry, &stat),
                (dir, MergeBaseTask::Merge { path, ours, kept, theirs, stat }) => {
                    let merge = match dir {
                        Some(dir) => self.merge_one(dir, &path, &ours, &kept, &theirs, &stat),
                        None => Ok(Merge::Impossible),
                    };
                    let (merge, failed) = match merge {
                        Ok(merge) => (merge, Ok(())),
                        Err(why) => (Merge::Impossible, Err(why)),
                    };
                    self.events.send(Event::Merged { path, kept, merge });
                    failed
                }
                (None, MergeBaseTask::Keep { .. }) => Ok(()),
            };
            since_tidied += 1;
            let tidied = match &dir {
                Some(dir) if since_tidied % TIDY_EVERY == 1 => tidy(dir),
                _ => Ok(()),
            };
            if let Err(why) = opened.and(failed).and(tidied) {
                tracing::warn!("what conflicts could be merged upon cannot be kept in .dirsync/{FOLDER}: {why}");
            }
        }
    }

    fn keep_one(&self, dir: &OwnedFd, path: &SyncPath, entry: &Entry, stat: &Stat) -> io::Result<()> {
        let Some((content, _)) = entry.file() else { return Ok(()) };
        let name = name(path, &entry.version, &content);
        if beneath::stat_at(dir, name.as_bytes())?.is_some() {
            return Ok(());
        }
        let Some(bytes) = self.read_at(path, stat, &content)?.filter(|bytes| merge3::text(bytes).is_some()) else {
            return Ok(());
        };
        let mut packed = Vec::new();
        ZlibEncoder::new(&bytes[..], Compression::fast()).read_to_end(&mut packed)?;
        // Torn by a crash, its content does not fit its name: it is then no base.
        beneath::create(dir, &name)?.write_all(&packed)
    }

    fn merge_one(
        &self,
        dir: &OwnedFd,
        path: &SyncPath,
        ours: &Entry,
        kept: &str,
        theirs: &Entry,
        stat: &Stat,
    ) -> io::Result<Merge> {
        let (Some((our_content, _)), Some((their_content, _))) = (ours.file(), theirs.file()) else {
            return Ok(Merge::Impossible);
        };
        let our_bytes = match self.history.open_kept(kept)? {
            Some(file) => read(file)?.filter(|bytes| ContentId::of(bytes) == our_content),
            None => None,
        };
        let Some(their_bytes) = self.read_at(path, stat, &their_content)? else { return Ok(Merge::Moved) };
        let bases = list(dir, Some(path))?;
        let base = common_ancestor(&ours.version, &theirs.version, &bases, |b| (b.stamp, b.author, b.counter));
        let base_bytes = base.map(|base| unpack(dir, base)).transpose()?.flatten();
        let (Some(ours), Some(base)) = (our_bytes, base_bytes) else { return Ok(Merge::Impossible) };
        let texts = (merge3::text(&base), merge3::text(&ours), merge3::text(&their_bytes));
        let (Some(base), Some(ours), Some(theirs)) = texts else { return Ok(Merge::Impossible) };
        let Some(merged) = merge3::merge(base, ours, theirs) else { return Ok(Merge::Impossible) };
        let (bytes, size) = (merged.as_bytes(), merged.len() as u64);
        let content = ContentId::of(bytes);
        let mut writer = self.stage.create(size).map_err(|trouble| io::Error::other(trouble.text))?;
        let staged = writer.write(bytes).and_then(|()| writer.finish(&content)).map_err(io::Error::other)?;
        Ok(Merge::Done { staged, size, content })
    }

    /// The file's bytes, if it is what it was; `None` if not.
    fn read_at(&self, path: &SyncPath, stat: &Stat, content: &ContentId) -> io::Result<Option<Vec<u8>>> {
        let Ok(parent) = beneath::folder(self.root.dir(), path.parent().as_ref()) else { return Ok(None) };
        let Ok(Some((file, facts))) = beneath::regular(&parent, path.name()) else { return Ok(None) };
        if facts.stat != *stat {
            return Ok(None);
        }
        Ok(read(file)?.filter(|bytes| ContentId::of(bytes) == *content))
    }
}

/// Removes all but the latest versions of each path, then the oldest beyond the quota.
fn tidy(dir: &OwnedFd) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(dir)?;
    let quota_bytes = disk.f_blocks.saturating_mul(disk.f_frsize) / 100 * QUOTA_PERCENT;
    let mut all = list(dir, None)?;
    all.sort_by_key(|base| std::cmp::Reverse(base.stamp));
    let (mut versions, mut total): (BTreeMap<&str, usize>, u64) = (BTreeMap::new(), 0);
    for base in &all {
        let size = beneath::stat_at(dir, base.name.as_bytes())?.map_or(0, |stat| stat.size);
        let count = versions.entry(base.name.split('-').next().unwrap_or_default()).or_default();
        *count += 1;
        if *count > VERSIONS || total + size > quota_bytes {
            rustix::fs::unlinkat(dir, base.name.as_str(), AtFlags::empty())?;
        } else {
            total += size;
        }
    }
    Ok(())
}

fn read(file: File) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(merge3::TEXT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() <= merge3::TEXT_BYTES))
}

fn unpack(dir: &OwnedFd, base: &Base) -> io::Result<Option<Vec<u8>>> {
    let Some((file, _)) = beneath::regular(dir, base.name.as_bytes())? else { return Ok(None) };
    let mut bytes = Vec::new();
    let limit = merge3::TEXT_BYTES as u64 + 1;
    let unpacked = ZlibDecoder::new(file.take(2 * limit)).take(limit).read_to_end(&mut bytes);
    Ok(Some(bytes).filter(|bytes| unpacked.is_ok() && ContentId::of(bytes) == base.content))
}

/// `<16 digits of BLAKE3(path)>-<stamp>-<counter>-<author>-<content>`.
fn name(path: &SyncPath, version: &Version, content: &ContentId) -> String {
    let (stamp, counter) = (version.stamp, version.counter());
    let (author, content) = (text::hex(&version.author.0), text::hex(&content.0));
    format!("{}-{stamp:020}-{counter}-{author}-{content}", mark(path))
}

fn mark(path: &SyncPath) -> String {
    text::hex(&blake3::hash(path.as_bytes()).as_bytes()[..8])
}

fn list(dir: impl AsFd, path: Option<&SyncPath>) -> io::Result<Vec<Base>> {
    let mark = path.map(mark);
    let mut bases = Vec::new();
    for item in rustix::fs::Dir::read_from(dir)? {
        let item = item?;
        let Ok(name) = item.file_name().to_str() else { continue };
        if mark.as_ref().is_none_or(|mark| name.starts_with(mark.as_str())) {
            bases.extend(parse(name));
        }
    }
    Ok(bases)
}

fn parse(name: &str) -> Option<Base> {
    let mut parts = name.split('-').skip(1);
    let stamp = parts.next()?.parse().ok()?;
    let counter = parts.next()?.parse().ok()?;
    let author = DeviceId(text::from_hex(parts.next()?)?);
    let content = ContentId(text::from_hex(parts.next()?)?);
    Some(Base { name: name.to_owned(), stamp, author, counter, content })
}
