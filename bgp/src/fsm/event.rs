use std::sync::Arc;
use std::time::Duration;

use crate::wire::{FrameKind, Message, Notification};

use super::open::Terms;

/// A connection, numbered by the shell; a number is never used again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct LinkId(pub(crate) u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// We did.
    Dialed,
    /// The peer did.
    Accepted,
}

/// What happens to a peer.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The operator wants the session (RFC 4271 event 1).
    Start,
    /// The operator does not want it any more; the NOTIFICATION is a Cease.
    Stop(Notification),
    /// This process ends and is to come back soon: a peer that keeps our paths meanwhile hears nothing, any other one this
    /// Cease.
    Leave(Notification),
    /// We end the session and keep away for a while (too many prefixes, a change of configuration).
    Reset {
        /// What the peer is told.
        notification: Notification,
        /// How long neither side may connect.
        hold_off: Duration,
    },
    /// The instant of [`super::Fsm::deadline`] has come.
    Deadline,
    /// A TCP connection stands. For an accepted one the answer is OPEN or Close.
    Connected(LinkId, Side),
    /// Our connection attempt failed.
    DialFailed,
    /// A well-formed message came.
    Message(LinkId, Message),
    /// Octets came that are no BGP message; what RFC 4271 section 6 wants said about them. Where the header was fit to
    /// read, its type: a message that has no place in a state is unexpected, whatever is in it.
    Malformed(LinkId, Option<FrameKind>, Notification),
    /// The connection ended without a word.
    Lost(LinkId, String),
    /// The peer has not read for too long (RFC 9687).
    Stalled(LinkId),
    /// It is us who have not read from this connection; silence is not the peer's fault.
    Busy(LinkId),
}

/// What the shell has to do, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Open a TCP connection.
    Dial,
    /// Forget the attempt.
    StopDial,
    /// Send on this connection.
    Send(LinkId, Message),
    /// Close this connection once what was sent has left, or a short time has passed. No event of it follows.
    Close(LinkId),
    /// Both OPENs agree: what comes over this connection from now on is read so. A peer may take its session to stand, and
    /// send UPDATEs, while we still wait for another connection to win.
    Agreed(LinkId, Arc<Terms>),
    /// The session stands on this connection.
    Up(LinkId, Arc<Terms>),
    /// An UPDATE or ROUTE-REFRESH of the session that stands.
    Deliver(Message),
    /// The session that stood is over.
    Down(Ended),
    /// An attempt came to nothing before a session stood.
    Failed(Ended),
}

/// How a connection came to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// We said so.
    Sent(Notification),
    /// The peer said so.
    Received(Notification),
    /// Nobody said anything: end of stream, reset, time-out of the connection.
    Lost(String),
    /// The peer came back on a new connection while we believed the old one (RFC 4724 section 4.2).
    Restarted,
}

/// State of the peer, as RFC 4271 section 8.2.2 names them; of two connections the one that is further counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not wanted, or waiting out an error.
    Idle,
    /// Connecting.
    Connect,
    /// Waiting for the peer to connect, or to try again.
    Active,
    /// Connected; the peer's OPEN is awaited.
    OpenSent,
    /// OPENs agree; the first KEEPALIVE is awaited.
    OpenConfirm,
    /// The session stands.
    Established,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}
