use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use sekisho_config::model::{Prefix, Role};

use crate::announce::Plan;
use crate::rib::{KernelTarget, NextHops};
use crate::wire::Update;

/// Why a path is not let in. Loops are the table's business.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Rejected {
    /// A node that says it is the way to everywhere would draw the box's own traffic.
    DefaultRoute,
    /// So wide that it is a default route in pieces.
    TooWide,
    /// An address of ours, in use or not: it would lead packets for us away from us.
    OwnVip,
    /// Inside a network that the box is connected to: it would take a neighbour off the link.
    Connected,
    /// Holds the address of a peer or of the box, and is longer than the way there: it would cut the box off.
    Infrastructure,
}

impl Rejected {
    pub(crate) const ALL: [Self; 5] = [
        Self::DefaultRoute,
        Self::TooWide,
        Self::OwnVip,
        Self::Connected,
        Self::Infrastructure,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::DefaultRoute => "default_route",
            Self::TooWide => "too_wide",
            Self::OwnVip => "own_vip",
            Self::Connected => "connected",
            Self::Infrastructure => "infrastructure",
        }
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DefaultRoute => "a node must not be the way to everywhere",
            Self::TooWide => "wider than /8 (IPv4) or /16 (IPv6), which no pod network is",
            Self::OwnVip => "inside [[vips]], which belong to the box",
            Self::Connected => "inside a network that the box is connected to",
            Self::Infrastructure => "would lead a peer's or the box's own address elsewhere",
        })
    }
}

/// What no node may say, whatever it is: the box must not lose its own ways by what it learns. Made anew when the
/// kernel's routes, the peers or the plan change; a path is judged when it arrives.
#[derive(Clone, Debug, Default)]
pub(super) struct Floor {
    own: Vec<Prefix>,
    connected: Vec<Prefix>,
    /// Addresses that must stay where they are, with the length of the kernel's way there; 0 where only a default
    /// route leads there.
    infrastructure: BTreeMap<IpAddr, u8>,
}

impl Floor {
    pub(super) fn new(plan: &Plan, kernel: &NextHops, peers: impl IntoIterator<Item = IpAddr>) -> Self {
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
    fn judge(&self, prefix: &Prefix, role: Role) -> Result<(), Rejected> {
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

/// The UPDATE without what is not let in. A path that is not let in still replaces an earlier one, so its prefix is
/// withdrawn.
pub(super) fn import<'a>(
    update: &'a Update,
    role: Role,
    floor: &Floor,
    mut rejected: impl FnMut(Prefix, Rejected),
) -> Cow<'a, Update> {
    if update
        .announced
        .iter()
        .all(|(nlri, _)| floor.judge(&nlri.prefix, role).is_ok())
    {
        return Cow::Borrowed(update);
    }
    let mut update = update.clone();
    let mut gone = Vec::new();
    update
        .announced
        .retain(|(nlri, _)| match floor.judge(&nlri.prefix, role) {
            Ok(()) => true,
            Err(why) => {
                rejected(nlri.prefix, why);
                gone.push(*nlri);
                false
            }
        });
    update.withdrawn.extend(gone);
    Cow::Owned(update)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sekisho_config::model::{Vip, VipPurpose};

    use super::*;
    use crate::announce::PlannedVip;
    use crate::rib::KernelRoute;
    use crate::wire::{Attributes, NextHop, Nlri};

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
        plan.vips.insert(
            address,
            PlannedVip {
                vip: Arc::new(vip),
                announce: Ok(()),
            },
        );
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
            let nlri = Nlri {
                path_id: Some(7),
                prefix: prefix.parse().unwrap(),
            };
            let fine = Nlri {
                path_id: Some(7),
                prefix: "10.9.0.0/26".parse().unwrap(),
            };
            let next_hop = NextHop {
                address: "10.0.0.1".parse().unwrap(),
                link_local: None,
            };
            let update = Update {
                announced: vec![(nlri, next_hop), (fine, next_hop)],
                attributes: Some(Arc::new(Attributes::default())),
                ..Update::default()
            };
            let mut got = None;
            let let_in = import(&update, role, &floor, |_, why| got = Some(why));
            assert_eq!(got, want, "{prefix} from {role}");
            assert_eq!(
                let_in.announced.len(),
                if want.is_some() { 1 } else { 2 },
                "{prefix} from {role}"
            );
            assert_eq!(
                let_in.withdrawn,
                if want.is_some() { vec![nlri] } else { vec![] },
                "{prefix} from {role}"
            );
        }
    }
}
