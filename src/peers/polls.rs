//! How polls are answered: at once, when something is published, at a tick, or when their time is
//! over. Polls of one audience get the same bytes, rendered once.

use super::exchange::Rest;
use super::subscribe::Start;
use super::*;
use crate::access::Cors;
use crate::buffer::Writer;
use crate::hub::audience::TopicSet;
use crate::hub::readers::Reader;
use crate::hub::{Lost, Plan};
use crate::transport::Open;
use crate::wire::response::{self, Head, Length, write_head};

/// What an answer's closing takes at most.
const MARK_BYTES_MAX: usize = 64;

/// The events of a poll's answer. The topics are those there were when it began: no later one has
/// an event up to the plan's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Events {
    pub(super) framing: u16,
    /// As a wish's.
    pub(super) head: u8,
    pub(super) set: TopicSet,
    pub(super) cursor: Seq,
    pub(super) plan: Plan,
    /// Whether its client was told, or can only be told, where it ends by the entity tag.
    pub(super) is_tagged: bool,
    /// Whether no event was written yet.
    pub(super) first: bool,
}

/// A field with an id.
type EntityTag = heapless::String<64>;

/// What became of the poll held last: while nothing changes, who asks the same is held likewise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Which head asked for it.
    pub(super) edition: (usize, u64),
    /// The head of the log then.
    pub(super) head: Seq,
    pub(super) audience: u32,
    pub(super) cursor: Seq,
    pub(super) timeout_ms: u64,
    pub(super) is_conditional: bool,
    /// Which client's it is; 0 for any.
    pub(super) client: u64,
}

impl<O: Outlet> Peers<O> {
    /// Holds a peer if its request is the very poll held last, and nothing was published since;
    /// whether it is held. Most polls come so: all who were answered together ask together.
    pub(super) fn hold_again(&mut self, slot: u32, buffer: u16, bytes: usize) -> bool {
        let Some(held) = &self.held else {
            return false;
        };
        if held.head != self.hub.head() || held.client != 0 {
            return false;
        }
        let from = self.slots[slot].standing;
        let input = &self.inputs.bytes(buffer)[..bytes];
        if !self.memos.recognise(input, from)
            || self.memos.edition() != held.edition
            || self.viewers >= self.settings.viewers
            || self.draining
            || self.may_have_to_wait(self.hub.audiences.audience(held.audience).wish.reader)
        {
            return false;
        }
        let held = *held;
        self.counters.requests += 1;
        self.hold_as(slot, &held, NO_BUFFER);
        true
    }

    /// Holds a peer in an audience that there is; `exchange` has what it asks next.
    pub(super) fn hold_as(&mut self, slot: u32, held: &Held, exchange: u16) {
        let expiry_ms = self.now.ms + held.timeout_ms;
        let phase = Phase::Poll {
            audience: held.audience,
            cursor: held.cursor,
            expiry_ms,
            exchange,
            is_conditional: held.is_conditional,
        };
        self.put_phase(slot, phase);
        self.count_in(held.audience);
        let audience = self.hub.audiences.audience_mut(held.audience);
        audience.expiry_ms = audience.expiry_ms.min(expiry_ms);
        self.wake_by(expiry_ms);
        self.name_client(slot, held.client);
    }

    /// Remembers whose poll a peer holds.
    fn name_client(&mut self, slot: u32, client: u64) {
        let place = slot as usize;
        if client != 0 && self.clients.len() <= place {
            self.clients.resize(place + 1, 0);
        }
        if let Some(name) = self.clients.get_mut(place) {
            *name = client;
        }
    }

    /// Answers the poll that a client still holds, if any: it asks anew.
    /// One with other rights is another client, whatever it is called.
    pub(super) fn release_older(&mut self, client: u64, reader: Reader) {
        if client == 0 {
            return;
        }
        let named = (0..)
            .zip(&self.clients)
            .filter(|(_, name)| **name == client);
        let mut held = named.filter_map(|(slot, _)| match self.slots[slot].phase {
            Phase::Poll { audience, .. } => Some((slot, audience)),
            _ => None,
        });
        let audiences = &self.hub.audiences;
        let is_its =
            |(_, audience): &(u32, u32)| audiences.audience(*audience).wish.reader == reader;
        if let Some((slot, audience)) = held.find(is_its) {
            // It may be about to get something: that is not left out.
            self.settle(audience);
            self.expire_poll(slot);
        }
    }

