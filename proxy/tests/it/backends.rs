//! Octets in at the front, octets out at a raw backend: what backends send that misbehave.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, HELLO, Plane, Then, read_all, read_until, soon};

/// A plane before a backend that answers every request with the octets of its table.
async fn plane(table: &'static [(&'static str, &'static str)], then: Then) -> (Plane, Backend) {
    let mut plane = Plane::start().await;
    let backend = Backend::start(move |_, request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let answer = table
            .iter()
            .find(|(of, _)| *of == path)
            .map_or(HELLO, |(_, answer)| *answer);
        (answer.to_owned(), then)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    (plane, backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_502() {
    const TABLE: &[(&str, &str)] = &[
        ("/lf", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
        (
            "/split",
            "HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\ncontent-length: 2\r\n\r\nok",
        ),
        ("/cr", "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 2\r\n\r\nok"),
        (
            "/fold",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        ),
        (
            "/nul",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok",
        ),
        (
            "/name",
            "HTTP/1.1 200 OK\r\na b: c\r\ncontent-length: 2\r\n\r\nok",
        ),
        ("/noname", "HTTP/1.1 200 OK\r\n: c\r\ncontent-length: 2\r\n\r\nok"),
        ("/version", "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        ("/status", "HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok"),
        ("/statuses", "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok"),
        ("/old", "<html>ok</html>"),
        ("/plus", "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok"),
        ("/list", "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok"),
        (
            "/differ",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        ),
        (
            "/both",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "/coding",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "/ten",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "/switch",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        ),
    ];
    let (plane, _backend) = plane(TABLE, Then::Keep).await;
    for (path, _) in TABLE {
        let answer = plane.fetch("a.test", path).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{path}: {answer}");
    }
    assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_without_end_are_502() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, request| {
        let count = if request.starts_with("GET /many") { 33 } else { 32 };
        (
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(count) + HELLO,
            Then::Keep,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let answer = plane.fetch("a.test", "/").await;
    assert_eq!(answer.matches("HTTP/1.1 103").count(), 32);
    assert!(answer.ends_with("hello"), "{answer}");
    let answer = plane.fetch("a.test", "/many").await;
    assert!(answer.contains("HTTP/1.1 502"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_pass_to_those_who_know_them() {
    const TABLE: &[(&str, &str)] = &[
        (
            "/hints",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\nY: z\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            "/continue",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ),
    ];
    let (plane, _backend) = plane(TABLE, Then::Keep).await;
    let answer = plane.fetch("a.test", "/hints").await;
    assert!(
        answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{answer}"
    );
    let answer = plane.raw("GET /hints HTTP/1.0\r\nhost: a.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    // Nobody asked for it.
    let answer = plane.fetch("a.test", "/continue").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Octets beyond the length are nobody's answer: the connection is not used again.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_length() {
    const TABLE: &[(&str, &str)] = &[
        (
            "/more",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
        ("/204", "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil"),
        (
            "/304",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            "/chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
        ),
    ];
    let (plane, backend) = plane(TABLE, Then::Keep).await;
    for (path, want) in [
        ("/more", "\r\n\r\nok"),
        ("/204", "\r\n\r\n"),
        ("/304", "\r\n\r\n"),
        ("/chunks", "2\r\nok\r\n0\r\n\r\n"),
    ] {
        // One connection is served by one worker, which keeps one to the endpoint.
        let mut client = TcpStream::connect(plane.http()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, want).await;
        assert!(answer.ends_with(want), "{path}: {answer}");
        if path == "/204" {
            assert!(!answer.contains("content-length"), "{answer}");
        }
        let before = backend.connections.load(Ordering::SeqCst);
        let request = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut client).await;
        assert!(
            answer.ends_with("hello") && !answer.contains("evil"),
            "{path}: {answer}"
        );
        let after = backend.connections.load(Ordering::SeqCst);
        assert_eq!(after, before + 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_twice_is_said_once() {
    const TABLE: &[(&str, &str)] = &[
        (
            "/length",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        ),
        (
            "/coding",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ];
    let (plane, _backend) = plane(TABLE, Then::Keep).await;
    let answer = plane.fetch("a.test", "/length").await;
    assert_eq!(answer.matches("content-length: 2\r\n").count(), 1, "{answer}");
    let answer = plane.fetch("a.test", "/coding").await;
    assert_eq!(
        answer.matches("transfer-encoding: chunked\r\n").count(),
        1,
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_to_the_client() {
    const TABLE: &[(&str, &str)] = &[(
        "/",
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n",
    )];
    let (plane, _backend) = plane(TABLE, Then::Keep).await;
    let answer = plane.fetch("a.test", "/").await;
    assert!(
        answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"),
        "{answer}"
    );
    let answer = plane.raw("GET / HTTP/1.0\r\nhost: a.test\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

/// Where only the end of the connection ends an answer, one that breaks off ends with a reset.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_answer_without_a_length_is_a_reset() {
    const TABLE: &[(&str, &str)] = &[
        (
            "/chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        ),
        (
            "/bad",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
        ),
    ];
    let (plane, _backend) = plane(TABLE, Then::Close).await;
    for (path, _) in TABLE {
        let mut client = TcpStream::connect(plane.http()).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nhost: a.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = soon("the end", client.read_to_end(&mut answer)).await;
        assert!(ended.is_err(), "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

/// The answer that comes before the request is sent whole is passed on at once, and both connections end with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_request() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plane.host("a.test", &[endpoint.local_addr().unwrap()]);
    plane.publish();
    let mut client = plane
        .ask(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000\r\n\r\nabc")
        .await;
    let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    read_until(&mut server, "abc").await;
    server
        .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        .await
        .unwrap();
    let answer = read_until(&mut client, "no").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(read_all(&mut server).await, "");
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "");
}

/// A request that may not be sent twice goes over a kept connection only while that is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_does_not_meet_a_closed_connection() {
    let mut plane = Plane::start().await;
    let mut backend = Backend::start(|number, _| match number {
        0 => (HELLO.into(), Then::Close),
        _ => (HELLO.into(), Then::Keep),
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    read_until(&mut client, "hello").await;
    soon("the end of the connection", backend.closed.recv()).await;
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nok")
        .await
        .unwrap();
    let answer = read_until(&mut client, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(backend.seen().len(), 2);
}

/// Both directions at once, the answer faster than the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_within_one_exchange() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plane.host("a.test", &[endpoint.local_addr().unwrap()]);
    plane.publish();
    let mut client = plane
        .ask(b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    read_until(&mut server, "\r\n\r\n").await;
    server
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    for _ in 0..3 {
        client.write_all(b"4\r\nping\r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "ping\r\n").await, "4\r\nping\r\n");
        server.write_all(b"4\r\npong\r\n").await.unwrap();
        assert_eq!(read_until(&mut client, "pong\r\n").await, "4\r\npong\r\n");
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_until(&mut server, "0\r\n\r\n").await, "0\r\n\r\n");
    server.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_until(&mut client, "0\r\n\r\n").await, "0\r\n\r\n");
}
