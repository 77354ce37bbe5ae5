//! Tokens: a name and a secret, known by the secret's SHA-256 (FIPS 180-4), and what each may read
//! and write.
//!
//! One comes as `Authorization: Bearer` (RFC 6750 section 2.1), as the password of `Basic` (RFC
//! 7617 section 2), or as the cookie that `POST /session` sets (RFC 6265 section 4). It is
//! `NAME.SECRET`, or the secret alone. It is compared by its hash, in constant time; no secret is
//! kept, and none is ever said again.

use sha2::{Digest, Sha256};

use crate::hub::event::Time;
use crate::hub::readers::{Grant, Reader};
use crate::limits::CREDENTIAL_BYTES_MAX;
use crate::wire::request::Head;
use crate::wire::text::trim;
use crate::wire::{Kind, Refusal};

/// Whether a token is any good now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is.
    Valid,
    /// Its end has come.
    Ended,
    /// It has an end, and what time it is, is not known.
    Untimed,
    /// It stands in the configuration no longer.
    Removed,
}

/// A token as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is called, `[A-Za-z0-9_-]`, and what it is for.
    pub grant: Grant,
    /// SHA-256 of its secret.
    pub sha256: [u8; 32],
    /// Whether it counts now.
    pub validity: Validity,
}

impl Token {
    /// What it is worth at this time.
    pub fn at(&self, time: Time) -> Validity {
        match (self.validity, self.grant.until_s, time) {
            (Validity::Removed, ..) => Validity::Removed,
            (_, None, _) => Validity::Valid,
            (_, Some(_), Time::Uptime(_)) => Validity::Untimed,
            (_, Some(until_s), Time::Wall(ms)) if ms / 1000 < until_s => Validity::Valid,
            (_, Some(_), Time::Wall(_)) => Validity::Ended,
        }
    }

    fn is(&self, hash: &[u8; 32]) -> bool {
        // All of it is looked at, whatever differs.
        let pairs = self.sha256.iter().zip(hash);
        let differing = pairs.fold(0, |differing, (a, b)| differing | (a ^ b));
        core::hint::black_box(differing) == 0
    }
}

/// What a request shows, and how.
pub(super) struct Credential {
    text: heapless::Vec<u8, CREDENTIAL_BYTES_MAX>,
    is_cookie: bool,
}

/// The name of the cookie.
pub const COOKIE: &str = "encke";

const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"Encke\"\r\n";
/// As `CHALLENGE`, and the browser forgets the cookie: else it would be refused for ever.
const CHALLENGE_AND_FORGET: &str = "WWW-Authenticate: Bearer realm=\"Encke\"\r\n\
     Set-Cookie: encke=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict\r\n";

const WRONG: Refusal = Refusal::new(
    401,
    "this token is not known here; it is NAME.SECRET as `encke token NAME` printed it, and its line stands in the configuration",
)
.fields(CHALLENGE)
.kind(Kind::Guess);

const ENDED: Refusal = Refusal::new(
    401,
    "this token has ended: its until in [[token]] is over; `encke token NAME` makes a new one",
)
.fields(CHALLENGE)
.kind(Kind::Token);

const UNTIMED: Refusal = Refusal::new(
    401,
    "this token has an end, and what time it is is not known yet: set the clock, or take until out of its [[token]]",
)
.fields(CHALLENGE)
.kind(Kind::Token);

const MALFORMED: Refusal = Refusal::new(
    401,
    "Authorization is Bearer NAME.SECRET, or Basic with that as the password",
)
.fields(CHALLENGE)
.kind(Kind::Token);

/// The password in what `Basic` carries.
fn password(text: &[u8]) -> Option<heapless::Vec<u8, CREDENTIAL_BYTES_MAX>> {
    let mut decoded = [0; CREDENTIAL_BYTES_MAX];
    let bytes = data_encoding::BASE64.decode_len(text.len()).ok()?;
    let room = decoded.get_mut(..bytes)?;
    let bytes = data_encoding::BASE64.decode_mut(text, room).ok()?;
    let decoded = &decoded[..bytes];
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    heapless::Vec::from_slice(&decoded[colon + 1..]).ok()
}

