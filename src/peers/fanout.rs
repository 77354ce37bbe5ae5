//! Events to viewers: one rendering for each audience, one send for each member.
//!
//! Members at the front of an audience have everything up to its position; for them a delivery
//! writes nothing but the socket. A member whose socket fills falls behind: it has a cursor of its
//! own, is served by `pump` when its socket takes bytes again, and joins the front when it has
//! caught up. There is no queue: the log is the queue.
//!
//! A turn sends to so many members at most; the others at the front are served in the next ones,
//! before anything newer. Those who join meanwhile stand in front of them in the list.

use super::run::{Rendered, render_feed};
use super::spans::Why;
use super::*;
use crate::buffer::Writer;
use crate::hub::Plan;
use crate::transport::Hello;

/// How far what was published has been handed on.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    /// Every audience has been handed everything up to here.
    pub(super) to: Seq,
    /// Bytes of events ever published when the pass began.
    pub(super) bytes: u64,
    /// What the pass underway brings every audience up to; `to` between two passes.
    target: Seq,
    /// The framings still to come, as bits.
    framings: u128,
    /// The next audience to look at.
    index: u32,
}

impl<O: Outlet> Peers<O> {
    /// Hands what was published to the audiences, as much as a turn may.
    pub fn flush(&mut self) {
        self.run.forget();
        if self.flushing.target == self.flushing.to && !self.begin_pass() {
            return;
        }
        // Audiences of one framing after another, so that those who want the same run share it.
        while self.flushing.framings != 0 {
            let framing = self.flushing.framings.trailing_zeros() as u16;
            let shape = Framing::of(framing).row().shape;
            loop {
                self.flush_alike(framing);
                let index = self.flushing.index;
                if index >= self.hub.audiences.end() {
                    break;
                }
                let is_next = self.hub.audiences.framing(index) == Some(framing);
                if is_next && !self.flush_shape(index, shape) {
                    self.sends_left = self.settings.sends_per_turn;
                    return;
                }
                self.flushing.index += 1;
            }
            self.flushing.index = 0;
            self.flushing.framings &= self.flushing.framings - 1;
        }
        self.flushing.to = self.flushing.target;
        self.sends_left = self.settings.sends_per_turn;
    }

    /// Serves audiences that are where the last one was and want the same of what came since: the
    /// run goes to them as it stands. Ends before the first that has to be looked at more closely.
    fn flush_alike(&mut self, framing: u16) {
        let run = &self.run;
        let is_plain = run.mask != 0 && run.callback.is_empty();
        if !is_plain || run.code != framing || run.to != self.hub.head() {
            return;
        }
        let heartbeat_ms = self.now.ms + self.settings.heartbeat_ms;
        let bytes = &self.scratch[..run.bytes];
        let audiences = &mut self.hub.audiences;
        let (mut index, end) = (self.flushing.index, audiences.end());
        let mut left = self.sends_left;
        let mut stopped = None;
        while left > 0 && index < end {
            if audiences.framing(index) == Some(framing) {
                let audience = audiences.audience_mut(index);
                if !audience.is_in_step(run.from) || !run.selection.is_that_of(&audience.set) {
                    break;
                }
                audience.position = run.to;
                audience.heartbeat_ms = heartbeat_ms;
                let mut walk = self.slots.walk_all(List::front(index));
                stopped = send_along(&mut self.outlet, &mut walk, bytes, &mut left);
                if !walk.is_over() || stopped.is_some() {
                    (audience.serving, audience.served_from) = (walk.here(), run.from);
                    break;
                }
            }
            index += 1;
        }
        let served = u64::from(self.sends_left - left);
        self.counters.deliveries += served * run.frames.len() as u64;
        (self.flushing.index, self.sends_left) = (index, left);
        self.let_go(index, stopped);
    }

    /// Whoever did not take a whole run leaves the front.
    fn let_go(&mut self, audience: u32, stopped: Option<(u32, Sent)>) {
        match stopped {
            Some((slow, Sent::Bytes(sent))) => {
                self.fall_behind(slow, audience, sent, 0);
                self.regain(slow, sent);
            }
            Some((gone, Sent::Gone)) => self.close(gone),
            None => {}
        }
    }

