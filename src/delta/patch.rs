//! Reads a delta as it comes, believing nothing: copies must lie in the base, and all of it must
//! make exactly the announced size.
//!
//! Deliberately not here: where the bytes go ([`Sink`]); whether they are the right ones, which
//! only their hash says.

use super::commands::{COPY_FIRST, COPY_LAST, END, LITERAL_FIRST, LITERAL_LAST_SHORT, LITERAL_LONG_LAST, MAGIC};

/// Takes what a delta says, in the order of the new version.
pub trait Sink {
    type Error;
    /// So many bytes of the base come next. Both checked: the range lies in it.
    fn copy(&mut self, offset: u64, length: u64) -> Result<(), Self::Error>;
    fn literal(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why a delta is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError<E> {
    #[error("a delta does not begin as one")]
    Magic,
    #[error("a delta has an unknown command {0:#04x}")]
    Command(u8),
    #[error("a delta copies {length} bytes from {offset} of a base of {base}")]
    Range { offset: u64, length: u64, base: u64 },
    #[error("a delta makes more than the {0} bytes that were announced")]
    TooLong(u64),
    #[error("a delta goes on after its end")]
    Trailing,
    #[error("a delta ends after {made} of {size} bytes")]
    Short { made: u64, size: u64 },
    #[error(transparent)]
    Sink(#[from] E),
}

/// The longest command: its byte and two numbers of 8.
const COMMAND_BYTES: usize = 17;

enum ParserState {
    Command,
    Literal(u64),
    Ended,
}

/// The interpreter; bytes may come in parts of any length.
pub struct Patch {
    base: u64,
    size: u64,
    made: u64,
    /// Of a command that is not whole yet.
    begun: Vec<u8>,
    has_magic: bool,
    state: ParserState,
}

impl Patch {
    /// `base` and `size`: bytes of the old and of the new version.
    pub fn new(base: u64, size: u64) -> Self {
        let begun = Vec::with_capacity(COMMAND_BYTES);
        Self { base, size, made: 0, begun, has_magic: false, state: ParserState::Command }
    }

    /// Takes the next bytes.
    pub fn push<S: Sink>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<(), PatchError<S::Error>> {
        while !bytes.is_empty() {
            match self.state {
                ParserState::Ended => return Err(PatchError::Trailing),
                ParserState::Literal(left) => {
                    let (now, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
                    sink.literal(now)?;
                    let left = left - now.len() as u64;
                    self.state = if left == 0 { ParserState::Command } else { ParserState::Literal(left) };
                    bytes = rest;
                }
                ParserState::Command => {
                    self.begun.push(bytes[0]);
                    bytes = &bytes[1..];
                    self.command(sink)?;
                }
            }
        }
        Ok(())
    }

    /// Nothing more comes.
    pub fn finish<E>(self) -> Result<(), PatchError<E>> {
        if matches!(self.state, ParserState::Ended) && self.made == self.size {
            Ok(())
        } else {
            Err(PatchError::Short { made: self.made, size: self.size })
        }
    }

    /// Runs the command that has begun, if it is whole.
    fn command<S: Sink>(&mut self, sink: &mut S) -> Result<(), PatchError<S::Error>> {
        if !self.has_magic {
            if self.begun.len() == 4 {
                self.has_magic = self.begun == MAGIC.to_be_bytes();
                self.begun.clear();
                return if self.has_magic { Ok(()) } else { Err(PatchError::Magic) };
            }
            return Ok(());
        }
        let (command, numbers) = (self.begun[0], &self.begun[1..]);
        match command {
            END => self.state = ParserState::Ended,
            LITERAL_FIRST..=LITERAL_LAST_SHORT => {
                self.makes(u64::from(command))?;
                self.state = ParserState::Literal(u64::from(command));
            }
            _ if command <= LITERAL_LONG_LAST => {
                let Some(length) = number(numbers, 1 << (command - LITERAL_LAST_SHORT - 1)) else { return Ok(()) };
                self.makes(length)?;
                self.state = if length == 0 { ParserState::Command } else { ParserState::Literal(length) };
            }
            COPY_FIRST..=COPY_LAST => {
                let (first, second) = (1 << ((command - COPY_FIRST) / 4), 1 << ((command - COPY_FIRST) % 4));
                let Some(length) = numbers.get(first..).and_then(|rest| number(rest, second)) else { return Ok(()) };
                let offset = number(&numbers[..first], first).unwrap_or_default();
                if length == 0 || offset.checked_add(length).is_none_or(|end| end > self.base) {
                    return Err(PatchError::Range { offset, length, base: self.base });
                }
                self.makes(length)?;
                sink.copy(offset, length)?;
            }
            unknown => return Err(PatchError::Command(unknown)),
        }
        self.begun.clear();
        Ok(())
    }

    fn makes<E>(&mut self, length: u64) -> Result<(), PatchError<E>> {
        if length > self.size - self.made {
            return Err(PatchError::TooLong(self.size));
        }
        self.made += length;
        Ok(())
    }
}

/// A big-endian number of `bytes` bytes, once they are all there.
fn number(from: &[u8], bytes: usize) -> Option<u64> {
    let digits = from.get(..bytes)?;
    Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Makes it in memory.
    pub struct Memory<'a> {
        pub base: &'a [u8],
        pub made: Vec<u8>,
    }

    impl Sink for Memory<'_> {
        type Error = Infallible;

        fn copy(&mut self, offset: u64, length: u64) -> Result<(), Infallible> {
            self.made.extend_from_slice(&self.base[offset as usize..][..length as usize]);
            Ok(())
        }

        fn literal(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
            self.made.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn patch(base: &[u8], size: u64, delta: &[u8], part: usize) -> Result<Vec<u8>, PatchError<Infallible>> {
        let mut patch = Patch::new(base.len() as u64, size);
        let mut memory = Memory { base, made: Vec::new() };
        for part in delta.chunks(part) {
            patch.push(part, &mut memory)?;
            assert!(memory.made.len() as u64 <= size);
        }
        patch.finish()?;
        Ok(memory.made)
    }

    type Row = (&'static str, Vec<u8>, fn(&PatchError<Infallible>) -> bool);

    fn delta(commands: &[&[u8]]) -> Vec<u8> {
        [&MAGIC.to_be_bytes()[..], &commands.concat()].concat()
    }

    #[test]
    fn it_reads_librsync_s_commands_however_they_come_in() {
        let long = [&[0x42, 1, 0][..], &[7; 256]].concat();
        let bytes = delta(&[&[0x45, 2, 3], &[3], b"abc", &[0x41, 2], b"de", &long, &[0x4a, 0, 0, 0, 5], &[0]]);
        let expected = [b"234abcde", &[7; 256][..], b"01234"].concat();
        for part in [1, 2, 5, 1000] {
            assert_eq!(patch(b"0123456789", expected.len() as u64, &bytes, part).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_not_a_delta_of_that_size_is_refused() {
        let copy8 =
            |offset: u64, length: u64| [&[COPY_LAST][..], &offset.to_be_bytes(), &length.to_be_bytes()].concat();
        let rows: Vec<Row> = vec![
            ("empty", vec![], |e| matches!(e, PatchError::Short { made: 0, size: 8 })),
            ("not a delta", b"rs\x02\x37\x00".to_vec(), |e| *e == PatchError::Magic),
            ("too long by a copy", delta(&[&[0x45, 0, 9]]), |e| *e == PatchError::TooLong(8)),
            ("too long by a literal", delta(&[&[9]]), |e| *e == PatchError::TooLong(8)),
            ("too long by 2^64 - 1", delta(&[&[0x44], &[255; 8]]), |e| *e == PatchError::TooLong(8)),
            ("too long in steps", delta(&[&[0x45, 0, 5], &[0x45, 0, 5]]), |e| *e == PatchError::TooLong(8)),
            ("out of range", delta(&[&[0x45, 9, 2]]), |e| matches!(e, PatchError::Range { offset: 9, .. })),
            ("far out", delta(&[&copy8(u64::MAX, 1)]), |e| matches!(e, PatchError::Range { .. })),
            ("wrapping round", delta(&[&copy8(u64::MAX - 3, 8)]), |e| matches!(e, PatchError::Range { .. })),
            ("of nothing", delta(&[&[0x45, 0, 0]]), |e| matches!(e, PatchError::Range { length: 0, .. })),
            ("ends early", delta(&[&[0x45, 0, 5], &[0]]), |e| *e == PatchError::Short { made: 5, size: 8 }),
            ("without an end", delta(&[&[0x45, 0, 8]]), |e| *e == PatchError::Short { made: 8, size: 8 }),
            ("in a command", delta(&[&[0x45, 0]]), |e| matches!(e, PatchError::Short { .. })),
            ("in a literal", delta(&[&[8], b"abc"]), |e| matches!(e, PatchError::Short { .. })),
            ("goes on", delta(&[&[0x45, 0, 8], &[0], &[0]]), |e| *e == PatchError::Trailing),
            ("unknown", delta(&[&[0x55]]), |e| *e == PatchError::Command(0x55)),
        ];
        for (what, bytes, is_right) in rows {
            for part in [1, 3, 100] {
                let error = patch(b"0123456789", 8, &bytes, part).expect_err(what);
                assert!(is_right(&error), "{what}: {error}");
            }
        }
    }

    #[test]
    fn an_empty_literal_changes_nothing() {
        let bytes = delta(&[&[0x41, 0], &[0x45, 0, 1], &[0]]);
        assert_eq!(patch(b"x", 1, &bytes, 2).unwrap(), b"x");
    }
}
