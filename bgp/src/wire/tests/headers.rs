//! Message header, KEEPALIVE, NOTIFICATION and ROUTE-REFRESH: octets and what becomes of them.

use super::*;

/// A header with this length and type field, and no body.
fn header_only(length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets
}

fn extended() -> Negotiated {
    Negotiated {
        extended_message_receive: true,
        ..internal()
    }
}

#[test]
fn the_header_alone_decides() {
    let wait = None;
    let length = |octets: u16| Some((1, 2, octets.to_be_bytes().to_vec()));
    let kind = |number: u8| Some((1, 3, vec![number]));
    for (negotiated, octets, number, want) in [
        // RFC 4271 section 6.1: below 19, above 4096, and too short or long for the type.
        (internal(), 0, 4, length(0)),
        (internal(), 1, 2, length(1)),
        (internal(), 18, 4, length(18)),
        (internal(), 18, 9, length(18)),
        (internal(), 4097, 2, length(4097)),
        (internal(), 65535, 2, length(65535)),
        (internal(), 28, 1, length(28)),
        (internal(), 29, 1, wait.clone()),
        (internal(), 4096, 1, wait.clone()),
        (internal(), 22, 2, length(22)),
        (internal(), 23, 2, wait.clone()),
        (internal(), 4096, 2, wait.clone()),
        (internal(), 20, 3, length(20)),
        (internal(), 21, 3, wait.clone()),
        (internal(), 20, 4, length(20)),
        (internal(), 4096, 4, length(4096)),
        (internal(), 21, 5, length(21)),
        (internal(), 22, 5, wait.clone()),
        (internal(), 23, 5, wait.clone()),
        (internal(), 19, 0, kind(0)),
        (internal(), 19, 6, kind(6)),
        (internal(), 23, 255, kind(255)),
        // RFC 8654: only UPDATE, NOTIFICATION and ROUTE-REFRESH grow.
        (extended(), 4097, 2, wait.clone()),
        (extended(), 65535, 2, wait.clone()),
        (extended(), 65535, 3, wait.clone()),
        (extended(), 65535, 5, wait.clone()),
        (extended(), 4097, 1, length(4097)),
        (extended(), 20, 4, length(20)),
        (extended(), 18, 2, length(18)),
    ] {
        let mut buffer = BytesMut::from(&header_only(octets, number)[..]);
        let got = frame(&mut buffer, &negotiated);
        let case = format!("length {octets}, type {number}, {negotiated:?}");
        match want {
            None => assert_eq!(got, Ok(None), "{case}"),
            Some((code, subcode, data)) => {
                let notification = got.expect_err(&case).notification();
                assert_eq!(
                    (
                        notification.code,
                        notification.subcode,
                        notification.data.to_vec()
                    ),
                    (code, subcode, data),
                    "{case}"
                );
            }
        }
    }
}

#[test]
fn a_marker_with_any_bit_clear_is_refused() {
    for at in 0..16 {
        for bit in 0..8 {
            let mut octets = message(4, &[]);
            octets[at] ^= 1 << bit;
            let error = frame(&mut BytesMut::from(&octets[..]), &internal()).unwrap_err();
            assert_eq!(error, WireError::Marker, "octet {at}, bit {bit}");
            let notification = error.notification();
            assert_eq!((notification.code, notification.subcode), (1, 1));
        }
    }
    // Whatever else is wrong: without the marker no other field can be trusted.
    let mut octets = header_only(3, 77);
    octets[0] = 0;
    assert_eq!(
        frame(&mut BytesMut::from(&octets[..]), &internal()),
        Err(WireError::Marker)
    );
}

