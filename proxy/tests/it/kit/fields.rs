//! Field lines: their syntax, and which of them are not passed on.

use super::{judge, plane};
use crate::support::Plane;

const PLAIN: &str = "GET / HTTP/1.1|host: a.test||";

#[tokio::test(flavor = "multi_thread")]
async fn syntax() {
    let (plane, recorder) = plane().await;
    judge(
        &plane,
        &recorder,
        &[
            (
                "GET / HTTP/1.1|Host: a.test|X: y||",
                "GET / HTTP/1.1|host: a.test|x: y||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X:y||",
                "GET / HTTP/1.1|host: a.test|x: y||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X:||",
                "GET / HTTP/1.1|host: a.test|x: ||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: \t ||",
                "GET / HTTP/1.1|host: a.test|x: ||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: \t y \t||",
                "GET / HTTP/1.1|host: a.test|x: y||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: y\tz||",
                "GET / HTTP/1.1|host: a.test|x: y\tz||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: y: z||",
                "GET / HTTP/1.1|host: a.test|x: y: z||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: a|X: b|X: a||",
                "GET / HTTP/1.1|host: a.test|x: a|x: b|x: a||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: «c3»«a9»||",
                "GET / HTTP/1.1|host: a.test|x: é||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: «ff»«80»||",
                "GET / HTTP/1.1|host: a.test|x: «ff»«80»||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: \"y||",
                "GET / HTTP/1.1|host: a.test|x: \"y||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|!#$%&'*+-.^`~: y||",
                "GET / HTTP/1.1|!#$%&'*+-.^`~: y|host: a.test||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|0: y||",
                "GET / HTTP/1.1|0: y|host: a.test||",
            ),
            ("GET / HTTP/1.1|Host: a.test|X : y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X\t: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test| X: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|\tX: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: y| z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: y|\tz||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X:| y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: y| ||", "400"),
            ("GET / HTTP/1.1|Host: a.test|: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|:||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X Y: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|(X): z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X,: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X;: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X=: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X@: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|\"X\": z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X/: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X[]: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X{}: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X\\: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X?: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|«c3»«a9»: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X«a0»: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X\0: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X\x01: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X\x7f: z||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: \0||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\0b||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x01b||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x08b||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x0bb||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x1bb||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x1fb||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x7fb||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\x0cContent-Length: 3||", "400"),
            ("GET / HTTP/1.1|Host: a.test|GET /smuggled HTTP/1.1|X: y||", "400"),
        ],
    )
    .await;
}

