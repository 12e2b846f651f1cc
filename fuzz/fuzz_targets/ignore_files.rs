//! Ignore files: any bytes are patterns or named as none, and asking about a path comes to an end.

#![no_main]

use dirsyncd::engine::observe::ignore::Ignore;
use dirsyncd::model::SyncPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (patterns, rest) = bytes.split_at(bytes.len() / 2);
    let (ignore, _) = Ignore::parse(patterns);
    if let Ok(path) = SyncPath::new(rest) {
        for is_directory in [false, true] {
            let _ = ignore.covers(&path, is_directory);
        }
    }
});
