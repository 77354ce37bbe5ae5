//! All peers: who is connected, what each is doing, and how events reach those that are held.
//!
//! The pure middle of the server. Bytes, the time and readiness come in through methods; bytes go
//! out through an `Outlet`. So the whole of it runs in tests under a virtual clock, cut at any
//! byte, with peers that stall or vanish. It never names a socket, a clock or a task.
//!
//! - `slots`: the slab, its lists, the buffer pools.
//! - `exchange`: a peer that asks: read, process, answer.
//! - `fanout`: events to viewers: one rendering (`run`) for an audience, one send for a member.
//! - `subscribe`: how a viewer or a poll begins; `spans`: how some viewers' streams end.
//! - `polls`: how polls are answered; `refuse`: how what is refused is.
//! - `pictures`: pictures taken, asked for and shown.
//! - `rights`, `owners`: who may connect how often, signing in, rights that change.
//! - `presence`: when who is there is counted.
//! - `spill`: what sockets did not take; `shortage`: who gives way when buffers are short.
//! - `sweep`: deadlines, heartbeats, ticks, draining.
//! - `websocket`: viewers that speak.
//! - `cost`: what all that is set aside for takes.

mod cost;
mod exchange;
mod fanout;
mod owners;
mod pictures;
mod polls;
mod presence;
mod refuse;
mod rights;
mod run;
mod shortage;
mod slots;
mod spans;
mod spill;
mod subscribe;
mod sweep;
mod websocket;

use std::collections::VecDeque;

pub use cost::{Cost, Limits, memory};

use exchange::{CONTINUE, Exchange};
use fanout::Flushing;
use owners::Owners;
use pictures::Showings;
use polls::Held;
pub use rights::TOO_MANY;
use run::Run;
use slots::{
    BLOCKED, HALF_CLOSED, List, NO_BUFFER, Phase, Place, Pool, QUEUED, READABLE, Slots, Walk,
};
use spans::Due;
use spill::{SPILL_BYTES, Spilled, spills};
use websocket::Talk;

use core::net::IpAddr;

use crate::access::{Guessers, Peer, Policy, Rights, UNKNOWN};
use crate::connection::Memos;
use crate::hub::audience::NOBODY;
use crate::hub::event::{Seq, Time};
use crate::hub::pictures::Pictures;
use crate::hub::{Counts, Hub, Now};
use crate::limits::{EVENT_BYTES_MAX, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};
use crate::resource::{Context, Counters};
use crate::transport::{Framing, Id, Shape};
use crate::wire::KINDS;
use crate::wire::request::Version;
use crate::wire::text::{HttpDate, http_date};

/// What a socket took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes; fewer than offered means that `writable` follows.
    Bytes(usize),
    /// The peer is gone.
    Gone,
}

/// What a socket gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now; `readable` follows.
    Nothing,
    /// The peer sends no more, but may still read.
    End,
    /// The peer is gone.
    Gone,
}

/// Where bytes go and come from, by slot.
pub trait Outlet {
    /// Offers bytes.
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent;
    /// Asks for bytes.
    fn recv(&mut self, slot: u32, into: &mut [u8]) -> Received;
    /// Says that nothing more will be sent.
    fn shut(&mut self, slot: u32);
    /// Ends the connection.
    fn close(&mut self, slot: u32);
    /// Ends the connection in the midst of something, so that the other end can tell: where only
    /// the end of the connection ends an answer, an orderly one would look like the whole.
    fn abort(&mut self, slot: u32) {
        self.close(slot);
    }
    /// Who the other end is.
    fn peer(&mut self, slot: u32) -> Peer;
}

