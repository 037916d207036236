//! What sessions with peers and ranges are held to.

use std::sync::Arc;

use super::fault::{At, Log, Place, quote};
use super::table::Table;
use crate::model::{Asn, BgpRole, Invalid, Peer, PeerRange, SessionSettings};

/// Octets of a shutdown text (RFC 9003).
const LONGEST_TEXT: usize = 255;

/// The keys that peers and ranges have in common.
pub(super) fn settings(table: &Table<'_>, log: &Log) -> SessionSettings {
    let role = table
        .word("bgp_role")
        .and_then(|at| BgpRole::ALL.into_iter().find(|role| role.to_string() == at.value));
    let role_strict = table.bool("bgp_role_strict").unwrap_or(false);
    if role_strict && !table.has("bgp_role") {
        log.warn(
            &table.place_of("bgp_role_strict"),
            "there is no bgp_role that the peer's could be held against",
            "write bgp_role, or remove it",
        );
    }
    SessionSettings {
        role,
        role_strict,
        shutdown: None,
    }
}

/// The text of a peer that is shut down.
pub(super) fn shutdown(table: &Table<'_>) -> Option<Arc<str>> {
    let read = |text: &str| {
        if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
            return Err(Invalid::new(
                format!(
                    "{} is longer than 255 octets, or holds control characters",
                    quote(text)
                ),
                "write one short line for the operator of the peer; an empty one is allowed",
            ));
        }
        Ok(Arc::from(text))
    };
    table.text("shutdown", read).map(|at| at.value)
}

/// A role is something between two AS (RFC 9234 section 4) and does nothing inside ours.
pub(super) fn check(asn: Option<Asn>, peers: &[At<Peer>], ranges: &[At<PeerRange>], log: &Log) {
    let Some(asn) = asn else {
        return;
    };
    let peers = peers
        .iter()
        .map(|at| (&at.place, &at.value.asn, &at.value.session));
    let ranges = ranges
        .iter()
        .map(|at| (&at.place, &at.value.asn, &at.value.session));
    for (place, peer_as, session) in peers.chain(ranges) {
        if session.role.is_some() && peer_as.number(asn) == Some(asn) {
            let place = Place {
                line: place.line,
                key: format!("{}.bgp_role", place.key),
            };
            log.warn(
                &place,
                "the peer is of our own AS, and roles are between two AS (RFC 9234)",
                "remove it",
            );
        }
    }
}
