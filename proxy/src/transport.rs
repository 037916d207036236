//! How the endpoints of a pool are spoken to, compiled from the model: what requests are written in, TLS, PROXY header.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::uri::Scheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sekisho_config::model::{ProxyProtocol, Trust, Upstream, UpstreamProtocol, UpstreamTls};
use tokio_rustls::TlsConnector;

use crate::stream::{EndpointStream, Stream};

/// A way to speak to endpoints. Pools that say nothing of it share one.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Kept connections of one transport are not used for another.
    pub(crate) id: u64,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    tls: Option<Tls>,
}

#[derive(Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// The transport of pools that say nothing: HTTP/1.1 in the clear.
static PLAIN: LazyLock<Arc<Transport>> = LazyLock::new(|| {
    Arc::new(Transport {
        id: 0,
        protocol: UpstreamProtocol::Http1,
        proxy_protocol: None,
        tls: None,
    })
});

impl Transport {
    /// Compiles what a pool wishes. Sessions of TLS are remembered as long as the result lives.
    pub(crate) fn compile(wished: &Upstream) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if *wished == Upstream::default() {
            return Arc::clone(&PLAIN);
        }
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            protocol: wished.protocol,
            proxy_protocol: wished.proxy_protocol,
            tls: wished.tls.as_ref().map(|tls| Tls::compile(tls, wished.protocol)),
        })
    }

    /// Whether requests share connections.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.protocol == UpstreamProtocol::Http2
    }

    /// How URIs of requests begin.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// Makes the TLS handshake over a new connection, where there is one to make.
    ///
    /// # Errors
    /// What rustls says: the certificate is not believed, the name is another, no common version.
    pub(crate) async fn secure(&self, stream: Stream) -> std::io::Result<EndpointStream> {
        let Some(tls) = &self.tls else {
            return Ok(EndpointStream::Plain(stream));
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let stream = connector.connect(tls.name.clone(), stream).await?;
        if self.protocol == UpstreamProtocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(std::io::Error::other("it does not speak HTTP/2 (ALPN)"));
        }
        Ok(EndpointStream::Tls(Box::new(stream)))
    }
}

impl Tls {
    fn compile(wished: &UpstreamTls, protocol: UpstreamProtocol) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .unwrap_or_else(|error| unreachable!("the provider has both versions: {error}"));
        let builder = match &wished.trust {
            Trust::System => builder.with_root_certificates(system_roots()),
            Trust::Roots(roots) => {
                let mut store = RootCertStore::empty();
                // One that rustls cannot use is believed no more than one that is not there.
                store.add_parsable_certificates(roots.iter().cloned());
                builder.with_root_certificates(store)
            }
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![match protocol {
            UpstreamProtocol::Http1 => b"http/1.1".to_vec(),
            UpstreamProtocol::Http2 => b"h2".to_vec(),
        }];
        let name = wished.server_name.as_str().to_owned();
        Self {
            config: Arc::new(config),
            name: ServerName::try_from(name)
                .unwrap_or_else(|error| unreachable!("a host name is a DNS name: {error}")),
        }
    }
}

/// The CAs of the box's system, read when the first pool asks for them.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "a CA of the system cannot be read");
        }
        store.add_parsable_certificates(found.certs);
        Arc::new(store)
    });
    Arc::clone(&ROOTS)
}

/// Believes every certificate; that its owner has the key is still proved.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
