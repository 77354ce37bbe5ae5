//! Pictures: taken from publishers, sent to who asks for one, and shown to viewers of streams.
//!
//! A picture is never copied as a whole. Its bytes go from a publisher's buffer to its plate piece
//! by piece, and from there to sockets, as much as each takes at a time; the plate is pinned
//! meanwhile. A viewer whose next event is a picture leaves the front of its audience for it: how
//! far it is stands in a table by slot. Behind it, it goes on with the newest there is.
//!
//! Nobody pins a plate for ever: who takes nothing of a picture for `STALL_MS`, or has not got all
//! of it after `PICTURE_MS`, is closed.

use super::exchange::{CONTINUE, Rest};
use super::sweep::STALL_MS;
use super::*;
use crate::buffer::Writer;
use crate::hub::event::Event;
use crate::hub::pictures::{Plate, Sight};
use crate::resource::{Plan, pictures};
use crate::transport::multipart;
use crate::wire::Refusal;
use crate::wire::response::{Length, NO_STORE};

/// A picture is sent within so long.
const PICTURE_MS: u64 = 60_000;

/// A picture on its way to who asked for it.
#[derive(Debug)]
pub(super) struct Sending {
    plate: Plate,
    at: usize,
    begun_ms: u64,
}

/// What a viewer is shown: the number of the plate, above 0, and `AHEAD`; how much of it is sent,
/// with what is around it; when that began, and when the last of it was taken. Bare numbers,
/// because a vector of those is zero without being touched; of times the low half is enough.
type Showing = [u32; 4];

/// The head of the next picture is sent already.
const AHEAD: u32 = 1 << 31;

/// The pictures on their way to viewers, by slot.
#[derive(Debug)]
pub(super) struct Showings {
    rows: Vec<Showing>,
    count: usize,
}

/// The plate of a row that has one.
fn plate(number: u32) -> Plate {
    Plate(((number & !AHEAD) - 1) as u16)
}

impl Showings {
    pub(super) fn new(slots: usize) -> Showings {
        Showings {
            rows: vec![[0; 4]; slots],
            count: 0,
        }
    }

    /// Bytes for one more slot.
    pub(super) const fn memory_bytes() -> usize {
        size_of::<Showing>()
    }

    /// Whether a viewer has not got all of a picture.
    pub(super) fn is_showing(&self, slot: u32) -> bool {
        self.count > 0 && self.rows[slot as usize][0] & !AHEAD > 0
    }
}

impl<O: Outlet> Peers<O> {
    /// A picture is to come: it is taken if there is a plate for it.
    #[cold]
    pub(super) fn admit_picture(&mut self, slot: u32, exchange: u16) {
        let Plan::PublishPicture(name, kind, when) = self.memos.plan() else {
            unreachable!("only pictures come in pieces");
        };
        let entry = &mut self.exchanges[usize::from(exchange)];
        let announced = entry.connection.announced_bytes();
        let mut context = Context {
            rights: entry.connection.asked.rights,
            hub: &mut self.hub,
            now: self.now,
            counters: &self.counters,
            board: &self.settings.board,
            push_host: self.settings.push_host,
        };
        match pictures::admit((name, *kind, *when), announced, &mut context) {
            Ok(plate) => {
                entry.arriving = Some(plate);
                if entry.connection.admit(self.settings.picture_bytes) {
                    self.scratch[..CONTINUE.len()].copy_from_slice(CONTINUE);
                    self.deliver(slot, 0, CONTINUE.len());
                }
            }
            Err(refusal) => {
                entry.connection.abandon(self.inputs.bytes(exchange));
                self.counters.requests += 1;
                self.refuse(slot, &refusal);
            }
        }
    }

    /// A piece of a picture goes where it belongs.
    pub(super) fn take_piece(&mut self, exchange: u16) {
        let entry = &mut self.exchanges[usize::from(exchange)];
        let input = self.inputs.bytes(exchange);
        let plate = entry.arriving.expect("a picture is taken once admitted");
        let taken = { &mut self.hub.pictures }.append(plate, entry.connection.body(input));
        taken.expect("no more is read than was admitted");
        entry.connection.took_piece(input);
    }

    /// A picture that is arriving will not come whole; one that is being sent is not any more.
    pub(super) fn let_go_of_pictures(&mut self, exchange: u16) {
        let entry = &mut self.exchanges[usize::from(exchange)];
        if let Some(plate) = entry.arriving.take() {
            self.hub.pictures.cancel(plate);
        }
        if let Rest::Picture(Sending { plate, .. }) = entry.rest {
            entry.rest = Rest::Nothing;
            self.hub.pictures.unpin(plate);
        }
    }

