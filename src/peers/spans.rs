//! Streams that end by themselves: after so many bytes, or so long. Browsers keep all of some
//! streams until they end.
//!
//! What a viewer may still be sent is counted where it is served: at the front for all of its
//! audience at once, behind it for itself. What it gets while it is behind counts twice, for its
//! audience gets as much; so it ends early, never late.

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

/// When a viewer's stream is over: what its audience has been sent by then, and the time.
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
        let audience = self.hub.audiences.audience_mut(index);
        let due = Span {
            bytes: audience.sent_bytes.saturating_add(span.bytes),
            ms: self.now.ms.saturating_add(span.ms),
        };
        self.dues[place] = Due(due);
        audience.is_plain = false;
        audience.limit_bytes = audience.limit_bytes.min(due.bytes);
        audience.expiry_ms = audience.expiry_ms.min(due.ms);
        self.wake_by(due.ms);
    }

    /// A viewer was sent so much by itself, or comes to the front.
    pub(super) fn spend(&mut self, slot: u32, index: u32, bytes: usize) {
        if let Some(Due(due)) = self.dues.get_mut(slot as usize)
            && due.bytes != u64::MAX
        {
            due.bytes = due.bytes.saturating_sub(bytes as u64);
            let due_ms = due.ms;
            let audience = self.hub.audiences.audience_mut(index);
            audience.limit_bytes = audience.limit_bytes.min(due.bytes);
            audience.expiry_ms = audience.expiry_ms.min(due_ms);
            self.wake_by(due_ms);
        }
    }

    /// Whether a viewer's stream is as long as it may be.
    pub(super) fn is_spent(&self, slot: u32, index: u32) -> bool {
        self.dues.get(slot as usize).is_some_and(|Due(due)| {
            due.bytes <= self.hub.audiences.audience(index).sent_bytes || due.ms <= self.now.ms
        })
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
        // One that is behind ends when it is served next: it may be in the middle of a frame.
        let reached = match place {
            Place::Front => self.hub.audiences.audience(index).position,
            Place::Waiting => cursor,
            Place::Replay { .. } | Place::CatchUp { .. } => return,
        };
        if self.is_spent(slot, index) {
            self.end_viewer(slot, index, Why::More(reached));
        } else if let Some(Due(due)) = self.dues.get(slot as usize) {
            next.bytes = next.bytes.min(due.bytes);
            next.ms = next.ms.min(due.ms);
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
