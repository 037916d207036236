use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use super::{Capability, Notification, capability};

/// Why a message ends the connection. [`WireError::notification`] says what the peer is told.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// 1/1.
    #[error(
        "message header: the marker is not 16 octets of ones: the octet stream is not BGP or lost its place"
    )]
    Marker,
    /// 1/2.
    #[error("message header: length {length} is impossible for message type {kind}")]
    Length {
        /// The length field.
        length: u16,
        /// The type field.
        kind: u8,
    },
    /// 1/3.
    #[error("message header: type {0} does not exist")]
    Type(u8),
    /// 2/0: the OPEN cannot be parsed.
    #[error("OPEN: {0}")]
    Open(&'static str),
    /// 2/1.
    #[error("OPEN: BGP version {0}; this speaker knows version 4")]
    Version(u8),
    /// 2/2; also for the FSM, when the number is not the configured one.
    #[error("OPEN: AS {0} is not acceptable")]
    PeerAs(u32),
    /// 2/3; also for the FSM, when the identifier is our own.
    #[error("OPEN: BGP identifier {0} is not acceptable")]
    Identifier(std::net::Ipv4Addr),
    /// 2/4.
    #[error("OPEN: optional parameter {0} is not supported")]
    OptionalParameter(u8),
    /// 2/6.
    #[error("OPEN: a hold time of {0} s is forbidden; 0 or at least 3 is legal")]
    HoldTime(u16),
    /// 2/11, for the FSM: the peer's role does not fit ours, or it says none and has to (RFC 9234 section 4.2).
    #[error("OPEN: roles do not fit: {0}")]
    Role(String),
    /// 2/7, for the FSM: the peer lacks what we cannot do without.
    #[error("OPEN: the peer does not offer {0:?}")]
    MissingCapabilities(Vec<Capability>),
    /// 3/x.
    #[error("UPDATE: {fault}")]
    Update {
        /// What is wrong.
        fault: Fault,
        /// The attribute at fault as received: flags, type, length, value.
        attribute: Bytes,
    },
    /// 7/1 (RFC 7313).
    #[error("ROUTE-REFRESH: {} octets are not the length of subtype begin or end", .message.len())]
    RouteRefreshLength {
        /// The whole message.
        message: Bytes,
    },
}

impl WireError {
    /// What the peer is told: the one place where an error becomes code, subcode and data.
    pub fn notification(&self) -> Notification {
        let (code, subcode, data) = match self {
            Self::Marker => (1, 1, Bytes::new()),
            Self::Length { length, .. } => (1, 2, Bytes::copy_from_slice(&length.to_be_bytes())),
            Self::Type(number) => (1, 3, Bytes::copy_from_slice(&[*number])),
            Self::Open(_) => (2, 0, Bytes::new()),
            Self::Version(_) => (2, 1, Bytes::from_static(&[0, 4])),
            Self::PeerAs(_) => (2, 2, Bytes::new()),
            Self::Identifier(_) => (2, 3, Bytes::new()),
            Self::OptionalParameter(_) => (2, 4, Bytes::new()),
            Self::HoldTime(_) => (2, 6, Bytes::new()),
            Self::Role(_) => (2, 11, Bytes::new()),
            Self::MissingCapabilities(missing) => {
                let mut data = BytesMut::new();
                missing.iter().for_each(|one| capability::encode(one, &mut data));
                (2, 7, data.freeze())
            }
            Self::Update { fault, attribute } => {
                let (subcode, with) = fault.subcode();
                let data = match with {
                    Data::Nothing => Bytes::new(),
                    Data::Code(code) => Bytes::copy_from_slice(&[code]),
                    Data::Attribute => attribute.clone(),
                };
                (3, subcode, data)
            }
            Self::RouteRefreshLength { message } => (7, 1, message.clone()),
        };
        Notification { code, subcode, data }
    }
}

/// What goes into the data field of an UPDATE error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Data {
    Nothing,
    Code(u8),
    Attribute,
}

