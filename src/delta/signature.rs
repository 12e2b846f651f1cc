//! What a version's blocks are: their rolling and strong hashes, and the hashes of its chunks.
//!
//! Made a chunk at a time, in any order ([`Pieces`]); kept in a file of its own
//! ([`Signature::to_bytes`]); or sent by a peer, who is not believed ([`Signature::of_peer`]).
//! Deliberately not here: where signatures are kept.

use super::{block_bytes, has_signature};
use crate::model::{ChunkHash, Chunks, ContentId};
use fast_rsync::SignatureOptions;

/// Bytes of MD4 a block: all of them. A match is not proof of anything, the content's hash is; but
/// a false one costs a whole transfer.
const HASH_BYTES: usize = 16;
const ENTRY_BYTES: usize = 4 + HASH_BYTES;
/// librsync's: magic, block size, length of the strong hash.
const HEADER_BYTES: usize = 12;
/// Of librsync's MD4 signatures.
const MAGIC: u32 = 0x7273_0136;

/// What our own file of one begins with: its kind and version.
const FILE_MAGIC: &[u8; 16] = b"dirsyncd sign 1\n";
const CHECK_BYTES: usize = 32;

/// A version's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    size: u64,
    /// Empty where a peer made it.
    chunks: Vec<ChunkHash>,
    /// As librsync has it.
    blocks: Vec<u8>,
}

/// Why bytes are no signature of a file of that size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("a file of {0} bytes has no signature")]
    NoSuch(u64),
    #[error("a signature has {got} bytes where {wanted} are due")]
    Length { got: usize, wanted: usize },
    #[error("a signature is not of the agreed kind, block size and hash length")]
    Header,
    #[error("a stored signature is damaged")]
    Damaged,
}

/// The length of a signature on the wire (bytes), or `None` where there is none.
pub fn wire_bytes(size: u64) -> Option<usize> {
    has_signature(size).then(|| HEADER_BYTES + size.div_ceil(block_bytes(size)) as usize * ENTRY_BYTES)
}

