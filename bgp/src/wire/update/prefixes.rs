use std::net::IpAddr;

use sekisho_config::model::Prefix;

use crate::wire::{Family, Nlri, zetta};

/// A field of prefixes whose every length has been checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked<'a> {
    field: &'a [u8],
    family: Family,
    path_ids: bool,
    count: usize,
}

impl Checked<'_> {
    /// Whether it holds no prefix.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many prefixes it holds.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Hands over its prefixes in order, host bits cleared.
    pub(super) fn for_each(&self, each: impl FnMut(Nlri)) {
        if self.count > 0 {
            zetta::prefixes(self.field, self.family, self.path_ids, each);
        }
    }

    /// Appends its prefixes, host bits cleared.
    pub(super) fn read_into(&self, out: &mut Vec<Nlri>) {
        out.reserve(self.count);
        self.for_each(|nlri| out.push(nlri));
    }
}

/// Walks over `field` without reading prefixes: after this no prefix is too long and none is cut off.
pub(super) fn check(field: &[u8], family: Family, path_ids: bool) -> Result<Checked<'_>, &'static str> {
    let (most, too_long) = match family {
        Family::Ipv4Unicast => (32, "a prefix length is above 32"),
        Family::Ipv6Unicast => (128, "a prefix length is above 128"),
    };
    let mut rest = field;
    let mut count = 0usize;
    while !rest.is_empty() {
        if path_ids {
            rest = rest.get(4..).ok_or("a path identifier is cut off")?;
        }
        let (length, after) = rest
            .split_first()
            .ok_or("a prefix is missing after its path identifier")?;
        if *length > most {
            return Err(too_long);
        }
        rest = after
            .get(usize::from(length.div_ceil(8))..)
            .ok_or("the last prefix is cut off")?;
        count = count.saturating_add(1);
    }
    Ok(Checked {
        field,
        family,
        path_ids,
        count,
    })
}

/// Whether a route to `prefix` makes sense: not multicast, loopback, link-local (IPv6), unspecified or IPv4-mapped.
pub(super) fn routable(prefix: &Prefix) -> bool {
    let length = prefix.length();
    match prefix.address() {
        IpAddr::V4(address) => match address.octets() {
            [0 | 127, ..] => length < 8,
            [224..=239, ..] => length < 4,
            _ => true,
        },
        IpAddr::V6(address) => match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => length < 127,
            [0, 0, 0, 0, 0, 0xffff, ..] => length < 96,
            [0xfe80..=0xfebf, ..] => length < 10,
            [0xff00..=0xffff, ..] => length < 8,
            _ => true,
        },
    }
}
