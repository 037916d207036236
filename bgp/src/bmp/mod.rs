//! BMP (RFC 7854): what peers say, for collectors.
//!
//! What is told is the table of each peer as it is held, that is after the rules of import (the L flag is set): nothing
//! else is kept, and a collector that connects is told all of it. The speaker writes each change once, as octets, into a
//! bounded ring that it never waits for; a collector that does not keep up, or a change that cannot be told as one (routes
//! that a peer did not repeat), makes it connect anew and hear everything again.

mod collector;
mod message;

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use tokio::sync::broadcast;

#[cfg(test)]
pub(crate) use self::collector::split;
pub(crate) use self::collector::{Shared, manage};
use self::message::PeerHead;
use crate::fsm::{Ended, Terms};
use crate::mrt;
use crate::rib::HeldPath;
use crate::wire::{self, Family, Negotiated, Nlri, Update, UpdateOut};

/// Changes that may wait for the slowest collector.
const RING: usize = 8192;

/// Where the speaker tells of changes.
#[derive(Clone, Debug)]
pub(crate) struct Feed(broadcast::Sender<Bytes>);

/// A peer whose session stands, as a collector has to know it.
#[derive(Clone, Debug)]
pub(crate) struct Monitored {
    pub(crate) name: sekisho_config::model::PeerName,
    head: PeerHead,
    up: Bytes,
    negotiated: Negotiated,
    pub(crate) rejected: u64,
    pub(crate) held: u64,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(RING).0)
    }

    fn wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    fn send(&self, messages: Bytes) {
        // Nobody listens: nothing is missed, since whoever comes hears everything.
        let _ = self.0.send(messages);
    }

    /// A change that cannot be told: whoever listens begins anew.
    pub(crate) fn anew(&self) {
        self.send(Bytes::new());
    }

    pub(crate) fn up(&self, peer: Option<&Monitored>) {
        if let Some(peer) = peer.filter(|_| self.wanted()) {
            self.send(peer.up.clone());
        }
    }

    pub(crate) fn down(&self, address: IpAddr, terms: &Terms, ended: &Ended) {
        if self.wanted() {
            self.send(message::peer_down(&head(address, terms), ended));
        }
    }

    /// What was let in of UPDATEs of an established peer.
    pub(crate) fn updates<'a>(
        &self,
        address: IpAddr,
        terms: &Terms,
        updates: impl Iterator<Item = &'a Update>,
    ) {
        if !self.wanted() {
            return;
        }
        let (head, negotiated) = (head(address, terms), negotiated(terms));
        let mut out = BytesMut::new();
        for update in updates {
            let mut put = |what: UpdateOut<'_>| {
                for octets in wire::encode_update(what, &negotiated).into_iter().flatten() {
                    out.extend_from_slice(&message::route_monitoring(&head, &octets));
                }
            };
            if !update.withdrawn.is_empty() {
                put(UpdateOut::Withdraw(&update.withdrawn));
            }
            if let Some(attributes) = &update.attributes {
                let same = |a: &(Nlri, wire::NextHop), b: &(Nlri, wire::NextHop)| {
                    a.1 == b.1 && Family::of(&a.0.prefix) == Family::of(&b.0.prefix)
                };
                for part in update.announced.chunk_by(same) {
                    let prefixes: Vec<_> = part.iter().map(|(nlri, _)| *nlri).collect();
                    if let Some((_, next_hop)) = part.first() {
                        put(UpdateOut::Announce {
                            prefixes: &prefixes,
                            next_hop: *next_hop,
                            attributes,
                        });
                    }
                }
            }
            if let Some(family) = update.end_of_rib {
                put(UpdateOut::EndOfRib(family));
            }
        }
        if !out.is_empty() {
            self.send(out.freeze());
        }
    }
}

fn head(address: IpAddr, terms: &Terms) -> PeerHead {
    PeerHead {
        address,
        asn: terms.asn,
        router_id: terms.router_id,
    }
}

/// As the peer's own UPDATEs are, but always with 4-octet AS numbers.
fn negotiated(terms: &Terms) -> Negotiated {
    Negotiated {
        add_path_send: terms.wire.add_path_receive,
        extended_message_send: terms.wire.extended_message_receive,
        ..mrt::negotiated(terms.wire.internal, false)
    }
}

impl Monitored {
    /// `None`: an OPEN cannot be written.
    pub(crate) fn new(
        name: sekisho_config::model::PeerName,
        address: IpAddr,
        terms: &Terms,
        ends: Option<(SocketAddr, SocketAddr)>,
        (rejected, held): (u64, u64),
    ) -> Option<Self> {
        let head = head(address, terms);
        let (sent, received) = &terms.opens;
        let (sent, received) = (wire::encode_open(sent).ok()?, wire::encode_open(received).ok()?);
        Some(Self {
            name,
            head,
            up: message::peer_up(&head, ends, &sent, &received),
            negotiated: negotiated(terms),
            rejected,
            held,
        })
    }

    /// Paths of this peer, those that share attributes together.
    fn told(&self, paths: &[&HeldPath], out: &mut BytesMut) {
        let same = |a: &&HeldPath, b: &&HeldPath| {
            std::sync::Arc::ptr_eq(&a.attributes, &b.attributes)
                && a.next_hop == b.next_hop
                && a.prefix.is_ipv4() == b.prefix.is_ipv4()
        };
        for part in paths.chunk_by(same) {
            let prefixes: Vec<_> = part
                .iter()
                .map(|path| Nlri {
                    path_id: path.path_id,
                    prefix: path.prefix,
                })
                .collect();
            let Some(first) = part.first() else { continue };
            let what = UpdateOut::Announce {
                prefixes: &prefixes,
                next_hop: first.next_hop,
                attributes: &first.attributes,
            };
            for octets in wire::encode_update(what, &self.negotiated).into_iter().flatten() {
                out.extend_from_slice(&message::route_monitoring(&self.head, &octets));
            }
        }
    }

    fn told_all(&self, out: &mut BytesMut) {
        for family in self.negotiated.families.iter() {
            for octets in wire::encode_update(UpdateOut::EndOfRib(family), &self.negotiated)
                .into_iter()
                .flatten()
            {
                out.extend_from_slice(&message::route_monitoring(&self.head, &octets));
            }
        }
    }
}