    /// Whether there is anything to hand on.
    fn begin_pass(&mut self) -> bool {
        self.note_topics();
        let framings = self.hub.audiences.framings();
        let to = self.flushing.to;
        self.flushing = Flushing {
            to,
            bytes: self.hub.published_bytes,
            target: self.hub.head(),
            framings,
            index: 0,
        };
        self.flushing.target > to
    }

    /// Hands everything on, however many turns that would be.
    pub(super) fn flush_all(&mut self) {
        while self.flushing.to < self.hub.head() {
            self.flush();
        }
    }

    /// Brings the whole front of one audience up to the head.
    pub(super) fn settle(&mut self, index: u32) {
        let left = core::mem::replace(&mut self.sends_left, u32::MAX);
        self.run.forget();
        while !self.flush_audience(index) {}
        self.sends_left = left;
    }

    /// Brings the front of an audience up to the head, whether all of it.
    fn flush_audience(&mut self, index: u32) -> bool {
        self.flush_shape(index, self.shape(index))
    }

    /// As `flush_audience`; an `interval` waits for its tick.
    fn flush_shape(&mut self, index: u32, shape: Shape) -> bool {
        match shape {
            _ if self.hub.audiences.audience(index).wish.interval_ms > 0 => true,
            Shape::Answer => self.answer_polls(index),
            Shape::Stream => self.flush_stream(index),
        }
    }

    fn flush_stream(&mut self, index: u32) -> bool {
        let (first, head) = (self.hub.first(), self.hub.head());
        loop {
            let audience = self.hub.audiences.audience(index);
            let is_new = audience.serving == NOBODY;
            let (from, to) = match is_new {
                true => (audience.position, head.min(audience.position + 64)),
                false => (audience.served_from, audience.position),
            };
            if from >= to {
                return true;
            }
            let mask = match from + 1 < first {
                true => 0,
                false => self.hub.select(&audience.set, from, to),
            };
            let (mask, meets_picture) = self.without_pictures(audience.wish.framing, from, mask);
            if meets_picture {
                self.divert(index, from, is_new);
                continue;
            }
            if mask == 0 {
                self.skip(index, from, to, is_new);
                continue;
            }
            self.render_run(index, from, to, mask);
            let audience = self.hub.audiences.audience_mut(index);
            if is_new {
                audience.sent_bytes += self.run.bytes as u64;
                audience.serving = self.slots.first(List::front(index));
                audience.served_from = from;
            }
            audience.position = self.run.to;
            audience.heartbeat_ms = self.now.ms + self.settings.heartbeat_ms;
            if !self.send_run(index) {
                return false;
            }
            self.end_those_spent(index);
            if !self.hub.audiences.is_used(index) {
                return true;
            }
        }
    }

    /// There is nothing for an audience between two sequences, or a burst has lapped it.
    fn skip(&mut self, index: u32, from: Seq, to: Seq, is_new: bool) {
        let is_lapped = self.hub.is_lapped(from);
        let head = self.hub.head();
        let audience = self.hub.audiences.audience_mut(index);
        if is_new {
            audience.position = if is_lapped { head } else { to };
            audience.serving = self.slots.first(List::front(index));
        }
        match is_lapped {
            true => self.lap(index, from),
            false => audience.serving = NOBODY,
        }
    }

    /// One send for each member at the front that is still to be served; whether that was all.
    fn send_run(&mut self, index: u32) -> bool {
        let mut slot = self.hub.audiences.audience(index).serving;
        let budget = self.sends_left;
        while slot != NOBODY && self.sends_left > 0 {
            let bytes = &self.scratch[..self.run.bytes];
            let mut walk = self.slots.walk(slot);
            let left = &mut self.sends_left;
            let stopped = send_along(&mut self.outlet, &mut walk, bytes, left);
            slot = walk.here();
            self.hub.audiences.audience_mut(index).serving = slot;
            self.let_go(index, stopped);
        }
        let served = u64::from(budget - self.sends_left);
        self.counters.deliveries += served * self.run.frames.len() as u64;
        slot == NOBODY
    }

