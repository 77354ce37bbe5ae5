//! The hub: one log, its topics, and who wants them (DESIGN.md 1 and 3).
//!
//! `publish` encodes an event into the log; `feed` reads what a cursor has not seen yet, as
//! catch-up, replay or both; `lost` says what a cursor can no longer see. The hub knows no
//! transport, no socket and no clock: time is an argument.

pub mod audience;
pub mod event;
pub mod log;
pub mod pictures;
pub mod presence;
pub mod readers;
pub mod topic;

use audience::{Audiences, TopicSet, Wish};
use event::{Draft, Event, Seq, State, Time};
use log::Log;
use pictures::Pictures;
use presence::Presence;
use readers::{Grant, Readers};
use topic::{Topic, Topics};

use crate::buffer::Writer;
use crate::limits::EVENT_BYTES_MAX;

/// The name of one life of the log: at most 10 characters of base 36.
pub type LogName = heapless::String<10>;

/// How many of each thing a hub holds.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Bytes of the ring.
    pub ring_bytes: usize,
    /// Topics.
    pub topics: usize,
    /// Audiences: one for each stream slot at most.
    pub audiences: usize,
}

/// When something happens: on the clock events are stamped with, and on the one deadlines use.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For the event's text.
    pub time: Time,
    /// Monotonic milliseconds.
    pub ms: u64,
}

/// What is published before an event of the same list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// Events: each makes the sequence, and perhaps its text, longer.
    pub events: u64,
    /// Those of them that create a topic.
    pub new_topics: usize,
}

/// Why an event was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The topic is new and the table is full.
    TopicsFull,
    /// The event's text would be this long, above `EVENT_BYTES_MAX`.
    TooLong(usize),
}

/// What a cursor can no longer see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many events; an upper bound unless `exact`.
    pub count: u64,
    /// Whether `count` is the very number.
    pub exact: bool,
}

/// The state of one log, its topics and its audiences.
#[derive(Debug)]
pub struct Hub {
    name: LogName,
    log: Log,
    /// All topics.
    pub topics: Topics,
    /// All audiences.
    pub audiences: Audiences,
    /// What each reader may see; see `set_readers`.
    pub readers: Readers,
    /// How many subscribers topics have, as topics; see `set_presence`.
    pub presence: Presence,
    /// The pictures that events point to; there is room for none at first.
    pub pictures: Pictures,
    /// The newest sequence whose topic's slot was freed: below it, losses cannot be attributed.
    freed: Seq,
    /// Bytes of events ever published.
    pub published_bytes: u64,
    value: Vec<u8>,
}

impl Hub {
    /// An empty hub. `seed` names this life of the log; 48 bits of it are used.
    pub fn new(counts: Counts, seed: u64) -> Hub {
        let mut digits = [0; 16];
        let mut out = Writer::new(&mut digits);
        out.put_radix(seed & 0xffff_ffff_ffff, 36)
            .expect("48 bits are at most 10 digits");
        let text = core::str::from_utf8(out.written()).expect("digits are ASCII");
        let topics = Topics::new(counts.topics);
        // Everything is open until somebody says otherwise.
        let open = core::iter::once(Grant {
            read: vec!["#".to_owned()],
            ..Grant::default()
        });
        Hub {
            name: LogName::try_from(text).expect("48 bits are at most 10 digits"),
            log: Log::new(counts.ring_bytes),
            readers: Readers::new(open, &[], &topics),
            pictures: Pictures::default(),
            topics,
            audiences: Audiences::new(counts.audiences),
            presence: Presence::default(),
            freed: 0,
            published_bytes: 0,
            value: Vec::with_capacity(EVENT_BYTES_MAX),
        }
    }

    /// The name of this life of the log.
    pub fn log_name(&self) -> &LogName {
        &self.name
    }

    /// The newest sequence, 0 before the first event.
    pub fn head(&self) -> Seq {
        self.log.head()
    }

    /// The oldest sequence in the ring; one above the head when it is empty.
    pub fn first(&self) -> Seq {
        self.log.first()
    }

