//! Every size, window and patience of the engine, with its unit and its reason, by room.
//!
//! Most names end in what they count: `_NS` is nanoseconds, `_BYTES` bytes, `_CAP` how many are
//! kept at most (P9); the others say it. Deliberately not here: limits of the wire (`wire/`) and of
//! the disk (`io/`).

/// Units of time (ns).
pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1000 * MS;
pub(super) const MINUTE_NS: u64 = 60 * SECOND;
pub const HOUR_NS: u64 = 3600 * SECOND;
pub(super) const DAY_NS: u64 = 24 * HOUR_NS;

/// Rows that are read from the index at once.
pub(super) const PAGE: usize = 1024;
/// Rows read at once to find those directly in a folder, at most: a folder among them ends it.
pub(super) const CHILDREN_AT_ONCE: usize = 64;

/// From this size on a content comes in chunks.
pub const CHUNKED_BYTES: u64 = 4 << 20;

/// Small contents that are asked for or being installed, at most.
pub(super) const SMALL_WINDOW_FILES: usize = 8192;
/// Large contents under way at once.
pub(super) const LARGE_WINDOW: usize = 4;
/// Small contents that are asked for, here, or being installed, in all (bytes): more than may be
/// asked for, so that what comes with its entry has room beside. What has none is dropped, to be
/// asked for later.
pub(super) const BODIES_BYTES: u64 = 48 << 20;

/// A deletion waits this long for others to copy from what it deletes.
pub(super) const COPY_PATIENCE_NS: u64 = 5 * SECOND;

/// A file whose times are this close to the inspection (ns) may change once more without a new
/// stat.
pub(super) const RACY_NS: u64 = 2 * SECOND;

/// A larger ignore file is not read.
pub const IGNORE_FILE_BYTES: u64 = 1 << 20;

/// Installs, deletions among them, that the shell is given at once, at most. It does them in order
/// and as fast as the disk takes them, so that more of them would only take memory.
pub(super) const JOBS: usize = 8192;

/// Everything is walked this often, whatever the watcher says.
pub(super) const WALK_EVERY_NS: u64 = 3600 * SECOND;
/// The root is checked this often.
pub(super) const ROOT_EVERY_NS: u64 = 5 * SECOND;
/// Deletions count in digests for this long (30 days).
pub(super) const TOMBSTONE_NS: u64 = 30 * 24 * 3600 * SECOND;

// Which entry wins.

/// A clock before this was never set (2026-01-01); stamps are measured against this date then.
pub(super) const BUILT_NS: u64 = 1_767_225_600 * SECOND;

/// Stamps this far ahead of our clock are held: 5 years.
pub(super) const FUTURE_NS: u64 = 5 * 365 * 24 * 3600 * SECOND;

// What a row costs.

/// What a row costs the index beside its paths, link target and version vector.
pub(super) const ROW_BYTES: u64 = 200;

/// A row's path stands in the table and in about this many indexes.
pub(super) const PATH_COPIES: u64 = 5;

/// A head and what is on disk each name the devices that they have seen.
pub(super) const ROW_SEEN_BYTES: u64 = 2 * 42;

/// A folder that nobody announced counts for so many times its cost: peers announce the folders of
/// what they have, so few are derived, and a path of 4 KiB would have hundreds made.
pub(super) const DERIVED_WEIGHT: u64 = 16;

// The steady clock.

/// What a new index begins with, so that a time before it exists for any age that is asked
/// about, and 0 is long ago.
pub(super) const STEADY_BEGIN_NS: u64 = 20 * 365 * DAY_NS;

/// A stop counts for no more than this, on our own clock's word.
pub(super) const STEADY_STOP_NS: u64 = 3 * DAY_NS;
/// The steady time is stored this often; a crash loses no more of it.
pub(super) const STEADY_STORE_EVERY_NS: u64 = 3600 * SECOND;

