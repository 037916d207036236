//! One connection: handshake, streams, time-outs, end.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connecting, ConnectionError, RecvStream, SendStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::endpoint::{Handshake, Place, code};
use super::link::Link;
use super::stream;
use crate::clock;
use crate::h3::control::{self, Control, Decoder, Kind};
use crate::h3::{Code, frame, varint};
use crate::http::connection::{Client, Made, Tls};
use crate::http::io::{Activity, Expired};
use crate::metrics::Cell as Metric;
use crate::proxy_protocol::Ends;
use crate::start::Live;
use crate::worker::{Admitted, Settings};

/// Between two words of the end: one round trip, within these.
const ROUND_TRIP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// How long the acknowledgement of the last answers is awaited.
const LINGER: Duration = Duration::from_secs(1);
/// How long the first and the last words of the box may wait for the client.
const PATIENCE: Duration = Duration::from_secs(1);
/// The stream that the first GOAWAY names: none that there could be (RFC 9114 section 5.2).
const NO_STREAM: u64 = (1 << 62) - 4;

/// Serves a connection from the handshake to its end.
pub(super) async fn run(
    place: Rc<Place>,
    live: Arc<Live>,
    connecting: Connecting,
    ends: Ends,
    admitted: Option<Admitted>,
    handshake: Handshake,
) {
    let worker = &place.worker;
    let made = timeout(live.timeouts.tls_handshake, connecting).await;
    drop(handshake);
    let connection = match made {
        Ok(Ok(connection)) => {
            worker.counters.inc(Metric::Http3HandshakeDone);
            connection
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, client = %ends.client, "a QUIC handshake failed");
            worker.counters.inc(Metric::Http3HandshakeFailed);
            return;
        }
        Err(_) => {
            worker.counters.inc(Metric::Http3HandshakeTimeout);
            return;
        }
    };
    let admitted = admitted.or_else(|| worker.admit(ends.client.ip(), Metric::Http3Connections));
    let Some(admitted) = admitted else {
        connection.close(code(Code::EXCESSIVE_LOAD), b"");
        return;
    };
    let data = connection.handshake_data();
    let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
    let sni = data.and_then(|data| data.server_name.as_deref().map(str::to_ascii_lowercase));
    if !worker.snapshot().signing_key(sni.as_deref()).1 {
        worker.counters.inc(Metric::TlsPlaceholder);
    }
    let activity = Activity::new(false);
    // The address with which the connection began: the handshake has proved it. A client that moves on to another one stays
    // who it is, and cannot make itself somebody else by a datagram with another sender.
    let client = Client::new(
        Rc::clone(worker),
        Settings::new(live),
        Made {
            ends,
            tls: Some(Tls {
                version: "1.3",
                sni,
                // None is asked for; where one counts, the client is sent back to TCP.
                peer: None,
            }),
            not_tls: false,
            activity,
            http1: None,
            alt_svc: None,
            admitted,
        },
    );
    let link = Link::new(connection, client);
    let mut serving = pin!(serve(&place, &link));
    // Every turn has its time.
    let ended = poll_fn(|cx| {
        clock::turn();
        serving.as_mut().poll(cx)
    })
    .await;
    match ended {
        Ok(()) => link.connection.close(code(Code::NO_ERROR), b""),
        Err(error) => {
            if let ConnectionError::TransportError(_) = error {
                worker.counters.inc(Metric::Http3Protocol);
            }
            tracing::debug!(%error, client = %link.client.peer(), "a client connection ended");
        }
    }
}

/// How the end of a connection is coming.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It is not.
    Open,
    /// The client has been told; requests that are on their way are still taken, until then.
    Warned(Instant),
    /// No more is taken. The client will have heard so at `told`; the box waits for acknowledgements since `idle`, if it has nothing
    /// else to do.
    Last { told: Instant, idle: Instant },
}

