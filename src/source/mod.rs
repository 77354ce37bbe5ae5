//! Sources of readings: the table of their kinds, and what a source is.
//!
//! Follows DESIGN.md 3 "Events" (states) and 5 (one thread; a read that blocks goes through
//! `smol::unblock`). A new kind is one file with a `discover` function and one row in `KINDS`; a
//! kind that must be configured is one variant of `config::SourceEntry` and one arm, in
//! `program` when it is read at a period, in `rows.rs` when it speaks by itself. It knows neither
//! topics of others nor how readings are sent.
//!
//! When a reading is published: when its value or state changed; while it is good, also when the
//! last time was `REPUBLISH_MS` ago, so that its age stays young; once as stale (with its last
//! value) when three periods went by without a refresh; once as an error (with null); once as gone.

mod batch;
mod command;
mod datagram;
mod desk;
mod driver;
mod exec;
mod feed;
mod frame;
mod heading;
mod hwmon;
mod iio;
mod line;
mod pieces;
mod power_supply;
mod proc;
mod rows;
mod slot;
mod snapshot;
mod stdin;
mod sysfs;
mod thermal;
mod told;
mod w1;
mod wifi;

use crate::config::SourceEntry;
use crate::hub::event::State;
use crate::hub::topic::Limits;
use batch::{Batch, Channel};
pub use command::end_all as end_commands;
pub use driver::Pulse;
pub use rows::{Sources, start};
use slot::Slot;
pub use snapshot::{Snapshot, snapshot};
use std::path::Path;

/// A good reading is published at least this often, changed or not.
const REPUBLISH_MS: u64 = 10_000;
/// How often kinds look for sources that were not there before.
const RESCAN_MS: u64 = 10_000;
/// The longest wait between two tries of a source that fails.
const BACKOFF_MS_MAX: u64 = 60_000;

type Found = Vec<Box<dyn Source>>;
type Discover = fn(sys_root: &Path, known: &Known<'_>) -> Found;

/// A kind of source.
struct Kind {
    name: &'static str,
    /// Finds the sources below the system root, except those whose key is known already. Called
    /// again every `RESCAN_MS`; cheap, and reads as little as it can.
    discover: Discover,
}

static KINDS: &[Kind] = &[
    Kind {
        name: "proc",
        discover: proc::discover,
    },
    Kind {
        name: "thermal",
        discover: thermal::discover,
    },
    Kind {
        name: "hwmon",
        discover: hwmon::discover,
    },
    Kind {
        name: "iio",
        discover: iio::discover,
    },
    Kind {
        name: "w1",
        discover: w1::discover,
    },
    Kind {
        name: "power_supply",
        discover: power_supply::discover,
    },
    Kind {
        name: "wifi",
        discover: wifi::discover,
    },
];

/// The source of a row of `[[source]]` that is read at a period; `None` for any other row.
fn program(entry: &SourceEntry) -> Option<Box<dyn Source>> {
    let SourceEntry::Exec(exec) = entry else {
        return None;
    };
    let program = exec::Program::new(exec, feed::Complaint::aloud(&exec.place))?;
    Some(Box::new(program))
}

/// The sources that run already.
struct Known<'a>(&'a [Slot]);

impl Known<'_> {
    /// Whether the source with this key runs.
    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|slot| slot.key() == key)
    }

    /// Whether topics that begin with `stem`, two segments, are taken.
    fn has_stem(&self, stem: &str) -> bool {
        self.0.iter().any(|slot| slot.has_stem(stem))
    }
}

/// Where readings go. Called only from the executor's tasks.
pub trait Sink {
    /// Publishes a reading. `value` is canonical JSON text: a number, `true`, `false`, a string
    /// already encoded, or `null`.
    fn publish(&self, topic: &str, value: &str, state: State);
    /// Says what a topic is called and measured in, before its first reading and again when it
    /// comes back.
    fn describe(&self, topic: &str, about: &About);
}

