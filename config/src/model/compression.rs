use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Invalid;

/// Content codings that the box can write (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
}

impl Encoding {
    /// Its name in header fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Encoding {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "br" => Ok(Self::Brotli),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Invalid::new(
                format!("`{}` is not a coding that the box writes", text.escape_debug()),
                "write gzip, br or zstd",
            )),
        }
    }
}

/// Which answers are compressed on their way to the client. What is absent is as the file says, and where that says
/// nothing, the default.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Compression {
    /// Codings, the preferred one first; none at all: nothing is compressed.
    pub encodings: Option<Arc<[Encoding]>>,
    /// Answers that are known to be smaller stay as they are.
    pub min_bytes: Option<u64>,
    /// Media types of answers that are compressed.
    pub types: Option<Arc<[MediaRange]>>,
}

impl Compression {
    /// `min_bytes` where nobody says it.
    pub const MIN_BYTES: u64 = 1024;

    /// `types` where nobody says them.
    pub const TYPES: &[&str] = &[
        "text/*",
        "application/javascript",
        "application/json",
        "application/ld+json",
        "application/manifest+json",
        "application/problem+json",
        "application/wasm",
        "application/xml",
        "application/atom+xml",
        "application/rss+xml",
        "application/xhtml+xml",
        "application/vnd.ms-fontobject",
        "font/otf",
        "font/ttf",
        "image/svg+xml",
        "image/x-icon",
    ];
}

/// A media type, or all those of one kind: `application/json`, `text/*`. In lower case, without parameters.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MediaRange(Arc<str>);

impl MediaRange {
    /// Whether a type without parameters is one of them.
    pub fn takes(&self, media_type: &str) -> bool {
        takes(&self.0, media_type)
    }

    /// As written, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `range`, in lower case, takes `media_type`, which is without parameters.
pub fn takes(range: &str, media_type: &str) -> bool {
    match range.strip_suffix('*') {
        Some(kind) => media_type
            .get(..kind.len())
            .is_some_and(|begins| begins.eq_ignore_ascii_case(kind)),
        None => range.eq_ignore_ascii_case(media_type),
    }
}

impl FromStr for MediaRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let token = |text: &str| {
            (1..=127).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            Some((kind, sub)) if token(kind) && (sub == "*" || token(sub)) => {
                Ok(Self(text.to_ascii_lowercase().into()))
            }
            _ => Err(Invalid::new(
                format!("`{}` is not a media type", text.escape_debug()),
                "write types without parameters, for example application/json or text/*",
            )),
        }
    }
}

impl fmt::Display for MediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MediaRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, media_type, want) in [
            ("text/*", "text/html", true),
            ("text/*", "Text/HTML", true),
            ("text/*", "textual/html", false),
            ("text/*", "text", false),
            ("Application/JSON", "application/json", true),
            ("application/json", "application/json5", false),
        ] {
            let parsed: MediaRange = range.parse().unwrap();
            assert_eq!(parsed.takes(media_type), want, "{range} {media_type}");
        }
        for bad in [
            "",
            "*/*",
            "text",
            "text/",
            "/x",
            "text/html; a=b",
            "a b/c",
            "text/*x",
        ] {
            assert!(bad.parse::<MediaRange>().is_err(), "{bad}");
        }
        for named in Compression::TYPES {
            assert_eq!(named.parse::<MediaRange>().unwrap().as_str(), *named);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_safe(text: String) {
            let _ = text.parse::<MediaRange>();
            let _ = text.parse::<Encoding>();
            let _ = takes("text/*", &text);
        }
    }
}
