//! Networks that are let in or turned away: the longest that holds the address decides.

use std::collections::HashMap;
use std::net::IpAddr;

use sekisho_config::model::Prefix;

/// By family and length, the longest first: what a look-up costs depends on how many lengths there are.
#[derive(Debug)]
pub(super) struct Networks {
    lengths: Box<[(bool, u8)]>,
    /// By length and network: whether it is let in.
    verdicts: HashMap<(bool, u8, u128), bool>,
    /// What holds where no network does.
    otherwise: bool,
}

fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (true, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (false, u128::from(v6)),
    }
}

fn masked(bits: u128, length: u8) -> u128 {
    match length {
        0 => 0,
        length => bits & (u128::MAX << (128 - u32::from(length.min(128)))),
    }
}

impl Networks {
    /// `None` when everybody is let in.
    pub(super) fn compile(allow: &[Prefix], deny: &[Prefix]) -> Option<Self> {
        if allow.is_empty() && deny.is_empty() {
            return None;
        }
        let mut verdicts = HashMap::new();
        // What stands in both is turned away.
        for (list, verdict) in [(allow, true), (deny, false)] {
            for prefix in list {
                let (v4, bits) = bits(prefix.address());
                verdicts.insert((v4, prefix.length(), masked(bits, prefix.length())), verdict);
            }
        }
        let mut lengths: Vec<(bool, u8)> = verdicts.keys().map(|(v4, length, _)| (*v4, *length)).collect();
        lengths.sort_unstable_by_key(|(v4, length)| (*v4, std::cmp::Reverse(*length)));
        lengths.dedup();
        Some(Self {
            lengths: lengths.into(),
            verdicts,
            otherwise: allow.is_empty(),
        })
    }

    pub(super) fn let_in(&self, address: IpAddr) -> bool {
        let (family, bits) = bits(address.to_canonical());
        self.lengths
            .iter()
            .filter(|(v4, _)| *v4 == family)
            .find_map(|(v4, length)| self.verdicts.get(&(*v4, *length, masked(bits, *length))))
            .copied()
            .unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(allow: &[&str], deny: &[&str]) -> Networks {
        let list =
            |texts: &[&str]| -> Vec<Prefix> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        Networks::compile(&list(allow), &list(deny)).unwrap()
    }

    #[test]
    fn the_longest_decides() {
        for (allow, deny, address, want) in [
            (&["10.0.0.0/8"][..], &[][..], "10.1.2.3", true),
            (&["10.0.0.0/8"], &[], "11.1.2.3", false),
            (&["10.0.0.0/8"], &[], "2001:db8::1", false),
            (&["10.0.0.0/8"], &[], "::ffff:10.1.2.3", true),
            (&[], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "11.1.2.3", true),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.2.3", true),
            (&["10.1.0.0/16"], &["10.0.0.0/8"], "10.1.2.3", true),
            (&["10.0.0.0/8"], &["10.0.0.0/8"], "10.1.2.3", false),
            (&["0.0.0.0/0"], &[], "10.1.2.3", true),
            (&["0.0.0.0/0"], &[], "2001:db8::1", false),
            (&["2001:db8::/32"], &["2001:db8::1/128"], "2001:db8::1", false),
            (&["2001:db8::/32"], &["2001:db8::1/128"], "2001:db8::2", true),
        ] {
            let got = networks(allow, deny).let_in(address.parse().unwrap());
            assert_eq!(got, want, "{allow:?} {deny:?} {address}");
        }
        assert!(Networks::compile(&[], &[]).is_none());
    }

    proptest! {
        /// The table says what looking through the lists says.
        #[test]
        fn the_table_is_the_lists(
            prefixes in proptest::collection::vec((0u32..64, 26u8..=32, any::<bool>()), 1..12),
            last in 0u32..64,
        ) {
            let prefix = |bits: u32, length: u8| -> Prefix {
                let network = bits & (u32::MAX << (32 - u32::from(length)));
                format!("{}/{length}", std::net::Ipv4Addr::from(network)).parse().unwrap()
            };
            let pick = |verdict: bool| -> Vec<Prefix> {
                prefixes.iter().filter(|(_, _, allow)| *allow == verdict).map(|(bits, length, _)| prefix(*bits, *length)).collect()
            };
            let (allow, deny) = (pick(true), pick(false));
            let address = IpAddr::V4(last.into());
            let longest = |list: &[Prefix]| list.iter().filter(|p| p.contains(address)).map(Prefix::length).max();
            let naive = match (longest(&allow), longest(&deny)) {
                (Some(allow), Some(deny)) => allow > deny,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => allow.is_empty(),
            };
            prop_assert_eq!(Networks::compile(&allow, &deny).unwrap().let_in(address), naive);
        }
    }
}
