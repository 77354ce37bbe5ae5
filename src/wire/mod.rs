//! Bytes to values and back: HTTP/1.1, JSON and the texts inside them. Knows no hub, no socket.
//!
//! # What RFC 9112 and RFC 9110 ask of an origin server
//! Each MUST, and where it is tested: a number is a file of raw-byte cases below
//! `tests/conformance`, whose titles name the section. Each case is sent whole, byte by byte, cut
//! at each byte, and over TCP. Where there is a choice, what cannot be read in two ways is taken.
//!
//! | RFC 9112 | asks | here |
//! |---|---|---|
//! | 2.2 | CR alone is invalid or a space; LF alone may end a line | both are 400: 01, 07, 10, 11 |
//! | 2.2 | empty lines before a request line are ignored | two of them are: 01 |
//! | 2.2 | white space before the first field is refused or dropped | 400: 06 |
//! | 2.3 | the version is case-sensitive and has two digits | 04; a later minor one is 505 |
//! | 3 | single spaces part a request line; no repair, no redirect | 01 |
//! | 3 | too long a target is 414; 8,000 octets should be taken | 8,256 are: 01 |
//! | 3.2 | 400 for no Host, two, a malformed one | 03, 05; for an empty one, too |
//! | 3.2.2 | absolute-form is accepted, and counts more than Host | 03 |
//! | 3.2.3, 3.2.4 | authority-form is for CONNECT, asterisk-form for OPTIONS | 02, 03 |
//! | 5.1 | white space before a colon is 400 | 05, 06, 09, 11 |
//! | 5.2 | a folded line is 400 or unfolded | 400: 05, 06, 11 |
//! | 6.1 | chunked is understood | 09 |
//! | 6.1 | it is faulty in HTTP/1.0, and with a length | 400: 09 |
//! | 6.3 | chunked not last, an invalid length: 400 and close | 08, 09; equal lengths, too |
//! | 7.1 | sizes do not overflow; unknown extensions are ignored | 10; malformed ones: 400 |
//! | 7.1.2 | trailers are not merged into the head | read and forgotten: 11 |
//! | 8 | what is not whole is not acted on | 01, 07, 08, 10, 11 |
//! | 9.3 | an unread body ends the connection | 15 |
//! | 9.3.2 | answers in the order of requests | 12 |
//! | 9.3, 9.6 | close is done and said; nothing behind it is processed | 12, 14; HTTP/1.0 ends |
//!
//! | RFC 9110 | asks | here |
//! |---|---|---|
//! | 2.5 | an answer's version is ours | every case |
//! | 4.2.1, 4.2.4 | no host, or user information, in an address is an error | 03, 05 |
//! | 5.5 | CR, LF, NUL in a value are refused or spaces | 400, as for all controls: 07 |
//! | 5.5 | white space around a value is no part of it | 05, 06, 08, 09 |
//! | 5.6.1 | a reasonable number of empty list members is ignored | 13, 14; 09: see below |
//! | 5.6.3 | bad white space is parsed | 10 |
//! | 6.5.1 | trailers do not frame, route or authorise | 11 |
//! | 6.6.1 | Date where there is a clock, none where there is not | every case; golden `uptime` |
//! | 7.4 | an https resource only through TLS; a foreign host should be 421 | 03, 05 |
//! | 7.6.1 | Connection takes no other field away here | 14 |
//! | 7.8 | Upgrade may be ignored, and is in HTTP/1.0 | 16; websocket alone: golden `websocket` |
//! | 8.6 | no Content-Length in 1xx and 204; a list of lengths is refused or one | 02, 13; 08 |
//! | 9.1 | GET and HEAD; methods are case-sensitive | 02 |
//! | 9.3.2 | no content in an answer to HEAD | 02, 12, 14: refusals and late heads, too |
//! | 9.3.6 | CONNECT to an invalid port is refused | all CONNECT is 501: 02 |
//! | 10.1.1 | 100 or a final answer at once; HTTP/1.0 expects nothing | 13 |
//! | 10.2.1, 15.5.6 | Allow in 405 | every case |
//! | 11.6.1, 15.5.2 | WWW-Authenticate in 401 | golden `session` and `rights` |
//! | 13.1 | If-Match and If-None-Match are looked at before the method | 06, 17 |
//! | 14.2 | Range that is not understood is ignored | all are: 06 |
//! | 15.2.2, 15.5.22 | Upgrade in 101 and 426 | golden `websocket` |
//! | 15 | no content in 1xx, 204 and 304 | every case |
//!
//! Choices where it says "should" or "may", against smuggling: a later minor version is refused,
//! not read as 1.1, for its framing is not known. No empty member is ignored in Transfer-Encoding:
//! a neighbour that does not skip it sees no body. HTTP/1.0 always ends the connection: a proxy may
//! pass its `keep-alive` on unread.
//!
//! Not applicable, and why:
//! - RFC 9112 sections 3.2.2 (sending), 6.1 (of answers), 7.1.3, 9.3.3, 9.4, RFC 9110 sections 3.7,
//!   7.6.2, 7.6.3, 7.7: for clients and intermediaries.
//! - RFC 9112 section 7.4 and RFC 9110 section 10.1.4 (TE): we send no trailers and no coding but
//!   chunked. RFC 9112 section 10 (message/http) and RFC 9110 section 9.3.8: TRACE is 501, for it
//!   shows fields to scripts.
//! - RFC 9112 section 9.7, RFC 9110 sections 4.2.2 and 4.3.3: there is no TLS here.
//! - RFC 9110 section 11.7 (407): this is no proxy; 14.3 to 14.5 and 15.3.7: no ranges; 15.4: no
//!   redirect but the 303 that answers the form of a sign-in.
//! - RFC 9110 section 9.3.4 (201 of a PUT that creates): PUT adds an event to the log as POST does.
//!   What a GET shows then is the newest event, never what was sent as it was.
//! - RFC 9110 sections 13.1.3 and 13.1.4: no resource has a date of modification.
//! - RFC 9110 section 9.3.2, where no buffer is free: the 503 answers a request that is not read,
//!   be it HEAD; the connection ends behind it.

