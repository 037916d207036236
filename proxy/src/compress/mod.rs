//! Answers compressed on their way to the client: what a client takes ([`accept`]), which answers may be and how their
//! header section changes ([`answer`]), and the octets themselves ([`encoder`]). Off, it costs one look at a list.

mod accept;
mod answer;
mod encoder;

use http::Version;
use sekisho_config::model::{Compression, Encoding, Filters};

pub(crate) use self::answer::{Change, is_stream, judge, media_type};
pub(crate) use self::encoder::Encoder;
use crate::fields::Fields;

#[cfg(test)]
pub(crate) use self::encoder::tests;

/// What the route and the client say of compression.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Coding {
    /// The route wants none.
    #[default]
    Off,
    /// It does; this coding the client prefers, `None`: as it is.
    On(Option<Encoding>),
}

/// What holds for a request: of the filters of its route, then of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    of_route: Option<&'a Compression>,
    of_file: &'a Compression,
}

impl<'a> Wish<'a> {
    pub(crate) fn new(filters: Option<&'a Filters>, of_file: &'a Compression) -> Self {
        Self {
            of_route: filters.map(|filters| &filters.compression),
            of_file,
        }
    }

    fn of<T: ?Sized>(&self, ask: impl Fn(&'a Compression) -> Option<&'a T>) -> Option<&'a T> {
        self.of_route.and_then(&ask).or_else(|| ask(self.of_file))
    }

    /// The codings that the route writes, the preferred one first.
    fn encodings(&self) -> &'a [Encoding] {
        self.of(|wish| wish.encodings.as_deref()).unwrap_or_default()
    }

    fn min_bytes(&self) -> u64 {
        self.of(|wish| wish.min_bytes.as_ref())
            .copied()
            .unwrap_or(Compression::MIN_BYTES)
    }

    fn takes_type(&self, media_type: &str) -> bool {
        match self.of(|wish| wish.types.as_deref()) {
            Some(types) => types.iter().any(|range| range.takes(media_type)),
            None => Compression::TYPES
                .iter()
                .any(|range| sekisho_config::model::takes(range, media_type)),
        }
    }

    /// What becomes of the answer to a request with these fields.
    pub(crate) fn coding(&self, version: Version, fields: &Fields) -> Coding {
        let ours = self.encodings();
        if ours.is_empty() {
            return Coding::Off;
        }
        // Where only the end of the connection says that the answer is over, a client could take half of it for the whole.
        let framed = version != Version::HTTP_10;
        Coding::On(
            (framed && !answer::no_transform(fields))
                .then(|| accept::preferred(ours, fields))
                .flatten(),
        )
    }
}
