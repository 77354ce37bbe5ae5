//! How strangers ask: pages of other origins, guesses at tokens, too many connections at once, heads
//! that say two things.

use encke::access::{Friend, Network, Policy};
use encke::peers::{Settings, TOO_MANY};

use super::{PROXY, World, heard, policy, small};

fn world(change: impl FnOnce(&mut Policy)) -> World {
    let mut policy = policy();
    change(&mut policy);
    let mut world = World::new(Settings {
        viewers: 64,
        policy,
        ..small()
    });
    world.publish("open/x", "111222");
    world.publish("a/x", "333444");
    world
}

fn friends(origins: &[&str], cors: &[&str]) -> Vec<Friend> {
    let list = |of: &[&str]| {
        of.iter()
            .map(|&origin| origin.to_owned())
            .collect::<Vec<_>>()
    };
    Friend::all(&list(origins), &list(cors))
}

fn ask(world: &mut World, address: &str, line: &str, fields: &str, body: &str) -> String {
    let text = format!(
        "{line} HTTP/1.1\r\nHost: pi\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    world.ask_from(address, &text)
}

fn status(answer: &str) -> u16 {
    answer["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer
        .split_once("\r\n\r\n")
        .map_or(answer, |(head, _)| head);
    let begin = format!("{name}: ");
    head.split("\r\n")
        .find_map(|line| line.strip_prefix(&begin))
}

const ALLOW: &str = "Access-Control-Allow-Origin";

/// What a page of `origin` is told: the origin it is allowed for, and whether with credentials.
fn told(answer: &str) -> Option<(&str, bool)> {
    let allowed = field(answer, ALLOW)?;
    assert!(field(answer, "Vary").is_some(), "{answer}");
    let credentials = field(answer, "Access-Control-Allow-Credentials") == Some("true");
    assert!(allowed != "*" || !credentials, "{answer}");
    Some((allowed, credentials))
}

const RESOURCES: [&str; 9] = [
    "/",
    "/events",
    "/events/sse",
    "/topics",
    "/topics/a/x",
    "/metrics",
    "/health",
    "/session",
    "/?plain",
];

#[test]
fn a_preflight_is_answered_for_every_resource() {
    const R: &str = "http://reader.example";
    const W: &str = "http://writer.example";
    const X: &str = "http://other.example";
    for (origins, cors, origin, reads, writes) in [
        (&[][..], &[][..], X, None, None),
        (&[W], &[], W, None, Some((W, true))),
        (&[], &[R], R, Some((R, true)), Some((R, true))),
        (&[], &[R], X, None, None),
        (&[], &["*"], X, Some(("*", false)), Some(("*", false))),
        (&[W], &["*"], W, Some(("*", false)), Some((W, true))),
        (&[W], &["*", R], R, Some((R, true)), Some((R, true))),
        (&[W], &[W], W, Some((W, true)), Some((W, true))),
    ] {
        let mut world = world(|policy| policy.friends = friends(origins, cors));
        for target in RESOURCES {
            for (method, want) in [("GET", reads), ("POST", writes), ("DELETE", writes)] {
                // No browser shows a token here.
                let fields =
                    format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n");
                let line = format!("OPTIONS {target}");
                let answer = ask(&mut world, "8.8.8.8", &line, &fields, "");
                assert_eq!(status(&answer), 204, "{answer}");
                assert_eq!(told(&answer), want, "{target} {method} {origin}: {answer}");
                let methods = field(&answer, "Access-Control-Allow-Methods");
                assert_eq!(methods.is_some(), want.is_some(), "{answer}");
                let may_write = methods.is_some_and(|list| list.contains("DELETE"));
                let as_writer = want.is_some_and(|(allowed, _)| origins.contains(&allowed));
                assert_eq!(may_write, as_writer, "{answer}");
            }
        }
    }
}

#[test]
fn errors_and_streams_say_to_browsers_what_answers_do() {
    const R: &str = "http://reader.example";
    let token = "Authorization: Bearer writes.wr1tes\r\n";
    for (line, fields, want) in [
        ("GET /topics", "", 200),
        ("GET /nothing", "", 404),
        ("POST /metrics", token, 403),
        ("GET /topics/..", "", 400),
        ("GET /events/sse?interval=x", "", 400),
        ("GET /events/sse", "", 200),
        ("GET /events/stream", "", 200),
        ("GET /events/poll", "", 200),
        ("GET /topics/a/x", "", 401),
        ("GET /topics", "Authorization: Bearer no\r\n", 401),
        ("GET /topics/a/x", token, 403),
        ("HEAD /topics", "", 200),
        ("GET /", "If-None-Match: *\r\n", 304),
        ("GET /topics", "Expect: x\r\n", 417),
        ("GET /topics/open/none", "", 404),
    ] {
        for (cors, want_told) in [(R, (R, true)), ("*", ("*", false))] {
            let mut world = world(|policy| policy.friends = friends(&[], &[cors]));
            let fields = format!("Origin: {R}\r\n{fields}");
            let answer = ask(&mut world, "192.168.1.9", line, &fields, "");
            assert_eq!(status(&answer), want, "{line}: {answer}");
            assert_eq!(told(&answer), Some(want_told), "{line}: {answer}");
            let other = ask(&mut world, "192.168.1.9", line, "", "");
            assert_eq!(told(&other), None, "{other}");
        }
    }
    // A page that may write is told what became of it.
    const W: &str = "http://writer.example";
    for (line, fields, body, want) in [
        ("POST /topics/b/x", token, "1", 200),
        ("POST /metrics", token, "1", 405),
        ("POST /topics/b/x", "", "1", 403),
        ("POST /topics", token, "{", 400),
        ("POST /session", "", "writes.wr1tes", 200),
        ("POST /session", "", "writes.wrong", 401),
        ("POST /topics/b/x", "Authorization: Bearer no\r\n", "1", 401),
        (
            "POST /topics/b/x",
            "Authorization: Bearer writes.wr1tes\r\nContent-Type: image/gif\r\n",
            "1",
            415,
        ),
    ] {
        let mut world = world(|policy| policy.friends = friends(&[W], &[]));
        let fields = format!("Origin: {W}\r\n{fields}");
        let answer = ask(&mut world, "192.168.1.9", line, &fields, body);
        assert_eq!(status(&answer), want, "{line}: {answer}");
        assert_eq!(told(&answer), Some((W, true)), "{line}: {answer}");
    }
}

#[test]
fn polls_of_two_origins_get_each_its_own_fields() {
    let origins = [
        "http://a.example",
        "http://b.example",
        "http://c.example",
        "",
    ];
    let mut world = world(|policy| policy.friends = friends(&[], &origins[..2]));
    let poll = |origin: &str| {
        let field = match origin {
            "" => String::new(),
            origin => format!("Origin: {origin}\r\n"),
        };
        format!("GET /events/poll?since=k3f9q2xa-2 HTTP/1.1\r\nHost: pi\r\n{field}\r\n")
    };
    let mut clients = Vec::new();
    for _ in 0..3 {
        for origin in origins {
            let client = world.connect_from("192.168.1.9").unwrap();
            world.feed(client, poll(origin).as_bytes());
            world.settle();
            clients.push((client, origin));
        }
    }
    world.publish("open/x", "1");
    world.settle();
    for (client, origin) in clients {
        let answer = heard(&mut world, client);
        let want = origins[..2].contains(&origin).then_some((origin, true));
        assert_eq!(told(&answer), want, "{answer}");
        assert!(answer.contains("\"value\":1}"), "{answer}");
    }
}

#[test]
fn pages_of_others_change_nothing() {
    let token = "Authorization: Bearer all.4ll\r\n";
    let cookie = "Cookie: encke=all.4ll\r\n";
    for (line, body) in [
        ("POST /topics/a/x", "1"),
        ("PUT /topics/a/x", "1"),
        ("DELETE /topics/a/x", ""),
        ("POST /topics", "[{\"topic\":\"a/x\",\"value\":1}]"),
        ("POST /session", "all.4ll"),
        ("DELETE /session", ""),
        ("POST /nothing", "1"),
        ("PATCH /topics/a/x", "1"),
    ] {
        for shown in [token, cookie, ""] {
            for (fields, is_refused) in [
                ("Origin: http://evil.example\r\n", true),
                ("Origin: null\r\n", true),
                ("Origin: http://pi:81\r\n", true),
                ("Origin: http://pi.evil\r\n", true),
                ("Origin: \r\n", true),
                ("Origin: http://pi\r\nOrigin: http://evil.example\r\n", true),
                ("Origin: http://friend.example\r\nOrigin: null\r\n", true),
                ("Sec-Fetch-Site: cross-site\r\n", true),
                ("Origin: http://pi\r\nSec-Fetch-Site: cross-site\r\n", true),
                ("Origin: http://pi\r\n", false),
                (
                    "Origin: https://PI\r\nSec-Fetch-Site: same-origin\r\n",
                    false,
                ),
                (
                    "Origin: http://friend.example\r\nSec-Fetch-Site: cross-site\r\n",
                    false,
                ),
                ("", false),
            ] {
                let mut world = world(|_| ());
                let fields = format!("{fields}{shown}");
                let answer = ask(&mut world, "192.168.1.9", line, &fields, body);
                let says = answer.contains("a page of another");
                assert_eq!(says, is_refused, "{line} {fields}: {answer}");
                assert!(!says || status(&answer) == 403 && !answer.contains("Set-Cookie"));
                assert!(!says || world.peers.hub.head() == 2);
            }
        }
    }
    let mut world = world(|_| ());
    let upgrade =
        "Connection: upgrade\r\nUpgrade: h2c, websocket\r\nOrigin: http://evil.example\r\n";
    let answer = ask(&mut world, "192.168.1.9", "GET /events", upgrade, "");
    assert_eq!(status(&answer), 403, "{answer}");
    // HTTP/1.0 without a Host has no pages of its own.
    let text = format!("DELETE /session HTTP/1.0\r\nOrigin: http://\r\n{cookie}\r\n");
    assert_eq!(status(&world.ask_from("8.8.8.8", &text)), 403);
}

/// Wrong tries until one has to wait.
fn guess(world: &mut World, address: &str, fields: &str, tries: usize) {
    for n in 0..tries {
        let shown = format!("{fields}Authorization: Bearer wrong{n}\r\n");
        let answer = ask(world, address, "GET /topics", &shown, "");
        assert_eq!(status(&answer), 401, "{n}: {answer}");
    }
}

#[test]
fn whoever_has_to_wait_learns_nothing() {
    let right = "Authorization: Bearer writes.wr1tes\r\n";
    let ended = "Authorization: Bearer ended.3nded\r\n";
    let wrong = "Authorization: Bearer writes.wrong1\r\n";
    let expects = "Expect: 100-continue\r\n";
    for address in ["127.0.0.1", "192.168.1.9", "8.8.8.8"] {
        let mut world = world(|_| ());
        guess(&mut world, address, "", 5);
        for line in [
            "GET /topics",
            "GET /topics/a/x",
            "GET /nothing",
            "GET /topics/..",
            "POST /topics/b/x",
            "POST /topics",
            "DELETE /topics/a/x",
            "POST /metrics",
            "PATCH /topics",
            "GET /events/sse",
            "GET /events/poll?x=y",
            "GET /events/sse?interval=x",
            "GET /session",
        ] {
            for (fields, body) in [
                ("", ""),
                ("", "{"),
                (expects, "1"),
                ("If-Match: *\r\n", "1"),
            ] {
                let answers = [right, ended, wrong].map(|shown| {
                    let fields = format!("{shown}{fields}");
                    ask(&mut world, address, line, &fields, body)
                });
                assert_eq!(answers[0], answers[2], "{line} {fields}");
                assert_eq!(answers[1], answers[2], "{line} {fields}");
                assert_eq!(status(&answers[0]), 429, "{line}: {}", answers[0]);
                assert_eq!(field(&answers[0], "Retry-After"), Some("1"));
            }
            // Not even by being let on: the body is still to come.
            for shown in [right, wrong] {
                for expects in ["", expects] {
                    let client = world.connect_from(address).unwrap();
                    let head = format!(
                        "{line} HTTP/1.1\r\nHost: pi\r\n{shown}{expects}Content-Length: 9\r\n\r\n"
                    );
                    world.feed(client, head.as_bytes());
                    world.settle();
                    let answer = heard(&mut world, client);
                    assert!(
                        answer.starts_with("HTTP/1.1 429 "),
                        "{line} {expects}: {answer:?}"
                    );
                    world.reset(client);
                }
            }
        }
        // Where no token is looked at, none tells anything.
        for line in [
            "GET /",
            "GET /health",
            "OPTIONS /topics",
            "PATCH /",
            "DELETE /session",
        ] {
            let without = ask(&mut world, address, line, "", "");
            for shown in [right, ended, wrong] {
                assert_eq!(ask(&mut world, address, line, shown, ""), without, "{line}");
            }
        }
        for body in ["writes.wr1tes", "writes.wrong1", "ended.3nded"] {
            let answer = ask(&mut world, address, "POST /session", "", body);
            assert_eq!(status(&answer), 429, "{answer}");
        }
        // Without a token nothing has changed, nor for anybody else.
        let answer = ask(&mut world, address, "GET /health", "", "");
        assert_eq!(status(&answer), 200);
        let answer = ask(&mut world, "10.1.1.1", "GET /topics", right, "");
        assert_eq!(status(&answer), 200);
        world.pass(1_000);
        assert_eq!(
            status(&ask(&mut world, address, "GET /topics", right, "")),
            200
        );
        assert_eq!(
            status(&ask(&mut world, address, "GET /topics", wrong, "")),
            401
        );
        let answer = ask(&mut world, address, "GET /topics", wrong, "");
        assert_eq!(field(&answer, "Retry-After"), Some("2"), "{answer}");
    }
}

#[test]
fn a_poll_that_is_known_waits_as_any_other() {
    let mut world = world(|_| ());
    let poll = "GET /events/poll?since=k3f9q2xa-2 HTTP/1.1\r\nHost: pi\r\n\
                Authorization: Bearer some.s0me\r\n\r\n";
    let hold = |world: &mut World, address: &str| {
        let client = world.connect_from(address).unwrap();
        world.feed(client, poll.as_bytes());
        world.settle();
        heard(world, client)
    };
    guess(&mut world, "192.168.1.9", "", 5);
    assert_eq!(hold(&mut world, "192.168.1.7"), "");
    assert_eq!(hold(&mut world, "192.168.1.8"), "");
    assert!(hold(&mut world, "192.168.1.9").starts_with("HTTP/1.1 429 "));
    assert_eq!(hold(&mut world, "192.168.1.8"), "");
}

#[test]
fn guesses_count_for_who_guesses() {
    // Signing in is a guess, too; a stale cookie is one, and is forgotten.
    let mut world = world(|_| ());
    for n in 0..5 {
        let answer = match n % 2 {
            0 => ask(&mut world, "8.8.8.8", "POST /session", "", "writes.wrong"),
            _ => ask(
                &mut world,
                "8.8.8.8",
                "GET /topics",
                "Cookie: encke=old.token\r\n",
                "",
            ),
        };
        assert_eq!(status(&answer), 401);
        let forgets = field(&answer, "Set-Cookie").is_some_and(|it| it.contains("Max-Age=0"));
        assert_eq!(forgets, n % 2 == 1, "{answer}");
    }
    assert_eq!(
        status(&ask(
            &mut world,
            "8.8.8.8",
            "POST /session",
            "",
            "writes.wr1tes"
        )),
        429
    );
    let plain = ask(
        &mut world,
        "192.168.1.9",
        "GET /?plain",
        "Cookie: encke=old.token\r\n",
        "",
    );
    assert!(
        field(&plain, "Set-Cookie").is_some_and(|it| it.contains("Max-Age=0")),
        "{plain}"
    );
    assert!(field(&plain, "WWW-Authenticate").is_some_and(|it| it.starts_with("Basic ")));
    // All of one network of 64 bits is one; behind a proxy each counts for itself.
    guess(&mut world, "2001:db8::1", "", 5);
    let right = "Authorization: Bearer writes.wr1tes\r\n";
    assert_eq!(
        status(&ask(&mut world, "2001:db8::2", "GET /topics", right, "")),
        429
    );
    assert_eq!(
        status(&ask(
            &mut world,
            "2001:db8:0:1::1",
            "GET /topics",
            right,
            ""
        )),
        200
    );
    guess(&mut world, PROXY, "X-Forwarded-For: 9.9.9.9\r\n", 5);
    for (fields, want) in [
        ("X-Forwarded-For: 9.9.9.9\r\n", 429),
        ("X-Forwarded-For: 192.168.1.1, 9.9.9.9\r\n", 429),
        ("X-Real-IP: 9.9.9.9\r\n", 429),
        ("X-Forwarded-For: ::ffff:9.9.9.9\r\n", 429),
        ("X-Forwarded-For: 9.9.9.8\r\n", 200),
        ("", 200),
    ] {
        let fields = format!("{fields}{right}");
        assert_eq!(
            status(&ask(&mut world, PROXY, "GET /topics", &fields, "")),
            want,
            "{fields}"
        );
    }
    // Who invents a field in front of the proxy's is one with all who do.
    for n in 0..5 {
        guess(
            &mut world,
            PROXY,
            &format!("Forwarded: for=1.1.1.{n}\r\nX-Forwarded-For: 7.7.7.7\r\n"),
            1,
        );
    }
    let fields = format!("Forwarded: for=1.1.1.9\r\nX-Forwarded-For: 7.7.7.7\r\n{right}");
    assert_eq!(
        status(&ask(&mut world, PROXY, "GET /topics", &fields, "")),
        429
    );
}

#[test]
fn a_full_table_of_guessers_forgets_the_quietest() {
    let mut world = world(|_| ());
    guess(&mut world, "9.9.9.9", "", 5);
    world.pass(10);
    for n in 0..64 {
        guess(&mut world, &format!("7.7.7.{n}"), "", 1);
    }
    // It may try again, and is counted anew.
    guess(&mut world, "9.9.9.9", "", 5);
    let right = "Authorization: Bearer writes.wr1tes\r\n";
    assert_eq!(
        status(&ask(&mut world, "9.9.9.9", "GET /topics", right, "")),
        429
    );
}

#[test]
fn an_address_has_so_many_connections() {
    let mut world = world(|policy| {
        policy.per_address = 3;
        policy.proxies = Network::parse(PROXY).into_iter().collect();
    });
    let stream = b"GET /events/sse HTTP/1.1\r\nHost: pi\r\n\r\n";
    let near = "192.168.1.9";
    let mut clients: Vec<usize> = (0..3).map(|_| world.connect_from(near).unwrap()).collect();
    for &client in &clients[..2] {
        world.feed(client, stream);
        world.settle();
    }
    // The idle one gives way, but not as soon as it has come; then nobody does.
    world.pass(1);
    clients.push(world.connect_from(near).unwrap());
    assert!(world.wire(clients[2]).closed && !world.wire(clients[0]).closed);
    world.feed(clients[3], b"GET / HTT");
    assert_eq!(world.connect_from(near), Err(TOO_MANY));
    assert_eq!(world.connect_from("::ffff:192.168.1.9"), Err(TOO_MANY));
    for other in [
        "192.168.1.8",
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.1",
        "::1",
    ] {
        world.connect_from(other).unwrap();
    }
    for host in 1..4 {
        let client = world.connect_from(&format!("2001:db8::{host}")).unwrap();
        world.feed(client, b"GET / HTT");
    }
    assert_eq!(world.connect_from("2001:db8::9:9:9:9"), Err(TOO_MANY));
    world.connect_from("2001:db8:0:1::1").unwrap();
    // One that goes makes room.
    world.pass(1);
    world.reset(clients[0]);
    world.connect_from(near).unwrap();
}

#[test]
fn behind_a_proxy_whoever_asks_is_counted() {
    let mut world = world(|policy| policy.per_address = 2);
    let ask = |world: &mut World, client, path: &str, of: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: pi\r\nX-Forwarded-For: {of}\r\n\r\n");
        world.feed(client, text.as_bytes());
        world.settle();
        status(&heard(world, client))
    };
    let clients: Vec<usize> = (0..8).map(|_| world.connect_from(PROXY).unwrap()).collect();
    let (one, other) = ("192.168.1.9", "192.168.1.8");
    assert_eq!(ask(&mut world, clients[0], "/events/sse", one), 200);
    // An answer that is out leaves the connection to the proxy.
    for &client in &clients[1..5] {
        assert_eq!(ask(&mut world, client, "/health", one), 200);
    }
    assert_eq!(ask(&mut world, clients[1], "/events/sse", one), 200);
    assert_eq!(ask(&mut world, clients[2], "/events/sse", one), 503);
    assert_eq!(ask(&mut world, clients[2], "/events/sse", other), 200);
    assert_eq!(ask(&mut world, clients[3], "/health", other), 200);
    assert_eq!(ask(&mut world, clients[3], "/health", one), 503);
    world.reset(clients[0]);
    assert_eq!(ask(&mut world, clients[3], "/health", one), 200);
    // Its own connections count together with those behind the proxy.
    world.pass(1);
    assert!(world.connect_from(one).is_ok());
}

/// Strangers may send a few bodies, but hold no buffer with them that somebody waits for.
#[test]
fn a_body_of_who_may_not_write_gives_way() {
    for (address, fields) in [("8.8.8.8", ""), ("192.168.1.9", "")] {
        let mut world = world(|_| ());
        let mut slow = Vec::new();
        for _ in 0..8 {
            let client = world.connect_from(address).unwrap();
            let head =
                format!("POST /session HTTP/1.1\r\nHost: pi\r\n{fields}Content-Length: 9\r\n\r\n");
            world.feed(client, head.as_bytes());
            slow.push(client);
        }
        world.pass(1_000);
        let answer = World::ask_from(
            &mut world,
            "192.168.1.7",
            "GET /health HTTP/1.1\r\nHost: pi\r\n\r\n",
        );
        assert_eq!(status(&answer), 200);
        world.pass(10_000);
        assert!(
            slow.iter().all(|client| world.wire(*client).finished),
            "10 s is enough"
        );
    }
    // Whoever may write has a minute.
    let mut world = world(|_| ());
    let client = world.connect_from("8.8.8.8").unwrap();
    let head = "POST /topics/b/x HTTP/1.1\r\nHost: pi\r\nAuthorization: Bearer s0me\r\n\
                Content-Length: 1\r\n\r\n";
    world.feed(client, head.as_bytes());
    world.pass(59_000);
    world.feed(client, b"1");
    world.settle();
    assert_eq!(status(&heard(&mut world, client)), 200);
}

/// One head, two readings: the one that gives less.
#[test]
fn heads_that_say_two_things() {
    let token = "Authorization: Bearer some.s0me\r\n";
    for (address, text, want) in [
        ("8.8.8.8", "GET http://127.0.0.1/topics HTTP/1.1\r\nHost: pi\r\n\r\n".to_owned(), 401),
        ("192.168.1.9", "GET http://evil.example/topics HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 421),
        ("8.8.8.8", format!("GET /topics HTTP/1.0\r\n{token}\r\n"), 200),
        ("8.8.8.8", "GET /topics HTTP/1.0\r\n\r\n".into(), 401),
        ("8.8.8.8", format!("GET /topics HTTP/1.1\r\nHost: pi\r\n{token}{token}\r\n"), 401),
        (
            "8.8.8.8",
            "GET /topics HTTP/1.1\r\nHost: pi\r\nCookie: encke=no\r\nCookie: encke=some.s0me\r\n\r\n".into(),
            401,
        ),
        (
            "8.8.8.8",
            "GET /topics HTTP/1.1\r\nHost: pi\r\nAuthorization: \r\nCookie: encke=some.s0me\r\n\r\n".into(),
            401,
        ),
        ("::ffff:8.8.8.8", "GET /topics HTTP/1.0\r\n\r\n".into(), 401),
        ("::ffff:192.168.1.9", "GET /topics HTTP/1.0\r\n\r\n".into(), 200),
        // A proxy that is not trusted; what it adds makes nobody nearer.
        (
            "192.168.1.9",
            "GET /topics HTTP/1.1\r\nHost: pi\r\nX-Forwarded-For: 8.8.8.8, 192.168.1.5\r\n\r\n".into(),
            401,
        ),
        (
            "127.0.0.1",
            "GET /topics HTTP/1.1\r\nHost: pi\r\nForwarded: for=127.0.0.1\r\nX-Real-IP: 8.8.8.8\r\n\r\n".into(),
            401,
        ),
        ("8.8.8.8", "GET /topics HTTP/1.1\r\nHost: pi\r\nX-Real-IP: 127.0.0.1\r\n\r\n".into(), 401),
        // One that is; what it passes on unread makes nobody nearer.
        (
            PROXY,
            "GET /topics HTTP/1.1\r\nHost: pi\r\nForwarded: for=127.0.0.1\r\nX-Forwarded-For: 8.8.8.8\r\n\r\n"
                .into(),
            401,
        ),
        (PROXY, "GET /topics HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 401),
        (PROXY, "GET /topics HTTP/1.1\r\nHost: pi\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n".into(), 200),
        (PROXY, "GET /topics HTTP/1.1\r\nHost: pi\r\nX-Forwarded-For: 10.0.0.1, x\r\n\r\n".into(), 401),
        ("8.8.8.8", "GET /HEALTH HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 401),
        ("8.8.8.8", "GET /health?plain HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 401),
        ("8.8.8.8", "GET /%68ealth HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 200),
        ("8.8.8.8", "GET /session%2f..%2ftopics HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 401),
        ("8.8.8.8", "GET //session HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 401),
        ("8.8.8.8", "HEAD /topics HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 401),
        ("8.8.8.8", "HEAD /session HTTP/1.1\r\nHost: pi\r\n\r\n".into(), 200),
        ("8.8.8.8", "GET /topics HTTP/1.1\r\nHost: pi\r\nIf-None-Match: *\r\n\r\n".into(), 401),
    ] {
        let mut world = world(|_| ());
        let answer = world.ask_from(address, &text);
        assert_eq!(status(&answer), want, "{address} {text}: {answer}");
    }
}

/// Nobody sends much to whoever refuses it anyway.
#[test]
fn rights_are_looked_at_before_a_body_is_asked_for() {
    for (fields, want) in [
        ("", 403),
        ("Authorization: Bearer n0thing\r\n", 403),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Bearer ended.3nded\r\n", 401),
        ("Origin: http://evil.example\r\n", 403),
    ] {
        let mut world = world(|_| ());
        let client = world.connect_from("8.8.8.8").unwrap();
        let head = format!(
            "POST /topics/b/x HTTP/1.1\r\nHost: pi\r\n{fields}Expect: 100-continue\r\n\
             Content-Length: 60000\r\n\r\n"
        );
        world.feed(client, head.as_bytes());
        world.settle();
        let answer = heard(&mut world, client);
        assert_eq!(status(&answer), want, "{answer}");
        assert_eq!(field(&answer, "Connection"), Some("close"));
    }
}
