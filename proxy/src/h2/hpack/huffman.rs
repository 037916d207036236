//! The Huffman code of RFC 7541 appendix B. It is canonical: the lengths of its codes, in the order of length and then of
//! symbol, are the whole of it.

use super::Broken;

const SYMBOLS: usize = 257;
/// The end of a string, of which only the beginning may be seen, as padding.
const EOS: u16 = 256;
const LONGEST: usize = 30;
/// Bits that are looked up at once: most of what is sent has shorter codes.
const FAST: usize = 8;

#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

struct Tables {
    /// By symbol.
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    sorted: [u16; SYMBOLS],
    /// By length: the first code, how many there are, and where they begin in `sorted`.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    begin: [u32; LONGEST + 1],
    /// By the next eight bits: the symbol and the length of its code; 0: it is longer.
    fast: [(u8, u8); 1 << FAST],
}

static TABLES: Tables = tables();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would refuse it"
)]
const fn tables() -> Tables {
    let mut tables = Tables {
        codes: [0; SYMBOLS],
        sorted: [0; SYMBOLS],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        fast: [(0, 0); 1 << FAST],
    };
    let (mut code, mut place, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        code <<= 1;
        tables.first[length] = code;
        tables.begin[length] = place as u32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                tables.codes[symbol] = code;
                tables.sorted[place] = symbol as u16;
                tables.count[length] += 1;
                if length <= FAST {
                    let (mut slot, spare) = ((code as usize) << (FAST - length), FAST - length);
                    let end = slot + (1 << spare);
                    while slot < end {
                        tables.fast[slot] = (symbol as u8, length as u8);
                        slot += 1;
                    }
                }
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    tables
}

/// Appends what `octets` stand for.
pub(crate) fn decode(octets: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    out.reserve(octets.len() * 8 / 5);
    // Bits that were not used yet stand at the top.
    let (mut bits, mut held) = (0u64, 0usize);
    let mut rest = octets.iter();
    loop {
        while held <= 56
            && let Some(octet) = rest.next()
        {
            bits |= u64::from(*octet) << (56 - held);
            held += 8;
        }
        let &(symbol, length) = TABLES.fast.get((bits >> 56) as usize).ok_or(Broken)?;
        let length = usize::from(length);
        if length != 0 && length <= held {
            out.push(symbol);
            bits <<= length;
            held -= length;
            continue;
        }
        if held < 8 && (held == 0 || bits >> (64 - held) == (1 << held) - 1) {
            // The beginning of EOS, shorter than an octet.
            return Ok(());
        }
        let (symbol, length) = slow(bits).ok_or(Broken)?;
        if length > held || symbol == EOS {
            return Err(Broken);
        }
        out.push(symbol as u8);
        bits <<= length;
        held -= length;
    }
}

/// A symbol with a long code.
fn slow(bits: u64) -> Option<(u16, usize)> {
    for length in FAST..=LONGEST {
        let code = (bits >> (64 - length)) as u32;
        let offset = code.wrapping_sub(*TABLES.first.get(length)?);
        if offset < *TABLES.count.get(length)? {
            let place = *TABLES.begin.get(length)? + offset;
            return Some((*TABLES.sorted.get(place as usize)?, length));
        }
    }
    None
}

/// How many octets `octets` take.
pub(crate) fn length(octets: &[u8]) -> usize {
    let bits: usize = octets
        .iter()
        .map(|octet| usize::from(LENGTHS.get(usize::from(*octet)).copied().unwrap_or_default()))
        .sum();
    bits.div_ceil(8)
}

/// Appends the code of `octets`.
pub(crate) fn encode(octets: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut held) = (0u64, 0u32);
    for octet in octets {
        let symbol = usize::from(*octet);
        let (Some(code), Some(length)) = (TABLES.codes.get(symbol), LENGTHS.get(symbol)) else {
            return;
        };
        bits = (bits << length) | u64::from(*code);
        held += u32::from(*length);
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        out.push(((bits << (8 - held)) as u8) | (0xff >> held));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(octets: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(octets, &mut out).ok().map(|()| out)
    }

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn examples() {
        for (text, code) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                "d07abe941054d444a8200595040b8166e082a62d1bff",
            ),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            (
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ),
        ] {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            let hex: String = out.iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(hex, code, "{text}");
            assert_eq!(length(text.as_bytes()), out.len(), "{text}");
            assert_eq!(decoded(&out).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn padding() {
        for (octets, want) in [
            (&[][..], Some(&b""[..])),
            // '0' and three ones.
            (&[0b0000_0111], Some(b"0")),
            (&[0b0000_0000], None),
            (&[0b0000_0110], None),
            // A whole octet of padding is too much.
            (&[0xff], None),
            (&[0b0000_0111, 0xff], None),
            // EOS itself.
            (&[0xff, 0xff, 0xff, 0xff], None),
        ] {
            assert_eq!(decoded(octets).as_deref(), want, "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(octets: Vec<u8>) {
            let mut out = Vec::new();
            encode(&octets, &mut out);
            prop_assert_eq!(out.len(), length(&octets));
            prop_assert_eq!(decoded(&out), Some(octets));
        }

        /// There is one code for each text.
        #[test]
        fn what_is_decoded_is_encoded(octets: Vec<u8>) {
            if let Some(text) = decoded(&octets) {
                let mut out = Vec::new();
                encode(&text, &mut out);
                prop_assert_eq!(out, octets);
            }
        }
    }
}
