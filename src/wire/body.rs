//! The bodies of the engines' messages: fixed digests as they are, entries in postcard, contents
//! behind them.
//!
//! A list is its count and its items, as postcard writes a `Vec`. A content's length stands in the
//! list, and the bytes of all contents follow the list, joined. Every count is held against the
//! bytes that are there before room is made (P9).

use super::confirmation::{CONFIRMED_AT_ONCE, Confirmation, KEY_BYTES, MAX_SIGNATURE_BYTES, Seal};
use super::conflict::ConflictNews;
use super::error::FrameError;
use super::members::{HandOver, Roster};
use super::message::{
    Bucket, Change, Digest, Group, HOLDS, HeldBack, PASTS, Past, PathContent, Place, SOUGHT, SURVEY_PATHS, Sought,
    WantedContent,
};
use crate::model::{DeviceId, Entry, SyncPath};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No list of any message has more items.
pub const MAX_ITEMS: usize = 65_536;
/// A change names at most this many devices that it was sent to.
const MAX_RELAYED_TO: usize = 1024;
const GROUPS: usize = 256;
const FORMER_BYTES: usize = 4 * 1024;
const DIGEST_BYTES: usize = size_of::<Digest>();

type Paths = Vec<(SyncPath, Entry)>;

/// Writes a body.
#[derive(Default)]
pub struct BodyWriter {
    out: Vec<u8>,
}

impl BodyWriter {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    pub fn finish(self) -> Bytes {
        self.out.into()
    }

    fn put<T: Serialize + ?Sized>(&mut self, item: &T) {
        postcard::to_io(item, &mut self.out).expect("writing to memory does not fail");
    }

    fn count(&mut self, items: usize) {
        self.put(&(items as u32));
    }

    pub fn digests(&mut self, digests: &[Digest]) {
        self.out.extend_from_slice(digests.as_flattened());
    }

    pub fn groups(&mut self, groups: &[(Group, Vec<Digest>)]) {
        for (group, digests) in groups {
            self.out.push(*group);
            self.digests(digests);
        }
    }

    pub fn buckets(&mut self, buckets: &[Bucket]) {
        self.count(buckets.len());
        for bucket in buckets {
            self.out.extend_from_slice(&bucket.to_be_bytes());
        }
    }

    pub fn entries(&mut self, entries: &[(SyncPath, Entry)]) {
        self.count(entries.len());
        for (path, entry) in entries {
            self.put(path);
            self.put(entry);
        }
    }

    pub fn devices(&mut self, devices: &[DeviceId]) {
        self.count(devices.len());
        for device in devices {
            self.put(device);
        }
    }

    /// Where older versions write confirmations.
    pub fn no_counters(&mut self) {
        self.count(0);
    }

    /// The key, the signature's length and bytes, and then nothing but digests.
    pub fn confirmation(&mut self, confirmation: &Confirmation) {
        let Confirmation { seal: Seal { key, signature }, digests } = confirmation;
        self.out.extend_from_slice(key);
        self.out.push(signature.len() as u8);
        self.out.extend_from_slice(signature);
        self.digests(digests);
    }

    pub fn runs(&mut self, runs: &[(u32, u32)]) {
        self.count(runs.len());
        for run in runs {
            self.put(run);
        }
    }

    pub fn changes(&mut self, changes: &[Change]) {
        self.count(changes.len());
        for change in changes {
            self.put(&change.path);
            self.put(&change.entry);
            self.put(&change.body.as_ref().map(|bytes| bytes.len() as u32));
        }
        self.contents_of(changes.iter().filter_map(|change| change.body.as_ref()));
    }

    pub fn wants(&mut self, wants: &[WantedContent]) {
        self.count(wants.len());
        for want in wants {
            self.put(&(want.id, &want.path, want.content, want.size));
        }
    }

    pub fn contents(&mut self, contents: &[(u32, Option<Bytes>)]) {
        self.count(contents.len());
        for (id, bytes) in contents {
            self.put(&(id, bytes.as_ref().map(|bytes| bytes.len() as u32)));
        }
        self.contents_of(contents.iter().filter_map(|(_, bytes)| bytes.as_ref()));
    }

    pub fn paths(&mut self, paths: &[SyncPath]) {
        self.count(paths.len());
        for path in paths {
            self.put(path);
        }
    }

    pub fn held(&mut self, held: &[PathContent]) {
        self.count(held.len());
        for held in held {
            self.put(held);
        }
    }

    pub fn named(&mut self, named: &[(SyncPath, u64)]) {
        self.count(named.len());
        for item in named {
            self.put(item);
        }
    }

