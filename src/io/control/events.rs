//! `GET /api/v1/events`: what happens, as it happens (server-sent events, as the HTML standard has
//! them).
//!
//! Each reader goes through the feed at its own pace: what waits for it is a batch and what is in
//! its connection (P9). Who names the event that it read last goes on from there, or learns how
//! many it missed. Deliberately not here: what is kept of the past (`io/feed.rs`).

use super::Request;
use super::answer::{ApiState, Queried, Refusal};
use super::table::EVENT_STREAM;
use crate::io::feed::{EventFeed, FeedBatch, FeedEvent, FeedFact, LINE_EVENTS, PATH_EVENTS};
use crate::io::store::index::{JournalLine, SeenChange};
use crate::model::{SyncPath, text};
use crate::views::events::{BeginEvent, LineEvent, PathEvent, ResetEvent};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::IntoParams;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Events that are written at once.
const BATCH: usize = 1024;
/// A connection on which nothing happens for so long has a comment, so that both ends see that it
/// lives.
const QUIET: Duration = Duration::from_secs(15);
/// Said by the stream itself.
const BEGIN: &str = "begin";
const RESET: &str = "reset";

#[derive(Deserialize, IntoParams)]
pub(super) struct EventsQuery {
    /// Only these, separated by commas.
    types: Option<String>,
    /// Only what speaks of this path or one below it.
    prefix: Option<SyncPath>,
    /// The id of the event that was read last, where no header `Last-Event-ID` can be sent.
    after: Option<String>,
}

pub(super) async fn follow(
    State(shared): State<ApiState>,
    query: Queried<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(EventsQuery { types, prefix, after }) = query?;
    let types = types.map(|types| known_types(&types)).transpose()?;
    let last = match headers.get(LAST_EVENT_ID) {
        Some(id) => Some(id.to_str().map_err(|_| no_event_id())?.to_owned()),
        None => after,
    };
    let feed = shared.handle.feed().clone();
    let (next, missed) = match last.map(|id| place(&feed, &id)).transpose()? {
        None => (feed.latest(), None),
        Some(Some(number)) => (number, None),
        Some(None) => (feed.latest(), Some(ResetEvent { missed: None })),
    };
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let begin = BeginEvent { version, device: status.device, name: text::escape(status.name.as_bytes()) };
    let mut first = String::new();
    say(&mut first, BEGIN, feed.run(), next, &begin);
    if let Some(missed) = missed {
        say(&mut first, RESET, feed.run(), next, &missed);
    }
    let (sender, body) = Channel::<Bytes>::new(1);
    let stream = EventStream { feed, next, types, prefix };
    tokio::spawn(stream.run(sender, first));
    let headers = [(CONTENT_TYPE, EVENT_STREAM), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(body)).into_response())
}

/// One reader.
struct EventStream {
    feed: EventFeed,
    /// The number of the last event that it was given, or that went by.
    next: u64,
    types: Option<Vec<String>>,
    prefix: Option<SyncPath>,
}

impl EventStream {
    /// Until the reader is gone.
    async fn run(mut self, mut sender: Sender<Bytes>, first: String) {
        let mut news = self.feed.follow();
        let mut text = first;
        loop {
            // A batch is made once the one before is on its way.
            if !text.is_empty() && sender.send_data(Bytes::from(std::mem::take(&mut text))).await.is_err() {
                return;
            }
            news.borrow_and_update();
            let batch = self.feed.after(self.next, BATCH);
            if batch.next == self.next {
                match timeout(QUIET, news.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => text.push_str(": quiet\n\n"),
                }
                continue;
            }
            self.write(&mut text, batch);
        }
    }

    fn write(&mut self, text: &mut String, batch: FeedBatch) {
        let FeedBatch { events, missed, next } = batch;
        if missed > 0 {
            say(text, RESET, self.feed.run(), self.next + missed, &ResetEvent { missed: Some(missed) });
        }
        for event in events.iter().filter(|event| self.wants(event)) {
            let FeedEvent { number, time, what } = event;
            match what {
                FeedFact::Path { change, from } => {
                    say(text, what.name(), self.feed.run(), *number, &path_event(*time, change, from.as_ref()));
                }
                FeedFact::Line(line) => say(text, what.name(), self.feed.run(), *number, &line_event(line)),
            }
        }
        self.next = next;
    }

    fn wants(&self, event: &FeedEvent) -> bool {
        let is_of_type = |types: &Vec<String>| types.iter().any(|name| name == event.what.name());
        let is_below = |prefix: &SyncPath| {
            let is_at_or_below = |path: &[u8]| {
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            };
            event.what.paths().any(is_at_or_below)
        };
        self.types.as_ref().is_none_or(is_of_type) && self.prefix.as_ref().is_none_or(is_below)
    }
}

/// `text` is one line: JSON has no line breaks but in what it escapes.
fn say(text: &mut String, name: &str, run: &str, number: u64, data: &impl Serialize) {
    let data = serde_json::to_string(data).expect("it is made of text and numbers");
    let _ = write!(text, "event: {name}\nid: {run}-{number}\ndata: {data}\n\n");
}

/// Where to go on after this event; `None` if that was in another run, or is made up.
fn place(feed: &EventFeed, id: &str) -> Result<Option<u64>, Refusal> {
    let (run, number) = id.split_once('-').ok_or_else(no_event_id)?;
    let number: u64 = number.parse().map_err(|_| no_event_id())?;
    Ok((run == feed.run() && number <= feed.latest()).then_some(number))
}

fn no_event_id() -> Refusal {
    Refusal::malformed("that is the id of no event; give one as a stream has said it, or none")
}

fn known_types(types: &str) -> Result<Vec<String>, Refusal> {
    let known = |name: &str| PATH_EVENTS.contains(&name) || LINE_EVENTS.contains(&name);
    match types.split(',').find(|name| !known(name)) {
        Some(unknown) => {
            let unknown = text::escape(unknown.as_bytes());
            Err(Refusal::malformed(format!("there are no events '{unknown}'; docs/api.md lists those that there are")))
        }
        None => Ok(types.split(',').map(str::to_owned).collect()),
    }
}

fn path_event(time: u64, change: &SeenChange, from: Option<&SyncPath>) -> PathEvent {
    let SeenChange { path, kind, size, content, author, stamp, .. } = change;
    PathEvent {
        time_ns: time.to_string(),
        path: path.to_text(),
        from: from.map(SyncPath::to_text),
        kind: (*kind).to_owned(),
        size: *size,
        content: content.map(|content| content.to_string()),
        author: *author,
        stamp_ns: stamp.to_string(),
    }
}

fn line_event(line: &JournalLine) -> LineEvent {
    let JournalLine { at, path, peer, size, paths, text, .. } = line;
    LineEvent {
        time_ns: at.to_string(),
        path: path.as_ref().map(|path| text::escape(path)),
        peer: peer.clone(),
        size: *size,
        paths: *paths,
        text: text.clone(),
    }
}
