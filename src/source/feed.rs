//! Sources that speak by themselves: each reading becomes an event, in order, none left out.
//!
//! A feed is a future on the executor: it hears bytes, cuts them, and writes the readings with its
//! pen. Its topics become stale when nothing came for as long as was configured, and what the feed
//! says when it ends. Nothing is published again for its age: only its sender knows whether a value
//! still holds. It never drops a reading for lack of time: it takes turns with the server, and
//! meanwhile the pipe or the socket fills and its sender waits.

use super::batch::Batch;
use super::desk::{Desk, Shaped};
use super::heading::{Heading, Unfit};
use super::pieces::Pieces;
use super::told::Told;
use super::{BACKOFF_MS_MAX, frame, line};
use crate::clock::boot_ms;
use crate::config::Format;
use crate::hub::event::State;
use crate::log;
use async_io::{Async, Timer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::mem::swap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// Readings between two turns of the server. A chunk without any counts as one.
const BURST: usize = 64;
/// How long a feed then waits. Only what waits for another thread lets the server have its turn.
const PAUSE: Duration = Duration::from_millis(1);
/// The first wait before what has failed is tried again; then it doubles.
const BACKOFF_MS_MIN: u64 = 1000;
/// What ran for so long has not failed from the start.
const STEADY_MS: u64 = 60_000;
/// At most one complaint of a source in this time.
const COMPLAINT_MS: u64 = 60_000;
/// The same one again only after this time.
const REPEATED_COMPLAINT_MS: u64 = 3_600_000;

/// Topics of one feed; readings of further ones are dropped.
const TOPICS_MAX: usize = 256;

/// What a feed writes with.
pub(super) struct Pen {
    desk: RefCell<Rc<Desk>>,
    /// The topics, and when it wrote of each.
    told: RefCell<Vec<(Told, u64)>>,
    next: RefCell<Shaped>,
    stale_ms: Option<u64>,
}

impl Pen {
    /// `stale_ms` without a reading make a topic stale; `None` never.
    pub(super) fn new(desk: Rc<Desk>, stale_ms: Option<u64>) -> Pen {
        Pen {
            desk: RefCell::new(desk),
            told: RefCell::default(),
            next: RefCell::default(),
            stale_ms,
        }
    }

    /// Publishes every reading of `batch` that is wanted and that its dead band lets through.
    /// An error when there were more topics than can be.
    pub(super) fn write(&self, batch: &Batch, now_ms: u64) -> Result<(), Unfit> {
        let mut outcome = Ok(());
        let desk = self.desk.borrow();
        let mut all = self.told.borrow_mut();
        let mut next = self.next.borrow_mut();
        for entry in batch.entries() {
            let at = all.iter().position(|(told, _)| told.is_of(entry));
            if let Some((told, told_ms)) = at.map(|at| &mut all[at]) {
                *told_ms = now_ms;
                if told.hear(entry, &mut next) || !told.shape.has_dead_band() {
                    swap(&mut told.last, &mut next);
                    told.publish(&*desk.sink);
                }
            } else if all.len() == TOPICS_MAX {
                outcome = Err(Unfit::Topics(TOPICS_MAX));
            } else if desk.allows(&entry.topic) {
                all.push((Told::new(entry, &desk), now_ms));
            }
        }
        outcome
    }

    /// Publishes as gone what `desk` does not want or names otherwise.
    pub(super) fn leave(&self, desk: &Desk) {
        let mut all = self.told.borrow_mut();
        all.retain_mut(|(told, _)| told.leave(desk));
    }

    /// Publishes what is otherwise by `desk`, which all passes from now on.
    pub(super) fn rejoin(&self, desk: &Rc<Desk>) {
        self.desk.replace(Rc::clone(desk));
        for (told, _) in self.told.borrow_mut().iter_mut() {
            told.rejoin(desk);
        }
    }

    /// Says of every topic that it is now in `state`; its value stays, but for an error, and an
    /// error does not become stale.
    pub(super) fn lapse(&self, state: State) {
        let desk = self.desk.borrow();
        for (told, _) in self.told.borrow_mut().iter_mut() {
            if state != State::Stale || told.last.state == State::Ok {
                told.settle(state, &*desk.sink);
            }
        }
        if state == State::Gone {
            self.told.borrow_mut().clear();
        }
    }

    /// Whether nothing was written yet, or all of it is gone.
    fn is_blank(&self) -> bool {
        self.told.borrow().is_empty()
    }

    /// Publishes as stale what is, and answers when to look again: what is written meanwhile is
    /// not stale before.
    pub(super) fn watch(&self, now_ms: u64) -> u64 {
        let Some(stale_ms) = self.stale_ms else {
            return u64::MAX;
        };
        let mut wake_ms = now_ms.saturating_add(stale_ms);
        let desk = self.desk.borrow();
        for (told, told_ms) in self.told.borrow_mut().iter_mut() {
            if told.last.state != State::Ok {
                continue;
            }
            let until_ms = *told_ms + stale_ms;
            if now_ms >= until_ms {
                told.settle(State::Stale, &*desk.sink);
            } else {
                wake_ms = wake_ms.min(until_ms);
            }
        }
        wake_ms
    }
}

/// What hears, cuts, reads and writes for every kind of feed.
pub(super) struct Feed {
    pen: Rc<Pen>,
    heading: Heading,
    format: Format,
    pieces: Pieces,
    batch: Batch,
    complaint: Complaint,
    /// Readings since the server had its turn.
    burst: usize,
}

impl Feed {
    pub(super) fn new(
        pen: Rc<Pen>,
        heading: Heading,
        format: Format,
        complaint: Complaint,
    ) -> Feed {
        let (end, bytes_max) = match format {
            Format::Text => (b'\n', line::LINE_BYTES_MAX),
            Format::Postcard => (0, frame::FRAME_BYTES_MAX),
        };
        Feed {
            pen,
            heading,
            format,
            pieces: Pieces::new(end, bytes_max),
            batch: Batch::default(),
            complaint,
            burst: 0,
        }
    }

    /// Publishes what ends in `chunk`, the next bytes of a stream.
    pub(super) async fn hear(&mut self, mut chunk: &[u8]) {
        self.take_turns(1).await;
        while let Some(piece) = self.pieces.next(&mut chunk) {
            let outcome =
                piece.and_then(|piece| decode(self.format, piece, &self.heading, &mut self.batch));
            let count = self.write(outcome);
            // What is refused takes its time too.
            self.take_turns(count.max(1)).await;
        }
    }

    /// Publishes what has no end mark because nothing comes behind it.
    pub(super) fn finish(&mut self) {
        if let Some(piece) = self.pieces.finish() {
            let outcome = decode(self.format, piece, &self.heading, &mut self.batch);
            self.burst += self.write(outcome);
        }
    }

    /// Publishes the batch if it was read well; how many readings were in it.
    fn write(&mut self, outcome: Result<(), Unfit>) -> usize {
        let now_ms = boot_ms();
        if let Err(unfit) = outcome.and_then(|()| self.pen.write(&self.batch, now_ms)) {
            self.complaint.make(now_ms, unfit);
        }
        self.batch.entries().len()
    }

    /// Lets the server have its turn when so many readings more are enough for now.
    pub(super) async fn take_turns(&mut self, count: usize) {
        self.burst += count;
        if self.burst >= BURST {
            self.burst = 0;
            Timer::after(PAUSE).await;
        }
    }

    /// Forgets what has no end mark: what was torn off could look like a reading.
    pub(super) fn forget(&mut self) {
        let _ = self.pieces.finish();
    }

    /// Says of every topic that its feed is interrupted: it is stale, or in error when the one that
    /// is configured never had a value.
    pub(super) fn interrupt(&mut self) {
        self.pen.lapse(State::Stale);
        if let Ok(own) = self.heading.own("")
            && self.pen.is_blank()
        {
            self.batch.clear();
            self.batch.fault(own);
            self.write(Ok(()));
        }
    }

    /// Says of every topic that it is gone.
    pub(super) fn end(&self) {
        self.pen.lapse(State::Gone);
    }

    /// Says what is wrong, if it is time to.
    pub(super) fn complain(&mut self, text: impl Display) {
        self.complaint.make(boot_ms(), text);
    }
}

fn decode(format: Format, piece: &[u8], heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
    match format {
        Format::Text => line::read(piece, heading, batch),
        Format::Postcard => frame::read(piece, heading, batch),
    }
}

/// A pipe or a socket to wait for; it is not made non-blocking.
pub(super) fn inlet(fd: impl Into<OwnedFd>) -> io::Result<Async<File>> {
    Async::new_nonblocking(File::from(fd.into()))
}

/// Reads what comes next, as soon as anything does; 0 bytes at the end, or of an empty datagram.
pub(super) async fn read(inlet: &Async<File>, room: &mut [u8]) -> io::Result<usize> {
    loop {
        // Somebody else may read it too, so that what epoll said need not be true any more.
        if let Some(count) = read_now(inlet, room)? {
            return Ok(count);
        }
        inlet.readable().await?;
    }
}

/// Reads what is there; `None` when there is nothing yet.
pub(super) fn read_now(inlet: &Async<File>, room: &mut [u8]) -> io::Result<Option<usize>> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(inlet.get_ref(), PollFlags::IN)];
    let count = poll(&mut fds, Some(&now)).and_then(|ready| match ready {
        0 => Err(Errno::AGAIN),
        _ => rustix::io::read(inlet.get_ref(), room),
    });
    match count {
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}

