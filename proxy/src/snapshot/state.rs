use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What changes per request at one endpoint. Carried from snapshot to snapshot.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU32,
    requests: AtomicU64,
    connect_failures: AtomicU64,
    failures: AtomicU64,
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

/// One request or connection at an endpoint, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<EndpointState>);

impl InFlight {
    pub(crate) fn enter(state: &Arc<EndpointState>) -> Self {
        state.enter();
        Self(Arc::clone(state))
    }

    pub(crate) fn state(&self) -> &EndpointState {
        &self.0
    }
}

impl Drop for InFlight {
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

impl PoolState {
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
