//! Percent-encoding, query strings and numbers: what naive decoders make of them.

use encke::wire::text::{
    Query, accepts_exactly, decimal, has_token, media_type, percent_decode, weight,
};

pub(crate) fn check(input: &[u8]) {
    let (&first, text) = input.split_first().unwrap_or((&0, &[]));
    let plus_is_space = first & 1 == 1;
    for room in [usize::from(first >> 1), text.len(), 2 * text.len() + 1] {
        let mut out = vec![0; room];
        let ours = percent_decode(text, plus_is_space, &mut out).map(String::from);
        let wanted = decoded(text, plus_is_space).filter(|text| text.len() <= room);
        assert_eq!(ours, wanted, "into {room} bytes");
    }
    let pairs: Vec<_> = Query::new(text).collect();
    assert_eq!(pairs, split(text));
    let digits = std::str::from_utf8(text).unwrap_or("x");
    let are_digits = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits
        .parse::<u128>()
        .ok()
        .and_then(|n| u64::try_from(n).ok());
    assert_eq!(decimal(text), number.filter(|_| are_digits));
    let coding = weight(text, "gzip");
    assert!(coding.is_none_or(|(rank, weight)| rank <= 1 && weight <= 1000));
    assert!(accepts_exactly(text, "text/html").is_none_or(|weight| weight <= 1000));
    let members = text.split(|byte| *byte == b',');
    let has_close = { members }.any(|one| trimmed(one).eq_ignore_ascii_case("close"));
    assert_eq!(has_token(text, "close"), has_close);
    let before = text.split(|byte| *byte == b';').next().unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(media_type(text)), trimmed(before));
}

fn trimmed(text: &[u8]) -> String {
    let is_space = |c| c == ' ' || c == '\t';
    String::from_utf8_lossy(text)
        .trim_matches(is_space)
        .to_owned()
}

fn decoded(text: &[u8], plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pieces = text.split(|byte| *byte == b'%');
    let plain = |piece: &[u8]| -> Vec<u8> {
        let space = |byte: &u8| {
            if plus_is_space && *byte == b'+' {
                b' '
            } else {
                *byte
            }
        };
        piece.iter().map(space).collect()
    };
    bytes.extend(plain(pieces.next()?));
    for piece in pieces {
        let escape = std::str::from_utf8(piece.get(..2)?).ok()?;
        if !escape.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(escape, 16).ok()?);
        bytes.extend(plain(&piece[2..]));
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

fn split(text: &[u8]) -> Vec<(&[u8], &[u8])> {
    let pieces = text
        .split(|byte| *byte == b'&')
        .filter(|piece| !piece.is_empty());
    let pair = |piece| {
        let mut halves = <[u8]>::splitn(piece, 2, |byte| *byte == b'=');
        let key = halves.next().unwrap_or_default();
        (key, halves.next().unwrap_or_default())
    };
    pieces.map(pair).collect()
}