    /// Which of the events after `from` up to `to`, at most 64, are of `set`: one bit each.
    pub fn select(&self, set: &TopicSet, from: Seq, to: Seq) -> u64 {
        debug_assert!(to <= self.head() && to - from <= 64);
        let mut mask = 0;
        for seq in from + 1..=to {
            mask |= u64::from(set.contains(self.log.topic(seq))) << (seq - from - 1);
        }
        mask
    }

    /// The topic of an event that is still in the ring.
    pub fn topic(&self, seq: Seq) -> u16 {
        self.log.topic(seq)
    }

    /// The event with this sequence, if it is still in the ring.
    pub fn event(&self, seq: Seq) -> Option<Event<'_>> {
        self.log.event(seq)
    }

    /// The last event of the topic in this slot, if there is one.
    pub fn last(&self, slot: u16) -> Option<Event<'_>> {
        let last = self.topics.used(slot)?.last;
        self.log.event(last).or_else(|| self.topics.retained(slot))
    }

    /// The topic in this slot and its last event, unless it was forgotten.
    pub fn listed(&self, slot: u16) -> Option<(&Topic, Event<'_>)> {
        let topic = self
            .topics
            .used(slot)
            .filter(|topic| topic.state != State::Gone)?;
        self.last(slot).map(|event| (topic, event))
    }

    /// The slot of a topic that exists and was not forgotten.
    pub fn find(&self, name: &str) -> Option<u16> {
        let slot = self.topics.find(name)?;
        let topic = self.topics.topic(slot);
        (topic.last > 0 && topic.state != State::Gone).then_some(slot)
    }

    fn draft<'a>(&'a self, topic: &'a str, value: &'a [u8], state: State, now: Now) -> Draft<'a> {
        Draft {
            log: &self.name,
            seq: self.head() + 1,
            topic,
            time: now.time,
            value,
            state,
        }
    }

    /// The bytes an event's text would have, after what is `ahead` of it in its list.
    pub fn event_bytes(&self, topic: &str, value_bytes: usize, now: Now, ahead: Ahead) -> usize {
        let seq = self.head() + 1 + ahead.events;
        Draft {
            seq,
            ..self.draft(topic, b"", State::Ok, now)
        }
        .len()
            + value_bytes
    }

    /// Whether this event may be published, after what is `ahead` of it in its list.
    pub fn check(
        &self,
        topic: &str,
        value: &[u8],
        state: State,
        now: Now,
        ahead: Ahead,
    ) -> Result<(), Refused> {
        let seq = self.head() + 1 + ahead.events;
        let draft = Draft {
            seq,
            ..self.draft(topic, value, state, now)
        };
        is_short(draft.len(), state)?;
        let is_new = self.topics.find(topic).is_none();
        has_room(is_new, self.topics.room(), ahead.new_topics)
    }

    /// Appends an event. `topic` must be a valid name, `value` canonical JSON text.
    pub fn publish(
        &mut self,
        topic: &str,
        value: &[u8],
        state: State,
        now: Now,
    ) -> Result<Seq, Refused> {
        let bytes = self.draft(topic, value, state, now).len();
        is_short(bytes, state)?;
        let mut slot = self.topics.find(topic);
        has_room(slot.is_none(), self.topics.room(), 0)?;
        while let Some(oldest) = self.log.must_evict(bytes) {
            if self.evict(oldest) {
                slot = self.topics.find(topic);
            }
        }
        let slot = match slot {
            Some(slot) => slot,
            None => {
                let slot = self.topics.add(topic).ok_or(Refused::TopicsFull)?;
                self.match_topic(slot, Some(topic));
                slot
            }
        };
        let seq = self.head() + 1;
        let draft = Draft {
            log: &self.name,
            seq,
            topic,
            time: now.time,
            value,
            state,
        };
        let retained = self.topics.retained(slot).map(|event| event.seq);
        self.log.append(&draft, bytes, slot);
        if let Some(left) = retained {
            self.topics.topic_mut(slot).overwritten = left;
        }
        self.topics.updated(slot, seq, state, now.ms);
        self.presence.note_event(slot, state);
        self.pictures.note_event(topic, state);
        self.published_bytes += bytes as u64;
        Ok(seq)
    }

    /// Publishes a topic's last value again with another state: `gone` forgets the topic.
    /// `None` when there is no such topic.
    pub fn restate(&mut self, topic: &str, state: State, now: Now) -> Option<Seq> {
        let slot = self.find(topic)?;
        let mut value = core::mem::take(&mut self.value);
        value.clear();
        value.extend_from_slice(self.last(slot).map_or(b"null", |event| event.value()));
        let seq = self.publish(topic, &value, state, now).ok();
        self.value = value;
        seq
    }

    /// Drops the oldest event; whether its topic went with it.
    fn evict(&mut self, seq: Seq) -> bool {
        let slot = self.log.topic(seq);
        let topic = self.topics.topic_mut(slot);
        let mut is_freed = false;
        if topic.last != seq {
            topic.overwritten = seq;
        } else if topic.state == State::Gone {
            self.freed = self.freed.max(seq);
            self.match_topic(slot, None);
            self.topics.remove(slot);
            is_freed = true;
        } else if let Some(event) = self.log.event(seq) {
            self.topics.retain(event);
        }
        self.log.evict();
        is_freed
    }

    /// How many want the topic of an event that is in the ring.
    pub fn subscribers(&mut self, seq: Seq) -> u32 {
        self.audiences.subscribers(self.log.topic(seq))
    }

    /// The audience with this wish, made if there is none; `None` when the table is full. A new one
    /// stands at the head.
    pub fn join(&mut self, wish: &Wish) -> Option<u32> {
        let (topics, readers) = (&self.topics, &self.readers);
        let head = self.log.head();
        self.audiences
            .join(wish, head, |wish| matching(topics, readers, wish))
    }

    /// Which of the topics that exist a wish is for, within its reader's rights.
    pub fn matching(&self, wish: &Wish) -> TopicSet {
        matching(&self.topics, &self.readers, wish)
    }

    /// A topic appears in a slot, or its slot is freed.
    fn match_topic(&mut self, slot: u16, name: Option<&str>) {
        self.readers.match_topic(slot, name);
        self.audiences.match_topic(slot, name, &self.readers);
        self.presence.match_topic(slot, name);
    }

    /// From now on topics that one of these patterns matches are counted; before there is any.
    pub fn set_presence(&mut self, patterns: Vec<String>) {
        self.presence = Presence::new(patterns, self.topics.capacity());
    }

    /// Other rights: what everybody gets from now on is within them.
    #[cold]
    pub fn set_readers(&mut self, grants: impl Iterator<Item = Grant>, scripts: &[String]) {
        self.readers = Readers::new(grants, scripts, &self.topics);
        let (topics, readers) = (&self.topics, &self.readers);
        self.audiences
            .rematch(|wish| matching(topics, readers, wish));
    }

    /// Whether a wish is for every topic there will ever be.
    pub fn is_for_everything(&self, wish: &Wish) -> bool {
        wish.patterns.want_everything() && self.readers.reads_everything(wish.reader)
    }

    /// What a subscriber of `set` at `cursor` can no longer see, when its cursor is lapped.
    pub fn lost(&self, cursor: Seq, set: &TopicSet, everything: bool) -> Lost {
        let slots = self.topics.by_name().iter();
        let touched =
            |slot: &u16| set.contains(*slot) && self.topics.topic(*slot).overwritten > cursor;
        let freed = cursor < self.freed;
        if !self.is_lapped(cursor) || !(freed || slots.copied().any(|slot| touched(&slot))) {
            return Lost {
                count: 0,
                exact: true,
            };
        }
        let first = self.first();
        let count = first - 1 - cursor - self.topics.count_between(cursor, first);
        Lost {
            count: count.max(1),
            exact: everything && !freed,
        }
    }

    /// Whether events after `cursor` have left the ring.
    pub fn is_lapped(&self, cursor: Seq) -> bool {
        cursor + 1 < self.first()
    }

    /// How a subscriber at `cursor` is brought up to the head: all of it conflated, or only what
    /// has left the ring.
    pub fn plan(&self, cursor: Seq, catch_up: bool, fresh: bool) -> Plan {
        let catch_up_to = match (catch_up, self.is_lapped(cursor)) {
            (true, _) => Some(self.head()),
            (false, true) => Some(self.first() - 1),
            (false, false) => None,
        };
        Plan {
            catch_up_to,
            fresh,
            end: self.head(),
        }
    }

    /// What a subscriber of `set` at `cursor` has not seen.
    pub fn feed<'h>(&'h self, set: &'h TopicSet, cursor: Seq, plan: Plan) -> Feed<'h> {
        let catching_up = plan
            .catch_up_to
            .filter(|to| *to > cursor)
            .and_then(|_| self.topics.first_above(cursor));
        Feed {
            hub: self,
            set,
            cursor,
            plan,
            catching_up,
        }
    }
}

