//! Changes of header sections.

use http::{HeaderName, HeaderValue};
use sekisho_config::model::HeaderChanges;

use crate::fields::{Fields, Name};

#[derive(Debug, Default)]
pub(super) struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

impl Edits {
    /// What cannot stand in a header section was refused when it was read, and is left out here.
    pub(super) fn compile(changes: &HeaderChanges) -> Self {
        let fields = |list: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
            list.iter()
                .filter_map(|(name, value)| {
                    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                    Some((name, HeaderValue::from_str(value).ok()?))
                })
                .collect()
        };
        Self {
            remove: changes
                .remove
                .iter()
                .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .collect(),
            set: fields(&changes.set),
            add: fields(&changes.add),
        }
    }

    /// Whether a field of this name is the route's to say.
    pub(super) fn decides(&self, name: Name<'_>) -> bool {
        let named = |list: &[(HeaderName, HeaderValue)]| list.iter().any(|(of, _)| name == *of);
        self.remove.iter().any(|other| name == *other) || named(&self.set) || named(&self.add)
    }

    pub(super) fn apply(&self, headers: &mut Fields) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value);
        }
        for (name, value) in &self.add {
            headers.append(name, value);
        }
    }
}
