use std::net::Ipv4Addr;

use bytes::Bytes;
use proptest::prelude::*;
use sekisho_config::model::{Asn, RouterId};

use super::*;
use crate::wire::{Capability, Families, Family, FrameKind, Open, RouteRefresh, RouteRefreshKind, Update};

mod any_event;
mod collision;

fn notification(code: u8, subcode: u8) -> Notification {
    Notification {
        code,
        subcode,
        data: Bytes::new(),
    }
}

fn id(last: u8) -> RouterId {
    RouterId::try_from(Ipv4Addr::new(10, 0, 0, last)).unwrap()
}

fn identity() -> Identity {
    Identity {
        asn: Asn::try_from(64512).unwrap(),
        router_id: id(10),
        hold_time: 9,
        restart: Restart::receiver(120),
        peer_as: Asn::try_from(64512).unwrap().into(),
        add_path_send: false,
        role: None,
        role_strict: false,
    }
}

fn peer_open(last: u8, hold_time: u16, restarts: bool) -> Message {
    let mut capabilities = vec![
        Capability::Multiprotocol(Family::Ipv4Unicast),
        Capability::FourOctetAs(64512),
    ];
    if restarts {
        capabilities.push(Capability::GracefulRestart {
            restarted: false,
            notification: false,
            time: 120,
            families: vec![(1, 1, true)],
        });
    }
    Message::Open(Open {
        my_as: 64512,
        hold_time,
        router_id: id(last),
        capabilities,
    })
}

/// A machine with a clock of its own and a diary.
struct Bench {
    fsm: Fsm,
    now: Instant,
    start: Instant,
}

const KINDS: &[FrameKind] = &[
    FrameKind::Open,
    FrameKind::Update,
    FrameKind::Notification,
    FrameKind::Keepalive,
    FrameKind::RouteRefresh,
];

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

impl Bench {
    fn new(passive: bool) -> Self {
        let start = tokio::time::Instant::now().into_std();
        Self {
            fsm: Fsm::new(identity(), passive, Timers::default(), 7),
            now: start,
            start,
        }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.fsm.handle(self.now, event, &mut out);
        out
    }

