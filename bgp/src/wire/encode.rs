use std::net::IpAddr;

use bytes::{BufMut, Bytes};
use sekisho_config::model::{Asn, Prefix};

use super::frame::HEADER_LENGTH;
use super::zetta::{Carried, Writer};
use super::{AsPath, Attributes, Family, Negotiated, NextHop, Nlri, Segment, role};

const WELL_KNOWN: u8 = 0x40;
const OPTIONAL: u8 = 0x80;
const OPTIONAL_TRANSITIVE: u8 = 0xc0;
const PARTIAL: u8 = 0x20;

/// LOCAL_PREF sent to internal peers when the caller names none.
const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// Header and both length fields of an UPDATE.
const FIXED_LENGTH: usize = HEADER_LENGTH + 4;

/// What an UPDATE is to say.
#[derive(Clone, Copy, Debug)]
pub enum UpdateOut<'a> {
    /// These prefixes are reachable.
    Announce {
        /// Prefixes, all of one family: the next hop's, or IPv4 with an IPv6 next hop where the peer takes that (RFC 8950).
        prefixes: &'a [Nlri],
        /// Where to.
        next_hop: NextHop,
        /// Their attributes, AS_PATH complete: on eBGP our own AS already stands first. What must not be sent to this
        /// kind of peer (LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST, confederation segments to eBGP) is left out here;
        /// LOCAL_PREF is 100 on iBGP when there is none.
        attributes: &'a Attributes,
    },
    /// These prefixes are no longer reachable; families may be mixed.
    Withdraw(&'a [Nlri]),
    /// End-of-RIB marker (RFC 4724).
    EndOfRib(Family),
}

/// Why something cannot be said to this peer: a fault of ours, never of the peer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The family was not agreed on.
    #[error("{0} is not in use on this connection")]
    Family(Family),
    /// Prefix and next hop of different families.
    #[error("prefix {prefix} cannot have next hop {next_hop}")]
    NextHop {
        /// The prefix.
        prefix: Prefix,
        /// The next hop.
        next_hop: IpAddr,
    },
    /// The attributes alone fill the message.
    #[error("attributes of {length} octets leave no room for a prefix in a message of {most}")]
    TooLarge {
        /// Octets of path attributes.
        length: usize,
        /// Longest message that the peer takes.
        most: usize,
    },
    /// The path came from above or from aside and goes to neither (RFC 9234).
    #[error("a path that is for customers only must not go to this peer (RFC 9234)")]
    OnlyToCustomer,
    /// A capability value above 255 octets, or capabilities that do not fit into an OPEN.
    #[error("the capabilities do not fit into an OPEN")]
    Capabilities,
    /// The library refused; a fault of this program.
    #[error("cannot encode: {0}")]
    Library(String),
}

/// UPDATEs that say `what`, as few as possible, none longer than the peer takes.
///
/// A path identifier is sent where ADD-PATH was agreed on (0 when the prefix has none) and dropped elsewhere.
///
/// # Errors
///
/// See [`EncodeError`]: nothing is to be sent then.
pub fn encode_update(what: UpdateOut<'_>, negotiated: &Negotiated) -> Result<Vec<Bytes>, EncodeError> {
    match what {
        UpdateOut::Announce {
            prefixes,
            next_hop,
            attributes,
        } => announce(prefixes, next_hop, attributes, negotiated),
        UpdateOut::Withdraw(prefixes) => withdraw(prefixes, negotiated),
        UpdateOut::EndOfRib(family) => {
            in_use(family, negotiated)?;
            let mut writer = Writer::new(negotiated);
            if family == Family::Ipv6Unicast {
                writer.attributes([unreach(&[], false)]);
            }
            Ok(vec![writer.message(&[], &[])?])
        }
    }
}

