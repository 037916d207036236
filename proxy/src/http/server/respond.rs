//! An answer on its way to an HTTP/1.1 client.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{StatusCode, Version};

use super::conn::Conn;
use super::{End, take_stream};
use crate::buffers;
use crate::fields::Fields;
use crate::fields::names::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use crate::h1::encode;
use crate::http::body::Reply;
use crate::http::connection::Client;
use crate::http::frame::Body;
use crate::http::io::ClientStream;
use crate::http::{date, headers, upgrade};
use crate::message::Response;
use crate::message::response::Parts;
use crate::splice::{self, Pipe};

/// Pieces of a body that are copied together with what is before them.
const JOINED: usize = 8 * 1024;
const JOINED_ALL: usize = 32 * 1024;

/// What of the request decides about the form of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// HEAD.
    pub(super) head_only: bool,
    /// The client wants to go on.
    pub(super) keep: bool,
}

/// How the body goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How far the writing has come.
struct Writer {
    framing: Framing,
    keep: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Head,
    Body,
    /// All of it was handed to the connection.
    Whole,
    /// The endpoint broke off.
    Broken,
}

/// Writes an answer. Gives what becomes of the connection.
pub(super) async fn respond(
    client: &Rc<Client>,
    conn: &Rc<Conn>,
    asked: Asked,
    response: Response<Reply>,
) -> End {
    let (parts, mut body) = response.into_parts();
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let bodiless = asked.head_only
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED
        || switching;
    let framing = framing(asked, bodiless, &parts.headers, &body);
    let mut writer = Writer {
        framing,
        keep: asked.keep
            && framing != Framing::UntilClose
            && !headers::connection_says(&parts.headers, b"close"),
        state: State::Head,
    };
    let mut parts = Some(parts);
    let end = poll_fn(|cx| writer.poll(cx, client, conn, asked, &mut parts, &mut body)).await;
    if switching && end == End::Keep {
        if let Some(switched) = body.into_switched()
            && let Some((stream, first)) = take_stream(conn)
        {
            let worker = &client.worker;
            worker.tunnels.spawn_local(upgrade::join(stream, first, switched));
        }
        return End::Drop;
    }
    end
}

