//! What is agreed on with a peer, and how a session is meant to end.

use super::*;
use crate::wire::Capability;

/// Its OPEN with graceful restart, and the N bit.
fn graceful(last: u8) -> bytes::Bytes {
    Hand::<TcpStream>::open_with(
        last,
        vec![Capability::GracefulRestart {
            restarted: false,
            notification: true,
            time: 120,
            families: vec![(1, 1, true)],
        }],
    )
}

/// RFC 8538: routes outlive a NOTIFICATION where both sides said so, and not a hard reset.
#[tokio::test]
async fn routes_outlive_a_notification_and_no_hard_reset() {
    let bench = Bench::start(bgp()).await;
    for (last, notification, kept) in [
        (1, Notification::reset("new binary"), true),
        (2, Notification::cease(4), true),
        (3, Notification::shutdown("gone").hard(), false),
    ] {
        let from = format!("127.0.1.{last}");
        let mut node = Hand::new(bench.connect(&from).await, last);
        node.establish_with(&graceful(last)).await;
        let routes = node.announcement(&[&format!("10.{last}.0.0/26")], "192.0.2.1");
        node.send(&routes).await;
        let told = |view: Option<&PeerView>| view.is_some_and(|view| view.received.ipv4 == 1);
        bench.eventually(&from, told).await;
        node.send(&wire::encode_notification(&notification)).await;
        assert!(
            ended(node).await.is_none(),
            "{notification}: closed without a word"
        );
        bench
            .eventually(&from, |view| {
                view.is_some_and(|view| {
                    // The session says its state, the table the rest: one may be ahead.
                    view.state != State::Established
                        && view.received.stale == usize::from(kept)
                        && view.received.ipv4 == usize::from(kept)
                })
            })
            .await;
        let view = bench.view(&from).await.unwrap();
        let text = view.notification_received.unwrap().text;
        assert!(text.contains(&notification.to_string()), "{text}");
    }
}

/// RFC 8538: an end that we mean is a hard reset to whoever would keep routes.
#[tokio::test]
async fn our_own_end_is_a_hard_reset() {
    let mut bench = Bench::start(bgp()).await;
    let mut node = Hand::new(bench.connect("127.0.1.1").await, 1);
    node.establish_with(&graceful(1)).await;
    bench
        .until(|event| {
            matches!(
                event,
                Event::Peer {
                    established: true,
                    ..
                }
            )
        })
        .await;
    let handle = bench.handle.clone();
    let (_, end) = tokio::join!(handle.finish(), ended(node));
    let end = end.unwrap();
    assert_eq!((end.code, end.subcode, &end.data[..2]), (6, 9, &[6, 2][..]));
}

/// RFC 9003: a peer that is shut down is told why, then and whenever it comes, until the text is taken away.
#[tokio::test]
async fn a_peer_is_shut_down_with_a_text_and_comes_back() {
    let peer = |shutdown: Option<&str>| Peer {
        name: "tor-1".parse().unwrap(),
        address: "127.0.3.1".parse().unwrap(),
        interface: None,
        port: 179,
        asn: asn().into(),
        role: Role::Upstream,
        passive: true,
        transport: Transport::default(),
        max_prefixes: MaxPrefixes::default(),
        enforce_first_as: true,
        import: vec![],
        export: vec![],
        pass_on: PassOn::default(),
        bfd: None,
        session: SessionSettings {
            shutdown: shutdown.map(Into::into),
            ..SessionSettings::default()
        },
    };
    let with = |shutdown| Bgp {
        peers: vec![peer(shutdown)],
        ..bgp()
    };
    let mut bench = Bench::start(with(None)).await;
    let mut router = Hand::new(bench.connect("127.0.3.1").await, 1);
    router.establish().await;
    bench
        .until(|event| {
            matches!(
                event,
                Event::Peer {
                    established: true,
                    ..
                }
            )
        })
        .await;
    bench.handle.configure(with(Some("until six")));
    let end = ended(router).await.unwrap();
    assert_eq!((end.code, end.subcode), (6, 2));
    assert_eq!(end.shutdown_text().as_deref(), Some("until six"));
    let again = ended(Hand::new(bench.connect("127.0.3.1").await, 1))
        .await
        .unwrap();
    assert_eq!(again.shutdown_text().as_deref(), Some("until six"));
    let view = bench.view("tor-1").await.unwrap();
    assert_eq!(
        (view.state, view.shutdown.as_deref()),
        (State::Idle, Some("until six"))
    );
    assert!(view.notification_sent.unwrap().text.contains("until six"));
    bench.handle.configure(with(None));
    let mut router = loop {
        let mut router = Hand::new(bench.connect("127.0.3.1").await, 1);
        if let Some(Message::Open(_)) = router.next().await {
            break router;
        }
    };
    router.send(&Hand::<TcpStream>::open(1)).await;
    router.send(&wire::encode_keepalive()).await;
    bench
        .until(|event| {
            matches!(
                event,
                Event::Peer {
                    established: true,
                    ..
                }
            )
        })
        .await;
}

