//! Hardware monitoring chips: temperatures, voltages, currents, fans and their alarms.
//!
//! Follows Documentation/hwmon/sysfs-interface.rst: fixed-point integers, one per file. One chip is
//! one source, and `ROWS` and `FILES` are all that it knows. A chip is named by its `name` and told
//! from others of that name by the device it hangs on, never by its number. It never writes, and
//! reads each file once: a driver that has nothing yet (EAGAIN) gives an error and is not pressed.

use super::batch::{Batch, Channel, READINGS_MAX, unique_slug};
use super::{Fault, Found, Known, Source, sysfs};
use crate::hub::topic::Limits;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, mem};

const CLASS: &str = "sys/class/hwmon";
/// Time from read to read of a chip that is at hand.
const PERIOD_MS: u64 = 1000;
/// The longest that a chip's own `update_interval` may make it.
const PERIOD_MS_MAX: u64 = 60_000;
/// A chip that took longer is read on a thread the next time.
const QUICK: Duration = Duration::from_millis(2);

/// Chips with this in their path only repeat what is below the class, for tools that know no other.
static MIRRORS: [(&str, &str); 3] = [
    ("/thermal_zone", "sys/class/thermal"),
    ("/w1_bus_master", "sys/bus/w1/devices"),
    ("/power_supply/", "sys/class/power_supply"),
];

/// Buses on which a read takes long, and time from read to read. Asking a disk may keep it awake.
static SLOW_BUSES: [(&str, u64); 4] = [
    ("/i2c-", 2000),
    ("/usb", 2000),
    ("/nvme", 5000),
    ("/ata", 30_000),
];

/// What people call a channel that its driver leaves without a label: chip, channel, label.
static LABELS: [(&str, &str, &str); 1] = [("rpi_volt", "in0", "Supply voltage")];

/// A quantity, by the letters its files begin with.
struct Row {
    prefix: &'static str,
    word: &'static str,
    unit: &'static str,
    divisor: f64,
    decimals: usize,
    /// A limit outside of this, in the unit, stands for none.
    limits: (f64, f64),
}

const fn row(
    prefix: &'static str,
    word: &'static str,
    unit: &'static str,
    divisor: f64,
    decimals: usize,
    limits: (f64, f64),
) -> Row {
    Row {
        prefix,
        word,
        unit,
        divisor,
        decimals,
        limits,
    }
}

static ROWS: [Row; 10] = [
    row("temp", "temperature", "\u{b0}C", 1e3, 1, (-50.0, 127.0)),
    row("in", "voltage", "V", 1e3, 3, (0.0, 1000.0)),
    row("curr", "current", "A", 1e3, 3, (0.0, 1000.0)),
    row("power", "power", "W", 1e6, 3, (0.0, 100_000.0)),
    row("energy", "energy", "J", 1e6, 1, (0.0, 0.0)),
    row("humidity", "humidity", "%RH", 1e3, 1, (0.0, 100.0)),
    row("fan", "fan", "RPM", 1.0, 0, (0.0, 50_000.0)),
    row("freq", "frequency", "Hz", 1.0, 0, (0.0, 0.0)),
    row("pwm", "fan drive", "%", 2.55, 0, (0.0, 0.0)),
    row("intrusion", "chassis intrusion", "", 1.0, 0, (0.0, 0.0)),
];

/// What may follow a channel's name in the name of a file.
static FILES: [&str; 17] = [
    "_input",
    "_average",
    "", // pwm only
    "_label",
    "_fault",
    "_enable",
    "_lcrit",
    "_min",
    "_max",
    "_crit",
    "_emergency_alarm", // from here on, what is worse comes first
    "_lcrit_alarm",
    "_crit_alarm",
    "_min_alarm",
    "_max_alarm",
    "_cap_alarm",
    "_alarm",
];
/// Of `FILES`, as bits: those that hold the value.
const VALUES: u32 = 0b111;
const LABEL: u32 = 1 << 3;
const FAULT: u32 = 1 << 4;
const ENABLE: u32 = 1 << 5;
/// The first of four limits, in the order of `Limits`.
const LCRIT_AT: usize = 6;
const ALARMS: u32 = 0b111_1111 << 10;

/// What a chip has of one thing: `temp1` and the files that begin so.
struct Feature {
    name: String,
    row: &'static Row,
    /// Which of `FILES` there are.
    files: u32,
}

