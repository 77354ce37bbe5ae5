//! The configuration: one schema, read from layers of TOML, checked once, given as plain structs.
//!
//! Follows DESIGN.md section 3 "Command and configuration" and TOML 1.0. Layers are laid over each
//! other in order: board profiles, the file, the flags. A later layer replaces single keys; rows
//! of `[[token]]`, `[[source]]` and `[[topic]]` add up. Every fault is a `ConfigError` that shows
//! where it is and what would be right. It never writes a file, never looks at the board, and
//! never hands out a value that was not checked.

use std::ffi::OsString;
use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::limits::{ORIGINS_MAX, OUTPUT_BYTES_MAX, TOKENS_MAX, TOPIC_BYTES_MAX, TOPICS_MAX};
use crate::name;

mod error;
mod rule;
mod slot;
mod source;
mod tree;

use error::Fault;
pub use error::{ConfigError, Place, nearest};
use rule::{
    ANY, CORS, FACTOR, HOST, LABEL, NUMBER, ORIGIN, PATTERN, PROXY, SIZE, TOKEN_NAME, TOPIC,
};
pub use rule::{TOKEN_NAME_RULE, is_token_name, listen};
use slot::{Slot, fill};
pub use source::{Datagram, Exec, Format, SourceEntry, Stdin};
use tree::{Entry, Given, Item, Table};

/// Bytes of a configuration file. Above: an error, because it is some other file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Addresses to listen on.
const LISTEN_MAX: usize = 16;
/// Patterns of what one token, or nobody's, may read, and of what it may write.
const PATTERNS_MAX: usize = 64;

const _: () = assert!(
    2 * PATTERNS_MAX * (TOPIC_BYTES_MAX + 3) + 1024 <= OUTPUT_BYTES_MAX,
    "an answer names all that one may read and write"
);

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[limits]`.
    pub limits: Limits,
    /// `[jsonp]`.
    pub jsonp: Jsonp,
    /// `[[token]]`, in file order.
    pub tokens: Vec<Token>,
    /// `[sources]`.
    pub sources: Sources,
    /// `[[source]]`, in file order.
    pub source: Vec<SourceEntry>,
    /// `[[topic]]`, in file order: where two rows set one key, the later row wins.
    pub topic: Vec<TopicRule>,
    /// `[board]`, of board profiles only.
    pub board: Board,
}

/// `[server]`: where it listens, and whom it trusts.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// One to 16 addresses; `[::]:8080` when none is given.
    pub listen: Vec<SocketAddr>,
    /// What the board calls itself; the host's name when absent.
    pub name: Option<String>,
    /// Milliseconds without a frame before a heartbeat. The key is `heartbeat`, in seconds.
    pub heartbeat_ms: u64,
    /// More `Host` values to answer to, lower case, `HOST` or `HOST:PORT`.
    pub hosts: Vec<String>,
    /// More origins that may act, lower case, `SCHEME://HOST[:PORT]` or `null`.
    pub origins: Vec<String>,
    /// Origins whose pages may read answers, as `origins`, or `*`.
    pub cors: Vec<String>,
    /// Patterns of the topics that may be read from the home network without a token; `#` by
    /// default, none to close reading.
    pub read: Vec<String>,
    /// Patterns of the topics whose subscribers are counted, each in `encke/presence/NAME`;
    /// `room/#` by default, none to count nothing.
    pub presence: Vec<String>,
    /// Proxies whose forwarding fields are believed: an address or `ADDRESS/BITS`.
    pub trusted_proxies: Vec<String>,
    /// Another host name of this board for streams, lower case, `HOST` or `HOST:PORT`: the page may
    /// connect to it, and it is answered to as those in `hosts` are.
    pub push_host: Option<String>,
}

/// `[limits]`: counts of things and bytes of memory, fixed at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Held streams, WebSockets and long-polls at once.
    pub viewers: u32,
    /// Slots for pages and the API that streams cannot take.
    pub pages: u32,
    /// Bytes of the event ring.
    pub ring_bytes: usize,
    /// Topics the hub can hold.
    pub topics: u32,
    /// Bytes of history in memory; 0 keeps none.
    pub history_bytes: usize,
    /// Topics that may have pictures.
    pub pictures: u32,
    /// Bytes of the largest picture.
    pub picture_bytes: usize,
    /// Connections from one address.
    pub per_address: u32,
}

/// `[jsonp]`: what is readable through a script tag.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jsonp {
    /// Topic patterns; none by default.
    pub topics: Vec<String>,
}

/// `[[token]]`: a secret, known by its hash, and its rights.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// `[A-Za-z0-9_-]{1,32}`, in front of the dot of `NAME.SECRET`; no other token has it.
    pub name: String,
    /// SHA-256 of the secret; no other token has it.
    pub sha256: [u8; 32],
    /// Patterns of the topics it may read.
    pub read: Vec<String>,
    /// Patterns of the topics it may write.
    pub write: Vec<String>,
    /// Seconds since 1970 at which it ends; `None` never.
    pub until: Option<u64>,
}

/// `[sources]`: which found sensors start. A topic is taken when `include` matches it and
/// `exclude` does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Sources {
    /// Topic patterns; `#` by default.
    pub include: Vec<String>,
    /// Topic patterns; none by default, `#` starts no source.
    pub exclude: Vec<String>,
}

