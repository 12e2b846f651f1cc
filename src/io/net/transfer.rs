//! Large contents on their way: the accounts of a stream, and the two loops that run on blocking
//! threads.
//!
//! The asker grants credit as its disk takes the bytes; the server reads only what credit and the
//! link's lane have room for, so that memory is bounded whatever the file's size (P9). Every number
//! of a peer is checked against what was agreed. Deliberately not here: sockets, and which file is
//! served (the engine decides).

use crate::engine::{Event, FetchError, FetchId, RangeId, ServedFile, StageId, Stat};
use crate::io::fs::beneath::LastFolder;
use crate::io::fs::delta::{self, Arrived, Deltas};
use crate::io::fs::partial::Partial;
use crate::io::fs::sparse::{is_sparse, next_data, next_hole};
use crate::io::net::rate::Rate;
use crate::io::store::chunk_lists::{self, List};
use crate::model::{ContentId, FileTime};
use crate::wire::frame::{self, EncodedFrame, Packet, Squeeze};
use crate::wire::message::{MESSAGE_BYTES, Message};
use crate::wire::packet::{Ending, FIRST_CREDIT_BYTES, PIECE_BYTES};
use crate::wire::split;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};

/// Streams that a peer may have open, each way.
pub const MAX_STREAMS: usize = 64;
/// Credit is granted in such steps.
const GRANT_BYTES: u64 = 1024 * 1024;
/// After this many bytes that did not shrink, zlib is tried again.
const PROBE_AGAIN_BYTES: u64 = 32 * 1024 * 1024;

/// Where contents go to be verified; `io/fs/stage.rs` in the daemon.
pub trait Staging: Send + Sync {
    fn create(&self, size: u64) -> Result<Box<dyn StagedWriter>, FetchError>;
    /// Nobody wants it any more.
    fn discard(&self, staged: StageId);
    /// A content that is on its way here in chunks.
    fn partial(&self, _content: &ContentId) -> Option<Arc<Partial>> {
        None
    }
}

/// One content on its way in; dropped unfinished, it leaves nothing.
pub trait StagedWriter: Send {
    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError>;
    /// `FetchError::Corrupt` unless the bytes are that content.
    fn finish(self: Box<Self>, content: &ContentId) -> Result<StageId, FetchError>;
}

/// Opens files of the folder for peers; refuses one whose stat is not the one given.
pub trait Served: Send + Sync {
    fn open(&self, file: &ServedFile) -> io::Result<File>;

    /// The same for one of many, most of which share a folder.
    fn open_next(&self, _folders: &mut LastFolder, file: &ServedFile) -> io::Result<File> {
        self.open(file)
    }

    /// What makes and applies deltas, where there is one.
    fn deltas(&self) -> Option<Arc<Deltas>> {
        None
    }

    /// The list of its chunks; `None`: it is not that content any more.
    fn list(&self, file: &ServedFile, opened: &File) -> io::Result<Option<List>> {
        Ok(chunk_lists::make(opened, file)?.map(Arc::new))
    }
}

/// The accounts of a content that was asked for. Kept until both sides are done with its number.
pub struct IncomingContent {
    /// Where the part that was asked for begins, and how long it is.
    from: u64,
    size: u64,
    received: u64,
    /// Of it, what took credit.
    spent: u64,
    granted: u64,
    pub wire_bytes: u64,
    /// `None` once cancelled or ended; what still comes is counted and dropped.
    parts: Option<mpsc::Sender<Arrived>>,
    /// The peer said `End`.
    pub ended: bool,
    /// The engine was told how it went.
    pub answered: bool,
    what: ContentPart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentPart {
    Whole,
    /// Some chunks, or the list of all.
    Part,
    /// Nobody knows how long it is, but for how long at most.
    Delta,
}

impl IncomingContent {
    pub fn new(from: u64, size: u64) -> (Self, mpsc::Receiver<Arrived>) {
        let (sender, parts) = mpsc::channel();
        let granted = FIRST_CREDIT_BYTES;
        let fetching = Self {
            from,
            size,
            received: 0,
            spent: 0,
            granted,
            wire_bytes: 0,
            parts: Some(sender),
            ended: false,
            answered: false,
            what: ContentPart::Whole,
        };
        (fetching, parts)
    }

