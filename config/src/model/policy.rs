use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::{Asn, Invalid, Prefix};

/// One rule of import or export: whom it is about, what it changes, what happens then. Every condition has to hold; one that
/// names nothing holds for all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyRule {
    /// Its name.
    pub name: Arc<str>,
    /// The path's prefix is one of these.
    pub prefixes: Vec<PrefixRange>,
    /// The path has one of these communities.
    pub communities: Vec<Community>,
    /// The AS stands anywhere in its AS_PATH.
    pub as_path_has: Option<Asn>,
    /// Its next hop is inside one of these.
    pub next_hops: Vec<Prefix>,
    /// What is changed.
    pub change: PathChange,
    /// What happens then.
    pub then: RuleAction,
}

/// What a rule does with a path that it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleAction {
    /// Taken as it is now.
    Accept,
    /// Not taken.
    Reject,
    /// The next rule is asked.
    Next,
}

/// What rules change of a path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathChange {
    /// LOCAL_PREF, inside our AS.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How many times more the nearest AS stands in the AS_PATH: ours on the way out, the peer's on the way in.
    pub prepend: u8,
    /// Communities added.
    pub add_communities: Vec<Community>,
}

/// A set of prefixes: inside `prefix`, of a length from `ge` to `le`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PrefixRange {
    /// Around them.
    pub prefix: Prefix,
    /// Shortest length.
    pub ge: u8,
    /// Longest length.
    pub le: u8,
}

impl PrefixRange {
    /// Whether `prefix` is in the set.
    pub fn contains(&self, prefix: &Prefix) -> bool {
        self.prefix.covers(prefix) && (self.ge..=self.le).contains(&prefix.length())
    }
}

impl FromStr for PrefixRange {
    type Err = Invalid;

    /// `10.0.0.0/8` is that one; `ge` and `le` after it widen: `10.0.0.0/8 ge 24 le 26`, `10.0.0.0/8 le 32`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const HELP: &str =
            "write a prefix, with ge and le after it for others inside: \"10.244.0.0/16 ge 24 le 26\"";
        let bad = || Invalid::new("not a set of prefixes", HELP);
        let mut words = text.split_whitespace();
        let prefix: Prefix = words.next().ok_or_else(bad)?.parse()?;
        let longest = if prefix.is_ipv4() { 32 } else { 128 };
        let (mut ge, mut le) = (None, None);
        while let Some(word) = words.next() {
            let length: u8 = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
            let place = match word {
                "ge" => &mut ge,
                "le" => &mut le,
                _ => return Err(bad()),
            };
            if place.replace(length).is_some() {
                return Err(bad());
            }
        }
        let shortest = ge.unwrap_or_else(|| prefix.length());
        let most = match (ge, le) {
            (_, Some(le)) => le,
            (Some(_), None) => longest,
            (None, None) => prefix.length(),
        };
        if shortest < prefix.length() || most < shortest || most > longest {
            return Err(Invalid::new(
                "the lengths after it leave nothing",
                "keep to: its own length <= ge <= le <= 32 (IPv4) or 128 (IPv6)",
            ));
        }
        Ok(Self {
            prefix,
            ge: shortest,
            le: most,
        })
    }
}

/// A community: `65000:100` (RFC 1997), `65000:1:2` (RFC 8092), or `graceful-shutdown`, `no-export`, `no-advertise`, `blackhole`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large(u32, u32, u32),
}

impl FromStr for Community {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let named = match text {
            "graceful-shutdown" => Some(0xffff_0000),
            "blackhole" => Some(0xffff_029a),
            "no-export" => Some(0xffff_ff01),
            "no-advertise" => Some(0xffff_ff02),
            _ => None,
        };
        if let Some(value) = named {
            return Ok(Self::Standard(value));
        }
        let parts: Option<Vec<u32>> = text.split(':').take(4).map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some([high, low]) if *high <= 0xffff && *low <= 0xffff => Ok(Self::Standard(high << 16 | low)),
            Some([a, b, c]) => Ok(Self::Large(*a, *b, *c)),
            _ => Err(Invalid::new(
                "not a community",
                "write \"65000:100\", a large one \"65000:1:2\", or graceful-shutdown, no-export, no-advertise, blackhole",
            )),
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Next => "next",
        })
    }
}

impl PolicyRule {
    /// Whether a path's prefix and next hop are what the rule is about.
    pub fn is_about(&self, prefix: &Prefix, next_hop: Option<IpAddr>) -> bool {
        let some = |of: &[Prefix], address: IpAddr| of.iter().any(|one| one.contains(address));
        (self.prefixes.is_empty() || self.prefixes.iter().any(|range| range.contains(prefix)))
            && (self.next_hops.is_empty() || next_hop.is_some_and(|address| some(&self.next_hops, address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_prefixes() {
        for (set, prefix, want) in [
            ("10.0.0.0/8", "10.0.0.0/8", Some(true)),
            ("10.0.0.0/8", "10.1.0.0/16", Some(false)),
            ("10.0.0.0/8 le 16", "10.1.0.0/16", Some(true)),
            ("10.0.0.0/8 le 16", "10.0.0.0/8", Some(true)),
            ("10.0.0.0/8 le 16", "10.1.1.0/24", Some(false)),
            ("10.0.0.0/8 ge 24", "10.1.1.1/32", Some(true)),
            ("10.0.0.0/8 ge 24", "10.1.0.0/16", Some(false)),
            ("10.0.0.0/8 ge 24 le 26", "10.1.1.0/26", Some(true)),
            ("10.0.0.0/8 le 26 ge 24", "10.1.1.0/27", Some(false)),
            ("10.0.0.0/8 ge 24 le 26", "11.1.1.0/26", Some(false)),
            ("::/0 le 128", "2001:db8::/32", Some(true)),
            ("::/0 le 128", "10.0.0.0/8", Some(false)),
            ("10.0.0.0/8 ge 7", "10.0.0.0/8", None),
            ("10.0.0.0/8 le 7", "10.0.0.0/8", None),
            ("10.0.0.0/8 le 33", "10.0.0.0/8", None),
            ("10.0.0.0/8 ge 26 le 24", "10.0.0.0/8", None),
            ("10.0.0.0/8 ge", "10.0.0.0/8", None),
            ("10.0.0.0/8 ge 9 ge 10", "10.0.0.0/8", None),
            ("10.0.0.0/8 +", "10.0.0.0/8", None),
            ("10.0.0.1/8", "10.0.0.0/8", None),
            ("", "10.0.0.0/8", None),
        ] {
            let got: Option<PrefixRange> = set.parse().ok();
            let got = got.map(|set| set.contains(&prefix.parse().unwrap()));
            assert_eq!(got, want, "{set:?} and {prefix}");
        }
    }

    #[test]
    fn communities() {
        for (text, want) in [
            ("65000:100", Some(Community::Standard(0xfde8_0064))),
            ("0:0", Some(Community::Standard(0))),
            ("no-export", Some(Community::Standard(0xffff_ff01))),
            ("4200000000:1:2", Some(Community::Large(4_200_000_000, 1, 2))),
            ("65536:1", None),
            ("1:65536", None),
            ("1", None),
            ("1:2:3:4", None),
            ("a:b", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), want, "{text:?}");
        }
    }
}
