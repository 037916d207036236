use std::sync::Arc;

use bytes::Bytes;
use sekisho_config::model::BgpRole;

use super::{Attributes, RawAttribute, Update};

/// Type of ONLY_TO_CUSTOMER.
const OTC: u8 = 35;

/// Roles of both sides, and what follows from them for ONLY_TO_CUSTOMER (RFC 9234 section 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnlyToCustomer {
    /// What we are to the peer.
    pub role: BgpRole,
    /// Our AS.
    pub local: u32,
    /// The peer's AS.
    pub remote: u32,
}

impl OnlyToCustomer {
    /// Whether a path may go to the peer: what came from above or from aside goes down only.
    pub fn may_send(&self, attributes: &Attributes) -> bool {
        let down = matches!(self.role, BgpRole::Provider | BgpRole::Rs);
        down || attributes.only_to_customer().is_none()
    }

    /// What ONLY_TO_CUSTOMER has to say on the way to the peer, where nothing is said yet.
    pub(super) fn added(&self, attributes: &Attributes) -> Option<u32> {
        let marks = matches!(self.role, BgpRole::Provider | BgpRole::Peer | BgpRole::Rs);
        (marks && attributes.only_to_customer().is_none()).then_some(self.local)
    }

    /// Applies the rules of ingress: a leak becomes a withdrawal, with the reason among the faults; what comes from above or
    /// from aside is marked.
    pub fn receive(&self, update: &mut Update) {
        let Some(attributes) = &mut update.attributes else {
            return;
        };
        let marked = attributes.only_to_customer();
        let leak = match (self.role, marked) {
            (BgpRole::Provider | BgpRole::Rs, Some(_)) => true,
            (BgpRole::Peer, Some(by)) => by != self.remote,
            _ => false,
        };
        if leak {
            let by = marked.unwrap_or_default();
            let theirs = self.role.opposite();
            update.faults.push(format!(
                "route leak: a {theirs} announces what AS {by} marked as for customers only (RFC 9234)"
            ));
            let announced = std::mem::take(&mut update.announced);
            update
                .withdrawn
                .extend(announced.into_iter().map(|(nlri, _)| nlri));
            update.attributes = None;
            return;
        }
        if marked.is_none() && matches!(self.role, BgpRole::Customer | BgpRole::Peer | BgpRole::RsClient) {
            Arc::make_mut(attributes).unknown.push(raw(self.remote));
        }
    }
}

/// The attribute.
pub(super) fn raw(by: u32) -> RawAttribute {
    RawAttribute {
        flags: 0xc0,
        code: OTC,
        value: Bytes::copy_from_slice(&by.to_be_bytes()),
    }
}

impl Attributes {
    /// The AS that marked the path with ONLY_TO_CUSTOMER.
    pub fn only_to_customer(&self) -> Option<u32> {
        let attribute = self.unknown.iter().find(|attribute| attribute.code == OTC)?;
        attribute.value.first_chunk().map(|by| u32::from_be_bytes(*by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{NextHop, Nlri};

    fn update(marked: Option<u32>) -> Update {
        let nlri = Nlri {
            path_id: None,
            prefix: "10.1.0.0/24".parse().unwrap(),
        };
        let next_hop = NextHop {
            address: [192, 0, 2, 1].into(),
            link_local: None,
        };
        Update {
            announced: vec![(nlri, next_hop)],
            attributes: Some(Arc::new(attributes(marked))),
            ..Update::default()
        }
    }

    fn attributes(marked: Option<u32>) -> Attributes {
        Attributes {
            unknown: marked.map(raw).into_iter().collect(),
            ..Attributes::default()
        }
    }

    #[test]
    fn what_goes_where() {
        use BgpRole::*;
        // Our role, the mark; then: in, `None` for a leak, else the mark it has then; out, likewise.
        for (role, marked, received, sent) in [
            (Provider, None, Some(None), Some(Some(1))),
            (Provider, Some(2), None, Some(Some(2))),
            (Provider, Some(7), None, Some(Some(7))),
            (Rs, None, Some(None), Some(Some(1))),
            (Rs, Some(7), None, Some(Some(7))),
            (RsClient, None, Some(Some(2)), Some(None)),
            (RsClient, Some(7), Some(Some(7)), None),
            (Customer, None, Some(Some(2)), Some(None)),
            (Customer, Some(7), Some(Some(7)), None),
            (Peer, None, Some(Some(2)), Some(Some(1))),
            (Peer, Some(2), Some(Some(2)), None),
            (Peer, Some(7), None, None),
        ] {
            let otc = OnlyToCustomer {
                role,
                local: 1,
                remote: 2,
            };
            let mut update = update(marked);
            otc.receive(&mut update);
            let got = update.attributes.as_ref().map(|kept| kept.only_to_customer());
            assert_eq!(got, received, "in, {role} {marked:?}");
            assert_eq!(
                (update.announced.len(), update.withdrawn.len()),
                if received.is_some() { (1, 0) } else { (0, 1) }
            );
            assert_eq!(update.faults.is_empty(), received.is_some());
            let going = attributes(marked);
            let got = otc.may_send(&going).then(|| otc.added(&going).or(marked));
            assert_eq!(got, sent, "out, {role} {marked:?}");
        }
    }
}
