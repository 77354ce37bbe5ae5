//! Events to viewers: one rendering for each audience, one send for each member.
//!
//! Members at the front of an audience have everything up to its position; for them a delivery
//! writes nothing but the socket. A member whose socket fills falls behind: it has a cursor of its
//! own, is served by `pump` when its socket takes bytes again, and joins the front when it has
//! caught up. There is no queue: the log is the queue.

use super::*;
use crate::buffer::Writer;
use crate::hub::Plan;
use crate::limits::RUN_EVENTS_MAX;
use crate::transport::Hello;

/// Frames rendered for one run of events, in the scratch from its start.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The framing's number; audiences that agree in it and in the next two share a rendering.
    code: u16,
    from: Seq,
    mask: u64,
    /// The last sequence it covers.
    to: Seq,
    bytes: usize,
    frames: heapless::Vec<Frame, RUN_EVENTS_MAX>,
}

impl Run {
    /// What it describes no longer stands in the scratch.
    pub(super) fn forget(&mut self) {
        self.mask = 0;
    }
}

/// One event in a rendering: its sequence and where its frame ends.
#[derive(Clone, Copy, Debug)]
struct Frame {
    seq: Seq,
    end: u32,
}

impl<O: Outlet> Peers<O> {
    /// Hands everything published since the last flush to the audiences.
    pub fn flush(&mut self) {
        let head = self.hub.head();
        if self.flushed == head {
            return;
        }
        self.run.forget();
        // Audiences of one framing after another, so that those who want the same run share it.
        let mut codes = 0u128;
        for index in 0..self.hub.audiences.end() {
            if self.hub.audiences.is_used(index) {
                codes |= 1 << (self.hub.audiences.audience(index).wish.framing & 127);
            }
        }
        while codes != 0 {
            let code = codes.trailing_zeros() as u16;
            codes &= codes - 1;
            for index in 0..self.hub.audiences.end() {
                if self.hub.audiences.is_used(index)
                    && self.hub.audiences.audience(index).wish.framing == code
                {
                    self.flush_audience(index);
                }
            }
        }
        self.flushed = head;
        self.flushed_bytes = self.hub.published_bytes;
    }

    /// Brings the front of an audience up to the head; an `interval` waits for its tick.
    pub(super) fn flush_audience(&mut self, index: u32) {
        if self.hub.audiences.audience(index).wish.interval_ms > 0 {
            return;
        }
        if self.shape(index) == Shape::Answer {
            return self.answer_polls(index);
        }
        let head = self.hub.head();
        while self.hub.audiences.is_used(index) {
            let audience = self.hub.audiences.audience(index);
            let from = audience.position;
            if from >= head {
                return;
            }
            if self.hub.is_lapped(from) {
                return self.lap_front(index, from, head);
            }
            let mask = self.hub.select(&audience.set, from);
            if mask == 0 || audience.front == List::EMPTY {
                let position = &mut self.hub.audiences.audience_mut(index).position;
                *position = if mask == 0 { head.min(from + 64) } else { head };
                continue;
            }
            self.render_run(audience.wish.framing, from, mask);
            self.send_run(index);
        }
    }

    /// Renders the selected events after `from`, as many as fit, unless that is what stands there.
    fn render_run(&mut self, code: u16, from: Seq, mask: u64) {
        if (self.run.code, self.run.from, self.run.mask) == (code, from, mask) {
            return;
        }
        let framing = Framing::of(code);
        let run = &mut self.run;
        (run.code, run.from, run.mask) = (code, from, mask);
        run.to = self.hub.head().min(from + 64);
        run.frames.clear();
        let mut out = Writer::new(&mut self.scratch);
        let mut left = mask;
        while left != 0 {
            let seq = from + 1 + u64::from(left.trailing_zeros());
            left &= left - 1;
            let event = self.hub.event(seq).expect("a run is in the ring");
            let row = framing.row();
            let frame = framing.chunk(&mut out, |out| {
                (row.event)(&event, framing.dress, true, out)
            });
            if frame.is_err() {
                run.to = seq - 1;
                break;
            }
            let frame = Frame {
                seq,
                end: out.len() as u32,
            };
            run.frames.push(frame).expect("a run is at most 64 events");
        }
        run.bytes = out.len();
    }

    /// One send for each member at the front.
    fn send_run(&mut self, index: u32) {
        let audience = self.hub.audiences.audience_mut(index);
        audience.position = self.run.to;
        audience.heartbeat_ms = self.now.ms + self.settings.heartbeat_ms;
        let mut slot = audience.front.head;
        let mut served = 0;
        while slot != NOBODY {
            // A member that falls behind or is gone leaves the list: never follow its link after.
            let next = self.slots[slot].next;
            match self.outlet.send(slot, &self.scratch[..self.run.bytes]) {
                Sent::Bytes(sent) if sent == self.run.bytes => served += 1,
                Sent::Bytes(sent) => self.fall_behind(slot, index, sent, 0),
                Sent::Gone => self.close(slot),
            }
            slot = next;
        }
        self.counters.deliveries += served * self.run.frames.len() as u64;
    }

