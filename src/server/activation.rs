//! Listening sockets that the service manager opened and handed to us.
//!
//! sd_listen_fds(3), systemd.socket(5). With them a port below 1024 needs no right of ours, and
//! nobody who comes during a restart is refused. Their names (`FileDescriptorName=`) mean nothing
//! here. It opens nothing by itself, and never takes a descriptor that was not announced.

use std::fmt::Display;

use rustix::fd::OwnedFd;

use super::sockets;

/// The sockets that were handed to this process, listening with our own options; none when it was
/// started without. To be called once, before anything else opens descriptors.
///
/// # Errors
/// What is wrong with the first that is no listening TCP socket, and what would be right.
pub fn handed() -> Result<Vec<OwnedFd>, String> {
    let wrong = |which: usize, error: &dyn Display| {
        format!(
            "socket {which} of those handed over cannot be listened at: {error}\n\
             fix: in the .socket unit, ListenStream= is a port or ADDRESS:PORT, and Accept=no"
        )
    };
    let handed = sd_listen_fds::get().map_err(|error| wrong(1, &error))?;
    let adopt = |(which, (_, socket)): (usize, (_, sd_listen_fds::OwnedFd))| {
        sockets::adopt(socket.into_std()).map_err(|error| wrong(which, &error))
    };
    (1..).zip(handed).map(adopt).collect()
}
