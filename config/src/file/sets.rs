//! `[[bgp.sets]]`: lists with a name, which the conditions of rules refer to as `@NAME`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::{At, Log, quote};
use super::process::{label, network};
use super::table::Table;
use crate::model::{AsPathPattern, CommunityPattern, Invalid, Prefix, PrefixRange};

/// What sets there are, by name.
#[derive(Default)]
pub(super) struct Sets(BTreeMap<Arc<str>, Set>);

/// One set; of each kind what a condition of that kind takes.
#[derive(Default)]
pub(super) struct Set {
    pub(super) prefixes: Vec<PrefixRange>,
    pub(super) communities: Vec<CommunityPattern>,
    pub(super) next_hops: Vec<Prefix>,
    /// Numbers and ranges, as an expression over paths has them.
    as_numbers: Vec<String>,
}

pub(super) fn read(tables: &[Table<'_>], log: &Log) -> Sets {
    let mut sets = Sets::default();
    for table in tables {
        let name = table.text("name", label);
        let set = Set {
            prefixes: values(table.list("prefixes", str::parse)),
            communities: values(table.list("communities", str::parse)),
            next_hops: values(table.list("next_hops", network)),
            as_numbers: values(table.list("as_numbers", as_number)),
        };
        if let Some(name) = name
            && sets.0.insert(name.value, set).is_some()
        {
            log.fault(
                &name.place,
                "another set has this name",
                "give each set a name of its own",
            );
        }
    }
    sets
}

fn values<T>(list: Option<At<Vec<At<T>>>>) -> Vec<T> {
    list.map(|at| at.value.into_iter().map(|at| at.value).collect())
        .unwrap_or_default()
}

/// A number or a range of numbers.
fn as_number(text: &str) -> Result<String, Invalid> {
    let fits = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let read = || format!("[{text}]").parse::<AsPathPattern>();
    if !fits || read().is_err() {
        return Err(Invalid::new(
            format!("{} is neither an AS number nor a range", quote(text)),
            "write \"65001\" or \"64512-65534\"",
        ));
    }
    Ok(text.to_owned())
}

impl Sets {
    fn get(&self, name: &str) -> Result<&Set, Invalid> {
        self.0.get(name).ok_or_else(|| {
            Invalid::new(
                format!("no set is named {}", quote(name)),
                "add it as [[bgp.sets]], or correct the name after the @",
            )
        })
    }

    /// An element of a condition: what it says itself, or all that the set holds which it names.
    pub(super) fn items<T: Clone>(
        &self,
        text: &str,
        kind: &str,
        of: impl Fn(&Set) -> &Vec<T>,
        read: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<Vec<T>, Invalid> {
        let Some(name) = text.strip_prefix('@') else {
            return Ok(vec![read(text)?]);
        };
        let items = of(self.get(name)?);
        if items.is_empty() {
            return Err(holds_none(name, kind));
        }
        Ok(items.clone())
    }

    /// An expression over paths in which `@NAME` stands for one of the set's AS numbers.
    pub(super) fn as_path(&self, text: &str) -> Result<AsPathPattern, Invalid> {
        let mut spelled = String::with_capacity(text.len());
        let mut inside = false;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '[' => inside = true,
                ']' => inside = false,
                '@' => {
                    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                    let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
                    let (name, after) = rest.split_at(end);
                    let numbers = &self.get(name)?.as_numbers;
                    if numbers.is_empty() {
                        return Err(holds_none(name, "as_numbers"));
                    }
                    let numbers = numbers.join(" ");
                    spelled.push_str(&if inside { numbers } else { format!("[{numbers}]") });
                    rest = after;
                    continue;
                }
                _ => {}
            }
            spelled.push(c);
        }
        spelled.parse()
    }
}

fn holds_none(name: &str, kind: &str) -> Invalid {
    Invalid::new(
        format!("the set {} holds no {kind}", quote(name)),
        "fill that list of the set, or name another set",
    )
}
