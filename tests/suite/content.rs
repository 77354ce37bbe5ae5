//! What each resource says besides its body (RFC 9110 sections 6.6.1, 8, 9.3.2, 12.5.3, 13 and
//! 15.4.5; Content Security Policy Level 3): a table of resources by fields, HEAD against GET,
//! preconditions, codings, dates and policies.

use std::io::Write;
use std::process::{Command, Stdio};

use encke::config::{Config, Layer};
use encke::peers::{Settings, TURNED_AWAY};

use crate::support::world::{World, settings};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

const NO_STORE: &str = "Cache-Control: no-cache, no-store, must-revalidate";

/// One answer, as it came.
struct Answer {
    status: u16,
    /// The status line and the fields.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.expect("a head ends") + 4);
        let head = String::from_utf8(head.to_vec()).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.expect("a status line has a status"),
            head,
            body: body.to_vec(),
        }
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        let lines = self.head.trim_end().split("\r\n").skip(1);
        lines
            .map(|line| line.split_once(": ").expect("a field has a value"))
            .collect()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields().into_iter().filter(|(n, _)| *n == name);
        let value = values.next().map(|(_, value)| value);
        assert_eq!(values.next(), None, "{name} stands once in {}", self.head);
        value
    }
}

/// A world with a topic `a/b`.
fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    let mut world = World::new(settings);
    world.publish("a/b", "{\"x\":1}");
    world
}

fn ask_in(world: &mut World, request: &str) -> Answer {
    let client = world.connect().unwrap();
    world.feed(client, request.as_bytes());
    let mut bytes = Vec::new();
    loop {
        world.settle();
        let more = world.take(client);
        if more.is_empty() {
            world.reset(client);
            return Answer::of(&bytes);
        }
        bytes.extend(more);
    }
}

/// The answer of a world in which nothing else was asked to a line and fields, each with its CRLF.
fn ask(line: &str, fields: &str) -> Answer {
    ask_in(&mut world(|_| ()), &request(line, fields))
}

fn request(line: &str, fields: &str) -> String {
    let (line, version) = line.split_once(" by ").unwrap_or((line, "1.1"));
    format!("{line} HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n")
}

/// Request, status, media type, and what else is said; a field without a value may have any.
type Row = (&'static str, u16, &'static str, &'static [&'static str]);

const PAGE: &[&str] = &[
    "Content-Length",
    "Cache-Control: no-cache",
    "Vary: Accept-Encoding",
    "ETag",
    "Referrer-Policy: same-origin",
    "Content-Security-Policy",
];
const PLAIN: &[&str] = &[
    "Content-Length",
    NO_STORE,
    "Referrer-Policy: same-origin",
    "Content-Security-Policy",
];
const VALUE: &[&str] = &["Content-Length", NO_STORE];
const HELD: &[&str] = &[
    "Transfer-Encoding: chunked",
    NO_STORE,
    "Pragma: no-cache",
    "Expires: 0",
    "X-Accel-Buffering: no",
    "Connection: close",
];
const POLLED: &[&str] = &[
    "Content-Length",
    "ETag",
    NO_STORE,
    "Pragma: no-cache",
    "Expires: 0",
    "X-Accel-Buffering: no",
];
const NOT_ALLOWED: &[&str] = &["Content-Length", NO_STORE, "Allow: GET, HEAD, OPTIONS"];

