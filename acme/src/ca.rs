//! The HTTP client for talking to a CA: every request bounded in time and size, roots of the system and of `ca_file`.

use std::error::Error as _;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sekisho_config::chain;

use crate::failure::{Failure, FailureKind};

/// For one request, from the name lookup to the last octet of the answer.
const REQUEST: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

/// The largest answer is a chain of certificates.
const LARGEST_ANSWER: usize = 256 * 1024;

/// A client with its connections, for one CA.
#[derive(Clone, Debug)]
pub(crate) struct Ca {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
}

impl Ca {
    /// Trusts the roots of the system, and those in `ca_file`.
    ///
    /// # Errors
    /// A [`Failure`] that holds up every set: a file that cannot be read, or no root at all.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, Failure> {
        let fault = |text: String| Failure::new(FailureKind::Unreachable, text);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            let bad = |why: String| {
                fault(format!(
                    "acme.ca_file: {}: {why}; write a PEM file with the root certificate of the CA",
                    path.display()
                ))
            };
            let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
            let mut added = 0_usize;
            for root in CertificateDer::pem_slice_iter(&text) {
                let root = root.map_err(|error| bad(error.to_string()))?;
                roots.add(root).map_err(|error| bad(error.to_string()))?;
                added = added.saturating_add(1);
            }
            if added == 0 {
                return Err(bad("no certificate in it".to_owned()));
            }
        }
        if roots.is_empty() {
            return Err(fault(
                "the system has no root certificates to check the CA with; install ca-certificates or set acme.ca_file"
                    .to_owned(),
            ));
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .build(connector),
        })
    }

    /// A client for one order, and the Retry-After of the answers it gets.
    ///
    /// `instant-acme` drops that header from errors, where it matters most.
    pub(crate) fn for_order(&self) -> (Box<dyn HttpClient>, RetryAfter) {
        let retry_after = RetryAfter::default();
        (
            Box::new(Noting {
                ca: self.clone(),
                retry_after: retry_after.clone(),
            }),
            retry_after,
        )
    }
}

/// Retry-After of the latest answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryAfter(Arc<Mutex<Option<SignedDuration>>>);

impl RetryAfter {
    /// How long to wait, if the latest answer said so.
    pub(crate) fn wait(&self) -> Option<SignedDuration> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, wait: Option<SignedDuration>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = wait;
    }
}

struct Noting {
    ca: Ca,
    retry_after: RetryAfter,
}

impl HttpClient for Noting {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = self.ca.client.request(request);
        let retry_after = self.retry_after.clone();
        Box::pin(async move {
            retry_after.note(None);
            let whole = async {
                let (parts, body) = answer
                    .await
                    .map_err(|error| Error::Other(words(&error).into()))?
                    .into_parts();
                let body = Limited::new(body, LARGEST_ANSWER)
                    .collect()
                    .await
                    .map_err(Error::Other)?;
                Ok::<_, Error>((parts, body.to_bytes()))
            };
            let (parts, body) = match tokio::time::timeout(REQUEST, whole).await {
                Ok(answer) => answer?,
                Err(_) => {
                    return Err(Error::Other(
                        format!("no answer within {} s", REQUEST.as_secs()).into(),
                    ));
                }
            };
            let header = parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok());
            retry_after.note(header.and_then(|text| parse_retry_after(text, Timestamp::now())));
            Ok(BytesResponse {
                parts,
                body: Box::new(body),
            })
        })
    }
}

/// The chain of causes in one line; the outermost, `client error (Connect)`, helps nobody.
fn words(error: &hyper_util::client::legacy::Error) -> String {
    let why = error.source().map_or_else(|| error.to_string(), chain);
    if why.contains("UnknownIssuer") {
        format!("{why}; if the CA is private, set acme.ca_file to its root certificate")
    } else {
        format!("{why}; check acme.directory, DNS and the way from this box to the CA")
    }
}

/// `delay-seconds` or an HTTP date (RFC 9110 section 10.2.3).
fn parse_retry_after(text: &str, now: Timestamp) -> Option<SignedDuration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Some(
            text.parse()
                .map_or(SignedDuration::MAX, SignedDuration::from_secs),
        );
    }
    // RFC 2822 dates contain the preferred form of HTTP dates.
    let at = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(at.duration_since(now).max(SignedDuration::ZERO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        for (text, want) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 22 Nov 2026 08:01:00 GMT", Some(60)),
            ("Sun, 22 Nov 2026 07:00:00 GMT", Some(0)),
            ("99999999999999999999", Some(i64::MAX)),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(
                parse_retry_after(text, now).map(|wait| wait.as_secs()),
                want,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_ca_file_that_is_none_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.pem");
        for content in [
            None,
            Some(""),
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let failure = Ca::new(Some(&path)).unwrap_err();
            assert!(failure.message.contains("root.pem"), "{}", failure.message);
            assert!(failure.kind.blame().ca());
        }
    }

    proptest! {
        #[test]
        fn any_retry_after_is_safe(text: String) {
            if let Some(wait) = parse_retry_after(&text, Timestamp::UNIX_EPOCH) {
                prop_assert!(wait >= SignedDuration::ZERO);
            }
        }
    }
}
