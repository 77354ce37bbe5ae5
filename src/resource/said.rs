//! What a client says through a WebSocket: one JSON object a message, read and answered as text.
//!
//! `{"subscribe":["PATTERN",..],"ref":1}`, with `"snapshot":false` where the last events are not
//! wanted; `{"unsubscribe":["PATTERN",..]}`, the very patterns that were subscribed to;
//! `{"publish":{"topic":"NAME","value":VALUE}}`. Answered by `{"ack":{"ref":1,..}}`, or by
//! `{"error":{"ref":1,"status":403,"reason":".."}}` with the status that HTTP would have; `ref` is
//! a number of the client's own, and stands in the answer if it stood in the message. It decides
//! nothing, and never looks at the hub.

use super::Name;
use crate::buffer::{Full, Writer};
use crate::hub::audience::Patterns;
use crate::limits::{PATTERNS_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::name;
use crate::wire::Refusal;
use crate::wire::json::{self, Fault};
use crate::wire::response::write_reason;

/// What a client wants.
#[derive(Clone, Debug)]
pub enum Said<'a> {
    /// These patterns, too.
    Subscribe {
        /// Which.
        patterns: Patterns,
        /// Whether the last events are wanted.
        snapshot: bool,
    },
    /// These patterns no longer.
    Unsubscribe(Patterns),
    /// An event, with its value's JSON text as it came.
    Publish(Name, &'a [u8]),
}

/// A message, and the number that its answer is to have.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// A JSON number, as it came.
    pub reference: Option<&'a [u8]>,
    /// What it says.
    pub said: Result<Said<'a>, Refusal>,
}

/// Digits of a reference.
const REFERENCE_BYTES_MAX: usize = 32;

const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(400, reason)
}

const NOT_JSON: Refusal = bad("the message is not JSON: byte {} does not fit");
const TOO_DEEP: Refusal = bad("the JSON is nested too deeply at byte {}");
const FORM: Refusal = bad(
    "a message is an object with one of subscribe, unsubscribe and publish, and ref or none; beside subscribe there may be snapshot, true or false",
);
const REFERENCE: Refusal = bad("ref is a number of at most 32 digits");
const LIST: Refusal = bad(
    "subscribe and unsubscribe are lists of patterns: 1 to 8 segments of A-Z a-z 0-9 _ - joined by /, where a segment may be + and the last may be #; pattern {} is none",
);
const EVENT: Refusal = bad("publish is {\"topic\":NAME,\"value\":VALUE}");
const NAME: Refusal = bad(
    "this is no topic name: 1 to 8 segments of A-Z a-z 0-9 _ - (1 to 32 each) joined by /, at most 96 bytes",
);
/// More patterns than a viewer may have.
pub const TOO_MANY: Refusal = Refusal::new(
    414,
    "the patterns take more than {} bytes; use + or # for several topics at once",
)
.with([PATTERNS_BYTES_MAX as u64, 0, 0]);

/// Reads a message.
pub fn read(text: &[u8]) -> Message<'_> {
    let mut reference = None;
    let said = parse(text, &mut reference);
    Message { reference, said }
}

fn parse<'a>(text: &'a [u8], reference: &mut Option<&'a [u8]>) -> Result<Said<'a>, Refusal> {
    json::validate(text).map_err(|error| {
        let refusal = match error.fault {
            Fault::Depth => TOO_DEEP,
            _ => NOT_JSON,
        };
        refusal.with([error.at as u64, 0, 0])
    })?;
    let (mut what, mut snapshot, mut is_odd) = (None, None, false);
    for (key, value) in json::members(text).ok_or(FORM)? {
        match (key, value) {
            (b"\"ref\"", number) => {
                if !json::is_number(number) || number.len() > REFERENCE_BYTES_MAX {
                    return Err(REFERENCE);
                }
                *reference = Some(number);
            }
            (b"\"snapshot\"", b"true") => snapshot = Some(true),
            (b"\"snapshot\"", b"false") => snapshot = Some(false),
            (b"\"subscribe\"" | b"\"unsubscribe\"" | b"\"publish\"", _) if what.is_none() => {
                what = Some((key, value));
            }
            _ => is_odd = true,
        }
    }
    // What is odd is said behind it all, so that the answer has its reference.
    match what {
        _ if is_odd => Err(FORM),
        Some((b"\"subscribe\"", list)) => Ok(Said::Subscribe {
            patterns: patterns(list)?,
            snapshot: snapshot.unwrap_or(true),
        }),
        Some(_) if snapshot.is_some() => Err(FORM),
        Some((b"\"unsubscribe\"", list)) => patterns(list).map(Said::Unsubscribe),
        Some((_, event)) => publish(event),
        None => Err(FORM),
    }
}

