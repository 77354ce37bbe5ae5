//! The server crashes and is started again, and everybody comes back with the last id it heard,
//! each after the jittered time it was told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::book::Order;
use crate::client::Transport;
use crate::drive;
use crate::report::Report;
use crate::world::{PATIENCE, World};

/// Events that everybody has heard before.
const EVENTS: usize = 10;

/// A stream is told no time: its client takes one of its own between 2 and 5 s, as here.
fn retry(world: &mut World, viewer: usize) -> Duration {
    let own_ms = 2_000 + (viewer as u64 * 7_919) % 3_001;
    Duration::from_millis(world.seat(viewer).retry_ms.unwrap_or(own_ms))
}

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("restart: everybody comes back to a new server, after the time each was told");
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        for count in args.counts(&[5_000]) {
            one(args, report, transport, count)?;
        }
    }
    Ok(())
}

/// Lets everybody come back when it is time; how many were refused or turned away meanwhile.
fn come_back(world: &mut World, count: usize, ended: Instant) -> Outcome<(usize, Instant)> {
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let (mut turned_away, mut last_due) = (0, ended);
    for viewer in 0..count {
        due.push(Reverse((ended + retry(world, viewer), viewer)));
    }
    let until = Instant::now() + PATIENCE;
    while !due.is_empty() || world.unready() > 0 {
        let now = Instant::now();
        while due.peek().is_some_and(|Reverse((at, _))| *at <= now)
            && let Some(Reverse((at, viewer))) = due.pop()
        {
            last_due = last_due.max(at);
            world.let_in([viewer]);
        }
        world.turn(Duration::from_millis(2))?;
        for viewer in core::mem::take(&mut world.ended) {
            turned_away += 1;
            due.push(Reverse((Instant::now() + retry(world, viewer), viewer)));
        }
        if now > until {
            return Err(format!(
                "{} viewers are not back",
                due.len() + world.unready()
            ));
        }
    }
    Ok((turned_away, last_due))
}

fn one(args: &Args, report: &Report, transport: Transport, count: usize) -> Outcome<()> {
    let mut world = args.world("", &bench())?;
    world.add(count, transport, from_now);
    world.connect(0..count)?;
    drive::closed(&mut world, 1, drive::Until::Events(EVENTS))?;
    let id = world.book.id(world.book.head());
    world.crash();
    let ended = Instant::now();
    while world.ended.len() < count {
        world.turn(Duration::from_millis(2))?;
        if ended.elapsed() > PATIENCE {
            return Err("viewers do not notice that the server is gone".to_string());
        }
    }
    world.ended.clear();
    world.begin_again()?;
    for seat in world.seats() {
        seat.since.clone_from(&id);
        (seat.order, seat.is_counted, seat.reset) = (Order::Newest, false, false);
    }
    (world.ready_at, world.half_open) = (world.book.head(), count);
    world.ready_us.clear();
    let cpu = world.server.cpu();
    let (turned_away, last_due) = come_back(&mut world, count, ended)?;
    let cpu = world.server.cpu() - cpu;
    let peak = world.server.memory().peak;
    if world.seats().any(|seat| !seat.reset) {
        return Err("a viewer was not told that everything begins anew".to_string());
    }
    world.ready_us.sort_unstable();
    let name = |what: &str| format!("restart.{}.{count}.{what}", transport.name());
    let back = world.last_ready.duration_since(ended).as_secs_f64();
    report.figure(&name("all_back"), back, "s");
    let late = world.last_ready.saturating_duration_since(last_due);
    report.figure(&name("after_last_due"), late.as_secs_f64() * 1e3, "ms");
    report.figure(&name("p99"), drive::rank(&world.ready_us, 990) / 1e3, "ms");
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    report.figure(&name("cpu"), each, "us/connection");
    report.figure(&name("peak_rss"), peak as f64 / 1024.0, "KiB");
    report.figure(&name("turned_away"), turned_away as f64, "times");
    Ok(())
}
