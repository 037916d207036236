//! Answers that are compressed on their way, read by decoders of others.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use sekisho_config::model::{Compression, Encoding, Filters, Http, VirtualHost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{Backend, Plane, Then, quick, soon};
use crate::tls::connect;

const ALL: [Encoding; 3] = [Encoding::Zstd, Encoding::Brotli, Encoding::Gzip];

fn compression() -> Compression {
    Compression {
        encodings: Some(Arc::new(ALL)),
        ..Compression::default()
    }
}

async fn plane(backend: std::net::SocketAddr) -> Plane {
    let http = Http {
        compression: compression(),
        ..Http::default()
    };
    let mut plane = Plane::start_with(quick(), http).await;
    plane.host("a.test", &[backend]);
    plane.publish();
    plane
}

fn page(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: \"a\"\r\naccept-ranges: bytes\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// What a decoder makes of a body that is whole; `None`: it is not.
fn decoded(encoding: &str, octets: &[u8]) -> Option<String> {
    let mut text = String::new();
    let read = match encoding {
        "gzip" => flate2::read::GzDecoder::new(octets).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(octets, 4096).read_to_string(&mut text),
        _ => zstd::stream::read::Decoder::new(octets)
            .unwrap()
            .read_to_string(&mut text),
    };
    read.ok().map(|_| text)
}

/// An answer in chunks: header section in lower case, body, trailers; whether it came to its end.
struct Answer {
    head: String,
    body: Vec<u8>,
    trailers: String,
    whole: bool,
}

impl Answer {
    fn says(&self, field: &str) -> bool {
        self.head.contains(&format!("\r\n{field}\r\n"))
    }
}

async fn line(stream: &mut TcpStream) -> Option<String> {
    let mut octets = Vec::new();
    while !octets.ends_with(b"\r\n") {
        octets.push(stream.read_u8().await.ok()?);
    }
    octets.truncate(octets.len() - 2);
    Some(String::from_utf8(octets).unwrap())
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = "\r\n".to_owned();
    while let Some(line) = line(stream).await {
        head.push_str(&line.to_ascii_lowercase());
        head.push_str("\r\n");
        if line.is_empty() {
            break;
        }
    }
    head
}

async fn chunk(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let size = usize::from_str_radix(&line(stream).await?, 16).unwrap();
    let mut data = vec![0; size];
    stream.read_exact(&mut data).await.ok()?;
    if size > 0 {
        line(stream).await?;
    }
    Some(data)
}

async fn read(stream: &mut TcpStream) -> Answer {
    soon("an answer", async {
        let mut answer = Answer {
            head: head(stream).await,
            body: Vec::new(),
            trailers: String::new(),
            whole: false,
        };
        if let Some((_, length)) = answer.head.split_once("\r\ncontent-length: ") {
            let length = length.split("\r\n").next().unwrap().parse().unwrap();
            answer.body = vec![0; length];
            answer.whole = stream.read_exact(&mut answer.body).await.is_ok();
            return answer;
        }
        while let Some(data) = chunk(stream).await {
            if data.is_empty() {
                answer.trailers = head(stream).await;
                answer.whole = answer.trailers.ends_with("\r\n\r\n");
                break;
            }
            answer.body.extend(data);
        }
        answer
    })
    .await
}

async fn ask(stream: &mut TcpStream, more: &str) -> Answer {
    let request = format!("GET / HTTP/1.1\r\nhost: a.test\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read(stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_coding_brings_the_same_page_and_the_connection_goes_on() {
    let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let answer = page(&text);
    let backend = Backend::start(move |_, _| (answer.clone(), Then::Keep)).await;
    let plane = plane(backend.address).await;
    let mut stream = TcpStream::connect(plane.http()).await.unwrap();
    for (asked, encoding) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip;q=0.5, br", "br"),
    ] {
        let answer = ask(&mut stream, &format!("accept-encoding: {asked}\r\n")).await;
        assert!(
            answer.whole && answer.says(&format!("content-encoding: {encoding}")),
            "{}",
            answer.head
        );
        assert!(answer.says("vary: accept-encoding") && answer.says("etag: w/\"a\""));
        assert!(!answer.head.contains("content-length") && !answer.head.contains("accept-ranges"));
        assert!(
            answer.body.len() < text.len() / 3,
            "{encoding}: {}",
            answer.body.len()
        );
        assert!(
            decoded(encoding, &answer.body).as_deref() == Some(&text),
            "{encoding}"
        );
    }
    // Who does not ask for it gets the page as it is, and a cache learns why.
    for more in [
        "",
        "accept-encoding: identity\r\n",
        "accept-encoding: gzip;q=0\r\n",
    ] {
        let answer = ask(&mut stream, more).await;
        assert!(
            answer.body == text.as_bytes() && answer.says("vary: accept-encoding"),
            "{more}"
        );
        assert!(answer.says("etag: \"a\"") && answer.says("accept-ranges: bytes"));
    }
    drop(stream);
    assert_eq!(backend.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(
        plane.metric("sekisho_http_compressed_total", &[("encoding", "br")]),
        2.0
    );
    let bytes = |side| plane.metric("sekisho_http_compression_bytes_total", &[("side", side)]);
    assert_eq!(bytes("in"), 4.0 * text.len() as f64);
    assert!(bytes("out") < bytes("in") / 3.0 && bytes("out") > 0.0);
    let lines = plane.finish().await;
    let sent: Vec<u64> = lines
        .iter()
        .map(|line| line["bytes_out"].as_u64().unwrap())
        .collect();
    assert_eq!(
        sent.iter().filter(|sent| **sent < text.len() as u64 / 3).count(),
        4,
        "{sent:?}"
    );
    assert!(lines.iter().all(|line| line["ended_by"].is_null()), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_as_it_is() {
    let text = "x".repeat(2000);
    let html = "content-type: text/html";
    let cases: Vec<(String, &str)> = vec![
        (
            format!(
                "HTTP/1.1 200 OK\r\n{html}\r\ncontent-encoding: br\r\ncontent-length: 2000\r\n\r\n{text}"
            ),
            "",
        ),
        (
            format!(
                "HTTP/1.1 206 Partial Content\r\n{html}\r\ncontent-range: bytes 0-1999/9999\r\ncontent-length: 2000\r\n\r\n{text}"
            ),
            "range: bytes=0-1999\r\n",
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{html}\r\ncache-control: no-transform\r\ncontent-length: 2000\r\n\r\n{text}"
            ),
            "",
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{html}\r\ncontent-length: 2000\r\n\r\n{text}"),
            "cache-control: no-transform\r\n",
        ),
        (
            format!("HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 2000\r\n\r\n{text}"),
            "",
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n{text}\r\n0\r\n\r\n"
            ),
            "",
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{html}\r\ncontent-length: 5\r\n\r\nhello"),
            "",
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{html}\r\ncontent-length: 0\r\n\r\n"),
            "",
        ),
        (format!("HTTP/1.1 204 No Content\r\n{html}\r\n\r\n"), ""),
    ];
    let answers: Vec<String> = cases.iter().map(|(answer, _)| answer.clone()).collect();
    let backend = Backend::start(move |number, _| (answers[number].clone(), Then::Keep)).await;
    let plane = plane(backend.address).await;
    for (answer, more) in &cases {
        let got = plane
            .raw(format!(
                "GET / HTTP/1.1\r\nhost: a.test\r\naccept-encoding: gzip, br, zstd\r\n{more}connection: close\r\n\r\n"
            ))
            .await;
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(got.ends_with(&format!("\r\n\r\n{body}")), "{answer}: {got}");
        let coded = got.matches("content-encoding").count();
        assert_eq!(
            coded,
            answer.matches("content-encoding").count(),
            "{answer}: {got}"
        );
    }
    assert_eq!(plane.metric("sekisho_http_compressed_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingress_says_otherwise_than_the_file() {
    let text = "y".repeat(300);
    let answer = page(&text);
    let backend = Backend::start(move |_, _| (answer.clone(), Then::Keep)).await;
    let mut plane = plane(backend.address).await;
    let both = "accept-encoding: gzip, zstd\r\n";
    for (compression, want) in [
        // Too small for what the file says.
        (Compression::default(), None),
        (
            Compression {
                min_bytes: Some(100),
                ..Compression::default()
            },
            Some("zstd"),
        ),
        (
            Compression {
                min_bytes: Some(100),
                encodings: Some(Arc::new([Encoding::Gzip])),
                ..Compression::default()
            },
            Some("gzip"),
        ),
        (
            Compression {
                min_bytes: Some(100),
                encodings: Some(Arc::new([])),
                ..Compression::default()
            },
            None,
        ),
        (
            Compression {
                min_bytes: Some(100),
                types: Some(Arc::new(["text/css".parse().unwrap()])),
                ..Compression::default()
            },
            None,
        ),
    ] {
        let pattern = "a.test".parse().unwrap();
        let hosts = &mut plane.cluster().hosts;
        let mut wished = VirtualHost::clone(hosts.get(&pattern).unwrap());
        wished.routes[0].filters = Some(Arc::new(Filters {
            compression: compression.clone(),
            ..Filters::default()
        }));
        hosts.insert(pattern, Arc::new(wished));
        plane.publish();
        let mut stream = TcpStream::connect(plane.http()).await.unwrap();
        let answer = ask(&mut stream, both).await;
        match want {
            Some(encoding) => {
                assert!(
                    answer.says(&format!("content-encoding: {encoding}")),
                    "{compression:?}"
                );
                assert_eq!(decoded(encoding, &answer.body).as_deref(), Some(&text[..]));
            }
            None => assert_eq!(answer.body, text.as_bytes(), "{compression:?}"),
        }
    }
    // Without memory for it answers go out as they are.
    plane.configure(|live| {
        live.http.compression = Compression {
            min_bytes: Some(1),
            ..compression()
        };
        live.http.compression_memory = 0;
    });
    plane.host("b.test", &[backend.address]);
    plane.publish();
    let answer = plane
        .raw(format!(
            "GET / HTTP/1.1\r\nhost: b.test\r\n{both}connection: close\r\n\r\n"
        ))
        .await;
    assert!(
        answer.ends_with(&text) && answer.contains("vary: Accept-Encoding"),
        "{answer}"
    );
    assert_eq!(plane.metric("sekisho_http_compression_skipped_total", &[]), 1.0);
}

/// A backend that sends what it is told to, and closes at the end of it.
async fn told(tasks: &mut JoinSet<()>) -> (std::net::SocketAddr, mpsc::Sender<&'static str>) {
    let (tell, mut told) = mpsc::channel::<&'static str>(8);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        while let Some(octets) = told.recv().await {
            stream.write_all(octets.as_bytes()).await.unwrap();
        }
    });
    (address, tell)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_has_said_does_not_wait_for_the_rest() {
    for encoding in ["gzip", "br", "zstd"] {
        let mut tasks = JoinSet::new();
        let (address, tell) = told(&mut tasks).await;
        let plane = plane(address).await;
        let mut stream = TcpStream::connect(plane.http()).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: a.test\r\naccept-encoding: {encoding}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        tell.send(CHUNKED).await.unwrap();
        assert!(head(&mut stream).await.contains("transfer-encoding: chunked"));
        let mut octets = Vec::new();
        for (piece, text) in [("3\r\none\r\n", "one"), ("3\r\ntwo\r\n", "onetwo")] {
            tell.send(piece).await.unwrap();
            // Nothing more is sent until this can be read.
            loop {
                octets.extend(soon("a chunk", chunk(&mut stream)).await.unwrap());
                let mut seen = [0; 64];
                let mut reader: Box<dyn std::io::Read> = match encoding {
                    "gzip" => Box::new(flate2::read::GzDecoder::new(&octets[..])),
                    "br" => Box::new(brotli::Decompressor::new(&octets[..], 4096)),
                    _ => Box::new(zstd::stream::read::Decoder::new(&octets[..]).unwrap()),
                };
                let mut count = 0;
                while let Ok(more @ 1..) = reader.read(&mut seen[count..]) {
                    count += more;
                }
                if &seen[..count] == text.as_bytes() {
                    break;
                }
            }
        }
        tell.send("0\r\nx-sum: 7\r\n\r\n").await.unwrap();
        while let Some(data) = soon("the end", chunk(&mut stream)).await {
            if data.is_empty() {
                break;
            }
            octets.extend(data);
        }
        assert!(head(&mut stream).await.contains("x-sum: 7"), "{encoding}");
        assert_eq!(decoded(encoding, &octets).as_deref(), Some("onetwo"));
    }
}

/// Half an answer never looks whole, neither as chunks nor as what they hold.
#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_looks_broken() {
    let text = "z".repeat(5000);
    for (encoding, answer) in ["gzip", "br", "zstd"].iter().flat_map(|encoding| {
        [
            (
                *encoding,
                format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 9999\r\n\r\n{text}"),
            ),
            (*encoding, format!("{CHUNKED}1388\r\n{text}\r\n")),
            (*encoding, format!("{CHUNKED}2000\r\n{text}")),
        ]
    }) {
        let backend = Backend::start(move |_, _| (answer.clone(), Then::Close)).await;
        let plane = plane(backend.address).await;
        let mut stream = TcpStream::connect(plane.http()).await.unwrap();
        let got = ask(&mut stream, &format!("accept-encoding: {encoding}\r\n")).await;
        assert!(got.says(&format!("content-encoding: {encoding}")), "{}", got.head);
        assert!(!got.whole, "{encoding}: {:?}", got.trailers);
        assert_eq!(decoded(encoding, &got.body), None, "{encoding}");
        drop(stream);
        let lines = plane.finish().await;
        assert_eq!(lines[0]["ended_by"], "upstream", "{lines:?}");
        assert_eq!(lines[0]["ended_in"], "response");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_the_same() {
    let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let (good, bad) = (
        page(&text),
        page(&text).replace("content-length: ", "content-length: 9"),
    );
    let backend = Backend::start(move |_, request| {
        if request.starts_with("GET /cut") {
            (bad.clone(), Then::Close)
        } else {
            (good.clone(), Then::Keep)
        }
    })
    .await;
    let plane = plane(backend.address).await;
    let (stream, _) = connect(&plane, Some("a.test"), &["h2"], &rustls::version::TLS13).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { connection.await.unwrap() });
    for (path, asked, method) in [
        ("/", "gzip", "GET"),
        ("/", "br", "GET"),
        ("/", "zstd", "GET"),
        ("/", "zstd", "HEAD"),
        ("/cut", "gzip", "GET"),
        ("/cut", "br", "GET"),
        ("/cut", "zstd", "GET"),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://a.test{path}"))
            .header("accept-encoding", asked)
            .body(())
            .unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        let answer = soon("an answer", answer).await.unwrap();
        let fields = answer.headers().clone();
        assert_eq!(fields["content-encoding"], asked, "{method} {path}");
        assert_eq!(fields["vary"], "Accept-Encoding");
        assert_eq!(fields["etag"], "W/\"a\"");
        assert!(!fields.contains_key("content-length"));
        let mut body = answer.into_body();
        let (mut octets, mut broken) = (Vec::new(), false);
        while let Some(data) = soon("data", body.data()).await {
            let Ok(data): Result<Bytes, _> = data else {
                broken = true;
                break;
            };
            let _ = body.flow_control().release_capacity(data.len());
            octets.extend_from_slice(&data);
        }
        assert_eq!(broken, path == "/cut", "{asked}");
        if method == "HEAD" {
            assert_eq!(octets, b"");
        } else {
            let want = (!broken).then_some(&text);
            assert!(decoded(asked, &octets).as_ref() == want, "{asked} {path}");
        }
    }
}

/// A client that reads slowly gets all of it, and holds no more than a few pieces of it in the box.
#[tokio::test(flavor = "multi_thread")]
async fn noise_for_a_client_that_does_not_read_waits_at_the_backend() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            1 << 30
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seed = 1u32;
        loop {
            let noise: Vec<u8> = (0..65_536)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            if stream.write_all(&noise).await.is_err() {
                return;
            }
            count.fetch_add(noise.len(), std::sync::atomic::Ordering::SeqCst);
        }
    });
    let plane = plane(address).await;
    let mut stream = TcpStream::connect(plane.http()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a.test\r\naccept-encoding: gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.contains("content-encoding: gzip"));
    // The kernel's buffers fill, and then nothing moves.
    let mut last = usize::MAX;
    soon("the backend to be held back", async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let now = sent.load(std::sync::atomic::Ordering::SeqCst);
            if now == last {
                return;
            }
            last = now;
        }
    })
    .await;
    assert!(last < 64 << 20, "{last}");
}