    /// Of a delta that makes `size` bytes.
    pub fn delta(size: u64) -> (Self, mpsc::Receiver<Arrived>) {
        let (fetching, parts) = Self::new(0, delta::most_bytes(size));
        (Self { what: ContentPart::Delta, ..fetching }, parts)
    }

    /// Of a part of a content.
    pub fn of_part(from: u64, size: u64) -> (Self, mpsc::Receiver<Arrived>) {
        let (fetching, parts) = Self::new(from, size);
        (Self { what: ContentPart::Part, ..fetching }, parts)
    }

    /// What the engine is told when it came to nothing.
    pub fn failed(&self, stream: u32, why: FetchError) -> Event {
        if self.what == ContentPart::Part {
            return Event::RangeEnded { range: RangeId(stream), how: Err(why), wire_bytes: self.wire_bytes };
        }
        Event::FetchFailed { fetch: FetchId(stream), why }
    }

    pub fn grant(&mut self, bytes: u64) {
        self.granted += bytes;
    }

    /// Takes a piece; the error is how the peer broke the rules.
    pub fn piece(&mut self, offset: u64, bytes: Bytes, wire_bytes: u64) -> Result<(), &'static str> {
        let length = bytes.len() as u64;
        self.check(offset, length)?;
        if length > self.granted - self.spent {
            return Err("more bytes than it had credit for");
        }
        self.spent += length;
        self.take(length, wire_bytes, Arrived::Bytes(bytes));
        Ok(())
    }

    /// The same of zeros, which take no credit.
    pub fn zeros(&mut self, offset: u64, count: u64, wire_bytes: u64) -> Result<(), &'static str> {
        if self.what == ContentPart::Delta {
            return Err("zeros in a delta");
        }
        self.check(offset, count)?;
        self.take(count, wire_bytes, Arrived::Zeros(count));
        Ok(())
    }

    fn check(&self, offset: u64, length: u64) -> Result<(), &'static str> {
        if self.ended {
            return Err("a piece after the stream's end");
        }
        if offset != self.from + self.received {
            return Err("a piece at a wrong offset");
        }
        if length > self.size - self.received {
            return Err("more bytes than the content has");
        }
        Ok(())
    }

    fn take(&mut self, length: u64, wire_bytes: u64, part: Arrived) {
        self.received += length;
        self.wire_bytes += wire_bytes;
        if let Some(parts) = &self.parts {
            // The thread ends early only when its disk failed, and it says so itself.
            let _ = parts.send(part);
        }
    }

    pub fn end(&mut self, how: Ending) -> Result<(), &'static str> {
        if self.ended {
            return Err("a second end of a stream");
        }
        if how == Ending::Whole && self.received != self.size && self.what != ContentPart::Delta {
            return Err("an end before the content's last byte");
        }
        self.ended = true;
        if let Some(parts) = self.parts.take() {
            let _ = parts.send(Arrived::End(how));
        }
        Ok(())
    }

    /// What comes from now on is dropped.
    pub fn abandon(&mut self) {
        self.parts = None;
    }
}

/// Writes what comes into staging, granting credit as it goes. `None`: abandoned, nobody waits for
/// an answer.
pub fn receive(
    staging: &dyn Staging,
    size: u64,
    content: &ContentId,
    parts: &mpsc::Receiver<Arrived>,
    mut grant: impl FnMut(u64),
) -> Option<Result<StageId, FetchError>> {
    let mut writer = match staging.create(size) {
        Ok(writer) => writer,
        Err(error) => return Some(Err(error)),
    };
    let mut written = 0;
    let mut unspent = 0;
    loop {
        match parts.recv() {
            Err(mpsc::RecvError) => return None,
            Ok(Arrived::End(Ending::Whole)) => return Some(writer.finish(content)),
            Ok(Arrived::End(_)) => return Some(Err(FetchError::NotHere)),
            Ok(Arrived::Bytes(bytes)) => {
                if let Err(error) = writer.write(&bytes) {
                    return Some(Err(error));
                }
                written += bytes.len() as u64;
                unspent += bytes.len() as u64;
            }
            Ok(Arrived::Zeros(mut count)) => {
                let zeros = [0; 16 * 1024];
                written += count;
                while count > 0 {
                    let part = count.min(zeros.len() as u64);
                    if let Err(error) = writer.write(&zeros[..part as usize]) {
                        return Some(Err(error));
                    }
                    count -= part;
                }
            }
        }
        if unspent >= GRANT_BYTES && written + FIRST_CREDIT_BYTES - unspent < size {
            grant(unspent);
            unspent = 0;
        }
    }
}

