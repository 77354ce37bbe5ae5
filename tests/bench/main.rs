//! The load generator: starts the release server, drives it over loopback, prints figures.
//!
//! `cargo bench` measures everything shortly; `cargo bench --bench load -- SHAPE` one shape at
//! length. A delivery counts only when its framing is right and its payload is the one that was
//! published; before anything is measured, `proof` shows that what is wrong is noticed. The
//! figures are of this computer with both ends on it: compare only what ran side by side.

mod args;
mod book;
mod client;
mod drive;
mod proof;
mod report;
mod server;
mod shapes;
mod sockets;
mod world;

use std::process::ExitCode;

use args::Args;
use report::Report;

/// What went wrong, in words.
pub(crate) type Outcome<T> = Result<T, String>;

fn run() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().map(String::as_str) == Some(shapes::timer::SERVE) {
        return shapes::timer::serve(&words[1..]);
    }
    let Some(args) = Args::parse(&words)? else {
        print!("{}", args::help());
        return Ok(());
    };
    proof::prove()?;
    server::descriptors();
    let report = Report {
        is_tsv: args.is_tsv,
    };
    report.heading(&format!(
        "{} on loopback, figures of this computer only",
        args.server.join(" ")
    ));
    let one = args.shape.as_deref();
    for shape in shapes::SHAPES {
        if one.is_none_or(|name| name == shape.name) {
            (shape.run)(&args, &report).map_err(|why| format!("{}: {why}", shape.name))?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("load: {why}");
            ExitCode::FAILURE
        }
    }
}
