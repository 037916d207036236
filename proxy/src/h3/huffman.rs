//! The code of Huffman that HPACK and QPACK share (RFC 7541 section 5.2 and appendix B).
//!
//! It is canonical: codes of one length follow each other in the order of their symbols, and those of the next length follow
//! them. So the lengths are all there is to know.

use std::sync::LazyLock;

/// Bits of the code of each octet. The code that ends a string has 30 and never stands in one.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The codes of one length.
#[derive(Debug)]
struct Row {
    bits: u32,
    /// The first of them, at the left of 32 bits.
    first: u32,
    /// What is beyond the last of them.
    end: u64,
    symbols: Vec<u8>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let mut rows = Vec::new();
    let mut code: u64 = 0;
    for bits in 1..=30u8 {
        let symbols: Vec<u8> = (0..=255u8)
            .zip(LENGTHS)
            .filter(|(_, length)| *length == bits)
            .map(|(symbol, _)| symbol)
            .collect();
        let shift = 32 - u32::from(bits);
        let first = code << shift;
        code += symbols.len() as u64;
        if !symbols.is_empty() {
            rows.push(Row {
                bits: u32::from(bits),
                first: u32::try_from(first).unwrap_or(u32::MAX),
                end: code << shift,
                symbols,
            });
        }
        code <<= 1;
    }
    rows
});

/// What is not the code of a string.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not the Huffman code of a string")]
pub struct BadCode;

/// Appends the octets that `code` stands for. It is at most 8/5 as long as the code.
///
/// # Errors
/// The code has an end in it, or stops in the middle of a symbol (RFC 7541 section 5.2).
pub fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), BadCode> {
    let mut octets = code.iter();
    // Bits that were not used yet, at the left.
    let mut held: u64 = 0;
    let mut bits: u32 = 0;
    loop {
        while bits <= 56
            && let Some(octet) = octets.next()
        {
            held |= u64::from(*octet) << (56 - bits);
            bits += 8;
        }
        if bits == 0 {
            return Ok(());
        }
        let window = (held >> 32) as u32;
        let row = ROWS.iter().find(|row| u64::from(window) < row.end);
        let Some(row) = row.filter(|row| row.bits <= bits) else {
            // Fewer than 8 bits, all of them 1, fill the last octet.
            let padding = bits < 8 && held == u64::MAX << (64 - bits);
            return if padding { Ok(()) } else { Err(BadCode) };
        };
        let place = window.wrapping_sub(row.first) >> (32 - row.bits);
        let symbol = usize::try_from(place)
            .ok()
            .and_then(|place| row.symbols.get(place));
        out.push(*symbol.ok_or(BadCode)?);
        held <<= row.bits;
        bits -= row.bits;
    }
}

/// The code of `octets`, for tests.
#[cfg(test)]
pub(crate) fn encode(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut held, mut bits) = (0u64, 0u32);
    for octet in octets {
        let row = ROWS.iter().find(|row| row.symbols.contains(octet)).unwrap();
        let place = row.symbols.iter().position(|symbol| symbol == octet).unwrap() as u64;
        let code = u64::from(row.first >> (32 - row.bits)) + place;
        held = (held << row.bits) | code;
        bits += row.bits;
        while bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push(((held << (8 - bits)) as u8) | (0xff >> bits));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(code: &[u8]) -> Result<Vec<u8>, BadCode> {
        let mut out = Vec::new();
        decode(code, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 appendix C.4.1 and C.6.1.
        let authority = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&authority).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(encode(b"www.example.com"), authority);
    }

    #[test]
    fn what_is_no_string() {
        // An end; padding of 8 bits and more; padding that is not ones.
        for code in [
            &[0xff, 0xff, 0xff, 0xff][..],
            &[0xff],
            &[0x1f, 0xff],
            &[0x00, 0x06],
        ] {
            assert_eq!(decoded(code), Err(BadCode), "{code:02x?}");
        }
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn there_and_back(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&octets)), Ok(octets));
        }

        #[test]
        fn anything_goes_in(code in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(octets) = decoded(&code) {
                prop_assert!(octets.len() <= code.len() * 8 / 5);
            }
        }
    }
}
