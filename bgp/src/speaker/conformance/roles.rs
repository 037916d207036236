//! Roles and ONLY_TO_CUSTOMER (RFC 9234).

use super::{At, Case, Kind, Want};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "the role that fits",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:04)",
        want: Want::Fine,
    },
    Case {
        name: "the same role twice",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:04,cap:09:04)",
        want: Want::Fine,
    },
    Case {
        name: "no role, and one is asked for",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 00",
        want: Want::Reset(2, 11, None),
    },
    Case {
        name: "a role that does not fit",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:00)",
        want: Want::Reset(2, 11, None),
    },
    Case {
        name: "another role that does not fit",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:03)",
        want: Want::Reset(2, 11, None),
    },
    Case {
        name: "two roles",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:04,cap:09:03)",
        want: Want::Reset(2, 11, None),
    },
    Case {
        name: "a role that does not exist",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:05)",
        want: Want::Reset(2, 11, None),
    },
    Case {
        name: "a role of 0 octets",
        kind: Kind::Lateral,
        at: At::Connected,
        octets: "open 04 fde9 005a 0a000001 params(cap:09:)",
        want: Want::Reset(2, 0, None),
    },
    Case {
        name: "unmarked",
        kind: Kind::Lateral,
        at: At::Established,
        octets: "update | BASE | P",
        want: Want::Announced,
    },
    Case {
        name: "marked by the peer",
        kind: Kind::Lateral,
        at: At::Established,
        octets: "update | BASE c0:23:0000fde9 | P",
        want: Want::Announced,
    },
    Case {
        name: "a leak: marked by another AS",
        kind: Kind::Lateral,
        at: At::Established,
        octets: "update | BASE c0:23:0000fdea | P",
        want: Want::Withdrawn,
    },
    Case {
        name: "a leak in IPv6",
        kind: Kind::Lateral,
        at: At::Established,
        octets: "update | REACH ORIGIN PATH c0:23:0000fdea |",
        want: Want::Withdrawn,
    },
];
