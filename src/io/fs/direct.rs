//! Large contents go to the disk past the page cache (`O_DIRECT`).
//!
//! In the cache they would push out what people work with, each of their bytes would be copied once
//! more, and whatever is made durable meanwhile, one small edit, would wait for them. Where the
//! file system refuses, they go the usual way. May import `beneath` and `rlimits` alone.
//! Deliberately not here: what is read and written.

use crate::io::fs::beneath;
use crate::io::fs::rlimits::memory_bytes;
use rustix::fd::AsFd;
use rustix::fs::{Advice, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Direct writes begin and end at multiples of this, in memory and in the file (bytes): the logical
/// block of every usual disk.
const ALIGN: usize = 4096;
/// Less is never read past the cache at once (bytes): the disk would be asked too often.
const READ_BYTES: usize = 64 * 1024;
/// So much of the memory, as its inverse, a content may take of the cache; but always so many
/// bytes.
const MEMORY_SHARE: u64 = 64;
const ALWAYS_CACHED_BYTES: u64 = 64 << 20;

/// Whether a content of this size goes past the cache.
fn is_large(size: u64) -> bool {
    static MOST: OnceLock<u64> = OnceLock::new();
    let most = MOST.get_or_init(|| (memory_bytes() / MEMORY_SHARE).max(ALWAYS_CACHED_BYTES));
    size > *most
}

/// A file that is written, past the cache if it is large.
#[derive(Debug)]
pub struct Target {
    file: File,
    direct: Option<File>,
    is_refused: AtomicBool,
}

impl Target {
    /// `file` is to be `size` bytes long, and has this name in `dir`, one of our own folders: it is
    /// opened by that once more.
    pub fn new(file: File, size: u64, dir: impl AsFd, name: &str) -> Self {
        Self::open(file, is_large(size), dir, name)
    }

    /// The same for a content that is made of another one of about its size, which may be in the
    /// cache: both would take twice as much.
    pub fn of_another(file: File, size: u64, dir: impl AsFd, name: &str) -> Self {
        Self::open(file, size > ALWAYS_CACHED_BYTES, dir, name)
    }

    /// A file that is written through the cache.
    pub fn cached(file: File) -> Self {
        Self { file, direct: None, is_refused: AtomicBool::new(false) }
    }

    fn open(file: File, is_large: bool, dir: impl AsFd, name: &str) -> Self {
        let open = || beneath::open(dir, name.as_bytes(), OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::DIRECT);
        let direct = if is_large { open().ok().map(File::from) } else { None };
        if direct.is_some() {
            // What is read ahead would be in the way of what is written there.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
        }
        Self { direct, ..Self::cached(file) }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether it is written past the cache.
    pub fn is_direct(&self) -> bool {
        self.direct().is_some()
    }

    fn direct(&self) -> Option<&File> {
        self.direct.as_ref().filter(|_| !self.is_refused.load(Ordering::Relaxed))
    }

    /// Writes all of it. Past the cache goes what lies at multiples of the alignment, in `bytes`
    /// and in the file.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        if let Some(direct) = self.direct().filter(|_| is_aligned(bytes, offset)) {
            let whole = bytes.len() / ALIGN * ALIGN;
            while done < whole {
                match direct.write_at(&bytes[done..whole], offset + done as u64) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    // The rest of a block that was begun is written again.
                    Ok(written) if done + written < whole && written >= ALIGN => done += written / ALIGN * ALIGN,
                    Ok(written) if done + written == whole => done = whole,
                    Ok(_) => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
                        self.is_refused.store(true, Ordering::Relaxed);
                        break;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        if done < bytes.len() { self.file.write_all_at(&bytes[done..], offset + done as u64) } else { Ok(()) }
    }
}

/// A large file that is read: from the cache while it is there, and past it from the first page on
/// that is not.
#[derive(Debug)]
pub struct LargeReader {
    file: File,
    direct: Option<File>,
    is_refused: AtomicBool,
    /// Something of it was not in the cache. To ask once more would bring some of it there each
    /// time.
    is_cold: AtomicBool,
}

impl LargeReader {
    /// `again` is the same file, opened once more.
    pub fn new(file: File, again: Option<File>) -> Self {
        let set_direct = |file: &File| {
            let flags = rustix::fs::fcntl_getfl(file)?;
            rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT)
        };
        let direct = again.filter(|again| set_direct(again).is_ok());
        if direct.is_some() {
            // A question for what is not in the cache brings that one page, and nothing ahead of
            // it.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
        }
        let (is_refused, is_cold) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { file, direct, is_refused, is_cold }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `bytes`. `scratch` is used where what lies askew is read past the cache.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64, scratch: &mut Buffer) -> io::Result<()> {
        let mut done = 0;
        if let Some(direct) =
            self.direct.as_ref().filter(|_| bytes.len() >= READ_BYTES && !self.is_refused.load(Ordering::Relaxed))
        {
            done = self.read_cached(bytes, offset);
            if bytes.len() - done >= READ_BYTES {
                match read_direct(direct, &mut bytes[done..], offset + done as u64, scratch) {
                    Ok(read) => done += read,
                    Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
                        self.is_refused.store(true, Ordering::Relaxed);
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        // The end of the file, and whatever else did not come.
        self.file.read_exact_at(&mut bytes[done..], offset + done as u64)
    }

    /// As much of it as is in the cache, from the beginning on (bytes).
    fn read_cached(&self, bytes: &mut [u8], offset: u64) -> usize {
        let mut done = 0;
        while done < bytes.len() && !self.is_cold.load(Ordering::Relaxed) {
            // One page first: all that is asked for would be brought there.
            let end = if done == 0 { ALIGN } else { bytes.len() };
            let parts = &mut [IoSliceMut::new(&mut bytes[done..end])];
            match rustix::io::preadv2(&self.file, parts, offset + done as u64, ReadWriteFlags::NOWAIT) {
                Ok(read) if read > 0 => done += read,
                _ => self.is_cold.store(true, Ordering::Relaxed),
            }
        }
        done
    }
}

/// Reads from the beginning of `bytes` on, as far as whole blocks go (bytes).
fn read_direct(file: &File, bytes: &mut [u8], offset: u64, scratch: &mut Buffer) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        let (at, rest) = (offset + done as u64, &mut bytes[done..]);
        let whole = rest.len() / ALIGN * ALIGN;
        let read = if is_aligned(rest, at) && whole > 0 {
            read_at(file, &mut rest[..whole], at)?
        } else {
            let before = (at % ALIGN as u64) as usize;
            let length = (before + rest.len()).next_multiple_of(ALIGN).min(scratch.capacity / ALIGN * ALIGN);
            let read = read_at(file, &mut scratch.space()[..length], at - before as u64)?;
            let usable = read.saturating_sub(before).min(rest.len());
            rest[..usable].copy_from_slice(&scratch.space()[before..before + usable]);
            usable
        };
        if read == 0 {
            break;
        }
        done += read;
    }
    Ok(done)
}

fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(bytes, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    offset.is_multiple_of(ALIGN as u64) && bytes.as_ptr().addr().is_multiple_of(ALIGN)
}

/// A buffer of a fixed size that begins at a multiple of the alignment.
#[derive(Debug)]
pub struct Buffer {
    space: Vec<u8>,
    start: usize,
    capacity: usize,
    len: usize,
}

impl Buffer {
    pub fn new(capacity: usize) -> Self {
        let space = vec![0; capacity + ALIGN];
        let start = space.as_ptr().addr().next_multiple_of(ALIGN) - space.as_ptr().addr();
        Self { space, start, capacity, len: 0 }
    }

    /// What was put in.
    pub fn bytes(&self) -> &[u8] {
        &self.space[self.start..self.start + self.len]
    }

    /// All of it, whatever was put in.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.space[self.start..self.start + self.capacity]
    }

    /// How much more it takes (bytes).
    pub fn room(&self) -> usize {
        self.capacity - self.len
    }

    /// At most as much as there is room for.
    pub fn push(&mut self, bytes: &[u8]) {
        let from = self.start + self.len;
        self.space[from..from + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// So many zeros: at most as many as there is room for.
    pub fn push_zeros(&mut self, count: usize) {
        let from = self.start + self.len;
        self.space[from..from + count].fill(0);
        self.len += count;
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn target(dir: &tempfile::TempDir, size: u64) -> Target {
        let folder = File::open(dir.path()).unwrap();
        let file = beneath::create(&folder, "new").unwrap();
        file.set_len(size).unwrap();
        let direct = beneath::open(&folder, b"new", OFlags::WRONLY | OFlags::DIRECT).ok().map(File::from);
        Target { direct, ..Target::new(file, size, &folder, "new") }
    }

    #[test]
    fn what_is_written_past_the_cache_is_what_is_read_also_a_tail_and_what_lies_askew() {
        let dir = tempfile::tempdir().unwrap();
        let size = 3 * ALIGN as u64 + 77;
        let target = target(&dir, size);
        let mut buffer = Buffer::new(4 * ALIGN);
        buffer.push(&vec![1; 2 * ALIGN]);
        buffer.push_zeros(ALIGN);
        buffer.push(&[3; 77]);
        assert_eq!(buffer.room(), ALIGN - 77);
        target.write_all_at(buffer.bytes(), 0).unwrap();
        let read = || std::fs::read(dir.path().join("new")).unwrap();
        assert!(read() == buffer.bytes());
        target.write_all_at(&buffer.bytes()[1..100], 5).unwrap();
        target.write_all_at(&[9; 10], size - 10).unwrap();
        let mut expected = buffer.bytes().to_vec();
        expected[5..104].fill(1);
        expected[size as usize - 10..].fill(9);
        assert!(read() == expected);
        assert_eq!(std::fs::metadata(dir.path().join("new")).unwrap().size(), size);
    }

    #[test]
    fn what_is_read_past_the_cache_is_what_was_written_also_askew_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        let content: Vec<u8> = (0..300_000_u64).map(|n| ((n * n) >> 8) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let open = || File::open(&path).unwrap();
        let (mut space, mut scratch) = (Buffer::new(content.len()), Buffer::new(16 * ALIGN));
        for origin in [LargeReader::new(open(), Some(open())), LargeReader::new(open(), None)] {
            for (offset, length) in
                [(0, 300_000), (0, 4096 * 70), (1, 280_000), (4096, 290_000), (5000, 70_000), (299_990, 10)]
            {
                rustix::fs::fadvise(&origin.file, 0, None, Advice::DontNeed).unwrap();
                origin.is_cold.store(false, Ordering::Relaxed);
                let bytes = &mut space.space()[..length];
                origin.read_exact_at(bytes, offset as u64, &mut scratch).unwrap();
                assert!(*bytes == content[offset..offset + length], "{length} bytes from {offset}");
                if let Some(direct) = &origin.direct {
                    let read = read_direct(direct, bytes, offset as u64, &mut scratch);
                    assert!(
                        read.is_err() || *bytes == content[offset..offset + length],
                        "{length} bytes from {offset}"
                    );
                }
            }
            let past = origin.read_exact_at(&mut space.space()[..100_000], 250_000, &mut scratch);
            assert_eq!(past.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn where_it_is_refused_it_goes_the_usual_way() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(&dir, ALIGN as u64);
        // A file that is open for reading alone.
        let unwilling = File::open(dir.path().join("new")).unwrap();
        let target = Target { direct: Some(unwilling), ..target };
        let buffer = Buffer { len: ALIGN, ..Buffer::new(ALIGN) };
        assert!(target.write_all_at(buffer.bytes(), 0).is_err(), "any other error is one");
        target.is_refused.store(true, Ordering::Relaxed);
        assert!(!target.is_direct());
        target.write_all_at(buffer.bytes(), 0).unwrap();
    }

    #[test]
    fn a_share_of_the_memory_is_large_and_a_little_never() {
        assert!(!is_large(ALWAYS_CACHED_BYTES) && is_large(1 << 50));
    }
}
