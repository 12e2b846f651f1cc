//! The disk and the network as the loop, the control socket and each other see them.
//!
//! Nothing but wiring: each trait of one side is answered by the other. Deliberately not here: any
//! logic.

use super::turn::Hands;
use crate::engine::api::ignore::Ignore;
use crate::engine::{Action, FetchError, ServedFile, StageId, Stat, StatKind};
use crate::io::control::{KeptFacts, LinkFacts, World};
use crate::io::fs::beneath::LastFolder;
use crate::io::fs::delta::Deltas;
use crate::io::fs::disk::Disk;
use crate::io::fs::history::History;
use crate::io::fs::install::{PutContent, RestoreError};
use crate::io::fs::partial::{Partial, Partials};
use crate::io::fs::root::Root;
use crate::io::fs::stage::{Stage, StageError, StageWriter};
use crate::io::fs::uploads::{IncomingUpload, UploadError, UploadKey};
use crate::io::net::members::Unreached;
use crate::io::net::mesh::Net;
use crate::io::net::traffic::Traffic;
use crate::io::net::transfer::{Served, StagedWriter, Staging};
use crate::io::store::chunk_lists::{ChunkLists, List};
use crate::model::{Capability, ContentId, DeviceId, InvitationCode, Mode, SyncPath, text};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Both halves, running.
pub(super) struct Shell {
    pub disk: Disk,
    /// `None` once it was shut down.
    net: RwLock<Option<Net>>,
}

impl Shell {
    pub(super) fn new(disk: Disk, net: Net) -> Self {
        Self { disk, net: RwLock::new(Some(net)) }
    }

    /// Unless it was shut down.
    pub(super) fn with_net(&self, act: impl FnOnce(&Net)) {
        if let Some(net) = &*self.net.read().unwrap_or_else(PoisonError::into_inner) {
            act(net);
        }
    }

    /// Peers first: nothing more comes in while the disk finishes.
    pub(super) fn shutdown(&self) {
        let net = self.net.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(net) = net {
            net.shutdown();
        }
        self.disk.shutdown();
    }
}

impl Hands for Arc<Shell> {
    fn run(&mut self, actions: Vec<Action>) {
        let others = self.disk.run(actions);
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        let Some(net) = &*net else { return };
        for nobodys in others.into_iter().filter_map(|action| net.run(action)) {
            tracing::error!("nobody runs {nobodys:?}; this is a bug, please report it");
        }
    }

    fn set_ignore(&mut self, ignore: Ignore) {
        self.disk.set_ignore(Arc::new(move |path: &SyncPath, is_dir| ignore.ignores(path, is_dir)));
    }
}

impl World for Shell {
    fn links(&self) -> Vec<LinkFacts> {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        let links = net.as_ref().map(Net::links).unwrap_or_default();
        let facts = links.into_iter().map(|link| LinkFacts {
            device: link.device,
            name: text::escape(link.name.as_bytes()),
            address: link.address.to_string(),
            capability: link.capability,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
            uploads: link.uploads,
            software: text::escape(link.software.as_bytes()),
            round_trip_ms: link.round_trip_ms,
        });
        facts.collect()
    }

    fn traffic(&self) -> BTreeMap<DeviceId, Traffic> {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        net.as_ref().map(Net::traffic).unwrap_or_default()
    }

    fn unreached(&self) -> Vec<Unreached> {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        net.as_ref().map(Net::unreached).unwrap_or_default()
    }

    fn invite(&self, uses: u32, lifetime: Duration, capability: Capability) -> Result<InvitationCode, String> {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        let net = net.as_ref().ok_or("the daemon is stopping")?;
        net.invitations().invite(uses, lifetime, capability).map_err(|why| why.to_string())
    }

    fn invitations(&self) -> Vec<(u32, Duration)> {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        let open = net.as_ref().map(|net| net.invitations().list()).unwrap_or_default();
        open.into_iter().map(|invitation| (invitation.uses_left, invitation.ends_in)).collect()
    }

    fn cancel_invitations(&self) {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(net) = &*net {
            net.invitations().cancel();
        }
    }

