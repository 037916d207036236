//! Prefixes, plain and multiprotocol (RFC 4271 section 6.3, RFC 4760, RFC 2545, RFC 7606 sections 5 and 7.11, RFC 7911, RFC 8950).

use super::Want::{Announced, Discarded, Fine, Gone, Kept, Reset, Withdrawn};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Internal Established "withdrawn": "update P | |" => Gone;
    Internal Established "withdrawn, never announced": "update 18c61200 | |" => Fine;
    Internal Established "withdrawn and announced at once": "update P | BASE | P" => Announced;
    Internal Established "a prefix of 33 bits": "update | BASE | 21c633640000" => Reset(3, 10, Some(""));
    Internal Established "a prefix of 255 bits": "update | BASE | ff00" => Reset(3, 10, Some(""));
    Internal Established "a prefix cut off": "update | BASE | P 18c6" => Reset(3, 10, Some(""));
    Internal Established "a length and no prefix": "update | BASE | P 18" => Reset(3, 10, Some(""));
    Internal Established "withdrawn, 33 bits": "update 21c633640000 | |" => Reset(3, 10, Some(""));
    Internal Established "withdrawn, cut off": "update 18c6 | |" => Reset(3, 10, Some(""));
    Internal Established "host bits": "update | BASE | P 0ac6ff" => Announced;
    Internal Established "the default route": "update | BASE | 00 P" => Announced;
    Internal Established "a prefix twice": "update | BASE | P P" => Announced;
    Internal Established "multicast beside others": "update | BASE | P 18e00001" => Discarded;
    Internal Established "loopback beside others": "update | BASE | P 087f" => Discarded;
    Internal Established "a host route": "update | BASE | P 20c6120001" => Announced;
    Internal Established "a thousand prefixes": "update | BASE | 18646464*900 P" => Announced;
    Internal Established "End-of-RIB": "update | |" => Kept;
    Internal Established "End-of-RIB for IPv6": "update | 80:0f:000201 |" => Kept;
    Internal Established "End-of-RIB for IPv4 as MP_UNREACH_NLRI": "update | 80:0f:000101 |" => Kept;
    Internal Established "End-of-RIB for a family not agreed on": "update | 80:0f:001946 |" => Kept;
    Internal Established "IPv6": "update | REACH ORIGIN PATH |" => Announced;
    External Established "IPv6 of another AS": "update | REACH ORIGIN PATH |" => Announced;
    Internal Established "IPv6 at the end": "update | ORIGIN PATH REACH |" => Announced;
    Internal Established "IPv6 with a NEXT_HOP that says nothing": "update | BASE REACH |" => Announced;
    Internal Established "IPv6 and IPv4 in one message": "update | BASE REACH | P" => Announced;
    Internal Established "a global and a link-local next hop":
        "update | 80:0e:00020120+HOP6+fe800000000000000000000000000001+00+Q ORIGIN PATH |" => Announced;
    Internal Established "a link-local next hop alone":
        "update | 80:0e:00020110+fe800000000000000000000000000001+00+Q ORIGIN PATH |" => Announced;
    Internal Established "IPv4 as MP_REACH_NLRI": "update | 80:0e:00010104c000020100+P ORIGIN PATH |" => Announced;
    Internal Established "the reserved octet says nothing":
        "update | 80:0e:00020110+HOP6+ff+Q ORIGIN PATH |" => Announced;
    Internal Established "no prefix": "update | 80:0e:00020110+HOP6+00 ORIGIN PATH |" => Fine;
    Internal Established "cut off before the next hop":
        "update | 80:0e:000201 ORIGIN PATH |" => Reset(3, 9, Some("800e03000201"));
    Internal Established "empty": "update | 80:0e: ORIGIN PATH |" => Reset(3, 9, Some("800e00"));
    Internal Established "next hop cut off": "update | 80:0e:00020110+20010db8 ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "nothing after the next hop":
        "update | 80:0e:00020110+HOP6 ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop of 4 octets for IPv6":
        "update | 80:0e:00020104c000020100+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop of 0 octets": "update | 80:0e:0002010000+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop of 15 octets":
        "update | 80:0e:0002010f+00*15+00+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop of 24 octets":
        "update | 80:0e:00020118+00*24+00+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop of 255 octets, cut off":
        "update | 80:0e:000201ff+HOP6+00+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop ::": "update | 80:0e:00020110+00*16+00+Q ORIGIN PATH |" => Withdrawn;
    Internal Established "next hop ::1": "update | 80:0e:00020110+00*15+01+00+Q ORIGIN PATH |" => Withdrawn;
    Internal Established "a multicast next hop":
        "update | 80:0e:00020110+ff02+00*13+01+00+Q ORIGIN PATH |" => Withdrawn;
    Internal Established "a prefix of 129 bits":
        "update | 80:0e:00020110+HOP6+00+81+00*17 ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "an IPv6 prefix cut off":
        "update | 80:0e:00020110+HOP6+00+3020010d ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "MP_REACH_NLRI twice": "update | REACH REACH ORIGIN PATH |" => Reset(3, 1, Some(""));
    Internal Established "MP_REACH_NLRI cut off": "update | ORIGIN PATH 800e1c000201 |" => Reset(3, 9, None);
    Internal Established "MP_REACH_NLRI transitive": "update | c0:0e:00020110+HOP6+00+Q ORIGIN PATH |" => Withdrawn;
    Internal Established "MP_REACH_NLRI well-known": "update | 40:0e:00020110+HOP6+00+Q ORIGIN PATH |" => Withdrawn;
    Internal Established "IPv6 without ORIGIN": "update | REACH PATH |" => Withdrawn;
    Internal Established "IPv6 without AS_PATH": "update | REACH ORIGIN |" => Withdrawn;
    Internal Established "IPv6 with a malformed attribute": "update | REACH ORIGIN PATH 80:04:00 |" => Withdrawn;
    External Established "IPv6 with LOCAL_PREF of another AS":
        "update | REACH ORIGIN PATH 40:05:00000064 |" => Discarded;
    Internal Established "IPv6 multicast, not agreed on":
        "update | 80:0e:00020210+HOP6+00+3020010db8ffff ORIGIN PATH |" => Kept;
    Internal Established "VPN, not agreed on":
        "update | 80:0e:0001800c0000000000000000c0000201+00+00 ORIGIN PATH |" => Kept;
    Internal Established "AFI 0": "update | 80:0e:00000104c000020100 ORIGIN PATH |" => Kept;
    Plain Established "IPv6 of a peer of IPv4": "update | REACH ORIGIN PATH |" => Fine;
    Internal Established "link-local prefixes": "update | 80:0e:00020110+HOP6+00+0afe80+Q ORIGIN PATH |" => Discarded;
    Internal Established "IPv6 withdrawn": "update | UNREACH |" => Gone;
    Internal Established "IPv6 withdrawn beside IPv4 announced": "update | UNREACH BASE | P" => Fine;
    Internal Established "MP_UNREACH_NLRI empty": "update | 80:0f: |" => Reset(3, 9, Some("800f00"));
    Internal Established "MP_UNREACH_NLRI of 2 octets": "update | 80:0f:0002 |" => Reset(3, 9, Some("800f020002"));
    Internal Established "MP_UNREACH_NLRI, 129 bits": "update | 80:0f:00020181+00*17 |" => Reset(3, 9, None);
    Internal Established "MP_UNREACH_NLRI, a prefix cut off": "update | 80:0f:00020130+2001 |" => Reset(3, 9, None);
    Internal Established "MP_UNREACH_NLRI twice": "update | UNREACH UNREACH |" => Reset(3, 1, Some(""));
    Internal Established "MP_UNREACH_NLRI cut off": "update | 800f0a000201 |" => Reset(3, 9, None);
    Internal Established "MP_UNREACH_NLRI of a family not agreed on": "update | 80:0f:00190646 |" => Kept;
    Internal Established "MP_UNREACH_NLRI with two octets of length": "update | 90:0f:000201+Q |" => Gone;
    Internal Established "IPv4 with an IPv6 next hop, not agreed on":
        "update | 80:0e:00010110+HOP6+00+P ORIGIN PATH |" => Reset(3, 9, None);
    NextHops Established "IPv4 with an IPv6 next hop": "update | 80:0e:00010110+HOP6+00+P ORIGIN PATH |" => Announced;
    NextHops Established "IPv4 with two IPv6 next hops":
        "update | 80:0e:00010120+HOP6+fe80+00*13+01+00+P ORIGIN PATH |" => Announced;
    NextHops Established "IPv4 with a next hop of 8 octets":
        "update | 80:0e:00010108c0000201c000020200+P ORIGIN PATH |" => Reset(3, 9, None);
    NextHops Established "IPv4 with an IPv4 next hop all the same":
        "update | 80:0e:00010104c000020100+P ORIGIN PATH |" => Announced;
    Paths Established "a path identifier": "update | BASE | 00000001 P" => Announced;
    Paths Established "two paths of one prefix": "update | BASE | 00000001 P 00000002 P" => Announced;
    Paths Established "a path withdrawn": "update 00000001 P | |" => Gone;
    Paths Established "another path withdrawn": "update 00000002 P | |" => Kept;
    Paths Established "a path identifier cut off": "update | BASE | 000001" => Reset(3, 10, Some(""));
    Paths Established "a path identifier and nothing": "update | BASE | 00000001" => Reset(3, 10, Some(""));
    Paths Established "no path identifier where one was agreed on": "update | BASE | P" => Reset(3, 10, Some(""));
    Internal Established "IPv6 has none, because the peer only receives": "update | REACH ORIGIN PATH |" => Announced;
    Paths Established "a path treated as withdrawn": "update | 40:01:03 PATH HOP | 00000001 P" => Withdrawn;
    Internal Established "withdrawn twice in one message": "update P P | |" => Gone;
    Internal Established "withdrawn by MP_UNREACH_NLRI of IPv4": "update | 80:0f:000101+P |" => Gone;
    Internal Established "withdrawn by MP_UNREACH_NLRI, announced by NLRI":
        "update | 80:0f:000101+P BASE | P" => Announced;
    Internal Established "withdrawn, and announced by MP_REACH_NLRI":
        "update P | 80:0e:00010104c000020100+P ORIGIN PATH |" => Announced;
    Internal Established "in MP_REACH_NLRI and in MP_UNREACH_NLRI":
        "update | UNREACH REACH ORIGIN PATH |" => Announced;
    Internal Established "IPv4 in MP_REACH_NLRI and in NLRI":
        "update | BASE 80:0e:00010104c000020100+18646464 | P" => Announced;
    Internal Established "IPv4 in MP_REACH_NLRI, 33 bits":
        "update | 80:0e:00010104c000020100+2101020304+00 ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "IPv4 in MP_UNREACH_NLRI, 33 bits":
        "update | 80:0f:0001012101020304+00 |" => Reset(3, 9, None);
    Internal Established "IPv4 in MP_REACH_NLRI with next hop 0.0.0.0":
        "update | 80:0e:000101040000000000+P ORIGIN PATH |" => Withdrawn;
    Internal Established "IPv4 in MP_REACH_NLRI with a multicast next hop":
        "update | 80:0e:00010104e000000100+P ORIGIN PATH |" => Withdrawn;
    Internal Established "a prefix of one bit": "update | BASE | P 0180" => Announced;
    Internal Established "a prefix of 25 bits": "update | BASE | P 1964646480" => Announced;
    Internal Established "a host route cut off": "update | BASE | P 20c61200" => Reset(3, 10, Some(""));
    Internal Established "withdrawn, 255 bits": "update ff | |" => Reset(3, 10, Some(""));
    Internal Established "withdrawn: a length and no prefix": "update 18 | |" => Reset(3, 10, Some(""));
    Internal Established "a malformed prefix behind a malformed attribute":
        "update | 40:01:09 PATH HOP | 21c633640000" => Reset(3, 10, Some(""));
    Internal Established "End-of-RIB with two octets of length": "update | 90:0f:000201 |" => Kept;
    Internal Established "End-of-RIB twice": "update | | ; update | |" => Kept;
    Internal Established "MP_UNREACH_NLRI transitive": "update | c0:0f:000201+Q |" => Withdrawn;
    Internal Established "MP_UNREACH_NLRI well-known": "update | 40:0f:000201+Q |" => Withdrawn;
    Internal Established "MP_UNREACH_NLRI partial": "update | a0:0f:000201+Q |" => Gone;
    Internal Established "MP_REACH_NLRI of 1 octet":
        "update | 80:0e:00 ORIGIN PATH |" => Reset(3, 9, Some("800e0100"));
    Internal Established "MP_REACH_NLRI twice, of two families":
        "update | REACH 80:0e:00010104c000020100 ORIGIN PATH |" => Reset(3, 1, Some(""));
    Internal Established "MP_REACH_NLRI with two octets of length":
        "update | 90:0e:00020110+HOP6+00+Q ORIGIN PATH |" => Announced;
    Internal Established "MP_REACH_NLRI in the middle": "update | ORIGIN REACH PATH |" => Announced;
    Internal Established "two global next hops": "update | 80:0e:00020120+HOP6+HOP6+00+Q ORIGIN PATH |" => Announced;
    Internal Established "next hop :: beside a link-local one":
        "update | 80:0e:00020120+00*16+fe80+00*13+01+00+Q ORIGIN PATH |" => Announced;
    Internal Established "next hop of 33 octets":
        "update | 80:0e:00020121+00*33+00+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "next hop of 48 octets":
        "update | 80:0e:00020130+00*48+00+Q ORIGIN PATH |" => Reset(3, 9, None);
    Internal Established "an IPv6 host route": "update | 80:0e:00020110+HOP6+00+80+HOP6+Q ORIGIN PATH |" => Announced;
    Internal Established "the IPv6 default route": "update | 80:0e:00020110+HOP6+00+00+Q ORIGIN PATH |" => Announced;
    Internal Established "IPv6 host bits": "update | 80:0e:00020110+HOP6+00+0321+Q ORIGIN PATH |" => Announced;
    Internal Established "IPv6 multicast prefixes":
        "update | 80:0e:00020110+HOP6+00+08ff+Q ORIGIN PATH |" => Discarded;
    Internal Established "SAFI 0": "update | 80:0e:00020010+HOP6+00 ORIGIN PATH |" => Kept;
    Internal Established "AFI 65535": "update | 80:0e:ffff010400000000+00 ORIGIN PATH |" => Kept;
    Internal Established "EVPN, flow specification and labels, not agreed on":
        "update | 80:0e:00194604c000020100+02 ORIGIN PATH |" => Kept;
    Internal Established "IPv6 announced, an attribute cut off behind it":
        "update | REACH ORIGIN PATH c00804fde8 |" => Withdrawn;
    Internal Established "IPv6 behind a malformed attribute": "update | 80:04:00 ORIGIN PATH REACH |" => Withdrawn;
    External Established "IPv6 without AS_PATH, of another AS": "update | REACH ORIGIN |" => Withdrawn;
    Internal Established "IPv6 with a malformed NEXT_HOP beside it":
        "update | REACH ORIGIN PATH 40:03:00 |" => Withdrawn;
    Internal Established "IPv6 with NEXT_HOP 0.0.0.0 beside it":
        "update | REACH ORIGIN PATH 40:03:00000000 |" => Withdrawn;
    Bare Established "IPv6 of a peer that named no family": "update | REACH ORIGIN PATH |" => Fine;
    NextHops Established "IPv4 with next hop ::": "update | 80:0e:00010110+00*16+00+P ORIGIN PATH |" => Withdrawn;
    NextHops Established "IPv4 with a multicast IPv6 next hop":
        "update | 80:0e:00010110+ff02+00*13+01+00+P ORIGIN PATH |" => Withdrawn;
    NextHops Established "IPv4 with a link-local next hop":
        "update | 80:0e:00010110+fe80+00*13+01+00+P ORIGIN PATH |" => Announced;
    NextHops Established "IPv4 with a next hop of 24 octets":
        "update | 80:0e:00010118+00*24+00+P ORIGIN PATH |" => Reset(3, 9, None);
    NextHops Established "plain IPv4 all the same": "update | BASE | P" => Announced;
    Paths Established "IPv6 with a path identifier":
        "update | ORIGIN PATH 80:0e:00020110+HOP6+00+00000007+Q |" => Announced;
    Paths Established "IPv6 with half a path identifier":
        "update | ORIGIN PATH 80:0e:00020110+HOP6+00+0000 |" => Reset(3, 9, None);
    Paths Established "IPv6 withdrawn with its path identifier": "update | 80:0f:000201+00000001+Q |" => Gone;
    Paths Established "path identifiers 0 and 4294967295": "update | BASE | 00000000 P ffffffff P" => Announced;
    Paths Established "a path said again":
        "update | BASE | 00000001 P ; update | BASE 80:04:00000005 | 00000001 P" => Announced;
    Paths Established "withdrawn without a path identifier": "update P | |" => Reset(3, 10, Some(""));
    Paths Established "33 bits behind a path identifier":
        "update | BASE | 00000001 21c633640000" => Reset(3, 10, Some(""));
    Paths Established "End-of-RIB of IPv6": "update | 80:0f:000201 |" => Kept;
};
