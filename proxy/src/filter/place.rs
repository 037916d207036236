//! Where redirects lead. Made from the Host of the request and from what the route says, never from forwarding headers.

use http::HeaderValue;
use sekisho_config::model::Redirect;

use super::Seen;

/// The host of `host[:port]`, with the brackets of an IPv6 address, and the port as it is written.
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The same request over TLS, on the usual port.
pub(super) fn over_tls(seen: &Seen<'_>) -> Option<HeaderValue> {
    let (host, _) = split(seen.host?);
    url("https", host, None, seen.path, seen.query)
}

/// Where a redirect leads, with this path.
pub(super) fn elsewhere(redirect: &Redirect, seen: &Seen<'_>, path: &str) -> Option<HeaderValue> {
    let (own_host, own_port) = match seen.host {
        Some(host) => split(host),
        None => ("", None),
    };
    let host = redirect.host.as_deref().unwrap_or(own_host);
    if host.is_empty() {
        return None;
    }
    let scheme = redirect.scheme.as_deref().unwrap_or(seen.scheme);
    let usual = if scheme == "https" { 443 } else { 80 };
    // The port of the request belongs to its own scheme and host.
    let kept = own_port.filter(|_| redirect.scheme.is_none() && redirect.host.is_none());
    let port = match redirect.port {
        Some(port) => (port != usual).then(|| port.to_string()),
        None => kept.map(str::to_owned),
    };
    url(scheme, host, port.as_deref(), path, seen.query)
}

fn url(scheme: &str, host: &str, port: Option<&str>, path: &str, query: Option<&str>) -> Option<HeaderValue> {
    let mut text = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        text.push(':');
        text.push_str(port);
    }
    text.push_str(path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    HeaderValue::from_str(&text).ok()
}
