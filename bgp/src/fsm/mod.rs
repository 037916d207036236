//! The state machine of one peer (RFC 4271 section 8), without socket, clock or task.
//!
//! [`Fsm::handle`] takes an event and the time, and says what to do; [`Fsm::deadline`] says when to come back.
//! One machine looks after both connections that a pair of speakers can open at the same moment and settles which
//! stays (section 6.8), so two sessions with one peer cannot stand.
//!
//! Chosen where the RFC leaves a choice:
//! - An accepted connection is not delayed (no DelayOpen); OPEN is sent at once.
//! - After an error we wait for a time that doubles (DampPeerOscillations), and a peer that comes by itself waits a few
//!   seconds of it; after a connection that merely broke it may come back at once, because that is how a restarted node
//!   returns. Only a session that stands for long makes up for failures.
//! - When the peer confirms a connection that would lose against another one whose OPEN is still to come, the machine
//!   waits a moment for that OPEN. The RFC lets each side then keep a different connection, and both end.
//! - After a restart of ours, an accepted connection is not confirmed while one that we dialed waits for its OPEN. To BIRD an incoming
//!   connection that it sees when a session stands already is another restart, at which it lets go of the paths that it kept for us.
//! - A second connection from a peer that can restart gracefully replaces the session, but only once it has sent an
//!   acceptable OPEN: a port scan must not end a session.

mod event;
mod open;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use event::State;
pub(crate) use event::{Action, Ended, Event, LinkId, Side};
pub(crate) use open::{Identity, LongLived, Restart, Terms};

use crate::error::cease;
use crate::wire::{FrameKind, Message, Notification, Open};

/// Waits that the operator does not set.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    /// Between connection attempts, and the longest that one may take.
    pub(crate) connect_retry: Duration,
    /// First wait after an error; doubles.
    pub(crate) idle_hold: Duration,
    /// Longest wait after an error.
    pub(crate) idle_hold_max: Duration,
    /// How long an OPEN may take to come: "a large value", 4 minutes (RFC 4271 section 8.2.2).
    pub(crate) open_hold: Duration,
    /// The longest wait after an error for a peer that connects by itself.
    pub(crate) accept_hold: Duration,
    /// First wait after a Cease by which the peer says that it does not want us now.
    pub(crate) unwanted_hold: Duration,
    /// A session takes one failure off the count for each such time that it stood.
    pub(crate) calm: Duration,
    /// How long a confirmed connection waits for the OPEN on one that would win.
    pub(crate) collision_wait: Duration,
    /// A session that stood this long may be replaced by a restarted peer.
    pub(crate) steady: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            connect_retry: Duration::from_secs(5),
            idle_hold: Duration::from_secs(1),
            idle_hold_max: Duration::from_secs(60),
            accept_hold: Duration::from_secs(5),
            unwanted_hold: Duration::from_secs(15),
            calm: Duration::from_secs(30),
            open_hold: Duration::from_secs(240),
            collision_wait: Duration::from_secs(2),
            steady: Duration::from_secs(10),
        }
    }
}

/// Failures in a row after which even a peer that merely lost its connection is kept waiting.
const PATIENCE: u32 = 5;

/// The machine.
#[derive(Debug)]
pub(crate) struct Fsm {
    identity: Identity,
    timers: Timers,
    passive: bool,
    dialer: Dialer,
    /// At most two.
    links: Vec<Link>,
    failures: u32,
    /// A session has stood.
    has_stood: bool,
    dice: u64,
    /// What whoever connects is told while the session is not wanted.
    refusal: Notification,
}

/// What we do to get a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dialer {
    /// The session is not wanted.
    Stopped,
    /// Waiting out an error. A peer that connects by itself is let in earlier, or not at all.
    Resting {
        until: Instant,
        accept_from: Option<Instant>,
    },
    /// An attempt is on its way.
    Dialing { until: Instant },
    /// Waiting for the peer, and for the next attempt unless we are passive.
    Waiting { until: Option<Instant> },
}

