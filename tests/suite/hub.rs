//! The hub against a model that remembers everything: random publishing, forgetting and reviving in
//! a ring so small that it laps all the time.

use std::collections::{BTreeMap, BTreeSet};

use encke::hub::audience::{Patterns, TopicSet, Wish};
use encke::hub::event::{Seq, State, Time};
use encke::hub::readers::Reader;
use encke::hub::{Counts, Hub, Now, Plan};
use encke::limits::TOPICS_MAX;
use encke::name;
use proptest::prelude::*;

const NAMES: [&str; 7] = ["a", "a/b", "a/b/c", "b", "b/c", "quiet", "busy"];
const SETS: [&str; 6] = ["#", "a/#", "+", "quiet", "+/c", "busy"];

#[derive(Clone, Debug)]
enum Step {
    Publish { name: usize, bytes: usize },
    Forget { name: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..NAMES.len(), 1usize..200).prop_map(|(name, bytes)| Step::Publish { name, bytes }),
        6 => (1usize..40).prop_map(|bytes| Step::Publish { name: 6, bytes }),
        1 => (0..NAMES.len()).prop_map(|name| Step::Forget { name }),
    ]
}

/// Every event ever, with its name and whether it was the end of its topic.
#[derive(Default)]
struct Model {
    events: BTreeMap<Seq, (usize, bool)>,
}

impl Model {
    fn last(&self, name: usize, to: Seq) -> Option<(Seq, bool)> {
        let of_name = self
            .events
            .range(..=to)
            .rev()
            .find(|(_, (n, _))| *n == name);
        of_name.map(|(seq, (_, gone))| (*seq, *gone))
    }
}

fn patterns(text: &str) -> Patterns {
    let mut patterns = Patterns::default();
    patterns.add(text).unwrap();
    patterns
}

fn run(steps: &[Step], ring_bytes: usize) {
    let counts = Counts {
        ring_bytes,
        topics: NAMES.len(),
        audiences: 4,
    };
    let mut hub = Hub::new(counts, 7);
    let mut model = Model::default();
    for (ms, step) in steps.iter().enumerate() {
        let now = Now {
            time: Time::Wall(ms as u64),
            ms: ms as u64,
        };
        match *step {
            Step::Publish { name, bytes } => {
                let value = format!("\"{}\"", "x".repeat(bytes));
                let seq = hub
                    .publish(NAMES[name], value.as_bytes(), State::Ok, now)
                    .unwrap();
                assert_eq!(seq, hub.head());
                model.events.insert(seq, (name, false));
            }
            Step::Forget { name } => {
                let is_there = model.last(name, Seq::MAX).is_some_and(|(_, gone)| !gone);
                let seq = hub.restate(NAMES[name], State::Gone, now);
                assert_eq!(seq.is_some(), is_there, "{}", NAMES[name]);
                model.events.extend(seq.map(|seq| (seq, (name, true))));
            }
        }
        check_last(&hub, &model);
    }
    for cursor in (0..=hub.head()).rev().step_by(3) {
        for set in SETS {
            check_cursor(&hub, &model, cursor, set);
        }
    }
}

/// The newest value of every topic is there, however old, unless it was forgotten.
fn check_last(hub: &Hub, model: &Model) {
    for (name, text) in NAMES.iter().enumerate() {
        let wanted = model
            .last(name, Seq::MAX)
            .filter(|(_, gone)| !gone)
            .map(|(seq, _)| seq);
        let event = hub.find(text).and_then(|slot| hub.last(slot));
        assert_eq!(event.map(|event| event.seq), wanted, "{text}");
        assert!(event.is_none_or(|event| event.topic_name() == text.as_bytes()));
    }
}

/// What somebody who may read everything wants.
fn wish(patterns: &Patterns) -> Wish {
    Wish {
        framing: 0,
        interval_ms: 0,
        reader: Reader::ANYBODY,
        head: 0,
        callback: heapless::String::new(),
        patterns: patterns.clone(),
    }
}

