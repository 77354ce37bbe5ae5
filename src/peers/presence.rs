//! When presence is counted: at most once a second, on the sweep's clock (`hub::presence` says what
//! is counted). And how peers leave their audiences: for good, or for a while.
//!
//! A change after a second of quiet is said in the same turn; what follows, with the next count.
//! Polls, which are answered, and streams that end on purpose are soon back: each counts until the
//! second count after it left, one to two seconds, and who is back by then was never away. An
//! audience that all have left so is kept for them as long. It never does anything for a delivery
//! to a stream.

use super::*;

/// Between two counts.
pub(super) const COUNT_MS: u64 = 1_000;
/// An audience waits so long for those who are soon back: until they no longer count.
const LINGER_MS: u64 = 2 * COUNT_MS;

impl<O: Outlet> Peers<O> {
    /// Audiences gained or lost members or topics.
    #[inline]
    pub(super) fn note_presence(&mut self) {
        if self.hub.presence.note_change() {
            self.wake_by(self.count_ms);
        }
    }

    /// As `note_presence`, where a topic may have come or gone.
    pub(super) fn note_topics(&mut self) {
        if self.hub.presence.is_due() {
            self.wake_by(self.count_ms);
        }
    }

    /// Counts who is there, if that is due and the time has come.
    pub(super) fn sweep_presence(&mut self) {
        if !self.hub.presence.is_due() || self.draining {
            return;
        }
        if self.now.ms >= self.count_ms {
            self.count_ms = self.now.ms + COUNT_MS;
            if !self.hub.publish_presence(self.now) {
                return;
            }
        }
        self.wake_by(self.count_ms);
    }

    /// A peer is no longer a member of an audience. A poll is so with each answer.
    pub(super) fn leave(&mut self, index: u32) {
        match self.shape(index) {
            Shape::Answer => self.leave_for_a_while(index),
            Shape::Stream => {
                self.count_out(index);
                if self.hub.audiences.leave(index) {
                    self.hub.audiences.free(index);
                }
            }
        }
    }

    /// As `leave`, of one that is expected back. After the last one the audience is kept.
    #[inline]
    pub(super) fn leave_for_a_while(&mut self, index: u32) {
        self.count_out(index);
        if self.hub.audiences.leave_for_a_while(index) {
            let until_ms = self.now.ms + LINGER_MS;
            self.hub.audiences.audience_mut(index).expiry_ms = until_ms;
            self.wake_by(until_ms);
        }
    }

    fn count_out(&mut self, index: u32) {
        let framing = Framing::of(self.hub.audiences.audience(index).wish.framing);
        self.counters.viewers[usize::from(framing.transport)] -= 1;
        self.viewers -= 1;
        self.note_presence();
    }

    /// Frees an audience that nobody came back to.
    pub(super) fn sweep_lingering(&mut self, index: u32) {
        let until_ms = self.hub.audiences.audience(index).expiry_ms;
        if until_ms > self.now.ms {
            return self.wake_by(until_ms);
        }
        self.hub.audiences.free(index);
        self.held = None;
    }
}
