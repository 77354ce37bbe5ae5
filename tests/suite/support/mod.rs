//! What the tests of peers share: a world without sockets and clocks, and transcripts played in it.

pub(crate) mod client;
pub(crate) mod play;
pub(crate) mod real;
pub(crate) mod transcript;
pub(crate) mod world;
