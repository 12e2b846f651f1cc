//! A content on its way to whoever asked: read in parts off the runtime's threads, with bounded
//! memory.
//!
//! What is sent is what the tag says. A whole content is hashed on its way, and its last part is
//! kept back until the hash is right. Of a part of it, no hash is known: there the file must have
//! the size and the time that it had when it was opened. Where that fails, the connection breaks
//! before its end, so that nobody takes it for whole. A file that is replaced meanwhile stays as it
//! was for who reads it. Deliberately not here: which content, and which part.

use super::super::answer::Refusal;
use super::FoundContent;
use super::conditions::{Conditions, WantedPart};
use crate::engine::Stat;
use crate::io::fs::beneath;
use crate::model::{ContentId, SyncPath, text};
use axum::body::{Body, HttpBody};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Read at once (bytes). Of each request two such parts are kept in memory: one that is sent, and
/// the one after it.
const PART_BYTES: u64 = 256 << 10;

/// A download, never a page of ours: a browser shows nothing of it and runs nothing in it.
const HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_TYPE, "application/octet-stream"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    (ACCEPT_RANGES, "bytes"),
];

pub(super) fn answer(found: FoundContent, tag: &str, conditions: &Conditions<'_>) -> Result<Response, Refusal> {
    let FoundContent { file, path, content, size } = found;
    let (status, range) = match conditions.wanted(tag, size) {
        WantedPart::Whole => (StatusCode::OK, 0..size),
        WantedPart::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        WantedPart::Nothing => return Ok(unsatisfiable(&path, size)),
    };
    let mut lines = vec![
        (ETAG, tag.to_owned()),
        (CONTENT_LENGTH, (range.end - range.start).to_string()),
        (CONTENT_DISPOSITION, disposition(&path)),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        lines.push((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    let mut response = Response::new(Body::new(ContentBody::new(file, path, content, size, range)?));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in lines {
        headers.insert(name, HeaderValue::try_from(value).map_err(|why| Refusal::failed(why.to_string()))?);
    }
    Ok(response)
}

pub(super) fn not_modified(tag: &str) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
}

fn unsatisfiable(path: &SyncPath, size: u64) -> Response {
    let why = format!("'{path}' has {size} bytes, and none of them is in that range");
    let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, why);
    ([(CONTENT_RANGE, format!("bytes */{size}"))], refusal).into_response()
}

/// To be stored under its own name (RFC 8187).
fn disposition(path: &SyncPath) -> String {
    format!("attachment; filename*=UTF-8''{}", text::percent(path.name()))
}

/// The part of it that is still to be sent.
struct ContentBody {
    /// `None` while a thread reads.
    reader: Option<Box<PartReader>>,
    reading: Option<JoinHandle<(Box<PartReader>, io::Result<Bytes>)>>,
    left: u64,
}

struct PartReader {
    file: File,
    path: SyncPath,
    /// When it was opened.
    stat: Stat,
    range: Range<u64>,
    /// Of a content that is sent whole.
    expected: Option<(ContentId, blake3::Hasher)>,
}

impl ContentBody {
    fn new(file: File, path: SyncPath, content: ContentId, size: u64, range: Range<u64>) -> io::Result<Self> {
        let stat = beneath::facts(&file)?.stat;
        let is_whole = range == (0..size);
        let expected = is_whole.then(|| (content, blake3::Hasher::new()));
        let left = range.end - range.start;
        let reader = PartReader { file, path, stat, range, expected };
        Ok(Self { reader: Some(Box::new(reader)), reading: None, left })
    }

    /// Begins with the next part, if none is being read.
    fn read_on(&mut self) {
        if let Some(mut reader) = self.reader.take() {
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let part = reader.next();
                (reader, part)
            }));
        }
    }
}

impl PartReader {
    fn next(&mut self) -> io::Result<Bytes> {
        let length = (self.range.end - self.range.start).min(PART_BYTES);
        let part = read_exact(&self.file, length as usize, self.range.start)?;
        self.range.start += length;
        let now = beneath::facts(&self.file)?.stat;
        if (now.size, now.mtime) != (self.stat.size, self.stat.mtime) {
            return Err(io::Error::other("it was written meanwhile"));
        }
        if let Some((content, hasher)) = &mut self.expected {
            hasher.update(&part);
            if self.range.is_empty() && *hasher.finalize().as_bytes() != content.0 {
                return Err(io::Error::other("its bytes are not what its tag says"));
            }
        }
        Ok(part.into())
    }
}

/// Into memory that nobody has to fill with zeros first.
fn read_exact(file: &File, length: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(length);
    while part.len() < length {
        let at = offset + part.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut part), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    part.truncate(length);
    Ok(part)
}

