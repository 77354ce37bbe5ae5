//! Whether I2C and 1-wire are switched on, and whether a driver has taken what hangs on them.
//!
//! Follows the device tree overlays of the Raspberry Pi (config.txt, `i2c-sensor`, `w1-gpio`) and
//! the kernel's w1_therm and i2c sysfs. A board that does without is a hint, unless the
//! configuration asks for such a sensor. It never loads a module and never talks on a bus.

use super::{Case, Level, Report};

/// Where Raspberry Pi OS keeps it since bookworm, and before.
const CONFIG_TXT: [&str; 2] = ["boot/firmware/config.txt", "boot/config.txt"];
const I2C_DEVICES: &str = "sys/bus/i2c/devices/";
const W1_DEVICES: &str = "sys/bus/w1/devices/";
/// Family codes of the thermometers that w1_therm reads.
const THERMOMETERS: [&str; 5] = ["10-", "22-", "28-", "3b-", "42-"];

/// The first of `CONFIG_TXT` that is there, else where it would be.
fn config_txt(case: &Case) -> &'static str {
    match case.root.has(CONFIG_TXT[0]) || !case.root.has(CONFIG_TXT[1]) {
        true => CONFIG_TXT[0],
        false => CONFIG_TXT[1],
    }
}

/// Whether a line of config.txt switches a thing on: `key=name`, alone or in a list, where `name`
/// is one of `names`.
#[inline(never)]
fn switches(case: &Case, key: &str, names: &[&str]) -> bool {
    let text = case.root.text(config_txt(case));
    for line in text.lines() {
        let values = line.trim().strip_prefix(key).unwrap_or("");
        if values.split(',').any(|value| names.contains(&value.trim())) {
            return true;
        }
    }
    false
}

/// The lines that add `line` to config.txt for every model, and start anew.
#[inline(never)]
fn add_line(case: &Case, line: &str) -> String {
    let path = config_txt(case);
    format!("printf '\\n[all]\\n{line}\\n' | sudo tee -a /{path}\n{REBOOT}")
}

const REBOOT: &str = "sudo reboot";

pub(super) fn check_i2c(case: &Case, report: &mut Report) {
    let level = case.weight("i2c", "i2c");
    // Other boards have it on other buses, and a computer for its own use.
    if !case.is_pi && level != Level::Problem {
        return;
    }
    let names = case.root.names(I2C_DEVICES);
    if names.iter().any(|name| name == "i2c-1") {
        return chips(case, report, &names);
    }
    if !case.is_pi {
        if !names.iter().any(|name| name.starts_with("i2c-")) {
            report.add(
                level,
                format_args!("there is no I2C bus"),
                format_args!(
                    "The board's device tree has to switch it on; its maker's manual says how."
                ),
                format_args!("ls /sys/bus/i2c/devices"),
            );
        }
        return;
    }
    if switches(case, "dtparam=", &["i2c_arm=on", "i2c=on", "i2c1=on"]) {
        return report.add(
            level,
            format_args!("I2C was switched on after the last start"),
            format_args!("It will be there after the next one."),
            format_args!("{REBOOT}"),
        );
    }
    let mend = match case.root.has("usr/bin/raspi-config") {
        true => "sudo raspi-config nonint do_i2c 0".to_owned(),
        false => add_line(case, "dtparam=i2c_arm=on"),
    };
    report.add(
        level,
        format_args!("I2C is off"),
        format_args!("A sensor on pins 3 and 5 (BME280, SHT31, BH1750 and others) stays unseen."),
        format_args!("{mend}"),
    );
}

/// Chips that the device tree or somebody names on the header's bus: `1-0076` and so on.
fn chips(case: &Case, report: &mut Report, names: &[String]) {
    let mut taken = 0;
    for chip in names.iter().filter(|name| name.starts_with("1-")) {
        // A name without a driver is nobody's sensor.
        if case.root.has_in(I2C_DEVICES, chip, "/driver") {
            taken += 1;
            continue;
        }
        let name = case.root.text_in(I2C_DEVICES, chip, "/name");
        return report.add(
            Level::Problem,
            format_args!("{name} ({chip}) is set up on I2C, but no driver has taken it"),
            format_args!(
                "The sensor did not answer at that address, or its module is missing. The table \
                 shows what answers; a BME280 is at 76 or 77."
            ),
            format_args!("sudo apt install i2c-tools\nsudo i2cdetect -y 1"),
        );
    }
    match taken {
        // A program may read it without a driver.
        0 if case.is_pi => report.add(
            Level::Note,
            format_args!("I2C is on, but no sensor is set up on it"),
            format_args!(
                "A line of config.txt starts a sensor's driver; this one is for a BME280."
            ),
            format_args!(
                "{}",
                add_line(case, "dtoverlay=i2c-sensor,bme280,addr=0x76")
            ),
        ),
        count => report.ok(format_args!("bus 1 is on, chips with a driver: {count}")),
    }
}

