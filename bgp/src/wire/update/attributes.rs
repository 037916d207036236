use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use zettabgp::message::attributes::BgpAttrItem;
use zettabgp::message::attributes::origin::BgpAttrOrigin;

use super::as_path::{self, Rules};
use super::faults::{Faults, reset};
use super::multiprotocol::{self, Found, Reach, is_host};
use super::prefixes::Checked;
use crate::wire::{
    Aggregator, AsPath, Attributes, Family, Fault, LargeCommunity, Negotiated, Origin, RawAttribute,
    WireError, zetta,
};
use sekisho_config::model::Asn;

const EXTENDED_LENGTH: u8 = 0x10;
const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;

/// The path attributes of one UPDATE, each checked.
#[derive(Debug, Default)]
pub(super) struct Read<'a> {
    seen: [u64; 4],
    /// Attributes other than MP_UNREACH_NLRI are there.
    pub(super) beyond_unreach: bool,
    /// NEXT_HOP.
    pub(super) next_hop: Option<Ipv4Addr>,
    /// MP_REACH_NLRI of a family in use.
    pub(super) reach: Option<Reach<'a>>,
    /// Octets of prefixes in MP_REACH_NLRI of whatever family.
    pub(super) reach_octets: usize,
    /// MP_UNREACH_NLRI of a family in use.
    pub(super) unreach: Option<(Family, Checked<'a>)>,
    attributes: Attributes,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

impl Read<'_> {
    /// Whether an attribute of type `code` is there, be it malformed.
    pub(super) fn seen(&self, code: u8) -> bool {
        self.seen
            .get(usize::from(code >> 6))
            .is_some_and(|word| word & (1 << (code & 63)) != 0)
    }

    fn see(&mut self, code: u8) {
        if let Some(word) = self.seen.get_mut(usize::from(code >> 6)) {
            *word |= 1 << (code & 63);
        }
    }

    /// The attributes, AS4_PATH and AS4_AGGREGATOR merged in (RFC 6793 section 4.2.3).
    pub(super) fn into_attributes(mut self, faults: &mut Faults) -> Attributes {
        match (self.attributes.aggregator, self.as4_aggregator) {
            (Some(aggregator), _) if aggregator.asn != u32::from(Asn::TRANS) => {
                // An old speaker aggregated after the AS4 attributes were made: both are out of date.
                if self.as4_aggregator.is_some() {
                    self.as4_path = None;
                }
            }
            (Some(_), Some(wide)) => self.attributes.aggregator = Some(wide),
            (None, Some(_)) => faults.note(Fault::NotFromThisPeer(18)),
            (_, None) => {}
        }
        if let Some(long) = self.as4_path {
            let short = std::mem::take(&mut self.attributes.as_path);
            self.attributes.as_path = as_path::merge(short, long);
        }
        self.attributes
    }
}

/// One attribute as it stands in the message.
#[derive(Clone, Copy)]
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
    /// Header included.
    octets: &'a [u8],
}

/// Walks over the attributes (RFC 7606 sections 3 and 4). An error ends the connection.
pub(super) fn read<'a>(
    field: &'a [u8],
    negotiated: &Negotiated,
    faults: &mut Faults,
) -> Result<Read<'a>, WireError> {
    let mut read = Read::default();
    let mut rest = field;
    while let [_, ..] = rest {
        let Some((raw, after)) = split(rest) else {
            // The prefixes of a cut off MP attribute cannot be found (RFC 7606 section 3 (j)).
            if let [_, code @ (14 | 15), ..] = *rest {
                let what = "it reaches past the other attributes";
                return Err(reset(Fault::Multiprotocol { code, what }, rest));
            }
            read.beyond_unreach = true;
            faults.withdraw_because(Fault::Truncated, rest);
            break;
        };
        rest = after;
        let code = raw.code;
        read.beyond_unreach |= code != 15;
        if read.seen(code) {
            if matches!(code, 14 | 15) {
                return Err(reset(Fault::DuplicateMultiprotocol(code), &[]));
            }
            faults.note(Fault::Duplicate(code));
            continue;
        }
        read.see(code);
        one(raw, negotiated, &mut read, faults)?;
    }
    Ok(read)
}

