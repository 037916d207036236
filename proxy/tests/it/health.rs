//! Health checks against real endpoints.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sekisho_config::model::{HealthCheck, PoolId, Prefix, Probe, Reach, RoutedVia, Routing, Unroutable};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{Backend, HELLO, Plane, Then, nowhere, soon};

const HOST: &str = "a.test";

fn quick(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        interval: Duration::from_millis(40),
        timeout: Duration::from_secs(5),
        ..HealthCheck::default()
    }
}

fn http(path: &str) -> HealthCheck {
    quick(Probe::Http {
        path: path.into(),
        host: Some("probe.test".into()),
        expect: vec![(200, 299)],
    })
}

async fn plane(endpoints: &[SocketAddr], check: HealthCheck) -> Plane {
    let mut plane = Plane::start().await;
    plane.host(HOST, endpoints);
    ask(&mut plane, HOST, &Arc::new(check));
    plane.publish();
    plane
}

fn ask(plane: &mut Plane, pool: &str, check: &Arc<HealthCheck>) {
    plane.change_pool(pool, |pool| {
        Arc::make_mut(&mut pool.policy).health_check = Some(Arc::clone(check));
    });
}

fn eligible(plane: &mut Plane) -> usize {
    let id: PoolId = plane.cluster().pools.keys().next().unwrap().clone();
    plane.handle.current().pool(&id).unwrap().eligible()
}

