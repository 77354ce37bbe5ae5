//! `[[source]]`: sources that cannot be found, only told, each kind with keys of its own.
//!
//! Durations are seconds in the file and milliseconds here. It never looks whether a program or a
//! path exists: the board the file is for may be another one.

use std::ops::Range;
use std::path::PathBuf;

use super::Layer;
use super::error::{Fault, Place, nearest};
use super::rule::{LABEL, SOCKET, TOPIC, WORD};
use super::slot::{Slot, fill, text};
use super::tree::Table;

/// Rows of `[[source]]`. Above: a fault.
pub(super) const ENTRIES_MAX: usize = 16;
/// A program and what it is given. Above: a fault.
const WORDS_MAX: usize = 32;
/// The kinds, as the key `kind` names them.
const KINDS: &[&str] = &["exec", "stdin", "datagram"];
/// Between two runs of a program, and how long one may take, where the file does not say.
const EXEC_MS: u64 = 10_000;
const DAY_MS: u64 = 86_400_000;
/// Owner and group may send.
const MODE: u32 = 0o660;

/// `[[source]]`: a source that must be told about.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEntry {
    /// `kind = "exec"`.
    Exec(Exec),
    /// `kind = "stdin"`, at most one.
    Stdin(Stdin),
    /// `kind = "datagram"`.
    Datagram(Datagram),
}

impl SourceEntry {
    /// `FILE:LINE` of the row.
    pub fn place(&self) -> &str {
        match self {
            SourceEntry::Exec(exec) => &exec.place,
            SourceEntry::Stdin(stdin) => &stdin.place,
            SourceEntry::Datagram(datagram) => &datagram.place,
        }
    }

    /// Whether `other` is the same but for where it stands.
    pub fn says_the_same(&self, other: &SourceEntry) -> bool {
        let mut other = other.clone();
        let place = match &mut other {
            SourceEntry::Exec(exec) => &mut exec.place,
            SourceEntry::Stdin(stdin) => &mut stdin.place,
            SourceEntry::Datagram(datagram) => &mut datagram.place,
        };
        self.place().clone_into(place);
        *self == other
    }
}

/// `kind = "exec"`: a program whose output is readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program and its arguments, 1 to 32, no NUL in them; never for a shell.
    pub command: Vec<String>,
    /// The topic of plain values, which also stands in front of the names in `name value` lines.
    pub topic: Option<String>,
    /// Milliseconds between two starts, 100 to a day; `None` (`stream = true`): it runs for ever.
    /// The key is `interval`, in seconds.
    pub interval_ms: Option<u64>,
    /// Milliseconds a run may take, 100 to an hour, without meaning when it runs for ever. The key
    /// is `timeout`, in seconds.
    pub timeout_ms: u64,
    /// Milliseconds after which a topic without a reading is stale, a second to a week; only when
    /// it runs for ever. The key is `stale`, in seconds.
    pub stale_ms: Option<u64>,
    /// Shown in place of its topics' own labels.
    pub label: Option<String>,
    /// Shown behind its values.
    pub unit: Option<String>,
    /// `FILE:LINE` of the row.
    pub place: String,
}

/// `kind = "stdin"`: readings that come through a pipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Stdin {
    /// What comes.
    pub format: Format,
    /// As in `Exec`.
    pub topic: Option<String>,
    /// As in `Exec`.
    pub label: Option<String>,
    /// As in `Exec`.
    pub unit: Option<String>,
    /// As in `Exec`, and always allowed.
    pub stale_ms: Option<u64>,
    /// `FILE:LINE` of the row.
    pub place: String,
}

/// `kind = "datagram"`: readings that programs send to a unix datagram socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram {
    /// The socket's full path, at most 107 bytes; no other row has it.
    pub path: PathBuf,
    /// The socket's permissions, at most 0o7777.
    pub mode: u32,
    /// What a datagram holds.
    pub format: Format,
    /// As in `Exec`.
    pub topic: Option<String>,
    /// As in `Exec`.
    pub label: Option<String>,
    /// As in `Exec`.
    pub unit: Option<String>,
    /// As in `Stdin`.
    pub stale_ms: Option<u64>,
    /// `FILE:LINE` of the row.
    pub place: String,
}

/// How readings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Format {
    /// Lines: a value, `name value`, or JSON.
    #[default]
    Text,
    /// COBS frames of postcard.
    Postcard,
}

