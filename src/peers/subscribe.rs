//! How a viewer or a poll begins, and how polls are answered (DESIGN.md 3, "Connecting and
//! resuming").

use super::exchange::Rest;
use super::polls::{Events, Held};
use super::*;
use crate::buffer::Writer;
use crate::hub::Lost;
use crate::hub::audience::{TopicSet, Wish};
use crate::resource::Plan;
use crate::transport::subscription::{Opening, Since};
use crate::transport::{Busy, End, Hello, Open, Reason};
use crate::wire::response::{self, Length};
use crate::wire::{Kind, Refusal};

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) cursor: Seq,
    /// It has seen nothing: gone topics are left out, and nothing can be lost.
    pub(super) fresh: bool,
    /// Its id means nothing here.
    pub(super) reset: bool,
    /// It wants the last event of each topic first.
    pub(super) catch_up: bool,
}

impl<O: Outlet> Peers<O> {
    /// The wish of the request in hand.
    pub(super) fn wish(&self) -> &Wish {
        match self.memos.plan() {
            Plan::Subscribe(subscription) => &subscription.wish,
            _ => unreachable!("only a subscription is opened"),
        }
    }

    fn start(&self, opening: &Opening) -> Start {
        let head = self.hub.head();
        let (known, reset) = match &opening.since {
            Since::Nothing => (0, false),
            Since::Malformed => (0, true),
            Since::Id { log, seq } if log == self.hub.log_name() && *seq <= head => (*seq, false),
            Since::Id { .. } => (0, true),
        };
        let fresh = known == 0;
        let catch_up = self.wish().interval_ms > 0 || fresh;
        let cursor = if fresh && !opening.snapshot {
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

    fn lost_at(&self, start: Start, set: &TopicSet) -> Lost {
        if start.catch_up || !self.hub.is_lapped(start.cursor) {
            return Lost {
                count: 0,
                exact: true,
            };
        }
        let everything = self.hub.is_for_everything(self.wish());
        self.hub.lost(start.cursor, set, everything)
    }

    pub(super) fn hello(&self, start: Start, lost: Lost) -> Hello<'_> {
        Hello {
            id: self.id(start.cursor),
            lost: lost.count,
            exact: lost.exact,
            reset: start.reset,
        }
    }

    /// A request for events: held, or answered.
    pub(super) fn subscribe(&mut self, slot: u32, opening: Opening) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        let framing = Framing::of(self.wish().framing);
        let row = framing.row();
        if self.exchanges[usize::from(exchange)]
            .connection
            .asked
            .is_head
        {
            let fields = &[response::STREAMING, row.fields];
            // How long a poll's answer will be is not known (RFC 9110 section 9.3.2).
            let length = match row.shape {
                Shape::Stream => Length::Open,
                Shape::Answer => Length::None,
            };
            let rest = Rest::Nothing;
            return self.send_answer(slot, 200, row.content_type, length, fields, 0, rest);
        }
        match row.shape {
            Shape::Answer => self.poll(slot, &opening),
            Shape::Stream if self.draining => self.busy(slot, framing, &opening, Reason::Draining),
            Shape::Stream if self.viewers >= self.settings.viewers => {
                self.busy(slot, framing, &opening, Reason::Full);
            }
            Shape::Stream => self.open_stream(slot, exchange, framing, &opening),
        }
    }

    /// When a busy viewer is to try again.
    pub(super) fn retry_ms(&mut self, reason: Reason) -> u64 {
        match reason {
            Reason::Full | Reason::Token => 10_000 + self.jitter(50_001),
            Reason::Draining => 1_000 + self.jitter(4_001),
        }
    }

