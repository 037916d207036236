use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes, BytesMut};
use sekisho_config::model::RouterId;

use super::frame::{FrameKind, HEADER_LENGTH};
use super::{Capability, EncodeError, Negotiated, Open, WireError, capability, header};

const VERSION: u8 = 4;
/// Optional parameter that holds capabilities (RFC 5492).
const CAPABILITIES: u8 = 2;
/// Type and length that announce the extended form of optional parameters (RFC 9072).
const EXTENDED: u8 = 255;
/// Octets before the optional parameters.
const FIXED_LENGTH: usize = 10;

pub(super) fn decode(body: &[u8]) -> Result<Open, WireError> {
    let Some((&[version, as_high, as_low, hold_high, hold_low, a, b, c, d, length], rest)) =
        body.split_first_chunk::<FIXED_LENGTH>()
    else {
        return Err(WireError::Open("it is cut off"));
    };
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let my_as = u16::from_be_bytes([as_high, as_low]);
    let hold_time = u16::from_be_bytes([hold_high, hold_low]);
    let identifier = Ipv4Addr::new(a, b, c, d);
    let capabilities = capabilities(length, rest)?;
    if my_as == 0 {
        return Err(WireError::PeerAs(0));
    }
    if matches!(hold_time, 1 | 2) {
        return Err(WireError::HoldTime(hold_time));
    }
    let router_id = RouterId::try_from(identifier).map_err(|_| WireError::Identifier(identifier))?;
    let open = Open {
        my_as,
        hold_time,
        router_id,
        capabilities,
    };
    if open.asn().is_none() {
        let number = open.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(number) => Some(*number),
            _ => None,
        });
        return Err(WireError::PeerAs(number.unwrap_or_else(|| my_as.into())));
    }
    Ok(open)
}

/// The capabilities of all optional parameters, in the order sent.
fn capabilities(length: u8, rest: &[u8]) -> Result<Vec<Capability>, WireError> {
    // RFC 9072 section 2: type 255 in the first place, whatever the one-octet length says, as long as it is not 0.
    let (mut parameters, extended) = match (length, rest) {
        (0, []) => return Ok(Vec::new()),
        (0, _) => return Err(WireError::Open("octets follow after a parameter length of 0")),
        (_, &[EXTENDED, high, low, ref parameters @ ..]) => {
            if parameters.len() != usize::from(u16::from_be_bytes([high, low])) {
                return Err(WireError::Open(
                    "the extended parameter length differs from the message's",
                ));
            }
            (parameters, true)
        }
        (_, parameters) => {
            if parameters.len() != usize::from(length) {
                return Err(WireError::Open("the parameter length differs from the message's"));
            }
            (parameters, false)
        }
    };
    let mut found = Vec::new();
    while !parameters.is_empty() {
        let (kind, length, rest) = match (parameters, extended) {
            (&[kind, high, low, ref rest @ ..], true) => (kind, u16::from_be_bytes([high, low]), rest),
            (&[kind, length, ref rest @ ..], false) => (kind, u16::from(length), rest),
            _ => return Err(WireError::Open("an optional parameter is cut off")),
        };
        let Some((value, after)) = rest.split_at_checked(usize::from(length)) else {
            return Err(WireError::Open("an optional parameter reaches past the others"));
        };
        if kind != CAPABILITIES {
            return Err(WireError::OptionalParameter(kind));
        }
        let mut value = value;
        while let [code, length, rest @ ..] = value {
            let Some((octets, after)) = rest.split_at_checked(usize::from(*length)) else {
                return Err(WireError::Open("a capability reaches past its parameter"));
            };
            found.push(capability::decode(*code, octets).ok_or(WireError::Open(
                "a capability has a length that its code does not have",
            ))?);
            value = after;
        }
        if !value.is_empty() {
            return Err(WireError::Open("a capability is cut off"));
        }
        parameters = after;
    }
    Ok(found)
}

/// An OPEN as octets: all capabilities in one parameter, in the extended form (RFC 9072) only when they need it.
///
/// # Errors
///
/// [`EncodeError::Capabilities`].
pub fn encode_open(open: &Open) -> Result<Bytes, EncodeError> {
    let mut values = BytesMut::new();
    for one in &open.capabilities {
        let before = values.len();
        capability::encode(one, &mut values);
        if values.len() == before {
            return Err(EncodeError::Capabilities);
        }
    }
    let mut parameters = BytesMut::with_capacity(values.len().saturating_add(6));
    match (u8::try_from(values.len()), u16::try_from(values.len())) {
        (Ok(0), _) => parameters.put_u8(0),
        (Ok(length), _) if length <= 253 => {
            parameters.put_u8(length.saturating_add(2));
            parameters.put_u8(CAPABILITIES);
            parameters.put_u8(length);
        }
        (_, Ok(length)) => {
            parameters.put_u8(EXTENDED);
            parameters.put_u8(EXTENDED);
            parameters.put_u16(length.saturating_add(3));
            parameters.put_u8(CAPABILITIES);
            parameters.put_u16(length);
        }
        _ => return Err(EncodeError::Capabilities),
    }
    parameters.extend_from_slice(&values);
    // The octet of the parameter length stands in `parameters`.
    let body = parameters.len().saturating_add(FIXED_LENGTH - 1);
    if body > Negotiated::MAX_LENGTH - HEADER_LENGTH {
        return Err(EncodeError::Capabilities);
    }
    let mut octets = header(FrameKind::Open, body);
    octets.put_u8(VERSION);
    octets.put_u16(open.my_as);
    octets.put_u16(open.hold_time);
    octets.put_u32(open.router_id.number());
    octets.extend_from_slice(&parameters);
    Ok(octets.freeze())
}
