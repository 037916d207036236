use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{Community, PeerName, Prefix};
use serde::Serialize;

use super::attributes_view::MoreAttributes;
use super::decide::{Lost, decide};
use super::paths::Destination;
use super::{Rib, family_of};
use crate::wire::{AsPath, Attributes, Family, Origin, Segment};

/// Which routes are asked for. Conditions are joined by "and".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteQuery {
    /// Routes related to this prefix.
    pub prefix: Option<(Relation, Prefix)>,
    /// Paths from this peer.
    pub peer: Option<PeerName>,
    /// Routes of this family.
    pub family: Option<Family>,
    /// Only the best path of each prefix.
    pub best: bool,
    /// Only prefixes behind this one, in order: the next page.
    pub after: Option<Prefix>,
    /// At most so many paths, and what else the last prefix has, so that a page ends between two prefixes.
    pub limit: usize,
}

/// Paths of one prefix that are shown beyond [`RouteQuery::limit`]; a peer must not fill a page with one prefix.
const LAST_PREFIX: usize = 1000;

/// How much answers a query.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct RouteCount {
    /// Prefixes.
    pub prefixes: usize,
    /// Paths of them.
    pub paths: usize,
}

impl Default for RouteQuery {
    /// Everything, up to 10,000 paths.
    fn default() -> Self {
        Self {
            prefix: None,
            peer: None,
            family: None,
            best: false,
            after: None,
            limit: 10_000,
        }
    }
}

/// How a route's prefix relates to the one asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// The same.
    Exact,
    /// The same or inside it.
    Longer,
    /// The same or around it: what could carry it.
    Covering,
    /// The longest of those around it: what does carry it.
    LongestMatch,
}

/// One path, for people and programs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RouteView {
    /// The prefix.
    pub prefix: Prefix,
    /// Who said so.
    pub peer: PeerName,
    /// Path identifier (RFC 7911).
    pub path_id: Option<u32>,
    /// Next hop as announced.
    pub next_hop: IpAddr,
    /// Outgoing interface, where the next hop is valid.
    pub interface: Option<Arc<str>>,
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, sets in braces; empty for a route of our own AS.
    pub as_path: String,
    /// LOCAL_PREF as compared (100 where none counts).
    pub local_preference: u32,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities `as:value`, large ones `as:value:value`, extended ones `rt:as:value`, `ro:as:value`, `ext:0x…`.
    pub communities: Vec<String>,
    /// Link-local next hop that came beside a global one (RFC 2545).
    pub link_local: Option<std::net::Ipv6Addr>,
    /// The other attributes.
    #[serde(flatten)]
    pub more: MoreAttributes,
    /// Kept from before a restart of the peer.
    pub stale: bool,
    /// The best path of its prefix.
    pub best: bool,
    /// Carries packets: best, or equal to the best (ECMP).
    pub used: bool,
    /// Why it is not the best: the step of the decision with both values.
    pub lost: Option<Lost>,
    /// The same in words.
    pub reason: Option<String>,
}

impl Rib {
    /// Paths that answer a query: prefixes in order (of covering ones the longest first), best path first. It ends with the
    /// prefix that reaches [`RouteQuery::limit`].
    pub fn routes(&self, query: &RouteQuery) -> Vec<RouteView> {
        let mut views = Vec::new();
        for (prefix, destination) in self.asked(query) {
            self.view(prefix, destination, query, &mut views);
            if views.len() >= query.limit {
                break;
            }
        }
        views
    }

