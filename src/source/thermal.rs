//! Thermal zones: the temperatures by which the kernel itself cools, slows down and switches off.
//!
//! Follows Documentation/ABI/testing/sysfs-class-thermal: milli degrees, trip points by type. One
//! zone is one source. The number of a zone says nothing and is in no topic. It never writes a
//! policy or a trip point.

use super::batch::{Batch, Channel, unique_slug};
use super::{Fault, Found, Known, Source, sysfs};
use crate::hub::topic::Limits;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CLASS: &str = "sys/class/thermal";
/// Trip points outside of this, in degrees, stand for none.
const TRIP: (f64, f64) = (0.0, 200.0);
/// A zone that took longer asks a firmware; the next time it is read on a thread.
const QUICK: Duration = Duration::from_millis(2);

/// The zones below the system root that are not known.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let mut zones: Vec<Zone> = Vec::new();
    for (name, folder) in sysfs::entries(&sys_root.join(CLASS)) {
        let key = [CLASS, "/", &name].concat();
        if !name.starts_with("thermal_zone") || known.has(&key) {
            continue;
        }
        let Ok(kind) = sysfs::text(&folder.join("type")) else {
            continue;
        };
        let topic = |slug: &str| ["thermal/", slug].concat();
        let slug = unique_slug(&kind, |slug| {
            let topic = topic(slug);
            known.has_stem(&topic) || zones.iter().any(|zone| zone.channel[0].topic == topic)
        });
        let label = [&*spoken(&kind), " temperature"].concat();
        let channel = Channel::named(topic(&slug), label, "\u{b0}C").with_limits(limits(&folder));
        zones.push(Zone {
            key,
            folder,
            kind,
            channel: [channel],
            was_slow: false,
        });
    }
    let boxed = |zone| Box::new(zone) as Box<dyn Source>;
    zones.into_iter().map(boxed).collect()
}

/// What people say for a zone's type: `cpu-thermal` is the CPU.
fn spoken(kind: &str) -> String {
    let endings = ["-thermal", "_thermal"];
    let stem = endings.iter().find_map(|ending| kind.strip_suffix(ending));
    match stem {
        Some(stem) if stem.len() <= 3 => stem.to_ascii_uppercase(),
        Some(stem) => stem.to_owned(),
        None => kind.to_owned(),
    }
}

/// Critical is where the kernel switches off. High is where it warns (`hot`), else where it begins
/// to slow down (`passive`); where a fan begins to turn (`active`) is no limit.
fn limits(folder: &Path) -> Limits {
    let (mut crit, mut hot, mut passive) = (None, None, None);
    for (name, path) in sysfs::entries(folder) {
        let is_trip = name.starts_with("trip_point_");
        let Some(stem) = name.strip_suffix("_type").filter(|_| is_trip) else {
            continue;
        };
        let lowest = match sysfs::text(&path).as_deref() {
            Ok("critical") => &mut crit,
            Ok("hot") => &mut hot,
            Ok("passive") => &mut passive,
            _ => continue,
        };
        if let Ok(value) = sysfs::number(&folder.join([stem, "_temp"].concat())) {
            let trip = value / 1000.0;
            if trip > TRIP.0 && trip < TRIP.1 && lowest.is_none_or(|lowest| trip < lowest) {
                *lowest = Some(trip);
            }
        }
    }
    let is_below_crit = |max: &f64| crit.is_none_or(|crit| *max < crit);
    let max = [hot, passive].into_iter().flatten().find(is_below_crit);
    Limits {
        max: max.map(|max| max as f32),
        crit: crit.map(|crit| crit as f32),
        ..Limits::default()
    }
}

struct Zone {
    key: String,
    folder: PathBuf,
    kind: String,
    channel: [Channel; 1],
    was_slow: bool,
}

impl Source for Zone {
    fn key(&self) -> &str {
        &self.key
    }

    fn period_ms(&self) -> u64 {
        1000
    }

    fn is_slow(&self) -> bool {
        self.was_slow
    }

