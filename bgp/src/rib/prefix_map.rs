use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::{DefaultHashBuilder, HashTable};
use sekisho_config::model::Prefix;

/// Marks a slot that holds nothing: no prefix is so long.
const VACANT: u8 = u8::MAX;

/// A map from prefixes to values that is made for millions: the values stand in an array, in the order in which they came. A
/// hash table finds them, eight neighbours at a time, since prefixes that come together are mostly neighbours: looking for the
/// next one then costs no walk through memory.
///
/// A longest match asks once for each length in use, of which real tables have few. What asks for order sorts.
#[derive(Debug)]
pub(crate) struct PrefixMap<T> {
    v4: Arm<u32, T>,
    v6: Arm<u128, T>,
}

/// Where a prefix stands, for as long as it is there; afterwards nothing or another one stands there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spot {
    V4(u32),
    V6(u32),
}

#[derive(Debug)]
struct Arm<B, T> {
    /// Numbers of blocks.
    index: HashTable<u32>,
    /// The block that was looked for last: the next prefix is mostly its neighbour.
    last: u32,
    blocks: Vec<Block<B>>,
    free_blocks: Vec<u32>,
    slots: Slots<B, T>,
    free: Vec<u32>,
    /// How many prefixes there are of each length.
    lengths: Vec<u32>,
    /// Of this process alone, so that no peer can choose prefixes that meet in one place.
    hasher: DefaultHashBuilder,
}

/// Eight neighbours of one length: prefixes that differ in their last three bits.
#[derive(Debug)]
struct Block<B> {
    /// What they have in common.
    bits: B,
    length: u8,
    /// Places of their values, or [`NONE`].
    places: [u32; 8],
}

/// Marks a neighbour that is not there.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<B, T> {
    value: T,
    bits: B,
    length: u8,
}

/// An array that grows by pieces, so that growing moves nothing and takes no more than is needed.
#[derive(Debug)]
struct Slots<B, T>(Vec<Vec<Slot<B, T>>>);

/// Slots of a piece, as a power of two.
const PIECE: u32 = 12;

impl<B, T> Slots<B, T> {
    fn get(&self, at: u32) -> Option<&Slot<B, T>> {
        self.0
            .get((at >> PIECE) as usize)?
            .get((at & ((1 << PIECE) - 1)) as usize)
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut Slot<B, T>> {
        self.0
            .get_mut((at >> PIECE) as usize)?
            .get_mut((at & ((1 << PIECE) - 1)) as usize)
    }

    fn len(&self) -> usize {
        self.0
            .last()
            .map_or(0, |last| ((self.0.len() - 1) << PIECE) + last.len())
    }

    fn push(&mut self, slot: Slot<B, T>) -> u32 {
        let at = u32::try_from(self.len()).expect("fewer than 2^32 prefixes: memory ends long before");
        if at & ((1 << PIECE) - 1) == 0 {
            self.0.push(Vec::with_capacity(1 << PIECE));
        }
        if let Some(last) = self.0.last_mut() {
            last.push(slot);
        }
        at
    }

    fn iter(&self) -> impl Iterator<Item = &Slot<B, T>> {
        self.0.iter().flatten()
    }
}

/// The bits of an address, first bit first.
trait Bits: Copy + Eq + Hash {
    const WIDTH: u8;
    /// The first `length` bits, the rest zero.
    fn truncate(self, length: u8) -> Self;
    /// The last three of the first `length` bits.
    fn last_three(self, length: u8) -> usize;
    fn prefix(self, length: u8) -> Option<Prefix>;
}

impl Bits for u32 {
    const WIDTH: u8 = 32;

    fn truncate(self, length: u8) -> Self {
        self & !Self::MAX.checked_shr(Self::from(length)).unwrap_or(0)
    }

    fn last_three(self, length: u8) -> usize {
        let shift = Self::from(<Self as Bits>::WIDTH.saturating_sub(length));
        (self.checked_shr(shift).unwrap_or(0) & 7) as usize
    }

    fn prefix(self, length: u8) -> Option<Prefix> {
        Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(self)), length)
    }
}

impl Bits for u128 {
    const WIDTH: u8 = 128;

    fn truncate(self, length: u8) -> Self {
        self & !Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }

