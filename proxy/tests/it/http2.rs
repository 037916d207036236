//! HTTP/2 as octets: what is a request, what is not, and what is an attack.

use std::time::Duration;

use sekisho_config::model::{Http, Timeouts};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PADDED, PING, POST, PRIORITY,
    PUSH_PROMISE, RST_STREAM, Raw, SETTINGS, Said, WINDOW_UPDATE, block, frame, get,
};
use crate::support::{Backend, HELLO, Plane, Then, quick};

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CANCEL: u32 = 8;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

async fn plane() -> (Plane, Backend) {
    plane_with(Http::default()).await
}

async fn plane_with(http: Http) -> (Plane, Backend) {
    let mut plane = Plane::start_with(quick(), http).await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    (plane, backend)
}

/// `GET` with other fields.
fn fields(with: &[(&str, &str)]) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &block(&[GET, with].concat()),
    )
}

/// Exactly these fields.
fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// `POST` with these fields and these pieces of a body; the last one ends the stream.
fn post(with: &[(&str, &str)], pieces: &[&str]) -> Vec<u8> {
    let mut octets = frame(HEADERS, END_HEADERS, 1, &block(&[POST, with].concat()));
    for (index, piece) in pieces.iter().enumerate() {
        let flags = if index + 1 == pieces.len() { END_STREAM } else { 0 };
        octets.extend(frame(DATA, flags, 1, piece.as_bytes()));
    }
    octets
}