    /// `GET /pictures/NAME`: the newest picture, from where it is.
    #[cold]
    pub(super) fn send_picture(&mut self, slot: u32) {
        let plate = match self.picture_asked_for(slot) {
            Ok(plate) => plate,
            Err(refusal) => return self.refuse(slot, &refusal),
        };
        let mut text = [0; 64];
        let mut tag = Writer::new(&mut text);
        let picture = self.hub.pictures.picture(plate);
        let (kind, bytes) = (picture.kind, picture.bytes.len());
        let put = tag
            .put(b"ETag: \"")
            .and_then(|()| self.id(picture.seq).put(&mut tag))
            .and_then(|()| tag.put(b"\"\r\n"));
        put.expect("an id is short");
        let tag = core::str::from_utf8(tag.written()).expect("an id is ASCII");
        let Plan::Picture(_, tags) = self.memos.plan() else {
            unreachable!("only who asks for a picture gets one");
        };
        match tags.has(self.hub.log_name(), picture.seq) {
            Err(refusal) => self.refuse(slot, &refusal),
            Ok(true) => {
                let fields = [NO_STORE, tag];
                self.send_answer(slot, 304, "", Length::None, &fields, 0, Rest::Nothing);
            }
            Ok(false) => {
                let rest = match self.asked(slot).is_head {
                    true => Rest::Nothing,
                    false => self.begin_sending(plate),
                };
                let (media, length) = (kind.media_type(), Length::Bytes(bytes));
                self.send_answer(slot, 200, media, length, &[NO_STORE, tag], 0, rest);
            }
        }
    }

    fn picture_asked_for(&mut self, slot: u32) -> Result<Plate, Refusal> {
        let rights = self.asked(slot).rights;
        let name = match self.memos.plan() {
            Plan::Picture(name, _) => name.clone(),
            _ => unreachable!("only who asks for a picture gets one"),
        };
        pictures::newest(&name, &self.context(rights))
    }

    fn begin_sending(&mut self, plate: Plate) -> Rest {
        self.hub.pictures.pin(plate);
        Rest::Picture(Sending {
            plate,
            at: 0,
            begun_ms: self.now.ms,
        })
    }

    /// As much of a picture as the socket takes.
    #[cold]
    pub(super) fn more_of_picture(&mut self, slot: u32, mut sending: Sending) {
        let Phase::Busy { exchange } = self.slots[slot].phase else {
            return;
        };
        let bytes = &self.hub.pictures.picture(sending.plate).bytes[sending.at..];
        match self.outlet.send(slot, bytes) {
            Sent::Bytes(sent) if sent < bytes.len() => {
                sending.at += sent;
                let left_ms = (sending.begun_ms + PICTURE_MS).saturating_sub(self.now.ms);
                self.exchanges[usize::from(exchange)].rest = Rest::Picture(sending);
                self.slots[slot].mark(BLOCKED, true);
                self.set_deadline(exchange, STALL_MS.min(left_ms));
            }
            Sent::Bytes(_) => self.hub.pictures.unpin(sending.plate),
            Sent::Gone => {
                self.hub.pictures.unpin(sending.plate);
                self.close(slot);
            }
        }
    }
}

/// Sends what of `parts` is not among the first `at` bytes of them, until the socket does not take
/// all it is offered: what it did then.
fn send_parts<O: Outlet>(
    outlet: &mut O,
    slot: u32,
    parts: [&[u8]; 3],
    at: &mut u32,
) -> Option<Sent> {
    let mut from = 0;
    for part in parts {
        let left = &part[(*at as usize).saturating_sub(from).min(part.len())..];
        from += part.len();
        if left.is_empty() {
            continue;
        }
        let sent = outlet.send(slot, left);
        if let Sent::Bytes(bytes) = sent {
            *at += bytes as u32;
        }
        if sent != Sent::Bytes(left.len()) {
            return Some(sent);
        }
    }
    None
}

/// What of a viewer's next events is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The event as it is.
    Event,
    /// Nothing.
    Nothing,
    /// A picture.
    Picture(Plate),
}

/// What a viewer with this framing is shown of an event.
pub(super) fn next(hub: &Hub, framing: Framing, event: &Event<'_>) -> Next {
    if !framing.shows_pictures() {
        return Next::Event;
    }
    match hub.pictures.sight(event) {
        Sight::Newest(plate) => Next::Picture(plate),
        Sight::Plain if !framing.only_pictures() => Next::Event,
        Sight::Plain | Sight::Replaced => Next::Nothing,
    }
}

impl<O: Outlet> Peers<O> {
    /// Whether a viewer gets nothing but pictures: not even a sign of life that would show whether
    /// it is still there.
    pub(super) fn sees_only_pictures(&self, slot: u32) -> bool {
        let viewer = self.slots[slot].phase.viewer();
        viewer.is_some_and(|(audience, ..)| {
            Framing::of(self.hub.audiences.audience(audience).wish.framing).only_pictures()
        })
    }

