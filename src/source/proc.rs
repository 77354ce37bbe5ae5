//! What the kernel tells about the board itself: load, processor, memory, uptime, traffic, disk.
//!
//! Follows proc(5): /proc/loadavg, stat, meminfo, uptime, net/dev; and statvfs(3) for the root file
//! system. Each file is one source: it stays open, is read once per period into a buffer that
//! stays, and is parsed by a pure function. What the system root lacks is skipped; the disk is
//! measured only where that is `/`. It never reads above the system root.

mod cpu;
mod net;

use super::batch::{Batch, Channel};
use super::{Fault, Found, Known, Source};
use cpu::Cpu;
use net::Net;
use rustix::fs::{StatVfs, statvfs};
use rustix::io::pread;
use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What makes readings of a file's text; `None` when the text makes no sense.
type Meter = Box<dyn FnMut(&str, u64, &mut Batch) -> Option<()> + Send>;

/// A file below the system root that is a source.
struct Row {
    path: &'static str,
    period_ms: u64,
    /// Bytes of the file that are read: all that matters and more.
    bytes: usize,
    channels: &'static [Channel],
    meter: fn() -> Meter,
}

static ROWS: &[Row] = &[
    Row {
        path: "proc/loadavg",
        period_ms: 5000,
        bytes: 128,
        channels: &LOAD,
        meter: || Box::new(|text, _, batch| read_load(text, batch)),
    },
    Row {
        path: "proc/stat",
        period_ms: 1000,
        bytes: 4096,
        channels: &cpu::CHANNELS,
        meter: || {
            let mut cpu = Cpu::default();
            Box::new(move |text, _, batch| cpu.read(text, batch))
        },
    },
    Row {
        path: "proc/meminfo",
        period_ms: 2000,
        bytes: 2048,
        channels: &MEMORY,
        meter: || Box::new(|text, _, batch| read_memory(text, batch)),
    },
    Row {
        path: "proc/uptime",
        period_ms: 10_000,
        bytes: 128,
        channels: &UPTIME,
        meter: || Box::new(|text, _, batch| read_uptime(text, batch)),
    },
    Row {
        path: "proc/net/dev",
        period_ms: 1000,
        bytes: 8192,
        channels: &net::CHANNELS,
        meter: || {
            let mut net = Net::default();
            Box::new(move |text, now_ms, batch| net.read(text, now_ms, batch))
        },
    },
];

/// The files of `ROWS` and the root file system, as far as they are there and not known.
pub(super) fn discover(sys_root: &Path, known: &Known<'_>) -> Found {
    let mut found: Found = Vec::new();
    for row in ROWS {
        let path = sys_root.join(row.path);
        if !known.has(row.path) && path.exists() {
            let text = TextFile::new(path, row.bytes);
            found.push(Box::new(Proc {
                row,
                text,
                meter: (row.meter)(),
            }));
        }
    }
    // A fixture has no file system of its own.
    if sys_root == Path::new("/") && !known.has(DISK_KEY) {
        found.push(Box::new(Disk));
    }
    found
}

/// A source that is one row's file.
struct Proc {
    row: &'static Row,
    text: TextFile,
    meter: Meter,
}

impl Source for Proc {
    fn key(&self) -> &str {
        self.row.path
    }

    fn period_ms(&self) -> u64 {
        self.row.period_ms
    }

    fn channels(&self) -> &[Channel] {
        self.row.channels
    }

    fn read(&mut self, now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let text = self.text.read()?;
        (self.meter)(&text, now_ms, batch).ok_or(Fault::Failed)
    }
}

/// A small file that is read again and again: it stays open, and so does its buffer.
struct TextFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Box<[u8]>,
}

impl TextFile {
    fn new(path: PathBuf, bytes: usize) -> TextFile {
        TextFile {
            path,
            file: None,
            buffer: vec![0; bytes].into(),
        }
    }

    /// The file's text, without the line that did not fit. After an error the file is opened anew.
    fn read(&mut self) -> std::io::Result<Cow<'_, str>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        let mut len = 0;
        while len < self.buffer.len() {
            // A long file of /proc comes a page at a time, so only an empty read is its end.
            match pread(&file, &mut self.buffer[len..], len as u64)? {
                0 => break,
                read => len += read,
            }
        }
        self.file = Some(file);
        if len == self.buffer.len() {
            let newline = self.buffer.iter().rposition(|&byte| byte == b'\n');
            len = newline.map_or(0, |at| at + 1);
        }
        Ok(String::from_utf8_lossy(&self.buffer[..len]))
    }
}

static LOAD: [Channel; 3] = [
    Channel::fixed("load/1m", "Load, 1 minute", ""),
    Channel::fixed("load/5m", "Load, 5 minutes", ""),
    Channel::fixed("load/15m", "Load, 15 minutes", ""),
];

