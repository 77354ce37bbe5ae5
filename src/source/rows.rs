//! The rows of `[[source]]`: which of them run, and how they start and stop when the file changes.
//!
//! A row runs when `[sources]` leaves it something to say. One that says the same as before goes
//! on, wherever it stands now. One that is stopped is dropped at once: its topics are gone, its
//! socket too, its program is asked to end, and what was heard of it and not yet published is lost.

use super::desk::Desk;
use super::driver::{Driver, Pulse, drive};
use super::feed::{Complaint, Feed, Pen};
use super::heading::Heading;
use super::slot::Slot;
use super::{Sink, datagram, exec, program, stdin};
use crate::clock::boot_ms;
use crate::config::{Config, Format, SourceEntry};
use crate::hub::event::State;
use smol::{LocalExecutor, Task};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// A feed, for as long as it is not stopped.
type Stream = Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>>;

/// What a row has running.
enum Running {
    /// What the driver reads at a period, by its key.
    Slot(String),
    /// What speaks by itself; its task ends with it.
    Feed(Rc<Pen>, Stream, Task<()>),
}

/// All sources, found and configured.
pub struct Sources {
    driver: Rc<RefCell<Driver>>,
    rows: Vec<(SourceEntry, Running)>,
    /// Rows that ever ran: each has a key of its own.
    count: u64,
}

/// Finds the sources below `sys_root`, starts those of `[[source]]`, and reads what `config`
/// allows, for as long as the executor runs and the answer is kept.
pub fn start(
    executor: &LocalExecutor<'static>,
    config: &Config,
    sys_root: &Path,
    sink: Rc<dyn Sink>,
) -> Sources {
    let driver = Rc::new(RefCell::new(Driver::new(config, sys_root, sink)));
    let mut sources = Sources {
        driver: Rc::clone(&driver),
        rows: Vec::new(),
        count: 0,
    };
    sources.obey(executor, config);
    executor.spawn(drive(driver)).detach();
    sources
}

impl Sources {
    /// Whether they make progress.
    pub fn pulse(&self) -> Pulse {
        self.driver.borrow().pulse.clone()
    }

    /// Reads what `config` allows from now on, by its rules, and runs its rows.
    pub fn obey(&mut self, executor: &LocalExecutor<'static>, config: &Config) {
        let desk = Desk::new(config, Rc::clone(&self.driver.borrow().desk.sink));
        let rows = config.source.iter();
        let mut missing: Vec<&SourceEntry> = rows.filter(|row| is_wanted(row, &desk)).collect();
        for (row, running) in std::mem::take(&mut self.rows) {
            match missing.iter().position(|entry| entry.says_the_same(&row)) {
                Some(at) => {
                    missing.remove(at);
                    self.rows.push((row, running));
                }
                None => self.stop(running),
            }
        }
        self.driver.borrow_mut().obey(config);
        for row in missing {
            let running = self.begin(executor, row.clone());
            self.rows.push((row.clone(), running));
        }
        self.driver.borrow_mut().hurry();
    }

    fn begin(&mut self, executor: &LocalExecutor<'static>, row: SourceEntry) -> Running {
        let mut driver = self.driver.borrow_mut();
        if let Some(source) = program(&row) {
            self.count += 1;
            let key = format!("row:{}", self.count);
            let slot = Slot::new(source, boot_ms());
            driver.slots.push(slot.with_key(key.clone()));
            return Running::Slot(key);
        }
        let (format, stale_ms) = match &row {
            SourceEntry::Exec(exec) => (Format::Text, exec.stale_ms),
            SourceEntry::Stdin(stdin) => (stdin.format, stdin.stale_ms),
            SourceEntry::Datagram(socket) => (socket.format, socket.stale_ms),
        };
        let pen = Rc::new(Pen::new(Rc::clone(&driver.desk), stale_ms));
        driver.pens.push(Rc::clone(&pen));
        let complaint = Complaint::aloud(row.place());
        let feed = Feed::new(Rc::clone(&pen), heading(&row), format, complaint);
        let stream = async {
            match row {
                SourceEntry::Exec(exec) => exec::stream(exec.command, feed).await,
                SourceEntry::Stdin(_) => stdin::stream(feed).await,
                SourceEntry::Datagram(socket) => datagram::stream(socket, feed).await,
            }
        };
        // Not the task's own: what a task holds is dropped in its next turn only, and another row
        // may want the same path at once.
        let stream: Stream = Rc::new(RefCell::new(Some(Box::pin(stream))));
        let held = Rc::clone(&stream);
        let task = executor.spawn(poll_fn(move |context| match &mut *held.borrow_mut() {
            Some(stream) => stream.as_mut().poll(context),
            None => Poll::Ready(()),
        }));
        Running::Feed(pen, stream, task)
    }

    fn stop(&self, running: Running) {
        let mut driver = self.driver.borrow_mut();
        let driver = &mut *driver;
        match running {
            Running::Slot(key) => {
                if let Some(at) = driver.slots.iter().position(|slot| slot.key() == key) {
                    driver.slots.remove(at).end(&*driver.desk.sink);
                }
            }
            Running::Feed(pen, stream, task) => {
                drop((stream.take(), task));
                pen.lapse(State::Gone);
                driver.pens.retain(|other| !Rc::ptr_eq(other, &pen));
            }
        }
    }
}

/// What a row says about its readings.
fn heading(row: &SourceEntry) -> Heading {
    match row {
        SourceEntry::Exec(exec) => exec::heading(exec),
        SourceEntry::Stdin(stdin) => stdin::heading(stdin),
        SourceEntry::Datagram(socket) => datagram::heading(socket),
    }
}

/// Whether a row has anything to say that passes this desk; if not, that is said.
fn is_wanted(row: &SourceEntry, desk: &Desk) -> bool {
    let is_wanted = desk.may_allow(&heading(row).channels());
    if !is_wanted {
        let why = "not started, because [sources] leaves out all of its topics";
        Complaint::aloud(row.place()).make(boot_ms(), why);
    }
    is_wanted
}
