//! Where a file has data, and where holes.

use rustix::fs::SeekFrom;
use std::fs::File;

/// Where the next data begins; where holes are not told, at once.
pub fn next_data(file: &File, offset: u64, end: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data.min(end),
        // Nothing but a hole from there on; if the file was cut short, its stat will say so.
        Err(rustix::io::Errno::NXIO) => end,
        Err(_) => offset,
    }
}

/// How far the data goes, at least a byte. Not for files without holes: the kernel may look at each
/// page up to the end to tell that there is none.
pub fn next_hole(file: &File, data: u64, end: u64) -> u64 {
    let hole = if data < end { rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(end) } else { end };
    hole.max(data + 1).min(end)
}

/// Whether some of its bytes have no place on the disk. Those that have one and were never written
/// (`fallocate`) are found by `next_data` alone.
pub fn is_sparse(file: &File) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| (stat.st_blocks as u64) * 512 < stat.st_size as u64)
}
