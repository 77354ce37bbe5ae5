//! Whether the device nodes of the board can be opened, by group and permission.
//!
//! Groups are those of Raspberry Pi OS and Debian: gpio, i2c, spi, dialout; where a node belongs to
//! root alone, a udev(7) rule gives it a group. Symbolic links are passed over: what they lead to
//! is looked at itself. It never opens a device.

use super::rights::{Who, drop_in};
use super::{Case, Level, Node, Report};

/// Device nodes of one sort.
struct Class {
    /// What their names begin with.
    prefixes: &'static [&'static str],
    /// What topics and commands that are about them have in their names.
    head: &'static str,
    part: &'static str,
    /// The group that they usually belong to.
    group: &'static str,
    /// What udev calls them, and their names as a pattern of its.
    subsystem: &'static str,
    kernel: &'static str,
}

static CLASSES: &[Class] = &[
    Class {
        prefixes: &["gpiochip"],
        head: "gpio",
        part: "gpio",
        group: "gpio",
        subsystem: "gpio",
        kernel: "gpiochip*",
    },
    Class {
        prefixes: &["i2c-"],
        head: "i2c",
        part: "i2c",
        group: "i2c",
        subsystem: "i2c-dev",
        kernel: "i2c-*",
    },
    Class {
        prefixes: &["spidev"],
        head: "spi",
        part: "spidev",
        group: "spi",
        subsystem: "spidev",
        kernel: "spidev*",
    },
    Class {
        prefixes: &["ttyAMA", "ttyS", "ttyUSB", "ttyACM"],
        head: "serial",
        part: "/dev/tty",
        group: "dialout",
        subsystem: "tty",
        kernel: "ttyAMA*|ttyS*|ttyUSB*|ttyACM*",
    },
];

