use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sekisho_config::model::{Certificate, CertificateSource, NameSet, ObjectName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Backend, Plane, Then, read_all, read_until, soon};

pub(crate) fn certificate(names: &[&str]) -> Arc<Certificate> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params =
        rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .unwrap();
    let leaf = params.self_signed(&key).unwrap();
    Arc::new(Certificate::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap())
}

pub(crate) fn secret(certificate: &Arc<Certificate>) -> CertificateSource {
    CertificateSource::Secret {
        secret: ObjectName::new("ns", "tls"),
        certificate: Arc::clone(certificate),
    }
}

/// Takes any certificate and remembers it.
#[derive(Debug)]
pub(crate) struct Witness(pub(crate) Arc<Mutex<Vec<u8>>>);

/// Believes every server.
pub(crate) fn any_server() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Witness(Arc::default()))
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = leaf.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A TLS connection with this SNI (`None`: by address) and the leaf that was served.
pub(crate) async fn connect(
    plane: &Plane,
    sni: Option<&str>,
    alpn: &[&str],
    version: &'static rustls::SupportedProtocolVersion,
) -> (TlsStream<TcpStream>, Vec<u8>) {
    let stream = TcpStream::connect(plane.https()).await.unwrap();
    connect_over(stream, sni, alpn, version).await
}

