//! Bodies as they pass: pieces of content, and trailers at their end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
pub(crate) use http_body::SizeHint;

use super::body::Piece;
use crate::fields::Fields;

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Content.
    Data(Bytes),
    /// What is said behind it.
    Trailers(Fields),
}

/// A body that is asked for its pieces one after the other.
pub(crate) trait Body {
    /// The next piece.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece>;

    /// Whether it is known that nothing follows.
    fn is_end_stream(&self) -> bool;

    /// How much of it is to come.
    fn size_hint(&self) -> SizeHint;
}

impl Frame {
    pub(crate) fn data(data: Bytes) -> Self {
        Self::Data(data)
    }

    pub(crate) fn trailers(trailers: Fields) -> Self {
        Self::Trailers(trailers)
    }

    pub(crate) fn into_data(self) -> Result<Bytes, Self> {
        match self {
            Self::Data(data) => Ok(data),
            other @ Self::Trailers(_) => Err(other),
        }
    }

    pub(crate) fn into_trailers(self) -> Result<Fields, Self> {
        match self {
            Self::Trailers(trailers) => Ok(trailers),
            other @ Self::Data(_) => Err(other),
        }
    }

    pub(crate) fn data_ref(&self) -> Option<&Bytes> {
        match self {
            Self::Data(data) => Some(data),
            Self::Trailers(_) => None,
        }
    }

    pub(crate) fn trailers_mut(&mut self) -> Option<&mut Fields> {
        match self {
            Self::Trailers(trailers) => Some(trailers),
            Self::Data(_) => None,
        }
    }

    pub(crate) fn is_trailers(&self) -> bool {
        matches!(self, Self::Trailers(_))
    }
}
