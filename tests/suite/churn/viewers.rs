//! Viewers that hold every byte they hear against a full list of what was published: exactly what
//! they want after their cursor, once and in order, or an explicit loss that is at least as large.

use std::collections::BTreeSet;

use encke::name::matches;
use encke::peers::{InUse, Settings};

use crate::support::client::{Body, Hello, Http, Message, Part, Technique, event_id, seq};
use crate::support::world::{BOOT_MS, ENDLESS, EPOCH_MS, World};

pub(super) const TOPICS: [&str; 3] = ["a", "b", "c/d"];
/// What viewers want, as a query and as patterns.
const SETS: [(&str, &[&str]); 4] = [
    ("", &["#"]),
    ("&topics=a", &["a"]),
    ("&topics=b,c/d", &["b", "c/d"]),
    ("&topics=a&topics=c/%2B", &["a", "c/+"]),
];
/// Longer than a poll is held.
const POLL_S: u64 = 20;

/// How a viewer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// With what is published from now on.
    Live,
    /// With the last event of each topic.
    Snapshot,
    /// Behind what it has seen; as `Live` if that is nothing.
    Resume,
}

/// How a client goes away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Its kernel says so.
    Reset,
    /// It says that it sends no more, and is gone when it is sent something.
    End,
    /// It is gone when it is sent something.
    SendError,
}

pub(super) struct Viewer {
    pub(super) client: Option<usize>,
    technique: Technique,
    set: usize,
    http: Http,
    body: Body,
    /// Everything it wants up to here it has, or was told that it is lost.
    cursor: u64,
    /// What it asked, until that is answered, and the head then.
    asked: Option<(How, u64)>,
    /// Up to here it was promised only the last event of each topic.
    bound: u64,
    caught_up: BTreeSet<u64>,
    /// How many events it was told to be lost, and did not miss yet.
    allowance: u64,
    pub(super) stalled: bool,
    half_closed: bool,
    /// It read nothing for so long that it may be let go.
    too_slow: bool,
    knows: bool,
}

struct Published {
    topic: &'static str,
    text: String,
}

pub(super) struct Viewers {
    pub(super) world: World,
    log: String,
    events: Vec<Published>,
    pub(super) all: Vec<Viewer>,
    publisher: Option<usize>,
    /// Nothing is ever lost, and nobody has to be let go.
    pub(super) roomy: bool,
}

impl Viewers {
    pub(super) fn new(settings: Settings, count: usize) -> Viewers {
        let roomy = settings.ring_bytes >= 1 << 20 && count <= 60;
        let world = World::new(settings);
        let viewer = |_| Viewer {
            client: None,
            technique: Technique::Sse,
            set: 0,
            http: Http::new(),
            body: Body::new(Technique::Sse),
            cursor: 0,
            asked: None,
            bound: 0,
            caught_up: BTreeSet::new(),
            allowance: 0,
            stalled: false,
            half_closed: false,
            too_slow: false,
            knows: false,
        };
        Viewers {
            log: world.peers.hub.log_name().to_string(),
            world,
            events: Vec::new(),
            all: (0..count).map(viewer).collect(),
            publisher: None,
            roomy,
        }
    }

    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// Whether it has everything that it wants.
    pub(super) fn is_caught_up(&self, v: usize) -> bool {
        let newer = &self.events[self.all[v].cursor as usize..];
        !newer.iter().any(|event| self.wants(v, event.topic))
    }

