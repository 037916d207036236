use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{PeerName, Prefix};
use serde::Serialize;

use crate::wire::{Family, Origin};

/// Which routes are asked for. Conditions are joined by "and".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteQuery {
    /// Routes related to this prefix.
    pub prefix: Option<(Relation, Prefix)>,
    /// Paths from this peer.
    pub peer: Option<PeerName>,
    /// Routes of this family.
    pub family: Option<Family>,
    /// At most so many paths.
    pub limit: usize,
}

impl Default for RouteQuery {
    /// Everything, up to 10,000 paths.
    fn default() -> Self {
        Self {
            prefix: None,
            peer: None,
            family: None,
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
    /// Communities `as:value` and large communities `as:value:value`.
    pub communities: Vec<String>,
    /// Kept from before a restart of the peer.
    pub stale: bool,
    /// The best path of its prefix.
    pub best: bool,
    /// Carries packets: best, or equal to the best (ECMP).
    pub used: bool,
    /// Why it is not the best.
    pub reason: Option<String>,
}
