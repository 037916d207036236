//! HTTP/1.1 towards clients: one task for each connection, which reads a request, has it answered and writes the answer,
//! one after the other. While nothing is going on it holds no buffer.

mod conn;
mod respond;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{Method, Version};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

pub(crate) use self::conn::{Conn, Http1Body};
use super::answer::Refusal;
use super::body::{ClientBody, Reply};
use super::connection::Client;
use super::headers;
use super::io::{ClientStream, ENDING_FRESH};
use super::service::{refused, serve};
use crate::fields::Fields;
use crate::fields::names::EXPECT;
use crate::h1::head::{Parser, Step};
use crate::h1::{Decoder, Limits, request};
use crate::message::Response;
use crate::message::request::Parts;
use crate::tunnel::Abort;
use crate::{buffers, clock};

/// How long, and for how many octets, a client is listened to after the last answer, so that what it is still sending
/// does not destroy the answer on its way (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// How long the answer to the first request of a connection may take before it is looked whether the client is still there; alarms
/// are late by a tenth of a second at most.
const UNWATCHED: Duration = Duration::from_millis(20);

/// How the preface of HTTP/2 begins (RFC 9113 section 3.4); nothing of HTTP/1 does.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";

/// How an exchange, or a wait, ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The connection takes another request.
    Keep,
    /// It is closed in order.
    Close,
    /// It is closed without a word: what was written must not look whole, or nobody is there.
    Drop,
    /// It is reset.
    Abort,
    /// The client speaks HTTP/2 on it.
    Http2,
}

/// A connection being served: a future that ends with it, or gives it back, with what was read from it, where the client knows that
/// HTTP/2 is spoken here (RFC 9113 section 3.3). Written by hand, since tens of thousands of them wait most of
/// the time, and what the compiler makes of an `async` block has room for all that it could ever do.
pub(crate) struct Serving {
    pub(super) client: Rc<Client>,
    conn: Rc<Conn>,
    /// When the wait for a request began: on a fresh connection, with its handshake.
    since: Instant,
    /// No request has come yet.
    fresh: bool,
    doing: Doing,
}

enum Doing {
    Waits,
    Exchange(Pin<Box<dyn Future<Output = End>>>),
    Closing(Pin<Box<dyn Future<Output = ()>>>),
}

/// Serves a connection to its end.
pub(super) fn serve_http1(client: Rc<Client>, conn: Rc<Conn>) -> Serving {
    Serving {
        client,
        conn,
        since: clock::turn(),
        fresh: true,
        doing: Doing::Waits,
    }
}

