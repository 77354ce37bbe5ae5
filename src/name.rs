//! The grammar of topic names and patterns (DESIGN.md 3, MQTT 5.0 section 4.7 for `+` and `#`).
//!
//! Pure text: it never knows which topics exist. A name is `segment/segment/...`, one to eight
//! segments of `[A-Za-z0-9_-]{1,32}`, at most 96 bytes; a leading `/` is accepted and dropped.

use crate::limits::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, TOPIC_BYTES_MAX};

/// Below this, each topic has its presence topic.
const PRESENCE: &str = "encke/presence/";

/// What a good name looks like, for error texts.
pub const NAME_RULE: &str =
    "a topic is 1 to 8 segments of A-Z a-z 0-9 _ - (1 to 32 each) joined by /, at most 96 bytes";
/// What a good pattern looks like, for error texts.
pub const PATTERN_RULE: &str =
    "a pattern is a topic in which a segment may be + (any one) and the last may be # (all below)";

fn is_segment(segment: &str) -> bool {
    (1..=SEGMENT_BYTES_MAX).contains(&segment.len())
        && segment
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn segments(text: &str, is_good: impl Fn(&str, bool) -> bool) -> bool {
    let count = text.split('/').count();
    text.len() <= TOPIC_BYTES_MAX
        && count <= SEGMENTS_MAX
        && text
            .split('/')
            .enumerate()
            .all(|(i, segment)| is_good(segment, i + 1 == count))
}

/// The topic name in `text` without its leading `/`, or `None` when it is not one.
pub fn topic(text: &str) -> Option<&str> {
    let name = text.strip_prefix('/').unwrap_or(text);
    segments(name, |segment, _| is_segment(segment)).then_some(name)
}

/// The pattern in `text` without its leading `/`, or `None` when it is not one.
pub fn pattern(text: &str) -> Option<&str> {
    let name = text.strip_prefix('/').unwrap_or(text);
    segments(name, |segment, last| {
        is_segment(segment) || segment == "+" || (segment == "#" && last)
    })
    .then_some(name)
}

/// Whether a topic is one of the server's own: `encke` and what is below it.
pub fn is_reserved(topic: &str) -> bool {
    topic.split('/').next() == Some("encke")
}

/// The topic that has the number of subscribers of `topic`, unless its name would be too long or
/// too deep.
pub fn presence_of(topic: &str) -> Option<heapless::String<TOPIC_BYTES_MAX>> {
    let mut name = heapless::String::new();
    name.push_str(PRESENCE).ok()?;
    name.push_str(topic).ok()?;
    self::topic(&name).is_some().then_some(name)
}

/// The topic whose subscribers this one counts, if it is a presence topic.
pub fn presence_base(topic: &str) -> Option<&str> {
    topic.strip_prefix(PRESENCE)
}

/// Whether the valid `pattern` matches the valid topic `name`; `g/#` also matches `g`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut segments = name.split('/');
    for wanted in pattern.split('/') {
        match (wanted, segments.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (text, Some(segment)) if text == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// Writes `text` as a segment: lower case, `+` as `p`, anything else that does not fit as one `-`
/// (`+12V` becomes `p12v`). Empty when nothing is left.
pub fn slug(text: &str) -> heapless::String<SEGMENT_BYTES_MAX> {
    let mut out = heapless::String::new();
    for c in text.chars() {
        let c = match c {
            '+' => 'p',
            c if c.is_ascii_alphanumeric() || c == '_' => c.to_ascii_lowercase(),
            _ if out.is_empty() || out.ends_with('-') => continue,
            _ => '-',
        };
        if out.push(c).is_err() {
            break;
        }
    }
    while out.ends_with('-') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_and_above_each_limit() {
        assert_eq!(topic("/cpu/temperature"), Some("cpu/temperature"));
        assert_eq!(topic("a/b/c/d/e/f/g/h"), Some("a/b/c/d/e/f/g/h"));
        assert_eq!(topic("a/b/c/d/e/f/g/h/i"), None);
        assert!(topic(&"s".repeat(32)).is_some());
        assert!(topic(&"s".repeat(33)).is_none());
        let long = format!("{0}/{0}/{1}", "s".repeat(32), "s".repeat(30));
        assert_eq!(long.len(), 96);
        assert!(topic(&long).is_some());
        assert!(topic(&(long + "s")).is_none());
        for bad in [
            "", "/", "//a", "a//b", "a/", "a b", "a/+", "a/#", "ä", "a.b",
        ] {
            assert_eq!(topic(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn patterns_as_mqtt_has_them() {
        for good in ["#", "+", "a/+/b", "/a/#", "+/#"] {
            assert!(pattern(good).is_some(), "{good}");
        }
        for bad in ["a/#/b", "a+", "a#", "", "a/b#"] {
            assert!(pattern(bad).is_none(), "{bad}");
        }
        for (p, t, want) in [
            ("#", "a", true),
            ("#", "a/b", true),
            ("g/#", "g", true),
            ("g/#", "g/a/b", true),
            ("g/#", "ga", false),
            ("g/+/#", "g", false),
            ("g/+/#", "g/a", true),
            ("+", "a", true),
            ("+", "a/b", false),
            ("a/+", "a", false),
            ("a/+/c", "a/b/c", true),
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
        ] {
            assert_eq!(matches(p, t), want, "{p} {t}");
        }
    }

    #[test]
    fn presence_topics_at_and_above_each_limit() {
        let name = |topic: &str| presence_of(topic).map(|name| name.as_str().to_owned());
        assert_eq!(name("a/b").unwrap(), "encke/presence/a/b");
        assert_eq!(presence_base("encke/presence/a/b"), Some("a/b"));
        assert_eq!(presence_base("encke/presence"), None);
        assert_eq!(presence_base("encke/presences/a"), None);
        assert!(name("1/2/3/4/5/6").is_some());
        assert!(name("1/2/3/4/5/6/7").is_none());
        let long = format!("{0}/{0}/{1}", "s".repeat(32), "s".repeat(15));
        assert_eq!(long.len() + PRESENCE.len(), TOPIC_BYTES_MAX);
        assert!(name(&long).is_some());
        assert!(name(&(long + "s")).is_none());
    }

    #[test]
    fn slugs() {
        assert_eq!(slug("+12V"), "p12v");
        assert_eq!(slug("Core 0 (left)"), "core-0-left");
        assert_eq!(slug("°"), "");
    }
}
