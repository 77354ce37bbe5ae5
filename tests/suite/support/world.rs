//! A server without sockets and clocks: `Peers` over an outlet of byte queues, driven as the event
//! loop drives it, under a clock that only the test moves.
//!
//! A client is named by the number of its connection, which is never used again; slots are. It
//! follows epoll's edges: a peer is told `writable` only after a short send.

use core::net::{IpAddr, Ipv4Addr};

use encke::access::{Friend, Grant, Network, Peer, Policy, Token, Validity};
use encke::hub::Now;
use encke::hub::event::{Seq, State, Time};
use encke::peers::{InUse, Outlet, Peers, Received, Sent, Settings};
use sha2::{Digest, Sha256};

/// Milliseconds since 1970 at which each world begins: Sat, 22 Nov 2025 06:00:34.567 GMT.
pub(crate) const EPOCH_MS: u64 = 1_763_791_234_567;
/// Milliseconds since boot at which each world begins.
pub(crate) const BOOT_MS: u64 = 100_000;
/// Log name `k3f9q2xa`.
pub(crate) const SEED: u64 = 1_574_736_954_958;
/// A socket that never fills.
pub(crate) const ENDLESS: usize = usize::MAX;

/// One connection: two queues of bytes between a client and its slot.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) slot: u32,
    /// On its way to the server.
    inbound: Vec<u8>,
    read: usize,
    /// The client sends no more.
    ended: bool,
    /// The client is gone without a word: the next touch tells.
    pub(crate) vanished: bool,
    /// On its way to the client.
    pub(crate) outbound: Vec<u8>,
    /// How many bytes may be on their way to the client.
    pub(crate) capacity: usize,
    /// How many bytes one send takes.
    pub(crate) gulp: usize,
    /// A send was short, so that room is announced.
    short: bool,
    /// The server sends no more.
    pub(crate) finished: bool,
    /// The server let go of the connection.
    pub(crate) closed: bool,
    /// The server closed while input was unread: a kernel would reset the connection.
    pub(crate) unread: bool,
    /// The server reset the connection: what has come may not be all.
    pub(crate) aborted: bool,
    pub(crate) address: IpAddr,
}

