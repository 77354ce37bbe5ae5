//! Sources that speak by themselves: each reading becomes an event, in order, none left out.
//!
//! A feed is a future on the executor that writes batches with its pen. Its topics become stale
//! when nothing came for as long as was configured, and what the feed says when it ends. Nothing
//! is published again for its age: only its sender knows whether a value still holds.

use super::batch::Batch;
use super::desk::{Desk, Shape, Shaped};
use crate::hub::event::State;
use std::cell::RefCell;
use std::rc::Rc;

/// Topics of one feed; readings of further ones are dropped.
const TOPICS_MAX: usize = 256;

/// A topic that a feed has written of.
struct Told {
    topic: String,
    shape: Shape,
    last: Shaped,
    told_ms: u64,
}

/// What a feed writes with.
pub(super) struct Pen {
    desk: Rc<Desk>,
    told: RefCell<Vec<Told>>,
    stale_ms: Option<u64>,
}

impl Pen {
    /// `stale_ms` without a reading make a topic stale; `None` never.
    pub(super) fn new(desk: Rc<Desk>, stale_ms: Option<u64>) -> Pen {
        Pen {
            desk,
            told: RefCell::default(),
            stale_ms,
        }
    }

    /// Publishes every reading of `batch` that is wanted and that its dead band lets through.
    pub(super) fn write(&self, batch: &Batch, now_ms: u64) {
        let mut all = self.told.borrow_mut();
        for entry in batch.entries() {
            let at = all.iter().position(|told| told.topic == entry.topic);
            if let Some(told) = at.map(|at| &mut all[at]) {
                let before = std::mem::take(&mut told.last);
                told.shape.apply(entry, &mut told.last);
                told.told_ms = now_ms;
                if told.shape.has_dead_band() && !told.last.is_news_after(&before, &told.shape) {
                    told.last = before;
                    continue;
                }
                self.desk
                    .sink
                    .publish(&told.shape.topic, &told.last.value, told.last.state);
            } else if all.len() < TOPICS_MAX && self.desk.allows(&entry.topic) {
                let mut told = Told {
                    topic: entry.topic.clone(),
                    shape: self.desk.shape(entry),
                    last: Shaped::default(),
                    told_ms: now_ms,
                };
                told.shape.apply(entry, &mut told.last);
                self.desk.describe(&told.shape);
                self.desk
                    .sink
                    .publish(&told.shape.topic, &told.last.value, told.last.state);
                all.push(told);
            }
        }
    }

    /// Says of every topic that it is now in `state`; its value stays, but for an error.
    pub(super) fn lapse(&self, state: State) {
        for told in self.told.borrow_mut().iter_mut() {
            self.settle(told, state);
        }
        if state == State::Gone {
            self.told.borrow_mut().clear();
        }
    }

    /// Publishes as stale what is, and answers when to look again.
    pub(super) fn watch(&self, now_ms: u64) -> u64 {
        let Some(stale_ms) = self.stale_ms else {
            return u64::MAX;
        };
        let mut wake_ms = u64::MAX;
        for told in self.told.borrow_mut().iter_mut() {
            if told.last.state != State::Ok {
                continue;
            }
            let until_ms = told.told_ms + stale_ms;
            if now_ms >= until_ms {
                self.settle(told, State::Stale);
            } else {
                wake_ms = wake_ms.min(until_ms);
            }
        }
        wake_ms
    }

    fn settle(&self, told: &mut Told, state: State) {
        if told.last.state == state {
            return;
        }
        if state == State::Error {
            "null".clone_into(&mut told.last.value);
        }
        told.last.state = state;
        self.desk
            .sink
            .publish(&told.shape.topic, &told.last.value, state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Channel;
    use super::super::fake::{Log, desk};
    use super::*;

    fn pen(stale_ms: Option<u64>) -> (Pen, Rc<Log>) {
        let log = Rc::new(Log::default());
        let desk = Rc::new(desk(&[], &["no/#"], Rc::<Log>::clone(&log)));
        (Pen::new(desk, stale_ms), log)
    }

    fn batch(topic: &str, value: &str) -> Batch {
        let mut batch = Batch::default();
        batch.json(&Channel::named(topic.to_owned(), "L", "V"), value);
        batch
    }

    #[test]
    fn every_reading_is_published() {
        let (pen, log) = pen(None);
        for value in ["1", "1", "2.50"] {
            pen.write(&batch("a", value), 0);
        }
        pen.write(&batch("no/b", "1"), 0);
        assert_eq!(log.take(), ["a = L [V]", "a 1 Ok", "a 1 Ok", "a 2.50 Ok"]);
        assert_eq!(pen.watch(u64::MAX), u64::MAX);
        pen.lapse(State::Error);
        pen.lapse(State::Error);
        assert_eq!(log.take(), ["a null Error"]);
        pen.lapse(State::Gone);
        assert_eq!(log.take(), ["a null Gone"]);
        pen.write(&batch("a", "3"), 0);
        assert_eq!(log.take(), ["a = L [V]", "a 3 Ok"]);
    }

    #[test]
    fn silence_makes_stale() {
        let (pen, log) = pen(Some(1000));
        pen.write(&batch("a", "1"), 0);
        pen.write(&batch("b", "2"), 400);
        log.take();
        assert_eq!(pen.watch(999), 1000);
        assert_eq!(pen.watch(1000), 1400);
        assert_eq!(log.take(), ["a 1 Stale"]);
        pen.write(&batch("a", "1"), 1100);
        assert_eq!(pen.watch(1400), 2100);
        assert_eq!(log.take(), ["a 1 Ok", "b 2 Stale"]);
    }

    #[test]
    fn topics_below_and_above_their_limit() {
        let (pen, log) = pen(None);
        for at in 0..=TOPICS_MAX {
            pen.write(&batch(&format!("t/{at}"), "1"), 0);
        }
        assert_eq!(log.take().len(), 2 * TOPICS_MAX);
    }
}
