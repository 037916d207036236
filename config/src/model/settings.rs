use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{AddressPool, Bgp, Compression, ErrorPages, Prefix, Secret};

/// The whole file of the box, read and checked. Defaults are filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `[appliance]`
    pub appliance: Appliance,
    /// `[listen]`
    pub listen: Listen,
    /// `[source]`
    pub source: Source,
    /// `[bgp]`
    pub bgp: Option<Bgp>,
    /// `[[vips]]`
    pub vips: Vec<AddressPool>,
    /// `[acme]`
    pub acme: Option<Acme>,
    /// `[http]`
    pub http: Http,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[access_log]`
    pub access_log: AccessLog,
    /// `[tracing]`
    pub tracing: Option<Arc<Tracing>>,
    /// `[key_sets]`
    pub key_sets: Option<Arc<KeySets>>,
}

/// `[appliance]`: the process itself. A change needs a restart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appliance {
    /// Name of the box; default: the host name.
    pub name: Arc<str>,
    /// Where account, certificates and last good views are kept.
    pub state_dir: PathBuf,
    /// Where the unix socket `admin.sock` of the command line is made.
    pub run_dir: PathBuf,
    /// Admin address: `/metrics`, `/livez`, `/readyz`, `/api/v1/`.
    pub admin: SocketAddr,
    /// Data workers; 0 is one per core.
    pub workers: usize,
}

/// `[listen]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listen {
    /// HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// HTTPS listeners.
    pub https: Vec<SocketAddr>,
    /// HTTPS listeners beside which HTTP/3 is served, on the same address and port.
    pub http3: Vec<SocketAddr>,
    /// Addresses that Ingresses get in their status and that are announced for them. Empty: the first of the first
    /// `[[vips]]` pool of each family, or the listeners' own addresses where there is no pool.
    pub ingress_addresses: Vec<IpAddr>,
    /// Networks whose X-Forwarded-* is believed.
    pub trusted_proxies: Vec<Prefix>,
    /// Networks whose connections begin with a PROXY header, which is believed; without one they are closed.
    pub proxy_protocol_from: Vec<Prefix>,
}

/// `[source]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// Directory or cluster. A change needs a restart.
    pub kind: SourceKind,
    /// Name of our IngressClass.
    pub ingress_class: Arc<str>,
    /// Whether an endpoint needs a route.
    pub routing: Routing,
    /// `allow_loopback_endpoints`: whether an EndpointSlice may name an address of the box itself or of its links (loopback,
    /// link-local). Default `false`, so that nobody who may write a slice reaches the box's own ports; `true` is for trials.
    pub allow_loopback_endpoints: bool,
}

/// Where objects come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// A directory of Kubernetes YAML, watched.
    Manifests(PathBuf),
    /// A cluster; the path of a kubeconfig.
    Kubeconfig(PathBuf),
    /// A cluster, with the service account of the pod we run in (`kubeconfig = "in-cluster"`).
    InCluster,
}

/// `routing`
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// Eligible only with a BGP route.
    Required,
    /// A BGP route, else the kernel's own route.
    Preferred,
    /// Routes are not looked at.
    Off,
}

/// `[acme]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acme {
    /// Directory URL (RFC 8555 section 7.1.1).
    pub directory: Arc<str>,
    /// Contact; `None` is allowed by the RFC.
    pub email: Option<Arc<str>>,
    /// PEM file with the root of a private CA, added for talking to the directory only.
    pub ca_file: Option<PathBuf>,
    /// External account binding (RFC 8555 section 7.3.4): key identifier and HMAC key, decoded from base64url.
    pub eab: Option<(Arc<str>, Secret)>,
}

