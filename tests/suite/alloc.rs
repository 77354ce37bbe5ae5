//! Nothing allocates between a published event and a socket: counted, on this thread, by the
//! allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use encke::access::{Peer, Policy};
use encke::hub::Now;
use encke::hub::event::{State, Time};
use encke::peers::{Outlet, Peers, Received, Sent, Settings};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by its signature")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Takes everything, but for sockets that are `full`; gives what was put in; allocates nothing once
/// its buffers have grown.
#[derive(Debug)]
struct Sink {
    input: Vec<Vec<u8>>,
    /// How many bytes each socket takes still.
    room: Vec<usize>,
    sent: u64,
    last: Vec<u8>,
}

impl Sink {
    fn new(slots: usize) -> Sink {
        Sink {
            input: (0..slots).map(|_| Vec::with_capacity(512)).collect(),
            room: vec![usize::MAX; slots],
            sent: 0,
            last: Vec::new(),
        }
    }
}

impl Outlet for Sink {
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent {
        let room = &mut self.room[slot as usize];
        let taken = bytes.len().min(*room);
        if *room < usize::MAX {
            *room -= taken;
        }
        self.sent += 1;
        self.last.clear();
        self.last.extend_from_slice(&bytes[..taken]);
        Sent::Bytes(taken)
    }

    fn recv(&mut self, slot: u32, into: &mut [u8]) -> Received {
        let input = &mut self.input[slot as usize];
        if input.is_empty() {
            return Received::Nothing;
        }
        into[..input.len()].copy_from_slice(input);
        let bytes = input.len();
        input.clear();
        Received::Bytes(bytes)
    }

    fn shut(&mut self, _: u32) {}

    fn close(&mut self, _: u32) {}

    fn peer(&mut self, _: u32) -> Peer {
        Peer {
            address: [127, 0, 0, 1].into(),
            secure: false,
        }
    }
}

fn now(ms: u64) -> Now {
    Now {
        time: Time::Wall(1_700_000_000_000 + ms),
        ms,
    }
}

fn ask(peers: &mut Peers<Sink>, slot: u32, request: &[u8]) {
    peers.outlet.input[slot as usize].extend_from_slice(request);
    peers.readable(slot);
}

fn settings(sends_per_turn: u32) -> Settings {
    Settings {
        viewers: 200,
        pages: 64,
        ring_bytes: 65_536,
        topics: 64,
        pictures: 2,
        picture_bytes: 131_072,
        heartbeat_ms: 15_000,
        presence: vec!["room/#".into()],
        board: "board".into(),
        push_host: "",
        policy: Policy {
            jsonp: vec!["#".into()],
            ..Policy::default()
        },
        seed: 1,
        sends_per_turn,
    }
}

const POST: &[u8] = b"POST /topics/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 21\r\n\r\n{\"x\": [1, 2.5, \"\xc3\xa4\"]}";

#[test]
fn an_event_reaches_its_viewers_without_an_allocation() {
    let mut peers = Peers::new(settings(512), Sink::new(200), now(0));
    let poster = peers.accept().unwrap();
    for path in ["/events/sse", "/events/stream"] {
        for version in ["1.1\r\nHost: localhost", "1.0"] {
            for _ in 0..25 {
                let slot = peers.accept().unwrap();
                ask(
                    &mut peers,
                    slot,
                    format!("GET {path} HTTP/{version}\r\n\r\n").as_bytes(),
                );
            }
        }
    }
    let polls: Vec<u32> = (0..20).map(|_| peers.accept().unwrap()).collect();
    let (mut allocations, mut deliveries) = (0, 0);
    for ms in 0..5_100u64 {
        peers.set_now(now(ms));
        // Asking again is the client's doing: its text is made outside of what is counted.
        let texts: Vec<Vec<u8>> = polls
            .iter()
            .map(|_| {
                let (log, head) = (peers.hub.log_name(), peers.hub.head());
                format!("GET /events/poll?since={log}-{head} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .into_bytes()
            })
            .collect();
        let (before, sent) = (ALLOCATIONS.with(Cell::get), peers.outlet.sent);
        for (&slot, text) in polls.iter().zip(&texts) {
            ask(&mut peers, slot, text);
        }
        ask(&mut peers, poster, POST);
        peers.hub.publish("c", b"1", State::Ok, now(ms)).unwrap();
        peers.run_queue();
        peers.sweep();
        peers.flush();
        if ms >= 100 {
            allocations += ALLOCATIONS.with(Cell::get) - before;
            deliveries += peers.outlet.sent - sent;
        }
    }
    // One send for the post, one for each of 100 viewers, one for each of 20 polls.
    assert_eq!(deliveries, 5_000 * 121);
    assert_eq!(allocations, 0, "over {deliveries} sends");
    assert_eq!(peers.counters.refused, 0);
}

/// What viewers want; each gets something in each turn.
const WISHES: [&str; 4] = ["", "&topics=a/b", "&topics=c", "&topics=a/%2B,c"];
const VIEWERS: u32 = 120;

/// Which versions a way is asked in, and how often.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Once, in both versions.
    Stream,
    /// Once, in HTTP/1.1.
    Socket,
    /// Again after each answer.
    Poll,
}

