//! Deltas made and applied in memory, against `fast_rsync`'s own `apply` and our interpreter;
//! random edits; hostile signatures.

use super::*;
use crate::delta::patch::Patch;
use crate::delta::patch::tests::Memory;
use crate::delta::signature::of_bytes;
use crate::delta::{block_bytes, signature::wire_bytes};
use proptest::prelude::*;
use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Counts what is read of a file.
struct Counted<'a> {
    bytes: &'a [u8],
    read: Cell<u64>,
}

impl ReadAt for Counted<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read.set(self.read.get() + buffer.len() as u64);
        (&self.bytes).read_at(offset, buffer)
    }
}

/// A delta from `old` to `new`, checked by applying it twice, and how many bytes of `new` were read
/// for it.
fn delta_of(old: &[u8], new: &[u8], knows_chunks: bool) -> Result<(Vec<u8>, u64), DiffError> {
    let base = of_bytes(old).1.unwrap();
    let ours = of_bytes(new).1.unwrap();
    let base = if knows_chunks { base } else { Signature::of_peer(base.size(), base.wire().to_vec()).unwrap() };
    let file = Counted { bytes: new, read: Cell::new(0) };
    let version = NewVersion { file: &file, size: new.len() as u64, chunks: knows_chunks.then_some(ours.chunks()) };
    let mut delta = Vec::new();
    diff(&base, &version, &mut || true, &mut |part| {
        delta.extend_from_slice(part);
        true
    })?;
    let mut applied = Vec::new();
    fast_rsync::apply_limited(old, &delta, &mut applied, new.len()).unwrap();
    assert!(applied == new, "librsync's way makes another file");
    let mut patch = Patch::new(old.len() as u64, new.len() as u64);
    let mut memory = Memory { base: old, made: Vec::new() };
    delta.chunks(1000).for_each(|part| patch.push(part, &mut memory).unwrap());
    patch.finish::<Infallible>().unwrap();
    assert!(memory.made == new, "our way makes another file");
    Ok((delta, file.read.get()))
}

#[test]
fn an_edit_costs_about_a_block_wherever_it_is() {
    let old = noise(1, (9 << 20) + 4321);
    let block = block_bytes(old.len() as u64) as usize;
    let mut overwritten = old.clone();
    overwritten[5 << 20..][..9].copy_from_slice(b"\0changed\0");
    let inserted = [b"+", &old[..]].concat();
    let in_the_middle = [&old[..4_000_001], b"some words more", &old[4_000_001..]].concat();
    let removed = [&old[..4_000_001], &old[4_000_555..]].concat();
    let appended = [&old[..], &noise(2, 1 << 20)].concat();
    let cut = old[..7_777_777].to_vec();
    let moved = [&old[6 << 20..], &old[..6 << 20]].concat();
    let rows = [
        ("overwritten", overwritten, 2 * block, 2 << 20),
        ("inserted at the front", inserted, 64, 18 << 20),
        ("inserted in the middle", in_the_middle, 2 * block, 10 << 20),
        ("removed", removed, 2 * block, 10 << 20),
        ("appended", appended, (1 << 20) + 2 * block, 4 << 20),
        ("cut", cut, 2 * block, 2 << 20),
        ("moved", moved, 3 * block, 18 << 20),
        ("the same", old.clone(), 64, 0),
    ];
    for (what, new, at_most, read) in rows {
        for knows_chunks in [true, false] {
            let (delta, was_read) = delta_of(&old, &new, knows_chunks).expect(what);
            assert!(delta.len() <= at_most, "{what}: {} bytes, {at_most} were hoped for", delta.len());
            assert!(was_read <= read || !knows_chunks, "{what}: {was_read} bytes were read");
        }
    }
}

#[test]
fn versions_with_nothing_in_common_are_given_up_after_a_few_windows() {
    let (old, new) = (noise(1, 32 << 20), noise(2, 32 << 20));
    let base = of_bytes(&old).1.unwrap();
    let file = Counted { bytes: &new, read: Cell::new(0) };
    let version = NewVersion { file: &file, size: new.len() as u64, chunks: None };
    let result = diff(&base, &version, &mut || true, &mut |_| panic!("something was said"));
    assert!(matches!(result, Err(DiffError::Unrelated)));
    assert!(file.read.get() <= 1 << 20, "{}", file.read.get());
}

#[test]
fn a_delta_that_says_nearly_everything_by_itself_is_none() {
    let (old, new) = (noise(1, 3 << 20), noise(2, 3 << 20));
    assert!(matches!(delta_of(&old, &new, true), Err(DiffError::Unrelated)));
}

#[test]
fn whoever_takes_it_may_end_it() {
    let (old, new) = (noise(1, 2 << 20), [noise(2, 1 << 20), noise(1, 2 << 20)].concat());
    let base = of_bytes(&old).1.unwrap();
    let version = NewVersion { file: &&new[..], size: new.len() as u64, chunks: None };
    assert!(matches!(diff(&base, &version, &mut || true, &mut |_| false), Err(DiffError::Stopped)));
}

