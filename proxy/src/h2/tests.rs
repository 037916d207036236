//! A whole connection: what frames do to it, however they are cut, and what a client of another make has of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::Instant;

use super::frame::{self, HEADER, Header, PREFACE};
use super::{Asked, Connection, Fault, Key, Limits, Offence, Piece, Reason, Settings};
use crate::fields::Fields;

const SETTINGS: Settings = Settings {
    max_streams: 3,
    header_list: 1000,
    stream_window: 65_536,
    connection_window: 200_000,
    limits: Limits {
        control: 20,
        resets: 10,
    },
};

/// `GET https://a.test/`, of indices but for the authority.
const GET: &[u8] = b"\x82\x87\x84\x01\x06a.test";
const POST: &[u8] = b"\x83\x87\x84\x01\x06a.test";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, kind, flags, stream, payload);
    out
}

fn get(stream: u32) -> Vec<u8> {
    frame(
        frame::HEADERS,
        frame::END_HEADERS | frame::END_STREAM,
        stream,
        GET,
    )
}

fn post(stream: u32) -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS, stream, POST)
}

/// A connection after preface and SETTINGS; what it has said is thrown away.
fn begun() -> Connection {
    let mut core = Connection::new(SETTINGS);
    say(&mut core, &[PREFACE, &frame(frame::SETTINGS, 0, 0, &[])].concat()).unwrap();
    core.output().clear();
    core
}

fn say(core: &mut Connection, octets: &[u8]) -> Result<(), Fault> {
    let mut input = BytesMut::from(octets);
    let done = core.receive(&mut input, Instant::now());
    assert!(
        done.is_err()
            || input.is_empty()
            || Header::read(&input).is_none_or(|header| header.length + HEADER > input.len())
    );
    assert!(core.is_sound());
    done
}

/// What it says: type, flags, stream and payload.
fn said(core: &mut Connection) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let out = std::mem::take(core.output());
    let mut rest = &out[..];
    let mut frames = Vec::new();
    while let Some(header) = Header::read(rest) {
        frames.push((
            header.kind,
            header.flags,
            header.stream,
            rest[HEADER..HEADER + header.length].to_vec(),
        ));
        rest = &rest[HEADER + header.length..];
    }
    assert!(rest.is_empty());
    frames
}

fn reset(stream: u32, reason: Reason) -> (u8, u8, u32, Vec<u8>) {
    (frame::RST_STREAM, 0, stream, reason.0.to_be_bytes().to_vec())
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn a_request_and_its_answer() {
    let mut core = begun();
    say(&mut core, &get(1)).unwrap();
    let Asked { key, parts, end, .. } = core.next_request().unwrap();
    assert!(end && core.is_read(key));
    assert_eq!(
        (parts.method, parts.uri.to_string()),
        (Method::GET, "https://a.test/".to_owned())
    );
    core.respond(
        key,
        StatusCode::OK,
        &Fields::new(),
        Some(&HeaderValue::from_static("now")),
        false,
    )
    .unwrap();
    assert!(core.interim(key, StatusCode::CONTINUE, &Fields::new()).is_err());
    assert!(
        core.respond(key, StatusCode::OK, &Fields::new(), None, true)
            .is_err()
    );
    core.data(key, b"hello", true).unwrap();
    assert!(core.data(key, b"more", true).is_err());
    let frames = said(&mut core);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].3[0], 0x88);
    assert_eq!(frames[1], (frame::DATA, frame::END_STREAM, 1, b"hello".to_vec()));
    core.release(key);
    assert!(said(&mut core).is_empty() && core.streams_are_empty());
}

#[test]
fn what_the_first_frame_is() {
    for (octets, want) in [
        (get(1), Err(Fault::PROTOCOL)),
        (frame(frame::SETTINGS, frame::ACK, 0, &[]), Err(Fault::PROTOCOL)),
        (frame(frame::SETTINGS, 0, 0, &[]), Ok(())),
    ] {
        let mut core = Connection::new(SETTINGS);
        let got = say(&mut core, &[PREFACE, &octets].concat());
        assert_eq!(got, want, "{octets:?}");
    }
    let mut core = Connection::new(SETTINGS);
    assert_eq!(say(&mut core, b"PRI * HTTP/1"), Err(Fault::PROTOCOL));
}

