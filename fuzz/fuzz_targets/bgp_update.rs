//! The body of an UPDATE. What is announced is written again and must come back the same: read, write, read.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sekisho_bgp::wire::{self, Families, Family, Frame, FrameKind, Message, Negotiated, Nlri, UpdateOut};

fuzz_target!(|octets: &[u8]| {
    let Some((choice, body)) = octets.split_first() else {
        return;
    };
    let bit = |n: u32| choice & (1 << n) != 0;
    let add_path = if bit(0) { Families::ALL } else { Families::NONE };
    let negotiated = Negotiated {
        internal: bit(1),
        four_octet_as: bit(2),
        families: Families::ALL,
        add_path_receive: add_path,
        add_path_send: add_path,
        extended_message_receive: true,
        extended_message_send: true,
        extended_next_hop_receive: bit(3),
        extended_next_hop_send: bit(3),
        route_refresh: true,
        enhanced_route_refresh: true,
        only_to_customer: None,
    };
    let frame = Frame {
        kind: FrameKind::Update,
        body: Bytes::copy_from_slice(body),
    };
    let Ok(Message::Update(update)) = wire::decode(&frame, &negotiated) else {
        return;
    };
    let (Some(attributes), Some((_, next_hop))) = (&update.attributes, update.announced.first()) else {
        return;
    };
    let prefixes: Vec<Nlri> = update
        .announced
        .iter()
        .filter(|(nlri, hop)| hop == next_hop && Family::of(&nlri.prefix) == family_of(*hop))
        .map(|(nlri, _)| *nlri)
        .collect();
    let what = UpdateOut::Announce {
        prefixes: &prefixes,
        next_hop: *next_hop,
        attributes,
    };
    let Ok(messages) = wire::encode_update(what, &negotiated) else {
        return;
    };
    let mut again = Vec::new();
    for message in messages {
        let frame = wire::frame(&mut BytesMut::from(&message[..]), &negotiated)
            .expect("our own header")
            .expect("a whole message");
        let Ok(Message::Update(update)) = wire::decode(&frame, &negotiated) else {
            panic!("our own UPDATE was refused: {message:?}");
        };
        assert!(update.faults.is_empty(), "{:?}", update.faults);
        again.extend(update.announced.into_iter().map(|(nlri, _)| nlri));
    }
    assert_eq!(again, prefixes);
});

fn family_of(next_hop: wire::NextHop) -> Family {
    if next_hop.address.is_ipv4() {
        Family::Ipv4Unicast
    } else {
        Family::Ipv6Unicast
    }
}