pub mod chunked;
pub mod json;
pub mod request;
pub mod response;
pub mod text;
pub mod websocket;

/// What kind of thing was refused: counted by kind, and said in the log now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that is malformed, too large, or for nothing that is here.
    Request,
    /// A request that was not whole in time.
    Slow,
    /// A Host that is not ours.
    Host,
    /// A page of another origin.
    Origin,
    /// Reading without the right to.
    Read,
    /// Writing without the right to.
    Write,
    /// A token that counts no longer, or not yet, or has no form.
    Token,
    /// A token that is none of ours: it may be a guess.
    Guess,
    /// Another try, too soon after wrong ones.
    Wait,
    /// One address with too many connections.
    Address,
    /// No room.
    Full,
}

/// The kinds of refusals, in order, as metrics call them.
pub const KINDS: [&str; 11] = [
    "request", "slow", "host", "origin", "read", "write", "token", "guess", "wait", "address",
    "full",
];

/// What of a request a refusal quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// Nothing.
    Nothing,
    /// The host that was asked for.
    Host,
    /// The origin of the page that asks.
    Origin,
}

/// A request that is refused: its status and one plain line that says what was wrong and what would
/// be right. The peer's fault, never ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The line, without its end; each `{}` stands for the next number.
    pub reason: &'static str,
    /// What the line names.
    pub numbers: [u64; 3],
    /// Extra response fields, each with its CRLF: `Allow: GET\r\n`.
    pub fields: &'static str,
    /// What of the request's head the line names in place of its first number; the numbers are then
    /// from which byte of the head it stands, and how many.
    pub quote: Quote,
    /// What it is counted as.
    pub kind: Kind,
}

impl Refusal {
    /// A refusal without numbers or extra fields.
    pub const fn new(status: u16, reason: &'static str) -> Refusal {
        Refusal {
            status,
            reason,
            numbers: [0; 3],
            fields: "",
            quote: Quote::Nothing,
            kind: Kind::Request,
        }
    }

    /// What of the request its line quotes.
    pub const fn quote(mut self, quote: Quote) -> Refusal {
        self.quote = quote;
        self
    }

    /// What it is counted as.
    pub const fn kind(mut self, kind: Kind) -> Refusal {
        self.kind = kind;
        self
    }

    /// The numbers its line names.
    pub const fn with(mut self, numbers: [u64; 3]) -> Refusal {
        self.numbers = numbers;
        self
    }

    /// Its extra fields.
    pub const fn fields(mut self, fields: &'static str) -> Refusal {
        self.fields = fields;
        self
    }
}
