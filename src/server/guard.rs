//! What was refused, said in the log: by kind, with how often and for whom, once a minute at most.
//!
//! RFC 9110 has no word on it; `wire::KINDS` has the kinds. Requests that are merely malformed are
//! not spoken of. What a request says never stands here, so no secret can: numbers, addresses, and
//! what to do about it. While nothing is refused it costs one comparison a turn.

use core::net::IpAddr;

use crate::access::UNKNOWN;
use crate::log::{self, Level};
use crate::wire::KINDS;

/// Between two lines of a kind.
const PAUSE_MS: u64 = 60_000;

type Counts = [u64; KINDS.len()];

/// What is said of one kind.
struct Words {
    /// Its name in `KINDS`.
    kind: &'static str,
    level: Level,
    /// Behind "1 " and "7 ", each.
    one: &'static str,
    many: &'static str,
    /// What can be done about it.
    advice: &'static str,
}

const WORDS: [Words; KINDS.len() - 1] = [
    Words {
        kind: "slow",
        level: Level::Notice,
        one: "request was not whole in time",
        many: "requests were not whole in time",
        advice: "a very slow network, or somebody who only keeps connections busy",
    },
    Words {
        kind: "host",
        level: Level::Notice,
        one: "request was refused: its Host is not a name of this board",
        many: "requests were refused: their Host is not a name of this board",
        advice: "hosts in [server] adds a name",
    },
    Words {
        kind: "origin",
        level: Level::Notice,
        one: "request was refused: a page of another site sent it",
        many: "requests were refused: pages of other sites sent them",
        advice: "origins in [server] adds a site whose pages may",
    },
    Words {
        kind: "read",
        level: Level::Notice,
        one: "request was refused: it may not read that",
        many: "requests were refused: they may not read that",
        advice: "a token lets in whoever is to read: encke token NAME",
    },
    Words {
        kind: "write",
        level: Level::Notice,
        one: "request was refused: it may not write that",
        many: "requests were refused: they may not write that",
        advice: "a token lets in whoever is to write: encke token NAME",
    },
    Words {
        kind: "token",
        level: Level::Notice,
        one: "request was refused: its token has ended, or is none",
        many: "requests were refused: their token has ended, or is none",
        advice: "until in [[token]] says when one ends; encke token NAME makes another",
    },
    Words {
        kind: "guess",
        level: Level::Warning,
        one: "token was wrong",
        many: "tokens were wrong",
        advice: "an old one, or somebody who guesses; who is wrong 5 times has to wait",
    },
    Words {
        kind: "wait",
        level: Level::Warning,
        one: "request has to wait: too many wrong tokens came from its address",
        many: "requests have to wait: too many wrong tokens came from their address",
        advice: "right ones count again after the wait, of 256 seconds at most",
    },
    Words {
        kind: "address",
        level: Level::Warning,
        one: "connection was refused: its address has too many",
        many: "connections were refused: their address has too many",
        advice: "per_address in [limits] allows more",
    },
    Words {
        kind: "full",
        level: Level::Warning,
        one: "request or connection found no room",
        many: "requests or connections found no room",
        advice: "viewers and pages in [limits] make room",
    },
];

impl Words {
    fn line(&self, count: u64, last: IpAddr) -> String {
        let what = if count == 1 { self.one } else { self.many };
        let from = match last {
            UNKNOWN => String::new(),
            last => format!(" (last from {})", last.to_canonical()),
        };
        format!("{count} {what}{from}; {}", self.advice)
    }

    fn kind(&self) -> usize {
        let at = KINDS.iter().position(|kind| *kind == self.kind);
        at.expect("a test finds each")
    }
}

/// What was refused and what of that was said.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// All that was looked at.
    seen: Counts,
    seen_total: u64,
    /// All that was said.
    said: Counts,
    /// When the next line of a kind may come.
    from_ms: Counts,
    /// When there is something to say; 0 for nothing.
    due_ms: u64,
}

impl Guard {
    /// When to look again though nothing more was refused, in milliseconds; `u64::MAX` for never.
    pub(super) fn due_ms(&self) -> u64 {
        match self.due_ms {
            0 => u64::MAX,
            due_ms => due_ms,
        }
    }

    /// Says what is to be said of so many refusals since the start, by kind, and the last address
    /// of each.
    #[inline]
    pub(super) fn look(&mut self, counts: &Counts, last: &[IpAddr; KINDS.len()], now_ms: u64) {
        // Looked at in each turn: their sum says as much as all of them, and costs less.
        if counts.iter().sum::<u64>() != self.seen_total || now_ms >= self.due_ms() {
            self.tell(counts, last, now_ms, log::say);
        }
    }

