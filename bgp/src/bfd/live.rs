use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed,
};

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge};
use serde::Serialize;

use super::machine::Bfd;
use super::packet::{Diagnostic, State};

/// What the BFD thread lets others see of a session.
///
/// Atomics and no lock: whoever reads runs without priority, may be stopped in the middle, and must not keep the thread
/// waiting. Values that are read together may be of two moments; each by itself is right.
#[derive(Debug)]
pub(crate) struct Live {
    state: AtomicU8,
    remote_state: AtomicU8,
    local_diag: AtomicU8,
    remote_diag: AtomicU8,
    /// Diagnostic of the last failure.
    failure_diag: AtomicU8,
    failures: AtomicU64,
    ups: AtomicU64,
    /// Milliseconds since 1970.
    since: AtomicI64,
    tx_interval: AtomicU32,
    detection_time: AtomicU64,
    local_discr: AtomicU32,
    remote_discr: AtomicU32,
    remote_multiplier: AtomicU8,
    remote_independent: AtomicBool,
    /// Of the last attempt to send; 0: it succeeded.
    errno: AtomicI32,
    metrics: SessionMetrics,
}

/// The series of one session.
#[derive(Clone, Debug)]
pub(crate) struct SessionMetrics {
    pub(crate) up: IntGauge,
    pub(crate) failures: IntCounter,
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
}

impl Live {
    pub(crate) fn new(metrics: SessionMetrics) -> Self {
        Self {
            state: AtomicU8::new(State::Down.number()),
            remote_state: AtomicU8::new(State::Down.number()),
            local_diag: AtomicU8::default(),
            remote_diag: AtomicU8::default(),
            failure_diag: AtomicU8::default(),
            failures: AtomicU64::default(),
            ups: AtomicU64::default(),
            since: AtomicI64::new(Timestamp::now().as_millisecond()),
            tx_interval: AtomicU32::default(),
            detection_time: AtomicU64::default(),
            local_discr: AtomicU32::default(),
            remote_discr: AtomicU32::default(),
            remote_multiplier: AtomicU8::default(),
            remote_independent: AtomicBool::default(),
            errno: AtomicI32::default(),
            metrics,
        }
    }

    /// Takes over what `session` is now. Returns whether there is news for the speaker.
    pub(super) fn show(&self, session: &Bfd, local_discr: u32) -> bool {
        let state = session.state().number();
        let before = self.state.swap(state, Relaxed);
        let remote = self.remote_state.swap(session.remote_state().number(), Relaxed);
        if before != state {
            self.since.store(Timestamp::now().as_millisecond(), Relaxed);
            self.metrics.up.set((session.state() == State::Up).into());
            if session.state() == State::Up {
                self.ups.fetch_add(1, Relaxed);
            }
            if before == State::Up.number() {
                self.failure_diag.store(session.local_diag().number(), Relaxed);
            }
        }
        self.local_diag.store(session.local_diag().number(), Relaxed);
        self.remote_diag.store(session.remote_diag().number(), Relaxed);
        self.tx_interval
            .store(session.tx_interval().unwrap_or_default(), Relaxed);
        let detection_time = session.detection_time().as_micros();
        self.detection_time
            .store(u64::try_from(detection_time).unwrap_or(u64::MAX), Relaxed);
        self.local_discr.store(local_discr, Relaxed);
        self.remote_discr.store(session.remote_discr(), Relaxed);
        self.remote_multiplier.store(session.remote_multiplier(), Relaxed);
        self.remote_independent
            .store(session.remote_independent(), Relaxed);
        before != state || remote != session.remote_state().number()
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.metrics.failures.inc();
    }

    pub(super) fn heard(&self) {
        self.metrics.received.inc();
    }

    /// After an attempt to send: the error's number, 0 for none.
    pub(super) fn sent(&self, errno: i32) {
        self.errno.store(errno, Relaxed);
        if errno == 0 {
            self.metrics.sent.inc();
        }
    }

    pub(crate) fn state(&self) -> State {
        State::from_number(self.state.load(Relaxed))
    }

    pub(crate) fn remote_state(&self) -> State {
        State::from_number(self.remote_state.load(Relaxed))
    }

    /// Whether a failure says nothing of the peer's control plane, because its BFD outlives that (C bit).
    pub(crate) fn remote_independent(&self) -> bool {
        self.remote_independent.load(Relaxed)
    }

    /// How often the session was Up and failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Why it last left Up.
    pub(crate) fn failure(&self) -> Diagnostic {
        Diagnostic::from_number(self.failure_diag.load(Relaxed))
    }

    pub(crate) fn errno(&self) -> i32 {
        self.errno.load(Relaxed)
    }

    /// All of it, for people; `error` is what stands in the way.
    pub(crate) fn view(
        &self,
        settings: &sekisho_config::model::Bfd,
        holds: bool,
        error: Option<String>,
    ) -> BfdView {
        let ever_up = self.ups.load(Relaxed) > 0;
        BfdView {
            state: self.state(),
            since: Timestamp::from_millisecond(self.since.load(Relaxed)).unwrap_or_default(),
            remote_state: self.remote_state(),
            multihop: settings.multihop,
            strict: settings.strict,
            holds_session: holds,
            transmit_interval_microseconds: self.tx_interval.load(Relaxed),
            multiplier: settings.multiplier,
            detection_time_microseconds: self.detection_time.load(Relaxed),
            remote_multiplier: self.remote_multiplier.load(Relaxed),
            remote_independent: self.remote_independent(),
            local_discriminator: self.local_discr.load(Relaxed),
            remote_discriminator: self.remote_discr.load(Relaxed),
            ups: self.ups.load(Relaxed),
            failures: self.failures(),
            last_down: (ever_up && self.failure() != Diagnostic::NONE).then(|| self.failure().to_string()),
            remote_diagnostic: Diagnostic::from_number(self.remote_diag.load(Relaxed)).to_string(),
            packets_received: self.metrics.received.get(),
            packets_sent: self.metrics.sent.get(),
            error,
        }
    }
}

/// The BFD session with a peer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct BfdView {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Where the peer says that it is.
    pub remote_state: State,
    /// RFC 5883 instead of RFC 5881.
    pub multihop: bool,
    /// No BGP session without it.
    pub strict: bool,
    /// The BGP session is held back until it is up.
    pub holds_session: bool,
    /// Between two packets of ours, before jitter; 0: the peer wants none.
    pub transmit_interval_microseconds: u32,
    /// Packets of ours that may be lost.
    pub multiplier: u8,
    /// How long the peer may be silent; 0: it has not been heard.
    pub detection_time_microseconds: u64,
    /// Packets of the peer's that may be lost.
    pub remote_multiplier: u8,
    /// Its BFD outlives its control plane (C bit): a failure ends a graceful restart as well.
    pub remote_independent: bool,
    /// Our name of the session.
    pub local_discriminator: u32,
    /// The peer's name of the session; 0: it is not heard.
    pub remote_discriminator: u32,
    /// How often it came up.
    pub ups: u64,
    /// How often it failed.
    pub failures: u64,
    /// Why it was last left, in words.
    pub last_down: Option<String>,
    /// Why the peer says that it last went down.
    pub remote_diagnostic: String,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// What stands in the way on this box.
    pub error: Option<String>,
}
