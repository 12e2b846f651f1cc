//! Frames: whatever decodes is valid, and encodes to what decodes to the same.

#![no_main]

use bytes::Bytes;
use dirsyncd::wire::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok((packet, used)) = frame::decode_first(&bytes) {
        assert!(used <= bytes.len());
        let again = Bytes::from(frame::encode(&packet).to_vec());
        assert_eq!(frame::decode_first(&again), Ok((packet, again.len())));
    }
});