    fn channels(&self) -> &[Channel] {
        &self.channel
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let began = Instant::now();
        // A zone that comes takes the number of one that went.
        if sysfs::text(&self.folder.join("type"))? != self.kind {
            return Err(Fault::Vanished);
        }
        match sysfs::number(&self.folder.join("temp")) {
            Ok(value) => batch.number(&self.channel[0], value / 1000.0, 1),
            // A disabled zone answers with an error but is there.
            Err(_) => batch.fault(&self.channel[0]),
        }
        self.was_slow = began.elapsed() > QUICK;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::super::sysfs::bench::{Copy, all_lines, fixture, lines};
    use super::*;

    #[test]
    fn zones_by_their_type() {
        for (tree, want) in [
            (
                "thermal-pi4",
                &["thermal/cpu-thermal 47.2 \u{b0}C | CPU temperature"][..],
            ),
            (
                "thermal-pi5",
                &["thermal/cpu-thermal 51.2 \u{b0}C | CPU temperature"],
            ),
            (
                "thermal-rk3399",
                &[
                    "thermal/cpu-thermal 43.3 \u{b0}C | CPU temperature",
                    "thermal/gpu-thermal 42.8 \u{b0}C | GPU temperature",
                ],
            ),
            (
                "thermal-pc",
                &[
                    "thermal/acpitz 27.8 \u{b0}C | acpitz temperature",
                    "thermal/acpitz-2 29.9 \u{b0}C | acpitz temperature",
                    "thermal/x86_pkg_temp 38 \u{b0}C | x86_pkg_temp temperature",
                    "thermal/iwlwifi_1 -3.6 \u{b0}C | iwlwifi_1 temperature",
                    "thermal/int3400-thermal 20 \u{b0}C | INT3400 Thermal temperature",
                ],
            ),
        ] {
            assert_eq!(all_lines(discover, tree), want, "{tree}");
        }
        assert!(discover(Path::new("/nowhere"), &Known(&[])).is_empty());
    }

    #[test]
    fn limits_are_where_the_kernel_acts() {
        let limits = |tree| {
            let zones = discover(&fixture(tree), &Known(&[]));
            let of = |zone: Box<dyn Source>| {
                let Limits { max, crit, .. } = zone.channels()[0].limits;
                (max, crit)
            };
            zones.into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(limits("thermal-pi4"), [(None, Some(90.0))]);
        assert_eq!(
            limits("thermal-pi5"),
            [(None, Some(110.0))],
            "fans are no limit"
        );
        assert_eq!(
            limits("thermal-rk3399"),
            [(Some(70.0), Some(95.0)), (Some(75.0), Some(95.0))]
        );
        let pc = [
            (None, Some(119.0)),
            (Some(98.0), Some(105.0)), // hot is no lower than critical
            (None, None),
            (None, None),
            (None, None),
        ];
        assert_eq!(limits("thermal-pc"), pc);
        let copy = Copy::of("thermal-pc");
        copy.set("thermal/thermal_zone1/trip_point_1_temp", "101500\n");
        let zones = discover(&copy.0, &Known(&[]));
        assert_eq!(zones[1].channels()[0].limits.max, Some(101.5));
    }

    #[test]
    fn a_zone_fails_goes_and_comes_back() {
        let copy = Copy::of("thermal-pc");
        let mut zones = discover(&copy.0, &Known(&[]));
        copy.spoil("thermal/thermal_zone9/temp");
        let wifi = &mut *zones[3];
        let error = ["thermal/iwlwifi_1 null \u{b0}C | iwlwifi_1 temperature"];
        assert_eq!(lines(wifi).unwrap(), error);
        copy.set("thermal/thermal_zone9/type", "iwlwifi_2\n");
        assert_eq!(
            lines(wifi),
            Err(Fault::Vanished),
            "another zone, the same number"
        );
        copy.unbind("thermal/thermal_zone0");
        assert_eq!(lines(&mut *zones[0]), Err(Fault::Vanished));

        zones.remove(3);
        zones.remove(0);
        let slots: Vec<_> = zones.into_iter().map(|zone| Slot::new(zone, 0)).collect();
        copy.set("thermal/thermal_zone10/type", "acpitz\n");
        let new = discover(&copy.0, &Known(&slots));
        let topics: Vec<_> = new.iter().map(|zone| &*zone.channels()[0].topic).collect();
        assert_eq!(topics, ["thermal/iwlwifi_2"], "nothing twice");
        assert_eq!(new[0].period_ms(), 1000);
        assert!(!new[0].is_slow());
    }
}