/// What is fixed at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Streams and held polls at once.
    pub viewers: u32,
    /// Slots that those cannot take, and buffers for requests.
    pub pages: u16,
    /// Bytes of the ring.
    pub ring_bytes: usize,
    /// Topics.
    pub topics: usize,
    /// Topics with pictures.
    pub pictures: usize,
    /// Bytes of the largest picture.
    pub picture_bytes: usize,
    /// A held viewer hears something at least this often.
    pub heartbeat_ms: u64,
    /// Patterns of topics whose subscribers are counted as topics of their own.
    pub presence: Vec<String>,
    /// The board's name, for pages.
    pub board: String,
    /// Where pages may connect to besides this board: sources of a content security policy, each
    /// behind a space, and the cookie's line by which a page learns it; empty for nowhere.
    pub push_host: &'static str,
    /// Rights.
    pub policy: Policy,
    /// Names this life of the log and seeds the jitter.
    pub seed: u64,
    /// Viewers sent to before everybody else gets their turn.
    pub sends_per_turn: u32,
}

/// What a peer is told that there is no room for; it needs no buffer.
pub const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 44\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n\
    all connections are taken; try again later.\n";

/// Much more than is used: from 128 KiB on an allocation is pages that the kernel has yet to fill,
/// while a smaller one is cleared, and so resident, at start.
const SCRATCH_BYTES: usize = 3 * SPILL_BYTES;

/// How many of the fixed places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Peers.
    pub slots: u32,
    /// Buffers for requests.
    pub exchanges: usize,
    /// Buffers for what sockets did not take.
    pub spills: usize,
}

/// All peers and the hub they are served from.
#[derive(Debug)]
pub struct Peers<O> {
    /// The sockets.
    pub outlet: O,
    /// The events.
    pub hub: Hub,
    /// Counts for `/metrics`.
    pub counters: Counters,
    /// Whom it was for, by kind of refusal: the last address.
    pub refused_last: [IpAddr; KINDS.len()],
    settings: Settings,
    slots: Slots,
    owners: Owners,
    showings: Showings,
    guessers: Guessers,
    exchanges: Vec<Exchange>,
    inputs: Pool,
    spills: Pool,
    /// What is in each spill.
    spilled: Vec<Spilled>,
    /// When the streams end that end by themselves, by slot; as far as there were any.
    dues: Vec<Due>,
    /// Which client's poll each slot holds, or held last; as far as any said so.
    clients: Vec<u64>,
    /// What is kept of viewers that speak, by slot; as far as there were any.
    talks: Vec<Talk>,
    /// When those are pinged; `u64::MAX` while there are none.
    ping_ms: u64,
    /// What they say is heard here.
    said: Vec<u8>,
    /// Everything is rendered here: room for a head, then an answer or a run of events.
    scratch: Vec<u8>,
    /// A head is written here, before it is known where it begins.
    head: Vec<u8>,
    value: Vec<u8>,
    run: Run,
    /// Peers that can go on without the socket saying so.
    queue: VecDeque<u32>,
    now: Now,
    /// `Date`, once a second.
    date: Option<(u64, HttpDate)>,
    memos: Memos,
    /// What became of the poll held last.
    held: Option<Held>,
    flushing: Flushing,
    /// Sends to viewers left in this turn.
    sends_left: u32,
    wake_ms: u64,
    /// When tokens are looked at again.
    review_ms: u64,
    /// Before this presence is not counted again.
    count_ms: u64,
    viewers: u32,
    draining: bool,
    random: u64,
}

impl<O: Outlet> Peers<O> {
    /// No peers yet.
    pub fn new(settings: Settings, outlet: O, now: Now) -> Peers<O> {
        let slots = settings.viewers as usize + usize::from(settings.pages);
        let counts = Counts {
            ring_bytes: settings.ring_bytes,
            topics: settings.topics,
            audiences: settings.viewers as usize,
        };
        let mut peers = Peers {
            outlet,
            hub: Hub::new(counts, settings.seed),
            counters: Counters::default(),
            refused_last: [UNKNOWN; KINDS.len()],
            slots: Slots::new(slots, settings.viewers),
            owners: Owners::new(slots),
            showings: Showings::new(slots),
            guessers: Guessers::default(),
            exchanges: Vec::with_capacity(usize::from(settings.pages)),
            inputs: Pool::new(settings.pages, INPUT_BYTES_MAX),
            spills: Pool::new(spills(settings.viewers), SPILL_BYTES),
            spilled: vec![Spilled::NOTHING; usize::from(spills(settings.viewers))],
            dues: Vec::with_capacity(slots),
            clients: Vec::with_capacity(slots),
            talks: Vec::with_capacity(slots),
            ping_ms: u64::MAX,
            said: vec![0; INPUT_BYTES_MAX],
            scratch: vec![0; SCRATCH_BYTES],
            head: vec![0; RESPONSE_HEAD_BYTES_MAX],
            value: vec![0; EVENT_BYTES_MAX],
            run: Run::default(),
            queue: VecDeque::with_capacity(slots),
            now,
            date: None,
            memos: Memos::default(),
            held: None,
            flushing: Flushing::default(),
            sends_left: settings.sends_per_turn,
            wake_ms: u64::MAX,
            review_ms: 0,
            count_ms: now.ms,
            viewers: 0,
            draining: false,
            random: settings.seed | 1,
            settings,
        };
        peers.hub.pictures = Pictures::new(peers.settings.pictures, peers.settings.picture_bytes);
        let policy = &peers.settings.policy;
        peers.hub.set_readers(policy.grants(), &policy.jsonp);
        peers
            .hub
            .set_presence(core::mem::take(&mut peers.settings.presence));
        peers.review();
        peers
    }

