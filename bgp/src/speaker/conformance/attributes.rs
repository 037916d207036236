//! Path attributes of UPDATE: flags, length, value, twice, missing (RFC 4271 section 6.3, RFC 7606, RFC 8092, RFC 9234).

use super::Want::{Announced, Discarded, Fine, Gone, Reset, Withdrawn};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Internal Established "the least": "update | BASE | P" => Announced;
    External Established "the least of another AS": "update | BASE | P" => Announced;
    Internal Established "every attribute":
        "update | BASE 80:04:00000001 40:05:00000064 40:06: c0:07:0000fde80a000001 c0:08:fde80001 80:09:0a000002 80:0a:0a000003 c0:10:0002fde800000001 c0:20:0000fde80000000100000002 | P" => Announced;
    Internal Established "in another order": "update | HOP PATH ORIGIN | P" => Announced;
    Internal Established "two octets of length where one would do":
        "update | 50:01:00 50:02:02010000fde8 50:03:c0000201 | P" => Announced;
    Internal Established "the low bits of the flags mean nothing": "update | 4f010100 PATH HOP | P" => Announced;
    Internal Established "the Partial bit of a well-known attribute": "update | 60:01:00 PATH HOP | P" => Announced;
    Internal Established "ORIGIN EGP": "update | 40:01:01 PATH HOP | P" => Announced;
    Internal Established "ORIGIN incomplete": "update | 40:01:02 PATH HOP | P" => Announced;
    Internal Established "ORIGIN 3": "update | 40:01:03 PATH HOP | P" => Withdrawn;
    Internal Established "ORIGIN 255": "update | 40:01:ff PATH HOP | P" => Withdrawn;
    Internal Established "ORIGIN of 0 octets": "update | 40:01: PATH HOP | P" => Withdrawn;
    Internal Established "ORIGIN of 2 octets": "update | 40:01:0000 PATH HOP | P" => Withdrawn;
    Internal Established "ORIGIN optional": "update | c0:01:00 PATH HOP | P" => Withdrawn;
    Internal Established "ORIGIN not transitive": "update | 00:01:00 PATH HOP | P" => Withdrawn;
    Internal Established "no ORIGIN": "update | PATH HOP | P" => Withdrawn;
    Internal Established "ORIGIN twice": "update | ORIGIN 40:01:02 PATH HOP | P" => Discarded;
    Internal Established "ORIGIN twice, the second malformed": "update | BASE 40:01:0909 | P" => Discarded;
    Internal Established "NEXT_HOP of 3 octets": "update | ORIGIN PATH 40:03:c00002 | P" => Withdrawn;
    Internal Established "NEXT_HOP of 5 octets": "update | ORIGIN PATH 40:03:c000020100 | P" => Withdrawn;
    Internal Established "NEXT_HOP of 16 octets": "update | ORIGIN PATH 40:03:HOP6 | P" => Withdrawn;
    Internal Established "NEXT_HOP of 0 octets": "update | ORIGIN PATH 40:03: | P" => Withdrawn;
    Internal Established "NEXT_HOP optional": "update | ORIGIN PATH c0:03:c0000201 | P" => Withdrawn;
    Internal Established "NEXT_HOP not transitive": "update | ORIGIN PATH 00:03:c0000201 | P" => Withdrawn;
    Internal Established "no NEXT_HOP": "update | ORIGIN PATH | P" => Withdrawn;
    Internal Established "NEXT_HOP 0.0.0.0": "update | ORIGIN PATH 40:03:00000000 | P" => Withdrawn;
    Internal Established "NEXT_HOP 255.255.255.255": "update | ORIGIN PATH 40:03:ffffffff | P" => Withdrawn;
    Internal Established "NEXT_HOP 224.0.0.1": "update | ORIGIN PATH 40:03:e0000001 | P" => Withdrawn;
    Internal Established "NEXT_HOP 127.0.0.1": "update | ORIGIN PATH 40:03:7f000001 | P" => Withdrawn;
    Internal Established "NEXT_HOP twice": "update | BASE 40:03:c0000202 | P" => Discarded;
    External Established "MULTI_EXIT_DISC": "update | BASE 80:04:ffffffff | P" => Announced;
    Internal Established "MULTI_EXIT_DISC of 3 octets": "update | BASE 80:04:000001 | P" => Withdrawn;
    Internal Established "MULTI_EXIT_DISC of 5 octets": "update | BASE 80:04:0000000100 | P" => Withdrawn;
    Internal Established "MULTI_EXIT_DISC of 0 octets": "update | BASE 80:04: | P" => Withdrawn;
    Internal Established "MULTI_EXIT_DISC transitive": "update | BASE c0:04:00000001 | P" => Withdrawn;
    Internal Established "MULTI_EXIT_DISC well-known": "update | BASE 40:04:00000001 | P" => Withdrawn;
    Internal Established "MULTI_EXIT_DISC twice": "update | BASE 80:04:00000001 80:04:00000002 | P" => Discarded;
    Internal Established "LOCAL_PREF": "update | BASE 40:05:00000064 | P" => Announced;
    Internal Established "LOCAL_PREF of 3 octets": "update | BASE 40:05:000064 | P" => Withdrawn;
    Internal Established "LOCAL_PREF of 0 octets": "update | BASE 40:05: | P" => Withdrawn;
    Internal Established "LOCAL_PREF optional": "update | BASE c0:05:00000064 | P" => Withdrawn;
    Internal Established "LOCAL_PREF not transitive": "update | BASE 00:05:00000064 | P" => Withdrawn;
    External Established "LOCAL_PREF of another AS": "update | BASE 40:05:00000064 | P" => Discarded;
    External Established "LOCAL_PREF of another AS, malformed": "update | BASE 40:05:0000 | P" => Discarded;
    External Established "ATOMIC_AGGREGATE": "update | BASE 40:06: | P" => Announced;
    Internal Established "ATOMIC_AGGREGATE of 1 octet": "update | BASE 40:06:00 | P" => Discarded;
    Internal Established "ATOMIC_AGGREGATE optional": "update | BASE c0:06: | P" => Withdrawn;
    External Established "AGGREGATOR": "update | BASE c0:07:0000fde80a000001 | P" => Announced;
    External Established "AGGREGATOR partial": "update | BASE e0:07:0000fde80a000001 | P" => Announced;
    Internal Established "AGGREGATOR of 6 octets, 4-octet AS numbers":
        "update | BASE c0:07:fde80a000001 | P" => Discarded;
    Internal Established "AGGREGATOR of 7 octets": "update | BASE c0:07:00fde80a000001 | P" => Discarded;
    Internal Established "AGGREGATOR of 0 octets": "update | BASE c0:07: | P" => Discarded;
    Internal Established "AGGREGATOR with AS 0": "update | BASE c0:07:000000000a000001 | P" => Discarded;
    Internal Established "AGGREGATOR not transitive": "update | BASE 80:07:0000fde80a000001 | P" => Withdrawn;
    Internal Established "AGGREGATOR well-known": "update | BASE 40:07:0000fde80a000001 | P" => Withdrawn;
    Internal Established "AGGREGATOR twice":
        "update | BASE c0:07:0000fde80a000001 c0:07:0000fde80a000001 | P" => Discarded;
    OldExternal Established "AGGREGATOR of an old speaker": "update | BASE c0:07:fde80a000001 | P" => Announced;
    OldExternal Established "AGGREGATOR of 8 octets of an old speaker":
        "update | BASE c0:07:0000fde80a000001 | P" => Discarded;
    OldInternal Established "AGGREGATOR with AS 0 of an old speaker":
        "update | BASE c0:07:00000a000001 | P" => Discarded;
    External Established "COMMUNITIES": "update | BASE c0:08:fde80001ffff0000ffffff01 | P" => Announced;
    Internal Established "COMMUNITIES of 0 octets": "update | BASE c0:08: | P" => Withdrawn;
    Internal Established "COMMUNITIES of 3 octets": "update | BASE c0:08:fde800 | P" => Withdrawn;
    Internal Established "COMMUNITIES of 5 octets": "update | BASE c0:08:fde8000100 | P" => Withdrawn;
    Internal Established "COMMUNITIES not transitive": "update | BASE 80:08:fde80001 | P" => Withdrawn;
    Internal Established "COMMUNITIES well-known": "update | BASE 40:08:fde80001 | P" => Withdrawn;
    Internal Established "COMMUNITIES twice": "update | BASE c0:08:fde80001 c0:08:fde80002 | P" => Discarded;
    Internal Established "a thousand COMMUNITIES": "update | BASE d0:08:fde80001*1000 | P" => Announced;
    Internal Established "ORIGINATOR_ID": "update | BASE 80:09:0a000002 | P" => Announced;
    Internal Established "ORIGINATOR_ID of 3 octets": "update | BASE 80:09:0a0000 | P" => Withdrawn;
    Internal Established "ORIGINATOR_ID of 8 octets": "update | BASE 80:09:0a0000020a000003 | P" => Withdrawn;
    Internal Established "ORIGINATOR_ID transitive": "update | BASE c0:09:0a000002 | P" => Withdrawn;
    External Established "ORIGINATOR_ID of another AS": "update | BASE 80:09:0a000002 | P" => Discarded;
    External Established "ORIGINATOR_ID of another AS, malformed": "update | BASE 80:09:0a00 | P" => Discarded;
    Internal Established "CLUSTER_LIST": "update | BASE 80:0a:0a0000030a000004 | P" => Announced;
    Internal Established "CLUSTER_LIST of 0 octets": "update | BASE 80:0a: | P" => Withdrawn;
    Internal Established "CLUSTER_LIST of 6 octets": "update | BASE 80:0a:0a0000030a00 | P" => Withdrawn;
    Internal Established "CLUSTER_LIST transitive": "update | BASE c0:0a:0a000003 | P" => Withdrawn;
    External Established "CLUSTER_LIST of another AS": "update | BASE 80:0a:0a000003 | P" => Discarded;
    External Established "CLUSTER_LIST of another AS, malformed": "update | BASE 80:0a:0a | P" => Discarded;
    External Established "EXTENDED COMMUNITIES":
        "update | BASE c0:10:0002fde8000000014006fde800000001 | P" => Announced;
    Internal Established "EXTENDED COMMUNITIES of 0 octets": "update | BASE c0:10: | P" => Withdrawn;
    Internal Established "EXTENDED COMMUNITIES of 7 octets": "update | BASE c0:10:0002fde8000000 | P" => Withdrawn;
    Internal Established "EXTENDED COMMUNITIES not transitive":
        "update | BASE 80:10:0002fde800000001 | P" => Withdrawn;
    External Established "IPV6 EXTENDED COMMUNITIES": "update | BASE c0:19:00*20 | P" => Announced;
    Internal Established "IPV6 EXTENDED COMMUNITIES of 19 octets": "update | BASE c0:19:00*19 | P" => Withdrawn;
    Internal Established "IPV6 EXTENDED COMMUNITIES of 0 octets": "update | BASE c0:19: | P" => Withdrawn;
    External Established "LARGE_COMMUNITY": "update | BASE c0:20:0000fde80000000100000002 | P" => Announced;
    External Established "LARGE_COMMUNITY partial": "update | BASE e0:20:0000fde80000000100000002 | P" => Announced;
    Internal Established "LARGE_COMMUNITY of 0 octets": "update | BASE c0:20: | P" => Withdrawn;
    Internal Established "LARGE_COMMUNITY of 11 octets":
        "update | BASE c0:20:0000fde800000001000000 | P" => Withdrawn;
    Internal Established "LARGE_COMMUNITY not transitive":
        "update | BASE 80:20:0000fde80000000100000002 | P" => Withdrawn;
    Internal Established "LARGE_COMMUNITY well-known":
        "update | BASE 40:20:0000fde80000000100000002 | P" => Withdrawn;
    External Established "LARGE_COMMUNITY twice the same inside":
        "update | BASE c0:20:0000fde80000000100000002*2 | P" => Announced;
    External Established "ONLY_TO_CUSTOMER": "update | BASE c0:23:0000fde9 | P" => Announced;
    External Established "ONLY_TO_CUSTOMER of 3 octets": "update | BASE c0:23:00fde9 | P" => Withdrawn;
    External Established "ONLY_TO_CUSTOMER of 5 octets": "update | BASE c0:23:0000fde900 | P" => Withdrawn;
    External Established "ONLY_TO_CUSTOMER not transitive": "update | BASE 80:23:0000fde9 | P" => Withdrawn;
    Internal Established "unknown, optional and transitive": "update | BASE c0:63:010203 | P" => Announced;
    Internal Established "unknown, optional, transitive and partial": "update | BASE e0:63:010203 | P" => Announced;
    Internal Established "unknown, optional, not transitive": "update | BASE 80:63:010203 | P" => Announced;
    Internal Established "unknown and well-known":
        "update | BASE 40:63:010203 | P" => Reset(3, 2, Some("406303010203"));
    Internal Established "unknown, neither optional nor transitive":
        "update | BASE 00:63:010203 | P" => Reset(3, 2, Some("006303010203"));
    Internal Established "type 0, well-known": "update | BASE 40:00:00 | P" => Reset(3, 2, Some("40000100"));
    Internal Established "type 255, optional and transitive": "update | BASE c0:ff: | P" => Announced;
    Internal Established "unknown twice": "update | BASE c0:63:01 c0:63:02 | P" => Discarded;
    External Established "AIGP, not configured": "update | BASE 80:1a:01000b0000000000000001 | P" => Announced;
    External Established "PREFIX_SID": "update | BASE c0:28:010007000000000001 | P" => Announced;
    External Established "ATTR_SET in ATTR_SET":
        "update | BASE c0:80:0000fde8+c0800a0000fde8c0800400 | P" => Announced;
    External Established "BGPSEC_PATH": "update | BASE 80:21:0002 | P" => Announced;
    Internal Established "attributes longer than the message": "type 02 0000 00ff 40010100" => Reset(3, 1, Some(""));
    Internal Established "withdrawn routes longer than the message": "type 02 00ff 0000" => Reset(3, 1, Some(""));
    Internal Established "withdrawn routes that leave no room for attributes":
        "type 02 0002 0000" => Reset(3, 1, Some(""));
    Internal Established "the last attribute cut off": "update | BASE c00804fde8 | P" => Withdrawn;
    Internal Established "half an attribute header": "update | BASE c0 | P" => Withdrawn;
    Internal Established "half an attribute header with its type": "update | BASE c008 | P" => Withdrawn;
    Internal Established "two octets of length, one there": "update | BASE d00800 | P" => Withdrawn;
    Internal Established "a well-known attribute cut off": "update | BASE 400504 | P" => Withdrawn;
    Internal Established "no attribute but a prefix": "update | | P" => Withdrawn;
    Internal Established "attributes and no prefix": "update | BASE |" => Fine;
    Internal Established "a malformed attribute and no prefix (RFC 7606 section 5.2)":
        "update | 40:01:03 PATH HOP |" => Reset(3, 6, Some("40010103"));
    Internal Established "a wrong length and no prefix": "update | BASE 80:04:00 |" => Reset(3, 5, Some("80040100"));
    Internal Established "wrong flags and no prefix":
        "update | BASE c0:04:00000001 |" => Reset(3, 4, Some("c0040400000001"));
    Internal Established "an attribute to be dropped and no prefix": "update | BASE 40:06:00 |" => Fine;
    Internal Established "a withdrawal beside a malformed attribute":
        "update P | 40:01:03 PATH HOP |" => Reset(3, 6, Some("40010103"));
    Internal Established "two faults, the stronger counts": "update | BASE 40:06:00 80:04:00 | P" => Withdrawn;
    Internal Established "two faults, one ends the connection":
        "update | BASE 80:04:00 40:63: | P" => Reset(3, 2, Some("406300"));
    Internal Established "ORIGIN malformed, then right": "update | 40:01:09 ORIGIN PATH HOP | P" => Withdrawn;
    Internal Established "NEXT_HOP 240.0.0.1": "update | ORIGIN PATH 40:03:f0000001 | P" => Withdrawn;
    Internal Established "NEXT_HOP 0.1.2.3": "update | ORIGIN PATH 40:03:00010203 | P" => Withdrawn;
    Internal Established "NEXT_HOP partial": "update | ORIGIN PATH 60:03:c0000201 | P" => Announced;
    External Established "MULTI_EXIT_DISC not optional, transitive, of another AS":
        "update | BASE 40:04:00000001 | P" => Withdrawn;
    Internal Established "LOCAL_PREF twice": "update | BASE 40:05:00000064 40:05:00000065 | P" => Discarded;
    External Established "LOCAL_PREF of another AS, optional": "update | BASE c0:05:00000064 | P" => Discarded;
    Internal Established "ATOMIC_AGGREGATE twice": "update | BASE 40:06: 40:06: | P" => Discarded;
    Internal Established "ATOMIC_AGGREGATE not transitive": "update | BASE 00:06: | P" => Withdrawn;
    Internal Established "ATOMIC_AGGREGATE partial": "update | BASE 60:06: | P" => Announced;
    Internal Established "ATOMIC_AGGREGATE with two octets of length": "update | BASE 50:06: | P" => Announced;
    Internal Established "AGGREGATOR with two octets of length":
        "update | BASE d0:07:0000fde80a000001 | P" => Announced;
    Internal Established "AGGREGATOR of 12 octets": "update | BASE c0:07:0000fde80a00000100000000 | P" => Discarded;
    Internal Established "AGGREGATOR malformed, with the wrong flags": "update | BASE 40:07:00 | P" => Withdrawn;
    OldInternal Established "AGGREGATOR of 5 octets of an old speaker":
        "update | BASE c0:07:fde80a0000 | P" => Discarded;
    External Established "COMMUNITIES partial": "update | BASE e0:08:fde80001 | P" => Announced;
    Internal Established "COMMUNITIES of 1 octet": "update | BASE c0:08:01 | P" => Withdrawn;
    Internal Established "NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED":
        "update | BASE c0:08:ffffff01ffffff02ffffff03 | P" => Announced;
    Internal Established "ORIGINATOR_ID of 0 octets": "update | BASE 80:09: | P" => Withdrawn;
    Internal Established "ORIGINATOR_ID well-known": "update | BASE 40:09:0a000002 | P" => Withdrawn;
    Internal Established "ORIGINATOR_ID twice": "update | BASE 80:09:0a000002 80:09:0a000003 | P" => Discarded;
    Internal Established "ORIGINATOR_ID that is ours": "update | BASE 80:09:c000020a | P" => Announced;
    External Established "ORIGINATOR_ID of another AS, with the wrong flags":
        "update | BASE 40:09:0a000002 | P" => Discarded;
    Internal Established "CLUSTER_LIST well-known": "update | BASE 40:0a:0a000003 | P" => Withdrawn;
    Internal Established "CLUSTER_LIST of 1 octet": "update | BASE 80:0a:01 | P" => Withdrawn;
    Internal Established "CLUSTER_LIST with our identifier": "update | BASE 80:0a:0a000003c000020a | P" => Announced;
    Internal Established "CLUSTER_LIST twice": "update | BASE 80:0a:0a000003 80:0a:0a000004 | P" => Discarded;
    Internal Established "a CLUSTER_LIST of 100": "update | BASE 90:0a:0a000003*100 | P" => Announced;
    Internal Established "EXTENDED COMMUNITIES of 9 octets":
        "update | BASE c0:10:0002fde80000000100 | P" => Withdrawn;
    Internal Established "EXTENDED COMMUNITIES well-known": "update | BASE 40:10:0002fde800000001 | P" => Withdrawn;
    Internal Established "EXTENDED COMMUNITIES twice":
        "update | BASE c0:10:0002fde800000001 c0:10:0002fde800000002 | P" => Discarded;
    Internal Established "EXTENDED COMMUNITIES of unknown types":
        "update | BASE c0:10:ffffffffffffffff | P" => Announced;
    Internal Established "IPV6 EXTENDED COMMUNITIES of 21 octets": "update | BASE c0:19:00*21 | P" => Withdrawn;
    Internal Established "IPV6 EXTENDED COMMUNITIES not transitive": "update | BASE 80:19:00*20 | P" => Withdrawn;
    Internal Established "LARGE_COMMUNITY of 13 octets":
        "update | BASE c0:20:0000fde8000000010000000200 | P" => Withdrawn;
    Internal Established "LARGE_COMMUNITY twice":
        "update | BASE c0:20:0000fde80000000100000002 c0:20:0000fde80000000100000003 | P" => Discarded;
    Internal Established "LARGE_COMMUNITY 0:0:0": "update | BASE c0:20:00*12 | P" => Announced;
    Internal Established "ONLY_TO_CUSTOMER of our AS": "update | BASE c0:23:0000fde8 | P" => Announced;
    External Established "ONLY_TO_CUSTOMER of 0 octets": "update | BASE c0:23: | P" => Withdrawn;
    External Established "ONLY_TO_CUSTOMER twice": "update | BASE c0:23:0000fde9 c0:23:0000fdea | P" => Discarded;
    External Established "ONLY_TO_CUSTOMER partial": "update | BASE e0:23:0000fde9 | P" => Announced;
    Internal Established "unknown with 300 octets": "update | BASE d0:63:00*300 | P" => Announced;
    Internal Established "unknown with every flag": "update | BASE ff:63:01 | P" => Announced;
    Internal Established "unknown with two octets of length and nothing in it":
        "update | BASE d0:63: | P" => Announced;
    Internal Established "unknown, well-known and partial": "update | BASE 60:63: | P" => Reset(3, 2, Some("606300"));
    Internal Established "unknown and well-known beside a withdrawal":
        "update P | 40:63: |" => Reset(3, 2, Some("406300"));
    Internal Established "unknown and well-known, before a malformed prefix":
        "update | BASE 40:63: | 21c633640000" => Reset(3, 10, Some(""));
    External Established "attributes that were given up (11, 12, 13)":
        "update | BASE c0:0b:0001 80:0c:00000001 80:0d:00 | P" => Announced;
    External Established "PMSI_TUNNEL and Tunnel Encapsulation, malformed":
        "update | BASE c0:16: c0:17:00 | P" => Announced;
    External Established "AIGP malformed": "update | BASE 80:1a:01 | P" => Announced;
    External Established "LINK_STATE": "update | BASE 80:1d:0100 | P" => Announced;
    External Established "ATTR_SET malformed": "update | BASE c0:80:00 | P" => Announced;
    Internal Established "the last attribute cut off and no prefix":
        "update | BASE c00804fde8 |" => Reset(3, 1, Some(""));
    Internal Established "an attribute of 65535 octets cut off": "update | BASE d008ffff00 | P" => Withdrawn;
    Internal Established "the first attribute cut off": "update | 4001ff | P" => Withdrawn;
    Internal Established "flags and no type": "update | ff | P" => Withdrawn;
    Internal Established "withdrawn beside attributes, nothing announced": "update P | BASE |" => Gone;
    Internal Established "withdrawn and announced without attributes": "update P | | P" => Withdrawn;
    Internal Established "three attributes to be dropped":
        "update | BASE 40:06:00 c0:07:00 40:01:00 | P" => Discarded;
    Internal Established "attributes twice, all of them": "update | BASE BASE | P" => Discarded;
    Internal Established "only NEXT_HOP": "update | HOP | P" => Withdrawn;
    Internal Established "missing ORIGIN and malformed AS_PATH": "update | 40:02:02 HOP | P" => Withdrawn;
};
