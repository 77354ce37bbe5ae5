//! Readings from our own standard input: `sensor-program | encke`.
//!
//! Text (`line.rs`) or frames (`frame.rs`). A pipe, a terminal or a socket is read when something
//! is there; a file, for which epoll has no use (EPERM), on a thread, a piece at a time. Its end
//! makes the topics gone. The descriptor is never made non-blocking: the description behind it is
//! shared, often with the terminal's own shell and with our standard output.

use super::feed::{Feed, inlet, read};
use super::heading::Heading;
use crate::config::Stdin;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// Bytes heard at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// What the entry says about its readings.
pub(super) fn heading(entry: &Stdin) -> Heading {
    Heading::new(
        entry.topic.as_deref(),
        entry.label.as_deref(),
        entry.unit.as_deref(),
    )
}

/// Publishes what comes through standard input until its end.
pub(super) async fn stream(feed: Feed) {
    hear(io::stdin().as_fd().try_clone_to_owned(), feed).await;
}

async fn hear(input: io::Result<OwnedFd>, mut feed: Feed) {
    let outcome = match input {
        Ok(input) => hear_all(File::from(input), &mut feed).await,
        Err(error) => Err(error),
    };
    feed.finish();
    if let Err(error) = outcome {
        feed.complain(format_args!("standard input cannot be read: {error}"));
    }
    feed.end();
}

async fn hear_all(file: File, feed: &mut Feed) -> io::Result<()> {
    let pipe = match file.try_clone().and_then(inlet) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
            return hear_file(file, feed).await;
        }
        pipe => pipe?,
    };
    let mut room = vec![0; CHUNK_BYTES];
    loop {
        match read(&pipe, &mut room).await? {
            0 => return Ok(()),
            count => feed.hear(&room[..count]).await,
        }
    }
}

async fn hear_file(mut file: File, feed: &mut Feed) -> io::Result<()> {
    let mut room = vec![0; CHUNK_BYTES];
    loop {
        let outcome;
        (file, room, outcome) = smol::unblock(move || {
            let outcome = file.read(&mut room);
            (file, room, outcome)
        })
        .await;
        match outcome? {
            0 => return Ok(()),
            count => feed.hear(&room[..count]).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::bench;
    use super::*;
    use crate::config::Format;
    use async_io::Timer;
    use std::io::{Seek, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_pipe_is_heard_to_its_end() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let (reader, mut writer) = io::pipe().unwrap();
        let sender = thread::spawn(move || {
            for part in ["1\nroom 2", "1.5\n", "3"] {
                writer.write_all(part.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let published = bench.published(hear(Ok(reader.into()), feed), 9);
        sender.join().unwrap();
        let want = [
            "t 1 Ok",
            "t/room 21.5 Ok",
            "t 3 Ok",
            "t 3 Gone",
            "t/room 21.5 Gone",
        ];
        assert_eq!(published, want);
        assert_eq!(bench.complaints(), [""; 0]);
    }

    #[test]
    fn ten_thousand_lines_all_arrive_in_order() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let (reader, mut writer) = io::pipe().unwrap();
        let sender = thread::spawn(move || {
            for at in 0..10_000 {
                writeln!(writer, "{at}").unwrap();
            }
        });
        let published = bench.published(hear(Ok(reader.into()), feed), usize::MAX);
        sender.join().unwrap();
        assert_eq!(published.len(), 10_001);
        for (at, line) in published[..10_000].iter().enumerate() {
            assert_eq!(*line, format!("t {at} Ok"));
        }
    }

    #[test]
    fn a_file_and_nothing_end_at_once() {
        let path = std::env::temp_dir().join(format!("encke-stdin-{}", std::process::id()));
        let mut file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all("5\n".repeat(20_000).as_bytes()).unwrap();
        file.rewind().unwrap();
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let published = bench.published(hear(Ok(file.into()), feed), usize::MAX);
        assert_eq!((published.len(), &*published[20_000]), (20_001, "t 5 Gone"));

        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let nothing = File::open("/dev/null").unwrap();
        assert_eq!(bench.published(hear(Ok(nothing.into()), feed), 9), [""; 0]);
        assert_eq!(bench.complaints(), [""; 0]);
    }

    #[test]
    fn the_descriptor_stays_as_it_was() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let flags = rustix::fs::fcntl_getfl(&ours).unwrap();
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        theirs.write_all(b"1\n").unwrap();
        let input = ours.as_fd().try_clone_to_owned();
        assert_eq!(bench.published(hear(input, feed), 1), ["t 1 Ok"]);
        assert_eq!(rustix::fs::fcntl_getfl(&ours).unwrap(), flags);
    }

    #[test]
    fn a_folder_cannot_be_read() {
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let folder = File::open("/").unwrap();
        let task = async {
            hear(Ok(folder.into()), feed).await;
            Timer::after(Duration::ZERO).await;
        };
        assert_eq!(bench.published(task, 9), [""; 0]);
        let said = bench.complaints();
        assert!(
            said[0].starts_with("f:1: standard input cannot be read: "),
            "{said:?}"
        );
    }
}
