//! Certificates of clients: handshakes and octets in, octets out.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sekisho_config::model::{
    Certificate, CertificateSource, ClientAuth, ClientCas, Filters, ObjectName, VirtualHost,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Backend, Plane};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, name.to_owned());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for a client, and its key.
#[derive(Clone)]
struct Shown(Vec<CertificateDer<'static>>, Arc<KeyPair>);

fn leaf(issuer: &Issuer<'_, KeyPair>, name: &str, serial: u64, expired: bool) -> Shown {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, name.to_owned());
    params.serial_number = Some(SerialNumber::from(serial));
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, issuer).unwrap();
    Shown(vec![leaf.der().clone()], Arc::new(key))
}

fn cas(ca: &Ca, crl: Option<&str>) -> Arc<ClientCas> {
    Arc::new(
        ClientCas::from_pem(
            AsRef::<rcgen::Certificate>::as_ref(ca).pem().as_bytes(),
            crl.map(str::as_bytes),
        )
        .unwrap(),
    )
}

fn auth(ca: &Ca, required: bool) -> ClientAuth {
    ClientAuth {
        cas: cas(ca, None),
        required,
        depth: 2,
        forward: true,
    }
}

/// One certificate for all the hosts, so that a connection may carry requests for each of them.
fn server_certificate() -> CertificateSource {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = ["a.test", "b.test", "open.test"].map(str::to_owned).to_vec();
    let leaf = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    CertificateSource::Secret {
        secret: ObjectName::new("ns", "tls"),
        certificate: Arc::new(
            Certificate::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap(),
        ),
    }
}

fn ask_of(plane: &mut Plane, host: &str, auth: Option<ClientAuth>) {
    let mut filters = Filters::default();
    filters.door.client_auth = auth.map(Arc::new);
    let filters = (!filters.is_empty()).then(|| Arc::new(filters));
    let pattern = host.parse().unwrap();
    let hosts = &mut plane.cluster().hosts;
    let mut wished = VirtualHost::clone(hosts.get(&pattern).unwrap());
    for route in &mut wished.routes {
        route.filters.clone_from(&filters);
    }
    hosts.insert(pattern, Arc::new(wished));
}

async fn plane(backend: &Backend, hosts: &[(&str, Option<ClientAuth>)]) -> Plane {
    let mut plane = Plane::start().await;
    let source = server_certificate();
    for (host, auth) in hosts {
        plane.host(host, &[backend.address]);
        plane.certificate(host, source.clone());
        ask_of(&mut plane, host, auth.clone());
    }
    plane.publish();
    plane
}

fn client(shown: Option<&Shown>) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(crate::tls::any_server());
    Arc::new(match shown {
        None => config.with_no_client_auth(),
        Some(Shown(chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            config.with_client_auth_cert(chain.clone(), key).unwrap()
        }
    })
}

/// Asks for `host` over a connection with this SNI; an error when the handshake does not end well.
async fn fetch(
    plane: &Plane,
    config: &Arc<rustls::ClientConfig>,
    sni: &str,
    host: &str,
) -> io::Result<(String, bool)> {
    let stream = TcpStream::connect(plane.https()).await?;
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await?;
    stream
        .write_all(
            format!(
                "GET / HTTP/1.1\r\nhost: {host}\r\nclient-cert: :AAAA:\r\nssl-client-verify: SUCCESS\r\n\
                 ssl-client-subject-dn: CN=root\r\nconnection: close\r\n\r\n"
            )
            .as_bytes(),
        )
        .await?;
    let answer = rest(&mut stream).await?;
    let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Ok((answer, resumed))
}

/// All that comes; an error when nothing does.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<String> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8(answer).unwrap()),
    }
}