/// A forgotten topic's event grows by its state; it was short enough when it was published.
fn is_short(bytes: usize, state: State) -> Result<(), Refused> {
    match state {
        State::Ok | State::Error if bytes > EVENT_BYTES_MAX => Err(Refused::TooLong(bytes)),
        _ => Ok(()),
    }
}

/// Whether a topic that is new finds room behind those that come before it.
fn has_room(is_new: bool, room: usize, ahead: usize) -> Result<(), Refused> {
    match is_new && room <= ahead {
        true => Err(Refused::TopicsFull),
        false => Ok(()),
    }
}

fn matching(topics: &Topics, readers: &Readers, wish: &Wish) -> TopicSet {
    let readable = readers.topics(wish.reader);
    // Most want all they may have.
    if wish.patterns.want_everything() {
        return *readable;
    }
    let mut set = TopicSet::EMPTY;
    for &slot in topics.by_name() {
        let wants = readable.contains(slot) && wish.patterns.wants(&topics.topic(slot).name);
        set.set(slot, wants);
    }
    set
}

/// How far a feed goes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Up to here only the last event of each topic; then replay.
    pub catch_up_to: Option<Seq>,
    /// Leave out topics that are gone: the subscriber never saw them.
    pub fresh: bool,
    /// The last sequence to give.
    pub end: Seq,
}

