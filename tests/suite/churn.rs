//! Audiences that change while they are being served: an event goes to them in slices, and between
//! two slices anything may happen. Random plans first, then each trap by itself.
//!
//! `ENCKE_CHURN_SEEDS=n` runs n seeds more; `ENCKE_CHURN_SEED=s` only that one. The shortest plan
//! that fails as well is found and told.

mod memo;
mod slices;
mod sockets;
mod viewers;

use std::panic::{AssertUnwindSafe, catch_unwind};

use encke::peers::Settings;
use viewers::{Cut, How, TOPICS, Viewers};

use crate::support::client::Technique;
use crate::support::world::settings;

/// Seeds that are always run.
const SEEDS: u64 = 120;
const STEPS: u64 = 250;
/// Shorter plans tried when one has failed.
const TRIES: u32 = 400;
const TECHNIQUES: [Technique; 3] = [Technique::Sse, Technique::Stream, Technique::Poll];

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as usize % n
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    viewers: usize,
    sends_per_turn: u32,
    ring_bytes: usize,
    value_bytes: usize,
}

/// What happens at one moment; the first number is the viewer's.
#[derive(Clone, Copy, Debug)]
enum Act {
    Publish(usize, usize),
    Post(usize, usize),
    Join(usize, How, Technique, usize),
    Cut(usize, Cut),
    HalfClose(usize),
    Stall(usize, usize, usize),
    Read(usize, usize),
    GoOn(usize),
    Nudge(usize),
    Turn,
    Settle,
    Pass(u64),
}

fn draw(random: &mut Random, setup: &Setup) -> Act {
    let v = random.below(setup.viewers);
    let topic = random.below(TOPICS.len());
    let bytes = 1 + random.below(setup.value_bytes);
    match random.below(24) {
        0..=3 => Act::Publish(topic, bytes),
        4 | 5 => Act::Post(topic, bytes),
        6..=10 => {
            let how = random.pick(&[How::Live, How::Snapshot, How::Resume, How::Resume]);
            Act::Join(v, how, random.pick(&TECHNIQUES), random.below(4))
        }
        11 | 12 => Act::Cut(v, random.pick(&[Cut::Reset, Cut::End, Cut::SendError])),
        13 if random.below(4) == 0 => Act::HalfClose(v),
        13 | 14 => Act::Stall(v, random.below(900), random.pick(&[1, 100, usize::MAX])),
        15 => Act::Read(v, 1 + random.below(600)),
        16 => Act::GoOn(v),
        17 => Act::Nudge(v),
        18 if random.below(4) == 0 => Act::Pass(random.pick(&[1, 100, 16_000])),
        18 => Act::Settle,
        _ => Act::Turn,
    }
}

fn act(viewers: &mut Viewers, what: Act) {
    match what {
        Act::Publish(topic, bytes) => viewers.publish(topic, bytes),
        Act::Post(topic, bytes) => viewers.post(topic, bytes),
        Act::Join(v, how, technique, set) => viewers.join(v, how, technique, set),
        Act::Cut(v, how) => viewers.cut(v, how),
        Act::HalfClose(v) => viewers.half_close(v),
        Act::Stall(v, capacity, gulp) => viewers.stall(v, capacity, gulp),
        Act::Read(v, bytes) => {
            viewers.read(v, bytes);
        }
        Act::GoOn(v) => viewers.go_on(v),
        Act::Nudge(v) => {
            if let Some(client) = viewers.all[v].client {
                viewers.world.nudge(client);
            }
        }
        Act::Turn => viewers.world.turn(),
        Act::Settle => viewers.world.settle(),
        Act::Pass(ms) => viewers.pass(ms),
    }
    viewers.read_all();
}

/// Why a plan fails, if it does.
fn failure(setup: &Setup, plan: &[Act]) -> Option<String> {
    let play = || {
        let settings = Settings {
            viewers: setup.viewers as u32 + 100,
            pages: 16,
            ring_bytes: setup.ring_bytes,
            sends_per_turn: setup.sends_per_turn,
            ..settings()
        };
        let mut viewers = Viewers::new(settings, setup.viewers);
        for v in 0..setup.viewers {
            let technique = TECHNIQUES[v % 7 % 3];
            viewers.join(v, How::Live, technique, v / 4 % 4);
        }
        viewers.read_all();
        plan.iter().for_each(|what| act(&mut viewers, *what));
        viewers.end();
    };
    let why = catch_unwind(AssertUnwindSafe(play)).err()?;
    let text = why.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| {
        why.downcast_ref::<&str>()
            .map_or("?".into(), |s| (*s).into())
    }))
}

/// Leaves out of a plan what it fails without.
fn shorten(setup: &Setup, mut plan: Vec<Act>) -> Vec<Act> {
    let (mut tries, mut piece) = (0, plan.len().div_ceil(2));
    while piece > 0 && tries < TRIES {
        let mut at = 0;
        while at < plan.len() && tries < TRIES {
            tries += 1;
            let mut shorter = plan.clone();
            shorter.drain(at..(at + piece).min(plan.len()));
            if failure(setup, &shorter).is_some() {
                plan = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    plan
}

/// What is wrong with a seed, if anything.
fn run(seed: u64) -> Option<String> {
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let setup = Setup {
        viewers: random.pick(&[4, 9, 24, 90]),
        sends_per_turn: random.pick(&[1, 2, 3, 7, 512]),
        ring_bytes: random.pick(&[1 << 20, 1 << 20, 9 << 10, 20 << 10]),
        value_bytes: random.pick(&[1, 60, 700]),
    };
    let plan: Vec<Act> = (0..STEPS).map(|_| draw(&mut random, &setup)).collect();
    failure(&setup, &plan)?;
    let plan = shorten(&setup, plan);
    let why = failure(&setup, &plan)?;
    Some(format!(
        "ENCKE_CHURN_SEED={seed}: {why}\n{setup:?}\n{plan:?}"
    ))
}

/// Plans that failed once, each for a reason of its own.
const PLANS: &[(Setup, &[Act])] = &[
    (
        // A poll with an answer of its own stood before others when their time was over.
        Setup {
            viewers: 90,
            sends_per_turn: 7,
            ring_bytes: 1 << 20,
            value_bytes: 1,
        },
        &[
            Act::Cut(18, Cut::SendError),
            Act::Pass(16_000),
            Act::Publish(1, 1),
            Act::Join(18, How::Snapshot, Technique::Poll, 1),
            Act::Publish(0, 1),
            Act::Pass(16_000),
        ],
    ),
    (
        // Two audiences shared a rendering, but not how far it reached.
        Setup {
            viewers: 90,
            sends_per_turn: 2,
            ring_bytes: 9 << 10,
            value_bytes: 60,
        },
        &[
            Act::Publish(2, 46),
            Act::Stall(60, 453, 100),
            Act::Pass(16_000),
            Act::Publish(2, 21),
            Act::GoOn(60),
            Act::Publish(0, 39),
        ],
    ),
];

#[test]
fn what_failed_once() {
    for (setup, plan) in PLANS {
        let why = failure(setup, plan);
        assert_eq!(why, None, "{setup:?} {plan:?}");
    }
}

#[test]
fn whatever_happens_between_slices() {
    let number = |name| {
        let text = std::env::var(name).ok()?;
        text.parse::<u64>().ok()
    };
    let seeds = match number("ENCKE_CHURN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS + number("ENCKE_CHURN_SEEDS").unwrap_or(0),
    };
    // The first that fails is enough: it is made short, which takes a while.
    let failed = seeds.into_iter().find_map(run);
    assert!(failed.is_none(), "{}", failed.unwrap_or_default());
}
