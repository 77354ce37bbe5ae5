//! WebSockets where transcripts do not reach: limits, who does not read, buffers that are short,
//! and any order of messages through a socket that stalls.

use encke::peers::Settings;
use encke::wire::websocket::{Kind, Opcode, put_frame};
use proptest::prelude::*;

use crate::support::world::{ENDLESS, World, settings};

const TEXT: Opcode = Opcode::Message(Kind::Text);
const MESSAGE_MAX: usize = 64 * 1024;

/// A frame as a client sends it; with a mask that changes nothing.
fn frame(opcode: Opcode, is_last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; payload.len() + 10];
    let mut out = encke::buffer::Writer::new(&mut bytes);
    put_frame(opcode, payload, &mut out).unwrap();
    let header = out.len() - payload.len();
    let mut frame = bytes[..header].to_vec();
    frame[0] ^= u8::from(!is_last) << 7;
    frame[1] |= 0x80;
    [&frame, &[0; 4][..], payload].concat()
}

fn text(text: &str) -> Vec<u8> {
    frame(TEXT, true, text.as_bytes())
}

fn publish(value: usize) -> Vec<u8> {
    text(&format!(
        r#"{{"publish":{{"topic":"said","value":{value}}},"ref":{value}}}"#
    ))
}

/// The frames that `bytes` are: first bytes and payloads; they must be whole.
fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while let [first, short, rest @ ..] = bytes {
        let (len, rest) = match *short {
            126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            short => (usize::from(short), rest),
        };
        assert!(len < 126 || *short == 126, "the shortest form");
        frames.push((*first, String::from_utf8_lossy(&rest[..len]).into_owned()));
        bytes = &rest[len..];
    }
    frames
}

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    World::new(settings)
}

/// An open WebSocket; what came up to its hello is taken.
fn open(world: &mut World, query: &str) -> usize {
    let client = world.connect().unwrap();
    let request = format!(
        "GET /events/ws{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    );
    world.feed(client, request.as_bytes());
    world.settle();
    let head = String::from_utf8_lossy(&world.take(client)).into_owned();
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("\"hello\""),
        "{head}"
    );
    client
}

fn heard(world: &mut World, client: usize) -> Vec<(u8, String)> {
    world.settle();
    frames(&world.take(client))
}

#[test]
fn messages_below_at_and_above_their_limit() {
    let mut world = world(|_| ());
    for (bytes, is_taken) in [
        (MESSAGE_MAX - 1, true),
        (MESSAGE_MAX, true),
        (MESSAGE_MAX + 1, false),
    ] {
        let client = open(&mut world, "?topics=x");
        let said = r#"{"publish":{"topic":"a","value":1}}"#;
        let message = text(&format!("{said}{}", " ".repeat(bytes - said.len())));
        for piece in message.chunks(1448) {
            world.feed(client, piece);
        }
        let answer = heard(&mut world, client);
        match is_taken {
            true => assert!(answer[0].1.starts_with("{\"ack\":"), "{answer:?}"),
            false => assert_eq!(answer[0].0, 0x88),
        }
        assert_eq!(world.peers.in_use().exchanges, 0);
    }
    world.check_nothing_leaks();
}

