//! The same over real sockets: more viewers than one turn serves, cut and replaced while the server
//! serves them or while it stands still, so that all of it comes to it at once; and a server that
//! has too few descriptors. Values are numbers in a row, so that each viewer's must be as well.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::Random;
use crate::live::{announced, answer};
use crate::support::{command, is_emulated};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server of this test's own, without sources, ended with it.
struct Server {
    child: Child,
    address: SocketAddr,
    publisher: BufReader<TcpStream>,
    /// The id of each value published; the first is that of none.
    ids: Vec<String>,
    unanswered: usize,
}

impl Server {
    /// `wrapper` is the command that the server's is appended to.
    fn start(wrapper: Option<Command>) -> Server {
        let config = concat!(env!("CARGO_TARGET_TMPDIR"), "/churn.toml");
        std::fs::write(config, "[sources]\nexclude = [\"#\"]\n").unwrap();
        let program = env!("CARGO_BIN_EXE_encke");
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg(program);
                wrapper
            }
            None => command(program),
        };
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--config", config])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = announced(&mut child);
        let mut server = Server {
            child,
            address,
            publisher: BufReader::new(connect(address)),
            ids: Vec::new(),
            unanswered: 0,
        };
        server.publish(0);
        server.hear_answers();
        server
    }

    /// Publishes a number; its answer is not waited for.
    fn publish(&mut self, value: usize) {
        let value = value.to_string();
        let request = format!(
            "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{value}",
            value.len()
        );
        let stream = self.publisher.get_mut();
        stream.write_all(request.as_bytes()).unwrap();
        self.unanswered += 1;
    }

    /// The answers to all that was published; how many the last event went to.
    fn hear_answers(&mut self) -> u64 {
        let mut subscribers = 0;
        for _ in 0..core::mem::take(&mut self.unanswered) {
            let (status, body) = answer(&mut self.publisher);
            assert_eq!(status, 200, "{body}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            self.ids.push(body["id"].as_str().unwrap().to_owned());
            subscribers = body["subscribers"].as_u64().unwrap();
        }
        subscribers
    }

    /// Publishes numbers until an event goes to so many.
    fn publish_until(&mut self, subscribers: u64) {
        let limit = Instant::now() + PATIENCE;
        loop {
            self.publish(self.ids.len());
            let found = self.hear_answers();
            if found == subscribers {
                return;
            }
            assert!(
                Instant::now() < limit,
                "{found} subscribers, not {subscribers}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection that listens to a stream; `heard` is the last value it must not hear.
struct Viewer {
    stream: TcpStream,
    heard: usize,
}

impl Viewer {
    /// By HTTP/1.0, so that what comes behind the head is the events as they are.
    fn new(server: &Server, path: &str, heard: usize) -> Viewer {
        let mut stream = connect(server.address);
        let since = &server.ids[heard];
        let request = format!("GET {path}?topics=t&since={since} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Viewer { stream, heard }
    }

    /// Waits until it is greeted.
    fn greet(&mut self) {
        let mut text = Vec::new();
        while !text.ends_with(b"\"reset\":false}\n\n") && !text.ends_with(b"\"reset\":false}}\n") {
            let mut byte = [0];
            let read = self.stream.read_exact(&mut byte);
            read.unwrap_or_else(|e| panic!("{e} behind {}", String::from_utf8_lossy(&text)));
            text.push(byte[0]);
        }
    }

    /// Ends the connection: by a reset, or by an end that the server answers with one.
    fn cut(self, by_reset: bool) {
        if by_reset {
            set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Reads up to a value; all before it came, once and in order.
    fn check(&mut self, last: usize) {
        let mut lines = BufReader::new(&self.stream).lines();
        while self.heard < last {
            let line = lines.next().expect("the stream goes on").unwrap();
            assert!(
                !line.contains("\"lost\":") || line.contains("\"lost\":0"),
                "{line}"
            );
            if let Some((_, value)) = line.split_once("\"value\":") {
                let value: usize = value.trim_end_matches('}').parse().unwrap();
                assert_eq!(value, self.heard + 1, "the next after {}", self.heard);
                self.heard = value;
            }
        }
    }
}

/// Raises how many descriptors this process may have; how many viewers it may play.
fn viewers_most() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    maximum.map_or(usize::MAX, |most| most as usize / 3)
}

#[test]
fn viewers_that_go_and_come_while_others_are_served() {
    let mut server = Server::start(None);
    let mut random = Random(4);
    let count = viewers_most().min(1_300);
    let paths = ["/events/sse", "/events/stream"];
    let mut viewers: Vec<Viewer> = (0..count)
        .map(|n| Viewer::new(&server, paths[n % 2], 0))
        .collect();
    viewers.iter_mut().for_each(Viewer::greet);
    for round in 0..40 {
        let stands_still = round % 2 == 0;
        if stands_still {
            server.signal(Signal::STOP);
        }
        let (known, published) = (server.ids.len(), 1 + random.below(3));
        for n in 0..published {
            server.publish(known + n);
            for _ in 0..random.below(12) {
                let gone = viewers.swap_remove(random.below(viewers.len()));
                if random.below(4) == 0 {
                    let _ = (&gone.stream).write_all(b"GET / HTTP/1.1\r\n");
                }
                gone.cut(random.below(3) > 0);
                let heard = known - 1 - random.below(known.min(80));
                viewers.push(Viewer::new(&server, random.pick(&paths), heard));
            }
            if random.below(3) == 0 {
                let half = &viewers[random.below(viewers.len())];
                half.stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        if stands_still {
            server.signal(Signal::CONT);
        }
        server.hear_answers();
    }
    server.publish_until(viewers.len() as u64);
    let last = server.ids.len() - 1;
    viewers.iter_mut().for_each(|viewer| viewer.check(last));
    drop(viewers);
    server.publish_until(0);
}

#[test]
fn polls_that_ask_again_while_others_are_answered() {
    let mut server = Server::start(None);
    let count = viewers_most().min(700);
    let ask = |stream: &mut BufReader<TcpStream>, since: &str| {
        let request = format!(
            "GET /events/poll?topics=t&since={since}&timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
    };
    let hear = |stream: &mut BufReader<TcpStream>, heard: &mut usize| {
        let (status, body) = answer(stream);
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(body["hello"].is_null(), "{body}");
        for event in body["events"].as_array().unwrap() {
            assert_eq!(event["value"], *heard + 1, "the next after {heard}");
            *heard += 1;
        }
        body["last"].as_str().unwrap().to_owned()
    };
    let mut polls: Vec<_> = (0..count)
        .map(|_| (BufReader::new(connect(server.address)), 0))
        .collect();
    for (stream, _) in &mut polls {
        ask(stream, &server.ids[0]);
    }
    for round in 1..=30 {
        server.publish(round);
        // Some are quick, some come late.
        for (stream, heard) in polls.iter_mut().skip(round % 3).step_by(1 + round % 4) {
            if *heard < round {
                let last = hear(stream, heard);
                ask(stream, &last);
            }
        }
    }
    server.hear_answers();
    for (stream, heard) in &mut polls {
        while *heard < 30 {
            let last = hear(stream, heard);
            ask(stream, &last);
        }
    }
    server.publish_until(count as u64);
    drop(polls);
    server.publish_until(0);
}

#[test]
fn clients_that_send_no_more_hear_and_are_let_go() {
    let mut server = Server::start(None);
    let paths = ["/events/sse", "/events/stream", "/events/poll"];
    let mut viewers = paths.map(|path| {
        let viewer = Viewer::new(&server, path, 0);
        viewer.stream.shutdown(Shutdown::Write).unwrap();
        viewer
    });
    std::thread::sleep(Duration::from_millis(100));
    server.publish(1);
    assert!(server.hear_answers() >= 2, "streams stay");
    viewers[..2].iter_mut().for_each(|viewer| viewer.check(1));
    // To HTTP/1.0 a poll that sends no more is answered with what there is, and may be that early.
    let mut text = String::new();
    viewers[2].stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\"}"), "{text}");
    server.publish(2);
    viewers[..2].iter_mut().for_each(|viewer| viewer.check(2));
    drop(viewers);
    server.hear_answers();
    server.publish_until(0);
}

#[test]
fn what_was_missed_comes_at_once_however_much_it_is() {
    let mut server = Server::start(None);
    for missed in [1, 63, 64, 65, 127, 128, 129, 640, 1200] {
        let heard = server.ids.len() - 1;
        for n in 1..=missed {
            server.publish(heard + n);
            // Answers must not fill the publisher's buffers.
            if n % 50 == 0 {
                server.hear_answers();
            }
        }
        server.hear_answers();
        for path in ["/events/sse", "/events/stream", "/events/poll"] {
            let mut viewer = Viewer::new(&server, path, heard);
            if path == "/events/poll" {
                let mut text = String::new();
                viewer.stream.read_to_string(&mut text).unwrap();
                assert_eq!(text.matches("\"value\":").count(), missed);
            } else {
                viewer.check(heard + missed);
            }
        }
    }
}

/// How often the threads of a process have been woken.
fn wakeups(server: &Server) -> u64 {
    let folder = format!("/proc/{}/task", server.child.id());
    let mut wakeups = 0;
    for task in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        wakeups += line.unwrap().trim().parse::<u64>().unwrap();
    }
    wakeups
}

/// Time on a processor, in ticks of a hundredth of a second.
fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// How many viewers find a descriptor.
const FEW: usize = 6;

#[test]
fn without_descriptors_it_waits_and_goes_on_when_there_are_some() {
    if is_emulated() {
        // An emulator has threads and descriptors of its own.
        return;
    }
    let server = Server::start(None);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    let numbers = descriptors.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // Those in a row: all but the publisher's, and some for viewers.
    let most = numbers.filter(|number| number.len() < 3).count() - 1 + FEW;
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]);
    let mut server = Server::start(Some(shell));
    // The last of these takes the place of the publisher, which is idle.
    let mut viewers = Vec::new();
    for n in 0..20 {
        viewers.push(Viewer::new(&server, "/events/sse", 0));
        if n < FEW {
            viewers[n].greet();
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = (wakeups(&server), ticks(&server));
    std::thread::sleep(Duration::from_secs(2));
    let after = (wakeups(&server), ticks(&server));
    let (woken, ran) = (after.0 - before.0, after.1 - before.1);
    assert!(
        woken <= 60,
        "woken {woken} times in 2 s, in which nothing happens"
    );
    assert!(ran <= 20, "it ran for {ran} hundredths of 2 s");
    // Each that goes makes room for the one that has waited longest.
    while viewers.len() > FEW {
        let by_reset = viewers.len() % 2 == 0;
        viewers.remove(0).cut(by_reset);
        viewers[FEW - 1].greet();
    }
    viewers.remove(0).cut(true);
    server.publisher = BufReader::new(connect(server.address));
    server.publish_until(viewers.len() as u64);
    let last = server.ids.len() - 1;
    viewers.iter_mut().for_each(|viewer| viewer.check(last));
    drop(viewers);
    server.publish_until(0);
}
