//! JSON, checked and rewritten in one pass into the one spelling that may stand in any frame.
//!
//! Follows RFC 8259, as strictly as it allows: bad UTF-8, lone surrogates and control characters in
//! strings are refused. Nesting is bounded by `JSON_DEPTH_MAX` and tracked in one bit a level. It
//! never recurses, never allocates, and never reads a number's value: digits are copied.

use crate::buffer::{Full, Writer};
use crate::limits::JSON_DEPTH_MAX;
use crate::wire::text::hex_digit;

/// What kind of fault a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not JSON.
    Syntax,
    /// It is nested deeper than `JSON_DEPTH_MAX`.
    Depth,
    /// Its canonical form does not fit where it was to be written.
    Full,
}

/// Why a text was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Byte offset in the given text at which it went wrong.
    pub at: usize,
    /// What kind of fault it is.
    pub fault: Fault,
    /// What would have been right there: "a value", "a comma or ]".
    pub wanted: &'static str,
}

/// Checks that `text` is one JSON value, with white space around it at most.
///
/// # Errors
/// The first fault: `Syntax` or `Depth`.
pub fn validate(text: &[u8]) -> Result<(), Error> {
    canonical_len(text).map(|_| ())
}

/// Checks `text` as `validate` does, and writes it in its canonical form.
///
/// That is printable ASCII without white space outside strings and without `<`, `>` and `&`. The
/// order of keys and the spelling of numbers are kept.
///
/// # Errors
/// The first fault; then nothing stays written. Behind `Full` nothing was checked.
pub fn canonical(text: &[u8], out: &mut Writer<'_>) -> Result<(), Error> {
    let start = out.len();
    let result = rewrite(
        text,
        &mut Output {
            writer: Some(out),
            len: 0,
        },
    );
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The bytes that `canonical` writes for `text`.
///
/// # Errors
/// The first fault: `Syntax` or `Depth`.
pub fn canonical_len(text: &[u8]) -> Result<usize, Error> {
    let mut out = Output {
        writer: None,
        len: 0,
    };
    rewrite(text, &mut out)?;
    Ok(out.len)
}

/// Writes `text` as a canonical JSON string with its quotes.
///
/// # Errors
/// `Full`, with nothing written.
pub fn string(text: &str, out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    let result = put_string(
        text,
        &mut Output {
            writer: Some(out),
            len: 0,
        },
    );
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The bytes that `string` writes for `text`, quotes included.
pub fn string_len(text: &str) -> usize {
    let mut out = Output {
        writer: None,
        len: 0,
    };
    put_string(text, &mut out).expect("a counter is never full");
    out.len
}

/// The elements of an array, each raw and without white space around it. None when `array` is none.
///
/// The text must have passed `validate`; other text gives some slices of it, and no panic.
pub fn elements(array: &[u8]) -> Option<Elements<'_>> {
    let rest = enclosed(array, b'[', b']')?;
    Some(Elements { rest })
}

/// The members of an object: raw keys with their quotes, raw values. None when `object` is none.
///
/// The text must have passed `validate`; other text gives some slices of it, and no panic.
pub fn members(object: &[u8]) -> Option<Members<'_>> {
    let rest = enclosed(object, b'{', b'}')?;
    Some(Members { rest })
}

/// The text of a raw JSON string, given with its quotes. None when it is no string or does not fit.
pub fn unescape<'o>(string: &[u8], out: &'o mut [u8]) -> Option<&'o str> {
    let inner = enclosed(string, b'"', b'"')?;
    let (mut at, mut len) = (0, 0);
    while at < inner.len() {
        let (character, read) = match inner[at] {
            b'"' => return None,
            _ => character(inner, at).ok()?,
        };
        let room = out.get_mut(len..len + character.len_utf8())?;
        len += character.encode_utf8(room).len();
        at += read;
    }
    core::str::from_utf8(&out[..len]).ok()
}

/// Whether a canonical value is a number.
pub fn is_number(canonical: &[u8]) -> bool {
    matches!(canonical.first(), Some(b'-' | b'0'..=b'9'))
}

/// The elements of an array; see `elements`.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        take_piece(&mut self.rest)
    }
}

/// The members of an object; see `members`.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        Some((take_piece(&mut self.rest)?, take_piece(&mut self.rest)?))
    }
}

