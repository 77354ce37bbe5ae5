//! Sizes of things, each in one place, with the relations between them checked at compile time.
//!
//! Counts of things (viewers, topics, ring bytes) are fixed at start from the board profile and the
//! configuration; see `config.rs`. Never a number that a user may want to change: those are counts.

/// Bytes in a topic name, `/` included.
pub const TOPIC_BYTES_MAX: usize = 96;
/// Segments in a topic name or pattern.
pub const SEGMENTS_MAX: usize = 8;
/// Bytes in one segment of a topic name.
pub const SEGMENT_BYTES_MAX: usize = 32;
/// Topics a hub can be configured to hold: the width of an audience's topic set in bits.
pub const TOPICS_MAX: usize = 1024;

/// Bytes of one event's final JSON text. Above: 413 that names both sizes.
pub const EVENT_BYTES_MAX: usize = 8192;
/// What an event's envelope adds to its value at most: keys, id, topic, time, state.
pub const ENVELOPE_BYTES_MAX: usize = 256;
/// What a transport adds to one event at most: id line, prefix, suffix, chunk size.
pub const FRAMING_BYTES_MAX: usize = 128;
/// Bytes of one frame: an event in its transport's dress.
pub const FRAME_BYTES_MAX: usize = EVENT_BYTES_MAX + FRAMING_BYTES_MAX;
/// Events rendered in one go; the selection of a run is one bit each in a `u64`.
pub const RUN_EVENTS_MAX: usize = 64;

/// Bytes in the name of a function that takes messages, or in the origin they are posted to.
pub const CALLBACK_BYTES_MAX: usize = 128;
/// Bytes of the line that a refused request is answered with.
pub const REASON_BYTES_MAX: usize = 1024;
/// Bytes in a domain that a page and its frame have in common.
pub const DOMAIN_BYTES_MAX: usize = 64;

/// Bytes of a request line. Above: 414. RFC 9112 section 3 asks for at least 8,000.
pub const REQUEST_LINE_BYTES_MAX: usize = 8192 + 64;
/// Bytes of a request head, from the method to the empty line. Above: 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request head that is kept, to be known again when it comes again.
pub const MEMO_BYTES_MAX: usize = 1024;
/// Fields in a request head. Above: 431.
pub const FIELDS_MAX: usize = 64;
/// Bytes of a decoded request body. Above: 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes a peer's request may take at once: its head, its body behind it, and some of what frames
/// the body behind that.
pub const INPUT_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX + 4096;
/// Bytes rendered before they are handed to a socket: an answer, a run of events, a spill.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Room for a response head in front of a body.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 2048;

/// Bytes of one subscriber's patterns, separators included. Above: 414.
pub const PATTERNS_BYTES_MAX: usize = 1024;
/// Tokens in the configuration.
pub const TOKENS_MAX: usize = 64;
/// Origins in the configuration besides our own.
pub const ORIGINS_MAX: usize = 64;
/// Bytes of what a request shows to prove its rights: a token's name, a dot, its secret.
pub const CREDENTIAL_BYTES_MAX: usize = 192;
/// Events in one `POST /topics`. Above: 413.
pub const PUBLISH_EVENTS_MAX: usize = 256;
/// Nesting of published JSON. Above: 400.
pub const JSON_DEPTH_MAX: usize = 64;
/// Bytes of a label or a unit.
pub const LABEL_BYTES_MAX: usize = 64;

const _: () = assert!(
    FRAME_BYTES_MAX + 1024 <= OUTPUT_BYTES_MAX,
    "a frame and a head fit an empty buffer"
);
const _: () = assert!(
    TOPIC_BYTES_MAX + 64 <= ENVELOPE_BYTES_MAX,
    "an envelope holds any topic"
);
const _: () = assert!(
    ENVELOPE_BYTES_MAX < EVENT_BYTES_MAX,
    "an event has room for a value"
);
const _: () = assert!(
    REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX,
    "a head has room for fields"
);
const _: () = assert!(TOPICS_MAX.is_multiple_of(64), "a topic set is whole words");