    pub fn pasts(&mut self, pasts: &[Past]) {
        self.count(pasts.len());
        for past in pasts {
            self.put(past);
        }
    }

    pub fn sought(&mut self, sought: &[Sought]) {
        self.count(sought.len());
        for sought in sought {
            self.put(sought);
        }
    }

    pub fn places(&mut self, places: &[Place]) {
        self.count(places.len());
        for place in places {
            self.put(place);
        }
    }

    pub fn held_back(&mut self, held: &[HeldBack]) {
        self.count(held.len());
        for held in held {
            self.put(held);
        }
    }

    pub fn roster(&mut self, roster: &Roster) {
        self.put(roster);
    }

    pub fn hand_over(&mut self, handed: Option<&HandOver>) {
        self.put(&handed);
    }

    pub fn conflicts(&mut self, news: &[ConflictNews]) {
        self.count(news.len());
        for news in news {
            self.put(news);
        }
    }

    fn contents_of<'a>(&mut self, contents: impl Iterator<Item = &'a Bytes>) {
        contents.for_each(|bytes| self.out.extend_from_slice(bytes));
    }
}

/// Reads a body, believing nothing.
pub struct Reader {
    body: Bytes,
    at: usize,
}

impl Reader {
    pub fn new(body: Bytes) -> Self {
        Self { body, at: 0 }
    }

    /// Every byte must have had a meaning.
    pub fn end(self) -> Result<(), FrameError> {
        if self.at == self.body.len() { Ok(()) } else { Err(FrameError::Body("bytes after its end")) }
    }

