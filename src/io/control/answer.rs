//! What all routes share: what they ask, and how they answer or refuse.

use super::traffic::TrafficHour;
use super::{About, Handle, World};
use crate::views::status::ProblemView;
use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// The most of a body that is read: some hundred long paths.
pub(super) const BODY_BYTES: usize = 2 << 20;

#[derive(Clone)]
pub(super) struct ApiState {
    pub handle: Handle,
    pub world: Arc<dyn World>,
    pub about: Arc<About>,
    /// Linked machines are asked for their histories by one request at a time.
    pub asking: Arc<tokio::sync::Mutex<()>>,
    pub asking_holds: Arc<tokio::sync::Mutex<()>>,
    pub undoing: Arc<tokio::sync::Mutex<()>>,
    pub hour: Arc<TrafficHour>,
    /// A preview of ignore patterns reads the whole index.
    pub previewing: Arc<tokio::sync::Mutex<()>>,
    pub started: Instant,
}

impl ApiState {
    pub(super) fn new(handle: Handle, world: Arc<dyn World>, about: About) -> Self {
        Self {
            handle,
            world,
            about: Arc::new(about),
            asking: Arc::default(),
            asking_holds: Arc::default(),
            undoing: Arc::default(),
            hour: Arc::default(),
            previewing: Arc::default(),
            started: Instant::now(),
        }
    }
}

/// An answer that is no answer: a code for programs, a sentence for people.
pub(super) struct Refusal(StatusCode, String);

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self(status, why.into())
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0
    }

    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, why.into())
    }

    pub(super) fn not_now(why: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, why.into())
    }

    /// A condition of the request does not hold.
    pub(super) fn precondition(why: impl Into<String>) -> Self {
        Self(StatusCode::PRECONDITION_FAILED, why.into())
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, why.into())
    }

    pub(super) fn no_such_method() -> Self {
        let why = "this request has another method; docs/api.md says which";
        Self(StatusCode::METHOD_NOT_ALLOWED, why.to_owned())
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.1
    }

    pub(super) fn too_large() -> Self {
        let why = format!("the body is larger than {BODY_BYTES} bytes; name fewer paths at once");
        Self(StatusCode::PAYLOAD_TOO_LARGE, why)
    }

    pub(super) fn busy() -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer; it is stopping, or very busy".to_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, sentence) = self;
        let problem = ProblemView {
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: sentence.clone(),
            error: sentence,
        };
        (status, [(CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
    }
}

impl From<io::Error> for Refusal {
    fn from(why: io::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(why: QueryRejection) -> Self {
        Self::malformed(why.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(why: PathRejection) -> Self {
        Self::malformed(why.body_text())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(why: JsonRejection) -> Self {
        match why.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            status @ StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self(status, "the body is to be JSON, with 'Content-Type: application/json'".to_owned())
            }
            _ => Self::malformed(why.body_text()),
        }
    }
}

/// What may come as a query, and as a body.
pub(super) type Queried<Q> = Result<Query<Q>, QueryRejection>;
pub(super) type Ordered<B> = Result<Json<B>, JsonRejection>;
pub(super) type Answer<T> = Result<Json<T>, Refusal>;

/// Disk work off the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
