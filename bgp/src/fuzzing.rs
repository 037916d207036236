//! A whole session made of octets, for fuzzers and property tests: what comes over up to two connections, how it is cut, when
//! time passes, and what the network does, all as the input has it. No socket, no task, no clock.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sekisho_config::model::{Asn, BgpRole, PeerAs, RouterId};

use crate::fsm::{Action, Event, Fsm, Identity, LinkId, Restart, Side, State, Timers};
use crate::wire::{self, Message, Negotiated};

/// One connection.
struct Line {
    id: LinkId,
    input: BytesMut,
    negotiated: Negotiated,
}

/// The session, and what it has said.
struct Bench {
    fsm: Fsm,
    now: Instant,
    lines: Vec<Line>,
    next: u64,
    up: Option<LinkId>,
    dialing: bool,
}

/// Runs a session on a script: the first octet is the configuration, the others are steps.
///
/// # Panics
/// When the session does what it must not: two sessions at once, an end without a beginning, a message that cannot be
/// written, a deadline that lies in the past after it was dealt with.
pub fn session(script: &[u8]) {
    let Some((configuration, mut rest)) = script.split_first() else {
        return;
    };
    // The runtime's clock may be paused; here it never moves by itself.
    let now = tokio::time::Instant::now().into_std();
    let bit = |n: u32| configuration & (1 << n) != 0;
    let asn = |number| Asn::try_from(number).expect("not 0");
    let identity = Identity {
        asn: asn(64512),
        router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, 10)).expect("not 0"),
        hold_time: if bit(0) { 9 } else { 0 },
        restart: Restart::receiver(120),
        peer_as: if bit(1) {
            PeerAs::External
        } else {
            asn(64512).into()
        },
        role: bit(2).then_some(BgpRole::Peer),
        role_strict: bit(3),
        add_path_send: bit(4),
    };
    let mut bench = Bench {
        fsm: Fsm::new(identity, bit(5), Timers::default(), u64::from(*configuration)),
        now,
        lines: Vec::new(),
        next: 0,
        up: None,
        dialing: false,
    };
    bench.on(Event::Start);
    while let Some((step, after)) = rest.split_first() {
        rest = bench.step(*step, after);
    }
    // Whatever came before: it comes to its end, and after a rest a proper peer is taken.
    bench.on(Event::Stop(wire::Notification::shutdown("")));
    assert!(bench.up.is_none() && bench.lines.is_empty() && bench.fsm.state() == State::Idle);
}

