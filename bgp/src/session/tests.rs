use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{LazyLock, Mutex};
use std::task::Context;

use imbl::OrdSet;
use prometheus::Registry;
use proptest::prelude::*;
use sekisho_config::model::{Asn, PassedNextHop, PathChange, Prefix, RouterId, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::hand::Hand;
use super::*;
use crate::metrics::Metrics;
use crate::policy::export::Export;
use crate::wire::{Family, NextHop, Nlri, RouteRefresh};

mod simulation;

/// A connection in memory.
struct Pipe {
    stream: DuplexStream,
    ends: (SocketAddr, SocketAddr),
}

/// Who listens in this make-believe network. Every test uses addresses of its own.
static LISTENERS: LazyLock<Mutex<HashMap<SocketAddr, mpsc::Sender<Pipe>>>> = LazyLock::new(Mutex::default);

fn listen(address: SocketAddr) -> mpsc::Receiver<Pipe> {
    let (connections, accepted) = mpsc::channel(8);
    LISTENERS.lock().unwrap().insert(address, connections);
    accepted
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn pipe(near: SocketAddr, far: SocketAddr) -> (Pipe, Pipe) {
    let (a, b) = duplex(8192);
    (
        Pipe {
            stream: a,
            ends: (near, far),
        },
        Pipe {
            stream: b,
            ends: (far, near),
        },
    )
}

impl Stream for Pipe {
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some(self.ends)
    }

    fn protect(&self, _: IpAddr, _: &Protection) -> io::Result<()> {
        Ok(())
    }

    async fn dial(peer: SocketAddr, _: Protection) -> io::Result<Self> {
        let listener = LISTENERS.lock().unwrap().get(&peer).cloned();
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        // The caller's address is its listener's: the other one of the pair.
        let near = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 200).into(), 1);
        let (near, far) = pipe(near, peer);
        listener
            .send(far)
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }
}

fn id(last: u8) -> RouterId {
    RouterId::try_from(Ipv4Addr::new(192, 0, 2, last)).unwrap()
}

fn address(test: u8, last: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, test, last).into(), 179)
}

/// The channels of a session, from the speaker's side.
struct Desk {
    orders: watch::Sender<Orders>,
    accepted: mpsc::Sender<Pipe>,
    reports: mpsc::Receiver<(SessionKey, Report)>,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

fn open_session(tasks: &mut Vec<tokio::task::AbortHandle>, peer: SocketAddr, own: u8, passive: bool) -> Desk {
    let asn = Asn::try_from(64512).unwrap();
    let settings = Settings {
        name: PeerName::from(peer.ip()),
        address: peer,
        passive,
        protection: Protection {
            transport: Transport::default(),
            interface: None,
            external: false,
        },
        identity: Identity {
            asn,
            router_id: id(own),
            hold_time: 9,
            restart: crate::fsm::Restart::receiver(120),
            peer_as: asn.into(),
            add_path_send: false,
            role: None,
            role_strict: false,
        },
        timers: Timers::default(),
        seed: own.into(),
    };
    let (orders, orders_taken) = watch::channel(Orders::default());
    let (accepted, accepted_taken) = mpsc::channel(4);
    let (reports_sent, reports) = mpsc::channel(4);
    let shared = Shared::new();
    let channels = Channels {
        key: 1,
        orders: orders_taken,
        accepted: accepted_taken,
        reports: reports_sent,
        shared: shared.clone(),
        metrics: Metrics::register(&Registry::new()).unwrap().peer(&settings.name),
    };
    let task = tokio_util::task::TaskTracker::new().spawn(Session::new(settings, channels).run());
    tasks.push(task.abort_handle());
    Desk {
        orders,
        accepted,
        reports,
        shared,
        task,
    }
}

impl Desk {
    async fn report(&mut self) -> Report {
        self.reports.recv().await.expect("the session has ended").1
    }

    async fn up(&mut self) {
        let report = self.report().await;
        assert!(matches!(report, Report::Up(_)), "{report:?}");
    }