    fn later(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets the next deadline come.
    fn wake(&mut self) -> Vec<Action> {
        self.now = self.fsm.deadline().expect("a deadline");
        self.on(Event::Deadline)
    }

    /// A machine brought to `state`, on an accepted connection A.
    fn at(state: State) -> Self {
        let mut bench = Self::new(false);
        if state == State::Idle {
            return bench;
        }
        bench.on(Event::Start);
        if state == State::Connect {
            return bench;
        }
        bench.on(Event::DialFailed);
        if state == State::Active {
            return bench;
        }
        bench.on(Event::Connected(A, Side::Accepted));
        if state != State::OpenSent {
            bench.on(Event::Message(A, peer_open(1, 90, false)));
        }
        if state == State::Established {
            bench.on(Event::Message(A, Message::Keepalive));
        }
        assert_eq!(bench.fsm.state(), state);
        bench
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }
}

fn sent(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .filter(|action| !matches!(action, Action::Agreed(..)))
        .map(|action| match action {
            Action::Dial => "dial".to_owned(),
            Action::StopDial => "stop-dial".to_owned(),
            Action::Send(link, Message::Open(_)) => format!("open{}", link.0),
            Action::Send(link, Message::Keepalive) => format!("keepalive{}", link.0),
            Action::Send(link, Message::Notification(n)) => format!("{}/{}:{}", n.code, n.subcode, link.0),
            Action::Send(..) => "?".to_owned(),
            Action::Close(link) => format!("close{}", link.0),
            Action::Agreed(..) => String::new(),
            Action::Up(link, _) => format!("up{}", link.0),
            Action::Deliver(_) => "deliver".to_owned(),
            Action::Down(_) => "down".to_owned(),
            Action::Failed(_) => "failed".to_owned(),
        })
        .collect()
}

#[test]
fn every_state_and_event() {
    use State::*;
    let update = || Message::Update(Update::default());
    let refresh = || {
        Message::RouteRefresh(RouteRefresh {
            afi: 1,
            safi: 1,
            kind: RouteRefreshKind::Request,
        })
    };
    let cease = || Message::Notification(notification(6, 4));
    let stop = || Event::Stop(notification(6, 2));
    let reset = || Event::Reset {
        notification: notification(6, 1),
        hold_off: Duration::from_secs(300),
    };
    let bad = || Event::Malformed(A, None, notification(1, 1));
    let unreadable = |kind| Event::Malformed(A, Some(kind), notification(9, 9));
    let lost = || Event::Lost(A, "reset".into());
    let m = |message| Event::Message(A, message);
    let open = || peer_open(1, 90, false);
    // (state, event, actions, state after); B is a second connection.
    let table: Vec<(State, Event, &str, State)> = vec![
        (Idle, Event::Start, "dial", Connect),
        (Idle, stop(), "", Idle),
        (Idle, reset(), "", Idle),
        (Idle, Event::Deadline, "", Idle),
        (Idle, Event::DialFailed, "", Idle),
        (Idle, Event::Connected(A, Side::Accepted), "6/5:1 close1", Idle),
        (Idle, Event::Connected(A, Side::Dialed), "6/5:1 close1", Idle),
        (Idle, m(open()), "", Idle),
        (Idle, bad(), "", Idle),
        (Idle, lost(), "", Idle),
        (Connect, Event::Start, "", Connect),
        (Connect, stop(), "stop-dial", Idle),
        (Connect, reset(), "stop-dial", Idle),
        (Connect, Event::Deadline, "", Connect),
        (Connect, Event::DialFailed, "", Active),
        (Connect, Event::Connected(A, Side::Dialed), "open1", OpenSent),
        (Connect, Event::Connected(A, Side::Accepted), "open1", OpenSent),
        (Connect, m(open()), "", Connect),
        (Active, Event::Start, "", Active),
        (Active, stop(), "", Idle),
        (Active, reset(), "", Idle),
        (Active, Event::DialFailed, "", Active),
        (Active, Event::Connected(A, Side::Dialed), "6/5:1 close1", Active),
        (Active, Event::Connected(A, Side::Accepted), "open1", OpenSent),
        (OpenSent, Event::Start, "", OpenSent),
        (OpenSent, stop(), "6/2:1 close1", Idle),
        (OpenSent, reset(), "6/1:1 close1", Idle),
        (OpenSent, Event::Deadline, "", OpenSent),
        (OpenSent, m(open()), "keepalive1", OpenConfirm),
        (OpenSent, m(peer_open(10, 90, false)), "2/3:1 close1 failed", Idle),
        (OpenSent, m(peer_open(1, 2, false)), "2/6:1 close1 failed", Idle),
        (OpenSent, m(Message::Keepalive), "5/1:1 close1 failed", Idle),
        (OpenSent, m(update()), "5/1:1 close1 failed", Idle),
        (OpenSent, m(refresh()), "5/1:1 close1 failed", Idle),
        (OpenSent, m(cease()), "close1 failed", Idle),
        (OpenSent, bad(), "1/1:1 close1 failed", Idle),
        (OpenSent, unreadable(FrameKind::Open), "9/9:1 close1 failed", Idle),
        (
            OpenSent,
            unreadable(FrameKind::Update),
            "5/1:1 close1 failed",
            Idle,
        ),
        (
            OpenSent,
            unreadable(FrameKind::RouteRefresh),
            "5/1:1 close1 failed",
            Idle,
        ),
        (OpenSent, lost(), "close1 failed", Idle),
        (OpenSent, Event::Stalled(A), "8/0:1 close1 failed", Idle),
        (OpenSent, Event::Busy(A), "", OpenSent),
        // The peer tried again: its first connection is given up.
        (
            OpenSent,
            Event::Connected(B, Side::Accepted),
            "6/7:1 close1 open2",
            OpenSent,
        ),
        (OpenConfirm, stop(), "6/2:1 close1", Idle),
        (OpenConfirm, reset(), "6/1:1 close1", Idle),
        (OpenConfirm, m(Message::Keepalive), "up1", Established),
        (OpenConfirm, m(open()), "5/2:1 close1 failed", Idle),
        (OpenConfirm, m(update()), "5/2:1 close1 failed", Idle),
        (OpenConfirm, m(refresh()), "5/2:1 close1 failed", Idle),
        (OpenConfirm, m(cease()), "close1 failed", Idle),
        (OpenConfirm, bad(), "1/1:1 close1 failed", Idle),
        (
            OpenConfirm,
            unreadable(FrameKind::Open),
            "5/2:1 close1 failed",
            Idle,
        ),
        (
            OpenConfirm,
            unreadable(FrameKind::Update),
            "5/2:1 close1 failed",
            Idle,
        ),
        (OpenConfirm, lost(), "close1 failed", Idle),
        (OpenConfirm, Event::Stalled(A), "8/0:1 close1 failed", Idle),
        (
            OpenConfirm,
            Event::Connected(B, Side::Accepted),
            "6/7:2 close2",
            OpenConfirm,
        ),
        (Established, Event::Start, "", Established),
        (Established, stop(), "6/2:1 close1 down", Idle),
        (Established, reset(), "6/1:1 close1 down", Idle),
        (Established, m(Message::Keepalive), "", Established),
        (Established, m(update()), "deliver", Established),
        (Established, m(refresh()), "deliver", Established),
        (Established, m(open()), "5/3:1 close1 down", Idle),
        (Established, m(cease()), "close1 down", Idle),
        (Established, bad(), "1/1:1 close1 down", Idle),
        (
            Established,
            unreadable(FrameKind::Open),
            "5/3:1 close1 down",
            Idle,
        ),
        (
            Established,
            unreadable(FrameKind::Update),
            "9/9:1 close1 down",
            Idle,
        ),
        (Established, lost(), "close1 down", Idle),
        (Established, Event::Stalled(A), "8/0:1 close1 down", Idle),
        (Established, Event::Busy(A), "", Established),
        (Established, Event::DialFailed, "", Established),
        (
            Established,
            Event::Connected(B, Side::Accepted),
            "6/7:2 close2",
            Established,
        ),
        (
            Established,
            Event::Connected(B, Side::Dialed),
            "6/5:2 close2",
            Established,
        ),
        (Established, Event::Message(B, open()), "", Established),
        (Established, Event::Lost(B, String::new()), "", Established),
    ];
    for (state, event, want, after) in table {
        let mut bench = Bench::at(state);
        let what = format!("{state}: {event:?}");
        assert_eq!(sent(&bench.on(event)).join(" "), want, "{what}");
        assert_eq!(bench.fsm.state(), after, "{what}");
    }
}

#[test]
fn silence_ends_the_session_with_4_0() {
    let mut bench = Bench::at(State::Established);
    let mut spoken = 0;
    loop {
        let actions = sent(&bench.wake());
        if actions == ["keepalive1"] {
            spoken += 1;
            continue;
        }
        assert_eq!(actions, ["4/0:1", "close1", "down"]);
        break;
    }
    assert_eq!(bench.elapsed(), Duration::from_secs(9));
    assert!((3..=4).contains(&spoken), "{spoken} keepalives in a hold time");
}

#[test]
fn keepalives_of_the_peer_hold_the_session() {
    let mut bench = Bench::at(State::Established);
    for _ in 0..100 {
        bench.later(Duration::from_secs(8));
        bench.on(Event::Message(A, Message::Keepalive));
        bench.on(Event::Deadline);
        assert_eq!(bench.fsm.state(), State::Established);
    }
}

#[test]
fn hold_time_zero_means_no_timers() {
    let mut bench = Bench::at(State::OpenSent);
    bench.on(Event::Message(A, peer_open(1, 0, false)));
    bench.on(Event::Message(A, Message::Keepalive));
    assert_eq!(bench.fsm.state(), State::Established);
    assert_eq!(bench.fsm.deadline(), None);
}

#[test]
fn an_open_may_take_four_minutes() {
    let mut bench = Bench::new(true);
    bench.on(Event::Start);
    assert_eq!(bench.fsm.deadline(), None, "passive: nothing to wait for");
    bench.on(Event::Connected(A, Side::Accepted));
    assert_eq!(sent(&bench.wake()), ["4/0:1", "close1", "failed"]);
    assert_eq!(bench.elapsed(), Duration::from_secs(240));
}

#[test]
fn a_dial_that_hangs_is_repeated() {
    let mut bench = Bench::at(State::Connect);
    assert_eq!(sent(&bench.wake()), ["stop-dial", "dial"]);
    bench.on(Event::DialFailed);
    assert_eq!(sent(&bench.wake()), ["dial"]);
    assert!(bench.elapsed() > Duration::from_secs(8) && bench.elapsed() <= Duration::from_secs(10));
}

#[test]
fn errors_back_off_and_are_forgotten_after_a_long_session() {
    let mut bench = Bench::new(false);
    bench.on(Event::Start);
    let mut waits = Vec::new();
    for turn in 0..9 {
        let link = LinkId(10 + turn);
        bench.on(Event::Connected(link, Side::Dialed));
        bench.on(Event::Malformed(link, None, notification(1, 1)));
        let before = bench.now;
        assert_eq!(
            sent(&bench.on(Event::Connected(B, Side::Accepted))),
            ["6/5:2", "close2"],
            "no comfort after a protocol error"
        );
        assert_eq!(sent(&bench.wake()), ["dial"]);
        waits.push((bench.now - before).as_secs_f64());
    }
    assert!(waits.iter().all(|wait| (0.75..=60.0).contains(wait)), "{waits:?}");
    assert!(waits[3] > 5.9 && waits[8] >= 45.0, "{waits:?}");

    bench.on(Event::Connected(A, Side::Dialed));
    bench.on(Event::Message(A, peer_open(1, 90, false)));
    bench.on(Event::Message(A, Message::Keepalive));
    bench.later(Duration::from_secs(8));
    bench.on(Event::Lost(A, "reset".into()));
    assert!(
        bench.fsm.deadline().unwrap() - bench.now >= Duration::from_secs(45),
        "a session that goes again makes up for nothing"
    );
    assert_eq!(sent(&bench.wake()), ["dial"]);
    bench.on(Event::Connected(A, Side::Dialed));
    bench.on(Event::Message(A, peer_open(1, 90, false)));
    bench.on(Event::Message(A, Message::Keepalive));
    for _ in 0..50 {
        bench.later(Duration::from_secs(8));
        bench.on(Event::Message(A, Message::Keepalive));
    }
    bench.on(Event::Lost(A, "reset".into()));
    assert!(bench.fsm.deadline().unwrap() - bench.now <= Duration::from_secs(1));
}

#[test]
fn a_peer_that_errs_is_let_in_again_after_seconds() {
    let mut bench = Bench::new(false);
    bench.on(Event::Start);
    for turn in 0..20 {
        let link = LinkId(100 + turn);
        assert_eq!(
            sent(&bench.on(Event::Connected(link, Side::Accepted)))
                .last()
                .cloned(),
            Some(format!("open{}", link.0)),
            "turn {turn}"
        );
        bench.on(Event::Malformed(link, None, notification(1, 1)));
        assert_eq!(
            sent(&bench.on(Event::Connected(B, Side::Accepted))),
            ["6/5:2", "close2"]
        );
        bench.later(Duration::from_secs(5));
    }
    assert!(
        bench.fsm.deadline().unwrap() - bench.now >= Duration::from_secs(40),
        "we dial later"
    );
}

#[test]
fn a_peer_that_does_not_want_us_is_dialed_later() {
    for (code, subcode, data, want) in [
        (6, 1, &[][..], 15),
        (6, 2, &[0][..], 1),
        (6, 5, &[][..], 15),
        (6, 9, &[6, 3][..], 15),
        (6, 9, &[6, 4, 0][..], 1),
        (6, 4, &[0][..], 1),
        (6, 6, &[][..], 1),
        (6, 7, &[][..], 1),
        (3, 5, &[][..], 1),
    ] {
        let mut bench = Bench::at(State::Established);
        let notification = Notification {
            data: Bytes::copy_from_slice(data),
            ..notification(code, subcode)
        };
        bench.on(Event::Message(A, Message::Notification(notification)));
        let wait = (bench.fsm.deadline().unwrap() - bench.now).as_secs_f64();
        let most = f64::from(want);
        assert!((most * 0.74..=most).contains(&wait), "{code}/{subcode}: {wait}");
    }
}

#[test]
fn who_is_shut_down_is_told_so() {
    let mut bench = Bench::at(State::Established);
    let text = Notification::shutdown("until six");
    bench.on(Event::Stop(text.clone()));
    let actions = bench.on(Event::Connected(B, Side::Accepted));
    assert_eq!(
        actions,
        [Action::Send(B, Message::Notification(text)), Action::Close(B)]
    );
    assert_eq!(sent(&bench.on(Event::Start)), ["dial"]);
}

/// RFC 8538 section 4: where a NOTIFICATION would keep routes, an end that is meant is a hard reset.
#[test]
fn an_end_that_is_meant_is_a_hard_reset() {
    let mut bench = Bench::new(false);
    bench.on(Event::Start);
    bench.on(Event::Connected(A, Side::Accepted));
    bench.on(Event::Message(
        A,
        Message::Open(Open {
            my_as: 64512,
            hold_time: 90,
            router_id: id(1),
            capabilities: vec![
                Capability::FourOctetAs(64512),
                Capability::GracefulRestart {
                    restarted: false,
                    notification: true,
                    time: 120,
                    families: vec![(1, 1, true)],
                },
            ],
        }),
    ));
    bench.on(Event::Message(A, Message::Keepalive));
    let actions = bench.on(Event::Stop(Notification::shutdown("")));
    assert_eq!(sent(&actions), ["6/9:1", "close1", "down"]);
    assert!(matches!(&actions[0], Action::Send(_, Message::Notification(n)) if n.data[..] == [6, 2, 0]));
}

#[test]
fn a_restarted_node_may_come_back_at_once_but_not_for_ever() {
    let mut bench = Bench::at(State::Established);
    bench.on(Event::Lost(A, "end of stream".into()));
    for turn in 0..20 {
        let link = LinkId(100 + turn);
        let actions = sent(&bench.on(Event::Connected(link, Side::Accepted)));
        if u32::try_from(turn).unwrap() < PATIENCE {
            assert_eq!(actions, [format!("open{}", link.0)], "turn {turn}");
        } else {
            assert_eq!(actions[0], format!("6/5:{}", link.0), "turn {turn}");
        }
        bench.on(Event::Lost(link, "end of stream".into()));
    }
}

#[test]
fn a_restarting_peer_replaces_its_session_only_with_an_open_and_not_too_soon() {
    let mut bench = Bench::at(State::OpenSent);
    bench.on(Event::Message(A, peer_open(1, 90, true)));
    bench.on(Event::Message(A, Message::Keepalive));
    assert_eq!(
        sent(&bench.on(Event::Connected(B, Side::Accepted))),
        ["6/7:2", "close2"],
        "too soon"
    );
    bench.later(Duration::from_secs(8));
    bench.on(Event::Message(A, Message::Keepalive));
    bench.later(Duration::from_secs(8));
    assert_eq!(sent(&bench.on(Event::Connected(B, Side::Accepted))), ["open2"]);
    assert_eq!(bench.fsm.state(), State::Established);
    bench.on(Event::Lost(B, "a port scan".into()));
    assert_eq!(bench.fsm.state(), State::Established);
    let c = LinkId(3);
    bench.on(Event::Connected(c, Side::Accepted));
    let actions = bench.on(Event::Message(c, peer_open(1, 90, true)));
    assert_eq!(sent(&actions), ["close1", "down", "keepalive3"]);
    assert_eq!(actions[1], Action::Down(Ended::Restarted));
    assert_eq!(sent(&bench.on(Event::Message(c, Message::Keepalive))), ["up3"]);
}

#[test]
fn a_reset_keeps_both_sides_away() {
    let mut bench = Bench::at(State::Established);
    bench.on(Event::Reset {
        notification: notification(6, 1),
        hold_off: Duration::from_secs(300),
    });
    assert_eq!(
        sent(&bench.on(Event::Connected(B, Side::Accepted))),
        ["6/5:2", "close2"]
    );
    assert_eq!(sent(&bench.wake()), ["dial"]);
    assert_eq!(bench.elapsed(), Duration::from_secs(300));
}

/// RFC 4724 section 4.1: what the first OPENs of a process say of it, and those after a session.
#[tokio::test(start_paused = true)]
async fn a_process_that_follows_another_says_so_once() {
    let said = |actions: &[Action]| {
        let sent = actions.iter().find_map(|action| match action {
            Action::Send(_, Message::Open(open)) => Some(open.clone()),
            _ => None,
        });
        let restart = sent.expect("an OPEN").capabilities.into_iter();
        let restart = restart.rev().find_map(|capability| match capability {
            Capability::GracefulRestart {
                restarted,
                time,
                families,
                ..
            } => Some((restarted, time, families)),
            _ => None,
        });
        restart.expect("graceful restart")
    };
    let start = tokio::time::Instant::now().into_std();
    let identity = Identity {
        restart: Restart {
            time: 30,
            families: Families::ALL,
            returned_until: Some(start + Duration::from_secs(30)),
            preserved: Families::NONE.with(Family::Ipv4Unicast),
        },
        ..identity()
    };
    let mut bench = Bench::new(true);
    bench.fsm = Fsm::new(identity, true, Timers::default(), 7);
    bench.on(Event::Start);
    let first = bench.on(Event::Connected(A, Side::Accepted));
    let kept = vec![(1, 1, true), (2, 1, false)];
    assert_eq!(said(&first), (true, 30, kept.clone()));
    bench.on(Event::Lost(A, String::new()));
    bench.later(Duration::from_secs(31));
    let late = bench.on(Event::Connected(B, Side::Accepted));
    assert_eq!(said(&late), (false, 30, kept));
    bench.on(Event::Message(B, peer_open(1, 90, true)));
    bench.on(Event::Message(B, Message::Keepalive));
    assert_eq!(bench.fsm.state(), State::Established);
    bench.on(Event::Lost(B, String::new()));
    bench.later(Duration::from_secs(5));
    let again = bench.on(Event::Connected(LinkId(3), Side::Accepted));
    assert_eq!(
        said(&again),
        (false, 30, vec![(1, 1, true), (2, 1, true)]),
        "this process has not lost anything"
    );
}

/// Whoever keeps our paths hears nothing; any other one hears a Cease.
#[tokio::test(start_paused = true)]
async fn leaving_is_silent_where_the_peer_waits() {
    for (families, helper, silent) in [
        (Families::ALL, true, true),
        (Families::ALL, false, false),
        (Families::NONE, true, false),
    ] {
        let identity = Identity {
            restart: Restart {
                families,
                ..Restart::receiver(120)
            },
            ..identity()
        };
        let mut bench = Bench::new(true);
        bench.fsm = Fsm::new(identity, true, Timers::default(), 7);
        bench.on(Event::Start);
        bench.on(Event::Connected(A, Side::Accepted));
        bench.on(Event::Message(A, peer_open(1, 90, helper)));
        bench.on(Event::Message(A, Message::Keepalive));
        let actions = bench.on(Event::Leave(Notification::shutdown("")));
        let spoke = actions
            .iter()
            .any(|action| matches!(action, Action::Send(_, Message::Notification(_))));
        assert_eq!(!spoke, silent, "{families:?}, helper: {helper}: {actions:?}");
        assert!(actions.contains(&Action::Close(A)));
        assert!(actions.iter().any(|action| matches!(action, Action::Down(_))));
        assert_eq!(bench.fsm.state(), State::Idle);
    }
}
