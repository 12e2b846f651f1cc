//! `--preview`: what would come, go, conflict and be kept, if this folder met the group's. Nothing
//! is changed anywhere.
//!
//! One member is asked by a link that only looks, and the folder is read. Deliberately not here:
//! the rules (`engine/preview.rs`).

mod said;

use super::{DaemonError, joining};
use crate::engine::api::ignore::Ignore;
use crate::engine::preview::{FoundHere, Preview, preview, to_be_hashed};
use crate::humanize;
use crate::io::clock::wall_ns;
use crate::io::fs::glance::Glance;
use crate::io::identity::import::{self, BegunError};
use crate::io::net::device_key::META_DEVICE_KEY;
use crate::io::net::preview::{GroupTree, PreviewConfig, PreviewError, group_tree};
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::io::store::index::SqliteIndex;
use crate::io::store::secret::{Secret, SecretError, SecretKeys, credentials};
use crate::io::store::state_folder::{StateDir, StateError};
use crate::model::path::IGNORE_FILE;
use crate::model::{ContentId, Entry, Kind, SyncPath, text};
use crate::options::{Options, PreviewForm, SecretSource};
use said::{line, view, words};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How long a member is looked for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a member's answers are waited for: of a million paths they take seconds.
const ANSWERS_WITHIN: Duration = Duration::from_mins(10);
/// The same before a join, which does not wait for what is only said.
const SAID_WITHIN: Duration = Duration::from_secs(15);
/// How often it says how far hashing has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Why there is no preview. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PreviewFailure {
    #[error(transparent)]
    Group(#[from] PreviewError),
    #[error(transparent)]
    Joining(#[from] joining::JoiningError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the index cannot be read: {0}")]
    Index(rusqlite::Error),
    #[error(
        "this folder was synced before: --preview is for a folder that meets its first group, of \
         which every file counts as found; 'dirsync status' and 'dirsync peers' say how a member \
         stands"
    )]
    Synced,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("there is no secret in '{0}', so this machine is in no group: give --join CODE as well, or --secret-file")]
    NoSecret(String),
    #[error(transparent)]
    Begun(#[from] BegunError),
    #[error("the folder cannot be read: {0}")]
    Folder(io::Error),
    #[error("the device key cannot be kept: {0}")]
    KeyNotKept(io::Error),
    #[error("{0}")]
    Output(io::Error),
}

/// Prints the preview on standard output.
pub fn print(options: &Options, form: PreviewForm) -> Result<(), PreviewFailure> {
    let state = StateDir::open(&options.state_dir)?;
    import::finish_begun(&state)?;
    let key = device_key(&state, options)?;
    let (keys, inviter) = match &options.join {
        Some(source) => {
            let inviter = joining::reserve(options, source, &key)?;
            (Secret::from_member(&inviter.secret).keys(), Some(inviter.address.to_string()))
        }
        None => (secret(options)?.keys(), None),
    };
    let group = group_tree(&config(options, &key, keys, inviter))?;
    let glance = Glance::open(&options.directory).map_err(PreviewFailure::Folder)?;
    let mut group = group;
    let (here, unread) = both(&glance, &mut group).map_err(PreviewFailure::Folder)?;
    let contents = hash(&glance, &to_be_hashed(&here, &group.entries), &here);
    let found = preview(&here, &contents, &group.entries, wall_ns());
    let view = view(&options.directory, &group.member, &found, unread);
    let said = match form {
        PreviewForm::Json => serde_json::to_string_pretty(&view).map_err(io::Error::other).map(|json| json + "\n"),
        PreviewForm::Text => Ok(words(&view)),
    };
    let said = said.map_err(PreviewFailure::Output)?;
    io::stdout().write_all(said.as_bytes()).map_err(PreviewFailure::Output)
}

/// One line of the log before a folder with files in it meets the group's for the first time. By
/// size alone: the scan that follows hashes everything.
pub(super) fn say_before_joining(options: &Options, key: &DeviceKey, keys: SecretKeys, inviter: String) {
    let seen = || -> Result<Option<(String, Preview)>, PreviewFailure> {
        let glance = Glance::open(&options.directory).map_err(PreviewFailure::Folder)?;
        if !glance.tree(&Ignore::default()).map_err(PreviewFailure::Folder)?.0.values().any(is_file) {
            return Ok(None);
        }
        let mut group = group_tree(&PreviewConfig {
            answers_within: SAID_WITHIN,
            patience: SAID_WITHIN,
            ..config(options, key, keys, Some(inviter))
        })?;
        let (here, _) = both(&glance, &mut group).map_err(PreviewFailure::Folder)?;
        let found = preview(&here, &by_size(&here, &group.entries), &group.entries, wall_ns());
        Ok(Some((group.member, found)))
    };
    match seen() {
        Ok(None) => {}
        Ok(Some((member, found))) => tracing::info!(
            kind = "preview",
            "both folders hold files. As {member} has the group, by size alone: {}",
            line(&found)
        ),
        Err(why) => tracing::warn!("what joining will do cannot be said before: {why}"),
    }
}

