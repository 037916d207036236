//! The lab: a small data centre in network namespaces, for `make demo`, the tests and the bench.
//!
//! Job: raise client, router, box, nodes with real BIRD daemons and pods on one machine ([`lab`]), drive them and
//! say what was measured ([`walk`]). Data in: the `sekisho` binary and the daemons that `tests/install` unpacked.
//! Data out: printed steps and an exit code.
//!
//! It never touches the machine's own network, and nothing survives it: everything lives in namespaces whose first
//! process is ours, and the kernel removes them when that process ends, however it ends.

pub mod lab;
pub mod walk;
