//! Who gives way when buffers are short: whoever has had one for long. So no client, and no number
//! of them, keeps others from being answered.
//!
//! A deadline (`sweep`) is as long as a bad network may take; it counts for everybody, always. The
//! times here are as long as a good one takes, and count only while somebody waits. It never takes
//! a buffer from one that has just begun.

use super::*;

/// A head that takes longer gives way when somebody waits for a buffer.
const SLOW_HEAD_MS: u64 = 250;
/// So does a body, an answer, or a poll that keeps what stands behind it.
const SLOW_MS: u64 = 1_000;
/// A spill is had for so long while others need it.
const SPILL_MS: u64 = 2_000;
/// How often those who wait look whether somebody has become slow.
const LOOK_MS: u64 = 50;

impl<O: Outlet> Peers<O> {
    /// Closes whoever is missed least: one we have nothing more to say to, one that is idle, one
    /// that waits for a buffer, one that sends its head; the longest first. Never one that is being
    /// answered.
    #[cold]
    pub fn evict(&mut self) -> Option<()> {
        let slot = self
            .first(List::CLOSING, |_, _| true)
            .or_else(|| {
                self.first(List::IDLE, |peers, slot| {
                    peers.slots[slot].spill == NO_BUFFER
                })
            })
            .or_else(|| self.first(List::STARVED, |_, _| true))
            .or_else(|| self.first(List::BUSY, Peers::is_headless))?;
        self.counters.evicted += 1;
        self.close(slot);
        Some(())
    }

    /// A free buffer for a request, or that of whoever has been slow for the longest.
    pub(super) fn take_input(&mut self) -> Option<u16> {
        self.inputs.take().or_else(|| {
            let slow = self.slowest()?;
            self.counters.evicted += 1;
            self.close(slow);
            self.inputs.take()
        })
    }

    /// Who has been asking, or being answered, for the longest, and for too long.
    #[cold]
    fn slowest(&self) -> Option<u32> {
        let rows = (0..).zip(&self.exchanges);
        let slow = rows.filter(|(exchange, entry)| {
            let had = match self.slots[entry.slot].phase {
                Phase::Busy { exchange } | Phase::Poll { exchange, .. } => exchange,
                _ => self.input_of_talk(entry.slot),
            };
            let patience_ms = match self.is_headless(entry.slot) {
                true => SLOW_HEAD_MS,
                false => SLOW_MS,
            };
            had == *exchange && entry.since_ms + patience_ms <= self.now.ms
        });
        let slowest = slow.min_by_key(|(_, entry)| entry.since_ms);
        slowest.map(|(_, entry)| entry.slot)
    }

    /// Whether a peer has asked for so long, one request after another, that it is time for others
    /// who wait.
    pub(super) fn has_had_its_share(&self, exchange: u16) -> bool {
        let lent_ms = self.exchanges[usize::from(exchange)].lent_ms;
        !self.slots.is_empty(List::STARVED) && lent_ms + SLOW_MS <= self.now.ms
    }

    /// Somebody waits for a buffer: it is looked for one again soon.
    pub(super) fn look_again(&mut self) {
        if !self.slots.is_empty(List::STARVED) {
            self.wake_by(self.now.ms + LOOK_MS);
        }
    }

    /// A spill for an answer, or for a viewer: of those, so many must stay free.
    pub(super) fn take_spill(&mut self, keep_free: usize) -> Option<u16> {
        let left = self.spills.left();
        if left <= self.spills.count() / 2 {
            self.wake_by(self.now.ms + SPILL_MS);
        }
        if left > keep_free {
            self.spills.take()
        } else {
            None
        }
    }

    /// While spills are short, whoever has had one for long gives it up: an answer is cut, a viewer
    /// resumes by its cursor.
    pub(super) fn share_spills(&mut self) {
        while self.spills.left() <= self.spills.count() / 2 {
            let rows = (0..).zip(&self.spilled);
            let lent = rows.filter(|(spill, row)| {
                row.slot < self.slots.end() && self.slots[row.slot].spill == *spill
            });
            let longest = { lent }.min_by_key(|(_, row)| row.since_ms);
            let Some((slot, since_ms)) = longest.map(|(_, row)| (row.slot, row.since_ms)) else {
                return;
            };
            if since_ms + SPILL_MS > self.now.ms {
                return self.wake_by(since_ms + SPILL_MS);
            }
            self.counters.evicted += 1;
            self.close(slot);
        }
    }
}
