//! The command line: what was asked for, help, and the commands that need no server.
//!
//! Follows DESIGN.md section 3 "Command and configuration". `parse` is pure and its table says
//! which flags and values each command takes. Serving, sensors and doctor are only parsed here.
//! It never guesses: what it does not know is a `Usage` fault, and the exit code 2.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use lexopt::Arg;

use crate::config::{self, Flags, nearest};
use crate::name;

pub mod banner;
mod boards;
pub mod client;
mod http;
pub mod sensors;
mod token;
mod url;

pub use boards::{Plan, boards, check};
pub use token::token;
pub use url::Url;

/// Exit code of a command line that was not understood.
pub const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Serve the page; what happens without a command.
    Serve(Args),
    /// List the sensors that are found.
    Sensors(Args),
    /// List the board profiles.
    Boards(Args),
    /// Read the configuration and say what is wrong with it.
    Check(Args),
    /// Look for what keeps sensors or viewers away.
    Doctor(Args),
    /// Make a secret and its `[[token]]` row.
    Token {
        /// Which configuration, and where it listens.
        args: Args,
        /// The token's name, fit for the configuration.
        name: String,
    },
    /// Publish one value.
    Publish {
        /// The server.
        url: Url,
        /// A valid topic name.
        topic: String,
        /// As typed; the server decides whether it is JSON.
        value: String,
    },
    /// Print events as they come.
    Watch {
        /// The server.
        url: Url,
        /// Valid topic patterns; none means all.
        patterns: Vec<String>,
    },
    /// Print `HELP`.
    Help,
    /// Print `VERSION`.
    Version,
}

/// The flags of the commands that look at this board.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// `--config`, `--board`, `--listen`.
    pub flags: Flags,
    /// `--state DIR`: where the journal may write; nothing is written without it.
    pub state: Option<PathBuf>,
    /// `--sys-root DIR`: where `sys`, `proc` and `dev` are looked for; `/` by default.
    pub sys_root: PathBuf,
}

/// A command line that was not understood: what, and what would be right.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub fix: String,
}

impl Usage {
    fn new(problem: impl Into<String>, fix: impl Into<String>) -> Usage {
        Usage {
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "encke: {}\nfix: {}", self.problem, self.fix)
    }
}

impl std::error::Error for Usage {}

/// What `--version` prints.
pub const VERSION: &str = concat!("encke ", env!("CARGO_PKG_VERSION"));

/// What `--help` prints.
pub const HELP: &str = "\
Encke turns this board into a live page: it reads the sensors and pushes every change
to any browser. Open the printed address on your phone.

  encke                          serve the page (the same as: encke serve)
  encke sensors                  list the sensors that are found, and their values
  encke check                    read the configuration, show mistakes and what memory it takes
  encke doctor                   find what keeps sensors or viewers away, and what mends it
  encke boards                   list the boards that are known, and which one this is
  encke token NAME               make a token: lines for the configuration, a link to sign in
  encke publish URL TOPIC VALUE  send one value to a server
  encke watch URL [PATTERN..]    print events as they come, one line of JSON each

Flags of serve (doctor, token: all but --state; sensors, check: --config, --board, --sys-root;
boards: --sys-root):
  --config FILE         read this configuration
  --board NAME          use this board's profile in place of the one that fits
  --listen ADDRESS:PORT listen here in place of [::]:8080; may be given more than once
  --state DIR           a directory to keep things in; nothing is kept yet
  --sys-root DIR        look for sys, proc and dev in this directory, for tests
  -h, --help            print this
  -V, --version         print the version

The configuration is TOML. Without --config it is the first of these that exists:
  $XDG_CONFIG_HOME/encke/encke.toml (or ~/.config/encke/encke.toml), /etc/encke/encke.toml
SIGHUP reads it again while serving; what of it counts only after a restart is said in the log.

publish and watch show the token in the variable ENCKE_TOKEN, if that is set.

Examples:
  encke --listen 0.0.0.0:80
  encke publish http://board.local:8080 garden/gate '\"open\"'
  encke watch http://192.168.1.7:8080 'cpu/+' 'gpio/#'

Exit codes: 0 done, 1 it went wrong, 2 the command line is wrong.
";

/// One command: what it takes, and how it is made from that.
struct Form {
    name: &'static str,
    flags: &'static [&'static str],
    /// Names of the values, for error texts; a last one with `..` may come any number of times.
    values: &'static [&'static str],
    make: fn(Args, Vec<String>) -> Result<Command, Usage>,
}

