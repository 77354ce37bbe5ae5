//! Deadlines, heartbeats, ticks and draining: all that happens because time passes.
//!
//! One number says when the next sweep is due; a sweep walks the lists once and finds the next.
//! Every wait of a peer ends here or in the kernel, by keep-alive and TCP_USER_TIMEOUT.

use super::spans::Why;
use super::*;
use crate::buffer::Writer;
use crate::transport::Reason;
use crate::wire::Kind;

/// An accepted or idle peer says nothing for so long.
pub(super) const IDLE_MS: u64 = 20_000;
/// A peer waits so long for a buffer; then it is told that there is none.
pub(super) const STARVED_MS: u64 = 5_000;
/// A head takes so long from its first byte.
pub(super) const HEAD_MS: u64 = 10_000;
/// A body takes so long from its head, when whoever sends it may write; else as long as a head.
pub(super) const BODY_MS: u64 = 60_000;
/// An answer makes no progress for so long.
pub(super) const STALL_MS: u64 = 20_000;
/// A peer we have nothing more to say to takes so long to go.
pub(super) const LINGER_MS: u64 = 2_000;
/// Sweeps are at least so far apart, however many deadlines there are.
const SWEEP_MS: u64 = 10;

impl<O: Outlet> Peers<O> {
    /// Does what is due at the time of this turn, if anything is.
    pub fn sweep(&mut self) {
        let now_ms = self.now.ms;
        if now_ms < self.wake_ms {
            return;
        }
        self.wake_ms = u64::MAX;
        if now_ms >= self.review_ms {
            self.review();
        }
        self.wake_by(self.review_ms);
        self.sweep_presence();
        self.sweep_list(List::IDLE, IDLE_MS);
        self.sweep_list(List::STARVED, STARVED_MS);
        self.sweep_list(List::ENDING, STALL_MS);
        self.sweep_list(List::CLOSING, LINGER_MS);
        self.sweep_busy();
        self.sweep_talks();
        self.look_again();
        self.share_spills();
        self.sweep_showings();
        for index in 0..self.hub.audiences.end() {
            self.sweep_audience(index);
        }
        self.wake_ms = self.wake_ms.max(now_ms + SWEEP_MS);
    }

    /// Closes those at the front of a list that have waited too long; the list is in order of time.
    fn sweep_list(&mut self, list: List, wait_ms: u64) {
        let mut slot = self.slots.first(list);
        while slot != NOBODY {
            let next = self.slots.next(slot);
            let (Phase::Idle { since_ms }
            | Phase::Starved { since_ms }
            | Phase::Ending { since_ms }
            | Phase::Closing { since_ms }) = self.slots[slot].phase
            else {
                return;
            };
            if since_ms + wait_ms > self.now.ms {
                return self.wake_by(since_ms + wait_ms);
            }
            match self.slots[slot].phase {
                Phase::Starved { .. } => self.turn_away(slot),
                _ => self.close(slot),
            }
            slot = next;
        }
    }

    /// Tells a peer that no buffer became free for its request.
    #[cold]
    fn turn_away(&mut self, slot: u32) {
        self.counters.requests += 1;
        self.counters.refused += 1;
        self.counters.refusals[Kind::Full as usize] += 1;
        match self.outlet.send(slot, TURNED_AWAY) {
            Sent::Bytes(_) => self.close_gently(slot),
            Sent::Gone => self.close(slot),
        }
    }

    fn sweep_busy(&mut self) {
        let mut slot = self.slots.first(List::BUSY);
        while slot != NOBODY {
            let next = self.slots.next(slot);
            if let Phase::Busy { exchange } = self.slots[slot].phase {
                let entry = &self.exchanges[usize::from(exchange)];
                let deadline_ms = entry.deadline_ms;
                if deadline_ms > self.now.ms {
                    self.wake_by(deadline_ms);
                } else if entry.answered || self.slots[slot].spill != NO_BUFFER {
                    self.close(slot);
                } else {
                    self.time_out(slot);
                }
            }
            slot = next;
        }
    }

