//! Playing transcripts: what any driver must be able to do, and the virtual world as a driver.

use std::collections::BTreeMap;

use encke::peers::Settings;

use super::transcript::{Action, Piece, Step, Transcript};
use super::world::{self, World};

/// What plays transcripts: the virtual world, or a real server.
pub(crate) trait Driver {
    /// Opens the connection with this number.
    fn connect(&mut self, connection: usize);
    /// Sends a packet, and lets the server do what it can.
    fn send(&mut self, connection: usize, bytes: &[u8]);
    /// Takes everything that has come; where time is real, waits for this many bytes.
    fn receive(&mut self, connection: usize, wanted: usize) -> Vec<u8>;
    /// Whether the server has ended the connection; where time is real, waits for it.
    fn is_ended(&mut self, connection: usize, wanted: bool) -> bool;
    /// Lets time pass.
    fn pass(&mut self, ms: u64);
    /// Does something else; publishing waits for the end of the turn.
    fn act(&mut self, connection: usize, action: &Action);
    /// Ends the turn that `act` began.
    fn turn(&mut self);
    /// Bytes as they are compared: a real clock's times are made equal.
    fn comparable(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

impl Transcript {
    /// Plays every step; panics at the first that does not go as it is written.
    pub(crate) fn play(&self, driver: &mut impl Driver) {
        let mut play = Play {
            transcript: self,
            driver,
            line: 0,
            connection: 1,
            connections: Vec::new(),
        };
        let mut steps = self.steps.iter().peekable();
        let mut in_turn = false;
        while let Some((line, step)) = steps.next() {
            play.line = *line;
            match step {
                Step::Connection(number) => play.connection = *number,
                Step::Send(bytes) => {
                    let mut bytes = bytes.clone();
                    while let Some((_, Step::Send(more))) = steps.peek() {
                        bytes.extend(more);
                        steps.next();
                    }
                    play.send(&bytes);
                }
                Step::Expect(pieces) => {
                    let mut pieces = pieces.clone();
                    while let Some((_, Step::Expect(more))) = steps.peek() {
                        pieces.extend(more.iter().cloned());
                        steps.next();
                    }
                    play.expect(&pieces);
                }
                Step::ExpectClose => play.expect_close(),
                Step::Pass(ms) => {
                    play.check_quiet();
                    play.driver.pass(*ms);
                }
                Step::Act(action @ Action::From(_)) => play.act(action),
                Step::Act(action) => {
                    if !in_turn {
                        play.check_quiet();
                    }
                    play.act(action);
                    let publishes = |step: &Step| matches!(step, Step::Act(Action::Publish { .. }));
                    in_turn =
                        publishes(step) && steps.peek().is_some_and(|(_, next)| publishes(next));
                    if !in_turn {
                        play.driver.turn();
                    }
                }
            }
        }
        play.check_quiet();
    }
}

/// The same pieces, no two of bytes in a row.
fn joined(pieces: &[Piece]) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Bytes(bytes)), Piece::Bytes(more)) => bytes.extend(more),
            _ => joined.push(piece.clone()),
        }
    }
    joined
}

/// A text for a person: long runs of one character are counted, not shown.
fn shortened(text: &str) -> String {
    let runs = text.as_bytes().chunk_by(|a, b| a == b);
    runs.map(|run| match run.len() {
        0..40 => String::from_utf8_lossy(run).into_owned(),
        count => format!("[{count} times {}]", run[0] as char),
    })
    .collect()
}

/// One connection as the transcript has it.
#[derive(Default)]
struct Seen {
    open: bool,
    ended: bool,
    stalled: bool,
}

struct Play<'t, D> {
    transcript: &'t Transcript,
    driver: &'t mut D,
    line: usize,
    connection: usize,
    connections: Vec<Seen>,
}