/// What stands between `open` and `close`, when these are the first and the last visible bytes.
fn enclosed(text: &[u8], open: u8, close: u8) -> Option<&[u8]> {
    let inner = trim(text).strip_prefix(&[open])?;
    inner.strip_suffix(&[close])
}

/// Without the white space of JSON at both ends.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..]
    | [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = text
    {
        text = rest;
    }
    text
}

/// Takes what stands before the next comma or colon outside strings and nested values.
fn take_piece<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = trim(rest);
    if text.is_empty() {
        return None;
    }
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    let end = text.iter().position(|&byte| {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => return depth == 0,
            _ => {}
        }
        false
    });
    let end = end.unwrap_or(text.len());
    *rest = text.get(end + 1..).unwrap_or_default();
    Some(trim(&text[..end]))
}

/// Where canonical text goes: it is written, or without a writer only counted.
struct Output<'o, 'w> {
    writer: Option<&'o mut Writer<'w>>,
    len: usize,
}

impl Output<'_, '_> {
    fn put(&mut self, text: &[u8]) -> Result<(), Full> {
        self.len += text.len();
        match &mut self.writer {
            Some(writer) => writer.put(text),
            None => Ok(()),
        }
    }

    /// One character of a string in its canonical spelling.
    fn put_character(&mut self, character: char) -> Result<(), Full> {
        match character {
            '"' => self.put(b"\\\""),
            '\\' => self.put(b"\\\\"),
            '\u{8}' => self.put(b"\\b"),
            '\u{c}' => self.put(b"\\f"),
            '\n' => self.put(b"\\n"),
            '\r' => self.put(b"\\r"),
            '\t' => self.put(b"\\t"),
            plain if plain.is_ascii() && is_plain(plain as u8) => self.put(&[plain as u8]),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let mut escape = *b"\\u0000";
                    for (place, shift) in [12, 8, 4, 0].into_iter().enumerate() {
                        let digit = (*unit >> shift & 15) as usize;
                        escape[2 + place] = b"0123456789abcdef"[digit];
                    }
                    self.put(&escape)?;
                }
                Ok(())
            }
        }
    }
}

/// Which bytes of a string stand for themselves in canonical text.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    plain
};

fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

/// How many bytes at the start of `text` stand for themselves.
fn plain_run(text: &[u8]) -> usize {
    text.iter()
        .position(|&byte| !is_plain(byte))
        .unwrap_or(text.len())
}

#[inline(never)]
fn put_string(text: &str, out: &mut Output<'_, '_>) -> Result<(), Full> {
    out.put(b"\"")?;
    let mut rest = text;
    loop {
        let (run, tail) = rest.split_at(plain_run(rest.as_bytes()));
        out.put(run.as_bytes())?;
        let mut characters = tail.chars();
        let Some(character) = characters.next() else {
            return out.put(b"\"");
        };
        out.put_character(character)?;
        rest = characters.as_str();
    }
}

/// What may stand at the next visible byte.
#[derive(Clone, Copy)]
enum Next {
    Value,
    /// Behind `[`: a first element, or the end of an empty array.
    ElementOrEnd,
    /// Behind `{`: a first key, or the end of an empty object.
    KeyOrEnd,
    Key,
    Colon,
    /// Behind a value inside an array or an object.
    CommaOrEnd,
    /// Behind the whole value.
    Nothing,
}

