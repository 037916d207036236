//! One client connection: handshake, protocol, time-outs, end.

use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{HeaderValue, StatusCode};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::alt_svc::AltSvc;
use super::headers;
use super::http2::serve_http2;
use super::io::{Activity, ClientIo, ClientStream};
use super::server::{Conn, Serving, serve_http1};
use crate::client_auth::Peer;
use crate::fields::Fields;
use crate::metrics::Cell;
use crate::proxy_protocol::{self, Ends};
use crate::start::Live;
use crate::stream::Stream;
use crate::transport::Transport;
use crate::upstream::Guest;
use crate::worker::{Admitted, Settings, Worker};

/// What is known of a client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) live: Rc<Settings>,
    /// Its addresses, from the PROXY header where there is one.
    ends: Ends,
    /// What endpoints are told of it.
    pub(crate) said: headers::Said,
    /// Connections to one port share it.
    pub(crate) port_value: Rc<HeaderValue>,
    pub(crate) trusted: bool,
    pub(crate) tls: Option<Box<Tls>>,
    /// It speaks HTTP in the clear where TLS is expected: it is told so, and nothing else.
    pub(crate) not_tls: bool,
    pub(crate) activity: Activity,
    guest: OnceCell<Rc<Guest>>,
    /// The connection itself, if it speaks HTTP/1.1.
    http1: Option<Rc<Conn>>,
    alt_svc: Option<Arc<AltSvc>>,
    /// What was said of HTTP/3 last.
    alt_svc_said: OnceCell<Box<HeaderValue>>,
    /// `None`: another one stands for it, or it for another one.
    admitted: RefCell<Option<Admitted>>,
}

/// What TLS says of a connection.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) version: &'static str,
    /// In lower case.
    pub(crate) sni: Option<String>,
    /// Who the client is, where it has shown a certificate.
    pub(crate) peer: Option<Rc<Peer>>,
}

/// How a connection was made, for [`Client::new`].
pub(crate) struct Made {
    pub(crate) ends: Ends,
    pub(crate) tls: Option<Tls>,
    /// It began without TLS where there is to be TLS.
    pub(crate) not_tls: bool,
    pub(crate) activity: Activity,
    /// The connection itself, if it speaks HTTP/1.1.
    pub(crate) http1: Option<Rc<Conn>>,
    /// What is to be said of HTTP/3.
    pub(crate) alt_svc: Option<Arc<AltSvc>>,
    pub(crate) admitted: Admitted,
}

impl Client {
    pub(crate) fn new(worker: Rc<Worker>, live: Rc<Settings>, made: Made) -> Rc<Self> {
        let Made {
            ends,
            tls,
            not_tls,
            activity,
            http1,
            alt_svc,
            admitted,
        } = made;
        let peer = ends.client;
        Rc::new(Self {
            trusted: live
                .trusted_proxies
                .iter()
                .any(|prefix| prefix.contains(peer.ip())),
            said: headers::Said::new(peer.ip(), if tls.is_some() { "https" } else { "http" }),
            port_value: worker.port_value(ends.server.port()),
            ends,
            worker,
            live,
            tls: tls.map(Box::new),
            not_tls,
            activity,
            guest: OnceCell::new(),
            http1,
            alt_svc,
            alt_svc_said: OnceCell::new(),
            admitted: RefCell::new(Some(admitted)),
        })
    }

    /// What an answer says of HTTP/3. A box that is being stopped says nothing: another one may serve it at the same address.
    pub(crate) fn alt_svc(&self) -> Option<HeaderValue> {
        let alt_svc = self.alt_svc.as_ref()?;
        let is_on = alt_svc.is_on();
        if is_on && let Some(said) = self.alt_svc_said.get() {
            return (!self.worker.stop.is_given()).then(|| HeaderValue::clone(said));
        }
        let value = alt_svc.value(self.live.http.http3_max_age)?;
        if is_on {
            let _ = self.alt_svc_said.set(Box::new(value.clone()));
        }
        (!self.worker.stop.is_given()).then_some(value)
    }

    /// What is known of it, without the connection itself: for copies of its requests, which may outlive it.
    pub(crate) fn shadow(&self) -> Rc<Self> {
        self.without_connection(None)
    }

    /// The same once it turns out that HTTP/2 is spoken on it.
    fn over_http2(&self) -> Rc<Self> {
        self.without_connection(self.admitted.take())
    }

    fn without_connection(&self, admitted: Option<Admitted>) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(&self.worker),
            live: Rc::clone(&self.live),
            ends: self.ends,
            said: self.said.clone(),
            port_value: Rc::clone(&self.port_value),
            trusted: self.trusted,
            tls: None,
            not_tls: false,
            activity: Activity::new(false),
            guest: self.guest.clone(),
            http1: None,
            alt_svc: None,
            alt_svc_said: OnceCell::new(),
            admitted: RefCell::new(admitted),
        })
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The client's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.ends.client
    }

    /// What endpoints keep for this client alone, if they are told who it is.
    pub(crate) fn guest(&self, transport: &Transport) -> Option<&Rc<Guest>> {
        transport.proxy_protocol?;
        Some(self.guest.get_or_init(|| Guest::new(self.ends)))
    }

    /// Passes an interim answer of an endpoint on, if the client takes it.
    pub(crate) fn interim(&self, cx: &mut Context<'_>, status: StatusCode, headers: &Fields) {
        if let Some(conn) = &self.http1 {
            conn.interim(cx, status, headers);
        }
    }
}

