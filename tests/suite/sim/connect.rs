//! What subscribers of the simulation do: connect, read fast or slowly, are cut, come again.

use super::Sim;
use super::subscriber::Asked;
use crate::support::client::{Body, Http, Part, Technique, seq};
use crate::support::world::ENDLESS;

impl Sim {
    pub(super) fn connect(&mut self, index: usize) {
        if self.subscribers[index].retry_at_ms > self.world.now_ms {
            return;
        }
        let client = match self.subscribers[index].client {
            Some(client) => client,
            None => {
                let Some(client) = self.world.connect() else {
                    return;
                };
                self.begin(index, client);
                client
            }
        };
        let request = self.question(index);
        self.note(|| format!("#{index} @{client} asks {request:?}"));
        let cut = self.random.below(request.len() as u64) as usize;
        self.world.feed(client, &request.as_bytes()[..cut]);
        self.world.feed(client, &request.as_bytes()[cut..]);
        self.serve(index);
    }

    /// How it goes on over a new connection: by which technique, and how fast it reads.
    pub(super) fn begin(&mut self, index: usize, client: usize) {
        let (random, subscriber) = (&mut self.random, &mut self.subscribers[index]);
        let left = subscriber.technique;
        subscriber.technique = *random.pick(&Technique::ALL);
        if subscriber.since.is_some() {
            *self.pairs.entry((left, subscriber.technique)).or_default() += 1;
        }
        subscriber.interval_ms = match random.below(4) {
            0 => *random.pick(&[100, 700, 3000]),
            _ => 0,
        };
        subscriber.http = Http::new();
        subscriber.client = Some(client);
        subscriber.quick = !random.one_in(3);
        let wire = self.world.wire(client);
        wire.capacity = match subscriber.quick {
            true => ENDLESS,
            false => 1 + random.below(3000) as usize,
        };
        if random.one_in(4) {
            wire.gulp = 1 + random.below(500) as usize;
        }
    }

    /// The text of its next request; what it may expect is noted.
    pub(super) fn question(&mut self, index: usize) -> String {
        let (random, subscriber) = (&mut self.random, &mut self.subscribers[index]);
        let technique = subscriber.technique;
        let garbage = random.one_in(25);
        let snapshot = !random.one_in(6);
        let version = u64::from(!random.one_in(5) || technique == Technique::Socket);
        let timeout_s = 1 + random.below(30);
        let mut query = format!("snapshot={}", u8::from(snapshot));
        for pattern in &subscriber.patterns {
            query += &format!("&topics={}", pattern.replace('#', "%23"));
        }
        if subscriber.interval_ms > 0 {
            query += &format!("&interval={}", subscriber.interval_ms as f64 / 1000.0);
        }
        if technique.is_poll() {
            query += &format!("&timeout={timeout_s}");
        }
        let since = match garbage {
            true => Some((*random.pick(&["nonsense", "k3f9q2xa-999999999", "else-1"])).into()),
            false => subscriber.since.clone(),
        };
        let mut fields = String::from("Host: localhost\r\n");
        match &since {
            Some(id) if random.one_in(2) => fields += &format!("Last-Event-ID: {id}\r\n"),
            Some(id) => query += &format!("&since={id}"),
            None => {}
        }
        let known = subscriber.since.as_deref().map(seq);
        subscriber.asked = Some(Asked {
            since: known.filter(|seq| !garbage && *seq > 0),
            garbage,
            snapshot,
            head: self.model.head(),
        });
        subscriber.body = Body::new(technique);
        subscriber.kept = version == 1 && technique.is_poll();
        subscriber.idle = false;
        subscriber.epoch.pending = true;
        subscriber.heard_ms = self.world.now_ms;
        subscriber.poll_until_ms = self.world.now_ms + timeout_s * 1000;
        if !technique.is_poll() && random.one_in(5) {
            query += &format!("&limit={}", 4096 + random.below(30_000));
        }
        let (path, more) = technique.request();
        format!("GET {path}{query} HTTP/1.{version}\r\n{fields}{more}\r\n")
    }

    /// Once an answer has begun, what a fresh start may conflate is settled.
    pub(super) fn serve(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        let Some(client) = subscriber.client else {
            return;
        };
        let wire = self.world.wire(client);
        let begun = subscriber.http.is_inside() || !wire.outbound.is_empty() || wire.finished;
        if !begun && let Some(asked) = &mut subscriber.asked {
            asked.head = self.model.head();
        }
    }

