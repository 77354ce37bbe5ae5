//! Sockets of the generator: opened, watched, written to (tcp(7), epoll(7)). It never waits.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
};

use crate::Outcome;

/// Viewers connect from 127.0.1.1 on, so that ports do not run out.
const ADDRESSES: usize = 4;
/// What every connection is watched for.
pub(crate) const EDGES: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// An error of the kernel, in words.
pub(crate) fn failed(what: &str, error: Errno) -> String {
    format!("{what}: {error}")
}

/// A socket that connects to the server.
pub(crate) fn open(
    to: SocketAddrV4,
    from: usize,
    receive_bytes: Option<usize>,
) -> Outcome<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
    let socket = socket.map_err(|error| failed("socket", error))?;
    sockopt::set_tcp_nodelay(&socket, true).map_err(|error| failed("TCP_NODELAY", error))?;
    // Leaves no port in TIME_WAIT.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    if let Some(bytes) = receive_bytes {
        let _ = sockopt::set_socket_recv_buffer_size(&socket, bytes);
    }
    let address = Ipv4Addr::new(127, 0, 1, 1 + (from % ADDRESSES) as u8);
    bind(&socket, &SocketAddrV4::new(address, 0)).map_err(|error| failed("bind", error))?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(failed("connect", error)),
    }
}

/// Puts a descriptor into an epoll instance.
pub(crate) fn watch(epoll: &OwnedFd, fd: &OwnedFd, data: u64, flags: EventFlags) -> Outcome<()> {
    let watched = epoll::add(epoll, fd, EventData::new_u64(data), flags);
    watched.map_err(|error| failed("epoll_ctl", error))
}

/// Sends all of it at once, which a socket that is not behind takes.
pub(crate) fn send_all(socket: &OwnedFd, bytes: &[u8]) -> Outcome<()> {
    match net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(sent) => Err(format!("only {sent} of {} bytes are taken", bytes.len())),
        Err(error) => Err(failed("send", error)),
    }
}