fn announce(
    prefixes: &[Nlri],
    next_hop: NextHop,
    attributes: &Attributes,
    negotiated: &Negotiated,
) -> Result<Vec<Bytes>, EncodeError> {
    let own = match next_hop.address {
        IpAddr::V4(_) => Family::Ipv4Unicast,
        IpAddr::V6(_) => Family::Ipv6Unicast,
    };
    let first = prefixes.first().map(|nlri| Family::of(&nlri.prefix));
    let family = match first {
        Some(Family::Ipv4Unicast) if negotiated.extended_next_hop_send => Family::Ipv4Unicast,
        _ => own,
    };
    in_use(family, negotiated)?;
    if let Some(other) = prefixes.iter().find(|nlri| Family::of(&nlri.prefix) != family) {
        return Err(EncodeError::NextHop {
            prefix: other.prefix,
            next_hop: next_hop.address,
        });
    }
    let path_ids = negotiated.add_path_send.contains(family);
    if negotiated
        .only_to_customer
        .is_some_and(|otc| !otc.may_send(attributes))
    {
        return Err(EncodeError::OnlyToCustomer);
    }
    let carried = carried(attributes, next_hop, negotiated);
    let fixed: usize = carried.iter().map(Carried::length).sum();
    let mut writer = Writer::new(negotiated);
    match next_hop.address {
        IpAddr::V4(_) => {
            let chunks = split(prefixes, path_ids, fixed, negotiated)?;
            writer.attributes(carried);
            chunks
                .into_iter()
                .map(|chunk| writer.message(&[], chunk))
                .collect()
        }
        IpAddr::V6(_) => {
            let empty = reach(family, next_hop, &[], path_ids);
            // One octet more than an empty one: the length field of a full MP_REACH_NLRI is two octets wide.
            let fixed = fixed.saturating_add(empty.length()).saturating_add(1);
            let chunks = split(prefixes, path_ids, fixed, negotiated)?;
            chunks
                .into_iter()
                .map(|chunk| {
                    // MP_REACH_NLRI comes first (RFC 7606 section 5.1).
                    let first = reach(family, next_hop, chunk, path_ids);
                    writer.attributes(std::iter::once(first).chain(carried.iter().cloned()));
                    writer.message(&[], &[])
                })
                .collect()
        }
    }
}

fn withdraw(prefixes: &[Nlri], negotiated: &Negotiated) -> Result<Vec<Bytes>, EncodeError> {
    let (ipv4, ipv6): (Vec<Nlri>, Vec<Nlri>) = prefixes.iter().partition(|nlri| nlri.prefix.is_ipv4());
    let mut writer = Writer::new(negotiated);
    let mut messages = Vec::new();
    if !ipv4.is_empty() {
        in_use(Family::Ipv4Unicast, negotiated)?;
        let path_ids = negotiated.add_path_send.contains(Family::Ipv4Unicast);
        for chunk in split(&ipv4, path_ids, 0, negotiated)? {
            messages.push(writer.message(chunk, &[])?);
        }
    }
    if !ipv6.is_empty() {
        in_use(Family::Ipv6Unicast, negotiated)?;
        let path_ids = negotiated.add_path_send.contains(Family::Ipv6Unicast);
        // Header of MP_UNREACH_NLRI, AFI, SAFI.
        for chunk in split(&ipv6, path_ids, 7, negotiated)? {
            writer.attributes([unreach(chunk, path_ids)]);
            messages.push(writer.message(&[], &[])?);
        }
    }
    Ok(messages)
}

fn in_use(family: Family, negotiated: &Negotiated) -> Result<(), EncodeError> {
    if negotiated.families.contains(family) {
        Ok(())
    } else {
        Err(EncodeError::Family(family))
    }
}

