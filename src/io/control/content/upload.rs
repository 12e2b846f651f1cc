//! The route by which a content comes in: resumable by offset, verified, installed whole or not at
//! all.
//!
//! The body of one request is a part of the content, by `Content-Range`, or all of it. How much has
//! come is asked for by a range of nothing. May import `engine` and `model`. Deliberately not here:
//! where it is kept meanwhile (`io/fs/uploads.rs`).

use super::super::World;
use super::super::answer::{ApiState, Queried, Refusal, blocking};
use super::Named;
use super::change::{expected_or_none, refusal};
use super::conditions::{self, Expected};
use crate::engine::Cause;
use crate::io::fs::direct::Buffer;
use crate::io::fs::install::{PutContent, RestoreError};
use crate::io::fs::uploads::{AnnouncedHash, IncomingUpload, UploadError, UploadKey};
use crate::model::{ContentId, SyncPath, text};
use crate::views::status::ReceivedView;
use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use utoipa::IntoParams;

/// Written at once, and begins at a multiple of this (bytes). Of each request two such parts are
/// kept in memory: one that comes, and one that is written.
const PART_BYTES: usize = 256 << 10;
/// The same of a content that goes past the page cache: the disk takes less at once much slower.
const LARGE_PART_BYTES: usize = 2 << 20;
/// The next bytes come within this time.
const NEXT_WITHIN: Duration = Duration::from_secs(30);
/// Of the body of a refused request, so much is taken off and thrown away, for so long; and no more
/// once nothing came for this time.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(10);
const DRAINED_IDLE: Duration = Duration::from_millis(500);
/// An upload that another request goes on with is waited for so long.
const FREE_WITHIN: Duration = Duration::from_secs(1);
const LOOKED_EVERY: Duration = Duration::from_millis(20);
/// Whoever writes there at the very moment is waited for so often, where the request says nothing
/// of what is to be there.
const TRIES: u32 = 4;

/// One of both is needed.
#[derive(Deserialize, IntoParams)]
pub(in super::super) struct UploadQuery {
    /// Of the whole content, in hexadecimal digits.
    sha256: Option<String>,
    blake3: Option<String>,
}

/// Which part of a content a request brings.
#[derive(Debug, PartialEq, Eq)]
enum BodyPart {
    /// All of it.
    Whole { size: u64 },
    /// `length` bytes from `offset`.
    From { offset: u64, length: u64, size: u64 },
    /// Nothing: it asks how much has come.
    Nothing { size: u64 },
}

