use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::machine::{Bfd, Event, Timing};
use super::packet::{Diagnostic, Packet, State};

const TIMING: Timing = Timing {
    interval: 50_000,
    multiplier: 3,
};

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn session(now: Instant, number: u32, timing: Timing) -> Bfd {
    Bfd::new(now, timing, NonZeroU32::new(number).unwrap(), number.into())
}

/// What a peer says that hears session 1.
fn said(state: State) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: NonZeroU32::new(2).unwrap(),
        your_discriminator: 1,
        desired_min_tx: 50_000,
        required_min_rx: 50_000,
        required_min_echo_rx: 0,
    }
}

fn hears(bfd: &mut Bfd, now: Instant, packet: Packet) -> Vec<Packet> {
    let mut out = Vec::new();
    bfd.handle(now, Event::Packet(packet), &mut out);
    out
}

/// A session that is Up, its poll answered.
fn up(now: Instant) -> Bfd {
    let mut bfd = session(now, 1, TIMING);
    hears(&mut bfd, now, said(State::Down));
    hears(&mut bfd, now, said(State::Up));
    hears(
        &mut bfd,
        now,
        Packet {
            is_final: true,
            ..said(State::Up)
        },
    );
    assert_eq!(bfd.state(), State::Up);
    bfd
}

#[test]
fn the_table_of_states() {
    use State::{AdminDown, Down, Init, Up};
    let now = start();
    // (where we are, what is heard) -> (where we are then, failures)
    for (before, heard, after, failures) in [
        (Down, AdminDown, Down, 0),
        (Down, Down, Init, 0),
        (Down, Init, Up, 0),
        (Down, Up, Down, 0),
        (Init, AdminDown, Down, 0),
        (Init, Down, Init, 0),
        (Init, Init, Up, 0),
        (Init, Up, Up, 0),
        (Up, AdminDown, Down, 0),
        (Up, Down, Down, 1),
        (Up, Init, Up, 0),
        (Up, Up, Up, 0),
        (AdminDown, Down, AdminDown, 0),
        (AdminDown, Up, AdminDown, 0),
    ] {
        let mut bfd = session(now, 1, TIMING);
        match before {
            Init => drop(hears(&mut bfd, now, said(Down))),
            Up => drop(hears(&mut bfd, now, said(Init))),
            AdminDown => bfd.handle(now, Event::AdminDown, &mut Vec::new()),
            Down => {}
        }
        assert_eq!(bfd.state(), before);
        hears(&mut bfd, now, said(heard));
        assert_eq!(
            (bfd.state(), bfd.failures()),
            (after, failures),
            "{before}, hears {heard}"
        );
        let diag = match (before, after) {
            (Up | Init, Down) => Diagnostic::NEIGHBOR_DOWN,
            (AdminDown, _) => Diagnostic::ADMINISTRATIVE,
            _ => Diagnostic::NONE,
        };
        assert_eq!(bfd.local_diag(), diag, "{before}, hears {heard}");
    }
}

#[test]
fn it_is_slow_until_up() {
    let now = start();
    let mut bfd = session(now, 1, TIMING);
    let (mut at, mut out) = (now, Vec::new());
    for _ in 0..50 {
        let next = bfd.deadline().unwrap();
        bfd.handle(next, Event::Deadline, &mut out);
        if next != now {
            assert!((ms(750)..=ms(1000)).contains(&(next - at)), "{:?}", next - at);
        }
        at = next;
    }
    assert_eq!(out.len(), 50);
    assert!(
        out.iter()
            .all(|p| p.state == State::Down && p.desired_min_tx == 1_000_000 && !p.poll)
    );
    assert!(
        out.iter()
            .all(|p| p.your_discriminator == 0 && p.required_min_rx == 50_000)
    );
}

