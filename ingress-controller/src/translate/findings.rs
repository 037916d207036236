use std::collections::BTreeSet;

use sekisho_config::model::{Finding, FindingKind, ObjectName};

use super::MAX_FINDINGS;
use crate::world::Kind;

/// Findings as they come up; each once.
#[derive(Default)]
pub(super) struct Findings {
    set: BTreeSet<Finding>,
    beyond: usize,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        kind: FindingKind,
        object: (Kind, &ObjectName),
        place: impl Into<String>,
        message: impl Into<String>,
    ) {
        if self.set.len() >= MAX_FINDINGS {
            self.beyond = self.beyond.saturating_add(1);
            return;
        }
        self.set.insert(Finding {
            kind,
            object_kind: object.0.as_str(),
            object: object.1.clone(),
            place: place.into(),
            message: message.into(),
        });
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.set.into_iter().collect();
        if let Some(last) = findings.last_mut()
            && self.beyond > 0
        {
            let beyond = self.beyond;
            last.message
                .push_str(&format!(" (and {beyond} findings more; repair these first)"));
        }
        findings
    }
}