/// A peer's clock agrees with ours if it is this close.
pub(super) const CLOCK_AGREES_NS: u64 = 3600 * SECOND;

// What a status names.

/// Problems, and paths under way, that a status names at most.
pub(super) const STATUS_PROBLEMS: usize = 1000;
pub(super) const STATUS_UNDER_WAY: usize = 100;
/// Local changes, and changes of others that are not installed, that it names.
pub(super) const STATUS_DIFFERING: usize = 5;

// The index.

/// What most questions need: one of a few places of a content will do.
pub(super) const HOLDERS: usize = 4;

/// A content at more paths than this is not looked for at the others (P9).
pub const HOLDERS_SEEN: usize = 1024;

// observe/

/// A name that another path has here may be given up within this time, as when a rename's
/// deletion comes after what it was renamed to.
pub(super) const NAME_PATIENCE_NS: u64 = 10 * SECOND;

/// A name that the disk refused is tried again after twice the time each time, up to this.
pub(super) const REFUSED_RETRY_NS: u64 = 1800 * SECOND;

/// The same while names go from its folder, as one of them may have been in the way.
pub(super) const FREED_RETRY_NS: u64 = 60 * SECOND;

/// A user's change in a new folder may stay unseen for this long while more comes from
/// elsewhere.
pub(super) const ARRIVAL_PATIENCE_NS: u64 = SECOND;

/// No event came for so long: the daemon slept. The root's checks come more often.
pub(super) const SLEPT_NS: u64 = 8 * SECOND;

/// What happened while the daemon slept is seen by then.
pub(super) const CATCH_UP_NS: u64 = 60 * SECOND;

/// What an awake daemon has not seen yet is younger.
pub(super) const LAG_NS: u64 = 2 * SECOND;

/// With so many paths to inspect, install or announce, second hashes wait...
pub(super) const REHASH_BULK: u64 = 8;

/// ... at most this much longer.
pub(super) const REHASH_PATIENCE_NS: u64 = 30 * SECOND;
/// What is still being changed when its second hash is due is tried again after this.
pub(super) const REHASH_QUIET_NS: u64 = RACY_NS / 4;

/// A peer that asked for something large, or a part of it, within this time is fetching it
/// still.
pub(super) const SERVING_NS: u64 = SECOND;

/// From the close after a write to the inspection.
pub(super) const CLOSED_QUIET_NS: u64 = 2 * MS;

/// A file that is being written is inspected after this much quiet.
pub(super) const WRITING_QUIET_NS: u64 = 100 * MS;

/// A file that is written without a pause is inspected this often.
pub(super) const RESTLESS_NS: u64 = 2_000 * MS;

/// From a name's disappearance to the inspection.
pub(super) const GONE_QUIET_NS: u64 = 20 * MS;

/// What reaches the disk of a file does so in blocks of at least this many bytes.
pub(super) const TORN_BLOCK_BYTES: u64 = 512;

/// Larger files are not compared with zeros: hashing those would take too long.
pub(super) const TORN_ZEROS_BYTES: u64 = 64 << 20;

/// Torn files that are remembered (P9).
pub(super) const TORN_CAP: usize = 4096;

/// Folders with names that are too long that are named as problems (P9).
pub(super) const TOO_LONG_CAP: usize = 1000;

/// A root that could not be read is walked again this soon.
pub(super) const ROOT_UNREAD_NS: u64 = 30 * SECOND;

/// A file system that does not announce what other machines change is walked this often, for at
/// most one part in so many of the time.
pub(super) const WALK_BEHIND_NS: u64 = 60 * SECOND;
pub(super) const WALK_SHARE: u64 = 10;

// reconcile/

/// Texts up to this size are merged.
pub const MERGE_BYTES: u64 = 1 << 20;

/// A merge is given up after so many changes of what it is made on.
pub(super) const MERGE_TRIES: u32 = 8;

/// Losers that wait for their merge (P9); the others are in history, as all are.
pub(super) const MERGING_CAP: usize = 256;

