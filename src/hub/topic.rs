//! The fixed table of topics, in order of last update.
//!
//! Each topic keeps its newest event for ever, in the log while it is there and in a place of its
//! own from the moment it leaves: a busy topic can never evict the latest value of a quiet one.
//! This file never decides when a topic is created or forgotten.

use super::event::{Event, Seq, Spans, State};
use crate::limits::{ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX, LABEL_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::name;

const NONE: u16 = u16::MAX;
/// An event forgotten at the size limit grows by its state.
const RETAINED_BYTES: usize = EVENT_BYTES_MAX + ENVELOPE_BYTES_MAX;

/// A label or a unit.
pub type Words = heapless::String<LABEL_BYTES_MAX>;

/// Values at which a reading is no longer ordinary, in the topic's unit: the kernel's words.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Critically low.
    pub lcrit: Option<f32>,
    /// Low.
    pub min: Option<f32>,
    /// High.
    pub max: Option<f32>,
    /// Critically high.
    pub crit: Option<f32>,
}

/// What topics of a pattern are called and measured in when nobody says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// A topic pattern.
    pub pattern: String,
    /// At most `LABEL_BYTES_MAX`, as the unit.
    pub label: Option<String>,
    /// As a person reads it.
    pub unit: Option<String>,
}

/// One topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name, without a leading `/`.
    pub name: heapless::String<TOPIC_BYTES_MAX>,
    /// What a person reads; the name when nothing better is known.
    pub label: Words,
    /// The unit as a person reads it, empty when there is none.
    pub unit: Words,
    /// When its value is no longer ordinary.
    pub limits: Limits,
    /// Whether a source of this board's describes it: nobody else is to write it.
    pub measured: bool,
    /// The sequence of its newest event.
    pub last: Seq,
    /// The sequence of its newest event that left the log and is no longer its last, 0 when none.
    pub overwritten: Seq,
    /// When its last event was published, in monotonic milliseconds.
    pub updated_ms: u64,
    /// The state of its last event.
    pub state: State,
    /// The last event's parts when it has left the log.
    retained: Option<Spans>,
    older: u16,
    newer: u16,
    used: bool,
}

/// All topics.
#[derive(Debug)]
pub struct Topics {
    slots: Vec<Topic>,
    slots_max: usize,
    free: Vec<u16>,
    by_name: Vec<u16>,
    oldest: u16,
    newest: u16,
    retained: Vec<u8>,
    /// Of several that match, the later one wins.
    namings: Vec<Naming>,
}

impl Topics {
    /// Room for `count` topics. Pages are not touched before they are used.
    pub fn new(count: usize) -> Topics {
        Topics {
            slots: Vec::with_capacity(count),
            slots_max: count,
            free: Vec::with_capacity(count),
            by_name: Vec::with_capacity(count),
            oldest: NONE,
            newest: NONE,
            retained: vec![0; count * RETAINED_BYTES],
            namings: Vec::new(),
        }
    }

    /// Bytes held by a table for `count` topics, when all are used to the full.
    pub fn memory_bytes(count: usize) -> usize {
        count * (size_of::<Topic>() + RETAINED_BYTES + 2 * size_of::<u16>())
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.by_name
            .binary_search_by(|&i| self.slots[usize::from(i)].name.as_str().cmp(name))
    }

