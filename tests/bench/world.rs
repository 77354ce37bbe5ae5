//! The generator: one thread, one epoll instance (epoll(7), edge-triggered), all viewers and the
//! one that publishes.
//!
//! It never sleeps past something that is due, and gives up on the first byte that is wrong: a
//! figure of a server that errs is no figure.

use core::mem::MaybeUninit;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};
use rustix::time::Timespec;

use crate::Outcome;
use crate::book::{Book, Seat};
use crate::client::{Decoder, Heard, Transport};
use crate::server::Server;
use crate::sockets::{EDGES, failed, open, send_all, watch};

/// Event data of the connection that publishes, and of the crowd.
const PUBLISHER: u64 = u64::MAX;
const CROWD: u64 = u64::MAX - 1;
const EVENTS: usize = 512;
/// Viewers of the crowd that are heard before the others have their turn again.
const CROWD_EVENTS: usize = 16;
/// Connections that are not ready yet, at once.
const HALF_OPEN: usize = 64;
/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed,
    Connecting,
    /// Asked, but not said hello to or not caught up.
    Opening,
    Ready,
}

#[derive(Debug)]
struct Viewer {
    socket: Option<OwnedFd>,
    state: State,
    begun: Instant,
    decoder: Decoder,
    transport: Transport,
    query: String,
    seat: Seat,
}

/// All connections to one server.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) book: Book,
    epoll: OwnedFd,
    /// In the other one: viewers that are not counted wait behind those that are, or hearing a
    /// crowd would look like lateness of the server.
    crowd: OwnedFd,
    viewers: Vec<Viewer>,
    publisher: Option<OwnedFd>,
    answers: Decoder,
    /// The numbers that the answers to come have to name.
    awaited: VecDeque<u64>,
    /// Viewers that are to connect as soon as others are ready.
    waiting: VecDeque<usize>,
    opening: usize,
    /// Connections that may be on their way at once.
    pub(crate) half_open: usize,
    /// A viewer is ready when it has heard all up to this number, too.
    pub(crate) ready_at: u64,
    /// Microseconds that each connection took to be ready.
    pub(crate) ready_us: Vec<u32>,
    /// When the last one was.
    pub(crate) last_ready: Instant,
    /// Viewers that the server ended or turned away, until somebody takes them.
    pub(crate) ended: Vec<usize>,
    /// Bytes of a published value.
    pub(crate) payload: usize,
    buffer: Vec<u8>,
    events: Vec<Event>,
}