/// What the client sends after its preface, and how it ends. Each case has a connection of its own.
async fn judge(cases: Vec<(&str, Vec<u8>, Said)>) {
    let (plane, backend) = plane().await;
    let mut wrong = Vec::new();
    let mut passed = 0;
    for (name, octets, want) in cases {
        let mut raw = Raw::begin(&plane).await;
        raw.send(&octets).await;
        let got = raw.verdict().await;
        passed += usize::from(matches!(got, Said::Status(_, 200)));
        // A fault of one stream may be treated as one of the connection (RFC 9113 section 5.4.2), and the parser has no word
        // of its own for faults of HPACK.
        let harsher = [
            (Said::Reset(1, PROTOCOL), Said::GoAway(PROTOCOL)),
            (Said::GoAway(COMPRESSION), Said::GoAway(PROTOCOL)),
        ];
        if got != want && !harsher.contains(&(want.clone(), got.clone())) {
            wrong.push(format!("{name}: {got:?} instead of {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What was refused has not reached a pod.
    assert_eq!(backend.seen().len(), passed, "{:?}", backend.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let ok = Said::Status(1, 200);
    let bad = Said::Status(1, 400);
    let malformed = Said::Reset(1, PROTOCOL);
    let long = "A".repeat(33);
    let method = |method| only(&[(":method", method), GET[1], GET[2], GET[3]]);
    judge(vec![
        ("plain", get(1), ok.clone()),
        ("method of 32 octets", method(&long[1..]), ok.clone()),
        ("method of 33 octets", method(&long), bad.clone()),
        ("upper case", fields(&[("X-a", "b")]), malformed.clone()),
        ("no method", only(&GET[1..]), malformed.clone()),
        ("no scheme", only(&[GET[0], GET[2], GET[3]]), malformed.clone()),
        ("no path", only(&GET[..3]), malformed.clone()),
        (
            "empty path",
            only(&[GET[0], GET[1], GET[2], (":path", "")]),
            malformed.clone(),
        ),
        (
            "path without slash",
            only(&[GET[0], GET[1], GET[2], (":path", "x")]),
            malformed.clone(),
        ),
        (
            "asterisk for GET",
            only(&[GET[0], GET[1], GET[2], (":path", "*")]),
            bad.clone(),
        ),
        ("two paths", fields(&[(":path", "/b")]), malformed.clone()),
        ("two methods", fields(&[(":method", "GET")]), malformed.clone()),
        (
            "pseudo field late",
            fields(&[("a", "b"), (":authority", "a.test")]),
            malformed.clone(),
        ),
        ("unknown pseudo field", fields(&[(":x", "b")]), malformed.clone()),
        (
            "status in a request",
            fields(&[(":status", "200")]),
            malformed.clone(),
        ),
        (
            "connection",
            fields(&[("connection", "close")]),
            malformed.clone(),
        ),
        ("keep-alive", fields(&[("keep-alive", "1")]), malformed.clone()),
        (
            "proxy-connection",
            fields(&[("proxy-connection", "x")]),
            malformed.clone(),
        ),
        (
            "transfer-encoding",
            fields(&[("transfer-encoding", "chunked")]),
            malformed.clone(),
        ),
        ("upgrade", fields(&[("upgrade", "websocket")]), malformed.clone()),
        ("te: gzip", fields(&[("te", "gzip")]), malformed.clone()),
        ("te: trailers", fields(&[("te", "trailers")]), ok.clone()),
        (
            "line end in a value",
            fields(&[("a", "b\r\nc: d")]),
            malformed.clone(),
        ),
        ("NUL in a value", fields(&[("a", "b\0c")]), malformed.clone()),
        ("blank before a value", fields(&[("a", " b")]), bad.clone()),
        ("blank behind a value", fields(&[("a", "b\t")]), bad.clone()),
        ("blank in a name", fields(&[("a b", "c")]), malformed.clone()),
        ("colon in a name", fields(&[("a:b", "c")]), malformed.clone()),
        ("empty name", fields(&[("", "c")]), malformed.clone()),
        ("the same host twice", fields(&[("host", "a.test")]), ok.clone()),
        ("another host", fields(&[("host", "b.test")]), bad.clone()),
        (
            "two hosts",
            fields(&[("host", "a.test"), ("host", "a.test")]),
            bad.clone(),
        ),
        (
            "host only",
            only(&[GET[0], GET[1], GET[3], ("host", "a.test")]),
            ok.clone(),
        ),
        ("no host", only(&[GET[0], GET[1], GET[3]]), bad.clone()),
        (
            "userinfo",
            only(&[GET[0], GET[1], (":authority", "u@a.test"), GET[3]]),
            bad.clone(),
        ),
        (
            "other scheme",
            only(&[GET[0], (":scheme", "ftp"), GET[2], GET[3]]),
            bad.clone(),
        ),
        (
            "CONNECT",
            only(&[(":method", "CONNECT"), (":authority", "a.test:443")]),
            Said::Status(1, 405),
        ),
        (
            "TRACE",
            only(&[(":method", "TRACE"), GET[1], GET[2], GET[3]]),
            Said::Status(1, 405),
        ),
        (
            "encoded slash",
            only(&[GET[0], GET[1], GET[2], (":path", "/a%2fb")]),
            bad.clone(),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    let ok = Said::Status(1, 200);
    let malformed = Said::Reset(1, PROTOCOL);
    let length = |length| [("content-length", length)];
    judge(vec![
        ("length", post(&length("5"), &["hel", "lo"]), ok.clone()),
        ("no length", post(&[], &["hel", "lo"]), ok.clone()),
        ("length without body", fields(&length("5")), malformed.clone()),
        ("too short", post(&length("6"), &["hello"]), malformed.clone()),
        ("too long", post(&length("4"), &["hello"]), malformed.clone()),
        ("no number", post(&length("x"), &["hello"]), malformed.clone()),
        ("signed", post(&length("+5"), &["hello"]), malformed.clone()),
        (
            "two lengths",
            post(&[("content-length", "5"), ("content-length", "5")], &["hello"]),
            Said::Status(1, 400),
        ),
        (
            "trailers",
            [
                frame(HEADERS, END_HEADERS, 1, &block(POST)),
                frame(DATA, 0, 1, b"hello"),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-sum", "1")])),
            ]
            .concat(),
            ok.clone(),
        ),
        (
            "trailers that do not end the stream",
            [
                frame(HEADERS, END_HEADERS, 1, &block(POST)),
                frame(HEADERS, END_HEADERS, 1, &block(&[("x-sum", "1")])),
            ]
            .concat(),
            malformed.clone(),
        ),
        (
            "padding",
            [
                frame(HEADERS, END_HEADERS, 1, &block(POST)),
                frame(DATA, END_STREAM | PADDED, 1, b"\x02hi\0\0"),
            ]
            .concat(),
            ok.clone(),
        ),
        (
            "more padding than frame",
            [
                frame(HEADERS, END_HEADERS, 1, &block(POST)),
                frame(DATA, END_STREAM | PADDED, 1, b"\x09hi"),
            ]
            .concat(),
            Said::GoAway(PROTOCOL),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames() {
    let go_away = Said::GoAway;
    let settings = |id: u16, value: u32| {
        frame(
            SETTINGS,
            0,
            0,
            &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat(),
        )
    };
    let window = |stream: u32, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    judge(vec![
        (
            "unknown type",
            [frame(0xbe, 0xff, 0, b"x"), get(1)].concat(),
            Said::Status(1, 200),
        ),
        (
            "unknown setting",
            [settings(0xbeef, 1), get(1)].concat(),
            Said::Status(1, 200),
        ),
        (
            "DATA on an idle stream",
            frame(DATA, 0, 1, b"x"),
            go_away(PROTOCOL),
        ),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), go_away(PROTOCOL)),
        (
            "HEADERS on stream 0",
            frame(HEADERS, END_HEADERS, 0, &block(GET)),
            go_away(PROTOCOL),
        ),
        ("even stream", get(2), go_away(PROTOCOL)),
        (
            "RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            go_away(PROTOCOL),
        ),
        (
            "RST_STREAM of 3 octets",
            frame(RST_STREAM, 0, 1, &[0; 3]),
            go_away(SIZE),
        ),
        ("window of an idle stream", window(1, 1), go_away(PROTOCOL)),
        ("window by 0", window(0, 0), go_away(PROTOCOL)),
        ("window too large", window(0, 0x7fff_ffff), go_away(FLOW)),
        (
            "window of 3 octets",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            go_away(SIZE),
        ),
        (
            "SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &[]),
            go_away(PROTOCOL),
        ),
        (
            "SETTINGS of 5 octets",
            frame(SETTINGS, 0, 0, &[0; 5]),
            go_away(SIZE),
        ),
        ("ACK with payload", frame(SETTINGS, 1, 0, &[0; 6]), go_away(SIZE)),
        ("ENABLE_PUSH 2", settings(2, 2), go_away(PROTOCOL)),
        (
            "INITIAL_WINDOW_SIZE too large",
            settings(4, 0x8000_0000),
            go_away(FLOW),
        ),
        ("MAX_FRAME_SIZE too small", settings(5, 100), go_away(PROTOCOL)),
        (
            "MAX_FRAME_SIZE too large",
            settings(5, 1 << 24),
            go_away(PROTOCOL),
        ),
        ("PING of 7 octets", frame(PING, 0, 0, &[0; 7]), go_away(SIZE)),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), go_away(PROTOCOL)),
        (
            "GOAWAY on a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            go_away(PROTOCOL),
        ),
        (
            "PUSH_PROMISE",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            go_away(PROTOCOL),
        ),
        (
            "CONTINUATION alone",
            frame(CONTINUATION, END_HEADERS, 1, &block(GET)),
            go_away(PROTOCOL),
        ),
        (
            "PING inside a header section",
            [
                frame(HEADERS, END_STREAM, 1, &block(GET)),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            go_away(PROTOCOL),
        ),
        (
            "CONTINUATION of another stream",
            [
                frame(HEADERS, END_STREAM, 1, &block(GET)),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat(),
            go_away(PROTOCOL),
        ),
        (
            "a header section in three frames",
            [
                frame(HEADERS, END_STREAM, 1, &block(GET)[..5]),
                frame(CONTINUATION, 0, 1, &block(GET)[5..20]),
                frame(CONTINUATION, END_HEADERS, 1, &block(GET)[20..]),
            ]
            .concat(),
            Said::Status(1, 200),
        ),
        (
            "a frame over 16 KiB",
            frame(DATA, 0, 1, &vec![0; 16385]),
            go_away(SIZE),
        ),
        (
            "no such index",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0x80, 0x80, 0x01]),
            go_away(COMPRESSION),
        ),
        (
            "index 0",
            frame(HEADERS, END_HEADERS, 1, &[0x80]),
            go_away(COMPRESSION),
        ),
        (
            "table too large",
            frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0x03]),
            go_away(COMPRESSION),
        ),
        (
            "half a field",
            frame(HEADERS, END_HEADERS, 1, &[0x00, 0x05, b'a']),
            go_away(COMPRESSION),
        ),
        (
            "a stream that depends on itself",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | 0x20,
                1,
                &[&[0, 0, 0, 1, 16][..], &block(GET)].concat(),
            ),
            Said::Reset(1, PROTOCOL),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_used_once_and_upwards() {
    let (plane, _backend) = plane().await;
    for (again, want) in [
        (get(1), [Said::GoAway(PROTOCOL), Said::GoAway(CLOSED)]),
        (
            frame(DATA, 0, 5, b"x"),
            [Said::Reset(5, CLOSED), Said::GoAway(CLOSED)],
        ),
        (get(3), [Said::GoAway(PROTOCOL), Said::GoAway(CLOSED)]),
    ] {
        let mut raw = Raw::begin(&plane).await;
        raw.send(&get(5)).await;
        raw.until(|said| matches!(said, Said::Data(5, _))).await;
        raw.send(&again).await;
        let got = raw
            .until(|said| matches!(said, Said::Reset(..) | Said::GoAway(_)))
            .await;
        assert!(want.contains(got.last().unwrap()), "{again:?}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_the_connection() {
    let (plane, backend) = plane_with(Http {
        max_control_frames: 500,
        max_resets: 50,
        ..Http::default()
    })
    .await;
    let open = || frame(HEADERS, END_HEADERS, 1, &block(POST));
    let mut wrong = Vec::new();
    for (name, before, again, count, metric) in [
        (
            "PING",
            vec![],
            frame(PING, 0, 0, &[0; 8]),
            1000,
            Some("control_flood"),
        ),
        (
            "SETTINGS",
            vec![],
            frame(SETTINGS, 0, 0, &[]),
            1000,
            Some("control_flood"),
        ),
        (
            "PRIORITY",
            vec![],
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
            1000,
            Some("control_flood"),
        ),
        (
            "unknown",
            vec![],
            frame(0xbe, 0, 0, &[]),
            1000,
            Some("control_flood"),
        ),
        ("empty DATA", open(), frame(DATA, 0, 1, &[]), 1000, None),
        (
            "CONTINUATION",
            frame(HEADERS, 0, 1, &block(GET)),
            frame(CONTINUATION, 0, 1, &block(&[("a", "b")])),
            20_000,
            None,
        ),
        (
            "empty CONTINUATION",
            frame(HEADERS, 0, 1, &block(GET)),
            frame(CONTINUATION, 0, 1, &[]),
            20_000,
            None,
        ),
    ] {
        let mut raw = Raw::begin(&plane).await;
        raw.send(&before).await;
        raw.send(&again.repeat(count)).await;
        let said = raw.until(|said| matches!(said, Said::GoAway(_))).await;
        // The client that still sends may see a reset instead of the last frame.
        if !matches!(said.last(), Some(Said::GoAway(CALM) | Said::Closed)) {
            wrong.push(format!("{name}: {:?}", said.last()));
        }
        if let Some(metric) = metric
            && plane.metric("sekisho_http2_closed_total", &[("reason", metric)]) < 1.0
        {
            wrong.push(format!("{name}: not counted as {metric}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The one that was begun does not look whole.
    let whole = |request: &String| request.ends_with("0\r\n\r\n");
    assert!(!backend.seen().iter().any(whole), "{:?}", backend.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once() {
    let (plane, _backend) = plane_with(Http {
        max_resets: 50,
        ..Http::default()
    })
    .await;
    // By the client; one after the other, so that each is accepted.
    let mut raw = Raw::begin(&plane).await;
    let mut last = Said::Ping;
    for id in (1..2000).step_by(2) {
        raw.send(
            &[
                get(id),
                frame(RST_STREAM, 0, id, &8u32.to_be_bytes()),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        )
        .await;
        let said = raw
            .until(|said| matches!(said, Said::Ping | Said::GoAway(_)))
            .await;
        last = said.last().unwrap().clone();
        if last != Said::Ping {
            break;
        }
    }
    assert!(matches!(last, Said::GoAway(CALM) | Said::Closed), "{last:?}");
    // All at once.
    let mut raw = Raw::begin(&plane).await;
    let all: Vec<u8> = (1..4000)
        .step_by(2)
        .flat_map(|id| [get(id), frame(RST_STREAM, 0, id, &8u32.to_be_bytes())].concat())
        .collect();
    raw.send(&all).await;
    let said = raw.until(|said| matches!(said, Said::GoAway(_))).await;
    assert!(
        matches!(said.last(), Some(Said::GoAway(CALM) | Said::Closed)),
        "{said:?}"
    );
    // By the box, because the client provokes it: each stream gets a window that is too large.
    let mut raw = Raw::begin(&plane).await;
    let all: Vec<u8> = (1..4000)
        .step_by(2)
        .flat_map(|id| {
            let open = frame(HEADERS, END_HEADERS, id, &block(POST));
            [open, frame(WINDOW_UPDATE, 0, id, &[0x7f, 0xff, 0xff, 0xff])].concat()
        })
        .collect();
    raw.send(&all).await;
    let said = raw.until(|said| matches!(said, Said::GoAway(_))).await;
    assert!(
        matches!(said.last(), Some(Said::GoAway(CALM) | Said::Closed)),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    let (plane, backend) = plane_with(Http {
        max_header_bytes: 8192,
        max_uri_bytes: 256,
        max_concurrent_streams: 3,
        max_requests_per_connection: 5,
        ..Http::default()
    })
    .await;
    for size in [8000, 9000, 30_000, 200_000] {
        let value = "x".repeat(size);
        let block = block(&[GET, &[("a", &value)]].concat());
        let mut raw = Raw::begin(&plane).await;
        let mut pieces = block.chunks(16_000).peekable();
        let mut octets = frame(
            HEADERS,
            END_STREAM | if block.len() > 16_000 { 0 } else { END_HEADERS },
            1,
            pieces.next().unwrap(),
        );
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            octets.extend(frame(CONTINUATION, flags, 1, piece));
        }
        raw.send(&octets).await;
        let got = raw.verdict().await;
        let want = match size {
            0..8192 => Said::Status(1, 200),
            8192..100_000 => Said::Status(1, 431),
            _ => Said::GoAway(CALM),
        };
        assert_eq!(got, want, "{size}");
    }
    assert_eq!(backend.seen().len(), 1);
    for (length, want) in [(256, 200), (257, 414)] {
        let path = format!("/{}", "x".repeat(length - 1));
        let mut raw = Raw::begin(&plane).await;
        raw.send(&only(&[GET[0], GET[1], GET[2], (":path", &path)])).await;
        assert_eq!(raw.verdict().await, Said::Status(1, want), "{length}");
    }
    // Streams at a time.
    let mut raw = Raw::begin(&plane).await;
    for id in [1, 3, 5, 7] {
        raw.send(&frame(HEADERS, END_HEADERS, id, &block(POST))).await;
    }
    assert_eq!(raw.verdict().await, Said::Reset(7, REFUSED));
    // Requests on a connection.
    let mut raw = Raw::begin(&plane).await;
    for id in [1, 3, 5, 7, 9] {
        raw.send(&get(id)).await;
        raw.until(|said| matches!(said, Said::Data(..))).await;
    }
    assert_eq!(raw.next().await, Said::GoAway(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_says_that_nothing_more_is_needed() {
    let (plane, _backend) = plane().await;
    let mut raw = Raw::begin(&plane).await;
    let mut fields = POST.to_vec();
    fields[3] = (":path", "/a%2f");
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    let said = raw.until(|said| matches!(said, Said::Reset(..))).await;
    assert_eq!(
        (said.first(), said.last()),
        (Some(&Said::Status(1, 400)), Some(&Said::Reset(1, 0)))
    );
    raw.send(&get(3)).await;
    assert_eq!(raw.verdict().await, Said::Status(3, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_window_holds_the_answer_back() {
    let (plane, _backend) = plane().await;
    let mut raw = Raw::silent(&plane).await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 2])).await;
    raw.send(&get(1)).await;
    assert_eq!(raw.next().await, Said::Status(1, 200));
    assert_eq!(raw.next().await, Said::Data(1, "he".into()));
    assert!(raw.is_quiet().await);
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &3u32.to_be_bytes())).await;
    assert_eq!(raw.next().await, Said::Data(1, "llo".into()));
}

/// A stream whose window stays shut ends, whatever the others of the connection do.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_stays_shut_ends_its_stream_alone() {
    let timeouts = Timeouts {
        response_write: Duration::from_millis(500),
        ..quick()
    };
    let mut plane = Plane::start_with(timeouts, Http::default()).await;
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\nabcdefghijklmnopqrstuv";
    let backend = Backend::start(move |_, _| (long.to_owned(), Then::Keep)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::silent(&plane).await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 2])).await;
    raw.send(&[get(1), get(3)].concat()).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.send(&frame(WINDOW_UPDATE, 0, 3, &1u32.to_be_bytes())).await;
    }
    raw.send(&frame(PING, 0, 0, &[0; 8])).await;
    let said = raw.until(|said| *said == Said::Ping).await;
    assert!(said.contains(&Said::Reset(1, CANCEL)), "{said:?}");
    let got: String = said
        .iter()
        .filter_map(|said| match said {
            Said::Data(3, data) => Some(&**data),
            _ => None,
        })
        .collect();
    assert_eq!(got, "abcdefghijklmnopqrstuv");
    let lines = plane.finish().await;
    let broken = lines.iter().find(|line| line.get("ended_by").is_some()).unwrap();
    assert_eq!(
        (&broken["ended_by"], &broken["ended_in"]),
        (&"client".into(), &"response".into())
    );
}

/// What pods do not read shuts the connection for all its streams; whoever may not send is not slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_not_send_is_waited_for() {
    const STUCK: u32 = 16;
    const LAST: u32 = 2 * STUCK + 1;
    let timeouts = Timeouts {
        connect: Duration::from_secs(2),
        request_body: Duration::from_millis(300),
        ..quick()
    };
    let mut plane = Plane::start_with(timeouts, Http::default()).await;
    // Its queue is full: who connects is not answered.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    plane.host("b.test", &[address]);
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::begin(&plane).await;
    let stuck: Vec<_> = POST
        .iter()
        .map(|(name, value)| (*name, if *name == ":authority" { "b.test" } else { value }))
        .collect();
    let piece = [b'x'; 16 * 1024];
    for stream in (0..STUCK).map(|number| 2 * number + 1) {
        raw.send(&frame(HEADERS, END_HEADERS, stream, &block(&stuck)))
            .await;
        for _ in 0..4 {
            raw.send(&frame(DATA, 0, stream, &piece)).await;
        }
    }
    // The window of the connection, 1 MiB, is used up.
    raw.send(&frame(HEADERS, END_HEADERS, LAST, &block(POST))).await;
    let said = raw.until(|said| matches!(said, Said::Status(1, 504))).await;
    assert!(
        !said.iter().any(|said| matches!(said, Said::Status(LAST, _))),
        "{said:?}"
    );
    raw.until(|said| matches!(said, Said::Status(stream, _) if *stream == LAST - 2))
        .await;
    raw.send(&frame(DATA, END_STREAM, LAST, b"hi")).await;
    let said = raw.until(|said| matches!(said, Said::Status(LAST, _))).await;
    assert_eq!(said.last(), Some(&Said::Status(LAST, 200)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_reset() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, _| {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_owned();
        (half, Then::Close)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::begin(&plane).await;
    raw.send(&get(1)).await;
    let said = raw
        .until(|said| matches!(said, Said::Reset(..) | Said::End(_)))
        .await;
    assert_eq!(said.last(), Some(&Said::Reset(1, 2)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_passed_on() {
    let mut plane = Plane::start().await;
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    let backend = Backend::start(move |_, _| (format!("{hint}{HELLO}"), Then::Keep)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::begin(&plane).await;
    let expecting = block(&[POST, &[("expect", "100-continue"), ("content-length", "2")]].concat());
    raw.send(&frame(HEADERS, END_HEADERS, 1, &expecting)).await;
    assert_eq!(raw.next().await, Said::Status(1, 100));
    raw.send(&frame(DATA, END_STREAM, 1, b"hi")).await;
    assert_eq!(raw.next().await, Said::Status(1, 103));
    assert_eq!(raw.next().await, Said::Status(1, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let mut plane = Plane::start().await;
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nte: gzip\r\n\r\n5\r\nhello\r\n0\r\nx-end: 1\r\nconnection: close\r\ncontent-length: 9\r\n\r\n";
    let backend = Backend::start(move |_, _| (answer.to_owned(), Then::Close)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::begin(&plane).await;
    raw.send(
        &[
            frame(HEADERS, END_HEADERS, 1, &block(POST)),
            frame(DATA, 0, 1, b"hi"),
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &block(&[
                    ("x-sum", "1"),
                    ("x-forwarded-for", "6.6.6.6"),
                    ("x_real_ip", "6.6.6.6"),
                    ("host", "b.test"),
                ]),
            ),
        ]
        .concat(),
    )
    .await;
    let said = raw.until(|said| matches!(said, Said::Trailers(_))).await;
    let request = &backend.seen()[0];
    assert!(request.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{request}");
    assert_eq!(
        said,
        [
            Said::Status(1, 200),
            Said::Data(1, "hello".into()),
            Said::Trailers(1)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_to_its_end_in_time() {
    const SHORT: Duration = Duration::from_millis(200);
    let timeouts = Timeouts {
        request_header: SHORT,
        request_body: SHORT,
        ..quick()
    };
    let mut plane = Plane::start_with(timeouts, Http::default()).await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    // A header section, although another stream is busy.
    let mut raw = Raw::begin(&plane).await;
    raw.send(&frame(
        HEADERS,
        END_HEADERS,
        1,
        &block(&[POST, &[("content-length", "9")]].concat()),
    ))
    .await;
    raw.send(&frame(HEADERS, END_STREAM, 3, &block(GET))).await;
    let said = raw.until(|said| matches!(said, Said::GoAway(_))).await;
    assert_eq!(said.last(), Some(&Said::GoAway(0)), "{said:?}");
    // A body.
    let mut raw = Raw::begin(&plane).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(POST))).await;
    raw.send(&frame(DATA, 0, 1, b"x")).await;
    assert_eq!(raw.verdict().await, Said::Status(1, 408));
    // A preface, and whatever is to follow it.
    let mut raw = Raw::silent(&plane).await;
    raw.send(b"PRI * HTTP/2.0\r\n").await;
    let said = raw.until(|_| false).await;
    assert_eq!(said.last(), Some(&Said::Closed));
    let mut raw = Raw::begin(&plane).await;
    let said = raw.until(|said| matches!(said, Said::GoAway(_))).await;
    assert_eq!(said.last(), Some(&Said::GoAway(0)), "{said:?}");
}

/// Prior knowledge (RFC 9113 section 3.3).
#[tokio::test(flavor = "multi_thread")]
async fn in_the_clear_for_who_knows_it() {
    let (plane, backend) = plane().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let begin = [&preface[..], &frame(SETTINGS, 0, 0, &[]), &get(1)].concat();
    // However it is cut into pieces.
    for at in [
        1,
        3,
        15,
        16,
        17,
        18,
        preface.len(),
        preface.len() + 5,
        begin.len(),
    ] {
        let mut raw = Raw::clear(&plane).await;
        let (first, rest) = begin.split_at(at);
        raw.send(first).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        raw.send(rest).await;
        assert_eq!(raw.verdict().await, Said::Status(1, 200), "cut at {at}");
        raw.send(&get(3)).await;
        raw.until(|said| matches!(said, Said::Status(3, 200))).await;
    }
    let asked = backend.seen().pop().unwrap();
    assert!(asked.contains("x-forwarded-proto: http\r\n"), "{asked}");
    // Only as the first that is said, and only whole.
    for (octets, want) in [
        (
            &b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            "505",
        ),
        (b"PRI * HTTP/2.1\r\n\r\n", "505"),
        (b"PRI / HTTP/2.0\r\n\r\n", "505"),
    ] {
        let answer = plane.raw(octets).await;
        assert!(answer.contains(&format!("HTTP/1.1 {want} ")), "{answer}");
    }
    let mut raw = Raw::clear(&plane).await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert_eq!(raw.verdict().await, Said::GoAway(PROTOCOL));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http2_is_closed() {
    let (plane, _backend) = plane().await;
    for octets in [
        &b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut raw = Raw::silent(&plane).await;
        raw.send(octets).await;
        let said = raw.until(|_| false).await;
        assert!(
            !said.iter().any(|said| matches!(said, Said::Status(..))),
            "{said:?}"
        );
    }
}

/// The answer to an upgrade request as RFC 6455 has it.
fn accept_of(request: &str) -> String {
    use base64::Engine;
    let key = request.split("sec-websocket-key: ").nth(1).unwrap();
    let text = format!(
        "{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
        key.split("\r\n").next().unwrap()
    );
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

pub(crate) fn switching(request: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
        accept_of(request)
    )
}

pub(crate) const CONNECT: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "a.test"),
    (":path", "/chat"),
    ("sec-websocket-protocol", "chat"),
];

#[tokio::test(flavor = "multi_thread")]
async fn websocket_is_an_upgrade_behind() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, request| (switching(request), Then::Echo)).await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::begin(&plane).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(CONNECT))).await;
    assert_eq!(raw.next().await, Said::Status(1, 200));
    for text in ["hello", "again"] {
        raw.send(&frame(DATA, 0, 1, text.as_bytes())).await;
        assert_eq!(raw.next().await, Said::Data(1, text.into()));
    }
    // Other streams of the connection are served meanwhile, and each direction has its own end.
    raw.send(&frame(DATA, END_STREAM, 1, b"bye")).await;
    assert_eq!(raw.next().await, Said::Data(1, "bye".into()));
    assert_eq!(raw.next().await, Said::End(1));
    let request = backend.seen()[0].to_ascii_lowercase();
    assert!(request.starts_with("get /chat http/1.1\r\n"), "{request}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
        "host: a.test",
        "x-forwarded-proto: https",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_of_websocket_are_passed_on() {
    let mut plane = Plane::start().await;
    let mut backend = Backend::start(|number, request| {
        let then = if number == 0 { Then::Hang } else { Then::Reset };
        (switching(request), then)
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut raw = Raw::begin(&plane).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(CONNECT))).await;
    assert_eq!(raw.next().await, Said::Status(1, 200));
    raw.send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
    crate::support::soon("the end of the endpoint's connection", backend.closed.recv()).await;
    raw.send(&frame(HEADERS, END_HEADERS, 3, &block(CONNECT))).await;
    let said = raw.until(|said| matches!(said, Said::Reset(..))).await;
    assert_eq!(said.last(), Some(&Said::Reset(3, 8)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_change_to_websocket_does_not_look_so() {
    let mut plane = Plane::start().await;
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
    for status in [502, 502, 403] {
        let mut raw = Raw::begin(&plane).await;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block(CONNECT))).await;
        assert_eq!(raw.verdict().await, Said::Status(1, status));
    }
    // Protocols that nobody knows are a CONNECT like any other.
    let mut raw = Raw::begin(&plane).await;
    let mut fields = CONNECT.to_vec();
    fields[1] = (":protocol", "connect-udp");
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    assert_eq!(raw.verdict().await, Said::Status(1, 405));
}

/// An extended CONNECT has no content, whatever it says: to an endpoint the next request on the connection would be it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_announces_a_body_swallows_no_other_request() {
    let (plane, backend) = plane().await;
    let mut raw = Raw::begin(&plane).await;
    let fields = [CONNECT, &[("content-length", "60")]].concat();
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    assert_eq!(raw.next().await, Said::Status(1, 502));
    raw.send(&get(3)).await;
    let said = raw.until(|said| matches!(said, Said::Status(3, _))).await;
    assert_eq!(said.last(), Some(&Said::Status(3, 200)));
    let seen = backend.seen();
    assert!(
        seen[0].starts_with("GET /chat ") && !seen[0].contains("content-length"),
        "{seen:?}"
    );
    assert!(seen[1].starts_with("GET / "), "{seen:?}");
}
