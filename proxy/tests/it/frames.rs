//! A client of HTTP/2 made of octets: frames as they are written here, whatever they are.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Plane, soon};
use crate::tls::connect;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut octets = vec![length[1], length[2], length[3], kind, flags];
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// Fields as HPACK literals that are not indexed and not compressed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut octets = Vec::new();
    let text = |octets: &mut Vec<u8>, text: &str| {
        match text.len() {
            length @ 0..127 => octets.push(u8::try_from(length).unwrap()),
            mut length => {
                octets.push(127);
                length -= 127;
                while length >= 128 {
                    octets.push(u8::try_from(length % 128).unwrap() | 128);
                    length /= 128;
                }
                octets.push(u8::try_from(length).unwrap());
            }
        }
        octets.extend_from_slice(text.as_bytes());
    };
    for (name, value) in fields {
        octets.push(0);
        text(&mut octets, name);
        text(&mut octets, value);
    }
    octets
}

/// What a request for `a.test` has at least.
pub(crate) const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.test"),
    (":path", "/"),
];

pub(crate) const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "a.test"),
    (":path", "/"),
];

/// A request without a body on stream `id`.
pub(crate) fn get(id: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, id, &block(GET))
}

/// What a server has said to a stream or to the whole connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Status(u32, u16),
    Data(u32, String),
    Trailers(u32),
    End(u32),
    Reset(u32, u32),
    GoAway(u32),
    Ping,
    Closed,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The connection.
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    answered: Vec<u32>,
}

impl Raw {
    /// After the handshake; nothing of HTTP/2 was said.
    pub(crate) async fn silent(plane: &Plane) -> Self {
        let (stream, _) = connect(plane, Some("a.test"), &["h2"], &rustls::version::TLS13).await;
        Self {
            stream: Box::new(stream),
            answered: Vec::new(),
        }
    }

    /// In the clear; nothing was said.
    pub(crate) async fn clear(plane: &Plane) -> Self {
        Self {
            stream: Box::new(TcpStream::connect(plane.http()).await.unwrap()),
            answered: Vec::new(),
        }
    }

    /// After preface and empty SETTINGS.
    pub(crate) async fn begin(plane: &Plane) -> Self {
        let mut raw = Self::silent(plane).await;
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// Sends; that the other side may have closed is for the reader to see.
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets).await;
        let _ = self.stream.flush().await;
    }

    async fn read_frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        Some((header[3], header[4], stream, payload))
    }

    /// The next thing that is said; SETTINGS and windows are not worth a word.
    pub(crate) async fn next(&mut self) -> Said {
        soon("a frame", async {
            loop {
                let Some((kind, flags, stream, payload)) = self.read_frame().await else {
                    return Said::Closed;
                };
                let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
                match kind {
                    HEADERS if self.answered.contains(&stream) => return Said::Trailers(stream),
                    HEADERS => {
                        let status = status(&payload);
                        if status >= 200 {
                            self.answered.push(stream);
                        }
                        return Said::Status(stream, status);
                    }
                    DATA if payload.is_empty() && flags & END_STREAM != 0 => return Said::End(stream),
                    DATA => return Said::Data(stream, String::from_utf8_lossy(&payload).into_owned()),
                    RST_STREAM => return Said::Reset(stream, number(0)),
                    GOAWAY => return Said::GoAway(number(4)),
                    PING if flags & 1 != 0 => return Said::Ping,
                    _ => {}
                }
            }
        })
        .await
    }

    /// What is said until `end` is said, or the connection ends.
    pub(crate) async fn until(&mut self, end: impl Fn(&Said) -> bool) -> Vec<Said> {
        let mut said = Vec::new();
        loop {
            said.push(self.next().await);
            let last = said.last().unwrap();
            if end(last) || *last == Said::Closed {
                return said;
            }
        }
    }

    /// How the connection, or the one stream in question, comes to its end: a status, a reset, GOAWAY or the end.
    pub(crate) async fn verdict(&mut self) -> Said {
        let said = self
            .until(|said| matches!(said, Said::Status(_, 200..) | Said::Reset(..) | Said::GoAway(_)))
            .await;
        said.into_iter().next_back().unwrap()
    }

    /// Whether nothing is said for a moment.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.next())
            .await
            .is_err()
    }
}

/// The status in a header block as our server writes it: it comes first.
fn status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        0x08 | 0x18 | 0x48 => digits(&block[2..2 + usize::from(block[1] & 127)], block[1] & 128 != 0),
        other => panic!("no status at the beginning: {other:#x}"),
    }
}

/// Digits, compressed or not (RFC 7541 appendix B).
fn digits(octets: &[u8], compressed: bool) -> u16 {
    if !compressed {
        return std::str::from_utf8(octets).unwrap().parse().unwrap();
    }
    let bits: Vec<u8> = octets
        .iter()
        .flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1))
        .collect();
    let mut rest = &bits[..];
    let mut number = 0;
    for _ in 0..3 {
        let take = |count: usize| {
            rest[..count]
                .iter()
                .fold(0u16, |value, bit| value * 2 + u16::from(*bit))
        };
        let (digit, length) = match take(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (take(6) - 0b011_001 + 3, 6),
        };
        number = number * 10 + digit;
        rest = &rest[length..];
    }
    number
}
