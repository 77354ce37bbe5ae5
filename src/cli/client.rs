//! `encke publish` and `encke watch`: a client of this server, over plain HTTP.
//!
//! DESIGN.md section 3 "Connecting and resuming", as the other end: NDJSON over
//! `/events/stream`, resumed by the last id that was seen. Memory is one line, one head and one
//! id, however long it runs. A token comes from the environment, where other users of the computer
//! do not see it as they see arguments. It never prints a token or half a line, and never ends on
//! its own while the server may come back.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::http::Answer;
use super::{Url, Usage};
use crate::limits::{BODY_BYTES_MAX, CREDENTIAL_BYTES_MAX, OUTPUT_BYTES_MAX};

/// Bytes of one NDJSON line; far above what a server sends.
const LINE_BYTES_MAX: usize = OUTPUT_BYTES_MAX;
/// Bytes of an id.
const ID_BYTES_MAX: usize = 64;
/// Until a server has taken the connection, and until it has answered a publish.
const ANSWER_MS: u64 = 10_000;
/// The longest pause a server may ask for.
const RETRY_MS_MAX: u64 = 300_000;

/// How patient `watch` is.
struct Pace {
    /// Without a byte for so long, the stream is dead: 2.5 heartbeats.
    silence_ms: u64,
    /// The first pause before another try; it doubles.
    pause_ms: u64,
    /// The longest pause of our own.
    pause_ms_max: u64,
}

const PACE: Pace = Pace {
    silence_ms: 37_500,
    pause_ms: 250,
    pause_ms_max: 10_000,
};

/// The variable of the environment that holds a token.
const TOKEN: &str = "ENCKE_TOKEN";

/// The field that shows the token of the environment; empty when there is none.
///
/// # Errors
/// It cannot stand in a field (RFC 6750 section 2.1).
pub fn authorization() -> Result<String, Usage> {
    let token = std::env::var_os(TOKEN).unwrap_or_default();
    field_of(&token.to_string_lossy())
}

fn field_of(token: &str) -> Result<String, Usage> {
    if token.is_empty() {
        return Ok(String::new());
    }
    let is_right = |byte: u8| byte.is_ascii_graphic();
    if token.len() > CREDENTIAL_BYTES_MAX || !token.bytes().all(is_right) {
        let fix = "set it to NAME.SECRET, as `encke token NAME` printed it";
        return Err(Usage::new(format!("{TOKEN} is no token"), fix));
    }
    Ok(format!("Authorization: Bearer {token}\r\n"))
}

fn connect(url: &Url, silence_ms: u64) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_millis(ANSWER_MS)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_millis(silence_ms)))?;
                stream.set_write_timeout(Some(Duration::from_millis(silence_ms)))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An error in a person's words.
fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer for too long".to_string(),
        ErrorKind::UnexpectedEof => "the connection broke off".to_string(),
        ErrorKind::ConnectionRefused => {
            "nobody answers at this port (Encke's own is 8080)".to_string()
        }
        _ => printable(&error.to_string()),
    }
}

/// `text` on one line, without control characters: it may come from anywhere.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
        .trim()
        .to_string()
}

