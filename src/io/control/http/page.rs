//! The page for people: files that are in the binary, and that need no token.
//!
//! They hold nothing of the folder: what they show they ask for, with the token of whoever looks.
//! They may load what is here and nothing else, and nobody may show them in a frame.

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Where each is, of what type, and what it holds.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("page.html")),
    ("/page.css", CSS, include_str!("page.css")),
    ("/page.js", SCRIPT, include_str!("page.js")),
    ("/requests.js", SCRIPT, include_str!("requests.js")),
    ("/view.js", SCRIPT, include_str!("view.js")),
    ("/machines.js", SCRIPT, include_str!("machines.js")),
    ("/deciding.js", SCRIPT, include_str!("deciding.js")),
    ("/files.js", SCRIPT, include_str!("files.js")),
    ("/ignores.js", SCRIPT, include_str!("ignores.js")),
    ("/plot.js", SCRIPT, include_str!("plot.js")),
];

/// Images are contents of the folder, which the page was given and keeps in memory.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn is_page(path: &str) -> bool {
    FILES.iter().any(|(known, ..)| *known == path)
}

/// The file at this path, if there is one.
pub(super) fn page(path: &str) -> Option<Response> {
    let (_, kind, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    Some(([(CONTENT_TYPE, *kind), (CONTENT_SECURITY_POLICY, POLICY)], *text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_that_the_page_loads_is_here_and_nothing_else_is() {
        let names = FILES.map(|(_, _, text)| text);
        let loaded = names.iter().flat_map(|text| {
            let quoted = text.split('"').skip(1).step_by(2);
            quoted.filter(|word| word.rsplit_once('.').is_some_and(|(_, kind)| ["js", "css"].contains(&kind)))
        });
        let loaded: BTreeSet<&str> = loaded.map(|word| word.trim_start_matches(['.', '/'])).collect();
        let served = FILES.iter().map(|(path, ..)| path.trim_start_matches('/')).filter(|path| !path.is_empty());
        assert_eq!(loaded, served.collect());
    }

    #[test]
    fn foreign_text_is_never_html_and_nothing_is_loaded_from_elsewhere() {
        for (path, _, text) in FILES {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick="]
            {
                assert!(!text.contains(word), "{path} has {word}");
            }
            let addresses =
                text.split("//").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
            let foreign: Vec<_> = addresses.filter(|rest| !rest.starts_with("www.w3.org/2000/svg\"")).collect();
            assert!(foreign.is_empty(), "{path}: {foreign:?}");
        }
    }
}
