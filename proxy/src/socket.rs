//! Listening sockets with the options that a load balancer needs.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
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
    let socket = bare(address, Type::STREAM)?;
    socket.bind(&address.into())
}

/// Octets of datagrams that wait for a worker, and that wait for the network.
const BUFFER: usize = 4 * 1024 * 1024;

/// Opens one socket for datagrams for each of `count` workers, all on `address`, with the options of [`listen`].
///
/// The kernel takes a datagram to the worker that the connection ID names, or by addresses and ports where there is no such
/// (see [`steering`]).
///
/// # Errors
/// What the system says. No socket is left open then.
pub(crate) fn datagrams(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bare(address, Type::DGRAM)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // Beyond net.core.rmem_max with CAP_NET_ADMIN only; without it the kernel gives what it may.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            socket.set_recv_buffer_size(BUFFER)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
            socket.set_send_buffer_size(BUFFER)?;
        }
        socket.bind(&address.into())?;
        sockets.push(socket);
    }
    // The program is the group's; sockets stand in the group in the order in which they were bound.
    if let (Some(socket), Ok(count @ 2..)) = (sockets.first(), u32::try_from(count)) {
        let mut program = steering(count);
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?;
    }
    Ok(sockets.into_iter().map(UdpSocket::from).collect())
}

/// Where the number of the worker stands in a connection ID: its first two octets, modulo how many workers there are.
pub(crate) fn worker_of(id: [u8; 2], count: u16) -> u16 {
    u16::from_be_bytes(id) % count.max(1)
}

/// A program for classic BPF that finds the worker of a QUIC datagram (RFC 9000 section 17).
///
/// A short header has the connection ID that a worker gave out behind its first octet, wherever the client may have moved to.
/// A long header is sent while a connection is being made, when the client does not move: there addresses and ports decide, as
/// for any answer beyond the number of sockets. Whoever begins may choose the ID, and shall not choose the worker by it.
fn steering(count: u32) -> [libc::sock_filter; 6] {
    use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET};
    let line = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    [
        line(BPF_LD | BPF_B | BPF_ABS, 0, 0),
        // The next line for a long header, the one behind it for a short one.
        line(BPF_JMP | BPF_JSET | BPF_K, 1, 0x80),
        line(BPF_RET | BPF_K, 0, u32::MAX),
        line(BPF_LD | BPF_H | BPF_ABS, 0, 1),
        line(BPF_ALU | BPF_MOD | BPF_K, 0, count),
        line(BPF_RET | BPF_A, 0, 0),
    ]
}

/// Datagrams for a socket that the kernel has dropped, because nobody took the ones before them.
#[expect(unsafe_code, reason = "a socket option that no safe interface offers")]
pub(crate) fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    const DROPS: usize = 8;
    let mut values = [0u32; DROPS + 1];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; `values` is `length` writable octets for the whole call, any of
    // which may hold any bits, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(values[DROPS])
    } else {
        Err(io::Error::last_os_error())
    }
}

/// As [`probe`], for datagrams.
///
/// # Errors
/// `AddrInUse` when it is taken.
pub(crate) fn probe_datagrams(address: SocketAddr) -> io::Result<()> {
    bare(address, Type::DGRAM)?.bind(&address.into())
}

fn bare(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let stream = kind == Type::STREAM;
    let protocol = if stream { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if stream {
        socket.set_reuse_address(true)?;
    }
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
    let socket = bare(address, Type::STREAM)?;
    socket.set_reuse_port(true)?;
    // Inherited by accepted connections.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the sockets gets a datagram with this payload.
    fn taken_by(sockets: &[UdpSocket], to: SocketAddr, payload: &[u8]) -> usize {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(payload, to).unwrap();
        let mut room = [0; 64];
        (0..1000)
            .find_map(|_| {
                let found = sockets
                    .iter()
                    .position(|socket| socket.recv_from(&mut room).is_ok());
                if found.is_none() {
                    std::thread::yield_now();
                }
                found
            })
            .unwrap()
    }

    #[test]
    fn a_datagram_reaches_the_worker_that_its_connection_names() {
        // A port that is free for datagrams.
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sockets = datagrams(address, 3).unwrap();
        for (id, worker) in [
            ([0, 0], 0),
            ([0, 1], 1),
            ([0, 2], 2),
            ([0, 3], 0),
            ([0xff, 0xff], 0),
            ([1, 0], 1),
        ] {
            assert_eq!(usize::from(worker_of(id, 3)), worker);
            // Each from a port of its own, as after a move.
            for first in [0x40, 0x00, 0x7f] {
                let got = taken_by(&sockets, address, &[first, id[0], id[1], 9, 9, 9, 9, 9, 9]);
                assert_eq!(got, worker, "{id:?}");
            }
        }
        // Long headers are spread over all, whatever ID they name.
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[taken_by(&sockets, address, &[0xc3, 0, 0, 0, 1, 8, 0, 0])] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(dropped(&sockets[0]).unwrap(), 0);
        assert!(probe_datagrams(address).is_err());
    }
}