fn split(octets: &[u8]) -> Option<(Raw<'_>, &[u8])> {
    let (header, length) = match *octets {
        [flags, _, high, low, ..] if flags & EXTENDED_LENGTH != 0 => {
            (4usize, u16::from_be_bytes([high, low]))
        }
        [flags, _, length, ..] if flags & EXTENDED_LENGTH == 0 => (3, u16::from(length)),
        _ => return None,
    };
    let (attribute, after) = octets.split_at_checked(header.saturating_add(usize::from(length)))?;
    let &[flags, code, ..] = attribute else {
        return None;
    };
    let value = attribute.get(header..)?;
    let raw = Raw {
        flags: flags & 0xe0,
        code,
        value,
        octets: attribute,
    };
    Some((raw, after))
}

/// The Optional and Transitive bits that an attribute must have; `None` for one that we do not know.
fn class(code: u8) -> Option<u8> {
    Some(match code {
        1 | 2 | 3 | 5 | 6 => TRANSITIVE,
        4 | 9 | 10 | 14 | 15 => OPTIONAL,
        7 | 8 | 16 | 17 | 18 | 25 | 32 | 35 => OPTIONAL | TRANSITIVE,
        _ => return None,
    })
}

/// Whether `length` fits attribute `code` (RFC 7606 section 7, RFC 8092 section 5, RFC 9234 section 5).
fn length_fits(code: u8, length: usize, wide: bool) -> bool {
    let some_of = |size: usize| length > 0 && length.is_multiple_of(size);
    match code {
        1 => length == 1,
        3 | 4 | 5 | 9 | 35 => length == 4,
        6 => length == 0,
        7 => length == if wide { 8 } else { 6 },
        8 | 10 => some_of(4),
        16 => some_of(8),
        18 => length == 8,
        25 => some_of(20),
        32 => some_of(12),
        _ => true,
    }
}

fn one<'a>(
    raw: Raw<'a>,
    negotiated: &Negotiated,
    read: &mut Read<'a>,
    faults: &mut Faults,
) -> Result<(), WireError> {
    let Raw {
        flags,
        code,
        value,
        octets,
    } = raw;
    let wide = negotiated.four_octet_as;
    // Ignored unread: RFC 7606 sections 7.5, 7.9, 7.10 from external peers; RFC 6793 section 6 from 4-octet ones.
    if matches!(code, 5 | 9 | 10) && !negotiated.internal || matches!(code, 17 | 18) && wide {
        faults.note(Fault::NotFromThisPeer(code));
        return Ok(());
    }
    let Some(class) = class(code) else {
        if flags & OPTIONAL == 0 {
            return Err(reset(Fault::UnrecognizedWellKnown(code), octets));
        }
        if flags & TRANSITIVE != 0 {
            read.attributes.unknown.push(kept(raw));
        }
        return Ok(());
    };
    if flags & (OPTIONAL | TRANSITIVE) != class {
        faults.withdraw_because(Fault::Flags { code, flags }, octets);
        // Where the prefixes are is still needed to withdraw them.
        if !matches!(code, 14 | 15) {
            return Ok(());
        }
    }
    if !length_fits(code, value.len(), wide) {
        let fault = Fault::AttributeLength {
            code,
            length: value.len(),
        };
        if matches!(code, 6 | 7 | 18) {
            faults.note(fault);
        } else {
            faults.withdraw_because(fault, octets);
        }
        return Ok(());
    }
    match code {
        2 | 17 => {
            let rules = Rules {
                wide: wide || code == 17,
                // From AS4_PATH they are dropped instead (RFC 6793 section 6).
                confederation: negotiated.internal || code == 17,
            };
            // An empty AS_PATH is one of our own AS; an empty AS4_PATH is malformed (RFC 6793 section 6).
            let decoded = if code == 17 && value.is_empty() {
                Err("it holds no AS")
            } else {
                as_path::decode(value, rules)
            };
            match decoded {
                Ok(path) if code == 2 => read.attributes.as_path = path,
                Ok(path) => read.as4_path = as_path::without_confederation(path),
                Err(what) if code == 2 => faults.withdraw_because(Fault::AsPath { code, what }, octets),
                Err(what) => faults.note(Fault::AsPath { code, what }),
            }
        }
        14 => match multiprotocol::reach(value, negotiated) {
            Ok((found, prefix_octets)) => {
                read.reach_octets = prefix_octets;
                match found {
                    Found::Used(reach) => {
                        if !is_host(reach.next_hop.address) {
                            faults.withdraw_because(Fault::NextHop(reach.next_hop.address), octets);
                        }
                        read.reach = Some(reach);
                    }
                    Found::Unused(afi, safi) => faults.note(Fault::Family { afi, safi }),
                }
            }
            Err(what) => return Err(reset(Fault::Multiprotocol { code, what }, octets)),
        },
        15 => match multiprotocol::unreach(value, negotiated) {
            Ok(Found::Used(unreach)) => read.unreach = Some(unreach),
            Ok(Found::Unused(afi, safi)) => faults.note(Fault::Family { afi, safi }),
            Err(what) => return Err(reset(Fault::Multiprotocol { code, what }, octets)),
        },
        18 => {
            if let Some(aggregator) = wide_aggregator(value) {
                if aggregator.asn == 0 {
                    faults.note(Fault::AggregatorAsZero(code));
                } else {
                    read.as4_aggregator = Some(aggregator);
                }
            }
        }
        25 | 35 => read.attributes.unknown.push(kept(raw)),
        _ => plain(raw, read, faults),
    }
    Ok(())
}

