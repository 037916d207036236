use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{FrameKind, HEADER_LENGTH};
use super::{Negotiated, Notification, header};

/// Longest shutdown text, in octets (RFC 9003).
pub const MAX_SHUTDOWN_TEXT: usize = 255;

impl Notification {
    /// 4/0: nothing came from the peer for the hold time.
    pub fn hold_timer_expired() -> Self {
        Self::bare(4, 0)
    }

    /// 5/x: `subcode` 1 in OpenSent, 2 in OpenConfirm, 3 in Established (RFC 6608).
    pub fn fsm_error(subcode: u8) -> Self {
        Self::bare(5, subcode)
    }

    /// 6/x without data (RFC 4486): 1 maximum prefixes, 3 de-configured, 5 rejected, 6 configuration change, 7 collision.
    pub fn cease(subcode: u8) -> Self {
        Self::bare(6, subcode)
    }

    /// 6/2: administrative shutdown, `text` tells the operator of the peer why (RFC 9003).
    pub fn shutdown(text: &str) -> Self {
        Self::with_text(2, text)
    }

    /// 6/4: administrative reset, `text` as in [`Self::shutdown`].
    pub fn reset(text: &str) -> Self {
        Self::with_text(4, text)
    }

    /// 6/9: hard reset, the peer must not keep our routes (RFC 8538); `self` tells the reason.
    #[must_use]
    pub fn hard(&self) -> Self {
        let mut data = BytesMut::with_capacity(self.data.len().saturating_add(2));
        data.put_u8(self.code);
        data.put_u8(self.subcode);
        data.extend_from_slice(&self.data);
        Self {
            code: 6,
            subcode: 9,
            data: data.freeze(),
        }
    }

    /// Whether it says that routes must not be kept, whatever was agreed on (RFC 8538 section 3).
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (6, 9)
    }

    /// 8/0: we could not send for too long (RFC 9687).
    pub fn send_hold_timer_expired() -> Self {
        Self::bare(8, 0)
    }

    /// The shutdown text (RFC 9003), if there is one: control characters escaped, invalid UTF-8 replaced.
    pub fn shutdown_text(&self) -> Option<String> {
        if self.code != 6 || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (length, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(*length))?;
        if text.is_empty() {
            return None;
        }
        let text = String::from_utf8_lossy(text);
        Some(text.chars().flat_map(printable).collect())
    }

    fn bare(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::new(),
        }
    }

    fn with_text(subcode: u8, text: &str) -> Self {
        let mut end = text.len().min(MAX_SHUTDOWN_TEXT);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let text = text.get(..end).unwrap_or_default();
        let mut data = BytesMut::with_capacity(256);
        data.put_u8(u8::try_from(text.len()).unwrap_or(0));
        data.extend_from_slice(text.as_bytes());
        Self {
            code: 6,
            subcode,
            data: data.freeze(),
        }
    }

    /// Names of code and subcode as the RFCs spell them; `None` for a number that no RFC names.
    fn names(code: u8, subcode: u8) -> (Option<&'static str>, Option<&'static str>) {
        let code_name = match code {
            1 => "Message Header Error",
            2 => "OPEN Message Error",
            3 => "UPDATE Message Error",
            4 => "Hold Timer Expired",
            5 => "Finite State Machine Error",
            6 => "Cease",
            7 => "ROUTE-REFRESH Message Error",
            8 => "Send Hold Timer Expired",
            _ => return (None, None),
        };
        let subcode_name = match (code, subcode) {
            (1, 1) => "Connection Not Synchronized",
            (1, 2) => "Bad Message Length",
            (1, 3) => "Bad Message Type",
            (2, 1) => "Unsupported Version Number",
            (2, 2) => "Bad Peer AS",
            (2, 3) => "Bad BGP Identifier",
            (2, 4) => "Unsupported Optional Parameter",
            (2, 5) => "Authentication Failure",
            (2, 6) => "Unacceptable Hold Time",
            (2, 7) => "Unsupported Capability",
            (2, 11) => "Role Mismatch",
            (3, 1) => "Malformed Attribute List",
            (3, 2) => "Unrecognized Well-known Attribute",
            (3, 3) => "Missing Well-known Attribute",
            (3, 4) => "Attribute Flags Error",
            (3, 5) => "Attribute Length Error",
            (3, 6) => "Invalid ORIGIN Attribute",
            (3, 7) => "AS Routing Loop",
            (3, 8) => "Invalid NEXT_HOP Attribute",
            (3, 9) => "Optional Attribute Error",
            (3, 10) => "Invalid Network Field",
            (3, 11) => "Malformed AS_PATH",
            (5, 1) => "Unexpected Message in OpenSent State",
            (5, 2) => "Unexpected Message in OpenConfirm State",
            (5, 3) => "Unexpected Message in Established State",
            (6, 1) => "Maximum Number of Prefixes Reached",
            (6, 2) => "Administrative Shutdown",
            (6, 3) => "Peer De-configured",
            (6, 4) => "Administrative Reset",
            (6, 5) => "Connection Rejected",
            (6, 6) => "Other Configuration Change",
            (6, 7) => "Connection Collision Resolution",
            (6, 8) => "Out of Resources",
            (6, 9) => "Hard Reset",
            (6, 10) => "BFD Down",
            (7, 1) => "Invalid Message Length",
            _ => return (Some(code_name), None),
        };
        (Some(code_name), Some(subcode_name))
    }
}

