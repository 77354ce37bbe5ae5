//! How a viewer or a poll begins, and how polls are answered (DESIGN.md 3, "Connecting and
//! resuming").

use super::exchange::Rest;
use super::*;
use crate::buffer::Writer;
use crate::hub::audience::Wish;
use crate::hub::{Lost, Plan};
use crate::transport::subscription::{Since, Subscription};
use crate::transport::{Busy, Hello, Reason};
use crate::wire::Refusal;
use crate::wire::response::{self, Head, Length, write_head};

/// What an answer's closing takes at most.
const MARK_BYTES_MAX: usize = 64;

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    cursor: Seq,
    /// It has seen nothing: gone topics are left out, and nothing can be lost.
    fresh: bool,
    /// Its id means nothing here.
    reset: bool,
    /// It wants the last event of each topic first.
    catch_up: bool,
}

/// The events of a poll's answer.
#[derive(Clone, Debug)]
pub(super) struct Events {
    wish: Wish,
    cursor: Seq,
    plan: Plan,
    /// Whether no event was written yet.
    first: bool,
}

impl<O: Outlet> Peers<O> {
    fn start(&self, subscription: &Subscription) -> Start {
        let head = self.hub.head();
        let (known, reset) = match &subscription.since {
            Since::Nothing => (0, false),
            Since::Malformed => (0, true),
            Since::Id { log, seq } if log == self.hub.log_name() && *seq <= head => (*seq, false),
            Since::Id { .. } => (0, true),
        };
        let fresh = known == 0;
        let catch_up = subscription.wish.interval_ms > 0 || fresh;
        let cursor = if fresh && !subscription.snapshot {
            head
        } else {
            known
        };
        Start {
            cursor,
            fresh,
            reset,
            catch_up,
        }
    }

    fn lost_at(&self, start: Start, wish: &Wish) -> Lost {
        if start.catch_up {
            return Lost {
                count: 0,
                exact: true,
            };
        }
        let set = self.hub.matching(&wish.patterns);
        self.hub
            .lost(start.cursor, &set, wish.patterns.want_everything())
    }

