//! What a peer or range hears besides VIPs.

use super::fault::{At, Log, Place};
use super::table::Table;
use crate::model::{Asn, PassOn, PassedNextHop, Peer, PeerAs, PeerRange};

pub(super) fn read(table: &Table<'_>, log: &Log) -> PassOn {
    let pods = table.word("reannounce").is_some_and(|at| at.value == "pods");
    let next_hop = table.word("next_hop");
    if let (false, Some(at)) = (pods, &next_hop) {
        log.warn(
            &at.place,
            "it is about what is passed on, and nothing is",
            "write reannounce = \"pods\" too, or remove it; VIPs always have a next hop of the box",
        );
    }
    PassOn {
        pods,
        reflector_client: table.bool("route_reflector_client").unwrap_or(false),
        next_hop: match next_hop.map(|at| at.value) {
            Some("self") => PassedNextHop::Own,
            Some("unchanged") => PassedNextHop::Unchanged,
            _ => PassedNextHop::Usual,
        },
        interval: table
            .duration("advertisement_interval")
            .map(|at| at.value)
            .unwrap_or_default(),
    }
}

/// Reflection is a matter of one AS.
pub(super) fn check(ours: Option<Asn>, peers: &[At<Peer>], ranges: &[At<PeerRange>], log: &Log) {
    let peers = peers
        .iter()
        .map(|at| (&at.place, &at.value.asn, at.value.pass_on));
    let ranges = ranges
        .iter()
        .map(|at| (&at.place, &at.value.asn, at.value.pass_on));
    for (place, asn, pass_on) in peers.chain(ranges) {
        let internal = |ours: Asn| asn.admits(ours, ours) && *asn != PeerAs::External;
        if pass_on.reflector_client && ours.is_some_and(|ours| !internal(ours)) {
            let place = Place {
                line: place.line,
                key: format!("{}.route_reflector_client", place.key),
            };
            log.fault(
                &place,
                "only a peer of our own AS can be a client (RFC 4456)",
                "remove it; to a peer of another AS routes are passed on without it",
            );
        }
    }
}