    /// Renders an answer's body into the scratch behind the room for a head, as much as fits, and
    /// moves `events` on. How long it is, and whether nothing is left out.
    fn render_answer(
        &mut self,
        events: &mut Events,
        hello: Option<(Start, Lost)>,
        intro: Option<(usize, &str)>,
    ) -> (usize, bool) {
        let mut scratch = core::mem::take(&mut self.scratch);
        let framing = Framing::of(events.framing);
        let row = framing.row();
        let room = &mut scratch[RESPONSE_HEAD_BYTES_MAX..][..OUTPUT_BYTES_MAX];
        let mut out = Writer::new(&mut room[..OUTPUT_BYTES_MAX - MARK_BYTES_MAX]);
        let dress = framing.dress("");
        if let Some((padding, callback)) = intro {
            let open = Open {
                padding,
                ..Open::default()
            };
            (row.open)(&open, framing.dress(callback), &mut out)
                .expect("padding fits an empty buffer");
        }
        if let Some((start, lost)) = hello {
            (row.hello)(&self.hello(start, lost), dress, &mut out).expect("a hello fits");
        }
        let mut done = true;
        let mut cursor = events.cursor;
        for event in self.hub.feed(&events.set, cursor, events.plan) {
            if out
                .whole(|out| (row.event)(&event, dress, events.first, out))
                .is_err()
            {
                done = false;
                break;
            }
            events.first = false;
            cursor = event.seq;
        }
        events.cursor = cursor;
        let body_bytes = out.len();
        let mut out = Writer::resume(room, body_bytes);
        if done {
            let last = self.id(events.plan.end);
            (row.mark)(&last, dress, !events.first, &mut out)
                .expect("room is kept for the closing");
        }
        let body_bytes = out.len();
        self.scratch = scratch;
        (body_bytes, done)
    }

    pub(super) fn answer_poll(
        &mut self,
        slot: u32,
        mut events: Events,
        hello: Option<(Start, Lost)>,
        padding: usize,
    ) {
        let content_type = Framing::of(events.framing).row().content_type;
        let callback = self.wish().callback.clone();
        let intro = Some((padding, callback.as_str()));
        let (body_bytes, done) = self.render_answer(&mut events, hello, intro);
        let (length, rest) = match done {
            true => (Length::Bytes(body_bytes), Rest::Nothing),
            false => (Length::Open, Rest::Events(Box::new(events))),
        };
        // Where a longer one ends, may show only when it has.
        events.is_tagged |= done || events.plan.catch_up_to == Some(events.plan.end);
        let tag = self.tag_of(&events);
        let fields = &[response::STREAMING, &tag];
        self.send_answer(slot, 200, content_type, length, fields, body_bytes, rest);
    }

    /// The field of an answer's head, if the head may say already where the answer ends.
    fn tag_of(&self, events: &Events) -> EntityTag {
        match events.is_tagged {
            true => self.entity_tag(events.plan.end),
            false => EntityTag::new(),
        }
    }

    /// The field that says how far an answer goes: as `If-None-Match` it is a cursor.
    fn entity_tag(&self, last: Seq) -> EntityTag {
        let mut bytes = [0; 64];
        let mut out = Writer::new(&mut bytes);
        let put = out
            .put(b"ETag: \"")
            .and_then(|()| self.id(last).put(&mut out));
        put.and_then(|()| out.put(b"\"\r\n"))
            .expect("an id is short");
        let text = core::str::from_utf8(out.written()).expect("an id is ASCII");
        EntityTag::try_from(text).expect("it has the room of its buffer")
    }

    /// Answers a poll for which there is still nothing, and which says what it has (RFC 9110
    /// section 15.4.5).
    pub(super) fn answer_unchanged(&mut self, slot: u32, last: Seq) {
        let tag = self.entity_tag(last);
        let fields = &[response::STREAMING, &tag];
        self.send_answer(slot, 304, "", Length::None, fields, 0, Rest::Nothing);
    }

    /// The next piece of an answer that is longer than a buffer.
    #[cold]
    pub(super) fn more_of_poll(&mut self, slot: u32, mut events: Box<Events>) {
        let reached = events.plan.catch_up_to.unwrap_or(0).max(events.cursor);
        if self.hub.is_lapped(reached) && reached < events.plan.end {
            if events.is_tagged {
                // It was told that this goes further; so it must see that it was cut.
                if let Phase::Busy { exchange } = self.slots[slot].phase {
                    self.exchanges[usize::from(exchange)].rest = Rest::Events(events);
                }
                return self.close(slot);
            }
            // What it was promised has left the ring meanwhile: this answer ends with what it has,
            // and the next says what is lost. HTTP/1.0 could not tell a broken one from a whole.
            (events.plan.catch_up_to, events.plan.end) = (None, events.cursor);
        }
        let (body_bytes, done) = self.render_answer(&mut events, None, None);
        let rest = match done {
            true => Rest::Nothing,
            false => Rest::Events(events),
        };
        self.send_piece(slot, body_bytes, rest);
    }

