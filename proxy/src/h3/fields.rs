//! Requests and answers as header sections (RFC 9114 sections 4.2 and 4.3).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::qpack::{self, BadSection};
use crate::fields::Fields;
use crate::fields::names::{CONTENT_LENGTH, TE};
use crate::message::request::Parts;

/// How large a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of the section, as SETTINGS_MAX_FIELD_SECTION_SIZE counts them.
    pub section: usize,
    /// Field lines.
    pub fields: usize,
    /// Octets of `:path`.
    pub path: usize,
}

/// Why a section is no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Bad {
    /// The connection's compression is broken.
    #[error("{0}")]
    Section(#[from] BadSection),
    /// It breaks the rules for fields (RFC 9114 section 4.1.2).
    #[error("it is malformed")]
    Malformed,
    /// It is larger than it may be.
    #[error("it is too large")]
    Large,
    /// Its target is longer than it may be.
    #[error("its target is too long")]
    Path,
}

/// A request without its body.
#[derive(Debug)]
pub struct Head {
    /// Method, target and fields.
    pub parts: Parts,
    /// `:protocol` of an extended CONNECT (RFC 9220).
    pub protocol: Option<String>,
    /// Octets of the body, where they are announced in one way.
    pub length: Option<u64>,
}

/// The fields that say what is asked for.
#[derive(Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<String>,
}

impl Pseudo {
    fn put(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Bad> {
        fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Bad> {
            let value = value.ok_or(Bad::Malformed)?;
            if place.replace(value).is_some() {
                return Err(Bad::Malformed);
            }
            Ok(())
        }
        match name {
            b":method" => once(&mut self.method, Method::from_bytes(value).ok()),
            b":scheme" => once(&mut self.scheme, Scheme::try_from(value).ok()),
            b":authority" => {
                // No user stands in the URIs of the Web (RFC 9114 section 4.3.1).
                let authority = Authority::try_from(value).ok();
                once(
                    &mut self.authority,
                    authority.filter(|authority| !authority.as_str().contains('@')),
                )
            }
            b":path" if value.len() > limits.path => Err(Bad::Path),
            b":path" => {
                let good = value == b"*" || value.starts_with(b"/");
                // A fragment would be left out without a word.
                let good = good && !value.contains(&b'#');
                let path = PathAndQuery::try_from(value).ok();
                once(&mut self.path, path.filter(|_| good))
            }
            b":protocol" => once(
                &mut self.protocol,
                std::str::from_utf8(value).ok().map(str::to_owned),
            ),
            _ => Err(Bad::Malformed),
        }
    }

    fn uri(self, method: &Method) -> Result<(Uri, Option<String>), Bad> {
        let Self {
            scheme,
            authority,
            path,
            protocol,
            ..
        } = self;
        let plain = *method == Method::CONNECT && protocol.is_none();
        let fits = if plain {
            scheme.is_none() && path.is_none() && authority.is_some()
        } else {
            // Only CONNECT is extended (RFC 8441 section 4).
            scheme.is_some() && path.is_some() && (protocol.is_none() || *method == Method::CONNECT)
        };
        if !fits {
            return Err(Bad::Malformed);
        }
        let mut target = http::uri::Parts::default();
        // A URI has no scheme without an authority; a request that names its host in a field alone keeps its path.
        target.scheme = scheme.filter(|_| authority.is_some());
        target.authority = authority;
        target.path_and_query = path;
        Ok((Uri::from_parts(target).map_err(|_| Bad::Malformed)?, protocol))
    }
}

/// A field line that is no pseudo-header field.
fn field(name: &[u8], value: &[u8]) -> Result<(HeaderName, HeaderValue), Bad> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(Bad::Malformed);
    }
    let name = HeaderName::from_bytes(name).map_err(|_| Bad::Malformed)?;
    let of_connection = matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    );
    if of_connection || (name == TE && !value.eq_ignore_ascii_case(b"trailers")) {
        return Err(Bad::Malformed);
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| Bad::Malformed)?;
    Ok((name, value))
}

/// Counts what a section takes when it is uncompressed.
struct Size {
    left: usize,
    fields: usize,
}

impl Size {
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Bad> {
        let size = name.len() + value.len() + 32;
        self.left = self.left.checked_sub(size).ok_or(Bad::Large)?;
        self.fields = self.fields.checked_sub(1).ok_or(Bad::Large)?;
        Ok(())
    }
}