    /// A viewer's socket took only `sent` bytes of the run, which begins at `run_from`.
    fn fall_behind(&mut self, slot: u32, audience: u32, sent: usize, run_from: usize) {
        let (mut cursor, mut offset) = self.position_in_run(sent, run_from);
        // The rest of a half-sent frame is kept while there are buffers enough for those who cannot
        // do without; else it is rendered again, if its event is still in the ring by then.
        if offset > 0
            && let Some(spill) = self.take_spill(self.spills.count() / 2)
        {
            let end = self
                .run
                .frames
                .iter()
                .map(|f| f.end as usize)
                .find(|end| *end > sent);
            self.fill_spill(slot, spill, sent, end.unwrap_or(sent));
            (cursor, offset) = (cursor + 1, 0);
        }
        self.slots[slot].mark(BLOCKED, true);
        let place = Place::Replay { offset };
        self.set_phase(slot, Phase::of_viewer(audience, cursor, place));
    }

    /// A burst has lapped those at the front who are still to be served: each is told, and brought
    /// up by itself.
    pub(super) fn lap(&mut self, index: u32, cursor: Seq) {
        loop {
            let slot = self.hub.audiences.audience(index).serving;
            if slot == NOBODY {
                return;
            }
            let place = Place::Replay { offset: 0 };
            self.set_phase(slot, Phase::of_viewer(index, cursor, place));
            self.enqueue(slot);
        }
    }

    /// Serves one viewer that is behind: hello if it was lapped, catch-up, replay. What stands in
    /// the first `prefix` bytes of the scratch goes out in front; `greeted` when that has a hello.
    pub(super) fn pump(&mut self, slot: u32, prefix: usize, greeted: bool) {
        let Some((index, cursor, place)) = self.slots[slot].phase.viewer() else {
            return;
        };
        if self.slots[slot].is(BLOCKED) || self.slots[slot].spill != NO_BUFFER {
            return;
        }
        if !self.go_on_showing(slot) {
            return;
        }
        // Its half-sent event is no longer there to be finished: it resumes by its cursor.
        let is_between = !matches!(place, Place::Replay { offset } if offset > 0);
        if is_between && self.is_spent(slot, index) {
            return self.end_viewer(slot, index, Why::More(cursor));
        }
        let lapped = self.hub.is_lapped(cursor);
        if lapped && matches!(place, Place::Replay { offset } if offset > 0) {
            return self.close(slot);
        }
        let Some((plan, skip)) = self.plan(index, cursor, place) else {
            return;
        };
        let framing = Framing::of(self.hub.audiences.audience(index).wish.framing);
        let tell = lapped && !greeted && matches!(place, Place::Replay { .. });
        let prefix = if tell {
            self.tell_lost(index, cursor, prefix)
        } else {
            prefix
        };
        let (hub, run) = (&self.hub, &mut self.run);
        // No more than a spill takes: none of it may be sent.
        let mut out = Writer::resume(&mut self.scratch[..SPILL_BYTES], prefix);
        let rendered = render_feed(hub, run, index, cursor, plan, framing, &mut out);
        let picture = rendered.picture;
        self.send_pumped(slot, index, skip, rendered, plan);
        if let Some(plate) = picture {
            self.show(slot, plate);
        }
    }

    /// How a viewer that is behind goes on, and how many bytes of its next event are sent already.
    fn plan(&self, index: u32, cursor: Seq, place: Place) -> Option<(Plan, usize)> {
        let (first, head) = (self.hub.first(), self.hub.head());
        let plan = |catch_up_to, fresh, end| Plan {
            catch_up_to,
            fresh,
            end,
        };
        match place {
            Place::Front | Place::Waiting => None,
            Place::Replay { offset } => {
                let catch_up_to = self.hub.is_lapped(cursor).then(|| first - 1);
                Some((plan(catch_up_to, false, head), offset as usize))
            }
            Place::CatchUp { bound, fresh } => {
                let interval = self.hub.audiences.audience(index).wish.interval_ms > 0;
                let end = if interval || bound + 1 < first {
                    bound
                } else {
                    head
                };
                Some((plan(Some(bound), fresh, end), 0))
            }
        }
    }