#[test]
fn messages_come_out_whole_however_they_arrive() {
    let stream = [
        message(4, &[]),
        message(2, &hex("0000 0000")),
        message(3, &hex("0602 00")),
    ]
    .concat();
    for step in 1..stream.len() {
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for part in stream.chunks(step) {
            buffer.extend_from_slice(part);
            while let Some(frame) = frame(&mut buffer, &internal()).unwrap() {
                got.push((frame.kind, frame.body.len()));
            }
        }
        let want = [
            (FrameKind::Keepalive, 0),
            (FrameKind::Update, 4),
            (FrameKind::Notification, 3),
        ];
        assert_eq!(got, want, "in steps of {step}");
        assert!(buffer.is_empty(), "in steps of {step}");
    }
}

#[test]
fn keepalive_is_exact() {
    assert_eq!(&encode_keepalive()[..], message(4, &[]));
    assert_eq!(read(&encode_keepalive(), &internal()), Ok(Message::Keepalive));
}

#[test]
fn notifications_are_told_in_words() {
    for (body, want) in [
        ("0101", "1/1 Message Header Error, Connection Not Synchronized"),
        (
            "0102 1001",
            "1/2 Message Header Error, Bad Message Length, data 1001",
        ),
        (
            "0201 0004",
            "2/1 OPEN Message Error, Unsupported Version Number, data 0004",
        ),
        ("0205", "2/5 OPEN Message Error, Authentication Failure"),
        ("020b", "2/11 OPEN Message Error, Role Mismatch"),
        ("030b", "3/11 UPDATE Message Error, Malformed AS_PATH"),
        ("0400", "4/0 Hold Timer Expired"),
        (
            "0503",
            "5/3 Finite State Machine Error, Unexpected Message in Established State",
        ),
        ("0607", "6/7 Cease, Connection Collision Resolution"),
        ("060a", "6/10 Cease, BFD Down"),
        (
            "0701 00",
            "7/1 ROUTE-REFRESH Message Error, Invalid Message Length, data 00",
        ),
        ("0800", "8/0 Send Hold Timer Expired"),
        ("06ff", "6/255 Cease"),
        ("0000", "0/0 unknown error"),
        ("ff07", "255/7 unknown error"),
        ("0602", "6/2 Cease, Administrative Shutdown"),
        ("0602 00", "6/2 Cease, Administrative Shutdown, data 00"),
        ("0602 03 627965", "6/2 Cease, Administrative Shutdown: \"bye\""),
        ("0604 03 627965", "6/4 Cease, Administrative Reset: \"bye\""),
        // More after the text: the text counts. Less than announced: no text.
        ("0602 03 627965 ff", "6/2 Cease, Administrative Shutdown: \"bye\""),
        (
            "0602 04 627965",
            "6/2 Cease, Administrative Shutdown, data 04627965",
        ),
        // Control characters, quotes, invalid UTF-8 and text that runs backwards cannot disturb a log.
        (
            "0602 05 0a1b5b3141",
            "6/2 Cease, Administrative Shutdown: \"\\n\\u{1b}[1A\"",
        ),
        (
            "0602 03 225c00",
            "6/2 Cease, Administrative Shutdown: \"\\\"\\\\\\u{0}\"",
        ),
        (
            "0602 02 ff41",
            "6/2 Cease, Administrative Shutdown: \"\u{fffd}A\"",
        ),
        (
            "0602 03 e280ae",
            "6/2 Cease, Administrative Shutdown: \"\\u{202e}\"",
        ),
        ("0602 02 c3bc", "6/2 Cease, Administrative Shutdown: \"ü\""),
        ("0609", "6/9 Cease, Hard Reset"),
        ("0609 06", "6/9 Cease, Hard Reset, data 06"),
        (
            "0609 0607",
            "6/9 Cease, Hard Reset because of 6/7 Cease, Connection Collision Resolution",
        ),
        (
            "0609 0602 03 627965",
            "6/9 Cease, Hard Reset because of 6/2 Cease, Administrative Shutdown: \"bye\"",
        ),
        (
            "0609 0609 0609 0602",
            "6/9 Cease, Hard Reset because of 6/9 Cease, Hard Reset, data 06090602",
        ),
    ] {
        let Ok(Message::Notification(notification)) = read(&message(3, &hex(body)), &internal()) else {
            panic!("{body}")
        };
        assert_eq!(notification.to_string(), want, "{body}");
        assert_eq!(
            encode_notification(&notification),
            message(3, &hex(body)),
            "{body}: written as read"
        );
    }
    let long = Notification {
        code: 3,
        subcode: 5,
        data: vec![0xaa; 9000].into(),
    };
    assert!(long.to_string().ends_with("and 8968 octets more"), "{long}");
    assert_eq!(encode_notification(&long).len(), 4096);
}