/// Of many conflicts at once, not each one has the list of merges written.
pub(super) const MERGING_STORE_EVERY_NS: u64 = SECOND / 2;

/// Conflicts that were found here; beyond so many the oldest go (P9).
pub(super) const CONFLICTS_OWN: usize = 100_000;

/// That is checked each time so many were found.
pub(super) const CONFLICTS_OWN_AT_ONCE: usize = 1000;

/// A decision is remembered for this long (180 days by the steady clock, ns): until then a machine
/// that was away hears of it.
pub(super) const CONFLICT_SETTLED_NS: u64 = 180 * 24 * 3600 * SECOND;

/// Conflicts that are read from the index at once.
pub(super) const CONFLICT_PAGE: usize = 1000;

/// Losers that are sought (P9); the others are in history, as all are.
pub(super) const SOUGHT_CAP: usize = 256;

/// A loser that is found nowhere is sought at so many starts.
pub(super) const SOUGHT_STARTS: u8 = 3;

/// Directories are derived once news has rested for this long.
pub(super) const DERIVE_QUIET_NS: u64 = SECOND / 2;

/// What a peer may not have derived now is tried again after this.
pub(super) const DERIVE_UNPAID_NS: u64 = 3600 * SECOND;

/// This machine's counters are reserved in the index by so many, so that not each version
/// writes one.
pub(super) const COUNTERS_RESERVED: u64 = 1024;

/// The two halves of a rename arrive within this time of each other.
pub(super) const RENAME_HALVES_NS: u64 = 600 * SECOND;

/// A late write to a file in history is looked for before this has passed.
pub(super) const HISTORY_QUIET_NS: u64 = 6 * SECOND;

/// A path whose second hash is still to come is asked again after this time, so many times.
pub(super) const MOVED_AGAIN_NS: u64 = 10 * SECOND;
pub(super) const MOVED_TRIES: u32 = 6;

/// Contents and deleted files that are remembered (P9); beyond that, history keeps a copy.
pub(super) const MOVED_CAP: usize = 100_000;

// peers/

/// An offer names at most this many buckets, and about this many entries.
pub(super) const OFFER_BUCKETS: usize = 2048;
pub(super) const OFFER_ENTRIES: usize = 2048;

/// Entries that an offer in parts may hold; 16 bytes are kept of each (P9).
pub(super) const OFFERED_CAP: usize = 1 << 20;

/// What one device may cost at once, and what it may again in each second (bytes).
pub(super) const COSTS_OF_ONE: u64 = 256 << 20;
pub(super) const COSTS_AGAIN_OF_ONE: u64 = 16 << 10;

/// The same of all devices (bytes).
pub(super) const COSTS_OF_ALL: u64 = 1 << 30;
pub(super) const COSTS_AGAIN_OF_ALL: u64 = 64 << 10;

/// Devices whose costs are kept apart.
pub(super) const SPENDERS: usize = 1024;

/// Charges are stored this often, and at once when there are so many.
pub(super) const COSTS_STORE_EVERY_NS: u64 = 60 * SECOND;
pub(super) const COSTS_STORE_AT_ONCE: u64 = 1 << 20;

/// Changes that wait for acknowledgements; of more, the log says that they were announced.
pub(super) const DELIVERIES_CAP: usize = 16_384;

/// Some peers have it: the line in the log waits this long for the others.
pub(super) const DELIVERY_PATIENCE_NS: u64 = 2 * SECOND;

/// A peer's clock is named when it is off by more than this, and right again below half of it.
pub(super) const CLOCK_OFF_NS: u64 = 2 * SECOND;

/// Machines on the list of the group, and as many that were removed (P9).
pub(super) const MEMBERS_CAP: usize = crate::wire::members::MEMBERS;

/// Devices that are known (P9); with more, no deletion is forgotten.
pub(super) const DEVICES_CAP: usize = 1024;

