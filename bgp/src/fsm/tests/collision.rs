//! Both sides connect at once (RFC 4271 section 6.8).

use super::*;

#[test]
fn collision_keeps_the_connection_of_the_higher_identifier() {
    // Ours is 10.0.0.10. A is dialed, B accepted; the OPENs come in either order.
    for (peer, first, want) in [
        (1, A, "6/7:2 close2"),
        (1, B, "6/7:2 close2 keepalive1"),
        (99, A, "6/7:1 close1 keepalive2"),
        (99, B, "6/7:1 close1"),
    ] {
        let mut bench = Bench::new(false);
        bench.on(Event::Start);
        bench.on(Event::Connected(B, Side::Accepted));
        bench.on(Event::Connected(A, Side::Dialed));
        let second = if first == A { B } else { A };
        bench.on(Event::Message(first, peer_open(peer, 90, false)));
        let mut actions = sent(&bench.on(Event::Message(second, peer_open(peer, 90, false))));
        actions.retain(|action| action != "failed");
        assert_eq!(actions.join(" "), want, "peer 10.0.0.{peer}, first {first:?}");
        assert_eq!(bench.fsm.state(), State::OpenConfirm);
    }
}

#[test]
fn a_confirmed_connection_waits_for_one_that_would_win() {
    // The peer's identifier is higher, so of A (dialed) and B (accepted) B would win; A is confirmed first.
    let collide = || {
        let mut bench = Bench::new(false);
        bench.on(Event::Start);
        bench.on(Event::Connected(B, Side::Accepted));
        bench.on(Event::Connected(A, Side::Dialed));
        bench.on(Event::Message(A, peer_open(99, 90, false)));
        assert_eq!(
            sent(&bench.on(Event::Message(A, Message::Keepalive))).join(" "),
            ""
        );
        bench
    };
    for (event, want) in [
        (
            Event::Message(B, peer_open(99, 90, false)),
            "6/7:1 close1 keepalive2",
        ),
        (
            Event::Message(B, Message::Notification(notification(6, 7))),
            "close2 failed up1",
        ),
        (Event::Lost(B, String::new()), "close2 failed up1"),
        (Event::Message(A, Message::Keepalive), "6/7:2 close2 up1"),
        (
            Event::Message(A, Message::Update(Update::default())),
            "6/7:2 close2 up1 deliver",
        ),
    ] {
        let mut bench = collide();
        let what = format!("{event:?}");
        assert_eq!(sent(&bench.on(event)).join(" "), want, "{what}");
    }
    let mut bench = collide();
    assert_eq!(sent(&bench.wake()).join(" "), "6/7:2 close2 up1");
    assert_eq!(bench.elapsed(), Duration::from_secs(2));
}

/// To BIRD a connection that comes in when its own has led to a session is another restart of ours.
#[test]
fn after_a_restart_the_peer_takes_our_connection_before_its_own_is_confirmed() {
    let collide = |connected: bool| {
        let start = tokio::time::Instant::now().into_std();
        let identity = Identity {
            restart: Restart {
                returned_until: Some(start + Duration::from_secs(30)),
                ..Restart::receiver(120)
            },
            ..identity()
        };
        let mut bench = Bench::new(false);
        bench.fsm = Fsm::new(identity, false, Timers::default(), 7);
        bench.on(Event::Start);
        if connected {
            bench.on(Event::Connected(A, Side::Dialed));
        }
        bench.on(Event::Connected(B, Side::Accepted));
        bench
    };
    let open = |link, peer| Event::Message(link, peer_open(peer, 90, true));
    let alive = |link| Event::Message(link, Message::Keepalive);
    // (dialed connection A is there, what comes in, what is done)
    let cases: &[(bool, &[Event], &str)] = &[
        (true, &[open(B, 99)], ""),
        (true, &[open(B, 99), alive(B)], ""),
        // Ours is 10.0.0.10: against 99 the accepted one stays, against 1 the dialed one.
        (
            true,
            &[open(B, 99), open(A, 99)],
            "6/7:1 close1 failed keepalive2",
        ),
        (
            true,
            &[open(B, 99), alive(B), open(A, 99)],
            "6/7:1 close1 failed keepalive2 up2",
        ),
        (
            true,
            &[open(B, 1), alive(B), open(A, 1)],
            "6/7:2 close2 keepalive1",
        ),
        (
            true,
            &[open(A, 99), open(B, 99)],
            "keepalive1 6/7:1 close1 keepalive2",
        ),
        (
            true,
            &[open(B, 99), Event::Lost(A, String::new())],
            "close1 failed keepalive2",
        ),
        (
            true,
            &[open(B, 99), alive(B), Event::Lost(A, String::new())],
            "close1 failed keepalive2 up2",
        ),
        (false, &[open(B, 99), Event::DialFailed], "keepalive2"),
        (
            false,
            &[open(B, 99), alive(B), Event::DialFailed],
            "keepalive2 up2",
        ),
        (
            false,
            &[open(B, 1), Event::Connected(A, Side::Dialed), open(A, 1)],
            "open1 6/7:2 close2 keepalive1",
        ),
    ];
    for (connected, events, want) in cases {
        let mut bench = collide(*connected);
        let actions: Vec<_> = events.iter().flat_map(|event| bench.on(event.clone())).collect();
        assert_eq!(sent(&actions).join(" "), *want, "{events:?}");
    }
    // A peer that says nothing on our connection is not waited for long.
    let mut bench = collide(true);
    bench.on(open(B, 99));
    assert_eq!(sent(&bench.wake()).join(" "), "keepalive2");
    assert_eq!(bench.elapsed(), Duration::from_secs(2));
    let mut bench = collide(true);
    bench.on(open(B, 99));
    bench.on(alive(B));
    assert_eq!(sent(&bench.wake()).join(" "), "6/7:1 close1 keepalive2 up2");
}

#[test]
fn equal_identifiers_are_told_apart_by_as() {
    let mut bench = Bench::new(false);
    bench.fsm.identity.peer_as = Asn::try_from(65001).unwrap().into();
    bench.on(Event::Start);
    bench.on(Event::Connected(B, Side::Accepted));
    bench.on(Event::Connected(A, Side::Dialed));
    let open = || {
        Message::Open(Open {
            my_as: 65001,
            hold_time: 90,
            router_id: id(10),
            capabilities: vec![],
        })
    };
    bench.on(Event::Message(A, open()));
    // 65001 > 64512: theirs stays.
    assert_eq!(
        sent(&bench.on(Event::Message(B, open()))),
        ["6/7:1", "close1", "keepalive2"]
    );
}
