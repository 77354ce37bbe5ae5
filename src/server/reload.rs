//! Reading the configuration again while serving, and what of it counts at once.
//!
//! At SIGHUP the same layers are read as at start: board profile, file, flags. What cannot change
//! while serving is in `AT_START`, each with the reason, and said where the configuration wants it
//! otherwise; everything else counts at once. A faulty configuration changes nothing. It never
//! writes, and never asks for a right that may be gone since the start.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::policy;
use crate::access::Policy;
use crate::board::{self, Machine};
use crate::config::{Config, ConfigError, Flags, SourceEntry};
use crate::sandbox::Room;

/// A SIGHUP that comes before the server can act on it ends nothing: it is kept.
#[derive(Clone, Debug)]
pub struct Hangup {
    came: Arc<AtomicBool>,
    had_terminal: bool,
}

impl Hangup {
    /// From now on. The first thing a server does.
    ///
    /// # Errors
    /// Of sigaction(2).
    pub fn expect() -> io::Result<Hangup> {
        let came = Arc::default();
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&came))?;
        Ok(Hangup {
            came,
            had_terminal: has_terminal(),
        })
    }
}

/// What is needed to read the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    flags: Flags,
    sys_root: PathBuf,
    /// What the server was started with.
    started: Config,
    /// The rows of its sources.
    rows: Vec<SourceEntry>,
    room: Room,
    hangup: Hangup,
}

/// A configuration that was read again.
#[derive(Debug)]
pub(super) struct Again {
    /// Who may do what from now on.
    pub(super) policy: Policy,
    /// Everything; of what is waiting, only the sources are what they were.
    pub(super) config: Config,
    /// What it wants otherwise than the server was started with, and why that cannot be.
    waiting: Vec<(&'static str, &'static str)>,
}

const ADDRESSES: &str = "addresses are listened at from the start on";
const MEMORY: &str = "memory is set aside at the start";
const GIVEN_UP: &str = "what they need was given up after the start";

/// What cannot change while serving, why, and whether two configurations differ in it.
type Row = (&'static str, &'static str, fn(&Config, &Config) -> bool);

const AT_START: [Row; 9] = [
    ("listen", ADDRESSES, |a, b| {
        a.server.listen != b.server.listen
    }),
    ("presence", MEMORY, |a, b| {
        a.server.presence != b.server.presence
    }),
    ("viewers", MEMORY, |a, b| {
        a.limits.viewers != b.limits.viewers
    }),
    ("pages", MEMORY, |a, b| a.limits.pages != b.limits.pages),
    ("ring_bytes", MEMORY, |a, b| {
        a.limits.ring_bytes != b.limits.ring_bytes
    }),
    ("topics", MEMORY, |a, b| a.limits.topics != b.limits.topics),
    ("history_bytes", MEMORY, |a, b| {
        a.limits.history_bytes != b.limits.history_bytes
    }),
    ("pictures", MEMORY, |a, b| {
        a.limits.pictures != b.limits.pictures
    }),
    ("picture_bytes", MEMORY, |a, b| {
        a.limits.picture_bytes != b.limits.picture_bytes
    }),
];

/// Whether standard error is a terminal that is still there.
fn has_terminal() -> bool {
    io::stderr().is_terminal()
}

impl Reload {
    /// For a server that was started with this, and is not confined yet.
    pub(super) fn new(flags: Flags, sys_root: PathBuf, started: Config, hangup: Hangup) -> Reload {
        Reload {
            flags,
            sys_root,
            room: Room::new(&started),
            rows: started.source.clone(),
            started,
            hangup,
        }
    }

    /// Whether the signal came before anybody listened to it. Once.
    pub(super) fn came_early(&self) -> bool {
        self.hangup.came.swap(false, Ordering::Relaxed)
    }

    /// Whether the signal came because the terminal was closed, which ends what runs in it.
    pub(super) fn is_hung_up(&self) -> bool {
        self.hangup.had_terminal && !has_terminal()
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn again(&mut self) -> Result<Again, ConfigError> {
        let machine = Machine::read(&self.sys_root);
        let (mut config, _) = board::load(&self.flags, &machine)?;
        let mut waiting = waiting(&self.started, &config);
        if self.room.has(&config) {
            self.rows.clone_from(&config.source);
        } else {
            waiting.push(("[[source]]", GIVEN_UP));
            config.source.clone_from(&self.rows);
        }
        Ok(Again {
            policy: policy(&config, &self.sys_root),
            config,
            waiting,
        })
    }
}

impl Again {
    /// What was done, for the log.
    pub(super) fn line(&self) -> String {
        let tokens = match self.policy.tokens.len() {
            1 => "1 token".to_owned(),
            count => format!("{count} tokens"),
        };
        let read = match &self.policy.read[..] {
            [] => "without one nothing can be read".to_owned(),
            [all] if all == "#" => "this network may read all without one".to_owned(),
            patterns => format!("this network may read {} without one", patterns.join(", ")),
        };
        let mut line = format!("the configuration was read again: {tokens}; {read}");
        for same in self.waiting.chunk_by(|(_, a), (_, b)| a == b) {
            let names: Vec<&str> = same.iter().map(|(name, _)| *name).collect();
            let (names, why) = (names.join(", "), same[0].1);
            line += &format!("; what is new in {names} counts after a restart ({why})");
        }
        line
    }
}

/// What is said in front of an error.
pub(super) fn mistake(error: &ConfigError) -> &'static str {
    match error.place {
        Some(_) => "the configuration has a mistake, so all stays as it was:",
        // What was given up after the start is not got back.
        None => {
            "the configuration cannot be read now, so all stays as it was (a restart reads files \
             from folders that were not there before, too):"
        }
    }
}

