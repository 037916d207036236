//! Which endpoint of a pool takes the next request: a choice over the compiled pool, the time, the tries so far and dice.
//!
//! Endpoints that are ejected, full, just starting or tried already are passed over. Two draws are the rule, a few more are
//! made where draws fail, and the whole pool is looked through only when these have failed, too: the price does not grow
//! with the pool unless most of it is out.

pub(crate) mod affinity;
mod budget;
mod dice;
mod ewma;
pub(crate) mod hash;
mod maglev;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use sekisho_config::model::Balance;

pub(crate) use budget::Budget;
pub use dice::Dice;
pub(crate) use ewma::Ewma;
pub use maglev::Table;

use crate::health::{Standing, passive};
use crate::moment::Moment;
use crate::snapshot::{CompiledEndpoint, CompiledPool};

/// Draws until the whole pool is looked through.
const DRAWS: usize = 8;
/// Places of a consistent hash that are looked at, from the client's own one on.
const PLACES: usize = 64;
/// Bounded load: with consistent hashing no endpoint takes more than this many percent of the average.
const BOUND_PERCENT: u64 = 125;

/// Endpoints that were tried for a request already, with the nodes behind them.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    list: Vec<(SocketAddr, usize)>,
}

impl Tried {
    /// Notes an endpoint.
    pub fn add(&mut self, endpoint: &CompiledEndpoint) {
        self.list.push((endpoint.endpoint.address, endpoint.node_id()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn has(&self, endpoint: &CompiledEndpoint) -> bool {
        self.list
            .iter()
            .any(|(address, _)| *address == endpoint.endpoint.address)
    }

    fn has_node_of(&self, endpoint: &CompiledEndpoint) -> bool {
        let node = endpoint.node_id();
        node != 0 && self.list.iter().any(|(_, tried)| *tried == node)
    }
}

/// What is asked of a balancer.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The time.
    pub now: Moment,
    /// For consistent hashing: what stands for the client.
    pub hash: Option<u64>,
    /// The endpoint that the client's cookie names, by its place among the pool's endpoints.
    pub sticky: Option<u32>,
    /// What was tried already.
    pub tried: &'a Tried,
}

/// What a balancer answers.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// This one.
    At(&'a CompiledEndpoint),
    /// Every endpoint has as many requests as it may have.
    Full,
    /// There is no (other) endpoint.
    None,
}

impl<'a> Choice<'a> {
    /// The endpoint, if there is one.
    pub fn endpoint(self) -> Option<&'a CompiledEndpoint> {
        match self {
            Self::At(endpoint) => Some(endpoint),
            Self::Full | Self::None => None,
        }
    }
}

/// Whether a candidate may be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fit {
    Good,
    /// It is out and this request may try whether it is back.
    Trial,
    Out,
    Full,
    Tried,
}

/// Picks an eligible endpoint that was not tried.
///
/// Round robin takes the one whose turn it is, over all workers. Least request compares it with one at random and takes
/// the less loaded; equal load goes to the one whose turn it is, so that an idle pool is served evenly and no pod is
/// missed. Peak EWMA does the same with the time that each takes.
pub fn pick<'a>(pool: &'a CompiledPool, ask: &Ask<'_>, dice: &mut Dice) -> Choice<'a> {
    let turns = pool.turns();
    if turns == 0 {
        return Choice::None;
    }
    let picker = Picker { pool, ask };
    if let Some(endpoint) = picker.sticky() {
        return Choice::At(endpoint);
    }
    if let Some(endpoint) = picker.hashed() {
        return Choice::At(endpoint);
    }
    let mut mine = None;
    for _ in 0..DRAWS {
        // A further try takes nobody's turn, or an endpoint that always fails would have its turn in step with them.
        let turn = if ask.tried.is_empty() {
            pool.state().turn.fetch_add(1, Ordering::Relaxed) % turns
        } else {
            dice.below(turns)
        };
        match picker.draw(turn, dice) {
            Draw::Good(endpoint) => {
                mine = Some((turn, endpoint));
                break;
            }
            Draw::Trial(endpoint) => return Choice::At(endpoint),
            Draw::No => {}
        }
        if turns == 1 {
            break;
        }
    }
    let Some((turn, mine)) = mine else {
        return picker.search(dice.below(turns));
    };
    if pool.balance() == Balance::RoundRobin || turns == 1 {
        return Choice::At(mine);
    }
    for _ in 0..DRAWS {
        // Any of the others, each as likely.
        let other = (turn + 1 + dice.below(turns - 1)) % turns;
        match picker.draw(other, dice) {
            Draw::Good(other) => return Choice::At(picker.better(mine, other)),
            Draw::Trial(endpoint) => return Choice::At(endpoint),
            Draw::No => {}
        }
        if turns == 2 {
            break;
        }
    }
    Choice::At(mine)
}