impl Future for Serving {
    type Output = Option<(ClientStream, BytesMut)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        clock::turn();
        let this = self.get_mut();
        loop {
            let end = match &mut this.doing {
                Doing::Waits => ready!(poll_idle(cx, &this.client, &this.conn, this.since, this.fresh)),
                Doing::Exchange(exchange) => ready!(exchange.as_mut().poll(cx)),
                Doing::Closing(closing) => {
                    ready!(closing.as_mut().poll(cx));
                    return Poll::Ready(None);
                }
            };
            match (end, &this.doing) {
                (End::Keep, Doing::Waits) => {
                    // The header's time runs from its first octet; on a fresh connection, from the handshake.
                    let first = std::mem::take(&mut this.fresh);
                    if !first {
                        this.since = clock::now();
                    }
                    let (client, conn) = (Rc::clone(&this.client), Rc::clone(&this.conn));
                    this.doing = Doing::Exchange(Box::pin(exchange(client, conn, this.since, first)));
                }
                (End::Http2, _) => {
                    let io = &mut *this.conn.io();
                    let input = std::mem::take(&mut io.input);
                    return Poll::Ready(io.stream.take().map(|stream| (stream, input)));
                }
                (End::Keep, _) => {
                    this.doing = Doing::Waits;
                    this.since = clock::now();
                    this.conn.io().calm();
                }
                (end, _) => {
                    let Some((stream, unread)) = leave(&this.client, &this.conn, end) else {
                        return Poll::Ready(None);
                    };
                    let (client, conn) = (Rc::clone(&this.client), Rc::clone(&this.conn));
                    this.doing = Doing::Closing(Box::pin(close(client, conn, stream, unread)));
                }
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // A tunnel may go on with the connection; its task ends here.
        self.conn.alarm.quiet();
    }
}

/// Waits for the first octet of a request.
fn poll_idle(cx: &mut Context<'_>, client: &Client, conn: &Conn, since: Instant, fresh: bool) -> Poll<End> {
    let io = &mut *conn.io();
    if client.worker.cut.is_given() {
        return Poll::Ready(End::Abort);
    }
    if io.input.is_empty() {
        match io.poll_fill(cx) {
            Poll::Ready(Ok(1..)) => return Poll::Ready(End::Keep),
            Poll::Ready(Ok(0)) => return Poll::Ready(End::Close),
            Poll::Ready(Err(_)) => return Poll::Ready(End::Drop),
            Poll::Pending => io.let_go(),
        }
    } else {
        return Poll::Ready(End::Keep);
    }
    let stopping = client.worker.stop.is_given();
    let timeouts = &client.live.timeouts;
    let limit = match (fresh, stopping) {
        // A client that has just connected gets a moment to say what it wants, even when the box is stopping.
        (true, true) => timeouts.request_header.min(ENDING_FRESH),
        (true, false) => timeouts.request_header,
        (false, true) => return Poll::Ready(End::Close),
        (false, false) => {
            let left = timeouts.connection_age.saturating_sub(client.activity.age());
            timeouts.keep_alive.min(left)
        }
    };
    ready!(conn.alarm.poll(cx, since + limit));
    Poll::Ready(End::Close)
}

/// A request that was read, or why it was not.
enum Read {
    Head(Box<Parts>),
    Refused(Refusal),
    Ended(End),
}

/// Reads the header section of a request.
fn poll_read(
    cx: &mut Context<'_>,
    client: &Client,
    conn: &Conn,
    parser: &mut Parser,
    due: Instant,
    first: bool,
) -> Poll<Read> {
    let io = &mut *conn.io();
    let http = &client.live.http;
    let limits = Limits {
        head_bytes: http.max_header_bytes,
        fields: http.max_headers,
        uri_bytes: http.max_uri_bytes,
    };
    if client.worker.cut.is_given() {
        return Poll::Ready(Read::Ended(End::Abort));
    }
    // In TLS the client chooses by ALPN.
    let may_be_http2 = first && client.tls.is_none() && !client.not_tls;
    loop {
        if !io.input.is_empty() {
            if may_be_http2 && io.input.starts_with(HTTP2) {
                return Poll::Ready(Read::Ended(End::Http2));
            }
            match request::advance(parser, &io.input, &limits) {
                Ok(Step::Partial) => {}
                Ok(Step::Complete(length)) => {
                    let section = io.input.get(..length).unwrap_or_default();
                    let head = request::head(std::mem::take(parser), section);
                    io.input.advance(length);
                    return Poll::Ready(match head {
                        Ok(head) => Read::Head(Box::new(head)),
                        Err(fault) => Read::Refused(fault.into()),
                    });
                }
                Err(fault) => return Poll::Ready(Read::Refused(fault.into())),
            }
        }
        match io.poll_fill(cx) {
            Poll::Ready(Ok(1..)) => {}
            // Nobody waits for an answer to half a header section.
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Read::Ended(End::Drop)),
            Poll::Pending => break,
        }
    }
    ready!(conn.alarm.poll(cx, due));
    // Empty lines are no request.
    Poll::Ready(if io.input.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
        Read::Ended(End::Close)
    } else {
        Read::Refused(Refusal::RequestTimeout)
    })
}