/// `[[topic]]`: how the topics that a pattern matches are shown and smoothed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicRule {
    /// The key `match`: a topic pattern.
    pub match_: String,
    /// Shown in place of the topic's own label; at most 64 bytes.
    pub label: Option<String>,
    /// Shown behind the value; at most 64 bytes.
    pub unit: Option<String>,
    /// Factor of the value, not zero; before `offset`.
    pub scale: Option<f64>,
    /// Added to the value after `scale`.
    pub offset: Option<f64>,
    /// Digits kept after the decimal point, 0 to 9.
    pub round: Option<u32>,
    /// Whether history keeps the topic.
    pub keep: Option<bool>,
    /// Smallest change that is published, in the topic's unit, not negative.
    pub dead_band: Option<f64>,
    /// Readings in the median filter, odd, 3 to 15.
    pub median: Option<u32>,
    /// Least believable value.
    pub min: Option<f64>,
    /// Greatest believable value, above `min`.
    pub max: Option<f64>,
    /// The topic's name in place of its own; only where `match` is one topic.
    pub rename: Option<String>,
}

/// `[board]`: what a board profile says about its board.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    /// The board as people call it.
    pub name: Option<String>,
    /// The board is meant when one of these stands in the device tree's model or compatible.
    pub match_: Vec<String>,
    /// Rust targets to build for it.
    pub targets: Vec<String>,
    /// The card image made for it.
    pub image: Option<String>,
    /// Bytes that all limits together may take.
    pub memory: Option<u64>,
}

/// What the command line says about the configuration: the top layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `--config F`: the file, in place of the usual places.
    pub config: Option<PathBuf>,
    /// `--board NAME`: the profile, in place of the one that matches.
    pub board: Option<String>,
    /// `--listen A:P`, repeatable: replaces `[server] listen`.
    pub listen: Vec<SocketAddr>,
}

/// One layer of configuration: a text and what to call it in errors.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// A path, or the name of a board profile.
    pub file: &'a str,
    /// TOML.
    pub text: &'a str,
    /// Whether it is a board profile, which may have `[board]`.
    pub is_profile: bool,
}

impl Config {
    /// Lays `layers` over each other, the first at the bottom, and checks each. The first is the
    /// generic profile, which sets every limit.
    pub fn new(layers: &[Layer]) -> Result<Config, ConfigError> {
        let mut config = Config {
            server: Server {
                listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080))],
                name: None,
                heartbeat_ms: 15_000,
                hosts: Vec::new(),
                origins: Vec::new(),
                cors: Vec::new(),
                read: vec!["#".to_owned()],
                presence: vec!["room/#".to_owned()],
                trusted_proxies: Vec::new(),
                push_host: None,
            },
            limits: Limits {
                viewers: 0,
                pages: 0,
                ring_bytes: 0,
                topics: 0,
                history_bytes: 0,
                pictures: 0,
                picture_bytes: 0,
                per_address: 0,
            },
            jsonp: Jsonp::default(),
            tokens: Vec::new(),
            sources: Sources {
                include: vec!["#".to_string()],
                exclude: Vec::new(),
            },
            source: Vec::new(),
            topic: Vec::new(),
            board: Board::default(),
        };
        for layer in layers {
            tree::parse(layer.text)
                .and_then(|root| config.lay(&root, layer))
                .map_err(|fault| fault.at(layer))?;
        }
        Ok(config)
    }

    fn lay(&mut self, root: &Table, layer: &Layer) -> Result<(), Fault> {
        for entry in &root.entries {
            let key = &*entry.key.name;
            match key {
                "board" => self.board = board(entry, layer)?,
                "server" => self.lay_server(table(entry)?)?,
                "limits" => self.lay_limits(table(entry)?)?,
                "jsonp" => {
                    let topics = Slot::Texts(&mut self.jsonp.topics, PATTERN);
                    fill(table(entry)?, HERE, &mut [("topics", topics)])?;
                }
                "sources" => {
                    let include = Slot::Texts(&mut self.sources.include, PATTERN);
                    let exclude = Slot::Texts(&mut self.sources.exclude, PATTERN);
                    let mut slots = [("include", include), ("exclude", exclude)];
                    fill(table(entry)?, HERE, &mut slots)?;
                }
                "token" | "source" | "topic" => {
                    for item in rows(entry)? {
                        self.lay_row(key, item, layer)?;
                    }
                }
                _ => return Err(Fault::unknown(&entry.key, HERE, TABLES)),
            }
        }
        Ok(())
    }

    fn lay_row(&mut self, key: &str, item: &Item, layer: &Layer) -> Result<(), Fault> {
        let span = item.span.clone();
        let row = table_of(item, "a table for each, as [[...]] or {...}")?;
        match key {
            "token" if self.tokens.len() == TOKENS_MAX => {
                let problem = format!("more than {TOKENS_MAX} tokens");
                return Err(Fault::new(span, problem, "remove those that nobody uses"));
            }
            "token" => self.tokens.push(token(span, row, &self.tokens)?),
            "source" => {
                let source = source::source(span, row, layer, &self.source)?;
                self.source.push(source);
            }
            _ => self.topic.push(topic(span, row)?),
        }
        Ok(())
    }

    fn lay_server(&mut self, table: &Table) -> Result<(), Fault> {
        let server = &mut self.server;
        let mut heartbeat_ms = None;
        let mut slots = [
            ("listen", Slot::Listen(&mut server.listen)),
            ("name", Slot::Text(&mut server.name, LABEL)),
            ("heartbeat", Slot::Seconds(&mut heartbeat_ms, 1000, 30_000)),
            ("hosts", Slot::Texts(&mut server.hosts, HOST)),
            ("origins", Slot::Texts(&mut server.origins, ORIGIN)),
            ("cors", Slot::Texts(&mut server.cors, CORS)),
            ("read", Slot::Texts(&mut server.read, PATTERN)),
            ("presence", Slot::Texts(&mut server.presence, PATTERN)),
            (
                "trusted_proxies",
                Slot::Texts(&mut server.trusted_proxies, PROXY),
            ),
            ("push_host", Slot::Text(&mut server.push_host, HOST)),
        ];
        fill(table, HERE, &mut slots)?;
        server.heartbeat_ms = heartbeat_ms.unwrap_or(server.heartbeat_ms);
        few_patterns(
            table,
            &[("read", &server.read), ("presence", &server.presence)],
        )?;
        let origins = server.origins.len() + server.cors.len();
        if let Some(entry) = table.find("cors").or_else(|| table.find("origins"))
            && origins > ORIGINS_MAX
        {
            let problem = format!("{origins} origins in `origins` and `cors` together");
            let fix = format!("give at most {ORIGINS_MAX}");
            return Err(Fault::new(entry.item.span.clone(), problem, fix));
        }
        match table.find("listen") {
            Some(entry) if !(1..=LISTEN_MAX).contains(&server.listen.len()) => {
                let problem = format!("{} addresses to listen on", server.listen.len());
                let fix = format!("give 1 to {LISTEN_MAX}, or leave the key out for [::]:8080");
                Err(Fault::new(entry.item.span.clone(), problem, fix))
            }
            _ => Ok(()),
        }
    }

    fn lay_limits(&mut self, table: &Table) -> Result<(), Fault> {
        let limits = &mut self.limits;
        let mut slots = [
            ("viewers", Slot::Count(&mut limits.viewers, 1, 100_000)),
            ("pages", Slot::Count(&mut limits.pages, 8, 4096)),
            (
                "ring_bytes",
                Slot::Bytes(&mut limits.ring_bytes, 65_536, 1 << 30),
            ),
            (
                "topics",
                Slot::Count(&mut limits.topics, 8, TOPICS_MAX as u32),
            ),
            (
                "history_bytes",
                Slot::Bytes(&mut limits.history_bytes, 0, 1 << 30),
            ),
            ("pictures", Slot::Count(&mut limits.pictures, 0, 16)),
            (
                "picture_bytes",
                Slot::Bytes(&mut limits.picture_bytes, 1024, 4 << 20),
            ),
            (
                "per_address",
                Slot::Count(&mut limits.per_address, 1, 100_000),
            ),
        ];
        fill(table, HERE, &mut slots)
    }
}

