//! The next event is published when everybody has the last one: how much a server can do.

use super::{bench, from_now, instructions};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive::{self, Until};
use crate::report::Report;

const COUNTS: [usize; 4] = [100, 1_000, 5_000, 10_000];

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    if args.counts_instructions {
        return count(args, report);
    }
    report.heading("closed loop: deliveries a second, and CPU of the server for each");
    let transports = match args.is_short() {
        true => Transport::VIEWERS.to_vec(),
        false => args.transports(&Transport::VIEWERS),
    };
    for transport in transports {
        let is_first = transport == Transport::Sse;
        let usual = if args.is_short() && !is_first {
            &COUNTS[1..2]
        } else {
            &COUNTS[..]
        };
        for count in args.counts(usual) {
            let mut world = args.world("", &bench())?;
            world.add(count, transport, from_now);
            world.connect(0..count)?;
            let until = Until::Time(args.time(3.0, 1.5));
            let run = drive::closed(&mut world, args.window, until)?;
            let window = match args.window {
                1 => String::new(),
                window => format!("-w{window}"),
            };
            let name = |what: &str| format!("closed{window}.{}.{count}.{what}", transport.name());
            report.figure(&name("rate"), run.per_second(), "deliveries/s");
            report.figure(&name("cpu"), run.cpu_us_per_delivery(), "us/delivery");
            report.figure(&name("p50"), run.late_us(500), "us");
            report.figure(&name("p99"), run.late_us(990), "us");
        }
    }
    Ok(())
}

/// User instructions for each delivery, publishes included.
fn count(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("closed loop: user instructions for each delivery");
    for transport in args.transports(&Transport::VIEWERS) {
        for count in args.counts(&COUNTS[..1]) {
            let each = instructions::per_delivery(args, transport, count, from_now)?;
            let name = format!("closed.{}.{count}.insn", transport.name());
            report.figure(&name, each, "instructions/delivery");
        }
    }
    Ok(())
}
