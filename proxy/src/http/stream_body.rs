//! The body of a message on HTTP/2, from a client or from an endpoint. The parser has compared its length with what the
//! header announced.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::RecvStream;

use super::body::Piece;
use super::headers;
use crate::fields::Fields;
use crate::fields::names::CONTENT_LENGTH;
use crate::http::frame::{Body, Frame, SizeHint};

/// The body.
#[derive(Debug)]
pub(crate) struct StreamBody {
    stream: RecvStream,
    /// Octets to come, where they were announced.
    length: Option<u64>,
}

impl StreamBody {
    /// The body that follows these header fields.
    pub(crate) fn new(stream: RecvStream, fields: &Fields) -> Self {
        let length = fields
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, length }
    }
}

impl Body for StreamBody {
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let this = self.get_mut();
        loop {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever asks for the next piece has got rid of the last one.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    if data.is_empty() {
                        continue;
                    }
                    if let Some(length) = &mut this.length {
                        *length = length.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    return Poll::Ready(match ready!(this.stream.poll_trailers(cx)) {
                        Ok(Some(trailers)) => {
                            let mut trailers = Fields::from(trailers);
                            headers::clean_trailers(&mut trailers);
                            Some(Ok(Frame::trailers(trailers)))
                        }
                        Ok(None) => None,
                        Err(error) => Some(Err(error.into())),
                    });
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
