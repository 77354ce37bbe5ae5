//! Whether the supply holds and the processor is cool enough.
//!
//! Follows the kernel's raspberrypi-hwmon (`rpi_volt`, `in0_lcrit_alarm`) and the firmware's
//! throttling bits. The kernel complains in its log when the file of those bits is read, so it is
//! read only where something points at it: an alarm, or a processor from 60 degrees on, where the
//! earliest limit of a model is. Boards that tell neither are passed over.

use super::root::number_at;
use super::{Case, Level, Report};

const FIRMWARE: &str = "sys/bus/platform/drivers/raspberrypi-firmware/";
const WARM_MILLIDEGREES: u64 = 60_000;
/// Bits of what is so now; the same 16 higher were so at the last look or since.
const UNDER_VOLTAGE: u32 = 1;
/// Frequency capped, throttled, or above the soft limit of temperature.
const SLOWED: u32 = 0b1110;
const TOO_HOT: u32 = 0b1000;

pub(super) fn check(case: &Case, report: &mut Report) {
    let alarm = alarm(case);
    let heat = case.root.text("sys/class/thermal/thermal_zone0/temp");
    let is_warm = number_at(&heat, 0).unwrap_or(0) >= WARM_MILLIDEGREES;
    let bits = match alarm != Some(0) || is_warm {
        true => throttled(case),
        false => None,
    };
    if alarm.is_none() && bits.is_none() {
        return;
    }
    let bits = bits.unwrap_or(0) | u32::from(alarm == Some(1));
    let before = report.findings.len();
    for (bits, level, when) in [
        (bits & 0xffff, Level::Problem, "is"),
        (bits >> 16, Level::Note, "a while ago was"),
    ] {
        let is_low = bits & UNDER_VOLTAGE != 0;
        // A low voltage slows the processor, too; then only the soft limit speaks of heat.
        let heat = if is_low { TOO_HOT } else { SLOWED };
        if is_low && !has_said(report, before, LOW) {
            report.add(
                level,
                format_args!("the supply voltage {when}{LOW}"),
                format_args!("{SUPPLY}"),
                format_args!("vcgencmd get_throttled"),
            );
        }
        if bits & heat != 0 && !has_said(report, before, HOT) {
            report.add(
                level,
                format_args!("the processor {when}{HOT}"),
                format_args!("{COOL}"),
                format_args!("vcgencmd measure_temp"),
            );
        }
    }
    if report.findings.len() == before {
        report.ok(format_args!("the supply holds, and nothing is slowed down"));
    }
}

const LOW: &str = " too low (under-voltage)";
const HOT: &str = " too hot and slowed down";
const SUPPLY: &str = "The processor is slowed down, and Wi-Fi, USB and the card may fail. It needs \
                      the supply that is made for this board and a short cable; or less on its \
                      USB ports. All is well when this says 0x0:";
const COOL: &str = "It needs a heat sink, a fan, or more air. It is slowed down from 80 degrees \
                    on, a 3 B+ from 60.";

/// What is so now has been so a while ago, too: once is enough.
fn has_said(report: &Report, before: usize, what: &str) -> bool {
    let mut said = report.findings[before..].iter();
    said.any(|finding| finding.what.ends_with(what))
}

/// The under-voltage alarm of the driver: 1 when it is low now. `None` without the driver.
fn alarm(case: &Case) -> Option<u64> {
    const HWMON: &str = "sys/class/hwmon/";
    let chips = case.root.names(HWMON);
    let is_volt = |chip: &&String| case.root.text_in(HWMON, chip, "/name") == "rpi_volt";
    let volt = chips.iter().find(is_volt)?;
    case.root.number_in(HWMON, volt, "/in0_lcrit_alarm")
}

/// The firmware's bits, in hexadecimal without a mark.
fn throttled(case: &Case) -> Option<u32> {
    let devices = case.root.names(FIRMWARE);
    devices.iter().find_map(|device| {
        let text = case.root.text_in(FIRMWARE, device, "/get_throttled");
        let bits = u64::from_str_radix(&text, 16).ok()?;
        u32::try_from(bits).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::look;

    #[test]
    fn alarms_and_bits() {
        const NAME: (&str, &str) = ("sys/class/hwmon/hwmon3/name", "rpi_volt\n");
        let look_volts = "|vcgencmd get_throttled";
        let look_heat = "|vcgencmd measure_temp";
        let (low, hot) = (
            "problem the supply voltage is too low (under-voltage)",
            "problem the processor is too hot and slowed down",
        );
        let (was_low, was_hot) = (
            "note the supply voltage a while ago was too low (under-voltage)",
            "note the processor a while ago was too hot and slowed down",
        );
        let well = "ok the supply holds, and nothing is slowed down";
        for (alarm, millidegrees, bits, want) in [
            (None, "45000", None, &[][..]),
            (Some("0"), "45000", None, &[well]),
            (Some("1"), "45000", None, &[low]),
            // Cool and no alarm: the file is left alone.
            (Some("0"), "59999", Some("50005"), &[well]),
            (Some("0"), "60000", Some("0"), &[well]),
            (Some("0"), "60000", Some("50000"), &[was_low]),
            (Some("0"), "60000", Some("e0008"), &[hot]),
            (Some("0"), "60000", Some("60006"), &[hot]),
            (Some("0"), "60000", Some("60000"), &[was_hot]),
            (Some("1"), "45000", Some("50005"), &[low]),
            (Some("1"), "45000", Some("5000d"), &[low, hot]),
            (None, "45000", Some("50007"), &[low]),
            (None, "45000", Some("0"), &[well]),
            (None, "45000", Some("zebra"), &[]),
        ] {
            let mut files = vec![("sys/class/thermal/thermal_zone0/temp", millidegrees)];
            files.extend(alarm.map(|_| NAME));
            files.extend(alarm.map(|alarm| ("sys/class/hwmon/hwmon3/in0_lcrit_alarm", alarm)));
            let path = "sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled";
            files.extend(bits.map(|bits| (path, bits)));
            let want: Vec<String> = want
                .iter()
                .map(|what| match () {
                    () if what.contains("voltage") => [what, look_volts].concat(),
                    () if what.contains("hot") => [what, look_heat].concat(),
                    () => what.to_string(),
                })
                .collect();
            assert_eq!(look("power", &files, |_, _| {}), want, "{files:?}");
        }
    }
}
