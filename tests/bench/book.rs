//! What was published, and who has heard it: the account that every figure is taken from.
//!
//! Events are numbered by the server, without gaps, and this is its only publisher: so a number
//! names the bytes that have to come, and what a viewer hears is compared with all of them. It
//! never counts an event twice for one viewer, nor one that is out of order.

use std::time::Instant;

use crate::Outcome;
use crate::client::Heard;

/// What a viewer has to hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Every event, in order.
    Every,
    /// Some events, in order: the newest of each topic.
    Newest,
}

/// What one viewer has heard so far.
#[derive(Debug)]
pub(crate) struct Seat {
    /// All up to this number was seen.
    pub(crate) cursor: u64,
    pub(crate) order: Order,
    /// Live events are waited for until this viewer has them.
    pub(crate) is_counted: bool,
    /// Said hello to since it connected.
    pub(crate) greeted: bool,
    /// Told at the last hello that everything begins anew.
    pub(crate) reset: bool,
    pub(crate) retry_ms: Option<u64>,
    pub(crate) turned_away: bool,
    pub(crate) heartbeats: u64,
    pub(crate) deliveries: u64,
    /// Of a long-poll: the answer is complete, and it has to ask again.
    pub(crate) answered: bool,
    /// What it asks to go on after, or empty.
    pub(crate) since: String,
    /// The number last heard of each topic.
    pub(crate) newest: Vec<u64>,
}

impl Seat {
    pub(crate) fn new() -> Seat {
        Seat {
            cursor: 0,
            order: Order::Every,
            is_counted: true,
            greeted: false,
            reset: false,
            retry_ms: None,
            turned_away: false,
            heartbeats: 0,
            deliveries: 0,
            answered: false,
            since: String::new(),
            newest: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Published {
    at: Instant,
    topic: usize,
    value: String,
    /// Viewers that have not heard it yet.
    left: usize,
}

/// The account of one life of one server.
#[derive(Debug)]
pub(crate) struct Book {
    /// What ids of this life begin with: `LOG-`.
    pub(crate) prefix: String,
    /// The number before the first that was published here.
    before: u64,
    published: Vec<Published>,
    pub(crate) topics: Vec<String>,
    /// Viewers that every live event is waited for.
    pub(crate) audience: usize,
    /// Events that all of the audience has.
    pub(crate) complete: usize,
    pub(crate) deliveries: u64,
    /// Microseconds from when an event was due to when a viewer had it, while measuring.
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) is_measuring: bool,
}

/// Takes `prefix` off the front.
fn eat<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)
}

