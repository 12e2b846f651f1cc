//! The names of files in `.dirsync/staging`.

use crate::engine::StageId;
use crate::model::{ContentId, text};

const PREFIX: &str = "part-";
const LOG: &str = ".log";
const UPLOAD: &str = "upload-";

/// The name of a staged content.
pub fn name(id: StageId) -> String {
    format!("{:016x}", id.0)
}

/// Whether a name in staging is that of a content kept for another try.
pub fn is_kept_name(name: &[u8]) -> bool {
    std::str::from_utf8(name).ok().and_then(content_of).is_some() || is_upload_name(name)
}

/// Of an upload, by what was announced of it.
pub fn upload_name(announced: &ContentId) -> String {
    format!("{UPLOAD}{announced}")
}

pub fn is_upload_name(name: &[u8]) -> bool {
    let digits = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(UPLOAD));
    digits.and_then(text::from_hex::<32>).is_some()
}

pub fn part_name(content: &ContentId) -> String {
    format!("{PREFIX}{content}")
}

pub fn log_name(content: &ContentId) -> String {
    format!("{PREFIX}{content}{LOG}")
}

pub fn content_of(name: &str) -> Option<ContentId> {
    let id = name.strip_prefix(PREFIX)?;
    text::from_hex(id.strip_suffix(LOG).unwrap_or(id)).map(ContentId)
}