const BOARD_FLAGS: &[&str] = &["config", "board", "sys-root"];
const SERVER_FLAGS: &[&str] = &["config", "board", "listen", "sys-root"];

/// The first is what no command means.
const FORMS: &[Form] = &[
    Form {
        name: "serve",
        flags: &["config", "board", "listen", "state", "sys-root"],
        values: &[],
        make: |args, _| Ok(Command::Serve(args)),
    },
    Form {
        name: "sensors",
        flags: BOARD_FLAGS,
        values: &[],
        make: |args, _| Ok(Command::Sensors(args)),
    },
    Form {
        name: "boards",
        flags: &["sys-root"],
        values: &[],
        make: |args, _| Ok(Command::Boards(args)),
    },
    Form {
        name: "check",
        flags: BOARD_FLAGS,
        values: &[],
        make: |args, _| Ok(Command::Check(args)),
    },
    Form {
        name: "doctor",
        flags: SERVER_FLAGS,
        values: &[],
        make: |args, _| Ok(Command::Doctor(args)),
    },
    Form {
        name: "token",
        flags: SERVER_FLAGS,
        values: &["NAME"],
        make: token_called,
    },
    Form {
        name: "publish",
        flags: &[],
        values: &["URL", "TOPIC", "VALUE"],
        make: |_, values| publish(values),
    },
    Form {
        name: "watch",
        flags: &[],
        values: &["URL", "[PATTERN..]"],
        make: |_, values| watch(values),
    },
];

impl Form {
    /// The command as it is to be written.
    fn line(&self) -> String {
        let flags = match self.flags.is_empty() {
            true => "",
            false => " [flags, see encke --help]",
        };
        let values: String = self
            .values
            .iter()
            .map(|value| format!(" {value}"))
            .collect();
        format!("encke {}{values}{flags}", self.name)
    }

    /// Least and greatest count of values.
    fn counts(&self) -> (usize, usize) {
        match self.values.last().is_some_and(|value| value.contains("..")) {
            true => (self.values.len() - 1, usize::MAX),
            false => (self.values.len(), self.values.len()),
        }
    }
}

/// What the arguments behind the program's name ask for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut args = Args {
        flags: Flags::default(),
        state: None,
        sys_root: PathBuf::from("/"),
    };
    let mut form: Option<&Form> = None;
    let mut given: Vec<&'static str> = Vec::new();
    let mut values: Vec<String> = Vec::new();
    loop {
        if let Some(value) = negative_number(&mut parser) {
            values.push(value);
            continue;
        }
        let arg = parser
            .next()
            .map_err(|error| Usage::new(error.to_string(), "see encke --help"))?;
        match arg {
            None => break,
            Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help),
            Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
            Some(Arg::Value(word)) if form.is_none() => form = Some(form_called(&utf8(word)?)?),
            Some(Arg::Value(value)) => values.push(utf8(value)?),
            Some(Arg::Short(letter)) => return Err(unknown_flag(&format!("-{letter}"))),
            Some(Arg::Long(flag)) => {
                let flag = known_flag(flag)?;
                given.push(flag);
                take_flag(&mut args, flag, &mut parser)?;
            }
        }
    }
    let form = form.unwrap_or(&FORMS[0]);
    if let Some(flag) = given.iter().find(|flag| !form.flags.contains(flag)) {
        return Err(Usage::new(
            format!("encke {} takes no --{flag}", form.name),
            form.line(),
        ));
    }
    let (min, max) = form.counts();
    match values.len() {
        count if count < min => {
            let problem = format!("encke {} needs {}", form.name, form.values[count]);
            Err(Usage::new(problem, form.line()))
        }
        count if count > max => {
            let problem = format!("encke {} does not take \"{}\"", form.name, values[max]);
            Err(Usage::new(problem, form.line()))
        }
        _ => (form.make)(args, values),
    }
}

/// The next argument, when it is a number below zero: a value to publish and no flag.
fn negative_number(parser: &mut lexopt::Parser) -> Option<String> {
    let is_number =
        |text: &str| text.starts_with('-') && text.parse::<f64>().is_ok_and(f64::is_finite);
    let mut raw = parser.try_raw_args()?;
    let next = raw.next_if(|arg| arg.to_str().is_some_and(is_number))?;
    next.into_string().ok()
}

fn utf8(text: OsString) -> Result<String, Usage> {
    text.into_string().map_err(|text| {
        Usage::new(
            format!("\"{}\" is not UTF-8", text.display()),
            "write it in UTF-8",
        )
    })
}

