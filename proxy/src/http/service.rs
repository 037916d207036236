//! A request from its header to its answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use sekisho_config::model::{LogFormat, ObjectName};

use super::answer::{self, Refusal, error_response, refuse, text_response};
use super::body::{ClientBody, Reply};
use super::connection::Client;
use super::exchange::{Exchange, Phase, Target};
use super::respond::Respond;
use super::{coded, forward, grpc, headers, held, host, http2};
use crate::compress::{self, Coding};
use crate::fields::names::{
    ALLOW, ALT_SVC, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, ORIGIN, REFERER, SERVER, USER_AGENT,
};
use crate::fields::{Fields, Value};
use crate::h1::request::{MAX_METHOD, plain_length};
use crate::message::{Response, request};
use crate::path::{Normal, normal_form};
use crate::route::Asked;
use crate::snapshot::Snapshot;
use crate::trace::context::{Context, Parent, TRACEPARENT};
use crate::worker::World;
use crate::{client_auth, clock, door, filter, metrics};

const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Answers one request. Never fails: what goes wrong is an answer or a broken body.
pub(crate) async fn serve(client: Rc<Client>, parts: request::Parts, body: ClientBody) -> Response<Reply> {
    let snapshot = client.worker.snapshot();
    let exchange = begin(&client, &parts, &snapshot, body.respond());
    let version = parts.version;
    let mut response = match judge(&exchange, &snapshot, parts) {
        Ok(Judged::Forward(mut forward)) => match let_in(&mut forward, &snapshot, &exchange).await {
            Ok(None) => forwarded(*forward, body, &exchange).await,
            Ok(Some(answer)) => own(answer, &exchange),
            Err(refusal) => refuse(refusal, Rc::clone(&exchange)),
        },
        Ok(Judged::Answer(answer)) => own(answer, &exchange),
        Ok(Judged::Challenge(answer)) => {
            client.worker.counters.inc(metrics::Cell::ChallengeAnswered);
            let mut response = text_response(StatusCode::OK, Bytes::from(answer), Rc::clone(&exchange));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            response
        }
        Err(refusal) => refuse(refusal, Rc::clone(&exchange)),
    };
    finish(&client, version, &mut response);
    if let Some(filters) = exchange
        .target
        .borrow()
        .as_ref()
        .and_then(|target| target.filters.as_deref())
    {
        let origin = exchange.origin.borrow();
        filters.response(response.headers_mut(), origin.as_ref().map(Value::from));
    }
    if let Coding::On(encoding) = exchange.coding.get() {
        response = coded::compress(response, encoding, &exchange);
    }
    response
}

/// What a Service answers, gathered where the route wants that.
async fn forwarded(forward: forward::Forward, body: ClientBody, exchange: &Rc<Exchange>) -> Response<Reply> {
    let response = forward::forward(forward, body, exchange).await;
    let Some(most) = exchange.buffer_responses() else {
        return response;
    };
    match held::hold(response, most, exchange).await {
        Ok(response) => response,
        Err(refusal) => refuse(refusal, Rc::clone(exchange)),
    }
}

/// Answers a request that could not be read, or may not pass as it stands.
pub(crate) fn refused(client: &Rc<Client>, parts: &request::Parts, refusal: Refusal) -> Response<Reply> {
    let exchange = begin(client, parts, &client.worker.snapshot(), None);
    parts.uri.path().clone_into(&mut exchange.path.borrow_mut());
    let mut response = refuse(refusal, exchange);
    finish(client, parts.version, &mut response);
    response
}

