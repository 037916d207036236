use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use sekisho_config::model::Prefix;
use tokio::time::Instant;
use tracing::error;

use super::CannotAnnounce;
use crate::policy::export::{Advert, Via};
use crate::wire::{
    Attributes, Families, Family, Negotiated, NextHop, Nlri, RouteRefreshKind, UpdateOut, encode_update,
};

/// Paths that one turn turns into UPDATEs: some full messages of one set of attributes.
const BATCH: usize = 2048;

/// Path identifier of a VIP where ADD-PATH is in use (RFC 7911).
const VIP: u32 = 1;
/// Path identifiers of what is passed on begin here; 0 stands for the best path of a prefix without ADD-PATH.
pub(crate) const FIRST_PATH_ID: u32 = 2;

/// What an UPDATE names a path by: prefix and path identifier.
pub(crate) type OutKey = (Prefix, u32);

/// The key of a VIP.
pub(crate) fn vip_key(prefix: Prefix) -> OutKey {
    (prefix, VIP)
}

/// Paths to be told, or told. Persistent: a copy costs a pointer, and what differs between two is found without reading all.
pub(crate) type Adverts = OrdMap<OutKey, Arc<Advert>>;

/// What a peer is to hear: the whole of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// VIPs of this peer.
    pub(crate) vips: Adverts,
    /// What is passed on to it, shared with others that hear the same.
    pub(crate) pods: Adverts,
    /// Addresses of ours towards the peer, for the families in which our end of the connection is no next hop.
    pub(crate) next_hops: NextHops,
    /// Least time between two rounds of announcements.
    pub(crate) interval: Duration,
    /// How many sessions with the peer the speaker had heard of when it said so.
    pub(crate) sessions: u64,
    /// More is to come that the peer had from an earlier process of ours: End-of-RIB waits (RFC 4724 section 4.1).
    pub(crate) unfinished: bool,
}

impl Wanted {
    fn get(&self, key: &OutKey) -> Option<&Arc<Advert>> {
        self.vips.get(key).or_else(|| self.pods.get(key))
    }

    fn keys(&self) -> impl Iterator<Item = &OutKey> {
        self.vips.keys().chain(self.pods.keys())
    }
}

/// What the peer knows of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    attributes: Arc<Attributes>,
    next_hop: NextHop,
}

/// What one peer has been told and what it is to be told: the adjacency-out, diffed into UPDATEs.
///
/// Once a peer knows all it should, what it knows is what is wanted, and that is shared by all that hear the same: thousands of
/// peers that hear thousands of paths cost little each.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    wanted: Wanted,
    session: Option<Standing>,
    /// What was wanted when the peer last knew all of it.
    synced: Wanted,
    /// What the peer has been told since; `None`: withdrawn.
    since: BTreeMap<OutKey, Option<Told>>,
    /// What is wanted and could not be written.
    unsayable: BTreeSet<OutKey>,
    /// Paths that the peer has.
    count: usize,
    /// VIPs that the peer has.
    vips: OrdSet<Prefix>,
    /// What may differ between wanted and announced.
    pending: BTreeSet<OutKey>,
    /// Of these, what is said again although it does not differ (RFC 2918).
    again: BTreeSet<OutKey>,
    /// Announcements wait until then.
    not_before: Option<Instant>,
    /// Something was announced in this round.
    round: bool,
    /// Families whose End-of-RIB is still to be sent.
    end_of_rib: Families,
    /// Families whose refresh is to begin, and to end once all is said (RFC 7313).
    refresh_begins: Families,
    refresh_ends: Families,
    /// What [`Self::count`], [`Self::vips`] or [`Self::withheld`] say may have changed since somebody looked.
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

/// The session that stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) negotiated: Negotiated,
    /// Our end of the connection.
    pub(super) local: Option<IpAddr>,
    /// The peer.
    pub(super) peer: IpAddr,
    pub(super) router_id: Ipv4Addr,
    /// Which session with the peer it is.
    pub(super) number: u64,
    /// Pods are passed on to it: what it is to hear is known once the speaker knows who it is.
    pub(super) pods: bool,
}

impl Outbound {
    /// Sets the whole wanted state.
    pub(super) fn want(&mut self, wanted: Wanted) {
        let old = std::mem::replace(&mut self.wanted, wanted);
        for (old, new) in [(&old.vips, &self.wanted.vips), (&old.pods, &self.wanted.pods)] {
            self.pending.extend(old.diff(new).map(|item| match item {
                DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { old: (key, _), .. } => {
                    *key
                }
            }));
        }
        if old.next_hops != self.wanted.next_hops {
            self.pending.extend(self.wanted.keys().copied());
        }
        self.news = true;
    }

    /// A session stands, and its peer knows nothing yet.
    pub(super) fn reset(&mut self, session: Standing) {
        self.forget();
        self.end_of_rib = session.negotiated.families;
        self.session = Some(session);
        self.pending = self.wanted.keys().copied().collect();
    }

