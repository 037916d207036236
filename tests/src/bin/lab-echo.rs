//! The echo server of the lab's pods: HTTP/1.1, WebSocket and TCP, saying who answered and what arrived.
//!
//! `lab-echo --pod NAME --node NODE --http PORT --tcp PORT`
//!
//! HTTP answers JSON: pod, node, peer and local address of the connection, method, path, headers, body length.
//! `?ms=N` delays the answer, `?bytes=N` answers that many octets instead, `?abort=1` closes without an answer.
//! A WebSocket gets back what it sends, after a first message with `pod node`. TCP starts with a line `pod node`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocket};

struct Pod {
    pod: String,
    node: String,
}

fn main() -> Result<()> {
    let mut pod = Pod {
        pod: String::new(),
        node: String::new(),
    };
    let (mut http, mut tcp) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--pod" => pod.pod = value,
            "--node" => pod.node = value,
            "--http" => http = Some(value.parse()?),
            "--tcp" => tcp = Some(value.parse()?),
            _ => bail!("unknown flag {flag}"),
        }
    }
    let pod = Arc::new(pod);
    let echo = tcp.map(|port| serve(port, &pod, tcp_echo)).transpose()?;
    let web = http.map(|port| serve(port, &pod, http_connection)).transpose()?;
    for thread in [echo, web].into_iter().flatten() {
        let _ = thread.join();
    }
    Ok(())
}

type Talk = fn(&Pod, TcpStream) -> io::Result<()>;

fn serve(port: u16, pod: &Arc<Pod>, talk: Talk) -> Result<thread::JoinHandle<()>> {
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("port {port}"))?;
    let pod = Arc::clone(pod);
    Ok(thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pod = Arc::clone(&pod);
            // What ends a connection is the client's affair.
            thread::spawn(move || drop(talk(&pod, stream)));
        }
    }))
}

fn tcp_echo(pod: &Pod, mut stream: TcpStream) -> io::Result<()> {
    writeln!(stream, "{} {}", pod.pod, pod.node)?;
    io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(std::net::Shutdown::Write)
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn query(&self, name: &str) -> Option<u64> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

fn http_connection(pod: &Pod, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let unmapped = |address: std::net::SocketAddr| {
        std::net::SocketAddr::new(address.ip().to_canonical(), address.port())
    };
    let (peer, local) = (unmapped(stream.peer_addr()?), unmapped(stream.local_addr()?));
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        if request
            .header("upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        {
            return web_socket(pod, &request, stream);
        }
        if request
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body_bytes = read_body(&request, &mut reader)?;
        if let Some(ms) = request.query("ms") {
            thread::sleep(Duration::from_millis(ms.min(60_000)));
        }
        if request.query("abort").is_some() {
            return Ok(());
        }
        let (kind, body) = match request.query("bytes") {
            Some(bytes) => (
                "application/octet-stream",
                vec![b'x'; usize::try_from(bytes.min(64 << 20)).unwrap_or(0)],
            ),
            None => {
                let headers: Vec<_> = request
                    .headers
                    .iter()
                    .map(|(name, value)| json!([name, value]))
                    .collect();
                let answer = json!({
                    "pod": pod.pod, "node": pod.node, "peer": peer.to_string(), "local": local.to_string(),
                    "method": request.method, "path": request.target, "headers": headers, "body_bytes": body_bytes,
                });
                ("application/json", format!("{answer}\n").into_bytes())
            }
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Pod: {}\r\nX-Node: {}\r\nContent-Length: {}\r\n\r\n",
            pod.pod,
            pod.node,
            body.len()
        );
        let mut out = head.into_bytes();
        if request.method != "HEAD" {
            out.extend_from_slice(&body);
        }
        stream.write_all(&out)?;
        if request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            return Ok(());
        }
    }
    Ok(())
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.take(64 * 1024).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end().to_owned()))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(first) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(bad("request line"));
    };
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
    };
    loop {
        let line = read_line(reader)?.ok_or_else(|| bad("headers end early"))?;
        if line.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("header line"))?;
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_body(request: &Request, reader: &mut impl BufRead) -> io::Result<u64> {
    if request.header("transfer-encoding").is_some() {
        let mut total = 0;
        loop {
            let size = read_line(reader)?.ok_or_else(|| bad("chunk size"))?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
                .map_err(|_| bad("chunk size"))?;
            if size == 0 {
                while read_line(reader)?.is_some_and(|line| !line.is_empty()) {}
                return Ok(total);
            }
            total += io::copy(&mut reader.take(size), &mut io::sink())?;
            read_line(reader)?;
        }
    }
    let length = request
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    io::copy(&mut reader.take(length), &mut io::sink())
}

fn web_socket(pod: &Pod, request: &Request, mut stream: TcpStream) -> io::Result<()> {
    let key = request
        .header("sec-websocket-key")
        .ok_or_else(|| bad("no Sec-WebSocket-Key"))?;
    let accept = derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let first = tungstenite::Message::text(format!("{} {}", pod.pod, pod.node));
    socket.send(first).map_err(io::Error::other)?;
    loop {
        let message = socket.read().map_err(io::Error::other)?;
        if message.is_text() || message.is_binary() {
            socket.send(message).map_err(io::Error::other)?;
        }
    }
}
