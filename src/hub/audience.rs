//! Audiences: all subscribers that want the same bytes, under one number.
//!
//! An audience is a topic set, a framing and an interval. This table knows the patterns, which
//! topics they match and how far everybody has been served; it never knows what a framing means,
//! nor who the members are.

use super::event::Seq;
use super::readers::{Reader, Readers};
use crate::limits::{CALLBACK_BYTES_MAX, PATTERNS_BYTES_MAX, TOPICS_MAX};
use crate::name;

/// No member.
pub const NOBODY: u32 = u32::MAX;

/// A set of topic slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSet([u64; TOPICS_MAX / 64]);

impl Default for TopicSet {
    fn default() -> TopicSet {
        TopicSet::EMPTY
    }
}

impl TopicSet {
    /// No topic.
    pub const EMPTY: TopicSet = TopicSet([0; TOPICS_MAX / 64]);

    /// Whether the topic in `slot` is a member.
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.0[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }

    /// How many topics it has.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds or removes the topic in `slot`.
    pub fn set(&mut self, slot: u16, member: bool) {
        let bit = 1 << (slot % 64);
        let word = &mut self.0[usize::from(slot) / 64];
        *word = if member { *word | bit } else { *word & !bit };
    }

    /// The slots that are in both, in order.
    pub fn shared(&self, other: &TopicSet) -> impl Iterator<Item = u16> {
        let words = self.0.iter().zip(&other.0).zip(0..);
        words.flat_map(|((word, other), at)| Bits(word & other).map(move |bit| 64 * at + bit))
    }

    /// Takes out what is not in another set.
    pub fn keep(&mut self, other: &TopicSet) {
        for (word, kept) in self.0.iter_mut().zip(&other.0) {
            *word &= kept;
        }
    }
}

/// The numbers of the bits that are set, from the lowest.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (bit < 64).then_some(bit as u16)
    }
}

/// What a set wants of the topics of some events: another that wants the same of them is told
/// without a look at each.
#[derive(Debug, Default)]
pub struct Selection(heapless::Vec<Touched, { TOPICS_MAX / 64 }>);

/// One word of a set: the topics that there are events of, and those of them that are wanted.
#[derive(Debug)]
struct Touched {
    word: usize,
    topics: u64,
    wanted: u64,
}

impl Selection {
    /// Forgets all events.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// There is an event of the topic in `slot`, wanted or not.
    pub fn add(&mut self, slot: u16, is_wanted: bool) {
        let (word, bit) = (usize::from(slot) / 64, 1 << (slot % 64));
        let place = self.0.iter().position(|touched| touched.word == word);
        let place = place.unwrap_or_else(|| {
            let touched = Touched {
                word,
                topics: 0,
                wanted: 0,
            };
            let has_room = self.0.push(touched).is_ok();
            assert!(has_room, "there is a word for each of a set");
            self.0.len() - 1
        });
        self.0[place].topics |= bit;
        self.0[place].wanted |= if is_wanted { bit } else { 0 };
    }

    /// Whether a set wants just that.
    #[inline]
    pub fn is_that_of(&self, set: &TopicSet) -> bool {
        let mut touched = self.0.iter();
        touched.all(|touched| set.0[touched.word] & touched.topics == touched.wanted)
    }
}

/// A subscriber's patterns, valid, each on its own line. Empty means `#`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patterns(heapless::String<PATTERNS_BYTES_MAX>);

/// There is no room for another pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternsFull;

impl Patterns {
    /// Adds a valid pattern; one that is there already is not kept twice.
    pub fn add(&mut self, pattern: &str) -> Result<(), PatternsFull> {
        if self.iter().any(|p| p == pattern) {
            return Ok(());
        }
        if self.0.len() + pattern.len() + 1 > self.0.capacity() {
            return Err(PatternsFull);
        }
        let fits = self.0.push_str(pattern).and_then(|()| self.0.push('\n'));
        fits.map_err(|_| PatternsFull)
    }

