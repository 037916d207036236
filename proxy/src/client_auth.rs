//! Certificates of clients: asked for in the handshake where the name that the client asks for (SNI) is that of a host that
//! wants them, and judged again at the door of each route, against what that route wants now.
//!
//! Such a host has TLS settings of its own and no resumption: every connection is judged anew, and nothing of a session
//! with another host counts there.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sekisho_config::model::ClientAuth;
use tokio::time::Instant;

use crate::clock;
use crate::fields::{Fields, Name};

/// RFC 9440.
const CLIENT_CERT: Name<'static> = Name::from_static("client-cert");
const CLIENT_CERT_CHAIN: Name<'static> = Name::from_static("client-cert-chain");
/// As ingress-nginx names them.
const VERIFY: Name<'static> = Name::from_static("ssl-client-verify");
const SUBJECT: Name<'static> = Name::from_static("ssl-client-subject-dn");
const ISSUER: Name<'static> = Name::from_static("ssl-client-issuer-dn");
const FINGERPRINT: Name<'static> = Name::from_static("ssl-client-fingerprint-sha256");

/// A connection that lasts is judged again after so long: its certificate may have expired.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// What a route or a host wants of its clients.
#[derive(Debug)]
pub(crate) struct Compiled {
    wished: Arc<ClientAuth>,
    /// `None`: the CAs cannot be used, and nobody is believed.
    verifier: Option<Arc<Verifier>>,
    config: OnceLock<Option<Arc<ServerConfig>>>,
}

/// The handshake part. Where a certificate is not required, one that is not believed does not end the handshake: the
/// client is told in an answer, which a browser shows.
#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    required: bool,
    depth: usize,
}

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// The connection is for another name.
    OtherName,
    /// There is no certificate.
    Missing,
    /// It is not believed.
    NotBelieved,
}

/// Who a client is by its certificate.
#[derive(Debug)]
pub(crate) struct Peer {
    chain: Vec<CertificateDer<'static>>,
    pub(crate) subject: String,
    issuer: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub(crate) fingerprint: String,
    judged: RefCell<Option<Judged>>,
}

/// What was found of a certificate, by what was wanted then.
#[derive(Debug)]
struct Judged {
    wanted: Arc<ClientAuth>,
    at: Instant,
    verdict: Result<(), Refused>,
}

impl Compiled {
    pub(crate) fn compile(wished: &Arc<ClientAuth>) -> Self {
        let verifier = verifier(wished);
        if let Err(why) = &verifier {
            tracing::error!(
                why,
                "the CAs for certificates of clients cannot be used; nobody comes in"
            );
        }
        Self {
            wished: Arc::clone(wished),
            verifier: verifier.ok().map(|inner| {
                Arc::new(Verifier {
                    inner,
                    required: wished.required,
                    depth: usize::from(wished.depth),
                })
            }),
            config: OnceLock::new(),
        }
    }

