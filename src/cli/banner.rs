//! What is printed when serving begins: where to look, the same as a QR code, the board, its
//! sensors, memory.
//!
//! DESIGN.md section 3: the IP address first, because many phones cannot resolve `.local`. The QR
//! code is drawn with half blocks, black on white whatever the terminal's colours are. It never
//! sends a packet, and reads nothing but the kernel's list of addresses.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use qrcodegen::{QrCode, QrCodeEcc};

use crate::peers::Cost;

/// Sensors that are listed; `encke sensors` lists all.
const SENSORS_MAX: usize = 40;
/// Columns of a topic and of a value that a terminal of 80 has room for. A longer topic moves its
/// own row; a longer value is cut.
const TOPIC_COLUMNS: usize = 44;
const VALUE_COLUMNS: usize = 20;

/// What the banner tells.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where browsers find us, the best first; see `reachable`.
    pub addresses: Vec<SocketAddr>,
    /// The name before `.local`, when it is announced.
    pub name: Option<String>,
    /// Whether anybody can sign in.
    pub has_tokens: bool,
    /// The board and its profile.
    pub board: String,
    /// Topic, value and unit.
    pub sensors: Vec<(String, String, String)>,
    /// What is set aside.
    pub costs: Vec<Cost>,
    /// Bytes that the board has for all of it.
    pub memory: Option<u64>,
    /// Whether `out` is a terminal, which can show a QR code.
    pub is_terminal: bool,
}

/// Prints the banner.
pub fn banner(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    for address in &facts.addresses {
        let only = if address.ip().is_loopback() {
            "  (this computer only)"
        } else {
            ""
        };
        writeln!(out, "  http://{address}/{only}")?;
    }
    let best = facts
        .addresses
        .iter()
        .find(|address| !address.ip().is_loopback());
    if let Some(best) = best.filter(|_| facts.is_terminal) {
        writeln!(out)?;
        qr(out, &format!("http://{best}/"))?;
    }
    if let (Some(name), Some(first)) = (&facts.name, facts.addresses.first()) {
        writeln!(
            out,
            "\n  http://{name}.local:{}/  (not on every phone)",
            first.port()
        )?;
    }
    if !facts.has_tokens {
        writeln!(
            out,
            "\n  nobody can sign in yet: encke token NAME makes a token"
        )?;
    }
    writeln!(out, "\n  board: {}", facts.board)?;
    sensors(out, &facts.sensors)?;
    limits(out, &facts.costs, facts.memory)
}

/// The widest of `texts`, at most `columns`.
fn width<'a>(texts: impl Iterator<Item = &'a str>, columns: usize) -> usize {
    let widest = texts.map(|text| text.chars().count()).max();
    widest.unwrap_or(0).min(columns)
}

fn sensors(out: &mut impl Write, found: &[(String, String, String)]) -> io::Result<()> {
    if found.is_empty() {
        return writeln!(out, "\n  no sensors were found");
    }
    let shown = &found[..found.len().min(SENSORS_MAX)];
    let heading = ["sensor", "value", "unit"];
    let names = shown.iter().map(|(name, ..)| name.as_str());
    let first = width(names.chain([heading[0]]), TOPIC_COLUMNS);
    let values = shown.iter().map(|(_, value, _)| value.as_str());
    let second = width(values.chain([heading[1]]), VALUE_COLUMNS);
    let [name, value, unit] = heading;
    writeln!(out, "\n  {name:first$}  {value:>second$} {unit}")?;
    for (name, value, unit) in shown {
        // One that is slow to answer has no value yet.
        let mut value = match &value[..] {
            "null" => "-".to_string(),
            _ => value.clone(),
        };
        if value.chars().count() > VALUE_COLUMNS {
            value = value.chars().take(VALUE_COLUMNS - 1).collect();
            value.push('\u{2026}');
        }
        let row = format!("  {name:first$}  {value:>second$} {unit}");
        writeln!(out, "{}", row.trim_end())?;
    }
    match found.len() - shown.len() {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: encke sensors"),
    }
}

/// What memory is set aside for, the sum, and what the board has for it.
fn limits(out: &mut impl Write, costs: &[Cost], memory: Option<u64>) -> io::Result<()> {
    let sum: u64 = costs.iter().map(|cost| cost.bytes).sum();
    let mut rows = vec![["limit", "count", "bytes at most"].map(str::to_string)];
    let row = |cost: &Cost| {
        [
            cost.name.to_string(),
            cost.count.to_string(),
            cost.bytes.to_string(),
        ]
    };
    rows.extend(costs.iter().map(row));
    rows.push(["all together".to_string(), String::new(), sum.to_string()]);
    let budget = memory.map(|memory| {
        [
            "the board allows".to_string(),
            String::new(),
            memory.to_string(),
        ]
    });
    rows.extend(budget);
    let columns = [0, 1, 2].map(|at| width(rows.iter().map(|row| row[at].as_str()), usize::MAX));
    let [first, second, third] = columns;
    writeln!(out)?;
    for [name, count, bytes] in &rows {
        writeln!(out, "  {name:first$}  {count:>second$} {bytes:>third$}")?;
    }
    Ok(())
}