/// The credit of a content that a peer asked for.
#[derive(Default)]
pub struct Serving {
    credit: Mutex<Credit>,
    changed: Condvar,
}

struct Credit {
    bytes: u64,
    /// What was taken of it so far.
    taken: u64,
    cancelled: bool,
}

impl Default for Credit {
    fn default() -> Self {
        Self { bytes: FIRST_CREDIT_BYTES, taken: 0, cancelled: false }
    }
}

impl Serving {
    pub fn grant(&self, bytes: u64) {
        let mut credit = self.lock();
        credit.bytes = credit.bytes.saturating_add(bytes);
        self.changed.notify_all();
    }

    pub fn cancel(&self) {
        self.lock().cancelled = true;
        self.changed.notify_all();
    }

    /// Up to `want` bytes of credit, waiting for the first; `None` when cancelled.
    pub(super) fn take(&self, want: u64) -> Option<u64> {
        let waited = self.changed.wait_while(self.lock(), |credit| credit.bytes == 0 && !credit.cancelled);
        let mut credit = waited.unwrap_or_else(PoisonError::into_inner);
        if credit.cancelled {
            return None;
        }
        let taken = credit.bytes.min(want);
        credit.bytes -= taken;
        credit.taken += taken;
        Some(taken)
    }

    /// Bytes that went out.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn lock(&self) -> MutexGuard<'_, Credit> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file and sends it in pieces. `send` waits for room; `false`: the link is gone.
pub fn serve(
    served: &dyn Served,
    file: &ServedFile,
    stream: u32,
    serving: &Serving,
    squeezer: &mut Squeezer,
    send: impl FnMut(EncodedFrame) -> bool,
) -> Ending {
    match open(served, file) {
        Ok(opened) => {
            let _ = rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::Sequential);
            let span = StreamRange { stream, from: 0, size: file.size };
            let how = send_span(&opened, span, serving, squeezer, send);
            if how == Ending::Whole && !is_unchanged(&opened, &file.stat) { Ending::Changed } else { how }
        }
        Err(how) => how,
    }
}

/// The file, or how a stream ends that was to be of it.
pub fn open(served: &dyn Served, file: &ServedFile) -> Result<File, Ending> {
    served.open(file).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return Ending::NotHere;
        }
        tracing::warn!("'{}' cannot be read for a peer: {error}", file.path);
        Ending::Unreadable
    })
}

/// A part of a file, and the stream that it goes to.
#[derive(Debug, Clone, Copy)]
pub struct StreamRange {
    pub stream: u32,
    pub from: u64,
    pub size: u64,
}

/// Sends a part of an open file: what it holds as pieces, its holes as what they are.
pub fn send_span(
    opened: &File,
    span: StreamRange,
    serving: &Serving,
    squeezer: &mut Squeezer,
    mut send: impl FnMut(EncodedFrame) -> bool,
) -> Ending {
    let (stream, end) = (span.stream, span.from + span.size);
    let is_sparse = is_sparse(opened);
    let mut offset = span.from;
    // Up to here it is known to hold data.
    let mut data_until = offset;
    while offset < end {
        if offset == data_until {
            let data = next_data(opened, offset, end);
            if data > offset && !send(frame::encode(&Packet::Zeros { stream, offset, count: data - offset })) {
                return Ending::NotHere;
            }
            let until = if is_sparse { next_hole(opened, data, end) } else { (data + PIECE_BYTES as u64).min(end) };
            (offset, data_until) = (data, until);
            continue;
        }
        let want = (data_until - offset).min(PIECE_BYTES as u64);
        let Some(credit) = serving.take(want) else { return Ending::NotHere };
        let bytes = match read_at(opened, offset, credit as usize) {
            Ok(bytes) if bytes.len() as u64 == credit => bytes,
            Ok(_) => return Ending::Changed,
            Err(error) => {
                tracing::warn!("a file cannot be read for a peer: {error}");
                return Ending::Unreadable;
            }
        };
        let frame = squeezer.encode(&Packet::Piece { stream, offset, bytes: bytes.into() }, credit);
        offset += credit;
        if !send(frame) {
            return Ending::NotHere;
        }
    }
    Ending::Whole
}