/// Frames that come although their stream is over (RFC 9113 section 5.1).
#[test]
fn late_frames() {
    let data = |flags| frame(frame::DATA, flags, 1, b"hi");
    let trailers = frame(
        frame::HEADERS,
        frame::END_HEADERS | frame::END_STREAM,
        1,
        b"\x00\x01a\x01b",
    );
    let window = |by: u32| frame(frame::WINDOW_UPDATE, 0, 1, &by.to_be_bytes());
    let rst = frame(frame::RST_STREAM, 0, 1, &[0; 4]);
    // The answer is whole, and the client was told that it need not go on: what it had sent by then is passed over.
    for late in [&data(0), &data(frame::END_STREAM), &trailers, &window(1), &rst] {
        let mut core = begun();
        say(&mut core, &post(1)).unwrap();
        let key = core.next_request().unwrap().key;
        core.respond(key, StatusCode::OK, &Fields::new(), None, true)
            .unwrap();
        core.release(key);
        assert_eq!(said(&mut core).pop(), Some(reset(1, Reason::NO_ERROR)));
        assert_eq!(say(&mut core, late), Ok(()), "{late:?}");
        assert!(said(&mut core).is_empty(), "{late:?}");
    }
    // Both sides have said all.
    for (late, want, told) in [
        (&data(0), Ok(()), Some(reset(1, Reason::STREAM_CLOSED))),
        (&trailers, Err(Fault::CLOSED), None),
        (&get(1), Err(Fault::CLOSED), None),
        (&window(1), Ok(()), None),
        (&rst, Ok(()), None),
    ] {
        let mut core = begun();
        say(&mut core, &get(1)).unwrap();
        let key = core.next_request().unwrap().key;
        core.respond(key, StatusCode::OK, &Fields::new(), None, true)
            .unwrap();
        core.release(key);
        said(&mut core);
        assert_eq!(say(&mut core, late), want, "{late:?}");
        assert_eq!(said(&mut core).pop(), told, "{late:?}");
    }
    // The client has reset it, and nobody has looked yet.
    for (late, want, told) in [
        (&data(0), Ok(()), Some(reset(1, Reason::STREAM_CLOSED))),
        (&trailers, Err(Fault::CLOSED), None),
        (&window(1), Ok(()), None),
        (&rst, Ok(()), None),
    ] {
        let mut core = begun();
        say(&mut core, &post(1)).unwrap();
        core.next_request().unwrap();
        say(&mut core, &rst).unwrap();
        said(&mut core);
        assert_eq!(say(&mut core, late), want, "{late:?}");
        assert_eq!(said(&mut core).pop(), told, "{late:?}");
        // Once is enough.
        assert_eq!(say(&mut core, &data(0)), Ok(()), "{late:?}");
        assert_eq!(said(&mut core).pop().is_some(), told.is_none(), "{late:?}");
    }
    // The client has said all, and we have not.
    for late in [&data(0), &trailers] {
        let mut core = begun();
        say(&mut core, &get(1)).unwrap();
        let key = core.next_request().unwrap().key;
        assert_eq!(say(&mut core, late), Ok(()), "{late:?}");
        assert_eq!(said(&mut core), [reset(1, Reason::STREAM_CLOSED)]);
        assert!(core.poll_reset(&nobody(), key).is_ready());
    }
}

