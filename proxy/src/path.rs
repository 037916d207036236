//! The normal form of a request path, made once: what is matched is what is forwarded and logged.
//!
//! Dot segments are resolved (RFC 3986 section 5.2.4), duplicate slashes merged, percent-encodings of unreserved
//! characters decoded and the others written in upper case, octets beyond ASCII encoded. An encoded slash, backslash
//! or NUL is refused, since proxies and servers disagree about what it means; and so are `..;x`, which servers of Java
//! take for `..`, and overlong UTF-8 (`%C0%AE`), which careless decoders take for a dot or a slash.

use std::borrow::Cow;
use std::sync::Arc;

use sekisho_config::model::PathMatch;

/// Why a path is refused (400).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NoSlash,
    /// A `%` without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Percent,
    /// `%2F`, `%5C`, `%00`, a raw backslash, UTF-8 that is longer than it must be, a dot segment with parameters.
    #[error(
        "the path holds an encoded slash, a backslash or NUL, UTF-8 that is too long, or a dot segment with parameters"
    )]
    Ambiguous,
    /// A control character, space, `?`, `#`: nothing that a parsed path holds.
    #[error("the path holds a character that must be encoded")]
    Character,
}

/// How a slash is encoded in normal form.
const ENCODED_SLASH: &str = "%2F";

/// Whether `path` is already in normal form, seen without building anything.
fn is_normal(path: &[u8]) -> bool {
    let mut last = 0;
    for &octet in path {
        match octet {
            b'/' | b'.' if last == b'/' => return false,
            b'%' | b'\\' | b'?' | b'#' | b' ' => return false,
            octet if octet.is_ascii_control() || !octet.is_ascii() => return false,
            _ => {}
        }
        last = octet;
    }
    path.first() == Some(&b'/')
}

/// A path in normal form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Normal<'a> {
    /// The path.
    pub path: Cow<'a, str>,
    /// Whether it holds `%2F`, which only a route that asks for such paths may take.
    pub encoded_slash: bool,
}

/// Brings a request path (without query) into normal form; borrows when it already is. An encoded slash is refused.
///
/// # Errors
/// [`BadPath`] when it must be refused.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    match normal_form(path)? {
        Normal {
            encoded_slash: true, ..
        } => Err(BadPath::Ambiguous),
        Normal { path, .. } => Ok(path),
    }
}

/// As [`normalise`], but says whether there is an encoded slash instead of refusing it. What stands between encoded
/// slashes must not be empty or a dot segment, so that a server that decodes them comes to no other place.
///
/// # Errors
/// [`BadPath`] when it must be refused.
pub fn normal_form(path: &str) -> Result<Normal<'_>, BadPath> {
    if is_normal(path.as_bytes()) {
        return Ok(Normal {
            path: Cow::Borrowed(path),
            encoded_slash: false,
        });
    }
    if !path.starts_with('/') {
        return Err(BadPath::NoSlash);
    }
    let decoded = decode(path.as_bytes())?;
    if has_overlong(decoded.as_bytes()) {
        return Err(BadPath::Ambiguous);
    }
    let encoded_slash = decoded.contains(ENCODED_SLASH);
    if encoded_slash {
        let mut pieces = decoded
            .split('/')
            .filter(|segment| segment.contains(ENCODED_SLASH))
            .flat_map(|segment| segment.split(ENCODED_SLASH));
        if pieces.any(|piece| matches!(piece, "" | "." | "..")) {
            return Err(BadPath::Ambiguous);
        }
    }
    let mut out = String::with_capacity(decoded.len());
    let mut rest = decoded.as_str();
    // Invariant: `out` is empty or a normal path without trailing slash; `rest` is empty or begins with a slash.
    while let Some(after) = rest.strip_prefix('/') {
        let end = after.find('/').unwrap_or(after.len());
        let (segment, next) = after.split_at(end);
        let last = next.is_empty();
        match segment {
            _ if is_dotted(segment) => return Err(BadPath::Ambiguous),
            "" | "." => {
                if last {
                    out.push('/');
                }
            }
            ".." => {
                out.truncate(out.rfind('/').unwrap_or(0));
                if last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
        rest = next;
    }
    Ok(Normal {
        path: Cow::Owned(out),
        encoded_slash,
    })
}

/// A path in normal form without the parameters of its segments, in normal form; `None`: it has none. To some servers
/// `/admin;x` and `/;x/admin` are `/admin` (RFC 3986 section 3.3 leaves it to them).
pub(crate) fn without_parameters(path: &str) -> Option<String> {
    if !path.contains(';') {
        return None;
    }
    let segments = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default());
    let plain = segments.collect::<Vec<_>>().join("/");
    // What is left may have empty segments, and no dot segment: those with parameters are refused.
    normal_form(&plain).ok().map(|normal| normal.path.into_owned())
}