pub(super) fn check_w1(case: &Case, report: &mut Report) {
    let level = case.weight("w1", "/w1/");
    let names = case.root.names(W1_DEVICES);
    if names.iter().any(|name| name.starts_with("w1_bus_master")) {
        return thermometers(case, report, &names);
    }
    let has_overlay = switches(case, "dtoverlay=", &["w1-gpio", "w1-gpio-pullup"]);
    if !case.is_pi && !has_overlay && level != Level::Problem {
        return;
    }
    let is_loaded = case.root.has("sys/module/w1_gpio");
    let mend = match (case.is_pi, has_overlay) {
        (true, false) => add_line(case, "dtoverlay=w1-gpio"),
        (_, true) if is_loaded => REBOOT.to_owned(),
        _ => "sudo modprobe -a w1-gpio w1-therm".to_owned(),
    };
    let what = match has_overlay {
        true => "1-wire is switched on in config.txt, but not there",
        false => "1-wire is off",
    };
    let effect = "A DS18B20 stays unseen. A Raspberry Pi reads it on GPIO 4, which is pin 7.";
    report.add(
        level,
        format_args!("{what}"),
        format_args!("{effect}"),
        format_args!("{mend}"),
    );
}

/// What hangs on the bus: `28-0316a2795c9f` and so on; family 00 is noise.
fn thermometers(case: &Case, report: &mut Report, names: &[String]) {
    let mut count = 0;
    for name in names
        .iter()
        .filter(|name| THERMOMETERS.iter().any(|f| name.starts_with(f)))
    {
        count += 1;
        let has = |file| case.root.has_in(W1_DEVICES, name, file);
        if !has("/temperature") && !has("/w1_slave") {
            return report.add(
                Level::Problem,
                format_args!("thermometer {name} is there, but nothing reads it"),
                format_args!("Its module is not loaded. The second line loads it at each start."),
                format_args!(
                    "sudo modprobe w1-therm\n\
                     echo w1-therm | sudo tee /etc/modules-load.d/w1-therm.conf"
                ),
            );
        }
    }
    if names.iter().any(|name| name.starts_with("00-")) {
        report.add(
            Level::Problem,
            format_args!("1-wire hears noise in place of sensors"),
            format_args!("{RESISTOR}"),
            format_args!("ls /sys/bus/w1/devices"),
        );
    } else if count == 0 {
        report.add(
            case.weight("w1", "/w1/"),
            format_args!("1-wire is on, but no thermometer answers"),
            format_args!("{RESISTOR}"),
            format_args!("ls /sys/bus/w1/devices"),
        );
    } else {
        report.ok(format_args!("thermometers that answer: {count}"));
    }
}

const RESISTOR: &str = "Look at the wires: data to GPIO 4 (pin 7), 3.3 V and ground, and between \
                        data and 3.3 V a resistor of 4.7 kilohms. Then look again:";

#[cfg(test)]
mod tests {
    use super::super::fake::look;

    const PI: (&str, &str) = ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0");
    const MASTER: (&str, &str) = ("sys/bus/w1/devices/w1_bus_master1/name", "w1");

    fn said(about: &str, asks: Option<&str>, files: &[(&str, &str)]) -> Vec<String> {
        look(about, files, |config, _| {
            config
                .sources
                .include
                .extend(asks.map(|word| format!("{word}/#")));
        })
    }

