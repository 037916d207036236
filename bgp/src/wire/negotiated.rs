use super::{Capability, Family, OnlyToCustomer, Open};

/// A set of [`Family`] values.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Families(u8);

impl Families {
    /// No family.
    pub const NONE: Self = Self(0);
    /// Every family that we speak.
    pub const ALL: Self = Self(0b11);

    /// Whether `family` is in the set.
    pub fn contains(self, family: Family) -> bool {
        self.0 & bit(family) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with `family` added.
    #[must_use]
    pub fn with(self, family: Family) -> Self {
        Self(self.0 | bit(family))
    }

    /// What both sets hold.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The families, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        families.into_iter().fold(Self::NONE, Self::with)
    }
}

fn bit(family: Family) -> u8 {
    match family {
        Family::Ipv4Unicast => 0b01,
        Family::Ipv6Unicast => 0b10,
    }
}

/// What both sides agreed on by their OPENs: all that decoding and encoding depend on.
///
/// The default is right before the OPENs are exchanged, when only OPEN, KEEPALIVE and NOTIFICATION are legal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Negotiated {
    /// The peer is of our own AS (iBGP).
    pub internal: bool,
    /// AS numbers are 4 octets wide (RFC 6793).
    pub four_octet_as: bool,
    /// Families in use (RFC 4760); prefixes of others are ignored on receipt and refused when encoding.
    pub families: Families,
    /// Families in which the peer's prefixes carry a path identifier (RFC 7911).
    pub add_path_receive: Families,
    /// Families in which our prefixes carry a path identifier.
    pub add_path_send: Families,
    /// The peer may send messages of up to 65,535 octets (RFC 8654): both offered it. A peer that did not offer it and
    /// sends them has lost its place in the stream, so they are held to 4,096, as BIRD and FRR do.
    pub extended_message_receive: bool,
    /// We may send messages of up to 65,535 octets: both offered it.
    pub extended_message_send: bool,
    /// IPv4 prefixes may come with an IPv6 next hop (RFC 8950): both offered it.
    pub extended_next_hop_receive: bool,
    /// IPv4 prefixes may go with an IPv6 next hop: both offered it.
    pub extended_next_hop_send: bool,
    /// The peer takes ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// ROUTE-REFRESH has subtypes: begin and end (RFC 7313), offered by both.
    pub enhanced_route_refresh: bool,
    /// Paths are marked on their way out (RFC 9234); settled by the FSM, which knows our role.
    pub only_to_customer: Option<OnlyToCustomer>,
}

impl Negotiated {
    /// Longest message without RFC 8654, header included.
    pub const MAX_LENGTH: usize = 4096;
    /// Longest message with RFC 8654.
    pub const EXTENDED_MAX_LENGTH: usize = 65_535;

    /// The outcome of the OPEN that we sent and the one that we received.
    pub fn between(sent: &Open, received: &Open) -> Self {
        let (ours, theirs) = (Offer::of(sent), Offer::of(received));
        let families = ours.families().common(theirs.families());
        let extended_message = ours.extended_message && theirs.extended_message;
        let extended_next_hop = ours.extended_next_hop && theirs.extended_next_hop;
        Self {
            internal: sent.asn().is_some() && sent.asn() == received.asn(),
            four_octet_as: ours.four_octet_as && theirs.four_octet_as,
            families,
            add_path_receive: ours
                .add_path_receive
                .common(theirs.add_path_send)
                .common(families),
            add_path_send: ours
                .add_path_send
                .common(theirs.add_path_receive)
                .common(families),
            extended_message_receive: extended_message,
            extended_message_send: extended_message,
            extended_next_hop_receive: extended_next_hop,
            extended_next_hop_send: extended_next_hop,
            route_refresh: theirs.route_refresh,
            enhanced_route_refresh: ours.enhanced_route_refresh && theirs.enhanced_route_refresh,
            only_to_customer: None,
        }
    }

    /// Longest message that we may send, header included.
    pub fn max_send_length(&self) -> usize {
        if self.extended_message_send {
            Self::EXTENDED_MAX_LENGTH
        } else {
            Self::MAX_LENGTH
        }
    }
}

/// The capabilities of one OPEN, folded.
#[derive(Default)]
struct Offer {
    multiprotocol: bool,
    listed: Families,
    four_octet_as: bool,
    add_path_receive: Families,
    add_path_send: Families,
    extended_message: bool,
    extended_next_hop: bool,
    route_refresh: bool,
    enhanced_route_refresh: bool,
}

impl Offer {
    fn of(open: &Open) -> Self {
        let mut offer = Self::default();
        for capability in &open.capabilities {
            match capability {
                Capability::Multiprotocol(family) => {
                    offer.multiprotocol = true;
                    offer.listed = offer.listed.with(*family);
                }
                Capability::MultiprotocolOther(..) => offer.multiprotocol = true,
                Capability::RouteRefresh => offer.route_refresh = true,
                Capability::ExtendedNextHop(entries) => {
                    offer.extended_next_hop |= entries.contains(&(1, 1, 2));
                }
                Capability::ExtendedMessage => offer.extended_message = true,
                Capability::FourOctetAs(_) => offer.four_octet_as = true,
                Capability::AddPath(entries) => {
                    for (afi, safi, direction) in entries {
                        let Some(family) = Family::from_numbers(*afi, *safi) else {
                            continue;
                        };
                        if direction & 1 != 0 {
                            offer.add_path_receive = offer.add_path_receive.with(family);
                        }
                        if direction & 2 != 0 {
                            offer.add_path_send = offer.add_path_send.with(family);
                        }
                    }
                }
                Capability::EnhancedRouteRefresh => offer.enhanced_route_refresh = true,
                Capability::Role(_)
                | Capability::GracefulRestart { .. }
                | Capability::LongLivedGracefulRestart(_)
                | Capability::Hostname { .. }
                | Capability::Other { .. } => {}
            }
        }
        offer
    }

    /// A speaker that lists no family at all means IPv4 unicast (RFC 4760 section 8 is silent; everybody does this).
    fn families(&self) -> Families {
        if self.multiprotocol {
            self.listed
        } else {
            Families::NONE.with(Family::Ipv4Unicast)
        }
    }
}
