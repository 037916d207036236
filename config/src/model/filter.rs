use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Compression, Door, ErrorPages, Invalid, PoolId, Prefix};

/// What is done with the requests of a route before they go on, and with the answers before they go back.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Filters {
    /// Who may come in, and how often; before everything else.
    pub door: Door,
    /// Requests in the clear are sent to the same place over TLS (308).
    pub https_only: bool,
    /// An answer of the box's own instead of the Service's.
    pub answer: Option<FixedAnswer>,
    /// What the box says in answers of its own with an error status.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Sent elsewhere.
    pub redirect: Option<Redirect>,
    /// Cross-origin sharing, answered by the box.
    pub cors: Option<Cors>,
    /// The path that the Service sees.
    pub rewrite_path: Option<PathTemplate>,
    /// The `Host` that the Service sees.
    pub rewrite_host: Option<Arc<str>>,
    /// What is changed in the header section of requests.
    pub request_headers: HeaderChanges,
    /// The same for answers, also for those of the box itself.
    pub response_headers: HeaderChanges,
    /// Waits that differ from those of the file.
    pub waits: Waits,
    /// Octets of a request body at most, 0 for any number; absent: as the file says.
    pub max_body_bytes: Option<u64>,
    /// Whether `%2F` in a path is let through as it is; such a path is refused (400) otherwise.
    pub encoded_slash: bool,
    /// Another Service that gets copies of requests.
    pub mirror: Option<Mirror>,
    /// Octets up to which a request body is gathered before an endpoint is asked; absent: it is passed on as it comes.
    pub buffer_requests: Option<u64>,
    /// Octets up to which an answer is gathered before it goes on; absent: it is passed on as it comes.
    pub buffer_responses: Option<u64>,
    /// Which answers are compressed, where that differs from the file.
    pub compression: Compression,
}

impl Filters {
    /// What is done, in words, for `explain`.
    pub fn names(&self) -> Vec<&'static str> {
        let none = HeaderChanges::default();
        [
            (
                !self.door.allow.is_empty() || !self.door.deny.is_empty(),
                "networks",
            ),
            (self.door.rate.is_some(), "rate limit"),
            (self.door.concurrent.is_some(), "limit of requests at a time"),
            (self.door.jwt.is_some(), "tokens"),
            (self.door.forward_auth.is_some(), "asks a Service"),
            (self.https_only, "over TLS only"),
            (self.answer.is_some(), "answered by the box"),
            (self.error_pages.is_some(), "error pages"),
            (self.redirect.is_some(), "redirected"),
            (
                self.cors.is_some(),
                "cross-origin requests are answered by the box",
            ),
            (self.rewrite_path.is_some(), "path rewritten"),
            (self.rewrite_host.is_some(), "host rewritten"),
            (self.request_headers != none, "request headers changed"),
            (self.response_headers != none, "response headers changed"),
            (self.waits != Waits::default(), "waits of its own"),
            (self.max_body_bytes.is_some(), "limit on bodies"),
            (self.encoded_slash, "%2F may pass"),
            (self.mirror.is_some(), "mirrored"),
            (self.buffer_requests.is_some(), "request bodies gathered"),
            (self.buffer_responses.is_some(), "answers gathered"),
            (
                self.compression != Compression::default(),
                "compression of its own",
            ),
        ]
        .into_iter()
        .filter_map(|(there, name)| there.then_some(name))
        .collect()
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Copies of requests for another Service; nobody hears of what becomes of them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Mirror {
    /// Where its pods are.
    pub pool: PoolId,
    /// Of a hundred requests so many are copied; from 1.
    pub percent: u8,
    /// Octets of a body at most; a request with a larger one is not copied.
    pub max_body_bytes: u64,
}

/// Waits of one route.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Waits {
    /// For one connection to an endpoint.
    pub connect: Option<Duration>,
    /// For the first octet of an answer, and between two reads of it.
    pub response_read: Option<Duration>,
}

/// An answer in plain text.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FixedAnswer {
    /// From 200 to 599.
    pub status: u16,
    /// May be empty: then the error page for this status stands there, if there is one.
    pub text: Arc<str>,
    /// When the client may ask again.
    pub retry_after: Option<Duration>,
    /// Who is served as ever.
    pub except: Vec<Prefix>,
}

/// A redirect: what is absent stays as it is in the request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Without port.
    pub host: Option<Arc<str>>,
    /// Absent: that of the request, or the usual one of the scheme when that is given.
    pub port: Option<u16>,
    /// Absent: the path of the request.
    pub path: Option<PathTemplate>,
}

/// A path to put in the place of another: of a `Prefix` the prefix is replaced, of an `Exact` path the whole; for a
/// regular expression `$1` to `$9` (or `${12}`) stand for its groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathTemplate {
    text: Arc<str>,
    pieces: Arc<[TemplatePiece]>,
}

/// A part of a [`PathTemplate`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TemplatePiece {
    /// As it stands.
    Text(Arc<str>),
    /// What a group matched; nothing when it took no part.
    Group(usize),
}

impl PathTemplate {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[TemplatePiece] {
        &self.pieces
    }

    /// Whether it names groups.
    pub fn has_groups(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, TemplatePiece::Group(_)))
    }
}

