//! Headers (RFC 4271 section 6.1), extended messages (RFC 8654), ROUTE-REFRESH (RFC 2918, RFC 7313).

use super::Want::{Announced, Closed, Fine, Gone, Kept, Reset};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Internal Established "marker, first octet": "raw 00 ff*15 0013 04" => Reset(1, 1, Some(""));
    Internal Established "marker, last octet": "raw ff*15 fe 0013 04" => Reset(1, 1, Some(""));
    Internal Established "marker of zeros": "raw 00*16 0013 04" => Reset(1, 1, Some(""));
    Internal Connected "marker before the OPEN":
        "raw 7f ff*15 001d 01 04 fc00 005a 0a000001 00" => Reset(1, 1, Some(""));
    Internal Connected "a request of another protocol":
        "raw 474554202f20485454502f312e310d0a 0d0a0d0a" => Reset(1, 1, Some(""));
    Internal Established "length 0": "raw MARKER 0000 04" => Reset(1, 2, Some("0000"));
    Internal Established "length 1": "raw MARKER 0001 04" => Reset(1, 2, Some("0001"));
    Internal Established "length 18": "raw MARKER 0012 04" => Reset(1, 2, Some("0012"));
    Internal Established "length 18 of an unknown type": "raw MARKER 0012 09" => Reset(1, 2, Some("0012"));
    Internal Established "length 4097": "raw MARKER 1001 02 0000 0000" => Reset(1, 2, Some("1001"));
    External Established "length 4097 of a peer of another AS":
        "raw MARKER 1001 02 0000 0000" => Reset(1, 2, Some("1001"));
    Internal Established "length 65535": "raw MARKER ffff 02 0000 0000" => Reset(1, 2, Some("ffff"));
    Internal Connected "OPEN of 28": "raw MARKER 001c 01 04 fc00 005a 0a000001" => Reset(1, 2, Some("001c"));
    Internal Connected "OPEN of 19": "raw MARKER 0013 01" => Reset(1, 2, Some("0013"));
    Internal Connected "OPEN of 4097": "raw MARKER 1001 01 04 fc00 005a 0a000001 00" => Reset(1, 2, Some("1001"));
    Internal Established "UPDATE of 19": "raw MARKER 0013 02" => Reset(1, 2, Some("0013"));
    Internal Established "UPDATE of 22": "raw MARKER 0016 02 000000" => Reset(1, 2, Some("0016"));
    Internal Established "NOTIFICATION of 20": "raw MARKER 0014 03 06" => Reset(1, 2, Some("0014"));
    Internal Established "NOTIFICATION of 19": "raw MARKER 0013 03" => Reset(1, 2, Some("0013"));
    Internal Established "KEEPALIVE of 20": "type 04 00" => Reset(1, 2, Some("0014"));
    Internal Established "KEEPALIVE of 4096": "type 04 00*4077" => Reset(1, 2, Some("1000"));
    Internal Established "KEEPALIVE of 18": "raw MARKER 0012 04" => Reset(1, 2, Some("0012"));
    Internal Opened "KEEPALIVE of 20 in OpenConfirm": "type 04 00" => Reset(1, 2, Some("0014"));
    Internal Established "ROUTE-REFRESH of 19": "type 05" => Reset(1, 2, Some("0013"));
    Internal Established "ROUTE-REFRESH of 21": "type 05 0001" => Reset(1, 2, Some("0015"));
    Internal Established "ROUTE-REFRESH of 22": "type 05 000100" => Reset(1, 2, Some("0016"));
    Internal Established "type 0": "type 00 00000000" => Reset(1, 3, Some("00"));
    Internal Established "type 6": "type 06 00000000" => Reset(1, 3, Some("06"));
    Internal Established "type 7": "type 07 00000000" => Reset(1, 3, Some("07"));
    Internal Established "type 128": "type 80 00000000" => Reset(1, 3, Some("80"));
    Internal Established "type 255": "type ff 00000000" => Reset(1, 3, Some("ff"));
    Internal Connected "type 0 before the OPEN": "type 00" => Reset(1, 3, Some("00"));
    Internal Opened "type 6 in OpenConfirm": "type 06" => Reset(1, 3, Some("06"));
    Internal Established "KEEPALIVE": "type 04" => Fine;
    Internal Established "a hundred KEEPALIVEs": "raw ffffffffffffffffffffffffffffffff001304*100" => Fine;
    Internal Established "UPDATE of 4096, full of one attribute": "update | BASE d0:63:00*4045 | P" => Announced;
    Extended Established "an extended message of 4097": "update | BASE d0:63:00*4046 | P" => Announced;
    Extended Established "an extended message of 65535": "update | BASE d0:63:00*65484 | P" => Announced;
    External Established "an UPDATE of 4097 of a peer that offered no extended messages":
        "update | BASE d0:63:00*4046 | P" => Reset(1, 2, Some("1001"));
    Extended Established "extended messages have an end": "raw MARKER 0012 02" => Reset(1, 2, Some("0012"));
    Extended Established "KEEPALIVE does not grow": "type 04 00*4200" => Reset(1, 2, None);
    Extended Established "OPEN does not grow": "type 01 00*4200" => Reset(1, 2, None);
    Internal Established "ROUTE-REFRESH": "type 05 00010001" => Fine;
    Internal Established "ROUTE-REFRESH for IPv6": "type 05 00020001" => Fine;
    Internal Established "ROUTE-REFRESH for a family not agreed on": "type 05 00190046" => Fine;
    Plain Established "ROUTE-REFRESH for IPv6 of a peer of IPv4": "type 05 00020001" => Fine;
    Internal Established "ROUTE-REFRESH, unknown subtype": "type 05 00010301" => Fine;
    Internal Established "ROUTE-REFRESH with filters (RFC 5291)": "type 05 00010001 014000" => Fine;
    Plain Established "the reserved octet means nothing without RFC 7313": "type 05 00010101" => Fine;
    Plain Established "nor does its length": "type 05 00010101 00" => Fine;
    Internal Established "refresh begins and ends":
        "type 05 00010101 ; update | BASE | P ; type 05 00010201" => Announced;
    Internal Established "what is not repeated is gone": "type 05 00010101 ; type 05 00010201" => Gone;
    Internal Established "an end without a beginning": "type 05 00010201" => Kept;
    Internal Established "begin of 24": "type 05 0001010100" => Reset(7, 1, Some("MARKER 0018 05 0001010100"));
    Internal Established "end of 24": "type 05 0001020100" => Reset(7, 1, Some("MARKER 0018 05 0001020100"));
    Internal Established "begin of 22": "type 05 000101" => Reset(7, 1, Some("MARKER 0016 05 000101"));
    Internal Established "end of 22": "type 05 000102" => Reset(7, 1, Some("MARKER 0016 05 000102"));
    Internal Established "marker and length wrong": "raw 00*16 0000 04" => Reset(1, 1, Some(""));
    Internal Established "marker of a NOTIFICATION": "raw 00*16 0015 03 0600" => Reset(1, 1, Some(""));
    Internal Established "octets after a whole message": "type 04 ; raw 00*19" => Reset(1, 1, Some(""));
    Internal Opened "length 18 in OpenConfirm": "raw MARKER 0012 04" => Reset(1, 2, Some("0012"));
    Internal Connected "length 4097 before the OPEN": "raw MARKER 1001 01 04" => Reset(1, 2, Some("1001"));
    Extended Established "OPEN does not grow, nor is it read": "raw MARKER 1001 01 04" => Reset(1, 2, Some("1001"));
    Extended Established "NOTIFICATION of 5000": "type 03 0602 00*4979" => Closed;
    Extended Established "an extended UPDATE full of prefixes":
        "update | BASE | 20646464 01*1 00 18646464*4000 P" => Announced;
    Extended Established "an extended UPDATE whose last prefix is cut off":
        "update | BASE | 18646464*2000 18c6" => Reset(3, 10, Some(""));
    Internal Established "ROUTE-REFRESH, begin for a family not agreed on":
        "type 05 00190146 ; type 05 00190246" => Kept;
    Internal Established "ROUTE-REFRESH of IPv6 leaves IPv4 alone": "type 05 00020101 ; type 05 00020201" => Fine;
    Internal Established "ROUTE-REFRESH, begun twice":
        "type 05 00010101 ; type 05 00010101 ; update | BASE | P ; type 05 00010201" => Announced;
    Internal Established "ROUTE-REFRESH, subtype 255": "type 05 0001ff01" => Kept;
    Internal Established "ROUTE-REFRESH, unknown subtype of another length": "type 05 0001ff01 00" => Kept;
    Internal Established "begin of 23 for AFI 0": "type 05 00000101" => Kept;
    Bare Established "ROUTE-REFRESH of a peer that did not offer it": "type 05 00010001" => Fine;
    Bare Established "begin of a peer that did not offer it": "type 05 00010101" => Kept;
    Internal Established "type 1 in capital length":
        "raw MARKER 001d 01 04 fc00 005a 0a000001 00" => Reset(5, 3, None);
};