/// Takes a number off the front.
fn eat_number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl Book {
    /// An account of a server that was not met yet.
    pub(crate) fn new(topics: &[String]) -> Book {
        Book {
            prefix: String::new(),
            before: 0,
            published: Vec::new(),
            topics: topics.to_vec(),
            audience: 0,
            complete: 0,
            deliveries: 0,
            latencies_us: Vec::new(),
            is_measuring: false,
        }
    }

    /// The first event's id begins with `prefix` and is `number`.
    pub(crate) fn begin_at(&mut self, prefix: String, number: u64) {
        (self.prefix, self.before) = (prefix, number - 1);
    }

    /// The number of the newest event.
    pub(crate) fn head(&self) -> u64 {
        self.before + self.published.len() as u64
    }

    /// How many events were published.
    pub(crate) fn sent(&self) -> usize {
        self.published.len()
    }

    /// The id of a number.
    pub(crate) fn id(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    /// The number of an id of this life.
    pub(crate) fn number(&self, id: &str) -> Outcome<u64> {
        let number = eat(id, &self.prefix).and_then(|number| number.parse().ok());
        number.ok_or_else(|| format!("{id:?} is no id of {}", self.prefix))
    }

    /// Notes the next event: due `at`, of the `topic`th topic.
    pub(crate) fn publish(&mut self, topic: usize, value: String, at: Instant) {
        let left = self.audience;
        self.complete += usize::from(left == 0);
        self.published.push(Published {
            at,
            topic,
            value,
            left,
        });
    }

    /// The numbers of the newest event of each topic.
    pub(crate) fn newest(&self) -> Vec<u64> {
        let mut newest = vec![0; self.topics.len()];
        for (number, event) in (self.before + 1..).zip(&self.published) {
            newest[event.topic] = number;
        }
        newest
    }

    /// How many of the audience have not heard the oldest event that is not complete.
    pub(crate) fn missing(&self) -> usize {
        let mut left = self.published.iter().map(|event| event.left);
        left.find(|&left| left > 0).unwrap_or(0)
    }

    /// The number of an event, if its text is exactly what it has to be.
    fn check(&self, text: &str) -> Option<u64> {
        let rest = eat(eat(text, r#"{"id":""#)?, &self.prefix)?;
        let (number, rest) = eat_number(rest)?;
        let index = number.checked_sub(self.before + 1)?;
        let event = self.published.get(usize::try_from(index).ok()?)?;
        let rest = eat(eat(rest, r#"","topic":""#)?, &self.topics[event.topic])?;
        let rest = match eat(rest, r#"","time":"#) {
            Some(rest) => rest,
            // A board whose clock is not known.
            None => eat(rest, r#"","uptime":"#)?,
        };
        let (_, rest) = eat_number(rest)?;
        (eat(eat(rest, r#","value":"#)?, &event.value)? == "}").then_some(number)
    }

    /// Takes into account what a viewer heard at `now`.
    pub(crate) fn hear(&mut self, seat: &mut Seat, heard: Heard, now: Instant) -> Outcome<()> {
        match heard {
            Heard::Event(text) => self.event(seat, text, now)?,
            Heard::Hello { id, reset } => {
                let number = self.number(id)?;
                let resumed = seat.since.is_empty() || number == seat.cursor;
                if !reset && !resumed {
                    return Err(format!("resumed at {id} in place of {}", seat.cursor));
                }
                seat.cursor = number;
                (seat.greeted, seat.reset, seat.turned_away) = (true, reset, false);
            }
            Heard::Heartbeat(id) => {
                let number = self.number(id)?;
                if number < seat.cursor {
                    return Err(format!("a heartbeat goes back to {id}"));
                }
                seat.cursor = number;
                seat.heartbeats += 1;
            }
            Heard::Last(id) => {
                let number = self.number(id)?;
                if number < seat.cursor {
                    return Err(format!("a long-poll goes back to {id}"));
                }
                seat.cursor = number;
                seat.since.clear();
                seat.since.push_str(id);
                (seat.answered, seat.greeted) = (true, true);
            }
            Heard::Retry(ms) => seat.retry_ms = Some(ms),
            Heard::Busy(ms) => (seat.retry_ms, seat.turned_away) = (Some(ms), true),
            Heard::Answer(_) => return Err("an answer to a viewer".to_string()),
        }
        Ok(())
    }

    fn event(&mut self, seat: &mut Seat, text: &str, now: Instant) -> Outcome<()> {
        let wrong = || format!("an event that was not published so: {text:?}");
        let number = self.check(text).ok_or_else(wrong)?;
        let is_next = match seat.order {
            Order::Every => number == seat.cursor + 1,
            Order::Newest => number > seat.cursor,
        };
        if !is_next {
            return Err(format!("event {number} comes after {}", seat.cursor));
        }
        seat.cursor = number;
        seat.deliveries += 1;
        self.deliveries += 1;
        let event = &mut self.published[(number - self.before - 1) as usize];
        if let Some(newest) = seat.newest.get_mut(event.topic) {
            *newest = number;
        }
        if seat.is_counted {
            let Some(left) = event.left.checked_sub(1) else {
                return Err(format!("event {number} was heard too often"));
            };
            event.left = left;
            self.complete += usize::from(left == 0);
            if self.is_measuring {
                let late = now.saturating_duration_since(event.at).as_micros();
                self.latencies_us
                    .push(u32::try_from(late).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }
}