#[test]
fn becoming_up_asks_and_the_answer_ends_the_poll() {
    let now = start();
    let mut bfd = session(now, 1, TIMING);
    let said_then = hears(&mut bfd, now, said(State::Down));
    assert_eq!(
        (said_then[0].state, said_then[0].your_discriminator),
        (State::Init, 2)
    );
    let said_then = hears(&mut bfd, now, said(State::Up));
    assert_eq!((said_then[0].state, said_then[0].poll), (State::Up, true));
    assert_eq!(said_then[0].desired_min_tx, 50_000);
    let mut out = Vec::new();
    bfd.handle(bfd.deadline().unwrap(), Event::Deadline, &mut out);
    assert!(out[0].poll, "the poll goes on until it is answered");
    hears(
        &mut bfd,
        now + ms(50),
        Packet {
            is_final: true,
            ..said(State::Up)
        },
    );
    out.clear();
    bfd.handle(bfd.deadline().unwrap(), Event::Deadline, &mut out);
    assert!(!out[0].poll);
}

#[test]
fn a_poll_is_answered_at_once_in_every_state_but_admin_down() {
    let now = start();
    for state in [State::Down, State::Init, State::Up, State::AdminDown] {
        let mut bfd = up(now);
        let out = hears(
            &mut bfd,
            now,
            Packet {
                poll: true,
                ..said(state)
            },
        );
        assert_eq!(out.len(), 1, "one packet carries the answer and the new state");
        assert!(out[0].is_final && !out[0].poll);
        assert_eq!(out[0].state, bfd.state());
    }
    let mut bfd = up(now);
    bfd.handle(now, Event::AdminDown, &mut Vec::new());
    assert_eq!(
        hears(
            &mut bfd,
            now,
            Packet {
                poll: true,
                ..said(State::Up)
            }
        ),
        []
    );
}

#[test]
fn silence_for_the_detection_time_is_a_failure() {
    let now = start();
    let mut bfd = up(now);
    assert_eq!(bfd.detection_time(), ms(150));
    let mut out = Vec::new();
    bfd.handle(now + ms(149), Event::Deadline, &mut out);
    assert_eq!(bfd.state(), State::Up);
    // There are packets that nobody has looked at.
    bfd.handle(now + ms(151), Event::DeadlineUnread, &mut out);
    assert_eq!(bfd.state(), State::Up);
    out.clear();
    bfd.handle(now + ms(151), Event::Deadline, &mut out);
    assert_eq!((bfd.state(), bfd.failures()), (State::Down, 1));
    assert_eq!(
        (out[0].state, out[0].diagnostic),
        (State::Down, Diagnostic::EXPIRED)
    );
    assert_eq!((out[0].your_discriminator, out[0].desired_min_tx), (0, 1_000_000));
    // And it goes on, slowly.
    let next = bfd.deadline().unwrap();
    assert!((ms(750)..=ms(1000)).contains(&(next - (now + ms(151)))));
}

#[test]
fn the_detection_time_is_the_peers_multiplier_and_the_slower_side() {
    let now = start();
    for (multiplier, desired, want) in [
        (3, 50_000, 150),
        (5, 50_000, 250),
        (3, 400_000, 1200),
        (1, 10_000, 50),
    ] {
        let mut bfd = up(now);
        hears(
            &mut bfd,
            now,
            Packet {
                multiplier,
                desired_min_tx: desired,
                ..said(State::Up)
            },
        );
        assert_eq!(bfd.detection_time(), ms(want), "{multiplier} x {desired}");
    }
}

#[test]
fn the_interval_is_the_slower_of_ours_and_what_the_peer_can_take() {
    let now = start();
    for (required, want) in [
        (50_000, Some(50_000)),
        (10_000, Some(50_000)),
        (400_000, Some(400_000)),
        (0, None),
    ] {
        let mut bfd = up(now);
        hears(
            &mut bfd,
            now,
            Packet {
                required_min_rx: required,
                ..said(State::Up)
            },
        );
        assert_eq!(bfd.tx_interval(), want, "{required}");
    }
    // Even one that wants none is called again once it is gone.
    let mut bfd = up(now);
    hears(
        &mut bfd,
        now,
        Packet {
            required_min_rx: 0,
            ..said(State::Up)
        },
    );
    bfd.handle(now + ms(151), Event::Deadline, &mut Vec::new());
    assert!(bfd.tx_interval().is_some());
}

