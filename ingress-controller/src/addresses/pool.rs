use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sekisho_config::model::{AddressPool, Prefix};

use super::{Family, Refused};

/// The pool that holds `address`.
pub fn pool_of(pools: &[AddressPool], address: IpAddr) -> Option<&AddressPool> {
    pools
        .iter()
        .find(|pool| pool.addresses.iter().any(|prefix| prefix.contains(address)))
}

/// The first address of a family in the first pool that has one.
pub fn first_usable(pools: &[AddressPool], family: Family) -> Option<IpAddr> {
    Free::new(pools).next(family, |_| false).ok()
}

/// Hands out the addresses of the pools in order. Never looks at one twice, so that giving n addresses costs n steps.
pub(super) struct Free {
    v4: Vec<Cursor>,
    v6: Vec<Cursor>,
}

/// The rest of a prefix: both ends included.
struct Cursor {
    next: u128,
    last: u128,
}

impl Free {
    pub(super) fn new(pools: &[AddressPool]) -> Self {
        let prefixes = || pools.iter().flat_map(|pool| &pool.addresses);
        Self {
            v4: prefixes()
                .filter(|prefix| prefix.is_ipv4())
                .map(Cursor::new)
                .collect(),
            v6: prefixes()
                .filter(|prefix| !prefix.is_ipv4())
                .map(Cursor::new)
                .collect(),
        }
    }

    /// The next address of `family` that is not `used`.
    pub(super) fn next(&mut self, family: Family, used: impl Fn(IpAddr) -> bool) -> Result<IpAddr, Refused> {
        let cursors = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        if cursors.is_empty() {
            return Err(Refused::NoPool(family));
        }
        for cursor in cursors {
            while let Some(address) = cursor.step(family) {
                if !used(address) {
                    return Ok(address);
                }
            }
        }
        Err(Refused::Exhausted(family))
    }
}

impl Cursor {
    /// The network and broadcast address of an IPv4 prefix and the subnet-router anycast address of an IPv6 prefix
    /// (RFC 4291 section 2.6.1) are not handed out: some stacks and routers treat them in their own way.
    fn new(prefix: &Prefix) -> Self {
        let (first, bits) = match prefix.address() {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128_u32),
        };
        let host_bits = bits.saturating_sub(u32::from(prefix.length()));
        let size_minus_one = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        let last = first.saturating_add(size_minus_one);
        if host_bits < 2 {
            return Self { next: first, last };
        }
        let last = if prefix.is_ipv4() {
            last.saturating_sub(1)
        } else {
            last
        };
        Self {
            next: first.saturating_add(1),
            last,
        }
    }

    fn step(&mut self, family: Family) -> Option<IpAddr> {
        if self.next > self.last {
            return None;
        }
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(self.next).ok()?)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(self.next)),
        };
        match self.next.checked_add(1) {
            Some(next) => self.next = next,
            // The last address of all: nothing comes after it.
            None => self.last = 0,
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_prefixes() {
        for (prefix, want) in [
            ("192.0.2.0/30", "192.0.2.1 192.0.2.2"),
            ("192.0.2.0/31", "192.0.2.0 192.0.2.1"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("255.255.255.255/32", "255.255.255.255"),
            ("2001:db8::/126", "2001:db8::1 2001:db8::2 2001:db8::3"),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
        ] {
            let prefix: Prefix = prefix.parse().unwrap();
            let pools = [AddressPool {
                name: "p".into(),
                addresses: vec![prefix],
                announce_to: Vec::new(),
                announcement: Default::default(),
            }];
            let family = Family::of(prefix.address());
            let mut free = Free::new(&pools);
            let mut all = Vec::new();
            while let Ok(address) = free.next(family, |_| false) {
                all.push(address.to_string());
            }
            assert_eq!(all.join(" "), want, "{prefix}");
        }
        let everything = [AddressPool {
            name: "p".into(),
            addresses: vec!["::/0".parse().unwrap()],
            announce_to: Vec::new(),
            announcement: Default::default(),
        }];
        assert_eq!(
            first_usable(&everything, Family::V6),
            Some("::1".parse().unwrap())
        );
        assert_eq!(first_usable(&everything, Family::V4), None);
    }
}