    /// No stream now. A native EventSource gives up for good on any status but 200.
    #[cold]
    fn busy(&mut self, slot: u32, framing: Framing, opening: &Opening, reason: Reason) {
        let row = framing.row();
        let is_event_source = row.accept == "text/event-stream";
        if reason == Reason::Full && !is_event_source {
            return self.refuse(slot, &FULL);
        }
        if framing.is_socket() {
            return self.refuse(slot, &DRAINING);
        }
        let retry_ms = self.retry_ms(reason);
        let mut length = self.stream_head(self.asked(slot), row);
        let callback = self.wish().callback.clone();
        // What SSE begins with stands in its busy, too.
        if !is_event_source {
            let open = Open {
                retry_ms,
                padding: opening.padding.unwrap_or(row.padding),
                domain: &opening.domain,
            };
            let dress = framing.dress(&callback);
            let mut out = Writer::resume(&mut self.scratch, length);
            let put = framing.chunk(&mut out, |out| (row.open)(&open, dress, out));
            put.expect("padding fits an empty buffer");
            length = out.len();
        }
        let end = End::Busy(Busy { reason, retry_ms });
        let length = put_end(&mut self.scratch, length, framing, &callback, &end);
        if self.deliver(slot, 0, length) {
            self.close_gently(slot);
        }
    }

    fn open_stream(&mut self, slot: u32, exchange: u16, framing: Framing, opening: &Opening) {
        let Some(index) = self.join() else {
            return self.busy(slot, framing, opening, Reason::Full);
        };
        let start = self.start(opening);
        let lost = self.lost_at(start, &self.hub.audiences.audience(index).set);
        let head = self.hub.head();
        let asked = self.asked(slot);
        let place = if start.catch_up {
            Place::CatchUp {
                bound: head,
                fresh: start.fresh,
            }
        } else {
            Place::Replay { offset: 0 }
        };
        self.set_phase(slot, Phase::of_viewer(index, start.cursor, place));
        match opening.upgrade {
            Some(_) => self.begin_talk(slot, exchange),
            None => self.release(exchange),
        }
        self.count_in(index);
        self.begin_span(slot, index, opening.span_in(framing.row()));
        let prefix = match &opening.upgrade {
            Some(how) => self.upgrade_head(asked, how),
            None => self.stream_head(asked, framing.row()),
        };
        let retry_ms = 2_000 + self.jitter(3_001);
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut out = Writer::resume(&mut scratch, prefix);
        let row = framing.row();
        let hello = self.hello(start, lost);
        let dress = framing.dress(&self.wish().callback);
        let open = Open {
            retry_ms,
            padding: opening.padding.unwrap_or(row.padding),
            domain: &opening.domain,
        };
        let put = framing
            .chunk(&mut out, |out| (row.open)(&open, dress, out))
            .and_then(|()| framing.chunk(&mut out, |out| (row.hello)(&hello, dress, out)));
        put.expect("padding and hello fit an empty buffer");
        let prefix = out.len();
        self.scratch = scratch;
        self.pump(slot, prefix, true);
        self.hear_out(slot);
    }

    /// The audience of the request in hand.
    fn join(&mut self) -> Option<u32> {
        let Plan::Subscribe(subscription) = self.memos.plan() else {
            unreachable!("only a subscription is opened");
        };
        let index = self.hub.join(&subscription.wish)?;
        self.open_lists(index);
        Some(index)
    }

    /// The audience with this wish.
    pub(super) fn join_as(&mut self, wish: &Wish) -> Option<u32> {
        let index = self.hub.join(wish)?;
        self.open_lists(index);
        Some(index)
    }

    /// An audience that nobody is in yet has no lists.
    fn open_lists(&mut self, index: u32) {
        if self.hub.audiences.audience(index).members == 0 {
            // It may have the place of one that waited for its polls.
            self.held = None;
            self.slots.open(List::front(index));
            self.slots.open(List::behind(index));
        }
    }

    #[inline]
    pub(super) fn count_in(&mut self, index: u32) {
        if self.hub.audiences.enter(index) {
            self.begin_audience(index);
        }
        let framing = Framing::of(self.hub.audiences.audience(index).wish.framing);
        self.counters.viewers[usize::from(framing.transport)] += 1;
        self.viewers += 1;
        self.note_presence();
    }

