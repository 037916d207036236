use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use imbl::OrdSet;
use imbl::ordset::DiffItem;
use sekisho_config::model::{Prefix, Reach};

use super::{Delta, Rib};

/// The addresses that control asked about, with the last answer. Work follows the change, not the number tracked.
#[derive(Debug, Default)]
pub struct Tracker {
    addresses: OrdSet<IpAddr>,
    answers: BTreeMap<IpAddr, Reach>,
}

impl Tracker {
    /// Takes the whole wanted set; returns answers for the new ones and `None` for those no longer tracked.
    pub fn track(&mut self, addresses: OrdSet<IpAddr>, rib: &Rib) -> Vec<(IpAddr, Option<Reach>)> {
        let old = std::mem::replace(&mut self.addresses, addresses);
        let mut answers = Vec::new();
        for item in old.diff(&self.addresses) {
            match item {
                DiffItem::Add(address) => {
                    let reach = rib.reach(*address);
                    self.answers.insert(*address, reach.clone());
                    answers.push((*address, Some(reach)));
                }
                DiffItem::Remove(address) => {
                    self.answers.remove(address);
                    answers.push((*address, None));
                }
            }
        }
        answers
    }

    /// Which answers differ after a change of the table.
    pub fn changed(&mut self, delta: &Delta, rib: &Rib) -> Vec<(IpAddr, Option<Reach>)> {
        if delta.changed.is_empty() || self.addresses.is_empty() {
            return Vec::new();
        }
        // Looking at every address costs about as much as this many look-ups of ranges.
        if delta.changed.len() / 4 > self.addresses.len() {
            let all = self.addresses.clone();
            return all
                .iter()
                .filter_map(|address| self.ask_again(*address, rib))
                .collect();
        }
        let touched: BTreeSet<IpAddr> = delta
            .changed
            .iter()
            .flat_map(|prefix| self.addresses.range(prefix.address()..=last_address(prefix)))
            .copied()
            .collect();
        touched
            .into_iter()
            .filter_map(|address| self.ask_again(address, rib))
            .collect()
    }

    fn ask_again(&mut self, address: IpAddr, rib: &Rib) -> Option<(IpAddr, Option<Reach>)> {
        let reach = rib.reach(address);
        if self.answers.get(&address) == Some(&reach) {
            return None;
        }
        self.answers.insert(address, reach.clone());
        Some((address, Some(reach)))
    }
}

/// The last address of a prefix.
pub(super) fn last_address(prefix: &Prefix) -> IpAddr {
    let length = u32::from(prefix.length());
    match prefix.address() {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() | host))
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() | host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_addresses() {
        for (prefix, want) in [
            ("10.0.0.0/26", "10.0.0.63"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("2001:db8::/122", "2001:db8::3f"),
            ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(
                last_address(&prefix.parse().unwrap()).to_string(),
                want,
                "{prefix}"
            );
        }
    }
}