/// Where complaints go.
pub(super) type Say = Box<dyn FnMut(&str) + Send>;

/// What a source has to complain of, not too often: `FILE:LINE: text`.
pub(super) struct Complaint {
    place: String,
    say: Say,
    last: String,
    last_ms: Option<u64>,
    unsaid: u64,
}

impl Complaint {
    /// `place` is where the source is configured.
    pub(super) fn new(place: &str, say: Say) -> Complaint {
        Complaint {
            place: place.to_owned(),
            say,
            last: String::new(),
            last_ms: None,
            unsaid: 0,
        }
    }

    /// One that people see.
    pub(super) fn aloud(place: &str) -> Complaint {
        Complaint::new(place, Box::new(|text| log::warning(format_args!("{text}"))))
    }

    pub(super) fn make(&mut self, now_ms: u64, text: impl Display) {
        let text = text.to_string();
        let quiet_ms = if text == self.last {
            REPEATED_COMPLAINT_MS
        } else {
            COMPLAINT_MS
        };
        if self
            .last_ms
            .is_some_and(|last_ms| now_ms < last_ms + quiet_ms)
        {
            self.unsaid += 1;
            return;
        }
        let more = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            count => format!(" (and {count} not said since the last time)"),
        };
        (self.say)(&format!("{}: {text}{more}", self.place));
        self.last = text;
        self.last_ms = Some(now_ms);
    }
}