/// What a topic is called and measured in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// What people call it.
    pub label: String,
    /// The unit to show (`\u{b0}C`, `%`, `B/s`, `s`), empty for none.
    pub unit: String,
    /// When its value is no longer ordinary, in that unit.
    pub limits: Limits,
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

#[cfg(test)]
mod fake {
    //! A sink that writes down, and a source that does as told.

    use super::desk::Desk;
    use super::*;
    use crate::config::Config;
    use std::cell::RefCell;
    use std::rc::Rc;
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

        fn describe(&self, topic: &str, about: &About) {
            let About { label, unit, .. } = about;
            self.0
                .borrow_mut()
                .push(format!("{topic} = {label} [{unit}]"));
        }
    }

    /// A configuration that reads `include` without `exclude`.
    pub(super) fn config(include: &[&str], exclude: &[&str]) -> Config {
        let owned = |patterns: &[&str]| patterns.iter().map(|text| text.to_string()).collect();
        let mut config = Config::default();
        config.sources.include = owned(include);
        config.sources.exclude = owned(exclude);
        config.topic.clear();
        config
    }

    pub(super) fn desk(include: &[&str], exclude: &[&str], sink: Rc<dyn Sink>) -> Desk {
        Desk::new(&config(include, exclude), sink)
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
    use super::driver::{Driver, drive};
    use super::fake::{Log, config};
    use super::*;
    use async_io::Timer;
    use smol::LocalExecutor;
    use std::cell::RefCell;
    use std::fs;
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::time::Duration;

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys/proc-basic");

    #[test]
    fn a_fixture_at_a_glance() {
        let at_a_glance =
            |exclude| snapshot(&config(&[], exclude), Path::new(FIXTURE), Duration::ZERO);
        let readings = at_a_glance(&["net/#"]);
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
        assert_eq!(at_a_glance(&["#"]), []);
        let nowhere = snapshot(&config(&[], &[]), Path::new("/nowhere"), Duration::ZERO);
        assert_eq!(nowhere, []);
    }

    #[test]
    fn the_loop_publishes_on_an_executor() {
        let log = Rc::new(Log::default());
        let executor = LocalExecutor::new();
        let config = config(&["uptime"], &[]);
        let _sources = start(
            &executor,
            &config,
            Path::new(FIXTURE),
            Rc::<Log>::clone(&log),
        );
        assert!(executor.try_tick());
        assert_eq!(log.take(), ["uptime = Uptime [s]", "uptime 93784 Ok"]);
    }

    fn discover_slow(_: &Path, known: &Known<'_>) -> Found {
        let mut told = fake::Told::new(|batch| {
            std::thread::sleep(Duration::from_millis(100));
            batch.number(&fake::TOLD[0], 7.0, 0);
            Ok(())
        });
        told.is_slow = true;
        if known.has("told") {
            vec![]
        } else {
            vec![Box::new(told)]
        }
    }

    #[test]
    fn a_slow_read_wakes_the_loop_and_delays_nobody() {
        let log = Rc::new(Log::default());
        let config = config(&["a", "uptime"], &[]);
        let mut driver = Driver::new(&config, Path::new(FIXTURE), Rc::<Log>::clone(&log));
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
        executor
            .spawn(drive(Rc::new(RefCell::new(driver))))
            .detach();
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

    fn discover_sensor(sys_root: &Path, known: &Known<'_>) -> Found {
        let path = sys_root.join("sensor");
        let is_new = path.exists() && !known.has("sensor");
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
        let config = config(&[], &[]);
        let mut driver = Driver::new(&config, &sys_root, Rc::<Log>::clone(&log));
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
        let config = config(&[], &["net/#", "cpu/#", "load/+"]);
        let mut driver = Driver::new(&config, Path::new(FIXTURE), log);
        driver.turn(1000);
        let keys: Vec<_> = driver.slots.iter().map(Slot::key).collect();
        assert_eq!(keys, ["proc/meminfo", "proc/uptime"]);
    }
}