/// The body as text, up to `BODY_BYTES_MAX`.
fn body<R: Read>(answer: &mut Answer<R>) -> io::Result<String> {
    let mut body = Vec::new();
    while let Some(piece) = answer.piece()? {
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == BODY_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Why a server refused: its status, and its own words when they are for people.
fn reason<R: Read>(answer: &mut Answer<R>) -> String {
    let status = printable(answer.status_line());
    let is_page = answer
        .field("content-type")
        .is_some_and(|kind| kind.starts_with("text/html"));
    let location = answer
        .field("location")
        .map(|to| format!("it is at {}", printable(to)));
    let text = match (location, is_page) {
        (Some(location), _) => location,
        (None, true) => String::new(),
        (None, false) => printable(&body(answer).unwrap_or_default()),
    };
    match text.is_empty() {
        true => status,
        false => format!("{status}: {text}"),
    }
}

/// `encke publish`: sends `value` as it was typed and prints the server's answer to `out`, or why
/// not to `err`. `topic` is a valid name, `authorization` a field or nothing.
/// Returns the exit code.
pub fn publish(
    url: &Url,
    topic: &str,
    value: &str,
    authorization: &str,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    match post(url, topic, value, authorization) {
        Ok(answer) => {
            writeln!(out, "{}", answer.trim_end())?;
            Ok(0)
        }
        Err(reason) => {
            writeln!(err, "encke: {url}: {reason}")?;
            Ok(1)
        }
    }
}

fn post(url: &Url, topic: &str, value: &str, authorization: &str) -> Result<String, String> {
    let sent = connect(url, ANSWER_MS).and_then(|mut stream| {
        let request = format!(
            "POST /topics/{topic} HTTP/1.1\r\nHost: {}\r\nUser-Agent: encke\r\nAccept: */*\r\n\
             {authorization}Content-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{value}",
            url.authority(),
            value.len()
        );
        let written = stream.write_all(request.as_bytes());
        // A server that refuses may close before it has read everything, and still say why.
        Answer::read(stream).map_err(|error| written.err().unwrap_or(error))
    });
    let mut answer = sent.map_err(|error| words(&error))?;
    match answer.status {
        200..=299 => body(&mut answer).map_err(|error| words(&error)),
        _ => Err(reason(&mut answer)),
    }
}

/// `encke watch`: prints events as lines of JSON to `out`, and what happens to the connection to
/// `err`, until `out` is closed (0) or the server refuses for good (1). `patterns` are valid; none
/// means all. `authorization` is a field or nothing. Of the server's own lines only a hello that
/// tells of a loss is printed.
pub fn watch(
    url: &Url,
    patterns: &[String],
    authorization: &str,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    watch_at(&PACE, url, patterns, authorization, out, err)
}

/// Why a connection ended, and what follows.
#[derive(Debug, PartialEq)]
enum End {
    /// Try again, not before `retry_ms` when the server named it.
    Lost { why: String, retry_ms: Option<u64> },
    /// The server will not have us.
    Refused(String),
    /// Nobody reads what we print.
    Unread,
}

/// Errors of the connection are a reason to try again.
impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Lost {
            why: words(&error),
            retry_ms: None,
        }
    }
}

fn watch_at(
    pace: &Pace,
    url: &Url,
    patterns: &[String],
    authorization: &str,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let mut watch = Watch {
        pace,
        url,
        patterns,
        authorization,
        last: String::new(),
        pause_ms: 0,
        out,
        err,
    };
    let mut said = String::new();
    loop {
        let (why, retry_ms) = match watch.connection()? {
            End::Unread => return Ok(0),
            End::Refused(why) => {
                writeln!(watch.err, "encke: {url}: {why}")?;
                return Ok(1);
            }
            End::Lost { why, retry_ms } => (why, retry_ms.unwrap_or(0).min(RETRY_MS_MAX)),
        };
        if watch.pause_ms == 0 || why != said {
            writeln!(watch.err, "encke: {url}: {why}; trying again")?;
            said = why;
        }
        let pause_ms = watch.next_pause().max(retry_ms);
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
}

/// What `watch` carries from one connection to the next.
struct Watch<'a, O, E> {
    pace: &'a Pace,
    url: &'a Url,
    patterns: &'a [String],
    authorization: &'a str,
    /// The last id that was seen, empty before the first.
    last: String,
    /// The last pause, 0 after a connection that worked.
    pause_ms: u64,
    out: &'a mut O,
    err: &'a mut E,
}