    /// These, and more; the first that are named replace everything, which was meant by none.
    ///
    /// # Errors
    /// There is no room.
    pub fn with(&self, more: &Patterns) -> Result<Patterns, PatternsFull> {
        let mut all = Patterns::default();
        for pattern in self.iter().chain(more.iter()).filter(|p| !p.is_empty()) {
            all.add(pattern)?;
        }
        Ok(all)
    }

    /// These, without some: when none is left, nothing is wanted.
    pub fn without(&self, some: &Patterns) -> Patterns {
        let is_some = |pattern: &str| some.iter().any(|other| other == pattern);
        if self.is_empty() && !is_some("#") {
            return self.clone();
        }
        let mut rest = Patterns::default();
        for pattern in self.iter().filter(|p| !p.is_empty() && !is_some(p)) {
            rest.add(pattern).expect("they fitted with others");
        }
        if rest.is_empty() {
            // A line without a pattern: no topic has that name.
            rest.0.push('\n').expect("there is room for one byte");
        }
        rest
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\n')
    }

    /// Whether no pattern was named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a topic name is wanted.
    pub fn wants(&self, topic: &str) -> bool {
        self.is_empty() || self.iter().any(|pattern| name::matches(pattern, topic))
    }

    /// Whether every topic is wanted, whatever its name.
    pub fn want_everything(&self) -> bool {
        self.is_empty() || self.iter().any(|pattern| pattern == "#")
    }
}

/// What all members of an audience have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How bytes are framed; opaque here.
    pub framing: u16,
    /// Milliseconds between conflated catch-ups; 0 for every event.
    pub interval_ms: u32,
    /// Whose rights count.
    pub reader: Reader,
    /// How its answers' heads differ from others'; opaque here.
    pub head: u8,
    /// What its answers' bodies name; opaque here.
    pub callback: heapless::String<CALLBACK_BYTES_MAX>,
    /// Which topics.
    pub patterns: Patterns,
}

/// The framings that are told apart without a look at the wish.
const FRAMING_BITS: u32 = 7;
const FRAMING: u64 = (1 << FRAMING_BITS) - 1;

impl Wish {
    /// FNV-1a with the framing in its low bits, never 0: a dense table of these is searched before
    /// the wishes themselves.
    fn key(&self) -> u64 {
        let interval = self.interval_ms.to_le_bytes();
        let bytes = self.framing.to_le_bytes().into_iter().chain(interval);
        let bytes = bytes.chain(self.reader.bytes()).chain([self.head]);
        let hash = bytes
            .chain(self.callback.bytes())
            .chain(self.patterns.0.bytes())
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
                (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
            });
        1 << 63 | hash & !FRAMING | u64::from(self.framing) & FRAMING
    }
}

/// One audience.
#[derive(Debug)]
pub struct Audience {
    /// What its members want.
    pub wish: Wish,
    /// Which of the topics that exist they want.
    pub set: TopicSet,
    /// Members at the front have everything of their topics up to here, or are just being given it.
    pub position: Seq,
    /// From this member on those at the front are still to be given what stands between
    /// `served_from` and `position`; `NOBODY` when all have it.
    pub serving: u32,
    /// Where those still to be served stand.
    pub served_from: Seq,
    /// All members.
    pub members: u32,
    /// Whether nothing about its members is to be looked at but where they are: there is no
    /// interval, and none has a limit.
    pub is_plain: bool,
    /// Bytes that were sent to its front.
    pub sent_bytes: u64,
    /// When so many were, the first of its members has had enough.
    pub limit_bytes: u64,
    /// The most it had since presence was counted, before one left that is expected back; else 0.
    pub most: u32,
    /// When a heartbeat is due, in monotonic milliseconds.
    pub heartbeat_ms: u64,
    /// When the next tick of an `interval` is due.
    pub tick_ms: u64,
    /// Before this no member's own time is over: a held poll's, or that of a stream with an end.
    pub expiry_ms: u64,
}