fn patterns(list: &[u8]) -> Result<Patterns, Refusal> {
    let mut patterns = Patterns::default();
    let at = |index: usize| LIST.with([index as u64 + 1, 0, 0]);
    for (index, element) in json::elements(list).ok_or(at(0))?.enumerate() {
        let mut room = [0; 4 * TOPIC_BYTES_MAX];
        let text = json::unescape(element, &mut room).ok_or(at(index))?;
        let pattern = name::pattern(text).ok_or(at(index))?;
        patterns.add(pattern).map_err(|_| TOO_MANY)?;
    }
    // No pattern is not every topic.
    match patterns.is_empty() {
        true => Err(at(0)),
        false => Ok(patterns),
    }
}

fn publish(event: &[u8]) -> Result<Said<'_>, Refusal> {
    let (mut topic, mut value) = (None, None);
    for (key, text) in json::members(event).ok_or(EVENT)? {
        match key {
            b"\"topic\"" => topic = Some(text),
            b"\"value\"" => value = Some(text),
            _ => return Err(EVENT),
        }
    }
    let (topic, value) = (topic.ok_or(EVENT)?, value.ok_or(EVENT)?);
    let mut room = [0; TOPIC_BYTES_MAX + 1];
    let topic = json::unescape(topic, &mut room).and_then(name::topic);
    let topic = Name::try_from(topic.ok_or(NAME)?).expect("a valid name fits");
    Ok(Said::Publish(topic, value))
}

fn put_reference(reference: Option<&[u8]>, out: &mut Writer<'_>) -> Result<(), Full> {
    match reference {
        Some(number) => out.put_all(&[b"\"ref\":", number]),
        None => Ok(()),
    }
}

