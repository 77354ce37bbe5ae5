//! Whether anything is read, and whether the configuration speaks of topics that are there.
//!
//! DESIGN.md section 3: `[sources] include`, `exclude` and `[[topic]] match`. A topic that comes
//! from a publisher is not known here, so a rule that fits nothing is a hint. It reads no sensor.

use super::{Case, Level, Report};
use crate::config::{Config, SourceEntry, nearest};
use crate::name::matches;

pub(super) fn check(case: &Case, report: &mut Report) {
    let sources = &case.config.sources;
    let topics = &case.facts.topics;
    // Nothing is read because nothing is to be read.
    if sources.exclude.iter().any(|pattern| pattern == "#") {
        return report.ok(format_args!("none are wanted: exclude has \"#\""));
    }
    if topics.is_empty() && case.config.source.is_empty() {
        return report.add(
            Level::Problem,
            format_args!("nothing is found that could be read"),
            format_args!(
                "The page shows only what others publish. Any command can be a sensor: see \"Your \
               sensor\" in the README."
            ),
            format_args!("encke sensors"),
        );
    }
    let before = report.findings.len();
    // A pattern may be for a name as viewers see it, or as its source gives it.
    let mut names: Vec<&str> = topics.iter().map(String::as_str).collect();
    for rule in &case.config.topic {
        let new = rule.rename.as_deref();
        if new.is_some_and(|new| names.contains(&new)) {
            names.push(&rule.match_);
        }
    }
    for pattern in &sources.include {
        fits(case, report, &names, "[sources] include", pattern);
    }
    for pattern in &sources.exclude {
        fits(case, report, &names, "[sources] exclude", pattern);
    }
    for rule in case.rules() {
        fits(case, report, &names, "[[topic]] match", &rule.match_);
    }
    if report.findings.len() == before {
        let s = if topics.len() == 1 { "" } else { "s" };
        report.ok(format_args!("{} reading{s}", topics.len() as u64));
    }
}

/// Whether a row of `[[source]]` may give what `pattern` matches. Such sources are not asked.
fn is_fed(config: &Config, pattern: &str) -> bool {
    config.source.iter().any(|row| {
        let topic = match row {
            SourceEntry::Exec(exec) => &exec.topic,
            SourceEntry::Stdin(stdin) => &stdin.topic,
            SourceEntry::Datagram(datagram) => &datagram.topic,
        };
        topic.as_deref().is_none_or(|topic| {
            let below = pattern.strip_prefix(topic);
            matches(pattern, topic) || below.is_some_and(|below| below.starts_with('/'))
        })
    })
}

/// Says so when a pattern of the configuration matches no topic.
#[inline(never)]
fn fits(case: &Case, report: &mut Report, topics: &[&str], key: &str, pattern: &str) {
    if topics.iter().any(|topic| matches(pattern, topic)) || is_fed(case.config, pattern) {
        return;
    }
    let effect = match meant(topics, pattern) {
        Some(meant) => format!("Did you mean \"{meant}\"? These topics are there:"),
        None => "It may be for a topic that is published later. These are there:".to_owned(),
    };
    report.add(
        Level::Note,
        format_args!("{key}: no reading matches \"{pattern}\""),
        format_args!("{effect}"),
        format_args!("encke sensors"),
    );
}

/// The pattern that somebody may have meant: its words before the first `+` or `#`, replaced by
/// the nearest that topics begin with.
fn meant(topics: &[&str], pattern: &str) -> Option<String> {
    let words = pattern
        .split('/')
        .take_while(|word| !matches!(*word, "+" | "#"));
    let count = words.clone().count();
    let written: usize = words.map(|word| word.len() + 1).sum();
    let (word, rest) = pattern.split_at(written.saturating_sub(1));
    let beginning = |topic: &str| {
        let ends = topic.match_indices('/').map(|(at, _)| at);
        ends.chain([topic.len()]).nth(count.checked_sub(1)?)
    };
    let known: Vec<&str> = topics
        .iter()
        .filter_map(|topic| Some(&topic[..beginning(topic)?]))
        .collect();
    nearest(word, &known)
        .filter(|near| *near != word)
        .map(|near| [near, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::super::fake::look;
    use super::*;
    use crate::config::Layer;

    fn said(text: &str) -> Vec<String> {
        look("sensors", &[], |config, facts| {
            facts.rules_of_board = 0;
            let layer = Layer {
                file: "",
                text,
                is_profile: false,
            };
            *config = Config::new(&[layer]).unwrap();
        })
    }

    #[test]
    fn patterns_that_match_nothing() {
        let slip = |key: &str, pattern: &str| {
            format!("note {key}: no reading matches \"{pattern}\"|encke sensors")
        };
        let (include, exclude, rule) =
            ("[sources] include", "[sources] exclude", "[[topic]] match");
        for (text, want) in [
            ("", "ok 2 readings".to_owned()),
            (
                "[sources]\nexclude = [\"#\"]",
                "ok none are wanted: exclude has \"#\"".to_owned(),
            ),
            (
                "[sources]\ninclude = [\"cpu/+\", \"memory/#\"]",
                "ok 2 readings".to_owned(),
            ),
            ("[sources]\ninclude = [\"cpv/+\"]", slip(include, "cpv/+")),
            (
                "[sources]\nexclude = [\"memori/#\"]",
                slip(exclude, "memori/#"),
            ),
            (
                "[[topic]]\nmatch = \"cpu/temprature\"",
                slip(rule, "cpu/temprature"),
            ),
            (
                "[[topic]]\nmatch = \"a\"\nrename = \"cpu/temperature\"",
                "ok 2 readings".to_owned(),
            ),
            ("[[topic]]\nmatch = \"a\"\nrename = \"b\"", slip(rule, "a")),
            (
                "[[topic]]\nmatch = \"car/#\"\n[[source]]\nkind = \"stdin\"\ntopic = \"car\"",
                "ok 2 readings".to_owned(),
            ),
            (
                "[[topic]]\nmatch = \"car/a\"\n[[source]]\nkind = \"stdin\"\ntopic = \"car\"",
                "ok 2 readings".to_owned(),
            ),
            (
                "[[topic]]\nmatch = \"cart\"\n[[source]]\nkind = \"stdin\"\ntopic = \"car\"",
                slip(rule, "cart"),
            ),
            (
                "[[topic]]\nmatch = \"cart\"\n[[source]]\nkind = \"stdin\"",
                "ok 2 readings".to_owned(),
            ),
        ] {
            assert_eq!(said(text), [want], "{text}");
        }
        let none = look("sensors", &[], |_, facts| facts.topics.clear());
        assert_eq!(
            none,
            ["problem nothing is found that could be read|encke sensors"]
        );
    }

    #[test]
    fn what_was_meant() {
        let topics = ["cpu/temperature", "cpu/usage", "net/wlan0/rx"];
        for (pattern, want) in [
            ("cpu/temprature", Some("cpu/temperature")),
            ("cpv/+", Some("cpu/+")),
            ("cpv/#", Some("cpu/#")),
            ("net/wlan1/+", Some("net/wlan0/+")),
            ("nett/wlan0/rx", Some("net/wlan0/rx")),
            ("garden/gate", None),
            ("+/humidity", None),
            ("cpu/+/+", None),
            ("cpu/temperature/x/y", None),
        ] {
            assert_eq!(meant(&topics, pattern).as_deref(), want, "{pattern}");
        }
    }
}
