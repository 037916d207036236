use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Pattern;

/// What a request has to have beside its path. All of it: the lists are joined by "and".
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Conditions {
    /// One of these methods; every method when empty. `GET` does not stand for `HEAD`.
    pub methods: BTreeSet<Arc<str>>,
    /// Of the header section; names in lower case.
    pub headers: BTreeSet<FieldCondition>,
    /// Of the query; names decoded, case-sensitive.
    pub query: BTreeSet<FieldCondition>,
}

impl Conditions {
    /// Whether every request meets them.
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.headers.is_empty() && self.query.is_empty()
    }
}

/// A condition on a header field or a query parameter.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct FieldCondition {
    /// Which.
    pub name: Arc<str>,
    /// What it has to be.
    pub value: ValueMatch,
}

/// What the value of a header field or a query parameter has to be.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    /// Anything.
    Present,
    /// It must not be there.
    Absent,
    /// The same octets.
    Exact(Arc<str>),
    /// The whole value matches.
    Regex(Pattern),
}

/// As the annotations write it: `name`, `!name`, `name=value`, `name~pattern`.
impl fmt::Display for FieldCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.value {
            ValueMatch::Present => f.write_str(name),
            ValueMatch::Absent => write!(f, "!{name}"),
            ValueMatch::Exact(value) => write!(f, "{name}={value}"),
            ValueMatch::Regex(pattern) => write!(f, "{name}~{pattern}"),
        }
    }
}

/// `method GET or HEAD, header x-canary=yes, query debug`; nothing when there are none.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if !self.methods.is_empty() {
            let methods: Vec<&str> = self.methods.iter().map(AsRef::as_ref).collect();
            write!(f, "method {}", methods.join(" or "))?;
            separator = ", ";
        }
        for (what, list) in [("header", &self.headers), ("query", &self.query)] {
            for condition in list {
                write!(f, "{separator}{what} {condition}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}
