//! Which Ingresses are ours (`spec.ingressClassName`, the old annotation, the default class).

use std::sync::Arc;

use sekisho_config::model::{FindingKind, ObjectName};

use super::findings::Findings;
use super::{Context, annotations};
use crate::text::printable;
use crate::world::{Ingress, Kind, World};
use crate::{CLASS_ANNOTATION, CONTROLLER};

/// Our Ingresses, the oldest first: those that win.
pub(super) fn ours<'a>(
    world: &'a World,
    context: &Context,
    findings: &mut Findings,
) -> Vec<&'a Arc<Ingress>> {
    let class = Class::find(world, context);
    for (name, other) in &world.ingress_classes {
        if &*other.controller == CONTROLLER && *name.name != *context.ingress_class {
            findings.add(
                FindingKind::Unsupported,
                (Kind::IngressClass, name),
                "spec.controller",
                format!(
                    "names our controller, but this box serves class `{}`; its Ingresses are left alone: write `ingress_class = \
                     \"{}\"` into [source] of a box that is to serve them",
                    context.ingress_class, name.name
                ),
            );
        }
    }
    if !class.usable {
        class.explain(world, context, findings);
    }
    let ours = class.ours(world, context);
    for ingress in &ours {
        annotations::check(Kind::Ingress, &ingress.name, &ingress.annotations, findings);
    }
    ours
}

/// The same, and nothing said of what is wrong.
pub(super) fn quietly_ours<'a>(world: &'a World, context: &Context) -> Vec<&'a Arc<Ingress>> {
    Class::find(world, context).ours(world, context)
}

/// Older first; without a time (a file) after those that have one, by name.
fn age(ingress: &Ingress) -> (bool, Option<jiff::Timestamp>, &ObjectName) {
    (ingress.created.is_none(), ingress.created, &ingress.name)
}

/// What the IngressClass objects say of our class.
struct Class {
    usable: bool,
    default: bool,
}

impl Class {
    fn find(world: &World, context: &Context) -> Self {
        let name = ObjectName::new("", context.ingress_class.clone());
        match world.ingress_classes.get(&name) {
            Some(class) => {
                let usable = &*class.controller == CONTROLLER;
                Self {
                    usable,
                    default: usable && class.default,
                }
            }
            None => Self {
                usable: context.class_by_name,
                default: false,
            },
        }
    }

    fn ours<'a>(&self, world: &'a World, context: &Context) -> Vec<&'a Arc<Ingress>> {
        let all = world.ingresses.values();
        let mut ours: Vec<_> = all.filter(|ingress| self.takes(ingress, context)).collect();
        ours.sort_by(|a, b| age(a).cmp(&age(b)));
        ours
    }

    /// Why Ingresses that name our class are not served.
    fn explain(&self, world: &World, context: &Context, findings: &mut Findings) {
        let named = |ingress: &&Arc<Ingress>| ingress.class_name.as_ref() == Some(&context.ingress_class);
        let count = world.ingresses.values().filter(named).count();
        if count == 0 {
            return;
        }
        let name = ObjectName::new("", context.ingress_class.clone());
        let message = match world.ingress_classes.get(&name) {
            None => format!(
                "does not exist, and {count} Ingresses that name it are not served; create it with spec.controller: {CONTROLLER}"
            ),
            Some(class) => format!(
                "has spec.controller `{}`, and {count} Ingresses that name it are not served; for this box it has to be {CONTROLLER}",
                printable(&class.controller)
            ),
        };
        findings.add(
            FindingKind::InvalidValue,
            (Kind::IngressClass, &name),
            "",
            message,
        );
    }

    fn takes(&self, ingress: &Ingress, context: &Context) -> bool {
        match (&ingress.class_name, ingress.annotations.get(CLASS_ANNOTATION)) {
            (Some(name), _) => self.usable && *name == context.ingress_class,
            // The API text asks to honour the annotation, and that without an IngressClass object.
            (None, Some(name)) => *name == context.ingress_class,
            (None, None) => self.default,
        }
    }
}
