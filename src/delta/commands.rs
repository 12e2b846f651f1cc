//! The bytes that a delta is made of, as librsync has them.

// librsync's delta format: a magic, commands, an end.
pub(super) const MAGIC: u32 = 0x7273_0236;
pub(super) const END: u8 = 0;
pub(super) const LITERAL_FIRST: u8 = 0x01;
pub(super) const LITERAL_LAST_SHORT: u8 = 0x40;
pub(super) const LITERAL_LONG_LAST: u8 = 0x44;
pub(super) const COPY_FIRST: u8 = 0x45;
pub(super) const COPY_LAST: u8 = 0x54;
