//! Secrets and ConfigMaps that annotations of our Ingresses name: which those are, and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sekisho_config::model::FindingKind;

use super::annotations::{self, Annotation, Named, Unreadable};
use super::findings::Findings;
use super::{Context, class};
use crate::world::{Content, Ingress, Kind, Reference, World};

/// Objects of one namespace at most,
const MOST_OF_NAMESPACE: usize = 200;
/// and of all: the source watches each of them.
const MOST: usize = 2000;

/// URLs of key sets at most.
const MOST_URLS: usize = 200;

/// Why an object is not watched.
pub(crate) const TOO_MANY: &str = "annotations name more objects than are watched: 200 of a namespace, 2000 of all, those of the \
     oldest Ingresses first; let several Ingresses name the same one";

/// What our Ingresses name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct References {
    /// What is to be watched.
    pub(crate) watched: BTreeSet<Reference>,
    /// What is beyond the limits, in which the older Ingress comes first, so that a new one takes nothing from another.
    pub(crate) beyond: BTreeSet<Reference>,
}

/// The objects that our Ingresses name, each in its own namespace.
pub(crate) fn references(world: &World, context: &Context) -> References {
    let mut found = References::default();
    let mut of_namespace: BTreeMap<&str, usize> = BTreeMap::new();
    for ingress in class::quietly_ours(world, context) {
        for named in annotations::named(&ingress.annotations) {
            let reference = named.of(ingress);
            if found.watched.contains(&reference) {
                continue;
            }
            let count = of_namespace.entry(&ingress.name.namespace).or_default();
            if *count < MOST_OF_NAMESPACE && found.watched.len() < MOST {
                *count += 1;
                found.watched.insert(reference);
            } else {
                found.beyond.insert(reference);
            }
        }
    }
    found
}

/// The URLs of key sets that our Ingresses name, those of the oldest first where they are too many.
pub(crate) fn key_set_urls(world: &World, context: &Context) -> BTreeSet<Arc<str>> {
    let mut found = BTreeSet::new();
    for ingress in class::quietly_ours(world, context) {
        if let Ok(Some(url)) = annotations::JWT_JWKS_URL.strictly_of(&ingress.annotations)
            && found.len() < MOST_URLS
        {
            found.insert(url);
        }
    }
    found
}

/// The object that this annotation names; `None` without the annotation. Without the object, `consequence` and why are a finding.
pub(super) fn content<'a>(
    row: &'static Annotation<Named>,
    world: &'a World,
    ingress: &Ingress,
    consequence: &str,
    findings: &mut Findings,
) -> Result<Option<&'a Arc<Content>>, Unreadable> {
    let Some(named) = row.strictly_of(&ingress.annotations)? else {
        return Ok(None);
    };
    world.content(&named.of(ingress)).map(Some).map_err(|why| {
        unusable(row, ingress, &format!("{consequence}: {why}"), findings);
        Unreadable(row.name)
    })
}

/// Says that an object does not hold what it is to hold.
pub(super) fn unusable(
    row: &'static Annotation<Named>,
    ingress: &Ingress,
    message: &str,
    findings: &mut Findings,
) {
    findings.add(
        FindingKind::ReferenceUnusable,
        (Kind::Ingress, &ingress.name),
        row.place(),
        message,
    );
}
