use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sekisho_config::model::{ProxyProtocol, Trust, Upstream, UpstreamProtocol, UpstreamTls};
use sekisho_proxy::proxy_protocol::{Said, parse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::{HELLO, Plane, read_until};

/// A CA, and a certificate of it for `name`.
pub(crate) struct Authority {
    pub(crate) root: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&leaf_key, &issuer)
            .unwrap();
        Self {
            root: root.der().clone(),
            leaf: leaf.der().clone(),
            key: leaf_key.serialize_der(),
        }
    }

    pub(crate) fn server(&self, alpn: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    pub(crate) fn trusted_as(&self, name: &str, protocol: UpstreamProtocol) -> Upstream {
        Upstream {
            protocol,
            tls: Some(UpstreamTls {
                server_name: name.parse().unwrap(),
                trust: Trust::Roots([self.root.clone()].into()),
            }),
            proxy_protocol: None,
        }
    }
}

/// What a backend has seen of a connection.
type Seen = Arc<Mutex<Vec<String>>>;

/// A backend over TLS: notes name, protocol and whether the session was resumed, answers `count` requests a connection.
async fn tls_backend(acceptor: TlsAcceptor, count: usize) -> (SocketAddr, Seen, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let mut tasks = JoinSet::new();
    let notes = Arc::clone(&seen);
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let session = stream.get_ref().1;
            notes.lock().unwrap().push(format!(
                "{} {} {:?}",
                session.server_name().unwrap_or("-"),
                String::from_utf8_lossy(session.alpn_protocol().unwrap_or(b"-")),
                session.handshake_kind().unwrap()
            ));
            answer(&mut stream, count).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, seen, tasks)
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), count: usize) {
    for _ in 0..count {
        read_until(stream, "\r\n\r\n").await;
        if stream.write_all(HELLO.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_believed_gets_requests() {
    let authority = Authority::new("in.example");
    let (address, seen, _tasks) = tls_backend(authority.server(&["http/1.1"]), 1).await;
    let mut plane = Plane::start().await;
    plane.host("a.test", &[address]);
    let stranger = Authority::new("in.example").trusted_as("in.example", UpstreamProtocol::Http1);
    let other_name = authority.trusted_as("out.example", UpstreamProtocol::Http1);
    let trust = |trust| {
        let mut upstream = other_name.clone();
        upstream.tls.as_mut().unwrap().trust = trust;
        upstream
    };
    for (upstream, want) in [
        (authority.trusted_as("in.example", UpstreamProtocol::Http1), "200"),
        (stranger, "502"),
        (other_name.clone(), "502"),
        (trust(Trust::System), "502"),
        (trust(Trust::Roots([].into())), "502"),
        (trust(Trust::Anybody), "200"),
        (Upstream::default(), "502"),
        (authority.trusted_as("in.example", UpstreamProtocol::Http1), "200"),
    ] {
        plane.upstream("a.test", upstream.clone());
        plane.publish();
        let answer = plane.fetch("a.test", "/").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {want}")),
            "{upstream:?}: {answer}"
        );
    }
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "in.example http/1.1 Full",
            "out.example http/1.1 Full",
            "in.example http/1.1 Full"
        ]
    );
    assert!(plane.metric("sekisho_http_upstream_tls_failed_total", &[]) >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed() {
    let authority = Authority::new("in.example");
    let (address, seen, _tasks) = tls_backend(authority.server(&["http/1.1"]), 1).await;
    let mut plane = Plane::start().await;
    plane.host("a.test", &[address]);
    plane.upstream(
        "a.test",
        authority.trusted_as("in.example", UpstreamProtocol::Http1),
    );
    plane.publish();
    for _ in 0..3 {
        assert!(plane.fetch("a.test", "/").await.starts_with("HTTP/1.1 200"));
        // Another endpoint changes nothing in how they are spoken to.
        plane.observed.answers.clear();
        plane.publish();
    }
    let seen = seen.lock().unwrap();
    assert!(
        seen[0].ends_with("Full") && seen[2].ends_with("Resumed"),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_name_a_client_are_for_that_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let clients = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&clients);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            serving.spawn(async move {
                let mut octets = Vec::new();
                let said = loop {
                    octets.push(stream.read_u8().await.unwrap());
                    if let Some((said, _)) = parse(&octets).unwrap() {
                        break said;
                    }
                };
                seen.lock().unwrap().push(said);
                answer(&mut stream, 10).await;
            });
        }
    });
    let mut plane = Plane::start().await;
    plane.host("a.test", &[address]);
    plane.upstream(
        "a.test",
        Upstream {
            proxy_protocol: Some(ProxyProtocol::V2),
            ..Upstream::default()
        },
    );
    plane.publish();
    let mut want = Vec::new();
    let get = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(plane.http()).await.unwrap();
        want.push(Said::Proxied {
            client: client.local_addr().unwrap(),
            server: plane.http(),
        });
        for _ in 0..2 {
            client.write_all(get).await.unwrap();
            assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
        }
        open.push(client);
    }
    assert_eq!(*clients.lock().unwrap(), want);
    // With the client goes what was opened in its name.
    assert!((plane.metric("sekisho_http_upstream_idle_connections", &[]) - 3.0).abs() < 0.1);
    open.clear();
    while plane.metric("sekisho_http_upstream_idle_connections", &[]) > 0.0 {
        tokio::task::yield_now().await;
    }
}
