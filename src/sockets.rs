//! Sockets and the one epoll instance they sit in (epoll(7), tcp(7)).
//!
//! Every peer is registered once, edge-triggered in both directions, and never again; closing its
//! descriptor takes it out. A generation in the event's data tells a peer from the next one in its
//! slot. This file decides nothing: it is the outlet of `peers`, and tells them what their sockets
//! say. The server goes through it for all that peers do, so that they are compiled with it, for
//! speed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType,
    sockopt,
};

use crate::access::{Network, Peer, Policy, UNKNOWN};
use crate::peers::{Outlet, Peers, Received, Sent};

/// Not std's 128: in a storm of reconnecting viewers SYNs would be dropped, for a second each.
const BACKLOG: i32 = 4096;
/// What the kernel holds for one viewer at most; it doubles this for its own book-keeping. Without
/// it one stalled phone could take megabytes of a small board's memory.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const KEEP_ALIVE_IDLE_S: u64 = 10;
const KEEP_ALIVE_INTERVAL_S: u64 = 5;
const KEEP_ALIVE_PROBES: u32 = 3;
const USER_TIMEOUT_MS: u32 = 12_000;

/// Event data from here on is not a peer's.
pub const TOKEN: u64 = 1 << 63;

/// All sockets of peers, by slot.
#[derive(Debug)]
pub struct Sockets {
    epoll: OwnedFd,
    peers: Vec<Option<OwnedFd>>,
    generations: Vec<u32>,
}

impl Sockets {
    /// An epoll instance without peers.
    pub fn new(count: usize) -> io::Result<Sockets> {
        Ok(Sockets {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            peers: Vec::with_capacity(count),
            generations: Vec::with_capacity(count),
        })
    }

    /// Watches a descriptor that is not a peer's.
    pub fn watch(&self, fd: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(TOKEN | token),
            flags,
        )?)
    }

    /// The epoll instance, to wait on.
    pub fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Puts a peer's socket into its slot.
    pub fn insert(&mut self, slot: u32, socket: OwnedFd) -> io::Result<()> {
        let index = slot as usize;
        if index >= self.peers.len() {
            self.peers.resize_with(index + 1, || None);
            self.generations.resize(index + 1, 0);
        }
        let data = u64::from(self.generations[index]) << 32 | u64::from(slot);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(data), flags)?;
        self.peers[index] = Some(socket);
        Ok(())
    }

    /// The slot an event speaks of, unless its peer is gone.
    pub fn slot(&self, data: u64) -> Option<u32> {
        let (slot, generation) = (data as u32, (data >> 32) as u32);
        let index = slot as usize;
        let current = self.peers.get(index)?.is_some() && self.generations[index] == generation;
        current.then_some(slot)
    }

    fn socket(&self, slot: u32) -> Option<&OwnedFd> {
        self.peers.get(slot as usize)?.as_ref()
    }
}

/// Peers with sockets.
impl Peers<Sockets> {
    /// What an epoll event says of a peer's socket.
    pub fn hear(&mut self, event: Event) {
        let (data, flags) = (event.data.u64(), event.flags);
        let Some(slot) = self.outlet.slot(data) else {
            return;
        };
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return self.close(slot);
        }
        if flags.contains(EventFlags::OUT) {
            self.writable(slot);
        }
        // Each of these may end the peer.
        if self.outlet.slot(data).is_none() {
            return;
        }
        if flags.contains(EventFlags::RDHUP) {
            self.half_closed(slot);
        } else if flags.contains(EventFlags::IN) {
            self.readable(slot);
        }
    }

    /// Takes in somebody new, or says that there is no room.
    pub fn take_in(&mut self, socket: OwnedFd, address: IpAddr) {
        let slot = match self.accept_from(address) {
            Ok(slot) => slot,
            Err(answer) => return turn_away(&socket, answer),
        };
        if self.outlet.insert(slot, socket).is_err() {
            self.close(slot);
        }
    }

    /// Whether there is room for somebody new without anybody giving way.
    pub fn has_room(&self) -> bool {
        self.has_free_slot()
    }

    /// Gives up a descriptor for somebody new, if anybody can be missed.
    pub fn give_up_one(&mut self) -> bool {
        self.evict().is_some()
    }

    /// Lets those go on that can without their sockets.
    pub fn go_on_all(&mut self) {
        self.run_queue();
    }

    /// The end of a turn: what is due by now, then what was published in it.
    pub fn end_turn(&mut self) {
        self.sweep();
        self.flush();
    }

    /// Who may do what from now on.
    pub fn obey(&mut self, policy: Policy) {
        self.set_policy(policy);
    }

    /// Which networks are on-link from now on.
    pub fn link(&mut self, links: Vec<Network>) {
        self.set_links(links);
    }

    /// The server goes down: everybody is told.
    pub fn say_goodbye(&mut self) {
        self.drain();
    }
}

impl Outlet for Sockets {
    #[inline]
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent {
        let Some(socket) = self.socket(slot) else {
            return Sent::Gone;
        };
        let sent = net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        sent.map_or_else(not_sent, Sent::Bytes)
    }

