//! Sensors of the industrial I/O subsystem: weather, light, motion, converters.
//!
//! Follows Documentation/ABI/testing/sysfs-bus-iio: a reading is `in_<channel>_input`, or
//! `in_<channel>_raw` plus `_offset` times `_scale`, each of them of the channel, of its type or of
//! the device. A read may convert first, so it never happens in the loop. Buffers, triggers and
//! outputs are not used, and nothing is ever written.

use super::batch::{Batch, Channel, READINGS_MAX, unique_slug};
use super::{Fault, Found, Known, Source, sysfs};
use std::fs;
use std::path::{Path, PathBuf};

const PERIOD_MS: u64 = 2000;
/// The BeagleBone's converter tells its scale only since Linux 5.16: 12 bits of 1.8 V.
const AM335X: &str = "iio/ti-am335x-adc";
const AM335X_V: f64 = 1.8 / 4096.0;

/// What becomes of each type of the kernel: its word in a topic, the factor from the kernel's unit
/// to ours, the most decimals worth showing, and the unit. Gases come in percent and are told in
/// parts per million.
const MEASURES: &str = "\
voltage voltage 0.001 4 V
altvoltage voltage-ac 0.001 4 V
current current 0.001 4 A
altcurrent current-ac 0.001 4 A
power power 0.001 3 W
energy energy 1 1 J
resistance resistance 1 1 \u{3a9}
capacitance capacitance 1 3 nF
electricalconductivity conductivity 1 4 S/m
temp temperature 0.001 1 \u{b0}C
humidityrelative humidity 0.001 1 %RH
pressure pressure 10 1 hPa
concentration concentration 10000 3 ppm
massconcentration particles 1 1 \u{b5}g/m\u{b3}
ph ph 1 2 pH
illuminance illuminance 1 1 lx
uvindex uv-index 1 1
colortemp color-temperature 1 0 K
cct color-temperature 1 0 K
proximity proximity 1 3 m
distance distance 1 3 m
velocity velocity 1 2 m/s
accel acceleration 1 2 m/s\u{b2}
gravity gravity 1 2 m/s\u{b2}
anglvel angular-velocity 1 3 rad/s
angl angle 1 3 rad
rot rotation 1 1 \u{b0}
incli inclination 1 1 \u{b0}
magn magnetic-field 1 3 G
activity activity 1 0 %";

/// Ends of names of what is no reading of this moment, or more than one number.
const OTHERS: [&str; 5] = ["peak", "trough", "mean", "correction", "quaternion"];

/// A word, a factor, decimals and a unit of `MEASURES`. What is not there keeps its name and its
/// number.
fn measure(kernel: &str) -> (&str, f64, usize, &'static str) {
    let mut lines = MEASURES.lines().filter_map(|line| line.split_once(' '));
    let known = lines
        .find(|(name, _)| *name == kernel)
        .and_then(|(_, row)| {
            let mut row = row.split(' ');
            let (word, factor, decimals) = (row.next()?, row.next()?, row.next()?);
            let unit = row.next().unwrap_or("");
            Some((word, factor.parse().ok()?, decimals.parse().ok()?, unit))
        });
    known.unwrap_or((kernel, 1.0, 3, ""))
}

