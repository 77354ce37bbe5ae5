//! What a read gives: readings with their names, as canonical JSON text.
//!
//! Follows RFC 8259 section 6 for numbers. It allocates only while a source shows more than before,
//! and never decides what is published.

use crate::buffer::Writer;
use crate::hub::event::State;
use crate::hub::topic::Limits;
use crate::limits::SEGMENT_BYTES_MAX;
use crate::name;
use crate::wire::json;
use std::borrow::Cow;
use std::fmt::Write;

/// Readings that one source may have; what is above is left out.
pub(super) const READINGS_MAX: usize = 64;

/// What a reading is called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Channel {
    /// A valid topic; in `Source::channels` also a pattern with `+`.
    pub(super) topic: Cow<'static, str>,
    /// At most `LABEL_BYTES_MAX`, as the unit.
    pub(super) label: Cow<'static, str>,
    pub(super) unit: Cow<'static, str>,
    pub(super) limits: Limits,
}

/// No limit is known.
const UNLIMITED: Limits = Limits {
    lcrit: None,
    min: None,
    max: None,
    crit: None,
};

impl Channel {
    pub(super) const fn fixed(
        topic: &'static str,
        label: &'static str,
        unit: &'static str,
    ) -> Channel {
        Channel {
            topic: Cow::Borrowed(topic),
            label: Cow::Borrowed(label),
            unit: Cow::Borrowed(unit),
            limits: UNLIMITED,
        }
    }

    pub(super) fn named(
        topic: impl Into<Cow<'static, str>>,
        label: impl Into<Cow<'static, str>>,
        unit: impl Into<Cow<'static, str>>,
    ) -> Channel {
        Channel {
            topic: topic.into(),
            label: label.into(),
            unit: unit.into(),
            limits: UNLIMITED,
        }
    }

    /// The same with limits, in the channel's unit.
    pub(super) fn with_limits(self, limits: Limits) -> Channel {
        Channel { limits, ..self }
    }
}

/// One reading as its source gave it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) topic: String,
    pub(super) label: String,
    pub(super) unit: String,
    pub(super) limits: Limits,
    /// Canonical JSON text.
    pub(super) value: String,
    /// The value when it is a number, and how many decimals it is written with.
    pub(super) number: Option<f64>,
    pub(super) decimals: usize,
    pub(super) state: State,
}

impl Entry {
    /// Takes over what `newer` says of the same topic.
    pub(super) fn renew(&mut self, newer: &Entry) {
        self.value.clone_from(&newer.value);
        (self.number, self.decimals, self.state) = (newer.number, newer.decimals, newer.state);
    }
}

/// What one read gave. Its entries are used again, so that in the long run nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    len: usize,
}

impl Batch {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a number with at most `decimals` decimals; one that is not finite is an error.
    pub(super) fn number(&mut self, channel: &Channel, value: f64, decimals: usize) {
        if let Some(entry) = self.entry(channel) {
            entry.state = match write_number(&mut entry.value, value, decimals) {
                Ok(()) => State::Ok,
                Err(NotFinite) => State::Error,
            };
            entry.number = Some(value).filter(|value| value.is_finite());
            entry.decimals = decimals;
        }
    }

    /// Adds a yes or no.
    pub(super) fn flag(&mut self, channel: &Channel, value: bool) {
        self.json(channel, if value { "true" } else { "false" });
    }

    /// Adds a word or a sentence. One that no event could hold is an error.
    pub(super) fn text(&mut self, channel: &Channel, value: &str) {
        let mut bytes = vec![0; json::string_len(value)];
        let mut out = Writer::new(&mut bytes);
        let is_written = json::string(value, &mut out).is_ok();
        match std::str::from_utf8(out.written()) {
            Ok(text) if is_written => self.json(channel, text),
            _ => self.fault(channel),
        }
    }

    /// Adds a value that is canonical JSON text already (`wire::json::canonical`). A number keeps
    /// its spelling.
    pub(super) fn json(&mut self, channel: &Channel, value: &str) {
        if let Some(entry) = self.entry(channel) {
            value.clone_into(&mut entry.value);
            entry.state = State::Ok;
            entry.number = None;
            if json::is_number(value.as_bytes()) {
                entry.number = value.parse().ok().filter(|number: &f64| number.is_finite());
                entry.decimals = value.split_once('.').map_or(0, |(_, behind)| behind.len());
            }
        }
    }

    /// Adds the error that `channel` could not be read.
    pub(super) fn fault(&mut self, channel: &Channel) {
        self.number(channel, f64::NAN, 0);
    }

