use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sekisho_config::model::{
    AnnounceTo, Asn, BgpIdentity, ErrorWait, MaxPrefixes, Multipath, PassOn, Peer, PeerRange, Prefix, Role,
    RouterId, SessionSettings, Transport, Unroutable, Vip, VipPurpose, Withhold,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::announce::PlannedVip;
use crate::fsm::State;
use crate::session::hand::Hand;
use crate::wire::{self, Family, Message, Notification};

mod agreements;
mod monitoring;
mod pressure;

const PATIENCE: Duration = Duration::from_secs(60);

fn asn() -> Asn {
    Asn::try_from(64512).unwrap()
}

fn bgp() -> Bgp {
    let range = |prefix: &str, role| PeerRange {
        prefix: prefix.parse().unwrap(),
        asn: asn().into(),
        role,
        transport: Transport::default(),
        max_prefixes: MaxPrefixes::default(),
        enforce_first_as: true,
        import: vec![],
        export: vec![],
        pass_on: PassOn::default(),
        session: SessionSettings::default(),
        bfd: None,
    };
    Bgp {
        bmp: vec![],
        identity: BgpIdentity {
            asn: asn(),
            router_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap(),
            hold_time: Duration::from_secs(90),
            cluster_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap(),
            restart: sekisho_config::model::GracefulRestart::default(),
        },
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        install_routes: false,
        table: 254,
        nexthop_objects: true,
        multipath: Multipath::default(),
        pod_prefixes: vec![],
        error_wait: ErrorWait::default(),
        discover_pod_prefixes: true,
        peers: vec![],
        peer_ranges: vec![
            range("127.0.1.0/24", Role::Cluster),
            range("127.0.2.0/24", Role::Upstream),
        ],
    }
}

/// A speaker on the loopback interface, which writes nothing to the kernel.
struct Bench {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    registry: Registry,
    listening: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bench {
    async fn start(bgp: Bgp) -> Self {
        let registry = Registry::new();
        let stop = CancellationToken::new();
        let inputs = Inputs {
            bgp,
            routing: Routing::Required,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let (handle, events) = start(inputs, &registry).await.unwrap();
        let listening = loop {
            match handle
                .listeners()
                .await
                .first()
                .and_then(|listener| listener.bound)
            {
                Some(bound) => break bound,
                None => tokio::task::yield_now().await,
            }
        };
        Self {
            handle,
            events,
            registry,
            listening,
            stop,
        }
    }

    async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(self.listening).await.unwrap()
    }

    /// A peer at this address, established.
    async fn peer(&mut self, from: &str) -> Hand<TcpStream> {
        self.peer_that(from, false).await
    }

    async fn peer_that(&mut self, from: &str, restarts: bool) -> Hand<TcpStream> {
        let mut hand = Hand::new(
            self.connect(from).await,
            from.rsplit('.').next().unwrap().parse().unwrap(),
        );
        hand.restarts = restarts;
        hand.establish().await;
        self.until(|event| matches!(event, Event::Peer { name, established: true } if name.as_str() == from))
            .await;
        hand
    }

    /// A peer that is refused until new settings have come to be.
    async fn peer_soon(&mut self, from: &str) -> Hand<TcpStream> {
        let last = from.rsplit('.').next().unwrap().parse().unwrap();
        loop {
            let mut hand = Hand::new(self.connect(from).await, last);
            if let Some(Message::Open(_)) = hand.next().await {
                hand.send(&Hand::<TcpStream>::open(last)).await;
                hand.send(&wire::encode_keepalive()).await;
                self.until(
                    |event| matches!(event, Event::Peer { name, established: true } if name.as_str() == from),
                )
                .await;
                return hand;
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        let search = async {
            while let Some(event) = self.events.recv().await {
                if wanted(&event) {
                    return;
                }
            }
            panic!("the speaker has ended");
        };
        timeout(PATIENCE, search).await.expect("the event never came");
    }

    async fn view(&self, name: &str) -> Option<PeerView> {
        self.handle
            .peers()
            .await
            .into_iter()
            .find(|peer| peer.name.as_str() == name)
    }

    /// Asks until the answer is right.
    async fn eventually(&self, name: &str, right: impl Fn(Option<&PeerView>) -> bool) {
        let search = async {
            loop {
                let view = self.view(name).await;
                if right(view.as_ref()) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        if timeout(PATIENCE, search).await.is_err() {
            panic!("{:?}", self.view(name).await);
        }
    }

    fn metrics(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

fn plan(address: &str, announce: Result<(), Withhold>) -> Arc<Plan> {
    let address: IpAddr = address.parse().unwrap();
    let vip = Vip {
        address,
        pool: "public".into(),
        announce_to: vec![AnnounceTo::Role(Role::Upstream)],
        purpose: VipPurpose::Ingress,
    };
    let planned = PlannedVip::host(Arc::new(vip), announce);
    Arc::new(Plan {
        vips: [(address, planned)].into(),
        ..Plan::default()
    })
}

/// Our next hop on the loopback interface is 127.0.0.1, which a decoder treats as withdrawn, with this fault.
fn is_announcement(update: &wire::Update) -> bool {
    update
        .withdrawn
        .iter()
        .any(|nlri| nlri.prefix.to_string() == "203.0.113.1/32")
        && update.faults.iter().any(|fault| fault.contains("127.0.0.1"))
}

fn is_withdrawal(update: &wire::Update) -> bool {
    update
        .withdrawn
        .iter()
        .any(|nlri| nlri.prefix.to_string() == "203.0.113.1/32")
        && update.faults.is_empty()
}

async fn ended(mut hand: Hand<TcpStream>) -> Option<Notification> {
    let end = async {
        loop {
            match hand.said().await {
                Some(Message::Notification(notification)) => return Some(notification),
                Some(_) => {}
                None => return None,
            }
        }
    };
    timeout(PATIENCE, end).await.expect("the connection stays open")
}

#[tokio::test]
async fn a_vip_goes_to_upstream_peers_only_and_leaves_with_us() {
    let mut bench = Bench::start(bgp()).await;
    let mut node = bench.peer("127.0.1.1").await;
    let mut router = bench.peer("127.0.2.1").await;
    for hand in [&mut node, &mut router] {
        assert!(hand.update().await.end_of_rib.is_some());
        assert!(hand.update().await.end_of_rib.is_some());
    }
    bench
        .handle
        .announce(plan("203.0.113.1", Err(Withhold::SourceNotReady)));
    bench.handle.announce(plan("203.0.113.1", Ok(())));
    assert!(is_announcement(&router.update().await));
    let vips = bench.handle.vips().await;
    assert_eq!(vips[0].announced_to, ["127.0.2.1".parse::<PeerName>().unwrap()]);
    assert!(
        vips[0].missing.is_empty() && vips[0].withheld.is_none(),
        "{vips:?}"
    );

    bench
        .handle
        .announce(plan("203.0.113.1", Err(Withhold::NoEligibleEndpoint)));
    assert!(is_withdrawal(&router.update().await));
    assert_eq!(
        bench.handle.vips().await[0].withheld,
        Some(Withhold::NoEligibleEndpoint)
    );

    bench.handle.announce(plan("203.0.113.1", Ok(())));
    assert!(is_announcement(&router.update().await));
    let handle = bench.handle.clone();
    let (_, ()) = tokio::join!(handle.finish(), async {
        assert!(is_withdrawal(&router.update().await), "withdrawn before the end");
        let bye = ended(router).await.unwrap();
        assert_eq!((bye.code, bye.subcode), (6, 2));
        // The node was told nothing but the end.
        let Some(Message::Notification(bye)) = node.said().await else {
            panic!("the node was told something else");
        };
        assert_eq!((bye.code, bye.subcode), (6, 2));
    });
    assert!(bench.handle.peers().await.is_empty(), "the speaker has ended");
}

#[tokio::test]
async fn routes_of_a_node_are_held_and_lost_with_it() {
    let mut bench = Bench::start(bgp()).await;
    let mut node = bench.peer("127.0.1.1").await;
    let announced = node.announcement(&["10.1.0.0/26", "0.0.0.0/0", "10.1.1.5/32"], "192.0.2.1");
    node.send(&announced).await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 2)
        })
        .await;
    let view = bench.view("127.0.1.1").await.unwrap();
    assert_eq!(
        (view.state, view.rejected_paths, view.hold_time_seconds),
        (State::Established, 1, Some(90))
    );
    let metrics = bench.metrics();
    for line in [
        "sekisho_bgp_peer_up{peer=\"127.0.1.1\"} 1",
        "sekisho_bgp_peer_prefixes{family=\"ipv4\",peer=\"127.0.1.1\"} 2",
        "sekisho_bgp_rejected_paths_total{peer=\"127.0.1.1\",reason=\"default_route\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    node.send(&wire::encode_notification(&Notification::shutdown("reboot")))
        .await;
    bench
        .until(|event| {
            matches!(
                event,
                Event::Peer {
                    established: false,
                    ..
                }
            )
        })
        .await;
    let view = bench.view("127.0.1.1").await.unwrap();
    assert_eq!((view.received.ipv4, view.flaps), (0, 1));
    assert!(view.last_error.unwrap().text.contains("reboot"));
}

#[tokio::test]
async fn routes_of_a_restarting_node_stay_until_it_has_spoken() {
    let mut bench = Bench::start(bgp()).await;
    let mut node = bench.peer_that("127.0.1.1", true).await;
    let both = node.announcement(&["10.1.0.0/26", "10.1.1.5/32"], "192.0.2.1");
    node.send(&both).await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 2)
        })
        .await;
    drop(node);
    let away = |view: &PeerView| view.state != State::Established && view.received.stale == 2;
    bench.eventually("127.0.1.1", |view| view.is_some_and(away)).await;
    assert!(bench.view("127.0.1.1").await.unwrap().stale_for_seconds.is_some());

    let mut node = bench.peer_that("127.0.1.1", true).await;
    assert_eq!(bench.view("127.0.1.1").await.unwrap().received.stale, 2);
    let one = node.announcement(&["10.1.0.0/26"], "192.0.2.1");
    node.send(&one).await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.stale == 1)
        })
        .await;
    let end = wire::encode_update(
        wire::UpdateOut::EndOfRib(wire::Family::Ipv4Unicast),
        &node.negotiated,
    );
    node.send(&end.unwrap().concat()).await;
    let told =
        |view: &PeerView| (view.received.ipv4, view.received.stale, view.stale_for_seconds) == (1, 0, None);
    bench.eventually("127.0.1.1", |view| view.is_some_and(told)).await;

    // It comes back as somebody who cannot restart: what was kept goes at once.
    drop(node);
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.stale == 1)
        })
        .await;
    let _node = bench.peer("127.0.1.1").await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 0)
        })
        .await;
}