/// The devices that are not known. Names are given out in the order of their paths: numbers of the
/// kernel change from boot to boot.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let links = sysfs::entries(&sys_root.join("sys/bus/iio/devices"));
    let links = links
        .into_iter()
        .filter(|(name, _)| name.starts_with("iio:device"));
    let mut devices: Vec<(String, String, PathBuf)> = links
        .map(|(_, link)| {
            let told = ["label", "name"].map(|file| sysfs::text(&link.join(file)));
            let mut told = told.into_iter().flatten().filter(|name| !name.is_empty());
            let name = told.next().unwrap_or_else(|| "iio".to_owned());
            (sysfs::device_path(&link, sys_root), name, link)
        })
        .collect();
    devices.sort();
    let mut stems: Vec<String> = Vec::new();
    let mut found: Found = Vec::new();
    for (at, (path, name, link)) in devices.iter().enumerate() {
        // A chip with two parts has two devices on one path.
        let is_same = |other: &&(String, String, PathBuf)| (&other.0, &other.1) == (path, name);
        let twins = devices[..at].iter().filter(is_same).count();
        let key = format!("{path}/{name}/{twins}");
        if known.has(&key) {
            continue;
        }
        // What the link leads to: the link itself may lead to another device tomorrow.
        let Ok(folder) = fs::canonicalize(link) else {
            continue;
        };
        let is_taken = |slug: &str| {
            let stem = format!("iio/{slug}");
            known.has_stem(&stem) || stems.contains(&stem)
        };
        let stem = format!("iio/{}", unique_slug(name, is_taken));
        let (channels, inputs): (Vec<_>, Vec<_>) = inputs(&folder, &stem, name).into_iter().unzip();
        if !inputs.is_empty() {
            stems.push(stem);
            found.push(Box::new(Device {
                key,
                folder,
                channels,
                inputs,
            }));
        }
    }
    found
}

/// A chip, or a part of one.
struct Device {
    key: String,
    folder: PathBuf,
    channels: Vec<Channel>,
    /// How each of the channels is read.
    inputs: Vec<Input>,
}

impl Source for Device {
    fn key(&self) -> &str {
        &self.key
    }

    fn period_ms(&self) -> u64 {
        PERIOD_MS
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let mut is_there = false;
        for (channel, input) in self.channels.iter().zip(&self.inputs) {
            let reading = input.read(&self.folder);
            is_there |= reading != Err(Fault::Vanished);
            match reading {
                Ok((value, decimals)) => batch.number(channel, value, decimals),
                Err(_) => batch.fault(channel),
            }
        }
        // Some buses say ENXIO of a chip that does not answer; it is still there.
        if is_there || self.folder.join("name").exists() {
            Ok(())
        } else {
            Err(Fault::Vanished)
        }
    }
}

/// The files of one channel, and what becomes of their numbers.
struct Input {
    value: String,
    offset: Option<String>,
    scale: Option<String>,
    factor: f64,
    decimals: usize,
}

impl Input {
    /// The value in our unit and how many decimals are worth showing: no more than the steps of a
    /// converter have. The scale is read each time, for some change it with the range.
    fn read(&self, folder: &Path) -> Result<(f64, usize), Fault> {
        let number = |file: &String| sysfs::number(&folder.join(file));
        let value = number(&self.value)? + self.offset.as_ref().map_or(Ok(0.0), number)?;
        let Some(scale) = &self.scale else {
            return Ok((value * self.factor, self.decimals));
        };
        let factor = number(scale)? * self.factor;
        let (mut step, mut decimals) = (factor.abs(), 0);
        while decimals < self.decimals && step < 0.999 {
            step *= 10.0;
            decimals += 1;
        }
        Ok((value * factor, decimals))
    }
}