/// The tables of a configuration, for the error that names them.
const TABLES: &[&str] = &[
    "server", "limits", "jsonp", "sources", "token", "source", "topic",
];
/// Whose keys an error names, behind "the keys".
const HERE: &str = "here";

fn table<'i, 'a>(entry: &'i Entry<'a>) -> Result<&'i Table<'a>, Fault> {
    let name = &entry.key.name;
    table_of(&entry.item, &format!("one table, as [{name}]"))
}

fn table_of<'i, 'a>(item: &'i Item<'a>, right: &str) -> Result<&'i Table<'a>, Fault> {
    match &item.given {
        Given::Table(table) => Ok(table),
        Given::Rows(_) => {
            let fix = format!("write {right}");
            Err(Fault::new(
                item.span.clone(),
                "invalid type: a list of tables",
                fix,
            ))
        }
        _ => Err(Fault::wrong(item, right)),
    }
}

fn rows<'i, 'a>(entry: &'i Entry<'a>) -> Result<&'i [Item<'a>], Fault> {
    match &entry.item.given {
        Given::Rows(rows) | Given::List(rows) => Ok(rows),
        _ => {
            let right = format!("a table for each, as [[{}]]", entry.key.name);
            Err(Fault::wrong(&entry.item, &right))
        }
    }
}

fn board(entry: &Entry, layer: &Layer) -> Result<Board, Fault> {
    let table = table(entry)?;
    if !layer.is_profile {
        let problem = "[board] belongs in a board profile, not in a configuration";
        let fix = "remove it; choose a profile with --board NAME";
        return Err(Fault::new(entry.item.span.clone(), problem, fix));
    }
    let mut board = Board::default();
    let mut slots = [
        ("name", Slot::Text(&mut board.name, ANY)),
        ("match", Slot::Texts(&mut board.match_, ANY)),
        ("targets", Slot::Texts(&mut board.targets, ANY)),
        ("image", Slot::Text(&mut board.image, ANY)),
        ("memory", Slot::Whole(&mut board.memory)),
    ];
    fill(table, HERE, &mut slots)?;
    Ok(board)
}

fn token(span: Range<usize>, table: &Table, others: &[Token]) -> Result<Token, Fault> {
    let (mut name, mut sha256, mut until) = (None, None, None);
    let (mut read, mut write) = (Vec::new(), Vec::new());
    let mut slots = [
        ("name", Slot::Text(&mut name, TOKEN_NAME)),
        ("sha256", Slot::Sha256(&mut sha256)),
        ("read", Slot::Texts(&mut read, PATTERN)),
        ("write", Slot::Texts(&mut write, PATTERN)),
        ("until", Slot::Until(&mut until)),
    ];
    fill(table, HERE, &mut slots)?;
    let name = name.ok_or_else(|| Fault::missing(span.clone(), "name"))?;
    let sha256 = sha256.ok_or_else(|| Fault::missing(span.clone(), "sha256"))?;
    if others.iter().any(|other| other.name == name) {
        let problem = format!("a second token is called \"{name}\"");
        return Err(Fault::new(
            span,
            problem,
            "give each token a name of its own",
        ));
    }
    if let Some(other) = others.iter().find(|other| other.sha256 == sha256) {
        let problem = format!("\"{name}\" has the same secret as \"{}\"", other.name);
        let fix = format!("make one of its own with `encke token {name}`");
        return Err(Fault::new(span, problem, fix));
    }
    few_patterns(table, &[("read", &read), ("write", &write)])?;
    Ok(Token {
        name,
        sha256,
        read,
        write,
        until,
    })
}

