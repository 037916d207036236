//! UPDATE in: RFC 4271 section 6.3 as revised by RFC 7606.

mod as_path;
mod attributes;
mod faults;
mod multiprotocol;
mod prefixes;

use std::sync::Arc;

use super::{Family, Fault, Negotiated, NextHop, Update, WireError};
use attributes::Read;
use faults::{Faults, reset};
use prefixes::Checked;

/// Reads the body of an UPDATE; in the result, withdrawn prefixes are to be applied before the announced ones.
pub(super) fn decode(body: &[u8], negotiated: &Negotiated) -> Result<Update, WireError> {
    let (withdrawn_field, rest) =
        counted(body).ok_or_else(|| reset(Fault::Overrun("withdrawn routes"), &[]))?;
    let (attribute_field, nlri_field) =
        counted(rest).ok_or_else(|| reset(Fault::Overrun("path attributes"), &[]))?;
    let mut faults = Faults::default();
    let mut update = Update::default();

    let ipv4 = negotiated.families.contains(Family::Ipv4Unicast);
    let path_ids = negotiated.add_path_receive.contains(Family::Ipv4Unicast);
    let plain = |field, name| {
        prefixes::check(field, Family::Ipv4Unicast, path_ids)
            .map_err(|what| reset(Fault::Network { field: name, what }, &[]))
    };
    let withdrawn = plain(withdrawn_field, "withdrawn routes")?;
    let nlri = plain(nlri_field, "NLRI")?;
    let plain_octets = withdrawn_field.len().saturating_add(nlri_field.len());
    if !ipv4 && plain_octets > 0 {
        faults.note(Fault::Family { afi: 1, safi: 1 });
    }

    let read = attributes::read(attribute_field, negotiated, &mut faults)?;
    let reachable = !nlri_field.is_empty() || read.reach_octets > 0;
    check_mandatory(&read, !nlri_field.is_empty() && ipv4, &mut faults);
    // RFC 7606 section 5.2: with attributes but nothing reachable we cannot tell what the sender meant.
    if !reachable && read.beyond_unreach {
        faults.escalate()?;
    }

    if ipv4 {
        withdrawn.read_into(&mut update.withdrawn);
    }
    if let Some((family, list)) = &read.unreach {
        list.read_into(&mut update.withdrawn);
        if plain_octets == 0 && !read.beyond_unreach && list.is_empty() {
            update.end_of_rib = Some(*family);
        }
    }
    if ipv4 && plain_octets == 0 && attribute_field.is_empty() {
        update.end_of_rib = Some(Family::Ipv4Unicast);
    }

    if faults.withdraw() {
        if ipv4 {
            nlri.read_into(&mut update.withdrawn);
        }
        if let Some(reach) = &read.reach {
            reach.list.read_into(&mut update.withdrawn);
        }
    } else {
        if let (true, Some(address)) = (ipv4, read.next_hop) {
            let next_hop = NextHop {
                address: address.into(),
                link_local: None,
            };
            announce(&mut update, &nlri, next_hop, &mut faults);
        }
        if let Some(reach) = &read.reach {
            announce(&mut update, &reach.list, reach.next_hop, &mut faults);
        }
        if !update.announced.is_empty() {
            update.attributes = Some(Arc::new(read.into_attributes(&mut faults)));
        }
    }
    update.faults = faults.into_words();
    Ok(update)
}

/// Reads routable prefixes into the announced ones; the others are named and ignored (RFC 4271 section 6.3, last rule).
fn announce(update: &mut Update, list: &Checked<'_>, next_hop: NextHop, faults: &mut Faults) {
    update.announced.reserve(list.len());
    list.for_each(|nlri| {
        if prefixes::routable(&nlri.prefix) {
            update.announced.push((nlri, next_hop));
        } else {
            faults.note(Fault::Unroutable(nlri.prefix));
        }
    });
}

/// RFC 7606 section 3 (d), RFC 4760 section 3: NEXT_HOP belongs to the NLRI field only.
fn check_mandatory(read: &Read<'_>, plain_nlri: bool, faults: &mut Faults) {
    if !plain_nlri && read.reach.is_none() {
        return;
    }
    for code in [1, 2] {
        if !read.seen(code) {
            faults.withdraw_because(Fault::Missing(code), &[]);
        }
    }
    if plain_nlri && !read.seen(3) {
        faults.withdraw_because(Fault::Missing(3), &[]);
    }
}

/// A field with two octets of length before it, and what follows.
fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
