//! Pictures: taken piece by piece, kept in plates, sent from there to one who asks and to viewers of
//! streams; none is ever torn, and nobody keeps a plate for ever.

use encke::peers::Settings;

use crate::support::world::{World, settings, token};

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    settings.ring_bytes = 1 << 18;
    settings.pictures = 2;
    settings.picture_bytes = 131_072;
    change(&mut settings);
    World::new(settings)
}

/// A picture of so many bytes, another one for each seed, in which every byte counts.
fn picture(seed: u8, bytes: usize) -> Vec<u8> {
    let byte = |at: usize| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
    (0..bytes).map(byte).collect()
}

fn put(topic: &str, media: &str, body: &[u8], more: &str) -> Vec<u8> {
    let bytes = body.len();
    let head = format!(
        "PUT /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n\
         {more}Content-Length: {bytes}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn chunked(topic: &str, body: &[u8], chunk: usize) -> Vec<u8> {
    let head = format!(
        "PUT /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let chunks = body.chunks(chunk).map(|piece| {
        let size = format!("{:x}\r\n", piece.len());
        [size.as_bytes(), piece, b"\r\n"].concat()
    });
    let body: Vec<u8> = chunks.flatten().collect();
    [head.as_bytes(), &body, b"0\r\nTrailer: x\r\n\r\n"].concat()
}

/// Everything that comes to a client that reads as fast as it can.
fn heard(world: &mut World, client: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        world.settle();
        let more = world.take(client);
        if more.is_empty() {
            return bytes;
        }
        bytes.extend(more);
    }
}

/// One request on a connection of its own: what came back.
fn ask(world: &mut World, request: &[u8]) -> Vec<u8> {
    let client = world.connect().unwrap();
    world.feed(client, request);
    let answer = heard(world, client);
    world.reset(client);
    answer
}

/// The head as text, and the body.
fn parts(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("an answer has a head") + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, &answer[end..])
}

fn status(answer: &[u8]) -> u16 {
    core::str::from_utf8(&answer[9..12])
        .unwrap()
        .parse()
        .unwrap()
}

fn get(world: &mut World, target: &str) -> Vec<u8> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ask(world, request.as_bytes())
}

/// Publishes one that is taken.
fn publish(world: &mut World, topic: &str, body: &[u8]) {
    let answer = ask(world, &put(topic, "image/png", body, ""));
    assert_eq!(status(&answer), 200, "{}", answer.escape_ascii());
}

fn view(world: &mut World, query: &str, fields: &str) -> usize {
    let client = world.connect().unwrap();
    let request =
        format!("GET /events/multipart?{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    world.feed(client, request.as_bytes());
    world.settle();
    client
}

const IMAGES: &str = "Accept: image/avif,image/webp,image/*,*/*;q=0.8\r\n";

/// The body of a chunked answer so far, its head left out.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    if bytes.starts_with(b"HTTP/") {
        bytes = parts(bytes).1;
    }
    let mut body = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = core::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..][..size]);
        assert_eq!(&bytes[end + 2 + size..][..2], b"\r\n");
        bytes = &bytes[end + 2 + size + 2..];
    }
    body
}

/// The parts of a stream: the media type and the content of each.
fn stream_parts(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = body.strip_prefix(b"--encke\r\n").unwrap_or(body);
    let mut found = Vec::new();
    while !rest.is_empty() && rest != b"--encke--\r\n" {
        let (head, body) = parts(rest);
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        let bytes = match field("Content-Length: ") {
            Some(bytes) => bytes.parse().unwrap(),
            None => body.windows(4).position(|four| four == b"\r\n--").unwrap(),
        };
        found.push((field("Content-Type: ").unwrap(), body[..bytes].to_vec()));
        let behind = &body[bytes..];
        assert!(
            behind.starts_with(b"\r\n--encke"),
            "{}",
            behind.escape_ascii()
        );
        rest = match behind.strip_prefix(b"\r\n--encke\r\n") {
            Some(rest) => rest,
            None => b"",
        };
    }
    found
}

fn seen(world: &mut World, client: usize) -> Vec<(String, Vec<u8>)> {
    stream_parts(&unchunked(&heard(world, client)))
}

/// As `seen`, of who gets pictures alone: but for the first, the head of each came before.
fn seen_alone(world: &mut World, client: usize) -> Vec<(String, Vec<u8>)> {
    alone(&unchunked(&heard(world, client)))
}

