//! Presence: topics that say how many subscribers others have. Who comes and goes is counted once,
//! at most once a second, for those who may know; and counting makes nothing to count.

use encke::access::Policy;
use encke::peers::Settings;

use crate::support::world::{World, settings, token};

const NONE: [u32; 0] = [];
const ROOM: &str = "encke/presence/room/a";

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    World::new(settings)
}

/// What was published is noticed, and time passes.
fn pass(world: &mut World, ms: u64) {
    world.settle();
    world.pass(ms);
}

fn get(world: &mut World, target: &str, secret: &str) -> usize {
    let shown = match secret {
        "" => String::new(),
        secret => format!("Authorization: Bearer {secret}\r\n"),
    };
    let client = world.connect().unwrap();
    send(
        world,
        client,
        &format!("GET {target} HTTP/1.1\r\nHost: pi\r\n{shown}\r\n"),
    );
    client
}

fn send(world: &mut World, client: usize, request: &str) {
    world.feed(client, request.as_bytes());
    world.settle();
}

fn heard(world: &mut World, client: usize) -> String {
    let bytes = world.take(client);
    world.settle();
    String::from_utf8(bytes).unwrap()
}

fn stream(world: &mut World, topics: &str) -> usize {
    get(world, &format!("/events/stream?topics={topics}"), "")
}

/// The number last published, `None` while there is no such topic.
fn number(world: &World, topic: &str) -> Option<u32> {
    let hub = &world.peers.hub;
    let event = hub.last(hub.find(topic)?)?;
    core::str::from_utf8(event.value()).unwrap().parse().ok()
}

/// The numbers of a topic that a client has got since it was asked last.
fn numbers(world: &mut World, client: usize, topic: &str) -> Vec<u32> {
    let text = heard(world, client);
    let mark = format!("\"topic\":\"{topic}\",");
    let events = text.split(&mark).skip(1);
    let values = events.map(|event| event.split_once("\"value\":").unwrap().1);
    values
        .map(|value| value.split_once('}').unwrap().0.parse().unwrap())
        .collect()
}

#[test]
fn two_see_each_other_come_and_go() {
    let mut world = world(|_| ());
    world.publish("room/a", "1");
    world.settle();
    assert!(
        world.peers.wake_ms() > 0,
        "a timer that is set to 0 never rings"
    );
    pass(&mut world, 20);
    assert_eq!(number(&world, ROOM), Some(0));
    pass(&mut world, 5_000);
    let first = stream(&mut world, "room/%23,encke/presence/room/%23");
    assert_eq!(numbers(&mut world, first, ROOM), [0, 1], "at once");
    pass(&mut world, 400);
    let second = stream(&mut world, "room/%23,encke/presence/room/%23");
    assert_eq!(numbers(&mut world, second, ROOM), [1]);
    pass(&mut world, 600);
    for client in [first, second] {
        assert_eq!(numbers(&mut world, client, ROOM), [2]);
    }
    pass(&mut world, 3_000);
    world.reset(first);
    world.settle();
    assert_eq!(numbers(&mut world, second, ROOM), [1]);
    world.reset(second);
    pass(&mut world, 1_000);
    assert_eq!(number(&world, ROOM), Some(0));
}

#[test]
fn many_changes_are_said_once_a_second() {
    let mut world = world(|_| ());
    world.publish("room/a", "1");
    pass(&mut world, 5_000);
    let witness = stream(&mut world, "encke/presence/%23");
    pass(&mut world, 5_000);
    assert_eq!(numbers(&mut world, witness, ROOM), [0], "it is in no room");
    let mut come = Vec::new();
    for _ in 0..9 {
        come.push(stream(&mut world, "room/a"));
        pass(&mut world, 100);
    }
    assert_eq!(numbers(&mut world, witness, ROOM), [1]);
    pass(&mut world, 100);
    assert_eq!(numbers(&mut world, witness, ROOM), [9]);
    // Who comes and goes between two counts was never there.
    for _ in 0..5 {
        let client = stream(&mut world, "room/a");
        pass(&mut world, 100);
        world.reset(client);
    }
    pass(&mut world, 5_000);
    assert_eq!(numbers(&mut world, witness, ROOM), NONE);
    for client in come {
        world.reset(client);
    }
    pass(&mut world, 1_000);
    assert_eq!(numbers(&mut world, witness, ROOM), [0]);
}

