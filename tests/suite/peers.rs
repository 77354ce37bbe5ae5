//! Peers that misbehave, one at a time: that vanish, stall, starve others, pipeline without end, or
//! change the world between two pieces of their answer. Each was a way to lose a slot, a buffer or
//! an answer.

use encke::hub::event::State;
use encke::peers::Settings;

use crate::support::world::{ENDLESS, World, a_proxy, settings};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    World::new(settings)
}

/// What a client has got, as text.
fn heard(world: &mut World, client: usize) -> String {
    let mut text = Vec::new();
    loop {
        let more = world.take(client);
        world.settle();
        if more.is_empty() {
            return String::from_utf8(text).unwrap();
        }
        text.extend(more);
    }
}

#[test]
fn a_peer_that_vanishes_before_its_refusal_gives_its_slot_back_once() {
    let mut world = world(|_| ());
    let client = world.connect().unwrap();
    world.feed(client, b"GET / HT");
    world.vanish(client);
    world.pass(10_000);
    assert!(world.wire(client).closed);
    world.pass(30_000);
    world.check_nothing_leaks();
    let clients: Vec<_> = (0..20).map(|_| world.connect().unwrap()).collect();
    assert_eq!(clients.len(), 20);
}

#[test]
fn peers_that_wait_for_a_buffer_all_get_one() {
    let mut world = world(|s| s.pages = 1);
    let clients: Vec<_> = (0..6).map(|_| world.connect().unwrap()).collect();
    world.feed(clients[0], b"GET /health HT");
    for &client in &clients[1..] {
        world.feed(client, HEALTH);
    }
    world.settle();
    assert!(clients.iter().all(|c| world.wire(*c).outbound.is_empty()));
    // The first two that wait are gone: one before the buffer is free, one in the turn it is.
    world.reset(clients[1]);
    world.feed(clients[0], b"TP/1.1\r\nHost: localhost\r\n\r\n");
    world.reset(clients[2]);
    world.settle();
    for &client in &[&clients[..1], &clients[3..]].concat() {
        assert!(
            heard(&mut world, client).starts_with("HTTP/1.1 200 OK"),
            "{client}"
        );
    }
    world.check_nothing_leaks();
}

#[test]
fn who_waits_for_a_buffer_keeps_its_place() {
    let mut world = world(|s| s.pages = 1);
    let clients: Vec<_> = (0..4).map(|_| world.connect().unwrap()).collect();
    world.feed(clients[0], b"GET /health HT");
    for byte in HEALTH {
        // Each byte is an event, but the peer waits once.
        world.feed(clients[1], &[*byte]);
    }
    world.feed(clients[2], HEALTH);
    world.settle();
    world.feed(clients[0], b"TP/1.1\r\nHost: localhost\r\n\r\n");
    // Another comes in the same turn: it is not served before those who wait.
    world.feed(clients[3], b"GET /health HT");
    world.settle();
    assert!(heard(&mut world, clients[1]).starts_with("HTTP/1.1 200 OK"));
    assert!(heard(&mut world, clients[2]).starts_with("HTTP/1.1 200 OK"));
    world.check_nothing_leaks();
}

/// Connections that come at once are all read before one of them counts as idle.
#[test]
fn one_that_has_just_come_does_not_give_way_to_the_next_of_its_address() {
    let mut world = world(|s| s.policy.per_address = 2);
    let address = "192.168.1.7";
    let clients = [0; 2].map(|_| world.connect_from(address).unwrap());
    let told = world.connect_from(address).unwrap_err();
    assert!(told.ends_with(b"raise per_address in [limits] of the board\n"));
    assert!(world.connect_from("192.168.1.8").is_ok());
    world.feed(clients[1], HEALTH);
    world.settle();
    assert!(heard(&mut world, clients[1]).starts_with("HTTP/1.1 200 OK"));
    world.pass(1);
    let third = world.connect_from(address).unwrap();
    assert!(world.wire(clients[0]).closed && !world.wire(clients[1]).closed);
    world.feed(third, HEALTH);
    world.settle();
    assert!(heard(&mut world, third).starts_with("HTTP/1.1 200 OK"));
    world.check_nothing_leaks();
}

const SLOW_BODY: &[u8] = b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";