    /// A viewer's socket took only `sent` bytes of the run, which begins at `run_from`.
    fn fall_behind(&mut self, slot: u32, audience: u32, sent: usize, run_from: usize) {
        let (mut cursor, mut offset) = self.position_in_run(sent, run_from);
        // The rest of a half-sent frame is kept if a buffer is free; else it is rendered again,
        // if its event is still in the ring by then.
        if offset > 0
            && let Some(spill) = self.spills.take()
        {
            let end = self
                .run
                .frames
                .iter()
                .map(|f| f.end as usize)
                .find(|end| *end > sent);
            let rest = &self.scratch[sent..end.unwrap_or(sent)];
            self.spills.bytes(spill)[..rest.len()].copy_from_slice(rest);
            self.spilled[usize::from(spill)] = (0, rest.len() as u32);
            self.slots[slot].spill = spill;
            (cursor, offset) = (cursor + 1, 0);
        }
        self.slots[slot].mark(BLOCKED, true);
        let place = Place::Replay { offset };
        self.set_phase(
            slot,
            Phase::Viewer {
                audience,
                cursor,
                place,
            },
        );
    }

    /// The cursor before the frame that `sent` falls into, and how many bytes of that are sent.
    fn position_in_run(&self, sent: usize, replay_from: usize) -> (Seq, u32) {
        let mut start = replay_from as u32;
        for frame in &self.run.frames {
            if (frame.end as usize) > sent {
                return (frame.seq - 1, sent as u32 - start);
            }
            start = frame.end;
        }
        (self.run.to, 0)
    }

    /// A burst has lapped everybody at the front: each is told and brought up by itself.
    fn lap_front(&mut self, index: u32, cursor: Seq, head: Seq) {
        self.hub.audiences.audience_mut(index).position = head;
        loop {
            let slot = self.hub.audiences.audience(index).front.head;
            if slot == NOBODY {
                return;
            }
            let place = Place::Replay { offset: 0 };
            self.set_phase(
                slot,
                Phase::Viewer {
                    audience: index,
                    cursor,
                    place,
                },
            );
            self.enqueue(slot);
        }
    }

    /// Serves one viewer that is behind: hello if it was lapped, catch-up, replay. What stands in
    /// the first `prefix` bytes of the scratch goes out in front; `greeted` when that has a hello.
    pub(super) fn pump(&mut self, slot: u32, prefix: usize, greeted: bool) {
        let Phase::Viewer {
            audience: index,
            cursor,
            place,
        } = self.slots[slot].phase
        else {
            return;
        };
        if self.slots[slot].is(BLOCKED) || self.slots[slot].spill != NO_BUFFER {
            return;
        }
        // Its half-sent event is no longer there to be finished: it resumes by its cursor.
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
        let mut out = Writer::resume(&mut self.scratch, prefix);
        let rendered = render_feed(hub, run, index, cursor, plan, framing, &mut out);
        self.send_pumped(slot, index, skip, rendered, plan);
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
        let everything = audience.wish.patterns.want_everything();
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
        let mut out = Writer::resume(&mut self.scratch, from);
        let put = framing.chunk(&mut out, |out| (framing.row().hello)(&hello, out));
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
        let behind = Phase::Viewer {
            audience: index,
            cursor,
            place,
        };
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
            return;
        }
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
        self.set_phase(
            slot,
            Phase::Viewer {
                audience: index,
                cursor,
                place,
            },
        );
        if place == (Place::Replay { offset: 0 }) {
            self.enqueue(slot);
        }
    }
}

/// What a feed became in the scratch.
#[derive(Clone, Copy, Debug)]
struct Rendered {
    /// Everything wanted up to here stands there.
    cursor: Seq,
    /// From this byte on it is replay, frame by frame in the run's table.
    replay_from: usize,
    /// Whether nothing was left out for want of room.
    exhausted: bool,
    events: u32,
}

fn render_feed(
    hub: &Hub,
    run: &mut Run,
    index: u32,
    cursor: Seq,
    plan: Plan,
    framing: Framing,
    out: &mut Writer<'_>,
) -> Rendered {
    run.forget();
    run.frames.clear();
    let set = &hub.audiences.audience(index).set;
    let mut rendered = Rendered {
        cursor,
        replay_from: usize::MAX,
        exhausted: false,
        events: 0,
    };
    let mut feed = hub.feed(set, cursor, plan);
    let row = framing.row();
    loop {
        if run.frames.is_full() {
            break;
        }
        let Some(event) = feed.next() else {
            rendered.exhausted = true;
            rendered.cursor = plan.end;
            break;
        };
        let start = out.len();
        let frame = framing.chunk(out, |out| (row.event)(&event, framing.dress, true, out));
        if frame.is_err() {
            break;
        }
        if feed.is_replaying() {
            rendered.replay_from = rendered.replay_from.min(start);
            let frame = Frame {
                seq: event.seq,
                end: out.len() as u32,
            };
            run.frames.push(frame).expect("there was room for a frame");
        }
        rendered.cursor = event.seq;
        rendered.events += 1;
    }
    run.to = rendered.cursor;
    run.bytes = out.len();
    rendered
}
