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
