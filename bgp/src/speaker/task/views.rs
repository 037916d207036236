//! What is shown.

use std::net::IpAddr;

use sekisho_config::model::Prefix;
use tokio::time::Instant;

use super::super::Query;
use super::super::peer::Peer;
use super::Speaker;
use crate::announce::PlannedVip;
use crate::bmp::Monitored;
use crate::policy::{RejectedView, reason};
use crate::rib::RouteQuery;
use crate::view::{AnnouncementView, Missing, MissingView, PeerView, VipView};
use crate::wire::Family;

impl Speaker {
    pub(super) fn answer(&self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Peers(answer) => drop(answer.send(self.peer_views())),
            Query::Routes(query, answer) => drop(answer.send(self.rib.routes(&query))),
            Query::Monitored(answer) => drop(answer.send(self.monitored())),
            Query::Prefixes(answer) => drop(answer.send(self.rib.all_prefixes())),
            Query::Held(prefixes, answer) => drop(answer.send(self.rib.held(&prefixes))),
            Query::Count(query, answer) => drop(answer.send(self.rib.count(&query))),
            Query::Rejected(query, answer) => drop(answer.send(self.rejected_views(&query))),
            Query::Vips(answer) => drop(answer.send(self.vip_views())),
            Query::Listeners(answer) => drop(answer.send(self.listeners.views())),
            Query::Finish(_) | Query::Leave(_) => {}
        }
    }

    /// Every peer whose session stands, for collectors.
    fn monitored(&self) -> Vec<Monitored> {
        self.peers
            .values()
            .filter_map(|peer| self.monitor(peer))
            .collect()
    }

    pub(super) fn monitor(&self, peer: &Peer) -> Option<Monitored> {
        let terms = peer.terms.as_ref()?;
        let counts = peer.id.map(|id| self.rib.counts(id)).unwrap_or_default();
        let held = u64::try_from(counts.ipv4.saturating_add(counts.ipv6)).unwrap_or(u64::MAX);
        let (name, ends) = (peer.wanted.name.clone(), peer.shared.lock().ends);
        Monitored::new(
            name,
            peer.wanted.address,
            terms,
            ends,
            (peer.rejected_paths, held),
        )
    }

    fn peer_views(&self) -> Vec<PeerView> {
        let now = Instant::now();
        let view = |peer: &Peer| {
            peer.view(
                peer.id.map(|id| self.rib.counts(id)).unwrap_or_default(),
                self.bgp.identity.asn,
                peer.bfd_view(&self.bfd),
                now,
            )
        };
        let mut views: Vec<_> = self.peers.values().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn rejected_views(&self, query: &RouteQuery) -> Vec<RejectedView> {
        self.peers
            .values()
            .filter(|peer| query.peer.as_ref().is_none_or(|name| *name == peer.wanted.name))
            .flat_map(|peer| peer.rejections.views(&peer.wanted.name, query))
            .take(query.limit)
            .collect()
    }

    fn vip_views(&self) -> Vec<VipView> {
        let view = |(address, planned): (&IpAddr, &PlannedVip)| {
            let prefix = Prefix::host(*address);
            let mut announced_to = Vec::new();
            let mut announcements = Vec::new();
            let mut missing = Vec::new();
            for peer in self
                .peers
                .values()
                .filter(|peer| planned.goes_to(&peer.wanted.name, peer.wanted.role))
            {
                let export = peer.export(&self.bgp.identity, *self.wishes.draining.borrow());
                let advert = match export.vip(&planned.prefix, &planned.set) {
                    Ok(advert) => advert,
                    Err(rule) => {
                        missing.push(MissingView {
                            peer: peer.wanted.name.clone(),
                            why: Missing::ExportRule,
                            text: format!("the export rule {} rejects it{}", rule.name, reason(rule)),
                        });
                        continue;
                    }
                };
                let status = peer.shared.lock();
                if status.announced_vips.contains(&planned.prefix) {
                    announced_to.push(peer.wanted.name.clone());
                    announcements.push(AnnouncementView::new(peer.wanted.name.clone(), &advert));
                    continue;
                }
                let family = if prefix.is_ipv4() {
                    Family::Ipv4Unicast
                } else {
                    Family::Ipv6Unicast
                };
                let why = match (status.terms.is_some(), status.withheld.get(&family)) {
                    (false, _) => Missing::NotEstablished { state: status.state },
                    (true, Some(why)) => Missing::CannotAnnounce { why: *why },
                    (true, None) => Missing::Queued,
                };
                missing.push(MissingView {
                    peer: peer.wanted.name.clone(),
                    why,
                    text: why.to_string(),
                });
            }
            let withheld = planned.announce.as_ref().err().cloned();
            VipView {
                prefix,
                pool: planned.vip.pool.to_string(),
                withheld_text: withheld.as_ref().map(ToString::to_string),
                withheld,
                announced_to,
                announcements,
                missing,
            }
        };
        self.plan.vips.iter().map(view).collect()
    }
}
