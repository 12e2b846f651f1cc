//! `dirsync show`: all that is known of one path, as YAML or JSON.
//!
//! Deliberately not here: the words of `dirsync why`, which are a part of it.

use super::{Failure, conflicts, put};
use crate::client::Client;
use crate::views::history::HistoryView;
use crate::views::why::WhyView;
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) async fn show(client: &mut Client, json: bool, path: String) -> Result<(), Failure> {
    let query = [("path", path.clone())];
    let why: WhyView = client.get("/v1/why", &query).await?;
    let HistoryView { mut kept, silent, .. } = client.get("/v1/history", &query).await?;
    kept.retain(|kept| kept.path == path);
    let mut conflicts = conflicts::all(client, Some(path.clone()), false).await?;
    conflicts.retain(|conflict| conflict.path == path);
    let mut facts = serde_json::to_value(&why).map_err(std::io::Error::from)?;
    if let Some(fields) = facts.as_object_mut() {
        fields.insert("kept".to_owned(), json!(kept));
        fields.insert("conflicts".to_owned(), json!(conflicts));
        fields.insert("silent".to_owned(), json!(silent));
    }
    put(json, &facts, yaml)
}

/// Keys are our own words. Strings are as in JSON, which is YAML too.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (n, (name, value)) in fields.iter().enumerate() {
                // The first field of an item stands beside its hyphen.
                let indent = if n == 0 && out.ends_with("- ") { "" } else { &indent };
                let _ = write!(out, "{indent}{name}:");
                nested(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "{indent}- ");
                block(item, depth + 1, out);
            }
        }
        plain => {
            out.push_str(&scalar(plain));
            out.push('\n');
        }
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    let is_empty =
        value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    if (value.is_object() || value.is_array()) && !is_empty {
        out.push('\n');
        block(value, depth + 1, out);
    } else {
        let _ = writeln!(out, " {}", scalar(value));
    }
}

/// JSON leaves some characters as they are that YAML takes for none, or for line ends.
fn scalar(value: &Value) -> String {
    let is_odd =
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    value.to_string().chars().fold(String::new(), |mut out, c| {
        if is_odd(c) {
            let _ = write!(out, "\\u{:04x}", c as u32);
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_are_yaml_whatever_stands_in_them() {
        let value = json!({
            "path": "no: yes\u{7f}\u{2028} #\n",
            "size": 12,
            "here": true,
            "entry": { "kind": "file", "target": null },
            "holders": ["b", "- c"],
            "kept": [{ "path": "f", "machines": [] }, { "path": "g", "machines": ["a"] }],
            "none": {},
        });
        let expected = r#"entry:
  kind: "file"
  target: null
here: true
holders:
  - "b"
  - "- c"
kept:
  - machines: []
    path: "f"
  - machines:
      - "a"
    path: "g"
none: {}
path: "no: yes\u007f\u2028 #\n"
size: 12
"#;
        assert_eq!(yaml(&value), expected);
    }
}
