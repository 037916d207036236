//! Two netlink sockets: one for requests, one for what others do.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use socket2::{SockFilter, SockRef};

use super::message::{self, Heard, Said};
use super::nexthop;
use super::planner::{Op, Outcome};

/// Multicast groups: links; IPv4 and IPv6 routes.
const GROUPS: [u32; 3] = [1, 7, 11];
/// Nexthop objects; a kernel that does not have them does not have their group.
const NEXTHOP_GROUP: u32 = 32;
/// Asked for; the system may give less.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// The kernel never sends more in one datagram.
const DATAGRAM: usize = 64 << 10;
/// Messages go out together until there are so many octets, or so many: well below the default send buffer, and their
/// answers well below the default receive buffer.
const BATCH_OCTETS: usize = 32 << 10;
const BATCH_MESSAGES: usize = 256;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Dumps that changes keep interrupting are believed after so many tries; events follow anyway.
const DUMP_TRIES: usize = 3;

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;

/// The request socket. It blocks: the kernel does what it is asked for in the thread that asks.
pub(super) struct Requests {
    socket: Socket,
    buffer: BytesMut,
    sequence: u32,
    /// Port of this socket: events that carry it are about our own changes.
    pub(super) port: u32,
}

/// Why a batch has not been answered as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("writing routes is not permitted; give the process CAP_NET_ADMIN or set install_routes = false")]
    NotPermitted,
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
    #[error("netlink: the kernel has not answered within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        // Answers without a copy of the request, with words where the kernel has some.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
        SockRef::from(&socket).set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            socket,
            buffer: BytesMut::with_capacity(DATAGRAM),
            sequence: 0,
            port,
        })
    }

    /// Whether the kernel knows nexthop objects.
    pub(super) fn has_objects(&mut self) -> Result<bool, RequestError> {
        match self.dump_part(Part::Objects, &mut |_| {}) {
            Ok(_) => Ok(true),
            Err(RequestError::Io(error)) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Links, nexthop objects where there are any, routes of all tables. `None` comes before each try: what came before it is
    /// void.
    pub(super) fn dump(
        &mut self,
        objects: bool,
        each: &mut dyn FnMut(Option<Said>),
    ) -> Result<(), RequestError> {
        for _ in 0..DUMP_TRIES {
            each(None);
            let mut interrupted = false;
            for part in [
                Part::Links,
                Part::Objects,
                Part::Routes(true),
                Part::Routes(false),
            ] {
                if objects || part != Part::Objects {
                    interrupted |= self.dump_part(part, each)?;
                }
            }
            if !interrupted {
                break;
            }
        }
        Ok(())
    }

    fn dump_part(&mut self, part: Part, each: &mut dyn FnMut(Option<Said>)) -> Result<bool, RequestError> {
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        match part {
            Part::Links => message::dump_links(sequence, &mut request),
            Part::Objects => nexthop::dump(sequence, &mut request),
            Part::Routes(ipv4) => message::dump_routes(ipv4, sequence, &mut request),
        }
        self.send(&request)?;
        let mut interrupted = false;
        loop {
            for heard in self.receive()? {
                if heard.sequence != sequence {
                    continue;
                }
                interrupted |= heard.interrupted;
                match heard.said {
                    Some(Said::DumpDone) => return Ok(interrupted),
                    Some(Said::Answer { errno, .. }) => {
                        return Err(io::Error::from_raw_os_error(errno).into());
                    }
                    Some(said) => each(Some(said)),
                    None => {}
                }
            }
        }
    }

    /// Sends operations, many in one datagram, and waits for the answer to the last of each. Those of which it is not known what
    /// became of them are returned as not answered, with the error.
    pub(super) fn apply(
        &mut self,
        ops: Vec<Op>,
        loopback: u32,
    ) -> (Vec<(Op, Outcome)>, Vec<Op>, Option<RequestError>) {
        let mut answered = Vec::with_capacity(ops.len());
        let mut waiting = ops.into_iter().peekable();
        while waiting.peek().is_some() {
            let mut sent = Vec::with_capacity(BATCH_MESSAGES);
            let mut request = Vec::with_capacity(BATCH_OCTETS + 1024);
            let first = self.sequence.checked_add(1).unwrap_or(1);
            while request.len() < BATCH_OCTETS
                && sent.len() < BATCH_MESSAGES
                && let Some(op) = waiting.next()
            {
                let sequence = self.next_sequence();
                let last = waiting.peek().is_none() || sent.len() + 1 == BATCH_MESSAGES;
                let before = request.len();
                message::write(&op, loopback, sequence, last, &mut request);
                let full = request.len() >= BATCH_OCTETS;
                if full && !last {
                    request.truncate(before);
                    message::write(&op, loopback, sequence, true, &mut request);
                }
                sent.push((op, Outcome::Done));
            }
            match self.exchange(&request, first, &mut sent) {
                Ok(()) => answered.append(&mut sent),
                Err(error) => {
                    let unanswered = sent.into_iter().map(|(op, _)| op).chain(waiting).collect();
                    return (answered, unanswered, Some(error));
                }
            }
        }
        (answered, Vec::new(), None)
    }

    /// Numbers of the messages count up from `first`. The kernel has dealt with all of them when the last is answered; of the others
    /// it only speaks when it refuses.
    fn exchange(
        &mut self,
        request: &[u8],
        first: u32,
        sent: &mut [(Op, Outcome)],
    ) -> Result<(), RequestError> {
        self.send(request)?;
        loop {
            for heard in self.receive()? {
                let Some(Said::Answer { errno, text }) = heard.said else {
                    continue;
                };
                // Answers to an earlier batch that was given up may still come in.
                let Some(place) = heard.sequence.checked_sub(first).map(|place| place as usize) else {
                    continue;
                };
                let last = place + 1 == sent.len();
                let Some((op, outcome)) = sent.get_mut(place) else {
                    continue;
                };
                if errno == EPERM {
                    // All of them will say so: they count as not answered.
                    return Err(RequestError::NotPermitted);
                }
                *outcome = match (errno, &*op) {
                    (0, _) => Outcome::Done,
                    (ESRCH, Op::Delete(_)) | (ENOENT, Op::DeleteObject(_)) => Outcome::NotThere,
                    _ => Outcome::Refused(explain(errno, text)),
                };
                if last {
                    return Ok(());
                }
            }
        }
    }

    fn send(&mut self, request: &[u8]) -> Result<(), RequestError> {
        let kernel = SocketAddr::new(0, 0);
        uninterrupted(|| self.socket.send_to(request, &kernel, 0)).map(drop)
    }

    fn receive(&mut self) -> Result<Vec<Heard>, RequestError> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            let (_, sender) = uninterrupted(|| self.socket.recv_from(&mut self.buffer, 0))?;
            if is_kernel(&sender) {
                return Ok(message::read(&self.buffer));
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        // Zero marks events.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }
}

/// What a dump consists of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Links,
    Objects,
    /// IPv4 or IPv6.
    Routes(bool),
}

/// The listening socket.
pub(super) struct Events {
    socket: TokioSocket,
    buffer: BytesMut,
}

impl Events {
    /// `own` is the port of our request socket: events about what it did are dropped inside the kernel, so that writing
    /// many routes does not drown what others do.
    pub(super) fn open(own: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER)?;
        SockRef::from(socket.socket_ref()).attach_filter(&not_caused_by(own))?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group)?;
        }
        let _ = socket.socket_mut().add_membership(NEXTHOP_GROUP);
        Ok(Self {
            socket,
            buffer: BytesMut::with_capacity(DATAGRAM),
        })
    }

    /// The next events. An error of ENOBUFS says that some were lost.
    ///
    /// Cancel-safe: yes.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Heard>> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            let sender = poll_fn(|cx| self.socket.poll_recv_from(cx, &mut self.buffer)).await?;
            if is_kernel(&sender) {
                return Ok(message::read(&self.buffer));
            }
        }
    }
}

/// Other processes may write to our ports; only the kernel (port 0) is heard.
fn is_kernel(sender: &SocketAddr) -> bool {
    sender.port_number() == 0
}

/// A call of the socket, again where a signal ends it: with a time limit it is not taken up by itself.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, RequestError> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(RequestError::Silent),
            done => return Ok(done?),
        }
    }
}

/// A classic BPF program: load the port of the message header, drop the message if it is `own`, else take all of it.
fn not_caused_by(own: u32) -> [SockFilter; 4] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const PORT_AT: u32 = 12;
    // BPF loads in network order, netlink writes in the order of the host.
    let own = u32::from_be_bytes(own.to_ne_bytes());
    [
        SockFilter::new(LOAD_WORD, 0, 0, PORT_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, own),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

fn explain(errno: i32, text: Option<String>) -> String {
    let error = io::Error::from_raw_os_error(errno);
    match text {
        Some(text) => format!("{error}: {text}"),
        None => error.to_string(),
    }
}
