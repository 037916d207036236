//! `[[bgp.rules]]`, and who uses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::{Log, quote};
use super::process::{label, network};
use super::table::Table;
use crate::model::{Invalid, PathChange, PolicyRule, RuleAction};

/// The rules by name; one with a fault is there as `None`, so that it is not called unknown as well.
pub(super) type Rules = BTreeMap<Arc<str>, Option<Arc<PolicyRule>>>;

pub(super) fn read(tables: &[Table<'_>], log: &Log) -> Rules {
    let mut rules = Rules::new();
    for table in tables {
        let name = table.text("name", label);
        let rule = rule(table, log);
        let Some(name) = name else {
            continue;
        };
        let rule = rule.map(|rule| {
            Arc::new(PolicyRule {
                name: Arc::clone(&name.value),
                ..rule
            })
        });
        if rules.insert(name.value, rule).is_some() {
            log.fault(
                &name.place,
                "another rule has this name",
                "give each rule a name of its own",
            );
        }
    }
    rules
}

/// A rule without its name.
fn rule(table: &Table<'_>, log: &Log) -> Option<PolicyRule> {
    let values = |list: Option<super::fault::At<Vec<super::fault::At<_>>>>| -> Vec<_> {
        list.map(|at| at.value.into_iter().map(|at| at.value).collect())
            .unwrap_or_default()
    };
    let prefixes = table.list("prefixes", str::parse);
    for name in ["prefixes", "communities", "next_hops"] {
        if table.is_empty_list(name) {
            log.fault(
                &table.place_of(name),
                "an empty list holds for nothing",
                "remove it (then it holds for all), or fill it",
            );
        }
    }
    let communities = values(table.list("communities", str::parse));
    let next_hops = table
        .list("next_hops", network)
        .map(|at| at.value.into_iter().map(|at| at.value).collect())
        .unwrap_or_default();
    let as_path_has = table.asn("as_path_has").map(|at| at.value);
    let change = PathChange {
        local_preference: table.number("local_preference").map(|at| at.value),
        med: table.number("med").map(|at| at.value),
        prepend: table.number("prepend").map_or(0, |at| at.value),
        add_communities: values(table.list("add_communities", str::parse)),
    };
    let then = match table.word("then")?.value {
        "accept" => RuleAction::Accept,
        "reject" => RuleAction::Reject,
        _ => RuleAction::Next,
    };
    if then == RuleAction::Reject && change != PathChange::default() {
        log.warn(
            &table.place_of("then"),
            "what is rejected is not changed",
            "remove local_preference, med, prepend and add_communities, or accept",
        );
    }
    Some(PolicyRule {
        name: Arc::from(""),
        prefixes: prefixes
            .map(|at| at.value.into_iter().map(|at| at.value).collect())
            .unwrap_or_default(),
        communities,
        as_path_has,
        next_hops,
        change,
        then,
    })
}

/// The rules that a peer or range names under `key`.
pub(super) fn used(table: &Table<'_>, key: &str, rules: &Rules) -> Vec<Arc<PolicyRule>> {
    let names = table.list(key, |text| {
        if rules.contains_key(text) {
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
        .filter_map(|at| rules.get(&at.value)?.clone())
        .collect()
}
