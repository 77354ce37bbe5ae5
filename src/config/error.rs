//! Faults of a configuration text, and how they are shown: file, line, column, excerpt, fix.
//!
//! Serde's "what, expected right" becomes problem and fix (docs of `serde::de::Error`). It never
//! decides what is right; the rules and the schema do.

use std::fmt;
use std::ops::Range;

use super::Layer;

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
        Place {
            line: text[..start].matches('\n').count() + 1,
            column: text[start..at].chars().count() + 1,
            excerpt: text[start..stop]
                .replace(|c: char| c.is_control(), " ")
                .trim_end()
                .to_string(),
            width: marked.max(1),
        }
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

    pub(super) fn at(self, layer: &Layer) -> ConfigError {
        ConfigError {
            file: layer.file.to_string(),
            place: self.span.map(|span| Place::new(layer.text, span)),
            problem: self.problem,
            fix: self.fix,
        }
    }
}

/// Serde's and TOML's words for what would be right, and ours: a prefix each.
const WORDS: &[(&str, &str)] = &[
    ("a sequence", "a list, as [\"...\"]"),
    ("a boolean", "true or false"),
    ("a string", "a text in quotes"),
    (
        "literal string",
        "a number, true, false, or a text in quotes",
    ),
    ("struct", "a table, as the commented example shows"),
];

/// What to do about faults that do not say what would be right: a prefix each.
const FIXES: &[(&str, &str)] = &[
    ("missing field", "add the key to this table"),
    ("duplicate key", "keep one of the two"),
    ("", "see the commented example configuration"),
];

fn by_prefix(rows: &[(&str, &'static str)], text: &str) -> Option<&'static str> {
    rows.iter()
        .find(|(prefix, _)| text.starts_with(prefix))
        .map(|(_, found)| *found)
}

/// Cuts serde's "what, expected right" into problem and fix, and looks for the key that was meant.
impl From<toml::de::Error> for Fault {
    fn from(error: toml::de::Error) -> Fault {
        let message = error.message();
        let (problem, right) = message.split_once(", expected ").unwrap_or((message, ""));
        let fix = match (problem.strip_prefix("unknown field `"), right) {
            (Some(key), _) => which_key(key.trim_end_matches('`'), right),
            (None, "") => by_prefix(FIXES, problem).unwrap_or_default().to_string(),
            (None, right) => format!("write {}", by_prefix(WORDS, right).unwrap_or(right)),
        };
        Fault {
            span: error.span(),
            problem: problem.replace("field", "key"),
            fix,
        }
    }
}

/// What to write for the unknown `key`, given serde's list of the known ones in backticks.
fn which_key(key: &str, known: &str) -> String {
    let known: Vec<&str> = known
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|&k| k != "board")
        .collect();
    let list = format!("the keys here are {}", known.join(", "));
    match nearest(key, &known) {
        Some(meant) => format!("did you mean `{meant}`? {list}"),
        None => list,
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
