//! Frames rendered for audiences: a run of events for all at the front, or what one viewer that is
//! behind is to get. It never sends.

use super::pictures::{self, Next};
use super::*;
use crate::buffer::Writer;
use crate::hub::Plan;
use crate::hub::audience::Selection;
use crate::hub::pictures::Plate;
use crate::limits::RUN_EVENTS_MAX;
use crate::transport::Callback;

/// Frames rendered for one run of events, in the scratch from its start.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The framing's number; audiences that agree in it and in the next three share a rendering.
    pub(super) code: u16,
    pub(super) callback: Callback,
    pub(super) from: Seq,
    pub(super) mask: u64,
    /// The last sequence it covers.
    pub(super) to: Seq,
    pub(super) bytes: usize,
    pub(super) frames: heapless::Vec<Frame, RUN_EVENTS_MAX>,
    /// What was selected.
    pub(super) selection: Selection,
}

impl Run {
    /// What it describes no longer stands in the scratch.
    pub(super) fn forget(&mut self) {
        self.mask = 0;
    }
}

/// One event in a rendering: its sequence and where its frame ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) seq: Seq,
    pub(super) end: u32,
}

impl<O: Outlet> Peers<O> {
    /// Renders the selected events after `from` up to `to`, as many as fit, unless that is what
    /// stands there.
    pub(super) fn render_run(&mut self, index: u32, from: Seq, to: Seq, mask: u64) {
        let wish = &self.hub.audiences.audience(index).wish;
        let code = wish.framing;
        if (self.run.code, self.run.from, self.run.mask) == (code, from, mask)
            && is_same(&self.run.callback, &wish.callback)
        {
            self.run.to = self.run.to.min(to);
            return;
        }
        let framing = Framing::of(code);
        let run = &mut self.run;
        (run.code, run.from, run.mask) = (code, from, mask);
        if !is_same(&run.callback, &wish.callback) {
            run.callback.clone_from(&wish.callback);
        }
        run.to = to;
        run.frames.clear();
        run.selection.clear();
        for (seq, bit) in (from + 1..=to).zip(0..) {
            run.selection.add(self.hub.topic(seq), mask >> bit & 1 == 1);
        }
        let dress = framing.dress(&wish.callback);
        let mut out = Writer::new(&mut self.scratch);
        let mut left = mask;
        while left != 0 {
            let seq = from + 1 + u64::from(left.trailing_zeros());
            let event = self.hub.event(seq).expect("a run is in the ring");
            let row = framing.row();
            let frame = framing.chunk(&mut out, |out| (row.event)(&event, dress, true, out));
            if frame.is_err() {
                // Those who are served the rest of it later select only what stands here.
                (run.to, run.mask) = (seq - 1, mask & !left);
                break;
            }
            left &= left - 1;
            let frame = Frame {
                seq,
                end: out.len() as u32,
            };
            run.frames.push(frame).expect("a run is at most 64 events");
        }
        run.bytes = out.len();
    }

    /// The cursor before the frame that `sent` falls into, and how many bytes of that are sent.
    pub(super) fn position_in_run(&self, sent: usize, replay_from: usize) -> (Seq, u32) {
        let mut start = replay_from as u32;
        for frame in &self.run.frames {
            if (frame.end as usize) > sent {
                return (frame.seq - 1, sent as u32 - start);
            }
            start = frame.end;
        }
        (self.run.to, 0)
    }
}

/// As `==`; most are empty.
fn is_same(a: &Callback, b: &Callback) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// What a feed became in the scratch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rendered {
    /// Everything wanted up to here stands there.
    pub(super) cursor: Seq,
    /// From this byte on it is replay, frame by frame in the run's table.
    pub(super) replay_from: usize,
    /// Whether nothing was left out for want of room.
    pub(super) exhausted: bool,
    pub(super) events: u32,
    /// What comes behind it, in front of all else.
    pub(super) picture: Option<Plate>,
}

pub(super) fn render_feed(
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
    let audience = hub.audiences.audience(index);
    let (set, dress) = (&audience.set, framing.dress(&audience.wish.callback));
    let mut rendered = Rendered {
        cursor,
        replay_from: usize::MAX,
        exhausted: false,
        events: 0,
        picture: None,
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
        match pictures::next(hub, framing, &event) {
            Next::Event => {}
            Next::Nothing => {
                rendered.cursor = event.seq;
                continue;
            }
            // Alone, for it is not in the scratch.
            Next::Picture(_) if !out.is_empty() => break,
            Next::Picture(plate) => {
                (rendered.cursor, rendered.picture) = (event.seq, Some(plate));
                rendered.events = 1;
                break;
            }
        }
        let start = out.len();
        let frame = framing.chunk(out, |out| (row.event)(&event, dress, true, out));
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
