//! The ring of the newest events, addressed by sequence number.
//!
//! Records lie whole and in order in one fixed byte ring; a table of as many entries as the ring
//! has room for small events says where each begins. It knows nothing of topics beyond their
//! number, never grows, and never drops an event by itself: the hub evicts the oldest until there
//! is room.

use super::event::{Draft, Event, Seq, Spans};
use crate::buffer::Writer;

/// The ring has one table entry for each this many bytes: no event's text is shorter.
pub const RECORD_BYTES_MIN: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Record {
    at: u32,
    topic: u16,
    spans: Spans,
}

/// The newest events.
#[derive(Debug)]
pub struct Log {
    bytes: Vec<u8>,
    records: Vec<Record>,
    records_max: usize,
    /// The oldest event still here; `next` when there is none.
    first: Seq,
    next: Seq,
    write_at: usize,
}

impl Log {
    /// An empty log over `ring_bytes`. Its pages are not touched before they are used.
    pub fn new(ring_bytes: usize) -> Log {
        let records_max = ring_bytes / RECORD_BYTES_MIN;
        Log {
            bytes: vec![0; ring_bytes],
            records: Vec::with_capacity(records_max),
            records_max,
            first: 1,
            next: 1,
            write_at: 0,
        }
    }

    /// Bytes held by a log over `ring_bytes`: the ring and its table.
    pub fn memory_bytes(ring_bytes: usize) -> usize {
        ring_bytes + ring_bytes / RECORD_BYTES_MIN * size_of::<Record>()
    }

    /// The sequence of the newest event ever appended, 0 when there was none.
    pub fn head(&self) -> Seq {
        self.next - 1
    }

    /// The oldest sequence in the ring; one above the head when it is empty.
    pub fn first(&self) -> Seq {
        self.first
    }

    #[inline]
    fn index(&self, seq: Seq) -> usize {
        ((seq - 1) % self.records_max as u64) as usize
    }

    fn record(&self, seq: Seq) -> &Record {
        &self.records[self.index(seq)]
    }

    /// Where `bytes` would go now, or `None` while the oldest event is in the way.
    fn place(&self, bytes: usize) -> Option<usize> {
        if self.first == self.next {
            return Some(0);
        }
        if self.next - self.first >= self.records_max as u64 {
            return None;
        }
        let oldest_at = self.record(self.first).at as usize;
        if self.write_at > oldest_at {
            if self.write_at + bytes <= self.bytes.len() {
                Some(self.write_at)
            } else {
                (bytes <= oldest_at).then_some(0)
            }
        } else {
            (self.write_at + bytes <= oldest_at).then_some(self.write_at)
        }
    }

    /// The event that must leave before one of `bytes` fits, if any.
    pub fn must_evict(&self, bytes: usize) -> Option<Seq> {
        assert!(
            bytes <= self.bytes.len(),
            "an event is smaller than the ring"
        );
        self.place(bytes).is_none().then_some(self.first)
    }

    /// Drops the oldest event.
    pub fn evict(&mut self) {
        assert!(
            self.first < self.next,
            "only an event that is here can leave"
        );
        self.first += 1;
    }

    /// Appends an event; there must be room. Its sequence must be the next one.
    /// `bytes` is the draft's length.
    pub(crate) fn append(&mut self, draft: &Draft<'_>, bytes: usize, topic: u16) {
        assert_eq!(draft.seq, self.next, "sequences are consecutive");
        let at = self.place(bytes).expect("the hub evicts before it appends");
        let mut out = Writer::new(&mut self.bytes[at..at + bytes]);
        let spans = draft.encode(&mut out).expect("a draft knows its length");
        let record = Record {
            at: at as u32,
            topic,
            spans,
        };
        let index = self.index(self.next);
        if index == self.records.len() {
            self.records.push(record);
        } else {
            self.records[index] = record;
        }
        self.write_at = at + bytes;
        self.next += 1;
    }

    /// The event with this sequence, if it is still here.
    pub fn event(&self, seq: Seq) -> Option<Event<'_>> {
        if !(self.first..self.next).contains(&seq) {
            return None;
        }
        let Record { at, topic, spans } = *self.record(seq);
        let text = &self.bytes[at as usize..][..usize::from(spans.bytes)];
        Some(Event {
            seq,
            topic,
            text,
            spans,
        })
    }

    /// The topic of an event that is still here.
    pub fn topic(&self, seq: Seq) -> u16 {
        debug_assert!((self.first..self.next).contains(&seq));
        self.record(seq).topic
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{State, Time};
    use super::*;

    fn append(log: &mut Log, value: &[u8]) {
        let seq = log.head() + 1;
        let draft = Draft {
            log: "l",
            seq,
            topic: "t",
            time: Time::Uptime(1),
            value,
            state: State::Ok,
        };
        while log.must_evict(draft.len()).is_some() {
            log.evict();
        }
        log.append(&draft, draft.len(), 7);
    }

    #[test]
    fn empty_one_full_wrap() {
        let mut log = Log::new(512);
        assert_eq!((log.first(), log.head()), (1, 0));
        assert!(log.event(0).is_none() && log.event(1).is_none());
        let mut random = 1u64;
        for n in 1..2000u64 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let value = n.to_string().repeat(1 + (random >> 60) as usize);
            append(&mut log, value.as_bytes());
            assert_eq!(log.head(), n);
            assert!(log.event(log.first() - 1).is_none());
            for seq in log.first()..=n {
                let event = log.event(seq).unwrap();
                assert!(event.value().starts_with(seq.to_string().as_bytes()));
                assert!(event.text.ends_with(b"}"));
            }
        }
        assert!(log.head() - log.first() >= 2, "a ring holds what fits");
    }
}