/// RFC 9494: after the restart time routes stay as the last choice, but for those that forbid it, until the long time is over.
#[tokio::test]
async fn routes_live_long_as_the_last_choice() {
    let bench = Bench::start(bgp()).await;
    let open = |time| {
        let restart = Capability::GracefulRestart {
            restarted: false,
            notification: false,
            time: 1,
            families: vec![(1, 1, true)],
        };
        let long = Capability::LongLivedGracefulRestart(vec![(1, 1, 0x80, time)]);
        Hand::<TcpStream>::open_with(1, vec![restart, long])
    };
    let mut node = Hand::new(bench.connect("127.0.1.1").await, 1);
    node.establish_with(&open(3)).await;
    let mut said = node.announcement(&["10.1.0.0/26"], "192.0.2.1");
    let forbids = wire::Attributes {
        communities: vec![0xffff_0007],
        ..wire::Attributes::default()
    };
    let forbidden = wire::Nlri {
        path_id: None,
        prefix: "10.2.0.0/26".parse().unwrap(),
    };
    let next_hop = wire::NextHop {
        address: "192.0.2.1".parse().unwrap(),
        link_local: None,
    };
    let what = wire::UpdateOut::Announce {
        prefixes: &[forbidden],
        next_hop,
        attributes: &forbids,
    };
    said.extend(wire::encode_update(what, &node.negotiated).unwrap().concat());
    node.send(&said).await;
    let held = |count| move |view: Option<&PeerView>| view.is_some_and(|view| view.received.ipv4 == count);
    bench.eventually("127.0.1.1", held(2)).await;
    drop(node);
    bench.eventually("127.0.1.1", held(1)).await;
    let view = bench.view("127.0.1.1").await.unwrap();
    assert_eq!((view.received.stale, view.state != State::Established), (1, true));
    let routes = bench.handle.routes(crate::rib::RouteQuery::default()).await;
    assert_eq!(routes.len(), 1, "{routes:?}");
    assert_eq!(routes[0].prefix.to_string(), "10.1.0.0/26");
    assert!(
        routes[0].stale && routes[0].communities.contains(&"65535:6".to_owned()),
        "{routes:?}"
    );

    // It is back in time, and says one of two again.
    let mut node = Hand::new(bench.connect("127.0.1.1").await, 1);
    node.establish_with(&open(3600)).await;
    let mut again = node.announcement(&["10.1.0.0/26"], "192.0.2.1");
    let end = wire::encode_update(wire::UpdateOut::EndOfRib(Family::Ipv4Unicast), &node.negotiated).unwrap();
    again.extend(end.concat());
    node.send(&again).await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 1 && view.received.stale == 0)
        })
        .await;
    let routes = bench.handle.routes(crate::rib::RouteQuery::default()).await;
    assert!(routes[0].communities.is_empty(), "{routes:?}");
}

/// The same without an end: the long time is over as well.
#[tokio::test]
async fn no_route_lives_for_ever() {
    let bench = Bench::start(bgp()).await;
    let restart = Capability::GracefulRestart {
        restarted: false,
        notification: false,
        time: 1,
        families: vec![(1, 1, true)],
    };
    let long = Capability::LongLivedGracefulRestart(vec![(1, 1, 0x80, 1)]);
    let mut node = Hand::new(bench.connect("127.0.1.2").await, 2);
    node.establish_with(&Hand::<TcpStream>::open_with(2, vec![restart, long]))
        .await;
    let said = node.announcement(&["10.1.0.0/26"], "192.0.2.1");
    node.send(&said).await;
    let held = |count| move |view: Option<&PeerView>| view.is_some_and(|view| view.received.ipv4 == count);
    bench.eventually("127.0.1.2", held(1)).await;
    drop(node);
    bench.eventually("127.0.1.2", held(0)).await;
    assert!(
        bench
            .handle
            .routes(crate::rib::RouteQuery::default())
            .await
            .is_empty()
    );
}
