//! Where objects come from. Each source fills a `World` and publishes it whole.

mod cluster;
mod directory;
pub(crate) mod manifest;

use std::sync::Arc;

use sekisho_config::model::Finding;

use crate::world::World;

pub(crate) use cluster::{Cluster, Connect};
pub(crate) use directory::Directory;
pub use directory::check_directory;

/// A complete view of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// The objects.
    pub(crate) world: World,
    /// What the source itself found wrong: files that cannot be read, objects that cannot be parsed.
    pub(crate) findings: Arc<[Finding]>,
}
