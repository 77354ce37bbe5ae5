//! What a subscriber of the simulation wants, knows and was promised.

use std::collections::BTreeMap;

use encke::name::matches;

use super::model::{Model, Random};
use crate::support::client::{Body, Http, Technique, seq};

/// What a subscriber was promised by its newest hello, or by the absence of one.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    pub(super) from: u64,
    pub(super) lost: u64,
    pub(super) exact: bool,
    /// Up to here only last events are promised.
    pub(super) conflated_to: u64,
    /// Nothing of the answer to the last question was understood yet.
    pub(super) pending: bool,
    /// Wanted events since `from` that did not come, though not conflated.
    pub(super) missing: u64,
}

pub(super) struct Subscriber {
    pub(super) patterns: Vec<String>,
    /// Only what is newer counts: it asked for no snapshot.
    pub(super) base: u64,
    pub(super) technique: Technique,
    pub(super) interval_ms: u64,
    pub(super) client: Option<usize>,
    pub(super) http: Http,
    pub(super) body: Body,
    /// The id it would resume by.
    pub(super) since: Option<String>,
    /// What it expects of the hello of this connection.
    pub(super) asked: Option<Asked>,
    pub(super) epoch: Epoch,
    pub(super) view: BTreeMap<String, u64>,
    /// Whether it reads all that comes at once.
    pub(super) quick: bool,
    pub(super) heard_ms: u64,
    pub(super) poll_until_ms: u64,
    /// The connection is to stay after this answer.
    pub(super) kept: bool,
    /// It has its answer and does not ask again yet.
    pub(super) idle: bool,
    pub(super) retry_at_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) since: Option<u64>,
    pub(super) garbage: bool,
    pub(super) snapshot: bool,
    pub(super) head: u64,
}

pub(super) fn patterns(random: &mut Random, topics: &[String]) -> Vec<String> {
    let count = random.below(4);
    let mut patterns: Vec<String> = (0..count)
        .map(|_| match random.below(5) {
            0 => "a/#".into(),
            1 => "+/+".into(),
            2 => format!("{}/+", random.pick(&["a", "b", "c"])),
            _ => random.pick(topics).clone(),
        })
        .collect();
    if random.one_in(6) {
        patterns.push("#".into());
    }
    patterns
}

impl Subscriber {
    pub(super) fn new(random: &mut Random, topics: &[String]) -> Subscriber {
        Subscriber {
            patterns: patterns(random, topics),
            base: 0,
            technique: Technique::Sse,
            interval_ms: 0,
            client: None,
            http: Http::new(),
            body: Body::new(Technique::Sse),
            since: None,
            asked: None,
            epoch: Epoch {
                from: 0,
                lost: 0,
                exact: true,
                conflated_to: u64::MAX,
                pending: false,
                missing: 0,
            },
            view: BTreeMap::new(),
            quick: true,
            heard_ms: 0,
            poll_until_ms: 0,
            kept: false,
            idle: false,
            retry_at_ms: 0,
        }
    }

    /// Not connected, or connected and asking nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.client.is_none() || self.idle
    }

    pub(super) fn wants(&self, topic: &str) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(pattern, topic))
    }

    pub(super) fn wants_everything(&self) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern == "#")
    }

    pub(super) fn cursor(&self) -> u64 {
        self.since.as_deref().map_or(0, seq)
    }

    /// Wanted events above `from` and below `to`.
    pub(super) fn wanted(&self, model: &Model, from: u64, to: u64) -> u64 {
        let between = from.saturating_add(1)..to;
        between
            .filter(|seq| self.wants(&model.event(*seq).topic))
            .count() as u64
    }
}
