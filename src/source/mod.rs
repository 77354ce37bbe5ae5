//! Sources of readings: the table of their kinds, and the one async loop that reads them all.
//!
//! Follows DESIGN.md 3 "Events" (states) and 5 (one thread; a read that blocks goes through
//! `smol::unblock`). A new kind is one file with a `discover` function and one row in `KINDS`. The
//! loop never waits for a source: a slow one is read on a thread while the loop goes on and watches
//! it. It knows neither topics of others nor how readings are sent.
//!
//! When a reading is published: when its value or state changed; while it is good, also when the
//! last time was `REPUBLISH_MS` ago, so that its age stays young; once as stale (with its last
//! value) when three periods went by without a refresh; once as an error (with null); once as gone.

mod batch;
mod proc;
mod slot;

use crate::clock::boot_ms;
use crate::config;
use crate::hub::event::State;
use crate::name;
use async_io::Timer;
use batch::{Batch, Channel};
use slot::{Progress, Reader, Slot};
use smol::LocalExecutor;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A good reading is published at least this often, changed or not.
const REPUBLISH_MS: u64 = 10_000;
/// How often kinds look for sources that were not there before.
const RESCAN_MS: u64 = 10_000;
/// The longest wait between two tries of a source that fails.
const BACKOFF_MS_MAX: u64 = 60_000;
/// How long `snapshot` waits before it reads again what is a difference of two reads.
const SECOND_LOOK: Duration = Duration::from_millis(300);

type Found = Vec<Box<dyn Source>>;
type Discover = fn(sys_root: &Path, is_known: &dyn Fn(&str) -> bool) -> Found;

/// A kind of source.
struct Kind {
    name: &'static str,
    /// Finds the sources below the system root, except those whose key is known already. Called
    /// again every `RESCAN_MS`; cheap, and reads as little as it can.
    discover: Discover,
}

static KINDS: &[Kind] = &[Kind {
    name: "proc",
    discover: proc::discover,
}];

/// Where readings go. Called only from the executor's tasks.
pub trait Sink {
    /// Publishes a reading. `value` is canonical JSON text: a number, `true`, `false`, a string
    /// already encoded, or `null`.
    fn publish(&self, topic: &str, value: &str, state: State);
    /// Says what a topic is called and measured in, before its first reading and again when it
    /// comes back. `unit` is the unit to show (`°C`, `%`, `B/s`, `s`), empty for none.
    fn describe(&self, topic: &str, label: &str, unit: &str);
}

/// A reading taken for a list, not for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its topic.
    pub topic: String,
    /// What people call it.
    pub label: String,
    /// The unit to show, empty for none.
    pub unit: String,
    /// Canonical JSON text; `null` with an error.
    pub value: String,
    /// `Ok` or `Error`.
    pub state: State,
    /// The kind of source that it comes from.
    pub kind: &'static str,
}

/// Finds the sources below `sys_root` and reads those that `sources` allows, for as long as the
/// executor runs.
pub fn start(
    executor: &LocalExecutor<'static>,
    sources: &config::Sources,
    sys_root: &Path,
    sink: Rc<dyn Sink>,
) {
    executor
        .spawn(drive(Driver::new(sources, sys_root, sink)))
        .detach();
}

