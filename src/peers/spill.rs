//! What sockets did not take: kept in buffers of a fixed pool until they take it.

use super::*;

/// Buffers for what sockets did not take: one for so many viewers, and some for few.
pub(super) fn spills(viewers: u32) -> u16 {
    (viewers / 16).clamp(64, 256) as u16
}

/// Bytes of one.
pub(super) const SPILL_BYTES: usize = RESPONSE_HEAD_BYTES_MAX + OUTPUT_BYTES_MAX + 16;

/// What is in a spill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spilled {
    /// The part that is still to be sent.
    pub(super) from: u32,
    pub(super) to: u32,
    /// Whose it is, if it is lent.
    pub(super) slot: u32,
    /// When it was lent.
    pub(super) since_ms: u64,
}

impl Spilled {
    pub(super) const NOTHING: Spilled = Spilled {
        from: 0,
        to: 0,
        slot: NOBODY,
        since_ms: 0,
    };
}

impl<O: Outlet> Peers<O> {
    /// Sends a part of the scratch; what the socket does not take is kept in a spill. Whether the
    /// peer is still there.
    pub(super) fn deliver(&mut self, slot: u32, from: usize, to: usize) -> bool {
        // A viewer of pictures has no hello and no heartbeat.
        if from == to {
            return true;
        }
        match self.outlet.send(slot, &self.scratch[from..to]) {
            Sent::Bytes(sent) if sent == to - from => true,
            Sent::Bytes(sent) => self.keep(slot, from + sent, to),
            Sent::Gone => {
                self.close(slot);
                false
            }
        }
    }

    /// Bytes that wait for a peer's socket.
    pub(super) fn kept_bytes(&self, slot: u32) -> usize {
        match self.slots[slot].spill {
            NO_BUFFER => 0,
            spill => {
                let Spilled { from, to, .. } = self.spilled[usize::from(spill)];
                (to - from) as usize
            }
        }
    }

    /// Keeps a part of the scratch for a blocked peer, or closes it when there is no buffer: it
    /// resumes by its cursor.
    #[cold]
    pub(super) fn keep(&mut self, slot: u32, from: usize, to: usize) -> bool {
        // Viewers leave some to answers.
        let keep_free = match self.slots[slot].phase.viewer() {
            Some(_) => self.spills.count() / 4,
            None => 0,
        };
        let Some(spill) = self.take_spill(keep_free) else {
            self.counters.evicted += 1;
            self.close(slot);
            return false;
        };
        self.fill_spill(slot, spill, from, to);
        self.slots[slot].mark(BLOCKED, true);
        true
    }

    pub(super) fn fill_spill(&mut self, slot: u32, spill: u16, from: usize, to: usize) {
        self.spills.bytes(spill)[..to - from].copy_from_slice(&self.scratch[from..to]);
        self.spilled[usize::from(spill)] = Spilled {
            from: 0,
            to: (to - from) as u32,
            slot,
            since_ms: self.now.ms,
        };
        self.slots[slot].spill = spill;
    }
}
