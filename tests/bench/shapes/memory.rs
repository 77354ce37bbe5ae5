//! What idle viewers cost in memory: the slope between few and many, and all of it.

use std::time::Duration;

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::report::Report;

/// The smallest ring there is, no history.
const CONFIG: &str = "topics = 64\nring_bytes = 65536\nhistory_bytes = 0\n";
/// Viewers at the foot of the slope.
const FEW: usize = 100;
/// What was borrowed to connect is given back by then.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("memory: 64 topics, the smallest ring, no history, no sources");
    let count = args.count(10_000).max(FEW + 1);
    for transport in args.transports(&Transport::VIEWERS) {
        let mut world = args.world(CONFIG, &bench())?;
        let base = world.server.memory();
        world.add(count, transport, from_now);
        world.connect(0..FEW)?;
        world.pass(SETTLE)?;
        let few = world.server.memory();
        world.connect(FEW..count)?;
        world.pass(SETTLE)?;
        let many = world.server.memory();
        let grown = many.anonymous as f64 - few.anonymous as f64;
        let name = |what: &str| format!("memory.{}.{what}", transport.name());
        report.figure(&name("base_rss"), base.resident as f64 / 1024.0, "KiB");
        let each = grown / (count - FEW) as f64;
        report.figure(&name("per_viewer"), each, "bytes/viewer");
        let rss = many.resident as f64 / 1024.0;
        report.figure(&name(&format!("{count}.rss")), rss, "KiB");
    }
    Ok(())
}
