//! Temperatures of a 1-wire bus: the sensors that the kernel's w1_therm drives.
//!
//! Follows Documentation/w1/slaves/w1_therm.rst: `temperature`, `w1_slave` (nine bytes, their
//! checksum, `t=`) and `therm_bulk_read`. Each bus is one source, for a conversion takes its bus
//! 750 ms; its sensors come and go between reads. It never writes but to start a conversion:
//! neither a resolution nor an EEPROM.

use super::batch::{Batch, Channel, READINGS_MAX};
use super::{Fault, Found, Known, Source, sysfs};
use crate::name;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How names of sensors begin, and what they are.
const FAMILIES: [(&str, &str); 5] = [
    ("10-", "DS18S20"),
    ("22-", "DS1822"),
    ("28-", "DS18B20"),
    ("3b-", "DS1825"),
    ("42-", "DS28EA00"),
];

/// Every four sensors begun add this to the time between reads: one by one they keep the bus busy
/// for three seconds.
const PERIOD_MS: u64 = 5000;
/// How often one sensor is asked in one read.
const TRIES: usize = 3;
/// What these sensors can measure.
const RANGE: std::ops::RangeInclusive<f64> = -55.0..=125.0;
/// How far a doubtful temperature may be from the last one to be believed.
const STEP_MAX: f64 = 5.0;
/// How often, and how many times, to ask whether a conversion of the whole bus is over.
const POLL: Duration = Duration::from_millis(100);
const POLLS_MAX: usize = 10;

static CHANNELS: [Channel; 1] = [Channel::fixed("w1/+/temperature", "Temperature", "\u{b0}C")];

/// The buses that have a sensor and are not known.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let mut found: Found = Vec::new();
    for (name, folder) in sysfs::entries(&sys_root.join("sys/bus/w1/devices")) {
        let key = format!("sys/bus/w1/devices/{name}");
        if !name.starts_with("w1_bus_master") || known.has(&key) {
            continue;
        }
        let count = sensors(&folder).len() as u64;
        if count > 0 {
            found.push(Box::new(Bus {
                key,
                folder,
                period_ms: PERIOD_MS * (1 + count / 4),
                // A copy of a bus converts nothing, and stays as it is.
                is_live: sys_root == Path::new("/"),
                sensors: Vec::new(),
            }));
        }
    }
    found
}

/// Names of the temperature sensors of a bus, and of their kinds.
fn sensors(bus: &Path) -> Vec<(String, &'static str)> {
    let listed = sysfs::entries(bus).into_iter().filter_map(|(name, _)| {
        let family = FAMILIES.iter().find(|(code, _)| name.starts_with(code))?;
        Some((name, family.1))
    });
    listed.take(READINGS_MAX).collect()
}

struct Bus {
    key: String,
    folder: PathBuf,
    period_ms: u64,
    is_live: bool,
    sensors: Vec<Sensor>,
}

struct Sensor {
    name: String,
    channel: Channel,
    last: Option<f64>,
}

impl Source for Bus {
    fn key(&self) -> &str {
        &self.key
    }