/// Of these, those that never compared equal: the one that was met first leaves for another,
/// and each leaves after so many days.
pub(super) const NEVER_EQUAL_CAP: usize = 64;
pub(super) const NEVER_EQUAL_DAYS: u64 = 90;

/// Deletions that are forgotten at once, and how often any are.
pub(super) const PURGE_AT_ONCE: usize = 1000;
pub(super) const PURGE_EVERY_NS: u64 = 3600 * SECOND;

/// The same after something that may let deletions go.
pub(super) const PURGE_SOON_NS: u64 = 5 * SECOND;

/// A clock that is off is named again after this, if it moved.
pub(super) const CLOCK_AGAIN_NS: u64 = 60 * SECOND;

/// A machine that is asked what it holds has this long to answer.
pub(super) const HOLDING_PATIENCE_NS: u64 = 5 * SECOND;

/// No folder has more paths than this.
pub(super) const HOLDING_MOST: u64 = 1 << 48;

/// Devices whose counters are remembered (P9).
pub(super) const PEER_COUNTERS_CAP: usize = 4096;

/// Peers' counters are stored this often: they matter over months, not seconds.
pub(super) const COUNTERS_STORE_EVERY_NS: u64 = 60 * SECOND;

/// Entries in one message, at most.
pub(super) const CHANGES_A_MESSAGE: usize = 512;
/// Entries sent in one tick, about: the rest waits for the next one, which is due at once.
pub(super) const CHANGES_A_TICK: usize = 8192;

/// A machine that is asked for its history has this long to answer, and longer for what must be
/// hashed or sent.
pub(super) const HISTORY_PATIENCE_NS: u64 = 10 * SECOND;
pub(super) const HASHED_BYTES_A_SECOND: u64 = 20 << 20;
pub(super) const SENT_BYTES_A_SECOND: u64 = 256 << 10;

/// One machine's answer about its history.
pub(super) const HISTORY_ANSWER_BYTES: usize = 16 << 20;

/// Contents of histories that a link was offered and may fetch.
pub(super) const HISTORY_OFFERS: usize = 8192;

/// A content from a history that nobody took is dropped after this time.
pub(super) const UNCLAIMED_NS: u64 = 60 * SECOND;

/// A live entry up to this cost is free: its content costs its author more.
pub(super) const FREE_ENTRY_BYTES: u64 = 2048;

/// Contents that one peer may seek at a time; the oldest is forgotten (P9).
pub(super) const SOUGHT_CONTENTS: usize = 64;

/// A peer with refused entries is compared, and named, this often.
pub(super) const REFUSED_AGAIN_NS: u64 = 3600 * SECOND;

/// What a peer says of itself is named again in the log after this...
pub(super) const SAY_MORE_NS: u64 = 60 * SECOND;

/// ... and after this, if it is something else.
pub(super) const SAY_OTHER_NS: u64 = 5 * SECOND;

/// So many paths that hold a content are tried when a peer asks for it, which may ask often (P9).
pub(super) const SERVED_HOLDERS: usize = 64;

/// Peers announce their state at least this often.
pub(super) const STATE_EVERY_NS: u64 = 30 * SECOND;

/// A changed state is announced after this much rest.
pub(super) const STATE_QUIET_NS: u64 = SECOND / 10;

/// What two machines are at with each other is looked at this often.
pub(super) const PHASE_EVERY_NS: u64 = SECOND / 2;

/// A comparison that began keeps derivations waiting for this long at the end that does not lead
/// it.
pub(super) const COMPARED_NS: u64 = SECOND;

/// Files that a survey names, of those that are not whole everywhere.
pub(super) const SURVEY_NAMED_FILES: usize = 1000;

/// A peer that has not answered a survey by then is asked no more.
pub(super) const SURVEY_PATIENCE_NS: u64 = 30 * SECOND;

// transfer/

/// After so many places on this disk that did not have it, a content is fetched.
pub(super) const COPIES_TRIED: usize = 8;

