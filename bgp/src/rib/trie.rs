use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sekisho_config::model::Prefix;

/// Marks "no node" and "no value".
const NONE: u32 = u32::MAX;

/// A path-compressed binary trie from prefixes to numbers, in one array without pointers: 20 octets a node for IPv4,
/// 32 for IPv6, less than two nodes for each prefix. Walks go in the order of [`Prefix`].
#[derive(Debug)]
pub(super) struct Trie<B> {
    nodes: Vec<Node<B>>,
    free: Vec<u32>,
    root: u32,
}

/// The bits of an address, first bit first.
pub(super) trait Bits: Copy + Eq {
    const WIDTH: u8;
    /// Bit at a position below [`Self::WIDTH`].
    fn bit(self, position: u8) -> bool;
    /// How many leading bits are the same.
    fn common(self, other: Self) -> u8;
    /// The first `length` bits, the rest zero.
    fn truncate(self, length: u8) -> Self;
    fn prefix(self, length: u8) -> Option<Prefix>;
}

impl Bits for u32 {
    const WIDTH: u8 = 32;

    fn bit(self, position: u8) -> bool {
        self.wrapping_shl(Self::from(position)) >> 31 == 1
    }

    fn common(self, other: Self) -> u8 {
        u8::try_from((self ^ other).leading_zeros()).unwrap_or(Self::WIDTH)
    }

    fn truncate(self, length: u8) -> Self {
        self & !Self::MAX.checked_shr(Self::from(length)).unwrap_or(0)
    }

    fn prefix(self, length: u8) -> Option<Prefix> {
        Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(self)), length)
    }
}

impl Bits for u128 {
    const WIDTH: u8 = 128;

    fn bit(self, position: u8) -> bool {
        self.wrapping_shl(u32::from(position)) >> 127 == 1
    }

    fn common(self, other: Self) -> u8 {
        u8::try_from((self ^ other).leading_zeros()).unwrap_or(Self::WIDTH)
    }

    fn truncate(self, length: u8) -> Self {
        self & !Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }

    fn prefix(self, length: u8) -> Option<Prefix> {
        Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(self)), length)
    }
}

#[derive(Clone, Copy, Debug)]
struct Node<B> {
    bits: B,
    children: [u32; 2],
    value: u32,
    length: u8,
}

/// Where the number of a node is kept.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Child { of: u32, side: bool },
}

impl<B: Bits> Trie<B> {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }

    pub(super) fn get(&self, bits: B, length: u8) -> Option<u32> {
        let mut found = None;
        self.walk_down(bits, length, |node| {
            if node.length == length {
                found = value_of(node);
            }
        });
        found
    }

    /// Sets the value of a prefix. `value` is below `u32::MAX`.
    pub(super) fn insert(&mut self, bits: B, length: u8, value: u32) {
        let bits = bits.truncate(length);
        let mut link = Link::Root;
        loop {
            let id = self.follow(link);
            let Some(node) = self.node(id).copied() else {
                let leaf = self.allocate(bits, length, value);
                self.set(link, leaf);
                return;
            };
            let common = bits.common(node.bits).min(length).min(node.length);
            if common == node.length && common == length {
                if let Some(node) = self.node_mut(id) {
                    node.value = value;
                }
                return;
            }
            if common == node.length {
                link = Link::Child {
                    of: id,
                    side: bits.bit(node.length),
                };
                continue;
            }
            if common == length {
                let above = self.allocate(bits, length, value);
                self.set(link, above);
                self.set(
                    Link::Child {
                        of: above,
                        side: node.bits.bit(length),
                    },
                    id,
                );
                return;
            }
            let leaf = self.allocate(bits, length, value);
            let fork = self.allocate(bits.truncate(common), common, NONE);
            let side = bits.bit(common);
            self.set(link, fork);
            self.set(Link::Child { of: fork, side }, leaf);
            self.set(
                Link::Child {
                    of: fork,
                    side: !side,
                },
                id,
            );
            return;
        }
    }

    pub(super) fn remove(&mut self, bits: B, length: u8) -> Option<u32> {
        let mut above = Link::Root;
        let mut link = Link::Root;
        loop {
            let id = self.follow(link);
            let node = *self.node(id)?;
            if node.length > length || bits.common(node.bits) < node.length {
                return None;
            }
            if node.length < length {
                above = link;
                link = Link::Child {
                    of: id,
                    side: bits.bit(node.length),
                };
                continue;
            }
            let removed = value_of(&node)?;
            if let Some(node) = self.node_mut(id) {
                node.value = NONE;
            }
            self.splice(link);
            // The node above may have been a mere fork that now has one branch. After splicing at the root both
            // links are the root, and a second look at it does no harm.
            self.splice(above);
            return Some(removed);
        }
    }

    /// Values of every prefix that holds this one, itself included, shortest first.
    pub(super) fn covering(&self, bits: B, length: u8, mut visit: impl FnMut(u8, u32)) {
        self.walk_down(bits, length, |node| {
            if let Some(value) = value_of(node) {
                visit(node.length, value);
            }
        });
    }

    /// Prefixes inside this one, itself included, in order.
    pub(super) fn within(&self, bits: B, length: u8) -> Within<'_, B> {
        let bits = bits.truncate(length);
        let mut id = self.root;
        let start = loop {
            let Some(node) = self.node(id) else { break NONE };
            let common = bits.common(node.bits).min(length).min(node.length);
            if common == length {
                break id;
            }
            if common < node.length {
                break NONE;
            }
            id = child(node, bits.bit(node.length));
        };
        Within {
            trie: self,
            stack: vec![start],
        }
    }

    fn walk_down(&self, bits: B, length: u8, mut visit: impl FnMut(&Node<B>)) {
        let mut id = self.root;
        while let Some(node) = self.node(id) {
            if node.length > length || bits.common(node.bits) < node.length {
                return;
            }
            visit(node);
            if node.length == length {
                return;
            }
            id = child(node, bits.bit(node.length));
        }
    }

    /// Takes a node without a value out of the way when it joins fewer than two branches.
    fn splice(&mut self, link: Link) {
        let id = self.follow(link);
        let Some(node) = self.node(id) else { return };
        if node.value != NONE {
            return;
        }
        let [left, right] = node.children;
        let ((NONE, heir) | (heir, NONE)) = (left, right) else {
            return;
        };
        self.set(link, heir);
        self.free.push(id);
    }

    fn allocate(&mut self, bits: B, length: u8, value: u32) -> u32 {
        let node = Node {
            bits,
            children: [NONE, NONE],
            value,
            length,
        };
        if let Some(id) = self.free.pop()
            && let Some(place) = self.node_mut(id)
        {
            *place = node;
            return id;
        }
        let id = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes: memory ends long before");
        self.nodes.push(node);
        id
    }

    fn node(&self, id: u32) -> Option<&Node<B>> {
        self.nodes.get(id as usize)
    }

    fn node_mut(&mut self, id: u32) -> Option<&mut Node<B>> {
        self.nodes.get_mut(id as usize)
    }

    fn follow(&self, link: Link) -> u32 {
        match link {
            Link::Root => self.root,
            Link::Child { of, side } => self.node(of).map_or(NONE, |node| child(node, side)),
        }
    }

    fn set(&mut self, link: Link, id: u32) {
        match link {
            Link::Root => self.root = id,
            Link::Child { of, side } => {
                if let Some(node) = self.node_mut(of) {
                    let [left, right] = &mut node.children;
                    *(if side { right } else { left }) = id;
                }
            }
        }
    }
}

