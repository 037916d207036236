//! HTTP/3: requests by a client of another house, and what no client of any house would send.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, ReadToEndError, RecvStream, SendStream,
};
use sekisho_config::model::{Http, Timeouts};
use sekisho_proxy::h3::frame::{Piece, Reader};
use sekisho_proxy::h3::{Code, frame, qpack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::http2::{CONNECT, switching};
use crate::support::{Backend, HELLO, HTTPS, Plane, Then, quick, read_until, soon};
use crate::tls::{Witness, certificate, connect, secret};

struct Client {
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
    _driver: JoinSet<()>,
}

const DATA: u64 = 0;
const HEADERS: u64 = 1;
const SETTINGS: u64 = 4;
const GOAWAY: u64 = 7;

async fn plane() -> (Plane, Backend) {
    plane_with(quick(), Http::default()).await
}

async fn plane_with(timeouts: Timeouts, http: Http) -> (Plane, Backend) {
    let backend = Backend::hello().await;
    let mut plane = Plane::start_with(timeouts, http).await;
    plane.host("a.test", &[backend.address]);
    plane.certificate("a.test", secret(&certificate(&["a.test"])));
    switch(&mut plane, true).await;
    (plane, backend)
}

/// Switches HTTP/3 on or off and waits until that is done.
async fn switch(plane: &mut Plane, on: bool) {
    plane.desired.http3 = if on {
        vec![HTTPS.parse().unwrap()]
    } else {
        Vec::new()
    };
    plane.publish();
    soon("the sockets", async {
        while (plane.metric("sekisho_listener_bound", &[("kind", "http3")]) > 0.5) != on {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A client's end, and the certificate that it was shown last.
fn endpoint(alpn: &str) -> (Endpoint, Arc<Mutex<Vec<u8>>>) {
    endpoint_with(alpn, rustls::client::Resumption::default())
}

fn endpoint_with(alpn: &str, resumption: rustls::client::Resumption) -> (Endpoint, Arc<Mutex<Vec<u8>>>) {
    let served = Arc::new(Mutex::new(Vec::new()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness(Arc::clone(&served))))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    tls.enable_early_data = true;
    tls.resumption = resumption;
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    endpoint.set_default_client_config(config);
    (endpoint, served)
}

async fn quic(plane: &Plane) -> Connection {
    let connecting = endpoint("h3").0.connect(plane.https(), "a.test").unwrap();
    soon("a handshake", connecting).await.unwrap()
}

async fn client_over(connection: Connection) -> Client {
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection))
        .await
        .unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    Client {
        requests,
        _driver: task,
    }
}

async fn client(plane: &Plane) -> Client {
    client_over(quic(plane).await).await
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://a.test{path}")).body(()).unwrap()
}

/// Sends a request with a body and trailers, and reads the whole answer.
async fn exchange(
    client: &mut Client,
    request: Request<()>,
    body: &[u8],
    trailers: Option<HeaderMap>,
) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    soon("an answer", async {
        let stream = client.requests.send_request(request).await.unwrap();
        let (mut send, mut receive) = stream.split();
        let sending = async {
            for piece in body.chunks(16 * 1024) {
                if send.send_data(Bytes::copy_from_slice(piece)).await.is_err() {
                    return;
                }
            }
            if let Some(trailers) = trailers {
                let _ = send.send_trailers(trailers).await;
            }
            let _ = send.finish().await;
        };
        let receiving = async {
            let response = receive.recv_response().await.unwrap();
            let mut octets = Vec::new();
            while let Some(mut data) = receive.recv_data().await.unwrap() {
                octets.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            (response, octets, receive.recv_trailers().await.unwrap())
        };
        tokio::join!(sending, receiving).1
    })
    .await
}

async fn fetch(client: &mut Client, path: &str) -> (u16, String) {
    let (response, body, _) = exchange(client, get(path), b"", None).await;
    (
        response.status().as_u16(),
        String::from_utf8_lossy(&body).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_like_any_other() {
    let (plane, backend) = plane().await;
    let mut client = client(&plane).await;
    let mut request = get("/a/./b?c=d");
    request
        .headers_mut()
        .append("cookie", HeaderValue::from_static("a=1"));
    request
        .headers_mut()
        .append("cookie", HeaderValue::from_static("b=2"));
    let (response, body, _) = exchange(&mut client, request, b"", None).await;
    assert_eq!(
        (response.status().as_u16(), body.as_slice()),
        (200, &b"hello"[..])
    );
    assert_eq!(response.headers()["server"], "sekisho");
    assert_eq!(response.headers()["content-length"], "5");
    assert!(response.headers().contains_key("date"));
    assert!(!response.headers().contains_key("alt-svc"));
    let seen = backend.seen().remove(0);
    let port = plane.https().port();
    assert!(seen.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{seen}");
    for line in [
        "host: a.test",
        "x-forwarded-proto: https",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.test",
        &format!("x-forwarded-port: {port}"),
        "forwarded: for=127.0.0.1;proto=https",
        "cookie: a=1; b=2",
    ] {
        assert!(seen.contains(&format!("{line}\r\n")), "{line} in {seen}");
    }
    assert!(!seen.contains("transfer-encoding"), "{seen}");
    assert_eq!(fetch(&mut client, "/%2e%2e/x").await.0, 200);
    assert!(backend.seen()[1].starts_with("GET /x HTTP/1.1\r\n"));
    let metric = |name, labels: &[_]| plane.metric(name, labels);
    assert!(
        metric(
            "sekisho_http_requests_by_protocol_total",
            &[("protocol", "http/3")]
        ) > 1.5
    );
    assert!(metric("sekisho_http3_connections", &[]) > 0.5);
    assert!(metric("sekisho_http3_handshakes_total", &[("result", "ok")]) > 0.5);
    drop(client);
    let lines = plane.finish().await;
    let line = &lines[0];
    assert_eq!(
        (
            &line["protocol"],
            &line["tls_version"],
            &line["sni"],
            &line["status"]
        ),
        (&"http/3".into(), &"1.3".into(), &"a.test".into(), &200.into())
    );
    assert_eq!(line["ended_by"], serde_json::Value::Null, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_go_both_ways() {
    let backend = Backend::start(|_, request| {
        let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\nx-sum: 12\r\n\r\n",
            body.len(),
            body
        );
        (answer, Then::Keep)
    })
    .await;
    let (mut plane, _hello) = plane().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = client(&plane).await;
    let post = || Request::post("https://a.test/").body(()).unwrap();
    let trailers = HeaderMap::from_iter([
        ("x-check".parse().unwrap(), HeaderValue::from_static("7")),
        ("authorization".parse().unwrap(), HeaderValue::from_static("late")),
    ]);
    let (response, body, back) = exchange(&mut client, post(), b"some words", Some(trailers)).await;
    assert_eq!(response.status(), 200);
    assert!(String::from_utf8_lossy(&body).contains("some words"));
    assert_eq!(back.unwrap()["x-sum"], "12");
    let seen = backend.seen().remove(0);
    assert!(
        seen.contains("transfer-encoding: chunked") && seen.contains("x-check: 7"),
        "{seen}"
    );
    assert!(!seen.contains("late"), "{seen}");
    // With a length, and with an empty body.
    let mut request = post();
    request
        .headers_mut()
        .insert("content-length", HeaderValue::from_static("4"));
    assert_eq!(
        exchange(&mut client, request, b"1234", None).await.0.status(),
        200
    );
    assert!(backend.seen()[1].ends_with("\r\n\r\n1234"));
    assert_eq!(exchange(&mut client, post(), b"", None).await.0.status(), 200);
}

/// Takes whatever comes and sends as much back.
async fn mirror() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            let (mut read, mut write) = stream.split();
            write
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            tokio::io::copy(&mut (&mut read).take(length as u64), &mut write)
                .await
                .unwrap();
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_go_through_windows_both_ways() {
    let (mut plane, _hello) = plane().await;
    let (address, _task) = mirror().await;
    plane.host("a.test", &[address]);
    plane.publish();
    let mut client = client(&plane).await;
    let octets: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    let request = Request::post("https://a.test/")
        .header("content-length", octets.len())
        .body(())
        .unwrap();
    let (response, body, _) = exchange(&mut client, request, &octets, None).await;
    assert_eq!(response.status(), 200);
    assert!(body == octets);
    drop(client);
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["bytes_in"], &lines[0]["bytes_out"]),
        (&3_000_000.into(), &3_000_000.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_stops_the_request() {
    let (plane, _hello) = plane_with(
        quick(),
        Http {
            max_body_bytes: 100_000,
            ..Http::default()
        },
    )
    .await;
    let mut client = client(&plane).await;
    // Known before, and found out on the way.
    for length in [Some("200000"), None] {
        let mut request = Request::post("https://a.test/").body(()).unwrap();
        if let Some(length) = length {
            request
                .headers_mut()
                .insert("content-length", HeaderValue::from_static(length));
        }
        let (response, _, _) = exchange(&mut client, request, &[b'x'; 200_000], None).await;
        assert_eq!(response.status(), 413);
    }
    // The connection is as good as before.
    assert_eq!(fetch(&mut client, "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_never_looks_whole() {
    let backend = Backend::start(|_, _| {
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned(),
            Then::Reset,
        )
    })
    .await;
    let (mut plane, _hello) = plane().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let connection = quic(&plane).await;
    let said = ask(&connection, &request(&GET, &[])).await;
    // Without even a header, or behind it.
    assert!(
        said == Said::Reset(Code::INTERNAL_ERROR.0)
            || said == Said::Status(502, "The service did not answer properly.\n".to_owned()),
        "{said:?}"
    );
    let lines = plane.finish().await;
    assert_eq!(lines[0]["ended_by"], "upstream");
}

/// An endpoint that begins its answer before it has the body, and says no more.
async fn hasty() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_until(&mut stream, "\r\n\r\n").await;
            let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
            stream.write_all(begun).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_malformed_behind_the_beginning_of_its_answer() {
    let (mut plane, _hello) = plane().await;
    let (address, _task) = hasty().await;
    plane.host("a.test", &[address]);
    plane.publish();
    let connection = quic(&plane).await;
    let post = [&[(":method", "POST")], &GET[1..], &[("content-length", "10")]].concat();
    let large = section(&[("x", &"x".repeat(100_000))]);
    for (behind, want) in [
        (frame_of(DATA, b"more than there was to be"), Code::MESSAGE_ERROR),
        (
            [frame_of(DATA, b"ten octets"), frame_of(HEADERS, &large)].concat(),
            Code::EXCESSIVE_LOAD,
        ),
    ] {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&request(&post, &[])).await.unwrap();
        assert!(text(&mut receive, "hello").await.ends_with("hello"));
        send.write_all(&behind).await.unwrap();
        // The stream and no other.
        assert_eq!(heard(&mut receive).await, Said::Reset(want.0));
    }
}

// As octets.

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.test"),
    (":path", "/"),
];

fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    qpack::begin(&mut out);
    for (name, value) in fields {
        qpack::encode(&mut out, name, value.as_bytes());
    }
    out
}

fn frame_of(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, kind, payload.len());
    out.extend_from_slice(payload);
    out
}

/// HEADERS with these fields, and these frames behind it.
fn request(fields: &[(&str, &str)], behind: &[Vec<u8>]) -> Vec<u8> {
    [frame_of(HEADERS, &section(fields)), behind.concat()].concat()
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    request(&[&GET, more].concat(), &[])
}

/// What the box makes of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Said {
    Status(u16, String),
    Reset(u64),
    Closed(u64),
    Other(String),
}

fn status(code: u16) -> Said {
    Said::Status(code, String::new())
}

fn closed(error: &ConnectionError) -> Said {
    match error {
        ConnectionError::ApplicationClosed(close) => Said::Closed(close.error_code.into_inner()),
        other => Said::Other(other.to_string()),
    }
}

/// Reads an answer: the last status, and the body.
async fn heard(receive: &mut RecvStream) -> Said {
    let octets = match soon("an answer", receive.read_to_end(1 << 20)).await {
        Ok(octets) => octets,
        Err(ReadToEndError::Read(ReadError::Reset(code))) => return Said::Reset(code.into_inner()),
        Err(ReadToEndError::Read(ReadError::ConnectionLost(error))) => return closed(&error),
        Err(error) => return Said::Other(error.to_string()),
    };
    let (mut code, mut body) = (String::new(), Vec::new());
    let mut rest = Bytes::from(octets);
    while !rest.is_empty() {
        // One frame at a time, since interim answers are sections, too.
        match Reader::new(1 << 20).next(&mut rest) {
            Ok(Some(Piece::Section(section))) => {
                qpack::decode::<qpack::BadSection>(&section, |name, value| {
                    if name == b":status" {
                        code.push_str(&String::from_utf8_lossy(value));
                        code.push(' ');
                    }
                    Ok(())
                })
                .unwrap();
            }
            Ok(None) => break,
            // A body: its head was taken already.
            _ => {
                let length = rest.len();
                body.extend_from_slice(&rest.split_to(length));
            }
        }
    }
    let last = code.split_whitespace().last().unwrap_or_default();
    let interim = code.split_whitespace().count().saturating_sub(1);
    let body = String::from_utf8_lossy(&body).into_owned();
    Said::Status(
        last.parse().unwrap_or_default(),
        if interim > 0 { code } else { body },
    )
}

async fn ask(connection: &Connection, octets: &[u8]) -> Said {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let _ = send.write_all(octets).await;
    let _ = send.finish();
    heard(&mut receive).await
}

/// Only what is of interest: bodies are not.
fn plain(said: Said) -> Said {
    match said {
        Said::Status(code, _) => status(code),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_request() {
    let (plane, backend) = plane().await;
    let ok = status(200);
    let malformed = Said::Reset(Code::MESSAGE_ERROR.0);
    let unexpected = Said::Closed(Code::FRAME_UNEXPECTED.0);
    let post = |length: &'static str, behind: &[Vec<u8>]| {
        request(
            &[&[(":method", "POST")], &GET[1..], &[("content-length", length)]].concat(),
            behind,
        )
    };
    let large = "x".repeat(70_000);
    let path = format!("/{}", "x".repeat(17_000));
    let method = "A".repeat(33);
    let mut wrong = Vec::new();
    let mut passed = 0;
    let cases: Vec<(&str, Vec<u8>, Said)> = vec![
        ("plain", with(&[]), ok.clone()),
        (
            "method of 33 octets",
            request(&[&[(":method", &*method)], &GET[1..]].concat(), &[]),
            status(400),
        ),
        (
            "host alone",
            request(&[GET[0], GET[1], GET[3], ("host", "a.test")], &[]),
            ok.clone(),
        ),
        ("host, too", with(&[("host", "a.test")]), ok.clone()),
        (
            "grease",
            [
                frame_of(0x21, b"grease"),
                with(&[]),
                frame_of(0x1f * 9 + 0x21, b""),
            ]
            .concat(),
            ok.clone(),
        ),
        ("length 0", post("0", &[]), ok.clone()),
        (
            "body",
            post("2", &[frame_of(DATA, b"a"), frame_of(DATA, b"b")]),
            ok.clone(),
        ),
        (
            "trailers",
            post(
                "1",
                &[frame_of(DATA, b"a"), frame_of(HEADERS, &section(&[("a", "b")]))],
            ),
            ok.clone(),
        ),
        ("host, other", with(&[("host", "b.test")]), status(400)),
        ("no host", request(&[GET[0], GET[1], GET[3]], &[]), status(400)),
        ("padded value", with(&[("a", " b")]), status(400)),
        (
            "two lengths",
            request(&[&GET[..], &[("content-length", "0"); 2]].concat(), &[]),
            status(400),
        ),
        (
            "length of letters",
            post("a", &[frame_of(DATA, b"a")]),
            status(400),
        ),
        (
            "asterisk for GET",
            request(&[GET[0], GET[1], GET[2], (":path", "*")], &[]),
            status(400),
        ),
        (
            "trace",
            request(&[(":method", "TRACE"), GET[1], GET[2], GET[3]], &[]),
            status(405),
        ),
        (
            "connect",
            request(&[(":method", "CONNECT"), GET[2]], &[]),
            status(405),
        ),
        (
            "NUL in the path",
            request(&[GET[0], GET[1], GET[2], (":path", "/%00")], &[]),
            status(400),
        ),
        (
            "other host's certificate",
            request(&[GET[0], GET[1], (":authority", "b.test"), GET[3]], &[]),
            status(421),
        ),
        (
            "host without a certificate",
            request(&[GET[0], GET[1], (":authority", "c.test"), GET[3]], &[]),
            status(421),
        ),
        ("large field", with(&[("a", &large)]), status(431)),
        ("many fields", with(&[("a", "b"); 200]), status(431)),
        (
            "long path",
            request(&[GET[0], GET[1], GET[2], (":path", &path)], &[]),
            status(414),
        ),
        ("upper case", with(&[("A", "b")]), malformed.clone()),
        ("connection", with(&[("connection", "close")]), malformed.clone()),
        ("keep-alive", with(&[("keep-alive", "1")]), malformed.clone()),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            malformed.clone(),
        ),
        ("upgrade", with(&[("upgrade", "websocket")]), malformed.clone()),
        ("te", with(&[("te", "gzip")]), malformed.clone()),
        ("line break", with(&[("a", "b\r\nc: d")]), malformed.clone()),
        (
            "pseudo field late",
            with(&[("a", "b"), (":authority", "a.test")]),
            malformed.clone(),
        ),
        ("two paths", with(&[(":path", "/")]), malformed.clone()),
        ("no method", request(&GET[1..], &[]), malformed.clone()),
        ("no path", request(&GET[..3], &[]), malformed.clone()),
        (
            "extended connect",
            request(
                &[&[(":method", "CONNECT"), (":protocol", "connect-udp")], &GET[1..]].concat(),
                &[],
            ),
            status(405),
        ),
        ("no body", post("1", &[]), malformed.clone()),
        (
            "body too short",
            post("3", &[frame_of(DATA, b"ab")]),
            malformed.clone(),
        ),
        (
            "body too long",
            post("1", &[frame_of(DATA, b"ab")]),
            malformed.clone(),
        ),
        (
            "pseudo field in trailers",
            post(
                "1",
                &[
                    frame_of(DATA, b"a"),
                    frame_of(HEADERS, &section(&[(":path", "/")])),
                ],
            ),
            malformed.clone(),
        ),
        ("nothing", vec![], Said::Reset(Code::REQUEST_INCOMPLETE.0)),
        ("body first", frame_of(DATA, b"a"), unexpected.clone()),
        ("settings", frame_of(SETTINGS, b""), unexpected.clone()),
        (
            "goaway",
            [with(&[]), frame_of(GOAWAY, b"a")].concat(),
            unexpected.clone(),
        ),
        ("push promise", frame_of(5, b"a"), unexpected.clone()),
        ("ping of HTTP/2", frame_of(6, b"12345678"), unexpected.clone()),
        (
            "half a frame",
            vec![1, 20, 0, 0],
            Said::Closed(Code::FRAME_ERROR.0),
        ),
        (
            "dynamic table",
            frame_of(HEADERS, &[0, 0, 0x80]),
            Said::Closed(Code::QPACK_DECOMPRESSION_FAILED.0),
        ),
        (
            "insert count",
            frame_of(HEADERS, &[9, 0, 0xc0]),
            Said::Closed(Code::QPACK_DECOMPRESSION_FAILED.0),
        ),
    ];
    let mut plane = plane;
    plane.certificate("b.test", secret(&certificate(&["b.test"])));
    plane.publish();
    for (name, octets, want) in cases {
        let connection = quic(&plane).await;
        let got = plain(ask(&connection, &octets).await);
        passed += usize::from(got == ok);
        // What stands behind the answer may be found out after it.
        let late = name == "goaway" && got == ok;
        if got != want && !late {
            wrong.push(format!("{name}: {got:?} instead of {want:?}"));
        }
        if let Said::Reset(_) = want {
            // A fault of one stream is nobody else's.
            let next = plain(ask(&connection, &with(&[])).await);
            passed += 1;
            if next != ok {
                wrong.push(format!("behind {name}: {next:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let whole = backend
        .seen()
        .iter()
        .filter(|request| !request.is_empty())
        .count();
    assert!(whole >= passed, "{whole} {passed}");
    assert!(plane.metric("sekisho_http3_closed_total", &[("reason", "protocol")]) > 5.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_may_say_beside_its_requests() {
    let (plane, _hello) = plane().await;
    let settings = |payload: &[u8]| [vec![0], frame_of(SETTINGS, payload)].concat();
    let mut wrong = Vec::new();
    for (name, streams, end, want) in [
        ("nothing", vec![], false, None),
        ("all", vec![settings(&[]), vec![2], vec![3]], false, None),
        ("capacity 0", vec![vec![2, 0x20]], false, None),
        ("cancelled", vec![vec![3, 0x44]], false, None),
        (
            "grease",
            vec![vec![0x21, 1, 2, 3], vec![0x40, 0x40, 1]],
            true,
            None,
        ),
        ("nothing on it", vec![vec![]], true, None),
        ("half a type", vec![vec![0x40]], true, None),
        ("push", vec![vec![1]], false, Some(Code::STREAM_CREATION_ERROR)),
        (
            "two control streams",
            vec![settings(&[]), settings(&[])],
            false,
            Some(Code::STREAM_CREATION_ERROR),
        ),
        (
            "two encoders",
            vec![vec![2], vec![2]],
            false,
            Some(Code::STREAM_CREATION_ERROR),
        ),
        (
            "no settings",
            vec![[vec![0], frame_of(GOAWAY, &[0])].concat()],
            false,
            Some(Code::MISSING_SETTINGS),
        ),
        (
            "setting of HTTP/2",
            vec![settings(&[4, 1])],
            false,
            Some(Code::SETTINGS_ERROR),
        ),
        (
            "settings twice",
            vec![[settings(&[]), frame_of(SETTINGS, &[])].concat()],
            false,
            Some(Code::FRAME_UNEXPECTED),
        ),
        (
            "request on it",
            vec![[settings(&[]), with(&[])].concat()],
            false,
            Some(Code::FRAME_UNEXPECTED),
        ),
        (
            "end of control",
            vec![settings(&[])],
            true,
            Some(Code::CLOSED_CRITICAL_STREAM),
        ),
        (
            "end of the encoder",
            vec![vec![2]],
            true,
            Some(Code::CLOSED_CRITICAL_STREAM),
        ),
        (
            "insertion",
            vec![vec![2, 0x3f, 0xe1, 0x1f]],
            false,
            Some(Code::QPACK_ENCODER_STREAM_ERROR),
        ),
        (
            "acknowledgement",
            vec![vec![3, 0x80]],
            false,
            Some(Code::QPACK_DECODER_STREAM_ERROR),
        ),
    ] {
        let connection = quic(&plane).await;
        let mut held: Vec<SendStream> = Vec::new();
        for octets in streams {
            let mut send = connection.open_uni().await.unwrap();
            let _ = send.write_all(&octets).await;
            if end {
                let _ = send.finish();
            }
            held.push(send);
        }
        let got = match want {
            None => plain(ask(&connection, &with(&[])).await),
            Some(_) => closed(&soon("the end", connection.closed()).await),
        };
        let want = want.map_or_else(|| status(200), |code| Said::Closed(code.0));
        if got != want {
            wrong.push(format!("{name}: {got:?} instead of {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_the_connection() {
    let http = Http {
        max_resets: 20,
        max_control_frames: 50,
        ..Http::default()
    };
    let (plane, _hello) = plane_with(quick(), http).await;
    let load = Said::Closed(Code::EXCESSIVE_LOAD.0);
    // Requests that are taken back as soon as they are sent.
    let connection = quic(&plane).await;
    let flood = async {
        while let Ok((mut send, mut receive)) = connection.open_bi().await {
            let _ = send.write_all(&with(&[])).await;
            let _ = send.reset(0x10cu32.into());
            let _ = receive.stop(0x10cu32.into());
        }
    };
    soon("the end", flood).await;
    assert_eq!(closed(&connection.closed().await), load);
    assert!(plane.metric("sekisho_http3_closed_total", &[("reason", "reset_flood")]) > 0.5);
    // Requests that the box has to give up as soon as it has sent them on: their bodies are longer than they say, or their
    // trailers too large. And those that are none.
    let post = [&[(":method", "POST")], &GET[1..], &[("content-length", "1")]].concat();
    let large = frame_of(HEADERS, &section(&[("x", &"x".repeat(70_000))]));
    for octets in [
        request(&post, &[frame_of(DATA, b"more")]),
        request(&post, &[frame_of(DATA, b"1"), large]),
        request(&GET[1..], &[]),
        vec![],
    ] {
        let connection = quic(&plane).await;
        let flood = async {
            while let Ok((mut send, _receive)) = connection.open_bi().await {
                let _ = send.write_all(&octets).await;
                let _ = send.finish();
            }
        };
        soon("the end", flood).await;
        assert_eq!(closed(&connection.closed().await), load);
    }
    assert!(plane.metric("sekisho_http3_closed_total", &[("reason", "reset_flood")]) > 4.5);
    // Frames that mean nothing, on a request and beside it.
    for (uni, first, again) in [
        (false, with(&[]), frame_of(DATA, b"")),
        (false, vec![], frame_of(0x21, b"x")),
        (
            true,
            [vec![0], frame_of(SETTINGS, &[])].concat(),
            frame_of(0x21, b""),
        ),
    ] {
        let connection = quic(&plane).await;
        let (mut send, _receive) = if uni {
            (connection.open_uni().await.unwrap(), None)
        } else {
            let (send, receive) = connection.open_bi().await.unwrap();
            (send, Some(receive))
        };
        let _ = send.write_all(&[first, again.repeat(60)].concat()).await;
        assert_eq!(closed(&soon("the end", connection.closed()).await), load);
    }
    assert!(plane.metric("sekisho_http3_closed_total", &[("reason", "control_flood")]) > 2.5);
    // Streams that nobody knows, and those that end before they say what they are.
    for kind in [&[0x21][..], &[]] {
        let connection = quic(&plane).await;
        let flood = async {
            while let Ok(mut send) = connection.open_uni().await {
                let _ = send.write_all(kind).await;
                let _ = send.finish();
            }
        };
        soon("the end", flood).await;
        assert_eq!(closed(&connection.closed().await), load);
    }
    // The box is as well as before.
    assert_eq!(fetch(&mut client(&plane).await, "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_passed_on() {
    let backend = Backend::start(|_, _| {
        (
            format!("HTTP/1.1 103 Early Hints\r\nlink: </x.css>\r\n\r\n{HELLO}"),
            Then::Keep,
        )
    })
    .await;
    let (mut plane, _hello) = plane().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let connection = quic(&plane).await;
    assert_eq!(
        ask(&connection, &with(&[])).await,
        Said::Status(200, "103 200 ".to_owned())
    );
    // 100 (Continue) is said before the body comes.
    let fields = [
        &[(":method", "POST")],
        &GET[1..],
        &[("expect", "100-continue"), ("content-length", "2")],
    ]
    .concat();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&request(&fields, &[])).await.unwrap();
    let first = soon("100", receive.read_chunk(1 << 16, true))
        .await
        .unwrap()
        .unwrap();
    assert!(first.bytes.starts_with(&[1]), "{first:?}");
    send.write_all(&frame_of(DATA, b"ab")).await.unwrap();
    send.finish().unwrap();
    assert!(matches!(heard(&mut receive).await, Said::Status(200, _)));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_have_an_end() {
    let timeouts = Timeouts {
        tls_handshake: Duration::from_millis(300),
        request_header: Duration::from_millis(300),
        request_body: Duration::from_millis(300),
        keep_alive: Duration::from_millis(300),
        ..quick()
    };
    let (plane, _hello) = plane_with(timeouts, Http::default()).await;
    // A handshake that is begun and not ended: a first datagram whose sender hears nothing.
    let (port, served) = (plane.https(), endpoint("h3"));
    let half = UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _connecting = served.0.connect(relay.local_addr().unwrap(), "a.test").unwrap();
    let mut room = [0; 2000];
    let first = tokio::task::spawn_blocking(move || {
        let (count, _) = relay.recv_from(&mut room).unwrap();
        half.send_to(&room[..count], port).unwrap();
        half
    });
    let half = soon("a datagram", first).await.unwrap();
    soon("the end of a handshake", async {
        while plane.metric("sekisho_http3_handshakes_total", &[("result", "timeout")]) < 0.5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(half);
    // Half a header section; half a body.
    let connection = quic(&plane).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[1, 20, 0, 0]).await.unwrap();
    assert_eq!(plain(heard(&mut receive).await), status(408));
    let connection = quic(&plane).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let fields = [&[(":method", "POST")], &GET[1..], &[("content-length", "9")]].concat();
    send.write_all(&request(&fields, &[frame_of(DATA, b"half")]))
        .await
        .unwrap();
    assert_eq!(plain(heard(&mut receive).await), status(408));
    // Nothing at all, at the beginning and after an answer.
    for asks in [false, true] {
        let connection = quic(&plane).await;
        if asks {
            assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
        }
        let end = closed(&soon("the end", connection.closed()).await);
        assert_eq!(end, Said::Closed(Code::NO_ERROR.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_left() {
    let timeouts = Timeouts {
        response_write: Duration::from_millis(300),
        ..quick()
    };
    let backend = Backend::start(|_, _| {
        let body = "x".repeat(4_000_000);
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n{body}"),
            Then::Keep,
        )
    })
    .await;
    let (mut plane, _hello) = plane_with(timeouts, Http::default()).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let connection = quic(&plane).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&with(&[])).await.unwrap();
    send.finish().unwrap();
    let reset = soon("the reset", receive.received_reset()).await.unwrap();
    assert_eq!(reset.map(u64::from), Some(Code::REQUEST_CANCELLED.0));
    assert_eq!(connection.close_reason(), None);
    drop(connection);
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["ended_by"], &lines[0]["ended_in"]),
        (&"client".into(), &"response".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_request_back_leaves_nothing_behind() {
    let mut backend = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let (mut plane, _hello) = plane().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let connection = quic(&plane).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&with(&[])).await.unwrap();
    send.finish().unwrap();
    soon("the request", async {
        while backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    receive.stop(0x10cu32.into()).unwrap();
    soon("the end at the endpoint", backend.closed.recv()).await;
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["ended_by"], &lines[0]["ended_in"]),
        (&"client".into(), &"wait".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_addresses_are_proved_first() {
    let http = Http {
        http3_retry_above: 0,
        max_connections_per_address: 1,
        ..Http::default()
    };
    let (plane, _hello) = plane_with(quick(), http).await;
    let connection = quic(&plane).await;
    assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
    assert!(plane.metric("sekisho_http3_handshakes_total", &[("result", "retry")]) > 0.5);
    // One from an address, and no more.
    let second = endpoint("h3").0.connect(plane.https(), "a.test").unwrap();
    let error = soon("a refusal", second).await.unwrap_err();
    assert!(
        matches!(&error, ConnectionError::ConnectionClosed(close) if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED),
        "{error}"
    );
    connection.close(0x100u32.into(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_proof_an_address_counts_when_the_handshake_is_over() {
    let http = Http {
        max_connections_per_address: 1,
        ..Http::default()
    };
    let (plane, _hello) = plane_with(quick(), http).await;
    let connection = quic(&plane).await;
    assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
    let second = quic(&plane).await;
    let end = closed(&soon("the end", second.closed()).await);
    assert_eq!(end, Said::Closed(Code::EXCESSIVE_LOAD.0));
    assert!(plane.metric("sekisho_listener_address_limited_total", &[]) > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_move() {
    let (plane, backend) = plane().await;
    let end = endpoint("h3").0;
    let connecting = end.connect(plane.https(), "a.test").unwrap();
    let connection = soon("a handshake", connecting).await.unwrap();
    // Two workers: with addresses and ports alone about every other move would lead to the one that does not know it.
    for _ in 0..12 {
        assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
        end.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    }
    assert_eq!(backend.seen().len(), 12);
    assert!(plane.metric("sekisho_http3_handshakes_total", &[("result", "ok")]) < 1.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_before_the_handshake_is_over() {
    let (plane, _hello) = plane().await;
    let end = endpoint("h3").0;
    for _ in 0..2 {
        let connecting = end.connect(plane.https(), "a.test").unwrap();
        let Err(connecting) = connecting.into_0rtt() else {
            panic!("0-RTT is offered");
        };
        let connection = soon("a handshake", connecting).await.unwrap();
        assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
        connection.close(0x100u32.into(), b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_protocols_that_are_not_spoken() {
    let (plane, _hello) = plane().await;
    let other = endpoint("hq-interop").0.connect(plane.https(), "a.test").unwrap();
    let error = soon("an alert", other).await.unwrap_err();
    assert!(error.to_string().contains("120"), "{error}");
    // Another version: the box names those that it speaks (RFC 9000 section 6).
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut datagram = vec![0xc0, 0x0a, 0x1a, 0x2a, 0x3a, 8];
    datagram.extend([7; 8]);
    datagram.push(8);
    datagram.extend([9; 8]);
    datagram.resize(1200, 0);
    let to = plane.https();
    let answer = tokio::task::spawn_blocking(move || {
        // What is no QUIC gets no answer.
        socket.send_to(b"hello", to).unwrap();
        socket.send_to(&[0xff; 20], to).unwrap();
        socket.send_to(&datagram, to).unwrap();
        let mut room = [0; 1500];
        let count = socket.recv(&mut room).unwrap();
        room[..count].to_vec()
    })
    .await
    .unwrap();
    assert!(answer[0] & 0x80 != 0 && answer[1..5] == [0; 4], "{answer:02x?}");
    assert!(answer.windows(4).any(|version| version == [0, 0, 0, 1]));
    assert_eq!(fetch(&mut client(&plane).await, "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_follow_the_snapshot() {
    let (mut plane, _hello) = plane().await;
    let (end, served) = endpoint_with("h3", rustls::client::Resumption::disabled());
    let second = certificate(&["a.test"]);
    for want in [None, Some(second)] {
        if let Some(certificate) = &want {
            plane.certificate("a.test", secret(certificate));
            plane.publish();
        }
        let connecting = end.connect(plane.https(), "a.test").unwrap();
        let connection = soon("a handshake", connecting).await.unwrap();
        let (_, tcp) = connect(&plane, Some("a.test"), &[], &rustls::version::TLS13).await;
        let shown = served.lock().unwrap().clone();
        assert!(shown == tcp);
        if let Some(certificate) = want {
            assert!(shown == *certificate.chain[0]);
        }
        connection.close(0x100u32.into(), b"");
        served.lock().unwrap().clear();
    }
}

/// `alt-svc` of an answer on a TLS connection.
async fn said_over_tls(
    stream: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
) -> Option<String> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    let answer = read_until(stream, "hello").await;
    let line = answer.lines().find_map(|line| line.strip_prefix("alt-svc: "));
    line.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_is_live_and_touches_no_other_connection() {
    let backend = Backend::hello().await;
    let mut plane = Plane::start().await;
    plane.host("a.test", &[backend.address]);
    plane.certificate("a.test", secret(&certificate(&["a.test"])));
    plane.publish();
    let (mut tls, _) = connect(&plane, Some("a.test"), &["http/1.1"], &rustls::version::TLS13).await;
    assert_eq!(said_over_tls(&mut tls).await, None);
    let port = plane.https().port();
    for _ in 0..2 {
        switch(&mut plane, true).await;
        let said = format!("h3=\":{port}\"; ma=86400");
        assert_eq!(said_over_tls(&mut tls).await.as_deref(), Some(said.as_str()));
        // Nothing is said in the clear.
        assert!(!plane.fetch("a.test", "/").await.contains("alt-svc"));
        let connection = quic(&plane).await;
        assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
        switch(&mut plane, false).await;
        assert_eq!(said_over_tls(&mut tls).await.as_deref(), Some("clear"));
        let end = closed(&soon("the end", connection.closed()).await);
        assert_eq!(end, Said::Closed(Code::NO_ERROR.0));
    }
}

/// The lengths of the GOAWAY frames that a control stream brought: 8 where it names no stream that there could be, 1 a small one.
async fn farewells(mut control: RecvStream) -> Vec<u8> {
    let mut said = Vec::new();
    while let Ok(Some(chunk)) = control.read_chunk(1 << 16, true).await {
        said.extend_from_slice(&chunk.bytes);
    }
    let frames = said.windows(2).filter(|pair| pair[0] == 7);
    frames.map(|pair| pair[1]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_when_the_box_stops() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let backend = Backend::start(move |_, _| {
        tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
        (HELLO.to_owned(), Then::Keep)
    })
    .await;
    let (mut plane, _hello) = plane().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let address = plane.https();
    let (idle, busy) = (quic(&plane).await, quic(&plane).await);
    let (mut send, mut receive) = busy.open_bi().await.unwrap();
    send.write_all(&with(&[])).await.unwrap();
    send.finish().unwrap();
    soon("the request at the endpoint", async {
        while backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let idle_control = soon("the control stream", idle.accept_uni()).await.unwrap();
    let stop = tokio::task::JoinSet::from_iter([plane.finish()]);
    // The idle connection ends at once; the busy one hears that it is to ask for nothing more, and has its answer.
    assert_eq!(
        closed(&soon("the end", idle.closed()).await),
        Said::Closed(Code::NO_ERROR.0)
    );
    let late = endpoint("h3").0.connect(address, "a.test").unwrap();
    assert!(soon("a refusal", late).await.is_err());
    // Once for no stream that there could be, and once for the one behind the last.
    assert_eq!(farewells(idle_control).await, [8, 1]);
    let control = soon("the control stream", busy.accept_uni()).await.unwrap();
    go.send(()).unwrap();
    assert_eq!(heard(&mut receive).await, Said::Status(200, "hello".to_owned()));
    let end = closed(&soon("the end", busy.closed()).await);
    assert_eq!(end, Said::Closed(Code::NO_ERROR.0));
    assert_eq!(farewells(control).await, [8, 1]);
    let lines = stop.join_all().await.remove(0);
    assert_eq!((lines.len(), &lines[0]["status"]), (1, &200.into()));
}

/// Reads until `end` came in DATA frames.
async fn text(receive: &mut RecvStream, end: &str) -> String {
    let mut octets = Vec::new();
    soon(end, async {
        while !octets.ends_with(end.as_bytes()) {
            match receive.read_chunk(1 << 16, true).await.unwrap() {
                Some(chunk) => octets.extend_from_slice(&chunk.bytes),
                None => break,
            }
        }
    })
    .await;
    String::from_utf8_lossy(&octets).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_is_an_upgrade_behind() {
    let (mut plane, _hello) = plane().await;
    let mut backend = Backend::start(|number, request| {
        let then = [Then::Echo, Then::Hang, Then::Reset][number];
        (switching(request), then)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let connection = quic(&plane).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&request(CONNECT, &[])).await.unwrap();
    for word in ["hello", "again"] {
        send.write_all(&frame_of(DATA, word.as_bytes())).await.unwrap();
        assert!(text(&mut receive, word).await.ends_with(word));
    }
    // Each direction has its own end.
    send.write_all(&frame_of(DATA, b"bye")).await.unwrap();
    send.finish().unwrap();
    let rest = soon("the end", receive.read_to_end(1 << 16)).await.unwrap();
    assert!(rest.ends_with(b"bye"), "{rest:?}");
    let seen = backend.seen()[0].to_ascii_lowercase();
    assert!(seen.starts_with("get /chat http/1.1\r\n"), "{seen}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-protocol: chat",
        "host: a.test",
    ] {
        assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line}: {seen}");
    }
    soon("the end of the endpoint's connection", backend.closed.recv()).await;
    // Resets are passed on, both ways.
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&request(CONNECT, &[])).await.unwrap();
    soon("the request", async {
        while backend.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    send.reset(0x10cu32.into()).unwrap();
    soon("the end of the endpoint's connection", backend.closed.recv()).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&request(CONNECT, &[])).await.unwrap();
    assert_eq!(heard(&mut receive).await, Said::Reset(Code::REQUEST_CANCELLED.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_change_to_websocket_does_not_look_so() {
    let (mut plane, _hello) = plane().await;
    let backend = Backend::start(|number, _| {
        let answer = match number {
            0 => HELLO,
            1 => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n",
            _ => "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        };
        (answer.to_owned(), Then::Close)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for code in [502, 502, 403] {
        let connection = quic(&plane).await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&request(CONNECT, &[])).await.unwrap();
        assert_eq!(plain(heard(&mut receive).await), status(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_announces_a_body_swallows_no_other_request() {
    let (plane, backend) = plane().await;
    let connection = quic(&plane).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let fields = [CONNECT, &[("content-length", "60")]].concat();
    send.write_all(&request(&fields, &[])).await.unwrap();
    assert_eq!(plain(heard(&mut receive).await), status(502));
    assert_eq!(plain(ask(&connection, &with(&[])).await), status(200));
    assert!(
        !backend.seen()[0].contains("content-length"),
        "{:?}",
        backend.seen()
    );
}
