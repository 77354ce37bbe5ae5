//! The desk that every reading passes: whether it is wanted, and how `[[topic]]` rules change it.
//!
//! A rule matches a topic by the name its source gave or by the name it was renamed to; of two
//! rules that set one thing the later one wins. In order: scale and offset, the expected range,
//! the median, rounding; the dead band then decides whether the change is worth an event. It never
//! publishes by itself.

use super::batch::{Channel, Entry, write_number};
use super::{About, Sink};
use crate::config::{Config, TopicRule};
use crate::hub::event::State;
use crate::hub::topic::Limits;
use crate::name;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

/// Decimals that a rule may leave.
const DECIMALS_MAX: usize = 9;

/// Which topics are read (`[sources] include`, `exclude`), how they look, and where they go.
pub(super) struct Desk {
    include: Vec<String>,
    exclude: Vec<String>,
    rules: Vec<TopicRule>,
    pub(super) sink: Rc<dyn Sink>,
}

impl Desk {
    /// Whether this is the desk of `config`.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        let sources = &config.sources;
        (&self.include, &self.exclude, &self.rules)
            == (&sources.include, &sources.exclude, &config.topic)
    }

    pub(super) fn new(config: &Config, sink: Rc<dyn Sink>) -> Desk {
        Desk {
            include: config.sources.include.clone(),
            exclude: config.sources.exclude.clone(),
            rules: config.topic.clone(),
            sink,
        }
    }

    /// Whether the topic that its source calls `topic` is wanted, by this or by its new name.
    pub(super) fn allows(&self, topic: &str) -> bool {
        let names = [topic, self.renamed(topic)];
        let matches = |pattern: &String| names.iter().any(|name| name::matches(pattern, name));
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }

    /// Whether a topic of `channels` could be wanted; if not, their source is never read.
    pub(super) fn may_allow(&self, channels: &[Channel]) -> bool {
        channels.iter().any(|channel| {
            let topic = &channel.topic;
            let wants = |pattern: &String| {
                overlaps(pattern, topic) || self.renames(topic).any(|new| overlaps(pattern, new))
            };
            (self.include.is_empty() || self.include.iter().any(wants))
                // Taken as a name, `+` is matched by `+` and `#` only: by what excludes all of it.
                && !self.exclude.iter().any(|pattern| name::matches(pattern, topic))
        })
    }

    /// New names of topics that `channel` stands for.
    fn renames(&self, channel: &str) -> impl Iterator<Item = &str> {
        let meant = move |rule: &&TopicRule| name::matches(channel, &rule.match_);
        let rules = self.rules.iter().filter(meant);
        rules.filter_map(|rule| rule.rename.as_deref())
    }

    fn renamed<'a>(&'a self, topic: &'a str) -> &'a str {
        let mut rules = self.rules.iter().rev().filter(|rule| rule.match_ == topic);
        rules
            .find_map(|rule| rule.rename.as_deref())
            .unwrap_or(topic)
    }

    /// How the reading is to look from now on.
    pub(super) fn shape(&self, entry: &Entry) -> Shape {
        let topic = self.renamed(&entry.topic).to_owned();
        let mut shape = Shape {
            about: About {
                label: entry.label.clone(),
                unit: entry.unit.clone(),
                limits: entry.limits,
            },
            scale: 1.0,
            offset: 0.0,
            round: None,
            dead_band: 0.0,
            range: (f64::NEG_INFINITY, f64::INFINITY),
            median: 1,
            window: VecDeque::new(),
            topic,
        };
        for rule in &self.rules {
            if [&entry.topic, &shape.topic]
                .iter()
                .any(|name| name::matches(&rule.match_, name))
            {
                shape.lay(rule);
            }
        }
        shape.about.limits = scaled(shape.about.limits, shape.scale, shape.offset);
        shape
    }

    /// Says what the topic is called and measured in.
    pub(super) fn describe(&self, shape: &Shape) {
        self.sink.describe(&shape.topic, &shape.about);
    }
}

