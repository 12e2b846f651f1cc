//! Both ends on real files: what is made, and what comes of bases that move, deltas that lie and
//! signatures that are none.

use super::*;
use crate::delta::signature::of_bytes;
use crate::io::fs::delta::DeltaRequest;
use crate::io::fs::root::Root;
use crate::io::fs::staging;
use crate::io::store::signatures::Signatures;
use crate::model::SyncPath;
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 4] = [0x72, 0x73, 0x02, 0x36];

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A folder with one file in it, and where its signatures are kept.
struct PatchFixture {
    temp: tempfile::TempDir,
    deltas: Arc<Deltas>,
    signatures: Arc<Signatures>,
}

impl PatchFixture {
    fn with(bytes: &[u8]) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), bytes)
    }

    fn in_dir(temp: tempfile::TempDir, bytes: &[u8]) -> Self {
        let (dir, kept) = (temp.path().join("dir"), temp.path().join("kept"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), bytes).unwrap();
        let root = Arc::new(Root::open(&dir).unwrap());
        let stage = Stage::open(Arc::clone(&root)).unwrap();
        let signatures = Signatures::new(kept);
        let deltas = Deltas::new(root, stage, Some(Arc::clone(&signatures)));
        Self { temp, deltas, signatures }
    }

    fn dir(&self) -> &Path {
        self.deltas.root.path()
    }

    fn file(&self) -> ServedFile {
        let path = SyncPath::new("file").unwrap();
        let stat = self.deltas.root.stat(&path).unwrap().unwrap();
        let bytes = fs::read(self.dir().join("file")).unwrap();
        ServedFile { path, stat, content: ContentId::of(&bytes), size: bytes.len() as u64, kept: None }
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.dir().join(".dirsync/staging")).unwrap().count()
    }

    /// Applies a delta that comes in these parts.
    fn receive(&self, wanted: &PatchTarget, parts: Vec<Arrived>) -> Option<Result<Vec<u8>, FetchError>> {
        let (sender, receiver) = mpsc::channel();
        for part in parts {
            sender.send(part).unwrap();
        }
        drop(sender);
        let made = self.deltas.receive(wanted, "b", &receiver, |_| {})?;
        Some(made.map(|id| fs::read(self.dir().join(".dirsync/staging").join(staging::name(id))).unwrap()))
    }

    /// The delta that makes this machine's file of `base`, or how it ended.
    fn serve(&self, base: &[u8], signature: Option<&[u8]>) -> Result<Vec<u8>, Ending> {
        let asked = DeltaRequest { file: self.file(), base: ContentId::of(base), base_size: base.len() as u64 };
        let mut delta = Vec::new();
        let how = self.deltas.serve(&asked, "b", &mut || signature.map(<[u8]>::to_vec), &mut |part: Bytes| {
            delta.extend_from_slice(&part);
            true
        });
        if how == Ending::Whole { Ok(delta) } else { Err(how) }
    }
}

type Harm = fn(&Path);

fn parts(delta: &[u8]) -> Vec<Arrived> {
    let pieces = delta.chunks(10_000).map(|part| Arrived::Bytes(Bytes::copy_from_slice(part)));
    pieces.chain([Arrived::End(Ending::Whole)]).collect()
}

fn wanted(machine: &PatchFixture, bytes: &[u8]) -> PatchTarget {
    PatchTarget { content: ContentId::of(bytes), size: bytes.len() as u64, base: machine.file() }
}

#[test]
fn one_machine_says_what_differs_and_the_other_makes_it() {
    let old = noise(1, (9 << 20) + 77);
    let mut overwritten = old.clone();
    overwritten[4_000_000..4_000_009].copy_from_slice(b"\0changed\0");
    let rows = [
        ("overwritten", overwritten, 20_000),
        ("inserted", [b"+", &old[..]].concat(), 100),
        ("appended", [&old[..], &noise(2, 1 << 20)].concat(), (1 << 20) + 20_000),
        ("zeros put in", [&old[..1 << 20], &vec![0; 6 << 20], &old[1 << 20..]].concat(), (6 << 20) + 20_000),
        ("cut", old[..5_000_000].to_vec(), 20_000),
        ("short", old[..100_000].to_vec(), 20_000),
    ];
    for (what, new, at_most) in rows {
        let (has_old, has_new) = (PatchFixture::with(&old), PatchFixture::with(&new));
        let signature = has_old.deltas.signature_of(&has_old.file());
        let delta = has_new.serve(&old, signature.as_deref()).expect(what);
        assert!(delta.len() <= at_most, "{what}: {}", delta.len());
        let made = has_old.receive(&wanted(&has_old, &new), parts(&delta)).unwrap().expect(what);
        assert!(made == new, "{what}: another file");
        assert_eq!(has_old.staged(), 1);
        // Made while it was verified.
        let (content, signature) = of_bytes(&new);
        assert_eq!(has_old.signatures.get(&content, new.len() as u64), signature, "{what}");
    }
}

