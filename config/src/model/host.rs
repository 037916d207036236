use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Invalid;

const HOST_HELP: &str = "write a DNS name in ASCII without port, for example shop.example.com (RFC 1123)";

/// A DNS host name, lower-case ASCII, at most 253 octets, labels of letters, digits, `-` and `_`; never an IP address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first label: `b.c` of `a.b.c`; `None` for a single label.
    pub fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, rest)| rest)
    }
}

impl FromStr for HostName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || {
            Err(Invalid::new(
                format!("`{}` is not a host name", text.escape_debug()),
                HOST_HELP,
            ))
        };
        if text.is_empty() || text.len() > 253 || text.parse::<std::net::IpAddr>().is_ok() {
            return bad();
        }
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !text.split('.').all(label_ok) {
            return bad();
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

/// Tables keyed by [`HostName`] are asked with a `&str` in lower case: equality, order and hash are those of the text.
impl std::borrow::Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Which hosts a rule or a certificate is for. Exact wins over wildcard, wildcard over any.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostPattern {
    /// This host and no other.
    Exact(HostName),
    /// `*.suffix`: exactly one label in front of the suffix (Ingress v1); holds the suffix.
    Wildcard(HostName),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Whether a request for `host` belongs here.
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => host.parent() == Some(suffix.as_str()),
            Self::Any => true,
        }
    }
}

impl FromStr for HostPattern {
    type Err = Invalid;

    /// Reads `name` or `*.name`; the empty text is [`HostPattern::Any`].
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => suffix.parse().map(Self::Wildcard),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (input, want) in [
            ("Shop.Example.COM", Some("shop.example.com")),
            ("localhost", Some("localhost")),
            ("a_b.example", Some("a_b.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("a.b.", None),
            ("-a.b", None),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
            ("a b", None),
            ("*.a", None),
            ("exämple.com", None),
        ] {
            assert_eq!(
                input.parse::<HostName>().ok().map(|h| h.to_string()).as_deref(),
                want,
                "{input:?}"
            );
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
        assert!(["a"; 128].join(".").parse::<HostName>().is_err());
    }

    #[test]
    fn a_wildcard_takes_one_label() {
        let pattern: HostPattern = "*.foo.com".parse().unwrap();
        for (host, want) in [
            ("bar.foo.com", true),
            ("baz.bar.foo.com", false),
            ("foo.com", false),
            ("xfoo.com", false),
        ] {
            assert_eq!(pattern.matches(&host.parse().unwrap()), want, "{host}");
        }
        assert_eq!("".parse::<HostPattern>().unwrap(), HostPattern::Any);
        for bad in ["*", "*.*.com", "a.*.com", "*."] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_safe_and_round_trips(text: String) {
            if let Ok(pattern) = text.parse::<HostPattern>()
                && pattern != HostPattern::Any
            {
                proptest::prop_assert_eq!(pattern.to_string().parse::<HostPattern>().unwrap(), pattern);
            }
        }
    }
}
