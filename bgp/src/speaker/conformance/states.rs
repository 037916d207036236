//! Messages where they have no place (RFC 6608), NOTIFICATION, silence.

use super::Want::{Closed, Fine, Reset};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Internal Connected "KEEPALIVE before the OPEN": "type 04" => Reset(5, 1, None);
    Internal Connected "UPDATE before the OPEN": "update | BASE | P" => Reset(5, 1, None);
    Internal Connected "End-of-RIB before the OPEN": "update | |" => Reset(5, 1, None);
    Internal Connected "ROUTE-REFRESH before the OPEN": "type 05 00010001" => Reset(5, 1, None);
    Internal Connected "an UPDATE that cannot be read before the OPEN": "type 02 00ff 0000" => Reset(5, 1, None);
    Internal Opened "two OPENs": "open 04 fc00 005a 0a000001 00" => Reset(5, 2, None);
    Internal Opened "an OPEN that cannot be read after the OPEN":
        "open 03 fc00 005a 0a000001 00" => Reset(5, 2, None);
    Internal Opened "UPDATE instead of KEEPALIVE": "update | BASE | P" => Reset(5, 2, None);
    Internal Opened "an UPDATE that cannot be read instead of KEEPALIVE": "type 02 00ff 0000" => Reset(5, 2, None);
    Internal Opened "ROUTE-REFRESH instead of KEEPALIVE": "type 05 00010001" => Reset(5, 2, None);
    Internal Opened "KEEPALIVE and UPDATE at once": "type 04 ; update | BASE | P" => Fine;
    Internal Connected "OPEN, KEEPALIVE and UPDATE at once":
        "open 04 fc00 005a 0a000001 00 ; type 04 ; update | BASE | P" => Fine;
    Internal Established "OPEN on the session": "open 04 fc00 005a 0a000001 00" => Reset(5, 3, None);
    Internal Established "an OPEN that cannot be read on the session":
        "open 03 fc00 005a 0a000001 00" => Reset(5, 3, None);
    Internal Connected "NOTIFICATION instead of the OPEN": "type 03 0201 0004" => Closed;
    Internal Opened "NOTIFICATION instead of KEEPALIVE": "type 03 0607" => Closed;
    Internal Established "Cease": "type 03 0600" => Closed;
    Internal Established "administrative shutdown with text": "type 03 0602 05 68656c6c6f" => Closed;
    Internal Established "a text longer than it is": "type 03 0602 ff 68656c6c6f" => Closed;
    Internal Established "a text that is no text": "type 03 0602 04 fffefdfc" => Closed;
    Internal Established "administrative reset": "type 03 0604" => Closed;
    Internal Established "hard reset": "type 03 0609 0602 00" => Closed;
    Internal Established "an empty hard reset": "type 03 0609" => Closed;
    Internal Established "hold timer expired": "type 03 0400" => Closed;
    Internal Established "UPDATE error with data": "type 03 0305 800e00" => Closed;
    Internal Established "an unknown code": "type 03 6363 00" => Closed;
    Internal Established "an unknown subcode": "type 03 06ff" => Closed;
    Internal Established "code 0": "type 03 0000" => Closed;
    Internal Established "NOTIFICATION of 4096": "type 03 0602 80 41*4074" => Closed;
    Internal Established "what follows a NOTIFICATION is not read": "type 03 0604 ; type 09" => Closed;
    Internal Connected "silence": "open 04 fc00 0003 0a000001 00 ; type 04" => Reset(4, 0, None);
    Internal Connected "silence in OpenConfirm": "open 04 fc00 0003 0a000001 00" => Reset(4, 0, None);
    Internal Connected "two OPENs at once":
        "open 04 fc00 005a 0a000001 00 ; open 04 fc00 005a 0a000001 00" => Reset(5, 2, None);
    Internal Opened "an OPEN after KEEPALIVE": "type 04 ; open 04 fc00 005a 0a000001 00" => Reset(5, 3, None);
    Internal Connected "ROUTE-REFRESH that cannot be read before the OPEN": "type 05 0001010100" => Reset(5, 1, None);
    Internal Opened "End-of-RIB instead of KEEPALIVE": "update | |" => Reset(5, 2, None);
    Internal Opened "a NOTIFICATION of 20 in OpenConfirm": "type 03 06" => Reset(1, 2, Some("0014"));
    Internal Connected "a NOTIFICATION of 20 before the OPEN": "type 03 06" => Reset(1, 2, Some("0014"));
    Internal Opened "hold timer expired, in OpenConfirm": "type 03 0400" => Closed;
    Internal Connected "Cease before the OPEN": "type 03 0605" => Closed;
    Internal Established "FSM error": "type 03 0503" => Closed;
    Internal Established "route refresh error (RFC 7313)": "type 03 0701 00" => Closed;
    Internal Established "send hold timer expired (RFC 9687)": "type 03 0800" => Closed;
    Internal Established "BFD down (RFC 9384)": "type 03 060a" => Closed;
    Internal Established "a hard reset with half a reason": "type 03 0609 06" => Closed;
    Internal Established "maximum prefixes with data": "type 03 0601 00010100000064" => Closed;
    Internal Established "a text of 255 octets": "type 03 0602 ff 61*255" => Closed;
    Internal Established "octets after a text": "type 03 0602 0161 6262" => Closed;
    Internal Established "every code": "type 03 ffff" => Closed;
    Internal Connected "silence in the middle of a header":
        "open 04 fc00 0003 0a000001 00 ; type 04 ; raw ffff" => Reset(4, 0, None);
    Internal Connected "silence in the middle of an UPDATE":
        "open 04 fc00 0003 0a000001 00 ; type 04 ; raw MARKER 0100 02 0000" => Reset(4, 0, None);
};