impl Wire {
    fn new(slot: u32, outbound: Vec<u8>) -> Wire {
        Wire {
            slot,
            inbound: Vec::with_capacity(512),
            read: 0,
            ended: false,
            vanished: false,
            outbound,
            capacity: ENDLESS,
            gulp: ENDLESS,
            short: false,
            finished: false,
            closed: false,
            unread: false,
            aborted: false,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// All connections there ever were.
#[derive(Debug, Default)]
pub(crate) struct TestOutlet {
    pub(crate) wires: Vec<Wire>,
    /// The connection in each slot.
    by_slot: Vec<Option<usize>>,
    /// Calls of `send`.
    pub(crate) sends: u64,
}

impl TestOutlet {
    fn wire(&mut self, slot: u32) -> Option<&mut Wire> {
        let client = self.by_slot.get(slot as usize).copied().flatten()?;
        Some(&mut self.wires[client])
    }

    fn insert(&mut self, slot: u32) -> usize {
        let index = slot as usize;
        if index >= self.by_slot.len() {
            self.by_slot.resize(index + 1, None);
        }
        assert_eq!(
            self.by_slot[index], None,
            "slot {slot} is given to two peers"
        );
        let client = self.wires.len();
        self.wires.push(Wire::new(slot, Vec::new()));
        self.by_slot[index] = Some(client);
        client
    }
}

impl Outlet for TestOutlet {
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent {
        self.sends += 1;
        let wire = self
            .wire(slot)
            .expect("a send goes to a peer that is there");
        assert!(!wire.finished, "nothing is sent behind the end");
        assert!(!bytes.is_empty(), "nothing is not sent");
        if wire.vanished {
            return Sent::Gone;
        }
        let room = wire
            .capacity
            .saturating_sub(wire.outbound.len())
            .min(wire.gulp);
        // Behind a short send the socket stays full until the client has read.
        let room = if wire.short { 0 } else { room };
        let sent = room.min(bytes.len());
        wire.outbound.extend_from_slice(&bytes[..sent]);
        wire.short |= sent < bytes.len();
        Sent::Bytes(sent)
    }

    fn recv(&mut self, slot: u32, into: &mut [u8]) -> Received {
        let wire = self.wire(slot).expect("a peer that is there is read");
        assert!(!into.is_empty(), "a kernel would call this the end");
        if wire.vanished {
            return Received::Gone;
        }
        let left = &wire.inbound[wire.read..];
        if left.is_empty() {
            return if wire.ended {
                Received::End
            } else {
                Received::Nothing
            };
        }
        let bytes = left.len().min(into.len());
        into[..bytes].copy_from_slice(&left[..bytes]);
        wire.read += bytes;
        if wire.read == wire.inbound.len() {
            wire.inbound.clear();
            wire.read = 0;
        }
        Received::Bytes(bytes)
    }

    fn shut(&mut self, slot: u32) {
        let wire = self.wire(slot).expect("a peer that is there is shut");
        assert!(!wire.finished, "a side is shut once");
        wire.finished = true;
    }

    fn close(&mut self, slot: u32) {
        let wire = self.wire(slot).expect("a peer that is there is closed");
        wire.unread = wire.read < wire.inbound.len();
        wire.finished = true;
        wire.closed = true;
        self.by_slot[slot as usize] = None;
    }

    fn abort(&mut self, slot: u32) {
        self.wire(slot).expect("a peer that is there").aborted = true;
        self.close(slot);
    }

    fn peer(&mut self, slot: u32) -> Peer {
        let wire = self
            .wire(slot)
            .expect("a peer that is there is asked about");
        Peer {
            address: wire.address,
            secure: false,
        }
    }
}

/// One that is trusted; nobody in these tests has its address.
pub(crate) fn a_proxy() -> Vec<Network> {
    Network::parse("192.0.2.1").into_iter().collect()
}

/// A token; a line of patterns has a space between two.
pub(crate) fn token(name: &str, secret: &str, read: &str, write: &str) -> Token {
    let patterns = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Token {
        grant: Grant {
            name: name.to_owned(),
            read: patterns(read),
            write: patterns(write),
            until_s: None,
        },
        sha256: Sha256::digest(secret).into(),
        validity: Validity::Valid,
    }
}

/// Counts that fit most tests.
pub(crate) fn settings() -> Settings {
    Settings {
        viewers: 16,
        pages: 4,
        ring_bytes: 64 * 1024,
        topics: 64,
        pictures: 2,
        picture_bytes: 8192,
        heartbeat_ms: 15_000,
        presence: vec!["room/#".into()],
        board: "pi".into(),
        push_host: "",
        policy: Policy {
            names: vec!["pi".into(), "pi.local".into()],
            friends: Friend::all(&["http://friend.example".into()], &[]),
            ..Policy::default()
        },
        seed: SEED,
        sends_per_turn: 512,
    }
}

/// `Peers`, their clients' ends, and the time.
pub(crate) struct World {
    pub(crate) peers: Peers<TestOutlet>,
    pub(crate) now_ms: u64,
    wall: bool,
}

impl World {
    /// All clients go; nothing is left of them.
    pub(crate) fn check_nothing_leaks(&mut self) {
        for client in 0..self.peers.outlet.wires.len() {
            self.reset(client);
        }
        self.settle();
        let nothing = InUse {
            slots: 0,
            exchanges: 0,
            spills: 0,
        };
        assert_eq!(self.peers.in_use(), nothing);
        assert_eq!(self.peers.hub.audiences.len(), 0);
        assert_eq!(self.peers.hub.pictures.in_use(), 0);
        assert_eq!(self.peers.counters.viewers, [0; 16]);
    }

    pub(crate) fn new(settings: Settings) -> World {
        let now = time_at(BOOT_MS, true);
        World {
            peers: Peers::new(settings, TestOutlet::default(), now),
            now_ms: BOOT_MS,
            wall: true,
        }
    }

    /// The wall clock is not known from now on, or known again.
    pub(crate) fn set_wall(&mut self, known: bool) {
        self.wall = known;
        self.peers.set_now(self.now());
    }

    pub(crate) fn now(&self) -> Now {
        time_at(self.now_ms, self.wall)
    }

    pub(crate) fn wire(&mut self, client: usize) -> &mut Wire {
        &mut self.peers.outlet.wires[client]
    }

    fn slot(&self, client: usize) -> Option<u32> {
        let wire = &self.peers.outlet.wires[client];
        (!wire.closed).then_some(wire.slot)
    }

    /// A new connection; `None` when the server turns it away.
    pub(crate) fn connect(&mut self) -> Option<usize> {
        let slot = self.peers.accept()?;
        Some(self.peers.outlet.insert(slot))
    }

    /// As `connect`, from an address; what it is told when it is turned away.
    pub(crate) fn connect_from(&mut self, address: &str) -> Result<usize, &'static [u8]> {
        let address = address.parse().expect("an address");
        let slot = self.peers.accept_from(address)?;
        let client = self.peers.outlet.insert(slot);
        self.wire(client).address = address;
        Ok(client)
    }

    /// The client sends bytes, in one packet.
    pub(crate) fn feed(&mut self, client: usize, bytes: &[u8]) {
        let Some(slot) = self.slot(client) else {
            return;
        };
        self.wire(client).inbound.extend_from_slice(bytes);
        self.peers.readable(slot);
    }

    /// The client sends no more.
    pub(crate) fn half_close(&mut self, client: usize) {
        let Some(slot) = self.slot(client) else {
            return;
        };
        self.wire(client).ended = true;
        self.peers.half_closed(slot);
    }

    /// The client's machine says that the connection is no more.
    pub(crate) fn reset(&mut self, client: usize) {
        if let Some(slot) = self.slot(client) {
            self.wire(client).vanished = true;
            self.peers.close(slot);
        }
    }

    /// The connection is no more, but the server learns it only from its next send or receive.
    pub(crate) fn vanish(&mut self, client: usize) {
        self.wire(client).vanished = true;
    }

    /// The client takes what has come, and the server hears of the room.
    pub(crate) fn take(&mut self, client: usize) -> Vec<u8> {
        let taken = core::mem::take(&mut self.wire(client).outbound);
        self.announce_room(client);
        taken
    }

    /// As `take`, of so many bytes at most.
    pub(crate) fn take_some(&mut self, client: usize, bytes: usize) -> Vec<u8> {
        let wire = self.wire(client);
        let bytes = bytes.min(wire.outbound.len());
        let taken = wire.outbound.drain(..bytes).collect();
        if bytes > 0 {
            self.announce_room(client);
        }
        taken
    }

    /// The server hears that there is room, if a send was short and there is.
    pub(crate) fn announce_room(&mut self, client: usize) {
        let slot = self.slot(client);
        let wire = self.wire(client);
        if wire.short && wire.outbound.len() < wire.capacity {
            wire.short = false;
            if let Some(slot) = slot {
                self.peers.writable(slot);
            }
        }
    }

    /// An epoll event that says what was known already.
    pub(crate) fn nudge(&mut self, client: usize) {
        if let Some(slot) = self.slot(client) {
            self.peers.writable(slot);
        }
        if let Some(slot) = self.slot(client) {
            self.peers.readable(slot);
        }
    }

    /// The end of a turn of the loop.
    pub(crate) fn turn(&mut self) {
        self.peers.run_queue();
        self.peers.sweep();
        self.peers.flush();
    }

    /// Turns until nobody can go on without a socket.
    pub(crate) fn settle(&mut self) {
        self.turn();
        let mut turns = 0;
        while self.peers.is_eager() {
            self.turn();
            turns += 1;
            assert!(turns < 100_000, "the run list never empties");
        }
    }

    /// Moves the clock, without a turn.
    pub(crate) fn set_now_ms(&mut self, now_ms: u64) {
        assert!(now_ms >= self.now_ms, "time goes on");
        self.now_ms = now_ms;
        self.peers.set_now(self.now());
    }

    /// Lets time pass, waking when the server wants to be woken.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        loop {
            let wake_ms = self.peers.wake_ms().max(self.now_ms + 1);
            self.set_now_ms(wake_ms.min(until_ms));
            self.settle();
            if self.now_ms == until_ms {
                return;
            }
        }
    }

    /// A source publishes.
    pub(crate) fn publish(&mut self, topic: &str, value: &str) -> Seq {
        self.publish_as(topic, value, State::Ok)
    }

    /// As `publish`, with a state.
    pub(crate) fn publish_as(&mut self, topic: &str, value: &str, state: State) -> Seq {
        let now = self.now();
        let published = self.peers.hub.publish(topic, value.as_bytes(), state, now);
        published.expect("the test publishes what fits")
    }

    /// One request on a connection of its own: everything that came back.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.ask_from("127.0.0.1", request)
    }

    /// As `ask`, from an address.
    pub(crate) fn ask_from(&mut self, address: &str, request: &str) -> String {
        let client = self.connect_from(address);
        let client = client.expect("there is a place for one more");
        self.feed(client, request.as_bytes());
        self.settle();
        let answer = String::from_utf8(self.take(client)).expect("an answer is text");
        self.reset(client);
        answer
    }
}

fn time_at(now_ms: u64, wall: bool) -> Now {
    let time = if wall {
        Time::Wall(EPOCH_MS + now_ms - BOOT_MS)
    } else {
        Time::Uptime(now_ms)
    };
    Now { time, ms: now_ms }
}