/// Draws `text`, two rows of modules a line, with the quiet zone that ISO/IEC 18004 asks for.
pub(super) fn qr(out: &mut impl Write, text: &str) -> io::Result<()> {
    const QUIET: i32 = 4;
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else {
        return Ok(());
    };
    for y in (-QUIET..code.size() + QUIET).step_by(2) {
        let modules = (-QUIET..code.size() + QUIET).map(|x| {
            match (code.get_module(x, y), code.get_module(x, y + 1)) {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            }
        });
        writeln!(out, "  \x1b[30;47m{}\x1b[0m", modules.collect::<String>())?;
    }
    Ok(())
}

/// Where browsers find a server that listens on `listen`: an address of this computer in place
/// of "every address", the one towards the router first, IPv4 before IPv6, and the loopback
/// address when there is no other.
pub fn reachable(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let trie = std::fs::read_to_string(Path::new("/proc/net/fib_trie")).unwrap_or_default();
    let mut own: Vec<IpAddr> = towards("0.0.0.0:0", "192.0.2.1:9").into_iter().collect();
    let local = local_addresses(&trie).into_iter().map(IpAddr::V4);
    own.extend(local.filter(|_| own.is_empty()).collect::<Vec<_>>());
    own.extend(towards("[::]:0", "[2001:db8::1]:9"));
    reachable_at(listen, &own)
}

fn reachable_at(listen: &[SocketAddr], own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in listen {
        let every = address.ip().is_unspecified();
        let fits = |ip: &&IpAddr| every && (ip.is_ipv4() || address.is_ipv6());
        let mut ips: Vec<IpAddr> = own.iter().filter(fits).copied().collect();
        if ips.is_empty() {
            ips.push(if every {
                Ipv4Addr::LOCALHOST.into()
            } else {
                address.ip()
            });
        }
        found.extend(
            ips.into_iter()
                .map(|ip| SocketAddr::new(ip, address.port())),
        );
    }
    let mut unique: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    unique
}