fn status(answer: &io::Result<(String, bool)>) -> &str {
    match answer {
        Ok((answer, _)) => answer.get(9..12).unwrap_or("nothing"),
        Err(_) => "alert",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_come_in() {
    let (ours, other) = (ca("ours"), ca("other"));
    let revoked = leaf(&ours, "revoked", 7, false);
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2045, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(7),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let issuer: &Issuer<'_, KeyPair> = &ours;
    let list = list.signed_by(issuer).unwrap().pem().unwrap();
    let backend = Backend::hello().await;
    for required in [true, false] {
        let mut wanted = auth(&ours, required);
        wanted.cas = cas(&ours, Some(&list));
        let plane = plane(&backend, &[("a.test", Some(wanted)), ("open.test", None)]).await;
        let refused = if required { "alert" } else { "403" };
        for (what, shown, want) in [
            ("good", Some(leaf(&ours, "ann", 1, false)), "200"),
            ("expired", Some(leaf(&ours, "ann", 2, true)), refused),
            ("of another CA", Some(leaf(&other, "ann", 3, false)), refused),
            ("revoked", Some(revoked.clone()), refused),
            ("none", None, if required { "alert" } else { "200" }),
        ] {
            let before = backend.seen().len();
            let answer = fetch(&plane, &client(shown.as_ref()), "a.test", "a.test").await;
            assert_eq!(status(&answer), want, "{what} {required}: {answer:?}");
            if want == "200" {
                let seen = backend.seen().pop().unwrap().to_lowercase();
                assert!(!seen.contains(":aaaa:") && !seen.contains("cn=root"), "{seen}");
                if what == "good" {
                    assert!(seen.contains("\r\nssl-client-verify: success\r\n"), "{seen}");
                    assert!(seen.contains("\r\nssl-client-subject-dn: cn=ann\r\n"), "{seen}");
                    assert!(seen.contains("\r\nclient-cert: :mii"), "{seen}");
                } else {
                    assert!(seen.contains("\r\nssl-client-verify: none\r\n"), "{seen}");
                    assert!(
                        !seen.contains("ssl-client-subject-dn") && !seen.contains("client-cert"),
                        "{seen}"
                    );
                }
            } else {
                assert_eq!(backend.seen().len(), before, "{what}");
            }
        }
        // Nobody is asked where nobody wants it, and what a client says of itself there goes nowhere either.
        let answer = fetch(&plane, &client(None), "open.test", "open.test").await;
        assert_eq!(status(&answer), "200");
        let seen = backend.seen().pop().unwrap().to_lowercase();
        assert!(!seen.contains("client-"), "{seen}");
        // In the clear there is no certificate.
        let clear = plane.fetch("a.test", "/").await;
        let want = if required { "HTTP/1.1 403" } else { "HTTP/1.1 200" };
        assert!(clear.starts_with(want), "{clear}");
    }
}

/// A certificate counts for the name that was asked for in its handshake, and for no other, whatever else the connection could carry.
#[tokio::test(flavor = "multi_thread")]
async fn no_way_around_over_another_name_or_session() {
    let (ours, other) = (ca("ours"), ca("other"));
    let backend = Backend::hello().await;
    let hosts = [
        ("a.test", Some(auth(&ours, true))),
        ("b.test", Some(auth(&other, false))),
        ("open.test", None),
    ];
    let plane = plane(&backend, &hosts).await;
    let ann = client(Some(&leaf(&ours, "ann", 1, false)));
    assert_eq!(status(&fetch(&plane, &ann, "a.test", "a.test").await), "200");
    for (sni, host) in [
        ("open.test", "a.test"),
        ("b.test", "a.test"),
        ("a.test", "b.test"),
    ] {
        let config = if sni == "b.test" {
            client(None)
        } else {
            Arc::clone(&ann)
        };
        let answer = fetch(&plane, &config, sni, host).await;
        assert_eq!(status(&answer), "421", "{sni} {host}: {answer:?}");
    }
    // Every connection with such a host is judged anew; with others sessions are resumed.
    let mut resumed = false;
    for _ in 0..5 {
        let (_, again) = fetch(&plane, &ann, "a.test", "a.test").await.unwrap();
        assert!(!again);
        resumed |= fetch(&plane, &ann, "open.test", "open.test").await.unwrap().1;
    }
    assert!(resumed);
}

/// What a route wants now counts, also on connections that were made before.
#[tokio::test(flavor = "multi_thread")]
async fn another_ca_counts_at_once() {
    let (ours, other) = (ca("ours"), ca("other"));
    let backend = Backend::hello().await;
    let mut plane = plane(&backend, &[("a.test", Some(auth(&ours, true)))]).await;
    let config = client(Some(&leaf(&ours, "ann", 1, false)));
    let stream = TcpStream::connect(plane.https()).await.unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let answer = crate::support::read_until(&mut stream, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ask_of(&mut plane, "a.test", Some(auth(&other, true)));
    plane.publish();
    stream.write_all(request).await.unwrap();
    let answer = rest(&mut stream).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
    let refused = plane.metric("sekisho_http_refused_total", &[("reason", "certificate_refused")]);
    assert!(refused > 0.5);
}