/// Reads a request.
///
/// # Errors
/// [`Bad`].
pub fn request(section: &[u8], limits: &Limits) -> Result<Head, Bad> {
    let mut pseudo = Pseudo::default();
    let mut fields = Fields::new();
    let mut size = Size {
        left: limits.section,
        // Those that say what is asked for are not counted.
        fields: limits.fields.saturating_add(5),
    };
    qpack::decode::<Bad>(section, |name, value| {
        size.add(name, value)?;
        if name.first() == Some(&b':') {
            if !fields.is_empty() {
                return Err(Bad::Malformed);
            }
            return pseudo.put(name, value, limits);
        }
        let (name, value) = field(name, value)?;
        fields.append(name, value);
        Ok(())
    })?;
    let method = pseudo.method.take().ok_or(Bad::Malformed)?;
    let (uri, protocol) = pseudo.uri(&method)?;
    let parts = Parts {
        method,
        uri,
        version: Version::HTTP_3,
        headers: fields,
        ..Parts::default()
    };
    let length = parts.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(Head {
        parts,
        protocol,
        length,
    })
}

/// Reads a trailer section.
///
/// # Errors
/// [`Bad`].
pub fn trailers(section: &[u8], limits: &Limits) -> Result<Fields, Bad> {
    let mut fields = Fields::new();
    let mut size = Size {
        left: limits.section,
        fields: limits.fields,
    };
    qpack::decode::<Bad>(section, |name, value| {
        size.add(name, value)?;
        // A name that begins with a colon is none.
        let (name, value) = field(name, value)?;
        fields.append(name, value);
        Ok(())
    })?;
    Ok(fields)
}

