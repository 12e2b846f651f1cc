//! Contents that a program sends to be installed: each grows in `.dirsync/staging` under a name of
//! its own, and how much of it has come is the length of that file. So it goes on after a cut or a
//! kill.
//!
//! The name is of the path, the announced hash and the size: two uploads to one path do not mix.
//! It is hashed as it comes, and a large one is written past the page cache, as what comes from
//! other machines is. Deliberately not here: requests (`io/control/content/upload.rs`), and the way
//! into the folder (`install/change.rs`).

use super::beneath;
use super::direct::Target;
use super::root::Root;
use super::stage::{Bulk, Stage, WRITEBACK_BYTES};
use super::staging;
use super::trouble::trouble;
use crate::engine::{Cause, StageId, StatKind, Trouble};
use crate::io::clock::wall_ns;
use crate::model::{ContentId, SyncPath};
use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;
use rustls::crypto::hash::Context;
use rustls::crypto::ring;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One that nobody went on with for so long is removed (ns).
const KEPT_NS: u64 = 7 * 24 * 3600 * 1_000_000_000;
/// Unfinished ones at once.
const MOST: usize = 1000;
/// Read at once.
const PART_BYTES: u64 = 1 << 20;

/// What a program says that it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadKey {
    pub path: SyncPath,
    pub hash: AnnouncedHash,
    pub size: u64,
}

/// By which what came is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnouncedHash {
    Blake3([u8; 32]),
    Sha256([u8; 32]),
}

/// Why an upload does not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("this very upload is under way by another request; wait for that one")]
    Busy,
    #[error("there are {MOST} unfinished uploads; finish some, or remove .dirsync/staging/upload-* while stopped")]
    TooMany,
    #[error("what came has another hash than was announced, and is discarded; send it again")]
    OtherHash,
    #[error("{}", .0.text)]
    Disk(Trouble),
}

/// The uploads of a folder.
#[derive(Debug)]
pub struct Uploads {
    root: Arc<Root>,
    stage: Arc<Stage>,
    /// Names of those that a request goes on with.
    busy: Mutex<BTreeSet<String>>,
}

/// One that a request goes on with, and no other meanwhile.
pub struct IncomingUpload {
    uploads: Arc<Uploads>,
    key: UploadKey,
    name: String,
    target: Target,
    received: u64,
    hashers: Vec<UploadHasher>,
    _bulk: Option<Bulk>,
}

/// Hashes what comes by one algorithm, beside the writing. What an earlier request brought is read
/// in the end.
#[derive(Clone)]
pub struct UploadHasher(Arc<Mutex<UploadSum>>);

struct UploadSum {
    /// From the beginning on (bytes).
    hashed: u64,
    algorithm: Algorithm,
}

enum Algorithm {
    Blake3(Box<blake3::Hasher>),
    Sha256(Box<dyn Context>),
}

impl UploadHasher {
    fn new(algorithm: Algorithm) -> Self {
        Self(Arc::new(Mutex::new(UploadSum { hashed: 0, algorithm })))
    }

    /// BLAKE3, by which the content goes here, and what was announced, if that is another one.
    fn all(announced: AnnouncedHash) -> Vec<Self> {
        let sha256 = || {
            let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
            Some(Algorithm::Sha256(suite.common.hash_provider.start()))
        };
        let announced = if let AnnouncedHash::Sha256(_) = announced { sha256() } else { None };
        let own = Algorithm::Blake3(Box::default());
        std::iter::once(own).chain(announced).map(Self::new).collect()
    }

    /// `bytes` lie at `offset`.
    pub fn update(&self, offset: u64, bytes: &[u8]) {
        let mut sum = self.lock();
        if sum.hashed == offset {
            sum.hashed += bytes.len() as u64;
            match &mut sum.algorithm {
                Algorithm::Blake3(hasher) => drop(hasher.update(bytes)),
                Algorithm::Sha256(context) => context.update(bytes),
            }
        }
    }

    fn hashed(&self) -> u64 {
        self.lock().hashed
    }