#[test]
fn a_stream_that_is_reset_before_it_is_looked_at_is_none() {
    let mut core = begun();
    let both = |id| [post(id), frame(frame::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat();
    for id in [1, 3, 5, 7, 9] {
        say(&mut core, &both(id)).unwrap();
    }
    assert!(core.next_request().is_none());
    assert!(core.streams_are_empty() && said(&mut core).is_empty());
}

/// However many streams are opened and reset before anybody looks at them, and however many beside them are refused, so that
/// there are more new ones than resets.
#[test]
fn streams_that_nobody_has_looked_at_are_not_without_end() {
    let mut core = begun();
    say(&mut core, &[post(1), post(3), post(5)].concat()).unwrap();
    let mut open = std::collections::VecDeque::from([1, 3, 5]);
    for id in (7..400).step_by(4) {
        let rst = frame(frame::RST_STREAM, 0, open.pop_front().unwrap(), &[0, 0, 0, 8]);
        say(&mut core, &[rst, post(id), post(id + 2)].concat()).unwrap();
        open.push_back(id);
    }
    // Those that are open are looked at, and then there is room again.
    while core.next_request().is_some() {}
    said(&mut core);
    say(&mut core, &get(501)).unwrap();
    assert!(said(&mut core).is_empty());
}

/// Of several values in one frame the last one holds, but none may be too large.
#[test]
fn a_window_that_is_set_several_times() {
    let mut core = begun();
    let setting = |value: u32| [&[0, 4][..], &value.to_be_bytes()].concat();
    let several = |values: &[u32]| {
        let payload: Vec<u8> = values.iter().flat_map(|value| setting(*value)).collect();
        frame(frame::SETTINGS, 0, 0, &payload)
    };
    say(&mut core, &get(1)).unwrap();
    let key = core.next_request().unwrap().key;
    core.respond(key, StatusCode::OK, &Fields::new(), None, false)
        .unwrap();
    say(&mut core, &several(&[0, 9, 5])).unwrap();
    assert_eq!(core.poll_capacity(&nobody(), key), Poll::Ready(Ok(5)));
    assert_eq!(say(&mut core, &several(&[1 << 31, 5])), Err(Fault::FLOW));
}

#[test]
fn streams_at_a_time() {
    let mut core = begun();
    say(&mut core, &[get(1), get(3), get(5), get(7)].concat()).unwrap();
    assert_eq!(said(&mut core), [reset(7, Reason::REFUSED_STREAM)]);
    let key = core.next_request().unwrap().key;
    core.respond(key, StatusCode::OK, &Fields::new(), None, true)
        .unwrap();
    core.release(key);
    said(&mut core);
    say(&mut core, &get(9)).unwrap();
    assert!(said(&mut core).is_empty());
}

#[test]
fn windows_of_the_client() {
    // A stream's, with its padding; then the connection's.
    let mut core = begun();
    say(&mut core, &post(1)).unwrap();
    let piece = vec![0; 16_384];
    for _ in 0..4 {
        say(&mut core, &frame(frame::DATA, 0, 1, &piece)).unwrap();
    }
    say(&mut core, &frame(frame::DATA, 0, 1, b"x")).unwrap();
    assert_eq!(said(&mut core), [reset(1, Reason::FLOW_CONTROL_ERROR)]);
    say(&mut core, &[post(3), post(5), post(7)].concat()).unwrap();
    let mut got = Ok(());
    for count in 0..12 {
        got = got.and_then(|()| say(&mut core, &frame(frame::DATA, 0, [3, 5, 7][count % 3], &piece)));
    }
    assert_eq!(got, Err(Fault::FLOW));
}

/// What is taken may be sent again; what nobody takes any more, too.
#[test]
fn windows_are_given_back() {
    let mut core = begun();
    let piece = vec![0; 16_384];
    for id in (1..200).step_by(2) {
        say(&mut core, &post(id)).unwrap();
        let key = core.next_request().unwrap().key;
        for _ in 0..4 {
            say(&mut core, &frame(frame::DATA, 0, id, &piece)).unwrap();
        }
        if id % 4 == 1 {
            for _ in 0..4 {
                assert!(matches!(
                    core.poll_piece(&nobody(), key),
                    Poll::Ready(Ok(Piece::Data(_)))
                ));
            }
            let windows = said(&mut core);
            assert!(
                windows.contains(&(frame::WINDOW_UPDATE, 0, id, 32_768u32.to_be_bytes().to_vec())),
                "{windows:?}"
            );
        }
        core.release(key);
    }
}

/// What nobody takes shuts the connection for all its streams.
#[test]
fn a_connection_that_is_shut() {
    let settings = Settings {
        connection_window: 65_535,
        ..SETTINGS
    };
    let mut core = Connection::new(settings);
    say(&mut core, &[PREFACE, &frame(frame::SETTINGS, 0, 0, &[])].concat()).unwrap();
    say(&mut core, &[post(1), post(3)].concat()).unwrap();
    let first = core.next_request().unwrap().key;
    for part in [16_384, 16_384, 16_384, 16_383] {
        assert!(!core.is_shut());
        say(&mut core, &frame(frame::DATA, 0, 1, &vec![b'x'; part])).unwrap();
    }
    assert!(core.is_shut());
    // It is given back half by half.
    for shut in [true, false, false, false] {
        assert!(core.poll_piece(&nobody(), first).is_ready());
        assert_eq!(core.is_shut(), shut);
    }
}

#[test]
fn windows_of_ours() {
    let mut core = begun();
    say(&mut core, &frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 3])).unwrap();
    say(&mut core, &[get(1), get(3)].concat()).unwrap();
    let (one, three) = (core.next_request().unwrap().key, core.next_request().unwrap().key);
    let capacity = |core: &mut Connection, key| match core.poll_capacity(&nobody(), key) {
        Poll::Ready(Ok(count)) => count,
        _ => 0,
    };
    for key in [one, three] {
        core.respond(key, StatusCode::OK, &Fields::new(), None, false)
            .unwrap();
    }
    assert_eq!(capacity(&mut core, one), 3);
    core.data(one, b"abc", false).unwrap();
    assert_eq!(capacity(&mut core, one), 0);
    // It may even be less than nothing (RFC 9113 section 6.9.2).
    say(&mut core, &frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
    say(&mut core, &frame(frame::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 3])).unwrap();
    assert_eq!((capacity(&mut core, one), capacity(&mut core, three)), (0, 0));
    say(&mut core, &frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).unwrap();
    assert_eq!(capacity(&mut core, one), 65_532);
    core.data(one, &vec![0; 65_532], false).unwrap();
    // That was the connection's.
    assert_eq!(capacity(&mut core, three), 0);
    said(&mut core);
    say(&mut core, &frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0])).unwrap();
    assert_eq!(capacity(&mut core, three), 256);
}