/// Whether a segment is `.` or `..` with parameters behind it.
fn is_dotted(segment: &str) -> bool {
    let rest = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.'));
    rest.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B"))
}

/// Whether a decoded path holds UTF-8 in more octets than it takes (RFC 3629 section 3): `C0` or `C1`, `E0` before less
/// than `A0`, `F0` before less than `90`, each with an octet behind it that continues it.
fn has_overlong(path: &[u8]) -> bool {
    let overlong = |window: &[u8]| {
        matches!(
            window,
            [b'%', b'C', b'0' | b'1', b'%', b'8' | b'9' | b'A' | b'B', _]
                | [b'%', b'E', b'0', b'%', b'8' | b'9', _]
                | [b'%', b'F', b'0', b'%', b'8', _]
        )
    };
    path.windows(6).any(overlong)
}

fn decode(path: &[u8]) -> Result<String, BadPath> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let mut out = String::with_capacity(path.len());
    let encode = |out: &mut String, octet: u8| {
        out.push('%');
        for nibble in [octet >> 4, octet & 15] {
            out.push(char::from(*HEX.get(usize::from(nibble)).unwrap_or(&b'0')));
        }
    };
    let mut octets = path.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b'%' => {
                let (Some(high), Some(low)) = (hex(octets.next()), hex(octets.next())) else {
                    return Err(BadPath::Percent);
                };
                let octet = u8::try_from(high * 16 + low).map_err(|_| BadPath::Percent)?;
                match octet {
                    b'\\' | 0 => return Err(BadPath::Ambiguous),
                    b'-' | b'.' | b'_' | b'~' => out.push(char::from(octet)),
                    octet if octet.is_ascii_alphanumeric() => out.push(char::from(octet)),
                    octet => encode(&mut out, octet),
                }
            }
            b'\\' => return Err(BadPath::Ambiguous),
            b'?' | b'#' | b' ' => return Err(BadPath::Character),
            octet if octet.is_ascii_control() => return Err(BadPath::Character),
            octet if octet.is_ascii() => out.push(char::from(octet)),
            octet => encode(&mut out, octet),
        }
    }
    Ok(out)
}