    /// A request that is not whole in time is told so (RFC 9110 section 15.5.9).
    #[cold]
    fn time_out(&mut self, slot: u32) {
        let refusal =
            crate::wire::Refusal::new(408, "the request was not whole in time").kind(Kind::Slow);
        if let Phase::Busy { exchange } = self.slots[slot].phase {
            let connection = &mut self.exchanges[usize::from(exchange)].connection;
            connection.abandon(self.inputs.bytes(exchange));
            self.counters.requests += 1;
            self.refuse(slot, &refusal);
            self.finish(slot);
        }
    }

    fn sweep_audience(&mut self, index: u32) {
        let now_ms = self.now.ms;
        if !self.hub.audiences.is_used(index) {
            return;
        }
        if self.hub.audiences.audience(index).members == 0 {
            return self.sweep_lingering(index);
        }
        let shape = self.shape(index);
        let audience = self.hub.audiences.audience_mut(index);
        if audience.tick_ms <= now_ms {
            let interval_ms = u64::from(audience.wish.interval_ms);
            audience.tick_ms = (now_ms / interval_ms + 1) * interval_ms;
            match shape {
                Shape::Stream => self.tick_stream(index),
                Shape::Answer => self.tick_polls(index),
            }
        }
        if !self.hub.audiences.is_used(index) {
            return;
        }
        let audience = self.hub.audiences.audience_mut(index);
        match shape {
            Shape::Answer => {
                audience.heartbeat_ms = u64::MAX;
                if audience.expiry_ms <= now_ms {
                    self.expire_polls(index, now_ms);
                }
            }
            Shape::Stream => {
                if audience.heartbeat_ms <= now_ms {
                    audience.heartbeat_ms = now_ms + self.settings.heartbeat_ms;
                    self.heartbeat_all(index);
                }
                self.end_those_over(index);
            }
        }
        if self.hub.audiences.is_used(index) {
            let audience = self.hub.audiences.audience(index);
            let next = audience
                .tick_ms
                .min(audience.heartbeat_ms)
                .min(audience.expiry_ms);
            self.wake_by(next);
        }
    }

    /// The tick of an `interval`: everybody gets the last event of each topic that changed.
    fn tick_stream(&mut self, index: u32) {
        let bound = self.hub.head();
        let position = self.hub.audiences.audience(index).position;
        // Both lists are walked from their heads; a member served goes to the end of one of them,
        // so each is walked only as far as its end was when the walk began.
        let lists = [List::behind(index), List::front(index)]
            .map(|list| (self.slots.first(list), self.slots.last(list)));
        self.hub.audiences.audience_mut(index).position = bound;
        // A tick that brought everybody a frame puts the heartbeat off.
        let mut everybody = true;
        for (first, last) in lists {
            let mut slot = first;
            while slot != NOBODY {
                let next = if slot == last {
                    NOBODY
                } else {
                    self.slots.next(slot)
                };
                if let Some((_, cursor, place)) = self.slots[slot].phase.viewer() {
                    let cursor = if place == Place::Front {
                        position
                    } else {
                        cursor
                    };
                    if matches!(place, Place::Front | Place::Waiting) {
                        let place = Place::CatchUp {
                            bound,
                            fresh: false,
                        };
                        self.set_phase(slot, Phase::of_viewer(index, cursor, place));
                        let before = self.counters.deliveries;
                        self.pump(slot, 0, true);
                        everybody &= self.counters.deliveries > before;
                    }
                }
                slot = next;
            }
        }
        if everybody && self.hub.audiences.is_used(index) {
            let heartbeat_ms = self.now.ms + self.settings.heartbeat_ms;
            self.hub.audiences.audience_mut(index).heartbeat_ms = heartbeat_ms;
        }
    }