/// The row of `[[source]]` at `span` in `layer`, given the rows before it.
pub(super) fn source(
    span: Range<usize>,
    table: &Table,
    layer: &Layer,
    others: &[SourceEntry],
) -> Result<SourceEntry, Fault> {
    if others.len() == ENTRIES_MAX {
        let problem = format!("more than {ENTRIES_MAX} sources");
        return Err(Fault::new(
            span,
            problem,
            "remove one, or let one program read several",
        ));
    }
    let Some(kind) = table.find("kind") else {
        let fix = "say which source it is: kind = \"exec\", \"stdin\" or \"datagram\"";
        return Err(Fault::new(span, "missing key `kind`", fix));
    };
    let place = format!(
        "{}:{}",
        layer.file,
        Place::new(layer.text, span.clone()).line
    );
    match text(&kind.item) {
        Some("exec") => exec(span, table, place).map(SourceEntry::Exec),
        Some("stdin") => stdin(span, table, place, others).map(SourceEntry::Stdin),
        Some("datagram") => datagram(span, table, place, others).map(SourceEntry::Datagram),
        Some(other) => {
            let list = format!("the kinds are {}", KINDS.join(", "));
            let fix = match nearest(other, KINDS) {
                Some(meant) => format!("did you mean \"{meant}\"? {list}"),
                None => list,
            };
            let problem = format!("unknown kind \"{other}\"");
            Err(Fault::new(kind.item.span.clone(), problem, fix))
        }
        None => Err(Fault::wrong(
            &kind.item,
            "\"exec\", \"stdin\" or \"datagram\"",
        )),
    }
}

fn stale(slot: &mut Option<u64>) -> (&str, Slot<'_>) {
    ("stale", Slot::Seconds(slot, 1000, 7 * DAY_MS))
}

fn exec(span: Range<usize>, table: &Table, place: String) -> Result<Exec, Fault> {
    let (mut command, mut stream, mut timeout_ms) = (Vec::new(), None, None);
    let mut exec = Exec {
        command: Vec::new(),
        topic: None,
        interval_ms: None,
        timeout_ms: EXEC_MS,
        stale_ms: None,
        label: None,
        unit: None,
        place,
    };
    let mut slots = [
        ("kind", Slot::Known),
        ("command", Slot::Texts(&mut command, WORD)),
        ("topic", Slot::Text(&mut exec.topic, TOPIC)),
        (
            "interval",
            Slot::Seconds(&mut exec.interval_ms, 100, DAY_MS),
        ),
        ("stream", Slot::Flag(&mut stream)),
        ("timeout", Slot::Seconds(&mut timeout_ms, 100, DAY_MS / 24)),
        stale(&mut exec.stale_ms),
        ("label", Slot::Text(&mut exec.label, LABEL)),
        ("unit", Slot::Text(&mut exec.unit, LABEL)),
    ];
    fill(table, "of kind \"exec\"", &mut slots)?;
    let Some(given) = table.find("command") else {
        return Err(Fault::missing(span, "command"));
    };
    if !(1..=WORDS_MAX).contains(&command.len()) || command[0].is_empty() {
        let fix = format!("write the program and what it is given, 1 to {WORDS_MAX} texts");
        let problem = match command.len() {
            1..=WORDS_MAX => "a program without a name".to_string(),
            count => format!("a command of {count} texts"),
        };
        return Err(Fault::new(given.item.span.clone(), problem, fix));
    }
    exec.command = command;
    exec.timeout_ms = timeout_ms.unwrap_or(EXEC_MS);
    let is_stream = stream == Some(true);
    if !is_stream {
        exec.interval_ms = exec.interval_ms.or(Some(EXEC_MS));
    }
    let (wrong, problem, fix): (&[&str], _, _) = if is_stream {
        let problem = "has no meaning with stream = true: the program runs for ever";
        (
            &["interval", "timeout"],
            problem,
            "remove one of the two keys",
        )
    } else {
        let problem = "has no meaning without stream = true: each run gives its readings";
        (&["stale"], problem, "remove it, or write stream = true")
    };
    match wrong.iter().find_map(|name| table.find(name)) {
        Some(entry) => {
            let problem = format!("`{}` {problem}", entry.key.name);
            Err(Fault::new(entry.key.span.clone(), problem, fix))
        }
        None => Ok(exec),
    }
}

