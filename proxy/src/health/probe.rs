//! One probe: a connection of its own, a question, an answer within the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sekisho_config::model::{HealthCheck, Probe, UpstreamProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy_protocol;
use crate::stream::{EndpointStream, Stream};
use crate::transport::Transport;

/// Octets of a status line that are read at most.
const STATUS_LINE: usize = 1024;
/// Octets of an answer of the gRPC health service that are read at most.
const GRPC_ANSWER: usize = 1024;

/// Why a probe is bad.
#[derive(Debug, thiserror::Error)]
pub(super) enum Bad {
    /// No way to the endpoint, or nothing answered the SYN: a sign against its node, too.
    #[error("{0}")]
    Unreachable(String),
    /// It is there and does not take the connection.
    #[error("{0}")]
    Refused(String),
    /// The time is over; `connected` or not yet.
    #[error("{}", if *connected { "no answer in time" } else { "no connection in time" })]
    Late { connected: bool },
    #[error("it answers {0}")]
    Status(u16),
    #[error("its gRPC health is {0}")]
    Serving(&'static str),
    #[error("{0}")]
    Nonsense(String),
}

/// Probes an endpoint.
pub(super) async fn probe(
    endpoint: SocketAddr,
    check: &HealthCheck,
    transport: &Transport,
) -> Result<(), Bad> {
    let mut address = endpoint;
    if let Some(port) = check.port {
        address.set_port(port);
    }
    let begun = tokio::time::Instant::now();
    let stream = match timeout(check.timeout, TcpStream::connect(address)).await {
        Err(_) => return Err(Bad::Late { connected: false }),
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
            let text = error.to_string();
            return Err(match error.kind() {
                HostUnreachable | NetworkUnreachable | TimedOut => Bad::Unreachable(text),
                _ => Bad::Refused(text),
            });
        }
    };
    let left = check
        .timeout
        .saturating_sub(begun.elapsed())
        .max(Duration::from_millis(1));
    let asked = ask(stream, address, check, transport);
    timeout(left, asked)
        .await
        .unwrap_or(Err(Bad::Late { connected: true }))
}

fn nonsense(error: impl std::fmt::Display) -> Bad {
    Bad::Nonsense(error.to_string())
}

async fn ask(
    mut stream: TcpStream,
    address: SocketAddr,
    check: &HealthCheck,
    transport: &Transport,
) -> Result<(), Bad> {
    let own = stream.local_addr().map_err(nonsense)?;
    // On a port of its own something else speaks, in the clear.
    if let Some(version) = transport.proxy_protocol.filter(|_| check.port.is_none()) {
        let greeting = proxy_protocol::write(version, own, address);
        stream.write_all(&greeting).await.map_err(nonsense)?;
    }
    if matches!(check.probe, Probe::Tcp) {
        return Ok(());
    }
    let stream = match check.port {
        Some(_) => EndpointStream::Plain(Stream::watched(stream)),
        None => transport
            .secure(Stream::watched(stream))
            .await
            .map_err(nonsense)?,
    };
    match &check.probe {
        Probe::Tcp => Ok(()),
        Probe::Http { path, host, expect } => {
            let host = host.as_deref().map_or_else(|| address.to_string(), str::to_owned);
            if check.port.is_none() && transport.protocol == UpstreamProtocol::Http2 {
                return http2(stream, path, &host, expect).await;
            }
            http1(stream, path, &host, expect).await
        }
        Probe::Grpc { service } => grpc(stream, address, service).await,
    }
}

fn expected(status: u16, expect: &[(u16, u16)]) -> Result<(), Bad> {
    if expect
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&status))
    {
        Ok(())
    } else {
        Err(Bad::Status(status))
    }
}

