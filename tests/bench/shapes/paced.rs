//! So many events a second, whatever becomes of the last one: how late they come to everybody.

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive;
use crate::report::Report;

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    let rate = args.rate.unwrap_or(10.0);
    report.heading(&format!(
        "{rate} events a second: from when each was due until a viewer had it"
    ));
    for transport in args.transports(&Transport::VIEWERS) {
        for count in args.counts(&[1_000]) {
            let mut world = args.world("", &bench())?;
            world.add(count, transport, from_now);
            world.connect(0..count)?;
            let time = args.time(10.0, 4.0);
            drive::paced(&mut world, rate, time / 10)?;
            let run = drive::paced(&mut world, rate, time)?;
            let name = |what: &str| format!("paced.{}.{count}.{what}", transport.name());
            report.figure(&name("p50"), run.late_us(500), "us");
            report.figure(&name("p99"), run.late_us(990), "us");
            report.figure(&name("p999"), run.late_us(999), "us");
            report.figure(&name("cpu"), run.cpu_us_per_delivery(), "us/delivery");
        }
    }
    Ok(())
}