/// How long to wait before what has ended is tried again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A second, doubling up to a minute; a second again after it ran for a minute.
    pub(super) fn after(&mut self, ran_ms: u64) -> Duration {
        if ran_ms >= STEADY_MS {
            self.failures = 0;
        }
        let wait_ms = (BACKOFF_MS_MIN << self.failures).min(BACKOFF_MS_MAX);
        self.failures = (self.failures + 1).min(16);
        Duration::from_millis(wait_ms)
    }
}

#[cfg(test)]
pub(super) mod bench {
    //! A feed whose readings and complaints are written down.

    use super::super::fake::{Log, desk};
    use super::*;
    use smol::future;
    use std::sync::{Arc, Mutex};

    pub(in super::super) struct Bench {
        log: Rc<Log>,
        complaints: Arc<Mutex<Vec<String>>>,
    }

    pub(in super::super) fn complaint() -> (Complaint, Arc<Mutex<Vec<String>>>) {
        let complaints: Arc<Mutex<Vec<String>>> = Arc::default();
        let to = Arc::clone(&complaints);
        let say = move |text: &str| to.lock().unwrap().push(text.to_owned());
        (Complaint::new("f:1", Box::new(say)), complaints)
    }

    /// A feed for `topic`.
    pub(in super::super) fn feed(topic: Option<&str>, format: Format) -> (Feed, Bench) {
        let log = Rc::new(Log::default());
        let desk = Rc::new(desk(&[], &[], Rc::<Log>::clone(&log)));
        let pen = Rc::new(Pen::new(desk, None));
        let (complaint, complaints) = complaint();
        let heading = Heading::new(topic, None, None);
        let feed = Feed::new(pen, heading, format, complaint);
        (feed, Bench { log, complaints })
    }

