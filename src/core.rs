//! What every event and every request of Encke goes through: the log, the fan-out, HTTP and the
//! transports, and the sockets of peers. The code map is in `lib.rs`.
//!
//! It is a crate of its own because a compiler's choice between speed and size is made for a whole
//! package: this one is compiled for speed. It never depends on the rest, reads no clock and no
//! file, and runs no task.

pub mod access;
pub mod buffer;
pub mod connection;
pub mod hub;
pub mod limits;
pub mod name;
pub mod peers;
pub mod resource;
pub mod sockets;
pub mod transport;
pub mod wire;
