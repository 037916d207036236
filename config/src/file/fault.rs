use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::model::Invalid;

/// Characters of a message that are kept; a file can hold a value of any length.
const LONGEST: usize = 500;

/// A file that is named and cannot be read.
pub(super) fn unreadable(error: &io::Error) -> Invalid {
    Invalid::new(
        format!("the file cannot be read: {}", error.kind()),
        "correct the path or the permissions",
    )
}

/// One thing in the file that cannot be used as written.
///
/// Prints as `file:line: key: what; instead`, always in one line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Fault {
    /// Name of the file, as the caller gave it.
    pub file: Arc<str>,
    /// Line in the file, from 1.
    pub line: usize,
    /// Path of the key, for example `bgp.peers[0].asn`; `syntax` where no key can be named.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            key,
            what,
            instead,
        } = self;
        write!(f, "{}:{line}: {key}: {what}; {instead}", printable(file))
    }
}

impl std::error::Error for Fault {}

/// `text` in one line: control characters (and the ones that turn the direction of writing) escaped, the length bounded.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A value as messages quote it: at most 60 characters of it.
pub(super) fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", printable(&short))
}

/// A URL as messages quote it: its user part may be a password.
pub(super) fn quote_url(text: &str) -> String {
    if text.contains('@') {
        "the value".to_owned()
    } else {
        quote(text)
    }
}

/// Where a value stands in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) key: String,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Collects what is said about one file.
#[derive(Debug)]
pub(super) struct Log {
    file: Arc<str>,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    /// Lines on which the parser stumbled; what was recovered from them is not judged a second time.
    broken: RefCell<BTreeSet<usize>>,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl Log {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let starts = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(at, _)| at + 1);
        Self {
            file: file.into(),
            lines: std::iter::once(0).chain(starts).collect(),
            broken: RefCell::default(),
            faults: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// The line, from 1, on which `span` begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|start| *start <= span.start).max(1)
    }

    /// Records a fault of the TOML itself.
    pub(super) fn syntax(&self, line: usize, key: &str, what: &str, instead: &str) {
        self.broken.borrow_mut().insert(line);
        self.push(&self.faults, line, key, what, instead);
    }

    /// Whether the text is not even TOML.
    pub(super) fn has_syntax_faults(&self) -> bool {
        !self.broken.borrow().is_empty()
    }

    pub(super) fn fault(&self, place: &Place, what: impl AsRef<str>, instead: impl AsRef<str>) {
        if !self.broken.borrow().contains(&place.line) {
            self.push(
                &self.faults,
                place.line,
                &place.key,
                what.as_ref(),
                instead.as_ref(),
            );
        }
    }

    pub(super) fn invalid(&self, place: &Place, invalid: &Invalid) {
        self.fault(place, &invalid.what, invalid.instead);
    }

    pub(super) fn warn(&self, place: &Place, what: impl AsRef<str>, instead: impl AsRef<str>) {
        self.push(
            &self.warnings,
            place.line,
            &place.key,
            what.as_ref(),
            instead.as_ref(),
        );
    }

    /// Faults and warnings, each in the order of the file.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Fault>) {
        let mut lists = (self.faults.into_inner(), self.warnings.into_inner());
        for list in [&mut lists.0, &mut lists.1] {
            list.sort_by_key(|fault| fault.line);
            list.dedup();
        }
        lists
    }

    fn push(&self, list: &RefCell<Vec<Fault>>, line: usize, key: &str, what: &str, instead: &str) {
        list.borrow_mut().push(Fault {
            file: Arc::clone(&self.file),
            line,
            key: if key.is_empty() {
                "\"\"".to_owned()
            } else {
                printable(key)
            },
            what: printable(what),
            instead: printable(instead),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines() {
        let log = Log::new("f", "a\nbc\n\nd");
        for (offset, want) in [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (6, 4), (7, 4), (99, 4)] {
            assert_eq!(log.line(&(offset..offset)), want, "offset {offset}");
        }
    }

    #[test]
    fn messages_are_one_bounded_line() {
        for (input, want) in [
            ("plain ü", "plain ü"),
            ("a\nb\u{1b}[31m", "a\\u{a}b\\u{1b}[31m"),
            ("\u{202e}x", "\\u{202e}x"),
        ] {
            assert_eq!(printable(input), want, "{input:?}");
        }
        assert!(printable(&"x".repeat(10_000)).chars().count() <= LONGEST + 1);
        assert_eq!(quote(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
        assert_eq!(quote(&"x".repeat(60)), format!("`{}`", "x".repeat(60)));
    }
}
