//! Any octets are safe.

use proptest::prelude::*;

use super::*;

fn negotiated() -> impl Strategy<Value = Negotiated> {
    let family_set = || prop::sample::select(vec![Families::NONE, Families::ALL]);
    (any::<[bool; 6]>(), family_set()).prop_map(|(flag, add_path)| Negotiated {
        internal: flag[0],
        four_octet_as: flag[1],
        families: if flag[2] {
            Families::ALL
        } else {
            Families::NONE.with(Family::Ipv6Unicast)
        },
        add_path_receive: add_path,
        add_path_send: add_path,
        extended_message_receive: flag[3],
        extended_message_send: flag[3],
        extended_next_hop_receive: flag[4],
        route_refresh: true,
        enhanced_route_refresh: flag[5],
    })
}

proptest! {
    #[test]
    fn any_octets_are_safe(octets: Vec<u8>, kind in 0u8..7, negotiated in negotiated()) {
        let mut raw = BytesMut::from(&octets[..]);
        let _ = frame(&mut raw, &negotiated);
        let mut framed = BytesMut::from(&message(kind, &octets)[..]);
        if let Ok(Some(frame)) = frame(&mut framed, &negotiated)
            && let Err(error) = decode(&frame, &negotiated)
        {
            prop_assert!(!error.to_string().is_empty());
            prop_assert!(encode_notification(&error.notification()).len() <= 4096);
        }
    }
}
