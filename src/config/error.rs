//! Faults of a configuration text, and how they are shown: file, line, column, excerpt, fix.
//!
//! What the parser says is put into our words. It never decides what is right; the rules and the
//! schema do.

use std::fmt;
use std::ops::Range;

use toml_parser::{Expected, ParseError};

use super::Layer;
use super::tree::{Given, Item, Key};

/// What is wrong with the configuration, where, and what would be right.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigError {
    /// A path, or the flag or profile that is wrong.
    pub file: String,
    /// Where in the text.
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub fix: String,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line, control characters made spaces.
    pub excerpt: String,
    /// Characters marked, at least 1.
    pub width: usize,
}

impl Place {
    pub(super) fn new(text: &str, span: Range<usize>) -> Place {
        let end = text.len();
        let at = (0..=span.start.min(end))
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let stop = text[at..].find('\n').map_or(end, |i| at + i);
        let marked = text
            .get(at..span.end.min(stop))
            .map_or(0, |marked| marked.chars().count());
        let line = &text[start..stop];
        Place {
            line: text[..start].matches('\n').count() + 1,
            column: text[start..at].chars().count() + 1,
            excerpt: without_secret(line)
                .replace(|c: char| c.is_control(), " ")
                .trim_end()
                .to_string(),
            width: marked.max(1),
        }
    }
}

/// A line as it may be shown: somebody may have written a secret in place of its hash.
fn without_secret(line: &str) -> String {
    let names = ["sha2", "secret"];
    let value = |name: &str| Some(line.find(name)? + line[line.find(name)?..].find('=')?);
    match names.into_iter().find_map(value) {
        Some(at) => format!("{}= ...", &line[..at]),
        None => line.to_owned(),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if let Some(at) = &self.place {
            write!(out, ":{}:{}", at.line, at.column)?;
        }
        writeln!(out, ": {}", self.problem)?;
        if let Some(at) = &self.place {
            let number = at.line.to_string();
            let margin = " ".repeat(number.len());
            let caret = format!("{}{}", " ".repeat(at.column - 1), "^".repeat(at.width));
            writeln!(
                out,
                "{margin} |\n{number} | {}\n{margin} | {caret}",
                at.excerpt
            )?;
        }
        write!(out, "fix: {}", self.fix)
    }
}

impl std::error::Error for ConfigError {}

/// A fault in a text, before it is known which file that is.
pub(super) struct Fault {
    span: Option<Range<usize>>,
    problem: String,
    fix: String,
}

impl Fault {
    pub(super) fn new(
        span: Range<usize>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Fault {
        Fault {
            span: Some(span),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// `item` is not what its key takes. `right` stands behind "write".
    pub(super) fn wrong(item: &Item, right: &str) -> Fault {
        let problem = match &item.given {
            Given::Bool(value) => format!("invalid value: boolean `{value}`"),
            Given::Int(value) => format!("invalid value: integer `{value}`"),
            Given::Float(value) => format!("invalid value: number `{value}`"),
            Given::Text(text) => format!("invalid value: string {text:?}"),
            Given::Date(text) => format!("invalid value: date `{text}`"),
            Given::List(_) => "invalid type: a list".to_string(),
            Given::Table(_) | Given::Rows(_) => "invalid type: a table".to_string(),
        };
        Fault::new(item.span.clone(), problem, format!("write {right}"))
    }

    /// `key` is none of `known`. `whose` they are stands behind "the keys".
    pub(super) fn unknown(key: &Key, whose: &str, known: &[&str]) -> Fault {
        let list = format!("the keys {whose} are {}", known.join(", "));
        let fix = match nearest(&key.name, known) {
            Some(meant) => format!("did you mean `{meant}`? {list}"),
            None => list,
        };
        let problem = format!("unknown key `{}`", key.name);
        Fault::new(key.span.clone(), problem, fix)
    }

    /// The table at `span` lacks `key`.
    pub(super) fn missing(span: Range<usize>, key: &str) -> Fault {
        let problem = format!("missing key `{key}`");
        Fault::new(span, problem, "add the key to this table")
    }

    pub(super) fn at(self, layer: &Layer) -> ConfigError {
        ConfigError {
            file: layer.file.to_string(),
            place: self.span.map(|span| Place::new(layer.text, span)),
            problem: self.problem,
            fix: self.fix,
        }
    }
}

/// The parser's words for what would be right, in ours.
fn in_words(expected: &Expected) -> String {
    match expected {
        Expected::Literal("\n") => "newline".to_string(),
        Expected::Literal(text) => format!("`{text}`"),
        Expected::Description("literal string" | "value") => {
            "a number, true, false, or a text in quotes".to_string()
        }
        Expected::Description(text) => (*text).to_string(),
        _ => "something else".to_string(),
    }
}

impl From<ParseError> for Fault {
    fn from(error: ParseError) -> Fault {
        let right = error.expected().unwrap_or_default().iter();
        let right: Vec<String> = right.map(in_words).collect();
        let is_empty = error.unexpected().is_some_and(|span| span.is_empty());
        let problem = match error.description() {
            "string values must be quoted" if is_empty => "missing value",
            problem => problem,
        };
        let fix = match right.is_empty() {
            _ if problem == "duplicate key" => "keep one of the two".to_string(),
            true => "see the commented example configuration".to_string(),
            false => format!("write {}", right.join(", ")),
        };
        Fault {
            span: error.unexpected().map(|span| span.start()..span.end()),
            problem: problem.to_string(),
            fix,
        }
    }
}

/// The one of `known` that `word` may be a slip of.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let steps = known.iter().map(|known| (distance(word, known), *known));
    steps
        .min()
        .filter(|(steps, _)| *steps <= 1 + word.len() / 3)
        .map(|(_, known)| known)
}

/// Letters to change, add or drop to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