/// Writes an acknowledgement; `rest` is the inside of a JSON object.
pub fn ack(reference: Option<&[u8]>, rest: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(br#"{"ack":{"#)?;
    put_reference(reference, out)?;
    if reference.is_some() && !rest.is_empty() {
        out.put(b",")?;
    }
    out.put_all(&[rest, b"}}"])
}

/// Writes what is wrong with a message.
pub fn error(
    reference: Option<&[u8]>,
    refusal: &Refusal,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let mut bytes = [0; 512];
    let mut reason = Writer::new(&mut bytes);
    write_reason(refusal, b"", &mut reason)?;
    let reason = core::str::from_utf8(reason.written()).expect("reasons are ASCII");
    out.put(br#"{"error":{"#)?;
    put_reference(reference, out)?;
    out.put(if reference.is_some() { &b","[..] } else { b"" })?;
    out.put(br#""status":"#)?;
    out.put_u64(refusal.status.into())?;
    out.put(br#","reason":"#)?;
    json::string(reason.trim_end(), out)?;
    out.put(b"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Refusal {
        read(text.as_bytes()).said.expect_err(text)
    }

    #[test]
    fn what_is_said() {
        let message = read(br#" { "ref" : -1.5e3 , "subscribe":["a/+","\u0062/#"] } "#);
        assert_eq!(message.reference, Some(&b"-1.5e3"[..]));
        let Ok(Said::Subscribe { patterns, snapshot }) = message.said else {
            panic!("{message:?}");
        };
        assert!(snapshot && patterns.wants("a/x") && patterns.wants("b") && !patterns.wants("c"));
        let message = read(br#"{"snapshot":false,"subscribe":["a"]}"#);
        assert!(matches!(
            message.said,
            Ok(Said::Subscribe {
                snapshot: false,
                ..
            })
        ));
        assert!(matches!(
            read(br#"{"unsubscribe":["/a"]}"#).said,
            Ok(Said::Unsubscribe(_))
        ));
        let message = read(br#"{"publish":{"value":{"b": 1},"topic":"/a/b"},"ref":7}"#);
        let Ok(Said::Publish(topic, value)) = message.said else {
            panic!("{message:?}");
        };
        assert_eq!((&*topic, value), ("a/b", &br#"{"b": 1}"#[..]));
    }

    #[test]
    fn what_is_not_understood() {
        let deep = "[".repeat(100);
        for (text, wanted) in [
            ("", NOT_JSON.with([0, 0, 0])),
            ("{\"subscribe\":[", NOT_JSON.with([14, 0, 0])),
            (&*deep, TOO_DEEP.with([64, 0, 0])),
            ("[]", FORM),
            ("{}", FORM),
            ("{\"hello\":1}", FORM),
            ("{\"subscribe\":[\"a\"],\"publish\":{}}", FORM),
            ("{\"subscribe\":[\"a\"],\"snapshot\":1}", FORM),
            ("{\"unsubscribe\":[\"a\"],\"snapshot\":true}", FORM),
            ("{\"subscribe\":[\"a\"],\"ref\":\"1\"}", REFERENCE),
            ("{\"subscribe\":\"a\"}", LIST.with([1, 0, 0])),
            ("{\"subscribe\":[]}", LIST.with([1, 0, 0])),
            ("{\"subscribe\":[\"a\",\"b//c\"]}", LIST.with([2, 0, 0])),
            ("{\"subscribe\":[\"a\",1]}", LIST.with([2, 0, 0])),
            ("{\"publish\":1}", EVENT),
            ("{\"publish\":{\"topic\":\"a\"}}", EVENT),
            ("{\"publish\":{\"topic\":\"a\",\"value\":1,\"x\":2}}", EVENT),
            ("{\"publish\":{\"topic\":\"a/#\",\"value\":1}}", NAME),
        ] {
            assert_eq!(refusal(text), wanted, "{text}");
        }
        let number =
            |digits: usize| format!("{{\"ref\":{},\"unsubscribe\":[\"a\"]}}", "1".repeat(digits));
        assert!(read(number(REFERENCE_BYTES_MAX).as_bytes()).said.is_ok());
        assert_eq!(refusal(&number(REFERENCE_BYTES_MAX + 1)), REFERENCE);
        let long = |segments: usize| {
            let one = |i: usize| format!("\"{i:02}{}\"", "x".repeat(29));
            let list: Vec<_> = (0..segments).map(one).collect();
            format!("{{\"subscribe\":[{}]}}", list.join(","))
        };
        assert!(read(long(32).as_bytes()).said.is_ok());
        assert_eq!(refusal(&long(33)), TOO_MANY);
    }

    #[test]
    fn answers() {
        let mut bytes = [0; 512];
        let mut out = Writer::new(&mut bytes);
        ack(None, b"", &mut out).unwrap();
        ack(Some(b"1"), b"", &mut out).unwrap();
        ack(Some(b"1"), br#""id":"a-1""#, &mut out).unwrap();
        ack(None, br#""id":"a-1""#, &mut out).unwrap();
        error(Some(b"2"), &EVENT, &mut out).unwrap();
        error(None, &NOT_JSON.with([9, 0, 0]), &mut out).unwrap();
        let wanted = r#"{"ack":{}}{"ack":{"ref":1}}{"ack":{"ref":1,"id":"a-1"}}{"ack":{"id":"a-1"}}{"error":{"ref":2,"status":400,"reason":"publish is {\"topic\":NAME,\"value\":VALUE}"}}{"error":{"status":400,"reason":"the message is not JSON: byte 9 does not fit"}}"#;
        assert_eq!(core::str::from_utf8(out.written()).unwrap(), wanted);
    }
}