    fn recv(&mut self, slot: u32, into: &mut [u8]) -> Received {
        let Some(socket) = self.socket(slot) else {
            return Received::Gone;
        };
        match net::recv(socket, into, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Received::End,
            Ok((_, bytes)) => Received::Bytes(bytes),
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::Gone,
        }
    }

    fn shut(&mut self, slot: u32) {
        if let Some(socket) = self.socket(slot) {
            let _ = net::shutdown(socket, Shutdown::Write);
        }
    }

    fn close(&mut self, slot: u32) {
        let index = slot as usize;
        self.generations[index] = self.generations[index].wrapping_add(1) & (u32::MAX >> 1);
        self.peers[index] = None;
    }

    fn abort(&mut self, slot: u32) {
        if let Some(socket) = self.socket(slot) {
            // A reset; it also spares the kernel the bytes that nobody takes.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
        self.close(slot);
    }

    fn peer(&mut self, slot: u32) -> Peer {
        let socket = self.socket(slot);
        let address = socket.and_then(|socket| net::getpeername(socket).ok().flatten());
        Peer {
            address: ip(address),
            secure: false,
        }
    }
}

#[cold]
fn not_sent(errno: Errno) -> Sent {
    match errno {
        Errno::AGAIN | Errno::INTR | Errno::NOBUFS => Sent::Bytes(0),
        _ => Sent::Gone,
    }
}

/// A listening socket. Accepted ones inherit its options. `[::]` takes IPv4 too, and becomes
/// `0.0.0.0` on a kernel without IPv6.
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    match listen_at(address) {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
                ) =>
        {
            listen_at(SocketAddr::new(
                Ipv4Addr::UNSPECIFIED.into(),
                address.port(),
            ))
        }
        result => result,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    net::bind(&socket, &address)?;
    begin(&socket)?;
    Ok(socket)
}

/// A socket that somebody else opened, as if `listen` had.
pub fn adopt(socket: OwnedFd) -> io::Result<OwnedFd> {
    let families = [AddressFamily::INET, AddressFamily::INET6];
    if !families.contains(&sockopt::socket_domain(&socket)?) {
        return Err(io::Error::other("it is no TCP socket"));
    }
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("it does not listen"));
    }
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    begin(&socket)?;
    Ok(socket)
}

/// Listens, with what accepted sockets are to inherit.
fn begin(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(KEEP_ALIVE_IDLE_S))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(KEEP_ALIVE_INTERVAL_S))?;
    sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT_MS)?;
    Ok(net::listen(socket, BACKLOG)?)
}

/// What became of asking for a new peer.
pub enum Accepted {
    /// Here it is, and its address.
    Peer(OwnedFd, IpAddr),
    /// Nobody is waiting.
    Nobody,
    /// Somebody is waiting, but there is no descriptor or memory for it now.
    NotNow,
}

/// Takes one peer from a listener.
pub fn accept(listener: &OwnedFd) -> Accepted {
    match net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((socket, address)) => Accepted::Peer(socket, ip(address)),
        Err(Errno::AGAIN) => Accepted::Nobody,
        // The kernel looks for a descriptor first: it says this when nobody waits, too.
        Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            match is_waited_at(listener) {
                true => Accepted::NotNow,
                false => Accepted::Nobody,
            }
        }
        // It was gone before we came: ask again at once.
        Err(_) => accept_again(listener),
    }
}

/// Whether somebody is waiting at a listener.
fn is_waited_at(listener: &OwnedFd) -> bool {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut fds, Some(&zero)).is_ok_and(|ready| ready > 0)
}

fn accept_again(listener: &OwnedFd) -> Accepted {
    match net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((socket, address)) => Accepted::Peer(socket, ip(address)),
        Err(Errno::AGAIN) => Accepted::Nobody,
        Err(_) => Accepted::NotNow,
    }
}

/// Tells a peer that cannot be taken in why, and lets go of it.
fn turn_away(socket: &OwnedFd, answer: &[u8]) {
    let _ = net::send(socket, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = net::shutdown(socket, Shutdown::Write);
}

/// The address of whoever connects; a socket that has none is not of this machine's network.
fn ip(address: Option<SocketAddrAny>) -> IpAddr {
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    address.map_or(UNKNOWN, |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::TcpStream;

    #[test]
    fn who_is_cut_off_can_tell_it_from_an_end() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address: SocketAddr = net::getsockname(&listener).unwrap().try_into().unwrap();
        let mut sockets = Sockets::new(2).unwrap();
        let ends: [fn(&mut Sockets, u32); 2] = [Outlet::close, Outlet::abort];
        for (end, want) in ends
            .into_iter()
            .zip([Ok(0), Err(ErrorKind::ConnectionReset)])
        {
            let mut client = TcpStream::connect(address).unwrap();
            let Accepted::Peer(socket, _) = accept(&listener) else {
                panic!("somebody is waiting");
            };
            sockets.insert(0, socket).unwrap();
            let Sent::Bytes(4) = sockets.send(0, b"half") else {
                panic!("there is room");
            };
            // What has arrived is read all the same.
            let mut half = [0; 4];
            end(&mut sockets, 0);
            client.read_exact(&mut half).unwrap();
            assert_eq!(client.read(&mut half).map_err(|e| e.kind()), want);
        }
    }
}
