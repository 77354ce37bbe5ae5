//! Traffic of each network interface: /proc/net/dev of proc(5).
//!
//! A rate is a difference of two reads over the time between them, so an interface's first read
//! gives none. It never tells addresses or names of networks.

use crate::source::batch::{Batch, Channel, READINGS_MAX, unique_slug};

/// Interfaces that are read; the first in the kernel's order.
const FACES_MAX: usize = READINGS_MAX / 2;
/// A 32-bit counter that seems to have wrapped grew by no more than this a second; a faster link
/// has 64-bit counters, so its counter began anew.
const WRAP_BYTES_PER_S_MAX: u64 = 256 << 20;

pub(super) static CHANNELS: [Channel; 2] = [
    Channel::fixed("net/+/rx", "received", "B/s"),
    Channel::fixed("net/+/tx", "sent", "B/s"),
];

/// Traffic of each interface from one read to the next.
#[derive(Debug, Default)]
pub(super) struct Net {
    faces: Vec<Face>,
}

/// An interface; pairs are received and sent.
#[derive(Debug)]
struct Face {
    name: String,
    slug: String,
    channels: [Channel; 2],
    bytes: [u64; 2],
    read_ms: u64,
    rates: Option<[f64; 2]>,
}

impl Net {
    pub(super) fn read(&mut self, text: &str, now_ms: u64, batch: &mut Batch) -> Option<()> {
        // Without its two header lines it is not this file.
        text.lines().nth(1)?;
        let listed = || parse_net_dev(text).take(FACES_MAX);
        self.faces
            .retain(|face| listed().any(|(name, _)| name == face.name));
        for (name, bytes) in listed() {
            if let Some(face) = self.faces.iter_mut().find(|face| face.name == name) {
                face.update(bytes, now_ms);
            } else {
                let face = Face::new(name, bytes, now_ms, &self.faces);
                self.faces.push(face);
            }
        }
        for face in &self.faces {
            for (channel, rate) in face.channels.iter().zip(face.rates.iter().flatten()) {
                batch.number(channel, *rate, 0);
            }
        }
        Some(())
    }
}

impl Face {
    fn new(name: &str, bytes: [u64; 2], now_ms: u64, others: &[Face]) -> Face {
        let is_taken = |slug: &str| others.iter().any(|face| face.slug == slug);
        let slug = unique_slug(name, is_taken);
        let channels = [("rx", "received"), ("tx", "sent")].map(|(way, verb)| {
            Channel::named(format!("net/{slug}/{way}"), format!("{name} {verb}"), "B/s")
        });
        let (name, slug) = (name.to_owned(), slug.to_string());
        Face {
            name,
            slug,
            channels,
            bytes,
            read_ms: now_ms,
            rates: None,
        }
    }

    fn update(&mut self, bytes: [u64; 2], now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.read_ms);
        if elapsed_ms > 0 {
            let rate = |at: usize| {
                growth(self.bytes[at], bytes[at], elapsed_ms) as f64 * 1000.0 / elapsed_ms as f64
            };
            self.rates = Some([rate(0), rate(1)]);
            self.bytes = bytes;
            self.read_ms = now_ms;
        }
    }
}

/// What a counter has counted from `before` to `after`, when it may have wrapped at 32 bits or
/// begun anew at zero.
fn growth(before: u64, after: u64, elapsed_ms: u64) -> u64 {
    if after >= before {
        return after - before;
    }
    let wrapped = (after + (1 << 32)).saturating_sub(before);
    let is_likely = before < 1 << 32 && wrapped <= WRAP_BYTES_PER_S_MAX * elapsed_ms.div_ceil(1000);
    if is_likely { wrapped } else { after }
}