/// What is wrong with an UPDATE: told in words, and in one subcode where it ends the connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Withdrawn routes or path attributes reach past the end of the message.
    #[error("{0} reach past the end of the message")]
    Overrun(&'static str),
    /// The last attribute is cut off.
    #[error("the last path attribute is cut off")]
    Truncated,
    /// MP_REACH_NLRI or MP_UNREACH_NLRI more than once.
    #[error("{} appears more than once", name(*.0))]
    DuplicateMultiprotocol(u8),
    /// Any other attribute more than once.
    #[error("{} appears more than once; the first counts", name(*.0))]
    Duplicate(u8),
    /// A well-known attribute that does not exist.
    #[error("attribute {0} claims to be well-known and is not known")]
    UnrecognizedWellKnown(u8),
    /// A mandatory attribute is missing.
    #[error("{} is missing", name(*.0))]
    Missing(u8),
    /// Optional or Transitive bit wrong.
    #[error("{} has flags {flags:#04x}", name(*.code))]
    Flags {
        /// Attribute type.
        code: u8,
        /// As received.
        flags: u8,
    },
    /// Length impossible for this attribute.
    #[error("{} is {length} octets long", name(*.code))]
    AttributeLength {
        /// Attribute type.
        code: u8,
        /// As received.
        length: usize,
    },
    /// ORIGIN other than 0, 1, 2.
    #[error("ORIGIN has the value {0}")]
    Origin(u8),
    /// Next hop that is no host address.
    #[error("next hop {0} is no host address")]
    NextHop(IpAddr),
    /// AS_PATH or AS4_PATH that cannot be parsed, or holds what it must not.
    #[error("{}: {what}", name(*.code))]
    AsPath {
        /// Attribute type.
        code: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// AGGREGATOR or AS4_AGGREGATOR with AS 0 (RFC 7607).
    #[error("{} names AS 0", name(*.0))]
    AggregatorAsZero(u8),
    /// Prefixes in the withdrawn or NLRI field that cannot be parsed.
    #[error("{field}: {what}")]
    Network {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// MP_REACH_NLRI or MP_UNREACH_NLRI that cannot be parsed.
    #[error("{}: {what}", name(*.code))]
    Multiprotocol {
        /// Attribute type.
        code: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// Prefixes of a family that is not in use on this connection.
    #[error("prefixes of AFI {afi} SAFI {safi}, which is not in use on this connection, are ignored")]
    Family {
        /// AFI.
        afi: u16,
        /// SAFI.
        safi: u8,
    },
    /// An attribute that has no business coming from this peer.
    #[error("{} is not for this kind of peer and is ignored", name(*.0))]
    NotFromThisPeer(u8),
    /// A prefix that nobody can route to.
    #[error("prefix {0} cannot be routed to and is ignored")]
    Unroutable(sekisho_config::model::Prefix),
}

impl Fault {
    /// Subcode of UPDATE Message Error and what the data field holds (RFC 4271 section 6.3, RFC 4760 section 7).
    fn subcode(&self) -> (u8, Data) {
        match self {
            Self::Overrun(_) | Self::Truncated | Self::DuplicateMultiprotocol(_) | Self::Duplicate(_) => {
                (1, Data::Nothing)
            }
            Self::UnrecognizedWellKnown(_) => (2, Data::Attribute),
            Self::Missing(code) => (3, Data::Code(*code)),
            Self::Flags { .. } => (4, Data::Attribute),
            Self::AttributeLength { .. } => (5, Data::Attribute),
            Self::Origin(_) => (6, Data::Attribute),
            Self::NextHop(_) => (8, Data::Attribute),
            Self::Multiprotocol { .. }
            | Self::Family { .. }
            | Self::AggregatorAsZero(_)
            | Self::NotFromThisPeer(_) => (9, Data::Attribute),
            Self::Network { .. } | Self::Unroutable(_) => (10, Data::Nothing),
            Self::AsPath { .. } => (11, Data::Nothing),
        }
    }
}

/// Name of a path attribute as the RFCs spell it.
fn name(code: u8) -> String {
    let known = match code {
        1 => "ORIGIN",
        2 => "AS_PATH",
        3 => "NEXT_HOP",
        4 => "MULTI_EXIT_DISC",
        5 => "LOCAL_PREF",
        6 => "ATOMIC_AGGREGATE",
        7 => "AGGREGATOR",
        8 => "COMMUNITIES",
        9 => "ORIGINATOR_ID",
        10 => "CLUSTER_LIST",
        14 => "MP_REACH_NLRI",
        15 => "MP_UNREACH_NLRI",
        16 => "EXTENDED COMMUNITIES",
        17 => "AS4_PATH",
        18 => "AS4_AGGREGATOR",
        25 => "IPV6 EXTENDED COMMUNITIES",
        32 => "LARGE_COMMUNITY",
        35 => "ONLY_TO_CUSTOMER",
        _ => return format!("attribute {code}"),
    };
    known.to_owned()
}
