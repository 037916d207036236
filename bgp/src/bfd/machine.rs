use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::packet::{Diagnostic, Packet, State};

/// While the session is not Up nobody sends faster than this (RFC 5880 section 6.8.3). Microseconds.
const SLOW: u32 = 1_000_000;

/// What the operator chooses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Timing {
    /// Desired Min TX Interval and Required Min RX Interval, microseconds.
    pub(crate) interval: u32,
    /// Detect Mult.
    pub(crate) multiplier: u8,
}

/// What happens to a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A packet of this session came in.
    Packet(Packet),
    /// The clock has reached [`Bfd::deadline`]; nothing that came in before is unread.
    Deadline,
    /// The clock has reached [`Bfd::deadline`], and there are packets that nobody has looked at: send, expire nothing.
    DeadlineUnread,
    /// The operator chose anew.
    Timing(Timing),
    /// The session is to end; the peer is told until the machine is dropped.
    AdminDown,
}

/// The state machine of one session in asynchronous mode (RFC 5880 section 6.8), without socket, clock or thread.
///
/// [`Bfd::handle`] appends the packets that are to be sent now; [`Bfd::deadline`] says when to come back. The role is
/// active; authentication is the table's; Echo and Demand mode of our own are not offered. Variables have the names of section 6.8.1.
#[derive(Clone, Debug)]
pub(crate) struct Bfd {
    timing: Timing,
    session_state: State,
    remote_session_state: State,
    local_discr: NonZeroU32,
    remote_discr: u32,
    local_diag: Diagnostic,
    remote_diag: Diagnostic,
    desired_min_tx: u32,
    /// What holds until the peer has confirmed a greater [`Self::desired_min_tx`].
    tx_in_force: u32,
    /// The greater of the old and the new Required Min RX until the peer has confirmed the new one.
    rx_in_force: u32,
    remote_min_rx: u32,
    remote_desired_min_tx: u32,
    remote_multiplier: u8,
    remote_demand: bool,
    /// As the peer last said: its BFD outlives its control plane (C bit).
    remote_independent: bool,
    /// A Poll Sequence is running.
    poll: bool,
    /// Something changed while it ran: one more has to follow.
    poll_again: bool,
    last_tx: Option<Instant>,
    next_tx: Option<Instant>,
    last_rx: Option<Instant>,
    /// Of the interval, the part after which the next packet goes, in 1/1024.
    part: u32,
    failures: u64,
    dice: u64,
}

impl Bfd {
    /// A session that begins, with a name that is unique on this machine and hard to guess; `seed` feeds the jitter.
    pub(crate) fn new(now: Instant, timing: Timing, local_discr: NonZeroU32, seed: u64) -> Self {
        let desired_min_tx = timing.interval.max(SLOW);
        let mut session = Self {
            timing,
            session_state: State::Down,
            remote_session_state: State::Down,
            local_discr,
            remote_discr: 0,
            local_diag: Diagnostic::NONE,
            remote_diag: Diagnostic::NONE,
            desired_min_tx,
            tx_in_force: desired_min_tx,
            rx_in_force: timing.interval,
            remote_min_rx: 1,
            remote_desired_min_tx: 0,
            remote_multiplier: 0,
            remote_demand: false,
            remote_independent: false,
            poll: false,
            poll_again: false,
            last_tx: None,
            next_tx: Some(now),
            last_rx: None,
            part: 1024,
            failures: 0,
            dice: seed | 1,
        };
        session.roll();
        session
    }

    pub(crate) fn state(&self) -> State {
        self.session_state
    }

    pub(crate) fn remote_state(&self) -> State {
        self.remote_session_state
    }

    pub(crate) fn local_diag(&self) -> Diagnostic {
        self.local_diag
    }

    pub(crate) fn remote_diag(&self) -> Diagnostic {
        self.remote_diag
    }

    pub(crate) fn remote_discr(&self) -> u32 {
        self.remote_discr
    }

    pub(crate) fn remote_multiplier(&self) -> u8 {
        self.remote_multiplier
    }

    /// Whether the peer's BFD outlives its control plane, as it last said.
    pub(crate) fn remote_independent(&self) -> bool {
        self.remote_independent
    }

    /// How often the session was Up and failed; an AdminDown of either side is no failure (RFC 5882 section 3.2).
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// Microseconds between two packets of ours before jitter; `None`: the peer wants none.
    pub(crate) fn tx_interval(&self) -> Option<u32> {
        let both_up = self.session_state == State::Up && self.remote_session_state == State::Up;
        let silent = self.remote_min_rx == 0 || (self.remote_demand && both_up && !self.poll);
        (!silent).then(|| self.tx_in_force.max(self.remote_min_rx))
    }

    /// How long the peer may be silent (section 6.8.4); zero before anything was heard.
    pub(crate) fn detection_time(&self) -> Duration {
        let interval = self.rx_in_force.max(self.remote_desired_min_tx);
        Duration::from_micros(u64::from(interval) * u64::from(self.remote_multiplier))
    }

    /// When the peer counts as gone.
    pub(crate) fn detect_at(&self) -> Option<Instant> {
        self.last_rx.map(|last| last + self.detection_time())
    }