/// Name and bytes received and sent of each interface but the loopback.
fn parse_net_dev(text: &str) -> impl Iterator<Item = (&str, [u64; 2])> {
    text.lines().filter_map(|line| {
        // The counters hold no colon, but an alias name does.
        let (name, counters) = line.rsplit_once(':')?;
        let mut counters = counters.split_ascii_whitespace();
        let received = counters.next()?.parse().ok()?;
        let sent = counters.nth(7)?.parse().ok()?;
        let name = name.trim_ascii();
        (name != "lo").then_some((name, [received, sent]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fixture, readings};
    use super::*;

    const HEAD: &str = "Inter-| Receive | Transmit\n face |bytes |bytes\n";

    fn line(name: &str, received: u64, sent: u64) -> String {
        format!("{name:>6}: {received} 1 2 3 4 5 6 7 {sent} 1 2 3 4 5 6 7\n")
    }

    #[test]
    fn the_fixtures_interfaces() {
        let text = fixture("proc/net/dev");
        let faces: Vec<_> = parse_net_dev(&text).collect();
        assert_eq!(
            faces,
            [("eth0", [0, 0]), ("wlan0", [4_294_960_000, 812_004_417])]
        );
        let odd = "eth0:1:99 1 1 1 1 1 1 1 88 1\neth1: x\neth2: 1 2 3\nnothing\n";
        assert_eq!(
            parse_net_dev(odd).collect::<Vec<_>>(),
            [("eth0:1", [99, 88])]
        );
    }

    #[test]
    fn counters_that_wrap_or_begin_anew() {
        const TOP: u64 = (1 << 32) - 1000;
        for (before, after, elapsed_ms, want) in [
            (100, 350, 1000, 250),
            (100, 100, 1000, 0),
            (TOP, 500, 1000, 1500),
            (3 << 30, 500, 1000, 500),
            (
                (1 << 32) - WRAP_BYTES_PER_S_MAX,
                0,
                1000,
                WRAP_BYTES_PER_S_MAX,
            ),
            ((1 << 32) - WRAP_BYTES_PER_S_MAX, 1, 1000, 1),
            (
                (1 << 32) - WRAP_BYTES_PER_S_MAX,
                1,
                1001,
                WRAP_BYTES_PER_S_MAX + 1,
            ),
            (1 << 32, 7, 1000, 7),
            (u64::MAX, 7, 1000, 7),
        ] {
            assert_eq!(
                growth(before, after, elapsed_ms),
                want,
                "{before} to {after}"
            );
        }
    }

    #[test]
    fn rates_are_over_real_time_and_interfaces_come_and_go() {
        let (mut net, mut batch) = (Net::default(), Batch::default());
        let mut read = |now_ms: u64, lines: &[String]| {
            net.read(&(HEAD.to_owned() + &lines.concat()), now_ms, &mut batch)
                .unwrap();
            readings(&mut batch)
        };
        let one = line("eth0", 1000, 10);
        assert_eq!(read(0, &[line("lo", 5, 5), one.clone()]), [""; 0]);
        let two = line("eth0", 4000, 10);
        let want = ["net/eth0/rx 2000", "net/eth0/tx 0"];
        assert_eq!(read(1500, std::slice::from_ref(&two)), want);
        assert_eq!(
            read(1500, &[line("eth0", 9000, 10)]),
            want,
            "no time has passed"
        );
        assert_eq!(read(2500, &[]), [""; 0]);
        assert_eq!(
            read(3500, &[two, line("eth0.1", 0, 0), line("eth0-1", 0, 0)]),
            [""; 0]
        );
        let all = [
            line("eth0", 4000, 20),
            line("eth0-1", 1, 0),
            line("eth0.1", 2, 0),
        ];
        let want = [
            "net/eth0/rx 0",
            "net/eth0/tx 10",
            "net/eth0-1/rx 2",
            "net/eth0-1/tx 0",
            "net/eth0-1-2/rx 1",
            "net/eth0-1-2/tx 0",
        ];
        assert_eq!(read(4500, &all), want);
        assert_eq!(net.read("", 5500, &mut batch), None);
    }

    #[test]
    fn interfaces_at_and_above_the_limit() {
        for (count, want) in [(FACES_MAX, FACES_MAX), (FACES_MAX + 1, FACES_MAX)] {
            let (mut net, mut batch) = (Net::default(), Batch::default());
            let lines: String = (0..count)
                .map(|at| line(&format!("veth{at}"), 0, 0))
                .collect();
            for now_ms in [0, 1000] {
                net.read(&(HEAD.to_owned() + &lines), now_ms, &mut batch)
                    .unwrap();
            }
            assert_eq!(batch.entries().len(), 2 * want);
        }
    }
}
