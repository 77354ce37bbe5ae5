//! What the service manager is told: that we are ready, alive, reloading or stopping, and how it
//! goes.
//!
//! sd_notify(3), sd_watchdog_enabled(3), systemd.service(5). It is told from the loop, so a loop
//! that hangs falls silent by itself; it is fed only while the sources go on too. Without
//! `NOTIFY_SOCKET` there is no deadline and no work. It never waits for an answer.

use std::env;

use sd_notify::NotifyState;

use crate::log;

/// How often the status is looked at when no watchdog is to be fed.
const STATUS_MS: u64 = 60_000;

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Notify {
    /// Time between two messages: half of what the watchdog allows.
    period_ms: u64,
    feeds: bool,
    /// The next message; `u64::MAX` when nobody listens.
    due_ms: u64,
    is_ready: bool,
    /// How often in a row the sensors were found without progress.
    misses: u32,
    status: String,
    send: fn(&[NotifyState<'_>]) -> std::io::Result<()>,
}

/// How soon a sign of life that was held back is tried again.
const MISSED_MS: u64 = 1000;
/// So many in a row are spoken of.
const MISSES_SAID: u32 = 3;

impl Notify {
    /// As the environment says; the first message is due at once.
    pub(super) fn new() -> Notify {
        let watchdog = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let half_ms = watchdog.map(|limit| (limit.as_millis() / 2).max(1) as u64);
        let is_wanted = env::var_os("NOTIFY_SOCKET").is_some();
        Notify {
            period_ms: half_ms.unwrap_or(STATUS_MS),
            feeds: half_ms.is_some(),
            due_ms: if is_wanted { 0 } else { u64::MAX },
            is_ready: false,
            misses: 0,
            status: String::new(),
            send: sd_notify::notify,
        }
    }

    /// When `tell` is due, in milliseconds; `u64::MAX` for never.
    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Says that we are ready, once; that we are alive, if we are; and `status`, if it is new.
    pub(super) fn tell(&mut self, now_ms: u64, is_alive: bool, status: String) {
        if now_ms < self.due_ms {
            return;
        }
        self.due_ms = now_ms + self.period_ms;
        if self.feeds && is_alive {
            if self.misses >= MISSES_SAID {
                log::notice(format_args!("the sensors go on"));
            }
            self.misses = 0;
        } else if self.feeds {
            // They may only be late, as after a sleep of the whole board: soon again.
            self.due_ms = now_ms + self.period_ms.min(MISSED_MS);
            self.misses = self.misses.saturating_add(1);
            if self.misses == MISSES_SAID {
                log::error(format_args!(
                    "the sensors made no progress; the service manager will start Encke again"
                ));
            }
        }
        let mut states = Vec::with_capacity(3);
        if !self.is_ready {
            states.push(NotifyState::Ready);
        }
        if self.feeds && is_alive {
            states.push(NotifyState::Watchdog);
        }
        if status != self.status {
            states.push(NotifyState::Status(&status));
        }
        if !states.is_empty() {
            match (self.send)(&states) {
                Ok(()) => self.is_ready = true,
                Err(error) => log::warning(format_args!(
                    "the service manager cannot be told how it goes: {error}"
                )),
            }
        }
        self.status = status;
    }

    /// Says that the configuration is being read again; `reloaded` is to follow.
    pub(super) fn reloading(&mut self) {
        let now = NotifyState::monotonic_usec_now();
        if self.is_ready
            && let Ok(now) = now
        {
            let _ = (self.send)(&[NotifyState::Reloading, now]);
        }
    }

    /// Says that it was read.
    pub(super) fn reloaded(&mut self) {
        if self.is_ready {
            let _ = (self.send)(&[NotifyState::Ready]);
        }
    }

    /// Says that the end has begun.
    pub(super) fn stopping(&mut self) {
        if self.due_ms != u64::MAX {
            let _ = (self.send)(&[NotifyState::Stopping]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        static SENT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    fn send(states: &[NotifyState<'_>]) -> std::io::Result<()> {
        let text: Vec<_> = states.iter().map(ToString::to_string).collect();
        SENT.with_borrow_mut(|sent| sent.push(text.join(" ")));
        Ok(())
    }

    fn notify(feeds: bool) -> Notify {
        Notify {
            period_ms: if feeds { 500 } else { STATUS_MS },
            feeds,
            due_ms: 0,
            is_ready: false,
            misses: 0,
            status: String::new(),
            send,
        }
    }

    fn told(notify: &mut Notify, now_ms: u64, is_alive: bool, status: &str) -> Vec<String> {
        notify.tell(now_ms, is_alive, status.to_owned());
        SENT.take()
    }

    #[test]
    fn ready_first_then_fed_while_alive() {
        let mut notify = notify(true);
        assert_eq!(
            told(&mut notify, 7, true, "a"),
            ["READY=1 WATCHDOG=1 STATUS=a"]
        );
        assert_eq!(notify.due_ms(), 507);
        assert_eq!(told(&mut notify, 506, true, "b"), [""; 0]);
        assert_eq!(told(&mut notify, 507, true, "a"), ["WATCHDOG=1"]);
        assert_eq!(told(&mut notify, 1100, true, "b"), ["WATCHDOG=1 STATUS=b"]);
        assert_eq!(notify.due_ms(), 1600);
        assert_eq!(told(&mut notify, 1600, false, "b"), [""; 0]);
        assert_eq!(told(&mut notify, 2100, false, "c"), ["STATUS=c"]);
        assert_eq!(told(&mut notify, 2600, true, "c"), ["WATCHDOG=1"]);
        notify.stopping();
        assert_eq!(SENT.take(), ["STOPPING=1"]);
    }

    #[test]
    fn who_was_only_late_is_alive_again_a_second_later() {
        let mut notify = notify(true);
        notify.period_ms = 15_000;
        told(&mut notify, 0, true, "");
        assert_eq!(told(&mut notify, 15_000, false, ""), [""; 0]);
        assert_eq!(notify.due_ms(), 16_000);
        assert_eq!(told(&mut notify, 16_000, true, ""), ["WATCHDOG=1"]);
        assert_eq!(notify.due_ms(), 31_000);
    }

    #[test]
    fn without_a_watchdog_only_what_is_new() {
        let mut notify = notify(false);
        assert_eq!(told(&mut notify, 1, false, "a"), ["READY=1 STATUS=a"]);
        assert_eq!(told(&mut notify, 1 + STATUS_MS, false, "a"), [""; 0]);
        assert_eq!(
            told(&mut notify, 1 + 2 * STATUS_MS, false, "b"),
            ["STATUS=b"]
        );
    }

    #[test]
    fn a_reload_is_told_with_its_time_and_its_end() {
        let mut notify = notify(true);
        notify.reloading();
        notify.reloaded();
        assert_eq!(SENT.take(), [""; 0], "not before it was ready");
        told(&mut notify, 1, true, "");
        notify.reloading();
        notify.reloaded();
        let sent = SENT.take();
        let time = sent[0].strip_prefix("RELOADING=1 MONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
        assert_eq!(sent[1..], ["READY=1"]);
    }

    #[test]
    fn whoever_was_not_reached_is_told_again_that_we_are_ready() {
        let mut notify = notify(true);
        notify.send = |_| Err(std::io::ErrorKind::NotFound.into());
        notify.tell(1, true, String::new());
        notify.send = send;
        assert_eq!(told(&mut notify, 501, true, ""), ["READY=1 WATCHDOG=1"]);
    }

    #[test]
    fn nobody_is_told_when_nobody_listens() {
        let mut notify = Notify {
            due_ms: u64::MAX,
            ..notify(true)
        };
        assert_eq!(told(&mut notify, u64::MAX - 1, true, "a"), [""; 0]);
        notify.stopping();
        assert_eq!(SENT.take(), [""; 0]);
    }
}
