//! A peer that asks: its input is read into a lent buffer, each request answered in order, and the
//! buffer goes back when nothing is left in it.

use super::pictures::Sending;
use super::polls::Events;
use super::rights::TOO_MANY_BEHIND;
use super::*;
use crate::buffer::Writer;
use crate::connection::{Asked, Connection, Turn};
use crate::hub::pictures::Plate;
use crate::resource::{self, Listing, Plan, Reply, pictures};
use crate::transport::Transport;
use crate::wire::response::{self, Head, LAST_CHUNK, Length, write_head};
use crate::wire::websocket::session::Session;

/// Requests of one peer answered in a row before others get their turn.
const PIPELINED_PER_TURN: usize = 16;
/// The interim answer.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What of an answer is still to be rendered.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Items of a listing.
    Listing(Listing),
    /// Events of a poll: what is wanted, the cursor reached and how to go on.
    Events(Box<Events>),
    /// What of a picture is to be sent.
    Picture(Sending),
}

/// What a peer needs while it speaks; its number is that of its input buffer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) connection: Connection,
    pub(super) rest: Rest,
    pub(super) deadline_ms: u64,
    /// Whose it is, if it is lent; since when, and since when this request.
    pub(super) slot: u32,
    pub(super) lent_ms: u64,
    pub(super) since_ms: u64,
    /// A request is answered, but for what waits in the spill and in `rest`.
    pub(super) answered: bool,
    body_begun: bool,
    /// Of a WebSocket, in the middle of a message.
    pub(super) session: Session,
    /// Where a picture goes that is arriving.
    pub(super) arriving: Option<Plate>,
}

impl Exchange {
    fn new(slot: u32, now_ms: u64) -> Exchange {
        Exchange {
            connection: Connection::new(),
            rest: Rest::Nothing,
            deadline_ms: now_ms + sweep::HEAD_MS,
            slot,
            lent_ms: now_ms,
            since_ms: now_ms,
            answered: false,
            body_begun: false,
            session: Session::new(0),
            arriving: None,
        }
    }

    /// Whether an answer is begun, and not all of it is rendered.
    pub(super) fn is_answering(&self) -> bool {
        self.answered && !matches!(self.rest, Rest::Nothing)
    }
}

impl<O: Outlet> Peers<O> {
    /// Lends an exchange, or `None` when all are lent.
    pub(super) fn lend(&mut self, slot: u32) -> Option<u16> {
        let exchange = self.inputs.take()?;
        self.open(exchange, slot);
        Some(exchange)
    }

    /// Makes a lent buffer the exchange of a peer.
    pub(super) fn open(&mut self, exchange: u16, slot: u32) {
        let now_ms = self.now.ms;
        // Those before it may have been lent, but only looked into.
        while self.exchanges.len() <= usize::from(exchange) {
            self.exchanges.push(Exchange::new(slot, now_ms));
        }
        self.exchanges[usize::from(exchange)] = Exchange::new(slot, now_ms);
        self.wake_by(now_ms + sweep::HEAD_MS);
    }

    pub(super) fn release(&mut self, exchange: u16) {
        if exchange == NO_BUFFER {
            return;
        }
        self.let_go_of_pictures(exchange);
        self.exchanges[usize::from(exchange)].rest = Rest::Nothing;
        self.inputs.give_back(exchange);
    }

    pub(super) fn set_deadline(&mut self, exchange: u16, wait_ms: u64) {
        let deadline_ms = self.now.ms + wait_ms;
        self.exchanges[usize::from(exchange)].deadline_ms = deadline_ms;
        self.wake_by(deadline_ms);
    }