/// Whether some topic matches both `pattern` and `channel`, in which only `+` is special.
fn overlaps(pattern: &str, channel: &str) -> bool {
    let mut segments = channel.split('/');
    for wanted in pattern.split('/') {
        match (wanted, segments.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            (a, Some(b)) if a != b && a != "+" && b != "+" => return false,
            _ => {}
        }
    }
    segments.next().is_none()
}

fn scaled(limits: Limits, scale: f64, offset: f64) -> Limits {
    if scale == 1.0 && offset == 0.0 {
        return limits;
    }
    let map = |limit: Option<f32>| limit.map(|limit| (f64::from(limit) * scale + offset) as f32);
    let [lcrit, min, max, crit] = [limits.lcrit, limits.min, limits.max, limits.crit].map(map);
    let limits = Limits {
        lcrit,
        min,
        max,
        crit,
    };
    if scale < 0.0 {
        let (lcrit, min, max, crit) = (crit, max, min, lcrit);
        return Limits {
            lcrit,
            min,
            max,
            crit,
        };
    }
    limits
}

/// How one topic's readings are changed, and what that has to remember.
#[derive(Debug)]
pub(super) struct Shape {
    /// The name it is published by.
    pub(super) topic: String,
    pub(super) about: About,
    scale: f64,
    offset: f64,
    round: Option<usize>,
    dead_band: f64,
    range: (f64, f64),
    /// Readings that the median is taken of; 1 for none.
    median: usize,
    window: VecDeque<f64>,
}

/// What a reading became.
#[derive(Debug, Default)]
pub(super) struct Shaped {
    /// Canonical JSON text.
    pub(super) value: String,
    pub(super) state: State,
    number: Option<f64>,
}

impl Shaped {
    /// It is in `state` now, for its source says nothing more of it.
    pub(super) fn lapse(&mut self, state: State) {
        if state == State::Error {
            "null".clone_into(&mut self.value);
        }
        self.state = state;
    }

    /// Whether this differs from `other` by enough to be published.
    pub(super) fn is_news_after(&self, other: &Shaped, shape: &Shape) -> bool {
        if self.state != other.state {
            return true;
        }
        match (self.number, other.number) {
            (Some(a), Some(b)) if shape.dead_band > 0.0 => (a - b).abs() >= shape.dead_band,
            _ => self.value != other.value,
        }
    }
}

impl Shape {
    fn lay(&mut self, rule: &TopicRule) {
        let text = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        text(&mut self.about.label, &rule.label);
        text(&mut self.about.unit, &rule.unit);
        self.scale = rule.scale.unwrap_or(self.scale);
        self.offset = rule.offset.unwrap_or(self.offset);
        self.round = rule.round.map(|digits| digits as usize).or(self.round);
        self.dead_band = rule.dead_band.unwrap_or(self.dead_band);
        self.range.0 = rule.min.unwrap_or(self.range.0);
        self.range.1 = rule.max.unwrap_or(self.range.1);
        self.median = rule.median.map_or(self.median, |count| count as usize);
    }

    pub(super) fn has_dead_band(&self) -> bool {
        self.dead_band > 0.0
    }

    fn is_plain(&self) -> bool {
        let is_unscaled = self.scale == 1.0 && self.offset == 0.0 && self.round.is_none();
        is_unscaled && self.median == 1 && self.range == (f64::NEG_INFINITY, f64::INFINITY)
    }

    /// Makes of `entry` what is to be published, into `out`.
    pub(super) fn apply(&mut self, entry: &Entry, out: &mut Shaped) {
        entry.value.clone_into(&mut out.value);
        out.state = entry.state;
        out.number = entry.number.filter(|_| entry.state == State::Ok);
        let Some(raw) = out.number.filter(|_| !self.is_plain()) else {
            return;
        };
        let mut value = raw * self.scale + self.offset;
        if value < self.range.0 || value > self.range.1 {
            "null".clone_into(&mut out.value);
            (out.state, out.number) = (State::Error, None);
            return;
        }
        if self.median > 1 {
            value = self.median_with(value);
        }
        let decimals = self.round.unwrap_or_else(|| self.decimals(entry.decimals));
        out.number = Some(value);
        if write_number(&mut out.value, value, decimals).is_err() {
            (out.state, out.number) = (State::Error, None);
        }
    }