/// A rule's path in the normal form of requests, so that `/caf%c3%a9` in an Ingress takes what clients send.
/// Duplicate slashes and dot segments are left as they are: such a rule takes nothing. `None`: it can never match.
pub(crate) fn rule(path: &PathMatch) -> Option<PathMatch> {
    let normal = |text: &Arc<str>| -> Option<Arc<str>> {
        if is_normal(text.as_bytes()) {
            return Some(Arc::clone(text));
        }
        // Spaces and the like are written raw in some Ingresses; no request can hold them.
        decode(text.as_bytes()).ok().map(Arc::from)
    };
    match path {
        PathMatch::Exact(text) if text.starts_with('/') => normal(text).map(PathMatch::Exact),
        PathMatch::Prefix(text) if text.is_empty() => Some(PathMatch::Prefix("/".into())),
        PathMatch::Prefix(text) if text.starts_with('/') => normal(text).map(PathMatch::Prefix),
        // It is matched on the normal form, and so is written in it.
        PathMatch::Regex(pattern) => Some(PathMatch::Regex(pattern.clone())),
        PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        for (path, want) in [
            ("/", None),
            ("/a/b", None),
            ("/a;x", Some("/a")),
            ("/a;", Some("/a")),
            ("/a;x=1;y=2/b;z", Some("/a/b")),
            ("/a/;x", Some("/a/")),
            ("/;x/a", Some("/a")),
            ("/;/;/a/;x/b", Some("/a/b")),
            ("/;", Some("/")),
            ("/a%3Bx", None),
            ("/a;x/b%2Fc", Some("/a/b%2Fc")),
        ] {
            assert_eq!(without_parameters(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn normal_forms() {
        for (input, want) in [
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/b/", Ok("/a/b/")),
            ("//", Ok("/")),
            ("//a///b//", Ok("/a/b/")),
            ("/.", Ok("/")),
            ("/..", Ok("/")),
            ("/../../a", Ok("/a")),
            ("/a/./b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/a/b/..", Ok("/a/")),
            ("/a/b/.", Ok("/a/b/")),
            ("/a//../b", Ok("/b")),
            ("/a/%2e%2e/b", Ok("/b")),
            ("/a/.%2E/b", Ok("/b")),
            ("/%61dmin", Ok("/admin")),
            ("/a%7eb%7E", Ok("/a~b~")),
            ("/a%3ab", Ok("/a%3Ab")),
            ("/caf\u{e9}", Ok("/caf%C3%A9")),
            ("/a/.b", Ok("/a/.b")),
            ("/a/..b/...", Ok("/a/..b/...")),
            ("/a;x=1/b", Ok("/a;x=1/b")),
            ("/a%25%32%66", Ok("/a%252f")),
            ("/a%2fb", Err(BadPath::Ambiguous)),
            ("/a%2Fb", Err(BadPath::Ambiguous)),
            ("/a%5cb", Err(BadPath::Ambiguous)),
            ("/a\\b", Err(BadPath::Ambiguous)),
            ("/a%00", Err(BadPath::Ambiguous)),
            ("/a/..;/b", Err(BadPath::Ambiguous)),
            ("/a/%2e%2E%3bx=y/b", Err(BadPath::Ambiguous)),
            ("/.;x", Err(BadPath::Ambiguous)),
            ("/a;..;/b.;c", Ok("/a;..;/b.;c")),
            ("/%c0%af", Err(BadPath::Ambiguous)),
            ("/%C1%81", Err(BadPath::Ambiguous)),
            ("/\u{c0}", Ok("/%C3%80")),
            ("/%c0", Ok("/%C0")),
            ("/%c0a", Ok("/%C0a")),
            ("/%e0%80%af", Err(BadPath::Ambiguous)),
            ("/%e0%a0%80", Ok("/%E0%A0%80")),
            ("/%f0%80%80%af", Err(BadPath::Ambiguous)),
            ("/%f0%90%80%80", Ok("/%F0%90%80%80")),
            ("/a%", Err(BadPath::Percent)),
            ("/a%4", Err(BadPath::Percent)),
            ("/a%zz", Err(BadPath::Percent)),
            ("/a%+1", Err(BadPath::Percent)),
            ("/a b", Err(BadPath::Character)),
            ("", Err(BadPath::NoSlash)),
            ("a", Err(BadPath::NoSlash)),
        ] {
            assert_eq!(normalise(input).as_deref(), want.as_ref().copied(), "{input:?}");
        }
    }

    #[test]
    fn encoded_slashes() {
        for (input, want) in [
            ("/a%2fb", Ok("/a%2Fb")),
            ("/@scope%2Fname/x", Ok("/@scope%2Fname/x")),
            ("/a/../b%2fc", Ok("/b%2Fc")),
            ("/a%2f..%2fb", Err(BadPath::Ambiguous)),
            ("/..%2fb", Err(BadPath::Ambiguous)),
            ("/a%2f%2e%2e", Err(BadPath::Ambiguous)),
            ("/%2fb", Err(BadPath::Ambiguous)),
            ("/a%2f", Err(BadPath::Ambiguous)),
            ("/a%2f%2fb", Err(BadPath::Ambiguous)),
            ("/a%5cb%2fc", Err(BadPath::Ambiguous)),
        ] {
            let got = normal_form(input);
            assert_eq!(
                got.as_ref().map(|normal| &*normal.path),
                want.as_ref().copied(),
                "{input}"
            );
            assert!(got.is_err() || got.is_ok_and(|normal| normal.encoded_slash));
            assert_eq!(normalise(input), Err(BadPath::Ambiguous));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_normal_form_stays(path in "[/.%a-c2eEfF5cC0\\\\~é;]{0,24}") {
            if let Ok(normal) = normalise(&path) {
                proptest::prop_assert_eq!(normalise(&normal), Ok(Cow::Borrowed(normal.as_ref())), "{}", path);
                proptest::prop_assert!(normal.starts_with('/') && normal.is_ascii());
                proptest::prop_assert!(!normal.contains("//") && !normal.split('/').any(|s| s == "." || s == ".."));
            }
        }

        #[test]
        fn any_text_is_safe(path: String) { let _ = normalise(&path); }
    }
}