#[test]
fn demand_mode_of_the_peer_silences_us_except_for_polls() {
    let now = start();
    let mut bfd = up(now);
    hears(
        &mut bfd,
        now,
        Packet {
            demand: true,
            ..said(State::Up)
        },
    );
    assert_eq!(bfd.tx_interval(), None);
    bfd.handle(
        now,
        Event::Timing(Timing {
            interval: 100_000,
            ..TIMING
        }),
        &mut Vec::new(),
    );
    assert_eq!(bfd.tx_interval(), Some(50_000), "a poll is sent");
    hears(
        &mut bfd,
        now,
        Packet {
            demand: true,
            is_final: true,
            ..said(State::Up)
        },
    );
    assert_eq!(bfd.tx_interval(), None);
}

#[test]
fn new_timing_waits_for_the_peer_where_it_could_hurt() {
    let now = start();
    let answer = Packet {
        is_final: true,
        ..said(State::Up)
    };
    // Slower: we go on fast, and expect no faster, until it is confirmed.
    let mut bfd = up(now);
    bfd.handle(
        now,
        Event::Timing(Timing {
            interval: 200_000,
            ..TIMING
        }),
        &mut Vec::new(),
    );
    assert_eq!((bfd.tx_interval(), bfd.detection_time()), (Some(50_000), ms(600)));
    hears(&mut bfd, now, answer);
    assert_eq!(
        (bfd.tx_interval(), bfd.detection_time()),
        (Some(200_000), ms(600))
    );
    // Faster: we send faster at once, and expect it only when it is confirmed.
    bfd.handle(now, Event::Timing(TIMING), &mut Vec::new());
    assert_eq!((bfd.tx_interval(), bfd.detection_time()), (Some(50_000), ms(600)));
    // A change while that poll runs takes a poll of its own: the answer may be to the first.
    bfd.handle(
        now,
        Event::Timing(Timing {
            interval: 100_000,
            ..TIMING
        }),
        &mut Vec::new(),
    );
    hears(&mut bfd, now, answer);
    assert_eq!(bfd.detection_time(), ms(600));
    hears(&mut bfd, now, answer);
    assert_eq!(
        (bfd.tx_interval(), bfd.detection_time()),
        (Some(100_000), ms(300))
    );
}

#[test]
fn an_admin_down_is_said_and_repeated() {
    let now = start();
    let mut bfd = up(now);
    let mut out = Vec::new();
    bfd.handle(now, Event::AdminDown, &mut out);
    assert_eq!(
        (out[0].state, out[0].diagnostic),
        (State::AdminDown, Diagnostic::ADMINISTRATIVE)
    );
    assert_eq!(bfd.failures(), 0);
    let next = bfd.deadline().unwrap().max(now + ms(160));
    bfd.handle(next, Event::Deadline, &mut out);
    assert!(out.iter().all(|packet| packet.state == State::AdminDown));
}

/// Two sessions and a wire that loses, delays and reorders.
struct Pair {
    now: Instant,
    ends: [Bfd; 2],
    /// (arrives at, to which end, packet)
    wire: Vec<(Instant, usize, Packet)>,
    dice: u64,
    sent: [Vec<Instant>; 2],
}

