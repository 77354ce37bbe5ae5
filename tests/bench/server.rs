//! The server that is measured: a child process, and what the kernel says of it.
//!
//! proc(5): `task/*/schedstat` for time on a processor, `smaps_rollup` and `status` for memory. It
//! never looks into the server, and ends no process but its own child.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// How long a server may take to end, emulated or under valgrind.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// Sources off; room for everybody, and for an address that has all viewers.
pub(crate) const QUIET: &str = "[sources]\nexclude = [\"#\"]\n[limits]\nper_address = 100000\n";

/// Which processor this thread, and what it starts, is to run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Server,
    Generator,
}

/// Keeps server and generator off each other's processor, where there are two.
pub(crate) fn pin(side: Side, allowed: &CpuSet) {
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let (Some(first), Some(last)) = (cpus.next(), cpus.next_back()) else {
        return;
    };
    let mut own = CpuSet::new();
    own.set(if side == Side::Server { first } else { last });
    // Where it is forbidden the figures are worse, not wrong.
    let _ = sched_setaffinity(None, &own);
}

/// The processors we may run on.
pub(crate) fn allowed() -> CpuSet {
    sched_getaffinity(None).unwrap_or_default()
}

/// Raises the soft limit of descriptors to the hard one; how many there may be.
pub(crate) fn descriptors() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Bytes of a process.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// Its own, not of a file.
    pub(crate) anonymous: u64,
    /// The most that was resident at once.
    pub(crate) peak: u64,
}

/// A file that is gone with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(ending: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("encke-bench-{}-{count}.{ending}", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A server of our own, ended with its owner.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddrV4,
    command: Vec<String>,
    config: Scratch,
    log: Scratch,
    /// Open, or what the server prints would fail.
    output: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
    allowed: CpuSet,
}

impl Server {
    /// Starts `command` with the configuration, on a port that the kernel chooses.
    pub(crate) fn start(command: &[String], config: &str, allowed: CpuSet) -> Outcome<Server> {
        let (file, log) = (Scratch::new("toml"), Scratch::new("log"));
        let config = format!("{QUIET}{config}");
        fs::write(&file.0, config).map_err(|error| format!("{}: {error}", file.0.display()))?;
        let nowhere = SocketAddrV4::new([127, 0, 0, 1].into(), 0);
        let mut started = spawn(command, &file, &log, nowhere, &allowed)?;
        let (output, input) = (pipe(started.stdout.take())?, started.stdin.take());
        let mut server = Server {
            child: started,
            address: nowhere,
            command: command.to_vec(),
            config: file,
            log,
            output: BufReader::new(output),
            input,
            allowed,
        };
        server.address = server.announced()?;
        Ok(server)
    }

    /// Starts it again at the same address, after `kill`.
    pub(crate) fn start_again(&mut self) -> Outcome<()> {
        let (config, log) = (&self.config, &self.log);
        self.child = spawn(&self.command, config, log, self.address, &self.allowed)?;
        self.output = BufReader::new(pipe(self.child.stdout.take())?);
        self.input = self.child.stdin.take();
        self.announced().map(drop)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The address in the banner.
    fn announced(&mut self) -> Outcome<SocketAddrV4> {
        loop {
            let line = self.line()?;
            let address = line
                .split_once("http://")
                .and_then(|(_, rest)| rest.split('/').next());
            if let Some(address) = address {
                let wrong = |_| format!("the banner names no address of IPv4: {line:?}");
                return address.parse().map_err(wrong);
            }
        }
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Err(format!("the server ended:\n{}", self.log.read())),
            Ok(_) => Ok(line),
            Err(error) => Err(format!("the server's output: {error}")),
        }
    }

    /// Where it is told things: those that listen to it.
    pub(crate) fn input(&mut self) -> Option<&mut ChildStdin> {
        self.input.as_mut()
    }

    /// Lets it end when its input does.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        self.log.read()
    }

    /// Asks it to end, and waits.
    pub(crate) fn end(&mut self) -> Outcome<()> {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let until = Instant::now() + END_PATIENCE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the server ended with {status}")),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        self.kill();
        Err(format!("the server did not end within {END_PATIENCE:?}"))
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    /// Time that all its threads together were on a processor.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(self.file("task")).into_iter().flatten();
        let times = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }

    /// Its memory now.
    pub(crate) fn memory(&self) -> Memory {
        let read = |name: &str| fs::read_to_string(self.file(name)).unwrap_or_default();
        let (rollup, status) = (read("smaps_rollup"), read("status"));
        let bytes = |text: &str, name: &str| {
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or(0) * 1024
        };
        Memory {
            resident: bytes(&status, "VmRSS:"),
            anonymous: bytes(&rollup, "Anonymous:"),
            peak: bytes(&status, "VmHWM:"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pipe(output: Option<ChildStdout>) -> Outcome<ChildStdout> {
    output.ok_or_else(|| "the server has no output".to_string())
}

fn spawn(
    command: &[String],
    config: &Scratch,
    log: &Scratch,
    listen: SocketAddrV4,
    allowed: &CpuSet,
) -> Outcome<Child> {
    let (program, arguments) = command.split_first().ok_or("no server is named")?;
    let errors = fs::File::options().create(true).append(true).open(&log.0);
    let errors = errors.map_err(|error| format!("{}: {error}", log.0.display()))?;
    // A child has the processors of who starts it.
    pin(Side::Server, allowed);
    let child = Command::new(program)
        .args(arguments)
        .args(["serve", "--board", "generic", "--config"])
        .arg(&config.0)
        .args(["--listen", &listen.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn();
    pin(Side::Generator, allowed);
    child.map_err(|error| format!("cannot start {program}: {error}"))
}
