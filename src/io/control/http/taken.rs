//! A stream that breaks when the other end takes nothing of what is sent for too long (P9).
//!
//! The kernel bounds that of TCP alone, and not while the other end says that it has no room.
//! Deliberately not here: how long (`../http.rs`).

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

pub(super) struct TakenWithin<S> {
    stream: S,
    within: Duration,
    ends: Pin<Box<Sleep>>,
    waits: bool,
}

impl<S: AsyncWrite + Unpin> TakenWithin<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, ends: Box::pin(sleep(within)), waits: false }
    }

    /// The time begins when something waits, and ends with whatever is taken.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = poll(Pin::new(&mut self.stream), cx) {
            self.waits = false;
            return Poll::Ready(done);
        }
        if !self.waits {
            self.waits = true;
            self.ends.as_mut().reset(Instant::now() + self.within);
        }
        ready!(self.ends.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "nothing of the answer was taken in time")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TakenWithin<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TakenWithin<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().bounded(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().bounded(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bounded(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bounded(cx, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Whether some of it is taken at once; and until when that is waited for, if not.
    async fn offer(stream: &mut TakenWithin<DuplexStream>) -> Option<Instant> {
        let offered = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_write(cx, &[0; 16]))).await;
        offered.is_pending().then(|| stream.ends.deadline())
    }

    #[tokio::test]
    async fn what_nobody_takes_breaks_the_stream_and_reading_has_no_such_bound() {
        let (near, mut far) = duplex(16);
        let mut stream = TakenWithin::new(near, Duration::from_millis(50));
        stream.write_all(&[0; 16]).await.unwrap();
        let begun = Instant::now();
        let why = stream.write_all(&[0; 16]).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= Duration::from_millis(50));
        far.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn the_time_begins_with_the_wait_and_anew_with_whatever_is_taken() {
        let (near, mut far) = duplex(16);
        let mut stream = TakenWithin::new(near, Duration::from_mins(1));
        assert_eq!(offer(&mut stream).await, None);
        let first = offer(&mut stream).await.expect("there is no room");
        assert_eq!(offer(&mut stream).await, Some(first), "one wait is one time");
        far.read_exact(&mut [0; 16]).await.unwrap();
        assert_eq!(offer(&mut stream).await, None);
        assert!(offer(&mut stream).await > Some(first));
    }
}
