//! Namespaces, daemons, pods and clients of the lab. `docs/lab.md` has the picture.

mod account;
mod address;
mod appliance;
mod authority;
mod bird;
mod client;
mod daemon;
mod enter;
mod load;
mod manifest;
mod netns;
mod pod;
mod raised;
mod vty;
mod wait;

pub use account::{cpu_seconds, peak_memory};
pub use address::{BOX, Machine, NODE1, NODE2, NODE3, NODES, Node, ROUTER, VIP_V4, VIP_V6};
pub use appliance::{Appliance, Settings};
pub use authority::{Authority, SelfSigned};
pub use bird::{Bird, BirdVersion, node_configuration, router_configuration};
pub use client::{Connection, Response, Target, Tls};
pub use daemon::{Daemon, package, program, workspace};
pub use enter::{State, enter};
pub use load::{Load, Sample, Tally};
pub use manifest::{EndpointPod, Manifests};
pub use netns::{Counters, Netns, ip, join, switch};
pub use pod::{Pod, echo_program};
pub use raised::Lab;
pub use vty::vty;
pub use wait::{Ended, now, wait_for};