#[test]
fn who_waits_for_a_buffer_in_vain_is_told_so() {
    let mut world = world(|s| s.pages = 1);
    // Each has the buffer for a second, and there are more before it than there is time.
    let before: Vec<_> = (0..6).map(|_| world.connect().unwrap()).collect();
    let waiting = world.connect().unwrap();
    for &client in &before {
        world.feed(client, SLOW_BODY);
    }
    world.feed(waiting, HEALTH);
    world.pass(4_999);
    assert!(!world.wire(waiting).finished);
    world.pass(100);
    let text = heard(&mut world, waiting);
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nRetry-After: ") && text.contains("\r\nConnection: close\r\n"));
    assert!(world.wire(waiting).finished);
    world.check_nothing_leaks();
}

/// Whatever has the only buffer, however it goes on, somebody else is answered in time.
#[test]
fn whoever_is_slow_gives_way_to_who_waits() {
    let value = format!("\"{}\"", "x".repeat(7000));
    let poll = |log: &str| {
        let poll = format!("GET /events/poll?since={log}-1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (poll + "GET /hea").into_bytes()
    };
    let topics = b"GET /topics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let shapes = [
        ("a head", b"GET /health HT".to_vec(), 250),
        ("a body", SLOW_BODY.to_vec(), 1_000),
        ("an answer", topics, 1_000),
        ("a poll with more behind it", poll("k3f9q2xa"), 1_000),
    ];
    for (shape, bytes, patience_ms) in shapes {
        let mut world = world(|s| s.pages = 1);
        world.publish("a", &value);
        let (slow, waiting) = (world.connect().unwrap(), world.connect().unwrap());
        world.wire(slow).capacity = 1000;
        world.feed(slow, &bytes);
        world.settle();
        world.pass(patience_ms / 2);
        // It goes on, by a byte.
        match shape {
            "an answer" => assert_eq!(world.take_some(slow, 1).len(), 1),
            _ => world.feed(slow, b"4"),
        }
        world.feed(waiting, HEALTH);
        world.pass(patience_ms / 2 - 1);
        assert!(!world.wire(slow).closed, "{shape}");
        assert_eq!(heard(&mut world, waiting), "", "{shape}");
        world.pass(60);
        assert!(world.wire(slow).closed, "{shape}");
        assert!(
            heard(&mut world, waiting).starts_with("HTTP/1.1 200 OK"),
            "{shape}"
        );
        world.check_nothing_leaks();
    }
}

#[test]
fn one_who_asks_without_end_is_told_to_close_when_others_wait() {
    let mut world = world(|s| s.pages = 1);
    let (endless, waiting) = (world.connect().unwrap(), world.connect().unwrap());
    let ask = |world: &mut World| {
        // Always the beginning of one more.
        world.feed(endless, &[&HEALTH[7..], HEALTH, &HEALTH[..7]].concat());
        world.settle();
    };
    world.feed(endless, &HEALTH[..7]);
    for _ in 0..20 {
        ask(&mut world);
        world.pass(100);
    }
    let text = heard(&mut world, endless);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 40);
    assert!(!text.contains("Connection: close"), "nobody waits");
    world.feed(waiting, HEALTH);
    world.settle();
    ask(&mut world);
    let text = heard(&mut world, endless);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 1, "{text}");
    assert!(text.contains("Connection: close"), "{text}");
    assert!(heard(&mut world, waiting).starts_with("HTTP/1.1 200 OK"));
    world.check_nothing_leaks();
}

