//! What the fields of a header section are together (RFC 9113 section 8.3).

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Uri, Version};

use super::hpack::Field;
use crate::fields::Fields;
use crate::fields::names::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use crate::message::request::Parts;

/// Lines of a request, and their octets, with what is added on its way to an endpoint, for which there is room at once.
const LINES: usize = 20;
const OCTETS: usize = 1024;

/// A section that is being read.
#[derive(Debug, Default)]
pub(crate) struct Section {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<Bytes>,
    fields: Fields,
    /// What Content-Length says.
    length: Option<u64>,
    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113 section 6.5.2).
    size: usize,
    /// Pseudo-header fields are over.
    plain: bool,
    pseudo: bool,
    malformed: bool,
    too_large: bool,
}

/// A section that makes its stream malformed (RFC 9113 section 8.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// A request as its header section says it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) parts: Parts,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub(crate) protocol: Option<Bytes>,
    pub(crate) length: Option<u64>,
    /// It is larger than the limit, and not all of it is here.
    pub(crate) too_large: bool,
}

fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

impl Section {
    /// For a request: room for what is added on its way.
    pub(crate) fn request() -> Self {
        Self {
            fields: Fields::with_capacity(LINES, OCTETS),
            ..Self::default()
        }
    }

    /// Takes a field; `most`: octets of the whole section.
    pub(crate) fn take(&mut self, field: &Field, size: usize, most: usize) {
        self.size = self.size.saturating_add(size);
        if self.size > most {
            self.too_large = true;
            return;
        }
        let good = match field {
            Field::Plain(name, value) => return self.plain(name, value),
            Field::Method(method) => put(&mut self.method, method.clone()),
            Field::Scheme(scheme) => put(&mut self.scheme, scheme.clone()),
            Field::Authority(authority) => put(&mut self.authority, authority.clone()),
            Field::Path(path) => put(&mut self.path, path.clone()),
            Field::Protocol(protocol) => put(&mut self.protocol, protocol.clone()),
            Field::Bad(_) => false,
        };
        self.pseudo = true;
        // Once each, and before all others (RFC 9113 section 8.3).
        self.malformed |= !good || self.plain;
    }

    fn plain(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.plain = true;
        // RFC 9113 section 8.2.2.
        if *name == TE {
            self.malformed |= value != "trailers";
        } else if *name == CONTENT_LENGTH {
            match length(value.as_bytes()) {
                // Two that differ cannot both be what DATA adds up to (RFC 9113 section 8.1.1).
                Some(length) => {
                    let other = self.length.replace(length);
                    self.malformed |= other.is_some_and(|other| other != length);
                }
                None => self.malformed = true,
            }
        } else if *name == CONNECTION
            || *name == TRANSFER_ENCODING
            || *name == UPGRADE
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        {
            self.malformed = true;
        }
        self.fields.append(name, value);
    }

    /// What it is as a request.
    pub(crate) fn into_head(self) -> Result<Head, Malformed> {
        let mut parts = Parts {
            version: Version::HTTP_2,
            ..Parts::default()
        };
        if self.malformed {
            return Err(Malformed);
        }
        if self.too_large {
            // What is there is enough for an answer.
            parts.method = self.method.unwrap_or_default();
            return Ok(Head {
                parts,
                protocol: None,
                length: None,
                too_large: true,
            });
        }
        let method = self.method.ok_or(Malformed)?;
        let mut uri = http::uri::Parts::default();
        if method == Method::CONNECT && self.protocol.is_none() {
            // RFC 9113 section 8.5.
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                return Err(Malformed);
            }
            uri.authority = self.authority;
        } else {
            if method != Method::CONNECT && self.protocol.is_some() {
                // RFC 8441 section 4.
                return Err(Malformed);
            }
            let scheme = self.scheme.ok_or(Malformed)?;
            uri.path_and_query = Some(self.path.ok_or(Malformed)?);
            // There is no URI with a scheme and without an authority.
            uri.scheme = self.authority.is_some().then_some(scheme);
            uri.authority = self.authority;
        }
        parts.uri = Uri::from_parts(uri).map_err(|_| Malformed)?;
        parts.method = method;
        parts.headers = self.fields;
        Ok(Head {
            parts,
            protocol: self.protocol,
            length: self.length,
            too_large: false,
        })
    }

    /// What it is as a trailer section (RFC 9113 section 8.1: no pseudo-header fields).
    pub(crate) fn into_trailers(self) -> Result<Fields, Malformed> {
        if self.malformed || self.pseudo || self.too_large {
            return Err(Malformed);
        }
        Ok(self.fields)
    }
}

/// Digits and nothing else.
fn length(octets: &[u8]) -> Option<u64> {
    if octets.is_empty() || !octets.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(octets).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::hpack::Name;
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        Name::read(name.as_bytes()).with(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn section(fields: &[(&str, &str)], most: usize) -> Section {
        let mut section = Section::request();
        for (name, value) in fields {
            section.take(&field(name, value), name.len() + value.len() + 32, most);
        }
        section
    }

    const BASE: &[(&str, &str)] = &[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
    ];

    #[test]
    fn requests() {
        let with = |more: &[(&'static str, &'static str)]| [BASE, more].concat();
        let good = Some("GET https://a/");
        for (fields, want) in [
            (BASE.to_vec(), good),
            (with(&[("te", "trailers"), ("a", "b")]), good),
            (with(&[("te", "gzip")]), None),
            (with(&[("connection", "close")]), None),
            (with(&[("a", "b"), (":protocol", "x")]), None),
            (with(&[(":protocol", "websocket")]), None),
            (with(&[(":path", "/")]), None),
            (with(&[("content-length", "")]), None),
            (with(&[("content-length", "99999999999999999999")]), None),
            (with(&[("content-length", "12")]), good),
            (with(&[("content-length", "12"), ("content-length", "12")]), good),
            (with(&[("content-length", "12"), ("content-length", "13")]), None),
            (vec![BASE[0], BASE[1], BASE[3]], Some("GET /")),
            (vec![BASE[0], BASE[1], BASE[2], (":path", "/a#b")], None),
            (vec![(":method", "CONNECT"), BASE[2]], Some("CONNECT a")),
            (vec![(":method", "CONNECT")], None),
            (vec![(":method", "CONNECT"), BASE[2], BASE[3]], None),
            (
                vec![
                    (":method", "CONNECT"),
                    (":protocol", "websocket"),
                    BASE[1],
                    BASE[2],
                    BASE[3],
                ],
                Some("CONNECT https://a/"),
            ),
            (
                vec![(":method", "CONNECT"), (":protocol", "websocket"), BASE[2]],
                None,
            ),
        ] {
            let got = section(&fields, 1000).into_head().ok();
            let got = got.map(|head| format!("{} {}", head.parts.method, head.parts.uri));
            assert_eq!(got.as_deref(), want, "{fields:?}");
        }
    }

    #[test]
    fn sizes() {
        let size: usize = BASE
            .iter()
            .map(|(name, value)| name.len() + value.len() + 32)
            .sum();
        assert!(!section(BASE, size).into_head().unwrap().too_large);
        assert!(section(BASE, size - 1).into_head().unwrap().too_large);
    }

    #[test]
    fn trailers() {
        for (fields, want) in [
            (&[("a", "b")][..], true),
            (&[], true),
            (&[(":path", "/")], false),
            (&[("connection", "close")], false),
            (&[("a", " \u{1}")], false),
        ] {
            assert_eq!(section(fields, 1000).into_trailers().is_ok(), want, "{fields:?}");
        }
    }
}
