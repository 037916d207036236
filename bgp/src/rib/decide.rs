use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use sekisho_config::model::{Multipath, MultipathRule, PeerName, RouterId};
use serde::Serialize;

use crate::wire::{Attributes, Origin, Segment};

/// LOCAL_PREF where none counts: from external peers, or absent.
pub const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// One path of a prefix, as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Whether it is from another AS.
    pub external: bool,
    /// Identifier of the peer.
    pub router_id: RouterId,
    /// Address of the peer.
    pub peer_address: IpAddr,
    /// Name of the peer.
    pub peer: &'a PeerName,
    /// Path identifier.
    pub path_id: Option<u32>,
    /// Cost to the next hop, or why the path takes no part.
    pub cost: Result<u32, Ineligible>,
    /// Whether the next hop is the node that runs the pods of the prefix.
    pub owner: bool,
}

impl Candidate<'_> {
    /// LOCAL_PREF as compared (RFC 4271 section 5.1.5: ignored from external peers).
    pub fn local_preference(&self) -> u32 {
        match self.attributes.local_preference {
            Some(preference) if !self.external => preference,
            _ => DEFAULT_LOCAL_PREFERENCE,
        }
    }

    /// An absent MED is the best (RFC 4271 section 9.1.2.2 c).
    fn med(&self) -> u32 {
        self.attributes.med.unwrap_or(0)
    }

    /// MEDs are compared between paths of one neighbouring AS; our own AS (empty path) is one, too. `None`: the path
    /// starts with a set, so nobody knows the neighbour.
    fn neighbour(&self) -> Option<u32> {
        match self.attributes.as_path.segments.first() {
            None | Some(Segment::ConfedSequence(_) | Segment::ConfedSet(_)) => Some(0),
            Some(Segment::Sequence(_)) => self.attributes.as_path.first(),
            Some(Segment::Set(_)) => None,
        }
    }

    /// ORIGINATOR_ID stands in for the identifier of a reflector (RFC 4456 section 9).
    fn identifier(&self) -> Ipv4Addr {
        self.attributes
            .originator_id
            .unwrap_or_else(|| self.router_id.address())
    }

    fn as_path_length(&self) -> usize {
        self.attributes.as_path.length()
    }

    fn cluster_list_length(&self) -> usize {
        self.attributes.cluster_list.len()
    }
}

/// Why a path takes no part in the decision.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ineligible {
    /// No route of the kernel or of BGP leads to the next hop.
    NextHopUnreachable,
    /// The next hop is an address of the box.
    NextHopIsLocal,
    /// Our AS is in the AS_PATH.
    AsLoop,
    /// ORIGINATOR_ID is ours (RFC 4456 section 8).
    OriginatorLoop,
    /// Our CLUSTER_ID is in the CLUSTER_LIST (RFC 4456 section 8).
    ClusterLoop,
    /// The prefix is of no use outside a host or link (loopback, link-local, multicast, reserved).
    Martian,
    /// The peer is a router above: its routes are shown, never used.
    Upstream,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NextHopUnreachable => "its next hop cannot be reached",
            Self::NextHopIsLocal => "its next hop is this box",
            Self::AsLoop => "our AS is in its AS_PATH",
            Self::OriginatorLoop => "its ORIGINATOR_ID is ours",
            Self::ClusterLoop => "our CLUSTER_ID is in its CLUSTER_LIST",
            Self::Martian => "such a prefix cannot be routed",
            Self::Upstream => "it is from an upstream peer, whose routes are not used",
        })
    }
}

