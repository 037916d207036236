//! Listening sockets with the options that a load balancer needs.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps ready to be accepted, for each socket; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens one listening socket for each of `count` workers, all on `address`.
///
/// The kernel spreads connections over them (`SO_REUSEPORT`). An address that is not on the box yet can be bound
/// (`IP_FREEBIND`), because VIPs come and go. For port 0 all get the port that the first one was given.
///
/// # Errors
/// What the system says. No socket is left open then.
pub(crate) fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::with_capacity(count);
    let mut address = address;
    for _ in 0..count {
        let socket = open(address)?;
        if address.port() == 0
            && let Some(given) = socket.local_addr()?.as_socket()
        {
            address = given;
        }
        sockets.push(socket);
    }
    // Only when all are bound, so that no connection is accepted into a group that is then given up.
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

/// Whether somebody else listens on `address`. With `SO_REUSEPORT` alone a second process of the same user would
/// silently share the connections.
///
/// # Errors
/// `AddrInUse` when it is taken.
pub(crate) fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = bare(address)?;
    socket.bind(&address.into())
}

fn bare(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:80` and `0.0.0.0:80` are two listeners.
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    Ok(socket)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = bare(address)?;
    socket.set_reuse_port(true)?;
    // Inherited by accepted connections.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