fn alone(mut body: &[u8]) -> Vec<(String, Vec<u8>)> {
    if let Some(behind) = body.trim_ascii_start().strip_prefix(b"--encke\r\n") {
        let padding = body.len() - behind.len() - b"\r\n--encke\r\n".len();
        assert_eq!(padding, 1024);
        body = behind;
    }
    let mut rest = body.strip_prefix(b"--encke\r\n").unwrap_or(body);
    let mut found = Vec::new();
    loop {
        let is_first = rest.starts_with(b"Content-Type: ");
        let (head, from) = if is_first {
            parts(rest)
        } else {
            (String::new(), rest)
        };
        let end = from
            .windows(11)
            .position(|window| window == b"\r\n--encke\r\n");
        let Some(end) = end else {
            return found;
        };
        if head.contains("Length") {
            assert!(
                head.ends_with(&format!("\r\nContent-Length: {end}\r\n\r\n")),
                "{head}"
            );
        }
        let next = &from[end + 11..];
        let media = if next.starts_with(b"Content-Type: image/png\r\n\r\n") {
            "png"
        } else {
            "jpeg"
        };
        found.push((format!("image/{media}"), from[..end].to_vec()));
        rest = &next[format!("Content-Type: image/{media}\r\n\r\n").len()..];
    }
}

#[test]
fn a_picture_larger_than_a_buffer_is_taken_as_it_comes() {
    let mut world = world(|_| ());
    let body = picture(1, 131_072);
    for (request, piece) in [
        (put("cam/front", "image/jpeg", &body, ""), 131_272),
        (put("cam/front", "image/jpeg", &body, ""), 1_000),
        (chunked("cam/front", &body, 5_000), 200_000),
        (chunked("cam/front", &body, 131_072), 777),
        (chunked("cam/front", &body, 10), 64_000),
    ] {
        let client = world.connect().unwrap();
        for piece in request.chunks(piece) {
            world.feed(client, piece);
            world.settle();
        }
        let answer = heard(&mut world, client);
        assert_eq!(status(&answer), 200, "{}", answer.escape_ascii());
        // The connection goes on, at the byte where the body ended.
        world.feed(client, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&heard(&mut world, client)), 200);
        let answer = get(&mut world, "/pictures/cam/front");
        let (head, sent) = parts(&answer);
        assert!(sent == body && head.contains("\r\nContent-Type: image/jpeg\r\n"));
        assert!(head.contains("\r\nContent-Length: 131072\r\n"), "{head}");
    }
    world.check_nothing_leaks();
}

#[test]
fn a_picture_comes_byte_by_byte_and_goes_a_few_at_a_time() {
    let mut world = world(|_| ());
    let body = picture(7, 3_000);
    for request in [
        put("c", "IMAGE/PNG; x=y", &body, ""),
        chunked("c", &body, 33),
    ] {
        let client = world.connect().unwrap();
        for byte in &request {
            world.feed(client, &[*byte]);
            world.settle();
        }
        assert_eq!(status(&heard(&mut world, client)), 200);
        let client = world.connect().unwrap();
        world.wire(client).gulp = 11;
        world.feed(
            client,
            b"GET /pictures/c?id=x HTTP/1.0\r\nHost: localhost\r\n\r\n",
        );
        let answer = heard(&mut world, client);
        assert!(parts(&answer).1 == body);
        assert!(world.wire(client).finished && !world.wire(client).aborted);
    }
    world.check_nothing_leaks();
}

#[test]
fn sizes_at_and_above_their_limit() {
    let mut world = world(|s| s.picture_bytes = 100_000);
    let (most, more) = (picture(1, 100_000), picture(2, 100_001));
    publish(&mut world, "c", &most);
    for request in [
        put("c", "image/png", &more, ""),
        chunked("c", &more, 100_001),
    ] {
        let answer = ask(&mut world, &request);
        let (head, reason) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("\r\nConnection: close\r\n"));
        let reason = core::str::from_utf8(reason).unwrap();
        assert!(
            reason.contains("100001") && reason.contains("100000"),
            "{reason}"
        );
    }
    // Refused by its head alone.
    let head = put("c", "image/png", b"", "Expect: 100-continue\r\n");
    let head = String::from_utf8(head)
        .unwrap()
        .replace("Length: 0", "Length: 100001");
    assert_eq!(status(&ask(&mut world, head.as_bytes())), 413);
    let head = head.replace("100001", "100000");
    let client = world.connect().unwrap();
    world.feed(client, head.as_bytes());
    assert_eq!(heard(&mut world, client), b"HTTP/1.1 100 Continue\r\n\r\n");
    world.feed(client, &picture(3, 100_000));
    assert_eq!(status(&heard(&mut world, client)), 200);
    assert_eq!(
        status(&ask(&mut world, &put("c", "image/png", b"", ""))),
        400
    );
    assert_eq!(status(&ask(&mut world, &chunked("c", b"", 1))), 400);
    assert!(parts(&get(&mut world, "/pictures/c")).1 == picture(3, 100_000));
    world.check_nothing_leaks();
}

