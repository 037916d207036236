//! The ingress controller of Sekisho.
//!
//! Job: read Kubernetes objects from a cluster or from a directory of the same YAML, and say what they ask of the box.
//!
//! Data in: objects ([`world`]), the parts of the box's file that matter ([`Context`]). Data out: the wished part of the
//! state ([`sekisho_config::model::ClusterPart`]) with findings, whole each time, after the first complete view; and,
//! where the source is a cluster, the addresses in the objects' status.
//!
//! Both sources fill the same [`world::World`]; [`translate()`] is a pure function of it. This crate moves no traffic, opens
//! no listener and knows nothing of BGP, TLS handshakes or ACME.

pub mod addresses;
mod backoff;
mod controller;
mod key_sets;
mod metrics;
mod pod_networks;
mod source;
pub mod status;
#[cfg(test)]
mod test_api;
#[cfg(test)]
mod tests;
mod text;
pub mod translate;
mod view;
mod whole_file;
pub mod world;

pub use controller::{Event, Handle, Inputs, StartError, start};
pub use key_sets::{KeySet, Known as KnownKeySets};
pub use source::check_directory;
pub use translate::{Context, Translation, retain_shared, translate};
pub use view::{KindView, SourceView};

/// `spec.controller` of an IngressClass that is ours.
pub const CONTROLLER: &str = "sekisho.io/ingress-controller";
/// `spec.loadBalancerClass` of a Service that is ours; one without a class is ours as well.
pub const LOAD_BALANCER_CLASS: &str = "sekisho.io/load-balancer";
/// The name under which we write by server-side apply.
pub const FIELD_MANAGER: &str = "sekisho";
/// Our annotations begin so.
pub const ANNOTATION_PREFIX: &str = "sekisho.io/";
/// The annotation that named the class before `spec.ingressClassName`; still honoured.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