    /// A heartbeat to every member that is not blocked.
    fn heartbeat_all(&mut self, index: u32) {
        self.settle(index);
        if !self.hub.audiences.is_used(index) {
            return;
        }
        let audience = self.hub.audiences.audience(index);
        let position = audience.position;
        let behind = List::behind(index);
        let (first_behind, last_behind) = (self.slots.first(behind), self.slots.last(behind));
        let bytes = self.put_heartbeat(index, position);
        let mut slot = self.slots.first(List::front(index));
        while slot != NOBODY {
            let next = self.slots.next(slot);
            self.deliver(slot, 0, bytes);
            if !matches!(self.slots[slot].phase, Phase::Free) && self.slots[slot].is(BLOCKED) {
                let place = Place::Replay { offset: 0 };
                self.set_phase(slot, self.waiting_or(place, index, position));
            }
            slot = next;
        }
        let mut slot = first_behind;
        while slot != NOBODY {
            let next = if slot == last_behind {
                NOBODY
            } else {
                self.slots.next(slot)
            };
            self.heartbeat_one(slot);
            slot = next;
        }
    }

    /// A member of an `interval` that fell behind waits for its tick, not for events.
    pub(super) fn waiting_or(&self, place: Place, audience: u32, cursor: Seq) -> Phase {
        let waits = self.hub.audiences.audience(audience).wish.interval_ms > 0;
        Phase::of_viewer(audience, cursor, if waits { Place::Waiting } else { place })
    }

    fn put_heartbeat(&mut self, index: u32, seq: Seq) -> usize {
        self.run_forget();
        let framing = Framing::of(self.hub.audiences.audience(index).wish.framing);
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut out = Writer::new(&mut scratch);
        let id = self.id(seq);
        let dress = framing.dress(&self.hub.audiences.audience(index).wish.callback);
        let put = framing.chunk(&mut out, |out| (framing.row().mark)(&id, dress, true, out));
        put.expect("a heartbeat fits an empty buffer");
        let bytes = out.len();
        self.scratch = scratch;
        bytes
    }

    /// A heartbeat to one viewer that has nothing else coming: it shows whether it is still there.
    pub(super) fn heartbeat_one(&mut self, slot: u32) {
        if let Phase::Front { audience } = self.slots[slot].phase {
            self.settle(audience);
        }
        let Some((audience, cursor, place)) = self.slots[slot].phase.viewer() else {
            return;
        };
        if self.slots[slot].is(BLOCKED) || self.slots[slot].spill != NO_BUFFER {
            return;
        }
        let seq = match place {
            Place::Front => self.hub.audiences.audience(audience).position,
            Place::Waiting => cursor,
            Place::Replay { .. } | Place::CatchUp { .. } => return,
        };
        let bytes = self.put_heartbeat(audience, seq);
        if self.deliver(slot, 0, bytes) && self.slots[slot].is(BLOCKED) {
            let place = Place::Replay { offset: 0 };
            self.set_phase(slot, self.waiting_or(place, audience, seq));
        }
    }

    /// What stands in the scratch is no longer a run that audiences could share.
    pub(super) fn run_forget(&mut self) {
        self.run.forget();
    }

    /// The server goes down: everybody is told, nobody new is held.
    #[cold]
    pub fn drain(&mut self) {
        self.flush_all();
        self.draining = true;
        for slot in 0..self.slots.end() {
            match self.slots[slot].phase {
                Phase::Idle { .. } => self.close_gently(slot),
                // It has asked, so it is answered.
                Phase::Starved { .. } => self.turn_away(slot),
                Phase::Busy { exchange } => {
                    self.exchanges[usize::from(exchange)]
                        .connection
                        .asked
                        .keep_alive = false;
                }
                phase => {
                    if let Some((audience, ..)) = phase.viewer() {
                        self.end_viewer(slot, audience, Why::Busy(Reason::Draining));
                    }
                }
            }
        }
        for index in 0..self.hub.audiences.end() {
            if self.hub.audiences.is_used(index) && self.shape(index) == Shape::Answer {
                self.expire_polls(index, u64::MAX);
            }
        }
    }

    /// Whether nobody is connected any more.
    pub fn is_empty(&self) -> bool {
        self.counters.peers == 0
    }
}
