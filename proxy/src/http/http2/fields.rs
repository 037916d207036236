//! Header fields of requests on HTTP/2.

use crate::fields::names::CONTENT_LENGTH;
use crate::fields::{Fields, Value};
use crate::http::answer::Refusal;

/// What the parser lets through and a request must not have (RFC 9113 sections 8.2.1 and 8.1.1), and its size.
pub(crate) fn check(fields: &Fields, most: usize) -> Result<(), Refusal> {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    let padded = |value: Value<'_>| {
        let octets = value.as_bytes();
        blank(octets.first()) || blank(octets.last())
    };
    if fields.values().any(padded) {
        return Err(Refusal::Malformed);
    }
    // The library of header fields knows one character more than RFC 9110 section 5.6.2.
    if fields.keys().any(|name| name.as_bytes().contains(&b'"')) {
        return Err(Refusal::Malformed);
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH);
    if lengths.next().is_some() && lengths.next().is_some() {
        return Err(Refusal::Framing);
    }
    // As SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113 section 6.5.2).
    let size: usize = fields
        .iter()
        .map(|(name, value)| name.as_bytes().len() + value.len() + 32)
        .sum();
    if size > most {
        return Err(Refusal::Headers);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn fields() {
        for (fields, want) in [
            (&[("a", "b"), ("content-length", "1")][..], Ok(())),
            (&[("a", "")], Ok(())),
            (&[("a", " b")], Err(Refusal::Malformed)),
            (&[("a\"", "b")], Err(Refusal::Malformed)),
            (&[("a", "b\t")], Err(Refusal::Malformed)),
            (
                &[("content-length", "1"), ("content-length", "1")],
                Err(Refusal::Framing),
            ),
            (&[("a", "0123456789"), ("b", "0123456789")], Err(Refusal::Headers)),
        ] {
            let mut map = Fields::new();
            for (name, value) in fields {
                map.append(
                    HeaderName::from_lowercase(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            assert_eq!(check(&map, 85), want, "{fields:?}");
        }
    }
}
