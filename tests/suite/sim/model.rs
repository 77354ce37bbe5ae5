//! The model a simulation is judged by: a full list of every event ever published, and the dice.

use std::collections::BTreeMap;

use crate::support::world::{BOOT_MS, EPOCH_MS};

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// One event as the model remembers it.
pub(super) struct Published {
    pub(super) topic: String,
    pub(super) text: String,
    pub(super) gone: bool,
}

/// Everything ever published; the first has sequence 1.
#[derive(Default)]
pub(super) struct Model {
    pub(super) events: Vec<Published>,
    pub(super) last: BTreeMap<String, u64>,
    /// The newest sequence that forgot a topic.
    pub(super) forgotten: u64,
}

impl Model {
    pub(super) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    pub(super) fn event(&self, seq: u64) -> &Published {
        &self.events[seq as usize - 1]
    }

    pub(super) fn push(
        &mut self,
        log: &str,
        now_ms: u64,
        topic: &str,
        value: &str,
        gone: bool,
    ) -> u64 {
        let seq = self.head() + 1;
        let time = EPOCH_MS + now_ms - BOOT_MS;
        let state = if gone { ",\"state\":\"gone\"" } else { "" };
        let text = format!(
            r#"{{"id":"{log}-{seq}","topic":"{topic}","time":{time},"value":{value}{state}}}"#
        );
        if gone {
            self.forgotten = seq;
        }
        self.last.insert(topic.to_owned(), seq);
        self.events.push(Published {
            topic: topic.to_owned(),
            text,
            gone,
        });
        seq
    }

    pub(super) fn value(&self, seq: u64) -> &str {
        let text = &self.event(seq).text;
        let at = text.find(r#","value":"#).expect("an event has a value") + 9;
        let end = text.len() - 1;
        text[at..end].trim_end_matches(",\"state\":\"gone\"")
    }
}