/// A transfer that takes longer is worth a line.
pub(super) const LONG_TRANSFER_NS: u64 = 5 * SECOND;

/// A rate is taken over so many seconds.
pub(super) const PACE_SECONDS: usize = 5;

/// Small contents that are asked for or being installed (bytes), at most.
pub(super) const SMALL_WINDOW_BYTES: u64 = 32 << 20;

/// Upon a file of this size or more, a delta is asked for...
pub(super) const DELTA_BYTES: u64 = 64 * 1024;

/// ... unless what is wanted is so many times as large: then little of it can be in there.
pub(super) const DELTA_GROWTH: u64 = 16;
/// Contents that one message asks for, at most.
pub(super) const ASKS_A_MESSAGE: usize = 512;

/// After the disk was full, nothing is fetched for this long.
pub(super) const FULL_PAUSE_NS: u64 = 10 * SECOND;

/// What had no room is tried at least this often, and so is what could not be installed for
/// another reason.
pub(super) const FULL_RETRY_NS: u64 = 30 * SECOND;
pub(super) const FAILED_RETRY_NS: u64 = 1800 * SECOND;

/// A large content that is not here after this long, or of which no chunk came for so long, counts
/// in no window.
pub(super) const LARGE_PATIENCE_NS: u64 = 10 * SECOND;

/// Chunks that were asked for and are not here, of all sources together (P9); at least one
/// chunk.
pub(super) const SWARM_WINDOW_BYTES: u64 = 32 << 20;

/// The same of one source, however many there are.
pub(super) const SOURCE_SHARE_BYTES: u64 = 4 << 20;

/// Chunks asked of a whole holder ahead, where others seek them too.
pub(super) const CHUNKS_AHEAD: u32 = 2;

/// What is asked for at once of the only source; of several, it is one chunk at a time.
pub(super) const SWARM_RANGE_BYTES: u64 = 4 << 20;

/// A source that brings no chunk for so long gives up what it was asked for, if another could
/// bring it; each time twice as long, up to the second while others bring some, and to the
/// third where nobody does, as it is the line that is slow then.
pub(super) const SOURCE_PATIENCE_NS: u64 = 5 * SECOND;
pub(super) const SOURCE_MOST_PATIENCE_NS: u64 = 80 * SECOND;
pub(super) const SLOW_LINE_PATIENCE_NS: u64 = 3600 * SECOND;

/// Without any source that could go on, a transfer waits for news for so long.
pub(super) const SWARM_STARVES_NS: u64 = 10 * SECOND;

/// A source that has not what it said so often is not asked for this content any more.
pub(super) const SOURCE_LIES: u32 = 3;

/// A peer that sends none of the small contents that it was asked for is silent after this
/// long, each time twice as long, up to the second.
pub(super) const SILENCE_PATIENCE_NS: u64 = 10 * SECOND;
pub(super) const SILENCE_MOST_PATIENCE_NS: u64 = 600 * SECOND;

// safety/

/// Lists of confirmed changes of this machine's user.
pub(super) const CONFIRMATION_OWN_SLOTS: u16 = 128;

/// All lists of confirmed changes.
pub(super) const CONFIRMATION_SLOTS: u16 = 4096;

/// What the confirmations of all peers take, and those of one of them (bytes).
pub(super) const CONFIRMATIONS_OF_ALL: usize = 16 << 20;
pub(super) const CONFIRMATIONS_OF_ONE: usize = 8 << 20;

/// What a list takes beside what it names.
pub(super) const CONFIRMATION_BYTES: usize = 256;
/// A confirmation is kept for 30 days.
pub(super) const CONFIRMATION_NS: u64 = 30 * DAY_NS;

/// What a user meant is gathered for so long before it is announced, less than peers wait
/// before they judge.
pub(super) const CONFIRM_GATHER_NS: u64 = SECOND / 10;

