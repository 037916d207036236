//! What HTTP/2 can carry and HTTP/1.1 can not, or in another way: what the endpoint gets of it in HTTP/1.1.

use std::time::Duration;

use super::{Recorder, octets, plane, shown};
use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, Said, frame};
use crate::support::{Plane, soon};

/// Octets as HPACK literals that are not indexed and not compressed.
fn literal(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(text);
}

/// Lines of `name=value` as a header block; `\r\n` cannot be a line's end here, so `|` stands between them.
fn block(lines: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for line in lines.split('|').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        block.push(0);
        literal(&mut block, &octets(name));
        literal(&mut block, &octets(value));
    }
    block
}

/// A request of the tables: `GET`, `POST` (four pseudo-header fields) or `-` (none), then fields; behind `||` pieces of the
/// body, one a frame; behind another `||` trailers. A piece `-` alone: no frame ends the stream.
fn request(text: &str) -> Vec<u8> {
    let mut parts = text.split("||");
    let head = parts.next().unwrap();
    let (kind, fields) = head.split_once('|').unwrap_or((head, ""));
    let fields = match kind {
        "-" => fields.to_owned(),
        method => format!(":method={method}|:scheme=https|:authority=a.test|:path=/|{fields}"),
    };
    let pieces: Vec<&str> = parts
        .next()
        .map_or_else(Vec::new, |body| body.split('|').collect());
    let trailers = parts.next();
    let end = |last: bool| if last { END_STREAM } else { 0 };
    let mut out = frame(HEADERS, END_HEADERS | end(pieces.is_empty()), 1, &block(&fields));
    for (index, piece) in pieces.iter().enumerate() {
        let last = index + 1 == pieces.len() && trailers.is_none();
        out.extend(frame(DATA, end(last), 1, &octets(piece)));
    }
    if let Some(trailers) = trailers {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    out
}

/// Sends each request on a connection of its own and another one behind it. What is wanted is a status of the box's own,
/// `reset` (RFC 9113 section 8.1.1: the stream ends with an error, or the connection does), or what the endpoint gets.
async fn judge(plane: &Plane, recorder: &Recorder, cases: &[(&str, &str)]) {
    let probe = "GET /probe HTTP/1.1|host: a.test||";
    let mut wrong = Vec::new();
    for (sent, want) in cases {
        let mut raw = Raw::begin(plane).await;
        raw.send(&request(sent)).await;
        let verdict = raw.verdict().await;
        let goes_on = !matches!(verdict, Said::GoAway(_) | Said::Closed);
        if goes_on {
            let probe = ":method=GET|:scheme=https|:authority=a.test|:path=/probe|";
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(probe)))
                .await;
            let said = raw
                .until(|said| matches!(said, Said::Status(3, 200..) | Said::GoAway(_)))
                .await;
            if said.last() != Some(&Said::Status(3, 200)) {
                wrong.push(format!("{sent:?}: the probe: {said:?}"));
            }
        }
        // A request may have been begun and then reset.
        let got = recorder.take();
        let got: Vec<&str> = got
            .iter()
            .map(String::as_str)
            .filter(|got| *got != probe)
            .collect();
        let fine = match (&verdict, *want) {
            (Said::Reset(1, code) | Said::GoAway(code), "reset") => {
                *code == 1 && got.iter().all(|got| got.starts_with("cut: "))
            }
            (Said::Status(1, status), want) if want.parse() == Ok(*status) => got.is_empty(),
            (Said::Status(1, 200), want) => got == [want],
            _ => false,
        };
        if !fine {
            wrong.push(format!(
                "{sent:?}\n   wanted {want:?}\n   got    {verdict:?} {got:#?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

const PLAIN: &str = "GET / HTTP/1.1|host: a.test||";

#[tokio::test(flavor = "multi_thread")]
async fn fields() {
    let (plane, recorder) = plane().await;
    judge(
        &plane,
        &recorder,
        &[
            ("GET", PLAIN),
            ("GET|x=y", "GET / HTTP/1.1|host: a.test|x: y||"),
            ("GET|x=", "GET / HTTP/1.1|host: a.test|x: ||"),
            ("GET|x=é«ff»", "GET / HTTP/1.1|host: a.test|x: é«ff»||"),
            ("GET|x=a|x=b", "GET / HTTP/1.1|host: a.test|x: a|x: b||"),
            (
                "GET|cookie=a|cookie=b",
                "GET / HTTP/1.1|cookie: a; b|host: a.test||",
            ),
            ("GET|x_y=z|content_length=3", PLAIN),
            ("GET|proxy=x|x-original-url=/admin|x-rewrite-url=/admin", PLAIN),
            (
                "GET|x-forwarded-for=6.6.6.6|x-real-ip=6.6.6.6|forwarded=for=6.6.6.6",
                PLAIN,
            ),
            ("GET|te=trailers", "GET / HTTP/1.1|host: a.test|te: trailers||"),
            ("GET|http2-settings=AAMAAABk", PLAIN),
            (
                "GET|max-forwards=0",
                "GET / HTTP/1.1|host: a.test|max-forwards: 0||",
            ),
            // Lines.
            ("GET|x=a«0d»«0a»y: b", "reset"),
            ("GET|x=a«0d»«0a»«0d»«0a»GET /smuggled HTTP/1.1", "reset"),
            ("GET|x=a«0a»y: b", "reset"),
            ("GET|x=a«0d»y: b", "reset"),
            ("GET|x=a«00»b", "reset"),
            ("GET|x=«0d»«0a»", "reset"),
            ("GET|x=a«0d»«0a»", "reset"),
            ("GET|x=a«0a»transfer-encoding: chunked", "reset"),
            ("GET|x=a\x01b", "reset"),
            ("GET|x=a\x7fb", "reset"),
            ("GET|x= a", "400"),
            ("GET|x=a ", "400"),
            ("GET|x=\ta", "400"),
            ("GET|x=a\t", "400"),
            ("GET|x= ", "400"),
            // Names.
            ("GET|X=y", "reset"),
            ("GET|xY=z", "reset"),
            ("GET|=y", "reset"),
            ("GET|x y=z", "reset"),
            ("GET|x =z", "reset"),
            ("GET| x=z", "reset"),
            ("GET|x:=z", "reset"),
            ("GET|x: y«0d»«0a»z=a", "reset"),
            ("GET|x«0d»«0a»=a", "reset"),
            ("GET|x«0a»=a", "reset"),
            ("GET|x«00»=a", "reset"),
            ("GET|x«80»=a", "reset"),
            ("GET|é=a", "reset"),
            ("GET|x(=a", "reset"),
            ("GET|x\"=a", "400"),
            ("GET|transfer-encoding: chunked«0d»«0a»x=a", "reset"),
            ("GET|transfer-encoding =chunked", "reset"),
            ("GET|content-length =3", "reset"),
            // Of a connection.
            ("GET|connection=close", "reset"),
            ("GET|connection=", "reset"),
            ("GET|connection=x-forwarded-for", "reset"),
            ("GET|keep-alive=5", "reset"),
            ("GET|proxy-connection=close", "reset"),
            ("GET|transfer-encoding=chunked", "reset"),
            ("POST|transfer-encoding=chunked||0«0d»«0a»«0d»«0a»", "reset"),
            ("GET|transfer-encoding=identity", "reset"),
            ("GET|upgrade=h2c", "reset"),
            ("GET|upgrade=websocket", "reset"),
            ("GET|te=gzip", "reset"),
            ("GET|te=trailers, gzip", "reset"),
            ("GET|te=chunked", "reset"),
            ("GET|te=", "reset"),
            ("GET|expect=y", "417"),
            ("GET|expect=100-continue", PLAIN),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pseudo_header_fields() {
    let (plane, recorder) = plane().await;
    judge(
        &plane,
        &recorder,
        &[
            // Missing, doubled, unknown, late.
            ("-|:scheme=https|:authority=a.test|:path=/", "reset"),
            ("-|:method=GET|:authority=a.test|:path=/", "reset"),
            ("-|:method=GET|:scheme=https|:authority=a.test", "reset"),
            ("-|:method=GET|:scheme=https|:path=/", "400"),
            ("-|:method=GET|:scheme=https|:path=/|host=a.test", PLAIN),
            ("-|:path=/|:authority=a.test|:scheme=https|:method=GET", PLAIN),
            ("GET|:method=GET", "reset"),
            ("GET|:path=/", "reset"),
            ("GET|:path=/admin", "reset"),
            ("GET|:scheme=https", "reset"),
            ("GET|:authority=a.test", "reset"),
            ("GET|:authority=b.test", "reset"),
            ("GET|x=y|:path=/", "reset"),
            (
                "-|:method=GET|:scheme=https|:path=/|x=y|:authority=a.test",
                "reset",
            ),
            ("GET|:x=y", "reset"),
            ("GET|:=y", "reset"),
            ("GET|:status=200", "reset"),
            ("GET|:host=a.test", "reset"),
            ("GET|:protocol=websocket", "reset"),
            ("GET|:PATH=/", "reset"),
            // Methods.
            (
                "-|:method=get|:scheme=https|:authority=a.test|:path=/",
                "get / HTTP/1.1|host: a.test||",
            ),
            ("-|:method=|:scheme=https|:authority=a.test|:path=/", "reset"),
            ("-|:method=GET |:scheme=https|:authority=a.test|:path=/", "reset"),
            (
                "-|:method=GET / HTTP/1.1«0d»«0a»x:|:scheme=https|:authority=a.test|:path=/",
                "reset",
            ),
            (
                "-|:method=GET /admin HTTP/1.1|:scheme=https|:authority=a.test|:path=/",
                "reset",
            ),
            (
                "-|:method=GET«0d»«0a»|:scheme=https|:authority=a.test|:path=/",
                "reset",
            ),
            (
                "-|:method=G«00»T|:scheme=https|:authority=a.test|:path=/",
                "reset",
            ),
            ("-|:method=TRACE|:scheme=https|:authority=a.test|:path=/", "405"),
            ("-|:method=CONNECT|:authority=a.test:443", "405"),
            (
                "-|:method=CONNECT|:scheme=https|:authority=a.test|:path=/",
                "reset",
            ),
            ("-|:method=CONNECT|:authority=a.test|:path=/", "reset"),
            (
                "-|:method=CONNECT|:scheme=https|:authority=a.test|:path=/|:protocol=x",
                "405",
            ),
            ("-|:method=CONNECT|:authority=a.test|:protocol=websocket", "reset"),
            // Schemes.
            ("-|:method=GET|:scheme=http|:authority=a.test|:path=/", PLAIN),
            ("-|:method=GET|:scheme=HTTPS|:authority=a.test|:path=/", PLAIN),
            ("-|:method=GET|:scheme=|:authority=a.test|:path=/", "400"),
            ("-|:method=GET|:scheme=ftp|:authority=a.test|:path=/", "400"),
            ("-|:method=GET|:scheme=x y|:authority=a.test|:path=/", "reset"),
            (
                "-|:method=GET|:scheme=http://b.test/?|:authority=a.test|:path=/",
                "reset",
            ),
            (
                "-|:method=GET|:scheme=https«0d»«0a»x: y|:authority=a.test|:path=/",
                "reset",
            ),
            // Authorities.
            (
                "-|:method=GET|:scheme=https|:authority=A.test:8443|:path=/",
                "GET / HTTP/1.1|host: A.test:8443||",
            ),
            (
                "-|:method=GET|:scheme=https|:authority=nobody.test|:path=/",
                "404",
            ),
            ("-|:method=GET|:scheme=https|:authority=u@a.test|:path=/", "400"),
            ("-|:method=GET|:scheme=https|:authority=u:p@a.test|:path=/", "400"),
            ("-|:method=GET|:scheme=https|:authority=a.test/x|:path=/", "reset"),
            ("-|:method=GET|:scheme=https|:authority=a.test?x|:path=/", "reset"),
            ("-|:method=GET|:scheme=https|:authority=a.test#x|:path=/", "reset"),
            ("-|:method=GET|:scheme=https|:authority=a.test b|:path=/", "reset"),
            (
                "-|:method=GET|:scheme=https|:authority=a.test«0d»«0a»x: y|:path=/",
                "reset",
            ),
            (
                "-|:method=GET|:scheme=https|:authority=a.test«00»|:path=/",
                "reset",
            ),
            (
                "-|:method=GET|:scheme=https|:authority=a.test:99999|:path=/",
                "400",
            ),
            ("-|:method=GET|:scheme=https|:authority=a..test|:path=/", "400"),
            (
                "-|:method=GET|:scheme=https|:authority=a.test,b.test|:path=/",
                "400",
            ),
            ("GET|host=a.test", PLAIN),
            ("GET|host=A.TEST", "GET / HTTP/1.1|host: A.TEST||"),
            ("GET|host=b.test", "400"),
            ("GET|host=", "400"),
            ("GET|host=a.test:443", "400"),
            ("GET|host=a.test|host=a.test", "400"),
            ("GET|host=a.test|host=b.test", "400"),
            (
                "-|:method=GET|:scheme=https|:path=/|host=a.test|host=b.test",
                "400",
            ),
            ("-|:method=GET|:scheme=https|:path=/|host=u@a.test", "400"),
            ("-|:method=GET|:scheme=https|:path=/|host=a.test/x", "400"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths() {
    let (plane, recorder) = plane().await;
    let cases: Vec<(String, &str)> = [
        ("/x/../y//z?a=/../b", "GET /y/z?a=/../b HTTP/1.1|host: a.test||"),
        ("/%61", "GET /a HTTP/1.1|host: a.test||"),
        ("//b.test/x", "GET /b.test/x HTTP/1.1|host: a.test||"),
        ("/?", "GET /? HTTP/1.1|host: a.test||"),
        ("/a%0d%0ab", "GET /a%0D%0Ab HTTP/1.1|host: a.test||"),
        ("", "reset"),
        ("x", "reset"),
        ("?x", "400"),
        ("*", "400"),
        ("http://a.test/", "reset"),
        ("https://b.test/admin", "reset"),
        ("a.test/x", "reset"),
        ("\\x", "reset"),
        ("/a b", "reset"),
        ("/ HTTP/1.1«0d»«0a»x: y", "reset"),
        ("/«0d»«0a»x: y", "reset"),
        ("/a«0a»", "reset"),
        ("/a«0d»", "reset"),
        ("/a\t", "reset"),
        ("/a«00»", "reset"),
        ("/a\x7f", "reset"),
        ("/?a b", "reset"),
        ("/?a«0d»«0a»x: y", "reset"),
        ("/a%2fb", "400"),
        ("/a%5cb", "400"),
        ("/a\\b", "400"),
        ("/a%00", "400"),
        ("/..;/b", "400"),
        ("/%c0%ae", "400"),
        ("/%zz", "400"),
    ]
    .map(|(path, want)| {
        (
            format!("-|:method=GET|:scheme=https|:authority=a.test|:path={path}"),
            want,
        )
    })
    .into();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(sent, want)| (&**sent, *want)).collect();
    judge(&plane, &recorder, &cases).await;
    judge(
        &plane,
        &recorder,
        &[
            (
                "-|:method=OPTIONS|:scheme=https|:authority=a.test|:path=*",
                "OPTIONS * HTTP/1.1|host: a.test||",
            ),
            (
                "-|:method=OPTIONS|:scheme=https|:authority=a.test|:path=/|max-forwards=0",
                "200",
            ),
            (
                "-|:method=OPTIONS|:scheme=https|:authority=a.test|:path=/|max-forwards=2",
                "OPTIONS / HTTP/1.1|host: a.test|max-forwards: 1||",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    const CHUNKED: &str = "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc";
    let (plane, recorder) = plane().await;
    judge(
        &plane,
        &recorder,
        &[
            ("POST", "POST / HTTP/1.1|content-length: 0|host: a.test||"),
            ("POST||abc", CHUNKED),
            ("POST||a|b|c", CHUNKED),
            ("POST||a||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||a"),
            ("GET||abc", "GET / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc"),
            ("POST|content-length=3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
            ("POST|content-length=003||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
            ("GET|content-length=0", "GET / HTTP/1.1|content-length: 0|host: a.test||"),
            // A body that looks like framing stays a body.
            ("POST||0«0d»«0a»«0d»«0a»GET /smuggled HTTP/1.1«0d»«0a»host: a.test«0d»«0a»«0d»«0a»", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||0||GET /smuggled HTTP/1.1|host: a.test||"),
            ("POST|content-length=5||0«0d»«0a»«0d»«0a»", "POST / HTTP/1.1|content-length: 5|host: a.test||0||"),
            // Lengths that lie.
            ("POST|content-length=0||abc", "reset"),
            ("POST|content-length=2||abc", "reset"),
            ("POST|content-length=4||abc", "reset"),
            ("POST|content-length=3", "reset"),
            ("GET|content-length=3", "reset"),
            ("POST|content-length=2||a|b|c", "reset"),
            ("POST|content-length=3||ab||x=y", "reset"),
            ("POST|content-length=x||abc", "reset"),
            ("POST|content-length=||abc", "reset"),
            ("POST|content-length=-3||abc", "reset"),
            ("POST|content-length=3,3||abc", "reset"),
            ("POST|content-length=3 ||abc", "reset"),
            ("POST|content-length=3|content-length=3||abc", "400"),
            ("POST|content-length=3|content-length=4||abc", "reset"),
            ("POST|content-length=18446744073709551619||abc", "reset"),
            // Trailers.
            ("POST||abc||x-sum=1", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc|x-sum: 1"),
            ("POST||abc||host=b.test|content-length=9|authorization=x|cookie=y|x-forwarded-for=z|x_y=z|expect=x|te=trailers|trailer=x", CHUNKED),
            ("POST||abc||X=y", "reset"),
            ("POST||abc||x=a«0d»«0a»y: b", "reset"),
            ("POST||abc||x y=a", "reset"),
            ("POST||abc||x\"=a", CHUNKED),
            ("POST||abc||transfer-encoding=chunked", "reset"),
            ("POST||abc||connection=close", "reset"),
        ],
    )
    .await;
    drop(plane);
}

/// A stream that is reset in the middle of its body is no whole request, whatever its framing.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_request_does_not_look_whole() {
    let (plane, recorder) = plane().await;
    for fields in ["", "content-length=6|"] {
        let mut raw = Raw::begin(&plane).await;
        let head = format!(":method=POST|:scheme=https|:authority=a.test|:path=/|{fields}");
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&head))).await;
        raw.send(&frame(DATA, 0, 1, b"abc")).await;
        soon("the connection to the endpoint", async {
            while plane.metric("sekisho_http_requests_in_flight", &[]) < 0.5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        raw.send(&frame(crate::frames::RST_STREAM, 0, 1, &[0, 0, 0, 8]))
            .await;
        let got = soon("the end at the endpoint", async {
            loop {
                let got = recorder.take();
                if !got.is_empty() {
                    return got;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert!(
            got.len() == 1
                && got[0].starts_with("cut: POST / ")
                && got[0].contains("abc")
                && !got[0].contains("|0||"),
            "{got:?}"
        );
    }
    assert_eq!(shown(b"a\r\n"), "a|");
}
