//! A TCP stream that counts: what went each way, when something last came, and how much may come
//! yet.
//!
//! It lies below TLS, so that a stranger's bytes are capped before any of them mean anything (P9).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The counters of one connection.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    /// No more than this may be received.
    allowed: AtomicU64,
    /// Milliseconds after `start`.
    heard_ms: AtomicU64,
}

impl Meter {
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Something came, or could have come had it been read.
    pub fn heard(&self) {
        self.heard_ms.store(self.start.elapsed().as_millis() as u64, Relaxed);
    }

    /// How long nothing has come.
    pub fn silent_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.heard_ms.load(Relaxed)))
    }

    /// The other end is a member: it may send as much as it likes.
    pub fn trust(&self) {
        self.allowed.store(u64::MAX, Relaxed);
    }

    /// Whether a stranger sent all that it may.
    pub fn is_exhausted(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> u64 {
        self.allowed.load(Relaxed).saturating_sub(self.received())
    }
}

#[derive(Debug)]
pub struct Metered {
    tcp: TcpStream,
    meter: Arc<Meter>,
}

impl Metered {
    /// At most `allowed` bytes are received until [`Meter::trust`].
    pub fn new(tcp: TcpStream, allowed: u64) -> (Self, Arc<Meter>) {
        let zero = AtomicU64::default;
        let meter =
            Meter { start: Instant::now(), sent: zero(), received: zero(), allowed: allowed.into(), heard_ms: zero() };
        let meter = Arc::new(meter);
        (Self { tcp, meter: Arc::clone(&meter) }, meter)
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.is_exhausted() {
            return Poll::Ready(Err(io::Error::other("too many bytes before the proof")));
        }
        let before = buf.filled().len();
        let left = this.meter.left();
        if left < buf.remaining() as u64 {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(left as usize));
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut part))?;
            let taken = part.filled().len();
            buf.advance(taken);
        } else {
            ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))?;
        }
        this.meter.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        this.meter.heard_ms.store(this.meter.start.elapsed().as_millis() as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.tcp).poll_write(cx, buf))?;
        this.meter.sent.fetch_add(sent as u64, Relaxed);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs))?;
        this.meter.sent.fetch_add(sent as u64, Relaxed);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}