/// What a client says waits in its own socket while it does not read.
#[test]
fn who_does_not_read_is_not_heard() {
    let mut world = world(|_| ());
    let client = open(&mut world, "?topics=a");
    world.wire(client).capacity = 100;
    world.publish("a", &format!("\"{}\"", "x".repeat(500)));
    world.settle();
    let before = world.peers.hub.head();
    for value in 0..1000 {
        world.feed(client, &publish(value));
    }
    world.settle();
    assert_eq!(
        (world.peers.hub.head(), world.peers.in_use().exchanges),
        (before, 0)
    );
    world.wire(client).capacity = ENDLESS;
    let mut all = Vec::new();
    loop {
        world.settle();
        let more = world.take(client);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    let answers = frames(&all);
    assert_eq!(
        answers.len(),
        1001,
        "one event, and all that was said is answered"
    );
    assert_eq!(world.peers.hub.head(), before + 1000);
    world.check_nothing_leaks();
}

/// Whoever says much at once does not keep others from being heard.
#[test]
fn who_says_much_takes_turns() {
    let mut world = world(|_| ());
    let (loud, quiet) = (open(&mut world, "?topics=x"), open(&mut world, "?topics=x"));
    let many: Vec<u8> = (0..500).flat_map(publish).collect();
    world.feed(loud, &many);
    world.feed(quiet, &publish(7));
    world.turn();
    let answers = frames(&world.take(loud)).len();
    assert!((1..100).contains(&answers), "{answers}");
    assert_eq!(heard(&mut world, quiet).len(), 1);
    assert_eq!(frames(&world.take(loud)).len(), 500 - answers);
    world.check_nothing_leaks();
}

/// Half a message keeps one of the buffers for requests, until others wait for it.
#[test]
fn who_is_in_the_middle_of_a_message_gives_way_to_who_asks() {
    let mut world = world(|settings| settings.pages = 2);
    let clients: Vec<_> = (0..2).map(|_| open(&mut world, "")).collect();
    for client in &clients {
        world.feed(*client, &publish(1)[..20]);
    }
    world.settle();
    assert_eq!(world.peers.in_use().exchanges, 2);
    // A third half finds no buffer: it is told to come again.
    let third = open_when_full(&mut world);
    assert!(!world.wire(third).closed);
    world.pass(1_100);
    assert!(String::from_utf8_lossy(&world.take(third)).contains("200 OK"));
    let gone = clients
        .iter()
        .filter(|client| world.peers.outlet.wires[**client].closed);
    assert_eq!(gone.count(), 1);
    world.check_nothing_leaks();
}

/// Somebody who asks for a page, and has to wait for a buffer.
fn open_when_full(world: &mut World) -> usize {
    let client = world.connect().unwrap();
    world.feed(client, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.settle();
    client
}

#[test]
fn half_a_message_for_which_there_is_no_buffer() {
    let mut world = world(|settings| settings.pages = 1);
    let client = open(&mut world, "");
    let slow = world.connect().unwrap();
    world.feed(slow, b"GET / HT");
    world.settle();
    // Whole ones need none.
    world.feed(client, &publish(1));
    assert_eq!(heard(&mut world, client).len(), 2);
    world.feed(client, &publish(2)[..20]);
    let said = heard(&mut world, client);
    assert_eq!((said.len(), said[0].0), (1, 0x88));
    assert!(said[0].1.as_bytes().starts_with(b"\x03\xf5") || said[0].1.contains("no buffer"));
    world.check_nothing_leaks();
}

#[derive(Clone, Debug)]
enum Step {
    Say(Vec<u8>, bool),
    Publish(u16),
    Room(usize),
    Take,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let say = |message: &'static str| Just(Step::Say(text(message), true));
    prop_oneof![
        (0usize..99).prop_map(|value| Step::Say(publish(value), true)),
        say(r#"{"subscribe":["a","said"]}"#),
        say(r##"{"subscribe":["#"],"snapshot":false}"##),
        say(r#"{"unsubscribe":["a"]}"#),
        say(r#"{"unsubscribe":["b"]}"#),
        say("nonsense"),
        Just(Step::Say(frame(Opcode::Ping, true, b"?"), false)),
        (0u16..2000).prop_map(Step::Publish),
        (0usize..400).prop_map(Step::Room),
        Just(Step::Take),
        (1u64..20_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// However it is cut and stalled: whole frames, each message answered once, ids that rise
    /// between two hellos, and nothing left behind.
    #[test]
    fn any_order_of_messages(
        steps in prop::collection::vec(step(), 1..60),
        piece in 1usize..80,
        interval: bool,
    ) {
        let mut world = world(|settings| settings.heartbeat_ms = 5_000);
        let query = if interval { "?interval=1" } else { "" };
        let client = open(&mut world, query);
        let (mut said, mut pinged, mut got) = (0, 0, Vec::new());
        for step in &steps {
            match step {
                Step::Say(bytes, is_message) => {
                    for piece in bytes.chunks(piece) {
                        world.feed(client, piece);
                    }
                    (said, pinged) = (said + usize::from(*is_message), pinged + usize::from(!is_message));
                }
                Step::Publish(bytes) => {
                    let topic = ["a", "b"][usize::from(bytes % 2)];
                    world.publish(topic, &format!("\"{}\"", "x".repeat((*bytes).into())));
                }
                Step::Room(bytes) => world.wire(client).capacity = *bytes,
                Step::Take => got.extend(world.take(client)),
                Step::Pass(ms) => world.pass(*ms),
            }
            world.settle();
        }
        if world.wire(client).closed {
            return Ok(());
        }
        world.wire(client).capacity = ENDLESS;
        loop {
            let more = world.take(client);
            world.settle();
            if more.is_empty() && world.wire(client).outbound.is_empty() {
                break;
            }
            got.extend(more);
        }
        let frames = frames(&got);
        if frames.last().is_none_or(|(first, _)| *first != 0x88) {
            let of = |first: u8| frames.iter().filter(move |frame| frame.0 == first);
            let answers = of(0x81).filter(|(_, text)| text.starts_with("{\"ack\"") || text.starts_with("{\"error\""));
            prop_assert_eq!(answers.count(), said);
            prop_assert_eq!(of(0x8a).count(), pinged);
            let mut last = 0;
            for (_, text) in of(0x81) {
                let id = || text.split("\"id\":\"k3f9q2xa-").nth(1)?.split('"').next()?.parse::<u64>().ok();
                if text.starts_with("{\"hello\"") {
                    last = id().unwrap();
                } else if text.starts_with("{\"id\"") {
                    prop_assert!(id().unwrap() > last, "{} behind {}", text, last);
                    last = id().unwrap();
                }
            }
        }
        world.check_nothing_leaks();
    }
}