    /// Answers the polls of an audience if there is anything for them, the same bytes for all;
    /// whether that was all of them.
    pub(super) fn answer_polls(&mut self, index: u32) -> bool {
        while self.hub.audiences.is_used(index) {
            let head = self.hub.head();
            let audience = self.hub.audiences.audience(index);
            if audience.serving == NOBODY {
                let from = audience.position;
                if from >= head {
                    return true;
                }
                let plan = self.hub.plan(from, false, false);
                let lost = self.lost_in(index, from);
                let mut feed = self.hub.feed(&audience.set, from, plan);
                let wanted = lost.count > 0 || feed.next().is_some();
                let audience = self.hub.audiences.audience_mut(index);
                audience.position = head;
                if wanted {
                    let first = self.slots.first(List::front(index));
                    (audience.serving, audience.served_from) = (first, from);
                }
            } else if !self.answer_waiting(index) {
                return false;
            }
        }
        true
    }

    fn lost_in(&self, index: u32, cursor: Seq) -> Lost {
        let audience = self.hub.audiences.audience(index);
        let everything = self.hub.is_for_everything(&audience.wish);
        self.hub.lost(cursor, &audience.set, everything)
    }

    /// What an audience's poll at `cursor` gets, and what it is told of losses.
    fn answer_from(&self, index: u32, cursor: Seq) -> (Events, Option<(Start, Lost)>) {
        let audience = self.hub.audiences.audience(index);
        let start = Start {
            cursor,
            fresh: false,
            reset: false,
            catch_up: false,
        };
        let lost = self.lost_in(index, cursor);
        let events = Events {
            framing: audience.wish.framing,
            head: audience.wish.head,
            set: audience.set,
            cursor,
            plan: self.hub.plan(cursor, false, false),
            is_tagged: false,
            first: true,
        };
        (events, (lost.count > 0).then_some((start, lost)))
    }

    /// Answers those at the front that are still to be served with everything up to the head, until
    /// the turn's sends are used up or somebody needs other bytes; whether that was all of them.
    fn answer_waiting(&mut self, index: u32) -> bool {
        let head = self.hub.head();
        let from = self.hub.audiences.audience(index).served_from;
        let (mut events, hello) = self.answer_from(index, from);
        let mut framing = Framing::of(events.framing);
        framing.last |= self.draining;
        let callback = self.hub.audiences.audience(index).wish.callback.clone();
        let (body_bytes, done) = self.render_answer(&mut events, hello, Some((0, &callback)));
        let begin = self.put_answer_head(framing, events.head, head, Some(body_bytes));
        loop {
            let slot = self.hub.audiences.audience(index).serving;
            if slot == NOBODY || self.sends_left == 0 {
                return slot == NOBODY;
            }
            let next = self.slots.next(slot);
            self.hub.audiences.audience_mut(index).serving = next;
            let Phase::Poll { cursor, .. } = self.slots[slot].phase else {
                return true;
            };
            if cursor >= head {
                continue;
            }
            self.sends_left = self.sends_left.saturating_sub(1);
            self.counters.deliveries += 1;
            if cursor > from {
                // It came when some of this was published but not yet handed on.
                let (events, hello) = self.answer_from(index, cursor);
                self.answer_each(slot, events, hello);
                return false;
            }
            match done {
                true => self.answer_one(slot, framing, begin, RESPONSE_HEAD_BYTES_MAX + body_bytes),
                false => self.answer_long(slot, body_bytes, &events, framing),
            }
        }
    }

