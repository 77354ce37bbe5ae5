//! Transcripts: what a client sends and what it must get, byte for byte, in a file a person can read.
//!
//! ```text
//! # A comment.
//! ! settings viewers=1 pages=2     counts of this world; before anything else
//! @2                               what follows is about connection 2; it begins with 1
//! > GET / HTTP/1.1\r\n             bytes to the server; lines in a row are one packet
//! >*3 abc                          the same as `> abcabcabc`
//! < retry: {2000..5000}\n          bytes from the server, all there are; numbers may be random
//! <*3 abc                          the same as `< abcabcabc`
//! < close                          the server has ended the connection
//! +15000ms                         time passes
//! ! publish cpu/load 0.5 stale     a source publishes
//! ! publish long "x*7000"          a string of 7000 times x
//! ! burst 100 busy                 a source publishes 1, 2, 3, .. 100 in one turn
//! ! wall unknown                   the wall clock is not known
//! ! stall 10                       the client reads nothing; its socket takes 10 bytes more
//! ! half-close, ! reset, ! vanish  the client ends its side; all of it; without a word
//! ! drain                          the server is told to end
//! ! roomy                          not to be played through sockets that take a few bytes only
//! ! virtual                        only a virtual world can play this
//! ! token tv abc read=a/# write=b/+,c until=+60
//!                                  there is this token, for 60 seconds more; secret and all
//! ! server read=open/# cors=http://x origins=http://y proxies=192.0.2.0/24 jsonp=open/#
//!                                  rights of this world, as in [server] and [jsonp]; lists have commas
//! @2 from 8.8.8.8                  as @2, which comes from there and not from 127.0.0.1
//! ! revoke tv                      the token stands in the configuration no longer
//! ```
//!
//! Lines are split where a reader likes: `\r`, `\n`, `\t`, `\\` and `\xNN` stand for themselves.
//! Bytes that come and are not expected fail, too.

use encke::access::{Friend, Network};
use encke::hub::event::State;
use encke::peers::Settings;

use super::world;

/// One line's meaning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Connection(usize),
    Send(Vec<u8>),
    Expect(Vec<Piece>),
    ExpectClose,
    Pass(u64),
    Act(Action),
}

/// What is done to the world, or to the connection in hand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Publish {
        topic: String,
        value: String,
        state: State,
    },
    Wall(bool),
    /// The connection in hand comes from this address.
    From(String),
    Revoke(String),
    Stall(usize),
    HalfClose,
    Reset,
    Vanish,
    Drain,
}

/// Expected bytes, or a number between two others of as many digits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    Number { from: u64, to: u64 },
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Number { from, .. } => from.to_string().len(),
        }
    }
}

/// A transcript: where it came from, and each step with its line.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    /// Whether only a world without sockets and clocks can play it.
    pub(crate) is_virtual: bool,
    /// Whether its sockets must take small answers whole.
    pub(crate) is_roomy: bool,
    /// Each step with its line.
    pub(crate) steps: Vec<(usize, Step)>,
}

fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap_or(b' ') {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap_or(b' '), rest.next().unwrap_or(b' ')];
                    let digits = core::str::from_utf8(&digits).unwrap_or_default();
                    u8::from_str_radix(digits, 16)
                        .unwrap_or_else(|_| panic!("{place}: \\x{digits}"))
                }
                other => panic!("{place}: no escape \\{}", other as char),
            },
            plain => plain,
        });
    }
    bytes
}

/// The bytes and the `{FROM..TO}` in a line.
fn pieces(text: &str, place: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, from, to, after)) = range(rest) {
        pieces.push(Piece::Bytes(unescape(before, place)));
        assert_eq!(
            from.to_string().len(),
            to.to_string().len(),
            "{place}: one width"
        );
        pieces.push(Piece::Number { from, to });
        rest = after;
    }
    pieces.push(Piece::Bytes(unescape(rest, place)));
    pieces
}

fn range(text: &str) -> Option<(&str, u64, u64, &str)> {
    text.match_indices('{').find_map(|(at, _)| {
        let (inner, after) = text[at + 1..].split_once('}')?;
        let (from, to) = inner.split_once("..")?;
        Some((&text[..at], from.parse().ok()?, to.parse().ok()?, after))
    })
}

/// `"x*7000"` stands for a string of 7000 times x.
fn filled(value: &str) -> String {
    let count = value
        .strip_prefix("\"x*")
        .and_then(|rest| rest.strip_suffix('"')?.parse().ok());
    count.map_or(value.into(), |count| format!("\"{}\"", "x".repeat(count)))
}

/// The line behind `>` or `<`, repeated if it says so.
fn payload(rest: &str, place: &str) -> String {
    match rest.strip_prefix('*') {
        Some(counted) => {
            let (count, text) = counted.split_once(' ').unwrap_or_else(|| panic!("{place}"));
            text.repeat(count.parse().unwrap_or_else(|_| panic!("{place}: {count}")))
        }
        None => rest.strip_prefix(' ').unwrap_or(rest).to_owned(),
    }
}

impl Transcript {
    pub(crate) fn parse(name: &str, text: &str) -> Transcript {
        let mut transcript = Transcript {
            name: name.to_owned(),
            settings: world::settings(),
            is_virtual: false,
            is_roomy: false,
            steps: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            let steps = transcript.line(line, &place);
            transcript
                .steps
                .extend(steps.into_iter().map(|step| (number + 1, step)));
        }
        transcript
    }

