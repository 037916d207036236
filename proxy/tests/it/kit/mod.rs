//! A kit of hostile and subtle cases, a line each: what a client sends, what the endpoint gets of it octet for octet;
//! what an endpoint sends, what the client gets of it. Behind every case another request follows on the same connection,
//! which shows whether both sides still agree where they are.
//!
//! In the tables `|` is CRLF and `«c0»` is an octet in hexadecimal; everything else stands for itself.

mod answers;
mod bodies;
mod fields;
mod hosts;
mod lines;
mod paths;
mod streams;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sekisho_config::model::{Http, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{Plane, quick, soon};

/// The request behind every case, and its answer.
const PROBE: &str = "GET /probe HTTP/1.1|host: a.test|connection: close||";
const PROBED: &str = "HTTP/1.1 200 OK|content-length: 6||probed";

/// A text of the tables as octets.
fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '«' {
            let (code, after) = rest['«'.len_utf8()..].split_once('»').unwrap();
            out.push(u8::from_str_radix(code, 16).unwrap());
            rest = after;
            continue;
        }
        let (this, after) = rest.split_at(first.len_utf8());
        out.extend_from_slice(if this == "|" { b"\r\n" } else { this.as_bytes() });
        rest = after;
    }
    out
}

/// Octets as the tables show them.
fn shown(octets: &[u8]) -> String {
    let text: String = octets
        .utf8_chunks()
        .map(|chunk| {
            let bad: String = chunk
                .invalid()
                .iter()
                .map(|octet| format!("«{octet:02x}»"))
                .collect();
            format!("{}{bad}", chunk.valid())
        })
        .collect();
    text.replace("\r\n", "|")
}

/// A message: its start line, its fields in order of their names without those that the box adds to each, its body.
#[derive(Debug)]
struct Message {
    line: String,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

/// Fields that are the same in every case, and have tests of their own.
const USUAL: [&str; 10] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "forwarded",
    "x-request-id",
    "date",
    "server",
    "content-type",
];

impl Message {
    fn shown(&self, usual: bool) -> String {
        let mut text = format!("{}|", self.line);
        for (name, value) in &self.fields {
            if usual || !USUAL.contains(&name.as_str()) {
                text.push_str(&format!("{name}: {value}|"));
            }
        }
        text.push('|');
        text.push_str(&shown(&self.body));
        for (name, value) in &self.trailers {
            text.push_str(&format!("|{name}: {value}"));
        }
        text
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(of, _)| of == name);
        let value = found.next();
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value.map(|(_, value)| value.as_str())
    }
}

/// How a reading ended.
#[derive(Debug)]
enum Got {
    Message(Message, usize),
    More,
    Nonsense(&'static str),
}

fn line(octets: &[u8]) -> Option<(&[u8], usize)> {
    let end = octets.windows(2).position(|two| two == b"\r\n")?;
    Some((&octets[..end], end + 2))
}

/// Names and values.
type Fields = Vec<(String, String)>;

/// Field lines up to the empty line, in order of their names; and how many octets that is.
fn section(octets: &[u8]) -> Result<Option<(Fields, usize)>, &'static str> {
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let Some((text, length)) = line(&octets[at..]) else {
            return Ok(None);
        };
        at += length;
        if text.is_empty() {
            fields.sort_by(|(one, _): &(String, String), (other, _)| one.cmp(other));
            return Ok(Some((fields, at)));
        }
        if text.iter().any(|octet| b"\r\n\0".contains(octet)) {
            return Err("a control character in a field");
        }
        let colon = text
            .iter()
            .position(|octet| *octet == b':')
            .ok_or("a field without colon")?;
        let (name, value) = text.split_at(colon);
        if name.is_empty()
            || !name.iter().all(|octet| {
                octet.is_ascii_alphanumeric() || *octet == b'-' || b"!#$%&'*+.^`~_".contains(octet)
            })
        {
            return Err("no name");
        }
        let value = value[1..].trim_ascii();
        fields.push((shown(name).to_ascii_lowercase(), shown(value)));
    }
}

/// Reads a message without forgiving anything. `head`: its body is left out.
fn read(octets: &[u8], until_close: bool, head: bool) -> Got {
    match try_read(octets, until_close, head) {
        Ok(Some((message, length))) => Got::Message(message, length),
        Ok(None) => Got::More,
        Err(why) => Got::Nonsense(why),
    }
}

