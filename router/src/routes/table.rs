//! A compact multimap of routes: entries in chunks that never move, found through a hash index of four bytes each.
//!
//! Growing adds a chunk and now and then doubles the index alone, so a route costs its 28 bytes and about ten more, at
//! every size. One table of whole entries would cost up to 57 just after it doubled, and leave its former self behind.

use hashbrown::HashTable;
use petrel_protocol::fanout::Incarnation;
use petrel_protocol::ids::{Address, Device, UserId};

use super::Claimant;

/// One route. Its edge and epoch are the lease's. Packed, since eight bytes of alignment would cost four a route.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(super) struct Entry {
    pub(super) user: u64,
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) shard: u16,
    pub(super) lease: u16,
    /// When its session connected, on the table's clock: 48 bits of milliseconds.
    connected_ms: [u8; 6],
    pub(super) device: Device,
}

const _: () = assert!(size_of::<Entry>() == 28);

/// Entries in a chunk: 1.75 KiB.
const CHUNK: usize = 64;
/// What stands in a place that is free; its `slot` is the next free place.
const FREE: Entry = Entry {
    user: 0,
    slot: NONE,
    generation: 0,
    shard: 0,
    lease: 0,
    connected_ms: [0; 6],
    device: Device::Android,
};
/// No place.
const NONE: u32 = u32::MAX;

impl Entry {
    /// The route of `claimant` under this lease.
    pub(super) fn new(claimant: &Claimant, lease: u16, connected_ms: u64) -> Self {
        let Claimant { user, device, address, .. } = *claimant;
        let Address { slot, generation, shard, .. } = address;
        let [bytes @ .., _, _] = connected_ms.to_le_bytes();
        Self { user: user.0, slot, generation, shard, lease, connected_ms: bytes, device }
    }

    pub(super) fn connected_ms(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.connected_ms);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn is_of(&self, user: UserId, device: Device) -> bool {
        self.user == user.0 && self.device == device
    }

    pub(super) fn is_at(&self, address: Address, lease: u16) -> bool {
        (self.slot, self.generation, self.shard, self.lease)
            == (address.slot, address.generation, address.shard, lease)
    }

    pub(super) fn address(&self, incarnation: Incarnation) -> Address {
        Address {
            edge: incarnation.edge,
            shard: self.shard,
            slot: self.slot,
            generation: self.generation,
            epoch: incarnation.epoch,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    /// Places of entries, by the hash of their users.
    index: HashTable<u32>,
    #[expect(
        clippy::vec_box,
        reason = "chunks in the vector itself would be moved, and doubled, as it grows"
    )]
    chunks: Vec<Box<[Entry; CHUNK]>>,
    /// Places that were ever used.
    used: u32,
    /// The first of those that are free again.
    free: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { index: HashTable::new(), chunks: Vec::new(), used: 0, free: NONE }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The entries of a user.
    pub(super) fn of(&self, user: UserId) -> impl Iterator<Item = &Entry> {
        let places = self.index.iter_hash(hash(user));
        places.map(|place| entry(&self.chunks, *place)).filter(move |entry| entry.user == user.0)
    }

    /// The entry of a user's device.
    pub(super) fn find_mut(&mut self, user: UserId, device: Device) -> Option<&mut Entry> {
        let chunks = &self.chunks;
        let place = *self.index.find(hash(user), |place| entry(chunks, *place).is_of(user, device))?;
        Some(&mut self.chunks[place as usize / CHUNK][place as usize % CHUNK])
    }

