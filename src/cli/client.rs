//! Asks the running appliance.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

const DEFAULT_SOCKET: &str = "/run/sekisho/admin.sock";
const DEFAULT_ADDRESS: &str = "127.0.0.1:9901";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the admin API may be, in the order in which it is tried.
pub(super) struct Client {
    places: Vec<Place>,
}

enum Place {
    Socket(PathBuf),
    Address(SocketAddr),
}

impl Client {
    /// From `--admin`, else from the file, else the defaults.
    pub(super) fn new(admin: Option<&str>, config: Option<&Path>) -> anyhow::Result<Self> {
        let places = match (admin, config) {
            (Some(text), _) => vec![Place::parse(text)?],
            (None, Some(path)) => match crate::reload::read(path) {
                Ok(reading) => vec![
                    Place::Socket(reading.settings.appliance.run_dir.join("admin.sock")),
                    Place::Address(reading.settings.appliance.admin),
                ],
                Err(faults) => bail!(
                    "{} has faults; see `sekisho check`, or name the admin socket with --admin:\n{}",
                    path.display(),
                    faults
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("\n")
                ),
            },
            (None, None) => {
                vec![
                    Place::Socket(DEFAULT_SOCKET.into()),
                    Place::parse(DEFAULT_ADDRESS)?,
                ]
            }
        };
        Ok(Self { places })
    }

    /// `GET /api/v1/WHAT?QUERY`
    pub(super) fn get(&self, what: &str, query: &[(&str, Option<&str>)]) -> anyhow::Result<Value> {
        let mut path = format!("/api/v1/{what}");
        let mut separator = '?';
        for (key, value) in query {
            if let Some(value) = value {
                path.push(separator);
                path.push_str(&format!("{key}={}", encode(value)));
                separator = '&';
            }
        }
        let mut refused = Vec::new();
        for place in &self.places {
            match place.exchange(&path) {
                Ok(response) => return body(&response),
                Err(error) => refused.push(format!("{place}: {error}")),
            }
        }
        bail!(
            "no appliance answers; is `sekisho run` up? name its socket with --admin\n  {}",
            refused.join("\n  ")
        )
    }
}

/// Reads an answer in chunks (RFC 9112 section 7.1) and writes what is in them. Returns how many octets.
fn unchunk(stream: &mut impl BufRead, out: &mut impl Write) -> anyhow::Result<u64> {
    let line = |stream: &mut dyn BufRead| -> anyhow::Result<String> {
        let mut line = String::new();
        stream.take(MAX_LINE).read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).context(BROKEN)
    };
    let status = line(stream)?;
    let mut chunked = false;
    let mut length = None;
    loop {
        let field = line(stream)?.to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        chunked |= field == "transfer-encoding: chunked";
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>().ok();
        }
    }
    if status.split(' ').nth(1) != Some("200") || !chunked {
        let mut body = Vec::new();
        stream
            .take(length.unwrap_or(0).min(64 * 1024))
            .read_to_end(&mut body)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        bail!(
            "{}",
            value.get("error").and_then(Value::as_str).unwrap_or(&status)
        );
    }
    let mut total = 0;
    loop {
        let size = line(stream)?;
        let size = size.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).context(BROKEN)?;
        let copied = std::io::copy(&mut stream.take(size), out)?;
        if copied != size {
            bail!(BROKEN);
        }
        if !line(stream)?.is_empty() {
            bail!(BROKEN);
        }
        if size == 0 {
            return Ok(total);
        }
        total += size;
    }
}

/// Octets of one line of a header.
const MAX_LINE: u64 = 8192;

const BROKEN: &str = "the appliance broke off its answer";

impl Client {
    /// Writes what `/api/v1/WHAT` streams. Returns how many octets.
    pub(super) fn download(&self, what: &str, out: &mut impl Write) -> anyhow::Result<u64> {
        let mut refused = Vec::new();
        for place in &self.places {
            match place.ask(&format!("/api/v1/{what}")) {
                Ok(stream) => return unchunk(&mut BufReader::new(stream), out),
                Err(error) => refused.push(format!("{place}: {error}")),
            }
        }
        bail!(
            "no appliance answers; is `sekisho run` up? name its socket with --admin\n  {}",
            refused.join("\n  ")
        )
    }
}

impl Place {
    /// Sends the request and gives the connection.
    fn ask(&self, path: &str) -> std::io::Result<Box<dyn Read>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: sekisho\r\nConnection: close\r\n\r\n");
        match self {
            Self::Socket(socket) => {
                let mut stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.write_all(request.as_bytes())?;
                Ok(Box::new(stream))
            }
            Self::Address(address) => {
                let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.write_all(request.as_bytes())?;
                Ok(Box::new(stream))
            }
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        if text.starts_with('/') || text.starts_with('.') {
            return Ok(Self::Socket(text.into()));
        }
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let address = bare
            .parse()
            .with_context(|| format!("`{text}` is neither a socket path nor IP:PORT"))?;
        Ok(Self::Address(address))
    }

    fn exchange(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let mut response = Vec::new();
        self.ask(path)?.read_to_end(&mut response)?;
        Ok(response)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The JSON of an answer that the admin server closed (it sends a Content-Length, never chunks, when asked to close).
fn body(response: &[u8]) -> anyhow::Result<Value> {
    let end = response
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("the appliance broke off its answer")?;
    let (head, rest) = response.split_at(end);
    let status = String::from_utf8_lossy(head)
        .split(' ')
        .nth(1)
        .map(str::to_owned)
        .unwrap_or_default();
    let value: Value = serde_json::from_slice(rest.get(4..).unwrap_or_default())
        .context("the appliance's answer is not JSON")?;
    if status != "200" {
        bail!(
            "{}",
            value.get("error").and_then(Value::as_str).unwrap_or(&status)
        );
    }
    Ok(value)
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_answers() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}").unwrap()["a"], 1);
        assert_eq!(
            body(b"HTTP/1.1 400 Bad\r\n\r\n{\"error\":\"no\"}")
                .unwrap_err()
                .to_string(),
            "no"
        );
        for bad in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\nnope"] {
            assert!(body(bad).is_err());
        }
    }

    #[test]
    fn reads_chunks() {
        let read = |text: &str| {
            let mut out = Vec::new();
            unchunk(&mut text.as_bytes(), &mut out).map(|total| (total, out))
        };
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let got = read(&format!("{head}3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n")).unwrap();
        assert_eq!(got, (13, b"abc0123456789".to_vec()));
        for bad in [
            "",
            "3\r\nab",
            "3\r\nabc\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "x\r\n",
            "0\r\n",
        ] {
            assert!(read(&format!("{head}{bad}")).is_err(), "{bad:?}");
        }
        let no = read("HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n{\"error\":\"no\"} ");
        assert_eq!(no.unwrap_err().to_string(), "no");
    }

    #[test]
    fn encodes() {
        assert_eq!(encode("https://a/b?c d"), "https%3A%2F%2Fa%2Fb%3Fc%20d");
    }
}
