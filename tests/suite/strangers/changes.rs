//! Rights that change while somebody is being served: by a new configuration, by time, by a clock
//! that is set.

use encke::access::{Policy, Token};

use super::{PROXY, World, heard, policy, settings, small};
use crate::support::world::{ENDLESS, EPOCH_MS, token};

const BUSY_SSE: &str = "event: busy\ndata: {\"reason\":\"token\",\"retry\":";
const BUSY_STREAM: &str = "{\"busy\":{\"reason\":\"token\",\"retry\":";

fn world(tokens: Vec<Token>) -> World {
    let mut world = World::new(encke::peers::Settings {
        ring_bytes: 256 * 1024,
        topics: 32,
        policy: Policy {
            tokens,
            proxies: Vec::new(),
            ..policy()
        },
        ..small()
    });
    world.publish("open/x", "111222");
    world.publish("a/x", "333444");
    world
}

/// A request from an address, with a token's secret if it is not empty; what came at once.
fn ask(world: &mut World, address: &str, target: &str, secret: &str) -> (usize, String) {
    let client = world.connect_from(address).unwrap();
    let text = head(target, secret);
    world.feed(client, text.as_bytes());
    world.settle();
    (client, heard(world, client))
}

fn head(target: &str, secret: &str) -> String {
    let shown = match secret {
        "" => String::new(),
        secret => format!("Authorization: Bearer {secret}\r\n"),
    };
    format!("GET {target} HTTP/1.1\r\nHost: pi\r\n{shown}\r\n")
}

fn change(world: &mut World, how: impl FnOnce(&mut Policy)) {
    let mut policy = world.peers.policy().clone();
    policy
        .tokens
        .retain(|token| token.validity != encke::access::Validity::Removed);
    how(&mut policy);
    world.peers.set_policy(policy);
    world.settle();
}

#[test]
fn whoever_may_read_nothing_any_more_is_told_so() {
    let revoke: fn(&mut Policy) = |policy| policy.tokens.clear();
    let close: fn(&mut Policy) = |policy| policy.read.clear();
    let empty: fn(&mut Policy) = |policy| policy.tokens[0].grant.read.clear();
    for (secret, how) in [("s1", revoke), ("s1", empty), ("", close)] {
        let mut world = world(vec![token("t", "s1", "open/#", "")]);
        let near = "192.168.1.9";
        let (sse, _) = ask(&mut world, near, "/events/sse", secret);
        let (stream, _) = ask(&mut world, near, "/events/stream?interval=5", secret);
        let (poll, _) = ask(&mut world, near, "/events/poll?since=k3f9q2xa-2", secret);
        let (other, _) = ask(&mut world, "127.0.0.1", "/events/sse", "");
        change(&mut world, how);
        let text = heard(&mut world, sse);
        assert!(
            text.contains(BUSY_SSE) && text.ends_with("\r\n0\r\n\r\n"),
            "{text}"
        );
        let text = heard(&mut world, stream);
        assert!(
            text.contains(BUSY_STREAM) && text.ends_with("\r\n0\r\n\r\n"),
            "{text}"
        );
        let text = heard(&mut world, poll);
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.contains("\"events\":[]"),
            "{text}"
        );
        world.feed(
            poll,
            head("/events/poll?since=k3f9q2xa-2", secret).as_bytes(),
        );
        world.settle();
        let again = heard(&mut world, poll);
        // Who has a token for nothing may ask, and is told nothing.
        let is_refused = again.starts_with("HTTP/1.1 401 ");
        assert!(is_refused || (again.is_empty() && world.peers.policy().tokens.len() == 1));
        assert_eq!(heard(&mut world, other).is_empty(), !secret.is_empty());
    }
}