    /// Sets the clocks of an audience that has its first member.
    fn begin_audience(&mut self, index: u32) {
        let now_ms = self.now.ms;
        let heartbeat_ms = now_ms + self.settings.heartbeat_ms;
        let audience = self.hub.audiences.audience_mut(index);
        audience.heartbeat_ms = heartbeat_ms;
        audience.expiry_ms = u64::MAX;
        audience.limit_bytes = u64::MAX;
        audience.is_plain = audience.wish.interval_ms == 0;
        // One clock for all: ticks are at multiples of the interval.
        audience.tick_ms = match u64::from(audience.wish.interval_ms) {
            0 => u64::MAX,
            interval_ms => (now_ms / interval_ms + 1) * interval_ms,
        };
        let wake_ms = audience.heartbeat_ms.min(audience.tick_ms);
        self.wake_by(wake_ms);
    }

    /// A poll is answered at once if there is anything to say, else held.
    fn poll(&mut self, slot: u32, opening: &Opening) {
        self.release_older(opening.client, self.wish().reader);
        let audience = self.hub.audiences.find(self.wish());
        let set = match audience {
            Some(index) => self.hub.audiences.audience(index).set,
            None => self.hub.matching(self.wish()),
        };
        let start = self.start(opening);
        let lost = self.lost_at(start, &set);
        let named = opening.since != Since::Nothing;
        let plan = self.hub.plan(start.cursor, start.catch_up, start.fresh);
        let greet = !named || start.reset || lost.count > 0;
        let interval = self.wish().interval_ms > 0 && !start.fresh;
        let has_news = self.hub.feed(&set, start.cursor, plan).next().is_some();
        let now = greet || opening.timeout_ms == 0 || self.draining || (has_news && !interval);
        if !now {
            // Without an interval there is nothing for it up to the head.
            let cursor = if interval { start.cursor } else { plan.end };
            return self.hold(slot, audience, cursor, opening);
        }
        if opening.is_conditional && !greet && !has_news {
            return self.answer_unchanged(slot, plan.end);
        }
        let events = Events {
            framing: self.wish().framing,
            head: self.wish().head,
            set,
            cursor: start.cursor,
            plan,
            is_tagged: opening.is_conditional,
            first: true,
        };
        let hello = greet.then_some((start, lost));
        self.answer_poll(slot, events, hello, opening.padding.unwrap_or_default());
    }

    fn hold(&mut self, slot: u32, audience: Option<u32>, cursor: Seq, opening: &Opening) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        if self.viewers >= self.settings.viewers {
            return self.refuse(slot, &FULL);
        }
        let Some(index) = audience.or_else(|| self.join()) else {
            return self.refuse(slot, &FULL);
        };
        let entry = &mut self.exchanges[usize::from(exchange)];
        entry.connection.done(self.inputs.bytes(exchange));
        let kept = if entry.connection.has_input() {
            exchange
        } else {
            NO_BUFFER
        };
        let held = Held {
            edition: self.memos.edition(),
            head: self.hub.head(),
            audience: index,
            cursor,
            timeout_ms: opening.timeout_ms,
            is_conditional: opening.is_conditional,
            client: opening.client,
        };
        self.hold_as(slot, &held, kept);
        self.held = Some(held);
        if kept == NO_BUFFER {
            self.release(exchange);
        }
        if self.slots[slot].is(HALF_CLOSED) {
            self.probe_poll(slot);
        }
    }
}

/// Appends what a stream ends with, and the body's end; how long it is then.
pub(super) fn put_end(
    scratch: &mut [u8],
    from: usize,
    framing: Framing,
    callback: &str,
    end: &End<'_>,
) -> usize {
    let dress = framing.dress(callback);
    let mut out = Writer::resume(scratch, from);
    let put = framing.chunk(&mut out, |out| (framing.row().end)(end, dress, out));
    put.and_then(|()| framing.end_stream(end, &mut out))
        .expect("a few words fit");
    out.len()
}

const DRAINING: Refusal = Refusal::new(
    503,
    "the server is going down; try again after the seconds in Retry-After",
)
.kind(Kind::Full);

const FULL: Refusal = Refusal::new(
    503,
    "all places for viewers are taken; try again after the seconds in Retry-After, or ask with timeout=0",
)
.kind(Kind::Full);