/// The one pass: reads `text` as JSON, and hands its canonical form to `out` piece by piece.
fn rewrite(text: &[u8], out: &mut Output<'_, '_>) -> Result<(), Error> {
    let mut pass = Pass {
        text,
        from: 0,
        at: 0,
        open: Open::default(),
        out,
    };
    let mut next = Next::Value;
    loop {
        next = match (next, text.get(pass.at)) {
            (Next::Nothing, None) => return pass.hand_out(),
            (Next::Value | Next::ElementOrEnd, Some(b'[')) => pass.open(false)?,
            (Next::Value | Next::ElementOrEnd, Some(b'{')) => pass.open(true)?,
            (Next::ElementOrEnd, Some(b']')) => pass.close(),
            (Next::KeyOrEnd, Some(b'}')) => pass.close(),
            (Next::CommaOrEnd, Some(b']')) if !pass.open.is_object() => pass.close(),
            (Next::CommaOrEnd, Some(b'}')) if pass.open.is_object() => pass.close(),
            (Next::CommaOrEnd, Some(b',')) => {
                pass.at += 1;
                if pass.open.is_object() {
                    Next::Key
                } else {
                    Next::Value
                }
            }
            (Next::Colon, Some(b':')) => {
                pass.at += 1;
                Next::Value
            }
            (Next::Key | Next::KeyOrEnd, Some(b'"')) => {
                pass.string()?;
                Next::Colon
            }
            (Next::Value | Next::ElementOrEnd, Some(b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z')) => {
                pass.scalar()?;
                pass.behind_value()
            }
            (next, Some(b' ' | b'\t' | b'\n' | b'\r')) => {
                pass.hand_out()?;
                pass.leave_out(1);
                next
            }
            (next, _) => return Err(pass.syntax(pass.wanted(next))),
        };
    }
}

/// The arrays and objects that are open: one bit each, set for an object.
#[derive(Default)]
struct Open {
    depth: usize,
    objects: u64,
}

const _: () = assert!(
    JSON_DEPTH_MAX <= u64::BITS as usize,
    "each open level has a bit"
);

impl Open {
    fn is_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// The state of the one pass. What is canonical as it stands is handed out in whole runs.
struct Pass<'p, 'o, 'w> {
    text: &'p [u8],
    /// Everything before was handed out, or left out.
    from: usize,
    at: usize,
    open: Open,
    out: &'p mut Output<'o, 'w>,
}

impl Pass<'_, '_, '_> {
    fn syntax(&self, wanted: &'static str) -> Error {
        Error {
            at: self.at,
            fault: Fault::Syntax,
            wanted,
        }
    }

    /// Copies what stands before `at` and was not handed out yet.
    fn hand_out(&mut self) -> Result<(), Error> {
        let from = core::mem::replace(&mut self.from, self.at);
        let put = self.out.put(&self.text[from..self.at]);
        put.map_err(|Full| full(from))
    }

    /// Goes on behind `bytes` that are not to be copied.
    fn leave_out(&mut self, bytes: usize) {
        self.at += bytes;
        self.from = self.at;
    }

    fn open(&mut self, is_object: bool) -> Result<Next, Error> {
        if self.open.depth == JSON_DEPTH_MAX {
            return Err(Error {
                at: self.at,
                fault: Fault::Depth,
                wanted: "less nesting",
            });
        }
        self.at += 1;
        self.open.depth += 1;
        self.open.objects = self.open.objects << 1 | u64::from(is_object);
        Ok(if is_object {
            Next::KeyOrEnd
        } else {
            Next::ElementOrEnd
        })
    }

    fn close(&mut self) -> Next {
        self.at += 1;
        self.open.depth -= 1;
        self.open.objects >>= 1;
        self.behind_value()
    }

    fn behind_value(&self) -> Next {
        if self.open.depth == 0 {
            Next::Nothing
        } else {
            Next::CommaOrEnd
        }
    }

    fn wanted(&self, next: Next) -> &'static str {
        match next {
            Next::Value => "a value",
            Next::ElementOrEnd => "a value or ]",
            Next::KeyOrEnd => "a key in quotes or }",
            Next::Key => "a key in quotes",
            Next::Colon => "a colon",
            Next::CommaOrEnd if self.open.is_object() => "a comma or }",
            Next::CommaOrEnd => "a comma or ]",
            Next::Nothing => "the end of the text",
        }
    }

    /// A value without parts; the caller has seen that its first byte begins one.
    fn scalar(&mut self) -> Result<(), Error> {
        match self.text[self.at] {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<(), Error> {
        let rest = &self.text[self.at..];
        for literal in ["true", "false", "null"] {
            if rest.starts_with(literal.as_bytes()) {
                self.at += literal.len();
                return Ok(());
            }
        }
        Err(self.syntax("a value"))
    }

    /// RFC 8259 section 6; its digits are copied as they stand.
    fn number(&mut self) -> Result<(), Error> {
        self.skip(b'-', b'-');
        if !self.skip(b'0', b'0') {
            self.digits()?;
        }
        if self.skip(b'.', b'.') {
            self.digits()?;
        }
        if self.skip(b'e', b'E') {
            self.skip(b'+', b'-');
            self.digits()?;
        }
        Ok(())
    }

    /// Skips one byte when it is one of two.
    fn skip(&mut self, one: u8, other: u8) -> bool {
        let next = self.text.get(self.at);
        let found = next.is_some_and(|byte| *byte == one || *byte == other);
        self.at += usize::from(found);
        found
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.syntax("a digit"))
        } else {
            Ok(())
        }
    }

    /// A string, from its opening quote.
    fn string(&mut self) -> Result<(), Error> {
        self.at += 1;
        loop {
            self.at += plain_run(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                None => return Err(self.syntax("a closing quote")),
                Some(_) => {}
            }
            self.hand_out()?;
            let (character, len) = character(self.text, self.at)?;
            let put = self.out.put_character(character);
            put.map_err(|Full| full(self.at))?;
            self.leave_out(len);
        }
    }
}

