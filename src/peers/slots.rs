//! The slab of peers and the lists they stand in.
//!
//! A slot is small and holds no buffer: what a peer needs only while it speaks is borrowed from the
//! pools. Slots never move, so lists link them by number. This file never sends.

use crate::access::Standing;
use crate::hub::audience::NOBODY;
use crate::hub::event::Seq;

/// No buffer of a pool.
pub(super) const NO_BUFFER: u16 = u16::MAX;

/// How far behind its audience a viewer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has everything its audience has: its own cursor is not looked at.
    Front,
    /// It waits for the next tick of its interval.
    Waiting,
    /// It gets every event after its cursor; of the next one, `offset` bytes are sent.
    Replay { offset: u32 },
    /// It gets the last event of each topic up to `bound`, then every event.
    CatchUp { bound: Seq, fresh: bool },
}

/// What a peer is doing. The four places of a viewer are phases of their own, which makes this 24
/// bytes and not 32; `viewer` puts them together again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Nobody has this slot.
    Free,
    /// It was accepted and has not said anything, or its last answer is sent and nothing has come
    /// since. It has no buffer.
    Idle { since_ms: u64 },
    /// It has something to say and waits, unread, for a buffer.
    Starved { since_ms: u64 },
    /// It is asking or being answered.
    Busy { exchange: u16 },
    /// It is held and fed, and has everything its audience has.
    Front { audience: u32 },
    /// As `Front`, behind that: see `Place`.
    Waiting { audience: u32, cursor: Seq },
    /// See `Place`.
    Replay {
        audience: u32,
        cursor: Seq,
        offset: u32,
    },
    /// See `Place`.
    CatchUp {
        audience: u32,
        cursor: Seq,
        bound: Seq,
        fresh: bool,
    },
    /// It is held until there is something to answer; `exchange` keeps requests behind this one.
    Poll {
        audience: u32,
        cursor: Seq,
        expiry_ms: u64,
        exchange: u16,
        /// Without news it is answered with 304.
        is_conditional: bool,
    },
    /// Its last bytes are going out; then the connection closes.
    Ending { since_ms: u64 },
    /// It has everything; what it still sends is thrown away until it goes.
    Closing { since_ms: u64 },
}

impl Phase {
    /// A viewer's.
    pub(super) fn of_viewer(audience: u32, cursor: Seq, place: Place) -> Phase {
        match place {
            Place::Front => Phase::Front { audience },
            Place::Waiting => Phase::Waiting { audience, cursor },
            Place::Replay { offset } => Phase::Replay {
                audience,
                cursor,
                offset,
            },
            Place::CatchUp { bound, fresh } => Phase::CatchUp {
                audience,
                cursor,
                bound,
                fresh,
            },
        }
    }

    /// A viewer's audience, cursor (0 at the front) and place.
    pub(super) fn viewer(&self) -> Option<(u32, Seq, Place)> {
        match *self {
            Phase::Front { audience } => Some((audience, 0, Place::Front)),
            Phase::Waiting { audience, cursor } => Some((audience, cursor, Place::Waiting)),
            Phase::Replay {
                audience,
                cursor,
                offset,
            } => Some((audience, cursor, Place::Replay { offset })),
            Phase::CatchUp {
                audience,
                cursor,
                bound,
                fresh,
            } => Some((audience, cursor, Place::CatchUp { bound, fresh })),
            _ => None,
        }
    }
}

/// One peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) phase: Phase,
    /// The buffer with bytes its socket did not take.
    pub(super) spill: u16,
    pub(super) flags: u8,
    /// What its address says of its rights, once that was asked for.
    pub(super) standing: Option<Standing>,
}

/// The socket took less than it was offered; it will say when it takes more.
pub(super) const BLOCKED: u8 = 1;
/// There may be input that was not read.
pub(super) const READABLE: u8 = 2;
/// The peer will send no more.
pub(super) const HALF_CLOSED: u8 = 4;
/// It stands on the run list.
pub(super) const QUEUED: u8 = 8;

impl Slot {
    const FREE: Slot = Slot {
        phase: Phase::Free,
        spill: NO_BUFFER,
        flags: 0,
        standing: None,
    };

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn mark(&mut self, flag: u8, on: bool) {
        self.flags = if on {
            self.flags | flag
        } else {
            self.flags & !flag
        };
    }
}

/// A list of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List(u32);

impl List {
    pub(super) const IDLE: List = List(0);
    pub(super) const BUSY: List = List(1);
    pub(super) const STARVED: List = List(2);
    pub(super) const ENDING: List = List(3);
    pub(super) const CLOSING: List = List(4);

    /// The members of an audience that have what it has.
    pub(super) const fn front(audience: u32) -> List {
        List(5 + 2 * audience)
    }

