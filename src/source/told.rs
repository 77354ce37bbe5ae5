//! A topic that was told of: what its source gave last, and what became of that by the rules.
//!
//! Both are kept, so that other rules can be laid on it while its source runs. Those who publish
//! decide when; this never looks at the time.

use super::Sink;
use super::batch::Entry;
use super::desk::{Desk, Shape, Shaped};
use crate::hub::event::State;

/// A topic of a source. It is gone when it is dropped, and that was published.
#[derive(Debug)]
pub(super) struct Told {
    /// As its source gave it last.
    raw: Entry,
    pub(super) shape: Shape,
    /// As it was published last.
    pub(super) last: Shaped,
    /// What was said of it since then without its source.
    lapsed: Option<State>,
}

impl Told {
    /// Says what the topic is called, and publishes its first reading.
    pub(super) fn new(entry: &Entry, desk: &Desk) -> Told {
        let mut told = Told {
            raw: entry.clone(),
            shape: desk.shape(entry),
            last: Shaped::default(),
            lapsed: None,
        };
        told.shape.apply(entry, &mut told.last);
        desk.describe(&told.shape);
        told.publish(&*desk.sink);
        told
    }

    /// Whether `entry` is of this topic.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        self.raw.topic == entry.topic
    }

    /// Makes of its next reading what could be published, into `next`; whether that is news.
    pub(super) fn hear(&mut self, entry: &Entry, next: &mut Shaped) -> bool {
        self.raw.renew(entry);
        self.lapsed = None;
        self.shape.apply(entry, next);
        next.is_news_after(&self.last, &self.shape)
    }

    pub(super) fn publish(&self, sink: &dyn Sink) {
        sink.publish(&self.shape.topic, &self.last.value, self.last.state);
    }

    /// Publishes that it is in `state` now, unless that was said; its value stays, but for an
    /// error.
    pub(super) fn settle(&mut self, state: State, sink: &dyn Sink) {
        self.lapsed = Some(state);
        if self.last.state != state {
            self.last.lapse(state);
            self.publish(sink);
        }
    }

    /// Publishes it as gone when `desk` does not want it, or has another name for it; whether it
    /// is wanted.
    pub(super) fn leave(&mut self, desk: &Desk) -> bool {
        let is_wanted = desk.allows(&self.raw.topic);
        if !is_wanted || desk.shape(&self.raw).topic != self.shape.topic {
            let lapsed = self.lapsed;
            self.settle(State::Gone, &*desk.sink);
            self.lapsed = lapsed;
        }
        is_wanted
    }

    /// Lays the rules of `desk` on it from now on, and publishes what that changes. Everything
    /// that these rules name otherwise has left before, or names could be exchanged with a loss.
    pub(super) fn rejoin(&mut self, desk: &Desk) {
        self.shape = desk.shape(&self.raw);
        desk.describe(&self.shape);
        let mut next = Shaped::default();
        self.shape.apply(&self.raw, &mut next);
        if let Some(state) = self.lapsed {
            next.lapse(state);
        }
        if next.is_news_after(&self.last, &self.shape) {
            self.last = next;
            self.publish(&*desk.sink);
        }
    }
}