fn full(at: usize) -> Error {
    Error {
        at,
        fault: Fault::Full,
        wanted: "a shorter text",
    }
}

/// The character of a string that stands at `at`, and the bytes it takes there.
fn character(text: &[u8], at: usize) -> Result<(char, usize), Error> {
    let syntax = |at, wanted| Error {
        at,
        fault: Fault::Syntax,
        wanted,
    };
    let first = text[at];
    let len = match first {
        b'\\' => return escape(text, at),
        ..0x20 => return Err(syntax(at, "an escape for this control character")),
        0x20..0x80 => return Ok((first as char, 1)),
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    };
    let bytes = text
        .get(at..at + len)
        .and_then(|bytes| core::str::from_utf8(bytes).ok());
    let character = bytes.and_then(|bytes| bytes.chars().next());
    Ok((character.ok_or(syntax(at, "UTF-8"))?, len))
}

/// The character of the escape at `at`, and the bytes it takes: 2, 6, or 12 for a surrogate pair.
fn escape(text: &[u8], at: usize) -> Result<(char, usize), Error> {
    let syntax = |at, wanted| Error {
        at,
        fault: Fault::Syntax,
        wanted,
    };
    let simple = match text.get(at + 1) {
        Some(b'u') => {
            let high = unit(text, at)?;
            return match high {
                0xd800..0xdc00 => {
                    let low = unit(text, at + 6).unwrap_or(0);
                    if !matches!(low, 0xdc00..0xe000) {
                        return Err(syntax(at + 6, "the escape of a low surrogate"));
                    }
                    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    Ok((char::from_u32(code).expect("a pair is above U+FFFF"), 12))
                }
                _ => Ok((
                    char::from_u32(high)
                        .ok_or(syntax(at, "the escape of a high surrogate before it"))?,
                    6,
                )),
            };
        }
        Some(&plain @ (b'"' | b'\\' | b'/')) => plain as char,
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        _ => return Err(syntax(at + 1, "one of \" \\ / b f n r t u")),
    };
    Ok((simple, 2))
}

