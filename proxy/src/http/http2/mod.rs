//! HTTP/2 towards clients: one task for a connection and all its streams, so that what the streams have to say in one turn
//! leaves in one write.

mod fields;
mod guard;
mod io;
pub(crate) mod send;
mod stream;
mod tunnel;
pub(in crate::http) mod websocket;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::Reason;
use h2::server::Connection;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub(crate) use self::fields::check;
pub(crate) use self::stream::{Respond, StreamRequest};
pub(crate) use self::websocket::WebSocket;

use self::guard::{Guard, Limits, Offence};
use self::io::{Guarded, Watched};
use super::connection::Client;
use super::io::{ClientIo, ENDING_FRESH, Expired};
use crate::clock;
use crate::metrics::Cell as Metric;

/// What a stream may send ahead of the pod, and a whole connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Octets of an answer that wait in a connection for one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How much larger a header section may be for the box to answer 431 itself; beyond that the parser does.
const HEADER_SLACK: u32 = 16 * 1024;
/// Streams that may be reset before they were looked at.
const PENDING_RESETS: usize = 20;
/// How long the last frames of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection whose client has chosen HTTP/2, from the preface to its end.
pub(crate) async fn serve_http2(client: Rc<Client>, io: ClientIo) {
    let http = &client.live.http;
    let limits = Limits {
        control: http.max_control_frames,
        resets: http.max_resets,
    };
    let watched = Rc::new(Watched {
        guard: RefCell::new(Guard::new(limits, clock::now())),
        offence: Cell::new(None),
    });
    let io = Guarded {
        io,
        watched: Rc::clone(&watched),
    };
    let header_bytes = u32::try_from(http.max_header_bytes).unwrap_or(u32::MAX);
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(http.max_concurrent_streams)
        .max_header_list_size(header_bytes.saturating_add(HEADER_SLACK))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol()
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(usize::try_from(http.max_resets).ok())
        .handshake::<_, Bytes>(io);
    let stopped = async {
        client.worker.stop.given().await;
        sleep(ENDING_FRESH).await;
    };
    let connection = tokio::select! {
        connection = timeout(client.live.timeouts.request_header, handshake) => connection,
        () = stopped => return,
    };
    match connection {
        Ok(Ok(connection)) => run(&client, connection, &watched).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, client = %client.peer, "what a client began is not HTTP/2");
            client.worker.counters.inc(Metric::Http2Protocol);
        }
        Err(_) => {}
    }
}

/// What took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Overdue {
    /// A header section was begun and not finished.
    Header,
    /// Nothing was asked for.
    Idle,
    /// The client does not read.
    Write,
}

/// How a turn of a connection went.
enum Turn {
    /// Nothing more can be done now.
    Waits,
    /// It has ended, in order or not.
    Ended(Option<h2::Error>),
}

async fn run(client: &Rc<Client>, mut connection: Connection<Guarded, Bytes>, watched: &Watched) {
    let timeouts = &client.live.timeouts;
    let (activity, worker) = (&client.activity, &client.worker);
    let mut streams = FuturesUnordered::new();
    let mut turn = |cx: &mut Context<'_>, connection: &mut Connection<Guarded, Bytes>| {
        let mut first = true;
        loop {
            let mut fresh = false;
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        fresh = true;
                        streams.push(stream::answer(Rc::clone(client), request, respond));
                    }
                    Poll::Ready(Some(Err(error))) => return Turn::Ended(Some(error)),
                    Poll::Ready(None) => return Turn::Ended(None),
                    Poll::Pending => break,
                }
            }
            if streams.is_empty() || !(first || fresh) {
                return Turn::Waits;
            }
            // What streams write leaves when the connection is asked once more.
            first = false;
            while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
        }
    };
    let (mut stop, mut cut) = (pin!(worker.stop.given()), pin!(worker.cut.given()));
    let mut listening = false;
    let old = Instant::now() + timeouts.connection_age;
    let mut timer = pin!(sleep_until(old));
    let mut ending = false;
    // The connection is being closed, at this time at the latest.
    let mut farewell: Option<Instant> = None;
    let ended = poll_fn(|cx| {
        let now = clock::turn();
        // The task is woken by them when it has asked once.
        if !listening {
            listening = true;
            let _ = (stop.as_mut().poll(cx), cut.as_mut().poll(cx));
        }
        loop {
            if let Turn::Ended(error) = turn(cx, &mut connection) {
                return Poll::Ready(error);
            }
            if farewell.is_none()
                && let Some(offence) = watched.offence.get()
            {
                tracing::debug!(client = %client.peer, ?offence, "a client goes too far");
                let (reason, metric) = match offence {
                    Offence::Control => (Reason::ENHANCE_YOUR_CALM, Metric::Http2ControlFlood),
                    Offence::Resets => (Reason::ENHANCE_YOUR_CALM, Metric::Http2ResetFlood),
                    Offence::Size => (Reason::FRAME_SIZE_ERROR, Metric::Http2Protocol),
                    Offence::Window => (Reason::FLOW_CONTROL_ERROR, Metric::Http2Protocol),
                };
                worker.counters.inc(metric);
                connection.abrupt_shutdown(reason);
                farewell = Some(now + FAREWELL);
                continue;
            }
            let enough = worker.stop.is_given() || activity.closing.load(Relaxed) || now >= old;
            if enough && !ending {
                ending = true;
                connection.graceful_shutdown();
                continue;
            }
            if worker.cut.is_given() {
                return Poll::Ready(None);
            }
            let slow = watched.guard.borrow().open_since();
            let slow = slow.map(|since| (since + timeouts.request_header, Overdue::Header));
            let wait = activity
                .deadline(timeouts, ending)
                .map(|(at, expired)| match expired {
                    Expired::Write => (at, Overdue::Write),
                    _ => (at, Overdue::Idle),
                });
            let deadline = [wait, slow].into_iter().flatten().min_by_key(|(at, _)| *at);
            let mut due = match (farewell, deadline) {
                (Some(at), _) => at,
                (None, Some((at, _))) if ending => at,
                (None, Some((at, _))) => at.min(old),
                (None, None) if ending => now + timeouts.response_write,
                (None, None) => old,
            };
            if activity.has_streams() {
                // Progress of streams does not set this timer: look after them now and then.
                due = due.min(now + timeouts.response_write);
            }
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if farewell.is_some_and(|at| at <= now) {
                return Poll::Ready(None);
            }
            match deadline {
                Some((at, overdue)) if at <= now && farewell.is_none() => {
                    match overdue {
                        Overdue::Write => return Poll::Ready(None),
                        Overdue::Header => worker.counters.inc(Metric::RequestTimeout),
                        Overdue::Idle => {}
                    }
                    // The client hears it.
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    farewell = Some(now + FAREWELL);
                }
                _ => timer.as_mut().reset(due.max(now + Duration::from_millis(1))),
            }
        }
    })
    .await;
    if let Some(error) = ended {
        if !error.is_io() && !error.is_remote() {
            worker.counters.inc(match error.reason() {
                Some(Reason::ENHANCE_YOUR_CALM) => Metric::Http2Calm,
                _ => Metric::Http2Protocol,
            });
        }
        tracing::debug!(%error, client = %client.peer, "a client connection ended");
    }
}