    /// The other members.
    pub(super) const fn behind(audience: u32) -> List {
        List(6 + 2 * audience)
    }
}

impl Phase {
    /// The list that a peer in this phase stands in.
    fn list(&self) -> Option<List> {
        Some(match *self {
            Phase::Free => return None,
            Phase::Idle { .. } => List::IDLE,
            Phase::Busy { .. } => List::BUSY,
            Phase::Starved { .. } => List::STARVED,
            Phase::Ending { .. } => List::ENDING,
            Phase::Closing { .. } => List::CLOSING,
            Phase::Front { audience } | Phase::Poll { audience, .. } => List::front(audience),
            Phase::Waiting { audience, .. }
            | Phase::Replay { audience, .. }
            | Phase::CatchUp { audience, .. } => List::behind(audience),
        })
    }

    /// The audience at whose front a peer in this phase stands.
    pub(super) fn front(&self) -> Option<u32> {
        match *self {
            Phase::Front { audience } | Phase::Poll { audience, .. } => Some(audience),
            _ => None,
        }
    }
}

/// The neighbours in a list that is a ring through one link of its own, behind those of all slots.
/// A bare array, because a vector of those is zero without being touched.
type Link = [u32; 2];
const PREV: usize = 0;
const NEXT: usize = 1;

/// A way along a list.
pub(super) struct Walk<'s> {
    /// Those of slots alone.
    links: &'s [Link],
    /// The next link; one of a list's own is the end.
    at: u32,
}

impl Walk<'_> {
    /// Whether nobody is left.
    pub(super) fn is_over(&self) -> bool {
        self.at as usize >= self.links.len()
    }

    /// The next slot, or `NOBODY`.
    pub(super) fn here(&self) -> u32 {
        slot_at(self.links.len(), self.at)
    }
}

/// The slot that a link is that of, or `NOBODY` if it is that of a list.
fn slot_at(slots: usize, link: u32) -> u32 {
    if (link as usize) < slots {
        link
    } else {
        NOBODY
    }
}

impl Iterator for Walk<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let link = self.links.get(self.at as usize)?;
        Some(core::mem::replace(&mut self.at, link[NEXT]))
    }
}

/// All slots, and their lists.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    count_max: usize,
    /// First the links of slots, then those of lists: apart from the slots, so that a walk along a
    /// front reads little.
    links: Vec<Link>,
    free: u32,
}

impl core::ops::Index<u32> for Slots {
    type Output = Slot;
    #[inline]
    fn index(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }
}

impl core::ops::IndexMut<u32> for Slots {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }
}

impl Slots {
    /// Room for `count` peers in so many audiences; pages are not touched before they are used.
    pub(super) fn new(count: usize, audiences: u32) -> Slots {
        let List(lists) = List::front(audiences);
        let mut slots = Slots {
            slots: Vec::with_capacity(count),
            count_max: count,
            links: vec![[0; 2]; lists as usize + count],
            free: NOBODY,
        };
        for list in 0..List::front(0).0 {
            slots.open(List(list));
        }
        slots
    }

    /// Bytes for one more peer, and for one more audience.
    pub(super) const fn memory_bytes() -> (usize, usize) {
        (size_of::<Slot>() + size_of::<Link>(), 2 * size_of::<Link>())
    }

