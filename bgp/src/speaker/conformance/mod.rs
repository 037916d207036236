//! What the RFCs want done with more than six hundred messages, over TCP: one connection for each, many at once, against
//! a speaker as the appliance runs it.
//!
//! Whoever is treated as withdrawn had a route before; whatever leaves the session alone is followed by one more UPDATE, and
//! only when that has arrived in the routing table is anything looked at.

mod attributes;
mod driver;
mod headers;
mod opens;
mod paths;
mod reach;
mod roles;
mod states;
mod text;

use std::fmt::Write as _;

use futures::StreamExt as _;

use driver::{Bench, run};
use text::Place;

/// Who sends it: what was agreed on before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Of our AS, with every capability that a Calico node has.
    Internal,
    /// The same of AS 65001.
    External,
    /// Of our AS, without 4-octet AS numbers.
    OldInternal,
    /// Of AS 65001, without 4-octet AS numbers.
    OldExternal,
    /// Of AS 65001, with extended messages (RFC 8654).
    Extended,
    /// Of AS 65001, with IPv6 next hops for IPv4 (RFC 8950).
    NextHops,
    /// Of our AS, sends several paths (RFC 7911).
    Paths,
    /// Of AS 65001, with the role of a peer, which we ask for (RFC 9234).
    Lateral,
    /// Of AS 65001, with the role of a provider, whose customer we are.
    Customer,
    /// Of AS 65001, with the role of a customer, whose provider we are.
    Provider,
    /// Of our AS, IPv4 only, with route refresh and without RFC 7313.
    Plain,
    /// Of our AS, without a capability.
    Bare,
}

/// When it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    /// First of all, where an OPEN belongs.
    Connected,
    /// After the OPEN.
    Opened,
    /// On a session that stands.
    Established,
}

/// What has to become of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Want {
    /// The session stands, or comes to; nothing else is looked at.
    Fine,
    /// The case's prefix is there, nothing was wrong.
    Announced,
    /// The case's prefix is there; an attribute was dropped or prefixes were ignored.
    Discarded,
    /// The case's prefix is gone, because something was wrong (RFC 7606).
    Withdrawn,
    /// The case's prefix is gone, because it was withdrawn.
    Gone,
    /// The case's prefix is as it was before.
    Kept,
    /// The connection ends by a NOTIFICATION with this code, subcode and, where it is said, data.
    Reset(u8, u8, Option<&'static str>),
    /// The connection ends without a word of ours.
    Closed,
}

/// Connections that are open at a time.
const AT_ONCE: usize = 64;

/// One message and its outcome.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    kind: Kind,
    at: At,
    /// In the language of [`text`].
    octets: &'static str,
    want: Want,
}

/// A table: for each case who sends it and when, its name, its octets, its outcome.
macro_rules! cases {
    ($($kind:ident $at:ident $name:literal: $octets:literal => $want:expr;)*) => {
        &[$(Case {
            name: $name,
            kind: super::Kind::$kind,
            at: super::At::$at,
            octets: $octets,
            want: $want,
        }),*]
    };
}
use cases;

/// Everything of one table, so that a failure does not hide the others.
async fn all(tables: &[&[Case]]) {
    let cases: Vec<_> = tables.iter().flat_map(|table| table.iter().copied()).collect();
    let bench = Bench::start(&cases).await;
    let runs = cases.iter().enumerate().map(async |(number, case)| {
        let result = run(&bench, *case, Place::new(number)).await;
        (case, result)
    });
    let mut failures = String::new();
    let mut results = futures::stream::iter(runs).buffered(AT_ONCE);
    while let Some((case, result)) = results.next().await {
        if let Err(what) = result {
            let _ = writeln!(
                failures,
                "{:?} {}: wanted {:?}, {what}",
                case.kind, case.name, case.want
            );
        }
    }
    assert!(failures.is_empty(), "{} cases\n{failures}", cases.len());
}

#[tokio::test]
async fn messages_as_the_rfcs_have_them() {
    let tables = [
        headers::CASES,
        opens::CASES,
        states::CASES,
        attributes::CASES,
        paths::CASES,
        reach::CASES,
        roles::CASES,
    ];
    let count: usize = tables.iter().map(|table| table.len()).sum();
    assert!(count >= 600, "{count} cases");
    all(&tables).await;
}
