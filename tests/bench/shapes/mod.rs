//! The shapes of load: one file and one row each.

mod closed;
mod conflate;
mod idle;
mod instructions;
mod memory;
mod paced;
mod replay;
mod restart;
mod sets;
mod slow;
mod storm;
pub(crate) mod timer;

use crate::Outcome;
use crate::args::Args;
use crate::report::Report;

/// One shape of load.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Args, &Report) -> Outcome<()>,
}

/// In the order in which they are measured.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        name: "closed",
        about: "the next event when everybody has the last one: how much it can do",
        run: closed::run,
    },
    Shape {
        name: "paced",
        about: "10 events a second to 1,000 viewers: how late they come",
        run: paced::run,
    },
    Shape {
        name: "memory",
        about: "bytes for each idle viewer, and all of it with 10,000",
        run: memory::run,
    },
    Shape {
        name: "storm",
        about: "5,000 viewers connect at once, new or coming back to ten events",
        run: storm::run,
    },
    Shape {
        name: "restart",
        about: "the server crashes and 5,000 viewers come back to a new one",
        run: restart::run,
    },
    Shape {
        name: "slow",
        about: "1,000 viewers beside some that read one byte a second",
        run: slow::run,
    },
    Shape {
        name: "sets",
        about: "1,000 viewers with as many sets of topics, against one set",
        run: sets::run,
    },
    Shape {
        name: "conflate",
        about: "10 topics at 100 Hz, one picture a second to 1,000 phones",
        run: conflate::run,
    },
    Shape {
        name: "replay",
        about: "64 KiB that 1,000 viewers missed, while events go on",
        run: replay::run,
    },
    Shape {
        name: "timer",
        about: "how late a task beside the server is in a burst to 10,000",
        run: timer::run,
    },
    Shape {
        name: "idle",
        about: "what 1,000 viewers cost that hear heartbeats only",
        run: idle::run,
    },
];

/// The topic that every viewer wants.
pub(crate) fn bench() -> Vec<String> {
    vec!["bench".to_string()]
}

/// What a viewer asks for that wants only what comes from now on.
pub(crate) fn from_now(_: usize) -> String {
    "snapshot=0".to_string()
}
