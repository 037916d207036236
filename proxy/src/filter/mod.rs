//! What is done with a request of a route before it goes on, and with the answer before it goes back. Compiled once for
//! each route; a route without filters costs one look at a pointer.

mod cors;
mod edit;
mod place;
mod rewrite;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use sekisho_config::model::{ErrorPages, Filters, Route};

use self::edit::Edits;
use self::rewrite::Base;
use crate::door;
use crate::fields::names::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use crate::fields::{Fields, Name, Value};

/// The filters of one route.
#[derive(Debug)]
pub(crate) struct Compiled {
    wished: Arc<Filters>,
    base: Base,
    request: Edits,
    response: Edits,
    cors: Option<cors::Compiled>,
    host: Option<HeaderValue>,
    door: Option<door::Compiled>,
}

/// What of a request the filters look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a Method,
    /// The client's address.
    pub(crate) client: IpAddr,
    /// `http` or `https`, as the client sees it.
    pub(crate) scheme: &'a str,
    /// The host and port that it asks for, where it names one.
    pub(crate) host: Option<&'a str>,
    /// In normal form.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a Fields,
}

/// An answer of the box itself that a filter gives. Where an error has no text, the page for it stands there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Fields,
    pub(crate) text: Bytes,
}

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: Fields::new(),
            text: Bytes::new(),
        }
    }

    fn text(status: StatusCode, text: &str) -> Self {
        let mut answer = Self::new(status);
        let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers.append(CONTENT_TYPE, media_type);
        answer.text = Bytes::copy_from_slice(text.as_bytes());
        answer
    }
}

impl Compiled {
    /// The filters of `route`; `None` when it has none.
    pub(crate) fn compile(route: &Route) -> Option<Arc<Self>> {
        let wished = route.filters.as_ref().filter(|filters| !filters.is_empty())?;
        Some(Arc::new(Self {
            base: Base::compile(&route.path),
            request: Edits::compile(&wished.request_headers),
            response: Edits::compile(&wished.response_headers),
            cors: wished.cors.as_ref().map(cors::Compiled::compile),
            host: wished
                .rewrite_host
                .as_deref()
                .and_then(|host| HeaderValue::from_str(host).ok()),
            door: door::Compiled::compile(&route.id.ingress, &wished.door),
            wished: Arc::clone(wished),
        }))
    }

    /// As they were wished.
    pub(crate) fn wished(&self) -> &Filters {
        &self.wished
    }

    /// Who may come in.
    pub(crate) fn door(&self) -> Option<&door::Compiled> {
        self.door.as_ref()
    }

    /// Whether `%2F` may stand in a path.
    pub(crate) fn encoded_slash(&self) -> bool {
        self.wished.encoded_slash
    }

    /// Octets of a request body at most, where the route says.
    pub(crate) fn max_body_bytes(&self) -> Option<u64> {
        self.wished.max_body_bytes
    }

    /// Octets up to which a request body is gathered before an endpoint is asked.
    pub(crate) fn buffer_requests(&self) -> Option<u64> {
        self.wished.buffer_requests
    }

    /// Octets up to which an answer is gathered before it goes on.
    pub(crate) fn buffer_responses(&self) -> Option<u64> {
        self.wished.buffer_responses
    }

    /// For one connection to an endpoint.
    pub(crate) fn connect_wait(&self) -> Option<Duration> {
        self.wished.waits.connect
    }

    /// For an answer to begin, and between two reads of it.
    pub(crate) fn response_read_wait(&self) -> Option<Duration> {
        self.wished.waits.response_read
    }

    /// What has to be said before anybody is asked who they are: over TLS only, preflights, maintenance.
    pub(crate) fn first_answer(&self, seen: &Seen<'_>) -> Option<Answer> {
        if self.wished.https_only && seen.scheme == "http" {
            return Some(match place::over_tls(seen) {
                Some(location) => redirect(StatusCode::PERMANENT_REDIRECT, location),
                // HTTP/1.0 without a host: there is no place to send it to.
                None => Answer::text(StatusCode::BAD_REQUEST, "This is served over TLS only.\n"),
            });
        }
        if let Some(answer) = self.cors.as_ref().and_then(|cors| cors.preflight(seen)) {
            return Some(answer);
        }
        self.fixed(seen.client)
    }

    /// Maintenance, for whom it is not served as ever.
    fn fixed(&self, client: IpAddr) -> Option<Answer> {
        let fixed = self.wished.answer.as_ref()?;
        if fixed.except.iter().any(|network| network.contains(client)) {
            return None;
        }
        let status = StatusCode::from_u16(fixed.status).ok()?;
        let mut answer = if fixed.text.is_empty() || status == StatusCode::NO_CONTENT {
            Answer::new(status)
        } else {
            Answer::text(status, &format!("{}\n", fixed.text))
        };
        if let Some(after) = fixed.retry_after {
            answer
                .headers
                .append(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        Some(answer)
    }

    /// The pages for errors that the box answers.
    pub(crate) fn error_pages(&self) -> Option<&ErrorPages> {
        self.wished.error_pages.as_deref()
    }

    /// Where the request is sent instead of a Service.
    pub(crate) fn redirect(&self, seen: &Seen<'_>) -> Option<Answer> {
        let wished = self.wished.redirect.as_ref()?;
        let status = StatusCode::from_u16(wished.status).ok()?;
        let path = wished
            .path
            .as_ref()
            .map(|template| self.base.replace(seen.path, template));
        let location = place::elsewhere(wished, seen, path.as_deref().unwrap_or(seen.path))?;
        Some(redirect(status, location))
    }

    /// The path that the Service sees, if it is another one; not in normal form yet.
    pub(crate) fn path(&self, path: &str) -> Option<String> {
        let template = self.wished.rewrite_path.as_ref()?;
        Some(self.base.replace(path, template))
    }

    /// Changes the header section of a request on its way to a Service.
    pub(crate) fn request(&self, headers: &mut Fields) {
        if let Some(host) = &self.host {
            headers.insert(crate::fields::names::HOST, host);
        }
        self.request.apply(headers);
    }

    /// Takes out of a request's trailers what the route itself says in its header section: a server that joins the two
    /// would believe the client.
    pub(crate) fn request_trailers(&self, trailers: &mut Fields) {
        let owned = |name: Name<'_>| {
            self.request.decides(name) || self.door.as_ref().is_some_and(|door| door.decides(name))
        };
        trailers.retain(|name, _| !owned(name));
    }

    /// Changes the header section of an answer, whoever wrote it. `origin` is that of the request.
    pub(crate) fn response(&self, headers: &mut Fields, origin: Option<Value<'_>>) {
        if let Some(cors) = &self.cors {
            cors.response(headers, origin);
        }
        self.response.apply(headers);
    }

    /// Whether answers depend on the origin of the request.
    pub(crate) fn wants_origin(&self) -> bool {
        self.cors.is_some()
    }
}

fn redirect(status: StatusCode, location: HeaderValue) -> Answer {
    let mut answer = Answer::new(status);
    answer.headers.append(LOCATION, location);
    answer
}
