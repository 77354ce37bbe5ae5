//! The real binary over real sockets, as its users have it: two hundred subscribers cut at random, a
//! reader that stalls, an end by signal. Loopback only; every wait has a limit.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{command, step};

/// A server of this test's own, ended with it.
pub(crate) struct Live {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Live {
    pub(crate) fn start(arguments: &[&str]) -> Live {
        let mut child = command(env!("CARGO_BIN_EXE_encke"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let address = announced(&mut child);
        Live { child, address }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    pub(crate) fn terminate(&mut self) -> (i32, Duration) {
        let begun = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), begun.elapsed())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The loopback address that a server's banner names.
pub(crate) fn announced(server: &mut Child) -> SocketAddr {
    let banner = BufReader::new(server.stdout.take().unwrap());
    let mut lines = banner.lines().map(Result::unwrap);
    let line = lines
        .find(|line| line.contains("http://127.0.0.1:"))
        .expect("the banner names the address");
    let (_, address) = line.split_once("http://").unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// One answer with a Content-Length: its status and body.
pub(crate) fn answer(stream: &mut impl BufRead) -> (u16, String) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn seq(id: &str) -> u64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

/// Publishes a batch on a kept connection; the sequence of its last event.
fn publish(stream: &mut BufReader<TcpStream>, events: &[(String, u64)]) -> u64 {
    let items: Vec<_> = events
        .iter()
        .map(|(t, v)| format!(r#"{{"topic":"{t}","value":{v}}}"#))
        .collect();
    let body = format!("[{}]", items.join(","));
    let head = format!(
        "POST /topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .get_mut()
        .write_all((head + &body).as_bytes())
        .unwrap();
    let (status, body) = answer(stream);
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["count"], events.len());
    seq(answer["id"].as_str().unwrap())
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What a subscriber has seen, whatever the transport.
#[derive(Default)]
struct Seen {
    id: String,
    events: Vec<(u64, String, u64)>,
    /// Every hello with `lost`: the cursor it counts from, how many, whether that is exact.
    lost: Vec<(u64, u64, bool)>,
    resets: u32,
}

/// Any message of any transport: an event, a hello, a heartbeat, bare or by its name, or an answer.
#[derive(serde::Deserialize)]
struct Message {
    id: Option<String>,
    topic: Option<String>,
    value: Option<f64>,
    lost: Option<u64>,
    exact: Option<bool>,
    reset: Option<bool>,
    hello: Option<Box<Message>>,
    heartbeat: Option<Box<Message>>,
    events: Option<Vec<Message>>,
    last: Option<String>,
}

impl Seen {
    /// Whether everything that was published is behind it; `goal` is 0 until all of it was.
    fn has_reached(&self, goal: &AtomicU64) -> bool {
        let goal = goal.load(Ordering::Relaxed);
        goal > 0 && seq(&self.id) >= goal
    }

    /// Takes a message; `None` when its text is cut off.
    fn take(&mut self, text: &str) -> Option<()> {
        let message: Message = serde_json::from_str(text).ok()?;
        self.message(message);
        Some(())
    }

    fn message(&mut self, message: Message) {
        for inner in [message.hello, message.heartbeat].into_iter().flatten() {
            self.message(*inner);
        }
        for event in message.events.into_iter().flatten() {
            self.message(event);
        }
        let Some(id) = message.id.or(message.last) else {
            return;
        };
        if let Some(topic) = message.topic {
            self.events
                .push((seq(&id), topic, message.value.unwrap_or_default() as u64));
        }
        self.resets += u32::from(message.reset == Some(true));
        if let Some(lost) = message.lost.filter(|lost| *lost > 0) {
            self.lost.push((seq(&id), lost, message.exact.is_none()));
        }
        self.id = id;
    }
}

/// One connection on one transport, until `cut` bytes came, the server ended it, or all is seen.
fn session(
    address: SocketAddr,
    path: &str,
    topics: &str,
    seen: &mut Seen,
    cut: usize,
    goal: &AtomicU64,
) {
    let stream = connect(address);
    stream
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    let since = if seen.id.is_empty() {
        "snapshot=0".into()
    } else {
        format!("since={}", seen.id)
    };
    let target = format!("{path}?topics={topics}&{since}&timeout=0.4");
    let mut stream = BufReader::new(stream);
    // To HTTP/1.0, so that the body is the bytes behind the head, up to the end.
    let head = format!("GET {target} HTTP/1.0\r\n\r\n");
    if stream.get_mut().write_all(head.as_bytes()).is_err() {
        return;
    }
    let mut bytes = 0;
    let mut line = Vec::new();
    let mut in_body = false;
    let mut text = String::new();
    while bytes < cut && !seen.has_reached(goal) {
        line.clear();
        match stream.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            // Quiet: a stream is left when everything was published.
            Err(_) if goal.load(Ordering::Relaxed) > 0 => break,
            Err(_) if line.is_empty() => continue,
            Err(_) => break,
        }
        bytes += line.len();
        text.clear();
        text.push_str(std::str::from_utf8(&line).unwrap().trim_end());
        if !in_body {
            in_body = text.is_empty();
            continue;
        }
        let object = text.strip_prefix("data: ").unwrap_or(&text);
        if !object.starts_with('{') || (!line.ends_with(b"\n") && !path.ends_with("poll")) {
            continue;
        }
        if seen.take(object).is_none() {
            break;
        }
    }
}

const PATHS: [&str; 3] = ["/events/sse", "/events/stream", "/events/poll"];
const SETS: [(&str, &str); 5] = [
    ("live/%23", ""),
    ("live/a", "live/a"),
    ("live/b", "live/b"),
    ("live/c", "live/c"),
    ("%23", ""),
];

fn subscriber(address: SocketAddr, seed: u64, goal: &AtomicU64) -> (usize, Seen) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let set = random.below(SETS.len() as u64) as usize;
    let mut seen = Seen::default();
    session(
        address,
        "/events/poll",
        SETS[set].0,
        &mut seen,
        usize::MAX,
        goal,
    );
    let limit = Instant::now() + Duration::from_secs(60);
    while Instant::now() < limit {
        if seen.has_reached(goal) {
            break;
        }
        // Some are away for longer than the window lasts.
        if goal.load(Ordering::Relaxed) == 0 && random.below(4) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(3_000)));
        }
        let path = PATHS[random.below(3) as usize];
        let cut = 200 + random.below(40_000) as usize;
        session(address, path, SETS[set].0, &mut seen, cut, goal);
    }
    // What is left, in one last answer.
    session(
        address,
        "/events/poll",
        SETS[set].0,
        &mut seen,
        usize::MAX,
        goal,
    );
    (set, seen)
}

/// Compares what came with what was published.
fn check(set: usize, seen: &Seen, published: &HashMap<u64, (String, u64)>, head: u64) -> u64 {
    let wanted = |topic: &str| SETS[set].1.is_empty() || SETS[set].1 == topic;
    assert_eq!(seen.resets, 0);
    assert!(
        seen.events.is_sorted_by(|a, b| a.0 < b.0),
        "ids strictly rise, none twice"
    );
    let came: HashMap<u64, u64> = seen.events.iter().map(|(s, _, v)| (*s, *v)).collect();
    for (s, topic, value) in &seen.events {
        if let Some((t, v)) = published.get(s) {
            assert_eq!((t, v), (topic, value));
            assert!(wanted(t));
        }
    }
    let missing: Vec<u64> = published
        .iter()
        .filter(|(s, (topic, _))| wanted(topic) && !came.contains_key(s))
        .map(|(s, _)| *s)
        .collect();
    let told: u64 = seen.lost.iter().map(|(_, lost, _)| lost).sum();
    assert!(
        missing.len() as u64 <= told,
        "{} missing, {told} told",
        missing.len()
    );
    for s in &missing {
        assert!(
            seen.lost.iter().any(|(from, ..)| from < s),
            "{s} is missing before any hello said so"
        );
    }
    for topic in ["live/a", "live/b", "live/c"]
        .into_iter()
        .filter(|t| wanted(t))
    {
        let newest = published
            .iter()
            .filter(|(_, (t, _))| t == topic)
            .map(|(s, _)| *s)
            .max()
            .unwrap();
        assert!(
            came.contains_key(&newest),
            "the newest of {topic} of {head}"
        );
    }
    missing.len() as u64
}

#[test]
fn many_subscribers_cut_and_resumed() {
    let live = Live::start(&[]);
    let goal = Arc::new(AtomicU64::new(0));
    let results = Arc::new(Mutex::new(Vec::new()));
    let count = 200 / step(4) as u64;
    let subscribers: Vec<_> = (0..count)
        .map(|seed| {
            let (goal, results, address) = (goal.clone(), results.clone(), live.address);
            std::thread::spawn(move || {
                let result = subscriber(address, seed + 1, &goal);
                results.lock().unwrap().push(result);
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut stream = BufReader::new(live.connect());
    let mut published = HashMap::new();
    let (mut head, mut n) = (0, 0u64);
    while n < 10_000 {
        let topics = ["live/a", "live/a", "live/a", "live/b", "live/c"];
        let batch: Vec<_> = (0..50)
            .map(|i| (topics[(n + i) as usize % 5].to_owned(), n + i))
            .collect();
        head = publish(&mut stream, &batch);
        for (i, (topic, value)) in batch.iter().enumerate() {
            published.insert(head - 49 + i as u64, (topic.clone(), *value));
        }
        n += 50;
        std::thread::sleep(Duration::from_millis(if n == 5_000 { 1_500 } else { 20 }));
    }
    goal.store(head, Ordering::Relaxed);
    subscribers
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let results = results.lock().unwrap();
    assert_eq!(results.len() as u64, count);
    let missing: u64 = results
        .iter()
        .map(|(set, seen)| check(*set, seen, &published, head))
        .sum();
    let received: usize = results.iter().map(|(_, seen)| seen.events.len()).sum();
    println!("{received} events received, {missing} missing and told");
    assert!(
        received as u64 > count * 1000 && missing > 0,
        "most came, and some were away for too long"
    );
}

#[test]
fn a_stalled_reader_is_lapped_told_and_ends_with_the_newest() {
    let live = Live::start(&[]);
    let mut stalled = BufReader::new(live.connect());
    stalled
        .get_mut()
        .write_all(b"GET /events/stream?topics=burst/%23&snapshot=0 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut publisher = BufReader::new(live.connect());
    let mut last = HashMap::new();
    for batch in 0..100u64 {
        let events: Vec<_> = (0..100)
            .map(|i| (format!("burst/{}", i % 3), batch * 100 + i))
            .collect();
        publish(&mut publisher, &events);
        last.extend(events);
    }
    let mut seen = Seen::default();
    let mut line = String::new();
    let mut newest = HashMap::new();
    while newest != last {
        line.clear();
        assert!(
            stalled.read_line(&mut line).unwrap() > 0,
            "the stream goes on"
        );
        if line.starts_with('{') {
            seen.take(&line).unwrap();
        }
        newest.extend(
            seen.events
                .last()
                .map(|(_, topic, value)| (topic.clone(), *value)),
        );
    }
    assert!(!seen.lost.is_empty(), "it was lapped");
    // A kernel may make room piece by piece for one who reads nothing: then it is lapped again.
    let once = |a: &(u64, u64, bool), b: &(u64, u64, bool)| a.0 + a.1 <= b.0;
    assert!(seen.lost.is_sorted_by(once), "each gap is told once");
    assert!(seen.events.is_sorted_by(|a, b| a.0 < b.0));
    let told: u64 = seen.lost.iter().map(|(_, count, _)| count).sum();
    assert!(told >= 10_000 - seen.events.len() as u64);
}

#[test]
fn a_signal_ends_it_cleanly() {
    let mut live = Live::start(&[]);
    let mut streams: Vec<_> = PATHS
        .iter()
        .map(|path| {
            let mut stream = live.connect();
            let target = format!("{path}?topics=none&since=&snapshot=0");
            stream
                .write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
                .unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300 * step(10) as u64));
    let (code, took) = live.terminate();
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let mut text = String::new();
    streams[0].read_to_string(&mut text).unwrap();
    assert!(
        text.contains("event: busy\ndata: {\"reason\":\"draining\",\"retry\":"),
        "{text}"
    );
    assert!(text.ends_with("0\r\n\r\n"));
    text.clear();
    streams[1].read_to_string(&mut text).unwrap();
    assert!(
        text.contains("{\"busy\":{\"reason\":\"draining\",\"retry\":"),
        "{text}"
    );
}

/// The generic profile's ten thousand, or as many as two processes' descriptors allow here.
#[test]
fn ten_thousand_viewers_hear_one_event() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit {
        current: hard,
        maximum: hard,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let count = hard.map_or(10_000, |hard| (hard - 600).min(10_000)) as usize;
    assert!(
        count >= 1_000,
        "a limit of {hard:?} open files is too low for this test"
    );
    let live = Live::start(&[]);
    let mut viewers: Vec<_> = (0..count)
        .map(|_| {
            let mut stream = live.connect();
            let target = "/events/stream?topics=crowd&snapshot=0";
            stream
                .write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes())
                .unwrap();
            BufReader::with_capacity(512, stream)
        })
        .collect();
    let mut line = String::new();
    for viewer in &mut viewers {
        while !line.contains("\"hello\"") {
            line.clear();
            assert!(
                viewer.read_line(&mut line).unwrap() > 0,
                "a place for everybody"
            );
        }
        line.clear();
    }
    let mut publisher = BufReader::new(live.connect());
    let head = "POST /topics/crowd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n7";
    publisher.get_mut().write_all(head.as_bytes()).unwrap();
    let (status, body) = answer(&mut publisher);
    assert_eq!(status, 200, "{body}");
    assert!(
        body.ends_with(&format!(",\"subscribers\":{count}}}")),
        "{body}"
    );
    for viewer in &mut viewers {
        line.clear();
        viewer.read_line(&mut line).unwrap();
        assert!(line.ends_with(",\"value\":7}\n"), "{line}");
    }
}

/// What the kernel is told of held peers: keep-alive after 10 s, and 12 s for what nobody takes.
#[test]
fn the_kernel_finds_dead_viewers() {
    let live = Live::start(&[]);
    let hold = |patterns: &str| {
        let mut stream = live.connect();
        let head = format!("GET /events/stream?topics={patterns}&snapshot=0 HTTP/1.0\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let quiet = hold("none");
    let _stalled = hold("burst");
    std::thread::sleep(Duration::from_millis(300));
    assert!((1..=1_000).contains(&keep_alive_ticks(&live, &quiet)));
    let mut publisher = BufReader::new(live.connect());
    for batch in 0..100 {
        let value = |i: u64| ("burst".to_owned(), batch * 100 + i);
        publish(&mut publisher, &(0..100).map(value).collect::<Vec<_>>());
    }
    // Nothing of ours closes a viewer: only the kernel can have found that nobody takes anything.
    let begun = Instant::now();
    while viewers(&live) == 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the kernel gives up after 12 s"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(begun.elapsed() > Duration::from_secs(8));
    assert_eq!(viewers(&live), 1);
}

/// Hundredths of a second until the server's end of a connection sends its first keep-alive.
fn keep_alive_ticks(live: &Live, stream: &TcpStream) -> u64 {
    let ports = (live.address.port(), stream.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.split(':').nth(1).unwrap(), 16).unwrap();
    let of_server = |row: &&str| {
        let fields: Vec<_> = row.split_whitespace().collect();
        (port(fields[1]), port(fields[2])) == ports
    };
    let row = table.lines().skip(1).find(of_server).unwrap();
    // proc_net_tcp.rst: the sixth field is `tr:tm->when`, and 02 is the keep-alive timer.
    let timer = row.split_whitespace().nth(5).unwrap().strip_prefix("02:");
    u64::from_str_radix(timer.expect("a keep-alive timer runs"), 16).unwrap()
}

fn viewers(live: &Live) -> u64 {
    let mut stream = BufReader::new(live.connect());
    let head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.get_mut().write_all(head).unwrap();
    let body: serde_json::Value = serde_json::from_str(&answer(&mut stream).1).unwrap();
    body["viewers"].as_u64().unwrap()
}
