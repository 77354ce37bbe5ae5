//! What an entry of `[[source]]` says about its readings, and why something that came is none.
//!
//! Pure. Names that a sender gives stand below the entry's `topic`, where it has one: it never
//! writes elsewhere. Follows DESIGN.md 3 "Topics".

use super::batch::Channel;
use crate::limits::{ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX, SEGMENTS_MAX, TOPIC_BYTES_MAX};
use crate::name;
use std::fmt;

/// Bytes of a value's canonical JSON text, so that its event fits.
pub(super) const VALUE_BYTES_MAX: usize = EVENT_BYTES_MAX - ENVELOPE_BYTES_MAX;
/// Characters of a sender's own text in a complaint.
const EXCERPT_CHARACTERS_MAX: usize = 40;

/// What an entry says about its readings.
#[derive(Clone, Debug)]
pub(super) struct Heading {
    /// What a reading without a name is called.
    own: Option<Channel>,
    label: String,
    unit: String,
}

impl Heading {
    /// `topic` is valid, `label` and `unit` are at most `LABEL_BYTES_MAX`. With a topic the label
    /// is that topic's; without, it is the label of all.
    pub(super) fn new(topic: Option<&str>, label: Option<&str>, unit: Option<&str>) -> Heading {
        let [label, unit] = [label, unit].map(|text| text.unwrap_or_default().to_owned());
        Heading {
            own: topic.map(|topic| Channel::named(topic.to_owned(), label.clone(), unit.clone())),
            label: topic.map_or(label, |_| String::new()),
            unit,
        }
    }

    /// Whether readings without a name have one here.
    pub(super) fn has_topic(&self) -> bool {
        self.own.is_some()
    }

    /// All that there may be: the topic, and any name below it or, without one, any name.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let mut channels: Vec<_> = self.own.iter().cloned().collect();
        let mut pattern = match &self.own {
            Some(own) => own.topic.to_string() + "/+",
            None => "+".to_owned(),
        };
        while pattern.split('/').count() <= SEGMENTS_MAX && pattern.len() <= TOPIC_BYTES_MAX {
            let channel = Channel::named(pattern.clone(), self.label.clone(), self.unit.clone());
            channels.push(channel);
            pattern.push_str("/+");
        }
        channels
    }

    /// The channel of a reading without a name, which `text` is for complaints.
    pub(super) fn own(&self, text: &str) -> Result<&Channel, Unfit> {
        let bare = || Unfit::Bare(excerpt(text));
        self.own.as_ref().ok_or_else(bare)
    }

    /// The channel that a sender calls `text`.
    pub(super) fn named(&self, text: &str) -> Result<Channel, Unfit> {
        let wrong = || Unfit::Name(excerpt(text));
        let mut topic = name::topic(text).ok_or_else(wrong)?.to_owned();
        if let Some(own) = &self.own {
            topic = format!("{}/{topic}", own.topic);
            name::topic(&topic).ok_or_else(|| Unfit::Name(topic.clone()))?;
        }
        Ok(Channel::named(topic, self.label.clone(), self.unit.clone()))
    }
}

/// Why something that came is no reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// A line or a frame of more bytes than this.
    Long(usize),
    /// A datagram of more bytes than this.
    LongDatagram(usize),
    /// A value whose JSON text has so many bytes.
    LongValue(usize),
    /// A list of so many readings, where one line may have so many.
    Many(usize, usize),
    /// Topics of one source above this are not taken.
    Topics(usize),
    NotUtf8,
    /// JSON nested too deeply.
    Deep,
    /// It begins as JSON does, but at this byte there should be that.
    Json(usize, &'static str),
    /// A value without a name, where there is no topic for it.
    Bare(String),
    /// A name that is no topic.
    Name(String),
    /// This element of a list lacks its topic or its value.
    Element(usize),
    /// A frame whose bytes are not COBS.
    Cobs,
    /// A frame whose check sum is another one.
    Crc,
    /// A whole frame with something else in it.
    Record,
}