#[test]
fn topics_at_and_above_their_limit() {
    let mut world = world(|s| s.topics = 8);
    for topic in ["a", "b"] {
        publish(&mut world, topic, b"x");
    }
    let answer = ask(&mut world, &put("c", "image/png", b"x", ""));
    assert_eq!(status(&answer), 507);
    let delete = b"DELETE /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(status(&ask(&mut world, delete)), 200);
    assert_eq!(status(&get(&mut world, "/pictures/a")), 404);
    publish(&mut world, "c", b"x");
    // The table of topics is looked at first, and before a body is taken.
    for topic in ["d", "e", "f", "g", "h"] {
        world.publish(topic, "1");
    }
    let head = put("new", "image/png", b"", "");
    let head = String::from_utf8(head)
        .unwrap()
        .replace("Length: 0", "Length: 9");
    let answer = ask(&mut world, head.as_bytes());
    assert!(parts(&answer).1.starts_with(b"the table of topics is full"));
    world.check_nothing_leaks();
}

#[test]
fn what_is_no_picture_here_is_refused_by_its_head() {
    let mut world = world(|_| ());
    for media in [
        "image/gif",
        "image/svg+xml",
        "image/",
        "application/octet-stream",
    ] {
        let answer = ask(&mut world, &put("c", media, b"GIF89a", ""));
        assert_eq!(status(&answer), 415, "{media}");
    }
    let many = String::from_utf8(put("c", "image/png", b"x", "")).unwrap();
    let many = many.replace("PUT /topics/c", "POST /topics");
    assert_eq!(status(&ask(&mut world, many.as_bytes())), 415);
    let unmet = put("c", "image/png", b"x", "If-Match: *\r\n");
    assert_eq!(status(&ask(&mut world, &unmet)), 412);
    assert_eq!(status(&get(&mut world, "/pictures/c")), 404);
    world.publish("c", "1");
    assert_eq!(status(&get(&mut world, "/pictures/c")), 404);
    assert_eq!(status(&get(&mut world, "/pictures/c//d")), 400);
    world.check_nothing_leaks();
}

#[test]
fn an_upload_that_breaks_off_leaves_the_picture_as_it_was() {
    let mut world = world(|_| ());
    let old = picture(1, 90_000);
    publish(&mut world, "c", &old);
    let head = world.peers.hub.head();
    let new = put("c", "image/png", &picture(2, 90_000), "");
    let good = chunked("c", &picture(2, 50_000), 50_000);
    let bad = good.strip_suffix(b"0\r\nTrailer: x\r\n\r\n").unwrap();
    let bad = [bad, b"zz\r\n"].concat();
    for how in ["reset", "end", "late", "bad"] {
        let client = world.connect().unwrap();
        let sent = if how == "bad" { &bad } else { &new[..80_000] };
        for piece in sent.chunks(10_000) {
            world.feed(client, piece);
            world.settle();
        }
        match how {
            "reset" => world.reset(client),
            "end" => world.half_close(client),
            "late" => world.pass(60_000),
            _ => {}
        }
        world.settle();
        let answer = world.take(client);
        let want = match how {
            "late" => b"HTTP/1.1 408 ",
            "bad" => b"HTTP/1.1 400 ",
            _ => &b""[..],
        };
        assert!(answer.starts_with(want), "{how}: {}", answer.escape_ascii());
        assert_eq!(world.peers.hub.pictures.in_use(), 0, "{how}");
        assert!(parts(&get(&mut world, "/pictures/c")).1 == old, "{how}");
        assert_eq!(world.peers.hub.head(), head);
    }
    world.check_nothing_leaks();
}

