use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::OrdSet;
use jiff::Timestamp;
use sekisho_config::model::Prefix;
use serde::Serialize;

use crate::fsm::{Ended, State, Terms};
use crate::wire::Family;

/// What a session tells about itself, read by the speaker when somebody asks.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// When the session last came up or went down.
    pub(crate) since: Timestamp,
    /// The terms of the session that stands.
    pub(crate) terms: Option<Arc<Terms>>,
    /// Our end and the peer's end of its connection.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
    pub(crate) last_error: Option<LastError>,
    /// The last NOTIFICATION of each direction.
    pub(crate) notification_sent: Option<LastError>,
    pub(crate) notification_received: Option<LastError>,
    /// Why the last attempt to connect failed; gone when a connection stands.
    pub(crate) connect_error: Option<LastError>,
    /// How often an established session was lost.
    pub(crate) flaps: u64,
    /// How many paths the peer has from us.
    pub(crate) announced: usize,
    /// Which VIPs, or pools as a whole, are among them.
    pub(crate) announced_vips: OrdSet<Prefix>,
    /// Families in which nothing can be announced, and why.
    pub(crate) withheld: BTreeMap<Family, CannotAnnounce>,
    pub(crate) received: MessageCounts,
    pub(crate) sent: MessageCounts,
    /// UPDATEs that had faults and did not end the session (RFC 7606), and the last of these faults.
    pub(crate) faulty_updates: u64,
    pub(crate) last_fault: Option<String>,
}

/// Shared between a session and the speaker. Locked for the time of a few assignments.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Status>>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Status {
            state: State::Idle,
            since: Timestamp::now(),
            terms: None,
            ends: None,
            last_error: None,
            notification_sent: None,
            notification_received: None,
            connect_error: None,
            flaps: 0,
            announced: 0,
            announced_vips: OrdSet::new(),
            withheld: BTreeMap::new(),
            received: MessageCounts::default(),
            sent: MessageCounts::default(),
            faulty_updates: 0,
            last_fault: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl MessageCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        [
            self.open,
            self.update,
            self.notification,
            self.keepalive,
            self.route_refresh,
        ]
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// The last thing that went wrong with a peer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// Who ended it.
    pub by: EndedBy,
    /// In words, with the NOTIFICATION's code and subcode where there was one.
    pub text: String,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// This box sent a NOTIFICATION.
    Us,
    /// The peer sent a NOTIFICATION.
    Peer,
    /// Nobody: the connection broke or could not be opened.
    Network,
}

impl LastError {
    pub(crate) fn new(by: EndedBy, text: impl Into<String>) -> Self {
        Self {
            at: Timestamp::now(),
            by,
            text: text.into(),
        }
    }

    /// Words for the end of a connection, with a remedy where one is known.
    pub(crate) fn of(ended: &Ended) -> Self {
        let (by, notification) = match ended {
            Ended::Lost(why) => return Self::new(EndedBy::Network, why.clone()),
            Ended::Restarted => {
                return Self::new(
                    EndedBy::Network,
                    "the peer restarted and came back on a new connection",
                );
            }
            Ended::Sent(notification) => (EndedBy::Us, notification),
            Ended::Received(notification) => (EndedBy::Peer, notification),
        };
        let remedy = match (notification.code, notification.subcode, by) {
            (2, 2, EndedBy::Us) => "; the peer's AS is not the `asn` configured for it here",
            (2, 2, _) => "; the peer expects another AS than our `bgp.asn`",
            (2, 3, _) => "; both sides use one identifier: change `bgp.router_id`",
            (4, _, EndedBy::Us) => "; nothing came from the peer: is it overloaded, or are packets lost?",
            (6, 3, EndedBy::Peer) | (6, 5, EndedBy::Peer) => {
                "; the peer has no (or no enabled) session configured for us"
            }
            (2, 11, EndedBy::Us) => "; compare `bgp_role` here with the peer's role",
            (2, 11, _) => "; compare the peer's role with `bgp_role` here",
            (6, 1, EndedBy::Peer) => "; the peer takes no more routes of us: raise its limit",
            (6, 2, EndedBy::Peer) => "; an operator of the peer shut the session down",
            (6, 10, EndedBy::Us) => "; BFD says that the peer, or the way to it, is dead",
            (6, 1, EndedBy::Us) => {
                "; it is kept away as max_prefixes_action has it: announce less, or raise max_prefixes"
            }
            _ => "",
        };
        Self::new(by, format!("{notification}{remedy}"))
    }
}

/// Why nothing of a family can be announced to a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CannotAnnounce {
    /// The session does not carry the family.
    FamilyNotAgreed,
    /// The box has no address of the family on the interface to the peer, so there is no next hop to name.
    NoNextHop,
}

impl std::fmt::Display for CannotAnnounce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FamilyNotAgreed => {
                "the session does not carry this address family; enable it on the peer or add a session over it"
            }
            Self::NoNextHop => {
                "the box has no address of this family towards the peer; give the interface one, or add a session over it"
            }
        })
    }
}
