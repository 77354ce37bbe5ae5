//! What time it is: milliseconds since boot, and since 1970 once that can be trusted.
//!
//! Follows DESIGN.md 3 "Events". A board without a clock battery boots in 1970 or at the time of
//! its last shutdown; until somebody who knows has set the wall clock, only the time since boot is
//! told. This is the only file that reads a clock; it never sets one, and never waits.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::{Path, PathBuf};

/// A wall clock that steps by more is followed; less is left to the kernel's slewing.
const STEP_MS: u64 = 1000;

/// When this program was built, in seconds since 1970; 0 when that is unknown.
const BUILD_S: u64 = match u64::from_str_radix(env!("ENCKE_BUILD_EPOCH"), 10) {
    Ok(seconds) => seconds,
    Err(_) => panic!("ENCKE_BUILD_EPOCH is seconds since 1970"),
};

/// The time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since boot, time asleep included.
    pub uptime_ms: u64,
    /// Milliseconds since 1970, or `None` while the wall clock is not known.
    pub wall_ms: Option<u64>,
}

/// Milliseconds since boot, time asleep included: CLOCK_BOOTTIME, one call into the vDSO.
pub fn boot_ms() -> u64 {
    milliseconds(ClockId::Boottime)
}

fn milliseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    // The kernel keeps nanoseconds below 10^9.
    seconds * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The wall clock as an anchor on the time since boot, so that a stamp never goes backwards between
/// two calls of `recheck`.
#[derive(Debug)]
pub struct Clock {
    sys_root: PathBuf,
    /// Wall time less boot time, in milliseconds; `None` while the wall clock is not known.
    anchor_ms: Option<u64>,
}

impl Clock {
    /// A clock that looks for evidence below `sys_root`, and has looked once.
    pub fn new(sys_root: &Path) -> Clock {
        let mut clock = Clock {
            sys_root: sys_root.to_owned(),
            anchor_ms: None,
        };
        clock.recheck();
        clock
    }

    /// Milliseconds since boot, time asleep included. Costs one call into the vDSO.
    pub fn monotonic_ms(&self) -> u64 {
        boot_ms()
    }

    /// Now. Costs as much as `monotonic_ms`.
    pub fn stamp(&self) -> Stamp {
        let uptime_ms = boot_ms();
        Stamp {
            uptime_ms,
            wall_ms: self.anchor_ms.map(|anchor_ms| anchor_ms + uptime_ms),
        }
    }

    /// Looks again whether the wall clock is known and whether it has stepped; call it about once a
    /// minute. Once known it stays known: it may become less exact, but not unset.
    pub fn recheck(&mut self) {
        if self.anchor_ms.is_none() && !is_known(&Facts::gather(&self.sys_root)) {
            return;
        }
        // Wall time first: a pause between the two then makes our time late, never in the future.
        let wall_ms = milliseconds(ClockId::Realtime);
        let offset_ms = wall_ms.saturating_sub(boot_ms());
        self.anchor_ms = Some(anchor(self.anchor_ms, offset_ms));
    }
}

/// The anchor to go on with, when wall time less boot time is now `offset_ms`.
fn anchor(held_ms: Option<u64>, offset_ms: u64) -> u64 {
    match held_ms {
        Some(held_ms) if held_ms.abs_diff(offset_ms) <= STEP_MS => held_ms,
        _ => offset_ms,
    }
}

/// What speaks for or against the wall clock. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// systemd-timesyncd has set the clock since boot.
    pub timesync: bool,
    /// The kernel was told by a time daemon that its clock is right.
    pub kernel: bool,
    /// What the battery-backed clock says, if there is one.
    pub rtc_s: Option<u64>,
    /// There is a device tree: this is a board, which may well have no battery.
    pub device_tree: bool,
    /// What the wall clock says.
    pub wall_s: u64,
    /// When this program was built.
    pub build_s: u64,
}

impl Facts {
    /// Looks below `sys_root`, and asks the kernel when that is `/`.
    pub fn gather(sys_root: &Path) -> Facts {
        let exists = |path: &str| sys_root.join(path).exists();
        let rtc = fs::read_to_string(sys_root.join("sys/class/rtc/rtc0/since_epoch"));
        Facts {
            timesync: exists("run/systemd/timesync/synchronized"),
            // A fixture speaks for itself, not for the machine that it lies on.
            kernel: sys_root == Path::new("/") && kernel_is_synchronised(),
            rtc_s: rtc.ok().and_then(|text| text.trim().parse().ok()),
            device_tree: exists("proc/device-tree") || exists("sys/firmware/devicetree/base"),
            wall_s: milliseconds(ClockId::Realtime) / 1000,
            build_s: BUILD_S,
        }
    }
}