/// A way to ask: the path and the start of the query, fields, and its kind.
struct Way(&'static str, &'static str, Kind);

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const WAYS: [Way; 9] = [
    Way("/events/sse?", "", Kind::Stream),
    Way("/events/stream?", "", Kind::Stream),
    Way("/events/multipart?", "", Kind::Stream),
    Way(
        "/events/iframe?callback=parent.f&limit=1e9",
        "",
        Kind::Stream,
    ),
    Way("/events/ws?", UPGRADE, Kind::Socket),
    Way("/events/ws?format=postcard", UPGRADE, Kind::Socket),
    Way("/events/poll?", "", Kind::Poll),
    Way("/events/poll?", "Accept: application/xml\r\n", Kind::Poll),
    Way("/events/jsonp?callback=f", "", Kind::Poll),
];

fn question(peers: &Peers<Sink>, Way(path, field, kind): &Way, viewer: u32) -> Vec<u8> {
    let wish = WISHES[viewer as usize % 4];
    let host = "1.1\r\nHost: localhost";
    let version = match viewer / 4 % 2 {
        0 if *kind == Kind::Stream => "1.0",
        _ => host,
    };
    let (log, head) = (peers.hub.log_name(), peers.hub.head());
    let target = format!("{path}&since={log}-{head}{wish}");
    format!("GET {target} HTTP/{version}\r\n{field}\r\n").into_bytes()
}

/// All that happens in a turn, and in those that it leaves work for.
fn turns(peers: &mut Peers<Sink>) {
    loop {
        peers.run_queue();
        peers.sweep();
        peers.flush();
        if !peers.is_eager() {
            return;
        }
    }
}

/// Several audiences in several slices, of which every seventh viewer is blocked for a while.
fn count(way: &Way) {
    let Way(path, _, kind) = *way;
    let mut peers = Peers::new(settings(50), Sink::new(200), now(0));
    let poster = peers.accept().unwrap();
    let viewers: Vec<u32> = (0..VIEWERS).map(|_| peers.accept().unwrap()).collect();
    ask(&mut peers, poster, POST);
    peers.hub.publish("c", b"1", State::Ok, now(0)).unwrap();
    let (mut allocations, mut deliveries) = (0, 0);
    for ms in 1..600 {
        peers.set_now(now(ms));
        let asks = ms == 1 || kind == Kind::Poll;
        let questions: Vec<_> = viewers
            .iter()
            .filter(|_| asks)
            .map(|viewer| question(&peers, way, *viewer))
            .collect();
        let before = (
            ALLOCATIONS.with(Cell::get),
            peers.outlet.sent,
            peers.counters.deliveries,
        );
        for (slot, question) in viewers.iter().zip(&questions) {
            ask(&mut peers, *slot, question);
        }
        let is_blocked = |slot: u32| u64::from(slot) % 7 == ms % 7;
        for slot in viewers.iter().filter(|slot| is_blocked(**slot)) {
            peers.outlet.room[*slot as usize] = (ms as usize * 31 + *slot as usize) % 400;
        }
        ask(&mut peers, poster, POST);
        peers.hub.publish("c", b"1", State::Ok, now(ms)).unwrap();
        turns(&mut peers);
        for slot in viewers.iter().filter(|slot| is_blocked(**slot)) {
            peers.outlet.room[*slot as usize] = usize::MAX;
            peers.writable(*slot);
        }
        turns(&mut peers);
        if ms >= 100 {
            allocations += ALLOCATIONS.with(Cell::get) - before.0;
            deliveries += peers.counters.deliveries - before.2;
            let sends = peers.outlet.sent - before.1;
            assert!(sends > u64::from(VIEWERS), "{sends} in a turn");
        }
    }
    assert!(deliveries >= 50_000, "{path}: {deliveries}");
    assert_eq!(allocations, 0, "{path}: over {deliveries} deliveries");
    let counters = &peers.counters;
    assert_eq!(
        (counters.refused, counters.evicted, counters.peers),
        (0, 0, VIEWERS + 1)
    );
}

#[test]
fn slices_audiences_and_blocked_viewers_need_no_allocation() {
    WAYS.iter().for_each(count);
}