/// The begin of a sender's text, as it may stand in a complaint.
pub(super) fn excerpt(text: &str) -> String {
    let mut excerpt = String::new();
    for (at, c) in text.chars().enumerate() {
        match c {
            _ if at == EXCERPT_CHARACTERS_MAX => {
                excerpt.push('\u{2026}');
                break;
            }
            c if c.is_control() => excerpt.push(' '),
            c => excerpt.push(c),
        }
    }
    excerpt
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Long(max) => write!(f, "more than {max} bytes without an end; left out"),
            Unfit::LongDatagram(max) => {
                write!(f, "a datagram of more than {max} bytes; send several")
            }
            Unfit::LongValue(bytes) => {
                write!(
                    f,
                    "a value of {bytes} bytes as JSON; at most {VALUE_BYTES_MAX} fit"
                )
            }
            Unfit::Many(count, max) => {
                write!(
                    f,
                    "{count} readings at once; at most {max}, write several lines"
                )
            }
            Unfit::Topics(max) => {
                write!(
                    f,
                    "more than {max} topics from one source; the others are left out"
                )
            }
            Unfit::NotUtf8 => f.write_str(
                "a line that is not UTF-8; print text, or set format = \"postcard\" for frames",
            ),
            Unfit::Deep => f.write_str("JSON that is nested more than 64 levels deep"),
            Unfit::Json(at, wanted) => write!(f, "no JSON: at byte {at} there should be {wanted}"),
            Unfit::Bare(text) => write!(
                f,
                "\"{text}\" has no name: set topic = \"NAME\" for it, or write NAME VALUE or \
                 {{\"topic\":NAME,\"value\":VALUE}}"
            ),
            Unfit::Name(text) => write!(f, "\"{text}\" is no topic: {}", name::NAME_RULE),
            Unfit::Element(at) => write!(
                f,
                "reading {at} of a list is not {{\"topic\":NAME,\"value\":VALUE}}; none was taken"
            ),
            Unfit::Cobs => f.write_str("a frame that is not COBS; left out"),
            Unfit::Crc => f.write_str("a frame with a wrong CRC-32; left out"),
            Unfit::Record => f.write_str("a frame without a reading in it; left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_below_the_topic() {
        let heading = Heading::new(Some("room/a"), Some("Room"), Some("V"));
        let own = heading.own("1").unwrap();
        assert_eq!(
            (&*own.topic, &*own.label, &*own.unit),
            ("room/a", "Room", "V")
        );
        let below = heading.named("/b/c").unwrap();
        assert_eq!(
            (&*below.topic, &*below.label, &*below.unit),
            ("room/a/b/c", "", "V")
        );
        assert!(heading.named("b/c/d/e/f/g").is_ok());
        assert!(matches!(
            heading.named("b/c/d/e/f/g/h"),
            Err(Unfit::Name(_))
        ));
        assert_eq!(
            heading.named("a b").unwrap_err(),
            Unfit::Name("a b".to_owned())
        );

        let heading = Heading::new(None, Some("All"), None);
        let named = heading.named("b").unwrap();
        assert_eq!((&*named.topic, &*named.label), ("b", "All"));
        let long = "\u{e9}".repeat(41);
        let short = "\u{e9}".repeat(40) + "\u{2026}";
        assert_eq!(heading.own(&long).unwrap_err(), Unfit::Bare(short));
        assert_eq!(
            heading.own("a\n\u{1b}").unwrap_err(),
            Unfit::Bare("a  ".to_owned())
        );
    }

    #[test]
    fn channels_are_all_that_there_may_be() {
        let topics = |topic| {
            let heading = Heading::new(topic, None, None);
            let channels = heading.channels().into_iter();
            channels
                .map(|channel| channel.topic.into_owned())
                .collect::<Vec<_>>()
        };
        let any = topics(None);
        assert_eq!((any.len(), any[1].as_str()), (8, "+/+"));
        assert_eq!(any[7], "+/+/+/+/+/+/+/+");
        assert_eq!(
            topics(Some("a/b/c/d/e/f")),
            ["a/b/c/d/e/f", "a/b/c/d/e/f/+", "a/b/c/d/e/f/+/+"]
        );
        assert_eq!(topics(Some("a/b/c/d/e/f/g/h")), ["a/b/c/d/e/f/g/h"]);
        for channel in any.iter().chain(&topics(Some("a/b"))) {
            assert!(name::pattern(channel).is_some(), "{channel}");
        }
    }
}
