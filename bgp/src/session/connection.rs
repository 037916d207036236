use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use crate::fsm::LinkId;
use crate::wire::{Frame, Negotiated, WireError, frame};

/// Octets read in one turn; also the most that is decoded before somebody else has a turn.
const READ_SIZE: usize = 8 * 1024;

/// Octets that may wait to be written before no more UPDATEs are made.
const WRITE_MARK: usize = 64 * 1024;

/// How long a connection that is being closed may take to deliver its last words, and to be closed by the peer.
const LINGER: Duration = Duration::from_secs(2);

/// One TCP connection: octets in, octets out, neither ever waited for.
#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) id: LinkId,
    pub(super) negotiated: Negotiated,
    stream: S,
    input: BytesMut,
    output: VecDeque<Bytes>,
    waiting: usize,
    /// Since when octets wait that the peer does not take.
    stuck_since: Option<Instant>,
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Io {
    /// There is more in the input buffer.
    Read,
    /// Everything has been written; there is room again.
    Written,
    /// It is over.
    Lost(String),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(id: LinkId, stream: S) -> Self {
        Self {
            id,
            negotiated: Negotiated::default(),
            stream,
            input: BytesMut::new(),
            output: VecDeque::new(),
            waiting: 0,
            stuck_since: None,
        }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Queues octets to be written.
    pub(super) fn push(&mut self, octets: Bytes) {
        if octets.is_empty() {
            return;
        }
        if self.output.is_empty() {
            self.stuck_since = Some(Instant::now());
        }
        self.waiting = self.waiting.saturating_add(octets.len());
        self.output.push_back(octets);
    }

    /// Whether there is room for UPDATEs.
    pub(super) fn has_room(&self) -> bool {
        self.waiting < WRITE_MARK
    }

    /// Since when the peer has taken nothing of what waits for it.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// Takes the next message off the input buffer.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        frame(&mut self.input, &self.negotiated)
    }

    /// Writes what can be written; with `read`, reads once what is there. Ready when something has to be looked at.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Io> {
        let busy = !self.output.is_empty();
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Io::Lost(words(&error)));
        }
        if busy && self.output.is_empty() {
            return Poll::Ready(Io::Written);
        }
        if !read {
            return Poll::Pending;
        }
        match ready!(self.poll_read(cx)) {
            Ok(0) => Poll::Ready(Io::Lost("the peer closed the connection".into())),
            Ok(_) => Poll::Ready(Io::Read),
            Err(error) => Poll::Ready(Io::Lost(words(&error))),
        }
    }

    /// Ready only with an error: being done writing is nothing to look at.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(first) = self.output.front_mut() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, first) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            first.advance(written);
            if first.is_empty() {
                self.output.pop_front();
            }
            self.waiting = self.waiting.saturating_sub(written);
            self.stuck_since = (!self.output.is_empty()).then(Instant::now);
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0_u8; READ_SIZE];
        let mut space = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        self.input.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Delivers what is queued, then closes; what the peer still sends is thrown away, because closing over unread
    /// octets would reset the connection and lose the NOTIFICATION.
    pub(super) async fn close(mut self) {
        let last_words = async {
            for octets in &self.output {
                self.stream.write_all(octets).await?;
            }
            self.stream.shutdown().await
        };
        if !matches!(timeout(LINGER, last_words).await, Ok(Ok(()))) {
            return;
        }
        let mut void = [0_u8; 4096];
        let drained = async { while matches!(self.stream.read(&mut void).await, Ok(1..)) {} };
        let _ = timeout(LINGER, drained).await;
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "the peer reset the connection".into(),
        io::ErrorKind::BrokenPipe => "the peer closed the connection".into(),
        io::ErrorKind::TimedOut => "the connection timed out: packets to the peer are lost".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn frames_come_whole_however_they_are_cut() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = Connection::new(LinkId(1), near);
        let keepalive = crate::wire::encode_keepalive();
        let octets = keepalive.repeat(3);
        for cut in octets.chunks(7) {
            far.write_all(cut).await.unwrap();
        }
        drop(far);
        let mut frames = 0;
        loop {
            match poll_fn(|cx| connection.poll(cx, true)).await {
                Io::Read => {
                    while connection.next_frame().unwrap().is_some() {
                        frames += 1;
                    }
                }
                Io::Written => panic!("nothing was to be written"),
                Io::Lost(why) => {
                    assert_eq!(why, "the peer closed the connection");
                    break;
                }
            }
        }
        assert_eq!(frames, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_noticed_and_room_ends() {
        let (near, _far) = tokio::io::duplex(16);
        let mut connection = Connection::new(LinkId(1), near);
        connection.push(Bytes::from(vec![0; WRITE_MARK]));
        let _ = futures::poll!(poll_fn(|cx| connection.poll(cx, true)));
        let since = connection.stuck_since().unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        let _ = futures::poll!(poll_fn(|cx| connection.poll(cx, true)));
        assert_eq!(connection.stuck_since(), Some(since));
        assert!(connection.has_room(), "16 octets have left");
        connection.push(Bytes::from(vec![0; 64]));
        assert!(!connection.has_room());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_is_bounded() {
        let (near, _far) = tokio::io::duplex(16);
        let mut connection = Connection::new(LinkId(1), near);
        connection.push(Bytes::from(vec![0; 100]));
        let before = Instant::now();
        connection.close().await;
        assert!(before.elapsed() <= LINGER * 2);
    }
}