/// Attributes whose length is right and whose value the library reads.
fn plain(raw: Raw<'_>, read: &mut Read<'_>, faults: &mut Faults) {
    let Raw {
        flags,
        code,
        value,
        octets,
    } = raw;
    if let (1, &[origin]) = (code, value)
        && origin > 2
    {
        return faults.withdraw_because(Fault::Origin(origin), octets);
    }
    let attributes = &mut read.attributes;
    match zetta::attribute(code, flags, value) {
        Some(BgpAttrItem::Origin(origin)) => {
            attributes.origin = match origin.value {
                BgpAttrOrigin::Igp => Origin::Igp,
                BgpAttrOrigin::Egp => Origin::Egp,
                BgpAttrOrigin::Incomplete => Origin::Incomplete,
            }
        }
        Some(BgpAttrItem::NextHop(next_hop)) => match next_hop.value {
            IpAddr::V4(address) if is_host(address.into()) => read.next_hop = Some(address),
            address => faults.withdraw_because(Fault::NextHop(address), octets),
        },
        Some(BgpAttrItem::MED(med)) => attributes.med = Some(med.value),
        Some(BgpAttrItem::LocalPref(preference)) => attributes.local_preference = Some(preference.value),
        Some(BgpAttrItem::AtomicAggregate(_)) => attributes.atomic_aggregate = true,
        Some(BgpAttrItem::AggregatorAS(aggregator)) if aggregator.asn == 0 => {
            faults.note(Fault::AggregatorAsZero(code));
        }
        Some(BgpAttrItem::AggregatorAS(aggregator)) => {
            attributes.aggregator = Some(Aggregator {
                asn: aggregator.asn,
                router_id: aggregator.addr,
            });
        }
        Some(BgpAttrItem::CommunityList(list)) => {
            attributes.communities = list.value.iter().map(|one| one.value).collect();
        }
        Some(BgpAttrItem::OriginatorID(originator)) => {
            attributes.originator_id = ipv4(originator.value);
        }
        Some(BgpAttrItem::ClusterList(list)) => {
            attributes.cluster_list = list.value.into_iter().filter_map(ipv4).collect();
        }
        Some(BgpAttrItem::ExtCommunityList(list)) => {
            attributes.extended_communities = list
                .value
                .iter()
                .map(|one| {
                    let ([a, b], [c, d, e, f]) = (one.a.to_be_bytes(), one.b.to_be_bytes());
                    [one.ctype, one.subtype, a, b, c, d, e, f]
                })
                .collect();
        }
        Some(BgpAttrItem::LargeCommunityList(list)) => {
            attributes.large_communities = list
                .value
                .iter()
                .map(|one| LargeCommunity(one.ga, one.ldp1, one.ldp2))
                .collect();
        }
        // The library disagrees with the checks above, which no input is known to reach.
        _ => faults.withdraw_because(
            Fault::AttributeLength {
                code,
                length: value.len(),
            },
            octets,
        ),
    }
}

/// The attribute for passing on; copied, so that a small one does not keep a whole message in memory.
fn kept(raw: Raw<'_>) -> RawAttribute {
    RawAttribute {
        flags: raw.flags,
        code: raw.code,
        value: Bytes::copy_from_slice(raw.value),
    }
}

fn wide_aggregator(value: &[u8]) -> Option<Aggregator> {
    let (asn, router_id) = value.split_first_chunk::<4>()?;
    Some(Aggregator {
        asn: u32::from_be_bytes(*asn),
        router_id: Ipv4Addr::from_octets(*router_id.first_chunk()?),
    })
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