/// One connection.
#[derive(Debug)]
struct Link {
    id: LinkId,
    side: Side,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    OpenSent { hold_until: Instant },
    OpenConfirm(Agreed),
    Established { agreed: Agreed, since: Instant },
}

#[derive(Clone, Debug)]
struct Agreed {
    terms: Arc<Terms>,
    hold_until: Option<Instant>,
    keepalive_at: Option<Instant>,
    /// In OpenConfirm: we have not confirmed; that comes at `keepalive_at` at the latest.
    unconfirmed: bool,
    /// In OpenConfirm: the peer has confirmed, but another connection may win; no longer waited for than until then.
    confirmed_until: Option<Instant>,
}

impl Link {
    fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent { .. } => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    fn agreed_mut(&mut self) -> Option<&mut Agreed> {
        match &mut self.phase {
            Phase::OpenSent { .. } => None,
            Phase::OpenConfirm(agreed) | Phase::Established { agreed, .. } => Some(agreed),
        }
    }

    fn hold_until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::OpenSent { hold_until } => Some(*hold_until),
            Phase::OpenConfirm(agreed) | Phase::Established { agreed, .. } => agreed.hold_until,
        }
    }

    fn keepalive_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::OpenSent { .. } => None,
            Phase::OpenConfirm(agreed) | Phase::Established { agreed, .. } => agreed.keepalive_at,
        }
    }

    fn confirmed_until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::OpenConfirm(agreed) => agreed.confirmed_until,
            _ => None,
        }
    }

    fn is_unconfirmed(&self) -> bool {
        matches!(&self.phase, Phase::OpenConfirm(agreed) if agreed.unconfirmed)
    }

    fn established_for(&self, now: Instant) -> Option<Duration> {
        match &self.phase {
            Phase::Established { since, .. } => Some(now.saturating_duration_since(*since)),
            _ => None,
        }
    }

    /// Whether the session on it may be taken over by a new connection of the peer.
    fn replaceable(&self, now: Instant, steady: Duration) -> bool {
        matches!(&self.phase, Phase::Established { agreed, .. } if agreed.terms.can_restart())
            && self.established_for(now).is_some_and(|age| age >= steady)
    }
}

impl Fsm {
    /// A machine in Idle. `seed` feeds the jitter of its timers.
    pub(crate) fn new(identity: Identity, passive: bool, timers: Timers, seed: u64) -> Self {
        Self {
            identity,
            timers,
            passive,
            dialer: Dialer::Stopped,
            links: Vec::with_capacity(2),
            failures: 0,
            has_stood: false,
            dice: seed | 1,
            refusal: Notification::cease(cease::REJECTED),
        }
    }

    /// State of the peer.
    pub(crate) fn state(&self) -> State {
        let furthest = self.links.iter().map(Link::state).max();
        furthest.unwrap_or(match self.dialer {
            Dialer::Stopped | Dialer::Resting { .. } => State::Idle,
            Dialer::Dialing { .. } => State::Connect,
            Dialer::Waiting { .. } => State::Active,
        })
    }