impl Bench {
    /// One step; what is left of the script.
    fn step<'a>(&mut self, step: u8, rest: &'a [u8]) -> &'a [u8] {
        let which = usize::from(step >> 7);
        match step & 7 {
            // Octets of one connection, cut where the script says.
            0..=3 => {
                let (length, rest) = rest
                    .split_first()
                    .map_or((0, rest), |(length, rest)| (*length, rest));
                let (octets, rest) = rest.split_at(usize::from(length).min(rest.len()));
                if let Some(line) = self.lines.get_mut(which) {
                    line.input.extend_from_slice(octets);
                    let id = line.id;
                    self.read(id);
                }
                return rest;
            }
            4 => {
                if let Some(deadline) = self.fsm.deadline() {
                    self.now = self.now.max(deadline);
                    self.on(Event::Deadline);
                    let next = self.fsm.deadline();
                    assert!(next.is_none_or(|next| next > self.now), "it never comes to rest");
                }
            }
            5 => {
                let side = if step & 8 == 0 || !self.dialing {
                    Side::Accepted
                } else {
                    self.dialing = false;
                    Side::Dialed
                };
                let id = LinkId(self.next);
                self.next += 1;
                self.lines.push(Line {
                    id,
                    input: BytesMut::new(),
                    negotiated: Negotiated::default(),
                });
                self.on(Event::Connected(id, side));
                assert!(self.lines.len() <= 2, "more than two connections");
            }
            6 => {
                if let Some(id) = self.lines.get(which).map(|line| line.id) {
                    self.on(Event::Lost(id, String::new()));
                } else if self.dialing {
                    self.dialing = false;
                    self.on(Event::DialFailed);
                }
            }
            _ => {
                self.now += Duration::from_millis(u64::from(step) * 100);
                self.on(Event::Deadline);
            }
        }
        rest
    }

    /// As a session reads: between two messages the machine acts.
    fn read(&mut self, id: LinkId) {
        loop {
            let Some(line) = self.lines.iter_mut().find(|line| line.id == id) else {
                return;
            };
            let (kind, decoded) = match wire::frame(&mut line.input, &line.negotiated) {
                Ok(None) => return,
                Ok(Some(frame)) => (Some(frame.kind), wire::decode(&frame, &line.negotiated)),
                Err(error) => (None, Err(error)),
            };
            match decoded {
                Ok(message) => self.on(Event::Message(id, message)),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return self.on(Event::Malformed(id, kind, error.notification()));
                }
            }
        }
    }

    fn on(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.fsm.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Dial => self.dialing = true,
                Action::StopDial => self.dialing = false,
                Action::Send(id, message) => {
                    assert!(self.lines.iter().any(|line| line.id == id), "to nobody");
                    let octets = match &message {
                        Message::Open(open) => wire::encode_open(open).expect("our own OPEN"),
                        Message::Keepalive => wire::encode_keepalive(),
                        Message::Notification(notification) => wire::encode_notification(notification),
                        Message::RouteRefresh(refresh) => wire::encode_route_refresh(refresh),
                        Message::Update(_) => panic!("the machine sends no UPDATE"),
                    };
                    assert!((19..=Negotiated::MAX_LENGTH).contains(&octets.len()));
                }
                Action::Close(id) => self.lines.retain(|line| line.id != id),
                Action::Agreed(id, terms) => {
                    let line = self.lines.iter_mut().find(|line| line.id == id);
                    line.expect("a connection").negotiated = terms.wire;
                }
                Action::Up(id, terms) => {
                    assert!(self.up.replace(id).is_none(), "two sessions");
                    let line = self.lines.iter().find(|line| line.id == id);
                    assert_eq!(line.expect("the session's connection").negotiated, terms.wire);
                }
                Action::Down(_) => assert!(self.up.take().is_some(), "an end without a beginning"),
                Action::Deliver(_) => assert!(self.up.is_some(), "delivered without a session"),
                Action::Failed(_) => {}
            }
        }
        assert_eq!(self.up.is_some(), self.fsm.state() == State::Established);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A step with its octets.
    fn feed(which: u8, octets: &[u8]) -> Vec<u8> {
        octets
            .chunks(250)
            .flat_map(|chunk| {
                let length = u8::try_from(chunk.len()).unwrap();
                [&[which << 7, length], chunk].concat()
            })
            .collect()
    }

    fn steps() -> impl Strategy<Value = Vec<u8>> {
        let hex = |text: &str| {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect::<Vec<u8>>()
        };
        let marker = "ff".repeat(16);
        // OPENs of AS 64512 and 65001, one with a role; KEEPALIVE, Cease, UPDATE, End-of-RIB, ROUTE-REFRESH.
        let proper: Vec<Vec<u8>> = [
            "001d0104fc00005a0a00000100",
            "001d0104fde9005a0a00006300",
            "00220104fde9005a0a0000630502030901 04",
            "001304",
            "0015030604",
            "002f0200000014400101004002060201 0000fc00400304c000020118cb0071",
            "00170200000000",
            "00170500010001",
        ]
        .iter()
        .map(|text| hex(&format!("{marker}{}", text.replace(' ', ""))))
        .collect();
        let one = prop_oneof![
            4 => (0..2_u8, prop::sample::select(proper)).prop_map(|(which, octets)| feed(which, &octets)),
            1 => (0..2_u8, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(which, octets)| feed(which, &octets)),
            2 => prop::sample::select(vec![vec![4_u8], vec![5], vec![13], vec![6], vec![0x86], vec![0x47], vec![0xff]]),
        ];
        prop::collection::vec(one, 0..40).prop_map(|steps| steps.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

        #[test]
        fn a_session_keeps_its_word_whatever_comes(configuration in any::<u8>(), steps in steps()) {
            session(&[vec![configuration], steps].concat());
        }

        #[test]
        fn and_whatever_the_script_is(script in prop::collection::vec(any::<u8>(), 0..400)) {
            session(&script);
        }
    }
}
