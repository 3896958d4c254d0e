//! A connection that is given up when nothing is read for a while.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::time::{Instant, Sleep, sleep};

/// Fails after a silence. Its timer is set once for each silence of that length, and not for each read: a timer that is set
/// costs a call of the kernel, and one that fires wakes the connection.
pub(super) struct Listening<S> {
    stream: S,
    longest: Duration,
    /// A write begins the silence again.
    writes_count: bool,
    /// Since when a read waits; `None` while none does.
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Listening<S> {
    pub fn new(stream: S, longest: Duration, writes_count: bool) -> Self {
        Self { stream, longest, writes_count, since: None, timer: Box::pin(sleep(longest)) }
    }

    /// Fails when the read that waits has waited for too long.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let until = *self.since.get_or_insert_with(Instant::now) + self.longest;
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(Err(Error::from(ErrorKind::TimedOut)));
            }
            self.timer.as_mut().reset(until);
        }
    }

    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if self.writes_count && written.is_ready() && self.since.is_some() {
            self.since = Some(Instant::now());
        }
        written
    }
}

impl<S: Read + Unpin> Read for Listening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.wait(cx);
        }
        self.since = None;
        read
    }
}

impl<S: Write + Unpin> Write for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connection> Connection for Listening<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LONGEST: Duration = Duration::from_secs(75);

    fn pair(writes_count: bool) -> (TokioIo<Listening<TokioIo<DuplexStream>>>, DuplexStream) {
        let (here, there) = duplex(64);
        (TokioIo::new(Listening::new(TokioIo::new(here), LONGEST, writes_count)), there)
    }

    /// Returns after how many seconds a read fails.
    async fn silence(stream: &mut (impl AsyncReadExt + Unpin)) -> u64 {
        let began = Instant::now();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_fails_after_a_silence_that_begins_with_the_last_byte() {
        for pause in [0, 1, 74] {
            let (mut here, mut there) = pair(false);
            for _ in 0..3 {
                let (read, ()) = tokio::join!(here.read_u8(), async {
                    sleep(Duration::from_secs(pause)).await;
                    there.write_u8(7).await.unwrap();
                });
                assert_eq!(read.unwrap(), 7);
            }
            sleep(Duration::from_secs(500)).await;
            assert_eq!(silence(&mut here).await, 75, "after pauses of {pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_begins_the_silence_again_where_it_counts() {
        for (writes_count, expected) in [(true, 125), (false, 75)] {
            let (here, _there) = pair(writes_count);
            let (mut read, mut write) = tokio::io::split(here);
            let (silence, ()) = tokio::join!(silence(&mut read), async {
                sleep(Duration::from_secs(50)).await;
                write.write_u8(7).await.unwrap();
            });
            assert_eq!(silence, expected);
        }
    }
}
