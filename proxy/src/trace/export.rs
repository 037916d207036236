//! The thread that sends spans to a collector.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use sekisho_config::chain;
use sekisho_config::model::Tracing;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Span, otlp};
use crate::metrics::SpanCounters;

/// Spans that wait for the exporter at most; beyond it they are dropped.
const QUEUE: usize = 8192;
/// Spans of one request.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// For one request, from the name lookup to the last octet of the answer.
const REQUEST: Duration = Duration::from_secs(10);
/// Tries of one batch; what cannot be sent then is dropped.
const TRIES: u32 = 3;
const LARGEST_ANSWER: usize = 64 * 1024;

/// The way to the exporter. What is sent carries where to.
#[derive(Clone, Debug)]
pub(crate) struct Sender(mpsc::Sender<(Arc<Tracing>, Span)>, Arc<SpanCounters>);

impl Sender {
    /// Hands a span over, or drops and counts it.
    pub(crate) fn send(&self, to: &Arc<Tracing>, span: Span) {
        if self.0.try_send((Arc::clone(to), span)).is_err() {
            self.1.dropped(1);
        }
    }
}

/// Starts the thread; it ends when the last [`Sender`] is gone and what it holds is sent, or cannot be.
pub(crate) fn exporter(
    appliance: Arc<str>,
    counters: Arc<SpanCounters>,
) -> std::io::Result<(Sender, std::thread::JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let export = Export {
        appliance,
        counters: Arc::clone(&counters),
        client: None,
        failing: false,
    };
    let thread = std::thread::Builder::new()
        .name("trace-export".into())
        .spawn(move || runtime.block_on(export.run(receiver)))?;
    Ok((Sender(sender, counters), thread))
}

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

struct Export {
    appliance: Arc<str>,
    counters: Arc<SpanCounters>,
    /// The client for the collector of the last batch.
    client: Option<(Arc<Tracing>, Https)>,
    failing: bool,
}

impl Export {
    async fn run(mut self, mut spans: mpsc::Receiver<(Arc<Tracing>, Span)>) {
        let mut next = None;
        loop {
            let Some((to, first)) = (match next.take() {
                Some(first) => Some(first),
                None => spans.recv().await,
            }) else {
                return;
            };
            let mut batch = vec![first];
            let end = Instant::now() + LINGER;
            while batch.len() < BATCH {
                match timeout_at(end, spans.recv()).await {
                    Ok(Some((other, span))) if other == to => batch.push(span),
                    Ok(Some(differs)) => {
                        next = Some(differs);
                        break;
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            self.send(&to, &batch).await;
        }
    }

    async fn send(&mut self, to: &Arc<Tracing>, batch: &[Span]) {
        let count = batch.len() as u64;
        let body = Bytes::from(otlp::request(&self.appliance, batch));
        let mut pause = Duration::from_millis(200);
        for attempt in 1..=TRIES {
            match timeout(REQUEST, self.post(to, body.clone())).await {
                Ok(Ok(())) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(collector = %to.otlp, "spans are sent again");
                    }
                    return self.counters.sent(count);
                }
                Ok(Err(Refused::Final(error))) => return self.give_up(to, count, &error),
                Ok(Err(Refused::Again(error))) if attempt == TRIES => return self.give_up(to, count, &error),
                Err(_) if attempt == TRIES => return self.give_up(to, count, "no answer in time"),
                Ok(Err(Refused::Again(_))) | Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 4;
                }
            }
        }
    }

    fn give_up(&mut self, to: &Tracing, count: u64, error: &str) {
        self.counters.failed(count);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(collector = %to.otlp, error, "spans cannot be sent; they are dropped and counted until they can");
        }
    }

    async fn post(&mut self, to: &Arc<Tracing>, body: Bytes) -> Result<(), Refused> {
        let client = match &self.client {
            Some((same, client)) if same == to => client.clone(),
            _ => {
                let client = client(to).map_err(Refused::Final)?;
                self.client = Some((Arc::clone(to), client.clone()));
                client
            }
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("{}/v1/traces", to.otlp.trim_end_matches('/'))
            .parse()
            .map_err(|error| Refused::Final(format!("{error}")))?;
        request.headers_mut().insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let answer = client
            .request(request)
            .await
            .map_err(|error| Refused::Again(chain(&error)))?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again.
        let _ = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        match status.as_u16() {
            200..=299 => Ok(()),
            // The ones that OTLP calls retryable.
            429 | 502..=504 => Err(Refused::Again(format!("status {status}"))),
            _ => Err(Refused::Final(format!("status {status}"))),
        }
    }
}

/// Why a batch was not taken.
enum Refused {
    Again(String),
    Final(String),
}

fn client(to: &Tracing) -> Result<Https, String> {
    let mut roots = RootCertStore::empty();
    match &to.ca_file {
        Some(pem) => {
            use rustls_pki_types::pem::PemObject;
            for root in rustls_pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let root = root.map_err(|error| format!("tracing.ca_file: {error}"))?;
                roots
                    .add(root)
                    .map_err(|error| format!("tracing.ca_file: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .build(connector))
}
