//! HTTP/3 as octets (RFC 9114) and its header compression (RFC 9204), without a socket: what a client may send, and what that
//! means. QPACK's dynamic table is not offered, so that no stream waits for another one and nothing is kept for a client.

pub mod control;
pub mod fields;
pub mod frame;
pub mod qpack;
mod table;
pub mod varint;

/// Why a stream or a connection is ended (RFC 9114 section 8.1, RFC 9204 section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code(pub u64);

#[expect(missing_docs, reason = "the names are those of the RFCs")]
impl Code {
    pub const NO_ERROR: Self = Self(0x100);
    pub const GENERAL_PROTOCOL_ERROR: Self = Self(0x101);
    pub const INTERNAL_ERROR: Self = Self(0x102);
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    pub const FRAME_ERROR: Self = Self(0x106);
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    pub const ID_ERROR: Self = Self(0x108);
    pub const SETTINGS_ERROR: Self = Self(0x109);
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    pub const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    pub const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    pub const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);
}
