use std::collections::hash_map::{Entry as MapEntry, HashMap};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sekisho_config::model::BfdAuth;

use super::auth::Auth;
use super::live::Live;
use super::machine::{Bfd, Event, Timing};
#[cfg(test)]
use super::packet::State;
use super::packet::{Discard, Packet};

/// How long a session that is taken away goes on telling the peer: more than one slow interval.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is wanted of the session with one peer.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) timing: Timing,
    /// The peer; the scope of a link-local address is the interface.
    pub(crate) peer: SocketAddr,
    /// Our end; `None`: as the system routes.
    pub(crate) local: Option<IpAddr>,
    /// RFC 5883 instead of RFC 5881.
    pub(crate) multihop: bool,
    /// The least TTL that is believed. 255 for one hop.
    pub(crate) min_ttl: u8,
    /// How packets are authenticated.
    pub(crate) auth: Option<BfdAuth>,
    pub(crate) live: Arc<Live>,
}

impl Wanted {
    /// Whether the same socket serves both.
    fn same_socket(&self, other: &Self) -> bool {
        (self.peer, self.local, self.multihop) == (other.peer, other.local, other.multihop)
    }
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) from: SocketAddr,
    /// `None`: the system did not say, which counts as too far.
    pub(crate) ttl: Option<u8>,
    /// On which port.
    pub(crate) multihop: bool,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Send {
    /// Whose: our discriminator.
    pub(crate) session: u32,
    pub(crate) packet: Packet,
}

/// All sessions and one table of their timers. No socket, no clock.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sessions: HashMap<u32, Session>,
    by_peer: BTreeMap<IpAddr, u32>,
    timers: BTreeSet<(Instant, u32)>,
    dice: RandomState,
    made: u64,
    scratch: Vec<Packet>,
    /// Something happened that the speaker should look at.
    news: bool,
}

#[derive(Debug)]
struct Session {
    bfd: Bfd,
    auth: Option<Auth>,
    wanted: Wanted,
    timer: Option<Instant>,
    failures: u64,
    /// It was taken away and is forgotten then.
    until: Option<Instant>,
}

/// A keyed hash of a counter is what nobody can guess.
fn authentication(dice: &RandomState, made: u64, wanted: &Wanted) -> Option<Auth> {
    let first = u32::try_from(dice.hash_one((made, "sequence")) >> 32).unwrap_or_default();
    wanted.auth.map(|settings| Auth::new(settings, first))
}

impl Table {
    /// Gives the session with `peer` its wanted state, or takes it away.
    pub(crate) fn set(&mut self, now: Instant, peer: IpAddr, wanted: Option<Wanted>, out: &mut Vec<Send>) {
        let known = self.by_peer.get(&peer).copied();
        match (known, wanted) {
            (None, None) => {}
            (Some(id), None) => self.leave(now, peer, id, out),
            (Some(id), Some(wanted)) => {
                let same = self
                    .sessions
                    .get_mut(&id)
                    .filter(|session| session.wanted.same_socket(&wanted));
                match same {
                    Some(session) => {
                        let timing = wanted.timing;
                        if session.auth.as_ref().map(Auth::settings) != wanted.auth {
                            self.made = self.made.wrapping_add(1);
                            session.auth = authentication(&self.dice, self.made, &wanted);
                        }
                        session.wanted = wanted;
                        self.handle(now, id, Event::Timing(timing), out);
                    }
                    None => {
                        self.leave(now, peer, id, out);
                        self.begin(now, peer, wanted, out);
                    }
                }
            }
            (None, Some(wanted)) => self.begin(now, peer, wanted, out),
        }
    }

    fn begin(&mut self, now: Instant, peer: IpAddr, wanted: Wanted, out: &mut Vec<Send>) {
        // A keyed hash of a counter: nobody who does not know the key can guess the next one.
        let id = loop {
            self.made = self.made.wrapping_add(1);
            let hash = self.dice.hash_one(self.made);
            let id = u32::try_from(hash >> 32).ok().and_then(NonZeroU32::new);
            let Some(id) = id.filter(|id| !self.sessions.contains_key(&id.get())) else {
                continue;
            };
            break id;
        };
        let session = Session {
            bfd: Bfd::new(now, wanted.timing, id, self.dice.hash_one((self.made, "jitter"))),
            auth: authentication(&self.dice, self.made, &wanted),
            wanted,
            timer: None,
            failures: 0,
            until: None,
        };
        self.by_peer.insert(peer, id.get());
        self.sessions.insert(id.get(), session);
        self.handle(now, id.get(), Event::Deadline, out);
    }