#[test]
fn with_its_own_signature_of_the_base_nothing_is_asked_and_others_get_what_was_made() {
    let (old, new) = (noise(1, 3 << 20), [&noise(1, 3 << 20)[..], b"more"].concat());
    let has_new = PatchFixture::with(&new);
    has_new.signatures.put(&ContentId::of(&old), &of_bytes(&old).1.unwrap());
    let delta = has_new.serve(&old, None).unwrap();
    fs::remove_dir_all(has_new.temp.path().join("kept")).unwrap();
    assert_eq!(has_new.serve(&old, None), Ok(delta));
    assert_eq!(has_new.serve(&noise(2, 3 << 20), None), Err(Ending::NoDelta));
}

#[test]
fn a_peer_that_does_not_take_its_delta_holds_up_no_other() {
    let old = noise(1, 5 << 20);
    let mut has_new = PatchFixture::with(&[&old[..], &noise(2, 5 << 20)].concat());
    Arc::get_mut(&mut has_new.deltas).unwrap().making.patience = Duration::from_millis(50);
    let (content, signature) = of_bytes(&old);
    has_new.signatures.put(&content, &signature.unwrap());
    let (takes, taken) = mpsc::channel();
    let (goes_on, waits) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let (has_new, old) = (&has_new, &old);
        let slow = scope.spawn(move || {
            let asked = DeltaRequest { file: has_new.file(), base: ContentId::of(old), base_size: old.len() as u64 };
            has_new.deltas.serve(&asked, "b", &mut || None, &mut |_| {
                takes.send(()).unwrap();
                waits.recv().is_ok()
            })
        });
        taken.recv().unwrap();
        assert_eq!(has_new.serve(old, None), Err(Ending::NoDelta));
        drop(goes_on);
        assert_eq!(slow.join().unwrap(), Ending::NotHere);
        assert!(has_new.serve(old, None).is_ok(), "the next one has its turn");
    });
}

#[test]
fn what_has_nothing_in_common_or_changed_meanwhile_is_not_served_as_a_delta() {
    let (old, new) = (noise(1, 9 << 20), noise(2, 9 << 20));
    let has_new = PatchFixture::with(&new);
    let signature = of_bytes(&old).1.unwrap().wire().to_vec();
    assert_eq!(has_new.serve(&old, Some(&signature)), Err(Ending::NoDelta));
    let asked = DeltaRequest { file: has_new.file(), base: ContentId::of(&old), base_size: old.len() as u64 };
    fs::write(has_new.dir().join("file"), noise(3, 9 << 20)).unwrap();
    let how = has_new.deltas.serve(&asked, "b", &mut || Some(signature.clone()), &mut |_| true);
    assert_eq!(how, Ending::NotHere);
}

#[test]
fn a_peer_s_signature_that_is_none_is_refused() {
    let (old, new) = (noise(1, 1 << 20), [&noise(1, 1 << 20)[..], b"+"].concat());
    let has_new = PatchFixture::with(&new);
    let good = of_bytes(&old).1.unwrap().wire().to_vec();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let rows = [
        ("block size 0", with(6, 0)),
        ("hash length 0", with(11, 0)),
        ("hash length over 16", with(11, 17)),
        ("too few entries", good[..good.len() - 20].to_vec()),
        ("too many entries", [&good[..], &[0; 20]].concat()),
        ("40 MB", vec![0; 40_000_000]),
        ("nothing", vec![]),
    ];
    for (what, bytes) in rows {
        assert_eq!(has_new.serve(&old, Some(&bytes)), Err(Ending::NoDelta), "{what}");
    }
    assert!(has_new.serve(&old, Some(&good)).is_ok());
}

