use std::net::IpAddr;

use sekisho_config::model::Prefix;

use crate::announce::Plan;
use crate::rib::{KernelTarget, NextHops};
use crate::session::NextHops as Own;

/// The interface on which `address` is a neighbour, or lies behind one, by longest match.
pub(super) fn interface_to(address: IpAddr, next_hops: &NextHops) -> Option<u32> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (0..=longest).rev().find_map(|length| {
        let prefix = Prefix::new(address, length)?;
        match next_hops.routes.get(&prefix)?.target {
            KernelTarget::Connected { interface } | KernelTarget::Via { interface, .. } => Some(interface),
            KernelTarget::Reject => None,
        }
    })
}

/// Addresses of ours on the interface towards a peer: the next hops for what our end of the connection cannot name.
/// Never one of the VIPs.
pub(super) fn next_hops_on(interface: Option<u32>, next_hops: &NextHops, plan: &Plan) -> Own {
    let Some(interface) = interface else {
        return Own::default();
    };
    let mut own = Own::default();
    if let Some(IpAddr::V4(address)) = address_on(interface, true, next_hops, plan) {
        own.ipv4 = Some(address);
    }
    if let Some(IpAddr::V6(address)) = address_on(interface, false, next_hops, plan) {
        own.ipv6 = Some(address);
    }
    own
}

fn address_on(interface: u32, ipv4: bool, next_hops: &NextHops, plan: &Plan) -> Option<IpAddr> {
    let on_link = next_hops.routes.iter().filter(|(prefix, route)| {
        prefix.is_ipv4() == ipv4 && route.target == KernelTarget::Connected { interface }
    });
    on_link
        .flat_map(|(prefix, _)| {
            next_hops
                .local
                .iter()
                .filter(|address| prefix.contains(**address))
        })
        .copied()
        .find(|address| usable(*address) && !plan.vips.contains_key(address))
}

fn usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::KernelRoute;

    #[test]
    fn the_other_family_is_looked_up_on_the_same_link() {
        let mut next_hops = NextHops::default();
        for (prefix, target) in [
            ("10.0.0.0/24", KernelTarget::Connected { interface: 2 }),
            ("2001:db8::/64", KernelTarget::Connected { interface: 2 }),
            ("fe80::/64", KernelTarget::Connected { interface: 2 }),
            ("2001:db8:9::/64", KernelTarget::Connected { interface: 3 }),
            (
                "0.0.0.0/0",
                KernelTarget::Via {
                    gateway: "10.0.9.1".parse().unwrap(),
                    interface: 3,
                },
            ),
            ("10.66.0.0/16", KernelTarget::Reject),
        ] {
            next_hops
                .routes
                .insert(prefix.parse().unwrap(), KernelRoute { target, metric: 0 });
        }
        for address in ["10.0.0.5", "fe80::5", "2001:db8::5", "2001:db8:9::5"] {
            next_hops.local.insert(address.parse().unwrap());
        }
        for (peer, want) in [
            ("10.0.0.1", Some("2001:db8::5")),
            ("192.0.2.1", Some("2001:db8:9::5")),
            ("2001:db8::1", Some("10.0.0.5")),
            ("2001:db8:9::1", None),
            ("2001:db8:7::1", None),
        ] {
            let peer: IpAddr = peer.parse().unwrap();
            let got = next_hops_on(interface_to(peer, &next_hops), &next_hops, &Plan::default());
            let got = match peer {
                IpAddr::V4(_) => got.ipv6.map(IpAddr::from),
                IpAddr::V6(_) => got.ipv4.map(IpAddr::from),
            };
            assert_eq!(got, want.map(|address| address.parse().unwrap()), "{peer}");
        }
    }
}