    /// Puts the head of a whole answer in front of its body in the scratch, if it has one; where
    /// it begins.
    fn put_answer_head(
        &mut self,
        framing: Framing,
        head: u8,
        last: Seq,
        body_bytes: Option<usize>,
    ) -> usize {
        let date = self.date();
        let tag = self.entity_tag(last);
        let (status, content_type, length) = match body_bytes {
            Some(bytes) => (200, framing.row().content_type, Length::Bytes(bytes)),
            None => (304, "", Length::None),
        };
        let mut out = Writer::new(&mut self.head);
        let head = Head {
            cors: self.settings.policy.cors_fields(Cors::of(head)),
            status,
            version: framing.version,
            date,
            content_type,
            length,
            keep_alive: !framing.last,
            fields: &[response::STREAMING, &tag],
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
        self.put_phase(slot, phase);
        self.leave_for_a_while(audience);
        self.wake_by(self.now.ms + sweep::IDLE_MS);
        if exchange != NO_BUFFER {
            self.set_deadline(exchange, sweep::STALL_MS);
            self.exchanges[usize::from(exchange)].since_ms = self.now.ms;
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
    #[cold]
    fn answer_long(&mut self, slot: u32, body_bytes: usize, rest: &Events, framing: Framing) {
        let Phase::Poll {
            audience,
            exchange,
            is_conditional,
            ..
        } = self.slots[slot].phase
        else {
            return;
        };
        let lent = if exchange == NO_BUFFER {
            self.lend(slot)
        } else {
            Some(exchange)
        };
        let Some(lent) = lent else {
            self.counters.evicted += 1;
            return self.close(slot);
        };
        let reader = self.hub.audiences.audience(audience).wish.reader;
        self.set_phase(slot, Phase::Busy { exchange: lent });
        self.leave(audience);
        self.exchanges[usize::from(lent)].since_ms = self.now.ms;
        let asked = &mut self.exchanges[usize::from(lent)].connection.asked;
        (asked.version, asked.keep_alive) = (framing.version, !framing.last);
        (asked.rights.reader, asked.cors) = (reader, Cors::of(rest.head));
        let events = Events {
            is_tagged: is_conditional,
            ..*rest
        };
        let tag = self.tag_of(&events);
        let rest = Rest::Events(Box::new(events));
        let (length, fields) = (Length::Open, &[response::STREAMING, &tag]);
        let content_type = framing.row().content_type;
        self.send_answer(slot, 200, content_type, length, fields, body_bytes, rest);
    }

    /// Answers the polls of an audience whose time is over, or all when draining.
    pub(super) fn expire_polls(&mut self, index: u32, now_ms: u64) {
        self.settle(index);
        if !self.hub.audiences.is_used(index) {
            return;
        }
        let mut slot = self.slots.first(List::front(index));
        let mut earliest_ms = u64::MAX;
        while slot != NOBODY {
            let next = self.slots.next(slot);
            if let Phase::Poll { expiry_ms, .. } = self.slots[slot].phase {
                if expiry_ms <= now_ms {
                    self.expire_poll(slot);
                } else {
                    earliest_ms = earliest_ms.min(expiry_ms);
                }
            }
            slot = next;
        }
        let audience = self.hub.audiences.audience_mut(index);
        if audience.members > 0 {
            audience.expiry_ms = earliest_ms;
        }
    }

    /// Answers a poll that nothing came for: no events.
    pub(super) fn expire_poll(&mut self, slot: u32) {
        let Phase::Poll {
            audience,
            cursor,
            is_conditional,
            ..
        } = self.slots[slot].phase
        else {
            return;
        };
        let audience = self.hub.audiences.audience(audience);
        let interval = audience.wish.interval_ms > 0;
        let end = match interval {
            true => cursor,
            false => cursor.max(audience.position),
        };
        let plan = Plan {
            catch_up_to: None,
            fresh: false,
            end,
        };
        let events = Events {
            framing: audience.wish.framing,
            head: audience.wish.head,
            set: TopicSet::EMPTY,
            cursor: end,
            plan,
            is_tagged: false,
            first: true,
        };
        if is_conditional {
            let mut framing = Framing::of(events.framing);
            framing.last |= self.draining;
            let from = self.put_answer_head(framing, events.head, end, None);
            return self.answer_one(slot, framing, from, RESPONSE_HEAD_BYTES_MAX);
        }
        self.answer_each(slot, events, None);
    }

    /// Answers one held poll with bytes of its own.
    fn answer_each(&mut self, slot: u32, mut events: Events, hello: Option<(Start, Lost)>) {
        let mut framing = Framing::of(events.framing);
        framing.last |= self.draining;
        let callback = match self.slots[slot].phase {
            Phase::Poll { audience, .. } => &self.hub.audiences.audience(audience).wish.callback,
            _ => return,
        };
        let callback = callback.clone();
        let (body_bytes, done) = self.render_answer(&mut events, hello, Some((0, &callback)));
        if !done {
            return self.answer_long(slot, body_bytes, &events, framing);
        }
        let from = self.put_answer_head(framing, events.head, events.plan.end, Some(body_bytes));
        self.answer_one(slot, framing, from, RESPONSE_HEAD_BYTES_MAX + body_bytes);
    }

    /// The tick of an `interval`: each of its polls gets what changed since its cursor, if
    /// anything.
    pub(super) fn tick_polls(&mut self, index: u32) {
        let audience = self.hub.audiences.audience(index);
        let (framing, head, set) = (audience.wish.framing, audience.wish.head, audience.set);
        let mut slot = self.slots.first(List::front(index));
        while slot != NOBODY {
            let next = self.slots.next(slot);
            if let Phase::Poll { cursor, .. } = self.slots[slot].phase {
                let plan = self.hub.plan(cursor, true, false);
                if self.hub.feed(&set, cursor, plan).next().is_some() {
                    let events = Events {
                        framing,
                        head,
                        set,
                        cursor,
                        plan,
                        is_tagged: false,
                        first: true,
                    };
                    self.answer_each(slot, events, None);
                }
            }
            slot = next;
        }
    }
}
