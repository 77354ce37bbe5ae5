//! The one async loop that reads all sources, and starts those that speak by themselves.
//!
//! The loop never waits for a source: a slow one is read on a thread while the loop goes on and
//! watches it. It never decides what a reading means.

use super::desk::Desk;
use super::feed::{Complaint, Feed, Pen};
use super::slot::{Progress, Slot};
use super::{KINDS, Kind, Known, RESCAN_MS, Sink, Source, configured, datagram, exec, stdin};
use crate::clock::boot_ms;
use crate::config::{Config, Format, SourceEntry};
use async_io::Timer;
use smol::LocalExecutor;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
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

/// Finds the sources below `sys_root`, starts those of `[[source]]`, and reads what `config`
/// allows, for as long as the executor runs.
pub fn start(
    executor: &LocalExecutor<'static>,
    config: &Config,
    sys_root: &Path,
    sink: Rc<dyn Sink>,
) -> Pulse {
    let mut driver = Driver::new(config, sys_root, sink);
    driver.start_feeds(executor, config);
    let pulse = driver.pulse.clone();
    executor.spawn(drive(driver)).detach();
    pulse
}

/// All sources that run.
pub(super) struct Driver {
    desk: Rc<Desk>,
    sys_root: PathBuf,
    pub(super) kinds: &'static [Kind],
    /// Sources of `[[source]]` until their first turn.
    configured: Vec<Box<dyn Source>>,
    pub(super) slots: Vec<Slot>,
    pens: Vec<Rc<Pen>>,
    rescan_ms: u64,
    pulse: Pulse,
}

impl Driver {
    pub(super) fn new(config: &Config, sys_root: &Path, sink: Rc<dyn Sink>) -> Driver {
        Driver {
            desk: Rc::new(Desk::new(config, sink)),
            sys_root: sys_root.to_owned(),
            kinds: KINDS,
            configured: configured(config)
                .into_iter()
                .map(|(_, source)| source)
                .collect(),
            slots: Vec::new(),
            pens: Vec::new(),
            rescan_ms: 0,
            pulse: Pulse(Rc::new(Cell::new(boot_ms()))),
        }
    }

    /// Starts the sources of `[[source]]` that speak by themselves.
    fn start_feeds(&mut self, executor: &LocalExecutor<'static>, config: &Config) {
        for entry in config.source.iter().cloned() {
            let (heading, format, stale_ms, place) = match &entry {
                SourceEntry::Exec(exec) => (
                    exec::heading(exec),
                    Format::Text,
                    exec.stale_ms,
                    &exec.place,
                ),
                SourceEntry::Stdin(stdin) => (
                    stdin::heading(stdin),
                    stdin.format,
                    stdin.stale_ms,
                    &stdin.place,
                ),
                SourceEntry::Datagram(socket) => (
                    datagram::heading(socket),
                    socket.format,
                    socket.stale_ms,
                    &socket.place,
                ),
            };
            let mut complaint = Complaint::aloud(place);
            if !self.desk.may_allow(&heading.channels()) {
                let why = "not started, because [sources] leaves out all of its topics";
                complaint.make(boot_ms(), why);
                continue;
            }
            if matches!(&entry, SourceEntry::Exec(exec) if exec.interval_ms.is_some()) {
                // Read at a period: see `configured`.
                continue;
            }
            let pen = Rc::new(Pen::new(Rc::clone(&self.desk), stale_ms));
            self.pens.push(Rc::clone(&pen));
            let feed = Feed::new(pen, heading, format, complaint);
            let stream = async {
                match entry {
                    SourceEntry::Exec(exec) => exec::stream(exec.command, feed).await,
                    SourceEntry::Stdin(_) => stdin::stream(feed).await,
                    SourceEntry::Datagram(socket) => datagram::stream(socket, feed).await,
                }
            };
            executor.spawn(stream).detach();
        }
    }

    /// Does what is due and answers when the next thing will be.
    pub(super) fn turn(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.rescan_ms {
            self.rescan(now_ms);
            self.rescan_ms = now_ms + RESCAN_MS;
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
        let configured = self.configured.drain(..);
        let wanted = configured.filter(|source| self.desk.may_allow(source.channels()));
        self.slots
            .extend(wanted.map(|source| Slot::new(source, now_ms)));
        for kind in self.kinds {
            let found = (kind.discover)(&self.sys_root, &Known(&self.slots));
            let wanted = found
                .into_iter()
                .filter(|source| self.desk.may_allow(source.channels()));
            self.slots
                .extend(wanted.map(|source| Slot::new(source, now_ms)));
        }
    }

    /// Whether a slow read has finished; the rest will wake `context`.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_finished = false;
        for slot in &mut self.slots {
            has_finished |= slot.poll_slow(context) == Progress::Finished;
        }
        has_finished
    }
}

/// The loop: one timer for all sources, so that readings due together cost one wake-up.
pub(super) async fn drive(mut driver: Driver) {
    let mut timer = Timer::never();
    loop {
        let now_ms = boot_ms();
        let wake_ms = driver.turn(now_ms);
        timer.set_after(Duration::from_millis(wake_ms.saturating_sub(now_ms)));
        poll_fn(|context| {
            let has_finished = driver.poll_slow(context);
            match Pin::new(&mut timer).poll(context) {
                Poll::Pending if !has_finished => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}
