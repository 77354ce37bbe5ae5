//! `encke doctor`: what keeps readings or viewers away from this board, and the command that mends
//! it.
//!
//! DESIGN.md section 3 "Command and configuration"; each check names what it follows. Findings are
//! data; `print` is for people. A check is one row of `CHECKS` and a pure function of the
//! configuration, of files below the system root and of `Facts`, which are what no file tells. A
//! file that is missing or cannot be read is nothing to say, never an error. It changes nothing,
//! starts nothing and sends nothing to anybody but the kernel. Uses `clock.rs`, its sibling.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::Path;

use crate::config::{Config, SourceEntry, TopicRule};

mod card;
mod devices;
mod facts;
mod overlay;
mod port;
mod power;
mod power_save;
mod program;
mod rights;
mod root;
mod topics;

pub use facts::{Disk, Facts, Node};
use rights::Who;
use root::Root;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It was looked at, and is as it should be.
    Ok,
    /// It may be meant, or may matter one day.
    Note,
    /// It keeps readings or viewers away, or harms the board.
    Problem,
}

impl Level {
    /// `ok`, `note` or `problem`.
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// Which check found it: its name in `CHECKS`.
    pub about: &'static str,
    /// What was found; a sentence without its full stop.
    pub what: String,
    /// What follows from it, and what else helps: whole sentences. Empty when all is well.
    pub effect: String,
    /// Lines for a shell that mend it or show more, to be copied as they are.
    pub mend: Option<String>,
}

/// What a check knows.
struct Case<'a> {
    config: &'a Config,
    root: Root<'a>,
    facts: &'a Facts,
    /// Whose rights count: those of the Encke that runs, else our own. `None` without /proc.
    who: Option<Who>,
    /// There is a device tree, so this is a board and no computer with a keyboard.
    is_board: bool,
    is_pi: bool,
}

impl Case<'_> {
    /// Whether the configuration wants something: it speaks of topics below `head`, or it starts a
    /// program in whose command `part` stands.
    fn asks(&self, head: &str, part: &str) -> bool {
        let config = self.config;
        let is_below = |pattern: &String| pattern.split('/').next() == Some(head);
        let runs = |row: &SourceEntry| match row {
            SourceEntry::Exec(exec) => exec.command.iter().any(|word| word.contains(part)),
            _ => false,
        };
        config.sources.include.iter().any(is_below)
            || self.rules().iter().any(|rule| is_below(&rule.match_))
            || config.source.iter().any(runs)
    }

    /// The `[[topic]]` rules of the configuration's own.
    fn rules(&self) -> &[TopicRule] {
        let rules = &self.config.topic;
        rules.get(self.facts.rules_of_board..).unwrap_or_default()
    }

    /// A hint, unless the configuration asks for it.
    fn weight(&self, head: &str, part: &str) -> Level {
        match self.asks(head, part) {
            true => Level::Problem,
            false => Level::Note,
        }
    }
}

/// Where a check puts what it finds.
struct Report {
    about: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    #[inline(never)]
    fn ok(&mut self, what: Arguments) {
        self.add(Level::Ok, what, format_args!(""), format_args!(""));
    }

    /// An empty `mend` is none.
    #[inline(never)]
    fn add(&mut self, level: Level, what: Arguments, effect: Arguments, mend: Arguments) {
        let mend = mend.to_string();
        self.findings.push(Finding {
            level,
            about: self.about,
            what: what.to_string(),
            effect: effect.to_string(),
            mend: (!mend.is_empty()).then_some(mend),
        });
    }
}

type Check = fn(&Case, &mut Report);

/// One row a check, in the order of the report.
static CHECKS: &[(&str, Check)] = &[
    ("sensors", topics::check),
    ("devices", devices::check),
    ("i2c", overlay::check_i2c),
    ("1-wire", overlay::check_w1),
    ("port", port::check),
    ("clock", program::check_clock),
    ("power", power::check),
    ("wifi", power_save::check),
    ("card", card::check),
    ("program", program::check_architecture),
    ("memory", program::check_memory),
    ("connections", program::check_descriptors),
];

/// Where the device tree is.
const TREES: [&str; 2] = ["proc/device-tree", "sys/firmware/devicetree/base"];

/// Looks at everything below `sys_root` and at `facts`; findings stand in the order of checks.
pub fn examine(config: &Config, sys_root: &Path, facts: &Facts) -> Vec<Finding> {
    let root = Root(sys_root);
    let tree = match root.has(TREES[0]) {
        true => TREES[0],
        false => TREES[1],
    };
    let case = Case {
        config,
        facts,
        who: Who::find(&root),
        is_board: root.has(tree),
        is_pi: root
            .text(&[tree, "/model"].concat())
            .contains("Raspberry Pi"),
        root,
    };
    let mut report = Report {
        about: "",
        findings: Vec::new(),
    };
    for (about, check) in CHECKS {
        report.about = about;
        check(&case, &mut report);
    }
    report.findings
}

