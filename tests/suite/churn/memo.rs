//! A request is answered as if nobody had asked before: not as the one before it, from which it
//! differs in one byte, in who sends it, or in what came between its head and its body.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::step;
use crate::support::world::{World, settings};

/// Each with some that differ from it in a byte or little more.
const REQUESTS: &[&str] = &[
    "GET /events/poll?topics=a&since=k3f9q2xa-1 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/poll?topics=b&since=k3f9q2xa-1 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/poll?topics=a&since=k3f9q2xa-2 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/poll?topics=a&since=k3f9q2xb-1 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/poll?topics=a&since=k3f9q2xa-1 HTTP/1.0\r\nHost: pi\r\n\r\n",
    "GET /events/poll?topics=a&since=k3f9q2xa-1 HTTP/1.1\r\nHost: po\r\n\r\n",
    "GET /events/poll?topics=a&since=k3f9q2xa-1 HTTP/1.1\r\nHost; pi\r\n\r\n",
    "GET /events/poll?topics=a&since=k3f9q2xa-1 HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n",
    "GET /events/poll?topics=a HTTP/1.1\r\nHost: pi\r\nLast-Event-ID: k3f9q2xa-1\r\n\r\n",
    "GET /events/poll?topics=a HTTP/1.1\r\nHost: pi\r\nLast-Event-ID: k3f9q2xa-2\r\n\r\n",
    "GET /events/sse?topics=a&snapshot=0 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/sse?topics=a&snapshot=1 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/sse?topics=b&snapshot=0 HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/stream?topics=a&format=raw HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /events/stream?topics=a&format=ran HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /topics/a HTTP/1.1\r\nHost: pi\r\n\r\n",
    "GET /topics/b HTTP/1.1\r\nHost: pi\r\n\r\n",
    "HEAD /topics/a HTTP/1.1\r\nHost: pi\r\n\r\n",
    "DELETE /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "DELETE /topics/b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n12",
    "POST /topics/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n12",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n123",
    "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n45",
    "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.9\r\nContent-Length: 2\r\n\r\n45",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nVia: pi\r\n\r\n67",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nVib: pi\r\n\r\n67",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nOrigin: http://friend.example\r\n\
     Content-Length: 2\r\n\r\n89",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nOrigin: http://friend.examplf\r\n\
     Content-Length: 2\r\n\r\n89",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
     Content-Length: 2\r\n\r\n10",
    "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
     2\r\n11\r\n0\r\n\r\n",
];
/// Unlike all of them, and changes nothing.
const OTHER: &str = "GET /health HTTP/1.1\r\nHost: pi\r\nX-Nobody: asks like this\r\n\r\n";
const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// What two clients hear for what they and a third one send, in this order.
fn heard(addresses: [IpAddr; 2], sent: &[(usize, &str)]) -> [String; 2] {
    let mut world = World::new(settings());
    for (topic, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")] {
        world.publish(topic, value);
    }
    let clients: Vec<usize> = (0..3).map(|_| world.connect().unwrap()).collect();
    for (client, address) in clients.iter().zip(addresses) {
        world.wire(*client).address = address;
    }
    for (who, bytes) in sent {
        world.feed(clients[*who], bytes.as_bytes());
        world.settle();
    }
    // Whoever is held is told whom it takes for whom.
    for topic in ["a", "b"] {
        world.publish(topic, "5");
        world.settle();
    }
    [0, 1].map(|n| String::from_utf8(world.take(clients[n])).unwrap())
}

#[test]
fn every_request_is_itself_whatever_was_asked_before_it() {
    for before in REQUESTS.iter().step_by(step(4)) {
        for request in REQUESTS {
            for addresses in [[NEAR, NEAR], [NEAR, FAR], [FAR, NEAR]] {
                let expected = heard(addresses, &[(0, before), (2, OTHER), (1, request)]);
                let found = heard(addresses, &[(0, before), (1, request)]);
                assert_eq!(found, expected, "{addresses:?} {before:?} {request:?}");
            }
            let expected = heard([NEAR; 2], &[(0, before), (2, OTHER), (0, request)]);
            let found = heard([NEAR; 2], &[(0, before), (0, request)]);
            assert_eq!(
                found, expected,
                "over one connection: {before:?} {request:?}"
            );
        }
    }
}

#[test]
fn the_same_again_is_the_same_however_it_is_cut() {
    for request in REQUESTS {
        for addresses in [[NEAR, NEAR], [NEAR, FAR], [FAR, NEAR]] {
            for at in (1..request.len()).step_by(step(41)) {
                let (one, two) = request.split_at(at);
                let sent = [(0, *request), (2, OTHER), (1, one), (1, two)];
                let expected = heard(addresses, &sent);
                let found = heard(addresses, &[(0, request), (1, one), (1, two)]);
                assert_eq!(found, expected, "{addresses:?} {request:?} cut at {at}");
            }
        }
    }
}

#[test]
fn a_body_belongs_to_its_own_head() {
    let is_whole = |request: &&&str| !request.ends_with("\r\n\r\n");
    for request in REQUESTS.iter().filter(is_whole) {
        let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
        for between in REQUESTS.iter().step_by(step(4)) {
            for addresses in [[NEAR, NEAR], [NEAR, FAR], [FAR, NEAR]] {
                let sent = [(0, head), (1, between), (2, OTHER), (0, body)];
                let expected = heard(addresses, &sent);
                let found = heard(addresses, &[sent[0], sent[1], sent[3]]);
                assert_eq!(found, expected, "{addresses:?} {request:?} {between:?}");
                // Its head once more, just before its body comes.
                let again = heard(addresses, &[sent[0], sent[1], (2, head), sent[3]]);
                assert_eq!(
                    again[0], expected[0],
                    "{addresses:?} {request:?} {between:?}"
                );
            }
        }
    }
}