/// Cuts `prefixes` so that each part fits into one message beside `fixed` octets of attributes.
fn split<'a>(
    prefixes: &'a [Nlri],
    path_ids: bool,
    fixed: usize,
    negotiated: &Negotiated,
) -> Result<Vec<&'a [Nlri]>, EncodeError> {
    let most = negotiated.max_send_length();
    let room = most.saturating_sub(FIXED_LENGTH).saturating_sub(fixed);
    let mut parts = Vec::new();
    let mut rest = prefixes;
    while !rest.is_empty() {
        let mut used = 0usize;
        let fitting = rest
            .iter()
            .take_while(|nlri| {
                used = used.saturating_add(octets(nlri, path_ids));
                used <= room
            })
            .count();
        let (part, after) = match fitting {
            0 => return Err(EncodeError::TooLarge { length: fixed, most }),
            fitting => rest.split_at_checked(fitting).unwrap_or((rest, &[])),
        };
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

/// Octets of one prefix on the wire.
fn octets(nlri: &Nlri, path_ids: bool) -> usize {
    let address = usize::from(nlri.prefix.length().div_ceil(8));
    address.saturating_add(if path_ids { 5 } else { 1 })
}

fn put_prefixes(value: &mut Vec<u8>, prefixes: &[Nlri], path_ids: bool) {
    for nlri in prefixes {
        if path_ids {
            value.put_u32(nlri.path_id.unwrap_or(0));
        }
        value.put_u8(nlri.prefix.length());
        let used = usize::from(nlri.prefix.length().div_ceil(8));
        match nlri.prefix.address() {
            IpAddr::V4(address) => value.extend(address.octets().iter().take(used)),
            IpAddr::V6(address) => value.extend(address.octets().iter().take(used)),
        }
    }
}

/// MP_REACH_NLRI (RFC 4760 section 3, RFC 2545 section 3, RFC 8950 section 4).
fn reach(family: Family, next_hop: NextHop, prefixes: &[Nlri], path_ids: bool) -> Carried {
    let mut value = Vec::with_capacity(prefixes.len().saturating_mul(17).saturating_add(40));
    let (afi, safi) = family.numbers();
    value.put_u16(afi);
    value.put_u8(safi);
    if let IpAddr::V6(address) = next_hop.address {
        match next_hop.link_local {
            Some(link_local) => {
                value.put_u8(32);
                value.extend(address.octets());
                value.extend(link_local.octets());
            }
            None => {
                value.put_u8(16);
                value.extend(address.octets());
            }
        }
    }
    value.put_u8(0);
    put_prefixes(&mut value, prefixes, path_ids);
    Carried::new(OPTIONAL, 14, value)
}

/// MP_UNREACH_NLRI of IPv6 unicast (RFC 4760 section 4).
fn unreach(prefixes: &[Nlri], path_ids: bool) -> Carried {
    let mut value = Vec::with_capacity(prefixes.len().saturating_mul(17).saturating_add(3));
    let (afi, safi) = Family::Ipv6Unicast.numbers();
    value.put_u16(afi);
    value.put_u8(safi);
    put_prefixes(&mut value, prefixes, path_ids);
    Carried::new(OPTIONAL, 15, value)
}

/// Every attribute but the MP ones, in the order of their types.
fn carried(attributes: &Attributes, next_hop: NextHop, negotiated: &Negotiated) -> Vec<Carried> {
    let internal = negotiated.internal;
    let wide = negotiated.four_octet_as;
    let mut out = Vec::with_capacity(12);
    let mut put = |flags, code, value: Vec<u8>| out.push(Carried::new(flags, code, value));
    put(WELL_KNOWN, 1, vec![attributes.origin as u8]);
    put(WELL_KNOWN, 2, as_path(&attributes.as_path, wide, internal));
    if let IpAddr::V4(address) = next_hop.address {
        put(WELL_KNOWN, 3, address.octets().into());
    }
    if let Some(med) = attributes.med {
        put(OPTIONAL, 4, med.to_be_bytes().into());
    }
    if internal {
        let preference = attributes.local_preference.unwrap_or(DEFAULT_LOCAL_PREFERENCE);
        put(WELL_KNOWN, 5, preference.to_be_bytes().into());
    }
    if attributes.atomic_aggregate {
        put(WELL_KNOWN, 6, Vec::new());
    }
    if let Some(aggregator) = attributes.aggregator {
        let mut value = Vec::with_capacity(8);
        if wide {
            value.put_u32(aggregator.asn);
        } else {
            value.put_u16(narrow(aggregator.asn));
        }
        value.extend(aggregator.router_id.octets());
        put(OPTIONAL_TRANSITIVE, 7, value);
    }
    if !attributes.communities.is_empty() {
        let value = attributes
            .communities
            .iter()
            .flat_map(|one| one.to_be_bytes())
            .collect();
        put(OPTIONAL_TRANSITIVE, 8, value);
    }
    if let (true, Some(originator)) = (internal, attributes.originator_id) {
        put(OPTIONAL, 9, originator.octets().into());
    }
    if internal && !attributes.cluster_list.is_empty() {
        let value = attributes
            .cluster_list
            .iter()
            .flat_map(|one| one.octets())
            .collect();
        put(OPTIONAL, 10, value);
    }
    if !attributes.extended_communities.is_empty() {
        put(OPTIONAL_TRANSITIVE, 16, attributes.extended_communities.concat());
    }
    // RFC 6793 section 4.2.2: what does not fit into two octets goes beside it, without confederation segments.
    if !wide
        && attributes
            .as_path
            .numbers()
            .any(|number| number > u32::from(u16::MAX))
    {
        let value = as_path(&attributes.as_path, true, false);
        if !value.is_empty() {
            put(OPTIONAL_TRANSITIVE, 17, value);
        }
    }
    if let (false, Some(aggregator)) = (wide, attributes.aggregator)
        && aggregator.asn > u32::from(u16::MAX)
    {
        let mut value = aggregator.asn.to_be_bytes().to_vec();
        value.extend(aggregator.router_id.octets());
        put(OPTIONAL_TRANSITIVE, 18, value);
    }
    if !attributes.large_communities.is_empty() {
        let octets =
            |one: &super::LargeCommunity| [one.0.to_be_bytes(), one.1.to_be_bytes(), one.2.to_be_bytes()];
        let value = attributes
            .large_communities
            .iter()
            .flat_map(octets)
            .flatten()
            .collect();
        put(OPTIONAL_TRANSITIVE, 32, value);
    }
    if let Some(by) = negotiated.only_to_customer.and_then(|otc| otc.added(attributes)) {
        let added = role::raw(by);
        put(added.flags, added.code, added.value.to_vec());
    }
    for raw in &attributes.unknown {
        // What nobody here understood is marked so (RFC 4271 section 5); 25 and 35 are known, only not used.
        let partial = if matches!(raw.code, 25 | 35) { 0 } else { PARTIAL };
        put(raw.flags & 0xe0 | partial, raw.code, raw.value.to_vec());
    }
    out
}

/// AS_PATH or AS4_PATH; a segment of more than 255 numbers becomes several.
fn as_path(path: &AsPath, wide: bool, confederation: bool) -> Vec<u8> {
    let mut value = Vec::new();
    for segment in &path.segments {
        let (kind, numbers) = match segment {
            Segment::Set(numbers) => (1, numbers),
            Segment::Sequence(numbers) => (2, numbers),
            Segment::ConfedSequence(numbers) => (3, numbers),
            Segment::ConfedSet(numbers) => (4, numbers),
        };
        if kind > 2 && !confederation {
            continue;
        }
        for part in numbers.chunks(usize::from(u8::MAX)) {
            value.put_u8(kind);
            value.put_u8(u8::try_from(part.len()).unwrap_or(u8::MAX));
            for number in part {
                if wide {
                    value.put_u32(*number);
                } else {
                    value.put_u16(narrow(*number));
                }
            }
        }
    }
    value
}

fn narrow(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(Asn::TRANS)
}
