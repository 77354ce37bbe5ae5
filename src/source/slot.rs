//! One running source: when it is read, and which of its readings are published (rules: `mod.rs`).
//!
//! Follows DESIGN.md 3 "Events" for states. A state machine that is handed the time: it never reads
//! a clock and never waits. A slow read runs on a thread of `smol::unblock`, which wakes the loop.

use super::batch::Entry;
use super::desk::{Desk, Shaped};
use super::told::Told;
use super::{BACKOFF_MS_MAX, Batch, Channel, Fault, REPUBLISH_MS, Sink, Source};
use crate::hub::event::State;
use smol::Task;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Periods without a refresh after which a reading is stale.
const STALE_PERIODS: u64 = 3;

/// A source and what it gave last. It moves to a thread and back when the source is slow.
pub(super) struct Reader {
    source: Box<dyn Source>,
    pub(super) batch: Batch,
    has_given: bool,
}

impl Reader {
    pub(super) fn new(source: Box<dyn Source>) -> Reader {
        Reader {
            source,
            batch: Batch::default(),
            has_given: false,
        }
    }

    /// Fills the batch. A source that fails from the start still says which readings it owes.
    pub(super) fn read(&mut self, now_ms: u64) -> Result<(), Fault> {
        self.batch.clear();
        let outcome = self.source.read(now_ms, &mut self.batch);
        if outcome.is_err() {
            self.batch.clear();
        }
        if outcome == Err(Fault::Failed) && !self.has_given {
            for channel in self.source.channels() {
                if !channel.topic.contains('+') {
                    self.batch.fault(channel);
                }
            }
        }
        self.has_given |= outcome.is_ok();
        outcome
    }
}

/// Whether a slow read has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Finished,
    Unchanged,
}

type Outcome = (Box<Reader>, Result<(), Fault>);

enum Stage {
    /// Waits for its time.
    Idle(Box<Reader>),
    /// Is read on a thread.
    Reading(Task<Outcome>),
    /// Was read on a thread; not yet published.
    Read(Outcome),
    /// Has vanished; the slot is to be dropped.
    Gone,
}

/// A reading that was published and is not gone.
#[derive(Debug)]
struct Reading {
    told: Told,
    published_ms: u64,
    is_in_batch: bool,
}

pub(super) struct Slot {
    key: String,
    /// The first two segments of each of its topics: what names the device.
    stems: Vec<String>,
    next: Shaped,
    period_ms: u64,
    due_ms: u64,
    refreshed_ms: u64,
    failures: u32,
    stage: Stage,
    readings: Vec<Reading>,
    /// What it gave last has not passed the desk that there is now.
    has_new_desk: bool,
}

impl Slot {
    /// A slot that is due at once.
    pub(super) fn new(source: Box<dyn Source>, now_ms: u64) -> Slot {
        Slot {
            key: source.key().to_owned(),
            stems: stems(source.channels()),
            next: Shaped::default(),
            period_ms: source.period_ms(),
            due_ms: now_ms,
            refreshed_ms: now_ms,
            failures: 0,
            stage: Stage::Idle(Box::new(Reader::new(source))),
            readings: Vec::new(),
            has_new_desk: false,
        }
    }