/// Why a path is not the best: the first step of the decision at which a better one was left, in the order of
/// RFC 4271 section 9.1.2.2 with section 9 of RFC 4456.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Lost {
    /// Taken out before the comparison.
    Ineligible {
        /// Why.
        why: Ineligible,
    },
    /// It is kept for a peer that has been away for long (RFC 9494 section 4.3).
    LongLivedStale,
    /// Its next hop is not the node that runs the pods, and another path's is.
    Owner,
    /// Lower LOCAL_PREF.
    LocalPreference {
        /// Of this path.
        have: u32,
        /// Of the better one.
        best: u32,
    },
    /// Longer AS_PATH.
    AsPathLength {
        /// Of this path.
        have: usize,
        /// Of the better one.
        best: usize,
    },
    /// Worse ORIGIN.
    Origin {
        /// Of this path.
        have: Origin,
        /// Of the better one.
        best: Origin,
    },
    /// Higher MED than another path of the same neighbouring AS.
    Med {
        /// Of this path.
        have: u32,
        /// Of the better one.
        best: u32,
    },
    /// Internal, and there is an external one.
    Internal,
    /// Its next hop is farther away.
    Cost {
        /// Of this path.
        have: u32,
        /// Of the better one.
        best: u32,
    },
    /// Equal so far (used for ECMP); higher router identifier.
    RouterId {
        /// Of this path.
        have: Ipv4Addr,
        /// Of the better one.
        best: Ipv4Addr,
    },
    /// Equal so far; longer CLUSTER_LIST.
    ClusterListLength {
        /// Of this path.
        have: usize,
        /// Of the better one.
        best: usize,
    },
    /// Equal so far; higher address of the peer.
    PeerAddress {
        /// Of this path.
        have: IpAddr,
        /// Of the better one.
        best: IpAddr,
    },
    /// Another path of the same peer with a lower path identifier.
    PathId,
}

impl Lost {
    /// Whether the path was equal to the best until the tie-break, so that both carry packets.
    pub fn is_multipath(&self) -> bool {
        matches!(
            self,
            Self::RouterId { .. } | Self::ClusterListLength { .. } | Self::PeerAddress { .. } | Self::PathId
        )
    }

    /// How far the path came: higher is farther.
    fn step(&self) -> u8 {
        match self {
            Self::Ineligible { .. } => 0,
            Self::LongLivedStale => 1,
            Self::Owner => 2,
            Self::LocalPreference { .. } => 3,
            Self::AsPathLength { .. } => 4,
            Self::Origin { .. } => 5,
            Self::Med { .. } => 6,
            Self::Internal => 7,
            Self::Cost { .. } => 8,
            Self::RouterId { .. }
            | Self::ClusterListLength { .. }
            | Self::PeerAddress { .. }
            | Self::PathId => 9,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ineligible { why } => why.fmt(f),
            Self::LongLivedStale => {
                f.write_str("kept for a peer that has been away for long (LLGR_STALE), so the last choice")
            }
            Self::Owner => f.write_str("its next hop is not the node that runs the pods"),
            Self::LocalPreference { have, best } => write!(f, "LOCAL_PREF {have} is lower than {best}"),
            Self::AsPathLength { have, best } => write!(f, "AS_PATH length {have} is longer than {best}"),
            Self::Origin { have, best } => write!(f, "ORIGIN {} is worse than {}", name(*have), name(*best)),
            Self::Med { have, best } => write!(f, "MED {have} is higher than {best} from the same AS"),
            Self::Internal => f.write_str("internal, and an external path exists"),
            Self::Cost { have, best } => write!(f, "next hop is {have} steps away, another {best}"),
            Self::RouterId { have, best } => write!(f, "equal, but router id {have} is higher than {best}"),
            Self::ClusterListLength { have, best } => {
                write!(f, "equal, but CLUSTER_LIST length {have} is longer than {best}")
            }
            Self::PeerAddress { have, best } => {
                write!(f, "equal, but peer address {have} is higher than {best}")
            }
            Self::PathId => {
                f.write_str("equal, but another path of the same peer has a lower path identifier")
            }
        }
    }
}

fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "IGP",
        Origin::Egp => "EGP",
        Origin::Incomplete => "incomplete",
    }
}

/// Place of one path: its index among the candidates and, unless it is the best, why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Index in the slice given to [`decide`].
    pub index: usize,
    /// Why it is not the best.
    pub lost: Option<Lost>,
    /// Whether it carries packets: the best, and those equal to it until the tie-break that [`Multipath`] lets share.
    pub used: bool,
}

