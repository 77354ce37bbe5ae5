//! All peers over sockets that are none: whatever clients send however it is cut, and whatever else
//! happens, nobody panics, nothing leaks, each answer fits its request by a second reading of both,
//! one client's answers do not depend on how its bytes arrived, and nobody is told of a topic that
//! is not its to read.

use encke::access::{Policy, Token};
use encke::buffer::Writer;
use encke::hub::event::State;
use encke::limits::{ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX};
use encke::peers::{InUse, Settings};
use encke::wire::json;

use super::answers::{Answer, Excuse, read, requests};
use super::pieces::ways;
use super::program::{Act, Bug, CLIENTS, Step, steps};
use super::world::{ENDLESS, EPOCH_MS, World, a_proxy, settings, token};

/// Where clients are: here, near, far, at a proxy that is trusted in some worlds.
const ADDRESSES: [&str; 5] = [
    "127.0.0.1",
    "192.168.1.9",
    "8.8.8.8",
    "192.0.2.1",
    "2001:db8::9",
];
/// Strangers, whatever their heads say, unless they have a token.
const FAR: [&str; 2] = ["8.8.8.8", "2001:db8::9"];
/// A topic that only one token may read, and all it ever says; no client says such things.
const HIDDEN: &str = "zqhid/den";
const SAID: &str = "zq81zq";
/// What shows the token that may read it, and the one that reads some.
const ALL: &str = "4ll";
const SOME: &str = "s0me";

const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "b", "b/c", "c"];
/// How much a step of time is.
const WAITS_MS: [u64; 8] = [1, 90, 400, 1_100, 5_100, 11_000, 16_000, 31_000];
/// How much a socket takes.
const ROOMS: [usize; 8] = [0, 1, 17, 100, 1_000, 3_000, 20_000, ENDLESS];

pub(crate) fn check(input: &[u8]) {
    watch(input, &mut |_| ());
}

/// As `check`; shows the world behind each step.
pub(crate) fn watch(input: &[u8], show: &mut dyn FnMut(&World)) {
    let (first, program) = input.split_first().unwrap_or((&0, &[]));
    let bug = Bug::chosen();
    let mut run = Run::new(*first, bug);
    for step in steps(program) {
        run.step(step);
        show(&run.world);
    }
    run.end();
    alone(*first, program, bug);
}

/// What the first client sends comes to the same however it arrives, when nothing else happens.
fn alone(first: u8, program: &[u8], bug: Bug) {
    let of_first = steps(program)
        .filter(|step| step.client == 0 && matches!(step.act, Act::Send(_) | Act::SendEarly));
    let bytes: Vec<u8> = of_first
        .flat_map(|step| step.bytes.iter().copied())
        .collect();
    if bytes.is_empty() {
        return;
    }
    let heard = ways(&bytes, u32::from(first)).map(|pieces| {
        let mut run = Run::new(first, bug);
        for piece in pieces {
            run.send(0, piece);
            run.world.settle();
        }
        let answers = run.heard(0);
        (answers, run.clients[0].is_over)
    });
    for (way, one) in heard.iter().enumerate().skip(1) {
        assert_eq!(*one, heard[0], "cut in the way {way}");
    }
}

/// A client's end of its connection.
#[derive(Debug, Default)]
struct Client {
    connection: usize,
    address: &'static str,
    sent: Vec<u8>,
    got: Vec<u8>,
    /// The server has ended the connection.
    is_over: bool,
    /// It did something for which it may go without an answer.
    is_at_fault: bool,
}

struct Run {
    world: World,
    clients: [Client; CLIENTS],
    bug: Bug,
    is_draining: bool,
    rights: u8,
    /// Somebody else has said what only the hidden topic says.
    is_told: bool,
}

fn has(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len());
    windows.any(|window| window == text.as_bytes())
}

/// The rights that there are in a world: all may be read from near, some, or nothing; some behind
/// a trusted proxy.
fn policy(rights: u8) -> Policy {
    let some = ["a/#", "b/#", "c/#", "t/#"].map(str::to_owned).to_vec();
    let mut policy = Policy {
        tokens: tokens(),
        jsonp: vec!["#".into()],
        ..settings().policy
    };
    match rights % 4 {
        0 => {}
        1 => policy.read = some,
        2 => policy.read.clear(),
        _ => (policy.read, policy.proxies) = (some, a_proxy()),
    }
    policy
}