    fn leave(&mut self, now: Instant, peer: IpAddr, id: u32, out: &mut Vec<Send>) {
        self.by_peer.remove(&peer);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.until = Some(now + FAREWELL);
        }
        self.handle(now, id, Event::AdminDown, out);
    }

    /// Tells every peer that the sessions end.
    pub(crate) fn leave_all(&mut self, now: Instant, out: &mut Vec<Send>) {
        for (peer, id) in std::mem::take(&mut self.by_peer) {
            self.leave(now, peer, id, out);
        }
    }

    /// Takes a datagram.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        arrival: Arrival,
        octets: &[u8],
        out: &mut Vec<Send>,
    ) -> Result<(), Discard> {
        let ttl = arrival.ttl.unwrap_or_default();
        // Before anything is read: what was not sent by a neighbour is not looked at (RFC 5881 section 5).
        if !arrival.multihop && ttl != u8::MAX {
            return Err(Discard::Ttl);
        }
        let (packet, authenticated) = Packet::decode_any(octets)?;
        let from = arrival.from.ip().to_canonical();
        let id = match packet.your_discriminator {
            0 => self.by_peer.get(&from).copied().ok_or(Discard::Unknown)?,
            id => id,
        };
        let session = self.sessions.get_mut(&id).ok_or(Discard::Unknown)?;
        let wanted = &session.wanted;
        let scope = |address: &SocketAddr| match address {
            SocketAddr::V6(address) if address.ip().is_unicast_link_local() => address.scope_id(),
            _ => 0,
        };
        if wanted.multihop != arrival.multihop
            || wanted.peer.ip() != from
            || scope(&wanted.peer) != scope(&arrival.from)
        {
            return Err(Discard::Unknown);
        }
        if ttl < wanted.min_ttl {
            return Err(Discard::Ttl);
        }
        // An A bit that is there or missing against what was agreed on is wrong as well (section 6.8.6).
        let right = match (&mut session.auth, authenticated) {
            (None, None) => true,
            (Some(auth), Some(octets)) => {
                let detection_time = session.bfd.detection_time();
                auth.accepts(now, octets, wanted.timing.multiplier, detection_time)
            }
            _ => false,
        };
        if !right {
            return Err(Discard::Authentication);
        }
        wanted.live.heard();
        self.handle(now, id, Event::Packet(packet), out);
        Ok(())
    }

    /// What is due by the clock. While there may be packets that nobody has looked at (`unread`), a silent peer is given
    /// up only after twice the detection time: we may be the ones who are late.
    pub(crate) fn expire(&mut self, now: Instant, unread: bool, out: &mut Vec<Send>) {
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            let Some(session) = self.sessions.get(&id) else {
                self.timers.remove(&(at, id));
                continue;
            };
            if session.until.is_some_and(|until| until <= now) {
                self.timers.remove(&(at, id));
                self.sessions.remove(&id);
                continue;
            }
            let patience = session.bfd.detection_time();
            let event = match session.bfd.detect_at() {
                Some(at) if unread && now < at + patience => Event::DeadlineUnread,
                _ => Event::Deadline,
            };
            self.handle(now, id, event, out);
            // Given more time: looked at again soon, not at once and for ever.
            if let (Event::DeadlineUnread, Some(session)) = (event, self.sessions.get_mut(&id))
                && session.timer.is_some_and(|timer| timer <= now)
            {
                reset(
                    &mut self.timers,
                    id,
                    &mut session.timer,
                    Some(now + Duration::from_millis(1)),
                );
            }
        }
    }

    fn handle(&mut self, now: Instant, id: u32, event: Event, out: &mut Vec<Send>) {
        let MapEntry::Occupied(mut entry) = self.sessions.entry(id) else {
            return;
        };
        let session = entry.get_mut();
        let mut packets = std::mem::take(&mut self.scratch);
        session.bfd.handle(now, event, &mut packets);
        out.extend(packets.drain(..).map(|packet| Send { session: id, packet }));
        self.scratch = packets;
        // The peer's new session has what is shown.
        if session.until.is_none() {
            let live = &session.wanted.live;
            let news = live.show(&session.bfd, id);
            while session.failures < session.bfd.failures() {
                session.failures = session.failures.saturating_add(1);
                live.failed();
            }
            self.news |= news;
        }
        let deadline = session.bfd.deadline();
        let deadline = match session.until {
            Some(until) => Some(deadline.map_or(until, |at| at.min(until))),
            None => deadline,
        };
        reset(&mut self.timers, id, &mut session.timer, deadline);
    }

    /// When [`Self::expire`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether something happened since the last question that the speaker should look at.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What the session that we call `id` wants, for whoever sends.
    /// The payload of a packet of this session, signed where it has to be.
    pub(crate) fn octets(&mut self, id: u32, packet: &Packet) -> Vec<u8> {
        let auth = self
            .sessions
            .get_mut(&id)
            .and_then(|session| session.auth.as_mut());
        match auth {
            Some(auth) => auth.seal(packet),
            None => packet.encode().to_vec(),
        }
    }

    pub(crate) fn wanted(&self, id: u32) -> Option<&Wanted> {
        self.sessions.get(&id).map(|session| &session.wanted)
    }

    /// Whether a session needs packets of this kind.
    pub(crate) fn needs(&self, ipv4: bool, multihop: bool) -> bool {
        self.sessions
            .values()
            .any(|session| session.wanted.multihop == multihop && session.wanted.peer.is_ipv4() == ipv4)
    }

    #[cfg(test)]
    fn state(&self, peer: IpAddr) -> Option<State> {
        let id = self.by_peer.get(&peer)?;
        self.sessions.get(id).map(|session| session.bfd.state())
    }
}