/// Serves a connection from accept to its end. `local`: where it came to, if that is known; `tls`: of a listener that speaks
/// TLS, what is to be said of HTTP/3.
pub(crate) fn run(
    worker: Rc<Worker>,
    stream: Stream,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    tls: Option<Arc<AltSvc>>,
    admitted: Admitted,
) -> Run {
    Run::Begins(Box::pin(begin(worker, stream, peer, local, tls, admitted)))
}

/// A connection. What comes before the first request is in a box of its own, as is what HTTP/2 needs: one that is idle
/// need not have room for it.
pub(crate) enum Run {
    Begins(Pin<Box<dyn Future<Output = Option<Self>>>>),
    Http1(Serving),
    Http2(Pin<Box<dyn Future<Output = ()>>>),
}

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Begins(begins) => match ready!(begins.as_mut().poll(cx)) {
                    Some(begun) => *this = begun,
                    None => return Poll::Ready(()),
                },
                Self::Http1(serving) => match ready!(Pin::new(&mut *serving).poll(cx)) {
                    Some((stream, first)) => {
                        let client = serving.client.over_http2();
                        let io = ClientIo::new(stream, Rc::clone(&client));
                        *this = Self::Http2(Box::pin(serve_http2(client, io, first)));
                    }
                    None => return Poll::Ready(()),
                },
                Self::Http2(serving) => return serving.as_mut().poll(cx),
            }
        }
    }
}

async fn begin(
    worker: Rc<Worker>,
    mut stream: Stream,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    tls: Option<Arc<AltSvc>>,
    admitted: Admitted,
) -> Option<Run> {
    let live = worker.live();
    let ends = proxy_protocol::receive(&mut stream, peer, local, &live, &worker.counters).await?;
    let secure = tls.is_some();
    // Behind a load balancer that speaks for its clients datagrams go another way, if any.
    let alt_svc = tls.filter(|_| ends.client == SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    let (mut http2, mut not_tls) = (false, false);
    let opened = if secure {
        let opened = Box::pin(handshake(&worker, stream, &live)).await?;
        not_tls = matches!(opened, Opened::Plain(_));
        opened
    } else {
        Opened::Plain(stream)
    };
    let (stream, tls) = match opened {
        Opened::Tls(stream) => {
            let session = stream.get_ref().1;
            http2 = session.alpn_protocol() == Some(b"h2");
            let tls = Tls {
                version: match session.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                    _ => "1.3",
                },
                sni: session.server_name().map(str::to_ascii_lowercase),
                peer: session.peer_certificates().and_then(Peer::new),
            };
            if !worker.snapshot().signing_key(tls.sni.as_deref()).1 {
                worker.counters.inc(Cell::TlsPlaceholder);
            }
            (ClientStream::Tls(stream), Some(tls))
        }
        Opened::Plain(stream) => (ClientStream::Plain(stream), None),
    };
    let activity = Activity::new(!http2);
    let (http1, stream) = if http2 {
        (None, Some(stream))
    } else {
        (Some(Conn::new(stream, worker.alarms.add())), None)
    };
    let made = Made {
        ends,
        tls,
        not_tls,
        activity,
        http1: http1.clone(),
        alt_svc,
        admitted,
    };
    let client = Client::new(worker, live, made);
    Some(match (http1, stream) {
        (Some(conn), _) => Run::Http1(serve_http1(client, conn)),
        (None, stream) => {
            let io = ClientIo::new(stream?, Rc::clone(&client));
            Run::Http2(Box::pin(serve_http2(client, io, BytesMut::new())))
        }
    })
}

/// How a connection to a listener of TLS began.
enum Opened {
    Tls(Box<TlsStream<Stream>>),
    /// With a letter: that is no TLS, but perhaps HTTP.
    Plain(Stream),
}

/// The handshake, with the settings of the host that the client asks for where any host has some of its own.
async fn accept(worker: &Worker, stream: Stream) -> std::io::Result<TlsStream<Stream>> {
    let common = &worker.shared.tls;
    if !worker.snapshot().asks_for_certificates() {
        return TlsAcceptor::from(Arc::clone(common)).accept(stream).await;
    }
    let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let sni = begun.client_hello().server_name().map(str::to_ascii_lowercase);
    let config = match worker.snapshot().client_auth(sni.as_deref()) {
        None => Arc::clone(common),
        Some(auth) => auth
            .config(common)
            .ok_or_else(|| std::io::Error::other("the CAs for certificates of clients cannot be used"))?,
    };
    begun.into_stream(config).await
}

async fn handshake(worker: &Worker, mut stream: Stream, live: &Live) -> Option<Opened> {
    let shaken = timeout(live.timeouts.tls_handshake, async {
        let mut first = [0];
        stream.watch()?.peek(&mut first).await?;
        if first.iter().all(u8::is_ascii_alphabetic) {
            return Ok(Opened::Plain(stream));
        }
        let stream = accept(worker, stream).await?;
        Ok::<_, std::io::Error>(Opened::Tls(Box::new(stream)))
    });
    let (cell, opened) = match shaken.await {
        Ok(Ok(Opened::Plain(stream))) => (Cell::TlsFailed, Some(Opened::Plain(stream))),
        Ok(Ok(Opened::Tls(stream))) => {
            if stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                worker.counters.inc(Cell::TlsResumed);
            }
            (Cell::TlsDone, Some(Opened::Tls(stream)))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            (Cell::TlsFailed, None)
        }
        Err(_) => (Cell::TlsTimeout, None),
    };
    worker.counters.inc(cell);
    opened
}
