//! Strangers: nobody is ever told anything of a topic that is not theirs to read, by any transport,
//! resource, error or count, at any time.
//!
//! Each reader goes the same way through two worlds that differ in nothing but a topic hidden from
//! it: other name, other values, of the same length. Whatever it hears must be the same to the byte,
//! and must hold neither name nor value; and what is its to read must be there.

mod asking;
mod changes;
mod memos;

use encke::access::{Network, Policy, Token, Validity};
use encke::hub::event::State;
use encke::peers::Settings;
use encke::transport::{TRANSPORTS, Transport};

use crate::support::world::{ENDLESS, EPOCH_MS, World, settings, token};

/// Trusted where a world has a proxy.
const PROXY: &str = "192.0.2.1";

/// Who asks: from where, with what, and what it may read.
#[derive(Clone, Copy, Debug)]
struct Who {
    name: &'static str,
    address: &'static str,
    fields: &'static str,
    /// The visible topic that is its own; none for who may read nothing.
    sees: Option<&'static str>,
}

const fn who(
    name: &'static str,
    address: &'static str,
    fields: &'static str,
    sees: Option<&'static str>,
) -> Who {
    Who {
        name,
        address,
        fields,
        sees,
    }
}

const READERS: [Who; 10] = [
    who("the board itself", "127.0.0.1", "", Some("open/x")),
    who("somebody near", "192.168.1.9", "", Some("open/x")),
    who(
        "somebody near behind a proxy",
        PROXY,
        "X-Forwarded-For: 192.168.1.9\r\n",
        Some("open/x"),
    ),
    who(
        "who has a token",
        "192.168.1.9",
        "Authorization: Bearer some.s0me\r\n",
        Some("a/x"),
    ),
    who(
        "who has a token, from afar, as a cookie",
        "8.8.8.8",
        "Cookie: x=y; encke=some.s0me\r\n",
        Some("a/x"),
    ),
    who(
        "a token for nothing",
        "127.0.0.1",
        "Authorization: Bearer n0thing\r\n",
        None,
    ),
    who(
        "a token for writing",
        "192.168.1.9",
        "Authorization: Bearer writes.wr1tes\r\n",
        None,
    ),
    who("a stranger", "8.8.8.8", "", None),
    who(
        "a stranger behind a proxy",
        PROXY,
        "X-Forwarded-For: 192.168.1.9, 8.8.8.8\r\n",
        None,
    ),
    who(
        "a token that has ended",
        "127.0.0.1",
        "Authorization: Bearer ended.3nded\r\n",
        None,
    ),
];

/// What shows that a look at all bytes would find something.
const EVERYTHING: Who = who(
    "who may read everything",
    "8.8.8.8",
    "Authorization: Bearer all.4ll\r\n",
    Some("open/x"),
);

fn tokens() -> Vec<Token> {
    let mut ended = token("ended", "3nded", "#", "#");
    ended.grant.until_s = Some(EPOCH_MS / 1000 - 1);
    vec![
        token("some", "s0me", "a/#", "b/#"),
        token("nothing", "n0thing", "", ""),
        token("writes", "wr1tes", "", "#"),
        token("all", "4ll", "#", "#"),
        ended,
    ]
}

fn policy() -> Policy {
    Policy {
        proxies: vec![Network::parse(PROXY).unwrap()],
        read: vec!["open/#".into()],
        jsonp: vec!["#".into()],
        tokens: tokens(),
        ..settings().policy
    }
}

fn small() -> Settings {
    Settings {
        viewers: 8,
        pages: 8,
        ring_bytes: 12 * 1024,
        topics: 8,
        policy: policy(),
        ..settings()
    }
}

/// A world's hidden topics, and what they say.
#[derive(Clone, Copy, Debug)]
struct Hidden {
    name: &'static str,
    value: &'static str,
}

/// What requests ask for is there in the first world only.
const ONE: Hidden = Hidden {
    name: "zhid/den",
    value: "zq81",
};
const OTHER: Hidden = Hidden {
    name: "zoth/red",
    value: "wk29",
};