    /// How many of the fixed places are taken.
    pub fn in_use(&self) -> InUse {
        InUse {
            slots: self.counters.peers,
            exchanges: self.inputs.lent(),
            spills: self.spills.lent(),
        }
    }

    /// The time of this turn.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether somebody can go on without waiting for a socket.
    pub fn is_eager(&self) -> bool {
        !self.queue.is_empty() || self.can_feed() || self.flushing.to < self.hub.head()
    }

    /// Whether somebody waits for a buffer and there is one.
    fn can_feed(&self) -> bool {
        !self.slots.is_empty(List::STARVED) && self.inputs.has_free()
    }

    /// When `sweep` is due, in monotonic milliseconds; `u64::MAX` for never.
    pub fn wake_ms(&self) -> u64 {
        self.wake_ms
    }

    fn wake_by(&mut self, ms: u64) {
        self.wake_ms = self.wake_ms.min(ms);
    }

    /// What `Date` says now; nothing while the clock is not known.
    fn date(&mut self) -> Option<HttpDate> {
        let Time::Wall(ms) = self.now.time else {
            return None;
        };
        let seconds = ms / 1000;
        if self.date.is_none_or(|(at, _)| at != seconds) {
            self.date = Some((seconds, http_date(seconds)));
        }
        self.date.map(|(_, date)| date)
    }

    /// A number below `range`: xorshift, for jitter only.
    fn jitter(&mut self, range: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % range
    }