/// As [`connect`], over a connection that is there already.
pub(crate) async fn connect_over(
    stream: TcpStream,
    sni: Option<&str>,
    alpn: &[&str],
    version: &'static rustls::SupportedProtocolVersion,
) -> (TlsStream<TcpStream>, Vec<u8>) {
    let served = Arc::new(Mutex::new(Vec::new()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness(Arc::clone(&served))))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(sni.unwrap_or("127.0.0.2").to_owned()).unwrap();
    let stream = soon(
        "a handshake",
        TlsConnector::from(Arc::new(config)).connect(name, stream),
    )
    .await
    .unwrap();
    let leaf = served.lock().unwrap().clone();
    (stream, leaf)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_follows_the_name_and_never_lies() {
    let mut plane = Plane::start().await;
    let (exact, wild, acme) = (
        certificate(&["a.test"]),
        certificate(&["*.test"]),
        certificate(&["acme.example"]),
    );
    let stranger = certificate(&["stranger.example"]);
    let mixed = Arc::new(Certificate {
        key_pem: stranger.key_pem.clone(),
        ..Certificate::clone(&certificate(&["mixed.example"]))
    });
    let names: Arc<NameSet> = Arc::new(["acme.example".parse().unwrap()].into());
    plane.certificate("a.test", secret(&exact));
    plane.certificate("*.test", secret(&wild));
    plane.certificate("wrong.example", secret(&stranger));
    plane.certificate("mixed.example", secret(&mixed));
    plane.certificate(
        "acme.example",
        CertificateSource::Acme {
            ingress: ObjectName::new("ns", "web"),
            names: Arc::clone(&names),
        },
    );
    plane.publish();
    let (_, placeholder) = connect(&plane, Some("nobody.example"), &[], &rustls::version::TLS13).await;
    for (sni, want) in [
        (Some("a.test"), &*exact.chain[0]),
        (Some("b.test"), &*wild.chain[0]),
        (Some("b.b.test"), &placeholder),
        (Some("wrong.example"), &placeholder),
        (Some("mixed.example"), &placeholder),
        (Some("acme.example"), &placeholder),
        (None, &placeholder),
    ] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let (_, served) = connect(&plane, sni, &[], version).await;
            assert!(served == want, "{sni:?} {version:?}");
        }
    }
    plane.observed.certificates.insert(names, Arc::clone(&acme));
    plane.publish();
    let (_, served) = connect(&plane, Some("acme.example"), &[], &rustls::version::TLS13).await;
    assert!(served == *acme.chain[0]);
    // A client is done with a handshake before the box has counted it.
    soon("11 placeholders", async {
        while plane.metric("sekisho_tls_placeholder_total", &[]) < 10.9 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let placeholders = plane.metric("sekisho_tls_placeholder_total", &[]);
    assert!((placeholders - 11.0).abs() < 0.1, "{placeholders}");
    let snapshot = plane.handle.current();
    for (host, want) in [
        ("mixed.example", "does not belong"),
        ("wrong.example", "do not cover"),
        ("nobody.example", "no TLS entry"),
    ] {
        let reason = snapshot
            .certificate(&host.parse().unwrap())
            .served
            .unwrap_err()
            .to_string();
        assert!(reason.contains(want), "{host}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_over_tls() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.certificate("a.test", secret(&certificate(&["a.test"])));
    plane.publish();
    let (mut stream, _) = connect(&plane, Some("a.test"), &["http/1.1"], &rustls::version::TLS13).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 200"));
    assert!(backend.seen()[0].contains("x-forwarded-proto: https\r\n"));
    drop(stream);
    let lines = plane.finish().await;
    assert_eq!(
        (&lines[0]["tls_version"], &lines[0]["sni"]),
        (&"1.3".into(), &"a.test".into())
    );
}

type Sender = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http2(plane: &Plane, sni: &str) -> (Sender, tokio::task::JoinSet<()>) {
    let (stream, _) = connect(plane, Some(sni), &["h2", "http/1.1"], &rustls::version::TLS13).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    (sender, driver)
}

async fn get(sender: &mut Sender, uri: &str) -> (u16, String) {
    let request = Request::get(uri)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Empty::new())
        .unwrap();
    let response = soon("a response", sender.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let body = soon("a body", response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_in_front() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    for host in ["a.test", "b.test", "c.example", "plain.example"] {
        plane.host(host, &[backend.address]);
    }
    let shared = certificate(&["a.test", "b.test"]);
    plane.certificate("a.test", secret(&shared));
    plane.certificate("b.test", secret(&shared));
    plane.certificate("c.example", secret(&certificate(&["c.example"])));
    plane.publish();
    let (mut sender, driver) = http2(&plane, "a.test").await;
    for (uri, want) in [
        ("https://a.test/x//y", (200, "hello")),
        // The same certificate: the connection may be shared.
        ("https://b.test/", (200, "hello")),
        ("https://c.example/", (421, "another certificate")),
        // Hosts without a certificate are not behind this one.
        ("https://plain.example/", (421, "another certificate")),
        ("https://nobody.example/", (421, "another certificate")),
        ("https://a.test/%2f", (400, "path")),
    ] {
        let (status, body) = get(&mut sender, uri).await;
        assert!(
            status == want.0 && body.contains(want.1),
            "{uri}: {status} {body}"
        );
    }
    let seen = backend.seen().remove(0);
    assert!(
        seen.starts_with("GET /x/y HTTP/1.1\r\n") && seen.contains("\r\nhost: a.test\r\n"),
        "{seen}"
    );
    assert!(seen.contains("\r\ncookie: a=1; b=2\r\n"), "{seen}");
    let lines = plane.finish().await;
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[0]["protocol"], "http/2");
    // The stop closes the connection in order: GOAWAY, and the driver ends.
    soon("the end of the connection", driver.join_all()).await;
}

/// Which hosts may be asked for over a connection with which SNI: the hosts that have a certificate are the listeners of
/// the Gateway API, and those that have none share the one for all.
#[tokio::test(flavor = "multi_thread")]
async fn misdirected_requests() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    let hosts = [
        "example.test",
        "second.test",
        "first.wild.test",
        "third.wild.test",
        "fourth.wild.test",
        "covered.test",
    ];
    for host in hosts {
        plane.host(host, &[backend.address]);
    }
    plane.certificate(
        "second.test",
        secret(&certificate(&["second.test", "covered.test"])),
    );
    plane.certificate("*.wild.test", secret(&certificate(&["*.wild.test"])));
    plane.certificate("fourth.wild.test", secret(&certificate(&["fourth.wild.test"])));
    plane.publish();
    let mut wrong = Vec::new();
    for (sni, host, want) in [
        (Some("example.test"), "example.test", 200),
        (Some("second.test"), "second.test", 200),
        (Some("first.wild.test"), "first.wild.test", 200),
        (Some("fourth.wild.test"), "fourth.wild.test", 200),
        // Of another listener.
        (Some("example.test"), "second.test", 421),
        (Some("example.test"), "third.wild.test", 421),
        (Some("second.test"), "example.test", 421),
        (Some("second.test"), "first.wild.test", 421),
        (Some("first.wild.test"), "example.test", 421),
        (Some("first.wild.test"), "second.test", 421),
        (Some("first.wild.test"), "fourth.wild.test", 421),
        (Some("fourth.wild.test"), "first.wild.test", 421),
        // Of the same.
        (Some("first.wild.test"), "third.wild.test", 200),
        // Of nobody.
        (Some("example.test"), "unknown.test", 404),
        (Some("unknown.test"), "other.test", 404),
        (Some("unknown.test"), "example.test", 200),
        (Some("second.test"), "unknown.test", 421),
        (Some("first.wild.test"), "unknown.wild.test", 404),
        (Some("first.wild.test"), "unknown.test", 421),
        (Some("second.test"), "192.0.2.1", 421),
        // In other letters, with a port.
        (Some("SECOND.test"), "second.TEST:443", 200),
        (Some("second.test"), "second.test.", 200),
        // The certificate that was served covers it as well.
        (Some("second.test"), "covered.test", 200),
        (Some("covered.test"), "second.test", 421),
        // Without SNI.
        (None, "example.test", 200),
        (None, "unknown.test", 404),
        (None, "second.test", 421),
    ] {
        for version in ["1.1", "1.0"] {
            let (mut stream, _) = connect(&plane, sni, &["http/1.1"], &rustls::version::TLS13).await;
            let request = format!("GET / HTTP/{version}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = read_until(&mut stream, "\r\n\r\n").await;
            if !answer.starts_with(&format!("HTTP/{version} {want}")) {
                wrong.push(format!("{sni:?} {host}: {want} wanted: {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// HTTP in the clear where TLS is spoken.
#[tokio::test(flavor = "multi_thread")]
async fn who_forgets_tls_is_told() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for (sent, want) in [
        ("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 400"),
        (
            "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 400",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a.test\r\n\r\nGET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "HTTP/1.1 400",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505"),
        ("EHLO a.test\r\n", "HTTP/1.1 400"),
    ] {
        let mut stream = TcpStream::connect(plane.https()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(want), "{sent:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{sent:?}: {answer}");
        let told = answer.contains("use https") || !sent.contains("/ HTTP/1.");
        assert!(told && answer.contains("connection: close"), "{sent:?}: {answer}");
    }
    // An alert, as TLS has it.
    for sent in [
        &b"\x00\x01"[..],
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x03\x01\xff\xff\x01",
        b" GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(plane.https()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(!answer.contains("HTTP"), "{sent:?}: {answer}");
    }
    assert_eq!(backend.seen(), Vec::<String>::new());
}

/// On HTTP/2 a client that does not open its window stalls no socket; its response must not hold an endpoint for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_shut_window_is_a_client_that_does_not_read() {
    let mut plane = Plane::start().await;
    plane.configure(|live| live.timeouts.response_write = std::time::Duration::from_millis(100));
    let body = "x".repeat(20_000_000);
    let mut backend = Backend::start(move |_, _| {
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
            Then::Keep,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let (mut sender, _driver) = http2(&plane, "a.test").await;
    let request = Request::get("https://a.test/")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = soon("a response", sender.send_request(request)).await.unwrap();
    soon("the endpoint to be let go", backend.closed.recv()).await;
    let lines = plane.finish().await;
    assert_eq!(lines[0]["ended_by"], "client", "{lines:?}");
    drop(response);
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_over_tls_and_resumption() {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, _| {
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".into(),
            Then::Echo,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.certificate("a.test", secret(&certificate(&["a.test"])));
    plane.publish();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness(Arc::default())))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    for _ in 0..4 {
        let stream = TcpStream::connect(plane.https()).await.unwrap();
        let name = ServerName::try_from("a.test").unwrap();
        let mut stream = soon("a handshake", connector.connect(name, stream))
            .await
            .unwrap();
        stream
            .write_all(
                b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping",
            )
            .await
            .unwrap();
        let answer = read_until(&mut stream, "ping").await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        stream.shutdown().await.unwrap();
        assert_eq!(read_until(&mut stream, "nothing").await, "");
    }
    // Over both workers: they share the keys of the tickets.
    let resumed = plane.metric("sekisho_tls_resumed_total", &[]);
    assert!((resumed - 3.0).abs() < 0.1, "{resumed}");
    let lines = plane.finish().await;
    assert!(
        lines
            .iter()
            .all(|line| line["status"] == 101 && line.get("ended_by").is_none()),
        "{lines:?}"
    );
}