    fn last_three(self, length: u8) -> usize {
        let shift = u32::from(Self::WIDTH.saturating_sub(length));
        (self.checked_shr(shift).unwrap_or(0) & 7) as usize
    }

    fn prefix(self, length: u8) -> Option<Prefix> {
        Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(self)), length)
    }
}

enum Key {
    V4(u32),
    V6(u128),
}

fn key(prefix: &Prefix) -> Key {
    match prefix.address() {
        IpAddr::V4(address) => Key::V4(address.to_bits()),
        IpAddr::V6(address) => Key::V6(address.to_bits()),
    }
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            v4: Arm::new(),
            v6: Arm::new(),
        }
    }
}

impl<T: Default> PrefixMap<T> {
    pub(crate) fn get(&self, prefix: &Prefix) -> Option<&T> {
        match key(prefix) {
            Key::V4(bits) => self.v4.get(bits, prefix.length()),
            Key::V6(bits) => self.v6.get(bits, prefix.length()),
        }
    }

    pub(crate) fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut T> {
        match key(prefix) {
            Key::V4(bits) => self.v4.get_mut(bits, prefix.length()),
            Key::V6(bits) => self.v6.get_mut(bits, prefix.length()),
        }
    }

    /// The value of a prefix, made where it is not there.
    #[cfg(test)]
    pub(crate) fn entry(&mut self, prefix: &Prefix) -> &mut T {
        self.entry_at(prefix).1
    }

    /// The value of a prefix, made where it is not there, and its place.
    pub(crate) fn entry_at(&mut self, prefix: &Prefix) -> (Spot, &mut T) {
        match key(prefix) {
            Key::V4(bits) => {
                let (at, value) = self.v4.entry(bits, prefix.length());
                (Spot::V4(at), value)
            }
            Key::V6(bits) => {
                let (at, value) = self.v6.entry(bits, prefix.length());
                (Spot::V6(at), value)
            }
        }
    }

    /// The place of a prefix.
    pub(crate) fn find(&self, prefix: &Prefix) -> Option<Spot> {
        match key(prefix) {
            Key::V4(bits) => self.v4.find(bits, prefix.length()).map(Spot::V4),
            Key::V6(bits) => self.v6.find(bits, prefix.length()).map(Spot::V6),
        }
    }

    /// The same for many neighbours, one after the other.
    pub(crate) fn find_next(&mut self, prefix: &Prefix) -> Option<Spot> {
        match key(prefix) {
            Key::V4(bits) => self.v4.find_next(bits, prefix.length()).map(Spot::V4),
            Key::V6(bits) => self.v6.find_next(bits, prefix.length()).map(Spot::V6),
        }
    }

    /// The value at a place, to be changed.
    pub(crate) fn value_mut(&mut self, place: Spot) -> Option<&mut T> {
        match place {
            Spot::V4(at) => self.v4.value_mut(at),
            Spot::V6(at) => self.v6.value_mut(at),
        }
    }

    /// What stands at a place.
    pub(crate) fn at(&self, place: Spot) -> Option<(Prefix, &T)> {
        match place {
            Spot::V4(at) => self.v4.at(at),
            Spot::V6(at) => self.v6.at(at),
        }
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, place: Spot) -> Option<(Prefix, &mut T)> {
        match place {
            Spot::V4(at) => self.v4.at_mut(at),
            Spot::V6(at) => self.v6.at_mut(at),
        }
    }

    #[cfg(test)]
    pub(crate) fn remove(&mut self, prefix: &Prefix) -> Option<T> {
        self.find(prefix).and_then(|place| self.remove_at(place))
    }

    /// Removes what stands at a place.
    pub(crate) fn remove_at(&mut self, place: Spot) -> Option<T> {
        match place {
            Spot::V4(at) => self.v4.remove(at),
            Spot::V6(at) => self.v6.remove(at),
        }
    }

    /// The places of all prefixes whose values `wanted` picks.
    pub(crate) fn places(&self, wanted: impl Fn(&T) -> bool) -> Vec<Spot> {
        let v4 = self.v4.places().filter(|(_, value)| wanted(value));
        let v6 = self.v6.places().filter(|(_, value)| wanted(value));
        v4.map(|(at, _)| Spot::V4(at))
            .chain(v6.map(|(at, _)| Spot::V6(at)))
            .collect()
    }

