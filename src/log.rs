//! What is said while serving: lines on standard error, each with how much it matters.
//!
//! Where standard error is the journal, a line begins with `<N>`, N as in syslog(3) (sd-daemon(3);
//! systemd.exec(5), `$JOURNAL_STREAM`); the journal adds name and time. Anywhere else a message
//! begins with `encke: `. Nothing is said about single readings, requests or viewers: only what
//! somebody will ask for later. It never fails: who cannot be told is not told.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// How much a message matters; the number is syslog's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It does not work.
    Error = 3,
    /// Some of it does not work.
    Warning = 4,
    /// Something happened that does not happen often.
    Notice = 5,
    /// All is well.
    Info = 6,
}

/// Says `text`; in the journal each of its lines is an entry of its own.
pub fn say(level: Level, text: fmt::Arguments<'_>) {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    let is_journal = *IS_JOURNAL.get_or_init(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        names(&stream, io::stderr())
    });
    // One write, so that lines of other programs do not come between.
    let _ = io::stderr().write_all(lines(level, &text.to_string(), is_journal).as_bytes());
}

/// Says that it does not work.
pub fn error(text: fmt::Arguments<'_>) {
    say(Level::Error, text);
}

/// Says that some of it does not work.
pub fn warning(text: fmt::Arguments<'_>) {
    say(Level::Warning, text);
}

/// Says what does not happen often.
pub fn notice(text: fmt::Arguments<'_>) {
    say(Level::Notice, text);
}

/// Says that all is well.
pub fn info(text: fmt::Arguments<'_>) {
    say(Level::Info, text);
}

/// Whether `stream`, `DEVICE:INODE`, names what `fd` is. The variable is inherited by programs
/// whose standard error is somewhere else, so that it is there says nothing.
fn names(stream: &str, fd: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    let is = |fd| {
        let file = File::from(fd).metadata()?;
        let found = (file.dev().to_string(), file.ino().to_string());
        io::Result::Ok(found == (device.to_owned(), inode.to_owned()))
    };
    fd.as_fd()
        .try_clone_to_owned()
        .and_then(is)
        .unwrap_or(false)
}

fn lines(level: Level, text: &str, is_journal: bool) -> String {
    let clean = |line: &str| line.replace(char::is_control, " ");
    let mut said = String::new();
    for (at, line) in text.lines().enumerate() {
        match (is_journal, at) {
            (true, _) => said += &format!("<{}>", level as u8),
            (false, 0) => said += "encke: ",
            (false, _) => {}
        }
        said += &clean(line);
        said.push('\n');
    }
    said
}

/// Lets through what is to be said now and then only.
#[derive(Debug, Default)]
pub struct Seldom {
    /// Nothing before; milliseconds.
    from_ms: u64,
}

impl Seldom {
    /// Whether to say it now; then not again for `pause_ms`.
    pub fn may(&mut self, now_ms: u64, pause_ms: u64) -> bool {
        let may = now_ms >= self.from_ms;
        if may {
            self.from_ms = now_ms.saturating_add(pause_ms);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_priority_in_the_journal_and_its_program_elsewhere() {
        for (level, text, is_journal, want) in [
            (Level::Error, "no", true, "<3>no\n"),
            (Level::Warning, "hm", true, "<4>hm\n"),
            (Level::Notice, "oh", true, "<5>oh\n"),
            (Level::Info, "yes", true, "<6>yes\n"),
            (Level::Error, "a\nb", true, "<3>a\n<3>b\n"),
            (Level::Error, "no", false, "encke: no\n"),
            (Level::Info, "a\n b\n", false, "encke: a\n b\n"),
            (Level::Info, "a\x1b[31m\u{85}\r", false, "encke: a [31m  \n"),
            (Level::Info, "", true, ""),
        ] {
            assert_eq!(lines(level, text, is_journal), want);
        }
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let (one, other) = (io::pipe().unwrap().1, io::pipe().unwrap().1);
        let own = File::from(one.as_fd().try_clone_to_owned().unwrap());
        let is = own.metadata().unwrap();
        let stream = format!("{}:{}", is.dev(), is.ino());
        assert!(names(&stream, &one));
        assert!(!names(&stream, &other));
        for no in [
            "",
            ":",
            "1",
            "8:",
            &format!("0{stream}"),
            &format!("{stream}0"),
        ] {
            assert!(!names(no, &one), "{no}");
        }
    }

    #[test]
    fn seldom_is_at_once_and_then_after_the_pause() {
        let mut seldom = Seldom::default();
        let said = [0, 1, 999, 1000, 1999, 5000].map(|ms| seldom.may(ms, 1000));
        assert_eq!(said, [true, false, false, true, false, true]);
        assert!(Seldom::default().may(u64::MAX, 1000));
    }
}
