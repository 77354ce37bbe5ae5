//! A crowd comes back to 64 KiB that it has not seen, while events go on to those who stayed.

use std::time::{Duration, Instant};

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive;
use crate::report::Report;
use crate::world::World;

/// Bytes of events that the crowd has not seen.
const HISTORY_BYTES: usize = 64 * 1024;
/// Viewers that stayed.
const STAYED: usize = 100;
/// Events a second to them.
const RATE: f64 = 100.0;
/// Measured at least so long, however soon the crowd is served.
const LEAST: Duration = Duration::from_millis(200);

/// Publishes so many bytes of events; how many events that is.
fn fill(world: &mut World) -> Outcome<u64> {
    let frame = r#"{"id":"","topic":"bench","time":1763791234567,"value":}"#.len();
    let each = frame + world.book.id(100).len() + world.payload;
    let count = HISTORY_BYTES.div_ceil(each);
    for _ in 0..count {
        world.publish(0, Instant::now())?;
        world.until("answers", |world| world.unanswered() < 8)?;
    }
    world.until("answers", |world| world.unanswered() == 0)?;
    Ok(count as u64)
}

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("replay: 64 KiB to everybody at once, while 100 others go on");
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        for count in args.counts(&[1_000]) {
            one(args, report, transport, count)?;
        }
    }
    Ok(())
}

fn one(args: &Args, report: &Report, transport: Transport, count: usize) -> Outcome<()> {
    let mut world = args.world("", &bench())?;
    world.add(STAYED + count, transport, from_now);
    world.connect(0..STAYED)?;
    let rate = args.rate.unwrap_or(RATE);
    drive::paced(&mut world, rate, Duration::from_millis(500))?;
    let before = drive::paced(&mut world, rate, args.time(3.0, 1.0))?;
    let missed = fill(&mut world)?;
    let head = world.book.head();
    let since = world.book.id(head - missed);
    for seat in world.seats().skip(STAYED) {
        seat.is_counted = false;
        seat.cursor = head - missed;
        seat.since.clone_from(&since);
    }
    (world.ready_at, world.half_open) = (head, count);
    world.ready_us.clear();
    let (begun, cpu) = (Instant::now(), world.server.cpu());
    world.let_in(STAYED..STAYED + count);
    let during = drive::paced_while(&mut world, rate, |world, passed| {
        world.unready() > 0 || passed < LEAST
    })?;
    world.until("the crowd", |world| world.unready() == 0)?;
    let (time, cpu) = (world.last_ready - begun, world.server.cpu() - cpu);
    // Live events reach the crowd, too.
    world.pass(Duration::from_millis(200))?;
    let head = world.book.head();
    if let Some(seat) = world.seats().find(|seat| seat.reset || seat.cursor != head) {
        return Err(format!("a viewer was not brought to the end: {seat:?}"));
    }
    let name = |what: &str| format!("replay.{}.{count}.{what}", transport.name());
    report.figure(&name("time"), time.as_secs_f64() * 1e3, "ms");
    report.figure(&name("events"), missed as f64, "events/viewer");
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    report.figure(&name("cpu"), each, "us/viewer");
    report.figure(&name("live_before.p99"), before.late_us(990), "us");
    report.figure(&name("live_during.p99"), during.late_us(990), "us");
    Ok(())
}
