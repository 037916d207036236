//! HTTP/2 towards clients: one task for a connection and all its streams. In a turn it reads what has come, lets the streams
//! go on that can, and what they have to say leaves in one write. The protocol itself is in [`crate::h2`].

mod fields;
pub(crate) mod send;
mod shared;
mod stream;
mod tunnel;
pub(in crate::http) mod websocket;
mod wire;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::fields::check;
pub(crate) use self::shared::Respond;
pub(crate) use self::stream::StreamRequest;
pub(crate) use self::websocket::WebSocket;

use self::shared::Shared;
use self::wire::{Read, Wire};
use super::connection::Client;
use super::io::{ClientIo, Expired};
use crate::clock;
use crate::h2::{Connection, Fault, Limits, Offence, Reason, Settings};
use crate::metrics::Cell as Metric;

/// What a stream may send ahead of the pod, and a whole connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much larger a header section may be for the box to answer 431 itself after all checks; beyond that it is not read on.
const HEADER_SLACK: u32 = 16 * 1024;
/// How long the last frames of a connection may take, and how long a client may take to hear that the end comes.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a turn reads before the streams have theirs.
const READS: u8 = 8;

/// Serves a connection whose client has chosen HTTP/2, from the preface to its end. `first`: what was read of it.
pub(crate) async fn serve_http2(client: Rc<Client>, io: ClientIo, first: BytesMut) {
    let http = &client.live.http;
    let header_bytes = u32::try_from(http.max_header_bytes).unwrap_or(u32::MAX);
    let shared = Shared::new(Connection::new(Settings {
        max_streams: http.max_concurrent_streams,
        header_list: header_bytes.saturating_add(HEADER_SLACK),
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        limits: Limits {
            control: http.max_control_frames,
            resets: http.max_resets,
        },
    }));
    run(&client, &shared, Wire::new(io, first)).await;
    // Bodies of requests may be in the hands of others still.
    shared.with(Connection::lost);
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
    /// The client has gone.
    Gone,
    /// The client has gone too far.
    Fault(Fault),
}

/// One turn: octets in, streams, octets out.
fn turn<F: Future<Output = ()>>(
    cx: &mut Context<'_>,
    shared: &Rc<Shared>,
    wire: &mut Wire,
    streams: &mut FuturesUnordered<F>,
    begin: &mut impl FnMut(crate::h2::Asked) -> F,
    now: Instant,
) -> Turn {
    loop {
        let mut more = true;
        for _ in 0..READS {
            let read = shared.with(|core| wire.poll_read(cx, core, now));
            match read {
                Read::Some => {}
                Read::Waits => more = false,
                Read::Full => {}
                Read::Gone => return Turn::Gone,
                Read::Fault(fault) => return Turn::Fault(fault),
            }
            if !matches!(read, Read::Some) {
                break;
            }
        }
        while let Some(asked) = shared.with(Connection::next_request) {
            streams.push(begin(asked));
        }
        while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
        match shared.with(|core| wire.poll_write(cx, core)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a client takes no more");
                return Turn::Gone;
            }
            Poll::Pending => return Turn::Waits,
        }
        if !more {
            return Turn::Waits;
        }
    }
}

