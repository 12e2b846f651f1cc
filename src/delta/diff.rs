//! Says a new version by the blocks of an old one, whose signature is all that is known of it.
//!
//! Three ways, the cheapest first: a chunk whose hash stands unchanged at the same offset is not
//! even read; where blocks were found, the ones that follow them are expected to follow, and
//! signing what is there to compare (many blocks at once) is five times as fast as searching; only
//! the rest is searched, byte by byte, by `fast_rsync`.
//!
//! The old version's blocks may be a peer's, made to burn time (P9): a search goes a bounded number
//! of bytes, then asks whether to go on. Deliberately not here: reading, and clocks.

use super::commands::{COPY_FIRST, END, LITERAL_LAST_SHORT, MAGIC};
use super::signature::{self, Signature};
use super::{MIN_BYTES, ReadAt};
use crate::model::chunks::runs;
use crate::model::{ChunkHash, Chunks};
use fast_rsync::IndexedSignature;
use std::io;

/// What is read at once, at least (bytes).
const WINDOW_BYTES: u64 = 1 << 20;
/// One search hashes at most so many bytes: a block at each of its places, if every rolling hash is
/// made to be found. 0.4 s.
const SEARCH_HASHED_BYTES: u64 = 1 << 28;
const SEARCH_PLACES_MIN: u64 = 256;
const SEARCH_PLACES_MAX: u64 = 1 << 18;
/// Before much is searched, so many windows are tried: a file that shares nothing in any of them
/// goes whole.
const PROBES: u64 = 8;
const PROBE_BLOCKS: u64 = 4;
const PROBED_FROM_BYTES: u64 = 4 << 20;
/// A delta that must say more than this of the new version by itself is none.
const LITERAL_SHARE: (u64, u64) = (7, 8);
/// Output is handed on in parts of about this (bytes).
const OUT_BYTES: usize = 64 * 1024;

/// The new version.
pub struct NewVersion<'a> {
    pub file: &'a dyn ReadAt,
    pub size: u64,
    /// Its chunks' hashes, if known.
    pub chunks: Option<&'a [ChunkHash]>,
}

/// Why there is no delta.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("the two versions have too little in common")]
    Unrelated,
    #[error("the search took too long")]
    Budget,
    #[error("nobody takes the delta any more")]
    Stopped,
    #[error("the new version cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Writes a delta that makes `new` of the file that `base` is of. `may_go_on` is asked after every
/// search; `out` takes the delta in parts, and may end it.
pub fn diff(
    base: &Signature,
    new: &NewVersion,
    may_go_on: &mut dyn FnMut() -> bool,
    out: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), DiffError> {
    let ranges = changed_ranges(base, new);
    let literal_limit = (u128::from(new.size) * u128::from(LITERAL_SHARE.0) / u128::from(LITERAL_SHARE.1)) as u64;
    let out = Out { to: out, bytes: MAGIC.to_be_bytes().to_vec(), copy: None, literals: 0, literal_limit };
    // Checked when it was made or came in; a header that is not one would be a bug, and yields no
    // delta.
    let librsync = fast_rsync::Signature::deserialize(base.wire().to_vec()).map_err(|_| DiffError::Unrelated)?;
    let index = if ranges.is_empty() { None } else { Some(librsync.index()) };
    let mut search = Search { base, new, out, may_go_on, window: Vec::new(), found: Vec::new() };
    if let Some(index) = &index
        && !search.is_worth_it(index, &ranges)?
    {
        return Err(DiffError::Unrelated);
    }
    let mut at = 0;
    for (from, to) in ranges {
        search.out.copy(at, from - at)?;
        if let Some(index) = &index {
            search.range(index, from, to)?;
        }
        at = to;
    }
    search.out.copy(at, new.size - at)?;
    search.out.finish()
}

/// What is not known to be the same at the same place: ranges from, to.
fn changed_ranges(base: &Signature, new: &NewVersion) -> Vec<(u64, u64)> {
    let (news, bases) = (Chunks::of(new.size), Chunks::of(base.size()));
    // The hash of a content's only chunk is another function's.
    let is_kind = (news.count() == 1) == (bases.count() == 1);
    let is_same = |chunk: u32| {
        let at = chunk as usize;
        let (ours, theirs) = (new.chunks.and_then(|chunks| chunks.get(at)), base.chunks().get(at));
        is_kind && news.span(chunk, 1) == bases.span(chunk, 1) && ours.is_some() && ours == theirs
    };
    let changed = runs((0..news.count()).filter(|chunk| !is_same(*chunk)));
    let ranges = changed.into_iter().filter_map(|(first, count)| news.span(first, count));
    ranges.filter(|(_, length)| *length > 0).map(|(from, length)| (from, from + length)).collect()
}

struct Search<'a> {
    base: &'a Signature,
    new: &'a NewVersion<'a>,
    out: Out<'a>,
    may_go_on: &'a mut dyn FnMut() -> bool,
    window: Vec<u8>,
    /// One search's result.
    found: Vec<u8>,
}

