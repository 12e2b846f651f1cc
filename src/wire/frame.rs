//! Frames: 8 bytes of lengths, a JSON head, a body of bytes; every length capped.
