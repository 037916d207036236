use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::balance::{Budget, Ewma};
use crate::health::{Bench, Standing};
use crate::moment::Moment;

/// The least share, in thousandths, of an endpoint that starts slowly.
const SLOWEST: u64 = 50;
/// Stands for a slow start that begins with the first request that looks at the endpoint.
const FROM_NOW: u64 = u64::MAX;

/// What changes per request at one endpoint. Carried from snapshot to snapshot.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU32,
    requests: AtomicU64,
    connect_failures: AtomicU64,
    failures: AtomicU64,
    /// Failures without a success since.
    in_a_row: AtomicU32,
    /// When it came, or came back; 0: it was there from the beginning.
    since: AtomicU64,
    pub(crate) bench: Bench,
    pub(crate) cost: Ewma,
}

impl EndpointState {
    /// Requests and TCP connections that are at the endpoint now, from all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests and TCP connections sent to it so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that could not be made.
    pub fn connect_failures(&self) -> u64 {
        self.connect_failures.load(Ordering::Relaxed)
    }

    /// Exchanges that it broke off or did not answer in time.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How it stands by what traffic has shown; its node may stand worse.
    pub fn standing(&self, now: Moment) -> Standing {
        self.bench.standing(now)
    }

    /// The time it takes to the first octet, as peak EWMA sees it; `None`: not measured.
    pub fn first_octet(&self) -> Option<Duration> {
        self.cost.micros().map(Duration::from_micros)
    }