    /// The slot of the topic called `name`, forgotten ones included until their event has left.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.search(name).ok().map(|at| self.by_name[at])
    }

    /// The topic in a slot that is in use.
    pub fn topic(&self, slot: u16) -> &Topic {
        &self.slots[usize::from(slot)]
    }

    /// As `topic`, to change it.
    pub fn topic_mut(&mut self, slot: u16) -> &mut Topic {
        &mut self.slots[usize::from(slot)]
    }

    /// The topic in this slot, if it is in use.
    pub fn used(&self, slot: u16) -> Option<&Topic> {
        self.slots.get(usize::from(slot)).filter(|topic| topic.used)
    }

    /// How many topics the table holds.
    pub fn capacity(&self) -> usize {
        self.slots_max
    }

    /// How many more topics fit.
    pub fn room(&self) -> usize {
        self.slots_max - self.by_name.len()
    }

    /// How many topics there are, forgotten ones included until their event has left.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The slots in use, in order of name.
    pub fn by_name(&self) -> &[u16] {
        &self.by_name
    }

    /// What topics are called and measured in from now on, those too that are there already.
    pub fn set_namings(&mut self, namings: Vec<Naming>) {
        self.namings = namings;
        for at in 0..self.by_name.len() {
            let slot = self.by_name[at];
            let (label, unit) = self.named(&self.topic(slot).name);
            let topic = self.topic_mut(slot);
            (topic.label, topic.unit) = (label, unit);
        }
    }

    /// The label and the unit of a topic that nobody describes.
    fn named(&self, name: &str) -> (Words, Words) {
        let naming = |text: fn(&Naming) -> Option<&String>| {
            let matching = |naming: &&Naming| name::matches(&naming.pattern, name);
            let mut texts = self.namings.iter().rev().filter(matching).filter_map(text);
            let text = texts.next().and_then(|text| text.as_str().try_into().ok());
            text.unwrap_or_default()
        };
        (
            naming(|naming| naming.label.as_ref()),
            naming(|naming| naming.unit.as_ref()),
        )
    }

    /// Adds a topic; `None` when the table is full. It has no event yet.
    pub fn add(&mut self, name: &str) -> Option<u16> {
        let at = self.search(name).err()?;
        let (label, unit) = self.named(name);
        let topic = Topic {
            name: name.try_into().ok()?,
            label,
            unit,
            limits: Limits::default(),
            measured: false,
            last: 0,
            overwritten: 0,
            updated_ms: 0,
            state: State::Ok,
            retained: None,
            older: NONE,
            newer: NONE,
            used: true,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[usize::from(slot)] = topic;
            slot
        } else if self.slots.len() < self.slots_max {
            self.slots.push(topic);
            (self.slots.len() - 1) as u16
        } else {
            return None;
        };
        self.by_name.insert(at, slot);
        self.link_newest(slot);
        Some(slot)
    }

    /// Frees a slot: its forgotten topic's last event has left the log.
    pub fn remove(&mut self, slot: u16) {
        let at = self
            .search(&self.topic(slot).name)
            .expect("a topic in use is found by its name");
        self.by_name.remove(at);
        self.unlink(slot);
        self.topic_mut(slot).used = false;
        self.free.push(slot);
    }

    fn unlink(&mut self, slot: u16) {
        let Topic { older, newer, .. } = *self.topic(slot);
        match older {
            NONE => self.oldest = newer,
            older => self.topic_mut(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.topic_mut(newer).older = older,
        }
    }

    fn link_newest(&mut self, slot: u16) {
        let before = core::mem::replace(&mut self.newest, slot);
        match before {
            NONE => self.oldest = slot,
            before => self.topic_mut(before).newer = slot,
        }
        let topic = self.topic_mut(slot);
        topic.older = before;
        topic.newer = NONE;
    }

    /// A topic got its newest event: it becomes the last in order of update.
    pub fn updated(&mut self, slot: u16, seq: Seq, state: State, now_ms: u64) {
        if self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
        let topic = self.topic_mut(slot);
        topic.last = seq;
        topic.state = state;
        topic.updated_ms = now_ms;
        topic.retained = None;
    }

    /// Keeps a last event that is about to leave the log.
    pub fn retain(&mut self, event: Event<'_>) {
        let at = usize::from(event.topic) * RETAINED_BYTES;
        self.retained[at..][..event.text.len()].copy_from_slice(event.text);
        self.topic_mut(event.topic).retained = Some(event.spans);
    }

    /// The last event of a topic, when it has left the log.
    pub fn retained(&self, slot: u16) -> Option<Event<'_>> {
        let topic = self.topic(slot);
        let spans = topic.retained?;
        let text = &self.retained[usize::from(slot) * RETAINED_BYTES..][..usize::from(spans.bytes)];
        Some(Event {
            seq: topic.last,
            topic: slot,
            text,
            spans,
        })
    }

    /// The least recently updated topic with a last event above `seq`.
    pub fn first_above(&self, seq: Seq) -> Option<u16> {
        let mut found = None;
        let mut at = self.newest;
        while at != NONE && self.topic(at).last > seq {
            found = Some(at);
            at = self.topic(at).older;
        }
        found
    }

    /// The topic updated next after this one.
    pub fn newer(&self, slot: u16) -> Option<u16> {
        let newer = self.topic(slot).newer;
        (newer != NONE).then_some(newer)
    }

    /// How many topics have their last event above `from` and below `to`.
    pub fn count_between(&self, from: Seq, to: Seq) -> u64 {
        let mut count = 0;
        let mut at = self.newest;
        while at != NONE && self.topic(at).last > from {
            count += u64::from(self.topic(at).last < to);
            at = self.topic(at).older;
        }
        count
    }
}
