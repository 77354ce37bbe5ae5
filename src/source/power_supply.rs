//! Power supplies: batteries, UPS and mains adapters.
//!
//! Follows Documentation/ABI/testing/sysfs-class-power: micro units, one property per file. One
//! supply is one source. The files are read one by one, because `uevent`, which has them all, is
//! empty as soon as one of them fails. It never writes a charge limit.

use super::batch::{Batch, Channel, unique_slug};
use super::{Fault, Found, Known, Source, sysfs};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CLASS: &str = "sys/class/power_supply";
/// A supply that took longer is read on a thread the next time.
const QUICK: Duration = Duration::from_millis(2);

/// How a file is to be understood.
enum Form {
    /// A number to be divided, and the decimals that are left.
    Number(f64, usize),
    Flag,
    Text,
}
use Form::{Flag, Number, Text};

/// A property: last segment of its topic, label, unit, form, and its files, the best one first.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    Form,
    &'static [&'static str],
);

static ROWS: [Row; 13] = [
    ("status", "status", "", Text, &["status"]),
    ("capacity", "charge", "%", Number(1.0, 0), &["capacity"]),
    ("online", "online", "", Flag, &["online"]),
    ("present", "present", "", Flag, &["present"]),
    ("health", "health", "", Text, &["health"]),
    (
        "voltage",
        "voltage",
        "V",
        Number(1e6, 3),
        &["voltage_now", "voltage_avg"],
    ),
    (
        "current",
        "current",
        "A",
        Number(1e6, 3),
        &["current_now", "current_avg"],
    ),
    (
        "power",
        "power",
        "W",
        Number(1e6, 3),
        &["power_now", "power_avg"],
    ),
    (
        "energy",
        "energy left",
        "Wh",
        Number(1e6, 2),
        &["energy_now", "energy_avg"],
    ),
    (
        "charge",
        "charge left",
        "Ah",
        Number(1e6, 3),
        &["charge_now", "charge_avg", "charge_counter"],
    ),
    (
        "temperature",
        "temperature",
        "\u{b0}C",
        Number(10.0, 1),
        &["temp"],
    ),
    (
        "time-to-empty",
        "time to empty",
        "s",
        Number(1.0, 0),
        &["time_to_empty_now", "time_to_empty_avg"],
    ),
    (
        "time-to-full",
        "time to full",
        "s",
        Number(1.0, 0),
        &["time_to_full_now", "time_to_full_avg"],
    ),
];

/// The supplies below the system root that are not known.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let mut slugs: Vec<String> = Vec::new();
    let mut found: Found = Vec::new();
    for (name, folder) in sysfs::entries(&sys_root.join(CLASS)) {
        // A driver gives this name, and it is the same on each boot.
        let key = [CLASS, "/", &name].concat();
        let Ok(kind) = sysfs::text(&folder.join("type")) else {
            continue;
        };
        if known.has(&key) {
            continue;
        }
        let slug = unique_slug(&name, |slug| {
            slugs.iter().any(|other| other == slug) || known.has_stem(&["power/", slug].concat())
        });
        slugs.push(slug.to_string());
        let mut supply = Supply {
            key,
            properties: Vec::new(),
            channels: Vec::new(),
            has_cells: kind == "Battery" || kind == "UPS",
            was_slow: false,
            folder,
        };
        for row in &ROWS {
            let (segment, label, unit, form, files) = row;
            let paths = files.iter().map(|file| supply.folder.join(file));
            if let Some(path) = paths.into_iter().find(|path| path.exists()) {
                let topic = ["power/", &slug, "/", segment].concat();
                let label = [&name, " ", label].concat();
                supply.properties.push((form, path));
                supply.channels.push(Channel::named(topic, label, *unit));
            }
        }
        found.push(Box::new(supply));
    }
    found
}

struct Supply {
    key: String,
    folder: PathBuf,
    properties: Vec<(&'static Form, PathBuf)>,
    /// One for each property.
    channels: Vec<Channel>,
    /// Whether it holds energy, and so has a chip that takes its time.
    has_cells: bool,
    was_slow: bool,
}

/// Whether a property has nothing to say now, which is no error: a battery that was taken out has
/// no voltage (ENODEV), one that is being charged no time to empty (ENODATA).
fn is_silence(error: &io::Error) -> bool {
    const SILENCE: [Errno; 3] = [Errno::NOENT, Errno::NODEV, Errno::NODATA];
    Errno::from_io_error(error).is_some_and(|errno| SILENCE.contains(&errno))
}

impl Source for Supply {
    fn key(&self) -> &str {
        &self.key
    }

    fn period_ms(&self) -> u64 {
        if self.has_cells { 5000 } else { 2000 }
    }