    fn announce(&self, prefixes: &[&str]) {
        let all = prefixes.iter().map(|prefix| prefix.parse().unwrap());
        self.want(vips(all, false, |_| PathChange::default()));
    }

    fn want(&self, vips: Adverts) {
        self.orders.send_modify(|orders| orders.wanted.vips = vips);
    }
}

/// VIPs as they go to peers of our AS.
fn vips(
    prefixes: impl Iterator<Item = Prefix>,
    draining: bool,
    set: impl Fn(&Prefix) -> PathChange,
) -> Adverts {
    let export = Export {
        asn: Asn::try_from(64512).unwrap(),
        cluster_id: Ipv4Addr::new(192, 0, 2, 10),
        internal: true,
        client: false,
        next_hop: PassedNextHop::Usual,
        draining,
        rules: vec![],
    };
    let advert = |prefix: Prefix| {
        let advert = export.vip(&prefix, &set(&prefix)).unwrap();
        (vip_key(prefix), Arc::new(advert))
    };
    prefixes.map(advert).collect()
}

/// A passive session with a peer made by hand, established.
async fn with_hand(test: u8) -> (Desk, Hand<Pipe>, Vec<tokio::task::AbortHandle>) {
    let mut tasks = Vec::new();
    let mut desk = open_session(&mut tasks, address(test, 7), 10, true);
    let (near, far) = pipe(address(test, 10), address(test, 7));
    desk.accepted.send(near).await.unwrap();
    let mut hand = Hand::new(far, 7);
    hand.establish().await;
    desk.up().await;
    (desk, hand, tasks)
}

fn prefixes(nlri: &[(Nlri, NextHop)]) -> Vec<String> {
    nlri.iter()
        .map(|(nlri, next_hop)| format!("{} via {}", nlri.prefix, next_hop.address))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn two_sessions_that_dial_each_other_end_up_with_one_connection() {
    let (a, b) = (address(1, 1), address(1, 2));
    let (mut to_a, mut to_b) = (listen(a), listen(b));
    let mut tasks = Vec::new();
    let mut at_a = open_session(&mut tasks, b, 1, false);
    let mut at_b = open_session(&mut tasks, a, 2, false);
    let (accepted_a, accepted_b) = (at_a.accepted.clone(), at_b.accepted.clone());
    let mut switch = JoinSet::new();
    switch.spawn(async move {
        loop {
            tokio::select! {
                Some(pipe) = to_a.recv() => accepted_a.send(pipe).await.unwrap(),
                Some(pipe) = to_b.recv() => accepted_b.send(pipe).await.unwrap(),
                else => return,
            }
        }
    });
    at_b.announce(&["203.0.113.1/32"]);
    at_a.up().await;
    at_b.up().await;
    let mut heard = Vec::new();
    while heard
        .iter()
        .filter(|update: &&Update| update.end_of_rib.is_some())
        .count()
        < 2
    {
        match at_a.report().await {
            Report::Updates(updates) => heard.extend(updates),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard[0].announced[0].0.prefix.to_string(), "203.0.113.1/32");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for desk in [&at_a, &at_b] {
        let status = desk.shared.lock();
        assert_eq!((status.state, status.flaps), (State::Established, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn announcements_follow_the_orders() {
    let (mut desk, mut hand, _tasks) = with_hand(2).await;
    for _ in Family::ALL {
        assert!(hand.update().await.end_of_rib.is_some());
    }
    desk.announce(&["2001:db8::1/128"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let withheld = desk.shared.lock().withheld.clone();
    assert_eq!(
        withheld.get(&Family::Ipv6Unicast),
        Some(&CannotAnnounce::NoNextHop)
    );
    desk.announce(&["203.0.113.1/32", "203.0.113.2/32", "2001:db8::1/128"]);
    let update = hand.update().await;
    assert_eq!(
        prefixes(&update.announced),
        ["203.0.113.1/32 via 192.0.2.10", "203.0.113.2/32 via 192.0.2.10"]
    );
    let attributes = update.attributes.unwrap();
    assert_eq!(
        (attributes.as_path.length(), attributes.local_preference),
        (0, Some(100))
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        desk.shared.lock().withheld.get(&Family::Ipv6Unicast),
        Some(&CannotAnnounce::NoNextHop)
    );

    desk.orders
        .send_modify(|orders| orders.wanted.next_hops.ipv6 = Some("2001:db8::10".parse().unwrap()));
    assert_eq!(
        prefixes(&hand.update().await.announced),
        ["2001:db8::1/128 via 2001:db8::10"]
    );

    desk.announce(&["203.0.113.2/32", "2001:db8::1/128"]);
    let gone = hand.update().await.withdrawn;
    assert_eq!(
        gone.iter()
            .map(|nlri| nlri.prefix.to_string())
            .collect::<Vec<_>>(),
        ["203.0.113.1/32"]
    );

    let refresh = RouteRefresh {
        afi: 1,
        safi: 1,
        kind: RouteRefreshKind::Request,
    };
    hand.send(&wire::encode_route_refresh(&refresh)).await;
    let mark = |kind| Some(Message::RouteRefresh(RouteRefresh { kind, ..refresh }));
    assert_eq!(hand.said().await, mark(RouteRefreshKind::Begin));
    assert_eq!(
        prefixes(&hand.update().await.announced),
        ["203.0.113.2/32 via 192.0.2.10"]
    );
    assert_eq!(hand.said().await, mark(RouteRefreshKind::End));

    desk.orders.send_modify(|orders| orders.refresh = 1);
    assert_eq!(hand.said().await, mark(RouteRefreshKind::Request));
    let other = RouteRefresh { afi: 2, ..refresh };
    assert_eq!(hand.said().await, Some(Message::RouteRefresh(other)));

    // RFC 8326: about to go, and taken back.
    let both = || {
        ["203.0.113.2/32", "2001:db8::1/128"]
            .into_iter()
            .map(|text| text.parse().unwrap())
    };
    for (draining, want) in [(true, (Some(0), vec![0xffff_0000])), (false, (Some(100), vec![]))] {
        desk.want(vips(both(), draining, |_| PathChange::default()));
        for _ in Family::ALL {
            let attributes = hand.update().await.attributes.unwrap();
            let got = (attributes.local_preference, attributes.communities.clone());
            assert_eq!(got, want, "draining {draining}");
        }
    }

    // Export rules: only what they change is said again, each set of attributes by itself.
    let change = PathChange {
        med: Some(50),
        local_preference: Some(7),
        ..PathChange::default()
    };
    desk.want(vips(both(), false, |prefix| {
        if prefix.is_ipv4() {
            change.clone()
        } else {
            PathChange::default()
        }
    }));
    let update = hand.update().await;
    assert_eq!(prefixes(&update.announced), ["203.0.113.2/32 via 192.0.2.10"]);
    let attributes = update.attributes.unwrap();
    assert_eq!((attributes.med, attributes.local_preference), (Some(50), Some(7)));
    desk.want(vips(both(), false, |_| PathChange::default()));
    let attributes = hand.update().await.attributes.unwrap();
    assert_eq!((attributes.med, attributes.local_preference), (None, Some(100)));

    let bye = Notification::shutdown("bye");
    desk.orders.send_modify(|orders| orders.stop = Some(bye.clone()));
    for _ in Family::ALL {
        assert_eq!(hand.update().await.withdrawn.len(), 1, "withdrawn before the end");
    }
    assert_eq!(hand.said().await, Some(Message::Notification(bye)));
    assert_eq!(hand.said().await, None);
    drop(hand);
    let report = desk.report().await;
    assert!(matches!(report, Report::Down(Ended::Sent(_))), "{report:?}");
    desk.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn thousands_of_announcements_go_out_as_the_peer_takes_them() {
    let (desk, mut hand, _tasks) = with_hand(3).await;
    let all: OrdSet<Prefix> = (0..20_000_u32)
        .map(|n| Prefix::host(Ipv4Addr::from(0x0a00_0000 + n).into()))
        .collect();
    desk.want(vips(all.iter().copied(), false, |_| PathChange::default()));
    let mut heard = OrdSet::new();
    while heard.len() < all.len() {
        heard.extend(hand.update().await.announced.iter().map(|(nlri, _)| nlri.prefix));
    }
    assert_eq!(heard, all);
}

/// A peer that takes nothing, while announcements are due again: the session waits for it and does not spin.
#[tokio::test]
async fn an_interval_costs_nothing_while_the_peer_does_not_read() {
    let (desk, mut hand, _tasks) = with_hand(13).await;
    let all: OrdSet<Prefix> = (0..40_000_u32)
        .map(|n| Prefix::host(Ipv4Addr::from(0x0a00_0000 + n).into()))
        .collect();
    let first: OrdSet<Prefix> = all.iter().take(20_000).copied().collect();
    desk.orders.send_modify(|orders| {
        orders.wanted.interval = Duration::from_millis(20);
        orders.wanted.vips = vips(first.iter().copied(), false, |_| PathChange::default());
    });
    let mut heard = OrdSet::new();
    while heard.len() < first.len() {
        heard.extend(hand.update().await.announced.iter().map(|(nlri, _)| nlri.prefix));
    }
    desk.want(vips(all.iter().copied(), false, |_| PathChange::default()));
    // Long past the interval; the pipe is full, and other tasks of this thread still have their turn.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while heard.len() < all.len() {
        heard.extend(hand.update().await.announced.iter().map(|(nlri, _)| nlri.prefix));
    }
    assert_eq!(heard, all);
}

#[tokio::test(start_paused = true)]
async fn a_slow_speaker_is_no_reason_to_end_a_session() {
    let (mut desk, mut hand, _tasks) = with_hand(4).await;
    let update = hand.announcement(&["10.1.0.0/26"], "192.0.2.7");
    // The peer floods and never stops to send KEEPALIVEs; nobody takes the reports.
    let flood = async {
        loop {
            if hand.stream.write_all(&update).await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(300), flood).await;
    assert_eq!(desk.shared.lock().state, State::Established);
    let keepalives = desk.shared.lock().sent.keepalive;
    assert!(keepalives >= 100, "{keepalives} KEEPALIVEs in 300 s");
    // And the queue was bounded: what was read fits the channel and two turns of reading.
    let read = desk.shared.lock().received.update;
    assert!(read < 5000, "{read} UPDATEs were read");
    assert!(matches!(desk.report().await, Report::Updates(_)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_given_up() {
    let (mut desk, mut hand, _tasks) = with_hand(5).await;
    let all = (0..20_000_u32).map(|n| Prefix::host(Ipv4Addr::from(0x0a00_0000 + n).into()));
    desk.want(vips(all, false, |_| PathChange::default()));
    let before = Instant::now();
    // It does send KEEPALIVEs.
    let ended = loop {
        hand.send(&wire::encode_keepalive()).await;
        match tokio::time::timeout(Duration::from_secs(3), desk.report()).await {
            Err(_) => assert!(before.elapsed() < Duration::from_secs(60)),
            Ok(report) => break report,
        }
    };
    assert!(
        matches!(&ended, Report::Down(Ended::Sent(notification)) if notification.code == 8),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_gets_4_0_after_the_hold_time() {
    let (mut desk, mut hand, _tasks) = with_hand(6).await;
    let before = Instant::now();
    let report = desk.report().await;
    assert!(
        matches!(&report, Report::Down(Ended::Sent(n)) if n.code == 4),
        "{report:?}"
    );
    assert!(before.elapsed() <= Duration::from_secs(9));
    loop {
        match hand.said().await {
            Some(Message::Notification(notification)) => break assert_eq!(notification.code, 4),
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
    let error = desk.shared.lock().last_error.clone().unwrap();
    assert_eq!(error.by, EndedBy::Us);
    assert!(error.text.contains("4/0"), "{}", error.text);
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_the_peer_is_kept() {
    let (mut desk, mut hand, _tasks) = with_hand(7).await;
    hand.send(&wire::encode_notification(&Notification::shutdown("maintenance")))
        .await;
    drop(hand);
    assert!(matches!(desk.report().await, Report::Down(Ended::Received(_))));
    let error = desk.shared.lock().last_error.clone().unwrap();
    assert_eq!(error.by, EndedBy::Peer);
    assert!(error.text.contains("maintenance"), "{}", error.text);
}

#[tokio::test(start_paused = true)]
async fn a_faulty_update_does_not_end_the_session() {
    let (mut desk, mut hand, _tasks) = with_hand(8).await;
    // ORIGIN 9: treat-as-withdraw (RFC 7606 section 7.1). Then the two octets that kill the bare library: an AS_PATH
    // with one octet over.
    for body in [
        "0000 0015 40010109 400200 400304c0000207 400504 00000064 1a0a0100 00",
        "0000 001c 40010100 400207 0201 0000fc00 02 400304 c0000207 40050400000064 1a0a0100 00",
    ] {
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let body: Vec<u8> = (0..body.len() / 2)
            .map(|n| u8::from_str_radix(&body[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        message.push(2);
        message.extend(body);
        hand.send(&message).await;
        match desk.report().await {
            Report::Updates(updates) => {
                assert!(
                    updates[0].announced.is_empty() && !updates[0].faults.is_empty(),
                    "{updates:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(desk.shared.lock().faulty_updates, 2);
    assert_eq!(desk.shared.lock().state, State::Established);
}

/// Brings a session to one of the states in which it has a connection, throws octets at it, and looks whether it still
/// takes a proper peer afterwards.
async fn throw(stage: u8, octets: Vec<u8>) -> Result<(), String> {
    let mut tasks = Vec::new();
    let mut desk = open_session(&mut tasks, address(9, 7), 10, true);
    let (near, far) = pipe(address(9, 10), address(9, 7));
    desk.accepted.send(near).await.unwrap();
    let mut hand = Hand::new(far, 7);
    if stage >= 1 {
        hand.send(&Hand::<Pipe>::open(7)).await;
    }
    if stage >= 2 {
        hand.send(&wire::encode_keepalive()).await;
        desk.up().await;
    }
    let _ = hand.stream.write_all(&octets).await;
    let _ = hand.stream.shutdown().await;
    let mut void = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), hand.stream.read_to_end(&mut void)).await;
    drop(hand);
    // A proper peer, as long as it takes for the machine to have calmed down.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        while desk.reports.try_recv().is_ok() {}
        let (near, far) = pipe(address(9, 10), address(9, 7));
        if desk.accepted.send(near).await.is_err() {
            return Err("the session is dead".into());
        }
        let mut hand = Hand::new(far, 7);
        if !matches!(hand.next().await, Some(Message::Open(_))) {
            continue;
        }
        hand.send(&Hand::<Pipe>::open(7)).await;
        hand.send(&wire::encode_keepalive()).await;
        loop {
            match desk.report().await {
                Report::Up(_) => return Ok(()),
                _ => continue,
            }
        }
    }
    Err("no session any more".into())
}

fn any_octets() -> impl Strategy<Value = Vec<u8>> {
    let message = (
        any::<u8>(),
        prop::collection::vec(any::<u8>(), 0..80),
        any::<bool>(),
    )
        .prop_map(|(kind, body, honest)| {
            let mut octets = vec![0xff; 16];
            let length = if honest { body.len() + 19 } else { body.len() };
            octets.extend(u16::try_from(length).unwrap().to_be_bytes());
            octets.push(kind % 7);
            octets.extend(body);
            octets
        });
    let proper = prop_oneof![
        Just(Hand::<Pipe>::open(7).to_vec()),
        Just(wire::encode_keepalive().to_vec()),
        Just(wire::encode_notification(&Notification::cease(4)).to_vec()),
    ];
    let parts = prop_oneof![2 => message, 2 => proper, 1 => prop::collection::vec(any::<u8>(), 0..64)];
    prop::collection::vec(parts, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Any octets in any state: the task lives, and takes a proper peer afterwards.
    #[test]
    fn any_octets_in_any_state(stage in 0..3_u8, octets in any_octets()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let result = runtime.block_on(throw(stage, octets));
        prop_assert!(result.is_ok(), "{:?}", result);
    }
}
