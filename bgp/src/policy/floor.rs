use std::collections::BTreeMap;
use std::net::IpAddr;

use sekisho_config::model::{Prefix, Role};

use super::Rejected;
use crate::announce::Plan;
use crate::rib::{KernelTarget, NextHops};

/// What no node may say, whatever it is: the box must not lose its own ways by what it learns. Made anew when the
/// kernel's routes, the peers or the plan change; a path is judged when it arrives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    own: Vec<Prefix>,
    connected: Vec<Prefix>,
    /// Addresses that must stay where they are, with the length of the kernel's way there; 0 where only a default
    /// route leads there.
    infrastructure: BTreeMap<IpAddr, u8>,
}

impl Floor {
    pub(crate) fn new(plan: &Plan, kernel: &NextHops, peers: impl IntoIterator<Item = IpAddr>) -> Self {
        let own = plan
            .pools
            .iter()
            .copied()
            .chain(plan.local().map(Prefix::host))
            .collect();
        let connected = kernel
            .routes
            .iter()
            .filter(|(_, route)| matches!(route.target, KernelTarget::Connected { .. }))
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| prefix.length() > 0)
            .collect();
        let infrastructure = peers
            .into_iter()
            .chain(kernel.local.iter().copied())
            .map(|address| {
                (
                    address,
                    kernel.longest(address).map_or(0, |(prefix, _)| prefix.length()),
                )
            })
            .collect();
        Self {
            own,
            connected,
            infrastructure,
        }
    }

    /// Whether a prefix may come from a peer of this role. What `upstream` peers say is only looked at, so all of it may.
    pub(super) fn judge(&self, prefix: &Prefix, role: Role) -> Result<(), Rejected> {
        if role != Role::Cluster {
            return Ok(());
        }
        let widest = if prefix.is_ipv4() { 8 } else { 16 };
        match prefix.length() {
            0 => return Err(Rejected::DefaultRoute),
            length if length < widest => return Err(Rejected::TooWide),
            _ => {}
        }
        if self.own.iter().any(|own| own.covers(prefix)) {
            return Err(Rejected::OwnVip);
        }
        if self.connected.iter().any(|connected| connected.covers(prefix)) {
            return Err(Rejected::Connected);
        }
        let net = prefix.net();
        let held = self.infrastructure.range(net.network()..=net.broadcast());
        for (_, way) in held {
            if prefix.length() > *way {
                return Err(Rejected::Infrastructure);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sekisho_config::model::{Vip, VipPurpose};

    use super::*;
    use crate::announce::PlannedVip;
    use crate::rib::KernelRoute;

    #[test]
    fn nodes_cannot_lead_the_box_off_its_own_ways() {
        let address: IpAddr = "203.0.113.1".parse().unwrap();
        let mut plan = Plan::default();
        let vip = Vip {
            address,
            pool: "public".into(),
            announce_to: vec![],
            purpose: VipPurpose::Ingress,
        };
        plan.vips.insert(address, PlannedVip::host(Arc::new(vip), Ok(())));
        plan.pools = vec!["203.0.113.0/28".parse().unwrap()];
        let connected = |interface| KernelRoute {
            target: KernelTarget::Connected { interface },
            metric: 0,
        };
        let kernel = NextHops {
            routes: [("10.0.0.0/24", 2), ("192.0.2.0/24", 3), ("fd00:10::/64", 2)]
                .into_iter()
                .map(|(prefix, interface)| (prefix.parse().unwrap(), connected(interface)))
                .collect(),
            local: [IpAddr::from([10, 0, 0, 10])].into_iter().collect(),
            ..NextHops::default()
        };
        let peers = ["10.0.0.11", "198.51.100.9"].map(|peer| peer.parse().unwrap());
        let floor = Floor::new(&plan, &kernel, peers);
        for (prefix, role, want) in [
            ("10.1.2.0/26", Role::Cluster, None),
            ("0.0.0.0/0", Role::Cluster, Some(Rejected::DefaultRoute)),
            ("::/0", Role::Cluster, Some(Rejected::DefaultRoute)),
            ("0.0.0.0/0", Role::Upstream, None),
            ("203.0.113.1/32", Role::Cluster, Some(Rejected::OwnVip)),
            ("203.0.113.1/32", Role::Upstream, None),
            ("203.0.113.2/32", Role::Cluster, Some(Rejected::OwnVip)),
            ("203.0.113.0/28", Role::Cluster, Some(Rejected::OwnVip)),
            ("203.0.113.16/32", Role::Cluster, None),
            ("0.0.0.0/1", Role::Cluster, Some(Rejected::TooWide)),
            ("128.0.0.0/1", Role::Cluster, Some(Rejected::TooWide)),
            ("10.0.0.0/8", Role::Cluster, None),
            ("fc00::/7", Role::Cluster, Some(Rejected::TooWide)),
            ("192.0.2.1/32", Role::Cluster, Some(Rejected::Connected)),
            ("10.0.0.11/32", Role::Cluster, Some(Rejected::Connected)),
            ("10.0.0.0/24", Role::Cluster, Some(Rejected::Connected)),
            ("fd00:10::11/128", Role::Cluster, Some(Rejected::Connected)),
            ("10.0.0.0/23", Role::Cluster, None),
            // A peer behind the default route only.
            ("198.51.100.0/24", Role::Cluster, Some(Rejected::Infrastructure)),
            ("198.51.100.0/24", Role::Upstream, None),
            ("198.51.101.0/24", Role::Cluster, None),
        ] {
            let got = floor.judge(&prefix.parse().unwrap(), role);
            assert_eq!(got.err(), want, "{prefix} from {role}");
        }
    }
}
