//! The rules of the file: what they make of a path.

use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{Asn, Community, PathChange, PolicyRule, Prefix, RuleAction};

use crate::wire::{AsPath, Attributes, LargeCommunity, Segment};

/// Asks the rules in order: what is to be changed of the path, or the name of the rule that rejects it. Conditions see the
/// path as it came, not as earlier rules have changed it. Where no rule decides the path is accepted.
pub(crate) fn ask(
    rules: &[Arc<PolicyRule>],
    prefix: &Prefix,
    next_hop: Option<IpAddr>,
    attributes: &Attributes,
) -> Result<PathChange, Arc<str>> {
    let mut change = PathChange::default();
    for rule in rules {
        if !rule.is_about(prefix, next_hop) || !fits(rule, attributes) {
            continue;
        }
        if rule.then == RuleAction::Reject {
            return Err(Arc::clone(&rule.name));
        }
        add(&mut change, &rule.change);
        if rule.then == RuleAction::Accept {
            break;
        }
    }
    Ok(change)
}

fn fits(rule: &PolicyRule, attributes: &Attributes) -> bool {
    let has = |community: &Community| match community {
        Community::Standard(value) => attributes.communities.contains(value),
        Community::Large(a, b, c) => attributes.large_communities.contains(&LargeCommunity(*a, *b, *c)),
    };
    (rule.communities.is_empty() || rule.communities.iter().any(has))
        && rule
            .as_path_has
            .is_none_or(|asn| attributes.as_path.contains(asn))
}

fn add(change: &mut PathChange, more: &PathChange) {
    change.local_preference = more.local_preference.or(change.local_preference);
    change.med = more.med.or(change.med);
    change.prepend = change.prepend.saturating_add(more.prepend);
    for community in &more.add_communities {
        if !change.add_communities.contains(community) {
            change.add_communities.push(*community);
        }
    }
}

/// Changes a path. `nearest` is the AS to prepend; `None` inside our AS, where none is.
pub(crate) fn apply(change: &PathChange, nearest: Option<Asn>, attributes: &mut Attributes) {
    if let Some(preference) = change.local_preference {
        attributes.local_preference = Some(preference);
    }
    if let Some(med) = change.med {
        attributes.med = Some(med);
    }
    if let Some(asn) = nearest {
        prepend(asn, change.prepend, &mut attributes.as_path);
    }
    for community in &change.add_communities {
        match community {
            Community::Standard(value) if !attributes.communities.contains(value) => {
                attributes.communities.push(*value);
            }
            Community::Large(a, b, c)
                if !attributes.large_communities.contains(&LargeCommunity(*a, *b, *c)) =>
            {
                attributes.large_communities.push(LargeCommunity(*a, *b, *c));
            }
            Community::Standard(_) | Community::Large(..) => {}
        }
    }
}