/// Fields of one connection, and what Connection names.
#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop() {
    let (plane, recorder) = plane().await;
    judge(&plane, &recorder, &[
        ("GET / HTTP/1.1|Host: a.test|Connection: keep-alive||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: close||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Connection: CLOSE||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Connection: x, close||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Connection: x|Connection: close||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Connection: keep-alive, close||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Connection: closed||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection:||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: ,, ,||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: x y||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: «ff»||", PLAIN),
        ("GET / HTTP/1.0|Host: a.test|Connection: keep-alive||", PLAIN),
        ("GET / HTTP/1.0|Host: a.test|Connection: keep-alive, close||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Keep-Alive: timeout=5||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Proxy-Connection: keep-alive||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Proxy-Authorization: Basic eA==||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Proxy-Authenticate: x||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: x-secret|X-Secret: 1||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Secret: 1|connection:X-SECRET\t,y|Y: 2|Z: 3||", "GET / HTTP/1.1|host: a.test|z: 3||"),
        ("GET / HTTP/1.1|Host: a.test|Connection: x|Connection: y|X: 1|Y: 2||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: host||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: x-forwarded-for, x-real-ip, x-request-id, forwarded||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Connection: cookie|Cookie: a=b||", PLAIN),
        ("POST / HTTP/1.1|Host: a.test|Connection: content-length|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("POST / HTTP/1.1|Host: a.test|Connection: transfer-encoding|Transfer-Encoding: chunked||3|abc|0||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc"),
        ("GET / HTTP/1.1|Host: a.test|TE: trailers||", "GET / HTTP/1.1|host: a.test|te: trailers||"),
        ("GET / HTTP/1.1|Host: a.test|TE: trailers, gzip;q=0.5|Connection: TE||", "GET / HTTP/1.1|host: a.test|te: trailers||"),
        ("GET / HTTP/1.1|Host: a.test|TE: gzip, deflate;q=0.5||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|TE: chunked||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: h2c|Connection: Upgrade, HTTP2-Settings|HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: h2c|Connection: Upgrade||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: H2C, websocket|Connection: Upgrade||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: websocket|Upgrade: h2c|Connection: Upgrade||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|HTTP2-Settings: AAMAAABk||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: TLS/1.0|Connection: Upgrade||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: HTTP/2.0|Connection: Upgrade||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: websocket||", PLAIN),
        ("GET / HTTP/1.0|Host: a.test|Upgrade: websocket|Connection: Upgrade||", "GET / HTTP/1.1|host: a.test||^"),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: websocket|Connection: Upgrade||", "GET / HTTP/1.1|connection: upgrade|host: a.test|upgrade: websocket||"),
        // An upgrade and a body: whose are the octets behind it?
        ("POST / HTTP/1.1|Host: a.test|Upgrade: websocket|Connection: Upgrade|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("GET / HTTP/1.1|Host: a.test|Upgrade: websocket|Connection: Upgrade|Transfer-Encoding: chunked||0||", "GET / HTTP/1.1|host: a.test|transfer-encoding: chunked||"),
    ]).await;
}

/// What clients say in the name of proxies, in whatever spelling.
#[tokio::test(flavor = "multi_thread")]
async fn claims() {
    let (plane, recorder) = plane().await;
    judge(&plane, &recorder, &[
        ("GET / HTTP/1.1|Host: a.test|X_Forwarded_For: 6.6.6.6||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Forwarded_For: 6.6.6.6||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X_Real_IP: 6.6.6.6||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Content_Length: 5||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Transfer_Encoding: chunked||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|_: x||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|Cookie_: x||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Forwarded-Server: x|X-Forwarded-Ssl: on|X-Forwarded-Scheme: https||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Forwarded-Prefix: /admin|X-Forwarded-Uri: /admin||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Forwarded-Client-Cert: x|X-Forwarded-User: root||", PLAIN),
        // Servers of some kinds take the path from these.
        ("GET / HTTP/1.1|Host: a.test|X-Original-URL: /admin||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Rewrite-URL: /admin||", PLAIN),
        ("GET / HTTP/1.1|Host: a.test|X-Original-URI: /admin|X-Original-Method: GET||", PLAIN),
        // And CGI programs their own proxy from this one (CVE-2016-5385).
        ("GET / HTTP/1.1|Host: a.test|Proxy: http://evil.test||", PLAIN),
    ]).await;
    let values = |plane: &Plane, sent: &'static str| {
        let address = plane.http();
        async move {
            use tokio::io::AsyncWriteExt;
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(&super::octets(sent)).await.unwrap();
            super::drain(&mut stream).await
        }
    };
    // What the box says itself, whatever the client has said.
    for claims in [
        "",
        "X-Forwarded-For: 6.6.6.6|X-Forwarded-For: 7.7.7.7|X-Forwarded-Proto: https|X-Forwarded-Host: b.test|X-Forwarded-Port: 1|X-Real-IP: 6.6.6.6|Forwarded: for=6.6.6.6|Connection: close, x-forwarded-for|",
    ] {
        let sent: &'static str =
            Box::leak(format!("GET / HTTP/1.1|Host: a.test|{claims}Connection: close||").into_boxed_str());
        let got = Recording::start(&plane).await;
        values(&got.plane, sent).await;
        let port = got.plane.http().port();
        got.has(&[
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: a.test",
            &format!("x-forwarded-port: {port}"),
            "x-real-ip: 127.0.0.1",
            "forwarded: for=127.0.0.1;proto=http",
        ]);
    }
}

/// A plane before a backend that keeps whole requests.
struct Recording {
    plane: Plane,
    backend: crate::support::Backend,
}

impl Recording {
    async fn start(_: &Plane) -> Self {
        let mut plane = Plane::start().await;
        let backend = crate::support::Backend::hello().await;
        plane.host("a.test", &[backend.address]);
        plane.publish();
        Self { plane, backend }
    }

    fn has(&self, wanted: &[&str]) {
        let seen = self.backend.seen().join("");
        for line in wanted {
            let name = line.split(':').next().unwrap();
            assert_eq!(seen.matches(&format!("\r\n{name}:")).count(), 1, "{name}: {seen}");
            assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line}: {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expectations() {
    let (plane, recorder) = plane().await;
    judge(&plane, &recorder, &[
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-CONTINUE|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue|Transfer-Encoding: chunked||3|abc|0||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc"),
        ("GET / HTTP/1.1|Host: a.test|Expect: 100-continue||", PLAIN),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue|Content-Length: 0||", "POST / HTTP/1.1|content-length: 0|host: a.test||"),
        ("POST / HTTP/1.0|Host: a.test|Expect: 100-continue|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc^"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue|Expect: 100-continue|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("POST / HTTP/1.1|Host: a.test|Expect: y 100-continue|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue y|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue, y|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue|Expect: y|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: y|Expect: 100-continue|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continuee|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100 continue|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: \"100-continue\"|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 200-ok|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect:|Content-Length: 3||abc", "417"),
        ("POST / HTTP/1.1|Host: a.test|Expect: 100-continue| |Content-Length: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Expect : 100-continue|Content-Length: 3||abc", "400"),
        ("GET / HTTP/1.1|Host: a.test|Expect: y||", "417+"),
    ]).await;
}
