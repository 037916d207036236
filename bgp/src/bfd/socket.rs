//! The UDP sockets: one that receives for each family and kind, one that sends for each session.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::Ipv4RecvTtl,
    sockopt::Ipv6RecvHopLimit,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::table::{Arrival, Wanted};

/// Source ports (RFC 5881 section 4).
const PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;

/// Ports that are tried before the system is believed to have none.
const ATTEMPTS: u64 = 32;

/// Packets that may wait to be read, in octets as the kernel counts: some thousand of them.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// IP precedence "Internetwork Control", as routers have it.
const TRAFFIC_CLASS: u32 = 0xc0;

/// A socket that receives for all sessions of one family and kind.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) socket: UdpSocket,
    multihop: bool,
}

impl Receiver {
    pub(super) fn bind(ipv4: bool, multihop: bool, port: u16) -> io::Result<Self> {
        let any = if ipv4 {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let address = SocketAddr::new(any, port);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // As much as the system allows.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        if ipv4 {
            setsockopt(&socket, Ipv4RecvTtl, &true)?;
        } else {
            socket.set_only_v6(true)?;
            setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
        }
        socket.bind(&address.into())?;
        Ok(Self {
            socket: socket.into(),
            multihop,
        })
    }

    /// The next packet; `None`: there is none.
    pub(super) fn receive(&self, space: &mut [u8], control: &mut [u8]) -> Option<(Arrival, usize)> {
        let mut slices = [IoSliceMut::new(space)];
        let received = loop {
            match recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(control),
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(received) => break received,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        };
        let ttl = received.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                    u8::try_from(ttl).ok()
                }
                _ => None,
            })
        });
        let from = received.address.and_then(|address| {
            let v4 = address
                .as_sockaddr_in()
                .map(|v4| SocketAddr::from((v4.ip(), v4.port())));
            v4.or_else(|| {
                let v6 = address.as_sockaddr_in6()?;
                Some(std::net::SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
            })
        })?;
        let arrival = Arrival {
            from,
            ttl,
            multihop: self.multihop,
        };
        Some((arrival, received.bytes))
    }
}

/// The socket of one session: its source port is the session's own.
pub(super) fn sender(wanted: &Wanted, mut dice: u64) -> io::Result<UdpSocket> {
    let ipv4 = wanted.peer.is_ipv4();
    let any = if ipv4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let address = wanted.local.unwrap_or(any);
    let scope = match wanted.peer {
        SocketAddr::V6(peer) => peer.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let socket = Socket::new(Domain::for_address(wanted.peer), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Nothing is read from it.
    let _ = socket.set_recv_buffer_size(0);
    if ipv4 {
        socket.set_ttl_v4(255)?;
        socket.set_tos_v4(TRAFFIC_CLASS)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(255)?;
        socket.set_tclass_v6(TRAFFIC_CLASS)?;
    }
    let count = u64::from(PORTS.end() - PORTS.start()) + 1;
    let mut last = io::Error::from(ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let port = PORTS.start() + u16::try_from(dice % count).unwrap_or_default();
        dice = dice
            .rotate_right(13)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(1);
        let local = match address {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                std::net::SocketAddrV6::new(ip, port, 0, scope).into()
            }
            ip => SocketAddr::new(ip, port),
        };
        match socket.bind(&local.into()) {
            Ok(()) => return Ok(socket.into()),
            Err(error) if error.kind() == ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether waiting on it makes sense.
pub(super) fn poll_on(socket: &impl AsFd) -> nix::poll::PollFd<'_> {
    nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)
}