impl<D: Driver> Play<'_, D> {
    fn place(&self) -> String {
        format!(
            "{}:{} @{}",
            self.transcript.name, self.line, self.connection
        )
    }

    fn seen(&mut self) -> &mut Seen {
        let connection = self.connection;
        if self.connections.len() <= connection {
            self.connections.resize_with(connection + 1, Seen::default);
        }
        if !self.connections[connection].open {
            self.connections[connection].open = true;
            self.driver.connect(connection);
        }
        &mut self.connections[connection]
    }

    fn send(&mut self, bytes: &[u8]) {
        self.check_quiet();
        self.seen();
        self.driver.send(self.connection, bytes);
    }

    fn act(&mut self, action: &Action) {
        let connection = self.connection;
        match action {
            Action::Stall(_) => self.seen().stalled = true,
            Action::HalfClose => self.seen().stalled = false,
            Action::Reset | Action::Vanish => {
                *self.seen() = Seen {
                    open: true,
                    ended: true,
                    stalled: true,
                }
            }
            _ => {}
        }
        self.driver.act(connection, action);
    }

    fn expect(&mut self, pieces: &[Piece]) {
        let pieces = &joined(pieces);
        self.seen().stalled = false;
        let wanted = pieces.iter().map(Piece::len).sum();
        let bytes = self.driver.receive(self.connection, wanted);
        let bytes = self.driver.comparable(bytes);
        let mut rest = &bytes[..];
        for piece in pieces {
            let matches = match piece {
                Piece::Bytes(want) => rest.starts_with(&self.driver.comparable(want.clone())),
                Piece::Number { from, to } => {
                    let digits = rest.get(..piece.len()).unwrap_or_default();
                    let number = core::str::from_utf8(digits)
                        .ok()
                        .and_then(|d| d.parse().ok());
                    number.is_some_and(|n: u64| (*from..=*to).contains(&n))
                }
            };
            if !matches {
                self.fail(pieces, &bytes);
            }
            rest = &rest[piece.len()..];
        }
        if !rest.is_empty() {
            self.fail(pieces, &bytes);
        }
    }

    fn fail(&self, pieces: &[Piece], bytes: &[u8]) -> ! {
        let want: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Bytes(bytes) => self
                    .driver
                    .comparable(bytes.clone())
                    .escape_ascii()
                    .to_string(),
                Piece::Number { from, to } => format!("{{{from}..{to}}}"),
            })
            .collect();
        let came = bytes.escape_ascii().to_string();
        let same = want
            .bytes()
            .zip(came.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let show = |text: &str| shortened(text).replace("\\n", "\\n\n");
        panic!(
            "{}: want {} bytes, got {}\n--- want\n{}\n--- got\n{}\n--- they part here: {}",
            self.place(),
            pieces.iter().map(Piece::len).sum::<usize>(),
            bytes.len(),
            show(&want),
            show(&came),
            &came[same..came.len().min(same + 80)],
        );
    }

    fn expect_close(&mut self) {
        self.seen().ended = true;
        assert!(
            self.driver.is_ended(self.connection, true),
            "{}: the server keeps the connection",
            self.place()
        );
        // As any client does.
        self.driver.act(self.connection, &Action::HalfClose);
        self.driver.turn();
    }

    /// Nothing has come that was not expected, and nobody was closed.
    fn check_quiet(&mut self) {
        for connection in 0..self.connections.len() {
            let seen = &self.connections[connection];
            if !seen.open || seen.stalled {
                continue;
            }
            let ended = seen.ended;
            let bytes = self.driver.receive(connection, 0);
            assert!(
                bytes.is_empty(),
                "{} before line {}: connection {connection} got unexpected {}",
                self.transcript.name,
                self.line,
                bytes.escape_ascii()
            );
            assert_eq!(
                self.driver.is_ended(connection, ended),
                ended,
                "{} before line {}: connection {connection}: closed or not",
                self.transcript.name,
                self.line
            );
        }
    }
}

/// How the virtual world hands bytes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A packet as it stands.
    Whole,
    /// A packet for each byte.
    Bytes,
    /// A packet as it stands, to a server whose sends take 7 bytes at most.
    Trickle,
}

/// The virtual world as a driver.
pub(crate) struct Virtual {
    pub(crate) world: World,
    cut: Cut,
    clients: Vec<Option<usize>>,
    /// Where connections come from, if not from this machine.
    addresses: BTreeMap<usize, String>,
}

impl Virtual {
    pub(crate) fn new(settings: Settings, cut: Cut) -> Virtual {
        Virtual {
            world: World::new(settings),
            cut,
            clients: Vec::new(),
            addresses: BTreeMap::new(),
        }
    }

    fn client(&self, connection: usize) -> Option<usize> {
        self.clients.get(connection).copied().flatten()
    }
}

impl Driver for Virtual {
    fn connect(&mut self, connection: usize) {
        if self.clients.len() <= connection {
            self.clients.resize(connection + 1, None);
        }
        let client = match self.addresses.get(&connection) {
            Some(address) => self.world.connect_from(address).ok(),
            None => self.world.connect(),
        };
        self.clients[connection] = client;
        if let Some(client) = client
            && self.cut == Cut::Trickle
        {
            self.world.wire(client).gulp = 7;
        }
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) {
        let Some(client) = self.client(connection) else {
            return;
        };
        if self.cut == Cut::Bytes {
            for byte in bytes {
                self.world.feed(client, &[*byte]);
                self.world.settle();
            }
        } else {
            self.world.feed(client, bytes);
            self.world.settle();
        }
    }

    fn receive(&mut self, connection: usize, _: usize) -> Vec<u8> {
        let Some(client) = self.client(connection) else {
            return Vec::new();
        };
        let wire = self.world.wire(client);
        wire.capacity = world::ENDLESS;
        let mut bytes = Vec::new();
        loop {
            let more = self.world.take(client);
            self.world.settle();
            if more.is_empty() && self.world.wire(client).outbound.is_empty() {
                return bytes;
            }
            bytes.extend(more);
        }
    }

    fn is_ended(&mut self, connection: usize, _: bool) -> bool {
        match self.client(connection) {
            Some(client) => self.world.wire(client).finished,
            None => true,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.world.pass(ms);
    }

    fn act(&mut self, connection: usize, action: &Action) {
        let client = self.client(connection);
        match (action, client) {
            (
                Action::Publish {
                    topic,
                    value,
                    state,
                },
                _,
            ) => {
                self.world.publish_as(topic, value, *state);
            }
            (Action::Wall(known), _) => self.world.set_wall(*known),
            (Action::Drain, _) => self.world.peers.drain(),
            (Action::From(address), _) => {
                self.addresses.insert(connection, address.clone());
            }
            (Action::Revoke(name), _) => {
                let mut policy = self.world.peers.policy().clone();
                policy.tokens.retain(|token| token.grant.name != *name);
                self.world.peers.set_policy(policy);
            }
            (_, None) => {}
            (Action::Stall(bytes), Some(client)) => {
                let wire = self.world.wire(client);
                wire.capacity = wire.outbound.len() + bytes;
            }
            (Action::HalfClose, Some(client)) => self.world.half_close(client),
            (Action::Reset, Some(client)) => self.world.reset(client),
            (Action::Vanish, Some(client)) => self.world.vanish(client),
        }
    }

    fn turn(&mut self) {
        self.world.settle();
    }
}
