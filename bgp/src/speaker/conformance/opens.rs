//! OPEN (RFC 4271 section 6.2, RFC 5492, RFC 6286, RFC 6793, RFC 7607, RFC 9072).

use super::Want::{Fine, Reset};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Internal Connected "no parameters": "open 04 fc00 005a 0a000001 00" => Fine;
    External Connected "no parameters, another AS": "open 04 fde9 005a 0a000001 00" => Fine;
    Internal Connected "an empty parameter": "open 04 fc00 005a 0a000001 020200" => Fine;
    Internal Connected "every capability of Calico":
        "open 04 fc00 005a 0a000001 params(cap:01:00010001,cap:02:,cap:40:007800010180,cap:41:0000fc00,cap:45:00010103,cap:46:,cap:47:00010180000e10)" => Fine;
    Internal Connected "each capability in a parameter of its own":
        "open 04 fc00 005a 0a000001 14 020601040001 0001 02020200 0206 41040000fc00" => Fine;
    Internal Connected "an unknown capability":
        "open 04 fc00 005a 0a000001 params(cap:ff:,cap:80:0102,cap:4a:)" => Fine;
    Internal Connected "a capability of 251 octets": "open 04 fc00 005a 0a000001 params(cap:c8:00*249)" => Fine;
    Internal Connected "the same capability twice":
        "open 04 fc00 005a 0a000001 params(cap:01:00010001,cap:01:00010001,cap:02:,cap:02:)" => Fine;
    Internal Connected "families of which we know one":
        "open 04 fc00 005a 0a000001 params(cap:01:00190046,cap:01:00010001,cap:01:00010080)" => Fine;
    Internal Connected "only a family that we do not know":
        "open 04 fc00 005a 0a000001 params(cap:01:00190046)" => Reset(2, 7, Some("010400010001 010400020001"));
    Internal Connected "FQDN with a domain": "open 04 fc00 005a 0a000001 params(cap:49:046e6f64650468782e6f)" => Fine;
    Internal Connected "extended messages, extended next hops":
        "open 04 fc00 005a 0a000001 params(cap:06:,cap:05:000100010002)" => Fine;
    Internal Connected "ADD-PATH for a direction that does not exist":
        "open 04 fc00 005a 0a000001 params(cap:45:00010104)" => Fine;
    Internal Connected "hold time 0": "open 04 fc00 0000 0a000001 00" => Fine;
    Internal Connected "hold time 3": "open 04 fc00 0003 0a000001 00" => Fine;
    Internal Connected "hold time 65535": "open 04 fc00 ffff 0a000001 00" => Fine;
    Internal Connected "hold time 1": "open 04 fc00 0001 0a000001 00" => Reset(2, 6, None);
    Internal Connected "hold time 2": "open 04 fc00 0002 0a000001 00" => Reset(2, 6, None);
    Internal Connected "version 00": "open 00 fc00 005a 0a000001 00" => Reset(2, 1, Some("0004"));
    Internal Connected "version 03": "open 03 fc00 005a 0a000001 00" => Reset(2, 1, Some("0004"));
    Internal Connected "version 05": "open 05 fc00 005a 0a000001 00" => Reset(2, 1, Some("0004"));
    Internal Connected "version ff": "open ff fc00 005a 0a000001 00" => Reset(2, 1, Some("0004"));
    Internal Connected "AS 0": "open 04 0000 005a 0a000001 00" => Reset(2, 2, None);
    Internal Connected "another AS": "open 04 fde9 005a 0a000001 00" => Reset(2, 2, None);
    External Connected "our AS, where another is expected": "open 04 fc00 005a 0a000001 00" => Reset(2, 2, None);
    Internal Connected "another AS in the capability":
        "open 04 fc00 005a 0a000001 params(cap:41:0000fde9)" => Reset(2, 2, None);
    Internal Connected "AS 0 in the capability":
        "open 04 fc00 005a 0a000001 params(cap:41:00000000)" => Reset(2, 2, None);
    Internal Connected "AS_TRANS without the capability": "open 04 5ba0 005a 0a000001 00" => Reset(2, 2, None);
    Internal Connected "AS_TRANS in the capability":
        "open 04 5ba0 005a 0a000001 params(cap:41:00005ba0)" => Reset(2, 2, None);
    Internal Connected "the capability counts, not the field":
        "open 04 5ba0 005a 0a000001 params(cap:41:0000fc00)" => Fine;
    Internal Connected "identifier 0": "open 04 fc00 005a 00000000 00" => Reset(2, 3, None);
    Internal Connected "our identifier": "open 04 fc00 005a c000020a 00" => Reset(2, 3, None);
    External Connected "our identifier in another AS (RFC 6286)": "open 04 fde9 005a c000020a 00" => Fine;
    External Connected "identifier 0 in another AS": "open 04 fde9 005a 00000000 00" => Reset(2, 3, None);
    Internal Connected "an identifier that is no host address (RFC 6286)": "open 04 fc00 005a e0000001 00" => Fine;
    Internal Connected "identifier 255.255.255.255 (RFC 6286)": "open 04 fc00 005a ffffffff 00" => Fine;
    Internal Connected "parameter 1, authentication": "open 04 fc00 005a 0a000001 03 010100" => Reset(2, 4, None);
    Internal Connected "parameter 3": "open 04 fc00 005a 0a000001 02 0300" => Reset(2, 4, None);
    Internal Connected "parameter 254 after capabilities":
        "open 04 fc00 005a 0a000001 06 02020200 fe00" => Reset(2, 4, None);
    Internal Connected "parameters longer than the message":
        "open 04 fc00 005a 0a000001 05 02020200" => Reset(2, 0, None);
    Internal Connected "parameters shorter than the message":
        "open 04 fc00 005a 0a000001 03 02020200" => Reset(2, 0, None);
    Internal Connected "octets after no parameters": "open 04 fc00 005a 0a000001 00 00" => Reset(2, 0, None);
    Internal Connected "half a parameter header": "open 04 fc00 005a 0a000001 01 02" => Reset(2, 0, None);
    Internal Connected "a parameter longer than the others":
        "open 04 fc00 005a 0a000001 04 02030200" => Reset(2, 0, None);
    Internal Connected "half a capability header": "open 04 fc00 005a 0a000001 03 020102" => Reset(2, 0, None);
    Internal Connected "a capability longer than its parameter":
        "open 04 fc00 005a 0a000001 04 02020201" => Reset(2, 0, None);
    Internal Connected "a capability that runs into the next parameter":
        "open 04 fc00 005a 0a000001 08 02024104 02020200" => Reset(2, 0, None);
    Internal Connected "multiprotocol of 3 octets":
        "open 04 fc00 005a 0a000001 params(cap:01:000100)" => Reset(2, 0, None);
    Internal Connected "multiprotocol of 5 octets":
        "open 04 fc00 005a 0a000001 params(cap:01:0001000100)" => Reset(2, 0, None);
    Internal Connected "route refresh with a value":
        "open 04 fc00 005a 0a000001 params(cap:02:00)" => Reset(2, 0, None);
    Internal Connected "extended next hop of 5 octets":
        "open 04 fc00 005a 0a000001 params(cap:05:0001000100)" => Reset(2, 0, None);
    Internal Connected "extended message with a value":
        "open 04 fc00 005a 0a000001 params(cap:06:01)" => Reset(2, 0, None);
    Internal Connected "role of 2 octets": "open 04 fc00 005a 0a000001 params(cap:09:0404)" => Reset(2, 0, None);
    Internal Connected "graceful restart of 1 octet":
        "open 04 fc00 005a 0a000001 params(cap:40:00)" => Reset(2, 0, None);
    Internal Connected "graceful restart with half a family":
        "open 04 fc00 005a 0a000001 params(cap:40:00780001)" => Reset(2, 0, None);
    Internal Connected "4-octet AS of 2 octets":
        "open 04 fc00 005a 0a000001 params(cap:41:fc00)" => Reset(2, 0, None);
    Internal Connected "4-octet AS of 5 octets":
        "open 04 fc00 005a 0a000001 params(cap:41:0000fc0000)" => Reset(2, 0, None);
    Internal Connected "ADD-PATH of 3 octets":
        "open 04 fc00 005a 0a000001 params(cap:45:000101)" => Reset(2, 0, None);
    Internal Connected "enhanced refresh with a value":
        "open 04 fc00 005a 0a000001 params(cap:46:00)" => Reset(2, 0, None);
    Internal Connected "long-lived graceful restart of 6 octets":
        "open 04 fc00 005a 0a000001 params(cap:47:00010180000e)" => Reset(2, 0, None);
    Internal Connected "FQDN longer than it is": "open 04 fc00 005a 0a000001 params(cap:49:05)" => Reset(2, 0, None);
    Internal Connected "RFC 9072": "open 04 fc00 005a 0a000001 ff ff 0007 02 0004 0200 0600" => Fine;
    Internal Connected "RFC 9072, more than 255 octets":
        "open 04 fc00 005a 0a000001 ff ff 0108 02 0105 c8ff 00*255 0200 0200" => Fine;
    Internal Connected "RFC 9072 whatever the short length says":
        "open 04 fc00 005a 0a000001 01 ff 0005 02 0002 0200" => Fine;
    Internal Connected "RFC 9072, too long":
        "open 04 fc00 005a 0a000001 ff ff 0006 02 0002 0200" => Reset(2, 0, None);
    Internal Connected "RFC 9072, too short":
        "open 04 fc00 005a 0a000001 ff ff 0004 02 0002 0200" => Reset(2, 0, None);
    Internal Connected "RFC 9072, a parameter cut off":
        "open 04 fc00 005a 0a000001 ff ff 0002 0200" => Reset(2, 0, None);
    Internal Connected "RFC 9072, an unknown parameter":
        "open 04 fc00 005a 0a000001 ff ff 0003 09 0000" => Reset(2, 4, None);
    Internal Connected "RFC 9072, parameter 255":
        "open 04 fc00 005a 0a000001 ff ff 0003 ff 0000" => Reset(2, 4, None);
    Internal Connected "capability 0": "open 04 fc00 005a 0a000001 params(cap:00:)" => Fine;
    Internal Connected "a family with the reserved octet set":
        "open 04 fc00 005a 0a000001 params(cap:01:0001ff01)" => Fine;
    Internal Connected "IPv4 multicast alone":
        "open 04 fc00 005a 0a000001 params(cap:01:00010002)" => Reset(2, 7, None);
    Internal Connected "IPv6 alone": "open 04 fc00 005a 0a000001 params(cap:01:00020001,cap:41:0000fc00)" => Fine;
    Internal Connected "the 4-octet AS twice":
        "open 04 fc00 005a 0a000001 params(cap:41:0000fc00,cap:41:0000fc00)" => Fine;
    Internal Connected "AS 0 in the field, another in the capability":
        "open 04 0000 005a 0a000001 params(cap:41:0000fc00)" => Reset(2, 2, None);
    Internal Connected "255 octets of parameters in the short form":
        "open 04 fc00 005a 0a000001 ff 02fd c8fb 00*251" => Fine;
    Internal Connected "RFC 9072, a short length of 0":
        "open 04 fc00 005a 0a000001 00 ff 0005 02 0002 0200" => Reset(2, 0, None);
    Internal Connected "RFC 9072, nothing in it": "open 04 fc00 005a 0a000001 ff ff 0000" => Fine;
    Internal Connected "RFC 9072, two parameters":
        "open 04 fc00 005a 0a000001 ff ff 000a 02 0002 0200 02 0002 0600" => Fine;
    Internal Connected "RFC 9072, a parameter longer than the others":
        "open 04 fc00 005a 0a000001 ff ff 0005 02 0003 0200" => Reset(2, 0, None);
    Internal Connected "RFC 9072, a capability longer than its parameter":
        "open 04 fc00 005a 0a000001 ff ff 0005 02 0002 0201" => Reset(2, 0, None);
    Internal Connected "RFC 9072, its length cut off": "open 04 fc00 005a 0a000001 ff ff 00" => Reset(2, 0, None);
    Internal Connected "RFC 9072, an OPEN of 4096":
        "open 04 fc00 005a 0a000001 ff ff 0fe0 02 0fdd c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8ff 00*255 c8cc 00*204" => Fine;
    Internal Connected "ADD-PATH for no direction": "open 04 fc00 005a 0a000001 params(cap:45:00010100)" => Fine;
    Internal Connected "ADD-PATH for nothing": "open 04 fc00 005a 0a000001 params(cap:45:)" => Fine;
    Internal Connected "ADD-PATH for a family that we do not know":
        "open 04 fc00 005a 0a000001 params(cap:45:00194603)" => Fine;
    Internal Connected "graceful restart, every bit":
        "open 04 fc00 005a 0a000001 params(cap:40:ffff000101ff001946ff)" => Fine;
    Internal Connected "graceful restart without a family": "open 04 fc00 005a 0a000001 params(cap:40:0078)" => Fine;
    Internal Connected "graceful restart twice":
        "open 04 fc00 005a 0a000001 params(cap:40:007800010180,cap:40:0000)" => Fine;
    Internal Connected "long-lived graceful restart alone":
        "open 04 fc00 005a 0a000001 params(cap:47:00010180ffffff)" => Fine;
    Internal Connected "extended next hops of a family that does not exist":
        "open 04 fc00 005a 0a000001 params(cap:05:000100010003ffffffffffff)" => Fine;
    Internal Connected "a role, and we have none": "open 04 fc00 005a 0a000001 params(cap:09:03)" => Fine;
    External Connected "a role of another AS, and we have none":
        "open 04 fde9 005a 0a000001 params(cap:09:ff)" => Fine;
    Internal Connected "FQDN without names": "open 04 fc00 005a 0a000001 params(cap:49:0000)" => Fine;
    Internal Connected "FQDN that is no text": "open 04 fc00 005a 0a000001 params(cap:49:02fffe00)" => Fine;
    Internal Connected "the old route refresh (128)":
        "open 04 fc00 005a 0a000001 params(cap:80:,cap:83:0001000101800100)" => Fine;
    Internal Connected "an empty parameter between others":
        "open 04 fc00 005a 0a000001 0a 0202020002000202 0600" => Fine;
    Internal Connected "parameter 0": "open 04 fc00 005a 0a000001 02 0000" => Reset(2, 4, None);
    Internal Connected "parameter 255 in the second place":
        "open 04 fc00 005a 0a000001 06 02020200 ff00" => Reset(2, 4, None);
    Internal Connected "hold time 1 and no common family":
        "open 04 fc00 0001 0a000001 params(cap:01:00190046)" => Reset(2, 6, None);
    External Connected "our AS in the capability, where another is expected":
        "open 04 fde9 005a 0a000001 params(cap:41:0000fc00)" => Reset(2, 2, None);
};
