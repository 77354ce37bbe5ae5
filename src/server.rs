//! The server: sockets, the one epoll loop, the one timer, and how it all ends.
//!
//! One thread of ours runs this loop, the hub and, between turns, the tasks of sources and signals.
//! A turn: wait; let peers read and write; let the tasks publish; what is due by time; then every
//! event of the turn goes out, one send for each viewer. It decides nothing about HTTP or events.

mod activation;
mod guard;
mod notify;
mod policy;
mod reload;
mod roll;
mod settings;
mod tasks;

use core::cell::RefCell;
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use async_signal::{Signal, Signals};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use smol::LocalExecutor;
use smol::stream::StreamExt;

use crate::by_name::ByName;
use crate::clock::Clock;
use crate::config::{Config, Flags};
use crate::hub::event::{State, Time};
use crate::hub::{Now, Refused};
use crate::log;
use crate::peers::{Peers, Settings};
use crate::resident;
use crate::sockets::{self, Accepted, Sockets, TOKEN};
use crate::source;
pub use activation::handed;
use guard::Guard;
use notify::Notify;
pub use policy::policy;
pub use reload::Hangup;
use reload::{Again, Reload};
use roll::Roll;
pub use settings::{machine_name, settings};
use settings::{name, namings, push_host};
use tasks::{Bell, Tasks};

const TIMER: u64 = 1 << 32;
const BELL: u64 = 2 << 32;
/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// Peers accepted in one turn: sending comes between.
const ACCEPTS_PER_TURN: usize = 64;
/// Draining ends by then, whoever is still there.
const DRAIN_MS: u64 = 3_000;
/// How soon accepting is tried again when there was no descriptor.
const ACCEPT_RETRY_MS: u64 = 100;
const CLOCK_RECHECK_MS: u64 = 60_000;
/// While the clock is not known, it is looked for more often.
const CLOCK_UNKNOWN_MS: u64 = 5_000;
/// How long after start what only it used is let go of: when everything listens.
const LET_GO_MS: u64 = 200;
/// How often a shortage is spoken of.
const SHORTAGE_MS: u64 = 3_600_000;

/// What a task hands to the loop.
#[derive(Debug)]
enum Message {
    Reading {
        topic: String,
        value: String,
        state: State,
    },
    Described {
        topic: String,
        about: source::About,
    },
    Signal(Signal),
}

/// Where tasks leave messages; the loop takes them between turns.
#[derive(Debug, Default)]
struct Inbox(RefCell<VecDeque<Message>>);

impl source::Sink for Inbox {
    fn publish(&self, topic: &str, value: &str, state: State) {
        let (topic, value) = (topic.to_owned(), value.to_owned());
        self.0.borrow_mut().push_back(Message::Reading {
            topic,
            value,
            state,
        });
    }

    fn describe(&self, topic: &str, about: &source::About) {
        let (topic, about) = (topic.to_owned(), about.clone());
        self.0
            .borrow_mut()
            .push_back(Message::Described { topic, about });
    }
}

/// A server that listens, before its loop runs.
#[derive(Debug)]
pub struct Server {
    peers: Peers<Sockets>,
    listeners: Vec<OwnedFd>,
    clock: Clock,
    timer: OwnedFd,
    armed_ms: u64,
    /// What the topics of sources are called, for when they come back.
    abouts: ByName<source::About>,
    /// Somebody may be waiting at a listener.
    accepting: bool,
    accept_after_ms: u64,
    recheck_ms: u64,
    /// When what only the start used is let go of.
    let_go_ms: u64,
    drain_until_ms: Option<u64>,
    notify: Notify,
    guard: Guard,
    /// How the configuration is read again; without it nothing is.
    reload: Option<Reload>,
    /// What sources are to obey from now on.
    fresh: Option<Config>,
    roll: Roll,
    few_descriptors: log::Seldom,
    few_topics: log::Seldom,
    few_presences: log::Seldom,
}