    /// The settings for handshakes of this host, made of those of all others; `None`: there must be no handshake.
    pub(crate) fn config(&self, common: &ServerConfig) -> Option<Arc<ServerConfig>> {
        let make = || {
            let verifier = self.verifier.clone()?;
            let mut config = ServerConfig::builder_with_provider(Arc::clone(common.crypto_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
                .ok()?
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(Arc::clone(&common.cert_resolver));
            config.alpn_protocols.clone_from(&common.alpn_protocols);
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Some(Arc::new(config))
        };
        self.config.get_or_init(make).clone()
    }

    /// Judges a request that asks for `host` over a connection with this SNI and certificate. `Ok(None)`: there is none, and none is needed.
    pub(crate) fn check<'a>(
        &self,
        tls: Option<(Option<&str>, Option<&'a Rc<Peer>>)>,
        host: Option<&str>,
    ) -> Result<Option<&'a Rc<Peer>>, Refused> {
        let peer = match tls {
            // A name that was not asked for in the handshake may have wanted another certificate, or none.
            Some((sni, _)) if sni != host => return Err(Refused::OtherName),
            Some((_, peer)) => peer,
            None => None,
        };
        let Some(peer) = peer else {
            return if self.wished.required {
                Err(Refused::Missing)
            } else {
                Ok(None)
            };
        };
        let now = clock::now();
        let mut judged = peer.judged.borrow_mut();
        let verdict = match &*judged {
            Some(found)
                if now.saturating_duration_since(found.at) < GOOD_FOR
                    && (Arc::ptr_eq(&found.wanted, &self.wished) || found.wanted == self.wished) =>
            {
                found.verdict
            }
            _ => {
                let verdict = self.judge(&peer.chain);
                *judged = Some(Judged {
                    wanted: Arc::clone(&self.wished),
                    at: now,
                    verdict,
                });
                verdict
            }
        };
        verdict.map(|()| Some(peer))
    }

    fn judge(&self, chain: &[CertificateDer<'static>]) -> Result<(), Refused> {
        let (leaf, above) = chain.split_first().ok_or(Refused::Missing)?;
        let verifier = self.verifier.as_ref().ok_or(Refused::NotBelieved)?;
        verifier
            .judge(leaf, above, UnixTime::now())
            .map(drop)
            .map_err(|error| {
                tracing::debug!(%error, "the certificate of a client is not believed");
                Refused::NotBelieved
            })
    }

    /// Makes the header section of a request that passes tell the pod who it is from. What the client says itself is taken out.
    pub(crate) fn pass(&self, headers: &mut Fields, peer: Option<&Peer>) {
        for name in [
            &CLIENT_CERT,
            &CLIENT_CERT_CHAIN,
            &VERIFY,
            &SUBJECT,
            &ISSUER,
            &FINGERPRINT,
        ] {
            headers.remove(name);
        }
        let Some(peer) = peer else {
            headers.insert(VERIFY, HeaderValue::from_static("NONE"));
            return;
        };
        headers.insert(VERIFY, HeaderValue::from_static("SUCCESS"));
        let mut text = |name: Name<'_>, value: &str| {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        };
        text(SUBJECT, &peer.subject);
        text(ISSUER, &peer.issuer);
        text(FINGERPRINT, &peer.fingerprint);
        if self.wished.forward
            && let Some((leaf, above)) = peer.chain.split_first()
        {
            let octets = |der: &CertificateDer<'_>| format!(":{}:", STANDARD.encode(der));
            text(CLIENT_CERT, &octets(leaf));
            if !above.is_empty() {
                let above: Vec<String> = above.iter().map(octets).collect();
                text(CLIENT_CERT_CHAIN, &above.join(", "));
            }
        }
    }
}

impl Peer {
    /// What a client has shown in its handshake.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Option<Rc<Self>> {
        let leaf = chain.first()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        // Names may hold anything; what goes into a header field or a log is one line.
        let line = |text: String| text.chars().flat_map(char::escape_debug).take(1024).collect();
        Some(Rc::new(Self {
            subject: line(parsed.subject().to_string()),
            issuer: line(parsed.issuer().to_string()),
            fingerprint: digest
                .as_ref()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect(),
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            judged: RefCell::default(),
        }))
    }
}

fn verifier(wished: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for root in wished.cas.roots.iter() {
        roots.add(root.clone()).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(wished.cas.revoked.iter().cloned())
        // Of the CAs above it only those of the Secret are believed at all.
        .only_check_end_entity_revocation();
    if !wished.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| error.to_string())
}

impl Verifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // A path is built of what is shown; so it is never longer than this and the CA that is believed.
        let above = above
            .get(..above.len().min(self.depth.saturating_sub(1)))
            .unwrap_or_default();
        self.inner.verify_client_cert(leaf, above, now)
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.required {
            return self.judge(leaf, above, now);
        }
        // Judged at the door. One that cannot even be read proves nothing and ends here.
        x509_parser::parse_x509_certificate(leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