#[test]
fn settings_of_the_end() {
    let mut core = begun();
    say(&mut core, &get(1)).unwrap();
    core.announce_end();
    let frames = said(&mut core);
    assert_eq!(
        frames[0],
        (frame::GOAWAY, 0, 0, vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])
    );
    // What was on its way is still served.
    say(&mut core, &get(3)).unwrap();
    say(&mut core, &frame(frame::PING, frame::ACK, 0, &frames[1].3)).unwrap();
    assert!(core.has_heard());
    core.end(Reason::NO_ERROR);
    assert_eq!(
        said(&mut core),
        [(frame::GOAWAY, 0, 0, vec![0, 0, 0, 3, 0, 0, 0, 0])]
    );
    say(&mut core, &get(5)).unwrap();
    for id in [1, 3] {
        assert!(!core.is_over());
        let asked = core.next_request().unwrap();
        assert_eq!(asked.key.id, id);
        core.respond(asked.key, StatusCode::OK, &Fields::new(), None, true)
            .unwrap();
        core.release(asked.key);
    }
    assert!(core.next_request().is_none() && core.is_over());
}

#[test]
fn sections_that_are_too_large() {
    // Over the limit of the list, not of the block: the fields are in the table of both sides all the same.
    let mut core = begun();
    let large = [
        GET,
        b"\x40\x01a\x7f\x80\x06",
        &[b'x'; 895],
        b"\x00\x01b\x7f\x81\x01",
        &[b'y'; 256],
    ]
    .concat();
    say(
        &mut core,
        &frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, &large),
    )
    .unwrap();
    let asked = core.next_request().unwrap();
    assert!(asked.too_large);
    let again = [&GET[..3], b"\x01\x06a.test\x0f\x2f\x011"].concat();
    say(
        &mut core,
        &frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 3, &again),
    )
    .unwrap();
    assert_eq!(core.next_request().unwrap().parts.headers.get("a").unwrap(), "1");
    // Without end.
    let mut core = begun();
    say(&mut core, &frame(frame::HEADERS, 0, 1, GET)).unwrap();
    let mut got = Ok(());
    for _ in 0..1000 {
        got = got.and_then(|()| say(&mut core, &frame(frame::CONTINUATION, 0, 1, b"\x00\x01a\x01b")));
    }
    assert_eq!(got.map_err(|fault| fault.offence), Err(Offence::Calm));
}

