use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_acme::OrderView;
use sekisho_config::model::{CertificateSource, HostPattern};
use serde::Serialize;

use super::word;
use crate::control::Picture;

/// One certificate that is served or wanted, with the hosts that it is for.
#[derive(Serialize)]
pub(crate) struct CertificateView {
    hosts: Vec<HostPattern>,
    /// `secret namespace/name`, `acme`, or `placeholder`.
    source: String,
    /// `valid`, `expired`, or what ACME says.
    state: String,
    issuer: Option<String>,
    not_after: Option<Timestamp>,
    seconds_left: Option<i64>,
    next_renewal: Option<Timestamp>,
    last_error: Option<String>,
    serial: Option<String>,
}

/// Certificates, ordered by the first host.
pub(crate) fn view(picture: &Picture, orders: &[OrderView]) -> Vec<CertificateView> {
    let Some(cluster) = &picture.desired.cluster else {
        return Vec::new();
    };
    let now = Timestamp::now();
    let mut by_key: BTreeMap<String, CertificateView> = BTreeMap::new();
    for (host, source) in &cluster.certificates {
        let key = match &**source {
            CertificateSource::Secret { secret, .. } => format!("secret {secret}"),
            CertificateSource::Acme { names, .. } => format!("acme {}", super::names(names)),
            CertificateSource::Placeholder { .. } => format!("placeholder {host}"),
        };
        by_key
            .entry(key)
            .or_insert_with(|| one(picture, source, orders, now))
            .hosts
            .push(host.clone());
    }
    let mut rows: Vec<_> = by_key.into_values().collect();
    rows.sort_by(|a, b| a.hosts.first().cmp(&b.hosts.first()));
    rows
}

fn one(
    picture: &Picture,
    source: &CertificateSource,
    orders: &[OrderView],
    now: Timestamp,
) -> CertificateView {
    let mut row = CertificateView {
        hosts: Vec::new(),
        source: "placeholder".into(),
        state: "placeholder served; see the findings".into(),
        issuer: None,
        not_after: None,
        seconds_left: None,
        next_renewal: None,
        last_error: None,
        serial: None,
    };
    let certificate = match source {
        CertificateSource::Secret { secret, certificate } => {
            row.source = format!("secret {secret}");
            Some(certificate)
        }
        CertificateSource::Acme { names, .. } => {
            row.source = "acme".into();
            row.state = "no order yet".into();
            if let Some(order) = orders.iter().find(|order| order.names == *names) {
                row.state = word(&order.state);
                row.next_renewal = order.next_attempt;
                row.last_error.clone_from(&order.last_error);
            }
            picture.observed.certificates.get(names)
        }
        CertificateSource::Placeholder { .. } => None,
    };
    if let Some(certificate) = certificate {
        row.issuer = Some(certificate.issuer.clone());
        row.not_after = Some(certificate.not_after);
        row.seconds_left = Some(certificate.not_after.as_second().saturating_sub(now.as_second()));
        row.serial = Some(certificate.serial.clone());
        if matches!(source, CertificateSource::Secret { .. }) {
            row.state = if now < certificate.not_before {
                "not yet valid"
            } else if now > certificate.not_after {
                "expired"
            } else {
                "valid"
            }
            .into();
        }
    }
    row
}
