//! Header sections (RFC 9204 section 4.5) without a dynamic table.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::table::STATIC;
use crate::h2::hpack::huffman;

/// A header section that cannot be uncompressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not a QPACK header section, or refers to a dynamic table that was not offered")]
pub struct BadSection;

/// Gives every field line of a section to `each`, in order, until it has enough.
///
/// # Errors
/// [`BadSection`], or what `each` says.
pub fn decode<E: From<BadSection>>(
    section: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = section;
    // Required Insert Count and Base: there is nothing to count.
    let (_, inserts) = number(&mut input, 8)?;
    let _ = number(&mut input, 7)?;
    if inserts != 0 {
        return Err(BadSection.into());
    }
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(first) = input.first() {
        match first {
            // Indexed, from the static table.
            0xc0.. => {
                let (_, index) = number(&mut input, 6)?;
                let (name, value) = entry(index)?;
                each(name.as_bytes(), value.as_bytes())?;
            }
            // A value, with a name from the static table.
            0x40..0x80 if first & 0x10 != 0 => {
                let (_, index) = number(&mut input, 4)?;
                let (name, _) = entry(index)?;
                let value = string(&mut input, 7, &mut value)?;
                each(name.as_bytes(), value)?;
            }
            // Both.
            0x20..0x40 => {
                let name = string(&mut input, 3, &mut name)?;
                let value = string(&mut input, 7, &mut value)?;
                each(name, value)?;
            }
            // What is left refers to the dynamic table.
            _ => return Err(BadSection.into()),
        }
    }
    Ok(())
}

fn entry(index: u64) -> Result<&'static (&'static str, &'static str), BadSection> {
    usize::try_from(index)
        .ok()
        .and_then(|index| STATIC.get(index))
        .ok_or(BadSection)
}

/// A number behind some bits of its first octet (RFC 9204 section 4.1.1); gives those bits, too.
fn number(input: &mut &[u8], bits: u32) -> Result<(u8, u64), BadSection> {
    let mut take = || {
        let (octet, rest) = input.split_first().ok_or(BadSection)?;
        *input = rest;
        Ok::<u8, BadSection>(*octet)
    };
    let first = take()?;
    let mask = (0xffu16 >> (8 - bits)) as u8;
    let mut value = u64::from(first & mask);
    if first & mask == mask {
        let mut shift = 0;
        loop {
            let octet = take()?;
            // Nothing that is sent to the box has more than 2^32 of anything.
            if shift > 28 {
                return Err(BadSection);
            }
            value += u64::from(octet & 0x7f) << shift;
            shift += 7;
            if octet & 0x80 == 0 {
                break;
            }
        }
    }
    Ok((first & !mask, value))
}

/// A string whose length has so many bits in its first octet; the bit above them says whether it is Huffman's code.
fn string<'i: 'r, 'r>(
    input: &mut &'i [u8],
    bits: u32,
    room: &'r mut Vec<u8>,
) -> Result<&'r [u8], BadSection> {
    let (above, length) = number(input, bits)?;
    let length = usize::try_from(length).map_err(|_| BadSection)?;
    let octets = input.get(..length).ok_or(BadSection)?;
    *input = input.get(length..).unwrap_or_default();
    if above & (1u16 << bits) as u8 == 0 {
        return Ok(octets);
    }
    room.clear();
    huffman::decode(octets, room).map_err(|_| BadSection)?;
    Ok(room)
}

/// Where the names of the static table stand in it.
static PLACES: LazyLock<HashMap<&'static str, Vec<u64>>> = LazyLock::new(|| {
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for ((name, _), index) in STATIC.iter().zip(0..) {
        places.entry(name).or_default().push(index);
    }
    places
});