    /// Whether a peer has begun a request whose head is not whole, or sends a body of which nobody
    /// knows yet that it may.
    pub(super) fn is_headless(&self, slot: u32) -> bool {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return false;
        };
        let entry = &self.exchanges[usize::from(exchange)];
        let is_known = entry.connection.is_in_body() && entry.connection.asked.rights.may_write();
        !entry.answered && !is_known && self.slots[slot].spill == NO_BUFFER
    }

    /// An idle peer has input: it gets a buffer, or waits for one unread, behind those who wait.
    pub(super) fn begin(&mut self, slot: u32) {
        if self.slots.is_empty(List::STARVED)
            && let Some(buffer) = self.take_input()
        {
            return self.read_first(slot, buffer);
        }
        self.set_phase(
            slot,
            Phase::Starved {
                since_ms: self.now.ms,
            },
        );
        self.look_again();
    }

    /// Lends buffers to those who wait, longest first.
    pub(super) fn feed_starved(&mut self) {
        while !self.slots.is_empty(List::STARVED)
            && let Some(buffer) = self.take_input()
        {
            self.read_first(self.slots.first(List::STARVED), buffer);
        }
    }

    /// Reads what a peer has to say into a buffer, which it keeps unless that was nothing, or a
    /// poll that needs no more than a look.
    fn read_first(&mut self, slot: u32, buffer: u16) {
        let input = self.inputs.bytes(buffer);
        let room = input.len();
        let received = self.outlet.recv(slot, input);
        let peer = &mut self.slots[slot];
        // A short read has emptied the socket, unless its end stands behind it.
        let emptied =
            matches!(received, Received::Bytes(bytes) if bytes < room) && !peer.is(HALF_CLOSED);
        peer.mark(READABLE, matches!(received, Received::Bytes(_)) && !emptied);
        match received {
            Received::Bytes(bytes) if emptied && self.hold_again(slot, buffer, bytes) => {
                self.inputs.give_back(buffer);
            }
            Received::Bytes(bytes) => {
                self.open(buffer, slot);
                let connection = &mut self.exchanges[usize::from(buffer)].connection;
                connection.received(bytes);
                self.set_phase(slot, Phase::Busy { exchange: buffer });
                self.process(slot);
                self.read(slot);
            }
            Received::Nothing => {
                let since_ms = self.now.ms;
                self.set_phase(slot, Phase::Idle { since_ms });
                self.inputs.give_back(buffer);
                self.wake_by(since_ms + sweep::IDLE_MS);
            }
            Received::End | Received::Gone => {
                self.inputs.give_back(buffer);
                self.close(slot);
            }
        }
    }

    /// Reads until there is nothing more, or an answer must go out first.
    pub(super) fn read(&mut self, slot: u32) {
        while let Phase::Busy { exchange } = self.slots[slot].phase {
            let Exchange {
                connection,
                answered,
                ..
            } = &mut self.exchanges[usize::from(exchange)];
            if *answered || self.slots[slot].spill != NO_BUFFER || self.slots[slot].is(QUEUED) {
                return;
            }
            let spare = connection.spare(self.inputs.bytes(exchange));
            let room = spare.len();
            match self.outlet.recv(slot, spare) {
                Received::Bytes(bytes) => {
                    connection.received(bytes);
                    // A short read has emptied the socket, unless its end stands behind it.
                    let emptied = bytes < room && !self.slots[slot].is(HALF_CLOSED);
                    self.slots[slot].mark(READABLE, !emptied);
                    self.process(slot);
                    if emptied {
                        return;
                    }
                }
                Received::Nothing => {
                    self.slots[slot].mark(READABLE, false);
                    return self.rest(slot, exchange);
                }
                Received::End | Received::Gone => return self.close(slot),
            }
        }
    }

    /// Answers the requests there are.
    pub(super) fn process(&mut self, slot: u32) {
        for _ in 0..PIPELINED_PER_TURN {
            let Phase::Busy { exchange } = self.slots[slot].phase else {
                return;
            };
            let from = self.standing(slot);
            let entry = &mut self.exchanges[usize::from(exchange)];
            if entry.answered || self.slots[slot].spill != NO_BUFFER {
                return;
            }
            let input = self.inputs.bytes(exchange);
            let policy = &self.settings.policy;
            let mut turn = entry
                .connection
                .advance(input, policy, &mut self.memos, from);
            if !self.guessers.is_empty() {
                turn = self.unless_it_must_wait(slot, exchange, turn);
            }
            self.counters.requests += u64::from(matches!(turn, Turn::Request | Turn::Refused(_)));
            match turn {
                Turn::More => return self.rest(slot, exchange),
                Turn::Continue => {
                    self.scratch[..CONTINUE.len()].copy_from_slice(CONTINUE);
                    self.deliver(slot, 0, CONTINUE.len());
                }
                Turn::Admit => self.admit_picture(slot, exchange),
                Turn::Piece => self.take_piece(exchange),
                Turn::Refused(refusal) => self.refuse(slot, &refusal),
                Turn::Request if self.is_one_too_many(slot, exchange) => {
                    self.refuse(slot, &TOO_MANY_BEHIND);
                }
                Turn::Request => self.execute(slot, exchange),
            }
            self.finish(slot);
        }
        self.enqueue(slot);
    }

    /// More input is wanted: a peer that has sent none of its next request is idle.
    fn rest(&mut self, slot: u32, exchange: u16) {
        let entry = &mut self.exchanges[usize::from(exchange)];
        if entry.connection.is_in_body() {
            if !core::mem::replace(&mut entry.body_begun, true) {
                let wait_ms = match entry.connection.asked.rights.may_write() {
                    true => sweep::BODY_MS,
                    false => sweep::HEAD_MS,
                };
                self.set_deadline(exchange, wait_ms);
            }
        } else if !entry.connection.has_input() && !self.slots[slot].is(READABLE) {
            self.set_phase(
                slot,
                Phase::Idle {
                    since_ms: self.now.ms,
                },
            );
            self.release(exchange);
            self.wake_by(self.now.ms + sweep::IDLE_MS);
        }
    }

    /// If the answer is out, the next request's turn comes, or the connection closes.
    pub(super) fn finish(&mut self, slot: u32) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        let entry = &mut self.exchanges[usize::from(exchange)];
        let is_out = self.slots[slot].spill == NO_BUFFER && matches!(entry.rest, Rest::Nothing);
        if !entry.answered || (!is_out && entry.connection.asked.keep_alive) {
            return;
        }
        if !entry.connection.asked.keep_alive {
            if matches!(entry.rest, Rest::Nothing) {
                self.close_gently(slot);
            }
            return;
        }
        entry.answered = false;
        entry.body_begun = false;
        entry.since_ms = self.now.ms;
        entry.connection.done(self.inputs.bytes(exchange));
        self.set_deadline(exchange, sweep::HEAD_MS);
    }

    /// The socket took what there was: render what is left, then the next request.
    pub(super) fn go_on(&mut self, slot: u32) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        match core::mem::replace(
            &mut self.exchanges[usize::from(exchange)].rest,
            Rest::Nothing,
        ) {
            Rest::Nothing => {}
            Rest::Listing(listing) => self.more_of_listing(slot, listing),
            Rest::Events(events) => self.more_of_poll(slot, events),
            Rest::Picture(sending) => self.more_of_picture(slot, sending),
        }
        self.finish(slot);
        self.process(slot);
        self.read(slot);
    }

    fn execute(&mut self, slot: u32, exchange: u16) {
        if let Plan::Subscribe(subscription) = self.memos.plan() {
            let opening = subscription.opening.clone();
            return self.subscribe(slot, opening);
        }
        if let Plan::SignIn { .. } = self.memos.plan() {
            return self.sign_in(slot, exchange);
        }
        if let Plan::Picture(..) = self.memos.plan() {
            return self.send_picture(slot);
        }
        let entry = &mut self.exchanges[usize::from(exchange)];
        let body = entry.connection.body(self.inputs.bytes(exchange));
        let mut context = Context {
            rights: entry.connection.asked.rights,
            hub: &mut self.hub,
            now: self.now,
            counters: &self.counters,
            board: &self.settings.board,
            push_host: self.settings.push_host,
        };
        let room = &mut self.scratch[RESPONSE_HEAD_BYTES_MAX..][..OUTPUT_BYTES_MAX];
        let mut out = Writer::new(room);
        let plan = self.memos.plan();
        let answered = match plan {
            Plan::PublishPicture(name, ..) => {
                pictures::publish(name, body, &mut entry.arriving, &mut context, &mut out)
            }
            _ => resource::answer(plan, body, &mut context, &mut self.value, &mut out),
        };
        match answered {
            Ok(reply) => {
                let body_bytes = out.len();
                self.reply(slot, reply, body_bytes);
            }
            Err(refusal) => self.refuse(slot, &refusal),
        }
        self.flush_burst();
    }

    /// A burst is handed on before it laps those who are reading as fast as they can.
    pub(super) fn flush_burst(&mut self) {
        let unflushed = self.hub.published_bytes - self.flushing.bytes;
        if unflushed > self.settings.ring_bytes as u64 / 4 {
            self.flush_all();
        }
    }

    /// What is known of the request in hand.
    pub(super) fn asked(&self, slot: u32) -> Asked {
        match self.slots[slot].phase {
            Phase::Busy { exchange } => self.exchanges[usize::from(exchange)].connection.asked,
            _ => unreachable!("only who asks is answered"),
        }
    }

    /// Sends a reply whose body stands in the scratch behind the room for a head.
    fn reply(&mut self, slot: u32, reply: Reply, body_bytes: usize) {
        let length = match (reply.status, reply.rest) {
            (204 | 304, _) => Length::None,
            (_, None) => Length::Bytes(body_bytes),
            (_, Some(_)) => Length::Open,
        };
        self.send_answer(
            slot,
            reply.status,
            reply.content_type,
            length,
            &reply.fields,
            body_bytes,
            reply.rest.map_or(Rest::Nothing, Rest::Listing),
        );
    }

    /// Puts the head in front of the body in the scratch and sends both.
    #[expect(clippy::too_many_arguments, reason = "the parts of an answer, once")]
    pub(super) fn send_answer(
        &mut self,
        slot: u32,
        status: u16,
        content_type: &str,
        length: Length,
        fields: &[&str],
        body_bytes: usize,
        rest: Rest,
    ) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        let date = self.date();
        self.set_deadline(exchange, sweep::STALL_MS);
        let ends = self.draining || self.has_had_its_share(exchange);
        let entry = &mut self.exchanges[usize::from(exchange)];
        if ends || length == Length::Open && entry.connection.asked.version == Version::Http10 {
            entry.connection.asked.keep_alive = false;
        }
        let asked = entry.connection.asked;
        entry.answered = true;
        if !asked.is_head {
            entry.rest = rest;
        }
        let is_last = matches!(entry.rest, Rest::Nothing);
        let mut bytes = core::mem::take(&mut self.head);
        let mut head = Writer::new(&mut bytes);
        let keep_alive = asked.keep_alive;
        let parts = Head {
            cors: self.settings.policy.cors_fields(asked.cors),
            status,
            version: asked.version,
            date,
            content_type,
            length,
            keep_alive,
            fields,
        };
        write_head(&parts, &mut head).expect("a head fits its room");
        let body_end = match asked.is_head {
            true => RESPONSE_HEAD_BYTES_MAX,
            false => self.frame_body(&mut head, length, asked.version, body_bytes, is_last),
        };
        let from = RESPONSE_HEAD_BYTES_MAX - head.len();
        self.scratch[from..RESPONSE_HEAD_BYTES_MAX].copy_from_slice(head.written());
        self.head = bytes;
        if self.deliver(slot, from, body_end) && !is_last && self.slots[slot].spill == NO_BUFFER {
            self.enqueue(slot);
        }
    }

    /// Makes the body in the scratch a chunk if it must be one: its size goes to the end of `head`.
    /// Where the body ends.
    fn frame_body(
        &mut self,
        head: &mut Writer<'_>,
        length: Length,
        version: Version,
        body_bytes: usize,
        is_last: bool,
    ) -> usize {
        let end = RESPONSE_HEAD_BYTES_MAX + body_bytes;
        if length != Length::Open || version == Version::Http10 {
            return end;
        }
        let mut tail: &[u8] = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        if body_bytes == 0 {
            // An empty chunk would be the last one.
            tail = if is_last { LAST_CHUNK } else { b"" };
        } else {
            let put = head
                .put_hex(body_bytes as u64)
                .and_then(|()| head.put(b"\r\n"));
            put.expect("a size fits");
        }
        self.scratch[end..end + tail.len()].copy_from_slice(tail);
        end + tail.len()
    }

    /// Sends the next piece of a body that has no known length.
    pub(super) fn send_piece(&mut self, slot: u32, body_bytes: usize, rest: Rest) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        let entry = &mut self.exchanges[usize::from(exchange)];
        let version = entry.connection.asked.version;
        entry.rest = rest;
        let is_last = matches!(entry.rest, Rest::Nothing);
        self.set_deadline(exchange, sweep::STALL_MS);
        let mut bytes = [0; 16];
        let mut head = Writer::new(&mut bytes);
        let end = self.frame_body(&mut head, Length::Open, version, body_bytes, is_last);
        let from = RESPONSE_HEAD_BYTES_MAX - head.len();
        self.scratch[from..RESPONSE_HEAD_BYTES_MAX].copy_from_slice(head.written());
        if self.deliver(slot, from, end) && !is_last && self.slots[slot].spill == NO_BUFFER {
            self.enqueue(slot);
        }
    }

    #[cold]
    fn more_of_listing(&mut self, slot: u32, listing: Listing) {
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut out = Writer::new(&mut scratch[RESPONSE_HEAD_BYTES_MAX..][..OUTPUT_BYTES_MAX]);
        let rights = self.asked(slot).rights;
        let rest = listing.write(&self.context(rights), &mut out);
        let body_bytes = out.len();
        self.scratch = scratch;
        self.send_piece(slot, body_bytes, rest.map_or(Rest::Nothing, Rest::Listing));
    }

    /// The head of a stream, into the scratch from its start; how long it is. The connection ends
    /// with the stream, whatever ends it.
    pub(super) fn stream_head(&mut self, asked: Asked, row: &Transport) -> usize {
        let head = Head {
            status: 200,
            version: asked.version,
            date: self.date(),
            cors: self.settings.policy.cors_fields(asked.cors),
            content_type: row.content_type,
            length: Length::Open,
            keep_alive: false,
            fields: &[response::STREAMING, row.fields],
        };
        let mut out = Writer::new(&mut self.scratch);
        write_head(&head, &mut out).expect("a head fits its room");
        out.len()
    }
}
