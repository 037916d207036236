//! The rows, in the order of the page.

use sekisho_config::model::Balance;

use super::read::{boolean, one_of};
use super::{Annotation, Row};
use crate::world::Kind;

const INGRESS: &[Kind] = &[Kind::Ingress];
const BOTH: &[Kind] = &[Kind::Service, Kind::Ingress];

/// Every row; a row that is not listed here has no effect and no line on the page.
pub(in crate::translate) static TABLE: &[&dyn Row] = &[&ACME, &BALANCE, &CLASS];

pub(in crate::translate) static ACME: Annotation<bool> = Annotation {
    name: "sekisho.io/acme",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"`",
    does: "certificates for the hosts of `spec.tls` by ACME: one order for each entry, at most 100 names",
    read: boolean,
};

pub(in crate::translate) static BALANCE: Annotation<Balance> = Annotation {
    name: "sekisho.io/balance",
    on: BOTH,
    values: "`least_request` (default), `round_robin`",
    does: "how requests are spread; on an Ingress for all its Services",
    read: |value| {
        one_of(
            value,
            &[
                ("round_robin", Balance::RoundRobin),
                ("least_request", Balance::LeastRequest),
            ],
        )
    },
};

pub(in crate::translate) static CLASS: Annotation<()> = Annotation {
    name: crate::CLASS_ANNOTATION,
    on: INGRESS,
    values: "our class",
    does: "see [above](#which-ingresses-are-ours)",
    read: |_| Ok(()),
};