/// What every answer carries.
fn finish(client: &Client, version: Version, response: &mut Response<Reply>) {
    let streams = version >= Version::HTTP_2;
    let fields = response.headers_mut();
    fields.or_insert(SERVER, || HeaderValue::from_static("sekisho"));
    if let Some(value) = client.alt_svc() {
        fields.insert(ALT_SVC, value);
    }
    if streams {
        // HTTP/2 and HTTP/3 have no such field (RFC 9113 section 8.2.2, RFC 9114 section 4.2).
        fields.remove(CONNECTION);
    }
    let (activity, live) = (&client.activity, &client.live);
    if activity.requests.get() >= live.http.max_requests_per_connection
        || activity.age() >= live.timeouts.connection_age
        || client.worker.stop.is_given()
    {
        activity.closing.set(true);
        if !streams && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// An answer that a filter gives.
fn own(answer: filter::Answer, exchange: &Rc<Exchange>) -> Response<Reply> {
    let filter::Answer {
        status,
        headers,
        text,
    } = answer;
    let mut response = if text.is_empty() {
        error_response(status, Bytes::new(), Rc::clone(exchange))
    } else {
        text_response(status, text, Rc::clone(exchange))
    };
    let fields = response.headers_mut();
    if status == StatusCode::NO_CONTENT {
        // Such an answer has no content and says nothing of its length (RFC 9110 section 8.6).
        fields.remove(CONTENT_LENGTH);
        fields.remove(CONTENT_TYPE);
    }
    // They take the place of the box's own, but not of each other: there may be several of one name.
    for name in headers.keys() {
        fields.remove(name);
    }
    fields.extend(&headers);
    response
}

fn begin(
    client: &Rc<Client>,
    parts: &request::Parts,
    snapshot: &Snapshot,
    respond: Option<Respond>,
) -> Rc<Exchange> {
    let worker = &client.worker;
    client.activity.request_began();
    worker.counters.inc(metrics::Cell::InFlight);
    worker.counters.inc(match parts.version {
        Version::HTTP_10 => metrics::Cell::Http10,
        Version::HTTP_2 => metrics::Cell::Http2,
        Version::HTTP_3 => metrics::Cell::Http3,
        _ => metrics::Cell::Http11,
    });
    let request_id = parts
        .headers
        .get(headers::X_REQUEST_ID)
        .filter(|id| headers::good_request_id(*id))
        .map(HeaderValue::from);
    let address = if client.trusted {
        headers::client(&parts.headers, client.peer().ip(), &client.live.trusted_proxies)
    } else {
        client.peer().ip()
    };
    let now = clock::now();
    let grpc = grpc::content_type(parts.version, &parts.headers);
    Rc::new(Exchange {
        client: Rc::clone(client),
        address,
        started: now,
        revision: snapshot.revision(),
        method: parts.method.clone(),
        version: parts.version,
        host: RefCell::default(),
        path: RefCell::default(),
        certified: RefCell::default(),
        user: RefCell::default(),
        user_agent: (client.live.http.access_log || client.live.tracing.is_some())
            .then(|| parts.headers.get(USER_AGENT).map(HeaderValue::from))
            .flatten(),
        referer: match client.live.access_log.format {
            LogFormat::Combined => parts.headers.get(REFERER).map(HeaderValue::from),
            LogFormat::Json => None,
        },
        trace: client.live.tracing.as_ref().and_then(|tracing| {
            let parent = parts.headers.get(TRACEPARENT).map(Value::as_bytes);
            let mut dice = worker.dice.borrow_mut();
            let roll = &mut || dice.roll();
            Context::begin(
                parent.and_then(Parent::parse),
                client.trusted,
                tracing.sample_one_in,
                roll,
            )
        }),
        request_id: request_id.unwrap_or_else(|| worker.request_id()),
        deadline: grpc
            .as_ref()
            .and_then(|_| grpc::timeout(&parts.headers))
            .and_then(|timeout| now.checked_add(timeout)),
        grpc,
        respond,
        ticket: RefCell::default(),
        origin: RefCell::default(),
        held: RefCell::default(),
        shadow: false,
        coding: Cell::default(),
        target: RefCell::default(),
        endpoint: RefCell::default(),
        place: RefCell::default(),
        answer_due: Cell::new(None),
        status: Cell::new(0),
        bytes_in: Cell::new(0),
        bytes_out: Cell::new(0),
        retries: Cell::new(0),
        phase: Cell::new(Phase::Request),
        fault: Cell::new(None),
        complete: Cell::new(false),
        body_read: Cell::new(false),
        body_last: Cell::new(now),
        answer_last: Cell::new(None),
        chosen: Cell::new(None),
        connected: Cell::new(None),
        first_byte: Cell::new(None),
    })
}

/// What is to be done with a request that may pass.
enum Judged {
    Challenge(String),
    Answer(filter::Answer),
    Forward(Box<forward::Forward>),
}

fn judge(exchange: &Exchange, snapshot: &World, mut parts: request::Parts) -> Result<Judged, Refusal> {
    let client = &exchange.client;
    // Kept for the log even when it is refused, in the form in which it came.
    let refuse = |path: &str, refusal| {
        path.clone_into(&mut exchange.path.borrow_mut());
        Err(refusal)
    };
    let Ok(host) = host::of(parts.version, &parts.uri, &parts.headers) else {
        return refuse(parts.uri.path(), Refusal::Host);
    };
    exchange.host.borrow_mut().clone_from(&host);
    let name = match host
        .as_ref()
        .map(|host| host.to_str().map_or(Err(host::BadHost::Malformed), host::name))
    {
        None => None,
        Some(Ok(name)) => name,
        Some(Err(_)) => return refuse(parts.uri.path(), Refusal::Host),
    };
    let length = plain_length(&mut parts.headers).map_err(Refusal::from);
    if let Err(refusal) = length.and_then(|()| check_fields(client, &parts)) {
        return refuse(parts.uri.path(), refusal);
    }
    let asterisk = parts.method == Method::OPTIONS && parts.uri.path() == "*";
    let normal = if asterisk {
        normal_form("/")
    } else {
        normal_form(parts.uri.path())
    };
    let Ok(Normal { path, encoded_slash }) = normal else {
        return refuse(parts.uri.path(), Refusal::Path);
    };
    path.as_ref().clone_into(&mut exchange.path.borrow_mut());
    if client.tls.is_none()
        && let Some(token) = path.strip_prefix(CHALLENGE)
        && let Some(answer) = snapshot.answer(token)
    {
        return Ok(Judged::Challenge(answer.key_authorization.to_string()));
    }
    if client.worker.sheds.get() {
        return Err(Refusal::Overloaded);
    }
    if misdirected(client, snapshot, host.as_ref(), name.as_deref()) {
        return Err(Refusal::Misdirected);
    }
    if parts.method == Method::OPTIONS && headers::is_last(&mut parts.headers) {
        let mut answer = filter::Answer::new(StatusCode::OK);
        answer.headers.append(ALLOW, answer::METHODS);
        return Ok(Judged::Answer(answer));
    }
    let found = snapshot.find_text(
        name.as_deref(),
        Asked {
            path: &path,
            method: &parts.method,
            headers: Some(&parts.headers),
            query: parts.uri.query(),
        },
    );
    let Some(winner) = found.winner else {
        return Err(if encoded_slash {
            Refusal::Path
        } else if snapshot.source_ready() {
            Refusal::NoRoute
        } else {
            Refusal::NotReady
        });
    };
    if encoded_slash && !winner.filters.is_some_and(|filters| filters.encoded_slash()) {
        return Err(Refusal::Path);
    }
    let target = snapshot.target(&winner, &client.worker.dice);
    *exchange.target.borrow_mut() = Some(Rc::clone(&target));
    let filters = target.filters.as_deref();
    if exchange.grpc.is_none() {
        let wish = compress::Wish::new(
            filters.map(filter::Compiled::wished),
            &client.live.http.compression,
        );
        exchange.coding.set(wish.coding(parts.version, &parts.headers));
    }
    if let Some(filters) = filters
        && let Some(answer) = filtered(exchange, filters, &parts, (host.as_ref(), name.as_deref()), &path)?
    {
        return Ok(Judged::Answer(answer));
    }
    let rewritten = match filters.and_then(|filters| filters.path(&path)) {
        Some(rewritten) if !asterisk => match normal_form(&rewritten) {
            Ok(normal) if encoded_slash || !normal.encoded_slash => Some(normal.path.into_owned()),
            _ => return Err(Refusal::Path),
        },
        _ => None,
    };
    if target.pool.is_none() {
        return Err(Refusal::Unavailable);
    }
    let upgrade = match parts.extensions.get::<http2::WebSocket>() {
        Some(_) => Some(HeaderValue::from_static("websocket")),
        None => headers::wanted_upgrade(parts.version, &parts.headers),
    };
    let (element, peer) = client.said.values();
    headers::prepare_request(
        &mut parts.headers,
        parts.version,
        &headers::Forwarding {
            peer,
            element,
            scheme: client.scheme(),
            port: &client.port_value,
            trusted: client.trusted,
            host: host.as_ref(),
        },
    );
    parts.headers.insert(headers::X_REQUEST_ID, &exchange.request_id);
    if let Some(trace) = &exchange.trace
        && let Ok(field) = HeaderValue::try_from(trace.field())
    {
        parts.headers.insert(TRACEPARENT, field);
    }
    parts.uri = target_uri(&parts.uri, rewritten.as_deref().unwrap_or(&path), asterisk)?;
    Ok(Judged::Forward(Box::new(forward::Forward {
        parts,
        target,
        upgrade,
        mirror: None,
    })))
}

/// What the filters of a route answer by themselves.
fn filtered(
    exchange: &Exchange,
    filters: &filter::Compiled,
    parts: &request::Parts,
    (host, name): (Option<&HeaderValue>, Option<&str>),
    path: &str,
) -> Result<Option<filter::Answer>, Refusal> {
    let client = &exchange.client;
    if let Some(door) = filters.door() {
        door.lets_in(exchange.address)?;
    }
    if filters.wants_origin() {
        *exchange.origin.borrow_mut() = parts.headers.get(ORIGIN).map(HeaderValue::from);
    }
    let seen = filter::Seen {
        method: &parts.method,
        client: exchange.address,
        scheme: if client.trusted && headers::forwarded_over_tls(&parts.headers) {
            "https"
        } else {
            client.scheme()
        },
        host: host.and_then(|host| host.to_str().ok()),
        path,
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    if let Some(answer) = filters.first_answer(&seen) {
        return Ok(Some(answer));
    }
    if let Some(auth) = filters.door().and_then(door::Compiled::client_auth) {
        if parts.version == Version::HTTP_3 {
            // No certificate is asked for there: the client is to come over TCP (RFC 7838 section 6).
            return Err(Refusal::Misdirected);
        }
        let tls = client.tls.as_ref();
        let tls = tls.map(|tls| (tls.sni.as_deref(), tls.peer.as_ref()));
        *exchange.certified.borrow_mut() = auth.check(tls, name)?.cloned();
    }
    if let Some(door) = filters.door() {
        let doors = &client.worker.shared.doors;
        let ticket = door.count(doors, &client.worker.counters, exchange.address, &parts.headers)?;
        *exchange.ticket.borrow_mut() = ticket;
    }
    Ok(filters.redirect(&seen))
}

/// Asks whether a request may go on, where its route wants that, and then changes its header section; else the answer.
async fn let_in(
    forward: &mut forward::Forward,
    snapshot: &World,
    exchange: &Rc<Exchange>,
) -> Result<Option<filter::Answer>, Refusal> {
    let Some(filters) = forward.target.filters.clone() else {
        return Ok(None);
    };
    if let Some(auth) = filters.door().and_then(door::Compiled::client_auth) {
        auth.pass(&mut forward.parts.headers, exchange.certified.borrow().as_deref());
    }
    if let Some(door) = filters.door()
        && let Some(basic) = door.basic()
    {
        let headers = &mut forward.parts.headers;
        let user = signed_in(door.ingress(), basic, headers, &exchange.client).await?;
        basic.pass(headers, &user);
        *exchange.user.borrow_mut() = Some(user);
    }
    if let Some(jwt) = filters.door().and_then(door::Compiled::jwt) {
        let headers = &mut forward.parts.headers;
        let Ok(fields) = jwt.check(headers) else {
            return Err(Refusal::Unauthorized);
        };
        for name in jwt.owned() {
            headers.remove(name);
        }
        headers.extend(&fields);
    }
    if let Some(auth) = filters.door().and_then(door::Compiled::auth) {
        let pool = auth.wished.pool.as_ref().and_then(|id| snapshot.pool(id));
        let target = Rc::new(Target {
            ingress: forward.target.ingress.clone(),
            pool: Some(Arc::clone(pool.ok_or(Refusal::AuthFailed)?)),
            filters: None,
        });
        let mut uri = exchange.path.borrow().clone();
        if let Some(query) = forward.parts.uri.query() {
            uri.push('?');
            uri.push_str(query);
        }
        match Box::pin(forward::ask(auth, target, &forward.parts, &uri, exchange)).await? {
            forward::Verdict::Denied(answer) => return Ok(Some(answer)),
            forward::Verdict::Passes(fields) => {
                let headers = &mut forward.parts.headers;
                for name in &auth.copy {
                    headers.remove(name);
                }
                headers.extend(&fields);
            }
        }
    }
    filters.request(&mut forward.parts.headers);
    forward.mirror = forward::Mirror::begin(forward, snapshot, exchange);
    Ok(None)
}

/// Who a request is from, by its name and password.
async fn signed_in(
    ingress: &ObjectName,
    basic: &door::basic::Compiled,
    headers: &Fields,
    client: &Client,
) -> Result<String, Refusal> {
    use door::basic::{Passed, Refused};
    let worker = &client.worker;
    let hashers = &worker.shared.doors.hashers;
    let spawn = |work| drop(worker.connections.spawn_local(work));
    let (cell, verdict) = match basic
        .check(ingress, headers, &worker.passwords, hashers, spawn)
        .await
    {
        Ok((user, Passed::Judged)) => (Some(metrics::Cell::PasswordRight), Ok(user)),
        Ok((user, Passed::Known)) => (Some(metrics::Cell::PasswordKnown), Ok(user)),
        Err(Refused::Missing) => (None, Err(Refusal::Credentials)),
        Err(Refused::Wrong) => (Some(metrics::Cell::PasswordWrong), Err(Refusal::Credentials)),
        Err(Refused::Busy) => (Some(metrics::Cell::PasswordShed), Err(Refusal::CredentialsBusy)),
    };
    if let Some(cell) = cell {
        worker.counters.inc(cell);
    }
    verdict
}

impl From<client_auth::Refused> for Refusal {
    fn from(refused: client_auth::Refused) -> Self {
        match refused {
            client_auth::Refused::OtherName => Self::Misdirected,
            client_auth::Refused::Missing => Self::CertificateMissing,
            client_auth::Refused::NotBelieved => Self::CertificateRefused,
        }
    }
}

impl From<door::Turned> for Refusal {
    fn from(turned: door::Turned) -> Self {
        match turned {
            door::Turned::Network => Self::Forbidden,
            door::Turned::Rate(seconds) => Self::Rate(seconds),
            door::Turned::Concurrency => Self::Concurrency,
        }
    }
}

/// Whatever else of the header section decides by itself.
fn check_fields(client: &Client, parts: &request::Parts) -> Result<(), Refusal> {
    if parts.version >= Version::HTTP_2 {
        http2::check(&parts.headers, client.live.http.max_header_bytes)?;
        // RFC 9113 section 8.3.1.
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if !path.starts_with('/') && path != "*" {
            return Err(Refusal::Malformed);
        }
        if parts.method.as_str().len() > MAX_METHOD {
            return Err(Refusal::Malformed);
        }
        // HTTP/1.1 and HTTP/3 know it before they read on.
        if path.len() > client.live.http.max_uri_bytes {
            return Err(Refusal::Uri);
        }
    }
    if parts.headers.len() > client.live.http.max_headers {
        return Err(Refusal::Headers);
    }
    if parts.uri.scheme_str().is_some_and(|scheme| {
        !["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    }) {
        return Err(Refusal::Malformed);
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Refusal::Method);
    }
    let expected = |expect: Value<'_>| expect.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if parts.headers.get_all(EXPECT).all(expected) {
        Ok(())
    } else {
        Err(Refusal::Expectation)
    }
}

/// The request target for the endpoint: origin form, path in normal form, query as it came.
fn target_uri(uri: &Uri, path: &str, asterisk: bool) -> Result<Uri, Refusal> {
    if asterisk {
        return Ok(Uri::from_static("*"));
    }
    if uri.path() == path
        && let Some(same) = uri.path_and_query()
    {
        return Ok(Uri::from(same.clone()));
    }
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::try_from(text)
        .map(Uri::from)
        .map_err(|_| Refusal::Path)
}

/// Whether a request is for another host than its TLS connection (RFC 9110 section 15.5.20). Hosts without a certificate
/// of their own share the placeholder and so a connection, and so may hosts that one certificate covers.
fn misdirected(client: &Client, snapshot: &Snapshot, host: Option<&HeaderValue>, name: Option<&str>) -> bool {
    let Some(tls) = &client.tls else { return false };
    if tls.sni.as_deref() == name {
        return false;
    }
    let served = tls.sni.as_deref().and_then(|sni| snapshot.certificate_for(sni));
    let Some(name) = name else {
        // An address is no host that has a certificate; who names nothing asks for no other host.
        return served.is_some() && host.is_some_and(|host| !host.is_empty());
    };
    match (served, snapshot.certificate_for(name)) {
        (None, None) => false,
        (Some(served), Some(own)) => served != own,
        (None, Some(_)) => true,
        (Some(served), None) => !name.parse().is_ok_and(|name| served.covers(&name)),
    }
}