/// Columns of a printed line; a command may be longer, so that it can be copied.
const COLUMNS: usize = 78;
/// Columns before the text of a finding.
const INDENT: usize = 9;

/// Prints findings for people, the worst last, where a terminal shows it, and how many there were.
/// Answers the exit code: 1 when there is a problem, else 0.
pub fn print(findings: &[Finding], out: &mut impl Write) -> io::Result<u8> {
    let (text, code) = page(findings);
    out.write_all(text.as_bytes()).map(|()| code)
}

fn page(findings: &[Finding]) -> (String, u8) {
    let mut page = String::new();
    let mut counts = [0u64; 3];
    for level in [Level::Ok, Level::Note, Level::Problem] {
        for finding in findings.iter().filter(|finding| finding.level == level) {
            counts[level as usize] += 1;
            if level != Level::Ok && !page.is_empty() {
                page.push('\n');
            }
            wrap(
                &mut page,
                level.word(),
                &[finding.about, ": ", &finding.what].concat(),
            );
            wrap(&mut page, "", &finding.effect);
            let mend = finding.mend.as_deref().unwrap_or("");
            for line in mend.lines() {
                page.push_str("    ");
                push(&mut page, line);
                page.push('\n');
            }
        }
    }
    let [_, hints, problems] = counts;
    let s = |count| if count == 1 { "" } else { "s" };
    let (p, h) = (s(problems), s(hints));
    page.push_str(&format!("\n{problems} problem{p}, {hints} hint{h}\n"));
    (page, u8::from(problems > 0))
}

/// Adds `text`: names of processes and files may hold anything, and a terminal must not obey them.
fn push(page: &mut String, text: &str) {
    page.extend(text.chars().map(|c| if c.is_control() { '?' } else { c }));
}

/// Adds `text` in lines of at most `COLUMNS`, all but the mark indented; nothing for no text.
fn wrap(page: &mut String, mark: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    page.push_str(mark);
    let mut used = mark.len();
    for word in text.split_ascii_whitespace() {
        let width = word.chars().count();
        if used > INDENT && used + 1 + width > COLUMNS {
            page.push('\n');
            used = 0;
        }
        // The gap before a word: up to the indentation, else one blank.
        for _ in used..INDENT.max(used + 1) {
            page.push(' ');
        }
        used = INDENT.max(used + 1) + width;
        push(page, word);
    }
    page.push('\n');
}

#[cfg(test)]
mod fake {
    //! A board of a few files, and one check that looks at it.

    use super::*;
    use crate::clock;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Facts of a board about which nothing is known but its files.
    pub(super) fn facts(sys_root: &Path) -> Facts {
        Facts {
            topics: vec!["cpu/temperature".to_owned(), "memory/used".to_owned()],
            rules_of_board: Config::default().topic.len(),
            memory_bytes: 0,
            nodes: Vec::new(),
            disk: None,
            power_save: Vec::new(),
            clock: clock::Facts::gather(sys_root),
            arch: "aarch64",
        }
    }

    /// A directory that goes when it is dropped.
    pub(super) struct Board(pub(super) PathBuf);

    impl Board {
        pub(super) fn new(files: &[(&str, &str)]) -> Board {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("encke-doctor-{}-{count}", std::process::id());
            let board = Board(std::env::temp_dir().join(name));
            std::fs::create_dir_all(&board.0).unwrap();
            files.iter().for_each(|(path, text)| board.put(path, text));
            board
        }

