//! The rules of the file: what they make of a path.

use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{
    AsPathCondition, Asn, Community, CommunityChange, CommunityPattern, PathChange, PolicyRule, Prefix,
    RuleAction,
};

use crate::wire::{AsPath, Attributes, LargeCommunity, Segment};

/// Asks the rules in order: what is to be changed of the path, or the rule that rejects it. Conditions see the path as it
/// came, not as earlier rules have changed it. Where no rule decides the path is accepted.
pub(crate) fn ask<'r>(
    rules: &'r [Arc<PolicyRule>],
    prefix: &Prefix,
    next_hop: Option<IpAddr>,
    attributes: &Attributes,
) -> Result<PathChange, &'r Arc<PolicyRule>> {
    let mut change = PathChange::default();
    for rule in rules {
        if !rule.is_about(prefix, next_hop) || !fits(rule, attributes) {
            continue;
        }
        if rule.then == RuleAction::Reject {
            return Err(rule);
        }
        add(&mut change, &rule.change);
        if rule.then == RuleAction::Accept {
            break;
        }
    }
    Ok(change)
}

fn fits(rule: &PolicyRule, attributes: &Attributes) -> bool {
    let has = |pattern: &CommunityPattern| has(pattern, attributes);
    (rule.communities.is_empty() || rule.communities.iter().any(has))
        && rule.all_communities.iter().all(has)
        && path_fits(&rule.as_path, &attributes.as_path)
}

fn has(pattern: &CommunityPattern, attributes: &Attributes) -> bool {
    let large = |one: &LargeCommunity| pattern.fits_large(one.0, one.1, one.2);
    match pattern {
        CommunityPattern::Standard(..) => attributes
            .communities
            .iter()
            .any(|one| pattern.fits_standard(*one)),
        CommunityPattern::Large(..) => attributes.large_communities.iter().any(large),
        CommunityPattern::Extended(..) | CommunityPattern::Octets(_) => {
            let extended = &attributes.extended_communities;
            extended.iter().any(|one| pattern.fits_extended(*one))
        }
    }
}

fn path_fits(wanted: &AsPathCondition, path: &AsPath) -> bool {
    let last = || match path.segments.last() {
        Some(Segment::Sequence(numbers)) => numbers.last().copied(),
        _ => None,
    };
    wanted.has.is_none_or(|asn| path.contains(asn))
        && wanted
            .neighbour
            .is_none_or(|asn| path.first() == Some(asn.number()))
        && wanted.origin.is_none_or(|asn| last() == Some(asn.number()))
        && wanted.length.is_none_or(|(least, most)| {
            let length = u32::try_from(path.length()).unwrap_or(u32::MAX);
            (least..=most).contains(&length)
        })
        && wanted
            .pattern
            .as_ref()
            .is_none_or(|pattern| pattern.fits(places(path)))
}

/// Numbers of a sequence one by one, those of a set together.
fn places(path: &AsPath) -> impl Iterator<Item = &[u32]> {
    path.segments.iter().flat_map(|segment| {
        let (numbers, each) = match segment {
            Segment::Sequence(numbers) | Segment::ConfedSequence(numbers) => (numbers, 1),
            Segment::Set(numbers) | Segment::ConfedSet(numbers) => (numbers, numbers.len().max(1)),
        };
        numbers.chunks(each)
    })
}

fn add(change: &mut PathChange, more: &PathChange) {
    change.local_preference = more.local_preference.or(change.local_preference);
    if more.med.is_some() {
        (change.med, change.add_med) = (more.med, 0);
    }
    change.add_med = change.add_med.saturating_add(more.add_med);
    change.prepend = change.prepend.saturating_add(more.prepend);
    change.next_hop = more.next_hop.or(change.next_hop);
    change.communities.extend_from_slice(&more.communities);
}

