//! The rows whose value names a Secret or ConfigMap. Nothing else decides which of them are read.

use std::sync::Arc;

use sekisho_config::model::ObjectName;

use super::{Annotation, door, filters};
use crate::text::{is_object_name, printable};
use crate::world::{Annotations, Ingress, Kind, Reference};

/// Those rows. One that is not listed here names an object that is never there.
static NAMED: &[&Annotation<Named>] = &[
    &door::CLIENT_CA_SECRET,
    &door::JWT_JWKS_SECRET,
    &door::JWT_JWKS_CONFIG_MAP,
    &door::AUTH_BASIC_SECRET,
    &filters::ERROR_PAGES,
];

/// An object in the namespace of the Ingress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::translate) struct Named {
    kind: Kind,
    name: Arc<str>,
}

impl Named {
    pub(in crate::translate) fn of(&self, ingress: &Ingress) -> Reference {
        let name = ObjectName::new(ingress.name.namespace.clone(), self.name.clone());
        (self.kind, name)
    }
}

/// What the annotations of an Ingress name.
pub(in crate::translate) fn named(annotations: &Annotations) -> impl Iterator<Item = Named> {
    NAMED.iter().filter_map(|row| row.of(annotations))
}

/// A reader: the name of a Secret.
pub(super) fn secret(value: &str) -> Result<Named, String> {
    name(value, Kind::NamedSecret)
}

/// A reader: the name of a ConfigMap.
pub(super) fn config_map(value: &str) -> Result<Named, String> {
    name(value, Kind::ConfigMap)
}

fn name(value: &str, kind: Kind) -> Result<Named, String> {
    if is_object_name(value, 253) {
        return Ok(Named {
            kind,
            name: value.into(),
        });
    }
    Err(format!(
        "`{}` is not a name; write the name of a {kind} in the namespace of the Ingress (those of other namespaces are never read)",
        printable(value)
    ))
}