/// Events in the order a subscriber gets them, ids strictly rising.
#[derive(Clone, Debug)]
pub struct Feed<'h> {
    hub: &'h Hub,
    set: &'h TopicSet,
    cursor: Seq,
    plan: Plan,
    catching_up: Option<u16>,
}

impl<'h> Feed<'h> {
    /// Whether the event given last was of the replay: every one after it is in the ring too.
    pub fn is_replaying(&self) -> bool {
        self.plan.catch_up_to.is_none()
    }

    fn next_of_catch_up(&mut self) -> Option<Event<'h>> {
        let to = self.plan.catch_up_to?.min(self.plan.end);
        while let Some(slot) = self.catching_up {
            let topic = self.hub.topics.topic(slot);
            if topic.last > to {
                self.catching_up = None;
                break;
            }
            self.catching_up = self.hub.topics.newer(slot);
            let hidden = self.plan.fresh && topic.state == State::Gone;
            if self.set.contains(slot) && !hidden {
                return self.hub.last(slot);
            }
        }
        self.cursor = self.cursor.max(to);
        self.plan.catch_up_to = None;
        None
    }
}

impl<'h> Iterator for Feed<'h> {
    type Item = Event<'h>;

    fn next(&mut self) -> Option<Event<'h>> {
        if let Some(event) = self.next_of_catch_up() {
            self.cursor = event.seq;
            return Some(event);
        }
        while self.cursor < self.plan.end {
            let seq = self.cursor + 1;
            let event = self.hub.log.event(seq)?;
            self.cursor = seq;
            if self.set.contains(event.topic) {
                return Some(event);
            }
        }
        None
    }
}