/// One request and its answer.
async fn exchange(client: Rc<Client>, conn: Rc<Conn>, since: Instant, first: bool) -> End {
    let mut parser = Parser::default();
    let due = since + client.live.timeouts.request_header;
    let read = poll_fn(|cx| poll_read(cx, &client, &conn, &mut parser, due, first)).await;
    let (head, refusal) = match read {
        Read::Head(head) if client.not_tls => {
            conn.io().body = Decoder::until_close();
            (*head, Some(Refusal::NotTls))
        }
        Read::Head(head) => match request::framing(head.version, &head.headers) {
            Ok(decoder) => {
                let io = &mut *conn.io();
                let http11 = head.version == Version::HTTP_11;
                io.owes_continue = http11 && !decoder.is_done() && head.headers.contains_key(EXPECT);
                io.takes_interim = http11;
                io.body = decoder;
                (*head, None)
            }
            Err(fault) => {
                // Where its body ends nobody knows; the close listens to what still comes.
                conn.io().body = Decoder::until_close();
                (*head, Some(fault.into()))
            }
        },
        Read::Refused(refusal) => (nothing(), Some(refusal)),
        Read::Ended(end) => return end,
    };
    let asked = respond::Asked {
        version: head.version,
        head_only: head.method == Method::HEAD,
        keep: refusal.is_none() && wants_keep(head.version, &head.headers),
    };
    let response = match refusal {
        Some(refusal) => refused(&client, &head, refusal),
        None => match answer(&client, &conn, head).await {
            Some(response) => response,
            None => return End::Drop,
        },
    };
    respond::respond(&client, &conn, asked, response).await
}

/// Has a request answered. `None`: the client left meanwhile.
async fn answer(client: &Rc<Client>, conn: &Rc<Conn>, parts: Parts) -> Option<Response<Reply>> {
    let body = ClientBody::Http1(Http1Body(Rc::clone(conn)));
    let mut serving = pin!(serve(Rc::clone(client), parts, body));
    let half_close_is_end = client.live.http.abort_on_half_close;
    let watch_at = clock::now() + UNWATCHED;
    poll_fn(|cx| {
        if let Poll::Ready(response) = serving.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        conn.alarm.register(cx.waker());
        if client.worker.cut.is_given() {
            return Poll::Ready(None);
        }
        let io = &mut *conn.io();
        // A connection for one quick request is never watched.
        if !io.is_watched() {
            ready!(conn.alarm.poll(cx, watch_at));
        }
        ready!(io.poll_gone(cx, half_close_is_end));
        Poll::Ready(None)
    })
    .await
}

/// What stands for a request that could not be read.
fn nothing() -> Parts {
    Parts {
        method: Method::from_bytes(b"-").unwrap_or_default(),
        ..Parts::default()
    }
}

/// Whether the client wants the connection to go on (RFC 9112 section 9.3).
fn wants_keep(version: Version, headers: &Fields) -> bool {
    let says = |option| headers::connection_says(headers, option);
    if version == Version::HTTP_11 {
        !says(b"close")
    } else {
        says(b"keep-alive") && !says(b"close")
    }
}

/// Ends the connection as far as that takes no time. `None`: it has ended; else what is left of it, and whether something was
/// not read.
fn leave(client: &Client, conn: &Conn, end: End) -> Option<(ClientStream, bool)> {
    let (stream, first) = take_stream(conn)?;
    match end {
        End::Drop => return None,
        End::Abort => {
            stream.abort();
            return None;
        }
        End::Keep | End::Close | End::Http2 => {}
    }
    let unread = !first.is_empty() || !conn.io().body.is_done();
    // Where everything that came was read, the close of the socket says FIN and no RST.
    (unread || client.tls.is_some()).then_some((stream, unread))
}

/// Ends the connection in order.
async fn close(client: Rc<Client>, conn: Rc<Conn>, mut stream: ClientStream, unread: bool) {
    let due = clock::now() + LINGER;
    let mut told = false;
    let (mut input, mut read) = (BytesMut::new(), 0);
    poll_fn(|cx| {
        if client.worker.cut.is_given() || conn.alarm.poll(cx, due).is_ready() {
            return Poll::Ready(());
        }
        if !told {
            if ready!(Pin::new(&mut stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            told = true;
        }
        while unread && read < LINGER_BYTES {
            input.clear();
            match ready!(buffers::poll_fill(&mut stream, cx, &mut input, false)) {
                Ok(count @ 1..) => read += count,
                _ => break,
            }
        }
        Poll::Ready(())
    })
    .await;
    buffers::give(&mut input);
}

/// Takes the stream out of a connection, and what was read from it and not used. Whoever still reads the body of a request,
/// on behalf of an endpoint that has answered it, finds it cut off.
fn take_stream(conn: &Conn) -> Option<(ClientStream, bytes::Bytes)> {
    let io = &mut *conn.io();
    io.eof = true;
    let first = io.input.split().freeze();
    io.stream.take().map(|stream| (stream, first))
}
