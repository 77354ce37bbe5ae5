//! Small texts of HTTP: percent-encoding, query strings, dates, numbers, lists and preferences.
//!
//! Follows RFC 3986 section 2.1 and the WHATWG URL form encoding (escapes, `+`), RFC 9110 sections
//! 5.6.1 (lists), 5.6.7 (dates), 12.4.2 (weights), 12.5.1 (`Accept`) and 12.5.3
//! (`Accept-Encoding`). It never allocates, and never fails on a field of a client: what makes no
//! sense is not matched.

/// Undoes percent-encoding into `out`; `+` is a space where `plus_is_space` (form encoding).
///
/// None for an incomplete or non-hexadecimal escape, for what is not UTF-8, for a control character
/// (NUL included), and for what does not fit `out`.
pub fn percent_decode<'o>(text: &[u8], plus_is_space: bool, out: &'o mut [u8]) -> Option<&'o str> {
    let mut read = 0;
    let mut len = 0;
    while let Some(&byte) = text.get(read) {
        read += 1;
        let decoded = match byte {
            b'%' => {
                let high = hex_digit(*text.get(read)?)?;
                let low = hex_digit(*text.get(read + 1)?)?;
                read += 2;
                high << 4 | low
            }
            b'+' if plus_is_space => b' ',
            plain => plain,
        };
        *out.get_mut(len)? = decoded;
        len += 1;
    }
    let decoded = core::str::from_utf8(&out[..len]).ok()?;
    (!decoded.contains(char::is_control)).then_some(decoded)
}

/// The value of a hexadecimal digit in either case.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// The pairs of a query string or a form body, raw: neither part is percent-decoded.
///
/// Pieces are split at `&`, empty ones are skipped; a piece without `=` is a key without a value.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    rest: &'a [u8],
}

impl<'a> Query<'a> {
    /// The pairs of `text`, which has no leading `?`.
    pub fn new(text: &'a [u8]) -> Query<'a> {
        Query { rest: text }
    }
}

impl<'a> Iterator for Query<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (piece, rest) = split_first(self.rest, b'&');
            self.rest = rest;
            if !piece.is_empty() {
                return Some(split_first(piece, b'='));
            }
        }
        None
    }
}

/// What stands before the first `separator`, and what stands behind it.
fn split_first(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == separator) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type HttpDate = [u8; 29];

/// The time as an IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Later than the year 9999 is the end of it: the format has four digits.
pub fn http_date(unix_seconds: u64) -> HttpDate {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"MarAprMayJunJulAugSepOctNovDecJanFeb";
    const LAST: u64 = 253_402_300_799;
    let seconds = unix_seconds.min(LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0: with leap days last, the months follow one formula.
    let since_march = days + 719_468;
    let (era, day_of_era) = (since_march / 146_097, since_march % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);

    let mut date = *b"Thu, 00 Mar 0000 00:00:00 GMT";
    let weekday = (days % 7) as usize * 3;
    date[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    put_two(&mut date, 5, day);
    let name = month as usize * 3;
    date[8..11].copy_from_slice(&MONTHS[name..name + 3]);
    put_two(&mut date, 12, year / 100);
    put_two(&mut date, 14, year % 100);
    put_two(&mut date, 17, second / 3_600);
    put_two(&mut date, 20, second / 60 % 60);
    put_two(&mut date, 23, second % 60);
    date
}

/// Two decimal digits at `at`.
fn put_two(date: &mut [u8; 29], at: usize, value: u64) {
    date[at] = b'0' + (value / 10) as u8;
    date[at + 1] = b'0' + (value % 10) as u8;
}

/// A number of 1 to 20 ASCII digits; no sign, no space. None also when it is above `u64::MAX`.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a comma-separated list field has `token` as a member, in any case.
pub fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|&byte| byte == b',')
        .any(|member| trim(member).eq_ignore_ascii_case(token.as_bytes()))
}

/// The `type/subtype` of a media type, without its parameters and the white space around it.
pub fn media_type(value: &[u8]) -> &[u8] {
    trim(split_first(value, b';').0)
}

/// How much an `Accept` field wants `media`, in thousandths; None when no range names it. Wildcards
/// do not count: they choose nothing over the default.
///
/// The best of equal ranges counts. Other parameters than `q` are ignored, and a malformed `q`
/// counts as 1. `q=0`, a refusal, is Some(0).
pub fn accepts_exactly(accept: &[u8], media: &str) -> Option<u16> {
    let (rank, thousandths) = weight(accept, media)?;
    (rank > 0).then_some(thousandths)
}

