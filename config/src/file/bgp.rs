use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::path::Path;
use std::time::Duration;

use super::fault::{At, Log, Place, quote};
use super::pass_on;
use super::process::network;
use super::rules::{self, Rules};
use super::session;
use super::table::{Table, listen_address};
use super::transport::{self, bfd, max_prefixes, peer_address, source_address, transport};
use crate::model::{
    Bgp, BgpIdentity, ErrorWait, GracefulRestart, Invalid, Multipath, MultipathRule, Peer, PeerName,
    PeerRange, Prefix, Role, RouterId, Transport,
};

/// `[bgp]` as read: what other sections are checked against, also when parts of it are at fault.
pub(super) struct Read {
    pub(super) listen: Vec<At<SocketAddr>>,
    pub(super) peers: Vec<At<Peer>>,
    ranges: Vec<At<PeerRange>>,
    /// A `[[bgp.peers]]` or `[[bgp.peer_ranges]]` has a fault, so what seems missing may only be misspelt.
    pub(super) incomplete: bool,
    bmp: Vec<SocketAddr>,
    identity: Option<BgpIdentity>,
    install_routes: bool,
    table: u32,
    nexthop_objects: bool,
    multipath: Multipath,
    pod_prefixes: Vec<Prefix>,
    error_wait: ErrorWait,
    discover_pod_prefixes: bool,
}

impl Read {
    /// The section, if nothing that it needs is at fault.
    pub(super) fn finish(self) -> Option<Bgp> {
        Some(Bgp {
            identity: self.identity?,
            listen: self.listen.into_iter().map(|at| at.value).collect(),
            install_routes: self.install_routes,
            table: self.table,
            nexthop_objects: self.nexthop_objects,
            multipath: self.multipath,
            pod_prefixes: self.pod_prefixes,
            error_wait: self.error_wait,
            discover_pod_prefixes: self.discover_pod_prefixes,
            bmp: self.bmp,
            peers: self.peers.into_iter().map(|at| at.value).collect(),
            peer_ranges: self.ranges.into_iter().map(|at| at.value).collect(),
        })
    }

    /// Whether a peer or range has this role.
    pub(super) fn has_role(&self, role: Role) -> bool {
        self.peers.iter().any(|at| at.value.role == role)
            || self.ranges.iter().any(|at| at.value.role == role)
    }

    /// Whether pod routes could come from anywhere.
    pub(super) fn may_learn_routes(&self) -> bool {
        self.incomplete || self.has_role(Role::Cluster)
    }
}

