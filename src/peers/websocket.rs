//! Viewers that speak: WebSockets. What they say is heard between whole frames to them, and
//! answered in its order (`resource::said`); pings keep the dead from being served.
//!
//! All of them are heard in one buffer. Only who is in the middle of a message keeps a buffer of
//! its own, one of those for requests, and no longer than a body may take. Nobody is heard who does
//! not take what it is sent: its socket fills, and that holds it back.

use super::exchange::Exchange;
use super::subscribe::Start;
use super::*;
use crate::access::Rights;
use crate::buffer::{Full, Writer};
use crate::hub::Lost;
use crate::hub::audience::Patterns;
use crate::limits::BODY_BYTES_MAX;
use crate::resource::said::{self, Message, Said};
use crate::resource::{BodyKind, Name, topics};
use crate::transport::websocket::{PROTOCOL, Upgrade};
use crate::wire::Refusal;
use crate::wire::response::{Head, Length, write_head};
use crate::wire::websocket::handshake::ACCEPT_FIELDS;
use crate::wire::websocket::session::{PING, Session, Turn};
use crate::wire::websocket::{Close, Kind, Opcode, write_frame};

/// How often a client is pinged.
const PING_MS: u64 = 20_000;
/// So many pings in a row may stay without any answer.
const UNANSWERED_MAX: u8 = 2;
/// Messages of one peer heard in a row before others get their turn.
const MESSAGES_PER_TURN: usize = 16;
/// The longest message.
const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX;

const _: () = assert!(
    MESSAGE_BYTES_MAX + crate::wire::websocket::decoder::ROOM_BYTES <= INPUT_BYTES_MAX,
    "a message fits an input buffer"
);

const BINARY: Close = Close::new(1003, "Messages to this server are text.");
const SLOW: Close = Close::new(1008, "A message must be whole within a minute.");
const SILENT: Close = Close::new(1008, "Nothing came, not even answers to pings.");
const SHORT: Close = Close::new(1013, "There is no buffer for half a message.");

/// What is kept of a viewer that speaks; by slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    /// Whether the slot has one.
    is_open: bool,
    /// Pings since it was last heard.
    unanswered: u8,
    /// The buffer with the message that it is in the middle of.
    input: u16,
    /// What it may do.
    rights: Rights,
}

impl Talk {
    const NONE: Talk = Talk {
        is_open: false,
        unanswered: 0,
        input: NO_BUFFER,
        rights: Rights::NONE,
    };
}

impl<O: Outlet> Peers<O> {
    /// The head that opens a WebSocket, into the scratch from its start; how long it is.
    pub(super) fn upgrade_head(&mut self, asked: crate::connection::Asked, how: &Upgrade) -> usize {
        let protocol: &[&str] = match how.has_protocol {
            true => &["Sec-WebSocket-Protocol: ", PROTOCOL, "\r\n"],
            false => &["", "", ""],
        };
        let accept = how.accept.as_str();
        let head = Head {
            status: 101,
            version: asked.version,
            date: self.date(),
            cors: "",
            content_type: "",
            length: Length::None,
            keep_alive: true,
            fields: &[
                ACCEPT_FIELDS,
                accept,
                "\r\n",
                protocol[0],
                protocol[1],
                protocol[2],
            ],
        };
        let mut out = Writer::new(&mut self.scratch);
        write_head(&head, &mut out).expect("a head fits its room");
        out.len()
    }

    /// A peer that asked is a viewer now, and speaks; what came behind its head are frames.
    pub(super) fn begin_talk(&mut self, slot: u32, exchange: u16) {
        let place = slot as usize;
        if self.talks.len() <= place {
            self.talks.resize(place + 1, Talk::NONE);
        }
        let entry = &mut self.exchanges[usize::from(exchange)];
        let rights = entry.connection.asked.rights;
        entry.connection.done(self.inputs.bytes(exchange));
        entry.session = Session::new(MESSAGE_BYTES_MAX);
        entry.session.received(entry.connection.input_bytes());
        let input = match entry.session.is_at_rest() {
            true => NO_BUFFER,
            false => exchange,
        };
        self.talks[place] = Talk {
            is_open: true,
            unanswered: 0,
            input,
            rights,
        };
        match input {
            NO_BUFFER => self.release(exchange),
            _ => self.set_deadline(exchange, sweep::BODY_MS),
        }
        if self.ping_ms == u64::MAX {
            self.ping_ms = self.now.ms + PING_MS;
        }
        self.wake_by(self.ping_ms);
    }

