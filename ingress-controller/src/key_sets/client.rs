//! Asks for one key set.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sekisho_config::chain;
use tokio::time::timeout;

use crate::translate::usable_key_set;

/// From the first look for the address to the last octet of the answer.
const LONGEST: Duration = Duration::from_secs(10);
const LARGEST: usize = 256 * 1024;

/// Speaks HTTPS only, follows no redirect, and keeps no connection for long.
#[derive(Clone, Debug)]
pub(super) struct Client(Hyper<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Client {
    /// With these roots (PEM) instead of the system's.
    pub(super) fn new(roots: Option<&str>) -> Result<Self, String> {
        let mut store = rustls::RootCertStore::empty();
        match roots {
            Some(pem) => {
                for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let root = root.map_err(|error| format!("key_sets.ca_file: {error}"))?;
                    store
                        .add(root)
                        .map_err(|error| format!("key_sets.ca_file: {error}"))?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(LONGEST / 2));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Hyper::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(5))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self(client))
    }

    /// The key set that is there, checked.
    pub(super) async fn fetch(&self, url: &str) -> Result<Arc<str>, String> {
        timeout(LONGEST, self.ask(url))
            .await
            .unwrap_or_else(|_| Err(format!("no whole answer within {} s", LONGEST.as_secs())))
    }

    async fn ask(&self, url: &str) -> Result<Arc<str>, String> {
        let mut request = Request::get(url)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let fields = request.headers_mut();
        fields.insert(
            ACCEPT,
            HeaderValue::from_static("application/jwk-set+json, application/json"),
        );
        fields.insert(USER_AGENT, HeaderValue::from_static("sekisho"));
        let answer = self.0.request(request).await.map_err(|error| chain(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the answer is {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| chain(&*error))?.to_bytes();
        let text = std::str::from_utf8(&body).map_err(|_| "the answer is no text".to_owned())?;
        usable_key_set(text)
    }
}
