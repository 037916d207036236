use super::Attributes;

/// LLGR_STALE: kept although the peer that said it has been away for long (RFC 9494 section 4.3).
const LLGR_STALE: u32 = 0xffff_0006;
/// NO_LLGR: not to be kept so.
const NO_LLGR: u32 = 0xffff_0007;

impl Attributes {
    /// Whether somebody on the way keeps the path for a peer that is away: whatever else there is goes before it.
    pub fn is_long_lived_stale(&self) -> bool {
        self.communities.contains(&LLGR_STALE)
    }

    /// The same, marked so; `None` where the path forbids it.
    pub(crate) fn long_lived_stale(&self) -> Option<Self> {
        if self.communities.contains(&NO_LLGR) {
            return None;
        }
        let mut marked = self.clone();
        if !self.is_long_lived_stale() {
            marked.communities.push(LLGR_STALE);
        }
        Some(marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_marked_once_or_not_kept() {
        for (communities, want) in [
            (vec![], Some(vec![LLGR_STALE])),
            (vec![7, LLGR_STALE], Some(vec![7, LLGR_STALE])),
            (vec![7], Some(vec![7, LLGR_STALE])),
            (vec![NO_LLGR], None),
            (vec![LLGR_STALE, NO_LLGR], None),
        ] {
            let attributes = Attributes {
                communities: communities.clone(),
                ..Attributes::default()
            };
            let got = attributes.long_lived_stale();
            assert!(got.iter().all(Attributes::is_long_lived_stale));
            assert_eq!(got.map(|got| got.communities), want, "{communities:?}");
        }
    }
}