/// `code/subcode names`, then the shutdown text, the reason inside a hard reset, or the first octets of other data.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(f, self.code, self.subcode)?;
        if let Some(text) = self.shutdown_text() {
            return write!(f, ": \"{text}\"");
        }
        let mut data: &[u8] = &self.data;
        if let ((6, 9), [code, subcode, rest @ ..]) = ((self.code, self.subcode), data) {
            f.write_str(" because of ")?;
            write_names(f, *code, *subcode)?;
            let inner = Self {
                code: *code,
                subcode: *subcode,
                data: self.data.slice_ref(rest),
            };
            if let Some(text) = inner.shutdown_text() {
                return write!(f, ": \"{text}\"");
            }
            data = rest;
        }
        if data.is_empty() {
            return Ok(());
        }
        f.write_str(", data ")?;
        for octet in data.iter().take(32) {
            write!(f, "{octet:02x}")?;
        }
        match data.len().saturating_sub(32) {
            0 => Ok(()),
            more => write!(f, " and {more} octets more"),
        }
    }
}

fn write_names(f: &mut fmt::Formatter<'_>, code: u8, subcode: u8) -> fmt::Result {
    write!(f, "{code}/{subcode} ")?;
    match Notification::names(code, subcode) {
        (Some(code), Some(subcode)) => write!(f, "{code}, {subcode}"),
        (Some(code), None) => f.write_str(code),
        (None, _) => f.write_str("unknown error"),
    }
}

/// What may stand in a log line: the character, or its escape when it could move the cursor or hide text.
fn printable(c: char) -> impl Iterator<Item = char> {
    let hides =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let plain = !c.is_control() && !hides && !matches!(c, '"' | '\\');
    let escaped = (!plain).then(|| c.escape_default());
    plain
        .then_some(c)
        .into_iter()
        .chain(escaped.into_iter().flatten())
}

pub(super) fn decode(body: &Bytes) -> Option<Notification> {
    let [code, subcode, data @ ..] = &**body else {
        return None;
    };
    Some(Notification {
        code: *code,
        subcode: *subcode,
        data: body.slice_ref(data),
    })
}

/// A NOTIFICATION as octets; data that would exceed 4,096 octets is cut.
pub fn encode_notification(notification: &Notification) -> Bytes {
    const ROOM: usize = Negotiated::MAX_LENGTH - HEADER_LENGTH - 2;
    let data = notification.data.get(..ROOM).unwrap_or(&notification.data);
    let mut octets = header(FrameKind::Notification, data.len().saturating_add(2));
    octets.put_u8(notification.code);
    octets.put_u8(notification.subcode);
    octets.extend_from_slice(data);
    octets.freeze()
}
