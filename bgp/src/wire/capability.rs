use bytes::{BufMut, Bytes, BytesMut};

use super::{Capability, Family};

/// Writes `capability` as code, length and value; nothing when the value does not fit in 255 octets.
pub(super) fn encode(capability: &Capability, out: &mut BytesMut) {
    let mut value = BytesMut::new();
    let code = match capability {
        Capability::Multiprotocol(family) => {
            let (afi, safi) = family.numbers();
            put_family(&mut value, afi, safi);
            1
        }
        Capability::MultiprotocolOther(afi, safi) => {
            put_family(&mut value, *afi, *safi);
            1
        }
        Capability::RouteRefresh => 2,
        Capability::ExtendedNextHop(entries) => {
            for (afi, safi, next_hop) in entries {
                value.put_u16(*afi);
                value.put_u16(*safi);
                value.put_u16(*next_hop);
            }
            5
        }
        Capability::ExtendedMessage => 6,
        Capability::Role(role) => {
            value.put_u8(*role);
            9
        }
        Capability::GracefulRestart {
            restarted,
            notification,
            time,
            families,
        } => {
            let flags = u16::from(*restarted) << 15 | u16::from(*notification) << 14;
            value.put_u16(flags | time & 0x0fff);
            for (afi, safi, forwarding) in families {
                value.put_u16(*afi);
                value.put_u8(*safi);
                value.put_u8(u8::from(*forwarding) << 7);
            }
            64
        }
        Capability::FourOctetAs(number) => {
            value.put_u32(*number);
            65
        }
        Capability::AddPath(entries) => {
            for (afi, safi, direction) in entries {
                value.put_u16(*afi);
                value.put_u8(*safi);
                value.put_u8(*direction);
            }
            69
        }
        Capability::EnhancedRouteRefresh => 70,
        Capability::LongLivedGracefulRestart(entries) => {
            for (afi, safi, flags, time) in entries {
                value.put_u16(*afi);
                value.put_u8(*safi);
                value.put_u8(*flags);
                value.put_uint(u64::from(*time & 0x00ff_ffff), 3);
            }
            71
        }
        Capability::Hostname { host, domain } => {
            for text in [host, domain] {
                value.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
                value.extend_from_slice(text.as_bytes());
            }
            73
        }
        Capability::Other { code, value: raw } => {
            value.extend_from_slice(raw);
            *code
        }
    };
    if let Ok(length) = u8::try_from(value.len()) {
        out.put_u8(code);
        out.put_u8(length);
        out.extend_from_slice(&value);
    }
}

fn put_family(value: &mut BytesMut, afi: u16, safi: u8) {
    value.put_u16(afi);
    value.put_u8(0);
    value.put_u8(safi);
}

/// One capability. `None`: a code that we know with a length that its RFC does not give it, so its optional parameter is
/// malformed (RFC 4271 section 6.2): whoever goes on would read the peer's messages otherwise than they are meant.
///
/// A value that is well-formed and makes no sense is kept as [`Capability::Other`] and so has no effect.
pub(super) fn decode(code: u8, value: &[u8]) -> Option<Capability> {
    let length_fits = match code {
        1 | 65 => value.len() == 4,
        2 | 6 | 70 => value.is_empty(),
        5 => value.len().is_multiple_of(6),
        9 => value.len() == 1,
        64 => value.len() % 4 == 2,
        69 => value.len().is_multiple_of(4),
        71 => value.len().is_multiple_of(7),
        73 => matches!(value, [host, rest @ ..] if rest.len() > usize::from(*host)),
        _ => true,
    };
    length_fits.then(|| {
        understood(code, value).unwrap_or_else(|| Capability::Other {
            code,
            value: Bytes::copy_from_slice(value),
        })
    })
}

fn understood(code: u8, value: &[u8]) -> Option<Capability> {
    Some(match (code, value) {
        (1, [a, b, _reserved, safi]) => {
            let afi = u16::from_be_bytes([*a, *b]);
            match Family::from_numbers(afi, *safi) {
                Some(family) => Capability::Multiprotocol(family),
                None => Capability::MultiprotocolOther(afi, *safi),
            }
        }
        (2, []) => Capability::RouteRefresh,
        (5, value) => Capability::ExtendedNextHop(each(value, |[a, b, c, d, e, f]: [u8; 6]| {
            Some((
                u16::from_be_bytes([a, b]),
                u16::from_be_bytes([c, d]),
                u16::from_be_bytes([e, f]),
            ))
        })?),
        (6, []) => Capability::ExtendedMessage,
        (9, [role]) => Capability::Role(*role),
        (64, [a, b, families @ ..]) => {
            let word = u16::from_be_bytes([*a, *b]);
            Capability::GracefulRestart {
                restarted: word & 0x8000 != 0,
                notification: word & 0x4000 != 0,
                time: word & 0x0fff,
                families: each(families, |[a, b, safi, flags]: [u8; 4]| {
                    Some((u16::from_be_bytes([a, b]), safi, flags & 0x80 != 0))
                })?,
            }
        }
        (65, [a, b, c, d]) => Capability::FourOctetAs(u32::from_be_bytes([*a, *b, *c, *d])),
        // A direction other than 1 to 3 makes the whole capability void (RFC 7911 section 4).
        (69, value) => Capability::AddPath(each(value, |[a, b, safi, direction]: [u8; 4]| {
            (1..=3)
                .contains(&direction)
                .then(|| (u16::from_be_bytes([a, b]), safi, direction))
        })?),
        (70, []) => Capability::EnhancedRouteRefresh,
        (71, value) => {
            Capability::LongLivedGracefulRestart(each(value, |[a, b, safi, flags, x, y, z]: [u8; 7]| {
                Some((
                    u16::from_be_bytes([a, b]),
                    safi,
                    flags,
                    u32::from_be_bytes([0, x, y, z]),
                ))
            })?)
        }
        (73, value) => {
            let (host, rest) = counted_text(value)?;
            let (domain, rest) = counted_text(rest)?;
            if !rest.is_empty() {
                return None;
            }
            Capability::Hostname { host, domain }
        }
        _ => return None,
    })
}

/// `value` as entries of `N` octets; `None` when octets are left over or an entry is refused.
fn each<const N: usize, T>(value: &[u8], entry: impl Fn([u8; N]) -> Option<T>) -> Option<Vec<T>> {
    let (entries, rest) = value.as_chunks::<N>();
    if !rest.is_empty() {
        return None;
    }
    entries.iter().map(|octets| entry(*octets)).collect()
}

/// A text with one octet of length before it, and what follows.
fn counted_text(value: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = value.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}