impl HttpBody for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.read_on();
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let part = read.map_err(io::Error::other).and_then(|(reader, part)| {
            let part = part.inspect_err(|why| tracing::debug!("'{}' is not sent to its end: {why}", reader.path));
            self.reader = Some(reader);
            part
        });
        match part {
            Ok(part) => {
                self.left -= part.len() as u64;
                if self.left > 0 {
                    // While this one is sent.
                    self.read_on();
                }
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Err(why) => {
                self.left = 0;
                Poll::Ready(Some(Err(why)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use axum::http::HeaderMap;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    fn found(bytes: &[u8]) -> (FoundContent, File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (content, size) = (ContentId::of(bytes), bytes.len() as u64);
        let writer = file.try_clone().unwrap();
        (FoundContent { file, path: SyncPath::new("d/na\u{ef}ve \"x\"").unwrap(), content, size }, writer)
    }

    fn respond(found: FoundContent, range: Option<&str>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            headers.insert("range", range.parse().unwrap());
        }
        answer(found, "\"t\"", &Conditions::of(&headers, true)).unwrap_or_else(IntoResponse::into_response)
    }

    #[tokio::test]
    async fn a_content_is_sent_whole_or_in_part_with_what_a_browser_must_know() {
        let bytes: Vec<u8> = (0..3 * PART_BYTES + 7).map(|n| (n % 251) as u8).collect();
        let (whole, _) = found(&bytes);
        let response = respond(whole, None);
        assert_eq!(response.status(), 200);
        for (name, value) in [
            ("content-length", bytes.len().to_string().as_str()),
            ("content-disposition", "attachment; filename*=UTF-8''na%c3%afve%20%22x%22"),
            ("content-type", "application/octet-stream"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox; default-src 'none'"),
            ("accept-ranges", "bytes"),
            ("etag", "\"t\""),
        ] {
            assert_eq!(response.headers()[name], value, "{name}");
        }
        assert!(to_bytes(response.into_body(), usize::MAX).await.unwrap() == bytes);
        let (part, _) = found(&bytes);
        let response = respond(part, Some("bytes=5-300000"));
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-length"]),
            (206, &"299996".parse().unwrap())
        );
        assert_eq!(response.headers()["content-range"], format!("bytes 5-300000/{}", bytes.len()));
        assert!(to_bytes(response.into_body(), usize::MAX).await.unwrap() == bytes[5..=300_000]);
        let (none, _) = found(b"abc");
        let response = respond(none, Some("bytes=3-"));
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-range"]),
            (416, &"bytes */3".parse().unwrap())
        );
        let (empty, _) = found(b"");
        let response = respond(empty, None);
        assert_eq!(response.headers()["content-length"], "0");
        assert!(to_bytes(response.into_body(), usize::MAX).await.unwrap().is_empty());
    }

    /// The next part, or why there is none.
    async fn next(body: &mut ContentBody) -> io::Result<usize> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        frame.map_or(Ok(0), |frame| frame.map(|frame| frame.into_data().map_or(0, |data| data.len())))
    }

    /// How much of it comes before it breaks off; the part after one that was sent is read already.
    async fn until_broken(body: &mut ContentBody) -> usize {
        let mut sent = 0;
        while let Ok(part) = next(body).await {
            assert!(part > 0, "all of it came");
            sent += part;
        }
        assert_eq!(next(body).await.unwrap(), 0, "and that is all");
        sent
    }

    #[tokio::test]
    async fn what_is_written_while_it_is_sent_breaks_off_before_the_end() {
        let bytes = vec![7; 3 * PART_BYTES as usize];
        let body = |found: FoundContent, range: Range<u64>| {
            ContentBody::new(found.file, found.path, found.content, found.size, range).unwrap()
        };
        // Longer, shorter, and of other bytes behind an unchanged time.
        let (longer, writer) = found(&bytes);
        let mut sent = body(longer, 5..bytes.len() as u64);
        assert_eq!(next(&mut sent).await.unwrap(), PART_BYTES as usize);
        writer.set_len(bytes.len() as u64 + 1).unwrap();
        assert!(until_broken(&mut sent).await <= PART_BYTES as usize);
        let (shorter, writer) = found(&bytes);
        let mut sent = body(shorter, 5..bytes.len() as u64);
        assert_eq!(next(&mut sent).await.unwrap(), PART_BYTES as usize);
        writer.set_len(2 * PART_BYTES).unwrap();
        assert!(until_broken(&mut sent).await <= PART_BYTES as usize);
        let (other, writer) = found(&bytes);
        let modified = writer.metadata().unwrap().modified().unwrap();
        let size = other.size;
        let mut sent = body(other, 0..size);
        assert_eq!(next(&mut sent).await.unwrap(), PART_BYTES as usize);
        writer.write_all_at(b"x", size - 1).unwrap();
        writer.set_modified(modified).unwrap();
        assert!(until_broken(&mut sent).await <= PART_BYTES as usize, "the hash of all of it tells");
    }
}
