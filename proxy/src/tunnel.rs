//! Octets both ways between two connections, until both ends are done: half-close and reset are passed on.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::wire::{GRACE, Wire};

const BUFFER: usize = 16 * 1024;
/// Free buffers that a worker keeps. An idle tunnel holds none.
const SPARE: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> Box<[u8]> {
    SPARES
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; BUFFER].into())
}

fn give_buffer(buffer: Box<[u8]>) {
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(buffer);
        }
    });
}

/// A connection that can be ended with a reset.
pub(crate) trait Abort: AsyncRead + AsyncWrite + Unpin {
    /// Makes the close that follows send RST instead of FIN.
    fn abort(&self);
}

impl Abort for tokio::net::TcpStream {
    fn abort(&self) {
        // The connection is going away; that it goes politely is the worst that can happen.
        let _ = self.set_zero_linger();
    }
}

/// Who ended a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Both sides closed in order.
    Closed,
    /// The client's side failed or reset.
    Client,
    /// The endpoint's side failed or reset.
    Upstream,
    /// Nothing moved for too long.
    Idle,
    /// The box is stopping.
    Stopped,
}

/// What a tunnel carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) to_upstream: u64,
    pub(crate) to_client: u64,
    pub(crate) end: End,
}

/// One direction.
struct Half {
    first: Bytes,
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    eof: bool,
    done: bool,
    unflushed: bool,
    carried: u64,
}

/// Which side an error belongs to.
enum Fault {
    Reader,
    Writer,
}

impl Half {
    fn new(first: Bytes) -> Self {
        Self {
            first,
            buffer: None,
            start: 0,
            end: 0,
            eof: false,
            done: false,
            unflushed: false,
            carried: 0,
        }
    }

    /// Moves what can be moved; ready when this direction is closed or broken.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: &mut bool,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.done {
            let written = if self.first.has_remaining() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.first));
                if let Ok(count) = written {
                    self.first.advance(count.min(self.first.len()));
                }
                Some(written)
            } else if let Some(waiting) = self
                .buffer
                .as_ref()
                .and_then(|b| b.get(self.start..self.end))
                .filter(|b| !b.is_empty())
            {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, waiting));
                self.start += *written.as_ref().unwrap_or(&0);
                Some(written)
            } else {
                None
            };
            match written {
                Some(Ok(0) | Err(_)) => return Poll::Ready(Err(Fault::Writer)),
                Some(Ok(count)) => {
                    self.carried += count as u64;
                    self.unflushed = true;
                    *moved = true;
                    continue;
                }
                None => {}
            }
            if self.eof {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Fault::Writer)?;
                self.done = true;
                break;
            }
            let mut buffer = self.buffer.take().unwrap_or_else(take_buffer);
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut *from).poll_read(cx, &mut read);
            let count = read.filled().len();
            match polled {
                Poll::Ready(Ok(())) => {
                    self.start = 0;
                    self.end = count;
                    self.eof = count == 0;
                    *moved = true;
                    self.buffer = Some(buffer);
                }
                Poll::Ready(Err(_)) => {
                    give_buffer(buffer);
                    return Poll::Ready(Err(Fault::Reader));
                }
                Poll::Pending => {
                    give_buffer(buffer);
                    self.start = 0;
                    self.end = 0;
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Fault::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            give_buffer(buffer);
        }
    }
}

