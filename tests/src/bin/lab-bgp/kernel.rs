//! The kernel's routing table by raw netlink: what it would cost without any BGP, and where an address goes.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use sekisho_tests::lab::Netns;

use crate::injector::network;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
/// Messages of one send; only the last one is answered.
const BATCH: usize = 256;

/// A netlink socket inside a namespace.
pub(crate) struct Kernel {
    socket: OwnedFd,
    sequence: u32,
}

impl Kernel {
    pub(crate) fn open(netns: &Netns) -> Result<Self> {
        let socket = netns.enter(|| {
            Ok(socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            )?)
        })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The next hop of a packet to `address`; `None` where it goes nowhere or to a connected network.
    pub(crate) fn way(&mut self, address: Ipv4Addr) -> Result<Option<Ipv4Addr>> {
        let mut body = vec![2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        attribute(1, &address.octets(), &mut body);
        let mut out = Vec::new();
        self.message(RTM_GETROUTE, REQUEST, &body, &mut out);
        self.send(&out)?;
        let answer = self.receive()?;
        // An answer of an error: no route.
        if kind(&answer) != RTM_NEWROUTE {
            return Ok(None);
        }
        let mut rest = answer.get(28..).unwrap_or_default();
        while let [a, b, c, d, ..] = *rest {
            let (length, kind) = (
                usize::from(u16::from_ne_bytes([a, b])),
                u16::from_ne_bytes([c, d]),
            );
            if kind == 5
                && let Some([a, b, c, d]) = rest.get(4..8)
            {
                return Ok(Some(Ipv4Addr::new(*a, *b, *c, *d)));
            }
            rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(None)
    }

    /// A nexthop object.
    pub(crate) fn nexthop(&mut self, id: u32, via: Ipv4Addr, interface: u32) -> Result<()> {
        let mut body = vec![2, 0, 0, 0, 0, 0, 0, 0];
        attribute(1, &id.to_ne_bytes(), &mut body);
        attribute(5, &interface.to_ne_bytes(), &mut body);
        attribute(6, &via.octets(), &mut body);
        let mut out = Vec::new();
        self.message(RTM_NEWNEXTHOP, REQUEST | CREATE | ACK, &body, &mut out);
        self.exchange(&out)
    }

    /// Removes one, and the routes that lead there.
    pub(crate) fn nexthop_gone(&mut self, id: u32) -> Result<()> {
        let mut body = vec![0, 0, 0, 0, 0, 0, 0, 0];
        attribute(1, &id.to_ne_bytes(), &mut body);
        let mut out = Vec::new();
        self.message(RTM_DELNEXTHOP, REQUEST | ACK, &body, &mut out);
        self.exchange(&out)
    }

    /// Routes of the injectors' prefixes, `from` to `to`, by a nexthop object or a gateway.
    pub(crate) fn routes(&mut self, from: u32, to: u32, by: Result<u32, Ipv4Addr>) -> Result<()> {
        let all: Vec<u32> = (from..to).collect();
        for some in all.chunks(BATCH) {
            let mut out = Vec::with_capacity(some.len() * 64);
            for index in some {
                let mut body = vec![2, 24, 0, 0, 254, 99, 0, 1, 0, 0, 0, 0];
                attribute(1, &network(*index).octets(), &mut body);
                match by {
                    Ok(id) => attribute(30, &id.to_ne_bytes(), &mut body),
                    Err(via) => attribute(5, &via.octets(), &mut body),
                }
                let last = Some(index) == some.last();
                let flags = REQUEST | CREATE | if last { ACK } else { 0 };
                self.message(RTM_NEWROUTE, flags, &body, &mut out);
            }
            self.exchange(&out)?;
        }
        Ok(())
    }

    fn exchange(&mut self, out: &[u8]) -> Result<()> {
        self.send(out)?;
        let answer = self.receive()?;
        let errno = answer
            .get(16..20)
            .and_then(|octets| octets.try_into().ok())
            .map(i32::from_ne_bytes)
            .context("an answer is cut off")?;
        ensure!(
            errno == 0,
            "netlink: {}",
            std::io::Error::from_raw_os_error(-errno)
        );
        Ok(())
    }

    fn message(&mut self, kind: u16, flags: u16, body: &[u8], out: &mut Vec<u8>) {
        self.sequence += 1;
        out.extend((16 + body.len() as u32).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend(self.sequence.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(body);
    }

    fn send(&self, out: &[u8]) -> Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            out,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        Ok(())
    }

    fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 32 << 10];
        let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

fn kind(message: &[u8]) -> u16 {
    message
        .get(4..6)
        .and_then(|octets| octets.try_into().ok())
        .map_or(0, u16::from_ne_bytes)
}

fn attribute(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend((4 + value.len() as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Index of an interface.
pub(crate) fn interface(netns: &Netns, name: &str) -> Result<u32> {
    let text = netns.ip(&format!("-o link show {name}"))?;
    Ok(text.split(':').next().unwrap_or_default().trim().parse()?)
}

/// How many IPv4 prefixes the kernel's tables hold.
pub(crate) fn prefixes(netns: &Netns) -> Result<u64> {
    // thread-self: the namespace is the thread's, not the process's.
    let text = netns.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/fib_triestat")?))?;
    let counts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Prefixes:")?.trim().parse().ok());
    Ok(counts.max().unwrap_or(0))
}