#[test]
fn nothing_is_counted_while_nothing_changes() {
    let mut world = world(|s| {
        s.presence = vec!["#".into()];
        s.heartbeat_ms = 30_000;
    });
    for topic in ["room/a", "b", "encke/status"] {
        world.publish(topic, "1");
    }
    let everything = stream(&mut world, "%23");
    pass(&mut world, 2_000);
    // The presence of a reserved topic, too; of presence topics, none.
    assert_eq!(
        numbers(&mut world, everything, "encke/presence/encke/status"),
        [1]
    );
    assert_eq!(world.peers.hub.topics.len(), 6);
    let (head, events) = (world.peers.hub.head(), world.peers.counters.deliveries);
    for _ in 0..10 {
        let client = world.connect().unwrap();
        poll(&mut world, client, "room/a,b,encke/status");
        pass(&mut world, 1_000);
        world.reset(client);
        pass(&mut world, 3_000);
    }
    // Each time one more, and one less.
    assert_eq!(world.peers.hub.head(), head + 10 * 2 * 3);
    assert_eq!(world.peers.counters.deliveries, events + 10 * 2 * 3);
    let head = world.peers.hub.head();
    assert!(
        world.peers.wake_ms() > world.now_ms + 10_000,
        "nobody wakes up to count"
    );
    pass(&mut world, 3_600_000);
    assert_eq!(world.peers.hub.head(), head);
}

/// A held poll, whose client has all there is.
fn poll(world: &mut World, client: usize, topics: &str) {
    let head = world.peers.hub.head();
    let target = format!("/events/poll?topics={topics}&since=k3f9q2xa-{head}&timeout=60");
    send(
        world,
        client,
        &format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n"),
    );
    assert_eq!(heard(world, client), "", "the poll is held");
}

#[test]
fn polls_that_come_back_were_never_away() {
    for rest_ms in [1, 300, 999] {
        let mut world = world(|_| ());
        world.publish("room/a", "0");
        let witness = stream(&mut world, "encke/presence/%23");
        let polls: Vec<_> = (0..3).map(|_| world.connect().unwrap()).collect();
        for &client in &polls {
            poll(&mut world, client, "room/%23");
        }
        pass(&mut world, 3_000);
        assert_eq!(numbers(&mut world, witness, ROOM), [0, 3]);
        for message in 1..50 {
            world.publish("room/a", &message.to_string());
            world.settle();
            for &client in &polls {
                assert!(heard(&mut world, client).contains("\"events\":[{"));
            }
            pass(&mut world, rest_ms);
            for &client in &polls {
                poll(&mut world, client, "room/%23");
            }
            pass(&mut world, 137);
        }
        assert_eq!(numbers(&mut world, witness, ROOM), NONE, "{rest_ms}");
        // One stays away: that is said within two seconds of its answer, not before one.
        world.publish("room/a", "99");
        world.settle();
        for &client in &polls[1..] {
            heard(&mut world, client);
            poll(&mut world, client, "room/%23");
        }
        pass(&mut world, 999);
        assert_eq!(numbers(&mut world, witness, ROOM), NONE, "{rest_ms}");
        pass(&mut world, 1_001);
        assert_eq!(numbers(&mut world, witness, ROOM), [2], "{rest_ms}");
        // A poll whose connection ends counts as long.
        world.reset(polls[1]);
        pass(&mut world, 2_000);
        assert_eq!(numbers(&mut world, witness, ROOM), [1], "{rest_ms}");
    }
}

