//! What is printed: one line a figure, for people or for programs.

use std::io::{self, Write};

/// Where figures go.
#[derive(Debug)]
pub(crate) struct Report {
    /// `name<TAB>value<TAB>unit` in place of columns.
    pub(crate) is_tsv: bool,
}

impl Report {
    /// What the figures to come are of.
    pub(crate) fn heading(&self, text: &str) {
        if !self.is_tsv {
            self.line(&format!("\n{text}"));
        }
    }

    /// One figure. `name` is the shape, what it was done with, and what was measured.
    pub(crate) fn figure(&self, name: &str, value: f64, unit: &str) {
        match self.is_tsv {
            true => self.line(&format!("{name}\t{}\t{unit}", plain(value))),
            false => self.line(&format!("  {name:36} {:>12} {unit}", grouped(value))),
        }
    }

    /// Nobody has to read it.
    fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// Three digits that count, at least.
fn plain(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_string(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The same with a comma at each thousand.
fn grouped(value: f64) -> String {
    let text = plain(value);
    let whole = text.split('.').next().unwrap_or_default().len();
    let mut grouped = String::new();
    for (at, c) in text.chars().enumerate() {
        let left = whole.saturating_sub(at);
        if at > 0 && left > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped
}