impl Signature {
    /// Believes nothing: not the length, not the header. The hashes themselves may still be
    /// anything, which costs their owner a delta of no use, and us the time that [`super::diff`]
    /// bounds.
    pub fn of_peer(size: u64, bytes: Vec<u8>) -> Result<Self, SignatureError> {
        let wanted = wire_bytes(size).ok_or(SignatureError::NoSuch(size))?;
        if bytes.len() != wanted {
            return Err(SignatureError::Length { got: bytes.len(), wanted });
        }
        if bytes[..HEADER_BYTES] != header(block_bytes(size)) {
            return Err(SignatureError::Header);
        }
        Ok(Self { size, chunks: Vec::new(), blocks: bytes })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// In bytes.
    pub fn block(&self) -> u64 {
        block_bytes(self.size)
    }

    pub fn chunks(&self) -> &[ChunkHash] {
        &self.chunks
    }

    /// As it travels: librsync's format.
    pub fn wire(&self) -> &[u8] {
        &self.blocks
    }

    /// Of the blocks from `first` on, as [`entries_of`] makes them.
    pub fn entries(&self, first: u64) -> &[u8] {
        let from = usize::try_from(first).ok().and_then(|first| first.checked_mul(ENTRY_BYTES));
        from.and_then(|from| self.blocks[HEADER_BYTES..].get(from..)).unwrap_or_default()
    }

    /// The entries of a chunk with this hash at this place, if it is that version's, too.
    fn entries_of_same(&self, chunks: Chunks, chunk: u32, hash: &ChunkHash) -> Option<&[u8]> {
        let (block, own) = (self.block(), Chunks::of(self.size));
        let is_same = self.chunks.get(chunk as usize) == Some(hash)
            && (own.chunk_bytes(), own.len(chunk)) == (chunks.chunk_bytes(), chunks.len(chunk))
            && block == block_bytes(chunks.size())
            && own.chunk_bytes().is_multiple_of(block);
        let count = own.len(chunk).div_ceil(block) as usize;
        is_same.then(|| self.entries(own.offset(chunk) / block)).and_then(|entries| entries.get(..count * ENTRY_BYTES))
    }

    /// For a file: chunk hashes, block hashes, and a checksum over all of it, the content's name
    /// with it.
    pub fn to_bytes(&self, content: &ContentId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(file_bytes(self.size));
        bytes.extend_from_slice(FILE_MAGIC);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(self.chunks.as_flattened());
        bytes.extend_from_slice(&self.blocks);
        bytes.extend_from_slice(&checksum(content, &bytes));
        bytes
    }

    /// Of what [`Self::to_bytes`] made for this very content.
    pub fn from_bytes(content: &ContentId, size: u64, bytes: &[u8]) -> Result<Self, SignatureError> {
        if !has_signature(size) {
            return Err(SignatureError::NoSuch(size));
        }
        let wanted = file_bytes(size);
        if bytes.len() != wanted {
            return Err(SignatureError::Length { got: bytes.len(), wanted });
        }
        let (rest, check) = bytes.split_at(wanted - CHECK_BYTES);
        let (start, rest_of) = rest.split_at(FILE_MAGIC.len() + 8);
        let is_start = start.starts_with(FILE_MAGIC) && start.ends_with(&size.to_be_bytes());
        if !is_start || checksum(content, rest) != check {
            return Err(SignatureError::Damaged);
        }
        let (chunks, blocks) = rest_of.split_at(list_bytes(size));
        let chunks = chunks.as_chunks::<{ size_of::<ChunkHash>() }>().0.to_vec();
        Ok(Self { chunks, ..Self::of_peer(size, blocks.to_vec())? })
    }
}

/// The length of a stored signature (bytes).
pub fn file_bytes(size: u64) -> usize {
    FILE_MAGIC.len() + 8 + list_bytes(size) + wire_bytes(size).unwrap_or(HEADER_BYTES) + CHECK_BYTES
}

fn list_bytes(size: u64) -> usize {
    Chunks::of(size).count() as usize * size_of::<ChunkHash>()
}

fn checksum(content: &ContentId, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    *blake3::keyed_hash(&content.0, bytes).as_bytes()
}

fn header(block: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4..8].copy_from_slice(&(block as u32).to_be_bytes());
    header[8..].copy_from_slice(&(HASH_BYTES as u32).to_be_bytes());
    header
}

/// The entries of the blocks that `bytes` begin with, and of a shorter one at their end.
pub fn entries_of(block: u64, bytes: &[u8]) -> Vec<u8> {
    let options = SignatureOptions { block_size: block as u32, crypto_hash_size: HASH_BYTES as u32 };
    let mut signed = fast_rsync::Signature::calculate(bytes, options).into_serialized();
    signed.drain(..HEADER_BYTES);
    signed
}

/// How many whole entries two lists begin alike with.
pub fn common_entries(ours: &[u8], theirs: &[u8]) -> usize {
    let (ours, theirs) = (ours.as_chunks::<ENTRY_BYTES>().0, theirs.as_chunks::<ENTRY_BYTES>().0);
    ours.iter().zip(theirs).take_while(|(a, b)| a == b).count()
}

/// What one chunk adds: its hash, and its blocks' hashes where the file has a signature.
#[derive(Debug)]
pub struct Piece {
    hash: ChunkHash,
    entries: Vec<u8>,
}

impl Piece {
    /// Of a chunk that was hashed already; `entries`: as [`entries_of`] makes them of its blocks.
    pub fn new(hash: ChunkHash, entries: Vec<u8>) -> Self {
        Self { hash, entries }
    }

    /// Of a chunk whose bytes are all here.
    pub fn of(chunks: Chunks, chunk: u32, bytes: &[u8]) -> Self {
        Self::like(None, chunks, chunk, bytes)
    }