    /// No session stands.
    pub(super) fn forget(&mut self) {
        self.session = None;
        self.synced = Wanted::default();
        self.since.clear();
        self.unsayable.clear();
        self.count = 0;
        self.vips.clear();
        self.pending.clear();
        self.again.clear();
        (self.not_before, self.round) = (None, false);
        self.end_of_rib = Families::NONE;
        self.refresh_begins = Families::NONE;
        self.refresh_ends = Families::NONE;
    }

    /// The peer wants to hear everything of a family again.
    pub(super) fn refresh(&mut self, family: Family) {
        let all = self.synced.keys().chain(self.since.keys());
        let known = all.filter(|(prefix, _)| Family::of(prefix) == family);
        self.again.extend(known.copied());
        self.pending.extend(self.again.iter().copied());
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

    /// How many paths the peer has.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// VIPs that the peer has.
    pub(super) fn vips(&self) -> &OrdSet<Prefix> {
        &self.vips
    }

    /// Whether it keeps nothing by itself of what is wanted.
    #[cfg(test)]
    pub(super) fn is_shared(&self) -> bool {
        self.since.is_empty() && self.synced.same(&self.wanted)
    }

    /// What the peer knows of a path.
    fn told(&self, session: Standing, key: &OutKey) -> Option<Told> {
        if let Some(told) = self.since.get(key) {
            return told.clone();
        }
        if self.unsayable.contains(key) {
            return None;
        }
        told_of(&self.synced, session, key)
    }

    /// When announcements that wait may go on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.pending.is_empty())
    }

    /// Families of which a VIP is wanted that cannot be said.
    pub(super) fn withheld(&self) -> BTreeMap<Family, CannotAnnounce> {
        let wanted = |family: &Family| {
            let mut keys = self.wanted.vips.keys();
            keys.any(|(prefix, _)| Family::of(prefix) == *family)
        };
        let mut withheld = BTreeMap::new();
        for family in Family::ALL.into_iter().filter(wanted) {
            let own = |session| self.wanted.own(session, family);
            if let Some(Err(why)) = self.session.map(own) {
                withheld.insert(family, why);
            }
        }
        withheld
    }

    /// What to send next, withdrawals first; `None` when the peer knows all it should, or has to wait.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        let session = self.session?;
        if !self.refresh_begins.is_empty() {
            let families = std::mem::take(&mut self.refresh_begins);
            return Some(Next::Refresh(families, RouteRefreshKind::Begin));
        }
        let waits = self.not_before.is_some_and(|until| now < until);
        while !self.pending.is_empty() {
            let before = self.pending.len();
            let messages = self.turn(session, waits);
            if !messages.is_empty() {
                self.news = true;
                return Some(Next::Updates(messages));
            }
            if self.pending.len() == before {
                return None;
            }
        }
        if !self.since.is_empty() || !self.synced.same(&self.wanted) {
            self.synced = self.wanted.clone();
            self.since.clear();
        }
        if std::mem::take(&mut self.round) && !self.wanted.interval.is_zero() {
            self.not_before = Some(now + self.wanted.interval);
        }
        if let Some(messages) = self.end_markers(session) {
            self.news = true;
            return Some(Next::Updates(messages));
        }
        if !self.refresh_ends.is_empty() {
            let families = std::mem::take(&mut self.refresh_ends);
            return Some(Next::Refresh(families, RouteRefreshKind::End));
        }
        None
    }

    /// Deals with some of what is pending. While announcements wait they stay there.
    fn turn(&mut self, session: Standing, waits: bool) -> Vec<Bytes> {
        let mut gone = Vec::new();
        let mut new: Vec<(Told, Vec<(OutKey, bool)>)> = Vec::new();
        let mut places: HashMap<(Arc<Attributes>, NextHop, Family), usize> = HashMap::new();
        let mut done = Vec::new();
        for key in &self.pending {
            if done.len() >= BATCH {
                break;
            }
            let known = self.told(session, key);
            match told_of(&self.wanted, session, key) {
                None if known.is_some() => gone.push(*key),
                None => {}
                Some(wanted) if known.as_ref() == Some(&wanted) && !self.again.contains(key) => {}
                Some(_) if waits => continue,
                Some(wanted) => {
                    // One UPDATE has one set of attributes, one next hop and one family.
                    let kind = (
                        Arc::clone(&wanted.attributes),
                        wanted.next_hop,
                        Family::of(&key.0),
                    );
                    let place = *places.entry(kind).or_insert_with(|| {
                        new.push((wanted, Vec::new()));
                        new.len() - 1
                    });
                    if let Some((_, keys)) = new.get_mut(place) {
                        keys.push((*key, known.is_some()));
                    }
                }
            }
            done.push(*key);
        }
        for key in &done {
            self.pending.remove(key);
            self.again.remove(key);
            self.unsayable.remove(key);
        }
        let mut announcements = Vec::new();
        for (told, keys) in new {
            let prefixes: Vec<OutKey> = keys.iter().map(|(key, _)| *key).collect();
            let what = UpdateOut::Announce {
                prefixes: &nlri(&prefixes),
                next_hop: told.next_hop,
                attributes: &told.attributes,
            };
            match encode_update(what, &session.negotiated) {
                Ok(messages) => {
                    announcements.extend(messages);
                    for (key, known) in keys {
                        self.count = self.count.saturating_add(usize::from(!known));
                        if key.1 == VIP {
                            self.vips.insert(key.0);
                        }
                        self.since.insert(key, Some(told.clone()));
                    }
                    self.round = true;
                }
                Err(fault) => {
                    // What cannot be said must not leave what was said before.
                    error!(error = %fault, prefixes = keys.len(), "an announcement cannot be written; what it replaces is withdrawn");
                    self.unsayable.extend(prefixes);
                    gone.extend(keys.into_iter().filter(|(_, known)| *known).map(|(key, _)| key));
                }
            }
        }
        for key in &gone {
            self.since.insert(*key, None);
            self.count = self.count.saturating_sub(1);
            if key.1 == VIP {
                self.vips.remove(&key.0);
            }
        }
        let mut messages = Vec::new();
        if !gone.is_empty() {
            let what = UpdateOut::Withdraw(&nlri(&gone));
            match encode_update(what, &session.negotiated) {
                Ok(withdrawals) => messages.extend(withdrawals),
                Err(fault) => error!(error = %fault, "a withdrawal cannot be written; please report this"),
            }
        }
        messages.extend(announcements);
        messages
    }

    fn end_markers(&mut self, session: Standing) -> Option<Vec<Bytes>> {
        // A peer that restarts lets go of what it has not heard again when the marker comes (RFC 4724).
        let too_early = self.wanted.unfinished || session.pods && self.wanted.sessions < session.number;
        if self.end_of_rib.is_empty() || too_early {
            return None;
        }
        let families = std::mem::take(&mut self.end_of_rib);
        let markers = families.common(session.negotiated.families);
        let written = markers
            .iter()
            .filter_map(|family| encode_update(UpdateOut::EndOfRib(family), &session.negotiated).ok());
        Some(written.flatten().collect())
    }
}

