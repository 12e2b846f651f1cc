//! The stream of events, as the HTML standard has server-sent events: read one after the other.
//!
//! Deliberately not here: going on over another connection, which its reader decides.

use super::{Client, ClientError, whole, with_query};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;

/// A larger one is no event of a daemon (bytes): what listens may be anyone's.
const EVENT_BYTES: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    pub name: String,
    /// From where a later stream goes on.
    pub id: String,
    /// JSON.
    pub data: String,
}

/// What comes over one connection.
pub struct ServerEvents {
    body: Incoming,
    lines: LineBuffer,
    /// Without it the connection would end.
    client: Client,
}

impl Client {
    /// `after`: the `id` of the last event that was read.
    pub async fn events(mut self, query: &[(&str, String)], after: Option<&str>) -> Result<ServerEvents, ClientError> {
        let mut request = Request::get(with_query("/v1/events", query));
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        let request = request.body(whole(Bytes::new())).map_err(|why| self.broken(&why))?;
        let answer = self.send(request).await?;
        Ok(ServerEvents { body: answer.into_body(), lines: LineBuffer::default(), client: self })
    }
}

impl ServerEvents {
    /// `None`: the connection has ended.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ClientError> {
        loop {
            if let Some(event) = self.lines.event() {
                return Ok(Some(event));
            }
            let Some(Ok(frame)) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                self.lines.bytes.extend_from_slice(&data);
            }
            if self.lines.len() > EVENT_BYTES {
                return Err(self.client.broken(&"what it sends are no events"));
            }
        }
    }
}

/// What has come of a stream and is no whole event yet.
#[derive(Default)]
struct LineBuffer {
    bytes: BytesMut,
    event: ServerEvent,
}

impl LineBuffer {
    /// Of an event that is not whole yet (bytes).
    fn len(&self) -> usize {
        self.bytes.len() + self.event.data.len()
    }

    fn event(&mut self) -> Option<ServerEvent> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line = self.bytes.split_to(end);
            self.bytes.advance(1);
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.name.is_empty() {
                    return Some(event);
                }
            }
            // A line that begins with a colon is a comment.
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut self.event.name),
                Some(("id", value)) => value.clone_into(&mut self.event.id),
                Some(("data", value)) => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_their_bytes_are_cut() {
        let stream =
            b"event: begin\nid: 1-2\ndata: {\"a\": 1}\n\n: quiet\n\nevent: x\nid: 1-3\ndata: {}\n\nevent: half\n";
        for cut in 0..stream.len() {
            let mut lines = LineBuffer::default();
            let mut events = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                lines.bytes.extend_from_slice(part);
                events.extend(std::iter::from_fn(|| lines.event()));
            }
            let event = |name: &str, id: &str, data: &str| {
                let [name, id, data] = [name, id, data].map(str::to_owned);
                ServerEvent { name, id, data }
            };
            assert_eq!(events, [event("begin", "1-2", "{\"a\": 1}"), event("x", "1-3", "{}")], "{cut}");
        }
    }

    #[test]
    fn lines_of_one_event_are_joined_and_all_of_them_count() {
        let mut lines = LineBuffer::default();
        lines.bytes.extend_from_slice(b"event: x\ndata: a\ndata: b\n\n");
        assert_eq!(lines.event().unwrap().data, "a\nb");
        for _ in 0..3 {
            lines.bytes.extend_from_slice(b"data: 0123456789\n");
            assert_eq!(lines.event(), None);
        }
        assert_eq!(lines.len(), 32);
    }
}
