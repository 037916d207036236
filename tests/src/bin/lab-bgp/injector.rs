//! A peer that says what it is told to say: just enough BGP to fill a table.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use sekisho_tests::lab::{Netns, now};

/// AS of every injector.
pub(crate) const ASN: u32 = 65001;
/// Prefixes of one UPDATE when they share a path.
const PACKED: u32 = 800;
/// The same when every few have a path of their own.
const SPREAD: u32 = 5;

/// How prefixes are put into UPDATEs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// 800 prefixes an UPDATE, one path for all.
    Packed,
    /// 5 prefixes and a path of its own an UPDATE.
    Spread,
}

/// Prefix number `index`: /24 networks from 16.0.0.0 on.
pub(crate) fn network(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x1000_0000 + (index << 8))
}

/// All UPDATEs for `count` prefixes from number `first` on, with an End-of-RIB marker behind. `hops` AS numbers stand in the path
/// beside two others.
pub(crate) fn updates(shape: Shape, first: u32, count: u32, next_hop: Ipv4Addr, prepend: usize) -> Vec<u8> {
    let step = if shape == Shape::Packed { PACKED } else { SPREAD };
    let mut out = Vec::with_capacity(count as usize * 20);
    let mut at = first;
    while at < first + count {
        let end = (at + step).min(first + count);
        let one = if shape == Shape::Packed { 0 } else { at / step };
        let mut path = vec![ASN; 1 + prepend];
        path.extend([100_000 + one, 500_000]);
        let mut attributes = vec![0x40, 1, 1, 0];
        attributes.extend([0x40, 2, 2 + 4 * path.len() as u8, 2, path.len() as u8]);
        path.iter()
            .for_each(|number| attributes.extend(number.to_be_bytes()));
        attributes.extend([0x40, 3, 4]);
        attributes.extend(next_hop.octets());
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        (at..end).for_each(|index| nlri(index, &mut body));
        message(2, &body, &mut out);
        at = end;
    }
    message(2, &[0; 4], &mut out);
    out
}

/// UPDATEs that withdraw the same prefixes.
pub(crate) fn withdrawals(first: u32, count: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(count as usize * 5);
    let all: Vec<u32> = (first..first + count).collect();
    for some in all.chunks(PACKED as usize) {
        let mut list = Vec::new();
        some.iter().for_each(|index| nlri(*index, &mut list));
        let mut body = (list.len() as u16).to_be_bytes().to_vec();
        body.extend(list);
        body.extend([0, 0]);
        message(2, &body, &mut out);
    }
    out
}

/// Appends one prefix.
fn nlri(index: u32, out: &mut Vec<u8>) {
    out.push(24);
    out.extend(network(index).octets().iter().take(3));
}

fn message(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.extend([0xff; 16]);
    out.extend((19 + body.len() as u16).to_be_bytes());
    out.push(kind);
    out.extend(body);
}

/// An established session.
pub(crate) struct Injector {
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
}

impl Injector {
    /// Connects from `from` inside `netns` and makes a session; tries for some seconds, as daemons take time to listen.
    pub(crate) fn connect(netns: &Netns, from: Ipv4Addr, to: Ipv4Addr) -> Result<Self> {
        let start = now();
        loop {
            match netns.enter(|| Self::try_connect(from, to)) {
                Ok(injector) => return Ok(injector),
                Err(error) if start.elapsed() > Duration::from_secs(20) => {
                    return Err(error).with_context(|| format!("session {from} to {to}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn try_connect(from: Ipv4Addr, to: Ipv4Addr) -> Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to, 179)))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        let mut body = vec![4];
        body.extend((ASN as u16).to_be_bytes());
        body.extend(240u16.to_be_bytes());
        body.extend(from.octets());
        // One parameter: IPv4 unicast, 4-octet AS numbers.
        body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
        body.extend(ASN.to_be_bytes());
        message(1, &body, &mut out);
        stream.write_all(&out)?;
        expect(&mut stream, 1)?;
        let mut out = Vec::new();
        message(4, &[], &mut out);
        stream.write_all(&out)?;
        expect(&mut stream, 4)?;
        Ok(Self { stream, reader: None })
    }

    /// Sends octets; blocks while the daemon does not read.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).context("sending UPDATEs")
    }

    /// Answers with KEEPALIVEs from now on, from a thread of its own.
    pub(crate) fn keep_alive(&mut self) -> Result<()> {
        let mut stream = self.stream.try_clone()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        self.reader = Some(std::thread::spawn(move || {
            let mut keepalive = Vec::new();
            message(4, &[], &mut keepalive);
            let mut buffer = [0; 65536];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
                if stream.write_all(&keepalive).is_err() {
                    return;
                }
            }
        }));
        Ok(())
    }

    /// Reads what has come and sends one KEEPALIVE, without waiting: for thousands of sessions on one thread.
    pub(crate) fn tend(&mut self) -> Result<()> {
        self.stream.set_nonblocking(true)?;
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer), Ok(octets) if octets > 0) {}
        let mut keepalive = Vec::new();
        message(4, &[], &mut keepalive);
        let sent = self.stream.write_all(&keepalive);
        self.stream.set_nonblocking(false)?;
        sent.context("the session has ended")
    }

    /// Ends the session: Cease, administrative shutdown.
    pub(crate) fn cease(mut self) -> Result<()> {
        let mut out = Vec::new();
        message(3, &[6, 2], &mut out);
        self.stream.write_all(&out)?;
        self.stream.shutdown(std::net::Shutdown::Both).ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        Ok(())
    }
}

/// Reads messages until one of type `kind` comes.
fn expect(stream: &mut TcpStream, kind: u8) -> Result<()> {
    loop {
        let mut header = [0; 19];
        stream.read_exact(&mut header)?;
        let [.., high, low, got] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut body = vec![0; length.checked_sub(19).context("message length")?];
        stream.read_exact(&mut body)?;
        if got == kind {
            return Ok(());
        }
        ensure!(got != 3, "NOTIFICATION {body:?}");
        if got == 1 {
            bail!("an OPEN in the wrong place");
        }
    }
}
