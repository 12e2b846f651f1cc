//! Reads a file once for all that is wanted of it: its content id, its chunks' hashes, its blocks'
//! hashes. A long one on several threads.
//!
//! A user's file is read, never mapped: a truncation would kill the process.

use crate::delta::ReadAt;
use crate::delta::signature::{Piece, Pieces, Signature};
use crate::model::{Chunks, ContentId};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// From this size on several threads share a file (bytes).
const SHARED_FROM_BYTES: u64 = 8 << 20;
/// As many as that, where there are as many cores.
const THREADS: usize = 4;

/// A file as the differ reads it.
pub(super) struct DiffInput<'a>(pub &'a File);

impl ReadAt for DiffInput<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// How many threads work on a file of this size.
pub(super) fn threads(size: u64) -> usize {
    if size < SHARED_FROM_BYTES {
        return 1;
    }
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// The content of a file's first `size` bytes, and their signature where there is one. `None`:
/// `is_stopping` said so, or the file ends before. `buffer` is used, and grows to a chunk. `old`:
/// of a version that it follows; it saves work.
pub fn sum(
    file: &File,
    size: u64,
    old: Option<&Signature>,
    is_stopping: &(dyn Fn() -> bool + Sync),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(ContentId, Option<Signature>)>> {
    let chunks = Chunks::of(size);
    let (next, pieces) = (AtomicU32::new(0), Mutex::new(Pieces::new(chunks)));
    let shared = SharedFile { file, chunks, old, is_stopping, next, pieces };
    let worked = thread::scope(|scope| {
        let others: Vec<_> = (1..threads(size))
            .map_while(|_| {
                let work = || shared.work(&mut Vec::new());
                thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, work).ok()
            })
            .collect();
        let worked = shared.work(buffer);
        let others = others.into_iter().map(|other| other.join().unwrap_or(Ok(())));
        others.fold(worked, Result::and)
    });
    match worked {
        Ok(()) => Ok(shared.pieces.into_inner().unwrap_or_else(PoisonError::into_inner).finish()),
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(why) => Err(why),
    }
}

struct SharedFile<'a> {
    file: &'a File,
    chunks: Chunks,
    old: Option<&'a Signature>,
    is_stopping: &'a (dyn Fn() -> bool + Sync),
    next: AtomicU32,
    pieces: Mutex<Pieces>,
}

impl SharedFile<'_> {
    /// Takes one chunk after the other until there are no more.
    fn work(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        while !(self.is_stopping)() {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((from, length)) = self.chunks.span(chunk, 1) else { break };
            let length = length as usize;
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            self.file.read_exact_at(&mut buffer[..length], from)?;
            let piece = Piece::like(self.old, self.chunks, chunk, &buffer[..length]);
            self.pieces.lock().unwrap_or_else(PoisonError::into_inner).put(chunk, piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::signature::of_bytes;
    use std::io::Write;

    #[test]
    fn several_threads_make_of_a_file_what_one_makes_of_its_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        let mut bytes = vec![0; (9 << 20) + 333];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        file.write_all(&bytes).unwrap();
        for size in [0, 1000, 65_536, 1 << 20, bytes.len()] {
            let summed = sum(&file, size as u64, None, &|| false, &mut Vec::new()).unwrap();
            assert_eq!(summed, Some(of_bytes(&bytes[..size])), "{size}");
        }
    }

    /// One byte changed, some added, some cut off, and so many added that its blocks are larger
    /// ones.
    #[test]
    fn what_is_taken_over_from_an_older_version_is_what_would_be_made_anew() {
        let mut bytes = vec![0; (9 << 20) + 333];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let old = of_bytes(&bytes[..6 << 20]).1;
        for (size, changed) in [(6 << 20, 3 << 20), ((6 << 20) + 99, 17), ((5 << 20) + 7, 0), (bytes.len(), 5)] {
            let mut file = tempfile::tempfile().unwrap();
            let mut new = bytes[..size].to_vec();
            new[changed] ^= 1;
            file.write_all(&new).unwrap();
            let summed = sum(&file, size as u64, old.as_ref(), &|| false, &mut Vec::new()).unwrap();
            assert_eq!(summed, Some(of_bytes(&new)), "{size}");
        }
    }

    #[test]
    fn a_file_that_ends_too_early_has_no_sum_and_a_stop_is_obeyed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(9 << 20).unwrap();
        assert_eq!(sum(&file, (9 << 20) + 1, None, &|| false, &mut Vec::new()).unwrap(), None);
        assert_eq!(sum(&file, 9 << 20, None, &|| true, &mut Vec::new()).unwrap(), None);
    }
}
