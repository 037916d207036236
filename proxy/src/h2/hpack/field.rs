//! A field as it is kept in a table: read once, however often it is referred to.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method};

/// A name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Plain(HeaderName),
    /// One that no request may have.
    Bad,
}

/// A field of a request's header section.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Method(Method),
    Scheme(Scheme),
    Authority(Authority),
    Path(PathAndQuery),
    Protocol(Bytes),
    Plain(HeaderName, HeaderValue),
    /// One that makes a request malformed (RFC 9113 section 8.2.1); its name may be referred to.
    Bad(Name),
}

impl Name {
    /// Reads a name: in lower case, of the octets of a token, or that of a pseudo-header field.
    pub(crate) fn read(octets: &[u8]) -> Self {
        match octets {
            [b':', rest @ ..] => match rest {
                b"method" => Self::Method,
                b"scheme" => Self::Scheme,
                b"authority" => Self::Authority,
                b"path" => Self::Path,
                b"protocol" => Self::Protocol,
                _ => Self::Bad,
            },
            _ => HeaderName::from_lowercase(octets).map_or(Self::Bad, Self::Plain),
        }
    }

    /// Puts a value to it.
    pub(crate) fn with(self, value: Bytes) -> Field {
        let field = match &self {
            Self::Method => Method::from_bytes(&value).ok().map(Field::Method),
            Self::Scheme => match &value[..] {
                b"https" => Some(Field::Scheme(Scheme::HTTPS)),
                b"http" => Some(Field::Scheme(Scheme::HTTP)),
                other => Scheme::try_from(other).ok().map(Field::Scheme),
            },
            Self::Authority => Authority::from_maybe_shared(value).ok().map(Field::Authority),
            // RFC 9113 section 8.3.1: never empty, and in origin form but for OPTIONS *. A query without a path gets an
            // answer that says so.
            Self::Path => match value.first() {
                // A fragment would be left out without a word.
                _ if value.contains(&b'#') => None,
                Some(b'/' | b'?') => PathAndQuery::from_maybe_shared(value).ok().map(Field::Path),
                Some(b'*') if value.len() == 1 => Some(Field::Path(PathAndQuery::from_static("*"))),
                _ => None,
            },
            Self::Protocol => Some(Field::Protocol(value)),
            Self::Plain(name) => {
                let name = name.clone();
                HeaderValue::from_maybe_shared(value)
                    .ok()
                    .map(|value| Field::Plain(name, value))
            }
            Self::Bad => None,
        };
        field.unwrap_or(Field::Bad(self))
    }
}

impl Field {
    /// Its name, for another value.
    pub(crate) fn name(&self) -> Name {
        match self {
            Self::Method(_) => Name::Method,
            Self::Scheme(_) => Name::Scheme,
            Self::Authority(_) => Name::Authority,
            Self::Path(_) => Name::Path,
            Self::Protocol(_) => Name::Protocol,
            Self::Plain(name, _) => Name::Plain(name.clone()),
            Self::Bad(name) => name.clone(),
        }
    }
}
