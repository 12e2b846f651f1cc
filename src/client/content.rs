//! Contents over the API: what is at a path, its bytes from any of them on, and bytes that are
//! sent.
//!
//! One call is one request. A connection that breaks is an error, and the caller goes on where it
//! was, over another one. Deliberately not here: when to do that, and what is done with the bytes.

use super::{Client, ClientError, RequestBody, whole};
use crate::model::text;
use crate::views::status::{DoneView, ReceivedView};
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH, RANGE};
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Read of a file at once (bytes).
const PART_BYTES: u64 = 256 << 10;

/// What must hold of a path for it to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteCondition {
    Anything,
    /// Nothing is there.
    Nothing,
    /// It has this content.
    Content(String),
}

/// A content that is sent: where to, and what is announced of it.
#[derive(Debug, Clone)]
pub struct AnnouncedContent {
    /// In its text form.
    pub path: String,
    /// The BLAKE3 of all of it, in hexadecimal digits.
    pub content: String,
    pub size: u64,
    pub condition: WriteCondition,
}

/// The bytes of a content as they come.
pub struct ContentBytes {
    body: Incoming,
    /// Of the whole content.
    pub size: u64,
}

impl ContentBytes {
    /// `None` at the end; an error where the connection broke before it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

fn target(path: &str) -> String {
    format!("/v1/content/{}", text::percent(path.as_bytes()))
}

impl Client {
    /// The content that this machine's disk has at a path.
    pub async fn content_at(&mut self, path: &str) -> Result<String, ClientError> {
        // Whatever it is, it is known already: no bytes come.
        let request = Request::get(target(path)).header(IF_NONE_MATCH, "*").body(whole(Bytes::new()));
        let answer = self.send(request.expect("the path is encoded")).await?;
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let content = tag.and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"')).map(str::to_owned);
        content.filter(|id| text::from_hex::<32>(id).is_some()).ok_or_else(|| self.broken(&"its answer has no tag"))
    }

    /// The bytes of this content at this path, from `from` on, which is less than its size or 0.
    pub async fn content_from(&mut self, path: &str, content: &str, from: u64) -> Result<ContentBytes, ClientError> {
        let mut request = Request::get(target(path)).header(IF_MATCH, format!("\"{content}\""));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = self.send(request.body(whole(Bytes::new())).expect("the path is encoded")).await?;
        let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
        match size_of(&answer).filter(|_| is_part == (from > 0)) {
            Some(size) => Ok(ContentBytes { body: answer.into_body(), size }),
            None => Err(self.broken(&"its answer is not the part that was asked for")),
        }
    }

    /// How much of it has come; where that is all, it is put in its place.
    pub async fn content_received(&mut self, sent: &AnnouncedContent) -> Result<ReceivedView, ClientError> {
        let request = sent.request().header(CONTENT_RANGE, format!("bytes */{}", sent.size));
        let request = request.header(CONTENT_LENGTH, 0).body(whole(Bytes::new()));
        self.ask(request.expect("the path is encoded")).await
    }

    /// Sends all from `from` on, which is less than its size. `progress` is given the bytes of each
    /// part as it is taken.
    pub async fn send_content(
        &mut self,
        sent: &AnnouncedContent,
        file: Arc<File>,
        from: u64,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<ReceivedView, ClientError> {
        let range = format!("bytes {from}-{}/{}", sent.size - 1, sent.size);
        let request = sent.request().header(CONTENT_RANGE, range).header(CONTENT_LENGTH, sent.size - from);
        let (sender, body) = Channel::<Bytes, io::Error>::new(2);
        let reading = tokio::spawn(read(file, from..sent.size, sender, progress));
        let body: RequestBody = body.boxed_unsync();
        let answer = self.ask(request.body(body).expect("the path is encoded")).await;
        reading.abort();
        answer
    }

    pub async fn delete_content(&mut self, path: &str) -> Result<DoneView, ClientError> {
        self.ask(Request::delete(target(path)).body(whole(Bytes::new())).expect("the path is encoded")).await
    }
}

impl AnnouncedContent {
    fn request(&self) -> Builder {
        let request = Request::put(format!("{}?blake3={}", target(&self.path), self.content));
        match &self.condition {
            WriteCondition::Anything => request,
            WriteCondition::Nothing => request.header(IF_NONE_MATCH, "*"),
            WriteCondition::Content(content) => request.header(IF_MATCH, format!("\"{content}\"")),
        }
    }
}

/// Of the whole content, of which a part may be answered.
fn size_of(answer: &Response<Incoming>) -> Option<u64> {
    let header = |name| answer.headers().get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    match header(CONTENT_RANGE) {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => header(CONTENT_LENGTH)?.parse().ok(),
    }
}

/// Until all was taken, or nobody takes it. A file that is shorter by now breaks the request off.
async fn read(
    file: Arc<File>,
    mut range: std::ops::Range<u64>,
    mut sender: Sender<Bytes, io::Error>,
    progress: impl Fn(u64),
) {
    while !range.is_empty() {
        let (file, from) = (Arc::clone(&file), range.start);
        let length = (range.end - from).min(PART_BYTES);
        let reading = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; length as usize];
            file.read_exact_at(&mut part, from).map(|()| Bytes::from(part))
        });
        match reading.await.map_err(io::Error::other) {
            Ok(Ok(part)) => {
                if sender.send_data(part).await.is_err() {
                    return;
                }
                progress(length);
                range.start += length;
            }
            Ok(Err(why)) | Err(why) => return sender.abort(why),
        }
    }
}
