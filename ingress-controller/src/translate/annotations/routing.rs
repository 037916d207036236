//! The rows that say which requests the paths of an Ingress take.

use std::collections::BTreeSet;
use std::sync::Arc;

use sekisho_config::model::FieldCondition;

use super::read::{boolean, header_conditions, methods, query_conditions};
use super::{Annotation, Row};
use crate::world::Kind;

const INGRESS: &[Kind] = &[Kind::Ingress];

/// Those of this file, for the table.
pub(super) static ROWS: &[&dyn Row] = &[&USE_REGEX, &MATCH_METHOD, &MATCH_HEADER, &MATCH_QUERY];

pub(in crate::translate) static USE_REGEX: Annotation<bool> = Annotation {
    name: "sekisho.io/use-regex",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"`",
    does: "paths of type `ImplementationSpecific` are regular expressions, see [routing.md](routing.md)",
    read: boolean,
};

pub(in crate::translate) static MATCH_METHOD: Annotation<BTreeSet<Arc<str>>> = Annotation {
    name: "sekisho.io/match-method",
    on: INGRESS,
    values: "methods, by commas: `GET, HEAD`",
    does: "the paths take requests of these methods only",
    read: methods,
};

pub(in crate::translate) static MATCH_HEADER: Annotation<BTreeSet<FieldCondition>> = Annotation {
    name: "sekisho.io/match-header",
    on: INGRESS,
    values: "one condition a line: `name=value`, `name~pattern`, `name`, `!name`",
    does: "the paths take requests with these header fields only, see [routing.md](routing.md)",
    read: header_conditions,
};

pub(in crate::translate) static MATCH_QUERY: Annotation<BTreeSet<FieldCondition>> = Annotation {
    name: "sekisho.io/match-query",
    on: INGRESS,
    values: "the same",
    does: "the same for query parameters",
    read: query_conditions,
};
