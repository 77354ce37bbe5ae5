//! What is known before serving begins: the board, its configuration, and what the limits cost;
//! and the two commands that only tell of it, boards and check.
//!
//! Follows DESIGN.md section 3 "Command and configuration". It opens nothing but the configuration
//! and what says which board this is, and never starts anything.

use std::io::{self, Write};

use super::Args;
use crate::board::{self, Machine, Profile};
use crate::config::{self, Config, ConfigError, Limits};
use crate::peers::{self, Cost, Settings};
use crate::server;

/// What serving begins with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From all layers.
    pub config: Config,
    /// The lowest layer but the generic one.
    pub profile: Profile,
    /// What the kernel says it is.
    pub machine: Machine,
    /// What is fixed at start.
    pub settings: Settings,
    /// What the limits cost.
    pub costs: Vec<Cost>,
}

impl Plan {
    /// Reads board and configuration, and adds up what the limits cost.
    ///
    /// # Errors
    /// What is wrong with the configuration; limits that need more memory than the board has for
    /// them.
    pub fn new(args: &Args) -> Result<Plan, ConfigError> {
        let machine = Machine::read(&args.sys_root);
        let (config, profile) = board::load(&args.flags, &machine)?;
        let settings = server::settings(&config, &args.sys_root);
        // What the limit of open files leaves of them.
        let limits = Limits {
            viewers: settings.viewers,
            pages: settings.pages.into(),
            ..config.limits.clone()
        };
        let file = config::find(args.flags.config.as_deref());
        let file = file.map_or(profile.name.to_string(), |path| path.display().to_string());
        if let Some(error) = board::over_budget(&file, &limits, &profile, cost) {
            return Err(error);
        }
        Ok(Plan {
            costs: costs(&limits).to_vec(),
            config,
            profile,
            machine,
            settings,
        })
    }

    /// The board as the kernel calls it, and its profile.
    pub fn board(&self) -> String {
        match &self.machine.model[..] {
            "" => format!("profile {}", self.profile.name),
            model => format!("{model}, profile {}", self.profile.name),
        }
    }
}

/// What each of `limits` costs.
fn costs(limits: &Limits) -> [Cost; 6] {
    peers::memory(peers::Limits {
        viewers: limits.viewers,
        pages: limits.pages,
        topics: limits.topics,
        ring_bytes: limits.ring_bytes,
        pictures: limits.pictures,
        picture_bytes: limits.picture_bytes,
    })
}

/// What `limits` cost together, in bytes at most.
fn cost(limits: &Limits) -> u64 {
    costs(limits).iter().map(|cost| cost.bytes).sum()
}

/// `encke boards`: the table of profiles, with a star before the one that fits this machine.
///
/// # Errors
/// Those of `out`.
pub fn boards(args: &Args, out: &mut impl Write) -> io::Result<()> {
    let machine = Machine::read(&args.sys_root);
    let here = board::choose(None, &machine).expect("without a name there is a profile for all");
    writeln!(
        out,
        "  {:16} {:>7} {:>6} {:>7} {:>7}  {:14}  board",
        "name", "viewers", "topics", "ring", "memory", "builds"
    )?;
    for profile in board::profiles() {
        let Config { limits, board, .. } = profile.config();
        let star = if *profile == here { '*' } else { ' ' };
        let memory = board.memory.map_or(String::new(), size);
        let builds: Vec<&str> = board.targets.iter().map(|target| build(target)).collect();
        writeln!(
            out,
            "{star} {:16} {:>7} {:>6} {:>7} {memory:>7}  {:14}  {}",
            profile.name,
            limits.viewers,
            limits.topics,
            size(limits.ring_bytes as u64),
            builds.join(" "),
            board.name.unwrap_or_default(),
        )?;
    }
    match &machine.model[..] {
        "" => writeln!(out, "\n* fits this computer"),
        model => writeln!(out, "\n* fits this board, {model}"),
    }
}

