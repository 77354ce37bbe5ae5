//! The raw-byte cases below `tests/conformance`, in the format that `01-request-line.case` begins
//! with.

use std::fs;
use std::path::{Path, PathBuf};

/// One case: its place, what it is about, and its steps.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// File and line.
    pub(super) place: String,
    /// Specification, section, and what is asked for.
    pub(super) title: String,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Bytes for the server.
    Send(Vec<u8>),
    /// Its answer.
    Answer(Wanted),
    /// It says nothing, until a value is published to the topic `a`.
    Hold,
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Wanted {
    pub(super) status: u16,
    /// Whether the connection goes on; none for an interim answer.
    pub(super) keep: Option<bool>,
    /// Whether it is an answer to HEAD.
    pub(super) head: bool,
    /// Fields there must be, in small letters, with their values.
    pub(super) fields: Vec<(String, String)>,
    /// Fields there must not be.
    pub(super) absent: Vec<String>,
    /// Texts that the body must hold.
    pub(super) texts: Vec<String>,
}

impl Case {
    /// Everything that is sent.
    pub(super) fn input(&self) -> Vec<u8> {
        let sent = |step: &Step| match step {
            Step::Send(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        self.steps.iter().flat_map(sent).collect()
    }

    /// Whether it leaves the topics as they were.
    pub(super) fn is_harmless(&self) -> bool {
        let input = self.input();
        let writes = |word: &[u8]| input.windows(word.len()).any(|part| part == word);
        !self.steps.contains(&Step::Hold)
            && ![&b"POST "[..], b"PUT ", b"DELETE "].into_iter().any(writes)
    }
}

/// All cases of all files.
pub(super) fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "case"));
    files.sort();
    let parse = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        parse(&name, &fs::read_to_string(path).unwrap())
    };
    files.iter().flat_map(parse).collect()
}

fn parse(name: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut joins = false;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        let Some(kind) = line.chars().next().filter(|kind| *kind != ';') else {
            continue;
        };
        let rest = &line[1..];
        if kind == '#' {
            cases.push(Case {
                place,
                title: rest.trim().to_owned(),
                steps: Vec::new(),
            });
            joins = false;
            continue;
        }
        let steps = &mut cases.last_mut().expect("a case begins with #").steps;
        match (kind, steps.last_mut()) {
            ('>', Some(Step::Send(bytes))) if joins => bytes.extend(sent(rest, &place)),
            ('>', _) => steps.push(Step::Send(sent(rest, &place))),
            ('<', _) if rest.trim() == "hold" => steps.push(Step::Hold),
            ('<', _) => steps.push(Step::Answer(wanted(rest.trim(), &place))),
            _ => panic!("{place}: a line begins with one of # > < ;"),
        }
        joins = kind == '>';
    }
    cases
}

/// The bytes of a line that begins with `>`.
fn sent(rest: &str, place: &str) -> Vec<u8> {
    if let Some(counted) = rest.strip_prefix('*') {
        let (count, text) = counted.split_once(' ').expect("`>*COUNT TEXT`");
        return unescape(text, place).repeat(count.parse().expect("a count"));
    }
    unescape(rest.strip_prefix(' ').unwrap_or(rest), place)
}

fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next().unwrap_or(b' '), rest.next().unwrap_or(b' ')];
                let digits = core::str::from_utf8(&digits).unwrap_or_default();
                u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{place}: \\x{digits}"))
            }
            other => panic!("{place}: no escape {other:?}"),
        });
    }
    bytes
}

/// What a line that begins with `<` asks for.
fn wanted(line: &str, place: &str) -> Wanted {
    let (status, mut rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut wanted = Wanted {
        status: status
            .parse()
            .unwrap_or_else(|_| panic!("{place}: {status}")),
        ..Wanted::default()
    };
    while !rest.is_empty() {
        let quoted = |text: &str| {
            let (text, rest) = text
                .split_once('"')
                .unwrap_or_else(|| panic!("{place}: a quote"));
            (text.to_owned(), rest.len())
        };
        let left = if let Some(text) = rest.strip_prefix("~\"") {
            let (text, left) = quoted(text);
            wanted.texts.push(text);
            left
        } else if let Some(text) = rest.strip_prefix('"') {
            let (text, left) = quoted(text);
            let (name, value) = text.split_once(": ").expect("`field: value`");
            wanted.fields.push((name.into(), value.into()));
            left
        } else {
            let (word, left) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "keep" | "close" => wanted.keep = Some(word == "keep"),
                "head" => wanted.head = true,
                absent if absent.starts_with('!') => wanted.absent.push(absent[1..].into()),
                _ => panic!("{place}: {word}"),
            }
            left.len()
        };
        rest = rest[rest.len() - left..].trim_start();
    }
    let is_interim = wanted.status / 100 == 1;
    assert_eq!(wanted.keep.is_none(), is_interim, "{place}: keep or close");
    wanted
}
