//! Writing header blocks.
//!
//! What answers repeat (Server, Date, Content-Type …) gets a place in the table of the other side and is one octet from
//! then on. Everything else is written as it is: to look for it would cost more than to send it.

use std::collections::VecDeque;

use http::StatusCode;

use super::table::{self, Kind, LASTING_COUNT, STATIC};
use super::{OVERHEAD, TABLE, huffman};

/// A value that is longer does not get a place.
const LONGEST: usize = 512;
/// `:status` in the static table, and the values that stand there.
const STATUS: usize = 8;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Writes the header blocks of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The dynamic table of the other side, the newest entry first.
    entries: VecDeque<Entry>,
    /// Entries since the beginning.
    inserted: u64,
    /// By what the name is: which entry was made last for it, counted from 1.
    last: [u64; LASTING_COUNT],
    size: usize,
    most: usize,
    /// The smallest size, and the last one, that are still to be said.
    owed: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    size: usize,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            inserted: 0,
            last: [0; LASTING_COUNT],
            size: 0,
            most: TABLE,
            owed: None,
        }
    }

    /// SETTINGS_HEADER_TABLE_SIZE of the other side (RFC 9113 section 6.5.2).
    pub(crate) fn limit(&mut self, most: usize) {
        let most = most.min(TABLE);
        if most == self.most && self.owed.is_none() {
            return;
        }
        let least = self.owed.map_or(most, |(least, _)| least.min(most));
        self.owed = Some((least, most));
        self.most = most;
        self.shrink(0);
    }

    /// A block begins.
    fn begin(&mut self, out: &mut Vec<u8>) {
        // RFC 7541 section 4.2: the smallest one, too, where it was changed more than once.
        if let Some((least, most)) = self.owed.take() {
            if least < most {
                integer(out, 0x20, 5, least);
            }
            integer(out, 0x20, 5, most);
        }
    }

    /// The beginning of an answer's block.
    pub(crate) fn status(&mut self, out: &mut Vec<u8>, status: StatusCode) {
        self.begin(out);
        let code = status.as_u16();
        match STATUSES.iter().position(|other| *other == code) {
            Some(place) => integer(out, 0x80, 7, STATUS + place),
            None => {
                integer(out, 0x00, 4, STATUS);
                string(out, status.as_str().as_bytes(), false);
            }
        }
    }

    /// The beginning of a trailer section's block.
    pub(crate) fn trailers(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
    }

    /// A field. What is for one connection only is left out.
    pub(crate) fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let known = table::known(name);
        let (pattern, bits) = match known.kind {
            Kind::Forbidden => return,
            Kind::Secret => (0x10, 4),
            Kind::Passing => (0x00, 4),
            Kind::Lasting(place) => {
                let place = usize::from(place);
                if let Some(index) = self.find(place, value) {
                    return integer(out, 0x80, 7, index);
                }
                let size = name.len() + value.len() + OVERHEAD;
                if value.len() <= LONGEST && size <= self.most {
                    named(out, 0x40, 6, known.index, name);
                    string(out, value, true);
                    self.keep(place, value, size);
                    return;
                }
                (0x00, 4)
            }
        };
        named(out, pattern, bits, known.index, name);
        string(out, value, false);
    }

    /// Where this value stands in the table.
    fn find(&self, place: usize, value: &[u8]) -> Option<usize> {
        let age = self.inserted - *self.last.get(place).filter(|number| **number > 0)?;
        let age = usize::try_from(age).ok()?;
        let entry = self.entries.get(age)?;
        (*entry.value == *value).then_some(STATIC + 1 + age)
    }

    fn keep(&mut self, place: usize, value: &[u8], size: usize) {
        self.shrink(size);
        self.size += size;
        self.inserted += 1;
        if let Some(last) = self.last.get_mut(place) {
            *last = self.inserted;
        }
        self.entries.push_front(Entry {
            value: value.into(),
            size,
        });
    }

    fn shrink(&mut self, size: usize) {
        while self.size + size > self.most {
            let Some(gone) = self.entries.pop_back() else {
                return;
            };
            self.size -= gone.size;
        }
    }
}

