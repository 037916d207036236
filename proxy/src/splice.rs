//! Octets from one TCP connection to another without copying them: they go through a pipe, in which the kernel keeps
//! the pages that they came in (splice(2)).

use std::cell::RefCell;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A body of which so much is left is worth a pipe.
pub(crate) const LEAST: u64 = 64 * 1024;
/// Octets that a pipe holds at most. Each page in it may hold less than it could.
const ROOM: usize = 256 * 1024;
/// Empty pipes that a worker keeps.
const SPARE: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and what is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

#[derive(Debug)]
struct Ends {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Pipe {
    /// An empty pipe; `None` where the system has none to spare, which is no reason to fail.
    pub(crate) fn take() -> Option<Self> {
        let spare = SPARES.with_borrow_mut(Vec::pop);
        let ends = spare.map_or_else(Ends::open, Ok);
        Some(Self {
            ends: Some(ends.ok()?),
            held: 0,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes in what has come, up to `most` octets. `Ok(0)` is the end of the stream. The pipe must be empty: a full one
    /// says the same as a stream that has nothing.
    pub(crate) fn poll_in(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held == 0) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        let most = usize::try_from(most).unwrap_or(ROOM).min(ROOM);
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || pass(from, &ends.writer, most)) {
                Ok(count) => {
                    self.held = count;
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Ready when the pipe is empty. Says whether anything went out.
    pub(crate) fn poll_out(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> (bool, Poll<io::Result<()>>) {
        let before = self.held;
        let done = self.poll_empty(cx, to);
        (self.held < before, done)
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(()));
        };
        while self.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || pass(&ends.reader, to, self.held)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.held = self.held.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // What is left in it is nobody else's.
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(ends);
                }
            });
        }
    }
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // The system limits what one user has in pipes; a smaller one does, too.
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(ROOM as i32));
        Ok(Self { reader, writer })
    }
}

fn pass(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        match splice(from.as_fd(), None, to.as_fd(), None, most, flags) {
            Ok(count) => return Ok(count),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (stream, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn octets_arrive_whole_and_in_order_and_no_more_than_asked_for() {
        let octets: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let ((mut source, from), (to, mut sink)) = (pair().await, pair().await);
        let most = octets.len() - 1000;
        let passing = async {
            let mut pipe = Pipe::take().unwrap();
            let mut left = most as u64;
            while left > 0 {
                left -= poll_fn(|cx| pipe.poll_in(cx, &from, left)).await.unwrap() as u64;
                poll_fn(|cx| pipe.poll_out(cx, &to).1).await.unwrap();
                assert!(pipe.is_empty());
            }
            let rest = octets.len() - most;
            let mut tail = Vec::new();
            let mut from = from;
            from.read_to_end(&mut tail).await.unwrap();
            assert_eq!(tail, octets[octets.len() - rest..]);
            drop(to);
        };
        let sending = async {
            source.write_all(&octets).await.unwrap();
            drop(source);
        };
        let mut got = Vec::new();
        let (read, (), ()) = tokio::join!(sink.read_to_end(&mut got), sending, passing);
        read.unwrap();
        assert!(got == octets[..most], "{} octets", got.len());
    }

    #[tokio::test]
    async fn a_pipe_with_something_in_it_is_used_for_nothing_else() {
        SPARES.with_borrow_mut(Vec::clear);
        let (mut source, from) = pair().await;
        source.write_all(b"secret").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        let count = poll_fn(|cx| pipe.poll_in(cx, &from, LEAST)).await.unwrap();
        assert_eq!(count, 6);
        let full = poll_fn(|cx| pipe.poll_in(cx, &from, LEAST)).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::InvalidInput);
        drop(pipe);
        assert_eq!(SPARES.with_borrow(Vec::len), 0);
        drop(Pipe::take().unwrap());
        assert_eq!(SPARES.with_borrow(Vec::len), 1);
    }
}
