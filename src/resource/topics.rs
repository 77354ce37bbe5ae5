//! `/topics` and `/topics/NAME`: last events, publishing, forgetting (DESIGN.md 3, "Resources").
//! Who may read or write one topic was decided before; of many, each is asked for here.

use super::{BodyKind, Context, Item, JSON, Listing, Name, Reply, too_small};
use crate::buffer::{Full, Writer};
use crate::hub::event::{Seq, State};
use crate::hub::readers::Unwritable;
use crate::hub::topic::Limits;
use crate::hub::{Ahead, Hub, Refused};
use crate::limits::{EVENT_BYTES_MAX, PUBLISH_EVENTS_MAX, TOPIC_BYTES_MAX};
use crate::name;
use crate::wire::json::{self, Fault};
use crate::wire::{Kind, Refusal};
use core::fmt::Write as _;

const NO_TOPIC: Refusal = Refusal::new(
    404,
    "there is no topic of this name; GET /topics lists those there are",
);

/// `GET /topics/NAME`: the last event.
pub fn last(name: &Name, context: &Context<'_>, out: &mut Writer<'_>) -> Result<Reply, Refusal> {
    let slot = context.hub.find(name).ok_or(NO_TOPIC)?;
    let event = context.hub.last(slot).ok_or(NO_TOPIC)?;
    out.put(event.text).map_err(too_small)?;
    Ok(Reply::fresh(JSON))
}

/// `GET /topics`: every topic with its last event, unit, label, limits, age in seconds, and how
/// many subscribers are held when the answer begins.
pub fn list(context: &mut Context<'_>, out: &mut Writer<'_>) -> Reply {
    context.hub.audiences.count();
    let rest = Listing::new(list_item).write(context, out);
    Reply {
        rest,
        ..Reply::fresh(JSON)
    }
}

