use std::collections::BTreeMap;
use std::net::IpAddr;

use sekisho_config::model::Prefix;

use super::message::{Kind, Link, Route};
use super::objects::Object;
use super::planner::LOCAL_TABLE;
use crate::rib::{KernelRoute, KernelTarget, NextHops};

/// Kernel table `main`.
pub(super) const MAIN_TABLE: u32 = 254;

/// Links and routes of the kernel that are not ours, and what follows for next hops. Pure.
#[derive(Debug, Default)]
pub(super) struct KernelView {
    links: BTreeMap<u32, Link>,
    /// All routes of a prefix, best (lowest metric) first.
    routes: BTreeMap<Prefix, Vec<Route>>,
    view: NextHops,
    /// Nexthop objects that are not ours: routes to them may not say where they lead.
    objects: BTreeMap<u32, Object>,
    table: u32,
}

impl KernelView {
    /// `table` is looked at beside `main`.
    pub(super) fn new(table: u32) -> Self {
        Self {
            table,
            ..Self::default()
        }
    }

    pub(super) fn next_hops(&self) -> &NextHops {
        &self.view
    }

    /// Index of `lo`: 1 in every network namespace, but asked for all the same.
    pub(super) fn loopback(&self) -> u32 {
        let found = self.links.values().find(|link| link.loopback);
        found.map_or(1, |link| link.index)
    }

    /// Takes a complete dump.
    pub(super) fn reset(
        &mut self,
        links: Vec<Link>,
        objects: BTreeMap<u32, Object>,
        routes: impl Iterator<Item = Route>,
    ) {
        *self = Self::new(self.table);
        self.objects = objects;
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        for route in routes {
            self.add(route);
        }
        self.refresh_all();
    }

    /// A link came or changed; `true` if that matters.
    pub(super) fn link(&mut self, link: Link) -> bool {
        let differs = self.links.get(&link.index) != Some(&link);
        if differs {
            self.links.insert(link.index, link);
            self.refresh_all();
        }
        differs
    }

    pub(super) fn link_gone(&mut self, index: u32) -> bool {
        let known = self.links.remove(&index).is_some();
        if known {
            self.refresh_all();
        }
        known
    }

    pub(super) fn route(&mut self, mut route: Route) {
        self.resolve(&mut route);
        let prefix = route.prefix;
        if route.replaces
            && let Some(routes) = self.routes.get_mut(&prefix)
        {
            routes.retain(|old| (old.table, old.metric) != (route.table, route.metric));
        }
        self.add(route);
        self.refresh(prefix);
    }

    pub(super) fn route_gone(&mut self, route: &Route) {
        let mut route = route.clone();
        self.resolve(&mut route);
        if let Some(routes) = self.routes.get_mut(&route.prefix) {
            let same = |old: &Route| {
                (old.table, old.metric, old.kind, &old.next_hops)
                    == (route.table, route.metric, route.kind, &route.next_hops)
            };
            routes.retain(|old| !same(old));
            if routes.is_empty() {
                self.routes.remove(&route.prefix);
            }
        }
        self.refresh(route.prefix);
    }

    /// Puts in where a nexthop object leads.
    fn resolve(&self, route: &mut Route) {
        let Some(id) = route.object.filter(|_| route.next_hops.is_empty()) else {
            return;
        };
        let leads = |id: &u32| match self.objects.get(id)? {
            Object::Gateway((via, interface)) => Some((Some(*via), *interface)),
            Object::Link(interface) => Some((None, *interface)),
            Object::Group(_) | Object::Other => None,
        };
        route.next_hops = match self.objects.get(&id) {
            Some(Object::Group(members)) => members.iter().filter_map(|(id, _)| leads(id)).collect(),
            _ => leads(&id).into_iter().collect(),
        };
    }

    fn add(&mut self, mut route: Route) {
        self.resolve(&mut route);
        let matters = match route.kind {
            Kind::Unicast | Kind::Reject => route.table == MAIN_TABLE || route.table == self.table,
            Kind::Local => route.table == LOCAL_TABLE && route.prefix.is_host(),
            Kind::Other => false,
        };
        if !matters {
            return;
        }
        let routes = self.routes.entry(route.prefix).or_default();
        if !routes.contains(&route) {
            routes.push(route);
            routes.sort_by_key(|route| (route.metric, route.table));
        }
    }

    fn refresh_all(&mut self) {
        self.view = NextHops {
            links: self
                .links
                .values()
                .filter(|link| link.up)
                .map(|link| (link.index, link.name.clone()))
                .collect(),
            ..NextHops::default()
        };
        let prefixes: Vec<Prefix> = self.routes.keys().copied().collect();
        for prefix in prefixes {
            self.refresh(prefix);
        }
    }

    fn refresh(&mut self, prefix: Prefix) {
        let routes = self.routes.get(&prefix).map(Vec::as_slice).unwrap_or_default();
        if routes.iter().any(|route| route.kind == Kind::Local) {
            self.view.local.insert(prefix.address());
        } else {
            self.view.local.remove(&prefix.address());
        }
        let best = routes.iter().find_map(|route| {
            let target = match route.kind {
                Kind::Unicast => self.target(route)?,
                Kind::Reject => KernelTarget::Reject,
                Kind::Local | Kind::Other => return None,
            };
            let metric = route.metric;
            Some(KernelRoute { target, metric })
        });
        match best {
            Some(best) => self.view.routes.insert(prefix, best),
            None => self.view.routes.remove(&prefix),
        };
    }