/// `bytes` in the greatest unit in which they are a whole number.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = |(_, bits): &&(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= *bits;
    match UNITS.iter().find(whole) {
        Some((unit, bits)) => format!("{} {unit}", bytes >> bits),
        None => format!("{bytes} B"),
    }
}

/// The build that `scripts/cross` makes for a target: its architecture as people call it.
fn build(target: &str) -> &str {
    match target.split('-').next() {
        Some("arm") => "armv6",
        Some(architecture) => architecture,
        None => target,
    }
}

/// `encke check`: reads the configuration as serving would, prints `PATH: ok`, the board and what
/// the limits cost to `out`, or the fault to `err`, and returns the exit code.
///
/// # Errors
/// Those of `out` and `err`.
pub fn check(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let plan = match Plan::new(args) {
        Ok(plan) => plan,
        Err(error) => return writeln!(err, "{error}").map(|()| 1),
    };
    match config::find(args.flags.config.as_deref()) {
        Some(path) => writeln!(out, "{}: ok", path.display())?,
        None => writeln!(out, "no file: ok")?,
    }
    writeln!(out, "board: {}", plan.board())?;
    let sum: u64 = plan.costs.iter().map(|cost| cost.bytes).sum();
    match plan.config.board.memory {
        Some(budget) => writeln!(out, "limits: {sum} bytes, the board allows {budget}")?,
        None => writeln!(out, "limits: {sum} bytes")?,
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::source;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn args(board: &str) -> Args {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys");
        Args {
            flags: Flags::default(),
            state: None,
            sys_root: Path::new(root).join(format!("board-{board}")),
        }
    }

    #[test]
    fn boards_are_a_table_that_marks_this_one() {
        for (board, star, last) in [
            (
                "pi-4",
                "pi-4",
                "* fits this board, Raspberry Pi 4 Model B Rev 1.4",
            ),
            ("none", "generic", "* fits this computer"),
        ] {
            let mut out = Vec::new();
            boards(&args(board), &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
            let lines: Vec<&str> = out.lines().collect();
            assert_eq!(lines.len(), 1 + board::profiles().len() + 2);
            assert_eq!(*lines.last().unwrap(), last);
            let mut stars = lines[1..lines.len() - 1]
                .iter()
                .filter_map(|l| l.strip_prefix("* "));
            assert!(stars.next().unwrap().starts_with(&format!("{star} ")));
            assert_eq!(stars.next(), None);
        }
        let mut out = Vec::new();
        boards(&args("none"), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let row = out.lines().find(|line| line.contains("pi-zero ")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        let want = "pi-zero 1000 256 256 KiB 32 MiB armv6 Raspberry Pi 1, Zero, Zero W";
        assert_eq!(words.join(" "), want);
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (5 << 30, "5 GiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }

    #[test]
    fn every_profile_fits_its_own_budget_with_room_for_a_fifth_more() {
        for profile in board::profiles() {
            let Config { limits, board, .. } = profile.config();
            let (sum, budget) = (cost(&limits), board.memory.unwrap());
            assert!(
                sum + sum / 5 <= budget,
                "{}: {sum} of {budget}",
                profile.name
            );
        }
    }

    /// So that whoever is refused on a board can start with `--board generic`.
    #[test]
    fn the_generic_budget_refuses_nothing() {
        let highest = "[limits]\nviewers = 100000\npages = 4096\nring_bytes = 1073741824\n\
                       topics = 1024\nhistory_bytes = 1073741824\n\
                       pictures = 16\npicture_bytes = 4194304\n";
        let layer = config::Layer {
            file: "f",
            text: highest,
            is_profile: false,
        };
        let limits = Config::new(&[layer]).unwrap().limits;
        let sum = cost(&limits) + limits.history_bytes as u64;
        assert!(sum <= board::profiles()[0].board().memory.unwrap(), "{sum}");
    }

    fn checked(text: &str, mut args: Args) -> (u8, String) {
        let name = format!(
            "encke-check-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path: PathBuf = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        args.flags.config = Some(path.clone());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&args, &mut out, &mut err).unwrap();
        assert!(out.is_empty() || err.is_empty());
        std::fs::remove_file(&path).unwrap();
        let said = String::from_utf8([out, err].concat()).unwrap();
        (code, said.replace(&path.display().to_string(), "F"))
    }

    #[test]
    fn check_says_ok_or_what_is_wrong() {
        let sum = cost(&Limits {
            pages: 8,
            ..board::choose(Some("pi-zero"), &Machine::default())
                .unwrap()
                .config()
                .limits
        });
        assert_eq!(
            checked("[limits]\npages = 8\n", args("pi-zero-w")),
            (
                0,
                format!(
                    "F: ok\nboard: Raspberry Pi Zero W Rev 1.1, profile pi-zero\n\
                     limits: {sum} bytes, the board allows 33554432\n"
                )
            )
        );
        let (code, said) = checked("", args("none"));
        assert!(
            code == 0 && said.starts_with("F: ok\nboard: profile generic\nlimits: "),
            "{said}"
        );
        let (code, said) = checked("[limits]\npages = 7\n", args("none"));
        assert_eq!(code, 1);
        assert!(
            said.starts_with("F:2:9: invalid value: integer `7`\n"),
            "{said}"
        );
        let (code, said) = checked("[server]\nread = []\n", args("none"));
        assert!(code == 0 && said.starts_with("F: ok\n"), "{said}");
        let (code, said) = checked("[server]\nread = [\"a b\"]\n", args("none"));
        assert_eq!(code, 1);
        assert!(
            said.starts_with("F:2:9: invalid value: string \"a b\"\n"),
            "{said}"
        );
    }

    #[test]
    fn sensors_have_the_names_that_their_board_gives_them() {
        for (board, want) in [
            ("pi-zero-w", "cpu/temperature 41.2 \u{b0}C"),
            (
                "pi-4",
                "cpu/temperature 48.7 \u{b0}C, power/under-voltage \"ok\" ",
            ),
            (
                "pi-5",
                "cpu/temperature 52.4 \u{b0}C, fan/drive 29 %, fan/speed 2938 RPM, \
                 power/under-voltage \"ok\" , rp1/temperature 54.3 \u{b0}C",
            ),
            ("bone", "ain/0 0.621 V, ain/6 1.8 V"),
        ] {
            let args = args(board);
            let config = Plan::new(&args).unwrap().config;
            let readings = source::snapshot(&config, &args.sys_root, Duration::from_secs(5));
            let line = |r: source::Snapshot| format!("{} {} {}", r.topic, r.value, r.unit);
            let mut lines: Vec<String> = readings.into_iter().map(line).collect();
            lines.sort();
            assert_eq!(lines.join(", "), want, "{board}");
        }
    }

    #[test]
    fn a_sum_over_the_budget_is_refused_and_the_fix_fits() {
        let with = |ring: u64| {
            let text = format!("[limits]\nring_bytes = {ring}\n");
            checked(&text, args("pi-zero-w"))
        };
        let (code, said) = with(100_000_000);
        assert_eq!(code, 1);
        let (problem, fix) = said
            .split_once("\nfix: in [limits] lower ring_bytes to ")
            .unwrap();
        assert!(problem.starts_with("F: the limits need "), "{problem}");
        let most: u64 = fix.split_once(',').unwrap().0.parse().unwrap();
        assert_eq!(with(most).0, 0);
        assert_eq!(with(most + 1).0, 1);
        let mut generic = args("pi-zero-w");
        generic.flags.board = Some("generic".to_string());
        assert_eq!(checked("[limits]\nring_bytes = 100000000\n", generic).0, 0);
    }
}