#[test]
fn a_signature_made_to_blow_up_the_search_costs_two_seconds_at_most() {
    // Every place of a file that repeats itself has the rolling hash of a block that it is not.
    let block = crate::delta::block_bytes(64 << 20) as usize;
    let known = noise(7, 2 * block);
    let has_new = PatchFixture::with(&known.repeat((16 << 20) / known.len()));
    let mut bytes = of_bytes(&vec![0; 64 << 20]).1.unwrap().wire().to_vec();
    for (place, entry) in bytes[12..].chunks_mut(20).enumerate() {
        let from = place % block;
        let hash = &crate::delta::signature::entries_of(block as u64, &known[from..from + block])[..4];
        entry[..4].copy_from_slice(hash);
        entry[4..].fill(0xee);
    }
    let asked = DeltaRequest { file: has_new.file(), base: ContentId([1; 32]), base_size: 64 << 20 };
    let cpu = || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).unwrap();
    let began = cpu();
    let how = has_new.deltas.serve(&asked, "b", &mut || Some(bytes.clone()), &mut |_| true);
    assert_eq!(how, Ending::NoDelta);
    let took = cpu().saturating_sub(began);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_delta_that_lies_leaves_nothing() {
    let old = noise(1, 1 << 20);
    let new = [&old[..], b"+"].concat();
    let machine = PatchFixture::with(&old);
    let size = new.len() as u64;
    let command = |code: u8, numbers: &[u8]| [&MAGIC[..], &[code], numbers].concat();
    let copy = |offset: u32, length: u32| command(0x4f, &[offset.to_be_bytes(), length.to_be_bytes()].concat());
    let rows = [
        ("makes too much", [&copy(0, 1 << 20)[..], &[0x02, 1, 2], &[0]].concat()),
        ("makes 2^64 - 1", command(0x44, &[255; 8])),
        ("copies out of range", [&copy(1, 1 << 20)[..], &[0x01, 1], &[0]].concat()),
        ("copies from far out", [&copy(u32::MAX, 1)[..], &[0]].concat()),
        ("ends early", [&copy(0, 1 << 20)[..], &[0]].concat()),
        ("has no end", copy(0, 1 << 20)),
        ("makes another content", [&copy(0, 1 << 20)[..], b"\x01-", &[0]].concat()),
        ("is none", b"PK\x03\x04 and more".to_vec()),
        ("is of single bytes", [&MAGIC[..], &[0x45, 0, 1].repeat(200_000)].concat()),
        ("goes on", [&copy(0, 1 << 20)[..], b"\x01+", &[0, 0]].concat()),
    ];
    for (what, delta) in rows {
        let made = machine.receive(&wanted(&machine, &new), parts(&delta)).unwrap();
        assert_eq!(made, Err(FetchError::NoDelta), "{what}");
        assert_eq!(machine.staged(), 0, "{what}");
    }
    let good = [&copy(0, 1 << 20)[..], b"\x01+", &[0]].concat();
    assert_eq!(machine.receive(&wanted(&machine, &new), parts(&good)), Some(Ok(new.clone())));
    let refused = machine.receive(&wanted(&machine, &new), vec![Arrived::End(Ending::NoDelta)]);
    assert_eq!(refused, Some(Err(FetchError::NoDelta)));
    assert_eq!(machine.receive(&wanted(&machine, &new), vec![]), None);
    assert_eq!(machine.staged(), 1);
    assert_eq!(size, (1 << 20) + 1);
}

#[test]
fn a_base_that_is_edited_or_truncated_meanwhile_installs_nothing() {
    let old = noise(1, 16 << 20);
    let new = [b"+", &old[..]].concat();
    let has_new = PatchFixture::with(&new);
    let delta = has_new.serve(&old, Some(of_bytes(&old).1.unwrap().wire())).unwrap();
    let rows: [(&str, Harm); 4] = [
        ("truncated", |file| File::options().write(true).open(file).unwrap().set_len(1 << 20).unwrap()),
        ("edited", |file| File::options().write(true).open(file).unwrap().write_all_at(b"edit", 9 << 20).unwrap()),
        ("replaced", |file| {
            fs::write(file.with_extension("new"), noise(3, 16 << 20)).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        }),
        ("removed", |file| fs::remove_file(file).unwrap()),
    ];
    for (what, harm) in rows {
        let machine = PatchFixture::with(&old);
        let wanted = wanted(&machine, &new);
        let (sender, receiver) = mpsc::channel();
        // Half of it is read before the harm, and half after.
        let (first, rest) = delta.split_at(delta.len() / 2);
        sender.send(Arrived::Bytes(Bytes::copy_from_slice(first))).unwrap();
        let made = thread::scope(|scope| {
            let made = scope.spawn({
                let (machine, wanted) = (&machine, &wanted);
                move || machine.deltas.receive(wanted, "b", &receiver, |_| {})
            });
            while machine.staged() == 0 {
                thread::yield_now();
            }
            harm(&machine.dir().join("file"));
            sender.send(Arrived::Bytes(Bytes::copy_from_slice(rest))).unwrap();
            sender.send(Arrived::End(Ending::Whole)).unwrap();
            made.join().unwrap().unwrap()
        });
        match (what, made) {
            // What was open is what it was, but for the count of its names.
            (_, Err(FetchError::NoDelta)) => assert_eq!(machine.staged(), 0, "{what}"),
            (_, other) => panic!("{what}: {other:?}"),
        }
    }
}
