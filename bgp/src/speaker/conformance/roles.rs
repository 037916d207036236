//! Roles and ONLY_TO_CUSTOMER (RFC 9234).

use super::Want::{Announced, Fine, Reset, Withdrawn};
use super::{Case, cases};

pub(super) const CASES: &[Case] = cases! {
    Lateral Connected "the role that fits": "open 04 fde9 005a 0a000001 params(cap:09:04)" => Fine;
    Lateral Connected "the same role twice": "open 04 fde9 005a 0a000001 params(cap:09:04,cap:09:04)" => Fine;
    Lateral Connected "no role, and one is asked for": "open 04 fde9 005a 0a000001 00" => Reset(2, 11, None);
    Lateral Connected "a role that does not fit":
        "open 04 fde9 005a 0a000001 params(cap:09:00)" => Reset(2, 11, None);
    Lateral Connected "another role that does not fit":
        "open 04 fde9 005a 0a000001 params(cap:09:03)" => Reset(2, 11, None);
    Lateral Connected "two roles": "open 04 fde9 005a 0a000001 params(cap:09:04,cap:09:03)" => Reset(2, 11, None);
    Lateral Connected "a role that does not exist":
        "open 04 fde9 005a 0a000001 params(cap:09:05)" => Reset(2, 11, None);
    Lateral Connected "a role of 0 octets": "open 04 fde9 005a 0a000001 params(cap:09:)" => Reset(2, 0, None);
    Lateral Established "unmarked": "update | BASE | P" => Announced;
    Lateral Established "marked by the peer": "update | BASE c0:23:0000fde9 | P" => Announced;
    Lateral Established "a leak: marked by another AS": "update | BASE c0:23:0000fdea | P" => Withdrawn;
    Lateral Established "a leak in IPv6": "update | REACH ORIGIN PATH c0:23:0000fdea |" => Withdrawn;
    Customer Connected "a provider": "open 04 fde9 005a 0a000001 params(cap:09:00)" => Fine;
    Customer Connected "a customer, where a provider is":
        "open 04 fde9 005a 0a000001 params(cap:09:03)" => Reset(2, 11, None);
    Customer Connected "a role above 4": "open 04 fde9 005a 0a000001 params(cap:09:80)" => Reset(2, 11, None);
    Customer Established "unmarked, of a provider": "update | BASE | P" => Announced;
    Customer Established "marked, of a provider": "update | BASE c0:23:0000fdea | P" => Announced;
    Provider Connected "a customer": "open 04 fde9 005a 0a000001 params(cap:09:03)" => Fine;
    Provider Connected "a peer, where a customer is":
        "open 04 fde9 005a 0a000001 params(cap:09:04)" => Reset(2, 11, None);
    Provider Established "unmarked, of a customer": "update | BASE | P" => Announced;
    Provider Established "a leak: marked, of a customer": "update | BASE c0:23:0000fde9 | P" => Withdrawn;
    Provider Established "a mark of 3 octets, of a customer": "update | BASE c0:23:00fde9 | P" => Withdrawn;
    Provider Established "a leak in IPv6, of a customer": "update | REACH ORIGIN PATH c0:23:0000fde9 |" => Withdrawn;
};
