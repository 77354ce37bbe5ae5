//! Two ways to publish: the next event when everybody has the last one, or so many a second.
//!
//! The first asks how much a server can do, the second how late it is when it has time. Both
//! measure from when an event was due, so that a server that stalls cannot hide what it delays.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::world::World;

/// Nothing complete for so long is a fault.
const STALL: Duration = Duration::from_secs(20);
/// Connections settle, and lazily touched memory is touched, before anything is measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// When a closed loop ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Time(Duration),
    Events(usize),
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) deliveries: u64,
    /// Until the last viewer had the last event.
    pub(crate) time: Duration,
    /// Of the server.
    pub(crate) cpu: Duration,
    /// Microseconds, sorted.
    latencies_us: Vec<u32>,
}

impl Run {
    pub(crate) fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.time.as_secs_f64()
    }

    pub(crate) fn cpu_us_per_delivery(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.deliveries.max(1) as f64
    }

    /// Microseconds that so many of 1,000 deliveries took at most.
    pub(crate) fn late_us(&self, per_mille: usize) -> f64 {
        rank(&self.latencies_us, per_mille)
    }
}

/// The value that so many of 1,000 in a sorted list do not exceed.
pub(crate) fn rank(sorted: &[u32], per_mille: usize) -> f64 {
    let at = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
    sorted.get(at).copied().map_or(0.0, f64::from)
}

/// Measures what `publish` does.
fn measured(world: &mut World, publish: impl FnOnce(&mut World) -> Outcome<()>) -> Outcome<Run> {
    world.book.latencies_us.clear();
    world.book.is_measuring = true;
    let (deliveries, cpu, begun) = (world.book.deliveries, world.server.cpu(), Instant::now());
    publish(world)?;
    drain(world)?;
    let time = begun.elapsed();
    world.book.is_measuring = false;
    let mut latencies_us = core::mem::take(&mut world.book.latencies_us);
    latencies_us.sort_unstable();
    Ok(Run {
        deliveries: world.book.deliveries - deliveries,
        time,
        cpu: world.server.cpu() - cpu,
        latencies_us,
    })
}

/// Waits until everybody has everything.
fn drain(world: &mut World) -> Outcome<()> {
    let begun = Instant::now();
    while world.book.complete < world.book.sent() || world.unanswered() > 0 {
        world.turn(Duration::from_millis(5))?;
        world.all_are_there()?;
        stalled(world, begun)?;
    }
    Ok(())
}

fn stalled(world: &World, since: Instant) -> Outcome<()> {
    match since.elapsed() > STALL {
        false => Ok(()),
        true => Err(format!(
            "stalled: {} viewers lack an event, {} publishes are not answered",
            world.book.missing(),
            world.unanswered()
        )),
    }
}

/// Up to `window` events in flight: the next is published when all viewers have the oldest.
fn keep_going(world: &mut World, window: usize, until: Until) -> Outcome<()> {
    let (first, begun) = (world.book.sent(), Instant::now());
    let mut progress = (world.book.complete, begun);
    loop {
        let goes_on = match until {
            Until::Time(time) => begun.elapsed() < time,
            Until::Events(count) => world.book.sent() - first < count,
        };
        if !goes_on {
            return Ok(());
        }
        let in_flight = world.book.sent() - world.book.complete;
        if in_flight < window && world.unanswered() < window {
            world.publish(0, Instant::now())?;
            continue;
        }
        world.turn(Duration::from_millis(5))?;
        world.all_are_there()?;
        if world.book.complete != progress.0 {
            progress = (world.book.complete, Instant::now());
        }
        stalled(world, progress.1)?;
    }
}

/// A closed loop, after a short one that is not measured.
pub(crate) fn closed(world: &mut World, window: usize, until: Until) -> Outcome<Run> {
    let first = match until {
        Until::Time(_) => Until::Time(WARM_UP),
        Until::Events(_) => Until::Events(20),
    };
    keep_going(world, window, first)?;
    drain(world)?;
    measured(world, |world| keep_going(world, window, until))
}

/// So many times a second, `publish` with when it was due; while it is told to go on, given the
/// time since it began.
pub(crate) fn at_rate(
    world: &mut World,
    per_second: f64,
    goes_on: impl Fn(&World, Duration) -> bool,
    publish: impl Fn(&mut World, Instant) -> Outcome<()>,
) -> Outcome<()> {
    let begun = Instant::now();
    let step = Duration::from_secs_f64(1.0 / per_second);
    let mut number = 0;
    while goes_on(world, step * number) {
        let due = begun + step * number;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            world.turn(left)?;
            world.all_are_there()?;
        }
        publish(world, due)?;
        number += 1;
    }
    Ok(())
}

/// Events of the first topic, so many a second.
pub(crate) fn paced_while(
    world: &mut World,
    per_second: f64,
    goes_on: impl Fn(&World, Duration) -> bool,
) -> Outcome<Run> {
    measured(world, |world| {
        at_rate(world, per_second, goes_on, |world, due| {
            world.publish(0, due)
        })
    })
}

/// The same for some time.
pub(crate) fn paced(world: &mut World, per_second: f64, time: Duration) -> Outcome<Run> {
    paced_while(world, per_second, |_, passed| passed < time)
}

/// The middle of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        _ if figures.is_empty() => 0.0,
        1 => figures[middle],
        _ => (figures[middle - 1] + figures[middle]) / 2.0,
    }
}