impl Hidden {
    fn publish(self, world: &mut World) {
        world.publish(self.name, &format!("\"{}\"", self.value));
    }

    fn is_in(self, text: &str) -> bool {
        let first = self.name.split('/').next().unwrap();
        text.contains(first) || text.contains(self.value)
    }
}

fn begin(hidden: Hidden) -> World {
    let mut world = World::new(small());
    world.publish("open/x", "111222");
    hidden.publish(&mut world);
    world.publish("a/x", "333444");
    hidden.publish(&mut world);
    world.settle();
    world
}

fn request(who: Who, line: &str, fields: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!(
        "{line}\r\nHost: pi\r\n{}{fields}{length}\r\n{body}",
        who.fields
    )
}

/// The same way through both worlds: what was heard, if it was the same and held nothing hidden.
fn same_in_both(what: &str, who: Who, way: impl Fn(&mut World, Hidden) -> String) -> String {
    let [one, other] = [ONE, OTHER].map(|hidden| way(&mut begin(hidden), hidden));
    for hidden in [ONE, OTHER] {
        assert!(!hidden.is_in(&one), "{}: {what}: {one}", who.name);
    }
    assert_eq!(one, other, "{}: {what}", who.name);
    one
}

/// Every resource, and some that are none.
const TARGETS: [&str; 17] = [
    "/",
    "/?plain",
    "/topics",
    "/topics?plain",
    "/topics/zhid/den",
    "/topics//zhid/den",
    "/topics/hid%2fden",
    "/%74opics/zhid/den",
    "http://pi/topics/zhid/den",
    "/topics/zhid/none",
    "/topics/zhid/+",
    "/topics/zhid",
    "/metrics",
    "/health",
    "/session",
    "/session/",
    "/nothing/zhid/den",
];

const CONDITIONS: [&str; 5] = [
    "",
    "If-None-Match: *\r\n",
    "If-Match: *\r\n",
    "If-None-Match: \"x\"\r\n",
    "If-Match: \"x\"\r\n",
];

#[test]
fn no_resource_tells_of_a_hidden_topic() {
    for who in READERS {
        let mut all = String::new();
        for target in TARGETS {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"] {
                // Who may write a topic learns whether it was there when it forgets it.
                let writes = ["POST", "PUT", "DELETE"].contains(&method);
                if who.name == "a token for writing" && writes && target.contains("den") {
                    continue;
                }
                for version in ["1.1", "1.0"] {
                    let line = format!("{method} {target} HTTP/{version}");
                    all += &same_in_both(&line, who, |world, _| {
                        let ask = |fields| request(who, &line, fields, "");
                        let answers = CONDITIONS.map(|f| world.ask_from(who.address, &ask(f)));
                        answers.concat()
                    });
                }
            }
        }
        let sees = who.sees.unwrap_or("open/x");
        assert_eq!(all.contains(sees), who.sees.is_some(), "{}", who.name);
    }
    let listing = begin(ONE).ask_from(
        EVERYTHING.address,
        &request(EVERYTHING, "GET /topics HTTP/1.1", "", ""),
    );
    assert!(ONE.is_in(&listing), "{listing}");
}

#[test]
fn no_write_tells_of_a_hidden_topic() {
    let many = |topic: &str| format!("[{{\"topic\":\"{topic}\",\"value\":1}}]");
    let long = format!("\"{}\"", "x".repeat(9_000));
    for who in READERS {
        for (line, body) in [
            ("POST /topics HTTP/1.1", many("zhid/den")),
            ("POST /topics HTTP/1.1", many("b/x")),
            ("POST /topics HTTP/1.1", many("encke/x")),
            ("POST /topics/zhid/den HTTP/1.1", "1".into()),
            ("PUT /topics/zhid/den HTTP/1.1", "{".into()),
            ("POST /topics/zhid/den HTTP/1.1", long.clone()),
            ("POST /topics/b/y HTTP/1.1", "1".into()),
            ("POST /session HTTP/1.1", "some.s0me".into()),
            ("POST /session HTTP/1.1", "no.such".into()),
            ("POST /session HTTP/1.1", "{\"token\":1}".into()),
        ] {
            same_in_both(line, who, |world, _| {
                let watcher = world.connect_from("192.168.1.9").unwrap();
                world.feed(
                    watcher,
                    b"GET /events/stream?snapshot=0 HTTP/1.1\r\nHost: pi\r\n\r\n",
                );
                world.settle();
                let json = "Content-Type: application/json\r\n";
                let answer = world.ask_from(who.address, &request(who, line, json, &body));
                // Nor does somebody else who watches, but for that something happened.
                answer + &heard(world, watcher)
            });
        }
    }
}