impl<O: Write, E: Write> Watch<'_, O, E> {
    /// The next pause of our own: double the last one, of which up to half is left to chance.
    fn next_pause(&mut self) -> u64 {
        let doubled = (self.pause_ms * 2).max(self.pace.pause_ms);
        self.pause_ms = doubled.min(self.pace.pause_ms_max);
        let chance = RandomState::new().hash_one(0);
        self.pause_ms - chance % (self.pause_ms / 2 + 1)
    }

    fn request(&self) -> String {
        let patterns = self
            .patterns
            .join(",")
            .replace('+', "%2B")
            .replace('#', "%23");
        let parts = [
            ("topics=", patterns.as_str()),
            ("since=", self.last.as_str()),
        ];
        let parts = parts.iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> = parts.map(|(key, value)| format!("{key}{value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!(
            "GET /events/stream{mark}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: encke\r\n\
             {}Accept: application/x-ndjson\r\n\r\n",
            query.join("&"),
            self.url.authority(),
            self.authorization
        )
    }

    /// One connection from its first byte to its last. An error is of `err`.
    fn connection(&mut self) -> io::Result<End> {
        let opened = connect(self.url, self.pace.silence_ms).and_then(|mut stream| {
            stream.write_all(self.request().as_bytes())?;
            Answer::read(stream)
        });
        let mut answer = match opened {
            Ok(answer) => answer,
            Err(error) => return Ok(error.into()),
        };
        if let Some(end) = refusal(&mut answer) {
            return Ok(end);
        }
        let mut line = Line::new();
        loop {
            let mut piece = match answer.piece() {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(lost("the server ended the stream")),
                Err(error) => return Ok(error.into()),
            };
            while !piece.is_empty() {
                piece = match line.take(piece) {
                    Ok(rest) => rest,
                    Err(TooLong) => return Ok(refused("it sent a line that is too long")),
                };
                if let Some(text) = line.whole()
                    && let Some(end) = self.line(text)?
                {
                    return Ok(end);
                }
            }
        }
    }

    /// One line of the server's. An error is of `err`.
    fn line(&mut self, line: &str) -> io::Result<Option<End>> {
        let (kind, id) = read_line(line);
        let end = match kind {
            Kind::Event => self.print(line),
            Kind::Hello(hello) => {
                self.greet(&hello)?;
                match hello.lost > 0 || hello.reset {
                    true => self.print(line),
                    false => None,
                }
            }
            Kind::Busy { retry_ms } => {
                let why = "the server is full or about to stop".to_string();
                Some(End::Lost { why, retry_ms })
            }
            Kind::Other => None,
        };
        if let Some(id) = id.filter(|_| end.is_none()) {
            self.last.clear();
            self.last.push_str(id);
        }
        Ok(end)
    }

    /// Says in words what a hello means for whoever watches.
    fn greet(&mut self, hello: &Hello) -> io::Result<()> {
        let again = self.pause_ms > 0;
        self.pause_ms = 0;
        let url = self.url;
        match hello {
            Hello { reset: true, .. } => {
                writeln!(
                    self.err,
                    "encke: {url}: the log is a new one; what was missed is unknown"
                )
            }
            Hello { lost: 0, .. } if again && self.last.is_empty() => {
                writeln!(self.err, "encke: {url}: connected")
            }
            Hello { lost: 0, .. } if again => {
                writeln!(self.err, "encke: {url}: resumed, nothing was lost")
            }
            Hello { lost: 0, .. } => Ok(()),
            Hello {
                lost,
                is_exact: true,
                ..
            } => {
                writeln!(self.err, "encke: {url}: lost {lost} events")
            }
            Hello { lost, .. } => writeln!(self.err, "encke: {url}: lost at most {lost} events"),
        }
    }

    /// Prints a line at once, so that a pipe's reader has it.
    fn print(&mut self, line: &str) -> Option<End> {
        let printed = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        match printed {
            Ok(()) => None,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Some(End::Unread),
            Err(error) => Some(refused(&format!("cannot print: {error}"))),
        }
    }
}

fn lost(why: &str) -> End {
    End::Lost {
        why: why.to_string(),
        retry_ms: None,
    }
}

