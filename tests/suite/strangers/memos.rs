//! Heads that were understood before are not read again: that must never give anybody what somebody
//! else may. Whatever came before, and in whatever pieces, each is answered as by a fresh server.

use proptest::prelude::*;

use encke::access::{Friend, Policy};
use encke::peers::Settings;

use super::{PROXY, World, heard, policy, small};

/// Where clients connect from.
const ADDRESSES: [&str; 5] = ["127.0.0.1", "192.168.1.9", "8.8.8.8", PROXY, "::1"];

/// What they ask with: all fields but the Host.
const FIELDS: [&str; 8] = [
    "",
    "Authorization: Bearer some.s0me\r\n",
    "Cookie: encke=some.s0me\r\n",
    "Authorization: Bearer ended.3nded\r\n",
    "Origin: http://friend.example\r\n",
    "Origin: http://reader.example\r\n",
    "X-Forwarded-For: 192.168.1.9\r\n",
    "X-Forwarded-For: 8.8.8.8\r\n",
];

/// What they ask for. A body may come later.
const REQUESTS: [(&str, &str); 9] = [
    ("GET /topics HTTP/1.1", ""),
    ("GET /topics/a/x HTTP/1.1", ""),
    ("GET /session HTTP/1.1", ""),
    ("GET /health HTTP/1.1", ""),
    ("GET /events/poll?timeout=0&since=k3f9q2xa-10 HTTP/1.1", ""),
    ("OPTIONS /topics/a HTTP/1.1", ""),
    ("POST /topics/b/x HTTP/1.1", "12"),
    ("POST /topics/unread HTTP/1.1", "12"),
    ("POST /topics HTTP/1.1", "[{\"topic\":\"b/x\",\"value\":1}]"),
];

/// The configurations that come and go.
fn rights(number: usize) -> Policy {
    let mut policy = policy();
    policy.friends = Friend::all(
        &["http://friend.example".into()],
        &["http://reader.example".into()],
    );
    match number {
        1 => policy.read = vec!["a/#".into()],
        2 => policy.read = Vec::new(),
        3 => policy.proxies = Vec::new(),
        4 => {
            policy.tokens.remove(0);
        }
        5 => policy.tokens[0].grant.read = vec!["open/#".into()],
        6 => policy.friends.reverse(),
        _ => {}
    }
    policy
}

fn world(number: usize) -> World {
    let mut world = World::new(Settings {
        viewers: 32,
        pages: 32,
        policy: rights(0),
        ..small()
    });
    for n in 0..6 {
        world.publish("open/x", &n.to_string());
        world.publish("a/x", &n.to_string());
    }
    if number > 0 {
        world.peers.set_policy(rights(number));
    }
    world.settle();
    world
}

/// One that asks: from where, how, for what, and whether its body comes later.
#[derive(Clone, Copy, Debug)]
struct Ask {
    address: &'static str,
    fields: &'static str,
    request: (&'static str, &'static str),
    is_late: bool,
}

impl Ask {
    fn head(&self) -> String {
        let (line, body) = self.request;
        let length = match body.len() {
            0 => String::new(),
            bytes => format!("Content-Length: {bytes}\r\n"),
        };
        format!("{line}\r\nHost: localhost\r\n{length}{}\r\n", self.fields)
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    use proptest::sample::select;
    let parts = (
        select(&ADDRESSES[..]),
        select(&FIELDS[..]),
        select(&REQUESTS[..]),
        any::<bool>(),
    );
    parts.prop_map(|(address, fields, request, is_late)| Ask {
        address,
        fields,
        request,
        is_late: is_late && !request.1.is_empty(),
    })
}

/// An answer without what depends on how much was published.
fn comparable(answer: &str) -> String {
    let mut parts = answer.split("k3f9q2xa-");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "ID" + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

fn fresh(number: usize, ask: &Ask) -> String {
    let mut world = world(number);
    let text = ask.head() + ask.request.1;
    comparable(&world.ask_from(ask.address, &text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nobody_is_answered_with_anothers_rights(
        asks in proptest::collection::vec((ask(), 0..10usize), 1..24),
        pipelined in any::<bool>(),
    ) {
        let mut world = world(0);
        let mut number = 0;
        let mut late: Vec<(usize, Ask)> = Vec::new();
        let mut kept: Vec<(&str, usize)> = Vec::new();
        for (ask, other) in &asks {
            if *other < 7 && *other != number {
                number = *other;
                world.peers.set_policy(rights(number));
            }
            // On a connection that was used before, if it is still there.
            let client = kept.iter().position(|(address, client)| {
                *address == ask.address && !world.peers.outlet.wires[*client].finished
            });
            let client = match client {
                Some(at) => kept.swap_remove(at).1,
                None => world.connect_from(ask.address).unwrap(),
            };
            world.feed(client, ask.head().as_bytes());
            if ask.is_late {
                late.push((client, *ask));
                continue;
            }
            world.feed(client, ask.request.1.as_bytes());
            if pipelined {
                world.feed(client, (ask.head() + ask.request.1).as_bytes());
            }
            world.settle();
            let mut want = fresh(number, ask);
            if pipelined && !world.peers.outlet.wires[client].finished {
                want = want.repeat(2);
            }
            prop_assert_eq!(comparable(&heard(&mut world, client)), want, "{:?}", ask);
            kept.push((ask.address, client));
        }
        for (client, ask) in late {
            // It is refused as soon as its head is read, or by the rights there are now.
            let early = comparable(&heard(&mut world, client));
            world.feed(client, ask.request.1.as_bytes());
            world.settle();
            let answer = early.clone() + &comparable(&heard(&mut world, client));
            let is_refused = early.starts_with("HTTP/1.1 4");
            let want = fresh(number, &ask);
            let is_same = answer == want
                || answer.replace("Connection: close\r\n", "")
                    == want.replace("Connection: close\r\n", "");
            prop_assert!(is_refused || is_same, "{:?}: {} {}", ask, answer, want);
        }
    }

    /// Polls of many that are held together, and asked for again when they are answered.
    #[test]
    fn nobody_is_held_with_anothers_rights(
        asks in proptest::collection::vec((0..ADDRESSES.len(), 0..FIELDS.len(), any::<bool>()), 1..12),
    ) {
        let polls: Vec<(&str, [String; 2])> = asks.iter().map(|(address, fields, wide)| {
            let topics = if *wide { "%23" } else { "a/x,open/x" };
            let poll = |id| format!(
                "GET /events/poll?topics={topics}&since=k3f9q2xa-{id} HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
                FIELDS[*fields],
            );
            (ADDRESSES[*address], [poll(12), poll(14)])
        }).collect();
        let together = rounds(&polls);
        for (poll, heard) in polls.iter().zip(together) {
            let alone = rounds(core::slice::from_ref(poll));
            prop_assert_eq!(&heard, &alone[0], "{:?}", poll);
        }
    }
}

/// What each hears of two rounds.
fn rounds(polls: &[(&str, [String; 2])]) -> Vec<String> {
    let mut world = world(0);
    let mut clients = Vec::new();
    for (address, _) in polls {
        clients.push((world.connect_from(address).unwrap(), String::new()));
    }
    for round in 0..2 {
        for ((_, texts), (client, _)) in polls.iter().zip(&clients) {
            world.feed(*client, texts[round].as_bytes());
            world.settle();
        }
        world.publish("open/x", &format!("{}", 70 + round));
        world.publish("a/x", &format!("{}", 80 + round));
        world.settle();
        for (client, text) in &mut clients {
            text.push_str(&heard(&mut world, *client));
        }
    }
    clients.into_iter().map(|(_, text)| text).collect()
}
