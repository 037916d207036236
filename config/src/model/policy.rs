use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::{AsPathPattern, Asn, Community, CommunityPattern, Invalid, Prefix};

/// One rule of import or export: whom it is about, what it changes, what happens then. Every condition has to hold; one that
/// names nothing holds for all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyRule {
    /// Its name.
    pub name: Arc<str>,
    /// The path's family: IPv4, or IPv6.
    pub ipv4: Option<bool>,
    /// The path's prefix is one of these.
    pub prefixes: Vec<PrefixRange>,
    /// The path has a community that fits one of these.
    pub communities: Vec<CommunityPattern>,
    /// For each of these the path has a community that fits.
    pub all_communities: Vec<CommunityPattern>,
    /// What its AS_PATH has to be.
    pub as_path: AsPathCondition,
    /// Its next hop is inside one of these.
    pub next_hops: Vec<Prefix>,
    /// What is changed.
    pub change: PathChange,
    /// What happens then.
    pub then: RuleAction,
    /// Why it rejects, in words of whoever wrote it.
    pub reason: Option<Arc<str>>,
}

/// What an AS_PATH has to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AsPathCondition {
    /// This AS stands anywhere in it.
    pub has: Option<Asn>,
    /// It begins with this AS, the nearest.
    pub neighbour: Option<Asn>,
    /// It ends with this AS, where the path came from.
    pub origin: Option<Asn>,
    /// Its length as the decision counts it is between these.
    pub length: Option<(u32, u32)>,
    /// It fits this.
    pub pattern: Option<AsPathPattern>,
}

/// What a rule does with a path that it is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RuleAction {
    /// Taken as it is now.
    #[default]
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
    /// Added to MULTI_EXIT_DISC, after [`Self::med`].
    pub add_med: u32,
    /// How many times more the nearest AS stands in the AS_PATH: ours on the way out, the peer's on the way in.
    pub prepend: u8,
    /// Communities, in this order.
    pub communities: Vec<CommunityChange>,
    /// Its next hop.
    pub next_hop: Option<RuleNextHop>,
}

/// A change of communities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CommunityChange {
    /// None is left, of no kind.
    Clear,
    /// Those that fit are taken out.
    Remove(CommunityPattern),
    /// One more, unless it is there.
    Add(Community),
}

/// The next hop that a rule gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleNextHop {
    /// Ours.
    Own,
    /// As it came.
    Unchanged,
    /// This one, for paths of its family.
    Address(IpAddr),
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
        self.ipv4.is_none_or(|ipv4| ipv4 == prefix.is_ipv4())
            && (self.prefixes.is_empty() || self.prefixes.iter().any(|range| range.contains(prefix)))
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
}
