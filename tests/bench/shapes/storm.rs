//! Many viewers connect at once, new or coming back to ten events they have not seen.

use std::time::Instant;

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive;
use crate::report::Report;

/// Connections on their way at once.
const HALF_OPEN: usize = 1_000;
/// Events that were published before.
const EVENTS: usize = 30;
/// Events that those who come back have not seen.
const BACK: u64 = 10;

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("storm: many connect at once, 1,000 half-open at a time");
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        for count in args.counts(&[5_000]) {
            one(args, report, transport, count, 0)?;
            one(args, report, transport, count, BACK)?;
        }
    }
    Ok(())
}

fn one(args: &Args, report: &Report, transport: Transport, count: usize, back: u64) -> Outcome<()> {
    let mut world = args.world("", &bench())?;
    for _ in 0..EVENTS {
        world.publish(0, Instant::now())?;
    }
    world.until("answers", |world| world.unanswered() == 0)?;
    let (head, since) = (world.book.head(), world.book.id(world.book.head() - back));
    world.add(count, transport, from_now);
    for seat in world.seats() {
        seat.is_counted = false;
        if back > 0 {
            seat.since.clone_from(&since);
            seat.cursor = head - back;
        }
    }
    (world.ready_at, world.half_open) = (head, HALF_OPEN);
    let (cpu, begun) = (world.server.cpu(), Instant::now());
    world.connect(0..count)?;
    let time = begun.elapsed();
    let cpu = world.server.cpu() - cpu;
    let mut seats = world.seats();
    if let Some(seat) = seats.find(|seat| seat.reset || seat.deliveries != back) {
        return Err(format!("a viewer was not brought to the end: {seat:?}"));
    }
    drop(seats);
    world.ready_us.sort_unstable();
    let kind = if back > 0 { "resume" } else { "new" };
    let name = |what: &str| format!("storm.{}.{count}.{kind}.{what}", transport.name());
    let rate = count as f64 / time.as_secs_f64();
    report.figure(&name("rate"), rate, "connections/s");
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    report.figure(&name("cpu"), each, "us/connection");
    let late_ms = |per_mille| drive::rank(&world.ready_us, per_mille) / 1e3;
    report.figure(&name("p50"), late_ms(500), "ms");
    report.figure(&name("p99"), late_ms(990), "ms");
    Ok(())
}
