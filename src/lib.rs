//! Encke: one small static binary that turns a Linux board into a live page.
//!
//! # Code map
//! Layers point down: a file uses only files of lower layers, and of its own where named.
//! - L0 `limits` sizes of things · `name` the grammar of topics and patterns · `buffer` text into a
//!   lent slice · `by_name` a small map · `log` lines for the journal · `config`, `board` one
//!   schema, validated once
//! - L1 `wire` bytes to values and back; knows no hub · `hub` one log, its topics, its audiences;
//!   knows no format but its own event's text
//! - L2 `transport` one file and one row for each technique · `resource` one file and one row for
//!   each plain resource · `dashboard` the page
//! - L3 `access` who may do what · `connection` one peer's requests · `peers` all peers: exchanges,
//!   fan-out, deadlines (uses `access` and `connection`)
//! - L4 `sockets` those of peers · `clock` · `source` the board's readings · `server` the epoll
//!   loop, start and end · `resident` memory let go of · `sandbox` rights given up · `doctor` what
//!   is wrong with the board, and what mends it
//! - L5 `cli`, `main` flags, banner, client commands
//!
//! # The way of an event
//! A source reads, or a peer posts; `Hub::publish` encodes the event once, into the ring; at the
//! end of the turn `Peers::flush` renders it once for each audience and sends it to each member.
//!
//! # Two crates
//! What every event and every request goes through is a crate of its own, `encke_core`, whose root
//! is `src/core.rs`: it alone is compiled for speed. The rest runs seldom, and is compiled for
//! size.
//!
//! # What is deliberately absent
//! - No queue per viewer: the log is the queue, the cursor is the back-pressure.
//! - No socket, clock, task or thread below L4.
//! - No allocation between a published event and a socket.
//! - No compression of WebSockets: permessage-deflate is a window of state for each connection.
//! - No lock on the event path, no recursion on a peer's input, no write to a disk.

pub mod board;
pub mod by_name;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod log;
pub mod resident;
pub mod sandbox;
pub mod server;
pub mod source;

pub use encke_core::{
    access, buffer, connection, hub, limits, name, peers, resource, sockets, transport, wire,
};
