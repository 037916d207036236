//! Octets as they come from a peer: framed and decoded until an error ends the connection.
//! The first octet chooses what was negotiated.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho_bgp::wire::{self, Families, Family, Negotiated};

fuzz_target!(|octets: &[u8]| {
    let Some((choice, stream)) = octets.split_first() else {
        return;
    };
    let bit = |n: u32| choice & (1 << n) != 0;
    let set = |n| if bit(n) { Families::ALL } else { Families::NONE };
    let negotiated = Negotiated {
        internal: bit(0),
        four_octet_as: bit(1),
        families: set(2).with(Family::Ipv6Unicast),
        add_path_receive: set(3),
        add_path_send: Families::NONE,
        extended_message_receive: bit(4),
        extended_message_send: false,
        extended_next_hop_receive: bit(5),
        extended_next_hop_send: bit(5),
        route_refresh: true,
        enhanced_route_refresh: bit(6),
        only_to_customer: None,
    };
    let mut buffer = BytesMut::from(stream);
    let error = loop {
        match wire::frame(&mut buffer, &negotiated) {
            Ok(Some(frame)) => match wire::decode(&frame, &negotiated) {
                Ok(_) => {}
                Err(error) => break error,
            },
            Ok(None) => return,
            Err(error) => break error,
        }
    };
    let notification = error.notification();
    assert!(wire::encode_notification(&notification).len() <= Negotiated::MAX_LENGTH);
    assert!(!notification.to_string().is_empty() && !error.to_string().is_empty());
});
