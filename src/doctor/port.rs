//! Whether the addresses that the configuration asks for can be listened at, and who has them.
//!
//! Follows proc(5) /proc/net/tcp and tcp6, where an address is words of the machine's order in
//! hexadecimal, and ip(7) for ports that need a right. Of a foreign process only its user is seen
//! without root. It never connects and never binds.

use std::net::{IpAddr, SocketAddr};

use super::rights::{Who, drop_in, unit};
use super::root::{number_at, quoted};
use super::{Case, Level, Report};

/// An address as a number, IPv4 as the part of IPv6 that stands for it, and a port.
type Place = (u128, u16);

/// Every address of IPv4.
const FOUR: u128 = 0xffff << 32;

/// Somebody listens here.
struct Listener {
    place: Place,
    uid: u64,
    inode: u64,
}

pub(super) fn check(case: &Case, report: &mut Report) {
    let mut listeners = Vec::new();
    for path in ["proc/net/tcp", "proc/net/tcp6"] {
        for row in case.root.text(path).lines() {
            listeners.extend(listener(row));
        }
    }
    let low = case
        .root
        .text("proc/sys/net/ipv4/ip_unprivileged_port_start");
    let low = number_at(&low, 0).unwrap_or(1024);
    for &address in &case.config.server.listen {
        let is_low = address.port() != 0 && u64::from(address.port()) < low;
        let meets = |other: &&Listener| is_same(place(address), other.place);
        if let Some(other) = listeners.iter().find(meets) {
            taken(case, report, address, other, &listeners);
        } else if let Some(who) = case.who.as_ref().filter(|who| is_low && !who.binds_low) {
            kept(case, report, &shown(address), who);
        } else if case.root.has("proc/net/tcp") {
            report.ok(format_args!("{} is free", shown(address)));
        }
    }
}

/// A row of /proc/net/tcp whose state is 0A, LISTEN.
fn listener(row: &str) -> Option<Listener> {
    let mut fields = row.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    // Words of the machine's order, so that the bytes stand in that of the network.
    let mut bytes = [0; 16];
    for (at, four) in bytes.chunks_exact_mut(4).enumerate().take(ip.len() / 8) {
        let word = hex(ip.get(at * 8..at * 8 + 8)?)? as u32;
        four.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = match ip.len() {
        8 => FOUR | u128::from_be_bytes(bytes) >> 96,
        32 => u128::from_be_bytes(bytes),
        _ => return None,
    };
    Some(Listener {
        place: (ip, u16::try_from(hex(port)?).ok()?),
        uid: number_at(row, 7)?,
        inode: number_at(row, 9)?,
    })
}

fn place(address: SocketAddr) -> Place {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    (ip.to_bits(), address.port())
}

/// Whether two cannot listen at both: `[::]` takes IPv4 too.
#[inline(never)]
fn is_same(a: Place, b: Place) -> bool {
    let takes = |a, b| a == 0 || a == FOUR && b >> 32 == FOUR >> 32;
    a.1 == b.1 && (a.0 == b.0 || takes(a.0, b.0) || takes(b.0, a.0))
}

/// An address as a person reads it.
fn shown(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("port {}", address.port()),
        false => address.to_string(),
    }
}

/// The process that has the socket open, as far as we may see.
fn owner(case: &Case, inode: u64) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    case.root.pids().into_iter().find(|pid| {
        let names = case.root.names(&format!("proc/{pid}/fd"));
        let mut fds = names.iter();
        fds.any(|fd| case.root.link(&format!("proc/{pid}/fd/{fd}")) == socket)
    })
}

