//! `Accept-Encoding` (RFC 9110 section 12.5.3): which of our codings a client likes best.

use sekisho_config::model::Encoding;

use crate::fields::Fields;
use crate::fields::names::ACCEPT_ENCODING;

/// Members of the list that are looked at; no client needs more.
const MOST: usize = 32;

/// How much a client likes a coding, in thousandths; 0: not at all.
type Quality = u16;

/// The coding of `ours`, the best first, that the client likes best and at least as much as the answer as it is.
/// Without the field nothing is compressed: the client may take anything, and need not.
pub(super) fn preferred(ours: &[Encoding], fields: &Fields) -> Option<Encoding> {
    let mut named = [None; 3];
    let (mut any, mut identity) = (None, None);
    let members = fields
        .get_all(ACCEPT_ENCODING)
        .flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    for member in members.take(MOST) {
        let Some((name, quality)) = read(member) else {
            continue;
        };
        let is = |what: &str| name.eq_ignore_ascii_case(what.as_bytes());
        let place = if is("gzip") || is("x-gzip") {
            named.get_mut(Encoding::Gzip as usize)
        } else if is("br") {
            named.get_mut(Encoding::Brotli as usize)
        } else if is("zstd") {
            named.get_mut(Encoding::Zstd as usize)
        } else if is("identity") {
            Some(&mut identity)
        } else if is("*") {
            Some(&mut any)
        } else {
            None
        };
        if let Some(place) = place {
            *place = Some(quality);
        }
    }
    let quality = |encoding: Encoding| -> Quality {
        let named = named.get(encoding as usize).copied().flatten();
        named.or(any).unwrap_or_default()
    };
    let mut best: Option<(Quality, Encoding)> = None;
    for encoding in ours {
        let quality = quality(*encoding);
        // Of two that it likes as much the first of ours is taken.
        if quality > best.map_or(0, |(most, _)| most) {
            best = Some((quality, *encoding));
        }
    }
    best.filter(|(quality, _)| *quality >= identity.unwrap_or_default())
        .map(|(_, encoding)| encoding)
}

/// Name and quality of one member; `None` where it cannot be read.
fn read(member: &[u8]) -> Option<(&[u8], Quality)> {
    let (name, rest) = match member.iter().position(|octet| *octet == b';') {
        Some(at) => member.split_at_checked(at)?,
        None => (member, &b""[..]),
    };
    let name = name.trim_ascii();
    if name.is_empty() {
        return None;
    }
    let Some(parameter) = rest.strip_prefix(b";") else {
        return Some((name, 1000));
    };
    let (key, value) = parameter.trim_ascii().split_at_checked(2)?;
    if !key.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    Some((name, quality(value)?))
}

/// `0`, `0.5`, `1.000`: at most three digits behind the point, at most 1.
fn quality(text: &[u8]) -> Option<Quality> {
    let (whole, fraction) = match text.split_first()? {
        (b'0', rest) => (0, rest),
        (b'1', rest) => (1000, rest),
        _ => return None,
    };
    let digits = match fraction.split_first() {
        None => &b""[..],
        Some((b'.', digits)) if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        Some(_) => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = digits.get(place).map_or(0, |digit| u16::from(digit - b'0'));
        thousandths = thousandths * 10 + digit;
    }
    Some(whole + thousandths).filter(|quality| *quality <= 1000)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use sekisho_config::model::Encoding::{Brotli, Gzip, Zstd};

    use super::*;

    #[test]
    fn choices() {
        let all = &[Zstd, Brotli, Gzip][..];
        for (ours, asked, want) in [
            (all, &[][..], None),
            (all, &[""], None),
            (all, &["gzip"], Some(Gzip)),
            (all, &["GZIP"], Some(Gzip)),
            (all, &["x-gzip"], Some(Gzip)),
            (all, &["gzip, deflate, br, zstd"], Some(Zstd)),
            (&[Gzip, Zstd], &["gzip, deflate, br, zstd"], Some(Gzip)),
            (all, &["gzip", "br"], Some(Brotli)),
            (all, &["deflate"], None),
            (all, &["identity"], None),
            (all, &["*"], Some(Zstd)),
            (all, &["*;q=0.5, gzip"], Some(Gzip)),
            (all, &["*, zstd;q=0"], Some(Brotli)),
            (all, &["gzip;q=0"], None),
            (all, &["gzip;q=0.000"], None),
            (all, &["gzip;q=0.001"], Some(Gzip)),
            (all, &["br;q=0.5, gzip;q=0.8"], Some(Gzip)),
            (all, &["br; q=0.8 , gzip ;q=0.8"], Some(Brotli)),
            (all, &["identity, gzip;q=0.5"], None),
            (all, &["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (all, &["identity;q=0, gzip;q=0.1"], Some(Gzip)),
            (all, &["gzip;q=2"], None),
            (all, &["gzip;q=1.001"], None),
            (all, &["gzip;q=0.0001"], None),
            (all, &["gzip;q="], None),
            (all, &["gzip;q"], None),
            (all, &["gzip;level=9"], None),
            (all, &[";q=1, ,,gzip"], Some(Gzip)),
            (&[Brotli], &["gzip"], None),
        ] {
            let mut fields = Fields::new();
            for value in asked {
                fields.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(preferred(ours, &fields), want, "{ours:?} {asked:?}");
        }
    }

    proptest::proptest! {
        /// Whatever a client asks for, it gets nothing that it excludes.
        #[test]
        fn any_list_is_safe(text in "[ -~]{0,64}|(gzip|br|zstd|\\*|identity|;|q=|0|1|\\.|,| ){0,16}") {
            let mut fields = Fields::new();
            fields.insert(ACCEPT_ENCODING, HeaderValue::from_str(&text).unwrap());
            if let Some(chosen) = preferred(&[Zstd, Brotli, Gzip], &fields) {
                let lower = text.to_ascii_lowercase();
                proptest::prop_assert!(lower.contains(chosen.as_str()) || lower.contains('*'));
            }
        }
    }
}