    /// A place for `channel`, or `None` when the source has `READINGS_MAX` already.
    fn entry(&mut self, channel: &Channel) -> Option<&mut Entry> {
        debug_assert!(
            name::topic(&channel.topic).is_some(),
            "{channel:?} names no topic"
        );
        if self.len == READINGS_MAX {
            return None;
        }
        if self.len == self.entries.len() {
            self.entries.push(Entry {
                topic: String::new(),
                label: String::new(),
                unit: String::new(),
                limits: UNLIMITED,
                value: String::new(),
                number: None,
                decimals: 0,
                state: State::Ok,
            });
        }
        let entry = &mut self.entries[self.len];
        self.len += 1;
        channel.topic.as_ref().clone_into(&mut entry.topic);
        channel.label.as_ref().clone_into(&mut entry.label);
        channel.unit.as_ref().clone_into(&mut entry.unit);
        entry.limits = channel.limits;
        Some(entry)
    }
}

/// The value is infinite or not a number; the text is `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotFinite;

/// Writes `value` over `text` as a canonical JSON number: rounded to `decimals` decimals, without
/// trailing zeros, without exponent, and never `-0`.
pub(super) fn write_number(
    text: &mut String,
    value: f64,
    decimals: usize,
) -> Result<(), NotFinite> {
    text.clear();
    if !value.is_finite() {
        text.push_str("null");
        return Err(NotFinite);
    }
    write!(text, "{value:.decimals$}").expect("a String takes any text");
    if decimals > 0 {
        let kept = text.trim_end_matches('0').trim_end_matches('.').len();
        text.truncate(kept);
    }
    if text == "-0" {
        text.remove(0);
    }
    Ok(())
}

/// The slug of `text`, with `-2` and so on behind it when it is taken.
pub(super) fn unique_slug(
    text: &str,
    is_taken: impl Fn(&str) -> bool,
) -> heapless::String<SEGMENT_BYTES_MAX> {
    let mut slug = name::slug(text);
    if slug.is_empty() {
        slug = name::slug("unnamed");
    }
    let stem = slug.clone();
    let mut number = 1;
    while is_taken(&slug) {
        number += 1;
        let suffix = format!("-{number}");
        slug.clone_from(&stem);
        slug.truncate(stem.len().min(SEGMENT_BYTES_MAX - suffix.len()));
        slug.push_str(&suffix).expect("room was made");
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_canonical() {
        for (value, decimals, want) in [
            (47.2, 1, "47.2"),
            (47.25, 1, "47.2"),
            (47.26, 1, "47.3"),
            (3.0, 1, "3"),
            (3.04, 1, "3"),
            (0.1 + 0.2, 2, "0.3"),
            (100.0, 0, "100"),
            (120.0, 2, "120"),
            (0.0, 2, "0"),
            (-0.0, 1, "0"),
            (-0.04, 1, "0"),
            (-0.06, 1, "-0.1"),
            (-40.0, 1, "-40"),
            (1e21, 1, "1000000000000000000000"),
            (1e-9, 3, "0"),
            (0.5, 0, "0"),
            (1.5, 0, "2"),
        ] {
            let mut text = "old".to_owned();
            assert_eq!(write_number(&mut text, value, decimals), Ok(()));
            assert_eq!(text, want, "{value} with {decimals}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut text = "old".to_owned();
            assert_eq!(write_number(&mut text, value, 1), Err(NotFinite));
            assert_eq!(text, "null");
        }
    }

    #[test]
    fn a_batch_holds_so_many_readings_and_forgets_the_rest() {
        let mut batch = Batch::default();
        for at in 0..=READINGS_MAX {
            assert_eq!(batch.entries().len(), at);
            let channel = Channel::named(format!("a/{at}"), format!("A {at}"), "V");
            batch.number(&channel, at as f64, 0);
        }
        assert_eq!(batch.entries().len(), READINGS_MAX);
        assert_eq!(batch.entries()[READINGS_MAX - 1].topic, "a/63");
        batch.clear();
        assert!(batch.entries().is_empty());
        batch.fault(&Channel::fixed("b", "B", ""));
        let entry = &batch.entries()[0];
        assert_eq!((entry.topic.as_str(), entry.value.as_str()), ("b", "null"));
        assert_eq!(entry.state, State::Error);
    }

    #[test]
    fn slugs_differ() {
        let mut taken: Vec<String> = Vec::new();
        let long = "x".repeat(40);
        for text in ["eth0.1", "eth0-1", "ETH0 1", "\u{b0}", "!", &long, &long] {
            let slug = unique_slug(text, |slug| taken.iter().any(|other| other == slug));
            taken.push(slug.to_string());
        }
        let (full, second) = ("x".repeat(32), format!("{}-2", "x".repeat(30)));
        let want = [
            "eth0-1",
            "eth0-1-2",
            "eth0-1-3",
            "unnamed",
            "unnamed-2",
            &full,
            &second,
        ];
        assert_eq!(taken, want);
    }
}