#[test]
fn spills_are_shared_between_viewers_that_stall_and_answers() {
    let mut world = world(|s| {
        s.viewers = 300;
        s.pages = 8;
        s.ring_bytes = 1 << 18;
    });
    let value = format!("\"{}\"", "x".repeat(7000));
    for n in 0..16 {
        world.publish(&format!("t/{n}"), &value);
    }
    // Fresh viewers that take nothing: what they are told first has to be kept for them.
    let stalled: Vec<_> = (0..100).map(|_| world.connect().unwrap()).collect();
    for &client in &stalled {
        world.wire(client).capacity = 30;
        world.feed(client, b"GET /events/stream HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    world.settle();
    assert_eq!(world.peers.in_use().spills, 48, "three quarters of 64");
    let closed = |world: &mut World| {
        let wires = stalled
            .iter()
            .filter(|client| world.peers.outlet.wires[**client].closed);
        wires.count()
    };
    assert_eq!(
        closed(&mut world),
        52,
        "no buffer: they resume by their cursor"
    );
    // An answer finds one all the same.
    let reader = world.connect().unwrap();
    world.wire(reader).capacity = 3000;
    world.feed(reader, b"GET /topics HTTP/1.1\r\nHost: pi\r\n\r\n");
    world.settle();
    assert!(heard(&mut world, reader).ends_with("0\r\n\r\n"));
    // Whoever has had one for two seconds gives it up, until half of them are free.
    world.pass(1_999);
    assert_eq!(world.peers.in_use().spills, 48);
    world.pass(1);
    assert_eq!(world.peers.in_use().spills, 31);
    assert_eq!(closed(&mut world), 69);
    world.pass(10_000);
    assert_eq!(world.peers.in_use().spills, 31, "nobody needs them");
    world.check_nothing_leaks();
}

#[test]
fn a_slow_reader_of_a_last_answer_does_not_shelter_others() {
    let mut world = world(|s| s.ring_bytes = 1 << 18);
    let value = format!("\"{}\"", "x".repeat(7000));
    for n in 0..8 {
        world.publish(&format!("t/{n}"), &value);
    }
    let ask = b"GET /topics HTTP/1.0\r\n\r\n";
    let (slow, stuck) = (world.connect().unwrap(), world.connect().unwrap());
    for client in [slow, stuck] {
        world.wire(client).capacity = 1000;
        world.feed(client, ask);
    }
    world.settle();
    for _ in 0..30 {
        world.pass(1000);
        assert!(!world.take_some(slow, 500).is_empty());
    }
    assert!(!world.wire(slow).closed, "it reads all the time");
    assert!(
        world.wire(stuck).closed,
        "it reads nothing, for longer than the 20 s a stall may last"
    );
    world.check_nothing_leaks();
}

#[test]
fn a_stalled_last_answer_has_as_long_as_any_other() {
    let mut world = world(|s| s.ring_bytes = 1 << 18);
    let value = format!("\"{}\"", "x".repeat(7000));
    world.publish("t", &value);
    for request in [
        "GET /topics/t HTTP/1.0\r\n\r\n",
        "GET /topics/t HTTP/1.1\r\nHost: pi\r\n\r\n",
    ] {
        let client = world.connect().unwrap();
        world.wire(client).capacity = 1000;
        world.feed(client, request.as_bytes());
        world.pass(19_000);
        world.wire(client).capacity = ENDLESS;
        assert!(heard(&mut world, client).ends_with("\"}"), "{request}");
    }
    world.check_nothing_leaks();
}

#[test]
fn an_answer_given_up_half_way_is_not_taken_for_a_whole_one() {
    let mut world = world(|s| s.ring_bytes = 1 << 18);
    let value = format!("\"{}\"", "x".repeat(7000));
    for n in 0..20 {
        world.publish(&format!("t/{n}"), &value);
    }
    for (request, room) in [
        // What it does not take waits in a buffer, or is not even rendered.
        ("GET /topics/t/1 HTTP/1.0\r\n\r\n", 1000),
        ("GET /events/poll HTTP/1.0\r\n\r\n", 1000),
        ("GET /events/poll HTTP/1.1\r\nHost: pi\r\n\r\n", 1000),
        ("GET /topics HTTP/1.0\r\n\r\n", 70_000),
        ("GET /events/sse HTTP/1.0\r\n\r\n", 70_000),
    ] {
        let client = world.connect().unwrap();
        world.wire(client).capacity = room;
        world.feed(client, request.as_bytes());
        world.pass(60_000);
        let wire = world.wire(client);
        if wire.closed {
            assert!(wire.aborted, "{request}");
        } else {
            // The kernel gives up on a viewer; it tells the server so.
            world.reset(client);
            assert!(world.wire(client).aborted, "{request}");
        }
    }
    // Who has everything, or nothing, is taken leave of in the ordinary way.
    for request in [
        "GET /topics/t/1 HTTP/1.0\r\n\r\n",
        "GET /topics HTTP/1.0\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: pi\r\n\r\n",
        "GET /health HTT",
        "",
    ] {
        let client = world.connect().unwrap();
        world.feed(client, request.as_bytes());
        world.pass(60_000);
        let wire = world.wire(client);
        assert!(wire.closed && !wire.aborted, "{request}");
    }
    world.check_nothing_leaks();
}

#[test]
fn a_slow_reader_of_a_polls_answer_gets_it_all() {
    let mut world = world(|_| ());
    let id = world.peers.hub.log_name().to_string() + "-0";
    let text = format!("GET /events/poll?since={id} HTTP/1.1\r\nHost: pi\r\n\r\n");
    // With the beginning of another request behind it, and without.
    let clients = [world.connect().unwrap(), world.connect().unwrap()];
    world.feed(clients[0], (text.clone() + "GET /hea").as_bytes());
    world.feed(clients[1], text.as_bytes());
    for client in clients {
        world.wire(client).capacity = 100;
    }
    world.pass(20_000);
    world.publish("a", &format!("\"{}\"", "x".repeat(7000)));
    world.settle();
    let mut got = [Vec::new(), Vec::new()];
    for _ in 0..80 {
        world.pass(1000);
        for n in 0..2 {
            got[n].extend(world.take_some(clients[n], 100));
        }
    }
    for bytes in &got {
        let text = String::from_utf8_lossy(bytes);
        let bytes = text.len();
        assert!(text.ends_with("\"last\":\"k3f9q2xa-1\"}"), "{bytes} bytes");
    }
    world.feed(clients[0], b"lth HTTP/1.1\r\nHost: pi\r\n\r\n");
    world.wire(clients[0]).capacity = ENDLESS;
    world.settle();
    assert!(heard(&mut world, clients[0]).starts_with("HTTP/1.1 200 OK"));
    world.check_nothing_leaks();
}

#[test]
fn an_answer_that_stalls_behind_a_slow_body_is_given_up_in_time() {
    let mut world = world(|s| s.ring_bytes = 1 << 18);
    let client = world.connect().unwrap();
    world.wire(client).capacity = 10;
    world.feed(
        client,
        b"POST /topics/a HTTP/1.1\r\nHost: pi\r\nHost: localhost\r\n\r\n",
    );
    world.settle();
    let client = world.connect().unwrap();
    world.wire(client).capacity = 10;
    world.feed(
        client,
        b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n4",
    );
    world.pass(15_000);
    world.feed(client, b"2");
    world.pass(19_000);
    assert!(!world.wire(client).closed);
    world.pass(1_100);
    assert!(world.wire(client).closed, "20 s without progress");
    world.check_nothing_leaks();
}

#[test]
fn one_who_pipelines_without_end_lets_others_have_their_turn() {
    let mut world = world(|_| ());
    let client = world.connect().unwrap();
    world.feed(client, &HEALTH.repeat(20_000));
    let first = world.peers.counters.requests;
    assert!(first <= 64, "{first} requests of one peer in one turn");
    world.turn();
    assert!(world.peers.counters.requests - first <= 64);
    world.settle();
    assert_eq!(world.peers.counters.requests, 20_000);
    assert_eq!(
        heard(&mut world, client).matches("HTTP/1.1 200 OK").count(),
        20_000
    );
    world.check_nothing_leaks();
}

#[test]
fn a_list_in_pieces_stays_json_whatever_happens_between_them() {
    let value = format!("\"{}\"", "x".repeat(7000));
    for revive in [false, true] {
        let mut world = world(|s| s.ring_bytes = 1 << 18);
        for n in 0..20 {
            world.publish(&format!("t/{n}"), &value);
        }
        if revive {
            // Only slots behind the first buffer's worth are listed.
            for n in 0..9 {
                world.publish_as(&format!("t/{n}"), "1", State::Gone);
            }
        }
        let client = world.connect().unwrap();
        world.wire(client).gulp = 5000;
        world.feed(client, b"GET /topics HTTP/1.0\r\n\r\n");
        world.turn();
        let state = if revive { State::Ok } else { State::Gone };
        let range = if revive { 0..9 } else { 0..12 };
        for n in range {
            world.publish_as(&format!("t/{n}"), "1", state);
        }
        let text = heard(&mut world, client);
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let list: serde_json::Value = serde_json::from_str(body).expect("the list is JSON");
        assert!(list["topics"].as_array().unwrap().len() >= 11);
        world.check_nothing_leaks();
    }
}

#[test]
fn a_listing_whose_rest_vanishes_still_ends() {
    // Somewhere in this range the first buffer ends right before the last sample.
    for pad in 0..220 {
        let mut world = world(|s| {
            s.topics = 400;
            s.ring_bytes = 1 << 18;
        });
        let pad = format!("{}/{}", "p".repeat(1 + pad % 32), "q".repeat(1 + pad / 32));
        world.publish(&pad, "1");
        for n in 0..340 {
            world.publish(&format!("{}{n:03}", "n".repeat(17)), "1");
        }
        let client = world.connect().unwrap();
        world.wire(client).gulp = 30_000;
        world.feed(client, b"GET /metrics HTTP/1.1\r\nHost: pi\r\n\r\n");
        world.turn();
        for n in 0..340 {
            world.publish_as(&format!("{}{n:03}", "n".repeat(17)), "1", State::Gone);
        }
        let text = heard(&mut world, client);
        let whole = text.ends_with("\r\n0\r\n\r\n") || !text.contains("chunked");
        assert!(whole, "{pad}: {:?}", &text[text.len() - 60..]);
        world.check_nothing_leaks();
    }
}

#[test]
fn when_all_is_taken_the_one_that_matters_least_goes() {
    let mut world = world(|s| {
        s.viewers = 1;
        s.pages = 2;
    });
    let viewer = world.connect().unwrap();
    world.feed(viewer, b"GET /events/sse HTTP/1.1\r\nHost: pi\r\n\r\n");
    let (head, idle) = (world.connect().unwrap(), world.connect().unwrap());
    world.feed(head, b"GET / HT");
    world.settle();
    // The idle one, then the one with half a head, then nobody: the others are being answered.
    let third = world.connect().expect("an idle peer goes");
    assert!(world.wire(idle).closed && !world.wire(head).closed);
    world.feed(
        third,
        b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    );
    let fourth = world.connect().expect("one without a head goes");
    assert!(world.wire(head).closed && !world.wire(third).closed);
    world.wire(fourth).capacity = 10;
    world.feed(fourth, HEALTH);
    world.settle();
    assert!(
        world.connect().is_none(),
        "never one that is being answered, never a viewer"
    );
    assert!(
        [viewer, third, fourth]
            .iter()
            .all(|c| !world.wire(*c).closed)
    );
    world.check_nothing_leaks();
}

#[test]
fn a_polls_answer_on_its_way_is_not_evicted() {
    let mut world = world(|s| {
        s.viewers = 1;
        s.pages = 1;
    });
    let id = world.peers.hub.log_name().to_string() + "-0";
    let poll = world.connect().unwrap();
    world.wire(poll).capacity = 10;
    let text = format!("GET /events/poll?since={id} HTTP/1.1\r\nHost: pi\r\n\r\nGET /hea");
    world.feed(poll, text.as_bytes());
    world.settle();
    world.publish("a", "1");
    world.settle();
    let other = world.connect().unwrap();
    world.feed(other, HEALTH);
    world.settle();
    // It waits for the buffer that the poll's next request is in.
    assert!(world.connect().is_some());
    assert!(!world.wire(poll).closed && world.wire(other).closed);
    world.check_nothing_leaks();
}

#[test]
fn peers_that_only_linger_make_room() {
    let mut world = world(|s| {
        s.viewers = 1;
        s.pages = 2;
    });
    for _ in 0..9 {
        let client = world.connect().expect("those that linger make room");
        world.feed(client, b"GET /health HTTP/1.0\r\n\r\n");
        world.settle();
        assert!(world.wire(client).finished);
    }
    world.check_nothing_leaks();
}

#[test]
fn without_a_spill_a_blocked_answer_is_given_up_and_a_viewer_goes_on() {
    let mut world = world(|s| {
        s.viewers = 300;
        s.pages = 8;
    });
    let mut clients = Vec::new();
    for _ in 0..300 {
        let client = world.connect().unwrap();
        world.feed(client, b"GET /events/stream HTTP/1.1\r\nHost: pi\r\n\r\n");
        world.settle();
        world.take(client);
        world.wire(client).capacity = 30;
        clients.push(client);
    }
    world.publish("a", "\"something longer than thirty bytes\"");
    world.publish("a", "2");
    world.settle();
    assert_eq!(
        world.peers.in_use().spills,
        32,
        "half of those for so few viewers: the others are for who cannot do without"
    );
    world.publish("a", "3");
    world.settle();
    // Those without a spill have their frame rendered again: it is still in the ring.
    for &client in &clients {
        world.wire(client).capacity = ENDLESS;
        let text = heard(&mut world, client);
        assert_eq!(text.matches("\"id\"").count(), 3, "{text}");
        assert!(text.ends_with("\"value\":3}\n\r\n"), "{text}");
    }
    assert_eq!(world.peers.in_use().spills, 0);
    world.check_nothing_leaks();
}

#[test]
fn a_half_closed_poll_that_reads_nothing_is_closed() {
    let mut world = world(|_| ());
    let id = world.peers.hub.log_name().to_string() + "-0";
    let client = world.connect().unwrap();
    let text = format!("GET /events/poll?since={id} HTTP/1.1\r\nHost: pi\r\n\r\n");
    world.feed(client, text.as_bytes());
    world.wire(client).capacity = 5;
    world.half_close(client);
    world.settle();
    world.publish("a", "1");
    world.settle();
    world.check_nothing_leaks();
}

#[test]
fn a_fresh_viewer_that_takes_nothing_gets_no_more_at_once_than_can_be_kept_for_it() {
    let mut world = world(|s| s.ring_bytes = 1 << 18);
    let value = format!("\"{}\"", "x".repeat(7900));
    for n in 0..16 {
        world.publish(&format!("t/{n}"), &value);
    }
    for path in ["sse", "stream", "sse?since=k3f9q2xa-1", "stream?interval=1"] {
        let client = world.connect().unwrap();
        world.wire(client).capacity = 20;
        let text = format!("GET /events/{path} HTTP/1.1\r\nHost: pi\r\n\r\n");
        world.feed(client, text.as_bytes());
        world.settle();
        world.wire(client).capacity = ENDLESS;
        let text = heard(&mut world, client);
        let wanted = if path.contains("since") { 15 } else { 16 };
        assert_eq!(text.matches("\"topic\"").count(), wanted, "{path}");
    }
    world.check_nothing_leaks();
}

#[test]
fn who_waits_for_a_buffer_when_all_ends_is_told_so() {
    let mut world = world(|s| s.pages = 1);
    let (busy, waiting) = (world.connect().unwrap(), world.connect().unwrap());
    world.feed(busy, b"GET /health HT");
    world.feed(waiting, HEALTH);
    world.settle();
    world.peers.drain();
    world.settle();
    let text = heard(&mut world, waiting);
    assert!(text.starts_with("HTTP/1.1 503 "), "{text:?}");
    assert!(world.wire(waiting).finished);
    world.check_nothing_leaks();
}

#[test]
fn draining_ends_everybody_whatever_they_do() {
    let mut world = world(|s| s.ring_bytes = 1 << 18);
    world.publish("long", &format!("\"{}\"", "x".repeat(7000)));
    let requests: &[&[u8]] = &[
        b"",
        b"GET / HT",
        b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n12",
        b"GET /events/sse HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"GET /events/stream?interval=5 HTTP/1.0\r\n\r\n",
        b"GET /events/poll?since=k3f9q2xa-1 HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"GET /topics/long HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: pi\r\n\r\n",
    ];
    for stalls in [false, true] {
        for request in requests {
            let client = world.connect().unwrap();
            if stalls {
                world.wire(client).capacity = 50;
            }
            world.feed(client, request);
            world.settle();
        }
    }
    world.peers.drain();
    world.settle();
    // The longest: a body's minute, then a stalled refusal.
    world.pass(60_000 + 20_100);
    for client in 0..world.peers.outlet.wires.len() {
        assert!(world.wire(client).finished, "{client} is told nothing");
    }
    assert!(world.peers.is_empty());
    world.check_nothing_leaks();
}

#[test]
fn a_connection_that_a_proxy_keeps_is_nobodys_while_it_is_idle() {
    let mut world = world(|s| {
        s.policy.proxies = a_proxy();
        s.policy.per_address = 1;
    });
    let clients = [0, 1, 2].map(|_| world.connect().unwrap());
    let mut ask = |n: usize, path: &str, fields: &str| {
        world.wire(clients[n]).address = [192, 0, 2, 1].into();
        let text = format!("GET {path} HTTP/1.1\r\nHost: pi\r\n{fields}\r\n");
        world.feed(clients[n], text.as_bytes());
        world.settle();
        heard(&mut world, clients[n])[9..12].to_owned()
    };
    let (one, other) = (
        "X-Forwarded-For: 192.168.1.1\r\n",
        "X-Forwarded-For: 192.168.1.2\r\n",
    );
    for n in [0, 1, 2, 0] {
        assert_eq!(ask(n, "/health", one), "200", "{n}");
    }
    assert_eq!(ask(0, "/events/sse", one), "200");
    assert_eq!(ask(1, "/health", one), "503", "one asks by another already");
    assert_eq!(ask(1, "/events/sse", other), "200");
    // Whom nobody can name are one together.
    let unclear = format!("{one}Forwarded: for=192.168.1.9\r\n");
    assert_eq!(ask(2, "/health", &unclear), "200");
    world.check_nothing_leaks();
}
