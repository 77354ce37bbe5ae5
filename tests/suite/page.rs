//! The dashboard as a resource: codings, entity tags, 304, and the plain table, whatever they hold.

use crate::support::client::{Http, Part};
use crate::support::world::{World, settings};

struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(n, _)| n == name);
        field.map(|(_, value)| value.as_str())
    }
}

fn ask(world: &mut World, request: &str) -> Answer {
    let client = world.connect().unwrap();
    world.feed(client, request.as_bytes());
    world.settle();
    let mut answer = Answer {
        status: 0,
        fields: Vec::new(),
        body: Vec::new(),
    };
    let mut http = Http::new();
    loop {
        let bytes = world.take(client);
        world.settle();
        if bytes.is_empty() {
            world.reset(client);
            return answer;
        }
        for part in http.feed(&bytes) {
            match part {
                Part::Head(status, fields) => (answer.status, answer.fields) = (status, fields),
                Part::Body(bytes) => answer.body.extend(bytes),
                Part::End => {}
            }
        }
    }
}

fn get(world: &mut World, target: &str, fields: &str) -> Answer {
    ask(
        world,
        &format!("GET {target} HTTP/1.1\r\nHost: pi\r\n{fields}\r\n"),
    )
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc))
    })
}

#[test]
fn the_page_in_both_codings() {
    let mut world = World::new(settings());
    let plain = get(&mut world, "/", "");
    let gzip = get(&mut world, "/?x=y", "Accept-Encoding: gzip, br\r\n");
    for answer in [&plain, &gzip] {
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.field("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("cache-control"), Some("no-cache"));
        assert!(answer.field("etag").is_some_and(|tag| tag.starts_with('"')));
    }
    assert_eq!(
        (
            plain.field("content-encoding"),
            gzip.field("content-encoding")
        ),
        (None, Some("gzip"))
    );
    assert_ne!(
        plain.field("etag"),
        gzip.field("etag"),
        "one tag for each coding"
    );
    assert!(plain.body.starts_with(b"<!doctype html>"));
    // RFC 1952 section 2.3.1: the end says what was compressed, by its check sum and its length.
    let end = gzip.body.last_chunk::<8>().unwrap();
    let length = (plain.body.len() as u32).to_le_bytes();
    assert_eq!(
        *end,
        [crc32(&plain.body).to_le_bytes(), length].concat()[..]
    );
    for refused in ["gzip;q=0", "identity", "br", "*;q=0"] {
        let answer = get(&mut world, "/", &format!("Accept-Encoding: {refused}\r\n"));
        assert_eq!(answer.field("content-encoding"), None, "{refused}");
    }
}

#[test]
fn a_page_that_is_known_is_not_sent_again() {
    let mut world = World::new(settings());
    for coding in ["", "Accept-Encoding: gzip\r\n"] {
        let tag = get(&mut world, "/", coding)
            .field("etag")
            .unwrap()
            .to_owned();
        let same = [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
            "*".into(),
        ];
        for tags in same {
            let answer = get(
                &mut world,
                "/",
                &format!("{coding}If-None-Match: {tags}\r\n"),
            );
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{tags}");
            assert_eq!(answer.field("etag"), Some(tag.as_str()));
            assert_eq!(answer.field("content-length"), None);
        }
        let answer = get(
            &mut world,
            "/",
            &format!("{coding}If-None-Match: \"other\"\r\n"),
        );
        assert_eq!(answer.status, 200);
        // The tag of one coding is not that of the other.
        let other = if coding.is_empty() {
            "Accept-Encoding: gzip\r\n"
        } else {
            ""
        };
        let answer = get(&mut world, "/", &format!("{other}If-None-Match: {tag}\r\n"));
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn head_says_what_get_would() {
    let mut world = World::new(settings());
    for target in ["/", "/?plain"] {
        let bytes = get(&mut world, target, "").body.len();
        let text = world.ask(&format!("HEAD {target} HTTP/1.1\r\nHost: pi\r\n\r\n"));
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        assert!(
            text.contains(&format!("\r\nContent-Length: {bytes}\r\n")),
            "{text}"
        );
    }
}

#[test]
fn the_plain_table_lists_each_topic_and_escapes_what_people_wrote() {
    let mut world = World::new(encke::peers::Settings {
        board: "<b>&".into(),
        ..settings()
    });
    world.publish("cpu/temperature", "47.2");
    world.publish("note", "\"\\u003cscript\\u003e\"");
    let slot = world.peers.hub.topics.find("cpu/temperature").unwrap();
    let topic = world.peers.hub.topics.topic_mut(slot);
    topic.unit = "<°C>".try_into().unwrap();
    let answer = get(&mut world, "/?plain", "");
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    for part in ["47.2", "cpu/temperature", "&lt;°C&gt;", "&lt;b&gt;&amp;"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for part in ["<b>", "<script", "<°C"] {
        assert!(!text.contains(part), "{part} in {text}");
    }
}

/// Whoever has to sign in anew gets that far with the old cookie in hand; whoever guesses learns
/// nothing by it.
#[test]
fn a_cookie_that_counts_no_longer_stands_before_nothing_public() {
    let mut world = World::new(settings());
    let cookie = "Cookie: encke=phone.old\r\n";
    for target in ["/", "/health"] {
        assert_eq!(get(&mut world, target, cookie).status, 200, "{target}");
    }
    for target in ["/session", "/topics", "/?plain"] {
        let answer = get(&mut world, target, cookie);
        let forget = answer.field("set-cookie").unwrap_or_default();
        assert_eq!(answer.status, 401, "{target}");
        assert!(forget.starts_with("encke=; "), "{target}: {forget}");
        let is_basic = answer
            .field("www-authenticate")
            .is_some_and(|way| way.starts_with("Basic "));
        assert_eq!(is_basic, target == "/?plain", "{target}");
    }
    let sign_out =
        format!("DELETE /session HTTP/1.1\r\nHost: pi\r\n{cookie}Content-Length: 0\r\n\r\n");
    assert_eq!(ask(&mut world, &sign_out).status, 204);
}
