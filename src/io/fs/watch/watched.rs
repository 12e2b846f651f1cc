//! Which folders are watched, by which instance of `notify`, and which watches are stale.
//!
//! `notify` has a watch of each folder that has an entry here, and of no other, but for the moments
//! in which one is added or removed. Deliberately not here: asking `notify` for anything.

use crate::model::SyncPath;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};

/// Which inode a folder is.
pub type InodeKey = ((u32, u32), u64);

/// One instance of `notify`, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(pub u32);

/// One attempt to watch a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt(u64);

#[derive(Debug, Clone, Copy)]
pub struct WatchEntry {
    pub instance: InstanceId,
    place: InodeKey,
    attempt: Attempt,
    state: WatchState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchState {
    Live,
    /// The folder has lost its name: what the watch says is about something else.
    Stale,
}

/// What is to be done about a folder that is to be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Nothing,
    Add,
    /// The watch that has its path is another folder's.
    Replace(InstanceId),
}

/// In path order, so that all below a folder is a range. No bytes are the root.
#[derive(Debug)]
pub struct Watched {
    /// How many ways there are to write the root's path.
    spellings: usize,
    folders: BTreeMap<Vec<u8>, WatchEntry>,
    counts: HashMap<InstanceId, usize>,
    /// Paths whose watch `notify` does not remove by itself.
    to_unwatch: Vec<Vec<u8>>,
    stale: usize,
    attempts: u64,
}

impl Watched {
    pub fn new(spellings: usize) -> Self {
        let (folders, counts) = (BTreeMap::new(), HashMap::new());
        Self { spellings, folders, counts, to_unwatch: Vec::new(), stale: 0, attempts: 0 }
    }

    pub fn need(&self, folder: &[u8], place: InodeKey) -> Need {
        match self.folders.get(folder) {
            None => Need::Add,
            Some(entry) if entry.state == WatchState::Live && entry.place == place => Need::Nothing,
            Some(entry) => Need::Replace(entry.instance),
        }
    }

    pub fn contains(&self, folder: &[u8]) -> bool {
        self.folders.contains_key(folder)
    }

    /// Whether what this instance says of the folder is news of what has that name.
    pub fn is_live(&self, folder: &[u8], instance: InstanceId) -> bool {
        let entry = self.folders.get(folder);
        entry.is_some_and(|entry| entry.state == WatchState::Live && entry.instance == instance)
    }

    pub fn count(&self, instance: InstanceId) -> usize {
        self.counts.get(&instance).copied().unwrap_or_default()
    }

    /// Before `notify` is asked: an event may come before its answer.
    pub fn insert(&mut self, folder: &[u8], place: InodeKey, instance: InstanceId) -> Attempt {
        self.remove(folder);
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        self.folders.insert(folder.to_vec(), WatchEntry { instance, place, attempt, state: WatchState::Live });
        *self.counts.entry(instance).or_default() += 1;
        attempt
    }

    /// Whether the folder is still watched by this attempt, stale or not.
    pub fn is_kept(&self, folder: &[u8], attempt: Attempt) -> bool {
        self.folders.get(folder).is_some_and(|entry| entry.attempt == attempt)
    }

    pub fn remove(&mut self, folder: &[u8]) -> Option<WatchEntry> {
        let entry = self.folders.remove(folder)?;
        self.stale -= usize::from(entry.state == WatchState::Stale);
        if let Some(count) = self.counts.get_mut(&entry.instance) {
            *count -= 1;
        }
        Some(entry)
    }

    pub fn remove_attempt(&mut self, folder: &[u8], attempt: Attempt) {
        if self.is_kept(folder, attempt) {
            self.remove(folder);
        }
    }

    /// After everything that was watched is not any more.
    pub fn clear(&mut self) {
        *self = Self { attempts: self.attempts, ..Self::new(self.spellings) };
    }

    /// The folder's name was removed or moved, as `instance` says, which watches its parent.
    pub fn name_gone(&mut self, folder: &SyncPath, instance: InstanceId, is_moved: bool) {
        let parent = folder.parent();
        let parent = spelling(bytes(parent.as_ref()), self.spellings);
        // `notify` takes the path for that of the folder's watch if both are written alike.
        let removes = self.is_of(folder.as_bytes(), instance, parent);
        for path in self.tree(folder.as_bytes()) {
            if removes && self.is_of(&path, instance, parent) {
                self.remove(&path);
            } else {
                self.make_stale(&path);
                // A removed folder's watch goes with its inode.
                self.to_unwatch.extend(is_moved.then_some(path));
            }
        }
    }

    /// The folder's watch has ended by itself. Whether it was thought to be live.
    pub fn ended(&mut self, folder: &[u8], instance: InstanceId) -> bool {
        let was_live = self.is_live(folder, instance);
        let own = spelling(folder, self.spellings);
        if self.is_of(folder, instance, own) {
            for path in self.tree(folder) {
                if self.is_of(&path, instance, own) {
                    self.remove(&path);
                }
            }
        }
        was_live
    }

    /// Whether `notify` has it in that instance and by a path that begins so. With a folder it
    /// removes what is below it and alike in both.
    fn is_of(&self, folder: &[u8], instance: InstanceId, spelled: usize) -> bool {
        let entry = self.folders.get(folder);
        entry.is_some_and(|entry| entry.instance == instance) && spelling(folder, self.spellings) == spelled
    }

    fn make_stale(&mut self, path: &[u8]) {
        if let Some(entry) = self.folders.get_mut(path) {
            self.stale += usize::from(entry.state == WatchState::Live);
            entry.state = WatchState::Stale;
        }
    }

    fn tree(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let Ok(path) = SyncPath::new(folder) else { return self.folders.keys().cloned().collect() };
        let (from, to) = path.range_below();
        let own = self.folders.get_key_value(folder);
        own.into_iter().chain(self.folders.range(from..to)).map(|(path, _)| path.clone()).collect()
    }

    pub fn has_to_unwatch(&self) -> bool {
        !self.to_unwatch.is_empty()
    }

    /// By instance; those alone that are still stale.
    pub fn take_to_unwatch(&mut self) -> HashMap<InstanceId, Vec<Vec<u8>>> {
        let mut by_instance = HashMap::<_, Vec<_>>::new();
        for path in std::mem::take(&mut self.to_unwatch) {
            if let Some(entry) = self.stale(&path) {
                by_instance.entry(entry.instance).or_default().push(path);
            }
        }
        by_instance
    }

    pub fn is_stale(&self, folder: &[u8], instance: InstanceId) -> bool {
        self.stale(folder).is_some_and(|entry| entry.instance == instance)
    }

    fn stale(&self, folder: &[u8]) -> Option<&WatchEntry> {
        self.folders.get(folder).filter(|entry| entry.state == WatchState::Stale)
    }

    #[cfg(test)]
    pub fn clone_attempts(&self) -> Vec<(Vec<u8>, Attempt)> {
        self.folders.iter().map(|(path, entry)| (path.clone(), entry.attempt)).collect()
    }

    /// Stale watches, and all.
    pub fn shares(&self) -> (usize, usize) {
        (self.stale, self.folders.len())
    }
}

/// Which of the ways to write the root's path is used for a folder.
pub fn spelling(folder: &[u8], count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(folder);
    (hasher.finish() % count as u64) as usize
}

/// The root is no bytes.
pub fn bytes(folder: Option<&SyncPath>) -> &[u8] {
    folder.map_or(b"", SyncPath::as_bytes)
}