impl Audience {
    /// Whether all at its front have what there is up to `position`, and nothing above that; and
    /// want what comes then at once.
    #[inline]
    pub fn is_in_step(&self, position: Seq) -> bool {
        self.position == position && self.serving == NOBODY && self.is_plain
    }
}

/// All audiences.
#[derive(Debug)]
pub struct Audiences {
    keys: Vec<u64>,
    table: Vec<Audience>,
    count_max: usize,
    free: Vec<u32>,
    /// Those that have members.
    inhabited: usize,
    /// The one joined last.
    last: u32,
    /// The framings in use, as bits, once somebody asked.
    framings: Option<u128>,
    /// The topic that somebody asked for last, and how many members want it.
    counted: Option<(u16, u32)>,
    /// How many members want each topic, by slot, and whether that is still so.
    counts: Vec<u32>,
    is_counted: bool,
}

impl Audiences {
    /// Room for `count` audiences. Pages are not touched before they are used.
    pub fn new(count: usize) -> Audiences {
        Audiences {
            keys: Vec::with_capacity(count),
            table: Vec::with_capacity(count),
            count_max: count,
            free: Vec::with_capacity(count),
            inhabited: 0,
            last: 0,
            framings: None,
            counted: None,
            counts: Vec::with_capacity(TOPICS_MAX),
            is_counted: false,
        }
    }

    /// Bytes of one audience.
    pub fn memory_bytes(count: usize) -> usize {
        count * (size_of::<Audience>() + size_of::<u64>() + size_of::<u32>())
    }

    /// The audience with this wish. Most often it is the one that was joined last.
    pub fn find(&self, wish: &Wish) -> Option<u32> {
        let is_it = |index: u32| self.table[index as usize].wish == *wish;
        if (self.last as usize) < self.table.len() && self.is_used(self.last) && is_it(self.last) {
            return Some(self.last);
        }
        let key = wish.key();
        let same =
            |(index, &k): (usize, &u64)| (k == key && is_it(index as u32)).then_some(index as u32);
        self.keys.iter().enumerate().find_map(same)
    }

    /// The audience with this wish, or a new one that stands at `position`; `None` when full.
    pub fn join(
        &mut self,
        wish: &Wish,
        position: Seq,
        matching: impl Fn(&Wish) -> TopicSet,
    ) -> Option<u32> {
        if let Some(index) = self.find(wish) {
            self.last = index;
            return Some(index);
        }
        let key = wish.key();
        self.framings = None;
        let audience = Audience {
            wish: wish.clone(),
            set: matching(wish),
            position,
            serving: NOBODY,
            served_from: 0,
            members: 0,
            is_plain: wish.interval_ms == 0,
            sent_bytes: 0,
            limit_bytes: u64::MAX,
            most: 0,
            heartbeat_ms: u64::MAX,
            tick_ms: u64::MAX,
            expiry_ms: u64::MAX,
        };
        if let Some(index) = self.free.pop() {
            self.keys[index as usize] = key;
            self.table[index as usize] = audience;
            return Some(index);
        }
        if self.table.len() < self.count_max {
            self.keys.push(key);
            self.table.push(audience);
            return Some((self.table.len() - 1) as u32);
        }
        // One that waits for members that may come back gives way.
        let index = (0..self.end()).find(|index| self.audience(*index).members == 0)?;
        self.keys[index as usize] = key;
        self.table[index as usize] = audience;
        Some(index)
    }

    /// Counts a member in; whether it is the first.
    pub fn enter(&mut self, index: u32) -> bool {
        self.recount();
        let members = &mut self.table[index as usize].members;
        *members += 1;
        let is_first = *members == 1;
        self.inhabited += usize::from(is_first);
        is_first
    }