    fn period_ms(&self) -> u64 {
        self.period_ms
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn channels(&self) -> &[Channel] {
        &CHANNELS
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        fs::metadata(&self.folder)?;
        let listed = sensors(&self.folder);
        self.sensors
            .retain(|sensor| listed.iter().any(|(name, _)| *name == sensor.name));
        for (name, family) in listed {
            if !self.sensors.iter().any(|sensor| sensor.name == name) {
                let topic = format!("w1/{}/temperature", name::slug(&name));
                let channel = Channel::named(topic, format!("{family} {name}"), "\u{b0}C");
                self.sensors.push(Sensor {
                    name,
                    channel,
                    last: None,
                });
            }
        }
        if self.is_live && self.sensors.len() > 1 {
            convert_all(&self.folder.join("therm_bulk_read"));
        }
        for sensor in &mut self.sensors {
            let folder = self.folder.join(&sensor.name);
            match measure(sensor.last, |file| sysfs::text(&folder.join(file))) {
                Ok(celsius) => {
                    sensor.last = Some(celsius);
                    batch.number(&sensor.channel, celsius, 1);
                }
                Err(Fault::Failed) => batch.fault(&sensor.channel),
                Err(Fault::Vanished) => {}
            }
        }
        Ok(())
    }
}

/// Has all sensors of a bus convert at once. Whatever comes of it, and without the right to it:
/// a sensor that has nothing ready converts when it is asked.
fn convert_all(switch: &Path) {
    let opened = OpenOptions::new().write(true).open(switch);
    if opened.is_ok_and(|mut file| file.write_all(b"trigger\n").is_ok()) {
        wait_for(|| sysfs::text(switch));
    }
}

fn wait_for(mut status: impl FnMut() -> Result<String, Fault>) {
    for _ in 0..POLLS_MAX {
        if status().as_deref() != Ok("-1") {
            return;
        }
        thread::sleep(POLL);
    }
}

/// The temperature of the sensor whose files `ask` reads. The kernel leaves `temperature` empty
/// after an error, and cannot say there whether a value is one; `w1_slave` can, so that is asked
/// when there is a doubt.
fn measure(
    last: Option<f64>,
    mut ask: impl FnMut(&str) -> Result<String, Fault>,
) -> Result<f64, Fault> {
    for attempt in 0..TRIES {
        let (first, second) = match attempt {
            0 => ("temperature", "w1_slave"),
            _ => ("w1_slave", "temperature"),
        };
        let text = match ask(first) {
            Err(Fault::Vanished) => ask(second),
            answered => answered,
        };
        match text.map(|text| parse(&text, attempt > 0)) {
            Ok(Some((celsius, is_sure))) => {
                let is_near = |last: f64| (last - celsius).abs() <= STEP_MAX;
                if is_sure || last.is_some_and(is_near) {
                    return Ok(celsius);
                }
            }
            Err(Fault::Vanished) => return Err(Fault::Vanished),
            Ok(None) | Err(Fault::Failed) => {}
        }
    }
    Err(Fault::Failed)
}

/// The temperature in the text of either file, and whether it is beyond doubt. 85 is what a sensor
/// holds that was just powered, and 0 what a bus reads that is shorted; of the first, byte 6 of
/// `w1_slave` is a sign, and the second has not one bit set. Without `w1_slave` that value must be
/// told again.
fn parse(text: &str, is_again: bool) -> Option<(f64, bool)> {
    let (milli, is_sure) = match text.split_once("t=") {
        None => (text, is_again || !["85000", "0"].contains(&text)),
        Some((bytes, _)) if !bytes.contains("YES") || bytes.starts_with(ZEROS) => return None,
        Some((bytes, milli)) => (
            milli,
            milli != "85000" || bytes.split(' ').nth(6) != Some("0c"),
        ),
    };
    let celsius = milli.parse::<f64>().ok()? / 1000.0;
    RANGE.contains(&celsius).then_some((celsius, is_sure))
}

/// A whole answer without one bit set; its checksum is right.
const ZEROS: &str = "00 00 00 00 00 00 00 00 00";

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::*;
    use std::collections::VecDeque;

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys/w1-pi");
    const GOOD: &str =
        "77 01 4b 46 7f ff 09 10 6f : crc=6f YES\n77 01 4b 46 7f ff 09 10 6f t=23437";
    const BAD: &str = "77 01 4b 46 7f ff 09 10 6e : crc=6f NO\n77 01 4b 46 7f ff 09 10 6f t=23437";
    const JUST_POWERED: &str =
        "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000";
    const HOT: &str = "50 05 4b 46 7f ff 10 10 bd : crc=bd YES\n50 05 4b 46 7f ff 10 10 bd t=85000";
    const SHORTED: &str = "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0";
    const FREEZING: &str =
        "00 00 4b 46 7f ff 10 10 99 : crc=99 YES\n00 00 4b 46 7f ff 10 10 99 t=0";

    /// What a bus gives: topic and value of each sensor.
    fn read(bus: &mut dyn Source) -> Vec<String> {
        let mut batch = Batch::default();
        bus.read(0, &mut batch).unwrap();
        let entries = batch.entries().iter();
        entries
            .map(|entry| format!("{} {} = {}", entry.topic, entry.value, entry.label))
            .collect()
    }

