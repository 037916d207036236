//! Copies of requests, and bodies that are gathered before they go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sekisho_config::model::{Filters, Http, Mirror, PoolId, Timeouts, VirtualHost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Backend, HELLO, Plane, Then, nowhere, quick, read_all, read_until, soon};

async fn plane(
    backend: std::net::SocketAddr,
    live: (Timeouts, Http),
    filters: impl FnOnce(&mut Plane) -> Filters,
) -> Plane {
    let mut plane = Plane::start_with(live.0, live.1).await;
    plane.host("a.test", &[backend]);
    let filters = filters(&mut plane);
    let pattern = "a.test".parse().unwrap();
    let hosts = &mut plane.cluster().hosts;
    let mut wished = VirtualHost::clone(hosts.get(&pattern).unwrap());
    wished.routes[0].filters = Some(Arc::new(filters));
    hosts.insert(pattern, Arc::new(wished));
    plane.publish();
    plane
}

fn mirrored(pool: PoolId) -> Filters {
    Filters {
        mirror: Some(Mirror {
            pool,
            percent: 100,
            max_body_bytes: 100,
        }),
        ..Filters::default()
    }
}

/// Waits until so many copies have ended so.
async fn ended(plane: &Plane, result: &str, count: f64) {
    soon(result, async {
        while plane.metric("sekisho_http_mirrored_total", &[("result", result)]) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn post(body: &str) -> String {
    format!(
        "POST /x?y=1 HTTP/1.1\r\nhost: a.test\r\nx-request-id: r1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_is_the_request_and_says_that_it_is_one() {
    let (backend, other) = (Backend::hello().await, Backend::hello().await);
    let at = other.address;
    let plane = plane(backend.address, (quick(), Http::default()), |plane| {
        mirrored(plane.pool("shadow", &[at]))
    })
    .await;
    let chunked = "POST /c HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n";
    for (request, want) in [
        (
            post("hello"),
            [
                "post /x?y=1 http/1.1\r\n",
                "\r\ncontent-length: 5\r\n",
                "\r\n\r\nhello",
            ],
        ),
        (
            chunked.to_owned(),
            [
                "post /c http/1.1\r\n",
                "\r\ncontent-length: 5\r\n",
                "\r\n\r\nabcde",
            ],
        ),
        (
            "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n".to_owned(),
            ["get / http/1.1\r\n", "\r\nhost: a.test\r\n", "\r\n\r\n"],
        ),
        (
            post(""),
            [
                "post /x?y=1 http/1.1\r\n",
                "\r\ncontent-length: 0\r\n",
                "\r\n\r\n",
            ],
        ),
    ] {
        let before = other.seen().len();
        assert!(plane.raw(&request).await.ends_with("hello"));
        ended(&plane, "answered", before as f64 + 1.0).await;
        let copy = other.seen()[before].to_ascii_lowercase();
        for text in want
            .iter()
            .chain(&["\r\nx-mirrored: 1\r\n", "\r\nx-forwarded-for: 127.0.0.1\r\n"])
        {
            assert!(copy.contains(text), "{text}: {copy}");
        }
        assert!(copy.ends_with(want[2]) && !copy.contains("x-sum"), "{copy}");
        let original = backend.seen()[before].to_ascii_lowercase();
        assert!(!original.contains("x-mirrored"), "{original}");
    }
    // Its connections are kept like others.
    assert!(other.connections.load(Ordering::SeqCst) <= 2);
    let lines = plane.finish().await;
    assert_eq!(lines.len(), 4, "of copies the log has no line: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_copy_the_request_does_not_hear_of_it() {
    let backend = Backend::hello().await;
    let silent = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let rude = Backend::start(|_, _| ("nonsense\r\n\r\n".to_owned(), Then::Close)).await;
    let timeouts = Timeouts {
        response_read: Duration::from_millis(200),
        ..quick()
    };
    for (address, result) in [
        (nowhere().await, "failed"),
        (silent.address, "failed"),
        (rude.address, "failed"),
    ] {
        let plane = plane(backend.address, (timeouts.clone(), Http::default()), |plane| {
            mirrored(plane.pool("shadow", &[address]))
        })
        .await;
        assert!(plane.raw(post("hello")).await.ends_with("hello"));
        ended(&plane, result, 1.0).await;
        let lines = plane.finish().await;
        assert!(
            lines[0]["ended_by"].is_null() && lines[0]["status"] == 200,
            "{lines:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_bounded() {
    let backend = Backend::hello().await;
    let silent = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let http = Http {
        max_mirrored_requests: 1,
        ..Http::default()
    };
    let at = silent.address;
    let plane = plane(backend.address, (quick(), http), |plane| {
        mirrored(plane.pool("shadow", &[at]))
    })
    .await;
    // Too large, and gone before its end: no copy, and its place is free again.
    assert!(plane.raw(post(&"x".repeat(101))).await.ends_with("hello"));
    ended(&plane, "too_large", 1.0).await;
    let stream = plane
        .ask(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhalf")
        .await;
    soon("the request at the pod", async {
        while backend.connections.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(stream);
    ended(&plane, "unfinished", 1.0).await;
    assert_eq!(silent.seen().len(), 0);
    // One is under way, another has no place.
    assert!(plane.raw(post("one")).await.ends_with("hello"));
    assert!(plane.raw(post("two")).await.ends_with("hello"));
    ended(&plane, "busy", 1.0).await;
    assert_eq!(
        plane.metric("sekisho_http_held_bytes", &[("use", "requests")]),
        3.0
    );
}

fn gathered(most: u64) -> Filters {
    Filters {
        buffer_requests: Some(most),
        ..Filters::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_asked_when_the_body_is_whole() {
    let backend = Backend::hello().await;
    let plane = plane(backend.address, (quick(), Http::default()), |_| gathered(100)).await;
    let mut stream = plane.ask(
            b"POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n",
        ).await;
    assert_eq!(
        read_until(&mut stream, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"3\r\nabc\r\n").await.unwrap();
    soon("the first half", async {
        while plane.metric("sekisho_http_held_bytes", &[("use", "requests")]) < 3.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(backend.connections.load(Ordering::SeqCst), 0);
    stream
        .write_all(b"2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n")
        .await
        .unwrap();
    assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 200"));
    let seen = backend.seen().concat().to_ascii_lowercase();
    assert!(
        seen.contains("\r\ncontent-length: 5\r\n") && seen.ends_with("\r\n\r\nabcde"),
        "{seen}"
    );
    assert!(!seen.contains("chunked") && !seen.contains("trailer"), "{seen}");
    // The connection goes on, also after a body of known length and none at all.
    for (request, want) in [
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nhi",
            "\r\n\r\nhi",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "\r\ncontent-length: 0",
        ),
        ("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "GET / "),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 200"));
        let seen = backend.seen().pop().unwrap();
        assert!(seen.contains(want), "{want}: {seen}");
    }
    drop(stream);
    soon("the memory back", async {
        while plane.metric("sekisho_http_held_bytes", &[("use", "requests")]) > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let lines = plane.finish().await;
    let counted: Vec<u64> = lines
        .iter()
        .map(|line| line["bytes_in"].as_u64().unwrap())
        .collect();
    assert_eq!(counted.iter().sum::<u64>(), 7, "{counted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_slow_reaches_no_pod() {
    let backend = Backend::hello().await;
    let timeouts = Timeouts {
        request_body: Duration::from_millis(200),
        ..quick()
    };
    let http = Http {
        buffer_memory: 50,
        ..Http::default()
    };
    let plane = plane(backend.address, (timeouts, http), |_| gathered(100)).await;
    let chunk = |size: usize| {
        format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n",
            "x".repeat(size)
        )
    };
    for (request, want) in [
        (post(&"x".repeat(101)), "413"),
        (chunk(101), "413"),
        (chunk(51) + "0\r\n\r\n", "503"),
        (chunk(5), "408"),
    ] {
        let answer = plane.raw(&request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {want}")),
            "{want}: {answer}"
        );
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 0);
    assert_eq!(
        plane.metric("sekisho_http_gathered_total", &[("result", "no_memory")]),
        1.0
    );
}

/// A request that may be sent twice and is whole goes to another pod when the first one breaks a kept connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_may_be_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut serving = tokio::task::JoinSet::new();
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            serving.spawn(async move {
                let request = read_until(&mut stream, "\r\n\r\nbody").await;
                assert!(request.starts_with("PUT /"), "{request}");
                stream.write_all(HELLO.as_bytes()).await.unwrap();
                if number == 0 {
                    // Whatever comes after that is read and not answered.
                    let mut octets = [0; 4096];
                    let _ = stream.read(&mut octets).await;
                }
            });
        }
    });
    let plane = plane(address, (quick(), Http::default()), |_| gathered(100)).await;
    let request = "PUT /x HTTP/1.1\r\nhost: a.test\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody";
    // One of them meets the worker that keeps the first connection.
    for _ in 0..64 {
        let answer = plane.raw(request).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
            "{answer}"
        );
    }
    assert!(plane.metric("sekisho_http_retried_total", &[("reason", "reset")]) >= 1.0);
}

fn held(most: u64) -> Filters {
    Filters {
        buffer_responses: Some(most),
        ..Filters::default()
    }
}

/// The pod has said everything while the client has read nothing, which the kernel's buffers alone could not hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_holds_up_no_pod() {
    const SIZE: usize = 30_000_000;
    let backend = Backend::start(|_, _| {
        let body = "x".repeat(SIZE);
        (
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{SIZE:x}\r\n{body}\r\n0\r\n\r\n"),
            Then::Keep,
        )
    })
    .await;
    let plane = plane(backend.address, (quick(), Http::default()), |_| held(1 << 25)).await;
    let whole = [("result", "whole")];
    let mut client = plane
        .ask("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await;
    soon("the answer", async {
        while plane.metric("sekisho_http_gathered_answers_total", &whole) < 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(plane.metric("sekisho_http_held_bytes", &[("use", "requests")]) >= SIZE as f64);
    let answer = read_all(&mut client).await;
    assert!(
        answer.contains(&format!("\r\ncontent-length: {SIZE}\r\n")),
        "{answer:.300}"
    );
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), SIZE);
    soon("the memory back", async {
        while plane.metric("sekisho_http_held_bytes", &[("use", "requests")]) > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["bytes_out"], &lines[0]["ended_by"]),
        (&SIZE.into(), &serde_json::Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_gathered() {
    let backend = Backend::start(|_, request| {
        let path = request.split(' ').nth(1).unwrap();
        let (head, body) = match path {
            "/broken" => ("content-length: 9", "half"),
            "/cut" => ("transfer-encoding: chunked", "4\r\nhalf\r\n"),
            "/trailers" => ("transfer-encoding: chunked", "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"),
            "/events" => (
                "content-type: Text/Event-Stream\r\ntransfer-encoding: chunked",
                "5\r\nwhole\r\n0\r\n\r\n",
            ),
            "/large" => (
                "transfer-encoding: chunked",
                "c\r\nfirst second\r\n6\r\n third\r\n0\r\n\r\n",
            ),
            "/known" => ("content-length: 12", "twelve bytes"),
            "/none" => ("content-length: 0", ""),
            _ => ("transfer-encoding: chunked", "5\r\nwhole\r\n0\r\n\r\n"),
        };
        (format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"), Then::Close)
    })
    .await;
    let plane = plane(backend.address, (quick(), Http::default()), |_| held(10)).await;
    let failed = "The service did not answer properly.\n";
    for (path, status, fields, body) in [
        ("/", 200, "content-length: 5", "whole"),
        // Nothing of it was passed on: it is none.
        ("/broken", 502, "content-type: text/plain", failed),
        ("/cut", 502, "content-type: text/plain", failed),
        (
            "/trailers",
            200,
            "transfer-encoding: chunked",
            "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
        ),
        (
            "/large",
            200,
            "transfer-encoding: chunked",
            "c\r\nfirst second\r\n6\r\n third\r\n0\r\n\r\n",
        ),
        // Each event by itself.
        (
            "/events",
            200,
            "transfer-encoding: chunked",
            "5\r\nwhole\r\n0\r\n\r\n",
        ),
        ("/known", 200, "content-length: 12", "twelve bytes"),
        ("/none", 200, "content-length: 0", ""),
    ] {
        let answer = plane.fetch("a.test", path).await;
        let (head, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(head.contains(&format!("\r\n{fields}")), "{path}: {answer}");
        assert_eq!(got, body, "{path}");
    }
    assert_eq!(
        plane.metric("sekisho_http_gathered_answers_total", &[("result", "part")]),
        1.0
    );
}