/// How much one line of `Accept` or `Accept-Encoding` wants `name`, in thousandths, behind how well
/// it names it: 1 by its name, 0 by `*`; None when it does not. The greatest of all lines counts.
#[inline(never)]
pub fn weight(list: &[u8], name: &str) -> Option<(u8, u16)> {
    let members = Unquoted {
        rest: list,
        separator: b',',
    };
    let weigh = |member| {
        let media = media_type(member);
        let is_named = media.eq_ignore_ascii_case(name.as_bytes());
        (is_named || media == b"*").then(|| (u8::from(is_named), quality(member)))
    };
    members.filter_map(weigh).max()
}

/// The `q` of one member of a preference list, in thousandths; 1000 without one.
fn quality(member: &[u8]) -> u16 {
    Unquoted {
        rest: member,
        separator: b';',
    }
    .skip(1)
    .map(|parameter| split_first(parameter, b'='))
    .find(|(name, _)| trim(name).eq_ignore_ascii_case(b"q"))
    .and_then(|(_, value)| thousandths(trim(value)))
    .unwrap_or(1000)
}

/// A weight: `0` or `1`, with up to three decimals, and no more than 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = split_first(text, b'.');
    if !matches!(whole, b"0" | b"1") || decimals.len() > 3 {
        return None;
    }
    let mut value = u16::from(whole[0] - b'0');
    for place in 0..3 {
        let digit = decimals.get(place).copied().unwrap_or(b'0');
        value = value * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
    }
    (value <= 1000).then_some(value)
}

/// The pieces of a field value between separators that stand outside quoted strings.
struct Unquoted<'a> {
    rest: &'a [u8],
    separator: u8,
}

impl<'a> Iterator for Unquoted<'a> {
    type Item = &'a [u8];

    // One copy: lists in lists, once for each head that is new.
    #[inline(never)]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.rest.iter().position(|&byte| {
            let separates = byte == self.separator && !quoted;
            quoted ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && quoted && !escaped;
            separates
        });
        let end = end.unwrap_or(self.rest.len());
        let piece = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(piece)
    }
}