    pub(super) fn read(&mut self, index: usize, most: usize) {
        let Some(client) = self.subscribers[index].client else {
            return;
        };
        let bytes = self.world.take_some(client, most);
        if !bytes.is_empty() {
            self.subscribers[index].heard_ms = self.world.now_ms;
            let parts = self.subscribers[index].http.feed(&bytes);
            for part in parts {
                self.part(index, part);
            }
        }
        let wire = self.world.wire(client);
        if wire.finished && wire.outbound.is_empty() && self.subscribers[index].client.is_some() {
            self.finished(index);
        }
    }

    /// Reads as long as anything comes.
    pub(super) fn read_all(&mut self, index: usize) {
        loop {
            let before = self.world.peers.outlet.sends;
            self.read(index, ENDLESS);
            self.world.settle();
            if self.world.peers.outlet.sends == before {
                return self.read(index, ENDLESS);
            }
        }
    }

    pub(super) fn part(&mut self, index: usize, part: Part) {
        match part {
            Part::Head(100 | 101 | 200, _) => {}
            Part::Head(503, _) => self.give_up(index),
            Part::Head(408, _) => self.give_up(index),
            Part::Head(status, fields) => panic!("#{index}: {status} {fields:?}"),
            Part::Body(bytes) => {
                if self.subscribers[index].client.is_some() {
                    for message in self.subscribers[index].body.feed(&bytes) {
                        self.message(index, message);
                    }
                }
            }
            Part::End => {
                if self.subscribers[index].client.is_some() {
                    for message in self.subscribers[index].body.end() {
                        self.message(index, message);
                    }
                    self.answered(index);
                }
            }
        }
    }

    /// An answer is over: a poll asks again, later or at once.
    pub(super) fn answered(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        if subscriber.technique.is_poll() && subscriber.kept {
            subscriber.idle = true;
            if !self.random.one_in(4) {
                self.connect(index);
            }
        } else if let Some(client) = subscriber.client.take() {
            self.world.reset(client);
        }
    }

    pub(super) fn give_up(&mut self, index: usize) {
        let retry_at_ms = self.world.now_ms + 500;
        let subscriber = &mut self.subscribers[index];
        subscriber.retry_at_ms = retry_at_ms;
        if let Some(client) = subscriber.client.take() {
            self.world.reset(client);
        }
    }

    /// The server ended the connection.
    pub(super) fn finished(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        // One that reads slowly may hear too late that it is asked whether it is there.
        let may_end = subscriber.technique == Technique::Socket && !subscriber.quick;
        let held = !subscriber.technique.is_poll() && !subscriber.epoch.pending;
        assert!(
            !held || may_end,
            "#{index}: a stream is ended by the server"
        );
        if let Some(client) = subscriber.client.take() {
            self.world.reset(client);
        }
    }

    pub(super) fn cut(&mut self, index: usize) {
        let Some(client) = self.subscribers[index].client else {
            return;
        };
        let there = self.world.wire(client).outbound.len() as u64;
        let most = self.random.below(there + 1) as usize;
        self.read(index, most);
        let Some(client) = self.subscribers[index].client.take() else {
            return;
        };
        self.note(|| format!("#{index} @{client} is cut"));
        match self.random.below(3) {
            0 => self.world.reset(client),
            1 => {
                self.world.vanish(client);
                self.world.nudge(client);
            }
            _ => {
                self.world.half_close(client);
                self.world.vanish(client);
            }
        }
    }

    /// Says that somebody is there (RFC 6455 section 5.5.3); the mask is zero.
    pub(super) fn answer_ping(&mut self, index: usize) {
        if let Some(client) = self.subscribers[index].client {
            self.world.feed(client, &[0x8a, 0x80, 0, 0, 0, 0]);
        }
    }

    /// The client says that it sends no more, and reads on.
    pub(super) fn half_close(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        let is_socket = subscriber.technique == Technique::Socket;
        if let Some(client) = subscriber.client.filter(|_| !subscriber.idle && !is_socket) {
            self.world.half_close(client);
            subscriber.kept = false;
            self.note(|| format!("#{index} @{client} sends no more"));
        }
    }
}
