//! Any program as a source: run at an interval for what it prints, or for ever, a line a reading.
//!
//! What a line may be is in `line.rs`; how a program is started and ended, in `command.rs`. At an
//! interval the whole output may also be one JSON text in several lines, and of two readings of one
//! topic the later counts; a status other than 0, more output than fits, or more time than
//! configured are an error, and nothing of the output is taken. A program that runs for ever is
//! started again when it ends or closes its standard output; meanwhile its topics are stale. What
//! it last said on standard error is part of the complaint, and nothing else is done with it.

use super::batch::{Batch, Channel, Entry, READINGS_MAX};
use super::command::{Guest, LastWords, Running, are_ending};
use super::feed::{Backoff, Complaint, Feed, inlet, read, read_now};
use super::heading::{Heading, Unfit};
use super::line::{self, LINE_BYTES_MAX};
use super::{Fault, Source};
use crate::clock::boot_ms;
use crate::config::Exec;
use crate::wire::json;
use async_io::Timer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smol::future;
use std::io;
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};
use std::time::Duration;

/// Bytes that a run at an interval may print.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes heard at once.
const CHUNK_BYTES: usize = 4096;
/// Bytes that a pipe holds (pipe(7)).
const PIPE_BYTES: usize = 64 * 1024;
/// How often to look whether a program has ended whose output somebody else holds open.
const LOOK_MS: u64 = 100;
/// How long a program may go on that has closed its output.
const LINGER_MS: u64 = 1000;

/// A program that is run at an interval.
pub(super) struct Program {
    key: String,
    words: Vec<String>,
    heading: Heading,
    channels: Vec<Channel>,
    interval_ms: u64,
    timeout_ms: u64,
    complaint: Complaint,
    /// The last run, when it could not be ended.
    left: Option<Running>,
}

impl Program {
    /// `None` when it runs for ever.
    pub(super) fn new(exec: &Exec, complaint: Complaint) -> Option<Program> {
        let heading = heading(exec);
        Some(Program {
            key: format!("exec:{}", exec.place),
            words: exec.command.clone(),
            channels: heading.channels(),
            heading,
            interval_ms: exec.interval_ms?,
            timeout_ms: exec.timeout_ms,
            complaint,
            left: None,
        })
    }

    /// What one run prints.
    fn run(&mut self) -> Result<Vec<u8>, String> {
        if let Some(left) = &mut self.left {
            if left.end(0).is_none() {
                return Err(self.about("still hangs in the kernel and cannot be ended"));
            }
            self.left = None;
        }
        let mut running = Running::start(&self.words)?;
        let until_ms = boot_ms() + self.timeout_ms;
        let mut ears = Ears::new(&mut running).map_err(|error| self.about(&error.to_string()))?;
        let heard = ears.listen(&running, until_ms);
        let wait_ms = until_ms.saturating_sub(boot_ms());
        let status = running.end(if heard.is_ok() { wait_ms } else { 0 });
        let outcome = match (heard, status) {
            (Err(why), _) => Err(why),
            (Ok(()), _) if boot_ms() >= until_ms => Err(late(self.timeout_ms)),
            (Ok(()), Some(status)) if !status.success() => Err(format!("ended with {status}")),
            (Ok(()), _) => Ok(ears.said),
        };
        if status.is_none() {
            self.left = Some(running);
        }
        outcome.map_err(|why| self.about(&(why + &ears.words.text())))
    }

    fn about(&self, what: &str) -> String {
        format!("{} {what}", self.words[0])
    }