    fn context(&mut self, rights: Rights) -> Context<'_> {
        Context {
            rights,
            hub: &mut self.hub,
            now: self.now,
            counters: &self.counters,
            board: &self.settings.board,
            push_host: self.settings.push_host,
        }
    }

    /// A slot for a peer that was accepted. When all are taken, the longest idle peer is closed
    /// for it; `None` when nobody is idle.
    pub fn accept(&mut self) -> Option<u32> {
        let slot = self.slots.take().or_else(|| {
            self.evict()?;
            self.slots.take()
        })?;
        let since_ms = self.now.ms;
        self.slots.set_phase(slot, Phase::Idle { since_ms });
        self.counters.accepted += 1;
        self.counters.peers += 1;
        self.wake_by(self.now.ms + sweep::IDLE_MS);
        Some(slot)
    }

    /// Whether there is a slot that nobody has.
    pub fn has_free_slot(&self) -> bool {
        self.slots.has_free()
    }

    fn first(&self, list: List, wanted: impl Fn(&Self, u32) -> bool) -> Option<u32> {
        let mut slot = self.slots.first(list);
        while slot != NOBODY && !wanted(self, slot) {
            slot = self.slots.next(slot);
        }
        (slot != NOBODY).then_some(slot)
    }

    /// The socket of a peer has input, or its end.
    pub fn readable(&mut self, slot: u32) {
        self.slots[slot].mark(READABLE, true);
        match self.slots[slot].phase {
            Phase::Idle { .. } if self.slots[slot].spill == NO_BUFFER => self.begin(slot),
            Phase::Busy { .. } => self.read(slot),
            Phase::Ending { .. } | Phase::Closing { .. } => self.discard(slot),
            _ => self.hear_out(slot),
        }
    }

    /// A peer sends no more. It may still read, or it is gone: a held one is sent something that
    /// needs no answer, so that its kernel tells at once if nobody is there.
    pub fn half_closed(&mut self, slot: u32) {
        if !self.slots[slot].is(HALF_CLOSED) {
            self.slots[slot].mark(HALF_CLOSED, true);
            match self.slots[slot].phase {
                Phase::Poll { .. } => self.probe_poll(slot),
                _ if self.sees_only_pictures(slot) => return self.close(slot),
                _ => self.heartbeat_one(slot),
            }
        }
        if !matches!(self.slots[slot].phase, Phase::Free) {
            self.readable(slot);
        }
    }

    /// Sends a half-closed poll an interim answer (RFC 9110 section 15.2.1). HTTP/1.0 does not
    /// know those: there the poll is answered with what there is, nothing.
    #[cold]
    fn probe_poll(&mut self, slot: u32) {
        let Phase::Poll { audience, .. } = self.slots[slot].phase else {
            return;
        };
        let framing = Framing::of(self.hub.audiences.audience(audience).wish.framing);
        if framing.version == Version::Http10 {
            self.settle(audience);
            return self.expire_poll(slot);
        }
        // One that does not take as little as this does not read.
        if self.outlet.send(slot, CONTINUE) != Sent::Bytes(CONTINUE.len()) {
            self.close(slot);
        }
    }

    /// The socket of a peer takes bytes again.
    pub fn writable(&mut self, slot: u32) {
        if !self.slots[slot].is(BLOCKED) {
            return;
        }
        self.slots[slot].mark(BLOCKED, false);
        let spill = self.slots[slot].spill;
        if spill != NO_BUFFER {
            let Spilled { from, to, .. } = self.spilled[usize::from(spill)];
            let bytes = &self.spills.bytes(spill)[from as usize..to as usize];
            match self.outlet.send(slot, bytes) {
                Sent::Gone => return self.close(slot),
                Sent::Bytes(sent) if sent < bytes.len() => {
                    self.spilled[usize::from(spill)].from = from + sent as u32;
                    self.slots[slot].mark(BLOCKED, true);
                    if sent > 0 {
                        self.progressed(slot);
                    }
                    return;
                }
                Sent::Bytes(_) => {}
            }
            self.slots[slot].spill = NO_BUFFER;
            self.spills.give_back(spill);
        }
        self.progressed(slot);
        self.proceed(slot);
    }

    /// Whatever a peer was held up by is gone.
    fn proceed(&mut self, slot: u32) {
        match self.slots[slot].phase {
            Phase::Busy { .. } => self.go_on(slot),
            Phase::Idle { .. } if self.slots[slot].is(READABLE) => self.begin(slot),
            Phase::Ending { .. } => self.shut(slot),
            _ => {
                self.pump(slot, 0, false);
                self.hear_out(slot);
            }
        }
    }

    /// A peer goes on in a later turn.
    fn enqueue(&mut self, slot: u32) {
        if !self.slots[slot].is(QUEUED) {
            self.slots[slot].mark(QUEUED, true);
            self.queue.push_back(slot);
        }
    }

    /// Lets those go on that can, once each.
    pub fn run_queue(&mut self) {
        self.feed_starved();
        for _ in 0..self.queue.len().min(self.settings.sends_per_turn as usize) {
            let Some(slot) = self.queue.pop_front() else {
                return;
            };
            if self.slots[slot].is(QUEUED) {
                self.slots[slot].mark(QUEUED, false);
                if !self.slots[slot].is(BLOCKED) {
                    self.proceed(slot);
                }
            }
        }
    }

    /// Changes what a peer is doing, and with it the list it stands in. At the front of an audience
    /// it comes before those still to be served, for it has what they are to get.
    fn set_phase(&mut self, slot: u32, phase: Phase) {
        self.put_phase(slot, phase);
    }

    /// As `set_phase`, for each of many polls.
    #[inline(always)]
    fn put_phase(&mut self, slot: u32, phase: Phase) {
        if let Some(audience) = self.slots[slot].phase.front() {
            // Those still to be served are never lost from sight.
            let audience = self.hub.audiences.audience_mut(audience);
            if audience.serving == slot {
                audience.serving = self.slots.next(slot);
            }
        }
        if !self.dues.is_empty() {
            self.move_due(slot, phase);
        }
        self.slots.set_phase(slot, phase);
    }

    /// Ends a connection and frees all that is its.
    pub fn close(&mut self, slot: u32) {
        let phase = self.slots[slot].phase;
        if matches!(phase, Phase::Free) {
            return;
        }
        let owes = self.owes(slot);
        self.end_talk(slot);
        self.stop_showing(slot);
        self.set_phase(slot, Phase::Free);
        match phase {
            Phase::Busy { exchange } => self.release(exchange),
            Phase::Poll {
                audience, exchange, ..
            } => {
                self.leave(audience);
                self.release(exchange);
            }
            _ => {
                if let Some((audience, ..)) = phase.viewer() {
                    self.leave(audience);
                }
            }
        }
        let spill = self.slots[slot].spill;
        if spill != NO_BUFFER {
            self.spills.give_back(spill);
        }
        self.counters.peers -= 1;
        self.owners.leave(slot);
        match owes {
            true => self.outlet.abort(slot),
            false => self.outlet.close(slot),
        }
        self.slots.give_back(slot);
    }

    /// Whether a peer has the beginning of something and not its end.
    fn owes(&self, slot: u32) -> bool {
        let shows = self.showings.is_showing(slot);
        let slot = &self.slots[slot];
        shows
            || slot.spill != NO_BUFFER
            || match slot.phase {
                Phase::Busy { exchange } => self.exchanges[usize::from(exchange)].is_answering(),
                Phase::Replay { offset, .. } => offset > 0,
                _ => false,
            }
    }

    /// The last answer is on its way: the connection closes behind it.
    fn close_gently(&mut self, slot: u32) {
        let phase = self.slots[slot].phase;
        self.set_phase(
            slot,
            Phase::Ending {
                since_ms: self.now.ms,
            },
        );
        if let Phase::Busy { exchange } = phase {
            self.release(exchange);
        }
        self.wake_by(self.now.ms + sweep::STALL_MS);
        if self.slots[slot].spill == NO_BUFFER {
            self.shut(slot);
        }
    }

    /// Nothing more is to be sent. Input is read and thrown away for a while: closing with input
    /// unread would reset the connection, and the peer might lose our last bytes.
    fn shut(&mut self, slot: u32) {
        self.set_phase(
            slot,
            Phase::Closing {
                since_ms: self.now.ms,
            },
        );
        self.wake_by(self.now.ms + sweep::LINGER_MS);
        self.outlet.shut(slot);
        self.discard(slot);
    }

    #[cold]
    fn discard(&mut self, slot: u32) {
        let mut waste = [0; 4096];
        for _ in 0..16 {
            match self.outlet.recv(slot, &mut waste) {
                Received::Bytes(_) => {}
                Received::Nothing => return,
                Received::End if self.slots[slot].spill != NO_BUFFER => return,
                Received::End | Received::Gone => return self.close(slot),
            }
        }
    }

    /// A peer's socket took something: its time begins anew. Lists stay in order of time.
    fn progressed(&mut self, slot: u32) {
        let since_ms = self.now.ms;
        match self.slots[slot].phase {
            Phase::Busy { exchange } => self.set_deadline(exchange, sweep::STALL_MS),
            Phase::Idle { .. } => self.set_phase(slot, Phase::Idle { since_ms }),
            Phase::Ending { .. } => self.set_phase(slot, Phase::Ending { since_ms }),
            _ => {}
        }
    }

    fn id(&self, seq: Seq) -> Id<'_> {
        Id {
            log: self.hub.log_name(),
            seq,
        }
    }

    fn shape(&self, audience: u32) -> Shape {
        Framing::of(self.hub.audiences.audience(audience).wish.framing)
            .row()
            .shape
    }
}
