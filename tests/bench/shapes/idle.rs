//! What viewers cost who hear nothing but heartbeats.

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::report::Report;

/// Every so many seconds each viewer hears one: what the server does unless it is told otherwise.
const HEARTBEAT_S: u64 = 15;

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("idle: nothing but heartbeats");
    let count = args.count(1_000);
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        let mut world = args.world("", &bench())?;
        world.add(count, transport, from_now);
        world.connect(0..count)?;
        let time = args.time(45.0, 30.0);
        let cpu = world.server.cpu();
        world.pass(time)?;
        let cpu = world.server.cpu() - cpu;
        let least = (time.as_secs() / HEARTBEAT_S).saturating_sub(1);
        let lacking = world.seats().filter(|seat| seat.heartbeats < least).count();
        if lacking > 0 {
            return Err(format!("{lacking} viewers did not hear {least} heartbeats"));
        }
        let each = cpu.as_secs_f64() * 1e6 / time.as_secs_f64() / count as f64;
        let name = format!("idle.{}.{count}.cpu", transport.name());
        report.figure(&name, each, "us/viewer/s");
    }
    Ok(())
}
