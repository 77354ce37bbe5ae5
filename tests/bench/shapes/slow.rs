//! What viewers that read one byte a second do to the others.
//!
//! Each measurement begins with more than the kernel holds for one viewer, so that the slow ones
//! are behind, and lapped, when the clock starts. The server ends them after 12 s without an
//! acknowledgement; they come back.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{bench, from_now};
use crate::Outcome;
use crate::args::Args;
use crate::client::Transport;
use crate::drive::{self, Until, median};
use crate::report::Report;
use crate::sockets;
use crate::world::World;

/// The smallest that the kernel gives: it takes a little more.
const RECEIVE_BYTES: usize = 1024;
/// Published before each measurement: events of so many bytes, twice what the kernel holds.
const FILL: (usize, usize) = (128, 2048);
/// Events a second.
const RATE: f64 = 20.0;
/// Slow readers beside the others.
const SLOW: [usize; 3] = [0, 1, 100];

/// Slow readers, read by a thread of their own.
struct Slow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<u64>>,
}

impl Slow {
    fn start(count: usize, address: SocketAddrV4, transport: Transport) -> Slow {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let read = move || read_slowly(count, address, transport, &stopped);
        Slow {
            thread: std::thread::spawn(read),
            stop,
        }
    }

    /// How often one had to come back.
    fn end(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| "a slow reader panicked".to_string())?
    }
}

fn read_slowly(
    count: usize,
    address: SocketAddrV4,
    transport: Transport,
    stop: &AtomicBool,
) -> Outcome<u64> {
    let request = transport.request(&from_now(0), "", &address.to_string());
    let connect = |number| -> Outcome<OwnedFd> {
        let socket = sockets::open(address, number, Some(RECEIVE_BYTES))?;
        let until = Instant::now() + Duration::from_secs(5);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while Instant::now() < until {
            match send(&socket, request.as_bytes(), flags) {
                Ok(_) => return Ok(socket),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err("a slow reader is not let in".to_string())
    };
    let mut sockets: Vec<OwnedFd> = (0..count).map(connect).collect::<Outcome<_>>()?;
    let (mut came_back, mut read_at) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        if read_at.elapsed() < Duration::from_secs(1) {
            continue;
        }
        read_at = Instant::now();
        for (number, socket) in sockets.iter_mut().enumerate() {
            let read = recv(&*socket, &mut [0; 1][..], RecvFlags::DONTWAIT);
            if !matches!(read, Ok((_, 1)) | Err(Errno::AGAIN)) {
                *socket = connect(number)?;
                came_back += 1;
            }
        }
    }
    Ok(came_back)
}

/// The p99 of the others beside so many slow readers, in microseconds; how many came back.
fn beside(
    args: &Args,
    world: &mut World,
    count: usize,
    transport: Transport,
) -> Outcome<(f64, u64)> {
    let slow = Slow::start(count, world.server.address, transport);
    world.pass(Duration::from_millis(300))?;
    fill(world)?;
    let rate = args.rate.unwrap_or(RATE);
    let run = drive::paced(world, rate, args.time(5.0, 2.5))?;
    Ok((run.late_us(990), slow.end()?))
}

/// Publishes more than the kernel holds for who does not read.
fn fill(world: &mut World) -> Outcome<()> {
    let usual = core::mem::replace(&mut world.payload, FILL.1);
    drive::closed(world, 1, Until::Events(FILL.0))?;
    world.payload = usual;
    Ok(())
}

pub(crate) fn run(args: &Args, report: &Report) -> Outcome<()> {
    let count = args.count(1_000);
    report.heading(&format!(
        "slow: p99 of {count} viewers beside some that read one byte a second"
    ));
    for transport in args.transports(&[Transport::Sse, Transport::Stream]) {
        let mut world = args.world("", &bench())?;
        world.add(count, transport, from_now);
        world.connect(0..count)?;
        let mut figures = [(); SLOW.len()].map(|()| Vec::new());
        let mut ratios = figures.clone();
        let mut came_back = 0;
        fill(&mut world)?;
        for repetition in 0..args.repetitions(5, 1) {
            let mut late = [0.0; SLOW.len()];
            for step in 0..SLOW.len() {
                // None of them is always the first.
                let number = (repetition + step) % SLOW.len();
                let (p99, returns) = beside(args, &mut world, SLOW[number], transport)?;
                late[number] = p99;
                came_back += returns;
            }
            for (number, p99) in late.into_iter().enumerate() {
                figures[number].push(p99);
                ratios[number].push(p99 / late[0]);
            }
        }
        let name = |slow: usize, what: &str| {
            format!("slow.{}.{count}.beside_{slow}.{what}", transport.name())
        };
        for (slow, (figures, ratios)) in SLOW.into_iter().zip(figures.into_iter().zip(ratios)) {
            report.figure(&name(slow, "p99"), median(figures), "us");
            if slow > 0 {
                report.figure(&name(slow, "ratio"), median(ratios), "x");
            }
        }
        let name = format!("slow.{}.{count}.came_back", transport.name());
        report.figure(&name, came_back as f64, "times");
    }
    Ok(())
}
