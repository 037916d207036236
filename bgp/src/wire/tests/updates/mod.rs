//! UPDATE: octets and what becomes of them. Each row is one message; the outcome is the RFC's, named in the row.

mod attributes;
mod paths;
mod prefixes;
mod structure;

use super::*;

/// What must become of an UPDATE.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// Announced, not a word of fault.
    Accept,
    /// Announced, with this fault told (RFC 7606 attribute discard, and what is merely ignored).
    Discard(&'static str),
    /// Everything withdrawn, with this fault told (RFC 7606 treat-as-withdraw).
    Withdraw(&'static str),
    /// Nothing announced or withdrawn, with this fault told.
    Nothing(&'static str),
    /// The connection ends with UPDATE Message Error, this subcode and these octets.
    Reset(u8, &'static str),
}
use Want::{Accept, Discard, Nothing, Reset, Withdraw};

const ORIGIN: &str = "400101 00";
const PATH: &str = "400206 0201 0000fde8";
const HOP: &str = "400304 c0000201";
const BASE: &str = "400101 00 400206 0201 0000fde8 400304 c0000201";
const NLRI: &str = "18 cb0071";
/// MP_REACH_NLRI of 2001:db8:1::/48 by 2001:db8::1.
const REACH: &str = "800e1c 0002 01 10 20010db8000000000000000000000001 00 30 20010db80001";
const UNREACH: &str = "800f0a 0002 01 30 20010db80002";

/// Withdrawn routes, attributes, NLRI, with the two lengths put in.
fn body(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let counted = |text| {
        let octets = hex(text);
        [
            u16::try_from(octets.len()).unwrap().to_be_bytes().to_vec(),
            octets,
        ]
        .concat()
    };
    [counted(withdrawn), counted(attributes), hex(nlri)].concat()
}

fn check(name: &str, negotiated: &Negotiated, body: &[u8], want: Want) {
    let got = read(&message(2, body), negotiated);
    let told = |update: &Update, fault: &str| {
        assert!(
            update.faults.iter().any(|told| told.contains(fault)),
            "{name}: {fault:?} is not told in {:?}",
            update.faults
        );
    };
    match (want, got) {
        (Accept, Ok(Message::Update(update))) => {
            assert_eq!(update.faults, [""; 0], "{name}");
            assert!(
                !update.announced.is_empty() && update.attributes.is_some(),
                "{name}: {update:?}"
            );
        }
        (Discard(fault), Ok(Message::Update(update))) => {
            assert!(
                !update.announced.is_empty() && update.attributes.is_some(),
                "{name}: {update:?}"
            );
            told(&update, fault);
        }
        (Withdraw(fault), Ok(Message::Update(update))) => {
            assert!(
                update.announced.is_empty() && update.attributes.is_none(),
                "{name}: {update:?}"
            );
            assert!(!update.withdrawn.is_empty(), "{name}: {update:?}");
            told(&update, fault);
        }
        (Nothing(fault), Ok(Message::Update(update))) => {
            assert!(
                update.announced.is_empty() && update.withdrawn.is_empty(),
                "{name}: {update:?}"
            );
            assert_eq!(update.attributes, None, "{name}");
            told(&update, fault);
        }
        (Reset(subcode, data), Err(error)) => {
            let notification = error.notification();
            assert_eq!(
                (notification.code, notification.subcode),
                (3, subcode),
                "{name}: {error}"
            );
            assert_eq!(&notification.data[..], hex(data), "{name}: {error}");
        }
        (want, got) => panic!("{name}: want {want:?}, got {got:?}"),
    }
}
