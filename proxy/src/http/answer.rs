//! Answers of the box itself: short, plain, the same everywhere.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use super::body::Reply;
use super::exchange::{self, Exchange};
use super::grpc;
use crate::fields::names::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use crate::h1::Fault;
use crate::message::Response;
use crate::metrics::Cell;

/// What is said of methods to who asks for one that does not pass.
pub(super) const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

/// Why the box answers by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    Malformed,
    /// HTTP in the clear where TLS is spoken.
    NotTls,
    Framing,
    Host,
    Path,
    Method,
    Headers,
    Uri,
    Version,
    TooLarge,
    Expectation,
    Misdirected,
    NoRoute,
    NotReady,
    NoEndpoint,
    Unavailable,
    Overloaded,
    PoolFull,
    UpstreamFailed,
    UpstreamTimeout,
    RequestTimeout,
    /// The client's address may not come in.
    Forbidden,
    /// Too often; seconds until another request may pass.
    Rate(u32),
    /// Too many at a time.
    Concurrency,
    /// No certificate of the client.
    CertificateMissing,
    /// One that is not believed.
    CertificateRefused,
    /// No name and password that are believed.
    Credentials,
    /// Too many passwords wait to be judged.
    CredentialsBusy,
    /// No token that is believed.
    Unauthorized,
    /// The Service that is to be asked has not answered.
    AuthFailed,
}

impl Refusal {
    fn parts(self) -> (StatusCode, Cell, &'static str) {
        match self {
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                Cell::RefusedMalformed,
                "The request is malformed.\n",
            ),
            Self::NotTls => (
                StatusCode::BAD_REQUEST,
                Cell::RefusedNotTls,
                "This port speaks TLS: use https.\n",
            ),
            Self::Framing => (
                StatusCode::BAD_REQUEST,
                Cell::RefusedFraming,
                "The length of the request body is ambiguous.\n",
            ),
            Self::Host => (
                StatusCode::BAD_REQUEST,
                Cell::RefusedHost,
                "The request does not name exactly one host.\n",
            ),
            Self::Path => (
                StatusCode::BAD_REQUEST,
                Cell::RefusedPath,
                "The path is malformed or ambiguous.\n",
            ),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                Cell::RefusedMethod,
                "The method is not allowed.\n",
            ),
            Self::Headers => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Cell::RefusedHeaders,
                "The header section of the request is too large.\n",
            ),
            Self::Uri => (
                StatusCode::URI_TOO_LONG,
                Cell::RefusedUri,
                "The request target is too long.\n",
            ),
            Self::Version => (
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                Cell::RefusedVersion,
                "The HTTP version is not supported.\n",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                Cell::RefusedTooLarge,
                "The request body is too large.\n",
            ),
            Self::Expectation => (
                StatusCode::EXPECTATION_FAILED,
                Cell::RefusedExpectation,
                "The expectation cannot be met.\n",
            ),
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                Cell::Misdirected,
                "This connection is for a host with another certificate.\n",
            ),
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                Cell::NoRoute,
                "No route for this host and path.\n",
            ),
            Self::NotReady => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::Unavailable,
                "The load balancer is starting.\n",
            ),
            Self::NoEndpoint => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::NoEndpoint,
                "No endpoint of the service can be used.\n",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::Unavailable,
                "The service is not available.\n",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::Overloaded,
                "The load balancer is overloaded.\n",
            ),
            Self::PoolFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::PoolFull,
                "The service has as many requests as it may have.\n",
            ),
            Self::UpstreamFailed => (
                StatusCode::BAD_GATEWAY,
                Cell::UpstreamFailed,
                "The service did not answer properly.\n",
            ),
            Self::UpstreamTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                Cell::UpstreamTimeout,
                "The service did not answer in time.\n",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                Cell::RefusedForbidden,
                "You may not come in from there.\n",
            ),
            Self::Rate(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                Cell::RefusedRate,
                "Too many requests.\n",
            ),
            Self::Concurrency => (
                StatusCode::TOO_MANY_REQUESTS,
                Cell::RefusedConcurrency,
                "Too many requests at a time.\n",
            ),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                Cell::RefusedUnauthorized,
                "A valid token is needed.\n",
            ),
            Self::CertificateMissing => (
                StatusCode::FORBIDDEN,
                Cell::RefusedNoCertificate,
                "A certificate of the client is needed.\n",
            ),
            Self::CertificateRefused => (
                StatusCode::FORBIDDEN,
                Cell::RefusedCertificate,
                "The certificate of the client is not accepted: it is expired, revoked or of another CA.\n",
            ),
            Self::Credentials => (
                StatusCode::UNAUTHORIZED,
                Cell::RefusedCredentials,
                "A name and a password are needed.\n",
            ),
            Self::CredentialsBusy => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::RefusedBusyCredentials,
                "Too many others are signing in.\n",
            ),
            Self::AuthFailed => (
                StatusCode::SERVICE_UNAVAILABLE,
                Cell::RefusedAuth,
                "It cannot be found out whether you may come in.\n",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                Cell::RequestTimeout,
                "The request did not come in time.\n",
            ),
        }
    }
}

