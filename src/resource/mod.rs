//! Plain resources: what a request with this path and method is to do, and the answers that are not
//! streams. One file each, one row each. They see the hub and the time; never a peer or a socket.

pub mod condition;
pub mod health;
pub mod metrics;
pub mod page;
pub mod pictures;
pub mod qr;
pub mod said;
pub mod session;
pub mod topics;

use crate::buffer::{Full, Writer};
use crate::hub::event::Event;
use crate::hub::pictures::Kind;
use crate::hub::readers::Rights;
use crate::hub::topic::Topic;
use crate::hub::{Hub, Now};
use crate::limits::TOPIC_BYTES_MAX;
use crate::name;
use crate::transport::subscription::{Subscription, negotiate, poll_of};
use crate::transport::{LONGPOLL, TRANSPORTS, Transport};
use crate::wire::request::{Head, Method};
use crate::wire::response::NO_STORE;
use crate::wire::text::{media_type, percent_decode};
use crate::wire::{KINDS, Refusal};
use condition::Condition;

/// A topic's name, owned.
pub type Name = heapless::String<TOPIC_BYTES_MAX>;

/// How a published body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// It must be JSON.
    Json,
    /// JSON if it parses, else a string.
    Text,
    /// A picture.
    Picture(Kind),
}

/// What a request is to do, once its body is there.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "boxing a plan would allocate for each request"
)]
pub enum Plan {
    /// The dashboard, or the library.
    Asset {
        /// Which.
        asset: &'static page::Asset,
        /// Whether it is sent in gzip.
        gzip: bool,
        /// Whether the client has it already.
        unchanged: bool,
    },
    /// The dashboard as a table, for browsers without JavaScript.
    Plain,
    /// All topics.
    Topics,
    /// What is here is what the client says it has.
    Unchanged,
    /// A topic's last event.
    Topic(Name, Condition),
    /// Publish to a topic.
    Publish(Name, BodyKind, Condition),
    /// Publish a picture to a topic.
    PublishPicture(Name, Kind, Condition),
    /// A topic's newest picture.
    Picture(Name, pictures::Tags),
    /// Publish to many topics.
    PublishMany,
    /// Forget a topic.
    Forget(Name, Condition),
    /// Prometheus text.
    Metrics,
    /// Liveness.
    Health,
    /// A QR code of this.
    Qr(qr::Text),
    /// The methods there are, and what a browser asks ahead of a request, as response fields.
    Options {
        /// The methods.
        allow: &'static str,
        /// For a page of another origin.
        preflight: &'static str,
    },
    /// Who asks, as far as rights go.
    Session,
    /// Keep a token in a cookie.
    SignIn {
        /// How the body is read.
        kind: session::Form,
        /// Whether the cookie may only go through TLS.
        is_secure: bool,
    },
    /// Forget the cookie.
    SignOut,
    /// Hold, or answer with events.
    Subscribe(Subscription),
}

impl Plan {
    /// Whether its body is taken piece by piece, as it comes.
    pub fn takes_pieces(&self) -> bool {
        matches!(self, Plan::PublishPicture(..))
    }
}

/// What a request needs besides a Host that is ours and, to change something, an Origin that may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: what everybody may know, or the way to sign in. A token is not even looked at: one
    /// that has ended must not stand between a browser and the page where it gets another.
    Nothing,
    /// Nothing, but a token that is shown is to be one: who asks is what is asked.
    Identity,
    /// To read something.
    Read,
    /// To write something.
    Write,
}

/// What the answers speak of besides the hub.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Peers accepted.
    pub accepted: u64,
    /// Requests: answered, held or refused.
    pub requests: u64,
    /// Requests refused with a 4xx or 5xx.
    pub refused: u64,
    /// Frames handed to sockets: events times viewers.
    pub deliveries: u64,
    /// Times a held viewer fell out of the window.
    pub lapped: u64,
    /// Peers closed because a fixed table was full.
    pub evicted: u64,
    /// Requests refused, by kind: `wire::KINDS`.
    pub refusals: [u64; KINDS.len()],
    /// Peers connected now.
    pub peers: u32,
    /// Viewers held now, by transport.
    pub viewers: [u32; 16],
}

/// What an answer may look at and change.
#[derive(Debug)]
pub struct Context<'a> {
    /// The hub.
    pub hub: &'a mut Hub,
    /// The time of this turn.
    pub now: Now,
    /// Counts.
    pub counters: &'a Counters,
    /// The board's name.
    pub board: &'a str,
    /// Where pages may connect to besides this board, as in `Settings`.
    pub push_host: &'static str,
    /// What this request may do.
    pub rights: Rights,
}