fn framing(asked: Asked, bodiless: bool, headers: &Fields, body: &Reply) -> Framing {
    if bodiless {
        return Framing::None;
    }
    let said = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    match said.or_else(|| body.size_hint().exact()) {
        Some(length) => Framing::Length(length),
        None if asked.version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

impl Writer {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client,
        conn: &Conn,
        asked: Asked,
        parts: &mut Option<Parts>,
        body: &mut Reply,
    ) -> Poll<End> {
        let mut waits = false;
        loop {
            if client.worker.cut.is_given() {
                return Poll::Ready(End::Abort);
            }
            {
                let io = &mut *conn.io();
                match io.poll_drain(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Drop),
                    Poll::Pending => {
                        let since = io.stalled.unwrap_or_else(crate::clock::now);
                        ready!(conn.alarm.poll(cx, since + client.live.timeouts.response_write));
                        // An orderly close would look like a whole response.
                        return Poll::Ready(End::Abort);
                    }
                }
            }
            match self.state {
                State::Whole if self.keep => return Poll::Ready(End::Keep),
                State::Whole => return Poll::Ready(End::Close),
                // To who counts octets or waits for the last chunk the end of the connection says enough; and a reset
                // could destroy what is on its way.
                State::Broken if self.framing == Framing::UntilClose => return Poll::Ready(End::Abort),
                State::Broken => return Poll::Ready(End::Drop),
                State::Head | State::Body if waits => {
                    conn.alarm.register(cx.waker());
                    let io = &mut *conn.io();
                    ready!(io.poll_gone(cx, client.live.http.abort_on_half_close));
                    return Poll::Ready(End::Drop);
                }
                State::Head | State::Body => {}
            }
            match self.poll_move(cx, conn, body) {
                Some(Poll::Ready(())) => continue,
                Some(Poll::Pending) => {
                    waits = true;
                    continue;
                }
                None => {}
            }
            let put = buffers::with_scratch(|scratch| {
                if let Some(parts) = parts.take() {
                    self.head(cx, scratch, conn, asked, &parts, body);
                }
                let (large, tail, pending) = self.gather(cx, scratch, body);
                waits = pending;
                if scratch.is_empty() && large.is_none() && tail.is_empty() {
                    return Ok(());
                }
                if self.state == State::Whole && !self.keep && large.is_none() {
                    return conn.io().put_last(cx, scratch);
                }
                conn.io().put(cx, scratch, large, tail)
            });
            if put.is_err() {
                return Poll::Ready(End::Drop);
            }
        }
    }

    /// Moves what has come of a large body, if it can go on as it came, to where [`super::conn::Io::poll_drain`] sends it
    /// from. `None` where it has to be copied.
    fn poll_move(&mut self, cx: &mut Context<'_>, conn: &Conn, body: &mut Reply) -> Option<Poll<()>> {
        let Framing::Length(left) = &mut self.framing else {
            return None;
        };
        let io = &mut *conn.io();
        let worth = io.pipe.is_some() || *left >= splice::LEAST;
        let plain = matches!(io.stream, Some(ClientStream::Plain(_)));
        if !(worth && plain && self.state == State::Body && body.is_movable(*left)) {
            return None;
        }
        if io.pipe.is_none() {
            io.pipe = Pipe::take();
        }
        let moved = body.poll_move(cx, io.pipe.as_mut()?);
        Some(moved.map(|moved| {
            let rest = moved.map(|count| left.checked_sub(count as u64));
            self.state = match rest {
                Ok(Some(0)) => State::Whole,
                Ok(Some(rest)) => {
                    *left = rest;
                    State::Body
                }
                Ok(None) | Err(_) => State::Broken,
            };
        }))
    }

    fn head(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        conn: &Conn,
        asked: Asked,
        parts: &Parts,
        body: &Reply,
    ) {
        let io = &mut *conn.io();
        // A request that is not read to its end leaves the connection where nobody knows what comes next.
        if self.keep && !io.body.is_done() {
            self.keep = body.is_own() && io.skip_body(cx);
        }
        io.takes_interim = false;
        io.owes_continue = false;
        self.keep &= !io.eof;
        encode::status_line(out, asked.version, parts.status);
        let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let (mut dated, mut sized) = (false, false);
        parts.headers.encode(out, |name| {
            dated |= name == DATE;
            sized |= name == CONTENT_LENGTH;
            name != TRANSFER_ENCODING && (name != CONNECTION || switching)
        });
        if !dated {
            date::write(out);
        }
        match self.framing {
            Framing::Length(length) if !sized => {
                encode::field(out, "content-length", length.to_string().as_bytes());
            }
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            _ => {}
        }
        if switching {
            self.keep = true;
        } else if !self.keep {
            out.extend_from_slice(b"connection: close\r\n");
        } else if asked.version == Version::HTTP_10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.state = State::Body;
    }

    /// Takes pieces of the body: small ones into `out`, a large one by itself with what comes behind it. The last value
    /// says whether nothing more is there yet.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        body: &mut Reply,
    ) -> (Option<Bytes>, &'static [u8], bool) {
        while self.state == State::Body && out.len() <= JOINED_ALL {
            let piece = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return (None, b"", true),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an answer broke off");
                    self.state = State::Broken;
                    break;
                }
                Poll::Ready(None) => {
                    self.state = match self.framing {
                        Framing::Length(1..) => State::Broken,
                        Framing::Chunked => {
                            encode::last_chunk(out, None);
                            State::Whole
                        }
                        _ => State::Whole,
                    };
                    break;
                }
                Poll::Ready(Some(Ok(piece))) => piece,
            };
            let data = match piece.into_data() {
                Ok(data) => data,
                Err(other) => {
                    if self.framing == Framing::Chunked
                        && let Ok(trailers) = other.into_trailers()
                    {
                        encode::last_chunk(out, Some(&trailers));
                        self.state = State::Whole;
                    }
                    continue;
                }
            };
            if data.is_empty() || self.framing == Framing::None {
                continue;
            }
            let last = body.is_end_stream();
            let mut tail: &[u8] = b"";
            match &mut self.framing {
                Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                    Some(rest) => *left = rest,
                    None => {
                        self.state = State::Broken;
                        break;
                    }
                },
                Framing::Chunked => {
                    encode::chunk_size(out, data.len());
                    tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                }
                Framing::None | Framing::UntilClose => {}
            }
            if last {
                self.state = match self.framing {
                    Framing::Length(1..) => State::Broken,
                    _ => State::Whole,
                };
            }
            if data.len() > JOINED {
                return (Some(data), tail, false);
            }
            out.extend_from_slice(&data);
            out.extend_from_slice(tail);
        }
        (None, b"", false)
    }
}