/// Every resource, and every way to miss one. All have a Date and `nosniff` besides.
const ROWS: &[Row] = &[
    ("GET /", 200, HTML, PAGE),
    ("GET /?x=1", 200, HTML, PAGE),
    ("GET /?plain", 200, HTML, PLAIN),
    ("GET /topics", 200, JSON, VALUE),
    ("GET /topics/a/b", 200, JSON, VALUE),
    ("GET /health", 200, JSON, VALUE),
    (
        "GET /metrics",
        200,
        "text/plain; version=0.0.4; charset=utf-8",
        VALUE,
    ),
    (
        "GET /events/sse",
        200,
        "text/event-stream; charset=utf-8",
        HELD,
    ),
    (
        "GET /events/stream",
        200,
        "application/x-ndjson; charset=utf-8",
        HELD,
    ),
    ("GET /events/poll", 200, JSON, POLLED),
    ("GET /events", 200, JSON, POLLED),
    ("OPTIONS /", 204, "", &["Allow: GET, HEAD, OPTIONS"]),
    (
        "OPTIONS /topics",
        204,
        "",
        &["Allow: GET, HEAD, POST, OPTIONS"],
    ),
    (
        "OPTIONS *",
        204,
        "",
        &["Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS"],
    ),
    ("GET /nothing", 404, TEXT, VALUE),
    ("GET /topics/c", 404, TEXT, VALUE),
    ("GET /topics/%20", 400, TEXT, VALUE),
    ("GET /events/nothing", 404, TEXT, VALUE),
    ("GET /events?topics=a//b", 400, TEXT, VALUE),
    ("DELETE /", 405, TEXT, NOT_ALLOWED),
    ("DELETE /health", 405, TEXT, NOT_ALLOWED),
    ("DELETE /metrics", 405, TEXT, NOT_ALLOWED),
    ("DELETE /events/sse", 405, TEXT, NOT_ALLOWED),
    ("DELETE /nothing", 404, TEXT, VALUE),
    ("DELETE /topics/c", 404, TEXT, VALUE),
    ("DELETE /topics/a/b", 200, JSON, VALUE),
    ("PUT /topics/c", 200, JSON, VALUE),
    ("POST /topics/c", 200, JSON, VALUE),
    ("PATCH /", 501, TEXT, VALUE),
];

fn check_row((line, status, media, wanted): Row) {
    let fields = match line.starts_with('P') {
        true => "Content-Length: 1\r\n\r\n1",
        false => "",
    };
    // A body stands behind the head.
    let text = match fields {
        "" => request(line, ""),
        body => request(line, body).trim_end().to_owned(),
    };
    let answer = ask_in(&mut world(|_| ()), &text);
    assert_eq!(answer.status, status, "{line}");
    let mut lines = vec!["Date: Sat, 22 Nov 2025 06:00:34 GMT".to_owned()];
    if !media.is_empty() {
        lines.push(format!("Content-Type: {media}"));
    }
    lines.push("X-Content-Type-Options: nosniff".to_owned());
    lines.extend(wanted.iter().map(|line| (*line).to_owned()));
    // A method that is not known closes: what follows it may be anything.
    if line.starts_with("PATCH") {
        lines.push("Connection: close".to_owned());
    }
    let mut said: Vec<String> = Vec::new();
    for (name, value) in answer.fields() {
        let whole = format!("{name}: {value}");
        said.push(if lines.contains(&whole) {
            whole
        } else {
            name.to_owned()
        });
    }
    said.sort();
    lines.sort();
    assert_eq!(said, lines, "{line}");
}

#[test]
fn each_resource_says_what_it_should_and_nothing_else() {
    ROWS.iter().copied().for_each(check_row);
}

#[test]
fn head_is_get_without_the_body() {
    for (line, ..) in ROWS.iter().filter(|row| row.0.starts_with("GET")) {
        for version in ["", " by 1.0"] {
            for fields in [
                "",
                "Accept-Encoding: gzip\r\n",
                "If-None-Match: *\r\n",
                "If-Match: \"x\"\r\n",
            ] {
                let target = line.trim_start_matches("GET");
                let get = ask(&format!("GET{target}{version}"), fields);
                let head = ask(&format!("HEAD{target}{version}"), fields);
                assert_eq!(head.body, b"", "{line}{version} {fields}");
                // A stream ends with its connection; nothing has to end behind the head of one.
                let is_held = get.field("X-Accel-Buffering").is_some();
                let known = |answer: &Answer| match is_held {
                    true => comparable(&answer.head),
                    false => answer.head.clone(),
                };
                assert_eq!(known(&head), known(&get), "{line}{version} {fields}");
                if let Some(length) = get.field("Content-Length") {
                    assert_eq!(
                        length,
                        get.body.len().to_string(),
                        "{line}{version} {fields}"
                    );
                }
            }
        }
    }
}

/// A head without what says how long its answer is, or how long the connection lasts.
fn comparable(head: &str) -> String {
    // Nor how far it goes.
    let framing = ["Content-Length", "Transfer-Encoding", "Connection", "ETag"];
    let lines = head.split("\r\n");
    let kept: Vec<_> = lines
        .filter(|line| !framing.iter().any(|name| line.starts_with(name)))
        .collect();
    kept.join("\r\n")
}