impl Context<'_> {
    /// The topic in this slot and its last event, unless it was forgotten or may not be read.
    pub fn listed(&self, slot: u16) -> Option<(&Topic, Event<'_>)> {
        let readable = self.hub.readers.topics(self.rights.reader);
        readable.contains(slot).then(|| self.hub.listed(slot))?
    }
}

/// An answer whose body a function wrote.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// More fields; all together make whole lines, each with its CRLF.
    pub fields: [&'static str; 5],
    /// What of the body did not fit.
    pub rest: Option<Listing>,
}

/// The media type of every JSON answer.
pub const JSON: &str = "application/json; charset=utf-8";

impl Reply {
    /// A 200 of this media type that must not be cached.
    pub const fn fresh(content_type: &'static str) -> Reply {
        Reply {
            status: 200,
            content_type,
            fields: [NO_STORE, "", "", "", ""],
            rest: None,
        }
    }

    /// The same as a 304, which has no body.
    pub const fn unchanged(self) -> Reply {
        Reply {
            status: 304,
            content_type: "",
            rest: None,
            ..self
        }
    }
}

/// What became of one item of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A row: the next one follows a comma, where rows are parted by commas.
    Row,
    /// Something else, or nothing.
    Other,
    /// There are no more.
    End,
}

/// A body written item by item: the items there are, and the next one due.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// Writes the item with this number, all or nothing; `first` is whether no row was written yet.
    item: fn(&Context<'_>, item: u32, first: bool, &mut Writer<'_>) -> Result<Item, Full>,
    next: u32,
    first: bool,
}

impl Listing {
    /// A listing before its first item.
    pub const fn new(
        item: fn(&Context<'_>, item: u32, first: bool, &mut Writer<'_>) -> Result<Item, Full>,
    ) -> Listing {
        Listing {
            item,
            next: 0,
            first: true,
        }
    }

    /// Writes items until there is no room (then what is left) or no more.
    pub fn write(mut self, context: &Context<'_>, out: &mut Writer<'_>) -> Option<Listing> {
        loop {
            let start = out.len();
            match (self.item)(context, self.next, self.first, out) {
                Ok(Item::End) => return None,
                Ok(item) => self.first &= item != Item::Row,
                Err(Full) => {
                    out.truncate(start);
                    return Some(self);
                }
            }
            self.next += 1;
        }
    }
}

type Make = fn(&Head<'_>, rest: &str) -> Result<Plan, Refusal>;

/// Which paths below its first segment a resource has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    /// None.
    Nothing,
    /// A topic's name, or what should be one.
    Topic,
    /// None, or the name of a transport's own path.
    Transport,
}

impl Below {
    fn has(self, rest: &str) -> bool {
        match self {
            Below::Nothing => rest.is_empty(),
            Below::Topic => !rest.is_empty(),
            Below::Transport => rest.is_empty() || transport(rest).is_some(),
        }
    }
}

/// A resource: where it is, and what it makes of a request by a method that it has.
struct Row {
    segment: &'static str,
    below: Below,
    /// The methods there are, as a response field.
    allow: &'static str,
    /// Those of them that change something.
    writes: &'static [Method],
    /// Whether it says nothing that not everybody may know, and changes nothing.
    public: bool,
    make: Make,
}

const fn read_only(segment: &'static str, below: Below, make: Make) -> Row {
    Row {
        segment,
        below,
        allow: "Allow: GET, HEAD, OPTIONS\r\n",
        writes: &[],
        public: false,
        make,
    }
}

/// What everybody may know.
const fn public(segment: &'static str, make: Make) -> Row {
    Row {
        public: true,
        ..read_only(segment, Below::Nothing, make)
    }
}