/// Whether the wall clock is known (DESIGN.md 3 "Events").
pub fn is_known(facts: &Facts) -> bool {
    facts.timesync
        || facts.kernel
        || facts.rtc_s.is_some_and(|rtc_s| rtc_s > facts.build_s)
        || (!facts.device_tree && facts.wall_s > facts.build_s)
}

/// Whether the kernel says that its clock is synchronised: adjtimex(2).
#[allow(unsafe_code)]
fn kernel_is_synchronised() -> bool {
    // SAFETY: `timex` is plain numbers, for which zero is a value; modes = 0 asks adjtimex to
    // change nothing and only to fill in the struct, which is ours and outlives the call.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut timex), timex.status)
    };
    state != -1 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: Facts = Facts {
        timesync: false,
        kernel: false,
        rtc_s: None,
        device_tree: true,
        wall_s: 2000,
        build_s: 1000,
    };

    #[test]
    fn each_rule_by_itself() {
        for (facts, want) in [
            (BOARD, false),
            (
                Facts {
                    timesync: true,
                    ..BOARD
                },
                true,
            ),
            (
                Facts {
                    kernel: true,
                    ..BOARD
                },
                true,
            ),
            (
                Facts {
                    timesync: true,
                    wall_s: 0,
                    ..BOARD
                },
                true,
            ),
            (
                Facts {
                    rtc_s: Some(1001),
                    ..BOARD
                },
                true,
            ),
            (
                Facts {
                    rtc_s: Some(1000),
                    ..BOARD
                },
                false,
            ),
            (
                Facts {
                    rtc_s: Some(0),
                    ..BOARD
                },
                false,
            ),
            (
                Facts {
                    device_tree: false,
                    ..BOARD
                },
                true,
            ),
            (
                Facts {
                    device_tree: false,
                    wall_s: 1001,
                    ..BOARD
                },
                true,
            ),
            (
                Facts {
                    device_tree: false,
                    wall_s: 1000,
                    ..BOARD
                },
                false,
            ),
            (
                Facts {
                    device_tree: false,
                    wall_s: 0,
                    rtc_s: Some(5),
                    ..BOARD
                },
                false,
            ),
        ] {
            assert_eq!(is_known(&facts), want, "{facts:?}");
        }
    }

    #[test]
    fn a_step_above_a_second_moves_the_anchor() {
        assert_eq!(anchor(None, 7), 7);
        for (offset_ms, want) in [(5000, 5000), (6000, 5000), (6001, 6001), (4000, 5000)] {
            assert_eq!(anchor(Some(5000), offset_ms), want);
        }
        assert_eq!(anchor(Some(5000), 3999), 3999);
    }

    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str) -> Fixture {
            let path =
                std::env::temp_dir().join(format!("encke-clock-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Fixture(path)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_board_learns_the_time_while_it_runs() {
        let fixture = Fixture::new("learns");
        fixture.put("proc/device-tree/model", "Example board");
        let mut clock = Clock::new(&fixture.0);
        assert_eq!(clock.stamp().wall_ms, None);
        fixture.put("run/systemd/timesync/synchronized", "");
        assert_eq!(clock.stamp().wall_ms, None);
        clock.recheck();
        let (first, second) = (clock.stamp(), clock.stamp());
        assert!(second.wall_ms >= first.wall_ms && second.uptime_ms >= first.uptime_ms);
        let wall_ms = first
            .wall_ms
            .expect("the fixture says that the time is known");
        assert!(wall_ms.abs_diff(milliseconds(ClockId::Realtime)) < 5000);
        fs::remove_file(fixture.0.join("run/systemd/timesync/synchronized")).unwrap();
        clock.recheck();
        assert!(clock.stamp().wall_ms.is_some(), "known stays known");
    }

    #[test]
    fn facts_come_from_below_the_system_root() {
        let fixture = Fixture::new("facts");
        let facts = Facts::gather(&fixture.0);
        assert!(!facts.timesync && !facts.kernel && !facts.device_tree);
        assert_eq!(facts.rtc_s, None);
        fixture.put("sys/class/rtc/rtc0/since_epoch", "1763791234\n");
        fixture.put("sys/firmware/devicetree/base/model", "Example board");
        let facts = Facts::gather(&fixture.0);
        assert_eq!(facts.rtc_s, Some(1_763_791_234));
        assert!(facts.device_tree);
        fixture.put("sys/class/rtc/rtc0/since_epoch", "");
        assert_eq!(Facts::gather(&fixture.0).rtc_s, None);
    }

    #[test]
    fn the_kernel_answers() {
        kernel_is_synchronised();
        assert!(boot_ms() > 0);
    }
}
