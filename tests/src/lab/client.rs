use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::Netns;

const LIMIT: Duration = Duration::from_secs(10);

/// How a client checks the server's certificate.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the certificates of these PEM texts and nothing else; offers HTTP/1.1 only.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn trusting(pems: &[String]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for pem in pems {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|error| anyhow!("{error:?}"))?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// The same from a PEM file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn trusting_file(path: &Path) -> Result<Self> {
        Self::trusting(&[std::fs::read_to_string(path).with_context(|| path.display().to_string())?])
    }
}

/// Where a client sends its requests.
#[derive(Clone, Debug)]
pub struct Target {
    /// The client's namespace; without one, the program's own.
    pub from: Option<Netns>,
    /// The server's socket address.
    pub address: SocketAddr,
    /// Host header and SNI.
    pub host: String,
    /// HTTPS when set.
    pub tls: Option<Tls>,
    /// How long connecting may take. Short where something is waited for: a lost SYN is sent again after a second,
    /// and that second would be measured.
    pub connect: Duration,
}

impl Target {
    /// A target in plain HTTP, with patience.
    pub fn new(from: Option<Netns>, address: SocketAddr, host: &str) -> Self {
        Self {
            from,
            address,
            host: host.to_owned(),
            tls: None,
            connect: LIMIT,
        }
    }

    /// The same over TLS.
    #[must_use]
    pub fn tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The same for a client that gives up connecting after a tenth of a second.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self {
            connect: Duration::from_millis(100),
            ..self
        }
    }

    /// One GET on a new connection.
    ///
    /// # Errors
    /// When no complete answer comes within ten seconds.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.send("GET", path, &[], b"")
    }

    /// One request on a new connection.
    ///
    /// # Errors
    /// As [`Target::get`].
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        let exchange = || Connection::open(self)?.send(method, path, headers, body);
        match &self.from {
            Some(netns) => netns.enter(exchange),
            None => exchange(),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// The server's certificate, DER, over HTTPS.
    pub certificate: Option<Vec<u8>>,
}

impl Response {
    /// A header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The name of the pod that answered.
    ///
    /// # Errors
    /// When the status is not 200 or no pod answered.
    pub fn pod(&self) -> Result<&str> {
        if self.status != 200 {
            bail!(
                "status {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body).trim()
            );
        }
        self.header("x-pod").context("the answer names no pod")
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A client's connection, HTTP/1.1 with keep-alive, made of nothing that the proxy is made of.
pub struct Connection {
    wire: BufReader<Box<dyn Wire>>,
    host: String,
    certificate: Option<Vec<u8>>,
}

impl Connection {
    /// Connects from the calling thread's namespace.
    ///
    /// # Errors
    /// When connecting or the handshake fails.
    pub fn open(target: &Target) -> Result<Self> {
        let tcp = TcpStream::connect_timeout(&target.address, target.connect)
            .with_context(|| format!("connecting to {}", target.address))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        tcp.set_write_timeout(Some(LIMIT))?;
        let mut certificate = None;
        let wire: Box<dyn Wire> = match &target.tls {
            None => Box::new(tcp),
            Some(Tls(config)) => {
                let name = ServerName::try_from(target.host.clone())?;
                let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, tcp);
                while stream.conn.is_handshaking() {
                    stream
                        .conn
                        .complete_io(&mut stream.sock)
                        .context("TLS handshake")?;
                }
                certificate = stream
                    .conn
                    .peer_certificates()
                    .and_then(<[_]>::first)
                    .map(|der| der.to_vec());
                Box::new(stream)
            }
        };
        Ok(Self {
            wire: BufReader::new(wire),
            host: target.host.clone(),
            certificate,
        })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// When no complete answer comes within ten seconds.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut out = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(body);
        let wire = self.wire.get_mut();
        wire.write_all(&out).context("sending the request")?;
        wire.flush()?;
        self.read(method)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if (&mut self.wire)
            .take(64 * 1024)
            .read_line(&mut line)
            .context("reading the answer")?
            == 0
        {
            bail!("the connection ended before the answer did");
        }
        Ok(line.trim_end().to_owned())
    }

    fn read(&mut self, method: &str) -> Result<Response> {
        let first = self.line()?;
        let status: u16 = first
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("status line {first:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("header line {line:?}"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
            certificate: self.certificate.clone(),
        };
        if status == 101 || status == 204 || status == 304 || method == "HEAD" {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some() {
            loop {
                let size = self.line()?;
                let size = u64::from_str_radix(&size, 16).with_context(|| format!("chunk size {size:?}"))?;
                self.octets(size, &mut response.body)?;
                self.line()?;
                if size == 0 {
                    return Ok(response);
                }
            }
        }
        match response.header("content-length") {
            Some(text) => {
                let length = text.parse()?;
                self.octets(length, &mut response.body)?;
            }
            None => drop(
                self.wire
                    .read_to_end(&mut response.body)
                    .context("reading the body")?,
            ),
        }
        Ok(response)
    }

    fn octets(&mut self, count: u64, into: &mut Vec<u8>) -> Result<()> {
        let got = (&mut self.wire)
            .take(count)
            .read_to_end(into)
            .context("reading the body")?;
        if got as u64 != count {
            bail!("the connection ended after {got} of {count} octets of the body");
        }
        Ok(())
    }

    /// Turns the connection into a WebSocket at `path`.
    ///
    /// # Errors
    /// When the server does not switch.
    pub fn web_socket(mut self, path: &str) -> Result<tungstenite::WebSocket<impl Read + Write>> {
        let key = tungstenite::handshake::client::generate_key();
        let headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
        ];
        let response = self.send("GET", path, &headers, b"")?;
        if response.status != 101 {
            bail!("status {} instead of 101", response.status);
        }
        let want = tungstenite::handshake::derive_accept_key(key.as_bytes());
        if response.header("sec-websocket-accept") != Some(&want) {
            bail!("wrong Sec-WebSocket-Accept");
        }
        let already = self.wire.buffer().to_vec();
        Ok(tungstenite::WebSocket::from_partially_read(
            self.wire.into_inner(),
            already,
            tungstenite::protocol::Role::Client,
            None,
        ))
    }
}