/// Writes an answer's header section, or a trailer section, which has no status.
pub fn section(out: &mut Vec<u8>, status: Option<StatusCode>, fields: &Fields) {
    qpack::begin(out);
    if let Some(status) = status {
        qpack::encode(out, ":status", status.as_str().as_bytes());
    }
    for (name, value) in fields {
        qpack::encode(out, name.as_str(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        section: 1000,
        fields: 4,
        path: 100,
    };

    fn compressed(lines: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        qpack::begin(&mut out);
        for (name, value) in lines {
            qpack::encode(&mut out, name, value.as_bytes());
        }
        out
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.b"),
        (":path", "/x?y"),
    ];

    #[test]
    fn requests() {
        let with = |more: &[(&'static str, &'static str)]| [&GET, more].concat();
        let long = "x".repeat(101);
        let path = format!("/{long}");
        let huge = "x".repeat(900);
        for (name, lines, want) in [
            ("plain", GET.to_vec(), Ok("GET https://a.b/x?y")),
            (
                "order",
                vec![GET[3], GET[2], GET[0], GET[1]],
                Ok("GET https://a.b/x?y"),
            ),
            (
                "host alone",
                vec![GET[0], GET[1], GET[3], ("host", "a.b")],
                Ok("GET /x?y"),
            ),
            (
                "asterisk",
                vec![(":method", "OPTIONS"), GET[1], GET[2], (":path", "*")],
                Ok("OPTIONS https://a.b*"),
            ),
            ("connect", vec![(":method", "CONNECT"), GET[2]], Ok("CONNECT a.b")),
            (
                "extended",
                [&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]].concat(),
                Ok("CONNECT https://a.b/x?y"),
            ),
            ("te", with(&[("te", "trailers")]), Ok("GET https://a.b/x?y")),
            ("no method", GET[1..].to_vec(), Err(Bad::Malformed)),
            ("no scheme", vec![GET[0], GET[2], GET[3]], Err(Bad::Malformed)),
            ("no path", GET[..3].to_vec(), Err(Bad::Malformed)),
            (
                "empty path",
                vec![GET[0], GET[1], GET[2], (":path", "")],
                Err(Bad::Malformed),
            ),
            (
                "no slash",
                vec![GET[0], GET[1], GET[2], (":path", "x")],
                Err(Bad::Malformed),
            ),
            (
                "fragment",
                vec![GET[0], GET[1], GET[2], (":path", "/a#b")],
                Err(Bad::Malformed),
            ),
            (
                "user",
                vec![GET[0], GET[1], (":authority", "u@a.b"), GET[3]],
                Err(Bad::Malformed),
            ),
            ("twice", with(&[(":path", "/")]), Err(Bad::Malformed)),
            (
                "late",
                with(&[("a", "b"), (":protocol", "x")]),
                Err(Bad::Malformed),
            ),
            ("unknown", with(&[(":x", "b")]), Err(Bad::Malformed)),
            ("status", with(&[(":status", "200")]), Err(Bad::Malformed)),
            (
                "protocol of GET",
                with(&[(":protocol", "websocket")]),
                Err(Bad::Malformed),
            ),
            (
                "connect with path",
                vec![(":method", "CONNECT"), GET[2], GET[3]],
                Err(Bad::Malformed),
            ),
            (
                "connect to nowhere",
                vec![(":method", "CONNECT")],
                Err(Bad::Malformed),
            ),
            ("upper case", with(&[("A", "b")]), Err(Bad::Malformed)),
            ("no token", with(&[("a b", "c")]), Err(Bad::Malformed)),
            ("no name", with(&[("", "c")]), Err(Bad::Malformed)),
            ("line break", with(&[("a", "b\r\nc: d")]), Err(Bad::Malformed)),
            ("NUL", with(&[("a", "b\0")]), Err(Bad::Malformed)),
            (
                "connection",
                with(&[("connection", "close")]),
                Err(Bad::Malformed),
            ),
            ("keep-alive", with(&[("keep-alive", "1")]), Err(Bad::Malformed)),
            ("proxy", with(&[("proxy-connection", "x")]), Err(Bad::Malformed)),
            (
                "coding",
                with(&[("transfer-encoding", "chunked")]),
                Err(Bad::Malformed),
            ),
            ("upgrade", with(&[("upgrade", "h2c")]), Err(Bad::Malformed)),
            ("te, odd", with(&[("te", "gzip")]), Err(Bad::Malformed)),
            (
                "odd scheme",
                vec![GET[0], (":scheme", "a b"), GET[2], GET[3]],
                Err(Bad::Malformed),
            ),
            (
                "long path",
                vec![GET[0], GET[1], GET[2], (":path", &path)],
                Err(Bad::Path),
            ),
            (
                "long",
                with(&[]).into_iter().chain([("a", huge.as_str())]).collect(),
                Err(Bad::Large),
            ),
            ("many", with(&[("a", "b"); 6]), Err(Bad::Large)),
        ] {
            let got = request(&compressed(&lines), &LIMITS);
            let got = got.map(|head| format!("{} {}", head.parts.method, head.parts.uri));
            assert_eq!(got, want.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn lengths() {
        for (fields, want) in [
            (&[][..], None),
            (&[("content-length", "12")], Some(12)),
            (&[("content-length", "+1")], None),
        ] {
            let head = request(&compressed(&[&GET, fields].concat()), &LIMITS).unwrap();
            // A sign is refused with the request.
            assert_eq!(head.length.filter(|length| *length != 1), want);
        }
    }

    #[test]
    fn trailer_sections() {
        let read = |lines: &[(&str, &str)]| trailers(&compressed(lines), &LIMITS).map(|fields| fields.len());
        assert_eq!(read(&[("a", "b"), ("a", "c")]), Ok(2));
        assert_eq!(read(&[(":path", "/")]), Err(Bad::Malformed));
        assert_eq!(read(&[("connection", "x")]), Err(Bad::Malformed));
        assert_eq!(read(&[("a", "b"); 5]), Err(Bad::Large));
        assert_eq!(
            trailers(&[0, 0, 0x80], &LIMITS).map(drop),
            Err(Bad::Section(BadSection))
        );
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        let mut fields = Fields::new();
        fields.insert(
            http::HeaderName::from_static("server"),
            HeaderValue::from_static("sekisho"),
        );
        fields.insert(
            http::HeaderName::from_static("content-type"),
            HeaderValue::from_static("text/plain"),
        );
        let mut out = Vec::new();
        section(&mut out, Some(StatusCode::OK), &fields);
        let mut lines = Vec::new();
        qpack::decode::<BadSection>(&out, |name, value| {
            lines.push(format!(
                "{}={}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            ));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            lines,
            [":status=200", "server=sekisho", "content-type=text/plain"]
        );
    }
}
