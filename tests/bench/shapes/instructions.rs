//! User instructions of the server, counted by valgrind's callgrind: the slope between two numbers
//! of events, so that start and end of the server do not count.

use super::bench;
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive::{self, Until};

/// Events published in the two runs.
const EVENTS: [usize; 2] = [40, 240];

/// User instructions for each delivery to `count` viewers, publishes included.
pub(crate) fn per_delivery(
    args: &Args,
    transport: Transport,
    count: usize,
    query: fn(usize) -> String,
) -> Outcome<f64> {
    let few = collected(args, transport, count, query, EVENTS[0])?;
    let many = collected(args, transport, count, query, EVENTS[1])?;
    Ok((many - few) / ((EVENTS[1] - EVENTS[0]) * count) as f64)
}

fn collected(
    args: &Args,
    transport: Transport,
    count: usize,
    query: fn(usize) -> String,
    events: usize,
) -> Outcome<f64> {
    let valgrind = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let mut command = valgrind.map(str::to_string).to_vec();
    command.extend_from_slice(&args.server);
    let mut world = args.world_of(&command, "[server]\nheartbeat = 30\n", &bench())?;
    world.add(count, transport, query);
    world.connect(0..count)?;
    drive::closed(&mut world, args.window, Until::Events(events))?;
    world.server.end()?;
    let log = world.server.log();
    let collected = log.lines().find_map(|line| {
        let (_, number) = line.split_once("Collected : ")?;
        number.trim().parse().ok()
    });
    collected.ok_or_else(|| format!("valgrind did not say what it counted:\n{log}"))
}