    fn is_slow(&self) -> bool {
        // A battery's gauge hangs at a bus that may fail, however quick it was.
        self.has_cells || self.was_slow
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let began = Instant::now();
        let mut is_whole = true;
        for ((form, path), channel) in self.properties.iter().zip(&self.channels) {
            let outcome = match form {
                Number(divisor, decimals) => sysfs::ask_number(path)
                    .map(|value| batch.number(channel, value / divisor, *decimals)),
                // 2 is online too: at a voltage that was agreed upon.
                Flag => sysfs::ask_number(path).map(|value| batch.flag(channel, value != 0.0)),
                Text => sysfs::ask_text(path).map(|text| batch.text(channel, &text)),
            };
            if let Err(error) = outcome {
                is_whole = false;
                if !is_silence(&error) {
                    batch.fault(channel);
                }
            }
        }
        self.was_slow = began.elapsed() > QUICK;
        if !is_whole && !self.folder.join("type").exists() {
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

    #[test]
    fn a_laptop_and_a_board_with_a_ups() {
        assert_eq!(
            all_lines(discover, "power-supply-laptop"),
            [
                "power/ac/online true  | AC online",
                "power/bat0/status \"Discharging\"  | BAT0 status",
                "power/bat0/capacity 67 % | BAT0 charge",
                "power/bat0/present true  | BAT0 present",
                "power/bat0/voltage 12.175 V | BAT0 voltage",
                "power/bat0/power 7.463 W | BAT0 power",
                "power/bat0/energy 31.27 Wh | BAT0 energy left",
            ]
        );
        assert_eq!(
            all_lines(discover, "power-supply-ups"),
            [
                "power/battery/status \"Not charging\"  | battery status",
                "power/battery/capacity 91 % | battery charge",
                "power/battery/health \"Good\"  | battery health",
                "power/battery/voltage 4.109 V | battery voltage",
                "power/battery/current -0.412 A | battery current",
                "power/battery/charge 2.73 Ah | battery charge left",
                "power/battery/temperature -1.5 \u{b0}C | battery temperature",
                "power/battery/time-to-empty 23850 s | battery time to empty",
                "power/tcpm-source-psy-4-0022/online true  | tcpm-source-psy-4-0022 online",
                "power/tcpm-source-psy-4-0022/voltage 9 V | tcpm-source-psy-4-0022 voltage",
                "power/tcpm-source-psy-4-0022/current 1.5 A | tcpm-source-psy-4-0022 current",
                "power/ups-charger/online false  | ups-charger online",
            ]
        );
        let supplies = discover(&fixture("power-supply-laptop"), &Known(&[]));
        let paces = supplies
            .iter()
            .map(|supply| (supply.period_ms(), supply.is_slow()));
        assert_eq!(paces.collect::<Vec<_>>(), [(2000, false), (5000, true)]);
    }

    #[test]
    fn a_property_fails_or_is_silent_alone() {
        let copy = Copy::of("power-supply-ups");
        let mut supplies = discover(&copy.0, &Known(&[]));
        copy.spoil("power_supply/battery/voltage_now");
        copy.set("power_supply/battery/temp", "warm");
        copy.remove("power_supply/battery/time_to_empty_now");
        copy.set("power_supply/battery/health", "Over\u{b0}heat\n");
        assert_eq!(
            lines(&mut *supplies[0]).unwrap()[2..],
            [
                "power/battery/health \"Over\\u00b0heat\"  | battery health",
                "power/battery/voltage null V | battery voltage",
                "power/battery/current -0.412 A | battery current",
                "power/battery/charge 2.73 Ah | battery charge left",
                "power/battery/temperature null \u{b0}C | battery temperature",
            ]
        );
        for (errno, want) in [
            (Errno::NODEV, true),
            (Errno::NODATA, true),
            (Errno::NOENT, true),
            (Errno::AGAIN, false),
            (Errno::IO, false),
            (Errno::NXIO, false),
        ] {
            assert_eq!(is_silence(&errno.into()), want, "{errno}");
        }
    }

    #[test]
    fn a_supply_goes_and_comes_back() {
        let copy = Copy::of("power-supply-laptop");
        let mut supplies = discover(&copy.0, &Known(&[]));
        let battery = supplies.remove(1);
        let mut slots = vec![Slot::new(battery, 0)];
        copy.unbind("power_supply/AC");
        assert_eq!(lines(&mut *supplies[0]), Err(Fault::Vanished));
        assert!(discover(&copy.0, &Known(&slots)).is_empty());
        std::fs::create_dir(copy.0.join("sys/class/power_supply/AC")).unwrap();
        copy.set("power_supply/AC/online", "0\n");
        assert!(
            discover(&copy.0, &Known(&slots)).is_empty(),
            "without a type"
        );
        copy.set("power_supply/AC/type", "Mains\n");
        std::fs::create_dir(copy.0.join("sys/class/power_supply/bat0")).unwrap();
        copy.set("power_supply/bat0/type", "UPS\n");
        copy.set("power_supply/bat0/online", "1\n");
        let mut back = discover(&copy.0, &Known(&slots));
        let want = ["power/ac/online false  | AC online"];
        assert_eq!(lines(&mut *back[0]).unwrap(), want);
        assert_eq!(back[1].channels()[0].topic, "power/bat0-2/online");
        slots.extend(back.into_iter().map(|supply| Slot::new(supply, 0)));
        assert!(discover(&copy.0, &Known(&slots)).is_empty());
    }
}
