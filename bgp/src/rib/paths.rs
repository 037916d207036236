use std::ops::{Deref, DerefMut};

use super::forwarding::ForwardingId;
use super::sources::SourceId;

/// One path: what a peer said about a prefix. Most of it is shared with other prefixes and stands in [`super::sources`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) source: SourceId,
    path_id: u32,
    has_path_id: bool,
    pub(super) stale: bool,
}

impl Path {
    pub(super) fn new(source: SourceId, path_id: Option<u32>) -> Self {
        Self {
            source,
            path_id: path_id.unwrap_or_default(),
            has_path_id: path_id.is_some(),
            stale: false,
        }
    }

    /// Split in two fields to keep a path at 12 octets.
    pub(super) fn path_id(&self) -> Option<u32> {
        self.has_path_id.then_some(self.path_id)
    }
}

/// The paths of one prefix, best first. Most prefixes have one path, which is kept without an allocation of its own.
#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(Path),
    #[expect(
        clippy::box_collection,
        reason = "a vector is 24 octets, its box 8, and there may be a million of us"
    )]
    Many(Box<Vec<Path>>),
}

impl Deref for Paths {
    type Target = [Path];

    fn deref(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

impl DerefMut for Paths {
    fn deref_mut(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }
}

impl Paths {
    pub(super) fn push(&mut self, path: Path) {
        match self {
            Self::None => *self = Self::One(path),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, path])),
            Self::Many(paths) => paths.push(path),
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        match self {
            Self::None => {}
            Self::One(path) => {
                if !keep(path) {
                    *self = Self::None;
                }
            }
            Self::Many(paths) => {
                paths.retain(keep);
                match paths.as_slice() {
                    [] => *self = Self::None,
                    [only] => *self = Self::One(*only),
                    _ => {}
                }
            }
        }
    }
}

/// Everything about one prefix.
#[derive(Debug, Default)]
pub(super) struct Destination {
    pub(super) paths: Paths,
    /// Where its packets go.
    pub(super) forwarding: Option<ForwardingId>,
    /// How many paths, from the first, carry packets.
    pub(super) used: u16,
}

impl Destination {
    pub(super) fn used_paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().take(usize::from(self.used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_memory_depends_on() {
        assert_eq!(size_of::<Path>(), 12);
        assert_eq!(size_of::<Paths>(), 16);
        assert_eq!(size_of::<Destination>(), 24);
    }
}