/// Serves streams until the connection is to be closed in order (`Ok`), or has ended.
async fn serve(place: &Place, link: &Rc<Link>) -> Result<(), ConnectionError> {
    let (client, connection) = (&link.client, &link.connection);
    let (worker, activity, timeouts) = (&client.worker, &client.activity, &client.live.timeouts);
    let Some(mut control) = greet(link).await? else {
        return Ok(());
    };
    let old = Instant::now() + timeouts.connection_age;
    let mut streams = FuturesUnordered::new();
    let mut chores = FuturesUnordered::new();
    let seen = Rc::new(Seen::default());
    let mut next_stream = 0;
    let mut stage = Stage::Open;
    let mut stopping = false;
    let mut timer = pin!(sleep_until(old));
    loop {
        let now = Instant::now();
        let enough = stopping || activity.closing.get() || now >= old;
        match stage {
            Stage::Open if enough => {
                say_goaway(&mut control, NO_STREAM).await;
                stage = Stage::Warned(now + round_trip(connection));
            }
            Stage::Warned(until) if until <= now => {
                say_goaway(&mut control, next_stream).await;
                // The end of a connection overtakes what is on its way.
                let told = now + round_trip(connection);
                stage = Stage::Last { told, idle: now };
            }
            _ => {}
        }
        if worker.cut.is_given() {
            return Ok(());
        }
        let busy = activity.in_flight.get() > 0;
        if let Stage::Last { told, idle } = &mut stage {
            if busy {
                *idle = now;
            }
            if streams.is_empty() && now >= *told || now >= *idle + LINGER {
                return Ok(());
            }
        }
        let wait = activity.deadline(timeouts, stage != Stage::Open);
        match wait {
            Some((at, Expired::Write)) if at <= now => return Ok(()),
            Some((at, Expired::Idle)) if at <= now => {
                activity.closing.set(true);
                if stage == Stage::Open {
                    continue;
                }
            }
            _ => {}
        }
        let mut due = match stage {
            Stage::Open => old,
            Stage::Warned(until) => until,
            Stage::Last { told, .. } if streams.is_empty() => told,
            Stage::Last { idle, .. } => idle + LINGER,
        };
        if let Some((at, _)) = wait.filter(|(at, expired)| *at > now || *expired == Expired::Write) {
            due = due.min(at);
        }
        if activity.has_streams() {
            // The end of a stream does not set this timer: look after them now and then.
            due = due.min(now + timeouts.response_write);
        }
        timer.as_mut().reset(due.max(now + Duration::from_millis(1)));
        tokio::select! {
            biased;
            () = worker.cut.given() => return Ok(()),
            () = worker.stop.given(), if !stopping => stopping = true,
            () = place.close.cancelled(), if !stopping => stopping = true,
            accepted = connection.accept_bi() => {
                let (send, receive) = accepted?;
                link.opened();
                if matches!(stage, Stage::Last { .. }) {
                    reject(send, receive);
                } else {
                    next_stream = u64::from(send.id()) + 4;
                    streams.push(stream::answer(Rc::clone(link), send, receive));
                }
            }
            accepted = connection.accept_uni() => {
                chores.push(listen(Rc::clone(link), accepted?, Rc::clone(&seen)));
            }
            Some(()) = streams.next(), if !streams.is_empty() => {}
            Some(()) = chores.next(), if !chores.is_empty() => {}
            () = &mut timer => {}
        }
    }
}

/// Opens the box's control stream. `None`: the client does not let it.
async fn greet(link: &Link) -> Result<Option<SendStream>, ConnectionError> {
    let greeting = control::greeting(link.client.live.http.max_header_bytes as u64);
    let open = async {
        let mut control = link.connection.open_uni().await?;
        // An answer may wait for a window; what the box says of itself must not wait behind it.
        let _ = control.set_priority(1);
        Ok(control.write_all(&greeting).await.is_ok().then_some(control))
    };
    match timeout(PATIENCE, open).await {
        Ok(opened) => opened,
        Err(_) => {
            link.fail(Code::GENERAL_PROTOCOL_ERROR);
            Ok(None)
        }
    }
}

/// How long a word takes to be heard of, about.
fn round_trip(connection: &quinn::Connection) -> Duration {
    connection.rtt().clamp(ROUND_TRIP.0, ROUND_TRIP.1)
}

async fn say_goaway(control: &mut SendStream, stream: u64) {
    let mut out = Vec::new();
    frame::goaway(&mut out, stream);
    let _ = timeout(PATIENCE, control.write_all(&out)).await;
}

/// A request that comes after the last one: the client may send it again elsewhere (RFC 9114 section 5.2).
fn reject(mut send: SendStream, mut receive: RecvStream) {
    let _ = send.reset(code(Code::REQUEST_REJECTED));
    let _ = receive.stop(code(Code::REQUEST_REJECTED));
}

/// Which of the streams that there may be one of are there.
#[derive(Debug, Default)]
struct Seen {
    control: std::cell::Cell<bool>,
    encoder: std::cell::Cell<bool>,
    decoder: std::cell::Cell<bool>,
}

/// Follows a client's unidirectional stream.
async fn listen(link: Rc<Link>, mut stream: RecvStream, seen: Rc<Seen>) {
    if let Err(why) = follow(&link, &mut stream, &seen).await {
        link.fail(why);
    }
}

async fn follow(link: &Link, stream: &mut RecvStream, seen: &Seen) -> Result<(), Code> {
    const CHUNK: usize = 4096;
    let mut begun = Vec::new();
    let (kind, taken) = loop {
        match stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => begun.extend_from_slice(&chunk.bytes),
            // It may end before it has said what it is (RFC 9114 section 6.2), but not all the time.
            Ok(None) | Err(_) => {
                link.idle(1);
                return Ok(());
            }
        }
        if let Some(read) = varint::read(&begun) {
            break read;
        }
    };
    let kind = control::kind(kind)?;
    let once = match kind {
        Kind::Control => &seen.control,
        Kind::Encoder => &seen.encoder,
        Kind::Decoder => &seen.decoder,
        Kind::Unknown => {
            // Nobody reads what it brings.
            let _ = stream.stop(code(Code::STREAM_CREATION_ERROR));
            link.idle(1);
            return Ok(());
        }
    };
    if once.replace(true) {
        return Err(Code::STREAM_CREATION_ERROR);
    }
    let (mut control, mut decoder) = (Control::default(), Decoder::default());
    let mut take = |octets: &[u8]| {
        match kind {
            Kind::Control => link.idle(control.feed(octets)?),
            Kind::Encoder => control::encoder(octets)?,
            Kind::Decoder => decoder.feed(octets)?,
            Kind::Unknown => {}
        }
        Ok::<(), Code>(())
    };
    take(begun.get(taken..).unwrap_or_default())?;
    drop(begun);
    loop {
        match stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => take(&chunk.bytes)?,
            // All three live as long as the connection.
            Ok(None) | Err(quinn::ReadError::Reset(_)) => return Err(Code::CLOSED_CRITICAL_STREAM),
            Err(_) => return Ok(()),
        }
    }
}
