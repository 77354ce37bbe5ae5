//! Which readings there are and in which state, and what is said of a change: once, not per read.
//!
//! DESIGN.md 3 "Events" has the states. Readings that are there from the start are not spoken of;
//! the start itself tells them. A sensor with a loose wire changes without end, so in each
//! `WINDOW_MS` only so much is said. It holds what is there and forgets what is gone.

use crate::by_name::ByName;
use crate::hub::event::State;
use crate::log::{self, Level};

/// What is found within this time is there from the start.
const START_MS: u64 = 15_000;
const WINDOW_MS: u64 = 600_000;
const LINES_PER_WINDOW: u32 = 20;

/// The readings that there are.
#[derive(Debug)]
pub(super) struct Roll {
    states: ByName<State>,
    started_ms: u64,
    window_ms: u64,
    said: u32,
}

impl Roll {
    /// Nothing is there yet.
    pub(super) fn new(now_ms: u64) -> Roll {
        Roll {
            states: ByName::default(),
            started_ms: now_ms + START_MS,
            window_ms: now_ms + WINDOW_MS,
            said: 0,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.states.len()
    }

    /// Takes down a reading, and says what has changed if that is worth saying.
    pub(super) fn hear(&mut self, topic: &str, state: State, now_ms: u64) {
        let before = self.states.find(topic).copied();
        if state == State::Gone {
            self.states.remove(topic);
        } else {
            *self.states.find_or_add(topic, || state) = state;
        }
        let Some((level, what)) = change(before, state, now_ms < self.started_ms) else {
            return;
        };
        match self.count_line(now_ms) {
            LINES_PER_WINDOW => log::warning(format_args!(
                "sensors change very often; nothing more about them for some minutes"
            )),
            count if count < LINES_PER_WINDOW => log::say(level, format_args!("{topic} {what}")),
            _ => {}
        }
    }

    /// Which line of its window the next one is, from 0.
    fn count_line(&mut self, now_ms: u64) -> u32 {
        if now_ms >= self.window_ms {
            self.window_ms = now_ms + WINDOW_MS;
            self.said = 0;
        }
        self.said = self.said.saturating_add(1);
        self.said - 1
    }
}

/// What to say of a reading that was in state `before`, if it was there, and is in `now`.
fn change(before: Option<State>, now: State, is_start: bool) -> Option<(Level, &'static str)> {
    match (before, now) {
        (Some(before), now) if before == now => None,
        (None, State::Ok) if is_start => None,
        (None, State::Ok) => Some((Level::Notice, "is there")),
        (Some(_), State::Ok) => Some((Level::Notice, "can be read again")),
        (Some(_), State::Stale) => Some((Level::Warning, "is not refreshed any more")),
        (_, State::Error) => Some((Level::Warning, "cannot be read")),
        (None, State::Stale | State::Gone) => None,
        (Some(_), State::Gone) => Some((Level::Notice, "is gone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_spoken_of_once() {
        use State::{Error, Gone, Ok, Stale};
        for (before, now, is_start, want) in [
            (None, Ok, true, None),
            (None, Ok, false, Some("is there")),
            (None, Error, true, Some("cannot be read")),
            (None, Gone, false, None),
            (None, Stale, false, None),
            (Some(Ok), Ok, false, None),
            (Some(Ok), Stale, false, Some("is not refreshed any more")),
            (Some(Stale), Error, false, Some("cannot be read")),
            (Some(Error), Error, false, None),
            (Some(Error), Ok, true, Some("can be read again")),
            (Some(Ok), Gone, false, Some("is gone")),
        ] {
            let said = change(before, now, is_start).map(|(_, what)| what);
            assert_eq!(said, want, "{before:?} {now:?} {is_start}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut roll = Roll::new(0);
        roll.hear("a", State::Ok, 1);
        roll.hear("b", State::Ok, 1);
        roll.hear("a", State::Gone, 2);
        roll.hear("never/there", State::Gone, 2);
        assert_eq!(roll.count(), 1);
    }

    #[test]
    fn a_window_has_so_many_lines() {
        let mut roll = Roll::new(0);
        let first: Vec<_> = (0..=LINES_PER_WINDOW).map(|_| roll.count_line(1)).collect();
        assert_eq!(first, (0..=LINES_PER_WINDOW).collect::<Vec<_>>());
        assert_eq!(roll.count_line(WINDOW_MS - 1), LINES_PER_WINDOW + 1);
        assert_eq!(roll.count_line(WINDOW_MS), 0);
    }
}
