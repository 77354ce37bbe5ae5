//! What subscribers of the simulation hear, held against the model and against what they were
//! promised (DESIGN.md 3, "Connecting and resuming").

use super::Sim;
use super::subscriber::Epoch;
use crate::support::client::{Hello, Message, Technique, event_id, seq};

impl Sim {
    pub(super) fn message(&mut self, index: usize, message: Message) {
        self.note(|| format!("#{index} hears {message:?}"));
        let technique = self.subscribers[index].technique;
        match message {
            Message::Hello(hello) => self.hello(index, hello),
            Message::Event(text) => self.event(index, &text),
            Message::Heartbeat(id) => {
                assert!(!technique.is_poll());
                self.mark(index, id);
            }
            Message::Last(id) => {
                self.settle_pending(index);
                self.mark(index, id);
                self.subscribers[index].epoch.pending = true;
            }
            Message::More(id) => {
                assert!(!technique.is_poll());
                self.mark(index, id);
                self.subscribers[index].epoch.pending = true;
            }
            Message::Ping => self.answer_ping(index),
            Message::Closed(code) => {
                assert!(self.draining && code == 1001, "#{index}: closed, {code}");
                self.subscribers[index].epoch.pending = true;
            }
            Message::Refused(503) => self.give_up(index),
            Message::Refused(status) => panic!("#{index}: {status}"),
            Message::Busy { reason, retry_ms } if self.draining => {
                assert_eq!(reason, "draining");
                assert!((1_000..=5_000).contains(&retry_ms));
                self.subscribers[index].epoch.pending = true;
            }
            Message::Busy { reason, retry_ms } => {
                assert_eq!(reason, "full");
                assert!((10_000..=60_000).contains(&retry_ms));
                assert_eq!(technique, Technique::Sse, "only SSE is told by an event");
                self.give_up(index);
            }
        }
    }

    /// What came first was no hello: a poll that goes on where it was.
    pub(super) fn settle_pending(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        if !subscriber.epoch.pending {
            return;
        }
        let asked = subscriber.asked.clone().expect("an answer has a question");
        assert!(subscriber.technique.is_poll(), "a stream begins with hello");
        assert!(!asked.garbage, "a reset is told");
        let from = subscriber.cursor();
        let conflated = subscriber.interval_ms > 0;
        let fresh = asked.since.is_none();
        subscriber.epoch = Epoch {
            from,
            lost: 0,
            exact: true,
            conflated_to: match (conflated, fresh) {
                (true, _) => u64::MAX,
                (_, true) => asked.head,
                _ => from,
            },
            pending: false,
            missing: 0,
        };
        if fresh && !asked.snapshot {
            subscriber.base = subscriber.base.max(asked.head);
        }
    }