    /// When [`Event::Deadline`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.next_tx, self.detect_at()) {
            (Some(send), Some(detect)) => Some(send.min(detect)),
            (send, detect) => send.or(detect),
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Packet>) {
        match event {
            Event::Packet(packet) => self.receive(now, &packet, out),
            Event::Deadline => {
                self.expire(now, out);
                self.send_if_due(now, out);
            }
            Event::DeadlineUnread => self.send_if_due(now, out),
            Event::Timing(timing) => self.retime(timing),
            Event::AdminDown => {
                if self.session_state != State::AdminDown {
                    self.local_diag = Diagnostic::ADMINISTRATIVE;
                    self.become_(State::AdminDown);
                    self.send(now, out);
                }
            }
        }
        self.schedule(now);
    }

    /// Section 6.8.6, from where the session is found.
    fn receive(&mut self, now: Instant, packet: &Packet, out: &mut Vec<Packet>) {
        self.remote_discr = packet.my_discriminator.get();
        self.remote_session_state = packet.state;
        self.remote_diag = packet.diagnostic;
        self.remote_demand = packet.demand;
        self.remote_independent = packet.control_plane_independent;
        self.remote_min_rx = packet.required_min_rx;
        self.remote_desired_min_tx = packet.desired_min_tx;
        self.remote_multiplier = packet.multiplier;
        if packet.is_final && self.poll {
            self.end_poll();
        }
        if self.session_state == State::AdminDown {
            return;
        }
        self.last_rx = Some(now);
        let before = self.session_state;
        match (self.session_state, packet.state) {
            (State::Down, State::Down) => self.become_(State::Init),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => self.become_(State::Up),
            (State::Up | State::Init, State::AdminDown) | (State::Up, State::Down) => {
                self.local_diag = Diagnostic::NEIGHBOR_DOWN;
                if before == State::Up && packet.state == State::Down {
                    self.failures = self.failures.saturating_add(1);
                }
                self.become_(State::Down);
            }
            _ => {}
        }
        if packet.poll {
            // Regardless of timers, state and mode; it carries the new state as well.
            out.push(Packet {
                poll: false,
                is_final: true,
                ..self.packet()
            });
        } else if self.session_state != before {
            self.send(now, out);
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if self.detect_at().is_none_or(|at| now < at) {
            return;
        }
        self.last_rx = None;
        self.remote_discr = 0;
        (self.poll, self.poll_again) = (false, false);
        let before = self.session_state;
        if matches!(before, State::Init | State::Up) {
            self.local_diag = Diagnostic::EXPIRED;
            if before == State::Up {
                self.failures = self.failures.saturating_add(1);
            }
            self.become_(State::Down);
            self.send(now, out);
        }
        // Whoever is gone says nothing of what it can take: speak up, or it would never be heard again.
        self.remote_session_state = State::Down;
        self.remote_demand = false;
        self.remote_min_rx = self.remote_min_rx.max(1);
    }

    fn become_(&mut self, state: State) {
        let was_up = self.session_state == State::Up;
        self.session_state = state;
        if state == State::Up || was_up {
            self.retime(self.timing);
        }
        if state == State::Up {
            self.local_diag = Diagnostic::NONE;
        }
    }

    /// Section 6.8.3.
    fn retime(&mut self, timing: Timing) {
        let up = self.session_state == State::Up;
        let desired = if up {
            timing.interval
        } else {
            timing.interval.max(SLOW)
        };
        let changed = desired != self.desired_min_tx || timing.interval != self.timing.interval;
        self.rx_in_force = if up {
            self.rx_in_force.max(timing.interval)
        } else {
            timing.interval
        };
        if !up || desired < self.tx_in_force {
            self.tx_in_force = desired;
        }
        self.desired_min_tx = desired;
        self.timing = timing;
        // Without a peer there is nobody to ask.
        if changed && self.remote_discr != 0 {
            self.poll_again = self.poll;
            self.poll = true;
        }
    }

    fn end_poll(&mut self) {
        if self.poll_again {
            // What was confirmed may be what held before.
            self.poll_again = false;
            return;
        }
        self.poll = false;
        self.tx_in_force = self.desired_min_tx;
        self.rx_in_force = self.timing.interval;
    }

    fn send_if_due(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if self.next_tx.is_some_and(|at| at <= now) {
            self.send(now, out);
        }
    }

    /// A packet outside of a Final: it begins the interval anew.
    fn send(&mut self, now: Instant, out: &mut Vec<Packet>) {
        out.push(self.packet());
        self.last_tx = Some(now);
        self.roll();
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.local_diag,
            state: self.session_state,
            poll: self.poll,
            is_final: false,
            // The same process speaks BGP.
            control_plane_independent: false,
            demand: false,
            multiplier: self.timing.multiplier,
            my_discriminator: self.local_discr,
            your_discriminator: self.remote_discr,
            desired_min_tx: self.desired_min_tx,
            required_min_rx: self.timing.interval,
            required_min_echo_rx: 0,
        }
    }

    /// An interval that changes counts from the last packet (section 6.8.7).
    fn schedule(&mut self, now: Instant) {
        self.next_tx = self.tx_interval().map(|interval| {
            let wait = Duration::from_micros(u64::from(interval) * u64::from(self.part) / 1024);
            self.last_tx.map_or(now, |last| last + wait)
        });
    }

    /// Between 75 and 100 % of the interval, 90 % where one lost packet is one too many (section 6.8.7).
    fn roll(&mut self) {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let spread = if self.timing.multiplier == 1 { 153 } else { 256 };
        self.part = 768 + u32::try_from(self.dice % (spread + 1)).unwrap_or_default();
    }
}