fn form_called(word: &str) -> Result<&'static Form, Usage> {
    FORMS.iter().find(|form| form.name == word).ok_or_else(|| {
        let names: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
        let fix = match nearest(word, &names) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("one of: {}", names.join(", ")),
        };
        Usage::new(format!("there is no command \"{word}\""), fix)
    })
}

fn known_flag(flag: &str) -> Result<&'static str, Usage> {
    let known = FORMS[0].flags.iter().find(|known| **known == flag);
    known
        .copied()
        .ok_or_else(|| unknown_flag(&format!("--{flag}")))
}

fn unknown_flag(flag: &str) -> Usage {
    let known = [FORMS[0].flags, &["help", "version"]].concat();
    let fix = match nearest(flag.trim_start_matches('-'), &known) {
        Some(meant) => format!("did you mean --{meant}?"),
        None => "see encke --help".to_string(),
    };
    Usage::new(format!("there is no flag {flag}"), fix)
}

fn take_flag(args: &mut Args, flag: &str, parser: &mut lexopt::Parser) -> Result<(), Usage> {
    let value = parser
        .value()
        .map_err(|_| Usage::new(format!("--{flag} needs a value"), "see encke --help"))?;
    match flag {
        "config" => args.flags.config = Some(value.into()),
        "board" => args.flags.board = Some(utf8(value)?),
        "state" => args.state = Some(value.into()),
        "sys-root" => args.sys_root = value.into(),
        _ => {
            let value = utf8(value)?;
            let address = config::listen(&value).ok_or_else(|| {
                let fix = "write an address and a port: 0.0.0.0:8080, [::]:8080 or :8080";
                Usage::new(format!("--listen \"{value}\" is no address"), fix)
            })?;
            args.flags.listen.push(address);
        }
    }
    Ok(())
}

fn token_called(args: Args, values: Vec<String>) -> Result<Command, Usage> {
    let name = values.concat();
    match config::is_token_name(&name) {
        true => Ok(Command::Token { args, name }),
        false => {
            let problem = format!("\"{}\" is no name for a token", name.escape_debug());
            Err(Usage::new(problem, config::TOKEN_NAME_RULE))
        }
    }
}

fn publish(values: Vec<String>) -> Result<Command, Usage> {
    let [url, topic, value] = <[String; 3]>::try_from(values).expect("the form takes three");
    let Some(topic) = name::topic(&topic) else {
        return Err(Usage::new(
            format!("\"{topic}\" is no topic"),
            name::NAME_RULE,
        ));
    };
    Ok(Command::Publish {
        url: Url::parse(&url)?,
        topic: topic.to_string(),
        value,
    })
}

fn watch(values: Vec<String>) -> Result<Command, Usage> {
    let pattern = |text: &String| match name::pattern(text) {
        Some(pattern) => Ok(pattern.to_string()),
        None => Err(Usage::new(
            format!("\"{text}\" is no pattern"),
            name::PATTERN_RULE,
        )),
    };
    let patterns = values[1..].iter().map(pattern).collect::<Result<_, _>>()?;
    Ok(Command::Watch {
        url: Url::parse(&values[0])?,
        patterns,
    })
}