#[test]
fn our_notifications() {
    assert_eq!(
        Notification::hold_timer_expired().to_string(),
        "4/0 Hold Timer Expired"
    );
    assert_eq!(
        Notification::fsm_error(1).to_string(),
        "5/1 Finite State Machine Error, Unexpected Message in OpenSent State"
    );
    assert_eq!(
        Notification::cease(5).to_string(),
        "6/5 Cease, Connection Rejected"
    );
    let shutdown = Notification::shutdown("draining");
    assert_eq!(
        shutdown.hard().to_string(),
        "6/9 Cease, Hard Reset because of 6/2 Cease, Administrative Shutdown: \"draining\""
    );
    assert_eq!(&Notification::shutdown("").data[..], [0]);
    // Cut at a character, never inside one.
    let text = "ü".repeat(200);
    let cut = Notification::reset(&text);
    assert_eq!(cut.data.len(), 255);
    assert_eq!(cut.shutdown_text(), Some("ü".repeat(127)));
}

#[test]
fn route_refresh_depends_on_rfc_7313() {
    let plain = Negotiated {
        enhanced_route_refresh: false,
        ..internal()
    };
    let refresh = |afi, safi, kind| Ok(Message::RouteRefresh(RouteRefresh { afi, safi, kind }));
    for (negotiated, body, want) in [
        (internal(), "0001 00 01", refresh(1, 1, RouteRefreshKind::Request)),
        (internal(), "0002 01 01", refresh(2, 1, RouteRefreshKind::Begin)),
        (internal(), "0002 02 01", refresh(2, 1, RouteRefreshKind::End)),
        (
            internal(),
            "0019 03 46",
            refresh(25, 70, RouteRefreshKind::Unknown(3)),
        ),
        (
            internal(),
            "ffff ff ff",
            refresh(65535, 255, RouteRefreshKind::Unknown(255)),
        ),
        (plain, "0001 01 01", refresh(1, 1, RouteRefreshKind::Request)),
        (plain, "0001 02 01 00", refresh(1, 1, RouteRefreshKind::Request)),
        // Outbound route filters may follow a request (RFC 5291); we asked for none and look at none.
        (
            internal(),
            "0001 00 01 0140 00",
            refresh(1, 1, RouteRefreshKind::Request),
        ),
    ] {
        let octets = message(5, &hex(body));
        assert_eq!(read(&octets, &negotiated), want, "{body}");
    }
    for (negotiated, body) in [(internal(), "0001 00"), (plain, "0001 01")] {
        let notification = read(&message(5, &hex(body)), &negotiated)
            .unwrap_err()
            .notification();
        assert_eq!((notification.code, notification.subcode), (1, 2), "{body}");
        assert_eq!(&notification.data[..], [0, 22], "{body}");
    }
    for body in ["0001 01 01 00", "0001 02 01 0000", "0001 02"] {
        let octets = message(5, &hex(body));
        let notification = read(&octets, &internal()).unwrap_err().notification();
        assert_eq!((notification.code, notification.subcode), (7, 1), "{body}");
        assert_eq!(notification.data, octets, "{body}: the whole message");
    }
    for kind in [
        RouteRefreshKind::Request,
        RouteRefreshKind::Begin,
        RouteRefreshKind::End,
    ] {
        let one = RouteRefresh {
            afi: 2,
            safi: 1,
            kind,
        };
        assert_eq!(
            read(&encode_route_refresh(&one), &internal()),
            Ok(Message::RouteRefresh(one))
        );
    }
}