    /// The readings in what it printed.
    fn take(&mut self, said: &[u8], now_ms: u64, batch: &mut Batch) -> Result<(), String> {
        let is_document = json::validate(said).is_ok();
        let mut latest: Vec<(Channel, String)> = Vec::new();
        let mut line_batch = Batch::default();
        let mut first_wrong = None;
        for line in said.split(|&byte| byte == b'\n' && !is_document) {
            let outcome = if line.len() > LINE_BYTES_MAX && !is_document {
                Err(Unfit::Long(LINE_BYTES_MAX))
            } else {
                line::read(line, &self.heading, &mut line_batch)
            };
            if let Err(unfit) = outcome {
                first_wrong = first_wrong.or(Some(unfit));
                continue;
            }
            for entry in line_batch.entries() {
                let is_same = |(channel, _): &(Channel, _)| channel.topic == entry.topic;
                match latest.iter().position(is_same) {
                    Some(at) => latest[at].1.clone_from(&entry.value),
                    None if latest.len() == READINGS_MAX => {
                        first_wrong = first_wrong.or(Some(Unfit::Topics(READINGS_MAX)));
                    }
                    None => latest.push((channel_of(entry), entry.value.clone())),
                }
            }
        }
        match first_wrong {
            Some(unfit) if latest.is_empty() => return Err(self.about(&format!("printed {unfit}"))),
            Some(unfit) => {
                let text = self.about(&format!("printed {unfit}"));
                self.complaint.make(now_ms, text);
            }
            None if latest.is_empty() && self.heading.has_topic() => {
                return Err(self.about("printed nothing; a value was expected"));
            }
            None => {}
        }
        for (channel, value) in &latest {
            batch.json(channel, value);
        }
        Ok(())
    }
}

impl Source for Program {
    fn key(&self) -> &str {
        &self.key
    }

    fn period_ms(&self) -> u64 {
        self.interval_ms
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let outcome = self.run();
        let outcome = outcome.and_then(|said| self.take(&said, now_ms, batch));
        outcome.map_err(|text| {
            if !are_ending() {
                self.complaint.make(now_ms, text);
            }
            Fault::Failed
        })
    }
}

/// What the entry says about its readings.
pub(super) fn heading(exec: &Exec) -> Heading {
    Heading::new(
        exec.topic.as_deref(),
        exec.label.as_deref(),
        exec.unit.as_deref(),
    )
}

fn channel_of(entry: &Entry) -> Channel {
    Channel::named(entry.topic.clone(), entry.label.clone(), entry.unit.clone())
}

fn late(timeout_ms: u64) -> String {
    format!(
        "took longer than its timeout of {} s and was ended",
        timeout_ms as f64 / 1000.0
    )
}

/// Hears one run on a thread, without waiting longer than it may.
struct Ears {
    /// `None` when closed.
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    room: Vec<u8>,
    said: Vec<u8>,
    words: LastWords,
}

impl Ears {
    fn new(running: &mut Running) -> io::Result<Ears> {
        let (out, err) = running.pipes()?;
        Ok(Ears {
            out: Some(out),
            err: Some(err),
            room: vec![0; CHUNK_BYTES],
            said: Vec::new(),
            words: LastWords::default(),
        })
    }

