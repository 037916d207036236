//! `[[bgp.rules]]`, and who uses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::{At, Log, quote};
use super::process::{label, network};
use super::sets::Sets;
use super::table::{Table, host_address};
use crate::model::{
    AsPathCondition, CommunityChange, Invalid, PathChange, PolicyRule, Role, RuleAction, RuleNextHop,
};

/// What rules there are.
#[derive(Default)]
pub(super) struct Rules {
    /// By name; one with a fault is there as `None`, so that it is not called unknown as well.
    named: BTreeMap<Arc<str>, Option<Arc<PolicyRule>>>,
    /// Of peers that name none, by the key of `[bgp]`.
    usual: BTreeMap<&'static str, Vec<Arc<PolicyRule>>>,
}

/// The keys of `[bgp]` for peers that name no rules.
const USUAL: [&str; 4] = [
    "cluster_import",
    "cluster_export",
    "upstream_import",
    "upstream_export",
];

/// Longest reason.
const LONGEST_REASON: usize = 200;

pub(super) fn read(tables: &[Table<'_>], sets: &Sets, bgp: Option<&Table<'_>>, log: &Log) -> Rules {
    let mut rules = Rules::default();
    for table in tables {
        let name = table.text("name", label);
        let rule = rule(table, sets, log);
        let Some(name) = name else {
            continue;
        };
        let rule = rule.map(|rule| {
            Arc::new(PolicyRule {
                name: Arc::clone(&name.value),
                ..rule
            })
        });
        if rules.named.insert(name.value, rule).is_some() {
            log.fault(
                &name.place,
                "another rule has this name",
                "give each rule a name of its own",
            );
        }
    }
    if let Some(bgp) = bgp {
        rules.usual = USUAL.map(|key| (key, named(bgp, key, &rules))).into();
    }
    rules
}

fn values<T>(list: Option<At<Vec<At<T>>>>) -> Vec<T> {
    list.map(|at| at.value.into_iter().map(|at| at.value).collect())
        .unwrap_or_default()
}

/// A rule without its name.
fn rule(table: &Table<'_>, sets: &Sets, log: &Log) -> Option<PolicyRule> {
    for name in ["prefixes", "communities", "all_communities", "next_hops"] {
        if table.is_empty_list(name) {
            log.fault(
                &table.place_of(name),
                "an empty list holds for nothing",
                "remove it (then it holds for all), or fill it",
            );
        }
    }
    let prefixes = table.list("prefixes", |text| {
        sets.items(text, "prefixes", |set| &set.prefixes, str::parse)
    });
    let communities = |key| {
        let read = |text: &str| sets.items(text, "communities", |set| &set.communities, str::parse);
        values(table.list(key, read)).concat()
    };
    let next_hops = table.list("next_hops", |text| {
        sets.items(text, "next_hops", |set| &set.next_hops, network)
    });
    let family = table.word("family").map(|at| at.value);
    let as_path = AsPathCondition {
        has: table.asn("as_path_has").map(|at| at.value),
        neighbour: table.asn("as_path_neighbour").map(|at| at.value),
        origin: table.asn("as_path_origin").map(|at| at.value),
        length: table.text("as_path_length", length).map(|at| at.value),
        pattern: table
            .text("as_path", |text| sets.as_path(text))
            .map(|at| at.value),
    };
    let change = PathChange {
        add_med: table.number("add_med").map_or(0, |at| at.value),
        ..change(table)
    };
    let reason = table.text("reason", reason);
    let then = match table.word("then")?.value {
        "accept" => RuleAction::Accept,
        "reject" => RuleAction::Reject,
        _ => RuleAction::Next,
    };
    if then == RuleAction::Reject && change != PathChange::default() {
        log.warn(
            &table.place_of("then"),
            "what is rejected is not changed",
            "remove what the rule changes, or accept",
        );
    }
    if let (true, Some(at)) = (then != RuleAction::Reject, &reason) {
        log.warn(
            &at.place,
            "it is shown for what is rejected only",
            "remove it, or reject",
        );
    }
    // A condition with a fault would hold for all, so the rule is none.
    let lost = [
        "family",
        "as_path_has",
        "as_path_neighbour",
        "as_path_origin",
        "as_path_length",
        "as_path",
    ];
    let read = [
        family.is_some(),
        as_path.has.is_some(),
        as_path.neighbour.is_some(),
        as_path.origin.is_some(),
        as_path.length.is_some(),
        as_path.pattern.is_some(),
    ];
    if lost.iter().zip(read).any(|(key, read)| table.has(key) && !read) {
        return None;
    }
    Some(PolicyRule {
        name: Arc::from(""),
        ipv4: family.map(|family| family == "ipv4"),
        prefixes: values(prefixes).concat(),
        communities: communities("communities"),
        all_communities: communities("all_communities"),
        as_path,
        next_hops: values(next_hops).concat(),
        change,
        then,
        reason: reason.map(|at| at.value),
    })
}

/// What a rule changes of a path.
fn change(table: &Table<'_>) -> PathChange {
    let mut communities = Vec::new();
    if table.has("set_communities") {
        communities.push(CommunityChange::Clear);
        communities.extend(
            values(table.list("set_communities", str::parse))
                .into_iter()
                .map(CommunityChange::Add),
        );
    }
    if table.has("remove_communities") {
        let removed = values(table.list("remove_communities", str::parse));
        communities.extend(removed.into_iter().map(CommunityChange::Remove));
    }
    communities.extend(
        values(table.list("add_communities", str::parse))
            .into_iter()
            .map(CommunityChange::Add),
    );
    PathChange {
        communities,
        ..plain_change(table)
    }
}

/// What a pool gives its VIPs.
pub(super) fn pool_change(table: &Table<'_>) -> PathChange {
    let communities = values(table.list("communities", str::parse));
    PathChange {
        communities: communities.into_iter().map(CommunityChange::Add).collect(),
        ..plain_change(table)
    }
}

fn plain_change(table: &Table<'_>) -> PathChange {
    PathChange {
        local_preference: table.number("local_preference").map(|at| at.value),
        med: table.number("med").map(|at| at.value),
        prepend: table.number("prepend").map_or(0, |at| at.value),
        next_hop: table.text("next_hop", next_hop).map(|at| at.value),
        ..PathChange::default()
    }
}

fn next_hop(text: &str) -> Result<RuleNextHop, Invalid> {
    match text {
        "self" => Ok(RuleNextHop::Own),
        "unchanged" => Ok(RuleNextHop::Unchanged),
        _ => host_address(text).map(RuleNextHop::Address).map_err(|_| {
            Invalid::new(
                format!("{} is no next hop", quote(text)),
                "write \"self\", \"unchanged\" or an IP address",
            )
        }),
    }
}

/// `ge 2`, `le 5`, `ge 2 le 5`.
fn length(text: &str) -> Result<(u32, u32), Invalid> {
    let read = || {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["ge", least] => Some((least.parse().ok()?, u32::MAX)),
            ["le", most] => Some((0, most.parse().ok()?)),
            ["ge", least, "le", most] => Some((least.parse().ok()?, most.parse().ok()?)),
            _ => None,
        }
    };
    read().filter(|(least, most)| least <= most).ok_or_else(|| {
        Invalid::new(
            format!("{} is no length of an AS_PATH", quote(text)),
            "write \"ge 2\", \"le 5\" or \"ge 2 le 5\"",
        )
    })
}