/// In front of the first sequence; as one of its own where that is full (RFC 4271 section 5.1.2).
pub(super) fn prepend(asn: Asn, times: u8, path: &mut AsPath) {
    if times == 0 {
        return;
    }
    let mut numbers = vec![asn.number(); usize::from(times)];
    match path.segments.first_mut() {
        Some(Segment::Sequence(first)) if first.len().saturating_add(numbers.len()) <= 255 => {
            numbers.append(first);
            *first = numbers;
        }
        _ => path.segments.insert(0, Segment::Sequence(numbers)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::policy) fn rule(name: &str, then: RuleAction) -> PolicyRule {
        PolicyRule {
            name: name.into(),
            prefixes: vec![],
            communities: vec![],
            as_path_has: None,
            next_hops: vec![],
            change: PathChange::default(),
            then,
        }
    }

    fn path() -> Attributes {
        Attributes {
            as_path: AsPath {
                segments: vec![Segment::Sequence(vec![65001, 65002])],
            },
            communities: vec![7],
            large_communities: vec![LargeCommunity(1, 2, 3)],
            ..Attributes::default()
        }
    }

    #[test]
    fn every_condition_has_to_hold() {
        let any = rule("r", RuleAction::Reject);
        let prefixes = |text: &str| vec![text.parse().unwrap()];
        let next_hops = |text: &str| vec![text.parse().unwrap()];
        let asn = |number| Some(Asn::try_from(number).unwrap());
        for (what, rule, rejects) in [
            ("any", any.clone(), true),
            (
                "prefix",
                PolicyRule {
                    prefixes: prefixes("10.1.0.0/16 le 26"),
                    ..any.clone()
                },
                true,
            ),
            (
                "other prefix",
                PolicyRule {
                    prefixes: prefixes("10.1.0.0/16 le 25"),
                    ..any.clone()
                },
                false,
            ),
            (
                "AS",
                PolicyRule {
                    as_path_has: asn(65002),
                    ..any.clone()
                },
                true,
            ),
            (
                "other AS",
                PolicyRule {
                    as_path_has: asn(65003),
                    ..any.clone()
                },
                false,
            ),
            (
                "one of the communities",
                PolicyRule {
                    communities: vec![Community::Standard(8), Community::Large(1, 2, 3)],
                    ..any.clone()
                },
                true,
            ),
            (
                "other community",
                PolicyRule {
                    communities: vec![Community::Standard(8)],
                    ..any.clone()
                },
                false,
            ),
            (
                "next hop",
                PolicyRule {
                    next_hops: next_hops("10.0.0.0/24"),
                    ..any.clone()
                },
                true,
            ),
            (
                "other next hop",
                PolicyRule {
                    next_hops: next_hops("10.0.1.0/24"),
                    ..any.clone()
                },
                false,
            ),
            (
                "one holds, one does not",
                PolicyRule {
                    as_path_has: asn(65002),
                    next_hops: next_hops("10.0.1.0/24"),
                    ..any.clone()
                },
                false,
            ),
        ] {
            let (prefix, next_hop) = ("10.1.2.0/26".parse().unwrap(), "10.0.0.1".parse().unwrap());
            let got = ask(&[Arc::new(rule)], &prefix, Some(next_hop), &path());
            assert_eq!(got.is_err(), rejects, "{what}");
        }
    }

    #[test]
    fn the_first_that_decides_decides() {
        let prefers = |name, preference, then| PolicyRule {
            change: PathChange {
                local_preference: Some(preference),
                prepend: 1,
                add_communities: vec![Community::Standard(9)],
                ..PathChange::default()
            },
            ..rule(name, then)
        };
        let next = prefers("next", 1, RuleAction::Next);
        let accept = prefers("accept", 2, RuleAction::Accept);
        let reject = rule("reject", RuleAction::Reject);
        for (rules, want) in [
            (vec![], Ok((None, 0))),
            (vec![&next], Ok((Some(1), 1))),
            (vec![&next, &accept, &reject], Ok((Some(2), 2))),
            (vec![&accept, &next], Ok((Some(2), 1))),
            (vec![&next, &reject, &accept], Err("reject".into())),
        ] {
            let rules: Vec<_> = rules.into_iter().cloned().map(Arc::new).collect();
            let got = ask(&rules, &"10.1.2.0/26".parse().unwrap(), None, &path());
            let got = got.map(|change| (change.local_preference, change.prepend));
            assert_eq!(got, want);
        }
    }

    #[test]
    fn prepends_go_into_the_first_sequence_while_it_has_room() {
        let asn = Asn::try_from(65001).unwrap();
        let sequence = |count| Segment::Sequence(vec![65001; count]);
        for (before, want) in [
            (vec![], vec![sequence(2)]),
            (vec![sequence(1)], vec![sequence(3)]),
            (vec![sequence(253)], vec![sequence(255)]),
            (vec![sequence(254)], vec![sequence(2), sequence(254)]),
            (
                vec![Segment::Set(vec![1])],
                vec![sequence(2), Segment::Set(vec![1])],
            ),
        ] {
            let mut path = AsPath { segments: before };
            prepend(asn, 2, &mut path);
            assert_eq!(path.segments, want);
        }
    }

    #[test]
    fn changes_are_made_once() {
        let change = PathChange {
            local_preference: Some(5),
            med: Some(6),
            prepend: 2,
            add_communities: vec![
                Community::Standard(7),
                Community::Standard(8),
                Community::Large(1, 2, 3),
                Community::Large(4, 5, 6),
            ],
        };
        for (nearest, numbers) in [
            (Some(65001), &[65001, 65001, 65001, 65002][..]),
            (None, &[65001, 65002]),
        ] {
            let mut got = path();
            apply(&change, nearest.map(|asn| Asn::try_from(asn).unwrap()), &mut got);
            assert_eq!((got.local_preference, got.med), (Some(5), Some(6)));
            assert_eq!(got.as_path.numbers().collect::<Vec<_>>(), numbers);
            assert_eq!(got.communities, [7, 8]);
            let large = [LargeCommunity(1, 2, 3), LargeCommunity(4, 5, 6)];
            assert_eq!(got.large_communities, large);
        }
    }
}