    /// Takes out of a selection what is not shown to an audience; whether there is a picture in it.
    pub(super) fn without_pictures(&self, code: u16, from: Seq, mask: u64) -> (u64, bool) {
        let framing = Framing::of(code);
        let (mut rest, mut left, mut meets) = (mask, mask, false);
        while framing.shows_pictures() && left != 0 {
            let bit = left & left.wrapping_neg();
            let seq = from + 1 + u64::from(left.trailing_zeros());
            let event = self.hub.event(seq).expect("a run is in the ring");
            match next(&self.hub, framing, &event) {
                Next::Event => {}
                Next::Nothing => rest &= !bit,
                Next::Picture(_) => meets = true,
            }
            left &= !bit;
        }
        (rest, meets)
    }

    /// The front of an audience comes to a picture: each member goes on by itself.
    #[cold]
    pub(super) fn divert(&mut self, index: u32, from: Seq, is_new: bool) {
        let head = self.hub.head();
        let first = self.slots.first(List::front(index));
        let audience = self.hub.audiences.audience_mut(index);
        if is_new {
            (audience.position, audience.serving) = (head, first);
        }
        self.lap(index, from);
    }

    /// A viewer's next event is a picture: it is sent from its plate.
    #[cold]
    pub(super) fn show(&mut self, slot: u32, plate: Plate) {
        self.hub.pictures.pin(plate);
        let Plate(number) = plate;
        let now = self.now.ms as u32;
        let row = &mut self.showings.rows[slot as usize];
        *row = [row[0] & AHEAD | (u32::from(number) + 1), 0, now, now];
        self.showings.count += 1;
        self.wake_by(self.now.ms + STALL_MS);
        self.go_on_showing(slot);
    }

    /// Sends as much as the socket takes of the picture that a viewer is shown, if it is; whether
    /// nothing of it is left.
    pub(super) fn go_on_showing(&mut self, slot: u32) -> bool {
        if !self.showings.is_showing(slot) {
            return true;
        }
        let Some((index, ..)) = self.slots[slot].phase.viewer() else {
            return true;
        };
        let framing = Framing::of(self.hub.audiences.audience(index).wish.framing);
        let [number, at, _, moved] = &mut self.showings.rows[slot as usize];
        let picture = self.hub.pictures.picture(plate(*number));
        let (kind, is_ahead) = (picture.kind, *number & AHEAD != 0);
        let mut text = [0; multipart::AROUND_BYTES];
        let mut around = Writer::new(&mut text);
        multipart::put_before((kind, picture.bytes.len()), framing, is_ahead, &mut around)
            .expect("what is around a picture is short");
        let (before, behind) = (
            around.len(),
            multipart::put_behind(kind, framing, &mut around),
        );
        behind.expect("what is around a picture is short");
        let (before, behind) = around.written().split_at(before);
        let parts = [before, picture.bytes, behind];
        match send_parts(&mut self.outlet, slot, parts, at) {
            Some(Sent::Gone) => {
                self.close(slot);
                return false;
            }
            Some(Sent::Bytes(_)) => {
                *moved = self.now.ms as u32;
                self.slots[slot].mark(BLOCKED, true);
                return false;
            }
            None => {}
        }
        let bytes = *at as usize;
        self.stop_showing(slot);
        if framing.only_pictures() {
            self.showings.rows[slot as usize][0] = AHEAD;
        }
        self.spend(slot, bytes);
        true
    }

    /// A viewer is shown no picture any more, and a new one nothing yet.
    pub(super) fn stop_showing(&mut self, slot: u32) {
        // Looked at first: a page that was never written stays so.
        let [number, ..] = self.showings.rows[slot as usize];
        if number > 0 {
            self.showings.rows[slot as usize] = [0; 4];
        }
        if number & !AHEAD > 0 {
            self.showings.count -= 1;
            self.hub.pictures.unpin(plate(number));
        }
    }

    /// Closes viewers that do not take the picture they are shown.
    pub(super) fn sweep_showings(&mut self) {
        if self.showings.count == 0 {
            return;
        }
        for index in 0..self.hub.audiences.end() {
            let framing = self.hub.audiences.framing(index);
            if framing.is_some_and(|code| Framing::of(code).shows_pictures()) {
                self.sweep_shown(index);
            }
        }
    }

    fn sweep_shown(&mut self, index: u32) {
        let mut slot = self.slots.first(List::behind(index));
        while slot != NOBODY {
            let next = self.slots.next(slot);
            let [number, _, begun, moved] = self.showings.rows[slot as usize];
            if number & !AHEAD > 0 {
                let ago_ms = |then: u32| u64::from((self.now.ms as u32).wrapping_sub(then));
                let left_ms = [(STALL_MS, moved), (PICTURE_MS, begun)]
                    .map(|(most_ms, then)| most_ms.saturating_sub(ago_ms(then)));
                match left_ms[0].min(left_ms[1]) {
                    0 => self.close(slot),
                    left_ms => self.wake_by(self.now.ms + left_ms),
                }
            }
            slot = next;
        }
    }
}
