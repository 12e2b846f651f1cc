//! Sizes, windows and patiences that more than one room goes by, each with its unit.
//!
//! Deliberately not here: those of one file alone, which stand where they are used.

pub(in crate::engine) const SECOND: u64 = 1_000_000_000;
pub(in crate::engine) const DAY_NS: u64 = 24 * 3600 * SECOND;

/// Rows that are read from the index at once.
pub(in crate::engine) const PAGE: usize = 1024;

/// From this size on a content comes in chunks (bytes).
pub const CHUNKED_BYTES: u64 = 4 << 20;

/// Small contents asked for or being installed, at most.
pub(in crate::engine) const SMALL_WINDOW_FILES: usize = 8192;
/// Large contents under way at once.
pub(in crate::engine) const LARGE_WINDOW: usize = 4;
/// Small contents that are asked for, here, or being installed, in all (bytes): more than may be
/// asked for, so that what comes with its entry has room beside. What has none is dropped, to be
/// asked for later.
pub(in crate::engine) const BODIES_BYTES: u64 = 48 << 20;

/// A deletion waits this long for others to copy from what it deletes (ns).
pub(in crate::engine) const COPY_PATIENCE_NS: u64 = 5 * SECOND;

/// Losses are counted over this long (ns).
pub const HOUR_NS: u64 = 3600 * SECOND;

/// A file whose times are this close to the inspection (ns) may change once more without a new
/// stat.
pub(in crate::engine) const RACY_NS: u64 = 2 * SECOND;

/// A larger file is not read (bytes).
pub const IGNORE_FILE_BYTES: u64 = 1 << 20;

/// Installs, deletions among them, that the shell is given at once, at most. It does them in order
/// and as fast as the disk takes them, so that more of them would only take memory.
pub(in crate::engine) const JOBS: usize = 8192;

/// Everything is walked this often, whatever the watcher says.
pub(in crate::engine) const WALK_EVERY_NS: u64 = 3600 * SECOND;
/// The root is looked at this often.
pub(in crate::engine) const ROOT_EVERY_NS: u64 = 5 * SECOND;
/// Deletions count in digests for this long (30 days).
pub(in crate::engine) const TOMBSTONE_NS: u64 = 30 * 24 * 3600 * SECOND;
