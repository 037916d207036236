//! The payload of a BFD datagram: read or discarded, and what is read is written and read again the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_bgp::bfd::Packet;

fuzz_target!(|octets: &[u8]| {
    if let Ok(packet) = Packet::decode(octets) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        assert!(!packet.diagnostic.to_string().is_empty());
    }
});
