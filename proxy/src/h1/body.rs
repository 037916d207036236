//! A body out of a buffer, by its framing.

use bytes::{Bytes, BytesMut};

use super::chunked::Chunks;
use crate::fields::Fields;

/// Why a body is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadBody {
    /// A chunk's size, or what stands where one is expected.
    #[error("a chunk has no proper size")]
    ChunkSize,
    /// A chunk extension.
    #[error("a chunk extension is malformed or too long")]
    ChunkExtension,
    /// The trailer section.
    #[error("the trailers are malformed or too many")]
    Trailers,
    /// The connection ended before the body did.
    #[error("the connection ended in the body")]
    Short,
}

/// What a buffer held of a body.
#[derive(Debug)]
pub enum Decoded {
    /// A piece.
    Data(Bytes),
    /// The trailer section; the body is over.
    Trailers(Fields),
    /// The body is over.
    End,
    /// More octets are needed.
    More,
}

/// Takes a body out of a buffer.
#[derive(Debug)]
pub struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    Length(u64),
    /// In a box: most bodies are not, and a connection that waits has a decoder, too.
    Chunked(Box<Chunks>),
    UntilClose {
        closed: bool,
    },
}

impl Decoder {
    /// No body.
    pub fn none() -> Self {
        Self(Kind::Length(0))
    }

    /// A body of so many octets.
    pub fn length(octets: u64) -> Self {
        Self(Kind::Length(octets))
    }

    /// A chunked body.
    pub fn chunked() -> Self {
        Self(Kind::Chunked(Box::default()))
    }

    /// A body that ends with its connection.
    pub fn until_close() -> Self {
        Self(Kind::UntilClose { closed: false })
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunks) => chunks.is_done(),
            Kind::UntilClose { closed } => *closed,
        }
    }

    /// Octets that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(_) | Kind::UntilClose { .. } => None,
        }
    }

    /// Whether only the end of the connection ends the body.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, Kind::UntilClose { .. })
    }

    /// Takes the next piece out of `buffer`.
    ///
    /// # Errors
    /// [`BadBody`] when the framing is broken.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BadBody> {
        match &mut self.0 {
            Kind::Length(0) | Kind::UntilClose { closed: true } => Ok(Decoded::End),
            Kind::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                if count == 0 {
                    return Ok(Decoded::More);
                }
                *left -= count as u64;
                Ok(Decoded::Data(buffer.split_to(count).freeze()))
            }
            Kind::Chunked(chunks) => chunks.decode(buffer),
            Kind::UntilClose { .. } => {
                if buffer.is_empty() {
                    return Ok(Decoded::More);
                }
                Ok(Decoded::Data(buffer.split().freeze()))
            }
        }
    }

    /// So many octets of a body of known length have gone another way than through the buffer.
    pub fn skip(&mut self, octets: u64) {
        if let Kind::Length(left) = &mut self.0 {
            *left = left.saturating_sub(octets);
        }
    }

    /// The connection has ended; nothing is left in the buffer.
    ///
    /// # Errors
    /// [`BadBody::Short`] when the body is not over.
    pub fn end(&mut self) -> Result<(), BadBody> {
        if let Kind::UntilClose { closed } = &mut self.0 {
            *closed = true;
        }
        if self.is_done() {
            Ok(())
        } else {
            Err(BadBody::Short)
        }
    }
}