    /// A further failure; gives how many there are in a row.
    pub(crate) fn failed_again(&self) -> u32 {
        self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// A success.
    pub(crate) fn well(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Its slow start begins at `now`.
    pub(crate) fn begin_slowly(&self, now: Moment) {
        self.since.store(now.raw(), Ordering::Relaxed);
    }

    /// Its slow start begins when it is first looked at.
    pub(crate) fn begin_slowly_when_seen(&self) {
        self.since.store(FROM_NOW, Ordering::Relaxed);
    }

    /// Its share, in thousandths, `now` that slow starts last `window` milliseconds.
    pub(crate) fn ramp(&self, window: u64, now: Moment) -> u64 {
        let since = match self.since.load(Ordering::Relaxed) {
            0 => return 1_000,
            FROM_NOW => {
                self.since.store(now.raw(), Ordering::Relaxed);
                return SLOWEST;
            }
            since => since,
        };
        let age = now.raw().saturating_sub(since);
        if age >= window {
            return 1_000;
        }
        (age.saturating_mul(1_000) / window.max(1)).max(SLOWEST)
    }

    /// One more request or connection is there, until [`EndpointState::leave`].
    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connect_failed(&self) {
        self.connect_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection at an endpoint, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<EndpointState>,
    pool: Arc<PoolState>,
}

impl InFlight {
    pub(crate) fn enter(pool: &Arc<PoolState>, endpoint: &Arc<EndpointState>) -> Self {
        endpoint.enter();
        Self {
            endpoint: Arc::clone(endpoint),
            pool: Arc::clone(pool),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.leave();
        self.pool.made_room();
    }
}

/// A place among those that wait for room in a pool.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a PoolState);

impl Waiting<'_> {
    /// Ends when `get` gives something, asked now and whenever there may be room.
    ///
    /// Cancel-safe: yes.
    pub(crate) async fn until<T>(&self, mut get: impl FnMut() -> Option<T>) -> T {
        loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            // From here on no word is missed.
            room.as_mut().enable();
            if let Some(got) = get() {
                return got;
            }
            room.await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request or connection in a pool, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<PoolState>);

impl Place {
    /// One more in the pool, unless there are `most`.
    pub(crate) fn take(state: &Arc<PoolState>, most: u32) -> Option<Self> {
        state.enter(most).then(|| Self(Arc::clone(state)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Upper bounds of the duration histogram in seconds; beyond the last is `+Inf`.
pub(crate) const BUCKETS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0,
];

/// Counters of one pool. Sharded, so that workers do not write the same cache line; carried from snapshot to snapshot.
#[derive(Debug)]
pub struct PoolState {
    /// Whose turn it is, over all workers.
    pub(crate) turn: AtomicUsize,
    /// Requests and connections in the pool, where somebody wants to know ([`super::CompiledPool::counts`]).
    in_flight: AtomicU32,
    /// Requests that wait until there is room, and what tells them.
    waiting: AtomicU32,
    room: Notify,
    pub(crate) budget: Budget,
    ejections: AtomicU64,
    /// When it was last seen how many are ejected, and as the lowest bit what followed.
    panic: AtomicU64,
    shards: Box<[PoolShard]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct PoolShard {
    /// By class: index 0 is "no response", 1 to 5 the hundreds of the status.
    responses: [AtomicU64; 6],
    retries: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    tcp_connections: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum_micros: AtomicU64,
}

/// The counters of one pool, summed over all workers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct PoolTotals {
    /// HTTP responses by class: index 0 is "client left before a response", 1 to 5 the hundreds of the status.
    pub responses: [u64; 6],
    /// Attempts beyond the first.
    pub retries: u64,
    /// Octets from clients.
    pub bytes_in: u64,
    /// Octets to clients.
    pub bytes_out: u64,
    /// TCP connections.
    pub tcp_connections: u64,
    #[serde(skip)]
    pub(crate) buckets: [u64; BUCKETS.len() + 1],
    #[serde(skip)]
    pub(crate) sum_micros: u64,
}

fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(16)
            .next_power_of_two()
    })
}

impl Default for PoolState {
    fn default() -> Self {
        Self {
            turn: AtomicUsize::new(0),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            room: Notify::new(),
            budget: Budget::default(),
            ejections: AtomicU64::new(0),
            panic: AtomicU64::new(0),
            shards: (0..shard_count()).map(|_| PoolShard::default()).collect(),
        }
    }
}

/// What one finished exchange adds to its pool.
pub(crate) struct Finished {
    pub(crate) status: u16,
    pub(crate) retries: u32,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) seconds: f64,
}

/// For how many milliseconds a look at how many are ejected is good.
const LOOK_AGAIN: u64 = 100;

impl PoolState {
    /// Requests and connections in the pool; 0 where nothing depends on it.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// One more, unless there are `most`.
    pub(crate) fn enter(&self, most: u32) -> bool {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= most {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        before < most
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.made_room();
    }

    /// Requests that wait until there is room.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Tells one of those that wait that there may be room.
    pub(crate) fn made_room(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.room.notify_one();
        }
    }

    /// A place among those that wait; `None` when `most` do.
    pub(crate) fn wait(&self, most: u32) -> Option<Waiting<'_>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Waiting(self))
    }

    /// HTTP requests and TCP connections that have ended.
    pub(crate) fn requests(&self) -> u64 {
        self.shards
            .iter()
            .flat_map(|shard| shard.responses.iter().chain([&shard.tcp_connections]))
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }

    /// Ejections of endpoints, and of nodes by requests of this pool.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub(crate) fn ejected(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
        // Whether too many are out is looked at anew.
        self.panic.store(0, Ordering::Relaxed);
    }

    /// What `look` says, or said a moment ago.
    pub(crate) fn panics(&self, now: Moment, look: impl FnOnce() -> bool) -> bool {
        let seen = self.panic.load(Ordering::Relaxed);
        if seen != 0 && now.raw().saturating_sub(seen >> 1) < LOOK_AGAIN {
            return seen & 1 == 1;
        }
        let panics = look();
        self.panic
            .store(now.raw() << 1 | u64::from(panics), Ordering::Relaxed);
        panics
    }

    pub(crate) fn finished(&self, worker: usize, exchange: &Finished) {
        let Some(shard) = self.shards.get(worker & (self.shards.len() - 1)) else {
            return;
        };
        let class = usize::from(exchange.status / 100);
        if let Some(counter) = shard.responses.get(if class > 5 { 0 } else { class }) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if exchange.retries > 0 {
            shard
                .retries
                .fetch_add(exchange.retries.into(), Ordering::Relaxed);
        }
        shard.bytes_in.fetch_add(exchange.bytes_in, Ordering::Relaxed);
        shard.bytes_out.fetch_add(exchange.bytes_out, Ordering::Relaxed);
        let bucket = BUCKETS
            .iter()
            .position(|bound| exchange.seconds <= *bound)
            .unwrap_or(BUCKETS.len());
        if let Some(counter) = shard.buckets.get(bucket) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        shard
            .sum_micros
            .fetch_add((exchange.seconds * 1e6) as u64, Ordering::Relaxed);
    }

    pub(crate) fn tcp_finished(&self, worker: usize, bytes_in: u64, bytes_out: u64) {
        let Some(shard) = self.shards.get(worker & (self.shards.len() - 1)) else {
            return;
        };
        shard.tcp_connections.fetch_add(1, Ordering::Relaxed);
        shard.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        shard.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }

    /// The counters, summed over all workers.
    pub fn totals(&self) -> PoolTotals {
        let mut totals = PoolTotals::default();
        for shard in &self.shards {
            for (sum, counter) in totals.responses.iter_mut().zip(&shard.responses) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, counter) in totals.buckets.iter_mut().zip(&shard.buckets) {
                *sum += counter.load(Ordering::Relaxed);
            }
            totals.retries += shard.retries.load(Ordering::Relaxed);
            totals.bytes_in += shard.bytes_in.load(Ordering::Relaxed);
            totals.bytes_out += shard.bytes_out.load(Ordering::Relaxed);
            totals.tcp_connections += shard.tcp_connections.load(Ordering::Relaxed);
            totals.sum_micros += shard.sum_micros.load(Ordering::Relaxed);
        }
        totals
    }
}
