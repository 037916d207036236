use std::time::Duration;

use sekisho_config::model::{Http, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::support::{Backend, HELLO, Plane, Then, quick, read_all, read_until};

const SHORT: Duration = Duration::from_millis(50);

async fn plane(timeouts: Timeouts) -> Plane {
    Plane::start_with(timeouts, Http::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_end() {
    let plane = plane(Timeouts {
        request_header: SHORT,
        ..quick()
    })
    .await;
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost:").await;
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 408"));
    // Who says nothing gets nothing.
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_header_that_does_not_end() {
    let mut plane = plane(Timeouts {
        request_header: SHORT,
        ..quick()
    })
    .await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    read_until(&mut client, "hello").await;
    client.write_all(b"GET / HT").await.unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection() {
    let mut plane = plane(Timeouts {
        keep_alive: SHORT,
        ..quick()
    })
    .await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert!(read_all(&mut client).await.ends_with("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come() {
    let mut plane = plane(Timeouts {
        request_body: SHORT,
        ..quick()
    })
    .await;
    let mut backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane
        .ask(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    backend.closed.recv().await.unwrap();
    assert!(backend.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come() {
    let mut plane = plane(Timeouts {
        response_read: SHORT,
        ..quick()
    })
    .await;
    let mut backend = Backend::start(|_, request| match request.starts_with("GET /half") {
        true => (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".into(),
            Then::Hang,
        ),
        false => (String::new(), Then::Hang),
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let answer = plane.fetch("a.test", "/").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    backend.closed.recv().await.unwrap();
    let answer = plane.fetch("a.test", "/half").await;
    assert!(answer.ends_with("\r\n\r\nabc") || answer.is_empty(), "{answer}");
    let lines = plane.finish().await;
    for (line, status, phase) in [(&lines[0], 200, "response"), (&lines[1], 504, "wait")] {
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["ended_by"], "upstream", "{line}");
        assert_eq!(line["ended_in"], phase, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read() {
    let mut plane = plane(Timeouts {
        response_write: SHORT,
        ..quick()
    })
    .await;
    let body = "x".repeat(20_000_000);
    let mut backend = Backend::start(move |_, _| {
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
            Then::Keep,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    // The endpoint is let go, long before the client reads.
    backend.closed.recv().await.unwrap();
    let lines = plane.finish().await;
    assert_eq!(lines[0]["ended_by"], "client");
    assert_eq!(lines[0]["ended_in"], "response");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_where_nothing_moves() {
    let mut plane = plane(Timeouts {
        tunnel_idle: SHORT,
        ..quick()
    })
    .await;
    let backend = Backend::start(|_, _| {
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".into(),
            Then::Echo,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane
        .ask(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
        .await;
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 101"));
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["ended_by"], &lines[0]["ended_in"]),
        (&"proxy".into(), &"tunnel".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_or_busy_connection_is_closed_in_order() {
    let http = Http {
        max_requests_per_connection: 2,
        ..Http::default()
    };
    let mut plane = Plane::start_with(quick(), http).await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert!(
        !read_until(&mut client, "hello")
            .await
            .contains("connection: close")
    );
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    let last = read_all(&mut client).await;
    assert!(
        last.contains("connection: close") && last.ends_with("hello"),
        "{last}"
    );
    plane.configure(|live| live.timeouts.connection_age = Duration::ZERO);
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    let only = read_all(&mut client).await;
    assert!(only.is_empty() || only.ends_with("hello"), "{only}");
}

/// An idle connection to an endpoint is closed; the next request makes a new one.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_to_an_endpoint_is_not_used_again() {
    let mut plane = plane(Timeouts {
        upstream_idle: Duration::ZERO,
        ..quick()
    })
    .await;
    let backend = Backend::start(|_, _| (HELLO.into(), Then::Keep)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for _ in 0..3 {
        assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
    }
    assert_eq!(backend.connections.load(std::sync::atomic::Ordering::SeqCst), 3);
}

/// Calls of gRPC, and other exchanges that go both ways at a time: whoever has nothing to say waits as long as the other speaks.
#[tokio::test(flavor = "multi_thread")]
async fn one_direction_rests_while_the_other_moves() {
    const LIMIT: Duration = Duration::from_millis(500);
    const GAP: Duration = Duration::from_millis(50);
    const PIECES: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plane = plane(Timeouts {
        request_body: LIMIT,
        response_read: LIMIT,
        ..quick()
    })
    .await;
    plane.host("a.test", &[listener.local_addr().unwrap()]);
    plane.publish();
    for answer_moves in [true, false] {
        let (request, answer) = if answer_moves { (0, PIECES) } else { (PIECES, 0) };
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\n\r\n-",
            request + 2
        );
        let mut client = plane.ask(request.as_bytes()).await;
        let (mut pod, _) = listener.accept().await.unwrap();
        read_until(&mut pod, "\r\n\r\n-").await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n-",
            answer + 2
        );
        pod.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\n-").await;
        let (from, to) = match answer_moves {
            true => (&mut pod, &mut client),
            false => (&mut client, &mut pod),
        };
        for _ in 0..PIECES {
            sleep(GAP).await;
            from.write_all(b"x").await.unwrap();
            assert_eq!(to.read_u8().await.unwrap(), b'x', "answer moves: {answer_moves}");
        }
        // The one that rested had its time, and both go on.
        client.write_all(b"y").await.unwrap();
        assert_eq!(pod.read_u8().await.unwrap(), b'y', "answer moves: {answer_moves}");
        pod.write_all(b"y").await.unwrap();
        assert_eq!(
            client.read_u8().await.unwrap(),
            b'y',
            "answer moves: {answer_moves}"
        );
    }
}

/// Each wait is short; it is their sum that is too long, unless what comes is worth it.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips() {
    const GAP: Duration = Duration::from_millis(50);
    const PIECES: usize = 20;
    for (min_body_rate, status) in [(0, 200), (5, 200), (100_000, 408)] {
        let timeouts = Timeouts {
            request_body: Duration::from_millis(500),
            ..quick()
        };
        let http = Http {
            min_body_rate,
            ..Http::default()
        };
        let mut plane = Plane::start_with(timeouts, http).await;
        let backend = Backend::hello().await;
        plane.host("a.test", &[backend.address]);
        plane.publish();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {PIECES}\r\nconnection: close\r\n\r\n"
        );
        let mut client = plane.ask(request.as_bytes()).await;
        for _ in 0..PIECES {
            sleep(GAP).await;
            // That the box may have given up is for the reader to see.
            let _ = client.write_all(b"x").await;
        }
        let answer = read_all(&mut client).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{min_body_rate}: {answer}"
        );
    }
}