    fn sys_root(name: &str) -> PathBuf {
        let name = format!("encke-w1-{name}-{}", std::process::id());
        let sys_root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&sys_root);
        sys_root
    }

    fn plug(sys_root: &Path, sensor: &str, milli: &str) -> PathBuf {
        let bus = sys_root.join("sys/bus/w1/devices/w1_bus_master1");
        fs::create_dir_all(bus.join(sensor)).unwrap();
        fs::write(bus.join(sensor).join("temperature"), milli).unwrap();
        bus.join(sensor)
    }

    #[test]
    fn a_bus_with_a_new_an_old_and_a_broken_sensor() {
        let mut found = discover(Path::new(FIXTURE), &Known(&[]));
        assert_eq!(found.len(), 1);
        let bus = &mut *found[0];
        assert_eq!(bus.key(), "sys/bus/w1/devices/w1_bus_master1");
        let want = [
            "w1/10-000802824e58/temperature -5.2 = DS18S20 10-000802824e58",
            "w1/28-0316a2798fd1/temperature 23.4 = DS18B20 28-0316a2798fd1",
            "w1/28-3c01d607cd2c/temperature null = DS18B20 28-3c01d607cd2c",
        ];
        assert_eq!(read(bus), want);
        let switch = Path::new(FIXTURE).join("sys/devices/w1_bus_master1/therm_bulk_read");
        assert_eq!(
            fs::read_to_string(switch).unwrap(),
            "0\n",
            "nothing is written to a copy"
        );
        let slots: Vec<_> = found
            .into_iter()
            .map(|source| Slot::new(source, 0))
            .collect();
        assert!(discover(Path::new(FIXTURE), &Known(&slots)).is_empty());
        assert!(discover(Path::new("/nowhere"), &Known(&[])).is_empty());
    }

    #[test]
    fn sensors_come_and_go_and_so_does_the_bus() {
        let root = sys_root("plug");
        let first = plug(&root, "28-000000000001", "20000\n");
        let bus = &mut *discover(&root, &Known(&[])).pop().unwrap();
        assert_eq!(
            read(bus),
            ["w1/28-000000000001/temperature 20 = DS18B20 28-000000000001"]
        );
        plug(&root, "3b-000000000002", "30000\n");
        assert_eq!(read(bus).len(), 2);
        fs::remove_dir_all(&first).unwrap();
        assert_eq!(
            read(bus),
            ["w1/3b-000000000002/temperature 30 = DS1825 3b-000000000002"]
        );
        plug(&root, "28-000000000001", "");
        assert_eq!(
            read(bus)[1],
            "w1/28-000000000001/temperature null = DS18B20 28-000000000001"
        );
        plug(&root, "28-000000000001", "125001");
        assert!(read(bus)[1].contains(" null "), "out of range");
        fs::remove_file(first.join("temperature")).unwrap();
        assert_eq!(read(bus).len(), 1, "no driver any more");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(bus.read(0, &mut Batch::default()), Err(Fault::Vanished));
    }

    #[test]
    fn sensors_at_and_above_the_limit_and_their_period() {
        for (count, want, period_ms) in [
            (1, 1, 5000),
            (3, 3, 5000),
            (4, 4, 10_000),
            (READINGS_MAX, READINGS_MAX, 85_000),
            (READINGS_MAX + 1, READINGS_MAX, 85_000),
        ] {
            let root = sys_root("many");
            for at in 0..count {
                plug(&root, &format!("28-{at:012x}"), "20000");
            }
            let bus = &mut *discover(&root, &Known(&[])).pop().unwrap();
            assert_eq!((read(bus).len(), bus.period_ms()), (want, period_ms));
            fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn all_convert_at_once_when_the_bus_is_real() {
        let root = sys_root("bulk");
        let sensor = plug(&root, "28-000000000001", "20000");
        let folder = sensor.parent().unwrap().to_owned();
        let switch = folder.join("therm_bulk_read");
        let mut bus = Bus {
            key: String::new(),
            folder,
            period_ms: PERIOD_MS,
            is_live: true,
            sensors: Vec::new(),
        };
        plug(&root, "28-000000000002", "20000");
        assert_eq!(read(&mut bus).len(), 2, "without the switch");
        fs::write(&switch, "0\n").unwrap();
        fs::remove_dir_all(&sensor).unwrap();
        read(&mut bus);
        assert_eq!(
            fs::read_to_string(&switch).unwrap(),
            "0\n",
            "not for one sensor"
        );
        plug(&root, "28-000000000001", "20000");
        assert_eq!(read(&mut bus).len(), 2);
        assert_eq!(fs::read_to_string(&switch).unwrap(), "trigger\n");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_conversion_is_waited_for_but_not_for_ever() {
        let polls = |answers: &[Result<&str, Fault>], last: Result<&str, Fault>| {
            let mut answers = answers.iter();
            let mut polls = 0;
            wait_for(|| {
                polls += 1;
                (*answers.next().unwrap_or(&last)).map(str::to_owned)
            });
            polls
        };
        assert_eq!(polls(&[Ok("-1"), Ok("-1")], Ok("1")), 3);
        assert_eq!(polls(&[], Ok("0")), 1);
        assert_eq!(polls(&[], Err(Fault::Failed)), 1);
        assert_eq!(polls(&[], Ok("-1")), POLLS_MAX);
    }

    /// What comes of answers, one per try, and which files were asked for them.
    fn tries(last: Option<f64>, answers: &[&str]) -> (Result<f64, Fault>, Vec<String>) {
        let mut answers: VecDeque<_> = answers.iter().collect();
        let mut asked = Vec::new();
        let outcome = measure(last, |file| {
            asked.push(file.to_owned());
            Ok((*answers.pop_front().expect("another try")).to_owned())
        });
        (outcome, asked)
    }

    #[test]
    fn false_readings_and_wrong_checksums_are_asked_again() {
        for (last, answers, want) in [
            (None, &["23437"][..], Ok(23.437)),
            (None, &["-55000"], Ok(-55.0)),
            (None, &["125000"], Ok(125.0)),
            (None, &["125001", GOOD], Ok(23.437)),
            (None, &["-55001", GOOD], Ok(23.437)),
            (None, &["127937", GOOD], Ok(23.437)),
            (None, &["", BAD, GOOD], Ok(23.437)),
            (None, &["", BAD, BAD], Err(Fault::Failed)),
            (None, &["", "", ""], Err(Fault::Failed)),
            (None, &["85000", GOOD], Ok(23.437)),
            (None, &["85000", JUST_POWERED, GOOD], Ok(23.437)),
            (
                Some(21.0),
                &["85000", JUST_POWERED, JUST_POWERED],
                Err(Fault::Failed),
            ),
            (
                None,
                &["85000", JUST_POWERED, JUST_POWERED],
                Err(Fault::Failed),
            ),
            (None, &["85000", HOT], Ok(85.0)),
            (Some(80.0), &["85000"], Ok(85.0)),
            (Some(79.9), &["85000", HOT], Ok(85.0)),
            (Some(84.0), &[JUST_POWERED], Ok(85.0)),
            (None, &["0", SHORTED, SHORTED], Err(Fault::Failed)),
            (Some(1.0), &["0"], Ok(0.0)),
            (None, &["0", FREEZING], Ok(0.0)),
            (None, &[SHORTED, GOOD], Ok(23.437)),
            (None, &["85000", "85000"], Ok(85.0)),
            (None, &["t=1", "YES t=", "x"], Err(Fault::Failed)),
        ] {
            let (outcome, asked) = tries(last, answers);
            assert_eq!(outcome, want, "{last:?} {answers:?}");
            let order = ["temperature", "w1_slave", "w1_slave"];
            assert_eq!(asked, order[..answers.len()], "{answers:?}");
        }
    }

    #[test]
    fn a_sensor_without_one_file_or_both() {
        let mut asked = Vec::new();
        let only = |name: &'static str, text: &'static str| {
            move |file: &str| {
                if file == name {
                    Ok(text.to_owned())
                } else {
                    Err(Fault::Vanished)
                }
            }
        };
        assert_eq!(measure(None, only("w1_slave", GOOD)), Ok(23.437));
        assert_eq!(measure(None, only("w1_slave", BAD)), Err(Fault::Failed));
        assert_eq!(measure(None, only("temperature", "85000")), Ok(85.0));
        let outcome = measure(None, |file| {
            asked.push(file.to_owned());
            Err(Fault::Vanished)
        });
        assert_eq!((outcome, asked.len()), (Err(Fault::Vanished), 2));
    }
}
