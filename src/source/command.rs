//! A program that runs beside us, in a process group of its own, and how it ends with us.
//!
//! Follows setpgid(2), waitid(2) and signal(7). It is started by its name and arguments, never by a
//! shell, without an input and in our environment. Its group is asked to end, and after a quarter of a second made to;
//! what a program leaves behind in its group when it ends is ended too. A group is signalled only
//! before its leader was waited for, while nobody else can have its number.
//!
//! When we are killed (SIGKILL) nobody tells our programs: each ends when it next writes to its
//! pipe, and systemd ends what is left of a unit. To be told by the kernel (PR_SET_PDEATHSIG) would
//! take `unsafe`.

use crate::clock::boot_ms;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// From the request to end until it is no request any more.
const GRACE_MS: u64 = 250;
/// From the request to end until nothing will end it.
const GIVE_UP_MS: u64 = 2000;
/// The longest pause between two looks whether it has ended.
const PAUSE_MS_MAX: u64 = 50;
/// Bytes of its standard error that are kept.
const WORDS_BYTES_MAX: usize = 200;

/// The programs that run.
struct Register {
    running: Vec<Pid>,
    /// Starts that are under way: not under the lock, for a start reads from the disk.
    starting: usize,
    is_closed: bool,
}

static REGISTER: Mutex<Register> = Mutex::new(Register {
    running: Vec::new(),
    starting: 0,
    is_closed: false,
});

fn register() -> MutexGuard<'static, Register> {
    REGISTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every program of `[[source]]` and lets no further one start: for the end of our own. Takes
/// as long as they do, at most a quarter of a second.
pub fn end_all() {
    register().is_closed = true;
    let signal_all = |signal| {
        let register = register();
        for &pid in &register.running {
            let _ = kill_process_group(pid, signal);
        }
    };
    signal_all(Signal::TERM);
    for _ in 0..GRACE_MS / 10 {
        let register = register();
        if register.starting == 0 && register.running.iter().all(|&pid| has_ended(pid)) {
            break;
        }
        drop(register);
        thread::sleep(Duration::from_millis(10));
    }
    signal_all(Signal::KILL);
}

/// Whether our own end has begun, so that a program's end is no surprise.
pub(super) fn are_ending() -> bool {
    register().is_closed
}

/// Whether the child is a zombie, which it stays, or is there no more.
fn has_ended(pid: Pid) -> bool {
    look(pid) != Ok(false)
}

/// Whether the child is a zombie. CHILD when the kernel took it away, which it does when whoever
/// started us has SIGCHLD ignored.
fn look(pid: Pid) -> Result<bool, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => Ok(status.is_some()),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A program that was started and not yet waited for.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pid: Pid,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts the first of `words` with the others as its arguments.
    pub(super) fn start(words: &[String]) -> Result<Running, String> {
        let (program, arguments) = words.split_first().ok_or("there is no command")?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let ending = || "encke ends".to_owned();
        {
            let mut register = register();
            if register.is_closed {
                return Err(ending());
            }
            register.starting += 1;
        }
        let outcome = command.spawn();
        let mut register = register();
        register.starting -= 1;
        let child = outcome.map_err(|error| not_started(program, &error))?;
        let pid = Pid::from_child(&child);
        register.running.push(pid);
        let is_closed = register.is_closed;
        drop(register);
        // When closed, its drop ends it.
        let running = Running {
            child,
            pid,
            status: None,
        };
        if is_closed {
            Err(ending())
        } else {
            Ok(running)
        }
    }

    /// What it writes: standard output and standard error. Once.
    pub(super) fn pipes(&mut self) -> io::Result<(ChildStdout, ChildStderr)> {
        let pipes = self.child.stdout.take().zip(self.child.stderr.take());
        pipes.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits so long for it to end by itself, then ends it; on a thread, for it sleeps. `None` when
    /// even that does not help: it hangs in the kernel.
    pub(super) fn end(&mut self, wait_ms: u64) -> Option<ExitStatus> {
        let begun_ms = boot_ms();
        let mut is_asked = false;
        let mut pause_ms = 1;
        loop {
            if self.has_ended() {
                return self.bury();
            }
            let late_ms = (boot_ms() - begun_ms).checked_sub(wait_ms);
            match late_ms {
                None => {}
                Some(_) if !is_asked => {
                    is_asked = true;
                    let _ = kill_process_group(self.pid, Signal::TERM);
                }
                Some(late_ms) if late_ms >= GIVE_UP_MS => return None,
                Some(late_ms) if late_ms >= GRACE_MS => {
                    let _ = kill_process_group(self.pid, Signal::KILL);
                }
                Some(_) => {}
            }
            thread::sleep(Duration::from_millis(pause_ms));
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.status.is_some() || has_ended(self.pid)
    }

    /// Ends what is left of the group and takes the status, if there is one.
    fn bury(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let mut register = register();
            self.status = if look(self.pid) == Err(Errno::CHILD) {
                // How it ended is not known; what it printed is.
                Some(ExitStatus::default())
            } else {
                let _ = kill_process_group(self.pid, Signal::KILL);
                self.child.try_wait().ok().flatten()
            };
            if self.status.is_some() {
                register.running.retain(|&pid| pid != self.pid);
            }
        }
        self.status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.bury().is_none() {
            register().running.retain(|&pid| pid != self.pid);
        }
    }
}

/// A program that is asked to end when this is dropped, which waits for nothing. Until it has ended
/// it can write: that it cannot would end it without a word.
#[derive(Debug)]
pub(super) struct Guest {
    running: Option<Running>,
    pipes: Vec<OwnedFd>,
}