impl Server {
    /// Listens at the sockets that were `handed` over, else at every address.
    ///
    /// # Errors
    /// The address that cannot be listened at, and why.
    pub fn bind(
        listen: &[SocketAddr],
        handed: Vec<OwnedFd>,
        settings: Settings,
        sys_root: &Path,
    ) -> Result<Server, (SocketAddr, io::Error)> {
        let slots = settings.viewers as usize + usize::from(settings.pages);
        let nowhere = listen
            .first()
            .copied()
            .unwrap_or(SocketAddr::from(([0; 4], 0)));
        let general = |error: io::Error| (nowhere, error);
        let sockets = Sockets::new(slots).map_err(general)?;
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map_err(|errno| general(errno.into()))?;
        sockets
            .watch(&timer, TIMER, EventFlags::IN)
            .map_err(general)?;
        let mut listeners = handed;
        if listeners.is_empty() {
            for address in listen {
                listeners.push(sockets::listen(*address).map_err(|error| (*address, error))?);
            }
        }
        for (token, listener) in (0..).zip(&listeners) {
            let flags = EventFlags::IN | EventFlags::ET;
            sockets.watch(listener, token, flags).map_err(general)?;
        }
        let clock = Clock::new(sys_root);
        let now = now(&clock);
        Ok(Server {
            peers: Peers::new(settings, sockets, now),
            listeners,
            clock,
            timer,
            armed_ms: u64::MAX,
            abouts: ByName::default(),
            accepting: true,
            accept_after_ms: 0,
            recheck_ms: now.ms + CLOCK_UNKNOWN_MS,
            let_go_ms: now.ms + LET_GO_MS,
            drain_until_ms: None,
            notify: Notify::new(),
            guard: Guard::default(),
            reload: None,
            fresh: None,
            roll: Roll::new(now.ms),
            few_descriptors: log::Seldom::default(),
            few_topics: log::Seldom::default(),
            few_presences: log::Seldom::default(),
        })
    }

    /// SIGHUP, also one that came already, reads the configuration again that these flags name, as
    /// `config` was. To be called before the server is confined.
    pub fn reload_with(&mut self, flags: Flags, config: &Config, sys_root: &Path, hangup: Hangup) {
        let started = config.clone();
        self.reload = Some(Reload::new(flags, sys_root.to_owned(), started, hangup));
    }