    /// Appends a hello to the scratch if a lapped cursor has lost anything; how long it is then.
    fn tell_lost(&mut self, index: u32, cursor: Seq, from: usize) -> usize {
        let audience = self.hub.audiences.audience(index);
        let everything = self.hub.is_for_everything(&audience.wish);
        let lost = self.hub.lost(cursor, &audience.set, everything);
        if lost.count == 0 {
            return from;
        }
        self.counters.lapped += 1;
        let framing = Framing::of(audience.wish.framing);
        let id = Id {
            log: self.hub.log_name(),
            seq: cursor,
        };
        let hello = Hello {
            id,
            lost: lost.count,
            exact: lost.exact,
            reset: false,
        };
        let dress = framing.dress(&audience.wish.callback);
        let mut out = Writer::resume(&mut self.scratch, from);
        let put = framing.chunk(&mut out, |out| (framing.row().hello)(&hello, dress, out));
        put.expect("a hello fits an empty buffer");
        out.len()
    }

    fn send_pumped(&mut self, slot: u32, index: u32, skip: usize, rendered: Rendered, plan: Plan) {
        let bytes = self.run.bytes;
        let cursor = rendered.cursor;
        let interval = self.hub.audiences.audience(index).wish.interval_ms > 0;
        let place = match plan.catch_up_to {
            Some(bound) if cursor < bound && (plan.fresh || interval) => Place::CatchUp {
                bound,
                fresh: plan.fresh,
            },
            _ if interval => Place::Waiting,
            _ => Place::Replay { offset: 0 },
        };
        let behind = Phase::of_viewer(index, cursor, place);
        let sent = if bytes > skip {
            match self.outlet.send(slot, &self.scratch[skip..bytes]) {
                Sent::Gone => return self.close(slot),
                Sent::Bytes(sent) => skip + sent,
            }
        } else {
            bytes
        };
        self.counters.deliveries += u64::from(rendered.events);
        if sent < bytes {
            self.set_phase(slot, behind);
            if sent >= rendered.replay_from {
                self.fall_behind(slot, index, sent, rendered.replay_from);
            } else {
                self.keep(slot, sent, bytes);
            }
            let kept = self.kept_bytes(slot);
            return self.spend(slot, sent - skip + kept);
        }
        self.spend(slot, sent - skip);
        if rendered.exhausted && cursor == plan.end {
            return self.arrive(slot, index, cursor, behind);
        }
        self.set_phase(slot, behind);
        self.enqueue(slot);
    }

    /// A viewer has everything there is, or everything up to its tick.
    fn arrive(&mut self, slot: u32, index: u32, cursor: Seq, behind: Phase) {
        let interval = self.hub.audiences.audience(index).wish.interval_ms > 0;
        if !interval && cursor == self.hub.head() {
            // The front may not have what was published in this turn; sharing its position later
            // would give this viewer those events twice.
            self.set_phase(slot, behind);
            self.run.forget();
            self.flush_audience(index);
            if !self.hub.audiences.is_used(index) {
                return;
            }
        }
        let at_front = cursor == self.hub.audiences.audience(index).position;
        let place = match (at_front, interval) {
            (true, _) => Place::Front,
            (false, true) => Place::Waiting,
            (false, false) => Place::Replay { offset: 0 },
        };
        self.set_phase(slot, Phase::of_viewer(index, cursor, place));
        if place == (Place::Replay { offset: 0 }) {
            self.enqueue(slot);
        } else if self.is_spent(slot, index) {
            self.end_viewer(slot, index, Why::More(cursor));
        }
    }
}

/// Sends `bytes` to the next of `walk`, `left` of them and at least one, until one does not take
/// them all: that one is returned. The inner loop of it all: it reads one link and one descriptor
/// for each send, and writes nothing.
#[inline]
fn send_along<O: Outlet>(
    outlet: &mut O,
    walk: &mut Walk<'_>,
    bytes: &[u8],
    left: &mut u32,
) -> Option<(u32, Sent)> {
    let mut budget = *left;
    let mut stopped = None;
    for slot in walk {
        let sent = outlet.send(slot, bytes);
        budget -= 1;
        if sent != Sent::Bytes(bytes.len()) {
            stopped = Some((slot, sent));
            break;
        }
        if budget == 0 {
            break;
        }
    }
    *left = budget;
    stopped
}
