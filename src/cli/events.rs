//! `dirsync events`: what happens, as it happens, over as many connections as it takes.
//!
//! Deliberately not here: what is kept of the past, of which the daemon says what was missed.

use super::reconnect::{LastingClient, is_cut};
use super::{Failure, printable, put, show};
use crate::client::events::ServerEvent;
use crate::client::{Client, Folder};
use crate::humanize::{bytes, counted};
use serde_json::{Map, Value};

pub(super) async fn follow(
    client: Client,
    folder: &Folder,
    json: bool,
    types: Option<String>,
    prefix: Option<String>,
) -> Result<(), Failure> {
    let wanted = [("types", types), ("prefix", prefix)];
    let query: Vec<_> = wanted.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let mut last: Option<String> = None;
    let mut next = Some(client);
    loop {
        let client = match next.take() {
            Some(client) => client,
            None => LastingClient::connect(folder).await?,
        };
        let mut events = match client.events(&query, last.as_deref()).await {
            Ok(events) => events,
            Err(why) if is_cut(&why) && last.is_some() => continue,
            Err(why) => return Err(why.into()),
        };
        let is_first = last.is_none();
        while let Some(event) = events.next().await? {
            last = Some(event.id.clone());
            // Each stream begins with it; the reader knows by `reset` whether anything is missing.
            if event.name == "begin" && !is_first {
                continue;
            }
            put(json, &as_object(&event), |_| printable(&line(&event)))?;
        }
    }
}

/// Its name and id beside what it says.
fn as_object(event: &ServerEvent) -> Value {
    let mut fields = Map::new();
    fields.insert("event".to_owned(), event.name.clone().into());
    fields.insert("id".to_owned(), event.id.clone().into());
    if let Ok(Value::Object(data)) = serde_json::from_str(&event.data) {
        fields.extend(data);
    }
    Value::Object(fields)
}

fn line(event: &ServerEvent) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let says = match (event.name.as_str(), data["text"].as_str()) {
        ("begin", _) => format!("what {} sees from now on", text("name")),
        ("reset", _) => match data["missed"].as_u64() {
            Some(missed) => format!("{} missed", counted(missed, "event was", "events were")),
            None => "the daemon began anew, and what was before is not known".to_owned(),
        },
        (_, Some(text)) => text.to_owned(),
        ("file_renamed", None) => format!("'{}' is '{}' now", text("from"), text("path")),
        (_, None) => {
            let size = data["size"].as_u64().filter(|_| data["kind"] == "file");
            let size = size.map_or(String::new(), |size| format!(" ({})", bytes(size)));
            format!("'{}'{size}", text("path"))
        }
    };
    // What the stream says of itself has no time.
    let time = data["time_ns"].as_str().map_or_else(|| " ".repeat(19), show::time);
    format!("{time}  {:<13}  {says}\n", event.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_and_an_object() {
        let said = |name: &str, data: &str| {
            let event = ServerEvent { name: name.to_owned(), id: "1-2".to_owned(), data: data.to_owned() };
            assert_eq!(as_object(&event)["id"], "1-2");
            line(&event)[19..].trim().to_owned()
        };
        assert_eq!(said("begin", r#"{"name":"a"}"#), "begin          what a sees from now on");
        assert_eq!(said("reset", r#"{"missed":1}"#), "reset          1 event was missed");
        assert!(said("reset", r#"{"missed":null}"#).contains("began anew"));
        let added = said("file_added", r#"{"time_ns":"0","path":"f\\x0a","kind":"file","size":12}"#);
        assert_eq!(added, r"file_added     'f\x0a' (12 B)");
        let renamed = said("file_renamed", r#"{"time_ns":"0","path":"g","from":"f","kind":"file","size":1}"#);
        assert_eq!(renamed, "file_renamed   'f' is 'g' now");
        assert_eq!(said("linked", r#"{"time_ns":"0","text":"linked with b"}"#), "linked         linked with b");
        assert!(said("odd", "no json").starts_with("odd"));
    }
}
