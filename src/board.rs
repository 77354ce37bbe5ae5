//! Board profiles: TOML files embedded from `boards/`, each the configuration's lowest layer on
//! one kind of board (DESIGN.md section 3); which of them this machine is, and whether the limits
//! fit its memory. A new board is one file there. Uses `config.rs`, its sibling.
//!
//! The machine is known by the root node's `model` and `compatible` (Devicetree Specification
//! section 2.3, kernel ABI testing/sysfs-firmware-ofw). It never asks which processor this program
//! was built for, so that a fixture is a board as good as any.

use std::path::Path;

use crate::config::{self, Board, Config, ConfigError, Flags, Layer, Limits};

/// A board profile: the schema of the configuration plus `[board]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its file's name without `.toml`: what `--board` takes.
    pub name: &'static str,
    /// TOML.
    pub text: &'static str,
}

/// Made by src/build.rs from every file of `boards/`: the generic one, then the others by name.
const PROFILES: &[Profile] = include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// Under every other profile.
const GENERIC: Profile = PROFILES[0];

/// All profiles, the generic one first.
pub fn profiles() -> &'static [Profile] {
    PROFILES
}

impl Profile {
    fn layer(&self) -> Layer<'static> {
        Layer {
            file: self.name,
            text: self.text,
            is_profile: true,
        }
    }

    /// The layers this profile stands for: the generic one, then itself.
    fn layers(&self) -> Vec<Layer<'static>> {
        let own = (*self != GENERIC).then(|| self.layer());
        [GENERIC.layer()].into_iter().chain(own).collect()
    }

    /// The configuration of this board without a file and flags.
    pub fn config(&self) -> Config {
        Config::new(&self.layers()).expect("a test reads every embedded profile")
    }

    /// What the profile says about its board.
    pub fn board(&self) -> Board {
        let own = Config::new(&[self.layer()]);
        own.expect("a test reads every embedded profile").board
    }
}

/// The generic profile alone.
impl Default for Config {
    fn default() -> Config {
        GENERIC.config()
    }
}

/// What the kernel says the machine is; each empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The device tree's `model`: "Raspberry Pi Zero W Rev 1.1".
    pub model: String,
    /// The device tree's `compatible`, its texts separated by spaces, the board before its chip.
    pub compatible: String,
    /// The name of the profile for all boards of this kind: `arm64` or `arm32`.
    pub family: &'static str,
}

impl Machine {
    /// Reads what stands below `sys_root`, usually `/`.
    pub fn read(sys_root: &Path) -> Machine {
        // The second is a link to the first on a machine, but not always in a copy of one.
        let trees = ["sys/firmware/devicetree/base", "proc/device-tree"];
        let property = |name: &str| {
            let mut files = trees
                .iter()
                .map(|tree| sys_root.join(tree).join(name))
                .filter_map(|path| std::fs::read(path).ok());
            let bytes = files.next().unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).replace(|c: char| c.is_control(), " ");
            text.trim().to_owned()
        };
        let (model, compatible) = (property("model"), property("compatible"));
        let family = match model.is_empty() && compatible.is_empty() {
            true => "",
            false => family(&std::fs::read(sys_root.join("proc/cpuinfo")).unwrap_or_default()),
        };
        Machine {
            model,
            compatible,
            family,
        }
    }
}

/// Which profile stands for all boards with this `/proc/cpuinfo`. Only ARM kernels say "CPU
/// architecture"; those of 64 bits say 8 (AArch64 before Linux 3.19), those of 32 bits never do,
/// whatever the processor.
fn family(cpuinfo: &[u8]) -> &'static str {
    let cpuinfo = String::from_utf8_lossy(cpuinfo);
    let mut values = cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("CPU architecture")?.split_once(':'));
    match values.next().map(|(_, value)| value.trim()) {
        Some("8" | "AArch64") => "arm64",
        Some(_) => "arm32",
        None => "",
    }
}

/// The profile called `name`; without a name the one that knows the machine's model or compatible
/// by the longest text, else its family's, else the generic one.
pub fn choose(name: Option<&str>, machine: &Machine) -> Result<Profile, ConfigError> {
    choose_from(PROFILES, name, machine)
}

