//! `GET /metrics`: Prometheus text format 0.0.4, names and base units by its rules. Values of
//! topics appear while they are numbers and fresh; a stale one is left out, never repeated.

use core::fmt::Write;

use super::{Context, Item, Listing, Reply};
use crate::buffer::{Full, Writer};
use crate::hub::event::State;
use crate::transport::TRANSPORTS;
use crate::wire::KINDS;
use crate::wire::json::is_number;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the answer.
pub fn metrics(context: &Context<'_>, out: &mut Writer<'_>) -> Reply {
    let rest = Listing::new(item).write(context, out);
    Reply {
        rest,
        ..Reply::fresh(CONTENT_TYPE)
    }
}

/// One number of the server itself.
struct Row {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Context<'_>) -> u64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Context<'_>) -> u64) -> Row {
    Row {
        name,
        kind: "counter",
        help,
        value,
    }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Context<'_>) -> u64) -> Row {
    Row {
        name,
        kind: "gauge",
        help,
        value,
    }
}

static ROWS: &[Row] = &[
    counter(
        "encke_events_total",
        "Events published since the log began.",
        |c| c.hub.head(),
    ),
    counter(
        "encke_event_bytes_total",
        "Bytes of those events, encoded.",
        |c| c.hub.published_bytes,
    ),
    counter(
        "encke_deliveries_total",
        "Event frames handed to viewers' sockets.",
        |c| c.counters.deliveries,
    ),
    counter(
        "encke_lapped_total",
        "Times a held viewer fell out of the window.",
        |c| c.counters.lapped,
    ),
    counter(
        "encke_connections_accepted_total",
        "Connections accepted.",
        |c| c.counters.accepted,
    ),
    counter(
        "encke_requests_total",
        "Requests answered, held or refused.",
        |c| c.counters.requests,
    ),
    counter(
        "encke_requests_refused_total",
        "Requests refused with a 4xx or 5xx status.",
        |c| c.counters.refused,
    ),
    counter(
        "encke_evicted_total",
        "Connections closed because a table was full.",
        |c| c.counters.evicted,
    ),
    gauge("encke_connections", "Connections open now.", |c| {
        u64::from(c.counters.peers)
    }),
    gauge(
        "encke_audiences",
        "Different wishes among the viewers.",
        |c| c.hub.audiences.len() as u64,
    ),
    gauge("encke_topics", "Topics in the table.", |c| {
        u64::from(c.hub.readers.topics(c.rights.reader).len())
    }),
    gauge("encke_window_events", "Events in the ring.", |c| {
        c.hub.head() + 1 - c.hub.first()
    }),
];

/// The families of one sample a topic, each listed by slot.
static FAMILIES: &[&str] = &[
    "# HELP encke_topic_value The last value of a topic, while it is a number and not stale.\n\
     # TYPE encke_topic_value gauge\n",
    "# HELP encke_topic_age_seconds How long ago a topic was published.\n\
     # TYPE encke_topic_age_seconds gauge\n",
    "# HELP encke_topic_up Whether a topic's last event has state ok.\n\
     # TYPE encke_topic_up gauge\n",
];

/// Rows first, then what is counted by words, then each family's head and its slots.
fn item(context: &Context<'_>, item: u32, _: bool, out: &mut Writer<'_>) -> Result<Item, Full> {
    let item = item as usize;
    if let Some(row) = ROWS.get(item) {
        let value = (row.value)(context);
        let Row {
            name, kind, help, ..
        } = row;
        return write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        )
        .map(|()| Item::Other)
        .map_err(|_| Full);
    }
    let item = item - ROWS.len();
    if let Some(write) = LABELLED.get(item) {
        return write(context, out).map(|()| Item::Other);
    }
    let item = item - LABELLED.len();
    let slots = context.hub.topics.capacity();
    let (family, place) = (item / (slots + 1), item % (slots + 1));
    let Some(head) = FAMILIES.get(family) else {
        return Ok(Item::End);
    };
    if place == 0 {
        return out.put(head.as_bytes()).map(|()| Item::Other);
    }
    sample(context, family, (place - 1) as u16, out).map(|()| Item::Other)
}

/// Families with a sample for each of a few words.
static LABELLED: &[Family] = &[viewers, refusals];
type Family = fn(&Context<'_>, &mut Writer<'_>) -> Result<(), Full>;

fn refusals(context: &Context<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(
        b"# HELP encke_refusals_total Requests and connections refused, by what was wrong.\n\
          # TYPE encke_refusals_total counter\n",
    )?;
    for (kind, count) in KINDS.iter().zip(&context.counters.refusals) {
        out.put_all(&[b"encke_refusals_total{kind=\"", kind.as_bytes(), b"\"} "])?;
        out.put_u64(*count)?;
        out.put(b"\n")?;
    }
    Ok(())
}

fn viewers(context: &Context<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put(b"# HELP encke_viewers Viewers held now.\n# TYPE encke_viewers gauge\n")?;
    for (row, count) in TRANSPORTS.iter().zip(&context.counters.viewers) {
        out.put_all(&[b"encke_viewers{transport=\"", row.name.as_bytes(), b"\"} "])?;
        out.put_u64(u64::from(*count))?;
        out.put(b"\n")?;
    }
    Ok(())
}

fn sample(
    context: &Context<'_>,
    family: usize,
    slot: u16,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let Some((topic, event)) = context.listed(slot) else {
        return Ok(());
    };
    let name = topic.name.as_bytes();
    let age_ms = context.now.ms.saturating_sub(topic.updated_ms);
    match family {
        0 if topic.state != State::Ok || !is_sample(event.value()) => Ok(()),
        0 => out.put_all(&[
            b"encke_topic_value{topic=\"",
            name,
            b"\"} ",
            event.value(),
            b"\n",
        ]),
        1 => {
            out.put_all(&[b"encke_topic_age_seconds{topic=\"", name, b"\"} "])?;
            out.put_u64(age_ms / 1000)?;
            // Three digits, with their zeros: the point stands in place of the 1.
            let point = out.len();
            out.put_u64(1000 + age_ms % 1000)?;
            out.set(point, b".");
            out.put(b"\n")
        }
        _ => {
            let up: &[u8] = if topic.state == State::Ok { b"1" } else { b"0" };
            out.put_all(&[b"encke_topic_up{topic=\"", name, b"\"} ", up, b"\n"])
        }
    }
}

/// Whether a value is a number that Prometheus can hold: one beyond a float's range would make it
/// refuse the whole answer.
fn is_sample(value: &[u8]) -> bool {
    let number = core::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    is_number(value) && number.is_some_and(f64::is_finite)
}
