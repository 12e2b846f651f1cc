//! Sizes, windows and patiences that more than one room goes by, each with its unit.
//!
//! Deliberately not here: those of one file alone, which stand where they are used.

/// Units of time (ns).
pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1000 * MS;
pub(super) const MINUTE_NS: u64 = 60 * SECOND;
pub const HOUR_NS: u64 = 3600 * SECOND;
pub(super) const DAY_NS: u64 = 24 * HOUR_NS;

/// Rows that are read from the index at once.
pub(super) const PAGE: usize = 1024;

/// From this size on a content comes in chunks (bytes).
pub const CHUNKED_BYTES: u64 = 4 << 20;

/// Small contents asked for or being installed, at most.
pub(super) const SMALL_WINDOW_FILES: usize = 8192;
/// Large contents under way at once.
pub(super) const LARGE_WINDOW: usize = 4;
/// Small contents that are asked for, here, or being installed, in all (bytes): more than may be
/// asked for, so that what comes with its entry has room beside. What has none is dropped, to be
/// asked for later.
pub(super) const BODIES_BYTES: u64 = 48 << 20;

/// A deletion waits this long for others to copy from what it deletes (ns).
pub(super) const COPY_PATIENCE_NS: u64 = 5 * SECOND;

/// A file whose times are this close to the inspection (ns) may change once more without a new
/// stat.
pub(super) const RACY_NS: u64 = 2 * SECOND;

/// A larger file is not read (bytes).
pub const IGNORE_FILE_BYTES: u64 = 1 << 20;

/// Installs, deletions among them, that the shell is given at once, at most. It does them in order
/// and as fast as the disk takes them, so that more of them would only take memory.
pub(super) const JOBS: usize = 8192;

/// Everything is walked this often, whatever the watcher says.
pub(super) const WALK_EVERY_NS: u64 = 3600 * SECOND;
/// The root is looked at this often.
pub(super) const ROOT_EVERY_NS: u64 = 5 * SECOND;
/// Deletions count in digests for this long (30 days).
pub(super) const TOMBSTONE_NS: u64 = 30 * 24 * 3600 * SECOND;