#[test]
fn head_of_an_answer_longer_than_a_buffer_is_its_head_too() {
    let long = || {
        let mut world = world(|settings| {
            settings.ring_bytes = 1 << 20;
            settings.topics = 128;
        });
        for i in 0..100 {
            world.publish(&format!("long/{i}"), &format!("\"{}\"", "x".repeat(2000)));
        }
        world
    };
    for target in ["/topics", "/?plain"] {
        for version in ["1.1", "1.0"] {
            let get = ask_in(
                &mut long(),
                &request(&format!("GET {target} by {version}"), ""),
            );
            let head = ask_in(
                &mut long(),
                &request(&format!("HEAD {target} by {version}"), ""),
            );
            assert!(get.body.len() > 200_000);
            assert_eq!(
                (head.head, head.body),
                (get.head, Vec::new()),
                "{target} {version}"
            );
        }
    }
}

/// A field of a request.
fn listed(name: &str, list: &str) -> String {
    format!("{name}: {list}\r\n")
}

fn etag(fields: &str) -> String {
    ask("GET /", fields).field("ETag").unwrap().to_owned()
}

const GZIP: &str = "Accept-Encoding: gzip\r\n";

#[test]
fn if_none_match_knows_the_page_by_any_spelling_of_its_tag() {
    let (plain, gzip) = (etag(""), etag(GZIP));
    assert_ne!(plain, gzip);
    for (tag, other, coding) in [(&plain, &gzip, ""), (&gzip, &plain, GZIP)] {
        assert!(
            tag.len() == 21 && tag.starts_with('"') && tag.ends_with('"'),
            "{tag}"
        );
        let same = [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"a\",{tag}"),
            format!("\"a,b\" ,\t{tag} , \"c\""),
            format!(",, {tag},"),
            format!("W/\"\", W/{tag}"),
            "*".to_owned(),
        ];
        let bare = tag.trim_matches('"');
        let others = [
            other.clone(),
            String::new(),
            ",".to_owned(),
            "\"\"".to_owned(),
            "\"".to_owned(),
            bare.to_owned(),
            format!("w/{tag}"),
            format!("W/ {tag}"),
            format!("W/W/{tag}"),
            format!("\"{tag}\""),
            format!("{tag}x"),
            format!("\"a\" {tag}"),
            "**".to_owned(),
            "\"a\", *".to_owned(),
            "W/*".to_owned(),
        ];
        for method in ["GET", "HEAD"] {
            let asked = |list: &str| {
                let fields = format!("{coding}{}", listed("If-None-Match", list));
                ask(&format!("{method} /"), &fields)
            };
            for list in &same {
                let answer = asked(list);
                assert_eq!((answer.status, &answer.body[..]), (304, &b""[..]), "{list}");
                assert_eq!(answer.field("ETag"), Some(tag.as_str()), "{list}");
            }
            for list in &others {
                assert_eq!(asked(list).status, 200, "{list}");
            }
        }
        // Two lines are one list.
        let lines = format!("{coding}If-None-Match: \"a\"\r\nif-none-match: {tag}\r\n");
        assert_eq!(ask("GET /", &lines).status, 304);
    }
}

#[test]
fn a_304_has_what_a_200_would_have_but_what_describes_the_body() {
    for coding in ["", GZIP] {
        let fields = format!("{coding}If-None-Match: *\r\n");
        let mut world = world(|settings| settings.push_host = " push.example");
        let full = ask_in(&mut world, &request("GET /", coding));
        let short = ask_in(&mut world, &request("GET /", &fields));
        let body = ["Content-Type", "Content-Length", "Content-Encoding"];
        let mut kept = full.fields();
        kept.retain(|(name, _)| !body.contains(name));
        assert_eq!((short.status, short.fields()), (304, kept));
        for name in ["Date", "ETag", "Vary", "Cache-Control"] {
            assert!(
                short.field(name).is_some(),
                "RFC 9110 section 15.4.5: {name}"
            );
        }
        // What a browser kept may be from before `push_host` was set.
        let policy = short.field("Content-Security-Policy").unwrap();
        assert!(
            policy.ends_with("; connect-src 'self' push.example"),
            "{policy}"
        );
    }
}

