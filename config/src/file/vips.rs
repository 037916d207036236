use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::bgp;
use super::fault::{At, Log, Place, quote};
use super::process::{ReadListen, label, network};
use super::rules;
use super::table::Table;
use crate::model::{
    AddressPool, AggregateWhen, AnnounceTo, Announcement, Invalid, Peer, Prefix, Role, RuleNextHop,
};

/// A `[[vips]]` pool as read; only made when name and addresses are sound.
pub(super) struct Pool {
    name: At<Arc<str>>,
    addresses: Vec<At<Prefix>>,
    announce_to: Vec<AnnounceTo>,
    announcement: Announcement,
}

impl Pool {
    pub(super) fn finish(self) -> AddressPool {
        AddressPool {
            name: self.name.value,
            addresses: self.addresses.into_iter().map(|at| at.value).collect(),
            announce_to: self.announce_to,
            announcement: self.announcement,
        }
    }
}

pub(super) fn read(tables: &[Table<'_>], bgp: Option<&bgp::Read>, log: &Log) -> Vec<Pool> {
    let pools: Vec<Pool> = tables.iter().filter_map(|table| pool(table, bgp, log)).collect();
    let mut names: BTreeMap<&str, &Place> = BTreeMap::new();
    for pool in &pools {
        if let Some(first) = names.insert(&pool.name.value, &pool.name.place) {
            let what = format!(
                "{} is the name of another pool too (line {})",
                quote(&pool.name.value),
                first.line
            );
            log.fault(&pool.name.place, what, "give each pool a name of its own");
        }
    }
    let addresses = || {
        pools
            .iter()
            .flat_map(|pool| pool.addresses.iter().map(|at| (at.value, at)))
    };
    for (outer, inner) in bgp::overlaps(addresses().collect()) {
        let what = format!(
            "{} overlaps {} of {} (line {})",
            inner.value, outer.value, outer.place.key, outer.place.line
        );
        log.fault(&inner.place, what, "give each address to one pool, once");
    }
    let peers = bgp
        .iter()
        .flat_map(|bgp| &bgp.peers)
        .map(|peer| (peer.value.address, &peer.value.name));
    let peers: BTreeMap<IpAddr, _> = peers.collect();
    for (prefix, at) in addresses() {
        // The first peer at or after the network address is inside, or none is.
        let first = peers.range(prefix.address()..).next();
        if let Some((address, name)) = first.filter(|(address, _)| prefix.contains(**address)) {
            let what = format!(
                "{prefix} holds {address}, the address of the BGP peer {name}: the box would answer for it"
            );
            log.fault(&at.place, what, "leave the addresses of other machines out");
        }
    }
    pools
}

fn pool(table: &Table<'_>, bgp: Option<&bgp::Read>, log: &Log) -> Option<Pool> {
    let name = table.text("name", label);
    let addresses = table.list("addresses", vip_prefix);
    if let Some(at) = &addresses
        && at.value.is_empty()
    {
        log.fault(
            &at.place,
            "no address",
            "write prefixes, for example [\"203.0.113.0/28\"]",
        );
    }
    let words = table.list("announce_to", |text| Ok::<_, Invalid>(text.to_owned()));
    match (&words, bgp) {
        (Some(at), None) if !at.value.is_empty() => {
            log.fault(
                &at.place,
                "there is no [bgp] section, so nothing can be announced",
                "write [], or add [bgp]",
            );
        }
        (None, Some(_)) if !table.has("announce_to") => {
            let instead =
                "write announce_to = [\"upstream\"], or [] if another router has static routes for them";
            log.warn(&table.place, "its addresses are announced to nobody", instead);
        }
        _ => {}
    }
    let mut announce_to = Vec::new();
    if let (Some(words), Some(bgp)) = (words, bgp) {
        announce_to.extend(words.value.iter().filter_map(|word| target(word, bgp, log)));
    }
    let announcement = announcement(table, log);
    Some(Pool {
        announcement,
        name: name?,
        addresses: addresses?.value,
        announce_to,
    })
}

fn announcement(table: &Table<'_>, log: &Log) -> Announcement {
    let aggregate = table.word("announce").is_some_and(|at| at.value == "aggregate");
    let when = table.word("aggregate_while");
    if let (false, Some(at)) = (aggregate, &when) {
        log.warn(
            &at.place,
            "it is about announce = \"aggregate\", which is not written",
            "write that too, or remove it",
        );
    }
    let set = rules::pool_change(table);
    if set.next_hop == Some(RuleNextHop::Unchanged) {
        log.fault(
            &table.place_of("next_hop"),
            "a VIP has no next hop that could stay",
            "write \"self\" or an IP address",
        );
    }
    Announcement {
        set,
        aggregate: aggregate.then(|| match when.map(|at| at.value) {
            Some("all") => AggregateWhen::All,
            _ => AggregateWhen::Any,
        }),
    }
}

/// One word of `announce_to`: the role `upstream`, or the name of a peer that has it.
fn target(word: &At<String>, bgp: &bgp::Read, log: &Log) -> Option<AnnounceTo> {
    const CLUSTER: &str = "write \"upstream\", or the name of a peer whose role is \"upstream\"";
    let text = word.value.as_str();
    if text == "cluster" {
        log.fault(
            &word.place,
            "nothing is ever announced to the nodes of the cluster",
            CLUSTER,
        );
        return None;
    }
    if text == "upstream" {
        if !bgp.has_role(Role::Upstream) && !bgp.incomplete {
            let what = "no peer or range has the role \"upstream\": the addresses are announced to nobody";
            log.warn(
                &word.place,
                what,
                "add the routers above to [[bgp.peers]] with role = \"upstream\"",
            );
        }
        return Some(AnnounceTo::Role(Role::Upstream));
    }
    let named = |peer: &&At<Peer>| peer.value.name.as_str() == text;
    match bgp.peers.iter().find(named).map(|at| &at.value) {
        Some(peer) if peer.role == Role::Upstream => Some(AnnounceTo::Peer(peer.name.clone())),
        Some(_) => {
            log.fault(
                &word.place,
                format!(
                    "peer {} has the role \"cluster\", and nothing is ever announced to it",
                    quote(text)
                ),
                CLUSTER,
            );
            None
        }
        None => {
            if !bgp.incomplete {
                log.fault(
                    &word.place,
                    format!("{} is neither a role nor the name of a peer", quote(text)),
                    CLUSTER,
                );
            }
            None
        }
    }
}

/// A prefix of addresses that can be given out.
fn vip_prefix(text: &str) -> Result<Prefix, Invalid> {
    let prefix = network(text)?;
    let shortest = if prefix.is_ipv4() { 8 } else { 32 };
    if prefix.length() < shortest {
        return Err(Invalid::new(
            format!("{prefix} is too large for a pool"),
            "write /8 or longer for IPv4, /32 or longer for IPv6",
        ));
    }
    let first = prefix.address();
    if first.is_multicast()
        || (first.is_unspecified() && prefix.is_host())
        || matches!(first, IpAddr::V4(a) if a.octets().first() >= Some(&240) || a.octets().first() == Some(&0))
    {
        return Err(Invalid::new(
            format!("{prefix} holds addresses that no machine can have"),
            "write unicast addresses",
        ));
    }
    Ok(prefix)
}

/// Warns of addresses of Ingresses that nobody will announce.
pub(super) fn check_ingress_addresses(listen: &ReadListen, pools: &[Pool], bgp: bool, log: &Log) {
    for at in &listen.ingress_addresses {
        let inside = pools
            .iter()
            .flat_map(|pool| &pool.addresses)
            .any(|prefix| prefix.value.contains(at.value));
        if bgp && !inside {
            let what = format!(
                "{} lies in no [[vips]] pool: it is written to the status of Ingresses and never announced",
                at.value
            );
            log.warn(
                &at.place,
                what,
                "add it to a pool, unless something else leads clients there",
            );
        }
    }
}