/// What a subscriber at `cursor` gets, and what it is told it lost.
fn check_cursor(hub: &Hub, model: &Model, cursor: Seq, pattern: &str) {
    let patterns = patterns(pattern);
    let set = hub.matching(&wish(&patterns));
    let (first, head) = (hub.first(), hub.head());
    let lapped = cursor + 1 < first;
    assert_eq!(hub.is_lapped(cursor), lapped);
    let plan = Plan {
        catch_up_to: lapped.then(|| first - 1),
        fresh: false,
        end: head,
    };
    let came: Vec<Seq> = hub
        .feed(&set, cursor, plan)
        .map(|event| event.seq)
        .collect();
    assert!(came.is_sorted_by(|a, b| a < b), "{came:?}");
    let came: BTreeSet<Seq> = came.into_iter().collect();
    let wanted: BTreeSet<Seq> = model
        .events
        .range(cursor + 1..)
        .filter(|(_, (name, _))| patterns.wants(NAMES[*name]))
        .map(|(seq, _)| *seq)
        .collect();
    assert!(came.is_subset(&wanted), "only what is wanted and new");
    assert!(
        wanted
            .iter()
            .filter(|seq| **seq >= first)
            .all(|seq| came.contains(seq)),
        "replay"
    );
    let missing = wanted.difference(&came).count() as u64;
    let everything = patterns.want_everything();
    let lost = hub.lost(cursor, &set, everything);
    assert!(missing <= lost.count, "{missing} missing, {lost:?}");
    if lost.exact {
        assert_eq!(missing, lost.count, "{pattern} {cursor}");
    }
    // Nothing wanted was lost: nothing is told, unless a slot that was freed blurs it.
    let freed = model
        .events
        .iter()
        .any(|(seq, (_, gone))| *gone && *seq < first && *seq > cursor);
    assert!(missing > 0 || lost.count == 0 || freed || !lost.exact);
    if !freed && missing == 0 {
        assert_eq!(lost.count, 0, "{pattern} {cursor}");
    }
    check_fresh(hub, model, &patterns);
}

fn check_fresh(hub: &Hub, model: &Model, patterns: &Patterns) {
    let set = hub.matching(&wish(patterns));
    let head = hub.head();
    let plan = Plan {
        catch_up_to: Some(head),
        fresh: true,
        end: head,
    };
    let came: Vec<Seq> = hub.feed(&set, 0, plan).map(|event| event.seq).collect();
    let mut wanted: Vec<Seq> = (0..NAMES.len())
        .filter(|name| patterns.wants(NAMES[*name]))
        .filter_map(|name| model.last(name, head))
        .filter_map(|(seq, gone)| (!gone).then_some(seq))
        .collect();
    wanted.sort_unstable();
    assert_eq!(came, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cursor_sees_everything_or_is_told(
        steps in proptest::collection::vec(step(), 1..150),
        ring_bytes in 1000usize..4000,
    ) {
        run(&steps, ring_bytes);
    }

    #[test]
    fn a_topic_set_is_a_set(steps in proptest::collection::vec((0..TOPICS_MAX as u16, any::<bool>()), 0..200)) {
        let mut set = TopicSet::EMPTY;
        let mut model = BTreeSet::new();
        for (slot, member) in steps {
            set.set(slot, member);
            if member {
                model.insert(slot);
            } else {
                model.remove(&slot);
            }
        }
        for slot in 0..TOPICS_MAX as u16 {
            assert_eq!(set.contains(slot), model.contains(&slot));
        }
    }

    #[test]
    fn patterns_match_as_mqtt_says(
        pattern in proptest::collection::vec(prop::sample::select(vec!["a", "b", "+"]), 1..5),
        rest in any::<bool>(),
        topic in proptest::collection::vec(prop::sample::select(vec!["a", "b"]), 1..6),
    ) {
        // MQTT 5.0 section 4.7.1, level by level.
        let levels = pattern.iter().zip(&topic).all(|(p, t)| p == t || *p == "+");
        let wanted = levels && match rest {
            true => topic.len() >= pattern.len(),
            false => topic.len() == pattern.len(),
        };
        let text = pattern.join("/") + if rest { "/#" } else { "" };
        let topic = topic.join("/");
        prop_assert!(name::pattern(&text).is_some());
        prop_assert_eq!(name::matches(&text, &topic), wanted, "{} {}", text, topic);
        let mut set = Patterns::default();
        set.add("never/this").unwrap();
        set.add(&text).unwrap();
        prop_assert_eq!(set.wants(&topic), wanted);
        prop_assert!(Patterns::default().wants(&topic));
    }

    /// A slot is given to another topic only when nothing of its first one is left.
    #[test]
    fn a_slot_is_never_shared(steps in proptest::collection::vec((0usize..12, 0u8..4), 1..300)) {
        let counts = Counts { ring_bytes: 1200, topics: 4, audiences: 1 };
        let mut hub = Hub::new(counts, 7);
        for (ms, (topic, act)) in steps.into_iter().enumerate() {
            let now = Now { time: Time::Wall(ms as u64), ms: ms as u64 };
            let topic = format!("t/{topic}");
            let there = hub.topics.find(&topic).is_some();
            if act == 0 {
                hub.restate(&topic, State::Gone, now);
            } else {
                let full = hub.topics.room() == 0 && !there;
                let done = hub.publish(&topic, b"1", State::Ok, now);
                assert_eq!(done.is_err(), full, "only a full table refuses");
            }
            for seq in hub.first()..=hub.head() {
                let event = hub.event(seq).unwrap();
                let topic = hub.topics.used(event.topic).expect("its topic is there");
                assert_eq!(topic.name.as_bytes(), event.topic_name());
                assert!(topic.last >= seq);
            }
        }
    }
}