/// Without the optional white space (SP, HTAB) at both ends.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &[u8], plus_is_space: bool) -> Option<String> {
        percent_decode(text, plus_is_space, &mut [0; 16]).map(String::from)
    }

    #[test]
    fn percent_decoding() {
        let good: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"cpu/temperature", "cpu/temperature"),
            (b"a%2Fb%2fc", "a/b/c"),
            (b"%e2%82%ac", "\u{20ac}"),
            (b"%25%32%35", "%25"),
            (b"a%20b+c", "a b c"),
            (b"\xc3\xa9", "\u{e9}"),
            (b"0123456789abcdef", "0123456789abcdef"),
        ];
        for (text, wanted) in good {
            assert_eq!(decoded(text, true).as_deref(), Some(*wanted), "{text:?}");
        }
        let bad: &[&[u8]] = &[
            b"%",
            b"%2",
            b"a%2",
            b"%2g",
            b"%g2",
            b"%+1",
            b"%-1",
            b"% 1",
            b"%%20",
            b"\xff",
            b"%ff",
            b"%c3",
            b"%ed%a0%80",
            b"%00",
            b"\0",
            b"%0a",
            b"%0D",
            b"\t",
            b"%7f",
            b"%c2%85",
            b"0123456789abcdefg",
        ];
        for text in bad {
            assert_eq!(decoded(text, true), None, "{text:?}");
        }
        assert_eq!(decoded(b"a+b%2B", false).as_deref(), Some("a+b+"));
    }

    #[test]
    fn query_pairs() {
        type Case = (&'static [u8], &'static [(&'static str, &'static str)]);
        let cases: &[Case] = &[
            (b"", &[]),
            (b"&&", &[]),
            (b"topics=a,b&since=", &[("topics", "a,b"), ("since", "")]),
            (b"flag&x=1=2&", &[("flag", ""), ("x", "1=2")]),
            (b"=v&a=%26", &[("", "v"), ("a", "%26")]),
        ];
        for (text, wanted) in cases {
            let pairs: Vec<_> = Query::new(text).collect();
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(k, v)| (k.as_bytes(), v.as_bytes()))
                .collect();
            assert_eq!(pairs, wanted, "{text:?}");
        }
    }

    #[test]
    fn dates() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (68_169_600, "Tue, 29 Feb 1972 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (1_763_791_234, "Sat, 22 Nov 2025 06:00:34 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, wanted) in cases {
            assert_eq!(core::str::from_utf8(&http_date(seconds)), Ok(wanted));
        }
    }

    #[test]
    fn each_day_of_four_centuries_follows_the_one_before() {
        const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let mut days = 0;
        for year in 1970..2370 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, length) in LENGTHS.iter().enumerate() {
                let length = length + u64::from(leap && month == 1);
                for day in 1..=length {
                    let name = core::str::from_utf8(&NAMES[month * 3..month * 3 + 3]).unwrap();
                    let date = http_date(days * 86_400 + 86_399);
                    let wanted = format!(", {day:02} {name} {year} 23:59:59 GMT");
                    assert_eq!(&date[3..], wanted.as_bytes());
                    days += 1;
                }
            }
        }
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"00000000000000000007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        let bad: [&[u8]; 9] = [
            b"",
            b"+1",
            b"-1",
            b" 1",
            b"1 ",
            b"1,1",
            b"0x1",
            b"18446744073709551616",
            b"000000000000000000007",
        ];
        for text in bad {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn list_members() {
        for list in [
            "close",
            "Close",
            "keep-alive, CLOSE",
            ",,close\t, x",
            " close ",
        ] {
            assert!(has_token(list.as_bytes(), "close"), "{list}");
        }
        for list in ["", ",", "closed", "clos e", "close;x", "x-close"] {
            assert!(!has_token(list.as_bytes(), "close"), "{list}");
        }
        assert_eq!(media_type(b" Text/Plain ; charset=utf-8"), b"Text/Plain");
        assert_eq!(media_type(b"application/json"), b"application/json");
        assert_eq!(media_type(b""), b"");
    }

    #[test]
    fn accept_weights() {
        let cases: &[(&str, Option<u16>)] = &[
            ("", None),
            ("text/html", None),
            ("text/event-stream", Some(1000)),
            ("Text/Event-Stream ; Q=0.5", Some(500)),
            ("*/*", None),
            ("text/*;q=0.25", None),
            ("*/plain", None),
            ("*", None),
            ("text/event-stream;q=0, */*", Some(0)),
            ("*/*, text/*;q=0.1", None),
            ("*/*;q=0.8,text/event-stream;q=0.001,text/*", Some(1)),
            ("text/event-stream;q=0.2,text/event-stream;q=0.3", Some(300)),
            ("text/event-stream;charset=utf-8;q=0.4", Some(400)),
            ("text/event-stream;a=\"x,\\\"y;q=0\";q=0.4", Some(400)),
            ("x/y;a=\"text/event-stream, ", None),
            ("text/event-stream;q=1.", Some(1000)),
            ("text/event-stream;q=0.", Some(0)),
            ("text/event-stream;q=1.000", Some(1000)),
            ("text/event-stream;q=1.001", Some(1000)),
            ("text/event-stream;q=0.0001", Some(1000)),
            ("text/event-stream;q=-1", Some(1000)),
            ("text/event-stream;q=.5", Some(1000)),
            ("text/event-stream;q", Some(1000)),
            ("text/event-stream;q=0.x", Some(1000)),
        ];
        for &(accept, exact) in cases {
            assert_eq!(
                accepts_exactly(accept.as_bytes(), "text/event-stream"),
                exact,
                "{accept}"
            );
        }
    }

    #[test]
    fn accepted_codings() {
        let cases = [
            ("gzip", Some((1, 1000))),
            ("deflate, GZIP;q=0.1", Some((1, 100))),
            ("*", Some((0, 1000))),
            ("br;q=0, *;q=0.5", Some((0, 500))),
            ("*;q=0, gzip", Some((1, 1000))),
            ("gzip;q=0.000, *", Some((1, 0))),
            ("*;q=0", Some((0, 0))),
            ("", None),
            ("br", None),
            ("identity", None),
            ("xgzip", None),
        ];
        for (field, wanted) in cases {
            assert_eq!(weight(field.as_bytes(), "gzip"), wanted, "{field}");
        }
    }

    proptest! {
        #[test]
        fn no_field_of_a_client_panics(text: Vec<u8>) {
            let mut out = [0; 64];
            if let Some(decoded) = percent_decode(&text, true, &mut out) {
                prop_assert!(decoded.len() <= text.len());
            }
            Query::new(&text).for_each(drop);
            decimal(&text);
            accepts_exactly(&text, "text/html");
            weight(&text, "gzip");
            has_token(&text, "close");
        }

        #[test]
        fn decimals_read_back(value: u64) {
            prop_assert_eq!(decimal(value.to_string().as_bytes()), Some(value));
        }
    }
}
