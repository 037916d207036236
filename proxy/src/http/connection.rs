//! One client connection: handshake, protocol, time-outs, end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::body::ClientBody;
use super::io::{Activity, ClientIo, ClientStream, Expired};
use super::server::{Conn, serve_http1};
use super::service::serve;
use crate::clock;
use crate::metrics::Cell;
use crate::proxy_protocol;
use crate::start::Live;
use crate::stream::Stream;
use crate::upstream::Guest;
use crate::worker::{Admitted, Worker};

/// What is known of a client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) live: Arc<Live>,
    /// The client's address, from the PROXY header where there is one.
    pub(crate) peer: SocketAddr,
    pub(crate) peer_value: HeaderValue,
    pub(crate) port_value: HeaderValue,
    pub(crate) trusted: bool,
    pub(crate) tls: Option<Tls>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) guest: Rc<Guest>,
    /// The connection itself, if it speaks HTTP/1.1.
    http1: Option<Rc<Conn>>,
    _admitted: Admitted,
}

/// What TLS says of a connection.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) version: &'static str,
    /// In lower case.
    pub(crate) sni: Option<String>,
}

impl Client {
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Passes an interim answer of an endpoint on, if the client takes it.
    pub(crate) fn interim(&self, cx: &mut Context<'_>, status: StatusCode, headers: &HeaderMap) {
        if let Some(conn) = &self.http1 {
            conn.interim(cx, status, headers);
        }
    }
}

/// Serves a connection from accept to its end. `tls`: whether the listener speaks TLS.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: bool,
    admitted: Admitted,
) {
    let live = worker.shared.live.load_full();
    let Some(ends) = proxy_protocol::receive(&mut stream, peer, &live, &worker.counters).await else {
        return;
    };
    let peer = ends.client;
    let mut http2 = false;
    let (stream, tls) = if tls {
        let Some(stream) = handshake(&worker, stream, &live).await else {
            return;
        };
        let session = stream.get_ref().1;
        http2 = session.alpn_protocol() == Some(b"h2");
        let tls = Tls {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            },
            sni: session.server_name().map(str::to_ascii_lowercase),
        };
        if !worker.snapshot().signing_key(tls.sni.as_deref()).1 {
            worker.counters.inc(Cell::TlsPlaceholder);
        }
        (ClientStream::Tls(Box::new(stream)), Some(tls))
    } else {
        (ClientStream::Plain(Stream(stream)), None)
    };
    let activity = Activity::new(!http2);
    let (http1, stream) = if http2 {
        (None, Some(stream))
    } else {
        (Some(Conn::new(stream)), None)
    };
    let client = Rc::new(Client {
        trusted: live
            .trusted_proxies
            .iter()
            .any(|prefix| prefix.contains(peer.ip())),
        peer,
        peer_value: HeaderValue::from_str(&peer.ip().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
        port_value: HeaderValue::from(ends.server.port()),
        worker,
        live,
        tls,
        activity: Arc::clone(&activity),
        guest: Guest::new(ends),
        http1: http1.clone(),
        _admitted: admitted,
    });
    match http1 {
        Some(conn) => serve_http1(client, conn).await,
        None => {
            if let Some(stream) = stream {
                serve_http2(client, TokioIo::new(ClientIo::new(stream, activity))).await;
            }
        }
    }
}

async fn handshake(worker: &Worker, stream: TcpStream, live: &Live) -> Option<TlsStream<Stream>> {
    let acceptor = TlsAcceptor::from(Arc::clone(&worker.shared.tls));
    let (cell, stream) = match timeout(live.timeouts.tls_handshake, acceptor.accept(Stream(stream))).await {
        Ok(Ok(stream)) => {
            if stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                worker.counters.inc(Cell::TlsResumed);
            }
            (Cell::TlsDone, Some(stream))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            (Cell::TlsFailed, None)
        }
        Err(_) => (Cell::TlsTimeout, None),
    };
    worker.counters.inc(cell);
    stream
}

