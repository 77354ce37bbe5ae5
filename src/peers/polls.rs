//! How polls are answered: at once, when something is published, at a tick, or when their time is
//! over. Polls of one audience get the same bytes, rendered once.

use super::exchange::Rest;
use super::subscribe::Start;
use super::*;
use crate::buffer::Writer;
use crate::hub::audience::Wish;
use crate::hub::{Lost, Plan};
use crate::wire::response::{self, Head, Length, write_head};

/// What an answer's closing takes at most.
const MARK_BYTES_MAX: usize = 64;

/// The events of a poll's answer.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub(super) wish: Wish,
    pub(super) cursor: Seq,
    pub(super) plan: Plan,
    /// Whether no event was written yet.
    pub(super) first: bool,
}

impl<O: Outlet> Peers<O> {
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

    pub(super) fn answer_poll(
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
        self.answer_all(index, events, hello);
    }

    /// Answers all polls of an audience with the same bytes.
    fn answer_all(&mut self, index: u32, events: Events, hello: Option<(Start, Lost)>) {
        let mut framing = Framing::of(events.wish.framing);
        framing.last |= self.draining;
        let head = self.hub.head();
        let (body_bytes, rest) = self.render_answer(events, hello, Some(0));
        self.hub.audiences.audience_mut(index).position = head;
        let from = self.put_answer_head(framing, body_bytes);
        let mut slot = self.hub.audiences.audience(index).front.head;
        while slot != NOBODY {
            let next = self.slots[slot].next;
            self.counters.deliveries += 1;
            match &rest {
                None => self.answer_one(slot, framing, from, RESPONSE_HEAD_BYTES_MAX + body_bytes),
                Some(rest) => self.answer_long(slot, body_bytes, rest, framing),
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

    /// Begins an answer longer than a buffer to one held poll; it goes on by itself. Without a
    /// buffer for that it is closed, and asks again.
    fn answer_long(&mut self, slot: u32, body_bytes: usize, rest: &Events, framing: Framing) {
        let Phase::Poll {
            audience, exchange, ..
        } = self.slots[slot].phase
        else {
            return;
        };
        let lent = if exchange == NO_BUFFER {
            self.lend()
        } else {
            Some(exchange)
        };
        let Some(lent) = lent else {
            self.counters.evicted += 1;
            return self.close(slot);
        };
        self.set_phase(slot, Phase::Busy { exchange: lent });
        self.leave(audience);
        let asked = &mut self.exchanges[usize::from(lent)].connection.asked;
        (asked.version, asked.keep_alive) = (framing.version, !framing.last);
        let rest = Rest::Events(Box::new(rest.clone()));
        let (length, fields) = (Length::Open, &[response::STREAMING]);
        let content_type = framing.row().content_type;
        self.send_answer(slot, 200, content_type, length, fields, body_bytes, rest);
    }

    /// Answers the polls of an audience whose time is over, or all when draining.
    pub(super) fn expire_polls(&mut self, index: u32, now_ms: u64) {
        let mut slot = self.hub.audiences.audience(index).front.head;
        let mut earliest_ms = u64::MAX;
        while slot != NOBODY {
            let next = self.slots[slot].next;
            if let Phase::Poll { expiry_ms, .. } = self.slots[slot].phase {
                if expiry_ms <= now_ms {
                    self.expire_poll(slot);
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

    /// Answers a poll that nothing came for: no events.
    pub(super) fn expire_poll(&mut self, slot: u32) {
        let Phase::Poll {
            audience, cursor, ..
        } = self.slots[slot].phase
        else {
            return;
        };
        let audience = self.hub.audiences.audience(audience);
        let interval = audience.wish.interval_ms > 0;
        let end = if interval { cursor } else { audience.position };
        let plan = Plan {
            catch_up_to: None,
            fresh: false,
            end,
        };
        let wish = audience.wish.clone();
        self.answer_each(
            slot,
            Events {
                wish,
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
        if let Some(rest) = rest {
            return self.answer_long(slot, body_bytes, &rest, framing);
        }
        let from = self.put_answer_head(framing, body_bytes);
        self.answer_one(slot, framing, from, RESPONSE_HEAD_BYTES_MAX + body_bytes);
    }

    /// The tick of an `interval`: each of its polls gets what changed since its cursor, if
    /// anything.
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
