//! What this program needs of the board: the right architecture, a clock, memory, descriptors.
//!
//! Follows proc(5) (`sys/kernel/arch`, `meminfo`, `limits`), the dynamic loaders of Debian's
//! multiarch, and `clock.rs` for when the time is known. It never sets a clock or a limit.

use super::rights::drop_in;
use super::root::{number_at, value};
use super::{Case, Level, Report};
use crate::clock;

/// Descriptors beside those of viewers and pages: listeners, timers, files of sources.
const DESCRIPTORS_SPARE: u64 = 64;

/// The kernel's name of a machine as Rust names its architecture.
fn family(machine: &str) -> &str {
    match machine {
        "i386" | "i486" | "i586" | "i686" => "x86",
        arm if arm.starts_with("armv") => "arm",
        other => other,
    }
}

/// What Debian calls an architecture.
fn debian(arch: &str) -> &str {
    match arch {
        "aarch64" => "arm64",
        "arm" => "armhf",
        "x86_64" | "x86" => "amd64",
        other => other,
    }
}

/// The kernel's architecture; before Linux 6.1 only what its processors are called.
fn machine(case: &Case) -> String {
    let arch = case.root.text("proc/sys/kernel/arch");
    if !arch.is_empty() {
        return family(&arch).to_owned();
    }
    let cpu = case.root.text("sys/devices/system/cpu/modalias");
    let kind = cpu.strip_prefix("cpu:type:").unwrap_or("");
    kind.split([':', ',']).next().unwrap_or("").to_owned()
}

pub(super) fn check_architecture(case: &Case, report: &mut Report) {
    let (ours, theirs) = (case.facts.arch, &machine(case)[..]);
    // The kind of processor is the same with 32 and 64 bits there.
    if ours.is_empty() || theirs.is_empty() || (ours == "x86_64" && theirs == "x86") {
        return;
    }
    let is_half = (ours == "arm" && theirs == "aarch64") || (ours == "x86" && theirs == "x86_64");
    let has_loader = || {
        let loaders = ["lib/ld-linux-aarch64.so.1", "lib64/ld-linux-x86-64.so.2"];
        loaders.iter().any(|loader| case.root.has(loader))
    };
    if ours == theirs || (is_half && !has_loader()) {
        return report.ok(format_args!("it is built for {ours}, as this system is"));
    }
    let (level, effect) = match is_half {
        true => (Level::Note, "It works; the other build is a little faster."),
        false => (
            Level::Problem,
            "It runs in an emulator, many times slower. Take the right build.",
        ),
    };
    report.add(
        level,
        format_args!("it is built for {ours}, but this system is {theirs}"),
        format_args!("{effect}"),
        format_args!("sudo apt install ./encke_*_{}.deb", debian(theirs)),
    );
}

pub(super) fn check_clock(case: &Case, report: &mut Report) {
    let facts = &case.facts.clock;
    if clock::is_known(facts) {
        return report.ok(format_args!(
            "{}",
            match () {
                () if facts.timesync || facts.kernel => "the network has set it",
                () if facts.rtc_s.is_some() => "its battery has kept it",
                () => "it is believed: it is later than this program was built",
            }
        ));
    }
    let daemons = [
        "usr/lib/systemd/systemd-timesyncd",
        "lib/systemd/systemd-timesyncd",
        "usr/sbin/chronyd",
        "usr/sbin/ntpd",
    ];
    report.add(
        Level::Problem,
        format_args!("this board has not been told the time"),
        format_args!(
            "Events carry the time since start in place of the date until the network sets it.{}",
            match facts.rtc_s {
                None => " There is no clock with a battery, so it is so after each start.",
                Some(_) => " Its clock with a battery is wrong, too: the battery may be empty.",
            }
        ),
        format_args!(
            "{}",
            match daemons.iter().any(|daemon| case.root.has(daemon)) {
                true => "sudo timedatectl set-ntp true\n# then: timedatectl status",
                false => "sudo apt install systemd-timesyncd",
            }
        ),
    );
}

pub(super) fn check_memory(case: &Case, report: &mut Report) {
    const MIB: u64 = 1024 * 1024;
    let available = number_at(value(&case.root.text("proc/meminfo"), "MemAvailable"), 0);
    let Some(available) = available.map(|kib| kib * 1024) else {
        return;
    };
    let needed = case.facts.memory_bytes / MIB;
    let free = available / MIB;
    match case.facts.memory_bytes > available {
        true => report.add(
            Level::Note,
            format_args!(
                "{free} MiB of memory are free, but all limits together may take {needed}"
            ),
            format_args!(
                "With that many viewers the kernel would stop some program. Lower viewers or \
                 ring_bytes below [limits]."
            ),
            format_args!("sudoedit /etc/encke/encke.toml"),
        ),
        false => report.ok(format_args!(
            "{free} MiB are free, and at most {needed} are taken"
        )),
    }
}

pub(super) fn check_descriptors(case: &Case, report: &mut Report) {
    let limits = &case.config.limits;
    let needed = u64::from(limits.viewers) + u64::from(limits.pages) + DESCRIPTORS_SPARE;
    let Some((who, most)) = case
        .who
        .as_ref()
        .and_then(|who| Some((who, who.descriptors?)))
    else {
        return;
    };
    if most >= needed {
        let viewers = u64::from(limits.viewers);
        return report.ok(format_args!("there is room for {viewers} viewers"));
    }
    let (then, mend) = match who.is_service() {
        true => ("", drop_in("files", &format!("LimitNOFILE={needed}"))),
        false => (
            " This lifts it for what is started from the same shell.",
            format!("sudo prlimit --pid $$ --nofile={needed}:{needed}"),
        ),
    };
    report.add(
        Level::Note,
        format_args!("{who} may open {most} files, but {needed} are needed"),
        format_args!("Fewer viewers fit in than the configuration allows.{then}"),
        format_args!("{mend}"),
    );
}

