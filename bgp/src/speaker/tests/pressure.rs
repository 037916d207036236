//! Peers that flood, stall and flap, and one beside them that must not notice.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::*;
use crate::rib::{Relation, RouteQuery};
use crate::wire::{RouteRefresh, RouteRefreshKind};

/// What a round trip may take while the others do their worst, unoptimized, and on a machine that others use as well.
const PATIENT: Duration = Duration::from_secs(30);

/// Does `work` over and over on a thread and runtime of its own, until told to end.
fn troublemaker<F: Future<Output = ()>>(
    stop: &Arc<AtomicBool>,
    work: impl Fn() -> F + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        while !stop.load(Ordering::Relaxed) {
            // Whoever is kept away for a while tries again.
            let _ = runtime.block_on(async { timeout(Duration::from_secs(6), work()).await });
        }
    })
}

async fn connect(to: SocketAddr, from: &str) -> Hand<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let last = from.rsplit('.').next().unwrap().parse().unwrap();
    Hand::new(socket.connect(to).await.unwrap(), last)
}

/// A session, or `false` where the box does not want one now.
async fn stands(hand: &mut Hand<TcpStream>, last: u8) -> bool {
    if !matches!(hand.next().await, Some(Message::Open(_))) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        return false;
    }
    let _ = hand.stream.write_all(&Hand::<TcpStream>::open(last)).await;
    let _ = hand.stream.write_all(&wire::encode_keepalive()).await;
    true
}

#[tokio::test]
async fn whoever_floods_stalls_or_flaps_delays_nobody_else() {
    let mut bench = Bench::start(bgp()).await;
    let to = bench.listening;
    let stop = Arc::new(AtomicBool::new(false));
    let troublemakers = [
        // Announces and withdraws without end, with other attributes each time.
        troublemaker(&stop, move || async move {
            let mut hand = connect(to, "127.0.1.11").await;
            if !stands(&mut hand, 11).await {
                return;
            }
            let prefixes: Vec<String> = (0..800_u32)
                .map(|n| format!("10.{}.{}.0/24", 100 + n / 256, n % 256))
                .collect();
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let floods = [
                hand.announcement(&prefixes, "192.0.2.1"),
                hand.announcement(&prefixes, "192.0.2.2"),
            ];
            for turn in 0.. {
                if hand.stream.write_all(&floods[turn % 2]).await.is_err() {
                    return;
                }
            }
        }),
        // Asks for everything without end and reads nothing.
        troublemaker(&stop, move || async move {
            let mut hand = connect(to, "127.0.2.12").await;
            if !stands(&mut hand, 12).await {
                return;
            }
            let refresh = wire::encode_route_refresh(&RouteRefresh {
                afi: 1,
                safi: 1,
                kind: RouteRefreshKind::Request,
            });
            let many = refresh.repeat(100);
            while hand.stream.write_all(&many).await.is_ok() {}
        }),
        // Comes and goes.
        troublemaker(&stop, move || async move {
            let mut hand = connect(to, "127.0.1.13").await;
            stands(&mut hand, 13).await;
        }),
    ];

    let (orders, mut ordered) = mpsc::channel::<String>(1);
    let steady = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut hand = connect(to, "127.0.1.1").await;
                // A hold time of 3 s: the lowest there is.
                let mut open = Hand::<TcpStream>::open(1).to_vec();
                open[22..24].copy_from_slice(&3_u16.to_be_bytes());
                hand.establish_with(&open).await;
                while !stop.load(Ordering::Relaxed) {
                    let _ = hand.stream.write_all(&wire::encode_keepalive()).await;
                    if let Ok(Some(prefix)) = timeout(Duration::from_millis(500), ordered.recv()).await {
                        let announcement = hand.announcement(&[&prefix], "192.0.2.1");
                        let _ = hand.stream.write_all(&announcement).await;
                    }
                }
            });
        })
    };
    bench
        .until(
            |event| matches!(event, Event::Peer { name, established: true } if name.as_str() == "127.0.1.1"),
        )
        .await;
    let (mut slowest_route, mut slowest_view) = (Duration::ZERO, Duration::ZERO);
    let began = Instant::now();
    let mut rounds = 0_u32;
    while began.elapsed() < Duration::from_secs(5) && rounds < 90 * 256 {
        let prefix = format!("10.{}.{}.0/24", rounds / 256, rounds % 256);
        rounds += 1;
        let query = RouteQuery {
            prefix: Some((Relation::Exact, prefix.parse().unwrap())),
            ..RouteQuery::default()
        };
        let sent = Instant::now();
        orders.send(prefix).await.unwrap();
        loop {
            let asked = Instant::now();
            let found = !bench.handle.routes(query.clone()).await.is_empty();
            slowest_view = slowest_view.max(asked.elapsed());
            if found || sent.elapsed() > PATIENT {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        slowest_route = slowest_route.max(sent.elapsed());
    }
    println!("{rounds} routes, the slowest {slowest_route:?}; slowest answer {slowest_view:?}");
    // Before anybody is told to end: the steady one closes its connection then.
    let view = bench.view("127.0.1.1").await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(
        (view.state, view.flaps),
        (State::Established, 0),
        "{:?}",
        view.last_error
    );
    assert!(slowest_route < PATIENT, "a route took {slowest_route:?}");
    assert!(slowest_view < PATIENT, "an answer took {slowest_view:?}");
    let flooded = bench.view("127.0.1.11").await.unwrap();
    assert!(flooded.messages_received.update > 10, "there was no flood");
    let flapped = bench.view("127.0.1.13").await.unwrap();
    assert!(flapped.messages_received.open > 1, "nobody flapped");
    drop(bench);
    steady.join().unwrap();
    for troublemaker in troublemakers {
        troublemaker.join().unwrap();
    }
}