static ROWS: &[Row] = &[
    public("", |head, _| {
        if is_plain(head) {
            return Ok(Plan::Plain);
        }
        asset(&page::PAGE, head)
    }),
    public("encke.js", |head, _| asset(&page::LIBRARY, head)),
    public("encke-old.js", |head, _| asset(&page::OLD, head)),
    public("encke.mjs", |head, _| asset(&page::MODULE, head)),
    public("encke.d.ts", |head, _| asset(&page::TYPES, head)),
    read_only("events", Below::Transport, |head, rest| {
        let index = match transport(rest) {
            Some(LONGPOLL) => poll_of(head),
            Some(index) => index,
            None => negotiate(head),
        };
        Ok(Plan::Subscribe(Subscription::parse(index, head)?))
    }),
    Row {
        segment: "topics",
        below: Below::Nothing,
        allow: "Allow: GET, HEAD, POST, OPTIONS\r\n",
        writes: &[Method::Post],
        public: false,
        make: |head, _| match head.method {
            Method::Post => match body_kind(head)? {
                BodyKind::Picture(_) => Err(UNFIT_PICTURE),
                _ => Ok(Plan::PublishMany),
            },
            _ => Ok(Plan::Topics),
        },
    },
    Row {
        segment: "topics",
        below: Below::Topic,
        allow: "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n",
        writes: &[Method::Post, Method::Put, Method::Delete],
        public: false,
        make: |head, rest| {
            let name = topic(rest)?;
            Ok(match head.method {
                Method::Post | Method::Put => match body_kind(head)? {
                    BodyKind::Picture(kind) => Plan::PublishPicture(name, kind, Condition::NONE),
                    kind => Plan::Publish(name, kind, Condition::NONE),
                },
                Method::Delete => Plan::Forget(name, Condition::NONE),
                _ => Plan::Topic(name, Condition::NONE),
            })
        },
    },
    read_only("pictures", Below::Topic, |head, rest| {
        Ok(Plan::Picture(topic(rest)?, pictures::Tags::of(head)))
    }),
    read_only("metrics", Below::Nothing, |_, _| Ok(Plan::Metrics)),
    public("health", |_, _| Ok(Plan::Health)),
    public("qr.svg", |head, _| Ok(Plan::Qr(qr::text(head)?))),
    Row {
        segment: "session",
        below: Below::Nothing,
        allow: "Allow: GET, HEAD, POST, DELETE, OPTIONS\r\n",
        writes: &[Method::Post, Method::Delete],
        public: true,
        make: |head, _| {
            Ok(match head.method {
                Method::Post => Plan::SignIn {
                    kind: session::Form::of(head)?,
                    is_secure: false,
                },
                Method::Delete => Plan::SignOut,
                _ => Plan::Session,
            })
        },
    },
];

fn asset(asset: &'static page::Asset, head: &Head<'_>) -> Result<Plan, Refusal> {
    Ok(Plan::Asset {
        asset,
        gzip: page::wants_gzip(head),
        unchanged: false,
    })
}

const NOT_FOUND: Refusal = Refusal::new(
    404,
    "there is nothing at this path; there is /, /events, /topics, /topics/NAME, /pictures/NAME, /metrics, /health and /session",
);

/// The transport with its own path at `/events/` and `rest`.
fn transport(rest: &str) -> Option<u8> {
    let own = |row: &Transport| row.path.strip_prefix("/events/") == Some(rest);
    TRANSPORTS.iter().position(own).map(|index| index as u8)
}

/// Asks browsers without JavaScript for a token in their own way (RFC 7617 section 2). A cookie
/// that is none is forgotten there, too.
pub fn challenge(head: &Head<'_>, refusal: Refusal) -> Refusal {
    const BASIC: &str = "WWW-Authenticate: Basic realm=\"Encke\"\r\n";
    const BASIC_AND_FORGET: &str = "WWW-Authenticate: Basic realm=\"Encke\"\r\n\
        Set-Cookie: encke=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict\r\n";
    match refusal.status == 401 && is_plain(head) {
        true if refusal.fields.contains("Set-Cookie: ") => refusal.fields(BASIC_AND_FORGET),
        true => refusal.fields(BASIC),
        false => refusal,
    }
}

fn is_plain(head: &Head<'_>) -> bool {
    let mut pieces = head.query.split(|b| *b == b'&');
    pieces.any(|piece| piece == b"plain")
}

/// The row of a request's path, and what of that stands below its first segment.
fn locate<'d>(head: &Head<'_>, decoded: &'d mut [u8]) -> Option<(&'static Row, &'d str)> {
    let path = percent_decode(head.target_path, false, decoded)?;
    let path = path.strip_prefix('/')?;
    let (segment, rest) = path.split_once('/').unwrap_or((path, ""));
    let fits = |row: &&Row| row.segment == segment && row.below.has(rest);
    ROWS.iter().find(fits).map(|row| (row, rest))
}

/// What a request needs, whatever comes of it; what is not there needs as much as what is.
pub fn need(head: &Head<'_>) -> Need {
    let mut decoded = [0; 512];
    let row = locate(head, &mut decoded).map(|(row, _)| row);
    let public = row.filter(|row| row.public && !is_plain(head));
    match (head.method, public) {
        (Method::Options, _) => Need::Nothing,
        (Method::Get | Method::Head, Some(row)) if row.segment == "session" => Need::Identity,
        (_, Some(_)) => Need::Nothing,
        (method, None) if method.is_write() => Need::Write,
        _ => Need::Read,
    }
}

fn options_of(allow: &'static str) -> Plan {
    Plan::Options {
        allow,
        preflight: "",
    }
}

