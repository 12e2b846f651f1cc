//! Contents in chunks on a real disk: what counts after a start, and what never does.

use super::*;
use crate::delta::signature::of_bytes;
use crate::io::store::signatures::Signatures;
use crate::model::chunks::{CHUNK_BYTES, ListHasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const LINK: LinkId = LinkId(1);

fn bytes(count: u64) -> Vec<u8> {
    let mut bytes = vec![0; count as usize];
    blake3::Hasher::new().update(&count.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn list_of(bytes: &[u8]) -> (ContentId, Vec<ChunkHash>) {
    let mut hasher = ListHasher::new(Chunks::of(bytes.len() as u64));
    hasher.update(bytes);
    hasher.finish().unwrap()
}

fn open(dir: &Path) -> (Arc<Stage>, Partials) {
    let root = Arc::new(Root::open(dir).unwrap());
    let stage = Stage::open(Arc::clone(&root)).unwrap();
    (Arc::clone(&stage), Partials::new(root, stage))
}

fn put(partial: &Partial, all: &[u8], chunk: u32) -> ChunkVerdict {
    let (from, len) = partial.chunks().span(chunk, 1).unwrap();
    let part = &all[from as usize..(from + len) as usize];
    assert!(partial.claim(chunk).unwrap());
    partial.write(from, part).unwrap();
    let mut hasher = ChunkHasher::at(from);
    hasher.update(part);
    partial.written(chunk, hasher.finish(), LINK, Some(part)).unwrap()
}

fn staging(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join(".dirsync/staging")).unwrap();
    names.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_came_is_here_after_a_restart_and_what_was_damaged_meanwhile_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let all = bytes(5 * CHUNK_BYTES + 17);
    let (content, list) = list_of(&all);
    {
        let (_, partials) = open(temp.path());
        let partial = partials.open(content, all.len() as u64).unwrap();
        for chunk in [0, 1, 3, 5] {
            assert_eq!(put(&partial, &all, chunk), ChunkVerdict::Held);
        }
        assert!(!partial.claim(3).unwrap());
    }
    let file =
        File::options().write(true).open(temp.path().join(".dirsync/staging").join(part_name(&content))).unwrap();
    file.write_all_at(b"a torn block", CHUNK_BYTES + 5).unwrap();
    let (_, partials) = open(temp.path());
    let partial = partials.open(content, all.len() as u64).unwrap();
    assert_eq!(partial.here(), (vec![(0, 1), (3, 1), (5, 1)], false));
    assert!(!partial.may_serve(0, 1), "nothing is served that no list says to be right");
    assert_eq!(partial.list_came(list), Some(vec![]));
    assert!(partial.may_serve(5, 1) && !partial.may_serve(0, 2) && !partial.may_serve(5, 2));
    for chunk in [1, 2, 4] {
        put(&partial, &all, chunk);
    }
    let id = partials.finish(&content).unwrap();
    let staged = std::fs::read(temp.path().join(".dirsync/staging").join(staging::name(id))).unwrap();
    assert!(staged == all);
    partials.close(&content, false);
    assert_eq!(staging(temp.path()), [staging::name(id)]);
}

#[test]
fn what_was_whole_and_not_installed_is_whole_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let all = bytes(2 * CHUNK_BYTES);
    let (content, _) = list_of(&all);
    {
        let (_, partials) = open(temp.path());
        let partial = partials.open(content, all.len() as u64).unwrap();
        put(&partial, &all, 0);
        put(&partial, &all, 1);
        partials.finish(&content).unwrap();
    }
    let (_, partials) = open(temp.path());
    assert_eq!(partials.open(content, all.len() as u64).unwrap().here().0, [(0, 2)]);
    assert!(partials.finish(&content).is_ok());
}

#[test]
fn what_came_in_chunks_is_signed_when_it_is_whole_also_what_came_before_a_restart_or_was_wrong_at_first() {
    let (temp, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signatures = Signatures::new(kept.path().to_owned());
    let open = || {
        let (stage, partials) = open(temp.path());
        stage.keep_signatures(Arc::clone(&signatures));
        partials
    };
    // A hole, and a last chunk that ends in the midst of a block.
    let mut all = bytes(5 * CHUNK_BYTES + 4999);
    all[2 * CHUNK_BYTES as usize..3 * CHUNK_BYTES as usize].fill(0);
    let ((content, list), size) = (list_of(&all), all.len() as u64);
    let mut wrong = all.clone();
    wrong[4 * CHUNK_BYTES as usize] ^= 1;
    {
        let partial = open().open(content, size).unwrap();
        put(&partial, &all, 5);
        put(&partial, &all, 0);
    }
    let partials = open();
    let partial = partials.open(content, size).unwrap();
    put(&partial, &wrong, 4);
    assert_eq!(partial.list_came(list), Some(vec![(4, Some(LINK))]));
    for chunk in [3, 4, 2, 1] {
        assert_eq!(put(&partial, &all, chunk), ChunkVerdict::Held);
    }
    assert!(!signatures.has(&content));
    partials.finish(&content).unwrap();
    assert_eq!(signatures.get(&content, size), of_bytes(&all).1);
}

#[test]
fn a_wrong_chunk_never_counts_and_a_late_list_names_who_sent_it() {
    let temp = tempfile::tempdir().unwrap();
    let all = bytes(3 * CHUNK_BYTES);
    let (content, list) = list_of(&all);
    let (_, partials) = open(temp.path());
    let partial = partials.open(content, all.len() as u64).unwrap();
    let mut wrong = all.clone();
    wrong[7] ^= 1;
    wrong[CHUNK_BYTES as usize] ^= 1;
    put(&partial, &wrong, 0);
    assert_eq!(partial.list_came(list[..2].to_vec()), None, "a list of the wrong length");
    let mut lie = list.clone();
    lie.swap(0, 1);
    assert_eq!(partial.list_came(lie), None, "a list that is not the content's");
    assert_eq!(partial.list_came(list), Some(vec![(0, Some(LINK))]));
    assert_eq!(put(&partial, &wrong, 1), ChunkVerdict::Wrong);
    assert_eq!(partial.here().0, []);
    assert!(matches!(partials.finish(&content), Err(StageError::BadContent)));
}

#[test]
fn a_chunk_that_could_not_be_logged_may_come_again_and_then_counts() {
    let temp = tempfile::tempdir().unwrap();
    let all = bytes(3 * CHUNK_BYTES);
    let (content, _) = list_of(&all);
    {
        let (_, partials) = open(temp.path());
        let partial = partials.open(content, all.len() as u64).unwrap();
        put(&partial, &all, 0);
        // It takes no bytes, as on a full disk.
        let log = File::open(temp.path().join(".dirsync/staging").join(log_name(&content))).unwrap();
        let (full, _) = Log::read(log, content, all.len() as u64).unwrap();
        let log = std::mem::replace(&mut partial.lock().log, full);
        assert!(partial.claim(1).unwrap());
        partial.write(CHUNK_BYTES, &all[CHUNK_BYTES as usize..2 * CHUNK_BYTES as usize]).unwrap();
        assert!(partial.written(1, [1; 32], LINK, None).is_err());
        assert_eq!(partial.here().0, [(0, 1)]);
        partial.lock().log = log;
        put(&partial, &all, 1);
        put(&partial, &all, 2);
    }
    let (_, partials) = open(temp.path());
    assert_eq!(partials.open(content, all.len() as u64).unwrap().here().0, [(0, 3)]);
    assert!(partials.finish(&content).is_ok());
}

#[test]
fn a_size_that_no_disk_holds_is_a_trouble_of_that_content() {
    let temp = tempfile::tempdir().unwrap();
    let (_, partials) = open(temp.path());
    // XFS and Btrfs hold it, of nothing but holes.
    let probe = File::create(temp.path().join("probe")).unwrap();
    for (id, size) in [(1, 1 << 62), (2, (1 << 63) - 1)] {
        let fits = probe.set_len(size).is_ok();
        assert_eq!(partials.open(ContentId([id; 32]), size).is_ok(), fits, "{size}");
        assert_eq!(partials.get(&ContentId([id; 32])).is_some(), fits, "{size}");
    }
}

#[test]
fn a_second_size_of_one_id_takes_nothing_over_from_the_first() {
    let temp = tempfile::tempdir().unwrap();
    let all = bytes(3 * CHUNK_BYTES);
    let (content, _) = list_of(&all);
    let (_, partials) = open(temp.path());
    put(&partials.open(content, all.len() as u64).unwrap(), &all, 0);
    let other = partials.open(content, 9 * CHUNK_BYTES).unwrap();
    assert_eq!((other.here().0, other.chunks().count()), (vec![], 9));
}

#[test]
fn zeros_take_no_room_on_the_disk_also_where_something_else_was_half_written() {
    let temp = tempfile::tempdir().unwrap();
    let all = vec![0; 8 * CHUNK_BYTES as usize];
    let (content, _) = list_of(&all);
    let (_, partials) = open(temp.path());
    let partial = partials.open(content, all.len() as u64).unwrap();
    assert!(partial.claim(2).unwrap());
    partial.write(2 * CHUNK_BYTES, &vec![7; 70_000]).unwrap();
    partial.release(2);
    for chunk in 0..4 {
        put(&partial, &all, chunk);
    }
    for chunk in 4..8 {
        assert!(partial.claim(chunk).unwrap());
        let (from, len) = partial.chunks().span(chunk, 1).unwrap();
        partial.write(from, &vec![0; len as usize]).unwrap();
        let mut hasher = ChunkHasher::at(from);
        hasher.zeros(len);
        partial.written(chunk, hasher.finish(), LINK, None).unwrap();
    }
    let id = partials.finish(&content).unwrap();
    let path = temp.path().join(".dirsync/staging").join(staging::name(id));
    assert!(std::fs::read(&path).unwrap() == all);
    assert!(std::fs::metadata(path).unwrap().blocks() * 512 < CHUNK_BYTES);
}

#[test]
fn what_nobody_took_up_goes_in_its_time_and_at_once_where_a_half_is_missing() {
    let temp = tempfile::tempdir().unwrap();
    let all = bytes(2 * CHUNK_BYTES);
    let (content, _) = list_of(&all);
    let (_, partials) = open(temp.path());
    put(&partials.open(content, all.len() as u64).unwrap(), &all, 0);
    partials.close(&content, true);
    let orphan = ContentId([9; 32]);
    std::fs::write(temp.path().join(".dirsync/staging").join(log_name(&orphan)), "no log").unwrap();
    drop(partials);
    let (_, partials) = open(temp.path());
    assert_eq!(staging(temp.path()).len(), 2);
    assert_eq!(partials.open(content, all.len() as u64).unwrap().here().0, [(0, 1)]);
    drop(partials);
    let log = File::options().write(true).open(temp.path().join(".dirsync/staging").join(log_name(&content))).unwrap();
    log.set_modified(SystemTime::now() - KEPT - Duration::from_secs(9)).unwrap();
    let _ = open(temp.path());
    assert_eq!(staging(temp.path()).len(), 0);
}
