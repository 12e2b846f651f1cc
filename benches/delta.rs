//! How fast the parts of a delta are, beside the limits of the machine: BLAKE3 alone, and copying
//! memory.
//!
//! `cargo bench --bench delta`. 64 MiB of noise each time.

use dirsyncd::delta::block_bytes;
use dirsyncd::delta::diff::{NewVersion, diff};
use dirsyncd::delta::patch::{Patch, Sink};
use dirsyncd::delta::signature::{self, Signature, of_bytes};
use dirsyncd::model::{Chunks, ContentId};
use divan::Bencher;
use divan::counter::BytesCount;
use std::convert::Infallible;
use std::sync::LazyLock;

const BYTES: usize = 64 << 20;

static OLD: LazyLock<Vec<u8>> = LazyLock::new(|| noise(1, BYTES));
/// A byte at the front: every block is somewhere else.
static SHIFTED: LazyLock<Vec<u8>> = LazyLock::new(|| [b"+", &OLD[..]].concat());
static OVERWRITTEN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = OLD.clone();
    bytes[BYTES / 2..][..9].copy_from_slice(b"\0changed\0");
    bytes
});
/// The half of it anew, in 1,000 places.
static RIDDLED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = OLD.clone();
    let (step, fresh) = (BYTES / 1000, noise(3, BYTES / 2000));
    bytes.chunks_mut(step).for_each(|part| {
        let length = fresh.len().min(part.len());
        part[..length].copy_from_slice(&fresh[..length]);
    });
    bytes
});
static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| of_bytes(&OLD).1.expect("it is long enough"));

fn main() {
    divan::main();
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[divan::bench]
fn limit_memcpy(bencher: Bencher) {
    let mut to = vec![0; BYTES];
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| to.copy_from_slice(divan::black_box(&OLD)));
}

#[divan::bench]
fn limit_blake3(bencher: Bencher) {
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| ContentId::of(divan::black_box(&OLD)));
}

#[divan::bench]
fn hash_by_chunks(bencher: Bencher) {
    let chunks = Chunks::of(BYTES as u64);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let hash = |chunk| chunks.hash(chunk, &OLD[chunks.offset(chunk) as usize..][..chunks.len(chunk) as usize]);
        chunks.content(&(0..chunks.count()).map(hash).collect::<Vec<_>>())
    });
}

#[divan::bench]
fn sign_blocks_alone(bencher: Bencher) {
    let block = block_bytes(BYTES as u64);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| signature::entries_of(block, divan::black_box(&OLD)));
}

#[divan::bench]
fn sign_and_hash(bencher: Bencher) {
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| of_bytes(divan::black_box(&OLD)));
}

#[divan::bench]
fn index(bencher: Bencher) {
    bencher.bench_local(|| {
        let signature = fast_rsync::Signature::deserialize(SIGNATURE.wire().to_vec()).expect("it is one");
        divan::black_box(signature.index());
    });
}

fn bench_diff(bencher: Bencher, new: &[u8], knows_chunks: bool) {
    let ours = of_bytes(new).1.expect("it is long enough");
    LazyLock::force(&SIGNATURE);
    let file = &new;
    bencher.counter(BytesCount::new(new.len())).bench_local(|| {
        let version = NewVersion { file, size: new.len() as u64, chunks: knows_chunks.then_some(ours.chunks()) };
        let mut length = 0;
        let made = diff(&SIGNATURE, &version, &mut || true, &mut |part| {
            length += part.len();
            true
        });
        (made.is_ok(), length)
    });
}

#[divan::bench]
fn diff_overwritten_by_chunks(bencher: Bencher) {
    bench_diff(bencher, &OVERWRITTEN, true);
}

#[divan::bench]
fn diff_overwritten_by_blocks(bencher: Bencher) {
    bench_diff(bencher, &OVERWRITTEN, false);
}

#[divan::bench]
fn diff_shifted(bencher: Bencher) {
    bench_diff(bencher, &SHIFTED, true);
}

#[divan::bench]
fn diff_riddled(bencher: Bencher) {
    bench_diff(bencher, &RIDDLED, true);
}

#[divan::bench]
fn diff_riddled_by_fast_rsync_alone(bencher: Bencher) {
    let signature = fast_rsync::Signature::deserialize(SIGNATURE.wire().to_vec()).expect("it is one");
    let index = signature.index();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let mut delta = Vec::new();
        fast_rsync::diff(&index, &RIDDLED, &mut delta).expect("memory can be written");
        delta
    });
}

/// Adds up lengths: what is left is the reading of the delta itself.
struct Lengths(u64);

impl Sink for Lengths {
    type Error = Infallible;
    fn copy(&mut self, _offset: u64, length: u64) -> Result<(), Infallible> {
        self.0 += length;
        Ok(())
    }
    fn literal(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

#[divan::bench]
fn patch_riddled(bencher: Bencher) {
    let mut delta = Vec::new();
    let version = NewVersion { file: &&RIDDLED[..], size: BYTES as u64, chunks: None };
    diff(&SIGNATURE, &version, &mut || true, &mut |part| {
        delta.extend_from_slice(part);
        true
    })
    .expect("half of it is the same");
    bencher.counter(BytesCount::new(delta.len())).bench_local(|| {
        let (mut patch, mut lengths) = (Patch::new(BYTES as u64, BYTES as u64), Lengths(0));
        delta.chunks(128 * 1024).for_each(|part| patch.push(part, &mut lengths).expect("it was just made"));
        lengths.0
    });
}