#[test]
fn a_full_table_of_topics_is_as_full_whoever_fills_it() {
    for who in READERS {
        same_in_both("a full table", who, |world, hidden| {
            for n in 0..5 {
                world.publish(&format!("{}/{n}", hidden.name), "1");
            }
            let body = "[{\"topic\":\"b/1\",\"value\":1},{\"topic\":\"b/2\",\"value\":1}]";
            let line = "POST /topics HTTP/1.1";
            world.ask_from(who.address, &request(who, line, "", body))
        });
    }
}

fn heard(world: &mut World, client: usize) -> String {
    let mut bytes = Vec::new();
    loop {
        let more = world.take(client);
        world.settle();
        if more.is_empty() {
            // Frames of WebSockets have bytes between their texts.
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        bytes.extend(more);
    }
}

/// All that can happen to a hidden topic while somebody watches.
fn live_through(world: &mut World, hidden: Hidden, client: usize) -> String {
    let mut text = heard(world, client);
    let mut listen = |world: &mut World, ms| {
        world.settle();
        text.push_str(&heard(world, client));
        world.pass(ms);
        text.push_str(&heard(world, client));
    };
    hidden.publish(world);
    listen(world, 0);
    for topic in ["open/x", "a/x"] {
        world.publish(topic, "555666");
        hidden.publish(world);
    }
    listen(world, 1_100);
    // Created later, forgotten, made again.
    let late = format!("{}/late", hidden.name);
    world.publish(&late, &format!("\"{}\"", hidden.value));
    world.publish_as(hidden.name, "0", State::Gone);
    listen(world, 1_100);
    hidden.publish(world);
    listen(world, 16_000);
    // One that could be seen goes, and a hidden one comes into its slot.
    world.publish("open/y", "777888");
    world.publish("a/y", "777888");
    listen(world, 500);
    world.publish_as("open/y", "1", State::Gone);
    world.publish_as("a/y", "1", State::Gone);
    burst(world, hidden, "open/x");
    for n in 0..2 {
        let name = format!("{}/n{n}", hidden.name);
        world.publish(&name, &format!("\"{}\"", hidden.value));
    }
    listen(world, 1_100);
    // The client reads nothing while much happens, and is lapped.
    world.wire(client).capacity = 0;
    world.publish("a/x", "999000");
    world.publish("open/x", "999000");
    world.settle();
    for _ in 0..3 {
        burst(world, hidden, hidden.name);
        burst(world, hidden, "a/x");
    }
    world.settle();
    world.wire(client).capacity = ENDLESS;
    world.announce_room(client);
    listen(world, 16_000);
    text
}

/// More than the ring holds.
fn burst(world: &mut World, hidden: Hidden, topic: &str) {
    let long = if topic == hidden.name {
        hidden.value.repeat(150)
    } else {
        "long".repeat(150)
    };
    for _ in 0..24 {
        world.publish(topic, &format!("\"{long}\""));
        world.turn();
    }
}

const WISHES: [&str; 10] = [
    "",
    "topics=zhid/den",
    "topics=zhid/%2b,zhid/den/late",
    "topics=%23",
    "topics=zhid/%23&topics=open/x",
    "format=raw",
    "interval=1",
    "interval=0.5&topics=zhid/%23",
    "snapshot=0&topics=%2b/den",
    "since=k3f9q2xa-1",
];

/// How a transport is asked for: its path, the start of its query, and fields.
fn ask_for(row: &Transport) -> (&'static str, &'static str) {
    match row.name {
        "xml" => ("/events/poll?", "Accept: application/xml\r\n"),
        "iframe" => ("/events/iframe?callback=parent.f&", ""),
        "websocket" => (
            "/events/ws?",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        _ => (format!("{}?", row.path).leak(), ""),
    }
}

#[test]
fn no_stream_tells_of_a_hidden_topic() {
    for who in READERS {
        let mut all = String::new();
        for (path, fields) in TRANSPORTS.iter().map(ask_for) {
            for wish in WISHES {
                for version in ["1.1", "1.0"] {
                    let line = format!("GET {path}{wish} HTTP/{version}");
                    all += &same_in_both(&line, who, |world, hidden| {
                        let client = world.connect_from(who.address).unwrap();
                        world.feed(client, request(who, &line, fields, "").as_bytes());
                        world.settle();
                        live_through(world, hidden, client)
                    });
                }
            }
        }
        let sees = who.sees.unwrap_or("open/x");
        assert_eq!(all.contains(sees), who.sees.is_some(), "{}", who.name);
    }
    for (path, fields) in TRANSPORTS.iter().map(ask_for) {
        let line = format!("GET {path}topics=zhid/%23 HTTP/1.1");
        let mut world = begin(ONE);
        let client = world.connect_from(EVERYTHING.address).unwrap();
        world.feed(client, request(EVERYTHING, &line, fields, "").as_bytes());
        world.settle();
        let text = live_through(&mut world, ONE, client);
        assert!(ONE.is_in(&text), "{line}");
    }
}

/// A poll after the other, each from where the last one ended, over all that happens.
#[test]
fn no_poll_after_another_tells_of_a_hidden_topic() {
    for who in READERS {
        for wish in ["", "topics=zhid/%23,open/%23", "interval=1"] {
            let text = same_in_both(wish, who, |world, hidden| {
                let client = world.connect_from(who.address).unwrap();
                let mut text = String::new();
                let mut last = "k3f9q2xa-1".to_owned();
                for step in 0..12 {
                    let line = format!("GET /events/poll?{wish}&timeout=15&since={last} HTTP/1.1");
                    world.feed(client, request(who, &line, "", "").as_bytes());
                    world.settle();
                    match step % 4 {
                        0 => hidden.publish(world),
                        1 => drop(world.publish(["open/x", "a/x"][step / 4 % 2], "1")),
                        2 => burst(world, hidden, hidden.name),
                        _ => burst(world, hidden, "a/x"),
                    }
                    world.pass(16_000);
                    let answer = heard(world, client);
                    if let Some((_, rest)) = answer.rsplit_once("\"last\":\"") {
                        last = rest.split('"').next().unwrap().to_owned();
                    }
                    text += &answer;
                }
                text
            });
            let is_answered = text.matches("HTTP/1.1 200 OK").count() >= 12;
            let may = who.fields.is_empty() && who.sees.is_some();
            assert!(is_answered || !may, "{}: {text}", who.name);
        }
    }
}

/// A token's own row is what it may know of itself.
#[test]
fn a_session_says_what_is_its_own() {
    let mut world = begin(ONE);
    for (who, want) in [
        (
            READERS[0],
            r#"{"name":null,"read":["open/#"],"write":[],"until":null}"#,
        ),
        (
            READERS[3],
            r#"{"name":"some","read":["a/#"],"write":["b/#"],"until":null}"#,
        ),
        (
            READERS[5],
            r#"{"name":"nothing","read":[],"write":[],"until":null}"#,
        ),
        (
            READERS[7],
            r#"{"name":null,"read":[],"write":[],"until":null}"#,
        ),
        (
            READERS[8],
            r#"{"name":null,"read":[],"write":[],"until":null}"#,
        ),
    ] {
        let answer = world.ask_from(who.address, &request(who, "GET /session HTTP/1.1", "", ""));
        assert!(answer.ends_with(want), "{}: {answer}", who.name);
    }
    assert!(world.peers.policy().tokens[4].validity == Validity::Ended);
}
