//! The BGP speaker of Sekisho.
//!
//! Job: hold sessions with the cluster's nodes and the routers above, learn where pods are, tell control which
//! addresses are reachable, keep the kernel's routes equal to the best paths, announce the VIPs of one
//! [`announce::Plan`].
//!
//! Data in: [`sekisho_config::model::Bgp`], a plan, a set of addresses to track; octets from peers.
//! Data out: [`sekisho_config::model::Reach`] of the tracked addresses, routes in the kernel, octets to peers, views.
//!
//! It does not know what a pod, a Service or a request is.

pub mod announce;
pub mod bfd;
mod bmp;
mod error;
pub mod fib;
mod fsm;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod metrics;
pub mod mrt;
pub mod policy;
pub mod rib;
mod session;
mod speaker;
mod view;
pub mod wire;

pub use error::StartError;
pub use fsm::State;
pub use session::{CannotAnnounce, EndedBy, LastError, MessageCounts};
pub use speaker::{Event, Handle, Inputs, start};
pub use view::{AnnouncementView, ListenerView, Missing, MissingView, PeerView, RatesView, VipView};