    /// Counts a member out; whether it was the last.
    pub fn leave(&mut self, index: u32) -> bool {
        self.recount();
        let members = &mut self.table[index as usize].members;
        *members -= 1;
        let is_last = *members == 0;
        self.inhabited -= usize::from(is_last);
        is_last
    }

    /// As `leave`, of one that may soon be back: until the next count of presence it counts.
    pub fn leave_for_a_while(&mut self, index: u32) -> bool {
        let audience = &mut self.table[index as usize];
        audience.most = audience.most.max(audience.members);
        self.leave(index)
    }

    /// Frees an audience without members.
    pub fn free(&mut self, index: u32) {
        debug_assert_eq!(self.audience(index).members, 0);
        self.keys[index as usize] = 0;
        self.free.push(index);
        self.framings = None;
    }

    /// What was counted is no longer so.
    fn recount(&mut self) {
        self.counted = None;
        self.is_counted = false;
    }

    /// One past the highest number in use so far; `is_used` tells which of those are.
    pub fn end(&self) -> u32 {
        self.table.len() as u32
    }

    /// Whether this number is in use.
    pub fn is_used(&self, index: u32) -> bool {
        self.keys[index as usize] != 0
    }

    /// The low 7 bits of the framing of an audience in use.
    pub fn framing(&self, index: u32) -> Option<u16> {
        let key = self.keys[index as usize];
        (key != 0).then_some((key & FRAMING) as u16)
    }

    /// The low 7 bits of all framings in use, as bits.
    pub fn framings(&mut self) -> u128 {
        let keys = &self.keys;
        *self.framings.get_or_insert_with(|| {
            let used = keys.iter().filter(|key| **key != 0);
            used.fold(0, |framings, key| framings | 1 << (key & FRAMING))
        })
    }

    /// The audience with this number.
    pub fn audience(&self, index: u32) -> &Audience {
        &self.table[index as usize]
    }

    /// As `audience`, to change it.
    pub fn audience_mut(&mut self, index: u32) -> &mut Audience {
        &mut self.table[index as usize]
    }

    /// How many have members.
    pub fn len(&self) -> usize {
        self.inhabited
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Matches a topic against every audience: once when it appears, once when its slot is freed.
    pub(super) fn match_topic(&mut self, slot: u16, name: Option<&str>, readers: &Readers) {
        self.recount();
        for Audience { wish, set, .. } in &mut self.table {
            let readable = readers.topics(wish.reader).contains(slot);
            let wants = name.is_some_and(|name| readable && wish.patterns.wants(name));
            set.set(slot, wants);
        }
    }

    /// Matches all topics against every audience: rights have changed.
    pub(super) fn rematch(&mut self, matching: impl Fn(&Wish) -> TopicSet) {
        self.recount();
        for audience in &mut self.table {
            audience.set = matching(&audience.wish);
        }
    }

    /// How many members want the topic in `slot`.
    pub fn subscribers(&mut self, slot: u16) -> u32 {
        if let Some((counted, members)) = self.counted
            && counted == slot
        {
            return members;
        }
        let used = self
            .table
            .iter()
            .zip(&self.keys)
            .filter(|(_, key)| **key != 0);
        let members = used
            .filter(|(a, _)| a.set.contains(slot))
            .map(|(a, _)| a.members)
            .sum();
        self.counted = Some((slot, members));
        members
    }

    /// Counts how many members want each topic, for `counted`.
    pub fn count(&mut self) {
        if self.is_counted {
            return;
        }
        self.is_counted = true;
        self.counts.clear();
        self.counts.resize(TOPICS_MAX, 0);
        for (audience, _) in self.table.iter().zip(&self.keys).filter(|(_, k)| **k != 0) {
            for slot in audience.set.shared(&audience.set) {
                self.counts[usize::from(slot)] += audience.members;
            }
        }
    }

    /// How many members wanted the topic in `slot` when that was counted last.
    pub fn counted(&self, slot: u16) -> u32 {
        self.counts.get(usize::from(slot)).copied().unwrap_or(0)
    }
}