/// The code unit of the `\uXXXX` at `at`.
fn unit(text: &[u8], at: usize) -> Result<u32, Error> {
    let wanted = |at| Error {
        at,
        fault: Fault::Syntax,
        wanted: "\\u and four hexadecimal digits",
    };
    if text.get(at..at + 2) != Some(b"\\u") {
        return Err(wanted(at));
    }
    (at + 2..at + 6).try_fold(0, |value, place| {
        let digit = text
            .get(place)
            .and_then(|&byte| hex_digit(byte))
            .ok_or(wanted(place))?;
        Ok(value << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The canonical form; checked to have the length foretold, and to be its own canonical form.
    fn canon(text: &[u8]) -> Result<String, Error> {
        let mut bytes = vec![0; 6 * text.len() + 1];
        let mut out = Writer::resume(&mut bytes, 1);
        let result = canonical(text, &mut out);
        let len = canonical_len(text);
        assert_eq!(result, validate(text));
        if let Err(error) = result {
            assert_eq!((out.len(), len), (1, Err(error)));
            return Err(error);
        }
        let written = out.written()[1..].to_vec();
        assert_eq!(len, Ok(written.len()));
        assert!(
            written
                .iter()
                .all(|byte| matches!(byte, b' '..=b'~') && !b"<>&".contains(byte))
        );
        let mut again = vec![0; written.len()];
        let mut out = Writer::new(&mut again);
        assert_eq!(canonical(&written, &mut out), Ok(()));
        assert_eq!(out.written(), written);
        Ok(String::from_utf8(written).unwrap())
    }

    #[test]
    fn canonical_forms() {
        let cases: &[(&str, &str)] = &[
            (" \t\r\n1 ", "1"),
            ("-0", "-0"),
            ("0.10e+05", "0.10e+05"),
            ("1E400", "1E400"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("true", "true"),
            ("[ false , null ]", "[false,null]"),
            ("[]", "[]"),
            ("{ }", "{}"),
            (
                "{\"b\" : 1 , \"a\" : [ { } , [ ] ] , \"b\":2}",
                "{\"b\":1,\"a\":[{},[]],\"b\":2}",
            ),
            ("\"\"", "\"\""),
            ("\"a b\"", "\"a b\""),
            (r#""\u0041\/\"\\\b\f\n\r\t""#, r#""A/\"\\\b\f\n\r\t""#),
            (
                r#""\u0008\u000C\u000a\u000D\u0009\u0022\u005c""#,
                r#""\b\f\n\r\t\"\\""#,
            ),
            (
                r#""\u0000\u001F\u007f\u003C""#,
                r#""\u0000\u001f\u007f\u003c""#,
            ),
            (
                "\"</script>&amp;\u{7f}\"",
                r#""\u003c/script\u003e\u0026amp;\u007f""#,
            ),
            (
                "\"\u{e9}\u{20ac}\u{2028}\u{2029}\u{fffd}\"",
                r#""\u00e9\u20ac\u2028\u2029\ufffd""#,
            ),
            ("\"\u{1f600}\u{10ffff}\"", r#""\ud83d\ude00\udbff\udfff""#),
            (
                r#""\uD83D\uDE00\uD800\uDC00""#,
                r#""\ud83d\ude00\ud800\udc00""#,
            ),
            (
                r#""\u00E9\uFFFF\uE000\uD7FF""#,
                r#""\u00e9\uffff\ue000\ud7ff""#,
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(canon(text.as_bytes()).as_deref(), Ok(*wanted), "{text}");
        }
    }

    #[test]
    fn faults_name_the_place_and_the_remedy() {
        let cases: &[(&[u8], usize, &str)] = &[
            (b"", 0, "a value"),
            (b"  ", 2, "a value"),
            (b"\xef\xbb\xbf1", 0, "a value"),
            (b"tru", 0, "a value"),
            (b"True", 0, "a value"),
            (b"NaN", 0, "a value"),
            (b"nul l", 0, "a value"),
            (b"\x0b1", 0, "a value"),
            (b"1 2", 2, "the end of the text"),
            (b"truee", 4, "the end of the text"),
            (b"[]]", 2, "the end of the text"),
            (b"1\0", 1, "the end of the text"),
            (b"01", 1, "the end of the text"),
            (b"-", 1, "a digit"),
            (b"+1", 0, "a value"),
            (b".5", 0, "a value"),
            (b"-.5", 1, "a digit"),
            (b"1.", 2, "a digit"),
            (b"1.e5", 2, "a digit"),
            (b"1e", 2, "a digit"),
            (b"1e+", 3, "a digit"),
            (b"-01", 2, "the end of the text"),
            (b"0x10", 1, "the end of the text"),
            (b"[", 1, "a value or ]"),
            (b"[}", 1, "a value or ]"),
            (b"[,", 1, "a value or ]"),
            (b"[1", 2, "a comma or ]"),
            (b"[1}", 2, "a comma or ]"),
            (b"[1 2]", 3, "a comma or ]"),
            (b"[1:2]", 2, "a comma or ]"),
            (b"[1,]", 3, "a value"),
            (b"{", 1, "a key in quotes or }"),
            (b"{]", 1, "a key in quotes or }"),
            (b"{a:1}", 1, "a key in quotes or }"),
            (b"{1:1}", 1, "a key in quotes or }"),
            (b"{\"a\"}", 4, "a colon"),
            (b"{\"a\",1}", 4, "a colon"),
            (b"{\"a\":}", 5, "a value"),
            (b"{\"a\":1", 6, "a comma or }"),
            (b"{\"a\":1]", 6, "a comma or }"),
            (b"{\"a\":1,}", 7, "a key in quotes"),
            (b"{\"a\":1,2", 7, "a key in quotes"),
            (b"\"", 1, "a closing quote"),
            (b"\"abc", 4, "a closing quote"),
            (b"'a'", 0, "a value"),
            (b"\"a\nb\"", 2, "an escape for this control character"),
            (b"\"\0\"", 1, "an escape for this control character"),
            (b"\"\x1f\"", 1, "an escape for this control character"),
            (b"\"\\", 2, "one of \" \\ / b f n r t u"),
            (b"\"\\x41\"", 2, "one of \" \\ / b f n r t u"),
            (b"\"\\U0041\"", 2, "one of \" \\ / b f n r t u"),
            (b"\"\\u12\"", 5, "\\u and four hexadecimal digits"),
            (b"\"\\u12g4\"", 5, "\\u and four hexadecimal digits"),
            (b"\"\\u+123\"", 3, "\\u and four hexadecimal digits"),
            (b"\"\\u123", 6, "\\u and four hexadecimal digits"),
            (b"\"\\ud800\"", 7, "the escape of a low surrogate"),
            (b"\"\\ud800\\n\"", 7, "the escape of a low surrogate"),
            (b"\"\\ud800\\u0041\"", 7, "the escape of a low surrogate"),
            (b"\"\\ud800\\ud800\"", 7, "the escape of a low surrogate"),
            (
                b"\"\\udc00\"",
                1,
                "the escape of a high surrogate before it",
            ),
            (b"\"\xff\"", 1, "UTF-8"),
            (b"\"\x80\"", 1, "UTF-8"),
            (b"\"\xc3\"", 1, "UTF-8"),
            (b"\"\xc3", 1, "UTF-8"),
            (b"\"\xc0\x80\"", 1, "UTF-8"),
            (b"\"\xe0\x80\x80\"", 1, "UTF-8"),
            (b"\"\xed\xa0\x80\"", 1, "UTF-8"),
            (b"\"\xf4\x90\x80\x80\"", 1, "UTF-8"),
            (b"\"\xf8\x88\x80\x80\x80\"", 1, "UTF-8"),
        ];
        for &(text, at, wanted) in cases {
            let fault = Fault::Syntax;
            let shown = text.escape_ascii();
            assert_eq!(canon(text), Err(Error { at, fault, wanted }), "{shown}");
        }
    }

    #[test]
    fn nesting_below_at_and_above_its_limit() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let levels = open.matches(['[', '{']).count();
            for depth in [JSON_DEPTH_MAX - levels, JSON_DEPTH_MAX] {
                let times = depth / levels;
                let text = format!("{}1{}", open.repeat(times), close.repeat(times));
                assert_eq!(canon(text.as_bytes()).as_deref(), Ok(text.as_str()));
            }
            let text = open.repeat(JSON_DEPTH_MAX / levels + 1);
            let error = validate(text.as_bytes()).unwrap_err();
            assert_eq!(error.fault, Fault::Depth);
            assert_eq!(&text[error.at..error.at + 1], &open[..1]);
        }
        let flat = format!("[{}1]", "[],{\"a\":[]},".repeat(JSON_DEPTH_MAX));
        assert_eq!(validate(flat.as_bytes()), Ok(()));
        assert_eq!(validate(&[b'['; 100_000]).unwrap_err().at, JSON_DEPTH_MAX);
    }

    #[test]
    fn a_text_that_does_not_fit_is_not_written() {
        let text = "{\"k\" : [ 1.5e3, true, \"a\u{e9}\u{1f600}<\\n\" ]}".as_bytes();
        let len = canonical_len(text).unwrap();
        for size in 0..=len {
            let mut bytes = vec![0; size];
            let mut out = Writer::new(&mut bytes);
            match canonical(text, &mut out) {
                Ok(()) => assert_eq!((size, out.len()), (len, len)),
                Err(error) => {
                    assert_eq!((error.fault, out.len()), (Fault::Full, 0));
                    assert!(size < len && error.at < text.len());
                }
            }
        }
    }

    #[test]
    fn strings_are_written_whole_or_not() {
        let text = "caf\u{e9} <b> \"\\\u{1}\u{2028}\u{1f600}/";
        let wanted = r#""caf\u00e9 \u003cb\u003e \"\\\u0001\u2028\ud83d\ude00/""#;
        assert_eq!(string_len(text), wanted.len());
        assert_eq!(string_len(""), 2);
        for size in 0..=wanted.len() {
            let mut bytes = vec![0; size + 1];
            let mut out = Writer::resume(&mut bytes, 1);
            let result = string(text, &mut out);
            assert_eq!(result.is_ok(), size == wanted.len());
            assert_eq!(out.len(), if result.is_ok() { size + 1 } else { 1 });
        }
    }

    #[test]
    fn parts_of_values() {
        let split = |text: &'static str| -> Option<Vec<&str>> {
            let parts = elements(text.as_bytes())?;
            Some(
                parts
                    .map(|part| core::str::from_utf8(part).unwrap())
                    .collect(),
            )
        };
        assert_eq!(split("[]"), Some(vec![]));
        assert_eq!(split(" [ \n ] "), Some(vec![]));
        assert_eq!(
            split(r#" [ 1 ,"a,]\"[" , [2,[3]],{"b":[4,5]}, "\\" ,null ] "#),
            Some(vec![
                "1",
                r#""a,]\"[""#,
                "[2,[3]]",
                r#"{"b":[4,5]}"#,
                r#""\\""#,
                "null"
            ])
        );
        for other in ["1", "{}", "\"[]\"", "", "["] {
            assert_eq!(split(other), None, "{other}");
        }
        let pairs = |text: &'static str| -> Option<Vec<(&str, &str)>> {
            let text_of = |part| core::str::from_utf8(part).unwrap();
            let parts = members(text.as_bytes())?;
            Some(
                parts
                    .map(|(key, value)| (text_of(key), text_of(value)))
                    .collect(),
            )
        };
        assert_eq!(pairs("{ }"), Some(vec![]));
        assert_eq!(
            pairs(r#"{"topic" : "a/b:c,d" ,"value":{"x":[1,2],"y":{}},"":0 }"#),
            Some(vec![
                (r#""topic""#, r#""a/b:c,d""#),
                (r#""value""#, r#"{"x":[1,2],"y":{}}"#),
                (r#""""#, "0")
            ])
        );
        assert_eq!(pairs("[]"), None);
    }

    #[test]
    fn unescaping() {
        let mut out = [0; 8];
        assert_eq!(unescape(br#""a\u0041\n""#, &mut out), Some("aA\n"));
        assert_eq!(
            unescape(br#" "\ud83d\ude00\u00e9/" "#, &mut out),
            Some("\u{1f600}\u{e9}/")
        );
        assert_eq!(unescape(b"\"\xc3\xa9<\"", &mut out), Some("\u{e9}<"));
        assert_eq!(unescape(b"\"\"", &mut out), Some(""));
        assert_eq!(unescape(b"\"12345678\"", &mut out), Some("12345678"));
        let bad: [&[u8]; 12] = [
            b"",
            b"\"",
            b"1",
            b"\"a",
            b"a\"",
            b"\"a\"b\"",
            b"\"\\\"",
            b"\"\\u00\"",
            b"\"\\ud800\"",
            b"\"\n\"",
            b"\"123456789\"",
            b"\"1234567\xc3\xa9\"",
        ];
        for text in bad {
            assert_eq!(unescape(text, &mut out), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_told_by_their_first_byte() {
        assert!(is_number(b"-1.5e3") && is_number(b"0"));
        for other in ["true", "\"1\"", "[1]", "{}", "null", ""] {
            assert!(!is_number(other.as_bytes()));
        }
    }

    /// Texts near JSON: its own tokens in any order, so that most rules are hit.
    fn near_json() -> impl Strategy<Value = Vec<u8>> {
        let tokens: Vec<&'static [u8]> = vec![
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b":",
            b" ",
            b"\n",
            b"\"",
            b"\"k\"",
            b"\"k\":",
            b"0",
            b"-",
            b"12",
            b".5",
            b"e+3",
            b"E9",
            b"true",
            b"false",
            b"null",
            b"\\",
            b"\\n",
            b"\\u0041",
            b"\\ud83d",
            b"\\ude00",
            b"\\/",
            b"<",
            b"\xc3\xa9",
            b"\xf0\x9f\x98\x80",
            b"\xff",
            b"\x7f",
            b"\x01",
            b"\"\\u12",
            b"[1,",
            b"[]",
            b"{}",
            b"{\"a\":1,",
            b"\"\\u00e9<\"",
        ];
        prop::collection::vec(prop::sample::select(tokens), 0..12).prop_map(|parts| parts.concat())
    }

    /// Whole values, spelled in ways that serde_json would not choose.
    fn json() -> impl Strategy<Value = String> {
        let space = prop::sample::select(vec!["", " ", "\n\t", "\r\n"]);
        let text = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
        let leaf = prop_oneof![
            text,
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?",
            prop::sample::select(vec!["true", "false", "null"]).prop_map(String::from),
            r#""(\\u00[0-7][0-9a-fA-F]|\\[bfnrt/"]|[ -!#-\[\]-~]|\\ud83[cC]\\uDE0[0-9a-f])*""#,
        ];
        leaf.prop_recursive(6, 48, 6, move |inner| {
            let element = (space.clone(), inner, space.clone())
                .prop_map(|(before, value, behind)| format!("{before}{value}{behind}"));
            let member = (any::<String>(), element.clone()).prop_map(|(key, value)| {
                format!("{} :{value}", serde_json::to_string(&key).unwrap())
            });
            prop_oneof![
                prop::collection::vec(element, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
                prop::collection::vec(member, 0..6)
                    .prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    /// serde_json has another limit of depth (128), and nothing else may differ.
    fn agrees(text: &[u8]) {
        use serde_json::Value;
        let theirs = serde_json::from_slice::<Value>(text);
        match canon(text) {
            Ok(ours) => assert_eq!(
                theirs.unwrap(),
                serde_json::from_str::<Value>(&ours).unwrap()
            ),
            Err(error) if error.fault == Fault::Depth => {}
            Err(_) => assert!(theirs.is_err(), "{}", text.escape_ascii()),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_values(text in json()) {
            prop_assert!(canon(text.as_bytes()).is_ok());
            agrees(text.as_bytes());
        }

        #[test]
        fn agrees_with_serde_json_near_json(text in near_json()) {
            agrees(&text);
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_values(text in json(), at: u16, byte: u8, cut: bool) {
            let mut text = text.into_bytes();
            let at = usize::from(at) % text.len();
            if cut { text.truncate(at) } else { text[at] = byte }
            agrees(&text);
        }

        #[test]
        fn strings_read_back(text: String) {
            let mut bytes = vec![0; string_len(&text)];
            let mut out = Writer::new(&mut bytes);
            prop_assert_eq!(string(&text, &mut out), Ok(()));
            let written = String::from_utf8(out.written().to_vec()).unwrap();
            prop_assert_eq!(canon(written.as_bytes()), Ok(written.clone()));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text.as_str());
            let mut room = vec![0; text.len()];
            prop_assert_eq!(unescape(written.as_bytes(), &mut room), Some(text.as_str()));
        }

        #[test]
        fn parts_hold_what_serde_json_finds(text in json()) {
            use serde_json::Value;
            let value_of = |part| serde_json::from_slice::<Value>(part).unwrap();
            let value = value_of(text.as_bytes());
            let ours = elements(text.as_bytes()).map(|parts| parts.map(value_of).collect());
            prop_assert_eq!(ours.map(Value::Array), value.as_array().cloned().map(Value::Array));
            let ours = members(text.as_bytes()).map(|parts| {
                parts.map(|(k, v)| (value_of(k).as_str().unwrap().into(), value_of(v))).collect()
            });
            prop_assert_eq!(ours.map(Value::Object), value.as_object().cloned().map(Value::Object));
        }

        #[test]
        fn parts_of_anything_do_not_panic(text in near_json()) {
            for text in [[b"[", &text[..], b"]"].concat(), [b"{", &text[..], b"}"].concat()] {
                elements(&text).into_iter().flatten().for_each(drop);
                members(&text).into_iter().flatten().for_each(drop);
            }
            unescape(&[b"\"", &text[..], b"\""].concat(), &mut [0; 32]);
        }
    }
}
