use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use sekisho_config::model::{Asn, Prefix, RouterId};

/// An address family that we speak: unicast only.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The family of these numbers, if it is one that we speak.
    pub fn from_numbers(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::Ipv4Unicast),
            (2, 1) => Some(Self::Ipv6Unicast),
            _ => None,
        }
    }

    /// AFI and SAFI.
    pub fn numbers(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, 1),
            Self::Ipv6Unicast => (2, 1),
        }
    }

    /// The family that `prefix` belongs to.
    pub fn of(prefix: &Prefix) -> Self {
        if prefix.is_ipv4() {
            Self::Ipv4Unicast
        } else {
            Self::Ipv6Unicast
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "IPv4 unicast",
            Self::Ipv6Unicast => "IPv6 unicast",
        })
    }
}

/// A BGP message (RFC 4271 section 4, RFC 2918).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Type 1.
    Open(Open),
    /// Type 2.
    Update(Update),
    /// Type 3.
    Notification(Notification),
    /// Type 4.
    Keepalive,
    /// Type 5.
    RouteRefresh(RouteRefresh),
}

/// OPEN (RFC 4271 section 4.2), syntax checked; whether its AS and identifier are acceptable is for the FSM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// The 2-octet "My Autonomous System" field as sent: [`Asn::TRANS`] where the number does not fit.
    pub my_as: u16,
    /// Proposed hold time in seconds; 0 or at least 3 (1 and 2 are refused with 2/6).
    pub hold_time: u16,
    /// BGP Identifier; zero is refused with 2/3 (RFC 6286).
    pub router_id: RouterId,
    /// Capabilities in the order sent (RFC 5492), all optional parameters folded together.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The sender's AS: the 4-octet capability where present (RFC 6793), else the 2-octet field. `None` for 0 (2/2), and
    /// for [`Asn::TRANS`], which stands for a number and is nobody's.
    pub fn asn(&self) -> Option<Asn> {
        let number = self
            .capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAs(number) => Some(*number),
                _ => None,
            })
            .unwrap_or_else(|| u32::from(self.my_as));
        Asn::try_from(number)
            .ok()
            .filter(|asn| asn.number() != u32::from(Asn::TRANS))
    }
}

/// A capability (RFC 5492). Code in the comment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Capability {
    /// 1: multiprotocol (RFC 4760), a family that we speak.
    Multiprotocol(Family),
    /// 1: multiprotocol, a family that we do not speak: AFI and SAFI.
    MultiprotocolOther(u16, u8),
    /// 2: route refresh (RFC 2918).
    RouteRefresh,
    /// 5: extended next hop (RFC 8950): NLRI AFI, NLRI SAFI, next hop AFI.
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// 6: extended messages (RFC 8654).
    ExtendedMessage,
    /// 9: role (RFC 9234).
    Role(u8),
    /// 64: graceful restart (RFC 4724, RFC 8538).
    GracefulRestart {
        /// R bit: the sender has restarted.
        restarted: bool,
        /// N bit: graceful on NOTIFICATION (RFC 8538).
        notification: bool,
        /// Restart time, seconds, 12 bits.
        time: u16,
        /// AFI, SAFI, F bit (forwarding state kept).
        families: Vec<(u16, u8, bool)>,
    },
    /// 65: 4-octet AS number (RFC 6793); 0 is possible on the wire and refused by [`Open::asn`].
    FourOctetAs(u32),
    /// 69: ADD-PATH (RFC 7911): AFI, SAFI, 1 receive, 2 send, 3 both.
    AddPath(Vec<(u16, u8, u8)>),
    /// 70: enhanced route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// 71: long-lived graceful restart (RFC 9494): AFI, SAFI, flags, stale time in seconds (24 bits).
    LongLivedGracefulRestart(Vec<(u16, u8, u8, u32)>),
    /// 73: name of the speaker (FQDN), for people only.
    Hostname {
        /// Host name.
        host: String,
        /// Domain name, often empty.
        domain: String,
    },
    /// Any other code, or a known code with a value that says nothing: kept as sent.
    Other {
        /// Capability code.
        code: u8,
        /// Capability value.
        value: Bytes,
    },
}