    /// When [`Event::Deadline`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let dialer = match self.dialer {
            Dialer::Stopped => None,
            Dialer::Resting { until, .. } | Dialer::Dialing { until } => Some(until),
            Dialer::Waiting { until } => until,
        };
        let links = self
            .links
            .iter()
            .flat_map(|link| [link.hold_until(), link.keepalive_at(), link.confirmed_until()]);
        links.chain([dialer]).flatten().min()
    }

    /// Folds one event and appends what is to be done. Events of connections that are closed are ignored.
    pub(crate) fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Start if self.dialer == Dialer::Stopped => {
                self.failures = 0;
                self.dial(now, out);
            }
            Event::Start => {}
            Event::Stop(notification) => {
                self.end_all(&notification, out);
                self.dialer = Dialer::Stopped;
                // A peer that is shut down may know why; of one that is gone there is nothing to say.
                self.refusal = match notification.subcode {
                    cease::SHUTDOWN => notification,
                    _ => Notification::cease(cease::REJECTED),
                };
            }
            Event::Leave(notification) => {
                self.leave(&notification, out);
                self.dialer = Dialer::Stopped;
            }
            Event::Reset {
                notification,
                hold_off,
            } => {
                if self.dialer != Dialer::Stopped {
                    self.end_all(&notification, out);
                    self.dialer = Dialer::Resting {
                        until: now + hold_off,
                        accept_from: None,
                    };
                }
            }
            Event::Deadline => self.expire(now, out),
            Event::Connected(id, side) => self.connected(now, id, side, out),
            Event::DialFailed => {
                if let Dialer::Dialing { .. } = self.dialer {
                    self.wait(now);
                    self.confirm_overdue(now, out);
                }
            }
            Event::Message(id, message) => self.message(now, id, message, out),
            Event::Malformed(id, kind, notification) => self.malformed(now, id, kind, notification, out),
            Event::Stalled(id) => self.refuse(now, id, Notification::send_hold_timer_expired(), out),
            Event::Lost(id, why) => self.fail(now, id, Ended::Lost(why), out),
            Event::Busy(id) => self.heard(now, id),
        }
    }

    fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// `time` less up to a quarter (RFC 4271 section 10).
    fn jitter(&mut self, time: Duration) -> Duration {
        // xorshift64: spreads peers apart, nothing more is asked of it.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let parts = u32::try_from(self.dice % 257).unwrap_or_default();
        time - time / 1024 * parts
    }

    fn dial(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.passive {
            self.dialer = Dialer::Waiting { until: None };
            return;
        }
        self.dialer = Dialer::Dialing {
            until: now + self.timers.connect_retry,
        };
        out.push(Action::Dial);
    }

    /// Leaves dialing to a later time.
    fn wait(&mut self, now: Instant) {
        let until = (!self.passive).then(|| now + self.jitter(self.timers.connect_retry));
        self.dialer = Dialer::Waiting { until };
    }

    fn stop_dial(&self, out: &mut Vec<Action>) {
        if let Dialer::Dialing { .. } = self.dialer {
            out.push(Action::StopDial);
        }
    }

    fn connected(&mut self, now: Instant, id: LinkId, side: Side, out: &mut Vec<Action>) {
        if let Err(subcode) = self.admit(now, side, out) {
            let refusal = match (self.dialer, side) {
                (Dialer::Stopped, Side::Accepted) => self.refusal.clone(),
                _ => Notification::cease(subcode),
            };
            out.push(Action::Send(id, Message::Notification(refusal)));
            out.push(Action::Close(id));
            return;
        }
        match (side, self.dialer) {
            (Side::Dialed, _) | (_, Dialer::Resting { .. }) => self.wait(now),
            _ => {}
        }
        self.links.push(Link {
            id,
            side,
            phase: Phase::OpenSent {
                hold_until: now + self.timers.open_hold,
            },
        });
        out.push(Action::Send(id, Message::Open(self.our_open(now))));
    }

    /// Makes room for a new connection, or says with which Cease subcode to refuse it.
    fn admit(&mut self, now: Instant, side: Side, out: &mut Vec<Action>) -> Result<(), u8> {
        let wanted = match (side, self.dialer) {
            (Side::Dialed, dialer) => matches!(dialer, Dialer::Dialing { .. }),
            (Side::Accepted, Dialer::Stopped) => false,
            (Side::Accepted, Dialer::Resting { accept_from, .. }) => {
                accept_from.is_some_and(|from| from <= now)
            }
            (Side::Accepted, Dialer::Dialing { .. } | Dialer::Waiting { .. }) => true,
        };
        if !wanted {
            return Err(cease::REJECTED);
        }
        let steady = self.timers.steady;
        let standing = self.links.iter().find(|link| link.state() == State::Established);
        match standing {
            Some(link) if side == Side::Dialed || !link.replaceable(now, steady) => {
                return Err(cease::COLLISION);
            }
            _ => {}
        }
        // A peer that connects twice has given up the first connection, as long as it has said nothing on it.
        let rivals: Vec<_> = self
            .links
            .iter()
            .filter(|link| link.side == side && link.state() != State::Established)
            .map(|link| (link.id, link.state()))
            .collect();
        for (rival, state) in rivals {
            if state != State::OpenSent {
                return Err(cease::COLLISION);
            }
            self.close(rival, Some(Notification::cease(cease::COLLISION)), out);
        }
        // A session and one challenger, never more.
        if self.links.len() >= 2 {
            return Err(cease::COLLISION);
        }
        Ok(())
    }

    fn message(&mut self, now: Instant, id: LinkId, message: Message, out: &mut Vec<Action>) {
        let Some(state) = self.link_mut(id).map(|link| link.state()) else {
            return;
        };
        match (state, message) {
            (_, Message::Notification(notification)) => {
                self.fail(now, id, Ended::Received(notification), out)
            }
            (State::OpenSent, Message::Open(open)) => match self.identity.negotiate(&open) {
                Ok(mut terms) => {
                    terms.opens.0 = self.our_open(now);
                    self.opened(now, id, terms, out);
                }
                Err(notification) => self.refuse(now, id, notification, out),
            },
            (State::OpenConfirm, Message::Keepalive) => self.confirmed(now, id, out),
            // An UPDATE says that for the peer the session stands on this connection.
            (State::OpenConfirm, message @ Message::Update(_)) if self.is_confirmed(id) => {
                self.establish(now, id, out);
                out.push(Action::Deliver(message));
            }
            (State::Established, Message::Keepalive) => self.heard(now, id),
            (State::Established, message @ (Message::Update(_) | Message::RouteRefresh(_))) => {
                self.heard(now, id);
                out.push(Action::Deliver(message));
            }
            (state, _) => self.refuse(now, id, unexpected(state), out),
        }
    }

    /// A message that cannot be read; the state says which ones would have been read at all.
    fn malformed(
        &mut self,
        now: Instant,
        id: LinkId,
        kind: Option<FrameKind>,
        notification: Notification,
        out: &mut Vec<Action>,
    ) {
        let Some(state) = self.link_mut(id).map(|link| link.state()) else {
            return;
        };
        let expected = match (state, kind) {
            // The header itself, or a NOTIFICATION, which any state takes.
            (_, None | Some(FrameKind::Notification)) => true,
            (State::OpenSent, Some(kind)) => kind == FrameKind::Open,
            (State::OpenConfirm, Some(kind)) => {
                kind == FrameKind::Keepalive || kind == FrameKind::Update && self.is_confirmed(id)
            }
            (_, Some(kind)) => kind != FrameKind::Open,
        };
        let notification = if expected { notification } else { unexpected(state) };
        self.refuse(now, id, notification, out);
    }

    /// An acceptable OPEN came: settles a collision, then confirms.
    fn opened(&mut self, now: Instant, id: LinkId, terms: Terms, out: &mut Vec<Action>) {
        let Some(side) = self.link_mut(id).map(|link| link.side) else {
            return;
        };
        let rival = self.links.iter().find(|link| link.id != id);
        if let Some(rival) = rival {
            let rival_id = rival.id;
            match rival.state() {
                State::Established if rival.replaceable(now, self.timers.steady) => {
                    self.close(rival_id, None, out);
                    out.push(Action::Down(Ended::Restarted));
                }
                State::Established => {
                    return self.refuse(now, id, Notification::cease(cease::COLLISION), out);
                }
                State::OpenConfirm if rival.side != side => {
                    // Section 6.8: the connection opened by the speaker with the higher identifier stays; RFC 6286
                    // section 2.3: of equal identifiers, the higher AS.
                    if side != self.preferred(&terms) {
                        return self.refuse(now, id, Notification::cease(cease::COLLISION), out);
                    }
                    self.close(rival_id, Some(Notification::cease(cease::COLLISION)), out);
                }
                _ => {}
            }
        }
        let hold_until = now + terms.hold_time.unwrap_or(self.timers.open_hold);
        let terms = Arc::new(terms);
        let waits = side == Side::Accepted && self.waits_for_dialed(now);
        let latest = now + self.timers.collision_wait;
        if let Some(link) = self.link_mut(id) {
            out.push(Action::Agreed(id, Arc::clone(&terms)));
            link.phase = Phase::OpenConfirm(Agreed {
                terms,
                hold_until: Some(hold_until),
                keepalive_at: Some(latest),
                unconfirmed: true,
                confirmed_until: None,
            });
        }
        if !waits {
            self.keepalive(now, id, out);
        }
        self.confirm_overdue(now, out);
    }

    /// Whether a connection that we dialed is going to show first what the peer thinks of it.
    fn waits_for_dialed(&self, now: Instant) -> bool {
        let asked = |link: &Link| link.side == Side::Dialed && link.state() == State::OpenSent;
        !self.has_stood
            && self.identity.has_restarted(now)
            && (matches!(self.dialer, Dialer::Dialing { .. }) || self.links.iter().any(asked))
    }

    /// Confirms what has waited for a connection that we dialed, once that one needs no waiting for.
    fn confirm_overdue(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.waits_for_dialed(now) {
            return;
        }
        let unconfirmed = self.links.iter().find(|link| link.is_unconfirmed());
        match unconfirmed.map(|link| (link.id, link.confirmed_until())) {
            Some((id, None)) => self.keepalive(now, id, out),
            Some((id, Some(_))) => self.establish(now, id, out),
            None => {}
        }
    }

    /// Of two connections with this peer, the one that stays.
    fn preferred(&self, terms: &Terms) -> Side {
        let ours = (self.identity.router_id.number(), self.identity.asn);
        if ours > (terms.router_id.number(), terms.asn) {
            Side::Dialed
        } else {
            Side::Accepted
        }
    }

    fn is_confirmed(&self, id: LinkId) -> bool {
        self.links
            .iter()
            .any(|link| link.id == id && link.confirmed_until().is_some())
    }

    /// The first KEEPALIVE came: the session stands, unless a connection that would win is about to.
    fn confirmed(&mut self, now: Instant, id: LinkId, out: &mut Vec<Action>) {
        let link = self.links.iter().find(|link| link.id == id);
        let preferred = link.and_then(|link| match &link.phase {
            Phase::OpenConfirm(agreed) if agreed.confirmed_until.is_none() => {
                Some(self.preferred(&agreed.terms))
            }
            _ => None,
        });
        let rival = self
            .links
            .iter()
            .any(|link| link.id != id && link.state() == State::OpenSent && Some(link.side) == preferred);
        if !rival && !link.is_some_and(Link::is_unconfirmed) {
            return self.establish(now, id, out);
        }
        let until = now + self.timers.collision_wait;
        self.heard(now, id);
        if let Some(agreed) = self.link_mut(id).and_then(Link::agreed_mut) {
            agreed.confirmed_until = Some(until);
        }
    }

    fn establish(&mut self, now: Instant, id: LinkId, out: &mut Vec<Action>) {
        let rivals: Vec<_> = self
            .links
            .iter()
            .map(|link| link.id)
            .filter(|rival| *rival != id)
            .collect();
        for rival in rivals {
            self.close(rival, Some(Notification::cease(cease::COLLISION)), out);
        }
        if self
            .links
            .iter()
            .any(|link| link.id == id && link.is_unconfirmed())
        {
            self.keepalive(now, id, out);
        }
        let Some(link) = self.link_mut(id) else {
            return;
        };
        let Phase::OpenConfirm(agreed) = &link.phase else {
            return;
        };
        let mut agreed = agreed.clone();
        agreed.hold_until = agreed.terms.hold_time.map(|hold| now + hold);
        out.push(Action::Up(id, Arc::clone(&agreed.terms)));
        link.phase = Phase::Established { agreed, since: now };
        self.has_stood = true;
        self.stop_dial(out);
        self.dialer = Dialer::Waiting { until: None };
    }

    /// Restarts the hold timer.
    fn heard(&mut self, now: Instant, id: LinkId) {
        if let Some(agreed) = self.link_mut(id).and_then(Link::agreed_mut)
            && let Some(hold) = agreed.terms.hold_time
        {
            agreed.hold_until = Some(now + hold);
        }
    }

    /// Ends a connection with a NOTIFICATION of ours.
    fn refuse(&mut self, now: Instant, id: LinkId, notification: Notification, out: &mut Vec<Action>) {
        if self.link_mut(id).is_some() {
            out.push(Action::Send(id, Message::Notification(notification.clone())));
            self.fail(now, id, Ended::Sent(notification), out);
        }
    }

    /// Takes a connection out; when it was the last one, waits before anything new.
    fn fail(&mut self, now: Instant, id: LinkId, ended: Ended, out: &mut Vec<Action>) {
        let Some(link) = self.take(id) else {
            return;
        };
        out.push(Action::Close(id));
        let established_for = link.established_for(now);
        if self.links.is_empty() {
            self.stop_dial(out);
            self.failures = self.failures.saturating_sub(self.forgiven(established_for));
            self.failures = self.failures.saturating_add(1);
            self.dialer = self.rest(now, &ended);
        }
        out.push(match established_for {
            Some(_) => Action::Down(ended),
            None => Action::Failed(ended),
        });
        // The one that would have won is gone.
        let waiting = self.links.iter().find(|link| link.confirmed_until().is_some());
        if let Some(id) = waiting.map(|link| link.id) {
            self.establish(now, id, out);
        }
        self.confirm_overdue(now, out);
    }

    /// How many failures a session makes up for that stood so long. One that comes and goes makes up for none, and so
    /// waits longer each time (DampPeerOscillations).
    fn forgiven(&self, established_for: Option<Duration>) -> u32 {
        let calm = self.timers.calm.as_secs().max(1);
        let turns = established_for.map_or(0, |age| age.as_secs() / calm);
        u32::try_from(turns).unwrap_or(u32::MAX)
    }

    fn rest(&mut self, now: Instant, ended: &Ended) -> Dialer {
        let doublings = (self.failures - 1).min(16);
        let unwanted = matches!(ended, Ended::Received(notification) if is_unwanted(notification));
        let first = if unwanted {
            self.timers.idle_hold.max(self.timers.unwanted_hold)
        } else {
            self.timers.idle_hold
        };
        let time = first * 2_u32.pow(doublings);
        let time = time.min(self.timers.idle_hold_max);
        let time = self.jitter(time);
        let forgivable = match ended {
            Ended::Lost(_) | Ended::Restarted => true,
            Ended::Received(notification) => notification.code == 6,
            Ended::Sent(notification) => notification.code == 4,
        };
        let accept_from = if forgivable && self.failures <= PATIENCE {
            now
        } else {
            now + time.min(self.timers.accept_hold)
        };
        Dialer::Resting {
            until: now + time,
            accept_from: Some(accept_from),
        }
    }

    fn take(&mut self, id: LinkId) -> Option<Link> {
        let at = self.links.iter().position(|link| link.id == id)?;
        Some(self.links.swap_remove(at))
    }

    /// Takes a connection out that is not needed any more; its end is no failure.
    fn close(&mut self, id: LinkId, notification: Option<Notification>, out: &mut Vec<Action>) {
        if self.take(id).is_some() {
            if let Some(notification) = notification {
                out.push(Action::Send(id, Message::Notification(notification)));
            }
            out.push(Action::Close(id));
        }
    }

    /// Ends everything with one NOTIFICATION; a session on which that would keep routes alive by a hard reset.
    fn end_all(&mut self, notification: &Notification, out: &mut Vec<Action>) {
        self.stop_dial(out);
        for link in std::mem::take(&mut self.links) {
            let notification = match &link.phase {
                Phase::Established { agreed, .. } if agreed.terms.is_graceful_on_notification() => {
                    notification.hard()
                }
                _ => notification.clone(),
            };
            out.push(Action::Send(link.id, Message::Notification(notification.clone())));
            out.push(Action::Close(link.id));
            if link.state() == State::Established {
                out.push(Action::Down(Ended::Sent(notification.clone())));
            }
        }
    }

    /// Ends everything without a word where the peer then keeps our paths until we are back (RFC 4724 section 4), with the
    /// NOTIFICATION elsewhere.
    fn leave(&mut self, notification: &Notification, out: &mut Vec<Action>) {
        if !self.identity.restart.families.is_empty() {
            let waits = |link: &Link| matches!(&link.phase, Phase::Established { agreed, .. } if agreed.terms.graceful_restart.is_some());
            while let Some(id) = self.links.iter().find(|link| waits(link)).map(|link| link.id) {
                self.close(id, None, out);
                out.push(Action::Down(Ended::Lost("this process restarts".to_owned())));
            }
        }
        self.end_all(notification, out);
    }

    /// The OPEN for a new connection.
    fn our_open(&self, now: Instant) -> Open {
        if self.has_stood {
            self.identity.open()
        } else {
            self.identity.first_open(now)
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.dialer {
            Dialer::Resting { until, .. } if until <= now => self.dial(now, out),
            Dialer::Dialing { until } if until <= now => {
                out.push(Action::StopDial);
                self.dial(now, out);
            }
            // One connection at a time is enough, as long as there is one.
            Dialer::Waiting { until: Some(until) } if until <= now && !self.links.is_empty() => {
                self.wait(now)
            }
            Dialer::Waiting { until: Some(until) } if until <= now => self.dial(now, out),
            _ => {}
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let links: Vec<_> = self.links.iter().map(|link| link.id).collect();
        for id in links {
            if self.link_mut(id).is_some_and(|link| due(link.confirmed_until())) {
                self.establish(now, id, out);
            }
            if self.link_mut(id).is_some_and(|link| due(link.hold_until())) {
                self.refuse(now, id, Notification::hold_timer_expired(), out);
            }
            if self.link_mut(id).is_some_and(|link| due(link.keepalive_at())) {
                self.keepalive(now, id, out);
            }
        }
    }

    fn keepalive(&mut self, now: Instant, id: LinkId, out: &mut Vec<Action>) {
        let Some(agreed) = self.link_mut(id).and_then(Link::agreed_mut) else {
            return;
        };
        let interval = agreed.terms.keepalive_time();
        let next = interval.map(|interval| now + self.jitter(interval));
        if let Some(agreed) = self.link_mut(id).and_then(Link::agreed_mut) {
            agreed.keepalive_at = next;
            agreed.unconfirmed = false;
            out.push(Action::Send(id, Message::Keepalive));
        }
    }
}

/// Whether the peer says by a Cease that it does not want this session now (RFC 4486): too many prefixes, not configured,
/// rejected, out of resources. Whoever comes back at once is told the same again. A peer that an operator shut down takes no
/// connection, and is to be reached soon after he has started it again.
fn is_unwanted(notification: &Notification) -> bool {
    let reason = match (notification.is_hard_reset(), &*notification.data) {
        (true, [code, subcode, ..]) => (*code, *subcode),
        _ => (notification.code, notification.subcode),
    };
    matches!(reason, (6, 1 | 3 | 5 | 8))
}

/// RFC 6608: the subcode says in which state a message was unexpected.
fn unexpected(state: State) -> Notification {
    Notification::fsm_error(match state {
        State::OpenSent => 1,
        State::OpenConfirm => 2,
        _ => 3,
    })
}