    /// The same by another key.
    pub(super) fn with_key(self, key: String) -> Slot {
        Slot { key, ..self }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether topics of this source begin with `stem`, two segments.
    pub(super) fn has_stem(&self, stem: &str) -> bool {
        self.stems.iter().any(|own| own == stem)
    }

    pub(super) fn is_there(&self) -> bool {
        !matches!(self.stage, Stage::Gone)
    }

    /// Reads or starts to read when it is time, publishes, and answers when to call again.
    pub(super) fn turn(&mut self, now_ms: u64, desk: &Desk) -> u64 {
        self.stage = match mem::replace(&mut self.stage, Stage::Gone) {
            Stage::Idle(reader) if self.has_new_desk => self.pass_again(reader, now_ms, desk),
            Stage::Idle(mut reader) if now_ms >= self.due_ms => {
                if reader.source.is_slow() {
                    Stage::Reading(smol::unblock(move || {
                        let outcome = reader.read(now_ms);
                        (reader, outcome)
                    }))
                } else {
                    let outcome = reader.read(now_ms);
                    self.finish((reader, outcome), now_ms, desk)
                }
            }
            Stage::Read(outcome) => self.finish(outcome, now_ms, desk),
            stage => stage,
        };
        match self.stage {
            Stage::Idle(_) => self.due_ms,
            Stage::Reading(_) => self.watch(now_ms, &*desk.sink),
            Stage::Read(_) | Stage::Gone => now_ms,
        }
    }

    pub(super) fn poll_slow(&mut self, context: &mut Context<'_>) -> Progress {
        let Stage::Reading(task) = &mut self.stage else {
            return Progress::Unchanged;
        };
        match Pin::new(task).poll(context) {
            Poll::Ready(outcome) => {
                self.stage = Stage::Read(outcome);
                Progress::Finished
            }
            Poll::Pending => Progress::Unchanged,
        }
    }

    /// Publishes what a read gave and decides when to read again.
    fn finish(&mut self, (reader, result): Outcome, now_ms: u64, desk: &Desk) -> Stage {
        let sink = &*desk.sink;
        self.refreshed_ms = now_ms;
        let has_failed = self.merge(&reader.batch, now_ms, desk) || result.is_err();
        match result {
            Ok(()) => self.settle_missing(State::Gone, sink),
            Err(Fault::Failed) => self.settle_missing(State::Error, sink),
            Err(Fault::Vanished) => {
                self.settle_missing(State::Gone, sink);
                return Stage::Gone;
            }
        }
        self.failures = if has_failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.due_ms = if has_failed {
            now_ms + backoff_ms(self.period_ms, self.failures)
        } else {
            next_due_ms(self.period_ms, now_ms)
        };
        Stage::Idle(reader)
    }

    /// Publishes what `batch` has to say. Answers whether it holds errors only.
    fn merge(&mut self, batch: &Batch, now_ms: u64, desk: &Desk) -> bool {
        let mut errors = 0;
        for entry in batch.entries() {
            errors += usize::from(entry.state == State::Error);
            let found = self
                .readings
                .iter_mut()
                .find(|reading| reading.told.is_of(entry));
            if let Some(reading) = found {
                reading.is_in_batch = true;
                let is_news = reading.told.hear(entry, &mut self.next);
                // Half a period early rather than late: the next chance is a whole period away.
                let age_ms = now_ms + self.period_ms / 2 - reading.published_ms;
                if is_news || (self.next.state == State::Ok && age_ms >= REPUBLISH_MS) {
                    mem::swap(&mut reading.told.last, &mut self.next);
                    reading.published_ms = now_ms;
                    reading.told.publish(&*desk.sink);
                }
            } else if desk.allows(&entry.topic) {
                self.add(entry, now_ms, desk);
            }
        }
        errors > 0 && errors == batch.entries().len()
    }

    fn add(&mut self, entry: &Entry, now_ms: u64, desk: &Desk) {
        self.readings.push(Reading {
            told: Told::new(entry, desk),
            published_ms: now_ms,
            is_in_batch: true,
        });
    }

    /// Publishes as gone what `desk` does not want or names otherwise.
    pub(super) fn leave(&mut self, desk: &Desk) {
        self.readings.retain_mut(|reading| reading.told.leave(desk));
    }

    /// Publishes what is otherwise by `desk`, which all passes from now on.
    pub(super) fn rejoin(&mut self, desk: &Desk) {
        self.has_new_desk = true;
        for reading in &mut self.readings {
            reading.told.rejoin(desk);
        }
    }

    /// Publishes what only a new desk wants; a source of nothing that is wanted ends.
    fn pass_again(&mut self, reader: Box<Reader>, now_ms: u64, desk: &Desk) -> Stage {
        self.has_new_desk = false;
        if !desk.may_allow(reader.source.channels()) {
            self.end(&*desk.sink);
            return Stage::Gone;
        }
        for entry in reader.batch.entries() {
            let is_there = self
                .readings
                .iter()
                .any(|reading| reading.told.is_of(entry));
            if !is_there && desk.allows(&entry.topic) {
                self.add(entry, now_ms, desk);
            }
        }
        for reading in &mut self.readings {
            reading.is_in_batch = false;
        }
        Stage::Idle(reader)
    }

    /// Publishes all of it as gone.
    pub(super) fn end(&mut self, sink: &dyn Sink) {
        for mut reading in self.readings.drain(..) {
            reading.told.settle(State::Gone, sink);
        }
    }

    /// Publishes readings that were not in the batch as `state`, and forgets those that are gone.
    fn settle_missing(&mut self, state: State, sink: &dyn Sink) {
        self.readings.retain_mut(|reading| {
            if mem::take(&mut reading.is_in_batch) {
                return true;
            }
            reading.told.settle(state, sink);
            state != State::Gone
        });
    }

    /// While a read hangs: publishes good readings as stale when it is time, else answers when.
    fn watch(&mut self, now_ms: u64, sink: &dyn Sink) -> u64 {
        let stale_ms = self.refreshed_ms + STALE_PERIODS * self.period_ms;
        let mut good = self
            .readings
            .iter_mut()
            .filter(|reading| reading.told.last.state == State::Ok);
        if now_ms >= stale_ms {
            good.for_each(|reading| reading.told.settle(State::Stale, sink));
            return u64::MAX;
        }
        if good.next().is_some() {
            stale_ms
        } else {
            u64::MAX
        }
    }
}

/// The first two segments of each topic, once each.
fn stems(channels: &[Channel]) -> Vec<String> {
    let mut stems: Vec<String> = Vec::new();
    for channel in channels {
        let end = channel
            .topic
            .match_indices('/')
            .nth(1)
            .map_or(channel.topic.len(), |(at, _)| at);
        let stem = &channel.topic[..end];
        if !stems.iter().any(|own| own == stem) {
            stems.push(stem.to_owned());
        }
    }
    stems
}

/// The next multiple of the period that is at least half a period away: sources of one period are
/// due together, and two reads are never too close for a difference to mean something.
fn next_due_ms(period_ms: u64, now_ms: u64) -> u64 {
    ((now_ms + period_ms / 2) / period_ms + 1) * period_ms
}

/// How long to wait after so many failures in a row: twice the period, then doubling, at most
/// `BACKOFF_MS_MAX` or the period.
fn backoff_ms(period_ms: u64, failures: u32) -> u64 {
    let doubled = period_ms.saturating_mul(1 << failures.min(32));
    doubled.min(BACKOFF_MS_MAX).max(period_ms)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Log, TOLD, Told, desk};
    use super::super::{Channel, REPUBLISH_MS};
    use super::*;
    use std::rc::Rc;
    use std::sync::mpsc;
    use std::task::Waker;
    use std::thread;
    use std::time::Duration;