fn tokens() -> Vec<Token> {
    let mut ends = token("ends", "3nds", "a/#", "#");
    ends.grant.until_s = Some(EPOCH_MS / 1000 + 20);
    vec![
        token("all", ALL, "#", "#"),
        token("some", SOME, "a/# c", "b/#"),
        ends,
    ]
}

impl Run {
    fn new(first: u8, bug: Bug) -> Run {
        let pick = |shift: u8, of: [u32; 4]| of[usize::from(first >> shift) & 3];
        // As many places as clients at least.
        let world = World::new(Settings {
            viewers: pick(0, [16, 3, 2, 1]),
            pages: pick(0, [8, 1, 2, 3]) as u16,
            ring_bytes: pick(4, [256, 9, 10, 20]) as usize * 1024,
            topics: 20,
            pictures: 1,
            picture_bytes: 1024,
            sends_per_turn: pick(6, [512, 1, 2, 5]),
            policy: policy(first >> 2),
            ..settings()
        });
        let mut run = Run {
            world,
            clients: Default::default(),
            bug,
            is_draining: false,
            rights: first >> 2 & 3,
            is_told: false,
        };
        for (topic, value) in [("a/b", "1"), ("a/b/c", "\"\\u00e4<\""), ("b", "{\"x\":[]}")] {
            run.publish(topic, value.as_bytes());
        }
        run.say_in_secret();
        run.world.settle();
        (0..CLIENTS).for_each(|client| run.connect(client, ADDRESSES[0]));
        run
    }

    fn connect(&mut self, client: usize, address: &'static str) {
        let connection = self.world.connect_from(address);
        self.clients[client] = Client {
            connection: connection.expect("there is a place for each"),
            address,
            ..Client::default()
        };
    }

    fn say_in_secret(&mut self) {
        self.publish(HIDDEN, format!("\"{SAID}\"").as_bytes());
    }

    /// Nobody was told what it may not know. Clients say of themselves which token they have.
    fn keeps_secrets(&self, client: usize) {
        let Client {
            address, sent, got, ..
        } = &self.clients[client];
        let may_know = self.is_told || has(sent, ALL) || self.rights == 0 && !FAR.contains(address);
        let forms = ["\"topic\":\"", "topic=\"", "<td>", "<topic>"]
            .map(|before| format!("{before}{HIDDEN}"));
        let knows = has(got, SAID) || forms.iter().any(|form| has(got, form));
        assert!(may_know || !knows, "{address}: {}", got.escape_ascii());
        let is_stranger = FAR.contains(address) && !has(sent, ALL) && !has(sent, SOME);
        if is_stranger && !has(sent, "3nds") {
            assert!(!has(got, "\"topic\":"), "{}", got.escape_ascii());
        }
    }

    /// Another configuration: nobody near may read anything, or as at first.
    fn change_rights(&mut self, is_closed: bool) {
        let mut policy = policy(self.rights);
        if is_closed {
            policy.read.clear();
            policy.tokens.truncate(1);
        }
        self.world.peers.set_policy(policy);
        for client in &mut self.clients {
            client.is_at_fault = true;
        }
    }

    fn publish(&mut self, topic: &str, value: &[u8]) {
        let now = self.world.now();
        let mut room = [0; EVENT_BYTES_MAX];
        let mut out = Writer::new(&mut room);
        // What is no JSON, or too long, is not published.
        if json::canonical(value, &mut out).is_ok() {
            let value = out.written();
            let _ = self.world.peers.hub.publish(topic, value, State::Ok, now);
        }
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let client = &mut self.clients[client];
        if self.world.wire(client.connection).finished {
            client.is_over = true;
        } else if !bytes.is_empty() && !client.is_over {
            client.sent.extend_from_slice(bytes);
            self.world.feed(client.connection, &self.bug.pass(bytes));
        }
    }

