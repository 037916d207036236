use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, Plane, Then, read_all, read_until, soon};

/// Requests whose end two parsers could see in different places. None may reach an endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_reach_nobody() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n";
    for fields in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ncontent-length: 5",
        "content-length: 4, 5",
        "content-length: +4",
        "content-length: -1",
        "content-length: 0x4",
        "content-length: 99999999999999999999",
        "transfer-encoding: identity",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        "transfer-encoding: chunked\r\n folded: x",
        "content-length: 4\r\nhost: b.test",
        "content-length : 4",
        "x: \0",
        "content-length: 4\r\nbad name: x",
    ] {
        let answer = plane
            .raw(format!(
                "POST / HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n\r\n{smuggled}"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{fields}: {answer}");
        assert!(!answer.contains("hello"), "{fields}: {answer}");
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.test\r\nhost: a.test\r\n\r\n",
        "GET ftp://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.test/x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: u@a.test\r\n\r\n",
        "GET /a\\b HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET a.test HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "GET /  HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let (line, fields) = request.split_once("\r\n").unwrap();
        let answer = plane
            .raw(format!("{line}\r\nconnection: close\r\n{fields}"))
            .await;
        let status = answer.split(' ').nth(1);
        assert_eq!(status, Some("400"), "{request}: {answer}");
    }
    for request in [
        "CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ] {
        let (line, fields) = request.split_once("\r\n").unwrap();
        let answer = plane
            .raw(format!("{line}\r\nconnection: close\r\n{fields}"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{request}: {answer}");
    }
    assert_eq!(backend.seen(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_header_is_431() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for fields in [format!("x: {}\r\n", "a".repeat(70_000)), "a: b\r\n".repeat(200)] {
        let answer = plane
            .raw(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert!(backend.seen().is_empty());
}

/// An answer that breaks off must never look whole; one that lies about its length is refused.
#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_do_not_look_whole() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, request| {
        let answer = match request.split(' ').nth(1) {
            Some("/short") => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            Some("/chunk") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Some("/badchunk") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
            Some("/both") => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"
            }
            Some("/lengths") => "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
            Some("/coding") => "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
            Some("/head") => "HTTP/1.1 200 OK\r\ncontent-le",
            Some("/space") => "HTTP/1.1 200 OK\r\ncontent-length : 3\r\n\r\nabc",
            Some("/switch") => {
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
            }
            _ => "nonsense\r\n\r\n",
        };
        (answer.to_owned(), Then::Close)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for path in [
        "/both",
        "/lengths",
        "/coding",
        "/head",
        "/space",
        "/switch",
        "/nonsense",
    ] {
        let answer = plane.fetch("a.test", path).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{path}: {answer}");
    }
    let answer = plane.fetch("a.test", "/short").await;
    assert!(
        answer.is_empty() || (answer.contains("content-length: 10") && answer.ends_with("\r\n\r\nabc")),
        "{answer}"
    );
    for path in ["/chunk", "/badchunk"] {
        let answer = plane.fetch("a.test", path).await;
        assert!(!answer.contains("0\r\n\r\n"), "{path}: {answer}");
    }
    let early = plane.metric("sekisho_http_ended_early_total", &[("by", "upstream")]);
    assert!((early - 10.0).abs() < 0.1, "{early}");
}

/// A request that breaks off must not look whole to the endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_do_not_look_whole() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    plane.host("a.test", &[endpoint.local_addr().unwrap()]);
    plane.publish();
    for (fields, body, rest) in [
        ("content-length: 10", "abc", ""),
        ("transfer-encoding: chunked", "3\r\nabc\r\n", ""),
        ("transfer-encoding: chunked", "3\r\nabc\r\n", "zz\r\n"),
        ("transfer-encoding: chunked", "3\r\nabc\r\n", "5\r\nab"),
        (
            "transfer-encoding: chunked",
            "3\r\nabc\r\n",
            "ffffffffffffffffff\r\n",
        ),
    ] {
        let mut client = TcpStream::connect(plane.http()).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n\r\n{body}");
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
        read_until(&mut server, "abc").await;
        client.write_all(rest.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let seen = read_all(&mut server).await;
        assert!(
            !seen.contains("0\r\n\r\n") && !seen.contains("zz"),
            "{fields} {rest}: {seen}"
        );
    }
}

/// Requests with octets changed, doubled or left out: whatever reaches the endpoint is one well-formed request, and
/// the box goes on. Each case is made from its number, which the message names.
#[tokio::test(flavor = "multi_thread")]
async fn spoilt_requests_do_no_harm() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let seeds: [&[u8]; 3] = [
        b"POST /a/b?c=d HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n\r\n",
    ];
    let odd = b"\0\r\n\t :;,/\\%#?@\xff0123456789abcABC";
    for case in 0..1000u64 {
        let mut dice = sekisho_proxy::balance::Dice::new(case);
        let mut request = seeds[dice.below(seeds.len())].to_vec();
        for _ in 0..=dice.below(3) {
            let place = dice.below(request.len());
            match dice.below(3) {
                0 => request[place] = odd[dice.below(odd.len())],
                1 => request.insert(place, odd[dice.below(odd.len())]),
                _ => {
                    request.remove(place);
                }
            }
        }
        let mut client = plane.ask(&request).await;
        // Without this an incomplete request would be waited for.
        client.shutdown().await.unwrap();
        read_all(&mut client).await;
        for seen in std::mem::take(&mut *backend.requests.lock().unwrap()) {
            let (line, rest) = seen.split_once("\r\n").unwrap();
            let what = format!(
                "case {case}: {:?} became {seen:?}",
                String::from_utf8_lossy(&request)
            );
            let words: Vec<&str> = line.split(' ').collect();
            assert!(
                words.len() == 3 && words[1].starts_with('/') && words[2] == "HTTP/1.1",
                "{what}"
            );
            let rest = rest.to_ascii_lowercase();
            let (fields, _) = rest.split_once("\r\n\r\n").unwrap();
            let count = |name: &str| {
                fields
                    .split("\r\n")
                    .filter(|field| field.starts_with(name))
                    .count()
            };
            assert!(count("host:") == 1 && fields.contains("host: a.test"), "{what}");
            assert!(
                count("content-length:") + count("transfer-encoding:") <= 1,
                "{what}"
            );
            assert!(
                !fields.contains("upgrade: h2c") && !fields.contains('\0'),
                "{what}"
            );
        }
    }
    assert!(plane.fetch("a.test", "/").await.ends_with("hello"));
}