/// The exit code of a command that printed. A closed output is no failure: whoever read it had
/// enough.
pub fn exit_code(printed: io::Result<u8>) -> u8 {
    match printed {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Usage> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn args(flags: Flags) -> Args {
        Args {
            flags,
            state: None,
            sys_root: PathBuf::from("/"),
        }
    }

    #[test]
    fn command_lines_that_are_understood() {
        let plain = || args(Flags::default());
        let url = |text| Url::parse(text).unwrap();
        let listen = vec!["127.0.0.1:1".parse().unwrap(), "[::]:2".parse().unwrap()];
        let full = Args {
            flags: Flags {
                config: Some("f".into()),
                board: Some("generic".into()),
                listen,
            },
            state: Some("s".into()),
            sys_root: "r".into(),
        };
        let published = |value: &str| Command::Publish {
            url: url("a:8080"),
            topic: "a/b".to_string(),
            value: value.to_string(),
        };
        for (line, want) in [
            ("", Command::Serve(plain())),
            ("serve", Command::Serve(plain())),
            (
                "--config f serve --board=generic --listen 127.0.0.1:1 --listen :2 --state s --sys-root r",
                Command::Serve(full.clone()),
            ),
            ("sensors", Command::Sensors(plain())),
            ("boards", Command::Boards(plain())),
            ("check", Command::Check(plain())),
            ("doctor", Command::Doctor(plain())),
            (
                "token phone",
                Command::Token {
                    args: plain(),
                    name: "phone".to_string(),
                },
            ),
            (
                "token --listen 127.0.0.1:1 --listen :2 --config f --board generic --sys-root r tv_2-x",
                Command::Token {
                    args: Args {
                        state: None,
                        ..full.clone()
                    },
                    name: "tv_2-x".to_string(),
                },
            ),
            ("publish a:8080 /a/b 5", published("5")),
            ("publish a:8080 a/b -5.5", published("-5.5")),
            ("publish a:8080 a/b -- --x", published("--x")),
            (
                "watch a",
                Command::Watch {
                    url: url("a"),
                    patterns: vec![],
                },
            ),
            (
                "watch http://a a/+ /#",
                Command::Watch {
                    url: url("a"),
                    patterns: vec!["a/+".to_string(), "#".to_string()],
                },
            ),
            ("serve -h", Command::Help),
            ("--help", Command::Help),
            ("-V", Command::Version),
            ("watch --version", Command::Version),
        ] {
            assert_eq!(parsed(line), Ok(want), "{line}");
        }
    }

    #[test]
    fn command_lines_that_are_not() {
        for (line, problem, fix) in [
            (
                "sevre",
                "there is no command \"sevre\"",
                "did you mean \"serve\"?",
            ),
            (
                "frobnicate",
                "there is no command \"frobnicate\"",
                "one of: serve, sensors, boards, check, doctor, token, publish, watch",
            ),
            (
                "--lsiten :1",
                "there is no flag --lsiten",
                "did you mean --listen?",
            ),
            ("-x", "there is no flag -x", "see encke --help"),
            ("--config", "--config needs a value", "see encke --help"),
            (
                "--listen localhost:80",
                "--listen \"localhost:80\" is no address",
                "write an address and a port: 0.0.0.0:8080, [::]:8080 or :8080",
            ),
            (
                "check --listen :1",
                "encke check takes no --listen",
                "encke check [flags, see encke --help]",
            ),
            (
                "boards --board a",
                "encke boards takes no --board",
                "encke boards [flags, see encke --help]",
            ),
            (
                "boards a",
                "encke boards does not take \"a\"",
                "encke boards [flags, see encke --help]",
            ),
            (
                "token",
                "encke token needs NAME",
                "encke token NAME [flags, see encke --help]",
            ),
            (
                "token my.phone",
                "\"my.phone\" is no name for a token",
                config::TOKEN_NAME_RULE,
            ),
            (
                "token a --state s",
                "encke token takes no --state",
                "encke token NAME [flags, see encke --help]",
            ),
            (
                "publish a b",
                "encke publish needs VALUE",
                "encke publish URL TOPIC VALUE",
            ),
            (
                "publish a b c d",
                "encke publish does not take \"d\"",
                "encke publish URL TOPIC VALUE",
            ),
            ("publish a b/+ c", "\"b/+\" is no topic", name::NAME_RULE),
            (
                "watch",
                "encke watch needs URL",
                "encke watch URL [PATTERN..]",
            ),
            (
                "watch a b/#/c",
                "\"b/#/c\" is no pattern",
                name::PATTERN_RULE,
            ),
            (
                "watch https://a",
                "\"https://a\" is https, which this client cannot speak",
                "write http://HOST:PORT; for https use curl -N URL/events/stream",
            ),
        ] {
            assert_eq!(parsed(line), Err(Usage::new(problem, fix)), "{line}");
        }
        let name = |bytes: usize| parsed(&format!("token {}", "x".repeat(bytes)));
        assert!(name(32).is_ok() && name(33).is_err());
        let empty = parse(["token", ""].map(OsString::from));
        assert_eq!(empty.unwrap_err().problem, "\"\" is no name for a token");
    }

    #[test]
    fn help_is_short_and_names_everything() {
        assert!(HELP.lines().count() < 40 && HELP.lines().all(|line| line.len() < 100));
        for form in FORMS.iter().skip(1) {
            let line = format!("encke {}", form.name);
            assert!(HELP.contains(&line), "{line}");
        }
        assert!(
            FORMS[0]
                .flags
                .iter()
                .all(|flag| HELP.contains(&format!("--{flag} ")))
        );
    }

    #[test]
    fn a_closed_output_is_no_failure() {
        assert_eq!(exit_code(Err(io::ErrorKind::BrokenPipe.into())), 0);
        assert_eq!(
            (
                exit_code(Ok(2)),
                exit_code(Err(io::ErrorKind::StorageFull.into()))
            ),
            (2, 1)
        );
    }
}
