//! Topics that change a hundred times a second, to phones that want one picture a second.

use std::time::Duration;

use crate::Outcome;
use crate::args::Args;
use crate::book::Order;
use crate::client::Transport;
use crate::drive;
use crate::report::Report;

const TOPICS: usize = 10;
/// Times a second that each topic changes.
const RATE: f64 = 100.0;
/// The last tick has come by then.
const LAST_TICK: Duration = Duration::from_millis(1500);

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("conflate: 10 topics at 100 Hz, one picture a second to each phone");
    let topics: Vec<String> = (0..TOPICS).map(|topic| format!("fast/{topic}")).collect();
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        for count in args.counts(&[1_000]) {
            let mut world = args.world("", &topics)?;
            world.add(count, transport, |_| "interval=1".to_string());
            for seat in world.seats() {
                (seat.order, seat.is_counted) = (Order::Newest, false);
                seat.newest = vec![0; TOPICS];
            }
            world.connect(0..count)?;
            let (heard, cpu) = (world.book.deliveries, world.server.cpu());
            let (time, rate) = (args.time(10.0, 3.0), args.rate.unwrap_or(RATE));
            let goes_on = |_: &_, passed| passed < time;
            drive::at_rate(&mut world, rate, goes_on, |world, due| {
                world.publish_all(due)
            })?;
            let cpu = world.server.cpu() - cpu;
            world.pass(LAST_TICK)?;
            let heard = world.book.deliveries - heard;
            let newest = world.book.newest();
            let lacking = world.seats().filter(|seat| seat.newest != newest).count();
            if lacking > 0 {
                return Err(format!("{lacking} phones lack the last value of a topic"));
            }
            let name = |what: &str| format!("conflate.{}.{count}.{what}", transport.name());
            report.figure(&name("deliveries"), heard as f64, "deliveries");
            let share = heard as f64 / (world.book.sent() * count) as f64;
            report.figure(&name("share"), share * 100.0, "% of events");
            let busy = cpu.as_secs_f64() / time.as_secs_f64();
            report.figure(&name("cpu"), busy * 100.0, "% of a CPU");
        }
    }
    Ok(())
}
