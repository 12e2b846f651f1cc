//! What remote changes replaced or deleted: `.dirsync/history` (P2).
//!
//! One flat folder; each name says when, why and which path: `{time_ns:020}.{reason}.{path}`, the path with `%XX` for
//! '%', '/' and whatever is not printable. A name over 200 bytes is cut and ends in `~` and 16 digits of BLAKE3(path);
//! the whole path is then beside it in `{name}.path`. May import `engine`'s values and `model`. Deliberately not
//! here: putting things in (`apply::place`) and back (`apply::restore`).

use super::beneath;
use super::fail::{self, Point};
use super::root::Root;
use super::stage::Stage;
use crate::engine::{Keep, StatKind};
use crate::model::{FileTime, Mode, SyncPath, text};
use rustix::fs::AtFlags;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;
const CONFLICT_NS: u64 = 30 * DAY_NS;
const DELETED_NS: u64 = 30 * DAY_NS;
const REPLACED_NS: u64 = 7 * DAY_NS;
/// All of history together: this share of the file system.
const QUOTA_PERCENT: u64 = 10;
const NAME_BYTES: usize = 200;
const SIDECAR: &str = ".path";

/// Something kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Its name in history, which `restore` takes.
    pub name: String,
    /// Where it was.
    pub path: SyncPath,
    /// When it was put here, nanoseconds since 1970.
    pub time_ns: u64,
    pub reason: Keep,
    /// Bytes.
    pub size: u64,
    pub kind: StatKind,
    pub mode: Mode,
    pub mtime: FileTime,
}

/// The history of one folder.
#[derive(Debug)]
pub struct History {
    pub(super) root: Arc<Root>,
    pub(super) stage: Arc<Stage>,
}

impl History {
    /// Nothing may be installing yet.
    pub fn open(root: Arc<Root>, stage: Arc<Stage>) -> Arc<Self> {
        let history = Self { root, stage };
        if let Err(why) = history.tidy() {
            tracing::warn!("history cannot be tidied: {why}");
        }
        Arc::new(history)
    }

    /// A path's text whose item a crash kept from coming, or took first, speaks of nothing.
    fn tidy(&self) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(self.root.history())? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| name.len() > NAME_BYTES + SIDECAR.len())
            else {
                continue;
            };
            if let Some(item) = name.strip_suffix(SIDECAR)
                && beneath::stat_at(self.root.history(), item.as_bytes())?.is_none()
            {
                self.release(item);
            }
        }
        Ok(())
    }

    /// What is kept, newest first; of one path, or of all.
    pub fn list(&self, path: Option<&SyncPath>) -> io::Result<Vec<Kept>> {
        let mut all = self.items()?.into_iter().filter_map(Item::into_kept).collect::<Vec<_>>();
        all.retain(|kept| path.is_none_or(|path| kept.path == *path));
        all.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(all)
    }

    /// A name for something about to be kept. A long path is written beside it; `true`: that was so.
    pub(super) fn reserve(&self, reason: Keep, path: &SyncPath) -> rustix::io::Result<(String, bool)> {
        let UniqueName { name, is_cut } = unique_name(reason, path.as_bytes());
        if is_cut {
            let created =
                fail::at(Point::HistoryPath).and_then(|()| beneath::create(self.root.history(), &sidecar(&name)));
            let written = created.and_then(|mut file| {
                file.write_all(path.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| super::trouble::errno(&e))
            });
            if let Err(e) = written {
                self.release(&name);
                return Err(e);
            }
        }
        Ok((name, is_cut))
    }

    /// The reserved name was not used.
    pub(super) fn release(&self, name: &str) {
        if name.len() > NAME_BYTES {
            let _ = rustix::fs::unlinkat(self.root.history(), sidecar(name), AtFlags::empty());
        }
    }

    /// Removes what is too old, then the oldest until the rest is within its share of the file system; losers of
    /// conflicts last. Returns how many went. `now`: nanoseconds since 1970.
    pub fn prune(&self, now: u64) -> io::Result<usize> {
        let disk = rustix::fs::fstatvfs(self.root.history())?;
        self.prune_to(now, disk.f_blocks.saturating_mul(disk.f_frsize) / 100 * QUOTA_PERCENT)
    }

    fn prune_to(&self, now: u64, quota_bytes: u64) -> io::Result<usize> {
        let mut items = self.items()?;
        // Folders are here only after a crash; nothing is removed recursively.
        items.retain(|item| item.facts.stat.kind != StatKind::Directory);
        items.sort_by(|a, b| (a.reason == Keep::Conflict, &a.name).cmp(&(b.reason == Keep::Conflict, &b.name)));
        let mut total: u64 = items.iter().map(|item| item.facts.stat.size).sum();
        let mut removed = 0;
        for item in items {
            if item.time_ns.saturating_add(lifetime_ns(item.reason)) >= now && total <= quota_bytes {
                continue;
            }
            rustix::fs::unlinkat(self.root.history(), item.name.as_str(), AtFlags::empty())?;
            fail::after(Point::PruneRemoved);
            self.release(&item.name);
            total -= item.facts.stat.size;
            removed += 1;
        }
        Ok(removed)
    }

    fn items(&self) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.root.history())? {
            let entry = entry?;
            let Some((name, parsed)) = entry.file_name().to_str().ok().and_then(|n| Some((n, parse(n)?))) else {
                continue;
            };
            let Some(facts) = beneath::facts_at(self.root.history(), name.as_bytes())? else { continue };
            let path = if name.len() > NAME_BYTES { self.read_sidecar(name) } else { unescape(parsed.path) };
            let path = path.and_then(|bytes| SyncPath::new(bytes).ok());
            items.push(Item { name: name.to_owned(), time_ns: parsed.time_ns, reason: parsed.reason, path, facts });
        }
        Ok(items)
    }

    fn read_sidecar(&self, name: &str) -> Option<Vec<u8>> {
        let (file, _) = beneath::regular(self.root.history(), sidecar(name).as_bytes()).ok()??;
        let mut path = Vec::new();
        file.take(8192).read_to_end(&mut path).ok()?;
        Some(path)
    }
}