    /// The same of a version that follows `old`: where its chunk is the same, so are its blocks,
    /// whose hashes cost more than the chunk's.
    pub fn like(old: Option<&Signature>, chunks: Chunks, chunk: u32, bytes: &[u8]) -> Self {
        let (size, hash) = (chunks.size(), chunks.hash(chunk, bytes));
        let entries = match old.and_then(|old| old.entries_of_same(chunks, chunk, &hash)) {
            _ if !has_signature(size) => Vec::new(),
            Some(entries) => entries.to_vec(),
            None => entries_of(block_bytes(size), bytes),
        };
        Self { hash, entries }
    }
}

/// A signature in the making, whose chunks come in any order.
#[derive(Debug)]
pub struct Pieces {
    chunks: Chunks,
    pieces: Vec<Option<Piece>>,
}

impl Pieces {
    pub fn new(chunks: Chunks) -> Self {
        Self { chunks, pieces: (0..chunks.count()).map(|_| None).collect() }
    }

    /// A second one for the same chunk takes the first's place.
    pub fn put(&mut self, chunk: u32, piece: Piece) {
        if let Some(place) = self.pieces.get_mut(chunk as usize) {
            *place = Some(piece);
        }
    }

    /// What all of it adds up to, once every chunk came.
    pub fn finish(self) -> Option<(ContentId, Option<Signature>)> {
        let size = self.chunks.size();
        let mut chunks = Vec::with_capacity(self.pieces.len());
        let mut blocks = Vec::with_capacity(wire_bytes(size).unwrap_or_default());
        blocks.extend_from_slice(&header(block_bytes(size)));
        for piece in self.pieces {
            let piece = piece?;
            chunks.push(piece.hash);
            blocks.extend_from_slice(&piece.entries);
        }
        let content = self.chunks.content(&chunks)?;
        Some((content, has_signature(size).then_some(Signature { size, chunks, blocks })))
    }
}

/// A content that comes from its first byte to its last, in parts of any length; a chunk of it is
/// held in memory.
pub struct Summer {
    pieces: Pieces,
    /// The one that is coming, and what came of it.
    chunk: u32,
    bytes: Vec<u8>,
}

impl Summer {
    pub fn new(size: u64) -> Self {
        Self { pieces: Pieces::new(Chunks::of(size)), chunk: 0, bytes: Vec::new() }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        let chunks = self.pieces.chunks;
        loop {
            let length = chunks.len(self.chunk) as usize;
            let (now, rest) = bytes.split_at(bytes.len().min(length.saturating_sub(self.bytes.len())));
            if now.is_empty() {
                // What is too much is one chunk too many.
                self.chunk += u32::from(!rest.is_empty());
                return;
            }
            self.bytes.reserve_exact(length - self.bytes.len());
            self.bytes.extend_from_slice(now);
            bytes = rest;
            if self.bytes.len() == length {
                self.pieces.put(self.chunk, Piece::of(chunks, self.chunk, &self.bytes));
                self.bytes.clear();
                self.chunk += 1;
            }
        }
    }

    /// `None` unless exactly the announced number of bytes came.
    pub fn finish(mut self) -> Option<(ContentId, Option<Signature>)> {
        let chunks = self.pieces.chunks;
        if chunks.is_empty() && self.chunk == 0 {
            self.pieces.put(0, Piece::of(chunks, 0, &[]));
            self.chunk = 1;
        }
        if self.chunk == chunks.count() { self.pieces.finish() } else { None }
    }
}