fn reset(timers: &mut BTreeSet<(Instant, u32)>, id: u32, timer: &mut Option<Instant>, at: Option<Instant>) {
    if *timer == at {
        return;
    }
    if let Some(old) = *timer {
        timers.remove(&(old, id));
    }
    if let Some(new) = at {
        timers.insert((new, id));
    }
    *timer = at;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfd::packet::Diagnostic;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn wanted(peer: &str, multihop: bool) -> Wanted {
        let metrics = crate::metrics::Metrics::register(&prometheus::Registry::new()).unwrap();
        Wanted {
            timing: Timing {
                interval: 50_000,
                multiplier: 3,
            },
            peer: peer.parse().unwrap(),
            local: None,
            multihop,
            min_ttl: if multihop { 250 } else { 255 },
            auth: None,
            live: Arc::new(Live::new(metrics.bfd(&"peer".parse().unwrap()))),
        }
    }

    fn arrival(from: &str, ttl: u8, multihop: bool) -> Arrival {
        Arrival {
            from: from.parse().unwrap(),
            ttl: Some(ttl),
            multihop,
        }
    }

    fn packet(state: State, your_discriminator: u32) -> Packet {
        Packet {
            diagnostic: Diagnostic::NONE,
            state,
            poll: false,
            is_final: false,
            control_plane_independent: true,
            demand: false,
            multiplier: 3,
            my_discriminator: NonZeroU32::new(77).unwrap(),
            your_discriminator,
            desired_min_tx: 50_000,
            required_min_rx: 50_000,
            required_min_echo_rx: 0,
        }
    }

    const PEER: &str = "192.0.2.1:3784";

    fn table(now: Instant, wanted: Wanted) -> (Table, IpAddr, u32) {
        let (mut table, mut out) = (Table::default(), Vec::new());
        let peer = wanted.peer.ip();
        table.set(now, peer, Some(wanted), &mut out);
        assert_eq!(out.len(), 1, "it speaks at once");
        (table, peer, out[0].session)
    }

    #[test]
    fn whose_a_packet_is() {
        let now = tokio::time::Instant::now().into_std();
        use Discard::{Malformed, Ttl, Unknown};
        // (from, TTL, on the multihop port, our discriminator in it) -> taken or not; one hop
        for (from, ttl, multihop, known, want) in [
            ("192.0.2.1:50000", 255, false, true, Ok(())),
            ("192.0.2.1:50000", 255, false, false, Ok(())),
            ("[::ffff:192.0.2.1]:50000", 255, false, false, Ok(())),
            ("192.0.2.1:50000", 254, false, true, Err(Ttl)),
            ("192.0.2.1:50000", 255, true, true, Err(Unknown)),
            ("192.0.2.9:50000", 255, false, true, Err(Unknown)),
            ("192.0.2.9:50000", 255, false, false, Err(Unknown)),
        ] {
            let (mut table, _, id) = table(now, wanted(PEER, false));
            let packet = packet(State::Down, if known { id } else { 0 });
            let got = table.receive(
                now,
                arrival(from, ttl, multihop),
                &packet.encode(),
                &mut Vec::new(),
            );
            assert_eq!(got, want, "{from} {ttl} {multihop} {known}");
        }
        let (mut many, _, id) = table(now, wanted(PEER, true));
        for (ttl, want) in [(255, Ok(())), (250, Ok(())), (249, Err(Ttl))] {
            let octets = packet(State::Down, id).encode();
            let got = many.receive(
                now,
                arrival("192.0.2.1:50000", ttl, true),
                &octets,
                &mut Vec::new(),
            );
            assert_eq!(got, want, "{ttl}");
        }
        let octets = packet(State::Down, id.wrapping_add(1)).encode();
        let got = many.receive(
            now,
            arrival("192.0.2.1:50000", 255, true),
            &octets,
            &mut Vec::new(),
        );
        assert_eq!(got, Err(Unknown), "a guessed discriminator");
        let got = many.receive(
            now,
            arrival("192.0.2.1:50000", 255, true),
            &[1, 2],
            &mut Vec::new(),
        );
        assert_eq!(got, Err(Malformed));
        let unknown = Arrival {
            ttl: None,
            ..arrival("192.0.2.1:50000", 0, false)
        };
        assert_eq!(many.receive(now, unknown, &octets, &mut Vec::new()), Err(Ttl));
    }

    #[test]
    fn a_link_local_peer_is_one_of_its_link() {
        let now = tokio::time::Instant::now().into_std();
        let (mut table, _, id) = table(now, wanted("[fe80::1%3]:3784", false));
        for (from, want) in [
            ("[fe80::1%3]:50000", Ok(())),
            ("[fe80::1%4]:50000", Err(Discard::Unknown)),
        ] {
            let octets = packet(State::Down, id).encode();
            assert_eq!(
                table.receive(now, arrival(from, 255, false), &octets, &mut Vec::new()),
                want,
                "{from}"
            );
        }
    }

    fn up(now: Instant) -> (Table, IpAddr, u32) {
        let (mut table, peer, id) = table(now, wanted(PEER, false));
        for state in [State::Down, State::Up] {
            let octets = packet(state, id).encode();
            table
                .receive(now, arrival(PEER, 255, false), &octets, &mut Vec::new())
                .unwrap();
        }
        assert_eq!(table.state(peer), Some(State::Up));
        assert!(table.take_news() && !table.take_news());
        (table, peer, id)
    }

    #[test]
    fn what_was_not_read_counts_before_the_clock() {
        let now = tokio::time::Instant::now().into_std();
        let (mut table, peer, id) = up(now);
        let live = Arc::clone(&table.wanted(id).unwrap().live);
        table.expire(now + ms(160), true, &mut Vec::new());
        assert_eq!(table.state(peer), Some(State::Up));
        assert!(table.deadline().unwrap() > now + ms(160), "it does not spin");
        assert!(table.deadline().unwrap() <= now + ms(161));
        // A flood of packets of others cannot keep a dead peer alive.
        table.expire(now + ms(300), true, &mut Vec::new());
        assert_eq!(table.state(peer), Some(State::Down));
        assert_eq!((live.failures(), live.failure()), (1, Diagnostic::EXPIRED));
        let (mut table, peer, _) = up(now);
        table.expire(now + ms(160), false, &mut Vec::new());
        assert_eq!(table.state(peer), Some(State::Down));
        assert!(table.take_news());
    }

    #[test]
    fn whoever_is_taken_away_is_told_and_then_forgotten() {
        let now = tokio::time::Instant::now().into_std();
        let (mut table, peer, _) = up(now);
        let mut out = Vec::new();
        table.set(now, peer, None, &mut out);
        assert_eq!(out[0].packet.state, State::AdminDown);
        let mut at = now;
        while let Some(next) = table.deadline() {
            assert!(next >= at && next <= now + FAREWELL);
            at = next;
            table.expire(at, false, &mut out);
        }
        assert!(out.len() >= 2, "it is said more than once");
        assert!(!table.needs(true, false));
    }

    #[test]
    fn another_end_is_another_session() {
        let now = tokio::time::Instant::now().into_std();
        let (mut table, peer, id) = up(now);
        let mut out = Vec::new();
        let moved = Wanted {
            local: Some("192.0.2.7".parse().unwrap()),
            ..wanted(PEER, false)
        };
        table.set(now, peer, Some(moved), &mut out);
        assert_ne!(out.last().unwrap().session, id);
        assert_eq!(table.state(peer), Some(State::Down));
        // New timing alone leaves it alone.
        let (mut table, peer, _) = up(now);
        let slower = Wanted {
            timing: Timing {
                interval: 100_000,
                multiplier: 5,
            },
            ..wanted(PEER, false)
        };
        table.set(now, peer, Some(slower), &mut out);
        assert_eq!(table.state(peer), Some(State::Up));
    }
}
