//! Another path in the place of the one that matched.

use regex::Regex;
use sekisho_config::model::{PathMatch, PathTemplate, TemplatePiece};

use crate::path;

/// What of a path is replaced.
#[derive(Debug)]
pub(super) enum Base {
    /// All of it.
    Whole,
    /// Its beginning: a prefix in normal form without trailing slash.
    Prefix(Box<str>),
    /// All of it, with the groups at hand.
    Groups(Regex),
}

impl Base {
    pub(super) fn compile(rule: &PathMatch) -> Self {
        match path::rule(rule) {
            Some(PathMatch::Prefix(prefix)) => {
                Self::Prefix(prefix.strip_suffix('/').unwrap_or(&prefix).into())
            }
            Some(PathMatch::Regex(pattern)) => pattern.regex().map_or(Self::Whole, Self::Groups),
            Some(PathMatch::Exact(_)) | None => Self::Whole,
        }
    }

    /// Whether it is there in a path as it stands.
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Groups(regex) => regex.is_match(path),
        }
    }

    /// `path`, which this route's rule matches, by `template`. Where it does so only without the parameters of its segments,
    /// they are left out.
    pub(super) fn replace(&self, path: &str, template: &PathTemplate) -> String {
        let plain = path::without_parameters(path).filter(|_| !self.takes(path));
        let path = plain.as_deref().unwrap_or(path);
        let groups = match self {
            Self::Groups(regex) => regex.captures(path),
            Self::Whole | Self::Prefix(_) => None,
        };
        let mut out = String::with_capacity(path.len() + 16);
        for piece in template.pieces() {
            match piece {
                TemplatePiece::Text(text) => out.push_str(text),
                TemplatePiece::Group(group) => {
                    let matched = groups.as_ref().and_then(|groups| groups.get(*group));
                    out.push_str(matched.map_or("", |matched| matched.as_str()));
                }
            }
        }
        if let Self::Prefix(prefix) = self {
            let rest = path.get(prefix.len()..).unwrap_or_default();
            if !rest.is_empty() {
                out.truncate(out.trim_end_matches('/').len());
                out.push_str(rest);
            }
        }
        if !out.starts_with('/') {
            out.insert(0, '/');
        }
        out
    }
}
