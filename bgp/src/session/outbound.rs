use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use sekisho_config::model::{Asn, PathChange, Prefix};
use tracing::error;

use super::CannotAnnounce;
use crate::policy::rules;
use crate::wire::{
    AsPath, Attributes, EncodeError, Families, Family, Negotiated, NextHop, Nlri, Origin, RouteRefreshKind,
    Segment, UpdateOut, encode_update,
};

/// Prefixes that one turn turns into UPDATEs.
const BATCH: usize = 512;

/// What one peer has been told and what it is to be told: the adjacency-out, diffed into UPDATEs.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    wanted: OrdSet<Prefix>,
    next_hops: NextHops,
    draining: bool,
    changes: OrdMap<Prefix, Arc<PathChange>>,
    session: Option<Standing>,
    announced: BTreeMap<Prefix, NextHop>,
    /// Announced before, to be said again (RFC 2918).
    again: BTreeSet<Prefix>,
    /// Families whose End-of-RIB is still to be sent.
    end_of_rib: Families,
    /// Families whose refresh is to begin, and to end once all is said (RFC 7313).
    refresh_begins: Families,
    refresh_ends: Families,
    /// What [`Self::announced`] or [`Self::withheld`] say may have changed since somebody looked.
    news: bool,
}

/// Messages that say the next part.
#[derive(Debug)]
pub(super) enum Next {
    Updates(Vec<Bytes>),
    /// A ROUTE-REFRESH for each family.
    Refresh(Families, RouteRefreshKind),
}

/// Addresses of ours on the interface towards a peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct NextHops {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    negotiated: Negotiated,
    asn: Asn,
    local: Option<IpAddr>,
}

impl Outbound {
    /// Sets the whole wanted state.
    pub(super) fn want(&mut self, prefixes: OrdSet<Prefix>, next_hops: NextHops, draining: bool) {
        self.wanted = prefixes;
        self.next_hops = next_hops;
        if self.draining != draining {
            self.draining = draining;
            self.again.extend(self.announced.keys().copied());
        }
        self.news = true;
    }

    /// Sets what export rules change; what they changed otherwise is said again.
    pub(super) fn change(&mut self, changes: OrdMap<Prefix, Arc<PathChange>>) {
        if self.changes == changes {
            return;
        }
        let either = self.changes.keys().chain(changes.keys());
        let differ = either.filter(|prefix| self.changes.get(*prefix) != changes.get(*prefix));
        let known = differ.filter(|prefix| self.announced.contains_key(prefix));
        self.again.extend(known.copied());
        self.changes = changes;
    }

    /// A session stands, and its peer knows nothing yet. `local` is our end of the connection.
    pub(super) fn reset(&mut self, negotiated: Negotiated, asn: Asn, local: Option<IpAddr>) {
        self.forget();
        self.end_of_rib = negotiated.families;
        self.session = Some(Standing {
            negotiated,
            asn,
            local,
        });
    }

    /// No session stands.
    pub(super) fn forget(&mut self) {
        self.session = None;
        self.announced.clear();
        self.again.clear();
        self.end_of_rib = Families::NONE;
        self.refresh_begins = Families::NONE;
        self.refresh_ends = Families::NONE;
    }

    /// The peer wants to hear everything of a family again.
    pub(super) fn refresh(&mut self, family: Family) {
        let known = self.announced.keys().filter(|prefix| family_of(prefix) == family);
        self.again.extend(known.copied());
        let enhanced = self
            .session
            .is_some_and(|session| session.negotiated.enhanced_route_refresh);
        // Before its first End-of-RIB a peer hears of no refresh (RFC 7313 section 4).
        if enhanced && !self.end_of_rib.contains(family) {
            self.refresh_begins = self.refresh_begins.with(family);
            self.refresh_ends = self.refresh_ends.with(family);
        } else {
            self.end_of_rib = self.end_of_rib.with(family);
        }
    }

    /// Whether there may be news since the last call.
    pub(super) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What the peer knows, with the next hop.
    pub(super) fn announced(&self) -> &BTreeMap<Prefix, NextHop> {
        &self.announced
    }

    /// Families of which something is wanted that cannot be said.
    pub(super) fn withheld(&self) -> BTreeMap<Family, CannotAnnounce> {
        let wanted = |family: &Family| self.wanted.iter().any(|prefix| family_of(prefix) == *family);
        let mut withheld = BTreeMap::new();
        for family in Family::ALL.into_iter().filter(wanted) {
            if let Some(Err(why)) = self.session.map(|session| self.next_hop(session, family)) {
                withheld.insert(family, why);
            }
        }
        withheld
    }

    /// What to send next, withdrawals first; `None` when the peer knows all it should.
    pub(super) fn next(&mut self) -> Option<Next> {
        let session = self.session?;
        if !self.refresh_begins.is_empty() {
            let families = std::mem::take(&mut self.refresh_begins);
            return Some(Next::Refresh(families, RouteRefreshKind::Begin));
        }
        let messages = self
            .withdrawals(session)
            .or_else(|| {
                Family::ALL
                    .into_iter()
                    .find_map(|family| self.announcements(session, family))
            })
            .or_else(|| self.end_markers(session));
        self.news |= messages.is_some();
        if messages.is_none() && !self.refresh_ends.is_empty() {
            let families = std::mem::take(&mut self.refresh_ends);
            return Some(Next::Refresh(families, RouteRefreshKind::End));
        }
        messages.map(Next::Updates)
    }