fn read_load(text: &str, batch: &mut Batch) -> Option<()> {
    for (channel, load) in LOAD.iter().zip(parse_loadavg(text)?) {
        batch.number(channel, load, 2);
    }
    Some(())
}

/// The run queue's length over 1, 5 and 15 minutes.
fn parse_loadavg(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

static UPTIME: [Channel; 1] = [Channel::fixed("uptime", "Uptime", "s")];

fn read_uptime(text: &str, batch: &mut Batch) -> Option<()> {
    batch.number(&UPTIME[0], parse_uptime(text)?.floor(), 0);
    Some(())
}

/// Seconds since boot.
fn parse_uptime(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

static MEMORY: [Channel; 3] = [
    Channel::fixed("memory/used", "Memory used", "%"),
    Channel::fixed("memory/available", "Memory available", "MiB"),
    Channel::fixed("swap/used", "Swap used", "%"),
];

fn read_memory(text: &str, batch: &mut Batch) -> Option<()> {
    let memory = parse_meminfo(text)?;
    let [used, available, swap] = &MEMORY;
    batch.number(
        used,
        100.0 - percent(memory.available_kib, memory.total_kib),
        1,
    );
    batch.number(available, (memory.available_kib / 1024) as f64, 0);
    if memory.swap_total_kib > 0 {
        batch.number(
            swap,
            100.0 - percent(memory.swap_free_kib, memory.swap_total_kib),
            1,
        );
    }
    Some(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    total_kib: u64,
    /// What programs could still get without swapping.
    available_kib: u64,
    swap_total_kib: u64,
    swap_free_kib: u64,
}

fn parse_meminfo(text: &str) -> Option<Memory> {
    const KEYS: [&str; 7] = [
        "MemTotal",
        "MemAvailable",
        "MemFree",
        "Buffers",
        "Cached",
        "SwapTotal",
        "SwapFree",
    ];
    let mut values = [None; KEYS.len()];
    for line in text.lines() {
        let (key, rest) = line.split_once(':').unwrap_or((line, ""));
        if let Some(at) = KEYS.iter().position(|wanted| *wanted == key) {
            values[at] = rest
                .split_ascii_whitespace()
                .next()
                .and_then(|kib| kib.parse().ok());
        }
    }
    let [
        total,
        available,
        free,
        buffers,
        cached,
        swap_total,
        swap_free,
    ] = values;
    let total_kib = total.filter(|&kib| kib > 0)?;
    // Linux before 3.14 leaves the estimate to us.
    let estimate = || Some(free? + buffers.unwrap_or(0) + cached.unwrap_or(0));
    Some(Memory {
        total_kib,
        available_kib: available.or_else(estimate)?.min(total_kib),
        swap_total_kib: swap_total.unwrap_or(0),
        swap_free_kib: swap_free.unwrap_or(0),
    })
}

/// `part` of `whole` in percent, at most 100.
fn percent(part: u64, whole: u64) -> f64 {
    part.min(whole) as f64 * 100.0 / whole as f64
}

const DISK_KEY: &str = "statvfs";
static DISK: [Channel; 2] = [
    Channel::fixed("disk/root/free", "Disk free", "GiB"),
    Channel::fixed("disk/root/used", "Disk used", "%"),
];

/// The root file system.
struct Disk;

impl Source for Disk {
    fn key(&self) -> &str {
        DISK_KEY
    }

    fn period_ms(&self) -> u64 {
        30_000
    }

    fn channels(&self) -> &[Channel] {
        &DISK
    }

    fn read(&mut self, _now_ms: u64, batch: &mut Batch) -> Result<(), Fault> {
        let disk = statvfs("/").map_err(std::io::Error::from)?;
        let (free_gib, used_percent) = measure_disk(&disk);
        batch.number(&DISK[0], free_gib, 1);
        batch.number(&DISK[1], used_percent, 1);
        Ok(())
    }
}

/// GiB that an ordinary user can still write, and percent used of what such users can have.
fn measure_disk(disk: &StatVfs) -> (f64, f64) {
    let free_gib = disk.f_bavail as f64 * disk.f_frsize as f64 / f64::from(1 << 30);
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let usable = used + disk.f_bavail;
    (
        free_gib,
        if usable == 0 {
            0.0
        } else {
            percent(used, usable)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::*;
    use std::fs;
    use std::io::{Seek, Write};

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sys/proc-basic");

    /// A file of the fixture.
    pub(super) fn fixture(path: &str) -> String {
        fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
    }

    /// Topic and value of each reading.
    pub(super) fn readings(batch: &mut Batch) -> Vec<String> {
        let entries = batch.entries().iter();
        let lines = entries
            .map(|entry| format!("{} {}", entry.topic, entry.value))
            .collect();
        batch.clear();
        lines
    }

    #[test]
    fn load_averages() {
        assert_eq!(
            parse_loadavg(&fixture("proc/loadavg")),
            Some([0.42, 0.3, 1.25])
        );
        for bad in ["", "0.1 0.2", "0.1 x 0.3"] {
            assert_eq!(parse_loadavg(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn uptimes_are_whole_seconds() {
        assert_eq!(parse_uptime(&fixture("proc/uptime")), Some(93_784.56));
        assert_eq!(parse_uptime("\n"), None);
        let mut batch = Batch::default();
        read_uptime("59.99 1.00\n", &mut batch).unwrap();
        assert_eq!(readings(&mut batch), ["uptime 59"]);
        assert_eq!(read_uptime("soon", &mut batch), None);
    }

    #[test]
    fn memory_with_and_without_the_kernels_estimate() {
        let memory = parse_meminfo(&fixture("proc/meminfo")).unwrap();
        let want = Memory {
            total_kib: 436_312,
            available_kib: 262_144,
            swap_total_kib: 102_396,
            swap_free_kib: 76_797,
        };
        assert_eq!(memory, want);
        let old = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 300 kB\n";
        assert_eq!(parse_meminfo(old).unwrap().available_kib, 420);
        let mut batch = Batch::default();
        read_memory(old, &mut batch).unwrap();
        assert_eq!(
            readings(&mut batch),
            ["memory/used 58", "memory/available 0"]
        );
        for bad in [
            "",
            "MemTotal: 0 kB\nMemFree: 0 kB",
            "MemTotal: 9 kB",
            "MemTotal: x\nMemFree: 1",
        ] {
            assert_eq!(parse_meminfo(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_text_is_cut_behind_the_last_line_that_fits() {
        let path = std::env::temp_dir().join(format!("encke-text-{}", std::process::id()));
        for (text, want) in [
            ("ab\ncdef\n", "ab\n"),
            ("ab\ncd\n", "ab\ncd\n"),
            ("abcdefgh", ""),
            ("a\nb", "a\nb"),
        ] {
            fs::write(&path, text).unwrap();
            let mut file = TextFile::new(path.clone(), 6);
            assert_eq!(file.read().unwrap(), want, "{text:?}");
            assert_eq!(file.read().unwrap(), want, "{text:?} again");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_open_file_shows_what_is_new() {
        let path = std::env::temp_dir().join(format!("encke-open-{}", std::process::id()));
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"one\n").unwrap();
        let mut file = TextFile::new(path.clone(), 64);
        assert_eq!(file.read().unwrap(), "one\n");
        writer.rewind().unwrap();
        writer.write_all(b"two \xff\n").unwrap();
        assert_eq!(
            file.read().unwrap(),
            "two \u{fffd}\n",
            "what is no text is marked"
        );
        fs::remove_file(&path).unwrap();
        let error = TextFile::new(path, 64).read().unwrap_err();
        assert_eq!(Fault::from(error), Fault::Vanished);
    }

    #[test]
    fn what_is_absent_or_known_is_skipped() {
        let keys = |root: &str, known: &Known<'_>| -> Vec<String> {
            let found = discover(Path::new(root), known);
            found.iter().map(|source| source.key().to_owned()).collect()
        };
        let all = [
            "proc/loadavg",
            "proc/stat",
            "proc/meminfo",
            "proc/uptime",
            "proc/net/dev",
        ];
        let nobody = Known(&[]);
        assert_eq!(keys(ROOT, &nobody), all);
        let found = discover(Path::new(ROOT), &nobody).into_iter();
        let others = found.filter(|source| source.key() != "proc/stat");
        let slots: Vec<_> = others.map(|source| Slot::new(source, 0)).collect();
        assert_eq!(keys(ROOT, &Known(&slots)), ["proc/stat"]);
        assert_eq!(keys("/nowhere", &nobody), [""; 0]);
        assert!(keys("/", &nobody).contains(&DISK_KEY.to_owned()));
    }

    #[test]
    fn the_disk_as_df_counts_it() {
        let mut disk = statvfs("/").unwrap();
        (disk.f_frsize, disk.f_blocks, disk.f_bfree, disk.f_bavail) = (4096, 1000, 400, 300);
        let (free_gib, used_percent) = measure_disk(&disk);
        assert_eq!(free_gib, 300.0 * 4096.0 / 1_073_741_824.0);
        assert!((used_percent - 66.666).abs() < 0.001);
        (disk.f_blocks, disk.f_bfree, disk.f_bavail) = (0, 0, 0);
        assert_eq!(measure_disk(&disk), (0.0, 0.0));
        let mut batch = Batch::default();
        Disk.read(0, &mut batch).unwrap();
        assert_eq!(batch.entries().len(), 2);
    }
}
