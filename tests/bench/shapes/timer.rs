//! How late a task of smol is whose server has a burst to send.
//!
//! The server runs in a child process that is this program, with a timer of 5 ms spawned on the
//! executor it is given: what a source is, that reads two hundred times a second. Not to be run
//! with a real-time rank (`chrt -f`): the thread of timers has the same, on the same processor, and
//! would wait until the server has nothing to do, which says nothing of the server.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use encke::cli::{self, Command, Plan};
use encke::server::Server;
use rustix::process::{Signal, getpid, kill_process};
use smol::LocalExecutor;

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive;
use crate::report::Report;

/// The first word of this program when it is the server.
pub(crate) const SERVE: &str = "--serve-with-timer";
const TIMER: Duration = Duration::from_millis(5);
/// Bursts a second: each is over before the next.
const RATE: f64 = 3.0;

/// Whether lateness counts: from the parent's word to the end of our input.
static COUNTING: AtomicBool = AtomicBool::new(false);

/// Microseconds that the timer was late, while it counts.
async fn tick(late_us: Rc<RefCell<Vec<u32>>>) {
    loop {
        let due = Instant::now() + TIMER;
        smol::Timer::at(due).await;
        if COUNTING.load(Ordering::Relaxed) {
            let late = due.elapsed().as_micros();
            let late = u32::try_from(late).unwrap_or(u32::MAX);
            late_us.borrow_mut().push(late);
        }
    }
}

/// Counts when told to, and lets the server end when its parent has gone.
fn listen_to_parent() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        COUNTING.store(line == "count", Ordering::Relaxed);
    }
    COUNTING.store(false, Ordering::Relaxed);
    let _ = kill_process(getpid(), Signal::TERM);
}

/// Serves as the command does, with the timer beside it; prints how late that was.
pub(crate) fn serve(words: &[String]) -> Outcome<()> {
    let parsed = cli::parse(words.iter().map(OsString::from));
    let Ok(Command::Serve(args)) = parsed else {
        return Err(format!("{words:?} does not serve"));
    };
    let plan = Plan::new(&args).map_err(|error| error.to_string())?;
    let bound = Server::bind(
        &plan.config.server.listen,
        Vec::new(),
        plan.settings,
        &args.sys_root,
    );
    let server = bound.map_err(|(address, error)| format!("{address}: {error}"))?;
    for address in server.addresses() {
        println!("http://{address}/");
    }
    let late_us = Rc::new(RefCell::new(Vec::new()));
    let executor = LocalExecutor::new();
    executor.spawn(tick(late_us.clone())).detach();
    std::thread::spawn(listen_to_parent);
    let ran = server.run(&executor, &plan.config, args.sys_root);
    ran.map_err(|error| error.to_string())?;
    let mut late_us = late_us.take();
    late_us.sort_unstable();
    let (p99, most) = (drive::rank(&late_us, 990), drive::rank(&late_us, 1000));
    println!("late {} {p99} {most}", late_us.len());
    Ok(())
}

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    report.heading("timer: how late a timer of 5 ms beside bursts of one event to everybody");
    let count = args.count(10_000);
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let command = [own.display().to_string(), SERVE.to_string()];
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        let mut world = args.world_of(&command, "", &bench())?;
        world.add(count, transport, from_now);
        world.connect(0..count)?;
        let tell = |world: &mut crate::world::World, word: &str| -> Outcome<()> {
            let input = world.server.input().ok_or("the server has no input")?;
            writeln!(input, "{word}").map_err(|error| error.to_string())
        };
        tell(&mut world, "count")?;
        let rate = args.rate.unwrap_or(RATE);
        let run = drive::paced(&mut world, rate, args.time(10.0, 3.0))?;
        tell(&mut world, "no more")?;
        world.server.close_input();
        let line = world.server.line()?;
        let figures: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .flat_map(str::parse)
            .collect();
        let [ticks, p99, most] = figures[..] else {
            return Err(format!("the server says {line:?}"));
        };
        let name = |what: &str| format!("timer.{}.{count}.{what}", transport.name());
        report.figure(&name("late_max"), most / 1e3, "ms");
        report.figure(&name("late_p99"), p99 / 1e3, "ms");
        report.figure(&name("ticks"), ticks, "ticks");
        report.figure(&name("burst_p99"), run.late_us(990), "us");
    }
    Ok(())
}
