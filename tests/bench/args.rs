//! The command line of the load generator. It never guesses: what it does not know is a fault.

use std::time::Duration;

use rustix::thread::CpuSet;

use crate::Outcome;
use crate::client::Transport;
use crate::server::{self, Server};
use crate::shapes::SHAPES;
use crate::world::World;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    /// One shape, or all of them shortly.
    pub(crate) shape: Option<String>,
    count: Option<usize>,
    seconds: Option<f64>,
    transport: Option<Transport>,
    /// The server's program and what stands before its own arguments.
    pub(crate) server: Vec<String>,
    /// Events in flight in a closed loop.
    pub(crate) window: usize,
    /// Events a second where they are paced.
    pub(crate) rate: Option<f64>,
    /// Bytes of a published value.
    pub(crate) payload: Option<usize>,
    repetitions: Option<usize>,
    /// User instructions in place of time.
    pub(crate) counts_instructions: bool,
    pub(crate) is_tsv: bool,
    allowed: CpuSet,
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "\
Usage: cargo bench [--bench load -- [SHAPE] [FLAG..]]

Without a shape all of them are measured, shortly. Shapes:
",
    );
    for shape in SHAPES {
        text += &format!("  {:10} {}\n", shape.name, shape.about);
    }
    text + "
  --n N              viewers, in place of what the shape has
  --seconds S        how long one measurement takes
  --transport NAME   sse, stream or poll, in place of all that the shape has
  --window W         events in flight in a closed loop, 1 by default
  --rate R           events a second, where they are paced
  --payload BYTES    of a published value, at least 23
  --reps R           repetitions, where a median is taken
  --insn             closed, sets: user instructions, counted by valgrind, in place of time
  --server COMMAND   the server, split at spaces, as 'qemu-aarch64 PATH'; else ENCKE_BIN, else the
                     one that was built with this
  --tsv              name, value and unit with tabs between

Where two processors are allowed, the server has the first and the generator the last of them.
"
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Outcome<T> {
    let wrong = |_| format!("{flag} {value}: this has to be a number; see --help");
    value.parse().map_err(wrong)
}

impl Args {
    /// `None` when help was asked for.
    pub(crate) fn parse(words: &[String]) -> Outcome<Option<Args>> {
        let built = || vec![env!("CARGO_BIN_EXE_encke").to_string()];
        let mut args = Args {
            shape: None,
            count: None,
            seconds: None,
            transport: None,
            server: std::env::var("ENCKE_BIN").map_or_else(|_| built(), |path| vec![path]),
            window: 1,
            rate: None,
            payload: None,
            repetitions: None,
            counts_instructions: false,
            is_tsv: false,
            allowed: server::allowed(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => continue,
                "--tsv" => args.is_tsv = true,
                "--insn" => args.counts_instructions = true,
                "-h" | "--help" => return Ok(None),
                flag if flag.starts_with('-') => {
                    let value = words.next().ok_or(format!("{flag} needs a value"))?;
                    args.take(flag, value)?;
                }
                name => {
                    let known = SHAPES.iter().any(|shape| shape.name == name);
                    if !known || args.shape.replace(name.to_string()).is_some() {
                        return Err(format!("{name} is not one shape; see --help"));
                    }
                }
            }
        }
        Ok(Some(args))
    }

    fn take(&mut self, flag: &str, value: &str) -> Outcome<()> {
        match flag {
            "--n" => self.count = Some(number(flag, value)?),
            "--seconds" => self.seconds = Some(number(flag, value)?),
            "--window" => self.window = number::<usize>(flag, value)?.max(1),
            "--rate" => self.rate = Some(number(flag, value)?),
            "--payload" => self.payload = Some(number::<usize>(flag, value)?.clamp(23, 7000)),
            "--reps" => self.repetitions = Some(number::<usize>(flag, value)?.max(1)),
            "--server" => self.server = value.split_whitespace().map(str::to_string).collect(),
            "--transport" => {
                let mut all = Transport::VIEWERS.into_iter();
                let found = all.find(|transport| transport.name() == value);
                let wrong = || format!("--transport {value}: it is sse, stream or poll");
                self.transport = Some(found.ok_or_else(wrong)?);
            }
            _ => return Err(format!("there is no flag {flag}; see --help")),
        }
        Ok(())
    }

    /// Whether everything is to be measured, and so each shape only shortly.
    pub(crate) fn is_short(&self) -> bool {
        self.shape.is_none()
    }

    /// How long to measure: at length, or shortly.
    pub(crate) fn time(&self, long_s: f64, short_s: f64) -> Duration {
        let usual = if self.is_short() { short_s } else { long_s };
        Duration::from_secs_f64(self.seconds.unwrap_or(usual).clamp(0.1, 600.0))
    }

    /// How often to measure: at length, or shortly.
    pub(crate) fn repetitions(&self, long: usize, short: usize) -> usize {
        let usual = if self.is_short() { short } else { long };
        self.repetitions.unwrap_or(usual)
    }

    /// Viewers: the one number that was asked for, or the usual ones.
    pub(crate) fn counts(&self, usual: &[usize]) -> Vec<usize> {
        self.count.map_or(usual.to_vec(), |count| vec![count])
    }

    /// Viewers, of a shape with one number of them.
    pub(crate) fn count(&self, usual: usize) -> usize {
        self.count.unwrap_or(usual)
    }

    /// Transports: the one that was asked for, or those of the shape; only the first when short.
    pub(crate) fn transports(&self, all: &[Transport]) -> Vec<Transport> {
        match self.transport {
            Some(transport) => vec![transport],
            None if self.is_short() => all[..1].to_vec(),
            None => all.to_vec(),
        }
    }

    /// Starts the server, and a world around it.
    pub(crate) fn world(&self, config: &str, topics: &[String]) -> Outcome<World> {
        self.world_of(&self.server, config, topics)
    }

    /// The same with another command.
    pub(crate) fn world_of(
        &self,
        command: &[String],
        config: &str,
        topics: &[String],
    ) -> Outcome<World> {
        let server = Server::start(command, config, self.allowed)?;
        World::new(server, topics, self.payload.unwrap_or(64))
    }
}
