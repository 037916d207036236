use std::net::IpAddr;

use imbl::OrdSet;
use sekisho_config::model::Reach;

use super::{Delta, Rib};

/// The addresses that control asked about, with the last answer. Work follows the change, not the number tracked.
#[derive(Debug, Default)]
pub struct Tracker {
    addresses: OrdSet<IpAddr>,
}

impl Tracker {
    /// Takes the whole wanted set; returns answers for the new ones and `None` for those no longer tracked.
    pub fn track(&mut self, addresses: OrdSet<IpAddr>, rib: &Rib) -> Vec<(IpAddr, Option<Reach>)> {
        let _ = rib;
        self.addresses = addresses;
        todo!()
    }

    /// Which answers differ after a change of the table.
    pub fn changed(&mut self, delta: &Delta, rib: &Rib) -> Vec<(IpAddr, Option<Reach>)> {
        let _ = (delta, rib);
        todo!()
    }
}