/// Sends bytes that are at hand, as a content of their own.
pub fn send_bytes(bytes: &Bytes, stream: u32, serving: &Serving, mut send: impl FnMut(EncodedFrame) -> bool) -> Ending {
    let mut offset = 0;
    while offset < bytes.len() {
        let want = (bytes.len() - offset).min(PIECE_BYTES) as u64;
        let Some(credit) = serving.take(want) else { return Ending::NotHere };
        let end = offset + credit as usize;
        let piece = Packet::Piece { stream, offset: offset as u64, bytes: bytes.slice(offset..end) };
        if !send(frame::encode_as(&piece, Squeeze::Never)) {
            return Ending::NotHere;
        }
        offset = end;
    }
    Ending::Whole
}

/// Remembers whether a file's bytes shrink, and asks the link whether that would help.
#[derive(Debug, Clone)]
pub struct Squeezer {
    /// Bytes to go before zlib is tried again.
    raw_for: u64,
    rate: Arc<Rate>,
}

impl Squeezer {
    /// For what others found out already, or is too little to find out.
    pub fn rarely(rate: Arc<Rate>) -> Self {
        Self { raw_for: PROBE_AGAIN_BYTES, rate }
    }

    pub fn new(rate: Arc<Rate>) -> Self {
        Self { raw_for: 0, rate }
    }

    fn encode(&mut self, packet: &Packet, bytes: u64) -> EncodedFrame {
        if self.raw_for > 0 {
            self.raw_for = self.raw_for.saturating_sub(bytes);
            return frame::encode_as(packet, Squeeze::Never);
        }
        let squeeze = self.rate.squeeze();
        let frame = frame::encode_as(packet, squeeze);
        if squeeze == Squeeze::Try && !frame.zlib {
            self.raw_for = PROBE_AGAIN_BYTES;
        }
        frame
    }
}

/// Splits wanted small files into groups of about a message each.
pub fn groups(files: Vec<(u32, Option<ServedFile>)>) -> Vec<Vec<(u32, Option<ServedFile>)>> {
    let mut groups: Vec<Vec<_>> = Vec::new();
    let mut filled = 0;
    for (id, file) in files {
        let bytes = 16 + file.as_ref().map_or(0, |file| file.size.min(MESSAGE_BYTES as u64) as usize);
        match groups.last_mut() {
            Some(group) if filled + bytes <= MESSAGE_BYTES => group.push((id, file)),
            _ => {
                groups.push(vec![(id, file)]);
                filled = 0;
            }
        }
        filled += bytes;
    }
    groups
}

/// Reads a group of small files into frames. What is gone or changed is answered as not here.
pub fn pack(served: &dyn Served, files: &[(u32, Option<ServedFile>)], squeeze: Squeeze) -> Vec<EncodedFrame> {
    let mut folders = LastFolder::default();
    let mut read = |file| read_small(served, &mut folders, file);
    let contents = files.iter().map(|(id, file)| (*id, file.as_ref().and_then(&mut read))).collect();
    let parts = split::split(Message::Contents { contents });
    parts.into_iter().map(|part| frame::encode_as(&Packet::Message(part), squeeze)).collect()
}

fn read_small(served: &dyn Served, folders: &mut LastFolder, file: &ServedFile) -> Option<Bytes> {
    if file.size > MESSAGE_BYTES as u64 {
        return None;
    }
    let opened = served.open_next(folders, file).ok()?;
    let bytes = read_at(&opened, 0, file.size as usize).ok()?;
    (bytes.len() as u64 == file.size && is_unchanged(&opened, &file.stat)).then(|| bytes.into())
}

