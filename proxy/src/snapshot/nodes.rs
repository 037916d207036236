use std::sync::{Arc, Weak};

use crate::health::{Behind, NodeState};

/// The state of every node that stands behind an endpoint; one that stands behind none any more is forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    known: imbl::HashMap<Behind, Weak<NodeState>>,
    /// How many there were after the last cleaning.
    alive: usize,
}

impl Nodes {
    pub(super) fn of(&mut self, behind: Behind) -> Arc<NodeState> {
        if let Some(state) = self.known.get(&behind).and_then(Weak::upgrade) {
            return state;
        }
        if self.known.len() > 2 * self.alive + 64 {
            self.known.retain(|_, state| state.strong_count() > 0);
            self.alive = self.known.len();
        }
        let state = Arc::new(NodeState::new(behind.clone()));
        self.known.insert(behind, Arc::downgrade(&state));
        state
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn what_stands_behind_nothing_is_forgotten() {
        let mut nodes = Nodes::default();
        let behind = |n: u32| Behind::NextHop(IpAddr::from(std::net::Ipv4Addr::from(n)));
        let kept = nodes.of(behind(0));
        for n in 1..10_000 {
            drop(nodes.of(behind(n)));
        }
        assert!(nodes.known.len() < 200, "{}", nodes.known.len());
        assert!(Arc::ptr_eq(&kept, &nodes.of(behind(0))));
    }
}
