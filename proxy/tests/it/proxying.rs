use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use sekisho_config::model::{Action, ObjectName, Unavailable};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Backend, HELLO, Plane, Then, nowhere, read_all, read_until};

#[tokio::test(flavor = "multi_thread")]
async fn host_and_path_decide() {
    let mut plane = Plane::start().await;
    let (a, b) = (
        Backend::hello().await,
        Backend::start(|_, _| (HELLO.replace("hello", "other"), Then::Keep)).await,
    );
    let (to_a, to_b) = (plane.pool("a", &[a.address]), plane.pool("b", &[b.address]));
    let empty = plane.pool("empty", &[]);
    plane.route(
        "a.test",
        &[
            ("/b", Action::Forward(to_b)),
            ("/none", Action::Forward(empty)),
            (
                "/gone",
                Action::Unavailable(Unavailable::ServiceMissing {
                    service: ObjectName::new("ns", "gone"),
                }),
            ),
            ("/", Action::Forward(to_a)),
        ],
    );
    plane.publish();
    for (host, path, status, body) in [
        ("a.test", "/", "200", "hello"),
        ("A.Test:8080", "/x?y=1", "200", "hello"),
        ("a.test", "/b", "200", "other"),
        ("a.test", "/b/c", "200", "other"),
        ("a.test", "/bb", "200", "hello"),
        ("a.test", "/none", "503", "No endpoint"),
        ("a.test", "/gone/x", "503", "not available"),
        ("b.test", "/", "404", "No route"),
        ("127.0.0.1", "/", "404", "No route"),
        ("a.test", "/a%2fb", "400", "path"),
    ] {
        let answer = plane.fetch(host, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{host}{path}: {answer}"
        );
        assert!(answer.contains(body), "{host}{path}: {answer}");
        assert!(answer.contains("\r\nserver: "), "{host}{path}: {answer}");
        assert_eq!(
            answer.contains("retry-after"),
            status == "503",
            "{host}{path}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_gets_the_canonical_request() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let answer = plane
        .raw(
            "GET /x//y/../%7ez?q=%2F HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6\r\n\
             X_Secret: 1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\n\
             X-Request-ID: abc\r\nAccept: */*\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = backend.seen().remove(0);
    let (line, rest) = seen.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /x/~z?q=%2F HTTP/1.1");
    let mut fields: Vec<&str> = rest.trim_end().split("\r\n").collect();
    fields.sort_unstable();
    let port = format!("x-forwarded-port: {}", plane.http().port());
    assert_eq!(
        fields,
        [
            "accept: */*",
            "forwarded: for=127.0.0.1;proto=http",
            "host: a.test",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: a.test",
            &port,
            "x-forwarded-proto: http",
            "x-real-ip: 127.0.0.1",
            "x-request-id: abc",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_on_both_sides() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    for _ in 0..5 {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
            .await
            .unwrap();
        let answer = read_until(&mut client, "hello").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && !answer.contains("connection: close"),
            "{answer}"
        );
    }
    // Pipelined.
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\nGET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "hello").await;
    read_until(&mut client, "hello").await;
    assert_eq!(backend.seen().len(), 7);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
    let reused = plane.metric("sekisho_http_upstream_reused_total", &[]);
    assert!((reused - 6.0).abs() < 0.1, "{reused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_goes_to_another_endpoint() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[nowhere().await, backend.address]);
    plane.host("dead.test", &[nowhere().await]);
    plane.publish();
    for _ in 0..6 {
        let answer = plane
            .raw("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(
        backend
            .seen()
            .iter()
            .all(|request| request.ends_with("\r\n\r\nok"))
    );
    let answer = plane.fetch("dead.test", "/").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

/// A connection that was kept may have been closed by the endpoint meanwhile. What was surely or harmlessly not done
/// is done again, once; the rest is not.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_harmless_request_is_sent_again() {
    for (request, want, sent) in [
        (
            "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200",
            3,
        ),
        (
            "DELETE / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200",
            3,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 502",
            2,
        ),
        (
            "PUT / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 502",
            2,
        ),
    ] {
        let mut plane = Plane::start().await;
        let backend = Backend::start(|number, _| match number {
            1 => (String::new(), Then::Reset),
            _ => (HELLO.to_owned(), Then::Keep),
        })
        .await;
        plane.host("a.test", &[backend.address]);
        plane.publish();
        let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
        read_until(&mut client, "hello").await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with(want), "{request}: {answer}");
        assert_eq!(backend.seen().len(), sent, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_connection_that_breaks_is_a_502() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, _| (String::new(), Then::Close)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    assert!(plane.fetch("a.test", "/").await.starts_with("HTTP/1.1 502"));
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_gets_its_share() {
    let mut plane = Plane::start().await;
    let mut backends = Vec::new();
    for _ in 0..10 {
        backends.push(Backend::hello().await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    plane.host("a.test", &addresses);
    plane.publish();
    for _ in 0..100 {
        assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
    }
    // One at a time, the pool is always idle: each in turn, over both workers.
    let counts: Vec<usize> = backends.iter().map(|backend| backend.seen().len()).collect();
    assert_eq!(counts, [10; 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_in_every_framing() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, request| match request.split(' ').nth(1) {
        Some("/chunked") => (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".into(),
            Then::Keep,
        ),
        Some("/close") => ("HTTP/1.1 200 OK\r\n\r\nabcde".into(), Then::Close),
        Some("/old") => ("HTTP/1.0 200 OK\r\n\r\nabcde".into(), Then::Close),
        Some("/204") => ("HTTP/1.1 204 No Content\r\n\r\n".into(), Then::Keep),
        Some("/304") => (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n".into(),
            Then::Keep,
        ),
        Some("/early") => (
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde"
                .into(),
            Then::Keep,
        ),
        Some("/head") => ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".into(), Then::Keep),
        _ => (HELLO.to_owned(), Then::Keep),
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for (request, want) in [
        ("GET /chunked HTTP/1.1", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        ("GET /chunked HTTP/1.0", "abcde"),
        ("GET /close HTTP/1.1", "\r\n0\r\n\r\n"),
        ("GET /old HTTP/1.1", "\r\n0\r\n\r\n"),
        ("GET /204 HTTP/1.1", "\r\n\r\n"),
        ("GET /304 HTTP/1.1", "\r\n\r\n"),
        ("GET /early HTTP/1.1", "abcde"),
        ("HEAD /head HTTP/1.1", "\r\n\r\n"),
        ("HEAD /a%2fb HTTP/1.1", "\r\n\r\n"),
    ] {
        let answer = plane
            .raw(format!("{request}\r\nhost: a.test\r\nconnection: close\r\n\r\n"))
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(format!("\r\n\r\n{body}").ends_with(want), "{request}: {answer}");
        if want.starts_with("\r\n\r\n") {
            assert_eq!(body, "", "{request}");
        }
        if request.starts_with("HEAD /head") {
            assert!(head.contains("content-length: 5"), "{head}");
        }
    }
    for (framing, body, want) in [
        ("content-length: 5", "abcde", "abcde"),
        (
            "transfer-encoding: chunked",
            "5\r\nabcde\r\n0\r\n\r\n",
            "5\r\nabcde\r\n0\r\n\r\n",
        ),
        (
            "transfer-encoding: Chunked",
            "5;x=y\r\nabcde\r\n0\r\n\r\n",
            "5\r\nabcde\r\n0\r\n\r\n",
        ),
    ] {
        let answer = plane
            .raw(format!(
                "POST /p HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{framing}\r\n\r\n{body}"
            ))
            .await;
        assert!(answer.ends_with("hello"), "{framing}: {answer}");
        let seen = backend.seen().pop().unwrap();
        assert!(seen.ends_with(&format!("\r\n\r\n{want}")), "{framing}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_is_said_when_the_body_is_wanted() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(
        read_until(&mut client, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 100")
    );
    client.write_all(b"ok").await.unwrap();
    assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
    assert!(!backend.seen()[0].contains("expect"));
    let answer = plane.raw("POST / HTTP/1.1\r\nhost: a.test\r\nexpect: magic\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 417"), "{answer}");
}

/// A request keeps the world that it began with; the next one sees the new.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_snapshot_in_the_middle_of_a_request() {
    let mut plane = Plane::start().await;
    let old = Backend::start(|_, _| {
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".into(),
            Then::Echo,
        )
    })
    .await;
    let new = Backend::hello().await;
    plane.host("a.test", &[old.address]);
    plane.publish();
    let mut client = plane.ask(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
    plane.host("a.test", &[new.address]);
    plane.publish();
    assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
    plane.cluster().hosts.clear();
    plane.publish();
    assert!(plane.fetch("a.test", "/").await.starts_with("HTTP/1.1 404"));
    drop(old);
    // The old exchange was still alive until its own endpoint ended it.
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_are_answered_before_anything_else() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    let answer = sekisho_config::model::ChallengeAnswer {
        key_authorization: "token.thumb".into(),
    };
    plane.observed.answers.insert("token".into(), answer);
    plane.publish();
    for host in ["a.test", "unknown.test"] {
        let answer = plane.fetch(host, "/.well-known/acme-challenge/token").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\ntoken.thumb"),
            "{answer}"
        );
    }
    assert!(
        plane
            .fetch("a.test", "/.well-known/acme-challenge/other")
            .await
            .ends_with("hello")
    );
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_streams_with_back_pressure() {
    let mut plane = Plane::start().await;
    let body = "x".repeat(3_000_000);
    let answer = Arc::new(Mutex::new(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )));
    let backend = Backend::start(move |_, _| (answer.lock().unwrap().clone(), Then::Keep)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let got = plane
        .raw(format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!(
        got.split_once("\r\n\r\n").map(|(_, got)| got.len()),
        Some(body.len())
    );
    assert!(backend.seen()[0].ends_with(&body));
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_are_believed() {
    let mut plane = Plane::start().await;
    plane.configure(|live| live.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]);
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    plane
        .raw(
            "GET / HTTP/1.1\r\nhost: a.test\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n\
             connection: close\r\n\r\n",
        )
        .await;
    let seen = backend.seen().remove(0);
    assert!(
        seen.contains("x-forwarded-for: 192.0.2.1, 127.0.0.1\r\n"),
        "{seen}"
    );
    assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
    assert_eq!(plane.finish().await[0]["client"], "192.0.2.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_are_served() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("", &[backend.address]);
    plane.publish();
    let answer = plane.raw("GET / HTTP/1.0\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello"),
        "{answer}"
    );
    let answer = plane.raw("POST / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let seen = backend.seen();
    assert!(
        seen[0].starts_with("GET / HTTP/1.1\r\n") && seen[0].contains("\r\nhost: \r\n"),
        "{seen:?}"
    );
    assert!(seen[1].contains("\r\ncontent-length: 0\r\n"), "{seen:?}");
}

/// What a scrape says is well formed and complete.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_be_read() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    plane.fetch("a.test", "/").await;
    plane.fetch("b.test", "/").await;
    let pool = [("namespace", "ns"), ("service", "a.test"), ("port", "80")];
    let one = |name, labels: &[(&str, &str)]| (plane.metric(name, labels) - 1.0).abs() < 0.1;
    assert!(one(
        "sekisho_http_requests_total",
        &[pool[0], pool[1], pool[2], ("code", "2xx")]
    ));
    assert!(one("sekisho_http_refused_total", &[("reason", "no_route")]));
    assert!(one("sekisho_pool_endpoints", &[pool[1], ("state", "eligible")]));
    assert!((plane.metric("sekisho_listener_bound", &[]) - 2.0).abs() < 0.1);
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&plane.registry.gather())
        .unwrap();
    for line in [
        "sekisho_http_request_duration_seconds_count{namespace=\"ns\",service=\"a.test\",port=\"80\"} 1",
        "sekisho_http_requests_in_flight 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    plane.cluster().pools.clear();
    plane.publish();
    assert!(plane.metric("sekisho_http_requests_total", &[]) < 0.1);
}