#[tokio::test]
async fn too_many_paths_end_the_session_and_keep_the_peer_away() {
    let mut bench = Bench::start(limited(2)).await;
    let mut node = bench.peer("127.0.1.1").await;
    let three = node.announcement(&["10.1.0.0/26", "10.1.1.5/32", "10.1.1.6/32"], "192.0.2.1");
    node.send(&three).await;
    let end = ended(node).await.unwrap();
    assert_eq!((end.code, end.subcode), (6, 1));
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 0)
        })
        .await;
    let refused = ended(Hand::new(bench.connect("127.0.1.1").await, 1))
        .await
        .unwrap();
    assert_eq!((refused.code, refused.subcode), (6, 5));
    // A new limit is a new chance.
    bench.handle.configure(limited(3));
    let mut node = bench.peer_soon("127.0.1.1").await;
    node.send(&three).await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 3)
        })
        .await;
    // A lower one ends a session that has more; a higher one leaves it alone.
    bench.handle.configure(limited(4));
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.max_prefixes == 4)
        })
        .await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.state == State::Established)
        })
        .await;
    bench.handle.configure(limited(2));
    let end = ended(node).await.unwrap();
    assert_eq!((end.code, end.subcode), (6, 1));
}

#[tokio::test]
async fn what_a_refresh_does_not_repeat_is_gone() {
    let mut bench = Bench::start(bgp()).await;
    let mut node = bench.peer("127.0.1.1").await;
    let two = node.announcement(&["10.1.0.0/26", "10.1.1.0/26"], "192.0.2.1");
    let one = node.announcement(&["10.1.1.0/26"], "192.0.2.1");
    let mark = |kind| {
        let (afi, safi) = (1, 1);
        wire::encode_route_refresh(&wire::RouteRefresh { afi, safi, kind })
    };
    node.send(&two).await;
    // An end without a beginning says nothing.
    node.send(&mark(wire::RouteRefreshKind::End)).await;
    let has = |ipv4, stale| {
        move |view: Option<&PeerView>| {
            view.is_some_and(|view| (view.received.ipv4, view.received.stale) == (ipv4, stale))
        }
    };
    bench.eventually("127.0.1.1", has(2, 0)).await;
    node.send(&mark(wire::RouteRefreshKind::Begin)).await;
    bench.eventually("127.0.1.1", has(2, 2)).await;
    node.send(&one).await;
    bench.eventually("127.0.1.1", has(2, 1)).await;
    node.send(&mark(wire::RouteRefreshKind::End)).await;
    bench.eventually("127.0.1.1", has(1, 0)).await;
}

