//! What the admin API shows, each page a pure function of one [`Picture`](crate::control::Picture).

pub(crate) mod certificates;
pub(crate) mod endpoints;
pub(crate) mod explain;
pub(crate) mod status;
pub(crate) mod vips;