fn try_read(octets: &[u8], closed: bool, head: bool) -> Result<Option<(Message, usize)>, &'static str> {
    let Some((start, mut at)) = line(octets) else {
        return Ok(None);
    };
    let Some((fields, length)) = section(&octets[at..])? else {
        return Ok(None);
    };
    at += length;
    let mut message = Message {
        line: shown(start),
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let answer = message.line.starts_with("HTTP/");
    if answer
        && (head
            || message
                .line
                .get(9..12)
                .is_some_and(|code| code.starts_with('1') || code == "204" || code == "304"))
    {
        return Ok(Some((message, at)));
    }
    match (
        message.field("transfer-encoding"),
        message.field("content-length"),
    ) {
        (Some(_), Some(_)) => return Err("two framings"),
        (Some("chunked"), None) => loop {
            let Some((size, length)) = line(&octets[at..]) else {
                return Ok(None);
            };
            at += length;
            if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
                return Err("no chunk size");
            }
            let size =
                usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).map_err(|_| "a chunk size")?;
            if size == 0 {
                let Some((trailers, length)) = section(&octets[at..])? else {
                    return Ok(None);
                };
                message.trailers = trailers;
                return Ok(Some((message, at + length)));
            }
            let Some(data) = size.checked_add(at + 2).and_then(|end| octets.get(at..end)) else {
                return Ok(None);
            };
            if !data.ends_with(b"\r\n") {
                return Err("no end of a chunk");
            }
            message.body.extend_from_slice(&data[..size]);
            at += size + 2;
        },
        (Some(_), None) => return Err("an odd coding"),
        (None, Some(length)) => {
            if !length.bytes().all(|octet| octet.is_ascii_digit()) {
                return Err("an odd length");
            }
            let length: usize = length.parse().map_err(|_| "an odd length")?;
            let Some(data) = at.checked_add(length).and_then(|end| octets.get(at..end)) else {
                return Ok(None);
            };
            message.body = data.to_vec();
            at += length;
        }
        (None, None) if answer => {
            if !closed {
                return Ok(None);
            }
            message.body = octets[at..].to_vec();
            at = octets.len();
        }
        (None, None) => {}
    }
    Ok(Some((message, at)))
}

/// An endpoint that writes down what it gets and answers requests that are some.
struct Recorder {
    address: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&got);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.spawn(record(stream, Arc::clone(&log)));
            }
        });
        Self {
            address,
            got,
            _tasks: tasks,
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

async fn record(mut stream: TcpStream, log: Arc<Mutex<Vec<String>>>) {
    let mut buffer = Vec::new();
    loop {
        match read(&buffer, false, false) {
            Got::Message(message, length) => {
                buffer.drain(..length);
                let head = message.line.starts_with("HEAD ");
                let probe = message.line.starts_with("GET /probe ");
                log.lock().unwrap().push(message.shown(false));
                let answer: &[u8] = match (head, probe) {
                    (_, true) => b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nprobed",
                    (true, _) => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                    _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
                };
                if stream.write_all(answer).await.is_err() {
                    return;
                }
                continue;
            }
            Got::Nonsense(why) => {
                log.lock().unwrap().push(format!("{why}: {}", shown(&buffer)));
                return;
            }
            Got::More => {}
        }
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            if !buffer.is_empty() {
                log.lock().unwrap().push(format!("cut: {}", shown(&buffer)));
            }
            return;
        }
    }
}

/// A plane with `a.test` before a recorder, and short waits.
async fn plane() -> (Plane, Recorder) {
    plane_with(Http::default()).await
}

async fn plane_with(http: Http) -> (Plane, Recorder) {
    let timeouts = Timeouts {
        request_header: Duration::from_millis(1500),
        request_body: Duration::from_millis(400),
        ..quick()
    };
    let mut plane = Plane::start_with(timeouts, http).await;
    let recorder = Recorder::start().await;
    plane.host("a.test", &[recorder.address]);
    plane.host("b.test", &[recorder.address]);
    plane.publish();
    (plane, recorder)
}

/// Everything that comes until the connection ends.
async fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    soon("the end of a connection", async {
        while stream.read_buf(&mut octets).await.unwrap_or(0) > 0 {}
    })
    .await;
    octets
}

/// Statuses of the answers in `octets`.
fn statuses(octets: &[u8]) -> Vec<String> {
    let text = shown(octets);
    text.match_indices("HTTP/1.")
        .filter_map(|(at, _)| text.get(at + 9..at + 12).map(str::to_owned))
        .filter(|status| status != "100")
        .collect()
}

/// Sends each request with the probe behind it. What is wanted is one of
///
/// - `400`: refused so, and the connection closed; nothing has reached the endpoint;
/// - `404+`: the same, but the connection goes on, and the probe arrives;
/// - a request: this is what the endpoint has got, and then the probe; with a final `^`: and no probe, as the connection
///   was closed in order.
async fn judge(plane: &Plane, recorder: &Recorder, cases: &[(&str, &str)]) {
    let probe = PROBE.to_ascii_lowercase().replace("connection: close|", "");
    let probe = probe.replacen("get /probe http", "GET /probe HTTP", 1);
    let mut wrong = Vec::new();
    for (sent, want) in cases {
        let mut stream = TcpStream::connect(plane.http()).await.unwrap();
        // The box may have closed before all of it was sent.
        let _ = stream.write_all(&octets(&format!("{sent}{PROBE}"))).await;
        let answers = drain(&mut stream).await;
        let got = recorder.take();
        let statuses = statuses(&answers);
        let (want_statuses, want_got): (Vec<&str>, Vec<&str>) =
            if want.starts_with(|first: char| first.is_ascii_digit()) {
                match want.strip_suffix('+') {
                    Some(status) => (vec![status, "200"], vec![&probe]),
                    None => (vec![want], vec![]),
                }
            } else {
                match want.strip_suffix('^') {
                    Some(request) => (vec!["200"], vec![request]),
                    None => (vec!["200", "200"], vec![want, &probe]),
                }
            };
        if statuses != want_statuses || got != want_got {
            let sent = &sent[..sent.len().min(300)];
            wrong.push(format!(
                "{sent:?}\n   wanted {want:?}\n   got    {statuses:?} {got:#?}"
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
