use std::borrow::Cow;

use sekisho_config::model::{Prefix, Role};

use crate::announce::Plan;
use crate::wire::Update;

/// Why a path is not let in. Loops are the table's business.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rejected {
    /// A node that says it is the way to everywhere would draw the box's own traffic.
    DefaultRoute,
    /// One of our VIPs, announced by the cluster: it would lead packets for us away from us.
    OwnVip,
}

impl Rejected {
    pub(crate) const ALL: [Self; 2] = [Self::DefaultRoute, Self::OwnVip];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::DefaultRoute => "default_route",
            Self::OwnVip => "own_vip",
        }
    }
}

/// Whether a prefix may come from a peer of this role. What `upstream` peers say is only looked at, so all of it may.
fn judge(prefix: &Prefix, role: Role, plan: &Plan) -> Result<(), Rejected> {
    if role != Role::Cluster {
        return Ok(());
    }
    if prefix.length() == 0 {
        return Err(Rejected::DefaultRoute);
    }
    if prefix.is_host() && plan.vips.contains_key(&prefix.address()) {
        return Err(Rejected::OwnVip);
    }
    Ok(())
}

/// The UPDATE without what is not let in. A path that is not let in still replaces an earlier one, so its prefix is
/// withdrawn.
pub(super) fn import<'a>(
    update: &'a Update,
    role: Role,
    plan: &Plan,
    mut rejected: impl FnMut(Rejected),
) -> Cow<'a, Update> {
    if update
        .announced
        .iter()
        .all(|(nlri, _)| judge(&nlri.prefix, role, plan).is_ok())
    {
        return Cow::Borrowed(update);
    }
    let mut update = update.clone();
    let mut gone = Vec::new();
    update
        .announced
        .retain(|(nlri, _)| match judge(&nlri.prefix, role, plan) {
            Ok(()) => true,
            Err(why) => {
                rejected(why);
                gone.push(*nlri);
                false
            }
        });
    update.withdrawn.extend(gone);
    Cow::Owned(update)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use sekisho_config::model::{Vip, VipPurpose};

    use super::*;
    use crate::announce::PlannedVip;
    use crate::wire::{Attributes, NextHop, Nlri};

    #[test]
    fn nodes_cannot_become_the_way_to_everywhere_or_to_our_vips() {
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
        for (prefix, role, want) in [
            ("10.1.2.0/26", Role::Cluster, None),
            ("0.0.0.0/0", Role::Cluster, Some(Rejected::DefaultRoute)),
            ("::/0", Role::Cluster, Some(Rejected::DefaultRoute)),
            ("0.0.0.0/0", Role::Upstream, None),
            ("203.0.113.1/32", Role::Cluster, Some(Rejected::OwnVip)),
            ("203.0.113.1/32", Role::Upstream, None),
            ("203.0.113.2/32", Role::Cluster, None),
            ("203.0.113.0/28", Role::Cluster, None),
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
            let let_in = import(&update, role, &plan, |why| got = Some(why));
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