struct Item {
    name: String,
    time_ns: u64,
    reason: Keep,
    /// `None` when its text is malformed or its sidecar is gone.
    path: Option<SyncPath>,
    facts: beneath::Facts,
}

impl Item {
    fn into_kept(self) -> Option<Kept> {
        let stat = self.facts.stat;
        let (name, path, time_ns, reason) = (self.name, self.path?, self.time_ns, self.reason);
        Some(Kept { name, path, time_ns, reason, size: stat.size, kind: stat.kind, mode: stat.mode, mtime: stat.mtime })
    }
}

pub(super) struct UniqueName {
    pub name: String,
    pub is_cut: bool,
}

/// A name that this process has not used before, later than all that it has used.
pub(super) fn unique_name(reason: Keep, path: &[u8]) -> UniqueName {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let later = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
    name_at(later(last.unwrap_or_default()), reason, path)
}

fn name_at(time_ns: u64, reason: Keep, path: &[u8]) -> UniqueName {
    let mut name = format!("{time_ns:020}.{}.", word(reason));
    escape_into(&mut name, path);
    let is_cut = name.len() > NAME_BYTES;
    if is_cut {
        name.truncate(name.floor_char_boundary(NAME_BYTES));
        name.push('~');
        name.push_str(&text::hex(&blake3::hash(path).as_bytes()[..8]));
    }
    UniqueName { name, is_cut }
}

fn sidecar(name: &str) -> String {
    format!("{name}{SIDECAR}")
}

struct Parsed<'a> {
    time_ns: u64,
    reason: Keep,
    path: &'a str,
}

fn parse(name: &str) -> Option<Parsed<'_>> {
    if name.len() > NAME_BYTES && name.ends_with(SIDECAR) {
        return None;
    }
    let mut parts = name.splitn(3, '.');
    let time_ns = parts.next().filter(|digits| digits.len() == 20)?.parse().ok()?;
    let reason = match parts.next()? {
        "replaced" => Keep::Replaced,
        "deleted" => Keep::Deleted,
        "conflict" => Keep::Conflict,
        _ => return None,
    };
    Some(Parsed { time_ns, reason, path: parts.next()? })
}

fn word(reason: Keep) -> &'static str {
    match reason {
        Keep::Replaced => "replaced",
        Keep::Deleted => "deleted",
        Keep::Conflict => "conflict",
    }
}

fn lifetime_ns(reason: Keep) -> u64 {
    match reason {
        Keep::Replaced => REPLACED_NS,
        Keep::Deleted => DELETED_NS,
        Keep::Conflict => CONFLICT_NS,
    }
}

