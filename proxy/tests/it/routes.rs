//! What becomes of connections when the way to their endpoint is withdrawn, or the endpoint itself.

use std::net::SocketAddr;

use sekisho_config::model::{Condition, Pool, PoolId, Reach, RoutedVia, Routing, Unroutable};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Backend, HELLO, Plane, Then, read_all, read_until, soon};

/// A data plane with one host `a.test` that has an endpoint at each of 127.0.1.1, 127.0.1.2 …, routed.
async fn plane(backends: &[&Backend]) -> Plane {
    let mut plane = Plane::start().await;
    plane.routing = Routing::Required;
    for backend in backends {
        route(&mut plane, backend.address, true);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    plane.host("a.test", &addresses);
    plane.publish();
    plane
}

fn route(plane: &mut Plane, address: SocketAddr, routed: bool) {
    let reach = if routed {
        Reach::Routed(RoutedVia {
            prefix: "127.0.0.0/8".parse().unwrap(),
            next_hops: vec![],
            peers: vec![],
            interface: None,
            kernel: false,
        })
    } else {
        let why = Unroutable::NoRoute;
        Reach::Unroutable { why }
    };
    plane.observed.reach.insert(address.ip(), reach);
}

/// Takes requests and never answers.
async fn silent(address: &str) -> Backend {
    Backend::start_at(address, |_, _| (String::new(), Then::Hang)).await
}

async fn asked(backend: &Backend, count: usize) {
    soon("the request at the endpoint", async {
        while backend.seen().len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_goes_to_another_endpoint() {
    let mut silent = silent("127.0.1.1:0").await;
    let other = Backend::start_at("127.0.1.2:0", |_, _| (HELLO.to_owned(), Then::Keep)).await;
    let mut plane = plane(&[&silent]).await;
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    let get = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    client.write_all(get).await.unwrap();
    asked(&silent, 1).await;
    // Both in one snapshot, and the one in the request's hand knows nothing of the other endpoint.
    route(&mut plane, silent.address, false);
    route(&mut plane, other.address, true);
    plane.host("a.test", &[silent.address, other.address]);
    plane.publish();
    assert!(read_all(&mut client).await.ends_with("hello"));
    soon("the end at the silent endpoint", silent.closed.recv()).await;
    let unrouted = plane.metric("sekisho_http_upstream_unrouted_total", &[]);
    assert!((unrouted - 1.0).abs() < 0.1, "{unrouted}");
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["status"], &lines[0]["retries"]),
        (&200.into(), &1.into())
    );
    assert_eq!(lines[0]["endpoint"], other.address.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_must_not_be_repeated_gets_502() {
    for (request, endpoints) in [
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nok",
            2,
        ),
        // There is no other endpoint.
        ("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", 1),
    ] {
        let silent = silent("127.0.1.1:0").await;
        let other = Backend::start_at("127.0.1.2:0", |_, _| (HELLO.to_owned(), Then::Keep)).await;
        let mut plane = plane(&[&silent, &other][..endpoints]).await;
        route(&mut plane, other.address, false);
        plane.publish();
        let mut client = plane.ask(request.as_bytes()).await;
        asked(&silent, 1).await;
        route(&mut plane, silent.address, false);
        route(&mut plane, other.address, true);
        plane.publish();
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 502"), "{request:?}: {head}");
        drop(client);
        let lines = plane.finish().await;
        assert_eq!(lines[0]["ended_by"], "upstream", "{request:?}");
        assert_eq!(lines[0]["ended_in"], "wait", "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_end_with_the_route_and_with_the_endpoint() {
    for gone in [false, true] {
        let mut backend = Backend::start_at("127.0.1.1:0", |_, _| (HELLO.to_owned(), Then::Keep)).await;
        let mut plane = plane(&[&backend]).await;
        assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
        if gone {
            plane.host("a.test", &[]);
        } else {
            route(&mut plane, backend.address, false);
        }
        plane.publish();
        soon("the end of the kept connection", backend.closed.recv()).await;
        assert_eq!(backend.seen().len(), 1);
        let idle = plane.metric("sekisho_http_upstream_idle_connections", &[]);
        assert!(idle.abs() < 0.1, "gone: {gone}: {idle}");
        assert!(plane.fetch("a.test", "/").await.starts_with("HTTP/1.1 503"));
    }
}

/// An endpoint that stays in another pool keeps its connections; so does one that is only not ready.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_leaving_keeps_what_it_has() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let backend = Backend::start_at("127.0.1.1:0", move |_, _| {
        tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
        (HELLO.to_owned(), Then::Keep)
    })
    .await;
    let mut plane = plane(&[&backend]).await;
    let id: PoolId = plane.pool("b.test", &[backend.address]);
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    let get = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    client.write_all(get).await.unwrap();
    asked(&backend, 1).await;
    plane.host("a.test", &[]);
    plane.publish();
    for condition in [Condition::ServingTerminating, Condition::NotReady] {
        let mut pool: Pool = plane.cluster().pools[&id].as_ref().clone();
        pool.endpoints[0].condition = condition;
        plane.cluster().pools.insert(id.clone(), pool.into());
        plane.publish();
    }
    go.send(()).unwrap();
    assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
    let unrouted = plane.metric("sekisho_http_upstream_unrouted_total", &[]);
    assert!(unrouted.abs() < 0.1, "{unrouted}");
}