    /// A slot's viewer speaks no longer.
    pub(super) fn end_talk(&mut self, slot: u32) {
        if let Some(talk) = self.talks.get_mut(slot as usize) {
            let input = core::mem::replace(talk, Talk::NONE).input;
            self.release(input);
        }
    }

    fn talk(&self, slot: u32) -> Option<&Talk> {
        self.talks.get(slot as usize).filter(|talk| talk.is_open)
    }

    /// The buffer that a viewer keeps what it said in.
    pub(super) fn input_of_talk(&self, slot: u32) -> u16 {
        self.talk(slot).map_or(NO_BUFFER, |talk| talk.input)
    }

    /// Whether everything a viewer was sent is out, so that something else may be said.
    fn is_between_frames(&self, slot: u32) -> bool {
        let peer = &self.slots[slot];
        let is_up = matches!(peer.phase, Phase::Front { .. } | Phase::Waiting { .. });
        is_up && !peer.is(BLOCKED) && peer.spill == NO_BUFFER
    }

    /// Hears what a viewer has to say, if it speaks at all.
    pub(super) fn hear_out(&mut self, slot: u32) {
        let Some(talk) = self.talk(slot).copied() else {
            return;
        };
        let peer = &self.slots[slot];
        let has_said = peer.is(READABLE) || talk.input != NO_BUFFER;
        if !has_said || peer.is(QUEUED) || !self.is_between_frames(slot) {
            return;
        }
        let mut input = core::mem::take(&mut self.said);
        let mut session = Session::new(MESSAGE_BYTES_MAX);
        let kept = talk.input;
        if kept != NO_BUFFER {
            session = self.exchanges[usize::from(kept)].session.clone();
            let bytes = session.input_bytes();
            input[..bytes].copy_from_slice(&self.inputs.bytes(kept)[..bytes]);
        }
        let has_heard = self.hear_some(slot, &mut session, &mut input);
        if self.talk(slot).is_some() {
            self.set_aside(slot, session, &mut input, has_heard);
        }
        self.said = input;
    }

    /// Hears messages while they can be answered; whether there was any.
    fn hear_some(&mut self, slot: u32, session: &mut Session, input: &mut [u8]) -> bool {
        let mut has_heard = false;
        for _ in 0..MESSAGES_PER_TURN {
            if let Phase::Front { audience } = self.slots[slot].phase {
                self.settle(audience);
            }
            if !self.is_between_frames(slot) {
                return has_heard;
            }
            self.run_forget();
            let mut out = Writer::new(&mut self.scratch[..OUTPUT_BYTES_MAX]);
            let turn = session.advance(input, &mut out);
            let bytes = out.len();
            has_heard |= matches!(turn, Ok(Turn::Message(..)));
            match turn {
                Err(Full) => {
                    self.say(slot, bytes);
                }
                Ok(Turn::More) => {
                    if (bytes == 0 || self.say(slot, bytes)) && !self.listen(slot, session, input) {
                        return has_heard;
                    }
                }
                Ok(Turn::Message(Kind::Text, at)) => self.carry_out(slot, &input[at], bytes),
                Ok(Turn::Message(Kind::Binary, _)) => self.close_talk(slot, BINARY, bytes),
                Ok(Turn::Closed) => self.finish_talk(slot, bytes),
            }
        }
        self.enqueue(slot);
        has_heard
    }

    /// Reads more; whether there was any.
    fn listen(&mut self, slot: u32, session: &mut Session, input: &mut [u8]) -> bool {
        if !self.slots[slot].is(READABLE) {
            return false;
        }
        let spare = session.spare(input);
        let room = spare.len();
        match self.outlet.recv(slot, spare) {
            Received::Bytes(bytes) => {
                session.received(bytes);
                // A short read has emptied the socket, unless its end stands behind it.
                let emptied = bytes < room && !self.slots[slot].is(HALF_CLOSED);
                self.slots[slot].mark(READABLE, !emptied);
                self.talks[slot as usize].unanswered = 0;
                true
            }
            Received::Nothing => {
                self.slots[slot].mark(READABLE, false);
                false
            }
            Received::End | Received::Gone => {
                self.close(slot);
                false
            }
        }
    }

