//! Why some bytes are no frame.

/// Why some bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error(
        "a frame announces a head of {head} and a body of {body} bytes; at most {max_head} and {max_body} are allowed"
    )]
    TooLong { head: usize, body: usize, max_head: usize, max_body: usize },
    #[error("a frame ends too early")]
    Truncated,
    #[error("a frame's head is malformed: {0}")]
    Head(String),
    #[error("a frame's body holds {0}")]
    Body(&'static str),
    #[error("a frame's body does not inflate to the {0} bytes announced")]
    Inflate(u32),
    #[error("an entry is out of range: {0}")]
    Entry(&'static str),
}
