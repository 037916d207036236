use std::time::Duration;

use sekisho_config::model::{Http, ListenerState};
use sekisho_proxy::Event;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, HTTP, Plane, Then, quick, read_all, read_until, soon};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_before_the_end() {
    let mut plane = Plane::start().await;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let backend = Backend::start(move |number, _| {
        if number > 0 {
            tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
        }
        (crate::support::HELLO.to_owned(), Then::Keep)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let address = plane.http();
    let get = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(get).await.unwrap();
    read_until(&mut idle, "hello").await;
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(get).await.unwrap();
    soon("the request at the endpoint", async {
        while backend.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stop = tokio::task::JoinSet::from_iter([plane.finish()]);
    // The idle connection ends at once, the busy one with its answer.
    assert_eq!(read_all(&mut idle).await, "");
    go.send(()).unwrap();
    let answer = read_all(&mut busy).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("hello"),
        "{answer}"
    );
    let lines = stop.join_all().await.remove(0);
    assert_eq!(lines.len(), 2);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_cut_when_their_time_is_over() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plane.tcp(&[endpoint.local_addr().unwrap()]).await;
    let client = TcpStream::connect(address).await.unwrap();
    let (server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    let lines = plane.finish().await;
    assert_eq!(lines[0]["ended_by"], "proxy");
    drop((client, server));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_follow_the_snapshot() {
    let mut plane = Plane::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    plane.desired.http.push(address);
    plane.publish();
    match soon("an event", plane.events.recv()).await {
        Some(Event::Listener {
            address: at,
            state: Some(ListenerState::Failed { error }),
        }) => {
            assert_eq!(at, address);
            assert!(error.contains("another process"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(taken);
    plane.bound(1).await;
    assert!(TcpStream::connect(address).await.is_ok());
    plane.desired.http.retain(|at| *at != address);
    plane.publish();
    assert_eq!(
        soon("an event", plane.events.recv()).await,
        Some(Event::Listener { address, state: None })
    );
    soon("the socket to close", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // An address that the box does not have yet can be bound.
    let foreign = "192.0.2.200:0".parse().unwrap();
    plane.desired.http.push(foreign);
    plane.publish();
    plane.bound(1).await;
    assert!(plane.handle.bound(foreign).is_some());
    assert!(plane.handle.bound(HTTP.parse().unwrap()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait() {
    let mut plane = Plane::start_with(
        quick(),
        Http {
            max_connections: 1,
            ..Http::default()
        },
    )
    .await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    // Each accepting socket holds a place while it waits, so that with a limit of one only one of them accepts.
    for _ in 0..4 {
        assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_where_that_is_wished() {
    let mut plane = Plane::start_with(
        quick(),
        Http {
            max_connections: 1,
            close_when_full: true,
            ..Http::default()
        },
    )
    .await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut first = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    read_until(&mut first, "hello").await;
    let mut second = TcpStream::connect(plane.http()).await.unwrap();
    assert_eq!(read_all(&mut second).await, "");
    assert!(plane.metric("sekisho_listener_limited_total", &[]) > 0.5);
    drop(first);
    soon("room again", async {
        while !plane.fetch("a.test", "/").await.ends_with("hello") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A worker that does not keep up refuses what is new and cheap to refuse, and goes on when it does again.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_worker_sheds() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let get = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let mut client = plane.ask(get).await;
    read_until(&mut client, "hello").await;
    // No worker is that quick.
    plane.configure(|live| live.http.shed_after = Duration::from_nanos(1));
    soon("both workers to shed", async {
        while plane.metric("sekisho_workers_shedding", &[]) < 1.9 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let before = backend.seen().len();
    client.write_all(get).await.unwrap();
    let answer = read_until(&mut client, "overloaded.\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: "),
        "{answer}"
    );
    assert_eq!(backend.seen().len(), before);
    assert!(plane.metric("sekisho_http_refused_total", &[("reason", "overloaded")]) > 0.5);
    plane.configure(|_| {});
    soon("the worker to keep up", async {
        while plane.metric("sekisho_workers_shedding", &[]) > 0.1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    client.write_all(get).await.unwrap();
    read_until(&mut client, "hello").await;
    assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_view_the_answer_is_503() {
    let mut plane = Plane::start().await;
    plane.desired.cluster = None;
    plane.publish();
    let answer = plane.fetch("a.test", "/").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("starting"),
        "{answer}"
    );
}
