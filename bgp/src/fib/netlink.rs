//! Two netlink sockets: one for requests, one for what others do.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use socket2::{SockFilter, SockRef};
use tokio::time::timeout;

use super::message::{self, Heard, Link, Route, Said};
use super::planner::{Op, Outcome};

/// Multicast groups: links; IPv4 and IPv6 routes.
const GROUPS: [u32; 3] = [1, 7, 11];
/// Asked for; the system may give less.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// The kernel never sends more in one datagram.
const DATAGRAM: usize = 64 << 10;
/// Messages go out together until there are so many octets, or so many: well below the default send buffer, and their
/// answers well below the default receive buffer.
const BATCH_OCTETS: usize = 32 << 10;
const BATCH_MESSAGES: usize = 128;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Dumps that changes keep interrupting are believed after so many tries; events follow anyway.
const DUMP_TRIES: usize = 3;

const ESRCH: i32 = 3;
const EPERM: i32 = 1;

/// The request socket.
pub(super) struct Requests {
    socket: TokioSocket,
    buffer: BytesMut,
    sequence: u32,
    /// Port of this socket: events that carry it are about our own changes.
    pub(super) port: u32,
}

/// What the kernel has: a dump.
#[derive(Debug, Default)]
pub(super) struct Dump {
    pub(super) links: Vec<Link>,
    pub(super) routes: Vec<Route>,
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
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let port = socket.socket_mut().bind_auto()?.port_number();
        socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER)?;
        // Answers without a copy of the request, with words where the kernel has some.
        socket.socket_ref().set_cap_ack(true)?;
        socket.socket_ref().set_ext_ack(true)?;
        Ok(Self {
            socket,
            buffer: BytesMut::with_capacity(DATAGRAM),
            sequence: 0,
            port,
        })
    }

    /// Links and routes of all tables.
    pub(super) async fn dump(&mut self) -> Result<Dump, RequestError> {
        let mut dump = Dump::default();
        for _ in 0..DUMP_TRIES {
            dump = Dump::default();
            let mut interrupted = false;
            for part in 0..3 {
                interrupted |= self.dump_part(part, &mut dump).await?;
            }
            if !interrupted {
                break;
            }
        }
        Ok(dump)
    }

    /// One of: links, IPv4 routes, IPv6 routes.
    async fn dump_part(&mut self, part: u8, dump: &mut Dump) -> Result<bool, RequestError> {
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        match part {
            0 => message::dump_links(sequence, &mut request),
            family => message::dump_routes(family == 1, sequence, &mut request),
        }
        self.send(&request).await?;
        let mut interrupted = false;
        loop {
            for heard in self.receive().await? {
                if heard.sequence != sequence {
                    continue;
                }
                interrupted |= heard.interrupted;
                match heard.said {
                    Some(Said::Link(link)) => dump.links.push(link),
                    Some(Said::Route(route)) => dump.routes.push(route),
                    Some(Said::DumpDone) => return Ok(interrupted),
                    Some(Said::Answer { errno, .. }) => {
                        return Err(io::Error::from_raw_os_error(errno).into());
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sends operations, many in one datagram, and waits for all answers. Those without one are returned as not
    /// answered with the error.
    pub(super) async fn apply(
        &mut self,
        ops: Vec<Op>,
        loopback: u32,
    ) -> (Vec<(Op, Outcome)>, Vec<Op>, Option<RequestError>) {
        let mut answered = Vec::new();
        let mut waiting = ops.into_iter();
        loop {
            let mut sent = BTreeMap::new();
            let mut request = Vec::new();
            while request.len() < BATCH_OCTETS
                && sent.len() < BATCH_MESSAGES
                && let Some(op) = waiting.next()
            {
                let sequence = self.next_sequence();
                message::write(&op, loopback, sequence, &mut request);
                sent.insert(sequence, op);
            }
            if sent.is_empty() {
                return (answered, Vec::new(), None);
            }
            let result = self.exchange(&request, &mut sent, &mut answered).await;
            if let Err(error) = result {
                let unanswered = sent.into_values().chain(waiting).collect();
                return (answered, unanswered, Some(error));
            }
        }
    }

    async fn exchange(
        &mut self,
        request: &[u8],
        sent: &mut BTreeMap<u32, Op>,
        answered: &mut Vec<(Op, Outcome)>,
    ) -> Result<(), RequestError> {
        self.send(request).await?;
        let mut permitted = true;
        while !sent.is_empty() {
            for heard in self.receive().await? {
                let Some(Said::Answer { errno, text }) = heard.said else {
                    continue;
                };
                // Answers to an earlier batch that was given up may still come in.
                let Some(op) = sent.remove(&heard.sequence) else {
                    continue;
                };
                if errno == EPERM {
                    // All of them will say so: they count as not answered.
                    permitted = false;
                    sent.insert(heard.sequence, op);
                    continue;
                }
                let outcome = match (errno, &op) {
                    (0, _) => Outcome::Done,
                    (ESRCH, Op::Delete(_)) => Outcome::NotThere,
                    _ => Outcome::Refused(explain(errno, text)),
                };
                answered.push((op, outcome));
            }
            if !permitted {
                return Err(RequestError::NotPermitted);
            }
        }
        Ok(())
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), RequestError> {
        let kernel = SocketAddr::new(0, 0);
        let send = poll_fn(|cx| self.socket.poll_send_to(cx, request, &kernel));
        timeout(ANSWER_TIMEOUT, send)
            .await
            .map_err(|_| RequestError::Silent)??;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Vec<Heard>, RequestError> {
        let receive = receive(&self.socket, &mut self.buffer);
        Ok(timeout(ANSWER_TIMEOUT, receive)
            .await
            .map_err(|_| RequestError::Silent)??)
    }

    fn next_sequence(&mut self) -> u32 {
        // Zero marks events.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }
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
        Ok(Self {
            socket,
            buffer: BytesMut::with_capacity(DATAGRAM),
        })
    }

    /// The next events. An error of ENOBUFS says that some were lost.
    ///
    /// Cancel-safe: yes.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Heard>> {
        receive(&self.socket, &mut self.buffer).await
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

async fn receive(socket: &TokioSocket, buffer: &mut BytesMut) -> io::Result<Vec<Heard>> {
    loop {
        buffer.clear();
        buffer.reserve(DATAGRAM);
        let sender = poll_fn(|cx| socket.poll_recv_from(cx, buffer)).await?;
        // Other processes may write to our port; only the kernel (port 0) is heard.
        if sender.port_number() == 0 {
            return Ok(message::read(buffer));
        }
    }
}

fn explain(errno: i32, text: Option<String>) -> String {
    let error = io::Error::from_raw_os_error(errno);
    match text {
        Some(text) => format!("{error}: {text}"),
        None => error.to_string(),
    }
}