impl Feature {
    fn has(&self, files: u32) -> bool {
        self.files & files != 0
    }

    /// Those of `files` that there are, in the order of the table.
    fn suffixes(&self, files: u32) -> impl Iterator<Item = &'static str> {
        let files = self.files & files;
        let numbered = FILES.iter().enumerate();
        numbered
            .filter(move |(at, _)| files >> at & 1 != 0)
            .map(|(_, suffix)| *suffix)
    }

    /// The value, `NAN` when the chip says that it is not to be trusted, `None` when it is switched
    /// off.
    fn measure(&self, folder: &Path) -> io::Result<Option<f64>> {
        let suffix = self.suffixes(VALUES).next().unwrap_or_default();
        let is_off = || sysfs::number(&path(folder, &self.name, "_enable")) == Ok(0.0);
        if self.has(FAULT) && sysfs::is_set(&path(folder, &self.name, "_fault")) {
            return Ok(Some(f64::NAN));
        }
        match sysfs::ask_number(&path(folder, &self.name, suffix)) {
            Ok(value) => Ok(Some(value / self.row.divisor)),
            // A driver refuses to read what is switched off, so only then it matters why.
            Err(_) if self.has(ENABLE) && is_off() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The worst alarm that is raised, or `ok`.
    fn alarm(&self, folder: &Path) -> io::Result<&'static str> {
        let mut outcome = Ok("ok");
        for suffix in self.suffixes(ALARMS) {
            match sysfs::ask_number(&path(folder, &self.name, suffix)) {
                Ok(0.0) => {}
                Ok(_) => return Ok(suffix[1..].trim_end_matches("_alarm")),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// The limits that the chip itself goes by. Chips come up with the ends of their scale, with
    /// nought and with nonsense: what is no limit is left out, and all when they are out of order.
    fn limits(&self, folder: &Path) -> Limits {
        let (low, high) = self.row.limits;
        let limit = |at: usize| {
            let suffix = FILES[at];
            let is_there = self.has(1 << at);
            let value = is_there.then(|| sysfs::number(&path(folder, &self.name, suffix)));
            let limit = value?.ok()? / self.row.divisor;
            (limit > low && limit < high && limit != 0.0).then_some(limit as f32)
        };
        let [lcrit, min, max, crit] = [0, 1, 2, 3].map(|at| limit(LCRIT_AT + at));
        let given = [lcrit, min, max, crit].into_iter().flatten();
        let is_range = min.is_none() || max.is_none() || min < max;
        if !is_range || !given.is_sorted() {
            return Limits::default();
        }
        Limits {
            lcrit,
            min,
            max,
            crit,
        }
    }
}

fn path(folder: &Path, name: &str, suffix: &str) -> PathBuf {
    let mut path = folder.join(name);
    path.as_mut_os_string().push(suffix);
    path
}

/// What is in the folder of a chip, in the order of names.
fn features(folder: &Path) -> Vec<Feature> {
    let mut features: Vec<Feature> = Vec::new();
    for (file, _) in sysfs::entries(folder) {
        let is_digit = |c: char| c.is_ascii_digit();
        let prefix = &file[..file.find(is_digit).unwrap_or(file.len())];
        let rest = file[prefix.len()..].trim_start_matches(is_digit);
        let (name, _) = file.split_at(file.len() - rest.len());
        let row = ROWS.iter().find(|row| row.prefix == prefix);
        let bit = FILES.iter().position(|suffix| *suffix == rest);
        let (Some(row), Some(bit)) = (row, bit) else {
            continue;
        };
        // The folder `power` of any device is no channel.
        if name == prefix {
            continue;
        }
        match features.last_mut().filter(|last| last.name == name) {
            Some(last) => last.files |= 1 << bit,
            None => features.push(Feature {
                name: name.to_owned(),
                row,
                files: 1 << bit,
            }),
        }
    }
    features
}

/// The readings of a chip, and behind them its alarms, one for each feature that has some.
fn channels(chip: &str, folder: &Path, features: &[Feature]) -> Vec<Channel> {
    let mut readings: Vec<Channel> = Vec::new();
    let mut alarms: Vec<Channel> = Vec::new();
    let mut slugs: Vec<String> = Vec::new();
    for feature in features {
        let Feature { name, row, .. } = feature;
        let given = feature.has(LABEL).then(|| path(folder, name, "_label"));
        let given = given.and_then(|path| sysfs::text(&path).ok());
        let given = given.filter(|label| !label.is_empty());
        let special = LABELS
            .iter()
            .find(|label| (label.0, label.1) == (chip, name));
        let label = match (&given, special) {
            (Some(label), _) => [chip, " ", label].concat(),
            (None, Some((_, _, label))) => (*label).to_owned(),
            (None, None) => {
                let same = features
                    .iter()
                    .filter(|other| other.row.prefix == row.prefix);
                let number = name.trim_start_matches(row.prefix);
                let number = if same.count() > 1 {
                    [" ", number]
                } else {
                    [""; 2]
                };
                [chip, " ", row.word, number[0], number[1]].concat()
            }
        };
        let slug = unique_slug(given.as_deref().unwrap_or(name), |slug| {
            slugs.iter().any(|other| other == slug)
        });
        let topic = ["hwmon/", chip, "/", &slug].concat();
        slugs.push(slug.to_string());
        if feature.has(ALARMS) {
            let [topic, label] = [[&topic, "/alarm"], [&label, " alarm"]].map(|both| both.concat());
            alarms.push(Channel::named(topic, label, ""));
        }
        if feature.has(VALUES) {
            readings.push(Channel::named(topic, label, row.unit));
        }
    }
    readings.append(&mut alarms);
    readings.truncate(READINGS_MAX);
    readings
}

/// The chips below the system root that are not known and mirror nothing.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let mut new = Vec::new();
    for (number, link) in sysfs::entries(&sys_root.join(CLASS)) {
        let Ok(name) = sysfs::text(&link.join("name")) else {
            continue;
        };
        let device = sysfs::device_path(&link, sys_root);
        // Virtual chips hang on no device that would tell them apart.
        let is_virtual = device.contains("/virtual/");
        let own = if is_virtual { &number } else { &name };
        let key = [&device, "/", own].concat();
        let is_mirror = MIRRORS
            .iter()
            .any(|(part, class)| device.contains(part) && sys_root.join(class).exists());
        if !is_mirror && !known.has(&key) {
            // The folder itself: a number may be given to another device, a device's path not.
            let folder = fs::canonicalize(&link).unwrap_or(link);
            new.push((key, folder, name));
        }
    }
    new.sort();
    let mut slugs: Vec<String> = Vec::new();
    let mut found: Found = Vec::new();
    for (key, folder, name) in new {
        let features = features(&folder);
        if features.is_empty() {
            continue;
        }
        let slug = unique_slug(&name, |slug| {
            slugs.iter().any(|other| other == slug) || known.has_stem(&["hwmon/", slug].concat())
        });
        slugs.push(slug.to_string());
        let bus = SLOW_BUSES.iter().find(|(part, _)| key.contains(part));
        let own_ms = sysfs::number(&folder.join("update_interval")).unwrap_or(0.0) as u64;
        let period_ms = bus.map_or(PERIOD_MS, |(_, period_ms)| *period_ms);
        found.push(Box::new(Chip {
            channels: channels(&slug, &folder, &features),
            key,
            folder,
            features,
            period_ms: period_ms.max(own_ms.min(PERIOD_MS_MAX)),
            is_on_slow_bus: bus.is_some(),
            was_slow: false,
            has_limits: false,
        }));
    }
    found
}

struct Chip {
    key: String,
    folder: PathBuf,
    features: Vec<Feature>,
    /// One for each feature with a value, then one for each with alarms.
    channels: Vec<Channel>,
    period_ms: u64,
    is_on_slow_bus: bool,
    was_slow: bool,
    has_limits: bool,
}

impl Chip {
    /// Reads all once. Answers whether all of it answered.
    fn fill(&self, batch: &mut Batch) -> bool {
        let folder = &self.folder;
        let of = |files| move |feature: &&Feature| feature.has(files);
        let mut is_whole = true;
        let mut settle = |error: &io::Error, channel: &Channel, batch: &mut Batch| {
            is_whole = false;
            // What is no longer there is left out, and so gone.
            if error.kind() != io::ErrorKind::NotFound {
                batch.fault(channel);
            }
        };
        let mut channels = self.channels.iter();
        for (feature, channel) in self.features.iter().filter(of(VALUES)).zip(&mut channels) {
            match feature.measure(folder) {
                Ok(Some(value)) => batch.number(channel, value, feature.row.decimals),
                Ok(None) => {}
                Err(error) => settle(&error, channel, batch),
            }
        }
        for (feature, channel) in self.features.iter().filter(of(ALARMS)).zip(&mut channels) {
            match feature.alarm(folder) {
                Ok(word) => batch.text(channel, word),
                Err(error) => settle(&error, channel, batch),
            }
        }
        is_whole
    }
}

impl Source for Chip {
    fn key(&self) -> &str {
        &self.key
    }

    fn period_ms(&self) -> u64 {
        self.period_ms
    }

    fn is_slow(&self) -> bool {
        self.is_on_slow_bus || self.was_slow
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let began = Instant::now();
        if !mem::replace(&mut self.has_limits, true) {
            // Here and not when it is found, because a bus may be slow.
            let measured = self.features.iter().filter(|feature| feature.has(VALUES));
            for (feature, channel) in measured.zip(&mut self.channels) {
                channel.limits = feature.limits(&self.folder);
            }
        }
        let is_whole = self.fill(batch);
        self.was_slow = began.elapsed() > QUICK;
        // One input may fail or go for itself; without its name the whole chip is gone.
        if !is_whole && !self.folder.join("name").exists() {
            return Err(Fault::Vanished);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::super::sysfs::bench::{Copy, all_lines, fixture, lines};
    use super::*;
    use std::os::unix::fs::symlink;

    fn found(root: &Path) -> Found {
        discover(root, &Known(&[]))
    }

    /// The chip whose topics begin so.
    fn chip(root: &Path, stem: &str) -> Box<dyn Source> {
        let mut chips = found(root).into_iter();
        chips
            .find(|chip| chip.channels()[0].topic.starts_with(stem))
            .expect("it is there")
    }

    fn values(source: &mut dyn Source) -> Result<Vec<String>, Fault> {
        let lines = lines(source)?;
        let value = |line: String| line.split(" | ").next().map(|l| l.trim_end().to_owned());
        Ok(lines.into_iter().filter_map(value).collect())
    }

    #[test]
    fn a_pi_has_one_alarm_and_no_mirror() {
        assert_eq!(
            all_lines(discover, "hwmon-pi4"),
            ["hwmon/rpi_volt/in0/alarm \"ok\"  | Supply voltage alarm"]
        );
        assert_eq!(
            all_lines(discover, "hwmon-pi5"),
            [
                "hwmon/nvme/composite 40.9 \u{b0}C | nvme Composite",
                "hwmon/nvme/sensor-1 48.9 \u{b0}C | nvme Sensor 1",
                "hwmon/nvme/composite/alarm \"ok\"  | nvme Composite alarm",
                "hwmon/rp1_adc/in1 1.485 V | rp1_adc voltage 1",
                "hwmon/rp1_adc/in2 2.543 V | rp1_adc voltage 2",
                "hwmon/rp1_adc/in3 1.409 V | rp1_adc voltage 3",
                "hwmon/rp1_adc/in4 1.441 V | rp1_adc voltage 4",
                "hwmon/rp1_adc/temp1 53.4 \u{b0}C | rp1_adc temperature",
                "hwmon/pwmfan/fan1 2873 RPM | pwmfan fan",
                "hwmon/pwmfan/pwm1 29 % | pwmfan fan drive",
                "hwmon/rpi_volt/in0/alarm \"lcrit\"  | Supply voltage alarm",
            ]
        );
        let copy = Copy::of("hwmon-pi4");
        fs::remove_dir_all(copy.0.join("sys/class/thermal")).unwrap();
        assert_eq!(
            lines(&mut *chip(&copy.0, "hwmon/cpu_thermal")).unwrap(),
            ["hwmon/cpu_thermal/temp1 47.2 \u{b0}C | cpu_thermal temperature"],
            "not a mirror where there is no thermal class"
        );
    }

    #[test]
    fn a_super_io_chip_with_all_that_it_has() {
        let root = fixture("hwmon-superio");
        assert_eq!(
            lines(&mut *chip(&root, "hwmon/nct6798/")).unwrap(),
            [
                "hwmon/nct6798/fan1 0 RPM | nct6798 fan 1",
                "hwmon/nct6798/fan2 1068 RPM | nct6798 fan 2",
                "hwmon/nct6798/in0 0.896 V | nct6798 voltage 0",
                "hwmon/nct6798/in1 1.008 V | nct6798 voltage 1",
                "hwmon/nct6798/in2 3.392 V | nct6798 voltage 2",
                "hwmon/nct6798/in8 3.104 V | nct6798 voltage 8",
                "hwmon/nct6798/pwm1 60 % | nct6798 fan drive",
                "hwmon/nct6798/systin 34 \u{b0}C | nct6798 SYSTIN",
                "hwmon/nct6798/cputin 41.5 \u{b0}C | nct6798 CPUTIN",
                "hwmon/nct6798/auxtin null \u{b0}C | nct6798 AUXTIN",
                "hwmon/nct6798/auxtin-2 39 \u{b0}C | nct6798 AUXTIN",
                "hwmon/nct6798/peci-agent-0-calibration 43 \u{b0}C | \
                 nct6798 PECI Agent 0 Calibration",
                "hwmon/nct6798/fan1/alarm \"ok\"  | nct6798 fan 1 alarm",
                "hwmon/nct6798/fan2/alarm \"ok\"  | nct6798 fan 2 alarm",
                "hwmon/nct6798/in0/alarm \"ok\"  | nct6798 voltage 0 alarm",
                "hwmon/nct6798/in1/alarm \"alarm\"  | nct6798 voltage 1 alarm",
                "hwmon/nct6798/in2/alarm \"ok\"  | nct6798 voltage 2 alarm",
                "hwmon/nct6798/in8/alarm \"ok\"  | nct6798 voltage 8 alarm",
                "hwmon/nct6798/intrusion0/alarm \"alarm\"  | nct6798 chassis intrusion 0 alarm",
                "hwmon/nct6798/intrusion1/alarm \"ok\"  | nct6798 chassis intrusion 1 alarm",
                "hwmon/nct6798/systin/alarm \"ok\"  | nct6798 SYSTIN alarm",
                "hwmon/nct6798/cputin/alarm \"max\"  | nct6798 CPUTIN alarm",
            ]
        );
        assert_eq!(
            values(&mut *chip(&root, "hwmon/coretemp/")).unwrap(),
            [
                "hwmon/coretemp/package-id-0 42 \u{b0}C",
                "hwmon/coretemp/core-0 38 \u{b0}C",
                "hwmon/coretemp/core-8 41 \u{b0}C",
                "hwmon/coretemp/package-id-0/alarm \"ok\"",
                "hwmon/coretemp/core-0/alarm \"ok\"",
                "hwmon/coretemp/core-8/alarm \"crit\"",
            ]
        );
    }

    #[test]
    fn chips_of_one_name_are_told_apart_by_their_device() {
        assert_eq!(
            all_lines(discover, "hwmon-i2c"),
            [
                "hwmon/ina226/curr1 0.412 A | ina226 current",
                "hwmon/ina226/in0 0.002 V | ina226 voltage 0",
                "hwmon/ina226/in1 5.084 V | ina226 voltage 1",
                "hwmon/ina226/power1 2.095 W | ina226 power",
                "hwmon/ina226/in0/alarm \"ok\"  | ina226 voltage 0 alarm",
                "hwmon/ina226/in1/alarm \"ok\"  | ina226 voltage 1 alarm",
                "hwmon/ina226/power1/alarm \"ok\"  | ina226 power alarm",
                "hwmon/sht3x/humidity1 48.2 %RH | sht3x humidity",
                "hwmon/sht3x/temp1 22.7 \u{b0}C | sht3x temperature",
                "hwmon/sht3x/humidity1/alarm \"ok\"  | sht3x humidity alarm",
                "hwmon/sht3x/temp1/alarm \"ok\"  | sht3x temperature alarm",
                "hwmon/tmp105/temp1 21.4 \u{b0}C | tmp105 temperature",
                "hwmon/tmp105-2/temp1 -5.5 \u{b0}C | tmp105-2 temperature",
            ]
        );
        let about = |source: Box<dyn Source>| {
            let (key, period_ms) = (source.key(), source.period_ms());
            format!("{key} {period_ms} {}", source.is_slow())
        };
        let bus = "sys/devices/platform/soc/3f804000.i2c/i2c-1";
        assert_eq!(
            found(&fixture("hwmon-i2c"))
                .into_iter()
                .map(about)
                .collect::<Vec<_>>(),
            [
                format!("{bus}/1-0040/hwmon/hwmon/ina226 2253 true"),
                format!("{bus}/1-0044/hwmon/hwmon/sht3x 2000 true"),
                format!("{bus}/1-0048/hwmon/hwmon/tmp105 2000 true"),
                format!("{bus}/1-0049/hwmon/hwmon/tmp105 2000 true"),
            ]
        );
        let superio = found(&fixture("hwmon-superio"));
        let topics: Vec<_> = superio
            .iter()
            .map(|chip| &*chip.channels()[0].topic)
            .collect();
        let want = [
            "hwmon/coretemp/package-id-0",
            "hwmon/nct6798/fan1",
            "hwmon/it8721/temp1",
            "hwmon/it8721-2/temp1",
        ];
        assert_eq!(topics, want, "virtual ones by their number");
        assert_eq!(superio[0].period_ms(), PERIOD_MS);
        assert!(!superio[0].is_slow());
    }

    #[test]
    fn only_what_can_be_a_limit_is_one() {
        let limits = |tree, stem: &str, topic: &str| {
            let mut source = chip(&fixture(tree), stem);
            lines(&mut *source).unwrap();
            let channels = source.channels().iter();
            let found = channels.into_iter().find(|channel| channel.topic == topic);
            let Limits {
                lcrit,
                min,
                max,
                crit,
            } = found.unwrap().limits;
            [lcrit, min, max, crit]
        };
        for (tree, topic, want) in [
            (
                "hwmon-superio",
                "nct6798/in0",
                [None, None, Some(1.744), None],
            ),
            ("hwmon-superio", "nct6798/in1", [None; 4]),
            (
                "hwmon-superio",
                "nct6798/in2",
                [None, Some(2.976), Some(3.632), None],
            ),
            ("hwmon-superio", "nct6798/fan1", [None; 4]),
            (
                "hwmon-superio",
                "nct6798/fan2",
                [None, Some(500.0), None, None],
            ),
            (
                "hwmon-superio",
                "nct6798/cputin",
                [None, None, Some(80.0), Some(100.0)],
            ),
            ("hwmon-superio", "nct6798/auxtin", [None; 4]),
            (
                "hwmon-superio",
                "nct6798/auxtin-2",
                [None, None, None, Some(125.0)],
            ),
            ("hwmon-superio", "nct6798/cputin/alarm", [None; 4]),
            (
                "hwmon-pi5",
                "nvme/composite",
                [None, None, Some(82.85), Some(84.85)],
            ),
            ("hwmon-pi5", "nvme/sensor-1", [None; 4]),
            ("hwmon-i2c", "ina226/in1", [Some(4.75), None, None, None]),
            ("hwmon-i2c", "ina226/power1", [None; 4]),
            ("hwmon-i2c", "sht3x/humidity1", [None; 4]),
            (
                "hwmon-i2c",
                "sht3x/temp1",
                [None, Some(-45.0), Some(85.0), None],
            ),
        ] {
            let stem = format!("hwmon/{}/", topic.split('/').next().unwrap());
            let topic = format!("hwmon/{topic}");
            assert_eq!(limits(tree, &stem, &topic), want, "{topic}");
        }
        let copy = Copy::of("hwmon-superio");
        for (min, max, crit, want) in [
            (
                "20000",
                "80000",
                "80000",
                [Some(20.0), Some(80.0), Some(80.0)],
            ),
            ("80000", "80000", "90000", [None; 3]),
            ("20000", "80000", "79000", [None; 3]),
            ("-50000", "126999", "127000", [None, Some(126.999), None]),
            ("x", "80000", "", [None, Some(80.0), None]),
        ] {
            copy.set("hwmon/hwmon3/temp2_min", min);
            copy.set("hwmon/hwmon3/temp2_max", max);
            copy.set("hwmon/hwmon3/temp2_crit", crit);
            let mut source = chip(&copy.0, "hwmon/nct6798/");
            lines(&mut *source).unwrap();
            let Limits { min, max, crit, .. } = source.channels()[8].limits;
            assert_eq!([min, max, crit], want);
        }
    }

    #[test]
    fn a_channel_fails_alone() {
        let copy = Copy::of("hwmon-i2c");
        let mut source = chip(&copy.0, "hwmon/sht3x/");
        let sht3x = "hwmon/hwmon10";
        copy.spoil(&format!("{sht3x}/temp1_input"));
        copy.set(&format!("{sht3x}/humidity1_alarm"), "");
        assert_eq!(
            values(&mut *source).unwrap(),
            [
                "hwmon/sht3x/humidity1 48.2 %RH",
                "hwmon/sht3x/temp1 null \u{b0}C",
                "hwmon/sht3x/humidity1/alarm null",
                "hwmon/sht3x/temp1/alarm \"ok\"",
            ]
        );
        copy.remove(&format!("{sht3x}/humidity1_input"));
        copy.remove(&format!("{sht3x}/humidity1_alarm"));
        let left = [
            "hwmon/sht3x/temp1 null \u{b0}C",
            "hwmon/sht3x/temp1/alarm \"ok\"",
        ];
        assert_eq!(
            values(&mut *source).unwrap(),
            left,
            "what is not there is gone"
        );
        fs::remove_dir(copy.0.join("sys/class").join(sht3x).join("temp1_input")).unwrap();
        copy.set(&format!("{sht3x}/temp1_input"), "-0");
        copy.set(&format!("{sht3x}/humidity1_input"), "100000");
        assert_eq!(
            values(&mut *source).unwrap()[..2],
            [
                "hwmon/sht3x/humidity1 100 %RH",
                "hwmon/sht3x/temp1 0 \u{b0}C",
            ]
        );
    }

    #[test]
    fn faults_switches_and_alarms() {
        let copy = Copy::of("hwmon-superio");
        let mut source = chip(&copy.0, "hwmon/nct6798/");
        let mut at = |at: usize| values(&mut *source).unwrap()[at].clone();
        let set = |file: &str, value| copy.set(&format!("hwmon/hwmon3/{file}"), value);
        set("temp3_fault", "0\n");
        assert_eq!(at(9), "hwmon/nct6798/auxtin 127 \u{b0}C");
        set("temp4_fault", "1\n");
        assert_eq!(at(10), "hwmon/nct6798/auxtin-2 null \u{b0}C");
        set("temp7_enable", "0\n");
        assert!(
            at(11).ends_with("calibration 43 \u{b0}C"),
            "a driver that reads it still"
        );
        copy.spoil("hwmon/hwmon3/temp7_input");
        assert!(
            at(11).starts_with("hwmon/nct6798/fan1/alarm"),
            "switched off"
        );
        set("temp7_enable", "1\n");
        assert!(at(11).ends_with("calibration null \u{b0}C"));

        let alarms = Copy::of("hwmon-pi4");
        let mut source = chip(&alarms.0, "hwmon/rpi_volt/");
        assert_eq!(
            values(&mut *source).unwrap(),
            ["hwmon/rpi_volt/in0/alarm \"ok\""]
        );
        let all = ["alarm", "cap", "max", "min", "crit", "lcrit", "emergency"];
        for word in all {
            let file = format!("hwmon/hwmon1/in0_{word}_alarm").replace("alarm_alarm", "alarm");
            alarms.set(&file, "1\n");
            let mut source = chip(&alarms.0, "hwmon/rpi_volt/");
            let want = format!("hwmon/rpi_volt/in0/alarm \"{word}\"");
            assert_eq!(values(&mut *source).unwrap(), [want], "the worst one");
        }
    }

    #[test]
    fn a_chip_goes_and_comes_back_under_another_number() {
        let copy = Copy::of("hwmon-i2c");
        let slots: Vec<_> = found(&copy.0)
            .into_iter()
            .map(|source| Slot::new(source, 0))
            .collect();
        assert!(
            discover(&copy.0, &Known(&slots)).is_empty(),
            "nothing twice"
        );
        let mut source = chip(&copy.0, "hwmon/tmp105/");
        copy.unbind("hwmon/hwmon1");
        assert_eq!(lines(&mut *source), Err(Fault::Vanished));
        assert!(discover(&copy.0, &Known(&slots)).is_empty());
        let others: Vec<_> = slots
            .into_iter()
            .filter(|slot| !slot.has_stem("hwmon/tmp105"))
            .collect();

        let device = "sys/devices/platform/soc/3f804000.i2c/i2c-1/1-0048/hwmon/hwmon7";
        fs::create_dir_all(copy.0.join(device)).unwrap();
        symlink(copy.0.join(device), copy.0.join("sys/class/hwmon/hwmon7")).unwrap();
        assert!(
            discover(&copy.0, &Known(&others)).is_empty(),
            "without a name"
        );
        copy.set("hwmon/hwmon7/name", "tmp105\n");
        assert!(
            discover(&copy.0, &Known(&others)).is_empty(),
            "without a reading"
        );
        copy.set("hwmon/hwmon7/temp1_input", "30062\n");
        let mut back = discover(&copy.0, &Known(&others));
        assert_eq!(back.len(), 1);
        let want = ["hwmon/tmp105/temp1 30.1 \u{b0}C | tmp105 temperature"];
        assert_eq!(lines(&mut *back[0]).unwrap(), want, "its old name");
        assert_eq!(back[0].key(), source.key());

        let device = device.replace("1-0048/hwmon/hwmon7", "1-004a/hwmon/hwmon8");
        fs::create_dir_all(copy.0.join(&device)).unwrap();
        symlink(copy.0.join(&device), copy.0.join("sys/class/hwmon/hwmon8")).unwrap();
        copy.set("hwmon/hwmon8/name", "tmp105\n");
        copy.set("hwmon/hwmon8/temp1_input", "0\n");
        let others: Vec<_> = others
            .into_iter()
            .chain(back.into_iter().map(|source| Slot::new(source, 0)))
            .collect();
        let third = discover(&copy.0, &Known(&others));
        assert_eq!(third[0].channels()[0].topic, "hwmon/tmp105-3/temp1");
    }

    #[test]
    fn mirrors_of_other_classes_and_too_much() {
        let copy = Copy::of("hwmon-i2c");
        let add = |device: &str, number: &str, name: &str| {
            let device = copy.0.join("sys/devices").join(device).join(number);
            fs::create_dir_all(&device).unwrap();
            symlink(&device, copy.0.join("sys/class/hwmon").join(number)).unwrap();
            copy.set(&format!("hwmon/{number}/name"), name);
            copy.set(&format!("hwmon/{number}/temp1_input"), "1000");
        };
        add("w1_bus_master1/28-0123/hwmon", "hwmon20", "w1_slave_temp");
        add("platform/a/power_supply/battery", "hwmon21", "battery");
        let count = || found(&copy.0).len();
        assert_eq!(count(), 6);
        fs::create_dir_all(copy.0.join("sys/bus/w1/devices")).unwrap();
        assert_eq!(count(), 5);
        fs::create_dir_all(copy.0.join("sys/class/power_supply")).unwrap();
        assert_eq!(count(), 4);

        add("platform/big/hwmon", "hwmon22", "big");
        for at in 1..READINGS_MAX {
            copy.set(&format!("hwmon/hwmon22/temp{at}_input"), "1000");
            copy.set(&format!("hwmon/hwmon22/temp{at}_alarm"), "0");
        }
        let mut source = chip(&copy.0, "hwmon/big/");
        let lines = lines(&mut *source).unwrap();
        assert_eq!(
            (lines.len(), source.channels().len()),
            (READINGS_MAX, READINGS_MAX)
        );
        assert_eq!(
            lines[READINGS_MAX - 1],
            "hwmon/big/temp1/alarm \"ok\"  | big temperature 1 alarm"
        );
        assert!(found(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn a_chip_says_how_often_it_has_something_new() {
        let copy = Copy::of("hwmon-pi5");
        for (interval_ms, want) in [
            ("500", 1000),
            ("4000", 4000),
            ("60000", 60_000),
            ("90000", 60_000),
            ("x", 1000),
            ("-1", 1000),
        ] {
            copy.set("hwmon/hwmon1/update_interval", interval_ms);
            assert_eq!(
                chip(&copy.0, "hwmon/rp1_adc/").period_ms(),
                want,
                "{interval_ms}"
            );
        }
        assert_eq!(chip(&copy.0, "hwmon/nvme/").period_ms(), 5000);
    }
}