    #[test]
    fn i2c() {
        let bus = ("sys/bus/i2c/devices/i2c-1/name", "bcm2835");
        let hdmi = ("sys/bus/i2c/devices/i2c-20/name", "hdmi");
        let chip = ("sys/bus/i2c/devices/1-0076/name", "bme280\n");
        let driver = ("sys/bus/i2c/devices/1-0076/driver/uevent", "");
        let asked = ("boot/config.txt", "x=1\ndtparam=spi=on,i2c_arm=on\n");
        let commented = ("boot/firmware/config.txt", "#dtparam=i2c_arm=on");
        let tool = ("usr/bin/raspi-config", "");
        for (asks, files, want) in [
            (None, &[][..], &[][..]),
            (None, &[hdmi], &[]),
            (Some("i2c"), &[hdmi], &[]),
            (
                Some("i2c"),
                &[],
                &["problem there is no I2C bus|ls /sys/bus/i2c/devices"],
            ),
            (
                None,
                &[PI, commented, tool, hdmi],
                &["note I2C is off|sudo raspi-config nonint do_i2c 0"],
            ),
            (
                Some("i2c"),
                &[PI, commented, tool],
                &["problem I2C is off|sudo raspi-config nonint do_i2c 0"],
            ),
            (
                None,
                &[PI, commented],
                &[
                    "note I2C is off|printf '\\n[all]\\ndtparam=i2c_arm=on\\n' | sudo tee -a \
                 /boot/firmware/config.txt|sudo reboot",
                ],
            ),
            (
                None,
                &[PI, asked, tool],
                &["note I2C was switched on after the last start|sudo reboot"],
            ),
            (
                None,
                &[PI, bus, asked],
                &["note I2C is on, but no sensor is set up on it|printf \
                 '\\n[all]\\ndtoverlay=i2c-sensor,bme280,addr=0x76\\n' | sudo tee -a \
                 /boot/config.txt|sudo reboot"],
            ),
            (None, &[bus, chip], &[]),
            (
                Some("i2c"),
                &[bus],
                &["ok bus 1 is on, chips with a driver: 0"],
            ),
            (
                None,
                &[PI, bus, chip],
                &[
                    "problem bme280 (1-0076) is set up on I2C, but no driver has taken it\
                 |sudo apt install i2c-tools|sudo i2cdetect -y 1",
                ],
            ),
            (
                None,
                &[PI, bus, chip, driver],
                &["ok bus 1 is on, chips with a driver: 1"],
            ),
        ] {
            assert_eq!(said("i2c", asks, files), want, "{asks:?} {files:?}");
        }
    }

    #[test]
    fn one_wire() {
        let asked = ("boot/firmware/config.txt", "dtoverlay=w1-gpio,gpiopin=4");
        let module = ("sys/module/w1_gpio/refcnt", "0");
        let bare = ("sys/bus/w1/devices/28-0316a2795c9f/name", "28-0316a2795c9f");
        let new = ("sys/bus/w1/devices/28-0316a2795c9f/temperature", "21562");
        let old = ("sys/bus/w1/devices/10-000802b4ba0e/w1_slave", "");
        let noise = ("sys/bus/w1/devices/00-800000000000/name", "");
        let other = ("sys/bus/w1/devices/2d-000000000001/name", "eeprom");
        for (asks, files, want) in [
            (None, &[][..], &[][..]),
            (
                Some("w1"),
                &[],
                &["problem 1-wire is off|sudo modprobe -a w1-gpio w1-therm"],
            ),
            (
                None,
                &[PI],
                &[
                    "note 1-wire is off|printf '\\n[all]\\ndtoverlay=w1-gpio\\n' | sudo tee -a \
                 /boot/firmware/config.txt|sudo reboot",
                ],
            ),
            (
                Some("w1"),
                &[PI, asked, module],
                &["problem 1-wire is switched on in config.txt, but not there|sudo reboot"],
            ),
            (
                None,
                &[PI, asked],
                &["note 1-wire is switched on in config.txt, but not there\
                 |sudo modprobe -a w1-gpio w1-therm"],
            ),
            (
                None,
                &[MASTER],
                &["note 1-wire is on, but no thermometer answers|ls /sys/bus/w1/devices"],
            ),
            (
                Some("w1"),
                &[MASTER, other],
                &["problem 1-wire is on, but no thermometer answers|ls /sys/bus/w1/devices"],
            ),
            (
                None,
                &[MASTER, noise],
                &["problem 1-wire hears noise in place of sensors|ls /sys/bus/w1/devices"],
            ),
            (
                None,
                &[MASTER, bare],
                &[
                    "problem thermometer 28-0316a2795c9f is there, but nothing reads it\
                 |sudo modprobe w1-therm\
                 |echo w1-therm | sudo tee /etc/modules-load.d/w1-therm.conf",
                ],
            ),
            (None, &[MASTER, new], &["ok thermometers that answer: 1"]),
            (
                None,
                &[MASTER, new, old],
                &["ok thermometers that answer: 2"],
            ),
        ] {
            assert_eq!(said("1-wire", asks, files), want, "{asks:?} {files:?}");
        }
    }
}