/// Changes a path; its next hop is the caller's business. `nearest` is the AS to prepend; `None` inside our AS, where none is.
pub(crate) fn apply(change: &PathChange, nearest: Option<Asn>, attributes: &mut Attributes) {
    if let Some(preference) = change.local_preference {
        attributes.local_preference = Some(preference);
    }
    if let Some(med) = change.med {
        attributes.med = Some(med);
    }
    if change.add_med > 0 {
        attributes.med = Some(attributes.med.unwrap_or(0).saturating_add(change.add_med));
    }
    if let Some(asn) = nearest {
        prepend(asn, change.prepend, &mut attributes.as_path);
    }
    for change in &change.communities {
        communities(change, attributes);
    }
}

fn communities(change: &CommunityChange, attributes: &mut Attributes) {
    let Attributes {
        communities,
        large_communities,
        extended_communities,
        ..
    } = attributes;
    match change {
        CommunityChange::Clear => {
            communities.clear();
            large_communities.clear();
            extended_communities.clear();
        }
        CommunityChange::Remove(pattern) => {
            communities.retain(|one| !pattern.fits_standard(*one));
            large_communities.retain(|one| !pattern.fits_large(one.0, one.1, one.2));
            extended_communities.retain(|one| !pattern.fits_extended(*one));
        }
        CommunityChange::Add(Community::Standard(value)) => put(communities, *value),
        CommunityChange::Add(Community::Large(a, b, c)) => put(large_communities, LargeCommunity(*a, *b, *c)),
        CommunityChange::Add(Community::Extended(octets)) => put(extended_communities, *octets),
    }
}