    /// Keeps the rest of what a viewer said until there is more of it, or it can be answered.
    fn set_aside(&mut self, slot: u32, mut session: Session, input: &mut [u8], has_heard: bool) {
        let kept = self.talks[slot as usize].input;
        session.compact(input);
        if session.is_at_rest() {
            self.talks[slot as usize].input = NO_BUFFER;
            return self.release(kept);
        }
        let buffer = match kept {
            NO_BUFFER => self.take_input(),
            kept => Some(kept),
        };
        let Some(buffer) = buffer else {
            return self.close_talk(slot, SHORT, 0);
        };
        if kept == NO_BUFFER {
            self.open(buffer, slot);
        }
        if kept == NO_BUFFER || has_heard {
            self.exchanges[usize::from(buffer)].since_ms = self.now.ms;
            self.set_deadline(buffer, sweep::BODY_MS);
        }
        let bytes = session.input_bytes();
        self.inputs.bytes(buffer)[..bytes].copy_from_slice(&input[..bytes]);
        self.exchanges[usize::from(buffer)].session = session;
        self.talks[slot as usize].input = buffer;
    }

    /// Sends what stands in the scratch; whether more may be said behind it.
    fn say(&mut self, slot: u32, bytes: usize) -> bool {
        let Some((audience, cursor, place)) = self.slots[slot].phase.viewer() else {
            return false;
        };
        let seq = match place {
            Place::Front => self.hub.audiences.audience(audience).position,
            _ => cursor,
        };
        if !self.deliver(slot, 0, bytes) {
            return false;
        }
        let is_blocked = self.slots[slot].is(BLOCKED);
        if is_blocked {
            let place = Place::Replay { offset: 0 };
            self.set_phase(slot, self.waiting_or(place, audience, seq));
        }
        !is_blocked
    }

    /// Does what a message says; what is to go out in front stands in the scratch.
    fn carry_out(&mut self, slot: u32, text: &[u8], prefix: usize) {
        let Message { reference, said } = said::read(text);
        let done = match said {
            Ok(Said::Publish(name, value)) => {
                return self.publish_said(slot, reference, &name, value, prefix);
            }
            Ok(Said::Subscribe { patterns, snapshot }) => {
                let wanted = self.wanted_by(slot).with(&patterns);
                let wanted = wanted.map_err(|_| said::TOO_MANY);
                wanted.map(|wanted| (wanted, snapshot))
            }
            Ok(Said::Unsubscribe(patterns)) => Ok((self.wanted_by(slot).without(&patterns), false)),
            Err(refusal) => Err(refusal),
        };
        match done {
            Ok((wanted, catch_up)) => {
                let prefix = self.put_said(prefix, |out| said::ack(reference, b"", out));
                self.change_topics(slot, wanted, catch_up, prefix);
            }
            Err(refusal) => self.refuse_said(slot, reference, &refusal, prefix),
        }
    }

    /// Appends a text message to the scratch; how long it is then.
    fn put_said<'w>(
        &'w mut self,
        prefix: usize,
        write: impl FnOnce(&mut Writer<'w>) -> Result<(), Full>,
    ) -> usize {
        let mut out = Writer::resume(&mut self.scratch, prefix);
        let put = write_frame(Opcode::Message(Kind::Text), &mut out, write);
        put.expect("a line fits behind an output buffer");
        out.len()
    }

    fn refuse_said(
        &mut self,
        slot: u32,
        reference: Option<&[u8]>,
        refusal: &Refusal,
        prefix: usize,
    ) {
        self.counters.refused += 1;
        self.note_refusal(slot, refusal);
        let bytes = self.put_said(prefix, |out| said::error(reference, refusal, out));
        self.say(slot, bytes);
    }

    /// Publishes as `POST /topics/NAME` does, with the rights that the WebSocket was opened with.
    fn publish_said(
        &mut self,
        slot: u32,
        reference: Option<&[u8]>,
        name: &Name,
        value: &[u8],
        prefix: usize,
    ) {
        let mut rights = self.talks[slot as usize].rights;
        // As for requests: where there is a proxy, nobody is known to be local.
        rights.is_local &= self.settings.policy.proxies.is_empty();
        let mut scratch = core::mem::take(&mut self.value);
        let mut bytes = [0; 128];
        let mut out = Writer::new(&mut bytes);
        let allowed = self.settings.policy.check_write(rights, name);
        let published = allowed.and_then(|()| {
            let mut context = self.context(rights);
            let kind = BodyKind::Json;
            topics::publish(name, kind, value, &mut context, &mut scratch, &mut out)
        });
        self.value = scratch;
        match published {
            Ok(_) => {
                let object = out.written();
                let inside = &object[1..object.len() - 1];
                let bytes = self.put_said(prefix, |out| said::ack(reference, inside, out));
                self.say(slot, bytes);
            }
            Err(refusal) => self.refuse_said(slot, reference, &refusal, prefix),
        }
        self.flush_burst();
    }