/// `[http]`: limits of the HTTP data plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Http {
    /// Octets of a request's header section, 431 beyond it.
    pub max_header_bytes: usize,
    /// Fields of a request's header section, 431 beyond it.
    pub max_headers: usize,
    /// Octets of a request target, 414 beyond it.
    pub max_uri_bytes: usize,
    /// Octets of a request body, 413 beyond it; 0: no limit.
    pub max_body_bytes: u64,
    /// Octets of a request body that earn a second of waiting for it beyond `timeouts.request_body`; 0: it may take any time.
    pub min_body_rate: u64,
    /// Streams at a time on one HTTP/2 connection (SETTINGS_MAX_CONCURRENT_STREAMS) or HTTP/3 connection.
    pub max_concurrent_streams: u32,
    /// HTTP/2 and HTTP/3 frames in 10 s on one connection that carry nothing and move nothing on, before it is closed.
    pub max_control_frames: u32,
    /// HTTP/2 and HTTP/3 streams in 10 s on one connection that its client resets, before it is closed.
    pub max_resets: u32,
    /// Requests on one keep-alive connection before it is closed.
    pub max_requests_per_connection: u64,
    /// Requests at a time on one HTTP/2 connection to an endpoint; more of them open another one.
    pub max_upstream_streams: u32,
    /// Idle connections kept to one endpoint by one worker.
    pub max_idle_per_endpoint: usize,
    /// Connections at a time in total; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Whether connections beyond `max_connections` are closed at once instead.
    pub close_when_full: bool,
    /// How long what is ready to go on may wait for a worker; beyond it new requests are refused. Zero: however long.
    pub shed_after: Duration,
    /// Connections at a time from one address; further ones are closed at once. 0: no limit.
    pub max_connections_per_address: usize,
    /// How long clients remember that there is HTTP/3 (Alt-Svc); zero: they are not told.
    pub http3_max_age: Duration,
    /// QUIC handshakes at a time in one worker beyond which a client has to prove its address first (Retry).
    pub http3_retry_above: u32,
    /// Whether a client that closes its sending side before it has its answer is taken to have left.
    pub abort_on_half_close: bool,
    /// `sticky_key_file`: key of the cookies by which clients stay with a pod. `None`: one that the box keeps.
    pub sticky_key: Option<Secret>,
    /// `compression`, `compression_min_bytes`, `compression_types`: which answers are compressed where the Ingress says nothing.
    pub compression: Compression,
    /// Octets that all answers being compressed may need together; beyond it answers stay as they are.
    pub compression_memory: usize,
    /// Octets that bodies of requests which are gathered or copied may need together.
    pub buffer_memory: usize,
    /// Copies of requests at a time; further ones are not made.
    pub max_mirrored_requests: usize,
    /// What stands in answers of the box itself instead of its own words, where a route has nothing for the status.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Whether every request writes a line of access log.
    pub access_log: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            max_header_bytes: 64 * 1024,
            max_headers: 128,
            max_uri_bytes: 16 * 1024,
            max_body_bytes: 0,
            min_body_rate: 100,
            max_concurrent_streams: 100,
            max_control_frames: 2000,
            max_resets: 200,
            max_requests_per_connection: 10_000,
            max_upstream_streams: 100,
            max_idle_per_endpoint: 64,
            max_connections: 100_000,
            close_when_full: false,
            shed_after: Duration::from_secs(1),
            max_connections_per_address: 0,
            http3_max_age: Duration::from_secs(24 * 3600),
            http3_retry_above: 64,
            abort_on_half_close: false,
            sticky_key: None,
            compression: Compression {
                min_bytes: Some(Compression::MIN_BYTES),
                ..Compression::default()
            },
            compression_memory: 64 * 1024 * 1024,
            buffer_memory: 64 * 1024 * 1024,
            max_mirrored_requests: 256,
            error_pages: None,
            access_log: true,
        }
    }
}

/// `[access_log]`: how exchanges are written down. `http.access_log` says whether.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go; `None`: standard output.
    pub file: Option<Arc<Path>>,
    /// Of exchanges that went well one in so many is written; all others always are.
    pub sample_one_in: u64,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            file: None,
            sample_one_in: 1,
        }
    }
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// A JSON object with all fields.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// `[tracing]`: spans for an OpenTelemetry collector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tracing {
    /// Base URL of the collector (OTLP over HTTP).
    pub otlp: Arc<str>,
    /// Of requests whose caller does not decide it one in so many is recorded.
    pub sample_one_in: u64,
    /// Roots to check the collector's certificate with instead of the system's, PEM.
    pub ca_file: Option<Arc<str>>,
}

/// `[key_sets]`: from where key sets for tokens may be fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySets {
    /// URLs, and, of those that end with a slash, all that begin so.
    pub from: Vec<Arc<str>>,
    /// How often each is fetched.
    pub refresh: Duration,
    /// Roots to check certificates with instead of the system's, PEM.
    pub ca_file: Option<Arc<str>>,
}