async fn http1(mut stream: EndpointStream, path: &str, host: &str, expect: &[(u16, u16)]) -> Result<(), Bad> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: sekisho-health\r\naccept: */*\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(nonsense)?;
    stream.flush().await.map_err(nonsense)?;
    let mut line = Vec::with_capacity(64);
    while !line.contains(&b'\n') {
        if line.len() >= STATUS_LINE {
            return Err(nonsense("its answer does not begin with a status line"));
        }
        let mut piece = [0; 64];
        match stream.read(&mut piece).await.map_err(nonsense)? {
            0 => return Err(nonsense("it closes the connection without an answer")),
            count => line.extend(piece.iter().take(count)),
        }
    }
    expected(
        status_of(&line).ok_or_else(|| nonsense("what it sends is no HTTP answer"))?,
        expect,
    )
}

/// The status in a status line (RFC 9112 section 4).
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (_, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status))
}

async fn http2(stream: EndpointStream, path: &str, host: &str, expect: &[(u16, u16)]) -> Result<(), Bad> {
    let request = http::Request::get(format!("http://{host}{path}"))
        .header("user-agent", "sekisho-health")
        .body(Full::new(Bytes::new()))
        .map_err(nonsense)?;
    let response = over_http2(stream, request).await?;
    expected(response.status().as_u16(), expect)
}

/// `grpc.health.v1.Health/Check`: a message with the name of the service, and one with its state.
async fn grpc(stream: EndpointStream, address: SocketAddr, service: &Arc<str>) -> Result<(), Bad> {
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "sekisho-health")
        .body(Full::new(health_request(service)))
        .map_err(nonsense)?;
    let response = over_http2(stream, request).await?;
    if response.status() != http::StatusCode::OK {
        return Err(Bad::Status(response.status().as_u16()));
    }
    let early = response.headers().get("grpc-status").cloned();
    let body = http_body_util::Limited::new(response.into_body(), GRPC_ANSWER);
    let body = body.collect().await.map_err(nonsense)?;
    let status = early.or_else(|| body.trailers()?.get("grpc-status").cloned());
    match status.as_ref().map(http::HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(b"5") => return Err(Bad::Serving("SERVICE_UNKNOWN")),
        Some(b"12") => return Err(nonsense("it has no gRPC health service")),
        Some(other) => {
            return Err(nonsense(format_args!(
                "gRPC status {}",
                String::from_utf8_lossy(other).escape_debug()
            )));
        }
        None => return Err(nonsense("its gRPC answer has no status")),
    }
    match serving_status(&body.to_bytes()) {
        Some(1) => Ok(()),
        Some(0) => Err(Bad::Serving("UNKNOWN")),
        Some(2) => Err(Bad::Serving("NOT_SERVING")),
        Some(3) => Err(Bad::Serving("SERVICE_UNKNOWN")),
        _ => Err(nonsense("its gRPC answer is malformed")),
    }
}

/// `HealthCheckRequest { service = 1 }` with the prefix of a gRPC message. Names are bounded, so that every length fits.
fn health_request(service: &str) -> Bytes {
    let name = service
        .as_bytes()
        .get(..service.len().min(127))
        .unwrap_or_default();
    let length = if name.is_empty() { 0 } else { name.len() + 2 };
    let mut message = BytesMut::with_capacity(length + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(length).unwrap_or(0));
    if !name.is_empty() {
        message.put_u8(0x0A);
        message.put_u8(u8::try_from(name.len()).unwrap_or(0));
        message.put_slice(name);
    }
    message.freeze()
}

/// `status = 1` of a `HealthCheckResponse`; absent it is 0. `None`: no such message.
fn serving_status(message: &[u8]) -> Option<u64> {
    let (prefix, message) = message.split_at_checked(5)?;
    let [compressed, length @ ..] = prefix else {
        return None;
    };
    let length = length
        .iter()
        .fold(0usize, |sum, octet| (sum << 8) | usize::from(*octet));
    if *compressed != 0 || length != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status] if *status < 0x80 => Some(u64::from(*status)),
        _ => None,
    }
}

async fn over_http2(
    stream: EndpointStream,
    request: http::Request<Full<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, Bad> {
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(nonsense)?;
    let driver = tokio::task::spawn_local(async move {
        // What goes wrong with it, the request hears.
        let _ = connection.await;
    });
    let _stop = tokio_util::task::AbortOnDropHandle::new(driver);
    let response = sender.send_request(request).await.map_err(nonsense)?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn status_lines() {
        for (line, want) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
            (b"HTTP/1.0 404\r\n", Some(404)),
            (b"HTTP/1.1 20\r\n", None),
            (b"HTTP/2 200 OK\r\n", None),
            (b"HTTP/1.1 999 No\r\n", None),
            (b"SSH-2.0-x\r\n", None),
            (b"", None),
        ] {
            assert_eq!(status_of(line), want, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn grpc_messages() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], b"\0\0\0\0\x04\x0A\x02ab");
        for (message, want) in [
            (&[0, 0, 0, 0, 0][..], Some(0)),
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 16, 1], None),
            (&[0, 0], None),
        ] {
            assert_eq!(serving_status(message), want, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_no_panic(octets in prop::collection::vec(any::<u8>(), 0..64), name in ".{0,300}") {
            let _ = (status_of(&octets), serving_status(&octets));
            prop_assert!(health_request(&name).len() <= 134);
        }
    }
}