/// See [`Trie::within`].
pub(super) struct Within<'a, B> {
    trie: &'a Trie<B>,
    stack: Vec<u32>,
}

impl<B: Bits> Iterator for Within<'_, B> {
    type Item = (B, u8, u32);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(id) = self.stack.pop() {
            let Some(node) = self.trie.node(id) else { continue };
            let [left, right] = node.children;
            self.stack.push(right);
            self.stack.push(left);
            if let Some(value) = value_of(node) {
                return Some((node.bits, node.length, value));
            }
        }
        None
    }
}

fn child<B>(node: &Node<B>, side: bool) -> u32 {
    let [left, right] = node.children;
    if side { right } else { left }
}

fn value_of<B>(node: &Node<B>) -> Option<u32> {
    (node.value != NONE).then_some(node.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn nodes_are_small() {
        assert_eq!(size_of::<Node<u32>>(), 20);
        assert_eq!(size_of::<Node<u128>>(), 32);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u8, u32),
        Remove(u32, u8),
    }

    /// Few distinct addresses, so that prefixes nest and meet.
    fn key() -> impl Strategy<Value = (u32, u8)> {
        (
            prop::sample::select(vec![0u32, 0x0a00_0000, 0x0a00_0040, 0x0aff_0000, 0xffff_ffff]),
            0u8..64,
            0u8..=32,
        )
            .prop_map(|(base, low, length)| ((base ^ u32::from(low)).truncate(length), length))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (key(), 0u32..1000).prop_map(|((bits, length), value)| Step::Insert(bits, length, value)),
            2 => key().prop_map(|(bits, length)| Step::Remove(bits, length)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec(step(), 0..200), probe in key()) {
            let mut trie = Trie::<u32>::new();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(bits, length, value) => {
                        trie.insert(bits, length, value);
                        model.insert((bits, length), value);
                    }
                    Step::Remove(bits, length) => {
                        prop_assert_eq!(trie.remove(bits, length), model.remove(&(bits, length)));
                    }
                }
            }
            let all: Vec<_> = trie.within(0, 0).collect();
            let want: Vec<_> = model.iter().map(|((bits, length), value)| (*bits, *length, *value)).collect();
            prop_assert_eq!(all, want, "in order, nothing lost");
            let live = trie.nodes.len() - trie.free.len();
            prop_assert!(live <= (2 * model.len()).saturating_sub(usize::from(!model.is_empty())), "forks go away");

            let (bits, length) = probe;
            prop_assert_eq!(trie.get(bits, length), model.get(&(bits, length)).copied());
            let mut covering = Vec::new();
            trie.covering(bits, length, |length, value| covering.push((length, value)));
            let want: Vec<_> = (0..=length)
                .filter_map(|l| model.get(&(bits.truncate(l), l)).map(|value| (l, *value)))
                .collect();
            prop_assert_eq!(covering, want);
            let within: Vec<_> = trie.within(bits, length).collect();
            let want: Vec<_> = model
                .iter()
                .filter(|((b, l), _)| *l >= length && b.truncate(length) == bits)
                .map(|((b, l), value)| (*b, *l, *value))
                .collect();
            prop_assert_eq!(within, want);
        }

        #[test]
        fn bits_of_v6(a: u128, b: u128, length in 0u8..=128) {
            let common = a.common(b);
            prop_assert_eq!(a.truncate(common), b.truncate(common));
            if common < 128 {
                prop_assert_ne!(a.bit(common), b.bit(common));
            }
            prop_assert!(a.truncate(length).common(a) >= length);
        }
    }
}