/// Frames that make sense more often than octets do.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        Just(GET.to_vec()),
        Just(POST.to_vec()),
        Just(b"\x00\x01a\x01b".to_vec()),
        Just(vec![0, 0, 0, 9]),
        Just(vec![0, 4, 0, 0, 1, 0]),
        Just(vec![0; 8]),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let kind = prop_oneof![0..10u8, Just(frame::HEADERS), Just(frame::DATA), any::<u8>()];
    let flags = prop_oneof![Just(0), Just(4), Just(5), Just(1), any::<u8>()];
    let one = (kind, flags, 0..10u32, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    prop::collection::vec(one, 0..40).prop_map(|frames| frames.concat())
}

/// Plays octets in pieces to a connection whose requests are answered as soon as they are there.
fn play(octets: &[u8], cuts: &[usize]) -> (Result<(), Fault>, Vec<String>, Vec<u8>) {
    let mut core = begun();
    let mut input = BytesMut::new();
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    let mut rest = octets;
    let mut cuts = cuts.iter().cycle();
    let now = Instant::now();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        input.extend_from_slice(piece);
        let done = core.receive(&mut input, now);
        assert!(core.is_sound());
        out.append(core.output());
        if done.is_err() {
            return (done, seen, out);
        }
        if rest.is_empty() {
            while let Some(asked) = core.next_request() {
                seen.push(format!(
                    "{:?} {:?} {} {}",
                    asked.key.id, asked.parts, asked.end, asked.too_large
                ));
            }
        }
    }
    (Ok(()), seen, out)
}

proptest! {
    #[test]
    fn however_it_is_cut_the_same_is_read(octets in frames(), cuts in prop::collection::vec(1..50usize, 1..20)) {
        prop_assert_eq!(play(&octets, &cuts), play(&octets, &[usize::MAX]));
    }

    /// Whatever comes, and whatever is done with the streams meanwhile, the counts are right and nothing fails.
    #[test]
    fn whatever_comes_the_counts_are_right(parts in prop::collection::vec((frames(), any::<u8>()), 1..12)) {
        let mut core = begun();
        let mut input = BytesMut::new();
        let mut keys: Vec<Key> = Vec::new();
        for (octets, deed) in parts {
            input.extend_from_slice(&octets);
            if core.receive(&mut input, Instant::now()).is_err() {
                break;
            }
            while let Some(asked) = core.next_request() {
                keys.push(asked.key);
            }
            if let Some(key) = keys.get(usize::from(deed) % keys.len().max(1)).copied() {
                let _ = core.poll_piece(&nobody(), key);
                match deed % 5 {
                    0 => { let _ = core.respond(key, StatusCode::OK, &Fields::new(), None, false); }
                    1 => { let _ = core.data(key, b"x", true); }
                    2 => core.reset(key, Reason::CANCEL),
                    3 => { let _ = core.poll_capacity(&nobody(), key); }
                    _ => {
                        core.release(key);
                        keys.retain(|other| *other != key);
                    }
                }
            }
            prop_assert!(core.is_sound());
        }
        core.lost();
        for key in keys {
            prop_assert!(core.poll_reset(&nobody(), key).is_ready());
            core.release(key);
        }
        prop_assert!(core.streams_are_empty());
    }
}

/// Answers every request with what it was: fields, body, trailers.
struct Echo {
    key: Key,
    fields: Option<Fields>,
    rest: Bytes,
    trailers: Option<Fields>,
    end: bool,
}

impl Echo {
    fn poll(&mut self, cx: &Context<'_>, core: &mut Connection) -> Poll<()> {
        if let Some(fields) = self.fields.take() {
            core.respond(self.key, StatusCode::ACCEPTED, &fields, None, false)
                .unwrap();
        }
        loop {
            while !self.rest.is_empty() {
                let Poll::Ready(capacity) = core.poll_capacity(cx, self.key) else {
                    return Poll::Pending;
                };
                let piece = self.rest.split_to(capacity.unwrap().min(self.rest.len()));
                core.data(self.key, &piece, false).unwrap();
            }
            if self.end {
                match self.trailers.take() {
                    Some(trailers) => core.trailers(self.key, &trailers).unwrap(),
                    None => core.data(self.key, b"", true).unwrap(),
                }
                core.release(self.key);
                return Poll::Ready(());
            }
            match core.poll_piece(cx, self.key) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => match piece.unwrap() {
                    Piece::Data(data) => self.rest = data,
                    Piece::Trailers(trailers) => (self.trailers, self.end) = (Some(trailers), true),
                    Piece::End => self.end = true,
                },
            }
        }
    }
}

