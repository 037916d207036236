//! Octets in at the front, octets out at a raw backend: what hostile and odd clients send.

use std::time::Duration;

use sekisho_config::model::Http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, HELLO, Plane, Then, quick, read_all, read_until, soon};

async fn plane(http: Http) -> (Plane, Backend) {
    let mut plane = Plane::start_with(quick(), http).await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    (plane, backend)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// None of these reaches an endpoint; each has its status, and the connection is closed behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused() {
    let (plane, backend) = plane(Http::default()).await;
    let long = "a".repeat(20_000);
    for (request, want) in [
        ("GET / HTTP/1.1\nhost: a.test\n\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\rx: y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nx: y\r\n z\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n host: a.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost : a.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nx\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\n: y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nx: a\u{0}b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nx: a\u{b}b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nx\u{b}: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.test, b.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET /#x HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        ("GET /\u{7f} HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        ("GET / x HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        ("GET\t/ HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        ("GET /\r\nhost: a.test\r\n\r\n", "400"),
        ("GET\r\n\r\n", "400"),
        ("G\"T / HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1x\r\nhost: a.test\r\n\r\n", "400"),
        ("GET * HTTP/1.1\r\nhost: a.test\r\n\r\n", "400"),
        (
            "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "400",
        ),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", "400"),
        ("GET / HTTP/2.0\r\nhost: a.test\r\n\r\n", "505"),
        ("GET / HTTP/1.2\r\nhost: a.test\r\n\r\n", "505"),
        ("PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", "505"),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5,5\r\n\r\nabcde",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nabcde",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length:\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.0\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (&format!("GET /{long} HTTP/1.1\r\nhost: a.test\r\n\r\n"), "414"),
        (&format!("GET /{long}"), "414"),
        (
            &format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}\r\n", "a: b\r\n".repeat(200)),
            "431",
        ),
        (
            &format!("GET / HTTP/1.1\r\nhost: a.test\r\nx: {}", "a".repeat(70_000)),
            "431",
        ),
    ] {
        let answer = plane.raw(request).await;
        let shown = &request[..request.len().min(120)];
        assert_eq!(status(&answer), want, "{shown:?}: {answer}");
        assert!(
            answer.contains("\r\nconnection: close\r\n"),
            "{shown:?}: {answer}"
        );
    }
    assert_eq!(backend.seen(), Vec::<String>::new());
    let lines = plane.finish().await;
    assert!(lines.iter().all(|line| line["ended_by"] == "proxy"), "{lines:?}");
}

/// A body that breaks its framing: what the endpoint has got does not look whole, and nothing behind it is a request.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plane.host("a.test", &[endpoint.local_addr().unwrap()]);
    plane.publish();
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(2000));
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3;a=\"\n\"\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx : y\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n",
        "3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        &extension,
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n"
        );
        let server = async {
            let (mut server, _) = endpoint.accept().await.unwrap();
            read_all(&mut server).await
        };
        let (answer, seen) = soon("both ends", async { tokio::join!(plane.raw(request), server) }).await;
        assert_eq!(status(&answer), "400", "{body:?}: {answer}");
        assert!(
            !seen.contains("\r\n0\r\n") && !seen.contains("smuggled"),
            "{body:?}: {seen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_and_good() {
    let (plane, backend) = plane(Http::default()).await;
    for (request, want) in [
        (
            "\r\n\r\nGET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
            "GET / HTTP/1.1",
        ),
        (
            "GET http://a.test HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
            "GET / HTTP/1.1",
        ),
        (
            "GET http://a.test?x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
            "GET /?x HTTP/1.1",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
            "OPTIONS * HTTP/1.1",
        ),
        (
            "BREW /pot HTTP/1.1\r\nhost:a.test\t \r\nconnection: close\r\n\r\n",
            "BREW /pot HTTP/1.1",
        ),
        (
            "GET /?a=/../b HTTP/1.1\r\nHOST: A.Test\r\nconnection: close\r\n\r\n",
            "GET /?a=/../b HTTP/1.1",
        ),
    ] {
        let answer = plane.raw(request).await;
        assert_eq!(status(&answer), "200", "{request:?}: {answer}");
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.split("\r\n").next(), Some(want), "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_are_answered_in_order() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, request| {
        let path = request.split(' ').nth(1).unwrap().to_owned();
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()),
            Then::Keep,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut all = String::new();
    for number in 0..200 {
        match number % 3 {
            0 => all.push_str(&format!("GET /{number} HTTP/1.1\r\nhost: a.test\r\n\r\n")),
            1 => all.push_str(&format!(
                "POST /{number} HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc"
            )),
            _ => all.push_str(&format!(
                "POST /{number} HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            )),
        }
    }
    // The one that is none ends it, behind the answers to those before it.
    all.push_str(
        "GET /bad HTTP/1.1\r\nhost: a.test\r\nx : y\r\n\r\nGET /after HTTP/1.1\r\nhost: a.test\r\n\r\n",
    );
    let answer = plane.raw(all).await;
    let got: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(got.len(), 201);
    for (number, got) in got.iter().take(200).enumerate() {
        assert!(
            got.starts_with("200") && got.ends_with(&format!("\r\n\r\n/{number}")),
            "{number}: {got}"
        );
    }
    assert!(got[200].starts_with("400"), "{}", got[200]);
    assert_eq!(backend.seen().len(), 200);
}

/// One octet at a time, as slow clients and tests of parsers send.
#[tokio::test(flavor = "multi_thread")]
async fn one_octet_at_a_time() {
    let (plane, backend) = plane(Http::default()).await;
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    client.set_nodelay(true).unwrap();
    for octet in b"POST /a?b HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n" {
        client.write_all(&[*octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_all(&mut client).await.ends_with("hello"));
    assert!(
        backend.seen()[0].contains("3\r\nabc\r\n0\r\n"),
        "{}",
        backend.seen()[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_to_the_endpoint_but_for_those_that_decide() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plane.host("a.test", &[endpoint.local_addr().unwrap()]);
    plane.publish();
    let mut client = plane.ask(b"POST / HTTP/1.1\r\nhost: a.test\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: b.test\r\nContent-Length: 9\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n").await;
    let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    let seen = read_until(&mut server, "x-sum: 1\r\n\r\n").await;
    let (_, body) = seen.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
    server.write_all(HELLO.as_bytes()).await.unwrap();
    read_until(&mut client, "hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plane.host("a.test", &[endpoint.local_addr().unwrap()]);
    plane.publish();
    let mut client = plane
        .ask(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc")
        .await;
    client.shutdown().await.unwrap();
    let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    read_until(&mut server, "abc").await;
    // The box has had time to see the end of the client's side; a new connection is watched when its answer takes longer.
    tokio::time::sleep(Duration::from_millis(500)).await;
    server
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    server.write_all(b"llo").await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(
        answer.ends_with("\r\n\r\nhello") && answer.contains("connection: close"),
        "{answer}"
    );
    let lines = plane.finish().await;
    assert!(lines[0].get("ended_by").is_none(), "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413() {
    let (plane, backend) = plane(Http {
        max_body_bytes: 100,
        ..Http::default()
    })
    .await;
    let chunk = format!("40\r\n{}\r\n", "x".repeat(64));
    for (fields, body, want) in [
        ("content-length: 100", "x".repeat(100), "200"),
        ("content-length: 101", "x".repeat(101), "413"),
        ("content-length: 99999999999", String::new(), "413"),
        (
            "expect: 100-continue\r\ncontent-length: 101",
            String::new(),
            "413",
        ),
        ("transfer-encoding: chunked", format!("{chunk}0\r\n\r\n"), "200"),
        (
            "transfer-encoding: chunked",
            format!("{chunk}{chunk}0\r\n\r\n"),
            "413",
        ),
        ("transfer-encoding: chunked", format!("{chunk}{chunk}"), "413"),
    ] {
        let answer = plane
            .raw(format!(
                "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{fields}\r\n\r\n{body}"
            ))
            .await;
        assert_eq!(status(&answer), want, "{fields}: {answer}");
    }
    // What the endpoint has got of the others does not look whole.
    let whole = |seen: &String| seen.ends_with("x") || seen.ends_with("0\r\n\r\n");
    assert_eq!(backend.seen().iter().filter(|seen| whole(seen)).count(), 2);
}

/// The answer arrives although the client is still sending when it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let (plane, _backend) = plane(Http {
        max_body_bytes: 1000,
        ..Http::default()
    })
    .await;
    let stream = TcpStream::connect(plane.http()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        let head = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 500000\r\n\r\n";
        write.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..50 {
            if write.write_all(&[b'x'; 10_000]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        write.shutdown().await.ok();
    };
    let mut answer = Vec::new();
    let reading = async { read.read_to_end(&mut answer).await.unwrap() };
    soon("the answer", async { tokio::join!(sending, reading) }).await;
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(status(&answer), "413", "{answer}");
    assert!(answer.ends_with("too large.\n"), "{answer}");
}

/// What is refused before the body is wanted gets no 100; a small body that came anyway costs nobody the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_wants() {
    let (plane, backend) = plane(Http::default()).await;
    let answer = plane
        .raw("POST / HTTP/1.1\r\nhost: b.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert!(
        status(&answer) == "404" && answer.contains("connection: close"),
        "{answer}"
    );
    let answer = plane
        .raw("POST / HTTP/1.1\r\nhost: b.test\r\ncontent-length: 5\r\n\r\nabcdeGET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await;
    assert!(status(&answer) == "404" && answer.ends_with("hello"), "{answer}");
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_that_want_to_go_on() {
    let (plane, _backend) = plane(Http::default()).await;
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    for _ in 0..2 {
        client
            .write_all(b"GET / HTTP/1.0\r\nhost: a.test\r\nconnection: keep-alive\r\n\r\n")
            .await
            .unwrap();
        let answer = read_until(&mut client, "hello").await;
        assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_share_of_connections() {
    let (plane, _backend) = plane(Http {
        max_connections_per_address: 2,
        ..Http::default()
    })
    .await;
    let get = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = plane.ask(get).await;
        read_until(&mut client, "hello").await;
        kept.push(client);
    }
    let mut third = TcpStream::connect(plane.http()).await.unwrap();
    let _ = third.write_all(get).await;
    assert_eq!(read_all(&mut third).await, "");
    let closed = plane.metric("sekisho_listener_address_limited_total", &[]);
    assert!((closed - 1.0).abs() < 0.1, "{closed}");
    drop(kept);
    soon("room again", async {
        while !plane.fetch("a.test", "/").await.ends_with("hello") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