/// What a request is to do, by its path, then its method.
pub fn plan(head: &Head<'_>) -> Result<Plan, Refusal> {
    if head.method == Method::Other {
        return Err(Refusal::new(
            501,
            "this method is not known here; GET, HEAD, POST, PUT, DELETE and OPTIONS are",
        ));
    }
    if head.target_path == b"*" {
        return Ok(options_of(
            "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n",
        ));
    }
    let mut decoded = [0; 512];
    let (row, rest) = locate(head, &mut decoded).ok_or(NOT_FOUND)?;
    if head.method == Method::Options {
        return Ok(options_of(row.allow));
    }
    if head.method.is_write() && !row.writes.contains(&head.method) {
        let refusal = Refusal::new(
            405,
            "this method does not fit this path; its Allow field says which do",
        );
        return Err(refusal.fields(row.allow));
    }
    let plan = (row.make)(head, rest)?;
    match head.field("if-match").or(head.field("if-none-match")) {
        None => Ok(plan),
        Some(_) => condition::apply(plan, head),
    }
}

fn topic(rest: &str) -> Result<Name, Refusal> {
    let name = name::topic(rest).ok_or(Refusal::new(
        400,
        "this is no topic name: 1 to 8 segments of A-Z a-z 0-9 _ - (1 to 32 each) joined by /, at most 96 bytes",
    ))?;
    Ok(Name::try_from(name).expect("a valid name fits"))
}

fn body_kind(head: &Head<'_>) -> Result<BodyKind, Refusal> {
    let Some(value) = head.field("content-type") else {
        return Ok(BodyKind::Text);
    };
    let media = media_type(value);
    let is = |name: &str| media.eq_ignore_ascii_case(name.as_bytes());
    if is("application/json") {
        Ok(BodyKind::Json)
    } else if media.is_empty() || is("text/plain") || is("application/x-www-form-urlencoded") {
        Ok(BodyKind::Text)
    } else if let Some(kind) = [Kind::Jpeg, Kind::Png]
        .into_iter()
        .find(|k| is(k.media_type()))
    {
        Ok(BodyKind::Picture(kind))
    } else if media
        .get(..6)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"image/"))
    {
        Err(UNFIT_PICTURE)
    } else {
        Err(Refusal::new(
            415,
            "a body is application/json, or text/plain for JSON or a bare string",
        ))
    }
}

const UNFIT_PICTURE: Refusal = Refusal::new(
    415,
    "a picture is image/jpeg or image/png, and is published alone, to /topics/NAME",
);

/// Carries out a plan that is answered at once, writing the body.
pub fn answer(
    plan: &Plan,
    body: &[u8],
    context: &mut Context<'_>,
    scratch: &mut [u8],
    out: &mut Writer<'_>,
) -> Result<Reply, Refusal> {
    if let Plan::Topic(name, when) | Plan::Publish(name, _, when) | Plan::Forget(name, when) = plan
        && *when != Condition::NONE
        && let Some(reply) = condition::answer(*when, context.hub, name)?
    {
        return Ok(reply);
    }
    match plan {
        Plan::Asset {
            asset,
            gzip,
            unchanged,
        } => page::write(asset, *gzip, *unchanged, context, out),
        Plan::Plain => Ok(page::plain(context, out)),
        Plan::Topics => Ok(topics::list(context, out)),
        Plan::Unchanged => Ok(condition::unchanged()),
        Plan::Topic(name, _) => topics::last(name, context, out),
        Plan::Publish(name, kind, _) => topics::publish(name, *kind, body, context, scratch, out),
        Plan::PublishMany => topics::publish_many(body, context, scratch, out),
        Plan::Forget(name, _) => topics::forget(name, context, out),
        Plan::Metrics => Ok(metrics::metrics(context, out)),
        Plan::Health => Ok(health::health(context, out)),
        Plan::Qr(text) => qr::draw(text, out),
        Plan::Options { allow, preflight } => Ok(options(allow, preflight)),
        Plan::Session => session::who(context, out),
        Plan::SignOut => Ok(session::sign_out()),
        Plan::Subscribe(_) | Plan::SignIn { .. } | Plan::Picture(..) | Plan::PublishPicture(..) => {
            unreachable!("these are not answered with a body of their own")
        }
    }
}

fn options(allow: &'static str, preflight: &'static str) -> Reply {
    Reply {
        status: 204,
        content_type: "",
        fields: [allow, preflight, "", "", ""],
        rest: None,
    }
}

/// The refusal when an answer that must fit does not: our fault.
pub(crate) fn too_small(_: Full) -> Refusal {
    Refusal::new(500, "the answer does not fit its buffer")
}
