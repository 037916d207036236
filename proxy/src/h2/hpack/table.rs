//! The static table (RFC 7541 appendix A), and what is done with the fields of answers.

use std::sync::LazyLock;

use bytes::Bytes;

use super::field::{Field, Name};

/// Entries of the static table.
pub(crate) const STATIC: usize = 61;

#[rustfmt::skip]
const ENTRIES: [(&str, &str); STATIC] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// A field in a table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) field: Field,
    /// Octets of its name.
    pub(crate) name: usize,
    /// What it costs (RFC 7541 section 4.1).
    pub(crate) size: usize,
}

static FIELDS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    ENTRIES
        .iter()
        .map(|(name, value)| Entry {
            field: Name::read(name.as_bytes()).with(Bytes::from_static(value.as_bytes())),
            name: name.len(),
            size: name.len() + value.len() + super::OVERHEAD,
        })
        .collect()
});

/// An entry of the static table; they are counted from 1.
pub(crate) fn entry(index: usize) -> Option<&'static Entry> {
    FIELDS.get(index.checked_sub(1)?)
}

/// What is known of the name of an answer's field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Known {
    /// Its index in the static table; 0: it has none.
    pub(crate) index: u8,
    pub(crate) kind: Kind,
}

/// What is done with a field of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Another value nearly each time: not worth a place in the table.
    Passing,
    /// Worth one: the same value comes again and again. The number is its place among those.
    Lasting(u8),
    /// Not to be kept by whoever is on the way (RFC 7541 section 7.1.3).
    Secret,
    /// Of one connection only (RFC 9113 section 8.2.2).
    Forbidden,
}

/// Names of which answers repeat the values.
#[rustfmt::skip]
const LASTING: [&str; LASTING_COUNT] = [
    "date", "server", "content-type", "cache-control", "vary", "content-encoding", "accept-ranges", "content-language",
    "strict-transport-security", "access-control-allow-origin", "via", "allow", "x-content-type-options",
    "x-frame-options", "x-xss-protection", "referrer-policy", "content-security-policy", "permissions-policy",
    "access-control-allow-methods", "access-control-allow-headers", "access-control-allow-credentials", "alt-svc",
    "x-powered-by", "grpc-status", "grpc-encoding", "grpc-accept-encoding", "pragma", "expires",
];
/// How many there are.
pub(crate) const LASTING_COUNT: usize = 28;
const SECRET: [&str; 3] = ["set-cookie", "www-authenticate", "proxy-authenticate"];
const FORBIDDEN: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
];

/// Names by their length: most lookups are over after one or two comparisons.
static NAMES: LazyLock<Vec<Vec<(&'static str, Known)>>> = LazyLock::new(|| {
    let mut names: Vec<Vec<(&'static str, Known)>> = Vec::new();
    let all = ENTRIES
        .iter()
        .map(|(name, _)| *name)
        .chain(LASTING)
        .chain(SECRET)
        .chain(FORBIDDEN);
    for name in all {
        if names.len() <= name.len() {
            names.resize_with(name.len() + 1, Vec::new);
        }
        let index = ENTRIES.iter().position(|(other, _)| *other == name);
        let lasting = LASTING.iter().position(|other| *other == name);
        let known = Known {
            index: index.map_or(0, |index| u8::try_from(index + 1).unwrap_or_default()),
            kind: match lasting {
                Some(place) => Kind::Lasting(u8::try_from(place).unwrap_or_default()),
                None if SECRET.contains(&name) => Kind::Secret,
                None if FORBIDDEN.contains(&name) => Kind::Forbidden,
                None => Kind::Passing,
            },
        };
        if let Some(list) = names.get_mut(name.len())
            && !list.iter().any(|(other, _)| *other == name)
        {
            list.push((name, known));
        }
    }
    names
});

/// What is known of a name.
pub(crate) fn known(name: &[u8]) -> Known {
    let list = NAMES.get(name.len()).map_or(&[][..], |list| list);
    list.iter().find(|(other, _)| other.as_bytes() == name).map_or(
        Known {
            index: 0,
            kind: Kind::Passing,
        },
        |(_, known)| *known,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (index, name) in [
            (1, ":authority"),
            (8, ":status"),
            (28, "content-length"),
            (33, "date"),
            (54, "server"),
            (61, "www-authenticate"),
        ] {
            assert_eq!(ENTRIES[index - 1].0, name);
        }
        assert!(entry(0).is_none() && entry(62).is_none());
        assert!(
            matches!(entry(2), Some(Entry { field: Field::Method(method), size: 42, .. }) if *method == http::Method::GET)
        );
        assert_eq!(
            known(b"server"),
            Known {
                index: 54,
                kind: Kind::Lasting(1)
            }
        );
        assert_eq!(
            known(b"set-cookie"),
            Known {
                index: 55,
                kind: Kind::Secret
            }
        );
        assert_eq!(known(b"transfer-encoding").kind, Kind::Forbidden);
        assert_eq!(
            known(b"content-length"),
            Known {
                index: 28,
                kind: Kind::Passing
            }
        );
        assert_eq!(
            known(b"x-own"),
            Known {
                index: 0,
                kind: Kind::Passing
            }
        );
        assert_eq!(
            known(b""),
            Known {
                index: 0,
                kind: Kind::Passing
            }
        );
    }
}