    fn wanted_by(&self, slot: u32) -> &Patterns {
        let viewer = self.slots[slot].phase.viewer();
        let (audience, ..) = viewer.expect("who is heard is a viewer");
        &self.hub.audiences.audience(audience).wish.patterns
    }

    /// Another audience from now on, whose hello goes out behind `prefix`.
    fn change_topics(&mut self, slot: u32, patterns: Patterns, catch_up: bool, prefix: usize) {
        let Some((audience, cursor, place)) = self.slots[slot].phase.viewer() else {
            return;
        };
        let old = self.hub.audiences.audience(audience);
        let reached = match place {
            Place::Front => old.position,
            _ => cursor,
        };
        let mut wish = old.wish.clone();
        wish.patterns = patterns;
        let since_ms = self.now.ms;
        self.set_phase(slot, Phase::Ending { since_ms });
        self.leave(audience);
        // Whoever left made room for one.
        let Some(index) = self.join_as(&wish) else {
            return self.close(slot);
        };
        let start = Start {
            cursor: if catch_up { 0 } else { reached },
            fresh: catch_up,
            reset: false,
            catch_up,
        };
        let place = match catch_up || wish.interval_ms > 0 {
            true => Place::CatchUp {
                bound: self.hub.head(),
                fresh: catch_up,
            },
            false => Place::Replay { offset: 0 },
        };
        self.set_phase(slot, Phase::of_viewer(index, start.cursor, place));
        self.count_in(index);
        let framing = Framing::of(wish.framing);
        let dress = framing.dress(&wish.callback);
        let nothing = Lost {
            count: 0,
            exact: true,
        };
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut out = Writer::resume(&mut scratch, prefix);
        let hello = self.hello(start, nothing);
        let put = framing.chunk(&mut out, |out| (framing.row().hello)(&hello, dress, out));
        put.expect("a hello fits behind an output buffer");
        let prefix = out.len();
        self.scratch = scratch;
        self.pump(slot, prefix, true);
    }

    /// Ends a WebSocket from here; what is to go out in front stands in the scratch.
    #[cold]
    fn close_talk(&mut self, slot: u32, close: Close, prefix: usize) {
        if !self.is_between_frames(slot) {
            return self.close(slot);
        }
        self.run_forget();
        let mut out = Writer::resume(&mut self.scratch, prefix);
        close.put(&mut out).expect("a close fits");
        let bytes = out.len();
        self.finish_talk(slot, bytes);
    }

    /// Sends what stands in the scratch as the last of a WebSocket.
    #[cold]
    fn finish_talk(&mut self, slot: u32, bytes: usize) {
        let Some((audience, ..)) = self.slots[slot].phase.viewer() else {
            return;
        };
        self.end_talk(slot);
        let since_ms = self.now.ms;
        self.set_phase(slot, Phase::Ending { since_ms });
        self.leave(audience);
        if bytes == 0 || self.deliver(slot, 0, bytes) {
            self.close_gently(slot);
        }
    }

    /// Pings all that speak, when it is time; ends those in the middle of a message for too long.
    pub(super) fn sweep_talks(&mut self) {
        for exchange in 0..self.exchanges.len() as u16 {
            let Exchange {
                slot, deadline_ms, ..
            } = self.exchanges[usize::from(exchange)];
            if self.input_of_talk(slot) != exchange {
                continue;
            }
            match deadline_ms > self.now.ms {
                true => self.wake_by(deadline_ms),
                false => self.close_talk(slot, SLOW, 0),
            }
        }
        if self.now.ms >= self.ping_ms {
            self.ping_ms = u64::MAX;
            for slot in 0..self.talks.len() as u32 {
                if self.talk(slot).is_some() {
                    self.ping_ms = self.now.ms + PING_MS;
                    self.ping(slot);
                }
            }
        }
        self.wake_by(self.ping_ms);
    }

    fn ping(&mut self, slot: u32) {
        if let Phase::Front { audience } = self.slots[slot].phase {
            self.settle(audience);
        }
        // Whether one that is behind is there, shows when its socket takes something or does not.
        if self.talk(slot).is_none() || !self.is_between_frames(slot) {
            return;
        }
        if self.talks[slot as usize].unanswered == UNANSWERED_MAX {
            return self.close_talk(slot, SILENT, 0);
        }
        self.talks[slot as usize].unanswered += 1;
        self.run_forget();
        self.scratch[..PING.len()].copy_from_slice(PING);
        self.say(slot, PING.len());
    }
}
