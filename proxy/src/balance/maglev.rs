//! Maglev's table ("Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4): every endpoint fills the
//! places of its own permutation in turn. Shares are even to about one percent, and when one of N leaves, little more than its
//! own share moves. Built when the pool is compiled; looking up costs the same for every size.

use super::hash;

/// Primes; a table has at least a hundred places for each endpoint as long as there is such a prime.
const SIZES: [usize; 6] = [251, 1_021, 4_093, 16_381, 65_537, 655_373];
const PLACES_EACH: usize = 100;

/// Who has which place.
#[derive(Clone, Debug)]
pub struct Table(Box<[u32]>);

impl Table {
    /// A table for endpoints by name (the same name gets the same permutation for ever) and weight. `None` without any.
    pub fn build<'a>(endpoints: impl Iterator<Item = (&'a [u8], u8)>) -> Option<Self> {
        struct Row {
            next: usize,
            skip: usize,
            weight: u32,
            credit: u32,
        }
        let names: Vec<(&[u8], u8)> = endpoints.collect();
        if names.is_empty() {
            return None;
        }
        let wanted = names.len().saturating_mul(PLACES_EACH);
        let size = SIZES
            .iter()
            .copied()
            .find(|size| *size >= wanted)
            .unwrap_or(655_373);
        let heaviest = names
            .iter()
            .map(|(_, weight)| u32::from(*weight))
            .max()
            .unwrap_or(1)
            .max(1);
        let mut rows: Vec<Row> = names
            .iter()
            .map(|(name, weight)| Row {
                next: (hash::seeded(1, name) % size as u64) as usize,
                skip: (hash::seeded(2, name) % (size as u64 - 1)) as usize + 1,
                weight: u32::from(*weight).max(1),
                credit: 0,
            })
            .collect();
        let mut places = vec![u32::MAX; size].into_boxed_slice();
        let mut left = size;
        while left > 0 {
            for (row, number) in rows.iter_mut().zip(0u32..) {
                // An endpoint of half the weight takes a place every other round.
                row.credit += row.weight;
                if row.credit < heaviest {
                    continue;
                }
                row.credit -= heaviest;
                // The size is prime and the skip is less: the permutation meets every place.
                while let Some(place) = places.get_mut(row.next) {
                    row.next = (row.next + row.skip) % size;
                    if *place == u32::MAX {
                        *place = number;
                        left -= 1;
                        break;
                    }
                }
                if left == 0 {
                    break;
                }
            }
        }
        Some(Self(places))
    }

    /// Number of the endpoint at the `step`th place for `hash`.
    pub fn at(&self, hash: u64, step: usize) -> Option<u32> {
        let size = self.0.len();
        let first = ((u128::from(hash) * size as u128) >> 64) as usize;
        self.0.get((first + step) % size).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|n| format!("10.0.{}.{}:8080", n / 250, n % 250).into_bytes())
            .collect()
    }

    fn table(names: &[Vec<u8>]) -> Table {
        Table::build(names.iter().map(|name| (name.as_slice(), 1))).unwrap()
    }

    #[test]
    fn none_has_no_table_and_one_has_all() {
        assert!(Table::build(std::iter::empty()).is_none());
        let one = table(&names(1));
        assert!((0..1000).all(|n| one.at(hash::seeded(n, b""), 0) == Some(0)));
    }

    #[test]
    fn weights_are_shares() {
        let names = names(3);
        let weights = [1, 2, 5];
        let table = Table::build(names.iter().map(Vec::as_slice).zip(weights)).unwrap();
        let mut counts = [0usize; 3];
        table.0.iter().for_each(|number| counts[*number as usize] += 1);
        for (count, weight) in counts.iter().zip(weights) {
            let want = table.0.len() * usize::from(weight) / 8;
            assert!(count.abs_diff(want) <= want / 10 + 2, "{counts:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Shares differ by little, and a leaver disturbs little beyond its own share.
        #[test]
        fn even_and_hardly_disturbed(count in 2usize..60, leaver in any::<prop::sample::Index>()) {
            let all = names(count);
            let before = table(&all);
            let size = before.0.len();
            let mut counts = vec![0usize; count];
            before.0.iter().for_each(|number| counts[*number as usize] += 1);
            let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
            // Each takes a place a round.
            prop_assert!(most - least <= 1, "{least} {most}");

            let gone = leaver.index(count);
            let mut fewer = all.clone();
            fewer.remove(gone);
            let after = table(&fewer);
            if after.0.len() == size {
                let name = |table: &Table, names: &[Vec<u8>], place: usize| names[table.0[place] as usize].clone();
                let moved = (0..size)
                    .filter(|place| before.0[*place] as usize != gone)
                    .filter(|place| name(&before, &all, *place) != name(&after, &fewer, *place))
                    .count();
                // The paper has about 2 % for tables of a hundred times the backends.
                prop_assert!(moved * 100 <= size * 12, "{moved} of {size} places moved needlessly");
            }
        }

        /// The order in which endpoints are named means nothing but their numbers.
        #[test]
        fn a_name_keeps_its_places(hashes in prop::collection::vec(any::<u64>(), 50)) {
            let table = table(&names(20));
            for hash in hashes {
                let first = table.at(hash, 0);
                prop_assert_eq!(first, table.at(hash, table.0.len()));
                prop_assert!(first.unwrap() < 20);
            }
        }
    }
}