fn refused(why: &str) -> End {
    End::Refused(why.to_string())
}

/// What an answer's head means, when it is not the stream.
fn refusal<R: Read>(answer: &mut Answer<R>) -> Option<End> {
    let retry_s: Option<u64> = answer
        .field("retry-after")
        .and_then(|value| value.parse().ok());
    match answer.status {
        200 => {
            let kind = answer.field("content-type").unwrap_or("nothing known");
            let is_stream = kind.starts_with("application/x-ndjson");
            let why = || format!("it sends {}: this is no Encke server", printable(kind));
            (!is_stream).then(|| End::Refused(why()))
        }
        429 | 500..=599 => {
            let retry_ms = retry_s.map(|seconds| seconds.saturating_mul(1000));
            Some(End::Lost {
                why: reason(answer),
                retry_ms,
            })
        }
        _ => Some(End::Refused(reason(answer))),
    }
}

/// A line was longer than `LINE_BYTES_MAX`.
struct TooLong;

/// Gathers pieces into lines.
struct Line {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Line {
    fn new() -> Line {
        Line {
            bytes: Vec::with_capacity(LINE_BYTES_MAX),
            is_whole: false,
        }
    }

    /// Takes `piece` up to the end of a line; what is behind that comes back.
    fn take<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], TooLong> {
        if self.is_whole {
            self.bytes.clear();
        }
        let end = piece.iter().position(|&b| b == b'\n');
        let part = &piece[..end.unwrap_or(piece.len())];
        if self.bytes.len() + part.len() > LINE_BYTES_MAX {
            return Err(TooLong);
        }
        self.bytes.extend_from_slice(part);
        self.is_whole = end.is_some();
        Ok(end.map_or(&[], |end| &piece[end + 1..]))
    }

    /// The line, when it has ended.
    fn whole(&self) -> Option<&str> {
        str::from_utf8(&self.bytes).ok().filter(|_| self.is_whole)
    }
}

struct Hello {
    lost: u64,
    is_exact: bool,
    reset: bool,
}

enum Kind {
    Event,
    Hello(Hello),
    Busy {
        retry_ms: Option<u64>,
    },
    /// A heartbeat, and whatever a later server may say.
    Other,
}

/// What a line is, and the id to resume from once it was dealt with. Lines are as DESIGN.md
/// section 3 has them: no spaces, keys in a fixed order, and users' text only inside events.
fn read_line(line: &str) -> (Kind, Option<&str>) {
    let inner = |name| {
        line.strip_prefix("{\"")
            .and_then(|rest| rest.strip_prefix(name))
    };
    if inner("id\":\"").is_some() {
        return (Kind::Event, id(line));
    }
    if let Some(busy) = inner("busy\":") {
        return (
            Kind::Busy {
                retry_ms: number(busy, "\"retry\":"),
            },
            None,
        );
    }
    if let Some(hello) = inner("hello\":") {
        let hello = Hello {
            lost: number(hello, "\"lost\":").unwrap_or(0),
            is_exact: !hello.contains("\"exact\":false"),
            reset: hello.contains("\"reset\":true"),
        };
        return (Kind::Hello(hello), id(line));
    }
    (Kind::Other, inner("heartbeat\":").and_then(id))
}