/// Our own address on the way to `there`. Connecting a datagram socket only asks the routing
/// table; `there` is for documentation (RFC 5737, RFC 3849) and gets nothing.
fn towards(here: &str, there: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(here).ok()?;
    socket.connect(there).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// The addresses in the kernel's `fib_trie` that are this computer's and not loopback: for a
/// network without a router, where no route leads to `there`.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(leaf) = line.strip_prefix("|-- ") {
            last = leaf.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.filter(|ip| !ip.is_loopback() && !found.contains(ip)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(facts: &Facts) -> String {
        let mut out = Vec::new();
        banner(&mut out, facts).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn facts() -> Facts {
        let text = |text: &str| text.to_string();
        let cost = |name, count, bytes| Cost { name, count, bytes };
        Facts {
            addresses: vec![
                "192.168.1.7:8080".parse().unwrap(),
                "[fd00::2]:8080".parse().unwrap(),
            ],
            name: Some(text("greenhouse")),
            has_tokens: true,
            sensors: vec![
                (text("cpu/temperature"), text("47.2"), text("\u{b0}C")),
                (text("cpu/load"), text("0.15"), text("")),
            ],
            board: text("Raspberry Pi Zero W Rev 1.1, profile pi-zero"),
            costs: vec![
                cost("viewers", 1000, 1_288_000),
                cost("ring_bytes", 262_144, 327_680),
            ],
            memory: Some(33_554_432),
            is_terminal: false,
        }
    }

    #[test]
    fn addresses_first_then_the_name_then_the_tables() {
        assert_eq!(
            printed(&facts()),
            "  http://192.168.1.7:8080/\n  http://[fd00::2]:8080/\n\n  \
             http://greenhouse.local:8080/  (not on every phone)\n\n  \
             board: Raspberry Pi Zero W Rev 1.1, profile pi-zero\n\n  \
             sensor           value unit\n  cpu/temperature   47.2 \u{b0}C\n  \
             cpu/load          0.15\n\n  \
             limit              count bytes at most\n  \
             viewers             1000       1288000\n  \
             ring_bytes        262144        327680\n  \
             all together                   1615680\n  \
             the board allows              33554432\n"
        );
    }

    #[test]
    fn who_has_no_token_is_told_how_to_make_one() {
        let mut facts = facts();
        assert!(!printed(&facts).contains("encke token"));
        facts.has_tokens = false;
        let line = "\n\n  nobody can sign in yet: encke token NAME makes a token\n\n  board: ";
        assert!(printed(&facts).contains(line));
    }

    #[test]
    fn many_sensors_are_cut() {
        let mut facts = facts();
        facts.sensors = vec![facts.sensors[0].clone(); SENSORS_MAX];
        assert!(!printed(&facts).contains("more"));
        facts.sensors.push(facts.sensors[0].clone());
        assert!(printed(&facts).contains("\n  and 1 more: encke sensors\n"));
    }

    #[test]
    fn it_fits_eighty_columns_at_and_above() {
        let widest = |name: usize, value: usize| {
            let mut facts = facts();
            facts.sensors = vec![("n".repeat(name), "v".repeat(value), "m/s\u{b2}".to_string())];
            let text = printed(&facts);
            let row = text
                .lines()
                .find(|line| line.contains("nn"))
                .unwrap()
                .to_string();
            (row.chars().count(), row.contains('\u{2026}'))
        };
        assert_eq!(widest(TOPIC_COLUMNS, VALUE_COLUMNS), (73, false));
        assert_eq!(widest(TOPIC_COLUMNS, VALUE_COLUMNS + 1), (73, true));
        assert_eq!(
            widest(TOPIC_COLUMNS + 1, 1),
            (TOPIC_COLUMNS + 1 + 2 + 2 + 5 + 1 + 4, false)
        );
        let mut facts = facts();
        facts.sensors[0].1 = "null".to_string();
        assert!(printed(&facts).contains("\n  cpu/temperature      - \u{b0}C\n"));
        facts.sensors.clear();
        assert!(printed(&facts).contains("\n\n  no sensors were found\n\n  limit "));
    }

    #[test]
    fn a_terminal_gets_a_code_in_a_quiet_zone() {
        let mut facts = facts();
        facts.is_terminal = true;
        let text = printed(&facts);
        let code: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("  \x1b[30;47m"))
            .collect();
        let rows: Vec<&str> = code
            .iter()
            .map(|l| l.strip_suffix("\x1b[0m").unwrap())
            .collect();
        let width: usize = 25 + 2 * 4;
        assert_eq!(rows.len(), width.div_ceil(2));
        assert!(rows.iter().all(|row| row.chars().count() == width));
        assert!(
            rows.iter()
                .all(|row| row.starts_with("    ") && row.ends_with("    "))
        );
        assert!(
            rows[..2].concat().trim().is_empty()
                && rows[rows.len() - 2..].concat().trim().is_empty()
        );
        // The finder pattern: seven dark modules over one dark, five light, one dark.
        assert!(
            rows[2].starts_with("    \u{2588}\u{2580}\u{2580}\u{2580}\u{2580}\u{2580}\u{2588} ")
        );
        facts.addresses = vec!["127.0.0.1:8080".parse().unwrap()];
        let text = printed(&facts);
        assert!(!text.contains('\x1b') && text.contains("(this computer only)"));
    }

    #[test]
    fn every_address_becomes_our_own() {
        let own: [IpAddr; 2] = ["192.168.1.7".parse().unwrap(), "fd00::2".parse().unwrap()];
        for (listen, own, want) in [
            (
                &["[::]:80"][..],
                &own[..],
                &["192.168.1.7:80", "[fd00::2]:80"][..],
            ),
            (&["0.0.0.0:80"], &own, &["192.168.1.7:80"]),
            (
                &["[::]:80", "0.0.0.0:80"],
                &own,
                &["192.168.1.7:80", "[fd00::2]:80"],
            ),
            (
                &["127.0.0.1:1", "10.0.0.1:2"],
                &own,
                &["127.0.0.1:1", "10.0.0.1:2"],
            ),
            (&["[::]:80"], &[], &["127.0.0.1:80"]),
        ] {
            let listen: Vec<SocketAddr> = listen.iter().map(|a| a.parse().unwrap()).collect();
            let found = reachable_at(&listen, own);
            assert_eq!(
                found.iter().map(ToString::to_string).collect::<Vec<_>>(),
                want
            );
        }
        assert!(!reachable(&["[::]:80".parse().unwrap()]).is_empty());
    }

    #[test]
    fn addresses_in_the_routing_trie() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     +-- 127.0.0.0/8 2 0 2\n           \
                    |-- 127.0.0.1\n              /32 host LOCAL\n     |-- 192.168.4.0\n        \
                    /24 link UNICAST\n     |-- 192.168.4.1\n        /32 host LOCAL\n     \
                    |-- 192.168.4.255\n        /32 link BROADCAST\n     |-- 192.168.4.1\n        \
                    /32 host LOCAL\n";
        assert_eq!(local_addresses(trie), [Ipv4Addr::new(192, 168, 4, 1)]);
        assert!(local_addresses("").is_empty());
    }
}
