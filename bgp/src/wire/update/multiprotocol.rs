use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::prefixes::{self, Checked};
use crate::wire::{Family, Negotiated, NextHop};

/// MP_REACH_NLRI of a family in use.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    pub(super) next_hop: NextHop,
    pub(super) list: Checked<'a>,
}

/// What an MP attribute turned out to be.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// Of a family in use.
    Used(T),
    /// Of another family: AFI and SAFI; to be ignored.
    Unused(u16, u8),
}

/// Reads MP_REACH_NLRI (RFC 4760 section 3, RFC 2545 section 3, RFC 8950); also how many octets of prefixes it holds.
///
/// An error means that its prefixes cannot be found: the connection must be reset (RFC 7606 section 7.11).
pub(super) fn reach<'a>(
    value: &'a [u8],
    negotiated: &Negotiated,
) -> Result<(Found<Reach<'a>>, usize), &'static str> {
    let &[a, b, safi, length, ref rest @ ..] = value else {
        return Err("it is cut off");
    };
    let afi = u16::from_be_bytes([a, b]);
    let (next_hop, rest) = rest
        .split_at_checked(usize::from(length))
        .ok_or("its next hop is cut off")?;
    // The reserved octet was once a count of SNPAs; RFC 4760 has it ignored.
    let (_reserved, list) = rest.split_first().ok_or("it ends after the next hop")?;
    let Some(family) = used(afi, safi, negotiated) else {
        return Ok((Found::Unused(afi, safi), list.len()));
    };
    let next_hop = match (family, next_hop.len()) {
        (Family::Ipv4Unicast, 4) => next_hop.first_chunk().map(|octets| NextHop {
            address: Ipv4Addr::from_octets(*octets).into(),
            link_local: None,
        }),
        (Family::Ipv4Unicast, 16 | 32) if negotiated.extended_next_hop_receive => ipv6(next_hop),
        (Family::Ipv6Unicast, 16 | 32) => ipv6(next_hop),
        _ => None,
    }
    .ok_or("its next hop has a length that its family does not allow")?;
    let octets = list.len();
    let list = prefixes::check(list, family, negotiated.add_path_receive.contains(family))?;
    Ok((Found::Used(Reach { next_hop, list }), octets))
}

/// Reads MP_UNREACH_NLRI (RFC 4760 section 4).
pub(super) fn unreach<'a>(
    value: &'a [u8],
    negotiated: &Negotiated,
) -> Result<Found<(Family, Checked<'a>)>, &'static str> {
    let &[a, b, safi, ref list @ ..] = value else {
        return Err("it is cut off");
    };
    let afi = u16::from_be_bytes([a, b]);
    let Some(family) = used(afi, safi, negotiated) else {
        return Ok(Found::Unused(afi, safi));
    };
    let list = prefixes::check(list, family, negotiated.add_path_receive.contains(family))?;
    Ok(Found::Used((family, list)))
}

fn used(afi: u16, safi: u8, negotiated: &Negotiated) -> Option<Family> {
    Family::from_numbers(afi, safi).filter(|family| negotiated.families.contains(*family))
}

/// One or two addresses. The second must be link-local; some speakers put it beside `::` when it is all they have.
fn ipv6(octets: &[u8]) -> Option<NextHop> {
    let (first, second) = octets.split_first_chunk::<16>()?;
    let first = Ipv6Addr::from_octets(*first);
    let second = second
        .first_chunk::<16>()
        .map(|octets| Ipv6Addr::from_octets(*octets))
        .filter(Ipv6Addr::is_unicast_link_local);
    Some(match second {
        Some(second) if first.is_unspecified() => NextHop {
            address: second.into(),
            link_local: None,
        },
        link_local => NextHop {
            address: first.into(),
            link_local: link_local.filter(|_| !first.is_unicast_link_local()),
        },
    })
}

/// Whether `address` can be a host to send packets to (RFC 4271 section 6.3 calls this syntax).
pub(super) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets(), [0 | 127 | 224..=255, ..]),
        IpAddr::V6(address) => {
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && address.to_ipv4_mapped().is_none()
        }
    }
}
