//! Who is well: what traffic shows of endpoints and of the nodes behind them ([`passive`]).

mod bench;
mod ejected;
mod node;
pub(crate) mod passive;
#[cfg(test)]
mod tests;

pub(crate) use bench::Bench;
pub use bench::Standing;
pub use ejected::Ejected;
pub(crate) use node::Behind;
pub use node::NodeState;
pub(crate) use passive::Sign;
