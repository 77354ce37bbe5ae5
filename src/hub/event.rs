//! One event: its sequence number, its topic, and its final JSON text with the spans of its parts.
//!
//! The text is the envelope of DESIGN.md 3, `{"id":..,"topic":..,"time":..,"value":..}` with
//! `state` last when it is not ok. It is written once, here, and never changed. The value must
//! already be canonical JSON text; this file never parses one.

use crate::buffer::{Full, Writer};

/// Counts the events of one log over all topics; the first is 1. 0 is before the first.
pub type Seq = u64;

/// How far a value can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// Fresh.
    #[default]
    Ok,
    /// Not refreshed for a while; the value is the last one known.
    Stale,
    /// Could not be read.
    Error,
    /// The topic was forgotten or its sensor vanished.
    Gone,
}

impl State {
    /// The word in an event's `state` key.
    pub const fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Stale => "stale",
            State::Error => "error",
            State::Gone => "gone",
        }
    }
}

/// When an event happened, on the best clock there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Milliseconds since 1970: the key is `time`.
    Wall(u64),
    /// Milliseconds since boot, while the wall clock is not known: the key is `uptime`.
    Uptime(u64),
}

impl Time {
    fn key_and_ms(self) -> (&'static [u8], u64) {
        match self {
            Time::Wall(ms) => (b"time", ms),
            Time::Uptime(ms) => (b"uptime", ms),
        }
    }
}

/// Where the parts of an event's text are. Offsets count from the text's first byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spans {
    pub(crate) bytes: u16,
    pub(crate) value_at: u16,
    pub(crate) value_bytes: u16,
    pub(crate) id_bytes: u8,
    pub(crate) topic_bytes: u8,
    pub(crate) state: State,
}

/// An event as it stands in the log, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its sequence number.
    pub seq: Seq,
    /// Its topic's slot.
    pub topic: u16,
    /// Its final JSON text: printable ASCII that may stand in any transport.
    pub text: &'a [u8],
    pub(crate) spans: Spans,
}

const ID_AT: usize = br#"{"id":""#.len();
const BEFORE_TOPIC: &[u8; 11] = br#"","topic":""#;

impl<'a> Event<'a> {
    /// `LOG-SEQ`.
    pub fn id(&self) -> &'a [u8] {
        &self.text[ID_AT..][..usize::from(self.spans.id_bytes)]
    }

    /// The topic's name.
    pub fn topic_name(&self) -> &'a [u8] {
        let at = ID_AT + usize::from(self.spans.id_bytes) + BEFORE_TOPIC.len();
        &self.text[at..][..usize::from(self.spans.topic_bytes)]
    }

    /// Which clock its time is of, `time` or `uptime`, and the milliseconds on it.
    pub fn time(&self) -> (&'a [u8], &'a [u8]) {
        let topic_at = ID_AT + usize::from(self.spans.id_bytes) + BEFORE_TOPIC.len();
        let from = topic_at + usize::from(self.spans.topic_bytes) + br#"",""#.len();
        let to = usize::from(self.spans.value_at) - br#","value":"#.len();
        let text = &self.text[from..to];
        let end = text.iter().position(|byte| *byte == b'"').unwrap_or(0);
        (&text[..end], &text[(end + 2).min(text.len())..])
    }

    /// The value's JSON text.
    pub fn value(&self) -> &'a [u8] {
        &self.text[usize::from(self.spans.value_at)..][..usize::from(self.spans.value_bytes)]
    }

    /// How far the value can be trusted.
    pub fn state(&self) -> State {
        self.spans.state
    }
}

/// What an event is made of, before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) log: &'a str,
    pub(crate) seq: Seq,
    pub(crate) topic: &'a str,
    pub(crate) time: Time,
    pub(crate) value: &'a [u8],
    pub(crate) state: State,
}

fn digits(value: u64) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

impl Draft<'_> {
    /// The bytes its text will have.
    pub(crate) fn len(&self) -> usize {
        let (key, ms) = self.time.key_and_ms();
        let state = match self.state {
            State::Ok => 0,
            state => br#","state":"""#.len() + state.word().len(),
        };
        ID_AT
            + self.log.len()
            + 1
            + digits(self.seq)
            + BEFORE_TOPIC.len()
            + self.topic.len()
            + br#","":"#.len()
            + key.len()
            + digits(ms)
            + br#","value":}"#.len()
            + self.value.len()
            + state
            + 1
    }

    /// Writes its text and says where the parts are.
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<Spans, Full> {
        let (key, ms) = self.time.key_and_ms();
        let start = out.len();
        out.put(br#"{"id":""#)?;
        out.put(self.log.as_bytes())?;
        out.put(b"-")?;
        out.put_u64(self.seq)?;
        let id_bytes = out.len() - start - ID_AT;
        out.put(BEFORE_TOPIC)?;
        out.put(self.topic.as_bytes())?;
        out.put(b"\",\"")?;
        out.put(key)?;
        out.put(b"\":")?;
        out.put_u64(ms)?;
        out.put(br#","value":"#)?;
        let value_at = out.len() - start;
        out.put(self.value)?;
        if self.state != State::Ok {
            out.put_all(&[br#","state":""#, self.state.word().as_bytes(), b"\""])?;
        }
        out.put(b"}")?;
        Ok(Spans {
            bytes: (out.len() - start) as u16,
            value_at: value_at as u16,
            value_bytes: self.value.len() as u16,
            id_bytes: id_bytes as u8,
            topic_bytes: self.topic.len() as u8,
            state: self.state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_and_its_spans() {
        let draft = Draft {
            log: "k3f9q2xa",
            seq: 1042,
            topic: "cpu/temperature",
            time: Time::Wall(1_763_791_234_567),
            value: b"47.2",
            state: State::Ok,
        };
        let mut bytes = [0; 256];
        for (draft, want) in [
            (
                draft,
                r#"{"id":"k3f9q2xa-1042","topic":"cpu/temperature","time":1763791234567,"value":47.2}"#,
            ),
            (
                Draft {
                    time: Time::Uptime(0),
                    state: State::Stale,
                    ..draft
                },
                r#"{"id":"k3f9q2xa-1042","topic":"cpu/temperature","uptime":0,"value":47.2,"state":"stale"}"#,
            ),
        ] {
            let mut out = Writer::new(&mut bytes);
            let spans = draft.encode(&mut out).unwrap();
            assert_eq!(core::str::from_utf8(out.written()).unwrap(), want);
            assert_eq!(draft.len(), want.len());
            let event = Event {
                seq: 1042,
                topic: 0,
                text: out.written(),
                spans,
            };
            assert_eq!(event.id(), b"k3f9q2xa-1042");
            assert_eq!(event.topic_name(), b"cpu/temperature");
            assert_eq!(event.value(), b"47.2");
            let (clock, ms) = event.time();
            let written = draft.time.key_and_ms();
            assert_eq!((clock, ms), (written.0, written.1.to_string().as_bytes()));
        }
    }
}
