//! The one async loop that reads all sources, and watches those that speak by themselves.
//!
//! The loop never waits for a source: a slow one is read on a thread while the loop goes on and
//! watches it. It never decides what a reading means.

use super::desk::Desk;
use super::feed::Pen;
use super::slot::{Progress, Slot};
use super::{KINDS, Kind, Known, RESCAN_MS, Sink};
use crate::clock::boot_ms;
use crate::config::Config;
use crate::resident;
use async_io::Timer;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How late the loop may be before it counts as stuck.
const LATE_MS: u64 = 10_000;

/// Whether the loop of the sources makes progress.
#[derive(Clone, Debug)]
pub struct Pulse(Rc<Cell<u64>>);

impl Pulse {
    /// Whether the loop took its last turn in time. `now_ms` counts from boot.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        now_ms <= self.0.get().saturating_add(LATE_MS)
    }
}

/// All sources that run.
pub(super) struct Driver {
    pub(super) desk: Rc<Desk>,
    sys_root: PathBuf,
    pub(super) kinds: &'static [Kind],
    pub(super) slots: Vec<Slot>,
    pub(super) pens: Vec<Rc<Pen>>,
    rescan_ms: u64,
    pub(super) pulse: Pulse,
    /// Of the task that drives it.
    waker: Waker,
}

impl Driver {
    pub(super) fn new(config: &Config, sys_root: &Path, sink: Rc<dyn Sink>) -> Driver {
        Driver {
            desk: Rc::new(Desk::new(config, sink)),
            sys_root: sys_root.to_owned(),
            kinds: KINDS,
            slots: Vec::new(),
            pens: Vec::new(),
            rescan_ms: 0,
            pulse: Pulse(Rc::new(Cell::new(boot_ms()))),
            waker: Waker::noop().clone(),
        }
    }

    /// Has all pass the desk of `config` from now on, if that is another one.
    pub(super) fn obey(&mut self, config: &Config) {
        if self.desk.is_of(config) {
            return;
        }
        self.desk = Rc::new(Desk::new(config, Rc::clone(&self.desk.sink)));
        for slot in &mut self.slots {
            slot.leave(&self.desk);
        }
        for pen in &self.pens {
            pen.leave(&self.desk);
        }
        for slot in &mut self.slots {
            slot.rejoin(&self.desk);
        }
        for pen in &self.pens {
            pen.rejoin(&self.desk);
        }
    }

    /// Takes its next turn at once, and looks for what it does not know.
    pub(super) fn hurry(&mut self) {
        self.rescan_ms = 0;
        self.waker.wake_by_ref();
    }

    /// Does what is due and answers when the next thing will be.
    pub(super) fn turn(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.rescan_ms {
            self.rescan(now_ms);
            self.rescan_ms = now_ms + RESCAN_MS;
            resident::let_go();
        }
        let mut wake_ms = self.rescan_ms;
        for slot in &mut self.slots {
            wake_ms = wake_ms.min(slot.turn(now_ms, &self.desk));
        }
        self.slots.retain(Slot::is_there);
        for pen in &self.pens {
            wake_ms = wake_ms.min(pen.watch(now_ms));
        }
        self.pulse.0.set(wake_ms);
        wake_ms
    }

    fn rescan(&mut self, now_ms: u64) {
        for kind in self.kinds {
            let found = (kind.discover)(&self.sys_root, &Known(&self.slots));
            let wanted = found
                .into_iter()
                .filter(|source| self.desk.may_allow(source.channels()));
            self.slots
                .extend(wanted.map(|source| Slot::new(source, now_ms)));
        }
    }

    /// Whether a slow read has finished, or there is a hurry; the rest will wake `context`.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> bool {
        self.waker.clone_from(context.waker());
        let mut has_finished = self.rescan_ms == 0;
        for slot in &mut self.slots {
            has_finished |= slot.poll_slow(context) == Progress::Finished;
        }
        has_finished
    }
}

/// The loop: one timer for all sources, so that readings due together cost one wake-up.
pub(super) async fn drive(driver: Rc<RefCell<Driver>>) {
    let mut timer = Timer::never();
    loop {
        let now_ms = boot_ms();
        let wake_ms = driver.borrow_mut().turn(now_ms);
        timer.set_after(Duration::from_millis(wake_ms.saturating_sub(now_ms)));
        poll_fn(|context| {
            let has_finished = driver.borrow_mut().poll_slow(context);
            match Pin::new(&mut timer).poll(context) {
                Poll::Pending if !has_finished => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}
