//! Placeholder until the cluster source is here.
