use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bgp;
use super::fault::{At, Log, Place, quote, unreadable};
use super::table::{Table, host_address, listen_address};
use crate::model::{
    Appliance, Compression, Encoding, ErrorPages, Http, Invalid, Listen, MediaRange, Prefix, Routing, Secret,
    Source, SourceKind, Timeouts,
};

/// Octets that fit in `sun_path` with its closing NUL (unix(7)).
const SOCKET_PATH: usize = 107;

/// `[appliance]` as read.
pub(super) struct ReadAppliance {
    /// `None`: a fault was recorded.
    pub(super) settings: Option<Appliance>,
    admin: At<SocketAddr>,
}

pub(super) fn appliance(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> ReadAppliance {
    let name = match table.text("name", label) {
        Some(name) => Some(name.value),
        None if table.has("name") => None,
        None => Some(host_name(load)),
    };
    let state_dir = table
        .path_of("state_dir")
        .map_or_else(|| PathBuf::from("/var/lib/sekisho"), |at| at.value);
    let run_dir = table
        .path_of("run_dir")
        .map_or_else(|| PathBuf::from("/run/sekisho"), |at| at.value);
    if run_dir.join("admin.sock").as_os_str().len() > SOCKET_PATH {
        let what = "too long for the unix socket that is made in it (107 octets with /admin.sock)";
        log.fault(&table.place_of("run_dir"), what, "choose a shorter path");
    }
    let admin = table.text("admin", listen_address).unwrap_or_else(|| At {
        value: SocketAddr::from(([127, 0, 0, 1], 9901)),
        place: table.place_of("admin"),
    });
    if admin.value.ip().is_unspecified() {
        let instead = "listen on 127.0.0.1 or a management address, or keep strangers off with a firewall";
        log.warn(
            &admin.place,
            format!(
                "{} answers on every address of the box and asks for no password",
                admin.value
            ),
            instead,
        );
    }
    let workers = table.number("workers").map_or(0, |at| at.value);
    let settings = name.map(|name| Appliance {
        name,
        state_dir,
        run_dir,
        admin: admin.value,
        workers,
    });
    ReadAppliance { settings, admin }
}

/// The host name of the kernel; `sekisho` where there is none that can be used.
fn host_name(load: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Arc<str> {
    load(Path::new("/proc/sys/kernel/hostname"))
        .ok()
        .and_then(|octets| String::from_utf8(octets).ok())
        .and_then(|text| label(text.trim()).ok())
        .unwrap_or_else(|| Arc::from("sekisho"))
}

/// A name that can stand in logs, labels and headers.
pub(super) fn label(text: &str) -> Result<Arc<str>, Invalid> {
    let fits = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits {
        Ok(text.into())
    } else {
        Err(Invalid::new(
            format!("{} cannot be a name", quote(text)),
            "use 1 to 63 letters, digits, `-`, `_` or `.`",
        ))
    }
}

/// `[listen]` as read.
pub(super) struct ReadListen {
    pub(super) settings: Listen,
    sockets: Vec<At<SocketAddr>>,
    pub(super) ingress_addresses: Vec<At<std::net::IpAddr>>,
}

pub(super) fn listen(table: &Table<'_>, log: &Log) -> ReadListen {
    let mut sockets = Vec::new();
    let mut listeners = |name: &str, port: u16| -> Vec<SocketAddr> {
        let list = table.list(name, listen_address).map_or_else(
            || {
                let any: [SocketAddr; 2] = [([0u8; 4], port).into(), ([0u16; 8], port).into()];
                any.map(|value| At {
                    value,
                    place: table.place_of(name),
                })
                .to_vec()
            },
            |at| at.value,
        );
        sockets.extend(list.iter().cloned());
        list.into_iter().map(|at| at.value).collect()
    };
    let (http, https) = (listeners("http", 80), listeners("https", 443));
    let http3 = table
        .list("http3", listen_address)
        .map(|at| at.value)
        .unwrap_or_default();
    for at in http3.iter().filter(|at| !https.contains(&at.value)) {
        log.fault(
            &at.place,
            format!(
                "{} is no HTTPS listener, and HTTP/3 is served beside one",
                at.value
            ),
            "write it in listen.https, too, or take it out here",
        );
    }
    let ingress_addresses = table
        .list("ingress_addresses", host_address)
        .map(|at| at.value)
        .unwrap_or_default();
    let trusted = table
        .list("trusted_proxies", network)
        .map(|at| at.value)
        .unwrap_or_default();
    for at in trusted.iter().filter(|at| at.value.length() == 0) {
        log.warn(
            &at.place,
            format!("{} believes the X-Forwarded-* headers of every client", at.value),
            "name the networks of your own proxies",
        );
    }
    let proxy_protocol_from = table
        .list("proxy_protocol_from", network)
        .map(|at| at.value)
        .unwrap_or_default();
    for at in proxy_protocol_from.iter().filter(|at| at.value.length() == 0) {
        log.warn(
            &at.place,
            format!(
                "{} lets every client say which address it has, and refuses those that do not",
                at.value
            ),
            "name the networks of your own load balancers",
        );
    }
    ReadListen {
        settings: Listen {
            http,
            https,
            http3: http3.into_iter().map(|at| at.value).collect(),
            ingress_addresses: ingress_addresses.iter().map(|at| at.value).collect(),
            trusted_proxies: trusted.into_iter().map(|at| at.value).collect(),
            proxy_protocol_from: proxy_protocol_from.into_iter().map(|at| at.value).collect(),
        },
        sockets,
        ingress_addresses,
    }
}

/// A prefix; an IPv4 one in IPv6 form is refused, for no peer address would ever match it.
pub(super) fn network(text: &str) -> Result<Prefix, Invalid> {
    let short = text.get(..64).unwrap_or(text);
    let prefix: Prefix = short.parse()?;
    match prefix.address() {
        std::net::IpAddr::V6(address) if prefix.length() >= 96 && address.to_ipv4_mapped().is_some() => {
            Err(Invalid::new(
                format!("{} is IPv4 in IPv6 form", quote(text)),
                "write it as IPv4",
            ))
        }
        _ => Ok(prefix),
    }
}

/// Two listeners that the kernel cannot both bind.
pub(super) fn check_sockets(
    appliance: &ReadAppliance,
    listen: &ReadListen,
    bgp: Option<&bgp::Read>,
    log: &Log,
) {
    let mut seen: BTreeMap<SocketAddr, Place> = BTreeMap::new();
    let mut own: Vec<&At<SocketAddr>> = vec![&appliance.admin];
    own.extend(bgp.iter().flat_map(|bgp| &bgp.listen));
    for at in listen.sockets.iter().chain(own.iter().copied()) {
        if at.value.port() == 0 {
            log.warn(
                &at.place,
                format!("{}: port 0 lets the system choose a port", at.value),
                "write the port that clients use",
            );
            continue;
        }
        match seen.get(&at.value) {
            None => {
                seen.insert(at.value, at.place.clone());
            }
            Some(first) => {
                let what = format!(
                    "{} is already taken by {} (line {})",
                    at.value, first.key, first.line
                );
                log.fault(
                    &at.place,
                    what,
                    "give each listener an address and port of its own",
                );
            }
        }
    }
    // Data workers share ports, and the kernel prefers the specific address. The sockets of the process itself do not.
    for (index, at) in own.iter().enumerate() {
        let others = own.iter().skip(index + 1).copied().chain(&listen.sockets);
        for other in others.filter(|other| other.value != at.value && overlap(at.value, other.value)) {
            let what = format!(
                "{} and {} of {} (line {}) want one port of one address",
                at.value, other.value, other.place.key, other.place.line
            );
            log.fault(&at.place, what, "choose another port");
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

pub(super) fn source(table: &Table<'_>, bgp: Option<&bgp::Read>, log: &Log) -> Option<Source> {
    let manifests = table.path_of("manifests");
    let in_cluster = table
        .text("kubeconfig", |text| Ok(text == "in-cluster"))
        .is_some_and(|at| at.value);
    let kubeconfig = if in_cluster {
        Some(SourceKind::InCluster)
    } else {
        table
            .path_of("kubeconfig")
            .map(|at| SourceKind::Kubeconfig(at.value))
    };
    match (table.has("manifests"), table.has("kubeconfig")) {
        (true, true) => {
            log.fault(
                &table.place_of("kubeconfig"),
                "manifests is written too",
                "keep one of them: objects come from a directory or from a cluster",
            );
        }
        (false, false) if !log.has_syntax_faults() => {
            log.fault(
                &table.place,
                "neither manifests nor kubeconfig is written",
                "write manifests = \"/etc/sekisho/manifests\" or kubeconfig = \"/etc/sekisho/kubeconfig\"",
            );
        }
        _ => {}
    }
    let ingress_class = table.text("ingress_class", object_name);
    let word = table.word("routing");
    let routing = match word.as_ref().map(|at| at.value) {
        Some("required") => Routing::Required,
        Some("preferred") => Routing::Preferred,
        Some(_) => Routing::Off,
        None if bgp.is_some() => Routing::Required,
        None => Routing::Off,
    };
    if let (Some(word), None, Routing::Required | Routing::Preferred) = (&word, bgp, routing) {
        let what = format!(
            "\"{}\" without a [bgp] section: no route could ever be learned",
            word.value
        );
        log.fault(&word.place, what, "write \"off\", or add [bgp]");
    }
    if let Some(bgp) = bgp
        && routing == Routing::Required
        && !bgp.may_learn_routes()
    {
        let what = "no endpoint can be eligible: routing is \"required\" and no peer or range has the role \"cluster\"";
        log.warn(
            &table.place_of("routing"),
            what,
            "add the nodes to [[bgp.peers]], or write routing = \"off\"",
        );
    }
    let allow_loopback_endpoints = table.bool("allow_loopback_endpoints").unwrap_or(false);
    if allow_loopback_endpoints {
        let what = "whoever may write an EndpointSlice reaches the box's own ports";
        log.warn(
            &table.place_of("allow_loopback_endpoints"),
            what,
            "remove it outside of trials",
        );
    }
    let kind = manifests
        .map(|at| SourceKind::Manifests(at.value))
        .or(kubeconfig)?;
    Some(Source {
        kind,
        ingress_class: ingress_class.map_or_else(|| Arc::from("sekisho"), |at| at.value),
        routing,
        allow_loopback_endpoints,
    })
}

/// Name of a cluster-scoped object: a DNS subdomain in lower case (RFC 1123).
fn object_name(text: &str) -> Result<Arc<str>, Invalid> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.into())
    } else {
        Err(Invalid::new(
            format!("{} cannot name an object", quote(text)),
            "use lower-case letters, digits, `-` and `.`",
        ))
    }
}

/// The key of the cookies by which clients stay with a pod. No message ever holds it.
fn sticky_key(read: &io::Result<Vec<u8>>) -> Result<Secret, Invalid> {
    match read {
        Ok(octets) if (16..=4096).contains(&octets.trim_ascii().len()) => {
            Ok(Secret::new(octets.trim_ascii()))
        }
        Ok(_) => Err(Invalid::new(
            "the file does not hold 16 to 4096 octets",
            "put a random key into it, for example with `openssl rand -hex 32`, the same on every box",
        )),
        Err(error) => Err(unreadable(error)),
    }
}

/// The pages that `error_pages` names.
fn error_pages(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Arc<ErrorPages>> {
    let mut pages = ErrorPages::default();
    for at in table.paths("error_pages")?.value {
        let name = at.value.file_name().unwrap_or_default().to_string_lossy();
        match load(&at.value) {
            Ok(body) => {
                if let Err(invalid) = pages.add(&name, &body) {
                    log.invalid(&at.place, &invalid);
                }
            }
            Err(error) => log.invalid(&at.place, &unreadable(&error)),
        }
    }
    Some(Arc::new(pages))
}

pub(super) fn http(table: &Table<'_>, log: &Log, load: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Http {
    let default = Http::default();
    Http {
        max_header_bytes: table
            .number("max_header_bytes")
            .map_or(default.max_header_bytes, |at| at.value),
        max_headers: table
            .number("max_headers")
            .map_or(default.max_headers, |at| at.value),
        max_uri_bytes: table
            .number("max_uri_bytes")
            .map_or(default.max_uri_bytes, |at| at.value),
        max_body_bytes: table
            .number("max_body_bytes")
            .map_or(default.max_body_bytes, |at| at.value),
        min_body_rate: table
            .number("min_body_rate")
            .map_or(default.min_body_rate, |at| at.value),
        max_concurrent_streams: table
            .number("max_concurrent_streams")
            .map_or(default.max_concurrent_streams, |at| at.value),
        max_control_frames: table
            .number("max_control_frames")
            .map_or(default.max_control_frames, |at| at.value),
        max_resets: table
            .number("max_resets")
            .map_or(default.max_resets, |at| at.value),
        max_requests_per_connection: table
            .number("max_requests_per_connection")
            .map_or(default.max_requests_per_connection, |at| at.value),
        max_upstream_streams: table
            .number("max_upstream_streams")
            .map_or(default.max_upstream_streams, |at| at.value),
        max_idle_per_endpoint: table
            .number("max_idle_per_endpoint")
            .map_or(default.max_idle_per_endpoint, |at| at.value),
        max_connections: table
            .number("max_connections")
            .map_or(default.max_connections, |at| at.value),
        close_when_full: table.word("when_full").map(|at| at.value) == Some("close"),
        shed_after: table
            .duration("shed_after")
            .map_or(default.shed_after, |at| at.value),
        max_connections_per_address: table
            .number("max_connections_per_address")
            .map_or(default.max_connections_per_address, |at| at.value),
        http3_max_age: table
            .duration("http3_max_age")
            .map_or(default.http3_max_age, |at| at.value),
        http3_retry_above: table
            .number("http3_retry_above")
            .map_or(default.http3_retry_above, |at| at.value),
        abort_on_half_close: table
            .bool("abort_on_half_close")
            .unwrap_or(default.abort_on_half_close),
        sticky_key: table
            .path_of("sticky_key_file")
            .and_then(|at| match sticky_key(&load(&at.value)) {
                Ok(key) => Some(key),
                Err(invalid) => {
                    log.invalid(&at.place, &invalid);
                    None
                }
            }),
        error_pages: error_pages(table, log, load),
        compression: Compression {
            encodings: table
                .list("compression", str::parse::<Encoding>)
                .map(|at| at.value.into_iter().map(|at| at.value).collect()),
            min_bytes: table
                .number("compression_min_bytes")
                .map(|at| at.value)
                .or(default.compression.min_bytes),
            types: table
                .list("compression_types", str::parse::<MediaRange>)
                .map(|at| at.value.into_iter().map(|at| at.value).collect()),
        },
        compression_memory: table
            .number("compression_memory")
            .map_or(default.compression_memory, |at| at.value),
        buffer_memory: table
            .number("buffer_memory")
            .map_or(default.buffer_memory, |at| at.value),
        max_mirrored_requests: table
            .number("max_mirrored_requests")
            .map_or(default.max_mirrored_requests, |at| at.value),
        access_log: table.bool("access_log").unwrap_or(default.access_log),
    }
}

pub(super) fn timeouts(table: &Table<'_>) -> Timeouts {
    let default = Timeouts::default();
    let wait = |name, default| table.duration(name).map_or(default, |at| at.value);
    Timeouts {
        proxy_protocol: wait("proxy_protocol", default.proxy_protocol),
        tls_handshake: wait("tls_handshake", default.tls_handshake),
        request_header: wait("request_header", default.request_header),
        request_body: wait("request_body", default.request_body),
        keep_alive: wait("keep_alive", default.keep_alive),
        connection_age: wait("connection_age", default.connection_age),
        response_write: wait("response_write", default.response_write),
        connect: wait("connect", default.connect),
        response_read: wait("response_read", default.response_read),
        upstream_idle: wait("upstream_idle", default.upstream_idle),
        tunnel_idle: wait("tunnel_idle", default.tunnel_idle),
        tcp_idle: wait("tcp_idle", default.tcp_idle),
        drain: wait("drain", default.drain),
        drain_tunnels: wait("drain_tunnels", default.drain_tunnels),
    }
}
