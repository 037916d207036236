//! What QUIC is told: limits, keys, connection IDs.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac, rand};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};

use crate::snapshot::Snapshot;
use crate::socket;
use crate::start::{Live, StartError};

/// What a stream may send ahead of the pod, and a whole connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Octets of answers that wait in a connection to be sent or acknowledged.
const SEND_WINDOW: u64 = 1024 * 1024;
/// Unidirectional streams of a client: three of HTTP/3, and some that nobody knows.
const UNI_STREAMS: u32 = 8;
/// Handshakes that wait for a worker to look at them, and octets that wait with them.
const INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 32 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;
/// How long a client that was sent a Retry may take.
const RETRY_LIFETIME: Duration = Duration::from_secs(15);

/// TLS of all HTTP/3 listeners.
#[derive(Clone)]
pub(crate) struct Tls(Arc<dyn quinn::crypto::ServerConfig>);

impl Tls {
    /// Takes settings of TLS 1.3.
    ///
    /// # Errors
    /// They lack the cipher suite that every connection begins with.
    pub(crate) fn new(config: Arc<rustls::ServerConfig>) -> Result<Self, StartError> {
        let config = QuicServerConfig::try_from(config)
            .map_err(|error| StartError::Tls(rustls::Error::General(error.to_string())))?;
        Ok(Self(Arc::new(config)))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Keys that all workers of a listener share.
///
/// They come from the key of the cookies, so that they are the same after a restart: a client whose connection is not known any
/// more is told so at once (stateless reset, RFC 9000 section 10.3), and need not wait. A token of a Retry is good on every box
/// with that key; resets are each box's own, for a box that could reset the connections of another one would do so whenever a
/// datagram strays (RFC 9000 section 21.11).
pub(crate) struct Keys {
    reset: Arc<hmac::Key>,
    token: Arc<hkdf::Prk>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    pub(crate) fn new(snapshot: &Snapshot, appliance: &str) -> Self {
        let key = |purpose: &str| {
            snapshot.derived_key(purpose.as_bytes()).unwrap_or_else(|| {
                let mut octets = [0; 32];
                // A system without randomness has not come so far: TLS was set up.
                let _ = rand::fill(&mut octets);
                octets
            })
        };
        Self {
            reset: Arc::new(hmac::Key::new(
                hmac::HMAC_SHA256,
                &key(&format!("quic reset {appliance}")),
            )),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&key("quic token"))),
        }
    }

    /// What one worker's endpoint is told.
    pub(super) fn endpoint(&self, worker: u16, workers: u16) -> EndpointConfig {
        let reset = Arc::clone(&self.reset);
        let mut config = EndpointConfig::new(reset);
        config.cid_generator(move || Box::new(Ids { worker, workers }));
        config
    }

    /// What new connections are told.
    pub(super) fn server(&self, tls: &Tls, live: &Live) -> ServerConfig {
        let token = Arc::clone(&self.token);
        let mut config = ServerConfig::new(Arc::clone(&tls.0), token);
        config
            .transport_config(Arc::new(transport(live)))
            .retry_token_lifetime(RETRY_LIFETIME)
            .migration(true)
            .max_incoming(INCOMING)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
        config
    }
}

fn transport(live: &Live) -> TransportConfig {
    let timeouts = &live.timeouts;
    // The connection's own task ends what is idle, and says so. This is for clients that have vanished.
    let idle = [
        timeouts.keep_alive,
        timeouts.request_header,
        timeouts.request_body,
        timeouts.response_read,
        timeouts.response_write,
    ];
    let idle = idle.into_iter().max().unwrap_or_default() + Duration::from_secs(5);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(live.http.max_concurrent_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(idle).ok());
    transport
}

/// Makes connection IDs that name a worker, to those who know how many there are; else they are random.
#[derive(Debug)]
struct Ids {
    worker: u16,
    workers: u16,
}

/// Octets of a connection ID.
const ID: usize = 8;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut octets = [0; ID];
        // Without randomness the IDs of a worker are all the same, and quinn looks for another one in vain: TLS would have failed.
        let _ = rand::fill(&mut octets);
        let [a, b, ..] = &mut octets;
        let [first, second] = place([*a, *b], self.worker, self.workers).to_be_bytes();
        (*a, *b) = (first, second);
        ConnectionId::new(&octets)
    }

    fn cid_len(&self) -> usize {
        ID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The number next to a random one that names `worker`.
fn place(random: [u8; 2], worker: u16, workers: u16) -> u16 {
    let number = u16::from_be_bytes(random) - socket::worker_of(random, workers);
    number
        .checked_add(worker)
        .unwrap_or_else(|| number - workers.max(1) + worker)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_names_its_worker(random: [u8; 2], workers in 1u16..=1024, worker in any::<u16>()) {
            let worker = worker % workers;
            let named = place(random, worker, workers);
            prop_assert_eq!(socket::worker_of(named.to_be_bytes(), workers), worker);
        }
    }

    #[test]
    fn keys_stay_with_the_key_of_the_cookies() {
        use quinn::crypto::HmacKey;
        let sign = |keys: &Keys| {
            let mut out = [0; 32];
            HmacKey::sign(&*keys.reset, b"id", &mut out);
            out
        };
        let snapshot = |key: &[u8]| {
            let desired = sekisho_config::model::Desired {
                sticky_key: Some(sekisho_config::model::Secret::new(key)),
                ..Default::default()
            };
            let (observed, routing) = (Default::default(), sekisho_config::model::Routing::Off);
            crate::snapshot::compile(
                &Snapshot::default(),
                &desired,
                &observed,
                routing,
                Default::default(),
            )
        };
        let (one, two) = (snapshot(b"one"), snapshot(b"two"));
        assert_eq!(sign(&Keys::new(&one, "a")), sign(&Keys::new(&one, "a")));
        assert_ne!(sign(&Keys::new(&one, "a")), sign(&Keys::new(&one, "b")));
        assert_ne!(sign(&Keys::new(&one, "a")), sign(&Keys::new(&two, "a")));
        let none = Snapshot::default();
        assert_ne!(sign(&Keys::new(&none, "a")), sign(&Keys::new(&none, "a")));
    }
}
