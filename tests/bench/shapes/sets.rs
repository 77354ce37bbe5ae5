//! Viewers that all want one event, but each with a set of topics of its own.

use super::{bench, from_now, instructions};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive::{self, Until, median};
use crate::report::Report;

fn one(number: usize) -> String {
    format!("{}&topics=bench", from_now(number))
}

fn many(number: usize) -> String {
    format!("{}&topics=bench,own/{number}", from_now(number))
}

/// What each viewer asks for, given its number.
type Query = fn(usize) -> String;

const KINDS: [(&str, Query); 2] = [("one", one), ("many", many)];

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    let count = args.count(1_000);
    report.heading(&format!(
        "sets: {count} viewers with one set of topics, and with {count}"
    ));
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        let name = |what: &str| format!("sets.{}.{count}.{what}", transport.name());
        let (what, unit) = match args.counts_instructions {
            true => ("insn", "instructions/delivery"),
            false => ("cpu", "us/delivery"),
        };
        let mut figures = [Vec::new(), Vec::new()];
        let mut ratios = Vec::new();
        // Counted instructions are the same each time.
        let usual = if args.counts_instructions { 1 } else { 5 };
        for _ in 0..args.repetitions(usual, 1) {
            let mut pair = [0.0; 2];
            for (number, (_, query)) in KINDS.iter().enumerate() {
                pair[number] = match args.counts_instructions {
                    true => instructions::per_delivery(args, transport, count, *query)?,
                    false => time(args, transport, count, *query)?,
                };
                figures[number].push(pair[number]);
            }
            ratios.push(pair[1] / pair[0]);
        }
        for ((kind, _), figures) in KINDS.iter().zip(figures) {
            report.figure(&name(&format!("{kind}.{what}")), median(figures), unit);
        }
        report.figure(&name(&format!("{what}_ratio")), median(ratios), "x");
    }
    Ok(())
}

/// CPU microseconds for each delivery.
fn time(args: &Args, transport: Transport, count: usize, query: Query) -> Outcome<f64> {
    let mut world = args.world("", &bench())?;
    world.add(count, transport, query);
    world.connect(0..count)?;
    let until = Until::Time(args.time(2.0, 1.5));
    let run = drive::closed(&mut world, args.window, until)?;
    Ok(run.cpu_us_per_delivery())
}