/// Each list of patterns is short enough for the answer that names it.
fn few_patterns(table: &Table, lists: &[(&str, &Vec<String>)]) -> Result<(), Fault> {
    for (key, patterns) in lists {
        if let Some(entry) = table.find(key)
            && patterns.len() > PATTERNS_MAX
        {
            let problem = format!("{} patterns in `{key}`", patterns.len());
            let fix = format!("give at most {PATTERNS_MAX}; + and # stand for many topics");
            return Err(Fault::new(entry.item.span.clone(), problem, fix));
        }
    }
    Ok(())
}

fn topic(span: Range<usize>, table: &Table) -> Result<TopicRule, Fault> {
    let mut match_ = None;
    let mut rule = TopicRule::default();
    let mut slots = [
        ("match", Slot::Text(&mut match_, PATTERN)),
        ("label", Slot::Text(&mut rule.label, LABEL)),
        ("unit", Slot::Text(&mut rule.unit, LABEL)),
        ("scale", Slot::Number(&mut rule.scale, FACTOR)),
        ("offset", Slot::Number(&mut rule.offset, NUMBER)),
        ("round", Slot::CountIf(&mut rule.round, 0, 9)),
        ("keep", Slot::Flag(&mut rule.keep)),
        ("dead_band", Slot::Number(&mut rule.dead_band, SIZE)),
        ("median", Slot::Odd(&mut rule.median)),
        ("min", Slot::Number(&mut rule.min, NUMBER)),
        ("max", Slot::Number(&mut rule.max, NUMBER)),
        ("rename", Slot::Text(&mut rule.rename, TOPIC)),
    ];
    fill(table, HERE, &mut slots)?;
    rule.match_ = match_.ok_or_else(|| Fault::missing(span.clone(), "match"))?;
    if let (Some(min), Some(max)) = (rule.min, rule.max)
        && min >= max
    {
        let problem = format!("min {min} is not below max {max}");
        return Err(Fault::new(span, problem, "swap them, or leave one out"));
    }
    if rule.rename.is_some() && name::topic(&rule.match_).is_none() {
        let problem = format!(
            "`rename` needs one topic, but \"{}\" matches many",
            rule.match_
        );
        let fix = "write the topic's full name as `match`";
        return Err(Fault::new(span, problem, fix));
    }
    Ok(rule)
}

/// Where a configuration file is looked for when no `--config` names one, the first that exists
/// wins: `$XDG_CONFIG_HOME/encke/encke.toml` (`~/.config` when that is unset), then
/// `/etc/encke/encke.toml`. Arguments are the variables XDG_CONFIG_HOME and HOME.
pub fn search_paths(xdg: Option<OsString>, home: Option<OsString>) -> Vec<PathBuf> {
    let set = |variable: Option<OsString>| variable.map(PathBuf::from).filter(|p| p.is_absolute());
    let user = set(xdg).or_else(|| set(home).map(|home| home.join(".config")));
    user.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|dir| dir.join("encke/encke.toml"))
        .collect()
}

/// The configuration file: the one `named` by --config, else the first of `search_paths` that
/// exists. `None` when there is none, which is fine.
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    let paths = search_paths(
        std::env::var_os("XDG_CONFIG_HOME"),
        std::env::var_os("HOME"),
    );
    named
        .map(Path::to_path_buf)
        .or_else(|| paths.into_iter().find(|path| path.exists()))
}