/// What lies in a device's folder as channels whose topics begin with `stem`.
fn inputs(folder: &Path, stem: &str, device: &str) -> Vec<(Channel, Input)> {
    let files = sysfs::entries(folder);
    let has = |name: &String| files.iter().any(|(file, _)| file == name);
    let mut inputs: Vec<(Channel, Input)> = Vec::new();
    for (value, _) in &files {
        let Some(name) = Name::parse(value) else {
            continue;
        };
        let Name {
            channel,
            kernel,
            number,
            modifier,
            is_raw,
        } = &name;
        if inputs.len() == READINGS_MAX || *is_raw && has(&format!("{channel}_input")) {
            continue;
        }
        let find = |end: &str| {
            let shared = format!("{}_{end}", name.shared());
            let all = [
                format!("{channel}_{end}"),
                shared,
                format!("in_{end}"),
                end.to_owned(),
            ];
            all.into_iter().find(has).filter(|_| *is_raw)
        };
        let (offset, scale) = (find("offset"), find("scale"));
        let (word, mut factor, decimals, mut unit) = measure(kernel);
        // Without a scale it is a number of the chip's own, but for a current by that document.
        if *is_raw && scale.is_none() && *kernel != "current" {
            let is_am335x = *kernel == "voltage" && stem.starts_with(AM335X);
            (factor, unit) = if is_am335x {
                (AM335X_V, unit)
            } else {
                (1.0, "")
            };
        }
        let topic = |slug: &str| format!("{stem}/{slug}");
        let is_taken = |slug: &str| inputs.iter().any(|(other, _)| other.topic == topic(slug));
        let which = format!("{word}{number} {modifier}").replace('_', "-");
        let topic = topic(&unique_slug(&which, is_taken));
        let label = sysfs::text(&folder.join(format!("{channel}_label")));
        let label = label
            .ok()
            .filter(|label| !label.is_empty())
            .unwrap_or_else(|| {
                let parts = [word, number, modifier]
                    .into_iter()
                    .filter(|part| !part.is_empty());
                parts.collect::<Vec<_>>().join(" ").replace('_', " ")
            });
        let input = Input {
            value: value.clone(),
            offset,
            scale,
            factor,
            decimals,
        };
        inputs.push((
            Channel::named(topic, format!("{device} {label}"), unit),
            input,
        ));
    }
    inputs
}

/// A file's name taken apart: `in_voltage0-voltage1_raw`, `in_accel_x_raw`, `in_temp_input`.
struct Name<'a> {
    /// All but the end: what other files of the channel begin with.
    channel: &'a str,
    /// Its type.
    kernel: &'a str,
    /// `0`, `0-1` of two that are compared, or empty.
    number: String,
    /// An axis, a colour, a gas, or a word of the driver; or empty.
    modifier: &'a str,
    is_raw: bool,
}