    fn limit(&self) -> Option<u64> {
        self.net.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Net::limit)
    }

    fn set_limit(&self, rate: Option<u64>) {
        let net = self.net.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(net) = &*net {
            net.set_limit(rate);
        }
    }

    fn history(&self, path: Option<&SyncPath>) -> io::Result<Vec<KeptFacts>> {
        let kept = self.disk.history().list(path)?;
        let facts = kept.into_iter().map(|kept| KeptFacts {
            name: kept.name,
            path: kept.path,
            time: kept.time_ns,
            reason: kept.reason.word(),
            size: kept.size,
            mtime: kept.mtime.as_stamp(),
            mode: kept.mode,
            elsewhere: Vec::new(),
        });
        Ok(facts.collect())
    }

    fn history_load(&self) -> (u64, Option<u64>) {
        let (load, quota) = self.disk.history().fill();
        (load.bytes, quota.map(|quota| quota.bytes).filter(|bytes| *bytes < u64::MAX))
    }

    fn watched(&self) -> (usize, bool) {
        self.disk.watched()
    }

    fn restore(&self, kept: &KeptFacts) -> io::Result<()> {
        self.disk.history().restore(&kept.name, &kept.path).map_err(io::Error::other)
    }

    fn restore_staged(&self, staged: StageId, path: &SyncPath, mode: Mode) -> io::Result<()> {
        self.disk.history().restore_staged(staged, path, mode).map_err(io::Error::other)
    }

    fn restore_link(&self, target: &[u8], path: &SyncPath) -> io::Result<()> {
        self.disk.history().restore_link(target, path).map_err(io::Error::other)
    }

    fn content_of_kept(&self, name: &str) -> io::Result<Option<ContentId>> {
        self.disk.history().content(name)
    }

    fn kept_bytes(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.disk.history().open_kept(name)?.map(|file| first_bytes(file, limit)).transpose()
    }

    fn bytes_at(&self, path: &SyncPath, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.disk.root().open_file(path)?.map(|file| first_bytes(file, limit)).transpose()
    }

    fn stat_at(&self, path: &SyncPath) -> io::Result<Option<Stat>> {
        self.disk.root().stat(path)
    }

    fn delete(&self, path: &SyncPath, expect: &Stat) -> Result<(), RestoreError> {
        self.disk.history().delete(path, expect)
    }

    fn move_path(&self, from: &SyncPath, to: &SyncPath, expect: &Stat) -> Result<(), RestoreError> {
        self.disk.history().move_path(from, to, expect)
    }

    fn begin_upload(&self, key: UploadKey) -> Result<IncomingUpload, UploadError> {
        self.disk.uploads().open(key)
    }

    fn put(&self, staged: StageId, put: &PutContent) -> Result<(), RestoreError> {
        self.disk.history().put(staged, put)
    }

    fn open_served(&self, file: &ServedFile) -> io::Result<Option<File>> {
        match self.disk.root().open_served(&mut LastFolder::default(), file) {
            Ok(opened) => Ok(Some(opened)),
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn open_kept(&self, name: &str) -> io::Result<Option<File>> {
        self.disk.history().open_kept(name)
    }

    fn open_staged(&self, staged: StageId) -> io::Result<File> {
        self.disk.stage().take(staged)
    }

    fn disk_stalled(&self) -> Option<Duration> {
        self.disk.root().waits().stalled()
    }

    fn kind_at(&self, path: &SyncPath) -> Option<StatKind> {
        self.disk.root().stat(path).ok().flatten().map(|stat| stat.kind)
    }

    fn is_there(&self, path: &SyncPath) -> bool {
        self.disk.root().stat(path).is_ok_and(|stat| stat.is_some())
    }
}

fn first_bytes(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the network stages what comes in.
pub(super) struct NetworkStaging(pub Arc<Stage>, pub Arc<Partials>);

impl Staging for NetworkStaging {
    fn create(&self, size: u64) -> Result<Box<dyn StagedWriter>, FetchError> {
        match self.0.create(size) {
            Ok(writer) => Ok(Box::new(StagedFileWriter(writer))),
            Err(trouble) => Err(FetchError::Staging(trouble)),
        }
    }

    fn discard(&self, staged: StageId) {
        self.0.discard(staged);
    }

    fn partial(&self, content: &ContentId) -> Option<Arc<Partial>> {
        self.1.get(content)
    }
}

struct StagedFileWriter(StageWriter);

impl StagedWriter for StagedFileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.0.write(bytes).map_err(fetch_error)
    }

    fn finish(self: Box<Self>, content: &ContentId) -> Result<StageId, FetchError> {
        self.0.finish(content).map_err(fetch_error)
    }
}

fn fetch_error(why: StageError) -> FetchError {
    match why {
        StageError::BadContent => FetchError::Corrupt,
        StageError::Disk(trouble) => FetchError::Staging(trouble),
    }
}

/// What the network reads for peers.
pub(super) struct NetworkReads {
    pub root: Arc<Root>,
    pub deltas: Arc<Deltas>,
    pub lists: Arc<ChunkLists>,
    pub history: Arc<History>,
}

impl Served for NetworkReads {
    fn open(&self, file: &ServedFile) -> io::Result<File> {
        self.open_next(&mut LastFolder::default(), file)
    }

    fn open_next(&self, folders: &mut LastFolder, file: &ServedFile) -> io::Result<File> {
        match &file.kept {
            Some(kept) => self.history.open_served(kept, file),
            None => self.root.open_served(folders, file),
        }
    }

    fn deltas(&self) -> Option<Arc<Deltas>> {
        Some(Arc::clone(&self.deltas))
    }

    fn list(&self, file: &ServedFile, opened: &File) -> io::Result<Option<List>> {
        self.lists.of(file, opened)
    }
}