/// Serves a connection until its client goes.
async fn serve(mut io: DuplexStream) {
    let mut core = Connection::new(Settings {
        max_streams: 100,
        header_list: 100_000,
        connection_window: 300_000,
        ..SETTINGS
    });
    let mut input = BytesMut::with_capacity(4096);
    let mut echoes: Vec<Echo> = Vec::new();
    poll_fn(|cx| {
        loop {
            let mut waits = true;
            let mut room = [0; 4096];
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(read) => {
                    read.unwrap();
                    waits = false;
                    input.extend_from_slice(buf.filled());
                    core.receive(&mut input, Instant::now()).unwrap();
                }
                Poll::Pending => {}
            }
            while let Some(asked) = core.next_request() {
                echoes.push(Echo {
                    key: asked.key,
                    fields: Some(asked.parts.headers),
                    rest: Bytes::new(),
                    trailers: None,
                    end: false,
                });
            }
            echoes.retain_mut(|echo| echo.poll(cx, &mut core).is_pending());
            while core.has_output() {
                let out = core.output();
                match Pin::new(&mut io).poll_write(cx, out) {
                    Poll::Ready(written) => {
                        let written = written.unwrap();
                        out.drain(..written);
                        core.drained();
                        waits = false;
                    }
                    Poll::Pending => break,
                }
            }
            if waits {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Requests of the `h2` crate, many at a time, come back as they were.
#[tokio::test]
async fn a_client_of_another_make() {
    let (ours, theirs) = duplex(10_000);
    let (sender, connection) = h2::client::handshake(theirs).await.unwrap();
    let requests = (0..60usize).map(|number| {
        let mut sender = sender.clone();
        async move {
            let mut request = Request::new(());
            *request.uri_mut() = format!("https://a.test/{number}?x").parse().unwrap();
            *request.method_mut() = Method::POST;
            for field in 0..number % 7 {
                let name = HeaderName::try_from(format!("x-{field}-{}", number % 3)).unwrap();
                let value = HeaderValue::try_from("v".repeat(number * field)).unwrap();
                request.headers_mut().append(name, value);
            }
            request.headers_mut().insert(
                http::HeaderName::from_static("server"),
                HeaderValue::from(number % 4),
            );
            let want = request.headers().clone();
            let (answer, mut stream) = sender.send_request(request, false).unwrap();
            let body: Bytes = (0..number * number * 97)
                .map(|octet| octet as u8)
                .collect::<Vec<u8>>()
                .into();
            let mut rest = body.clone();
            let sending = async move {
                while !rest.is_empty() {
                    stream.reserve_capacity(rest.len().min(20_000));
                    let count = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                    stream.send_data(rest.split_to(count), false).unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert(http::HeaderName::from_static("x-end"), HeaderValue::from(number));
                if number % 2 == 0 {
                    stream.send_trailers(trailers).unwrap();
                } else {
                    stream.send_data(Bytes::new(), true).unwrap();
                }
            };
            let receiving = async move {
                let answer = answer.await.unwrap();
                assert_eq!(answer.status(), StatusCode::ACCEPTED);
                assert_eq!(*answer.headers(), want, "{number}");
                let mut stream = answer.into_body();
                let mut got = BytesMut::new();
                while let Some(data) = stream.data().await {
                    let data = data.unwrap();
                    let _ = stream.flow_control().release_capacity(data.len());
                    got.extend_from_slice(&data);
                }
                let trailers = stream.trailers().await.unwrap();
                assert_eq!(
                    trailers.is_some_and(|trailers| trailers["x-end"] == number.to_string()),
                    number % 2 == 0
                );
                got
            };
            let ((), mut got) = tokio::join!(sending, receiving);
            assert_eq!(got.copy_to_bytes(got.len()), body, "{number}");
        }
    });
    let requests: Vec<_> = requests.collect();
    drop(sender);
    let (driven, (), _) = tokio::join!(connection, serve(ours), futures::future::join_all(requests));
    driven.unwrap();
}