    fn finish(&self) -> AnnouncedHash {
        match &self.lock().algorithm {
            Algorithm::Blake3(hasher) => AnnouncedHash::Blake3(*hasher.finalize().as_bytes()),
            Algorithm::Sha256(context) => {
                let mut hash = [0; 32];
                hash.copy_from_slice(context.fork_finish().as_ref());
                AnnouncedHash::Sha256(hash)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, UploadSum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadKey {
    fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let (kind, hash) = match &self.hash {
            AnnouncedHash::Blake3(hash) => (0, hash),
            AnnouncedHash::Sha256(hash) => (1, hash),
        };
        hasher.update(&[kind]).update(hash).update(&self.size.to_be_bytes()).update(self.path.as_bytes());
        staging::upload_name(&ContentId(*hasher.finalize().as_bytes()))
    }
}

impl Uploads {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>) -> Arc<Self> {
        Arc::new(Self { root, stage, busy: Mutex::default() })
    }

    /// Begins one, or goes on with it.
    pub fn open(self: &Arc<Self>, key: UploadKey) -> Result<IncomingUpload, UploadError> {
        let disk = |e| UploadError::Disk(trouble("stage the upload of", Some(&key.path), e));
        let name = key.name();
        if !self.lock().insert(name.clone()) {
            return Err(UploadError::Busy);
        }
        let opened = self.sweep().map_err(disk).and_then(|unfinished| {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            match beneath::open(self.root.staging(), name.as_bytes(), flags) {
                Ok(opened) => Ok(File::from(opened)),
                Err(Errno::NOENT) if unfinished >= MOST => Err(UploadError::TooMany),
                Err(Errno::NOENT) => beneath::create(self.root.staging(), &name).map_err(disk),
                Err(e) => Err(disk(e)),
            }
        });
        let found = opened.and_then(|file| Ok((beneath::facts(&file).map_err(disk)?.stat, file)));
        let checked = found.and_then(|(stat, file)| {
            if stat.kind == StatKind::File && stat.size <= key.size {
                Ok((file, stat.size))
            } else {
                Err(disk(Errno::INVAL))
            }
        });
        match checked {
            Ok((file, received)) => {
                let target = Target::new(file, key.size, self.root.staging(), &name);
                let hashers = UploadHasher::all(key.hash);
                // A `syncfs` would wait for all of it.
                let bulk = (key.size > WRITEBACK_BYTES).then(|| self.stage.begin_bulk());
                let uploads = Arc::clone(self);
                Ok(IncomingUpload { uploads, key, name, target, received, hashers, _bulk: bulk })
            }
            Err(why) => {
                self.lock().remove(&name);
                Err(why)
            }
        }
    }

    /// Removes what nobody went on with; how many are left.
    fn sweep(&self) -> rustix::io::Result<usize> {
        let (staging, busy) = (self.root.staging(), self.lock());
        let mut left = 0;
        for item in rustix::fs::Dir::read_from(staging)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if !staging::is_upload_name(name) {
                continue;
            }
            let stat = beneath::stat_at(staging, name)?;
            let is_old = stat.is_some_and(|stat| stat.mtime.as_stamp().saturating_add(KEPT_NS) < wall_ns());
            let is_busy = std::str::from_utf8(name).is_ok_and(|name| busy.contains(name));
            if is_old && !is_busy {
                rustix::fs::unlinkat(staging, item.file_name(), AtFlags::empty())?;
            } else {
                left += 1;
            }
        }
        Ok(left)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IncomingUpload {
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether it is written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.target.is_direct()
    }

    pub fn is_whole(&self) -> bool {
        self.received == self.key.size
    }

    /// Forgets what came before.
    pub fn begin_anew(&mut self) -> Result<(), UploadError> {
        self.target.file().set_len(0).map_err(|e| self.disk(&e))?;
        self.received = 0;
        self.hashers = UploadHasher::all(self.key.hash);
        Ok(())
    }

    /// Each is to be given all that is written, at its offset, by the time that it is verified.
    /// What it was not given is read then.
    pub fn hashers(&self) -> Vec<UploadHasher> {
        self.hashers.clone()
    }

    /// Whether there is room for the rest. Where nothing came yet, nothing stays of it.
    pub fn check_room(&self) -> Result<(), UploadError> {
        if self.uploads.stage.has_room_for(self.key.size - self.received) {
            return Ok(());
        }
        if self.received == 0 {
            self.discard();
        }
        let text =
            format!("the folder's disk has no room for '{}' ({} bytes); free some space", self.key.path, self.key.size);
        Err(UploadError::Disk(Trouble { cause: Cause::NoSpace, text }))
    }

    /// What comes next. If the disk is full, nothing of it stays, so that there is room for others.
    /// A large one goes past the cache where `bytes` and its place are aligned as a `Buffer` is.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        if bytes.len() as u64 > self.key.size - self.received {
            return Err(self.disk(&Errno::FBIG.into()));
        }
        if let Err(why) = self.target.write_all_at(bytes, self.received) {
            let why = self.disk(&why);
            self.discard();
            return Err(why);
        }
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable, and hashes what was not yet. What is not what was announced is discarded.
    pub fn verify(&self) -> Result<ContentId, UploadError> {
        let file = self.target.file();
        file.sync_all().map_err(|e| self.disk(&e))?;
        let least = || self.hashers.iter().map(UploadHasher::hashed).min().unwrap_or_default();
        let mut part = vec![0; PART_BYTES.min(self.key.size - least()) as usize];
        while least() < self.key.size {
            let at = least();
            let part = &mut part[..(self.key.size - at).min(PART_BYTES) as usize];
            file.read_exact_at(part, at).map_err(|e| self.disk(&e))?;
            // One that is further on takes its rest once the others are there.
            self.hashers.iter().for_each(|hasher| hasher.update(at, part));
        }
        let sums: Vec<_> = self.hashers.iter().map(UploadHasher::finish).collect();
        let content =
            sums.iter().find_map(|sum| if let AnnouncedHash::Blake3(hash) = sum { Some(*hash) } else { None });
        content.filter(|_| sums.contains(&self.key.hash)).map(ContentId).ok_or_else(|| {
            self.discard();
            UploadError::OtherHash
        })
    }

    /// A staged content from now on, which is installed or put back.
    pub fn stage(&self) -> Result<StageId, UploadError> {
        let id = self.uploads.stage.next_id();
        self.rename(&self.name, &staging::name(id))?;
        Ok(id)
    }

    /// It was not installed: another request may do that.
    pub fn put_back(&self, id: StageId) -> Result<(), UploadError> {
        self.rename(&staging::name(id), &self.name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), UploadError> {
        let staging = self.uploads.root.staging();
        let flags = if self.uploads.root.can_exchange() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        rustix::fs::renameat_with(staging, from, staging, to, flags).map_err(|e| self.disk(&e.into()))
    }

    /// Nothing of it stays.
    fn discard(&self) {
        let _ = rustix::fs::unlinkat(self.uploads.root.staging(), self.name.as_str(), AtFlags::empty());
    }

    fn disk(&self, why: &io::Error) -> UploadError {
        UploadError::Disk(trouble("stage the upload of", Some(&self.key.path), super::trouble::errno(why)))
    }
}

impl Drop for IncomingUpload {
    fn drop(&mut self) {
        self.uploads.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};
    use tempfile::TempDir;

    fn uploads() -> (TempDir, Arc<Uploads>) {
        let home = TempDir::new().unwrap();
        let root = Arc::new(Root::open(home.path()).unwrap());
        let stage = Stage::open(Arc::clone(&root)).unwrap();
        (home, Uploads::new(root, stage))
    }

    fn key(path: &str, content: &[u8]) -> UploadKey {
        let hash = AnnouncedHash::Blake3(ContentId::of(content).0);
        UploadKey { path: SyncPath::new(path).unwrap(), hash, size: content.len() as u64 }
    }

    fn feed(upload: &IncomingUpload, offset: u64, bytes: &[u8]) {
        upload.hashers().iter().for_each(|hasher| hasher.update(offset, bytes));
    }

    fn staged(home: &TempDir) -> Vec<String> {
        let names = std::fs::read_dir(home.path().join(".dirsync/staging")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_upload_goes_on_where_it_was_also_after_a_new_start() {
        let (home, first) = uploads();
        let mut upload = first.open(key("f", b"0123456789")).unwrap();
        upload.write(b"0123").unwrap();
        assert!(matches!(first.open(key("f", b"0123456789")), Err(UploadError::Busy)));
        drop((upload, first));
        let root = Arc::new(Root::open(home.path()).unwrap());
        let stage = Stage::open(Arc::clone(&root)).unwrap();
        let second = Uploads::new(root, stage);
        let mut upload = second.open(key("f", b"0123456789")).unwrap();
        assert_eq!((upload.received(), upload.is_whole()), (4, false));
        upload.write(b"456789").unwrap();
        assert!(upload.is_whole());
        assert!(upload.write(b"x").is_err(), "more than was said");
        assert_eq!(upload.verify().unwrap(), ContentId::of(b"0123456789"));
        let id = upload.stage().unwrap();
        assert_eq!(staged(&home), [staging::name(id)]);
        upload.put_back(id).unwrap();
        drop(upload);
        let mut upload = second.open(key("f", b"0123456789")).unwrap();
        assert_eq!(upload.received(), 10);
        upload.begin_anew().unwrap();
        assert_eq!(upload.received(), 0);
    }

    #[test]
    fn it_is_hashed_as_it_comes_and_what_was_not_is_read_in_the_end() {
        let (_home, uploads) = uploads();
        let content = b"0123456789";
        let open = || uploads.open(key("f", content)).unwrap();
        let mut upload = open();
        feed(&upload, 0, b"0123");
        upload.write(b"0123").unwrap();
        drop(upload);
        let mut upload = open();
        feed(&upload, 4, b"456789");
        upload.write(b"456789").unwrap();
        assert_eq!(upload.verify().unwrap(), ContentId::of(content), "another request began it");
        for (hashed, is_it) in [(&b"01234"[..], true), (content, true), (b"0x", false)] {
            upload.begin_anew().unwrap();
            feed(&upload, 0, hashed);
            upload.write(content).unwrap();
            assert_eq!(upload.verify().is_ok(), is_it, "{hashed:?}");
        }
    }

    #[test]
    fn uploads_to_one_path_of_other_contents_and_to_other_paths_do_not_mix() {
        let (_home, uploads) = uploads();
        let keys = [key("f", b"one"), key("f", b"two"), key("g", b"one"), UploadKey { size: 4, ..key("f", b"one") }];
        let mut all: Vec<_> = keys.iter().map(|key| uploads.open(key.clone()).unwrap()).collect();
        for (upload, bytes) in all.iter_mut().zip([b"one", b"two", b"one"]) {
            upload.write(bytes).unwrap();
        }
        assert_eq!(all.iter().map(IncomingUpload::received).collect::<Vec<_>>(), [3, 3, 3, 0]);
        assert!(all[..3].iter().all(|upload| upload.verify().is_ok()));
    }

    #[test]
    fn what_is_not_what_was_announced_is_discarded() {
        let (home, uploads) = uploads();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sha256 = AnnouncedHash::Sha256(crate::model::text::from_hex(sha256).unwrap());
        for hash in [sha256, key("f", b"abc").hash] {
            let key = UploadKey { hash, ..key("f", b"abc") };
            let mut upload = uploads.open(key.clone()).unwrap();
            upload.write(b"abc").unwrap();
            assert_eq!(upload.verify().unwrap(), ContentId::of(b"abc"));
            upload.begin_anew().unwrap();
            upload.write(b"abx").unwrap();
            assert!(matches!(upload.verify(), Err(UploadError::OtherHash)));
            drop(upload);
            assert_eq!(staged(&home), [""; 0]);
        }
    }

    #[test]
    fn what_nobody_goes_on_with_is_removed_in_time() {
        let (home, uploads) = uploads();
        for name in ["young", "old", "under-way"] {
            uploads.open(key(name, b"abc")).unwrap().write(b"a").unwrap();
        }
        let under_way = uploads.open(key("under-way", b"abc")).unwrap();
        let old = uploads.open(key("old", b"abc")).unwrap();
        let long_ago = SystemTime::now() - Duration::from_nanos(KEPT_NS) - Duration::from_mins(1);
        for upload in [&old, &under_way] {
            upload.target.file().set_modified(long_ago).unwrap();
        }
        drop(old);
        assert_eq!(uploads.open(key("young", b"abc")).unwrap().received(), 1);
        assert_eq!(staged(&home).len(), 2);
        assert_eq!(uploads.open(key("old", b"abc")).unwrap().received(), 0);
        assert_eq!(under_way.received(), 1);
    }
}