    /// Adds an entry for a user's device that has none.
    pub(super) fn insert(&mut self, new: Entry) {
        let place = if self.free == NONE {
            if self.used as usize == self.chunks.len() * CHUNK {
                self.chunks.push(Box::new([FREE; CHUNK]));
            }
            self.used += 1;
            self.used - 1
        } else {
            self.free
        };
        let held = &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK];
        if place == self.free {
            self.free = held.slot;
        }
        *held = new;
        let chunks = &self.chunks;
        let hash_of = |place: &u32| hash(UserId(entry(chunks, *place).user));
        self.index.insert_unique(hash(UserId(new.user)), place, hash_of);
    }

    /// Removes the first entry of the user that `is_it`; whether there was one.
    pub(super) fn remove(&mut self, user: UserId, is_it: impl Fn(&Entry) -> bool) -> bool {
        let chunks = &self.chunks;
        let found = self.index.find_entry(hash(user), |place| {
            let entry = entry(chunks, *place);
            entry.user == user.0 && is_it(entry)
        });
        let Ok(found) = found else { return false };
        let (place, _) = found.remove();
        set_free(&mut self.chunks, &mut self.free, place);
        true
    }

    /// Keeps what is to be kept, and gives memory back where most places are free; how many were removed.
    pub(super) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) -> usize {
        let before = self.index.len();
        let (chunks, free) = (&mut self.chunks, &mut self.free);
        self.index.retain(|place| {
            let is_kept = keep(entry(chunks, *place));
            if !is_kept {
                set_free(chunks, free, *place);
            }
            is_kept
        });
        if self.len() < self.used as usize / 4 {
            let mut packed = Self::default();
            for place in &self.index {
                packed.insert(*entry(&self.chunks, *place));
            }
            *self = packed;
        }
        before - self.index.len()
    }
}

fn entry(chunks: &[Box<[Entry; CHUNK]>], place: u32) -> &Entry {
    &chunks[place as usize / CHUNK][place as usize % CHUNK]
}

fn set_free(chunks: &mut [Box<[Entry; CHUNK]>], free: &mut u32, place: u32) {
    chunks[place as usize / CHUNK][place as usize % CHUNK] = Entry { slot: *free, ..FREE };
    *free = place;
}

/// The finaliser of `SplitMix64`: ids that count up spread over all bits. Users' ids are the server's, so nobody can
/// choose them to collide.
pub(super) fn hash(user: UserId) -> u64 {
    let x = (user.0 ^ (user.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(user: u64, slot: u32) -> Entry {
        Entry { user, slot, ..FREE }
    }

    #[test]
    fn it_agrees_with_a_plain_list_under_random_use() {
        let mut table = Table::default();
        let mut list: Vec<(u64, u32)> = Vec::new();
        let mut random = 1_u64;
        for step in 0..50_000_u32 {
            random = hash(UserId(random + 1));
            let user = 1 + random % 300;
            match random >> 60 {
                0..9 => {
                    if !list.iter().any(|(u, _)| *u == user) {
                        table.insert(new(user, step));
                        list.push((user, step));
                    }
                }
                9..15 => {
                    let place = list.iter().position(|(u, _)| *u == user);
                    assert_eq!(table.remove(UserId(user), |_| true), place.is_some());
                    place.map(|place| list.swap_remove(place));
                }
                _ => {
                    let before = list.len();
                    list.retain(|(u, _)| u % 7 != random % 7);
                    assert_eq!(table.retain(|e| e.user % 7 != random % 7), before - list.len());
                }
            }
            assert_eq!(table.len(), list.len());
            let found: Vec<_> = table.of(UserId(user)).map(|e| (e.user, e.slot)).collect();
            let expected: Vec<_> = list.iter().copied().filter(|(u, _)| *u == user).collect();
            assert_eq!(found, expected);
        }
        assert!(table.used <= 300, "freed places are used again: {}", table.used);
    }

    #[test]
    fn what_is_emptied_gives_its_chunks_back() {
        let mut table = Table::default();
        for user in 1..=10_000 {
            table.insert(new(user, 1));
        }
        assert_eq!(table.chunks.len(), 10_000_usize.div_ceil(CHUNK));
        assert_eq!(table.retain(|e| e.user <= 100), 9_900);
        assert_eq!(table.chunks.len(), 100_usize.div_ceil(CHUNK));
        assert!((1..=100).all(|user| table.of(UserId(user)).count() == 1));
    }
}