/// UPDATE (RFC 4271 section 4.3, RFC 4760) after RFC 7606: what was to be treated as withdrawn is in `withdrawn`,
/// attributes to be discarded are gone, both are listed in `faults`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Update {
    /// Prefixes no longer reachable, of either family (also by treat-as-withdraw).
    pub withdrawn: Vec<Nlri>,
    /// Prefixes announced with `attributes`; IPv4 from the NLRI field or MP_REACH_NLRI, IPv6 from MP_REACH_NLRI.
    pub announced: Vec<(Nlri, NextHop)>,
    /// Path attributes that go with `announced`; `None` where nothing is announced.
    pub attributes: Option<Arc<Attributes>>,
    /// End-of-RIB marker (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// Faults that did not end the session, in words for log and counters.
    pub faults: Vec<String>,
}

/// One prefix, with its path identifier where ADD-PATH is in use (RFC 7911).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Nlri {
    /// Path identifier.
    pub path_id: Option<u32>,
    /// The prefix, host bits cleared.
    pub prefix: Prefix,
}

/// Next hop of a path.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NextHop {
    /// Global address (or the link-local one where only that was sent).
    pub address: IpAddr,
    /// Link-local address that came beside a global one (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
}

/// ORIGIN (RFC 4271 section 5.1.1), better first.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// 0.
    #[default]
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

/// One segment of an AS_PATH.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Segment {
    /// AS_SET (1).
    Set(Vec<u32>),
    /// AS_SEQUENCE (2).
    Sequence(Vec<u32>),
    /// AS_CONFED_SEQUENCE (3).
    ConfedSequence(Vec<u32>),
    /// AS_CONFED_SET (4).
    ConfedSet(Vec<u32>),
}

/// AS_PATH, 4-octet numbers; from an old peer already merged with AS4_PATH (RFC 6793 section 4.2.3).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct AsPath {
    /// Segments, nearest first.
    pub segments: Vec<Segment>,
}

impl AsPath {
    /// Length for the decision process: a set counts one, confederation segments none (RFC 4271 section 9.1.2.2, RFC 5065).
    pub fn length(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Set(_) => 1,
                Segment::Sequence(numbers) => numbers.len(),
                Segment::ConfedSequence(_) | Segment::ConfedSet(_) => 0,
            })
            .sum()
    }

    /// Whether `asn` stands anywhere in the path (loop detection).
    pub fn contains(&self, asn: Asn) -> bool {
        self.numbers().any(|number| number == asn.number())
    }

    /// The neighbouring AS: first number of the first segment when that is a sequence.
    pub fn first(&self) -> Option<u32> {
        match self.segments.first() {
            Some(Segment::Sequence(numbers)) => numbers.first().copied(),
            _ => None,
        }
    }

    /// Every number, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments.iter().flat_map(|segment| match segment {
            Segment::Set(numbers)
            | Segment::Sequence(numbers)
            | Segment::ConfedSequence(numbers)
            | Segment::ConfedSet(numbers) => numbers.iter().copied(),
        })
    }
}

/// Path attributes other than the prefixes and their next hop; shared by all prefixes of an UPDATE.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Attributes {
    /// 1.
    pub origin: Origin,
    /// 2.
    pub as_path: AsPath,
    /// 4: MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// 5: LOCAL_PREF (ignored from external peers).
    pub local_preference: Option<u32>,
    /// 6.
    pub atomic_aggregate: bool,
    /// 7.
    pub aggregator: Option<Aggregator>,
    /// 8: standard communities (RFC 1997), high half AS.
    pub communities: Vec<u32>,
    /// 9: ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// 10: CLUSTER_LIST (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// 16: extended communities (RFC 4360), as sent.
    pub extended_communities: Vec<[u8; 8]>,
    /// 32: large communities (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// Optional attributes that we do not know: transitive ones are kept (partial bit set when passed on), others are not here.
    pub unknown: Vec<RawAttribute>,
}

/// AGGREGATOR.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Aggregator {
    /// AS of the aggregating speaker.
    pub asn: u32,
    /// Its identifier.
    pub router_id: Ipv4Addr,
}

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

/// An attribute as octets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RawAttribute {
    /// Optional, Transitive and Partial bits as received; the others say nothing about the attribute and are clear.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Bytes,
}

/// NOTIFICATION (RFC 4271 section 4.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data.
    pub data: Bytes,
}

/// ROUTE-REFRESH (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteRefresh {
    /// AFI as sent.
    pub afi: u16,
    /// SAFI as sent.
    pub safi: u8,
    /// What it says.
    pub kind: RouteRefreshKind,
}

/// Subtype of ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteRefreshKind {
    /// 0: send everything again.
    Request,
    /// 1: beginning of route refresh (RFC 7313).
    Begin,
    /// 2: end of route refresh (RFC 7313).
    End,
    /// Anything else: ignored.
    Unknown(u8),
}