fn choose_from(
    profiles: &[Profile],
    name: Option<&str>,
    machine: &Machine,
) -> Result<Profile, ConfigError> {
    let called = |name: &str| profiles.iter().find(|profile| profile.name == name);
    let Some(name) = name else {
        let known = |profile: &&Profile| {
            let texts = profile.board().match_;
            let stands = |text: &&String| {
                machine.model.contains(*text) || machine.compatible.contains(*text)
            };
            texts.iter().filter(stands).map(String::len).max()
        };
        let best = profiles
            .iter()
            .filter_map(|profile| Some((known(&profile)?, profile)))
            .max_by_key(|(length, _)| *length);
        let chosen = best
            .map(|(_, profile)| profile)
            .or_else(|| called(machine.family));
        return Ok(chosen.copied().unwrap_or(GENERIC));
    };
    called(name).copied().ok_or_else(|| {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name).collect();
        ConfigError {
            file: "--board".to_string(),
            place: None,
            problem: format!("no board is called \"{name}\""),
            fix: format!("one of: {}", names.join(", ")),
        }
    })
}

/// The configuration from all layers, and the profile at its bottom.
pub fn load(flags: &Flags, machine: &Machine) -> Result<(Config, Profile), ConfigError> {
    let profile = choose(flags.board.as_deref(), machine)?;
    let path = config::find(flags.config.as_deref());
    let text = path
        .as_deref()
        .map(config::read)
        .transpose()?
        .unwrap_or_default();
    let file = path
        .as_deref()
        .unwrap_or(Path::new(""))
        .display()
        .to_string();
    let mut layers = profile.layers();
    layers.push(Layer {
        file: &file,
        text: &text,
        is_profile: false,
    });
    let mut config = Config::new(&layers)?;
    if !flags.listen.is_empty() {
        config.server.listen.clone_from(&flags.listen);
    }
    Ok((config, profile))
}

