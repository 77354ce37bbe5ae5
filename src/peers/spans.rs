//! Streams that end by themselves: after so many bytes, or so long. Browsers keep all of some
//! streams until they end.
//!
//! What a viewer may still be sent is counted where it is served: at the front for all of its
//! audience at once, behind it for itself.

use super::subscribe::put_end;
use super::*;
use crate::transport::{Busy, End, Reason, Span};

/// Why a viewer's stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is none now.
    Busy(Reason),
    /// It is long enough; it goes on from here.
    More(Seq),
}

/// When a viewer's stream is over: the time, and what may be sent until then; at the front, what
/// its audience has been sent by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due(Span);

impl<O: Outlet> Peers<O> {
    /// A stream begins that may be so long.
    pub(super) fn begin_span(&mut self, slot: u32, index: u32, span: Span) {
        let place = slot as usize;
        if span == Span::ENDLESS {
            // Whoever had the slot before may have left something.
            if let Some(due) = self.dues.get_mut(place) {
                *due = Due(Span::ENDLESS);
            }
            return;
        }
        if self.dues.len() <= place {
            self.dues.resize(place + 1, Due(Span::ENDLESS));
        }
        let due = Span {
            ms: self.now.ms.saturating_add(span.ms),
            ..span
        };
        self.dues[place] = Due(due);
        let audience = self.hub.audiences.audience_mut(index);
        audience.is_plain = false;
        audience.expiry_ms = audience.expiry_ms.min(due.ms);
        self.wake_by(due.ms);
    }

    /// The due of a viewer that has an end.
    fn due(&mut self, slot: u32) -> Option<&mut Span> {
        let due = self.dues.get_mut(slot as usize)?;
        (due.0 != Span::ENDLESS).then_some(&mut due.0)
    }

    /// A viewer that is behind was sent so much by itself.
    pub(super) fn spend(&mut self, slot: u32, bytes: usize) {
        let is_front = matches!(self.slots[slot].phase, Phase::Front { .. });
        if let Some(due) = self.due(slot).filter(|_| !is_front) {
            due.bytes = due.bytes.saturating_sub(bytes as u64);
        }
    }

    /// A viewer that was at the front got only so much of the run that counts for all there.
    #[cold]
    pub(super) fn regain(&mut self, slot: u32, sent: usize) {
        let left = self.run.bytes - sent - self.kept_bytes(slot);
        if let Some(due) = self.due(slot) {
            due.bytes = due.bytes.saturating_add(left as u64);
        }
    }

    /// A viewer comes to the front, or leaves it.
    #[cold]
    pub(super) fn move_due(&mut self, slot: u32, to: Phase) {
        let from = self.slots[slot].phase;
        let (index, comes) = match (from, to) {
            (Phase::Front { .. }, Phase::Front { .. }) => return,
            (Phase::Front { audience }, _) => (audience, false),
            (_, Phase::Front { audience }) => (audience, true),
            _ => return,
        };
        let sent_bytes = self.hub.audiences.audience(index).sent_bytes;
        let Some(due) = self.due(slot) else {
            return;
        };
        due.bytes = match comes {
            true => due.bytes.saturating_add(sent_bytes),
            false => due.bytes.saturating_sub(sent_bytes),
        };
        let due_bytes = due.bytes;
        if comes {
            let audience = self.hub.audiences.audience_mut(index);
            audience.limit_bytes = audience.limit_bytes.min(due_bytes);
        }
    }

    /// Whether a viewer's stream is as long as it may be.
    pub(super) fn is_spent(&self, slot: u32, index: u32) -> bool {
        let sent_bytes = match self.slots[slot].phase {
            Phase::Front { .. } => self.hub.audiences.audience(index).sent_bytes,
            _ => 0,
        };
        let due = self.dues.get(slot as usize);
        due.is_some_and(|Due(due)| due.bytes <= sent_bytes || due.ms <= self.now.ms)
    }

    /// Ends those at the front that have had as many bytes as they may.
    pub(super) fn end_those_spent(&mut self, index: u32) {
        let audience = self.hub.audiences.audience(index);
        if audience.limit_bytes <= audience.sent_bytes {
            self.end_those_due(index);
        }
    }

    /// Ends those whose time is over.
    pub(super) fn end_those_over(&mut self, index: u32) {
        if self.hub.audiences.is_used(index)
            && self.hub.audiences.audience(index).expiry_ms <= self.now.ms
        {
            self.settle(index);
            if self.hub.audiences.is_used(index) {
                self.end_those_due(index);
            }
        }
    }

    /// Ends those of an audience, all of it served, that are due, and finds out when the next is.
    #[cold]
    fn end_those_due(&mut self, index: u32) {
        let mut next = Span::ENDLESS;
        for list in [List::front(index), List::behind(index)] {
            let mut slot = self.slots.first(list);
            while slot != NOBODY {
                let following = self.slots.next(slot);
                self.end_if_due(slot, index, &mut next);
                slot = following;
            }
        }
        let audience = self.hub.audiences.audience_mut(index);
        if audience.members > 0 {
            (audience.limit_bytes, audience.expiry_ms) = (next.bytes, next.ms);
        }
    }

    fn end_if_due(&mut self, slot: u32, index: u32, next: &mut Span) {
        let Some((_, cursor, place)) = self.slots[slot].phase.viewer() else {
            return;
        };
        let Some(due) = self.due(slot).copied() else {
            return;
        };
        // One that is behind ends when it is served next: it may be in the middle of a frame.
        let reached = match place {
            Place::Front => Some(self.hub.audiences.audience(index).position),
            Place::Waiting => Some(cursor),
            Place::Replay { .. } | Place::CatchUp { .. } => None,
        };
        match (reached, self.is_spent(slot, index)) {
            (Some(reached), true) => return self.end_viewer(slot, index, Why::More(reached)),
            (None, true) => return,
            (_, false) => next.ms = next.ms.min(due.ms),
        }
        if place == Place::Front {
            next.bytes = next.bytes.min(due.bytes);
        }
    }

    /// A viewer is told why its stream ends.
    #[cold]
    pub(super) fn end_viewer(&mut self, slot: u32, audience: u32, why: Why) {
        // In the middle of a frame nothing can be said; it resumes by its cursor.
        if self.slots[slot].is(BLOCKED) || self.slots[slot].spill != NO_BUFFER {
            return self.close(slot);
        }
        let retry_ms = match why {
            Why::Busy(reason) => self.retry_ms(reason),
            Why::More(_) => 0,
        };
        self.run_forget();
        let mut scratch = core::mem::take(&mut self.scratch);
        let wish = &self.hub.audiences.audience(audience).wish;
        let end = match why {
            Why::Busy(reason) => End::Busy(Busy { reason, retry_ms }),
            Why::More(seq) => End::More(self.id(seq)),
        };
        let framing = Framing::of(wish.framing);
        let bytes = put_end(&mut scratch, 0, framing, &wish.callback, &end);
        self.scratch = scratch;
        self.end_talk(slot);
        self.set_phase(
            slot,
            Phase::Ending {
                since_ms: self.now.ms,
            },
        );
        match why {
            Why::More(_) => self.leave_for_a_while(audience),
            Why::Busy(_) => self.leave(audience),
        }
        if self.deliver(slot, 0, bytes) {
            self.close_gently(slot);
        }
    }
}