/// Whether this is an absolute https URL with a path, without user, fragment or dot segments: what begins alike leads to the same place.
pub fn is_https_url(text: &str) -> bool {
    let uri: Option<http::Uri> = text.parse().ok();
    let authority = |uri: &http::Uri| {
        let authority = uri.authority()?;
        (!authority.host().is_empty() && !authority.as_str().contains('@')).then_some(())
    };
    let dots = |path: &str| {
        path.split('/').any(|segment| {
            let segment = segment.to_ascii_lowercase().replace("%2e", ".");
            segment == "." || segment == ".."
        })
    };
    text.len() <= 2048
        && text.is_ascii()
        && !text.contains(['#', '\\'])
        && text.starts_with("https://")
        && text
            .strip_prefix("https://")
            .is_some_and(|rest| rest.contains('/'))
        && uri.is_some_and(|uri| authority(&uri).is_some() && !dots(uri.path()))
}

impl KeySets {
    /// Whether this may be fetched.
    pub fn allows(&self, url: &str) -> bool {
        self.from
            .iter()
            .any(|from| url == &**from || from.ends_with('/') && url.starts_with(&**from))
    }
}

/// `[timeouts]`: every wait of the data plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// PROXY header, from accept to its last octet.
    pub proxy_protocol: Duration,
    /// TLS handshake, from accept (or the PROXY header) to finished.
    pub tls_handshake: Duration,
    /// Request header section, from its first octet (or the handshake) to its end; 408.
    pub request_header: Duration,
    /// Between two reads of a request body.
    pub request_body: Duration,
    /// Idle keep-alive connection of a client.
    pub keep_alive: Duration,
    /// Age of a client connection, after which it is closed at the end of the exchange.
    pub connection_age: Duration,
    /// Between two writes to a client that does not read.
    pub response_write: Duration,
    /// Connecting to an endpoint.
    pub connect: Duration,
    /// First octet of the response, and between two reads of it; 504.
    pub response_read: Duration,
    /// Idle connection to an endpoint.
    pub upstream_idle: Duration,
    /// Idle WebSocket or other upgraded connection.
    pub tunnel_idle: Duration,
    /// Idle TCP connection.
    pub tcp_idle: Duration,
    /// Draining at stop: HTTP exchanges.
    pub drain: Duration,
    /// Draining at stop: upgraded and TCP connections.
    pub drain_tunnels: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            proxy_protocol: seconds(5),
            tls_handshake: seconds(10),
            request_header: seconds(10),
            request_body: seconds(60),
            keep_alive: seconds(75),
            connection_age: seconds(3600),
            response_write: seconds(60),
            connect: seconds(5),
            response_read: seconds(60),
            upstream_idle: seconds(60),
            tunnel_idle: seconds(3600),
            tcp_idle: seconds(600),
            drain: seconds(30),
            drain_tunnels: seconds(240),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_fetched() {
        for (url, want) in [
            ("https://id.example.com/keys", true),
            ("https://id.example.com:8443/a/keys?x=y", true),
            ("https://[2001:db8::1]/keys", true),
            ("http://id.example.com/keys", false),
            ("https://id.example.com", false),
            ("https:///keys", false),
            ("https://user@id.example.com/keys", false),
            ("https://id.example.com/a/../keys", false),
            ("https://id.example.com/a/%2E./keys", false),
            ("https://id.example.com/a\\..\\keys", false),
            ("https://id.example.com/keys#x", false),
            ("/keys", false),
        ] {
            assert_eq!(is_https_url(url), want, "{url}");
        }
        let sets = KeySets {
            from: vec![
                "https://a.example/realms/".into(),
                "https://b.example/keys".into(),
            ],
            refresh: Duration::from_mins(10),
            ca_file: None,
        };
        for (url, want) in [
            ("https://a.example/realms/", true),
            ("https://a.example/realms/shop/keys", true),
            ("https://a.example/realms", false),
            ("https://a.example/other", false),
            ("https://a.example.evil/realms/x", false),
            ("https://b.example/keys", true),
            ("https://b.example/keys/more", false),
        ] {
            assert_eq!(sets.allows(url), want, "{url}");
        }
    }
}
