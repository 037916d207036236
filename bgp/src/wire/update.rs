use super::{Negotiated, Update, WireError};

pub(super) fn decode(body: &[u8], negotiated: &Negotiated) -> Result<Update, WireError> {
    let _ = (body, negotiated);
    Ok(Update::default())
}