    fn note(&mut self, topic: &'static str, value: &str) {
        let (log, seq) = (&self.log, self.head() + 1);
        let time = EPOCH_MS + self.world.now_ms - BOOT_MS;
        let text =
            format!(r#"{{"id":"{log}-{seq}","topic":"{topic}","time":{time},"value":{value}}}"#);
        self.events.push(Published { topic, text });
        assert_eq!(self.world.peers.hub.head(), self.head());
    }

    /// A source publishes a text of so many bytes.
    pub(super) fn publish(&mut self, topic: usize, bytes: usize) {
        let (topic, value) = (TOPICS[topic], format!("\"{}\"", "x".repeat(bytes)));
        self.world.publish(topic, &value);
        self.note(topic, &value);
    }

    /// A client publishes, over a connection that it keeps.
    pub(super) fn post(&mut self, topic: usize, bytes: usize) {
        let publisher = match self.publisher {
            Some(publisher) if !self.world.wire(publisher).finished => publisher,
            _ => self.world.connect().expect("a page has its place"),
        };
        self.publisher = Some(publisher);
        let (topic, value) = (TOPICS[topic], format!("\"{}\"", "x".repeat(bytes)));
        let length = value.len();
        let request = format!(
            "POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{value}"
        );
        self.world.feed(publisher, request.as_bytes());
        let answer = String::from_utf8(self.world.take(publisher)).expect("an answer is text");
        let id = format!("{{\"id\":\"{}-{}\",", self.log, self.head() + 1);
        assert!(answer.contains(&id), "{id}: {answer}");
        self.note(topic, &value);
    }

    pub(super) fn join(&mut self, v: usize, how: How, technique: Technique, set: usize) {
        if self.all[v].client.is_some() {
            return;
        }
        let Some(client) = self.world.connect() else {
            assert!(!self.roomy, "there is a place for each");
            return;
        };
        let viewer = &mut self.all[v];
        // What it resumes is what it had.
        if how != How::Resume || !viewer.knows {
            viewer.set = set;
        }
        viewer.technique = technique;
        viewer.client = Some(client);
        viewer.http = Http::new();
        (viewer.stalled, viewer.half_closed, viewer.too_slow) = (false, false, false);
        let how = match how {
            How::Resume if !self.all[v].knows => How::Live,
            how => how,
        };
        self.ask(v, how);
    }

    fn ask(&mut self, v: usize, how: How) {
        let head = self.head();
        let viewer = &mut self.all[v];
        let client = viewer.client.expect("who asks is connected");
        viewer.body = Body::new(viewer.technique);
        // Who has seen nothing is fresh, whatever it says.
        let is_fresh = how == How::Resume && viewer.cursor == 0;
        viewer.asked = Some((if is_fresh { How::Snapshot } else { how }, head));
        let mut query = match how {
            How::Live => "snapshot=0".to_owned(),
            How::Snapshot => "snapshot=1".to_owned(),
            How::Resume => format!("since={}-{}", self.log, viewer.cursor),
        };
        query += SETS[viewer.set].0;
        let path = viewer.technique.request().0;
        let request =
            format!("GET {path}{query}&timeout={POLL_S} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.world.feed(client, request.as_bytes());
    }

    /// The client goes away.
    pub(super) fn cut(&mut self, v: usize, how: Cut) {
        let Some(client) = self.all[v].client.take() else {
            return;
        };
        match how {
            Cut::Reset => self.world.reset(client),
            Cut::End => {
                self.world.vanish(client);
                self.world.half_close(client);
            }
            Cut::SendError => self.world.vanish(client),
        }
    }

    /// The client sends no more, and reads on.
    pub(super) fn half_close(&mut self, v: usize) {
        if let Some(client) = self.all[v].client {
            self.all[v].half_closed = true;
            self.world.half_close(client);
        }
    }

    /// From now on the client's socket takes only so much.
    pub(super) fn stall(&mut self, v: usize, capacity: usize, gulp: usize) {
        if let Some(client) = self.all[v].client {
            self.all[v].stalled = true;
            let wire = self.world.wire(client);
            (wire.capacity, wire.gulp) = (capacity, gulp);
        }
    }

    /// The client reads as it did before it stalled.
    pub(super) fn go_on(&mut self, v: usize) {
        if let Some(client) = self.all[v].client {
            self.all[v].stalled = false;
            let wire = self.world.wire(client);
            (wire.capacity, wire.gulp) = (ENDLESS, ENDLESS);
            self.world.announce_room(client);
        }
    }

    /// Time passes, in which those who stall read nothing.
    pub(super) fn pass(&mut self, ms: u64) {
        for viewer in self.all.iter_mut().filter(|viewer| viewer.stalled) {
            viewer.too_slow |= ms > 10_000;
        }
        self.world.pass(ms);
    }

    /// Everybody who does not stall reads everything.
    pub(super) fn read_all(&mut self) {
        for v in 0..self.all.len() {
            while !self.all[v].stalled && self.read(v, usize::MAX) {}
        }
    }

    /// Reads so many bytes at most; whether there were any.
    pub(super) fn read(&mut self, v: usize, most: usize) -> bool {
        let Some(client) = self.all[v].client else {
            return false;
        };
        let bytes = self.world.take_some(client, most);
        for part in self.all[v].http.feed(&bytes) {
            self.part(v, part);
        }
        let wire = self.world.wire(client);
        if wire.finished && wire.outbound.is_empty() && self.all[v].client == Some(client) {
            let viewer = &self.all[v];
            let allowed = !self.roomy || viewer.half_closed || viewer.too_slow;
            assert!(allowed, "#{v}: it is let go without a reason");
            self.world.reset(client);
            self.all[v].client = None;
        }
        !bytes.is_empty()
    }

    fn part(&mut self, v: usize, part: Part) {
        match part {
            Part::Head(100 | 200, _) => {}
            Part::Head(status, fields) => panic!("#{v}: {status} {fields:?}"),
            Part::Body(bytes) => {
                for message in self.all[v].body.feed(&bytes) {
                    self.message(v, message);
                }
            }
            Part::End => {
                for message in self.all[v].body.end() {
                    self.message(v, message);
                }
                assert_eq!(
                    self.all[v].technique,
                    Technique::Poll,
                    "#{v}: a stream ends"
                );
                if !self.all[v].half_closed {
                    self.ask(v, How::Resume);
                }
            }
        }
    }

    fn message(&mut self, v: usize, message: Message) {
        match message {
            Message::Hello(hello) => self.hello(v, &hello),
            Message::Event(text) => self.event(v, &text),
            Message::Heartbeat(id) => self.mark(v, seq(&id)),
            Message::Last(id) => {
                self.begin(v);
                self.mark(v, seq(&id));
            }
            other => panic!("#{v}: there is a place for each, without an end: {other:?}"),
        }
    }

    /// An answer begins, by a hello or without one.
    fn begin(&mut self, v: usize) {
        let viewer = &mut self.all[v];
        if let Some((how, head)) = viewer.asked.take() {
            viewer.allowance = 0;
            viewer.knows = true;
            viewer.caught_up.clear();
            viewer.bound = 0;
            match how {
                How::Live => viewer.cursor = head,
                How::Snapshot => (viewer.cursor, viewer.bound) = (0, head),
                How::Resume => {}
            }
        }
    }

    fn hello(&mut self, v: usize, hello: &Hello) {
        let is_first = self.all[v].asked.is_some();
        let is_resumed = matches!(self.all[v].asked, Some((How::Resume, _)));
        let is_poll = self.all[v].technique == Technique::Poll;
        self.begin(v);
        assert!(!hello.reset, "#{v} {hello:?}");
        if is_first && !(is_poll && is_resumed) {
            assert_eq!(seq(&hello.id), self.all[v].cursor, "#{v} {hello:?}");
        } else {
            assert!(hello.lost > 0, "#{v} is greeted for nothing: {hello:?}");
            self.mark(v, seq(&hello.id));
        }
        assert!(hello.lost == 0 || !self.roomy, "#{v} {hello:?}");
        self.all[v].allowance = hello.lost;
    }

    fn wants(&self, v: usize, topic: &str) -> bool {
        let patterns = SETS[self.all[v].set].1;
        patterns.iter().any(|pattern| matches(pattern, topic))
    }

    fn event(&mut self, v: usize, text: &str) {
        self.begin(v);
        let at = seq(&event_id(text));
        let published = &self.events[at as usize - 1];
        assert_eq!(text, published.text, "#{v}");
        assert!(self.wants(v, published.topic), "#{v} {text}");
        assert!(at > self.all[v].cursor, "#{v} twice: {at}");
        if at <= self.all[v].bound {
            let until = &self.events[at as usize..self.all[v].bound as usize];
            let is_last = until.iter().all(|event| event.topic != published.topic);
            assert!(is_last, "#{v} {at} is not the last of its topic");
            self.all[v].caught_up.insert(at);
            self.all[v].cursor = at;
            return;
        }
        self.pass_over(v, at - 1);
        self.all[v].cursor = at;
    }

    /// Everything it wants up to here it has.
    fn mark(&mut self, v: usize, at: u64) {
        assert!(at >= self.all[v].cursor && at <= self.head(), "#{v} {at}");
        self.pass_over(v, at);
        self.all[v].cursor = at;
    }

    /// What it wants and did not get up to here is lost, and it was told so.
    fn pass_over(&mut self, v: usize, to: u64) {
        let bound = self.all[v].bound;
        if bound > 0 && to >= bound {
            for topic in TOPICS.iter().filter(|topic| self.wants(v, topic)) {
                let last = |events: &[Published]| {
                    let at = events.iter().rposition(|event| event.topic == *topic);
                    at.map_or(0, |at| at as u64 + 1)
                };
                let due = last(&self.events[..bound as usize]);
                // One that was overtaken while it was on its way comes as what overtook it.
                let came = due != last(&self.events) || self.all[v].caught_up.contains(&due);
                assert!(came || due == 0, "#{v}: {due} was not caught up with");
            }
            self.all[v].bound = 0;
            self.all[v].cursor = self.all[v].cursor.max(bound);
        }
        let from = self.all[v].cursor.max(bound);
        let missed = (from + 1..=to)
            .filter(|at| self.wants(v, self.events[*at as usize - 1].topic))
            .count() as u64;
        let viewer = &mut self.all[v];
        assert!(
            missed <= viewer.allowance,
            "#{v} misses {missed} of {from}..={to}, {} are told",
            viewer.allowance
        );
        viewer.allowance -= missed;
    }

    /// Everybody comes back and reads; has everything, and leaves nothing behind.
    pub(super) fn end(&mut self) {
        for v in 0..self.all.len() {
            self.go_on(v);
        }
        self.world.settle();
        // Polls are over once and streams hear a heartbeat; those let go come again.
        for _ in 0..3 {
            for v in 0..self.all.len() {
                let technique = self.all[v].technique;
                self.join(v, How::Resume, technique, 0);
            }
            for _ in 0..POLL_S * 2 {
                self.world.pass(1000);
                self.read_all();
            }
        }
        let head = self.head();
        for (v, viewer) in self.all.iter().enumerate() {
            assert!(
                viewer.client.is_some() || viewer.half_closed,
                "#{v} is away"
            );
            assert!(
                viewer.half_closed || viewer.cursor == head,
                "#{v} is at {}",
                viewer.cursor
            );
        }
        for client in 0..self.world.peers.outlet.wires.len() {
            self.world.reset(client);
        }
        self.world.settle();
        let nothing = InUse {
            slots: 0,
            exchanges: 0,
            spills: 0,
        };
        assert_eq!(self.world.peers.in_use(), nothing);
        assert_eq!(self.world.peers.hub.audiences.len(), 0);
        assert_eq!(self.world.peers.counters.viewers, [0; 16]);
    }
}