#[tokio::test]
async fn what_is_not_let_in_is_listed_and_new_rules_are_asked_for() {
    let mut bench = Bench::start(bgp()).await;
    let mut node = bench.peer("127.0.1.1").await;
    for _ in Family::ALL {
        assert!(node.update().await.end_of_rib.is_some());
    }
    let said = node.announcement(&["10.1.0.0/26", "10.2.0.0/26", "0.0.0.0/0"], "192.0.2.1");
    node.send(&said).await;
    let ipv4 = |count| move |view: Option<&PeerView>| view.is_some_and(|view| view.received.ipv4 == count);
    bench.eventually("127.0.1.1", ipv4(2)).await;
    let listed = || async {
        let rejected = bench.handle.rejected(RouteQuery::default()).await;
        let words = rejected
            .iter()
            .map(|view| format!("{} {:?}", view.prefix, view.why));
        words.collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["0.0.0.0/0 DefaultRoute"]);
    let mut narrow = bgp();
    narrow.pod_prefixes = vec!["10.1.0.0/16".parse().unwrap()];
    bench.handle.configure(narrow);
    for _ in Family::ALL {
        let asked = node.said().await;
        let request = |refresh: &wire::RouteRefresh| refresh.kind == wire::RouteRefreshKind::Request;
        assert!(
            matches!(&asked, Some(Message::RouteRefresh(refresh)) if request(refresh)),
            "{asked:?}"
        );
    }
    node.send(&said).await;
    bench.eventually("127.0.1.1", ipv4(1)).await;
    assert_eq!(
        listed().await,
        ["0.0.0.0/0 DefaultRoute", "10.2.0.0/26 NotPodPrefix"]
    );
}

