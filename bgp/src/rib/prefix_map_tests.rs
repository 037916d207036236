use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Set(Prefix, u32),
    Remove(Prefix),
}

/// Few distinct addresses, so that prefixes nest and meet.
fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (
        prop::sample::select(vec![0u32, 0x0a00_0000, 0x0a00_0040, 0xffff_ffff]),
        0u32..64,
        0u8..=32,
    )
        .prop_map(|(base, low, length)| (base ^ low).truncate(length).prefix(length).unwrap());
    let v6 = (
        prop::sample::select(vec![0u128, 0xfd00 << 112, u128::MAX]),
        0u128..64,
        0u8..=128,
    )
        .prop_map(|(base, low, length)| (base ^ low).truncate(length).prefix(length).unwrap());
    prop_oneof![v4, v6]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prefix(), 0u32..1000).prop_map(|(prefix, value)| Step::Set(prefix, value)),
        2 => prefix().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_map(steps in prop::collection::vec(step(), 0..200), probe in prefix()) {
        let mut map = PrefixMap::default();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set(prefix, value) => {
                    *map.entry(&prefix) = value;
                    model.insert(prefix, value);
                }
                Step::Remove(prefix) => prop_assert_eq!(map.remove(&prefix), model.remove(&prefix)),
            }
        }
        prop_assert_eq!(map.get(&probe), model.get(&probe));
        prop_assert_eq!(map.get_mut(&probe).copied(), model.get(&probe).copied());
        prop_assert_eq!(map.find_next(&probe), map.find(&probe));
        for (prefix, value) in &model {
            let place = map.find(prefix).unwrap();
            prop_assert_eq!(map.at(place), Some((*prefix, value)));
            prop_assert_eq!(map.at_mut(place).map(|(prefix, value)| (prefix, *value)), Some((*prefix, *value)));
            prop_assert_eq!(map.value_mut(place).copied(), Some(*value));
            prop_assert_eq!(map.find_next(prefix), Some(place));
            prop_assert_eq!(map.entry_at(prefix).0, place);
            let around = model.iter().any(|(wider, value)| wider != prefix && wider.covers(prefix) && value % 2 == 1);
            prop_assert_eq!(map.any_around(place, |_| true, |value| value % 2 == 1), around);
            let even = model.keys().any(|wider| wider != prefix && wider.covers(prefix) && wider.length() % 2 == 0);
            prop_assert_eq!(map.any_around(place, |length| length % 2 == 0, |_| true), even);
        }
        let odd = map.places(|value| value % 2 == 1);
        let mut odd: Vec<_> = odd.into_iter().map(|place| map.at(place).unwrap().0).collect();
        odd.sort_unstable();
        let want: Vec<_> = model.iter().filter(|(_, value)| **value % 2 == 1).map(|(prefix, _)| *prefix).collect();
        prop_assert_eq!(odd, want);
        let want: Vec<_> = model.iter().map(|(prefix, value)| (*prefix, value)).collect();
        prop_assert_eq!(map.sorted(), want, "in order, nothing lost");
        let covering: Vec<_> = map.covering(&probe).collect();
        let mut want: Vec<_> = model.iter().filter(|(prefix, _)| prefix.covers(&probe)).map(|(prefix, value)| (*prefix, value)).collect();
        want.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length()));
        prop_assert_eq!(covering, want);
        let want: Vec<_> = model.iter().filter(|(prefix, _)| probe.covers(prefix)).map(|(prefix, value)| (*prefix, value)).collect();
        prop_assert_eq!(map.within(&probe), want);
    }
}
