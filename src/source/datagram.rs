//! Readings that programs send to a unix datagram socket: `echo "room 21.5" | socat - UNIX-SENDTO:..`.
//!
//! Follows unix(7). A datagram is one or more lines (`line.rs`) or frames (`frame.rs`), of which
//! the last needs no end mark. The socket's permissions say who may send; it is made with them and
//! goes when we end. One that is there already is replaced only when nobody receives at it. A full
//! socket makes its sender wait, or tells it so; nothing that was sent is lost.

use super::feed::{Backoff, Feed, inlet, read};
use super::heading::{Heading, Unfit};
use crate::clock::boot_ms;
use crate::config::Datagram;
use async_io::{Async, Timer};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Bytes of a datagram. Above: dropped, because its end is lost.
const DATAGRAM_BYTES_MAX: usize = 8192;

/// What the entry says about its readings.
pub(super) fn heading(entry: &Datagram) -> Heading {
    Heading::new(
        entry.topic.as_deref(),
        entry.label.as_deref(),
        entry.unit.as_deref(),
    )
}

/// Receives for ever; where it cannot, it tries again.
pub(super) async fn stream(entry: Datagram, mut feed: Feed) {
    let mut backoff = Backoff::default();
    loop {
        let begun_ms = boot_ms();
        let why = match Bound::new(&entry.path, entry.mode) {
            Ok(bound) => receive(&bound, &mut feed).await,
            Err(why) => why,
        };
        let wait = backoff.after(boot_ms() - begun_ms);
        feed.complain(format_args!("{why}; next try in {} s", wait.as_secs()));
        Timer::after(wait).await;
    }
}

/// Receives until that fails; why it did.
async fn receive(bound: &Bound, feed: &mut Feed) -> String {
    let mut room = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        match read(&bound.socket, &mut room).await {
            Ok(count) if count > DATAGRAM_BYTES_MAX => {
                feed.complain(Unfit::LongDatagram(DATAGRAM_BYTES_MAX));
                feed.take_turns(1).await;
            }
            Ok(count) => {
                feed.hear(&room[..count]).await;
                feed.finish();
            }
            Err(error) => return format!("cannot receive at {}: {error}", bound.path.display()),
        }
    }
}

/// A socket with a name, which goes with it.
struct Bound {
    socket: Async<File>,
    path: PathBuf,
    inode: u64,
}