impl FromStr for PathTemplate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(
                format!("`{}` is not a path to write", text.escape_debug()),
                "write a path that begins with / and holds no space, `?` or `#`; $1 to $9 for the groups of a regular expression",
            )
        };
        let plain = |octet: u8| (b'!'..=b'~').contains(&octet) && !matches!(octet, b'?' | b'#' | b'\\');
        let starts = text.starts_with('/') || text.starts_with('$');
        if !starts || text.len() > 2048 || !text.bytes().all(plain) {
            return Err(bad());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                pieces.push(TemplatePiece::Text(before.into()));
            }
            let (digits, next) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(bad)?,
                None => after.split_at_checked(1).ok_or_else(bad)?,
            };
            let group = digits.parse().ok().filter(|group| *group < 100).ok_or_else(bad)?;
            pieces.push(TemplatePiece::Group(group));
            rest = next;
        }
        if !rest.is_empty() {
            pieces.push(TemplatePiece::Text(rest.into()));
        }
        Ok(Self {
            text: text.into(),
            pieces: pieces.into(),
        })
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for PathTemplate {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Changes of a header section: removed first, then set, then added. Names are in lower case and never those of framing,
/// of one connection, or Host; values hold no control characters.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct HeaderChanges {
    /// Taken out.
    pub remove: Vec<Arc<str>>,
    /// Put in the place of what is there.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Put beside what is there.
    pub add: Vec<(Arc<str>, Arc<str>)>,
}

/// Cross-origin resource sharing (the Fetch standard).
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Cors {
    /// Which origins may read answers.
    pub origins: Vec<Origin>,
    /// Methods beyond the simple ones.
    pub methods: Vec<Arc<str>>,
    /// Request headers beyond the simple ones; `*` alone: whatever is asked for.
    pub headers: Vec<Arc<str>>,
    /// Response headers that scripts may read.
    pub expose: Vec<Arc<str>>,
    /// Whether cookies and the like are sent along; never with [`Origin::Any`].
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Option<Duration>,
}

/// Origins that are let in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `*`
    Any,
    /// `https://shop.example.com`, in lower case.
    Exact(Arc<str>),
    /// `https://*.example.com`: any number of labels, at least one.
    Wildcard {
        /// `https://`
        scheme: Arc<str>,
        /// `.example.com`, with a port if there is one.
        suffix: Arc<str>,
    },
}

impl FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(
                format!("`{}` is not an origin", text.escape_debug()),
                "write scheme and host, without a path, for example https://shop.example.com or https://*.example.com, or * for all",
            )
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        let good_scheme = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !good_scheme || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(bad());
        }
        match host.strip_prefix("*.") {
            Some(suffix) if suffix.parse::<super::HostName>().is_ok() => Ok(Self::Wildcard {
                scheme: format!("{scheme}://").into(),
                suffix: rest.trim_start_matches('*').into(),
            }),
            None if host.parse::<super::HostName>().is_ok() || host.parse::<std::net::Ipv4Addr>().is_ok() => {
                Ok(Self::Exact(text.into()))
            }
            _ => Err(bad()),
        }
    }
}

impl Origin {
    /// Whether a request's `Origin`, in lower case, is let in.
    pub fn takes(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => **text == *origin,
            Self::Wildcard { scheme, suffix } => origin
                .strip_prefix(&**scheme)
                .and_then(|host| host.strip_suffix(&**suffix))
                .is_some_and(|labels| {
                    !labels.is_empty()
                        && !labels.starts_with('.')
                        && labels
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let group = TemplatePiece::Group;
        let plain = |text: &str| TemplatePiece::Text(text.into());
        for (text, want) in [
            ("/a", Some(vec![plain("/a")])),
            ("/$1/b$2", Some(vec![plain("/"), group(1), plain("/b"), group(2)])),
            ("/${12}3", Some(vec![plain("/"), group(12), plain("3")])),
            ("$1", Some(vec![group(1)])),
            ("a", None),
            ("", None),
            ("/a?b", None),
            ("/a b", None),
            ("/$", None),
            ("/$x", None),
            ("/${1", None),
            ("/${100}", None),
            ("/\u{e9}", None),
        ] {
            let got = text.parse::<PathTemplate>().ok();
            assert_eq!(got.map(|template| template.pieces().to_vec()), want, "{text}");
        }
    }

    #[test]
    fn origins() {
        for (pattern, origin, want) in [
            ("*", "https://a.b", true),
            ("https://A.b", "https://a.b", true),
            ("https://a.b", "http://a.b", false),
            ("https://a.b", "https://a.b:8443", false),
            ("https://a.b:8443", "https://a.b:8443", true),
            ("https://*.b", "https://a.b", true),
            ("https://*.b", "https://x.a.b", true),
            ("https://*.b", "https://b", false),
            ("https://*.b", "https://.b", false),
            ("https://*.b", "https://evil.example/.b", false),
            ("https://*.b", "https://a.b.evil", false),
            ("https://*.b:81", "https://a.b:81", true),
        ] {
            assert_eq!(
                pattern.parse::<Origin>().unwrap().takes(origin),
                want,
                "{pattern} {origin}"
            );
        }
        for bad in [
            "",
            "a.b",
            "https://",
            "https://a.b/",
            "https://*",
            "https://a.*.b",
            "https://a.b:x",
            "null",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_safe(text: String) {
            let _ = text.parse::<PathTemplate>();
            let _ = text.parse::<Origin>();
        }
    }
}