/// Item 0 opens, each slot follows in order of creation, the last one closes: numbers that stay the
/// same while topics come and go between two parts of a long answer.
fn list_item(
    context: &Context<'_>,
    item: u32,
    first: bool,
    out: &mut Writer<'_>,
) -> Result<Item, Full> {
    let hub = &*context.hub;
    let slots = hub.topics.capacity() as u32;
    if item == 0 {
        put_id(hub, hub.head(), out)?;
        return out.put(br#","topics":["#).map(|()| Item::Other);
    }
    if item == slots + 1 {
        return out.put(b"]}").map(|()| Item::Other);
    }
    if item > slots {
        return Ok(Item::End);
    }
    let Some((topic, event)) = context.listed((item - 1) as u16) else {
        return Ok(Item::Other);
    };
    out.put_all(&[
        if first { b"" } else { b"," },
        br#"{"event":"#,
        event.text,
        br#","unit":"#,
    ])?;
    json::string(&topic.unit, out)?;
    out.put(br#","label":"#)?;
    json::string(
        if topic.label.is_empty() {
            &topic.name
        } else {
            &topic.label
        },
        out,
    )?;
    put_limits(&topic.limits, out)?;
    out.put(br#","age":"#)?;
    put_seconds(context.now.ms.saturating_sub(topic.updated_ms), out)?;
    out.put::<[u8]>(match topic.measured {
        true => br#","writable":false,"measured":true,"subscribers":"#,
        false => br#","writable":false,"subscribers":"#,
    })?;
    out.put_u64(hub.audiences.counted((item - 1) as u16).into())?;
    out.put(b"}").map(|()| Item::Row)
}

/// `,"limits":{..}` with those that are known.
fn put_limits(limits: &Limits, out: &mut Writer<'_>) -> Result<(), Full> {
    let Limits {
        lcrit,
        min,
        max,
        crit,
    } = *limits;
    out.put(br#","limits":{"#)?;
    let mut comma = "";
    for (key, limit) in [("lcrit", lcrit), ("min", min), ("max", max), ("crit", crit)] {
        let Some(limit) = limit.filter(|limit| limit.is_finite()) else {
            continue;
        };
        write!(out, "{comma}\"{key}\":{limit}").map_err(|_| Full)?;
        comma = ",";
    }
    out.put(b"}")
}

fn put_id(hub: &Hub, seq: Seq, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put_all(&[br#"{"id":""#, hub.log_name().as_bytes(), b"-"])?;
    out.put_u64(seq)?;
    out.put(b"\"")
}

fn put_seconds(ms: u64, out: &mut Writer<'_>) -> Result<(), Full> {
    out.put_u64(ms / 1000)?;
    let tenths = ms % 1000 / 100;
    if tenths > 0 {
        out.put_all(&[b".", &[b'0' + tenths as u8]])
    } else {
        Ok(())
    }
}

// Reasons with the index of an item in front; without one they are the rest of it.
const ITEM: usize = "item {}: ".len();
const TOPICS_FULL: &str = "item {}: the table of topics is full; DELETE one, whose place is free once its last event has left the ring, or raise topics in [limits]";
const TOO_LONG: &str = "item {}: the event would take {} bytes encoded, at most {} are taken";
const BAD_JSON: &str =
    "the body is not JSON: byte {} does not fit; send text/plain for a bare string";
const BAD_LIST: &str = BAD_JSON
    .split_at("the body is not JSON: byte {} does not fit".len())
    .0;

#[cold]
pub(super) fn refused(refused: Refused, index: Option<usize>) -> Refusal {
    let (status, reason, bytes) = match refused {
        Refused::TopicsFull => (507, TOPICS_FULL, 0),
        Refused::TooLong(bytes) => (413, TOO_LONG, bytes as u64),
    };
    let most = EVENT_BYTES_MAX as u64;
    match index {
        None => Refusal::new(status, reason.split_at(ITEM).1).with([bytes, most, 0]),
        Some(index) => Refusal::new(status, reason).with([index as u64, bytes, most]),
    }
}

#[cold]
fn bad_json(error: json::Error, reason: &'static str) -> Refusal {
    let reason = match error.fault {
        Fault::Depth => "the JSON is nested too deeply at byte {}",
        _ => reason,
    };
    Refusal::new(400, reason).with([error.at as u64, 0, 0])
}

/// Why a body has no canonical text here.
enum Unfit {
    /// The text would have so many bytes.
    Long(usize),
    /// It is not what it says it is.
    Bad(Refusal),
}

impl Unfit {
    /// The refusal of the event it was to become.
    fn refusal(self, name: &Name, context: &Context<'_>, index: Option<usize>) -> Refusal {
        match self {
            Unfit::Bad(refusal) => refusal,
            Unfit::Long(value_bytes) => {
                let ahead = Ahead {
                    events: index.unwrap_or(0) as u64,
                    new_topics: 0,
                };
                let bytes = context
                    .hub
                    .event_bytes(name, value_bytes, context.now, ahead);
                refused(Refused::TooLong(bytes), index)
            }
        }
    }
}

/// The canonical JSON text of a published body, in `scratch`.
#[inline(never)]
fn canonical<'s>(body: &[u8], kind: BodyKind, scratch: &'s mut [u8]) -> Result<&'s [u8], Unfit> {
    let mut out = Writer::new(scratch);
    let parsed = match json::canonical(body, &mut out) {
        // What is too long may be no JSON behind the place where the room ended.
        Err(error) if error.fault == Fault::Full => json::canonical_len(body).map(Some),
        other => other.map(|()| None),
    };
    match parsed {
        Ok(None) => {}
        Ok(Some(bytes)) => return Err(Unfit::Long(bytes)),
        Err(error) if kind == BodyKind::Json => return Err(Unfit::Bad(bad_json(error, BAD_JSON))),
        Err(_) => {
            let text = core::str::from_utf8(body).map_err(|error| {
                let at = [error.valid_up_to() as u64, 0, 0];
                Unfit::Bad(Refusal::new(400, "the body is not UTF-8 at byte {}").with(at))
            })?;
            let string = json::string(text, &mut out);
            string.map_err(|Full| Unfit::Long(json::string_len(text)))?;
        }
    }
    let bytes = out.len();
    Ok(&scratch[..bytes])
}

/// `POST` or `PUT /topics/NAME`: `{"id":..,"subscribers":n}`.
pub fn publish(
    name: &Name,
    kind: BodyKind,
    body: &[u8],
    context: &mut Context<'_>,
    scratch: &mut [u8],
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    let value =
        canonical(body, kind, scratch).map_err(|unfit| unfit.refusal(name, context, None))?;
    let seq = context
        .hub
        .publish(name, value, State::Ok, context.now)
        .map_err(|error| refused(error, None))?;
    put_published(seq, context, out)
}

/// `{"id":..,"subscribers":n}` of an event just published.
pub(super) fn put_published(
    seq: Seq,
    context: &mut Context<'_>,
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    put_id(context.hub, seq, out).map_err(too_small)?;
    out.put(br#","subscribers":"#).map_err(too_small)?;
    out.put_u64(u64::from(context.hub.subscribers(seq)))
        .map_err(too_small)?;
    out.put(b"}").map_err(too_small)?;
    Ok(Reply::fresh(JSON))
}

/// One `{"topic":..,"value":..}` of a list, with the value's JSON text as it came.
fn item<'a>(
    element: &'a [u8],
    index: usize,
    name: &mut [u8; TOPIC_BYTES_MAX + 1],
) -> Result<(Name, &'a [u8]), Refusal> {
    let at = [index as u64, 0, 0];
    let members = json::members(element).ok_or(
        Refusal::new(
            400,
            "item {} is not an object; each is {\"topic\":NAME,\"value\":VALUE}",
        )
        .with(at),
    )?;
    let (mut topic, mut value) = (None, None);
    for (key, text) in members {
        match key {
            b"\"topic\"" => topic = Some(text),
            b"\"value\"" => value = Some(text),
            _ => {
                return Err(
                    Refusal::new(400, "item {} has a key that is neither topic nor value").with(at),
                );
            }
        }
    }
    let missing = Refusal::new(400, "item {} lacks its topic or its value").with(at);
    let (topic, value) = (topic.ok_or(missing)?, value.ok_or(missing)?);
    let bad = Refusal::new(
        400,
        "item {}: its topic is no name: 1 to 8 segments of A-Z a-z 0-9 _ - (1 to 32 each) joined by /, at most 96 bytes",
    );
    let topic = json::unescape(topic, name)
        .and_then(name::topic)
        .ok_or(bad.with(at))?;
    Ok((Name::try_from(topic).expect("a valid name fits"), value))
}

/// `POST /topics`: all checked first, then consecutive sequences; `{"id":LAST,"count":n}`.
#[cold]
pub fn publish_many(
    body: &[u8],
    context: &mut Context<'_>,
    scratch: &mut [u8],
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    json::validate(body).map_err(|error| bad_json(error, BAD_LIST))?;
    let list = || {
        json::elements(body).ok_or(Refusal::new(
            400,
            "the body is not a list: POST /topics takes [{\"topic\":NAME,\"value\":VALUE},..]",
        ))
    };
    let count = list()?.count();
    if count == 0 {
        return Err(Refusal::new(
            400,
            "the list is empty: 1 to 256 events are taken",
        ));
    }
    if count > PUBLISH_EVENTS_MAX {
        let numbers = [
            PUBLISH_EVENTS_MAX as u64,
            count as u64,
            PUBLISH_EVENTS_MAX as u64,
        ];
        return Err(Refusal::new(
            413,
            "item {} is one too many: {} events in one list, at most {} are taken",
        )
        .with(numbers));
    }
    let mut unescaped = [0; TOPIC_BYTES_MAX + 1];
    let mut new_topics = 0;
    for (index, element) in list()?.enumerate() {
        let (name, value) = item(element, index, &mut unescaped)?;
        let grant = context.hub.readers.grant(context.rights.reader);
        let allowed = context.rights.check_write(grant, &name);
        allowed.map_err(|why| unwritable(why, index))?;
        let value = canonical(value, BodyKind::Json, scratch)
            .map_err(|unfit| unfit.refusal(&name, context, Some(index)))?;
        // A name that an item before creates is no longer new.
        let new = is_new(context.hub, &name, list()?.take(index));
        let ahead = Ahead {
            events: index as u64,
            new_topics: if new { new_topics } else { 0 },
        };
        let checked = context
            .hub
            .check(&name, value, State::Ok, context.now, ahead);
        checked.map_err(|error| refused(error, Some(index)))?;
        new_topics += usize::from(new);
    }
    let mut last = 0;
    for (index, element) in list()?.enumerate() {
        let (name, value) = item(element, index, &mut unescaped)?;
        let value = canonical(value, BodyKind::Json, scratch)
            .map_err(|unfit| unfit.refusal(&name, context, Some(index)))?;
        last = context
            .hub
            .publish(&name, value, State::Ok, context.now)
            .map_err(|error| refused(error, Some(index)))?;
    }
    put_id(context.hub, last, out).map_err(too_small)?;
    out.put(br#","count":"#).map_err(too_small)?;
    out.put_u64(count as u64).map_err(too_small)?;
    out.put(b"}").map_err(too_small)?;
    Ok(Reply::fresh(JSON))
}

/// Why an item may not be written.
#[cold]
fn unwritable(why: Unwritable, index: usize) -> Refusal {
    let reason = match why {
        Unwritable::NotGranted => {
            "item {}: this token may not write its topic: its write in [[token]] has no pattern for it"
        }
        Unwritable::NotLocal => "item {}: without a token only this board itself may write",
        Unwritable::Reserved => {
            "item {}: topics below encke are reserved: writing them needs a token, even on the board itself"
        }
        Unwritable::Presence => {
            "item {}: topics below encke/presence count subscribers: nobody writes them"
        }
    };
    let refusal = Refusal::new(403, reason).kind(Kind::Write);
    refusal.with([index as u64, 0, 0])
}

/// Whether a name creates a topic, and none of the items before it did already.
fn is_new<'a>(hub: &Hub, name: &Name, before: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut unescaped = [0; TOPIC_BYTES_MAX + 1];
    hub.topics.find(name).is_none()
        && !before
            .enumerate()
            .any(|(i, e)| item(e, i, &mut unescaped).is_ok_and(|(n, _)| n == *name))
}

/// `DELETE /topics/NAME`: a last event with state `gone`; `{"id":..}`.
pub fn forget(
    name: &Name,
    context: &mut Context<'_>,
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    let seq = context
        .hub
        .restate(name, State::Gone, context.now)
        .ok_or(NO_TOPIC)?;
    put_id(context.hub, seq, out).map_err(too_small)?;
    out.put(b"}").map_err(too_small)?;
    Ok(Reply::fresh(JSON))
}