    /// One past the highest slot ever taken.
    pub(super) fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    /// A free slot, or `None` when all are taken.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free != NOBODY {
            let slot = self.free;
            self.free = self.link(slot)[NEXT];
            self[slot] = Slot::FREE;
            return Some(slot);
        }
        (self.slots.len() < self.count_max).then(|| {
            self.slots.push(Slot::FREE);
            (self.slots.len() - 1) as u32
        })
    }

    /// Whether there is a free one.
    pub(super) fn has_free(&self) -> bool {
        self.free != NOBODY || self.slots.len() < self.count_max
    }

    /// Gives a slot back; it must stand in no list.
    pub(super) fn give_back(&mut self, slot: u32) {
        self[slot] = Slot::FREE;
        self.link(slot)[NEXT] = core::mem::replace(&mut self.free, slot);
    }

    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self.links[slot as usize]
    }

    /// Empties a list that nobody stands in and that may never have been used.
    pub(super) fn open(&mut self, List(list): List) {
        let this = self.count_max as u32 + list;
        self.links[this as usize] = [this, this];
    }

    /// The links of a list's own.
    fn ends(&self, list: u32) -> Link {
        self.links[self.count_max + list as usize]
    }

    /// Whether nobody stands in a list.
    pub(super) fn is_empty(&self, List(list): List) -> bool {
        self.first(List(list)) == NOBODY
    }

    /// The first of a list, or `NOBODY`.
    pub(super) fn first(&self, List(list): List) -> u32 {
        slot_at(self.count_max, self.ends(list)[NEXT])
    }

    /// The last of a list, or `NOBODY`.
    pub(super) fn last(&self, List(list): List) -> u32 {
        slot_at(self.count_max, self.ends(list)[PREV])
    }

    /// The one behind `slot` in its list, or `NOBODY`.
    #[inline]
    pub(super) fn next(&self, slot: u32) -> u32 {
        slot_at(self.count_max, self.links[slot as usize][NEXT])
    }

    /// All of a list.
    #[inline]
    pub(super) fn walk_all(&self, List(list): List) -> Walk<'_> {
        self.walk(self.ends(list)[NEXT])
    }

    /// `slot` and those behind it in its list.
    #[inline]
    pub(super) fn walk(&self, slot: u32) -> Walk<'_> {
        Walk {
            links: &self.links[..self.count_max],
            at: slot,
        }
    }

    /// Puts a peer into another phase, and into the list of that: in front of all others at the
    /// front of an audience, behind them elsewhere. Always inlined, for where the phase is known
    /// most of this is, too.
    #[inline(always)]
    pub(super) fn set_phase(&mut self, slot: u32, phase: Phase) {
        let old = core::mem::replace(&mut self[slot].phase, phase);
        if old.list().is_some() {
            let [prev, next] = self.links[slot as usize];
            self.links[prev as usize][NEXT] = next;
            self.links[next as usize][PREV] = prev;
        }
        if let Some(List(list)) = phase.list() {
            let (ends, list) = (self.ends(list), self.count_max as u32 + list);
            let (prev, next) = match phase.front() {
                Some(_) => (list, ends[NEXT]),
                None => (ends[PREV], list),
            };
            self.links[slot as usize] = [prev, next];
            self.links[prev as usize][NEXT] = slot;
            self.links[next as usize][PREV] = slot;
        }
    }
}

/// Buffers of one size, lent by number. Pages are not touched before they are used.
#[derive(Debug)]
pub(super) struct Pool {
    bytes: Vec<u8>,
    stride: usize,
    free: Vec<u16>,
    /// Buffers from here on were never lent.
    fresh: u16,
    count: u16,
}

impl Pool {
    pub(super) fn new(count: u16, stride: usize) -> Pool {
        Pool {
            bytes: vec![0; usize::from(count) * stride],
            stride,
            free: Vec::with_capacity(usize::from(count)),
            fresh: 0,
            count,
        }
    }

    /// Lends a buffer; the one given back last comes first, for it is warm.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.free.pop().or_else(|| {
            (self.fresh < self.count).then(|| {
                self.fresh += 1;
                self.fresh - 1
            })
        })
    }

    /// Whether there is one to lend.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty() || self.fresh < self.count
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// How many can still be lent.
    pub(super) fn left(&self) -> usize {
        self.count() - self.lent()
    }

    /// How many are lent.
    pub(super) fn lent(&self) -> usize {
        usize::from(self.fresh) - self.free.len()
    }

    pub(super) fn give_back(&mut self, buffer: u16) {
        self.free.push(buffer);
    }

    pub(super) fn bytes(&mut self, buffer: u16) -> &mut [u8] {
        &mut self.bytes[usize::from(buffer) * self.stride..][..self.stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(Slots::memory_bytes(), (40, 16));
    }

    #[test]
    fn lists_keep_their_order() {
        let mut slots = Slots::new(3, 1);
        let all: Vec<_> = (0..3).map(|_| slots.take().unwrap()).collect();
        assert_eq!(slots.take(), None);
        let walk = |slots: &Slots, list| {
            let mut walk = Vec::new();
            let mut slot = slots.first(list);
            while slot != NOBODY {
                walk.push(slot);
                slot = slots.next(slot);
            }
            assert_eq!(walk.last().copied().unwrap_or(NOBODY), slots.last(list));
            assert_eq!(walk.is_empty(), slots.is_empty(list));
            walk
        };
        let idle = Phase::Idle { since_ms: 0 };
        for &slot in &all {
            slots.set_phase(slot, idle);
        }
        assert_eq!(walk(&slots, List::IDLE), all);
        slots.open(List::front(0));
        let front = Phase::Front { audience: 0 };
        slots.set_phase(all[1], front);
        slots.set_phase(all[2], front);
        assert_eq!(walk(&slots, List::IDLE), [all[0]]);
        assert_eq!(walk(&slots, List::front(0)), [all[2], all[1]]);
        slots.set_phase(all[2], idle);
        assert_eq!(walk(&slots, List::IDLE), [all[0], all[2]]);
        slots.set_phase(all[1], Phase::Free);
        assert!(slots.is_empty(List::front(0)));
        slots.give_back(all[1]);
        assert_eq!(slots.take(), Some(all[1]));
    }
}