enum Draw<'a> {
    Good(&'a CompiledEndpoint),
    Trial(&'a CompiledEndpoint),
    No,
}

struct Picker<'a, 'b> {
    pool: &'a CompiledPool,
    ask: &'b Ask<'b>,
}

impl<'a> Picker<'a, '_> {
    fn fit(&self, endpoint: &CompiledEndpoint) -> Fit {
        if self.ask.tried.has(endpoint) {
            return Fit::Tried;
        }
        if let Some(most) = self.pool.policy().limits.per_endpoint
            && endpoint.state.in_flight() >= most.get()
        {
            return Fit::Full;
        }
        match passive::standing(endpoint, self.ask.now) {
            Standing::In => Fit::Good,
            _ if passive::panics(self.pool, self.ask.now) => Fit::Good,
            Standing::Trial => Fit::Trial,
            Standing::Out(_) => Fit::Out,
        }
    }

    /// Whether this request is the one that tries an endpoint, or its node.
    fn claim(&self, endpoint: &CompiledEndpoint) -> bool {
        let now = self.ask.now;
        if !endpoint.state.bench.is_in() {
            return endpoint.state.bench.claim_trial(now);
        }
        endpoint
            .node
            .as_ref()
            .is_some_and(|node| node.bench.claim_trial(now))
    }

    fn draw(&self, turn: usize, dice: &mut Dice) -> Draw<'a> {
        let Some(endpoint) = self.pool.turn_of(turn) else {
            return Draw::No;
        };
        match self.fit(endpoint) {
            Fit::Good => {}
            Fit::Trial if self.claim(endpoint) => return Draw::Trial(endpoint),
            _ => return Draw::No,
        }
        // Rather on another node than where it failed.
        if self.ask.tried.has_node_of(endpoint) {
            return Draw::No;
        }
        let window = self.pool.policy().slow_start;
        if !window.is_zero() {
            let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
            let share = endpoint.state.ramp(window, self.ask.now);
            if share < 1_000 && dice.below(1_000) as u64 >= share {
                return Draw::No;
            }
        }
        Draw::Good(endpoint)
    }

    /// The one of two that is to take the request; the first one where they are alike.
    fn better(&self, mine: &'a CompiledEndpoint, other: &'a CompiledEndpoint) -> &'a CompiledEndpoint {
        let weight = |endpoint: &CompiledEndpoint| u64::from(endpoint.endpoint.weight.get());
        let in_flight = |endpoint: &CompiledEndpoint| endpoint.state.in_flight();
        let less = if self.pool.balance() == Balance::PeakEwma {
            let cost = |endpoint: &CompiledEndpoint| {
                endpoint.state.cost.cost(in_flight(endpoint), self.ask.now) / weight(endpoint) as f64
            };
            cost(other) < cost(mine)
        } else {
            // Shares compared without dividing.
            u64::from(in_flight(other)) * weight(mine) < u64::from(in_flight(mine)) * weight(other)
        };
        if less { other } else { mine }
    }

    /// The endpoint that the client's cookie names.
    fn sticky(&self) -> Option<&'a CompiledEndpoint> {
        let endpoint = self.pool.endpoints().get(self.ask.sticky? as usize)?;
        if endpoint.eligibility.is_err() {
            return None;
        }
        match self.fit(endpoint) {
            Fit::Good => Some(endpoint),
            Fit::Trial if self.claim(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// The endpoint of the client by consistent hashing: the first of its places whose endpoint can take it.
    fn hashed(&self) -> Option<&'a CompiledEndpoint> {
        let (hash, table) = (self.ask.hash?, self.pool.table()?);
        let average = u64::from(self.pool.state().in_flight()) + 1;
        let count = self.pool.eligible() as u64;
        let bound = (average * BOUND_PERCENT).div_ceil(100 * count.max(1)).max(1);
        let mut home = None;
        for step in 0..PLACES {
            let number = table.at(hash, step)?;
            let endpoint = self.pool.eligible_at(number as usize)?;
            match self.fit(endpoint) {
                Fit::Good => {}
                Fit::Trial if self.claim(endpoint) => return Some(endpoint),
                _ => continue,
            }
            if self.ask.tried.has_node_of(endpoint) {
                continue;
            }
            if u64::from(endpoint.state.in_flight()) < bound {
                return Some(endpoint);
            }
            home = home.or(Some(endpoint));
        }
        home
    }

    /// Looks through all, from `start` on, when draws have met nothing: the best that there is.
    fn search(&self, start: usize) -> Choice<'a> {
        let turns = self.pool.turns();
        let all = || (0..turns).filter_map(|step| self.pool.turn_of((start + step) % turns));
        let good = |endpoint: &&CompiledEndpoint| self.fit(endpoint) == Fit::Good;
        let elsewhere = |endpoint: &&CompiledEndpoint| !self.ask.tried.has_node_of(endpoint);
        // Rather an endpoint that is ejected than none at all: it may be back, and a 503 is certain.
        let untried =
            |endpoint: &&CompiledEndpoint| matches!(self.fit(endpoint), Fit::Good | Fit::Trial | Fit::Out);
        let found = all()
            .find(|endpoint| good(endpoint) && elsewhere(endpoint))
            .or_else(|| all().find(good))
            .or_else(|| all().find(untried));
        match found {
            Some(endpoint) => Choice::At(endpoint),
            None if all().any(|endpoint| self.fit(endpoint) == Fit::Full) => Choice::Full,
            None => Choice::None,
        }
    }
}
