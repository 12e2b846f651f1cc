//! A tag on an answer (RFC 9110), so that who asks again is told only what has changed.
//!
//! It saves the way and the reading, not the asking. Deliberately not here: which answers have one
//! (`routes.rs`).

use super::answer::Refusal;
use crate::model::text;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub(super) async fn tag(request: Request, next: Next) -> Response {
    let (is_whole, asked) = (request.method() == Method::GET, request.headers().clone());
    let answer = next.run(request).await;
    if !is_whole || answer.status() != StatusCode::OK {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Refusal::failed("the answer broke off; ask again").into_response();
    };
    let tag = format!("\"{}\"", text::hex(&blake3::hash(&bytes).as_bytes()[..16]));
    let is_known = knows(&asked, &tag);
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(ETAG, value);
    }
    if !is_known {
        return Response::from_parts(parts, Body::from(bytes));
    }
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(CONTENT_TYPE);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}

/// Whether `If-None-Match` has the tag, strong or weak.
pub(super) fn knows(asked: &HeaderMap, tag: &str) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["\"a\""], true)]
    #[case(&["W/\"a\""], true)]
    #[case(&["\"b\", \"a\""], true)]
    #[case(&["\"b\"", "\"a\""], true)]
    #[case(&["*"], true)]
    #[case(&["a"], false)]
    #[case(&["\"ab\""], false)]
    #[case(&[], false)]
    fn a_tag_is_known_by_any_of_the_list(#[case] lists: &[&str], #[case] due: bool) {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(IF_NONE_MATCH, list.parse().unwrap());
        }
        assert_eq!(knows(&headers, "\"a\""), due);
    }
}
