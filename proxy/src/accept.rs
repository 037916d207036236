//! Accepting connections: never ended by an error, held back or closed when there are too many, held back when the worker
//! has too much to do.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::poll_proceed;
use tokio_util::sync::CancellationToken;

use crate::http::alt_svc::AltSvc;
use crate::metrics::Cell;
use crate::stream::Stream;
use crate::worker::{Flavour, Worker};
use crate::{http, l4};

/// How often a full worker looks whether there is room again.
const FULL_PAUSE: Duration = Duration::from_millis(20);
const ERROR_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Accepts on one socket until `close` or the stop of the box, then takes what the kernel has already let in.
pub(crate) async fn run(
    worker: Rc<Worker>,
    socket: TcpListener,
    address: SocketAddr,
    flavour: Flavour,
    alt_svc: Arc<AltSvc>,
    close: CancellationToken,
) {
    let mut listener = match Listener::new(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = %address, %error, "a listening socket cannot be watched");
            return;
        }
    };
    // A listener on one address need not ask where each connection came to.
    let local = listener
        .socket
        .get_ref()
        .local_addr()
        .ok()
        .filter(|local| !local.ip().is_unspecified());
    let place = &Place {
        address,
        local,
        flavour,
        alt_svc,
    };
    let mut pause = ERROR_PAUSE.0;
    let mut stop = pin!(async {
        tokio::select! {
            () = close.cancelled() => {}
            () = worker.shared.stop.cancelled() => {}
        }
    });
    loop {
        if worker.sheds.get() || (worker.is_full() && !worker.closes_when_full()) {
            // Further connections wait in the kernel's queue.
            worker.counters.inc(Cell::AcceptLimited);
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(FULL_PAUSE) => continue,
            }
        }
        // Whether to stop is asked when nothing waits: a look at the tokens takes a lock that all workers share.
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => stop.as_mut().poll(cx).map(|()| None),
        });
        let Some(accepted) = accepted.await else { break };
        match accepted {
            Ok((stream, peer)) => {
                pause = ERROR_PAUSE.0;
                if worker.is_full() && worker.closes_when_full() {
                    worker.counters.inc(Cell::Accepted);
                    worker.counters.inc(Cell::AcceptLimited);
                    continue;
                }
                begin(&worker, stream, peer, place);
            }
            // The client was faster than we.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // EMFILE 24, ENFILE 23.
                let out_of_files = matches!(error.raw_os_error(), Some(23 | 24));
                worker.counters.inc(if out_of_files {
                    Cell::AcceptOutOfFiles
                } else {
                    Cell::AcceptErrors
                });
                tracing::warn!(listener = %address, %error, "connections cannot be accepted; trying again");
                tokio::select! {
                    () = &mut stop => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(ERROR_PAUSE.1);
            }
        }
    }
    // Connections that are complete in the kernel would be reset by the close of the socket.
    while let Ok((stream, peer)) = listener.socket.get_ref().accept() {
        if worker.is_full() {
            break;
        };
        begin(&worker, stream, peer, place);
    }
}

/// A listening socket. It asks how many connections wait: the system makes the new socket and its file before it finds that none does.
struct Listener {
    socket: AsyncFd<TcpListener>,
    /// So many connections wait at least.
    waiting: u32,
    /// The system has said such a number, and means 0 where it says 0.
    counts: bool,
}

sockopt_impl!(
    /// What the system knows of a connection, and how many wait behind a listening socket.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);

impl Listener {
    fn new(socket: TcpListener) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "a listener of std has one descriptor for as long as it lives, which is all that the unsafe successor asks for"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self {
            socket,
            waiting: 0,
            counts: false,
        })
    }

    /// The next connection. It is not watched yet.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let turn = ready!(poll_proceed(cx));
        loop {
            if self.waiting > 0 {
                turn.made_progress();
                let accepted = self.socket.get_ref().accept();
                match &accepted {
                    Ok(_) => self.waiting -= 1,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.waiting = 0;
                        continue;
                    }
                    // Perhaps it waits still.
                    Err(_) => {}
                }
                return Poll::Ready(accepted);
            }
            // First forgotten, then counted: what comes after the count is told.
            ready!(self.socket.poll_read_ready(cx))?.clear_ready();
            let count = count(self.socket.get_ref());
            self.counts |= count > 0;
            self.waiting = if self.counts { count } else { u32::MAX };
        }
    }
}

/// How many connections wait: of a listening socket that is where others have their segments without ACK (tcp_get_info() of the kernel).
fn count(socket: &TcpListener) -> u32 {
    getsockopt(socket, TcpInfo).map_or(0, |info| info.tcpi_unacked)
}

/// Where connections come to.
#[derive(Debug)]
struct Place {
    /// As the snapshot names it.
    address: SocketAddr,
    /// As the socket is bound, if that is one address.
    local: Option<SocketAddr>,
    flavour: Flavour,
    /// What is to be said of HTTP/3 there.
    alt_svc: Arc<AltSvc>,
}

fn begin(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, place: &Place) {
    let Place {
        address,
        local,
        flavour,
        ref alt_svc,
    } = *place;
    worker.counters.inc(Cell::Accepted);
    let gauge = match flavour {
        Flavour::Tcp => Cell::TcpConnections,
        Flavour::Http | Flavour::Https => Cell::Connections,
    };
    let Some(admitted) = worker.admit(peer.ip(), gauge) else {
        return;
    };
    let this = Rc::clone(worker);
    let stream = Stream::fresh(stream);
    match flavour {
        Flavour::Http => {
            worker
                .connections
                .spawn_local(http::connection::run(this, stream, peer, local, None, admitted));
        }
        Flavour::Https => {
            let tls = Some(Arc::clone(alt_svc));
            worker
                .connections
                .spawn_local(http::connection::run(this, stream, peer, local, tls, admitted));
        }
        Flavour::Tcp => {
            worker
                .tunnels
                .spawn_local(l4::run(this, stream, peer, address, admitted));
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied,
    };
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | PermissionDenied)
        // EPROTO: the connection died in the queue.
        || error.raw_os_error() == Some(71)
}

#[cfg(test)]
mod tests {
    use std::net;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn every_connection_is_accepted_and_none_is_asked_for_in_vain() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let mut listener = Listener::new(socket).unwrap();
        for burst in [1, 5, 0, 2, 100] {
            let clients: Vec<_> = (0..burst)
                .map(|_| net::TcpStream::connect(address).unwrap())
                .collect();
            let mut peers: Vec<_> = clients
                .iter()
                .map(|client| client.local_addr().unwrap())
                .collect();
            let mut accepted = Vec::new();
            while accepted.len() < burst {
                accepted.push(poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().1);
            }
            peers.sort_unstable();
            accepted.sort_unstable();
            assert_eq!(accepted, peers);
            assert_eq!((listener.waiting, count(listener.socket.get_ref())), (0, 0));
            assert!(poll_fn(|cx| listener.poll_accept(cx)).now_or_never().is_none());
        }
    }
}