/// The content and signature of bytes in memory.
pub fn of_bytes(bytes: &[u8]) -> (ContentId, Option<Signature>) {
    let mut summer = Summer::new(bytes.len() as u64);
    summer.update(bytes);
    summer.finish().expect("all bytes were given")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn made_of_chunks_in_any_order_it_is_what_librsync_makes_of_the_whole() {
        let bytes = noise((3 << 20) + 12_345);
        let size = bytes.len() as u64;
        let chunks = Chunks::of(size);
        let mut pieces = Pieces::new(chunks);
        for chunk in [2, 0, 3] {
            let (from, length) = chunks.span(chunk, 1).unwrap();
            pieces.put(chunk, Piece::of(chunks, chunk, &bytes[from as usize..][..length as usize]));
        }
        pieces.put(1, Piece::of(chunks, 1, &bytes[1 << 20..2 << 20]));
        let (content, signature) = pieces.finish().unwrap();
        let signature = signature.unwrap();
        assert_eq!(content, ContentId::of(&bytes));
        let options = SignatureOptions { block_size: signature.block() as u32, crypto_hash_size: 16 };
        assert_eq!(signature.wire(), fast_rsync::Signature::calculate(&bytes, options).serialized());
        assert_eq!(signature.wire().len(), wire_bytes(size).unwrap());
        assert!(Pieces::new(chunks).finish().is_none());
    }

    #[test]
    fn a_content_that_comes_in_parts_adds_up_and_too_little_or_too_much_does_not() {
        for size in [0, 1, 65_536, 1 << 20, (1 << 20) + 1, (2 << 20) + 500_000] {
            let bytes = noise(size);
            let whole = of_bytes(&bytes);
            assert_eq!(whole.0, ContentId::of(&bytes));
            assert_eq!(whole.1.is_some(), size >= 65_536);
            let in_parts = |size: usize, bytes: &[u8]| {
                let mut summer = Summer::new(size as u64);
                bytes.chunks(77_777).for_each(|part| summer.update(part));
                summer.finish()
            };
            assert_eq!(in_parts(size, &bytes), Some(whole));
            assert_eq!(in_parts(size + 1, &bytes), None);
            assert_eq!(in_parts(size, &[&bytes[..], b"+"].concat()), None);
        }
    }

    #[test]
    fn what_was_stored_comes_back_and_damage_is_seen() {
        let bytes = noise(3 << 20);
        let (content, signature) = of_bytes(&bytes);
        let (signature, size) = (signature.unwrap(), bytes.len() as u64);
        let stored = signature.to_bytes(&content);
        assert_eq!(stored.len(), file_bytes(size));
        assert_eq!(Signature::from_bytes(&content, size, &stored), Ok(signature));
        for at in [0, 17, 40, stored.len() / 2, stored.len() - 1] {
            let mut bad = stored.clone();
            bad[at] ^= 1;
            assert_eq!(Signature::from_bytes(&content, size, &bad), Err(SignatureError::Damaged), "at {at}");
        }
        let other = ContentId::of(b"another");
        assert_eq!(Signature::from_bytes(&other, size, &stored), Err(SignatureError::Damaged));
        assert!(Signature::from_bytes(&content, size, &stored[1..]).is_err());
        assert!(Signature::from_bytes(&content, size + 1, &stored).is_err());
        assert!(Signature::from_bytes(&content, u64::MAX, &stored).is_err());
    }

    #[test]
    fn a_peer_s_signature_must_have_the_agreed_form() {
        let (size, bytes) = (1_u64 << 20, noise(1 << 20));
        let good = of_bytes(&bytes).1.unwrap().wire().to_vec();
        assert!(Signature::of_peer(size, good.clone()).is_ok());
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            Signature::of_peer(size, bytes)
        };
        let rows = [
            ("another magic", with(0, 0x7273_0137)),
            ("block size 0", with(4, 0)),
            ("another block size", with(4, 4096)),
            ("hash length 0", with(8, 0)),
            ("hash length over 16", with(8, 17)),
            ("hash length of all bits", with(8, u32::MAX)),
        ];
        for (what, result) in rows {
            assert_eq!(result, Err(SignatureError::Header), "{what}");
        }
        let wanted = good.len();
        let lengths = [0, 11, wanted - ENTRY_BYTES, wanted - 1, wanted + 1, wanted + ENTRY_BYTES, 40_000_000];
        for got in lengths {
            let mut bytes = good.clone();
            bytes.resize(got, 0);
            assert_eq!(Signature::of_peer(size, bytes), Err(SignatureError::Length { got, wanted }));
        }
        for size in [0, MIN_ONE_LESS, 1 << 41, 1 << 63, u64::MAX] {
            assert_eq!(Signature::of_peer(size, good.clone()), Err(SignatureError::NoSuch(size)));
        }
    }

    const MIN_ONE_LESS: u64 = super::super::MIN_BYTES - 1;
}
