//! How fast the engine's plain functions are: digests of buckets, the winner of two entries, and
//! three texts that become one, beside BLAKE3 alone and copying memory.
//!
//! `cargo bench --bench engine`.

use dirsyncd::engine::api::digest::{bucket_of, digest_of, entry_hash};
use dirsyncd::engine::api::index::Row;
use dirsyncd::engine::merge::{RemoteEffect, apply_remote};
use dirsyncd::io::merge3;
use dirsyncd::model::{ContentId, DeviceId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use std::fmt::Write as _;

/// A bucket's, of a million paths.
const BUCKET: usize = 16;
const ENTRIES: usize = 1000;
const LINES: usize = 2000;

fn main() {
    divan::main();
}

fn entry(n: usize, stamp: u64) -> (SyncPath, Entry) {
    let author = DeviceId([n as u8 % 3; 32]);
    let seen = (0..3).fold(VersionVector::default(), |seen, device| seen.with(DeviceId([device; 32]), stamp));
    let kind = Kind::File { size: n as u64, content: ContentId([n as u8; 32]) };
    let version = Version { stamp, author, seen };
    let path = SyncPath::new(format!("projects/some-folder/file-{n}.txt")).expect("a path");
    (path, Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version })
}

#[divan::bench]
fn limit_blake3_of_200_bytes(bencher: Bencher) {
    let bytes = [7; 200];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| blake3::hash(divan::black_box(&bytes)));
}

/// As when a path in it changed: all of its entries are hashed again.
#[divan::bench]
fn digest_of_a_bucket_of_16(bencher: Bencher) {
    let entries: Vec<_> = (0..BUCKET).map(|n| entry(n, 5)).collect();
    bencher
        .counter(ItemsCount::new(BUCKET))
        .bench_local(|| digest_of(entries.iter().map(|(path, entry)| entry_hash(path, entry)).collect()));
}

#[divan::bench]
fn bucket_of_a_path(bencher: Bencher) {
    let (path, _) = entry(1, 5);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| bucket_of(divan::black_box(&path)));
}

/// Half of them win.
#[divan::bench]
fn winners_of_1000_pairs(bencher: Bencher) {
    let row = |n| Row { head: entry(n, 5).1, disk: None, installing: None, since: 0 };
    let pairs: Vec<(Row, Entry)> = (0..ENTRIES).map(|n| (row(n), entry(n, 4 + 2 * (n as u64 % 2)).1)).collect();
    bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| {
        let wins = pairs.iter().filter(|(row, theirs)| apply_remote(Some(row), theirs) == RemoteEffect::Wins).count();
        assert_eq!(wins, ENTRIES / 2);
    });
}

/// A text of 2,000 lines, 20 of which say something else.
fn text(every: usize, word: &str) -> String {
    (0..LINES).fold(String::new(), |mut text, line| {
        let said = if line % 100 == every { word } else { "stands" };
        writeln!(text, "line {line} {said} where it always stood").expect("memory can be written");
        text
    })
}

#[divan::bench]
fn limit_memcpy_of_the_text(bencher: Bencher) {
    let base = text(100, "");
    bencher.counter(BytesCount::new(base.len())).bench_local(|| divan::black_box(base.as_bytes()).to_vec());
}

#[divan::bench]
fn three_way_merge_of_2000_lines(bencher: Bencher) {
    let (base, ours, theirs) = (text(100, ""), text(10, "stood"), text(60, "will stand"));
    bencher
        .counter(BytesCount::new(base.len()))
        .bench_local(|| merge3::merge(&base, &ours, &theirs).expect("their edits do not meet"));
}