/// Begins a section.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends a field line.
pub fn encode(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let places = PLACES.get(name).map(Vec::as_slice).unwrap_or_default();
    let whole = places.iter().find(|index| {
        let entry = usize::try_from(**index).ok().and_then(|index| STATIC.get(index));
        entry.is_some_and(|(_, known)| known.as_bytes() == value)
    });
    if let Some(index) = whole {
        return write_number(out, 0xc0, 6, *index);
    }
    match places.first() {
        Some(index) => write_number(out, 0x50, 4, *index),
        None => {
            write_number(out, 0x20, 3, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
        }
    }
    write_number(out, 0x00, 7, value.len() as u64);
    out.extend_from_slice(value);
}

fn write_number(out: &mut Vec<u8>, above: u8, bits: u32, value: u64) {
    let mask = (0xffu16 >> (8 - bits)) as u8;
    if value < u64::from(mask) {
        out.push(above | value as u8);
        return;
    }
    out.push(above | mask);
    let mut rest = value - u64::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(section: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BadSection> {
        let mut out = Vec::new();
        decode::<BadSection>(section, |name, value| {
            out.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
            Ok(())
        })
        .map(|()| out)
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 9204 appendix B.1.
        let section = [&[0x00, 0x00, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(
            decoded(&section).unwrap(),
            [(":path".to_owned(), b"/index.html".to_vec())]
        );
    }

    #[test]
    fn ends_of_the_static_table() {
        assert_eq!(
            decoded(&[0, 0, 0xc0]).unwrap(),
            [(":authority".to_owned(), Vec::new())]
        );
        let last = [0, 0, 0xff, 98 - 63];
        assert_eq!(
            decoded(&last).unwrap(),
            [("x-frame-options".to_owned(), b"sameorigin".to_vec())]
        );
        assert_eq!(decoded(&[0, 0, 0xff, 99 - 63]), Err(BadSection));
    }

    #[test]
    fn names_and_values_in_huffman() {
        let code = |octets: &[u8]| {
            let mut code = Vec::new();
            huffman::encode(octets, &mut code);
            code
        };
        let (name, value) = (code(b"custom"), code(b"value"));
        let mut section = vec![0, 0, 0x28 | name.len() as u8];
        section.extend(&name);
        section.push(0x80 | value.len() as u8);
        section.extend(&value);
        assert_eq!(
            decoded(&section).unwrap(),
            [("custom".to_owned(), b"value".to_vec())]
        );
    }

    #[test]
    fn what_is_no_section() {
        for (name, section) in [
            ("nothing", &[][..]),
            ("half a prefix", &[0]),
            ("an insert count", &[2, 0]),
            ("a dynamic entry", &[0, 0, 0x80]),
            ("a dynamic name", &[0, 0, 0x40, 0]),
            ("an entry behind the base", &[0, 0, 0x10]),
            ("a name behind the base", &[0, 0, 0x00, 0]),
            ("a name without end", &[0, 0, 0x23, b'a']),
            ("no value", &[0, 0, 0x21, b'a']),
            ("a number without end", &[0, 0, 0xff, 0xff, 0xff]),
            (
                "a long number",
                &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            ("a length beyond the end", &[0, 0, 0x51, 0x7f, 0xff, 0xff, 0x03]),
            ("Huffman's end", &[0, 0, 0x51, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(decoded(section), Err(BadSection), "{name}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(fields in proptest::collection::vec(("[a-z:-]{1,200}", "[ -~]{0,300}"), 0..10)) {
            let mut section = Vec::new();
            begin(&mut section);
            for (name, value) in &fields {
                encode(&mut section, name, value.as_bytes());
            }
            for (name, value) in STATIC {
                encode(&mut section, name, value.as_bytes());
            }
            let known = STATIC.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let want: Vec<_> = fields.into_iter().chain(known).map(|(n, v)| (n, v.into_bytes())).collect();
            prop_assert_eq!(decoded(&section), Ok(want));
        }

        #[test]
        fn anything_goes_in(section in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decoded(&section);
            let _ = decoded(&[&[0, 0][..], &section].concat());
        }
    }
}