    impl Bench {
        /// What is published, without descriptions, while `task` runs and `count` are not there.
        pub(in super::super) fn published(
            &self,
            task: impl Future<Output = ()>,
            count: usize,
        ) -> Vec<String> {
            let mut all = Vec::new();
            let mut take = || {
                let log = self.log.take().into_iter();
                all.extend(log.filter(|line| !line.contains(" = ")));
                all.len()
            };
            let begun_ms = boot_ms();
            let enough = async {
                while take() < count && boot_ms() < begun_ms + 20_000 {
                    Timer::after(Duration::from_millis(5)).await;
                }
            };
            smol::block_on(future::or(task, enough));
            take();
            all
        }

        pub(in super::super) fn complaints(&self) -> Vec<String> {
            std::mem::take(&mut self.complaints.lock().unwrap())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Channel;
    use super::super::fake::{Log, desk};
    use super::*;

    #[test]
    fn other_rules_leave_what_is_stale_stale() {
        let (pen, log) = pen(Some(1000));
        let mut batch = Batch::default();
        batch.number(&Channel::fixed("a", "A", "V"), 2.0, 1);
        pen.write(&batch, 0).unwrap();
        pen.watch(1000);
        assert_eq!(log.take(), ["a = A [V]", "a 2 Ok", "a 2 Stale"]);
        let layer = crate::config::Layer {
            file: "",
            text: "[[topic]]\nmatch = \"a\"\nscale = 10\nrename = \"b\"",
            is_profile: false,
        };
        let config = crate::config::Config::new(&[layer]).unwrap();
        let desk = Rc::new(Desk::new(&config, Rc::<Log>::clone(&log)));
        pen.leave(&desk);
        pen.rejoin(&desk);
        assert_eq!(log.take(), ["a 2 Gone", "b = A [V]", "b 20 Stale"]);
        pen.write(&batch, 2000).unwrap();
        assert_eq!(log.take(), ["b 20 Ok"]);
    }

    fn pen(stale_ms: Option<u64>) -> (Pen, Rc<Log>) {
        let log = Rc::new(Log::default());
        let desk = Rc::new(desk(&[], &["no/#"], Rc::<Log>::clone(&log)));
        (Pen::new(desk, stale_ms), log)
    }

    fn batch(topic: &str, value: &str) -> Batch {
        let mut batch = Batch::default();
        batch.json(&Channel::named(topic.to_owned(), "L", "V"), value);
        batch
    }

    #[test]
    fn every_reading_is_published() {
        let (pen, log) = pen(None);
        for value in ["1", "1", "2.50"] {
            pen.write(&batch("a", value), 0).unwrap();
        }
        pen.write(&batch("no/b", "1"), 0).unwrap();
        assert_eq!(log.take(), ["a = L [V]", "a 1 Ok", "a 1 Ok", "a 2.50 Ok"]);
        assert_eq!(pen.watch(u64::MAX), u64::MAX);
        pen.lapse(State::Error);
        pen.lapse(State::Error);
        assert_eq!(log.take(), ["a null Error"]);
        pen.lapse(State::Stale);
        pen.lapse(State::Gone);
        assert_eq!(log.take(), ["a null Gone"]);
        pen.write(&batch("a", "3"), 0).unwrap();
        assert_eq!(log.take(), ["a = L [V]", "a 3 Ok"]);
    }

    #[test]
    fn silence_makes_stale() {
        let (pen, log) = pen(Some(1000));
        assert_eq!(
            pen.watch(0),
            1000,
            "what comes meanwhile is looked at in time"
        );
        pen.write(&batch("a", "1"), 0).unwrap();
        pen.write(&batch("b", "2"), 400).unwrap();
        log.take();
        assert_eq!(pen.watch(999), 1000);
        assert_eq!(pen.watch(1000), 1400);
        assert_eq!(log.take(), ["a 1 Stale"]);
        pen.write(&batch("a", "1"), 1100).unwrap();
        assert_eq!(pen.watch(1400), 2100);
        assert_eq!(log.take(), ["a 1 Ok", "b 2 Stale"]);
    }

    #[test]
    fn topics_below_and_above_their_limit() {
        let (pen, log) = pen(None);
        for at in 0..=TOPICS_MAX {
            let outcome = pen.write(&batch(&format!("t/{at}"), "1"), 0);
            assert_eq!(outcome.is_ok(), at < TOPICS_MAX);
        }
        assert_eq!(log.take().len(), 2 * TOPICS_MAX);
    }

    #[test]
    fn the_server_has_its_turn_between_bursts() {
        let (mut feed, bench) = bench::feed(None, Format::Text);
        let chunk = "a 1\n".repeat(3 * BURST);
        let mut turns = 0;
        let task = async {
            let mut hear = Box::pin(feed.hear(chunk.as_bytes()));
            std::future::poll_fn(|context| {
                turns += 1;
                hear.as_mut().poll(context)
            })
            .await;
        };
        assert_eq!(bench.published(task, usize::MAX).len(), 3 * BURST);
        assert!(turns > 3, "{turns}");

        // What has no reading in it counts too: an endless line, an endless row of empty lines.
        for chunk in [&b"x"[..], b"\n"] {
            let mut turns = 0;
            let task = async {
                let mut flood = Box::pin(async {
                    for _ in 0..3 * BURST {
                        feed.hear(chunk).await;
                    }
                });
                std::future::poll_fn(|context| {
                    turns += 1;
                    flood.as_mut().poll(context)
                })
                .await;
            };
            assert_eq!(bench.published(task, usize::MAX), [""; 0]);
            assert!(turns > 3, "{turns}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_the_rest_goes_on() {
        let (mut feed, bench) = bench::feed(None, Format::Text);
        let text = format!(
            "a 1\n{}\nb 2\nwrong\nc 3",
            "x".repeat(line::LINE_BYTES_MAX + 1)
        );
        let task = async {
            feed.hear(text.as_bytes()).await;
            feed.finish();
        };
        assert_eq!(bench.published(task, 9), ["a 1 Ok", "b 2 Ok", "c 3 Ok"]);
        let want = ["f:1: more than 8192 bytes without an end; left out"];
        assert_eq!(bench.complaints(), want);
    }

    #[test]
    fn complaints_are_not_too_many() {
        let (mut complaint, said) = bench::complaint();
        for (at_ms, text) in [
            (0, "x"),
            (1, "x"),
            (COMPLAINT_MS - 1, "y"),
            (COMPLAINT_MS, "x"),
            (COMPLAINT_MS, "y"),
            (REPEATED_COMPLAINT_MS, "y"),
            (COMPLAINT_MS + REPEATED_COMPLAINT_MS, "y"),
        ] {
            complaint.make(at_ms, text);
        }
        let want = [
            "f:1: x",
            "f:1: y (and 3 not said since the last time)",
            "f:1: y (and 1 not said since the last time)",
        ];
        assert_eq!(*said.lock().unwrap(), want);
    }

    #[test]
    fn waits_double_until_it_runs_steadily() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = [0, 0, 0, 0, 0, 0, STEADY_MS - 1, 0, STEADY_MS, 0]
            .map(|ran_ms| backoff.after(ran_ms).as_secs())
            .into();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]);
    }
}
