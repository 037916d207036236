//! Reading header blocks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::field::{Field, Name};
use super::table::{self, Entry, STATIC};
use super::{Broken, OVERHEAD, TABLE, huffman};

/// Reads the header blocks of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The dynamic table, the newest entry first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

/// A block that is being read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn octet(&mut self) -> Result<u8, Broken> {
        let (octet, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*octet)
    }

    /// An integer that begins in the last `bits` bits of `first` (RFC 7541 section 5.1).
    fn integer(&mut self, first: u8, bits: u8) -> Result<usize, Broken> {
        let most = (1u8 << bits) - 1;
        let begin = first & most;
        if begin < most {
            return Ok(usize::from(begin));
        }
        let mut value = usize::from(most);
        // Nothing that may be said needs more octets.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    /// A string (RFC 7541 section 5.2); `room` is for one that has to be decoded.
    fn string<'b>(&'b mut self, room: &'b mut Vec<u8>) -> Result<&'b [u8], Broken> {
        let first = self.octet()?;
        let length = self.integer(first, 7)?;
        let (octets, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        if first & 0x80 == 0 {
            return Ok(octets);
        }
        room.clear();
        huffman::decode(octets, room)?;
        Ok(room)
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            most: TABLE,
        }
    }

    /// Reads a block; each field goes to `take` with its size as tables count it.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        room: &mut Vec<u8>,
        mut take: impl FnMut(&Field, usize),
    ) -> Result<(), Broken> {
        let mut reader = Reader(block);
        let mut begun = false;
        while !reader.0.is_empty() {
            let first = reader.octet()?;
            // RFC 7541 section 6, by the highest bit that is set.
            if first & 0x80 != 0 {
                let index = reader.integer(first, 7)?;
                let entry = self.entry(index)?;
                take(&entry.field, entry.size);
            } else if first & 0xe0 == 0x20 {
                // A change of the table's size, only before the first field.
                let most = reader.integer(first, 5)?;
                if begun || most > TABLE {
                    return Err(Broken);
                }
                self.most = most;
                self.shrink(0);
                continue;
            } else {
                let keep = first & 0x40 != 0;
                let index = reader.integer(first, if keep { 6 } else { 4 })?;
                let (name, name_length) = if index == 0 {
                    let octets = reader.string(room)?;
                    (Name::read(octets), octets.len())
                } else {
                    let entry = self.entry(index)?;
                    (entry.field.name(), entry.name)
                };
                let value = Bytes::copy_from_slice(reader.string(room)?);
                let size = name_length + value.len() + OVERHEAD;
                let field = name.with(value);
                take(&field, size);
                if keep {
                    self.keep(Entry {
                        field,
                        name: name_length,
                        size,
                    });
                }
            }
            begun = true;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Entry, Broken> {
        if index <= STATIC {
            return table::entry(index).ok_or(Broken);
        }
        self.entries.get(index - STATIC - 1).ok_or(Broken)
    }

    fn keep(&mut self, entry: Entry) {
        self.shrink(entry.size);
        // One that is larger than the whole table empties it, and that is all (RFC 7541 section 4.4).
        if entry.size <= self.most {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// Makes room for `size` octets.
    fn shrink(&mut self, size: usize) {
        while self.size.saturating_add(size) > self.most {
            let Some(gone) = self.entries.pop_back() else {
                return;
            };
            self.size -= gone.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        hex.chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Broken> {
        let mut fields = Vec::new();
        decoder.decode(block, &mut Vec::new(), |field, _| {
            fields.push(match field {
                Field::Method(method) => format!(":method: {method}"),
                Field::Scheme(scheme) => format!(":scheme: {scheme}"),
                Field::Authority(authority) => format!(":authority: {authority}"),
                Field::Path(path) => format!(":path: {path}"),
                Field::Protocol(protocol) => format!(":protocol: {protocol:?}"),
                Field::Plain(name, value) => format!("{name}: {}", value.to_str().unwrap_or("?")),
                Field::Bad(name) => format!("bad {name:?}"),
            });
        })?;
        Ok(fields)
    }

    /// RFC 7541 appendix C.3 and C.4: three requests over one connection.
    #[test]
    fn examples() {
        let blocks = [
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
        ];
        for blocks in blocks {
            let mut decoder = Decoder::new();
            for (block, want, size) in [
                (
                    blocks[0],
                    &[
                        ":method: GET",
                        ":scheme: http",
                        ":path: /",
                        ":authority: www.example.com",
                    ][..],
                    57,
                ),
                (
                    blocks[1],
                    &[
                        ":method: GET",
                        ":scheme: http",
                        ":path: /",
                        ":authority: www.example.com",
                        "cache-control: no-cache",
                    ],
                    110,
                ),
                (
                    blocks[2],
                    &[
                        ":method: GET",
                        ":scheme: https",
                        ":path: /index.html",
                        ":authority: www.example.com",
                        "custom-key: custom-value",
                    ],
                    164,
                ),
            ] {
                assert_eq!(read(&mut decoder, &octets(block)).unwrap(), want, "{block}");
                assert_eq!(decoder.size, size, "{block}");
            }
        }
    }

    #[test]
    fn faults() {
        for (block, want) in [
            ("80", Err(Broken)),
            ("be", Err(Broken)),
            ("ff808001", Err(Broken)),
            ("ffffffffffffffff", Err(Broken)),
            ("3fe11f", Ok(0)),
            ("3fe21f", Err(Broken)),
            ("8220", Err(Broken)),
            ("20 3f e1 1f 82", Ok(1)),
            ("0005 61", Err(Broken)),
            ("40", Err(Broken)),
            ("4001 61", Err(Broken)),
            ("0001 61 01 62", Ok(1)),
            ("1001 61 01 62", Ok(1)),
            ("0081 ff 01 62", Err(Broken)),
        ] {
            let got = read(&mut Decoder::new(), &octets(block)).map(|fields| fields.len());
            assert_eq!(got, want, "{block}");
        }
    }

    #[test]
    fn names_and_values() {
        let mut decoder = Decoder::new();
        for (block, want) in [
            // :path without a slash, and its name again.
            ("44 01 78", "bad Path"),
            ("7e 01 2f", ":path: /"),
            ("40 02 4161 01 62", "bad Bad"),
            ("40 02 3a78 01 62", "bad Bad"),
            ("40 00 01 62", "bad Bad"),
            ("40 01 61 02 0d0a", "bad Plain(\"a\")"),
            ("7e 01 62", "a: b"),
            ("40 05 3a70617468 00", "bad Path"),
            ("44 01 2a", ":path: *"),
            ("46 05 6874747073", ":scheme: https"),
        ] {
            assert_eq!(read(&mut decoder, &octets(block)).unwrap(), [want], "{block}");
        }
    }

    #[test]
    fn the_table_forgets_the_oldest() {
        let mut decoder = Decoder::new();
        // Room for two entries of one octet each.
        read(&mut decoder, &octets("3f 25 4001610131 4001620132 4001630133")).unwrap();
        assert_eq!(read(&mut decoder, &octets("be bf")).unwrap(), ["c: 3", "b: 2"]);
        assert_eq!(read(&mut decoder, &octets("c0")), Err(Broken));
        // One that is larger than all of it.
        let mut large = octets("40016140");
        large.extend([b'x'; 64]);
        read(&mut decoder, &large).unwrap();
        assert_eq!((decoder.size, decoder.entries.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(blocks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = read(&mut decoder, &block);
                prop_assert!(decoder.size <= decoder.most && decoder.most <= TABLE);
                prop_assert_eq!(decoder.size, decoder.entries.iter().map(|entry| entry.size).sum::<usize>());
            }
        }
    }
}