/// A peer that holds something has confirmations announced again after this.
pub(super) const CONFIRM_REMIND_NS: u64 = 300 * SECOND;

/// Paths that are missing together; above so many they wait longer for the noise to end.
pub(super) const FEW_MISSING: usize = 20;
pub(super) const FEW_MISSING_QUIET_NS: u64 = 100 * MS;
pub(super) const MISSING_QUIET_NS: u64 = 200 * MS;

/// So many are a tree on its way out, maybe on a slow disk.
pub(super) const MANY_MISSING: usize = 1000;
pub(super) const MANY_MISSING_QUIET_NS: u64 = 1_000 * MS;
pub(super) const LONGEST_MISSING_QUIET_NS: u64 = 2_000 * MS;

/// A burst that goes on and on is concluded after this: that of a few; that of more, while the
/// folder lives; and one in which nothing is seen but paths that vanish, as `rm -rf` of the folder
/// itself shows until its end.
pub(super) const FEW_MISSING_PATIENCE_NS: u64 = 5_000 * MS;
pub(super) const MISSING_PATIENCE_NS: u64 = 60_000 * MS;
pub(super) const DYING_PATIENCE_NS: u64 = 600_000 * MS;

/// What is missing waits so often for inspections that may find it elsewhere.
pub(super) const MISSING_AGAIN: u32 = 50;

/// Below so many files nothing but the loss of every one is a disaster.
pub(super) const DISASTER_FILES: u64 = 100;

/// Losses by peers above this many are judged together, once they have rested.
pub(super) const FEW_LOSSES: usize = 20;

/// What is held is judged again so long after something came.
pub(super) const HOLD_REVIEW_NS: u64 = 1_000 * MS;

/// Spans (what a path held until it changed) that are known one by one (P9); older ones are
/// only counted then.
pub(super) const SPANS_CAP: usize = 1 << 17;

/// Spans are stored so many to a value, so that one more rewrites little.
pub(super) const LEDGER_CHUNK: u64 = 128;

/// A content that came to another path within this time of going from one was moved there.
pub(super) const LEDGER_MOVED_NS: u64 = 5 * MINUTE_NS;

/// Links that came of late and are known (P9).
pub(super) const NEW_LINKS_CAP: usize = 4096;

/// Values that hold spans, used in turn: many more than spans are known.
pub(super) const LEDGER_SLOTS: u64 = 4096;

/// Changes dated too far ahead that are known one by one (P9).
pub(super) const FUTURE_CAP: usize = 10_000;

/// A linked machine's clock must agree for so long before anything is made anew.
pub(super) const REDATE_AGREED_NS: u64 = 5 * SECOND;

/// What others made, and did not make anew by then, any machine makes anew that has it.
pub(super) const REDATE_OTHERS_NS: u64 = 600 * SECOND;

/// All winners are read at most this often.
pub(super) const REDATE_AGAIN_NS: u64 = 60 * SECOND;

/// History keeps losers of conflicts, what was deleted, and what was replaced for so long.
pub(super) const KEEP_CONFLICT_NS: u64 = 30 * DAY_NS;
pub(super) const KEEP_DELETED_NS: u64 = 30 * DAY_NS;
pub(super) const KEEP_REPLACED_NS: u64 = 7 * DAY_NS;

/// What has only just come to history is checked once more before anything is concluded from
/// it.
pub(super) const KEEP_YOUNG_NS: u64 = 10 * SECOND;

/// A single file in history counts for at most this part of the quota, so that one large file
/// alone makes nobody wait.
pub(super) const KEEP_LARGEST_SHARE: u64 = 4;

/// Losses by peers, and returns to older contents, are judged after this much quiet.
pub(super) const LOSSES_QUIET_NS: u64 = 200 * MS;

/// Every file is read once in this time.
pub(super) const SCRUB_ROUND_NS: u64 = 30 * DAY_NS;

/// Reading a file costs as much as so many bytes, whatever its size.
pub(super) const SCRUB_FILE_BYTES: u64 = 64 << 10;