    fn asked<'a>(
        &'a self,
        query: &'a RouteQuery,
    ) -> Box<dyn Iterator<Item = (Prefix, &'a Destination)> + 'a> {
        let wanted = move |prefix: &Prefix| {
            query.family.is_none_or(|family| family == family_of(prefix))
                && query.after.is_none_or(|after| *prefix > after)
        };
        // Each prefix gives a row at least: a page of a large table needs no more of them, and no order of the others.
        if query.prefix.is_none() && query.peer.is_none() && !query.best {
            let mut found: Vec<_> = self.table.iter().filter(|(prefix, _)| wanted(prefix)).collect();
            if query.limit < found.len() {
                found.select_nth_unstable_by_key(query.limit, |(prefix, _)| *prefix);
                found.truncate(query.limit);
            }
            found.sort_unstable_by_key(|(prefix, _)| *prefix);
            return Box::new(found.into_iter());
        }
        Box::new(
            self.related(query.prefix)
                .filter(move |(prefix, _)| wanted(prefix)),
        )
    }

    /// How many paths answer a query; its limit does not count.
    pub fn count(&self, query: &RouteQuery) -> RouteCount {
        let peer = query.peer.as_ref().map(|name| self.names.get(name).copied());
        let mut count = RouteCount::default();
        let whole = RouteQuery {
            limit: usize::MAX,
            ..query.clone()
        };
        for (prefix, destination) in self.asked(&whole) {
            let paths = match (peer, query.best) {
                (None, false) => destination.paths.len(),
                (Some(None), _) => return count,
                _ => {
                    let mut views = Vec::new();
                    self.view(prefix, destination, &whole, &mut views);
                    views.len()
                }
            };
            count.prefixes += usize::from(paths > 0);
            count.paths += paths;
        }
        count
    }

    fn related(
        &self,
        prefix: Option<(Relation, Prefix)>,
    ) -> Box<dyn Iterator<Item = (Prefix, &Destination)> + '_> {
        match prefix {
            None => Box::new(self.table.sorted().into_iter()),
            Some((Relation::Exact, prefix)) => {
                Box::new(self.table.get(&prefix).map(|found| (prefix, found)).into_iter())
            }
            Some((Relation::Longer, prefix)) => Box::new(self.table.within(&prefix).into_iter()),
            Some((Relation::Covering, prefix)) => self.table.covering(&prefix),
            Some((Relation::LongestMatch, prefix)) => {
                let covering: Vec<_> = self.table.covering(&prefix).collect();
                // What carries packets is the longest usable one; without any, the longest tells why not.
                let used = covering.iter().find(|(_, found)| found.used > 0).copied();
                Box::new(used.or_else(|| covering.first().copied()).into_iter())
            }
        }
    }

    fn view(
        &self,
        prefix: Prefix,
        destination: &Destination,
        query: &RouteQuery,
        views: &mut Vec<RouteView>,
    ) {
        let candidates = self.judge().candidates(&prefix, destination);
        for place in decide(&candidates, self.local.multipath) {
            let (Some(candidate), Some(path)) =
                (candidates.get(place.index), destination.paths.get(place.index))
            else {
                continue;
            };
            if query.peer.as_ref().is_some_and(|name| name != candidate.peer) {
                continue;
            }
            if query.best && place.lost.is_some() {
                continue;
            }
            if views.len() >= query.limit.saturating_add(LAST_PREFIX) {
                return;
            }
            let Some(source) = self.sources.get(path.source) else {
                continue;
            };
            let Some(hop) = self.hops.key(source.hop) else {
                continue;
            };
            let resolved = self.hops.resolution(source.hop).ok();
            let interface = resolved
                .and_then(|resolved| resolved.gateways.first())
                .and_then(|gateway| self.kernel.links.get(&gateway.interface))
                .cloned();
            let attributes: &Attributes = &source.attributes;
            views.push(RouteView {
                prefix,
                peer: candidate.peer.clone(),
                path_id: candidate.path_id,
                next_hop: hop.address,
                interface,
                origin: attributes.origin,
                as_path: as_path_text(&attributes.as_path),
                local_preference: candidate.local_preference(),
                med: attributes.med,
                communities: communities_text(attributes),
                link_local: hop.link_local,
                more: MoreAttributes::from(attributes),
                stale: path.stale,
                best: place.lost.is_none(),
                used: place.used,
                reason: place.lost.map(|lost| lost.to_string()),
                lost: place.lost,
            });
        }
    }
}

/// An AS_PATH as it is written everywhere.
pub(crate) fn as_path_text(as_path: &AsPath) -> String {
    let mut text = String::new();
    for segment in &as_path.segments {
        let (open, numbers, between, close) = match segment {
            Segment::Sequence(numbers) => ("", numbers, " ", ""),
            Segment::Set(numbers) => ("{", numbers, ",", "}"),
            Segment::ConfedSequence(numbers) => ("(", numbers, " ", ")"),
            Segment::ConfedSet(numbers) => ("[", numbers, ",", "]"),
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(open);
        for (index, number) in numbers.iter().enumerate() {
            if index > 0 {
                text.push_str(between);
            }
            let _ = write!(text, "{number}");
        }
        text.push_str(close);
    }
    text
}

/// Communities of every kind.
pub(crate) fn communities_text(attributes: &Attributes) -> Vec<String> {
    let standard = attributes
        .communities
        .iter()
        .map(|community| format!("{}:{}", community >> 16, community & 0xffff));
    let large = attributes
        .large_communities
        .iter()
        .map(|community| format!("{}:{}:{}", community.0, community.1, community.2));
    let extended = attributes.extended_communities.iter();
    let extended = extended.map(|octets| Community::Extended(*octets).to_string());
    standard.chain(large).chain(extended).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_paths_are_written_as_everywhere() {
        let path = |segments| AsPath { segments };
        for (input, want) in [
            (path(vec![]), ""),
            (
                path(vec![Segment::Sequence(vec![64512, 4_200_000_000])]),
                "64512 4200000000",
            ),
            (
                path(vec![Segment::Sequence(vec![1]), Segment::Set(vec![2, 3])]),
                "1 {2,3}",
            ),
            (
                path(vec![
                    Segment::ConfedSequence(vec![1, 2]),
                    Segment::ConfedSet(vec![3, 4]),
                ]),
                "(1 2) [3,4]",
            ),
        ] {
            assert_eq!(as_path_text(&input), want, "{input:?}");
        }
    }
}