    /// The addresses that are listened at, ports chosen by the kernel included.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |fd: &OwnedFd| SocketAddr::try_from(rustix::net::getsockname(fd).ok()?).ok();
        self.listeners.iter().filter_map(address).collect()
    }

    /// Runs until a signal asks for the end and everybody was told, and the tasks of `executor`
    /// between turns: those of the sources, and whatever else was spawned there.
    ///
    /// # Errors
    /// Only of epoll itself, and of the signals' registration.
    pub fn run(
        mut self,
        executor: &LocalExecutor<'static>,
        config: &Config,
        sys_root: PathBuf,
    ) -> io::Result<()> {
        let inbox = Rc::new(Inbox::default());
        let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])?;
        let told = inbox.clone();
        let watch_signals = async move {
            while let Some(signal) = signals.next().await {
                let signal = signal.unwrap_or(Signal::Term);
                told.0.borrow_mut().push_back(Message::Signal(signal));
            }
        };
        executor.spawn(watch_signals).detach();
        if self.reload.as_ref().is_some_and(Reload::came_early) {
            inbox.0.borrow_mut().push_back(Message::Signal(Signal::Hup));
        }
        self.peers.hub.topics.set_namings(namings(config));
        let mut sources = source::start(executor, config, &sys_root, inbox.clone());
        let pulse = sources.pulse();
        let bell = Bell::new()?;
        self.peers.outlet.watch(bell.fd(), BELL, EventFlags::IN)?;
        let mut tasks = Tasks::new(executor, bell);
        tasks.poll();
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
            let mut rung = false;
            for event in events.drain(..) {
                rung |= self.dispatch(event);
            }
            self.accept();
            self.peers.go_on_all();
            if rung {
                tasks.poll();
            }
            self.take(&inbox);
            if let Some(config) = self.fresh.take() {
                sources.obey(executor, &config);
            }
            self.pass_time(&pulse);
            self.peers.end_turn();
            if self
                .drain_until_ms
                .is_some_and(|until_ms| self.peers.now().ms >= until_ms)
                || (self.drain_until_ms.is_some() && self.peers.is_empty())
            {
                // Before the executor drops them, which would not ask.
                source::end_commands();
                return Ok(());
            }
        }
    }

    /// Waits for the next events, or not at all while somebody can go on.
    fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let eager = self.peers.is_eager() || (self.accepting && self.accept_after_ms == 0);
        if !eager {
            self.arm();
        }
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let timeout = eager.then_some(&zero);
        match epoll::wait(self.peers.outlet.epoll(), spare_capacity(events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.peers.set_now(now(&self.clock));
        Ok(())
    }

    /// Sets the one timer to the next deadline, if that has changed.
    fn arm(&mut self) {
        let mut wake_ms = self.peers.wake_ms().min(self.recheck_ms);
        wake_ms = wake_ms.min(self.notify.due_ms()).min(self.let_go_ms);
        wake_ms = wake_ms.min(self.guard.due_ms());
        if self.accepting {
            wake_ms = wake_ms.min(self.accept_after_ms);
        }
        if let Some(until_ms) = self.drain_until_ms {
            wake_ms = wake_ms.min(until_ms);
        }
        // A timer that is set earlier only wakes us for nothing once: leave it.
        if wake_ms >= self.armed_ms {
            return;
        }
        let it_value = Timespec {
            tv_sec: (wake_ms / 1000) as i64,
            tv_nsec: ((wake_ms % 1000) * 1_000_000) as _,
        };
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = Itimerspec {
            it_interval: never,
            it_value,
        };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec).is_ok() {
            self.armed_ms = wake_ms;
        }
    }

    /// Hands one event to whom it concerns; whether it was the bell of the tasks.
    fn dispatch(&mut self, event: Event) -> bool {
        let data = event.data.u64();
        match data {
            _ if data == TOKEN | TIMER => {
                let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                self.armed_ms = u64::MAX;
            }
            _ if data == TOKEN | BELL => return true,
            _ if data & TOKEN != 0 => self.accepting = true,
            _ => self.peers.hear(event),
        }
        false
    }

    fn accept(&mut self) {
        let now_ms = self.peers.now().ms;
        if !self.accepting || now_ms < self.accept_after_ms {
            return;
        }
        self.accept_after_ms = 0;
        let mut left = ACCEPTS_PER_TURN;
        let mut taken_in = false;
        for index in 0..self.listeners.len() {
            while left > 0 {
                // Whoever was taken in now looks idle until it is read, in the next turn.
                if taken_in && !self.peers.has_room() {
                    return;
                }
                left -= 1;
                match sockets::accept(&self.listeners[index]) {
                    Accepted::Peer(socket, address) => {
                        self.peers.take_in(socket, address);
                        taken_in = true;
                    }
                    Accepted::Nobody => break,
                    Accepted::NotNow if taken_in => return,
                    Accepted::NotNow => {
                        // Somebody idle gives up a descriptor for somebody new.
                        if !self.peers.give_up_one() {
                            if self.few_descriptors.may(now_ms, SHORTAGE_MS) {
                                log::warning(format_args!(
                                    "somebody has to wait: there are too few file descriptors, \
                                     or too little memory"
                                ));
                            }
                            self.accept_after_ms = now_ms + ACCEPT_RETRY_MS;
                            return;
                        }
                    }
                }
            }
        }
        self.accepting = left == 0;
    }

    /// Takes what the tasks left.
    fn take(&mut self, inbox: &Inbox) {
        while let Some(message) = inbox.0.borrow_mut().pop_front() {
            match message {
                Message::Reading {
                    topic,
                    value,
                    state,
                } => {
                    self.roll.hear(&topic, state, self.peers.now().ms);
                    self.publish(&topic, &value, state);
                    if state == State::Gone {
                        // It is described anew when it comes back.
                        self.abouts.remove(&topic);
                    }
                }
                Message::Described { topic, about } => {
                    self.describe(&topic, &about);
                    *self.abouts.find_or_add(&topic, Default::default) = about;
                }
                Message::Signal(signal) => self.obey_signal(signal),
            }
        }
    }

    fn obey_signal(&mut self, signal: Signal) {
        let reload = self.reload.as_ref().filter(|reload| !reload.is_hung_up());
        match (signal, reload, self.drain_until_ms) {
            (Signal::Hup, _, Some(_)) => {}
            (Signal::Hup, Some(_), None) => self.read_again(),
            (_, _, Some(_)) => {
                source::end_commands();
                std::process::exit(0);
            }
            (_, _, None) => {
                self.drain_until_ms = Some(self.peers.now().ms + DRAIN_MS);
                self.notify.stopping();
                log::notice(format_args!(
                    "stopping: {} viewers are told",
                    self.viewers()
                ));
                self.peers.say_goodbye();
            }
        }
    }

    /// Reads the configuration again; a faulty one changes nothing.
    fn read_again(&mut self) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        self.notify.reloading();
        match reload.again() {
            Ok(again) => {
                log::notice(format_args!("{}", again.line()));
                self.obey(again);
            }
            Err(error) => log::error(format_args!("{}\n{error}", reload::mistake(&error))),
        }
        self.notify.reloaded();
    }

    /// Goes on by a configuration that was read again.
    fn obey(&mut self, again: Again) {
        let Again { policy, config, .. } = again;
        let heartbeat_ms = config.server.heartbeat_ms;
        let push_host = push_host(&config);
        self.peers
            .set_manner(name(&config), push_host, heartbeat_ms);
        self.peers.obey(policy);
        self.peers.hub.topics.set_namings(namings(&config));
        // Their own sources describe these otherwise, if the rules are others now.
        let abouts = core::mem::take(&mut self.abouts);
        for (topic, about) in abouts.iter() {
            self.describe(topic, about);
        }
        self.abouts = abouts;
        self.fresh = Some(config);
    }

    fn publish(&mut self, topic: &str, value: &str, state: State) {
        let now = self.peers.now();
        let is_new = self.peers.hub.find(topic).is_none();
        let published = self.peers.hub.publish(topic, value.as_bytes(), state, now);
        if published == Err(Refused::TopicsFull) && self.few_topics.may(now.ms, u64::MAX) {
            log::warning(format_args!(
                "{topic} is not shown: the table of topics is full; raise topics in [limits]"
            ));
        }
        if published.is_ok()
            && is_new
            && let Some(about) = self.abouts.find(topic).cloned()
        {
            self.describe(topic, &about);
        }
    }

    fn describe(&mut self, topic: &str, about: &source::About) {
        if let Some(slot) = self.peers.hub.topics.find(topic) {
            let entry = self.peers.hub.topics.topic_mut(slot);
            // What is longer than a label can be is left out rather than cut in half.
            entry.label = heapless::String::try_from(about.label.as_str()).unwrap_or_default();
            entry.unit = heapless::String::try_from(about.unit.as_str()).unwrap_or_default();
            entry.limits = about.limits;
            entry.measured = true;
        }
    }

    fn viewers(&self) -> u32 {
        self.peers.counters.viewers.iter().sum()
    }

    /// What `systemctl status` shows.
    fn status(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        let (sensors, viewers) = (self.roll.count(), self.viewers());
        format!(
            "at {}: {sensors} sensors, {viewers} viewers",
            addresses.join(" ")
        )
    }

    fn pass_time(&mut self, pulse: &source::Pulse) {
        let now_ms = self.peers.now().ms;
        if now_ms >= self.notify.due_ms() {
            let status = self.status();
            self.notify.tell(now_ms, pulse.is_alive(now_ms), status);
        }
        if now_ms >= self.recheck_ms {
            self.clock.recheck();
            if let Some(links) = policy::links() {
                self.peers.link(links);
            }
            let known = matches!(self.peers.now().time, Time::Wall(_));
            self.recheck_ms = now_ms
                + if known {
                    CLOCK_RECHECK_MS
                } else {
                    CLOCK_UNKNOWN_MS
                };
        }
        if self.peers.hub.presence.is_left_out() && self.few_presences.may(now_ms, u64::MAX) {
            log::warning(format_args!(
                "who is there is not counted for every topic of presence in [server]: the table \
                 of topics is full; raise topics in [limits]"
            ));
        }
        let counts = &self.peers.counters.refusals;
        self.guard.look(counts, &self.peers.refused_last, now_ms);
        if now_ms >= self.let_go_ms {
            resident::let_go();
            self.let_go_ms = u64::MAX;
        }
    }
}

fn now(clock: &Clock) -> Now {
    let stamp = clock.stamp();
    let time = stamp
        .wall_ms
        .map_or(Time::Uptime(stamp.uptime_ms), Time::Wall);
    Now {
        time,
        ms: stamp.uptime_ms,
    }
}