/// The text of the configuration file at `path`.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let fault = |problem: String, fix: &str| ConfigError {
        file: path.display().to_string(),
        place: None,
        problem,
        fix: fix.to_string(),
    };
    let bytes = std::fs::File::open(path)
        .and_then(|file| {
            let mut bytes = Vec::new();
            file.take(FILE_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
                .map(|_| bytes)
        })
        .map_err(|error| fault(error.to_string(), "name a TOML file that can be read"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let problem = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(fault(
            problem,
            "name a configuration file; this is something else",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let problem = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
        fault(problem, "save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, ConfigError> {
        Config::new(&[Layer {
            file: "encke.toml",
            text,
            is_profile: false,
        }])
    }

    fn error(text: &str) -> String {
        config(text).expect_err(text).to_string()
    }

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_layer_replaces_keys_and_adds_rows() {
        let below = Layer {
            file: "generic",
            text: "[limits]\nviewers = 5\npages = 9\n[[topic]]\nmatch = \"a\"\n[board]\nmemory = 7",
            is_profile: true,
        };
        let above = Layer {
            file: "encke.toml",
            text: "[limits]\npages = 10\n[[topic]]\nmatch = \"/b/#\"\nround = 2\n",
            is_profile: false,
        };
        let config = Config::new(&[below, above]).unwrap();
        assert_eq!((config.limits.viewers, config.limits.pages), (5, 10));
        let patterns: Vec<&str> = config
            .topic
            .iter()
            .map(|rule| rule.match_.as_str())
            .collect();
        assert_eq!(patterns, ["a", "b/#"]);
        assert_eq!(config.topic[1].round, Some(2));
        assert_eq!(config.board.memory, Some(7));
    }

    #[test]
    fn defaults_of_an_empty_file() {
        let config = config("").unwrap();
        assert_eq!(config.server.listen, [listen("[::]:8080").unwrap()]);
        assert_eq!(config.server.heartbeat_ms, 15_000);
        assert_eq!(config.sources.include, ["#"]);
        assert!(config.sources.exclude.is_empty() && config.jsonp.topics.is_empty());
    }

    #[test]
    fn the_example_is_right_and_says_everything() {
        let text = include_str!("../tests/examples/encke.toml");
        config(text).unwrap();
        let active: String = text
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|l| !l.starts_with(' '))
                    .unwrap_or(line)
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut config = config(&active).unwrap_or_else(|error| panic!("{error}"));
        let sources = std::mem::take(&mut config.source);
        let shown = format!("{config:?}").replace("source: []", "");
        let (before, board) = shown.split_once("board:").unwrap();
        assert!(
            !before.contains("None") && !before.contains("[]"),
            "{before}{board}"
        );
        assert_eq!(config.tokens[0].until, Some(1_924_991_999));
        let shown = format!("{sources:?}");
        assert_eq!(sources.len(), 4);
        for key in [
            "interval_ms: Some(30000)",
            "timeout_ms: 2500",
            "stale_ms: Some(3600000)",
            "topic: Some(\"tank/level\")",
            "label: Some",
            "unit: Some",
            "Stdin",
            "format: Postcard",
            "mode: 432",
            "path: \"/run/encke/readings\"",
        ] {
            assert!(shown.contains(key), "{key}: {shown}");
        }
        let limits = &config.limits;
        assert!(
            [
                limits.viewers,
                limits.pages,
                limits.topics,
                limits.per_address
            ]
            .iter()
            .all(|&n| n > 0)
        );
        assert!(limits.ring_bytes > 0 && limits.history_bytes > 0);
    }

    #[test]
    fn limits_at_and_above() {
        for (key, min, max) in [
            ("viewers", 1u64, 100_000u64),
            ("pages", 8, 4096),
            ("ring_bytes", 65_536, 1 << 30),
            ("topics", 8, TOPICS_MAX as u64),
            ("history_bytes", 0, 1 << 30),
            ("pictures", 0, 16),
            ("picture_bytes", 1024, 4 << 20),
            ("per_address", 1, 100_000),
        ] {
            let with = |value: i128| config(&format!("[limits]\n{key} = {value}"));
            assert!(
                with(min.into()).is_ok() && with(max.into()).is_ok(),
                "{key}"
            );
            assert!(with(i128::from(min) - 1).is_err(), "{key}");
            let above = with(i128::from(max) + 1).unwrap_err();
            assert_eq!(
                above.fix,
                format!("write a whole number from {min} to {max}")
            );
        }
        assert!(config("[server]\nheartbeat = 30").is_ok());
        assert!(config("[server]\nheartbeat = 31").is_err());
        let listens = |count| format!("[server]\nlisten = [{}]", "\":80\",".repeat(count));
        assert!(config(&listens(LISTEN_MAX)).is_ok());
        assert!(config(&listens(LISTEN_MAX + 1)).is_err());
    }

    fn tokens(count: usize) -> String {
        let row = |n| format!("[[token]]\nname = \"t{n}\"\nsha256 = \"{n:064x}\"\n");
        (0..count).map(row).collect()
    }

    #[test]
    fn rights_at_and_above() {
        assert_eq!(config(&tokens(TOKENS_MAX)).unwrap().tokens.len(), 64);
        let above = error(&tokens(TOKENS_MAX + 1));
        let want = "encke.toml:193:1: more than 64 tokens\n";
        assert!(above.starts_with(want), "{above}");
        let generic = tokens(TOKENS_MAX);
        let below = Layer {
            file: "generic",
            text: &generic,
            is_profile: true,
        };
        let row = tokens(1).replace("t0", "more").replace("00\"", "ff\"");
        let file = Layer {
            file: "encke.toml",
            text: &row,
            is_profile: false,
        };
        let above = Config::new(&[below, file]).unwrap_err();
        assert_eq!(above.problem, "more than 64 tokens", "in all layers");

        let origins = |origins: usize, cors: usize| {
            let list = |count| "\"http://a\",".repeat(count);
            let (origins, cors) = (list(origins), list(cors));
            config(&format!("[server]\norigins = [{origins}]\ncors = [{cors}]"))
        };
        assert!(origins(ORIGINS_MAX, 0).is_ok() && origins(0, ORIGINS_MAX).is_ok());
        assert!(origins(40, ORIGINS_MAX - 40).is_ok());
        let above = origins(40, ORIGINS_MAX - 39).unwrap_err();
        let want = "65 origins in `origins` and `cors` together";
        assert_eq!((&above.problem[..], above.place.unwrap().line), (want, 3));
        let alone = format!("[server]\norigins = [{}]", "\"null\",".repeat(65));
        assert!(error(&alone).starts_with("encke.toml:2:11: 65 origins in "));

        for (text, key) in [
            ("[server]\n".to_owned(), "read"),
            ("[server]\n".to_owned(), "presence"),
            (tokens(1), "read"),
            (tokens(1), "write"),
        ] {
            let with = |count| config(&format!("{text}{key} = [{}]", "\"a/+\",".repeat(count)));
            assert!(with(PATTERNS_MAX).is_ok(), "{key}");
            let above = with(PATTERNS_MAX + 1).unwrap_err();
            assert_eq!(above.problem, format!("65 patterns in `{key}`"));
        }
    }

    #[test]
    fn reading_is_open_until_it_is_closed() {
        let read = |line: &str| config(&format!("[server]\n{line}")).map(|c| c.server.read);
        assert_eq!(read("").unwrap(), ["#"]);
        assert_eq!(read("read = []").unwrap(), [""; 0]);
        assert_eq!(read("read = [\"/cpu/+\", \"a\"]").unwrap(), ["cpu/+", "a"]);
        assert_eq!(
            error("[server]\nread = [\"cpu/*\"]"),
            "encke.toml:2:9: invalid value: string \"cpu/*\"\n  |\n2 | read = [\"cpu/*\"]\n  \
             |         ^^^^^^^\nfix: write a pattern: a topic in which a segment may be + (any one) \
             and the last may be # (all below)"
        );
        assert_eq!(
            read("read = false").unwrap_err().fix,
            "write a list, as [\"...\"]"
        );
        // A later layer closes what an earlier one opens.
        let layer = |file, text, is_profile| Layer {
            file,
            text,
            is_profile,
        };
        let open = layer("generic", "[server]\nread = [\"a\"]", true);
        let closed = layer("encke.toml", "[server]\nread = []", false);
        assert!(Config::new(&[open, closed]).unwrap().server.read.is_empty());
        assert_eq!(Config::new(&[open]).unwrap().server.read, ["a"]);
    }

    #[test]
    fn tokens_are_called_so_that_a_dot_can_follow() {
        let called =
            |name: &str| config(&format!("[[token]]\nname = {name:?}\nsha256 = \"{HASH}\""));
        let longest = "x".repeat(32);
        for name in ["a", "Phone-2_x", &longest] {
            assert_eq!(called(name).unwrap().tokens[0].name, name);
        }
        for name in ["", "a.b", "a b", "t\u{e9}l", "a\n", "a/b", &(longest + "x")] {
            let error = called(name).expect_err(name);
            assert_eq!(error.place.unwrap().line, 2, "{name}");
            assert_eq!(
                error.fix,
                "write a token's name: 1 to 32 of the characters A-Z a-z 0-9 _ -, as \"phone\""
            );
        }
    }

    #[test]
    fn two_tokens_with_one_secret_are_refused() {
        let row = |name: &str| format!("[[token]]\nname = \"{name}\"\nsha256 = \"{HASH}\"\n");
        assert_eq!(
            error(&(row("a") + &row("b").replace("9f86", "9F86"))),
            "encke.toml:4:1: \"b\" has the same secret as \"a\"\n  |\n4 | [[token]]\n  | ^^^^^^^^^\n\
             fix: make one of its own with `encke token b`"
        );
    }

    #[test]
    fn a_secret_in_the_place_of_its_hash_is_not_shown() {
        for value in [
            "sha256 = \"s3cret\"",
            "sha256=s3cret",
            "  sha256 = \"s3cret",
            "sha256 = ['s3cret']",
            "sha265 = \"s3cret\"",
            "secret = \"s3cret\"",
        ] {
            let said = error(&format!("[[token]]\nname = \"a\"\n{value}\n"));
            assert!(said.starts_with("encke.toml:3:"), "{said}");
            assert!(
                !said.contains("s3cret") && said.contains("= ...\n"),
                "{said}"
            );
        }
        let inline = "token = [{ name = \"a\", sha256 = \"s3cret\" }]";
        let want = "encke.toml:1:33: invalid value: no SHA-256\n  |\n\
                    1 | token = [{ name = \"a\", sha256 = ...\n";
        assert!(error(inline).starts_with(want), "{}", error(inline));
    }

    #[test]
    fn texts_that_pass_and_texts_that_do_not() {
        for (table, key, good, bad) in [
            (
                "server",
                "listen",
                &["127.0.0.1:80", "[::1]:80", ":80"][..],
                &["80", "a:80", "1.2.3.4", ""][..],
            ),
            (
                "server",
                "hosts",
                &["a", "a-b.c_d:80", "[::1]", "[::1]:80", "10.0.0.1"],
                &[
                    "", "http://a", "a/b", "a:b", "a:70000", "::1", "[x]", "a b", "é",
                ],
            ),
            (
                "server",
                "origins",
                &["http://a", "https://a.b:1", "capacitor://localhost", "null"],
                &["a", "*", "http://", "http://a/", "1://a", "http://a b"],
            ),
            ("server", "cors", &["*", "http://a"], &["**", "http://*"]),
            (
                "server",
                "trusted_proxies",
                &["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/128", "0.0.0.0/0"],
                &[
                    "10.0.0.0/33",
                    "fd00::/129",
                    "a",
                    "10.0.0.1/",
                    "10.0.0/8",
                    "10.0.0.1/-1",
                ],
            ),
            (
                "jsonp",
                "topics",
                &["#", "/a/+", "a/b"],
                &["", "a/#/b", "a b"],
            ),
            (
                "server",
                "presence",
                &["#", "/a/+"],
                &["", "a/#/b", "room#"],
            ),
        ] {
            let with = |text| config(&format!("[{table}]\n{key} = [\"{text}\"]"));
            good.iter()
                .for_each(|text| assert!(with(text).is_ok(), "{key} {text:?}"));
            bad.iter()
                .for_each(|text| assert!(with(text).is_err(), "{key} {text:?}"));
        }
        let host = |bytes| config(&format!("[server]\npush_host = \"{}\"", "a".repeat(bytes)));
        assert!(host(128).is_ok() && host(129).is_err());
        let server = config("[server]\nhosts = [\"A.Local\"]\norigins = [\"HTTP://A\"]")
            .unwrap()
            .server;
        assert_eq!(
            (&server.hosts[0][..], &server.origins[0][..]),
            ("a.local", "http://a")
        );
    }

    #[test]
    fn the_end_of_a_token() {
        let until = |date: &str| {
            let row = format!("[[token]]\nname = \"a\"\nsha256 = \"{HASH}\"\nuntil = {date}");
            config(&row).map(|config| config.tokens[0].until.unwrap())
        };
        for (date, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 86_399),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2024-02-29T12:00:00+02:00", 1_709_200_800),
            ("2024-02-29T12:00:00", 1_709_208_000),
            ("2024-02-29 12:00:00.75-00:30", 1_709_209_800),
            ("2024-02-29t12:00z", 1_709_208_000),
            ("2100-02-28", 4_107_542_399),
            ("1800000000", 1_800_000_000),
        ] {
            assert_eq!(until(date), Ok(seconds), "{date}");
        }
        for bad in [
            "12:00:00",
            "\"2030-01-01\"",
            "-1",
            "1969-12-30",
            "true",
            "2030-02-29",
            "2100-02-29",
            "2030-04-31",
            "2030-13-01",
            "2030-00-01",
            "2030-01-00",
            "2030-1-01",
            "2030-01-01T24:00:00",
            "2030-01-01T00:60:00",
            "2030-01-01T00:00:61",
            "2030-01-01T00:00:00+24:00",
            "2030-01-01T00:00:00ZZ",
            "2030-01-01T",
            "[]",
        ] {
            assert_eq!(until(bad).unwrap_err().problem, "invalid date", "{bad}");
        }
    }

    #[test]
    fn faults_show_place_and_fix() {
        for (text, want) in [
            (
                "[limits]\nviewrs = 10\n",
                "encke.toml:2:1: unknown key `viewrs`\n  |\n2 | viewrs = 10\n  | ^^^^^^\n\
                 fix: did you mean `viewers`? the keys here are viewers, pages, ring_bytes, topics, \
                 history_bytes, pictures, picture_bytes, per_address",
            ),
            (
                "[zebra]\n",
                "encke.toml:1:2: unknown key `zebra`\n  |\n1 | [zebra]\n  |  ^^^^^\n\
                 fix: the keys here are server, limits, jsonp, sources, token, source, topic",
            ),
            (
                "\n\n\n\n\n\n\n\n\n[limits]\n\tviewers = 0 # none\n",
                "encke.toml:11:12: invalid value: integer `0`\n   |\n11 |  viewers = 0 # none\n   \
                 |            ^\nfix: write a whole number from 1 to 100000",
            ),
            (
                "[server]\nname = 5\n",
                "encke.toml:2:8: invalid value: integer `5`\n  |\n2 | name = 5\n  |        ^\n\
                 fix: write 1 to 64 bytes of text without control characters",
            ),
            (
                "[server]\nlisten = \":80\"\n",
                "encke.toml:2:10: invalid value: string \":80\"\n  |\n2 | listen = \":80\"\n  |          \
                 ^^^^^\nfix: write a list, as [\"...\"]",
            ),
            (
                "[sources]\ninclude = [\"ä/#\", \"a/#/b\"]\n",
                "encke.toml:2:12: invalid value: string \"ä/#\"\n  |\n\
                 2 | include = [\"ä/#\", \"a/#/b\"]\n  |            ^^^^^\n\
                 fix: write a pattern: a topic in which a segment may be + (any one) and the last \
                 may be # (all below)",
            ),
            (
                "[server]\nname = \"é\" name\n",
                "encke.toml:2:12: unexpected key or value\n  |\n2 | name = \"é\" name\n  |            ^\n\
                 fix: write newline, `#`",
            ),
            (
                "[server\n",
                "encke.toml:1:8: unclosed table\n  |\n1 | [server\n  |        ^\nfix: write `]`",
            ),
            (
                "[limits]\npages = 9\npages = 10",
                "encke.toml:3:1: duplicate key\n  |\n3 | pages = 10\n  | ^^^^^\nfix: keep one of the two",
            ),
            (
                "[[token]]\nname = \"a\"\n",
                "encke.toml:1:1: missing key `sha256`\n  |\n1 | [[token]]\n  | ^^^^^^^^^\n\
                 fix: add the key to this table",
            ),
            (
                "[[source]]\npath = \"a\"\n",
                "encke.toml:1:1: missing key `kind`\n  |\n1 | [[source]]\n  | ^^^^^^^^^^\n\
                 fix: say which source it is: kind = \"exec\", \"stdin\" or \"datagram\"",
            ),
            (
                "[[topic]]\nmatch = \"a\"\nmin = 3\nmax = 3\n",
                "encke.toml:1:1: min 3 is not below max 3\n  |\n1 | [[topic]]\n  | ^^^^^^^^^\n\
                 fix: swap them, or leave one out",
            ),
            (
                "[[topic]]\nmatch = \"a/+\"\nrename = \"b\"\n",
                "encke.toml:1:1: `rename` needs one topic, but \"a/+\" matches many\n  |\n1 | [[topic]]\n  \
                 | ^^^^^^^^^\nfix: write the topic's full name as `match`",
            ),
            (
                "[board]\nname = \"a\"\n",
                "encke.toml:1:1: [board] belongs in a board profile, not in a configuration\n  |\n\
                 1 | [board]\n  | ^^^^^^^\nfix: remove it; choose a profile with --board NAME",
            ),
        ] {
            assert_eq!(error(text), want);
        }
        let twice = format!("[[token]]\nname = \"a\"\nsha256 = \"{HASH}\"\n").repeat(2);
        assert!(error(&twice).starts_with("encke.toml:4:1: a second token is called \"a\""));
    }

    #[test]
    fn faults_of_form() {
        for (text, problem, fix) in [
            (
                "server = 5",
                "1:10 invalid value: integer `5`",
                "write one table, as [server]",
            ),
            (
                "[[limits]]",
                "1:1 invalid type: a list of tables",
                "write one table, as [limits]",
            ),
            (
                "limits = []",
                "1:10 invalid type: a list",
                "write one table, as [limits]",
            ),
            (
                "[token]",
                "1:1 invalid type: a table",
                "write a table for each, as [[token]]",
            ),
            (
                "topic = \"a\"",
                "1:9 invalid value: string \"a\"",
                "write a table for each, as [[topic]]",
            ),
            (
                "topic = [5]",
                "1:10 invalid value: integer `5`",
                "write a table for each, as [[...]] or {...}",
            ),
            (
                "source = [[]]",
                "1:11 invalid type: a list",
                "write a table for each, as [[...]] or {...}",
            ),
            (
                "limits.viewers = { a = 1 }",
                "1:18 invalid type: a table",
                "write a whole number from 1 to 100000",
            ),
            (
                "limits.viewers = 5.0",
                "1:18 invalid value: number `5`",
                "write a whole number from 1 to 100000",
            ),
            (
                "[server.name.a]",
                "1:9 invalid type: a table",
                "write 1 to 64 bytes of text without control characters",
            ),
            (
                "[[server.hosts]]",
                "1:1 invalid type: a table",
                "write a list, as [\"...\"]",
            ),
            (
                "[server]\nname = 2030-01-01",
                "2:8 invalid value: date `2030-01-01`",
                "write 1 to 64 bytes of text without control characters",
            ),
            (
                "[server]\nheartbeat = 31",
                "2:13 invalid value: integer `31`",
                "write seconds from 1 to 30",
            ),
            (
                "[[topic]]\nmatch = \"a\"\nkeep = 1",
                "3:8 invalid value: integer `1`",
                "write true or false",
            ),
            (
                "[[topic]]\nmatch = \"a\"\nscale = 0.0",
                "3:9 invalid value: number `0`",
                "write a number that is not 0",
            ),
            (
                "[[topic]]\nmatch = \"a\"\noffset = nan",
                "3:10 invalid value: number `NaN`",
                "write a number",
            ),
            (
                "[[topic]]\nmatch = \"a\"\ndead_band = -0.1",
                "3:13 invalid value: number `-0.1`",
                "write a number that is not below 0",
            ),
            (
                "[[topic]]\nmatch = \"a\"\nmedian = 4",
                "3:10 invalid value: integer `4`",
                "write an odd whole number from 3 to 15",
            ),
            (
                "[[token]]\nsha256 = \"00\"",
                "2:10 invalid value: no SHA-256",
                "write the 64 hexadecimal digits that `encke token NAME` prints",
            ),
            (
                "[[topic]]\nunit = \"a\"",
                "1:1 missing key `match`",
                "add the key to this table",
            ),
            (
                "[server]\nname = ",
                "2:8 missing value",
                "write a number, true, false, or a text in quotes",
            ),
            (
                "[server]\nname = Greenhouse",
                "2:8 string values must be quoted",
                "write a number, true, false, or a text in quotes",
            ),
            ("[server]\nname \"a\"", "2:6 key with no value", "write `=`"),
            ("server.hosts = [\"a\"", "1:20 unclosed array", "write `]`"),
        ] {
            let error = config(text).expect_err(text);
            let at = error.place.expect(text);
            let found = format!("{}:{} {}", at.line, at.column, error.problem);
            assert_eq!((&found[..], &error.fix[..]), (problem, fix), "{text}");
        }
        let inline = "token = []\ntopic = [{ match = \"a\" }, { match = \"b\", round = 2 }]";
        assert_eq!(config(inline).unwrap().topic[1].round, Some(2));
        let profile = Layer {
            file: "zero",
            text: "[board]\nmemory = -1",
            is_profile: true,
        };
        let error = Config::new(&[profile]).unwrap_err();
        assert_eq!(error.fix, "write a whole number that is not below 0");
    }

    #[test]
    fn no_text_makes_it_panic() {
        let good = include_str!("../tests/examples/encke.toml").replace("\n#", "\n");
        for end in (0..good.len())
            .filter(|&i| good.is_char_boundary(i))
            .step_by(7)
        {
            let _ = config(&good[..end]).map_err(|error| error.to_string());
            let _ =
                config(&format!("{}\u{e4}\u{0}", &good[..end])).map_err(|error| error.to_string());
        }
    }

    #[test]
    fn files_are_found_in_order() {
        let paths = |xdg: &str, home: &str| search_paths(Some(xdg.into()), Some(home.into()));
        let etc = PathBuf::from("/etc/encke/encke.toml");
        assert_eq!(
            paths("/x", "/h"),
            [PathBuf::from("/x/encke/encke.toml"), etc.clone()]
        );
        assert_eq!(
            paths("", "/h"),
            [PathBuf::from("/h/.config/encke/encke.toml"), etc.clone()]
        );
        assert_eq!(paths("relative", "").len(), 1);
        assert_eq!(search_paths(None, None), [etc]);
        let missing = Path::new("/nonexistent/encke.toml");
        assert_eq!(find(Some(missing)).as_deref(), Some(missing));
        let error = read(missing).unwrap_err().to_string();
        assert!(
            error.starts_with("/nonexistent/encke.toml: No such file"),
            "{error}"
        );
        assert!(
            read(Path::new("/dev/zero"))
                .unwrap_err()
                .problem
                .starts_with("it is larger")
        );
    }
}