/// Carries octets between `client` and `upstream` until both directions are closed, one side breaks, nothing moves
/// for `idle`, or `stop` is ready. Once the endpoint is unrouted, what it sends within a grace is all that counts as
/// moving. `first` are octets that were read ahead: from the client, from the endpoint.
///
/// Cancel-safe: no (octets read and not yet written are lost).
pub(crate) async fn run<C: Abort, U: Abort>(
    mut client: C,
    mut upstream: U,
    first: (Bytes, Bytes),
    idle: Duration,
    stop: impl Future<Output = ()>,
    wire: &Wire,
) -> Carried {
    let mut up = Half::new(first.0);
    let mut down = Half::new(first.1);
    let mut stop = std::pin::pin!(stop);
    let mut last = Instant::now();
    let mut timer = std::pin::pin!(tokio::time::sleep_until(last + idle));
    let mut unrouted = false;
    let end = std::future::poll_fn(|cx| {
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Stopped);
        }
        let (mut sent, mut came) = (false, false);
        let upward = up.poll(cx, &mut client, &mut upstream, &mut sent);
        let downward = down.poll(cx, &mut upstream, &mut client, &mut came);
        if came || (sent && !unrouted) {
            last = Instant::now();
        }
        if !unrouted && wire.poll_unrouted(cx).is_ready() {
            unrouted = true;
            last = Instant::now();
            timer.as_mut().reset(last + idle.min(GRACE));
        }
        match (upward, downward) {
            (Poll::Ready(Err(Fault::Reader)), _) | (_, Poll::Ready(Err(Fault::Writer))) => {
                return Poll::Ready(End::Client);
            }
            (Poll::Ready(Err(Fault::Writer)), _) | (_, Poll::Ready(Err(Fault::Reader))) => {
                return Poll::Ready(End::Upstream);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        // One timer, moved forward only when it fires: a busy tunnel does not touch it.
        while timer.as_mut().poll(cx).is_ready() {
            let patience = if unrouted { idle.min(GRACE) } else { idle };
            if last + patience > Instant::now() {
                timer.as_mut().reset(last + patience);
            } else if !unrouted {
                return Poll::Ready(End::Idle);
            } else if wire.is_unrouted_still() {
                return Poll::Ready(End::Upstream);
            } else {
                unrouted = false;
                let _ = wire.poll_unrouted(cx);
                last = Instant::now();
            }
        }
        Poll::Pending
    })
    .await;
    // A side that broke is told to the other as a reset: an orderly close would look like a whole transfer.
    if end != End::Closed {
        client.abort();
        upstream.abort();
    }
    Carried {
        to_upstream: up.carried,
        to_client: down.carried,
        end,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use sekisho_config::model::{Desired, Observed, Reach, Revision, Routing, Unroutable};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::snapshot::{Snapshot, Withdrawn, compile};
    use crate::wire::Wires;

    impl Abort for DuplexStream {
        fn abort(&self) {}
    }

    /// Octets of the client do not keep a tunnel to nowhere open; octets of the endpoint do.
    #[tokio::test(start_paused = true)]
    async fn an_unrouted_endpoint_has_a_grace() {
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let mut observed = Observed::default();
        let why = Unroutable::NoRoute;
        observed.reach.insert(address.ip(), Reach::Unroutable { why });
        let (before, desired) = (Snapshot::default(), Desired::default());
        let now = compile(&before, &desired, &observed, Routing::Required, Revision(1));
        let wires = Wires::new(Arc::new(ArcSwap::from_pointee(now)));
        let wire = wires.add(address);

        let ((mut client, ours), (theirs, mut endpoint)) = (duplex(4096), duplex(4096));
        let none = (Bytes::new(), Bytes::new());
        let idle = Duration::from_secs(600);
        let begun = Instant::now();
        let tunnel = run(ours, theirs, none, idle, std::future::pending(), &wire);
        let talk = async {
            sleep(Duration::from_secs(100)).await;
            let withdrawn = Withdrawn {
                unrouted: [address.ip()].into(),
                ..Withdrawn::default()
            };
            wires.withdraw(&withdrawn);
            sleep(Duration::from_secs(3)).await;
            endpoint.write_all(b"late").await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
            while client.write_all(b"hello?").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let (carried, ()) = tokio::join!(tunnel, talk);
        assert_eq!(carried.end, End::Upstream);
        let lasted = begun.elapsed();
        assert!(
            (Duration::from_secs(108)..Duration::from_secs(110)).contains(&lasted),
            "{lasted:?}"
        );
    }
}