impl Bound {
    fn new(path: &Path, mode: u32) -> Result<Bound, String> {
        let said = |error: &io::Error| {
            let fix = match error.kind() {
                io::ErrorKind::NotFound => {
                    "; its folder must be there (RuntimeDirectory= of systemd)"
                }
                io::ErrorKind::PermissionDenied => "; the user encke runs as may not write there",
                _ => "",
            };
            format!("cannot receive at {}: {error}{fix}", path.display())
        };
        let address = SocketAddrUnix::new(path).map_err(|errno| said(&errno.into()))?;
        let bind = || {
            let socket = UnixDatagram::unbound()?;
            // The name is made with the socket's own mode, less the umask: never with more.
            rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
            rustix::net::bind(&socket, &address)?;
            Ok(socket)
        };
        let mut bound = bind();
        if bound
            .as_ref()
            .is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::AddrInUse)
        {
            remove_dead(path)?;
            bound = bind();
        }
        let finish = |socket| {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            let inode = fs::symlink_metadata(path)?.ino();
            Ok((inlet(socket)?, inode))
        };
        let (socket, inode) = bound.and_then(finish).map_err(|error| said(&error))?;
        Ok(Bound {
            socket,
            path: path.to_owned(),
            inode,
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Somebody may have put another file there meanwhile.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket at `path` if nobody receives there any more.
fn remove_dead(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Err(format!(
            "{shown} is there and is no socket; remove it or choose another path"
        ));
    }
    let attempt = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    match attempt.map_err(|error| Errno::from_io_error(&error)) {
        Err(Some(Errno::CONNREFUSED)) => fs::remove_file(path)
            .map_err(|error| format!("{shown} is of a program that is gone: {error}; remove it")),
        Err(Some(Errno::NOENT)) => Ok(()),
        _ => Err(format!(
            "another program receives at {shown}; end it or choose another path"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::bench;
    use super::*;
    use crate::config::Format;
    use std::thread;
    use std::time::Duration;

    /// A folder of this test's own, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = format!("encke-datagram-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(folder);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn entry(&self, format: Format) -> Datagram {
            Datagram {
                path: self.0.join("socket"),
                mode: 0o620,
                format,
                topic: Some("t".to_owned()),
                label: None,
                unit: None,
                stale_ms: None,
                place: "f:1".to_owned(),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Sends each of these, as soon as somebody receives.
    fn send(path: &Path, datagrams: Vec<Vec<u8>>) -> thread::JoinHandle<()> {
        let path = path.to_owned();
        thread::spawn(move || {
            let socket = UnixDatagram::unbound().unwrap();
            while socket.connect(&path).is_err() {
                thread::sleep(Duration::from_millis(5));
            }
            for datagram in datagrams {
                socket.send(&datagram).unwrap();
            }
        })
    }

    #[test]
    fn lines_come_one_or_more_in_a_datagram() {
        let folder = Folder::new("lines");
        let entry = folder.entry(Format::Text);
        let path = entry.path.clone();
        let datagrams = ["1", "a 2\nb 3\r\n", "", "4\n"];
        let mut datagrams: Vec<Vec<u8>> = datagrams.map(|text| text.into()).to_vec();
        let fits = format!("x{}", " ".repeat(DATAGRAM_BYTES_MAX - 1));
        datagrams.extend([fits.clone().into(), (fits + " ").into(), "5".into()]);
        let sender = send(&path, datagrams);
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let published = bench.published(stream(entry, feed), 6);
        sender.join().unwrap();
        assert_eq!(
            published,
            [
                "t 1 Ok",
                "t/a 2 Ok",
                "t/b 3 Ok",
                "t 4 Ok",
                "t \"x\" Ok",
                "t 5 Ok"
            ]
        );
        let want = ["f:1: a datagram of more than 8192 bytes; send several"];
        assert_eq!(bench.complaints(), want);
        assert!(!path.exists(), "the socket goes with its feed");
    }

    #[test]
    fn frames_come_one_or_more_in_a_datagram() {
        let folder = Folder::new("frames");
        let entry = folder.entry(Format::Postcard);
        // a = 1, as in the documentation of frames.
        let good = b"\x09\x01a\x02\x02\xc0\x1a\xd5\x0c";
        let bad = b"\x09\x01a\x02\x04\xc0\x1a\xd5\x0c";
        let datagrams = vec![
            good.to_vec(),
            [&good[..], b"\0\0", bad, b"\0", good, b"\0"].concat(),
            good[..5].to_vec(),
            [good, &b"\0"[..]].concat(),
        ];
        let sender = send(&entry.path, datagrams);
        let (feed, bench) = bench::feed(Some("t"), Format::Postcard);
        assert_eq!(bench.published(stream(entry, feed), 4), ["t/a 1 Ok"; 4]);
        sender.join().unwrap();
        assert_eq!(
            bench.complaints(),
            ["f:1: a frame with a wrong CRC-32; left out"]
        );
    }

    #[test]
    fn a_sender_waits_and_loses_nothing() {
        let folder = Folder::new("burst");
        let entry = folder.entry(Format::Text);
        let datagrams = (0..2000).map(|at| format!("{at}").into()).collect();
        let sender = send(&entry.path, datagrams);
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let published = bench.published(stream(entry, feed), 2000);
        sender.join().unwrap();
        let want: Vec<_> = (0..2000).map(|at| format!("t {at} Ok")).collect();
        assert_eq!(published, want);
    }

    #[test]
    fn the_socket_has_its_mode_and_replaces_only_what_is_dead() {
        let folder = Folder::new("mode");
        let path = folder.0.join("socket");
        for mode in [0o666, 0o600, 0o620, 0o000] {
            let bound = Bound::new(&path, mode).unwrap();
            let found = fs::symlink_metadata(&path).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode);
            drop(bound);
            assert!(!path.exists());
        }
        let first = Bound::new(&path, 0o600).unwrap();
        let shown = path.display();
        let why = Bound::new(&path, 0o600).err();
        let want = format!("another program receives at {shown}; end it or choose another path");
        assert_eq!(why, Some(want));
        assert!(path.exists());
        drop(first);

        // As after an end without warning.
        drop(UnixDatagram::bind(&path).unwrap());
        assert!(path.exists());
        let second = Bound::new(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(second);
        assert!(path.exists(), "somebody else's file stays");
        let why = Bound::new(&path, 0o600).err();
        let want = format!("{shown} is there and is no socket; remove it or choose another path");
        assert_eq!(why, Some(want));
        let why = Bound::new(&folder.0.join("no/socket"), 0o600)
            .err()
            .unwrap();
        assert!(why.contains("; its folder must be there"), "{why}");
    }

    #[test]
    fn what_is_in_the_way_is_said_and_waited_for() {
        let folder = Folder::new("retry");
        let entry = folder.entry(Format::Text);
        let path = entry.path.clone();
        let other = Bound::new(&path, 0o600).unwrap();
        let (feed, bench) = bench::feed(Some("t"), Format::Text);
        let task = async {
            let free = async {
                Timer::after(Duration::from_millis(100)).await;
                drop(other);
                send(&path, vec![b"1".to_vec()]);
                smol::future::pending().await
            };
            smol::future::or(stream(entry, feed), free).await;
        };
        assert_eq!(bench.published(task, 1), ["t 1 Ok"]);
        let said = bench.complaints();
        assert_eq!(said.len(), 1);
        assert!(
            said[0].ends_with("choose another path; next try in 1 s"),
            "{said:?}"
        );
    }
}
