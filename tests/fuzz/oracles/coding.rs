//! A second decoder of chunked bodies: it takes the whole of the input, line by line.

/// Digits, bytes of extensions and bytes of trailers there may be.
const LIMITS: (usize, usize, usize) = (15, 256, 1024);

/// What an input amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The body, and how many bytes it took.
    Whole(Vec<u8>, usize),
    /// It may go on well.
    Unfinished,
    Bad,
}

/// The line at the start of `bytes` without its end; Err when there is none yet, but for what there
/// is of it.
fn line(bytes: &[u8]) -> Result<&[u8], &[u8]> {
    match bytes
        .iter()
        .position(|byte| *byte == b'\r' || *byte == b'\n')
    {
        Some(at) if bytes[at..].starts_with(b"\r\n") => Ok(&bytes[..at]),
        Some(at) if bytes[at..] == *b"\r" => Err(bytes),
        Some(at) => Err(&bytes[..=at + usize::from(at + 1 < bytes.len())]),
        None => Err(bytes),
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `text` without the bytes at its start that are `wanted`, and how many those are.
fn skip(text: &[u8], wanted: fn(u8) -> bool) -> (&[u8], usize) {
    let count = text.iter().take_while(|byte| wanted(**byte)).count();
    (&text[count..], count)
}

/// The text behind a quoted string of which the first quote is taken; `Err(false)` for none,
/// `Err(true)` for one that may still be one.
fn unquoted(mut text: &[u8]) -> Result<&[u8], bool> {
    loop {
        match text {
            [] | [b'\\'] => return Err(true),
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_text(*byte) => text = rest,
            _ => return Err(false),
        }
    }
}

/// Whether a text is extensions, `;name`, `;name=token` or `;name="text"`, or may become some.
fn are_extensions(mut text: &[u8], is_whole: bool) -> bool {
    let is_space = |byte| byte == b' ' || byte == b'\t';
    loop {
        let spaces;
        (text, spaces) = skip(text, is_space);
        text = match text {
            [] => return spaces == 0 || !is_whole,
            [b';', rest @ ..] => skip(rest, is_space).0,
            _ => return false,
        };
        let name;
        (text, name) = skip(text, is_token);
        if name == 0 {
            return text.is_empty() && !is_whole;
        }
        let (behind, _) = skip(text, is_space);
        let [b'=', value @ ..] = behind else {
            continue;
        };
        let (value, _) = skip(value, is_space);
        text = match value {
            [b'"', inner @ ..] => match unquoted(inner) {
                Ok(rest) => rest,
                Err(may_become) => return may_become && !is_whole,
            },
            _ => match skip(value, is_token) {
                (rest, 0) => return rest.is_empty() && !is_whole,
                (rest, _) => rest,
            },
        };
    }
}

/// Size and length of the extensions of a size line, which may be cut off at its end.
fn size_line(line: &[u8], is_whole: bool) -> Option<(u64, usize)> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let rest = &line[digits..];
    if digits > LIMITS.0 || (digits == 0 && (is_whole || !line.is_empty())) {
        return None;
    }
    let is_good = are_extensions(rest, is_whole);
    let text = std::str::from_utf8(&line[..digits]).ok()?;
    let size = u64::from_str_radix(text, 16).unwrap_or(0);
    is_good.then_some((size, rest.len()))
}

/// Whether a line is `name: value`, or may become that.
fn is_field(line: &[u8], is_whole: bool) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let name = line.iter().take_while(|byte| of_name(byte)).count();
    match &line[name..] {
        [] => !is_whole,
        [b':', value @ ..] => name > 0 && value.iter().all(|byte| is_text(*byte)),
        _ => false,
    }
}

/// The chunked body at the start of `bytes`, of at most `most` bytes.
pub(crate) fn decode(bytes: &[u8], most: usize) -> Outcome {
    let (mut at, mut body, mut extensions) = (0, Vec::new(), 0);
    loop {
        let found = line(&bytes[at..]);
        let (text, is_whole) = match found {
            Ok(text) => (text, true),
            Err(text) => (
                text.strip_suffix(b"\r").unwrap_or(text),
                text.ends_with(b"\r"),
            ),
        };
        let Some((size, extension)) = size_line(text, is_whole) else {
            return Outcome::Bad;
        };
        extensions += extension;
        if extensions > LIMITS.1 {
            return Outcome::Bad;
        }
        if found.is_err() {
            return Outcome::Unfinished;
        }
        at += text.len() + 2;
        if body.len() as u64 + size > most as u64 {
            return Outcome::Bad;
        }
        if size == 0 {
            return trailers(bytes, at, body);
        }
        let there = (bytes.len() - at).min(size as usize);
        body.extend_from_slice(&bytes[at..at + there]);
        at += there;
        match bytes[at..] {
            _ if (there as u64) < size => return Outcome::Unfinished,
            [] | [b'\r'] => return Outcome::Unfinished,
            [b'\r', b'\n', ..] => at += 2,
            _ => return Outcome::Bad,
        }
    }
}

fn trailers(bytes: &[u8], begin: usize, body: Vec<u8>) -> Outcome {
    let mut at = begin;
    loop {
        let found = line(&bytes[at..]);
        if found == Ok(b"") {
            return Outcome::Whole(body, at + 2);
        }
        let (text, is_whole, ends) = match found {
            Ok(text) => (text, true, 2),
            Err(b"\r" | b"") => return Outcome::Unfinished,
            Err(text) => {
                let ends = usize::from(text.ends_with(b"\r"));
                (&text[..text.len() - ends], ends == 1, ends)
            }
        };
        let too_long = at + text.len() + ends - begin > LIMITS.2;
        if !is_field(text, is_whole) || too_long {
            return Outcome::Bad;
        }
        if found.is_err() {
            return Outcome::Unfinished;
        }
        at += text.len() + 2;
    }
}
