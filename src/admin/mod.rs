//! The admin server: `/metrics`, `/livez`, `/readyz`, `/api/v1/…` on a TCP address and on the unix socket of the command line.
//!
//! It only reads. Connections, header size and waiting are bounded; it never touches the control task.

mod api;
mod routes;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::control::{self, Picture};

/// A page, or pages as they come.
type Body = UnsyncBoxBody<Bytes, Infallible>;

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Control has not turned for this long: the process is not alive in any useful sense.
const STUCK: u64 = 30;

/// What the pages are made from.
pub(crate) struct Admin {
    pub(crate) picture: watch::Receiver<Picture>,
    pub(crate) bgp: Option<sekisho_bgp::Handle>,
    pub(crate) acme: Option<sekisho_acme::Handle>,
    pub(crate) source: sekisho_ingress_controller::Handle,
    pub(crate) registry: prometheus::Registry,
    pub(crate) metrics: Arc<control::Metrics>,
    pub(crate) started: jiff::Timestamp,
}

/// The two listeners, bound before anything else starts, so that a clash is said at once.
pub(crate) struct Listeners {
    tcp: TcpListener,
    unix: Option<UnixListener>,
}

impl Listeners {
    /// Binds both. A unix socket that cannot be made is only worth a warning: the address is there too.
    ///
    /// # Errors
    /// When the TCP address cannot be bound.
    pub(crate) async fn bind(address: SocketAddr, run_dir: &Path) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| {
            format!("appliance.admin: cannot listen on {address}; is another appliance running? choose another address")
        })?;
        let path = run_dir.join("admin.sock");
        let unix = match bind_unix(run_dir, &path).await {
            Ok(unix) => Some(unix),
            Err(error) => {
                warn!(path = %path.display(), %error, "no admin socket; the command line uses the admin address instead");
                None
            }
        };
        info!(address = %tcp.local_addr()?, "admin address");
        Ok(Self { tcp, unix })
    }
}

async fn bind_unix(run_dir: &Path, path: &Path) -> std::io::Result<UnixListener> {
    std::fs::create_dir_all(run_dir)?;
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "another appliance answers on it",
        ));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until `stop`.
///
/// Cancel-safe: yes; open exchanges are cut.
pub(crate) async fn serve(listeners: Listeners, admin: Arc<Admin>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            got = listeners.tcp.accept() => got.map(|(stream, _)| Stream::Tcp(stream)),
            got = accept_unix(listeners.unix.as_ref()) => got.map(Stream::Unix),
        };
        let admin = Arc::clone(&admin);
        match accepted {
            Ok(Stream::Tcp(stream)) => {
                tasks.spawn(async move {
                    connection(stream, admin).await;
                    drop(permit);
                });
            }
            Ok(Stream::Unix(stream)) => {
                tasks.spawn(async move {
                    connection(stream, admin).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "admin: accept failed");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept_unix(listener: Option<&UnixListener>) -> std::io::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, admin: Arc<Admin>) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(&admin, &request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "admin: connection ended"),
        Err(_) => debug!("admin: connection was open too long"),
    }
}

async fn answer(admin: &Admin, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return json(
            StatusCode::METHOD_NOT_ALLOWED,
            &serde_json::json!({ "error": "only GET is understood" }),
        );
    }
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    match path {
        "/metrics" => metrics(admin),
        "/livez" => livez(admin),
        "/readyz" => readyz(admin),
        "/api/v1/routes.mrt" => mrt(admin).await,
        _ => match path.strip_prefix("/api/v1/") {
            Some(what) => match api::answer(admin, what, query).await {
                Ok(value) => json(StatusCode::OK, &value),
                Err(api::Refused { status, why }) => json(status, &serde_json::json!({ "error": why })),
            },
            None => text(
                StatusCode::NOT_FOUND,
                "Sekisho: /metrics /livez /readyz /api/v1/{status,peers,routes,vips,endpoints,certificates,findings,explain}\n",
            ),
        },
    }
}

fn metrics(admin: &Admin) -> Response<Body> {
    let families = admin.registry.gather();
    match prometheus::TextEncoder::new().encode_to_string(&families) {
        Ok(page) => text(StatusCode::OK, page),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// The routing table as an MRT file, made page by page: the table's owner has other things to do in between.
async fn mrt(admin: &Admin) -> Response<Body> {
    /// Prefixes of one page.
    const PAGE: usize = 2000;
    let Some(bgp) = admin.bgp.clone() else {
        return json(
            StatusCode::NOT_FOUND,
            &serde_json::json!({ "error": "there is no [bgp] section, so there is no table" }),
        );
    };
    let (dump, head) = bgp.dump().await;
    let mut prefixes = bgp.prefixes().await;
    prefixes.sort_unstable_by(|a, b| b.cmp(a));
    let rest = futures::stream::unfold((bgp, dump, prefixes), |(bgp, mut dump, mut left)| async move {
        let mut page = left.split_off(left.len().saturating_sub(PAGE));
        page.reverse();
        if page.is_empty() {
            return None;
        }
        let records = dump.page(&bgp.held(page).await);
        Some((records, (bgp, dump, left)))
    });
    let all = futures::stream::once(async move { head }).chain(rest);
    let frames = all.map(|octets| Ok(hyper::body::Frame::data(octets)));
    stream(
        StatusCode::OK,
        "application/octet-stream",
        StreamBody::new(frames).boxed_unsync(),
    )
}

fn livez(admin: &Admin) -> Response<Body> {
    match admin.metrics.seconds_since_beat() {
        quiet if quiet < STUCK => text(StatusCode::OK, "ok\n"),
        quiet => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("control has not turned for {quiet} s\n"),
        ),
    }
}

fn readyz(admin: &Admin) -> Response<Body> {
    let missing = not_ready(&admin.picture.borrow());
    if missing.is_empty() {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
    }
}

/// What is missing before this box can take traffic.
pub(crate) fn not_ready(picture: &Picture) -> Vec<String> {
    let mut missing = Vec::new();
    if picture.stopping {
        missing.push("the box is stopping".to_owned());
    }
    if picture.desired.cluster.is_none() {
        missing.push("the first complete view of the source is not there yet".to_owned());
    }
    for address in picture.desired.http.iter().chain(&picture.desired.https) {
        match picture.observed.listeners.get(address) {
            Some(sekisho_config::model::ListenerState::Bound) => {}
            Some(sekisho_config::model::ListenerState::Failed { error }) => {
                missing.push(format!("listener {address} is not bound: {error}"));
            }
            None => missing.push(format!("listener {address} is not bound yet")),
        }
    }
    missing
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", Bytes::from(value.to_string()))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    stream(status, kind, Full::new(body).boxed_unsync())
}

fn stream(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}
