//! The slab of peers and the lists they stand in.
//!
//! A slot is small and holds no buffer: what a peer needs only while it speaks is borrowed from the
//! pools. Slots never move, so lists link them by number. This file never sends.

use crate::hub::audience::{Audiences, List, NOBODY};
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
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) phase: Phase,
    /// The buffer with bytes its socket did not take.
    pub(super) spill: u16,
    pub(super) flags: u8,
}

/// The socket took less than it was offered; it will say when it takes more.
pub(super) const BLOCKED: u8 = 1;
/// There may be input that was not read.
pub(super) const READABLE: u8 = 2;
/// The peer will send no more.
pub(super) const HALF_CLOSED: u8 = 4;
/// It stands on the run list.
pub(super) const QUEUED: u8 = 8;
/// It is known to be this machine.
pub(super) const LOOPBACK: u8 = 16;
/// It is known to be another machine.
pub(super) const REMOTE: u8 = 32;

impl Slot {
    const FREE: Slot = Slot {
        prev: NOBODY,
        next: NOBODY,
        phase: Phase::Free,
        spill: NO_BUFFER,
        flags: 0,
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

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    count_max: usize,
    free: u32,
}

impl core::ops::Index<u32> for Slots {
    type Output = Slot;
    fn index(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }
}

impl core::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }
}

impl Slots {
    /// Room for `count` peers; pages are not touched before they are used.
    pub(super) fn new(count: usize) -> Slots {
        Slots {
            slots: Vec::with_capacity(count),
            count_max: count,
            free: NOBODY,
        }
    }

    /// One past the highest slot ever taken.
    pub(super) fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    /// A free slot, or `None` when all are taken.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free != NOBODY {
            let slot = self.free;
            self.free = self[slot].next;
            self[slot] = Slot::FREE;
            return Some(slot);
        }
        (self.slots.len() < self.count_max).then(|| {
            self.slots.push(Slot::FREE);
            (self.slots.len() - 1) as u32
        })
    }

    /// Gives a slot back; it must stand in no list.
    pub(super) fn give_back(&mut self, slot: u32) {
        self[slot] = Slot {
            next: self.free,
            ..Slot::FREE
        };
        self.free = slot;
    }

    /// Appends a slot that stands in no list.
    pub(super) fn append(&mut self, list: &mut List, slot: u32) {
        self[slot].prev = list.tail;
        self[slot].next = NOBODY;
        match list.tail {
            NOBODY => list.head = slot,
            tail => self[tail].next = slot,
        }
        list.tail = slot;
    }

    /// Puts a slot that stands in no list in front of all others.
    pub(super) fn prepend(&mut self, list: &mut List, slot: u32) {
        self[slot].prev = NOBODY;
        self[slot].next = list.head;
        match list.head {
            NOBODY => list.tail = slot,
            head => self[head].prev = slot,
        }
        list.head = slot;
    }

    /// Takes a slot out of the list it stands in.
    pub(super) fn unlink(&mut self, list: &mut List, slot: u32) {
        let Slot { prev, next, .. } = self[slot];
        match prev {
            NOBODY => list.head = next,
            prev => self[prev].next = next,
        }
        match next {
            NOBODY => list.tail = prev,
            next => self[next].prev = prev,
        }
    }
}

/// The lists of those who are in no audience.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) idle: List,
    pub(super) busy: List,
    pub(super) starved: List,
    pub(super) ending: List,
    pub(super) closing: List,
}

impl Default for Lists {
    fn default() -> Lists {
        Lists {
            idle: List::EMPTY,
            busy: List::EMPTY,
            starved: List::EMPTY,
            ending: List::EMPTY,
            closing: List::EMPTY,
        }
    }
}

impl Lists {
    /// The list that a peer in this phase stands in.
    pub(super) fn of<'l>(
        &'l mut self,
        audiences: &'l mut Audiences,
        phase: &Phase,
    ) -> Option<&'l mut List> {
        Some(match *phase {
            Phase::Free => return None,
            Phase::Idle { .. } => &mut self.idle,
            Phase::Busy { .. } => &mut self.busy,
            Phase::Starved { .. } => &mut self.starved,
            Phase::Ending { .. } => &mut self.ending,
            Phase::Closing { .. } => &mut self.closing,
            Phase::Front { audience } | Phase::Poll { audience, .. } => {
                &mut audiences.audience_mut(audience).front
            }
            Phase::Waiting { audience, .. }
            | Phase::Replay { audience, .. }
            | Phase::CatchUp { audience, .. } => &mut audiences.audience_mut(audience).behind,
        })
    }
}

/// The audience at whose front a peer in this phase stands.
pub(super) fn front_of(phase: &Phase) -> Option<u32> {
    match *phase {
        Phase::Front { audience } | Phase::Poll { audience, .. } => Some(audience),
        _ => None,
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
        assert!(size_of::<Slot>() <= 40, "{}", size_of::<Slot>());
    }

    #[test]
    fn lists_keep_their_order() {
        let mut slots = Slots::new(3);
        let mut list = List::EMPTY;
        let all: Vec<_> = (0..3).map(|_| slots.take().unwrap()).collect();
        assert_eq!(slots.take(), None);
        for &slot in &all {
            slots.append(&mut list, slot);
        }
        slots.unlink(&mut list, all[1]);
        assert_eq!(
            (list.head, slots[all[0]].next, list.tail),
            (all[0], all[2], all[2])
        );
        slots.unlink(&mut list, all[2]);
        slots.unlink(&mut list, all[0]);
        assert_eq!(list, List::EMPTY);
        slots.give_back(all[1]);
        assert_eq!(slots.take(), Some(all[1]));
    }
}