#[test]
fn preconditions_decide_only_what_would_have_gone_well() {
    let tag = etag("");
    let known = format!("If-None-Match: {tag}\r\n");
    for (line, status) in [
        ("GET /nothing", 404),
        ("GET /topics/c", 404),
        ("GET /topics/%20", 400),
        ("DELETE /", 405),
        ("DELETE /topics/c", 404),
        ("OPTIONS /", 204),
        ("OPTIONS *", 204),
    ] {
        for fields in [
            &known,
            "If-None-Match: *\r\n",
            "If-Match: \"x\"\r\n",
            "If-Match: *\r\n",
        ] {
            assert_eq!(ask(line, fields).status, status, "{line} {fields}");
        }
    }
    // Without a modification date, and without ranges, these have nothing to say.
    for fields in [
        "If-Modified-Since: Sat, 22 Nov 2025 06:00:34 GMT\r\n",
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "Range: bytes=0-0\r\n",
        "Range: bytes=0-0\r\nIf-Range: \"x\"\r\n",
    ] {
        assert_eq!(ask("GET /", fields).status, 200, "{fields}");
    }
    let both = format!("{known}If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
    assert_eq!(ask("GET /", &both).status, 304);
}

#[test]
fn if_match_takes_a_tag_as_it_is() {
    let tag = etag("");
    let gzip = etag(GZIP);
    for (list, status) in [
        (tag.clone(), 200),
        (format!("\"a\", {tag}"), 200),
        ("*".to_owned(), 200),
        (format!("W/{tag}"), 412),
        (gzip, 412),
        ("\"a\"".to_owned(), 412),
        (String::new(), 412),
    ] {
        assert_eq!(
            ask("GET /", &listed("If-Match", &list)).status,
            status,
            "{list}"
        );
    }
    // Section 13.2.2: If-Match first.
    let both = format!("If-Match: \"a\"\r\nIf-None-Match: {tag}\r\n");
    assert_eq!(ask("GET /", &both).status, 412);
    let both = format!("If-Match: {tag}\r\nIf-None-Match: {tag}\r\n");
    assert_eq!(ask("GET /", &both).status, 304);
}

#[test]
fn preconditions_of_what_has_no_tag() {
    for line in [
        "GET /?plain",
        "GET /topics",
        "GET /topics/a/b",
        "GET /health",
        "GET /metrics",
    ] {
        for (fields, status) in [
            ("If-None-Match: \"a\"\r\n", 200),
            ("If-None-Match: *\r\n", 304),
            ("If-Match: *\r\n", 200),
            ("If-Match: \"a\"\r\n", 412),
        ] {
            let answer = ask(line, fields);
            assert_eq!(answer.status, status, "{line} {fields}");
            let cache = answer.field("Cache-Control");
            assert_eq!(
                cache,
                NO_STORE.strip_prefix("Cache-Control: "),
                "{line} {fields}"
            );
        }
    }
    // A stream has no representation before it is asked for.
    for line in [
        "GET /events/sse",
        "GET /events/stream",
        "GET /events/poll",
        "GET /events",
    ] {
        assert_eq!(ask(line, "If-None-Match: *\r\n").status, 200, "{line}");
        assert_eq!(ask(line, "If-Match: \"a\"\r\n").status, 412, "{line}");
    }
}

#[test]
fn a_write_under_a_precondition_that_is_not_met_does_nothing() {
    for (line, fields, status) in [
        ("PUT /topics/a/b", "If-None-Match: *", 412),
        ("POST /topics/a/b", "If-None-Match: *", 412),
        ("DELETE /topics/a/b", "If-None-Match: *", 412),
        ("POST /topics", "If-None-Match: *", 412),
        ("PUT /topics/a/b", "If-Match: \"x\"", 412),
        ("DELETE /topics/a/b", "If-Match: \"x\"", 412),
        ("PUT /topics/c", "If-Match: *", 412),
        ("PUT /topics/c", "If-Match: \"x\"", 412),
        ("PUT /topics/c", "If-None-Match: *", 200),
        ("PUT /topics/c", "If-None-Match: \"x\"", 200),
        ("PUT /topics/a/b", "If-None-Match: \"x\"", 200),
        ("PUT /topics/a/b", "If-Match: *", 200),
        ("DELETE /topics/a/b", "If-Match: *", 200),
    ] {
        let mut world = world(|_| ());
        let head = world.peers.hub.head();
        let body = match line {
            "POST /topics" => "[{\"topic\":\"c\",\"value\":true}]",
            _ if line.starts_with('D') => "",
            _ => "1",
        };
        let fields = format!("{fields}\r\nContent-Length: {}\r\n", body.len());
        let answer = ask_in(&mut world, &(request(line, &fields) + body));
        assert_eq!(answer.status, status, "{line} {fields}");
        let published = world.peers.hub.head() - head;
        assert_eq!(published, u64::from(status == 200), "{line} {fields}");
        // One topic's precondition is looked at when the body is there; the connection goes on.
        let closes = answer.field("Connection").is_some();
        assert_eq!(closes, line == "POST /topics", "{line} {fields}");
    }
    // A topic that was forgotten is not there, and may be made anew.
    let mut world = world(|_| ());
    ask_in(&mut world, &request("DELETE /topics/a/b", ""));
    let fields = "If-None-Match: *\r\nContent-Length: 1\r\n";
    let again = request("PUT /topics/a/b", fields) + "1";
    assert_eq!(ask_in(&mut world, &again).status, 200);
    assert_eq!(ask_in(&mut world, &again).status, 412);
}

#[test]
fn gzip_goes_to_whoever_wants_it_at_least_as_much_as_the_page_as_it_is() {
    for (list, gzip) in [
        ("gzip", true),
        ("GZip", true),
        ("gzip, deflate, br, zstd", true),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
        ("gzip;q=0.001", true),
        ("gzip;q=1.000", true),
        ("gzip ; q=0.5 , br", true),
        ("*", true),
        ("*;q=0.5", true),
        ("identity, gzip", true),
        ("identity;q=0.5, gzip", true),
        ("identity;q=0, gzip;q=0.001", true),
        ("*;q=0, gzip", true),
        (",gzip,", true),
        ("", false),
        ("gzip;q=0", false),
        ("gzip;q=0.", false),
        ("gzip;q=0.000", false),
        ("gzip;q=0, *", false),
        ("identity", false),
        ("br", false),
        ("xgzip", false),
        ("gzipx", false),
        ("identity;q=1, gzip;q=0.5", false),
        ("gzip;q=0.2, *;q=0.3", false),
        ("gzip;q=0.999, identity", false),
        // Both refused: the field is disregarded.
        ("identity;q=0", false),
        ("*;q=0", false),
        ("gzip;q=0, identity;q=0", false),
        ("identity;q=0, br", false),
        // A weight that is none counts as 1, as without it.
        ("gzip;q=2", true),
        ("gzip;q=0.0000", true),
        ("gzip;q=x", true),
        ("gzip;q=-1", true),
        ("gzip;q", true),
    ] {
        check_coding(&listed("Accept-Encoding", list), gzip);
    }
    // Two lines are one list, and a name says more than `*`, wherever it stands.
    check_coding("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true);
    check_coding("Accept-Encoding: gzip;q=0\r\nAccept-Encoding: *\r\n", false);
    check_coding("Accept-Encoding: *\r\nAccept-Encoding: gzip;q=0\r\n", false);
    check_coding(
        "Accept-Encoding: *\r\nAccept-Encoding: identity;q=0.5\r\n",
        true,
    );
    check_coding("", false);
}

fn check_coding(fields: &str, gzip: bool) {
    let answer = ask("GET /", fields);
    assert_eq!(answer.status, 200, "{fields}");
    let coding = answer.field("Content-Encoding");
    assert_eq!(coding, gzip.then_some("gzip"), "{fields}");
    assert_eq!(answer.body.starts_with(&[0x1f, 0x8b]), gzip, "{fields}");
    assert_eq!(answer.field("Vary"), Some("Accept-Encoding"), "{fields}");
}

#[test]
fn only_the_page_has_a_coding() {
    for (line, ..) in ROWS.iter().filter(|row| row.1 != 204) {
        if line.starts_with("GET") && !matches!(*line, "GET /" | "GET /?x=1") {
            let answer = ask(line, GZIP);
            assert_eq!(answer.field("Content-Encoding"), None, "{line}");
            assert_eq!(answer.field("Vary"), None, "{line}");
        }
    }
}

#[test]
fn no_answer_has_a_date_while_the_clock_is_not_known() {
    for (line, ..) in ROWS.iter().filter(|row| !row.0.starts_with('P')) {
        for fields in ["", "If-None-Match: *\r\n"] {
            let mut world = world(|_| ());
            let known = ask_in(&mut world, &request(line, fields));
            assert_eq!(
                known.field("Date"),
                Some("Sat, 22 Nov 2025 06:00:34 GMT"),
                "{line}"
            );
            let mut world = self::world(|_| ());
            world.set_wall(false);
            let unknown = ask_in(&mut world, &request(line, fields));
            assert_eq!(unknown.field("Date"), None, "{line}");
            // From the moment it is known every answer has one.
            world.set_wall(true);
            let known = ask_in(&mut world, &request("GET /health", ""));
            assert_eq!(
                known.field("Date"),
                Some("Sat, 22 Nov 2025 06:00:34 GMT"),
                "{line}"
            );
        }
    }
}

#[test]
fn the_date_is_that_of_the_answer() {
    let mut world = world(|_| ());
    for (pass_ms, date) in [
        (0, "Sat, 22 Nov 2025 06:00:34 GMT"),
        (432, "Sat, 22 Nov 2025 06:00:34 GMT"),
        (1, "Sat, 22 Nov 2025 06:00:35 GMT"),
        (25_000, "Sat, 22 Nov 2025 06:01:00 GMT"),
        (18 * 3_600_000, "Sun, 23 Nov 2025 00:01:00 GMT"),
    ] {
        world.pass(pass_ms);
        let answer = ask_in(&mut world, &request("GET /health", ""));
        assert_eq!(answer.field("Date"), Some(date));
    }
    // A poll that was held is dated when it is answered.
    let client = world.connect().unwrap();
    let since = format!("GET /events/poll?since={}-1&timeout=20", "k3f9q2xa");
    world.feed(client, request(&since, "").as_bytes());
    world.settle();
    world.pass(5_000);
    world.publish("a/b", "2");
    world.settle();
    let answer = Answer::of(&world.take(client));
    assert_eq!(answer.field("Date"), Some("Sun, 23 Nov 2025 00:01:05 GMT"));
}

#[test]
fn nobody_is_refused_without_the_defaults() {
    let one_viewer = |settings: &mut Settings| settings.viewers = 0;
    let full = ask_in(
        &mut world(one_viewer),
        &request("GET /events/poll?since=k3f9q2xa-1", ""),
    );
    assert_eq!(full.status, 503);
    assert!(full.field("Retry-After").is_some());
    let malformed = ask_in(&mut world(|_| ()), "GET / HTTP/1.1\r\nHost : x\r\n\r\n");
    assert_eq!(malformed.status, 400);
    let foreign = ask_in(
        &mut world(|_| ()),
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    );
    assert_eq!(foreign.status, 421);
    let turned_away = Answer::of(TURNED_AWAY);
    let length = turned_away.body.len().to_string();
    assert_eq!(turned_away.field("Content-Length"), Some(length.as_str()));
    for answer in [full, malformed, foreign, turned_away] {
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(answer.field("Content-Type"), Some(TEXT));
        assert!(
            answer
                .field("Cache-Control")
                .is_some_and(|value| value.contains("no-store"))
        );
        assert_eq!(answer.field("Content-Security-Policy"), None);
    }
}

/// The sources of a directive of the page's policy.
fn sources(answer: &Answer, directive: &str) -> Vec<String> {
    let policy = answer.field("Content-Security-Policy").unwrap();
    let mut found = policy
        .split("; ")
        .filter_map(|text| text.strip_prefix(directive));
    let sources = found
        .next()
        .unwrap_or_else(|| panic!("{directive} in {policy}"));
    assert_eq!(found.next(), None, "{directive} stands once in {policy}");
    sources
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}

/// What stands in the elements of this name.
fn elements(page: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let begun = page.split(&open).skip(1);
    begun
        .map(|rest| rest.split_once(&close).expect("it ends").0.to_owned())
        .collect()
}

/// `'sha256-...'` of a text, by a program that is not ours.
fn source_of(text: &str) -> String {
    let mut command = Command::new("sha256sum");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().expect("sha256sum is a part of every Linux");
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let hex = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let digit = |at: usize| u32::from_str_radix(&hex[at..=at], 16).unwrap();
    // Three digits of 16 are two of 64; 64 digits want two zeros behind.
    let bits: Vec<u32> = (0..64).map(digit).chain([0, 0]).collect();
    let symbols: Vec<u8> = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(*b"+/")
        .collect();
    let pairs = bits.chunks(3).flat_map(|three| {
        let twelve = three[0] << 8 | three[1] << 4 | three[2];
        [twelve >> 6, twelve & 63]
    });
    let mut base64: String = pairs.map(|six| char::from(symbols[six as usize])).collect();
    base64.truncate(43);
    format!("'sha256-{base64}='")
}

#[test]
fn the_policy_names_just_what_is_in_the_pages() {
    let (page, table) = (ask("GET /", ""), ask("GET /?plain", ""));
    let text = |answer: &Answer| String::from_utf8(answer.body.clone()).unwrap();
    let (page_text, table_text) = (text(&page), text(&table));
    let styles = [
        elements(&page_text, "style"),
        elements(&table_text, "style"),
    ]
    .concat();
    let scripts = [
        elements(&page_text, "script"),
        elements(&table_text, "script"),
    ]
    .concat();
    let hashes = |texts: &[String]| -> Vec<String> { texts.iter().map(|t| source_of(t)).collect() };
    for answer in [&page, &table] {
        assert_eq!(sources(answer, "style-src"), hashes(&styles));
        assert_eq!(sources(answer, "script-src"), hashes(&scripts));
        for directive in ["default-src", "base-uri", "frame-ancestors"] {
            assert_eq!(sources(answer, directive), ["'none'"], "{directive}");
        }
        assert_eq!(sources(answer, "form-action"), ["'self'"]);
        for directive in ["connect-src", "frame-src"] {
            assert_eq!(sources(answer, directive), ["'self'"], "{directive}");
        }
        assert_eq!(sources(answer, "img-src"), ["data:"]);
    }
    assert_eq!((styles.len(), scripts.len()), (2, 3));
    // What a hash does not cover would not work.
    for text in [page_text, table_text] {
        let markup = ["style", "script"].iter().fold(text, |text, name| {
            let inner = elements(&text, name);
            inner
                .iter()
                .fold(text.clone(), |text, inner| text.replace(inner, ""))
        });
        for never in [
            " style=",
            " onclick=",
            " onload=",
            " src=",
            "javascript:",
            "<link rel=\"stylesheet",
        ] {
            assert!(!markup.contains(never), "{never}");
        }
    }
}

#[test]
fn pages_may_connect_to_the_push_host_and_no_further() {
    let mut world = world(|settings| {
        settings.push_host = " push.example:8443 ws://push.example:8443";
    });
    let page = ask_in(&mut world, &request("GET /", ""));
    let wanted = ["'self'", "push.example:8443", "ws://push.example:8443"];
    assert_eq!(sources(&page, "connect-src"), wanted);
    // The table connects to nothing.
    let table = ask_in(&mut world, &request("GET /?plain", ""));
    assert_eq!(sources(&table, "connect-src"), ["'self'"]);
}

fn configured(push_host: &str) -> Settings {
    let text = &format!("[server]\npush_host = \"{push_host}\"");
    let layer = Layer {
        file: "encke.toml",
        text,
        is_profile: false,
    };
    encke::server::settings(&Config::new(&[layer]).unwrap(), std::path::Path::new("/"))
}

#[test]
fn a_push_host_that_is_configured_is_named_and_answered_to() {
    let configured = configured("Push.Example:8443");
    let mut world = world(|settings| {
        settings.push_host = configured.push_host;
        settings.policy.names = configured.policy.names;
    });
    let page = ask_in(&mut world, &request("GET /", ""));
    let wanted = ["'self'", "push.example:8443", "ws://push.example:8443"];
    assert_eq!(sources(&page, "connect-src"), wanted);
    let cookie = "\r\nSet-Cookie: encke_push=push.example:8443; Path=/; SameSite=Lax\r\n";
    assert!(page.head.contains(cookie), "{}", page.head);
    for (host, status) in [("push.example:8443", 200), ("push.example", 421)] {
        let request = format!("GET /events/sse HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(ask_in(&mut world, &request).status, status, "{host}");
    }
}

#[test]
fn the_longest_push_host_fits_the_head() {
    let host = "p".repeat(128);
    let sources = configured(&host).push_host;
    let mut world = world(|settings| settings.push_host = sources);
    for fields in ["", GZIP, "Connection: close\r\nAccept-Encoding: gzip\r\n"] {
        let answer = ask_in(&mut world, &request("GET /", fields));
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains(sources));
    }
}
