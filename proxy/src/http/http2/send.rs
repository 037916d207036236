//! Sending over a stream as flow control allows.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use crate::fields::Fields;
use crate::http::headers::clean_trailers;

/// The other side has reset the stream, or the connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone;

/// Sends a trailer section, without what has no place there, and so ends the stream.
pub(crate) fn send_trailers(stream: &mut SendStream<Bytes>, mut trailers: Fields) {
    clean_trailers(&mut trailers);
    let sent = if trailers.is_empty() {
        stream.send_data(Bytes::new(), true)
    } else {
        stream.send_trailers(HeaderMap::from(&trailers))
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "trailers cannot be sent");
        stream.send_reset(Reason::INTERNAL_ERROR);
    }
}

/// Sends `rest` to its end; `last`: nothing follows it.
pub(crate) fn poll_send(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    rest: &mut Bytes,
    last: bool,
) -> Poll<Result<(), Gone>> {
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
        let piece = rest.split_to(stream.capacity().min(rest.len()));
        let end = last && rest.is_empty();
        stream.send_data(piece, end).map_err(|_| Gone)?;
    }
    Poll::Ready(Ok(()))
}
