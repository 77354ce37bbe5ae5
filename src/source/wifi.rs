//! How well the board hears its access point.
//!
//! Follows net/wireless/wext-proc.c for /proc/net/wireless. Levels below zero are dBm, beside
//! which a link's quality is at most 70; a level that is not below zero is of an unknown scale,
//! and the quality then at most 100. -256 stands for an unknown level. It never names networks.

use super::batch::{Batch, Channel, READINGS_MAX, unique_slug};
use super::{Fault, Found, Known, Source};
use std::fs;
use std::path::{Path, PathBuf};

const KEY: &str = "proc/net/wireless";

/// Interfaces that are read; the first in the kernel's order.
const FACES_MAX: usize = READINGS_MAX / CHANNELS.len();

static CHANNELS: [Channel; 3] = [
    Channel::fixed("wifi/+/signal", "signal", "dBm"),
    Channel::fixed("wifi/+/quality", "link quality", "%"),
    Channel::fixed("wifi/+/noise", "noise", "dBm"),
];

/// The file, when it is there and not known.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let path = sys_root.join(KEY);
    if known.has(KEY) || !path.exists() {
        return Vec::new();
    }
    vec![Box::new(Wifi(path))]
}

struct Wifi(PathBuf);

impl Source for Wifi {
    fn key(&self) -> &str {
        KEY
    }

    fn period_ms(&self) -> u64 {
        5000
    }

    /// The kernel asks each radio's firmware.
    fn is_slow(&self) -> bool {
        true
    }

    fn channels(&self) -> &[Channel] {
        &CHANNELS
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let bytes = fs::read(&self.0)?;
        read(&String::from_utf8_lossy(&bytes), batch).ok_or(Fault::Failed)
    }
}

fn read(text: &str, batch: &mut Batch) -> Option<()> {
    // Without its two header lines it is not this file.
    text.lines().nth(1)?;
    let mut slugs: Vec<String> = Vec::new();
    for (name, values) in text.lines().filter_map(parse).take(FACES_MAX) {
        let slug = unique_slug(name, |slug| slugs.iter().any(|other| other == slug)).to_string();
        for (channel, value) in CHANNELS.iter().zip(values) {
            let Some(value) = value else {
                continue;
            };
            let topic = channel.topic.replace('+', &slug);
            let label = format!("{name} {}", channel.label);
            batch.number(
                &Channel::named(topic, label, channel.unit.clone()),
                value,
                0,
            );
        }
        slugs.push(slug);
    }
    Some(())
}

/// An interface's name, and its signal, quality and noise as far as they are known.
fn parse(line: &str) -> Option<(&str, [Option<f64>; 3])> {
    // The numbers hold no colon, but an alias name does. A dot marks a number that is new.
    let (name, numbers) = line.rsplit_once(':')?;
    let mut numbers = numbers
        .split_ascii_whitespace()
        .map(|number| number.trim_end_matches('.').parse().ok());
    let (link, level, noise): (f64, f64, f64) = {
        numbers.next();
        (numbers.next()??, numbers.next()??, numbers.next()??)
    };
    let dbm = |level: f64| Some(level).filter(|level| (-255.0..0.0).contains(level));
    let best = if level < 0.0 { 70.0 } else { 100.0 };
    let quality = (link * 100.0 / best).clamp(0.0, 100.0);
    Some((name.trim_ascii(), [dbm(level), Some(quality), dbm(noise)]))
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::*;

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys/wifi-pi");
    const HEAD: &str = "Inter-| sta-|   Quality\n face | tus | link level noise\n";

    fn readings(batch: &Batch) -> Vec<String> {
        let entries = batch.entries().iter();
        let line = entries.map(|entry| {
            let (value, unit) = (&entry.value, &entry.unit);
            format!("{} {value} {unit} = {}", entry.topic, entry.label)
        });
        line.collect()
    }

    fn of(lines: &str) -> Vec<String> {
        let mut batch = Batch::default();
        read(&format!("{HEAD}{lines}"), &mut batch).unwrap();
        readings(&batch)
    }

    #[test]
    fn the_fixtures_interfaces() {
        let mut found = discover(Path::new(FIXTURE), &Known(&[]));
        let mut batch = Batch::default();
        found[0].read(0, &mut batch).unwrap();
        let want = [
            "wifi/wlan0/signal -52 dBm = wlan0 signal",
            "wifi/wlan0/quality 83 % = wlan0 link quality",
            "wifi/wlan1/signal -75 dBm = wlan1 signal",
            "wifi/wlan1/quality 50 % = wlan1 link quality",
            "wifi/wlan1/noise -91 dBm = wlan1 noise",
        ];
        assert_eq!(readings(&batch), want);
        let slots = [Slot::new(found.remove(0), 0)];
        assert!(discover(Path::new(FIXTURE), &Known(&slots)).is_empty());
        assert!(discover(Path::new("/nowhere"), &Known(&[])).is_empty());
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        assert_eq!(of(""), [""; 0]);
        let quality = |line: &str| of(&format!("w0: {line} 0 0 0 0 0 0\n"));
        assert_eq!(
            quality("0000    0     0     0"),
            ["wifi/w0/quality 0 % = w0 link quality"]
        );
        assert_eq!(
            quality("0000   70.  -256. -256"),
            ["wifi/w0/quality 100 % = w0 link quality"]
        );
        assert_eq!(
            quality("0000   71.   200.  0"),
            ["wifi/w0/quality 71 % = w0 link quality"]
        );
        assert_eq!(
            quality("0000   80.  -255. -255.").len(),
            3,
            "the lowest that is known"
        );
        for bad in ["", "0000 70.", "0000 x -1 -1", "0000 70. -40."] {
            assert_eq!(of(&format!("w0: {bad}\n")), [""; 0], "{bad:?}");
        }
        assert_eq!(read("", &mut Batch::default()), None);
    }

    #[test]
    fn interfaces_come_and_go_and_so_does_the_file() {
        let path = std::env::temp_dir().join(format!("encke-wifi-{}", std::process::id()));
        let mut wifi = Wifi(path.clone());
        let mut count = || {
            let mut batch = Batch::default();
            wifi.read(0, &mut batch).map(|()| batch.entries().len())
        };
        let line = " wlan0: 0000   58.  -52.  -256        0\n";
        for (text, want) in [("", 0), (line, 2), ("", 0), (line, 2)] {
            fs::write(&path, format!("{HEAD}{text}")).unwrap();
            assert_eq!(count(), Ok(want));
        }
        fs::write(&path, "one line\n").unwrap();
        assert_eq!(count(), Err(Fault::Failed));
        fs::remove_file(&path).unwrap();
        assert_eq!(count(), Err(Fault::Vanished));
    }

    #[test]
    fn interfaces_at_and_above_the_limit() {
        for (count, want) in [(FACES_MAX, FACES_MAX), (FACES_MAX + 1, FACES_MAX)] {
            let line = |at| format!("wlan{at}: 0000 58. -52. -90. 0\n");
            let lines: String = (0..count).map(line).collect();
            assert_eq!(of(&lines).len(), 3 * want);
        }
        let twins = of("wlan0.1: 0 1. -9. -9.\nwlan0-1: 0 1. -9. -9.\n");
        assert!(twins[3].starts_with("wifi/wlan0-1-2/signal "));
    }
}
