//! Loads that h2load does not have: a connection for each request, many hosts, idle connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::HOST;
use crate::loads::LOADS;
use crate::proxies::{Proxy, Scene};

/// Requests at a time, as with the other loads.
const AT_A_TIME: usize = 32;

/// Threads that open connections; few, for the proxy needs the cores more.
const OPENERS: usize = 8;

const LIMIT: Duration = Duration::from_secs(20);

fn open(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([10, 0, 0, 10], port)), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client that trusts the bench's certificate and resumes nothing: every handshake is a full one.
fn full_handshakes(scene: &Scene<'_>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(scene.certificate.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn secure(config: &Arc<ClientConfig>, stream: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(HOST)?.to_owned();
    let connection = ClientConnection::new(Arc::clone(config), name)?;
    Ok(StreamOwned::new(connection, stream))
}

fn check(answer: &[u8]) -> Result<()> {
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "answer: {:?}",
        String::from_utf8_lossy(answer.get(..answer.len().min(120)).unwrap_or_default())
    );
    Ok(())
}

/// `requests` requests, each on a connection of its own that the proxy closes.
pub(crate) fn connections(scene: &Scene<'_>, port: u16, tls: bool, requests: u64) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let config = full_handshakes(scene)?;
    let begun = AtomicU64::new(0);
    let work = || -> Result<()> {
        scene.client.become_it()?;
        let mut answer = Vec::new();
        while begun.fetch_add(1, Ordering::Relaxed) < requests {
            answer.clear();
            let mut stream = open(port)?;
            if tls {
                let mut stream = secure(&config, stream)?;
                stream.write_all(request.as_bytes())?;
                stream.read_to_end(&mut answer)?;
            } else {
                stream.write_all(request.as_bytes())?;
                stream.read_to_end(&mut answer)?;
            }
            check(&answer)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..OPENERS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a client thread panicked"))?
        })
    })
}

/// Reads one answer with a length from a kept connection.
fn answer(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let mut chunk = [0; 8192];
    loop {
        let got = stream.read(&mut chunk)?;
        ensure!(got > 0, "the proxy closed a kept connection");
        buffer.extend_from_slice(chunk.get(..got).unwrap_or_default());
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        check(buffer)?;
        let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).to_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .context("an answer without a length")?;
        if buffer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}

/// `requests` requests on kept connections, all over `hosts` hosts and their three paths; 0: one host, the same paths.
pub(crate) fn hosts(scene: &Scene<'_>, port: u16, hosts: usize, requests: u64) -> Result<()> {
    scene.client.enter(|| {
        let mut streams = Vec::new();
        for _ in 0..AT_A_TIME {
            streams.push(open(port)?);
        }
        let mut buffer = Vec::new();
        let mut next: usize = 0;
        let mut left = requests;
        while left > 0 {
            for stream in &mut streams {
                // A step that shares no factor with the number of hosts goes through all of them in no order.
                next = next.wrapping_add(7919);
                let path = ["/", "/static/logo.png", "/api/v1/things"]
                    .get(next % 3)
                    .copied()
                    .unwrap_or("/");
                let host = match hosts {
                    0 => HOST.to_owned(),
                    hosts => format!("h{}.example.org", next % hosts),
                };
                stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
            }
            for stream in &mut streams {
                answer(stream, &mut buffer)?;
            }
            left = left.saturating_sub(AT_A_TIME as u64);
        }
        Ok(())
    })
}

/// Connections that wait for their next request.
pub(crate) struct Held {
    _plain: Vec<TcpStream>,
    _secure: Vec<StreamOwned<ClientConnection, TcpStream>>,
}

/// Opens `count` connections, sends one request on each, and keeps them.
pub(crate) fn idle(scene: &Scene<'_>, port: u16, tls: bool, count: usize) -> Result<Held> {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let config = full_handshakes(scene)?;
    scene.client.enter(|| {
        let mut held = Held {
            _plain: Vec::new(),
            _secure: Vec::new(),
        };
        let mut buffer = Vec::new();
        for _ in 0..count {
            let mut stream = open(port)?;
            if tls {
                let mut stream = secure(&config, stream)?;
                stream.write_all(request.as_bytes())?;
                answer(&mut stream, &mut buffer)?;
                held._secure.push(stream);
            } else {
                stream.write_all(request.as_bytes())?;
                answer(&mut stream, &mut buffer)?;
                held._plain.push(stream);
            }
        }
        Ok(held)
    })
}

/// Whether one gRPC call through it succeeds.
pub(crate) fn serves_grpc(scene: &Scene<'_>, proxy: &Proxy) -> bool {
    LOADS
        .iter()
        .find(|load| load.is_grpc())
        .is_some_and(|load| load.run(scene, proxy, 32).is_ok())
}