pub(in super::super) async fn put(
    State(shared): State<ApiState>,
    path: Named,
    query: Queried<UploadQuery>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Refusal> {
    // Whoever asked may be gone: what came before that is written all the same.
    let taking = tokio::spawn(async move {
        let taken = take(shared, path, query, &headers, &mut body).await;
        if taken.is_err() {
            // What is not taken off resets the connection, and with it the refusal on its way.
            tokio::spawn(timeout(DRAINED_WITHIN, drain(body)));
        }
        taken
    });
    taking.await.map_err(|_| broke_off())?
}

async fn drain(mut body: Body) {
    let mut left = DRAINED_BYTES;
    while let Ok(Some(Ok(frame))) = timeout(DRAINED_IDLE, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

async fn take(
    shared: ApiState,
    path: Named,
    query: Queried<UploadQuery>,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Refusal> {
    let (Path(path), Query(query)) = (path?, query?);
    let hash = announced(&query)?;
    let part = BodyPart::of(headers, body.size_hint().exact())?;
    let expected = conditions::expected(headers);
    // Before anything is sent in vain. It is looked at once more when all is here.
    expected_or_none(&shared, &path, &expected).await?;
    let key = UploadKey { path: path.clone(), hash, size: part.size() };
    let upload = begin(&shared, key).await?;
    let upload = receive(upload, &part, body).await?;
    if !upload.is_whole() {
        let view = ReceivedView { path: path.to_text(), size: part.size(), received: upload.received(), content: None };
        return Ok((StatusCode::ACCEPTED, Json(view)).into_response());
    }
    install(&shared, path, upload, &expected).await
}

/// One that only asks how much has come is soon done, and so is one whose end is just being seen.
async fn begin(shared: &ApiState, key: UploadKey) -> Result<IncomingUpload, Refusal> {
    let until = Instant::now() + FREE_WITHIN;
    loop {
        let (world, key) = (shared.world.clone(), key.clone());
        match blocking(move || Ok(world.begin_upload(key))).await? {
            Err(UploadError::Busy) if Instant::now() < until => tokio::time::sleep(LOOKED_EVERY).await,
            begun => return begun.map_err(upload_refusal),
        }
    }
}

fn announced(query: &UploadQuery) -> Result<AnnouncedHash, Refusal> {
    let hash =
        |digits: &str| text::from_hex(digits).ok_or_else(|| Refusal::malformed("a hash has 64 hexadecimal digits"));
    match (&query.sha256, &query.blake3) {
        (Some(digits), None) => Ok(AnnouncedHash::Sha256(hash(digits)?)),
        (None, Some(digits)) => Ok(AnnouncedHash::Blake3(hash(digits)?)),
        _ => Err(Refusal::malformed("announce the hash of the whole content, by ?sha256= or by ?blake3=")),
    }
}

impl BodyPart {
    /// `length`: of the body, where it is known.
    fn of(headers: &HeaderMap, length: Option<u64>) -> Result<Self, Refusal> {
        let Some(range) = headers.get(CONTENT_RANGE) else {
            let size = length.filter(|_| headers.contains_key(CONTENT_LENGTH)).ok_or_else(|| {
                Refusal::new(StatusCode::LENGTH_REQUIRED, "a content without Content-Range needs a Content-Length")
            })?;
            return Ok(Self::Whole { size });
        };
        let malformed =
            || Refusal::malformed("Content-Range is 'bytes FIRST-LAST/SIZE', or 'bytes */SIZE' without a body");
        let (range, size) = range
            .to_str()
            .ok()
            .and_then(|range| range.trim().strip_prefix("bytes "))
            .and_then(|range| range.split_once('/'))
            .ok_or_else(malformed)?;
        let number =
            |digits: &str| conditions::number(digits).filter(|number| *number < u64::MAX).ok_or_else(malformed);
        let size = number(size)?;
        if range == "*" {
            return if length == Some(0) { Ok(Self::Nothing { size }) } else { Err(malformed()) };
        }
        let (first, last) = range.split_once('-').ok_or_else(malformed)?;
        let (offset, last) = (number(first)?, number(last)?);
        let is_sound = offset <= last && last < size && length.is_none_or(|length| length == last - offset + 1);
        if is_sound { Ok(Self::From { offset, length: last - offset + 1, size }) } else { Err(malformed()) }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Whole { size } | Self::From { size, .. } | Self::Nothing { size } => *size,
        }
    }
}

/// Adds what comes. What came before a cut stays.
async fn receive(mut upload: IncomingUpload, part: &BodyPart, body: &mut Body) -> Result<IncomingUpload, Refusal> {
    let mut left = match *part {
        BodyPart::Nothing { .. } => return Ok(upload),
        BodyPart::Whole { size } => {
            upload = working(upload, IncomingUpload::begin_anew).await?;
            size
        }
        BodyPart::From { offset, length, .. } if offset == upload.received() => length,
        BodyPart::From { .. } => {
            let why = format!("{} bytes have come: go on from there", upload.received());
            return Err(Refusal::not_now(why));
        }
    };
    upload = working(upload, |upload| upload.check_room()).await?;
    let part_bytes = if upload.is_direct() { LARGE_PART_BYTES } else { PART_BYTES };
    let capacity = left.min(part_bytes as u64) as usize;
    let (mut at, mut part) = (upload.received(), Buffer::new(capacity));
    let mut writer = PartWriter::Waits(upload, Buffer::new(capacity));
    let ended = loop {
        let mut data = match timeout(NEXT_WITHIN, body.frame()).await {
            Ok(None) => break Ok(()),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(why))) => break Err(Refusal::malformed(format!("the body broke off: {why}"))),
            Err(_) => {
                break Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body does not go on; go on with it later"));
            }
        };
        if data.len() as u64 > left {
            break Err(Refusal::malformed("the body has more bytes than was said"));
        }
        left -= data.len() as u64;
        while data.has_remaining() {
            let taken = data.len().min(part_bytes - (at % part_bytes as u64) as usize);
            part.push(&data[..taken]);
            data.advance(taken);
            at += taken as u64;
            if at.is_multiple_of(part_bytes as u64) {
                (writer, part) = writer.write(part).await?;
            }
        }
    };
    let (writer, _) = writer.write(part).await?;
    let (upload, _) = writer.end().await?;
    ended.map(|()| upload)
}

/// Writes and hashes a part while the next one comes.
enum PartWriter {
    /// With an empty buffer.
    Waits(IncomingUpload, Buffer),
    Writes(JoinHandle<Result<(IncomingUpload, Buffer), Refusal>>),
}

impl PartWriter {
    /// Begins with it once the one before is written; an empty buffer for what comes next.
    async fn write(self, part: Buffer) -> Result<(Self, Buffer), Refusal> {
        let (upload, empty) = self.end().await?;
        Ok((Self::Writes(tokio::spawn(write_part(upload, part))), empty))
    }

    /// Once nothing is being written.
    async fn end(self) -> Result<(IncomingUpload, Buffer), Refusal> {
        match self {
            Self::Waits(upload, empty) => Ok((upload, empty)),
            Self::Writes(writing) => writing.await.map_err(|_| broke_off())?,
        }
    }
}

/// A thread for the disk, and one for each hash. The buffer comes back empty.
async fn write_part(upload: IncomingUpload, part: Buffer) -> Result<(IncomingUpload, Buffer), Refusal> {
    let (offset, part) = (upload.received(), Arc::new(part));
    let hashing = upload.hashers().into_iter().map(|hasher| {
        let same = Arc::clone(&part);
        tokio::task::spawn_blocking(move || hasher.update(offset, same.bytes()))
    });
    let hashing: Vec<_> = hashing.collect();
    let same = Arc::clone(&part);
    let written = working(upload, move |upload| upload.write(same.bytes())).await;
    for hashed in hashing {
        hashed.await.map_err(|_| broke_off())?;
    }
    let mut part = Arc::into_inner(part).ok_or_else(broke_off)?;
    part.clear();
    Ok((written?, part))
}

fn broke_off() -> Refusal {
    Refusal::failed("the upload broke off; ask how much of it has come")
}

/// Does it off the runtime's threads. A request that is given up leaves it to its end.
async fn working(
    mut upload: IncomingUpload,
    work: impl FnOnce(&mut IncomingUpload) -> Result<(), UploadError> + Send + 'static,
) -> Result<IncomingUpload, Refusal> {
    let worked = blocking(move || Ok(work(&mut upload).map(|()| upload))).await?;
    worked.map_err(upload_refusal)
}

/// Makes these bytes what is at a path, as an upload in one part.
pub(in super::super) async fn install_bytes(
    shared: ApiState,
    path: SyncPath,
    bytes: Vec<u8>,
    expected: Expected,
) -> Result<Response, Refusal> {
    // Whoever asked may be gone: it is done to its end all the same.
    let installing = tokio::spawn(async move {
        expected_or_none(&shared, &path, &expected).await?;
        let hash = AnnouncedHash::Blake3(ContentId::of(&bytes).0);
        let upload = begin(&shared, UploadKey { path: path.clone(), hash, size: bytes.len() as u64 }).await?;
        let upload = working(upload, move |upload| {
            upload.begin_anew()?;
            upload.check_room()?;
            upload.write(&bytes)
        });
        install(&shared, path, upload.await?, &expected).await
    });
    installing.await.map_err(|_| Refusal::failed("the write broke off; send it again"))?
}

async fn install(
    shared: &ApiState,
    path: SyncPath,
    upload: IncomingUpload,
    expected: &Expected,
) -> Result<Response, Refusal> {
    let verified = blocking(move || Ok(upload.verify().map(|content| (upload, content)))).await?;
    let (mut upload, content) = verified.map_err(upload_refusal)?;
    let size = upload.received();
    for tries in 1.. {
        let expect = expected_or_none(shared, &path, expected).await?;
        let put = PutContent { path: path.clone(), content, size, expect };
        let world = shared.world.clone();
        let (back, done) = blocking(move || Ok(place(&*world, upload, &put))).await?;
        upload = back;
        match done {
            Ok(()) => return Ok(installed(&path, size, content, expect.is_some())),
            Err(PlaceError::Install(RestoreError::Busy(_))) if *expected == Expected::Anything && tries < TRIES => {}
            Err(PlaceError::Install(why)) => return Err(refusal(why, *expected != Expected::Anything)),
            Err(PlaceError::IncomingUpload(why)) => return Err(upload_refusal(why)),
        }
    }
    Err(Refusal::busy())
}

enum PlaceError {
    Install(RestoreError),
    IncomingUpload(UploadError),
}

/// What is not installed can be by another request.
fn place(world: &dyn World, upload: IncomingUpload, put: &PutContent) -> (IncomingUpload, Result<(), PlaceError>) {
    let placed = upload.stage().map_err(PlaceError::IncomingUpload).and_then(|id| {
        world.put(id, put).map_err(|why| {
            if let Err(why) = upload.put_back(id) {
                tracing::debug!("the upload of '{}' is lost: {why}", put.path);
            }
            PlaceError::Install(why)
        })
    });
    (upload, placed)
}

fn installed(path: &SyncPath, size: u64, content: ContentId, replaces: bool) -> Response {
    let status = if replaces { StatusCode::OK } else { StatusCode::CREATED };
    let view = ReceivedView { path: path.to_text(), size, received: size, content: Some(content.to_string()) };
    (status, [(ETAG, conditions::tag(&content))], Json(view)).into_response()
}

fn upload_refusal(why: UploadError) -> Refusal {
    let text = why.to_string();
    match why {
        UploadError::Busy | UploadError::TooMany => Refusal::not_now(text),
        UploadError::OtherHash => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text),
        UploadError::Disk(trouble) if trouble.cause == Cause::NoSpace => {
            Refusal::new(StatusCode::INSUFFICIENT_STORAGE, text)
        }
        UploadError::Disk(_) => Refusal::failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::some("bytes 0-4/10", Some(5), Some(BodyPart::From { offset: 0, length: 5, size: 10 }))]
    #[case::the_end("bytes 5-9/10", Some(5), Some(BodyPart::From { offset: 5, length: 5, size: 10 }))]
    #[case::in_chunks("bytes 5-9/10", None, Some(BodyPart::From { offset: 5, length: 5, size: 10 }))]
    #[case::asked("bytes */10", Some(0), Some(BodyPart::Nothing { size: 10 }))]
    #[case::asked_with_a_body("bytes */10", Some(1), None)]
    #[case::another_length("bytes 5-9/10", Some(4), None)]
    #[case::beyond_the_end("bytes 5-10/10", Some(6), None)]
    #[case::backwards("bytes 5-4/10", Some(0), None)]
    #[case::of_no_size("bytes 0-4/*", Some(5), None)]
    #[case::of_nothing("bytes */*", Some(0), None)]
    #[case::the_largest_number("bytes 0-18446744073709551615/18446744073709551615", None, None)]
    #[case::signed("bytes +0-4/10", Some(5), None)]
    #[case::another_unit("lines 0-4/10", Some(5), None)]
    #[case::no_range("whatever", Some(5), None)]
    fn a_part_is_where_its_range_says(#[case] range: &str, #[case] length: Option<u64>, #[case] due: Option<BodyPart>) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, range.parse().unwrap());
        assert_eq!(BodyPart::of(&headers, length).ok(), due);
    }
}