impl Guest {
    /// `pipes` are those of `running`, if it has them still.
    pub(super) fn new(running: Running, pipes: Option<&(ChildStdout, ChildStderr)>) -> Guest {
        let fds = pipes.map(|(out, err)| [out.as_fd(), err.as_fd()]);
        let held = fds.into_iter().flatten().map(|fd| fd.try_clone_to_owned());
        Guest {
            running: Some(running),
            pipes: held.flatten().collect(),
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(Running::has_ended)
    }

    /// Ends it, as `Running::end`; now it cannot write.
    pub(super) fn end(&mut self, wait_ms: u64) -> Option<ExitStatus> {
        self.pipes.clear();
        let status = self.running.as_mut()?.end(wait_ms)?;
        self.running = None;
        Some(status)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let pipes = std::mem::take(&mut self.pipes);
            let end = move || {
                running.end(0);
                drop(pipes);
            };
            smol::unblock(end).detach();
        }
    }
}

fn not_started(program: &str, error: &io::Error) -> String {
    let fix = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => "; there is no such file",
        io::ErrorKind::NotFound => "; write its full path",
        io::ErrorKind::PermissionDenied if program.starts_with("/home") => {
            "; the service does not see /home: put it into /usr/local/bin"
        }
        io::ErrorKind::PermissionDenied => "; it must be executable for the user encke runs as",
        _ => "",
    };
    format!("cannot run {program}: {error}{fix}")
}

/// The last words on standard error, for a complaint.
#[derive(Debug, Default)]
pub(super) struct LastWords(Vec<u8>);

impl LastWords {
    pub(super) fn hear(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
        // Behind the last line a line feed may stand.
        let begin = self
            .0
            .trim_ascii_end()
            .iter()
            .rposition(|&byte| byte == b'\n');
        self.0.drain(..begin.map_or(0, |at| at + 1));
        let spare = self.0.len().saturating_sub(WORDS_BYTES_MAX);
        self.0.drain(..spare);
    }

    /// `: ` and the words, or nothing.
    pub(super) fn text(&self) -> String {
        let words = String::from_utf8_lossy(self.0.trim_ascii());
        let words = words.replace(char::is_control, " ");
        if words.is_empty() {
            words
        } else {
            format!(": {words}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn shell(script: &str) -> Running {
        Running::start(&["sh", "-c", script].map(str::to_owned)).unwrap()
    }

    fn said(running: &mut Running) -> String {
        let mut text = String::new();
        running
            .pipes()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn is_there(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn goes(pid: &str) -> bool {
        let mut looks = 0..1000;
        looks.any(|_| {
            thread::sleep(Duration::from_millis(10));
            !is_there(pid)
        })
    }

    #[test]
    fn a_program_has_no_input_and_none_of_our_descriptors() {
        let _held = std::fs::File::open("/proc/version").unwrap();
        let mut running = shell("read -r line || echo none; ls -l /proc/$$/fd");
        let said = said(&mut running);
        assert!(said.starts_with("none\n"), "{said}");
        assert!(
            said.contains(" 2 -> ") && !said.contains("/proc/version"),
            "{said}"
        );
        assert!(running.end(1000).unwrap().success());
    }

    #[test]
    fn what_it_leaves_behind_ends_with_it() {
        let mut running = shell("sleep 60 >/dev/null 2>&1 & echo $!");
        let pid = said(&mut running);
        assert!(is_there(&pid));
        assert!(running.end(1000).unwrap().success());
        assert!(goes(&pid));
    }

    #[test]
    fn it_is_asked_then_made_to_end() {
        let begun_ms = boot_ms();
        let mut running = shell("exec sleep 60");
        let status = running.end(0).unwrap();
        assert_eq!(status.to_string(), "signal: 15 (SIGTERM)");
        let mut running = shell("trap '' TERM; echo; while :; do sleep 60; done");
        let (mut out, _err) = running.pipes().unwrap();
        out.read_exact(&mut [0]).unwrap();
        let status = running.end(0).unwrap();
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL)");
        assert_eq!(running.end(0), Some(status), "an end is an end");
        assert!(boot_ms() - begun_ms < 10_000);
    }

    #[test]
    fn it_ends_when_dropped() {
        let mut running = shell("sleep 60 >&2 & echo $!; exec 1>&-; wait");
        let pid = said(&mut running);
        let own = running.pid;
        assert!(is_there(&pid) && register().running.contains(&own));
        drop(running);
        assert!(goes(&pid) && !register().running.contains(&own));
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let why = |program: &str| Running::start(&[program.to_owned()]).unwrap_err();
        assert!(why("no-such-program").ends_with("; write its full path"));
        assert!(why("/no/such/program").ends_with("; there is no such file"));
        let folder = why("/");
        assert!(
            folder.starts_with("cannot run /: ") && folder.contains("executable"),
            "{folder}"
        );
    }

    #[test]
    fn last_words() {
        let told = |chunks: &[&str]| {
            let mut words = LastWords::default();
            chunks.iter().for_each(|chunk| words.hear(chunk.as_bytes()));
            words.text()
        };
        assert_eq!(told(&[]), "");
        assert_eq!(told(&["\n\n"]), "");
        assert_eq!(told(&["one\ntw", "o\t\n", "\n"]), ": two");
        assert_eq!(told(&["a\x1b[1m\n"]), ": a [1m");
        assert_eq!(told(&[&"x".repeat(500)]).len(), 2 + WORDS_BYTES_MAX);
    }
}
