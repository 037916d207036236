//! The annotations that are understood, in one table: what is not in it is a finding, and the page lists exactly it.
//!
//! A row knows its name, the kinds of objects it may stand on, and how to read its value. Whoever needs a value asks the
//! row for it ([`Annotation::of`]); faults are reported once for each object, by [`check`], and have no other effect than
//! that the annotation counts as absent, but for those without which more would pass than is meant
//! ([`Annotation::strictly_of`]).

mod content;
mod door;
mod filters;
mod named;
mod policy;
pub(super) mod read;
mod routing;
mod table;
#[cfg(test)]
mod tests;

use sekisho_config::model::{FindingKind, ObjectName};

use super::findings::Findings;
use crate::ANNOTATION_PREFIX;
use crate::text::printable;
use crate::world::{Annotations, Kind};

pub(super) use content::*;
pub(crate) use door::usable_key_set;
pub(super) use door::*;
pub(super) use filters::*;
pub(super) use named::{Named, named};
pub(super) use policy::{POLICY, WEIGHT, policy};
pub(super) use routing::*;
pub(super) use table::*;

/// One annotation with a value of type `T`.
pub(super) struct Annotation<T: 'static> {
    /// With its prefix.
    pub(super) name: &'static str,
    /// The kinds of objects on which it has an effect.
    pub(super) on: &'static [Kind],
    /// What may be written, for the page (Markdown).
    pub(super) values: &'static str,
    /// What it does, for the page (Markdown).
    pub(super) does: &'static str,
    /// Reads a value. The error says what is wrong and what to write instead: `what; write …`.
    pub(super) read: fn(&str) -> Result<T, String>,
}

impl<T> Annotation<T> {
    /// The value on an object; `None` when it is absent or cannot be read, of which [`check`] speaks.
    pub(super) fn of(&self, annotations: &Annotations) -> Option<T> {
        annotations
            .get(self.name)
            .and_then(|value| (self.read)(value).ok())
    }

    /// The same, and whether there is one that cannot be read: for those without which more would pass than is meant.
    pub(super) fn strictly_of(&self, annotations: &Annotations) -> Result<Option<T>, Unreadable> {
        match annotations.get(self.name) {
            None => Ok(None),
            Some(value) => (self.read)(value).map(Some).map_err(|_| Unreadable(self.name)),
        }
    }

    /// Where it stands in an object, for findings.
    pub(super) fn place(&self) -> String {
        place(self.name)
    }
}

/// Every row, in the order of the page.
fn rows() -> impl Iterator<Item = &'static dyn Row> {
    [TABLE, routing::ROWS, filters::ROWS, content::ROWS, door::ROWS]
        .into_iter()
        .flatten()
        .copied()
}

/// An annotation that cannot be read, and that must not count as absent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable(pub(super) &'static str);

/// What becomes of an object with a value that cannot be read.
fn consequence(name: &str) -> &'static str {
    match name.strip_prefix(ANNOTATION_PREFIX) {
        Some("match-method" | "match-header" | "match-query") => "the paths are left out",
        Some(name)
            if door::ROWS
                .iter()
                .any(|row| row.name().strip_prefix(ANNOTATION_PREFIX) == Some(name)) =>
        {
            "the paths answer 503"
        }
        _ => "has no effect",
    }
}

/// What all rows have in common, whatever their values are.
pub(super) trait Row: Sync {
    fn name(&self) -> &'static str;
    fn on(&self) -> &'static [Kind];
    fn values(&self) -> &'static str;
    fn does(&self) -> &'static str;
    fn check(&self, value: &str) -> Result<(), String>;
}

impl<T> Row for Annotation<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn on(&self) -> &'static [Kind] {
        self.on
    }

    fn values(&self) -> &'static str {
        self.values
    }

    fn does(&self) -> &'static str {
        self.does
    }

    fn check(&self, value: &str) -> Result<(), String> {
        (self.read)(value).map(drop)
    }
}

pub(super) fn place(name: &str) -> String {
    format!("metadata.annotations[{}]", printable(name))
}

/// The table as the page `docs/ingress.md` shows it.
pub fn reference() -> String {
    let mut text = "| Annotation | On | Values | Does |\n|---|---|---|---|\n".to_owned();
    for row in rows() {
        let kinds: Vec<&str> = row.on().iter().map(|kind| kind.as_str()).collect();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            row.name(),
            kinds.join(", "),
            row.values(),
            row.does()
        ));
    }
    text
}

/// Reports what is wrong with the annotations of one object.
pub(super) fn check(kind: Kind, name: &ObjectName, annotations: &Annotations, findings: &mut Findings) {
    for (key, value) in annotations {
        let mut report = |kind_of, message: String| findings.add(kind_of, (kind, name), place(key), message);
        match rows().find(|row| row.name() == &**key) {
            Some(row) if row.on().contains(&kind) => {
                if let Err(message) = row.check(value) {
                    let message = format!("{}: {message}", consequence(key));
                    report(FindingKind::InvalidValue, message);
                }
            }
            Some(row) => {
                let kinds: Vec<&str> = row.on().iter().map(|kind| kind.as_str()).collect();
                let message = format!(
                    "has no effect on a {}; write it on the {}",
                    kind.as_str(),
                    kinds.join(" or the ")
                );
                report(FindingKind::Unsupported, message);
            }
            None if key.starts_with(ANNOTATION_PREFIX) => report(
                FindingKind::Unsupported,
                match alike(key) {
                    Some(known) => format!("is not known and has no effect; did you mean {known}?"),
                    None => "is not known and has no effect; take it out, or look into docs/ingress.md for its name"
                        .to_owned(),
                },
            ),
            None => {}
        }
    }
}

/// A known name that somebody may have meant.
fn alike(key: &str) -> Option<&'static str> {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .flat_map(char::to_lowercase)
            .collect()
    };
    let wanted = plain(key);
    rows().map(|row| row.name()).find(|name| {
        plain(name) == wanted || plain(name) + "s" == wanted || plain(name) == wanted.clone() + "s"
    })
}