async fn run(client: &Rc<Client>, shared: &Rc<Shared>, mut wire: Wire) {
    let timeouts = &client.live.timeouts;
    let (activity, worker) = (&client.activity, &client.worker);
    let mut streams = FuturesUnordered::new();
    // In a box: a stream's future is large, and the set would copy it from place to place.
    let mut begin = |asked| {
        Box::pin(stream::answer(
            Rc::clone(client),
            Respond::new(shared, &asked),
            asked,
        ))
    };
    let (mut stop, mut cut) = (pin!(worker.stop.given()), pin!(worker.cut.given()));
    let mut listening = false;
    let old = Instant::now() + timeouts.connection_age;
    let mut timer = pin!(sleep_until(old));
    // The client was told that the end comes, and until when it may take to hear it.
    let mut ending: Option<Instant> = None;
    // The last frames are on their way, and have until then.
    let mut farewell: Option<Instant> = None;
    poll_fn(|cx| {
        let now = clock::turn();
        let _turn = shared.begin_turn(cx);
        // The task is woken by them when it has asked once.
        if !listening {
            listening = true;
            let _ = (stop.as_mut().poll(cx), cut.as_mut().poll(cx));
        }
        loop {
            if worker.cut.is_given() {
                return Poll::Ready(());
            }
            if farewell.is_some() {
                if shared.with(|core| wire.poll_close(cx, core)).is_ready() {
                    return Poll::Ready(());
                }
            } else {
                match turn(cx, shared, &mut wire, &mut streams, &mut begin, now) {
                    Turn::Waits => {}
                    Turn::Gone => {
                        tracing::debug!(client = %client.peer(), "a client connection ended");
                        return Poll::Ready(());
                    }
                    Turn::Fault(fault) => {
                        tracing::debug!(client = %client.peer(), ?fault, "a client goes too far");
                        worker.counters.inc(match fault.offence {
                            Offence::Control => Metric::Http2ControlFlood,
                            Offence::Resets => Metric::Http2ResetFlood,
                            Offence::Calm => Metric::Http2Calm,
                            Offence::Protocol => Metric::Http2Protocol,
                        });
                        end(shared, &mut streams, fault.reason);
                        farewell = Some(now + FAREWELL);
                        continue;
                    }
                }
                let enough = worker.stop.is_given() || activity.closing.get() || now >= old;
                if enough && ending.is_none() {
                    ending = Some(now + FAREWELL);
                    shared.with(Connection::announce_end);
                    continue;
                }
                let over = shared.with(|core| {
                    if ending.is_some_and(|at| at <= now || core.has_heard()) {
                        core.end(Reason::NO_ERROR);
                    }
                    core.is_over()
                });
                if over {
                    farewell = Some(now + FAREWELL);
                    continue;
                }
                if shared.with(|core| core.has_output()) && wire.is_free() {
                    continue;
                }
            }
            let slow = shared.with(|core| core.open_since());
            let slow = slow.map(|since| (since + timeouts.request_header, Overdue::Header));
            let wait = activity
                .deadline(timeouts, ending.is_some())
                .map(|(at, expired)| match expired {
                    Expired::Write => (at, Overdue::Write),
                    _ => (at, Overdue::Idle),
                });
            let deadline = [wait, slow].into_iter().flatten().min_by_key(|(at, _)| *at);
            let mut due = match (farewell, ending, deadline) {
                (Some(at), ..) => at,
                (None, None, Some((at, _))) => at.min(old),
                (None, None, None) => old,
                (None, Some(told), deadline) => {
                    let at = deadline.map_or(now + timeouts.response_write, |(at, _)| at);
                    if told > now { at.min(told) } else { at }
                }
            };
            if activity.has_streams() {
                // The end of a stream does not set this timer: look after them now and then.
                due = due.min(now + timeouts.response_write);
            }
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = clock::turn();
            if farewell.is_some_and(|at| at <= now) {
                return Poll::Ready(());
            }
            match deadline {
                Some((at, overdue)) if at <= now && farewell.is_none() => {
                    match overdue {
                        Overdue::Write => return Poll::Ready(()),
                        Overdue::Header => worker.counters.inc(Metric::RequestTimeout),
                        Overdue::Idle => {}
                    }
                    // The client hears it.
                    end(shared, &mut streams, Reason::NO_ERROR);
                    farewell = Some(now + FAREWELL);
                }
                _ => timer.as_mut().reset(due.max(now + Duration::from_millis(1))),
            }
        }
    })
    .await;
}

/// Ends all streams, and says why.
fn end<F>(shared: &Shared, streams: &mut FuturesUnordered<F>, reason: Reason) {
    shared.with(|core| {
        core.end(reason);
        core.lost();
    });
    streams.clear();
}
