//! Which endpoint of a pool takes the next request: a pure choice over the pool, the tries so far and a die.

use std::sync::atomic::Ordering;

use sekisho_config::model::Balance;

use crate::snapshot::{CompiledEndpoint, CompiledPool};

/// A small, fast generator (xorshift64*) for choices that need no secrecy; one per worker.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`; any value is good.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 64 well mixed bits.
    pub fn roll(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Multiply-shift: the bias is below 2^-32 for the sizes that occur.
        ((u128::from(self.roll()) * bound as u128) >> 64) as usize
    }
}

/// Picks an eligible endpoint that is not among `tried`; `None` when there is no other.
///
/// Least-request compares the endpoint whose turn it is with one at random and takes the less loaded; equal load goes
/// to the one whose turn it is, so that an idle pool is served evenly, over all workers, and no pod is missed.
pub fn pick<'a>(
    pool: &'a CompiledPool,
    dice: &mut Dice,
    tried: &[std::net::SocketAddr],
) -> Option<&'a CompiledEndpoint> {
    let count = pool.eligible();
    if count == 0 {
        return None;
    }
    if count == 1 && tried.is_empty() {
        return pool.eligible_at(0);
    }
    let turn = pool.state().turn.fetch_add(1, Ordering::Relaxed);
    if count == 1 || !tried.is_empty() {
        return (0..count)
            .filter_map(|step| pool.eligible_at((turn % count + step) % count))
            .find(|candidate| !tried.contains(&candidate.endpoint.address));
    }
    let first = turn % count;
    let mine = pool.eligible_at(first)?;
    if pool.balance() == Balance::RoundRobin {
        return Some(mine);
    }
    // Any of the others, each as likely.
    let second = (first + 1 + dice.below(count - 1)) % count;
    let other = pool.eligible_at(second)?;
    Some(if other.state.in_flight() < mine.state.in_flight() {
        other
    } else {
        mine
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use sekisho_config::model::{
        ClusterPart, Condition, Desired, Endpoint, ObjectName, Observed, Pool, PoolId, Revision, Routing,
        Upstream,
    };

    use super::*;
    use crate::snapshot::{InFlight, Snapshot, compile};

    fn pool(balance: Balance, count: u16) -> Arc<CompiledPool> {
        let endpoints = (0..count)
            .map(|port| Endpoint {
                address: SocketAddr::from(([10, 0, 0, 1], port + 1)),
                pod: None,
                node: None,
                condition: Condition::Ready,
            })
            .collect();
        let id = PoolId {
            service: ObjectName::new("ns", "s"),
            port: 80,
        };
        let pool = Arc::new(Pool {
            id: id.clone(),
            balance,
            upstream: Upstream::default(),
            endpoints,
        });
        let cluster = ClusterPart {
            pools: [(id.clone(), pool)].into_iter().collect(),
            ..ClusterPart::default()
        };
        let desired = Desired {
            cluster: Some(cluster),
            ..Desired::default()
        };
        let snapshot = compile(
            &Snapshot::default(),
            &desired,
            &Observed::default(),
            Routing::Off,
            Revision(1),
        );
        Arc::clone(snapshot.pool(&id).unwrap())
    }

    #[test]
    fn an_idle_pool_is_served_in_turn() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest] {
            let pool = pool(balance, 7);
            let mut dice = Dice::new(1);
            let mut ports: Vec<u16> = (0..7)
                .map(|_| pick(&pool, &mut dice, &[]).unwrap().endpoint.address.port())
                .collect();
            ports.sort_unstable();
            assert_eq!(ports, [1, 2, 3, 4, 5, 6, 7], "{balance:?}");
        }
    }

    /// Of two endpoints, least-request always takes the one with less to do.
    #[test]
    fn the_less_loaded_of_two_wins() {
        let pool = pool(Balance::LeastRequest, 2);
        let _busy = InFlight::enter(&pool.endpoints()[0].state);
        let mut dice = Dice::new(2);
        for _ in 0..20 {
            assert_eq!(pick(&pool, &mut dice, &[]).unwrap().endpoint.address.port(), 2);
        }
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let pool = pool(Balance::LeastRequest, 3);
        let mut dice = Dice::new(3);
        let mut tried = Vec::new();
        while let Some(endpoint) = pick(&pool, &mut dice, &tried) {
            assert!(!tried.contains(&endpoint.endpoint.address));
            tried.push(endpoint.endpoint.address);
        }
        assert_eq!(tried.len(), 3);
        let none = self::pool(Balance::LeastRequest, 0);
        assert!(pick(&none, &mut dice, &[]).is_none());
    }

    #[test]
    fn dice_stay_below_their_bound() {
        let mut dice = Dice::new(0);
        assert_eq!(dice.below(0), 0);
        let mut seen = [0u32; 5];
        for _ in 0..5000 {
            seen[dice.below(5)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
