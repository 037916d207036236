//! Who is well: what traffic shows of endpoints and of the nodes behind them ([`passive`]), and what they answer when they
//! are asked ([`prober`]).

mod bench;
mod ejected;
mod node;
pub(crate) mod passive;
mod probe;
pub(crate) mod prober;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use bench::Bench;
pub use bench::Standing;
pub use ejected::Ejected;
pub(crate) use node::Behind;
pub use node::NodeState;
pub(crate) use passive::Sign;