fn waiting(started: &Config, now: &Config) -> Vec<(&'static str, &'static str)> {
    let differing = AT_START.iter().filter(|(.., differ)| differ(started, now));
    differing.map(|(name, why, _)| (*name, *why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;
    use std::fs;

    fn config(text: &str) -> Config {
        let layer = Layer {
            file: "f",
            text,
            is_profile: false,
        };
        Config::new(&[layer]).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        for (text, want) in [
            ("", &[][..]),
            (
                "[server]\nhosts = [\"a\"]\norigins = [\"null\"]\ncors = [\"*\"]",
                &[],
            ),
            ("[server]\ntrusted_proxies = [\"::1\"]\nread = []", &[]),
            ("[limits]\nper_address = 7", &[]),
            (
                "[server]\nname = \"a\"\nheartbeat = 9\npush_host = \"a\"",
                &[],
            ),
            ("[server]\npresence = []", &["presence"]),
            (
                "[sources]\nexclude = [\"#\"]\n[[source]]\nkind = \"stdin\"\n[[topic]]\n\
                 match = \"a\"",
                &[],
            ),
            ("[server]\nlisten = [\":80\"]", &["listen"]),
            (
                "[limits]\nviewers = 9\npages = 9\nring_bytes = 99999",
                &["viewers", "pages", "ring_bytes"],
            ),
            (
                "[limits]\ntopics = 9\nhistory_bytes = 9",
                &["topics", "history_bytes"],
            ),
            (
                "[limits]\npictures = 9\npicture_bytes = 9999",
                &["pictures", "picture_bytes"],
            ),
        ] {
            let names = |started: &Config, now: &Config| -> Vec<&str> {
                let waiting = waiting(started, now).into_iter();
                waiting.map(|(name, _)| name).collect()
            };
            assert_eq!(names(&config(""), &config(text)), want, "{text}");
            assert_eq!(names(&config(text), &config(text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn each_key_counts_at_once_or_waits() {
        // A key that is new has to be decided on: here, in `AT_START`, and in README.md.
        let Config {
            server,
            limits,
            jsonp: _,
            tokens: _,
            sources: _,
            source: _,
            topic: _,
            board: _,
        } = config("");
        let crate::config::Server {
            listen: _,
            name: _,
            heartbeat_ms: _,
            hosts: _,
            origins: _,
            cors: _,
            read: _,
            trusted_proxies: _,
            push_host: _,
            presence: _,
        } = server;
        let crate::config::Limits {
            viewers: _,
            pages: _,
            ring_bytes: _,
            topics: _,
            history_bytes: _,
            pictures: _,
            picture_bytes: _,
            per_address: _,
        } = limits;
    }

    /// A `Reload` of a file that says `text`, and the file.
    fn reload(name: &str, text: &str) -> (Reload, PathBuf) {
        let file = format!("encke-reload-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(file);
        fs::write(&path, text).unwrap();
        let flags = Flags {
            config: Some(path.clone()),
            board: Some("generic".to_owned()),
            listen: vec!["127.0.0.1:1".parse().unwrap()],
        };
        let (started, _) = board::load(&flags, &Machine::default()).unwrap();
        let hangup = Hangup {
            came: Arc::default(),
            had_terminal: false,
        };
        let reload = Reload::new(flags, PathBuf::from("/"), started, hangup);
        (reload, path)
    }

    #[test]
    fn a_new_file_is_new_rights() {
        let (mut reload, path) = reload("new", "");
        let again = reload.again().unwrap();
        assert_eq!(
            again.line(),
            "the configuration was read again: 0 tokens; this network may read all without one"
        );
        let token = format!("[[token]]\nname = \"a\"\nsha256 = \"{}\"\n", "0".repeat(64));
        // Flags stay above the file.
        let text =
            "[server]\nread = []\nlisten = [\":2\"]\nhosts = [\"other\"]\n[limits]\npages = 9\n";
        fs::write(&path, text.to_owned() + &token).unwrap();
        let again = reload.again().unwrap();
        assert_eq!(
            again.line(),
            "the configuration was read again: 1 token; without one nothing can be read; what is \
             new in pages counts after a restart (memory is set aside at the start)"
        );
        assert_eq!(again.policy.tokens[0].grant.name, "a");
        assert!(again.policy.names.iter().any(|name| name == "other"));
        fs::write(&path, "[server]\nread = [\"a\", \"b/#\"]\n").unwrap();
        let line = reload.again().unwrap().line();
        assert!(
            line.ends_with(": 0 tokens; this network may read a, b/# without one"),
            "{line}"
        );
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_faulty_file_is_an_error_with_its_place() {
        let (mut reload, path) = reload("faulty", "");
        fs::write(&path, "[server]\nheartbeet = 7\n").unwrap();
        let error = reload.again().unwrap_err();
        assert!(mistake(&error).contains(" has a mistake"));
        let said = error.to_string();
        assert!(said.contains(":2:1: unknown key `heartbeet`"), "{said}");
        fs::remove_file(&path).unwrap();
        let error = reload.again().unwrap_err();
        assert!(mistake(&error).contains(" cannot be read now"));
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
