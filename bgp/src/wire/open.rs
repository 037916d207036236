use bytes::Bytes;

use super::{EncodeError, Open, WireError};

pub(super) fn decode(body: &[u8]) -> Result<Open, WireError> {
    let _ = body;
    Err(WireError::Open("not built yet"))
}

/// An OPEN as octets.
pub fn encode_open(open: &Open) -> Result<Bytes, EncodeError> {
    let _ = open;
    Ok(Bytes::new())
}
