//! BGP messages, guarded: nothing from the network reaches a library before its lengths, flags and values are checked.
//!
//! [`frame`] cuts the octet stream into messages, [`decode`] reads one, the `encode_*` functions write them.
//! [`Negotiated`] holds all that both depend on. No I/O, no state, no clock.

mod capability;
mod encode;
mod error;
mod frame;
mod message;
mod negotiated;
mod notification;
mod open;
mod role;
mod stale;
mod update;
mod zetta;

use bytes::{BufMut, Bytes, BytesMut};

pub use encode::{EncodeError, UpdateOut, encode_update};
pub use error::{Fault, WireError};
pub use frame::{Frame, FrameKind, HEADER_LENGTH, frame};
pub use message::{
    Aggregator, AsPath, Attributes, Capability, Family, LargeCommunity, Message, NextHop, Nlri, Notification,
    Open, Origin, RawAttribute, RouteRefresh, RouteRefreshKind, Segment, Update,
};
pub use negotiated::{Families, Negotiated};
pub use notification::{MAX_SHUTDOWN_TEXT, encode_notification};
pub use open::encode_open;
pub use role::OnlyToCustomer;

/// Reads one message.
///
/// An UPDATE that can be saved by RFC 7606 is saved: [`Update::faults`] tells what was wrong with it.
///
/// # Errors
///
/// Whatever must end the connection; [`WireError::notification`] is what to send before closing.
pub fn decode(frame: &Frame, negotiated: &Negotiated) -> Result<Message, WireError> {
    let body = &frame.body;
    let length = || WireError::Length {
        length: u16::try_from(body.len().saturating_add(HEADER_LENGTH)).unwrap_or(u16::MAX),
        kind: frame.kind.number(),
    };
    match frame.kind {
        FrameKind::Open => open::decode(body).map(Message::Open),
        FrameKind::Update => update::decode(body, negotiated).map(Message::Update),
        FrameKind::Notification => notification::decode(body)
            .map(Message::Notification)
            .ok_or_else(length),
        FrameKind::Keepalive => Ok(Message::Keepalive),
        FrameKind::RouteRefresh => match &**body {
            // The marks of RFC 7313 are 4 octets long and nothing else.
            [_, _, 1 | 2, rest @ ..] if negotiated.enhanced_route_refresh && rest.len() != 1 => {
                let mut message = header(frame.kind, body.len());
                message.extend_from_slice(body);
                Err(WireError::RouteRefreshLength {
                    message: message.freeze(),
                })
            }
            &[a, b, subtype, safi, ..] => {
                let kind = match subtype {
                    // Without RFC 7313 this octet is reserved and ignored (RFC 2918 section 3).
                    _ if !negotiated.enhanced_route_refresh => RouteRefreshKind::Request,
                    0 => RouteRefreshKind::Request,
                    1 => RouteRefreshKind::Begin,
                    2 => RouteRefreshKind::End,
                    other => RouteRefreshKind::Unknown(other),
                };
                Ok(Message::RouteRefresh(RouteRefresh {
                    afi: u16::from_be_bytes([a, b]),
                    safi,
                    kind,
                }))
            }
            _ => Err(length()),
        },
    }
}

/// A KEEPALIVE as octets.
pub fn encode_keepalive() -> Bytes {
    header(FrameKind::Keepalive, 0).freeze()
}

/// A ROUTE-REFRESH as octets.
pub fn encode_route_refresh(refresh: &RouteRefresh) -> Bytes {
    let mut octets = header(FrameKind::RouteRefresh, 4);
    octets.put_u16(refresh.afi);
    octets.put_u8(match refresh.kind {
        RouteRefreshKind::Request => 0,
        RouteRefreshKind::Begin => 1,
        RouteRefreshKind::End => 2,
        RouteRefreshKind::Unknown(subtype) => subtype,
    });
    octets.put_u8(refresh.safi);
    octets.freeze()
}

/// A buffer that begins with the header of a message of `body` octets; callers keep it below 65,535 octets.
fn header(kind: FrameKind, body: usize) -> BytesMut {
    let whole = body.saturating_add(HEADER_LENGTH);
    let mut octets = BytesMut::with_capacity(whole);
    octets.put_bytes(0xff, 16);
    octets.put_u16(u16::try_from(whole).unwrap_or(u16::MAX));
    octets.put_u8(kind.number());
    octets
}

#[cfg(test)]
mod tests;