fn authorization(value: &[u8]) -> Option<heapless::Vec<u8, CREDENTIAL_BYTES_MAX>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&value[..space], trim(&value[space..]));
    if scheme.eq_ignore_ascii_case(b"bearer") {
        heapless::Vec::from_slice(rest)
            .ok()
            .filter(|text| !text.is_empty())
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        password(rest)
    } else {
        None
    }
}

/// The value of our cookie.
fn cookie<'b>(head: &Head<'b>) -> Option<&'b [u8]> {
    let pairs = head
        .fields("cookie")
        .flat_map(|list| list.split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let rest = trim(pair).strip_prefix(COOKIE.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    values.next()
}

impl Credential {
    /// What a request shows; `None` for nothing.
    ///
    /// # Errors
    /// 401 for an Authorization that is none.
    pub(super) fn of(head: &Head<'_>) -> Result<Option<Credential>, Refusal> {
        let mut fields = head.fields("authorization");
        if let Some(value) = fields.next() {
            let text = match fields.next() {
                None => authorization(value),
                Some(_) => None,
            };
            let text = text.ok_or(MALFORMED)?;
            return Ok(Some(Credential {
                text,
                is_cookie: false,
            }));
        }
        let Some(value) = cookie(head) else {
            return Ok(None);
        };
        // What is too long to be ours is none of ours.
        let text = heapless::Vec::from_slice(value).unwrap_or_default();
        Ok(Some(Credential {
            text,
            is_cookie: true,
        }))
    }

    /// Which of the tokens it is.
    pub(super) fn check(&self, tokens: &[Token]) -> Result<Reader, Refusal> {
        let wrong = find(&self.text, tokens);
        wrong.map_err(|refusal| match self.is_cookie {
            true => refusal.fields(CHALLENGE_AND_FORGET),
            false => refusal,
        })
    }
}

/// Which of the tokens `NAME.SECRET`, or the secret alone, is.
///
/// # Errors
/// 401: it is none of them, or no longer, or not yet.
pub fn find(text: &[u8], tokens: &[Token]) -> Result<Reader, Refusal> {
    // One that was taken out is kept only so that the numbers of others stay: another may have its
    // name, or its secret, by now.
    let is_there = |token: &Token| token.validity != Validity::Removed;
    let dot = text.iter().position(|byte| *byte == b'.');
    let named = dot.and_then(|dot| {
        let name = &text[..dot];
        let is_it = |token: &Token| is_there(token) && token.grant.name.as_bytes() == name;
        let at = tokens.iter().position(is_it);
        at.map(|at| (at, &text[dot + 1..]))
    });
    let hash = |secret: &[u8]| <[u8; 32]>::from(Sha256::digest(secret));
    let found = match named {
        Some((at, secret)) if tokens[at].is(&hash(secret)) => Some(at),
        _ => {
            let hash = hash(text);
            tokens
                .iter()
                .position(|token| is_there(token) && token.is(&hash))
        }
    };
    let at = found.ok_or(WRONG)?;
    match tokens[at].validity {
        Validity::Valid => Ok(Reader::token(at)),
        Validity::Ended => Err(ENDED),
        Validity::Untimed => Err(UNTIMED),
        Validity::Removed => Err(WRONG),
    }
}

/// How often somebody may be wrong before the next try has to wait.
const FREE_GUESSES: u32 = 5;
/// How long the first wait is; each next one is twice as long, up to `2^WAIT_DOUBLINGS` times.
const WAIT_MS: u64 = 1_000;
const WAIT_DOUBLINGS: u32 = 8;
/// After this without another wrong one nothing is held against an address.
const FORGET_MS: u64 = 600_000;
/// Addresses that are remembered; the longest quiet one gives way.
const GUESSERS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Guesser {
    owner: u64,
    guesses: u32,
    last_ms: u64,
}

impl Guesser {
    fn waits_until_ms(&self) -> u64 {
        match self.guesses.checked_sub(FREE_GUESSES) {
            None => 0,
            Some(more) => self.last_ms + (WAIT_MS << more.min(WAIT_DOUBLINGS)),
        }
    }
}

/// Who has shown wrong tokens lately, by the owner of the address.
#[derive(Debug, Default)]
pub struct Guessers(heapless::Vec<Guesser, GUESSERS>);

impl Guessers {
    /// Whether nobody has.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the next try has to wait; milliseconds until it may come.
    pub fn wait_ms(&self, owner: u64, now_ms: u64) -> Option<u64> {
        let guesser = self.0.iter().find(|guesser| guesser.owner == owner)?;
        let until_ms = guesser.waits_until_ms();
        (until_ms > now_ms).then(|| until_ms - now_ms)
    }

    /// Somebody was wrong.
    pub fn note(&mut self, owner: u64, now_ms: u64) {
        self.0
            .retain(|guesser| guesser.last_ms + FORGET_MS > now_ms);
        if let Some(guesser) = self.0.iter_mut().find(|guesser| guesser.owner == owner) {
            guesser.guesses += 1;
            guesser.last_ms = now_ms;
            return;
        }
        if self.0.is_full() {
            let quiet = self
                .0
                .iter()
                .enumerate()
                .min_by_key(|(_, guesser)| guesser.last_ms);
            if let Some((at, _)) = quiet {
                self.0.swap_remove(at);
            }
        }
        let guesser = Guesser {
            owner,
            guesses: 1,
            last_ms: now_ms,
        };
        let _ = self.0.push(guesser);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: &str) -> Token {
        Token {
            grant: Grant {
                name: name.to_owned(),
                ..Grant::default()
            },
            sha256: Sha256::digest(secret).into(),
            validity: Validity::Valid,
        }
    }

    fn shown(fields: &str) -> Result<Option<usize>, u16> {
        let tokens = [token("phone", "s3cret"), token("tv", "other.with.dots")];
        let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap();
        let credential = Credential::of(&head).map_err(|refusal| refusal.status)?;
        let Some(credential) = credential else {
            return Ok(None);
        };
        let reader = credential
            .check(&tokens)
            .map_err(|refusal| refusal.status)?;
        Ok(reader.as_token())
    }

    #[test]
    fn what_is_shown() {
        let basic = |text: &str| {
            let mut encoded = vec![0; data_encoding::BASE64.encode_len(text.len())];
            data_encoding::BASE64.encode_mut(text.as_bytes(), &mut encoded);
            format!(
                "Authorization: Basic {}\r\n",
                String::from_utf8(encoded).unwrap()
            )
        };
        for (fields, want) in [
            ("", Ok(None)),
            ("Authorization: Bearer phone.s3cret\r\n", Ok(Some(0))),
            ("Authorization: bearer  s3cret\r\n", Ok(Some(0))),
            ("Authorization: Bearer tv.other.with.dots\r\n", Ok(Some(1))),
            ("Authorization: Bearer other.with.dots\r\n", Ok(Some(1))),
            ("Authorization: Bearer tv.s3cret\r\n", Err(401)),
            ("Authorization: Bearer phone.\r\n", Err(401)),
            ("Authorization: Bearer phone\r\n", Err(401)),
            ("Authorization: Bearer\r\n", Err(401)),
            ("Authorization: Digest x\r\n", Err(401)),
            (
                "Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret\r\n",
                Err(401),
            ),
            (&basic("anybody:phone.s3cret"), Ok(Some(0))),
            (&basic(":s3cret"), Ok(Some(0))),
            (&basic("phone:s3cre"), Err(401)),
            (&basic("s3cret"), Err(401)),
            ("Authorization: Basic !!!\r\n", Err(401)),
            ("Cookie: a=b; encke=phone.s3cret; c=d\r\n", Ok(Some(0))),
            ("Cookie: a=b\r\nCookie: encke=phone.s3cret\r\n", Ok(Some(0))),
            ("Cookie: encke=phone.s3cre\r\n", Err(401)),
            ("Cookie: encke=\r\n", Err(401)),
            ("Cookie: encked=phone.s3cret; notencke=1\r\n", Ok(None)),
            (
                "Authorization: Bearer no\r\nCookie: encke=phone.s3cret\r\n",
                Err(401),
            ),
        ] {
            assert_eq!(shown(fields), want, "{fields}");
        }
        for (bytes, want) in [
            (CREDENTIAL_BYTES_MAX, Err(401)),
            (CREDENTIAL_BYTES_MAX + 1, Err(401)),
        ] {
            let long = "x".repeat(bytes);
            assert_eq!(shown(&format!("Cookie: encke={long}\r\n")), want);
            assert_eq!(shown(&format!("Authorization: Bearer {long}\r\n")), want);
            assert_eq!(shown(&basic(&format!("a:{long}"))), want);
        }
    }

    #[test]
    fn the_longest_token_counts() {
        let secret = "x".repeat(CREDENTIAL_BYTES_MAX - 2);
        let tokens = [token("t", &secret)];
        assert_eq!(
            find(format!("t.{secret}").as_bytes(), &tokens),
            Ok(Reader::token(0))
        );
    }

    #[test]
    fn another_secret_of_the_same_name_counts() {
        let old = Token {
            validity: Validity::Removed,
            ..token("t", "old")
        };
        let tokens = [old, token("t", "new")];
        for (text, want) in [
            ("t.new", Ok(Reader::token(1))),
            ("new", Ok(Reader::token(1))),
            ("t.old", Err(WRONG)),
            ("old", Err(WRONG)),
        ] {
            assert_eq!(find(text.as_bytes(), &tokens), want, "{text}");
        }
    }

    #[test]
    fn a_token_ends() {
        let mut ends = token("t", "s");
        ends.grant.until_s = Some(100);
        for (time, want) in [
            (Time::Wall(99_999), Validity::Valid),
            (Time::Wall(100_000), Validity::Ended),
            (Time::Uptime(1), Validity::Untimed),
        ] {
            assert_eq!(ends.at(time), want);
        }
        for (validity, want) in [
            (Validity::Valid, Ok(Reader::token(0))),
            (Validity::Ended, Err(ENDED)),
            (Validity::Untimed, Err(UNTIMED)),
            (Validity::Removed, Err(WRONG)),
        ] {
            let tokens = [Token {
                validity,
                ..ends.clone()
            }];
            assert_eq!(find(b"t.s", &tokens), want);
        }
    }

    #[test]
    fn one_that_was_taken_out_is_not_in_the_way_of_its_name_or_its_secret() {
        let removed = |name, secret| Token {
            validity: Validity::Removed,
            ..token(name, secret)
        };
        let tokens = [
            removed("phone", "old"),
            token("phone", "new"),
            removed("tv", "same"),
            token("tablet", "same"),
        ];
        for (text, want) in [
            ("phone.new", Ok(Reader::token(1))),
            ("new", Ok(Reader::token(1))),
            ("tablet.same", Ok(Reader::token(3))),
            ("same", Ok(Reader::token(3))),
            ("phone.old", Err(WRONG)),
            ("tv.same", Err(WRONG)),
        ] {
            assert_eq!(find(text.as_bytes(), &tokens), want, "{text}");
        }
    }

    #[test]
    fn guesses_cost_time() {
        let mut guessers = Guessers::default();
        for ms in 0..4 {
            guessers.note(7, ms);
            assert_eq!(guessers.wait_ms(7, ms), None);
        }
        guessers.note(7, 100);
        assert_eq!(guessers.wait_ms(7, 100), Some(1_000));
        assert_eq!(guessers.wait_ms(7, 1_100), None);
        assert_eq!(guessers.wait_ms(8, 100), None);
        guessers.note(7, 2_000);
        assert_eq!(guessers.wait_ms(7, 2_000), Some(2_000));
        for _ in 0..100 {
            guessers.note(7, 2_000);
        }
        assert_eq!(guessers.wait_ms(7, 2_000), Some(256_000));
        // Quiet for ten minutes, and forgotten.
        guessers.note(9, 602_000);
        assert_eq!((guessers.0.len(), guessers.wait_ms(7, 602_000)), (1, None));
        for owner in 10..10 + GUESSERS as u64 {
            guessers.note(owner, 602_000 + owner);
        }
        assert_eq!(guessers.0.len(), GUESSERS);
        assert!(guessers.0.iter().all(|guesser| guesser.owner != 9));
    }
}