    /// Until the program has closed its output or ended, or its time is over.
    fn listen(&mut self, running: &Running, until_ms: u64) -> Result<(), String> {
        while self.out.is_some() || self.err.is_some() {
            // What it wrote before it ended is in its pipes.
            let has_ended = running.has_ended();
            let left_ms = until_ms.saturating_sub(boot_ms());
            if left_ms == 0 {
                return Ok(());
            }
            let wait_ms = if has_ended { 0 } else { left_ms.min(LOOK_MS) };
            let is_silent = !self.hear(wait_ms).map_err(|error| error.to_string())?;
            if self.said.len() > OUTPUT_BYTES_MAX {
                return Err(format!(
                    "printed more than {OUTPUT_BYTES_MAX} bytes and was ended"
                ));
            }
            if is_silent && has_ended {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what comes next; whether anything came.
    fn hear(&mut self, wait_ms: u64) -> io::Result<bool> {
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let fds = [
            self.out.as_ref().map(|out| readable(out.as_fd())),
            self.err.as_ref().map(|err| readable(err.as_fd())),
        ];
        let [has_out, has_err] = wait(fds, wait_ms)?;
        if let Some(out) = self.out.take_if(|_| has_out) {
            let count = rustix::io::read(&out, &mut *self.room)?;
            self.said.extend_from_slice(&self.room[..count]);
            self.out = (count > 0).then_some(out);
        }
        if let Some(err) = self.err.take_if(|_| has_err) {
            let count = rustix::io::read(&err, &mut *self.room)?;
            self.words.hear(&self.room[..count]);
            self.err = (count > 0).then_some(err);
        }
        Ok(has_out || has_err)
    }
}

/// Which of two pipes can be read without waiting, after waiting so long at most.
fn wait(fds: [Option<PollFd<'_>>; 2], wait_ms: u64) -> io::Result<[bool; 2]> {
    let time = Timespec {
        tv_sec: (wait_ms / 1000) as _,
        tv_nsec: (wait_ms % 1000 * 1_000_000) as _,
    };
    let mut given: heapless::Vec<PollFd<'_>, 2> = fds.iter().flatten().cloned().collect();
    match poll(&mut given, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = given.iter().map(|fd| !fd.revents().is_empty());
    Ok(fds.map(|fd| fd.is_some() && ready.next() == Some(true)))
}

/// Runs a program that is to run for ever, again and again.
pub(super) async fn stream(words: Vec<String>, mut feed: Feed) {
    let mut backoff = Backoff::default();
    loop {
        let begun_ms = boot_ms();
        let why = run_once(&words, &mut feed).await;
        feed.interrupt();
        let wait = backoff.after(boot_ms() - begun_ms);
        feed.complain(format_args!(
            "{why}; it starts again in {} s",
            wait.as_secs()
        ));
        Timer::after(wait).await;
    }
}

/// Runs the program to its end; why it ended.
async fn run_once(words: &[String], feed: &mut Feed) -> String {
    // To start one reads from the disk, which may take its time.
    let given = words.to_vec();
    let mut running = match smol::unblock(move || Running::start(&given)).await {
        Ok(running) => running,
        Err(why) => return why,
    };
    let program = &words[0];
    let mut last_words = LastWords::default();
    let pipes = running.pipes();
    let mut guest = Guest::new(running, pipes.as_ref().ok());
    let heard = match pipes {
        Ok(pipes) => hear_all(pipes, &guest, feed, &mut last_words).await,
        Err(error) => Err(error),
    };
    feed.forget();
    feed.interrupt();
    // One that hangs in the kernel is waited for: a second beside it would hang too.
    let status = smol::unblock(move || {
        loop {
            if let Some(status) = guest.end(LINGER_MS) {
                return status;
            }
        }
    });
    let status = status.await;
    let words = last_words.text();
    match heard {
        Err(error) => format!("{program} cannot be heard: {error}"),
        Ok(()) if status.success() => format!(
            "{program} ended, though it is to run for ever (without stream = true it runs at an \
             interval){words}"
        ),
        Ok(()) => format!("{program} ended with {status}{words}"),
    }
}

/// After so long without a word it is asked whether the program still runs.
const QUIET: Duration = Duration::from_secs(2);

enum Heard {
    Out(usize),
    Err(usize),
    Nothing,
}

/// Hears the program until its standard output is closed, or it has ended and only others hold that
/// open.
async fn hear_all(
    (out, err): (ChildStdout, ChildStderr),
    running: &Guest,
    feed: &mut Feed,
    last_words: &mut LastWords,
) -> io::Result<()> {
    let out = inlet(out)?;
    let mut err = Some(inlet(err)?);
    let mut out_room = vec![0; CHUNK_BYTES];
    let mut err_room = vec![0; CHUNK_BYTES];
    loop {
        let from_out = async { read(&out, &mut out_room).await.map(Heard::Out) };
        let from_err = async {
            match &err {
                Some(err) => read(err, &mut err_room).await.map(Heard::Err),
                None => future::pending().await,
            }
        };
        let from_nobody = async {
            Timer::after(QUIET).await;
            Ok(Heard::Nothing)
        };
        let heard = future::or(future::or(from_out, from_err), from_nobody).await?;
        match heard {
            Heard::Nothing if !running.has_ended() => {}
            Heard::Nothing => match read_now(&out, &mut out_room)? {
                None | Some(0) => return Ok(()),
                Some(count) => feed.hear(&out_room[..count]).await,
            },
            Heard::Out(0) => {
                // What it said before it ended is in the pipe, and no more than a pipe holds.
                err_room.resize(PIPE_BYTES, 0);
                if let Some(count) = err.and_then(|err| read_now(&err, &mut err_room).ok()?) {
                    last_words.hear(&err_room[..count]);
                }
                return Ok(());
            }
            Heard::Out(count) => feed.hear(&out_room[..count]).await,
            Heard::Err(0) => err = None,
            Heard::Err(count) => {
                last_words.hear(&err_room[..count]);
                feed.take_turns(1).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::bench;
    use super::*;
    use crate::config::Format;
    use std::sync::{Arc, Mutex};

    fn words(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn program(
        topic: Option<&str>,
        words: Vec<String>,
        timeout_ms: u64,
    ) -> (Program, Arc<Mutex<Vec<String>>>) {
        let exec = Exec {
            command: words,
            topic: topic.map(str::to_owned),
            interval_ms: Some(5000),
            timeout_ms,
            stale_ms: None,
            label: Some("L".to_owned()),
            unit: Some("V".to_owned()),
            place: "f:1".to_owned(),
        };
        let (complaint, complaints) = bench::complaint();
        (Program::new(&exec, complaint).unwrap(), complaints)
    }

    /// What a run gives: its readings or its fault, and what was complained of.
    fn run(topic: Option<&str>, script: &str, timeout_ms: u64) -> (String, String) {
        let (mut program, complaints) = program(topic, words(script), timeout_ms);
        let mut batch = Batch::default();
        let outcome = program.read(0, &mut batch);
        let entries = batch.entries().iter();
        let told: Vec<_> = entries
            .map(|e| format!("{} {}", e.topic, e.value))
            .collect();
        let told = outcome.map_or_else(|fault| format!("{fault:?}"), |()| told.join("; "));
        let complaints = complaints.lock().unwrap().join("; ");
        (told, complaints)
    }

    #[test]
    fn what_a_run_prints() {
        for (topic, script, want) in [
            (Some("t"), "echo 21.5", "t 21.5"),
            (Some("t"), "printf 21.5", "t 21.5"),
            (Some("t"), "echo up 3 days", "t \"up 3 days\""),
            (
                Some("t"),
                "echo 1; echo 2; echo a 3; echo a 4",
                "t 2; t/a 4",
            ),
            (Some("t"), "printf '{\n \"a\": 1\n}\n'", "t {\"a\":1}"),
            (None, "echo a 1; echo; echo b/c true", "a 1; b/c true"),
            (None, "printf '[{\"topic\":\"a\",\n\"value\":1}]'", "a 1"),
            (None, "true", ""),
            (None, "echo noise >&2; echo a 1", "a 1"),
            (None, "echo a 1; exec >&- 2>&-; sleep 0.05", "a 1"),
            (None, "sleep 60 & echo a 1", "a 1"),
        ] {
            let began_ms = boot_ms();
            assert_eq!(
                run(topic, script, 20_000),
                (want.to_owned(), String::new()),
                "{script}"
            );
            assert!(boot_ms() - began_ms < 10_000, "{script}");
        }
    }

    #[test]
    fn what_goes_wrong_is_a_fault_with_a_text() {
        for (topic, script, want) in [
            (Some("t"), "exit 3", "sh ended with exit status: 3"),
            (
                Some("t"),
                "echo 5; echo no sensor >&2; exit 1",
                "sh ended with exit status: 1: no sensor",
            ),
            (Some("t"), "kill -9 $$", "sh ended with signal: 9 (SIGKILL)"),
            (
                Some("t"),
                "true",
                "sh printed nothing; a value was expected",
            ),
            (
                None,
                "echo 21.5",
                "sh printed \"21.5\" has no name: set topic = ",
            ),
            (
                None,
                "head -c 3000 /dev/urandom | tr -d '\\n'",
                "sh printed a line that is not UTF-8",
            ),
            (
                Some("t"),
                "head -c 9000 /dev/zero | tr '\\0' x",
                "sh printed more than 8192 bytes",
            ),
            (
                Some("t"),
                "yes",
                "sh printed more than 65536 bytes and was ended",
            ),
            (
                Some("t"),
                "sleep 60",
                "sh took longer than its timeout of 0.3 s and was ended",
            ),
            (
                Some("t"),
                "echo 1; exec >&- 2>&-; sleep 60",
                "sh took longer than its timeout of 0.3 s",
            ),
            (
                Some("t"),
                "trap '' TERM; while :; do echo why >&2; sleep 60; done",
                "sh took longer",
            ),
        ] {
            let begun_ms = boot_ms();
            // Only where time runs out is it short: the machine may be busy.
            let timeout_ms = if want.contains("took") { 300 } else { 20_000 };
            let (told, complaints) = run(topic, script, timeout_ms);
            assert_eq!(told, "Failed", "{script}");
            let want = format!("f:1: {want}");
            assert!(complaints.starts_with(&want), "{script}: {complaints}");
            assert!(boot_ms() - begun_ms < 10_000, "{script}");
        }
        let (mut program, complaints) = program(Some("t"), vec!["no-such-program".into()], 1000);
        for now_ms in [0, 70_000] {
            assert_eq!(
                program.read(now_ms, &mut Batch::default()),
                Err(Fault::Failed)
            );
        }
        let said = complaints.lock().unwrap().join("; ");
        assert!(
            said.starts_with("f:1: cannot run no-such-program: "),
            "{said}"
        );
        assert!(said.ends_with("; write its full path"), "once: {said}");
    }

    #[test]
    fn one_wrong_line_spoils_no_other() {
        let (told, complaints) = run(None, "echo a 1; echo wrong; echo b 2", 20_000);
        assert_eq!(told, "a 1; b 2");
        assert!(
            complaints.starts_with("f:1: sh printed \"wrong\" has no name"),
            "{complaints}"
        );
        let count = READINGS_MAX + 1;
        let (told, complaints) = run(None, &format!("seq -f 't%g 1' {count}"), 20_000);
        assert_eq!(told.split("; ").count(), READINGS_MAX);
        assert!(
            complaints.contains("more than 64 topics from one source"),
            "{complaints}"
        );
        let (told, complaints) = run(None, &format!("seq -f 't%g 1' {READINGS_MAX}"), 20_000);
        assert_eq!((told.split("; ").count(), &*complaints), (READINGS_MAX, ""));
    }

    #[test]
    fn what_the_loop_is_told() {
        let (program, _) = program(Some("t"), words("echo 1"), 1000);
        assert_eq!((program.key(), program.period_ms()), ("exec:f:1", 5000));
        assert!(program.is_slow() && program.left.is_none());
        let channel = &program.channels()[0];
        assert_eq!(
            (&*channel.topic, &*channel.label, &*channel.unit),
            ("t", "L", "V")
        );
    }

    #[test]
    fn a_program_that_ends_is_started_again() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let task = stream(
            words("echo 1; echo a 2; printf 3; echo why >&2; exit 7"),
            feed,
        );
        let begun_ms = boot_ms();
        let published = bench.published(task, 6);
        let once = ["t 1 Ok", "t/a 2 Ok", "t 1 Stale", "t/a 2 Stale"];
        assert_eq!(published[..4], once);
        assert_eq!(published[4..6], once[..2]);
        assert!(boot_ms() - begun_ms >= 1000);
        let want = "f:1: sh ended with exit status: 7: why; it starts again in 1 s";
        assert_eq!(bench.complaints()[0], want);
    }

    #[test]
    fn a_program_that_ends_with_its_output_held_open_is_started_again() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let published = bench.published(stream(words("sleep 60 & echo 1; exit 3"), feed), 3);
        assert_eq!(published, ["t 1 Ok", "t 1 Stale", "t 1 Ok"]);
        assert!(bench.complaints()[0].contains("ended with exit status: 3"));
    }

    #[test]
    fn a_program_that_is_not_there_is_looked_for_again() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let link = std::env::temp_dir().join(format!("encke-exec-{}", std::process::id()));
        let program = link.to_str().unwrap().to_owned();
        let words = vec![program, "-c".to_owned(), "echo 1; sleep 60".to_owned()];
        let task = async {
            let install = async {
                Timer::after(Duration::from_millis(200)).await;
                std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
                future::pending().await
            };
            future::or(stream(words, feed), install).await;
        };
        assert_eq!(bench.published(task, 2), ["t null Error", "t 1 Ok"]);
        std::fs::remove_file(&link).unwrap();
        assert!(bench.complaints()[0].contains("there is no such file; it starts again in 1 s"));
    }

    #[test]
    fn an_end_without_a_fault_tells_of_the_interval() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let published = bench.published(stream(words("echo 1"), feed), 3);
        assert_eq!(published[..3], ["t 1 Ok", "t 1 Stale", "t 1 Ok"]);
        let want = "f:1: sh ended, though it is to run for ever (without stream = true it runs at \
                    an interval); it starts again in 1 s";
        assert_eq!(bench.complaints()[0], want);
    }

    #[test]
    fn a_flood_on_both_outputs_ends_with_its_feed() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let script = "echo $$; while :; do echo noise >&2; echo 5; done";
        let published = bench.published(stream(words(script), feed), 1000);
        assert!(published.len() >= 1000);
        let pid = published[0].split(' ').nth(1).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let begun_ms = boot_ms();
        while !stat().is_empty() && !stat().contains(") Z ") {
            assert!(boot_ms() - begun_ms < 10_000, "{}", stat());
        }
    }
}
