//! Topic names and patterns: what is one, what matches what, and what a slug is, by the words of
//! the contract.

use encke::hub::audience::Patterns;
use encke::name;

pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines: Vec<&str> = text.split('\n').take(16).collect();
    let mut topics = Vec::new();
    let mut patterns = Vec::new();
    for line in &lines {
        slug(line);
        assert_eq!(name::topic(line), valid(line, false), "the topic {line:?}");
        assert_eq!(
            name::pattern(line),
            valid(line, true),
            "the pattern {line:?}"
        );
        topics.extend(name::topic(line));
        patterns.extend(name::pattern(line));
    }
    for topic in &topics {
        let mut wanted = patterns.is_empty();
        for pattern in &patterns {
            let (wants, has) = (segments(pattern), segments(topic));
            assert_eq!(
                name::matches(pattern, topic),
                matches(&wants, &has),
                "{pattern} {topic}"
            );
            wanted |= matches(&wants, &has);
        }
        let mut all = Patterns::default();
        if patterns.iter().all(|pattern| all.add(pattern).is_ok()) {
            assert_eq!(all.wants(topic), wanted, "{patterns:?} {topic}");
            assert!(!all.want_everything() || wanted);
        }
    }
}

fn segments(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

fn is_segment(text: &str) -> bool {
    let of_segment = |c: char| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-');
    (1..=32).contains(&text.len()) && text.chars().all(of_segment)
}

/// A name, or a pattern, without the `/` it may begin with.
fn valid(text: &str, is_pattern: bool) -> Option<&str> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut segments = segments(text);
    let is_short = segments.len() <= 8 && text.len() <= 96;
    if is_pattern && segments.last() == Some(&"#") {
        segments.pop();
    }
    let is_good = |segment: &&str| is_segment(segment) || is_pattern && *segment == "+";
    (is_short && segments.iter().all(is_good)).then_some(text)
}

fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        (["#"], _) | ([], []) => true,
        ([wanted, pattern @ ..], [segment, topic @ ..]) => {
            (*wanted == "+" || wanted == segment) && matches(pattern, topic)
        }
        _ => false,
    }
}

/// A slug is a segment or nothing; what is a segment in lower case already stays as it is.
fn slug(text: &str) {
    let slug = name::slug(text);
    assert!(slug.is_empty() || is_segment(&slug), "{text:?}: {slug:?}");
    assert_eq!(name::slug(&slug), slug, "the slug of a slug");
    let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
    if is_segment(text) && text.chars().all(is_plain) {
        assert_eq!(slug, text);
    }
}