#[test]
fn rights_that_narrow_hold_at_once() {
    for path in ["/events/sse", "/events/stream", "/events/stream?interval=1"] {
        let mut world = world(vec![token("t", "s1", "#", "")]);
        let (client, text) = ask(&mut world, "8.8.8.8", path, "s1");
        assert!(text.contains("open/x") && text.contains("a/x"), "{text}");
        world.wire(client).capacity = 0;
        world.publish("a/x", "1");
        change(&mut world, |policy| {
            policy.tokens[0].grant.read = vec!["open/#".into()]
        });
        for value in ["999000", "999111"] {
            world.publish("a/x", value);
            world.publish("open/x", value);
            world.settle();
        }
        world.wire(client).capacity = ENDLESS;
        world.announce_room(client);
        world.pass(2_000);
        let text = heard(&mut world, client);
        let values = text.matches("\"value\":999").count();
        assert_eq!(
            values,
            if path.contains("interval") { 1 } else { 2 },
            "{path}: {text}"
        );
        assert!(
            !text.contains("\"a/x\",\"time\"") || !text.contains("busy"),
            "{path}: {text}"
        );
        let hidden = text.split('\n').filter(|line| line.contains("a/x"));
        assert!(
            hidden.clone().all(|line| line.contains("\"value\":1}")),
            "{path}: {text}"
        );
        assert!(!world.wire(client).finished, "it goes on");
    }
}

/// Many events, longer than what goes out at once; then what of them was allowed is less.
#[test]
fn a_long_answer_holds_nothing_that_became_hidden() {
    for path in [
        "/events/poll?since=k3f9q2xa-1",
        "/events/poll",
        "/topics",
        "/?plain",
    ] {
        let mut world = world(vec![token("t", "s1", "#", "")]);
        for n in 0..20 {
            world.publish(&format!("a/n{n}"), &format!("\"{}\"", "long".repeat(1_900)));
        }
        world.publish("a/last", "\"zq81\"");
        world.publish("open/x", "999000");
        let client = world.connect_from("8.8.8.8").unwrap();
        world.wire(client).gulp = 2_000;
        world.feed(client, head(path, "s1").as_bytes());
        world.turn();
        change(&mut world, |policy| {
            policy.tokens[0].grant.read = vec!["open/#".into()]
        });
        let text = heard(&mut world, client);
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        assert!(text.ends_with("\r\n0\r\n\r\n"), "{path}: the answer ends");
        // What was put together by then is on its way; what comes behind it is by the new rights.
        assert!(text.contains("a/n0") || text.contains("a/n1"), "{path}");
        assert!(!text.contains("zq81") && !text.contains("a/last"), "{path}");
    }
}

#[test]
fn a_long_answer_is_cut_when_nothing_is_left() {
    let mut world = world(vec![token("t", "s1", "#", "")]);
    for n in 0..20 {
        world.publish("a/x", &format!("\"{n}{}\"", "long".repeat(1_900)));
    }
    let client = world.connect_from("8.8.8.8").unwrap();
    world.wire(client).gulp = 2_000;
    world.feed(
        client,
        head("/events/poll?since=k3f9q2xa-1", "s1").as_bytes(),
    );
    world.turn();
    assert!(!world.wire(client).finished);
    change(&mut world, |policy| policy.tokens.clear());
    assert!(world.wire(client).finished);
}

