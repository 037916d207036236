//! Client connections by the address that they come from, over all workers. Nothing is counted while there is no limit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Parts of the table, each with a lock of its own, held for one look.
const PARTS: usize = 16;

/// How many connections each address has.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    parts: [Mutex<HashMap<IpAddr, usize>>; PARTS],
    hasher: RandomState,
}

/// One connection of an address, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn part(&self, address: &IpAddr) -> Option<&Mutex<HashMap<IpAddr, usize>>> {
        self.parts.get(self.hasher.hash_one(address) as usize % PARTS)
    }

    /// Counts one more connection from `address`. `Err`: it has `most` already. An IPv6 client has its /64, which is
    /// what one customer gets.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Result<Option<Counted>, ()> {
        if most == 0 {
            return Ok(None);
        }
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
            v4 => v4,
        };
        if let Some(part) = self.part(&address) {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let count = part.entry(address).or_insert(0);
            if *count >= most {
                return Err(());
            }
            *count += 1;
        }
        Ok(Some(Counted {
            addresses: Arc::clone(self),
            address,
        }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(part) = self.addresses.part(&self.address) else {
            return;
        };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = part.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_leaves_nothing_behind() {
        let addresses = Arc::new(Addresses::default());
        let enter = |text: &str, most| addresses.enter(text.parse().unwrap(), most);
        let one = enter("192.0.2.1", 2).unwrap().unwrap();
        let two = enter("::ffff:192.0.2.1", 2).unwrap().unwrap();
        assert!(enter("192.0.2.1", 2).is_err());
        assert!(enter("192.0.2.2", 2).is_ok());
        assert!(enter("192.0.2.1", 0).unwrap().is_none());
        drop(one);
        assert!(enter("192.0.2.1", 2).is_ok());
        let net = enter("2001:db8::1", 1).unwrap().unwrap();
        assert!(enter("2001:db8::2", 1).is_err());
        assert!(enter("2001:db8:0:1::1", 1).is_ok());
        drop((two, net));
        let left: usize = addresses
            .parts
            .iter()
            .map(|part| part.lock().unwrap().len())
            .sum();
        assert_eq!(left, 0);
    }
}