#[tokio::test]
async fn a_drain_announces_again_and_can_be_taken_back() {
    let mut bench = Bench::start(bgp()).await;
    bench.handle.announce(plan("203.0.113.1", Ok(())));
    let mut router = bench.peer("127.0.2.1").await;
    for drain in [None, Some(true), Some(false), Some(true)] {
        if let Some(drain) = drain {
            bench.handle.drain(drain);
        }
        while !is_announcement(&router.update().await) {}
    }
}

/// Where a peer may have so many paths.
fn limited(limit: u32) -> Bgp {
    let mut bgp = bgp();
    for range in &mut bgp.peer_ranges {
        range.max_prefixes.limit = limit;
    }
    bgp
}

#[tokio::test]
async fn tracked_addresses_are_answered_at_once() {
    let mut bench = Bench::start(bgp()).await;
    let address: IpAddr = "10.1.0.5".parse().unwrap();
    bench.handle.track([address].into_iter().collect());
    let why = Unroutable::NoRoute;
    let answer = Event::Reach(vec![(address, Some(Reach::Unroutable { why }))]);
    bench.until(|event| *event == answer).await;
    bench.handle.track(OrdSet::new());
    bench
        .until(|event| *event == Event::Reach(vec![(address, None)]))
        .await;
}

#[tokio::test]
async fn configure_touches_only_the_peers_that_differ() {
    let mut bench = Bench::start(bgp()).await;
    let mut stays = bench.peer("127.0.1.1").await;
    let goes = bench.peer("127.0.2.1").await;
    // The second range goes; the first peer is now configured by itself as well as by nothing else than its range.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut next = bgp();
    next.peer_ranges.pop();
    next.peers.push(Peer {
        name: "tor".parse().unwrap(),
        address: "127.0.0.1".parse().unwrap(),
        port: listener.local_addr().unwrap().port(),
        asn: asn().into(),
        role: Role::Upstream,
        interface: None,
        passive: false,
        transport: Transport::default(),
        max_prefixes: MaxPrefixes::default(),
        enforce_first_as: true,
        import: vec![],
        export: vec![],
        pass_on: PassOn::default(),
        session: SessionSettings::default(),
        bfd: None,
    });
    bench.handle.configure(next.clone());
    let end = ended(goes).await.unwrap();
    assert_eq!((end.code, end.subcode), (6, 3), "de-configured");
    bench.eventually("127.0.2.1", |view| view.is_none()).await;
    assert!(
        !bench.metrics().contains("127.0.2.1"),
        "series of a peer that is gone"
    );

    let (stream, _) = timeout(PATIENCE, listener.accept())
        .await
        .expect("the new peer is dialed")
        .unwrap();
    let mut tor = Hand::new(stream, 99);
    tor.establish().await;
    bench
        .until(|event| matches!(event, Event::Peer { name, established: true } if name.as_str() == "tor"))
        .await;

    let update = stays.announcement(&["10.1.0.0/26"], "192.0.2.1");
    stays.send(&update).await;
    bench
        .eventually("127.0.1.1", |view| {
            view.is_some_and(|view| view.received.ipv4 == 1 && view.flaps == 0)
        })
        .await;

    next.identity.router_id = RouterId::try_from(Ipv4Addr::new(192, 0, 2, 11)).unwrap();
    bench.handle.configure(next);
    for hand in [stays, tor] {
        let end = ended(hand).await.unwrap();
        assert_eq!(
            (end.code, end.subcode),
            (6, 6),
            "a new identity reopens every session"
        );
    }
}

