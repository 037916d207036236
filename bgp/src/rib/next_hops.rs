use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use sekisho_config::model::Prefix;

/// What the kernel knows by itself: its routes that are not ours, on links that are up, and its own addresses.
///
/// Persistent: a copy costs a pointer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NextHops {
    /// The best of the kernel's own routes of each prefix (lowest metric).
    pub routes: OrdMap<Prefix, KernelRoute>,
    /// Addresses of the box itself.
    pub local: OrdSet<IpAddr>,
    /// Names of the links that are up, with carrier, by index.
    pub links: OrdMap<u32, Arc<str>>,
}

/// A route of the kernel that is not ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelRoute {
    /// Where it leads.
    pub target: KernelTarget,
    /// Its metric (priority).
    pub metric: u32,
}

/// Where a kernel route leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KernelTarget {
    /// Neighbours are on this interface.
    Connected {
        /// Index of the interface.
        interface: u32,
    },
    /// Another router (of a multipath route the first whose link is up).
    Via {
        /// The router.
        gateway: IpAddr,
        /// Index of the interface.
        interface: u32,
    },
    /// Packets are dropped: blackhole, unreachable, prohibit.
    Reject,
}
