//! Pictures: publishing to `/topics/NAME` with `image/jpeg` or `image/png`, and the newest one at
//! `/pictures/NAME` (DESIGN.md 3, "Resources"; RFC 9110 sections 8.8.3 and 13.1).
//!
//! The event of a picture says where it is and how long: `{"image":"/pictures/NAME?id=LOG-SEQ",
//! "bytes":n}`. The id makes the address another one for each picture; whatever it is, the newest
//! is there. Whether one is wanted at all is decided before a byte of it is taken. Sending is not
//! done here: a picture is sent from where it is.

use super::condition::{self, Condition};
use super::{Context, Name, Reply, too_small, topics};
use crate::buffer::{Full, Writer};
use crate::hub::Ahead;
use crate::hub::event::{Seq, State};
use crate::hub::pictures::{self, Kind, Plate};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::transport::subscription::Since;
use crate::wire::request::Head;
use crate::wire::text::trim;
use crate::wire::{Kind as Counted, Refusal};

/// Entity tags of a list that are looked at: clients send one.
const TAGS_MAX: usize = 4;

/// A list of entity tags; `None` for a member that is none of ours.
#[derive(Clone, Debug)]
struct List {
    all: bool,
    ids: heapless::Vec<Since, TAGS_MAX>,
}

impl List {
    fn of(head: &Head<'_>, field: &str, prefix: &[u8]) -> Option<List> {
        head.field(field)?;
        let mut list = List {
            all: false,
            ids: heapless::Vec::new(),
        };
        for member in { head.fields(field) }.flat_map(|line| line.split(|byte| *byte == b',')) {
            let member = trim(member);
            list.all |= member == b"*";
            let tag = member.strip_prefix(prefix).unwrap_or(member);
            let id = tag
                .strip_prefix(b"\"")
                .and_then(|tag| tag.strip_suffix(b"\""));
            if let Some(id) = id
                && list.ids.push(Since::parse(id)).is_err()
            {
                break;
            }
        }
        Some(list)
    }

    fn names(&self, log: &str, seq: Seq) -> bool {
        let is_it =
            |id: &Since| matches!(id, Since::Id { log: l, seq: s } if l == log && *s == seq);
        self.all || self.ids.iter().any(is_it)
    }
}

/// What a request for a picture says of the one it has.
#[derive(Clone, Debug)]
pub struct Tags {
    must_be: Option<List>,
    must_not_be: Option<List>,
}

impl Tags {
    /// Reads `If-Match` and `If-None-Match`.
    pub(super) fn of(head: &Head<'_>) -> Tags {
        Tags {
            must_be: List::of(head, "if-match", b""),
            must_not_be: List::of(head, "if-none-match", b"W/"),
        }
    }

    /// Whether the client has this picture already.
    ///
    /// # Errors
    /// 412 when it must be another one.
    pub fn has(&self, log: &str, seq: Seq) -> Result<bool, Refusal> {
        match &self.must_be {
            Some(list) if !list.names(log, seq) => Err(condition::FAILED),
            _ => Ok({ &self.must_not_be }
                .as_ref()
                .is_some_and(|list| list.names(log, seq))),
        }
    }
}

/// The newest picture of a topic.
///
/// # Errors
/// 404 when there is none.
pub fn newest(name: &Name, context: &Context<'_>) -> Result<Plate, Refusal> {
    const NONE: Refusal = Refusal::new(
        404,
        "there is no picture here; one is published with PUT /topics/NAME as image/jpeg or image/png",
    );
    context.hub.find(name).ok_or(NONE)?;
    context.hub.pictures.newest(name).ok_or(NONE)
}

fn refused(why: pictures::Refused, announced: Option<u64>, context: &Context<'_>) -> Refusal {
    let pictures = &context.hub.pictures;
    match why {
        pictures::Refused::TooLong => Refusal::new(
            413,
            "the picture has {} bytes, at most {} are taken: picture_bytes in [limits]",
        )
        .with([announced.unwrap_or(0), pictures.picture_bytes() as u64, 0]),
        pictures::Refused::Full => Refusal::new(
            507,
            "{} topics may have pictures, and as many have; DELETE one, or raise pictures in [limits]",
        )
        .with([pictures.topics() as u64, 0, 0]),
        pictures::Refused::Busy => Refusal::new(
            503,
            "the pictures of this topic are still being sent or received; try again after the seconds in Retry-After",
        )
        .fields("Retry-After: 1\r\n")
        .kind(Counted::Full),
    }
}

/// A plate for the picture that a request brings, if it may.
///
/// # Errors
/// 412, 413, 503 or 507.
pub fn admit(
    (name, kind, when): (&Name, Kind, Condition),
    announced: Option<u64>,
    context: &mut Context<'_>,
) -> Result<Plate, Refusal> {
    condition::answer(when, context.hub, name)?;
    let value = [b'0'; ENVELOPE_BYTES_MAX];
    let checked = context
        .hub
        .check(name, &value, State::Ok, context.now, Ahead::default());
    checked.map_err(|why| topics::refused(why, None))?;
    let begun = context.hub.pictures.begin(name, kind, announced);
    begun.map_err(|why| refused(why, announced, context))
}

/// The picture has arrived: it is published. `{"id":..,"subscribers":n}`.
///
/// # Errors
/// 400 when it is empty; 507 when the topic found no place meanwhile.
pub fn publish(
    name: &Name,
    last_piece: &[u8],
    arriving: &mut Option<Plate>,
    context: &mut Context<'_>,
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    // Without a body nothing was admitted.
    let plate = arriving.ok_or(EMPTY)?;
    let appended = { &mut context.hub.pictures }.append(plate, last_piece);
    appended.map_err(|why| refused(why, None, context))?;
    let bytes = context.hub.pictures.arrived_bytes(plate);
    if bytes == 0 {
        return Err(EMPTY);
    }
    let mut text = [0; ENVELOPE_BYTES_MAX];
    let mut value = Writer::new(&mut text);
    put_value(name, bytes, context, &mut value).map_err(too_small)?;
    let published = context
        .hub
        .publish(name, value.written(), State::Ok, context.now);
    let seq = published.map_err(|why| topics::refused(why, None))?;
    context.hub.pictures.finish(plate, seq);
    *arriving = None;
    topics::put_published(seq, context, out)
}

/// What a publisher of no byte is told.
const EMPTY: Refusal = Refusal::new(400, "the picture is empty: the body is to be its bytes");

fn put_value(
    name: &Name,
    bytes: usize,
    context: &Context<'_>,
    out: &mut Writer<'_>,
) -> Result<(), Full> {
    let log = context.hub.log_name().as_bytes();
    out.put_all(&[
        pictures::VALUE_START,
        name.as_bytes(),
        pictures::VALUE_ID,
        log,
        b"-",
    ])?;
    out.put_u64(context.hub.head() + 1)?;
    out.put(br#"","bytes":"#)?;
    out.put_u64(bytes as u64)?;
    out.put(b"}")
}