impl Pair {
    fn new(seed: u64, timings: [Timing; 2]) -> Self {
        let now = start();
        Self {
            now,
            ends: [session(now, 1, timings[0]), session(now, 2, timings[1])],
            wire: Vec::new(),
            dice: seed | 1,
            sent: [Vec::new(), Vec::new()],
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn give(&mut self, end: usize, event: Event, loses: u64) {
        let mut out = Vec::new();
        self.ends[end].handle(self.now, event, &mut out);
        for packet in out {
            self.sent[end].push(self.now);
            if self.roll(100) >= loses {
                let delay = Duration::from_micros(self.roll(5000));
                // As the table does it: who does not know us yet finds us by address.
                assert!(packet.your_discriminator == 0 || packet.your_discriminator == 2 - end as u32);
                self.wire.push((self.now + delay, 1 - end, packet));
            }
        }
    }

    fn run(&mut self, time: Duration, loses: u64) {
        let end = self.now + time;
        loop {
            let timer = (0..2).filter_map(|n| Some((self.ends[n].deadline()?, n))).min();
            let arrival = (0..self.wire.len()).min_by_key(|n| self.wire[*n].0);
            match (timer, arrival) {
                (Some((at, n)), arrival) if arrival.is_none_or(|a| at < self.wire[a].0) => {
                    if at >= end {
                        break;
                    }
                    self.now = at.max(self.now);
                    self.give(n, Event::Deadline, loses);
                }
                (_, Some(arrival)) => {
                    if self.wire[arrival].0 >= end {
                        break;
                    }
                    let (at, to, packet) = self.wire.swap_remove(arrival);
                    self.now = at.max(self.now);
                    self.give(to, Event::Packet(packet), loses);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

fn timings() -> impl Strategy<Value = Timing> {
    (10_000u32..2_000_000, 2u8..6).prop_map(|(interval, multiplier)| Timing { interval, multiplier })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_sessions_find_each_other_and_notice_the_end(seed: u64, a in timings(), b in timings(), loses in 0u64..20) {
        let mut pair = Pair::new(seed, [a, b]);
        pair.run(Duration::from_secs(60), loses);
        pair.run(Duration::from_secs(40), 0);
        prop_assert_eq!(pair.states(), [State::Up, State::Up]);
        let failures = [pair.ends[0].failures(), pair.ends[1].failures()];
        pair.run(Duration::from_secs(60), 0);
        prop_assert_eq!([pair.ends[0].failures(), pair.ends[1].failures()], failures, "a wire that loses nothing");
        // Intervals in force: the slower of what one wants to send and the other can take.
        let slower = u64::from(a.interval.max(b.interval));
        for n in 0..2 {
            prop_assert_eq!(pair.ends[n].tx_interval().map(u64::from), Some(slower));
        }
        // Cut: each notices within its detection time.
        let longest = pair.ends[0].detection_time().max(pair.ends[1].detection_time());
        pair.run(longest + Duration::from_millis(6), 100);
        prop_assert_eq!(pair.states(), [State::Down, State::Down]);
        // One of them may have heard the other's Down just before the cut; either way it failed once.
        prop_assert_eq!(pair.ends[0].failures(), failures[0] + 1);
        prop_assert_eq!(pair.ends[1].failures(), failures[1] + 1);
    }

    #[test]
    fn nobody_sends_faster_than_agreed(seed: u64, a in timings(), b in timings()) {
        let mut pair = Pair::new(seed, [a, b]);
        pair.run(Duration::from_secs(60), 0);
        pair.sent = [Vec::new(), Vec::new()];
        pair.run(Duration::from_secs(60), 0);
        let slower = Duration::from_micros(a.interval.max(b.interval).into());
        for sent in &pair.sent {
            for pair in sent.windows(2) {
                let gap = pair[1] - pair[0];
                prop_assert!(gap + Duration::from_micros(2) >= slower * 3 / 4 && gap <= slower, "{gap:?} where {slower:?} is agreed");
            }
        }
    }

    #[test]
    fn any_packets_in_any_order(seed: u64, packets in proptest::collection::vec((any::<[u8; 24]>(), 0u64..3000), 0..60)) {
        let mut now = start();
        let mut bfd = session(now, 1, Timing { interval: 10_000, multiplier: 1 });
        let mut out = Vec::new();
        for (mut octets, wait) in packets {
            octets[0] = 0x20 | octets[0] & 0x1f;
            octets[1] &= !0x05;
            octets[3] = 24;
            now += ms(wait ^ (seed & 7));
            if let Ok(packet) = Packet::decode(&octets) {
                bfd.handle(now, Event::Packet(packet), &mut out);
            }
            bfd.handle(now, Event::Deadline, &mut out);
            prop_assert!(bfd.deadline().is_none_or(|at| at > now));
            prop_assert!(out.len() <= 4, "one packet in makes at most a few out");
            out.clear();
        }
    }
}

/// The C bit as the peer said it last: its failure does not change what it said (RFC 5882 section 4.3).
#[test]
fn whether_the_peers_bfd_outlives_its_control_plane() {
    let now = start();
    for independent in [false, true] {
        let mut bfd = up(now);
        let packet = Packet {
            control_plane_independent: independent,
            ..said(State::Up)
        };
        hears(&mut bfd, now, packet);
        assert_eq!(bfd.remote_independent(), independent);
        bfd.handle(now + ms(200), Event::Deadline, &mut Vec::new());
        assert_eq!((bfd.state(), bfd.failures()), (State::Down, 1));
        assert_eq!(bfd.remote_independent(), independent);
    }
}