/// The answer for `refusal`.
pub(crate) fn refuse(refusal: Refusal, exchange: Rc<Exchange>) -> Response<Reply> {
    let (status, cell, text) = refusal.parts();
    exchange.client.worker.counters.inc(cell);
    if matches!(refusal, Refusal::CertificateMissing | Refusal::CertificateRefused) {
        // Only another handshake can change it.
        exchange.client.activity.closing.set(true);
    }
    exchange.blame(match refusal {
        Refusal::UpstreamFailed | Refusal::UpstreamTimeout => exchange::Fault::Upstream,
        Refusal::RequestTimeout => exchange::Fault::Client,
        _ => exchange::Fault::Proxy,
    });
    let challenge = match refusal {
        Refusal::Unauthorized => Some(HeaderValue::from_static("Bearer")),
        Refusal::Credentials => exchange.basic_challenge(),
        _ => None,
    };
    if let Some(content_type) = exchange.grpc.clone() {
        return grpc::status_response(status, text, content_type, exchange);
    }
    let connect = exchange.method == Method::CONNECT;
    let mut response = error_response(status, Bytes::from_static(text.as_bytes()), exchange);
    let headers = response.headers_mut();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Refusal::Rate(seconds) = refusal {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, METHODS);
    }
    // What follows on such a connection cannot be trusted to be a request; behind CONNECT it is meant to be none.
    if connect
        || matches!(
            refusal,
            Refusal::Malformed
                | Refusal::NotTls
                | Refusal::Framing
                | Refusal::Host
                | Refusal::Headers
                | Refusal::Uri
                | Refusal::Version
                | Refusal::TooLarge
                | Refusal::RequestTimeout
                | Refusal::CertificateMissing
                | Refusal::CertificateRefused
        )
    {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The page for an error, or else this text.
pub(crate) fn error_response(status: StatusCode, text: Bytes, exchange: Rc<Exchange>) -> Response<Reply> {
    let (content_type, content) = exchange.error_page(status).unwrap_or((PLAIN, text));
    own_response(status, content_type, content, exchange)
}

/// A whole answer in plain text.
pub(crate) fn text_response(status: StatusCode, text: Bytes, exchange: Rc<Exchange>) -> Response<Reply> {
    own_response(status, PLAIN, text, exchange)
}

fn own_response(
    status: StatusCode,
    content_type: HeaderValue,
    content: Bytes,
    exchange: Rc<Exchange>,
) -> Response<Reply> {
    exchange.status.set(status.as_u16());
    let length = HeaderValue::from(content.len());
    let content = if exchange.method == Method::HEAD {
        Bytes::new()
    } else {
        content
    };
    let mut response = Response::new(Reply::full(content, exchange));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length);
    response
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::Malformed,
            Fault::Uri => Self::Uri,
            Fault::TooLarge => Self::Headers,
            Fault::Version => Self::Version,
            Fault::Framing => Self::Framing,
        }
    }
}