    fn step(&mut self, step: Step<'_>) {
        let Step { client, act, bytes } = step;
        self.is_told |= has(bytes, &SAID[2..5]);
        let first = bytes.first().copied().unwrap_or_default();
        let connection = self.clients[client].connection;
        let value = if bytes.len() > 1 { &bytes[1..] } else { b"7" };
        let topic = TOPICS[usize::from(first) % TOPICS.len()];
        match act {
            Act::Send(most) => {
                for packet in bytes.chunks(most) {
                    self.send(client, packet);
                    self.world.settle();
                }
            }
            Act::SendEarly => return self.send(client, bytes),
            Act::Publish => {
                self.publish(topic, value);
                self.say_in_secret();
            }
            Act::Burst => {
                let bytes = EVENT_BYTES_MAX / if first < 128 { 8 } else { 1 } - ENVELOPE_BYTES_MAX;
                let long = [b"\"", &vec![b'x'; bytes][..], b"\""].concat();
                for number in 0..first % 32 {
                    self.publish(&format!("t/{}", number % 16), &long);
                }
            }
            Act::Pass => self
                .world
                .pass(WAITS_MS[usize::from(first) % WAITS_MS.len()]),
            Act::HalfClose => self.world.half_close(connection),
            Act::Reset => self.gone(client, World::reset),
            Act::Vanish => self.gone(client, World::vanish),
            Act::Narrow => {
                self.clients[client].is_at_fault = true;
                let wire = self.world.wire(connection);
                wire.capacity = ROOMS[usize::from(first) % ROOMS.len()];
                wire.gulp = ROOMS[1 + usize::from(first >> 3) % (ROOMS.len() - 1)];
            }
            Act::Take => {
                let got = self
                    .world
                    .take_some(connection, 1 + usize::from(first) * 16);
                self.clients[client].got.extend(got);
            }
            Act::Connect => {
                self.finish(client);
                self.connect(client, self.clients[client].address);
            }
            Act::Forget => {
                let now = self.world.now();
                self.world.peers.hub.restate(topic, State::Gone, now);
            }
            Act::Drain if !self.is_draining => {
                self.is_draining = true;
                self.world.peers.drain();
            }
            Act::Drain => {}
            Act::Wall if first & 6 == 6 => self.change_rights(first % 2 == 1),
            Act::Wall => self.world.set_wall(first % 2 == 1),
            Act::Nudge => self.world.nudge(connection),
            Act::Remote => {
                self.finish(client);
                self.connect(client, ADDRESSES[usize::from(first) % ADDRESSES.len()]);
            }
        }
        self.world.settle();
    }

    fn gone(&mut self, client: usize, how: fn(&mut World, usize)) {
        self.clients[client].is_at_fault = true;
        how(&mut self.world, self.clients[client].connection);
    }

    /// All that a client has got, as answers to what it sent.
    fn heard(&mut self, client: usize) -> Vec<Answer> {
        let connection = self.clients[client].connection;
        let got = self.world.take(connection);
        self.clients[client].got.extend(got);
        self.keeps_secrets(client);
        let client = &mut self.clients[client];
        let wire = self.world.wire(connection);
        client.is_over |= wire.finished;
        let excuse = Excuse {
            is_cut: client.is_at_fault,
            may_close: self.is_draining,
            is_unended: !wire.finished || wire.aborted || wire.vanished,
        };
        read(&client.got, &requests(&client.sent), excuse)
    }

    /// Whether a client has all the answers it is to get.
    fn is_answered(&mut self, client: usize) -> bool {
        let answers = self.heard(client);
        let Client {
            sent, is_at_fault, ..
        } = &self.clients[client];
        *is_at_fault
            || self.world.peers.counters.evicted > 0
            || answers.last().is_some_and(Answer::is_last)
            || answers.len() >= requests(sent).len()
    }

    /// A client takes all there is, and leaves.
    fn finish(&mut self, client: usize) {
        self.heard(client);
        self.clients[client].is_over = true;
        self.world.reset(self.clients[client].connection);
        self.world.settle();
    }

    /// Everybody reads, and waits until there is nothing more to come; then everybody leaves.
    fn end(&mut self) {
        // A poll is held for a minute, and others may stand behind it.
        let sent = self
            .clients
            .iter()
            .map(|client| requests(&client.sent).len());
        let minutes = 1 + sent.max().unwrap_or_default() as u64;
        let waits_ms = [1; 30].into_iter().chain((0..2 * minutes).map(|_| 31_000));
        for ms in waits_ms {
            for client in &mut self.clients {
                let wire = self.world.wire(client.connection);
                (wire.capacity, wire.gulp) = (ENDLESS, ENDLESS);
                client.got.extend(self.world.take(client.connection));
            }
            if ms > 1 && (0..CLIENTS).all(|client| self.is_answered(client)) {
                break;
            }
            self.world.pass(ms);
        }
        for client in 0..CLIENTS {
            assert!(self.is_answered(client), "{:?}", self.clients[client]);
            self.finish(client);
        }
        self.world.pass(61_000);
        let peers = &self.world.peers;
        let nothing = InUse {
            slots: 0,
            exchanges: 0,
            spills: 0,
        };
        assert_eq!(peers.in_use(), nothing, "what is left");
        assert_eq!(peers.hub.audiences.len(), 0, "audiences left");
        assert_eq!(peers.counters.viewers, [0; 16], "viewers left");
    }
}