/// An endpoint that is ill by its own word gets nothing, and gets its share again when it is well.
#[tokio::test]
async fn an_endpoint_is_out_as_long_as_its_check_fails() {
    let well = Arc::new(AtomicBool::new(true));
    let said = Arc::clone(&well);
    let one = Backend::start(move |_, request| {
        if request.starts_with("GET /healthz HTTP/1.1\r\nhost: probe.test\r\n")
            && !said.load(Ordering::SeqCst)
        {
            let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            return (answer.to_owned(), Then::Close);
        }
        (HELLO.to_owned(), Then::Keep)
    })
    .await;
    let two = Backend::hello().await;
    let mut plane = plane(&[one.address, two.address], http("/healthz")).await;
    let mut first = [plane.health().await, plane.health().await];
    first.sort_unstable();
    let mut want = [(one.address, Some(true)), (two.address, Some(true))];
    want.sort_unstable();
    assert_eq!(first, want);
    assert_eq!(plane.metric("sekisho_health_checked_endpoints", &[]) as u32, 2);

    let requests = |backend: &Backend| {
        let seen = backend.seen();
        seen.iter()
            .filter(|request| request.starts_with("GET / "))
            .count()
    };
    well.store(false, Ordering::SeqCst);
    assert_eq!(plane.health().await, (one.address, Some(false)));
    assert_eq!(eligible(&mut plane), 1);
    for _ in 0..10 {
        assert!(plane.fetch(HOST, "/").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!((requests(&one), requests(&two)), (0, 10));
    assert_eq!(plane.metric("sekisho_health_unhealthy_endpoints", &[]) as u32, 1);

    well.store(true, Ordering::SeqCst);
    assert_eq!(plane.health().await, (one.address, Some(true)));
    for _ in 0..10 {
        plane.fetch(HOST, "/").await;
    }
    assert_eq!((requests(&one), requests(&two)), (5, 15));
    assert_eq!(plane.metric("sekisho_health_unhealthy_endpoints", &[]) as u32, 0);
    assert!(plane.metric("sekisho_health_probes_total", &[("result", "bad")]) >= 3.0);
    plane.finish().await;
}

#[tokio::test]
async fn when_all_fail_all_are_used() {
    let one = Backend::hello().await;
    let check = HealthCheck {
        port: Some(nowhere().await.port()),
        ..quick(Probe::Tcp)
    };
    let mut plane = plane(&[one.address, nowhere().await], check).await;
    assert_eq!(plane.health().await.1, Some(false));
    assert_eq!(eligible(&mut plane), 1);
    assert_eq!(plane.health().await.1, Some(false));
    assert_eq!(eligible(&mut plane), 2);
    assert!(plane.fetch(HOST, "/").await.starts_with("HTTP/1.1 200 "));
    plane.finish().await;
}

#[tokio::test]
async fn a_strict_check_has_to_pass_first() {
    let one = Backend::hello().await;
    let mut check = http("/");
    check.strict = true;
    let mut plane = plane(&[one.address], check).await;
    assert_eq!(eligible(&mut plane), 0);
    assert!(plane.fetch(HOST, "/").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(plane.health().await, (one.address, Some(true)));
    assert_eq!(eligible(&mut plane), 1);
    plane.finish().await;
}

/// A probe that hangs is bad after its time, and does not keep others from theirs.
#[tokio::test]
async fn a_probe_has_its_time() {
    let hangs = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let well = Backend::hello().await;
    let mut check = http("/");
    check.timeout = Duration::from_millis(30);
    let mut plane = plane(&[hangs.address, well.address], check).await;
    let mut got = [plane.health().await, plane.health().await];
    got.sort_unstable_by_key(|(_, well)| *well);
    assert_eq!(got, [(hangs.address, Some(false)), (well.address, Some(true))]);
    assert!(plane.metric("sekisho_health_probes_total", &[("result", "late")]) >= 1.0);
    plane.finish().await;
}

/// Two Services with the same pods, asked the same, are asked once.
#[tokio::test]
async fn pools_share_their_probes() {
    let one = Backend::hello().await;
    let mut plane = Plane::start().await;
    plane.host(HOST, &[one.address]);
    plane.host("b.test", &[one.address]);
    let check = Arc::new(http("/"));
    ask(&mut plane, HOST, &check);
    ask(&mut plane, "b.test", &check);
    plane.publish();
    assert_eq!(plane.health().await, (one.address, Some(true)));
    assert_eq!(plane.metric("sekisho_health_checked_endpoints", &[]) as u32, 1);
    // It goes on for the other one, and ends with that.
    plane.change_pool(HOST, |pool| pool.endpoints.clear());
    plane.publish();
    let before = one.seen().len();
    soon("a further probe", async {
        while one.seen().len() < before + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    plane.change_pool("b.test", |pool| pool.endpoints.clear());
    plane.publish();
    assert_eq!(plane.health().await, (one.address, None));
    assert_eq!(plane.metric("sekisho_health_checked_endpoints", &[]) as u32, 0);
    plane.finish().await;
}

/// Without a route nothing is sent, and nothing is said any more.
#[tokio::test]
async fn a_withdrawn_route_ends_the_probes() {
    let one = Backend::hello().await;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut plane = Plane::start().await;
    plane.routing = Routing::Required;
    plane.host(HOST, &[one.address]);
    ask(&mut plane, HOST, &Arc::new(http("/")));
    plane.publish();
    let routed = RoutedVia {
        prefix: Prefix::host(ip),
        next_hops: vec![],
        peers: vec![],
        interface: None,
        kernel: false,
    };
    plane.observed.reach.insert(ip, Reach::Routed(routed));
    plane.publish();
    assert_eq!(plane.health().await, (one.address, Some(true)));
    let why = Unroutable::NoRoute;
    plane.observed.reach.insert(ip, Reach::Unroutable { why });
    plane.publish();
    assert_eq!(plane.health().await, (one.address, None));
    let seen = one.connections.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // One may have been on its way.
    assert!(one.connections.load(Ordering::SeqCst) <= seen + 1);
    plane.finish().await;
}

/// A gRPC health service that answers with this status, over HTTP/2 in the clear.
async fn grpc(status: Arc<AtomicU8>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let status = Arc::clone(&status);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let status = status.load(Ordering::SeqCst);
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
                    let body = StreamBody::new(futures::stream::iter(frames));
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            serving.spawn(async move {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn grpc_health() {
    let status = Arc::new(AtomicU8::new(1));
    let (address, _tasks) = grpc(Arc::clone(&status)).await;
    let other = Backend::hello().await;
    let service = "shop.Cart".into();
    let mut plane = plane(&[address, other.address], quick(Probe::Grpc { service })).await;
    let mut got = [plane.health().await, plane.health().await];
    got.sort_unstable_by_key(|(_, well)| *well);
    // What speaks HTTP/1.1 has no such service.
    assert_eq!(got, [(other.address, Some(false)), (address, Some(true))]);
    status.store(2, Ordering::SeqCst);
    assert_eq!(plane.health().await, (address, Some(false)));
    status.store(1, Ordering::SeqCst);
    assert_eq!(plane.health().await, (address, Some(true)));
    plane.finish().await;
}
