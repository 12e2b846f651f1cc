//! Signatures: stored ones that are damaged, and a peer's hashes of nothing, against which a file
//! is still told rightly.

#![no_main]

use dirsyncd::delta::diff::{New, diff};
use dirsyncd::delta::signature::{Signature, of_bytes, wire_bytes};
use dirsyncd::model::ContentId;
use libfuzzer_sys::fuzz_target;

const SIZE: usize = 64 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let content = ContentId::of(bytes);
    let _ = Signature::from_bytes(&content, bytes.len() as u64, bytes);
    let _ = Signature::of_peer(bytes.len() as u64, bytes.to_vec());
    // The header is right, the hashes are whatever comes.
    let new: Vec<u8> = bytes.iter().copied().cycle().take(SIZE).collect();
    let Some(header) = of_bytes(&[0; SIZE]).1.map(|signature| signature.wire()[..12].to_vec()) else { return };
    let hashes = bytes.iter().copied().chain(std::iter::repeat(0));
    let length = wire_bytes(SIZE as u64).unwrap_or_default();
    let signature = header.into_iter().chain(hashes).take(length).collect();
    let base = Signature::of_peer(SIZE as u64, signature).expect("its form is right");
    if new.len() == SIZE {
        let version = New { file: &&new[..], size: SIZE as u64, chunks: None };
        let _ = diff(&base, &version, &mut || true, &mut |_| true);
    }
});
