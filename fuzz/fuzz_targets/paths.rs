//! Paths: what is accepted stays inside the folder, and its text form is printable and comes back.

#![no_main]

use dirsyncd::model::SyncPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(path) = SyncPath::new(bytes) {
        assert_eq!(path.as_bytes(), bytes);
        assert!(path.components().all(|name| !matches!(name, b"" | b"." | b"..") && name.len() <= 255));
        let text = path.to_text();
        assert!(!text.chars().any(char::is_control));
        assert_eq!(SyncPath::from_text(&text).ok(), Some(path));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(path) = SyncPath::from_text(text)
    {
        assert!(SyncPath::new(path.as_bytes()).is_ok());
    }
});