        pub(super) fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    impl Drop for Board {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What the check `about` says on a board of `files`: level, what, and the commands, each
    /// between bars.
    pub(super) fn look(
        about: &str,
        files: &[(&str, &str)],
        adjust: impl FnOnce(&mut Config, &mut Facts),
    ) -> Vec<String> {
        let board = Board::new(files);
        let (mut config, mut facts) = (Config::default(), facts(&board.0));
        adjust(&mut config, &mut facts);
        let findings = examine(&config, &board.0, &facts);
        let findings = findings.iter().filter(|finding| finding.about == about);
        findings
            .map(|finding| {
                let mend = finding.mend.iter().flat_map(|mend| mend.split('\n'));
                let mend: String = mend.flat_map(|line| ["|", line]).collect();
                format!("{} {}{mend}", finding.level.word(), finding.what)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{Board, facts};
    use super::*;
    use crate::config::{Layer, listen};

    const SYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys/");

    fn config(text: &str) -> Config {
        let generic = crate::board::profiles()[0].text;
        let layer = |file, text, is_profile| Layer {
            file,
            text,
            is_profile,
        };
        Config::new(&[layer("", generic, true), layer("", text, false)]).unwrap()
    }

    fn node(name: &str, gid: u32) -> Node {
        Node {
            name: name.to_owned(),
            mode: 0o660,
            uid: 0,
            gid,
        }
    }

    fn examined(tree: &str, text: &str, adjust: impl FnOnce(&mut Facts)) -> (String, u8) {
        let root = Path::new(SYS).join(tree);
        let mut facts = facts(&root);
        facts.memory_bytes = 54_000_000;
        facts.nodes = vec![
            node("gpiochip0", 992),
            node("i2c-1", 993),
            node("spidev0.0", 994),
            node("ttyAMA0", 5),
        ];
        adjust(&mut facts);
        let findings = examine(&config(text), &root, &facts);
        let mut out = Vec::new();
        let code = print(&findings, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn a_sick_board() {
        let text = "[server]\nlisten = [\":8080\", \":80\"]\n\
                    [[topic]]\nmatch = \"cpu/temprature\"\nround = 1\n\
                    [[source]]\nkind = \"exec\"\ncommand = [\"i2cget\", \"-y\", \"1\"]\ntopic = \"light\"\n";
        let (said, code) = examined("doctor-sick", text, |facts| {
            facts.arch = "x86_64";
            facts.nodes[1] = node("i2c-2", 993);
            facts.disk = Some(Disk {
                space: 97,
                files: 12,
            });
            facts.power_save = vec![("wlan0".to_owned(), true)];
        });
        let want = include_str!("../tests/fixtures/sys/doctor-sick/expected.txt");
        assert_eq!(said, want, "\n{said}");
        assert_eq!(code, 1);
        assert!(said.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn a_well_board() {
        let (said, code) = examined("doctor-well", "", |facts| {
            facts.disk = Some(Disk {
                space: 94,
                files: 94,
            });
            facts.power_save = vec![("wlan0".to_owned(), false)];
            facts.nodes.truncate(3);
        });
        let want = include_str!("../tests/fixtures/sys/doctor-well/expected.txt");
        assert_eq!(said, want, "\n{said}");
        assert_eq!(code, 0);
    }

    #[test]
    fn nothing_there_is_nothing_to_say() {
        let board = Board::new(&[]);
        let mut facts = facts(&board.0);
        facts.topics.clear();
        let findings = examine(&Config::default(), &board.0, &facts);
        let said: Vec<_> = findings.iter().map(|f| (f.about, f.level)).collect();
        // Without a device tree a clock later than the build is believed.
        assert_eq!(
            said,
            [("sensors", Level::Problem), ("clock", Level::Ok)],
            "{findings:?}"
        );
    }

    #[test]
    fn files_that_make_no_sense_are_nothing_to_say() {
        let noise: String = (0..5000u32).map(|n| (n % 251) as u8 as char).collect();
        let paths = [
            "proc/self/status",
            "proc/self/limits",
            "proc/net/tcp",
            "proc/net/tcp6",
            "proc/mounts",
            "proc/meminfo",
            "etc/passwd",
            "etc/group",
            "etc/fstab",
            "boot/config.txt",
            "sys/class/thermal/thermal_zone0/temp",
            "sys/class/hwmon/hwmon0/name",
        ];
        let lines = noise.replace(' ', "\n");
        for text in [
            noise.as_str(),
            lines.as_str(),
            "",
            "\n",
            ":::::",
            "0: 0 0 0A",
        ] {
            let files: Vec<_> = paths.iter().map(|path| (*path, text)).collect();
            let board = Board::new(&files);
            let mut config = Config::default();
            config.server.listen = vec![listen("[::1]:80").unwrap()];
            examine(&config, &board.0, &facts(&board.0));
        }
    }

    #[test]
    fn only_the_beginning_of_a_file_is_read() {
        let at = "x".repeat(64 * 1024 - 5);
        let board = Board::new(&[
            ("at", &[&at, "\nend"].concat()),
            ("above", &[&at, "\nenough"].concat()),
        ]);
        let root = Root(&board.0);
        assert!(root.text("at").ends_with("\nend"));
        assert!(root.text("above").ends_with("\nenou"));
    }

    #[test]
    fn what_is_printed_is_narrow_counted_and_harmless() {
        let finding = |level, what: &str, mend: Option<&str>| Finding {
            level,
            about: "port",
            what: what.to_owned(),
            effect: String::new(),
            mend: mend.map(str::to_owned),
        };
        let printed = |findings: &[Finding]| {
            let mut out = Vec::new();
            let code = print(findings, &mut out).unwrap();
            (String::from_utf8(out).unwrap(), code)
        };
        let (said, code) = printed(&[]);
        assert_eq!((said.as_str(), code), ("\n0 problems, 0 hints\n", 0));
        let (said, code) = printed(&[
            finding(Level::Problem, "\x1b[2Jevil (pid 7)", Some("a\nb")),
            finding(Level::Ok, &"word ".repeat(20), None),
            finding(Level::Note, &"x".repeat(100), None),
        ]);
        let words = |count| " word".repeat(count);
        let want = format!(
            "ok       port:{}\n        {}\n\n\
             note     port:\n         {}\n\n\
             problem  port: ?[2Jevil (pid 7)\n    a\n    b\n\n1 problem, 1 hint\n",
            words(12),
            words(8),
            "x".repeat(100)
        );
        assert_eq!((said, code), (want, 1));
    }
}