/// Who polls for presence is answered by it, and leaves for that: not a change.
#[test]
fn polls_for_presence_do_not_go_round_in_circles() {
    let mut world = world(|_| ());
    world.publish("room/a", "0");
    pass(&mut world, 2_000);
    let topics = "room/%23,encke/presence/%23";
    let clients: Vec<_> = (0..2).map(|_| world.connect().unwrap()).collect();
    for &client in &clients {
        poll_on(&mut world, client, topics);
    }
    for _ in 0..20 {
        pass(&mut world, 250);
        for &client in &clients {
            if !heard(&mut world, client).is_empty() {
                poll_on(&mut world, client, topics);
            }
        }
    }
    assert_eq!(number(&world, ROOM), Some(2));
    let head = world.peers.hub.head();
    assert!(head <= 4, "{head}: room, 0, 1, 2");
}

/// A poll that may be answered at once.
fn poll_on(world: &mut World, client: usize, topics: &str) {
    let head = world.peers.hub.head();
    let target = format!("/events/poll?topics={topics}&since=k3f9q2xa-{head}&timeout=60");
    send(
        world,
        client,
        &format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n"),
    );
}

#[test]
fn audiences_that_wait_for_their_polls_give_way() {
    let mut world = world(|s| s.viewers = 3);
    world.publish("a", "0");
    for turn in 0..5 {
        // Each leaves an audience behind.
        for name in ["a", "b", "c"] {
            let client = world.connect().unwrap();
            poll(&mut world, client, &format!("{name},{name}{turn}"));
            world.reset(client);
        }
        let held = world.connect().unwrap();
        poll(&mut world, held, "a,c");
        let streams: Vec<_> = ["a,x", "a,y"].map(|t| stream(&mut world, t)).into();
        for &client in &streams {
            assert!(heard(&mut world, client).contains("\"hello\""));
        }
        // It is held again, in its own audience and not in the one that has its place.
        world.publish("a", "1");
        world.settle();
        assert!(heard(&mut world, held).contains("\"value\":1}"));
        poll(&mut world, held, "a,c");
        world.publish("a", "2");
        world.settle();
        assert!(heard(&mut world, held).contains("\"value\":2}"));
        for client in streams.into_iter().chain([held]) {
            world.reset(client);
        }
        world.settle();
        assert_eq!(world.peers.hub.audiences.len(), 0);
    }
    pass(&mut world, 2_000);
    let freed = (0..world.peers.hub.audiences.end())
        .filter(|index| world.peers.hub.audiences.is_used(*index));
    assert_eq!(freed.count(), 0, "they wait two seconds");
}

#[test]
fn who_may_read_a_topic_may_know_who_is_there() {
    let mut world = world(|s| {
        s.policy.read = vec!["room/open".into()];
        s.policy.tokens = vec![
            token("in", "s1", "room/#", "#"),
            token("pr", "s2", "encke/#", "encke/#"),
            token("all", "s3", "#", ""),
            token("one", "s4", "encke/presence/room/a", ""),
        ];
    });
    world.publish("room/a", "1");
    world.publish("room/open", "1");
    pass(&mut world, 2_000);
    let topic = "/topics/encke/presence/room/a";
    let open = "/topics/encke/presence/room/open";
    for (secret, sees_room, sees_open) in [
        ("", false, true),
        ("s1", true, true),
        ("s2", false, false),
        ("s3", true, true),
        ("s4", false, false),
    ] {
        for (target, sees) in [(topic, sees_room), (open, sees_open)] {
            let client = get(&mut world, target, secret);
            let text = heard(&mut world, client);
            assert_eq!(
                text.starts_with("HTTP/1.1 200"),
                sees,
                "{secret} {target} {text}"
            );
        }
        for target in [
            "/topics",
            "/events/stream",
            "/events/poll",
            "/events/sse",
            "/?plain",
        ] {
            let client = get(&mut world, target, secret);
            let text = heard(&mut world, client);
            let has = |name: &str| text.contains(name);
            assert_eq!(has(ROOM), sees_room, "{secret} {target} {text}");
            let name = "encke/presence/room/open";
            assert_eq!(has(name), sees_open, "{secret} {target} {text}");
            world.reset(client);
        }
    }
}