fn stdin(
    span: Range<usize>,
    table: &Table,
    place: String,
    others: &[SourceEntry],
) -> Result<Stdin, Fault> {
    let mut stdin = Stdin {
        format: Format::Text,
        topic: None,
        label: None,
        unit: None,
        stale_ms: None,
        place,
    };
    let mut slots = [
        ("kind", Slot::Known),
        ("format", Slot::Format(&mut stdin.format)),
        ("topic", Slot::Text(&mut stdin.topic, TOPIC)),
        stale(&mut stdin.stale_ms),
        ("label", Slot::Text(&mut stdin.label, LABEL)),
        ("unit", Slot::Text(&mut stdin.unit, LABEL)),
    ];
    fill(table, "of kind \"stdin\"", &mut slots)?;
    let mut all = others.iter();
    if all.any(|other| matches!(other, SourceEntry::Stdin(_))) {
        let fix = "remove it: there is one standard input";
        return Err(Fault::new(span, "a second source of kind \"stdin\"", fix));
    }
    Ok(stdin)
}

fn datagram(
    span: Range<usize>,
    table: &Table,
    place: String,
    others: &[SourceEntry],
) -> Result<Datagram, Fault> {
    let mut path = None;
    let mut datagram = Datagram {
        path: PathBuf::new(),
        mode: MODE,
        format: Format::Text,
        topic: None,
        label: None,
        unit: None,
        stale_ms: None,
        place,
    };
    let mut slots = [
        ("kind", Slot::Known),
        ("path", Slot::Path(&mut path, SOCKET)),
        ("mode", Slot::Mode(&mut datagram.mode)),
        ("format", Slot::Format(&mut datagram.format)),
        ("topic", Slot::Text(&mut datagram.topic, TOPIC)),
        stale(&mut datagram.stale_ms),
        ("label", Slot::Text(&mut datagram.label, LABEL)),
        ("unit", Slot::Text(&mut datagram.unit, LABEL)),
    ];
    fill(table, "of kind \"datagram\"", &mut slots)?;
    datagram.path = path.ok_or_else(|| Fault::missing(span.clone(), "path"))?;
    let is_same =
        |other: &SourceEntry| matches!(other, SourceEntry::Datagram(d) if d.path == datagram.path);
    if others.iter().any(is_same) {
        let problem = format!("a second source at {}", datagram.path.display());
        return Err(Fault::new(
            span,
            problem,
            "give each socket a path of its own",
        ));
    }
    Ok(datagram)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError};
    use super::*;

    fn sources(text: &str) -> Result<Vec<SourceEntry>, ConfigError> {
        let layer = Layer {
            file: "encke.toml",
            text,
            is_profile: false,
        };
        Config::new(&[layer]).map(|config| config.source)
    }

    /// The only source of `keys`, of this kind.
    fn row(kind: &str, keys: &str) -> Result<SourceEntry, ConfigError> {
        sources(&format!("[[source]]\nkind = \"{kind}\"\n{keys}"))
            .map(|mut rows| rows.pop().unwrap())
    }

    fn exec(keys: &str) -> Result<Exec, ConfigError> {
        row("exec", &format!("command = [\"a\"]\n{keys}")).map(|row| match row {
            SourceEntry::Exec(exec) => exec,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_row_is_the_same_elsewhere() {
        let rows = |text: &str| {
            let layer = Layer {
                file: "f",
                text,
                is_profile: false,
            };
            Config::new(&[layer]).unwrap().source
        };
        for row in [
            "kind = \"stdin\"",
            "kind = \"datagram\"\npath = \"/run/a\"",
            "kind = \"exec\"\ncommand = [\"a\"]\ntopic = \"a\"",
        ] {
            let here = &rows(&format!("[[source]]\n{row}"))[0];
            let there = &rows(&format!("\n\n[[source]]\n{row}"))[0];
            assert_eq!((here.place(), there.place()), ("f:1", "f:3"));
            assert!(here != there && here.says_the_same(there));
            let other = &rows(&format!("[[source]]\n{row}\nunit = \"V\""))[0];
            assert!(!here.says_the_same(other), "{row}");
        }
    }

    #[test]
    fn what_is_not_set() {
        let text = "\n[[source]]\nkind = \"exec\"\ncommand = [\"/bin/a\", \"-b\"]\n\
                    [[source]]\nkind = \"stdin\"\n\
                    [[source]]\nkind = \"datagram\"\npath = \"/run/a\"\n";
        let place = |line| format!("encke.toml:{line}");
        assert_eq!(
            sources(text).unwrap(),
            [
                SourceEntry::Exec(Exec {
                    command: vec!["/bin/a".into(), "-b".into()],
                    topic: None,
                    interval_ms: Some(10_000),
                    timeout_ms: 10_000,
                    stale_ms: None,
                    label: None,
                    unit: None,
                    place: place(2),
                }),
                SourceEntry::Stdin(Stdin {
                    format: Format::Text,
                    topic: None,
                    label: None,
                    unit: None,
                    stale_ms: None,
                    place: place(5),
                }),
                SourceEntry::Datagram(Datagram {
                    path: "/run/a".into(),
                    mode: 0o660,
                    format: Format::Text,
                    topic: None,
                    label: None,
                    unit: None,
                    stale_ms: None,
                    place: place(7),
                }),
            ]
        );
    }

    #[test]
    fn numbers_at_and_above() {
        let seconds = |key: &str, value: &str| {
            let stream = if key == "stale" {
                "stream = true\n"
            } else {
                ""
            };
            exec(&format!("{stream}{key} = {value}")).map(|exec| match key {
                "interval" => exec.interval_ms.unwrap(),
                "timeout" => exec.timeout_ms,
                _ => exec.stale_ms.unwrap(),
            })
        };
        for (key, good, bad) in [
            (
                "interval",
                [
                    ("0.1", 100),
                    ("1.5", 1500),
                    ("7", 7000),
                    ("86400", 86_400_000),
                ],
                ["0.09", "0", "86400.1", "-1", "inf", "nan", "\"1\"", "true"],
            ),
            (
                "timeout",
                [
                    ("0.1", 100),
                    ("2", 2000),
                    ("3_600", 3_600_000),
                    ("3600.0", 3_600_000),
                ],
                [
                    "0.0999",
                    "0",
                    "3601",
                    "-0.1",
                    "-inf",
                    "nan",
                    "[1]",
                    "2030-01-01",
                ],
            ),
            (
                "stale",
                [
                    ("1", 1000),
                    ("1.0", 1000),
                    ("0x10", 16_000),
                    ("604800", 604_800_000),
                ],
                ["0.9", "0", "604801", "-1", "inf", "nan", "{}", "\"\""],
            ),
        ] {
            for (value, millis) in good {
                assert_eq!(seconds(key, value), Ok(millis), "{key} {value}");
            }
            for value in bad {
                let error = seconds(key, value).unwrap_err();
                assert!(
                    error.fix.starts_with("write seconds from "),
                    "{key} {value} {error}"
                );
            }
        }
        let fix = seconds("interval", "0").unwrap_err().fix;
        assert_eq!(fix, "write seconds from 0.1 to 86400");
        assert_eq!(exec("stream = true").unwrap().interval_ms, None);
        assert_eq!(exec("stream = false").unwrap().interval_ms, Some(10_000));
    }

    #[test]
    fn sizes_at_and_above() {
        let command = |count| row("exec", &format!("command = [{}]", "\"a\",".repeat(count)));
        assert!(command(1).is_ok() && command(WORDS_MAX).is_ok());
        assert_eq!(command(0).unwrap_err().problem, "a command of 0 texts");
        let above = command(WORDS_MAX + 1).unwrap_err();
        assert_eq!(above.problem, "a command of 33 texts");
        assert_eq!(
            above.fix,
            "write the program and what it is given, 1 to 32 texts"
        );
        let path = |bytes: usize| {
            row(
                "datagram",
                &format!("path = \"/{}\"", "a".repeat(bytes - 1)),
            )
        };
        assert!(path(1).is_ok() && path(107).is_ok());
        let right = "write a full path of at most 107 bytes, as \"/run/encke/readings\"";
        assert_eq!(path(108).unwrap_err().fix, right);
        let rows = |count| sources(&"[[source]]\nkind=\"exec\"\ncommand=[\"a\"]\n".repeat(count));
        assert_eq!(rows(ENTRIES_MAX).unwrap().len(), ENTRIES_MAX);
        let above = rows(ENTRIES_MAX + 1).unwrap_err();
        assert_eq!(
            (&above.problem[..], above.place.unwrap().line),
            ("more than 16 sources", 49)
        );
        for (mode, is_right) in [
            ("660", Ok(0o660)),
            ("0600", Ok(0o600)),
            ("7777", Ok(0o7777)),
            ("000", Ok(0)),
            ("66", Err(())),
            ("00660", Err(())),
            ("0680", Err(())),
            ("+660", Err(())),
            ("rw-", Err(())),
            ("", Err(())),
        ] {
            let found = row("datagram", &format!("path = \"/a\"\nmode = \"{mode}\""));
            let found = found.map_err(|_| ()).map(|row| match row {
                SourceEntry::Datagram(datagram) => datagram.mode,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, is_right, "{mode}");
        }
    }

    #[test]
    fn faults_show_place_and_fix() {
        let path = "path = \"/a\"\n";
        for (kind, keys, want) in [
            (
                "exek",
                "",
                "encke.toml:2:8: unknown kind \"exek\"\n  |\n2 | kind = \"exek\"\n  |        ^^^^^^\n\
                 fix: did you mean \"exec\"? the kinds are exec, stdin, datagram",
            ),
            (
                "serial",
                "",
                "2:8: unknown kind \"serial\"|fix: the kinds are exec, stdin, datagram",
            ),
            (
                "exec",
                "comand = []",
                "3:1: unknown key `comand`|fix: did you mean `command`? the keys of kind \"exec\" are \
                 kind, command, topic, interval, stream, timeout, stale, label, unit",
            ),
            (
                "stdin",
                path,
                "3:1: unknown key `path`|fix: the keys of kind \"stdin\" are kind, format, topic, stale, \
                 label, unit",
            ),
            (
                "datagram",
                "interval = 1",
                "3:1: unknown key `interval`|fix: the keys of kind \"datagram\" are kind, path, mode, \
                 format, topic, stale, label, unit",
            ),
            (
                "exec",
                "",
                "1:1: missing key `command`|fix: add the key to this table",
            ),
            (
                "datagram",
                "",
                "1:1: missing key `path`|fix: add the key to this table",
            ),
            (
                "exec",
                "command = \"a b\"",
                "3:11: invalid value: string \"a b\"|fix: write a list, as [\"...\"]",
            ),
            (
                "exec",
                "command = [\"a\", 5]",
                "3:17: invalid value: integer `5`|fix: write a text without NUL, as the program gets it",
            ),
            (
                "exec",
                "command = [\"a\\u0000\"]",
                "3:12: invalid value: string \"a\\0\"|fix: write a text without NUL, as the program gets it",
            ),
            (
                "exec",
                "command = [\"\", \"a\"]",
                "3:11: a program without a name|fix: write the program and what it is given, 1 to 32 texts",
            ),
            (
                "exec",
                "stream = \"yes\"",
                "3:10: invalid value: string \"yes\"|fix: write true or false",
            ),
            (
                "exec",
                "command = [\"a\"]\nstream = true\ninterval = 5",
                "5:1: `interval` has no meaning with stream = true: the program runs for ever|\
                 fix: remove one of the two keys",
            ),
            (
                "exec",
                "timeout = 5\ncommand = [\"a\"]\nstream = true",
                "3:1: `timeout` has no meaning with stream = true: the program runs for ever|\
                 fix: remove one of the two keys",
            ),
            (
                "exec",
                "command = [\"a\"]\nstale = 5",
                "4:1: `stale` has no meaning without stream = true: each run gives its readings|\
                 fix: remove it, or write stream = true",
            ),
            (
                "stdin",
                "topic = \"a b\"",
                "3:9: invalid value: string \"a b\"|fix: write a topic: 1 to 8 segments of A-Z a-z 0-9 _ - \
                 (1 to 32 each) joined by /, at most 96 bytes",
            ),
            (
                "stdin",
                "format = \"json\"",
                "3:10: invalid value: string \"json\"|fix: write \"text\" or \"postcard\"",
            ),
            (
                "stdin",
                "[[source]]\nkind = \"stdin\"",
                "3:1: a second source of kind \"stdin\"|fix: remove it: there is one standard input",
            ),
            (
                "datagram",
                "path = \"run/a\"",
                "3:8: invalid value: string \"run/a\"|fix: write a full path of at most 107 bytes, \
                 as \"/run/encke/readings\"",
            ),
            (
                "datagram",
                "path = \"/a\"\nmode = 660",
                "4:8: invalid value: integer `660`|fix: write three or four octal digits, as \"0660\"",
            ),
            (
                "datagram",
                "path = \"/a\"\n[[source]]\nkind = \"datagram\"\npath = \"/a\"",
                "4:1: a second source at /a|fix: give each socket a path of its own",
            ),
        ] {
            let error = row(kind, keys).expect_err(keys).to_string();
            match want.split_once('|').filter(|_| !want.contains('\n')) {
                Some((begin, end)) => {
                    let begin = format!("encke.toml:{begin}\n");
                    assert!(error.starts_with(&begin) && error.ends_with(end), "{error}");
                }
                None => assert_eq!(error, want),
            }
        }
        let error = sources("[[source]]\nkind = 5").unwrap_err();
        assert_eq!(error.fix, "write \"exec\", \"stdin\" or \"datagram\"");
        assert_eq!(error.place.unwrap().line, 2);
    }
}
