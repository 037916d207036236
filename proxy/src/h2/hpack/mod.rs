//! HPACK (RFC 7541): header sections as octets.

pub(crate) mod decode;
pub(crate) mod encode;
mod field;
pub(crate) mod huffman;
mod table;

pub(crate) use self::decode::Decoder;
pub(crate) use self::encode::Encoder;
pub(crate) use self::field::Field;
#[cfg(test)]
pub(crate) use self::field::Name;

/// A header block that cannot be read: what both sides know of the table is no longer the same (RFC 7541 section 5 and
/// others: COMPRESSION_ERROR).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken;

/// What an entry costs beside its name and its value (RFC 7541 section 4.1).
pub(crate) const OVERHEAD: usize = 32;
/// Octets of a table when nothing was said of it (RFC 9113 section 6.5.2).
pub(crate) const TABLE: usize = 4096;