/// A number of `[limits]` that costs memory.
struct Key {
    name: &'static str,
    of: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

impl Key {
    /// `limits` with `count` of this.
    fn with(&self, limits: &Limits, count: u64) -> Limits {
        let mut limits = limits.clone();
        (self.set)(&mut limits, count);
        limits
    }
}

const KEYS: &[Key] = &[
    Key {
        name: "viewers",
        of: |limits| limits.viewers.into(),
        set: |limits, count| limits.viewers = count as u32,
    },
    Key {
        name: "pages",
        of: |limits| limits.pages.into(),
        set: |limits, count| limits.pages = count as u32,
    },
    Key {
        name: "ring_bytes",
        of: |limits| limits.ring_bytes as u64,
        set: |limits, count| limits.ring_bytes = count as usize,
    },
    Key {
        name: "topics",
        of: |limits| limits.topics.into(),
        set: |limits, count| limits.topics = count as u32,
    },
    Key {
        name: "history_bytes",
        of: |limits| limits.history_bytes as u64,
        set: |limits, count| limits.history_bytes = count as usize,
    },
    Key {
        name: "pictures",
        of: |limits| limits.pictures.into(),
        set: |limits, count| limits.pictures = count as u32,
    },
    Key {
        name: "picture_bytes",
        of: |limits| limits.picture_bytes as u64,
        set: |limits, count| limits.picture_bytes = count as usize,
    },
];

/// What is wrong when `limits` cost more bytes than the profile's `memory`, and which numbers of
/// `file` would have to be how low: of those above the profile's own, the costliest, and others
/// only if that one cannot mend it alone. `cost` must not fall when a limit rises.
pub fn over_budget(
    file: &str,
    limits: &Limits,
    profile: &Profile,
    cost: fn(&Limits) -> u64,
) -> Option<ConfigError> {
    let own = profile.config();
    let (sum, budget) = (cost(limits), own.board.memory?);
    if sum <= budget {
        return None;
    }
    let least = |key: &Key| (key.of)(&own.limits).min((key.of)(limits));
    let mut lowered = limits.clone();
    let mut fix = "in [limits] lower".to_string();
    while cost(&lowered) > budget {
        let left = |key: &&Key| cost(&key.with(&lowered, least(key)));
        let raised = KEYS.iter().filter(|key| left(key) < cost(&lowered));
        let Some(key) = raised.min_by_key(left) else {
            break;
        };
        let fits = |count| cost(&key.with(&lowered, count)) <= budget;
        let count = greatest(least(key), (key.of)(limits), fits);
        lowered = key.with(&lowered, count);
        let and = if fix.ends_with("lower") { "" } else { " and" };
        fix += &format!("{and} {} to {count}", key.name);
    }
    if *profile != GENERIC {
        fix += ", or start with --board generic, which allows more";
    }
    Some(ConfigError {
        file: file.to_string(),
        place: None,
        problem: format!(
            "the limits need {sum} bytes together, and the board profile {} allows {budget}",
            profile.name
        ),
        fix,
    })
}

/// The greatest count from `least` that `fits`, or `least` when none does; `above` does not fit.
fn greatest(least: u64, mut above: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let mut found = least;
    while above - found > 1 {
        let middle = found + (above - found) / 2;
        match fits(middle) {
            true => found = middle,
            false => above = middle,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name;

    fn machine(model: &str, compatible: &str) -> Machine {
        Machine {
            model: model.to_string(),
            compatible: compatible.to_string(),
            family: "",
        }
    }

    #[test]
    fn every_profile_is_read_and_the_generic_one_sets_every_limit() {
        let names: Vec<&str> = profiles().iter().map(|profile| profile.name).collect();
        let mut sorted = names[1..].to_vec();
        sorted.sort_unstable();
        assert_eq!((names[0], &names[1..]), ("generic", &sorted[..]));
        for profile in profiles() {
            let Config { limits, board, .. } = profile.config();
            assert!(limits.viewers >= 64 && limits.pages >= 64 && limits.ring_bytes >= 65_536);
            assert!(limits.topics >= 256 && limits.per_address > 0, "{board:?}");
            assert!(board.name.is_some() && board.memory.is_some() && !board.targets.is_empty());
            let is_last = ["generic", "arm32", "arm64"].contains(&profile.name);
            assert_eq!(board.match_.is_empty(), is_last, "{}", profile.name);
            assert!(!profile.text.contains('#'), "{}", profile.text);
        }
        let limits = Config::default().limits;
        assert_eq!(
            (limits.viewers, limits.pages, limits.per_address),
            (10_000, 256, 64)
        );
        assert_eq!(
            (limits.ring_bytes, limits.topics, limits.history_bytes),
            (262_144, 256, 0)
        );
    }

    /// Two topics by one name: only where the two are never on one machine.
    #[test]
    fn names_that_profiles_give_are_given_once() {
        let elsewhere = ["thermal/x86_pkg_temp", "hwmon/k10temp/tctl"];
        for profile in profiles() {
            let mut taken = Vec::new();
            for rule in profile.config().topic {
                let is_slug = |part: &str| part == "+" || name::slug(part).as_str() == part;
                assert!(rule.match_.split('/').all(is_slug), "{}", rule.match_);
                if !elsewhere.contains(&rule.match_.as_str()) {
                    taken.extend(rule.rename);
                }
            }
            let count = taken.len();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), count, "{}", profile.name);
        }
    }

    #[test]
    fn the_longest_match_is_the_board() {
        let one = Profile {
            name: "pi",
            text: "[board]\nmatch = [\"Raspberry Pi\"]",
        };
        let two = Profile {
            name: "zero",
            text: "[limits]\nviewers = 9\n[board]\nmatch = [\"Raspberry Pi Zero\", \"brcm,bcm2835\"]",
        };
        let three = Profile {
            name: "arm32",
            text: "[board]\nname = \"other\"",
        };
        let all = [GENERIC, one, two, three];
        let chosen = |name, machine: &Machine| choose_from(&all, name, machine).unwrap().name;
        for (model, compatible, want) in [
            ("Raspberry Pi Zero W Rev 1.1", "", "zero"),
            ("Raspberry Pi 4", "raspberrypi,4 brcm,bcm2711", "pi"),
            ("", "x brcm,bcm2835", "zero"),
            ("Banana", "", "generic"),
            ("", "", "generic"),
        ] {
            assert_eq!(chosen(None, &machine(model, compatible)), want, "{model}");
        }
        let zero = machine("Raspberry Pi Zero", "");
        assert_eq!(chosen(Some("pi"), &zero), "pi");
        for (family, want) in [("arm32", "arm32"), ("arm64", "generic")] {
            let unknown = machine("Banana", "");
            assert_eq!(chosen(None, &Machine { family, ..unknown }), want);
            let zero = zero.clone();
            assert_eq!(chosen(None, &Machine { family, ..zero }), "zero");
        }
        assert_eq!(
            (two.config().limits.viewers, two.config().limits.pages),
            (9, 256)
        );
        let error = choose_from(&all, Some("zer"), &machine("", ""))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "--board: no board is called \"zer\"\nfix: one of: generic, pi, zero, arm32"
        );
    }