impl Search<'_> {
    /// How far one search goes (bytes): a block, and as many places more as are bearable if each of
    /// them costs a block's hash.
    fn search_bytes(&self) -> u64 {
        let block = self.base.block();
        block + (SEARCH_HASHED_BYTES / block).clamp(SEARCH_PLACES_MIN, SEARCH_PLACES_MAX)
    }

    /// Whether the ranges have anything in common with the base, by a few windows spread over them.
    fn is_worth_it(&mut self, index: &IndexedSignature, ranges: &[(u64, u64)]) -> Result<bool, DiffError> {
        let all: u64 = ranges.iter().map(|(from, to)| to - from).sum();
        if all < PROBED_FROM_BYTES || all < self.new.size / 2 {
            return Ok(true);
        }
        let length = (PROBE_BLOCKS * self.base.block()).min(self.search_bytes()).max(2 * self.base.block());
        for probe in 0..PROBES {
            // Spread evenly, and in step with no period of the file: by the golden ratio.
            let share = (probe + 1) * 618_034 % 1_000_000;
            let at = (u128::from(all) * u128::from(share) / 1_000_000) as u64;
            let Some((from, to)) = place_in(ranges, at) else { continue };
            let length = length.min(to - from);
            self.window.resize(length as usize, 0);
            self.new.file.read_at(from, &mut self.window)?;
            if self.find(index, length as usize)?.iter().any(|found| matches!(found, DiffPiece::Copy { .. })) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says everything from `at` to `to`.
    fn range(&mut self, index: &IndexedSignature, mut at: u64, to: u64) -> Result<(), DiffError> {
        let block = self.base.block();
        let most = WINDOW_BYTES.max(2 * block).max(self.search_bytes());
        // Most edits leave the rest where it was.
        let mut expected = at.is_multiple_of(block).then_some(at / block);
        let mut filled = 0..0;
        while at < to {
            let wanted = (to - at).min(most);
            let needed = if expected.is_some() { wanted } else { (to - at).min(self.search_bytes()) };
            if at < filled.start || at + needed > filled.end {
                self.window.resize(wanted as usize, 0);
                self.new.file.read_at(at, &mut self.window)?;
                filled = at..at + wanted;
            }
            let here = (at - filled.start) as usize;
            if let Some(first) = expected.take() {
                let same = self.follow(here, first, filled.end == to)?;
                at += same;
                if same > 0 {
                    // To be followed further, or searched from where it ended.
                    expected = (at == filled.end && same.is_multiple_of(block)).then_some(first + same / block);
                    continue;
                }
            }
            let length = needed.min(self.search_bytes());
            self.window.drain(..here);
            filled.start = at;
            let is_end = at + length == to;
            let (said, next) = self.say(index, length as usize, is_end)?;
            (at, expected) = (at + said, next);
        }
        Ok(())
    }

    /// How many bytes of the window, from `here` on, are the base's from block `first` on. A last
    /// short block counts at the end.
    fn follow(&mut self, here: usize, first: u64, is_end: bool) -> Result<u64, DiffError> {
        let block = self.base.block();
        let bytes = &self.window[here..];
        let whole = bytes.len() - bytes.len() % block as usize;
        // A first look at one block: where it differs, the others need no hashing.
        let mut same = 0;
        for part in [block as usize, whole] {
            let ours = signature::entries_of(block, &bytes[same as usize..part.min(whole)]);
            let theirs = self.base.entries(first + same / block);
            let blocks = signature::common_entries(&ours, theirs) as u64;
            // The base's last block may be shorter than it looks here; then it does not match but
            // by chance, and ends the base.
            same += (blocks * block).min(self.base.size().saturating_sub(first * block + same));
            if same < (part.min(whole)) as u64 {
                break;
            }
        }
        let rest = &bytes[same as usize..];
        let (next, left) = (first + same / block, self.base.size().saturating_sub(first * block + same));
        if is_end && !rest.is_empty() && rest.len() as u64 == left && left < block {
            let ours = signature::entries_of(block, rest);
            same += left * signature::common_entries(&ours, self.base.entries(next)) as u64;
        }
        self.out.copy(first * block, same)?;
        Ok(same)
    }

    /// Searches the window's first `length` bytes and says what it found; how far that went, and
    /// the block to expect next.
    fn say(&mut self, index: &IndexedSignature, length: usize, is_end: bool) -> Result<(u64, Option<u64>), DiffError> {
        let block = self.base.block();
        let found = self.find(index, length)?;
        let (mut said, mut next) = (0, None);
        for (number, part) in found.iter().enumerate() {
            match *part {
                DiffPiece::Copy { offset, length } => {
                    self.out.copy(offset, length)?;
                    said += length;
                    next = Some((offset + length) / block);
                }
                DiffPiece::Literal(bytes) => {
                    // The end of the window may be the beginning of a block.
                    let is_last = number + 1 == found.len() && !is_end;
                    let kept = if is_last { bytes.min(block - 1) } else { 0 };
                    let sure = (bytes - kept) as usize;
                    self.out.literal(&self.window[said as usize..][..sure])?;
                    said += sure as u64;
                    next = next.filter(|_| sure == 0);
                }
            }
        }
        Ok((said, next))
    }

    fn find(&mut self, index: &IndexedSignature, length: usize) -> Result<Vec<DiffPiece>, DiffError> {
        self.found.clear();
        // It fails only on what was checked, or where memory cannot be written.
        fast_rsync::diff(index, &self.window[..length], &mut self.found).map_err(|_| DiffError::Unrelated)?;
        if !(self.may_go_on)() {
            return Err(DiffError::Budget);
        }
        Ok(parse(&self.found, length as u64))
    }
}

/// The range that the `nth` byte of all ranges lies in, from there on.
fn place_in(ranges: &[(u64, u64)], mut nth: u64) -> Option<(u64, u64)> {
    for (from, to) in ranges {
        if nth < to - from {
            return Some((from + nth, *to));
        }
        nth -= to - from;
    }
    None
}

/// What a search found, in the order of the new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DiffPiece {
    Copy {
        offset: u64,
        length: u64,
    },
    /// So many bytes that are not in the base.
    Literal(u64),
}