/// An integer behind a pattern (RFC 7541 section 5.1).
fn integer(out: &mut Vec<u8>, pattern: u8, bits: u8, value: usize) {
    let most = (1usize << bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A name, by its index where it has one.
fn named(out: &mut Vec<u8>, pattern: u8, bits: u8, index: u8, name: &[u8]) {
    if index > 0 {
        return integer(out, pattern, bits, usize::from(index));
    }
    out.push(pattern);
    string(out, name, false);
}

/// A string; `shorten`: it is worth the time.
fn string(out: &mut Vec<u8>, octets: &[u8], shorten: bool) {
    if shorten {
        let length = huffman::length(octets);
        if length < octets.len() {
            integer(out, 0x80, 7, length);
            return huffman::encode(octets, out);
        }
    }
    integer(out, 0x00, 7, octets.len());
    out.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, Field};
    use super::*;

    /// What a client reads; a status comes as a field that no request may have.
    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut fields = Vec::new();
        let read = decoder.decode(block, &mut Vec::new(), |field, _| {
            if let Field::Plain(name, value) = field {
                fields.push((name.to_string(), value.as_bytes().to_vec()));
            }
        });
        assert_eq!(read, Ok(()));
        fields
    }

    fn write(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.status(&mut out, StatusCode::OK);
        for (name, value) in fields {
            encoder.field(&mut out, name.as_bytes(), value.as_bytes());
        }
        out
    }

    #[test]
    fn what_comes_again_is_an_octet() {
        let mut encoder = Encoder::new();
        let fields = [
            ("server", "x"),
            ("content-type", "text/plain"),
            ("set-cookie", "a=b"),
            ("etag", "1"),
            ("te", "gzip"),
        ];
        let first = write(&mut encoder, &fields);
        assert_eq!(first[0], 0x88);
        let again = write(&mut encoder, &fields);
        assert_eq!(again[..3], [0x88, 0xbf, 0xbe]);
        // Never indexed, index 55 behind four bits.
        assert_eq!(again[3..5], [0x1f, 55 - 15]);
        let mut decoder = Decoder::new();
        let want: Vec<_> = fields[..4]
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(read(&mut decoder, &first), want);
        assert_eq!(read(&mut decoder, &again), want);
    }

    #[test]
    fn sizes_are_said() {
        let mut encoder = Encoder::new();
        write(&mut encoder, &[("server", "x")]);
        encoder.limit(0);
        encoder.limit(10_000);
        assert!(encoder.entries.is_empty());
        assert_eq!(write(&mut encoder, &[])[..5], [0x20, 0x3f, 0xe1, 0x1f, 0x88]);
        assert_eq!(write(&mut encoder, &[]), [0x88]);
        encoder.limit(20);
        let block = write(&mut encoder, &[("server", "x")]);
        assert_eq!(block[..2], [0x34, 0x88]);
        assert!(encoder.entries.is_empty());
    }

    #[test]
    fn statuses() {
        for (code, want) in [
            (200, &[0x88][..]),
            (404, &[0x8d]),
            (500, &[0x8e]),
            (103, &[0x08, 3, b'1', b'0', b'3']),
        ] {
            let mut out = Vec::new();
            Encoder::new().status(&mut out, StatusCode::from_u16(code).unwrap());
            assert_eq!(out, want, "{code}");
        }
    }

    proptest! {
        /// The table of the other side stays the same as ours, whatever is written and however large it may be.
        #[test]
        fn what_is_written_is_read(
            sections in prop::collection::vec(
                (prop::option::of(0..5000usize), prop::collection::vec((0..5usize, "[ -~]{0,700}"), 0..8)),
                0..12,
            )
        ) {
            let names = ["date", "server", "x-own", "set-cookie", "vary"];
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            for (limit, section) in sections {
                if let Some(limit) = limit {
                    encoder.limit(limit);
                }
                let fields: Vec<(&str, &str)> = section.iter().map(|(name, value)| (names[*name], value.as_str())).collect();
                let block = write(&mut encoder, &fields);
                let want: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
                prop_assert_eq!(read(&mut decoder, &block), want);
                prop_assert_eq!(encoder.size, encoder.entries.iter().map(|entry| entry.size).sum::<usize>());
                prop_assert!(encoder.size <= encoder.most);
            }
        }
    }
}