    /// As the kernel's and the Raspberry Pi firmware's device trees say it.
    #[test]
    fn real_boards_are_known_by_either_text() {
        for (model, compatible, want) in [
            (
                "Raspberry Pi Model B Rev 2",
                "raspberrypi,model-b brcm,bcm2835",
                "pi-zero",
            ),
            (
                "Raspberry Pi Model B Plus Rev 1.2",
                "raspberrypi,model-b-plus brcm,bcm2835",
                "pi-zero",
            ),
            (
                "Raspberry Pi Zero Rev 1.3",
                "raspberrypi,model-zero brcm,bcm2835",
                "pi-zero",
            ),
            (
                "Raspberry Pi Zero 2 W Rev 1.0",
                "raspberrypi,model-zero-2-w brcm,bcm2837",
                "pi-zero-2",
            ),
            (
                "Raspberry Pi 3 Model A Plus Rev 1.0",
                "raspberrypi,3-model-a-plus brcm,bcm2837",
                "pi-3",
            ),
            (
                "Raspberry Pi 4 Model B Rev 1.5",
                "raspberrypi,4-model-b brcm,bcm2711",
                "pi-4",
            ),
            (
                "Raspberry Pi 5 Model B Rev 1.1",
                "raspberrypi,5-model-b brcm,bcm2712",
                "pi-5",
            ),
            (
                "TI AM335x BeagleBone Black Wireless",
                "beagle,am335x-bone-black-wireless ti,am33xx",
                "beaglebone-black",
            ),
        ] {
            for machine in [
                machine(model, compatible),
                machine(model, ""),
                machine("", compatible),
            ] {
                assert_eq!(choose(None, &machine).unwrap().name, want, "{machine:?}");
            }
        }
        for (model, compatible, want) in [
            (
                "Raspberry Pi Compute Module Rev 1.0",
                "raspberrypi,compute-module brcm,bcm2835",
                "pi-zero",
            ),
            (
                "Raspberry Pi 2 Model B Rev 1.2",
                "raspberrypi,2-model-b brcm,bcm2837",
                "pi-3",
            ),
            (
                "Raspberry Pi Compute Module 3 Plus Rev 1.0",
                "raspberrypi,3-compute-module brcm,bcm2837",
                "pi-3",
            ),
            (
                "Raspberry Pi 400 Rev 1.0",
                "raspberrypi,400 brcm,bcm2711",
                "pi-4",
            ),
            (
                "Raspberry Pi Compute Module 4 Rev 1.1",
                "raspberrypi,4-compute-module brcm,bcm2711",
                "pi-4",
            ),
            (
                "Raspberry Pi 500 Rev 1.0",
                "raspberrypi,500 brcm,bcm2712",
                "pi-5",
            ),
            (
                "Raspberry Pi Compute Module 5 Rev 1.0",
                "raspberrypi,5-compute-module brcm,bcm2712d0",
                "pi-5",
            ),
            (
                "TI AM335x PocketBeagle",
                "ti,am335x-pocketbeagle ti,am335x-bone ti,am33xx",
                "beaglebone-black",
            ),
            (
                "BeagleBoard.org BeagleBone AI-64",
                "beagle,j721e-beagleboneai64 ti,j721e",
                "generic",
            ),
            (
                "Raspberry Pi 2 Model B Rev 1.1",
                "raspberrypi,2-model-b brcm,bcm2836",
                "generic",
            ),
        ] {
            let machine = machine(model, compatible);
            assert_eq!(choose(None, &machine).unwrap().name, want, "{model}");
        }
    }

    #[test]
    fn fixtures_are_known() {
        for (fixture, want, model) in [
            ("pi-zero-w", "pi-zero", "Raspberry Pi Zero W Rev 1.1"),
            ("pi-zero-2", "pi-zero-2", "Raspberry Pi Zero 2 W Rev 1.0"),
            ("pi-3", "pi-3", "Raspberry Pi 3 Model B Plus Rev 1.3"),
            ("pi-4", "pi-4", "Raspberry Pi 4 Model B Rev 1.4"),
            ("pi-5", "pi-5", "Raspberry Pi 5 Model B Rev 1.0"),
            ("bone", "beaglebone-black", "TI AM335x BeagleBone Black"),
            ("unknown-arm64", "arm64", "FriendlyARM NanoPi NEO Plus2"),
            ("unknown-arm32", "arm32", "Cubietech Cubieboard2"),
            ("none", "generic", ""),
        ] {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys");
            let machine = Machine::read(&Path::new(root).join(format!("board-{fixture}")));
            assert_eq!(machine.model, model);
            assert_eq!(choose(None, &machine).unwrap().name, want);
            assert!(!machine.compatible.contains('\0'), "{machine:?}");
        }
    }