    fn withdrawals(&mut self, session: Standing) -> Option<Vec<Bytes>> {
        let gone: Vec<_> = self
            .announced
            .keys()
            .filter(|prefix| {
                !self.wanted.contains(*prefix) || self.next_hop(session, family_of(prefix)).is_err()
            })
            .take(BATCH)
            .copied()
            .collect();
        if gone.is_empty() {
            return None;
        }
        for prefix in &gone {
            self.announced.remove(prefix);
            self.again.remove(prefix);
        }
        Some(written(encode_update(
            UpdateOut::Withdraw(&nlri(&gone)),
            &session.negotiated,
        )))
    }

    fn announcements(&mut self, session: Standing, family: Family) -> Option<Vec<Bytes>> {
        let next_hop = self.next_hop(session, family).ok()?;
        let new = self
            .wanted
            .iter()
            .filter(|prefix| family_of(prefix) == family)
            .filter(|prefix| self.announced.get(prefix) != Some(&next_hop) || self.again.contains(prefix));
        let mut new = new.peekable();
        // One UPDATE has one set of attributes.
        let change = new.peek().and_then(|first| self.changes.get(*first)).cloned();
        let new: Vec<_> = new
            .filter(|prefix| self.changes.get(*prefix) == change.as_ref())
            .take(BATCH)
            .copied()
            .collect();
        if new.is_empty() {
            return None;
        }
        for prefix in &new {
            self.announced.insert(*prefix, next_hop);
            self.again.remove(prefix);
        }
        let what = UpdateOut::Announce {
            prefixes: &nlri(&new),
            next_hop,
            attributes: &attributes(session, self.draining, change.as_deref()),
        };
        Some(written(encode_update(what, &session.negotiated)))
    }

    fn end_markers(&mut self, session: Standing) -> Option<Vec<Bytes>> {
        if self.end_of_rib.is_empty() {
            return None;
        }
        let families = std::mem::take(&mut self.end_of_rib);
        let markers = families
            .iter()
            .filter(|family| session.negotiated.families.contains(*family));
        Some(
            markers
                .flat_map(|family| written(encode_update(UpdateOut::EndOfRib(family), &session.negotiated)))
                .collect(),
        )
    }

    /// Our end of the connection for its own family; an address of ours towards the peer for the other one. Between
    /// link-local addresses a global one goes first where there is one (RFC 2545 section 3).
    fn next_hop(&self, session: Standing, family: Family) -> Result<NextHop, CannotAnnounce> {
        if !session.negotiated.families.contains(family) {
            return Err(CannotAnnounce::FamilyNotAgreed);
        }
        let link_local = match session.local {
            Some(IpAddr::V6(address)) if address.is_unicast_link_local() => Some(address),
            _ => None,
        };
        let own = session.local.filter(|_| link_local.is_none());
        let ipv6 = match own {
            Some(IpAddr::V6(address)) => Some(address),
            _ => self.next_hops.ipv6,
        };
        let ipv6 = match (ipv6, link_local) {
            (Some(address), link_local) => Some(NextHop {
                address: address.into(),
                link_local,
            }),
            (None, Some(link_local)) => Some(plain(link_local.into())),
            (None, None) => None,
        };
        let ipv4 = match own {
            Some(IpAddr::V4(address)) => Some(address),
            _ => self.next_hops.ipv4,
        };
        match family {
            // Without an IPv4 address of ours the IPv6 one leads there as well, if the peer takes it (RFC 8950).
            Family::Ipv4Unicast => ipv4
                .map(|address| plain(address.into()))
                .or_else(|| ipv6.filter(|_| session.negotiated.extended_next_hop_send)),
            Family::Ipv6Unicast => ipv6,
        }
        .ok_or(CannotAnnounce::NoNextHop)
    }
}

fn plain(address: IpAddr) -> NextHop {
    NextHop {
        address,
        link_local: None,
    }
}

fn family_of(prefix: &Prefix) -> Family {
    if prefix.is_ipv4() {
        Family::Ipv4Unicast
    } else {
        Family::Ipv6Unicast
    }
}

fn nlri(prefixes: &[Prefix]) -> Vec<Nlri> {
    let plain = |prefix: &Prefix| Nlri {
        path_id: None,
        prefix: *prefix,
    };
    prefixes.iter().map(plain).collect()
}

/// GRACEFUL_SHUTDOWN (RFC 8326 section 5).
const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;

/// ORIGIN IGP; our AS on the way out of it; LOCAL_PREF inside it: 0, the lowest, for what is about to go.
fn attributes(session: Standing, draining: bool, change: Option<&PathChange>) -> Attributes {
    let internal = session.negotiated.internal;
    let segments = if internal {
        vec![]
    } else {
        vec![Segment::Sequence(vec![session.asn.number()])]
    };
    let local_preference = if draining { 0 } else { 100 };
    let mut attributes = Attributes {
        origin: Origin::Igp,
        as_path: AsPath { segments },
        local_preference: internal.then_some(local_preference),
        communities: draining.then_some(GRACEFUL_SHUTDOWN).into_iter().collect(),
        ..Attributes::default()
    };
    if let Some(change) = change {
        let mut change = change.clone();
        // Nothing is preferred that is about to go.
        change.local_preference = change.local_preference.filter(|_| internal && !draining);
        rules::apply(&change, (!internal).then_some(session.asn), &mut attributes);
    }
    attributes
}

/// An UPDATE of ours always fits; if it ever does not, that is a fault of this program and no reason to fall over.
fn written(result: Result<Vec<Bytes>, EncodeError>) -> Vec<Bytes> {
    result.unwrap_or_else(|fault| {
        error!(error = %fault, "announcement cannot be written; please report this");
        Vec::new()
    })
}
