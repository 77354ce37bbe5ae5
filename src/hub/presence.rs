//! Presence: how many subscribers a topic has, as a topic of its own, so that pages see each other
//! come and go (DESIGN.md 3, "Topics").
//!
//! A topic NAME that matches one of the patterns (`[server] presence`) is a *base*: while it is
//! there, `encke/presence/NAME` has the number of its subscribers as its value. It is published
//! when that number is another than the one said last. Presence topics are no bases themselves, so
//! what is published here never makes more to publish. A base whose presence topic would have too
//! long or too deep a name has none; nor has one that finds the table of topics full, until there
//! is room.
//!
//! The number is of members of audiences. Some leave only to come back soon, as a poll does with
//! each answer; where any did, the most members since the count before are counted
//! (`Audience::most`). Nothing is done for a delivery: sets are looked at when a count is due.
//!
//! This file has no clock: who calls decides how often is counted. It never says who is there.

use super::audience::{Audiences, TopicSet};
use super::event::State;
use super::{Hub, Now, Refused};
use crate::buffer::Writer;
use crate::limits::TOPICS_MAX;
use crate::name;

/// Nothing was said of a base yet.
const NOTHING: u32 = u32::MAX;

/// Which topics are counted, and what was said of them.
#[derive(Debug, Default)]
pub struct Presence {
    /// Patterns of the bases.
    patterns: Vec<String>,
    /// The bases there are.
    bases: TopicSet,
    /// The number published last of each base, by slot.
    said: Vec<u32>,
    /// Whether there may be something to say.
    is_due: bool,
    /// Whether a base was forgotten, or its slot freed, since the count before.
    has_lost: bool,
    /// Whether the table of topics was too full for a presence topic, ever.
    is_left_out: bool,
}

impl Presence {
    /// For bases that these patterns match, in a table of so many topics, none of them there yet.
    pub fn new(patterns: Vec<String>, topics: usize) -> Presence {
        let topics = if patterns.is_empty() { 0 } else { topics };
        Presence {
            patterns,
            said: vec![NOTHING; topics],
            ..Presence::default()
        }
    }

    /// Bytes for one topic.
    pub const fn memory_bytes() -> usize {
        size_of::<u32>()
    }

    fn is_base(&self, topic: &str) -> bool {
        let is_wanted = |pattern: &String| name::matches(pattern, topic);
        self.patterns.iter().any(is_wanted)
            && name::presence_base(topic).is_none()
            && name::presence_of(topic).is_some()
    }

    /// A topic appears in a slot, or its slot is freed.
    pub(super) fn match_topic(&mut self, slot: u16, name: Option<&str>) {
        if self.patterns.is_empty() {
            return;
        }
        let is_base = name.is_some_and(|name| self.is_base(name));
        if self.bases.contains(slot) {
            self.has_lost = true;
        }
        self.bases.set(slot, is_base);
        self.said[usize::from(slot)] = NOTHING;
        // A slot that is free again may be for one that was left out.
        self.is_due |= name.is_none();
    }

    /// An event of a topic was published.
    #[inline]
    pub(super) fn note_event(&mut self, slot: u16, state: State) {
        if self.bases.contains(slot) {
            self.note_base(usize::from(slot), state);
        }
    }

    fn note_base(&mut self, slot: usize, state: State) {
        if state == State::Gone {
            self.said[slot] = NOTHING;
            self.has_lost = true;
            self.is_due = true;
        } else if self.said[slot] == NOTHING {
            self.is_due = true;
        }
    }

    /// Somebody wants something or no longer does, or may read what it could not; whether that is
    /// to be counted some time.
    #[inline]
    pub fn note_change(&mut self) -> bool {
        self.is_due |= !self.patterns.is_empty();
        self.is_due
    }

    /// Whether there may be something to say.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// Whether a presence topic found no room in the table of topics, ever.
    pub fn is_left_out(&self) -> bool {
        self.is_left_out
    }
}

/// How many count as subscribers of each base, by slot; whether some of those are away.
fn count(audiences: &mut Audiences, bases: &TopicSet, counts: &mut [u32; TOPICS_MAX]) -> bool {
    let mut are_away = false;
    for index in 0..audiences.end() {
        if !audiences.is_used(index) {
            continue;
        }
        let audience = audiences.audience_mut(index);
        let most = core::mem::take(&mut audience.most);
        are_away |= most > audience.members;
        let number = most.max(audience.members);
        for slot in audience.set.shared(bases) {
            counts[usize::from(slot)] += number;
        }
    }
    are_away
}

impl Hub {
    /// Publishes the number of subscribers of each base that has another than was said. Whether
    /// there may be more to say at the next count, though nothing changes until then.
    pub fn publish_presence(&mut self, now: Now) -> bool {
        self.presence.is_due = false;
        if core::mem::take(&mut self.presence.has_lost) {
            self.forget_presence(now);
        }
        let bases = self.presence.bases;
        if bases.is_empty() {
            return self.presence.is_due;
        }
        let mut counts = [0; TOPICS_MAX];
        let are_away = count(&mut self.audiences, &bases, &mut counts);
        for slot in bases.shared(&bases) {
            let number = counts[usize::from(slot)];
            if self.presence.said[usize::from(slot)] != number {
                self.say(slot, number, now);
            }
        }
        self.presence.is_due |= are_away;
        self.presence.is_due
    }

    fn say(&mut self, slot: u16, number: u32, now: Now) {
        // What was published just now may have driven others out.
        let is_there = self.presence.bases.contains(slot)
            && (self.topics.used(slot)).is_some_and(|base| base.state != State::Gone);
        if !is_there {
            return;
        }
        let topic = name::presence_of(&self.topics.topic(slot).name);
        let topic = topic.expect("a base has a presence topic");
        let mut digits = [0; 10];
        let mut out = Writer::new(&mut digits);
        out.put_u64(number.into()).expect("32 bits fit");
        match self.publish(&topic, out.written(), State::Ok, now) {
            Ok(_) => self.presence.said[usize::from(slot)] = number,
            Err(Refused::TopicsFull) => self.presence.is_left_out = true,
            Err(Refused::TooLong(_)) => unreachable!("a number is short"),
        }
    }

    /// Forgets presence topics whose base is no longer there.
    fn forget_presence(&mut self, now: Now) {
        for slot in 0..self.topics.capacity() as u16 {
            let Some((topic, _)) = self.listed(slot) else {
                continue;
            };
            let Some(base) = name::presence_base(&topic.name) else {
                continue;
            };
            let is_base = |base| self.presence.bases.contains(base);
            if !self.find(base).is_some_and(is_base) {
                let topic = topic.name.clone();
                self.restate(&topic, State::Gone, now);
            }
        }
    }
}