    /// The first next hop whose link is up.
    fn target(&self, route: &Route) -> Option<KernelTarget> {
        let up = |index: &u32| self.links.get(index).is_some_and(|link| link.up);
        let (gateway, interface): (Option<IpAddr>, u32) = route
            .next_hops
            .iter()
            .find(|(_, interface)| up(interface))
            .copied()?;
        Some(match gateway {
            Some(gateway) => KernelTarget::Via { gateway, interface },
            None => KernelTarget::Connected { interface },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, up: bool) -> Link {
        Link {
            index,
            name: format!("eth{index}").as_str().into(),
            up,
            loopback: false,
        }
    }

    fn route(text: &str, metric: u32, gateway: Option<&str>, interface: u32) -> Route {
        Route {
            table: MAIN_TABLE,
            prefix: text.parse().unwrap(),
            protocol: 4,
            metric,
            kind: Kind::Unicast,
            next_hops: vec![(gateway.map(|text| text.parse().unwrap()), interface)],
            weights: vec![],
            object: None,
            replaces: false,
        }
    }

    fn shown(view: &KernelView) -> Vec<String> {
        let routes = view.next_hops().routes.iter();
        routes
            .map(|(prefix, route)| match &route.target {
                KernelTarget::Connected { interface } => format!("{prefix} dev {interface}"),
                KernelTarget::Via { gateway, interface } => format!("{prefix} via {gateway} dev {interface}"),
                KernelTarget::Reject => format!("{prefix} reject"),
            })
            .collect()
    }

    #[test]
    fn only_links_that_are_up_count() {
        let mut view = KernelView::new(100);
        let routes = [
            route("10.0.0.0/24", 0, None, 2),
            route("0.0.0.0/0", 100, Some("10.0.0.254"), 2),
            route("0.0.0.0/0", 200, Some("10.1.0.254"), 3),
        ];
        view.reset(
            vec![link(2, true), link(3, true)],
            BTreeMap::new(),
            routes.into_iter(),
        );
        assert_eq!(
            shown(&view),
            ["0.0.0.0/0 via 10.0.0.254 dev 2", "10.0.0.0/24 dev 2"]
        );
        assert!(view.link(link(2, false)));
        assert!(!view.link(link(2, false)), "nothing new");
        assert_eq!(shown(&view), ["0.0.0.0/0 via 10.1.0.254 dev 3"]);
        assert!(view.link_gone(3));
        assert!(shown(&view).is_empty());
        assert!(view.link(link(2, true)));
        assert_eq!(
            shown(&view),
            ["0.0.0.0/0 via 10.0.0.254 dev 2", "10.0.0.0/24 dev 2"]
        );
    }

    #[test]
    fn nexthop_objects_of_others_are_followed() {
        let mut view = KernelView::new(100);
        let objects = BTreeMap::from([
            (1, Object::Gateway(("10.0.0.1".parse().unwrap(), 2))),
            (2, Object::Gateway(("10.0.0.2".parse().unwrap(), 2))),
            (3, Object::Group(vec![(2, 1), (1, 1)])),
            (4, Object::Link(2)),
        ]);
        let by = |text: &str, id| Route {
            next_hops: vec![],
            object: Some(id),
            ..route(text, 0, None, 2)
        };
        let routes = [
            by("10.1.0.0/16", 1),
            by("10.3.0.0/16", 3),
            by("10.4.0.0/16", 4),
            by("10.5.0.0/16", 5),
        ];
        view.reset(vec![link(2, true)], objects, routes.into_iter());
        assert_eq!(
            shown(&view),
            [
                "10.1.0.0/16 via 10.0.0.1 dev 2",
                "10.3.0.0/16 via 10.0.0.2 dev 2",
                "10.4.0.0/16 dev 2"
            ]
        );
        view.route_gone(&by("10.3.0.0/16", 3));
        assert_eq!(shown(&view).len(), 2);
    }

    #[test]
    fn events_add_replace_and_remove() {
        let mut view = KernelView::new(100);
        view.reset(vec![link(2, true)], BTreeMap::new(), std::iter::empty());
        view.route(route("10.1.0.0/16", 0, Some("10.0.0.1"), 2));
        view.route(Route {
            replaces: true,
            ..route("10.1.0.0/16", 0, Some("10.0.0.2"), 2)
        });
        assert_eq!(shown(&view), ["10.1.0.0/16 via 10.0.0.2 dev 2"]);
        view.route(Route {
            table: 7,
            ..route("10.2.0.0/16", 0, Some("10.0.0.1"), 2)
        });
        assert_eq!(shown(&view).len(), 1, "another table");
        view.route(Route {
            kind: Kind::Reject,
            ..route("10.3.0.0/16", 0, None, 1)
        });
        assert_eq!(shown(&view)[1], "10.3.0.0/16 reject");
        view.route_gone(&route("10.1.0.0/16", 0, Some("10.0.0.2"), 2));
        assert_eq!(shown(&view), ["10.3.0.0/16 reject"]);
        let own = Route {
            table: LOCAL_TABLE,
            kind: Kind::Local,
            ..route("10.0.0.10", 0, None, 2)
        };
        view.route(own.clone());
        assert!(view.next_hops().is_local("10.0.0.10".parse().unwrap()));
        view.route_gone(&own);
        assert!(!view.next_hops().is_local("10.0.0.10".parse().unwrap()));
    }
}
