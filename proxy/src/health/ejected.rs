use std::time::Duration;

use super::Standing;
use crate::moment::Moment;
use crate::snapshot::{CompiledEndpoint, CompiledPool};

/// Why an eligible endpoint gets no requests all the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ejected {
    /// The node, or next hop, whose ejection it is; `None`: its own.
    pub node: Option<String>,
    /// How long it lasts yet; `None`: its time is over, and single requests try whether it is back.
    pub left: Option<Duration>,
    /// So few are left that it is used all the same.
    pub used: bool,
}

impl Ejected {
    /// How an endpoint of a pool stands; `None`: it is not ejected.
    pub fn of(pool: &CompiledPool, endpoint: &CompiledEndpoint, now: Moment) -> Option<Self> {
        let used = || super::passive::panics(pool, now);
        let left = |standing| match standing {
            Standing::In => None,
            Standing::Trial => Some(None),
            Standing::Out(until) => Some(Some(now.until(until))),
        };
        if let Some(left) = left(endpoint.state.standing(now)) {
            return Some(Self {
                node: None,
                left,
                used: used(),
            });
        }
        let node = endpoint.node.as_ref()?;
        left(node.standing(now)).map(|left| Self {
            node: Some(node.behind().to_string()),
            left,
            used: used(),
        })
    }
}

impl std::fmt::Display for Ejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.node {
            None => f.write_str("ejected because requests to it failed")?,
            Some(node) => write!(f, "ejected with its node {node}")?,
        }
        match self.left {
            Some(left) => write!(f, ", for {} s more", left.as_secs().saturating_add(1))?,
            None => f.write_str(", and being tried again")?,
        }
        if self.used {
            f.write_str("; used all the same, for too few others are left")?;
        }
        Ok(())
    }
}