/// Reads everything that `sources` allows once, in the order of kinds. It blocks: for as long as
/// the slowest source, and a third of a second when a reading is the difference of two reads.
pub fn snapshot(sources: &config::Sources, sys_root: &Path) -> Vec<Snapshot> {
    let filter = Filter::new(sources);
    let mut readers = Vec::new();
    for kind in KINDS {
        for source in (kind.discover)(sys_root, &|_| false) {
            if filter.may_allow(source.channels()) {
                readers.push((kind.name, Reader::new(source)));
            }
        }
    }
    readers.retain_mut(|(_, reader)| reader.read(boot_ms()) != Err(Fault::Vanished));
    let is_silent = |reader: &Reader| reader.batch.entries().is_empty();
    if readers.iter().any(|(_, reader)| is_silent(reader)) {
        std::thread::sleep(SECOND_LOOK);
        readers.retain_mut(|(_, reader)| {
            !is_silent(reader) || reader.read(boot_ms()) != Err(Fault::Vanished)
        });
    }
    let entries = readers.iter().flat_map(|(kind, reader)| {
        let entries = reader.batch.entries().iter();
        entries.map(|entry| (*kind, entry))
    });
    entries
        .filter(|(_, entry)| filter.allows(&entry.topic))
        .map(|(kind, entry)| Snapshot {
            topic: entry.topic.clone(),
            label: entry.label.clone(),
            unit: entry.unit.clone(),
            value: entry.value.clone(),
            state: entry.state,
            kind,
        })
        .collect()
}

/// What is read at once: a file, a chip, a device. `Send`, because a slow one is read on a thread.
trait Source: Send {
    /// Names it among all sources of all kinds: its path below the system root.
    fn key(&self) -> &str;
    /// Time from read to read.
    fn period_ms(&self) -> u64;
    /// Whether a read may take more than a millisecond and so must not be done in the loop.
    fn is_slow(&self) -> bool {
        false
    }
    /// All that it may give. A `+` segment stands for names that are known only when it is read.
    fn channels(&self) -> &[Channel];
    /// Puts what there is now into `batch`. A channel that it put before and leaves out now is
    /// gone; one for which there is nothing to say yet is left out until there is.
    fn read(&mut self, now_ms: u64, batch: &mut Batch) -> Result<(), Fault>;
}

/// Why a source could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is there, but did not answer, or not with anything that makes sense.
    Failed,
    /// It is there no more; a rescan may find it again.
    Vanished,
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        use rustix::io::Errno;
        const VANISHED: [Errno; 3] = [Errno::NOENT, Errno::NODEV, Errno::NXIO];
        match Errno::from_io_error(&error) {
            Some(errno) if VANISHED.contains(&errno) => Fault::Vanished,
            _ => Fault::Failed,
        }
    }
}

/// Which topics are read (`[sources] include`, `exclude`). No include allows all.
#[derive(Debug)]
struct Filter {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Filter {
    fn new(sources: &config::Sources) -> Filter {
        Filter {
            include: sources.include.clone(),
            exclude: sources.exclude.clone(),
        }
    }

    fn allows(&self, topic: &str) -> bool {
        let matches = |pattern: &String| name::matches(pattern, topic);
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }

    /// Whether a topic of `channels` could be allowed; if not, their source is never read.
    fn may_allow(&self, channels: &[Channel]) -> bool {
        channels.iter().any(|channel| {
            let topic = &channel.topic;
            (self.include.is_empty() || self.include.iter().any(|pattern| overlaps(pattern, topic)))
                // Taken as a name, `+` is matched by `+` and `#` only: by what excludes all of it.
                && !self.exclude.iter().any(|pattern| name::matches(pattern, topic))
        })
    }
}

/// Whether some topic matches both `pattern` and `channel`, in which only `+` is special.
fn overlaps(pattern: &str, channel: &str) -> bool {
    let mut segments = channel.split('/');
    for wanted in pattern.split('/') {
        match (wanted, segments.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            (a, Some(b)) if a != b && a != "+" && b != "+" => return false,
            _ => {}
        }
    }
    segments.next().is_none()
}

/// All sources that run.
struct Driver {
    filter: Filter,
    sys_root: PathBuf,
    sink: Rc<dyn Sink>,
    kinds: &'static [Kind],
    slots: Vec<Slot>,
    rescan_ms: u64,
}

impl Driver {
    fn new(sources: &config::Sources, sys_root: &Path, sink: Rc<dyn Sink>) -> Driver {
        Driver {
            filter: Filter::new(sources),
            sys_root: sys_root.to_owned(),
            sink,
            kinds: KINDS,
            slots: Vec::new(),
            rescan_ms: 0,
        }
    }