#[test]
fn nobody_writes_a_presence_topic() {
    let mut world = world(|s| {
        s.policy.tokens = vec![token("all", "s1", "#", "#")];
    });
    world.publish("room/a", "1");
    pass(&mut world, 1_000);
    for secret in ["", "Authorization: Bearer s1\r\n"] {
        for request in [
            format!("POST /topics/{ROOM}"),
            format!("DELETE /topics/{ROOM}"),
            "PUT /topics/encke/presence/other".to_owned(),
            "POST /topics".to_owned(),
        ] {
            let body = "[{\"topic\":\"encke/presence/room/a\",\"value\":9}]";
            let answer = world.ask(&format!(
                "{request} HTTP/1.1\r\nHost: localhost\r\n{secret}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            assert!(answer.starts_with("HTTP/1.1 403"), "{request} {answer}");
            assert!(
                answer.contains("encke/presence count subscribers"),
                "{answer}"
            );
        }
    }
    assert_eq!(number(&world, ROOM), Some(0));
}

fn forget(world: &mut World, topic: &str) {
    let request = format!("DELETE /topics/{topic} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(world.ask(&request).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_topic_that_is_forgotten_takes_its_presence_along() {
    let mut world = world(|_| ());
    world.publish("room/a", "1");
    world.publish("room/b", "1");
    let viewer = stream(&mut world, "%23");
    pass(&mut world, 3_000);
    assert_eq!(number(&world, ROOM), Some(1));
    forget(&mut world, "room/a");
    pass(&mut world, 20);
    let text = heard(&mut world, viewer);
    assert!(text.contains("\"topic\":\"encke/presence/room/a\",") && text.contains("gone"));
    assert_eq!(number(&world, ROOM), None);
    assert_eq!(number(&world, "encke/presence/room/b"), Some(1));
    // It comes back with its topic, though the number is the same.
    world.publish("room/a", "2");
    pass(&mut world, 1_000);
    assert_eq!(number(&world, ROOM), Some(1));
    // Forgotten and back between two counts: it was never away.
    forget(&mut world, "room/a");
    world.publish("room/a", "3");
    pass(&mut world, 1_000);
    assert_eq!(number(&world, ROOM), Some(1));
    // Forgotten, and driven out of the ring before anybody looks.
    pass(&mut world, 1_000);
    forget(&mut world, "room/a");
    for value in 0..2_000 {
        world.publish("busy", &value.to_string());
    }
    assert!(world.peers.hub.topics.find("room/a").is_none());
    pass(&mut world, 1_000);
    assert_eq!(number(&world, ROOM), None);
    // Another topic in its place is counted anew.
    world.publish("room/c", "1");
    pass(&mut world, 1_000);
    assert_eq!(number(&world, "encke/presence/room/c"), Some(1));
}

#[test]
fn a_full_table_leaves_presence_out_and_nothing_else() {
    let mut world = world(|s| s.topics = 4);
    for topic in ["room/a", "b", "c"] {
        world.publish(topic, "1");
    }
    pass(&mut world, 1_000);
    assert!(!world.peers.hub.presence.is_left_out());
    assert_eq!(number(&world, ROOM), Some(0));
    let post = |topic: &str| {
        format!("POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1")
    };
    assert!(world.ask(&post("room/d")).starts_with("HTTP/1.1 507"));
    forget(&mut world, "c");
    for value in 0..2_000 {
        world.publish("b", &value.to_string());
    }
    assert!(world.ask(&post("room/d")).starts_with("HTTP/1.1 200"));
    pass(&mut world, 1_000);
    assert!(world.peers.hub.presence.is_left_out());
    let viewer = stream(&mut world, "room/%23");
    assert!(heard(&mut world, viewer).contains("room/d"));
    pass(&mut world, 1_000);
    assert_eq!(number(&world, ROOM), Some(1), "who has one keeps it");
    let answer = world.ask("GET /topics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let row = answer.split("\"label\":\"room/d\"").nth(1).unwrap();
    assert!(row.contains("\"subscribers\":1"), "{answer}");
    // As soon as there is room it is counted.
    forget(&mut world, "b");
    for value in 0..2_000 {
        world.publish("room/a", &value.to_string());
    }
    assert_eq!(world.peers.hub.topics.room(), 1);
    pass(&mut world, 1_000);
    assert_eq!(number(&world, "encke/presence/room/d"), Some(1));
}

#[test]
fn rights_that_change_change_the_number() {
    let mut world = world(|s| {
        s.policy.tokens = vec![token("a", "s1", "#", ""), token("b", "s2", "#", "")];
    });
    world.publish("room/a", "1");
    let target = "/events/stream?topics=room/%23";
    let clients = ["s1", "s2", ""].map(|secret| get(&mut world, target, secret));
    pass(&mut world, 2_000);
    assert_eq!(number(&world, ROOM), Some(3));
    let mut change = |how: fn(&mut Policy)| {
        let mut policy = world.peers.policy().clone();
        how(&mut policy);
        world.peers.set_policy(policy);
        pass(&mut world, 1_000);
        number(&world, ROOM)
    };
    assert_eq!(
        change(|policy| policy.tokens[0].grant.read = vec!["x".into()]),
        Some(2)
    );
    assert_eq!(change(|policy| policy.read.clear()), Some(1));
    assert_eq!(
        change(|policy| policy.tokens[0].grant.read = vec!["room/a".into()]),
        Some(2)
    );
    assert_eq!(change(|policy| policy.tokens.truncate(1)), Some(1));
    assert_eq!(change(|policy| policy.tokens.clear()), Some(0));
    assert!(
        clients
            .iter()
            .all(|client| heard(&mut world, *client).contains("hello"))
    );
}

#[test]
fn a_name_that_would_be_too_long_or_too_deep_has_none() {
    let long = format!("room/{0}/{0}", "s".repeat(32));
    let (fits, too_long) = (
        format!("{long}/{}", "t".repeat(10)),
        format!("{long}/{}", "t".repeat(11)),
    );
    let mut world = world(|_| ());
    for topic in [
        &*fits,
        &*too_long,
        "room/2/3/4/5/6",
        "room/2/3/4/5/6/7",
        "other/x",
    ] {
        world.publish(topic, "1");
    }
    pass(&mut world, 1_000);
    let presence = |topic: &str| number(&world, &format!("encke/presence/{topic}"));
    assert_eq!(presence(&fits), Some(0));
    assert_eq!(presence(&too_long), None);
    assert_eq!(presence("room/2/3/4/5/6"), Some(0));
    assert_eq!(presence("room/2/3/4/5/6/7"), None);
    assert_eq!(presence("other/x"), None);
    assert_eq!(world.peers.hub.topics.len(), 7);
    assert!(!world.peers.hub.presence.is_left_out());
}

#[test]
fn without_patterns_nothing_is_counted() {
    let mut world = world(|s| s.presence = Vec::new());
    world.publish("room/a", "1");
    let viewer = stream(&mut world, "room/a");
    pass(&mut world, 3_000);
    assert!(heard(&mut world, viewer).contains("hello"));
    assert_eq!(world.peers.hub.head(), 1);
    let answer = world.ask("GET /topics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.contains("\"subscribers\":1}"), "{answer}");
}

/// A stream that ends on purpose is soon back, and was never away.
#[test]
fn streams_with_a_limit_were_never_away() {
    let mut world = world(|s| s.ring_bytes = 256 * 1024);
    world.publish("room/a", "0");
    let witness = stream(&mut world, "encke/presence/%23");
    let target = "/events/stream?limit=4096&topics=room/a";
    let mut client = get(&mut world, target, "");
    pass(&mut world, 3_000);
    assert_eq!(numbers(&mut world, witness, ROOM), [0, 1]);
    let mut ended = 0;
    for value in 0..500 {
        world.publish("room/a", &value.to_string());
        world.settle();
        if heard(&mut world, client).contains("{\"more\":") {
            ended += 1;
            pass(&mut world, 700);
            client = get(&mut world, target, "");
        }
        pass(&mut world, 50);
    }
    assert!(ended > 5, "{ended}");
    assert_eq!(numbers(&mut world, witness, ROOM), NONE);
    world.reset(client);
    pass(&mut world, 1_000);
    assert_eq!(numbers(&mut world, witness, ROOM), [0]);
}
