//! Whole numbers of QUIC (RFC 9000 section 16).

/// Reads a number from the beginning of `octets`; gives how many of them it takes, too. `None`: there is more to come.
pub fn read(octets: &[u8]) -> Option<(u64, usize)> {
    let first = *octets.first()?;
    let length = 1usize << (first >> 6);
    let rest = octets.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, octet| {
        (value << 8) | u64::from(*octet)
    });
    Some((value, length))
}

/// Appends a number in its shortest form. What does not fit into 62 bits does not occur: it is cut.
pub fn write(out: &mut Vec<u8>, value: u64) {
    let value = value & (u64::MAX >> 2);
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 9000 appendix A.1.
        for (octets, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x40, 0x25], 37),
            (&[0x25], 37),
        ] {
            assert_eq!(read(octets), Some((value, octets.len())));
            for short in 0..octets.len() {
                assert_eq!(read(&octets[..short]), None);
            }
        }
    }

    proptest! {
        #[test]
        fn there_and_back(value in 0u64..1 << 62) {
            let mut out = Vec::new();
            write(&mut out, value);
            prop_assert_eq!(read(&out), Some((value, out.len())));
        }
    }
}