    const NOTHING: [&str; 0] = [];

    fn give(value: f64) -> impl FnMut(&mut Batch) -> Result<(), Fault> + Send + 'static {
        move |batch| {
            batch.number(&TOLD[0], value, 1);
            Ok(())
        }
    }

    struct Bench {
        slot: Slot,
        log: Rc<Log>,
        desk: Desk,
    }

    impl Bench {
        fn new(told: &Told) -> Bench {
            let slot = Slot::new(Box::new(told.clone()), 0);
            let log = Rc::new(Log::default());
            let desk = desk(&[], &["b/secret"], Rc::<Log>::clone(&log));
            Bench { slot, log, desk }
        }

        /// What a turn published.
        fn turn(&mut self, now_ms: u64) -> Vec<String> {
            self.slot.turn(now_ms, &self.desk);
            self.log.take()
        }

        fn wake_ms(&mut self, now_ms: u64) -> u64 {
            self.slot.turn(now_ms, &self.desk)
        }
    }

    #[test]
    fn a_change_is_published_and_the_rest_at_times() {
        let told = Told::new(give(1.0));
        let mut bench = Bench::new(&told);
        assert_eq!(bench.turn(0), ["a = An a [V]", "a 1 Ok"]);
        for now_ms in (1000..REPUBLISH_MS).step_by(1000) {
            assert_eq!(bench.turn(now_ms), NOTHING, "at {now_ms}");
        }
        assert_eq!(bench.turn(REPUBLISH_MS), ["a 1 Ok"]);
        told.tell(give(1.04));
        assert_eq!(
            bench.turn(REPUBLISH_MS + 1000),
            NOTHING,
            "the text is what counts"
        );
        told.tell(give(1.1));
        assert_eq!(bench.turn(REPUBLISH_MS + 1500), NOTHING, "not yet due");
        assert_eq!(bench.turn(REPUBLISH_MS + 2000), ["a 1.1 Ok"]);
    }

    #[test]
    fn an_error_is_said_once_and_backs_off() {
        let told = Told::new(give(1.0));
        let mut bench = Bench::new(&told);
        bench.turn(0);
        told.tell(|_| Err(Fault::Failed));
        assert_eq!(bench.turn(1000), ["a null Error"]);
        let mut now_ms = 1000;
        for wait_ms in [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(bench.turn(now_ms + wait_ms - 1), NOTHING);
            assert_eq!(bench.wake_ms(now_ms), now_ms + wait_ms);
            now_ms += wait_ms;
            assert_eq!(bench.turn(now_ms), NOTHING);
        }
        told.tell(give(1.0));
        assert_eq!(bench.turn(now_ms + 60_000), ["a 1 Ok"]);
        assert_eq!(bench.wake_ms(now_ms + 60_000), now_ms + 61_000);
    }

    #[test]
    fn a_source_of_errors_only_backs_off_and_a_mixed_one_does_not() {
        let told = Told::new(give(f64::NAN));
        let mut bench = Bench::new(&told);
        assert_eq!(bench.turn(0), ["a = An a [V]", "a null Error"]);
        assert_eq!(bench.wake_ms(0), 2000);
        told.tell(|batch| {
            batch.number(&TOLD[0], f64::INFINITY, 1);
            batch.number(&Channel::fixed("b/1", "B 1", "A"), 0.5, 1);
            batch.number(&Channel::fixed("b/secret", "B 2", "A"), 0.5, 1);
            Ok(())
        });
        assert_eq!(bench.turn(2000), ["b/1 = B 1 [A]", "b/1 0.5 Ok"]);
        assert_eq!(bench.wake_ms(2000), 3000);
    }

    #[test]
    fn a_source_that_fails_from_the_start_says_what_it_owes() {
        let told = Told::new(|_| Err(Fault::Failed));
        let mut bench = Bench::new(&told);
        assert_eq!(bench.turn(0), ["a = An a [V]", "a null Error"]);
        assert_eq!(bench.turn(2000), NOTHING);
        told.tell(give(2.0));
        assert_eq!(bench.turn(6000), ["a 2 Ok"]);
    }

    #[test]
    fn what_is_left_out_is_gone_and_comes_back() {
        let told = Told::new(give(1.0));
        let mut bench = Bench::new(&told);
        bench.turn(0);
        told.tell(|_| Ok(()));
        assert_eq!(bench.turn(1000), ["a 1 Gone"]);
        assert_eq!(bench.turn(2000), NOTHING);
        assert!(bench.slot.is_there());
        told.tell(give(1.0));
        assert_eq!(bench.turn(3000), ["a = An a [V]", "a 1 Ok"]);
        told.tell(|_| Err(Fault::Vanished));
        assert_eq!(bench.turn(4000), ["a 1 Gone"]);
        assert!(!bench.slot.is_there());
    }

    #[test]
    fn a_read_that_hangs_makes_stale_once_and_delays_nobody() {
        let mut told = Told::new(give(1.0));
        told.is_slow = true;
        let mut slow = Bench::new(&told);
        let settle = |slow: &mut Bench| {
            let mut context = Context::from_waker(Waker::noop());
            while slow.slot.poll_slow(&mut context) == Progress::Unchanged {
                thread::sleep(Duration::from_millis(1));
            }
        };
        assert_eq!(slow.turn(0), NOTHING);
        settle(&mut slow);
        assert_eq!(slow.turn(10), ["a = An a [V]", "a 1 Ok"]);

        let (release, held) = mpsc::channel();
        told.tell(move |batch| {
            held.recv().expect("the test releases the read");
            give(3.0)(batch)
        });
        assert_eq!(slow.wake_ms(1000), 3010, "the watchdog's time");
        assert_eq!(slow.turn(3009), NOTHING);
        assert_eq!(slow.turn(3010), ["a 1 Stale"]);
        assert_eq!(slow.wake_ms(3010), u64::MAX);
        assert_eq!(slow.turn(60_000), NOTHING);
        release.send(()).unwrap();
        settle(&mut slow);
        assert_eq!(slow.turn(60_010), ["a 3 Ok"]);
        assert_eq!(slow.wake_ms(60_010), 61_000);
    }

    #[test]
    fn an_error_does_not_become_stale() {
        let mut told = Told::new(give(f64::NAN));
        let mut bench = Bench::new(&told);
        bench.turn(0);
        let (_release, held) = mpsc::channel::<()>();
        told.is_slow = true;
        let mut stuck = Reader::new(Box::new(told));
        bench.slot.stage = Stage::Reading(smol::unblock(move || {
            let outcome = held.recv().map_err(|_| Fault::Failed);
            stuck.batch.clear();
            (Box::new(stuck), outcome)
        }));
        assert_eq!(bench.wake_ms(1000), u64::MAX);
        assert_eq!(bench.turn(100_000), NOTHING);
    }

    /// A desk with these rules, that writes where that of `bench` does.
    fn other_desk(bench: &Bench, rules: &str) -> Desk {
        let layer = crate::config::Layer {
            file: "",
            text: rules,
            is_profile: false,
        };
        let config = crate::config::Config::new(&[layer]).unwrap();
        Desk::new(&config, Rc::clone(&bench.desk.sink))
    }

    /// What other rules make of what is there.
    fn obey(bench: &mut Bench, rules: &str) -> Vec<String> {
        bench.desk = other_desk(bench, rules);
        bench.slot.leave(&bench.desk);
        bench.slot.rejoin(&bench.desk);
        bench.log.take()
    }

    #[test]
    fn other_rules_count_at_once() {
        let told = Told::new(|batch| {
            batch.number(&TOLD[0], 2.0, 1);
            batch.number(&Channel::fixed("b/secret", "B", "A"), 0.5, 1);
            Ok(())
        });
        let mut bench = Bench::new(&told);
        assert_eq!(bench.turn(0), ["a = An a [V]", "a 2 Ok"]);
        let said = obey(&mut bench, "[[topic]]\nmatch = \"a\"\nlabel = \"New\"");
        assert_eq!(said, ["a = New [V]"]);
        assert_eq!(bench.turn(500), ["b/secret = B [A]", "b/secret 0.5 Ok"]);
        let said = obey(
            &mut bench,
            "[[topic]]\nmatch = \"a\"\nscale = 10\nrename = \"c\"",
        );
        let want = ["a 2 Gone", "c = An a [V]", "c 20 Ok", "b/secret = B [A]"];
        assert_eq!(said, want);
        let said = obey(&mut bench, "[sources]\nexclude = [\"b/#\"]");
        let want = ["c 20 Gone", "b/secret 0.5 Gone", "a = An a [V]", "a 2 Ok"];
        assert_eq!(said, want);
        assert_eq!(bench.turn(600), NOTHING);
        assert!(bench.slot.is_there());
        assert_eq!(
            obey(&mut bench, "[sources]\nexclude = [\"#\"]"),
            ["a 2 Gone"]
        );
        assert_eq!(bench.turn(700), NOTHING);
        assert!(!bench.slot.is_there(), "nothing of it is wanted");
    }

    #[test]
    fn an_error_stays_one_by_other_rules() {
        let told = Told::new(give(1.0));
        let mut bench = Bench::new(&told);
        bench.turn(0);
        told.tell(|_| Err(Fault::Failed));
        assert_eq!(bench.turn(1000), ["a null Error"]);
        let said = obey(&mut bench, "[[topic]]\nmatch = \"a\"\nrename = \"c\"");
        assert_eq!(said, ["a null Gone", "c = An a [V]", "c null Error"]);
        // One that only a rule found is none by another.
        told.tell(give(1.0));
        assert_eq!(bench.turn(1500), NOTHING);
        assert_eq!(bench.turn(60_000), ["c 1 Ok"]);
        let said = obey(&mut bench, "[[topic]]\nmatch = \"a\"\nmax = 0");
        assert_eq!(said, ["c 1 Gone", "a = An a [V]", "a null Error"]);
        assert_eq!(obey(&mut bench, ""), ["a = An a [V]", "a 1 Ok"]);
    }

    #[test]
    fn ticks_are_on_one_grid_and_never_too_close() {
        for (now_ms, want) in [
            (0, 1000),
            (499, 1000),
            (500, 2000),
            (1000, 2000),
            (1003, 2000),
            (1600, 3000),
        ] {
            assert_eq!(next_due_ms(1000, now_ms), want, "{now_ms}");
        }
        assert_eq!(
            backoff_ms(90_000, 1),
            90_000,
            "never sooner than without an error"
        );
        assert_eq!(backoff_ms(1, u32::MAX), BACKOFF_MS_MAX);
    }
}