impl World {
    /// A world without viewers, and with one event published.
    pub(crate) fn new(server: Server, topics: &[String], payload: usize) -> Outcome<World> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| failed("epoll", error))?;
        let crowd = epoll::create(CreateFlags::CLOEXEC).map_err(|error| failed("epoll", error))?;
        watch(&epoll, &crowd, CROWD, EventFlags::IN)?;
        let mut world = World {
            server,
            book: Book::new(topics),
            epoll,
            crowd,
            viewers: Vec::new(),
            publisher: None,
            answers: Decoder::new(Transport::Publish),
            awaited: VecDeque::new(),
            waiting: VecDeque::new(),
            opening: 0,
            half_open: HALF_OPEN,
            ready_at: 0,
            ready_us: Vec::new(),
            last_ready: Instant::now(),
            ended: Vec::new(),
            payload,
            buffer: vec![0; 64 * 1024],
            events: Vec::with_capacity(EVENTS),
        };
        world.meet()?;
        Ok(world)
    }

    /// Ends the server as a crash would.
    pub(crate) fn crash(&mut self) {
        self.publisher = None;
        self.server.kill();
    }

    /// Begins a new account, of the server started again.
    pub(crate) fn begin_again(&mut self) -> Outcome<()> {
        self.server.start_again()?;
        let topics = core::mem::take(&mut self.book.topics);
        self.book = Book::new(&topics);
        self.answers = Decoder::new(Transport::Publish);
        self.awaited.clear();
        self.meet()
    }

    /// Meets the server: the first event tells the name of its log.
    fn meet(&mut self) -> Outcome<()> {
        self.publish(0, Instant::now())?;
        self.until("the answer to the first event", |world| {
            world.awaited.is_empty()
        })
    }

    /// Connects who publishes.
    fn connect_publisher(&mut self) -> Outcome<()> {
        let publisher = open(self.server.address, 0, None)?;
        watch(&self.epoll, &publisher, PUBLISHER, EDGES)?;
        let until = Instant::now() + PATIENCE;
        while sockopt::socket_error(&publisher) == Ok(Ok(()))
            && net::getpeername(&publisher).is_err()
        {
            if Instant::now() > until {
                return Err("the server does not take a connection".to_string());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.publisher = Some(publisher);
        Ok(())
    }

    /// Adds viewers, not connected yet; the index of the first.
    pub(crate) fn add(
        &mut self,
        count: usize,
        transport: Transport,
        query: impl Fn(usize) -> String,
    ) -> usize {
        let first = self.viewers.len();
        self.viewers.extend((0..count).map(|number| Viewer {
            socket: None,
            state: State::Closed,
            begun: Instant::now(),
            decoder: Decoder::new(transport),
            transport,
            query: query(number),
            seat: Seat::new(),
        }));
        first
    }

    /// All seats, those of viewers that are not connected included.
    pub(crate) fn seats(&mut self) -> impl Iterator<Item = &mut Seat> {
        self.viewers.iter_mut().map(|viewer| &mut viewer.seat)
    }

    /// One viewer's seat.
    pub(crate) fn seat(&mut self, viewer: usize) -> &mut Seat {
        &mut self.viewers[viewer].seat
    }

    /// Lets viewers connect in the turns to come.
    pub(crate) fn let_in(&mut self, viewers: impl IntoIterator<Item = usize>) {
        self.waiting.extend(viewers);
    }

    /// How many are still not ready.
    pub(crate) fn unready(&self) -> usize {
        self.waiting.len() + self.opening
    }

    /// Connects viewers, and waits until all of them are ready.
    pub(crate) fn connect(&mut self, viewers: core::ops::Range<usize>) -> Outcome<()> {
        self.let_in(viewers);
        self.until("viewers to be ready", |world| world.unready() == 0)?;
        self.book.audience = self
            .viewers
            .iter()
            .filter(|viewer| viewer.state == State::Ready && viewer.seat.is_counted)
            .count();
        Ok(())
    }

    /// Turns until `done`; a fault if that takes too long or a viewer ends meanwhile.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            self.turn(Duration::from_millis(5))?;
            self.all_are_there()?;
            if Instant::now() > until {
                return Err(format!("waited too long for {what}"));
            }
        }
        Ok(())
    }

    /// Turns for a while.
    pub(crate) fn pass(&mut self, time: Duration) -> Outcome<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(left.min(Duration::from_millis(5)))?;
            self.all_are_there()?;
        }
        Ok(())
    }

    /// A fault if the server ended a viewer.
    pub(crate) fn all_are_there(&self) -> Outcome<()> {
        match self.ended.first() {
            None => Ok(()),
            Some(&viewer) if self.viewers[viewer].seat.turned_away => Err(format!(
                "the server turned viewer {viewer} away: raise viewers in [limits]"
            )),
            Some(viewer) => Err(format!("the server ended viewer {viewer}")),
        }
    }

    /// The value of the next event: as long as asked for, and like no other.
    fn value(&self) -> String {
        let number = self.book.sent();
        let shortest = r#"{"n":00000000,"pad":""}"#.len();
        let pad = self.payload.saturating_sub(shortest);
        format!(r#"{{"n":{},"pad":"{:x<pad$}"}}"#, 10_000_000 + number, "")
    }

    /// Publishes an event that was due `at`.
    pub(crate) fn publish(&mut self, topic: usize, at: Instant) -> Outcome<()> {
        let value = self.value();
        let path = format!("/topics/{}", self.book.topics[topic]);
        self.book.publish(topic, value.clone(), at);
        self.post(&path, &value)
    }

    /// Publishes one event of every topic at once.
    pub(crate) fn publish_all(&mut self, at: Instant) -> Outcome<()> {
        let mut body = String::from("[");
        for topic in 0..self.book.topics.len() {
            let value = self.value();
            let name = &self.book.topics[topic];
            body += &format!(r#"{{"topic":"{name}","value":{value}}},"#);
            self.book.publish(topic, value, at);
        }
        body.pop();
        body.push(']');
        self.post("/topics", &body)
    }

    fn post(&mut self, path: &str, body: &str) -> Outcome<()> {
        let (host, bytes) = (self.server.address, body.len());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {bytes}\r\n\r\n{body}"
        );
        self.awaited.push_back(self.book.head());
        if self.publisher.is_none() {
            self.connect_publisher()?;
        }
        let publisher = self.publisher.as_ref().ok_or("nobody publishes")?;
        send_all(publisher, request.as_bytes()).map_err(|why| format!("publish: {why}"))
    }

    /// Publishes that are not answered yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.awaited.len()
    }

    /// Waits at most so long for something to happen, and lets it.
    pub(crate) fn turn(&mut self, wait: Duration) -> Outcome<()> {
        while self.opening < self.half_open
            && let Some(viewer) = self.waiting.pop_front()
        {
            self.start(viewer)?;
        }
        // The kernel counts in whole milliseconds here: the last one is spent awake.
        let ms = wait.as_millis() as i64;
        let timeout = Timespec {
            tv_sec: ms / 1000,
            tv_nsec: (ms % 1000) * 1_000_000,
        };
        let mut events = core::mem::take(&mut self.events);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed("epoll_wait", error)),
        }
        let mut crowd = false;
        for event in events.drain(..) {
            match event.data.u64() {
                PUBLISHER => self.hear_answers()?,
                CROWD => crowd = true,
                viewer => self.viewer_event(viewer as usize, event.flags)?,
            }
        }
        self.events = events;
        match crowd {
            true => self.hear_crowd(),
            false => Ok(()),
        }
    }

    fn hear_crowd(&mut self) -> Outcome<()> {
        let mut few = [const { MaybeUninit::uninit() }; CROWD_EVENTS];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let waited = epoll::wait(&self.crowd, &mut few[..], Some(&now));
        let (events, _) = waited.map_err(|error| failed("epoll_wait", error))?;
        for event in events {
            self.viewer_event(event.data.u64() as usize, event.flags)?;
        }
        Ok(())
    }

    fn hear_answers(&mut self) -> Outcome<()> {
        loop {
            let Some(publisher) = &self.publisher else {
                return Ok(());
            };
            let bytes = match net::recv(publisher, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                // A connection that was idle for long.
                Ok((_, 0)) if self.awaited.is_empty() => {
                    self.publisher = None;
                    return Ok(());
                }
                Ok((_, 0)) => return Err("the server ended the publisher".to_string()),
                Ok((_, bytes)) => bytes,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => return Ok(()),
                Err(error) => return Err(failed("publisher", error)),
            };
            let (book, awaited) = (&mut self.book, &mut self.awaited);
            self.answers.feed(&self.buffer[..bytes], &mut |heard| {
                let Heard::Answer(body) = heard else {
                    return Err(format!("a publish was answered with {heard:?}"));
                };
                answer(book, awaited.pop_front(), body)
            })?;
        }
    }

    fn start(&mut self, index: usize) -> Outcome<()> {
        let viewer = &mut self.viewers[index];
        let socket = open(self.server.address, index, None)?;
        viewer.begun = Instant::now();
        viewer.decoder = Decoder::new(viewer.transport);
        viewer.state = State::Connecting;
        viewer.seat.greeted = false;
        self.opening += 1;
        let epoll = match viewer.seat.is_counted {
            true => &self.epoll,
            false => &self.crowd,
        };
        watch(epoll, &socket, index as u64, EDGES)?;
        viewer.socket = Some(socket);
        Ok(())
    }

    fn viewer_event(&mut self, index: usize, flags: EventFlags) -> Outcome<()> {
        let viewer = &mut self.viewers[index];
        let Some(socket) = &viewer.socket else {
            return Ok(());
        };
        if viewer.state == State::Connecting {
            if sockopt::socket_error(socket) != Ok(Ok(())) {
                self.lose(index);
                return Ok(());
            }
            if !flags.contains(EventFlags::OUT) {
                return Ok(());
            }
            viewer.state = State::Opening;
            self.ask(index)?;
        }
        match flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) {
            true => self.read(index),
            false => Ok(()),
        }
    }

    /// Sends a viewer's request.
    fn ask(&mut self, index: usize) -> Outcome<()> {
        let viewer = &self.viewers[index];
        let host = self.server.address.to_string();
        let request = viewer
            .transport
            .request(&viewer.query, &viewer.seat.since, &host);
        if let Some(socket) = &viewer.socket
            && send_all(socket, request.as_bytes()).is_err()
        {
            self.lose(index);
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Outcome<()> {
        loop {
            let viewer = &mut self.viewers[index];
            let Some(socket) = &viewer.socket else {
                return Ok(());
            };
            let bytes = match net::recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, bytes)) => bytes,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(_) => 0,
            };
            if bytes == 0 {
                self.lose(index);
                return Ok(());
            }
            let now = Instant::now();
            let (book, seat) = (&mut self.book, &mut viewer.seat);
            let heard = viewer.decoder.feed(&self.buffer[..bytes], &mut |heard| {
                book.hear(seat, heard, now)
            });
            heard.map_err(|why| format!("viewer {index}: {why}"))?;
            self.advance(index, now)?;
            if bytes < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// After a viewer heard something: it may be ready, have to ask again, or be turned away.
    fn advance(&mut self, index: usize, now: Instant) -> Outcome<()> {
        let viewer = &mut self.viewers[index];
        if viewer.seat.turned_away {
            self.lose(index);
            return Ok(());
        }
        if viewer.state == State::Opening
            && viewer.seat.greeted
            && viewer.seat.cursor >= self.ready_at
        {
            viewer.state = State::Ready;
            self.opening -= 1;
            self.last_ready = now;
            let took = now.duration_since(viewer.begun).as_micros();
            self.ready_us.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
        match core::mem::take(&mut viewer.seat.answered) {
            true => self.ask(index),
            false => Ok(()),
        }
    }

    fn lose(&mut self, index: usize) {
        let viewer = &mut self.viewers[index];
        if matches!(viewer.state, State::Connecting | State::Opening) {
            self.opening -= 1;
        }
        viewer.state = State::Closed;
        viewer.socket = None;
        self.ended.push(index);
    }
}

/// Compares an answer with what was published.
fn answer(book: &mut Book, awaited: Option<u64>, body: &str) -> Outcome<()> {
    let wrong = || format!("a publish was answered with {body:?}");
    let rest = body.strip_prefix(r#"{"id":""#).ok_or_else(wrong)?;
    let (id, _) = rest.split_once("\",").ok_or_else(wrong)?;
    if book.prefix.is_empty() {
        let (log, number) = id.split_once('-').ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        book.begin_at(format!("{log}-"), number);
        return Ok(());
    }
    match Some(book.number(id)?) == awaited {
        true => Ok(()),
        false => Err(wrong()),
    }
}
