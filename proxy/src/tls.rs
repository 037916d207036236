//! TLS towards clients: TLS 1.2 and 1.3, the certificate by SNI from the snapshot, resumption by tickets.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::snapshot::Snapshot;

/// Chooses the certificate for a handshake from the snapshot of that moment.
#[derive(Debug)]
struct BySni(Arc<ArcSwap<Snapshot>>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands the name over in lower case only if the client sent it so.
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        self.0.load().signing_key(sni.as_deref()).0
    }
}

/// The TLS settings of HTTP/3: TLS 1.3 (RFC 9001 section 4.2) with the same certificates. Nothing is taken before the handshake
/// is over: a request in 0-RTT could be played again by whoever has seen it.
///
/// # Errors
/// When the cryptography library refuses.
pub(crate) fn quic_config(snapshot: Arc<ArcSwap<Snapshot>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni(snapshot)));
    config.alpn_protocols = vec![b"h3".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 2;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The TLS settings of every HTTPS listener. No session is kept in memory, so that there is no cache to lock; tickets
/// are encrypted with keys that rustls rotates by itself (every 6 h, good for 12 h). All workers share the keys, or a
/// client would resume only where it was before; rustls reads them under a lock that is written four times a day.
///
/// # Errors
/// When the cryptography library refuses.
pub(crate) fn server_config(snapshot: Arc<ArcSwap<Snapshot>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni(snapshot)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 2;
    Ok(Arc::new(config))
}
