//! What endpoints send, and what the client gets of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Got, PROBE, PROBED, drain, octets, read, shown};
use crate::support::{Plane, quick, soon};

/// What an endpoint does behind its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    Keep,
    Fin,
    Rst,
}
use Then::{Fin, Keep, Rst};

/// Request, answer, what follows; what the client gets: one or more messages, behind which the answer to the probe comes;
/// or with a final `^` it does not, since the connection is closed, or `✂`: the connection ends where nobody can take what
/// came for whole.
type Case = (&'static str, &'static str, Then, &'static str);

/// An endpoint that answers the request `/n` with the answer of the n-th case, and `/probe` always.
async fn endpoint(cases: &'static [Case]) -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            serving.spawn(serve(stream, cases));
        }
    });
    (address, tasks)
}

async fn serve(mut stream: TcpStream, cases: &'static [Case]) {
    let mut buffer = Vec::new();
    loop {
        while let Got::Message(message, length) = read(&buffer, false, false) {
            buffer.drain(..length);
            let path = message.line.split(' ').nth(1).unwrap();
            let case = path[1..]
                .parse::<usize>()
                .ok()
                .and_then(|number| cases.get(number));
            let (answer, then) = case.map_or((PROBED, Keep), |(_, answer, then, _)| (*answer, *then));
            if stream.write_all(&octets(answer)).await.is_err() {
                return;
            }
            match then {
                Keep => {}
                Fin => return,
                Rst => {
                    // What was sent has time to arrive.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    stream.set_zero_linger().unwrap();
                    return;
                }
            }
        }
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// What a client got as the tables show it; the statuses of the box's own answers stand for them.
fn told(octets: &[u8], heads: &[bool]) -> String {
    let (mut text, mut rest, mut heads) = (String::new(), octets, heads.iter());
    while !rest.is_empty() {
        let mut interim = rest.get(9) == Some(&b'1');
        interim &= rest.get(9..12) != Some(b"101");
        let head = !interim && *heads.next().unwrap_or(&false);
        let Got::Message(message, length) = read(rest, true, head) else {
            text.push_str(&shown(rest));
            text.push('✂');
            break;
        };
        let own = message
            .fields
            .iter()
            .any(|(name, value)| name == "server" && value == "sekisho")
            && message
                .fields
                .iter()
                .any(|(name, value)| name == "content-type" && value.starts_with("text/plain"));
        match message.line.get(9..12) {
            Some(status) if own => text.push_str(status),
            _ => text.push_str(&message.shown(false).replace("connection: close|", "")),
        }
        text.push(' ');
        rest = &rest[length..];
    }
    text
}

async fn judge(cases: &'static [Case]) {
    let timeouts = sekisho_config::model::Timeouts {
        response_read: Duration::from_millis(300),
        ..quick()
    };
    let mut plane = Plane::start_with(timeouts, sekisho_config::model::Http::default()).await;
    let (address, _endpoint) = endpoint(cases).await;
    plane.host("a.test", &[address]);
    plane.publish();
    let mut wrong = Vec::new();
    for (number, (request, answer, then, want)) in cases.iter().enumerate() {
        let mut stream = TcpStream::connect(plane.http()).await.unwrap();
        let request = request.replace("/ ", &format!("/{number} "));
        let head = request.starts_with("HEAD");
        let request = format!("{request}|host: a.test||{PROBE}").replace("||host", "|host");
        stream.write_all(&octets(&request)).await.unwrap();
        let got = drain(&mut stream).await;
        let got = told(&got, &[head, false]);
        let want = match (want.strip_suffix('^'), want.strip_suffix('✂')) {
            (Some(want), _) => format!("{want} "),
            (_, Some(_)) => (*want).to_owned(),
            _ => format!("{want} {PROBED} "),
        };
        // Where it is cut, the fields stand in the order and with those in which they were sent.
        let same = if let Some(want) = want.strip_suffix('✂') {
            let body = |text: &str| text.trim_end_matches('✂').split_once("||").unwrap().1.to_owned();
            // What is seen to be broken at once need not be passed on.
            got.ends_with('✂')
                && got.split('|').next() == want.split('|').next()
                && body(want).starts_with(&body(&got))
        } else {
            got == want
        };
        if !same {
            wrong.push(format!(
                "{request:?} {answer:?} {then:?}\n   wanted {want:?}\n   got    {got:?}"
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

const GET: &str = "GET / HTTP/1.1";

#[tokio::test(flavor = "multi_thread")]
async fn header_sections() {
    judge(&[
        (GET, "HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 200 |Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 200|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 299 Odd|Content-Length: 2||ok", Keep, "HTTP/1.1 299 |content-length: 2||ok"),
        (GET, "HTTP/1.1 404 Not Found|Content-Length: 2||no", Keep, "HTTP/1.1 404 Not Found|content-length: 2||no"),
        (GET, "HTTP/1.1 999 x|Content-Length: 2||ok", Keep, "HTTP/1.1 999 |content-length: 2||ok"),
        (GET, "HTTP/1.0 200 OK|Content-Length: 2||ok", Fin, "HTTP/1.1 200 OK|content-length: 2||ok"),
        // An empty line in front is forgiven.
        (GET, "|HTTP/1.1 200 OK|Content-Length: 2||ok", Fin, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, " HTTP/1.1 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "\nHTTP/1.1 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "xHTTP/1.1 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1  200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1\t200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200\tOK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 +20 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 000 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 099 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 20 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 2000 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 O\0K|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 O\rK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/2 200|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.2 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/0.9 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "ICY 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "http/1.1 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "<html>hello</html>", Fin, "502"),
        (GET, "SSH-2.0-x|", Fin, "502"),
        (GET, "«15»«03»«03»«00»«02»«02»«50»", Fin, "502"),
        (GET, "", Fin, "502"),
        (GET, "", Rst, "502"),
        (GET, "H", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2|", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2|", Rst, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2|X: y", Keep, "504"),
        (GET, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2\n|ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X: a\nY: b|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X: a\rY: b|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X: a\0b|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X: a\x1bb|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X: a| b|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK| X: a|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X : a|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|: a|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X Y: a|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X\0: a|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|X: é«ff»|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2|x: é«ff»||ok"),
        (GET, "HTTP/1.1 200 OK|X: a|X: b|X_Y:|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2|x: a|x: b|x_y: ||ok"),
        // Of one connection.
        (GET, "HTTP/1.1 200 OK|Connection: close|Content-Length: 2||ok", Fin, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 200 OK|Connection: x|X: 1|Keep-Alive: 2|Proxy-Authenticate: y|Upgrade: z|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 200 OK|Connection: content-length|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 200 OK|Proxy-Connection: close|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        // Of another protocol.
        (GET, "HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: websocket||", Keep, "502"),
        ("GET / HTTP/1.1|Connection: upgrade|Upgrade: websocket|", "HTTP/1.1 101 x|Connection: upgrade|Upgrade: h2c||", Fin, "502"),
        ("GET / HTTP/1.1|Connection: upgrade|Upgrade: websocket|", "HTTP/1.1 101 x|Connection: upgrade||", Fin, "502"),
        ("GET / HTTP/1.1|Connection: upgrade|Upgrade: websocket|", "HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 200 OK|content-length: 2||ok"),
        ("GET / HTTP/1.1|Connection: upgrade|Upgrade: websocket|", "HTTP/1.1 426 x|Content-Length: 2||no", Keep, "HTTP/1.1 426 Upgrade Required|content-length: 2||no"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths() {
    judge(&[
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 0||",
            Keep,
            "HTTP/1.1 200 OK|content-length: 0||",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 2|Content-Length: 2||ok",
            Keep,
            "HTTP/1.1 200 OK|content-length: 2||ok",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 02||ok",
            Keep,
            "HTTP/1.1 200 OK|content-length: 2||ok",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 2|Content-Length: 3||ok",
            Fin,
            "502",
        ),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2, 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2,3||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length:||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: +2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: -2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 0x2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: 2 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Content-Length: x||ok", Fin, "502"),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 18446744073709551618||ok",
            Fin,
            "502",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 2|Transfer-Encoding: chunked||2|ok|0||",
            Fin,
            "502",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Content-Length: 2||2|ok|0||",
            Fin,
            "502",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Transfer-Encoding: chunked||2|ok|0||",
            Keep,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||ok",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked||2|ok|0||",
            Fin,
            "502",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked, gzip||2|ok|0||",
            Fin,
            "502",
        ),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: gzip||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: identity||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding:||ok", Fin, "502"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: xchunked||ok", Fin, "502"),
        (
            GET,
            "HTTP/1.1 200 OK|Transfer-Encoding : chunked||2|ok|0||",
            Fin,
            "502",
        ),
        (
            GET,
            "HTTP/1.0 200 OK|Transfer-Encoding: chunked||2|ok|0||",
            Fin,
            "502",
        ),
        // Too short, too long.
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 5||ok",
            Fin,
            "HTTP/1.1 200 OK||ok✂",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 5||ok",
            Rst,
            "HTTP/1.1 200 OK||ok✂",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 5||ok",
            Keep,
            "HTTP/1.1 200 OK||ok✂",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 5||",
            Fin,
            "HTTP/1.1 200 OK||✂",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 2||okHTTP/1.1 200 OK|Content-Length: 4||evil",
            Keep,
            "HTTP/1.1 200 OK|content-length: 2||ok",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 2||ok|",
            Keep,
            "HTTP/1.1 200 OK|content-length: 2||ok",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Content-Length: 0||HTTP/1.1 200 OK|Content-Length: 4||evil",
            Keep,
            "HTTP/1.1 200 OK|content-length: 0||",
        ),
        (
            GET,
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0||HTTP/1.1 200 OK|Content-Length: 4||evil",
            Keep,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||ok",
        ),
        // No body, whatever is said.
        (
            GET,
            "HTTP/1.1 204 No Content||",
            Keep,
            "HTTP/1.1 204 No Content||",
        ),
        (
            GET,
            "HTTP/1.1 204 No Content|Content-Length: 4||evil",
            Keep,
            "HTTP/1.1 204 No Content||",
        ),
        (
            GET,
            "HTTP/1.1 204 No Content|Content-Length: 0||",
            Keep,
            "HTTP/1.1 204 No Content||",
        ),
        (
            GET,
            "HTTP/1.1 204 No Content|Transfer-Encoding: chunked||4|evil|0||",
            Keep,
            "HTTP/1.1 204 No Content||",
        ),
        (
            GET,
            "HTTP/1.1 304 Not Modified||",
            Keep,
            "HTTP/1.1 304 Not Modified||",
        ),
        (
            GET,
            "HTTP/1.1 304 Not Modified|Content-Length: 4||",
            Keep,
            "HTTP/1.1 304 Not Modified|content-length: 4||",
        ),
        (
            GET,
            "HTTP/1.1 304 Not Modified|Content-Length: 4||evil",
            Keep,
            "HTTP/1.1 304 Not Modified|content-length: 4||",
        ),
        (
            GET,
            "HTTP/1.1 304 Not Modified|Transfer-Encoding: chunked||4|evil|0||",
            Keep,
            "HTTP/1.1 304 Not Modified||",
        ),
        (
            "HEAD / HTTP/1.1",
            "HTTP/1.1 200 OK|Content-Length: 4||",
            Keep,
            "HTTP/1.1 200 OK|content-length: 4||",
        ),
        (
            "HEAD / HTTP/1.1",
            "HTTP/1.1 200 OK|Content-Length: 4||evil",
            Keep,
            "HTTP/1.1 200 OK|content-length: 4||",
        ),
        (
            "HEAD / HTTP/1.1",
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked||",
            Keep,
            "HTTP/1.1 200 OK||",
        ),
        (
            "HEAD / HTTP/1.1",
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked||4|evil|0||",
            Keep,
            "HTTP/1.1 200 OK||",
        ),
        ("HEAD / HTTP/1.1", "HTTP/1.1 200 OK||", Keep, "HTTP/1.1 200 OK||"),
        (
            GET,
            "HTTP/1.1 205 Reset Content|Content-Length: 0||",
            Keep,
            "HTTP/1.1 205 Reset Content|content-length: 0||",
        ),
        // To its end.
        (
            GET,
            "HTTP/1.1 200 OK||ok",
            Fin,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||ok",
        ),
        (
            GET,
            "HTTP/1.1 200 OK||",
            Fin,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||",
        ),
        (GET, "HTTP/1.1 200 OK||ok", Rst, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK||ok", Keep, "HTTP/1.1 200 OK||2|ok|✂"),
        (
            GET,
            "HTTP/1.0 200 OK||ok",
            Fin,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||ok",
        ),
        (
            GET,
            "HTTP/1.0 200 OK|Connection: keep-alive|Content-Length: 2||ok",
            Keep,
            "HTTP/1.1 200 OK|content-length: 2||ok",
        ),
        (
            "GET / HTTP/1.0",
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0||",
            Keep,
            "HTTP/1.0 200 OK||ok^",
        ),
        (
            "GET / HTTP/1.0",
            "HTTP/1.1 200 OK|Content-Length: 2||ok",
            Keep,
            "HTTP/1.0 200 OK|content-length: 2||ok^",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks() {
    const OK: &str = "HTTP/1.1 200 OK|transfer-encoding: chunked||ok";
    judge(&[
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0||", Keep, OK),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: Chunked||1|o|1|k|0||", Keep, OK),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||02;x=y|ok|00;z||", Keep, OK),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||0||", Keep, "HTTP/1.1 200 OK|transfer-encoding: chunked||"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0|X-Sum: 1||", Keep, "HTTP/1.1 200 OK|transfer-encoding: chunked||ok|x-sum: 1"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0|Content-Length: 5|Transfer-Encoding: x|Set-Cookie: a=b||", Keep, OK),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0|", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|", Rst, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|", Keep, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||5|ok", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0|x : y||", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0\n\n", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|x|", Fin, "HTTP/1.1 200 OK||2|ok|✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||0x2|ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||-2|ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked|| 2|ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2 |ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2\nok\n0\n\n", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2;\n|ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||fffffffffffffffff|ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||ffffffffffffffff|ok|0||", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||<html>", Fin, "HTTP/1.1 200 OK||✂"),
        (GET, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|ok|0||", Fin, "HTTP/1.1 200 OK||3|ok\r|✂"),
        ("GET / HTTP/1.0", "HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ok|0|X-Sum: 1||", Keep, "HTTP/1.0 200 OK||ok^"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers() {
    const OK: &str = "HTTP/1.1 200 OK|Content-Length: 2||ok";
    const GOT: &str = "HTTP/1.1 200 OK|content-length: 2||ok";
    assert_eq!(OK.to_ascii_lowercase(), GOT.to_ascii_lowercase());
    judge(&[
        (GET, "HTTP/1.1 103 Early Hints|Link: x||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 103 Early Hints|link: x|| HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 102 Processing||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 102 Processing|| HTTP/1.1 200 OK|content-length: 2||ok"),
        // An interim answer has no body, whatever it says; who believed it would wait for one.
        (GET, "HTTP/1.1 103 Early Hints|Content-Length: 5|Link: x||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 103 Early Hints|link: x|| HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 103 Early Hints|Transfer-Encoding: chunked|Link: x||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 103 Early Hints|link: x|| HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 103 Early Hints|Connection: x|X: y|Link: x||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.1 103 Early Hints|link: x|| HTTP/1.1 200 OK|content-length: 2||ok"),
        (GET, "HTTP/1.1 100 Continue||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, GOT),
        (GET, "HTTP/1.1 100 Continue||HTTP/1.1 100 Continue||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, GOT),
        ("GET / HTTP/1.0", "HTTP/1.1 103 Early Hints|Link: x||HTTP/1.1 200 OK|Content-Length: 2||ok", Keep, "HTTP/1.0 200 OK|content-length: 2||ok^"),
        (GET, "HTTP/1.1 103 Early Hints||", Fin, "HTTP/1.1 103 Early Hints|| 502"),
        (GET, "HTTP/1.1 100 Continue||", Fin, "502"),
        (GET, "HTTP/1.1 100 Continue||", Keep, "504"),
        (GET, "HTTP/1.1 103 Early Hints|x : y||HTTP/1.1 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 103 Early Hints\n\nHTTP/1.1 200 OK|Content-Length: 2||ok", Fin, "502"),
        (GET, "HTTP/1.1 100 Continue||HTTP/1.1 101 x|Connection: upgrade|Upgrade: x||", Fin, "502"),
    ]).await;
}

/// An endpoint says something while nobody asks: that is the answer to no request.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_between_requests_is_nobodys_answer() {
    for late in [
        "HTTP/1.1 200 OK|Content-Length: 4||evil",
        "HTTP/1.1 408 Request Timeout|Content-Length: 0||",
        "|",
        "x",
        "HTTP/1.1 100 Continue||",
    ] {
        let mut plane = Plane::start().await;
        let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
        plane.host("a.test", &[endpoint.local_addr().unwrap()]);
        plane.publish();
        let mut client = plane.ask(&octets("GET / HTTP/1.1|host: a.test||")).await;
        let (mut first, _) = soon("a connection", endpoint.accept()).await.unwrap();
        let mut buffer = Vec::new();
        first.read_buf(&mut buffer).await.unwrap();
        first
            .write_all(&octets("HTTP/1.1 200 OK|Content-Length: 2||ok"))
            .await
            .unwrap();
        crate::support::read_until(&mut client, "ok").await;
        first.write_all(&octets(late)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.write_all(&octets(PROBE)).await.unwrap();
        let (mut second, _) = soon("another connection", endpoint.accept()).await.unwrap();
        second.read_buf(&mut buffer).await.unwrap();
        second.write_all(&octets(PROBED)).await.unwrap();
        let answer = drain(&mut client).await;
        assert!(answer.ends_with(b"probed"), "{late:?}: {}", shown(&answer));
    }
}