    #[test]
    fn kernels_of_each_family() {
        for (cpuinfo, want) in [
            (
                "processor\t: 0\nCPU architecture: 8\nCPU part\t: 0xd03\n",
                "arm64",
            ),
            ("CPU architecture: AArch64\n", "arm64"),
            ("CPU architecture: 7\n", "arm32"),
            ("CPU architecture: 6TEJ\n", "arm32"),
            ("model name\t: Example\nflags\t\t: fpu\n", ""),
            ("", ""),
        ] {
            assert_eq!(family(cpuinfo.as_bytes()), want, "{cpuinfo}");
        }
    }

    #[test]
    fn flags_are_the_top_layer() {
        let dir = std::env::temp_dir().join(format!("encke-board-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("encke.toml");
        std::fs::write(&path, "[server]\nlisten = [\":1\"]\n[limits]\npages = 8\n").unwrap();
        let mut flags = Flags {
            config: Some(path.clone()),
            ..Flags::default()
        };
        let nowhere = Machine::default();
        let (config, profile) = load(&flags, &nowhere).unwrap();
        assert_eq!(
            (config.server.listen[0].port(), profile.name),
            (1, "generic")
        );
        assert_eq!((config.limits.pages, config.limits.viewers), (8, 10_000));
        flags.listen = vec!["127.0.0.1:2".parse().unwrap()];
        assert_eq!(
            load(&flags, &nowhere).unwrap().0.server.listen,
            flags.listen
        );
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(load(&flags, &nowhere).is_err());
    }

    /// One byte for a viewer, ten for a page, what stands there for ring and history.
    fn cost(limits: &Limits) -> u64 {
        let bytes = limits.ring_bytes + limits.history_bytes;
        u64::from(limits.viewers) + 10 * u64::from(limits.pages) + bytes as u64
    }

    const SMALL: Profile = Profile {
        name: "small",
        text: "[limits]\nviewers = 1000\npages = 100\nring_bytes = 70000\n\
               [board]\nmemory = 100000",
    };

    fn fix(change: impl Fn(&mut Limits)) -> Option<String> {
        let mut limits = SMALL.config().limits;
        change(&mut limits);
        over_budget("f", &limits, &SMALL, cost).map(|error| error.to_string())
    }

    #[test]
    fn a_budget_at_and_above() {
        assert_eq!(fix(|_| {}), None);
        assert_eq!(fix(|limits| limits.ring_bytes = 98_000), None);
        assert_eq!(
            fix(|limits| limits.ring_bytes = 98_001).unwrap(),
            "f: the limits need 100001 bytes together, and the board profile small allows 100000\n\
             fix: in [limits] lower ring_bytes to 98000, or start with --board generic, which \
             allows more"
        );
        let wide = Profile {
            text: "[board]\nname = \"no budget\"",
            ..SMALL
        };
        let limits = SMALL.config().limits;
        assert!(over_budget("f", &limits, &wide, cost).is_none());
    }

    #[test]
    fn the_costliest_is_lowered_and_others_only_when_it_is_not_enough() {
        let lowered = |change: fn(&mut Limits)| {
            let text = fix(change).unwrap();
            let (_, fix) = text.split_once("lower ").unwrap();
            fix.split_once(", or").unwrap().0.to_string()
        };
        // Both are above the profile's; one is enough.
        let both = |limits: &mut Limits| (limits.viewers, limits.pages) = (15_000, 3_000);
        assert_eq!(lowered(both), "pages to 1500");
        let more = |limits: &mut Limits| (limits.viewers, limits.pages) = (60_000, 5_000);
        assert_eq!(lowered(more), "viewers to 1000 and pages to 2900");
        // What is below the profile's makes room for the rest, and is never named.
        let less = |limits: &mut Limits| (limits.viewers, limits.ring_bytes) = (10, 200_000);
        assert_eq!(lowered(less), "ring_bytes to 98990");
        let history = |limits: &mut Limits| limits.history_bytes = 1 << 30;
        assert_eq!(lowered(history), "history_bytes to 28000");
        for (least, above, most, want) in [(0, 1, 0, 0), (5, 9, 8, 8), (5, 9, 4, 5), (5, 5, 4, 5)] {
            assert_eq!(greatest(least, above, |count| count <= most), want);
        }
    }
}
