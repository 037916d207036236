use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use sekisho_config::model::Prefix;

/// What the kernel knows by itself: its routes that are not ours, on links that are up, and its own addresses.
///
/// Persistent: a copy costs a pointer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NextHops {
    /// The best of the kernel's own routes of each prefix (lowest metric).
    pub routes: OrdMap<Prefix, KernelRoute>,
    /// Addresses of the box itself.
    pub local: OrdSet<IpAddr>,
    /// Names of the links that are up, with carrier, by index.
    pub links: OrdMap<u32, Arc<str>>,
}

impl NextHops {
    /// The longest of the kernel's own routes that holds `address`, a default route included.
    pub fn longest(&self, address: IpAddr) -> Option<(Prefix, &KernelRoute)> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        (0..=width).rev().find_map(|length| {
            let prefix = Prefix::new(address, length)?;
            Some((prefix, self.routes.get(&prefix)?))
        })
    }

    /// Whether `address` is one of the box itself.
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.local.contains(&address)
    }
}

/// A route of the kernel that is not ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelRoute {
    /// Where it leads.
    pub target: KernelTarget,
    /// Its metric (priority).
    pub metric: u32,
}

/// Where a kernel route leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KernelTarget {
    /// Neighbours are on this interface.
    Connected {
        /// Index of the interface.
        interface: u32,
    },
    /// Another router (of a multipath route the first whose link is up).
    Via {
        /// The router.
        gateway: IpAddr,
        /// Index of the interface.
        interface: u32,
    },
    /// Packets are dropped: blackhole, unreachable, prohibit.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_route_is_found() {
        let mut view = NextHops::default();
        for (prefix, interface) in [
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.0.0.1/32", 3),
            ("::/0", 4),
            ("2001:db8::/32", 5),
        ] {
            view.routes.insert(
                prefix.parse().unwrap(),
                KernelRoute {
                    target: KernelTarget::Connected { interface },
                    metric: 0,
                },
            );
        }
        for (address, want) in [
            ("10.0.0.1", "10.0.0.1/32"),
            ("10.0.0.2", "10.0.0.0/8"),
            ("11.0.0.2", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::/32"),
            ("2001:db9::1", "::/0"),
        ] {
            let (prefix, _) = view.longest(address.parse().unwrap()).unwrap();
            assert_eq!(prefix.to_string(), want, "{address}");
        }
        assert!(view.is_local("127.0.0.1".parse().unwrap()));
        assert!(!view.is_local("10.0.0.1".parse().unwrap()));
    }
}