    pub(super) fn hello(&mut self, index: usize, hello: Hello) {
        assert_eq!(hello.log, self.log);
        let id = seq(&hello.id);
        let first = self.subscribers[index].epoch.pending;
        let subscriber = &mut self.subscribers[index];
        if first {
            let asked = subscriber.asked.clone().expect("an answer has a question");
            assert_eq!(hello.reset, asked.garbage, "{hello:?} {asked:?}");
            let held = subscriber.technique.is_poll() && hello.lost > 0;
            let fresh = asked.since.is_none() && !held;
            let want = match (asked.since, asked.snapshot) {
                (Some(since), _) => since,
                (None, true) => 0,
                // A poll that is held does not say from where.
                (None, false) if held => id.min(asked.head),
                (None, false) => asked.head,
            };
            if held {
                // While it was held, its position moved on over what it does not want.
                let passed = subscriber.wanted(&self.model, want, id + 1);
                assert!(id >= want && passed == 0, "{hello:?} passes over {passed}");
            } else {
                assert_eq!(id, want, "hello names the position resumed from: {asked:?}");
            }
            if fresh {
                subscriber.view.clear();
                subscriber.base = id;
                assert_eq!(hello.lost, 0, "nothing is lost to a fresh viewer");
            }
            let conflated_to = match (subscriber.interval_ms > 0, fresh) {
                (true, _) => u64::MAX,
                (_, true) => asked.head,
                _ => id,
            };
            subscriber.epoch.conflated_to = conflated_to;
        } else {
            assert!(
                !hello.reset && hello.lost > 0,
                "a held viewer is greeted when it lost something"
            );
            assert!(id >= subscriber.cursor(), "{hello:?}");
            self.pass_over(index, id + 1);
            let subscriber = &mut self.subscribers[index];
            subscriber.epoch.conflated_to = id;
        }
        let subscriber = &mut self.subscribers[index];
        assert!(
            subscriber.interval_ms == 0 || hello.lost == 0,
            "an interval loses nothing"
        );
        let everything = subscriber.wants_everything();
        assert!(
            !hello.exact || hello.lost == 0 || everything,
            "exact only for a viewer of everything"
        );
        subscriber.epoch.missing = 0;
        subscriber.epoch.from = id;
        subscriber.epoch.lost = hello.lost;
        subscriber.epoch.exact = hello.exact;
        subscriber.epoch.pending = false;
        subscriber.since = Some(hello.id);
    }

    pub(super) fn event(&mut self, index: usize, text: &str) {
        self.settle_pending(index);
        let id = event_id(text);
        let seq = seq(&id);
        let subscriber = &self.subscribers[index];
        assert_eq!(
            text,
            self.model.event(seq).text,
            "an event as it was published"
        );
        let topic = self.model.event(seq).topic.clone();
        assert!(subscriber.wants(&topic), "{topic} is not wanted");
        assert!(
            seq > subscriber.cursor(),
            "ids rise: {seq} after {}",
            subscriber.cursor()
        );
        self.pass_over(index, seq);
        let subscriber = &mut self.subscribers[index];
        subscriber.view.insert(topic, seq);
        subscriber.since = Some(id);
    }

    /// An id that says: everything up to here was seen.
    pub(super) fn mark(&mut self, index: usize, id: String) {
        let at = seq(&id);
        assert!(
            at >= self.subscribers[index].cursor(),
            "ids do not fall: {id}"
        );
        assert!(at <= self.model.head());
        self.pass_over(index, at + 1);
        self.subscribers[index].since = Some(id);
        self.judge(index, at);
    }

    /// What stands between the cursor and `to` was not delivered: it was conflated or lost.
    pub(super) fn pass_over(&mut self, index: usize, to: u64) {
        let subscriber = &mut self.subscribers[index];
        let from = subscriber
            .cursor()
            .max(subscriber.epoch.from)
            .max(subscriber.epoch.conflated_to);
        subscriber.epoch.missing += subscriber.wanted(&self.model, from, to);
        let epoch = &subscriber.epoch;
        assert!(
            epoch.missing <= epoch.lost,
            "#{index} below {to}: {epoch:?}"
        );
    }

    /// Holds what was delivered up to `to` against what was promised: the subscriber is caught up.
    pub(super) fn judge(&self, index: usize, to: u64) {
        let subscriber = &self.subscribers[index];
        let epoch = &subscriber.epoch;
        let told = format!("#{index} up to {to}: {epoch:?}");
        if epoch.exact {
            assert_eq!(epoch.missing, epoch.lost, "{told}");
        }
        if epoch.lost > 0 && self.model.forgotten <= epoch.from {
            assert!(epoch.missing > 0, "lost says too much: {told}");
        }
        for (topic, last) in &self.model.last {
            let due = *last <= to && *last > subscriber.base && subscriber.wants(topic);
            if due && !self.model.event(*last).gone {
                assert_eq!(
                    subscriber.view.get(topic),
                    Some(last),
                    "{told}: {topic} {last}"
                );
            }
        }
    }
}