#[cfg(test)]
mod tests {
    use super::super::fake::look;
    use super::*;
    use crate::config::Config;

    #[test]
    fn architectures() {
        let loader = ("lib/ld-linux-aarch64.so.1", "");
        let (kernel, cpu) = ("proc/sys/kernel/arch", "sys/devices/system/cpu/modalias");
        for (arch, files, want) in [
            ("aarch64", &[][..], None),
            ("", &[(kernel, "aarch64")], None),
            (
                "aarch64",
                &[(kernel, "aarch64\n")],
                Some("ok it is built for aarch64, as this system is"),
            ),
            (
                "arm",
                &[(kernel, "armv6l")],
                Some("ok it is built for arm, as this system is"),
            ),
            (
                "x86",
                &[(kernel, "i686")],
                Some("ok it is built for x86, as this system is"),
            ),
            (
                "arm",
                &[(kernel, "aarch64")],
                Some("ok it is built for arm, as this system is"),
            ),
            (
                "arm",
                &[(kernel, "aarch64"), loader],
                Some(
                    "note it is built for arm, but this system is aarch64\
                     |sudo apt install ./encke_*_arm64.deb",
                ),
            ),
            (
                "x86_64",
                &[(kernel, "armv7l")],
                Some(
                    "problem it is built for x86_64, but this system is arm\
                     |sudo apt install ./encke_*_armhf.deb",
                ),
            ),
            (
                "aarch64",
                &[(cpu, "cpu:type:x86,ven0002fam0019:feature:,0000")],
                Some(
                    "problem it is built for aarch64, but this system is x86\
                     |sudo apt install ./encke_*_amd64.deb",
                ),
            ),
            ("x86_64", &[(cpu, "cpu:type:x86,ven0002:feature:")], None),
            (
                "aarch64",
                &[(cpu, "cpu:type:aarch64:feature:,0000")],
                Some("ok it is built for aarch64, as this system is"),
            ),
        ] {
            let said = look("program", files, |_, facts| facts.arch = arch);
            assert_eq!(said, Vec::from_iter(want), "{arch} {files:?}");
        }
    }

    #[test]
    fn clocks() {
        const KNOWN: clock::Facts = clock::Facts {
            timesync: false,
            kernel: false,
            rtc_s: None,
            device_tree: true,
            wall_s: 2000,
            build_s: 1000,
        };
        let unknown = "problem this board has not been told the time";
        let daemon = [("usr/sbin/chronyd", "")];
        let install = "|sudo apt install systemd-timesyncd";
        for (facts, files, want, mend) in [
            (KNOWN, &[][..], unknown, install),
            (
                KNOWN,
                &daemon,
                unknown,
                "|sudo timedatectl set-ntp true|# then: timedatectl status",
            ),
            (
                clock::Facts {
                    rtc_s: Some(5),
                    ..KNOWN
                },
                &[],
                unknown,
                install,
            ),
            (
                clock::Facts {
                    kernel: true,
                    ..KNOWN
                },
                &[],
                "ok the network has set it",
                "",
            ),
            (
                clock::Facts {
                    rtc_s: Some(1001),
                    ..KNOWN
                },
                &[],
                "ok its battery has kept it",
                "",
            ),
            (
                clock::Facts {
                    device_tree: false,
                    ..KNOWN
                },
                &[],
                "ok it is believed: it is later than this program was built",
                "",
            ),
        ] {
            let said = look("clock", files, |_, known| known.clock = facts);
            assert_eq!(said, [[want, mend].concat()], "{facts:?}");
        }
    }

    #[test]
    fn memory_at_and_above() {
        let files = [(
            "proc/meminfo",
            "MemTotal: 9 kB\nMemAvailable:       4096 kB\n",
        )];
        let said = |bytes| look("memory", &files, |_, facts| facts.memory_bytes = bytes);
        assert_eq!(
            said(4 << 20),
            ["ok 4 MiB are free, and at most 4 are taken"]
        );
        assert_eq!(
            said((4 << 20) + 1),
            [
                "note 4 MiB of memory are free, but all limits together may take 4\
                 |sudoedit /etc/encke/encke.toml"
            ]
        );
    }

    #[test]
    fn descriptors_at_and_below() {
        let said = |uid: &str, most: u64| {
            let status = format!("Uid: {uid} {uid}\nGid: 5 5\n");
            let limits = format!("Max open files   64   {most}   files\n");
            let files = [
                ("proc/self/status", status.as_str()),
                ("proc/self/limits", &limits),
            ];
            look("connections", &files, |config: &mut Config, _| {
                config.limits.viewers = 100;
                config.limits.pages = 8;
            })
        };
        assert_eq!(said("5", 172), ["ok there is room for 100 viewers"]);
        assert_eq!(
            said("5", 171),
            ["note user 5 may open 171 files, but 172 are needed\
                 |sudo prlimit --pid $$ --nofile=172:172"]
        );
        assert!(said("61184", 171)[0].contains("|printf '[Service]\\nLimitNOFILE=172\\n'"));
    }
}