async fn serve_http2(client: Rc<Client>, io: TokioIo<ClientIo>) {
    let http = &client.live.http;
    let service = {
        let client = Rc::clone(&client);
        service_fn(move |request: Request<Incoming>| {
            serve(Rc::clone(&client), request.map(ClientBody::Hyper))
        })
    };
    let mut connection = http2::Builder::new(LocalExecutor(Rc::clone(&client.worker)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(http.max_concurrent_streams)
        .max_header_list_size(u32::try_from(http.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128)
        .serve_connection(io, service);
    // When a wait is too long the connection is dropped, and with it the socket.
    let _ = watch(&client, &mut connection).await;
}

/// Tasks of HTTP/2 streams run on the worker's own thread.
#[derive(Clone, Debug)]
struct LocalExecutor(Rc<Worker>);

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        self.0.connections.spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                clock::turn();
                future.as_mut().poll(cx).map(drop)
            })
            .await;
        });
    }
}

/// A hyper connection that can be asked to end.
trait Serving: Unpin {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>>;
    /// No further request; those that run may finish (GOAWAY).
    fn end(&mut self);
}

impl<I, S, R> Serving for http2::Connection<I, S, LocalExecutor>
where
    S: hyper::service::HttpService<Incoming, ResBody = R>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    R: http_body::Body + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Self: Unpin + Future<Output = Result<(), hyper::Error>>,
    LocalExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, R>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Future::poll(Pin::new(self), cx)
    }

    fn end(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// Drives a connection until it ends or waits too long. One timer serves every wait; it is set again only when a
/// deadline comes nearer or when it fires.
async fn watch(client: &Client, connection: &mut impl Serving) -> Option<Expired> {
    let timeouts = &client.live.timeouts;
    let activity = &client.activity;
    let worker = &client.worker;
    let (mut stop, mut cut) = (pin!(worker.stop.given()), pin!(worker.cut.given()));
    let mut listening = false;
    let old = Instant::now() + timeouts.connection_age;
    let mut timer = pin!(sleep_until(old));
    let mut ending = false;
    poll_fn(|cx| {
        let now = clock::turn();
        // The task is woken by them when it has asked once.
        if !listening {
            listening = true;
            let _ = (stop.as_mut().poll(cx), cut.as_mut().poll(cx));
        }
        loop {
            if let Poll::Ready(ended) = connection.poll(cx) {
                if let Err(error) = ended {
                    // hyper has answered 400 or 431 by itself.
                    if error.is_parse() {
                        let large = error.is_parse_too_large();
                        client.worker.counters.inc(if large {
                            Cell::RefusedHeaders
                        } else {
                            Cell::RefusedMalformed
                        });
                    }
                    tracing::debug!(%error, client = %client.peer, "a client connection ended");
                }
                return Poll::Ready(None);
            }
            let enough = worker.stop.is_given() || activity.closing.load(Relaxed) || now >= old;
            if enough && !ending {
                ending = true;
                connection.end();
                continue;
            }
            if worker.cut.is_given() {
                return Poll::Ready(Some(Expired::Write));
            }
            let deadline = activity.deadline(timeouts, ending);
            let mut due = match deadline {
                Some((at, _)) if ending => at,
                Some((at, _)) => at.min(old),
                None if ending => now + timeouts.response_write,
                None => old,
            };
            if activity.has_streams() {
                // Streams run in tasks of their own and cannot set this timer: look after them now and then.
                due = due.min(now + timeouts.response_write);
            }
            if ending && deadline.is_none() && !activity.has_streams() {
                // Only the exchanges that run keep it open, and they have their own time-outs.
                return Poll::Pending;
            }
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            match deadline {
                Some((at, expired)) if at <= now => return Poll::Ready(Some(expired)),
                _ => timer
                    .as_mut()
                    .reset(due.max(now + std::time::Duration::from_millis(1))),
            }
        }
    })
    .await
}
