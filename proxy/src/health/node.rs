//! What connections say about the node behind several endpoints: when more than one of them cannot be reached and none
//! answers, the node is failing, and all its endpoints are out together.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sekisho_config::model::NodeName;

use super::bench::Bench;
use crate::balance::hash;
use crate::moment::Moment;

/// Endpoints that cannot be reached without any that answers.
const ENDPOINTS: u32 = 2;
/// Connections to them that were not made.
const FAILURES: u32 = 3;
/// Within this time.
const WITHIN_MS: u64 = 30_000;

/// What stands between the box and an endpoint.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Behind {
    Node(NodeName),
    /// Where the slice names no node.
    NextHop(IpAddr),
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => f.write_str(&node.0),
            Self::NextHop(address) => address.fmt(f),
        }
    }
}

/// The evidence on one node, of all pools and workers.
#[derive(Debug)]
pub struct NodeState {
    behind: Behind,
    pub(crate) bench: Bench,
    /// Endpoints that cannot be reached since the last answer: one bit each, by the hash of the address.
    failing: AtomicU64,
    failures: AtomicU32,
    /// When the first of these failed.
    first: AtomicU64,
}

impl NodeState {
    pub(crate) fn new(behind: Behind) -> Self {
        Self {
            behind,
            bench: Bench::default(),
            failing: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            first: AtomicU64::new(0),
        }
    }

    /// How it stands.
    pub fn standing(&self, now: Moment) -> super::Standing {
        self.bench.standing(now)
    }

    pub(crate) fn behind(&self) -> &Behind {
        &self.behind
    }

    /// An endpoint on it could not be reached. The ejection that follows, if one does.
    pub(crate) fn unreachable(
        &self,
        endpoint: SocketAddr,
        base: Duration,
        now: Moment,
    ) -> Option<(Duration, u32)> {
        if now.raw().saturating_sub(self.first.load(Relaxed)) > WITHIN_MS {
            self.first.store(now.raw(), Relaxed);
            self.failing.store(0, Relaxed);
            self.failures.store(0, Relaxed);
        }
        let bit = 1 << (hash::of_address(endpoint.ip()) % 64);
        let failing = self.failing.fetch_or(bit, Relaxed) | bit;
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        // While it is tried one failure is enough.
        if !self.bench.is_in() || (failing.count_ones() >= ENDPOINTS && failures >= FAILURES) {
            return self.bench.eject(base, now);
        }
        None
    }

    /// An endpoint on it has answered. Whether that brings it back.
    pub(crate) fn answered(&self, now: Moment) -> bool {
        if self.failing.load(Relaxed) != 0 {
            self.failing.store(0, Relaxed);
            self.failures.store(0, Relaxed);
            self.first.store(0, Relaxed);
        }
        !self.bench.is_in() && self.bench.restore(true, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(30);

    fn node() -> NodeState {
        NodeState::new(Behind::Node(NodeName("node-1".into())))
    }

    fn endpoint(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 80))
    }

    #[test]
    fn one_endpoint_is_no_node() {
        let (node, now) = (node(), Moment::from_raw(100_000));
        for _ in 0..50 {
            assert!(node.unreachable(endpoint(1), BASE, now).is_none());
        }
        assert!(node.bench.is_in());
        // A second one is.
        assert_eq!(node.unreachable(endpoint(2), BASE, now), Some((BASE, 1)));
    }

    #[test]
    fn an_answer_from_any_endpoint_is_for_the_node() {
        let (node, now) = (node(), Moment::from_raw(100_000));
        for n in 0..50 {
            assert!(node.unreachable(endpoint(1), BASE, now).is_none());
            assert!(node.unreachable(endpoint(2), BASE, now).is_none(), "{n}");
            assert!(!node.answered(now));
        }
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (node, mut now) = (node(), Moment::from_raw(100_000));
        for n in 0..20 {
            assert!(node.unreachable(endpoint(n), BASE, now).is_none(), "{n}");
            now = now + Duration::from_secs(31);
        }
    }

    #[test]
    fn it_comes_back_with_an_answer_and_goes_with_a_failed_trial() {
        let (node, now) = (node(), Moment::from_raw(100_000));
        let fail = |now| (1..4).find_map(|n| node.unreachable(endpoint(n), BASE, now));
        assert_eq!(fail(now), Some((BASE, 1)));
        let over = now + BASE;
        assert_eq!(node.unreachable(endpoint(1), BASE, over), Some((BASE * 2, 2)));
        assert!(node.answered(over) && node.bench.is_in());
        assert!(!node.answered(over));
    }
}
