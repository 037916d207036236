use bytes::{Buf, Bytes, BytesMut};

use super::{Negotiated, WireError};

/// Octets of marker, length and type.
pub const HEADER_LENGTH: usize = 19;

/// One whole message as octets: header checked and removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What the header says it is.
    pub kind: FrameKind,
    /// Everything after the header.
    pub body: Bytes,
}

/// Message type of the header (RFC 4271 section 4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// 1.
    Open,
    /// 2.
    Update,
    /// 3.
    Notification,
    /// 4.
    Keepalive,
    /// 5 (RFC 2918).
    RouteRefresh,
}

impl FrameKind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// The number of this type.
    pub fn number(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// Shortest and longest legal length, header included (RFC 4271 section 6.1, RFC 8654 section 4).
    fn lengths(self, extended: bool) -> (usize, usize) {
        let most = if extended {
            Negotiated::EXTENDED_MAX_LENGTH
        } else {
            Negotiated::MAX_LENGTH
        };
        match self {
            Self::Open => (29, Negotiated::MAX_LENGTH),
            Self::Update => (23, most),
            Self::Notification => (21, most),
            Self::Keepalive => (HEADER_LENGTH, HEADER_LENGTH),
            // What is too short for its subtype has an error of its own (RFC 7313 section 5), told once it is read.
            Self::RouteRefresh => (22, most),
        }
    }
}

/// Takes the first message off `buffer`; `Ok(None)` when it is not complete yet.
///
/// Everything that the header tells is checked as soon as its 19 octets are there, so a hostile length never makes us
/// wait for a body or grow the buffer: what is left to come is below [`Negotiated::EXTENDED_MAX_LENGTH`].
///
/// # Errors
///
/// [`WireError::Marker`], [`WireError::Length`] and [`WireError::Type`]; the connection cannot be read any further.
pub fn frame(buffer: &mut BytesMut, negotiated: &Negotiated) -> Result<Option<Frame>, WireError> {
    let Some(header) = buffer.first_chunk::<HEADER_LENGTH>() else {
        return Ok(None);
    };
    let (marker, rest) = header.split_at(16);
    if marker.iter().any(|octet| *octet != 0xff) {
        return Err(WireError::Marker);
    }
    let &[high, low, number] = rest else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]);
    let whole = usize::from(length);
    let most = if negotiated.extended_message_receive {
        Negotiated::EXTENDED_MAX_LENGTH
    } else {
        Negotiated::MAX_LENGTH
    };
    if !(HEADER_LENGTH..=most).contains(&whole) {
        return Err(WireError::Length { length, kind: number });
    }
    let Some(kind) = FrameKind::from_number(number) else {
        return Err(WireError::Type(number));
    };
    let (least, most) = kind.lengths(negotiated.extended_message_receive);
    if !(least..=most).contains(&whole) {
        return Err(WireError::Length { length, kind: number });
    }
    if buffer.len() < whole {
        buffer.reserve(whole.saturating_sub(buffer.len()));
        return Ok(None);
    }
    let mut body = buffer.split_to(whole);
    body.advance(HEADER_LENGTH);
    Ok(Some(Frame {
        kind,
        body: body.freeze(),
    }))
}
