//! What the simulated shell finds and puts in place: trees before and after a change.

use super::bugs::Bug;
use super::disk::PathChange;
use super::rng::Rng;
use super::tree::{Body, Data, Ino, Inode, ROOT, Tree};
use super::users;
use dirsyncd::engine::{Cause, Hint, Job, Observed, Outcome, ServedFile, Source, StageId, Stat, StatKind, Trouble};
use dirsyncd::model::{FileTime, Kind, SyncPath};
use dirsyncd::wire::message::SMALL_FILE_BYTES;

pub fn observe(inode: &Inode, stat: Stat, body: bool) -> Observed {
    match &inode.body {
        Body::Directory(_) => Observed::Directory { stat },
        Body::Symlink(target) => Observed::Symlink { stat, target: target.clone() },
        Body::Special(what) => Observed::Special { what },
        Body::File(data) => {
            let small = data.padding == 0 && data.size() <= SMALL_FILE_BYTES;
            Observed::File { stat, content: data.content(), body: (body && small).then(|| data.text.clone()) }
        }
    }
}

/// A file's bytes, if it still is as it was when its content was known.
pub fn read(live: &Tree, file: &ServedFile) -> Option<Data> {
    let (ino, inode) = live.get(&live.spelled(&file.path))?;
    match &inode.body {
        Body::File(data) if inode.stat(ino) == file.stat => Some(data.clone()),
        _ => None,
    }
}

/// The inode of the folder that holds `path`, before or after the changes.
pub fn folder_of(changes: &[PathChange], live: &Tree, path: &SyncPath, before: bool) -> Option<Ino> {
    let Some(dir) = path.parent() else { return Some(ROOT) };
    match changes.iter().find(|change| change.path == dir) {
        Some(change) => (if before { &change.before } else { &change.after }).as_ref().map(|(ino, _)| *ino),
        None => live.folder(Some(&dir)),
    }
}

pub fn hints_of(change: &PathChange, closed: bool, both: bool) -> [Option<Hint>; 2] {
    let end = if closed { Hint::Closed } else { Hint::Changed };
    match (&change.before, &change.after) {
        (_, None) => [Some(Hint::Gone), None],
        // The times of a folder change with its children; inotify is silent about that.
        (Some((a, was)), Some((b, is))) if a == b && is.is_directory() => {
            [(was.mode != is.mode).then_some(Hint::Changed), None]
        }
        (Some((a, was)), Some((b, is))) if a == b && was.body == is.body => [Some(Hint::Changed), None],
        // What is no file is whole when it appears.
        (_, Some((_, is))) if !matches!(is.body, Body::File(_)) => [Some(Hint::Closed), None],
        _ => [both.then_some(Hint::Changed), Some(end)],
    }
}

/// Whether a path still is what a job expects. A folder's times and size change with its children.
pub fn is_expected(now: Option<Stat>, expect: Option<Stat>) -> bool {
    match (now, expect) {
        (Some(now), Some(expect)) if expect.kind == StatKind::Directory => {
            (now.kind, now.ino, now.mode) == (expect.kind, expect.ino, expect.mode)
        }
        _ => now == expect,
    }
}

/// Now and then, what a disk or a person may do to an install.
pub fn trouble(rng: &mut Rng, permille: u64) -> Option<Trouble> {
    let causes = [Cause::NoSpace, Cause::Denied, Cause::Other];
    rng.chance(permille).then(|| Trouble { cause: *rng.pick(&causes), text: "the disk is in trouble".to_owned() })
}

/// A content that was staged before the job is in staging still.
pub fn refused(job: &Job, trouble: Trouble) -> Outcome {
    if matches!(job.source, Source::Staged(_)) { Outcome::Refused(trouble) } else { Outcome::Failed(trouble) }
}

pub fn no_space() -> Trouble {
    Trouble { cause: Cause::NoSpace, text: "no space left".to_owned() }
}

/// Stages and verifies what a job installs, unless it is `trusted`; `None` for what has no bytes.
pub fn prepare(
    tree: &Tree,
    staging: &std::collections::BTreeMap<StageId, Data>,
    job: &Job,
    trusted: bool,
) -> Result<Option<Data>, Outcome> {
    let staged = match &job.source {
        Source::Nothing | Source::InPlace | Source::Rename { .. } => None,
        Source::Bytes(bytes) => Some(Data::small(bytes.clone())),
        Source::Staged(stage) => Some(staging.get(stage).cloned().ok_or(Outcome::NoSource)?),
        Source::Copy { from, stat } => {
            match tree.get(&tree.spelled(from)).map(|(ino, inode)| (inode.stat(ino), &inode.body)) {
                Some((now, Body::File(data))) if now == *stat => Some(data.clone()),
                _ => return Err(Outcome::NoSource),
            }
        }
        Source::Kept { kept, .. } => match tree.history.get(kept).map(|ino| &tree.inodes[ino].body) {
            Some(Body::File(data)) => Some(data.clone()),
            _ => return Err(Outcome::NoSource),
        },
    };
    match (&job.entry.kind, &staged) {
        (Kind::File { content, .. }, Some(data)) if data.content() != *content && !trusted => Err(Outcome::BadContent),
        (Kind::File { .. }, None) if !matches!(job.source, Source::InPlace | Source::Rename { .. }) => {
            Err(Outcome::NoSource)
        }
        _ => Ok(staged),
    }
}

