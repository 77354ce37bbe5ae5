//! What the tests of peers share: a world without sockets and clocks, and transcripts played in it.

pub(crate) mod client;
pub(crate) mod play;
pub(crate) mod real;
pub(crate) mod transcript;
pub(crate) mod world;

use std::ffi::OsStr;
use std::process::Command;

/// Whether an emulator runs this: what is many times slower there is done less often.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os("ENCKE_RUNNER").is_some()
}

/// The step from one of many alike to the next that is tried: 1, or `emulated` where that is slow.
pub(crate) fn step(emulated: usize) -> usize {
    if is_emulated() { emulated } else { 1 }
}

/// A program that was built with this test, as a command: started by the emulator that ENCKE_RUNNER
/// names, if it does, because then both are for another kind of computer.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let Some(runner) = std::env::var_os("ENCKE_RUNNER") else {
        return Command::new(program);
    };
    let mut command = Command::new(runner);
    command.arg(program);
    command
}