fn is_file(found: &FoundHere) -> bool {
    found.stat.kind == crate::engine::StatKind::File
}

/// Files of one size count as the same: what differs is found by the scan that follows.
fn by_size(here: &BTreeMap<SyncPath, FoundHere>, group: &BTreeMap<SyncPath, Entry>) -> BTreeMap<SyncPath, ContentId> {
    let theirs = |path: SyncPath| group.get(&path).and_then(Entry::file).map(|(content, _)| (path, content));
    to_be_hashed(here, group).into_iter().filter_map(theirs).collect()
}

/// What is here, and how many folders could not be read. What the patterns name is left out on both
/// sides.
fn both(glance: &Glance, group: &mut GroupTree) -> io::Result<(BTreeMap<SyncPath, FoundHere>, u64)> {
    let ignore = patterns(glance, group);
    group.entries.retain(|path, entry| !ignore.ignores(path, entry.kind == Kind::Directory));
    glance.tree(&ignore)
}

fn config(options: &Options, key: &DeviceKey, keys: SecretKeys, inviter: Option<String>) -> PreviewConfig {
    let named = options.peers.iter().map(ToString::to_string);
    PreviewConfig {
        key: key.clone(),
        keys,
        name: options.name.clone(),
        broadcast_port: options.broadcast_port,
        peers: inviter.into_iter().chain(named).collect(),
        patience: PATIENCE,
        answers_within: ANSWERS_WITHIN,
    }
}

/// The key that this machine has, or will have: the code is kept for it.
fn device_key(state: &StateDir, options: &Options) -> Result<DeviceKey, PreviewFailure> {
    if state.index_path().exists() {
        let seen = SqliteIndex::glance(&state.index_path(), META_DEVICE_KEY).map_err(PreviewFailure::Index)?;
        if seen.holds_paths {
            return Err(PreviewFailure::Synced);
        }
        if let Some(bytes) = seen.meta {
            return Ok(DeviceKey::from_bytes(&bytes)?);
        }
    }
    if let Some(key) = state.joining_key().and_then(|bytes| DeviceKey::from_bytes(&bytes).ok()) {
        return Ok(key);
    }
    let key = DeviceKey::generate()?;
    if options.join.is_some() {
        state.set_joining_key(&key.to_bytes()).map_err(PreviewFailure::KeyNotKept)?;
    }
    Ok(key)
}

fn secret(options: &Options) -> Result<Secret, PreviewFailure> {
    let credentials = credentials();
    match &options.secret {
        SecretSource::Open => Ok(Secret::open_to_all()),
        SecretSource::Named(file) => Ok(Secret::read(file, credentials.as_deref())?),
        SecretSource::Own(file) => match Secret::read(file, credentials.as_deref()) {
            Err(SecretError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Err(PreviewFailure::NoSecret(text::escape(options.state_dir.as_os_str().as_bytes())))
            }
            read => Ok(read?),
        },
    }
}

/// The newer of the two files of patterns is in force once both are one.
fn patterns(glance: &Glance, group: &GroupTree) -> Ignore {
    let ours = glance.patterns();
    let theirs = SyncPath::new(IGNORE_FILE).ok().and_then(|path| group.entries.get(&path).map(|e| e.version.stamp));
    let is_ours_newer = || glance.patterns_stamp().is_some_and(|ours| ours > theirs.unwrap_or(0));
    let text = match (&ours, &group.patterns) {
        (Some(_), Some(_)) if is_ours_newer() => ours,
        (_, Some(_)) => group.patterns.clone(),
        _ => ours,
    };
    text.map(|text| Ignore::parse(&text).0).unwrap_or_default()
}

fn hash(glance: &Glance, paths: &[SyncPath], here: &BTreeMap<SyncPath, FoundHere>) -> BTreeMap<SyncPath, ContentId> {
    let size = |path: &SyncPath| here.get(path).map_or(0, |found| found.stat.size);
    let all: u64 = paths.iter().map(size).sum();
    let (mut contents, mut done, mut said) = (BTreeMap::new(), 0, Instant::now());
    for path in paths {
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            tracing::info!("hashed {} of {} of this folder", humanize::bytes(done), humanize::bytes(all));
        }
        contents.extend(glance.content(path).map(|content| (path.clone(), content)));
        done += size(path);
    }
    contents
}

impl From<PreviewFailure> for DaemonError {
    fn from(why: PreviewFailure) -> Self {
        Self::Preview(Box::new(why))
    }
}
