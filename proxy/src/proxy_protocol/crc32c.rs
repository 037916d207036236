//! The checksum of version 2 (RFC 4960 appendix B): computed once for a header of some hundred octets at most, so without a
//! table.

use std::ops::Range;

/// The checksum of a header in which the octets of `field` count as zero.
pub(super) fn of_header(header: &[u8], field: Range<usize>) -> u32 {
    let crc = header.iter().enumerate().fold(u32::MAX, |crc, (place, octet)| {
        let octet = if field.contains(&place) { 0 } else { *octet };
        (0..8).fold(crc ^ u32::from(octet), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_values() {
        for (input, want) in [
            (&b"123456789"[..], 0xE306_9283),
            (&[0; 32], 0x8A91_36AA),
            (b"", 0),
        ] {
            assert_eq!(super::of_header(input, 0..0), want, "{input:?}");
        }
        assert_eq!(
            super::of_header(&[1, 0, 0, 7], 1..3),
            super::of_header(&[1, 9, 9, 7], 1..3)
        );
    }
}
