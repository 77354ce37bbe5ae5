//! Memory that is let go of: code that ran and hardly will again, as that of the start and of the
//! search for sensors; the constants it read; the depth of stack it took.
//!
//! Follows madvise(2) and proc_pid_maps(5). The kernel maps 64 KB around each first use of a page
//! of code, so after start most of the program is resident: two thirds of all the memory of a small
//! board's server. This file never touches memory that anything alive was written to.

use std::fs;
use std::ops::Range;
use std::sync::OnceLock;

/// What stays of the stack below the caller: more than the deepest call on the way to madvise(2).
const STACK_KEPT_BYTES: usize = 16 * 1024;

/// A text, so that its address is one of the constants.
static CONSTANT: &str = "r--p";

/// Takes code, constants and unused stack out of the program's memory. What is used on is mapped
/// again, from the page cache, as it is used. Nothing happens where /proc is not there.
#[inline(never)]
pub fn let_go() {
    static LASTING: OnceLock<Lasting> = OnceLock::new();
    let local = 0_u8;
    let local = &raw const local as usize;
    let lasting = LASTING.get_or_init(Lasting::read);
    unmap(&lasting.code);
    unmap(&lasting.constants);
    if lasting.stack.contains(&local) {
        // To the byte, the kernel would round up.
        let end = local.saturating_sub(STACK_KEPT_BYTES) & !(rustix::param::page_size() - 1);
        unmap(&(lasting.stack.start..end));
    }
}

/// The mappings that stay where they are for as long as the program runs.
#[derive(Default)]
struct Lasting {
    code: Range<usize>,
    constants: Range<usize>,
    /// Of the first thread.
    stack: Range<usize>,
}

impl Lasting {
    fn read() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let at = |rights, address| {
            let found = maps.lines().find_map(|line| mapping(line, rights, address));
            found.unwrap_or_default()
        };
        let stack = maps.lines().find(|line| line.ends_with("[stack]"));
        Self {
            code: at("r-xp", let_go as *const () as usize),
            constants: at("r--p", CONSTANT.as_ptr() as usize),
            stack: stack.and_then(range).unwrap_or_default(),
        }
    }
}

/// The addresses that a line of /proc/PID/maps is about.
fn range(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

/// The mapping of a file that a line of /proc/PID/maps describes, if it has these rights and this
/// address.
fn mapping(line: &str, rights: &str, address: usize) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    // Of a file, or there is nothing that it could come back from.
    let is_it = words.nth(1)? == rights && words.nth(2)? != "0";
    range(line).filter(|range| is_it && range.contains(&address))
}

#[allow(unsafe_code)]
fn unmap(range: &Range<usize>) {
    if range.is_empty() {
        return;
    }
    // SAFETY: the range is this program's code or its constants: private, of a file, and never
    // written to, so each page comes back from the file as it was. Or it is the first thread's
    // stack below the frames that it has: nothing there is alive, and zeroes are as good.
    unsafe {
        libc::madvise(
            range.start as *mut libc::c_void,
            range.len(),
            libc::MADV_DONTNEED,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mapping_around_an_address() {
        let line = "00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/encke";
        assert_eq!(mapping(line, "r-xp", 0x40_1000), Some(0x40_0000..0x45_2000));
        assert_eq!(mapping(line, "r-xp", 0x45_2000), None);
        assert_eq!(
            mapping(&line.replace("r-xp", "r--p"), "r-xp", 0x40_1000),
            None
        );
        assert_eq!(
            mapping(&line.replace("r-xp", "rwxp"), "r-xp", 0x40_1000),
            None
        );
        assert_eq!(
            mapping(&line.replace("173521", "0"), "r-xp", 0x40_1000),
            None
        );
        assert_eq!(mapping("nonsense", "r-xp", 0), None);
    }

    #[test]
    fn this_program_has_them_all() {
        let lasting = Lasting::read();
        assert!(!lasting.code.is_empty() && !lasting.constants.is_empty());
        assert!(!lasting.stack.is_empty() && lasting.code.end <= lasting.stack.start);
    }

    #[test]
    fn everything_runs_on() {
        let before: Vec<_> = (0..1000).map(|n| format!("{n:?}")).collect();
        let_go();
        assert!(
            before
                .iter()
                .enumerate()
                .all(|(n, text)| *text == format!("{n:?}"))
        );
        assert_eq!(format!("{:?}", [1.5, 2.5]), "[1.5, 2.5]");
    }
}