/// The exchange, as one moment: checks, swaps, keeps what came out. What is returned is read back.
pub fn swap(
    tree: &mut Tree,
    job: &Job,
    staged: Option<Data>,
    kept: &str,
    time: FileTime,
    bug: Option<Bug>,
) -> Result<(Option<Stat>, Option<String>), Outcome> {
    if let Source::Rename { from, stat } = &job.source {
        return respell(tree, (from, &job.path), stat, time);
    }
    // A folder by another spelling is another folder.
    let path = &tree.spelled(&job.path);
    if tree.folder(job.path.parent().as_ref()).is_none() {
        return if job.entry.is_live() || job.expect.is_some() { Err(Outcome::NoParent) } else { Ok((None, None)) };
    }
    if !is_expected(tree.stat(path), job.expect) {
        let is_taken = job.expect.is_none() && path.name() != job.path.name();
        return Err(if is_taken { Outcome::Taken } else { Outcome::Stale });
    }
    if path.name() != job.path.name() && tree.folder(Some(path)).is_some() {
        return Err(Outcome::Stale);
    }
    let old = tree.lookup(path);
    if job.source == Source::InPlace || (job.entry.is_directory() && tree.folder(Some(path)).is_some()) {
        let inode = tree.edit(old.ok_or(Outcome::Stale)?);
        if let (Body::File(data), Kind::File { content, .. }) = (&inode.body, &job.entry.kind)
            && data.content() != *content
            && inode.mtime != job.entry.mtime
        {
            return Err(Outcome::NotItsContent);
        }
        set_attributes(inode, job, time);
        return Ok((tree.stat(path), None));
    }
    let is_full = old.is_some_and(|ino| tree.children(ino).is_some_and(|children| !children.is_empty()));
    if is_full && bug != Some(Bug::DeletesRecursively) {
        return Err(Outcome::NotEmpty);
    }
    let kept = old.and_then(|ino| put_away(tree, path, ino, kept, time));
    if let Some(ino) =
        kept.as_ref().filter(|_| bug == Some(Bug::ForgetsHistory)).and_then(|name| tree.history.remove(name))
    {
        tree.drop_inode(ino);
    }
    let body = match &job.entry.kind {
        Kind::Deleted { .. } => return Ok((None, kept)),
        Kind::Directory => Body::Directory([].into()),
        Kind::Symlink { target } => Body::Symlink(target.clone()),
        Kind::File { .. } => Body::File(staged.ok_or(Outcome::NoSource)?),
    };
    let mut inode = Inode::new(body, users::LINK_MODE, time);
    set_attributes(&mut inode, job, time);
    let ino = tree.add(inode);
    tree.link(path, ino, time);
    Ok((tree.stat(path), kept))
}

/// What is there by another spelling gets this one.
pub fn respell(
    tree: &mut Tree,
    (from, to): (&SyncPath, &SyncPath),
    stat: &Stat,
    time: FileTime,
) -> Result<(Option<Stat>, Option<String>), Outcome> {
    let from = tree.spelled(from);
    if tree.folder(to.parent().as_ref()).is_none() {
        return Err(Outcome::NoParent);
    }
    if !is_expected(tree.stat(&from), Some(*stat)) {
        return Err(Outcome::NoSource);
    }
    let ino = tree.unlink(&from, time).ok_or(Outcome::NoSource)?;
    tree.link(to, ino, time);
    Ok((tree.stat(to), None))
}

/// Permissions are set before the mtime.
pub fn half_adjusted(mut tree: Tree, ino: Ino, job: &Job, time: FileTime) -> Tree {
    let inode = tree.edit(ino);
    let mtime = inode.mtime;
    set_attributes(inode, job, time);
    inode.mtime = mtime;
    tree
}

/// To history; an empty folder goes for good.
pub fn put_away(tree: &mut Tree, path: &SyncPath, ino: Ino, kept: &str, time: FileTime) -> Option<String> {
    tree.unlink(path, time);
    if tree.children(ino).is_some() {
        tree.drop_inode(ino);
        return None;
    }
    tree.edit(ino).ctime = time;
    tree.history.insert(kept.to_owned(), ino);
    Some(kept.to_owned())
}

/// Links have no mode of their own, folders' mtimes are not kept.
pub fn set_attributes(inode: &mut Inode, job: &Job, time: FileTime) {
    inode.ctime = time;
    if !matches!(inode.body, Body::Symlink(_)) {
        inode.mode = job.entry.mode;
    }
    if !inode.is_directory() {
        inode.mtime = job.entry.mtime;
    }
}