impl Class {
    fn has(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Whether a class of devices has nodes of such a name.
pub(super) fn is_node(name: &str) -> bool {
    CLASSES.iter().any(|class| class.has(name))
}

/// Whether `who` may read and write `node`: path_resolution(7), the first that fits decides.
fn may_open(who: &Who, node: &Node) -> bool {
    let bits = match () {
        () if who.uid == 0 => 0o6,
        () if who.uid == u64::from(node.uid) => node.mode >> 6,
        () if who.groups.contains(&u64::from(node.gid)) => node.mode >> 3,
        () => node.mode,
    };
    bits & 0o6 == 0o6
}

/// What is in nobody's way and what is, over all classes.
struct Sorted {
    open: String,
    shut: String,
    /// The groups that open what is shut.
    groups: String,
    level: Level,
}

pub(super) fn check(case: &Case, report: &mut Report) {
    let Some(who) = &case.who else {
        return;
    };
    let before = report.findings.len();
    let mut sorted = Sorted {
        open: String::new(),
        shut: String::new(),
        groups: String::new(),
        level: Level::Note,
    };
    for class in CLASSES {
        // A computer has such nodes too, for itself alone.
        if case.is_board || case.asks(class.head, class.part) {
            sort(case, report, who, class, &mut sorted);
        }
    }
    if !sorted.groups.is_empty() {
        let mend = join(who, &sorted.groups);
        report.add(
            sorted.level,
            format_args!("{who} cannot open {}", sorted.shut),
            format_args!(
                "What hangs on it can be neither read nor switched.{}",
                then(who)
            ),
            format_args!("{mend}"),
        );
    }
    if report.findings.len() == before && !sorted.open.is_empty() {
        report.ok(format_args!("{who} can open {}", sorted.open));
    }
}

fn sort(case: &Case, report: &mut Report, who: &Who, class: &Class, sorted: &mut Sorted) {
    let mut bare = String::new();
    for node in case.facts.nodes.iter().filter(|node| class.has(&node.name)) {
        let name = node.name.as_str();
        let group = case.root.name_of("etc/group", node.gid.into());
        match group.as_deref() {
            _ if may_open(who, node) => list(&mut sorted.open, ", ", &["/dev/", name]),
            // The login console sits there; it is meant to be so unless somebody wants the port.
            Some("tty") if !case.asks(class.head, class.part) => {}
            Some("tty") => report.add(
                Level::Problem,
                format_args!("the login console sits on /dev/{name}"),
                format_args!(
                    "Two cannot read one serial port. After the next start it belongs to the group \
                     dialout."
                ),
                format_args!("sudo systemctl mask --now serial-getty@{name}.service\nsudo reboot"),
            ),
            Some(group) if node.gid != 0 && node.mode & 0o060 == 0o060 => {
                sorted.level = sorted.level.max(case.weight(class.head, class.part));
                list(
                    &mut sorted.shut,
                    ", ",
                    &["/dev/", name, " (group ", group, ")"],
                );
                if !sorted.groups.split(',').any(|other| other == group) {
                    list(&mut sorted.groups, ",", &[group]);
                }
            }
            _ => list(&mut bare, ", ", &["/dev/", name]),
        }
    }
    if !bare.is_empty() {
        no_group(case, report, who, class, &bare);
    }
}

/// Adds one more to a list.
#[inline(never)]
fn list(list: &mut String, gap: &str, parts: &[&str]) {
    if !list.is_empty() {
        list.push_str(gap);
    }
    list.push_str(&parts.concat());
}

/// What else is to do when somebody has a new group.
fn then(who: &Who) -> &'static str {
    match who.is_service() {
        true => "",
        false => " Log in again afterwards.",
    }
}

/// How somebody gets into `groups`, which stand behind each other with commas.
fn join(who: &Who, groups: &str) -> String {
    match &who.name {
        Some(name) if !who.is_service() => format!("sudo usermod -aG {groups} {name}"),
        _ => drop_in(
            // The installer keeps its own in groups.conf; these add to them.
            "more-groups",
            &format!("SupplementaryGroups={}", groups.replace(',', " ")),
        ),
    }
}

/// Nodes that only root may open: they need a group first.
fn no_group(case: &Case, report: &mut Report, who: &Who, class: &Class, names: &str) {
    let Class {
        group,
        subsystem,
        kernel,
        ..
    } = class;
    let (then, joined) = (then(who), join(who, group));
    report.add(
        case.weight(class.head, class.part),
        format_args!("only root can open {names}"),
        format_args!("This system gives it to no group; a rule of udev does.{then}"),
        format_args!(
            "sudo groupadd -rf {group}\n\
             echo 'KERNEL==\"{kernel}\", GROUP=\"{group}\", MODE=\"0660\"' | sudo tee \\\n  \
             /etc/udev/rules.d/60-{group}.rules\n\
             sudo udevadm control --reload\n\
             sudo udevadm trigger --subsystem-match={subsystem}\n\
             {joined}"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::super::fake::look;
    use super::*;
    use crate::config::{Exec, SourceEntry};

    fn node(name: &str, mode: u32, gid: u32) -> Node {
        Node {
            name: name.to_owned(),
            mode,
            uid: 0,
            gid,
        }
    }

    fn said(status: &str, asks: &str, nodes: &[Node]) -> Vec<String> {
        let files = [
            ("proc/device-tree/model", "Orange Pi"),
            ("proc/self/status", status),
            ("etc/passwd", "root:x:0:0\nme:x:5:5\n"),
            ("etc/group", "root:x:0:\ntty:x:4:\ngpio:x:9:\ni2c:x:8:\n"),
        ];
        look("devices", &files, |config, facts| {
            facts.nodes = nodes.to_vec();
            config.source = vec![SourceEntry::Exec(Exec {
                command: vec![asks.to_owned()],
                topic: None,
                interval_ms: None,
                timeout_ms: 0,
                stale_ms: None,
                label: None,
                unit: None,
                place: String::new(),
            })];
        })
    }

    const ME: &str = "Uid: 5 5\nGid: 5 5\nGroups: 8\n";
    const ROOT: &str = "Uid: 0 0\nGid: 0 0\n";
    const SERVICE: &str = "Uid: 61200 61200\nGid: 61200 61200\n";

    #[test]
    fn groups_and_permissions() {
        let gpio = || node("gpiochip0", 0o660, 9);
        let i2c = || node("i2c-1", 0o660, 8);
        for (status, asks, nodes, want) in [
            (ME, "cat", vec![i2c()], &["ok me can open /dev/i2c-1"][..]),
            (
                ROOT,
                "cat",
                vec![i2c(), node("gpiochip0", 0o600, 0)],
                &["ok root can open /dev/gpiochip0, /dev/i2c-1"],
            ),
            (
                ME,
                "cat",
                vec![i2c(), gpio(), node("gpiochip1", 0o660, 9)],
                &[
                    "note me cannot open /dev/gpiochip0 (group gpio), /dev/gpiochip1 (group gpio)\
                 |sudo usermod -aG gpio me",
                ],
            ),
            (
                ME,
                "gpioget",
                vec![gpio()],
                &["problem me cannot open /dev/gpiochip0 (group gpio)|sudo usermod -aG gpio me"],
            ),
            (
                "Uid: 5 5\nGid: 5 5\n",
                "cat",
                vec![gpio(), i2c()],
                &[
                    "note me cannot open /dev/gpiochip0 (group gpio), /dev/i2c-1 (group i2c)\
                 |sudo usermod -aG gpio,i2c me",
                ],
            ),
            (
                SERVICE,
                "cat",
                vec![gpio(), i2c()],
                &[
                    "note user 61200 cannot open /dev/gpiochip0 (group gpio), /dev/i2c-1 (group i2c)\
                 |sudo mkdir -p /etc/systemd/system/encke.service.d\
                 |printf '[Service]\\nSupplementaryGroups=gpio i2c\\n' | sudo tee \\\
                 |  /etc/systemd/system/encke.service.d/more-groups.conf\
                 |sudo systemctl daemon-reload|sudo systemctl restart encke",
                ],
            ),
            (
                ME,
                "gpioget",
                vec![node("gpiochip0", 0o600, 0), node("gpiochip1", 0o600, 0)],
                &["problem only root can open /dev/gpiochip0, /dev/gpiochip1\
                 |sudo groupadd -rf gpio\
                 |echo 'KERNEL==\"gpiochip*\", GROUP=\"gpio\", MODE=\"0660\"' | sudo tee \\\
                 |  /etc/udev/rules.d/60-gpio.rules\
                 |sudo udevadm control --reload|sudo udevadm trigger --subsystem-match=gpio\
                 |sudo usermod -aG gpio me"],
            ),
            (ME, "cat", vec![node("ttyAMA0", 0o620, 4)], &[]),
            (
                ME,
                "/dev/ttyAMA0",
                vec![node("ttyAMA0", 0o620, 4)],
                &["problem the login console sits on /dev/ttyAMA0\
                 |sudo systemctl mask --now serial-getty@ttyAMA0.service|sudo reboot"],
            ),
            (ME, "cat", vec![], &[]),
        ] {
            assert_eq!(said(status, asks, &nodes), want, "{status} {asks}");
        }
    }

    #[test]
    fn a_computer_keeps_its_devices_to_itself() {
        let files = [("proc/self/status", ME)];
        let said = look("devices", &files, |_, facts| {
            facts.nodes = vec![node("i2c-1", 0o600, 0)];
        });
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn the_owner_is_judged_as_the_owner() {
        let mut node = node("i2c-1", 0o066, 9);
        node.uid = 5;
        let nodes = [node];
        assert!(said(ME, "cat", &nodes)[0].starts_with("note me cannot open"));
    }

    #[test]
    fn names_of_classes() {
        for (name, want) in [
            ("gpiochip10", Some("gpio")),
            ("i2c-1", Some("i2c")),
            ("spidev0.1", Some("spi")),
            ("ttyACM0", Some("serial")),
            ("tty1", None),
            ("gpiomem", None),
        ] {
            assert_eq!(
                CLASSES
                    .iter()
                    .find(|class| class.has(name))
                    .map(|class| class.head),
                want,
                "{name}"
            );
        }
    }
}
