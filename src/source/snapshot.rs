//! All readings once, for a list that is printed: at start, and by `encke sensors`.
//!
//! It blocks, but never longer than it was told to: a slow source is read on a thread of its own,
//! and one that has not answered in time is listed without a value. Feeds are not asked.

use super::batch::Batch;
use super::desk::{Desk, Shaped};
use super::slot::Reader;
use super::{About, Fault, KINDS, Known, Sink, Source, program};
use crate::clock::boot_ms;
use crate::config::Config;
use crate::hub::event::State;
use async_io::Timer;
use smol::{Task, future};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// How long to wait before reading again what is a difference of two reads.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// A reading taken for a list, not for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its topic.
    pub topic: String,
    /// What people call it.
    pub label: String,
    /// The unit to show, empty for none.
    pub unit: String,
    /// Canonical JSON text; `null` with an error, and when there is no answer yet.
    pub value: String,
    /// `Ok`, `Error`, or `Stale` when there is no answer yet.
    pub state: State,
    /// The kind of source that it comes from.
    pub kind: &'static str,
}

/// Nothing is published from a list.
struct Nowhere;

impl Sink for Nowhere {
    fn publish(&self, _: &str, _: &str, _: State) {}
    fn describe(&self, _: &str, _: &About) {}
}

/// A source on its way to an answer.
enum Asked {
    Here(Reader),
    /// On a thread, with the readings it owes meanwhile.
    There(Task<Option<Reader>>, Batch),
    /// Not at all, because nobody would wait for it: what it owes.
    Not(Batch),
}

/// Reads everything that `config` allows once, in the order of kinds; a third of a second longer
/// when a reading is the difference of two reads. Slow sources have `patience` to answer.
pub fn snapshot(config: &Config, sys_root: &Path, patience: Duration) -> Vec<Snapshot> {
    let desk = Desk::new(config, Rc::new(Nowhere));
    let mut found = Vec::new();
    for kind in KINDS {
        let sources = (kind.discover)(sys_root, &Known(&[]));
        found.extend(sources.into_iter().map(|source| (kind.name, source)));
    }
    let programs = config.source.iter().filter_map(program);
    found.extend(programs.map(|program| ("exec", program)));
    let mut asked: Vec<(&'static str, Asked)> = Vec::new();
    for (kind, source) in found {
        if desk.may_allow(source.channels()) {
            asked.extend(ask(source, patience).map(|asked| (kind, asked)));
        }
    }
    let until_ms = boot_ms() + patience.as_millis() as u64;
    if asked
        .iter()
        .any(|(_, asked)| matches!(asked, Asked::Here(reader) if is_silent(reader)))
    {
        thread::sleep(SECOND_LOOK);
    }
    let mut readings = Vec::new();
    for (kind, asked) in asked {
        let left = Duration::from_millis(until_ms.saturating_sub(boot_ms()));
        let (batch, is_late) = match asked {
            Asked::Here(mut reader) => {
                if is_silent(&reader) && reader.read(boot_ms()) == Err(Fault::Vanished) {
                    continue;
                }
                (reader.batch, false)
            }
            Asked::Not(owed) => (owed, true),
            Asked::There(answer, owed) => match within(left, answer) {
                Some(Some(reader)) => (reader.batch, false),
                Some(None) => continue,
                None => (owed, true),
            },
        };
        list(&batch, is_late, kind, &desk, &mut readings);
    }
    readings
}

/// Reads a source, or has it read; `None` when it is not there any more.
fn ask(source: Box<dyn Source>, patience: Duration) -> Option<Asked> {
    let is_slow = source.is_slow();
    let mut owed = Batch::default();
    let fixed = source
        .channels()
        .iter()
        .filter(|channel| !channel.topic.contains('+'));
    fixed.for_each(|channel| owed.fault(channel));
    if is_slow && patience.is_zero() {
        return Some(Asked::Not(owed));
    }
    let mut reader = Reader::new(source);
    if !is_slow {
        return (reader.read(boot_ms()) != Err(Fault::Vanished)).then_some(Asked::Here(reader));
    }
    let read = move || (reader.read(boot_ms()) != Err(Fault::Vanished)).then_some(reader);
    Some(Asked::There(smol::unblock(read), owed))
}

/// What `task` gives, unless it takes longer than `patience`.
fn within<T>(patience: Duration, task: Task<T>) -> Option<T> {
    let late = async {
        Timer::after(patience).await;
        None
    };
    smol::block_on(future::or(async { Some(task.await) }, late))
}

fn is_silent(reader: &Reader) -> bool {
    reader.batch.entries().is_empty()
}

fn list(
    batch: &Batch,
    is_late: bool,
    kind: &'static str,
    desk: &Desk,
    readings: &mut Vec<Snapshot>,
) {
    for entry in batch
        .entries()
        .iter()
        .filter(|entry| desk.allows(&entry.topic))
    {
        let mut shape = desk.shape(entry);
        let mut shaped = Shaped::default();
        shape.apply(entry, &mut shaped);
        let About { label, unit, .. } = shape.about;
        readings.push(Snapshot {
            topic: shape.topic,
            label,
            unit,
            value: shaped.value,
            state: if is_late { State::Stale } else { shaped.state },
            kind,
        });
    }
}