pub(super) fn read(
    table: &Table<'_>,
    peers: &[Table<'_>],
    ranges: &[Table<'_>],
    rules: &Rules,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Read {
    let asn = table.asn("asn");
    let router_id = table.text("router_id", read_router_id);
    let hold_time = match table.duration("hold_time") {
        None => Duration::from_secs(9),
        Some(at) => {
            if at.value.subsec_nanos() != 0 || (1..3).contains(&at.value.as_secs()) {
                let what =
                    "a hold time is whole seconds, and 1 s and 2 s are forbidden (RFC 4271 section 4.2)";
                log.fault(&at.place, what, "write \"0s\" (off) or \"3s\" and more");
            }
            at.value
        }
    };
    let cluster_id = table.text("cluster_id", read_router_id);
    let restart = graceful_restart(table, log);
    let listen = table.list("listen", listen_address).map_or_else(
        || {
            vec![At {
                value: SocketAddr::from(([0, 0, 0, 0], 179)),
                place: table.place_of("listen"),
            }]
        },
        |at| at.value,
    );
    let read_peers: Vec<_> = peers
        .iter()
        .filter_map(|table| peer(table, rules, log, load))
        .collect();
    let read_ranges: Vec<_> = ranges
        .iter()
        .filter_map(|table| range(table, rules, log, load))
        .collect();
    check_peers(&read_peers, log);
    check_ranges(&read_ranges, log);
    check_reachable(&listen, &read_peers, &read_ranges, log);
    transport::check_signed(&read_peers, &read_ranges, log);
    pass_on::check(asn.as_ref().map(|at| at.value), &read_peers, &read_ranges, log);
    session::check(asn.as_ref().map(|at| at.value), &read_peers, &read_ranges, log);
    if peers.is_empty() && ranges.is_empty() {
        log.warn(
            &table.place,
            "no peer and no range: no session will ever come up",
            "add [[bgp.peers]]",
        );
    }
    Read {
        incomplete: read_peers.len() != peers.len()
            || read_ranges.len() != ranges.len()
            || log.has_syntax_faults(),
        bmp: table
            .list("bmp", listen_address)
            .map(|at| at.value.into_iter().map(|at| at.value).collect())
            .unwrap_or_default(),
        listen,
        peers: read_peers,
        ranges: read_ranges,
        identity: asn.zip(router_id).map(|(asn, router_id)| BgpIdentity {
            asn: asn.value,
            router_id: router_id.value,
            hold_time,
            cluster_id: cluster_id.map_or(router_id.value, |at| at.value),
            restart,
        }),
        install_routes: table.bool("install_routes").unwrap_or(true),
        table: kernel_table(table, log),
        discover_pod_prefixes: table.bool("discover_pod_prefixes").unwrap_or(true),
        nexthop_objects: table.bool("nexthop_objects").unwrap_or(true),
        multipath: multipath(table),
        pod_prefixes: table
            .list("pod_prefixes", network)
            .map(|at| at.value.into_iter().map(|at| at.value).collect())
            .unwrap_or_default(),
        error_wait: error_wait(table, log),
    }
}

fn graceful_restart(table: &Table<'_>, log: &Log) -> GracefulRestart {
    let default = GracefulRestart::default();
    let time = table.duration("restart_time").map_or(default.time, |at| {
        if at.value.subsec_nanos() != 0 {
            log.fault(
                &at.place,
                "a restart time is whole seconds (RFC 4724 section 3)",
                "write \"120s\"",
            );
        }
        at.value
    });
    let enabled = table.bool("graceful_restart").unwrap_or(default.enabled);
    if enabled && table.bool("install_routes") == Some(false) {
        log.warn(
            &table.place_of("graceful_restart"),
            "without install_routes nothing stays in the kernel while the process is away, so peers drop the VIPs when it is back",
            "leave out install_routes = false, or graceful_restart",
        );
    }
    GracefulRestart { enabled, time }
}

fn error_wait(table: &Table<'_>, log: &Log) -> ErrorWait {
    let default = ErrorWait::default();
    let first = table.duration("error_wait").map_or(default.first, |at| at.value);
    let most = table.duration("error_wait_max");
    if let Some(at) = most.as_ref().filter(|at| at.value < first) {
        log.fault(
            &at.place,
            "shorter than error_wait, which is the first wait",
            "write a time that is at least as long, or lower error_wait",
        );
    }
    let most = most.map_or_else(|| default.most.max(first), |at| at.value);
    ErrorWait { first, most }
}

fn multipath(table: &Table<'_>) -> Multipath {
    let rule = table.word("multipath").map(|at| at.value);
    Multipath {
        rule: if rule == Some("exact") {
            MultipathRule::Exact
        } else {
            MultipathRule::Relax
        },
        most: table
            .number("max_paths")
            .and_then(|at| NonZeroU8::new(at.value))
            .unwrap_or(Multipath::MOST),
        link_bandwidth: table.bool("link_bandwidth").unwrap_or(false),
    }
}

fn read_router_id(text: &str) -> Result<RouterId, Invalid> {
    let address: Ipv4Addr = text.parse().map_err(|_| {
        Invalid::new(
            format!("{} is not a router id", quote(text)),
            "write an IPv4 address of this box, for example \"192.0.2.10\"",
        )
    })?;
    RouterId::try_from(address)
}

/// `RT_TABLE_MAIN` of the kernel.
const MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`: the kernel's own, where the box's VIPs go.
const LOCAL: u32 = 255;

fn kernel_table(table: &Table<'_>, log: &Log) -> u32 {
    let Some(at) = table.text_or_integer("table") else {
        return MAIN;
    };
    match at.value.as_str() {
        "main" => return MAIN,
        "local" => {}
        text => match text.parse::<u32>() {
            Ok(number) if number != 0 && number != LOCAL => return number,
            Ok(_) => {}
            Err(_) => {
                log.fault(
                    &at.place,
                    format!("{} is not a routing table", quote(text)),
                    "write \"main\" or a number from 1 to 4294967295",
                );
                return MAIN;
            }
        },
    }
    log.fault(
        &at.place,
        format!("table {} belongs to the kernel", quote(&at.value)),
        "write \"main\" or another number",
    );
    MAIN
}

fn role(table: &Table<'_>) -> Option<Role> {
    table.word("role").map(|at| {
        if at.value == "upstream" {
            Role::Upstream
        } else {
            Role::Cluster
        }
    })
}

fn peer(
    table: &Table<'_>,
    rules: &Rules,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<At<Peer>> {
    let address = table.text("address", peer_address);
    let asn = table.peer_as("asn");
    let role = role(table);
    let passive = table.bool("passive").unwrap_or(false);
    let port = table.number("port").map_or(179, |at| at.value);
    let transport = transport(table, log, load);
    let max_prefixes = max_prefixes(table, log);
    let bfd = bfd(table, transport.as_ref(), log, load);
    let import = rules::used(table, "import", role, rules);
    let export = rules::used(table, "export", role, rules);
    let source = source_address(table, address.as_ref().map(|at| at.value.0), log);
    let mut session = session::settings(table, log);
    session.shutdown = session::shutdown(table);
    let name = table.text("name", |text| {
        // `announce_to` takes roles and names from one list of words.
        if matches!(text, "cluster" | "upstream") {
            return Err(Invalid::new(
                format!("{} is a role and cannot name a peer", quote(text)),
                "choose another name",
            ));
        }
        text.parse::<PeerName>()
    });
    if table.has("name") && name.is_none() {
        return None;
    }
    let address = address?;
    let name = name.unwrap_or_else(|| At {
        value: PeerName::from(address.value.0),
        place: address.place.clone(),
    });
    let peer = Peer {
        name: name.value,
        address: address.value.0,
        interface: address.value.1,
        port,
        asn: asn?.value,
        role: role?,
        passive,
        transport: Transport {
            source_address: source?,
            ..transport?
        },
        max_prefixes,
        enforce_first_as: table.bool("enforce_first_as").unwrap_or(true),
        import,
        export,
        pass_on: pass_on::read(table, log),
        session,
        bfd: bfd?,
    };
    // Peers of a range are named by their address: no other may take such a name.
    if peer
        .name
        .as_str()
        .parse::<IpAddr>()
        .is_ok_and(|named| named != peer.address)
    {
        let what = format!(
            "{} is an address, and not the one of this peer",
            quote(peer.name.as_str())
        );
        log.fault(
            &table.place_of("name"),
            what,
            "choose another name, or leave it out",
        );
    }
    if peer.passive && table.has("port") {
        log.warn(
            &table.place_of("port"),
            "the port of a passive peer is never dialled",
            "remove it, or passive = true",
        );
    }
    Some(At {
        value: peer,
        place: table.place.clone(),
    })
}

fn range(
    table: &Table<'_>,
    rules: &Rules,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<At<PeerRange>> {
    let prefix = table.text("prefix", network);
    let asn = table.peer_as("asn");
    let role = role(table);
    let transport = transport(table, log, load);
    let max_prefixes = max_prefixes(table, log);
    let bfd = bfd(table, transport.as_ref(), log, load);
    let import = rules::used(table, "import", role, rules);
    let export = rules::used(table, "export", role, rules);
    Some(At {
        value: PeerRange {
            prefix: prefix?.value,
            asn: asn?.value,
            role: role?,
            transport: transport?,
            max_prefixes,
            enforce_first_as: table.bool("enforce_first_as").unwrap_or(true),
            import,
            export,
            pass_on: pass_on::read(table, log),
            session: session::settings(table, log),
            bfd: bfd?,
        },
        place: table.place.clone(),
    })
}

fn check_peers(peers: &[At<Peer>], log: &Log) {
    let mut names: BTreeMap<&PeerName, &Place> = BTreeMap::new();
    let mut addresses: BTreeMap<IpAddr, &Place> = BTreeMap::new();
    for at in peers {
        let place = |key: &str| Place {
            line: at.place.line,
            key: format!("{}.{key}", at.place.key),
        };
        if let Some(first) = names.insert(&at.value.name, &at.place) {
            let what = format!(
                "{} is the name of {} too (line {})",
                quote(at.value.name.as_str()),
                first.key,
                first.line
            );
            log.fault(&place("name"), what, "give each peer a name of its own");
        }
        if let Some(first) = addresses.insert(at.value.address, &at.place) {
            let what = format!(
                "{} is the address of {} too (line {})",
                at.value.address, first.key, first.line
            );
            log.fault(
                &place("address"),
                what,
                "keep one of them: one session runs between two addresses",
            );
        }
    }
}

/// Warns of neighbours that are only ever accepted, and over whose family nothing listens.
fn check_reachable(listen: &[At<SocketAddr>], peers: &[At<Peer>], ranges: &[At<PeerRange>], log: &Log) {
    let passive = peers.iter().filter(|at| at.value.passive);
    let passive = passive.map(|at| (&at.place, at.value.address.is_ipv4()));
    for (place, ipv4) in passive.chain(ranges.iter().map(|at| (&at.place, at.value.prefix.is_ipv4()))) {
        if !listen.iter().any(|at| at.value.is_ipv4() == ipv4) {
            let (family, any) = if ipv4 {
                ("IPv4", "0.0.0.0:179")
            } else {
                ("IPv6", "[::]:179")
            };
            let what =
                format!("it must dial the box over {family}, and no address of bgp.listen is {family}");
            log.warn(place, what, format!("add \"{any}\" to bgp.listen"));
        }
    }
}

fn check_ranges(ranges: &[At<PeerRange>], log: &Log) {
    for (outer, inner) in overlaps(ranges.iter().map(|at| (at.value.prefix, at)).collect()) {
        let place = Place {
            line: inner.place.line,
            key: format!("{}.prefix", inner.place.key),
        };
        let of = format!(
            "{} of {} (line {})",
            outer.value.prefix, outer.place.key, outer.place.line
        );
        if outer.value.prefix == inner.value.prefix {
            log.fault(
                &place,
                format!("{} is written twice: {of}", inner.value.prefix),
                "keep one of them",
            );
        } else if !same(&outer.value, &inner.value) {
            let what = format!(
                "{} lies in {of}, which has another AS, role or protection",
                inner.value.prefix
            );
            log.fault(&place, what, "make the ranges disjoint");
        } else {
            log.warn(
                &place,
                format!("{} lies in {of}, which says the same", inner.value.prefix),
                "remove the smaller one",
            );
        }
    }
}

/// Whether two ranges differ in their prefix only.
fn same(one: &PeerRange, other: &PeerRange) -> bool {
    let prefix = other.prefix;
    *other
        == PeerRange {
            prefix,
            ..one.clone()
        }
}

/// Pairs of prefixes of which the first covers the second: for each prefix, the nearest one around it (or the first of its equals).
/// Prefixes nest or are disjoint, so a stack over the sorted list finds them without comparing all with all.
pub(super) fn overlaps<T: Copy>(mut prefixes: Vec<(Prefix, T)>) -> Vec<(T, T)> {
    prefixes.sort_by_key(|(prefix, _)| (prefix.address(), prefix.length()));
    let mut around: Vec<(Prefix, T)> = Vec::new();
    let mut pairs = Vec::new();
    for (prefix, item) in prefixes {
        while around.last().is_some_and(|(outer, _)| !outer.covers(&prefix)) {
            around.pop();
        }
        if let Some((same, outer)) = around.last() {
            pairs.push((*outer, item));
            if *same == prefix {
                continue;
            }
        }
        around.push((prefix, item));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_found_without_comparing_all_pairs() {
        let read = |text: &str| {
            text.split_whitespace()
                .map(|p| p.parse::<Prefix>().unwrap())
                .map(|p| (p, p))
                .collect()
        };
        for (input, want) in [
            (
                "10.0.0.0/8 10.1.0.0/16 10.1.2.0/24",
                "10.0.0.0/8>10.1.0.0/16 10.1.0.0/16>10.1.2.0/24",
            ),
            ("10.1.0.0/16 10.2.0.0/16 ::/0", ""),
            (
                "10.1.2.0/24 10.0.0.0/8 11.0.0.0/8 10.9.0.0/16",
                "10.0.0.0/8>10.1.2.0/24 10.0.0.0/8>10.9.0.0/16",
            ),
            ("2001:db8::/64 2001:db8::1/128", "2001:db8::/64>2001:db8::1/128"),
            ("10.0.0.0/8 10.0.0.0/8", "10.0.0.0/8>10.0.0.0/8"),
        ] {
            let got: Vec<String> = overlaps(read(input))
                .iter()
                .map(|(a, b)| format!("{a}>{b}"))
                .collect();
            assert_eq!(got.join(" "), want, "{input}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_prefix_has_an_outer_one_exactly_when_another_covers_it(seeds in proptest::collection::vec((0u32..64, 26u8..=32), 0..12)) {
            let list: Vec<Prefix> = seeds.iter().filter_map(|(a, l)| Prefix::new(Ipv4Addr::from(*a).into(), *l)).collect();
            let found = overlaps(list.iter().enumerate().map(|(i, p)| (*p, i)).collect());
            for i in 0..list.len() {
                for j in 0..i {
                    if list[i].covers(&list[j]) || list[j].covers(&list[i]) {
                        proptest::prop_assert!(found.iter().any(|(_, inner)| *inner == i || *inner == j));
                    }
                }
            }
            for (outer, inner) in found {
                proptest::prop_assert!(list[outer].covers(&list[inner]));
            }
        }
    }
}
