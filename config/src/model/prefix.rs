use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::Invalid;

/// An IP prefix in canonical form: no host bit set, an IPv4-mapped IPv6 address never inside.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of `length` bits that holds `address`; host bits are cleared. `None` when `length` is too long.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(|net| Self(net.trunc()))
    }

    /// The host prefix (/32 or /128) of `address`.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// Network address.
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// Number of leading bits that count: 0 to 32, or 0 to 128.
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether this is an IPv4 prefix.
    pub fn is_ipv4(&self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Whether it is a /32 or /128.
    pub fn is_host(&self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether `other` lies inside (or is the same).
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// The same as an [`IpNet`].
    pub fn net(&self) -> IpNet {
        self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = Invalid;

    /// Reads `address/length`; a bare address is a host prefix; host bits must be clear.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::host(address));
        }
        let net: IpNet = text.parse().map_err(|_| {
            Invalid::new(
                format!("`{text}` is not an IP prefix"),
                "write address/length, for example 203.0.113.0/28 or 2001:db8:1::/112",
            )
        })?;
        if net != net.trunc() {
            return Err(Invalid::new(
                format!("`{text}` has host bits set (the network is {})", net.trunc()),
                "write the network address",
            ));
        }
        Ok(Self(net))
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (input, want) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("192.0.2.1", Some("192.0.2.1/32")),
            ("2001:db8::/64", Some("2001:db8::/64")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("10.0.0.1/8", None),
            ("10.0.0.0/33", None),
            ("", None),
            ("pods", None),
        ] {
            assert_eq!(
                input.parse::<Prefix>().ok().map(|p| p.to_string()).as_deref(),
                want,
                "{input:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn prints_what_it_reads(address: [u8; 16], v4: bool, length in 0u8..=128) {
            let address = if v4 { IpAddr::from([address[0], address[1], address[2], address[3]]) } else { IpAddr::from(address) };
            if let Some(prefix) = Prefix::new(address, length) {
                proptest::prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
                proptest::prop_assert!(prefix.contains(address));
            }
        }

        #[test]
        fn any_text_is_safe(text: String) { let _ = text.parse::<Prefix>(); }
    }
}
