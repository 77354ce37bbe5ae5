//! How busy the processor is: /proc/stat of proc(5).
//!
//! Usage is a difference of two reads, so the first read gives none. It never asks how fast the
//! processor runs.

use super::percent;
use crate::source::batch::{Batch, Channel};

/// Processors up to which each has a topic of its own.
const CORES_MAX: usize = 8;

pub(super) static CHANNELS: [Channel; 2] = [
    Channel::fixed("cpu/usage", "Processor", "%"),
    Channel::fixed("cpu/+/usage", "Processor core", "%"),
];

/// How busy the processor was from one read to the next.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    cores: Vec<Core>,
}

#[derive(Debug)]
struct Core {
    number: Option<u16>,
    channel: Channel,
    ticks: Ticks,
    usage: Option<f64>,
}

impl Cpu {
    pub(super) fn read(&mut self, text: &str, batch: &mut Batch) -> Option<()> {
        let lines = parse_stat(text)?;
        self.cores
            .retain(|core| lines.iter().any(|line| line.0 == core.number));
        for &(number, ticks) in &lines {
            if let Some(core) = self.cores.iter_mut().find(|core| core.number == number) {
                // Without a tick in between, what was true a moment ago still is.
                core.usage = usage(&core.ticks, &ticks).or(core.usage);
                core.ticks = ticks;
            } else {
                self.cores.push(Core {
                    number,
                    channel: core_channel(number),
                    ticks,
                    usage: None,
                });
            }
        }
        for core in &self.cores {
            if let Some(usage) = core.usage {
                batch.number(&core.channel, usage, 1);
            }
        }
        Some(())
    }
}

fn core_channel(number: Option<u16>) -> Channel {
    let Some(number) = number else {
        return CHANNELS[0].clone();
    };
    let topic = format!("cpu/{number}/usage");
    Channel::named(topic, format!("Processor core {number}"), "%")
}

/// Clock ticks spent as user, nice, system, idle, iowait, irq, softirq and steal since boot.
type Ticks = [u64; 8];
const IDLE: usize = 3;
const IOWAIT: usize = 4;

/// Ticks of all cores together (`None`), then of each, unless there are more than `CORES_MAX`.
fn parse_stat(text: &str) -> Option<heapless::Vec<(Option<u16>, Ticks), { CORES_MAX + 2 }>> {
    let mut lines = heapless::Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("cpu") else {
            break;
        };
        let mut words = rest.split(' ');
        let number = match words.next()? {
            "" => None,
            digits => Some(digits.parse().ok()?),
        };
        let mut ticks = [0; 8];
        let mut numbers = words.filter(|word| !word.is_empty());
        for (at, tick) in ticks.iter_mut().enumerate() {
            *tick = match numbers.next() {
                Some(digits) => digits.parse().ok()?,
                // Old kernels know fewer ways to spend time.
                None if at > IDLE => 0,
                None => return None,
            };
        }
        if lines.push((number, ticks)).is_err() {
            break;
        }
    }
    if lines.first()?.0.is_some() {
        return None;
    }
    if lines.len() > 1 + CORES_MAX {
        lines.truncate(1);
    }
    Some(lines)
}

/// Busy time from `before` to `after` in percent, or `None` when no time has passed.
fn usage(before: &Ticks, after: &Ticks) -> Option<f64> {
    let mut spent = [0; 8];
    for at in 0..spent.len() {
        // Idle time and waiting may be corrected backwards by the kernel.
        spent[at] = after[at].saturating_sub(before[at]);
    }
    let all: u64 = spent.iter().sum();
    (all > 0).then(|| percent(all - spent[IDLE] - spent[IOWAIT], all))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fixture, readings};
    use super::*;

    #[test]
    fn the_fixtures_ticks() {
        let lines = parse_stat(&fixture("proc/stat")).unwrap();
        let numbers: Vec<_> = lines.iter().map(|line| line.0).collect();
        assert_eq!(numbers, [None, Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(
            lines[0].1,
            [41_233, 120, 20_611, 1_480_377, 5120, 0, 812, 0]
        );
        for bad in [
            "",
            "cpu",
            "cpu 1 2 3\n",
            "cpu 1 2 x 4\n",
            "cpu0 1 2 3 4\n",
            "cpu 1 2 3 4\ncpux 1 2 3 4",
        ] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
        assert_eq!(
            parse_stat("cpu 1 2 3 4\n").unwrap()[0].1,
            [1, 2, 3, 4, 0, 0, 0, 0]
        );
    }

    #[test]
    fn cores_at_and_above_the_limit() {
        let text = |cores: usize| -> String {
            let lines = (0..cores).map(|core| format!("cpu{core} 1 1 1 1\n"));
            "cpu  1 1 1 1\n".to_owned() + &lines.collect::<String>()
        };
        for (cores, want) in [
            (1, 2),
            (CORES_MAX, 1 + CORES_MAX),
            (CORES_MAX + 1, 1),
            (256, 1),
        ] {
            assert_eq!(parse_stat(&text(cores)).unwrap().len(), want, "{cores}");
        }
    }

    #[test]
    fn usage_is_what_was_neither_idle_nor_waiting() {
        let before = [100, 0, 50, 1000, 10, 0, 0, 0];
        assert_eq!(usage(&before, &before), None);
        assert_eq!(usage(&before, &[120, 0, 55, 1070, 15, 0, 0, 0]), Some(25.0));
        assert_eq!(
            usage(&before, &[110, 0, 50, 1010, 5, 0, 0, 0]),
            Some(50.0),
            "less waiting"
        );
        assert_eq!(usage(&[9; 8], &[0; 8]), None);
    }

    #[test]
    fn the_second_read_tells_and_cores_come_and_go() {
        let (mut cpu, mut batch) = (Cpu::default(), Batch::default());
        let mut read = |text: &str| {
            cpu.read(text, &mut batch).unwrap();
            readings(&mut batch)
        };
        assert_eq!(
            read("cpu 0 0 0 100\ncpu0 0 0 0 50\ncpu1 0 0 0 50\n"),
            [""; 0]
        );
        let second = "cpu 1 0 0 107\ncpu0 1 0 0 53\ncpu1 0 0 0 54\n";
        let want = ["cpu/usage 12.5", "cpu/0/usage 25", "cpu/1/usage 0"];
        assert_eq!(read(second), want);
        assert_eq!(read(second), want, "without a tick in between");
        assert_eq!(
            read("cpu 2 0 0 108\ncpu0 2 0 0 54\n"),
            ["cpu/usage 50", "cpu/0/usage 50"]
        );
        let back = "cpu 2 0 0 109\ncpu0 2 0 0 55\ncpu1 0 0 0 54\n";
        assert_eq!(read(back), ["cpu/usage 0", "cpu/0/usage 0"]);
        assert_eq!(cpu.read("nothing", &mut batch), None);
    }
}
