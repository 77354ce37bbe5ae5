//! Reading the configuration again while serving, and what of it counts at once.
//!
//! At SIGHUP the same layers are read as at start: board profile, file, flags. Who may do what is
//! replaced in one go: tokens, names, origins, proxies, what may be read without a token. What
//! memory was set aside for, sockets that listen and sources that run stay as they are; where the
//! configuration wants those otherwise, that is said. A faulty configuration changes nothing. It
//! never writes, and never asks for a right that may be gone since the start.

use std::io::IsTerminal;
use std::path::PathBuf;

use super::policy;
use crate::access::Policy;
use crate::board::{self, Machine};
use crate::config::{Config, ConfigError, Flags};

/// What is needed to read the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    flags: Flags,
    sys_root: PathBuf,
    /// What the server runs with.
    started: Config,
    had_terminal: bool,
}

/// A configuration that was read again.
#[derive(Debug)]
pub(super) struct Again {
    /// Who may do what from now on.
    pub(super) policy: Policy,
    /// What it wants otherwise than the server runs with.
    pub(super) waiting: Vec<&'static str>,
}

/// What cannot change while serving, and whether two configurations differ in it.
type Row = (&'static str, fn(&Config, &Config) -> bool);

const AT_START: [Row; 14] = [
    ("listen", |a, b| a.server.listen != b.server.listen),
    ("name", |a, b| a.server.name != b.server.name),
    ("heartbeat", |a, b| {
        a.server.heartbeat_ms != b.server.heartbeat_ms
    }),
    ("presence", |a, b| a.server.presence != b.server.presence),
    ("push_host", |a, b| a.server.push_host != b.server.push_host),
    ("viewers", |a, b| a.limits.viewers != b.limits.viewers),
    ("pages", |a, b| a.limits.pages != b.limits.pages),
    ("ring_bytes", |a, b| {
        a.limits.ring_bytes != b.limits.ring_bytes
    }),
    ("topics", |a, b| a.limits.topics != b.limits.topics),
    ("history_bytes", |a, b| {
        a.limits.history_bytes != b.limits.history_bytes
    }),
    ("[jsonp]", |a, b| a.jsonp != b.jsonp),
    ("[sources]", |a, b| a.sources != b.sources),
    ("[[source]]", |a, b| a.source != b.source),
    ("[[topic]]", |a, b| a.topic != b.topic),
];

/// Whether standard error is a terminal that is still there.
fn has_terminal() -> bool {
    std::io::stderr().is_terminal()
}

impl Reload {
    /// For a server that was started with this.
    pub(super) fn new(flags: Flags, sys_root: PathBuf, started: Config) -> Reload {
        Reload {
            flags,
            sys_root,
            started,
            had_terminal: has_terminal(),
        }
    }

    /// Whether the signal came because the terminal was closed, which ends what runs in it.
    pub(super) fn is_hung_up(&self) -> bool {
        self.had_terminal && !has_terminal()
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn again(&self) -> Result<Again, ConfigError> {
        let machine = Machine::read(&self.sys_root);
        let (config, _) = board::load(&self.flags, &machine)?;
        Ok(Again {
            policy: policy(&config, &self.sys_root),
            waiting: waiting(&self.started, &config),
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
        let waiting = match &self.waiting[..] {
            [] => String::new(),
            names => format!(
                "; what is new in {} counts after a restart",
                names.join(", ")
            ),
        };
        format!("the configuration was read again: {tokens}; {read}{waiting}")
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

fn waiting(started: &Config, now: &Config) -> Vec<&'static str> {
    let differing = AT_START.iter().filter(|(_, differ)| differ(started, now));
    differing.map(|(name, _)| *name).collect()
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
                "[server]\nlisten = [\":80\"]\nname = \"a\"\nheartbeat = 9",
                &["listen", "name", "heartbeat"],
            ),
            ("[server]\npush_host = \"a\"", &["push_host"]),
            ("[server]\npresence = []", &["presence"]),
            (
                "[limits]\nviewers = 9\npages = 9\nring_bytes = 99999",
                &["viewers", "pages", "ring_bytes"],
            ),
            (
                "[limits]\ntopics = 9\nhistory_bytes = 9",
                &["topics", "history_bytes"],
            ),
            (
                "[jsonp]\ntopics = [\"a\"]\n[sources]\nexclude = [\"#\"]",
                &["[jsonp]", "[sources]"],
            ),
            (
                "[[source]]\nkind = \"stdin\"\n[[topic]]\nmatch = \"a\"",
                &["[[source]]", "[[topic]]"],
            ),
        ] {
            assert_eq!(waiting(&config(""), &config(text)), want, "{text}");
            assert_eq!(waiting(&config(text), &config(text)), [""; 0], "{text}");
        }
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
        (Reload::new(flags, PathBuf::from("/"), started), path)
    }

    #[test]
    fn a_new_file_is_new_rights() {
        let (reload, path) = reload("new", "");
        let again = reload.again().unwrap();
        assert_eq!(
            again.line(),
            "the configuration was read again: 0 tokens; this network may read all without one"
        );
        let token = format!("[[token]]\nname = \"a\"\nsha256 = \"{}\"\n", "0".repeat(64));
        // Flags stay above the file.
        let text = "[server]\nread = []\nlisten = [\":2\"]\nhosts = [\"other\"]\nname = \"b\"\n";
        fs::write(&path, text.to_owned() + &token).unwrap();
        let again = reload.again().unwrap();
        assert_eq!(
            again.line(),
            "the configuration was read again: 1 token; without one nothing can be read; what is \
             new in name counts after a restart"
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
        let (reload, path) = reload("faulty", "");
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