/// Orders the paths of one prefix, best first. A function of the set: the order of `candidates` does not matter.
///
/// Each step removes what is worse than the best left, as RFC 4271 section 9.1.2.2 has it; so MEDs are compared within
/// their neighbouring AS whatever came first ("deterministic MED"). The age of a path is no criterion. Paths that lost
/// at a later step stand before those that lost earlier. Without an eligible path none is the best.
pub fn decide(candidates: &[Candidate<'_>], multipath: Multipath) -> Vec<Place> {
    let mut race = Race {
        candidates,
        lost: candidates
            .iter()
            .map(|path| path.cost.err().map(|why| Lost::Ineligible { why }))
            .collect(),
    };
    race.step(
        |path| path.attributes.is_long_lived_stale(),
        |_, _| Lost::LongLivedStale,
    );
    race.step(|path| !path.owner, |_, _| Lost::Owner);
    race.step(
        |path| std::cmp::Reverse(path.local_preference()),
        |have, best| Lost::LocalPreference {
            have: have.0,
            best: best.0,
        },
    );
    race.step(Candidate::as_path_length, |have, best| Lost::AsPathLength {
        have,
        best,
    });
    race.step(
        |path| path.attributes.origin,
        |have, best| Lost::Origin { have, best },
    );
    race.med();
    race.step(|path| !path.external, |_, _| Lost::Internal);
    race.step(
        |path| path.cost.unwrap_or(u32::MAX),
        |have, best| Lost::Cost { have, best },
    );
    race.step(Candidate::identifier, |have, best| Lost::RouterId { have, best });
    race.step(Candidate::cluster_list_length, |have, best| {
        Lost::ClusterListLength { have, best }
    });
    race.step(
        |path| path.peer_address,
        |have, best| Lost::PeerAddress { have, best },
    );
    race.step(|path| (path.path_id, path.peer), |_, _| Lost::PathId);
    race.order(multipath)
}

struct Race<'a> {
    candidates: &'a [Candidate<'a>],
    lost: Vec<Option<Lost>>,
}

impl<'a> Race<'a> {
    /// Removes all paths whose key is greater than the smallest left.
    fn step<K: Copy + Ord>(&mut self, key: impl Fn(&Candidate<'a>) -> K, lost: impl Fn(K, K) -> Lost) {
        let alive = self
            .candidates
            .iter()
            .zip(&self.lost)
            .filter(|(_, lost)| lost.is_none());
        let Some(best) = alive.map(|(path, _)| key(path)).min() else {
            return;
        };
        for (path, state) in self.candidates.iter().zip(&mut self.lost) {
            let have = key(path);
            if state.is_none() && have > best {
                *state = Some(lost(have, best));
            }
        }
    }

    fn med(&mut self) {
        let mut best: BTreeMap<u32, u32> = BTreeMap::new();
        for (path, lost) in self.candidates.iter().zip(&self.lost) {
            if let (None, Some(neighbour)) = (lost, path.neighbour()) {
                let med = best.entry(neighbour).or_insert(u32::MAX);
                *med = path.med().min(*med);
            }
        }
        for (path, state) in self.candidates.iter().zip(&mut self.lost) {
            let have = path.med();
            if state.is_none()
                && let Some(best) = path.neighbour().and_then(|neighbour| best.get(&neighbour))
                && have > *best
            {
                *state = Some(Lost::Med { have, best: *best });
            }
        }
    }

    fn order(self, multipath: Multipath) -> Vec<Place> {
        let mut places: Vec<(Place, &Candidate<'_>)> = self
            .lost
            .into_iter()
            .zip(self.candidates)
            .enumerate()
            .map(|(index, (lost, path))| {
                let used = false;
                (Place { index, lost, used }, path)
            })
            .collect();
        places.sort_by_key(|(place, path)| {
            (
                std::cmp::Reverse(place.lost.map_or(u8::MAX, |lost| lost.step())),
                path.cost.err(),
                (
                    path.attributes.is_long_lived_stale(),
                    !path.owner,
                    std::cmp::Reverse(path.local_preference()),
                ),
                path.as_path_length(),
                path.attributes.origin,
                path.med(),
                !path.external,
                path.cost.unwrap_or(u32::MAX),
                path.identifier(),
                // Tuples are ordered up to twelve fields.
                (
                    path.cluster_list_length(),
                    path.peer_address,
                    path.path_id,
                    path.peer,
                ),
            )
        });
        let best = places.first().map(|(_, path)| *path);
        let mut left = usize::from(multipath.most.get());
        for (place, path) in &mut places {
            let shares = match (place.lost, best) {
                (None, _) => true,
                (Some(lost), Some(best)) if lost.is_multipath() => match multipath.rule {
                    MultipathRule::Relax => true,
                    MultipathRule::Exact => path.attributes.as_path == best.attributes.as_path,
                },
                _ => false,
            };
            place.used = shares && left > 0;
            left -= usize::from(place.used);
        }
        places.into_iter().map(|(place, _)| place).collect()
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
pub(crate) mod tests;