#[test]
fn rights_that_end_while_a_picture_comes_count() {
    let mut world = world(|s| {
        s.policy.tokens.push(token("cam", "secret", "#", "cam/#"));
        s.policy.read = vec!["open/#".into()];
    });
    let more = "Authorization: Bearer cam.secret\r\n";
    let body = picture(1, 100);
    let whole = put("cam/a", "image/png", &body, more);
    let from = |world: &mut World, request: &[u8]| {
        let client = world.connect_from("192.168.1.9").unwrap();
        world.feed(client, request);
        let answer = heard(world, client);
        world.reset(client);
        answer
    };
    assert_eq!(
        status(&from(&mut world, &put("open/a", "image/png", &body, ""))),
        403
    );
    assert_eq!(
        status(&from(&mut world, &put("open/a", "image/png", &body, more))),
        403
    );
    assert_eq!(status(&from(&mut world, &whole)), 200);
    let get = |fields: &str| {
        format!("GET /pictures/cam/a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
    };
    assert!(matches!(status(&from(&mut world, &get(""))), 401 | 403));
    assert_eq!(status(&from(&mut world, &get(more))), 200);
    let client = world.connect_from("192.168.1.9").unwrap();
    world.feed(client, &whole[..whole.len() - 1]);
    world.settle();
    let mut policy = world.peers.policy().clone();
    policy.tokens.clear();
    world.peers.set_policy(policy);
    world.feed(client, &whole[whole.len() - 1..]);
    assert_eq!(status(&heard(&mut world, client)), 401);
    assert_eq!(world.peers.hub.head(), 1);
    world.check_nothing_leaks();
}

#[test]
fn entity_tags_and_heads() {
    let mut world = world(|_| ());
    publish(&mut world, "c", b"abc");
    let mut asked = |method: &str, fields: &str| {
        let request = format!("{method} /pictures/c HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        ask(&mut world, request.as_bytes())
    };
    let answer = asked("GET", "");
    let (head, body) = parts(&answer);
    assert!(
        head.contains("\r\nETag: \"k3f9q2xa-1\"\r\n") && body == b"abc",
        "{head}"
    );
    assert!(head.contains("\r\nCache-Control: no-cache, no-store, must-revalidate\r\n"));
    let answer = asked("HEAD", "");
    assert_eq!(parts(&answer), (head.clone(), &b""[..]));
    for tags in [
        "\"k3f9q2xa-1\"",
        "W/\"k3f9q2xa-1\"",
        "*",
        "\"x\", \"k3f9q2xa-1\"",
    ] {
        let answer = asked("GET", &format!("If-None-Match: {tags}\r\n"));
        let (head, body) = parts(&answer);
        assert!(
            head.starts_with("HTTP/1.1 304 ") && body.is_empty(),
            "{tags}: {head}"
        );
        assert!(head.contains("\r\nETag: \"k3f9q2xa-1\"\r\n"));
    }
    for tags in ["\"k3f9q2xa-2\"", "k3f9q2xa-1", "\"other-1\"", ""] {
        assert_eq!(
            status(&asked("GET", &format!("If-None-Match: {tags}\r\n"))),
            200
        );
        assert_eq!(status(&asked("GET", &format!("If-Match: {tags}\r\n"))), 412);
    }
    assert_eq!(status(&asked("GET", "If-Match: \"k3f9q2xa-1\"\r\n")), 200);
    assert_eq!(status(&asked("POST", "")), 405);
    world.check_nothing_leaks();
}

#[test]
fn slow_readers_keep_their_picture_and_no_others() {
    let mut world = world(|_| ());
    let first = picture(1, 100_000);
    publish(&mut world, "c", &first);
    let slow = |world: &mut World| {
        let client = world.connect().unwrap();
        world.wire(client).capacity = 5_000;
        world.feed(
            client,
            b"GET /pictures/c HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        world.settle();
        client
    };
    let one = slow(&mut world);
    for seed in 2..9 {
        publish(&mut world, "c", &picture(seed, 100_000));
    }
    let two = slow(&mut world);
    let answer = ask(&mut world, &put("c", "image/png", b"x", ""));
    assert_eq!(status(&answer), 503);
    let (head, _) = parts(&answer);
    assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    // Another topic has plates of its own.
    publish(&mut world, "other", &picture(50, 100_000));
    let mut got = Vec::new();
    while got.is_empty() || parts(&got).1.len() < 100_000 {
        got.extend(world.take(one));
        world.settle();
    }
    assert!(parts(&got).1 == first);
    publish(&mut world, "c", &picture(9, 100_000));
    let answer = heard(&mut world, two);
    assert!(parts(&answer).1 == picture(8, 100_000));
    world.check_nothing_leaks();
}

#[test]
fn who_takes_nothing_or_too_little_is_closed() {
    for trickle in [false, true] {
        let mut world = world(|_| ());
        publish(&mut world, "c", &picture(1, 100_000));
        let get = b"GET /pictures/c HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let asker = world.connect().unwrap();
        world.wire(asker).capacity = 1_000;
        world.feed(asker, get);
        world.settle();
        let viewer = world.connect().unwrap();
        world.wire(viewer).capacity = 1_000;
        world.feed(
            viewer,
            b"GET /events/multipart HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        world.settle();
        assert_eq!(world.peers.hub.pictures.in_use(), 1);
        let mut passed_ms = 0;
        while !(world.wire(asker).closed && world.wire(viewer).closed) {
            world.pass(1_000);
            passed_ms += 1_000;
            for client in [asker, viewer] {
                if trickle && passed_ms % 5_000 == 0 {
                    world.take_some(client, 100);
                }
            }
        }
        let most_ms = if trickle { 61_000 } else { 21_000 };
        assert!(
            (most_ms - 2_000..=most_ms).contains(&passed_ms),
            "{passed_ms}"
        );
        assert!(world.wire(asker).aborted && world.wire(viewer).aborted);
        world.check_nothing_leaks();
    }
}

#[test]
fn a_viewer_gets_messages_and_pictures_as_parts() {
    let mut world = world(|_| ());
    world.publish("a", "1");
    publish(&mut world, "cam", b"first");
    let client = view(&mut world, "", "");
    let json = |text: &str| ("application/json".to_owned(), text.as_bytes().to_vec());
    let png = |bytes: &[u8]| ("image/png".to_owned(), bytes.to_vec());
    let hello = r#"{"hello":{"log":"k3f9q2xa","id":"k3f9q2xa-0","lost":0,"reset":false}}"#;
    let event = |seq: u32, value: &str| {
        json(&format!(
            r#"{{"id":"k3f9q2xa-{seq}","topic":"a","time":1763791234567,"value":{value}}}"#
        ))
    };
    let want = [json(hello), event(1, "1"), png(b"first")];
    assert_eq!(seen(&mut world, client), want);
    world.publish("a", "2");
    publish(&mut world, "cam", b"second");
    world.publish("a", "3");
    assert_eq!(
        seen(&mut world, client),
        [event(3, "2"), png(b"second"), event(5, "3")]
    );
    // Of two in one turn the newest is shown.
    let (a, b) = (world.connect().unwrap(), world.connect().unwrap());
    world.feed(a, &put("cam", "image/png", b"third", ""));
    world.feed(b, &put("cam", "image/png", b"fourth", ""));
    assert_eq!(seen(&mut world, client), [png(b"fourth")]);
    world.pass(15_000);
    let heartbeat = json(r#"{"heartbeat":{"id":"k3f9q2xa-7"}}"#);
    assert_eq!(seen(&mut world, client), [heartbeat]);
    let delete = b"DELETE /topics/cam HTTP/1.1\r\nHost: localhost\r\n\r\n";
    ask(&mut world, delete);
    let gone = seen(&mut world, client);
    assert_eq!(gone.len(), 1);
    assert!(gone[0].1.ends_with(br#""bytes":6},"state":"gone"}"#));
    world.check_nothing_leaks();
}

#[test]
fn an_image_gets_pictures_alone() {
    let mut world = world(|_| ());
    world.publish("a", "1");
    publish(&mut world, "cam", b"first");
    for fields in [IMAGES, "Accept: */*\r\nSec-Fetch-Dest: image\r\n"] {
        let client = view(&mut world, "topics=cam,a", fields);
        let png = |bytes: &[u8]| ("image/png".to_owned(), bytes.to_vec());
        assert_eq!(seen_alone(&mut world, client), [png(b"first")]);
        world.publish("a", "2");
        world.pass(40_000);
        assert_eq!(heard(&mut world, client), b"");
        publish(&mut world, "cam", b"second");
        world.publish("a", "3");
        assert_eq!(seen_alone(&mut world, client), [png(b"second")]);
        publish(&mut world, "cam", b"first");
        assert_eq!(seen_alone(&mut world, client), [png(b"first")]);
        // It says nothing that would show whether it is there: its end is its end.
        world.half_close(client);
        world.settle();
        assert!(world.wire(client).closed);
    }
    world.check_nothing_leaks();
}

#[test]
fn a_slow_viewer_finishes_its_picture_and_skips_to_the_newest() {
    for fields in ["", IMAGES] {
        let mut world = world(|s| s.ring_bytes = 12 * 1024);
        publish(&mut world, "cam", &picture(1, 100_000));
        let client = world.connect().unwrap();
        world.wire(client).capacity = 30_000;
        let request = format!(
            "GET /events/multipart?topics=cam,a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        );
        world.feed(client, request.as_bytes());
        world.settle();
        for seed in 2..9 {
            publish(&mut world, "cam", &picture(seed, 100_000));
            // Its place in the log is lost, and nothing of the picture that it has begun.
            (0..50).for_each(|value| {
                world.publish("a", &value.to_string());
            });
            world.settle();
        }
        world.wire(client).capacity = usize::MAX;
        let seen = if fields == IMAGES { seen_alone } else { seen };
        let parts = seen(&mut world, client);
        let pictures: Vec<_> = parts.iter().filter(|part| part.0 == "image/png").collect();
        assert_eq!(pictures.len(), 2, "{fields}");
        assert!(pictures[0].1 == picture(1, 100_000) && pictures[1].1 == picture(8, 100_000));
        assert_eq!(parts.len() == 2, fields == IMAGES);
        publish(&mut world, "cam", b"x");
        assert_eq!(
            seen(&mut world, client),
            [("image/png".to_owned(), b"x".to_vec())]
        );
        world.check_nothing_leaks();
    }
}

#[test]
fn many_viewers_at_many_speeds_see_whole_pictures_in_order() {
    let mut world = world(|s| s.picture_bytes = 20_000);
    let clients: Vec<_> = (0..12)
        .map(|n| {
            let fields = if n % 2 == 0 { IMAGES } else { "" };
            let query = if n % 3 == 0 {
                "topics=cam&interval=0.5"
            } else {
                "topics=cam,a"
            };
            let client = view(&mut world, query, fields);
            world.wire(client).capacity = 700 * (n + 1);
            (client, Vec::new())
        })
        .collect();
    let mut clients = clients;
    let mut taken = 0;
    for seed in 0..60u8 {
        let body = [&[seed][..], &picture(seed, 1_000 + 150 * usize::from(seed))].concat();
        let answer = ask(&mut world, &put("cam", "image/png", &body, ""));
        taken += u32::from(status(&answer) == 200);
        world.publish("a", &seed.to_string());
        world.pass(50);
        for (client, bytes) in &mut clients {
            bytes.extend(world.take_some(*client, 400 * usize::from(seed % 7)));
        }
        world.settle();
    }
    assert!(taken > 3, "{taken}");
    for (client, mut bytes) in clients {
        world.wire(client).capacity = usize::MAX;
        world.pass(1_000);
        bytes.extend(heard(&mut world, client));
        let body = unchunked(&bytes);
        let is_alone = !body.windows(5).any(|window| window == b"hello");
        let parts = if is_alone {
            alone(&body)
        } else {
            stream_parts(&body)
        };
        let mut last = None;
        for (media, body) in parts {
            if media != "image/png" {
                continue;
            }
            let seed = body[0];
            assert!(last < Some(seed), "{client}: {seed} behind {last:?}");
            assert!(body[1..] == picture(seed, 1_000 + 150 * usize::from(seed)));
            last = Some(seed);
        }
        assert!(last.is_some(), "{client}");
    }
    world.check_nothing_leaks();
}

#[test]
fn a_viewer_that_goes_lets_go_of_its_picture() {
    for how in ["reset", "vanish", "drain"] {
        let mut world = world(|_| ());
        publish(&mut world, "cam", &picture(1, 100_000));
        let client = world.connect().unwrap();
        world.wire(client).capacity = 30_000;
        world.feed(
            client,
            b"GET /events/multipart HTTP/1.0\r\nHost: localhost\r\n\r\n",
        );
        world.settle();
        assert_eq!(world.peers.hub.pictures.in_use(), 1);
        match how {
            "reset" => world.reset(client),
            "vanish" => {
                world.vanish(client);
                world.take(client);
            }
            _ => world.peers.drain(),
        }
        world.settle();
        assert!(world.wire(client).closed, "{how}");
        // Without an end of its own, only a reset says that this was not all.
        assert!(how == "vanish" || world.wire(client).aborted);
        world.check_nothing_leaks();
    }
}