impl Name<'_> {
    fn parse(file: &str) -> Option<Name<'_>> {
        let (channel, end) = file.rsplit_once('_')?;
        let is_raw = match end {
            "raw" => true,
            "input" => false,
            _ => return None,
        };
        let rest = channel.strip_prefix("in_")?;
        if OTHERS.iter().any(|other| rest.ends_with(other)) {
            return None;
        }
        let (head, modifier) = rest.split_once('_').unwrap_or((rest, ""));
        let kernel = head.split(|c: char| !c.is_ascii_lowercase()).next()?;
        if kernel.is_empty() {
            return None;
        }
        let number = head.replace(kernel, "");
        Some(Name {
            channel,
            kernel,
            number,
            modifier,
            is_raw,
        })
    }

    /// What files of all channels of the type begin with.
    fn shared(&self) -> String {
        let kernel = self.kernel;
        if self.number.contains('-') {
            format!("in_{kernel}-{kernel}")
        } else {
            format!("in_{kernel}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::*;
    use crate::hub::event::State;
    use std::os::unix::fs::symlink;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys");

    /// Topic, value, unit and label of each reading; errors have no value.
    fn lines(batch: &Batch) -> Vec<String> {
        let entries = batch.entries().iter();
        let line = entries.map(|entry| {
            assert_eq!(entry.state == State::Error, entry.value == "null");
            let (value, unit) = (&entry.value, &entry.unit);
            format!("{} {value} {unit} = {}", entry.topic, entry.label)
        });
        line.collect()
    }

    /// What each device of a system root gives.
    fn all(sys_root: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for mut source in discover(sys_root, &Known(&[])) {
            let mut batch = Batch::default();
            assert_eq!(source.read(0, &mut batch), Ok(()), "{}", source.key());
            assert_eq!(source.channels().len(), batch.entries().len());
            all.extend(lines(&batch));
        }
        all
    }

    #[test]
    fn a_board_with_weather_light_motion_and_converters() {
        let want = "\
            iio/mcp3008/voltage0-1 1.647 V = mcp3008 voltage 0-1
            iio/mcp3008/voltage0 3.297 V = mcp3008 voltage 0
            iio/mcp3008/voltage1-0 0 V = mcp3008 voltage 1-0
            iio/mcp3008/voltage1 1.65 V = mcp3008 voltage 1
            iio/mcp3008/voltage2-3 0 V = mcp3008 voltage 2-3
            iio/mcp3008/voltage2 0 V = mcp3008 voltage 2
            iio/mcp3008/voltage3-2 0.999 V = mcp3008 voltage 3-2
            iio/mcp3008/voltage3 0.999 V = mcp3008 voltage 3
            iio/mcp3008/voltage4-5 0 V = mcp3008 voltage 4-5
            iio/mcp3008/voltage4 0.003 V = mcp3008 voltage 4
            iio/mcp3008/voltage5-4 0.003 V = mcp3008 voltage 5-4
            iio/mcp3008/voltage5 0.006 V = mcp3008 voltage 5
            iio/mcp3008/voltage6-7 0 V = mcp3008 voltage 6-7
            iio/mcp3008/voltage6 0.01 V = mcp3008 voltage 6
            iio/mcp3008/voltage7-6 0.003 V = mcp3008 voltage 7-6
            iio/mcp3008/voltage7 0.013 V = mcp3008 voltage 7
            iio/bh1750/illuminance 343.3 lx = bh1750 illuminance
            iio/ads1015/voltage0-1 1.6514 V = ads1015 voltage 0-1
            iio/ads1015/voltage0-3 2.5431 V = ads1015 voltage 0-3
            iio/ads1015/voltage0 3.3015 V = ads1015 voltage 0
            iio/ads1015/voltage1-3 0.8918 V = ads1015 voltage 1-3
            iio/ads1015/voltage1 1.6501 V = ads1015 voltage 1
            iio/ads1015/voltage2-3 -0.8833 V = ads1015 voltage 2-3
            iio/ads1015/voltage2 -0.0002 V = ads1015 voltage 2
            iio/ads1015/voltage3 0.8833 V = ads1015 voltage 3
            iio/mpu6050/acceleration-x -0.61 m/s\u{b2} = mpu6050 acceleration x
            iio/mpu6050/acceleration-y 0.2 m/s\u{b2} = mpu6050 acceleration y
            iio/mpu6050/acceleration-z 9.57 m/s\u{b2} = mpu6050 acceleration z
            iio/mpu6050/angular-velocity-x -0.033 rad/s = mpu6050 angular-velocity x
            iio/mpu6050/angular-velocity-y 0.015 rad/s = mpu6050 angular-velocity y
            iio/mpu6050/angular-velocity-z 0.003 rad/s = mpu6050 angular-velocity z
            iio/mpu6050/temperature 30.3 \u{b0}C = mpu6050 temperature
            iio/bme280/humidity 47.4 %RH = bme280 humidity
            iio/bme280/pressure 929.5 hPa = bme280 pressure
            iio/bme280/temperature 24.7 \u{b0}C = bme280 temperature";
        let got = all(&Path::new(FIXTURES).join("iio-pi"));
        assert_eq!(got, want.lines().map(str::trim).collect::<Vec<_>>());
    }

    #[test]
    fn twins_labels_gases_and_what_has_no_unit() {
        let want = "\
            iio/48000000-adc-adc-0/count0 6  = 48000000.adc:adc@0 count 0
            iio/48000000-adc-adc-0/current5 0.5 A = 48000000.adc:adc@0 current 5
            iio/48000000-adc-adc-0/positionrelative null  = 48000000.adc:adc@0 positionrelative
            iio/48000000-adc-adc-0/resistance 100.2 \u{3a9} = 48000000.adc:adc@0 resistance
            iio/48000000-adc-adc-0/temperature-ambient 27 \u{b0}C = 48000000.adc:adc@0 temperature ambient
            iio/48000000-adc-adc-0/voltage0 0.9 V = 48000000.adc:adc@0 battery
            iio/48000000-adc-adc-0/voltage1 1.7996 V = 48000000.adc:adc@0 voltage 1
            iio/48000000-adc-adc-0/voltage2-supply 0.4395 V = 48000000.adc:adc@0 voltage 2 supply
            iio/48000000-adc-adc-0/wobble3 14  = 48000000.adc:adc@0 wobble 3
            iio/vcnl4010/illuminance 22 lx = vcnl4010 illuminance
            iio/vcnl4010/proximity 2214  = vcnl4010 proximity
            iio/ccs811/concentration-co2 623 ppm = ccs811 concentration co2
            iio/ccs811/concentration-voc 0.034 ppm = ccs811 concentration voc
            iio/living-room/concentration-co2 812 ppm = Living room concentration co2
            iio/living-room/humidity 39.1 %RH = Living room humidity
            iio/living-room/temperature 21.9 \u{b0}C = Living room temperature
            iio/lsm6ds3_accel/acceleration-x 0 m/s\u{b2} = lsm6ds3_accel acceleration x
            iio/lsm6ds3_accel/acceleration-y 0 m/s\u{b2} = lsm6ds3_accel acceleration y
            iio/lsm6ds3_accel/acceleration-z 9.81 m/s\u{b2} = lsm6ds3_accel acceleration z
            iio/lsm6ds3_gyro/angular-velocity-x 0 rad/s = lsm6ds3_gyro angular-velocity x
            iio/lsm6ds3_gyro/angular-velocity-y 0 rad/s = lsm6ds3_gyro angular-velocity y
            iio/lsm6ds3_gyro/angular-velocity-z 0 rad/s = lsm6ds3_gyro angular-velocity z
            iio/bmp280/pressure 1013.2 hPa = bmp280 pressure
            iio/bmp280/temperature 20 \u{b0}C = bmp280 temperature
            iio/bmp280-2/pressure 1013.2 hPa = bmp280 pressure
            iio/bmp280-2/temperature 30 \u{b0}C = bmp280 temperature";
        let got = all(&Path::new(FIXTURES).join("iio-odd"));
        assert_eq!(got, want.lines().map(str::trim).collect::<Vec<_>>());
    }

    /// A system root of our own, and its device `number` on a bus with `files`.
    fn plug(sys_root: &Path, parent: &str, number: u32, files: &[(&str, &str)]) -> PathBuf {
        let device = format!("iio:device{number}");
        let folder = sys_root.join("sys/devices").join(parent).join(&device);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), text).unwrap();
        }
        let links = sys_root.join("sys/bus/iio/devices");
        fs::create_dir_all(&links).unwrap();
        // The last device to get a number has it.
        let _ = fs::remove_file(links.join(&device));
        symlink(&folder, links.join(&device)).unwrap();
        folder
    }

    fn sys_root(name: &str) -> PathBuf {
        let name = format!("encke-iio-{name}-{}", std::process::id());
        let sys_root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&sys_root);
        sys_root
    }

    #[test]
    fn what_is_known_is_skipped_and_names_stay_apart() {
        let root = sys_root("known");
        let files = [("name", "bmp280"), ("in_temp_input", "1000")];
        plug(&root, "i2c-1/1-0077", 0, &files);
        let found = discover(&root, &Known(&[]));
        let slots: Vec<_> = found
            .into_iter()
            .map(|source| Slot::new(source, 0))
            .collect();
        assert!(slots[0].has_stem("iio/bmp280"));
        assert!(discover(&root, &Known(&slots)).is_empty());
        plug(&root, "i2c-1/1-0076", 1, &files);
        plug(&root, "i2c-1/1-0076", 2, &files);
        plug(&root, "i2c-1/1-0075", 3, &[("in_temp_input", "1")]);
        let found = discover(&root, &Known(&slots));
        let told: Vec<_> = found
            .iter()
            .map(|source| format!("{} {}", source.key(), source.channels()[0].topic))
            .collect();
        let want = [
            "sys/devices/i2c-1/1-0075/iio:device/iio/0 iio/iio/temperature",
            "sys/devices/i2c-1/1-0076/iio:device/bmp280/0 iio/bmp280-2/temperature",
            "sys/devices/i2c-1/1-0076/iio:device/bmp280/1 iio/bmp280-3/temperature",
        ];
        assert_eq!(told, want);
        assert!(discover(Path::new("/nowhere"), &Known(&[])).is_empty());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_device_vanishes_and_its_number_may_go_to_another() {
        let root = sys_root("vanish");
        let files = [
            ("name", "bmp280"),
            ("in_temp_input", "1000"),
            ("in_pressure_input", "100"),
        ];
        let folder = plug(&root, "i2c-1/1-0077", 0, &files);
        let mut source = discover(&root, &Known(&[])).pop().unwrap();
        let mut read = || {
            let mut batch = Batch::default();
            let outcome = source.read(0, &mut batch);
            (outcome, lines(&batch).concat().matches("null").count())
        };
        assert_eq!(read(), (Ok(()), 0));
        fs::write(folder.join("in_temp_input"), "").unwrap();
        assert_eq!(read(), (Ok(()), 1), "an error of one channel");
        fs::remove_file(folder.join("in_pressure_input")).unwrap();
        assert_eq!(read(), (Ok(()), 2), "errors only");
        fs::remove_dir_all(&folder).unwrap();
        plug(&root, "i2c-1/1-0011", 0, &files);
        assert_eq!(read().0, Err(Fault::Vanished));
        plug(&root, "i2c-1/1-0077", 1, &files);
        assert_eq!(discover(&root, &Known(&[])).len(), 2);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn channels_at_and_above_the_limit() {
        for (count, want) in [
            (READINGS_MAX, READINGS_MAX),
            (READINGS_MAX + 1, READINGS_MAX),
        ] {
            let root = sys_root("many");
            let names: Vec<_> = (0..count).map(|at| format!("in_voltage{at}_raw")).collect();
            let files: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
            plug(&root, "adc", 0, &files);
            assert_eq!(all(&root).len(), want);
            fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn names_taken_apart() {
        let parts = |file| {
            Name::parse(file).map(|name| {
                let shared = name.shared();
                format!(
                    "{} {} {} {} {}",
                    name.kernel, name.number, name.modifier, shared, name.is_raw
                )
            })
        };
        for (file, want) in [
            ("in_temp_input", "temp   in_temp false"),
            ("in_voltage12_raw", "voltage 12  in_voltage true"),
            (
                "in_voltage0-voltage11_raw",
                "voltage 0-11  in_voltage-voltage true",
            ),
            ("in_accel_x_raw", "accel  x in_accel true"),
            (
                "in_voltage0_vcc_int_raw",
                "voltage 0 vcc_int in_voltage true",
            ),
            (
                "in_velocity_sqrt(x^2+y^2+z^2)_input",
                "velocity  sqrt(x^2+y^2+z^2) in_velocity false",
            ),
        ] {
            assert_eq!(parts(file).as_deref(), Some(want), "{file}");
        }
        for bad in [
            "in_temp_peak_raw",
            "in_temp_scale",
            "out_voltage0_raw",
            "in_0_raw",
            "in__raw",
            "in_raw",
            "name",
            "_raw",
            "in_rot_quaternion_raw",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_measure_has_its_parts() {
        for line in MEASURES.lines() {
            let (kernel, row) = line.split_once(' ').unwrap();
            let mut row = row.split(' ');
            assert_eq!(row.next(), Some(measure(kernel).0));
            assert!(row.next().unwrap().parse::<f64>().is_ok(), "{line}");
            assert!(row.next().unwrap().parse::<usize>().is_ok(), "{line}");
            assert!(row.count() <= 1, "{line}");
        }
        assert_eq!(measure("temp"), ("temperature", 0.001, 1, "\u{b0}C"));
        assert_eq!(measure("tem"), ("tem", 1.0, 3, ""));
    }
}
