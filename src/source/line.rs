//! One line of text as readings.
//!
//! Pure: bytes in, readings out (RFC 8259 for JSON, `name.rs` for names). This is the format of
//! `exec`, of `stdin` and of `datagram`, whose entry may have a `topic`. The first rule that fits:
//!
//! 1. An empty line says nothing. White space at both ends, a carriage return too, is dropped.
//! 2. `{"topic":NAME,"value":VALUE}` is a reading, a list `[{..},{..}]` of them several, all or
//!    none. `"label"` and `"unit"` may stand in it; other keys are ignored.
//! 3. Any other JSON is the value of the entry's topic: `21.5`, `true`, `"open"`, `{"rx":1}`.
//! 4. `NAME VALUE` is a reading, where NAME is a topic and not a number. VALUE is JSON, or else a
//!    string; in an entry with a topic only JSON, for there a sentence is more often a value than
//!    a name with a value (`up 3 days`).
//! 5. Anything else is a string, the value of the entry's topic.
//!
//! A NAME stands below the entry's topic: `kitchen 21.5` in an entry with `topic = "room"` is
//! `room/kitchen`. It never guesses: what fits no rule is an error that says what would be right.

use super::batch::{Batch, Channel, READINGS_MAX};
use super::heading::{Heading, Unfit, VALUE_BYTES_MAX, excerpt};
use crate::buffer::Writer;
use crate::limits::{LABEL_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::name;
use crate::wire::json;

/// Bytes of a line, without its end.
pub(super) const LINE_BYTES_MAX: usize = 8192;

/// Fills `batch` anew with the readings of `line`; with none when it is not right.
pub(super) fn read(line: &[u8], heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
    batch.clear();
    fill(line, heading, batch).inspect_err(|_| batch.clear())
}

fn fill(line: &[u8], heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
    let text = str::from_utf8(line).map_err(|_| Unfit::NotUtf8)?.trim();
    if text.is_empty() {
        return Ok(());
    }
    match json::validate(text.as_bytes()) {
        Ok(()) => return put_document(text, heading, batch),
        Err(error) if error.fault == json::Fault::Depth => return Err(Unfit::Deep),
        // Broken JSON rather than a sentence.
        Err(error) if text.starts_with("{\"") || text.starts_with("[{") => {
            return Err(Unfit::Json(error.at, error.wanted));
        }
        Err(_) => {}
    }
    let Some((name, value)) = name_and_value(text) else {
        return put_string(heading.own(text)?, text, batch);
    };
    let is_json = json::validate(value.as_bytes()).is_ok();
    match (is_json, heading.has_topic()) {
        (true, _) => put_json(&heading.named(name)?, value.as_bytes(), batch),
        (false, true) => put_string(heading.own(text)?, text, batch),
        (false, false) => put_string(&heading.named(name)?, value, batch),
    }
}

/// The two parts of `NAME VALUE`.
fn name_and_value(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once([' ', '\t'])?;
    let is_name = name::topic(name).is_some() && name.parse::<f64>().is_err();
    is_name.then(|| (name, value.trim_start()))
}

/// Adds what valid JSON says.
fn put_document(text: &str, heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
    let text = text.as_bytes();
    if let Some(element) = Element::of(text) {
        return element.put(heading, batch);
    }
    let elements = || json::elements(text).into_iter().flatten();
    if elements().next().and_then(Element::of).is_none() {
        let shown = String::from_utf8_lossy(text);
        return put_json(heading.own(&shown)?, text, batch);
    }
    let count = elements().count();
    if count > READINGS_MAX {
        return Err(Unfit::Many(count, READINGS_MAX));
    }
    for (at, element) in elements().enumerate() {
        let element = Element::of(element).ok_or(Unfit::Element(at))?;
        element.put(heading, batch)?;
    }
    Ok(())
}

/// A reading as a JSON object: raw JSON texts.
struct Element<'a> {
    topic: &'a [u8],
    value: &'a [u8],
    label: Option<&'a [u8]>,
    unit: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// `None` when it is no object with a topic and a value.
    fn of(json: &'a [u8]) -> Option<Element<'a>> {
        let (mut topic, mut value, mut label, mut unit) = (None, None, None, None);
        for (key, text) in json::members(json)? {
            match key {
                b"\"topic\"" => topic = Some(text),
                b"\"value\"" => value = Some(text),
                b"\"label\"" => label = Some(text),
                b"\"unit\"" => unit = Some(text),
                _ => {}
            }
        }
        Some(Element {
            topic: topic?,
            value: value?,
            label,
            unit,
        })
    }

    fn put(&self, heading: &Heading, batch: &mut Batch) -> Result<(), Unfit> {
        let raw = || Unfit::Name(excerpt(&String::from_utf8_lossy(self.topic)));
        let mut room = [0; TOPIC_BYTES_MAX + 1];
        let name = json::unescape(self.topic, &mut room).ok_or_else(raw)?;
        let mut channel = heading.named(name)?;
        let mut room = [0; LABEL_BYTES_MAX];
        // What is longer than a label can be is left out rather than cut in half.
        if let Some(label) = self.label.and_then(|text| json::unescape(text, &mut room)) {
            channel.label = label.to_owned().into();
        }
        if let Some(unit) = self.unit.and_then(|text| json::unescape(text, &mut room)) {
            channel.unit = unit.to_owned().into();
        }
        put_json(&channel, self.value, batch)
    }
}

fn put_json(channel: &Channel, value: &[u8], batch: &mut Batch) -> Result<(), Unfit> {
    let mut room = [0; VALUE_BYTES_MAX];
    let mut out = Writer::new(&mut room);
    if json::canonical(value, &mut out).is_err() {
        // It was valid before, so that it can only be too long.
        let bytes = json::canonical_len(value).unwrap_or(value.len());
        return Err(Unfit::LongValue(bytes));
    }
    let text = str::from_utf8(out.written()).expect("canonical JSON is ASCII");
    batch.json(channel, text);
    Ok(())
}

/// Adds a string, if its event fits.
pub(super) fn put_string(channel: &Channel, text: &str, batch: &mut Batch) -> Result<(), Unfit> {
    let bytes = json::string_len(text);
    if bytes > VALUE_BYTES_MAX {
        return Err(Unfit::LongValue(bytes));
    }
    batch.text(channel, text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(topic: Option<&str>, line: &[u8]) -> Result<Vec<String>, Unfit> {
        let mut batch = Batch::default();
        let outcome = read(line, &Heading::new(topic, None, None), &mut batch);
        let entries = batch.entries().iter();
        let told = entries
            .map(|entry| format!("{} {}", entry.topic, entry.value))
            .collect();
        outcome.map(|()| told)
    }

    fn told(topic: Option<&str>, line: &str) -> String {
        match lines(topic, line.as_bytes()) {
            Ok(told) => told.join("; "),
            Err(unfit) => format!("! {unfit}"),
        }
    }

    #[test]
    fn a_line_in_an_entry_with_a_topic() {
        for (line, want) in [
            ("", ""),
            (" \t\r", ""),
            ("21.50", "t 21.50"),
            ("  -40 \r", "t -40"),
            ("true", "t true"),
            ("null", "t null"),
            ("\"op\\u0065n\"", "t \"open\""),
            ("[ 1, 2 ]", "t [1,2]"),
            ("{ \"topic\": \"a\" }", "t {\"topic\":\"a\"}"),
            ("{\"topic\":\"a\",\"value\":{\"b\": 1}}", "t/a {\"b\":1}"),
            (
                "{\"value\":1,\"qos\":0,\"topic\":\"/a\\u002fb\"}",
                "t/a/b 1",
            ),
            (
                "[{\"topic\":\"a\",\"value\":1},{\"topic\":\"b\",\"value\":2}]",
                "t/a 1; t/b 2",
            ),
            ("[]", "t []"),
            ("kitchen 21.5", "t/kitchen 21.5"),
            ("kitchen/hot\t  \"yes\"", "t/kitchen/hot \"yes\""),
            ("/kitchen 5", "t/kitchen 5"),
            ("up 3 days", "t \"up 3 days\""),
            ("12 13", "t \"12 13\""),
            ("1e3 4", "t \"1e3 4\""),
            ("nan 4", "t \"nan 4\""),
            ("21,5", "t \"21,5\""),
            ("+21.5", "t \"+21.5\""),
            ("temp=45.0'C", "t \"temp=45.0'C\""),
            ("open", "t \"open\""),
            ("[INFO] <b>", "t \"[INFO] \\u003cb\\u003e\""),
            ("\u{e9}t\u{e9}", "t \"\\u00e9t\\u00e9\""),
            ("kitchen", "t \"kitchen\""),
        ] {
            assert_eq!(told(Some("t"), line), want, "{line}");
        }
    }

    #[test]
    fn a_line_in_an_entry_without_a_topic() {
        for (line, want) in [
            ("", ""),
            ("room/t 21.5", "room/t 21.5"),
            ("room open wide", "room \"open wide\""),
            ("room {\"a\": 1}", "room {\"a\":1}"),
            ("room {\"a\": 1", "room \"{\\\"a\\\": 1\""),
            ("{\"topic\":\"a\",\"value\":1}", "a 1"),
        ] {
            assert_eq!(told(None, line), want, "{line}");
        }
        for line in [
            "21.5",
            "open",
            "12 13",
            "[1]",
            "{\"topic\":\"a\"}",
            "21.5 C",
        ] {
            let said = told(None, line);
            let begin = format!("! \"{}\" has no name: set topic", line);
            assert!(said.starts_with(&begin), "{said}");
        }
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let list = "[{\"topic\":\"a\",\"value\":1},{\"topic\":\"b\"}]";
        for (line, want) in [
            (
                "{\"topic\":\"a\",\"value\":01}",
                "! no JSON: at byte 22 there should be",
            ),
            ("[{\"topic\":\"a\"", "! no JSON: at byte 13 there should be"),
            (
                "{\"topic\":\"a b\",\"value\":1}",
                "! \"a b\" is no topic: a topic is 1 to 8",
            ),
            (
                "{\"topic\":7,\"value\":1}",
                "! \"7\" is no topic: a topic is 1 to 8",
            ),
            ("a/b/c/d/e/f/g/h 1", "! \"t/a/b/c/d/e/f/g/h\" is no topic"),
            (
                list,
                "! reading 1 of a list is not {\"topic\":NAME,\"value\":VALUE}",
            ),
            (&"[".repeat(65), "! JSON that is nested more than 64"),
        ] {
            let said = told(Some("t"), line);
            assert!(said.starts_with(want), "{line}: {said}");
        }
        assert_eq!(lines(Some("t"), b"caf\xe9"), Err(Unfit::NotUtf8));
    }

    #[test]
    fn label_and_unit_of_a_reading() {
        let mut batch = Batch::default();
        let heading = Heading::new(Some("t"), Some("L"), Some("V"));
        let long = "l".repeat(LABEL_BYTES_MAX + 1);
        for (line, want) in [
            ("1".to_owned(), ("L", "V")),
            ("a 1".to_owned(), ("", "V")),
            (
                r#"{"topic":"a","value":1,"label":"A","unit":"\u00b0C"}"#.to_owned(),
                ("A", "\u{b0}C"),
            ),
            (
                format!(r#"{{"topic":"a","value":1,"label":"{long}","unit":5}}"#),
                ("", "V"),
            ),
            (
                format!(r#"{{"topic":"a","value":1,"label":"{}"}}"#, &long[1..]),
                (&long[1..], "V"),
            ),
        ] {
            read(line.as_bytes(), &heading, &mut batch).unwrap();
            let entry = &batch.entries()[0];
            assert_eq!((entry.label.as_str(), entry.unit.as_str()), want, "{line}");
        }
    }

    #[test]
    fn sizes_at_and_above() {
        let text = |bytes: usize| "x".repeat(bytes - 2);
        assert!(lines(Some("t"), text(VALUE_BYTES_MAX).as_bytes()).is_ok());
        let above = lines(Some("t"), text(VALUE_BYTES_MAX + 1).as_bytes());
        assert_eq!(above, Err(Unfit::LongValue(VALUE_BYTES_MAX + 1)));
        let json = |bytes: usize| format!("a [{}]", "1".repeat(bytes - 2));
        assert!(lines(None, json(VALUE_BYTES_MAX).as_bytes()).is_ok());
        let above = lines(None, json(VALUE_BYTES_MAX + 1).as_bytes());
        assert_eq!(above, Err(Unfit::LongValue(VALUE_BYTES_MAX + 1)));

        let list =
            |count: usize| format!("[{}]", vec![r#"{"topic":"a","value":1}"#; count].join(","));
        assert_eq!(
            lines(None, list(READINGS_MAX).as_bytes()).unwrap().len(),
            READINGS_MAX
        );
        let above = lines(None, list(READINGS_MAX + 1).as_bytes());
        assert_eq!(above, Err(Unfit::Many(READINGS_MAX + 1, READINGS_MAX)));
    }

    proptest! {
        #[test]
        fn any_line_is_readings_or_an_error(line: Vec<u8>, has_topic: bool) {
            if let Err(unfit) = lines(has_topic.then_some("t"), &line) {
                prop_assert!(!unfit.to_string().contains(|c: char| c.is_control()));
            }
        }

        #[test]
        fn readings_come_back(
            name in "[a-z][a-z0-9_-]{0,8}(/[a-z]{1,8}){0,3}",
            number: f64,
            text: String,
        ) {
            prop_assume!(number.is_finite() && name.parse::<f64>().is_err());
            let number = serde_json::to_string(&number).unwrap();
            let text = serde_json::to_string(&text).unwrap();
            for value in [&number, &text] {
                let value: serde_json::Value = serde_json::from_str(value).unwrap();
                let object = serde_json::json!({"topic": name, "value": value}).to_string();
                for line in [format!("{name} {value}"), object] {
                    let told = lines(None, line.as_bytes()).unwrap();
                    let (topic, back) = told[0].split_once(' ').unwrap();
                    prop_assert_eq!(topic, &name);
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(back).unwrap(), &value);
                }
            }
        }
    }
}