    fn take<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        let rest = &self.body[self.at..];
        let (value, tail) = postcard::take_from_bytes(rest).map_err(|_| FrameError::Body("a malformed item"))?;
        self.at = self.body.len() - tail.len();
        Ok(value)
    }

    fn raw(&mut self, bytes: usize) -> Result<Bytes, FrameError> {
        if bytes > self.body.len() - self.at {
            return Err(FrameError::Body("less than it announces"));
        }
        let taken = self.body.slice(self.at..self.at + bytes);
        self.at += bytes;
        Ok(taken)
    }

    /// A list of at most `limit` items that take at least `min_bytes` each.
    fn list<T>(
        &mut self,
        limit: usize,
        min_bytes: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let count = self.take::<u32>()? as usize;
        if count > limit || count > (self.body.len() - self.at) / min_bytes {
            return Err(FrameError::Body("a count that it cannot hold"));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub fn digests(&mut self) -> Result<Vec<Digest>, FrameError> {
        let bytes = self.raw(GROUPS * DIGEST_BYTES)?;
        Ok(bytes.as_chunks::<DIGEST_BYTES>().0.to_vec())
    }

    pub fn groups(&mut self) -> Result<Vec<(Group, Vec<Digest>)>, FrameError> {
        let mut groups = Vec::new();
        while self.at < self.body.len() {
            if groups.len() == GROUPS {
                return Err(FrameError::Body("more than 256 groups"));
            }
            let group = self.raw(1)?[0];
            groups.push((group, self.digests()?));
        }
        Ok(groups)
    }

    pub fn buckets(&mut self) -> Result<Vec<Bucket>, FrameError> {
        self.list(MAX_ITEMS, 2, |body| {
            let bytes = body.raw(2)?;
            Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
        })
    }

    fn entry(&mut self) -> Result<(SyncPath, Entry), FrameError> {
        Ok((self.take()?, self.take()?))
    }

    pub fn entries(&mut self) -> Result<Paths, FrameError> {
        self.list(MAX_ITEMS, 40, Self::entry)
    }

    pub fn devices(&mut self) -> Result<Vec<DeviceId>, FrameError> {
        self.list(MAX_RELAYED_TO, 32, Self::take)
    }

    /// What older versions send as confirmations: devices, and up to which counter their doings
    /// were meant. It names no change, and means nothing.
    pub fn pass_counters(&mut self) -> Result<(), FrameError> {
        self.list(MAX_RELAYED_TO, 33, Self::take::<(DeviceId, u64)>).map(drop)
    }

    pub fn confirmation(&mut self) -> Result<Confirmation, FrameError> {
        let key = self.raw(KEY_BYTES)?.to_vec();
        let length = usize::from(self.raw(1)?[0]);
        if length > MAX_SIGNATURE_BYTES {
            return Err(FrameError::Body("a signature of over 72 bytes"));
        }
        let signature = self.raw(length)?.to_vec();
        let named = self.raw(self.body.len() - self.at)?;
        let (digests, rest) = named.as_chunks::<DIGEST_BYTES>();
        if !rest.is_empty() || digests.is_empty() || digests.len() > CONFIRMED_AT_ONCE {
            return Err(FrameError::Body("no list of 1 to 4,096 digests"));
        }
        if !digests.is_sorted_by(|one, next| one < next) {
            return Err(FrameError::Body("digests out of order"));
        }
        Ok(Confirmation { seal: Seal { key, signature }, digests: digests.to_vec() })
    }

    /// Runs of chunks: the first, and how many. Whether a content has them is for its asker to say.
    pub fn runs(&mut self) -> Result<Vec<(u32, u32)>, FrameError> {
        self.list(MAX_ITEMS, 2, Self::take)
    }

    pub fn changes(&mut self) -> Result<Vec<Change>, FrameError> {
        let listed = self.list(MAX_ITEMS, 40, |body| {
            let (path, entry) = body.entry()?;
            let length = body.take::<Option<u32>>()?;
            let fits = length.is_none_or(|n| entry.file().is_some_and(|(_, size)| size == u64::from(n)));
            if fits { Ok((path, entry, length)) } else { Err(FrameError::Body("a content that is not its entry's")) }
        })?;
        let change = |(path, entry, length)| Ok(Change { path, entry, body: self.content(length)? });
        listed.into_iter().map(change).collect()
    }

    pub fn wants(&mut self) -> Result<Vec<WantedContent>, FrameError> {
        self.list(MAX_ITEMS, 36, |body| {
            let (id, path, content, size) = body.take()?;
            if size >= 1 << 63 {
                return Err(FrameError::Body("a size of 2^63 or more"));
            }
            Ok(WantedContent { id, path, content, size })
        })
    }

    pub fn contents(&mut self) -> Result<Vec<(u32, Option<Bytes>)>, FrameError> {
        let listed: Vec<(u32, Option<u32>)> = self.list(MAX_ITEMS, 2, Self::take)?;
        listed.into_iter().map(|(id, length)| Ok((id, self.content(length)?))).collect()
    }

    pub fn paths(&mut self) -> Result<Vec<SyncPath>, FrameError> {
        self.list(SURVEY_PATHS, 2, Self::take)
    }

    pub fn held(&mut self) -> Result<Vec<PathContent>, FrameError> {
        self.list(SURVEY_PATHS, 2, Self::take)
    }

    pub fn named(&mut self) -> Result<Vec<(SyncPath, u64)>, FrameError> {
        self.list(SURVEY_PATHS, 3, Self::take)
    }

    pub fn pasts(&mut self) -> Result<Vec<Past>, FrameError> {
        self.list(PASTS, 9, |body| {
            let past: Past = body.take()?;
            past.check().map_err(FrameError::Entry)?;
            Ok(past)
        })
    }

    pub fn sought(&mut self) -> Result<Vec<Sought>, FrameError> {
        self.list(SOUGHT, 36, |body| {
            let sought: Sought = body.take()?;
            if sought.size >= 1 << 63 || sought.mtime.nanos >= 1_000_000_000 {
                return Err(FrameError::Body("a size of 2^63 or more, or nanoseconds of 10^9 or more"));
            }
            Ok(sought)
        })
    }

    pub fn places(&mut self) -> Result<Vec<Place>, FrameError> {
        self.list(SOUGHT, 1, Self::take)
    }

    /// Names of machines are for the frame to check.
    pub fn held_back(&mut self) -> Result<Vec<HeldBack>, FrameError> {
        self.list(HOLDS, 4, Self::take)
    }

    /// What devices were before; who asks for it checks it.
    pub fn former(&mut self) -> Result<Bytes, FrameError> {
        let bytes = self.body.len() - self.at;
        if bytes > FORMER_BYTES { Err(FrameError::Body("over 4 KiB of former keys")) } else { self.raw(bytes) }
    }

    pub fn roster(&mut self) -> Result<Roster, FrameError> {
        let roster: Roster = self.take()?;
        roster.check().map_err(FrameError::Entry)?;
        Ok(roster)
    }

    pub fn hand_over(&mut self) -> Result<Option<HandOver>, FrameError> {
        let Some(handed): Option<HandOver> = self.take()? else { return Ok(None) };
        handed.roster.check().map_err(FrameError::Entry)?;
        let is_sound = handed.keys.is_sound();
        is_sound.then_some(Some(handed)).ok_or(FrameError::Body("more secrets than a group may have"))
    }

    /// What each says is for the engine to check.
    pub fn conflicts(&mut self) -> Result<Vec<ConflictNews>, FrameError> {
        self.list(MAX_ITEMS, 80, Self::take)
    }

    fn content(&mut self, length: Option<u32>) -> Result<Option<Bytes>, FrameError> {
        length.map(|bytes| self.raw(bytes as usize)).transpose()
    }
}