    fn line(&mut self, line: &str, place: &str) -> Vec<Step> {
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{place}: {text}"));
        let Some(kind) = line.chars().next() else {
            return Vec::new();
        };
        let rest = &line[1..];
        match kind {
            '#' => Vec::new(),
            '@' => {
                let (connection, from) = rest.split_once(" from ").unwrap_or((rest, ""));
                let from = (!from.is_empty()).then(|| self.virtual_only(Action::From(from.into())));
                let here = Step::Connection(number(connection) as usize);
                core::iter::once(here).chain(from).collect()
            }
            '>' => vec![Step::Send(unescape(&payload(rest, place), place))],
            '<' if rest == " close" => vec![Step::ExpectClose],
            '<' => vec![Step::Expect(pieces(&payload(rest, place), place))],
            '+' => vec![Step::Pass(number(rest.trim_end_matches("ms")))],
            '!' => self.action(rest.trim_start(), place),
            _ => panic!("{place}: a line begins with one of # @ > < + !"),
        }
    }

    fn action(&mut self, text: &str, place: &str) -> Vec<Step> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{place}: {text}"));
        let act = |action| vec![Step::Act(action)];
        match verb {
            "settings" => {
                rest.split(' ').for_each(|pair| self.set(pair, place));
                Vec::new()
            }
            "virtual" => {
                self.is_virtual = true;
                Vec::new()
            }
            "roomy" => {
                self.is_roomy = true;
                Vec::new()
            }
            "token" => {
                self.token(rest, place);
                Vec::new()
            }
            "server" => {
                rest.split(' ').for_each(|pair| self.rights(pair, place));
                self.is_virtual = true;
                Vec::new()
            }
            "revoke" => vec![self.virtual_only(Action::Revoke(rest.into()))],
            "publish" => {
                let (topic, rest) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}"));
                let states = [State::Stale, State::Error, State::Gone];
                let marked = states.into_iter().find_map(|state| {
                    let value = rest.strip_suffix(state.word())?.strip_suffix(' ')?;
                    Some((value, state))
                });
                let (value, state) = marked.unwrap_or((rest, State::Ok));
                act(Action::Publish {
                    topic: topic.into(),
                    value: filled(value),
                    state,
                })
            }
            "burst" => {
                let (count, topic) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}"));
                let publish = |value: u64| {
                    Step::Act(Action::Publish {
                        topic: topic.into(),
                        value: value.to_string(),
                        state: State::Ok,
                    })
                };
                (1..=number(count)).map(publish).collect()
            }
            "wall" => act(Action::Wall(rest == "known")),
            "stall" => act(Action::Stall(number(rest) as usize)),
            "half-close" => act(Action::HalfClose),
            "reset" => act(Action::Reset),
            "vanish" => act(Action::Vanish),
            "drain" => act(Action::Drain),
            _ => panic!("{place}: no such action"),
        }
    }

    fn virtual_only(&mut self, action: Action) -> Step {
        self.is_virtual = true;
        Step::Act(action)
    }

    fn token(&mut self, text: &str, place: &str) {
        self.is_virtual = true;
        let mut words = text.split(' ');
        let (Some(name), Some(secret)) = (words.next(), words.next()) else {
            panic!("{place}: a token has a name and a secret");
        };
        let mut token = world::token(name, secret, "", "");
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let patterns = || value.split(',').map(str::to_owned).collect();
            match key {
                "read" => token.grant.read = patterns(),
                "write" => token.grant.write = patterns(),
                "until" => {
                    let left_s: u64 = value.parse().unwrap_or_else(|_| panic!("{place}: {value}"));
                    token.grant.until_s = Some(world::EPOCH_MS / 1000 + left_s);
                }
                _ => panic!("{place}: a token has no {key}"),
            }
        }
        self.settings.policy.tokens.push(token);
    }

    fn rights(&mut self, pair: &str, place: &str) {
        let (key, value) = pair
            .split_once('=')
            .unwrap_or_else(|| panic!("{place}: {pair}"));
        let list: Vec<String> = value.split_terminator(',').map(str::to_owned).collect();
        let policy = &mut self.settings.policy;
        match key {
            "read" => policy.read = list,
            "cors" => policy.friends = Friend::all(&["http://friend.example".into()], &list),
            "origins" => policy.friends = Friend::all(&list, &[]),
            "jsonp" => policy.jsonp = list,
            "proxies" => policy.proxies = list.iter().filter_map(|n| Network::parse(n)).collect(),
            _ => panic!("{place}: [server] has no {key} here"),
        }
    }

    fn set(&mut self, pair: &str, place: &str) {
        let (key, value) = pair
            .split_once('=')
            .unwrap_or_else(|| panic!("{place}: {pair}"));
        let number: u64 = value.parse().unwrap_or_else(|_| panic!("{place}: {pair}"));
        match key {
            "viewers" => self.settings.viewers = number as u32,
            "pages" => self.settings.pages = number as u16,
            "ring" => self.settings.ring_bytes = number as usize,
            "topics" => self.settings.topics = number as usize,
            "pictures" => {
                self.settings.pictures = number as usize;
                self.is_virtual = true;
            }
            "picture_bytes" => {
                self.settings.picture_bytes = number as usize;
                self.is_virtual = true;
            }
            "heartbeat" => self.settings.heartbeat_ms = number,
            "per_address" => self.settings.policy.per_address = number as u32,
            "proxy" if number == 1 => self.settings.policy.proxies = world::a_proxy(),
            _ => panic!("{place}: no setting {key}"),
        }
    }

    /// Whether a server on real sockets and a real clock can play this.
    pub(crate) fn is_real(&self) -> bool {
        let virtual_only = |step: &Step| match step {
            Step::Pass(_) => true,
            Step::Act(Action::Publish { state, .. }) => *state != State::Ok,
            Step::Act(Action::HalfClose | Action::Reset) => false,
            Step::Act(_) => true,
            _ => false,
        };
        !self.is_virtual && !self.steps.iter().any(|(_, step)| virtual_only(step))
    }
}
