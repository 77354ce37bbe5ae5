//! Polls that name their client: a newer one releases the older, and takes nothing from anybody.

use crate::support::world::{World, settings, token};

fn world() -> World {
    let mut settings = settings();
    settings.sends_per_turn = 1;
    settings.policy.tokens = vec![token("other", "s2", "#", "")];
    let mut world = World::new(settings);
    world.publish("a", "1");
    world.settle();
    world
}

fn ask(world: &mut World, client: usize, query: &str, secret: &str) {
    let shown = match secret {
        "" => String::new(),
        secret => format!("Authorization: Bearer {secret}\r\n"),
    };
    let request = format!("GET /events/poll?{query} HTTP/1.1\r\nHost: pi\r\n{shown}\r\n");
    world.feed(client, request.as_bytes());
}

fn heard(world: &mut World, client: usize) -> String {
    world.settle();
    String::from_utf8(world.take(client)).unwrap()
}

fn hold(world: &mut World, query: &str) -> usize {
    let client = world.connect().unwrap();
    // A connection that has been used before.
    ask(world, client, "topics=b&timeout=0", "");
    heard(world, client);
    ask(world, client, query, "");
    assert_eq!(heard(world, client), "");
    client
}

/// The name of a poll that was answered long ago does not hide the one that is held.
#[test]
fn the_poll_that_is_held_is_released() {
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [2, 0, 1]] {
        let mut world = world();
        let clients = [(); 3].map(|()| world.connect().unwrap());
        let [first, second, third] = order.map(|at| clients[at]);
        ask(&mut world, first, "since=k3f9q2xa-1&client=me", "");
        world.settle();
        world.publish("a", "2");
        assert!(heard(&mut world, first).contains("\"value\":2}"));
        ask(&mut world, second, "since=k3f9q2xa-2&client=me", "");
        assert_eq!(heard(&mut world, second), "");
        ask(
            &mut world,
            third,
            "since=k3f9q2xa-2&client=me&snapshot=1",
            "",
        );
        assert!(
            heard(&mut world, second).contains("\"events\":[]"),
            "{order:?}"
        );
        assert_eq!(heard(&mut world, third), "");
    }
}

/// Asking the very same again, as one does whose connection is stuck, is asking anew.
#[test]
fn the_same_request_again_releases_the_first() {
    let mut world = world();
    let query = "since=k3f9q2xa-1&client=me";
    let mut held = hold(&mut world, query);
    let connections = [(); 5].map(|()| {
        let client = world.connect().unwrap();
        ask(&mut world, client, "topics=b&timeout=0", "");
        heard(&mut world, client);
        client
    });
    for newer in connections {
        ask(&mut world, newer, query, "");
        assert_eq!(heard(&mut world, newer), "");
        assert!(heard(&mut world, held).contains("\"events\":[]"));
        held = newer;
    }
}

/// A poll that is released says only what it has: an event on its way to it is not left out.
#[test]
fn a_poll_that_is_released_loses_no_event() {
    let mut world = world();
    let query = |client| format!("since=k3f9q2xa-1&topics=a&client={client}");
    let polls = ["x", "y", "z"].map(|client| hold(&mut world, &query(client)));
    world.publish("a", "2");
    // The turn's one send goes to one of them.
    world.peers.flush();
    for client in ["x", "y", "z"] {
        let newer = world.connect().unwrap();
        ask(&mut world, newer, &query(client), "");
    }
    for poll in polls {
        let answer = heard(&mut world, poll);
        assert!(answer.contains("\"value\":2}"), "{answer}");
    }
}

/// The name of a client is no secret: who has other rights is somebody else.
#[test]
fn nobody_releases_the_poll_of_another_reader() {
    let mut world = world();
    let mine = hold(&mut world, "since=k3f9q2xa-1&client=me");
    let theirs = world.connect().unwrap();
    ask(&mut world, theirs, "since=k3f9q2xa-1&client=me", "s2");
    assert_eq!(heard(&mut world, theirs), "");
    assert_eq!(heard(&mut world, mine), "");
}