    /// Decimals worth showing after scaling: a factor of 0.001 moves the point by three.
    fn decimals(&self, decimals: usize) -> usize {
        let mut factor = self.scale.abs();
        let mut more = 0;
        while factor < 0.999 && more < DECIMALS_MAX {
            factor *= 10.0;
            more += 1;
        }
        (decimals + more).min(DECIMALS_MAX)
    }

    fn median_with(&mut self, value: f64) -> f64 {
        if self.window.len() == self.median {
            self.window.pop_front();
        }
        self.window.push_back(value);
        // Of 15 values at most: counting takes 4 KB less of the binary than sorting.
        let middle = self.window.len() / 2;
        let is_median = |value: &&f64| {
            let count = |ordering| {
                let others = self.window.iter();
                others
                    .filter(|other| other.total_cmp(value) == ordering)
                    .count()
            };
            let below = count(Ordering::Less);
            (below..below + count(Ordering::Equal)).contains(&middle)
        };
        *self.window.iter().find(is_median).unwrap_or(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Batch;
    use super::super::fake::{Log, desk};
    use super::*;

    #[test]
    fn filters() {
        for (include, exclude, topic, want) in [
            (&[][..], &[][..], "a/b", true),
            (&["a/#"], &[], "a/b", true),
            (&["c", "a/+"], &[], "a/b", true),
            (&["c"], &[], "a/b", false),
            (&[], &["#"], "a/b", false),
            (&["a/#"], &["a/b"], "a/b", false),
            (&["a/#"], &["a/c"], "a/b", true),
        ] {
            let desk = desk(include, exclude, Rc::new(Log::default()));
            assert_eq!(desk.allows(topic), want, "{include:?} {exclude:?} {topic}");
        }
    }

    #[test]
    fn a_source_is_wanted_unless_all_of_it_is_excluded() {
        let channels = [
            Channel::fixed("net/+/rx", "", "B/s"),
            Channel::fixed("net/+/tx", "", "B/s"),
        ];
        for (include, exclude, want) in [
            (&[][..], &[][..], true),
            (&[], &["#"], false),
            (&[], &["net/#"], false),
            (&[], &["+/+/+"], false),
            (&[], &["net/+/rx"], true),
            (&[], &["net/+/rx", "net/+/tx"], false),
            (&[], &["net/eth0/#"], true),
            (&["net/eth0/rx"], &[], true),
            (&["net/eth0/rx"], &["net/+/rx"], false),
            (&["net/#"], &[], true),
            (&["+/eth0/#"], &[], true),
            (&["net"], &[], false),
            (&["net/eth0/rx/more"], &[], false),
            (&["cpu/#"], &[], false),
        ] {
            let desk = desk(include, exclude, Rc::new(Log::default()));
            assert_eq!(desk.may_allow(&channels), want, "{include:?} {exclude:?}");
        }
    }

    fn entry(value: &str) -> Batch {
        let mut batch = Batch::default();
        let limits = Limits {
            min: Some(-10.0),
            crit: Some(85.0),
            ..Limits::default()
        };
        let channel = Channel::fixed("a/b", "A b", "m\u{b0}C").with_limits(limits);
        batch.json(&channel, value);
        batch
    }

    fn rules(text: &str) -> Desk {
        let layer = |text| crate::config::Layer {
            file: "",
            text,
            is_profile: false,
        };
        let config = Config::new(&[layer(text)]).unwrap();
        Desk::new(&config, Rc::new(Log::default()))
    }

    /// What each reading becomes, and whether it differs enough from the one before.
    fn shaped(text: &str, values: &[&str]) -> Vec<(String, bool)> {
        let desk = rules(text);
        let mut shape = desk.shape(&entry("0").entries()[0]);
        let mut last = Shaped::default();
        let mut told = Vec::new();
        for value in values {
            let mut next = Shaped::default();
            shape.apply(&entry(value).entries()[0], &mut next);
            let is_news = next.is_news_after(&last, &shape);
            told.push((format!("{} {}", next.value, next.state.word()), is_news));
            if is_news {
                last = next;
            }
        }
        told
    }

    fn texts(rules: &str, values: &[&str]) -> Vec<String> {
        let told = shaped(rules, values);
        told.into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn numbers_are_scaled_judged_smoothed_and_rounded() {
        let all = "[[topic]]\nmatch = \"#\"\n";
        for (rule, values, want) in [
            (
                "",
                &["21.50", "true", "\"x\""][..],
                &["21.50 ok", "true ok", "\"x\" ok"][..],
            ),
            (
                "scale = 0.001",
                &["21500", "21537"],
                &["21.5 ok", "21.537 ok"],
            ),
            (
                "scale = 1.8\noffset = 32",
                &["21.5", "-40"],
                &["70.7 ok", "-40 ok"],
            ),
            ("offset = -0.5", &["21.5", "\"x\""], &["21 ok", "\"x\" ok"]),
            ("round = 0", &["21.4", "21.6"], &["21 ok", "22 ok"]),
            (
                "min = -5\nmax = 84.9",
                &["85", "84.9", "-5.1"],
                &["null error", "84.9 ok", "null error"],
            ),
            (
                "median = 3",
                &["1", "9", "2", "2"],
                &["1 ok", "9 ok", "2 ok", "2 ok"],
            ),
            (
                "median = 3\nmax = 50",
                &["1", "85", "2", "3"],
                &["1 ok", "null error", "2 ok", "2 ok"],
            ),
        ] {
            assert_eq!(texts(&format!("{all}{rule}"), values), want, "{rule}");
        }
    }

    #[test]
    fn a_dead_band_holds_small_changes_back() {
        let rule = "[[topic]]\nmatch = \"a/+\"\ndead_band = 0.5";
        let news = |values: &[&str]| -> Vec<bool> {
            shaped(rule, values)
                .into_iter()
                .map(|(_, is_news)| is_news)
                .collect()
        };
        assert_eq!(
            news(&["1", "1.4", "1.5", "1.1", "0.9", "null", "0.9"]),
            [true, false, true, false, true, true, true]
        );
    }

    #[test]
    fn a_topic_is_known_by_both_its_names() {
        let desk = rules(
            "[sources]\ninclude = [\"room/#\"]\nexclude = [\"a/c\"]\n\
             [[topic]]\nmatch = \"a/b\"\nrename = \"room/t\"\nlabel = \"Old\"\n\
             [[topic]]\nmatch = \"room/t\"\nlabel = \"Room\"\nunit = \"K\"\nscale = -1\n\
             [[topic]]\nmatch = \"a/c\"\nrename = \"room/c\"",
        );
        let shape = desk.shape(&entry("1").entries()[0]);
        assert_eq!(
            (shape.topic.as_str(), shape.about.label.as_str()),
            ("room/t", "Room")
        );
        assert_eq!(shape.about.unit, "K");
        let Limits {
            lcrit,
            min,
            max,
            crit,
        } = shape.about.limits;
        assert_eq!(
            (lcrit, min, max, crit),
            (Some(-85.0), None, Some(10.0), None)
        );
        assert!(desk.allows("a/b") && desk.allows("room/x"));
        assert!(!desk.allows("a/c") && !desk.allows("a/d"));
        assert!(desk.may_allow(&[Channel::fixed("a/b", "", "")]));
        assert!(desk.may_allow(&[Channel::fixed("a/+", "", "")]));
        assert!(!desk.may_allow(&[Channel::fixed("a/d", "", "")]));
    }
}