#[tokio::test]
async fn a_peer_that_floods_and_one_that_flaps_hold_up_nobody() {
    let mut bench = Bench::start(bgp()).await;
    let flooder = bench.peer("127.0.1.1").await;
    let update = flooder.announcement(&["10.66.0.0/26"], "192.0.2.1");
    let withdrawal = {
        let gone = wire::Nlri {
            path_id: None,
            prefix: "10.66.0.0/26".parse::<Prefix>().unwrap(),
        };
        wire::encode_update(wire::UpdateOut::Withdraw(&[gone]), &flooder.negotiated)
            .unwrap()
            .concat()
    };
    let (mut void, mut pipe) = flooder.stream.into_split();
    let mut others = tokio::task::JoinSet::new();
    others.spawn(async move {
        let burst = [update, withdrawal].concat().repeat(50);
        while pipe.write_all(&burst).await.is_ok() {}
    });
    others.spawn(async move {
        let mut sink = tokio::io::sink();
        let _ = tokio::io::copy(&mut void, &mut sink).await;
    });
    let listening = bench.listening;
    others.spawn(async move {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.1.2:0".parse().unwrap()).unwrap();
            if let Ok(stream) = socket.connect(listening).await {
                drop(stream);
            }
            tokio::task::yield_now().await;
        }
    });
    // While both go on, a third peer comes up, is heard, and is told.
    let mut node = bench.peer("127.0.1.3").await;
    let routes = node.announcement(&["10.1.0.0/26"], "192.0.2.3");
    node.send(&routes).await;
    bench
        .eventually("127.0.1.3", |view| {
            view.is_some_and(|view| view.received.ipv4 == 1)
        })
        .await;
    let mut router = bench.peer("127.0.2.1").await;
    bench.handle.announce(plan("203.0.113.1", Ok(())));
    let heard = timeout(PATIENCE, async {
        while !is_announcement(&router.update().await) {}
    })
    .await;
    assert!(heard.is_ok());
    let view = bench.view("127.0.1.1").await.unwrap();
    assert_eq!((view.state, view.flaps), (State::Established, 0));
}

#[tokio::test]
async fn strangers_are_refused_without_a_word() {
    let bench = Bench::start(bgp()).await;
    let mut hand = Hand::new(bench.connect("127.0.9.9").await, 9);
    assert_eq!(hand.next().await, None);
    assert!(bench.handle.peers().await.is_empty());
    assert!(
        bench
            .metrics()
            .contains("sekisho_bgp_refused_connections_total{reason=\"unknown\"} 1")
    );
}

#[tokio::test]
async fn strangers_of_a_range_that_only_knock_keep_no_node_out() {
    let mut bench = Bench::start(bgp()).await;
    let _node = bench.peer("127.0.1.1").await;
    let mut knocking = Vec::new();
    for last in 2..30 {
        knocking.push(bench.connect(&format!("127.0.1.{last}")).await);
    }
    let _late = bench.peer("127.0.1.99").await;
    bench
        .eventually("127.0.1.99", |view| {
            view.is_some_and(|view| view.state == State::Established)
        })
        .await;
    let peers = bench.handle.peers().await;
    assert!(peers.len() <= super::task::MAX_RANGE_PEERS, "{}", peers.len());
    assert_eq!(
        bench.view("127.0.1.1").await.unwrap().state,
        State::Established,
        "whoever has a session stays"
    );
}

#[tokio::test]
async fn a_socket_that_cannot_be_bound_is_reported_and_harms_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = bgp();
    settings.listen.push(taken.local_addr().unwrap());
    settings.listen.sort();
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut bench = Bench::start(settings).await;
    let search = async {
        loop {
            let views = bench.handle.listeners().await;
            let error = views
                .iter()
                .find(|view| view.address != free)
                .and_then(|view| view.error.clone());
            match error {
                Some(error) => return error,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let error = timeout(PATIENCE, search)
        .await
        .expect("the failure is not reported");
    assert!(
        error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
    bench.peer("127.0.1.1").await;
}