fn reason(text: &str) -> Result<Arc<str>, Invalid> {
    if text.is_empty() || text.len() > LONGEST_REASON || text.chars().any(char::is_control) {
        return Err(Invalid::new(
            "a reason is one line of up to 200 octets",
            "write why, in a few words",
        ));
    }
    Ok(text.into())
}

/// The rules that a peer or range names under `key`; where it has no such key, those of its role.
pub(super) fn used(table: &Table<'_>, key: &str, role: Option<Role>, rules: &Rules) -> Vec<Arc<PolicyRule>> {
    if table.has(key) {
        return named(table, key, rules);
    }
    let usual = match (role, key) {
        (Some(Role::Cluster), "import") => "cluster_import",
        (Some(Role::Cluster), _) => "cluster_export",
        (Some(Role::Upstream), "import") => "upstream_import",
        (Some(Role::Upstream), _) => "upstream_export",
        (None, _) => return Vec::new(),
    };
    rules.usual.get(usual).cloned().unwrap_or_default()
}

fn named(table: &Table<'_>, key: &str, rules: &Rules) -> Vec<Arc<PolicyRule>> {
    let names = table.list(key, |text| {
        if rules.named.contains_key(text) {
            Ok(Arc::<str>::from(text))
        } else {
            Err(Invalid::new(
                format!("no rule is named {}", quote(text)),
                "add it as [[bgp.rules]], or correct the name",
            ))
        }
    });
    let names = names.map(|at| at.value).unwrap_or_default();
    names
        .iter()
        .filter_map(|at| rules.named.get(&at.value)?.clone())
        .collect()
}
