//! `encke`: the command. It parses, loads, prints and exits; what it starts lives in the library.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use encke::board::{self, Machine};
use encke::cli::{self, Args, Command, Plan, banner, client};
use encke::config::{Config, Sources};
use encke::doctor;
use encke::hub::event::State;
use encke::log;
use encke::peers::Settings;
use encke::sandbox;
use encke::server::{self, Hangup, Server};
use encke::source;

/// How long slow sensors may take to be in the table at start.
const BANNER_PATIENCE: Duration = Duration::ZERO;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(cli::EXIT_USAGE);
        }
    };
    let code = cli::exit_code(run(command));
    source::end_commands();
    ExitCode::from(code)
}

fn run(command: Command) -> io::Result<u8> {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    match command {
        Command::Serve(args) => serve(&args),
        Command::Sensors(args) => sensors(&args),
        Command::Boards(args) => cli::boards(&args, &mut out).map(|()| 0),
        Command::Check(args) => cli::check(&args, &mut out, &mut err),
        Command::Publish { url, topic, value } => {
            with_token(|shown| client::publish(&url, &topic, &value, shown, &mut out, &mut err))
        }
        Command::Watch { url, patterns } => {
            with_token(|shown| client::watch(&url, &patterns, shown, &mut out, &mut err))
        }
        Command::Doctor(args) => doctor(&args),
        Command::Token { args, name } => {
            let is_terminal = out.is_terminal();
            cli::token(&args, &name, &mut out, &mut err, is_terminal)
        }
        Command::Help => write!(out, "{}", cli::HELP).map(|()| 0),
        Command::Version => writeln!(out, "{}", cli::VERSION).map(|()| 0),
    }
}

/// Runs a command of the client with the field that shows the token of the environment.
fn with_token(command: impl FnOnce(&str) -> io::Result<u8>) -> io::Result<u8> {
    match client::authorization() {
        Ok(shown) => command(&shown),
        Err(usage) => {
            eprintln!("{usage}");
            Ok(cli::EXIT_USAGE)
        }
    }
}

fn load(args: &Args) -> Result<Config, u8> {
    match board::load(&args.flags, &Machine::read(&args.sys_root)) {
        Ok((config, _)) => Ok(config),
        Err(error) => {
            log::error(format_args!("{error}"));
            Err(1)
        }
    }
}

/// A server at the sockets that systemd handed over, else at the addresses that are configured.
fn listen(config: &Config, settings: Settings, sys_root: &Path) -> Result<Server, u8> {
    let handed = server::handed().map_err(|wrong| {
        log::error(format_args!("{wrong}"));
        1
    })?;
    let bound = Server::bind(&config.server.listen, handed, settings, sys_root);
    bound.map_err(|(address, error)| {
        log::error(format_args!("cannot listen at {address}: {error}"));
        if error.kind() == io::ErrorKind::AddrInUse {
            log::error(format_args!(
                "another program has that port; choose one with --listen"
            ));
        }
        1
    })
}

fn serve(args: &Args) -> io::Result<u8> {
    let hangup = Hangup::expect()?;
    // Else the kernel fills the room kept for peers that never come with pages of 2 MiB.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let plan = match Plan::new(args) {
        Ok(plan) => plan,
        Err(error) => {
            log::error(format_args!("{error}"));
            return Ok(1);
        }
    };
    let board = plan.board();
    let Plan {
        config,
        settings,
        costs,
        ..
    } = plan;
    let viewers = settings.viewers;
    if viewers < config.limits.viewers {
        log::warning(format_args!(
            "room for {viewers} viewers, not {}: the limit of open files is too low",
            config.limits.viewers
        ));
    }
    let mut server = match listen(&config, settings, &args.sys_root) {
        Ok(server) => server,
        Err(code) => return Ok(code),
    };
    let readings = source::snapshot(&config, &args.sys_root, BANNER_PATIENCE);
    let addresses = server.addresses();
    let facts = banner::Facts {
        addresses: banner::reachable(&addresses),
        name: addresses
            .iter()
            .any(|a| !a.ip().is_loopback())
            .then(server::machine_name)
            // What the kernel says of a machine that was never named.
            .filter(|name| !["", "(none)", "localhost"].contains(&name.as_str())),
        sensors: readings
            .into_iter()
            .map(|r| match r.state {
                // A slow sensor has not answered yet.
                State::Stale => (r.topic, "...".to_string(), r.unit),
                _ => (r.topic, r.value, r.unit),
            })
            .collect(),
        has_tokens: !config.tokens.is_empty(),
        board,
        costs,
        memory: config.board.memory,
        is_terminal: io::stdout().is_terminal(),
    };
    // Nobody has to read it.
    let _ = banner::banner(&mut io::stdout(), &facts);
    if let Some(at) = facts.addresses.first() {
        let (count, board) = (facts.sensors.len(), &facts.board);
        log::info(format_args!(
            "started at http://{at}/ with {count} readings; {board}"
        ));
    }
    server.reload_with(args.flags.clone(), &config, &args.sys_root, hangup);
    // Everything listens, and there is no second thread yet: both are needed.
    sandbox::confine(&config, args.flags.config.as_deref(), &args.sys_root);
    server.run(&smol::LocalExecutor::new(), &config, args.sys_root.clone())?;
    log::info(format_args!("stopped"));
    Ok(0)
}

/// Every reading: live for somebody who looks, once for a program.
fn sensors(args: &Args) -> io::Result<u8> {
    let config = match load(args) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let mut out = io::stdout();
    match out.is_terminal() {
        true => cli::sensors::live(&config, &args.sys_root, &mut out),
        false => cli::sensors::list(&config, &args.sys_root, &mut out),
    }
    .map(|()| 0)
}

/// What is wrong with the board, and what mends it.
fn doctor(args: &Args) -> io::Result<u8> {
    let mut plan = match Plan::new(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}");
            return Ok(1);
        }
    };
    // What is excluded has to be found, too, or its pattern would look like a slip. Names are
    // enough, so nobody waits for slow sensors.
    let all = Sources {
        include: Vec::new(),
        exclude: Vec::new(),
    };
    let wanted = std::mem::replace(&mut plan.config.sources, all);
    let readings = source::snapshot(&plan.config, &args.sys_root, Duration::ZERO);
    plan.config.sources = wanted;
    let facts = doctor::Facts {
        topics: readings.into_iter().map(|reading| reading.topic).collect(),
        rules_of_board: plan.profile.config().topic.len(),
        memory_bytes: plan.costs.iter().map(|cost| cost.bytes).sum(),
        ..doctor::Facts::gather(&args.sys_root)
    };
    let findings = doctor::examine(&plan.config, &args.sys_root, &facts);
    doctor::print(&findings, &mut io::stdout())
}
