//! A request's body gathered before its endpoint is asked, where the route wants that: a slow upload holds up no pod, the
//! pod hears how long the body is, and a try may be made again.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};

use super::send::refusal;
use crate::fields::Fields;
use crate::fields::names::{CONTENT_LENGTH, TRAILER};
use crate::http::answer::Refusal;
use crate::http::body::RequestBody;
use crate::http::exchange::{Exchange, Fault};
use crate::http::frame::Body;
use crate::metrics::Cell;

/// Reads a body of at most `most` octets. Trailers are left out: behind a body of known length there is no place for them.
pub(super) async fn gather(body: &mut RequestBody, most: u64, exchange: &Exchange) -> Result<Bytes, Refusal> {
    let worker = &exchange.client.worker;
    let too_large = || {
        exchange.blame(Fault::Proxy);
        Refusal::TooLarge
    };
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let memory = exchange.client.live.http.buffer_memory;
    let full = || {
        worker.counters.inc(Cell::BufferFull);
        Refusal::Overloaded
    };
    let mut held = worker.shared.metrics.held.take(0, usize::MAX).ok_or_else(full)?;
    let mut whole = BytesMut::new();
    while !body.is_end_stream() {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => break,
            Some(Err(error)) => return Err(refusal(&error)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if (whole.len() + data.len()) as u64 > most {
                    return Err(too_large());
                }
                if !held.grow(data.len(), memory) {
                    return Err(full());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
    worker.counters.inc(Cell::Buffered);
    // It comes back when the exchange is over.
    *exchange.held.borrow_mut() = Some(held);
    Ok(whole.freeze())
}

/// What the header section says of a body that is whole.
pub(super) fn announce(fields: &mut Fields, whole: &Bytes) {
    fields.remove(TRAILER);
    fields.insert(CONTENT_LENGTH, http::HeaderValue::from(whole.len()));
}