    /// Whether there is a prefix around what stands at a place, not itself, whose value `wanted` picks. Of lengths that `may` be
    /// wanted only: each that is asked for is a walk through memory.
    pub(crate) fn any_around(
        &self,
        place: Spot,
        may: impl Fn(u8) -> bool,
        wanted: impl Fn(&T) -> bool,
    ) -> bool {
        match place {
            Spot::V4(at) => self.v4.any_around(at, may, wanted),
            Spot::V6(at) => self.v6.any_around(at, may, wanted),
        }
    }

    /// Every prefix that holds `prefix`, itself included, longest first.
    pub(crate) fn covering<'a>(&'a self, prefix: &Prefix) -> Box<dyn Iterator<Item = (Prefix, &'a T)> + 'a> {
        match key(prefix) {
            Key::V4(bits) => Box::new(self.v4.covering(bits, prefix.length())),
            Key::V6(bits) => Box::new(self.v6.covering(bits, prefix.length())),
        }
    }

    /// Every prefix inside `prefix`, itself included, in order. Looks at all of the family.
    pub(crate) fn within(&self, prefix: &Prefix) -> Vec<(Prefix, &T)> {
        let inside = |found: &(Prefix, &T)| prefix.covers(&found.0);
        let mut found: Vec<_> = match key(prefix) {
            Key::V4(_) => self.v4.iter().filter(inside).collect(),
            Key::V6(_) => self.v6.iter().filter(inside).collect(),
        };
        found.sort_unstable_by_key(|(prefix, _)| *prefix);
        found
    }

    /// Every prefix, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix, &T)> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Every prefix: IPv4 first, each in order.
    pub(crate) fn sorted(&self) -> Vec<(Prefix, &T)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by_key(|(prefix, _)| *prefix);
        all
    }
}

