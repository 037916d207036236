//! The vocabulary of Sekisho.
//!
//! Job: give every room the same words. [`model`] holds plain data (ids, prefixes, hosts, pools, VIPs, peers;
//! what is *wished* and what is *seen*); [`file`] turns the box's TOML file into it.
//!
//! Data in: one TOML text. Data out: [`model::Settings`], or every fault of the text at once.
//!
//! It does no network I/O, knows no Kubernetes type, holds no lock and starts no task.

mod chain;
pub mod file;
pub mod model;

pub use chain::chain;