/// Printable text but '%' and '/' as it is, the rest as `%XX`.
fn escape_into(out: &mut String, path: &[u8]) {
    let push_hex = |out: &mut String, bytes: &[u8]| {
        for &b in bytes {
            out.push('%');
            out.push_str(&text::hex(&[b]));
        }
    };
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            let plain = c.is_ascii_graphic() && !matches!(c, '%' | '/');
            let printable = !c.is_ascii() && !text::escape(c.encode_utf8(&mut [0; 4]).as_bytes()).starts_with('\\');
            if plain || printable || c == ' ' {
                out.push(c);
            } else {
                push_hex(out, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        push_hex(out, chunk.invalid());
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    out.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let [byte] = text::from_hex::<1>(part.get(..2)?)?;
        out.push(byte);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(dir: &std::path::Path) -> Arc<History> {
        let root = Arc::new(Root::open(dir).unwrap());
        History::open(Arc::clone(&root), Stage::open(root).unwrap())
    }

    fn put(dir: &std::path::Path, time_ns: u64, reason: Keep, path: &str, content: &[u8]) -> String {
        let name = name_at(time_ns, reason, path.as_bytes()).name;
        std::fs::write(dir.join(".dirsync/history").join(&name), content).unwrap();
        name
    }

    proptest! {
        #[test]
        fn a_name_says_when_why_and_which_path(bytes in proptest::collection::vec(any::<u8>(), 1..60), time_ns: u64) {
            let UniqueName { name, is_cut } = name_at(time_ns, Keep::Deleted, &bytes);
            let parsed = parse(&name).unwrap();
            prop_assert_eq!((parsed.time_ns, parsed.reason), (time_ns, Keep::Deleted));
            prop_assert!(!name.contains('/') && !name.contains('\0'));
            prop_assert!(is_cut || unescape(parsed.path) == Some(bytes));
        }
    }

    #[test]
    fn a_long_path_comes_back_from_its_sidecar() {
        let temp = tempfile::tempdir().unwrap();
        let history = history(temp.path());
        for path in [vec![b'x'; 255], [vec![0xff; 200], b"/.path".to_vec()].concat(), "é/".repeat(90).into_bytes()] {
            let path = SyncPath::new(path.strip_suffix(b"/").unwrap_or(&path)).unwrap();
            let (name, is_cut) = history.reserve(Keep::Conflict, &path).unwrap();
            assert!(is_cut && name.len() + SIDECAR.len() <= 255);
            std::fs::write(temp.path().join(".dirsync/history").join(&name), "x").unwrap();
            let listed = history.list(Some(&path)).unwrap();
            assert_eq!(listed.len(), 1);
            assert_eq!((&listed[0].name, &listed[0].path), (&name, &path));
        }
        assert_eq!(history.list(None).unwrap().len(), 3);
        history.prune_to(u64::MAX, u64::MAX).unwrap();
        assert_eq!(std::fs::read_dir(temp.path().join(".dirsync/history")).unwrap().count(), 0, "sidecars go too");
    }

    #[test]
    fn a_path_whose_item_never_came_goes_at_the_next_start() {
        let temp = tempfile::tempdir().unwrap();
        let path = SyncPath::new(vec![b'x'; 255]).unwrap();
        let first = history(temp.path());
        let (kept, _) = first.reserve(Keep::Replaced, &path).unwrap();
        std::fs::write(temp.path().join(".dirsync/history").join(&kept), "x").unwrap();
        first.reserve(Keep::Replaced, &path).unwrap();
        drop(first);
        let next = history(temp.path());
        assert_eq!(next.list(None).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(temp.path().join(".dirsync/history")).unwrap().count(), 2);
    }

    #[test]
    fn names_made_in_one_instant_differ() {
        let names: std::collections::BTreeSet<_> = (0..1000).map(|_| unique_name(Keep::Replaced, b"a").name).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn age_then_quota_decide_what_goes_and_losers_of_conflicts_go_last() {
        let temp = tempfile::tempdir().unwrap();
        let history = history(temp.path());
        let now = 100 * DAY_NS;
        put(temp.path(), now - 8 * DAY_NS, Keep::Replaced, "old-replaced", b"12345");
        put(temp.path(), now - 31 * DAY_NS, Keep::Deleted, "old-deleted", b"12345");
        put(temp.path(), now - 31 * DAY_NS, Keep::Conflict, "old-conflict", b"12345");
        let loser = put(temp.path(), now - 20 * DAY_NS, Keep::Conflict, "loser", b"12345");
        let deleted = put(temp.path(), now - 8 * DAY_NS, Keep::Deleted, "deleted", b"12345");
        let replaced = put(temp.path(), now - 6 * DAY_NS, Keep::Replaced, "replaced", b"12345");
        let names =
            |history: &History| history.list(None).unwrap().into_iter().map(|kept| kept.name).collect::<Vec<_>>();
        assert_eq!(history.prune_to(now, 1000).unwrap(), 3);
        assert_eq!(names(&history), [replaced.clone(), deleted, loser.clone()]);
        history.prune_to(now, 10).unwrap();
        assert_eq!(names(&history), [replaced, loser.clone()]);
        history.prune_to(now, 5).unwrap();
        assert_eq!(names(&history), [loser]);
    }
}
