//! JSON made canonical: valid when serde_json says so, with the same value, and in the one spelling
//! that may stand in any frame.

use encke::buffer::Writer;
use encke::limits::JSON_DEPTH_MAX;
use encke::wire::json::{self, Error, Fault};
use serde_json::Value;

pub(crate) fn check(text: &[u8]) {
    strings(text);
    // serde_json reads objects with such a key as something else.
    if text.windows(11).any(|part| part == b"$serde_json") {
        return;
    }
    let ours = rewritten(text);
    let theirs = serde_json::from_slice::<Value>(text);
    match ours {
        Ok(canonical) => {
            let value = theirs.expect("what is accepted is JSON");
            is_canonical(&canonical);
            let again: Value = serde_json::from_slice(&canonical).expect("it stays JSON");
            assert_eq!(value, again, "the value");
            assert_eq!(tokens(text), tokens(&canonical), "order and spelling");
            assert_eq!(
                rewritten(&canonical).as_ref(),
                Ok(&canonical),
                "the second time"
            );
            assert_eq!(json::is_number(&canonical), value.is_number());
            parts(text, &value);
        }
        Err(error) => {
            assert!(error.at <= text.len(), "{error:?}");
            match error.fault {
                Fault::Syntax => assert!(theirs.is_err(), "{error:?} but {theirs:?}"),
                Fault::Depth => assert!(depth(text) > JSON_DEPTH_MAX, "{error:?}"),
                Fault::Full => unreachable!("there was room"),
            }
            // Any slices will do, but no panic.
            json::elements(text).into_iter().flatten().for_each(drop);
            json::members(text).into_iter().flatten().for_each(drop);
        }
    }
}

/// The canonical text, which must also fit exactly, and not fit one byte less.
fn rewritten(text: &[u8]) -> Result<Vec<u8>, Error> {
    let len = json::canonical_len(text);
    assert_eq!(json::validate(text).err(), len.err());
    let mut room = vec![0; len.unwrap_or(6 * text.len())];
    let mut out = Writer::new(&mut room);
    let result = json::canonical(text, &mut out);
    assert_eq!(result.err(), len.err());
    let written = out.written().to_vec();
    assert_eq!(
        written.len(),
        len.unwrap_or(0),
        "nothing stays of what failed"
    );
    if let Ok(len @ 1..) = len {
        let mut out = Writer::new(&mut room[..len - 1]);
        let full = json::canonical(text, &mut out).map_err(|error| error.fault);
        assert_eq!((full, out.len()), (Err(Fault::Full), 0));
    }
    len.map(|_| written)
}

fn is_canonical(text: &[u8]) {
    let is_safe = |byte: &u8| (b' '..=b'~').contains(byte) && !b"<>&".contains(byte);
    assert!(text.iter().all(is_safe), "{}", text.escape_ascii());
}

/// Punctuation and literals as they stand, strings by what they say; no white space.
fn tokens(text: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(text).expect("JSON is UTF-8");
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let bytes = match first {
            '"' => {
                let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let string = strings.next().expect("a string").expect("a good one");
                tokens.push(format!("\"{string}"));
                strings.byte_offset()
            }
            '[' | ']' | '{' | '}' | ',' | ':' => 1,
            _ => {
                let ends = |c| " \t\r\n,]}".contains(c);
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        if first != '"' {
            tokens.push(rest[..bytes].to_owned());
        }
        rest = rest[bytes..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    tokens
}

/// How deep brackets outside strings go.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// The elements and members of valid JSON are those that serde_json has.
fn parts(text: &[u8], value: &Value) {
    let parsed = |raw: &[u8]| -> Value { serde_json::from_slice(raw).expect("a part is JSON") };
    let elements = json::elements(text).map(|parts| parts.map(parsed).collect::<Vec<_>>());
    assert_eq!(elements.as_ref(), value.as_array(), "elements");
    let members = json::members(text).map(|parts| {
        let pair = |(key, value)| {
            let mut room = vec![0; text.len()];
            let key = json::unescape(key, &mut room).expect("a key is a string");
            (key.to_owned(), parsed(value))
        };
        parts.map(pair).collect::<serde_json::Map<_, _>>()
    });
    assert_eq!(members.as_ref(), value.as_object(), "members");
    let mut room = vec![0; text.len()];
    assert_eq!(json::unescape(text, &mut room), value.as_str(), "a string");
}

/// Any text becomes a string, and comes back.
fn strings(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let mut room = vec![0; json::string_len(text)];
    let mut out = Writer::new(&mut room);
    json::string(text, &mut out).expect("it has the room it asked for");
    is_canonical(out.written());
    let parsed: String = serde_json::from_slice(out.written()).expect("a string is JSON");
    assert_eq!(parsed, text);
    let mut back = vec![0; text.len()];
    assert_eq!(json::unescape(out.written(), &mut back), Some(text));
    if !text.is_empty() {
        assert_eq!(json::unescape(out.written(), &mut back[1..]), None);
    }
}