fn put<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
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
            then,
            ..PolicyRule::default()
        }
    }

    fn path() -> Attributes {
        Attributes {
            as_path: AsPath {
                segments: vec![Segment::Sequence(vec![65001, 65002]), Segment::Set(vec![7, 8])],
            },
            communities: vec![7],
            large_communities: vec![LargeCommunity(1, 2, 3)],
            extended_communities: vec![[0, 2, 0xfd, 0xe8, 0, 0, 0, 1]],
            ..Attributes::default()
        }
    }

    #[test]
    fn every_condition_has_to_hold() {
        let any = rule("r", RuleAction::Reject);
        let asn = |number| Some(Asn::try_from(number).unwrap());
        let with = |change: &dyn Fn(&mut PolicyRule)| {
            let mut rule = any.clone();
            change(&mut rule);
            rule
        };
        let communities = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        for (what, rule, rejects) in [
            ("any", any.clone(), true),
            (
                "prefix",
                with(&|r| r.prefixes = vec!["10.1.0.0/16 le 26".parse().unwrap()]),
                true,
            ),
            (
                "other prefix",
                with(&|r| r.prefixes = vec!["10.1.0.0/16 le 25".parse().unwrap()]),
                false,
            ),
            ("IPv4", with(&|r| r.ipv4 = Some(true)), true),
            ("IPv6", with(&|r| r.ipv4 = Some(false)), false),
            ("AS", with(&|r| r.as_path.has = asn(65002)), true),
            ("AS of a set", with(&|r| r.as_path.has = asn(8)), true),
            ("other AS", with(&|r| r.as_path.has = asn(65003)), false),
            ("neighbour", with(&|r| r.as_path.neighbour = asn(65001)), true),
            (
                "other neighbour",
                with(&|r| r.as_path.neighbour = asn(65002)),
                false,
            ),
            ("a set is no origin", with(&|r| r.as_path.origin = asn(8)), false),
            (
                "length, a set counts one",
                with(&|r| r.as_path.length = Some((3, 3))),
                true,
            ),
            ("other length", with(&|r| r.as_path.length = Some((4, 9))), false),
            (
                "pattern",
                with(&|r| r.as_path.pattern = Some("^65001 . 8$".parse().unwrap())),
                true,
            ),
            (
                "other pattern",
                with(&|r| r.as_path.pattern = Some("^65002".parse().unwrap())),
                false,
            ),
            (
                "one of the communities",
                with(&|r| r.communities = communities(&["0:8", "1:2:*"])),
                true,
            ),
            (
                "other community",
                with(&|r| r.communities = communities(&["0:8", "1:3:*"])),
                false,
            ),
            (
                "all communities",
                with(&|r| r.all_communities = communities(&["0:7", "1:2:3", "rt:65000:*"])),
                true,
            ),
            (
                "one is missing",
                with(&|r| r.all_communities = communities(&["0:7", "ro:65000:*"])),
                false,
            ),
            (
                "next hop",
                with(&|r| r.next_hops = vec!["10.0.0.0/24".parse().unwrap()]),
                true,
            ),
            (
                "other next hop",
                with(&|r| r.next_hops = vec!["10.0.1.0/24".parse().unwrap()]),
                false,
            ),
            (
                "one holds, one does not",
                with(&|r| {
                    r.as_path.has = asn(65002);
                    r.next_hops = vec!["10.0.1.0/24".parse().unwrap()];
                }),
                false,
            ),
        ] {
            let (prefix, next_hop) = ("10.1.2.0/26".parse().unwrap(), "10.0.0.1".parse().unwrap());
            let got = ask(&[Arc::new(rule)], &prefix, Some(next_hop), &path()).is_err();
            assert_eq!(got, rejects, "{what}");
        }
        let mut origin = any;
        origin.as_path.origin = asn(65002);
        let mut path = path();
        path.as_path.segments.pop();
        assert!(ask(&[Arc::new(origin)], &"10.1.2.0/26".parse().unwrap(), None, &path).is_err());
    }

    #[test]
    fn the_first_that_decides_decides() {
        let prefers = |name, preference, then| PolicyRule {
            change: PathChange {
                local_preference: Some(preference),
                prepend: 1,
                communities: vec![CommunityChange::Add(Community::Standard(9))],
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
            (vec![&next, &reject, &accept], Err("reject")),
        ] {
            let rules: Vec<_> = rules.into_iter().cloned().map(Arc::new).collect();
            let got = ask(&rules, &"10.1.2.0/26".parse().unwrap(), None, &path());
            let got = got.map(|change| (change.local_preference, change.prepend));
            assert_eq!(got.map_err(|rule| &*rule.name), want);
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
            add_med: 3,
            prepend: 2,
            communities: ["0:7", "0:8", "1:2:3", "4:5:6", "rt:65000:1", "rt:65000:2"]
                .iter()
                .map(|text| CommunityChange::Add(text.parse().unwrap()))
                .collect(),
            next_hop: None,
        };
        for (nearest, numbers) in [
            (Some(65001), &[65001, 65001, 65001, 65002, 7, 8][..]),
            (None, &[65001, 65002, 7, 8]),
        ] {
            let mut got = path();
            apply(&change, nearest.map(|asn| Asn::try_from(asn).unwrap()), &mut got);
            assert_eq!((got.local_preference, got.med), (Some(5), Some(9)));
            assert_eq!(got.as_path.numbers().collect::<Vec<_>>(), numbers);
            assert_eq!(got.communities, [7, 8]);
            let large = [LargeCommunity(1, 2, 3), LargeCommunity(4, 5, 6)];
            assert_eq!(got.large_communities, large);
            assert_eq!(got.extended_communities.len(), 2);
        }
    }

    #[test]
    fn communities_change_in_the_order_written() {
        let remove = |text: &str| CommunityChange::Remove(text.parse().unwrap());
        let add = |text: &str| CommunityChange::Add(text.parse().unwrap());
        for (changes, standard, large, extended) in [
            (vec![remove("0:*")], &[][..], 1, 1),
            (vec![remove("*:*:*")], &[7], 0, 1),
            (vec![remove("rt:*:*")], &[7], 1, 0),
            (vec![CommunityChange::Clear, add("0:1")], &[1], 0, 0),
            (vec![add("0:1"), CommunityChange::Clear], &[], 0, 0),
            (vec![remove("0:7"), add("0:7")], &[7], 1, 1),
        ] {
            let mut got = path();
            let change = PathChange {
                communities: changes.clone(),
                ..PathChange::default()
            };
            apply(&change, None, &mut got);
            assert_eq!(got.communities, standard, "{changes:?}");
            let kinds = (got.large_communities.len(), got.extended_communities.len());
            assert_eq!(kinds, (large, extended), "{changes:?}");
        }
    }
}