    fn hello(&self, start: Start, lost: Lost) -> Hello<'_> {
        Hello {
            id: self.id(start.cursor),
            lost: lost.count,
            exact: lost.exact,
            reset: start.reset,
        }
    }

    /// A request for events: held, or answered.
    pub(super) fn subscribe(&mut self, slot: u32, subscription: Subscription) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        let framing = Framing::of(subscription.wish.framing);
        let row = framing.row();
        if self.exchanges[usize::from(exchange)]
            .connection
            .asked
            .is_head
        {
            let fields = &[response::STREAMING];
            let (length, rest) = (Length::Open, Rest::Nothing);
            return self.send_answer(slot, 200, row.content_type, length, fields, 0, rest);
        }
        match row.shape {
            Shape::Answer => self.poll(slot, subscription),
            Shape::Stream if self.draining => self.busy(slot, framing, Reason::Draining),
            Shape::Stream if self.viewers >= self.settings.viewers => {
                self.busy(slot, framing, Reason::Full);
            }
            Shape::Stream => self.open_stream(slot, exchange, framing, subscription),
        }
    }

    /// When a busy viewer is to try again.
    pub(super) fn retry_ms(&mut self, reason: Reason) -> u64 {
        match reason {
            Reason::Full => 10_000 + self.jitter(50_001),
            Reason::Draining => 1_000 + self.jitter(4_001),
        }
    }

    /// No stream now. A native EventSource gives up for good on any status but 200.
    fn busy(&mut self, slot: u32, framing: Framing, reason: Reason) {
        if reason == Reason::Full && framing.row().accept != "text/event-stream" {
            return self.refuse(slot, &FULL);
        }
        let retry_ms = self.retry_ms(reason);
        let mut length = self.stream_head(framing.version, framing.row().content_type);
        length = self.put_busy(length, framing, Busy { reason, retry_ms });
        if self.deliver(slot, 0, length) {
            self.close_gently(slot);
        }
    }

    /// Appends busy and the body's end to the scratch; how long it is then.
    pub(super) fn put_busy(&mut self, from: usize, framing: Framing, busy: Busy) -> usize {
        let mut out = Writer::resume(&mut self.scratch, from);
        let put = framing.chunk(&mut out, |out| (framing.row().busy)(&busy, out));
        put.and_then(|()| framing.end(&mut out))
            .expect("a few words fit");
        out.len()
    }

    fn open_stream(
        &mut self,
        slot: u32,
        exchange: u16,
        framing: Framing,
        subscription: Subscription,
    ) {
        let Some(index) = self.join(&subscription.wish) else {
            return self.busy(slot, framing, Reason::Full);
        };
        let start = self.start(&subscription);
        let lost = self.lost_at(start, &subscription.wish);
        let head = self.hub.head();
        let place = if start.catch_up {
            Place::CatchUp {
                bound: head,
                fresh: start.fresh,
            }
        } else {
            Place::Replay { offset: 0 }
        };
        let phase = Phase::Viewer {
            audience: index,
            cursor: start.cursor,
            place,
        };
        self.set_phase(slot, phase);
        self.release(exchange);
        self.count_in(index);
        let prefix = self.stream_head(framing.version, framing.row().content_type);
        let retry_ms = 2_000 + self.jitter(3_001);
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut out = Writer::resume(&mut scratch, prefix);
        let row = framing.row();
        let hello = self.hello(start, lost);
        let put = framing
            .chunk(&mut out, |out| {
                (row.open)(retry_ms, subscription.padding, out)
            })
            .and_then(|()| framing.chunk(&mut out, |out| (row.hello)(&hello, out)));
        put.expect("padding and hello fit an empty buffer");
        let prefix = out.len();
        self.scratch = scratch;
        self.pump(slot, prefix, true);
    }

    /// The audience with this wish, its front at the head.
    fn join(&mut self, wish: &Wish) -> Option<u32> {
        let index = self.hub.join(wish)?;
        if self.hub.audiences.audience(index).members > 0 {
            self.run_forget();
            self.flush_audience(index);
            // Answering its last poll or losing its last member may have freed it.
            return self.hub.join(wish);
        }
        Some(index)
    }

    fn count_in(&mut self, index: u32) {
        let now_ms = self.now.ms;
        let heartbeat_ms = now_ms + self.settings.heartbeat_ms;
        let audience = self.hub.audiences.audience_mut(index);
        audience.members += 1;
        let interval_ms = u64::from(audience.wish.interval_ms);
        let framing = Framing::of(audience.wish.framing);
        if audience.members == 1 {
            audience.heartbeat_ms = heartbeat_ms;
            audience.expiry_ms = u64::MAX;
            // One clock for all: ticks are at multiples of the interval.
            audience.tick_ms = match interval_ms {
                0 => u64::MAX,
                interval_ms => (now_ms / interval_ms + 1) * interval_ms,
            };
        }
        let wake_ms = audience.heartbeat_ms.min(audience.tick_ms);
        self.wake_by(wake_ms);
        self.counters.viewers[usize::from(framing.transport)] += 1;
        self.viewers += 1;
    }

    /// A poll is answered at once if there is anything to say, else held.
    fn poll(&mut self, slot: u32, subscription: Subscription) {
        let start = self.start(&subscription);
        let lost = self.lost_at(start, &subscription.wish);
        let named = subscription.since != Since::Nothing;
        let head = self.hub.head();
        let lapped = self.hub.is_lapped(start.cursor);
        let catch_up_to = match (start.catch_up, lapped) {
            (true, _) => Some(head),
            (false, true) => Some(self.hub.first() - 1),
            (false, false) => None,
        };
        let plan = Plan {
            catch_up_to,
            fresh: start.fresh,
            end: head,
        };
        let greet = !named || start.reset || lost.count > 0;
        let interval = subscription.wish.interval_ms > 0 && !start.fresh;
        let set = self.hub.matching(&subscription.wish.patterns);
        let has_news = self.hub.feed(&set, start.cursor, plan).next().is_some();
        let now = greet || subscription.timeout_ms == 0 || self.draining || (has_news && !interval);
        if !now {
            return self.hold(slot, start.cursor, &subscription);
        }
        let events = Events {
            wish: subscription.wish,
            cursor: start.cursor,
            plan,
            first: true,
        };
        let hello = greet.then_some((start, lost));
        self.answer_poll(slot, events, hello, subscription.padding);
    }

    fn hold(&mut self, slot: u32, cursor: Seq, subscription: &Subscription) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        if self.viewers >= self.settings.viewers {
            return self.refuse(slot, &FULL);
        }
        let Some(index) = self.join(&subscription.wish) else {
            return self.refuse(slot, &FULL);
        };
        let expiry_ms = self.now.ms + subscription.timeout_ms;
        let entry = &mut self.exchanges[usize::from(exchange)];
        entry.connection.done(self.inputs.bytes(exchange));
        let kept = if entry.connection.has_input() {
            exchange
        } else {
            NO_BUFFER
        };
        let phase = Phase::Poll {
            audience: index,
            cursor,
            expiry_ms,
            exchange: kept,
        };
        self.set_phase(slot, phase);
        if kept == NO_BUFFER {
            self.release(exchange);
        }
        self.count_in(index);
        let audience = self.hub.audiences.audience_mut(index);
        audience.expiry_ms = audience.expiry_ms.min(expiry_ms);
        self.wake_by(expiry_ms);
    }

    /// Renders an answer's body into the scratch behind the room for a head. How long it is, and
    /// what did not fit.
    fn render_answer(
        &mut self,
        mut events: Events,
        hello: Option<(Start, Lost)>,
        padding: Option<usize>,
    ) -> (usize, Option<Events>) {
        let mut scratch = core::mem::take(&mut self.scratch);
        let framing = Framing::of(events.wish.framing);
        let row = framing.row();
        let room = &mut scratch[RESPONSE_HEAD_BYTES_MAX..][..OUTPUT_BYTES_MAX];
        let mut out = Writer::new(&mut room[..OUTPUT_BYTES_MAX - MARK_BYTES_MAX]);
        if let Some(padding) = padding {
            (row.open)(0, padding, &mut out).expect("padding fits an empty buffer");
        }
        if let Some((start, lost)) = hello {
            (row.hello)(&self.hello(start, lost), &mut out).expect("a hello fits");
        }
        let set = self.hub.matching(&events.wish.patterns);
        let mut done = true;
        for event in self.hub.feed(&set, events.cursor, events.plan) {
            if out
                .whole(|out| (row.event)(&event, framing.dress, events.first, out))
                .is_err()
            {
                done = false;
                break;
            }
            events.first = false;
            events.cursor = event.seq;
        }
        let body_bytes = out.len();
        let mut out = Writer::resume(room, body_bytes);
        if done {
            let last = self.id(events.plan.end);
            (row.mark)(&last, !events.first, &mut out).expect("room is kept for the closing");
        }
        let body_bytes = out.len();
        self.scratch = scratch;
        (body_bytes, (!done).then_some(events))
    }

    fn answer_poll(
        &mut self,
        slot: u32,
        events: Events,
        hello: Option<(Start, Lost)>,
        padding: usize,
    ) {
        let content_type = Framing::of(events.wish.framing).row().content_type;
        let (body_bytes, rest) = self.render_answer(events, hello, Some(padding));
        let length = if rest.is_some() {
            Length::Open
        } else {
            Length::Bytes(body_bytes)
        };
        let rest = rest.map_or(Rest::Nothing, |events| Rest::Events(Box::new(events)));
        let fields = &[response::STREAMING];
        self.send_answer(slot, 200, content_type, length, fields, body_bytes, rest);
    }

    /// The next piece of an answer that is longer than a buffer.
    pub(super) fn more_of_poll(&mut self, slot: u32, events: Box<Events>) {
        let reached = events.plan.catch_up_to.unwrap_or(0).max(events.cursor);
        if self.hub.is_lapped(reached) && reached < events.plan.end {
            // What it was promised has left the ring meanwhile; it asks again with its cursor.
            return self.close(slot);
        }
        let (body_bytes, rest) = self.render_answer(*events, None, None);
        let rest = rest.map_or(Rest::Nothing, |events| Rest::Events(Box::new(events)));
        self.send_piece(slot, body_bytes, rest);
    }

    /// Answers the polls of an audience if there is anything for them: the same bytes for all.
    pub(super) fn answer_polls(&mut self, index: u32) {
        let audience = self.hub.audiences.audience(index);
        let (cursor, head) = (audience.position, self.hub.head());
        if cursor >= head {
            return;
        }
        let lapped = self.hub.is_lapped(cursor);
        let catch_up_to = lapped.then(|| self.hub.first() - 1);
        let plan = Plan {
            catch_up_to,
            fresh: false,
            end: head,
        };
        let everything = audience.wish.patterns.want_everything();
        let lost = self.hub.lost(cursor, &audience.set, everything);
        let has_news = self.hub.feed(&audience.set, cursor, plan).next().is_some();
        if !has_news && lost.count == 0 {
            self.hub.audiences.audience_mut(index).position = head;
            return;
        }
        let start = Start {
            cursor,
            fresh: false,
            reset: false,
            catch_up: false,
        };
        let hello = (lost.count > 0).then_some((start, lost));
        let events = Events {
            wish: audience.wish.clone(),
            cursor,
            plan,
            first: true,
        };
        self.answer_all(index, events, hello, |_| true);
    }

    /// Answers those polls of an audience that `wanted` picks, all with the same bytes.
    fn answer_all(
        &mut self,
        index: u32,
        events: Events,
        hello: Option<(Start, Lost)>,
        wanted: impl Fn(&Phase) -> bool,
    ) {
        let mut framing = Framing::of(events.wish.framing);
        framing.last |= self.draining;
        let head = self.hub.head();
        let (body_bytes, rest) = self.render_answer(events, hello, Some(0));
        self.hub.audiences.audience_mut(index).position = head;
        let mut slot = self.hub.audiences.audience(index).front.head;
        if let Some(rest) = rest {
            return self.answer_long(index, body_bytes, &rest, framing);
        }
        let from = self.put_answer_head(framing, body_bytes);
        while slot != NOBODY {
            let next = self.slots[slot].next;
            if wanted(&self.slots[slot].phase) {
                self.counters.deliveries += 1;
                self.answer_one(slot, framing, from, RESPONSE_HEAD_BYTES_MAX + body_bytes);
            }
            slot = next;
        }
    }

    /// Puts the head of a whole answer in front of its body in the scratch; where it begins.
    fn put_answer_head(&mut self, framing: Framing, body_bytes: usize) -> usize {
        let mut bytes = [0; RESPONSE_HEAD_BYTES_MAX];
        let mut out = Writer::new(&mut bytes);
        let head = Head {
            status: 200,
            version: framing.version,
            date: self.date(),
            content_type: framing.row().content_type,
            length: Length::Bytes(body_bytes),
            keep_alive: !framing.last,
            fields: &[response::STREAMING],
        };
        write_head(&head, &mut out).expect("a head fits its room");
        let from = RESPONSE_HEAD_BYTES_MAX - out.len();
        self.scratch[from..RESPONSE_HEAD_BYTES_MAX].copy_from_slice(out.written());
        from
    }

    /// Sends a whole answer to one held poll, which then is an ordinary peer again.
    fn answer_one(&mut self, slot: u32, framing: Framing, from: usize, to: usize) {
        let Phase::Poll {
            audience, exchange, ..
        } = self.slots[slot].phase
        else {
            return;
        };
        let phase = match exchange {
            NO_BUFFER => Phase::Idle {
                since_ms: self.now.ms,
            },
            exchange => Phase::Busy { exchange },
        };
        self.set_phase(slot, phase);
        self.leave(audience);
        self.wake_by(self.now.ms + sweep::IDLE_MS);
        if exchange != NO_BUFFER {
            self.set_deadline(exchange, sweep::STALL_MS);
        }
        if !self.deliver(slot, from, to) {
            return;
        }
        if framing.last {
            self.close_gently(slot);
        } else if exchange != NO_BUFFER || self.slots[slot].is(READABLE) {
            self.enqueue(slot);
        }
    }

    /// Begins an answer longer than a buffer to every poll of an audience; each goes on by itself.
    fn answer_long(&mut self, index: u32, body_bytes: usize, rest: &Events, framing: Framing) {
        while self.hub.audiences.is_used(index) {
            let slot = self.hub.audiences.audience(index).front.head;
            let Phase::Poll { exchange, .. } = self.slots[slot].phase else {
                return;
            };
            let lent = if exchange == NO_BUFFER {
                self.lend()
            } else {
                Some(exchange)
            };
            let Some(lent) = lent else {
                self.close(slot);
                continue;
            };
            self.set_phase(slot, Phase::Busy { exchange: lent });
            self.leave(index);
            let asked = &mut self.exchanges[usize::from(lent)].connection.asked;
            (asked.version, asked.keep_alive) = (framing.version, !framing.last);
            let rest = Rest::Events(Box::new(rest.clone()));
            let (length, fields) = (Length::Open, &[response::STREAMING]);
            let content_type = framing.row().content_type;
            self.send_answer(slot, 200, content_type, length, fields, body_bytes, rest);
        }
    }

    /// Answers the polls of an audience whose time is over, or all when draining.
    pub(super) fn expire_polls(&mut self, index: u32, now_ms: u64) {
        let audience = self.hub.audiences.audience(index);
        let (position, interval) = (audience.position, audience.wish.interval_ms > 0);
        let wish = audience.wish.clone();
        let mut slot = audience.front.head;
        let mut earliest_ms = u64::MAX;
        while slot != NOBODY {
            let next = self.slots[slot].next;
            if let Phase::Poll {
                cursor, expiry_ms, ..
            } = self.slots[slot].phase
            {
                if expiry_ms <= now_ms {
                    let end = if interval { cursor } else { position };
                    self.answer_empty(slot, &wish, end);
                } else {
                    earliest_ms = earliest_ms.min(expiry_ms);
                }
            }
            slot = next;
        }
        if self.hub.audiences.is_used(index) {
            self.hub.audiences.audience_mut(index).expiry_ms = earliest_ms;
        }
    }

    fn answer_empty(&mut self, slot: u32, wish: &Wish, end: Seq) {
        let plan = Plan {
            catch_up_to: None,
            fresh: false,
            end,
        };
        self.answer_each(
            slot,
            Events {
                wish: wish.clone(),
                cursor: end,
                plan,
                first: true,
            },
        );
    }

    /// Answers one held poll with bytes of its own.
    fn answer_each(&mut self, slot: u32, events: Events) {
        let mut framing = Framing::of(events.wish.framing);
        framing.last |= self.draining;
        let (body_bytes, rest) = self.render_answer(events, None, Some(0));
        if rest.is_some() {
            // More than a buffer at one tick: it asks again and is answered in pieces.
            return self.close(slot);
        }
        let from = self.put_answer_head(framing, body_bytes);
        self.answer_one(slot, framing, from, RESPONSE_HEAD_BYTES_MAX + body_bytes);
    }

    /// The tick of an `interval`: each of its polls gets what changed since its cursor, if anything.
    pub(super) fn tick_polls(&mut self, index: u32) {
        let head = self.hub.head();
        let wish = self.hub.audiences.audience(index).wish.clone();
        let mut slot = self.hub.audiences.audience(index).front.head;
        while slot != NOBODY {
            let next = self.slots[slot].next;
            if let Phase::Poll {
                cursor, audience, ..
            } = self.slots[slot].phase
            {
                let plan = Plan {
                    catch_up_to: Some(head),
                    fresh: false,
                    end: head,
                };
                let set = &self.hub.audiences.audience(audience).set;
                if self.hub.feed(set, cursor, plan).next().is_some() {
                    self.answer_each(
                        slot,
                        Events {
                            wish: wish.clone(),
                            cursor,
                            plan,
                            first: true,
                        },
                    );
                }
            }
            slot = next;
        }
    }
}

const FULL: Refusal = Refusal::new(
    503,
    "all places for viewers are taken; try again after the seconds in Retry-After",
);