#[test]
fn a_file_that_ends_too_early_is_an_error() {
    let old = noise(1, 2 << 20);
    let base = of_bytes(&old).1.unwrap();
    let version = NewVersion { file: &&old[..1 << 20], size: old.len() as u64, chunks: None };
    assert!(matches!(diff(&base, &version, &mut || true, &mut |_| true), Err(DiffError::Read(_))));
}

/// The time that the longest search between two questions takes.
fn longest_search(base: &Signature, new: &[u8]) -> Duration {
    let version = NewVersion { file: &new, size: new.len() as u64, chunks: None };
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let began = Instant::now();
    let mut may_go_on = || {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        began.elapsed() < Duration::from_secs(2)
    };
    let _ = diff(base, &version, &mut may_go_on, &mut |_| true);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    longest.max(last.elapsed())
}

/// A signature that claims to be of a file of `size` bytes, whose rolling hashes are those of
/// `known`, and whose strong hashes match nothing: every place of `known` costs the hash of a
/// block.
fn made_to_burn(size: u64, known: &[u8]) -> Signature {
    let block = block_bytes(size) as usize;
    let mut bytes = of_bytes(&vec![0; 64 * 1024]).1.unwrap().wire()[..12].to_vec();
    bytes[4..8].copy_from_slice(&(block as u32).to_be_bytes());
    let entries = (wire_bytes(size).unwrap() - 12) / 20;
    for place in 0..entries {
        let from = place % (known.len() - block);
        bytes.extend_from_slice(&signature::entries_of(block as u64, &known[from..from + block])[..4]);
        bytes.extend_from_slice(&[0xee; 16]);
    }
    Signature::of_peer(size, bytes).unwrap()
}

#[test]
fn a_signature_made_to_blow_up_the_search_is_asked_about_in_time() {
    let size = 256_u64 << 20;
    let block = block_bytes(size) as usize;
    let known = noise(7, 4 * block);
    let periodic = known.repeat(64);
    assert!(longest_search(&made_to_burn(size, &known), &periodic) < Duration::from_secs(2));
    let alternating: Vec<u8> = (0..8 * block).map(|at| (at % 2) as u8).collect();
    assert!(longest_search(&made_to_burn(size, &alternating), &alternating.repeat(8)) < Duration::from_secs(2));
}

#[derive(Debug, Clone)]
enum RandomEdit {
    Insert { at: usize, bytes: Vec<u8> },
    Remove { at: usize, length: usize },
    Overwrite { at: usize, bytes: Vec<u8> },
    Move { from: usize, length: usize, to: usize },
    Zero { at: usize, length: usize },
}

fn edit() -> impl Strategy<Value = RandomEdit> {
    let at = 0..4_usize << 20;
    let bytes = (1..200_000_usize, any::<u64>()).prop_map(|(size, seed)| noise(seed, size));
    prop_oneof![
        (at.clone(), bytes.clone()).prop_map(|(at, bytes)| RandomEdit::Insert { at, bytes }),
        (at.clone(), 1..300_000_usize).prop_map(|(at, length)| RandomEdit::Remove { at, length }),
        (at.clone(), bytes).prop_map(|(at, bytes)| RandomEdit::Overwrite { at, bytes }),
        (at.clone(), 1..900_000_usize, at.clone()).prop_map(|(from, length, to)| RandomEdit::Move { from, length, to }),
        (at, 1..400_000_usize).prop_map(|(at, length)| RandomEdit::Zero { at, length }),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &RandomEdit) {
    let place = |at: usize, bytes: &[u8]| at % (bytes.len() + 1);
    match edit {
        RandomEdit::Insert { at, bytes: new } => {
            let at = place(*at, bytes);
            bytes.splice(at..at, new.iter().copied());
        }
        RandomEdit::Remove { at, length } => {
            let at = place(*at, bytes);
            let end = (at + length).min(bytes.len());
            bytes.drain(at..end);
        }
        RandomEdit::Overwrite { at, bytes: new } => {
            let at = place(*at, bytes);
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        RandomEdit::Move { from, length, to } => {
            let from = place(*from, bytes);
            let end = (from + length).min(bytes.len());
            let part: Vec<u8> = bytes.drain(from..end).collect();
            let to = place(*to, bytes);
            bytes.splice(to..to, part);
        }
        RandomEdit::Zero { at, length } => {
            let at = place(*at, bytes);
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_edited_the_delta_makes_the_new_version(
        size in 64 * 1024..5_usize << 20,
        seed: u64,
        edits in prop::collection::vec(edit(), 0..6),
        knows_chunks: bool,
    ) {
        let old = noise(seed, size);
        let mut new = old.clone();
        for edit in &edits {
            apply(&mut new, edit);
        }
        prop_assume!(new.len() >= 64 * 1024);
        match delta_of(&old, &new, knows_chunks) {
            Ok((delta, _)) => prop_assert!(delta.len() <= new.len() + 1024),
            // Most of it is new.
            Err(DiffError::Unrelated) => prop_assert!(!edits.is_empty()),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