    /// Does what is due and answers when the next thing will be.
    fn turn(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.rescan_ms {
            self.rescan(now_ms);
            self.rescan_ms = now_ms + RESCAN_MS;
        }
        let mut wake_ms = self.rescan_ms;
        for slot in &mut self.slots {
            wake_ms = wake_ms.min(slot.turn(now_ms, &self.filter, &*self.sink));
        }
        self.slots.retain(Slot::is_there);
        wake_ms
    }

    fn rescan(&mut self, now_ms: u64) {
        for kind in self.kinds {
            let slots = &self.slots;
            let is_known = |key: &str| slots.iter().any(|slot| slot.key() == key);
            for source in (kind.discover)(&self.sys_root, &is_known) {
                if self.filter.may_allow(source.channels()) {
                    self.slots.push(Slot::new(source, now_ms));
                }
            }
        }
    }

    /// Whether a slow read has finished; the rest will wake `context`.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_finished = false;
        for slot in &mut self.slots {
            has_finished |= slot.poll_slow(context) == Progress::Finished;
        }
        has_finished
    }
}

/// The loop: one timer for all sources, so that readings due together cost one wake-up.
async fn drive(mut driver: Driver) {
    let mut timer = Timer::never();
    loop {
        let now_ms = boot_ms();
        let wake_ms = driver.turn(now_ms);
        timer.set_after(Duration::from_millis(wake_ms.saturating_sub(now_ms)));
        poll_fn(|context| {
            let has_finished = driver.poll_slow(context);
            match Pin::new(&mut timer).poll(context) {
                Poll::Pending if !has_finished => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

#[cfg(test)]
mod fake {
    //! A sink that writes down, and a source that does as told.

    use super::*;
    use std::cell::RefCell;
    use std::sync::{Arc, Mutex};

    #[derive(Default)]
    pub(super) struct Log(RefCell<Vec<String>>);

    impl Log {
        /// What happened since the last call.
        pub(super) fn take(&self) -> Vec<String> {
            self.0.take()
        }
    }

    impl Sink for Log {
        fn publish(&self, topic: &str, value: &str, state: State) {
            self.0
                .borrow_mut()
                .push(format!("{topic} {value} {state:?}"));
        }

        fn describe(&self, topic: &str, label: &str, unit: &str) {
            self.0
                .borrow_mut()
                .push(format!("{topic} = {label} [{unit}]"));
        }
    }

    pub(super) fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |patterns: &[&str]| patterns.iter().map(|text| text.to_string()).collect();
        Filter {
            include: owned(include),
            exclude: owned(exclude),
        }
    }

    type Answer = dyn FnMut(&mut Batch) -> Result<(), Fault> + Send;

    /// A source of `a` (exact) and `b/+`, read each second.
    #[derive(Clone)]
    pub(super) struct Told {
        pub(super) is_slow: bool,
        pub(super) answer: Arc<Mutex<Box<Answer>>>,
    }

    pub(super) static TOLD: [Channel; 2] = [
        Channel::fixed("a", "An a", "V"),
        Channel::fixed("b/+", "A b", "A"),
    ];

    impl Told {
        pub(super) fn new(
            answer: impl FnMut(&mut Batch) -> Result<(), Fault> + Send + 'static,
        ) -> Told {
            Told {
                is_slow: false,
                answer: Arc::new(Mutex::new(Box::new(answer))),
            }
        }

        /// What it answers from now on.
        pub(super) fn tell(
            &self,
            answer: impl FnMut(&mut Batch) -> Result<(), Fault> + Send + 'static,
        ) {
            *self.answer.lock().unwrap() = Box::new(answer);
        }
    }

    impl Source for Told {
        fn key(&self) -> &str {
            "told"
        }

        fn period_ms(&self) -> u64 {
            1000
        }

        fn is_slow(&self) -> bool {
            self.is_slow
        }

        fn channels(&self) -> &[Channel] {
            &TOLD
        }

        fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
            (self.answer.lock().unwrap())(batch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{Log, filter};
    use super::*;
    use std::fs;

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys/proc-basic");

    #[test]
    fn filters() {
        for (include, exclude, topic, want) in [
            (&[][..], &[][..], "a/b", true),
            (&["a/#"], &[], "a/b", true),
            (&["c", "a/+"], &[], "a/b", true),
            (&["c"], &[], "a/b", false),
            (&[], &["#"], "a/b", false),
            (&["a/#"], &["a/b"], "a/b", false),
            (&["a/#"], &["a/c"], "a/b", true),
        ] {
            let filter = filter(include, exclude);
            assert_eq!(filter.allows(topic), want, "{filter:?} {topic}");
        }
    }

    #[test]
    fn a_source_is_wanted_unless_all_of_it_is_excluded() {
        let channels = [
            Channel::fixed("net/+/rx", "", "B/s"),
            Channel::fixed("net/+/tx", "", "B/s"),
        ];
        for (include, exclude, want) in [
            (&[][..], &[][..], true),
            (&[], &["#"], false),
            (&[], &["net/#"], false),
            (&[], &["+/+/+"], false),
            (&[], &["net/+/rx"], true),
            (&[], &["net/+/rx", "net/+/tx"], false),
            (&[], &["net/eth0/#"], true),
            (&["net/eth0/rx"], &[], true),
            (&["net/eth0/rx"], &["net/+/rx"], false),
            (&["net/#"], &[], true),
            (&["+/eth0/#"], &[], true),
            (&["net"], &[], false),
            (&["net/eth0/rx/more"], &[], false),
            (&["cpu/#"], &[], false),
        ] {
            let filter = filter(include, exclude);
            assert_eq!(filter.may_allow(&channels), want, "{filter:?}");
        }
    }

    #[test]
    fn a_fixture_at_a_glance() {
        let mut sources = config::Sources {
            include: vec![],
            exclude: vec!["net/#".to_owned()],
        };
        let readings = snapshot(&sources, Path::new(FIXTURE));
        let lines: Vec<_> = readings
            .iter()
            .map(|r| {
                format!(
                    "{} {} {} {:?} {}",
                    r.topic, r.value, r.unit, r.state, r.kind
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "load/1m 0.42  Ok proc",
                "load/5m 0.3  Ok proc",
                "load/15m 1.25  Ok proc",
                "memory/used 39.9 % Ok proc",
                "memory/available 256 MiB Ok proc",
                "swap/used 25 % Ok proc",
                "uptime 93784 s Ok proc",
            ]
        );
        sources.exclude = vec!["#".to_owned()];
        assert_eq!(snapshot(&sources, Path::new(FIXTURE)), []);
        sources.exclude.clear();
        assert_eq!(snapshot(&sources, Path::new("/nowhere")), []);
    }

    #[test]
    fn the_loop_publishes_on_an_executor() {
        let log = Rc::new(Log::default());
        let executor = LocalExecutor::new();
        let include = vec!["uptime".to_owned()];
        let sources = config::Sources {
            include,
            exclude: vec![],
        };
        start(
            &executor,
            &sources,
            Path::new(FIXTURE),
            Rc::<Log>::clone(&log),
        );
        assert!(executor.try_tick());
        assert_eq!(log.take(), ["uptime = Uptime [s]", "uptime 93784 Ok"]);
    }

    fn discover_slow(_: &Path, is_known: &dyn Fn(&str) -> bool) -> Found {
        let mut told = fake::Told::new(|batch| {
            std::thread::sleep(Duration::from_millis(100));
            batch.number(&fake::TOLD[0], 7.0, 0);
            Ok(())
        });
        told.is_slow = true;
        if is_known("told") {
            vec![]
        } else {
            vec![Box::new(told)]
        }
    }

    #[test]
    fn a_slow_read_wakes_the_loop_and_delays_nobody() {
        let log = Rc::new(Log::default());
        let include = vec!["a".to_owned(), "uptime".to_owned()];
        let sources = config::Sources {
            include,
            exclude: vec![],
        };
        let mut driver = Driver::new(&sources, Path::new(FIXTURE), Rc::<Log>::clone(&log));
        driver.kinds = &[
            Kind {
                name: "slow",
                discover: discover_slow,
            },
            Kind {
                name: "proc",
                discover: proc::discover,
            },
        ];
        let executor = LocalExecutor::new();
        executor.spawn(drive(driver)).detach();
        assert!(executor.try_tick());
        assert_eq!(log.take(), ["uptime = Uptime [s]", "uptime 93784 Ok"]);
        let both = smol::future::or(executor.run(std::future::pending()), async {
            Timer::after(Duration::from_millis(450)).await;
        });
        smol::block_on(both);
        assert_eq!(log.take(), ["a = An a [V]", "a 7 Ok"]);
    }

    /// The file `sensor` below the system root, whose text is a number.
    struct Sensor(PathBuf);

    impl Source for Sensor {
        fn key(&self) -> &str {
            "sensor"
        }

        fn period_ms(&self) -> u64 {
            1000
        }

        fn channels(&self) -> &[Channel] {
            &fake::TOLD
        }

        fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
            let value = fs::read_to_string(&self.0)?
                .parse()
                .map_err(|_| Fault::Failed)?;
            batch.number(&fake::TOLD[0], value, 1);
            Ok(())
        }
    }

    fn discover_sensor(sys_root: &Path, is_known: &dyn Fn(&str) -> bool) -> Found {
        let path = sys_root.join("sensor");
        let is_new = path.exists() && !is_known("sensor");
        if is_new {
            vec![Box::new(Sensor(path))]
        } else {
            vec![]
        }
    }

    #[test]
    fn a_source_vanishes_and_comes_back_by_itself() {
        let sys_root = std::env::temp_dir().join(format!("encke-source-{}", std::process::id()));
        fs::create_dir_all(&sys_root).unwrap();
        let sensor = sys_root.join("sensor");
        let log = Rc::new(Log::default());
        let sources = config::Sources {
            include: vec![],
            exclude: vec![],
        };
        let mut driver = Driver::new(&sources, &sys_root, Rc::<Log>::clone(&log));
        driver.kinds = &[Kind {
            name: "sensor",
            discover: discover_sensor,
        }];

        assert_eq!(driver.turn(1000), 1000 + RESCAN_MS);
        fs::write(&sensor, "4.25").unwrap();
        assert_eq!(driver.turn(11_000), 12_000);
        assert_eq!(log.take(), ["a = An a [V]", "a 4.2 Ok"]);
        fs::remove_file(&sensor).unwrap();
        driver.turn(12_000);
        assert_eq!(log.take(), ["a 4.2 Gone"]);
        assert!(driver.slots.is_empty());
        fs::write(&sensor, "5").unwrap();
        assert_eq!(driver.turn(20_999), 21_000);
        assert_eq!(log.take(), [""; 0]);
        driver.turn(21_000);
        assert_eq!(log.take(), ["a = An a [V]", "a 5 Ok"]);
        driver.turn(31_000);
        assert_eq!(driver.slots.len(), 1, "a rescan finds nothing twice");
        fs::remove_dir_all(&sys_root).unwrap();
    }

    #[test]
    fn an_excluded_source_has_no_slot() {
        let log = Rc::new(Log::default());
        let exclude = vec!["net/#".to_owned(), "cpu/#".to_owned(), "load/+".to_owned()];
        let sources = config::Sources {
            include: vec![],
            exclude,
        };
        let mut driver = Driver::new(&sources, Path::new(FIXTURE), log);
        driver.turn(1000);
        let keys: Vec<_> = driver.slots.iter().map(Slot::key).collect();
        assert_eq!(keys, ["proc/meminfo", "proc/uptime"]);
    }
}