/// Reads what `fast_rsync` wrote of `length` bytes: lengths and places; the literal bytes are in
/// the window.
fn parse(delta: &[u8], length: u64) -> Vec<DiffPiece> {
    struct Steps(Vec<DiffPiece>);
    impl super::patch::Sink for Steps {
        type Error = std::convert::Infallible;
        fn copy(&mut self, offset: u64, length: u64) -> Result<(), Self::Error> {
            self.0.push(DiffPiece::Copy { offset, length });
            Ok(())
        }
        fn literal(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0.push(DiffPiece::Literal(bytes.len() as u64));
            Ok(())
        }
    }
    let mut steps = Steps(Vec::new());
    let mut patch = super::patch::Patch::new(u64::MAX, length);
    // What it cannot read is said literally.
    match patch.push(delta, &mut steps).and_then(|()| patch.finish()) {
        Ok(()) => steps.0,
        Err(_) => vec![DiffPiece::Literal(length)],
    }
}

/// The delta as it is written; copies that follow one another become one.
struct Out<'a> {
    to: &'a mut dyn FnMut(&[u8]) -> bool,
    bytes: Vec<u8>,
    copy: Option<(u64, u64)>,
    literals: u64,
    literal_limit: u64,
}

impl Out<'_> {
    fn copy(&mut self, offset: u64, length: u64) -> Result<(), DiffError> {
        match &mut self.copy {
            _ if length == 0 => {}
            Some((from, so_far)) if *from + *so_far == offset => *so_far += length,
            _ => {
                self.end_copy()?;
                self.copy = Some((offset, length));
            }
        }
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<(), DiffError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.end_copy()?;
        self.literals += bytes.len() as u64;
        if self.literals > self.literal_limit.max(MIN_BYTES) {
            return Err(DiffError::Unrelated);
        }
        for part in bytes.chunks(OUT_BYTES) {
            let (command, number) = match part.len() {
                short @ 1..=64 => (short as u8, Vec::new()),
                length @ ..0x100 => (LITERAL_LAST_SHORT + 1, vec![length as u8]),
                length @ 0x100..0x1_0000 => (LITERAL_LAST_SHORT + 2, (length as u16).to_be_bytes().to_vec()),
                length => (LITERAL_LAST_SHORT + 3, (length as u32).to_be_bytes().to_vec()),
            };
            self.bytes.push(command);
            self.bytes.extend_from_slice(&number);
            self.bytes.extend_from_slice(part);
            self.hand_on(OUT_BYTES)?;
        }
        Ok(())
    }

    fn end_copy(&mut self) -> Result<(), DiffError> {
        let Some((offset, length)) = self.copy.take() else { return Ok(()) };
        let (place, many) = (width(offset), width(length));
        self.bytes.push(COPY_FIRST + 4 * place + many);
        self.bytes.extend_from_slice(&offset.to_be_bytes()[8 - (1 << place)..]);
        self.bytes.extend_from_slice(&length.to_be_bytes()[8 - (1 << many)..]);
        self.hand_on(OUT_BYTES)
    }

    fn hand_on(&mut self, from: usize) -> Result<(), DiffError> {
        if self.bytes.len() < from {
            return Ok(());
        }
        let is_taken = (self.to)(&self.bytes);
        self.bytes.clear();
        if is_taken { Ok(()) } else { Err(DiffError::Stopped) }
    }

    fn finish(mut self) -> Result<(), DiffError> {
        self.end_copy()?;
        self.bytes.push(END);
        self.hand_on(0)
    }
}

/// A number's length as a power of two (0 to 3): 1, 2, 4 or 8 bytes.
fn width(number: u64) -> u8 {
    match number {
        ..0x100 => 0,
        0x100..0x1_0000 => 1,
        0x1_0000..0x1_0000_0000 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests;
