//! zlib for bodies: only where it helps, and never inflating past what was announced (P9).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bodies up to this many bytes are not worth it.
const MIN_BYTES: usize = 512;
/// How much of a large body is tried first.
const PROBE_BYTES: usize = 64 * 1024;

/// The body as zlib, or `None` when that saves less than 5 %.
pub fn deflate(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() <= MIN_BYTES {
        return None;
    }
    if body.len() > 2 * PROBE_BYTES {
        // The middle is as good a sample as any; a body's beginning is entries, which always
        // shrink.
        let from = (body.len() - PROBE_BYTES) / 2;
        deflate_whole(&body[from..from + PROBE_BYTES])?;
    }
    deflate_whole(body)
}

fn deflate_whole(body: &[u8]) -> Option<Vec<u8>> {
    let worth_it = body.len() - body.len() / 20;
    let mut out = Vec::with_capacity(worth_it);
    let status = Compress::new(Compression::new(1), true).compress_vec(body, &mut out, FlushCompress::Finish);
    (matches!(status, Ok(Status::StreamEnd)) && out.len() <= worth_it).then_some(out)
}

/// Exactly `length` bytes from a zlib stream that is all of `body`; `None` for anything else.
pub fn inflate(body: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; length];
    let mut zlib = Decompress::new(true);
    let status = zlib.decompress(body, &mut out, FlushDecompress::Finish).ok()?;
    let exact = zlib.total_out() == length as u64 && zlib.total_in() == body.len() as u64;
    (status == Status::StreamEnd && exact).then_some(out)
}