/// `count` bytes from `offset`, or fewer at the file's end; one read, as a rule, into a buffer that
/// is not zeroed first.
fn read_at(file: &File, offset: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        // A file that grew must not grow the answer: `Vec` may have more room than was asked for.
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) => bytes.truncate(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Whether an open file still has the stat that its content was known by.
pub fn is_unchanged(file: &File, known: &Stat) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else { return false };
    let time = |secs: i64, nanos: u64| FileTime { secs, nanos: nanos as u32 };
    stat.st_size as u64 == known.size
        && stat.st_ino == known.ino
        && time(stat.st_mtime, stat.st_mtime_nsec) == known.mtime
        && time(stat.st_ctime, stat.st_ctime_nsec) == known.ctime
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Bytes {
        vec![7; count].into()
    }

    #[test]
    fn a_stream_that_breaks_its_accounts_is_refused() {
        let (mut fetching, _parts) = IncomingContent::new(0, 10);
        assert_eq!(fetching.piece(1, bytes(1), 1), Err("a piece at a wrong offset"));
        assert_eq!(fetching.piece(0, bytes(11), 1), Err("more bytes than the content has"));
        assert_eq!(fetching.piece(0, bytes(6), 1), Ok(()));
        assert_eq!(fetching.piece(0, bytes(4), 1), Err("a piece at a wrong offset"));
        assert_eq!(fetching.zeros(6, u64::MAX, 1), Err("more bytes than the content has"));
        assert_eq!(fetching.end(Ending::Whole), Err("an end before the content's last byte"));
        assert_eq!(fetching.piece(6, bytes(4), 1), Ok(()));
        assert_eq!(fetching.end(Ending::Whole), Ok(()));
        assert_eq!(fetching.piece(10, bytes(0), 1), Err("a piece after the stream's end"));
        assert_eq!(fetching.end(Ending::NotHere), Err("a second end of a stream"));
    }

    #[test]
    fn no_more_comes_than_credit_was_granted() {
        let (mut fetching, _parts) = IncomingContent::new(0, u64::MAX / 2);
        for piece in 0..32 {
            fetching.piece(piece * PIECE_BYTES as u64, bytes(PIECE_BYTES), 1).unwrap();
        }
        assert_eq!(fetching.piece(FIRST_CREDIT_BYTES, bytes(1), 1), Err("more bytes than it had credit for"));
        fetching.grant(1);
        assert_eq!(fetching.piece(FIRST_CREDIT_BYTES, bytes(1), 1), Ok(()));
    }

    /// What is sent of a whole file: bytes of pieces, and of zeros.
    fn sent_of(file: &File, size: u64) -> (u64, u64) {
        let serving = Serving::default();
        serving.grant(size);
        let (mut sent, mut squeezer) = ((0, 0), Squeezer::rarely(Arc::default()));
        let how = send_span(file, StreamRange { stream: 1, from: 0, size }, &serving, &mut squeezer, |frame| {
            match frame::decode_first(&Bytes::from([frame.head, frame.body].concat())).unwrap().0 {
                Packet::Piece { offset, bytes, .. } => {
                    assert_eq!(offset, sent.0 + sent.1);
                    sent.0 += bytes.len() as u64;
                }
                Packet::Zeros { offset, count, .. } => {
                    assert_eq!(offset, sent.0 + sent.1);
                    sent.1 += count;
                }
                other => panic!("{other:?}"),
            }
            true
        });
        assert_eq!(how, Ending::Whole);
        sent
    }

    #[test]
    fn holes_are_not_sent_nor_is_what_was_reserved_and_never_written() {
        use std::os::unix::fs::FileExt;
        let (mib, size) = (1 << 20, 8 << 20);
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        assert_eq!(sent_of(&file, size), (0, size));
        file.write_all_at(&vec![7; mib as usize], 2 * mib).unwrap();
        assert_eq!(sent_of(&file, size), (mib, size - mib));
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
        assert!(!is_sparse(&file));
        let (pieces, zeros) = sent_of(&file, size);
        assert!(pieces + zeros == size && (mib..=mib + PIECE_BYTES as u64).contains(&pieces), "{pieces} and {zeros}");
        file.write_all_at(&vec![7; size as usize], 0).unwrap();
        assert_eq!(sent_of(&file, size), (size, 0));
    }

    #[test]
    fn what_does_not_shrink_is_tried_rarely() {
        let rate = Arc::<Rate>::default();
        rate.set_limited(true);
        let mut squeezer = Squeezer::new(rate);
        let mut noise = vec![0; PIECE_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let packet = |bytes: Vec<u8>| Packet::Piece { stream: 1, offset: 0, bytes: bytes.into() };
        assert!(!squeezer.encode(&packet(noise), PIECE_BYTES as u64).zlib);
        let zeros = packet(vec![0; PIECE_BYTES]);
        let raw = (0..1000).take_while(|_| !squeezer.encode(&zeros, PIECE_BYTES as u64).zlib).count();
        assert_eq!(raw as u64 * PIECE_BYTES as u64, PROBE_AGAIN_BYTES);
    }
}