fn taken(case: &Case, report: &mut Report, at: SocketAddr, by: &Listener, all: &[Listener]) {
    let place = shown(at);
    let owner = owner(case, by.inode);
    let running = case.who.as_ref().filter(|who| who.pid().is_some());
    let (mut who, mut stop) = (String::new(), String::new());
    let mut pid = owner.as_deref();
    if let Some(pid) = pid {
        who = case.root.text_in("proc/", pid, "/comm");
        stop = match unit(&case.root, pid) {
            Some(unit) => format!("\n# or: sudo systemctl disable --now {unit}"),
            None => format!("\n# or: sudo kill {pid}"),
        };
    } else if let Some(running) = running.filter(|it| it.uid == by.uid && it.is_service()) {
        // Its descriptors are hidden from us, but its user is its own.
        who = "encke".to_owned();
        pid = running.pid();
    }
    let is_systemd = pid.is_none_or(|pid| pid == "1") && by.uid == 0;
    match pid {
        Some(pid) if who == "encke" => {
            return report.ok(format_args!("Encke (pid {pid}) listens at {place} already"));
        }
        _ if is_systemd && case.root.has(SOCKET_UNIT) => {
            return report.ok(format_args!("systemd keeps {place} for us: encke.socket"));
        }
        Some(pid) => who = format!("{who} (pid {pid})"),
        None => {
            let user = case.root.name_of("etc/passwd", by.uid);
            let user = user.unwrap_or_else(|| by.uid.to_string());
            who = format!("a program of user {user}");
            let port = at.port();
            stop = format!("\n# which one: sudo ss -ltnp 'sport = :{port}'");
        }
    }
    report.add(
        Level::Problem,
        format_args!("{who} listens at {place} already"),
        format_args!("Encke cannot start there. It can elsewhere, or in place of the other one."),
        format_args!("encke --listen {}{stop}", elsewhere(at, all)),
    );
}

/// Where systemd notes that it keeps our port.
const SOCKET_UNIT: &str = "etc/systemd/system/sockets.target.wants/encke.socket";

/// An address like `at` with a port that nobody has, as one word of a shell.
fn elsewhere(at: SocketAddr, all: &[Listener]) -> String {
    let mut port = at.port().max(8079);
    // Of one port more than there are listeners, one is free.
    for _ in 0..=all.len() {
        port = port.checked_add(1).unwrap_or(8080);
        if all.iter().all(|other| other.place.1 != port) {
            break;
        }
    }
    match at.ip().is_unspecified() {
        true => format!(":{port}"),
        false => quoted(&SocketAddr::new(at.ip(), port).to_string()),
    }
}

/// A port that is kept for those who have the right to it.
fn kept(case: &Case, report: &mut Report, place: &str, who: &Who) {
    let mend = match who.is_service() {
        true => drop_in("port", "AmbientCapabilities=CAP_NET_BIND_SERVICE"),
        false => {
            let program = quoted(&who.program(&case.root));
            format!("sudo setcap cap_net_bind_service=+ep {program}")
        }
    };
    report.add(
        Level::Problem,
        format_args!("{who} may not listen at {place}"),
        format_args!(
            "Low ports need a right, which this gives. Without it choose a port from 1024 on."
        ),
        format_args!("{mend}"),
    );
}

