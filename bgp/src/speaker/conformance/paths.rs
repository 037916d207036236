//! AS_PATH and its 4-octet companions (RFC 4271, RFC 5065, RFC 6793, RFC 7606 section 7.2, RFC 7607).

use super::Want::{Announced, Discarded, Gone, Withdrawn};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Internal Established "empty": "update | ORIGIN 40:02: HOP | P" => Announced;
    External Established "empty, of another AS": "update | ORIGIN 40:02: HOP | P" => Gone;
    External Established "another AS first": "update | ORIGIN 40:02:02010000fde8 HOP | P" => Gone;
    External Established "a set first, of another AS": "update | ORIGIN 40:02:01010000fde9 HOP | P" => Gone;
    External Established "a set at the end":
        "update | ORIGIN 40:02:02010000fde9+01020000fdea0000fdeb HOP | P" => Announced;
    External Established "two sequences": "update | ORIGIN 40:02:02010000fde9+02010000fdea HOP | P" => Announced;
    External Established "our AS inside": "update | ORIGIN 40:02:02020000fde90000fc00 HOP | P" => Announced;
    External Established "255 numbers": "update | ORIGIN 50:02:02ff+0000fde9*255 HOP | P" => Announced;
    External Established "600 numbers":
        "update | ORIGIN 50:02:02ff+0000fde9*255+02ff+0000fde9*255+025a+0000fde9*90 HOP | P" => Announced;
    Internal Established "a segment of nothing": "update | ORIGIN 40:02:0200 HOP | P" => Withdrawn;
    Internal Established "a segment of nothing at the end":
        "update | ORIGIN 40:02:02010000fde8+0200 HOP | P" => Withdrawn;
    Internal Established "a segment longer than the path": "update | ORIGIN 40:02:02020000fde8 HOP | P" => Withdrawn;
    Internal Established "a segment shorter than the path":
        "update | ORIGIN 40:02:02010000fde80000fde9 HOP | P" => Withdrawn;
    Internal Established "one octet left over": "update | ORIGIN 40:02:02010000fde802 HOP | P" => Withdrawn;
    External Established "the octets that hang the bare crate":
        "update | ORIGIN 40:02:02010000fde802 HOP | P" => Withdrawn;
    Internal Established "one octet": "update | ORIGIN 40:02:02 HOP | P" => Withdrawn;
    Internal Established "segment type 0": "update | ORIGIN 40:02:00010000fde8 HOP | P" => Withdrawn;
    Internal Established "segment type 5": "update | ORIGIN 40:02:05010000fde8 HOP | P" => Withdrawn;
    Internal Established "AS 0 (RFC 7607)": "update | ORIGIN 40:02:020100000000 HOP | P" => Withdrawn;
    External Established "AS 0 in the middle":
        "update | ORIGIN 40:02:02030000fde9000000000000fdea HOP | P" => Withdrawn;
    External Established "AS 0 in a set": "update | ORIGIN 40:02:02010000fde9+010100000000 HOP | P" => Withdrawn;
    Internal Established "confederation sequence": "update | ORIGIN 40:02:03010000fde8 HOP | P" => Announced;
    Internal Established "confederation set": "update | ORIGIN 40:02:04010000fde8 HOP | P" => Announced;
    External Established "confederation sequence of another AS":
        "update | ORIGIN 40:02:03010000fde9 HOP | P" => Withdrawn;
    External Established "confederation set of another AS":
        "update | ORIGIN 40:02:02010000fde9+04010000fde8 HOP | P" => Withdrawn;
    Internal Established "optional": "update | ORIGIN c0:02:02010000fde8 HOP | P" => Withdrawn;
    Internal Established "not transitive": "update | ORIGIN 00:02:02010000fde8 HOP | P" => Withdrawn;
    Internal Established "none": "update | ORIGIN HOP | P" => Withdrawn;
    Internal Established "twice": "update | BASE 40:02:02010000fde9 | P" => Discarded;
    Internal Established "twice, the second malformed": "update | BASE 40:02:02 | P" => Discarded;
    Internal Established "2-octet numbers of a new speaker": "update | ORIGIN 40:02:0201fde8 HOP | P" => Withdrawn;
    OldInternal Established "4-octet numbers of an old speaker":
        "update | ORIGIN 40:02:02010000fde8 HOP | P" => Withdrawn;
    OldExternal Established "2-octet numbers of an old speaker":
        "update | ORIGIN 40:02:0202fde9fdea HOP | P" => Announced;
    OldExternal Established "AS4_PATH of an old speaker":
        "update | ORIGIN 40:02:0202fde95ba0 HOP c0:11:020100010000 | P" => Announced;
    OldExternal Established "AS4_PATH longer than AS_PATH":
        "update | BASE c0:11:02030001000000010001+00010002 | P" => Announced;
    External Established "AS4_PATH of a new speaker": "update | BASE c0:11:020100010000 | P" => Discarded;
    External Established "AS4_PATH of a new speaker, malformed": "update | BASE c0:11:02 | P" => Discarded;
    OldExternal Established "AS4_PATH cut off": "update | BASE c0:11:02020000fde8 | P" => Discarded;
    OldExternal Established "AS4_PATH with AS 0": "update | BASE c0:11:020100000000 | P" => Discarded;
    OldExternal Established "AS4_PATH with a segment of nothing": "update | BASE c0:11:0200 | P" => Discarded;
    OldExternal Established "AS4_PATH with a segment of an unknown type":
        "update | BASE c0:11:09010000fde8 | P" => Discarded;
    OldExternal Established "AS4_PATH with a confederation segment":
        "update | BASE c0:11:03010000fde8 | P" => Announced;
    OldExternal Established "AS4_PATH not transitive": "update | BASE 80:11:02010000fde9 | P" => Withdrawn;
    OldExternal Established "AS4_AGGREGATOR":
        "update | BASE c0:07:5ba00a000001 c0:12:000100000a000001 | P" => Announced;
    OldExternal Established "AS4_AGGREGATOR without AGGREGATOR":
        "update | BASE c0:12:000100000a000001 | P" => Discarded;
    OldExternal Established "AS4_AGGREGATOR of 6 octets":
        "update | BASE c0:07:5ba00a000001 c0:12:00010a000001 | P" => Discarded;
    OldExternal Established "AS4_AGGREGATOR with AS 0":
        "update | BASE c0:07:5ba00a000001 c0:12:000000000a000001 | P" => Discarded;
    External Established "AS4_AGGREGATOR of a new speaker": "update | BASE c0:12:000100000a000001 | P" => Discarded;
    OldInternal Established "AS 0 of an old speaker": "update | ORIGIN 40:02:02010000 HOP | P" => Withdrawn;
    Internal Established "a set of 255 numbers": "update | ORIGIN 50:02:01ff+0000fde9*255 HOP | P" => Announced;
    Internal Established "AS 4294967295": "update | ORIGIN 40:02:0201ffffffff HOP | P" => Announced;
    Internal Established "AS_TRANS of a new speaker": "update | ORIGIN 40:02:020100005ba0 HOP | P" => Announced;
    External Established "private numbers": "update | ORIGIN 40:02:02030000fde9fffffffe0000fe00 HOP | P" => Announced;
    Internal Established "a segment of 255 numbers and two there":
        "update | ORIGIN 40:02:02ff0000fde80000fde9 HOP | P" => Withdrawn;
    Internal Established "a good segment, then an unknown one":
        "update | ORIGIN 40:02:02010000fde8+06010000fde9 HOP | P" => Withdrawn;
    Internal Established "partial": "update | ORIGIN 60:02:02010000fde8 HOP | P" => Announced;
    Internal Established "a confederation sequence with AS 0":
        "update | ORIGIN 40:02:030100000000 HOP | P" => Withdrawn;
    Internal Established "a confederation segment of nothing": "update | ORIGIN 40:02:0300 HOP | P" => Withdrawn;
    OldExternal Established "a confederation segment of an old speaker of another AS":
        "update | ORIGIN 40:02:0301fde9 HOP | P" => Withdrawn;
    OldExternal Established "AS_TRANS without AS4_PATH": "update | ORIGIN 40:02:0202fde95ba0 HOP | P" => Announced;
    OldExternal Established "AS4_PATH partial":
        "update | ORIGIN 40:02:0202fde95ba0 HOP e0:11:020100010000 | P" => Announced;
    OldExternal Established "AS4_PATH of 0 octets": "update | BASE c0:11: | P" => Discarded;
    OldExternal Established "AS4_PATH of 5 octets": "update | BASE c0:11:0201000100 | P" => Discarded;
    OldExternal Established "AS4_PATH twice":
        "update | ORIGIN 40:02:0202fde95ba0 HOP c0:11:020100010000 c0:11:020100010001 | P" => Discarded;
    OldExternal Established "AS4_PATH well-known": "update | BASE 40:11:02010000fde9 | P" => Withdrawn;
    OldExternal Established "AS4_PATH with a confederation set":
        "update | ORIGIN 40:02:0202fde95ba0 HOP c0:11:04010000fde8+020100010000 | P" => Announced;
    OldExternal Established "AS4_AGGREGATOR not transitive":
        "update | BASE c0:07:5ba00a000001 80:12:000100000a000001 | P" => Withdrawn;
    OldExternal Established "AS4_AGGREGATOR beside an AGGREGATOR with a number":
        "update | BASE c0:07:fde80a000001 c0:12:000100000a000001 | P" => Announced;
    OldExternal Established "AS4_AGGREGATOR of 0 octets": "update | BASE c0:07:5ba00a000001 c0:12: | P" => Discarded;
    Bare Established "2-octet numbers of a peer without capabilities": "update | BASE | P" => Announced;
};
