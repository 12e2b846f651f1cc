//! Deltas: whatever comes, copies lie in the base and no more is made than was announced.

#![no_main]

use dirsyncd::delta::patch::{Patch, Sink};
use libfuzzer_sys::fuzz_target;
use std::convert::Infallible;

/// librsync's.
const MAGIC: [u8; 4] = [0x72, 0x73, 0x02, 0x36];
const BASE: u64 = 1000;
const SIZE: u64 = 1200;

struct Counted(u64);

impl Sink for Counted {
    type Error = Infallible;

    fn copy(&mut self, offset: u64, length: u64) -> Result<(), Infallible> {
        assert!(length > 0 && offset + length <= BASE);
        self.0 += length;
        assert!(self.0 <= SIZE);
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len() as u64;
        assert!(self.0 <= SIZE);
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut patch, mut counted) = (Patch::new(BASE, SIZE), Counted(0));
    // Cut at places that the bytes say.
    let Some((first, rest)) = bytes.split_first() else { return };
    let part = 1 + usize::from(first / 2);
    // Half of them begin as deltas do, for the fuzzer does not find that out.
    let magic: &[u8] = if first % 2 == 0 { &MAGIC } else { &[] };
    for part in [magic, rest].concat().chunks(part) {
        if patch.push(part, &mut counted).is_err() {
            return;
        }
    }
    if patch.finish::<Infallible>().is_ok() {
        assert_eq!(counted.0, SIZE);
    }
});