impl Wanted {
    /// The next hop that a path is told with, or that it is not told.
    fn next_hop(
        &self,
        session: Standing,
        prefix: &Prefix,
        advert: &Advert,
    ) -> Result<NextHop, CannotAnnounce> {
        let family = Family::of(prefix);
        // Its own path, said back to it, helps nobody.
        if advert.from == Some(session.peer)
            || advert.attributes.originator_id == Some(session.router_id) && advert.from.is_some()
        {
            return Err(CannotAnnounce::NoNextHop);
        }
        // What came from above or from aside goes to neither (RFC 9234 section 5).
        let roles = session.negotiated.only_to_customer;
        if roles.is_some_and(|roles| !roles.may_send(&advert.attributes)) {
            return Err(CannotAnnounce::NoNextHop);
        }
        let given = match advert.next_hop {
            Via::Own => return self.own(session, family),
            Via::Given(address) => address,
        };
        if !session.negotiated.families.contains(family) {
            return Err(CannotAnnounce::FamilyNotAgreed);
        }
        let fits = match (family, given) {
            (Family::Ipv4Unicast, IpAddr::V4(_)) | (Family::Ipv6Unicast, IpAddr::V6(_)) => true,
            (Family::Ipv4Unicast, IpAddr::V6(_)) => session.negotiated.extended_next_hop_send,
            (Family::Ipv6Unicast, IpAddr::V4(_)) => false,
        };
        let scoped = matches!(given, IpAddr::V6(address) if address.is_unicast_link_local());
        // A peer is not told that it is itself the way (RFC 4271 section 5.1.3), and a link-local address says nothing elsewhere.
        if !fits || scoped || given == session.peer {
            return Err(CannotAnnounce::NoNextHop);
        }
        Ok(plain(given))
    }

    /// Our end of the connection for its own family; an address of ours towards the peer for the other one. Between
    /// link-local addresses a global one goes first where there is one (RFC 2545 section 3).
    fn own(&self, session: Standing, family: Family) -> Result<NextHop, CannotAnnounce> {
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

    /// Whether `other` is the same, without looking into it.
    fn same(&self, other: &Self) -> bool {
        self.vips.ptr_eq(&other.vips) && self.pods.ptr_eq(&other.pods) && self.next_hops == other.next_hops
    }
}

/// What a peer knows of a path that knows all that is wanted.
fn told_of(wanted: &Wanted, session: Standing, key: &OutKey) -> Option<Told> {
    let advert = wanted.get(key)?;
    Some(Told {
        next_hop: wanted.next_hop(session, &key.0, advert).ok()?,
        attributes: Arc::clone(&advert.attributes),
    })
}

fn plain(address: IpAddr) -> NextHop {
    NextHop {
        address,
        link_local: None,
    }
}

fn nlri(keys: &[OutKey]) -> Vec<Nlri> {
    let named = |(prefix, path_id): &OutKey| Nlri {
        path_id: Some(*path_id),
        prefix: *prefix,
    };
    keys.iter().map(named).collect()
}
