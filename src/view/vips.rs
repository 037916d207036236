use std::net::IpAddr;
use std::sync::Arc;

use sekisho_bgp::{AnnouncementView, CannotAnnounce, Missing, VipView as Announced};
use sekisho_config::model::{AnnounceTo, PeerName, Prefix, VipPurpose};
use serde::Serialize;

use crate::control::Picture;

/// One service address.
#[derive(Serialize)]
pub(crate) struct VipRow {
    pub(crate) address: IpAddr,
    pub(crate) pool: Arc<str>,
    /// `ingress`, or the Service.
    pub(crate) serves: String,
    /// To whom it would be announced, from the file.
    pub(crate) announce_to: Vec<AnnounceTo>,
    /// Peers that have it now.
    pub(crate) announced_to: Vec<PeerName>,
    /// What each of them was told.
    pub(crate) announcements: Vec<AnnouncementView>,
    /// Why it is withheld, from everybody or from one peer.
    pub(crate) withheld: Option<String>,
}

/// Every VIP in use.
pub(crate) fn view(picture: &Picture, announced: &[Announced]) -> Vec<VipRow> {
    picture
        .plan
        .vips
        .values()
        .map(|planned| {
            let vip = &planned.vip;
            let now = announced
                .iter()
                .find(|row| row.prefix == Prefix::host(vip.address));
            let withheld = match (&planned.announce, now) {
                (Err(why), _) => Some(why.to_string()),
                (Ok(()), None) if picture.settings.bgp.is_none() => Some("there is no [bgp] section".into()),
                (Ok(()), None) => Some("not announced yet".into()),
                (Ok(()), Some(now)) => missing(now),
            };
            VipRow {
                address: vip.address,
                pool: Arc::clone(&vip.pool),
                serves: match &vip.purpose {
                    VipPurpose::Ingress => "ingress".into(),
                    VipPurpose::Service { service, .. } => format!("service {service}"),
                },
                announce_to: vip.announce_to.clone(),
                announced_to: now.map(|now| now.announced_to.clone()).unwrap_or_default(),
                announcements: now.map(|now| now.announcements.clone()).unwrap_or_default(),
                withheld,
            }
        })
        .collect()
}

/// Which peers lack the VIP and why. A session for the other family lacks it by design once one peer has it.
fn missing(now: &Announced) -> Option<String> {
    let by_design = Missing::CannotAnnounce {
        why: CannotAnnounce::FamilyNotAgreed,
    };
    let lacking: Vec<_> = now
        .missing
        .iter()
        .filter(|missing| now.announced_to.is_empty() || missing.why != by_design)
        .map(|missing| format!("{}: {}", missing.peer, missing.text))
        .collect();
    (!lacking.is_empty()).then(|| lacking.join("; "))
}
