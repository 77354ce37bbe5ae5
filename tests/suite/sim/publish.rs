//! What publishers of the simulation do: sources, single requests, lists, and forgetting.

use super::Sim;

impl Sim {
    pub(super) fn topic(&mut self) -> String {
        // The first two are busy, the others quiet.
        let busy = self.random.below(4) > 0;
        let count = if busy { 2 } else { self.topics.len() as u64 };
        self.topics[self.random.below(count) as usize].clone()
    }

    pub(super) fn value(&mut self) -> String {
        let number = self.random.below(100_000);
        match self.random.below(4) {
            0 => format!(
                "\"{}\"",
                "x".repeat(self.random.below(self.value_bytes) as usize)
            ),
            _ => number.to_string(),
        }
    }

    pub(super) fn publish(&mut self) {
        let (topic, value) = (self.topic(), self.value());
        let seq = self.world.publish(&topic, &value);
        let pushed = self
            .model
            .push(&self.log, self.world.now_ms, &topic, &value, false);
        assert_eq!(seq, pushed, "sequences are consecutive");
        self.note(|| format!("publish {seq} {topic}"));
    }

    /// A request of the publisher, which keeps its connection while it can.
    pub(super) fn ask(&mut self, request: &str) -> String {
        if self.world.wire(self.publisher).finished {
            match self.world.connect() {
                Some(client) => self.publisher = client,
                None => return String::new(),
            }
        }
        self.world.feed(self.publisher, request.as_bytes());
        let mut answer = Vec::new();
        for _ in 0..20 {
            answer.extend(self.world.take(self.publisher));
            if !answer.is_empty() {
                break;
            }
            self.world.settle();
        }
        String::from_utf8(answer).expect("an answer is text")
    }

    pub(super) fn post(&mut self) {
        let most = if self.random.one_in(8) { 256 } else { 6 };
        let count = 1 + self.random.below(most);
        let items: Vec<_> = (0..count).map(|_| (self.topic(), self.value())).collect();
        let body: Vec<String> = items
            .iter()
            .map(|(topic, value)| format!(r#"{{"topic":"{topic}","value":{value}}}"#))
            .collect();
        let body = format!("[{}]", body.join(","));
        if body.len() > 65_536 {
            return;
        }
        let before = self.world.peers.hub.head();
        let answer = self.ask(&format!(
            "POST /topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        if self.world.peers.hub.head() == before {
            // No buffer was free for long enough.
            return self.world.reset(self.publisher);
        }
        for (topic, value) in &items {
            self.model
                .push(&self.log, self.world.now_ms, topic, value, false);
        }
        let head = self.model.head();
        assert_eq!(self.world.peers.hub.head(), head);
        let told = format!(r#"{{"id":"{}-{head}","count":{count}}}"#, self.log);
        assert!(answer.ends_with(&told), "{answer}");
        self.note(|| format!("publish many to {head}"));
    }

    pub(super) fn forget(&mut self) {
        let topic = self.topic();
        let before = self.world.peers.hub.head();
        let answer = self.ask(&format!(
            "DELETE /topics/{topic} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        if self.world.peers.hub.head() > before {
            let last = self.model.last[&topic];
            let value = self.model.value(last).to_owned();
            let seq = self
                .model
                .push(&self.log, self.world.now_ms, &topic, &value, true);
            assert_eq!(self.world.peers.hub.head(), seq);
            assert!(
                answer.ends_with(&format!(r#"{{"id":"{}-{seq}"}}"#, self.log)),
                "{answer}"
            );
            self.note(|| format!("forget {topic} {seq}"));
        } else if answer.is_empty() {
            self.world.reset(self.publisher);
        } else {
            let known = self.model.last.get(&topic);
            assert!(
                known.is_none_or(|last| self.model.event(*last).gone),
                "{answer}"
            );
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
    }
}
