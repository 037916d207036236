//! Endpoints that speak HTTP/2, in the clear and over TLS; gRPC from end to end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use sekisho_config::model::{Http, Upstream, UpstreamProtocol};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::backend_tls::Authority;
use crate::support::{Plane, quick, read_all, read_until, soon};
use crate::tls::connect;

/// An endpoint: answers by a script, which gets the number of the request and of its connection.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<http::request::Parts>>>,
    _tasks: JoinSet<()>,
}

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;
type Script = fn(usize, usize, Request<RecvStream>, SendResponse<Bytes>) -> Answering;

impl Endpoint {
    async fn start(builder: h2::server::Builder, tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (count, seen) = (Arc::clone(&connections), Arc::clone(&requests));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (builder, seen, tls) = (builder.clone(), Arc::clone(&seen), tls.clone());
                serving.spawn(async move {
                    match tls {
                        None => serve(stream, builder, number, seen, script).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, builder, number, seen, script).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            connections,
            requests,
            _tasks: tasks,
        }
    }

    async fn plain(script: Script) -> Self {
        Self::start(h2::server::Builder::new(), None, script).await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    builder: h2::server::Builder,
    connection: usize,
    seen: Arc<Mutex<Vec<http::request::Parts>>>,
    script: Script,
) {
    let Ok(mut h2) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut answering: JoinSet<()> = JoinSet::new();
    while let Some(Ok((request, respond))) = h2.accept().await {
        let number = {
            let (parts, body) = request.into_parts();
            let mut seen = seen.lock().unwrap();
            seen.push(parts.clone());
            let request = Request::from_parts(parts, body);
            answering.spawn(script(seen.len() - 1, connection, request, respond));
            seen.len()
        };
        if number == 1 && builder_says_goaway(&seen) {
            h2.graceful_shutdown();
        }
    }
}

/// A request with this field has the connection say GOAWAY.
fn builder_says_goaway(seen: &Arc<Mutex<Vec<http::request::Parts>>>) -> bool {
    seen.lock().unwrap()[0].headers.contains_key("x-go-away")
}

/// Sends everything back, a trailer behind it.
fn echo(_: usize, _: usize, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Answering {
    Box::pin(async move {
        let mut body = request.into_body();
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        let Ok(mut send) = respond.send_response(response, false) else {
            return;
        };
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            let mut data = data;
            while !data.is_empty() {
                send.reserve_capacity(data.len());
                while send.capacity() == 0 {
                    if !matches!(
                        std::future::poll_fn(|cx| send.poll_capacity(cx)).await,
                        Some(Ok(_))
                    ) {
                        return;
                    }
                }
                let piece = data.split_to(send.capacity().min(data.len()));
                if send.send_data(piece, false).is_err() {
                    return;
                }
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("trace_id", HeaderValue::from_static("7"));
        let _ = send.send_trailers(trailers);
    })
}

/// Says hello, later.
fn slow(_: usize, _: usize, _: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Answering {
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hello(&mut respond);
    })
}

fn at_once(_: usize, _: usize, _: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Answering {
    Box::pin(async move { hello(&mut respond) })
}

fn hello(respond: &mut SendResponse<Bytes>) {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert("content-length", HeaderValue::from_static("5"));
    if let Ok(mut send) = respond.send_response(response, false) {
        let _ = send.send_data(Bytes::from_static(b"hello"), true);
    }
}

fn http2() -> Upstream {
    Upstream {
        protocol: UpstreamProtocol::Http2,
        ..Upstream::default()
    }
}

async fn plane(endpoint: &Endpoint, upstream: Upstream) -> Plane {
    plane_with(endpoint, upstream, Http::default()).await
}

async fn plane_with(endpoint: &Endpoint, upstream: Upstream, http: Http) -> Plane {
    let mut plane = Plane::start_with(quick(), http).await;
    plane.host("a.test", &[endpoint.address]);
    plane.upstream("a.test", upstream);
    plane.publish();
    plane
}

/// A client of HTTP/2 in front.
async fn client(plane: &Plane) -> (h2::client::SendRequest<Bytes>, JoinSet<()>) {
    let (stream, _) = connect(plane, Some("a.test"), &["h2"], &rustls::version::TLS13).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    (sender, driver)
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("https://a.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_over_http1() {
    let endpoint = Endpoint::plain(at_once).await;
    let plane = plane(&endpoint, http2()).await;
    for _ in 0..3 {
        let answer = plane.fetch("a.test", "/x?y=1").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
            "{answer}"
        );
    }
    let seen = endpoint.requests.lock().unwrap();
    assert_eq!(seen[0].uri.to_string(), "http://a.test/x?y=1");
    assert_eq!(seen[0].headers["x-forwarded-for"], "127.0.0.1");
    assert!(!seen[0].headers.contains_key("host") && !seen[0].headers.contains_key("connection"));
    // One for each worker at most.
    assert!(endpoint.connections() <= 2, "{}", endpoint.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_over_http1_has_its_trailers() {
    let endpoint = Endpoint::plain(echo).await;
    let plane = plane(&endpoint, http2()).await;
    let answer = plane
        .raw("POST / HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    assert!(
        answer.ends_with("5\r\nhello\r\n0\r\ngrpc-status: 0\r\ntrace_id: 7\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(endpoint.requests.lock().unwrap()[0].headers["te"], "trailers");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_streams_both_ways_over_tls() {
    let authority = Authority::new("in.example");
    let tls = authority.server(&["h2"]);
    let endpoint = Endpoint::start(h2::server::Builder::new(), Some(tls), echo).await;
    let plane = plane(
        &endpoint,
        authority.trusted_as("in.example", UpstreamProtocol::Http2),
    )
    .await;
    let (mut sender, _driver) = client(&plane).await;
    let (response, mut send) = sender.send_request(call("/s/m"), false).unwrap();
    // Each message is answered before the next one is sent.
    send.send_data(Bytes::from_static(b"one"), false).unwrap();
    let response = soon("the header", response).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for (message, next) in [("one", Some("two")), ("two", Some("three")), ("three", None)] {
        assert_eq!(soon("a message", body.data()).await.unwrap().unwrap(), message);
        match next {
            Some(next) => send
                .send_data(Bytes::from_static(next.as_bytes()), false)
                .unwrap(),
            None => send.send_data(Bytes::new(), true).unwrap(),
        }
    }
    assert!(soon("the end", body.data()).await.is_none());
    let trailers = soon("trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["trace_id"]),
        (&HeaderValue::from_static("0"), &HeaderValue::from_static("7"))
    );
    let seen = endpoint.requests.lock().unwrap();
    assert_eq!(seen[0].uri.to_string(), "https://a.test/s/m");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_echo_keeps_to_all_windows() {
    let endpoint = Endpoint::plain(echo).await;
    let plane = plane(&endpoint, http2()).await;
    let (mut sender, _driver) = client(&plane).await;
    let (response, mut send) = sender.send_request(call("/"), false).unwrap();
    let sending = async {
        for piece in 0..64u8 {
            let mut data = Bytes::from(vec![piece; 64 * 1024]);
            while !data.is_empty() {
                send.reserve_capacity(data.len());
                while send.capacity() == 0 {
                    std::future::poll_fn(|cx| send.poll_capacity(cx))
                        .await
                        .unwrap()
                        .unwrap();
                }
                let piece = data.split_to(send.capacity().min(data.len()));
                send.send_data(piece, false).unwrap();
            }
        }
        send.send_data(Bytes::new(), true).unwrap();
    };
    let reading = async {
        let mut body = response.await.unwrap().into_body();
        let mut got = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            let _ = body.flow_control().release_capacity(data.len());
            got.extend_from_slice(&data);
        }
        got
    };
    let ((), got) = soon("the echo", async { tokio::join!(sending, reading) }).await;
    assert_eq!(got.len(), 64 * 64 * 1024);
    assert!(
        got.chunks(64 * 1024)
            .zip(0u8..)
            .all(|(chunk, piece)| chunk.iter().all(|octet| *octet == piece))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_a_connection_until_it_is_full() {
    for (most, want) in [(100, 1), (4, 3)] {
        let endpoint = Endpoint::plain(slow).await;
        let http = Http {
            max_upstream_streams: most,
            ..Http::default()
        };
        let plane = plane_with(&endpoint, http2(), http).await;
        // One client, so one worker.
        let (sender, _driver) = client(&plane).await;
        let mut calls = JoinSet::new();
        for _ in 0..10 {
            let mut sender = sender.clone();
            calls.spawn(async move {
                let (response, _) = sender.send_request(call("/"), true).unwrap();
                soon("an answer", response).await.unwrap().status().as_u16()
            });
        }
        while let Some(status) = calls.join_next().await {
            assert_eq!(status.unwrap(), 200);
        }
        assert_eq!(endpoint.connections(), want, "{most}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_sent_elsewhere() {
    // Whatever comes over the first connection is refused after one request.
    let endpoint = Endpoint::plain(|number, connection, request, mut respond| {
        if connection == 0 && number > 0 {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Box::pin(async {});
        }
        echo(number, connection, request, respond)
    })
    .await;
    let plane = plane(&endpoint, http2()).await;
    let (mut sender, _driver) = client(&plane).await;
    for _ in 0..2 {
        let (response, mut send) = sender.send_request(call("/"), false).unwrap();
        send.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let response = soon("an answer", response).await.unwrap();
        assert_eq!(response.headers().get("grpc-status"), None, "{response:?}");
        let mut body = response.into_body();
        assert_eq!(soon("the echo", body.data()).await.unwrap().unwrap(), "hello");
    }
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_everything_is_no_endless_work() {
    let endpoint = Endpoint::plain(|_, _, _, mut respond| {
        respond.send_reset(Reason::REFUSED_STREAM);
        Box::pin(async {})
    })
    .await;
    let plane = plane(&endpoint, http2()).await;
    let answer = plane.fetch("a.test", "/").await;
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    assert!(endpoint.connections() < 6, "{}", endpoint.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_goaway_there_is_another_connection() {
    let endpoint = Endpoint::plain(at_once).await;
    let plane = plane(&endpoint, http2()).await;
    let mut stream = TcpStream::connect(plane.http()).await.unwrap();
    for field in ["x-go-away: 1\r\n", "", ""] {
        let request = format!("GET / HTTP/1.1\r\nhost: a.test\r\n{field}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_reset_does_not_look_whole() {
    // The client has the half of it.
    static HALF: tokio::sync::Notify = tokio::sync::Notify::const_new();
    let endpoint = Endpoint::plain(|_, _, _, mut respond| {
        Box::pin(async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"half"), false).unwrap();
            HALF.notified().await;
            send.send_reset(Reason::INTERNAL_ERROR);
        })
    })
    .await;
    let plane = plane(&endpoint, http2()).await;
    let mut stream = plane
        .ask(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await;
    assert!(read_until(&mut stream, "half").await.ends_with("half"));
    HALF.notify_one();
    let rest = read_all(&mut stream).await;
    assert!(!rest.ends_with("0\r\n\r\n"), "{rest}");
    let (mut sender, _driver) = client(&plane).await;
    let (response, _) = sender.send_request(call("/"), true).unwrap();
    let mut body = soon("an answer", response).await.unwrap().into_body();
    assert_eq!(soon("half", body.data()).await.unwrap().unwrap(), "half");
    HALF.notify_one();
    assert!(soon("a reset", body.data()).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_stream_along() {
    static RESET: AtomicUsize = AtomicUsize::new(0);
    let endpoint = Endpoint::plain(|_, _, _, mut respond| {
        Box::pin(async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            if reason.is_ok_and(|reason| reason == Reason::CANCEL) {
                RESET.fetch_add(1, Ordering::SeqCst);
            }
        })
    })
    .await;
    let plane = plane(&endpoint, http2()).await;
    let (mut sender, _driver) = client(&plane).await;
    let (response, mut send) = sender.send_request(call("/"), true).unwrap();
    while endpoint.requests.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    send.send_reset(Reason::CANCEL);
    drop(response);
    soon("the reset", async {
        while RESET.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_hears_of_the_box_in_its_own_words() {
    let endpoint = Endpoint::plain(|_, _, _, respond| {
        Box::pin(async move {
            let _held = respond;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let mut plane = plane(&endpoint, http2()).await;
    plane.host("down.test", &[crate::support::nowhere().await]);
    plane.host("none.test", &[]);
    plane.publish();
    let (mut sender, _driver) = client(&plane).await;
    for (uri, timeout, want) in [
        ("https://other.test/s/m", "1M", "12"),
        ("https://none.test/s/m", "1M", "14"),
        ("https://down.test/s/m", "1M", "14"),
        ("https://a.test/s%2fm", "1M", "13"),
        ("https://a.test/s/m", "100m", "4"),
    ] {
        let mut request = call("/");
        *request.uri_mut() = uri.parse().unwrap();
        request
            .headers_mut()
            .insert("grpc-timeout", HeaderValue::from_str(timeout).unwrap());
        let (response, _) = sender.send_request(request, true).unwrap();
        let response = soon("an answer", response).await.unwrap();
        assert_eq!(response.status(), 200, "{uri}");
        assert_eq!(response.headers()["grpc-status"], want, "{uri}");
        assert!(response.headers().contains_key("grpc-message") && response.body().is_end_stream());
        assert_eq!(response.headers()["content-type"], "application/grpc");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_no_http2_is_a_bad_gateway() {
    let backend = crate::support::Backend::hello().await;
    let mut plane = Plane::start().await;
    plane.host("a.test", &[backend.address]);
    plane.upstream("a.test", http2());
    plane.publish();
    let mut stream = plane
        .ask(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await;
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

/// The endpoint is done before its client is, and goes on reading.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_request_until_its_answer_was_over_does_not_look_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut endpoint = JoinSet::new();
    endpoint.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = h2.accept().await.unwrap().unwrap();
        hello(&mut respond);
        let mut body = request.into_body();
        let reading = async {
            while let Some(piece) = body.data().await {
                piece?;
            }
            Ok::<_, h2::Error>(())
        };
        tokio::select! {
            ended = reading => ended,
            _ = h2.accept() => panic!("there is no other request"),
        }
    });
    let mut plane = Plane::start().await;
    plane.configure(|live| live.timeouts.request_body = Duration::from_millis(300));
    plane.host("a.test", &[address]);
    plane.upstream("a.test", http2());
    plane.publish();
    let begun = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let mut client = plane.ask(begun).await;
    assert!(read_all(&mut client).await.ends_with("hello"));
    let ended = soon("the end of the request", endpoint.join_next()).await;
    assert!(ended.unwrap().unwrap().is_err());
}