#[test]
fn a_token_ends_when_its_time_is_over() {
    let mut ends = token("t", "s1", "#", "#");
    ends.grant.until_s = Some(EPOCH_MS / 1000 + 90);
    let mut world = world(vec![ends]);
    let (client, _) = ask(&mut world, "8.8.8.8", "/events/sse", "t.s1");
    world.pass(88_000);
    assert!(!heard(&mut world, client).contains("busy"));
    let (_, answer) = ask(&mut world, "8.8.8.8", "/topics", "s1");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    world.pass(2_000);
    assert!(heard(&mut world, client).contains(BUSY_SSE));
    let (_, answer) = ask(&mut world, "8.8.8.8", "/topics", "s1");
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && answer.contains("has ended"),
        "{answer}"
    );
    // Nothing of it counts as a guess.
    for _ in 0..20 {
        let (_, answer) = ask(&mut world, "8.8.8.8", "/topics", "t.s1");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[test]
fn a_token_with_an_end_waits_for_a_clock() {
    let mut ends = token("t", "s1", "#", "#");
    ends.grant.until_s = Some(EPOCH_MS / 1000 + 3_600);
    let mut world = world(vec![ends, token("u", "s2", "#", "")]);
    world.set_wall(false);
    world.pass(61_000);
    for (secret, want) in [("t.s1", "HTTP/1.1 401 "), ("u.s2", "HTTP/1.1 200 ")] {
        let (_, answer) = ask(&mut world, "8.8.8.8", "/topics", secret);
        assert!(answer.starts_with(want), "{answer}");
    }
    world.set_wall(true);
    world.pass(5_100);
    let (stream, answer) = ask(&mut world, "8.8.8.8", "/events/stream", "t.s1");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    world.set_wall(false);
    world.pass(61_000);
    assert!(heard(&mut world, stream).contains(BUSY_STREAM));
}

/// The next token in a row that was left inherits nothing, and nobody.
#[test]
fn another_token_in_the_same_row_is_another() {
    let mut world = world(vec![token("t", "s1", "open/#", "open/#")]);
    let (stream, _) = ask(&mut world, "8.8.8.8", "/events/stream", "s1");
    let late = world.connect_from("8.8.8.8").unwrap();
    let body = "[{\"topic\":\"a/x\",\"value\":7}]";
    let request = format!(
        "POST /topics HTTP/1.1\r\nHost: pi\r\nAuthorization: Bearer s1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    world.feed(late, request.as_bytes());
    change(&mut world, |policy| policy.tokens = vec![]);
    assert!(heard(&mut world, stream).contains(BUSY_STREAM));
    let other = token("u", "s2", "a/#", "a/#");
    change(&mut world, |policy| policy.tokens = vec![other.clone()]);
    change(&mut world, |policy| {
        policy.tokens = vec![other, token("t", "s1", "open/#", "open/#")];
    });
    let (_, answer) = ask(&mut world, "8.8.8.8", "/topics/a/x", "s1");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    world.feed(late, body.as_bytes());
    world.settle();
    let answer = heard(&mut world, late);
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("item 0"),
        "{answer}"
    );
}

#[test]
fn a_token_has_another_secret_at_once() {
    let mut world = world(vec![token("t", "s1", "#", "")]);
    change(&mut world, |policy| {
        policy.tokens = vec![token("t", "s2", "#", "")]
    });
    for (secret, want) in [
        ("t.s2", "HTTP/1.1 200 "),
        ("s2", "HTTP/1.1 200 "),
        ("t.s1", "HTTP/1.1 401 "),
        ("s1", "HTTP/1.1 401 "),
    ] {
        let (_, answer) = ask(&mut world, "8.8.8.8", "/topics", secret);
        assert!(answer.starts_with(want), "{secret}: {answer}");
    }
}

/// What was near is a proxy's now, or on-link no longer: nobody goes on as somebody near.
#[test]
fn whoever_is_near_no_longer_is_served_no_longer() {
    for address in [PROXY, "203.0.113.9"] {
        let mut world = world(vec![token("t", "s1", "#", "")]);
        let links = || {
            encke::access::Network::parse("203.0.113.0/24")
                .into_iter()
                .collect()
        };
        change(&mut world, |policy| {
            policy.links = links();
            policy.links.extend(crate::support::world::a_proxy());
        });
        let (stream, text) = ask(&mut world, address, "/events/stream", "");
        assert!(text.contains("open/x"), "{text}");
        let (poll, _) = ask(&mut world, address, "/events/poll?since=k3f9q2xa-2", "");
        let (own, _) = ask(&mut world, address, "/events/stream", "s1");
        let (near, _) = ask(&mut world, "192.168.1.9", "/events/stream", "");
        change(&mut world, |policy| {
            policy.links.clear();
            policy.proxies = crate::support::world::a_proxy();
        });
        assert!(heard(&mut world, stream).contains(BUSY_STREAM), "{address}");
        assert!(
            heard(&mut world, poll).contains("\"events\":[]"),
            "{address}"
        );
        world.publish("open/x", "1");
        world.settle();
        assert!(heard(&mut world, own).contains("\"value\":1}"));
        assert!(heard(&mut world, near).contains("\"value\":1}"));
        let (_, answer) = ask(&mut world, address, "/topics", "");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    assert_ne!(settings().policy.proxies, crate::support::world::a_proxy());
}