    #[cold]
    fn tell(
        &mut self,
        counts: &Counts,
        last: &[IpAddr; KINDS.len()],
        now_ms: u64,
        mut say: impl FnMut(Level, core::fmt::Arguments<'_>),
    ) {
        self.seen = *counts;
        self.seen_total = counts.iter().sum();
        self.due_ms = 0;
        for words in &WORDS {
            let kind = words.kind();
            let count = counts[kind] - self.said[kind];
            if count == 0 {
                continue;
            }
            if now_ms >= self.from_ms[kind] {
                say(
                    words.level,
                    format_args!("{}", words.line(count, last[kind])),
                );
                self.said[kind] = counts[kind];
                self.from_ms[kind] = now_ms + PAUSE_MS;
            } else {
                self.due_ms = self.due_ms().min(self.from_ms[kind]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Kind;
    use core::net::Ipv4Addr;

    const HERE: [IpAddr; KINDS.len()] = [IpAddr::V4(Ipv4Addr::new(192, 168, 1, 9)); KINDS.len()];

    fn told(guard: &mut Guard, counts: &Counts, now_ms: u64) -> Vec<String> {
        let mut said = Vec::new();
        if *counts != guard.seen || now_ms >= guard.due_ms() {
            guard.tell(counts, &HERE, now_ms, |_, line| said.push(line.to_string()));
        }
        said
    }

    #[test]
    fn each_kind_but_the_malformed_has_its_words() {
        let kinds: Vec<&str> = WORDS.iter().map(|words| words.kind).collect();
        assert_eq!((KINDS[0], &kinds[..]), ("request", &KINDS[1..]));
        for words in &WORDS {
            assert_eq!(KINDS[words.kind()], words.kind);
            for count in [1, 2] {
                let line = words.line(count, HERE[0]);
                assert!(
                    line.starts_with(&format!("{count} ")) && line.is_ascii(),
                    "{line}"
                );
                assert!(line.contains(" (last from 192.168.1.9); "), "{line}");
            }
            assert!(!words.line(1, UNKNOWN).contains("(last"));
        }
        let host = &WORDS[Kind::Host as usize - 1];
        assert_eq!(
            host.line(3, "::ffff:192.168.1.9".parse().unwrap()),
            "3 requests were refused: their Host is not a name of this board (last from \
             192.168.1.9); hosts in [server] adds a name"
        );
        assert!(
            host.line(1, UNKNOWN)
                .starts_with("1 request was refused: its Host is not")
        );
    }

    #[test]
    fn a_kind_is_spoken_of_once_a_minute_with_all_since_the_last_time() {
        let (mut guard, mut counts) = (Guard::default(), Counts::default());
        assert_eq!(
            (guard.due_ms(), told(&mut guard, &counts, 5)),
            (u64::MAX, vec![])
        );
        counts[Kind::Guess as usize] = 1;
        let said = told(&mut guard, &counts, 1_000);
        assert!(
            said.len() == 1 && said[0].starts_with("1 token was wrong (last "),
            "{said:?}"
        );
        assert_eq!(
            (guard.due_ms(), told(&mut guard, &counts, 2_000)),
            (u64::MAX, vec![])
        );

        counts[Kind::Guess as usize] = 900;
        assert_eq!(told(&mut guard, &counts, 3_000), [""; 0]);
        counts[Kind::Guess as usize] = 1_001;
        assert_eq!(told(&mut guard, &counts, 60_999), [""; 0]);
        assert_eq!(guard.due_ms(), 61_000, "though nobody asks any more");
        // Another kind does not wait for this one.
        counts[Kind::Write as usize] = 2;
        let said = told(&mut guard, &counts, 60_999);
        assert!(
            said.len() == 1 && said[0].starts_with("2 requests were refused: they may not write")
        );
        let said = told(&mut guard, &counts, 61_000);
        assert!(
            said.len() == 1 && said[0].starts_with("1000 tokens were wrong"),
            "{said:?}"
        );
        assert_eq!(
            (guard.due_ms(), told(&mut guard, &counts, 900_000)),
            (u64::MAX, vec![])
        );
        counts[Kind::Guess as usize] += 1;
        assert_eq!(
            told(&mut guard, &counts, 900_000).len(),
            1,
            "at once after a pause"
        );
    }

    #[test]
    fn malformed_requests_are_not_spoken_of() {
        let (mut guard, mut counts) = (Guard::default(), Counts::default());
        counts[Kind::Request as usize] = 1_000_000;
        assert_eq!(
            (told(&mut guard, &counts, 1), guard.due_ms()),
            (vec![], u64::MAX)
        );
    }

    #[test]
    fn all_kinds_at_once_are_a_line_each() {
        let (mut guard, counts) = (Guard::default(), [7; KINDS.len()]);
        assert_eq!(told(&mut guard, &counts, 1).len(), WORDS.len());
    }
}
