//! A real server as a driver of transcripts: this test's own binary, run once more as a server with
//! the settings and the log name of a transcript, reached over loopback TCP.
//!
//! It needs a process of its own because a server takes over the signals of the one it runs in.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use encke::config::{Config, Layer};
use encke::peers::Settings;
use encke::server::Server;

use super::command;
use super::play::Driver;
use super::transcript::Action;
use super::world;

const ROLE: &str = "ENCKE_TRANSCRIPT_SERVER";
/// Nothing on loopback takes so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The part of the child: serves until its input ends. Does nothing in the parent.
pub(crate) fn serve_if_asked() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let numbers: Vec<u64> = role.split(' ').map(|text| text.parse().unwrap()).collect();
    let mut settings = world::settings();
    settings.viewers = numbers[0] as u32;
    settings.pages = numbers[1] as u16;
    settings.ring_bytes = numbers[2] as usize;
    settings.topics = numbers[3] as usize;
    if numbers[4] == 1 {
        settings.policy.proxies = world::a_proxy();
    }
    let layer = |file, text, is_profile| Layer {
        file,
        text,
        is_profile,
    };
    let generic = include_str!("../../../boards/generic.toml");
    let quiet = "[sources]\nexclude = [\"#\"]\n";
    let layers = [
        layer("generic", generic, true),
        layer("a test", quiet, false),
    ];
    let config = Config::new(&layers).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(&[address], Vec::new(), settings, Path::new("/")).unwrap();
    println!("\nlistening {}", server.addresses()[0]);
    server
        .run(&smol::LocalExecutor::new(), &config, "/".into())
        .unwrap();
}

/// One connection, with what was read of it and not taken.
struct Connection {
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
    ended: bool,
}

impl Connection {
    /// Reads what is there, and waits for `wanted` bytes or the end if it must.
    fn fill(&mut self, wanted: usize) {
        let mut some = [0; 65_536];
        while let Some(stream) = self.stream.as_mut().filter(|_| !self.ended) {
            stream.set_nonblocking(self.bytes.len() >= wanted).unwrap();
            match stream.read(&mut some) {
                Ok(0) => self.ended = true,
                Ok(bytes) => self.bytes.extend_from_slice(&some[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
    }
}

pub(crate) struct Real {
    child: Child,
    /// The child ends with it.
    _input: ChildStdin,
    /// The child ends without it, too, if it says anything: that it has run for over a minute.
    _output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    control: BufReader<TcpStream>,
    connections: Vec<Option<Connection>>,
    pending: Vec<String>,
}

impl Real {
    /// Starts a server. `entry` is the test that calls `serve_if_asked`.
    pub(crate) fn new(settings: &Settings, entry: &str) -> Real {
        // A place more than the transcript knows of, for what publishes.
        let role = format!(
            "{} {} {} {} {}",
            settings.viewers,
            settings.pages + 1,
            settings.ring_bytes,
            settings.topics,
            u8::from(!settings.policy.proxies.is_empty())
        );
        let mut child = command(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", entry])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = lines.by_ref().map(Result::unwrap);
        let line = said.find(|line| line.starts_with("listening ")).unwrap();
        let address = line["listening ".len()..].parse().unwrap();
        Real {
            _input: child.stdin.take().unwrap(),
            _output: lines,
            child,
            address,
            control: BufReader::new(open(address)),
            connections: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn try_ask(&mut self, request: &str, line: &mut String) -> std::io::Result<usize> {
        self.control.get_mut().write_all(request.as_bytes())?;
        self.control.read_line(line)
    }

    /// One request on the connection that transcripts do not see; its status.
    fn ask(&mut self, request: &str) -> u16 {
        let mut line = String::new();
        if self.try_ask(request, &mut line).is_err() || line.is_empty() {
            // Who says nothing for long is let go: where that is emulated, one case takes as long.
            self.control = BufReader::new(open(self.address));
            self.try_ask(request, &mut line).unwrap();
        }
        let status = line[9..12].parse().unwrap();
        let mut length = 0;
        while line != "\r\n" {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
            self.control.read_line(&mut line).unwrap();
        }
        self.control.read_exact(&mut vec![0; length]).unwrap();
        status
    }

    /// Whatever was sent before was read and acted on: a new connection takes a turn to be
    /// accepted, and one to be read.
    fn settle(&mut self) {
        for _ in 0..3 {
            assert_eq!(
                self.ask("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                200
            );
        }
    }

    fn publish(&mut self, events: &[String]) {
        let body = format!("[{}]", events.join(","));
        let bytes = body.len();
        let head = "POST /topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
        let request = format!("{head}\r\nContent-Length: {bytes}\r\n\r\n{body}");
        assert_eq!(self.ask(&request), 200, "{body}");
    }

    fn connection(&mut self, number: usize) -> &mut Connection {
        self.connections[number].as_mut().expect("it was opened")
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Overwrites so many bytes behind each `word`.
fn blank(bytes: &mut [u8], word: &[u8], count: usize) {
    for at in 0..bytes.len().saturating_sub(word.len() + count - 1) {
        if bytes[at..].starts_with(word) {
            bytes[at + word.len()..][..count].fill(b'?');
        }
    }
}

impl Driver for Real {
    fn connect(&mut self, connection: usize) {
        if self.connections.len() <= connection {
            self.connections.resize_with(connection + 1, || None);
        }
        self.connections[connection] = Some(Connection {
            stream: Some(open(self.address)),
            bytes: Vec::new(),
            ended: false,
        });
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) {
        let stream = self.connection(connection).stream.as_mut();
        let stream = stream.expect("it was not reset");
        stream.set_nonblocking(false).unwrap();
        // A server that refuses a request may be gone before all of it is sent.
        let _ = stream.write_all(bytes);
        self.settle();
    }

    fn receive(&mut self, connection: usize, wanted: usize) -> Vec<u8> {
        let connection = self.connection(connection);
        connection.fill(wanted);
        core::mem::take(&mut connection.bytes)
    }

    fn is_ended(&mut self, connection: usize, wanted: bool) -> bool {
        let connection = self.connection(connection);
        let beyond = connection.bytes.len() + 1;
        connection.fill(if wanted { beyond } else { 0 });
        connection.ended
    }

    fn pass(&mut self, _: u64) {
        unreachable!("a transcript with a clock is not played here");
    }

    fn act(&mut self, connection: usize, action: &Action) {
        match action {
            Action::Publish { topic, value, .. } => {
                self.pending
                    .push(format!(r#"{{"topic":"{topic}","value":{value}}}"#));
            }
            Action::HalfClose => {
                let stream = self.connection(connection).stream.as_ref();
                let _ = stream.expect("it was not reset").shutdown(Shutdown::Write);
            }
            Action::Reset => {
                let stream = self.connection(connection).stream.take();
                let stream = stream.expect("it was not reset");
                let at_once = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&stream, at_once).unwrap();
            }
            _ => unreachable!("a transcript that does this is not played here"),
        }
    }

    fn turn(&mut self) {
        let pending = core::mem::take(&mut self.pending);
        let mut from = 0;
        while from < pending.len() {
            let mut to = from;
            let mut bytes = 2;
            while to < pending.len() && to - from < 256 && bytes + pending[to].len() < 65_536 {
                bytes += pending[to].len() + 1;
                to += 1;
            }
            self.publish(&pending[from..to]);
            from = to;
        }
        self.settle();
    }

    fn comparable(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        blank(&mut bytes, b"\"time\":", 13);
        blank(&mut bytes, b"<time>", 13);
        blank(&mut bytes, b"\nDate: ", 29);
        bytes
    }
}