/// Files, and bytes, that are read at once.
pub(super) const SCRUB_BATCH_FILES: usize = 64;
pub(super) const SCRUB_BATCH_BYTES: u64 = 64 << 20;

/// Rows read from the index for one batch.
pub(super) const SCRUB_BATCH_ROWS: usize = 2 * SCRUB_BATCH_FILES;

/// Files in use that a verification names.
pub(super) const SCRUB_NAMED_IN_USE: usize = 20;

/// Contents that peers asked for and that are remembered (P9).
pub(super) const SCRUB_SERVED_CAP: usize = 4096;

/// How often it is checked whether a day's share is due, and whether there is nothing else to
/// do any more.
pub(super) const SCRUB_CHECK_EVERY_NS: u64 = 3600 * SECOND;
pub(super) const SCRUB_BUSY_PAUSE_NS: u64 = 5 * SECOND;

/// A restart repeats at most this much of a scrub.
pub(super) const SCRUB_STORE_EVERY_NS: u64 = 2 * SECOND;

/// With so many suspect files, no more are sought: the disk, or the memory, needs attention
/// (P9).
pub(super) const SUSPECTS_CAP: usize = 1000;

/// With so many suspect files, none is healed without being asked: so much rot at once has
/// another cause.
pub(super) const HEALED_UNASKED: usize = 20;

/// Clocks are set soon after a boot: what is dated so close to it proves nothing.
pub(super) const BOOT_MARGIN_NS: u64 = 600 * SECOND;

/// Deletions with no longer pauses than this are of one burst.
pub(super) const UNDO_PAUSE_NS: u64 = 120 * SECOND;

/// An answer is waited for so long, and all answers so much longer for each question that one
/// machine is asked.
pub(super) const LOCATE_PATIENCE_NS: u64 = 10 * SECOND;
pub(super) const LOCATE_MORE_NS: u64 = 2 * SECOND;

/// File systems keep mtimes to two seconds at least.
pub(super) const LOCATE_MTIME_SECS: u64 = 2;

/// Contents that were promised from history here (P9), their paths and places together (a peer
/// chooses the paths), and how long they are known.
pub(super) const PROMISED_CAP: usize = 1 << 17;
pub(super) const PROMISED_BYTES: usize = 48 << 20;
pub(super) const PROMISED_NS: u64 = 3600 * SECOND;

/// What nobody had is asked for again after this time, which doubles each time up to the
/// second.
pub(super) const UNDO_AGAIN_NS: u64 = 60 * SECOND;
pub(super) const UNDO_AGAIN_MOST_NS: u64 = 3600 * SECOND;

/// A machine that was linked just now has said what it has after this time.
pub(super) const UNDO_LINKED_NS: u64 = 2 * SECOND;

/// Orders to undo that wait for their turn.
pub(super) const UNDO_ORDERS: usize = 16;

/// Paths that are wanted back and are known over a restart (P9).
pub(super) const UNDO_REFUSED_BYTES: usize = 4 << 20;

/// After a restart, an order to undo is taken up so long after everything is there that it
/// needs: other machines are linked meanwhile, and say what they have.
pub(super) const UNDO_RESUMED_NS: u64 = 5 * SECOND;

/// An order to undo is over so long after the last thing was done for it: what was to be sent
/// for it was sent.
pub(super) const UNDO_DONE_NS: u64 = SECOND;

/// An ignore file that cannot be read is tried again after this.
pub(super) const PATTERNS_AGAIN_NS: u64 = 30 * SECOND;

/// Paths that a preview names of each sort: enough to see what is meant.
pub const PREVIEW_EXAMPLES: usize = 5;

/// A read-only member that has what is not taken of it is compared again after this: its writer may
/// have told it first, and tells this machine next.
pub(super) const NOT_TAKEN_AGAIN_NS: u64 = 30 * SECOND;