impl<B: Bits, T> Arm<B, T> {
    fn new() -> Self {
        Self {
            index: HashTable::new(),
            last: 0,
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            slots: Slots(Vec::new()),
            free: Vec::new(),
            lengths: vec![0; usize::from(B::WIDTH) + 1],
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The block of a prefix.
    fn block(&self, bits: B, length: u8) -> Option<u32> {
        let bits = bits.truncate(length.saturating_sub(3));
        let same = |at: &u32| {
            self.blocks
                .get(*at as usize)
                .is_some_and(|block| block.bits == bits && block.length == length)
        };
        if same(&self.last) {
            return Some(self.last);
        }
        let hash = self.hasher.hash_one((bits, length));
        self.index.find(hash, same).copied()
    }

    fn find(&self, bits: B, length: u8) -> Option<u32> {
        let block = self.blocks.get(self.block(bits, length)? as usize)?;
        let at = block.places.get(bits.last_three(length)).copied()?;
        (at != NONE).then_some(at)
    }

    fn get(&self, bits: B, length: u8) -> Option<&T> {
        let at = self.find(bits, length)?;
        self.slots.get(at).map(|slot| &slot.value)
    }

    fn get_mut(&mut self, bits: B, length: u8) -> Option<&mut T> {
        let at = self.find(bits, length)?;
        self.slots.get_mut(at).map(|slot| &mut slot.value)
    }

    fn find_next(&mut self, bits: B, length: u8) -> Option<u32> {
        self.last = self.block(bits, length)?;
        self.find(bits, length)
    }

    fn value_mut(&mut self, at: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(at).filter(|slot| slot.length != VACANT)?;
        Some(&mut slot.value)
    }

    fn any_around(&self, at: u32, may: impl Fn(u8) -> bool, wanted: impl Fn(&T) -> bool) -> bool {
        let Some(slot) = self.slots.get(at).filter(|slot| slot.length != VACANT) else {
            return false;
        };
        let Some(wider) = slot.length.checked_sub(1) else {
            return false;
        };
        self.lengths_to(wider)
            .filter(|length| may(*length))
            .filter_map(|length| self.get(slot.bits.truncate(length), length))
            .any(wanted)
    }

    fn at(&self, at: u32) -> Option<(Prefix, &T)> {
        let slot = self.slots.get(at).filter(|slot| slot.length != VACANT)?;
        Some((slot.bits.prefix(slot.length)?, &slot.value))
    }

    fn at_mut(&mut self, at: u32) -> Option<(Prefix, &mut T)> {
        let slot = self.slots.get_mut(at).filter(|slot| slot.length != VACANT)?;
        Some((slot.bits.prefix(slot.length)?, &mut slot.value))
    }

    fn places(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(self.slots.iter())
            .filter(|(_, slot)| slot.length != VACANT)
            .map(|(at, slot)| (at, &slot.value))
    }

    fn covering(&self, bits: B, length: u8) -> impl Iterator<Item = (Prefix, &T)> {
        self.lengths_to(length).filter_map(move |length| {
            let bits = bits.truncate(length);
            Some((bits.prefix(length)?, self.get(bits, length)?))
        })
    }

    /// The lengths in use up to this one, longest first.
    fn lengths_to(&self, length: u8) -> impl Iterator<Item = u8> {
        let used = (0..=length).zip(&self.lengths).rev();
        used.filter(|(_, count)| **count > 0).map(|(length, _)| length)
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &T)> {
        self.slots
            .iter()
            .filter(|slot| slot.length != VACANT)
            .filter_map(|slot| Some((slot.bits.prefix(slot.length)?, &slot.value)))
    }
}

impl<B: Bits, T: Default> Arm<B, T> {
    fn entry(&mut self, bits: B, length: u8) -> (u32, &mut T) {
        let block = match self.block(bits, length) {
            Some(block) => block,
            None => self.insert_block(bits, length),
        };
        self.last = block;
        let known = self
            .blocks
            .get(block as usize)
            .and_then(|block| block.places.get(bits.last_three(length)).copied())
            .filter(|at| *at != NONE);
        let at = known.unwrap_or_else(|| self.insert(block, bits, length));
        let slot = self
            .slots
            .get_mut(at)
            .expect("every number in the blocks is a place in the array");
        (at, &mut slot.value)
    }

    fn insert_block(&mut self, bits: B, length: u8) -> u32 {
        let block = Block {
            bits: bits.truncate(length.saturating_sub(3)),
            length,
            places: [NONE; 8],
        };
        let hash = self.hasher.hash_one((block.bits, block.length));
        let at = match self.free_blocks.pop() {
            Some(at) => {
                if let Some(place) = self.blocks.get_mut(at as usize) {
                    *place = block;
                }
                at
            }
            None => {
                self.blocks.push(block);
                u32::try_from(self.blocks.len() - 1).expect("fewer blocks than prefixes")
            }
        };
        let (blocks, hasher) = (&self.blocks, &self.hasher);
        self.index.insert_unique(hash, at, |at| {
            blocks
                .get(*at as usize)
                .map_or(0, |block| hasher.hash_one((block.bits, block.length)))
        });
        at
    }

    fn insert(&mut self, block: u32, bits: B, length: u8) -> u32 {
        let slot = Slot {
            value: T::default(),
            bits,
            length,
        };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.slots.get_mut(at) {
                    *place = slot;
                }
                at
            }
            None => self.slots.push(slot),
        };
        let place = self
            .blocks
            .get_mut(block as usize)
            .and_then(|block| block.places.get_mut(bits.last_three(length)));
        if let Some(place) = place {
            *place = at;
        }
        if let Some(count) = self.lengths.get_mut(usize::from(length)) {
            *count += 1;
        }
        at
    }

    fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get(at).filter(|slot| slot.length != VACANT)?;
        let (bits, length) = (slot.bits, slot.length);
        let number = self.block(bits, length)?;
        self.last = number;
        let block = self.blocks.get_mut(number as usize)?;
        *block.places.get_mut(bits.last_three(length))? = NONE;
        if block.places == [NONE; 8] {
            let hash = self.hasher.hash_one((block.bits, block.length));
            // Nothing may find it any more, by its number either.
            block.length = VACANT;
            if let Ok(entry) = self.index.find_entry(hash, |at| *at == number) {
                entry.remove();
            }
            self.free_blocks.push(number);
        }
        let slot = self.slots.get_mut(at)?;
        slot.length = VACANT;
        let value = std::mem::take(&mut slot.value);
        if let Some(count) = self.lengths.get_mut(usize::from(length)) {
            *count -= 1;
        }
        self.free.push(at);
        if self.free.len() == self.slots.len() {
            // Empty again: what a million prefixes took is given back.
            *self = Self::new();
        }
        Some(value)
    }
}

#[cfg(test)]
#[path = "prefix_map_tests.rs"]
mod tests;
