//! The log beside a content that comes in chunks: which chunks it holds, and their hashes.
//!
//! A header, then records of 44 bytes, each with a check of its own: what a crash or a failing disk
//! tore off at the end is passed over, and written over by the next. It is never synced: after a
//! power cut every chunk that it names is hashed before it counts. Deliberately not here: that.

use crate::model::{ChunkHash, Chunks, ContentId};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 8] = b"dspart 1";
const HEADER_BYTES: usize = 8 + 8 + 32 + 8;
const RECORD_BYTES: usize = 4 + 32 + 8;
/// The chunk's number in the record that says where the whole content went.
const MOVED: u32 = u32::MAX;

/// A log that is written to.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    content: ContentId,
    /// Where the next record belongs: behind the last whole one.
    end: u64,
}

/// A chunk that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub chunk: u32,
    pub hash: ChunkHash,
}

impl Log {
    pub fn begin(mut file: File, content: ContentId, size: u64) -> io::Result<Self> {
        file.write_all(&header(&content, size))?;
        Ok(Self { file, content, end: HEADER_BYTES as u64 })
    }

    /// What the log of this content says; the error: it is no log of it.
    pub fn read(mut file: File, content: ContentId, size: u64) -> io::Result<(Self, Vec<Record>)> {
        let count = Chunks::of(size).count();
        let records = read(&mut file, &content, Some(size))?;
        let length = file.metadata()?.len();
        let torn = length.saturating_sub(HEADER_BYTES as u64) % RECORD_BYTES as u64;
        // A record may be there for each chunk more than once, if it was fetched again.
        let records = records.into_iter().filter(|record| record.chunk < count).collect();
        Ok((Self { file, content, end: length - torn }, records))
    }

    pub fn note(&mut self, record: Record) -> io::Result<()> {
        // Not appended: after one that was half written, none would be found where it is looked
        // for.
        self.file.write_all_at(&encode(&self.content, record), self.end)?;
        self.end += RECORD_BYTES as u64;
        Ok(())
    }

    /// All is here, and is to be found in staging under this number.
    pub fn moved(&mut self, stage: u64) -> io::Result<()> {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&stage.to_be_bytes());
        self.note(Record { chunk: MOVED, hash })
    }

    /// Where the content of this log went, if it was whole.
    pub fn moved_to(mut file: File, content: ContentId) -> Option<u64> {
        let last = *read(&mut file, &content, None).ok()?.last()?;
        (last.chunk == MOVED).then(|| u64::from_be_bytes(std::array::from_fn(|n| last.hash[n])))
    }
}

fn header(content: &ContentId, size: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&size.to_be_bytes());
    header[16..48].copy_from_slice(&content.0);
    let check = blake3::hash(&header[..48]);
    header[48..].copy_from_slice(&check.as_bytes()[..8]);
    header
}

fn encode(content: &ContentId, record: Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&record.chunk.to_be_bytes());
    bytes[4..36].copy_from_slice(&record.hash);
    let check = *blake3::Hasher::new().update(&content.0).update(&bytes[..36]).finalize().as_bytes();
    bytes[36..].copy_from_slice(&check[..8]);
    bytes
}

fn read(file: &mut File, content: &ContentId, size: Option<u64>) -> io::Result<Vec<Record>> {
    // No chunk is fetched so often that this would not do.
    let limit = (HEADER_BYTES + 4 * RECORD_BYTES * crate::model::chunks::MAX_CHUNKS as usize) as u64;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    let no_log = || io::Error::from(io::ErrorKind::InvalidData);
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(no_log)?;
    let said = u64::from_be_bytes(std::array::from_fn(|n| head[8 + n]));
    if head != header(content, said) || size.is_some_and(|size| size != said) {
        return Err(no_log());
    }
    let records = rest.as_chunks::<RECORD_BYTES>().0.iter().filter_map(|bytes| {
        let record = Record {
            chunk: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            hash: std::array::from_fn(|n| bytes[4 + n]),
        };
        (encode(content, record) == *bytes).then_some(record)
    });
    Ok(records.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn a_log_reads_back_but_for_what_was_torn_or_is_another_content_s() {
        let content = ContentId([7; 32]);
        let size = 5 << 20;
        let mut log = Log::begin(tempfile::tempfile().unwrap(), content, size).unwrap();
        let record = |chunk| Record { chunk, hash: [chunk as u8; 32] };
        for chunk in [3, 0, 4_000] {
            log.note(record(chunk)).unwrap();
        }
        log.file.write_all_at(&encode(&ContentId([8; 32]), record(1)), log.end).unwrap();
        log.end += RECORD_BYTES as u64;
        log.file.write_all_at(&encode(&content, record(2))[..43], log.end).unwrap();
        let again = |log: &Log| {
            let mut file = log.file.try_clone().unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file
        };
        let (mut later, records) = Log::read(again(&log), content, size).unwrap();
        assert_eq!(records, [record(3), record(0)]);
        // Who goes on writes over what was torn, be it after a start or in the same run.
        log.note(record(4)).unwrap();
        later.note(record(1)).unwrap();
        later.note(record(2)).unwrap();
        assert_eq!(Log::read(again(&log), content, size).unwrap().1, [3, 0, 1, 2].map(record));
        assert!(Log::read(again(&log), content, size + 1).is_err());
        assert!(Log::read(again(&log), ContentId([8; 32]), size).is_err());
        assert_eq!(Log::moved_to(again(&log), content), None);
    }

    #[test]
    fn a_whole_content_is_found_where_it_went() {
        let content = ContentId([7; 32]);
        let mut log = Log::begin(tempfile::tempfile().unwrap(), content, 9).unwrap();
        log.moved(0x00ab_cdef).unwrap();
        let mut file = log.file;
        file.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(Log::moved_to(file, content), Some(0x00ab_cdef));
    }
}