#[cfg(test)]
mod tests {
    use super::super::fake::look;
    use super::*;
    use crate::config::listen;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// A row as the kernel writes it, with the state given.
    fn row(local: &str, state: &str, uid: u32, inode: u64) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5} \
             0 {inode} 1 0000000000000000 100 0 0 10 0\n"
        )
    }

    fn word(ip: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(ip))
    }

    #[test]
    fn rows_of_the_kernel() {
        let six = |bytes: [u8; 16]| -> String {
            let words = bytes.chunks_exact(4);
            words.map(|four| word(four.try_into().unwrap())).collect()
        };
        let mapped = Ipv4Addr::new(192, 168, 0, 10).to_ipv6_mapped().octets();
        for (local, want) in [
            (word([127, 0, 0, 1]) + ":1F90", Some("127.0.0.1:8080")),
            (word([0; 4]) + ":0050", Some("0.0.0.0:80")),
            (
                six(Ipv6Addr::LOCALHOST.octets()) + ":FFFF",
                Some("[::1]:65535"),
            ),
            (six([0; 16]) + ":1F90", Some("[::]:8080")),
            (six(mapped) + ":1F90", Some("192.168.0.10:8080")),
            ("0000:1F90".to_owned(), None),
            (word([0; 4]) + ":1F901", None),
            ("0100007é:1F90".to_owned(), None),
        ] {
            let text = row(&local, "0A", 33, 7);
            let found = listener(&text).map(|l| (l.place, l.uid, l.inode));
            let want = want.map(|address| (place(address.parse().unwrap()), 33, 7));
            assert_eq!(found, want, "{local}");
        }
        assert!(listener(&row(&(word([0; 4]) + ":0050"), "01", 0, 7)).is_none());
        assert!(listener("  sl  local_address rem_address   st").is_none());
        assert!(listener("").is_none());
    }

    #[test]
    fn who_is_in_whose_way() {
        for (a, b, want) in [
            ("[::]:8080", "0.0.0.0:8080", true),
            ("0.0.0.0:8080", "[::]:8080", true),
            ("[::]:8080", "127.0.0.1:8080", true),
            ("0.0.0.0:8080", "127.0.0.1:8080", true),
            ("0.0.0.0:8080", "[::1]:8080", false),
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "127.0.0.2:8080", false),
            ("[::]:8080", "[::]:8081", false),
        ] {
            assert_eq!(
                is_same(place(a.parse().unwrap()), place(b.parse().unwrap())),
                want,
                "{a} {b}"
            );
        }
    }

    fn said(at: &str, more: &[(&str, &str)]) -> Vec<String> {
        let tcp = row(&(word([0; 4]) + ":1F90"), "0A", 33, 70)
            + &row(&(word([0; 4]) + ":1F91"), "0A", 0, 71)
            + &row(&(word([0; 4]) + ":01BB"), "0A", 0, 72)
            + &row(&(word([0; 4]) + ":2000"), "0A", 61190, 73);
        let files = [
            ("proc/net/tcp", tcp.as_str()),
            ("proc/self/status", "Uid: 5 5\nGid: 5 5\nCapEff: 0\n"),
            ("etc/passwd", "me:x:5:5\nwww-data:x:33:33\n"),
        ];
        look("port", &[&files, more].concat(), |config, _| {
            config.server.listen = vec![listen(at).unwrap()];
        })
    }

    #[test]
    fn taken_by_whom() {
        let server = [
            ("proc/9/comm", "encke"),
            ("proc/9/cmdline", "encke\0"),
            ("proc/9/status", "Uid: 61190 61190\nGid: 33 33\n"),
        ];
        let wanted = "etc/systemd/system/sockets.target.wants/encke.socket";
        let low = "proc/sys/net/ipv4/ip_unprivileged_port_start";
        let right = ("proc/self/status", "Uid: 5 5\nGid: 5 5\nCapEff: 400\n");
        for (at, more, want) in [
            (
                ":8080",
                &[][..],
                "problem a program of user www-data listens at port 8080 already\
                 |encke --listen :8082|# which one: sudo ss -ltnp 'sport = :8080'",
            ),
            (
                "127.0.0.1:8080",
                &[],
                "problem a program of user www-data listens at 127.0.0.1:8080 already\
                 |encke --listen 127.0.0.1:8082|# which one: sudo ss -ltnp 'sport = :8080'",
            ),
            (
                ":443",
                &[],
                "problem a program of user 0 listens at port 443 already\
                 |encke --listen :8082|# which one: sudo ss -ltnp 'sport = :443'",
            ),
            (
                ":8192",
                &server,
                "ok Encke (pid 9) listens at port 8192 already",
            ),
            (
                ":8080",
                &server,
                "problem a program of user www-data listens at port 8080 already\
                 |encke --listen :8082|# which one: sudo ss -ltnp 'sport = :8080'",
            ),
            (
                ":8081",
                &[(wanted, "")],
                "ok systemd keeps port 8081 for us: encke.socket",
            ),
            (":8082", &[], "ok port 8082 is free"),
            (
                ":1023",
                &[],
                "problem me may not listen at port 1023\
                 |sudo setcap cap_net_bind_service=+ep /usr/bin/encke",
            ),
            (":1024", &[], "ok port 1024 is free"),
            (":80", &[(low, "80\n")], "ok port 80 is free"),
            (":1023", &[right], "ok port 1023 is free"),
        ] {
            assert_eq!(said(at, more), [want], "{at}");
        }
    }

    #[test]
    fn free_ports_end_somewhere() {
        let tcp = row(&(word([0; 4]) + ":FFFF"), "0A", 33, 70);
        let said = look("port", &[("proc/net/tcp", &tcp)], |config, _| {
            config.server.listen = vec![listen("[::1]:65535").unwrap(), listen(":65535").unwrap()];
        });
        assert_eq!(said[0], "ok [::1]:65535 is free");
        assert!(said[1].contains("|encke --listen :8080|"), "{said:?}");
    }
}