/// The first id in `text`, when it can stand in a request.
fn id(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("\"id\":\"")?;
    let (id, _) = rest.split_once('"')?;
    let is_id = (1..=ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_id.then_some(id)
}

fn number(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::JoinHandle;
    use std::time::Instant;

    const QUICK: Pace = Pace {
        silence_ms: 400,
        pause_ms: 10,
        pause_ms_max: 40,
    };
    const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n";
    const HELLO: &str = "{\"hello\":{\"log\":\"k\",\"id\":\"k-0\",\"lost\":0,\"reset\":false}}\n";
    const END: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nenough";

    fn event(seq: u64) -> String {
        let value = "\"id\":\"evil-9\"".replace('"', "\\\"");
        format!("{{\"id\":\"k-{seq}\",\"topic\":\"a\",\"time\":1,\"value\":\"{value}\"}}\n")
    }

    fn stream(lines: &[&str]) -> String {
        format!("{STREAM}{}", lines.concat())
    }

    /// A server that answers one connection with each of `answers`, after which it closes, or
    /// keeps silent when the answer ends in a NUL. Gives back the requests and when they came.
    fn server(answers: Vec<String>) -> (Url, JoinHandle<Vec<(String, Instant)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Url {
            host: "127.0.0.1".to_string(),
            port,
        };
        let serve = move || {
            let mut silent = Vec::new();
            let mut requests = Vec::new();
            for answer in answers {
                let (mut peer, _) = listener.accept().unwrap();
                let mut request = vec![0; 4096];
                let mut len = 0;
                while !request[..len].windows(4).any(|four| four == b"\r\n\r\n") {
                    len += peer.read(&mut request[len..]).unwrap();
                }
                let text = String::from_utf8(request[..len].to_vec()).unwrap();
                requests.push((text, Instant::now()));
                let half = answer.len() / 2;
                peer.write_all(&answer.as_bytes()[..half]).unwrap();
                peer.flush().unwrap();
                let _ = peer.write_all(answer[half..].trim_end_matches('\0').as_bytes());
                if answer.ends_with('\0') {
                    silent.push(peer);
                }
            }
            requests
        };
        (url, std::thread::spawn(serve))
    }

    struct Seen {
        code: u8,
        out: String,
        err: String,
        requests: Vec<(String, Instant)>,
    }

    const SHOWN: &str = "Authorization: Bearer phone.s3cret\r\n";

    fn watched(patterns: &[&str], answers: &[&str]) -> Seen {
        let (url, serving) = server(answers.iter().map(|answer| answer.to_string()).collect());
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.to_string()).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = watch_at(&QUICK, &url, &patterns, SHOWN, &mut out, &mut err).unwrap();
        let err = String::from_utf8(err)
            .unwrap()
            .replace(&format!("encke: {url}: "), "");
        let requests = serving.join().unwrap();
        Seen {
            code,
            out: String::from_utf8(out).unwrap(),
            err,
            requests,
        }
    }

    #[test]
    fn a_line_cut_in_the_middle_comes_whole_after_the_resume() {
        let (one, two) = (event(1), event(2));
        let seen = watched(
            &["a/+", "b/#"],
            &[
                &stream(&[HELLO, &one, &two[..20]]),
                &stream(&[HELLO, &two]),
                END,
            ],
        );
        assert_eq!((seen.code, seen.out), (1, one + &two));
        let asked = |at: usize| seen.requests[at].0.split(' ').nth(1).unwrap();
        assert_eq!(asked(0), "/events/stream?topics=a/%2B,b/%23");
        assert_eq!(asked(1), "/events/stream?topics=a/%2B,b/%23&since=k-1");
        assert_eq!(asked(2), "/events/stream?topics=a/%2B,b/%23&since=k-2");
        assert_eq!(
            seen.err,
            "the server ended the stream; trying again\nresumed, nothing was lost\n\
             the server ended the stream; trying again\n403 Forbidden: enough\n"
        );
    }

    #[test]
    fn chunks_may_cut_anywhere() {
        let head = STREAM.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunked = |text: &str, size: usize| -> String {
            let chunks = text.as_bytes().chunks(size).map(|chunk| {
                format!(
                    "{:x}\r\n{}\r\n",
                    chunk.len(),
                    str::from_utf8(chunk).unwrap()
                )
            });
            chunks.collect()
        };
        for size in [1, 2, 7, 30, 1000] {
            let body = chunked(&format!("{HELLO}{}{}", event(1), event(2)), size);
            let cut = format!(
                "{head}{body}{}",
                &chunked(&event(3), size)[..25.min(size + 3)]
            );
            let seen = watched(&[], &[&cut, &stream(&[HELLO, &event(3)]), END]);
            assert_eq!(seen.out, event(1) + &event(2) + &event(3), "{size}");
            assert!(
                seen.requests[0]
                    .0
                    .starts_with("GET /events/stream HTTP/1.1\r\n")
            );
            assert!(seen.requests[1].0.contains("?since=k-2 "), "{size}");
            let shows = |request: &(String, _)| request.0.contains(SHOWN);
            assert!(seen.requests.iter().all(shows));
            assert!(
                seen.err
                    .starts_with("the connection broke off; trying again\n")
            );
        }
    }

    #[test]
    fn a_heartbeat_moves_the_place_and_is_not_printed() {
        let beat = "{\"heartbeat\":{\"id\":\"k-7\"}}\n";
        let evil = "{\"heartbeat\":{\"id\":\"k 8\\r\\nX: y\"}}\n";
        let seen = watched(&[], &[&stream(&[HELLO, beat, evil, "{\"new\":1}\n"]), END]);
        assert_eq!(seen.out, "");
        assert!(
            seen.requests[1].0.contains("?since=k-7 "),
            "{}",
            seen.requests[1].0
        );
    }

    #[test]
    fn a_loss_is_printed_and_said() {
        let lost = HELLO.replace("\"lost\":0", "\"lost\":5");
        let about = lost.replace("false}}", "false,\"exact\":false}}");
        let reset = HELLO.replace("false", "true").replace("k-0", "m-4");
        let again = format!("{STREAM}{lost}{about}{reset}");
        let seen = watched(&[], &[&stream(&[HELLO]), &again, END]);
        assert_eq!(seen.out, format!("{lost}{about}{reset}"));
        assert!(
            seen.err.contains(
                "lost 5 events\nlost at most 5 events\nthe log is a new one; what was missed is unknown\n"
            ),
            "{}",
            seen.err
        );
        assert!(seen.requests[2].0.contains("since=m-4"));
    }

    #[test]
    fn pauses_that_the_server_asks_for() {
        let busy = "{\"busy\":{\"reason\":\"full\",\"retry\":300}}\n";
        let full =
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        let seen = watched(&[], &[&stream(&[busy]), full, END]);
        let pause = |at: usize| seen.requests[at + 1].1.duration_since(seen.requests[at].1);
        assert!(pause(0) >= Duration::from_millis(290), "{:?}", pause(0));
        assert!(pause(1) >= Duration::from_millis(990), "{:?}", pause(1));
        assert!(seen.err.starts_with(
            "the server is full or about to stop; trying again\n503 Service Unavailable; trying again\n"
        ));
    }

    #[test]
    fn pauses_of_our_own_double_and_are_left_to_chance() {
        let url = Url {
            host: String::new(),
            port: 1,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut watch = Watch {
            pace: &PACE,
            url: &url,
            patterns: &[],
            authorization: "",
            last: String::new(),
            pause_ms: 0,
            out: &mut out,
            err: &mut err,
        };
        for want in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let pause = watch.next_pause();
            assert!((want / 2..=want).contains(&pause), "{pause} {want}");
        }
    }

    #[test]
    fn silence_and_refused_connections_are_tried_again() {
        let quiet = stream(&[HELLO]) + "\0";
        let seen = watched(&[], &[&quiet, END]);
        assert!(
            seen.err
                .starts_with("no answer for too long; trying again\n"),
            "{}",
            seen.err
        );
        let pause = seen.requests[1].1.duration_since(seen.requests[0].1);
        assert!(
            pause >= Duration::from_millis(QUICK.silence_ms - 10),
            "{pause:?}"
        );

        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let url = Url {
            host: "127.0.0.1".to_string(),
            port: free.port(),
        };
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            let (mut peer, _) = TcpListener::bind(free).unwrap().accept().unwrap();
            peer.write_all(END.as_bytes()).unwrap();
            let _ = peer.read(&mut [0; 4096]);
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(
            watch_at(&QUICK, &url, &[], "", &mut out, &mut err).unwrap(),
            1
        );
        late.join().unwrap();
        let err = String::from_utf8(err).unwrap();
        assert_eq!(
            err.matches("nobody answers at this port").count(),
            1,
            "{err}"
        );
    }

    #[test]
    fn refusals_end_it_with_the_reason() {
        for (answer, want) in [
            (END, "403 Forbidden: enough"),
            (
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<html>",
                "404 Not Found",
            ),
            (
                "HTTP/1.1 301 Moved\r\nLocation: https://a/\r\nContent-Length: 0\r\n\r\n",
                "301 Moved: it is at https://a/",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>",
                "it sends text/html: this is no Encke server",
            ),
            ("HTTP/1.1 400 Bad\r\n\r\n\x1b[31mred\n", "400 Bad: [31mred"),
        ] {
            let seen = watched(&[], &[answer]);
            assert_eq!((seen.code, seen.err.trim_end()), (1, want));
        }
    }

    #[test]
    fn a_line_at_and_above_its_limit() {
        let long = |bytes: usize| {
            let start = "{\"id\":\"k-1\"";
            format!("{start}{}\n", " ".repeat(bytes - start.len()))
        };
        let seen = watched(&[], &[&stream(&[&long(LINE_BYTES_MAX)]), END]);
        assert_eq!(seen.out.len(), LINE_BYTES_MAX + 1);
        let seen = watched(&[], &[&stream(&[&long(LINE_BYTES_MAX + 1)])]);
        assert_eq!(
            (seen.code, &seen.err[..]),
            (1, "it sent a line that is too long\n")
        );
    }

    #[test]
    fn a_closed_output_ends_it_quietly() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (url, serving) = server(vec![stream(&[HELLO, &event(1)])]);
        let mut err = Vec::new();
        assert_eq!(
            watch_at(&QUICK, &url, &[], "", &mut Closed, &mut err).unwrap(),
            0
        );
        assert!(err.is_empty());
        serving.join().unwrap();
    }

    #[test]
    fn publishing() {
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"id\":\"k-1\",\"subscribers\":12}\n";
        let large = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nno!\n";
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"id\"";
        for (answer, code, said) in [
            (answer, 0, "{\"id\":\"k-1\",\"subscribers\":12}\n"),
            (large, 1, "413 Content Too Large: no!\n"),
            (cut, 1, "the connection broke off\n"),
            ("SMTP", 1, "it does not speak HTTP/1.1\n"),
        ] {
            let (url, serving) = server(vec![answer.to_string()]);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let got = publish(&url, "a/b", "\u{e9}", SHOWN, &mut out, &mut err).unwrap();
            let said_all = String::from_utf8([out, err].concat()).unwrap();
            assert_eq!(
                (got, said_all.replace(&format!("encke: {url}: "), "")),
                (code, said.to_string())
            );
            let request = &serving.join().unwrap()[0].0;
            assert!(request.starts_with("POST /topics/a/b HTTP/1.1\r\nHost: 127.0.0.1:"));
            assert!(request.contains("\r\nContent-Length: 2\r\n"), "{request}");
            assert_eq!(request.matches(SHOWN).count(), 1, "{request}");
        }
    }

    #[test]
    fn a_token_of_the_environment_is_a_field() {
        assert_eq!(field_of("phone.s3cret").unwrap(), SHOWN);
        assert_eq!(field_of("").unwrap(), "");
        assert!(field_of(&"x".repeat(CREDENTIAL_BYTES_MAX)).is_ok());
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        for bad in ["a b", "a\r\nb", "\u{e9}", &long] {
            let usage = field_of(bad).unwrap_err();
            assert_eq!(usage.problem, "ENCKE_TOKEN is no token", "{bad}");
        }
    }
}
